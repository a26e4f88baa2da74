/* framefd: a connection, plain ("none") or sealed. A stream is the body of one message, which is
 * sent and received in pieces. */

#include "sealed.h"

#include <framefd.h>

static const char key[] = "0123456789abcdef0123456789abcdef";
static struct auth_options opts = AUTH_OPTIONS_INIT;
static struct auth_keyring *keys;
static bool is_plain;

struct session {
    struct frame_connection *c;
    int fd;
    bool streams;
};

static int64_t done(int64_t code)
{
    if (code < 0)
        errx(1, "%s", frame_last_error());
    return code;
}

static void choose(const char *suite)
{
    is_plain = strcmp(suite, "none") == 0;
    opts.server_name = "bench";
    opts.flags = strcmp(suite, "chacha") == 0 ? AUTH_CHACHA : 0;
    done(auth_keyring_new(&keys));
    done(auth_keyring_add(keys, NULL, key, sizeof key - 1, 0));
}

static struct session *begin(int fd, bool is_client)
{
    struct auth_options server = opts;
    struct session *s = allocated(sizeof *s);
    server.flags = 0;
    *s = (struct session){.fd = fd};
    done(frame_connection_new(fd, fd, NULL, &s->c));
    if (!is_plain)
        done(is_client ? frame_connection_auth_client(s->c, key, sizeof key - 1, &opts)
                       : frame_connection_auth_server(s->c, keys, &server, NULL));
    return s;
}

static void give(struct session *s, const void *bytes, size_t len)
{
    if (len == TRIP) {
        done(frame_connection_send(s->c, NULL, bytes, len, -1));
        return;
    }
    if (!s->streams)
        done(frame_connection_begin(s->c, NULL, (uint64_t)1 << 60));
    s->streams = true;
    done(frame_connection_write(s->c, bytes, len, -1));
}

static size_t take_some(struct session *s, void *bytes, size_t room)
{
    struct frame_view view;
    int64_t got;
    if (room == TRIP) {
        got = frame_connection_next(s->c, &view, 1, -1);
        if (got == FRAME_ECLOSED || got == FRAME_ETRUNCATED)
            return 0;
        done(got);
        memcpy(bytes, view.body, view.body_len);
        return view.body_len;
    }
    if (!s->streams) {
        uint64_t len;
        done(frame_connection_recv_header(s->c, -1, &view, &len));
    }
    s->streams = true;
    got = frame_connection_read(s->c, bytes, room, -1);
    /* The sender stops in the middle of the body. */
    return got == FRAME_ETRUNCATED ? 0 : (size_t)done(got);
}

static void rest(struct session *s)
{
    struct frame_view view;
    int64_t got = frame_connection_next(s->c, &view, 1, 0);
    if (got != FRAME_ETIMEDOUT)
        errx(1, "%d instead of a timeout: %s", (int)got, frame_last_error());
}

static void finish(struct session *s)
{
    frame_connection_free(s->c);
    close(s->fd);
    free(s);
}
