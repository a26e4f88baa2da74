/* Connections in a host that has its own ways: signals and handlers, descriptors that are set,
 * copied or closed meanwhile, and none left. */
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <termios.h>

/* The kinds of descriptor, as what a connection reads from and writes to, and their other ends. */
enum kind { UNIX_SOCKET, TCP_SOCKET, PIPES, TERMINAL, KINDS };

struct ends {
    int read_fd, write_fd, peer_read, peer_write;
};

static struct ends ends(enum kind kind)
{
    struct ends e = {-1, -1, -1, -1};
    int fd[2], other[2];

    if (kind == UNIX_SOCKET) {
        socket_pair(fd);
        e.read_fd = e.write_fd = fd[0], e.peer_read = e.peer_write = fd[1];
    } else if (kind == TCP_SOCKET) {
        struct sockaddr_in address;
        socklen_t len = sizeof address;
        int listening = socket(AF_INET, SOCK_STREAM, 0);
        memset(&address, 0, sizeof address);
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        CHECK(bind(listening, (struct sockaddr *)&address, sizeof address) == 0);
        CHECK(listen(listening, 1) == 0);
        CHECK(getsockname(listening, (struct sockaddr *)&address, &len) == 0);
        e.read_fd = e.write_fd = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(e.read_fd, (struct sockaddr *)&address, sizeof address) == 0);
        e.peer_read = e.peer_write = accept(listening, NULL, NULL);
        CHECK(e.peer_read >= 0);
        close(listening);
    } else if (kind == PIPES) {
        CHECK(pipe(fd) == 0 && pipe(other) == 0);
        e.read_fd = fd[0], e.peer_write = fd[1], e.peer_read = other[0], e.write_fd = other[1];
    } else {
        struct termios mode;
        e.peer_read = e.peer_write = posix_openpt(O_RDWR | O_NOCTTY);
        CHECK(e.peer_read >= 0 && grantpt(e.peer_read) == 0 && unlockpt(e.peer_read) == 0);
        e.read_fd = e.write_fd = open(ptsname(e.peer_read), O_RDWR | O_NOCTTY);
        CHECK(tcgetattr(e.read_fd, &mode) == 0);
        cfmakeraw(&mode);
        CHECK(tcsetattr(e.read_fd, TCSANOW, &mode) == 0);
    }
    return e;
}

static void close_ends(const struct ends *e)
{
    close(e->read_fd);
    close(e->peer_read);
    if (e->write_fd != e->read_fd)
        close(e->write_fd), close(e->peer_write);
}

static struct frame_connection *hooked(const struct ends *e, int (*hook)(void *), void *context)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    opts.interrupted = hook;
    opts.context = context;
    CHECK_RETURNS(0, frame_connection_new(e->read_fd, e->write_fd, &opts, &c));
    return c;
}

static void send_to(const struct ends *e, const char *body)
{
    struct frame_connection *peer;
    CHECK_RETURNS(0, frame_connection_new(-1, e->peer_write, NULL, &peer));
    CHECK_RETURNS(0, frame_connection_send(peer, NULL, body, strlen(body), LONG));
    frame_connection_free(peer);
}

static int receive(struct frame_connection *c, int timeout)
{
    struct frame *frame;
    int code = frame_connection_recv(c, timeout, &frame);
    frame_free(frame);
    return code;
}

static int send_much(struct frame_connection *c)
{
    static char much[8 << 20];
    return frame_connection_send(c, NULL, much, sizeof much, -1);
}

static sig_atomic_t stops;
static volatile sig_atomic_t asked;
static struct frame_connection *volatile waiting;

static int hook(void *context)
{
    (void)context;
    asked = asked + 1;
    return GET(stops);
}

static void stop_it(int number)
{
    (void)number;
    SET(stops, 1);
}

static void abort_it(int number)
{
    int before = errno;
    (void)number;
    if (waiting != NULL)
        CHECK_RETURNS(0, frame_connection_abort(waiting));
    CHECK(errno == before);
}

static void handler(int number, void (*function)(int), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = function;
    action.sa_flags = flags;
    CHECK(sigaction(number, &action, NULL) == 0);
}

struct killing {
    pthread_t thread;
    long nanoseconds;
    /* Not before something can be read here, or -1. */
    int after;
};

static void *kill_soon(void *argument)
{
    struct killing *what = argument;
    struct timespec pause = {0, 0};
    pause.tv_nsec = what->nanoseconds;
    if (what->after >= 0)
        CHECK(poll(&(struct pollfd){what->after, POLLIN, 0}, 1, LONG) == 1);
    nanosleep(&pause, NULL);
    CHECK(pthread_kill(what->thread, SIGUSR1) == 0);
    return NULL;
}

/* A signal while a call waits, with and without SA_RESTART, on everything that blocks. */
static void signalled(void)
{
    struct killing what = {0};
    pthread_t killer;
    int kind, sends, restarts;

    what.thread = pthread_self(), what.nanoseconds = 20000000;
    for (kind = 0; kind < KINDS; kind++)
        for (sends = 0; sends < 2; sends++)
            for (restarts = 0; restarts < 2; restarts++) {
                struct ends e = ends((enum kind)kind);
                struct frame_connection *c = hooked(&e, hook, NULL);
                int64_t before = milliseconds();
                int code;
                SET(stops, 0);
                what.after = sends ? e.peer_read : -1;
                handler(SIGUSR1, stop_it, restarts ? SA_RESTART : 0);
                CHECK(pthread_create(&killer, NULL, kill_soon, &what) == 0);
                code = sends ? send_much(c) : receive(c, -1);
                CHECK(pthread_join(killer, NULL) == 0);
                /* A part of the message went: all of it was accepted. */
                CHECK_RETURNS(sends ? 1 : FRAME_ECANCELED, code);
                CHECK(milliseconds() - before < LONG);
                /* What is there is received, though the hook still says that it is to end. */
                if (!sends) {
                    send_to(&e, "there");
                    if (kind == TERMINAL || kind == TCP_SOCKET)
                        CHECK(poll(&(struct pollfd){e.read_fd, POLLIN, 0}, 1, LONG) == 1);
                    CHECK_RETURNS(0, receive(c, kind == TERMINAL ? 0 : -1));
                }
                frame_connection_free(c);
                close_ends(&e);
            }
    handler(SIGUSR1, SIG_DFL, 0);
}

static void *take_the_signal(void *argument)
{
    struct timespec pause = {0, 20000000};
    (void)argument;
    nanosleep(&pause, NULL);
    raise(SIGUSR1);
    return NULL;
}

/* A signal that another thread takes: the hook is asked within a second. */
static void signalled_elsewhere(void)
{
    struct frame_connection *c[KINDS];
    struct ends e[KINDS];
    pthread_t other;
    int kind;

    for (kind = 0; kind < KINDS; kind += 2) {
        int64_t before = milliseconds();
        SET(stops, 0);
        handler(SIGUSR1, stop_it, SA_RESTART);
        e[kind] = ends((enum kind)kind);
        c[kind] = hooked(&e[kind], hook, NULL);
        CHECK(pthread_create(&other, NULL, take_the_signal, NULL) == 0);
        CHECK_RETURNS(FRAME_ECANCELED, receive(c[kind], -1));
        CHECK(milliseconds() - before < LONG);
        CHECK(pthread_join(other, NULL) == 0);
        frame_connection_free(c[kind]);
        close_ends(&e[kind]);
    }
    handler(SIGUSR1, SIG_DFL, 0);
}

static int is_aborted;

/* Sends small messages, or takes bytes, until there is nobody any more. It goes on until then: a
 * sanitizer may keep a signal back until the call that waits has returned. */
static void *be_a_peer(void *argument)
{
    static const char message[] = "\17\0\0\0{\"data_size\":1}x";
    const struct ends *e = argument;
    struct pollfd fds[2];
    char buf[4096];
    for (;;) {
        fds[0].fd = e->peer_read, fds[0].events = POLLIN;
        fds[1].fd = e->peer_write, fds[1].events = POLLOUT;
        if (poll(fds, 2, 20) <= 0) {
            if (GET(is_aborted))
                return NULL;
            continue;
        }
        if ((fds[0].revents & POLLIN) && read(e->peer_read, buf, sizeof buf) <= 0)
            return NULL;
        if ((fds[1].revents & POLLOUT) && write(e->peer_write, message, sizeof message - 1) < 0)
            return NULL;
        if ((fds[0].revents | fds[1].revents) & (POLLHUP | POLLERR))
            return NULL;
    }
}

/* A handler and another thread abort what sends and receives, at any moment of it. */
static void aborted_at_any_moment(int rounds)
{
    struct killing what = {0};
    pthread_t killer, peer;
    struct frame *frame;
    int round, code, i;

    handler(SIGUSR1, abort_it, SA_RESTART);
    what.thread = pthread_self(), what.after = -1;
    for (round = 0; round < rounds; round++) {
        struct ends e = ends((enum kind)(round % KINDS));
        struct frame_connection *c = hooked(&e, NULL, NULL);
        int64_t before = milliseconds();
        what.nanoseconds = round * 997L % 300000;
        waiting = c;
        SET(is_aborted, 0);
        CHECK(pthread_create(&peer, NULL, be_a_peer, &e) == 0);
        CHECK(pthread_create(&killer, NULL, kill_soon, &what) == 0);
        for (i = 0;; i++) {
            code = i % 2 ? frame_connection_send(c, NULL, "0123456789", 10, -1)
                         : frame_connection_recv(c, -1, &frame);
            if (code < 0)
                break;
            if (i % 2 == 0) {
                CHECK_BODY("x", frame);
                frame_free(frame);
            }
        }
        CHECK_RETURNS(FRAME_EABORTED, code);
        CHECK_RETURNS(FRAME_EABORTED, frame_connection_flush(c, 0));
        CHECK(pthread_join(killer, NULL) == 0);
        CHECK(milliseconds() - before < LONG);
        waiting = NULL;
        SET(is_aborted, 1);
        frame_connection_free(c);
        shutdown(e.peer_read, SHUT_RDWR);
        if (round % KINDS == PIPES)
            close(e.write_fd), e.write_fd = e.read_fd, close(e.read_fd);
        CHECK(pthread_join(peer, NULL) == 0);
        if (round % KINDS == PIPES)
            close(e.peer_read), close(e.peer_write);
        else
            close_ends(&e);
    }
    handler(SIGUSR1, SIG_DFL, 0);
}

/* Before any call, twice, and in any order. */
static void aborted_early(void)
{
    int kind;
    for (kind = 0; kind < KINDS; kind++) {
        struct ends e = ends((enum kind)kind);
        struct frame_connection *c = hooked(&e, NULL, NULL);
        CHECK_RETURNS(0, frame_connection_abort(c));
        CHECK_RETURNS(0, frame_connection_abort(c));
        CHECK_RETURNS(FRAME_EABORTED, receive(c, -1));
        CHECK_RETURNS(FRAME_EABORTED, send_much(c));
        CHECK_RETURNS(FRAME_EABORTED, frame_connection_end(c, true, -1));
        frame_connection_free(c);
        close_ends(&e);
    }
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_abort(NULL));
}

/* No descriptor is left for what needs an eventfd: nothing was taken. */
static void none_left(void)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct ends pipes = ends(PIPES), sockets = ends(UNIX_SOCKET);
    struct frame_connection *c = (void *)1;
    struct rlimit before, none;

    opts.flags = FRAME_CONNECTION_OWN;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before, none.rlim_cur = 3;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK_RETURNS(FRAME_EIO, frame_connection_new(pipes.read_fd, pipes.write_fd, &opts, &c));
    CHECK(errno == EMFILE && c == NULL);
    CHECK(fcntl(pipes.read_fd, F_GETFD) >= 0 && fcntl(pipes.write_fd, F_GETFD) >= 0);
    /* A socket needs none. */
    CHECK_RETURNS(0, frame_connection_new(sockets.read_fd, sockets.read_fd, NULL, &c));
    CHECK_RETURNS(0, frame_connection_send(c, NULL, "x", 1, LONG));
    CHECK_RETURNS(FRAME_ETIMEDOUT, receive(c, 1));
    frame_connection_free(c);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    close_ends(&pipes);
    close_ends(&sockets);
}

static void set_nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    CHECK(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
}

/* Non-blocking descriptors wait as others do, and whatever the host sets meanwhile. */
static void set_meanwhile(void)
{
    static char much[8 << 20];
    int kind, round;
    for (kind = 0; kind < KINDS; kind++) {
        struct ends e = ends((enum kind)kind);
        struct frame_connection *c = hooked(&e, NULL, NULL);
        for (round = 0; round < 4; round++) {
            int flags;
            set_nonblocking(e.read_fd, round % 2 == 0);
            set_nonblocking(e.write_fd, round % 2 == 0);
            flags = fcntl(e.read_fd, F_GETFL);
            CHECK_RETURNS(FRAME_ETIMEDOUT, receive(c, 0));
            CHECK_RETURNS(FRAME_ETIMEDOUT, receive(c, 5));
            send_to(&e, "one");
            CHECK_RETURNS(0, receive(c, -1));
            CHECK_RETURNS(0, frame_connection_send(c, NULL, "x", 1, -1));
            CHECK(fcntl(e.read_fd, F_GETFL) == flags);
        }
        CHECK_RETURNS(1, frame_connection_send(c, NULL, much, sizeof much, 5));
        set_nonblocking(e.write_fd, false);
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_flush(c, 5));
        frame_connection_free(c);
        close_ends(&e);
    }
}

/* One socket under two numbers, both owned. */
static void two_numbers(void)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    struct ends e = ends(TCP_SOCKET);
    int copy = dup(e.read_fd);

    opts.flags = FRAME_CONNECTION_OWN;
    CHECK_RETURNS(0, frame_connection_new(e.read_fd, copy, &opts, &c));
    send_to(&e, "one");
    CHECK_RETURNS(0, receive(c, -1));
    CHECK_RETURNS(0, frame_connection_send(c, NULL, "x", 1, -1));
    CHECK_RETURNS(0, frame_connection_abort(c));
    CHECK_RETURNS(FRAME_EABORTED, receive(c, -1));
    frame_connection_free(c);
    CHECK(fcntl(copy, F_GETFD) < 0 && fcntl(e.read_fd, F_GETFD) < 0);
    close(e.peer_read);
}

/* A descriptor that the host closed too early: an error, and no wait. */
static void closed_by_the_host(void)
{
    int kind, timeout;
    for (kind = 0; kind < KINDS; kind++)
        for (timeout = -1; timeout < 2; timeout++) {
            struct ends e = ends((enum kind)kind);
            struct frame_connection *c = hooked(&e, NULL, NULL);
            close(e.read_fd);
            if (e.write_fd != e.read_fd)
                close(e.write_fd);
            CHECK(frame_connection_send(c, NULL, NULL, 0, timeout) == FRAME_EBADF);
            CHECK(receive(c, timeout) == FRAME_EBADF);
            CHECK(receive(c, timeout) == FRAME_EBROKEN);
            frame_connection_free(c);
            close(e.peer_read);
            if (e.peer_write != e.peer_read)
                close(e.peer_write);
        }
}

/* A host asks for the times of its transmissions, and has not read them yet: poll(2) reports the
 * socket for as long. No timeout is longer for it, and no client is gone. */
static void with_an_error_queue(void)
{
    /* SOF_TIMESTAMPING_TX_SOFTWARE, _SOFTWARE and _OPT_TSONLY of linux/net_tstamp.h, which a
     * compiler for musl does not find. */
    const int flags = 1 << 1 | 1 << 4 | 1 << 11;
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    struct frame_connection *c, *peer;
    struct frame_view request;
    struct frame *frame;
    struct pollfd ready;
    char byte;
    struct ends e = ends(TCP_SOCKET);
    int fd[2], timeout;
    fd[0] = e.read_fd, fd[1] = e.peer_read;
    CHECK(setsockopt(fd[0], SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags) == 0);
    CHECK(write(fd[0], "x", 1) == 1 && read(fd[1], &byte, 1) == 1);
    ready.fd = fd[0];
    ready.events = 0;
    CHECK(poll(&ready, 1, LONG) == 1 && ready.revents == POLLERR);
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
    for (timeout = 0; timeout <= 20; timeout += 20)
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_recv(c, timeout, &frame));
    /* It serves a command. */
    CHECK_RETURNS(0, frame_connection_new(fd[1], fd[1], NULL, &peer));
    what.command = "sleep 0.1; exit 3";
    CHECK_RETURNS(0, exec_start(peer, &what, LONG));
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &request, NULL));
    CHECK_RETURNS(EXEC_EXITED, exec_serve(c, request.header, NULL, &result));
    CHECK_RETURNS(3, result.exit_code);
    CHECK_RETURNS(EXEC_EXITED, exec_finish(peer, LONG, NULL));
    frame_connection_free(peer);
    /* It asks for one. */
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    for (timeout = 0; timeout <= 20; timeout += 20) {
        CHECK_RETURNS(FRAME_ETIMEDOUT, exec_read(c, &byte, 1, timeout, NULL));
        CHECK_RETURNS(FRAME_ETIMEDOUT, exec_finish(c, timeout, NULL));
    }
    frame_connection_free(c);
    close_ends(&e);
}

/* The last reply arrives, although there was input that nobody had read. */
static void last_words(void)
{
    static char much[200000], rest[1 << 16];
    struct ends e = ends(TCP_SOCKET);
    struct frame_connection *c = hooked(&e, NULL, NULL), *peer;
    struct frame *frame;

    CHECK_RETURNS(0, frame_connection_new(e.peer_read, e.peer_read, NULL, &peer));
    CHECK(frame_connection_send(peer, NULL, much, sizeof much, 0) >= 0);
    CHECK_RETURNS(0, frame_connection_queue(c, NULL, 0, 0));
    CHECK_RETURNS(0, frame_connection_reply(c, "{}", NULL, "last", 4, 0));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_end(c, true, 20));
    CHECK_RETURNS(0, frame_connection_recv(peer, LONG, &frame));
    CHECK_BODY("last", frame);
    frame_free(frame);
    CHECK_RETURNS(0, frame_connection_end(peer, false, LONG));
    CHECK_RETURNS(0, frame_connection_end(c, true, LONG));
    CHECK_RETURNS(0, frame_connection_end(c, true, LONG));
    frame_connection_free(c);
    frame_connection_free(peer);
    close_ends(&e);

    /* Not with a body that is not complete. */
    e = ends(UNIX_SOCKET);
    c = hooked(&e, NULL, NULL);
    CHECK_RETURNS(0, frame_connection_begin(c, NULL, 5));
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_end(c, false, LONG));
    CHECK_RETURNS(5, frame_connection_write(c, "whole", 5, LONG));
    CHECK_RETURNS(0, frame_connection_end(c, false, LONG));
    CHECK(read(e.peer_read, rest, sizeof rest) == 24 && read(e.peer_read, rest, 1) == 0);
    frame_connection_free(c);
    close_ends(&e);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    signalled();
    signalled_elsewhere();
    aborted_at_any_moment(argc > 1 ? atoi(argv[1]) : 200);
    aborted_early();
    none_left();
    set_meanwhile();
    two_numbers();
    closed_by_the_host();
    with_an_error_queue();
    last_words();
    return 0;
}
