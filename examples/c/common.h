/* What the example programs share: arguments, connections, the server's loop, the prompt. */

#ifndef COMMON_H
#define COMMON_H

#define _GNU_SOURCE /* before the first header of the system */

#include <err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "framefd.h"

enum { EXIT_NO_SERVER = 2, EXIT_NO_COMMAND = 255 };

/* The exit status where a program cannot do its work; EXIT_FAILURE until it is set. */
extern int exit_failure;

/* Says what is wrong and exits with exit_failure. Not for the threads of a server. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- the command line */

struct arguments {
    const char *host, *port;
    const char *wire; /* "frame" unless given */
    const char *root; /* NULL unless given, as the next three */
    const char *timeout, *cwd;
    const char **env; /* "NAME=VALUE", then NULL */
    bool forward, tty; /* --stdin, --tty */
    struct auth_key *key; /* NULL: no handshake */
    char **request; /* words, then NULL; none at all: there is a prompt */
    bool requested;
    char *line;
    size_t line_size;
};

/* Reads the options whose letters are given (h: host, p: port, w: wire, r: root, k: key
 * file, T: timeout, c: cwd, e: env, i: stdin, t: tty), those of a server, which have an h,
 * or those of a client, which come with HOST, PORT and a request. Help and mistakes end the
 * program. */
struct arguments read_arguments(int argc, char **argv, const char *letters, const char *help);
void free_arguments(struct arguments *arguments);

/* ---- a client */

/* Connects and, on a SOCK_STREAM with a key, does the handshake. */
int connect_to(const struct arguments *arguments, int type);

/* The request of the command line, once, or the next line of the prompt; NULL at the end.
 * Valid until the next call. */
char *next_request(struct arguments *arguments);

/* Shows a command's output, frees it, and returns the command's exit status. */
int show_output(struct exec_output *output);
void show(FILE *stream, const void *data, size_t len);

/* The status of a program whose command ended like this, after a warning where it was not
 * left to itself; or with exit_code. */
int status_of_result(const struct exec_result *result);
int status_of(int64_t exit_code);

/* Reports the failure of a call of the library: returns exit_failure where the connection
 * can be used on, else exits with it. */
int report(int code);

/* ---- a server */

typedef void serve_fn(int fd, void *context);

/* Listens, serves each client in a thread of its own until serve returns, and closes the
 * connection. Returns EXIT_SUCCESS after SIGINT or SIGTERM, when no reply is in flight; a
 * second signal ends the program at once. */
int serve_connections(const struct arguments *arguments, serve_fn *serve, void *context);

/* The same for datagrams: several threads call serve whenever one may have come. */
int serve_datagrams(const struct arguments *arguments, serve_fn *serve, void *context);

/* Waits for the next request on a connection; false when the server stops. */
bool request_comes(int fd);

/* Serves requests in frames to the end of the connection: hello by itself, and those of
 * cmds, which end with NULL, by answer. That returns a negative code where the connection
 * is of no more use. */
typedef int answer_fn(int fd, struct frame *request, void *context);
void serve_frames(int fd, const char *const *cmds, answer_fn *answer, void *context);

/* The pieces of such a server, for one with a loop of its own. open_listener() announces where
 * it listens, and does not block. open_stop_signals() is readable after SIGINT or SIGTERM;
 * take_stop_signal() takes that one, and the second one ends the program. */
int open_listener(const struct arguments *arguments);
int open_stop_signals(void);
void take_stop_signal(int signals);

/* Milliseconds on a clock that nobody sets. */
int64_t now_ms(void);

/* ---- bytes without a frame; false or -1 where the connection is of no more use */

bool send_all(int fd, const void *data, size_t len);
bool recv_exactly(int fd, void *buffer, size_t len);
ssize_t recv_some(int fd, void *buffer, size_t size); /* 0 at the end of the stream */

#endif
