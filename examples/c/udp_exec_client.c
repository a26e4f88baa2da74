/* Asks a server to run commands and shows what they print, in datagrams. */

#include "common.h"

#include <errno.h>
#include <sys/time.h>

static const char help[] =
    "usage: udp_exec_client [--wire WIRE] [--key-file FILE] HOST PORT [COMMAND]\n"
    "\n"
    "Runs COMMAND on the server, or each line of a prompt that quit or end of input ends.\n"
    "What it prints comes to standard output and standard error. Exits with the status of\n"
    "the last command, 0 where the wire has none, or 255 where the command could not be run\n"
    "or its reply did not come within 30 s.\n"
    "\n"
    "  --wire WIRE      as the server's: frame (the default) or bare, which has no place\n"
    "                   for a key\n"
    "  --key-file FILE  sign datagrams with the key in FILE, and take only signed ones\n"
    "  --help           show this and exit\n";

enum { REPLY_S = 30, MAX_DATAGRAM = 65507 };

static int ask_frame(int fd, const char *command, const struct arguments *a)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;

    what.command = command;
    int code = exec_datagram_call(fd, &what, a->key_len > 0 ? a->key : NULL, a->key_len,
                                  FRAME_DEFAULT_TIMEOUT, &result, &output);
    return code < 0 ? report(code) : show_output(output, &result);
}

static void show_datagram(int fd, int to_fd)
{
    char data[MAX_DATAGRAM];
    ssize_t len = recv_some(fd, data, sizeof data);
    if (len < 0)
        fail("no reply: %s", errno == EAGAIN ? "it did not come in time" : strerror(errno));
    show(to_fd, data, (size_t)len);
}

static int ask_bare(int fd, const char *command)
{
    if (send(fd, command, strlen(command), 0) < 0)
        fail("the command could not be sent: %s", strerror(errno));
    show_datagram(fd, STDERR_FILENO);
    show_datagram(fd, STDOUT_FILENO);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    const struct timeval timeout = {.tv_sec = REPLY_S};
    const int room = 2 * 1024 * 1024; /* for all parts of a reply: what finds none is lost */
    const char *command;
    int status = EXIT_SUCCESS;

    exit_failure = EXIT_NO_COMMAND;
    struct arguments a = read_arguments(argc, argv, "wk", help);
    bool bare = strcmp(a.wire, "bare") == 0;
    if (!bare && strcmp(a.wire, "frame") != 0)
        fail("no wire is called %s, see --help", a.wire);
    if (bare && a.key_len > 0)
        fail("the bare wire has no place for a key");

    int fd = open_datagrams(&a, false);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    while ((command = next_request(&a)) != NULL)
        status = bare ? ask_bare(fd, command) : ask_frame(fd, command, &a);
    close(fd);
    free_arguments(&a);
    return status;
}
