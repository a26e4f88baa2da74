/* Common to the example programs: arguments, addresses, a client's connection, the prompt. */

#include "common.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>

enum { ADDRESS_SIZE = NI_MAXHOST + 8 };

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

int open_listener(const struct arguments *a)
{
    freeaddrinfo(look_up(a, SOCK_STREAM, true));
    int fd = frame_listen(address_of(a), 0, 0);
    if (fd < 0)
        fail("%s", frame_last_error());
    return fd;
}

void announce(int fd)
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
    struct pollfd log = {.fd = STDERR_FILENO, .events = POLLOUT};
    va_list values;
    int len = snprintf(line, sizeof line - 1, "%s: ", program_invocation_short_name);
    va_start(values, format);
    len += vsnprintf(line + len, sizeof line - 1 - (size_t)len, format, values);
    va_end(values);
    len = len < (int)sizeof line - 1 ? len : (int)sizeof line - 2;
    line[len++] = '\n';
    if (exit_failure == EXIT_NO_SERVER && poll(&log, 1, 0) < 1)
        return; /* a server does not wait for its log's reader */
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

/* ---- sockets */

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

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
