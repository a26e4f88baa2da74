/* Asks a server to run commands and shows what they print, on one of five wires. */

#include "common.h"

#include <poll.h>

static const char help[] =
    "usage: exec_client [--wire WIRE] [--key-file FILE] HOST PORT [COMMAND]\n"
    "\n"
    "Runs COMMAND on the server, or each line of a prompt that quit or end of input ends.\n"
    "What it prints comes to standard output and standard error; a wire that does not tell\n"
    "them apart has all of it on standard output. Exits with the status of the last\n"
    "command, 0 where the wire has none, or 255 where the command could not be run.\n"
    "\n"
    "  --wire WIRE      as the server's: frame (the default), json, packet, ack, bare\n"
    "  --key-file FILE  prove to the server that this client holds the key in FILE\n"
    "  --help           show this and exit\n";

enum {
    OLD_RECV = 1024,      /* what the oldest servers and clients receive at once */
    BARE_REPLY_MS = 2000, /* on the bare wire no output and no reply look the same */
};

static int ask_frame(int fd, const char *command)
{
    struct exec_output *output;
    int code = exec_request(fd, command, strlen(command), &output, NULL);
    return code < 0 ? report(code) : show_output(output);
}

static void closed(void)
{
    fail("the server closed the connection");
}

/* One recv() of the server has to return all of it. */
static void send_bare(int fd, const char *command)
{
    size_t len = strlen(command);
    if (len == 0 || len > OLD_RECV)
        fail("a command of %zu bytes, where 1 to %d can be sent", len, OLD_RECV);
    if (!send_all(fd, command, len))
        closed();
}

/* A server older than this library sends data_size alone. */
static int ask_json(int fd, const char *command)
{
    struct frame *reply;
    const char *text;
    int64_t split, status = 0;
    size_t len;
    bool cut;

    send_bare(fd, command);
    int code = frame_recv(fd, &reply, NULL);
    if (code < 0)
        return report(code);
    const char *body = frame_body(reply, &len);
    if (frame_header_int(reply, "stdout_size", &split) != 0 || split < 0 || (uint64_t)split > len)
        split = (int64_t)len;
    show(stdout, body, (size_t)split);
    if ((size_t)split < len)
        show(stderr, body + split, len - (size_t)split);
    if (frame_header_bool(reply, "truncated", &cut) == 0 && cut)
        warnx("the command wrote more than was kept");
    if (frame_header_string(reply, "status", &text, NULL) == 0 && strcmp(text, "error") == 0) {
        if (frame_header_string(reply, "message", &text, NULL) == 0)
            warnx("%s", text);
        status = EXIT_NO_COMMAND;
    } else if (frame_header_int(reply, "exit_code", &status) == FRAME_EBADFIELD) {
        status = -1;
    }
    frame_free(reply);
    return status_of(status);
}

static int ask_packet(int fd, const char *command)
{
    struct frame *reply;
    size_t len;
    send_bare(fd, command);
    int code = frame_packet_recv(fd, &reply, NULL);
    if (code < 0)
        return report(code);
    const void *data = frame_body(reply, &len);
    show(stdout, data, len);
    frame_free(reply);
    return EXIT_SUCCESS;
}

static int ask_ack(int fd, const char *command)
{
    char digits[24] = "", data[65536], *end;
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
        show(stdout, data, (size_t)len);
        left -= (unsigned long long)len;
    }
    return EXIT_SUCCESS;
}

/* One recv() a command, as always: what does not fit sticks to the next reply. */
static int ask_bare(int fd, const char *command)
{
    struct pollfd reply = {.fd = fd, .events = POLLIN};
    char data[OLD_RECV];
    send_bare(fd, command);
    if (poll(&reply, 1, BARE_REPLY_MS) == 0) {
        warnx("nothing came within %d ms", BARE_REPLY_MS);
        return EXIT_SUCCESS;
    }
    ssize_t len = recv_some(fd, data, sizeof data);
    if (len <= 0)
        closed();
    show(stdout, data, (size_t)len);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*ask)(int fd, const char *command);
    } wires[] = {{"frame", ask_frame}, {"json", ask_json}, {"packet", ask_packet},
                 {"ack", ask_ack}, {"bare", ask_bare}};
    size_t wire = 0, count = sizeof wires / sizeof *wires;
    const char *command;
    int status = EXIT_SUCCESS;

    exit_failure = EXIT_NO_COMMAND;
    struct arguments a = read_arguments(argc, argv, "wk", help);
    while (wire < count && strcmp(wires[wire].name, a.wire) != 0)
        wire++;
    if (wire == count)
        fail("no wire is called %s, see --help", a.wire);
    int fd = connect_to(&a, SOCK_STREAM);
    while ((command = next_request(&a)) != NULL)
        status = wires[wire].ask(fd, command);
    close(fd);
    free_arguments(&a);
    return status;
}
