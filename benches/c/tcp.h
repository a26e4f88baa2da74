/* What the contenders in C share: TCP on loopback, whole reads and writes, the clock. */

#ifndef TCP_H
#define TCP_H

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1024 * 1024 };

static inline struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* Listens on a free port, and prints it for whoever started this program. */
static inline int listen_anywhere(void)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        err(1, "listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static inline int without_delay(int fd)
{
    int on = 1;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        err(1, "socket");
    return fd;
}

static inline int accept_one(int listener)
{
    return without_delay(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static inline int connect_to(int port)
{
    struct sockaddr_in address = loopback(port);
    int fd = without_delay(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "connect");
    return fd;
}

/* False at the end of the stream. */
static inline bool recv_all(int fd, void *buffer, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t more = read(fd, (char *)buffer + got, size - got);
        if (more <= 0)
            return false;
        got += (size_t)more;
    }
    return true;
}

static inline void write_all(int fd, const void *data, size_t size)
{
    for (size_t put = 0; put < size;) {
        ssize_t more = write(fd, (const char *)data + put, size - put);
        if (more < 0)
            err(1, "write");
        put += (size_t)more;
    }
}

static inline double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static inline void *allocated(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL)
        err(1, "malloc");
    return memory;
}

#endif
