/* Sends back the frames of its clients: thousands of connections, one thread. */

#include "common.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/uio.h>

static const char help[] =
    "usage: echo_server [--host HOST] [--port PORT] [OPTION]...\n"
    "\n"
    "Sends back the frames of its clients: thousands of connections, one thread.\n"
    "\n"
    "  --host HOST      listen on this address (127.0.0.1); any but loopback needs\n"
    "                   --seal or --plain\n"
    "  --port PORT      listen on this port; 0, the default, picks a free one\n"
    "  --seal           prove the key of --key-file or --keys to clients, have them prove theirs,\n"
    "                   and encrypt all that is sent; a key is 32 random bytes or more\n"
    "  --key-file FILE  with --seal, serve only clients that hold the key in FILE\n"
    "  --keys DIR       with --seal, serve the clients that hold a key in DIR, which has a file\n"
    "                   for each; its name is the key's id\n"
    "  --name NAME      with --seal, this server's name, which clients give too\n"
    "  --plain          listen on any address, though anybody can use it: for networks that are\n"
    "                   trusted\n"
    "  --help           show this and exit\n"
    "\n"
    "A frame comes back with the same header and the same body. A client that does not read\n"
    "is not read from, one that sends something else than frames is left.\n"
    "\n"
    "SIGHUP reads the keys again, and ends the connections of clients whose key is gone, when\n"
    "they send something. SIGINT and SIGTERM stop it; replies in flight are finished.\n";

enum {
    BATCH = 16,           /* frames that are sent with one system call */
    PREFIX = 4,           /* bytes of the length of a header */
    EXPIRE_MS = 1000,     /* between two looks at those that have not proved their key */
    HANDSHAKE_MS = 10000, /* for a sealed client to prove its key */
    RETRY_MS = 100,       /* before another accept() if there was no room for one */
    LINGER_SIZE = 1 << 24 /* what a client that is left may still send, which is dropped: more
                             than sockets hold */
};

/* A client is read, or gets its frames back, never both. So it never needs more memory than one
 * frame and one read. */
struct connection {
    int fd;
    enum { READS, SENDS, LEAVES } state;
    struct frame_seal *seal; /* NULL: what is received and sent is as it is */
    bool is_settled; /* the handshake has succeeded or failed */
    bool has_ended;  /* the client, in sealed bytes */
    int64_t opened_ms;
    struct frame_decoder *decoder;
    unsigned char prefixes[BATCH][PREFIX];
    struct iovec pieces[3 * BATCH]; /* to be sent, most of it in the decoder's memory */
    size_t sent, count;             /* of those pieces */
    size_t dropped;
    struct connection *next, **link;
};

static struct {
    struct arguments arguments;
    struct auth_keyring *ring; /* NULL: nothing is sealed */
    int epoll, listener, signals;
    bool full, stopping;
    size_t sending; /* connections that do */
    size_t unsettled;
    int64_t end;    /* of reading, once it stops */
    struct connection *connections;
} server;

static void watch(int operation, int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};
    if (epoll_ctl(server.epoll, operation, fd, &event) != 0)
        fail("epoll: %s", strerror(errno));
}

static void enter(struct connection *c, int state)
{
    server.sending += (state == SENDS) - (c->state == SENDS);
    if ((state == SENDS) != (c->state == SENDS))
        watch(EPOLL_CTL_MOD, c->fd, state == SENDS ? EPOLLOUT : EPOLLIN, c);
    c->state = state;
}

static void open_connection(int fd)
{
    struct connection *c = calloc(1, sizeof *c);
    struct auth_options opts = AUTH_OPTIONS_INIT;
    opts.server_name = server.arguments.name;
    if (c == NULL || frame_decoder_new(NULL, &c->decoder) != 0 ||
        (server.ring != NULL && frame_seal_server(server.ring, &opts, &c->seal) != 0)) {
        if (c != NULL)
            frame_decoder_free(c->decoder);
        free(c);
        close(fd);
        return;
    }
    c->fd = fd;
    c->opened_ms = now_ms();
    c->is_settled = c->seal == NULL;
    server.unsettled += !c->is_settled;
    c->next = server.connections;
    c->link = &server.connections;
    if (c->next != NULL)
        c->next->link = &c->next;
    server.connections = c;
    watch(EPOLL_CTL_ADD, fd, EPOLLIN, c);
}

static void close_connection(struct connection *c)
{
    enter(c, LEAVES);
    *c->link = c->next;
    if (c->next != NULL)
        c->next->link = c->link;
    server.unsettled -= !c->is_settled;
    frame_seal_free(c->seal);
    frame_decoder_free(c->decoder);
    close(c->fd);
    free(c);
}

/* The functions below return false if the connection cannot be used any more. */

/* Sends as much of the sealed output as is accepted. */
static bool send_sealed(struct connection *c)
{
    const void *bytes;
    ssize_t len = 0;
    int64_t left;
    while ((left = frame_seal_output(c->seal, (size_t)len, &bytes)) > 0)
        if ((len = send(c->fd, bytes, (size_t)left, MSG_NOSIGNAL)) < 0)
            return errno == EAGAIN;
    return left == 0;
}

/* Ends sending, and drops further input: a close with unread input would reset the connection,
 * and replies in transit could be lost. */
static bool leave(struct connection *c)
{
    /* If this is not accepted at once, the client takes the connection for cut. */
    if (c->seal != NULL && (frame_seal_write(c->seal, NULL, 0, true) != 0 || !send_sealed(c)))
        return false;
    enter(c, LEAVES);
    return shutdown(c->fd, SHUT_WR) == 0;
}

/* Whether there is something to send. */
static bool is_behind(struct connection *c)
{
    const void *bytes;
    return c->seal != NULL ? frame_seal_output(c->seal, 0, &bytes) > 0 : c->sent < c->count;
}

/* Sends as much as is accepted. */
static bool send_pieces(struct connection *c)
{
    if (c->seal != NULL)
        return send_sealed(c);
    while (c->sent < c->count) {
        struct iovec *piece = c->pieces + c->sent;
        struct msghdr message = {.msg_iov = piece, .msg_iovlen = c->count - c->sent};
        ssize_t len = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (len < 0)
            return errno == EAGAIN;
        for (; c->sent < c->count && (size_t)len >= piece->iov_len; piece++, c->sent++)
            len -= (ssize_t)piece->iov_len;
        if (c->sent < c->count) {
            piece->iov_base = (char *)piece->iov_base + len;
            piece->iov_len -= (size_t)len;
        }
    }
    return true;
}

/* Makes output of the pieces if they are to be sealed. */
static bool seal_pieces(struct connection *c)
{
    for (; c->seal != NULL && c->sent < c->count; c->sent++)
        if (frame_seal_write(c->seal, c->pieces[c->sent].iov_base, c->pieces[c->sent].iov_len,
                             false) != 0)
            return false;
    return true;
}

/* Makes pieces of the next frames. A frame is a packet with its header, then its body. The
 * header is sent back unchanged, since the body has the same size. */
static bool take_frames(struct connection *c)
{
    static const struct frame_options packets = {
        .size = sizeof packets, .format = FRAME_FORMAT_PACKETS};
    struct frame_view views[BATCH];
    int64_t count = frame_decoder_next(c->decoder, views, BATCH);
    c->sent = c->count = 0;
    for (int64_t i = 0; i < count; i++) {
        void *prefix = c->prefixes[i];
        frame_encode(prefix, PREFIX, NULL, views[i].header_len, &packets);
        c->pieces[c->count++] = (struct iovec){prefix, PREFIX};
        c->pieces[c->count++] = (struct iovec){(void *)views[i].header, views[i].header_len};
        c->pieces[c->count++] = (struct iovec){(void *)views[i].body, views[i].body_len};
    }
    return count >= 0 && seal_pieces(c);
}

/* Sends back the received frames. The decoder is not used until they are sent: they are in its
 * memory. */
static bool answer(struct connection *c)
{
    do {
        if (!send_pieces(c))
            return false;
        if (is_behind(c)) {
            enter(c, SENDS);
            return true;
        }
        if (!take_frames(c))
            return leave(c);
    } while (c->count > 0);
    enter(c, READS);
    return !c->has_ended || leave(c);
}

/* Gives the decoder what was unsealed. */
static bool decode(struct connection *c, const char *bytes, size_t len)
{
    while (len > 0) {
        size_t room;
        void *space = frame_decoder_reserve(c->decoder, &room);
        if (space == NULL)
            return false;
        room = room < len ? room : len;
        memcpy(space, bytes, room);
        frame_decoder_commit(c->decoder, room);
        bytes += room;
        len -= room;
    }
    return true;
}

static void settle(struct connection *c)
{
    server.unsettled -= !c->is_settled;
    c->is_settled = true;
}

/* Unseals received bytes and answers. They begin with the handshake. */
static bool unseal_and_answer(struct connection *c, size_t received)
{
    struct auth_result who = AUTH_RESULT_INIT;
    const void *bytes;
    int64_t len = frame_seal_commit(c->seal, received);
    while (len >= 0 && (len = frame_seal_read(c->seal, &bytes)) > 0)
        if (!decode(c, bytes, (size_t)len))
            return false;
    if (len < 0 && len != FRAME_ECLOSED) {
        if (!c->is_settled)
            log_client(c->fd, "", "refused: ", frame_last_error());
        settle(c);
        frame_seal_free(c->seal); /* nothing more is sent, not even the end */
        c->seal = NULL;
        return leave(c);
    }
    if (!c->is_settled && frame_seal_proof(c->seal, &who) == 0) {
        settle(c);
        if (who.key_id[0] != '\0')
            log_client(c->fd, who.key_id, "has proved its key", "");
    }
    c->has_ended = len == FRAME_ECLOSED;
    return answer(c);
}

static bool read_and_answer(struct connection *c)
{
    size_t room;
    void *space = c->seal != NULL ? frame_seal_reserve(c->seal, &room)
                                  : frame_decoder_reserve(c->decoder, &room);
    if (server.stopping && now_ms() >= server.end)
        return leave(c);
    ssize_t len = space == NULL ? 0 : read(c->fd, space, room);
    if (len < 0 && errno == EAGAIN)
        return !server.stopping || leave(c);
    if (len <= 0 && !c->is_settled && frame_seal_finish(c->seal) != 0)
        log_client(c->fd, "", "refused: ", frame_last_error());
    if (len <= 0)
        return false;
    if (c->seal != NULL)
        return unseal_and_answer(c, (size_t)len);
    return frame_decoder_commit(c->decoder, (size_t)len) == 0 && answer(c);
}

static bool drop(struct connection *c)
{
    char dropped[65536];
    ssize_t len = read(c->fd, dropped, sizeof dropped);
    if (len <= 0)
        return len < 0 && errno == EAGAIN;
    c->dropped += (size_t)len;
    return c->dropped < LINGER_SIZE;
}

/* Takes the next step of a connection. If the server stops, what has arrived is still read and
 * answered, but nothing is waited for. */
static void go_on(struct connection *c)
{
    static bool (*const step[])(struct connection *) = {
        [READS] = read_and_answer, [SENDS] = answer, [LEAVES] = drop};
    bool usable;
    do
        usable = step[c->state](c);
    while (usable && server.stopping && c->state == READS);
    if (!usable)
        close_connection(c);
}

static void accept_clients(void)
{
    int fd;
    while ((fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        open_connection(fd);
    /* Without descriptors or memory for another client, the listener would be ready again at
     * once. */
    server.full = errno != EAGAIN;
    watch(EPOLL_CTL_MOD, server.listener, server.full ? 0 : EPOLLIN, &server.listener);
}

static void begin_to_stop(void)
{
    let_signals_end();
    close(server.signals);
    accept_clients(); /* those that have connected before the stop */
    close(server.listener);
    server.stopping = true;
    server.end = now_ms() + LINGER_MS;
    for (struct connection *c = server.connections, *next; c != NULL; c = next) {
        next = c->next;
        if (c->state == READS)
            go_on(c);
    }
}

/* Leaves the clients that have not proved their key in time. */
static void expire(void)
{
    static int64_t due;
    int64_t now = now_ms();
    if (server.unsettled == 0 || now < due)
        return;
    due = now + EXPIRE_MS;
    for (struct connection *c = server.connections, *next; c != NULL; c = next) {
        next = c->next;
        if (!c->is_settled && now - c->opened_ms >= HANDSHAKE_MS) {
            log_client(c->fd, "", "no key in time", "");
            close_connection(c);
        }
    }
}

/* Waits for events and handles them; false if there were none in time. */
static bool turn(int timeout_ms)
{
    struct epoll_event events[64];
    int count = epoll_wait(server.epoll, events, 64, timeout_ms);
    bool stop = false;
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &server.signals)
            stop = true;
        else if (events[i].data.ptr == &server.listener)
            accept_clients();
        else
            go_on(events[i].data.ptr);
    }
    if (stop && next_signal(server.signals) == SIGHUP)
        load_keys_again(server.ring, &server.arguments);
    else if (stop)
        begin_to_stop();
    return count != 0;
}

/* Waits until the clients have received their replies, up to a limit. */
static void finish(void)
{
    while (server.sending > 0 && turn(STALL_MS)) {
    }
    int64_t left, end = now_ms() + LINGER_MS;
    while (server.connections != NULL && (left = end - now_ms()) > 0)
        turn((int)left);
    while (server.connections != NULL)
        close_connection(server.connections);
}

/* As many connections as this process may have. */
static void raise_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

int main(int argc, char **argv)
{
    exit_failure = EXIT_NO_SERVER;
    struct arguments *a = &server.arguments;
    *a = read_arguments(argc, argv, "hpPksKN", help);
    if (has_keys(a) && !a->seal)
        fail("--key-file needs --seal, see --help");
    raise_limit();
    server.signals = open_signals(has_keys(a));
    server.ring = load_keys(a);
    server.listener = open_listener(a);
    announce(server.listener);
    /* A reply does not wait for an acknowledgement; accepted sockets inherit this option. */
    setsockopt(server.listener, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, server.signals, EPOLLIN, &server.signals);
    watch(EPOLL_CTL_ADD, server.listener, EPOLLIN, &server.listener);

    while (!server.stopping) {
        turn(server.full ? RETRY_MS : server.unsettled > 0 ? EXPIRE_MS : -1);
        expire();
        if (server.full && !server.stopping)
            accept_clients();
    }
    finish();
    auth_keyring_free(server.ring);
    free_arguments(a);
    return EXIT_SUCCESS;
}
