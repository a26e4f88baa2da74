/* What the servers share: signals, a server of frames, and threads for wires without frames. */

#include "common.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>

enum {
    AT_ONCE = 1024, /* clients, commands or files that are served at once */
    IDLE_MS = 24 * 3600 * 1000, /* for the user of a prompt */
    RETRY_MS = 100 /* before another accept() if there is no room for one */
};

/* ---- signals */

static sigset_t stop_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    return signals;
}

int open_signals(bool hangup)
{
    sigset_t signals = stop_signals();
    if (hangup)
        sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    int fd = signalfd(-1, &signals, SFD_CLOEXEC);
    if (fd < 0)
        fail("cannot start: %s", strerror(errno));
    return fd;
}

int next_signal(int fd)
{
    struct signalfd_siginfo next;
    return read(fd, &next, sizeof next) > 0 ? (int)next.ssi_signo : 0;
}

void let_signals_end(void)
{
    sigset_t signals = stop_signals();
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
}

/* Waits for one of two descriptors, or the timeout; returns a bit for each readable one. */
static int wait_for(int first, int second, int timeout_ms)
{
    struct pollfd both[] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
    while (poll(both, 2, timeout_ms) < 0 && errno == EINTR) {
    }
    return (both[0].revents != 0 ? 1 : 0) | (both[1].revents != 0 ? 2 : 0);
}

/* Waits for work, and reads the keys again if it is told to; the number of a signal to stop. */
static int wait_for_stop(const struct service *service, int work)
{
    int number;
    if ((wait_for(service->signals, work, -1) & 1) == 0)
        return 0;
    if ((number = next_signal(service->signals)) != SIGHUP)
        return number;
    load_keys_again(service->ring, service->arguments);
    return 0;
}

static struct service with_keys(const struct arguments *a)
{
    struct service service = {.arguments = a, .signals = open_signals(has_keys(a))};
    service.ring = load_keys(a);
    return service;
}

/* ---- frames */

/* Lines about a client begin with its address. That the server itself begins and ends is no news
 * here. */
static void log_line(void *unused, uint32_t level, const char *text)
{
    (void)unused;
    if (level < FRAME_LOG_INFO || strchr(text, ':') != NULL)
        complain("%s", text);
}

struct service open_service(const struct arguments *a)
{
    struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
    struct service service = with_keys(a);

    opts.flags = FRAME_SERVER_HELLO;
    if (!a->seal)
        opts.flags |= service.ring != NULL ? FRAME_SERVER_PLAIN : a->plain ? FRAME_SERVER_OPEN : 0;
    opts.workers = 1; /* beside those for commands and files */
    opts.max_commands = opts.max_transfers = AT_ONCE;
    opts.idle_ms = IDLE_MS;
    opts.ring = service.ring;
    opts.server_name = a->name;
    opts.log = log_line;
    if (frame_server_new(&opts, &service.server) != 0)
        fail("%s", frame_last_error());
    return service;
}

int run_service(const struct service *service)
{
    int work = frame_server_poll_fd(service->server), listener = open_listener(service->arguments);
    int number, last = 0, stops = 0, code = frame_server_listen(service->server, listener);

    if (code == 0)
        announce(listener);
    while (code == 0 || code == FRAME_ETIMEDOUT) {
        if ((number = wait_for_stop(service, work)) != 0) {
            frame_server_stop(service->server);
            last = number;
            stops++;
        }
        code = frame_server_step(service->server, 0);
    }
    if (code != FRAME_ECLOSED)
        fail("%s", frame_last_error());
    frame_server_free(service->server);
    auth_keyring_free(service->ring);
    let_signals_end();
    if (stops > 1)
        raise(last);
    return EXIT_SUCCESS;
}

/* ---- threads */

/* What the threads of a server share. Both descriptors can be read from some time on: `stop` when
 * nothing more is waited for, `end` when nothing more is served, so that clients who connect or
 * ask without a pause do not hold the stop up. */
static struct {
    struct service service;
    serve_fn *serve;
    void *context;
    int stop, end;
    sem_t places; /* for threads */
} threads;

static void open_threads(struct service service, serve_fn *serve, void *context)
{
    threads.service = service;
    threads.serve = serve;
    threads.context = context;
    threads.stop = eventfd(0, EFD_CLOEXEC);
    threads.end = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (threads.stop < 0 || threads.end < 0)
        fail("cannot start: %s", strerror(errno));
    sem_init(&threads.places, 0, AT_ONCE);
}

/* Starts a thread, whose last call is sem_post(). */
static bool start(void *(*run)(void *), void *with)
{
    pthread_t thread;
    if (sem_trywait(&threads.places) != 0)
        return false;
    if (pthread_create(&thread, NULL, run, with) == 0)
        return pthread_detach(thread) == 0;
    sem_post(&threads.places);
    return false;
}

static void begin_to_stop(void)
{
    static const struct itimerspec linger = {.it_value.tv_sec = LINGER_MS / 1000};
    let_signals_end();
    timerfd_settime(threads.end, 0, &linger, NULL);
    eventfd_write(threads.stop, 1);
}

static int finish(void)
{
    for (int i = 0; i < AT_ONCE; i++)
        while (sem_wait(&threads.places) != 0) {
        }
    auth_keyring_free(threads.service.ring);
    return EXIT_SUCCESS;
}

static int is_over(void *unused)
{
    (void)unused;
    return wait_for(threads.end, -1, 0) != 0;
}

bool request_comes(int fd)
{
    return (wait_for(threads.stop, fd, -1) & 2) != 0 && !is_over(NULL);
}

/* Ends a connection so that the client can read its last reply, which a close with unread input
 * could drop. */
static void hang_up(int fd)
{
    struct frame_connection *c;
    if (frame_connection_new(fd, fd, NULL, &c) == 0) {
        frame_connection_end(c, true, LINGER_MS);
        frame_connection_free(c);
    }
}

/* Whether a client may be served; the wires without frames know the plain handshake only. */
static bool proves(struct frame_connection *c, int fd)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;

    opts.flags = AUTH_PLAIN;
    if (threads.service.ring == NULL ||
        frame_connection_auth_server(c, threads.service.ring, &opts, NULL) == 0)
        return true;
    log_client(fd, "", "refused: ", frame_last_error());
    return false;
}

static void *run_client(void *connection)
{
    int fd = socket_of(connection);
    struct timeval stall = {.tv_sec = STALL_MS / 1000};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof stall);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof stall);
    if (proves(connection, fd))
        threads.serve(fd, threads.context);
    hang_up(fd);
    frame_connection_free(connection);
    sem_post(&threads.places);
    return NULL;
}

/* Serves the next client that waits in the queue; false if there was none. */
static bool accept_client(int listener)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;

    opts.flags = FRAME_CONNECTION_KEEPALIVE | FRAME_CONNECTION_EXACT;
    opts.interrupted = is_over;
    int code = frame_accept(listener, &opts, 0, &c);
    if (code != 0 && code != FRAME_ETIMEDOUT)
        poll(NULL, 0, RETRY_MS); /* no descriptors, no memory */
    if (code == 0 && !start(run_client, c))
        frame_connection_free(c);
    return code == 0;
}

int serve_connections(const struct arguments *a, serve_fn *serve, void *context)
{
    open_threads(with_keys(a), serve, context);
    int listener = open_listener(a);
    announce(listener);
    while (wait_for_stop(&threads.service, listener) == 0)
        accept_client(listener);
    begin_to_stop();
    while (!is_over(NULL) && accept_client(listener)) {
    }
    close(listener);
    return finish();
}

static void *run_datagrams(void *fd)
{
    while (request_comes(*(int *)fd))
        threads.serve(*(int *)fd, threads.context);
    sem_post(&threads.places);
    return NULL;
}

int serve_datagrams(const struct arguments *a, int count, serve_fn *serve, void *context)
{
    open_threads((struct service){.signals = open_signals(false)}, serve, context);
    int fd = open_datagrams(a, true);
    while (count-- > 0)
        if (!start(run_datagrams, &fd))
            fail("cannot start a thread");
    announce(fd);
    while (wait_for_stop(&threads.service, -1) == 0) {
    }
    begin_to_stop();
    return finish();
}
