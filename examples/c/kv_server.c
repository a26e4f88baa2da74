/* A server for requests of its own: set and get values by key. SIGTERM stops it, and loses none. */
#include <framefd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct entry { char key[64], value[1024]; size_t len; } store[1000], *end = store;
static struct frame_server *server;
static void stop(int number) { (void)number; frame_server_stop(server); }

/* Without workers requests are served one at a time, so the store needs no lock. */
static int handle(void *sets, struct frame_connection *c, const struct frame_view *request)
{
    struct entry *e = store;
    char key[sizeof e->key];
    int64_t len = frame_header_string(request->header, "key", key, sizeof key);
    if (len < 0)
        return (int)len; /* the server sends the error reply */
    while (e < end && strcmp(e->key, key) != 0)
        e++;
    if (sets == NULL)
        return e == end ? FRAME_ENOENT
                        : frame_connection_reply(c, request->header, NULL, e->value, e->len, 0);
    if (e == store + sizeof store / sizeof *store || request->body_len > sizeof e->value)
        return FRAME_ENOSPC;
    if (e == end)
        strcpy(end++->key, key);
    if ((e->len = request->body_len) > 0)
        memcpy(e->value, request->body, e->len);
    return 0; /* the server sends "ok" */
}

int main(int argc, char **argv)
{
    int fd = frame_listen(argc > 1 ? argv[1] : "127.0.0.1:7000", 0, 0);
    if (fd < 0 || frame_server_new(NULL, &server) != 0 || frame_server_listen(server, fd) != 0 ||
        frame_server_handle(server, "set", handle, store, 0) != 0 ||
        frame_server_handle(server, "get", handle, NULL, 0) != 0 ||
        signal(SIGTERM, stop) == SIG_ERR || frame_server_run(server) != 0)
        return fprintf(stderr, "kv_server: %s\n", frame_last_error()), 1;
}
