/* Handshakes by the library, with the arguments of handshakes_limit. */

#include "tcp.h"

#include <framefd.h>

static const char key[] = "0123456789abcdef0123456789abcdef";
enum { SIZE = 32 };

static void check(int code)
{
    if (code < 0)
        errx(1, "%d: %s", code, frame_last_error());
}

static void serve(int listener)
{
    for (;;) {
        int fd = accept_one(listener);
        check(auth_server(fd, key, SIZE, NULL));
        close(fd);
    }
}

static void client(int port, long count)
{
    double started = now();
    for (long i = 0; i < count; i++) {
        char end;
        int fd = connect_to(port);
        check(auth_client(fd, key, SIZE, NULL));
        if (read(fd, &end, 1) != 0)
            err(1, "no end");
        close(fd);
    }
    printf("%.1f\n", (double)count / (now() - started));
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "server") == 0)
        serve(listen_anywhere());
    else if (argc == 4 && strcmp(argv[1], "client") == 0)
        client(atoi(argv[2]), atol(argv[3]));
    else
        errx(2, "see the comment at the beginning");
    return 0;
}
