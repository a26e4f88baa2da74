/* What the contenders on sealed streams share: their ends are sessions on a TCP connection.
 *
 *     PROGRAM stream SUITE MILLISECONDS [ENTRY EXIT]   MiB per second
 *     PROGRAM trips SUITE MILLISECONDS [ENTRY EXIT]    microseconds per round trip of 64 bytes
 *     PROGRAM server SUITE [PORT]                      prints its port; answers one connection
 *                                                      after the other
 *     PROGRAM client SUITE PORT COUNT                  connections per second, each with a
 *                                                      handshake and a round trip
 *     PROGRAM idle SUITE COUNT                         bytes of memory that a session of the
 *                                                      server has, after a round trip
 *
 * SUITE is "none", "aesgcm" or "chacha". With ENTRY and EXIT the connection goes through a tunnel
 * that listens on the one port and connects to the other. */
#ifndef SEALED_H
#define SEALED_H

#include "messages.h"

#include <malloc.h>
#include <sys/prctl.h>

enum { STEP = 64 * 1024, TRIP = 64 };

/* One end; each program has its own, and these functions. */
struct session;

/* Before everything else. */
static void choose(const char *suite);
/* Does the handshake. */
static struct session *begin(int fd, bool is_client);
/* Sends all of it: TRIP bytes, or STEP bytes of a stream. */
static void give(struct session *s, const void *bytes, size_t len);
/* Receives TRIP bytes if that is the room, or some of a stream; 0 is its end. */
static size_t take_some(struct session *s, void *bytes, size_t room);
/* Gives memory back, if there is a way. */
static void rest(struct session *s);
/* Frees the session and closes its descriptor. */
static void finish(struct session *s);

static int listen_on(int port)
{
    struct sockaddr_in address = loopback(port);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 128) == 0,
          "listen");
    return fd;
}

static int port_of(int listener)
{
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    check(getsockname(listener, (struct sockaddr *)&address, &len) == 0, "the port");
    return ntohs(address.sin_port);
}

static void ask_once(struct session *s, char *bytes)
{
    give(s, bytes, TRIP);
    if (take_some(s, bytes, TRIP) != TRIP)
        errx(1, "no answer");
}

/* False at the end of the stream. */
static bool answer_once(struct session *s, char *bytes)
{
    if (take_some(s, bytes, TRIP) != TRIP)
        return false;
    give(s, bytes, TRIP);
    return true;
}

/* Both ends in two processes: this one is the server. Returns the figure. */
static double between(bool trips, long milliseconds, int entry, int exit_port)
{
    char *bytes = allocate(STEP);
    int listener = listen_on(exit_port), status;
    int port = entry ? entry : port_of(listener);
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        uint64_t count = 0;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(listener);
        struct session *s = begin(connect_to(port), true);
        if (trips)
            ask_once(s, bytes);
        start_clock();
        set_timer(milliseconds);
        for (; !time_is_up; count++)
            trips ? ask_once(s, bytes) : give(s, bytes, STEP);
        if (trips)
            printf("%f\n", (now() - started) * 1e6 / (double)count);
        finish(s);
        exit(0);
    }
    struct session *s = begin(accept_one(listener), false);
    uint64_t total = 0;
    start_clock();
    if (trips)
        while (answer_once(s, bytes))
            ;
    else
        for (size_t got; (got = take_some(s, bytes, STEP)) > 0; total += got)
            take(bytes);
    double seconds = now() - started;
    finish(s);
    check(waitpid(child, &status, 0) == child, "the other process");
    if (status != 0)
        errx(1, "the other process ended with status %d", status);
    return (double)total / MIB / seconds;
}

static void serve(int listener)
{
    char bytes[TRIP];
    for (;;) {
        struct session *s = begin(accept_one(listener), false);
        while (answer_once(s, bytes))
            ;
        finish(s);
    }
}

static double connect_often(int port, long count)
{
    char bytes[TRIP] = {0};
    start_clock();
    for (long index = 0; index < count; index++) {
        struct session *s = begin(connect_to(port), true);
        ask_once(s, bytes);
        finish(s);
    }
    return (double)count / (now() - started);
}

static double memory_of_idle(long count)
{
    char bytes[TRIP] = {0};
    int listener = listen_on(0);
    struct session **sessions = allocate((size_t)(count + 1) * sizeof *sessions);
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (long index = 0; index <= count; index++)
            ask_once(begin(connect_to(port_of(listener)), true), bytes);
        /* The connections stay until the parent ends it. */
        pause();
    }
    size_t before = 0;
    for (long index = 0; index <= count; index++) {
        sessions[index] = begin(accept_one(listener), false);
        answer_once(sessions[index], bytes);
        rest(sessions[index]);
        /* The first one has what is made once. */
        if (index == 0)
            before = mallinfo2().uordblks;
    }
    size_t after = mallinfo2().uordblks;
    check(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child, "the other process");
    return (double)(after - before) / (double)count;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    long number = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
    if (argc > 2)
        choose(argv[2]);
    if ((argc == 4 || argc == 6) && (strcmp(what, "stream") == 0 || strcmp(what, "trips") == 0)) {
        bool trips = strcmp(what, "trips") == 0;
        int entry = argc == 6 ? atoi(argv[4]) : 0, exit_port = argc == 6 ? atoi(argv[5]) : 0;
        double figure = between(trips, number, entry, exit_port);
        if (!trips)
            printf("%f\n", figure);
    } else if (strcmp(what, "server") == 0) {
        int listener = listen_on((int)number);
        printf("%d\n", port_of(listener));
        fflush(stdout);
        serve(listener);
    } else if (argc == 5 && strcmp(what, "client") == 0) {
        printf("%f\n", connect_often((int)number, strtol(argv[4], NULL, 10)));
    } else if (argc == 4 && strcmp(what, "idle") == 0) {
        printf("%f\n", memory_of_idle(number));
    } else {
        errx(2, "see the comment at the beginning of sealed.h");
    }
    return 0;
}

#endif
