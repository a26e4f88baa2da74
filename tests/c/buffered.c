/* The reader and the writer, as C programs use them. */
#include "check.h"

#include <pthread.h>
#include <signal.h>

enum { MIB = 1 << 20, BUFFER = 64 * 1024 };

static struct frame_reader *new_reader(int fd)
{
    struct frame_reader *reader;
    CHECK_RETURNS(0, frame_reader_new(fd, &reader, NULL));
    return reader;
}

static struct frame_writer *new_writer(int fd)
{
    struct frame_writer *writer;
    CHECK_RETURNS(0, frame_writer_new(fd, &writer, NULL));
    return writer;
}

static void set_blocking(int fd, int blocking)
{
    CHECK(fcntl(fd, F_SETFL, O_RDWR | (blocking ? 0 : O_NONBLOCK)) == 0);
}

/* Writes a number all over len bytes, and checks that it is there. */
static void number(void *bytes, size_t len, uint32_t n)
{
    size_t at;
    for (at = 0; at + sizeof n <= len; at += sizeof n)
        memcpy((char *)bytes + at, &n, sizeof n);
}

static void check_number(const void *bytes, size_t len, uint32_t n)
{
    uint32_t seen;
    size_t at;
    for (at = 0; at + sizeof n <= len; at += sizeof n) {
        memcpy(&seen, (const char *)bytes + at, sizeof n);
        CHECK(seen == n);
    }
}

/* ---- the reader */

static void frames_that_came_together_are_lent_together(void)
{
    struct frame_view views[4];
    struct frame_reader *reader;
    int fd[2];
    socket_pair(fd);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"n\":1}", "one", 3, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "three", 5, NULL));
    reader = new_reader(fd[1]);

    CHECK_RETURNS(2, frame_reader_next(reader, views, 2, FRAME_NO_TIMEOUT));
    CHECK(unread(fd[1]) == 0);
    CHECK(strcmp(views[0].header, "{\"data_size\":3,\"n\":1}") == 0 && views[0].header_len == 21);
    CHECK_BYTES("one", views[0].body, views[0].body_len);
    CHECK(strcmp(views[1].header, "{\"data_size\":0}") == 0 && views[1].header_len == 15);
    CHECK(views[1].body == NULL && views[1].body_len == 0);
    CHECK_RETURNS(1, frame_reader_next(reader, views, 4, 0));
    CHECK_BYTES("three", views[0].body, views[0].body_len);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(reader, views, 4, FRAME_DONT_WAIT));
    frame_reader_free(reader);
    close_both(fd);
}

/* A byte at a time, with a timeout after each, on a descriptor whose flags a twin shares. */
static void a_timeout_loses_nothing(void)
{
    static const char frame[] = "\x0f\0\0\0{\"data_size\":5}hello";
    int blocking;
    for (blocking = 0; blocking < 2; blocking++) {
        struct frame_options opts = FRAME_OPTIONS_INIT;
        struct frame_reader *reader;
        struct frame_view view;
        size_t at;
        int64_t start;
        int fd[2], twin, before;
        socket_pair(fd);
        set_blocking(fd[1], blocking);
        before = fcntl(fd[1], F_GETFL);
        CHECK((twin = dup(fd[1])) >= 0);
        opts.timeout_ms = 20;
        CHECK_RETURNS(0, frame_reader_new(fd[1], &reader, &opts));

        for (at = 0; at < sizeof frame - 1; at++) {
            CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(reader, &view, 1, FRAME_DONT_WAIT));
            write_all(fd[0], frame + at, 1);
        }
        CHECK_RETURNS(1, frame_reader_next(reader, &view, 1, FRAME_DONT_WAIT));
        CHECK_BYTES("hello", view.body, view.body_len);

        write_all(fd[0], frame, 9);
        start = milliseconds();
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(reader, &view, 1, 0));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(reader, &view, 1, 30));
        CHECK(milliseconds() - start >= 50 && milliseconds() - start < 10000);
        write_all(fd[0], frame + 9, sizeof frame - 10);
        CHECK_RETURNS(1, frame_reader_next(reader, &view, 1, FRAME_NO_TIMEOUT));
        CHECK_BYTES("hello", view.body, view.body_len);
        CHECK_RETURNS(FRAME_EINVAL, frame_reader_next(reader, &view, 1, -3));
        CHECK(fcntl(fd[1], F_GETFL) == before && fcntl(twin, F_GETFL) == before);
        frame_reader_free(reader);
        CHECK(close(twin) == 0);
        close_both(fd);
    }
}

static void an_error_comes_after_the_frames_before_it_and_sticks(void)
{
    struct frame_reader *reader;
    struct frame_view views[4];
    int fd[2];
    socket_pair(fd);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "one", 3, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "two", 3, NULL));
    write_all(fd[0], "\x02\0\0\0[]", 6);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "lost", 4, NULL));
    reader = new_reader(fd[1]);
    CHECK_RETURNS(2, frame_reader_next(reader, views, 4, 0));
    CHECK_BYTES("two", views[1].body, views[1].body_len);
    CHECK_RETURNS(FRAME_EBADJSON, frame_reader_next(reader, views, 4, 0));
    CHECK_RETURNS(FRAME_EBADJSON, frame_reader_next(reader, views, 4, 0));
    CHECK_RETURNS(FRAME_EBADJSON, frame_reader_next_header(reader, views, 0));
    CHECK_RETURNS(FRAME_EBADJSON, frame_reader_next_packet(reader, views, 4, 0));
    frame_reader_free(reader);
    close_both(fd);
}

static void the_end_tells_where_it_is(void)
{
    size_t cut;
    for (cut = 0; cut < 20; cut++) {
        int code = cut == 0 ? FRAME_ECLOSED : FRAME_ETRUNCATED;
        struct frame_reader *reader;
        struct frame_view views[2];
        int fd[2];
        socket_pair(fd);
        CHECK_RETURNS(0, frame_send(fd[0], NULL, "whole", 5, NULL));
        write_all(fd[0], "\x0f\0\0\0{\"data_size\":1}", cut);
        CHECK(close(fd[0]) == 0);
        reader = new_reader(fd[1]);
        CHECK_RETURNS(1, frame_reader_next(reader, views, 2, 0));
        CHECK_BYTES("whole", views[0].body, views[0].body_len);
        CHECK_RETURNS(code, frame_reader_next(reader, views, 2, 0));
        CHECK_RETURNS(code, frame_reader_next(reader, views, 2, FRAME_DONT_WAIT));
        frame_reader_free(reader);
        CHECK(close(fd[1]) == 0);
    }
}

static void a_body_is_read_in_pieces(void)
{
    struct frame_reader *reader;
    struct frame_view view;
    char buf[8];
    int fd[2], pipes[2];
    socket_pair(fd);
    CHECK(pipe(pipes) == 0);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"n\":1}", "0123456789", 10, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "copied", 6, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "skipped", 7, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, NULL));
    reader = new_reader(fd[1]);

    CHECK_RETURNS(0, frame_reader_next_header(reader, &view, 0));
    CHECK(strcmp(view.header, "{\"data_size\":10,\"n\":1}") == 0);
    CHECK(view.body == NULL && view.body_len == 0 && frame_reader_left(reader) == 10);
    CHECK_RETURNS(FRAME_ESTATE, frame_reader_next(reader, &view, 1, 0));
    CHECK_RETURNS(0, frame_reader_read(reader, NULL, 0, 0));
    CHECK_RETURNS(8, frame_reader_read(reader, buf, sizeof buf, 0));
    CHECK(memcmp(buf, "01234567", 8) == 0 && frame_reader_left(reader) == 2);
    CHECK_RETURNS(2, frame_reader_read(reader, buf, sizeof buf, 0));
    CHECK_RETURNS(0, frame_reader_read(reader, buf, sizeof buf, 0));
    CHECK(memcmp(buf, "89", 2) == 0 && frame_reader_left(reader) == 0);

    CHECK_RETURNS(0, frame_reader_next_header(reader, &view, 0));
    CHECK_RETURNS(0, frame_reader_copy(reader, pipes[1], 0));
    read_all(pipes[0], buf, 6);
    CHECK(memcmp(buf, "copied", 6) == 0);
    CHECK_RETURNS(0, frame_reader_next_header(reader, &view, 0));
    CHECK_RETURNS(0, frame_reader_skip(reader, 0));
    CHECK_RETURNS(0, frame_reader_next_header(reader, &view, 0));
    CHECK(frame_reader_left(reader) == 0);
    CHECK_RETURNS(0, frame_reader_skip(reader, 0));

    write_all(fd[0], "\x0f\0\0\0{\"data_size\":9}abc", 22);
    CHECK_RETURNS(0, frame_reader_next_header(reader, &view, 0));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_copy(reader, pipes[1], FRAME_DONT_WAIT));
    CHECK(frame_reader_left(reader) == 6);
    read_all(pipes[0], buf, 3);
    CHECK(memcmp(buf, "abc", 3) == 0);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_read(reader, buf, sizeof buf, FRAME_DONT_WAIT));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_skip(reader, 10));
    write_all(fd[0], "def", 3);
    CHECK(close(fd[0]) == 0);
    CHECK_RETURNS(FRAME_ETRUNCATED, frame_reader_skip(reader, 0));
    CHECK(frame_reader_left(reader) == 3);
    CHECK_RETURNS(FRAME_ETRUNCATED, frame_reader_next(reader, &view, 1, 0));
    frame_reader_free(reader);
    CHECK(close(fd[1]) == 0);
    close_both(pipes);
}

/* What sends a frame while this program receives it. */
struct sending {
    int fd;
    uint32_t count;
    size_t size;
    pthread_t thread;
};

static void *send_numbered(void *argument)
{
    struct sending *sending = argument;
    char *body = malloc(sending->size);
    uint32_t n;
    CHECK(body != NULL);
    for (n = 0; n < sending->count; n++) {
        number(body, sending->size, n);
        CHECK_RETURNS(0, frame_send(sending->fd, NULL, body, sending->size, NULL));
    }
    free(body);
    return NULL;
}

static void start_sending(struct sending *sending, int fd, uint32_t count, size_t size)
{
    sending->fd = fd;
    sending->count = count;
    sending->size = size;
    CHECK(pthread_create(&sending->thread, NULL, send_numbered, sending) == 0);
}

/* A large read takes nothing into the buffer, and nothing of the frame behind the body. */
static void a_large_body_goes_past_the_buffer(void)
{
    static char body[2 * MIB];
    struct sending sending;
    struct frame_reader *reader;
    struct frame_view view;
    uint32_t n;
    int fd[2];
    socket_pair(fd);
    start_sending(&sending, fd[0], 2, sizeof body);
    reader = new_reader(fd[1]);
    for (n = 0; n < 2; n++) {
        size_t got = 0, rest = 1;
        CHECK_RETURNS(0, frame_reader_next_header(reader, &view, 0));
        while (frame_reader_left(reader) > 0) {
            /* The first half in pieces, so that there is a look at what is between them. */
            size_t room = got < MIB ? MIB / 4 : sizeof body - got + 1;
            int64_t count = frame_reader_read(reader, body + got, room, 0);
            CHECK(count > 0);
            got += (size_t)count;
            if (got >= 2 * BUFFER && got < sizeof body - BUFFER)
                CHECK(frame_reader_rest(reader, &rest) == NULL && rest == 0);
        }
        CHECK(got == sizeof body && rest == 0);
        check_number(body, sizeof body, n);
    }
    CHECK(pthread_join(sending.thread, NULL) == 0);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(reader, &view, 1, FRAME_DONT_WAIT));
    frame_reader_free(reader);
    close_both(fd);
}

static void a_frame_larger_than_the_buffer_is_gathered(void)
{
    struct sending sending;
    struct frame_reader *reader;
    struct frame_view views[2];
    uint32_t n = 0;
    int fd[2];
    socket_pair(fd);
    start_sending(&sending, fd[0], 3, 3 * MIB);
    reader = new_reader(fd[1]);
    while (n < 3) {
        int64_t count = frame_reader_next(reader, views, 2, 0), i;
        CHECK(count > 0);
        for (i = 0; i < count; i++, n++) {
            CHECK(views[i].body_len == 3 * MIB);
            check_number(views[i].body, views[i].body_len, n);
        }
    }
    CHECK(pthread_join(sending.thread, NULL) == 0);
    frame_reader_free(reader);
    close_both(fd);
}

static void what_was_read_and_not_taken_is_given_back(void)
{
    struct frame_reader *reader;
    struct frame_view view;
    const void *rest;
    char buf[8];
    size_t len;
    int fd[2];
    socket_pair(fd);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, NULL));
    write_all(fd[0], "plain", 5);
    reader = new_reader(fd[1]);
    CHECK(frame_reader_rest(reader, &len) == NULL && len == 0);
    CHECK_RETURNS(1, frame_reader_next(reader, &view, 1, 0));
    rest = frame_reader_rest(reader, &len);
    CHECK_BYTES("plain", rest, len);
    CHECK(frame_reader_rest(reader, NULL) == rest);
    write_all(fd[0], " text", 5);
    read_all(fd[1], buf, 5);
    CHECK(memcmp(buf, " text", 5) == 0);
    frame_reader_free(reader);
    close_both(fd);
}

static void packets_go_in_every_layout(void)
{
    static const uint32_t prefixes[] = {
        0, 1, 2, 8, 4 | FRAME_PREFIX_BIG_ENDIAN, 8 | FRAME_PREFIX_UNSIGNED,
    };
    size_t i;
    for (i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        struct frame_options opts = FRAME_OPTIONS_INIT;
        struct frame_reader *reader;
        struct frame_writer *writer;
        struct frame_view views[3];
        struct frame *packet;
        int fd[2];
        socket_pair(fd);
        opts.prefix = prefixes[i];
        CHECK_RETURNS(0, frame_writer_new(fd[0], &writer, &opts));
        CHECK_RETURNS(0, frame_reader_new(fd[1], &reader, &opts));
        CHECK_RETURNS(0, frame_writer_send_packet(writer, "stateless", 9, 0));
        CHECK_RETURNS(0, frame_writer_send_packet(writer, NULL, 0, 0));
        CHECK_RETURNS(0, frame_writer_send_packet(writer, "hello", 5, 0));
        CHECK_RETURNS(0, frame_writer_flush(writer, 0));
        CHECK_RETURNS(0, frame_packet_recv(fd[1], &packet, &opts));
        CHECK_BODY("stateless", packet);
        frame_free(packet);
        CHECK_RETURNS(2, frame_reader_next_packet(reader, views, 3, 0));
        CHECK(views[0].header == NULL && views[0].body == NULL && views[0].body_len == 0);
        CHECK_BYTES("hello", views[1].body, views[1].body_len);
        frame_writer_free(writer);
        frame_reader_free(reader);
        close_both(fd);
    }
}

/* ---- the writer */

static void what_is_queued_goes_out_when_it_is_told_or_enough(void)
{
    static char body[1000];
    struct frame_reader *reader;
    struct frame_writer *writer;
    struct frame_view view;
    size_t sent = 0;
    int fd[2];
    socket_pair(fd);
    writer = new_writer(fd[0]);
    reader = new_reader(fd[1]);

    CHECK_RETURNS(0, frame_writer_send(writer, "{\"n\":1}", "hello", 5, 0));
    CHECK(unread(fd[1]) == 0 && frame_writer_left(writer) == 4 + 21 + 5);
    CHECK_RETURNS(0, frame_writer_flush(writer, 0));
    CHECK(unread(fd[1]) == 4 + 21 + 5 && frame_writer_left(writer) == 0);
    CHECK_RETURNS(0, frame_writer_flush(writer, 0));
    CHECK_RETURNS(1, frame_reader_next(reader, &view, 1, 0));
    CHECK(strcmp(view.header, "{\"data_size\":5,\"n\":1}") == 0);

    while (unread(fd[1]) == 0) {
        CHECK_RETURNS(0, frame_writer_send(writer, NULL, body, sizeof body, 0));
        sent += 4 + 18 + sizeof body;
        CHECK(frame_writer_left(writer) <= BUFFER && sent <= 2 * BUFFER);
    }
    CHECK(sent > BUFFER && unread(fd[1]) + frame_writer_left(writer) == sent);

    /* What is refused leaves no trace. */
    sent = frame_writer_left(writer);
    CHECK_RETURNS(FRAME_EBADJSON, frame_writer_send(writer, "[]", "x", 1, 0));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_writer_send(writer, "{\"data_size\":1}", "x", 1, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_writer_send(writer, NULL, "x", 1, -3));
    CHECK(frame_writer_left(writer) == sent);
    frame_writer_free(writer);
    frame_reader_free(reader);
    close_both(fd);
}

/* Reads what a writer sends until it has nothing left, and checks the numbers of count frames
 * of size bytes. */
static void receive_numbered(struct frame_writer *writer, int fd, uint32_t count, size_t size)
{
    struct frame_reader *reader = new_reader(fd);
    struct frame_view view;
    uint32_t n = 0;
    while (n < count) {
        int code = frame_writer_flush(writer, FRAME_DONT_WAIT);
        CHECK(code == (frame_writer_left(writer) ? FRAME_ETIMEDOUT : 0));
        while (frame_reader_next(reader, &view, 1, FRAME_DONT_WAIT) == 1) {
            CHECK(view.body_len == size);
            check_number(view.body, size, n++);
        }
    }
    CHECK(n == count && frame_writer_left(writer) == 0 && unread(fd) == 0);
    frame_reader_free(reader);
}

/* Nobody reads: the queue fills, then nothing more is accepted, then all of it arrives. */
static void a_full_writer_accepts_whole_frames_or_nothing(void)
{
    static char body[30000];
    int blocking;
    for (blocking = 0; blocking < 2; blocking++) {
        struct frame_writer *writer;
        uint32_t accepted = 0;
        size_t left;
        int code, before, fd[2];
        socket_pair(fd);
        set_blocking(fd[0], blocking);
        before = fcntl(fd[0], F_GETFL);
        writer = new_writer(fd[0]);
        for (;;) {
            number(body, sizeof body, accepted);
            left = frame_writer_left(writer);
            code = frame_writer_send(writer, NULL, body, sizeof body, FRAME_DONT_WAIT);
            if (code != 0)
                break;
            accepted++;
        }
        CHECK(code == FRAME_ETIMEDOUT && accepted > 2);
        CHECK(left == frame_writer_left(writer) && left <= BUFFER);
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_writer_send(writer, NULL, body, sizeof body, 20));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_writer_flush(writer, 20));
        CHECK(left == frame_writer_left(writer));
        CHECK(fcntl(fd[0], F_GETFL) == before);
        receive_numbered(writer, fd[1], accepted, sizeof body);
        frame_writer_free(writer);
        close_both(fd);
    }
}

static void a_large_frame_is_accepted_when_a_part_went_out(void)
{
    static char body[4 * MIB];
    struct frame_writer *writer;
    size_t left;
    int fd[2];
    socket_pair(fd);
    writer = new_writer(fd[0]);
    number(body, sizeof body, 0);
    CHECK_RETURNS(0, frame_writer_send(writer, NULL, body, sizeof body, FRAME_DONT_WAIT));
    left = frame_writer_left(writer);
    CHECK(left > BUFFER && left < sizeof body);
    CHECK(left + unread(fd[1]) == sizeof body + 4 + 21);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_writer_send(writer, NULL, "x", 1, FRAME_DONT_WAIT));
    memset(body, 0, sizeof body);
    receive_numbered(writer, fd[1], 1, sizeof body);
    frame_writer_free(writer);
    close_both(fd);
}

static void many_are_sent_in_one_call(void)
{
    static char body[30000];
    static const char *const headers[] = {"{\"a\":1}", NULL, "[]", "{\"b\":2}"};
    const void *bodies[] = {"one", NULL, "three", "four"};
    const void *many[32];
    size_t lens[] = {3, 0, 5, 4}, many_lens[32], left, i;
    int64_t accepted;
    struct frame_writer *writer;
    struct frame_reader *reader;
    struct frame_view views[8];
    int fd[2];
    socket_pair(fd);
    writer = new_writer(fd[0]);
    reader = new_reader(fd[1]);

    CHECK_RETURNS(0, frame_writer_send_many(writer, NULL, NULL, NULL, 0, 0));
    CHECK_RETURNS(4, frame_writer_send_many(writer, NULL, bodies, lens, 4, 0));
    CHECK_RETURNS(2, frame_writer_send_many(writer, headers, bodies, lens, 4, 0));
    CHECK_RETURNS(FRAME_EBADJSON,
                  frame_writer_send_many(writer, headers + 2, bodies + 2, lens + 2, 2, 0));
    CHECK_RETURNS(1, frame_writer_send_many(writer, headers + 3, bodies + 3, lens + 3, 1, 0));
    CHECK_RETURNS(0, frame_writer_flush(writer, 0));
    CHECK_RETURNS(7, frame_reader_next(reader, views, 8, 0));
    CHECK(strcmp(views[3].header, "{\"data_size\":4}") == 0);
    CHECK_BYTES("four", views[3].body, views[3].body_len);
    CHECK(strcmp(views[4].header, "{\"data_size\":3,\"a\":1}") == 0 && views[5].body == NULL);
    CHECK(strcmp(views[6].header, "{\"data_size\":4,\"b\":2}") == 0);
    frame_reader_free(reader);

    for (i = 0; i < 32; i++) {
        many[i] = body;
        many_lens[i] = sizeof body;
    }
    number(body, sizeof body, 0);
    accepted = frame_writer_send_many(writer, NULL, many, many_lens, 32, 20);
    CHECK(accepted > 2 && accepted < 32);
    left = frame_writer_left(writer);
    CHECK_RETURNS(FRAME_ETIMEDOUT,
                  frame_writer_send_many(writer, NULL, many, many_lens, 1, FRAME_DONT_WAIT));
    CHECK(left == frame_writer_left(writer));
    CHECK(left + unread(fd[1]) == (size_t)accepted * (4 + 19 + sizeof body));
    frame_writer_free(writer);
    close_both(fd);
}

static void a_reader_that_is_gone_is_an_errno_that_sticks(void)
{
    int kind, fd[2];
    signal(SIGPIPE, SIG_DFL); /* which ends the process */
    for (kind = 0; kind < 4; kind++) {
        int timeout_ms = kind < 2 ? 0 : 1000;
        struct frame_writer *writer;
        if (kind % 2)
            CHECK(pipe(fd) == 0);
        else
            socket_pair(fd);
        writer = new_writer(fd[1]);
        CHECK(close(fd[0]) == 0);
        CHECK_RETURNS(0, frame_writer_send(writer, NULL, "hello", 5, timeout_ms));
        errno = 0;
        CHECK_RETURNS(FRAME_EIO, frame_writer_flush(writer, timeout_ms));
        CHECK(errno == EPIPE);
        errno = 0;
        CHECK_RETURNS(FRAME_EIO, frame_writer_send(writer, NULL, "hello", 5, timeout_ms));
        CHECK(errno == EPIPE);
        CHECK_RETURNS(FRAME_EIO, frame_writer_send_packet(writer, "hello", 5, timeout_ms));
        CHECK_RETURNS(FRAME_EIO, frame_writer_flush(writer, timeout_ms));
        frame_writer_free(writer);
        CHECK(close(fd[1]) == 0);
    }
}

/* ---- both, tied */

static void a_reader_sends_what_is_queued_before_it_waits(void)
{
    struct frame_reader *reader, *other;
    struct frame_writer *writer;
    struct frame_view view;
    struct frame *frame;
    char byte;
    int fd[2];
    socket_pair(fd);
    reader = new_reader(fd[0]);
    other = new_reader(fd[0]);
    writer = new_writer(fd[0]);

    CHECK_RETURNS(0, frame_reader_tie(reader, writer));
    CHECK_RETURNS(0, frame_writer_send(writer, NULL, "ask", 3, 0));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(reader, &view, 1, FRAME_DONT_WAIT));
    CHECK(frame_writer_left(writer) == 0);
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK_BODY("ask", frame);
    frame_free(frame);

    /* So does one that waits for the rest of a body. */
    write_all(fd[1], "\x0f\0\0\0{\"data_size\":1}", 19);
    CHECK_RETURNS(0, frame_reader_next_header(reader, &view, 0));
    CHECK_RETURNS(0, frame_writer_send(writer, NULL, "more", 4, 0));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_read(reader, &byte, 1, FRAME_DONT_WAIT));
    CHECK(frame_writer_left(writer) == 0);
    write_all(fd[1], "x", 1);
    CHECK_RETURNS(0, frame_reader_skip(reader, 0));

    /* A reply that is there already is not waited for. */
    CHECK_RETURNS(0, frame_send(fd[1], NULL, "1", 1, NULL));
    CHECK_RETURNS(0, frame_send(fd[1], NULL, "2", 1, NULL));
    CHECK_RETURNS(1, frame_reader_next(reader, &view, 1, 0));
    CHECK_RETURNS(0, frame_writer_send(writer, NULL, "later", 5, 0));
    CHECK_RETURNS(1, frame_reader_next(reader, &view, 1, 0));
    CHECK(frame_writer_left(writer) > 0);

    /* Another tie ends this one, and NULL ends that. */
    CHECK_RETURNS(0, frame_reader_tie(other, writer));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(reader, &view, 1, FRAME_DONT_WAIT));
    CHECK(frame_writer_left(writer) > 0);
    CHECK_RETURNS(0, frame_reader_tie(other, NULL));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(other, &view, 1, FRAME_DONT_WAIT));
    CHECK(frame_writer_left(writer) > 0);
    CHECK_RETURNS(0, frame_reader_tie(other, writer));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(other, &view, 1, FRAME_DONT_WAIT));
    CHECK(frame_writer_left(writer) == 0);
    frame_reader_free(reader);
    frame_reader_free(other);
    frame_writer_free(writer);
    close_both(fd);
}

static void whatever_is_freed_first_is_untied(void)
{
    struct frame_reader *first, *second;
    struct frame_writer *writer, *other;
    struct frame_view view;
    int fd[2];
    socket_pair(fd);

    first = new_reader(fd[0]);
    writer = new_writer(fd[0]);
    CHECK_RETURNS(0, frame_reader_tie(first, writer));
    frame_writer_free(writer);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_reader_next(first, &view, 1, FRAME_DONT_WAIT));

    writer = new_writer(fd[0]);
    CHECK_RETURNS(0, frame_reader_tie(first, writer));
    frame_reader_free(first);
    CHECK_RETURNS(0, frame_writer_send(writer, NULL, NULL, 0, 0));
    CHECK_RETURNS(0, frame_writer_flush(writer, 0));

    first = new_reader(fd[0]);
    second = new_reader(fd[0]);
    CHECK_RETURNS(0, frame_reader_tie(first, writer));
    CHECK_RETURNS(0, frame_reader_tie(first, writer));
    CHECK_RETURNS(0, frame_reader_tie(second, writer));
    frame_reader_free(first);
    other = new_writer(fd[0]);
    CHECK_RETURNS(0, frame_reader_tie(second, other));
    frame_writer_free(writer);
    CHECK_RETURNS(0, frame_reader_tie(second, NULL));
    frame_reader_free(second);
    frame_writer_free(other);
    close_both(fd);
}

/* One of two ends, each of which sends 10 MiB before it reads. */
struct end {
    int from, to, tied, timed_out;
    pthread_t thread;
};

static void *send_all_then_receive(void *argument)
{
    enum { COUNT = 10 };
    struct end *end = argument;
    struct frame_reader *reader = new_reader(end->from);
    struct frame_writer *writer = new_writer(end->to);
    int timeout_ms = end->tied ? 30000 : 200;
    char *body = malloc(MIB);
    uint32_t n;
    CHECK(body != NULL);
    if (end->tied)
        CHECK_RETURNS(0, frame_reader_tie(reader, writer));
    for (n = 0; n < COUNT && !end->timed_out; n++) {
        int code;
        number(body, MIB, n);
        code = frame_writer_send(writer, NULL, body, MIB, timeout_ms);
        CHECK(code == 0 || code == FRAME_ETIMEDOUT);
        end->timed_out = code != 0;
    }
    for (n = 0; n < COUNT && !end->timed_out; n++) {
        struct frame_view view;
        CHECK_RETURNS(1, frame_reader_next(reader, &view, 1, timeout_ms));
        CHECK(view.body_len == MIB);
        check_number(view.body, MIB, n);
    }
    if (end->tied)
        CHECK_RETURNS(0, frame_writer_flush(writer, timeout_ms));
    frame_writer_free(writer);
    frame_reader_free(reader);
    free(body);
    return NULL;
}

static void two_ends_that_send_before_they_read_need_a_tie(void)
{
    int kind, i;
    for (kind = 0; kind < 4; kind++) {
        struct end ends[2];
        int there[2], back[2];
        if (kind % 2) {
            CHECK(pipe(there) == 0 && pipe(back) == 0);
        } else {
            socket_pair(there);
            CHECK((back[0] = dup(there[1])) >= 0 && (back[1] = dup(there[0])) >= 0);
        }
        ends[0].from = there[0];
        ends[0].to = back[1];
        ends[1].from = back[0];
        ends[1].to = there[1];
        for (i = 0; i < 2; i++) {
            ends[i].tied = kind < 2;
            ends[i].timed_out = 0;
            CHECK(pthread_create(&ends[i].thread, NULL, send_all_then_receive, &ends[i]) == 0);
        }
        for (i = 0; i < 2; i++) {
            CHECK(pthread_join(ends[i].thread, NULL) == 0);
            CHECK(ends[i].timed_out == !ends[i].tied);
        }
        close_both(there);
        close_both(back);
    }
}

/* A client that reads only when it has sent everything, which is more than sockets hold. */
enum { ECHOES = 100, ECHO_SIZE = 50000 };

static void *send_then_expect_echoes(void *fd)
{
    struct sending sending = {0, ECHOES, ECHO_SIZE, 0};
    uint32_t n;
    sending.fd = *(int *)fd;
    send_numbered(&sending);
    for (n = 0; n < ECHOES; n++) {
        struct frame *frame;
        size_t len;
        const void *body;
        CHECK_RETURNS(0, frame_recv(sending.fd, &frame, NULL));
        body = frame_body(frame, &len);
        CHECK(len == ECHO_SIZE);
        check_number(body, len, n);
        frame_free(frame);
    }
    return NULL;
}

static void what_is_lent_stays_while_the_writer_waits(void)
{
    struct frame_reader *reader;
    struct frame_writer *writer;
    struct frame_view views[8];
    uint32_t n = 0;
    pthread_t client;
    int fd[2];
    socket_pair(fd);
    CHECK(pthread_create(&client, NULL, send_then_expect_echoes, &fd[1]) == 0);
    reader = new_reader(fd[0]);
    writer = new_writer(fd[0]);
    CHECK_RETURNS(0, frame_reader_tie(reader, writer));
    while (n < ECHOES) {
        int64_t count = frame_reader_next(reader, views, 8, 0), i;
        CHECK(count > 0);
        for (i = 0; i < count; i++, n++) {
            check_number(views[i].body, views[i].body_len, n);
            CHECK_RETURNS(0, frame_writer_send(writer, NULL, views[i].body, views[i].body_len, 0));
        }
    }
    CHECK_RETURNS(0, frame_writer_flush(writer, 0));
    CHECK(pthread_join(client, NULL) == 0);
    frame_reader_free(reader);
    frame_writer_free(writer);
    close_both(fd);
}

int main(void)
{
    frames_that_came_together_are_lent_together();
    a_timeout_loses_nothing();
    an_error_comes_after_the_frames_before_it_and_sticks();
    the_end_tells_where_it_is();
    a_body_is_read_in_pieces();
    a_large_body_goes_past_the_buffer();
    a_frame_larger_than_the_buffer_is_gathered();
    what_was_read_and_not_taken_is_given_back();
    packets_go_in_every_layout();
    what_is_queued_goes_out_when_it_is_told_or_enough();
    a_full_writer_accepts_whole_frames_or_nothing();
    a_large_frame_is_accepted_when_a_part_went_out();
    many_are_sent_in_one_call();
    a_reader_that_is_gone_is_an_errno_that_sticks();
    a_reader_sends_what_is_queued_before_it_waits();
    whatever_is_freed_first_is_untied();
    two_ends_that_send_before_they_read_need_a_tie();
    what_is_lent_stays_while_the_writer_waits();
    return 0;
}
