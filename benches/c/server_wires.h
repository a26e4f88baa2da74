/* The wires of the servers that server_load.c measures: what a client sends first, and one request
 * of 64 bytes whose reply has as many. Every reply has the same size, which is found out once. */
#ifndef SERVER_WIRES_H
#define SERVER_WIRES_H

#include "tcp.h"

#include <poll.h>

enum { BODY = 64, ROOM = 64 * 1024 };

/* Bytes of one request, or of the handshake. */
struct bytes {
    size_t len;
    char at[256];
};

static inline void add(struct bytes *to, const void *from, size_t len)
{
    memcpy(to->at + to->len, from, len);
    to->len += len;
}

static inline void add_text(struct bytes *to, const char *text)
{
    add(to, text, strlen(text));
}

static inline void add_body(struct bytes *to)
{
    for (int i = 0; i < BODY; i++)
        add(to, "x", 1);
}

/* A frame of framefd: the length of its header in 4 bytes, the header and the body. */
static inline struct bytes framed(const char *header)
{
    struct bytes frame = {0};
    uint32_t len = (uint32_t)strlen(header); /* little-endian, as this machine */
    add(&frame, &len, sizeof len);
    add_text(&frame, header);
    add_body(&frame);
    return frame;
}

#define REQUEST "{\"data_size\":64,\"cmd\":\"echo\"}"
#define REPLY "{\"data_size\":64,\"status\":\"ok\"}"

struct wire {
    const char *name;
    /* Sent first, and what comes back for it: so many bytes, and then a frame of ZMTP. */
    struct bytes hello;
    size_t hello_reply;
    bool has_command;
    struct bytes request;
};

static inline struct wire wire_of(const char *name)
{
    struct wire wire = {.name = name};
    struct bytes *request = &wire.request;
    if (strcmp(name, "frame") == 0 || strcmp(name, "sealed") == 0) {
        *request = framed(REQUEST);
    } else if (strcmp(name, "tokio") == 0) {
        add(request, "\0\0\0\x40", 4);
        add_body(request);
    } else if (strcmp(name, "redis") == 0) {
        add_text(request, "*2\r\n$4\r\nECHO\r\n$64\r\n");
        add_body(request);
        add_text(request, "\r\n");
    } else if (strcmp(name, "nginx") == 0) {
        add_text(request, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    } else if (strcmp(name, "zmq") == 0) {
        /* ZMTP 3.0 without security, as a DEALER. */
        static const char ready[] = "\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06" "DEALER";
        add(&wire.hello, "\xff\0\0\0\0\0\0\0\0\x7f\x03\0NULL", 16);
        while (wire.hello.len < 64)
            add(&wire.hello, "", 1);
        add(&wire.hello, ready, sizeof ready - 1);
        wire.hello_reply = 64;
        wire.has_command = true;
        add(request, "\0\x40", 2);
        add_body(request);
    } else if (strcmp(name, "nng") == 0) {
        /* SP over TCP, as a requester: a length, the id of the request, the body. */
        add(&wire.hello, "\0SP\0\0\x30\0\0", 8);
        wire.hello_reply = 8;
        add(request, "\0\0\0\0\0\0\0\x44\x80\0\0\x01", 12);
        add_body(request);
    } else {
        errx(1, "no wire %s", name);
    }
    return wire;
}

/* A connection that can take requests. */
static inline int connect_by(const struct wire *wire, int port)
{
    char reply[256];
    int fd = connect_to(port);
    write_all(fd, wire->hello.at, wire->hello.len);
    if (!recv_all(fd, reply, wire->hello_reply))
        errx(1, "%s: no handshake", wire->name);
    if (wire->has_command &&
        (!recv_all(fd, reply, 2) || !recv_all(fd, reply, (unsigned char)reply[1])))
        errx(1, "%s: no command", wire->name);
    return fd;
}

/* The size of a reply: what comes until nothing more does. */
static inline size_t reply_size(const struct wire *wire, int port)
{
    char reply[4096];
    size_t size = 0;
    int fd = connect_by(wire, port);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    write_all(fd, wire->request.at, wire->request.len);
    while (poll(&wait, 1, size == 0 ? 10000 : 50) > 0) {
        ssize_t got = read(fd, reply, sizeof reply);
        if (got <= 0)
            errx(1, "%s: it closes", wire->name);
        size += (size_t)got;
    }
    close(fd);
    if (size < BODY)
        errx(1, "%s: no reply", wire->name);
    return size;
}

#endif
