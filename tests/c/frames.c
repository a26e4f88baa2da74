/* Frames, packets, streamed bodies and the header builder, as C programs use them. */
#include "check.h"

#include <limits.h>
#include <signal.h>

static void a_frame_goes_whole(void)
{
    int fd[2];
    struct frame *frame = NULL;
    const char *header;
    size_t len = 99;
    socket_pair(fd);

    CHECK_RETURNS(0, frame_send(fd[0], " {\"cmd\" : \"x\"} ", "bytes\0too", 9, NULL));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    header = frame_header(frame, &len);
    CHECK_BYTES("{\"data_size\":9,\"cmd\" : \"x\"} ", header, len);
    CHECK(header[len] == '\0' && frame_header(frame, NULL) == header);
    CHECK_BODY("bytes\0too", frame);
    CHECK(frame_body_left(frame) == 0);
    frame_free(frame);

    CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK(strcmp(frame_header(frame, NULL), "{\"data_size\":0}") == 0);
    CHECK(frame_body(frame, &len) == NULL && len == 0);
    frame_free(frame);

    CHECK(close(fd[0]) == 0);
    frame = (struct frame *)fd;
    CHECK_RETURNS(FRAME_ECLOSED, frame_recv(fd[1], &frame, NULL));
    CHECK(frame == NULL);
    CHECK(close(fd[1]) == 0);
}

static void a_failure_says_what_is_wrong(void)
{
    int fd[2];
    struct frame *frame = NULL;
    static const struct {
        const char *header;
        int code;
    } refused[] = {
        {"", FRAME_EBADJSON},
        {"[]", FRAME_EBADJSON},
        {"{} {}", FRAME_EBADJSON},
        {"{\"a\":1e400}", FRAME_EBADJSON},
        {"{\"data_size\":1}", FRAME_EBADFIELD},
        {"{\"a\":\"caf\xe9\"}", FRAME_EINVAL},
    };
    size_t i;
    socket_pair(fd);
    for (i = 0; i < sizeof refused / sizeof *refused; i++)
        CHECK_RETURNS(refused[i].code, frame_send(fd[0], refused[i].header, NULL, 0, NULL));
    CHECK(unread(fd[1]) == 0);

    write_all(fd[0], "GET / HTTP/1.1\r\n", 16);
    CHECK_RETURNS(FRAME_ETOOBIG, frame_recv(fd[1], &frame, NULL));
    CHECK(strstr(frame_last_error(), "HTTP") != NULL);
    CHECK(unread(fd[1]) == 12);
    close_both(fd);

    socket_pair(fd);
    write_all(fd[0], "\x10\0\0\0{\"da", 8);
    CHECK(close(fd[0]) == 0);
    CHECK_RETURNS(FRAME_ETRUNCATED, frame_recv(fd[1], &frame, NULL));
    CHECK(strstr(frame_last_error(), "4 of 16") != NULL);
    CHECK(close(fd[1]) == 0);
}

/* Receives a frame with this header text. */
static struct frame *with_header(const char *header)
{
    unsigned char length[4] = {0};
    struct frame *frame;
    int fd[2];
    CHECK(strlen(header) < 256);
    length[0] = (unsigned char)strlen(header);
    socket_pair(fd);
    write_all(fd[0], length, sizeof length);
    write_all(fd[0], header, strlen(header));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    close_both(fd);
    return frame;
}

static void fields_are_told_apart(void)
{
    struct frame *frame = with_header("{\"s\":\"\\u00e9\\n\\\"\",\"empty\":\"\",\"nul\":\"a\\u0000b\",\"i\":-5,"
                                      "\"t\":true,\"f\":false,\"big\":18446744073709551615,"
                                      "\"fraction\":1.5,\"n\":null,\"o\":{\"s\":1},\"twice\":1,\"twice\":2}");
    const char *text = NULL;
    size_t len = 99;
    int64_t number = 99;
    bool truth = false;

    CHECK_RETURNS(0, frame_header_string(frame, "s", &text, &len));
    CHECK_BYTES("\xc3\xa9\n\"", text, len);
    CHECK(text[len] == '\0');
    CHECK_RETURNS(0, frame_header_string(frame, "s", &text, NULL));
    CHECK_RETURNS(0, frame_header_string(frame, "empty", &text, &len));
    CHECK(len == 0 && text[0] == '\0');
    CHECK_RETURNS(0, frame_header_string(frame, "nul", &text, &len));
    CHECK_BYTES("a\0b", text, len);
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_string(frame, "nul", &text, NULL));
    CHECK(text == NULL);
    text = "";
    CHECK_RETURNS(FRAME_EMISSING, frame_header_string(frame, "none", &text, &len));
    CHECK(text == NULL);
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_string(frame, "i", &text, &len));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_string(frame, "o", &text, &len));

    CHECK_RETURNS(0, frame_header_int(frame, "i", &number));
    CHECK(number == -5);
    CHECK_RETURNS(0, frame_header_int(frame, "twice", &number));
    CHECK(number == 2);
    CHECK_RETURNS(FRAME_EMISSING, frame_header_int(frame, "none", &number));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_int(frame, "big", &number));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_int(frame, "fraction", &number));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_int(frame, "s", &number));
    CHECK(number == 2);

    CHECK_RETURNS(0, frame_header_bool(frame, "t", &truth));
    CHECK(truth);
    CHECK_RETURNS(FRAME_EMISSING, frame_header_bool(frame, "none", &truth));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_bool(frame, "n", &truth));
    CHECK(truth);
    CHECK_RETURNS(0, frame_header_bool(frame, "f", &truth));
    CHECK(!truth);
    frame_free(frame);
}

static void a_body_is_read_in_pieces(void)
{
    int fd[2], pipes[2];
    struct frame *frame = NULL;
    struct frame_options now = FRAME_OPTIONS_INIT, small = FRAME_OPTIONS_INIT;
    char buf[16];
    size_t len = 99;
    now.timeout_ms = FRAME_DONT_WAIT;
    small.max_body = 3;
    socket_pair(fd);
    CHECK(pipe(pipes) == 0);

    CHECK_RETURNS(0, frame_send(fd[0], "{\"n\":1}", "0123456789", 10, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], "{\"n\":2}", "next", 4, NULL));
    CHECK_RETURNS(0, frame_recv_header(fd[1], &frame, NULL));
    CHECK(frame_body_left(frame) == 10 && frame_body(frame, &len) == NULL && len == 0);
    CHECK_RETURNS(0, frame_body_read(frame, NULL, 0, NULL));
    CHECK_RETURNS(3, frame_body_read(frame, buf, 3, NULL));
    CHECK(memcmp(buf, "012", 3) == 0 && frame_body_left(frame) == 7);
    CHECK_RETURNS(FRAME_ETOOBIG, frame_body_gather(frame, &small));
    CHECK_RETURNS(7, frame_body_read(frame, buf, sizeof buf, NULL));
    CHECK(memcmp(buf, "3456789", 7) == 0 && frame_body_left(frame) == 0);
    CHECK_RETURNS(0, frame_body_read(frame, buf, sizeof buf, NULL));
    CHECK_RETURNS(0, frame_body_skip(frame, NULL));
    frame_free(frame);

    CHECK_RETURNS(0, frame_recv_header(fd[1], &frame, NULL));
    CHECK_RETURNS(0, frame_body_gather(frame, NULL));
    CHECK_RETURNS(0, frame_body_gather(frame, NULL));
    CHECK(frame_body_left(frame) == 0);
    CHECK_BODY("next", frame);
    CHECK_RETURNS(FRAME_ESTATE, frame_body_read(frame, buf, sizeof buf, NULL));
    CHECK_RETURNS(FRAME_ESTATE, frame_body_copy(frame, pipes[1], NULL));
    CHECK_RETURNS(0, frame_body_skip(frame, NULL));
    frame_free(frame);

    write_all(fd[0], "\x0f\0\0\0{\"data_size\":9}abc", 22);
    CHECK_RETURNS(0, frame_recv_header(fd[1], &frame, NULL));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_body_copy(frame, pipes[1], &now));
    CHECK(frame_body_left(frame) == 6);
    read_all(pipes[0], buf, 3);
    CHECK(memcmp(buf, "abc", 3) == 0);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_body_read(frame, buf, sizeof buf, &now));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_body_skip(frame, &now));
    write_all(fd[0], "def", 3);
    CHECK(close(fd[0]) == 0);
    CHECK_RETURNS(FRAME_ETRUNCATED, frame_body_skip(frame, NULL));
    CHECK(frame_body_left(frame) == 3);
    frame_free(frame);
    CHECK(close(fd[1]) == 0);
    close_both(pipes);
}

static void a_body_is_sent_in_pieces(void)
{
    int fd[2], pipes[2];
    struct frame_sender *sender = NULL;
    struct frame *frame;
    socket_pair(fd);
    CHECK(pipe(pipes) == 0);

    CHECK_RETURNS(0, frame_sender_new(fd[0], "{\"cmd\":\"put\"}", 10, &sender, NULL));
    CHECK(frame_sender_left(sender) == 10);
    CHECK_RETURNS(0, frame_sender_write(sender, "0123", 4, NULL));
    CHECK_RETURNS(0, frame_sender_write(sender, NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_sender_write(sender, "0123456", 7, NULL));
    CHECK_RETURNS(FRAME_ESTATE, frame_sender_finish(sender));
    write_all(pipes[1], "45", 2);
    CHECK_RETURNS(0, frame_sender_copy(sender, pipes[0], 2, NULL));
    write_all(pipes[1], "6", 1);
    CHECK(close(pipes[1]) == 0);
    CHECK_RETURNS(FRAME_ETRUNCATED, frame_sender_copy(sender, pipes[0], 4, NULL));
    CHECK(frame_sender_left(sender) == 3);
    CHECK_RETURNS(0, frame_sender_write(sender, "789", 3, NULL));
    CHECK_RETURNS(0, frame_sender_finish(sender));
    frame_sender_free(sender);
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK_BODY("0123456789", frame);
    frame_free(frame);

    sender = (struct frame_sender *)fd;
    CHECK_RETURNS(FRAME_EBADJSON, frame_sender_new(fd[0], "[]", 10, &sender, NULL));
    CHECK(sender == NULL);
    CHECK_RETURNS(FRAME_ETOOBIG, frame_sender_new(fd[0], NULL, UINT64_MAX, &sender, NULL));
    CHECK_RETURNS(0, frame_sender_new(fd[0], NULL, INT64_MAX, &sender, NULL));
    CHECK(frame_sender_left(sender) == INT64_MAX);
    frame_sender_free(sender);
    CHECK(close(pipes[0]) == 0);
    close_both(fd);
}

static void packets_go_in_every_layout(void)
{
    static const struct {
        uint32_t prefix;
        const char *bytes;
        size_t len;
    } layouts[] = {
        {0, "\5\0\0\0hello", 9},
        {4 | FRAME_PREFIX_BIG_ENDIAN | FRAME_PREFIX_UNSIGNED, "\0\0\0\5hello", 9},
        {1, "\5hello", 6},
        {2 | FRAME_PREFIX_BIG_ENDIAN, "\0\5hello", 7},
        {8, "\5\0\0\0\0\0\0\0hello", 13},
        {FRAME_PREFIX_BIG_ENDIAN, "\0\0\0\5hello", 9},
    };
    char bytes[16];
    struct frame *packet = NULL;
    const char *text;
    int64_t number;
    size_t i, len;
    int fd[2];
    socket_pair(fd);
    for (i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        struct frame_options opts = FRAME_OPTIONS_INIT;
        opts.prefix = layouts[i].prefix;
        CHECK_RETURNS(0, frame_packet_send(fd[0], "hello", 5, &opts));
        CHECK(unread(fd[1]) == layouts[i].len);
        read_all(fd[1], bytes, layouts[i].len);
        CHECK(memcmp(bytes, layouts[i].bytes, layouts[i].len) == 0);
        write_all(fd[0], bytes, layouts[i].len);
        CHECK_RETURNS(0, frame_packet_recv(fd[1], &packet, &opts));
        CHECK_BODY("hello", packet);
        CHECK(frame_header(packet, &len) == NULL && len == 0);
        CHECK_RETURNS(FRAME_ESTATE, frame_header_string(packet, "a", &text, NULL));
        CHECK_RETURNS(FRAME_ESTATE, frame_header_int(packet, "a", &number));
        frame_free(packet);
    }
    {
        struct frame_options opts = FRAME_OPTIONS_INIT;
        char large[128] = "";
        opts.prefix = 1;
        CHECK_RETURNS(FRAME_ETOOBIG, frame_packet_send(fd[0], large, sizeof large, &opts));
        opts.prefix = 3;
        CHECK_RETURNS(FRAME_EINVAL, frame_packet_send(fd[0], "hello", 5, &opts));
        opts.prefix = 4;
        CHECK_RETURNS(FRAME_EINVAL, frame_send(fd[0], NULL, NULL, 0, &opts));
    }
    CHECK(unread(fd[1]) == 0);
    close_both(fd);
}

static void a_packet_that_does_not_fit_is_not_lost(void)
{
    char buf[8];
    struct frame *rest = NULL;
    struct frame_options small = FRAME_OPTIONS_INIT;
    int fd[2];
    socket_pair(fd);
    small.max_body = 4;

    CHECK_RETURNS(0, frame_packet_send(fd[0], "hello", 5, NULL));
    rest = (struct frame *)buf;
    CHECK_RETURNS(5, frame_packet_recv_into(fd[1], buf, sizeof buf, &rest, NULL));
    CHECK(memcmp(buf, "hello", 5) == 0 && rest == NULL);

    CHECK_RETURNS(0, frame_packet_send(fd[0], "hello", 5, NULL));
    CHECK_RETURNS(5, frame_packet_recv_into(fd[1], buf, 2, &rest, NULL));
    CHECK(memcmp(buf, "he", 2) == 0 && rest != NULL && frame_body_left(rest) == 3);
    CHECK_RETURNS(1, frame_body_read(rest, buf, 1, NULL));
    CHECK_RETURNS(0, frame_body_gather(rest, NULL));
    CHECK_BODY("lo", rest);
    frame_free(rest);

    CHECK_RETURNS(0, frame_packet_send(fd[0], "hello", 5, NULL));
    CHECK_RETURNS(5, frame_packet_recv_into(fd[1], NULL, 0, &rest, NULL));
    CHECK_RETURNS(0, frame_body_skip(rest, NULL));
    frame_free(rest);

    CHECK_RETURNS(0, frame_packet_send(fd[0], NULL, 0, NULL));
    CHECK_RETURNS(0, frame_packet_recv_into(fd[1], NULL, 0, NULL, NULL));
    CHECK_RETURNS(0, frame_packet_send(fd[0], "hello", 5, NULL));
    CHECK_RETURNS(5, frame_packet_recv_into(fd[1], buf, 5, NULL, NULL));

    CHECK_RETURNS(0, frame_packet_send(fd[0], "hello", 5, NULL));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_packet_recv_into(fd[1], buf, 4, NULL, NULL));
    CHECK(unread(fd[1]) == 5);
    read_all(fd[1], buf, 5);
    CHECK_RETURNS(0, frame_packet_send(fd[0], "hello", 5, NULL));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_packet_recv_into(fd[1], buf, sizeof buf, &rest, &small));
    CHECK(rest == NULL);
    close_both(fd);
}

static void a_frame_goes_into_the_callers_buffer(void)
{
    static const char header[] = "{\"data_size\":5,\"k\":1}";
    char buf[64], large[100];
    struct frame_view view;
    struct frame *rest;
    struct frame_options small = FRAME_OPTIONS_INIT;
    int fd[2];
    socket_pair(fd);
    small.max_header = sizeof header - 2;

    /* The header's 22 bytes with its NUL take 32. */
    for (size_t cap = 0; cap <= sizeof buf; cap++) {
        memset(buf, '#', sizeof buf);
        CHECK_RETURNS(0, frame_send(fd[0], "{\"k\":1}", "hello", 5, NULL));
        if (cap < 32 + 5) {
            CHECK_RETURNS(1, frame_recv_into(fd[1], buf, cap, &view, &rest, NULL));
            CHECK(view.header == NULL && view.body == NULL && view.body_len == 0);
            CHECK(strcmp(frame_header(rest, NULL), header) == 0 && frame_body_left(rest) == 5);
            CHECK_RETURNS(0, frame_body_gather(rest, NULL));
            CHECK_BODY("hello", rest);
            frame_free(rest);
            CHECK(buf[0] == '#');
            continue;
        }
        CHECK_RETURNS(0, frame_recv_into(fd[1], buf, cap, &view, &rest, NULL));
        CHECK(rest == NULL && view.header == buf && view.body == buf + 32);
        CHECK_BYTES("{\"data_size\":5,\"k\":1}", view.header, view.header_len);
        CHECK(view.header[view.header_len] == '\0' && (cap == 37 || buf[37] == '#'));
        CHECK_BYTES("hello", view.body, view.body_len);
        CHECK(unread(fd[1]) == 0);
    }

    /* Without a body, and with a header that has memory of its own. */
    CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_recv_into(fd[1], buf, 16, &view, NULL, NULL));
    CHECK(view.body == NULL && view.body_len == 0 && view.header_len == 15);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, NULL));
    CHECK_RETURNS(1, frame_recv_into(fd[1], buf, 15, &view, &rest, NULL));
    frame_free(rest);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"long\":\"0123456789012345678901234567890123456789\"}",
                                "hello", 5, NULL));
    CHECK_RETURNS(0, frame_recv_into(fd[1], large, sizeof large, &view, NULL, NULL));
    CHECK(view.header_len == 65 && view.body == large + 80);
    CHECK_BYTES("hello", view.body, view.body_len);

    CHECK_RETURNS(0, frame_send(fd[0], "{\"k\":1}", "hello", 5, NULL));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_recv_into(fd[1], buf, 36, &view, NULL, NULL));
    CHECK(unread(fd[1]) == 5);
    read_all(fd[1], buf, 5);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"k\":1}", "hello", 5, NULL));
    rest = (struct frame *)buf;
    CHECK_RETURNS(FRAME_ETOOBIG, frame_recv_into(fd[1], buf, sizeof buf, &view, &rest, &small));
    CHECK(rest == NULL);
    close_both(fd);
}

static void the_builder_escapes_what_json_wants_escaped(void)
{
    static const char name[] = "a \"b\"\\c\nd\t\x1b[2J.txt";
    struct frame_builder *builder = frame_builder_new();
    struct frame *frame;
    const char *text;
    int64_t number;
    bool truth;
    size_t len;
    int fd[2];
    CHECK(builder != NULL && strcmp(frame_builder_text(builder, NULL), "{}") == 0);

    CHECK_RETURNS(0, frame_builder_string(builder, "filename", name));
    CHECK_RETURNS(0, frame_builder_bytes(builder, "plain", "caf\xc3\xa9", 5));
    CHECK_RETURNS(0, frame_builder_bytes(builder, "raw", "caf\xe9\0", 5));
    CHECK_RETURNS(0, frame_builder_bytes(builder, "none", NULL, 0));
    CHECK_RETURNS(0, frame_builder_int(builder, "least", INT64_MIN));
    CHECK_RETURNS(0, frame_builder_bool(builder, "yes", true));
    CHECK_RETURNS(0, frame_builder_json(builder, "list", "[1, null]"));

    /* What fails adds nothing. */
    text = frame_builder_text(builder, &len);
    CHECK(strlen(text) == len);
    CHECK_RETURNS(FRAME_EBADFIELD, frame_builder_string(builder, "filename", "twice"));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_builder_int(builder, "data_size", 1));
    CHECK_RETURNS(FRAME_EBADJSON, frame_builder_json(builder, "bad", "[1"));
    CHECK_RETURNS(FRAME_EINVAL, frame_builder_string(builder, "bad", "caf\xe9"));
    CHECK(strlen(frame_builder_text(builder, NULL)) == len);

    socket_pair(fd);
    CHECK_RETURNS(0, frame_send(fd[0], frame_builder_text(builder, NULL), NULL, 0, NULL));
    frame_builder_free(builder);
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK_RETURNS(0, frame_header_string(frame, "filename", &text, NULL));
    CHECK(strcmp(text, name) == 0);
    CHECK_RETURNS(0, frame_header_string(frame, "plain", &text, NULL));
    CHECK(strcmp(text, "caf\xc3\xa9") == 0);
    CHECK_RETURNS(0, frame_header_string(frame, "raw_b64", &text, NULL));
    CHECK(strcmp(text, "Y2Fm6QA=") == 0);
    CHECK_RETURNS(FRAME_EMISSING, frame_header_string(frame, "raw", &text, NULL));
    CHECK_RETURNS(0, frame_header_string(frame, "none", &text, &len));
    CHECK(len == 0);
    CHECK_RETURNS(0, frame_header_int(frame, "least", &number));
    CHECK(number == INT64_MIN);
    CHECK_RETURNS(0, frame_header_bool(frame, "yes", &truth));
    CHECK(truth);
    CHECK(strstr(frame_header(frame, NULL), "\"list\":[1, null]") != NULL);
    frame_free(frame);
    close_both(fd);
}

static void flags_of_descriptors_stay_as_they_are(void)
{
    int fd[2], twin, blocking;
    struct frame *frame;
    struct frame_options now = FRAME_OPTIONS_INIT, soon = FRAME_OPTIONS_INIT;
    char large[100000] = "";
    now.timeout_ms = FRAME_DONT_WAIT;
    soon.timeout_ms = 10;
    for (blocking = 0; blocking < 2; blocking++) {
        int before = O_RDWR | (blocking ? 0 : O_NONBLOCK), i;
        socket_pair(fd);
        CHECK(fcntl(fd[0], F_SETFL, before) == 0 && fcntl(fd[1], F_SETFL, before) == 0);
        twin = dup(fd[1]); /* shares its flags, as a child's copy does */
        CHECK(twin >= 0);
        for (i = 0; i < 10; i++) {
            struct frame_options *opts = i % 2 ? &now : &soon;
            int sent = frame_send(fd[0], NULL, large, sizeof large, opts);
            CHECK(sent == 0 || sent == FRAME_ETIMEDOUT || sent == FRAME_ESTALLED);
            CHECK(fcntl(fd[0], F_GETFL) == before);
        }
        CHECK_RETURNS(0, frame_recv(fd[1], &frame, &soon));
        frame_free(frame);
        CHECK(fcntl(fd[1], F_GETFL) == before && fcntl(twin, F_GETFL) == before);
        CHECK(close(twin) == 0);
        close_both(fd);
    }
}

static void a_reader_that_is_gone_is_an_errno(void)
{
    int kind, fd[2], from[2];
    struct frame_sender *sender;
    struct frame *frame;
    struct frame_options opts = FRAME_OPTIONS_INIT;
    signal(SIGPIPE, SIG_DFL); /* which ends the process */
    for (kind = 0; kind < 4; kind++) {
        if (kind % 2)
            CHECK(pipe(fd) == 0);
        else
            socket_pair(fd);
        opts.timeout_ms = kind < 2 ? 0 : 1000;
        CHECK_RETURNS(0, frame_sender_new(fd[1], NULL, 9, &sender, &opts));
        CHECK(close(fd[0]) == 0);

        errno = 0;
        CHECK_RETURNS(FRAME_EIO, frame_send(fd[1], "{\"a\":1}", "hello", 5, &opts));
        CHECK(errno == EPIPE);
        CHECK_RETURNS(FRAME_EIO, frame_packet_send(fd[1], "hello", 5, &opts));
        CHECK_RETURNS(FRAME_EIO, frame_sender_write(sender, "hello", 5, &opts));
        CHECK_RETURNS(FRAME_ESTATE, frame_sender_write(sender, "hello", 5, &opts));
        frame_sender_free(sender);

        socket_pair(from);
        CHECK_RETURNS(0, frame_send(from[0], NULL, "hello", 5, NULL));
        CHECK_RETURNS(0, frame_recv_header(from[1], &frame, NULL));
        errno = 0;
        CHECK_RETURNS(FRAME_EIO, frame_body_copy(frame, fd[1], &opts));
        CHECK(errno == EPIPE);
        frame_free(frame);
        close_both(from);
        CHECK(close(fd[1]) == 0);
    }
}

static void timeouts_are_what_their_names_say(void)
{
    int fd[2];
    int64_t start;
    struct frame *frame;
    struct frame_options opts = FRAME_OPTIONS_INIT;
    socket_pair(fd);

    opts.timeout_ms = FRAME_DONT_WAIT;
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_recv(fd[1], &frame, &opts));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, &opts));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, &opts));
    frame_free(frame);

    opts.timeout_ms = 50;
    start = milliseconds();
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_recv(fd[1], &frame, &opts));
    CHECK(milliseconds() - start >= 50 && milliseconds() - start < 10000);

    opts.timeout_ms = INT_MAX;
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, &opts));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, &opts));
    frame_free(frame);
    opts.timeout_ms = FRAME_NO_TIMEOUT;
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, &opts));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, &opts));
    frame_free(frame);

    opts.timeout_ms = -3;
    CHECK_RETURNS(FRAME_EINVAL, frame_send(fd[0], NULL, "hello", 5, &opts));
    opts.timeout_ms = INT_MIN;
    CHECK_RETURNS(FRAME_EINVAL, frame_recv(fd[1], &frame, &opts));
    CHECK(unread(fd[1]) == 0);

    write_all(fd[0], "\x10\0", 2);
    opts.timeout_ms = 50;
    start = milliseconds();
    CHECK_RETURNS(FRAME_ESTALLED, frame_recv(fd[1], &frame, &opts));
    CHECK(milliseconds() - start >= 50);
    close_both(fd);
}

static void limits_are_the_callers(void)
{
    int fd[2];
    struct frame *frame;
    struct frame_options opts = FRAME_OPTIONS_INIT;
    socket_pair(fd);
    opts.max_header = 20;
    CHECK_RETURNS(0, frame_send(fd[0], "{\"a\":1}", NULL, 0, NULL));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_recv(fd[1], &frame, &opts));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_send(fd[0], "{\"a\":1}", NULL, 0, &opts));
    close_both(fd);

    socket_pair(fd);
    opts.max_header = 0;
    opts.max_depth = 2;
    CHECK_RETURNS(0, frame_send(fd[0], "{\"a\":[]}", NULL, 0, NULL));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, &opts));
    frame_free(frame);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"a\":[[]]}", NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EBADJSON, frame_recv(fd[1], &frame, &opts));
    opts.max_body = FRAME_NO_LIMIT;
    opts.max_header = FRAME_NO_LIMIT;
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, NULL));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, &opts));
    frame_free(frame);
    close_both(fd);
}

static void names_and_numbers_are_there(void)
{
    int code;
    char version[32];
    for (code = -300; code < 3; code++)
        CHECK(frame_strerror(code)[0] != '\0');
    CHECK(strcmp(frame_strerror(FRAME_ECLOSED), frame_strerror(FRAME_ETRUNCATED)) != 0);
    CHECK(frame_abi_version() == FRAME_ABI_VERSION);
    CHECK(snprintf(version, sizeof version, "%d.%d.%d", FRAME_VERSION_MAJOR, FRAME_VERSION_MINOR,
                   FRAME_VERSION_PATCH) > 0);
    CHECK(strcmp(frame_version(), version) == 0);
    CHECK_RETURNS(65536, frame_default("max_header"));
    CHECK_RETURNS(FRAME_EINVAL, frame_default("max_nothing"));
}

int main(void)
{
    a_frame_goes_whole();
    a_failure_says_what_is_wrong();
    fields_are_told_apart();
    a_body_is_read_in_pieces();
    a_body_is_sent_in_pieces();
    packets_go_in_every_layout();
    a_packet_that_does_not_fit_is_not_lost();
    a_frame_goes_into_the_callers_buffer();
    the_builder_escapes_what_json_wants_escaped();
    flags_of_descriptors_stay_as_they_are();
    a_reader_that_is_gone_is_an_errno();
    timeouts_are_what_their_names_say();
    limits_are_the_callers();
    names_and_numbers_are_there();
    return 0;
}
