/* Files by the library, with the arguments of files_limit. A server that is to do without
 * checksums has to be told, as it would hash on its own account. */

#include "tcp.h"

#include <fcntl.h>
#include <framefd.h>

static void check(int code)
{
    if (code < 0)
        errx(1, "%d: %s", code, frame_last_error());
}

static uint32_t flags_of(const char *how)
{
    return strcmp(how, "plain") == 0 ? FRAME_FILE_NO_CHECKSUM : 0;
}

static struct frame_connection *connection_of(int fd)
{
    struct frame_connection_options options = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    options.flags = FRAME_CONNECTION_OWN;
    check(frame_connection_new(fd, fd, &options, &c));
    return c;
}

static void serve(int listener, int root, const char *how)
{
    struct frame_file_options options = FRAME_FILE_OPTIONS_INIT;
    options.flags = flags_of(how);
    for (;;) {
        struct frame_connection *c = connection_of(accept_one(listener));
        struct frame_view view;
        int code;
        while ((code = frame_connection_recv_header(c, -1, &view, NULL)) == 0)
            check(frame_file_serve(c, view.header, root, &options, NULL));
        if (code != FRAME_ECLOSED)
            check(code);
        frame_connection_free(c);
    }
}

static void client(int fd, bool get, const char *how, const char *source, const char *dest)
{
    struct frame_connection *c = connection_of(fd);
    struct frame_file_transfer what = FRAME_FILE_TRANSFER_INIT;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    double started = now();
    what.flags = flags_of(how);
    what.name = get ? source : dest;
    what.path = get ? dest : source;
    check(get ? frame_file_get(c, &what, -1, &result) : frame_file_put(c, &what, -1, &result));
    printf("%.1f\n", (double)result.bytes / MIB / (now() - started));
    frame_connection_free(c);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "server") == 0) {
        int root = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
            err(1, "%s", argv[2]);
        serve(listen_anywhere(), root, argv[3]);
    } else if (argc == 7 && strcmp(argv[1], "client") == 0) {
        client(connect_to(atoi(argv[2])), strcmp(argv[3], "get") == 0, argv[4], argv[5], argv[6]);
    } else {
        errx(2, "see the comment at the beginning");
    }
    return 0;
}
