/* The limit of a server: epoll, one read and one write for what has come, and nothing is parsed,
 * since every request has the same size. A connection takes 16 bytes. */

#include "server_wires.h"

#include <fcntl.h>
#include <sys/epoll.h>

/* What has come of a request that is not complete. */
struct client {
    int fd;
    size_t have;
};

static char requests[ROOM], replies[2 * ROOM];
static struct bytes reply;
static size_t request_len;

/* False once the client has gone. */
static bool serve(struct client *client)
{
    ssize_t got = read(client->fd, requests, sizeof requests);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    client->have += (size_t)got;
    size_t count = client->have / request_len;
    client->have %= request_len;
    for (size_t i = 0; i < count; i++)
        memcpy(replies + i * reply.len, reply.at, reply.len);
    /* Its clients read. */
    return count == 0 || write(client->fd, replies, count * reply.len) > 0;
}

int main(void)
{
    struct bytes request = framed(REQUEST);
    struct epoll_event events[256];
    int epoll = epoll_create1(EPOLL_CLOEXEC), listener = listen_anywhere();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    reply = framed(REPLY);
    request_len = request.len;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        err(1, "epoll_ctl");
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (client == NULL) {
                client = allocated(sizeof *client);
                *client = (struct client){.fd = accept_one(listener)};
                fcntl(client->fd, F_SETFL, O_NONBLOCK);
                event.data.ptr = client;
                if (epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event) != 0)
                    err(1, "epoll_ctl");
            } else if (!serve(client)) {
                close(client->fd);
                free(client);
            }
        }
    }
}
