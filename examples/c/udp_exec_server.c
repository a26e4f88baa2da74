/* Runs the commands of its clients and sends back what they print, in datagrams. */

#include "common.h"

#include <semaphore.h>

static const char help[] =
    "usage: udp_exec_server [--host HOST] [--port PORT] [--wire WIRE] [--key-file FILE]\n"
    "\n"
    "Runs the commands of its clients and sends back what they print, in datagrams.\n"
    "\n"
    "  --host HOST      listen on this address (127.0.0.1); any but loopback needs a key\n"
    "  --port PORT      listen on this port; 0, the default, picks a free one\n"
    "  --wire WIRE      frame (the default) or bare, which has no place for a key\n"
    "  --key-file FILE  answer only datagrams that are signed with the key in FILE\n"
    "  --help           show this and exit\n"
    "\n"
    "A command is ended after 30 s, when its client no longer waits. If 16 of them run, other\n"
    "clients are told that the server is busy. SIGINT and SIGTERM stop it; replies in flight\n"
    "are finished.\n";

enum { MAX_DATAGRAM = 65507, COMMAND_MS = 30000, COMMANDS = 16 };

/* The threads that may run a command. */
static sem_t places;
static const char busy[] = "all threads run commands";

/* Called for each new request. */
static int begin(void *begun, const struct exec_inquiry *inquiry, char *reason, size_t size)
{
    (void)inquiry;
    *(bool *)begun = sem_trywait(&places) == 0;
    if (*(bool *)begun)
        return 0;
    snprintf(reason, size, "%s", busy);
    return FRAME_EBUSY;
}

/* Several threads wait: another one may have received the datagram. */
static void answer_frame(int fd, void *server)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    bool begun = false;

    opts.command_timeout_ms = COMMAND_MS;
    opts.policy = begin;
    opts.context = &begun;
    int code = exec_datagram_serve(server, fd, &opts, 0, NULL);
    if (begun)
        sem_post(&places);
    if (code < 0 && code != FRAME_ETIMEDOUT)
        complain("%s", frame_last_error());
}

struct client {
    struct sockaddr_storage address;
    socklen_t len;
};

static void reply(int fd, const struct client *to, const void *data, size_t len)
{
    if (len > MAX_DATAGRAM) {
        complain("a reply of %zu bytes was cut: a datagram holds %d", len, MAX_DATAGRAM);
        len = MAX_DATAGRAM;
    }
    if (sendto(fd, data, len, 0, (const struct sockaddr *)&to->address, to->len) < 0)
        warn("a reply was not sent");
}

static void refuse(int fd, const struct client *to, const char *why)
{
    char message[1024];
    int len = snprintf(message, sizeof message, "udp_exec_server: %s\n", why);
    reply(fd, to, message, (size_t)len < sizeof message ? (size_t)len : sizeof message);
    reply(fd, to, NULL, 0);
}

static void run_bare(int fd, const struct client *from, const char *command, size_t command_len)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    size_t len;

    opts.command_timeout_ms = COMMAND_MS;
    if (exec_run(command, command_len, &opts, NULL, &output) < 0) {
        refuse(fd, from, frame_last_error());
        return;
    }
    const void *data = exec_output_bytes(output, EXEC_STDERR, &len);
    reply(fd, from, data, len);
    data = exec_output_bytes(output, EXEC_STDOUT, &len);
    reply(fd, from, data, len);
    exec_output_free(output);
}

static void answer_bare(int fd, void *unused)
{
    (void)unused;
    char command[MAX_DATAGRAM];
    struct client from = {.len = sizeof from.address};
    ssize_t command_len = recvfrom(fd, command, sizeof command, MSG_DONTWAIT,
                                   (struct sockaddr *)&from.address, &from.len);
    if (command_len < 0)
        return;

    if (sem_trywait(&places) == 0) {
        run_bare(fd, &from, command, (size_t)command_len);
        sem_post(&places);
    } else {
        refuse(fd, &from, busy);
    }
}

int main(int argc, char **argv)
{
    exit_failure = EXIT_NO_SERVER;
    struct arguments a = read_arguments(argc, argv, "hpwk", help);
    bool bare = strcmp(a.wire, "bare") == 0;
    if (!bare && strcmp(a.wire, "frame") != 0)
        fail("no wire is called %s, see --help", a.wire);
    if (bare && a.key_len > 0)
        fail("the bare wire has no place for a key");

    struct exec_datagram_server *server = NULL;
    if (exec_datagram_server_new(a.key_len > 0 ? a.key : NULL, a.key_len, &server) != 0)
        fail("%s", frame_last_error());
    sem_init(&places, 0, COMMANDS);
    /* One more thread than commands is always free to say that the others are not. */
    int status = serve_datagrams(&a, COMMANDS + 1, bare ? answer_bare : answer_frame, server);
    exec_datagram_server_free(server);
    free_arguments(&a);
    return status;
}
