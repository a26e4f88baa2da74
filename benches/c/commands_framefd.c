/* Commands by the library, with the arguments of commands_limit. */

#include "tcp.h"

#include <framefd.h>

static void check(int code)
{
    if (code < 0)
        errx(1, "%d: %s", code, frame_last_error());
}

static struct frame_connection *connection(int fd)
{
    struct frame_connection_options options = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    options.flags = FRAME_CONNECTION_OWN;
    check(frame_connection_new(fd, fd, &options, &c));
    return c;
}

static void serve(int listener)
{
    struct exec_options options = EXEC_OPTIONS_INIT;
    options.max_output = FRAME_NO_LIMIT;
    for (;;) {
        struct frame_connection *c = connection(accept_one(listener));
        struct frame_view request;
        int code;
        while ((code = frame_connection_recv_header(c, -1, &request, NULL)) == 0)
            check(exec_serve(c, request.header, &options, NULL));
        if (code != FRAME_ECLOSED)
            check(code);
        frame_connection_free(c);
    }
}

static void whole(struct frame_connection *c, const char *command, size_t expected)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_output *output;
    size_t len;
    what.command = command;
    what.max_output = (uint64_t)1024 * MIB;
    check(exec_call(c, &what, -1, NULL, &output));
    exec_output_bytes(output, EXEC_STDOUT, &len);
    if (len != expected)
        errx(1, "%zu bytes came", len);
    exec_output_free(output);
}

static void stream(struct frame_connection *c, const char *command, size_t expected)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    char *buffer = allocated(MIB);
    size_t total = 0;
    int64_t got;
    int which;
    what.command = command;
    what.flags = EXEC_NO_INPUT;
    check(exec_start(c, &what, -1));
    while ((got = exec_read(c, buffer, MIB, -1, &which)) > 0)
        total += (size_t)got;
    check((int)got);
    if (total != expected)
        errx(1, "%zu bytes came", total);
    check(exec_finish(c, -1, NULL));
}

static void client(struct frame_connection *c, const char *what, long count)
{
    double amount = (double)count, started = now();
    if (strcmp(what, "runs") == 0) {
        while (count-- > 0)
            whole(c, "true", 0);
    } else {
        char command[128];
        snprintf(command, sizeof command, "exec dd if=/dev/zero bs=1M count=%ld status=none", count);
        (strcmp(what, "stream") == 0 ? stream : whole)(c, command, (size_t)count * MIB);
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
        client(connection(connect_to(atoi(argv[2]))), argv[3], atol(argv[4]));
    } else {
        errx(2, "see the comment at the beginning");
    }
    return 0;
}
