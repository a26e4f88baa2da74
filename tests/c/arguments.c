/* What no call may be harmed by: NULL for each pointer, lengths and descriptors that cannot
 * be, options of older and newer programs; and that a thread has its own last error. */
#include "check.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>

static const char KEY[] = "sixteen bytes ok";

/* One of each object, made anew for each test. */
static struct frame *frame;
static struct frame *streamed;
static struct frame_sender *sender;
static struct frame_reader *reader;
static struct frame_writer *writer;
static struct frame_decoder *decoder;
static struct frame_builder *builder;
static struct auth_key *key;
static struct exec_output *output;
static int sockets[2];

static void set_up(void)
{
    socket_pair(sockets);
    CHECK_RETURNS(0, frame_send(sockets[0], "{\"s\":\"\"}", NULL, 0, NULL));
    CHECK_RETURNS(0, frame_recv(sockets[1], &frame, NULL));
    CHECK_RETURNS(0, frame_send(sockets[0], NULL, "hello", 5, NULL));
    CHECK_RETURNS(0, frame_recv_header(sockets[1], &streamed, NULL));
    CHECK_RETURNS(0, frame_sender_new(sockets[0], NULL, 5, &sender, NULL));
    CHECK_RETURNS(0, frame_reader_new(sockets[1], &reader, NULL));
    CHECK_RETURNS(0, frame_writer_new(sockets[0], &writer, NULL));
    CHECK_RETURNS(0, frame_decoder_new(&decoder, NULL));
    CHECK((builder = frame_builder_new()) != NULL);
    CHECK_RETURNS(0, auth_key_new(KEY, 16, 0, &key));
    CHECK_RETURNS(EXEC_EXITED, exec_run("true", 4, &output, NULL));
}

static void tear_down(void)
{
    frame_free(frame);
    frame_free(streamed);
    frame_sender_free(sender);
    frame_reader_free(reader);
    frame_writer_free(writer);
    frame_decoder_free(decoder);
    frame_builder_free(builder);
    auth_key_free(key);
    exec_output_free(output);
    close_both(sockets);
}

static void no_pointer_may_be_null(void)
{
    int fd = sockets[0];
    const char *text;
    const char *const argv[] = {"true", NULL};
    int64_t number = 0;
    bool truth;
    struct frame *received;
    struct frame_view view = {NULL, 0, NULL, 1}; /* a body that is not there */
    struct frame_sender *new_sender;
    struct auth_key *new_key;
    struct exec_output *new_output;
    struct exec_result result = EXEC_RESULT_INIT;
    const struct auth_key *keys[] = {key, NULL};
    const void *piece;
    char buf[4];

#define REFUSED(call) CHECK_RETURNS(FRAME_EINVAL, call)
    REFUSED(frame_default(NULL));
    REFUSED(frame_send(fd, NULL, NULL, 1, NULL));
    REFUSED(frame_recv(fd, NULL, NULL));
    REFUSED(frame_recv_header(fd, NULL, NULL));
    REFUSED(frame_header_string(NULL, "s", &text, NULL));
    REFUSED(frame_header_string(frame, NULL, &text, NULL));
    REFUSED(frame_header_string(frame, "s", NULL, NULL));
    REFUSED(frame_header_int(NULL, "s", &number));
    REFUSED(frame_header_int(frame, NULL, &number));
    REFUSED(frame_header_int(frame, "s", NULL));
    REFUSED(frame_header_bool(NULL, "s", &truth));
    REFUSED(frame_header_bool(frame, NULL, &truth));
    REFUSED(frame_header_bool(frame, "s", NULL));
    REFUSED(frame_body_read(NULL, buf, sizeof buf, NULL));
    REFUSED(frame_body_read(streamed, NULL, sizeof buf, NULL));
    REFUSED(frame_body_copy(NULL, fd, NULL));
    REFUSED(frame_body_gather(NULL, NULL));
    REFUSED(frame_body_skip(NULL, NULL));
    REFUSED(frame_sender_new(fd, NULL, 1, NULL, NULL));
    REFUSED(frame_sender_write(NULL, "x", 1, NULL));
    REFUSED(frame_sender_write(sender, NULL, 1, NULL));
    REFUSED(frame_sender_copy(NULL, fd, 1, NULL));
    REFUSED(frame_sender_finish(NULL));
    REFUSED(frame_packet_send(fd, NULL, 1, NULL));
    REFUSED(frame_packet_recv(fd, NULL, NULL));
    REFUSED(frame_packet_recv_into(fd, NULL, 1, &received, NULL));
    REFUSED(frame_recv_into(fd, NULL, 1, &view, &received, NULL));
    REFUSED(frame_recv_into(fd, NULL, 0, NULL, &received, NULL));
    REFUSED(frame_copy(NULL, &received));
    REFUSED(frame_copy(&view, NULL));
    REFUSED(frame_copy(&view, &received));
    REFUSED(frame_encode(NULL, 1, NULL, 0, NULL));
    REFUSED(frame_packet_encode(NULL, 1, 0, NULL));
    REFUSED(frame_decoder_new(NULL, NULL));
    REFUSED(frame_decoder_fed(NULL, 0));
    REFUSED(frame_decoder_feed(NULL, "x", 1));
    REFUSED(frame_decoder_feed(decoder, NULL, 1));
    REFUSED(frame_decoder_next(NULL, &view, 1));
    REFUSED(frame_decoder_next(decoder, NULL, 1));
    REFUSED(frame_decoder_next(decoder, &view, 0));
    REFUSED(frame_decoder_next_packet(NULL, &view, 1));
    REFUSED(frame_decoder_next_packet(decoder, NULL, 1));
    REFUSED(frame_decoder_next_header(NULL, &view));
    REFUSED(frame_decoder_next_header(decoder, NULL));
    REFUSED(frame_decoder_body(NULL, &piece));
    REFUSED(frame_decoder_body(decoder, NULL));
    REFUSED(frame_decoder_end(NULL));
    REFUSED(frame_reader_new(fd, NULL, NULL));
    REFUSED(frame_reader_tie(NULL, writer));
    REFUSED(frame_reader_next(NULL, &view, 1, 0));
    REFUSED(frame_reader_next(reader, NULL, 1, 0));
    REFUSED(frame_reader_next(reader, &view, 0, 0));
    REFUSED(frame_reader_next_packet(NULL, &view, 1, 0));
    REFUSED(frame_reader_next_packet(reader, NULL, 1, 0));
    REFUSED(frame_reader_next_header(NULL, &view, 0));
    REFUSED(frame_reader_next_header(reader, NULL, 0));
    REFUSED(frame_reader_read(NULL, buf, sizeof buf, 0));
    REFUSED(frame_reader_read(reader, NULL, 1, 0));
    REFUSED(frame_reader_copy(NULL, fd, 0));
    REFUSED(frame_reader_skip(NULL, 0));
    REFUSED(frame_writer_new(fd, NULL, NULL));
    REFUSED(frame_writer_send(NULL, NULL, NULL, 0, 0));
    REFUSED(frame_writer_send(writer, NULL, NULL, 1, 0));
    REFUSED(frame_writer_send_many(NULL, NULL, NULL, NULL, 0, 0));
    REFUSED(frame_writer_send_many(writer, NULL, NULL, &view.body_len, 1, 0));
    REFUSED(frame_writer_send_many(writer, NULL, &view.body, NULL, 1, 0));
    REFUSED(frame_writer_send_many(writer, NULL, &view.body, &view.body_len, 1, 0));
    REFUSED(frame_writer_send_packet(NULL, NULL, 0, 0));
    REFUSED(frame_writer_send_packet(writer, NULL, 1, 0));
    REFUSED(frame_writer_flush(NULL, 0));
    REFUSED(frame_builder_string(NULL, "k", "v"));
    REFUSED(frame_builder_string(builder, NULL, "v"));
    REFUSED(frame_builder_string(builder, "k", NULL));
    REFUSED(frame_builder_bytes(NULL, "k", "v", 1));
    REFUSED(frame_builder_bytes(builder, NULL, "v", 1));
    REFUSED(frame_builder_bytes(builder, "k", NULL, 1));
    REFUSED(frame_builder_int(NULL, "k", 1));
    REFUSED(frame_builder_int(builder, NULL, 1));
    REFUSED(frame_builder_bool(NULL, "k", true));
    REFUSED(frame_builder_bool(builder, NULL, true));
    REFUSED(frame_builder_json(NULL, "k", "1"));
    REFUSED(frame_builder_json(builder, NULL, "1"));
    REFUSED(frame_builder_json(builder, "k", NULL));
    REFUSED(frame_reply_error(fd, NULL, 0, NULL, NULL)); /* no error */
    REFUSED(frame_reply_hello(fd, NULL, NULL, NULL));
    REFUSED(auth_server(fd, NULL, 16, NULL));
    REFUSED(auth_client(fd, NULL, 16, NULL));
    REFUSED(auth_server_keys(fd, keys, 2, NULL, NULL));
    CHECK_RETURNS(FRAME_EKEY, auth_server_keys(fd, NULL, 1, NULL, NULL));
    CHECK_RETURNS(FRAME_EKEY, auth_server_keys(fd, keys, 0, NULL, NULL));
    REFUSED(auth_key_new(NULL, 16, 0, &new_key));
    REFUSED(auth_key_new(KEY, 16, 0, NULL));
    REFUSED(auth_key_load(NULL, 0, &new_key));
    REFUSED(auth_key_load("/", 0, NULL));
    REFUSED(auth_key_generate(NULL));
    REFUSED(exec_and_reply(fd, NULL, 1, NULL, NULL));
    REFUSED(exec_serve(fd, NULL, NULL, NULL));
    REFUSED(exec_run(NULL, 1, &new_output, NULL));
    REFUSED(exec_run("true", 4, NULL, NULL));
    REFUSED(exec_request(fd, NULL, 1, &new_output, NULL));
    REFUSED(exec_request(fd, "true", 4, NULL, NULL));
    REFUSED(exec_request_argv(fd, NULL, &new_output, NULL));
    REFUSED(exec_request_argv(fd, argv, NULL, NULL));
    REFUSED(exec_output_result(NULL, &result));
    REFUSED(exec_output_result(output, NULL));
#undef REFUSED

    /* The new objects whose other arguments were refused. */
    CHECK_RETURNS(FRAME_EBADF, frame_recv(-1, &received, NULL));
    CHECK(received == NULL && new_key == NULL && new_output == NULL);
    CHECK_RETURNS(FRAME_EBADJSON, frame_sender_new(fd, "", 1, &new_sender, NULL));
    CHECK(new_sender == NULL);
    CHECK(strcmp(frame_builder_text(builder, NULL), "{}") == 0);
    CHECK(frame_writer_left(writer) == 0);
    CHECK(unread(sockets[1]) == 5 + 4 + 15);
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
    CHECK(auth_key_bytes(NULL, &len) == NULL && len == 0);
    len = 99;
    CHECK(exec_output_stdout(NULL, &len) == NULL && len == 0);
    len = 99;
    CHECK(exec_output_stderr(NULL, &len) == NULL && len == 0);
    CHECK(exec_output_charset(NULL)[0] == '\0');
    CHECK(frame_header(NULL, NULL) == NULL && frame_body(NULL, NULL) == NULL);
    len = 99;
    CHECK(frame_decoder_space(NULL, &len) == NULL && len == 0);
    len = 99;
    CHECK(frame_decoder_rest(NULL, &len) == NULL && len == 0);
    len = 99;
    CHECK(frame_reader_rest(NULL, &len) == NULL && len == 0);
    CHECK(frame_decoder_rest(NULL, NULL) == NULL && frame_reader_rest(NULL, NULL) == NULL);
    CHECK(frame_body_left(NULL) == 0 && frame_sender_left(NULL) == 0);
    CHECK(frame_decoder_left(NULL) == 0 && frame_reader_left(NULL) == 0);
    CHECK(frame_writer_left(NULL) == 0);
    frame_free(NULL);
    frame_sender_free(NULL);
    frame_reader_free(NULL);
    frame_writer_free(NULL);
    frame_decoder_free(NULL);
    frame_builder_free(NULL);
    auth_key_free(NULL);
    exec_output_free(NULL);

    CHECK_RETURNS(0, frame_body_skip(streamed, NULL));
    CHECK_RETURNS(0, frame_sender_write(sender, "hello", 5, NULL));
    CHECK_RETURNS(0, frame_send(sockets[0], NULL, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_packet_send(sockets[0], NULL, 0, NULL));
    CHECK_RETURNS(0, frame_sender_write(sender, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_body_read(streamed, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_builder_bytes(builder, "k", NULL, 0));
    CHECK_RETURNS(FRAME_EKEY, auth_server(sockets[0], NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EKEY, auth_client(sockets[0], NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EKEY, auth_key_new(NULL, 0, 0, &(struct auth_key *){NULL}));
}

static void no_length_is_too_long_to_be_refused(void)
{
    static const size_t lengths[] = {SIZE_MAX, SIZE_MAX / 2 + 1};
    struct auth_key *new_key;
    struct exec_output *new_output;
    struct frame *rest;
    struct frame_view view = {NULL, 0, NULL, 0};
    char buf[4] = "buf";
    size_t i;
    for (i = 0; i < 2; i++) {
        size_t len = lengths[i];
        CHECK_RETURNS(FRAME_EINVAL, frame_send(sockets[0], NULL, buf, len, NULL));
        CHECK_RETURNS(FRAME_EINVAL, frame_packet_send(sockets[0], buf, len, NULL));
        CHECK_RETURNS(FRAME_EINVAL, frame_sender_write(sender, buf, len, NULL));
        CHECK_RETURNS(FRAME_EINVAL, frame_body_read(streamed, buf, len, NULL));
        CHECK_RETURNS(FRAME_EINVAL, frame_packet_recv_into(sockets[1], buf, len, &rest, NULL));
        CHECK_RETURNS(FRAME_EINVAL, frame_recv_into(sockets[1], buf, len, &view, &rest, NULL));
        CHECK_RETURNS(FRAME_EINVAL, frame_reader_next(reader, &view, len, 0));
        CHECK_RETURNS(FRAME_EINVAL, frame_reader_read(reader, buf, len, 0));
        CHECK_RETURNS(FRAME_EINVAL, frame_writer_send(writer, NULL, buf, len, 0));
        CHECK_RETURNS(FRAME_EINVAL, frame_writer_send_packet(writer, buf, len, 0));
        CHECK_RETURNS(FRAME_EINVAL, frame_decoder_feed(decoder, buf, len));
        CHECK_RETURNS(FRAME_EINVAL, frame_decoder_next(decoder, &view, len));
        view.body = buf;
        view.body_len = len;
        CHECK_RETURNS(FRAME_EINVAL, frame_copy(&view, &rest));
        CHECK_RETURNS(FRAME_EINVAL, frame_builder_bytes(builder, "k", buf, len));
        CHECK_RETURNS(FRAME_EINVAL, auth_server(sockets[0], buf, len, NULL));
        CHECK_RETURNS(FRAME_EINVAL, auth_client(sockets[0], buf, len, NULL));
        CHECK_RETURNS(FRAME_EINVAL, auth_key_new(buf, len, 0, &new_key));
        CHECK_RETURNS(FRAME_EINVAL, exec_run(buf, len, &new_output, NULL));
        CHECK_RETURNS(FRAME_EINVAL, exec_and_reply(sockets[0], buf, len, NULL, NULL));
        CHECK_RETURNS(FRAME_EINVAL, exec_request(sockets[0], buf, len, &new_output, NULL));
    }
    {
        const struct auth_key *keys[] = {key};
        CHECK_RETURNS(FRAME_EINVAL, auth_server_keys(sockets[0], keys, SIZE_MAX, NULL, NULL));
    }
}

static void bad_descriptor_in_a_buffer(int fd, int reading, int writing)
{
    struct frame_reader *new_reader = (struct frame_reader *)KEY;
    struct frame_writer *new_writer = (struct frame_writer *)KEY;
    struct frame_view view;
    int i;
    if (fd < 0) {
        CHECK_RETURNS(FRAME_EBADF, frame_reader_new(fd, &new_reader, NULL));
        CHECK_RETURNS(FRAME_EBADF, frame_writer_new(fd, &new_writer, NULL));
        CHECK(new_reader == NULL && new_writer == NULL);
        return;
    }
    for (i = 0; i < 2; i++) {
        int timeout_ms = i == 0 ? FRAME_NO_TIMEOUT : 1000;
        CHECK_RETURNS(0, frame_reader_new(fd, &new_reader, NULL));
        CHECK_RETURNS(reading, frame_reader_next(new_reader, &view, 1, timeout_ms));
        frame_reader_free(new_reader);
        CHECK_RETURNS(0, frame_writer_new(fd, &new_writer, NULL));
        CHECK_RETURNS(0, frame_writer_send(new_writer, NULL, "hello", 5, timeout_ms));
        CHECK_RETURNS(writing, frame_writer_flush(new_writer, timeout_ms));
        frame_writer_free(new_writer);
    }
}

/* Everything that takes a descriptor, with one that is no good. */
static void bad_descriptor(int fd, int reading, int writing)
{
    struct frame_view view;
    struct frame *received = (struct frame *)KEY;
    struct frame_sender *new_sender = (struct frame_sender *)KEY;
    struct frame_options opts = FRAME_OPTIONS_INIT;
    struct auth_options auth = AUTH_OPTIONS_INIT;
    const char *none = NULL;
    char buf[4];
    opts.timeout_ms = auth.timeout_ms = 1000;
    bad_descriptor_in_a_buffer(fd, reading, writing);

    CHECK_RETURNS(writing, frame_send(fd, NULL, "hello", 5, &opts));
    CHECK_RETURNS(writing, frame_send(fd, NULL, "hello", 5, NULL));
    CHECK_RETURNS(writing, frame_packet_send(fd, "hello", 5, NULL));
    CHECK_RETURNS(writing, frame_sender_new(fd, NULL, 5, &new_sender, NULL));
    CHECK(new_sender == NULL);
    CHECK_RETURNS(writing, frame_reply_error(fd, NULL, FRAME_EACCES, NULL, NULL));
    CHECK_RETURNS(writing, frame_reply_hello(fd, NULL, &none, NULL));
    CHECK_RETURNS(reading, frame_recv(fd, &received, &opts));
    CHECK_RETURNS(reading, frame_recv(fd, &received, NULL));
    CHECK(received == NULL);
    CHECK_RETURNS(reading, frame_recv_header(fd, &received, NULL));
    CHECK_RETURNS(reading, frame_packet_recv(fd, &received, NULL));
    CHECK_RETURNS(reading, frame_packet_recv_into(fd, buf, sizeof buf, &received, NULL));
    CHECK_RETURNS(reading, frame_recv_into(fd, buf, sizeof buf, &view, &received, NULL));
    CHECK_RETURNS(writing, auth_server(fd, KEY, 16, &auth));
    CHECK_RETURNS(reading, auth_client(fd, KEY, 16, &auth));
    CHECK_RETURNS(writing, frame_body_copy(streamed, fd, &opts));
    CHECK_RETURNS(reading, frame_sender_copy(sender, fd, 5, &opts));
    if (fd < 0) {
        auth.write_fd = fd;
        CHECK_RETURNS(FRAME_EBADF, auth_server(sockets[0], KEY, 16, &auth));
    }
}

static void every_bad_descriptor_is_refused(void)
{
    int ends[2], fd;
    bad_descriptor(-1, FRAME_EBADF, FRAME_EBADF);
    tear_down();
    set_up();
    bad_descriptor(9999, FRAME_EBADF, FRAME_EBADF);
    CHECK(errno == EBADF);
    tear_down();
    set_up();
    CHECK((fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
    bad_descriptor(fd, FRAME_EIO, FRAME_EBADF);
    CHECK(errno == EISDIR);
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
    struct auth_options auth = AUTH_OPTIONS_INIT;
    struct exec_options exec = EXEC_OPTIONS_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct frame *received;

    newer.known.size = sizeof newer;
    CHECK_RETURNS(0, frame_packet_send(sockets[0], NULL, 0, &newer.known));
    newer.later = 1;
    CHECK_RETURNS(FRAME_EINVAL, frame_packet_send(sockets[0], NULL, 0, &newer.known));
    CHECK(strstr(frame_last_error(), "frame_options") != NULL);

    /* One that ends before max_header: what lies behind it is not looked at. */
    older.size = offsetof(struct frame_options, max_header);
    older.timeout_ms = FRAME_DONT_WAIT;
    older.max_header = FRAME_NO_LIMIT - 1;
    older.prefix = 77;
    CHECK_RETURNS(0, frame_packet_send(sockets[0], NULL, 0, &older));
    older.size = sizeof older;
    CHECK_RETURNS(FRAME_EINVAL, frame_packet_send(sockets[0], NULL, 0, &older));

    older = (struct frame_options)FRAME_OPTIONS_INIT;
    older.size = 0;
    CHECK_RETURNS(FRAME_EINVAL, frame_send(sockets[0], NULL, NULL, 0, &older));
    CHECK_RETURNS(FRAME_EINVAL, frame_recv(sockets[1], &received, &older));
    CHECK_RETURNS(FRAME_EINVAL, frame_body_skip(streamed, &older));
    CHECK_RETURNS(FRAME_EINVAL, frame_sender_write(sender, "x", 1, &older));
    auth.size = 3;
    CHECK_RETURNS(FRAME_EINVAL, auth_server(sockets[0], KEY, 16, &auth));
    exec.size = 0;
    CHECK_RETURNS(FRAME_EINVAL, exec_run("true", 4, &(struct exec_output *){NULL}, &exec));

    older = (struct frame_options)FRAME_OPTIONS_INIT;
    older.max_depth = 128;
    CHECK_RETURNS(FRAME_EINVAL, frame_recv(sockets[1], &received, &older));
    older.max_depth = 0;
    older.max_header = ((uint64_t)16 << 20) + 1;
    CHECK_RETURNS(FRAME_EINVAL, frame_recv(sockets[1], &received, &older));
    auth = (struct auth_options)AUTH_OPTIONS_INIT;
    auth.flags = 2;
    CHECK_RETURNS(FRAME_EINVAL, auth_server(sockets[0], KEY, 16, &auth));

    /* A result is written no further than the caller says. */
    result.size = offsetof(struct exec_result, error);
    result.error = 77;
    CHECK_RETURNS(0, exec_output_result(output, &result));
    CHECK(result.outcome == EXEC_EXITED && result.exit_code == 0 && result.error == 77);
    result.size = 0;
    CHECK_RETURNS(FRAME_EINVAL, exec_output_result(output, &result));
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
    CHECK_RETURNS(0, frame_packet_send(sockets[0], NULL, 0, NULL));
    CHECK(frame_last_error() == before && strcmp(before, copy) == 0);
}

static void what_is_no_system_error_leaves_errno_alone(void)
{
    const char *text;
    errno = 77;
    CHECK_RETURNS(FRAME_EMISSING, frame_header_string(frame, "none", &text, NULL));
    CHECK_RETURNS(FRAME_EBADJSON, frame_send(sockets[0], "[]", NULL, 0, NULL));
    CHECK(errno == 77);
    CHECK_RETURNS(FRAME_EBADF, frame_send(9999, NULL, NULL, 0, NULL));
    CHECK(errno == EBADF);
}

int main(void)
{
    static void (*const tests[])(void) = {
        no_pointer_may_be_null,
        where_nothing_is_legal_null_is,
        no_length_is_too_long_to_be_refused,
        every_bad_descriptor_is_refused,
        options_of_older_and_newer_programs_are_understood,
        each_thread_has_its_own_last_error,
        what_is_no_system_error_leaves_errno_alone,
    };
    size_t i;
    for (i = 0; i < sizeof tests / sizeof *tests; i++) {
        set_up();
        tests[i]();
        tear_down();
    }
    return 0;
}
