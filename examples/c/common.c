/* Common to the example programs: arguments, connections, the server's loop, the prompt. */

#include "common.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum {
    RETRY_MS = 100, /* before another accept() if there is no room for one */
    DATAGRAM_THREADS = 16,
    MAX_QUEUED = 64 * 1024, /* bytes of replies that a client has not read */
    ADDRESS_SIZE = NI_MAXHOST + 8
};

int exit_failure = EXIT_FAILURE;

void fail(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    verrx(exit_failure, format, values);
}

/* ---- the command line */

void open_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    close(fd);
}

static void load_key(struct arguments *a, const char *path)
{
    int len = auth_key_load(path, 0, a->key, sizeof a->key);
    if (len < 0)
        fail("%s", frame_last_error());
    a->key_len = (size_t)len;
    a->key_file = path;
}

void add_variable(struct arguments *a, const char *variable)
{
    size_t count = 0;
    while (a->env != NULL && a->env[count] != NULL)
        count++;
    a->env = realloc(a->env, (count + 2) * sizeof *a->env);
    if (a->env == NULL)
        fail("out of memory");
    a->env[count] = variable;
    a->env[count + 1] = NULL;
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
        {"seal", no_argument, NULL, 's'},           {"plain", no_argument, NULL, 'P'},
        {"keys", required_argument, NULL, 'K'},     {"id", required_argument, NULL, 'I'},
        {"name", required_argument, NULL, 'N'},
        {"help", no_argument, NULL, '!'},           {NULL, 0, NULL, 0},
    };
    int letter, index = 0;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, "+:", known, &index)) != -1) {
        if (letter == '!') {
            show(STDOUT_FILENO, help, strlen(help));
            exit(EXIT_SUCCESS);
        }
        if (letter == ':')
            fail("%s needs a value, see --help", argv[optind - 1]);
        if (letter == '?')
            fail("unknown option %s, see --help", argv[optind - 1]);
        if (strchr(letters, letter) == NULL)
            fail("unknown option --%s, see --help", known[index].name);
        if (letter == 'e' && (*optarg == '=' || strchr(optarg, '=') == NULL))
            fail("--env %s is not NAME=VALUE", optarg);
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
            add_variable(a, optarg);
        else if (letter == 'i')
            a->forward = true;
        else if (letter == 't')
            a->tty = true;
        else if (letter == 's')
            a->seal = true;
        else if (letter == 'P')
            a->plain = true;
        else if (letter == 'K')
            a->keys = optarg;
        else if (letter == 'I')
            a->id = optarg;
        else if (letter == 'N')
            a->name = optarg;
        else
            load_key(a, optarg);
    }
}

/* As process 1 of a container a server gets the orphans of its commands. Whoever reaps them must
 * not reap the commands, which the library waits for. So process 1 does nothing else, and the
 * server is its child. Ctrl-C must not reach that twice: it has a process group of its own. */
static void leave_process_1(void)
{
    sigset_t all, before;
    pid_t server, ended;
    int status;

    if (getpid() != 1)
        return;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    signal(SIGCHLD, SIG_DFL);
    if ((server = fork()) <= 0) {
        setpgid(0, 0);
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (server < 0)
            fail("cannot start: %s", strerror(errno));
        return;
    }
    for (;;) {
        int number = sigwaitinfo(&all, NULL);
        if (number > 0 && number != SIGCHLD)
            kill(server, number);
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
            if (ended == server)
                exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
}

struct arguments read_arguments(int argc, char **argv, const char *letters, const char *help)
{
    struct arguments a = {.host = "127.0.0.1", .port = "0", .wire = "frame"};
    bool server = strchr(letters, 'h') != NULL;

    a.can_seal = strchr(letters, 's') != NULL;
    open_standard_descriptors();
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
    check_keys(&a, server);
    if (server) {
        signal(SIGPIPE, SIG_IGN); /* a log that nobody reads any more does not end a server */
        leave_process_1();
    }
    a.request = argv + optind;
    return a;
}

void free_arguments(struct arguments *a)
{
    explicit_bzero(a->key, sizeof a->key);
    free(a->env);
    free(a->line);
}

/* ---- addresses */

/* HOST and PORT as an address for the library; valid until the next call. */
static const char *address_of(const struct arguments *a)
{
    static char address[ADDRESS_SIZE];
    const char *format = strchr(a->host, ':') != NULL ? "[%s]:%s" : "%s:%s";
    size_t digits = strspn(a->port, "0123456789");
    if (digits == 0 || digits > 5 || a->port[digits] != '\0' || atoi(a->port) > 65535)
        fail("port %s is not a number from 0 to 65535", a->port);
    if (snprintf(address, sizeof address, format, a->host, a->port) >= ADDRESS_SIZE)
        fail("the name of the host is too long");
    return address;
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    if (address->sa_family != AF_INET6)
        return false;
    const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}

/* Fails unless a server may listen at an address. Datagrams with a key are signed, each by itself;
 * somebody in between can use a connection that is not sealed as the client. */
static void check_address(const struct arguments *a, const struct sockaddr *address, int type)
{
    if (is_loopback(address) || (type == SOCK_DGRAM ? a->key_len > 0 : a->seal || a->plain))
        return;
    fail("%s is not a loopback address: that needs %s", a->host,
         type == SOCK_DGRAM ? "--key-file"
         : a->can_seal      ? "--seal, or --plain on a network that is trusted"
                            : "--plain, on a network that is trusted");
}

/* The addresses of HOST, at which a server may listen. */
static struct addrinfo *look_up(const struct arguments *a, int type, bool server)
{
    struct addrinfo hints = {.ai_socktype = type, .ai_flags = AI_NUMERICSERV}, *found;
    address_of(a); /* getaddrinfo(3) takes port 65536 for 0 */
    int code = getaddrinfo(a->host, a->port, &hints, &found);
    if (code != 0)
        fail("%s: %s", a->host, gai_strerror(code));
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next)
        if (server)
            check_address(a, at->ai_addr, type);
    return found;
}

int open_datagrams(const struct arguments *a, bool server)
{
    struct addrinfo *found = look_up(a, SOCK_DGRAM, server);
    int fd = -1;
    for (const struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && (server ? bind(fd, at->ai_addr, at->ai_addrlen)
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
    char address[ADDRESS_SIZE];
    if (frame_address(fd, false, address, sizeof address) < 0)
        fail("%s", frame_last_error());
    printf("listening on %s\n", address);
    fflush(stdout);
}

/* ---- a client */

/* What a server may have wanted that closes the connection before its first reply. */
static const char *wanted = "";

struct frame_connection *connect_to(const struct arguments *a, uint32_t flags)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;

    opts.flags = FRAME_CONNECTION_KEEPALIVE | flags;
    if (frame_connect(address_of(a), &opts, &c) != 0)
        fail("%s", frame_last_error());
    prove_to(c, a);
    wanted = a->seal ? "" : " (does the server want a key, another one, or --seal?)";
    return c;
}

void disconnect(struct frame_connection *c)
{
    frame_connection_end(c, false, LINGER_MS);
    frame_connection_free(c);
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
        show(STDOUT_FILENO, ">>: ", 4);
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

void complain(const char *format, ...)
{
    char line[4096];
    va_list values;
    int len = snprintf(line, sizeof line - 1, "%s: ", program_invocation_short_name);
    va_start(values, format);
    len += vsnprintf(line + len, sizeof line - 1 - (size_t)len, format, values);
    va_end(values);
    len = len < (int)sizeof line - 1 ? len : (int)sizeof line - 2;
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)len) < 0)
        return; /* nobody may be left who reads it */
}

void say(const char *format, ...)
{
    char text[4096];
    va_list values;
    va_start(values, format);
    int len = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    show(STDOUT_FILENO, text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
}

void show(int fd, const void *data, size_t len)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    while (len > 0) {
        ssize_t written = write(fd, data, len);
        if (written < 0 && errno == EAGAIN)
            poll(&room, 1, -1);
        else if (written < 0 && errno != EINTR)
            fail("cannot show the output: %s", strerror(errno));
        if (written > 0) {
            data = (const char *)data + written;
            len -= (size_t)written;
        }
    }
}

int status_of(int64_t exit_code)
{
    if (exit_code >= 0 && exit_code <= 255)
        return (int)exit_code;
    complain("the command's exit status is not known");
    return exit_failure;
}

int status_of_result(const struct exec_result *result)
{
    wanted = "";
    if (result->flags & EXEC_RESULT_TIMED_OUT)
        complain("the command's time was up");
    if (result->flags & EXEC_RESULT_TRUNCATED)
        complain("the command wrote more than was kept");
    if (result->flags & EXEC_RESULT_PIPE_HELD)
        complain("a job in the background keeps the output, which nobody reads any more:"
              " redirect it");
    return status_of(result->exit_code);
}

int show_output(struct exec_output *output, const struct exec_result *result)
{
    size_t len;
    const void *data = exec_output_bytes(output, EXEC_STDOUT, &len);
    show(STDOUT_FILENO, data, len);
    data = exec_output_bytes(output, EXEC_STDERR, &len);
    show(STDERR_FILENO, data, len);
    exec_output_free(output);
    return status_of_result(result);
}

int report(int code)
{
    if (code > FRAME_EREMOTE_BAD_REQUEST)
        fail("%s", reason_of(code));
    complain("%s", frame_last_error());
    wanted = "";
    return exit_failure;
}

const char *reason_of(int code)
{
    static char text[1024];
    snprintf(text, sizeof text, "%s%s", frame_last_error(), code == FRAME_ECLOSED ? wanted : "");
    return text;
}

/* ---- a server */

/* The work of a thread of the server. */
struct job {
    void (*run)(struct job *job);
    struct frame_connection *c; /* NULL: datagrams */
    int fd;
    const struct arguments *arguments;
    const struct auth_keyring *ring; /* NULL: no handshake */
    serve_fn *serve;
    void *context;
};

/* The server of this process; its threads see the stop as a pipe's hang-up. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int running, commands;
    int64_t end; /* requests are served until then; 0: not stopped yet */
    int stop_read, stop_write, signals;
} server = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, -1, -1, -1};

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
    struct signalfd_siginfo first;
    sigset_t signals = stop_signals();
    if (read(fd, &first, sizeof first) <= 0)
        return 0;
    if (first.ssi_signo != SIGHUP)
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    return (int)first.ssi_signo;
}

int open_listener(const struct arguments *a)
{
    freeaddrinfo(look_up(a, SOCK_STREAM, true));
    int fd = frame_listen(address_of(a), 0, 0);
    if (fd < 0)
        fail("%s", frame_last_error());
    announce(fd);
    return fd;
}

static void prepare(bool hangup)
{
    int ends[2];
    server.signals = open_signals(hangup);
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

/* Waits for one of two descriptors, or the timeout; returns a bit for each readable one. */
static int wait_for(int first, int second, int timeout_ms)
{
    struct pollfd both[] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
    while (poll(both, 2, timeout_ms) < 0 && errno == EINTR) {
    }
    return (both[0].revents != 0 ? 1 : 0) | (both[1].revents != 0 ? 2 : 0);
}

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* After a stop clients that have connected, and requests that have arrived, are served. Those
 * who connect or ask without a pause must not hold the stop up. */
static void begin_to_stop(void)
{
    pthread_mutex_lock(&server.lock);
    server.end = now_ms() + LINGER_MS;
    pthread_mutex_unlock(&server.lock);
}

static bool still_serves(void)
{
    pthread_mutex_lock(&server.lock);
    int64_t end = server.end;
    pthread_mutex_unlock(&server.lock);
    return end == 0 || now_ms() < end;
}

static int stop(void)
{
    close(server.stop_write);
    pthread_mutex_lock(&server.lock);
    while (server.running > 0)
        pthread_cond_wait(&server.changed, &server.lock);
    pthread_mutex_unlock(&server.lock);
    return EXIT_SUCCESS;
}

/* Ends a connection so that the client can read its last reply, which a close with unread input
 * could drop. A broken connection cannot be ended, but another one on the same socket can; it sends
 * no byte, so a sealed one gets none in clear. */
static void hang_up(struct frame_connection *c, int fd)
{
    struct frame_connection *other;
    if (frame_connection_end(c, true, LINGER_MS) == FRAME_EBROKEN &&
        frame_connection_new(fd, fd, NULL, &other) == 0) {
        frame_connection_end(other, true, LINGER_MS);
        frame_connection_free(other);
    }
    frame_connection_free(c);
}

/* Nor must those who have not proved a key yet. */
static __thread bool is_stranger;

static int is_over(void *unused)
{
    (void)unused;
    return is_stranger && !still_serves();
}

static void run_connection(struct job *job)
{
    struct timeval stall = {.tv_sec = STALL_MS / 1000};

    setsockopt(job->fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof stall);
    setsockopt(job->fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof stall);
    is_stranger = true;
    bool may_ask = proves(job->c, job->ring, job->arguments);
    is_stranger = false;
    if (may_ask)
        job->serve(job->c, job->fd, job->context);
    hang_up(job->c, job->fd);
}

/* Serves the next client that waits in the queue; false if there was none. */
static bool accept_client(int listener, const struct frame_connection_options *opts,
                          struct job job)
{
    int code = frame_accept(listener, opts, 0, &job.c);
    if (code == 0) {
        job.fd = socket_of(job.c);
        if (!start(job))
            frame_connection_free(job.c);
    } else if (code != FRAME_ETIMEDOUT) {
        wait_for(server.signals, -1, RETRY_MS); /* no descriptors, no memory */
    }
    return code == 0;
}

int serve_connections(const struct arguments *a, uint32_t flags, serve_fn *serve, void *context)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct job job = {.run = run_connection, .serve = serve, .context = context, .arguments = a};

    opts.flags = FRAME_CONNECTION_KEEPALIVE | flags;
    opts.interrupted = is_over;
    prepare(has_keys(a));
    struct auth_keyring *ring = load_keys(a);
    job.ring = ring;
    int listener = open_listener(a);
    for (;;) {
        if ((wait_for(server.signals, listener, -1) & 1) == 0)
            accept_client(listener, &opts, job);
        else if (next_signal(server.signals) == SIGHUP)
            load_keys_again(ring, a);
        else
            break;
    }
    begin_to_stop();
    while (still_serves() && accept_client(listener, &opts, job)) {
    }
    close(listener);
    int status = stop();
    auth_keyring_free(ring);
    return status;
}

bool begin_command(void)
{
    pthread_mutex_lock(&server.lock);
    bool free = server.commands < DATAGRAM_THREADS;
    server.commands += free;
    pthread_mutex_unlock(&server.lock);
    return free;
}

void end_command(void)
{
    pthread_mutex_lock(&server.lock);
    server.commands--;
    pthread_mutex_unlock(&server.lock);
}

static void run_datagrams(struct job *job)
{
    while (request_comes(job->fd))
        job->serve(NULL, job->fd, job->context);
}

int serve_datagrams(const struct arguments *a, serve_fn *serve, void *context)
{
    prepare(false);
    int fd = open_datagrams(a, true);
    struct job job = {.run = run_datagrams, .fd = fd, .serve = serve, .context = context};
    for (int i = 0; i <= DATAGRAM_THREADS; i++)
        if (!start(job))
            fail("cannot start a thread");
    announce(fd);
    wait_for(server.signals, -1, -1);
    next_signal(server.signals);
    begin_to_stop();
    int status = stop();
    close(fd);
    return status;
}

bool request_comes(int fd)
{
    return (wait_for(server.stop_read, fd, -1) & 2) != 0 && still_serves();
}

static int answer_request(struct frame_connection *c, const char *request, const char *cmds,
                          answer_fn *answer, void *context)
{
    char cmd[32], hello[512];
    int64_t len = frame_header_string(request, "cmd", cmd, sizeof cmd);
    if (len == FRAME_ETOOBIG)
        return frame_connection_reply_error(c, request, FRAME_ENOTSUP, NULL, STALL_MS);
    if (len < 0)
        return frame_connection_reply_error(c, request, (int)len, frame_last_error(), STALL_MS);
    if (strcmp(cmd, "hello") != 0)
        return answer(c, cmd, request, context);
    /* The limits are those of the library. */
    snprintf(hello, sizeof hello,
             "{\"version\":\"%s\",\"cmds\":%s,\"limits\":{\"max_header\":65536,"
             "\"max_body\":67108864,\"max_command\":65536,\"max_output\":16777216}}",
             frame_version(), cmds);
    return frame_connection_reply(c, request, hello, NULL, 0, STALL_MS);
}

/* Replies to bytes that are not a request. They broke their connection, but another one on the
 * same socket works. It would send in clear: a sealed client gets no reply. */
static void refuse(struct frame_connection *broken, int fd, const char *message)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct frame_connection *c;
    complain("a client was refused: %s", message);
    if (frame_connection_inspect(broken, &state) == 0 && !(state.flags & FRAME_STATE_SEALED) &&
        frame_connection_new(fd, fd, NULL, &c) == 0) {
        frame_connection_reply_error(c, "{}", FRAME_EBADFIELD, message, STALL_MS);
        frame_connection_flush(c, STALL_MS);
        frame_connection_free(c);
    }
}

/* Replies are queued for a client that does not read. Its time ends with the flush. */
static int let_it_read(struct frame_connection *c)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    int code = frame_connection_inspect(c, &state);
    return code == 0 && state.queued >= MAX_QUEUED ? frame_connection_flush(c, STALL_MS) : code;
}

static bool is_malformed(int code)
{
    return code == FRAME_EBADLENGTH || code == FRAME_ETOOBIG || code == FRAME_EBADJSON ||
           code == FRAME_EBADFIELD;
}

void serve_frames(struct frame_connection *c, int fd, const char *cmds, answer_fn *answer,
                  void *context)
{
    struct frame_view request;
    int code;
    do {
        /* Requests may have been read ahead, which poll() does not report: serve them first. */
        code = frame_connection_recv_header(c, 0, &request, NULL);
        if (code == 0 && (code = let_it_read(c)) == 0)
            code = answer_request(c, request.header, cmds, answer, context);
        else if (is_malformed(code))
            refuse(c, fd, frame_last_error());
        else if (code == FRAME_ETIMEDOUT && (code = frame_connection_flush(c, STALL_MS)) == 0 &&
                 !request_comes(fd))
            return;
    } while (code >= 0 && still_serves());
}

/* ---- sockets */

int socket_of(struct frame_connection *c)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    return frame_connection_inspect(c, &state) == 0 ? state.read_fd : -1;
}

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
