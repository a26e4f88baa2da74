/* Many messages through a connection: read ahead, borrowed, queued, and written together. */
#include "check.h"

#include <pthread.h>
#include <signal.h>

enum { MIB = 1 << 20, BUFFER = 64 * 1024 };

/* A connection over a descriptor that stays the caller's. */
static struct frame_connection_state state_of(struct frame_connection *c)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    CHECK_RETURNS(0, frame_connection_inspect(c, &state));
    return state;
}

static size_t queued(struct frame_connection *c)
{
    return (size_t)state_of(c).queued;
}

static int queue(struct frame_connection *c, const char *header, const void *body, size_t len,
                 int timeout_ms)
{
    struct frame_view message = {header, 0, body, len};
    int64_t accepted = frame_connection_queue(c, &message, 1, timeout_ms);
    return accepted == 1 ? 0 : (int)accepted;
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

/* ---- receiving */

static void frames_that_came_together_are_lent_together(void)
{
    struct frame_view views[4];
    struct frame_connection *c;
    int fd[2];
    socket_pair(fd);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"n\":1}", "one", 3, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "three", 5, NULL));
    c = connection_of(fd[1], fd[1], 0);

    CHECK_RETURNS(2, frame_connection_next(c, views, 2, -1));
    CHECK(unread(fd[1]) == 0);
    CHECK(strcmp(views[0].header, "{\"data_size\":3,\"n\":1}") == 0 && views[0].header_len == 21);
    CHECK_BYTES("one", views[0].body, views[0].body_len);
    CHECK(strcmp(views[1].header, "{\"data_size\":0}") == 0 && views[1].header_len == 15);
    CHECK(views[1].body == NULL && views[1].body_len == 0);
    CHECK_RETURNS(1, frame_connection_next(c, views, 4, 0));
    CHECK_BYTES("three", views[0].body, views[0].body_len);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_next(c, views, 4, 0));
    frame_connection_free(c);
    close_both(fd);
}

/* A byte at a time, with a timeout after each, on a descriptor whose flags a twin shares. */
static void a_timeout_loses_nothing(void)
{
    static const char frame[] = "\x0f\0\0\0{\"data_size\":5}hello";
    int blocking;
    for (blocking = 0; blocking < 2; blocking++) {
        struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
        struct frame_connection *c;
        struct frame_view view;
        size_t at;
        int64_t start;
        int fd[2], twin, before;
        socket_pair(fd);
        set_blocking(fd[1], blocking);
        before = fcntl(fd[1], F_GETFL);
        CHECK((twin = dup(fd[1])) >= 0);
        opts.timeout_ms = 20;
        CHECK_RETURNS(0, frame_connection_new(fd[1], fd[1], &opts, &c));

        for (at = 0; at < sizeof frame - 1; at++) {
            CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_next(c, &view, 1, 0));
            write_all(fd[0], frame + at, 1);
        }
        CHECK_RETURNS(1, frame_connection_next(c, &view, 1, 0));
        CHECK_BYTES("hello", view.body, view.body_len);

        write_all(fd[0], frame, 9);
        start = milliseconds();
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_next(c, &view, 1, FRAME_DEFAULT_TIMEOUT));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_next(c, &view, 1, 30));
        CHECK(milliseconds() - start >= 50 && milliseconds() - start < 10000);
        write_all(fd[0], frame + 9, sizeof frame - 10);
        CHECK_RETURNS(1, frame_connection_next(c, &view, 1, -1));
        CHECK_BYTES("hello", view.body, view.body_len);
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_next(c, &view, 1, -3));
        CHECK(fcntl(fd[1], F_GETFL) == before && fcntl(twin, F_GETFL) == before);
        frame_connection_free(c);
        CHECK(close(twin) == 0);
        close_both(fd);
    }
}

static void an_error_comes_after_the_frames_before_it_and_breaks_the_connection(void)
{
    struct frame_connection *c;
    struct frame_view views[4];
    int fd[2];
    socket_pair(fd);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "one", 3, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "two", 3, NULL));
    write_all(fd[0], "\x02\0\0\0[]", 6);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "lost", 4, NULL));
    c = connection_of(fd[1], fd[1], 0);
    CHECK_RETURNS(2, frame_connection_next(c, views, 4, LONG));
    CHECK_BYTES("two", views[1].body, views[1].body_len);
    CHECK_RETURNS(FRAME_EBADJSON, frame_connection_next(c, views, 4, LONG));
    CHECK_RETURNS(FRAME_EBROKEN, frame_connection_next(c, views, 4, LONG));
    CHECK(strstr(frame_last_error(), frame_strerror(FRAME_EBADJSON)) != NULL);
    CHECK_RETURNS(FRAME_EBROKEN, frame_connection_recv_header(c, LONG, views, NULL));
    CHECK(state_of(c).broken == FRAME_EBADJSON);
    frame_connection_free(c);
    close_both(fd);
}

static void the_end_tells_where_it_is(void)
{
    size_t cut;
    for (cut = 0; cut < 20; cut++) {
        int code = cut == 0 ? FRAME_ECLOSED : FRAME_ETRUNCATED;
        struct frame_connection *c;
        struct frame_view views[2];
        int fd[2];
        socket_pair(fd);
        CHECK_RETURNS(0, frame_send(fd[0], NULL, "whole", 5, NULL));
        write_all(fd[0], "\x0f\0\0\0{\"data_size\":1}", cut);
        CHECK(close(fd[0]) == 0);
        c = connection_of(fd[1], fd[1], 0);
        CHECK_RETURNS(1, frame_connection_next(c, views, 2, LONG));
        CHECK_BYTES("whole", views[0].body, views[0].body_len);
        CHECK_RETURNS(code, frame_connection_next(c, views, 2, LONG));
        CHECK_RETURNS(cut == 0 ? code : FRAME_EBROKEN, frame_connection_next(c, views, 2, 0));
        frame_connection_free(c);
        CHECK(close(fd[1]) == 0);
    }
}

static void a_body_is_read_in_pieces(void)
{
    struct frame_connection *c;
    struct frame_view view;
    uint64_t body_len;
    char buf[8];
    int fd[2], pipes[2];
    socket_pair(fd);
    CHECK(pipe(pipes) == 0);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"n\":1}", "0123456789", 10, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "copied", 6, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "dropped", 7, NULL));
    CHECK_RETURNS(0, frame_send(fd[0], NULL, NULL, 0, NULL));
    c = connection_of(fd[1], fd[1], 0);

    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, &body_len));
    CHECK(strcmp(view.header, "{\"data_size\":10,\"n\":1}") == 0);
    CHECK(view.body == NULL && view.body_len == 0 && body_len == 10);
    CHECK_RETURNS(8, frame_connection_read(c, buf, sizeof buf, LONG));
    CHECK(memcmp(buf, "01234567", 8) == 0 && state_of(c).to_receive == 2);
    CHECK_RETURNS(2, frame_connection_read(c, buf, sizeof buf, LONG));
    CHECK_RETURNS(0, frame_connection_read(c, buf, sizeof buf, LONG));
    CHECK(memcmp(buf, "89", 2) == 0 && state_of(c).to_receive == 0);

    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(6, frame_connection_read_to(c, pipes[1], LONG));
    read_all(pipes[0], buf, 6);
    CHECK(memcmp(buf, "copied", 6) == 0);
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, &body_len));
    CHECK(body_len == 7);
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, &body_len));
    CHECK(body_len == 0);

    write_all(fd[0], "\x0f\0\0\0{\"data_size\":9}abc", 22);
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(3, frame_connection_read_to(c, pipes[1], 10));
    CHECK(state_of(c).to_receive == 6);
    read_all(pipes[0], buf, 3);
    CHECK(memcmp(buf, "abc", 3) == 0);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_read(c, buf, sizeof buf, 0));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_recv_header(c, 10, &view, NULL));
    write_all(fd[0], "def", 3);
    CHECK(close(fd[0]) == 0);
    CHECK_RETURNS(3, frame_connection_read(c, buf, sizeof buf, LONG));
    CHECK_RETURNS(FRAME_ETRUNCATED, frame_connection_read(c, buf, sizeof buf, LONG));
    CHECK_RETURNS(FRAME_EBROKEN, frame_connection_next(c, &view, 1, LONG));
    frame_connection_free(c);
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
    struct frame_connection *c;
    struct frame_view view;
    const void *rest;
    uint32_t n;
    int fd[2];
    socket_pair(fd);
    start_sending(&sending, fd[0], 2, sizeof body);
    c = connection_of(fd[1], fd[1], 0);
    for (n = 0; n < 2; n++) {
        size_t got = 0;
        CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
        while (got < sizeof body) {
            /* The first half in pieces. */
            size_t room = got < MIB ? MIB / 4 : sizeof body - got;
            int64_t count = frame_connection_read(c, body + got, room, LONG);
            CHECK(count > 0);
            got += (size_t)count;
        }
        check_number(body, sizeof body, n);
    }
    CHECK(pthread_join(sending.thread, NULL) == 0);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_next(c, &view, 1, 0));
    write_all(fd[0], "\x0f\0\0\0{\"data_size\":9}abc", 22);
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(3, frame_connection_read(c, body, 9, LONG));
    write_all(fd[0], "def", 3);
    CHECK_RETURNS(0, frame_connection_unread(c, &rest, &(size_t){0}));
    CHECK(unread(fd[1]) == 3);
    frame_connection_free(c);
    close_both(fd);
}

static void a_frame_larger_than_the_buffer_is_gathered(void)
{
    struct sending sending;
    struct frame_connection *c;
    struct frame_view views[2];
    uint32_t n = 0;
    int fd[2];
    socket_pair(fd);
    start_sending(&sending, fd[0], 3, 3 * MIB);
    c = connection_of(fd[1], fd[1], 0);
    while (n < 3) {
        int64_t count = frame_connection_next(c, views, 2, LONG), i;
        CHECK(count > 0);
        for (i = 0; i < count; i++, n++) {
            CHECK(views[i].body_len == 3 * MIB);
            check_number(views[i].body, views[i].body_len, n);
        }
    }
    CHECK(pthread_join(sending.thread, NULL) == 0);
    frame_connection_free(c);
    close_both(fd);
}

static void what_was_read_and_not_taken_is_given_back(void)
{
    struct frame_connection *c;
    struct frame_view view;
    const void *rest;
    char buf[8];
    size_t len;
    int fd[2];
    socket_pair(fd);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "hello", 5, NULL));
    write_all(fd[0], "plain", 5);
    c = connection_of(fd[1], fd[1], 0);
    CHECK_RETURNS(1, frame_connection_next(c, &view, 1, LONG));
    CHECK_RETURNS(0, frame_connection_unread(c, &rest, &len));
    CHECK_BYTES("plain", rest, len);
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_next(c, &view, 1, LONG));
    write_all(fd[0], " text", 5);
    read_all(fd[1], buf, 5);
    CHECK(memcmp(buf, " text", 5) == 0);
    frame_connection_free(c);
    close_both(fd);
}

static void packets_go_in_every_layout(void)
{
    static const uint32_t prefixes[] = {
        0, 1, 2, 8, 4 | FRAME_PREFIX_BIG_ENDIAN, 8 | FRAME_PREFIX_UNSIGNED,
    };
    static const struct frame_view messages[] = {
        {NULL, 0, "stateless", 9}, {NULL, 0, NULL, 0}, {NULL, 0, "hello", 5},
    };
    size_t i;
    for (i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
        struct frame_options raw = FRAME_OPTIONS_INIT;
        struct frame_connection *c[2];
        struct frame_view views[3];
        struct frame *packet;
        int fd[2];
        socket_pair(fd);
        opts.format = raw.format = FRAME_FORMAT_PACKETS;
        opts.prefix = raw.prefix = prefixes[i];
        CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &opts, &c[0]));
        CHECK_RETURNS(0, frame_connection_new(fd[1], fd[1], &opts, &c[1]));
        CHECK_RETURNS(3, frame_connection_queue(c[0], messages, 3, 0));
        CHECK_RETURNS(0, frame_connection_flush(c[0], LONG));
        CHECK_RETURNS(0, frame_recv(fd[1], &packet, &raw));
        CHECK_BODY("stateless", packet);
        frame_free(packet);
        CHECK_RETURNS(2, frame_connection_next(c[1], views, 3, LONG));
        CHECK(views[0].header == NULL && views[0].body == NULL && views[0].body_len == 0);
        CHECK_BYTES("hello", views[1].body, views[1].body_len);
        frame_connection_free(c[0]);
        frame_connection_free(c[1]);
        close_both(fd);
    }
}

/* ---- sending */

static void what_is_queued_goes_out_when_it_is_told_or_enough(void)
{
    static char body[1000];
    struct frame_connection *c;
    struct frame *frame;
    size_t sent = 0;
    int fd[2];
    socket_pair(fd);
    c = connection_of(fd[0], fd[0], 0);

    CHECK_RETURNS(0, queue(c, "{\"n\":1}", "hello", 5, LONG));
    CHECK(unread(fd[1]) == 0 && queued(c) == 4 + 21 + 5);
    CHECK_RETURNS(0, frame_connection_flush(c, LONG));
    CHECK(unread(fd[1]) == 4 + 21 + 5 && queued(c) == 0);
    CHECK_RETURNS(0, frame_connection_flush(c, LONG));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK(strcmp(frame_header(frame, NULL), "{\"data_size\":5,\"n\":1}") == 0);
    frame_free(frame);

    while (unread(fd[1]) == 0) {
        CHECK_RETURNS(0, queue(c, NULL, body, sizeof body, LONG));
        sent += 4 + 18 + sizeof body;
        CHECK(queued(c) <= BUFFER && sent <= 2 * BUFFER);
    }
    CHECK(sent > BUFFER - sizeof body - 22 && unread(fd[1]) + queued(c) == sent);

    /* What is refused leaves no trace. */
    sent = queued(c);
    CHECK_RETURNS(FRAME_EBADJSON, queue(c, "[]", "x", 1, LONG));
    CHECK_RETURNS(FRAME_EBADFIELD, queue(c, "{\"data_size\":1}", "x", 1, LONG));
    CHECK_RETURNS(FRAME_EINVAL, queue(c, NULL, "x", 1, -3));
    CHECK(queued(c) == sent);
    frame_connection_free(c);
    close_both(fd);
}

/* Reads what a connection sends until it has nothing left, and checks the numbers of count
 * frames of size bytes. */
static void receive_numbered(struct frame_connection *c, int fd, uint32_t count, size_t size)
{
    struct frame_connection *reader = connection_of(fd, -1, 0);
    struct frame_view view;
    uint32_t n = 0;
    while (n < count) {
        int code = frame_connection_flush(c, 0);
        CHECK(code == (queued(c) ? FRAME_ETIMEDOUT : 0));
        while (frame_connection_next(reader, &view, 1, 0) == 1) {
            CHECK(view.body_len == size);
            check_number(view.body, size, n++);
        }
    }
    CHECK(n == count && queued(c) == 0 && unread(fd) == 0);
    frame_connection_free(reader);
}

/* Nobody reads: the queue fills, then nothing more is accepted, then all of it arrives. */
static void a_full_queue_accepts_whole_messages_or_nothing(void)
{
    static char body[30000];
    int blocking;
    for (blocking = 0; blocking < 2; blocking++) {
        struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
        struct frame_connection *c;
        uint32_t accepted = 0;
        size_t left;
        int code, before, fd[2];
        socket_pair(fd);
        set_blocking(fd[0], blocking);
        before = fcntl(fd[0], F_GETFL);
        opts.max_queue = 2 * BUFFER;
        CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &opts, &c));
        for (;;) {
            number(body, sizeof body, accepted);
            left = queued(c);
            code = queue(c, NULL, body, sizeof body, 0);
            if (code != 0)
                break;
            accepted++;
        }
        CHECK(code == FRAME_ETIMEDOUT && accepted > 2);
        CHECK(left == queued(c) && left <= 2 * BUFFER);
        CHECK_RETURNS(FRAME_ETIMEDOUT, queue(c, NULL, body, sizeof body, 20));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_flush(c, 20));
        CHECK(left == queued(c));
        CHECK(fcntl(fd[0], F_GETFL) == before);
        receive_numbered(c, fd[1], accepted, sizeof body);
        frame_connection_free(c);
        close_both(fd);
    }
}

static void a_large_message_is_accepted_when_a_part_went_out(void)
{
    static char body[4 * MIB];
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    size_t left;
    int fd[2];
    socket_pair(fd);
    opts.max_queue = 4 * MIB;
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &opts, &c));
    number(body, sizeof body, 0);
    CHECK_RETURNS(1, frame_connection_send(c, NULL, body, sizeof body, 0));
    left = queued(c);
    CHECK(left > BUFFER && left < sizeof body);
    CHECK(left + unread(fd[1]) == sizeof body + 4 + 21);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_send(c, NULL, body, sizeof body, 0));
    memset(body, 0, sizeof body);
    receive_numbered(c, fd[1], 1, sizeof body);
    frame_connection_free(c);
    close_both(fd);
}

static void many_are_queued_in_one_call(void)
{
    static char body[30000];
    struct frame_view messages[] = {
        {"{\"a\":1}", 0, "one", 3}, {NULL, 0, NULL, 0}, {"[]", 0, "three", 5}, {"{\"b\":2}", 0, "four", 4},
    };
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_view views[8], many[32];
    struct frame_connection *c[2];
    size_t left, i;
    int64_t accepted;
    int fd[2];
    socket_pair(fd);
    opts.max_queue = 2 * BUFFER;
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &opts, &c[0]));
    c[1] = connection_of(fd[1], fd[1], 0);

    CHECK_RETURNS(0, frame_connection_queue(c[0], NULL, 0, LONG));
    CHECK_RETURNS(2, frame_connection_queue(c[0], messages, 4, LONG));
    CHECK_RETURNS(FRAME_EBADJSON, frame_connection_queue(c[0], messages + 2, 2, LONG));
    CHECK_RETURNS(1, frame_connection_queue(c[0], messages + 3, 1, LONG));
    CHECK_RETURNS(0, frame_connection_flush(c[0], LONG));
    CHECK_RETURNS(3, frame_connection_next(c[1], views, 8, LONG));
    CHECK(strcmp(views[0].header, "{\"data_size\":3,\"a\":1}") == 0 && views[1].body == NULL);
    CHECK(strcmp(views[2].header, "{\"data_size\":4,\"b\":2}") == 0);
    CHECK_BYTES("four", views[2].body, views[2].body_len);
    frame_connection_free(c[1]);

    number(body, sizeof body, 0);
    for (i = 0; i < 32; i++)
        many[i] = (struct frame_view){NULL, 0, body, sizeof body};
    accepted = frame_connection_queue(c[0], many, 32, 20);
    CHECK(accepted > 2 && accepted < 32);
    left = queued(c[0]);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_queue(c[0], many, 1, 0));
    CHECK(left == queued(c[0]));
    CHECK(left + unread(fd[1]) == (size_t)accepted * (4 + 19 + sizeof body));
    frame_connection_free(c[0]);
    close_both(fd);
}

static void a_peer_that_is_gone_is_an_errno_and_then_broken(void)
{
    int kind, fd[2];
    signal(SIGPIPE, SIG_DFL); /* which ends the process */
    for (kind = 0; kind < 4; kind++) {
        int timeout_ms = kind < 2 ? -1 : 1000;
        struct frame_connection *c;
        if (kind % 2)
            CHECK(pipe(fd) == 0);
        else
            socket_pair(fd);
        c = connection_of(-1, fd[1], 0);
        CHECK(close(fd[0]) == 0);
        CHECK_RETURNS(0, queue(c, NULL, "hello", 5, timeout_ms));
        errno = 0;
        CHECK_RETURNS(FRAME_EIO, frame_connection_flush(c, timeout_ms));
        CHECK(errno == EPIPE);
        CHECK_RETURNS(FRAME_EBROKEN, frame_connection_send(c, NULL, "hello", 5, timeout_ms));
        CHECK(strstr(frame_last_error(), strerror(EPIPE)) != NULL);
        CHECK_RETURNS(FRAME_EBROKEN, queue(c, NULL, "hello", 5, timeout_ms));
        CHECK_RETURNS(FRAME_EBROKEN, frame_connection_flush(c, timeout_ms));
        CHECK(state_of(c).broken == FRAME_EIO);
        frame_connection_free(c);
        CHECK(close(fd[1]) == 0);
    }
}

/* ---- both */

static void what_is_queued_is_sent_before_a_receive_waits(void)
{
    struct frame_connection *c;
    struct frame_view view;
    struct frame *frame;
    char byte;
    int fd[2];
    socket_pair(fd);
    c = connection_of(fd[0], fd[0], 0);

    CHECK_RETURNS(0, queue(c, NULL, "ask", 3, LONG));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_next(c, &view, 1, 0));
    CHECK(queued(c) == 0);
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK_BODY("ask", frame);
    frame_free(frame);

    /* So does one that waits for the rest of a body. */
    write_all(fd[1], "\x0f\0\0\0{\"data_size\":1}", 19);
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(0, queue(c, NULL, "more", 4, LONG));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_read(c, &byte, 1, 0));
    CHECK(queued(c) == 0);
    write_all(fd[1], "x", 1);

    /* A reply that is there already is not waited for. */
    CHECK_RETURNS(0, frame_send(fd[1], NULL, "1", 1, NULL));
    CHECK_RETURNS(0, frame_send(fd[1], NULL, "2", 1, NULL));
    CHECK_RETURNS(1, frame_connection_next(c, &view, 1, LONG));
    CHECK_RETURNS(0, queue(c, NULL, "later", 5, LONG));
    CHECK_RETURNS(1, frame_connection_next(c, &view, 1, LONG));
    CHECK(queued(c) > 0);
    frame_connection_free(c);
    close_both(fd);
}

/* One of two ends, each of which sends 10 MiB before it reads. */
struct end {
    int from, to, is_client, is_duplex, timed_out;
    pthread_t thread;
};

static void *send_all_then_receive(void *argument)
{
    enum { COUNT = 10 };
    struct end *end = argument;
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    int timeout_ms = end->is_duplex ? 200 : 30000;
    char *body = malloc(MIB);
    uint32_t n;
    CHECK(body != NULL);
    opts.flags = end->is_duplex ? FRAME_CONNECTION_DUPLEX : 0;
    opts.max_queue = MIB;
    CHECK_RETURNS(0, frame_connection_new(end->from, end->to, &opts, &c));
    if (are_sealed())
        CHECK_RETURNS(0, end->is_client ? seal_client(c, LONG) : seal_server(c, LONG));
    for (n = 0; n < COUNT && !end->timed_out; n++) {
        int code;
        number(body, MIB, n);
        code = frame_connection_send(c, NULL, body, MIB, timeout_ms);
        CHECK(code == 0 || code == 1 || code == FRAME_ETIMEDOUT);
        end->timed_out = code != 0;
    }
    for (n = 0; n < COUNT && !end->timed_out; n++) {
        struct frame_view view;
        CHECK_RETURNS(1, frame_connection_next(c, &view, 1, timeout_ms));
        CHECK(view.body_len == MIB);
        check_number(view.body, MIB, n);
    }
    if (!end->is_duplex)
        CHECK_RETURNS(0, frame_connection_flush(c, timeout_ms));
    frame_connection_free(c);
    free(body);
    return NULL;
}

/* Each direction serves the other, unless they are for two threads. */
static void two_ends_that_send_before_they_read_do_not_wait_for_each_other(void)
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
            ends[i].is_client = i == 0;
            ends[i].is_duplex = kind >= 2;
            ends[i].timed_out = 0;
            CHECK(pthread_create(&ends[i].thread, NULL, send_all_then_receive, &ends[i]) == 0);
        }
        for (i = 0; i < 2; i++) {
            CHECK(pthread_join(ends[i].thread, NULL) == 0);
            CHECK(ends[i].timed_out == ends[i].is_duplex);
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

static void what_is_lent_stays_while_a_send_waits(void)
{
    struct frame_connection *c;
    struct frame_view views[8];
    uint32_t n = 0;
    pthread_t client;
    int fd[2];
    socket_pair(fd);
    CHECK(pthread_create(&client, NULL, send_then_expect_echoes, &fd[1]) == 0);
    c = connection_of(fd[0], fd[0], 0);
    while (n < ECHOES) {
        int64_t count = frame_connection_next(c, views, 8, LONG), i;
        CHECK(count > 0);
        for (i = 0; i < count; i++, n++) {
            check_number(views[i].body, views[i].body_len, n);
            CHECK_RETURNS(0, queue(c, NULL, views[i].body, views[i].body_len, LONG));
        }
    }
    CHECK_RETURNS(0, frame_connection_flush(c, LONG));
    CHECK(pthread_join(client, NULL) == 0);
    frame_connection_free(c);
    close_both(fd);
}

int main(void)
{
    frames_that_came_together_are_lent_together();
    a_timeout_loses_nothing();
    an_error_comes_after_the_frames_before_it_and_breaks_the_connection();
    the_end_tells_where_it_is();
    a_body_is_read_in_pieces();
    a_large_body_goes_past_the_buffer();
    a_frame_larger_than_the_buffer_is_gathered();
    what_was_read_and_not_taken_is_given_back();
    packets_go_in_every_layout();
    what_is_queued_goes_out_when_it_is_told_or_enough();
    a_full_queue_accepts_whole_messages_or_nothing();
    a_large_message_is_accepted_when_a_part_went_out();
    many_are_queued_in_one_call();
    a_peer_that_is_gone_is_an_errno_and_then_broken();
    what_is_queued_is_sent_before_a_receive_waits();
    two_ends_that_send_before_they_read_do_not_wait_for_each_other();
    what_is_lent_stays_while_a_send_waits();
    return 0;
}
