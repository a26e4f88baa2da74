/* Asks a server to run commands and shows what they print, on one of five wires. */

#include "common.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

static const char help[] =
    "usage: exec_client [OPTION]... HOST PORT [COMMAND]\n"
    "\n"
    "Runs COMMAND on the server, or each line of a prompt that quit or end of input ends.\n"
    "What it prints comes to standard output and standard error; a wire that does not tell\n"
    "them apart has all of it on standard output. Exits with the status of the last\n"
    "command, 0 where the wire has none, or 255 where the command could not be run.\n"
    "\n"
    "  --wire WIRE       as the server's: frame (the default), json, packet, ack, bare\n"
    "  --key-file FILE   prove to the server that this client holds the key in FILE\n"
    "  --help            show this and exit\n"
    "\n"
    "On the frame wire only:\n"
    "\n"
    "  --seal             have the server prove the key of --key-file too, and encrypt all\n"
    "                     that is sent; the server needs --seal as well\n"
    "  --id ID            the name of this client's key in the server's --keys\n"
    "  --name NAME        the server's --name\n"
    "  --timeout SECONDS  end a command that runs for longer\n"
    "  --cwd DIR          the directory of the server that commands run in\n"
    "  --env NAME=VALUE   a variable for commands; may be given several times\n"
    "  --stdin            COMMAND reads this client's standard input; where both that and\n"
    "                     standard output are a terminal, COMMAND always does\n"
    "  --tty              commands get a terminal, as large as this one, for an editor or a\n"
    "                     shell; this one is in raw mode meanwhile\n"
    "\n"
    "With --stdin, --tty, or on a terminal, output is shown as it comes, and Ctrl-C sends\n"
    "SIGINT to the command; a second one closes the connection, and the exit status is 130.\n";

enum {
    OLD_RECV = 1024,      /* what the oldest servers and clients receive at once */
    BARE_REPLY_MS = 2000, /* on the bare wire no output and no reply look the same */
    INTERRUPTED = 130
};

/* ---- the frame wire */

/* How commands are requested. */
static struct {
    struct exec_request request;
    bool streams; /* their output is shown as it comes */
    int input;    /* what they read, or -1 */
    int terminal; /* what theirs is as large as, or -1 */
} how = {EXEC_REQUEST_INIT, false, -1, -1};

/* For the handler of signals, while a command streams. */
static struct frame_connection *running;
static volatile sig_atomic_t interrupted, raw;
static struct termios cooked;

static void cook(void)
{
    if (raw)
        tcsetattr(how.input, TCSANOW, &cooked);
    raw = 0;
}

static void take_signal(int number)
{
    struct winsize size;
    int error = errno;
    if (number == SIGWINCH) {
        if (ioctl(how.terminal, TIOCGWINSZ, &size) == 0)
            exec_resize(running, size.ws_row, size.ws_col);
    } else if (number == SIGINT && !interrupted) {
        interrupted = 1;
        exec_signal(running, SIGINT);
    } else {
        cook();
        if (number == SIGINT)
            _exit(INTERRUPTED);
        signal(number, SIG_DFL);
        raise(number);
    }
    errno = error;
}

/* Copies to and from a started command until it has ended. Afterwards the terminal's mode is
 * restored in all cases. */
static int copy(struct frame_connection *c, struct exec_result *result)
{
    static const int numbers[] = {SIGINT, SIGWINCH, SIGTERM, SIGHUP, SIGQUIT};
    enum { COUNT = sizeof numbers / sizeof *numbers };
    struct sigaction before[COUNT], taken = {.sa_handler = take_signal, .sa_flags = SA_RESTART};

    running = c;
    interrupted = 0;
    sigfillset(&taken.sa_mask);
    for (int i = 0; i < COUNT; i++) {
        sigaction(numbers[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN)
            sigaction(numbers[i], &taken, NULL);
    }
    if (how.request.flags & EXEC_TTY && how.input >= 0 && tcgetattr(how.input, &cooked) == 0) {
        struct termios mode = cooked;
        cfmakeraw(&mode);
        raw = 1;
        tcsetattr(how.input, TCSANOW, &mode);
    }
    int code = exec_copy(c, how.input, STDOUT_FILENO, STDERR_FILENO, FRAME_NO_TIMEOUT, result);
    cook();
    for (int i = 0; i < COUNT; i++)
        sigaction(numbers[i], &before[i], NULL);
    return code;
}

static int ask_stream(struct frame_connection *c)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct winsize size;

    if (how.terminal >= 0 && ioctl(how.terminal, TIOCGWINSZ, &size) == 0) {
        how.request.rows = size.ws_row;
        how.request.columns = size.ws_col;
    }
    int code = exec_start(c, &how.request, FRAME_NO_TIMEOUT);
    if (code == 0)
        code = copy(c, &result);
    return code < 0 ? report(code) : status_of_result(&result);
}

static int ask_frame(struct frame_connection *c, const char *command)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;

    how.request.command = command;
    if (how.streams)
        return ask_stream(c);
    int code = exec_call(c, &how.request, FRAME_NO_TIMEOUT, &result, &output);
    return code < 0 ? report(code) : show_output(output, &result);
}

static int milliseconds(const char *seconds)
{
    char *end;
    double value = strtod(seconds, &end) * 1000;
    if (seconds[strspn(seconds, "0123456789.")] != '\0' || *end != '\0' || end == seconds ||
        value < 1 || value > INT32_MAX)
        fail("--timeout %s is not a number of seconds", seconds);
    return (int)value;
}

/* Programs on a terminal need its type. */
static void add_terminal(struct arguments *a)
{
    static char variable[64];
    const char *term = getenv("TERM");
    for (const char **env = a->env; env != NULL && *env != NULL; env++)
        if (strncmp(*env, "TERM=", 5) == 0)
            return;
    if (term != NULL &&
        (size_t)snprintf(variable, sizeof variable, "TERM=%s", term) < sizeof variable)
        add_variable(a, variable);
}

static void choose(struct arguments *a)
{
    bool in = isatty(STDIN_FILENO), out = isatty(STDOUT_FILENO), prompt = a->request[0] == NULL;
    if (a->forward && prompt)
        fail("--stdin needs a COMMAND, see --help");
    if (a->timeout != NULL)
        how.request.command_timeout_ms = milliseconds(a->timeout);
    if (a->tty)
        add_terminal(a);
    how.request.cwd = a->cwd;
    how.request.env = a->env;
    how.streams = a->forward || a->tty || out;
    /* Not by default: in a shell's `while read` loop it would consume the loop's lines. */
    if (a->forward || (in && (a->tty || (out && !prompt))))
        how.input = STDIN_FILENO;
    else if (how.streams)
        how.request.flags |= EXEC_NO_INPUT;
    if (a->tty) {
        how.request.flags |= EXEC_TTY;
        how.terminal = in ? STDIN_FILENO : out ? STDOUT_FILENO : -1;
    }
}

/* ---- the older wires */

static void closed(void)
{
    fail("the server closed the connection");
}

/* One recv() of the server must return all of it. */
static void send_bare(int fd, const char *command)
{
    size_t len = strlen(command);
    if (len == 0 || len > OLD_RECV)
        fail("a command of %zu bytes, where 1 to %d can be sent", len, OLD_RECV);
    if (!send_all(fd, command, len))
        closed();
}

/* A server older than this library sends only data_size. */
static int ask_json(struct frame_connection *c, const char *command)
{
    struct frame *reply;
    char text[4096];
    int64_t split = -1, status = 0;
    size_t len;
    bool cut = false;

    send_bare(socket_of(c), command);
    int code = frame_recv(socket_of(c), &reply, NULL);
    if (code < 0)
        return report(code);
    const char *body = frame_body(reply, &len), *header = frame_header(reply, NULL);
    frame_header_int(header, "stdout_size", &split);
    if (split < 0 || (uint64_t)split > len)
        split = (int64_t)len;
    show(STDOUT_FILENO, body, (size_t)split);
    if ((size_t)split < len)
        show(STDERR_FILENO, body + split, len - (size_t)split);
    if (frame_header_bool(header, "truncated", &cut) == 0 && cut)
        complain("the command wrote more than was kept");
    if (frame_header_string(header, "status", text, sizeof text) > 0 &&
        strcmp(text, "error") == 0) {
        if (frame_header_string(header, "message", text, sizeof text) >= 0)
            complain("%s", text);
        status = EXIT_NO_COMMAND;
    } else if (frame_header_int(header, "exit_code", &status) == FRAME_EBADFIELD) {
        status = -1;
    }
    frame_free(reply);
    return status_of(status);
}

static int ask_packet(struct frame_connection *c, const char *command)
{
    struct frame_options packets = FRAME_OPTIONS_INIT;
    struct frame *reply;
    size_t len;

    packets.format = FRAME_FORMAT_PACKETS;
    send_bare(socket_of(c), command);
    int code = frame_recv(socket_of(c), &reply, &packets);
    if (code < 0)
        return report(code);
    const void *data = frame_body(reply, &len);
    show(STDOUT_FILENO, data, len);
    frame_free(reply);
    return EXIT_SUCCESS;
}

static int ask_ack(struct frame_connection *c, const char *command)
{
    char digits[24] = "", data[65536], *end;
    int fd = socket_of(c);
    send_bare(fd, command);
    if (recv_some(fd, digits, sizeof digits - 1) <= 0)
        closed();
    unsigned long long left = strtoull(digits, &end, 10);
    if (*end != '\0' || digits[0] < '0' || digits[0] > '9')
        fail("a reply that does not begin with its length");
    if (!send_all(fd, "recv_ready", 10))
        closed();
    while (left > 0) {
        ssize_t len = recv_some(fd, data, left < sizeof data ? left : sizeof data);
        if (len <= 0)
            closed();
        show(STDOUT_FILENO, data, (size_t)len);
        left -= (unsigned long long)len;
    }
    return EXIT_SUCCESS;
}

/* One recv() for each command, as in the old program: the rest is added to the next reply. */
static int ask_bare(struct frame_connection *c, const char *command)
{
    struct pollfd reply = {.fd = socket_of(c), .events = POLLIN};
    char data[OLD_RECV];
    send_bare(reply.fd, command);
    if (poll(&reply, 1, BARE_REPLY_MS) == 0) {
        complain("nothing came within %d ms", BARE_REPLY_MS);
        return EXIT_SUCCESS;
    }
    ssize_t len = recv_some(reply.fd, data, sizeof data);
    if (len <= 0)
        closed();
    show(STDOUT_FILENO, data, (size_t)len);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*ask)(struct frame_connection *c, const char *command);
    } wires[] = {{"frame", ask_frame}, {"json", ask_json}, {"packet", ask_packet},
                 {"ack", ask_ack}, {"bare", ask_bare}};
    size_t wire = 0, count = sizeof wires / sizeof *wires;
    const char *command;
    int status = EXIT_SUCCESS;

    exit_failure = EXIT_NO_COMMAND;
    struct arguments a = read_arguments(argc, argv, "wksINTceit", help);
    while (wire < count && strcmp(wires[wire].name, a.wire) != 0)
        wire++;
    if (wire == count)
        fail("no wire is called %s, see --help", a.wire);
    if (wire == 0)
        choose(&a);
    else if (a.timeout != NULL || a.cwd != NULL || a.env != NULL || a.forward || a.tty)
        fail("--timeout, --cwd, --env, --stdin and --tty need the frame wire, see --help");
    struct frame_connection *c = connect_to(&a, wire == 0 ? 0 : FRAME_CONNECTION_EXACT);
    while ((command = next_request(&a)) != NULL)
        status = wires[wire].ask(c, command);
    disconnect(c);
    free_arguments(&a);
    return status;
}
