/* Common to the example programs: in common.c arguments, addresses, a client's connection and the
 * prompt; in keys.c the keys; in server.c what servers share. */

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

enum {
    EXIT_NO_SERVER = 2,
    EXIT_NO_COMMAND = 255,
    STALL_MS = 30000, /* a peer that neither sends nor receives is given up */
    LINGER_MS = 1000  /* a client has this long to read the last reply */
};

/* The exit status of a program that cannot do its work; EXIT_FAILURE until it is set. */
extern int exit_failure;

/* Prints an error and exits with exit_failure. Not for the threads of a server. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Opens descriptors 0 to 2 if they are closed: a socket with such a number would get the
 * program's output. Call it first in main(), unless you call read_arguments(). */
void open_standard_descriptors(void);

/* ---- the command line */

struct arguments {
    const char *host, *port;
    const char *wire; /* "frame" unless given */
    const char *root; /* NULL unless given, as the next two */
    const char *timeout, *cwd;
    const char **env;  /* "NAME=VALUE", then NULL; room for one more; NULL if there are none */
    bool forward, tty; /* --stdin, --tty */
    bool seal, plain;
    const char *key_file, *keys, *id, *name; /* NULL unless given */
    bool can_seal; /* the program has --seal */
    unsigned char key[1024];
    size_t key_len; /* that of key_file; 0 without one */
    char **request; /* words, then NULL; none at all: there is a prompt */
    bool requested;
    char *line;
    size_t line_size;
};

/* Reads the options whose letters are given (h: host, p: port, w: wire, r: root, k: key file,
 * s: seal, K: keys, I: id, N: name, P: plain, T: timeout, c: cwd, e: env, i: stdin, t: tty). A
 * server has an h; a client has HOST, PORT and a request instead. Help and mistakes end the
 * program. Call it first in main(). */
struct arguments read_arguments(int argc, char **argv, const char *letters, const char *help);
void free_arguments(struct arguments *arguments);

/* Adds "NAME=VALUE" to the variables of --env. */
void add_variable(struct arguments *arguments, const char *variable);

/* ---- keys, in keys.c */

/* Fails if options for keys do not go together. */
void check_keys(const struct arguments *arguments, bool server);

/* Whether a server has keys. */
bool has_keys(const struct arguments *arguments);

/* The keys of a server, NULL if it has none. After load_keys_again() it has those that are there
 * now, or the same as before if they cannot be used. */
struct auth_keyring *load_keys(const struct arguments *arguments);
void load_keys_again(struct auth_keyring *ring, const struct arguments *arguments);

/* The handshake of a client, which fails. */
void prove_to(struct frame_connection *c, const struct arguments *arguments);

/* A line about a client, as the library's server has them: its address, the id of its key if that
 * is not "", what it does, and why. */
void log_client(int fd, const char *key_id, const char *what, const char *why);

/* ---- a client */

/* Connects, and proves the key if there is one. flags are FRAME_CONNECTION_.... */
struct frame_connection *connect_to(const struct arguments *arguments, uint32_t flags);

/* Ends a connection and frees it. Without the end a sealed server would take it for cut. */
void disconnect(struct frame_connection *c);

/* The request of the command line, once, or the next line of the prompt; NULL at the end.
 * Valid until the next call. */
char *next_request(struct arguments *arguments);

/* Writes all of it, also if the descriptor does not block; fails if it cannot. */
void show(int fd, const void *data, size_t len);

/* The same for standard output, as printf(3), which would lose what does not fit there. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line on stderr with the program's name. It is one write, so that lines of several threads do
 * not mix. A server that would have to wait for who reads it drops the line. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Shows the output of a command, frees it, and returns the command's exit status. */
int show_output(struct exec_output *output, const struct exec_result *result);

/* The exit status of the program for the result of a command. Warns if the command was ended
 * early. */
int status_of_result(const struct exec_result *result);
int status_of(int64_t exit_code);

/* Reports the failure of a call of the library: returns exit_failure if the connection is
 * still usable, else exits with it. */
int report(int code);

/* What frame_last_error() says after a request has failed; if the server closed the connection
 * before its first reply, also what it may have wanted. */
const char *reason_of(int code);

/* ---- a server, in server.c */

/* What serves frames: the library's server, and what belongs to it here. */
struct service {
    const struct arguments *arguments;
    struct frame_server *server;
    struct auth_keyring *ring; /* NULL: it has no keys */
    int signals;
};

/* Makes a server of frames, to which the caller then adds what it serves. */
struct service open_service(const struct arguments *arguments);

/* Listens, and serves until SIGINT or SIGTERM, and then until no request is left. A second signal
 * ends them at once, and the program by that signal. Returns EXIT_SUCCESS. */
int run_service(const struct service *service);

/* Serves one client until it disconnects, or one datagram of fd, if there is one. */
typedef void serve_fn(int fd, void *context);

/* For a wire without frames: listens, and serves each client that proves its key in a thread of
 * its own. Returns EXIT_SUCCESS after SIGINT or SIGTERM, when no reply is in flight; a second
 * signal ends the program at once. */
int serve_connections(const struct arguments *arguments, serve_fn *serve, void *context);

/* The same for datagrams: `count` threads call serve when one may have arrived. */
int serve_datagrams(const struct arguments *arguments, int count, serve_fn *serve, void *context);

/* Waits for the next request on a socket; false if the server was stopped first. */
bool request_comes(int fd);

/* Parts of such a server, for a program with its own loop. open_signals() is readable after SIGINT
 * or SIGTERM and, if the keys can be read again, SIGHUP. next_signal() consumes one and returns it.
 * After let_signals_end() SIGINT and SIGTERM end the program. */
int open_signals(bool hangup);
int next_signal(int signals);
void let_signals_end(void);

/* ---- sockets */

/* The socket of a connection. To read from it the connection needs FRAME_CONNECTION_EXACT, or
 * has read ahead. */
int socket_of(struct frame_connection *c);

/* A listening socket, at HOST and PORT, and the first line of a server: where that is. */
int open_listener(const struct arguments *arguments);
void announce(int fd);

/* A datagram socket: bound to HOST and PORT for a server, connected to them for a client. */
int open_datagrams(const struct arguments *arguments, bool server);

/* Milliseconds on the monotonic clock. */
int64_t now_ms(void);

/* Bytes without a frame; false or -1 if the connection cannot be used any more. */
bool send_all(int fd, const void *data, size_t len);
bool recv_exactly(int fd, void *buffer, size_t len);
ssize_t recv_some(int fd, void *buffer, size_t size); /* 0 at the end of the stream */

#endif
