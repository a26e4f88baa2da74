/* What the example programs share: arguments, connections, the server's loop, the prompt. */

#include "common.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <time.h>

enum {
    HEADER_MS = 10000,    /* from the first byte of a request to its body */
    STALL_S = 30,         /* without a byte, inside a request or a reply */
    LINGER_MS = 1000,     /* what a client still sends is dropped for this long, */
    LINGER_SIZE = 262144, /* or up to this size, so that it can read its reply */
    RETRY_MS = 100,       /* before another accept() where there is no room for one */
    DATAGRAM_THREADS = 16
};

int exit_failure = EXIT_FAILURE;

void fail(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    verrx(exit_failure, format, values);
}

/* ---- the command line */

static void load_key(struct arguments *a, const char *path)
{
    auth_key_free(a->key);
    if (auth_key_load(path, 0, &a->key) != 0)
        fail("%s", frame_last_error());
}

static void add_variable(struct arguments *a, int argc, const char *variable)
{
    size_t count = 0;
    if (*variable == '=' || strchr(variable, '=') == NULL)
        fail("--env %s is not NAME=VALUE", variable);
    if (a->env == NULL && (a->env = calloc((size_t)argc, sizeof *a->env)) == NULL)
        fail("out of memory");
    while (a->env[count] != NULL)
        count++;
    a->env[count] = variable;
}

static void read_options(struct arguments *a, int argc, char **argv, const char *letters,
                         const char *help)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},     {"port", required_argument, NULL, 'p'},
        {"wire", required_argument, NULL, 'w'},     {"root", required_argument, NULL, 'r'},
        {"key-file", required_argument, NULL, 'k'}, {"timeout", required_argument, NULL, 'T'},
        {"cwd", required_argument, NULL, 'c'},      {"env", required_argument, NULL, 'e'},
        {"stdin", no_argument, NULL, 'i'},          {"tty", no_argument, NULL, 't'},
        {"help", no_argument, NULL, '!'},           {NULL, 0, NULL, 0},
    };
    int letter, index = 0;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, "+:", known, &index)) != -1) {
        if (letter == '!') {
            fputs(help, stdout);
            exit(EXIT_SUCCESS);
        }
        if (letter == ':')
            fail("%s needs a value, see --help", argv[optind - 1]);
        if (letter == '?')
            fail("unknown option %s, see --help", argv[optind - 1]);
        if (strchr(letters, letter) == NULL)
            fail("unknown option --%s, see --help", known[index].name);
        if (letter == 'h')
            a->host = optarg;
        else if (letter == 'p')
            a->port = optarg;
        else if (letter == 'w')
            a->wire = optarg;
        else if (letter == 'r')
            a->root = optarg;
        else if (letter == 'T')
            a->timeout = optarg;
        else if (letter == 'c')
            a->cwd = optarg;
        else if (letter == 'e')
            add_variable(a, argc, optarg);
        else if (letter == 'i')
            a->forward = true;
        else if (letter == 't')
            a->tty = true;
        else
            load_key(a, optarg);
    }
}

struct arguments read_arguments(int argc, char **argv, const char *letters, const char *help)
{
    struct arguments a = {.host = "127.0.0.1", .port = "0", .wire = "frame"};
    bool server = strchr(letters, 'h') != NULL;

    read_options(&a, argc, argv, letters, help);
    if (!server) {
        if (optind >= argc)
            fail("no HOST, see --help");
        a.host = argv[optind++];
        read_options(&a, argc, argv, letters, help);
        if (optind >= argc)
            fail("no PORT, see --help");
        a.port = argv[optind++];
        read_options(&a, argc, argv, letters, help);
    } else if (optind < argc) {
        fail("unknown argument %s, see --help", argv[optind]);
    }
    a.request = argv + optind;
    return a;
}

void free_arguments(struct arguments *a)
{
    auth_key_free(a->key);
    free(a->env);
    free(a->line);
}

/* ---- addresses */

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    if (address->sa_family != AF_INET6)
        return false;
    const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}

/* Without this getaddrinfo(3) takes 65536 for 0. */
static void check_port(const char *port)
{
    size_t digits = strspn(port, "0123456789");
    if (digits == 0 || digits > 5 || port[digits] != '\0' || atoi(port) > 65535)
        fail("port %s is not a number from 0 to 65535", port);
}

/* A socket that is bound to HOST and PORT, for a server, or connected to it. */
static int open_socket(const struct arguments *a, int type, bool server)
{
    struct addrinfo hints = {.ai_socktype = type, .ai_flags = AI_NUMERICSERV}, *found;
    int fd = -1, code, on = 1;

    check_port(a->port);
    if ((code = getaddrinfo(a->host, a->port, &hints, &found)) != 0)
        fail("%s: %s", a->host, gai_strerror(code));
    for (const struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        if (server && a->key == NULL && !is_loopback(at->ai_addr))
            fail("%s is not a loopback address: that needs --key-file", a->host);
        fd = socket(at->ai_family, type | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        if (server && type == SOCK_STREAM)
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        /* A request waits for no acknowledgement; accepted sockets inherit it. */
        if (type == SOCK_STREAM)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if ((server ? bind(fd, at->ai_addr, at->ai_addrlen)
                    : connect(fd, at->ai_addr, at->ai_addrlen)) != 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0)
        fail("%s port %s: %s", a->host, a->port, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static void announce(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
        getnameinfo((struct sockaddr *)&address, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        fail("no address");
    printf(strchr(host, ':') ? "listening on [%s]:%s\n" : "listening on %s:%s\n", host, port);
    fflush(stdout);
}

/* ---- a client */

int connect_to(const struct arguments *a, int type)
{
    int fd = open_socket(a, type, false);
    size_t len;
    const void *key = auth_key_bytes(a->key, &len);

    if (type == SOCK_STREAM && key != NULL && auth_client(fd, key, len, NULL) != 0)
        fail("%s", frame_last_error());
    return fd;
}

static char *join(struct arguments *a)
{
    size_t size = 1;
    for (char **word = a->request; *word != NULL; word++)
        size += strlen(*word) + 1;
    char *end = a->line = malloc(size);
    if (end == NULL)
        fail("out of memory");
    for (char **word = a->request; *word != NULL; word++)
        end += sprintf(end, word == a->request ? "%s" : " %s", *word);
    return a->line;
}

char *next_request(struct arguments *a)
{
    if (a->requested)
        return NULL;
    if (a->request[0] != NULL) {
        a->requested = true;
        return join(a);
    }
    for (;;) {
        fputs(">>: ", stdout);
        fflush(stdout);
        ssize_t len = getline(&a->line, &a->line_size, stdin);
        if (len < 0)
            return NULL;
        while (len > 0 && isspace((unsigned char)a->line[len - 1]))
            a->line[--len] = '\0';
        char *text = a->line + strspn(a->line, " \t\r\n\v\f");
        if (strcmp(text, "quit") == 0)
            return NULL;
        if (*text != '\0')
            return text;
    }
}

void show(FILE *stream, const void *data, size_t len)
{
    if (len > 0 && (fwrite(data, 1, len, stream) != len || fflush(stream) != 0))
        fail("cannot show the output: %s", strerror(errno));
}

int status_of(int64_t exit_code)
{
    if (exit_code >= 0 && exit_code <= 255)
        return (int)exit_code;
    warnx("the command's exit status is not known");
    return exit_failure;
}

int status_of_result(const struct exec_result *result)
{
    if (result->flags & EXEC_RESULT_TIMED_OUT)
        warnx("the command's time was up");
    if (result->flags & EXEC_RESULT_TRUNCATED)
        warnx("the command wrote more than was kept");
    return status_of(result->exit_code);
}

int show_output(struct exec_output *output)
{
    struct exec_result result = EXEC_RESULT_INIT;
    size_t len;
    const void *data = exec_output_stdout(output, &len);
    show(stdout, data, len);
    data = exec_output_stderr(output, &len);
    show(stderr, data, len);
    exec_output_result(output, &result);
    exec_output_free(output);
    return status_of_result(&result);
}

int report(int code)
{
    if (code > FRAME_EREMOTE_BAD_REQUEST)
        fail("%s", frame_last_error());
    warnx("%s", frame_last_error());
    return exit_failure;
}

/* ---- a server */

/* What a thread of the server does. */
struct job {
    void (*run)(struct job *job);
    int fd;
    const struct auth_key *key;
    serve_fn *serve;
    void *context;
};

/* The server of this process; its threads see the stop as a pipe's hang-up. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int running;
    int stop_read, stop_write, signals;
} server = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, -1, -1, -1};

static sigset_t stop_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    return signals;
}

int open_stop_signals(void)
{
    sigset_t signals = stop_signals();
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    int fd = signalfd(-1, &signals, SFD_CLOEXEC);
    if (fd < 0)
        fail("cannot start: %s", strerror(errno));
    return fd;
}

void take_stop_signal(int fd)
{
    struct signalfd_siginfo first;
    sigset_t signals = stop_signals();
    if (read(fd, &first, sizeof first) > 0)
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
}

int open_listener(const struct arguments *a)
{
    int fd = open_socket(a, SOCK_STREAM, true);
    if (listen(fd, SOMAXCONN) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        fail("cannot listen: %s", strerror(errno));
    announce(fd);
    return fd;
}

static void prepare(void)
{
    int ends[2];
    server.signals = open_stop_signals();
    if (pipe2(ends, O_CLOEXEC) != 0)
        fail("cannot start: %s", strerror(errno));
    server.stop_read = ends[0];
    server.stop_write = ends[1];
}

static void count_threads(int change)
{
    pthread_mutex_lock(&server.lock);
    server.running += change;
    pthread_cond_signal(&server.changed);
    pthread_mutex_unlock(&server.lock);
}

static void *run_job(void *job)
{
    ((struct job *)job)->run(job);
    free(job);
    count_threads(-1);
    return NULL;
}

static bool start(struct job job)
{
    pthread_t thread;
    struct job *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return false;
    *copy = job;
    count_threads(1);
    bool started = pthread_create(&thread, NULL, run_job, copy) == 0;
    if (started) {
        pthread_detach(thread);
    } else {
        count_threads(-1);
        free(copy);
    }
    return started;
}

/* Waits for fd to be readable; false when the other one is. */
static bool comes_before(int fd, int other, int timeout_ms)
{
    struct pollfd both[] = {{.fd = other, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    while (poll(both, 2, timeout_ms) < 0 && errno == EINTR) {
    }
    return both[0].revents == 0;
}

static int stop(void)
{
    close(server.stop_write);
    take_stop_signal(server.signals);
    pthread_mutex_lock(&server.lock);
    while (server.running > 0)
        pthread_cond_wait(&server.changed, &server.lock);
    pthread_mutex_unlock(&server.lock);
    return EXIT_SUCCESS;
}

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* close() alone, with input unread, would reset the connection and lose a reply that is
 * still on its way. */
static void close_lingering(int fd)
{
    char dropped[4096];
    int64_t left, end = now_ms() + LINGER_MS;
    ssize_t len = 1;

    shutdown(fd, SHUT_WR);
    for (size_t size = 0; len > 0 && size < LINGER_SIZE; size += (size_t)len) {
        struct pollfd input = {.fd = fd, .events = POLLIN};
        if ((left = end - now_ms()) <= 0 || poll(&input, 1, (int)left) <= 0)
            break;
        len = recv_some(fd, dropped, sizeof dropped);
    }
    close(fd);
}

static void run_connection(struct job *job)
{
    struct timeval stall = {.tv_sec = STALL_S};
    size_t len;
    const void *key = auth_key_bytes(job->key, &len);

    setsockopt(job->fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof stall);
    setsockopt(job->fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof stall);
    if (key == NULL || auth_server(job->fd, key, len, NULL) == 0)
        job->serve(job->fd, job->context);
    else
        warnx("a client was refused: %s", frame_last_error());
    close_lingering(job->fd);
}

int serve_connections(const struct arguments *a, serve_fn *serve, void *context)
{
    prepare();
    int listener = open_listener(a);

    while (comes_before(listener, server.signals, -1)) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && !start((struct job){run_connection, fd, a->key, serve, context}))
            close(fd);
        else if (fd < 0 && errno != EAGAIN)
            comes_before(-1, server.signals, RETRY_MS); /* no descriptors, no memory */
    }
    close(listener);
    return stop();
}

static void run_datagrams(struct job *job)
{
    while (request_comes(job->fd))
        job->serve(job->fd, job->context);
}

int serve_datagrams(const struct arguments *a, serve_fn *serve, void *context)
{
    prepare();
    int fd = open_socket(a, SOCK_DGRAM, true);
    for (int i = 0; i < DATAGRAM_THREADS; i++)
        if (!start((struct job){run_datagrams, fd, NULL, serve, context}))
            fail("cannot start a thread");
    announce(fd);
    comes_before(-1, server.signals, -1);
    int status = stop();
    close(fd);
    return status;
}

bool request_comes(int fd)
{
    return comes_before(fd, server.stop_read, -1);
}

static bool is_listed(const char *const *names, const char *name)
{
    while (*names != NULL && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

static bool is_malformed(int code)
{
    return code == FRAME_EBADLENGTH || code == FRAME_ETOOBIG || code == FRAME_EBADJSON ||
           code == FRAME_EBADFIELD;
}

void serve_frames(int fd, const char *const *cmds, answer_fn *answer, void *context)
{
    struct frame_options header = FRAME_OPTIONS_INIT, stall = FRAME_OPTIONS_INIT;
    header.timeout_ms = HEADER_MS;
    stall.timeout_ms = STALL_S * 1000;
    int code = 0;

    while (code >= 0 && request_comes(fd)) {
        struct frame *request;
        const char *cmd;
        if ((code = frame_recv_header(fd, &request, &header)) != 0) {
            if (is_malformed(code)) /* whatever it was, no request */
                frame_reply_error(fd, NULL, FRAME_EBADFIELD, frame_last_error(), &stall);
            return;
        }
        if (exec_is_late_input(request) && is_listed(cmds, "exec"))
            code = 0; /* for a command that streamed, and has ended */
        else if ((code = frame_header_string(request, "cmd", &cmd, NULL)) != 0)
            code = frame_reply_error(fd, request, code, frame_last_error(), &stall);
        else if (strcmp(cmd, "hello") == 0)
            code = frame_reply_hello(fd, request, cmds, &stall);
        else if (is_listed(cmds, cmd))
            code = answer(fd, request, context);
        else
            code = frame_reply_error(fd, request, FRAME_ENOTSUP, NULL, &stall);
        if (code >= 0)
            code = frame_body_skip(request, &stall);
        frame_free(request);
    }
}

/* ---- bytes without a frame */

ssize_t recv_some(int fd, void *buffer, size_t size)
{
    ssize_t len;
    do
        len = recv(fd, buffer, size, 0);
    while (len < 0 && errno == EINTR);
    return len;
}

bool recv_exactly(int fd, void *buffer, size_t len)
{
    ssize_t got = 1;
    for (char *at = buffer; len > 0 && got > 0; at += got, len -= (size_t)got)
        got = recv_some(fd, at, len);
    return got > 0;
}

bool send_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return false;
        if (sent > 0) {
            at += sent;
            len -= (size_t)sent;
        }
    }
    return true;
}
