/* Common to the suites of commands: a server in a thread, and short forms of requests. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "check.h"

#include <pthread.h>

/* Milliseconds that no call takes. */
/* A server of commands in a thread, until its client ends the stream or disconnects. The reply
 * to any other request is its own body. */
struct server {
    int fd[2];                         /* the client's and its own */
    const struct exec_options *opts;   /* of the server; NULL are the defaults */
    struct frame_connection *served;   /* the server's connection */
    struct exec_result result;         /* of the last command */
    int code;                          /* what ended it, once stop() has returned */
    pthread_t thread;
};

static inline int serve_next(struct server *server)
{
    char request[4096], body[256], cmd[16] = "";
    struct frame_view view;
    uint64_t len, got = 0;
    int code = frame_connection_recv_header(server->served, -1, &view, &len);
    if (code != 0)
        return code;
    CHECK(view.header_len < sizeof request);
    strcpy(request, view.header);
    frame_header_string(request, "cmd", cmd, sizeof cmd);
    if (strcmp(cmd, "exec") == 0) {
        struct exec_result result = EXEC_RESULT_INIT;
        code = exec_serve(server->served, request, server->opts, &result);
        CHECK(code < 0 || code == result.outcome);
        server->result = result;
        return code < 0 ? code : 0;
    }
    CHECK(len <= sizeof body);
    while (got < len) {
        int64_t count = frame_connection_read(server->served, body + got, sizeof body - got, LONG);
        CHECK(count > 0);
        got += (uint64_t)count;
    }
    return frame_connection_reply(server->served, request, NULL, body, len, LONG);
}

static inline void *serve_commands(void *argument)
{
    struct server *server = argument;
    while ((server->code = serve_next(server)) == 0)
        ;
    frame_connection_free(server->served);
    CHECK(close(server->fd[1]) == 0);
    return NULL;
}

/* Starts a server, and connects to it. client are the options of the connection. */
static inline struct frame_connection *start_with(struct server *server,
                                                  const struct exec_options *opts,
                                                  const struct frame_connection_options *client)
{
    struct frame_connection *c;
    socket_pair(server->fd);
    server->opts = opts;
    CHECK_RETURNS(0, frame_connection_new(server->fd[1], server->fd[1], NULL, &server->served));
    CHECK_RETURNS(0, frame_connection_new(server->fd[0], server->fd[0], client, &c));
    seal_both(c, server->served);
    CHECK(pthread_create(&server->thread, NULL, serve_commands, server) == 0);
    return c;
}

static inline struct frame_connection *start(struct server *server,
                                             const struct exec_options *opts)
{
    return start_with(server, opts, NULL);
}

/* Hangs up, and waits for the server to end. */
static inline void stop(struct server *server, struct frame_connection *c)
{
    frame_connection_free(c);
    CHECK(close(server->fd[0]) == 0);
    CHECK(pthread_join(server->thread, NULL) == 0);
}

/* The same for a connection that is in sync on both sides. */
static inline void stop_in_sync(struct server *server, struct frame_connection *c)
{
    CHECK_RETURNS(0, frame_connection_end(c, false, LONG));
    stop(server, c);
    CHECK_RETURNS(FRAME_ECLOSED, server->code);
}

/* A request for shell code. */
static inline struct exec_request shell(const char *command)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    what.command = command;
    return what;
}

/* Runs shell code, which must exit with 0 and write exactly this to standard output. */
static inline void expect_reply(struct frame_connection *c, const char *command, const char *out)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_request what = shell(command);
    struct exec_output *output;
    size_t len = 0;
    const char *text;
    CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG, &result, &output));
    CHECK_RETURNS(0, result.exit_code);
    text = exec_output_bytes(output, EXEC_STDOUT, &len);
    CHECK(len == strlen(out) && strcmp(text, out) == 0);
    exec_output_free(output);
}

/* Compares one of the outputs with a literal; it must have a NUL after it. */
#define CHECK_OUTPUT(expected, output, which) \
    do { \
        size_t len_ = SIZE_MAX; \
        const char *bytes_ = exec_output_bytes(output, which, &len_); \
        CHECK_BYTES(expected, bytes_, len_); \
        CHECK(bytes_[len_] == '\0'); \
    } while (0)

/* Checks that the only process with the other end of a pipe has ended. */
static inline void wait_for_end(int fd)
{
    char byte;
    CHECK(read(fd, &byte, 1) == 0);
}

/* A command that keeps alive, an end of a pipe of this process, open until it is ended. */
static inline const char *holding(char *command, size_t size, int alive)
{
    /* It opens the pipe again through /proc of this process, and its sleep keeps it open. */
    CHECK(snprintf(command, size, "exec 9>/proc/%d/fd/%d; echo up; sleep 1000; true",
                   (int)getpid(), alive) < (int)size);
    return command;
}

#endif
