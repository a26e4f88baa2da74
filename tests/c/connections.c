/* The promises of a connection, through C: who owns what, threads, signals, time. */
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

static void both(struct frame_connection *c[2], int fd[2])
{
    socket_pair(fd);
    c[0] = connection_of(fd[0], fd[0], FRAME_CONNECTION_OWN);
    c[1] = connection_of(fd[1], fd[1], FRAME_CONNECTION_OWN);
    seal_both(c[0], c[1]);
}

static void free_both(struct frame_connection *c[2])
{
    frame_connection_free(c[0]);
    frame_connection_free(c[1]);
}

static void messages(void)
{
    struct frame_connection *c[2];
    struct frame_view views[8], one;
    struct frame *frame;
    uint64_t body_len;
    int64_t two;
    char buf[16];
    int fd[2], i;

    both(c, fd);
    CHECK_RETURNS(0, frame_connection_send(c[0], "{\"n\":1}", "first", 5, LONG));
    CHECK_RETURNS(0, frame_connection_recv(c[1], LONG, &frame));
    CHECK_BODY("first", frame);
    CHECK(strcmp(frame_header(frame, NULL), "{\"data_size\":5,\"n\":1}") == 0);
    frame_free(frame);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_recv(c[1], 0, &frame));
    CHECK(frame == NULL);

    memset(views, 0, sizeof views);
    for (i = 0; i < 8; i++)
        views[i].body = "0123456789", views[i].body_len = (size_t)i;
    views[2].header = "{\"two\":2}";
    CHECK_RETURNS(8, frame_connection_queue(c[0], views, 8, 0));
    CHECK(unread(fd[1]) == 0);
    CHECK_RETURNS(0, frame_connection_flush(c[0], LONG));
    CHECK_RETURNS(5, frame_connection_next(c[1], views, 5, LONG));
    CHECK(views[0].body == NULL && views[0].body_len == 0);
    for (i = 1; i < 5; i++)
        CHECK(views[i].body_len == (size_t)i && memcmp(views[i].body, "0123456789", (size_t)i) == 0);
    CHECK(strcmp(views[2].header, "{\"data_size\":2,\"two\":2}") == 0);
    CHECK(strlen(views[2].header) == views[2].header_len);
    CHECK_RETURNS(0, frame_header_int(views[2].header, "two", &two));
    CHECK(two == 2);
    CHECK_RETURNS(3, frame_connection_next(c[1], views, 8, 0));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_next(c[1], views, 8, 0));

    views[0].header = "{";
    CHECK_RETURNS(FRAME_EBADJSON, frame_connection_queue(c[0], views, 1, 0));
    views[1] = views[0], views[0].header = NULL, views[0].body_len = 0;
    CHECK_RETURNS(1, frame_connection_queue(c[0], views, 2, 0));
    CHECK_RETURNS(0, frame_connection_flush(c[0], 0));
    CHECK_RETURNS(1, frame_connection_next(c[1], views, 8, LONG));

    CHECK_RETURNS(0, frame_connection_begin(c[0], "{\"long\":1}", 10));
    CHECK_RETURNS(4, frame_connection_write(c[0], "abcd", 4, LONG));
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_send(c[0], NULL, NULL, 0, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_write(c[0], "0123456", 7, 0));
    CHECK_RETURNS(6, frame_connection_write(c[0], "efghij", 6, LONG));
    CHECK_RETURNS(0, frame_connection_recv_header(c[1], LONG, &one, &body_len));
    CHECK(body_len == 10 && one.body == NULL && one.body_len == 0);
    CHECK(strcmp(one.header, "{\"data_size\":10,\"long\":1}") == 0);
    CHECK_RETURNS(3, frame_connection_read(c[1], buf, 3, LONG));
    CHECK_BYTES("abc", buf, 3);
    CHECK_RETURNS(7, frame_connection_read(c[1], buf, sizeof buf, LONG));
    CHECK_RETURNS(0, frame_connection_read(c[1], buf, sizeof buf, 0));
    free_both(c);
}

static void descriptors_as_bodies(void)
{
    struct frame_connection *c[2];
    struct frame_view view;
    int fd[2], in[2], out[2];
    char buf[8];

    both(c, fd);
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    write_all(in[1], "content", 7);
    close(in[1]);
    CHECK_RETURNS(0, frame_connection_begin(c[0], NULL, 8));
    CHECK_RETURNS(7, frame_connection_write_from(c[0], in[0], 8, LONG));
    CHECK_RETURNS(1, frame_connection_write(c[0], "!", 1, LONG));
    CHECK_RETURNS(0, frame_connection_recv_header(c[1], LONG, &view, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_connection_read_to(c[1], in[0] + 1000, LONG));
    CHECK_RETURNS(8, frame_connection_read_to(c[1], out[1], LONG));
    read_all(out[0], buf, 8);
    CHECK_BYTES("content!", buf, 8);
    close(in[0]);
    close_both(out);
    free_both(c);
}

static void whose_descriptors(void)
{
    struct frame_connection *c = (void *)1;
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    int fd[2], datagrams[2], pipes[2];

    socket_pair(fd);
    frame_connection_free(connection_of(fd[0], fd[0], 0));
    CHECK(fcntl(fd[0], F_GETFD) >= 0);
    opts.flags = FRAME_CONNECTION_OWN;
    CHECK_RETURNS(FRAME_EBADF, frame_connection_new(fd[0], 1 << 20, &opts, &c));
    CHECK(c == NULL && fcntl(fd[0], F_GETFD) >= 0);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_new(datagrams[0], datagrams[0], &opts, &c));
    CHECK(fcntl(datagrams[0], F_GETFD) >= 0);
    close_both(datagrams);
    frame_connection_free(connection_of(fd[0], fd[0], FRAME_CONNECTION_OWN));
    CHECK(fcntl(fd[0], F_GETFD) < 0 && errno == EBADF);
    close(fd[1]);

    CHECK(pipe(pipes) == 0);
    c = connection_of(pipes[0], -1, FRAME_CONNECTION_OWN);
    CHECK_RETURNS(FRAME_EBADF, frame_connection_send(c, NULL, NULL, 0, 0));
    frame_connection_free(c);
    CHECK(fcntl(pipes[0], F_GETFD) < 0 && fcntl(pipes[1], F_GETFD) >= 0);
    close(pipes[1]);
    frame_connection_free(NULL);
}

static void what_cannot_apply(void)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    int fd[2];

    socket_pair(fd);
    opts.flags = 1u << 31;
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_new(fd[0], fd[0], &opts, &c));
    opts.flags = 0, opts.prefix = 4;
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_new(fd[0], fd[0], &opts, &c));
    CHECK(strstr(frame_last_error(), "prefix") != NULL);
    opts.prefix = 0, opts.format = 2;
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_new(fd[0], fd[0], &opts, &c));
    opts.format = 0, opts.reserved = 1;
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_new(fd[0], fd[0], &opts, &c));
    opts.reserved = 0, opts.connect_timeout_ms = 5;
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_new(fd[0], fd[0], &opts, &c));
    CHECK(strstr(frame_last_error(), "connect_timeout_ms") != NULL);
    opts.connect_timeout_ms = 0, opts.size = 0;
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_new(fd[0], fd[0], &opts, &c));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_new(fd[0], fd[0], NULL, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_connection_new(-2, fd[0], NULL, &c));

    c = connection_of(fd[0], fd[0], 0);
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_send(c, NULL, NULL, 0, -2));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_next(c, NULL, 1, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_read(c, NULL, 0, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_call(c, "{}", NULL, 0, 0, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_send(NULL, NULL, NULL, 0, 0));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_connection_reply(c, "{}", "{\"status\":1}", NULL, 0, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_reply_error(c, "{}", 1, NULL, 0));
    frame_connection_free(c);
    close_both(fd);
}

static void packets(void)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    struct frame_view view;
    struct frame *frame;
    uint64_t body_len;
    unsigned char bytes[7];
    int fd[2];

    socket_pair(fd);
    opts.format = FRAME_FORMAT_PACKETS;
    opts.prefix = 2 + FRAME_PREFIX_BIG_ENDIAN + FRAME_PREFIX_UNSIGNED;
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &opts, &c));
    CHECK_RETURNS(0, frame_connection_send(c, NULL, "hello", 5, 0));
    read_all(fd[1], bytes, 7);
    CHECK_BYTES("\0\5hello", bytes, 7);
    write_all(fd[1], bytes, 7);
    write_all(fd[1], bytes, 7);
    CHECK_RETURNS(1, frame_connection_next(c, &view, 1, LONG));
    CHECK(view.header == NULL && view.header_len == 0);
    CHECK_RETURNS(0, frame_connection_recv(c, LONG, &frame));
    CHECK_BODY("hello", frame);
    CHECK(frame_header(frame, NULL) == NULL);
    frame_free(frame);
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_recv_header(c, 0, &view, &body_len));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_send(c, "{}", NULL, 0, 0));
    frame_connection_free(c);
    close_both(fd);
}

/* Answers one request: with its body, or with an error. */
static void *serve(void *argument)
{
    struct frame_connection *c = argument;
    struct frame_view view;
    while (frame_connection_next(c, &view, 1, LONG) == 1) {
        if (strstr(view.header, "\"fail\"") != NULL)
            CHECK_RETURNS(0, frame_connection_reply_error(c, view.header, FRAME_ENOENT, "no such key", 0));
        else if (strstr(view.header, "\"mute\"") == NULL)
            CHECK_RETURNS(0, frame_connection_reply(c, view.header, "{\"x\":1}", view.body,
                                                    view.body_len, 0));
    }
    return NULL;
}

static void exchanges(void)
{
    struct frame_connection *c[2];
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct frame *reply;
    pthread_t server;
    int fd[2];

    both(c, fd);
    CHECK(pthread_create(&server, NULL, serve, c[1]) == 0);
    CHECK_RETURNS(0, frame_connection_call(c[0], "{\"cmd\":\"get\"}", "body", 4, LONG, &reply));
    CHECK_BODY("body", reply);
    CHECK(strstr(frame_header(reply, NULL), "\"x\":1") != NULL);
    frame_free(reply);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND,
                  frame_connection_call(c[0], "{\"cmd\":\"fail\"}", NULL, 0, LONG, &reply));
    CHECK(reply == NULL && strstr(frame_last_error(), "no such key") != NULL);
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_call(c[0], "{\"id\":1}", NULL, 0, LONG, &reply));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_call(c[0], "{\"cmd\":\"mute\"}", NULL, 0, 20, &reply));
    CHECK_RETURNS(FRAME_EBROKEN, frame_connection_call(c[0], "{\"cmd\":\"get\"}", NULL, 0, LONG, &reply));
    CHECK(strstr(frame_last_error(), "timed out") != NULL);
    CHECK_RETURNS(0, frame_connection_inspect(c[0], &state));
    CHECK(state.broken == FRAME_ETIMEDOUT);
    CHECK_RETURNS(FRAME_EBROKEN, frame_connection_reply(c[0], "{}", NULL, NULL, 0, 0));
    frame_connection_free(c[0]);
    CHECK(pthread_join(server, NULL) == 0);
    frame_connection_free(c[1]);
}

/* Sends what has "n" in its header, 2,000 times. */
static void *send_many(void *argument)
{
    int i, code;
    for (i = 0; i < 2000; i++) {
        do
            code = frame_connection_send(argument, "{\"n\":1}", "0123456789", 10, LONG);
        while (code == FRAME_EBUSY);
        CHECK_RETURNS(0, code);
    }
    return NULL;
}

static void threads(void)
{
    struct frame_connection *c[2], *duplex;
    struct frame *frame;
    pthread_t sender;
    int fd[2], i, code;

    /* Without DUPLEX a second thread is told that it is one. */
    both(c, fd);
    CHECK(pthread_create(&sender, NULL, send_many, c[1]) == 0);
    for (i = 0; i < 2000; i++) {
        CHECK_RETURNS(0, frame_connection_recv(c[0], LONG, &frame));
        CHECK_BODY("0123456789", frame);
        frame_free(frame);
        code = frame_connection_flush(c[1], 0);
        CHECK(code == 0 || code == FRAME_EBUSY);
    }
    CHECK(pthread_join(sender, NULL) == 0);
    free_both(c);

    /* With DUPLEX one thread sends what the other receives, through an echo. */
    socket_pair(fd);
    duplex = connection_of(fd[0], fd[0], FRAME_CONNECTION_DUPLEX);
    c[1] = connection_of(fd[1], fd[1], 0);
    seal_both(duplex, c[1]);
    CHECK(pthread_create(&sender, NULL, send_many, duplex) == 0);
    for (i = 0; i < 2000; i++) {
        CHECK_RETURNS(0, frame_connection_recv(c[1], LONG, &frame));
        CHECK_RETURNS(0, frame_connection_send(c[1], NULL, frame_body(frame, NULL), 10, LONG));
        frame_free(frame);
        CHECK_RETURNS(0, frame_connection_recv(duplex, LONG, &frame));
        CHECK_BODY("0123456789", frame);
        frame_free(frame);
    }
    CHECK(pthread_join(sender, NULL) == 0);
    frame_connection_free(duplex);
    frame_connection_free(c[1]);
    close_both(fd);
}

static struct frame_connection *waiting;
static volatile sig_atomic_t asked, stops;

static int hook(void *context)
{
    struct frame_connection *c = *(struct frame_connection **)context;
    asked = asked + 1;
    /* Whatever calls the connection from inside one of its calls is told so. */
    if (c != NULL)
        CHECK_RETURNS(FRAME_EBUSY, frame_connection_flush(c, 0));
    return stops;
}

static void nothing(int number)
{
    (void)number;
}

static void abort_it(int number)
{
    (void)number;
    frame_connection_abort(waiting);
}

static void stop_it(int number)
{
    (void)number;
    stops = 1;
}

static void handler(int number, void (*function)(int), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = function;
    action.sa_flags = flags;
    CHECK(sigaction(number, &action, NULL) == 0);
}

static void *kill_soon(void *thread)
{
    struct timespec pause = {0, 30000000};
    nanosleep(&pause, NULL);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

/* What a call returns if a signal comes while it waits. */
static int signalled(int (*call)(struct frame_connection *), struct frame_connection *c,
                     void (*function)(int), int flags)
{
    pthread_t self = pthread_self(), killer;
    int64_t before = milliseconds();
    int code;
    handler(SIGUSR1, function, flags);
    CHECK(pthread_create(&killer, NULL, kill_soon, &self) == 0);
    code = call(c);
    CHECK(pthread_join(killer, NULL) == 0);
    CHECK(milliseconds() - before < 5000);
    handler(SIGUSR1, SIG_DFL, 0);
    stops = 0;
    return code;
}

static int receive(struct frame_connection *c)
{
    struct frame *frame;
    return frame_connection_recv(c, -1, &frame);
}

static int send_much(struct frame_connection *c)
{
    static char much[8 << 20];
    return frame_connection_send(c, NULL, much, sizeof much, -1);
}

static void interrupted(void)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c = NULL, *peer;
    struct frame *frame;
    int fd[2];

    socket_pair(fd);
    opts.interrupted = hook;
    opts.context = &c;
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &opts, &c));
    peer = connection_of(fd[1], fd[1], 0);
    seal_both(c, peer);
    CHECK_RETURNS(FRAME_ECANCELED, signalled(receive, c, stop_it, 0));
    CHECK_RETURNS(FRAME_ECANCELED, signalled(receive, c, stop_it, SA_RESTART));
    CHECK(asked >= 4);
    /* A write that a signal cut short: a part of the message was accepted, so that all was. */
    CHECK_RETURNS(1, signalled(send_much, c, stop_it, SA_RESTART));
    CHECK_RETURNS(FRAME_ECANCELED, signalled(send_much, c, stop_it, 0));
    CHECK_RETURNS(0, frame_connection_send(peer, NULL, "after", 5, LONG));
    CHECK_RETURNS(0, frame_connection_recv(c, LONG, &frame));
    CHECK_BODY("after", frame);
    frame_free(frame);
    frame_connection_free(c);
    frame_connection_free(peer);
    close_both(fd);

    /* Without a hook a signal does not end a wait. */
    socket_pair(fd);
    c = connection_of(fd[0], fd[0], 0);
    handler(SIGALRM, nothing, 0);
    alarm(1);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_recv(c, 1500, &frame));
    handler(SIGALRM, SIG_DFL, 0);
    frame_connection_free(c);
    close_both(fd);
}

static void aborted_by_a_handler(void)
{
    struct frame_connection *c;
    int fd[2], pipes[2], kind, sends;

    for (kind = 0; kind < 2; kind++)
        for (sends = 0; sends < 2; sends++) {
            socket_pair(fd);
            CHECK(pipe(pipes) == 0);
            /* With its other ends kept open. */
            if (kind == 0)
                c = connection_of(fd[0], fd[0], 0);
            else
                c = sends ? connection_of(-1, pipes[1], 0) : connection_of(pipes[0], -1, 0);
            waiting = c;
            CHECK_RETURNS(FRAME_EABORTED,
                          signalled(sends ? send_much : receive, c, abort_it, SA_RESTART));
            CHECK_RETURNS(FRAME_EABORTED, frame_connection_flush(c, 0));
            frame_connection_free(c);
            close_both(fd);
            close_both(pipes);
        }
}

static void a_foreign_loop(void)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct frame_connection *c[2];
    struct frame *frame;
    static char much[4 << 20];
    struct pollfd polled[2];
    int fd[2], code;

    both(c, fd);
    CHECK_RETURNS(0, frame_connection_inspect(c[0], &state));
    CHECK(state.read_fd == fd[0] && state.write_fd == fd[0]);
    CHECK(state.read_events == POLLIN && state.write_events == 0 && state.broken == 0);
    CHECK_RETURNS(1, frame_connection_send(c[0], NULL, much, sizeof much, 0));
    do {
        CHECK_RETURNS(0, frame_connection_inspect(c[0], &state));
        polled[0].fd = state.write_fd, polled[0].events = state.write_events;
        CHECK_RETURNS(0, frame_connection_inspect(c[1], &state));
        polled[1].fd = state.read_fd, polled[1].events = state.read_events;
        CHECK(poll(polled, 2, LONG) > 0);
        code = frame_connection_flush(c[0], 0);
        CHECK(code == 0 || code == FRAME_ETIMEDOUT);
        code = frame_connection_recv(c[1], 0, &frame);
        CHECK(code == 0 || code == FRAME_ETIMEDOUT);
    } while (code != 0);
    frame_free(frame);
    CHECK_RETURNS(0, frame_connection_inspect(c[0], &state));
    CHECK(state.queued == 0 && state.write_events == 0);
    CHECK_RETURNS(0, frame_connection_end(c[0], false, 0));
    CHECK_RETURNS(FRAME_ECLOSED, frame_connection_recv(c[1], LONG, &frame));
    CHECK_RETURNS(0, frame_connection_inspect(c[1], &state));
    CHECK(flags_of(&state) == FRAME_STATE_PEER_ENDED && state.read_events == 0);
    CHECK_RETURNS(0, frame_connection_inspect(c[0], &state));
    CHECK(flags_of(&state) == FRAME_STATE_ENDED);
    free_both(c);
}

static void forked(void)
{
    struct frame_connection *c;
    const void *bytes;
    struct frame *frame;
    size_t len;
    int fd[2];
    pid_t child;

    socket_pair(fd);
    c = connection_of(fd[0], fd[0], 0);
    CHECK_RETURNS(0, frame_send(fd[1], NULL, "one", 3, NULL));
    write_all(fd[1], "the rest", 8);
    CHECK_RETURNS(0, frame_connection_recv(c, LONG, &frame));
    frame_free(frame);
    child = fork();
    if (child == 0) {
        struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
        CHECK_RETURNS(FRAME_EFORKED, frame_connection_recv(c, 0, &frame));
        CHECK_RETURNS(FRAME_EFORKED, frame_connection_send(c, NULL, NULL, 0, 0));
        CHECK_RETURNS(FRAME_EFORKED, frame_connection_end(c, true, 0));
        CHECK_RETURNS(0, frame_connection_abort(c));
        CHECK_RETURNS(0, frame_connection_inspect(c, &state));
        CHECK_RETURNS(0, frame_connection_unread(c, &bytes, &len));
        CHECK_BYTES("the rest", bytes, len);
        frame_connection_free(c);
        _exit(0);
    }
    wait_for(child);
    CHECK_RETURNS(0, frame_connection_send(c, NULL, "on", 2, 0));
    CHECK_RETURNS(0, frame_connection_unread(c, &bytes, &len));
    CHECK_BYTES("the rest", bytes, len);
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_recv(c, 0, &frame));
    frame_connection_free(c);
    close_both(fd);
}

static void addresses(void)
{
    struct frame_connection *client, *server;
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct frame *frame;
    char text[64], short_text[4];
    int listening, i;

    for (i = 0; i < 2; i++) {
        listening = frame_listen(i ? "unix:@framefd-tests-connections" : "127.0.0.1:0", 0, 0);
        CHECK(listening >= 0 && fcntl(listening, F_GETFD) == FD_CLOEXEC);
        CHECK(frame_address(listening, false, text, sizeof text) == (int64_t)strlen(text));
        CHECK_RETURNS((int64_t)strlen(text), frame_address(listening, false, NULL, 0));
        CHECK_RETURNS(FRAME_ETOOBIG, frame_address(listening, false, short_text, 4));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_accept(listening, NULL, 0, &server));
        CHECK_RETURNS(0, frame_connect(text, NULL, &client));
        CHECK_RETURNS(0, frame_accept(listening, NULL, LONG, &server));
        CHECK_RETURNS(0, frame_connection_send(client, NULL, "hello", 5, LONG));
        CHECK_RETURNS(0, frame_connection_recv(server, LONG, &frame));
        CHECK_BODY("hello", frame);
        frame_free(frame);
        CHECK_RETURNS(0, frame_connection_inspect(server, &state));
        frame_connection_free(server);
        CHECK(fcntl(state.read_fd, F_GETFD) < 0);
        frame_connection_free(client);
        close(listening);
    }
    CHECK_RETURNS(FRAME_EINVAL, frame_connect("localhost", NULL, &client));
    CHECK(client == NULL && strstr(frame_last_error(), "localhost") != NULL);
    CHECK_RETURNS(FRAME_EINVAL, frame_listen("localhost:70000", 0, 0));
    CHECK_RETURNS(FRAME_EIO, frame_connect("127.0.0.1:1", NULL, &client));
    CHECK(errno == ECONNREFUSED);
}

int main(void)
{
    messages();
    descriptors_as_bodies();
    whose_descriptors();
    what_cannot_apply();
    packets();
    exchanges();
    threads();
    if (!under_thread_sanitizer()) {
        interrupted();
        aborted_by_a_handler();
    }
    a_foreign_loop();
    forked();
    addresses();
    return 0;
}
