/* libzmq: a ROUTER that sends each message back. */

#include "tcp.h"

#include <zmq.h>

int main(void)
{
    char endpoint[64];
    size_t len = sizeof endpoint;
    void *context = zmq_ctx_new(), *router = zmq_socket(context, ZMQ_ROUTER);
    zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 1023);
    if (zmq_bind(router, "tcp://127.0.0.1:*") != 0 ||
        zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &len) != 0)
        errx(1, "%s", zmq_strerror(zmq_errno()));
    printf("%s\n", strrchr(endpoint, ':') + 1);
    fflush(stdout);
    for (;;) {
        zmq_msg_t part;
        int more = 0;
        do {
            zmq_msg_init(&part);
            if (zmq_msg_recv(&part, router, 0) < 0)
                errx(1, "%s", zmq_strerror(zmq_errno()));
            more = zmq_msg_more(&part);
            zmq_msg_send(&part, router, more ? ZMQ_SNDMORE : 0);
        } while (more);
    }
}
