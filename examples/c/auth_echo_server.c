/* Serves only clients that hold the key: sends every chunk back in upper case. */

#include "common.h"

static const char help[] =
    "usage: auth_echo_server --key-file FILE [--host HOST] [--port PORT] [--plain]\n"
    "\n"
    "Sends back what its clients send, in upper case, if they hold the key.\n"
    "\n"
    "  --host HOST      listen on this address (127.0.0.1); any but loopback needs --plain\n"
    "  --port PORT      listen on this port; 0, the default, picks a free one\n"
    "  --key-file FILE  serve only clients that hold the key in FILE\n"
    "  --plain          listen on any address, though somebody in between can read all and act\n"
    "                   as a client: for networks that are trusted\n"
    "  --help           show this and exit\n"
    "\n"
    "SIGHUP reads the key again. SIGINT and SIGTERM stop it; replies in flight are finished.\n";

static void echo(int fd, void *unused)
{
    (void)unused;
    char chunk[1024];
    ssize_t len;
    while (request_comes(fd) && (len = recv_some(fd, chunk, sizeof chunk)) > 0) {
        for (char *at = chunk; at < chunk + len; at++)
            if (*at >= 'a' && *at <= 'z')
                *at = (char)(*at - 'a' + 'A');
        if (!send_all(fd, chunk, (size_t)len))
            return;
    }
}

int main(int argc, char **argv)
{
    exit_failure = EXIT_NO_SERVER;
    struct arguments a = read_arguments(argc, argv, "hpkP", help);
    if (a.key_len == 0)
        fail("no --key-file, see --help");
    int status = serve_connections(&a, echo, NULL);
    free_arguments(&a);
    return status;
}
