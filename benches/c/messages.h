/* What the message contenders share: two processes with a TCP connection between them, of which
 * one goes on until the time is up, and the figure that the program prints.
 *
 *     PROGRAM messages WAY SIZE MILLISECONDS      messages per second
 *     PROGRAM memory WAY SIZE MILLISECONDS        peak KiB of the receiver of messages
 *     PROGRAM trips WAY SIZE MILLISECONDS         microseconds per round trip
 */
#ifndef MESSAGES_H
#define MESSAGES_H

#include "tcp.h"

#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

/* One way of doing it. fd is this process's end of the connection; all but the stopping ones,
 * send and ask, go on until it is closed. */
struct way {
    const char *name;
    void (*send)(int fd, size_t size);        /* until time_is_up */
    uint64_t (*receive)(int fd, size_t size); /* returns how many came */
    uint64_t (*ask)(int fd, size_t size);     /* until time_is_up; returns how many were answered */
    void (*answer)(int fd, size_t size);
};

static volatile sig_atomic_t time_is_up;

/* When the measured part began; a way whose connection takes time sets it anew. */
static double started;

/* Every message that was received passes here, so that no compiler leaves it out. */
static const void *volatile last_taken;

static inline void take(const void *message)
{
    last_taken = message;
}

static inline void start_clock(void)
{
    started = now();
}

/* From the start of a page: copies between addresses that differ by a few bytes within their
 * pages take three times as long on some processors, which would be all that is seen. */
static inline void *allocate(size_t size)
{
    enum { PAGE = 4096 };
    void *memory = aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE);
    if (memory == NULL)
        err(1, "%zu bytes", size);
    return memset(memory, 'x', size);
}

/* Ends the program where a call of the contender failed. */
static inline void check(bool done, const char *what)
{
    if (!done)
        err(1, "%s", what);
}

/* False where the stream has ended before the first byte. */
static inline bool read_all(int fd, void *bytes, size_t len)
{
    for (size_t have = 0; have < len;) {
        ssize_t got = read(fd, (char *)bytes + have, len - have);
        if (got == 0 && have == 0)
            return false;
        check(got > 0, "read");
        have += (size_t)got;
    }
    return true;
}

/* For ways that make a connection of their own: the one that listens tells the other where. */
static inline void tell_port(int fd, int port)
{
    write_all(fd, &port, sizeof port);
}

static inline int hear_port(int fd)
{
    int port;
    check(read_all(fd, &port, sizeof port), "the port");
    return port;
}

/* Returns when the other process has taken all that it will. */
static inline void wait_for_close(int fd)
{
    char byte;
    check(!read_all(fd, &byte, 1), "the end");
}

static void ring(int signal_number)
{
    (void)signal_number;
    time_is_up = 1;
}

static inline void set_timer(long milliseconds)
{
    struct itimerval time = {.it_value = {milliseconds / 1000, milliseconds % 1000 * 1000}};
    struct sigaction action = {.sa_handler = ring, .sa_flags = SA_RESTART};
    check(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &time, NULL) == 0,
          "the timer");
}

/* VmHWM of this process, in KiB. */
static inline double peak_memory(void)
{
    char line[256];
    double peak = 0;
    FILE *status = fopen("/proc/self/status", "r");
    check(status != NULL, "/proc/self/status");
    while (fgets(line, sizeof line, status) != NULL)
        sscanf(line, "VmHWM: %lf", &peak);
    fclose(status);
    return peak;
}

/* Both ends of a TCP connection. No contender gains by Nagle's algorithm, which joins small
 * messages and keeps others back: a connection of framefd turns it off. */
static inline void connect_pair(int *near, int *far)
{
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 1) == 0 &&
              getsockname(listener, (struct sockaddr *)&address, &len) == 0 &&
              (*far = socket(AF_INET, SOCK_STREAM, 0)) >= 0 &&
              connect(*far, (struct sockaddr *)&address, len) == 0 &&
              (*near = accept(listener, NULL, NULL)) >= 0,
          "a connection");
    without_delay(*near);
    without_delay(*far);
    close(listener);
}

/* Runs the way that the arguments name, and prints its figure. */
static inline int measure(int argc, char **argv, const struct way *ways)
{
    if (argc != 5)
        errx(1, "usage: %s messages|memory|trips WAY SIZE MILLISECONDS", argv[0]);
    bool trips = strcmp(argv[1], "trips") == 0;
    size_t size = strtoul(argv[3], NULL, 10);
    long milliseconds = strtol(argv[4], NULL, 10);
    const struct way *way = ways;
    while (way->name != NULL && strcmp(way->name, argv[2]) != 0)
        way++;
    if (way->name == NULL || (trips ? way->ask == NULL : way->send == NULL))
        errx(1, "no such way: %s %s", argv[1], argv[2]);

    int near, far, status;
    connect_pair(&near, &far);
    start_clock();
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        close(near);
        if (!trips)
            set_timer(milliseconds);
        (trips ? way->answer : way->send)(far, size);
        exit(0);
    }
    close(far);
    if (trips)
        set_timer(milliseconds);
    uint64_t count = (trips ? way->ask : way->receive)(near, size);
    double seconds = now() - started;
    close(near);
    check(waitpid(child, &status, 0) == child, "the other process");
    if (status != 0 || count == 0)
        errx(1, "the other process ended with status %d after %llu messages", status,
             (unsigned long long)count);
    if (strcmp(argv[1], "memory") == 0)
        printf("%f\n", peak_memory());
    else
        printf("%f\n", trips ? seconds * 1e6 / (double)count : (double)count / seconds);
    return 0;
}

#endif
