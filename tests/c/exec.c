/* Commands: what their results say, what they inherit, and that nothing is left of them. */
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* An exec server in a thread, until the client closes. */
struct server {
    int fd[2]; /* the client's and its own */
    const struct exec_options *opts;
    struct exec_result result; /* of the last request */
    pthread_t thread;
};

static void *serve(void *argument)
{
    struct server *server = argument;
    struct frame *request;
    int code;
    while ((code = frame_recv_header(server->fd[1], &request, NULL)) == 0) {
        struct exec_result result = EXEC_RESULT_INIT;
        code = exec_serve(server->fd[1], request, server->opts, &result);
        CHECK_RETURNS(code, result.outcome);
        server->result = result;
        frame_free(request);
    }
    CHECK_RETURNS(FRAME_ECLOSED, code);
    return NULL;
}

static void start(struct server *server, const struct exec_options *opts)
{
    socket_pair(server->fd);
    server->opts = opts;
    CHECK(pthread_create(&server->thread, NULL, serve, server) == 0);
}

static void stop(struct server *server)
{
    CHECK(shutdown(server->fd[0], SHUT_WR) == 0);
    CHECK(pthread_join(server->thread, NULL) == 0);
    close_both(server->fd);
}

/* Asks for a command over a connection of its own; *served is what its server reports. */
static int ask(const char *command, struct exec_output **out, const struct exec_options *client,
               const struct exec_options *opts, struct exec_result *served)
{
    struct server server;
    int code;
    start(&server, opts);
    code = exec_request(server.fd[0], command, strlen(command), out, client);
    stop(&server);
    *served = server.result;
    return code;
}

static int run(const char *command, struct exec_output **out, const struct exec_options *opts)
{
    return exec_run(command, strlen(command), out, opts);
}

#define CHECK_STDOUT(expected, output) \
    do { \
        size_t len_ = SIZE_MAX; \
        const void *bytes_ = exec_output_stdout(output, &len_); \
        CHECK_BYTES(expected, bytes_, len_); \
    } while (0)

static void every_outcome_is_told_apart(void)
{
    static const struct {
        const char *command;
        int outcome, exit_code, signal;
        uint32_t flags;
        uint64_t stdout_total, stderr_total;
    } CASES[] = {
        {"printf out; printf error >&2", EXEC_EXITED, 0, 0, 0, 3, 5},
        {"exit 1", EXEC_EXITED, 1, 0, 0, 0, 0},
        {"exit 255", EXEC_EXITED, 255, 0, 0, 0, 0},
        {"no-such-program-anywhere 2>&-", EXEC_EXITED, 127, 0, 0, 0, 0},
        {"/dev/null 2>&-", EXEC_EXITED, 126, 0, 0, 0, 0},
        {"exit 137", EXEC_EXITED, 137, 0, 0, 0, 0},
        {"kill -9 $$", EXEC_SIGNALED, 137, 9, 0, 0, 0},
        {"kill -15 $$", EXEC_SIGNALED, 143, 15, 0, 0, 0},
        {"ulimit -c 0; kill -6 $$", EXEC_SIGNALED, 134, 6, 0, 0, 0},
        {"printf up; sleep 1000", EXEC_TIMED_OUT, 143, 15, EXEC_RESULT_TIMED_OUT, 2, 0},
        {"printf 1234567; printf 1 >&2; exit 5", EXEC_OUTPUT_LIMIT, 5, 0,
         EXEC_RESULT_TRUNCATED, 7, 1},
        {"printf 1234567 >&2; sleep 1000", EXEC_TIMED_OUT, 143, 15,
         EXEC_RESULT_TIMED_OUT | EXEC_RESULT_TRUNCATED, 0, 7},
    };
    struct exec_options opts = EXEC_OPTIONS_INIT;
    size_t i;
    opts.max_output = 6;
    for (i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct exec_result result[3] = {EXEC_RESULT_INIT, EXEC_RESULT_INIT, EXEC_RESULT_INIT};
        struct exec_output *output[2];
        size_t len;
        int who;
        opts.command_timeout_ms = CASES[i].outcome == EXEC_TIMED_OUT ? 300 : 0;
        CHECK_RETURNS(CASES[i].outcome, ask(CASES[i].command, &output[0], &opts, NULL, &result[0]));
        CHECK_RETURNS(0, exec_output_result(output[0], &result[1]));
        CHECK_RETURNS(CASES[i].outcome, run(CASES[i].command, &output[1], &opts));
        CHECK_RETURNS(0, exec_output_result(output[1], &result[2]));
        for (who = 0; who < 3; who++) {
            CHECK_RETURNS(CASES[i].outcome, result[who].outcome);
            CHECK_RETURNS(CASES[i].exit_code, result[who].exit_code);
            CHECK_RETURNS(CASES[i].signal, result[who].signal);
            CHECK_RETURNS(CASES[i].flags, result[who].flags);
            CHECK_RETURNS(0, result[who].error);
            CHECK_RETURNS(CASES[i].stdout_total, result[who].stdout_total);
            CHECK_RETURNS(CASES[i].stderr_total, result[who].stderr_total);
            CHECK_RETURNS(sizeof *result, result[who].size);
        }
        for (who = 0; who < 2; who++) {
            exec_output_stdout(output[who], &len);
            CHECK_RETURNS(CASES[i].stdout_total < 6 ? CASES[i].stdout_total : 6, len);
            exec_output_stderr(output[who], &len);
            CHECK_RETURNS(CASES[i].stderr_total < 6 ? CASES[i].stderr_total : 6, len);
            CHECK(exec_output_charset(output[who]) != NULL);
            exec_output_free(output[who]);
        }
    }
}

static void a_flood_ends_the_command_where_that_is_asked_for(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    struct exec_result served;
    opts.flags = EXEC_END_AT_LIMIT;
    opts.max_output = 4;
    CHECK_RETURNS(EXEC_OUTPUT_LIMIT, ask("yes", &output, NULL, &opts, &served));
    CHECK_STDOUT("y\ny\n", output);
    CHECK(served.signal != 0 && served.flags == EXEC_RESULT_TRUNCATED && served.stdout_total > 4);
    exec_output_free(output);
}

static void a_pipe_that_is_held_is_not_waited_for(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    struct exec_result served;
    const char *text;
    opts.drain_ms = 20;
    CHECK_RETURNS(EXEC_EXITED, ask("sleep 1000 & echo $!", &output, NULL, &opts, &served));
    CHECK(served.flags == EXEC_RESULT_PIPE_HELD && served.exit_code == 0);
    text = exec_output_stdout(output, NULL);
    CHECK(kill((pid_t)atol(text), SIGKILL) == 0);
    exec_output_free(output);
}

static void what_cannot_be_run_is_told_to_both(void)
{
    static const char NUL[] = "true\0", TOO_LONG[200000] = "";
    static const struct {
        const char *command, *cwd;
        size_t len;
        int outcome, error, remote;
    } CASES[] = {
        {"", NULL, 0, EXEC_REFUSED, FRAME_EINVAL, FRAME_EREMOTE_BAD_REQUEST},
        {NULL, NULL, 0, EXEC_REFUSED, FRAME_EINVAL, FRAME_EREMOTE_BAD_REQUEST},
        {NUL, NULL, 5, EXEC_REFUSED, FRAME_EINVAL, FRAME_EREMOTE_BAD_REQUEST},
        {TOO_LONG, NULL, 65537, EXEC_REFUSED, FRAME_ETOOBIG, FRAME_EREMOTE_TOO_BIG},
        {TOO_LONG, NULL, 200000, EXEC_REFUSED, FRAME_ETOOBIG, FRAME_EREMOTE_TOO_BIG},
        {"true", "/none", 4, EXEC_SPAWN_FAILED, FRAME_ESPAWN, FRAME_EREMOTE_SPAWN_FAILED},
    };
    size_t i;
    for (i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct exec_options opts = EXEC_OPTIONS_INIT;
        struct exec_result result = EXEC_RESULT_INIT;
        struct exec_output *output = (struct exec_output *)&opts;
        struct server server;
        struct frame *reply;
        const char *code;
        int fd[2];
        opts.cwd = CASES[i].cwd;

        socket_pair(fd);
        CHECK_RETURNS(CASES[i].outcome,
                      exec_and_reply(fd[1], CASES[i].command, CASES[i].len, &opts, &result));
        CHECK_RETURNS(CASES[i].outcome, result.outcome);
        CHECK_RETURNS(CASES[i].error, result.error);
        CHECK(result.exit_code == -1 && result.signal == 0 && result.flags == 0);
        CHECK_RETURNS(0, frame_recv(fd[0], &reply, NULL));
        CHECK_RETURNS(0, frame_header_string(reply, "code", &code, NULL));
        frame_free(reply);
        close_both(fd);

        start(&server, NULL);
        CHECK_RETURNS(CASES[i].remote, exec_request(server.fd[0], CASES[i].command, CASES[i].len,
                                                    &output, &opts));
        CHECK(output == NULL);
        CHECK_RETURNS(EXEC_EXITED, exec_request(server.fd[0], "true", 4, &output, NULL));
        exec_output_free(output);
        stop(&server);

        output = (struct exec_output *)&opts;
        CHECK_RETURNS(CASES[i].error,
                      exec_run(CASES[i].command, CASES[i].len, &output, &opts));
        CHECK(output == NULL);
        if (CASES[i].error == FRAME_ESPAWN)
            CHECK(errno == ENOENT && strstr(frame_last_error(), "directory") != NULL);
    }
}

static void an_argv_needs_no_shell(void)
{
    static const char *const ARGV[] = {"printf", "%s|", "$HOME", "a b", "*", "", NULL};
    static const char *const NONE[] = {"no-such-program", NULL}, *const EMPTY[] = {NULL};
    static const char *const NO_TEXT[] = {"printf", "\xff", NULL};
    struct exec_output *output;
    struct server server;
    start(&server, NULL);
    CHECK_RETURNS(EXEC_EXITED, exec_request_argv(server.fd[0], ARGV, &output, NULL));
    CHECK_STDOUT("$HOME|a b|*||", output);
    CHECK(exec_output_stderr(output, NULL) == NULL);
    exec_output_free(output);
    CHECK_RETURNS(FRAME_EREMOTE_SPAWN_FAILED, exec_request_argv(server.fd[0], NONE, &output, NULL));
    CHECK(output == NULL && strstr(frame_last_error(), "No such file") != NULL);
    CHECK_RETURNS(FRAME_EINVAL, exec_request_argv(server.fd[0], EMPTY, &output, NULL));
    CHECK_RETURNS(FRAME_EINVAL, exec_request_argv(server.fd[0], NO_TEXT, &output, NULL));
    stop(&server);
}

/* Answers whatever is asked with this header and body. */
static int answered(const char *header, const char *body, struct exec_output **out)
{
    int fd[2], code;
    socket_pair(fd);
    CHECK_RETURNS(0, frame_send(fd[1], header, body, strlen(body), NULL));
    code = exec_request(fd[0], "x", 1, out, NULL);
    close_both(fd);
    return code;
}

static void a_reply_may_say_less_but_nothing_wrong(void)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;
    CHECK_RETURNS(EXEC_STATUS_LOST, answered(NULL, "hello", &output));
    CHECK_STDOUT("hello", output);
    CHECK(exec_output_stderr(output, NULL) == NULL && exec_output_charset(output)[0] == '\0');
    CHECK_RETURNS(0, exec_output_result(output, &result));
    CHECK(result.outcome == EXEC_STATUS_LOST && result.exit_code == -1 && result.signal == 0);
    CHECK(result.stdout_total == 5 && result.stderr_total == 0);
    exec_output_free(output);

    CHECK_RETURNS(FRAME_EBADREPLY, answered("{\"stdout_size\":6}", "hello", &output));
    CHECK_RETURNS(FRAME_EBADREPLY, answered("{\"signal\":9,\"exit_code\":0}", "", &output));
    CHECK_RETURNS(FRAME_EBADFIELD, answered("{\"exit_code\":\"0\"}", "", &output));
    CHECK_RETURNS(FRAME_EREMOTE_BUSY,
                  answered("{\"status\":\"error\",\"code\":\"busy\"}", "", &output));
    CHECK_RETURNS(FRAME_EREMOTE_OTHER, answered("{\"status\":\"error\"}", "", &output));
    CHECK(output == NULL);
}

static void the_options_of_a_client_are_in_its_request(void)
{
    static const char *const ENV[] = {"A=1", "B=x=y", NULL};
    static const char *const KEYS[] = {
        "\"cmd\":\"exec\"", "\"timeout_ms\":1234", "\"max_output\":77", "\"cwd\":\"/tmp\"",
        "\"env\":{\"A\":\"1\",\"B\":\"x=y\"}", "\"on_close\":\"run\"",
    };
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    struct frame *request;
    size_t i;
    int fd[2];
    socket_pair(fd);
    opts.command_timeout_ms = 1234;
    opts.max_output = 77;
    opts.cwd = "/tmp";
    opts.env = ENV;
    opts.flags = EXEC_ON_CLOSE_RUN;
    CHECK_RETURNS(0, frame_send(fd[1], "{\"exit_code\":0}", NULL, 0, NULL));
    CHECK_RETURNS(EXEC_EXITED, exec_request(fd[0], "command", 7, &output, &opts));
    exec_output_free(output);
    CHECK_RETURNS(0, frame_recv(fd[1], &request, NULL));
    CHECK_BODY("command", request);
    for (i = 0; i < sizeof KEYS / sizeof *KEYS; i++)
        CHECK(strstr(frame_header(request, NULL), KEYS[i]) != NULL);
    frame_free(request);
    close_both(fd);
}

enum { BY_CLIENT = 1, BY_SERVER = 2, BY_BOTH = 3 };

#define REFUSED(by, opts) \
    do { \
        if ((by) & BY_CLIENT) \
            CHECK_RETURNS(FRAME_EINVAL, exec_request(fd[0], "true", 4, &output, opts)); \
        if ((by) & BY_SERVER) \
            CHECK_RETURNS(FRAME_EINVAL, exec_and_reply(fd[0], "true", 4, opts, NULL)); \
        CHECK(output == NULL); \
    } while (0)

#define MEMBER_REFUSED(by, member, value) \
    do { \
        struct exec_options opts_ = EXEC_OPTIONS_INIT; \
        opts_.member = value; \
        REFUSED(by, &opts_); \
    } while (0)

static void options_that_mean_nothing_are_refused(void)
{
    static const char *const NO_VALUE[] = {"A", NULL}, *const NO_NAME[] = {"=1", NULL};
    static const char *const EMPTY[] = {"", NULL}, *const NO_TEXT[] = {"A=\xff", NULL};
    struct exec_output *output = NULL;
    struct exec_result result = EXEC_RESULT_INIT;
    struct {
        struct exec_options opts;
        uint64_t of_a_later_version;
    } later = {EXEC_OPTIONS_INIT, 1};
    int fd[2];
    socket_pair(fd);
    MEMBER_REFUSED(BY_BOTH, size, 0);
    MEMBER_REFUSED(BY_BOTH, size, 3);
    MEMBER_REFUSED(BY_BOTH, flags, 0x80000000);
    MEMBER_REFUSED(BY_BOTH, timeout_ms, -3);
    MEMBER_REFUSED(BY_BOTH, command_timeout_ms, -3);
    MEMBER_REFUSED(BY_BOTH, grace_ms, FRAME_NO_TIMEOUT);
    MEMBER_REFUSED(BY_SERVER, drain_ms, FRAME_NO_TIMEOUT);
    MEMBER_REFUSED(BY_SERVER, close_grace_ms, FRAME_NO_TIMEOUT);
    MEMBER_REFUSED(BY_SERVER, max_command, 131072);
    MEMBER_REFUSED(BY_BOTH, env, NO_VALUE);
    MEMBER_REFUSED(BY_BOTH, env, NO_NAME);
    MEMBER_REFUSED(BY_BOTH, env, EMPTY);
    /* To a server these are bytes. */
    MEMBER_REFUSED(BY_CLIENT, env, NO_TEXT);
    MEMBER_REFUSED(BY_CLIENT, cwd, "\xff");
    later.opts.size = sizeof later;
    REFUSED(BY_BOTH, &later.opts);
    result.size = 0;
    CHECK_RETURNS(FRAME_EINVAL, exec_and_reply(fd[0], "true", 4, NULL, &result));
    CHECK_RETURNS(0, unread(fd[1]));
    close_both(fd);
}

static void a_result_is_as_long_as_its_size_says(void)
{
    const size_t older = offsetof(struct exec_result, signal);
    struct {
        struct exec_result result;
        uint64_t of_a_later_version;
    } later;
    struct exec_output *output;
    unsigned char *bytes = (unsigned char *)&later;
    size_t i;
    int fd[2], which;
    socket_pair(fd);
    CHECK_RETURNS(EXEC_EXITED, run("printf out; exit 3", &output, NULL));
    for (which = 0; which < 2; which++) {
        memset(&later, 0x55, sizeof later);
        later.result.size = (uint32_t)older;
        if (which == 0)
            CHECK_RETURNS(0, exec_output_result(output, &later.result));
        else
            CHECK_RETURNS(EXEC_EXITED, exec_and_reply(fd[1], "exit 3", 6, NULL, &later.result));
        CHECK(later.result.outcome == EXEC_EXITED && later.result.exit_code == 3);
        CHECK_RETURNS(older, later.result.size);
        for (i = older; i < sizeof later; i++)
            CHECK(bytes[i] == 0x55);
    }
    later.result.size = sizeof later;
    CHECK_RETURNS(0, exec_output_result(output, &later.result));
    CHECK(later.result.stdout_total == 3 && later.of_a_later_version == 0);
    exec_output_free(output);

    /* On failure nothing is written. */
    memset(&later, 0x55, sizeof later);
    later.result.size = sizeof later;
    CHECK_RETURNS(FRAME_EBADF, exec_and_reply(-1, "true", 4, NULL, &later.result));
    for (i = sizeof later.result.size; i < sizeof later; i++)
        CHECK(bytes[i] == 0x55);
    close_both(fd);
}

static void a_request_is_served_from_memory_and_from_the_stream(void)
{
    struct frame *request, *reply;
    int64_t id;
    int fd[2], in_memory;
    socket_pair(fd);
    for (in_memory = 0; in_memory < 2; in_memory++) {
        CHECK_RETURNS(0, frame_send(fd[0], "{\"cmd\":\"exec\",\"id\":7}", "echo hi", 7, NULL));
        CHECK_RETURNS(0, in_memory ? frame_recv(fd[1], &request, NULL)
                                   : frame_recv_header(fd[1], &request, NULL));
        CHECK_RETURNS(EXEC_EXITED, exec_serve(fd[1], request, NULL, NULL));
        frame_free(request);
        CHECK_RETURNS(0, frame_recv(fd[0], &reply, NULL));
        CHECK_RETURNS(0, frame_header_int(reply, "id", &id));
        CHECK_RETURNS(7, id);
        CHECK_BODY("hi\n", reply);
        frame_free(reply);
    }
    CHECK_RETURNS(0, frame_packet_send(fd[0], "exec", 4, NULL));
    CHECK_RETURNS(0, frame_packet_recv(fd[1], &request, NULL));
    CHECK_RETURNS(FRAME_ESTATE, exec_serve(fd[1], request, NULL, NULL));
    frame_free(request);
    close_both(fd);
}

static void a_pair_of_pipes_is_a_connection(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT, server_opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    struct frame *request;
    int there[2], back[2];
    pid_t child;
    CHECK(pipe2(there, O_CLOEXEC) == 0 && pipe2(back, O_CLOEXEC) == 0);
    if ((child = fork()) == 0) {
        server_opts.write_fd = back[1];
        CHECK_RETURNS(0, frame_recv_header(there[0], &request, NULL));
        CHECK_RETURNS(EXEC_EXITED, exec_serve(there[0], request, &server_opts, NULL));
        frame_free(request);
        exit(0);
    }
    opts.write_fd = there[1];
    CHECK_RETURNS(EXEC_EXITED,
                  exec_request(back[0], "head -c 100000 /dev/zero", 24, &output, &opts));
    exec_output_free(output);
    wait_for(child);
    close_both(there);
    close_both(back);
}

/* The process that holds the other end of a pipe open, and nobody else does, is gone. */
static void wait_for_end(int fd)
{
    char byte;
    CHECK(read(fd, &byte, 1) == 0);
}

static void a_client_that_hangs_up_ends_its_command(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    int64_t began = milliseconds();
    char command[80];
    int fd[2], alive[2];
    opts.close_grace_ms = INT32_MAX;
    socket_pair(fd);
    CHECK(pipe2(alive, O_CLOEXEC) == 0);
    /* The command opens the pipe anew by way of this process, and its sleep keeps it. */
    sprintf(command, "exec 9>/proc/%d/fd/%d; sleep 1000; true", (int)getpid(), alive[1]);
    CHECK(close(fd[0]) == 0);
    CHECK_RETURNS(FRAME_ECLOSED, exec_and_reply(fd[1], command, strlen(command), &opts, &result));
    CHECK(milliseconds() - began < 20000);
    CHECK(close(alive[1]) == 0);
    wait_for_end(alive[0]);
    CHECK(close(alive[0]) == 0);

    /* It may be let run: then it is the reply that fails, and SIGPIPE does not come. */
    opts.flags = EXEC_ON_CLOSE_RUN;
    CHECK_RETURNS(FRAME_EIO, exec_and_reply(fd[1], "true", 4, &opts, &result));
    CHECK(errno == EPIPE);
    CHECK(close(fd[1]) == 0);

    /* A half-close is told and no more, within the grace. */
    socket_pair(fd);
    opts.flags = 0;
    CHECK(shutdown(fd[0], SHUT_WR) == 0);
    CHECK_RETURNS(EXEC_EXITED, exec_and_reply(fd[1], "true", 4, &opts, &result));
    CHECK_RETURNS(EXEC_RESULT_CLIENT_GONE, result.flags);
    opts.close_grace_ms = 20;
    CHECK_RETURNS(EXEC_SIGNALED, exec_and_reply(fd[1], "sleep 1000", 10, &opts, &result));
    CHECK(result.flags == EXEC_RESULT_CLIENT_GONE && result.signal == SIGTERM);
    close_both(fd);
}

static void a_descriptor_that_the_host_has_closed_is_no_client_that_left(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct frame *reply;
    const char *code;
    int fd[2], closed;
    socket_pair(fd);
    CHECK((closed = dup(fd[1])) > 0 && close(closed) == 0);
    opts.close_grace_ms = INT32_MAX;
    CHECK_RETURNS(FRAME_EBADF, exec_and_reply(closed, "sleep 1000", 10, &opts, &result));
    CHECK(errno == EBADF);
    opts.write_fd = fd[1];
    CHECK_RETURNS(EXEC_REFUSED, exec_and_reply(closed, "sleep 1000", 10, &opts, &result));
    CHECK_RETURNS(FRAME_EBADF, result.error);
    CHECK_RETURNS(0, frame_recv(fd[0], &reply, NULL));
    CHECK_RETURNS(0, frame_header_string(reply, "code", &code, NULL));
    CHECK(strcmp(code, "io") == 0);
    frame_free(reply);
    close_both(fd);
}

static void a_client_or_server_that_does_nothing_is_given_up(void)
{
    static const char FLOOD[] = "head -c 8000000 /dev/zero";
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    int64_t began = milliseconds();
    int fd[2];
    socket_pair(fd);
    opts.timeout_ms = 50;
    CHECK_RETURNS(FRAME_ESTALLED, exec_and_reply(fd[1], FLOOD, strlen(FLOOD), &opts, NULL));
    CHECK(milliseconds() - began >= 50);
    close_both(fd);

    socket_pair(fd);
    began = milliseconds();
    CHECK_RETURNS(FRAME_ESTALLED, exec_request(fd[0], "true", 4, &output, &opts));
    CHECK(milliseconds() - began >= 50 && output == NULL);
    CHECK(shutdown(fd[1], SHUT_RDWR) == 0);
    CHECK_RETURNS(FRAME_EIO, exec_request(fd[0], "true", 4, &output, &opts));
    close_both(fd);

    socket_pair(fd);
    CHECK(shutdown(fd[1], SHUT_WR) == 0);
    CHECK_RETURNS(FRAME_ECLOSED, exec_request(fd[0], "true", 4, &output, &opts));
    close_both(fd);
}

static void a_command_has_nothing_of_its_host(void)
{
    static const char *const ENV[] = {"ADDED=a=b c", NULL};
    static const char SHOW[] =
        "ls /proc/$$/fd; cat /proc/self/status | grep -E 'Sig(Blk|Ign|Cgt)'; "
        "pwd; echo $SECRET $ADDED; readlink /proc/$$/fd/0; umask";
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    pid_t child;
    if ((child = fork()) == 0) {
        struct sigaction ignore;
        sigset_t all;
        int number;
        CHECK(setenv("SECRET", "secret", 1) == 0 && setenv("LD_BIND_NOW", "1", 1) == 0);
        CHECK(dup2(open("/dev/null", O_RDWR), 100) == 100);
        memset(&ignore, 0, sizeof ignore);
        ignore.sa_handler = SIG_IGN;
        for (number = 1; number < NSIG; number++)
            if (number != SIGCHLD && number != SIGKILL && number != SIGSTOP)
                sigaction(number, &ignore, NULL); /* some are the C library's own */
        CHECK(sigfillset(&all) == 0 && sigprocmask(SIG_SETMASK, &all, NULL) == 0);
        umask(027);
        opts.cwd = "/";
        opts.env = ENV;
        CHECK_RETURNS(EXEC_EXITED, run(SHOW, &output, &opts));
        CHECK_STDOUT("0\n1\n2\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
                     "SigCgt:\t0000000000000000\n/\na=b c\n/dev/null\n0027\n", output);
        exec_output_free(output);

        opts.flags = EXEC_HOST_ENVIRONMENT;
        CHECK_RETURNS(EXEC_EXITED, run("echo $SECRET $ADDED $LD_BIND_NOW", &output, &opts));
        CHECK_STDOUT("secret a=b c 1\n", output);
        exec_output_free(output);
        /* A SIGTERM that is ignored here still ends a command. */
        opts.command_timeout_ms = 50;
        CHECK_RETURNS(EXEC_TIMED_OUT, run("sleep 1000", &output, &opts));
        exec_output_free(output);
        CHECK(fcntl(100, F_GETFD) == 0);
        exit(0);
    }
    wait_for(child);
}

static volatile bool done;

static void *allocate(void *argument)
{
    while (!done) {
        int i;
        for (i = 0; i < 1000; i++)
            free(realloc(malloc(i % 100 + 1), 1000));
        usleep(100); /* lest the sanitizers and valgrind let the others starve */
    }
    return argument;
}

/* Valgrind runs one thread at a time. */
static bool under_valgrind(void)
{
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

static void an_allocator_in_use_does_not_stop_a_command(void)
{
    struct exec_output *output;
    struct exec_result result = EXEC_RESULT_INIT;
    pthread_t threads[4];
    char command[20];
    int i, times = under_valgrind() ? 30 : 300;
    done = false;
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, allocate, NULL) == 0);
    for (i = 0; i < times; i++) {
        sprintf(command, "exit %d", i % 256);
        CHECK_RETURNS(EXEC_EXITED, run(command, &output, NULL));
        CHECK_RETURNS(0, exec_output_result(output, &result));
        CHECK_RETURNS(i % 256, result.exit_code);
        exec_output_free(output);
    }
    done = true;
    for (i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void *reap(void *argument)
{
    while (!done)
        if (waitpid(-1, NULL, WNOHANG) <= 0)
            sched_yield();
    return argument;
}

/* A status that somebody else takes is lost, or told by a kernel that keeps it; nothing
 * else changes. */
static void a_host_may_reap_its_children_itself(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;
    int how, i, code;
    for (how = 0; how < 2; how++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t reaper;
            done = false;
            if (how == 0)
                CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
            else
                CHECK(pthread_create(&reaper, NULL, reap, NULL) == 0);
            for (i = 0; i < 20; i++) {
                code = run("echo out; exit 7", &output, NULL);
                CHECK_RETURNS(0, exec_output_result(output, &result));
                CHECK_STDOUT("out\n", output);
                CHECK((code == EXEC_EXITED && result.exit_code == 7)
                      || (code == EXEC_STATUS_LOST && result.exit_code == -1));
                CHECK(result.signal == 0 && result.flags == 0);
                exec_output_free(output);
            }
            opts.command_timeout_ms = 30;
            CHECK_RETURNS(EXEC_TIMED_OUT, run("sleep 1000", &output, &opts));
            exec_output_free(output);
            done = true;
            if (how == 1)
                CHECK(pthread_join(reaper, NULL) == 0);
            exit(0);
        }
        wait_for(child);
    }
}

static volatile sig_atomic_t handled;

static void on_child(int number)
{
    (void)number;
    handled++;
}

static void a_handler_of_the_host_stays(void)
{
    struct sigaction action, after;
    struct exec_output *output;
    memset(&action, 0, sizeof action); /* without SA_RESTART */
    action.sa_handler = on_child;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    CHECK_RETURNS(EXEC_EXITED, run("sleep 0.05 & sleep 0.02; wait", &output, NULL));
    exec_output_free(output);
    CHECK(handled <= 1);
    CHECK(sigaction(SIGCHLD, NULL, &after) == 0 && after.sa_handler == on_child);
    CHECK(signal(SIGCHLD, SIG_DFL) == on_child);
}

static int open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = -3; /* ".", ".." and the directory's own */
    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    CHECK(closedir(directory) == 0);
    return count;
}

static void a_lack_of_descriptors_is_told_and_leaks_none(void)
{
    pid_t child = fork();
    if (child == 0) {
        int fd[2], before, outcome, failures = 0;
        struct rlimit all, few;
        struct frame *reply;
        socket_pair(fd);
        before = open_descriptors();
        CHECK(getrlimit(RLIMIT_NOFILE, &all) == 0);
        few = all;
        for (few.rlim_cur = (rlim_t)fd[1] + 1;; few.rlim_cur++) {
            struct exec_result result = EXEC_RESULT_INIT;
            CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
            outcome = exec_and_reply(fd[1], "true", 4, NULL, &result);
            CHECK(setrlimit(RLIMIT_NOFILE, &all) == 0);
            CHECK_RETURNS(0, frame_recv(fd[0], &reply, NULL));
            frame_free(reply);
            CHECK_RETURNS(before, open_descriptors());
            if (outcome == EXEC_EXITED)
                break;
            CHECK_RETURNS(EXEC_SPAWN_FAILED, outcome);
            CHECK_RETURNS(FRAME_ESPAWN, result.error);
            failures++;
        }
        CHECK(failures > 3);
        exit(0);
    }
    wait_for(child);
}

int main(void)
{
    int before = open_descriptors();
    every_outcome_is_told_apart();
    a_flood_ends_the_command_where_that_is_asked_for();
    a_pipe_that_is_held_is_not_waited_for();
    what_cannot_be_run_is_told_to_both();
    an_argv_needs_no_shell();
    a_reply_may_say_less_but_nothing_wrong();
    the_options_of_a_client_are_in_its_request();
    options_that_mean_nothing_are_refused();
    a_result_is_as_long_as_its_size_says();
    a_request_is_served_from_memory_and_from_the_stream();
    a_pair_of_pipes_is_a_connection();
    a_client_that_hangs_up_ends_its_command();
    a_descriptor_that_the_host_has_closed_is_no_client_that_left();
    a_client_or_server_that_does_nothing_is_given_up();
    a_command_has_nothing_of_its_host();
    an_allocator_in_use_does_not_stop_a_command();
    a_host_may_reap_its_children_itself();
    a_handler_of_the_host_stays();
    if (!under_valgrind()) /* which does not survive a clone(2) that fails */
        a_lack_of_descriptors_is_told_and_leaks_none();
    CHECK_RETURNS(before, open_descriptors());
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    return 0;
}
