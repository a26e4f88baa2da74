/* Commands whose output comes as it appears: both ends through the C interface. */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>

/* An exec server in a thread, until the client closes. */
struct server {
    int fd[2]; /* the client's and its own */
    const struct exec_options *opts;
    int late; /* frames that came when the command had ended */
    pthread_t thread;
};

static void *serve(void *argument)
{
    struct server *server = argument;
    struct frame *request;
    int code;
    while ((code = frame_recv_header(server->fd[1], &request, NULL)) == 0) {
        if (exec_is_late_input(request)) {
            server->late++;
            CHECK_RETURNS(0, frame_body_skip(request, NULL));
        } else {
            CHECK(exec_serve(server->fd[1], request, server->opts, NULL) >= 0);
        }
        frame_free(request);
    }
    CHECK_RETURNS(FRAME_ECLOSED, code);
    return NULL;
}

static int start(struct server *server, const struct exec_options *opts)
{
    socket_pair(server->fd);
    server->opts = opts;
    server->late = 0;
    CHECK(pthread_create(&server->thread, NULL, serve, server) == 0);
    return server->fd[0];
}

static void stop(struct server *server)
{
    CHECK(shutdown(server->fd[0], SHUT_WR) == 0);
    CHECK(pthread_join(server->thread, NULL) == 0);
    close_both(server->fd);
}

static struct exec_stream *run(int fd, const char *command, const struct exec_options *opts)
{
    struct exec_stream *stream;
    CHECK_RETURNS(0, exec_start(fd, command, strlen(command), &stream, opts));
    CHECK(stream != NULL);
    return stream;
}

/* Waits for just these bytes of one output, however they are cut. */
static void expect(struct exec_stream *stream, int output, const char *text)
{
    size_t len = strlen(text), got = 0;
    char bytes[64];
    while (got < len) {
        int from = 0;
        int64_t count = exec_stream_read(stream, &from, bytes + got, len - got, 10000);
        CHECK(count > 0 && from == output);
        got += (size_t)count;
    }
    CHECK(memcmp(bytes, text, len) == 0);
}

static void expect_end(struct exec_stream *stream, int outcome, int exit_code)
{
    struct exec_result result = EXEC_RESULT_INIT;
    char byte;
    CHECK_RETURNS(0, exec_stream_read(stream, NULL, &byte, 1, 10000));
    CHECK_RETURNS(0, exec_stream_result(stream, &result));
    CHECK(result.outcome == outcome && result.exit_code == exit_code);
    exec_stream_free(stream);
}

static void give(struct exec_stream *stream, const char *text)
{
    CHECK_RETURNS(strlen(text), exec_stream_write(stream, text, strlen(text), 10000));
}

static void output_comes_while_the_command_runs(void)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct server server;
    char byte;
    int fd = start(&server, NULL);
    struct exec_stream *stream =
        run(fd, "echo out; read line; echo err-$line >&2; read line; exit 7", NULL);
    expect(stream, EXEC_STDOUT, "out\n");
    CHECK_RETURNS(FRAME_ESTATE, exec_stream_result(stream, &result));
    CHECK_RETURNS(FRAME_ETIMEDOUT, exec_stream_read(stream, NULL, &byte, 1, FRAME_DONT_WAIT));
    CHECK(exec_stream_events(stream) & POLLIN);
    give(stream, "one\n");
    expect(stream, EXEC_STDERR, "err-one\n");
    CHECK_RETURNS(0, exec_stream_end_input(stream, 10000));
    CHECK_RETURNS(0, exec_stream_end_input(stream, 10000));
    CHECK_RETURNS(FRAME_ESTATE, exec_stream_write(stream, "x", 1, 10000));
    CHECK_RETURNS(0, exec_stream_read(stream, NULL, &byte, 1, 10000));
    CHECK_RETURNS(0, exec_stream_result(stream, &result));
    CHECK(result.outcome == EXEC_EXITED && result.exit_code == 7);
    CHECK(result.stdout_total == 4 && result.stderr_total == 8);
    exec_stream_free(stream);

    /* The connection is free for the next one. */
    expect_end(run(fd, "exit 3", NULL), EXEC_EXITED, 3);
    stop(&server);
}

static void one_thread_that_writes_and_reads_does_not_block_itself(void)
{
    enum { TOTAL = 8 * 1024 * 1024 };
    static char bytes[65536], back[65536];
    struct server server;
    struct exec_stream *stream;
    size_t given = 0, taken = 0, i;
    for (i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7);
    stream = run(start(&server, NULL), "cat", NULL);
    while (taken < TOTAL) {
        int64_t count = 0;
        if (given < TOTAL) {
            size_t at = given % sizeof bytes;
            count = exec_stream_write(stream, bytes + at, sizeof bytes - at, 10000);
            CHECK(count >= 0);
            given += (size_t)count;
        } else {
            CHECK_RETURNS(0, exec_stream_end_input(stream, 10000));
        }
        if (count == 0) {
            size_t at = taken % sizeof back;
            count = exec_stream_read(stream, NULL, back, sizeof back - at, 10000);
            CHECK(count > 0 && memcmp(back, bytes + at, (size_t)count) == 0);
            taken += (size_t)count;
        }
    }
    CHECK(given == TOTAL && taken == TOTAL);
    expect_end(stream, EXEC_EXITED, 0);
    stop(&server);
}

static void descriptors_are_copied_to_the_end(void)
{
    int in[2], out[2], err[2];
    struct server server;
    char text[8];
    struct exec_stream *stream = run(start(&server, NULL), "cat; echo no >&2; exit 4", NULL);
    CHECK(pipe(in) == 0 && pipe(out) == 0 && pipe(err) == 0);
    CHECK_RETURNS(FRAME_ETIMEDOUT, exec_stream_copy(stream, in[0], out[1], err[1], FRAME_DONT_WAIT));
    write_all(in[1], "input", 5);
    CHECK(close(in[1]) == 0);
    CHECK_RETURNS(EXEC_EXITED, exec_stream_copy(stream, in[0], out[1], err[1], 10000));
    read_all(out[0], text, 5);
    CHECK(memcmp(text, "input", 5) == 0);
    read_all(err[0], text, 3);
    CHECK(memcmp(text, "no\n", 3) == 0);
    CHECK(close(in[0]) == 0);
    close_both(out);
    close_both(err);
    expect_end(stream, EXEC_EXITED, 4);
    stop(&server);
}

static struct exec_stream *interrupted;

static void forward(int signal)
{
    CHECK_RETURNS(0, exec_stream_signal(interrupted, signal));
}

static void a_handler_forwards_a_signal(void)
{
    struct sigaction action, before;
    struct server server;
    char byte;
    memset(&action, 0, sizeof action);
    action.sa_handler = forward;
    interrupted = run(start(&server, NULL), "trap 'echo caught; exit 9' INT; echo up; read line", NULL);
    expect(interrupted, EXEC_STDOUT, "up\n");
    CHECK(sigaction(SIGINT, &action, &before) == 0);
    CHECK(raise(SIGINT) == 0);
    expect(interrupted, EXEC_STDOUT, "caught\n");
    CHECK(sigaction(SIGINT, &before, NULL) == 0);
    CHECK_RETURNS(FRAME_EINVAL, exec_stream_signal(interrupted, 0));
    CHECK_RETURNS(FRAME_EINVAL, exec_stream_signal(interrupted, SIGSEGV));
    CHECK_RETURNS(0, exec_stream_read(interrupted, NULL, &byte, 1, 10000));
    expect_end(interrupted, EXEC_EXITED, 9);
    stop(&server);
}

static void *signal_soon(void *stream)
{
    CHECK_RETURNS(0, exec_stream_signal(stream, SIGTERM));
    return NULL;
}

static void a_thread_signals_while_another_reads(void)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct server server;
    pthread_t thread;
    char byte;
    struct exec_stream *stream = run(start(&server, NULL), "echo up; exec cat", NULL);
    expect(stream, EXEC_STDOUT, "up\n");
    CHECK(pthread_create(&thread, NULL, signal_soon, stream) == 0);
    CHECK_RETURNS(0, exec_stream_read(stream, NULL, &byte, 1, 10000));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_RETURNS(0, exec_stream_result(stream, &result));
    CHECK(result.outcome == EXEC_SIGNALED && result.signal == SIGTERM);
    exec_stream_free(stream);
    stop(&server);
}

static void a_terminal_has_a_size(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct server server;
    struct exec_stream *stream;
    opts.flags = EXEC_TTY;
    opts.rows = 50;
    opts.columns = 132;
    stream = run(start(&server, NULL),
                 "trap 'stty size; exit 0' WINCH; stty -echo; stty size; while :; do read x; done",
                 &opts);
    expect(stream, EXEC_STDOUT, "50 132\r\n");
    CHECK_RETURNS(0, exec_stream_resize(stream, 10, 20));
    expect(stream, EXEC_STDOUT, "10 20\r\n");
    expect_end(stream, EXEC_EXITED, 0);
    stop(&server);
}

static void arguments_need_no_shell_and_outputs_can_be_one(void)
{
    static const char *const argv[] = {"printf", "%s", "$HOME; `id`", NULL};
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct server server;
    struct exec_stream *stream;
    int fd = start(&server, NULL);
    CHECK_RETURNS(0, exec_start_argv(fd, argv, &stream, NULL));
    expect(stream, EXEC_STDOUT, "$HOME; `id`");
    expect_end(stream, EXEC_EXITED, 0);
    opts.flags = EXEC_MERGE | EXEC_NO_INPUT;
    stream = run(fd, "echo 1; echo 2 >&2; echo 3; cat", &opts);
    expect(stream, EXEC_STDOUT, "1\n2\n3\n");
    expect_end(stream, EXEC_EXITED, 0);
    opts.flags = 0;
    opts.input = "given";
    opts.input_len = 5;
    stream = run(fd, "cat", &opts);
    CHECK_RETURNS(FRAME_ESTATE, exec_stream_write(stream, "x", 1, 10000));
    expect(stream, EXEC_STDOUT, "given");
    expect_end(stream, EXEC_EXITED, 0);
    stop(&server);
}

static void input_can_go_with_a_request_for_one_reply(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    struct server server;
    size_t len;
    int fd = start(&server, NULL);
    opts.input = "b\na\n";
    opts.input_len = 4;
    CHECK_RETURNS(EXEC_EXITED, exec_request(fd, "sort", 4, &output, &opts));
    CHECK_BYTES("a\nb\n", exec_output_stdout(output, &len), 4);
    exec_output_free(output);
    opts.flags = EXEC_TTY;
    CHECK_RETURNS(FRAME_EINVAL, exec_request(fd, "sort", 4, &output, &opts));
    CHECK(output == NULL);
    stop(&server);
}

static void what_comes_when_the_command_has_ended_is_told_apart(void)
{
    struct server server;
    struct frame *reply;
    const char *text;
    int fd = start(&server, NULL);
    CHECK_RETURNS(0, frame_send(fd, "{\"cmd\":\"exec\",\"stream\":true}", "exit 0", 6, NULL));
    CHECK_RETURNS(0, frame_recv(fd, &reply, NULL));
    frame_free(reply);
    CHECK_RETURNS(0, frame_send(fd, "{\"stream\":\"stdin\"}", "late", 4, NULL));
    CHECK_RETURNS(0, frame_send(fd, "{\"signal\":\"INT\"}", NULL, 0, NULL));
    CHECK_RETURNS(0, frame_send(fd, "{\"cmd\":\"exec\"}", "echo on", 7, NULL));
    CHECK_RETURNS(0, frame_recv(fd, &reply, NULL));
    CHECK_BODY("on\n", reply);
    CHECK(exec_is_late_input(reply) == 0 && exec_is_late_input(NULL) == 0);
    CHECK_RETURNS(FRAME_EMISSING, frame_header_string(reply, "cmd", &text, NULL));
    frame_free(reply);
    stop(&server);
    CHECK(server.late == 2);
}

/* A policy that allows what begins with "echo", and remembers what it saw. */
static int only_echo(void *context, const struct exec_inquiry *inquiry, char *reason,
                     size_t reason_size)
{
    int *asked = context;
    CHECK(inquiry->size == sizeof *inquiry && inquiry->env != NULL && reason_size >= 512);
    ++*asked;
    if (inquiry->argv != NULL) {
        CHECK(strcmp(inquiry->argv[0], "true") == 0 && inquiry->argv[1] == NULL);
        CHECK(inquiry->command_len == 0 && strcmp(inquiry->cwd, "/tmp") == 0);
        CHECK(strcmp(inquiry->env[0], "A=b") == 0 && inquiry->env[1] == NULL);
        CHECK(inquiry->flags == EXEC_MERGE && strstr(inquiry->header, "\"argv\"") != NULL);
        return FRAME_EBUSY;
    }
    if (inquiry->command_len >= 4 && memcmp(inquiry->command, "echo", 4) == 0)
        return 0;
    snprintf(reason, reason_size, "only echo \"here\"");
    return 1;
}

static void a_policy_decides_before_anything_runs(void)
{
    static const char *const argv[] = {"true", NULL}, *const env[] = {"A=b", NULL};
    char path[] = "/tmp/framefd-policy-XXXXXX", command[64];
    struct exec_options opts = EXEC_OPTIONS_INIT, asked_for = EXEC_OPTIONS_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;
    struct exec_stream *stream;
    struct server server;
    struct stat stat_buf;
    int fd, asked = 0, pair[2];
    char byte;
    CHECK(mkdtemp(path) != NULL);
    CHECK(snprintf(command, sizeof command, "rmdir %s", path) > 0);
    opts.policy = only_echo;
    opts.context = &asked;
    fd = start(&server, &opts);
    CHECK_RETURNS(EXEC_EXITED, exec_request(fd, "echo x", 6, &output, NULL));
    exec_output_free(output);
    CHECK_RETURNS(FRAME_EREMOTE_DENIED,
                  exec_request(fd, command, strlen(command), &output, NULL));
    CHECK(strstr(frame_last_error(), "only echo \"here\"") != NULL);
    stream = run(fd, command, NULL);
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, exec_stream_read(stream, NULL, &byte, 1, 10000));
    exec_stream_free(stream);
    asked_for.cwd = "/tmp";
    asked_for.env = env;
    asked_for.flags = EXEC_MERGE;
    CHECK_RETURNS(FRAME_EREMOTE_BUSY, exec_request_argv(fd, argv, &output, &asked_for));
    stop(&server);

    socket_pair(pair);
    CHECK_RETURNS(EXEC_REFUSED,
                  exec_and_reply(pair[0], command, strlen(command), &opts, &result));
    CHECK(result.error == FRAME_EACCES && asked == 5);
    close_both(pair);
    CHECK(stat(path, &stat_buf) == 0 && rmdir(path) == 0);
}

static void commands_are_confined(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    size_t len;
    opts.flags = EXEC_UMASK;
    opts.umask = 027;
    opts.file_size = 4096;
    opts.cpu_seconds = 5;
    opts.memory = (uint64_t)1 << 30;
    CHECK_RETURNS(EXEC_EXITED, exec_run("umask; ulimit -t; ulimit -f; ulimit -v", 38, &output, &opts));
    CHECK_BYTES("0027\n5\n8\n1048576\n", exec_output_stdout(output, &len), 17);
    exec_output_free(output);
    if (geteuid() == 0) {
        opts.uid = 54321;
        opts.gid = 12345;
        CHECK_RETURNS(EXEC_EXITED,
                      exec_run("id -u; id -g; id -G; echo ${HOME-none}", 38, &output, &opts));
        CHECK_BYTES("54321\n12345\n12345\nnone\n", exec_output_stdout(output, &len), 23);
        exec_output_free(output);
    }
    opts.uid = 0;
    opts.gid = 12345;
    CHECK_RETURNS(FRAME_EINVAL, exec_run("true", 4, &output, &opts));
    opts.uid = 54321;
    opts.gid = 0;
    CHECK_RETURNS(FRAME_EINVAL, exec_run("true", 4, &output, &opts));
    opts.uid = 0;
    opts.umask = 01000;
    CHECK_RETURNS(FRAME_EINVAL, exec_run("true", 4, &output, &opts));
    opts.umask = 0;
    opts.flags = 0x80000000;
    CHECK_RETURNS(FRAME_EINVAL, exec_run("true", 4, &output, &opts));
}

int main(void)
{
    CHECK(exec_stream_read(NULL, NULL, NULL, 0, 0) == FRAME_EINVAL);
    CHECK(exec_stream_events(NULL) == 0);
    output_comes_while_the_command_runs();
    one_thread_that_writes_and_reads_does_not_block_itself();
    descriptors_are_copied_to_the_end();
    a_handler_forwards_a_signal();
    a_thread_signals_while_another_reads();
    a_terminal_has_a_size();
    arguments_need_no_shell_and_outputs_can_be_one();
    input_can_go_with_a_request_for_one_reply();
    what_comes_when_the_command_has_ended_is_told_apart();
    a_policy_decides_before_anything_runs();
    commands_are_confined();
    return 0;
}
