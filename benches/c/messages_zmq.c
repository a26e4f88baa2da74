/* libzmq: PUSH to PULL, and PAIR to PAIR for round trips. */

#include "messages.h"

#include <zmq.h>

/* A socket that listens, and tells the other process where. */
static void *listen_with(void *context, int type, int fd)
{
    char endpoint[64];
    size_t len = sizeof endpoint;
    void *socket = zmq_socket(context, type);
    check(socket != NULL && zmq_bind(socket, "tcp://127.0.0.1:*") == 0 &&
              zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &len) == 0,
          "zmq_bind");
    tell_port(fd, atoi(strrchr(endpoint, ':') + 1));
    return socket;
}

static void *connect_with(void *context, int type, int fd)
{
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", hear_port(fd));
    void *socket = zmq_socket(context, type);
    check(socket != NULL && zmq_connect(socket, endpoint) == 0, "zmq_connect");
    return socket;
}

static void send_bytes(void *socket, const void *bytes, size_t size)
{
    while (zmq_send(socket, bytes, size, 0) < 0)
        check(errno == EINTR, "zmq_send");
}

/* Returns the length of the message. */
static size_t receive_into(void *socket, zmq_msg_t *message)
{
    while (zmq_msg_recv(message, socket, 0) < 0)
        check(errno == EINTR, "zmq_msg_recv");
    take(zmq_msg_data(message));
    return zmq_msg_size(message);
}

static void close_all(void *context, void *socket)
{
    zmq_close(socket);
    zmq_ctx_term(context);
}

/* An empty message is the last one. */
static void send_messages(int fd, size_t size)
{
    char *body = allocate(size);
    void *context = zmq_ctx_new(), *socket = connect_with(context, ZMQ_PUSH, fd);
    while (!time_is_up)
        send_bytes(socket, body, size);
    send_bytes(socket, "", 0);
    close_all(context, socket);
    free(body);
}

static uint64_t receive_messages(int fd, size_t size)
{
    void *context = zmq_ctx_new(), *socket = listen_with(context, ZMQ_PULL, fd);
    zmq_msg_t message;
    uint64_t count = 0;
    (void)size;
    zmq_msg_init(&message);
    receive_into(socket, &message);
    start_clock();
    while (receive_into(socket, &message) > 0)
        count++;
    zmq_msg_close(&message);
    close_all(context, socket);
    return count;
}

static uint64_t ask(int fd, size_t size)
{
    char *body = allocate(size);
    void *context = zmq_ctx_new(), *socket = listen_with(context, ZMQ_PAIR, fd);
    zmq_msg_t message;
    uint64_t count = 0;
    zmq_msg_init(&message);
    receive_into(socket, &message);
    start_clock();
    for (; !time_is_up; count++) {
        send_bytes(socket, body, size);
        receive_into(socket, &message);
    }
    send_bytes(socket, "", 0);
    zmq_msg_close(&message);
    close_all(context, socket);
    free(body);
    return count;
}

/* The first message says that the connection is there. */
static void answer(int fd, size_t size)
{
    void *context = zmq_ctx_new(), *socket = connect_with(context, ZMQ_PAIR, fd);
    zmq_msg_t message;
    (void)size;
    zmq_msg_init(&message);
    send_bytes(socket, "", 0);
    while (receive_into(socket, &message) > 0)
        check(zmq_msg_send(&message, socket, 0) >= 0, "zmq_msg_send");
    zmq_msg_close(&message);
    close_all(context, socket);
}

int main(int argc, char **argv)
{
    static const struct way ways[] = {
        {"zmq", send_messages, receive_messages, ask, answer},
        {NULL, NULL, NULL, NULL, NULL},
    };
    return measure(argc, argv, ways);
}
