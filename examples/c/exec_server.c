/* Runs the commands of its clients and sends back what they print, on one of five wires. */

#include "common.h"

static const char help[] =
    "usage: exec_server [--host HOST] [--port PORT] [--wire WIRE] [OPTION]...\n"
    "\n"
    "Runs the commands of its clients and sends back what they print.\n"
    "\n"
    "  --host HOST      listen on this address (127.0.0.1); any but loopback needs\n"
    "                   --seal or --plain\n"
    "  --port PORT      listen on this port; 0, the default, picks a free one\n"
    "  --wire WIRE      how replies travel: frame (the default), json, packet, ack, bare\n"
    "  --key-file FILE  serve only clients that hold the key in FILE\n"
    "  --seal           prove the key to clients too, and encrypt all that is sent; the key is\n"
    "                   32 random bytes or more: head -c 32 /dev/urandom >FILE\n"
    "  --keys DIR       with --seal, serve the clients that hold a key in DIR, which has a file\n"
    "                   for each; its name is the key's id\n"
    "  --name NAME      with --seal, this server's name, which clients give too; without one\n"
    "                   two servers with the same key can be taken for each other\n"
    "  --plain          listen on any address without --seal, though somebody in between can\n"
    "                   read all and act as a client: for networks that are trusted\n"
    "  --help           show this and exit\n"
    "\n"
    "SIGHUP reads the keys again, and ends the connections of clients whose key is gone.\n"
    "SIGINT and SIGTERM stop it; replies in flight are finished, on the frame wire\n"
    "within 25 s. A second signal ends it at once.\n";

static int serve_frames(const struct arguments *a)
{
    struct service service = open_service(a);
    struct exec_options opts = EXEC_OPTIONS_INIT;

    opts.command_timeout_ms = FRAME_NO_TIMEOUT;
    if (frame_server_serve_exec(service.server, &opts) != 0)
        fail("%s", frame_last_error());
    return run_service(&service);
}

/* A wire on which a command is the bytes of one recv(). */
struct old_wire {
    const char *name;
    bool (*answer)(int fd, const char *command, size_t len);
};

static void serve_old_wire(int fd, void *wire)
{
    char command[65536];
    ssize_t len;
    while (request_comes(fd) && (len = recv_some(fd, command, sizeof command)) > 0)
        if (!((const struct old_wire *)wire)->answer(fd, command, (size_t)len))
            return;
}

static bool answer_json(int fd, const char *command, size_t len)
{
    return exec_and_reply(fd, command, len, NULL, NULL) >= 0;
}

/* The reply of the older wires: stderr, then stdout, without a separator. */
static char *run(const char *command, size_t command_len, size_t *len)
{
    struct exec_output *output;
    char *reply = NULL;
    int code = exec_run(command, command_len, NULL, NULL, &output);
    if (code < 0) {
        int size = asprintf(&reply, "exec_server: %s\n", frame_last_error());
        *len = (size_t)size;
        return size < 0 ? NULL : reply;
    }
    if (code == EXEC_OUTPUT_LIMIT)
        complain("a reply was cut: the command wrote more than is kept");
    size_t stdout_len, stderr_len;
    const void *out = exec_output_bytes(output, EXEC_STDOUT, &stdout_len);
    const void *err = exec_output_bytes(output, EXEC_STDERR, &stderr_len);
    *len = stderr_len + stdout_len;
    reply = malloc(*len + 1);
    if (reply != NULL && stderr_len > 0)
        memcpy(reply, err, stderr_len);
    if (reply != NULL && stdout_len > 0)
        memcpy(reply + stderr_len, out, stdout_len);
    exec_output_free(output);
    return reply;
}

static bool answer_packet(int fd, const char *command, size_t command_len)
{
    struct frame_options packets = FRAME_OPTIONS_INIT;
    size_t len;
    char *reply = run(command, command_len, &len);
    packets.format = FRAME_FORMAT_PACKETS;
    packets.timeout_ms = STALL_MS;
    bool sent = reply != NULL && frame_send(fd, NULL, reply, len, &packets) == 0;
    free(reply);
    return sent;
}

/* The client's next command may follow its recv_ready directly. */
static bool answer_ack(int fd, const char *command, size_t command_len)
{
    static const char ready[] = "recv_ready";
    char digits[24], answer[sizeof ready - 1];
    size_t len;
    char *reply = run(command, command_len, &len);
    int count = snprintf(digits, sizeof digits, "%zu", len);
    bool sent = reply != NULL && send_all(fd, digits, (size_t)count) &&
                recv_exactly(fd, answer, sizeof answer) &&
                memcmp(answer, ready, sizeof answer) == 0 && send_all(fd, reply, len);
    free(reply);
    return sent;
}

static bool answer_bare(int fd, const char *command, size_t command_len)
{
    size_t len;
    char *reply = run(command, command_len, &len);
    bool sent = reply != NULL && send_all(fd, reply, len);
    free(reply);
    return sent;
}

int main(int argc, char **argv)
{
    static struct old_wire old_wires[] = {
        {"json", answer_json}, {"packet", answer_packet},
        {"ack", answer_ack}, {"bare", answer_bare}};

    exit_failure = EXIT_NO_SERVER;
    struct arguments a = read_arguments(argc, argv, "hpwksKNP", help);
    size_t i = 0, count = sizeof old_wires / sizeof *old_wires;
    bool is_framed = strcmp(a.wire, "frame") == 0;
    while (i < count && strcmp(a.wire, old_wires[i].name) != 0)
        i++;
    if (!is_framed && i == count)
        fail("no wire is called %s, see --help", a.wire);
    int status = is_framed ? serve_frames(&a) : serve_connections(&a, serve_old_wire, old_wires + i);
    free_arguments(&a);
    return status;
}
