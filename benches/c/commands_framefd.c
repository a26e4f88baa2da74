/* Commands by the library, with the arguments of commands_limit. */

#include "tcp.h"

#include <framefd.h>

static void check(int code)
{
    if (code < 0)
        errx(1, "%d: %s", code, frame_last_error());
}

static void serve(int listener)
{
    struct exec_options options = EXEC_OPTIONS_INIT;
    options.max_output = FRAME_NO_LIMIT;
    for (;;) {
        int fd = accept_one(listener), code;
        struct frame *request;
        while ((code = frame_recv(fd, &request, NULL)) == 0) {
            check(exec_serve(fd, request, &options, NULL));
            frame_free(request);
        }
        if (code != FRAME_ECLOSED)
            check(code);
        close(fd);
    }
}

static void whole(int fd, const char *command, size_t expected)
{
    struct exec_options options = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    size_t len;
    options.max_output = (uint64_t)1024 * MIB;
    check(exec_request(fd, command, strlen(command), &output, &options));
    exec_output_stdout(output, &len);
    if (len != expected)
        errx(1, "%zu bytes came", len);
    exec_output_free(output);
}

static void stream(int fd, const char *command, size_t expected)
{
    struct exec_options options = EXEC_OPTIONS_INIT;
    struct exec_stream *running;
    char *buffer = allocated(MIB);
    size_t total = 0;
    int64_t got;
    int which;
    options.flags = EXEC_NO_INPUT;
    check(exec_start(fd, command, strlen(command), &running, &options));
    while ((got = exec_stream_read(running, &which, buffer, MIB, FRAME_NO_TIMEOUT)) > 0)
        total += (size_t)got;
    check((int)got);
    if (total != expected)
        errx(1, "%zu bytes came", total);
    exec_stream_free(running);
}

static void client(int fd, const char *what, long count)
{
    double amount = (double)count, started = now();
    if (strcmp(what, "runs") == 0) {
        while (count-- > 0)
            whole(fd, "true", 0);
    } else {
        char command[128];
        snprintf(command, sizeof command, "exec dd if=/dev/zero bs=1M count=%ld status=none", count);
        (strcmp(what, "stream") == 0 ? stream : whole)(fd, command, (size_t)count * MIB);
    }
    printf("%.1f\n", amount / (now() - started));
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "server") == 0) {
        size_t size = argc > 2 ? (size_t)atol(argv[2]) * MIB : 0;
        if (size > 0)
            memset(allocated(size), 1, size);
        serve(listen_anywhere());
    } else if (argc == 5 && strcmp(argv[1], "client") == 0) {
        client(connect_to(atoi(argv[2])), argv[3], atol(argv[4]));
    } else {
        errx(2, "see the comment at the beginning");
    }
    return 0;
}
