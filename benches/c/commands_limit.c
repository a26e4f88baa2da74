/* The least that running a command for a client takes: posix_spawn(3), a pipe that is read
 * in steps of 1 MiB, and the socket. The frames are the library's, but nothing is parsed:
 * both ends know what comes.
 *
 *   commands_limit server [MIB]                  touches MIB of memory before it serves
 *   commands_limit client PORT runs COUNT        `true`, one after the other
 *   commands_limit client PORT stream|whole MIB  one command that writes MIB
 *
 * The client prints commands or MiB per second. */

#include "tcp.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

static const char request[] = "{\"cmd\":\"exec\",\"max_output\":1073741824,\"data_size\":0000}";
static const char piece[] = "{\"cmd\":\"output\",\"stream\":\"stdout\",\"data_size\":00000000}";
static const char reply[] =
    "{\"status\":\"ok\",\"stdout_size\":0,\"stderr_size\":0,\"exit_code\":0,"
    "\"stdout_total\":0,\"stderr_total\":0,\"charset\":\"US-ASCII\",\"data_size\":0000000000}";

/* The request's first byte of body says how the output is to come. */
enum { WHOLE = 'w', STREAM = 's' };

static void send_frame(int fd, const char *header, size_t header_len, const void *body, size_t len)
{
    int32_t prefix = (int32_t)header_len;
    struct iovec parts[] = {
        {&prefix, sizeof prefix}, {(void *)header, header_len}, {(void *)body, len}};
    ssize_t sent = writev(fd, parts, 3);
    if (sent < 0)
        err(1, "writev");
    size_t head = sizeof prefix + header_len;
    if ((size_t)sent < head)
        errx(1, "a socket that does not take a header");
    write_all(fd, (const char *)body + ((size_t)sent - head), len - ((size_t)sent - head));
}

static pid_t start(char *command, int *output)
{
    static char *const environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", NULL};
    char *argv[] = {"/bin/sh", "-c", command, NULL};
    posix_spawn_file_actions_t actions;
    int pipe[2];
    pid_t child;
    if (pipe2(pipe, O_CLOEXEC) != 0)
        err(1, "pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, pipe[1], 1);
    if ((errno = posix_spawn(&child, argv[0], &actions, NULL, argv, environment)) != 0)
        err(1, "posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
    close(pipe[1]);
    *output = pipe[0];
    return child;
}

static void run(int fd, char *command, bool streams)
{
    static char *buffer;
    static size_t room;
    size_t length = 0;
    int output, status;
    pid_t child = start(command, &output);
    for (;;) {
        if (length + MIB > room && (buffer = realloc(buffer, room = 2 * room + MIB)) == NULL)
            err(1, "realloc");
        ssize_t got = read(output, buffer + length, MIB);
        if (got <= 0)
            break;
        if (got >= 65536)
            fcntl(output, F_SETPIPE_SZ, MIB);
        if (streams)
            send_frame(fd, piece, sizeof piece - 1, buffer, (size_t)got);
        else
            length += (size_t)got;
    }
    close(output);
    waitpid(child, &status, 0);
    send_frame(fd, reply, sizeof reply - 1, buffer, length);
}

static void serve(int listener)
{
    for (;;) {
        int fd = accept_one(listener);
        char received[4096];
        ssize_t got;
        /* A request comes in one piece: there is never more than one on its way. */
        while ((got = read(fd, received, sizeof received - 1)) > 0) {
            char *body = received + sizeof(int32_t) + sizeof request - 1;
            received[got] = '\0';
            run(fd, body + 1, *body == STREAM);
        }
        close(fd);
    }
}

static void ask(int fd, int how, const char *command)
{
    char body[256];
    int len = snprintf(body, sizeof body, "%c%s", how, command);
    send_frame(fd, request, sizeof request - 1, body, (size_t)len);
}

static void client(int fd, const char *what, long count)
{
    enum { HEAD = sizeof(int32_t) + sizeof reply - 1 };
    char *buffer = allocated(MIB);
    double amount = (double)count, started = now();
    if (strcmp(what, "runs") == 0) {
        while (count-- > 0) {
            ask(fd, WHOLE, "true");
            if (!recv_all(fd, buffer, HEAD))
                errx(1, "no reply");
        }
    } else {
        char command[128];
        snprintf(command, sizeof command, "exec dd if=/dev/zero bs=1M count=%ld status=none", count);
        bool streams = strcmp(what, "stream") == 0;
        ask(fd, streams ? STREAM : WHOLE, command);
        if (streams) {
            /* How many frames there are is known at the end of the stream only. */
            shutdown(fd, SHUT_WR);
            while (read(fd, buffer, MIB) > 0)
                ;
        } else {
            size_t size = HEAD + (size_t)count * MIB;
            char *all = allocated(size);
            if (!recv_all(fd, all, size))
                errx(1, "no reply");
        }
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
