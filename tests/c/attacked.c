/* A connection whose peer, host or other thread does its worst: floods, forks, aborts, and
 * descriptors that are handed on. */
#include "check.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>

/* Fills what the kernel holds for the peer. */
static void fill(int fd)
{
    static char zeros[4096];
    int flags = fcntl(fd, F_GETFL);
    CHECK(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    CHECK(fcntl(fd, F_SETFL, flags) == 0);
}

static void times(void)
{
    /* Every function that takes a timeout, with those that are none, and with 0 and 1 where
     * nothing comes and nothing goes. */
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    static const int none[] = {-2, -100, INT32_MIN + 1};
    static const int short_ones[] = {0, 1, FRAME_DEFAULT_TIMEOUT};
    static char much[1 << 16];
    struct frame_connection *c;
    struct frame_view view = {0};
    struct frame *frame;
    char buf[8];
    int fd[2], in[2], out[2], i;

    socket_pair(fd);
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    opts.timeout_ms = 2;
    opts.max_queue = 1;
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &opts, &c));
    for (i = 0; i < 3; i++) {
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_recv(c, none[i], &frame));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_next(c, &view, 1, none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_recv_header(c, none[i], &view, NULL));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_read(c, buf, 1, none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_read_to(c, out[1], none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_send(c, NULL, NULL, 0, none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_queue(c, &view, 1, none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_flush(c, none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_write(c, buf, 1, none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_write_from(c, in[0], 1, none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_call(c, "{}", NULL, 0, none[i], &frame));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_reply(c, "{}", NULL, NULL, 0, none[i]));
        CHECK_RETURNS(FRAME_EINVAL,
                      frame_connection_reply_error(c, "{}", FRAME_EIO, NULL, none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_end(c, true, none[i]));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_end(c, false, none[i]));
    }
    CHECK(unread(fd[1]) == 0);
    /* Nothing comes. */
    for (i = 0; i < 3; i++) {
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_recv(c, short_ones[i], &frame));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_next(c, &view, 1, short_ones[i]));
        CHECK_RETURNS(FRAME_ETIMEDOUT,
                      frame_connection_recv_header(c, short_ones[i], &view, NULL));
    }
    CHECK_RETURNS(0, frame_connection_read(c, buf, 1, 0));
    CHECK_RETURNS(0, frame_connection_read_to(c, out[1], 0));
    write_all(fd[1], "\21\0\0\0{\"data_size\":100}", 21);
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    for (i = 0; i < 3; i++) {
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_read(c, buf, 1, short_ones[i]));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_read_to(c, out[1], short_ones[i]));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_next(c, &view, 1, short_ones[i]));
    }
    write_all(fd[1], "some", 4);
    fill(out[1]);
    for (i = 0; i < 3; i++)
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_read_to(c, out[1], short_ones[i]));
    CHECK_RETURNS(4, frame_connection_read(c, buf, 8, 0));
    /* Nothing goes. */
    memset(&view, 0, sizeof view);
    fill(fd[0]);
    for (i = 0; i < 3; i++) {
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_send(c, NULL, NULL, 0, short_ones[i]));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_queue(c, &view, 1, short_ones[i]));
        CHECK_RETURNS(FRAME_ETIMEDOUT,
                      frame_connection_reply(c, "{}", NULL, much, sizeof much, short_ones[i]));
        CHECK_RETURNS(0, frame_connection_flush(c, short_ones[i]));
    }
    CHECK_RETURNS(0, frame_connection_begin(c, NULL, 1 << 20));
    for (i = 0; i < 3; i++) {
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_write(c, much, 9, short_ones[i]));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_write_from(c, in[0], 9, short_ones[i]));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_flush(c, short_ones[i]));
    }
    frame_connection_free(c);
    close_both(fd);
    close_both(in);
    close_both(out);
}

struct flood {
    int fd;
    const void *first;
    size_t first_len;
};

/* Writes without a pause, until nobody reads any more. */
static void *flood(void *argument)
{
    static char zeros[65536];
    struct flood *what = argument;
    write_all(what->fd, what->first, what->first_len);
    while (write(what->fd, zeros, sizeof zeros) > 0)
        ;
    close(what->fd);
    return NULL;
}

static int receive(struct frame_connection *c, int timeout)
{
    struct frame *frame;
    int code = frame_connection_recv(c, timeout, &frame);
    frame_free(frame);
    return code;
}

static int drop_or_copy(struct frame_connection *c, int to_fd, int timeout)
{
    return to_fd < 0 ? receive(c, timeout) : (int)frame_connection_read_to(c, to_fd, timeout);
}

static void *abort_soon(void *c)
{
    struct timespec pause = {0, 30000000};
    nanosleep(&pause, NULL);
    CHECK_RETURNS(0, frame_connection_abort(c));
    CHECK_RETURNS(0, frame_connection_abort(c));
    return NULL;
}

static int stop_after_a_second(void *began)
{
    return milliseconds() - *(int64_t *)began > 500;
}

/* A body of 2^62 bytes that comes without a pause, dropped and copied. */
static void floods(void)
{
    static const char head[] = "\41\0\0\0{\"data_size\":4611686018427387904}";
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct flood what;
    struct frame_connection *c;
    struct frame_view view;
    uint64_t body_len;
    int64_t began;
    int fd[2], null = open("/dev/null", O_WRONLY), copies, code;
    pthread_t flooding, aborting;

    for (copies = 0; copies < 2; copies++) {
        int to = copies ? null : -1;
        CHECK(pipe(fd) == 0);
        what.fd = fd[1], what.first = head, what.first_len = sizeof head - 1;
        CHECK(pthread_create(&flooding, NULL, flood, &what) == 0);
        opts.interrupted = stop_after_a_second;
        opts.context = &began;
        opts.flags = FRAME_CONNECTION_OWN;
        began = milliseconds();
        CHECK_RETURNS(0, frame_connection_new(fd[0], -1, &opts, &c));
        CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, &body_len));
        CHECK(body_len == UINT64_C(1) << 62);
        began = milliseconds();
        code = drop_or_copy(c, to, 0);
        CHECK(code >= 0 || code == FRAME_ETIMEDOUT);
        code = drop_or_copy(c, to, 50);
        CHECK(code >= 0 || code == FRAME_ETIMEDOUT);
        CHECK(milliseconds() - began < 2000);
        do
            code = drop_or_copy(c, to, -1);
        while (code >= 0);
        CHECK_RETURNS(FRAME_ECANCELED, code);
        CHECK(milliseconds() - began < 5000);
        began = milliseconds() + 60000;
        CHECK(pthread_create(&aborting, NULL, abort_soon, c) == 0);
        CHECK_RETURNS(FRAME_EABORTED, drop_or_copy(c, to, -1));
        CHECK(pthread_join(aborting, NULL) == 0);
        frame_connection_free(c);
        CHECK(pthread_join(flooding, NULL) == 0);
    }
    close(null);
}

static void *wait_in_it(void *c)
{
    CHECK_RETURNS(FRAME_EABORTED, receive(c, -1));
    return NULL;
}

/* A child that has the connection while another thread of its parent was in it. */
static void forked_meanwhile(void)
{
    struct frame_connection *c;
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct timespec pause = {0, 30000000};
    const void *bytes;
    size_t len;
    int fd[2], copy;
    pthread_t thread;
    pid_t child;

    socket_pair(fd);
    c = connection_of(fd[0], fd[0], FRAME_CONNECTION_OWN);
    CHECK(pthread_create(&thread, NULL, wait_in_it, c) == 0);
    do
        nanosleep(&pause, NULL);
    while (frame_connection_flush(c, 0) != FRAME_EBUSY);
    CHECK_RETURNS(FRAME_EBUSY, frame_connection_unread(c, &bytes, &len));
    CHECK_RETURNS(FRAME_EBUSY, frame_connection_inspect(c, &state));
    child = fork();
    if (child == 0) {
        CHECK_RETURNS(FRAME_EFORKED, receive(c, -1));
        CHECK_RETURNS(FRAME_EFORKED, frame_connection_flush(c, -1));
        CHECK_RETURNS(FRAME_EFORKED, frame_connection_end(c, true, -1));
        CHECK_RETURNS(FRAME_EFORKED, frame_connection_end(c, false, -1));
        CHECK_RETURNS(FRAME_EFORKED, frame_connection_unread(c, &bytes, &len));
        CHECK_RETURNS(0, frame_connection_abort(c));
        frame_connection_free(c);
        CHECK(fcntl(fd[0], F_GETFD) < 0);
        /* What the other thread had halfway was not freed: no report of that. */
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    wait_for(child);
    copy = dup(fd[0]);
    CHECK_RETURNS(0, frame_connection_abort(c));
    CHECK(pthread_join(thread, NULL) == 0);
    frame_connection_free(c);
    close(copy);
    close(fd[1]);
}

/* A child of a child is another process as well; what it makes itself works. */
static void forked_twice(void)
{
    struct frame_view view = {0};
    struct frame_connection *c, *own, *peer;
    int fd[2], pair[2];
    pid_t child;

    socket_pair(fd);
    c = connection_of(fd[0], fd[0], 0);
    CHECK_RETURNS(1, frame_connection_queue(c, &view, 1, 0));
    child = fork();
    if (child == 0) {
        socket_pair(pair);
        own = connection_of(pair[0], pair[0], 0);
        CHECK_RETURNS(1, frame_connection_queue(own, &view, 1, 0));
        child = fork();
        if (child == 0) {
            CHECK_RETURNS(FRAME_EFORKED, frame_connection_flush(c, LONG));
            CHECK_RETURNS(FRAME_EFORKED, frame_connection_flush(own, LONG));
            frame_connection_free(c);
            frame_connection_free(own);
            _exit(0);
        }
        wait_for(child);
        CHECK_RETURNS(FRAME_EFORKED, frame_connection_flush(c, LONG));
        CHECK_RETURNS(0, frame_connection_flush(own, LONG));
        peer = connection_of(pair[1], pair[1], 0);
        CHECK_RETURNS(0, receive(peer, LONG));
        CHECK_RETURNS(FRAME_ETIMEDOUT, receive(peer, 0));
        frame_connection_free(c);
        frame_connection_free(own);
        frame_connection_free(peer);
        _exit(0);
    }
    wait_for(child);
    CHECK_RETURNS(0, frame_connection_flush(c, LONG));
    peer = connection_of(fd[1], fd[1], 0);
    CHECK_RETURNS(0, receive(peer, LONG));
    CHECK_RETURNS(FRAME_ETIMEDOUT, receive(peer, 0));
    frame_connection_free(c);
    frame_connection_free(peer);
    close_both(fd);
}

/* With DUPLEX the sender ends its direction while the other thread receives the last reply. */
static void *receive_the_last(void *c)
{
    struct frame *frame;
    CHECK_RETURNS(0, frame_connection_recv(c, LONG, &frame));
    CHECK_BODY("last", frame);
    frame_free(frame);
    CHECK_RETURNS(FRAME_ECLOSED, receive(c, LONG));
    return NULL;
}

static void ended_beside_a_receiver(void)
{
    struct frame_connection *c, *peer;
    struct timespec pause = {0, 30000000};
    pthread_t thread;
    int fd[2];

    socket_pair(fd);
    c = connection_of(fd[0], fd[0], FRAME_CONNECTION_DUPLEX);
    peer = connection_of(fd[1], fd[1], 0);
    CHECK(pthread_create(&thread, NULL, receive_the_last, c) == 0);
    nanosleep(&pause, NULL);
    CHECK_RETURNS(0, frame_connection_end(c, false, LONG));
    CHECK_RETURNS(FRAME_ECLOSED, receive(peer, LONG));
    CHECK_RETURNS(0, frame_connection_send(peer, NULL, "last", 4, LONG));
    CHECK_RETURNS(0, frame_connection_end(peer, true, 0));
    CHECK(pthread_join(thread, NULL) == 0);
    frame_connection_free(c);
    frame_connection_free(peer);
    close_both(fd);
}

/* After an unread the descriptor is somebody else's to read. */
static void handed_on(void)
{
    struct frame_connection *c;
    struct frame_view view;
    const void *bytes;
    size_t len;
    char buf[8];
    int fd[2], null = open("/dev/null", O_WRONLY);

    socket_pair(fd);
    c = connection_of(fd[0], fd[0], 0);
    write_all(fd[1], "\17\0\0\0{\"data_size\":9}abc", 22);
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(0, frame_connection_unread(c, &bytes, &len));
    CHECK_BYTES("abc", bytes, len);
    write_all(fd[1], "defghi", 6);
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_read(c, buf, sizeof buf, LONG));
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_read_to(c, null, LONG));
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_end(c, true, LONG));
    fill(fd[0]);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_send(c, NULL, NULL, 0, 20));
    CHECK(unread(fd[0]) == 6);
    frame_connection_free(c);
    close_both(fd);
    close(null);
}

/* A wait for a descriptor that is not the connection's ends with an abort all the same. */
static void aborted_elsewhere(void)
{
    struct frame_connection *c;
    struct frame_view view;
    int fd[2], pipes[2], sends;
    pthread_t aborting;

    for (sends = 0; sends < 2; sends++) {
        socket_pair(fd);
        CHECK(pipe(pipes) == 0);
        c = connection_of(fd[0], fd[0], 0);
        if (!sends) {
            write_all(fd[1], "\17\0\0\0{\"data_size\":9}abc", 22);
            CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
            fill(pipes[1]);
        }
        CHECK(pthread_create(&aborting, NULL, abort_soon, c) == 0);
        if (sends) {
            CHECK_RETURNS(0, frame_connection_begin(c, NULL, 9));
            CHECK_RETURNS(FRAME_EABORTED, frame_connection_write_from(c, pipes[0], 9, -1));
        } else {
            CHECK_RETURNS(FRAME_EABORTED, frame_connection_read_to(c, pipes[1], -1));
        }
        CHECK(pthread_join(aborting, NULL) == 0);
        frame_connection_free(c);
        close_both(fd);
        close_both(pipes);
    }
}

/* A client that sends the same bytes until its connection is shut down. */
struct insistent {
    int fd, pause_ms;
    const char *bytes;
    size_t len;
};

static void *insist(void *argument)
{
    struct insistent *client = argument;
    while (send(client->fd, client->bytes, client->len, MSG_NOSIGNAL) > 0)
        poll(NULL, 0, client->pause_ms);
    return NULL;
}

/* One sends a byte before each deadline, the other frames without a pause; neither reads. */
static void a_client_that_goes_on_and_on_is_given_up(void)
{
    static const char NO_INPUT[] = "\x21\0\0\0{\"stream\":\"stdin\",\"data_size\":0 }";
    static const char *const requests[] = {
        "{\"cmd\":\"exec\",\"data_size\":500}",
        "{\"cmd\":\"exec\",\"stream\":true,\"argv\":[\"true\"]}"};
    struct insistent clients[] = {{-1, 20, " ", 1}, {-1, 0, NO_INPUT, sizeof NO_INPUT - 1}};
    struct exec_options opts = EXEC_OPTIONS_INIT;
    opts.reply_timeout_ms = 100;
    for (size_t i = 0; i < 2; i++) {
        struct frame_connection *c;
        struct frame_view view;
        pthread_t thread;
        uint32_t len = (uint32_t)strlen(requests[i]);
        int fd[2];
        socket_pair(fd);
        CHECK(write(fd[0], &len, sizeof len) == sizeof len); /* little-endian, as this test is */
        CHECK(write(fd[0], requests[i], len) == (ssize_t)len);
        clients[i].fd = fd[0];
        fill(fd[1]); /* There is no room for the reply. */
        CHECK(pthread_create(&thread, NULL, insist, &clients[i]) == 0);
        CHECK_RETURNS(0, frame_connection_new(fd[1], fd[1], NULL, &c));
        CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
        CHECK_RETURNS(FRAME_ESTALLED, exec_serve(c, view.header, &opts, NULL));
        CHECK(shutdown(fd[1], SHUT_RDWR) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        frame_connection_free(c);
        close_both(fd);
    }
}

int main(void)
{
    /* For the peers. */
    signal(SIGPIPE, SIG_IGN);
    times();
    floods();
    forked_meanwhile();
    forked_twice();
    ended_beside_a_receiver();
    handed_on();
    aborted_elsewhere();
    a_client_that_goes_on_and_on_is_given_up();
    return 0;
}
