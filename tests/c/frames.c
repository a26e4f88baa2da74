/* Frames and packets on raw descriptors, headers and their builder, as C programs use them. */
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

static void fields_are_told_apart(void)
{
    static const char header[] =
        "{\"s\":\"\\u00e9\\n\\\"\",\"empty\":\"\",\"nul\":\"a\\u0000b\",\"i\":-5,\"t\":true,"
        "\"f\":false,\"big\":18446744073709551615,\"fraction\":1.5,\"n\":null,"
        "\"o\":{\"s\":[1, 2]},\"twice\":1,\"twice\":1}";
    const char *json = header;
    int64_t number = 99;
    bool truth = false;
    char buf[8];

    memset(buf, '#', sizeof buf);
    CHECK_RETURNS(4, frame_header_string(header, "s", NULL, 0));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_header_string(header, "s", buf, 4));
    CHECK(buf[0] == '#');
    CHECK_RETURNS(4, frame_header_string(header, "s", buf, 5));
    CHECK_BYTES("\xc3\xa9\n\"\0###", buf, sizeof buf);
    CHECK_RETURNS(0, frame_header_string(header, "empty", buf, 1));
    CHECK(buf[0] == '\0');
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_string(header, "nul", buf, sizeof buf));
    CHECK_RETURNS(FRAME_EMISSING, frame_header_string(header, "none", buf, sizeof buf));
    CHECK_RETURNS(FRAME_EMISSING, frame_header_string(NULL, "s", buf, sizeof buf));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_string(header, "i", buf, sizeof buf));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_string(header, "o", buf, sizeof buf));
    CHECK_RETURNS(FRAME_EBADJSON, frame_header_string("[]", "s", buf, sizeof buf));

    CHECK_RETURNS(0, frame_header_int(header, "i", &number));
    CHECK(number == -5);
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_int(header, "twice", &number));
    CHECK(strstr(frame_last_error(), "twice") != NULL);
    CHECK_RETURNS(FRAME_EMISSING, frame_header_int(header, "none", &number));
    CHECK_RETURNS(FRAME_EMISSING, frame_header_int(NULL, "i", &number));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_int(header, "big", &number));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_int(header, "fraction", &number));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_int(header, "s", &number));
    CHECK(number == -5);

    CHECK_RETURNS(0, frame_header_bool(header, "t", &truth));
    CHECK(truth);
    CHECK_RETURNS(FRAME_EMISSING, frame_header_bool(header, "none", &truth));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_bool(header, "n", &truth));
    CHECK(truth);
    CHECK_RETURNS(0, frame_header_bool(header, "f", &truth));
    CHECK(!truth);

    CHECK_RETURNS(12, frame_header_json(header, "o", &json));
    CHECK(json == strstr(header, "{\"s\":[1") && memcmp(json, "{\"s\":[1, 2]}", 12) == 0);
    CHECK_RETURNS(FRAME_EBADFIELD, frame_header_json(header, "twice", &json));
    CHECK(json == NULL);
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
    size_t i, len;
    int fd[2];
    socket_pair(fd);
    for (i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        struct frame_options opts = FRAME_OPTIONS_INIT;
        opts.format = FRAME_FORMAT_PACKETS;
        opts.prefix = layouts[i].prefix;
        CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, &opts));
        CHECK(unread(fd[1]) == layouts[i].len);
        read_all(fd[1], bytes, layouts[i].len);
        CHECK(memcmp(bytes, layouts[i].bytes, layouts[i].len) == 0);
        write_all(fd[0], bytes, layouts[i].len);
        CHECK_RETURNS(0, frame_recv(fd[1], &packet, &opts));
        CHECK_BODY("hello", packet);
        CHECK(frame_header(packet, &len) == NULL && len == 0);
        frame_free(packet);
    }
    {
        struct frame_options opts = FRAME_OPTIONS_INIT;
        char large[128] = "";
        opts.format = FRAME_FORMAT_PACKETS;
        opts.prefix = 1;
        CHECK_RETURNS(FRAME_ETOOBIG, frame_send(fd[0], NULL, large, sizeof large, &opts));
        CHECK_RETURNS(FRAME_EINVAL, frame_send(fd[0], "{}", "hello", 5, &opts));
        opts.prefix = 3;
        CHECK_RETURNS(FRAME_EINVAL, frame_send(fd[0], NULL, "hello", 5, &opts));
        opts.format = 2;
        opts.prefix = 0;
        CHECK_RETURNS(FRAME_EINVAL, frame_send(fd[0], NULL, NULL, 0, &opts));
        opts.format = FRAME_FORMAT_FRAMES;
        opts.prefix = 4;
        CHECK_RETURNS(FRAME_EINVAL, frame_send(fd[0], NULL, NULL, 0, &opts));
        opts.prefix = 0;
        opts.flags = 1;
        CHECK_RETURNS(FRAME_EINVAL, frame_send(fd[0], NULL, NULL, 0, &opts));
    }
    CHECK(unread(fd[1]) == 0);
    close_both(fd);
}

static void a_packet_that_does_not_fit_comes_whole(void)
{
    char buf[8];
    struct frame *rest = (struct frame *)buf;
    struct frame_view view;
    struct frame_options opts = FRAME_OPTIONS_INIT;
    size_t cap;
    int fd[2];
    opts.format = FRAME_FORMAT_PACKETS;
    for (cap = 0; cap <= sizeof buf; cap++) {
        socket_pair(fd);
        memset(buf, '#', sizeof buf);
        opts.max_body = 5;
        CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, &opts));
        CHECK_RETURNS(0, frame_recv_into(fd[1], buf, cap, &opts, &view, &rest));
        CHECK_BYTES("hello", view.body, view.body_len);
        CHECK(view.header == NULL && view.header_len == 0 && (rest == NULL) == (cap >= 5));
        CHECK(view.body == (cap >= 5 ? buf : frame_body(rest, NULL)) && buf[5] == '#');
        frame_free(rest);
        CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, &opts));
        CHECK_RETURNS(0, frame_recv_into(fd[1], NULL, 0, &opts, &view, NULL));
        CHECK(view.body == NULL && view.body_len == 0);

        CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, &opts));
        if (cap >= 5)
            CHECK_RETURNS(0, frame_recv_into(fd[1], buf, cap, &opts, &view, NULL));
        else if (cap % 2)
            CHECK_RETURNS(FRAME_ETOOBIG, frame_recv_into(fd[1], buf, cap, &opts, &view, NULL));
        else {
            opts.max_body = 4;
            CHECK_RETURNS(FRAME_ETOOBIG, frame_recv_into(fd[1], buf, cap, &opts, &view, &rest));
            CHECK(rest == NULL);
        }
        close_both(fd);
    }
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
        CHECK_RETURNS(0, frame_recv_into(fd[1], buf, cap, NULL, &view, &rest));
        CHECK_BYTES("{\"data_size\":5,\"k\":1}", view.header, view.header_len);
        CHECK_BYTES("hello", view.body, view.body_len);
        CHECK(view.header[view.header_len] == '\0' && unread(fd[1]) == 0);
        if (cap < 32 + 5) {
            CHECK(view.header == frame_header(rest, NULL) && view.body == frame_body(rest, NULL));
            CHECK_BODY("hello", rest);
            frame_free(rest);
            CHECK(buf[0] == '#');
            continue;
        }
        CHECK(rest == NULL && view.header == buf && view.body == buf + 32);
        CHECK(cap == 37 || buf[37] == '#');
    }

    /* Without a body, and with a header that has memory of its own. */
    CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_recv_into(fd[1], buf, 16, NULL, &view, NULL));
    CHECK(view.body == NULL && view.body_len == 0 && view.header_len == 15);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_recv_into(fd[1], buf, 15, NULL, &view, &rest));
    CHECK(rest != NULL && view.body == NULL);
    frame_free(rest);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"long\":\"0123456789012345678901234567890123456789\"}",
                                "hello", 5, NULL));
    CHECK_RETURNS(0, frame_recv_into(fd[1], large, sizeof large, NULL, &view, NULL));
    CHECK(view.header_len == 65 && view.body == large + 80);
    CHECK_BYTES("hello", view.body, view.body_len);

    CHECK_RETURNS(0, frame_send(fd[0], "{\"k\":1}", "hello", 5, NULL));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_recv_into(fd[1], buf, 36, NULL, &view, NULL));
    CHECK(unread(fd[1]) == 5);
    read_all(fd[1], buf, 5);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"k\":1}", "hello", 5, NULL));
    rest = (struct frame *)buf;
    CHECK_RETURNS(FRAME_ETOOBIG, frame_recv_into(fd[1], buf, sizeof buf, &small, &view, &rest));
    CHECK(rest == NULL);
    close_both(fd);
}

static int calls;

/* Lets a number of questions pass, and then says stop. */
static int stop_soon(void *context)
{
    return ++calls > *(int *)context;
}

static void a_hook_ends_a_call_between_messages(void)
{
    struct frame_options opts = FRAME_OPTIONS_INIT;
    struct frame *frame;
    int fd[2], asked = 0;
    socket_pair(fd);
    opts.interrupted = stop_soon;
    opts.context = &asked;
    CHECK_RETURNS(FRAME_ECANCELED, frame_recv(fd[1], &frame, &opts));
    CHECK(frame == NULL && calls == 1);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, &opts));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, &opts));
    CHECK(calls == 1); /* nothing was waited for */
    frame_free(frame);
    asked = 2;
    opts.timeout_ms = 10;
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_recv(fd[1], &frame, &opts));
    write_all(fd[0], "\x10\0", 2);
    asked = 0;
    CHECK_RETURNS(FRAME_ESTALLED, frame_recv(fd[1], &frame, &opts));
    close_both(fd);
}

static void the_builder_escapes_what_json_wants_escaped(void)
{
    static const char name[] = "a \"b\"\\c\nd\t\x1b[2J.txt";
    struct frame_builder *builder = frame_builder_new();
    const char *text;
    char buf[64];
    int64_t number;
    bool truth;
    size_t len;
    CHECK(builder != NULL && strcmp(frame_builder_text(builder, NULL), "{}") == 0);

    CHECK_RETURNS(0, frame_builder_string(builder, "filename", name, SIZE_MAX));
    CHECK_RETURNS(0, frame_builder_string(builder, "part", "caf\xc3\xa9 au lait", 5));
    CHECK_RETURNS(0, frame_builder_string(builder, "none", NULL, 0));
    CHECK_RETURNS(0, frame_builder_int(builder, "least", INT64_MIN));
    CHECK_RETURNS(0, frame_builder_bool(builder, "yes", true));
    CHECK_RETURNS(0, frame_builder_json(builder, "list", "[1, null]"));
    CHECK_RETURNS(0, frame_builder_merge(builder, "{\"yes\":false,\"data_size\":9,\"m\":1.50}"));
    text = frame_builder_text(builder, &len);
    CHECK(strlen(text) == len);

    CHECK_RETURNS(strlen(name), frame_header_string(text, "filename", buf, sizeof buf));
    CHECK(strcmp(buf, name) == 0);
    CHECK_RETURNS(5, frame_header_string(text, "part", buf, sizeof buf));
    CHECK(strcmp(buf, "caf\xc3\xa9") == 0);
    CHECK_RETURNS(0, frame_header_string(text, "none", buf, sizeof buf));
    CHECK_RETURNS(0, frame_header_int(text, "least", &number));
    CHECK(number == INT64_MIN);
    CHECK_RETURNS(0, frame_header_bool(text, "yes", &truth));
    CHECK(truth && strstr(text, "\"list\":[1, null],\"m\":1.50}") != NULL);
    CHECK_RETURNS(FRAME_EMISSING, frame_header_int(text, "data_size", &number));
    frame_builder_free(builder);
}

static void a_failure_sticks_in_a_builder(void)
{
    size_t i, len = 99;
    for (i = 0; i < 6; i++) {
        struct frame_builder *builder = frame_builder_new();
        int code = 0;
        CHECK_RETURNS(0, frame_builder_int(builder, "there", 1));
        switch (i) {
        case 0: code = frame_builder_string(builder, "there", "twice", SIZE_MAX); break;
        case 1: code = frame_builder_int(builder, "data_size", 1); break;
        case 2: code = frame_builder_string(builder, "k", "caf\xe9", SIZE_MAX); break;
        case 3: code = frame_builder_json(builder, "k", "[1"); break;
        case 4: code = frame_builder_merge(builder, "[]"); break;
        case 5: code = frame_builder_bool(builder, NULL, true); break;
        }
        CHECK_RETURNS(i < 3 ? FRAME_EBADFIELD : i < 5 ? FRAME_EBADJSON : FRAME_EINVAL, code);
        CHECK_RETURNS(code, frame_builder_int(builder, "k", 1));
        CHECK_RETURNS(code, frame_builder_merge(builder, "{}"));
        CHECK(frame_builder_text(builder, &len) == NULL && len == 0);
        frame_builder_free(builder);
    }
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
    int kind, fd[2];
    struct frame_options opts = FRAME_OPTIONS_INIT;
    signal(SIGPIPE, SIG_DFL); /* which ends the process */
    for (kind = 0; kind < 8; kind++) {
        if (kind % 2)
            CHECK(pipe(fd) == 0);
        else
            socket_pair(fd);
        opts.timeout_ms = kind % 4 < 2 ? 0 : 1000;
        opts.format = kind < 4 ? FRAME_FORMAT_FRAMES : FRAME_FORMAT_PACKETS;
        CHECK(close(fd[0]) == 0);
        errno = 0;
        CHECK_RETURNS(FRAME_EIO, frame_send(fd[1], NULL, "hello", 5, &opts));
        CHECK(errno == EPIPE);
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
}

int main(void)
{
    a_frame_goes_whole();
    a_failure_says_what_is_wrong();
    fields_are_told_apart();
    packets_go_in_every_layout();
    a_packet_that_does_not_fit_comes_whole();
    a_frame_goes_into_the_callers_buffer();
    a_hook_ends_a_call_between_messages();
    the_builder_escapes_what_json_wants_escaped();
    a_failure_sticks_in_a_builder();
    flags_of_descriptors_stay_as_they_are();
    a_reader_that_is_gone_is_an_errno();
    timeouts_are_what_their_names_say();
    limits_are_the_callers();
    names_and_numbers_are_there();
    return 0;
}
