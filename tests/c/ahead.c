/* What a connection promises about its stream: what is read ahead, whose an answer is, and that
 * neither direction waits for the other. */
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

static int receive(struct frame_connection *c, int timeout)
{
    struct frame *frame;
    int code = frame_connection_recv(c, timeout, &frame);
    frame_free(frame);
    return code;
}

/* One read brings what is there, and an exact one not a byte beyond the message. */
static void read_ahead(void)
{
    static const char two[] = "\17\0\0\0{\"data_size\":1}a" "\17\0\0\0{\"data_size\":1}b";
    struct frame_connection *c;
    int fd[2], exact;

    for (exact = 0; exact < 2; exact++) {
        socket_pair(fd);
        c = connection_of(fd[0], fd[0], exact ? FRAME_CONNECTION_EXACT : 0);
        write_all(fd[1], two, sizeof two - 1);
        CHECK_RETURNS(0, receive(c, LONG));
        CHECK(unread(fd[0]) == (exact ? 20u : 0u));
        CHECK_RETURNS(0, receive(c, LONG));
        frame_connection_free(c);
        close_both(fd);
    }
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    CHECK(getsockopt(fd, level, name, &value, &len) == 0);
    return value != 0;
}

static void tcp(void)
{
    static const uint32_t flags[] = {0, FRAME_CONNECTION_AS_IS,
                                     FRAME_CONNECTION_AS_IS | FRAME_CONNECTION_KEEPALIVE};
    int i;
    for (i = 0; i < 3; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        frame_connection_free(connection_of(fd, fd, flags[i]));
        CHECK(option(fd, IPPROTO_TCP, TCP_NODELAY) == (i == 0));
        CHECK(option(fd, SOL_SOCKET, SO_KEEPALIVE) == (i == 2));
        close(fd);
    }
}

static void a_header_travels_with_its_first_piece(void)
{
    struct frame_connection *c;
    int fd[2];
    socket_pair(fd);
    c = connection_of(fd[0], fd[0], 0);
    CHECK_RETURNS(0, frame_connection_begin(c, NULL, 2));
    CHECK(unread(fd[1]) == 0);
    CHECK_RETURNS(1, frame_connection_write(c, "a", 1, LONG));
    CHECK(unread(fd[1]) == 20);
    frame_connection_free(c);
    close_both(fd);
}

/* What is queued is written before a receive waits; with DUPLEX it is the other thread's. */
static void written_before_a_wait(void)
{
    struct frame_connection *c;
    struct frame_view view = {0};
    int fd[2], duplex;
    for (duplex = 0; duplex < 2; duplex++) {
        socket_pair(fd);
        c = connection_of(fd[0], fd[0], duplex ? FRAME_CONNECTION_DUPLEX : 0);
        CHECK_RETURNS(1, frame_connection_queue(c, &view, 1, 0));
        CHECK_RETURNS(FRAME_ETIMEDOUT, receive(c, 5));
        CHECK((unread(fd[1]) > 0) == !duplex);
        frame_connection_free(c);
        close_both(fd);
    }
}

/* Sends much, then receives as much. */
static void *talk(void *c)
{
    static char much[8 << 20];
    struct frame *frame;
    size_t len;
    CHECK_RETURNS(0, frame_connection_send(c, NULL, much, sizeof much, LONG));
    CHECK_RETURNS(0, frame_connection_recv(c, LONG, &frame));
    frame_body(frame, &len);
    CHECK(len == sizeof much);
    frame_free(frame);
    return NULL;
}

static void both_send_first(void)
{
    struct frame_connection *c[2];
    pthread_t other;
    int fd[2];
    socket_pair(fd);
    c[0] = connection_of(fd[0], fd[0], 0);
    c[1] = connection_of(fd[1], fd[1], 0);
    seal_both(c[0], c[1]);
    CHECK(pthread_create(&other, NULL, talk, c[1]) == 0);
    talk(c[0]);
    CHECK(pthread_join(other, NULL) == 0);
    frame_connection_free(c[0]);
    frame_connection_free(c[1]);
    close_both(fd);
}

/* No answer is taken for another's. */
static void answers(void)
{
    static const struct {
        const char *reply;
        int code;
    } cases[] = {
        {"{\"status\":\"ok\",\"id\":\"~1\"}", 0},
        {"{\"status\":\"ok\"}", 0},
        {"{\"status\":\"ok\",\"id\":\"~2\"}", FRAME_EBADREPLY},
        {"{\"id\":\"~1\"}", FRAME_EBADREPLY},
        {"{}", FRAME_EBADREPLY},
        {"{\"status\":\"error\",\"code\":\"denied\",\"id\":\"~1\"}", FRAME_EREMOTE_DENIED},
    };
    struct frame_connection *c;
    struct frame *frame;
    size_t i;
    int fd[2];

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        socket_pair(fd);
        c = connection_of(fd[0], fd[0], 0);
        CHECK_RETURNS(0, frame_send(fd[1], cases[i].reply, NULL, 0, NULL));
        CHECK_RETURNS(cases[i].code, frame_connection_call(c, "{}", NULL, 0, LONG, &frame));
        frame_free(frame);
        CHECK_RETURNS(cases[i].code == FRAME_EBADREPLY ? FRAME_EBROKEN : 0,
                      frame_connection_flush(c, 0));
        frame_connection_free(c);
        close_both(fd);
    }
}

static int is_over;

static void *meddle(void *c)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    long *busy = calloc(1, sizeof *busy), round;
    CHECK(busy != NULL);
    for (round = 1; !GET(is_over); round++) {
        int codes[3], i;
        if (round % 16 == 0)
            poll(NULL, 0, 1); /* otherwise nobody else may get a turn */
        codes[0] = frame_connection_flush(c, 0);
        codes[1] = frame_connection_inspect(c, &state);
        codes[2] = frame_connection_send(c, NULL, "meddled", 7, 0);
        for (i = 0; i < 3; i++) {
            CHECK(codes[i] == 0 || codes[i] == 1 || codes[i] == FRAME_EBUSY
                  || codes[i] == FRAME_ETIMEDOUT);
            *busy += codes[i] == FRAME_EBUSY;
        }
    }
    return busy;
}

static void *echo(void *c)
{
    struct frame *frame;
    int code;
    while ((code = frame_connection_recv(c, LONG, &frame)) == 0) {
        size_t len;
        const void *body = frame_body(frame, &len);
        CHECK(frame_connection_send(c, NULL, body, len, LONG) >= 0);
        frame_free(frame);
    }
    CHECK_RETURNS(FRAME_ECLOSED, code);
    CHECK_RETURNS(0, frame_connection_end(c, false, LONG));
    return NULL;
}

static void *send_numbers(void *c)
{
    int i, code;
    for (i = 0; i < 3000; i++) {
        do
            code = frame_connection_send(c, NULL, &i, sizeof i, LONG);
        while (code == FRAME_EBUSY);
        CHECK(code >= 0);
    }
    do
        code = frame_connection_flush(c, LONG);
    while (code == FRAME_EBUSY);
    CHECK_RETURNS(0, code);
    return NULL;
}

/* With DUPLEX a third thread gets FRAME_EBUSY or its turn, never somebody else's bytes. */
static void a_third_thread(void)
{
    struct frame_connection *c, *peer;
    struct frame *frame;
    pthread_t threads[3];
    void *busy;
    int fd[2], next = 0, code;

    socket_pair(fd);
    c = connection_of(fd[0], fd[0], FRAME_CONNECTION_DUPLEX);
    peer = connection_of(fd[1], fd[1], 0);
    seal_both(c, peer);
    CHECK(pthread_create(&threads[0], NULL, echo, peer) == 0);
    CHECK(pthread_create(&threads[1], NULL, send_numbers, c) == 0);
    CHECK(pthread_create(&threads[2], NULL, meddle, c) == 0);
    while (next < 3000) {
        size_t len;
        const void *body;
        code = frame_connection_recv(c, LONG, &frame);
        if (code == FRAME_EBUSY)
            continue; /* it inspects */
        CHECK_RETURNS(0, code);
        body = frame_body(frame, &len);
        if (len != 7 || memcmp(body, "meddled", len) != 0) {
            CHECK(len == sizeof next && memcmp(body, &next, len) == 0);
            next++;
        }
        frame_free(frame);
    }
    SET(is_over, 1);
    CHECK(pthread_join(threads[2], &busy) == 0);
    CHECK(pthread_join(threads[1], NULL) == 0);
    CHECK(*(long *)busy > 0);
    free(busy);
    CHECK_RETURNS(0, frame_connection_end(c, false, LONG));
    while ((code = receive(c, LONG)) == 0)
        ;
    CHECK_RETURNS(FRAME_ECLOSED, code);
    CHECK(pthread_join(threads[0], NULL) == 0);
    frame_connection_free(c);
    frame_connection_free(peer);
    close_both(fd);
}

int main(void)
{
    read_ahead();
    tcp();
    a_header_travels_with_its_first_piece();
    written_before_a_wait();
    both_send_first();
    answers();
    a_third_thread();
    return 0;
}
