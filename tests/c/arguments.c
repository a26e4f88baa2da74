/* What no call may be harmed by: NULL for each pointer, lengths and descriptors that cannot
 * be, options of older and newer programs; and that a thread has its own last error. */
#include "check.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>

static const char KEY[] = "sixteen bytes ok";

/* One of each object, made anew for each test. */
static struct frame *frame;
static struct frame_connection *connection;
static struct frame_decoder *decoder;
static struct frame_builder *builder;
static struct auth_keyring *ring;
static struct exec_output *output;
static int sockets[2];

static void set_up(void)
{
    socket_pair(sockets);
    CHECK_RETURNS(0, frame_send(sockets[0], "{\"s\":\"\"}", NULL, 0, NULL));
    CHECK_RETURNS(0, frame_recv(sockets[1], &frame, NULL));
    CHECK_RETURNS(0, frame_connection_new(sockets[0], sockets[0], NULL, &connection));
    CHECK_RETURNS(0, frame_decoder_new(NULL, &decoder));
    CHECK((builder = frame_builder_new()) != NULL);
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    CHECK_RETURNS(0, auth_keyring_add(ring, NULL, KEY, 16, 0));
    CHECK_RETURNS(EXEC_EXITED, exec_run("true", 4, NULL, NULL, &output));
}

static void tear_down(void)
{
    frame_free(frame);
    frame_connection_free(connection);
    frame_decoder_free(decoder);
    frame_builder_free(builder);
    auth_keyring_free(ring);
    exec_output_free(output);
    close_both(sockets);
}

#define REFUSED(call) CHECK_RETURNS(FRAME_EINVAL, call)

static void no_pointer_of_a_message_may_be_null(void)
{
    static const char header[] = "{\"s\":\"\"}";
    int fd = sockets[0];
    int64_t number = 0;
    bool truth;
    struct frame *received = (struct frame *)KEY;
    struct frame_decoder *new_decoder = (struct frame_decoder *)KEY;
    struct frame_options bad = FRAME_OPTIONS_INIT;
    struct frame_view view = {NULL, 0, NULL, 0};
    const void *piece;
    const char *json;
    char buf[4];
    bad.flags = 1;

    REFUSED(frame_send(fd, NULL, NULL, 1, NULL));
    REFUSED(frame_recv(fd, NULL, NULL));
    REFUSED(frame_recv_into(fd, NULL, 1, NULL, &view, &received));
    REFUSED(frame_recv_into(fd, NULL, 0, NULL, NULL, &received));
    CHECK(received == NULL);
    REFUSED(frame_header_string(header, NULL, buf, sizeof buf));
    REFUSED(frame_header_int(header, NULL, &number));
    REFUSED(frame_header_int(header, "s", NULL));
    REFUSED(frame_header_bool(header, NULL, &truth));
    REFUSED(frame_header_bool(header, "s", NULL));
    REFUSED(frame_header_json(header, NULL, &json));
    REFUSED(frame_header_json(header, "s", NULL));
    REFUSED(frame_decoder_new(NULL, NULL));
    REFUSED(frame_decoder_new(&bad, &new_decoder));
    CHECK(new_decoder == NULL);
    REFUSED(frame_decoder_commit(NULL, 0));
    REFUSED(frame_decoder_next(NULL, &view, 1));
    REFUSED(frame_decoder_next(decoder, NULL, 1));
    REFUSED(frame_decoder_next(decoder, &view, 0));
    REFUSED(frame_decoder_next_header(NULL, &view, NULL));
    REFUSED(frame_decoder_next_header(decoder, NULL, NULL));
    REFUSED(frame_decoder_body(NULL, &piece));
    REFUSED(frame_decoder_body(decoder, NULL));
    REFUSED(frame_decoder_end(NULL));
    CHECK(unread(sockets[1]) == 0);
}

static void no_pointer_of_a_builder_may_be_null(void)
{
    int code[5], i;
    for (i = 0; i < 7; i++) {
        struct frame_builder *b = frame_builder_new();
        switch (i) {
        case 0: REFUSED(frame_builder_string(b, NULL, "v", 1)); break;
        case 1: REFUSED(frame_builder_string(b, "k", NULL, 1)); break;
        case 2: REFUSED(frame_builder_int(b, NULL, 1)); break;
        case 3: REFUSED(frame_builder_bool(b, NULL, true)); break;
        case 4: REFUSED(frame_builder_json(b, NULL, "1")); break;
        case 5: REFUSED(frame_builder_json(b, "k", NULL)); break;
        case 6: REFUSED(frame_builder_merge(b, NULL)); break;
        }
        frame_builder_free(b);
    }
    /* But a builder: there was no memory for it. */
    code[0] = frame_builder_string(NULL, "k", "v", 1);
    code[1] = frame_builder_int(NULL, "k", 1);
    code[2] = frame_builder_bool(NULL, "k", true);
    code[3] = frame_builder_json(NULL, "k", "1");
    code[4] = frame_builder_merge(NULL, "{}");
    for (i = 0; i < 5; i++)
        CHECK_RETURNS(FRAME_ENOMEM, code[i]);
}

static void no_pointer_of_a_connection_may_be_null(void)
{
    int fd = sockets[0], which;
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct frame_connection *none = NULL, *made = (struct frame_connection *)KEY;
    struct frame_view view = {NULL, 0, NULL, 1}; /* a body that is not there */
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_output *new_output = (struct exec_output *)KEY;
    struct frame *received = (struct frame *)KEY;
    const void *bytes;
    size_t len;
    char buf[4];
    what.command = "true";

    REFUSED(frame_connection_new(fd, fd, NULL, NULL));
    REFUSED(frame_connect(NULL, NULL, &made));
    CHECK(made == NULL);
    REFUSED(frame_connect("unix:/", NULL, NULL));
    REFUSED(frame_listen(NULL, 0, 0));
    REFUSED(frame_accept(fd, NULL, 0, NULL));
    REFUSED(frame_connection_recv(none, 0, &received));
    CHECK(received == NULL);
    REFUSED(frame_connection_recv(connection, 0, NULL));
    REFUSED(frame_connection_next(none, &view, 1, 0));
    REFUSED(frame_connection_next(connection, NULL, 1, 0));
    REFUSED(frame_connection_next(connection, &view, 0, 0));
    REFUSED(frame_connection_recv_header(none, 0, &view, NULL));
    REFUSED(frame_connection_recv_header(connection, 0, NULL, NULL));
    REFUSED(frame_connection_read(none, buf, sizeof buf, 0));
    REFUSED(frame_connection_read(connection, NULL, 1, 0));
    REFUSED(frame_connection_read_to(none, fd, 0));
    REFUSED(frame_connection_send(none, NULL, NULL, 0, 0));
    REFUSED(frame_connection_send(connection, NULL, NULL, 1, 0));
    REFUSED(frame_connection_queue(none, &view, 0, 0));
    REFUSED(frame_connection_queue(connection, NULL, 1, 0));
    view.body = NULL, view.body_len = 1;
    REFUSED(frame_connection_queue(connection, &view, 1, 0));
    REFUSED(frame_connection_flush(none, 0));
    REFUSED(frame_connection_begin(none, NULL, 1));
    REFUSED(frame_connection_write(none, "x", 1, 0));
    REFUSED(frame_connection_write(connection, NULL, 1, 0));
    REFUSED(frame_connection_write_from(none, fd, 1, 0));
    REFUSED(frame_connection_call(none, "{}", NULL, 0, 9, &received));
    REFUSED(frame_connection_call(connection, NULL, NULL, 0, 9, &received));
    REFUSED(frame_connection_call(connection, "{}", NULL, 0, 9, NULL));
    REFUSED(frame_connection_reply(none, "{}", NULL, NULL, 0, 0));
    REFUSED(frame_connection_reply(connection, NULL, NULL, NULL, 0, 0));
    REFUSED(frame_connection_reply_error(none, "{}", FRAME_EIO, NULL, 0));
    REFUSED(frame_connection_reply_error(connection, NULL, FRAME_EIO, NULL, 0));
    REFUSED(frame_connection_end(none, false, 0));
    REFUSED(frame_connection_abort(none));
    REFUSED(frame_connection_unread(none, &bytes, &len));
    REFUSED(frame_connection_unread(connection, NULL, &len));
    REFUSED(frame_connection_unread(connection, &bytes, NULL));
    REFUSED(frame_connection_inspect(none, &state));
    REFUSED(frame_connection_inspect(connection, NULL));
    REFUSED(exec_call(none, &what, 9, NULL, &new_output));
    REFUSED(exec_call(connection, NULL, 9, NULL, &new_output));
    REFUSED(exec_call(connection, &what, 9, NULL, NULL));
    REFUSED(exec_start(none, &what, 9));
    REFUSED(exec_start(connection, NULL, 9));
    REFUSED(exec_read(none, buf, sizeof buf, 0, &which));
    REFUSED(exec_write(none, "x", 1, 0));
    REFUSED(exec_end_input(none, 0));
    REFUSED(exec_finish(none, 0, NULL));
    REFUSED(exec_signal(none, 1));
    REFUSED(exec_resize(none, 1, 1));
    REFUSED(exec_serve(none, "{}", NULL, NULL));
    REFUSED(exec_serve(connection, NULL, NULL, NULL));
    REFUSED(exec_and_reply(fd, NULL, 1, NULL, NULL));
    REFUSED(exec_run(NULL, 1, NULL, NULL, &new_output));
    REFUSED(exec_run("true", 4, NULL, NULL, NULL));
    CHECK(new_output == NULL);
    CHECK_RETURNS(0, frame_connection_inspect(connection, &state));
    CHECK(state.broken == 0 && state.queued == 0 && state.to_send == 0);
    CHECK(unread(sockets[1]) == 0);
}

static void no_pointer_of_a_key_may_be_null(void)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    char buf[16];
    opts.flags = AUTH_PLAIN;
    REFUSED(auth_server(sockets[0], NULL, 16, NULL));
    REFUSED(auth_client(sockets[0], NULL, 16, NULL));
    REFUSED(auth_key_load(NULL, 0, buf, sizeof buf));
    REFUSED(auth_key_load("/", 0, NULL, 16));
    REFUSED(auth_key_generate(NULL));
    REFUSED(auth_keyring_new(NULL));
    REFUSED(auth_keyring_add(NULL, NULL, KEY, 16, 0));
    REFUSED(auth_keyring_add(ring, "a", NULL, 16, 0));
    REFUSED(auth_keyring_load(NULL, "/", 0));
    REFUSED(auth_keyring_load(ring, NULL, 0));
    REFUSED(frame_connection_auth_client(NULL, KEY, 16, &opts));
    REFUSED(frame_connection_auth_client(connection, NULL, 16, &opts));
    REFUSED(frame_connection_auth_server(NULL, ring, &opts, NULL));
    REFUSED(frame_connection_auth_server(connection, NULL, &opts, NULL));
    CHECK(unread(sockets[1]) == 0);
}

static void where_nothing_is_legal_null_is(void)
{
    size_t len = 99;
    CHECK(frame_header(NULL, &len) == NULL && len == 0);
    len = 99;
    CHECK(frame_body(NULL, &len) == NULL && len == 0);
    len = 99;
    CHECK(frame_builder_text(NULL, &len) == NULL && len == 0);
    len = 99;
    CHECK(exec_output_bytes(NULL, EXEC_STDOUT, &len) == NULL && len == 0);
    CHECK(frame_header(NULL, NULL) == NULL && frame_body(NULL, NULL) == NULL);
    len = 99;
    CHECK(frame_decoder_reserve(NULL, &len) == NULL && len == 0);
    len = 99;
    CHECK(frame_decoder_unread(NULL, &len) == NULL && len == 0);
    CHECK(frame_decoder_unread(NULL, NULL) == NULL);
    frame_free(NULL);
    frame_connection_free(NULL);
    frame_decoder_free(NULL);
    frame_builder_free(NULL);
    auth_keyring_free(NULL);
    exec_output_free(NULL);

    CHECK_RETURNS(0, frame_send(sockets[1], NULL, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_connection_send(connection, NULL, NULL, 0, 0));
    CHECK_RETURNS(0, frame_connection_queue(connection, NULL, 0, 0));
    CHECK_RETURNS(0, frame_connection_recv_header(connection, 0, &(struct frame_view){0}, NULL));
    CHECK_RETURNS(0, frame_builder_string(builder, "k", NULL, 0));
    CHECK_RETURNS(FRAME_EKEY, auth_server(sockets[0], NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EKEY, auth_client(sockets[0], NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EKEY, auth_keyring_add(ring, "none", NULL, 0, 0));
}

static void no_length_is_too_long_to_be_refused(void)
{
    static const size_t lengths[] = {SIZE_MAX, SIZE_MAX / 2 + 1};
    struct exec_output *new_output;
    struct frame *rest;
    struct frame_view view = {NULL, 0, NULL, 0};
    char buf[4] = "buf";
    size_t i;
    for (i = 0; i < 2; i++) {
        size_t len = lengths[i];
        REFUSED(frame_send(sockets[0], NULL, buf, len, NULL));
        REFUSED(frame_recv_into(sockets[1], buf, len, NULL, &view, &rest));
        REFUSED(frame_encode(buf, len, NULL, 0, NULL));
        REFUSED(frame_decoder_next(decoder, &view, len));
        REFUSED(frame_connection_next(connection, &view, len, 0));
        REFUSED(frame_connection_read(connection, buf, len, 0));
        REFUSED(frame_connection_send(connection, NULL, buf, len, 0));
        REFUSED(frame_connection_queue(connection, &view, len, 0));
        REFUSED(frame_connection_write(connection, buf, len, 0));
        REFUSED(auth_server(sockets[0], buf, len, NULL));
        REFUSED(auth_client(sockets[0], buf, len, NULL));
        REFUSED(auth_key_load("/", 0, buf, len));
        REFUSED(auth_keyring_add(ring, "long", buf, len, 0));
        REFUSED(exec_run(buf, len, NULL, NULL, &new_output));
        REFUSED(exec_and_reply(sockets[0], buf, len, NULL, NULL));
    }
    REFUSED(frame_builder_string(builder, "k", buf, SIZE_MAX / 2 + 1));
}

/* Everything that takes a descriptor, with one that is no good. */
static void bad_descriptor(int fd, int reading, int writing)
{
    struct frame_view view;
    struct frame *received = (struct frame *)KEY;
    struct frame_options opts = FRAME_OPTIONS_INIT;
    struct auth_options auth = AUTH_OPTIONS_INIT;
    char buf[4];
    opts.timeout_ms = auth.timeout_ms = 1000;

    CHECK_RETURNS(writing, frame_send(fd, NULL, "hello", 5, &opts));
    CHECK_RETURNS(writing, frame_send(fd, NULL, "hello", 5, NULL));
    CHECK_RETURNS(reading, frame_recv(fd, &received, &opts));
    CHECK_RETURNS(reading, frame_recv(fd, &received, NULL));
    CHECK(received == NULL);
    CHECK_RETURNS(reading, frame_recv_into(fd, buf, sizeof buf, NULL, &view, &received));
    opts.format = FRAME_FORMAT_PACKETS;
    CHECK_RETURNS(writing, frame_send(fd, NULL, "hello", 5, &opts));
    CHECK_RETURNS(reading, frame_recv(fd, &received, &opts));
    CHECK_RETURNS(writing, auth_server(fd, KEY, 16, &auth));
    CHECK_RETURNS(reading, auth_client(fd, KEY, 16, &auth));
    CHECK_RETURNS(0, frame_connection_begin(connection, NULL, 5));
    CHECK_RETURNS(reading, frame_connection_write_from(connection, fd, 5, 1000));
    CHECK_RETURNS(0, frame_send(sockets[1], NULL, "hello", 5, NULL));
    CHECK_RETURNS(0, frame_connection_recv_header(connection, 1000, &view, NULL));
    CHECK_RETURNS(writing, frame_connection_read_to(connection, fd, 1000));
    if (fd < 0) {
        auth.write_fd = fd;
        CHECK_RETURNS(FRAME_EBADF, auth_server(sockets[0], KEY, 16, &auth));
    }
}

static void every_bad_descriptor_is_refused(void)
{
    struct frame_connection *c = (struct frame_connection *)KEY;
    int ends[2], fd;
    bad_descriptor(-1, FRAME_EBADF, FRAME_EBADF);
    tear_down();
    set_up();
    bad_descriptor(9999, FRAME_EBADF, FRAME_EBADF);
    CHECK(errno == EBADF);
    CHECK_RETURNS(FRAME_EBADF, frame_connection_new(9999, 9999, NULL, &c));
    CHECK(c == NULL);
    CHECK_RETURNS(FRAME_EBADF, frame_accept(9999, NULL, 0, &c));
    tear_down();
    set_up();
    CHECK((fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
    bad_descriptor(fd, FRAME_EIO, FRAME_EBADF);
    CHECK(errno == EISDIR || errno == EBADF);
    CHECK(close(fd) == 0);
    CHECK((fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    CHECK_RETURNS(FRAME_EIO, frame_send(fd, NULL, "hello", 5, NULL));
    CHECK_RETURNS(FRAME_EIO, frame_recv(fd, &(struct frame *){NULL}, NULL));
    CHECK(errno == EINVAL);
    CHECK(close(fd) == 0);

    CHECK(pipe(ends) == 0);
    CHECK_RETURNS(FRAME_EBADF, frame_recv(ends[1], &(struct frame *){NULL}, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_send(ends[0], NULL, "hello", 5, NULL));
    close_both(ends);
}

static void options_of_older_and_newer_programs_are_understood(void)
{
    struct {
        struct frame_options known;
        uint64_t later;
    } newer = {FRAME_OPTIONS_INIT, 0};
    struct frame_options older = FRAME_OPTIONS_INIT;
    struct frame_connection_options of_connection = FRAME_CONNECTION_OPTIONS_INIT;
    struct auth_options auth = AUTH_OPTIONS_INIT;
    struct auth_result who = AUTH_RESULT_INIT;
    struct exec_options exec = EXEC_OPTIONS_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *new_output;
    struct frame *received;

    newer.known.size = sizeof newer;
    CHECK_RETURNS(0, frame_send(sockets[0], NULL, NULL, 0, &newer.known));
    newer.later = 1;
    REFUSED(frame_send(sockets[0], NULL, NULL, 0, &newer.known));
    CHECK(strstr(frame_last_error(), "frame_options") != NULL);

    /* One that ends before max_header: what lies behind it is not looked at. */
    older.size = offsetof(struct frame_options, max_header);
    older.timeout_ms = FRAME_DONT_WAIT;
    older.max_header = FRAME_NO_LIMIT - 1;
    older.prefix = 77;
    CHECK_RETURNS(0, frame_send(sockets[0], NULL, NULL, 0, &older));
    older.size = sizeof older;
    REFUSED(frame_send(sockets[0], NULL, NULL, 0, &older));

    older = (struct frame_options)FRAME_OPTIONS_INIT;
    older.size = 0;
    REFUSED(frame_send(sockets[0], NULL, NULL, 0, &older));
    REFUSED(frame_recv(sockets[1], &received, &older));
    REFUSED(frame_encode(NULL, 0, NULL, 0, &older));
    of_connection.size = 0;
    REFUSED(frame_connection_new(sockets[0], sockets[0], &of_connection,
                                 &(struct frame_connection *){NULL}));
    auth.size = 3;
    REFUSED(auth_server(sockets[0], KEY, 16, &auth));
    exec.size = 0;
    REFUSED(exec_run("true", 4, &exec, NULL, &new_output));

    older = (struct frame_options)FRAME_OPTIONS_INIT;
    older.max_depth = 128;
    REFUSED(frame_recv(sockets[1], &received, &older));
    older.max_depth = 0;
    older.max_header = ((uint64_t)16 << 20) + 1;
    REFUSED(frame_recv(sockets[1], &received, &older));
    auth = (struct auth_options)AUTH_OPTIONS_INIT;
    auth.flags = AUTH_GROUP_READABLE;
    REFUSED(auth_server(sockets[0], KEY, 16, &auth));
    auth.flags = AUTH_PLAIN;
    who.size = 0;
    REFUSED(frame_connection_auth_server(connection, ring, &auth, &who));

    /* A result is written no further than the caller says. */
    result.size = offsetof(struct exec_result, error);
    result.error = 77;
    CHECK_RETURNS(EXEC_EXITED, exec_run("true", 4, NULL, &result, &new_output));
    exec_output_free(new_output);
    CHECK(result.outcome == EXEC_EXITED && result.exit_code == 0 && result.error == 77);
    result.size = 0;
    REFUSED(exec_run("true", 4, NULL, &result, &new_output));
}

static void *fail_otherwise(void *argument)
{
    CHECK(frame_last_error()[0] == '\0');
    CHECK_RETURNS(FRAME_EBADF, frame_send(-1, NULL, NULL, 0, NULL));
    CHECK(strstr(frame_last_error(), "-1 is not") != NULL);
    return argument;
}

static void each_thread_has_its_own_last_error(void)
{
    pthread_t thread;
    const char *before;
    char copy[256];
    CHECK_RETURNS(FRAME_EBADJSON, frame_send(sockets[0], "[]", NULL, 0, NULL));
    before = frame_last_error();
    CHECK(snprintf(copy, sizeof copy, "%s", before) > 0);
    CHECK(pthread_create(&thread, NULL, fail_otherwise, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_RETURNS(0, frame_send(sockets[0], NULL, NULL, 0, NULL));
    CHECK(frame_last_error() == before && strcmp(before, copy) == 0);
    /* The next failure of this thread is told in the same place, with the line of its code. */
    CHECK_RETURNS(FRAME_EBADF, frame_send(-1, NULL, NULL, 0, NULL));
    CHECK(frame_last_error() == before && strcmp(before, copy) != 0);
    CHECK(strncmp(before, frame_strerror(FRAME_EBADF), strlen(frame_strerror(FRAME_EBADF))) == 0);
}

static void what_is_no_system_error_has_no_errno(void)
{
    errno = 77;
    CHECK_RETURNS(FRAME_EMISSING, frame_header_string("{}", "none", NULL, 0));
    CHECK_RETURNS(FRAME_EBADJSON, frame_send(sockets[0], "[]", NULL, 0, NULL));
    CHECK(errno == 0);
    CHECK_RETURNS(FRAME_EBADF, frame_send(9999, NULL, NULL, 0, NULL));
    CHECK(errno == EBADF);
}

int main(void)
{
    static void (*const tests[])(void) = {
        no_pointer_of_a_message_may_be_null,
        no_pointer_of_a_builder_may_be_null,
        no_pointer_of_a_connection_may_be_null,
        no_pointer_of_a_key_may_be_null,
        where_nothing_is_legal_null_is,
        no_length_is_too_long_to_be_refused,
        every_bad_descriptor_is_refused,
        options_of_older_and_newer_programs_are_understood,
        each_thread_has_its_own_last_error,
        what_is_no_system_error_has_no_errno,
    };
    size_t i;
    for (i = 0; i < sizeof tests / sizeof *tests; i++) {
        set_up();
        tests[i]();
        tear_down();
    }
    return 0;
}
