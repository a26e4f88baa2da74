/* What one connection promises of commands, calls and messages that follow each other on it: each
 * gets its own answer, or the connection is of no use any more. */
#include "commands.h"

#include <signal.h>

static void a_command_follows_what_was_read_ahead(void)
{
    struct exec_request what = shell("echo command");
    struct frame_view views[4];
    struct frame_connection *c;
    struct exec_output *output;
    struct frame *request;
    int fd[2], i;
    socket_pair(fd);
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
    /* All of it is there before anything is received: messages, and a reply behind them. */
    for (i = 0; i < 3; i++)
        CHECK_RETURNS(0, frame_send(fd[1], "{\"news\":1}", "0123456789", (size_t)i, NULL));
    CHECK_RETURNS(0, frame_send(fd[1], "{\"id\":\"~1\",\"exit_code\":0}", "mine", 4, NULL));
    CHECK_RETURNS(2, frame_connection_next(c, views, 2, LONG));
    CHECK_RETURNS(0, unread(fd[0]));
    CHECK_RETURNS(1, frame_connection_next(c, views, 1, 0));
    CHECK(views[0].body_len == 2);
    CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG, NULL, &output));
    CHECK_OUTPUT("mine", output, EXEC_STDOUT);
    exec_output_free(output);
    CHECK_RETURNS(0, frame_recv(fd[1], &request, NULL));
    CHECK_BODY("echo command", request);
    frame_free(request);
    frame_connection_free(c);
    close_both(fd);
}

static uint32_t dice = 20250117;

static int dice_of(int sides)
{
    dice = dice * 1664525 + 1013904223;
    return (int)((dice >> 16) % (uint32_t)sides);
}

/* A streamed command; some are written to, some are read to the end, some are not. */
static void streamed(struct frame_connection *c, const char *number)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    char command[64], text[64];
    int64_t count, got = 0;
    size_t len = strlen(number);
    CHECK(snprintf(command, sizeof command, "printf %s; exec cat", number) < (int)sizeof command);
    what.command = command;
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    if (dice_of(2)) {
        CHECK_RETURNS(len, exec_write(c, number, len, LONG));
        CHECK_RETURNS(0, exec_end_input(c, LONG));
        while ((count = exec_read(c, text + got, sizeof text - (size_t)got, LONG, NULL)) > 0)
            got += count;
        CHECK_RETURNS(0, count);
        CHECK(got == 2 * (int64_t)len && memcmp(text, number, len) == 0);
        CHECK(memcmp(text + len, number, len) == 0);
    }
    CHECK_RETURNS(EXEC_EXITED, exec_finish(c, LONG, &result));
    CHECK(result.exit_code == 0 && result.stdout_total % len == 0);
}

static void each_gets_its_own_answer(void)
{
    struct server server;
    struct frame_connection *c = start(&server, NULL);
    int round;
    for (round = 0; round < 200; round++) {
        struct frame *reply;
        char number[16], command[32];
        size_t len;
        sprintf(number, "<%d>", round);
        switch (dice_of(3)) {
        case 0:
            sprintf(command, "printf '<%d>'", round);
            expect_reply(c, command, number);
            break;
        case 1:
            CHECK_RETURNS(0, frame_connection_call(c, "{\"cmd\":\"echo\"}", number, strlen(number),
                                                   LONG, &reply));
            CHECK(memcmp(frame_body(reply, &len), number, strlen(number)) == 0);
            CHECK(len == strlen(number));
            frame_free(reply);
            break;
        default:
            sprintf(number, "%d", 1000 + round);
            streamed(c, number);
        }
    }
    stop_in_sync(&server, c);
}

/* The answer to a command that was not waited for is never that of the next one. */
static void an_answer_that_comes_too_late_is_nobodys(void)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct exec_request first = shell("sleep 0.3; echo FIRST"), second = shell("echo SECOND");
    struct exec_output *output = NULL;
    struct frame *frame;
    struct server server;
    struct frame_connection *c = start(&server, NULL);
    char byte;
    CHECK_RETURNS(FRAME_ETIMEDOUT, exec_call(c, &first, 100, NULL, &output));
    CHECK_RETURNS(FRAME_EBROKEN, exec_call(c, &second, LONG, NULL, &output));
    CHECK(output == NULL && strstr(frame_last_error(), "timed out") != NULL);
    usleep(400000); /* now FIRST is there */
    CHECK_RETURNS(FRAME_EBROKEN, exec_call(c, &second, LONG, NULL, &output));
    CHECK_RETURNS(FRAME_EBROKEN, exec_start(c, &second, LONG));
    CHECK_RETURNS(FRAME_EBROKEN, exec_read(c, &byte, 1, LONG, NULL));
    CHECK_RETURNS(FRAME_EBROKEN, exec_finish(c, LONG, NULL));
    CHECK_RETURNS(FRAME_EBROKEN, frame_connection_recv(c, LONG, &frame));
    CHECK_RETURNS(FRAME_EBROKEN,
                  frame_connection_call(c, "{\"cmd\":\"x\"}", NULL, 0, LONG, &frame));
    CHECK_RETURNS(0, frame_connection_inspect(c, &state));
    CHECK_RETURNS(FRAME_ETIMEDOUT, state.broken);
    stop(&server, c);
}

/* A client, which has proved that it holds a key if it is_keyed; and the other end. */
static struct frame_connection *client_of(int fd[2], size_t is_keyed)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    struct frame_connection *c;
    char bytes[32] = {0};
    opts.flags = AUTH_PLAIN;
    socket_pair(fd);
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
    if (is_keyed) {
        write_all(fd[1], bytes, sizeof bytes);
        CHECK_RETURNS(0, frame_connection_auth_client(c, bytes, sizeof bytes, &opts));
        CHECK(recv(fd[1], bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes);
    }
    return c;
}

#define ERROR "{\"status\":\"error\",\"code\":\"busy\""

/* What counts as the reply to a call, and to a command; without a key, and with one. */
static void only_a_reply_is_one(void)
{
    enum { BAD = FRAME_EBADREPLY, BUSY = FRAME_EREMOTE_BUSY };
    static const struct {
        const char *header, *body;
        int call[2], command[2];
    } CASES[] = {
        {"{\"status\":\"ok\",\"id\":\"~1\"}", "", {0, 0}, {BAD, BAD}},
        {"{\"status\":\"ok\"}", "", {0, BAD}, {BAD, BAD}},
        {"{\"exit_code\":0,\"id\":\"~1\"}", "", {BAD, BAD}, {EXEC_EXITED, EXEC_EXITED}},
        {"{\"exit_code\":0}", "", {BAD, BAD}, {EXEC_EXITED, BAD}},
        {"{}", "output", {BAD, BAD}, {EXEC_STATUS_LOST, BAD}},
        {"{\"id\":\"~1\"}", "output", {BAD, BAD}, {BAD, BAD}},
        {"{\"cmd\":\"exec\",\"id\":\"~1\"}", "x", {BAD, BAD}, {BAD, BAD}},
        {ERROR ",\"id\":\"~1\"}", "", {BUSY, BUSY}, {BUSY, BUSY}},
        {ERROR "}", "", {BUSY, BAD}, {BUSY, BAD}},
        {ERROR ",\"id\":\"~1\"}", "x", {BAD, BAD}, {BAD, BAD}},
    };
    struct exec_request what = shell("x");
    size_t i, keyed;
    for (i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        for (keyed = 0; keyed < 2; keyed++) {
            const char *header = CASES[i].header, *body = CASES[i].body;
            struct exec_output *output;
            struct frame *reply;
            int fd[2];
            struct frame_connection *c = client_of(fd, keyed);
            CHECK_RETURNS(0, frame_send(fd[1], header, body, strlen(body), NULL));
            CHECK_RETURNS(CASES[i].call[keyed],
                          frame_connection_call(c, "{}", "", 0, LONG, &reply));
            frame_free(reply);
            frame_connection_free(c);
            close_both(fd);

            c = client_of(fd, keyed);
            CHECK_RETURNS(0, frame_send(fd[1], header, body, strlen(body), NULL));
            CHECK_RETURNS(CASES[i].command[keyed], exec_call(c, &what, LONG, NULL, &output));
            exec_output_free(output);
            frame_connection_free(c);
            close_both(fd);
        }
    }
}

static void *refuse(void *argument)
{
    static const char REFUSAL[] = "{\"status\":\"error\",\"code\":\"too_big\",\"id\":\"~1\"}";
    int fd = *(int *)argument;
    char byte;
    CHECK(read(fd, &byte, 1) == 1);
    CHECK_RETURNS(0, frame_send(fd, REFUSAL, NULL, 0, NULL));
    CHECK(shutdown(fd, SHUT_RDWR) == 0);
    return NULL;
}

/* A server refuses a request of which it has read a byte, and closes. */
static void a_refusal_is_heard_while_the_request_is_sent(void)
{
    static char large[8 << 20];
    struct exec_request what = shell("cat");
    struct exec_output *output;
    struct frame *reply;
    pthread_t thread;
    int fd[2], is_command;
    what.input = large;
    what.input_len = sizeof large;
    for (is_command = 0; is_command < 2; is_command++) {
        struct frame_connection *c = client_of(fd, 0);
        CHECK(pthread_create(&thread, NULL, refuse, &fd[1]) == 0);
        if (is_command)
            CHECK_RETURNS(FRAME_EREMOTE_TOO_BIG, exec_call(c, &what, LONG, NULL, &output));
        else
            CHECK_RETURNS(FRAME_EREMOTE_TOO_BIG,
                          frame_connection_call(c, "{}", large, sizeof large, LONG, &reply));
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK_RETURNS(FRAME_EBROKEN, frame_connection_call(c, "{}", "", 0, LONG, &reply));
        frame_connection_free(c);
        close_both(fd);
    }
}

/* What a streamed command's server sends wrong breaks the connection for everything. */
static void a_stream_that_ends_or_lies_breaks_the_connection(void)
{
    static const struct {
        const char *header, *body;
        int code;
    } CASES[] = {
        {NULL, NULL, FRAME_ECLOSED},
        {"{\"id\":\"~1\",\"stream\":\"stdout\"}", "x", FRAME_ETRUNCATED},
        {"{\"id\":\"~2\",\"stream\":\"stdout\"}", "x", FRAME_EBADREPLY},
        {"{\"id\":\"~1\",\"exit_code\":0,\"signal\":9}", "", FRAME_EBADREPLY},
        {"{\"id\":\"~1\",\"status\":\"error\",\"code\":\"busy\"}", "", FRAME_EREMOTE_BUSY},
    };
    size_t i;
    for (i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct exec_request what = shell("x");
        struct frame_connection *c;
        struct frame *frame;
        char bytes[8];
        int64_t count;
        int fd[2], remote = CASES[i].code <= -100;
        socket_pair(fd);
        CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
        CHECK_RETURNS(0, exec_start(c, &what, LONG));
        if (CASES[i].header != NULL)
            CHECK_RETURNS(0, frame_send(fd[1], CASES[i].header, CASES[i].body,
                                        strlen(CASES[i].body), NULL));
        CHECK(shutdown(fd[1], SHUT_WR) == 0);
        while ((count = exec_read(c, bytes, sizeof bytes, LONG, NULL)) > 0)
            ;
        CHECK_RETURNS(CASES[i].code, count);
        /* Refused: in sync, and free. */
        CHECK_RETURNS(remote ? FRAME_ECLOSED : FRAME_EBROKEN,
                      frame_connection_recv(c, LONG, &frame));
        CHECK_RETURNS(remote ? FRAME_ESTATE : FRAME_EBROKEN, exec_finish(c, LONG, NULL));
        frame_connection_free(c);
        close_both(fd);
    }
}

/* Whoever gives a command up ends it: the connection is freed, and its socket with it. */
static void a_connection_that_is_freed_ends_its_command(void)
{
    struct frame_connection_options own = FRAME_CONNECTION_OPTIONS_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    struct frame_connection *client, *served;
    struct frame_view view;
    char command[80];
    int fd[2], alive[2];
    pid_t child;
    own.flags = FRAME_CONNECTION_OWN;
    socket_pair(fd);
    CHECK(pipe2(alive, O_CLOEXEC) == 0);
    what.command = holding(command, sizeof command, alive[1]);
    if ((child = fork()) == 0) {
        CHECK(close(fd[0]) == 0 && close(alive[1]) == 0);
        CHECK_RETURNS(0, frame_connection_new(fd[1], fd[1], &own, &served));
        CHECK(!are_sealed() || seal_server(served, LONG) == 0);
        CHECK_RETURNS(0, frame_connection_recv_header(served, LONG, &view, NULL));
        CHECK_RETURNS(FRAME_ECLOSED, exec_serve(served, view.header, NULL, NULL));
        frame_connection_free(served);
        exit(0);
    }
    CHECK(close(fd[1]) == 0);
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &own, &client));
    CHECK(!are_sealed() || seal_client(client, LONG) == 0);
    CHECK_RETURNS(0, exec_start(client, &what, LONG));
    CHECK_RETURNS(2, exec_read(client, command, 2, LONG, NULL));
    frame_connection_free(client);
    CHECK(fcntl(fd[0], F_GETFD) == -1);
    wait_for(child);
    CHECK(close(alive[1]) == 0);
    wait_for_end(alive[0]);
    CHECK(close(alive[0]) == 0);
}

static int asked;

static int ask_later(void *context)
{
    (void)context;
    return asked++ > 2;
}

/* A hook, and an abort, in a call and in a stream. */
static void a_wait_for_a_command_can_be_ended(void)
{
    struct frame_connection_options hooked = FRAME_CONNECTION_OPTIONS_INIT;
    struct exec_request what = shell("read line; echo on");
    struct exec_output *output;
    struct server server;
    struct frame *frame;
    struct frame_connection *c;
    char byte;
    int in[2];
    CHECK(pipe(in) == 0);
    hooked.interrupted = ask_later;
    c = start_with(&server, NULL, &hooked);
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    CHECK_RETURNS(FRAME_ECANCELED, exec_read(c, &byte, 1, LONG, NULL));
    CHECK_RETURNS(FRAME_ECANCELED, exec_copy(c, in[0], 1, 2, LONG, NULL));
    asked = -1000000; /* nothing is lost */
    CHECK_RETURNS(1, exec_write(c, "\n", 1, LONG));
    CHECK_RETURNS(1, exec_read(c, &byte, 1, LONG, NULL));
    CHECK(byte == 'o');
    CHECK_RETURNS(EXEC_EXITED, exec_finish(c, LONG, NULL));
    asked = 3;
    what = shell("sleep 1000");
    CHECK_RETURNS(FRAME_ECANCELED, exec_call(c, &what, LONG, NULL, &output));
    asked = -1000000;
    CHECK_RETURNS(FRAME_EBROKEN, exec_call(c, &what, LONG, NULL, &output));
    stop(&server, c);
    close_both(in);

    c = start(&server, NULL);
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    CHECK_RETURNS(0, frame_connection_abort(c));
    CHECK_RETURNS(FRAME_EABORTED, exec_read(c, &byte, 1, LONG, NULL));
    CHECK_RETURNS(FRAME_EABORTED, frame_connection_recv(c, LONG, &frame));
    CHECK_RETURNS(FRAME_EABORTED, exec_finish(c, LONG, NULL));
    CHECK_RETURNS(FRAME_EABORTED, exec_call(c, &what, LONG, NULL, &output));
    stop(&server, c);
}

enum { THREADS = 8, TIMES = 40 };

struct one {
    struct frame_connection *c;
    pthread_t thread;
    int number, done, busy;
};

static void *ask_for_its_own(void *argument)
{
    struct one *one = argument;
    char command[32], expected[32];
    int i;
    for (i = 0; i < TIMES; i++) {
        struct exec_output *output;
        struct exec_request what;
        size_t len;
        int code;
        sprintf(command, "echo %d.%d", one->number, i);
        sprintf(expected, "%d.%d\n", one->number, i);
        what = shell(command);
        code = exec_call(one->c, &what, LONG, NULL, &output);
        if (code == FRAME_EBUSY) {
            CHECK(output == NULL);
            one->busy++;
            usleep(500);
            continue;
        }
        CHECK_RETURNS(EXEC_EXITED, code);
        CHECK(strcmp(exec_output_bytes(output, EXEC_STDOUT, &len), expected) == 0);
        exec_output_free(output);
        one->done++;
    }
    return NULL;
}

static void threads_get_their_own_output_or_none(void)
{
    struct one ones[THREADS];
    struct server server;
    struct frame_connection *c = start(&server, NULL);
    int i, done = 0, busy = 0;
    for (i = 0; i < THREADS; i++) {
        ones[i].c = c;
        ones[i].number = i;
        ones[i].done = ones[i].busy = 0;
        CHECK(pthread_create(&ones[i].thread, NULL, ask_for_its_own, &ones[i]) == 0);
    }
    for (i = 0; i < THREADS; i++) {
        CHECK(pthread_join(ones[i].thread, NULL) == 0);
        done += ones[i].done;
        busy += ones[i].busy;
    }
    CHECK(done + busy == THREADS * TIMES && done > 0 && busy > 0);
    expect_reply(c, "echo on", "on\n");
    stop_in_sync(&server, c);
}

/* A child of fork(2) cannot use its parent's connection, nor disturb its command. */
static void a_forked_child_leaves_the_command_alone(void)
{
    static const char END[] =
        "{\"id\":\"~1\",\"exit_code\":0,\"stdout_total\":3,\"stderr_total\":0}";
    struct exec_request what = shell("x");
    struct exec_result result = EXEC_RESULT_INIT;
    struct frame_connection *c;
    struct frame *frame;
    char text[8];
    pid_t child;
    int fd[2];
    socket_pair(fd);
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    if ((child = fork()) == 0) {
        CHECK_RETURNS(FRAME_EFORKED, exec_write(c, "no\n", 3, LONG));
        CHECK_RETURNS(FRAME_EFORKED, exec_read(c, text, 1, LONG, NULL));
        CHECK_RETURNS(FRAME_EFORKED, exec_finish(c, LONG, &result));
        CHECK_RETURNS(FRAME_EFORKED, exec_start(c, &what, LONG));
        CHECK_RETURNS(FRAME_EFORKED, exec_signal(c, SIGTERM));
        CHECK_RETURNS(FRAME_EFORKED, exec_resize(c, 1, 1));
        frame_connection_free(c);
        _exit(0);
    }
    wait_for(child);
    CHECK_RETURNS(3, exec_write(c, "yes", 3, LONG));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK_BODY("x", frame);
    frame_free(frame);
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK_BODY("yes", frame);
    frame_free(frame);
    CHECK_RETURNS(0, unread(fd[1]));
    CHECK_RETURNS(0, frame_send(fd[1], "{\"id\":\"~1\",\"stream\":\"stdout\"}", "out", 3, NULL));
    CHECK_RETURNS(0, frame_send(fd[1], END, NULL, 0, NULL));
    CHECK_RETURNS(3, exec_read(c, text, sizeof text, LONG, NULL));
    CHECK_RETURNS(EXEC_EXITED, exec_finish(c, LONG, &result));
    CHECK_RETURNS(3, result.stdout_total);
    frame_connection_free(c);
    close_both(fd);
}

/* Packets have no headers, and so no commands; nothing is sent. */
static void packets_have_no_commands(void)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct exec_request what = shell("true");
    struct exec_output *output;
    struct frame_connection *c;
    int fd[2];
    socket_pair(fd);
    opts.format = FRAME_FORMAT_PACKETS;
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &opts, &c));
    CHECK_RETURNS(FRAME_ESTATE, exec_call(c, &what, LONG, NULL, &output));
    CHECK_RETURNS(FRAME_ESTATE, exec_start(c, &what, LONG));
    CHECK_RETURNS(FRAME_ESTATE,
                  exec_serve(c, "{\"cmd\":\"exec\",\"argv\":[\"true\"]}", NULL, NULL));
    CHECK_RETURNS(0, unread(fd[1]));
    frame_connection_free(c);
    close_both(fd);
}

int main(void)
{
    a_command_follows_what_was_read_ahead();
    each_gets_its_own_answer();
    an_answer_that_comes_too_late_is_nobodys();
    only_a_reply_is_one();
    a_refusal_is_heard_while_the_request_is_sent();
    a_stream_that_ends_or_lies_breaks_the_connection();
    a_connection_that_is_freed_ends_its_command();
    a_wait_for_a_command_can_be_ended();
    threads_get_their_own_output_or_none();
    a_forked_child_leaves_the_command_alone();
    packets_have_no_commands();
    return 0;
}
