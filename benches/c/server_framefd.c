/* framefd's server: echo, and a request that takes 200 ms. SIGTERM stops it.
 *
 *     server_framefd plain|sealed WORKERS */

#include "tcp.h"

#include <framefd.h>
#include <signal.h>

static struct frame_server *server;

static void done(int code)
{
    if (code < 0)
        errx(1, "%s", frame_last_error());
}

static int echo(void *sleeps, struct frame_connection *c, const struct frame_view *request)
{
    if (sleeps != NULL)
        usleep(200 * 1000);
    return frame_connection_reply(c, request->header, NULL, request->body, request->body_len, 0);
}

static void stop(int number)
{
    (void)number;
    frame_server_stop(server);
}

int main(int argc, char **argv)
{
    struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
    struct auth_keyring *keys = NULL;
    if (argc != 3)
        errx(1, "usage: %s plain|sealed WORKERS", argv[0]);
    if (strcmp(argv[1], "sealed") == 0) {
        done(auth_keyring_new(&keys));
        done(auth_keyring_add(keys, NULL, "0123456789abcdef0123456789abcdef", 32, 0));
    }
    opts.ring = keys;
    opts.workers = (uint32_t)atoi(argv[2]);
    opts.max_connections = 15000;
    opts.max_unauthenticated = 1500;
    done(frame_server_new(&opts, &server));
    signal(SIGTERM, stop);
    done(frame_server_handle(server, "echo", echo, NULL, 0));
    done(frame_server_handle(server, "slow", echo, &server, 0));
    done(frame_server_listen(server, listen_anywhere()));
    done(frame_server_run(server));
    frame_server_free(server);
    auth_keyring_free(keys);
    return 0;
}
