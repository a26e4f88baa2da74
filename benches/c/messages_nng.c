/* nng: push0 to pull0, and pair0 to pair0 for round trips. */

#include "messages.h"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

static void done(int code)
{
    if (code != 0)
        errx(1, "%s", nng_strerror(code));
}

/* Makes the socket listen, and tells the other process where. */
static void listen_with(nng_socket socket, int fd)
{
    nng_listener listener;
    nng_sockaddr address;
    done(nng_listen(socket, "tcp://127.0.0.1:0", &listener, 0));
    done(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &address));
    tell_port(fd, ntohs(address.s_in.sa_port));
}

static void connect_with(nng_socket socket, int fd)
{
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", hear_port(fd));
    done(nng_dial(socket, url, NULL, 0));
}

static void send_bytes(nng_socket socket, const void *bytes, size_t size)
{
    done(nng_send(socket, (void *)bytes, size, 0));
}

/* Returns the message, which the caller frees. */
static nng_msg *receive_one(nng_socket socket)
{
    nng_msg *message;
    done(nng_recvmsg(socket, &message, 0));
    take(nng_msg_body(message));
    return message;
}

/* Takes a message and drops it; returns its length. */
static size_t receive_length(nng_socket socket)
{
    nng_msg *message = receive_one(socket);
    size_t len = nng_msg_len(message);
    nng_msg_free(message);
    return len;
}

/* An empty message is the last one. */
static void send_messages(int fd, size_t size)
{
    char *body = allocate(size);
    nng_socket socket;
    done(nng_push0_open(&socket));
    connect_with(socket, fd);
    while (!time_is_up)
        send_bytes(socket, body, size);
    send_bytes(socket, "", 0);
    wait_for_close(fd);
    nng_close(socket);
    free(body);
}

static uint64_t receive_messages(int fd, size_t size)
{
    nng_socket socket;
    uint64_t count = 0;
    (void)size;
    done(nng_pull0_open(&socket));
    listen_with(socket, fd);
    receive_length(socket);
    start_clock();
    while (receive_length(socket) > 0)
        count++;
    return count;
}

static uint64_t ask(int fd, size_t size)
{
    char *body = allocate(size);
    nng_socket socket;
    uint64_t count = 0;
    done(nng_pair0_open(&socket));
    listen_with(socket, fd);
    receive_length(socket);
    start_clock();
    for (; !time_is_up; count++) {
        send_bytes(socket, body, size);
        receive_length(socket);
    }
    send_bytes(socket, "", 0);
    check(shutdown(fd, SHUT_WR) == 0, "shutdown");
    wait_for_close(fd);
    free(body);
    return count;
}

/* The first message says that the connection is there. */
static void answer(int fd, size_t size)
{
    nng_socket socket;
    nng_msg *message;
    (void)size;
    done(nng_pair0_open(&socket));
    connect_with(socket, fd);
    send_bytes(socket, "", 0);
    while (nng_msg_len(message = receive_one(socket)) > 0)
        done(nng_sendmsg(socket, message, 0));
    nng_msg_free(message);
    wait_for_close(fd);
    nng_close(socket);
}

int main(int argc, char **argv)
{
    static const struct way ways[] = {
        {"nng", send_messages, receive_messages, ask, answer},
        {NULL, NULL, NULL, NULL, NULL},
    };
    return measure(argc, argv, ways);
}
