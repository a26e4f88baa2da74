/* Proves that it holds the key, sends text, and shows the text that it receives. */

#include "common.h"

static const char help[] =
    "usage: auth_echo_client --key-file FILE HOST PORT [TEXT]\n"
    "\n"
    "Sends TEXT to the server, or each line of a prompt that quit or end of input ends, and\n"
    "shows what comes back. Exits with 1 if the server refuses the key.\n"
    "\n"
    "  --key-file FILE  prove to the server that this client holds the key in FILE\n"
    "  --help           show this and exit\n";

/* Sends chunks, and receives each before the next one. If everything was sent first, both peers
 * could wait forever for the other one to read. */
static bool echo(int fd, const char *text)
{
    char chunk[1024];
    for (size_t len, left = strlen(text); left > 0; text += len, left -= len) {
        len = left < sizeof chunk ? left : sizeof chunk;
        if (!send_all(fd, text, len) || !recv_exactly(fd, chunk, len))
            return false;
        show(STDOUT_FILENO, chunk, len);
    }
    show(STDOUT_FILENO, "\n", 1);
    return true;
}

int main(int argc, char **argv)
{
    struct arguments a = read_arguments(argc, argv, "k", help);
    if (a.key_len == 0)
        fail("no --key-file, see --help");
    struct frame_connection *c = connect_to(&a, FRAME_CONNECTION_EXACT);
    const char *text;
    while ((text = next_request(&a)) != NULL)
        if (!echo(socket_of(c), text))
            fail("refused: the server closed the connection");
    frame_connection_free(c);
    free_arguments(&a);
    return EXIT_SUCCESS;
}
