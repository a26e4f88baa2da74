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

static struct frame_file_options options_of(const char *how)
{
    struct frame_file_options options = FRAME_FILE_OPTIONS_INIT;
    if (strcmp(how, "plain") == 0)
        options.flags = FRAME_FILE_NO_CHECKSUM;
    return options;
}

static void serve(int listener, int root, const char *how)
{
    struct frame_file_options options = options_of(how);
    for (;;) {
        int fd = accept_one(listener), code;
        struct frame *request;
        while ((code = frame_recv_header(fd, &request, NULL)) == 0) {
            check(frame_file_serve(fd, request, root, &options, NULL));
            frame_free(request);
        }
        if (code != FRAME_ECLOSED)
            check(code);
        close(fd);
    }
}

static void client(int fd, bool get, const char *how, const char *source, const char *dest)
{
    struct frame_file_options options = options_of(how);
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    double started = now();
    check(get ? frame_file_get_path(fd, source, dest, &options, &result)
              : frame_file_put_path(fd, dest, source, &options, &result));
    printf("%.1f\n", (double)result.bytes / MIB / (now() - started));
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
