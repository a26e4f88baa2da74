/* Commands for one reply: what their results say, what is refused, what becomes of them when an
 * end goes away. */
#include "commands.h"

#include <signal.h>

/* Asks for a command over a connection of its own; *served is what its server reports. */
static int ask(const struct exec_request *what, const struct exec_options *opts,
               struct exec_result *result, struct exec_result *served, struct exec_output **out)
{
    struct server server;
    struct frame_connection *c = start(&server, opts);
    int code = exec_call(c, what, LONG, result, out);
    stop_in_sync(&server, c);
    *served = server.result;
    return code;
}

static int run(const char *command, const struct exec_options *opts, struct exec_result *result,
               struct exec_output **out)
{
    return exec_run(command, strlen(command), opts, result, out);
}

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
    size_t i;
    for (i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct exec_result result[3] = {EXEC_RESULT_INIT, EXEC_RESULT_INIT, EXEC_RESULT_INIT};
        struct exec_options opts = EXEC_OPTIONS_INIT;
        struct exec_request what = shell(CASES[i].command);
        struct exec_output *output[2];
        size_t len;
        int who;
        opts.max_output = what.max_output = 6;
        opts.command_timeout_ms = what.command_timeout_ms =
            CASES[i].outcome == EXEC_TIMED_OUT ? 300 : 0;
        CHECK_RETURNS(CASES[i].outcome, ask(&what, NULL, &result[0], &result[1], &output[0]));
        CHECK_RETURNS(CASES[i].outcome, run(CASES[i].command, &opts, &result[2], &output[1]));
        for (who = 0; who < 3; who++) {
            CHECK_RETURNS(CASES[i].outcome, result[who].outcome);
            CHECK_RETURNS(CASES[i].exit_code, result[who].exit_code);
            CHECK_RETURNS(CASES[i].signal, result[who].signal);
            CHECK_RETURNS(CASES[i].flags, result[who].flags);
            CHECK_RETURNS(0, result[who].error);
            CHECK_RETURNS(CASES[i].stdout_total, result[who].stdout_total);
            CHECK_RETURNS(CASES[i].stderr_total, result[who].stderr_total);
            CHECK_RETURNS(sizeof *result, result[who].size);
            CHECK(result[who].charset[0] != '\0');
            CHECK(strcmp(result[who].charset, result[0].charset) == 0);
        }
        for (who = 0; who < 2; who++) {
            exec_output_bytes(output[who], EXEC_STDOUT, &len);
            CHECK_RETURNS(CASES[i].stdout_total < 6 ? CASES[i].stdout_total : 6, len);
            exec_output_bytes(output[who], EXEC_STDERR, &len);
            CHECK_RETURNS(CASES[i].stderr_total < 6 ? CASES[i].stderr_total : 6, len);
            exec_output_free(output[who]);
        }
    }
}

static void outputs_are_texts_of_c(void)
{
    struct exec_output *output;
    size_t len = SIZE_MAX;
    CHECK_RETURNS(EXEC_EXITED, run("printf out; printf error >&2", NULL, NULL, &output));
    CHECK_OUTPUT("out", output, EXEC_STDOUT);
    CHECK_OUTPUT("error", output, EXEC_STDERR);
    CHECK(strcmp(exec_output_bytes(output, EXEC_STDOUT, NULL), "out") == 0);
    CHECK(exec_output_bytes(output, 0, &len) == NULL && len == 0);
    CHECK(exec_output_bytes(output, 3, NULL) == NULL);
    CHECK(exec_output_bytes(NULL, EXEC_STDOUT, NULL) == NULL);
    exec_output_free(output);
    exec_output_free(NULL);
    CHECK_RETURNS(EXEC_EXITED, run("true", NULL, NULL, &output));
    CHECK_OUTPUT("", output, EXEC_STDOUT);
    CHECK_OUTPUT("", output, EXEC_STDERR);
    exec_output_free(output);
}

static void a_flood_ends_the_command_where_that_is_asked_for(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_request what = shell("yes");
    struct exec_output *output;
    struct exec_result served;
    opts.flags = EXEC_END_AT_LIMIT;
    opts.max_output = 4;
    CHECK_RETURNS(EXEC_OUTPUT_LIMIT, ask(&what, &opts, NULL, &served, &output));
    CHECK_OUTPUT("y\ny\n", output, EXEC_STDOUT);
    CHECK(served.signal != 0 && served.flags == EXEC_RESULT_TRUNCATED && served.stdout_total > 4);
    exec_output_free(output);
}

static void a_pipe_that_is_held_is_not_waited_for(void)
{
    struct exec_request what = shell("sleep 1000 & echo $!");
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    struct exec_result served;
    opts.drain_ms = 20;
    CHECK_RETURNS(EXEC_EXITED, ask(&what, &opts, NULL, &served, &output));
    CHECK(served.flags == EXEC_RESULT_PIPE_HELD && served.exit_code == 0);
    CHECK(kill((pid_t)atol(exec_output_bytes(output, EXEC_STDOUT, NULL)), SIGKILL) == 0);
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
        struct exec_request what = shell(CASES[i].command);
        struct exec_output *output = (struct exec_output *)&opts;
        struct frame_connection *c;
        struct server server;
        struct frame *reply;
        char code[32], byte;
        int fd[2];
        opts.cwd = what.cwd = CASES[i].cwd;
        what.command_len = CASES[i].len;

        socket_pair(fd);
        CHECK_RETURNS(CASES[i].outcome,
                      exec_and_reply(fd[1], CASES[i].command, CASES[i].len, &opts, &result));
        CHECK_RETURNS(CASES[i].outcome, result.outcome);
        CHECK_RETURNS(CASES[i].error, result.error);
        CHECK(result.exit_code == -1 && result.signal == 0 && result.flags == 0);
        CHECK_RETURNS(0, frame_recv(fd[0], &reply, NULL));
        CHECK(frame_header_string(frame_header(reply, NULL), "code", code, sizeof code) > 0);
        frame_free(reply);
        close_both(fd);

        /* For one reply or for a stream: then the connection is free for the next command. */
        c = start(&server, NULL);
        CHECK_RETURNS(CASES[i].remote, exec_call(c, &what, LONG, NULL, &output));
        CHECK(output == NULL);
        CHECK_RETURNS(0, exec_start(c, &what, LONG));
        CHECK_RETURNS(CASES[i].remote, exec_read(c, &byte, 1, LONG, NULL));
        expect_reply(c, "echo on", "on\n");
        stop_in_sync(&server, c);

        output = (struct exec_output *)&opts;
        CHECK_RETURNS(CASES[i].error,
                      exec_run(CASES[i].command, CASES[i].len, &opts, NULL, &output));
        CHECK(output == NULL);
        if (CASES[i].error == FRAME_ESPAWN)
            CHECK(errno == ENOENT && strstr(frame_last_error(), "directory") != NULL);
    }
}

static void an_argv_needs_no_shell(void)
{
    static const char *const ARGV[] = {"printf", "%s|", "$HOME", "a b", "*", "", NULL};
    static const char *const NONE[] = {"no-such-program", NULL};
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_output *output;
    struct server server;
    struct frame_connection *c = start(&server, NULL);
    what.argv = ARGV;
    CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG, NULL, &output));
    CHECK_OUTPUT("$HOME|a b|*||", output, EXEC_STDOUT);
    CHECK_OUTPUT("", output, EXEC_STDERR);
    exec_output_free(output);
    what.argv = NONE;
    CHECK_RETURNS(FRAME_EREMOTE_SPAWN_FAILED, exec_call(c, &what, LONG, NULL, &output));
    CHECK(output == NULL && strstr(frame_last_error(), "No such file") != NULL);
    stop_in_sync(&server, c);
}

static void input_and_merged_output_go_with_a_request(void)
{
    struct exec_request what = shell("sort; echo no >&2; echo end");
    struct exec_output *output;
    struct server server;
    struct frame_connection *c = start(&server, NULL);
    what.input = "b\na\n";
    what.input_len = 4;
    CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG, NULL, &output));
    CHECK_OUTPUT("a\nb\nend\n", output, EXEC_STDOUT);
    CHECK_OUTPUT("no\n", output, EXEC_STDERR);
    exec_output_free(output);
    what.flags = EXEC_MERGE;
    CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG, NULL, &output));
    CHECK_OUTPUT("a\nb\nno\nend\n", output, EXEC_STDOUT);
    exec_output_free(output);
    stop_in_sync(&server, c);
}

/* Answers whatever is asked with this header and body, on a connection of its own. */
static int answered(const char *header, const char *body, struct exec_result *result,
                    struct exec_output **out)
{
    struct exec_request what = shell("x");
    struct frame_connection *c;
    int fd[2], code;
    socket_pair(fd);
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
    CHECK_RETURNS(0, frame_send(fd[1], header, body, strlen(body), NULL));
    code = exec_call(c, &what, LONG, result, out);
    if (code < 0 && code > -100) {
        struct exec_output *next;
        CHECK_RETURNS(FRAME_EBROKEN, exec_call(c, &what, LONG, NULL, &next));
    }
    frame_connection_free(c);
    close_both(fd);
    return code;
}

static void a_reply_may_say_less_but_nothing_wrong(void)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;
    CHECK_RETURNS(EXEC_STATUS_LOST, answered(NULL, "hello", &result, &output));
    CHECK_OUTPUT("hello", output, EXEC_STDOUT);
    CHECK_OUTPUT("", output, EXEC_STDERR);
    CHECK(result.outcome == EXEC_STATUS_LOST && result.exit_code == -1 && result.signal == 0);
    CHECK(result.stdout_total == 5 && result.stderr_total == 0 && result.charset[0] == '\0');
    exec_output_free(output);

    CHECK_RETURNS(FRAME_EBADREPLY, answered("{\"stdout_size\":6}", "hello", NULL, &output));
    CHECK_RETURNS(FRAME_EBADREPLY, answered("{\"signal\":9,\"exit_code\":0}", "", NULL, &output));
    CHECK_RETURNS(FRAME_EBADREPLY, answered("{\"id\":\"~7\"}", "", NULL, &output));
    CHECK_RETURNS(FRAME_EBADREPLY, answered("{\"stream\":\"stdout\"}", "", NULL, &output));
    CHECK_RETURNS(FRAME_EBADREPLY, answered("{\"exit_code\":\"0\"}", "", NULL, &output));
    CHECK_RETURNS(FRAME_EREMOTE_BUSY,
                  answered("{\"status\":\"error\",\"code\":\"busy\"}", "", NULL, &output));
    CHECK_RETURNS(FRAME_EREMOTE_OTHER, answered("{\"status\":\"error\"}", "", NULL, &output));
    CHECK(output == NULL);
}

static void a_request_is_served_from_the_stream(void)
{
    struct frame_connection *c;
    struct frame_view view;
    struct frame *frame;
    int64_t id;
    int fd[2];
    socket_pair(fd);
    CHECK_RETURNS(0, frame_connection_new(fd[1], fd[1], NULL, &c));
    CHECK_RETURNS(0, frame_send(fd[0], "{\"cmd\":\"exec\",\"id\":7}", "echo hi", 7, NULL));
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(FRAME_EBADJSON, exec_serve(c, "{", NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, exec_serve(c, NULL, NULL, NULL));
    CHECK_RETURNS(EXEC_EXITED, exec_serve(c, view.header, NULL, NULL));
    CHECK_RETURNS(0, frame_recv(fd[0], &frame, NULL));
    CHECK_RETURNS(0, frame_header_int(frame_header(frame, NULL), "id", &id));
    CHECK_RETURNS(7, id);
    CHECK_BODY("hi\n", frame);
    frame_free(frame);

    /* Its body was received before, and nothing is sent. */
    CHECK_RETURNS(0, frame_send(fd[0], "{\"cmd\":\"exec\",\"id\":8}", "echo hi", 7, NULL));
    CHECK_RETURNS(0, frame_connection_recv(c, LONG, &frame));
    CHECK_RETURNS(FRAME_ESTATE, exec_serve(c, frame_header(frame, NULL), NULL, NULL));
    frame_free(frame);
    CHECK_RETURNS(0, unread(fd[0]));

    /* An argv has no body. */
    CHECK_RETURNS(0, frame_send(fd[0], "{\"cmd\":\"exec\",\"argv\":[\"echo\",\"a\"]}", NULL, 0,
                                NULL));
    CHECK_RETURNS(0, frame_connection_recv(c, LONG, &frame));
    CHECK_RETURNS(EXEC_EXITED, exec_serve(c, frame_header(frame, NULL), NULL, NULL));
    frame_free(frame);
    CHECK_RETURNS(0, frame_recv(fd[0], &frame, NULL));
    CHECK_BODY("a\n", frame);
    frame_free(frame);
    frame_connection_free(c);
    close_both(fd);
}

static void a_pair_of_pipes_is_a_connection(void)
{
    struct exec_request what = shell("head -c 100000 /dev/zero");
    struct exec_result result = EXEC_RESULT_INIT;
    struct frame_connection *c;
    struct exec_output *output;
    struct frame_view view;
    int there[2], back[2];
    pid_t child;
    CHECK(pipe2(there, O_CLOEXEC) == 0 && pipe2(back, O_CLOEXEC) == 0);
    if ((child = fork()) == 0) {
        CHECK_RETURNS(0, frame_connection_new(there[0], back[1], NULL, &c));
        CHECK(!are_sealed() || seal_server(c, LONG) == 0);
        CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
        CHECK_RETURNS(EXEC_EXITED, exec_serve(c, view.header, NULL, NULL));
        frame_connection_free(c);
        exit(0);
    }
    CHECK_RETURNS(0, frame_connection_new(back[0], there[1], NULL, &c));
    CHECK(!are_sealed() || seal_client(c, LONG) == 0);
    CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG, &result, &output));
    CHECK_RETURNS(100000, result.stdout_total);
    exec_output_free(output);
    frame_connection_free(c);
    wait_for(child);
    close_both(there);
    close_both(back);
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
    holding(command, sizeof command, alive[1]);
    CHECK(close(fd[0]) == 0);
    CHECK_RETURNS(FRAME_ECLOSED, exec_and_reply(fd[1], command, strlen(command), &opts, &result));
    CHECK(milliseconds() - began < 20000);
    CHECK(close(alive[1]) == 0);
    wait_for_end(alive[0]);
    CHECK(close(alive[0]) == 0);

    /* It may be let run: then it is the reply that fails, and SIGPIPE does not come. */
    opts.flags = EXEC_DETACHED;
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
    char code[16];
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
    CHECK_RETURNS(2, frame_header_string(frame_header(reply, NULL), "code", code, sizeof code));
    CHECK(strcmp(code, "io") == 0);
    frame_free(reply);
    close_both(fd);
}

static void a_client_or_server_that_does_nothing_is_given_up(void)
{
    static const char FLOOD[] = "head -c 8000000 /dev/zero";
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_request what = shell("true"), flood = shell(FLOOD);
    struct frame_connection *c;
    struct frame_view view;
    struct exec_output *output;
    int64_t began = milliseconds();
    int fd[2];
    socket_pair(fd);
    opts.reply_timeout_ms = 50;
    CHECK_RETURNS(FRAME_ESTALLED, exec_and_reply(fd[1], FLOOD, strlen(FLOOD), &opts, NULL));
    CHECK(milliseconds() - began >= 50);
    close_both(fd);

    socket_pair(fd);
    began = milliseconds();
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
    CHECK_RETURNS(FRAME_ETIMEDOUT, exec_call(c, &flood, 50, NULL, &output));
    CHECK(milliseconds() - began >= 50 && output == NULL);
    CHECK_RETURNS(FRAME_EBROKEN, exec_call(c, &what, 50, NULL, &output));
    frame_connection_free(c);
    CHECK_RETURNS(0, frame_connection_new(fd[1], fd[1], NULL, &c));
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(FRAME_ESTALLED, exec_serve(c, view.header, &opts, NULL));
    CHECK_RETURNS(FRAME_EBROKEN, exec_serve(c, "{\"cmd\":\"exec\"}", &opts, NULL));
    frame_connection_free(c);
    CHECK(shutdown(fd[1], SHUT_RDWR) == 0);
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
    CHECK_RETURNS(FRAME_EIO, exec_call(c, &what, 50, NULL, &output));
    CHECK(errno == EPIPE);
    frame_connection_free(c);
    close_both(fd);

    socket_pair(fd);
    CHECK(shutdown(fd[1], SHUT_WR) == 0);
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
    CHECK_RETURNS(FRAME_ECLOSED, exec_call(c, &what, 50, NULL, &output));
    frame_connection_free(c);
    close_both(fd);
}

/* Longer than a header. */
static void arguments_are_as_long_as_the_server_takes(void)
{
    static char longest[120000], variable[70000];
    const char *argv[] = {"sh", "-c", "echo ${#1} ${#A}", "sh", longest, NULL};
    const char *env[] = {variable, NULL};
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;
    struct server server;
    opts.max_command = 131071;
    memset(longest, 'x', sizeof longest - 1);
    memset(variable, 'x', sizeof variable - 1);
    memcpy(variable, "A=", 2);
    what.argv = argv;
    what.env = env;
    struct frame_connection *c = start(&server, &opts);
    CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG, &result, &output));
    CHECK_OUTPUT("119999 69997\n", output, EXEC_STDOUT);
    exec_output_free(output);
    expect_reply(c, "echo on", "on\n");
    stop_in_sync(&server, c);
    /* By default that is too much for a server, which says so. */
    c = start(&server, NULL);
    CHECK_RETURNS(FRAME_EREMOTE_TOO_BIG, exec_call(c, &what, LONG, &result, &output));
    expect_reply(c, "echo on", "on\n");
    stop_in_sync(&server, c);
}

int main(void)
{
    every_outcome_is_told_apart();
    outputs_are_texts_of_c();
    a_flood_ends_the_command_where_that_is_asked_for();
    a_pipe_that_is_held_is_not_waited_for();
    what_cannot_be_run_is_told_to_both();
    an_argv_needs_no_shell();
    arguments_are_as_long_as_the_server_takes();
    input_and_merged_output_go_with_a_request();
    a_reply_may_say_less_but_nothing_wrong();
    a_request_is_served_from_the_stream();
    a_pair_of_pipes_is_a_connection();
    a_client_that_hangs_up_ends_its_command();
    a_descriptor_that_the_host_has_closed_is_no_client_that_left();
    a_client_or_server_that_does_nothing_is_given_up();
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    return 0;
}
