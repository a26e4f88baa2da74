/* A server for requests of its own: set and get values by key. SIGTERM stops it, and loses none. */
#include <framefd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { SIZE = 1000 };
static struct { char key[64], value[1024]; size_t len; } store[SIZE];
static struct frame_server *server;

/* Without workers requests are served one at a time, so the store needs no lock. */
static int handle(void *sets, struct frame_connection *c, const struct frame_view *request)
{
    char key[64];
    size_t i = 0;
    int64_t len = frame_header_string(request->header, "key", key, sizeof key);
    if (len <= 0 || request->body_len > sizeof store->value)
        return len < 0 ? (int)len : FRAME_EBADFIELD; /* the server sends the error reply */
    while (i < SIZE && store[i].key[0] != '\0' && strcmp(store[i].key, key) != 0)
        i++;
    if (sets == NULL && (i == SIZE || store[i].key[0] == '\0'))
        return FRAME_ENOENT;
    if (sets == NULL)
        return frame_connection_reply(c, request->header, NULL, store[i].value, store[i].len, 0);
    if (i == SIZE)
        return FRAME_ENOSPC;
    strcpy(store[i].key, key);
    if ((store[i].len = request->body_len) > 0)
        memcpy(store[i].value, request->body, store[i].len);
    return 0; /* the server sends "ok" */
}

static void stop(int number) { (void)number; frame_server_stop(server); }

int main(int argc, char **argv)
{
    int fd = frame_listen(argc > 1 ? argv[1] : "127.0.0.1:7000", 0, 0);
    if (fd < 0 || frame_server_new(NULL, &server) != 0 || frame_server_listen(server, fd) != 0 ||
        frame_server_handle(server, "set", handle, store, 0) != 0 ||
        frame_server_handle(server, "get", handle, NULL, 0) != 0)
        return fprintf(stderr, "kv_server: %s\n", frame_last_error()), 1;
    signal(SIGTERM, stop);
    return frame_server_run(server) == 0 ? 0 : 1;
}
