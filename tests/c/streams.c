/* Commands whose output comes as it appears, on a connection that is for them until they end. */
#include "commands.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/time.h>

static void run(struct frame_connection *c, const char *command)
{
    struct exec_request what = shell(command);
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
}

/* Waits for just these bytes of one output, however they are cut. */
static void expect(struct frame_connection *c, int output, const char *text)
{
    size_t len = strlen(text), got = 0;
    char bytes[64];
    while (got < len) {
        int from = 0;
        int64_t count = exec_read(c, bytes + got, len - got, LONG, &from);
        CHECK(count > 0 && from == output);
        got += (size_t)count;
    }
    CHECK(memcmp(bytes, text, len) == 0);
}

static void expect_end(struct frame_connection *c, int outcome, int exit_code)
{
    struct exec_result result = EXEC_RESULT_INIT;
    char byte;
    CHECK_RETURNS(0, exec_read(c, &byte, 1, LONG, NULL));
    CHECK_RETURNS(outcome, exec_finish(c, LONG, &result));
    CHECK(result.outcome == outcome && result.exit_code == exit_code);
}

static void give(struct frame_connection *c, const char *text)
{
    CHECK_RETURNS(strlen(text), exec_write(c, text, strlen(text), LONG));
}

static void output_comes_while_the_command_runs(void)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct server server;
    char byte;
    struct frame_connection *c = start(&server, NULL);
    run(c, "echo out; read line; echo err-$line >&2; read line; exit 7");
    expect(c, EXEC_STDOUT, "out\n");
    CHECK_RETURNS(FRAME_ETIMEDOUT, exec_read(c, &byte, 1, 0, NULL));
    give(c, "one\n");
    expect(c, EXEC_STDERR, "err-one\n");
    CHECK_RETURNS(0, exec_end_input(c, LONG));
    CHECK_RETURNS(0, exec_end_input(c, LONG));
    CHECK_RETURNS(FRAME_ESTATE, exec_write(c, "x", 1, LONG));
    CHECK_RETURNS(0, exec_read(c, &byte, 1, LONG, NULL));
    CHECK_RETURNS(0, exec_read(c, &byte, 1, 0, NULL));
    /* A call that makes no sense any more takes nothing from the end. */
    CHECK_RETURNS(FRAME_ESTATE, exec_write(c, "x", 1, LONG));
    CHECK_RETURNS(EXEC_EXITED, exec_finish(c, 0, &result));
    CHECK(result.outcome == EXEC_EXITED && result.exit_code == 7);
    CHECK(result.stdout_total == 4 && result.stderr_total == 8 && result.charset[0] != '\0');
    CHECK_RETURNS(FRAME_ESTATE, exec_finish(c, LONG, &result));
    CHECK_RETURNS(FRAME_ESTATE, exec_read(c, &byte, 1, LONG, NULL));

    /* The connection is free for the next one; what nobody reads is dropped at the end. */
    run(c, "head -c 3000000 /dev/zero; cat; exit 3");
    CHECK_RETURNS(EXEC_EXITED, exec_finish(c, LONG, &result));
    CHECK(result.exit_code == 3 && result.stdout_total == 3000000);
    stop_in_sync(&server, c);
}

static void one_thread_that_writes_and_reads_does_not_block_itself(void)
{
    enum { TOTAL = 8 * 1024 * 1024 };
    static char bytes[65536], back[65536];
    struct server server;
    struct frame_connection *c = start(&server, NULL);
    size_t given = 0, taken = 0, i;
    for (i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7);
    run(c, "cat");
    while (taken < TOTAL) {
        int64_t count = 0;
        if (given < TOTAL) {
            size_t at = given % sizeof bytes;
            count = exec_write(c, bytes + at, sizeof bytes - at, LONG);
            CHECK(count >= 0);
            given += (size_t)count;
        } else {
            CHECK_RETURNS(0, exec_end_input(c, LONG));
        }
        if (count == 0) {
            size_t at = taken % sizeof back;
            count = exec_read(c, back, sizeof back - at, LONG, NULL);
            CHECK(count > 0 && memcmp(back, bytes + at, (size_t)count) == 0);
            taken += (size_t)count;
        }
    }
    CHECK(given == TOTAL && taken == TOTAL);
    expect_end(c, EXEC_EXITED, 0);
    stop_in_sync(&server, c);
}

/* Nothing else may be done with the connection; what may be done from anywhere may. */
static void the_connection_is_for_the_command_until_it_ends(void)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct exec_request what = shell("true");
    struct frame_file_transfer file = FRAME_FILE_TRANSFER_INIT;
    struct exec_output *output;
    struct frame_view view;
    struct frame *frame;
    struct server server;
    struct pollfd polled = {-1, 0, 0};
    int64_t count;
    char byte;
    struct frame_connection *c = start(&server, NULL);
    CHECK_RETURNS(0, frame_connection_inspect(c, &state));
    CHECK_RETURNS(0, flags_of(&state));
    run(c, "read line; echo $line");
    memset(&view, 0, sizeof view);

#define NOT_NOW(call) CHECK_RETURNS(FRAME_ESTATE, call)
    NOT_NOW(exec_start(c, &what, LONG));
    NOT_NOW(exec_call(c, &what, LONG, NULL, &output));
    NOT_NOW(exec_serve(c, "{\"cmd\":\"exec\"}", NULL, NULL));
    NOT_NOW(frame_connection_recv(c, LONG, &frame));
    NOT_NOW(frame_connection_next(c, &view, 1, LONG));
    NOT_NOW(frame_connection_recv_header(c, LONG, &view, NULL));
    NOT_NOW(frame_connection_read(c, &byte, 1, LONG));
    NOT_NOW(frame_connection_read_to(c, 1, LONG));
    NOT_NOW(frame_connection_send(c, NULL, NULL, 0, LONG));
    NOT_NOW(frame_connection_queue(c, &view, 1, LONG));
    NOT_NOW(frame_connection_flush(c, LONG));
    NOT_NOW(frame_connection_begin(c, NULL, 1));
    NOT_NOW(frame_connection_write(c, &byte, 1, LONG));
    NOT_NOW(frame_connection_write_from(c, server.fd[0], 1, LONG));
    NOT_NOW(frame_connection_call(c, "{\"cmd\":\"x\"}", NULL, 0, LONG, &frame));
    NOT_NOW(frame_connection_reply(c, "{\"cmd\":\"x\"}", NULL, NULL, 0, LONG));
    NOT_NOW(frame_connection_reply_error(c, "{\"cmd\":\"x\"}", FRAME_EIO, NULL, LONG));
    NOT_NOW(frame_connection_end(c, false, LONG));
    file.name = "x";
    file.path = "tests/c/streams.c";
    NOT_NOW(frame_file_put(c, &file, LONG, NULL));
#undef NOT_NOW

    /* A foreign loop polls for what inspect says. */
    while ((count = exec_read(c, &byte, 1, 0, NULL)) == FRAME_ETIMEDOUT) {
        CHECK_RETURNS(0, frame_connection_inspect(c, &state));
        CHECK(flags_of(&state) == FRAME_STATE_EXEC && state.read_fd == server.fd[0]);
        CHECK(state.read_events == POLLIN && state.broken == 0);
        if (polled.events == 0)
            give(c, "a\n");
        polled.fd = state.read_fd;
        polled.events = (short)(state.read_events | state.write_events);
        CHECK(poll(&polled, 1, LONG) == 1);
    }
    CHECK(count == 1 && byte == 'a');
    expect(c, EXEC_STDOUT, "\n");
    CHECK_RETURNS(0, exec_read(c, &byte, 1, LONG, NULL));
    CHECK_RETURNS(0, frame_connection_inspect(c, &state));
    CHECK(flags_of(&state) == FRAME_STATE_EXEC && state.read_events == 0);
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_flush(c, LONG));
    CHECK_RETURNS(EXEC_EXITED, exec_finish(c, 0, NULL));
    CHECK_RETURNS(0, frame_connection_inspect(c, &state));
    CHECK_RETURNS(0, flags_of(&state));
    expect_reply(c, "echo on", "on\n");
    stop_in_sync(&server, c);
}

static void descriptors_are_copied_to_the_end(void)
{
    struct exec_result result = EXEC_RESULT_INIT;
    int in[2], out[2], err[2];
    struct server server;
    char text[8];
    struct frame_connection *c = start(&server, NULL);
    run(c, "cat; echo no >&2; exit 4");
    CHECK(pipe(in) == 0 && pipe(out) == 0 && pipe(err) == 0);
    CHECK_RETURNS(FRAME_ETIMEDOUT, exec_copy(c, in[0], out[1], err[1], 0, &result));
    write_all(in[1], "input", 5);
    CHECK(close(in[1]) == 0);
    CHECK_RETURNS(EXEC_EXITED, exec_copy(c, in[0], out[1], err[1], LONG, &result));
    CHECK(result.exit_code == 4 && result.stdout_total == 5 && result.stderr_total == 3);
    read_all(out[0], text, 5);
    CHECK(memcmp(text, "input", 5) == 0);
    read_all(err[0], text, 3);
    CHECK(memcmp(text, "no\n", 3) == 0);
    CHECK(close(in[0]) == 0);
    close_both(out);
    close_both(err);
    expect_reply(c, "echo on", "on\n");
    stop_in_sync(&server, c);
}

/* A descriptor that fails, or takes nothing, costs no byte of output. */
static void a_copy_can_be_made_again(void)
{
    enum { TOTAL = 1000000 };
    struct exec_result result = EXEC_RESULT_INIT;
    static char back[65536];
    struct server server;
    size_t taken = 0;
    int out[2], gone[2], full, code;
    struct frame_connection *c = start(&server, NULL);
    run(c, "head -c 1000000 /dev/zero | tr '\\0' x; exit 5");
    CHECK(pipe(out) == 0 && pipe(gone) == 0 && close(gone[0]) == 0);
    CHECK((full = open("/dev/full", O_WRONLY | O_CLOEXEC)) >= 0);
    CHECK(fcntl(out[0], F_SETFL, O_NONBLOCK) == 0);
    CHECK_RETURNS(FRAME_EIO, exec_copy(c, -1, gone[1], 2, LONG, &result));
    CHECK(errno == EPIPE && strstr(frame_last_error(), "standard output") != NULL);
    code = exec_copy(c, -1, full, 2, LONG, &result);
    CHECK_RETURNS(FRAME_ENOSPC, code);
    CHECK(errno == ENOSPC);
    CHECK_RETURNS(FRAME_EBADF, exec_copy(c, -1, -1, 2, LONG, &result));
    do {
        ssize_t count;
        code = exec_copy(c, -1, out[1], 2, 20, &result);
        while ((count = read(out[0], back, sizeof back)) > 0) {
            taken += (size_t)count;
            while (count > 0)
                CHECK(back[--count] == 'x');
        }
    } while (code == FRAME_ETIMEDOUT);
    CHECK_RETURNS(EXEC_EXITED, code);
    CHECK(result.exit_code == 5 && result.stdout_total == TOTAL && taken == TOTAL);
    close_both(out);
    CHECK(close(gone[1]) == 0 && close(full) == 0);
    expect_reply(c, "echo on", "on\n");
    stop_in_sync(&server, c);
}

static struct frame_connection *interrupted;

static void forward(int signal)
{
    CHECK_RETURNS(0, exec_signal(interrupted, signal));
}

static void a_handler_forwards_a_signal(void)
{
    static const char command[] = "trap 'echo caught; exit 9' INT; echo up; read line";
    struct exec_result result = EXEC_RESULT_INIT;
    struct sigaction action, before;
    struct itimerval soon = {{0, 0}, {0, 100000}};
    struct server server;
    int copies, in[2], out[2];
    char text[16];
    memset(&action, 0, sizeof action);
    action.sa_handler = forward;
    interrupted = start(&server, NULL);
    CHECK_RETURNS(FRAME_ESTATE, exec_signal(interrupted, SIGINT));
    CHECK_RETURNS(FRAME_ESTATE, exec_resize(interrupted, 10, 20));
    CHECK(sigaction(SIGINT, &action, &before) == 0);
    run(interrupted, command);
    expect(interrupted, EXEC_STDOUT, "up\n");
    CHECK(raise(SIGINT) == 0);
    expect(interrupted, EXEC_STDOUT, "caught\n");
    CHECK_RETURNS(FRAME_EINVAL, exec_signal(interrupted, 0));
    CHECK_RETURNS(FRAME_EINVAL, exec_signal(interrupted, SIGSEGV));
    expect_end(interrupted, EXEC_EXITED, 9);
    CHECK(sigaction(SIGINT, &before, NULL) == 0);

    /* In a copy that waits, with SA_RESTART and without. */
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    for (copies = 0; copies < 2; copies++) {
        action.sa_flags = copies == 0 ? 0 : SA_RESTART;
        CHECK(sigaction(SIGALRM, &action, &before) == 0);
        run(interrupted, "trap 'echo caught; exit 9' ALRM; echo up; read line");
        expect(interrupted, EXEC_STDOUT, "up\n");
        CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
        CHECK_RETURNS(EXEC_EXITED, exec_copy(interrupted, in[0], out[1], 2, LONG, &result));
        CHECK_RETURNS(9, result.exit_code);
        CHECK_RETURNS(7, read(out[0], text, sizeof text));
        CHECK(memcmp(text, "caught\n", 7) == 0);
        CHECK(sigaction(SIGALRM, &before, NULL) == 0);
    }
    close_both(in);
    close_both(out);
    stop_in_sync(&server, interrupted);
}

static void *signal_soon(void *c)
{
    CHECK_RETURNS(0, exec_signal(c, SIGTERM));
    return NULL;
}

static void a_thread_signals_while_another_reads(void)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct server server;
    pthread_t thread;
    char byte;
    struct frame_connection *c = start(&server, NULL);
    run(c, "echo up; exec cat");
    expect(c, EXEC_STDOUT, "up\n");
    CHECK(pthread_create(&thread, NULL, signal_soon, c) == 0);
    CHECK_RETURNS(0, exec_read(c, &byte, 1, LONG, NULL));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_RETURNS(EXEC_SIGNALED, exec_finish(c, LONG, &result));
    CHECK_RETURNS(SIGTERM, result.signal);
    stop_in_sync(&server, c);
}

static void a_terminal_has_a_size(void)
{
    struct exec_request what =
        shell("trap 'stty size; exit 0' WINCH; stty -echo; stty size; while :; do read x; done");
    struct server server;
    struct frame_connection *c = start(&server, NULL);
    what.flags = EXEC_TTY;
    what.rows = 50;
    what.columns = 132;
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    expect(c, EXEC_STDOUT, "50 132\r\n");
    CHECK_RETURNS(0, exec_resize(c, 10, 20));
    expect(c, EXEC_STDOUT, "10 20\r\n");
    expect_end(c, EXEC_EXITED, 0);
    what = shell("stty size");
    what.flags = EXEC_TTY;
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    expect(c, EXEC_STDOUT, "24 80\r\n");
    expect_end(c, EXEC_EXITED, 0);
    stop_in_sync(&server, c);
}

static void arguments_need_no_shell_and_outputs_can_be_one(void)
{
    static const char *const argv[] = {"printf", "%s", "$HOME; `id`", NULL};
    struct exec_request what = EXEC_REQUEST_INIT;
    struct server server;
    struct frame_connection *c = start(&server, NULL);
    what.argv = argv;
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    expect(c, EXEC_STDOUT, "$HOME; `id`");
    expect_end(c, EXEC_EXITED, 0);
    what = shell("echo 1; echo 2 >&2; echo 3; cat");
    what.flags = EXEC_MERGE | EXEC_NO_INPUT;
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    expect(c, EXEC_STDOUT, "1\n2\n3\n");
    expect_end(c, EXEC_EXITED, 0);
    what = shell("cat");
    what.input = "given";
    what.input_len = 5;
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    CHECK_RETURNS(FRAME_ESTATE, exec_write(c, "x", 1, LONG));
    expect(c, EXEC_STDOUT, "given");
    expect_end(c, EXEC_EXITED, 0);
    what.max_output = 3;
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    CHECK_RETURNS(EXEC_OUTPUT_LIMIT, exec_finish(c, LONG, NULL));
    stop_in_sync(&server, c);
}

/* The server drops input and signals that come when their command has ended. */
static void what_comes_too_late_is_dropped(void)
{
    struct server server;
    struct frame *reply;
    char text[16];
    struct frame_connection *c = start(&server, NULL);
    CHECK_RETURNS(0, frame_connection_send(c, "{\"cmd\":\"exec\",\"stream\":true}", "exit 0", 6,
                                           LONG));
    CHECK_RETURNS(0, frame_connection_recv(c, LONG, &reply));
    frame_free(reply);
    CHECK_RETURNS(0, frame_connection_send(c, "{\"stream\":\"stdin\"}", "late", 4, LONG));
    CHECK_RETURNS(0, frame_connection_send(c, "{\"signal\":\"INT\"}", NULL, 0, LONG));
    CHECK_RETURNS(0, frame_connection_send(c, "{\"cmd\":\"exec\"}", "echo on", 7, LONG));
    CHECK_RETURNS(0, frame_connection_recv(c, LONG, &reply));
    CHECK_BODY("on\n", reply);
    CHECK_RETURNS(FRAME_EMISSING,
                  frame_header_string(frame_header(reply, NULL), "cmd", text, sizeof text));
    frame_free(reply);
    stop_in_sync(&server, c);
}

static void a_terminal_has_a_type(void)
{
    const struct { const char *env[2], *out; } cases[] = {
        {{NULL, NULL}, "xterm\r\n"}, {{"TERM=vt100", NULL}, "vt100\r\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct server server;
        struct frame_connection *c = start(&server, NULL);
        struct exec_request what = shell("echo $TERM");
        char text[64] = "";
        size_t len = 0;
        int64_t got;
        int which;
        what.flags = EXEC_TTY | EXEC_NO_INPUT;
        what.env = cases[i].env;
        CHECK_RETURNS(0, exec_start(c, &what, LONG));
        while ((got = exec_read(c, text + len, sizeof text - len, LONG, &which)) > 0)
            len += (size_t)got;
        CHECK(got == 0);
        CHECK_BYTES(cases[i].out, text, len);
        CHECK_RETURNS(EXEC_EXITED, exec_finish(c, LONG, NULL));
        stop_in_sync(&server, c);
    }
}

int main(void)
{
    output_comes_while_the_command_runs();
    one_thread_that_writes_and_reads_does_not_block_itself();
    the_connection_is_for_the_command_until_it_ends();
    descriptors_are_copied_to_the_end();
    a_copy_can_be_made_again();
    a_handler_forwards_a_signal();
    a_thread_signals_while_another_reads();
    a_terminal_has_a_size();
    a_terminal_has_a_type();
    arguments_need_no_shell_and_outputs_can_be_one();
    what_comes_too_late_is_dropped();
    return 0;
}
