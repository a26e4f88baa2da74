/* framefd: messages, proof of a key, remote commands and files over any file descriptor.
 * Made by `make header` from src/ffi; do not edit.
 *
 *   1  basics                versions, texts of errors, limits and times         4
 *   2  one message           sent or received on a raw descriptor                6
 *   3  headers               read and built, field by field                     12
 *   4  addresses             connect, listen, accept                             4
 *   5  connections           a conversation: messages, bodies, calls            21
 *   6  event loops           bytes in, frames out: no descriptor, no clock      10
 *   7  keys                  sealed connections, the plain handshake, key files, rings of keys 21
 *   8  commands, client      run at the peer, at once or streamed               11
 *   9  commands, server      run here, for a peer                                3
 *  10  files, client         put, get, trees, stat, list, mkdir                  7
 *  11  files, server         served below one directory                          2
 *  12  datagrams             frames and commands over UDP or Unix sockets        7
 *  13  serving               a server for connections, commands, files and requests of your own 13
 *  14  appendix              every error code, in words
 *                                                                     in all 121 functions
 *
 * For every function, unless its comment says otherwise:
 *
 * - It returns 0 or a count, or a negative FRAME_E... code. frame_strerror() returns a line
 *   for each code, frame_last_error() the details of this thread's last failure. A code of
 *   -100 or below was received in an error reply: the connection is still usable.
 * - Descriptors are borrowed. They are never closed, their flags are never changed, and
 *   nothing beyond the message is read, except by a connection. They may block or not.
 * - No call changes the process: its signal handlers and mask, working directory,
 *   environment, locale or global state. No SIGPIPE is raised, and nothing is printed.
 * - One deadline covers a whole call, on the monotonic clock.
 * - Options may be NULL. Their first member is their size, which ..._INIT sets:
 *       struct frame_options opts = FRAME_OPTIONS_INIT;
 *   A member that is 0 has its default. No struct has padding at its end.
 * - An output parameter may be NULL only if its function says so. After a failure an output
 *   pointer is set to NULL.
 * - Each kind of object has its own ..._free(), which ignores NULL.
 * - Threads may make any calls at the same time on different objects and descriptors. An
 *   object or function that allows more says so.
 * - Everything exists since version 0.1, unless its comment names another.
 */
#ifndef FRAMEFD_H
#define FRAMEFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ======================================================================== 1  basics ====== */
/*   if (frame_abi_version() != FRAME_ABI_VERSION) ...         after dlopen(3)
 *   fprintf(stderr, "%s\n", frame_last_error());            after a code below 0 */

/* The version of the library that this header belongs to. */
#define FRAME_VERSION_MAJOR 0
/* See FRAME_VERSION_MAJOR. */
#define FRAME_VERSION_MINOR 1
/* See FRAME_VERSION_MAJOR. */
#define FRAME_VERSION_PATCH 0
/* It changes when programs must be rebuilt. Compare it with frame_abi_version(). */
#define FRAME_ABI_VERSION 0

/* The version of the library as text, such as "0.1.0".
 *
 * The text is static. May be called from any thread and from a signal handler. Cannot
 * fail. */
const char *frame_version(void);

/* The version of the library's binary interface. A program that was built with another
 * FRAME_ABI_VERSION must not use the library.
 *
 * May be called from any thread and from a signal handler. Cannot fail. */
int frame_abi_version(void);

/* One line of English for a code, without a full stop.
 *
 * Every int has a text; it is static. May be called from any thread and from a signal
 * handler. Cannot fail. */
const char *frame_strerror(int code);

/* This thread's last failure in words: the line of its code, then the details, such as the
 * expected value, the received one and the text of the errno. It is for people; a program
 * branches on the code.
 *
 * The text is empty before the first failure. It is valid until the thread's next failure or
 * its end. Bytes of the peer are escaped. May be called from any thread. Cannot fail. */
const char *frame_last_error(void);

/* For a `timeout_ms`: wait forever. */
#define FRAME_NO_TIMEOUT (-1)
/* For a `timeout_ms`: do not wait at all. */
#define FRAME_DONT_WAIT (-2)
/* For a limit: none. */
#define FRAME_NO_LIMIT UINT64_MAX
/* As a timeout parameter: the object's own timeout. As a member, 0 means the default. */
#define FRAME_DEFAULT_TIMEOUT INT32_MIN

/* =================================================================== 2  one message ====== */
/*   frame_send(fd, "{\"cmd\":\"add\"}", body, len, NULL);
 *   frame_recv(fd, &frame, NULL);  frame_body(frame, &len);  frame_free(frame);
 * These keep no state and read no byte beyond the message. For a conversation use a connection. */

/* For frame_options.format and frame_connection_options.format: a message is a JSON header and
 * a body. */
#define FRAME_FORMAT_FRAMES 0
/* The same: a message is a length and bytes. Headers are NULL. */
#define FRAME_FORMAT_PACKETS 1
/* For frame_options.prefix, added to the width in bytes (1, 2, 4 or 8): the most significant
 * byte comes first. */
#define FRAME_PREFIX_BIG_ENDIAN 256
/* For frame_options.prefix, added to the width: the length has no sign bit. */
#define FRAME_PREFIX_UNSIGNED 512

/* How messages are sent and received on a raw descriptor or without one. Initialise it with
 * FRAME_OPTIONS_INIT; a member that is 0 has its default. */
struct frame_options {
    /* sizeof(struct frame_options), set by FRAME_OPTIONS_INIT. */
    uint32_t size;
    /* Milliseconds for the whole call, on the monotonic clock; the default is
     * FRAME_NO_TIMEOUT. FRAME_DONT_WAIT fails at once if the call would have to wait. */
    int32_t timeout_ms;
    /* Bytes of header text; default 64 KiB, at most 16 MiB. */
    uint64_t max_header;
    /* Bytes of a body or packet received into memory; default 64 MiB, or FRAME_NO_LIMIT. */
    uint64_t max_body;
    /* Levels of nesting in a received header; default 32, at most 127. */
    uint32_t max_depth;
    /* FRAME_FORMAT_FRAMES or FRAME_FORMAT_PACKETS. */
    uint32_t format;
    /* For packets: the width of the length in bytes (1, 2, 4 or 8), plus
     * FRAME_PREFIX_BIG_ENDIAN and FRAME_PREFIX_UNSIGNED; default 4, little-endian, signed.
     * Erlang's {packet,N} and tokio's LengthDelimitedCodec are big-endian and unsigned. */
    uint32_t prefix;
    /* Must be 0: none are defined. */
    uint32_t flags;
    /* Called before each wait, after each signal, and at least once a second while a call
     * waits. Return non-zero to end the call with FRAME_ECANCELED, or with FRAME_ESTALLED
     * inside a message. May be NULL. */
    int (*interrupted)(void *context);
    /* Passed to interrupted(). */
    void *context;
};
#define FRAME_OPTIONS_INIT { sizeof(struct frame_options), 0, 0, 0, 0, 0, 0, 0, NULL, NULL }

/* A received message that owns its memory.
 *
 * It belongs to the caller and is freed with frame_free(). It never changes: any number of
 * threads may read it. */
struct frame;

/* Sends one message: a JSON header and body_len bytes of body, in one system call if the
 * descriptor takes it.
 *
 * header is a JSON object in UTF-8 without the key data_size, which the library adds. NULL is
 * an empty object; for packets header must be NULL. body may be NULL if body_len is 0. opts may
 * be NULL.
 *
 * Everything is borrowed for the call. fd is a socket, pipe or terminal, blocking or not; it is
 * not closed and none of its flags is changed. Set TCP_NODELAY on a TCP socket: otherwise a
 * small message may wait for the peer's delayed acknowledgement. Only one thread at a time may
 * send on a descriptor; another may receive meanwhile.
 *
 * Returns 0. Nothing was sent and the stream is in sync: FRAME_ETIMEDOUT, FRAME_ECANCELED,
 * FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size), FRAME_ETOOBIG
 * (the header exceeds max_header, or the length does not fit the prefix). The stream is out of
 * sync, close it: FRAME_ESTALLED (a part was sent before the timeout or the interruption),
 * FRAME_EBADF, FRAME_EIO with errno (EPIPE if the peer is gone; no SIGPIPE is raised). */
int frame_send(int fd, const char *header, const void *body, size_t body_len,
               const struct frame_options *opts);

/* Receives one message into newly allocated memory.
 *
 * On success *out is the message, which the caller frees with frame_free(); on failure it is
 * NULL. opts may be NULL. fd is borrowed, is not read beyond the message, and keeps its flags.
 * Only one thread at a time may receive on a descriptor.
 *
 * Returns 0. The stream is in sync: FRAME_ECLOSED (the peer closed it between messages),
 * FRAME_ETIMEDOUT and FRAME_ECANCELED (nothing was received). The stream is out of sync, close
 * it: FRAME_ETRUNCATED (it ended inside the message), FRAME_ESTALLED (the timeout or the
 * interruption came inside the message), FRAME_EBADLENGTH, FRAME_ETOOBIG (above max_header or
 * max_body; nothing is allocated for it), FRAME_EBADJSON, FRAME_EBADFIELD (data_size is not a
 * plain integer, or is given twice), FRAME_ENOMEM, FRAME_EIO with errno. FRAME_EINVAL,
 * FRAME_EBADF: nothing was read. */
int frame_recv(int fd, struct frame **out, const struct frame_options *opts);

struct frame_view; /* section 2 */
/* Receives one message into the caller's buffer: the header's text, a NUL, then the body at a
 * multiple of 16 bytes from buf. A packet's bytes start at buf. The library allocates nothing
 * if the message fits and its header has less than 64 bytes.
 *
 * buf has cap bytes and may be NULL if cap is 0. If the message fits, *view points into buf and
 * rest is NULL. If it does not fit, *rest is the whole message as from frame_recv(), and *view
 * points into it until frame_free(). max_body applies to *rest only. rest may be NULL: then a
 * message that does not fit is refused. opts may be NULL.
 *
 * Returns 0 or a code of frame_recv(). FRAME_ETOOBIG: the message does not fit and rest is
 * NULL, or it exceeds max_body. The stream is then out of sync. */
int frame_recv_into(int fd, void *buf, size_t cap, const struct frame_options *opts,
                    struct frame_view *view, struct frame **rest);

/* The header of a message: the JSON text as it was received, with a NUL after it.
 *
 * len, if len is not NULL, is its length without the NUL. The text is valid until
 * frame_free(). NULL with a length of 0 for a packet or a NULL message. */
const char *frame_header(const struct frame *frame, size_t *len);

/* The body of a message, or the bytes of a packet.
 *
 * len, if len is not NULL, is their number. The bytes are valid until frame_free(). NULL with
 * a length of 0 for an empty body or a NULL message. */
const void *frame_body(const struct frame *frame, size_t *len);

/* Frees a message; NULL is ignored. */
void frame_free(struct frame *frame);

/* A message in borrowed memory: that of a connection, of a decoder or of the caller. The
 * function that fills it says how long it is valid. It also describes a message to be queued.
 *
 * The struct never grows: it is used in arrays. */
struct frame_view {
    /* The JSON text of the header with a NUL after it; NULL for a packet. */
    const char *header;
    /* Its length without the NUL. It is ignored for a message to be queued. */
    size_t header_len;
    /* The body, or the bytes of a packet; NULL if there are none. */
    const void *body;
    /* Their number. */
    size_t body_len;
};

/* ======================================================================= 3  headers ====== */
/*   frame_header_string(view.header, "cmd", cmd, sizeof cmd);    the text of any header
 *   b = frame_builder_new();  frame_builder_int(b, "n", 3);  text = frame_builder_text(b, NULL);
 * A failure sticks in a builder, and each function accepts NULL: check the text only. */

/* Copies the string at the top-level key `key` to buf, unescaped and with a NUL after it.
 *
 * header is the text of a header. NULL, which is the header of a packet, has no fields. buf has
 * cap bytes, one of them for the NUL; NULL asks for the length only. Any thread.
 *
 * Returns the length without the NUL. FRAME_EMISSING: no such key. FRAME_EBADFIELD: not a
 * string, a string with a NUL inside, or the key is given twice. FRAME_ETOOBIG: longer than
 * buf; nothing was written. FRAME_EBADJSON: header is not a JSON object. FRAME_EINVAL. */
int64_t frame_header_string(const char *header, const char *key, char *buf, size_t cap);

/* Reads the integer at the top-level key `key` into *value.
 *
 * header is as for frame_header_string(). After a failure *value is unchanged, so it can hold a
 * default before the call. Any thread.
 *
 * Returns 0, FRAME_EMISSING, FRAME_EBADFIELD (not an integer, outside of int64_t, or the key is
 * given twice), FRAME_EBADJSON or FRAME_EINVAL. */
int frame_header_int(const char *header, const char *key, int64_t *value);

/* Reads the boolean at the top-level key `key` into *value. Otherwise as frame_header_int(). */
int frame_header_bool(const char *header, const char *key, bool *value);

/* Finds the JSON text of the value at the top-level key `key`, which may have any type.
 *
 * On success *json points into header and is not NUL-terminated; on failure it is NULL. header
 * is as for frame_header_string(). Any thread.
 *
 * Returns its length, FRAME_EMISSING, FRAME_EBADFIELD (the key is given twice), FRAME_EBADJSON
 * or FRAME_EINVAL. */
int64_t frame_header_json(const char *header, const char *key, const char **json);

/* A header under construction.
 *
 * It belongs to the caller, is freed with frame_builder_free() and may be used by one thread
 * at a time. A failure sticks: every later call returns its code, and there is no text. */
struct frame_builder;

/* Makes a builder with an empty object, freed with frame_builder_free(). Returns NULL if there
 * is no memory; the other functions accept a NULL builder and fail. */
struct frame_builder *frame_builder_new(void);

/* Adds a string; quotes, newlines and the like are escaped.
 *
 * key and value are UTF-8 and are copied. value_len is the number of bytes of value, or
 * SIZE_MAX if value ends with a NUL. value may be NULL if value_len is 0.
 *
 * Returns 0, or the first failure of this builder: FRAME_EBADFIELD (the object has the key
 * already, or it is data_size; value is not UTF-8), FRAME_ENOMEM (builder is NULL) or
 * FRAME_EINVAL. */
int frame_builder_string(struct frame_builder *builder, const char *key, const char *value,
                         size_t value_len);

/* Adds an integer. Returns as frame_builder_string(). */
int frame_builder_int(struct frame_builder *builder, const char *key, int64_t value);

/* Adds true or false. Returns as frame_builder_string(). */
int frame_builder_bool(struct frame_builder *builder, const char *key, bool value);

/* Adds a value that is already JSON text: an array, an object, null, a fraction.
 *
 * Returns as frame_builder_string(), or FRAME_EBADJSON. */
int frame_builder_json(struct frame_builder *builder, const char *key, const char *json);

/* Adds the members of another header, byte for byte, as a relay does. It leaves out data_size,
 * and members whose key the object has already.
 *
 * Returns as frame_builder_string(), or FRAME_EBADJSON. */
int frame_builder_merge(struct frame_builder *builder, const char *header);

/* The current object as JSON text with a NUL after it.
 *
 * len, if len is not NULL, is its length without the NUL. The text is valid until the builder
 * is changed or freed. NULL with a length of 0 for a NULL builder and after a failure; the
 * builder's other functions return the code of that failure. */
const char *frame_builder_text(const struct frame_builder *builder, size_t *len);

/* Frees a builder; NULL is ignored. */
void frame_builder_free(struct frame_builder *builder);

/* ===================================================================== 4  addresses ====== */
/*   frame_connect("localhost:7000", NULL, &c);
 *   fd = frame_listen("[::]:7000", 0, 0);  frame_accept(fd, NULL, -1, &c);
 * An address is "host:port", "[::1]:port", "[fe80::1%eth0]:port", "unix:/path", "unix:@name"
 * or "vsock:cid:port". */

struct frame_connection_options; /* section 5 */
struct frame_connection; /* section 5 */
/* Connects to an address and makes a connection, which owns the descriptor.
 *
 * If a name has several addresses, they are tried in order. opts may be NULL;
 * FRAME_CONNECTION_OWN is implied. connect_timeout_ms covers all of it except the lookup of a
 * name, which the C library does without a deadline.
 *
 * On success *out is the connection; on failure it is NULL. Returns 0, FRAME_ETIMEDOUT,
 * FRAME_EIO with errno (ECONNREFUSED, EHOSTUNREACH and so on), FRAME_ENOENT (no such name),
 * FRAME_EINVAL (invalid address, named in frame_last_error()), FRAME_ENOMEM. */
int frame_connect(const char *address, const struct frame_connection_options *opts,
                  struct frame_connection **out);

/* Makes a listening socket. The caller owns it; it is closed on exec.
 *
 * backlog is the length of its queue; 0 is the default, 4,096. mode is that of a Unix socket's
 * file; 0 is 0600. A socket file that nobody listens on is replaced; any other file stays and
 * is an error. A TCP port can be used again at once after its last listener (SO_REUSEADDR).
 *
 * Returns the descriptor, FRAME_EIO with errno (EADDRINUSE, EACCES and so on), FRAME_EEXIST,
 * FRAME_ENOENT or FRAME_EINVAL. */
int frame_listen(const char *address, int backlog, uint32_t mode);

/* Accepts the next connection of a listening socket. The socket may block or not, and keeps its
 * flags.
 *
 * On success *out is the connection, which owns its descriptor; on failure it is NULL. opts may
 * be NULL; FRAME_CONNECTION_OWN is implied. Any number of threads may accept from one socket.
 *
 * Returns 0, FRAME_ETIMEDOUT, FRAME_EIO with errno (EMFILE: the connection stays in the queue),
 * FRAME_EBADF, FRAME_EINVAL, FRAME_ENOMEM. */
int frame_accept(int listening_fd, const struct frame_connection_options *opts, int timeout_ms,
                 struct frame_connection **out);

/* Writes the address of a socket, or of its peer, to buf as text with a NUL. Functions that
 * take an address accept this text. A Unix socket without a name is "unix:".
 *
 * buf may be NULL to ask for the length only. Returns the length without the NUL, FRAME_ETOOBIG
 * (cap is too small; nothing was written), FRAME_EBADF (not a socket), FRAME_ENOTSUP (another
 * address family), FRAME_EIO with errno (ENOTCONN). */
int64_t frame_address(int fd, bool of_peer, char *buf, size_t cap);

/* =================================================================== 5  connections ====== */
/*   frame_connection_send(c, header, body, len, -1);
 *   while ((n = frame_connection_next(c, views, 64, -1)) > 0) ...
 *   frame_connection_call(c, "{\"cmd\":\"get\"}", NULL, 0, 5000, &reply);
 * A parameter timeout_ms is as for poll(2): 0 does not wait, -1 waits forever, and
 * FRAME_DEFAULT_TIMEOUT is the connection's own. */

/* For frame_connection_options.flags: the connection owns the descriptors once
 * frame_connection_new() has returned 0, and frame_connection_free() closes them. */
#define FRAME_CONNECTION_OWN 1
/* The same: one thread may send while another receives. Then a receive does not write queued
 * messages, and a send does not read from the peer. */
#define FRAME_CONNECTION_DUPLEX 2
/* The same: no byte is read beyond the current message, so the descriptor can be passed on
 * after each message. A send does not read from the peer either. */
#define FRAME_CONNECTION_EXACT 4
/* The same: TCP_NODELAY is not changed. Without this flag a connection sets it on a TCP socket
 * and leaves it set. The library changes nothing else on a borrowed descriptor. */
#define FRAME_CONNECTION_AS_IS 8
/* The same: keepalive probes are enabled (SO_KEEPALIVE of socket(7)). */
#define FRAME_CONNECTION_KEEPALIVE 16

/* How a connection is made. */
struct frame_connection_options {
    /* sizeof(struct frame_connection_options). */
    uint32_t size;
    /* FRAME_CONNECTION_... flags, combined with |. */
    uint32_t flags;
    /* Milliseconds that FRAME_DEFAULT_TIMEOUT means; default FRAME_NO_TIMEOUT. */
    int32_t timeout_ms;
    /* Milliseconds for frame_connect() with all addresses of the name; default 30,000. */
    int32_t connect_timeout_ms;
    /* Bytes of header text; default 64 KiB, at most 16 MiB. */
    uint64_t max_header;
    /* Bytes of a body or packet that is received into memory; default 64 MiB, or
     * FRAME_NO_LIMIT. A body in pieces has no limit. */
    uint64_t max_body;
    /* Levels of nesting in a received header; default 32, at most 127. */
    uint32_t max_depth;
    /* FRAME_FORMAT_FRAMES or FRAME_FORMAT_PACKETS. */
    uint32_t format;
    /* For packets: the width of the length in bytes (1, 2, 4 or 8), plus
     * FRAME_PREFIX_BIG_ENDIAN and FRAME_PREFIX_UNSIGNED; default 4, little-endian, signed. */
    uint32_t prefix;
    /* 0. */
    uint32_t reserved;
    /* The most bytes that may be accepted and not yet written; default 32 MiB. */
    uint64_t max_queue;
    /* Called before each wait, after each signal, and at least once a second while a call
     * lasts. Return non-zero to end the call with FRAME_ECANCELED. A call that does not have to
     * wait, or has a timeout of 0, does not call it. May be NULL. */
    int (*interrupted)(void *context);
    /* Passed to interrupted(). */
    void *context;
};
#define FRAME_CONNECTION_OPTIONS_INIT { sizeof(struct frame_connection_options), 0, 0, 0, \
    0, 0, 0, 0, 0, 0, 0, NULL, NULL }

/* A conversation over one or two descriptors: messages, bodies in pieces, calls, commands and
 * files, one after the other.
 *
 * It belongs to the caller, and is freed with frame_connection_free(). One thread at a time may
 * use it, or one in each direction with FRAME_CONNECTION_DUPLEX; another thread gets
 * FRAME_EBUSY. Functions that any thread or a signal handler may call say so.
 *
 * After FRAME_ETIMEDOUT and FRAME_ECANCELED no message is lost: call again. An exchange (call,
 * command, file) that fails after a part of its request was accepted breaks the connection. A
 * framing error breaks it too, and so does an end of stream inside a message. Then every call
 * except frame_connection_inspect(), _unread(), _abort() and _free() returns FRAME_EBROKEN, and
 * frame_last_error() names the first cause.
 *
 * After fork(2) every call in the child except _inspect(), _unread() and _free() returns
 * FRAME_EFORKED. */
struct frame_connection;

/* Makes a connection of read_fd and write_fd: the same socket twice, or two pipes. -1 is a
 * missing direction.
 *
 * On success *out is the connection; on failure it is NULL, and the caller keeps the
 * descriptors. They are borrowed and must stay open until frame_connection_free(), which closes
 * them only with FRAME_CONNECTION_OWN. They are sockets of type SOCK_STREAM, pipes or terminals
 * in raw mode, blocking or not. opts may be NULL.
 *
 * Returns 0, FRAME_EBADF (not open), FRAME_EINVAL (a datagram socket, or options), FRAME_ENOMEM
 * or FRAME_EIO with errno (EMFILE: a descriptor that is not a socket needs an eventfd(2)). */
int frame_connection_new(int read_fd, int write_fd,
                         const struct frame_connection_options *opts,
                         struct frame_connection **out);

/* Frees a connection; NULL is ignored. Queued bytes are dropped, and nothing is sent or shut
 * down: see frame_connection_end(). The descriptors are closed if the connection owns them. */
void frame_connection_free(struct frame_connection *c);

/* Writes all queued bytes and ends this direction: the peer sees an end of stream. (Only on a
 * socket; other descriptors end when they are closed.) On a sealed connection an end mark is
 * sent first, on every kind of descriptor. Without it the peer cannot tell the end from a cut,
 * and gets FRAME_ETRUNCATED: end a sealed connection before you free it.
 *
 * With linger it then reads and drops at most 256 KiB until the peer has ended its direction
 * too: if a socket is closed with unread input, the peer may lose the last reply. Nothing can
 * be received after that. Without linger only this direction ends. With FRAME_CONNECTION_DUPLEX
 * another thread may be receiving meanwhile.
 *
 * Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: call again. FRAME_ESTATE: a body in pieces is
 * not complete, or linger was asked for after frame_connection_unread(). FRAME_EIO with errno,
 * FRAME_EBROKEN, FRAME_EABORTED, FRAME_EFORKED, FRAME_EBUSY. */
int frame_connection_end(struct frame_connection *c, bool linger, int timeout_ms);

/* Aborts the connection. Waiting calls return FRAME_EABORTED within 100 ms, later calls at
 * once. It does not interrupt a name lookup or the kernel's work on a file.
 *
 * A socket is shut down, for all processes that share it. In a child of fork(2) the call does
 * nothing. Any thread and any signal handler may call it until the connection is freed.
 *
 * Returns 0 or FRAME_EINVAL (NULL), and leaves frame_last_error() as it is. */
int frame_connection_abort(struct frame_connection *c);

/* Stops receiving for good, and returns the bytes that were read ahead. They are the next part
 * of the stream, for code that continues to read from the descriptor. A sealed connection has no
 * such bytes.
 *
 * bytes is valid until frame_connection_free(), and *len is its length. The call works on a
 * broken connection, and in a child of fork(2).
 *
 * Returns 0, FRAME_EINVAL, FRAME_EBUSY, FRAME_ENOMEM, FRAME_ESTATE (the connection is sealed),
 * or FRAME_EFORKED: this is a child of fork(2), and another thread was using the connection
 * during the fork. */
int frame_connection_unread(struct frame_connection *c, const void **bytes, size_t *len);

/* For frame_connection_state.flags: this side has ended its direction. */
#define FRAME_STATE_ENDED 1
/* The same: the peer has ended its direction. */
#define FRAME_STATE_PEER_ENDED 2
/* The same: a streamed command is running, see exec_start(). */
#define FRAME_STATE_EXEC 4
/* The same: everything that is sent and received is sealed. */
#define FRAME_STATE_SEALED 8

/* The state of a connection, and the events that it waits for. */
struct frame_connection_state {
    /* sizeof(struct frame_connection_state). */
    uint32_t size;
    /* FRAME_STATE_... flags, combined with |. */
    uint32_t flags;
    /* The code of the failure that broke the connection or its sending direction, or 0. */
    int32_t broken;
    /* The descriptor to poll(2) for reading, or -1. */
    int32_t read_fd;
    /* The descriptor to poll(2) for writing, or -1. */
    int32_t write_fd;
    /* Events to poll read_fd for. Poll only after a receive has returned FRAME_ETIMEDOUT:
     * messages may have been read ahead. */
    int16_t read_events;
    /* Events to poll write_fd for; 0 if nothing is queued. */
    int16_t write_events;
    /* Bytes of a received body in pieces that were not read yet. */
    uint64_t to_receive;
    /* Bytes of a body in pieces that were not passed to frame_connection_write() yet. */
    uint64_t to_send;
    /* Bytes that were accepted and not written yet. */
    uint64_t queued;
};
#define FRAME_CONNECTION_STATE_INIT { sizeof(struct frame_connection_state), 0, 0, 0, 0, 0, \
    0, 0, 0, 0 }

/* Writes the state of a connection to *out. A program with its own event loop receives with a
 * timeout of 0 until FRAME_ETIMEDOUT, then polls.
 *
 * Returns 0, FRAME_EINVAL or FRAME_EBUSY; never FRAME_EBROKEN. */
int frame_connection_inspect(struct frame_connection *c, struct frame_connection_state *out);

/* A process at the other end of a Unix socket, as it was when it connected, began to listen, or
 * made the pair: SO_PEERCRED of unix(7). */
struct frame_credentials {
    /* sizeof(struct frame_credentials). */
    uint32_t size;
    /* Its process id; 0 if it is in another pid namespace. The process may have ended since, and
     * another one have the number. */
    int32_t pid;
    /* Its effective user id. */
    uint32_t uid;
    /* Its effective group id. */
    uint32_t gid;
};
#define FRAME_CREDENTIALS_INIT { sizeof(struct frame_credentials), 0, 0, 0 }

/* Writes to *out who is at the other end of a Unix socket, on either side of it.
 *
 * Returns 0, FRAME_ENOTSUP (another kind of descriptor), FRAME_EINVAL, FRAME_EBUSY. */
int frame_connection_credentials(struct frame_connection *c, struct frame_credentials *out);

/* Receives one message into newly allocated memory.
 *
 * On success *out is the message, which the caller frees with frame_free(); on failure it is
 * NULL.
 *
 * Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: nothing is lost, call again. FRAME_ECLOSED:
 * the peer closed the stream between two messages. These break the connection:
 * FRAME_ETRUNCATED, FRAME_EBADLENGTH, FRAME_ETOOBIG (above max_header or max_body),
 * FRAME_EBADJSON, FRAME_EBADFIELD (data_size), FRAME_EIO with errno, and FRAME_EAUTH (it is
 * sealed, and its bytes were changed or are not the peer's). FRAME_EBROKEN,
 * FRAME_EABORTED, FRAME_EFORKED, FRAME_EBUSY, FRAME_EINVAL, FRAME_ENOMEM, FRAME_EBADF (the
 * connection has nothing to read from), FRAME_ESTATE (after frame_connection_unread()). */
int frame_connection_recv(struct frame_connection *c, int timeout_ms, struct frame **out);

/* Receives at most max messages in order: those that were received already, or it waits for
 * one.
 *
 * views has room for max messages, and max is at least 1. They are valid until the next receive
 * on this connection, or until it is freed.
 *
 * Returns their number, at least 1, or a code of frame_connection_recv(). A failure is returned
 * after all messages before it. */
int64_t frame_connection_next(struct frame_connection *c, struct frame_view *views, size_t max,
                              int timeout_ms);

/* Receives the header of the next message. Read its body with frame_connection_read() and
 * frame_connection_read_to(), or pass it to exec_serve() or frame_file_serve(). The next
 * receive drops the unread rest.
 *
 * view has the header, which is valid until the next receive, and no body. *body_len is the
 * length of the body, of any size; body_len may be NULL.
 *
 * Returns 0 or a code of frame_connection_recv(); FRAME_ESTATE for packets, which have no
 * header. */
int frame_connection_recv_header(struct frame_connection *c, int timeout_ms,
                                 struct frame_view *view, uint64_t *body_len);

/* Reads 1 to cap bytes of the body into buf, as they are received.
 *
 * Returns their number, 0 at the end of the body, or a code of frame_connection_recv(). cap is
 * at least 1. */
int64_t frame_connection_read(struct frame_connection *c, void *buf, size_t cap,
                              int timeout_ms);

/* Copies the rest of the body to a descriptor, which is borrowed.
 *
 * Returns the number of bytes copied. It is less than the rest if the call timed out;
 * frame_connection_inspect() reports the bytes that are left. A failure of to_fd (FRAME_EIO
 * with errno, FRAME_ENOSPC) leaves the connection in sync, and the rest of the body can still
 * be read. Otherwise a code of frame_connection_recv(). */
int64_t frame_connection_read_to(struct frame_connection *c, int to_fd, int timeout_ms);

/* Sends one message: a JSON header and body_len bytes of body, in one system call if the
 * descriptor takes it.
 *
 * header is a JSON object without data_size, which the library adds. NULL is an empty object;
 * for packets header must be NULL. body may be NULL if body_len is 0. Both are borrowed for the
 * call.
 *
 * Returns 0: the whole message was written. 1: it was accepted and a part is queued; do not
 * send it again. FRAME_ETIMEDOUT and FRAME_ECANCELED: nothing was accepted; it can be sent
 * again. FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size),
 * FRAME_ETOOBIG (above max_header, or too long for the prefix), FRAME_ESTATE (a body in pieces
 * is not complete, or this direction was ended): nothing was accepted. FRAME_EIO with errno:
 * nothing can be sent any more, but messages that the peer has sent can be received.
 * FRAME_EBROKEN, FRAME_EABORTED, FRAME_EFORKED, FRAME_EBUSY, FRAME_ENOMEM, FRAME_EBADF (nothing
 * to write to). */
int frame_connection_send(struct frame_connection *c, const char *header, const void *body,
                          size_t body_len, int timeout_ms);

/* Queues messages, to be written together: once there are 64 KiB, by frame_connection_flush(),
 * and before a receive waits. With 64 KiB queued the call waits for room, up to timeout_ms.
 * After that, and at once with 0, it accepts more, up to max_queue.
 *
 * messages is an array of count messages, borrowed for the call. Headers and bodies are as for
 * frame_connection_send().
 *
 * Returns the number of accepted messages. It is less than count if the call timed out or one
 * of them is refused. If the first one fails: a code of frame_connection_send(). */
int64_t frame_connection_queue(struct frame_connection *c, const struct frame_view *messages,
                               size_t count, int timeout_ms);

/* Writes all queued bytes.
 *
 * Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: not all bytes were written, call again;
 * frame_connection_inspect() reports how many are left. Otherwise a code of
 * frame_connection_send(). */
int frame_connection_flush(struct frame_connection *c, int timeout_ms);

/* Begins a message with a body of body_len bytes, any number. Pass the body in pieces with
 * frame_connection_write() and frame_connection_write_from().
 *
 * The header is written together with the first piece. Until the body is complete every other
 * function that sends returns FRAME_ESTATE.
 *
 * Returns 0 or a code of frame_connection_send(). It never waits. */
int frame_connection_begin(struct frame_connection *c, const char *header, uint64_t body_len);

/* Sends the next len bytes of the body.
 *
 * Returns the number of accepted bytes. It is less than len if the call timed out; pass the
 * others again. FRAME_EINVAL: more bytes than the body has left; nothing was accepted.
 * Otherwise a code of frame_connection_send(). */
int64_t frame_connection_write(struct frame_connection *c, const void *data, size_t len,
                               int timeout_ms);

/* Sends the next len bytes of the body from a descriptor, which is borrowed.
 *
 * Returns the number of accepted bytes. It is less than len if from_fd has ended or the call
 * timed out. All bytes that were read from from_fd were accepted. A failure of from_fd is
 * FRAME_EIO with errno; the connection stays in sync, and the rest of the body can still be
 * sent. Otherwise a code of frame_connection_write(). */
int64_t frame_connection_write_from(struct frame_connection *c, int from_fd, uint64_t len,
                                    int timeout_ms);

/* Sends a request and receives its reply, which repeats the request's id and has "status":"ok".
 *
 * header is a JSON object without id and data_size, which the library adds. On success *reply
 * is the reply, which the caller frees with frame_free(); on failure it is NULL. timeout_ms
 * covers the whole exchange, and must not be 0: a call cannot be resumed.
 *
 * Returns 0. -100 and below: an error reply; frame_last_error() has its message, and the
 * connection is in sync, unless the peer read only a part of the request. Once a byte of the
 * request was accepted, every other failure breaks the connection: FRAME_ETIMEDOUT,
 * FRAME_ECANCELED, FRAME_EBADREPLY (the reply is for another request, or has no "status":"ok"),
 * FRAME_ECLOSED, and the codes of frame_connection_recv() and frame_connection_send().
 * FRAME_EINVAL: the header has an id, or timeout_ms is 0. Without a handshake, a peer that never
 * repeats an id is accepted too. */
int frame_connection_call(struct frame_connection *c, const char *header, const void *body,
                          size_t body_len, int timeout_ms, struct frame **reply);

/* Queues the reply to a request: "status":"ok", the request's id, the members of header, and
 * body_len bytes of body.
 *
 * request is the text of the request's header. header is a JSON object or NULL. Members that
 * the library writes (status, id, data_size) are FRAME_EBADFIELD. The call waits only as
 * frame_connection_queue() does: with 0 as timeout_ms not at all.
 * The next receive writes it; before frame_connection_free() call frame_connection_flush() or
 * frame_connection_end().
 *
 * Returns 0 or a code of frame_connection_send(). */
int frame_connection_reply(struct frame_connection *c, const char *request, const char *header,
                           const void *body, size_t body_len, int timeout_ms);

/* Queues the error reply to a request, with the reply code for `code`. message is text for
 * people, or NULL.
 *
 * code is a FRAME_E... code; FRAME_EREMOTE_... chooses a reply code directly. If the request
 * asks for a streamed command, input and signals that follow it are dropped, unless the
 * connection has FRAME_CONNECTION_DUPLEX. Otherwise as frame_connection_reply(). */
int frame_connection_reply_error(struct frame_connection *c, const char *request, int code,
                                 const char *message, int timeout_ms);

/* =================================================================== 6  event loops ====== */
/*   p = frame_decoder_reserve(d, &room);  n = read(fd, p, room);  frame_decoder_commit(d, n);
 *   while ((n = frame_decoder_next(d, views, 64)) > 0) ... */

/* Finds messages in the bytes of a stream. It reads no descriptor and never waits.
 *
 * It belongs to the caller, is freed with frame_decoder_free() and may be used by one thread at
 * a time. An error of the stream sticks: every later call returns it. */
struct frame_decoder;

/* Writes the bytes that precede a body: the length and the header of a frame, or the length of
 * a packet. The program then sends them and body_len bytes of body, for example with one
 * writev(2).
 *
 * buf has cap bytes; the length of header plus 43 is enough. NULL asks for the length only.
 * header is as for frame_send(). opts may be NULL; timeout_ms and interrupted do not apply. Any
 * thread.
 *
 * Returns the number of bytes. FRAME_ETOOBIG: more than cap, and nothing was written; or the
 * header exceeds max_header; or body_len does not fit the prefix. FRAME_EINVAL, FRAME_EBADJSON,
 * FRAME_EBADFIELD (the header has a data_size). */
int64_t frame_encode(void *buf, size_t cap, const char *header, uint64_t body_len,
                     const struct frame_options *opts);

/* Makes a decoder for a stream that is at the start of a message.
 *
 * On success *out is the decoder; on failure it is NULL. opts may be NULL; timeout_ms and
 * interrupted do not apply.
 *
 * Returns 0 or FRAME_EINVAL. */
int frame_decoder_new(const struct frame_options *opts, struct frame_decoder **out);

/* Frees a decoder and the memory of its messages; NULL is ignored. */
void frame_decoder_free(struct frame_decoder *decoder);

/* Reserves memory for the next bytes of the stream, to be filled by read(2). Then call
 * frame_decoder_commit() with their number.
 *
 * room, if room is not NULL, is the number of bytes that fit, at least 1. The memory belongs
 * to the decoder and is valid until the next call on it. It is 8 KiB at first, and 128 KiB once
 * reads keep filling it. For a longer body it grows with the bytes that were received, never
 * with the declared size.
 *
 * Returns NULL with a room of 0 if the decoder has failed or there is no memory. After a
 * failure frame_decoder_next() returns its code. */
void *frame_decoder_reserve(struct frame_decoder *decoder, size_t *room);

/* Reports that n bytes of the stream were written to the memory of frame_decoder_reserve().
 *
 * Returns 0, or FRAME_EINVAL: n is larger than the room was. */
int frame_decoder_commit(struct frame_decoder *decoder, size_t n);

/* Takes at most max complete messages out of the committed bytes, in order.
 *
 * views has room for max messages, and max is at least 1. They are valid until the next
 * frame_decoder_reserve(), or until the decoder is freed.
 *
 * Returns their number, 0 if the next message is not complete. FRAME_EBADLENGTH, FRAME_ETOOBIG
 * (above max_header or max_body), FRAME_EBADJSON, FRAME_EBADFIELD: the error sticks, and is
 * returned after all messages before it. FRAME_ESTATE: bytes of a body in pieces are left.
 * FRAME_EINVAL. */
int64_t frame_decoder_next(struct frame_decoder *decoder, struct frame_view *views,
                           size_t max);

/* Takes the header of the next frame if all of it was committed. Take its body with
 * frame_decoder_body(); max_body does not apply.
 *
 * view has the header, valid as long as a message of frame_decoder_next(), and no body.
 * body_len is the length of the body, of any size; body_len may be NULL.
 *
 * Returns 1, or 0 if the header is not complete. FRAME_ESTATE also for packets, which have no
 * header. Otherwise a code of frame_decoder_next(). */
int frame_decoder_next_header(struct frame_decoder *decoder, struct frame_view *view,
                              uint64_t *body_len);

/* Takes the committed bytes of a body in pieces.
 *
 * piece points to them and is valid as long as a message of frame_decoder_next(). It is NULL
 * if there are none.
 *
 * Returns their number, 0 at the end of the body. FRAME_ETIMEDOUT: more bytes are needed.
 * FRAME_ESTATE: no header was taken with frame_decoder_next_header(). FRAME_EINVAL. */
int64_t frame_decoder_body(struct frame_decoder *decoder, const void **piece);

/* The bytes that were committed and not taken, for a program that continues without the
 * decoder.
 *
 * len, if len is not NULL, is their number. The bytes are valid as long as a message of
 * frame_decoder_next(). NULL with a length of 0 if there are none. */
const void *frame_decoder_unread(const struct frame_decoder *decoder, size_t *len);

/* Call it at the end of the stream, after all complete messages were taken. It never returns 0.
 *
 * Returns FRAME_ECLOSED: the stream ended between two messages, a clean end. FRAME_ETRUNCATED:
 * it ended inside a message; the error sticks. Or the error that sticks already, or
 * FRAME_EINVAL. */
int frame_decoder_end(struct frame_decoder *decoder);

/* ========================================================================== 7  keys ====== */
/*   opts.key_id = "web-1";  opts.server_name = "db";
 *   frame_connection_auth_client(c, key, len, &opts);
 *   frame_connection_auth_server(c, ring, &opts, &who);    without a key_id
 *   auth_server(fd, key, len, NULL);                       plain, on a raw descriptor */

/* For auth_options.flags: the plain handshake, for trusted networks and for peers that know no
 * other. It proves that the client held the key when the connection opened, and nothing else.
 * The server is not authenticated, the bytes that follow are neither secret nor protected
 * against change, and a man in the middle can relay the challenge. */
#define AUTH_PLAIN 1
/* For flags: accept keys of 1 to 15 bytes, for peers that cannot use longer ones. An observer
 * of a handshake can guess such a key by trying all of them. */
#define AUTH_SHORT_KEY 2
/* For the flags of auth_key_load() and auth_keyring_load(): a key file may be readable by its
 * group, may belong to root, and may be reached through symbolic links. */
#define AUTH_GROUP_READABLE 4
/* For auth_options.flags: the end that connected is the one that serves, as an agent that dials
 * out. Both ends set it, or neither. */
#define AUTH_CLIENT_SERVES 8
/* The same, for a sealed client: use ChaCha20-Poly1305. Without it, a processor with
 * instructions for AES uses AES-256-GCM, which is faster there. */
#define AUTH_CHACHA 16
/* For auth_result.suite: AES-256-GCM. */
#define AUTH_SUITE_AESGCM 1
/* The same: ChaCha20-Poly1305. */
#define AUTH_SUITE_CHACHAPOLY 2

/* Options of the handshake. Initialise it with AUTH_OPTIONS_INIT; a member that is 0 has its
 * default. */
struct auth_options {
    /* sizeof(struct auth_options), set by AUTH_OPTIONS_INIT. */
    uint32_t size;
    /* Milliseconds for the whole handshake; default 10 s, at most 60 s. */
    int32_t timeout_ms;
    /* AUTH_... flags, combined with |. */
    uint32_t flags;
    /* For auth_server() and auth_client(): the descriptor to write to, if it is another one
     * than fd. */
    int32_t write_fd;
    /* For auth_server() and auth_client(), as in frame_options. A connection uses its own. */
    int (*interrupted)(void *context);
    /* Passed to interrupted(). */
    void *context;
    /* For a sealed client: the server's id for the key, as in auth_keyring_add(); NULL is a key
     * without an id. */
    const char *key_id;
    /* For a sealed handshake: the server's name, 0 to 64 of A-Z a-z 0-9 . _ -, which both ends
     * must know; NULL is the empty name. It does not travel. The empty name is only for a key
     * that one client and one server have: with a key that others hold too, a man in the middle
     * can otherwise lead a client to another one of them, or back to itself. */
    const char *server_name;
};
#define AUTH_OPTIONS_INIT { sizeof(struct auth_options), 0, 0, 0, NULL, NULL, NULL, NULL }

/* What a handshake has proved. */
struct auth_result {
    /* sizeof(struct auth_result), set by AUTH_RESULT_INIT. */
    uint32_t size;
    /* How the connection is sealed, AUTH_SUITE_...; 0 if it is not. */
    uint32_t suite;
    /* The id of the key that the client holds, with a NUL; empty for a key without an id. */
    char key_id[68];
    /* For a sealed connection: a value that both ends have, and no other connection. A protocol
     * above can bind itself to this connection by it. */
    uint8_t handshake_hash[32];
};
#define AUTH_RESULT_INIT { sizeof(struct auth_result), 0, { 0 }, { 0 } }

/* Keys by id. Their bytes are wiped when they are replaced or freed.
 *
 * It belongs to the caller. Free it with auth_keyring_free() after the last call that gets it.
 * Any number of threads may use and change it. */
struct auth_keyring;

/* Asks the peer to prove that it holds the key: sends a challenge of 32 random bytes, receives
 * HMAC-SHA256(key, challenge) (RFC 2104) and compares it in constant time. No byte after the
 * answer is read. See AUTH_PLAIN for what this proves.
 *
 * key is key_len bytes, 16 to 1,024. HMAC pads with zeros, so NULs at the end of a key make no
 * difference. opts may be NULL. Everything is borrowed for the call. Threads may call it at the
 * same time on different descriptors.
 *
 * Returns 0. FRAME_EAUTH: the answer is wrong. FRAME_EKEY: the key cannot be used, or there are
 * no random numbers; nothing was sent. FRAME_ETIMEDOUT, FRAME_ESTALLED, FRAME_ECANCELED,
 * FRAME_ECLOSED, FRAME_ETRUNCATED: no complete answer. FRAME_EBADF, FRAME_EIO with errno,
 * FRAME_EINVAL. Close the descriptor after any of them. */
int auth_server(int fd, const void *key, size_t key_len, const struct auth_options *opts);

/* Proves to the peer that this side holds the key: receives a challenge of 32 bytes and answers
 * with HMAC-SHA256(key, challenge).
 *
 * The server sends no result: 0 means that the answer was sent. A server that refuses it closes
 * the connection, and the next receive reports that. The server chooses the bytes that are
 * answered, so use the key for nothing else.
 *
 * Parameters and codes are as for auth_server(), without FRAME_EAUTH. FRAME_ECLOSED: the server
 * closed the stream before its challenge. */
int auth_client(int fd, const void *key, size_t key_len, const struct auth_options *opts);

/* Reads a key from the file at path into buf, without one newline at its end.
 *
 * flags are AUTH_SHORT_KEY and AUTH_GROUP_READABLE, or 0. buf has cap bytes; 1,024 are enough.
 * Wipe it after use. Any thread.
 *
 * Returns the length of the key. FRAME_EKEY: others may read or write the file, it belongs to
 * another user, it is a symbolic link or not a regular file, or the key is empty, too short or
 * too long; frame_last_error() says which. FRAME_ETOOBIG: the key is longer than buf.
 * FRAME_ENOENT, FRAME_EACCES, FRAME_EIO, with errno. FRAME_EINVAL. */
int auth_key_load(const char *path, uint32_t flags, void *buf, size_t cap);

/* Writes a new key of 32 random bytes into a new file at path, of mode 0600.
 *
 * Any thread. Returns 0. FRAME_EEXIST: path exists, and is not changed. FRAME_EKEY: there are
 * no random numbers. FRAME_ENOENT (no such directory), FRAME_EACCES, FRAME_ENOSPC, FRAME_EIO,
 * with errno: no file is left. FRAME_EINVAL. */
int auth_key_generate(const char *path);

/* Makes an empty ring of keys.
 *
 * On success *out is the ring, freed with auth_keyring_free(); on failure it is NULL. Returns 0
 * or FRAME_EINVAL. */
int auth_keyring_new(struct auth_keyring **out);

/* Adds a key to a ring. The key is copied.
 *
 * id is 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot; NULL is a key without an
 * id. key is key_len bytes, 16 to 1,024. flags is AUTH_SHORT_KEY or 0. Any thread.
 *
 * Returns 0. FRAME_EEXIST: the ring has a key of this id. FRAME_EKEY: another id has this key,
 * or the key or the id cannot be used. FRAME_EINVAL. */
int auth_keyring_add(struct auth_keyring *ring, const char *id, const void *key,
                     size_t key_len, uint32_t flags);

/* Replaces all keys of a ring, or none. If path is a directory, each of its files is a key, and
 * the file's name is the id. If path is a file, it is one key without an id.
 *
 * Files whose names begin with a dot are ignored. flags and the rules for each file are as for
 * auth_key_load(). Any thread; running handshakes are not affected.
 *
 * Returns 0, or a code of auth_key_load(): the ring is then unchanged. FRAME_EKEY also for a
 * name that is not an id, two files with the same key, and a directory without keys. */
int auth_keyring_load(struct auth_keyring *ring, const char *path, uint32_t flags);

/* Wipes and frees a ring; NULL is ignored. */
void auth_keyring_free(struct auth_keyring *ring);

/* Proves to the server that this side holds the key, has the server prove the same, and seals
 * the connection: everything that follows is encrypted, and protected against change, loss and
 * repetition. It must be the first call on the connection. docs/security.md says what a sealed
 * connection protects against.
 *
 * key is 32 to 1,024 bytes, borrowed for the call. opts->key_id and opts->server_name are what
 * the server has. write_fd, interrupted and AUTH_SHORT_KEY do not apply. The wire is that of
 * docs/protocol.md: Noise (revision 34), pattern NNpsk0.
 *
 * With AUTH_PLAIN in opts->flags it is the handshake of auth_client(), which protects nothing
 * that follows. A key of 16 bytes is enough for that, or of 1 with AUTH_SHORT_KEY.
 *
 * Returns 0. FRAME_EAUTH: the server does not have this key under this id, or another name, or
 * it expects the other role; or it does not speak sealed. FRAME_ETRUNCATED: it closed the
 * connection, as it does when it refuses the client. (A plain server that refuses does so after
 * the call, and the next receive reports that.) FRAME_ETIMEDOUT with FRAME_DONT_WAIT as
 * timeout_ms: call again; until then other calls are FRAME_ESTATE. These change nothing:
 * FRAME_EKEY (the key or the id cannot be used, or there are no random numbers), FRAME_EINVAL
 * (also FRAME_CONNECTION_EXACT: a record may have several messages), FRAME_ESTATE (the
 * connection was used before), FRAME_EBUSY, FRAME_ENOTSUP (a library that was built without
 * sealing). Every other failure breaks the connection: the codes of frame_connection_recv() and
 * frame_connection_send(). */
int frame_connection_auth_client(struct frame_connection *c, const void *key, size_t key_len,
                                 const struct auth_options *opts);

/* Asks the client to prove that it holds a key of ring, proves the same to it, and seals the
 * connection. It must be the first call on the connection.
 *
 * Every key of ring has at least 32 bytes. The client names its key by the id. If that key
 * leaves the ring later (see auth_keyring_load()), the connection is aborted. opts->server_name
 * is this server's name. key_id, write_fd, interrupted, AUTH_SHORT_KEY and AUTH_CHACHA do not
 * apply. who may be NULL; on success it has the id of the key.
 *
 * With AUTH_PLAIN in opts->flags it is the handshake of auth_server(), with every key of the
 * ring.
 *
 * Returns 0. FRAME_EAUTH: the client does not have the key, or another name for this server, or
 * it expects the other role; or it does not speak sealed; frame_last_error() says what is known.
 * Close the connection. FRAME_EKEY: ring is empty or has a key that is too short, or there are
 * no random numbers. Otherwise as frame_connection_auth_client(). */
int frame_connection_auth_server(struct frame_connection *c, const struct auth_keyring *ring,
                                 const struct auth_options *opts, struct auth_result *who);

/* Writes what the handshake on a connection has proved to *out. It works on a broken connection.
 *
 * Returns 0. FRAME_ESTATE: there was no handshake. FRAME_EINVAL, FRAME_EBUSY, FRAME_EFORKED. */
int frame_connection_proof(struct frame_connection *c, struct auth_result *out);

/* A sealed stream: received bytes go in at one side and bytes to send come out of it, and the
 * other side has the plain ones. It reads no descriptor and never waits.
 *
 * What read(2) gives goes to frame_seal_reserve() and frame_seal_commit(). What frame_seal_read()
 * gives is the plain stream: for messages, copy it to frame_decoder_reserve(). What is to be sent,
 * such as a head of frame_encode() and its body, goes to frame_seal_write(). What
 * frame_seal_output() gives goes to write(2).
 *
 * It belongs to the caller, is freed with frame_seal_free() and may be used by one thread at a
 * time. An error of the stream sticks: every later call returns it. Close the descriptor then,
 * and send nothing more. In a child of fork(2) every call except frame_seal_free() returns
 * FRAME_EFORKED. */
struct frame_seal;

/* Makes the client's end of a sealed stream, which proves that it holds the key. The first
 * output is there at once.
 *
 * key is 32 to 1,024 bytes. It is copied, and wiped once the handshake is done or the seal is
 * freed. opts may be NULL; its members key_id, server_name and flags apply, as for
 * frame_connection_auth_client() without AUTH_PLAIN. The program itself gives the handshake a
 * time limit.
 *
 * On success *out is the seal; on failure it is NULL. Returns 0, FRAME_EINVAL, FRAME_EKEY,
 * FRAME_ENOTSUP. */
int frame_seal_client(const void *key, size_t key_len, const struct auth_options *opts,
                      struct frame_seal **out);

/* Makes the server's end of a sealed stream, for a client that holds a key of ring.
 *
 * Every key of ring has at least 32 bytes. The seal keeps what it needs of the ring, which may
 * be freed. If the client's key leaves the ring later (see auth_keyring_load()), the next call
 * returns FRAME_EAUTH. opts may be NULL; its members server_name and flags apply.
 *
 * Otherwise as frame_seal_client(). FRAME_EKEY: ring is empty or has a key that is too short, or
 * there are no random numbers. */
int frame_seal_server(const struct auth_keyring *ring, const struct auth_options *opts,
                      struct frame_seal **out);

/* Wipes and frees a seal; NULL is ignored. */
void frame_seal_free(struct frame_seal *seal);

/* Reserves memory for received bytes, to be filled by read(2). Then call frame_seal_commit()
 * with their number.
 *
 * room, if room is not NULL, is the number of bytes that fit, at least 1. The memory belongs to
 * the seal and is valid until the next call on it. It grows with the bytes that were received,
 * never with a declared length.
 *
 * Returns NULL with a room of 0 if the seal has failed or there is no memory; frame_seal_read()
 * then returns the code. */
void *frame_seal_reserve(struct frame_seal *seal, size_t *room);

/* Reports that n bytes were written to the memory of frame_seal_reserve(). Then call
 * frame_seal_read() until it returns no bytes, and send the output.
 *
 * Returns 0, or FRAME_EINVAL: n is larger than the room was. */
int frame_seal_commit(struct frame_seal *seal, size_t n);

/* Takes the next bytes of the stream out of the committed ones; before there are any, it does
 * the handshake. There may be new output afterwards.
 *
 * bytes points to them and is valid until the next call on the seal; it is NULL if there are
 * none.
 *
 * Returns their number, 0 if more must be received first. FRAME_ECLOSED: the peer has ended its
 * direction. FRAME_EAUTH: the peer does not have the key, or another name or role, or the bytes
 * were changed; frame_last_error() says what is known. FRAME_ENOMEM, FRAME_EINVAL. */
int64_t frame_seal_read(struct frame_seal *seal, const void **bytes);

/* Call it once the descriptor has no more bytes, and frame_seal_read() has returned 0 or
 * FRAME_ECLOSED.
 *
 * Returns 0: the peer had ended its direction. FRAME_ETRUNCATED: the stream was cut.
 * FRAME_EINVAL. */
int frame_seal_finish(struct frame_seal *seal);

/* Seals len bytes, to be sent as output. With end they are the last: the peer sees the end of
 * the stream after them. NULL and 0 are no bytes.
 *
 * Before the handshake is done they wait, up to 64 KiB.
 *
 * Returns 0. These change nothing: FRAME_ESTATE (the stream was ended before, or more than 64 KiB
 * would wait), FRAME_ENOMEM, FRAME_EINVAL. */
int frame_seal_write(struct frame_seal *seal, const void *bytes, size_t len, bool end);

/* The bytes to send, after `written` bytes of the last output were sent. All of it must be sent,
 * in order.
 *
 * bytes points to them and is valid until the next call on the seal; it is NULL if there are
 * none.
 *
 * Returns their number, 0 if there is nothing to send. FRAME_EINVAL: written is more than there
 * was. Any other code is the failure that ended the stream. */
int64_t frame_seal_output(struct frame_seal *seal, size_t written, const void **bytes);

/* Writes what the handshake has proved to *out.
 *
 * Returns 0. FRAME_ESTATE: it is not done. FRAME_EINVAL. */
int frame_seal_proof(const struct frame_seal *seal, struct auth_result *out);

/* ============================================================== 8  commands, client ====== */
/*   struct exec_request what = EXEC_REQUEST_INIT;   what.command = "uname -a";
 *   exec_call(c, &what, 10000, NULL, &output);      exec_output_bytes(output, EXEC_STDOUT, &len);
 *   exec_start(c, &what, -1);                       exec_copy(c, 0, 1, 2, -1, &result);
 * While a streamed command runs, exec_signal() sends it Ctrl-C. */

/* For exec_request.flags: standard error is merged into standard output, in the order in which
 * the command writes. */
#define EXEC_MERGE 1
/* For exec_request.flags of exec_start(): the command's three standard streams are a terminal
 * of `rows` and `columns`, and its TERM is "xterm" unless env sets another. All of its output is
 * standard output. */
#define EXEC_TTY 2
/* For exec_request.flags of exec_start(): there is no input; the command's standard input ends
 * at once. */
#define EXEC_NO_INPUT 4
/* For exec_request.flags and exec_options.flags: a command runs on if its client disconnects. */
#define EXEC_DETACHED 8

/* A command for the peer: shell code, or a program and its arguments; and how to run it. */
struct exec_request {
    /* sizeof(struct exec_request). */
    uint32_t size;
    /* EXEC_MERGE, EXEC_TTY, EXEC_NO_INPUT, EXEC_DETACHED, combined with |. */
    uint32_t flags;
    /* Shell code for the server's /bin/sh. Never build it from untrusted input; use argv. */
    const char *command;
    /* Bytes of command; 0 if it ends with a NUL. */
    uint64_t command_len;
    /* A program and its arguments in UTF-8, then NULL. No shell interprets them. A program
     * without a slash is searched in the server's PATH. command must be NULL then. */
    const char *const *argv;
    /* The working directory; NULL is the server's own. */
    const char *cwd;
    /* Variables "NAME=value", then NULL. They are added to the command's clean environment.
     * NULL is none. */
    const char *const *env;
    /* The whole standard input of the command, input_len bytes. NULL is no input; for
     * exec_start() it is the input of exec_write(). Input that the command does not read is
     * dropped without an error. */
    const void *input;
    /* Bytes of input. */
    uint64_t input_len;
    /* Bytes kept of each of the two outputs; default 16 MiB, for a streamed command no limit. */
    uint64_t max_output;
    /* Milliseconds after which the server ends the command; default FRAME_NO_TIMEOUT. */
    int32_t command_timeout_ms;
    /* With EXEC_TTY: lines of the terminal; default 24. */
    uint16_t rows;
    /* With EXEC_TTY: columns of the terminal; default 80. */
    uint16_t columns;
    /* exec_datagram_call() only: as in frame_options. A connection uses its own. */
    int (*interrupted)(void *context);
    /* Passed to interrupted(). */
    void *context;
};
#define EXEC_REQUEST_INIT { sizeof(struct exec_request), 0, NULL, 0, NULL, NULL, NULL, \
    NULL, 0, 0, 0, 0, 0, NULL, NULL }

/* The command exited; exit_code is its status. */
#define EXEC_EXITED 0
/* A signal ended the command. */
#define EXEC_SIGNALED 1
/* The command was ended because it exceeded its time limit. */
#define EXEC_TIMED_OUT 2
/* The command wrote more than the output limit; the kept output is the first part. */
#define EXEC_OUTPUT_LIMIT 3
/* The command ended, but its status is not known: the server's program reaps or ignores its
 * children, or the server does not report the status. */
#define EXEC_STATUS_LOST 4
/* Server: the command could not be started; an error reply was sent. */
#define EXEC_SPAWN_FAILED 5
/* Server: the request was refused (an empty command, a NUL byte in it, a length above the
 * limit, an invalid field, a policy), or there was no memory; an error reply was sent. */
#define EXEC_REFUSED 6
/* In exec_result.flags: the command was ended since its time was up. */
#define EXEC_RESULT_TIMED_OUT 1
/* In exec_result.flags: the command wrote more than was kept. */
#define EXEC_RESULT_TRUNCATED 2
/* In exec_result.flags: another process kept the command's output open after the command had
 * ended. It was not waited for. Nobody reads what it writes later, so that its next write fails,
 * usually with SIGPIPE: redirect the output of jobs in the background. */
#define EXEC_RESULT_PIPE_HELD 4
/* In exec_result.flags, on a server: the client closed its sending direction during the
 * command. It is never set with EXEC_DETACHED. */
#define EXEC_RESULT_CLIENT_GONE 8

/* How a command ended. */
struct exec_result {
    /* sizeof(struct exec_result). */
    uint32_t size;
    /* EXEC_EXITED, EXEC_SIGNALED and so on, as returned by the call. */
    int32_t outcome;
    /* 0 to 255; 128 plus the signal if a signal ended the command; -1 if it is not known. */
    int32_t exit_code;
    /* The signal that ended the command, or 0. */
    int32_t signal;
    /* EXEC_RESULT_... flags, combined with |. */
    uint32_t flags;
    /* Server: for EXEC_SPAWN_FAILED and EXEC_REFUSED the code of the error that was reported to
     * the client; otherwise 0. */
    int32_t error;
    /* Bytes that the command wrote to its standard output, kept or not. */
    uint64_t stdout_total;
    /* Bytes that the command wrote to its standard error, kept or not. */
    uint64_t stderr_total;
    /* The encoding of the server's locale, such as "UTF-8"; "" if the server did not send it.
     * The output is never converted. */
    char charset[40];
};
#define EXEC_RESULT_INIT { sizeof(struct exec_result), 0, 0, 0, 0, 0, 0, 0, { 0 } }

/* For exec_output_bytes() and exec_read(): standard output. */
#define EXEC_STDOUT 1
/* The same: standard error. */
#define EXEC_STDERR 2

/* The output of a command.
 *
 * It belongs to the caller and is freed with exec_output_free(). It never changes: any number
 * of threads may use it. */
struct exec_output;

/* Runs a command at the peer, and waits for the reply.
 *
 * timeout_ms covers the whole exchange, and must not be 0: a call cannot be resumed. When
 * command_timeout_ms expires, the server ends the command and still replies. result may be
 * NULL. On success *out is the output, freed with exec_output_free(); on failure it is NULL.
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST (0 or more). Only after EXEC_EXITED are the output
 * and the status complete. -100 and below: an error reply, such as FRAME_EREMOTE_SPAWN_FAILED
 * or FRAME_EREMOTE_DENIED; the connection is in sync. Once a byte of the request was accepted,
 * every other failure breaks the connection: FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_ECLOSED
 * (the peer closed instead of replying, as after a refused key), FRAME_EBADREPLY, FRAME_ETOOBIG
 * (more than twice max_output), and the codes of frame_connection_recv() and
 * frame_connection_send(). FRAME_EINVAL: nothing was sent, and frame_last_error() names the
 * member. */
int exec_call(struct frame_connection *c, const struct exec_request *what, int timeout_ms,
              struct exec_result *result, struct exec_output **out);

/* The output that the command wrote to `which`, EXEC_STDOUT or EXEC_STDERR, with a NUL after
 * it.
 *
 * The bytes are not converted, and are valid until exec_output_free(). *len is their number;
 * len may be NULL. "" with a length of 0 if there are none. NULL for a NULL output and for any
 * other `which`. */
const void *exec_output_bytes(const struct exec_output *output, int which, size_t *len);

/* Frees the object; NULL is ignored. */
void exec_output_free(struct exec_output *output);

/* Starts a command whose output is received while it runs.
 *
 * Until exec_finish() or exec_copy() has returned the outcome, every other function that
 * receives or sends on the connection returns FRAME_ESTATE. The first exec_read() reports
 * whether the server accepted the command. To give up, free the connection and close its
 * descriptors: that ends the command, unless it is EXEC_DETACHED.
 *
 * Returns 0: the request was accepted; the calls that follow write the rest of it.
 * FRAME_ETIMEDOUT: nothing was accepted. FRAME_EINVAL, whose detail names the member, and the
 * codes of frame_connection_send(). */
int exec_start(struct frame_connection *c, const struct exec_request *what, int timeout_ms);

/* Reads 1 to cap bytes of output into buf, as they are received. *which is then EXEC_STDOUT or
 * EXEC_STDERR.
 *
 * Returns their number. 0: the command has ended and all of its output was read; exec_finish()
 * returns its outcome. FRAME_ETIMEDOUT and FRAME_ECANCELED: call again; a timeout_ms of 0 does
 * not wait. -100 and below: the server refused the command; the connection is in sync and free
 * again, but it is broken if output was received before. Every other failure breaks the
 * connection: FRAME_ETRUNCATED, FRAME_ECLOSED (nothing was received at all), FRAME_EBADREPLY, and
 * the codes of frame_connection_recv(). FRAME_ESTATE: no command was started. FRAME_EINVAL. */
int64_t exec_read(struct frame_connection *c, void *buf, size_t cap, int timeout_ms,
                  int *which);

/* Sends input to the command.
 *
 * Returns the number of accepted bytes. 0: output must be read first, or the command has ended.
 * FRAME_ETIMEDOUT: nothing was accepted. FRAME_ESTATE: the input has ended. Otherwise as
 * exec_read(). */
int64_t exec_write(struct frame_connection *c, const void *data, size_t len, int timeout_ms);

/* Ends the input. Then it waits until all input was written, output must be read first, or the
 * command has ended. A second call only waits.
 *
 * Returns 0. FRAME_ETIMEDOUT: a part is not written yet; the calls that follow write it.
 * Otherwise as exec_read(). */
int exec_end_input(struct frame_connection *c, int timeout_ms);

/* Copies between descriptors and the command until it has ended: input from in_fd (-1 is no
 * input), output to out_fd and err_fd. All three are borrowed. Only bytes that are sent to the
 * command are read from in_fd.
 *
 * result may be NULL. Returns the outcome, EXEC_EXITED to EXEC_STATUS_LOST; the connection is
 * then free again. FRAME_ETIMEDOUT, FRAME_ECANCELED, and a failure of one of the descriptors
 * (FRAME_EIO or FRAME_ENOSPC, with errno): the command runs on and nothing is lost; the call
 * can be made again. Otherwise as exec_read(). */
int exec_copy(struct frame_connection *c, int in_fd, int out_fd, int err_fd, int timeout_ms,
              struct exec_result *result);

/* Drops the unread output, ends the input, and waits for the end of the command.
 *
 * result may be NULL. Returns the outcome, EXEC_EXITED to EXEC_STATUS_LOST; the connection is
 * then free again. Otherwise as exec_read(). */
int exec_finish(struct frame_connection *c, int timeout_ms, struct exec_result *result);

/* Sends a signal to the command's process group. The running call for the command transmits it,
 * or the next one does. A signal that is sent twice before that arrives once.
 *
 * signal is a number of signal(7) of this system: HUP, INT, QUIT, TERM, KILL, USR1, USR2, CONT,
 * TSTP, STOP, WINCH, ALRM or PIPE. Any thread, and any signal handler.
 *
 * Returns 0, FRAME_EINVAL (another signal), FRAME_ESTATE (no command was ever started) or
 * FRAME_EFORKED, and leaves frame_last_error() as it is. */
int exec_signal(struct frame_connection *c, int signal);

/* Changes the size of the command's terminal, in the same way. Any thread, and any signal
 * handler. Returns 0, FRAME_ESTATE or FRAME_EFORKED, and leaves frame_last_error() as it is. */
int exec_resize(struct frame_connection *c, uint16_t rows, uint16_t columns);

/* ============================================================== 9  commands, server ====== */
/*   frame_connection_recv_header(c, -1, &view, NULL);
 *   exec_serve(c, view.header, NULL, &result);
 *   exec_and_reply(fd, command, len, NULL, &result);          a command from any other source */

/* For exec_options.flags: commands get the host's whole environment instead of a clean one. */
#define EXEC_HOST_ENVIRONMENT 16
/* For exec_options.flags: a command is ended at the output limit. Without this flag the command
 * runs on and the rest of its output is dropped. */
#define EXEC_END_AT_LIMIT 32
/* For exec_options.flags: commands have the umask of exec_options.umask instead of the host's. */
#define EXEC_UMASK 64
/* For exec_options.flags of a server that runs as root: commands run as exec_options.uid and
 * gid, without other groups. HOME, USER and LOGNAME are set only if env sets them. */
#define EXEC_USER 128

struct exec_choice; /* section 9 */
/* A client's request, as a policy sees it. Everything in it is valid until the policy returns. */
struct exec_inquiry {
    /* sizeof(struct exec_inquiry) of this library: members beyond it do not exist. */
    uint32_t size;
    /* EXEC_MERGE, EXEC_TTY and EXEC_DETACHED of the request. */
    uint32_t flags;
    /* The header of the request, as JSON text; NULL from exec_and_reply(). */
    const char *header;
    /* The shell code, command_len bytes; empty if there is an argv. */
    const char *command;
    /* Bytes of command. */
    uint64_t command_len;
    /* A program and its arguments, then NULL; NULL for shell code. */
    const char *const *argv;
    /* The requested working directory, or NULL. */
    const char *cwd;
    /* The requested variables "NAME=value", then NULL. Never NULL itself. */
    const char *const *env;
    /* The id of the key that the client has proved, "" for a key without an id; NULL if there
     * was no handshake on a connection. */
    const char *key_id;
    /* The address of the client, as of frame_address(); NULL if it has none, or there is no
     * connection. */
    const char *address;
    /* At a Unix socket the client's process; otherwise 0. See frame_credentials. */
    int32_t pid;
    /* The same: its user id; otherwise UINT32_MAX. */
    uint32_t uid;
    /* The same: its group id; otherwise UINT32_MAX. */
    uint32_t gid;
    /* 0. */
    uint32_t reserved;
    /* How the command will be run. The policy may change it. */
    struct exec_choice *choice;
};

/* How one command is run, for a policy to change. It has what exec_options say at first. A
 * request's own wishes are looked at after that: it can lower command_timeout_ms, and its cwd is
 * relative to the one here. */
struct exec_choice {
    /* sizeof(struct exec_choice) of this library: members beyond it do not exist. */
    uint32_t size;
    /* EXEC_UMASK and EXEC_USER. */
    uint32_t flags;
    /* Milliseconds after which the command is ended, or FRAME_NO_TIMEOUT. */
    int32_t command_timeout_ms;
    /* With EXEC_UMASK: its umask. */
    uint32_t umask;
    /* With EXEC_USER: its user id. */
    uint32_t uid;
    /* With EXEC_USER: its group id. */
    uint32_t gid;
    /* Its working directory; NULL is that of exec_options. What a pointer here points to is read
     * after the policy has returned: it must not be a local variable of the policy. */
    const char *cwd;
    /* Variables "NAME=value", then NULL: they are added to those of exec_options. NULL at first. */
    const char *const *env;
    /* With EXEC_USER: its supplementary groups. NULL at first. */
    const uint32_t *groups;
    /* How many groups there are. */
    uint64_t groups_len;
    /* Shell code that is run in place of what was asked for, with its input. NULL at first. */
    const char *command;
};
#define EXEC_CHOICE_INIT { sizeof(struct exec_choice), 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, \
    NULL }

/* How a server runs commands. A request can only lower the limits. */
struct exec_options {
    /* sizeof(struct exec_options). */
    uint32_t size;
    /* EXEC_DETACHED, EXEC_HOST_ENVIRONMENT, EXEC_END_AT_LIMIT, EXEC_UMASK, EXEC_USER. */
    uint32_t flags;
    /* Milliseconds without a byte sent or read after which a client is given up; default 30 s. On
     * average it must let 1 KiB pass in a second. It applies to the request and to the reply. To
     * a streamed command's output it applies once the command has ended, but only if it is set:
     * by default the client may read that as slowly as before the end, until command_timeout_ms
     * has passed. */
    int32_t reply_timeout_ms;
    /* Milliseconds after which a command is ended; default FRAME_NO_TIMEOUT. */
    int32_t command_timeout_ms;
    /* Milliseconds from SIGTERM to SIGKILL; default 2 s. */
    int32_t grace_ms;
    /* Milliseconds for which output is read after the command's end while another process keeps
     * it open; default 500 ms. */
    int32_t drain_ms;
    /* Milliseconds from the client's end of stream, which may be a half-close, until its
     * command is ended; default 2 s. A hang-up ends it at once. */
    int32_t close_grace_ms;
    /* exec_and_reply() only: the descriptor to write to, if it is another one than fd. */
    int32_t write_fd;
    /* Bytes kept of each of the two outputs; default 16 MiB. */
    uint64_t max_output;
    /* Bytes of a command, or of all its arguments, each with its NUL; default 64 KiB, at most
     * 131,071. */
    uint64_t max_command;
    /* Seconds of processor time for each process of a command (RLIMIT_CPU of setrlimit(2)). 0
     * is the host's own limit, as for the next three members. */
    uint64_t cpu_seconds;
    /* Bytes of memory for each process of a command (RLIMIT_AS). */
    uint64_t memory;
    /* Processes that the command's user may have in all (RLIMIT_NPROC). */
    uint64_t processes;
    /* Bytes of a file that a command writes (RLIMIT_FSIZE). */
    uint64_t file_size;
    /* With EXEC_UMASK: the umask of commands. */
    uint32_t umask;
    /* With EXEC_USER: the user id of commands. */
    uint32_t uid;
    /* With EXEC_USER: their group id. */
    uint32_t gid;
    /* 0. */
    uint32_t reserved;
    /* The working directory of commands; NULL is the host's own. */
    const char *cwd;
    /* Variables "NAME=value", then NULL. They are added to the clean environment. */
    const char *const *env;
    /* Called before a command is run; may be NULL. Return 0 to allow the request, after changes
     * of inquiry->choice if you like, or a FRAME_E... code to refuse it; any other number is
     * FRAME_EACCES. The client receives the reply code for it, and as message the C string that
     * was written to reason, which has reason_size bytes. It is called on the thread of the
     * call. */
    int (*policy)(void *context, const struct exec_inquiry *inquiry, char *reason,
                  size_t reason_size);
    /* exec_and_reply(), exec_run() and exec_datagram_serve() only: as in frame_options. A
     * connection uses its own. */
    int (*interrupted)(void *context);
    /* Passed to policy() and interrupted(). */
    void *context;
};
#define EXEC_OPTIONS_INIT { sizeof(struct exec_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
    0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL }

/* Runs shell code and sends one reply on a raw descriptor, with the command's two outputs and
 * its exit status.
 *
 * command is command_len bytes for /bin/sh, received in any way. Their sender can do everything
 * that the host's user can. opts and result may be NULL.
 *
 * The command's standard input is /dev/null. It leads its own process group, with default
 * signal actions, no blocked signals and no descriptor of the host. Its environment is clean:
 * PATH, SHELL, and the host's HOME, USER, LOGNAME, TMPDIR, TZ, LANG and the LC_* of locale(7).
 * When its time limit expires or the client disconnects, the group gets SIGTERM, then SIGKILL
 * after grace_ms. If the calling thread dies, the command is killed. fd is not read.
 *
 * No signal handler is changed. A host may ignore SIGCHLD or reap all its children; on Linux
 * before 6.15 the exit status is then lost (EXEC_STATUS_LOST). Any number of threads may run
 * commands at once, on different descriptors.
 *
 * Returns EXEC_EXITED to EXEC_REFUSED (0 or more): a reply was sent, and the stream is usable.
 * FRAME_ECLOSED: the client hung up, and its command was ended. FRAME_ESTALLED, FRAME_EIO with
 * errno, FRAME_EBADF: the reply could not be sent. FRAME_ECANCELED: interrupted() ended the
 * call and the command. Close the stream after these. FRAME_EINVAL: nothing was run. */
int exec_and_reply(int fd, const char *command, size_t command_len,
                   const struct exec_options *opts, struct exec_result *result);

/* Serves an exec request whose header was just received with frame_connection_recv_header():
 * reads the body, runs the command and sends the reply.
 *
 * request is the text of the header. Its members argv, cwd, env, timeout_ms, max_output,
 * on_close, merge, tty, stdin_size, stream and id apply; a limit applies only if it is lower
 * than that of opts. If the client asked for a stream, output is sent while the command runs,
 * and the reply comes last; input, signals and terminal sizes are received meanwhile. Those
 * that arrive too late are dropped by the connection. A client that does not read slows the
 * command down.
 *
 * Otherwise as exec_and_reply(). FRAME_EINVAL and FRAME_ESTATE (the body was received already)
 * change nothing. Every other code below 0 breaks the connection: FRAME_ECLOSED (the client
 * disconnected from its command), FRAME_ETRUNCATED, FRAME_ESTALLED (the client does not read),
 * FRAME_EBADFIELD (a frame that is not for a running command). */
int exec_serve(struct frame_connection *c, const char *request,
               const struct exec_options *opts, struct exec_result *result);

/* Runs shell code and returns its output; nothing is sent. It is for servers of other
 * protocols.
 *
 * On success *out is the output, freed with exec_output_free(); on failure it is NULL. opts and
 * result may be NULL. write_fd, reply_timeout_ms, close_grace_ms, policy and EXEC_DETACHED do
 * not apply.
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST. FRAME_ESPAWN with errno: the command could not be
 * started. FRAME_EINVAL: it is empty or has a NUL byte. FRAME_ETOOBIG: it is longer than
 * max_command. FRAME_ECANCELED, FRAME_ENOMEM. */
int exec_run(const char *command, size_t command_len, const struct exec_options *opts,
             struct exec_result *result, struct exec_output **out);

/* ================================================================ 10  files, client ====== */
/*   struct frame_file_transfer what = FRAME_FILE_TRANSFER_INIT;
 *   what.name = "notes/a";  what.path = "a";
 *   frame_file_put(c, &what, -1, &result);
 *   what.flags |= FRAME_FILE_TREE;                     a directory with everything in it
 * Each is an exchange on a connection: a timeout_ms of 0 is FRAME_EINVAL. */

/* For frame_file_transfer.flags: transfer a directory with everything in it. Without this flag
 * one file is transferred. */
#define FRAME_FILE_TREE 1
/* For frame_file_transfer.flags and frame_file_options.flags: an existing file is not replaced,
 * and the transfer fails. The check is atomic, also between simultaneous transfers. */
#define FRAME_FILE_NO_OVERWRITE 2
/* The same: no digest is computed. A server still checks the digest that a client sends. */
#define FRAME_FILE_NO_CHECKSUM 4
/* For a get to a path and frame_file_options.flags: stored files are not synced, and may be
 * lost in a power failure. */
#define FRAME_FILE_NO_SYNC 8
/* For the put of one file: the server is an old one that never replies. 0 then only means that
 * everything was sent. In frame_file_options.flags: a put without data_size gets no reply. The
 * oldest clients do not read one, and if they close with an unread reply, bytes that are still
 * in transit are lost. */
#define FRAME_FILE_NO_REPLY 16
/* For a put, or a get to a path: if the transfer is interrupted, the received bytes are kept in
 * a partial file. The next transfer with this flag continues it if both sides have the same
 * bytes so far. A tree also skips files of the same size and modification time, and implies
 * FRAME_FILE_PRESERVE. A partial file is named .framefd-DIGITS.part; frame_file_sweep() removes
 * old ones. FRAME_EREMOTE_BUSY: another transfer is writing it. One that has written nothing for
 * 2 s, such as one whose connection was lost, loses it to the next, and fails with this code. The
 * put of a tree waits for that. */
#define FRAME_FILE_RESUME 32
/* For a put and frame_file_mkdir(): missing parent directories are made. For
 * frame_file_options.flags: the default for requests that do not say. */
#define FRAME_FILE_PARENTS 64
/* For a put, or a get to a path: permission bits and modification time are those of the source,
 * also if a file is replaced. Directories do not keep their times. With and without this flag,
 * new directories have the permission bits of the source; those that a put makes keep all
 * permissions for their owner. */
#define FRAME_FILE_PRESERVE 128
/* For a tree: a symbolic link ends the transfer with FRAME_EPATH. Without one of the three
 * flags for links, links are skipped and counted; at most one flag may be set. */
#define FRAME_FILE_REFUSE_LINKS 256
/* For the put of a tree: the target of a symbolic link is sent in place of the link. A link
 * that leads out of the tree, to a directory or to nothing is skipped and counted. FRAME_ENOTSUP
 * without openat2(2), before Linux 5.6. */
#define FRAME_FILE_FOLLOW_LINKS 512
/* For a tree: symbolic links are copied as links. A link that leads out of the tree is skipped
 * and counted. */
#define FRAME_FILE_COPY_LINKS 1024
/* For frame_file_transfer.flags: the stored file gets mtime_ms as its modification time. */
#define FRAME_FILE_MTIME 8192
/* For a put, or a get to a path: a file that is there gets the new content, and stays the same
 * file. Its hard links, owner and access control list stay and, without mode, its permission
 * bits; it can be a bind mount, and in a directory in which no file can be made. The content is
 * first received into a temporary file: in that directory, or else in the root, /var/tmp or /tmp.
 * It is copied once it is complete and matches its digest, and space for it is reserved; any
 * failure before that leaves the old content. A failure while it is copied, or a crash, leaves a
 * file that may have a part of each, and frame_last_error() says so. Others can read such a
 * mixture meanwhile. If two copy at once, one gets FRAME_EBUSY or FRAME_EREMOTE_BUSY. Not with
 * FRAME_FILE_NO_OVERWRITE. A server that cannot write in place, such as version 0.1.0, answers
 * FRAME_EREMOTE_BAD_REQUEST and stores nothing; one that ignores the request has replaced the
 * file: FRAME_ENOTSUP. */
#define FRAME_FILE_IN_PLACE 16384

/* A transfer: the names on both sides, and its options. A member or flag that does not apply is
 * FRAME_EINVAL, and frame_last_error() names it. */
struct frame_file_transfer {
    /* sizeof(struct frame_file_transfer). */
    uint32_t size;
    /* FRAME_FILE_... flags, combined with |. */
    uint32_t flags;
    /* The name at the server, relative to its root: components separated by single slashes, in
     * any encoding. "" is the root itself, for a tree only. */
    const char *name;
    /* The local file or directory, or NULL to use fd. */
    const char *path;
    /* If path is NULL: a regular file, from its current offset, or a pipe, socket or terminal.
     * It is borrowed. Must be 0 if path is set. */
    int32_t fd;
    /* Permission bits of the stored file, of 0777, reduced by the umask there. 0: a file that is
     * replaced keeps its own, and a new one gets those of the source, or 0666 if it has none. */
    uint32_t mode;
    /* Put of fd: bytes to send; 0 is up to the end of a regular file. A pipe or a socket needs
     * a length. */
    uint64_t length;
    /* Put of one file: bytes that the server has already, which are not sent: those before the
     * offset of fd, or the first bytes of path. Get to fd: bytes that fd has before its offset;
     * only the rest is requested. They must be readable, for the digest, unless
     * FRAME_FILE_NO_CHECKSUM is set. */
    uint64_t offset;
    /* Get: the largest file accepted, in bytes; default FRAME_NO_LIMIT. A larger one is
     * FRAME_ETOOBIG, and nothing is written. */
    uint64_t max_size;
    /* The most bytes per second that are sent or received; 0 is no limit. */
    uint64_t rate;
    /* With FRAME_FILE_MTIME: milliseconds since 1970, negative before. Otherwise 0. */
    int64_t mtime_ms;
    /* Milliseconds without a byte after which the transfer fails; default 30 s, or
     * FRAME_NO_TIMEOUT. A server that reads the first bytes of a file sends that it is at work;
     * it sends nothing while it syncs a large file before its reply. */
    int32_t stall_ms;
    /* 0. */
    uint32_t reserved;
    /* Called after each piece of at most 1 MiB, and once for an empty file, with the file's name
     * at the server, and with the bytes done of the total, in a tree those of the whole tree.
     * Return non-zero to end the transfer with FRAME_ECANCELED. May be NULL. */
    int (*progress)(void *context, const char *name, uint64_t done, uint64_t total);
    /* Passed to progress(). */
    void *context;
};
#define FRAME_FILE_TRANSFER_INIT { sizeof(struct frame_file_transfer), 0, NULL, NULL, 0, 0, \
    0, 0, 0, 0, 0, 0, 0, NULL, NULL }

/* Result of a transfer. After a failure it shows how far the transfer came. */
struct frame_file_result {
    /* sizeof(struct frame_file_result). */
    uint32_t size;
    /* Server: the code of the error that was reported to the client; FRAME_ECLOSED if the
     * request was served and the client did not wait for the reply; otherwise 0. */
    int32_t error;
    /* Bytes of the file, including those that did not have to be transferred. In a tree, files
     * that were the same on both sides do not count. */
    uint64_t bytes;
    /* Regular files that were transferred or, with FRAME_FILE_RESUME, were the same on both
     * sides. */
    uint64_t files;
    /* Directories of a tree that now exist, including the topmost one. */
    uint64_t directories;
    /* Symbolic links that were made. */
    uint64_t links;
    /* Entries of a tree that were skipped: links without a flag for them or that lead out,
     * FIFOs, sockets, devices. */
    uint64_t skipped;
    /* The SHA-256 of the whole file in 64 lower-case hex digits and a NUL; "" if none was
     * computed, and for a tree. */
    char sha256[72];
    /* Entries of a tree that could not be transferred: FRAME_EINCOMPLETE. */
    uint64_t failed;
};
#define FRAME_FILE_RESULT_INIT { sizeof(struct frame_file_result), 0, 0, 0, 0, 0, 0, { 0 }, \
    0 }

/* Stores a file on the server, or with FRAME_FILE_TREE a directory with everything in it.
 *
 * what is borrowed for the call. timeout_ms covers the whole transfer, and must not be 0: the
 * call cannot be resumed. result may be NULL. Memory is constant: 1 MiB, plus the list of one
 * directory.
 *
 * A file is replaced as a whole or not at all, unless FRAME_FILE_IN_PLACE is set. Its digest is
 * sent after the content, and the server stores the file only if it matches. The digest in the
 * server's reply is compared as well. With FRAME_FILE_TREE or FRAME_FILE_RESUME the server is
 * asked whether it would refuse a file before more than 1 MiB of it is sent. An error reply that
 * comes while the content is being sent ends the put.
 *
 * Other files of an existing directory on the server stay. Nothing outside path is sent. What
 * cannot be read or stored, or vanishes meanwhile, is left out and counted in failed. At the end
 * that is FRAME_EINCOMPLETE, and frame_last_error() names the first one; all else is stored. A
 * failure that is not one file's alone, such as a full disk, ends a tree.
 *
 * Returns 0: the file is stored. These leave the connection in sync: -100 and below, an error
 * reply, such as FRAME_EREMOTE_DENIED (the name), FRAME_EREMOTE_EXISTS, FRAME_EREMOTE_NO_SPACE
 * or FRAME_EREMOTE_CHECKSUM, and nothing was stored (with more than 8 MiB left to send, the
 * connection is broken); FRAME_EINCOMPLETE; FRAME_ECHECKSUM, the server's reply has
 * another digest; FRAME_EPATH (path is not a regular file, or not a directory; a link; a name
 * that the server would not accept), FRAME_ENOENT, FRAME_EACCES; FRAME_EINVAL. Once a byte of a
 * request was accepted, every other failure breaks the connection: FRAME_ETRUNCATED (the source
 * ended too early), FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_ECLOSED, FRAME_EBADREPLY, FRAME_EIO
 * with errno (also of the source), and the codes of frame_connection_send() and
 * frame_connection_recv(). */
int frame_file_put(struct frame_connection *c, const struct frame_file_transfer *what,
                   int timeout_ms, struct frame_file_result *result);

/* Fetches a file from the server, or with FRAME_FILE_TREE a directory with everything in it.
 *
 * what, timeout_ms, result and memory are as for frame_file_put().
 *
 * A file appears at path once it is complete, matches its digest and, without
 * FRAME_FILE_NO_SYNC, would survive a power failure. Until then, and after a failure, an old
 * file stays, and nothing else is left except the partial file of FRAME_FILE_RESUME. Only a
 * regular file is replaced, never a symbolic link. FRAME_FILE_IN_PLACE is an exception. fd gets
 * all bytes that are received, also before a failure.
 *
 * A server cannot make the client write outside of path: a name that is not one component ends a
 * tree with FRAME_EPATH, and a symbolic link that could lead out is skipped. Other files of an
 * existing directory at path stay. What cannot be fetched is left out as by frame_file_put().
 *
 * Returns 0: the file is complete, and matches the digest if the server sends one. These leave
 * the connection in sync: -100 and below, an error reply, such as FRAME_EREMOTE_NOT_FOUND or
 * FRAME_EREMOTE_DENIED; FRAME_ECHECKSUM; FRAME_EINVAL; and, if 1 MiB or less of the file is
 * left to receive, a local failure: FRAME_EPATH, FRAME_EEXIST, FRAME_ENOENT (the directory),
 * FRAME_EACCES, FRAME_ENOSPC, FRAME_EIO with errno, FRAME_ETOOBIG (above max_size),
 * FRAME_ECANCELED (progress). Once a byte of the request was accepted, every other failure
 * breaks the connection: FRAME_ETRUNCATED (the server gave up, for example because the file
 * became shorter), FRAME_ETIMEDOUT, FRAME_ECLOSED, FRAME_EBADREPLY (the reply contradicts
 * itself), and the codes of frame_connection_send() and frame_connection_recv(). */
int frame_file_get(struct frame_connection *c, const struct frame_file_transfer *what,
                   int timeout_ms, struct frame_file_result *result);

/* For frame_file_stat(): the partial file of an interrupted put with FRAME_FILE_RESUME. */
#define FRAME_FILE_PARTIAL 4096
/* In frame_file_info.kind: a regular file. */
#define FRAME_FILE_REGULAR 1
/* The same: a directory. */
#define FRAME_FILE_DIRECTORY 2
/* The same: a symbolic link; the struct describes the link itself. */
#define FRAME_FILE_SYMLINK 3
/* The same: a FIFO, a socket or a device. */
#define FRAME_FILE_OTHER 4

/* A file, directory or other entry on the server. */
struct frame_file_info {
    /* sizeof(struct frame_file_info). */
    uint32_t size;
    /* FRAME_FILE_REGULAR, FRAME_FILE_DIRECTORY, FRAME_FILE_SYMLINK or FRAME_FILE_OTHER. */
    uint32_t kind;
    /* Bytes of a regular file. */
    uint64_t file_size;
    /* The modification time, in milliseconds since 1970; 0 for a partial file. */
    int64_t mtime_ms;
    /* Permission bits, of 07777; 0 for a partial file. */
    uint32_t mode;
    /* 0. */
    uint32_t reserved;
    /* For a partial file: its SHA-256 in 64 lower-case hex digits and a NUL. Otherwise "". */
    char sha256[72];
};
#define FRAME_FILE_INFO_INIT { sizeof(struct frame_file_info), 0, 0, 0, 0, 0, { 0 } }

/* The entries of a directory on the server, sorted by name.
 *
 * It belongs to the caller and is freed with frame_file_listing_free(). It never changes: any
 * number of threads may use it. */
struct frame_file_listing;

/* Asks the server about a name, and writes the answer to *info. Links are not followed.
 *
 * name is as in frame_file_transfer; "" is the root. flags are 0 or FRAME_FILE_PARTIAL: the
 * size and digest of the part of an interrupted put that the server has. timeout_ms must not be
 * 0.
 *
 * Returns 0. -100 and below: an error reply, such as FRAME_EREMOTE_NOT_FOUND or
 * FRAME_EREMOTE_DENIED; the connection is in sync. Otherwise the codes of
 * frame_connection_call(). */
int frame_file_stat(struct frame_connection *c, const char *name, uint32_t flags,
                    int timeout_ms, struct frame_file_info *info);

/* Makes the directory `name` on the server. It is no error if it exists.
 *
 * mode is its permission bits, of 0777, reduced by the server's umask; 0 is 0777. flags are 0
 * or FRAME_FILE_PARENTS: missing parent directories are made as well. timeout_ms must not be 0.
 *
 * Returns 0 or a code of frame_file_stat(); FRAME_EREMOTE_EXISTS: the name exists and is not a
 * directory. */
int frame_file_mkdir(struct frame_connection *c, const char *name, uint32_t mode,
                     uint32_t flags, int timeout_ms);

/* Lists the directory `name` on the server; "" is the root.
 *
 * On success *out is the list, which the caller frees with frame_file_listing_free(); on
 * failure it is NULL. timeout_ms must not be 0.
 *
 * Returns the number of entries, or a code of frame_file_stat(). A list of more than 64 MiB is
 * FRAME_ETOOBIG and breaks the connection. */
int64_t frame_file_list(struct frame_connection *c, const char *name, int timeout_ms,
                        struct frame_file_listing **out);

/* The name of the entry at index, counted from 0. NULL beyond the last one, and if the size
 * member of *info is not set.
 *
 * info describes the entry. *target is the target of a symbolic link, or NULL for other
 * entries. Both parameters may be NULL. The strings end with a NUL and are valid until
 * frame_file_listing_free(). They are untrusted and in any encoding: check for / and .. before
 * you use a name in a path. */
const char *frame_file_listing_entry(const struct frame_file_listing *list, size_t index,
                                     struct frame_file_info *info, const char **target);

/* Frees the object; NULL is ignored. */
void frame_file_listing_free(struct frame_file_listing *list);

/* ================================================================ 11  files, server ====== */
/*   frame_connection_recv_header(c, -1, &view, NULL);
 *   frame_file_serve(c, view.header, root_fd, NULL, &result); */

struct frame_file_choice; /* section 11 */
/* One thing that a client's request would do, as the policy of a file server sees it. Everything
 * in it is valid until the policy returns. */
struct frame_file_inquiry {
    /* sizeof(struct frame_file_inquiry) of this library: members beyond it do not exist. */
    uint32_t size;
    /* At a Unix socket the client's process; otherwise 0. See frame_credentials. */
    int32_t pid;
    /* "put", "get", "stat", "list", "mkdir" or "symlink": first the cmd of the request. Then
     * "get", if the reply could tell of bytes that are there (a put with an offset, a stat of the
     * partial file), and "mkdir" for each directory that `parents` would make. So what cannot be
     * got cannot be resumed, unless the policy allows "get" where the cmd in header is "put" or
     * "stat". */
    const char *cmd;
    /* The name, relative to the root: name_len bytes and a NUL, in any encoding. It was checked
     * and is acceptable; "" is the root. */
    const char *name;
    /* Bytes of name. */
    uint64_t name_len;
    /* For a put, the size of the file in bytes; otherwise FRAME_NO_LIMIT. */
    uint64_t filesize;
    /* The header of the request, as JSON text. */
    const char *header;
    /* The id of the key that the client has proved, "" for a key without an id; NULL if there
     * was no handshake. */
    const char *key_id;
    /* The address of the client, as of frame_address(); NULL if it has none. */
    const char *address;
    /* At a Unix socket the client's user id; otherwise UINT32_MAX. */
    uint32_t uid;
    /* The same: its group id. */
    uint32_t gid;
    /* How the request will be served. The policy may change it. The rights count for every
     * question, and the other members with the first one of a request. */
    struct frame_file_choice *choice;
};

/* A right: content is sent, files and directories are described and listed. */
#define FRAME_SERVE_READ 1
/* The same: new files, directories and links are made. */
#define FRAME_SERVE_CREATE 2
/* The same: the content of a file that is there, or a link, is replaced by another. */
#define FRAME_SERVE_REPLACE 4
/* Both FRAME_SERVE_CREATE and FRAME_SERVE_REPLACE. */
#define FRAME_SERVE_WRITE 6

/* How one request for a file is served, for a policy to change. It has what the server's options
 * say at first. */
struct frame_file_choice {
    /* sizeof(struct frame_file_choice) of this library: members beyond it do not exist. */
    uint32_t size;
    /* FRAME_SERVE_... flags, combined with |. A policy can take some away; others than the server
     * has count for nothing. */
    uint32_t rights;
    /* Another root directory; -1 is the server's. It is borrowed until the policy's thread has
     * left it, and duplicated then, so it must not be closed by the policy. */
    int32_t root_fd;
    /* As in frame_file_options. */
    uint32_t mode;
    /* As in frame_file_options, and no larger than there; FRAME_NO_LIMIT is none. */
    uint64_t max_size;
};
#define FRAME_FILE_CHOICE_INIT { sizeof(struct frame_file_choice), 0, 0, 0, 0 }

/* How files are served. A request cannot override max_size, rate and FRAME_FILE_NO_OVERWRITE. */
struct frame_file_options {
    /* sizeof(struct frame_file_options). */
    uint32_t size;
    /* FRAME_FILE_NO_OVERWRITE, FRAME_FILE_NO_CHECKSUM, FRAME_FILE_NO_SYNC, FRAME_FILE_NO_REPLY,
     * FRAME_FILE_PARENTS, combined with |. */
    uint32_t flags;
    /* Milliseconds for the whole request; default FRAME_NO_TIMEOUT. */
    int32_t timeout_ms;
    /* Milliseconds without a byte after which the request fails; default 30 s, or
     * FRAME_NO_TIMEOUT. On average it must let 1 KiB of a content pass in a second. */
    int32_t stall_ms;
    /* The largest file that is stored, in bytes; default FRAME_NO_LIMIT. */
    uint64_t max_size;
    /* The most bytes per second that are sent or received; 0 is no limit. */
    uint64_t rate;
    /* Permission bits of new files, of 0777, if the request does not insist on others. They are
     * reduced by the umask, and give the group and others no more than the client's file does.
     * 0: those of the client's file, or 0666. A file that is replaced keeps its own. */
    uint32_t mode;
    /* 0. */
    uint32_t reserved;
    /* Called before anything is opened or stored; may be NULL. It is asked about each thing that
     * the request would do. Return 0 to allow it, after changes of inquiry->choice if you like, or
     * a FRAME_E... code to refuse the request; any other number is FRAME_EACCES. The client
     * receives the reply code for it, and as message the C string that was written to reason,
     * which has reason_size bytes. It is called on the thread of the call. */
    int (*policy)(void *context, const struct frame_file_inquiry *inquiry, char *reason,
                  size_t reason_size);
    /* Passed to policy(). */
    void *context;
};
#define FRAME_FILE_OPTIONS_INIT { sizeof(struct frame_file_options), 0, 0, 0, 0, 0, 0, 0, \
    NULL, NULL }

/* Serves a file request below the directory root_fd: put, get, stat, list, mkdir or symlink.
 * Its header was just received with frame_connection_recv_header(); the call reads the body and
 * replies. The reply to any other cmd is `unsupported`.
 *
 * request is the text of the header. root_fd is opened with O_PATH or O_RDONLY. Everything is
 * borrowed for the call. opts and result may be NULL. Threads may serve different connections
 * at the same time, also in the same root.
 *
 * No name leads out of root_fd: symbolic links are never followed, only regular files are read
 * or replaced, and names that begin with .framefd- are reserved for the library. A put writes a
 * temporary file, which replaces the old one once it is complete and matches its digest. After
 * a failure the old file stays, and nothing else is left except the partial file of a put that
 * can be resumed. A symbolic link is made only if it cannot lead out. A put is refused as soon
 * as that is known.
 *
 * Returns 0: the reply was sent, or the client did not wait for it. If it was an error reply, the
 * error member of *result has its code; what the client still sends of the request is dropped
 * then. If that is more than 16 MiB or takes more than 30 s, the connection is broken. These
 * change nothing: FRAME_EINVAL, FRAME_EBADF (root_fd is not a directory), FRAME_EBADJSON (request
 * is not a header), FRAME_ESTATE (a part of the body was received already). Every other failure
 * breaks the connection: FRAME_ETRUNCATED (a put ended early, or a file became shorter while it
 * was sent; close the connection to report that), FRAME_ETIMEDOUT, FRAME_ECANCELED,
 * FRAME_EBADFIELD and FRAME_ETOOBIG (the end of the put cannot be known; an error reply was
 * sent), FRAME_EIO with errno, and the codes of frame_connection_recv() and
 * frame_connection_send(). */
int frame_file_serve(struct frame_connection *c, const char *request, int root_fd,
                     const struct frame_file_options *opts, struct frame_file_result *result);

/* Removes the leftovers of interrupted transfers, in root_fd and all directories below it.
 * These are files whose names begin with .framefd-, that no transfer is writing, and that were
 * last written at least older_than_ms milliseconds ago; 0 is the default, 24 h. Killed
 * processes and interrupted transfers with FRAME_FILE_RESUME leave such files.
 *
 * root_fd is borrowed; symbolic links are not followed. Returns the number of removed files.
 * FRAME_EINVAL, FRAME_EBADF, FRAME_EIO with errno (some may have been removed). */
int64_t frame_file_sweep(int root_fd, int64_t older_than_ms);

/* ==================================================================== 12  datagrams ====== */
/*   frame_datagram_send(fd, NULL, 0, header, body, len, NULL);
 *   exec_datagram_call(fd, &what, key, key_len, FRAME_DEFAULT_TIMEOUT, NULL, &output); */

/* How datagrams are sent and received. Initialise it with FRAME_DATAGRAM_OPTIONS_INIT; a
 * member that is 0 has its default. */
struct frame_datagram_options {
    /* sizeof(struct frame_datagram_options), set by FRAME_DATAGRAM_OPTIONS_INIT. */
    uint32_t size;
    /* Milliseconds for the whole call, on the monotonic clock; the default is FRAME_NO_TIMEOUT.
     * FRAME_DONT_WAIT fails at once if the call would have to wait. */
    int32_t timeout_ms;
    /* The largest datagram that is sent, in bytes; default 8 KiB, at most 65,507. Use 1,200 to
     * avoid fragments on the Internet. Datagrams of any size up to 65,507 are received. */
    uint32_t max_datagram;
    /* Must be 0: none are defined. */
    uint32_t flags;
    /* Called before each wait, after each signal, and at least once a second while a call
     * waits. Return non-zero to end the call with FRAME_ECANCELED. May be NULL. */
    int (*interrupted)(void *context);
    /* Passed to interrupted(). */
    void *context;
};
#define FRAME_DATAGRAM_OPTIONS_INIT { sizeof(struct frame_datagram_options), 0, 0, 0, NULL, \
    NULL }

/* Sends one frame as one datagram.
 *
 * to is a struct sockaddr of to_len bytes; NULL and 0 send to the address that the socket is
 * connected to. header is a JSON object in UTF-8 without the key data_size, which the library
 * adds; NULL is an empty object. body may be NULL if body_len is 0. opts may be NULL.
 *
 * Everything is borrowed for the call. fd is a UDP or Unix datagram socket, blocking or not.
 * Threads may send on one descriptor at the same time.
 *
 * Returns 0: the datagram was sent, and may still be lost. After any other code nothing was
 * sent. FRAME_ETOOBIG: the datagram exceeds max_datagram, or is too large for the network
 * (errno EMSGSIZE). FRAME_ETIMEDOUT: the socket's queue is full. FRAME_ECANCELED,
 * FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size), FRAME_EINVAL. FRAME_EBADF: not
 * a datagram socket. FRAME_EIO with errno; ECONNREFUSED means that an earlier datagram was not
 * received by anyone, and this one may be sent again. */
int frame_datagram_send(int fd, const void *to, size_t to_len, const char *header,
                        const void *body, size_t body_len,
                        const struct frame_datagram_options *opts);

/* Receives one datagram, which must be exactly one frame.
 *
 * On success *out is the frame, which the caller frees with frame_free(); on failure it is
 * NULL. frame_datagram_source() returns the sender's address, which anyone on a network can
 * forge. opts may be NULL. fd is borrowed, a UDP or Unix datagram socket, blocking or not.
 * Threads may receive on one descriptor at the same time.
 *
 * Returns 0. After any code the next call receives the next datagram. FRAME_ETIMEDOUT,
 * FRAME_ECANCELED: none was received. FRAME_ELIMIT: the datagram was larger than 65,507 bytes
 * and was truncated. FRAME_EBADLENGTH: it is empty, or its length or data_size does not match
 * its size. FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_ETOOBIG (data_size exceeds 63 bits). Such a
 * datagram is lost. FRAME_EIO with errno: ECONNREFUSED means that an earlier datagram was not
 * received by anyone. FRAME_EBADF: not a datagram socket. FRAME_EINVAL. */
int frame_datagram_recv(int fd, const struct frame_datagram_options *opts, struct frame **out);

/* The sender of a received datagram: a struct sockaddr for frame_datagram_send().
 *
 * len, if len is not NULL, is its length. It is valid until frame_free(). NULL with a length
 * of 0 if there is none: the sender is a Unix socket without a name, the frame was received
 * from a stream, or frame is NULL. */
const void *frame_datagram_source(const struct frame *frame, size_t *len);

/* Datagram server: the request was served before, and the same reply was sent again. */
#define EXEC_REPEATED 7
/* Datagram server: the datagram is ignored, without a reply; error in exec_result says why. */
#define EXEC_IGNORED 8

/* Serves commands that are requested in datagrams. Each request runs at most once, however
 * often it is received.
 *
 * That is promised for one server, in one process, as long as it exists:
 *
 * - With a key without exception. A request that the server cannot tell from one that ran is
 * ignored: one that was made before the server; one of more than 65,536 in 30 s, the oldest
 * first; and, after this machine's clock was set back by more than 30 s, those made until it
 * has caught up.
 * - Without a key, if the client repeats the request within 30 s, and no more than 65,536 others
 * are received meanwhile.
 *
 * The reply to a repeated request is sent again for 30 s, for up to 1,024 requests and 32 MiB;
 * after that a repeated request gets no answer. Two servers do not know of each other's
 * requests: use one for a socket, with as many threads as you like, and a key of its own.
 *
 * It belongs to the caller and is freed with exec_datagram_server_free(). In a child of fork(2)
 * it can only be freed. */
struct exec_datagram_server;

/* Makes a server.
 *
 * key is key_len bytes, 16 to 1,024, shared with the clients; it is copied. A datagram gets no
 * answer if its tag does not match the key, or if it was made more than 30 s ago by this
 * machine's clock, or before this call. NULL and 0 are no key: then all users of this machine
 * are served, and nobody else.
 *
 * On success *out is the server, freed with exec_datagram_server_free(); on failure it is NULL.
 * Returns 0, FRAME_EKEY or FRAME_EINVAL. */
int exec_datagram_server_new(const void *key, size_t key_len,
                             struct exec_datagram_server **out);

/* Receives one datagram, runs the requested command, and sends the reply in as many datagrams
 * of up to 8 KiB as needed.
 *
 * A request that is received twice runs once: while it runs the second one is dropped, and
 * later the same reply is sent again, to the same address only. Commands run as for
 * exec_serve(). opts and result may be NULL. In opts, max_output is 1 MiB by default, at most
 * 16 MiB; write_fd, reply_timeout_ms, close_grace_ms and EXEC_DETACHED do not apply. A lost
 * client does not end its command: set command_timeout_ms, since older clients ask for no limit.
 * fd is a UDP or Unix datagram socket, borrowed for the call; threads may serve on one
 * descriptor at the same time. The call lasts as long as the command, and up to a second longer
 * if the client does not read; timeout_ms is for the wait for a datagram. If every thread runs a
 * command nobody gets an answer. Let one more thread serve, and its policy return FRAME_EBUSY
 * while the others run commands.
 *
 * Returns EXEC_EXITED to EXEC_REFUSED for a new request: the reply was sent. If a part of it
 * could not be sent, error in result is the code of that failure, and the client will ask
 * again. EXEC_REPEATED. EXEC_IGNORED: error in result is FRAME_EAUTH (no tag, or a wrong one),
 * FRAME_EACCES (not from this machine, its time is not acceptable, or it was sent from another
 * address before), FRAME_EBUSY (1,024 requests are running), FRAME_EBADLENGTH, FRAME_EBADJSON,
 * FRAME_EBADFIELD, FRAME_EMISSING, FRAME_ETOOBIG, FRAME_ELIMIT (no request) or FRAME_ENOMEM.
 * Below 0: FRAME_ETIMEDOUT, no datagram was received; FRAME_ECANCELED, interrupted() ended the
 * wait, or the command, which got no reply; FRAME_EFORKED; FRAME_EBADF, FRAME_EIO with errno,
 * FRAME_EINVAL. */
int exec_datagram_serve(struct exec_datagram_server *server, int fd,
                        const struct exec_options *opts, int timeout_ms,
                        struct exec_result *result);

/* Frees a server that no thread uses any more; NULL is ignored. */
void exec_datagram_server_free(struct exec_datagram_server *server);

/* Runs a command through a datagram server. The request is sent again until the whole reply was
 * received: after 200 ms, then after twice as long each time, up to 2 s.
 *
 * fd is a UDP or Unix datagram socket that is connected to the server, so that only the
 * server's datagrams are received. A Unix socket needs a name to get a reply. fd is borrowed
 * for the call, for one thread at a time. what must fit one datagram of 65,507 bytes: input,
 * EXEC_TTY and EXEC_NO_INPUT do not apply, max_output is 1 MiB by default and at most 16 MiB.
 * The command may run as long as the exchange, or command_timeout_ms if that is less; with
 * EXEC_DETACHED it runs on without its client.
 * key is key_len bytes, 16 to 1,024, as the server has them; NULL and 0 are no key. timeout_ms
 * covers the whole exchange; FRAME_DEFAULT_TIMEOUT is 30 s. result may be NULL. On success *out
 * is the output, freed with exec_output_free(); on failure it is NULL.
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST. The command ran once; after a code below 0 it may not
 * have run. -100 and below: the server's error reply. FRAME_ETIMEDOUT: the reply was not received
 * completely. FRAME_ECANCELED. FRAME_EIO with errno: ECONNREFUSED, at once, if nobody receives.
 * FRAME_EBADREPLY: the reply contradicts itself, or has no exit_code. FRAME_ETOOBIG: the request
 * does not fit, or the reply is larger than twice max_output. FRAME_EKEY, FRAME_EINVAL,
 * FRAME_EBADF: nothing was sent. The socket can be used again after any of them. */
int exec_datagram_call(int fd, const struct exec_request *what, const void *key,
                       size_t key_len, int timeout_ms, struct exec_result *result,
                       struct exec_output **out);

/* ====================================================================== 13  serving ====== */
/*   fd = frame_listen("127.0.0.1:7000", 0, 0);  frame_server_new(&opts, &s);
 *   frame_server_listen(s, fd);  frame_server_handle(s, "get", get, &store, 0);
 *   frame_server_run(s);  frame_server_free(s);              until frame_server_stop(s)
 * docs/serving.md shows a whole program. */

/* For frame_server_options.flags: clients use the plain handshake, see AUTH_PLAIN. Without this
 * flag connections are sealed. */
#define FRAME_SERVER_PLAIN 1
/* The same: the request hello is answered, which asks what the server can do. */
#define FRAME_SERVER_HELLO 2
/* The same: without a ring the server listens on other addresses too, and serves everybody who
 * can reach them. For networks that are trusted. */
#define FRAME_SERVER_OPEN 4
/* The same: processes are reaped that this one inherits, as process 1 of a container or as a
 * subreaper: what commands leave behind. Otherwise the flag has no effect. Children of the
 * library are left to it. For those that it has started the host has to wait within a second of
 * their end. */
#define FRAME_SERVER_REAP 8
/* A level of the log: the server could not do its work. */
#define FRAME_LOG_ERROR 1
/* The same: it refused or ended something. */
#define FRAME_LOG_WARNING 2
/* The same: it began or ended; a client has proved a key that has an id. */
#define FRAME_LOG_INFO 3
/* The same: what each connection does. */
#define FRAME_LOG_DEBUG 4

struct frame_served; /* section 13 */
/* How a server serves. No time may be FRAME_NO_TIMEOUT: each wait for a client has an end. */
struct frame_server_options {
    /* sizeof(struct frame_server_options). */
    uint32_t size;
    /* FRAME_SERVER_PLAIN, FRAME_SERVER_HELLO, FRAME_SERVER_OPEN and FRAME_SERVER_REAP. */
    uint32_t flags;
    /* Threads for requests. With 0 requests are served on the thread of frame_server_run() or
     * frame_server_step(), one at a time. Otherwise commands and files have threads of their own
     * beside these. All signals are blocked in them. */
    uint32_t workers;
    /* Connections; default 1,024. The next one is told `busy` when it sends its request. */
    uint32_t max_connections;
    /* Connections beside them that have proved no key yet, or that are being refused; default
     * 64. The next one closes the oldest of them, once that has had 100 ms. */
    uint32_t max_unauthenticated;
    /* Commands that run at once; others wait. Default 2 for each processor. */
    uint32_t max_commands;
    /* Requests about files that are served at once; others wait. Default 64. */
    uint32_t max_transfers;
    /* The lines that log() gets: this level and those below it; default FRAME_LOG_INFO. */
    uint32_t log_level;
    /* Milliseconds for the whole handshake; default 10 s, at most 60 s. */
    int32_t auth_timeout_ms;
    /* Milliseconds from the first byte of a request to the last of its header; default 10 s. */
    int32_t frame_timeout_ms;
    /* Milliseconds without a byte of a request's body, or of the replies that a client reads;
     * default 30 s. On average 1 KiB must pass in a second. */
    int32_t stall_ms;
    /* Milliseconds without a request after which a connection is ended; default 300 s. */
    int32_t idle_ms;
    /* Milliseconds from frame_server_stop() to the end of what still runs; default 25 s. */
    int32_t drain_ms;
    /* How many users there are. */
    uint32_t users_len;
    /* Bytes of a request's header; default 64 KiB, at most 16 MiB. */
    uint64_t max_header;
    /* Bytes of a request's body that a handler gets in memory; default 64 MiB, or
     * FRAME_NO_LIMIT. */
    uint64_t max_body;
    /* Bytes of a connection's replies that were not written yet; default 32 MiB. */
    uint64_t max_queue;
    /* Bytes of unfinished requests of all connections; default 256 MiB. A request that exceeds
     * it is told `busy`. */
    uint64_t max_memory;
    /* The keys of its clients. The ring may be changed while the server runs, and freed. NULL:
     * it serves everybody, and without FRAME_SERVER_OPEN listens on this host only. */
    const struct auth_keyring *ring;
    /* This server's name, as in auth_options; NULL is the empty name. */
    const char *server_name;
    /* Gets a line of text, which is valid until it returns; may be NULL. No line has a key, what
     * clients sent is escaped in it, and of each level no more than a few pass in a second. It is
     * called on any thread of the server, on several at once. */
    void (*log)(void *context, uint32_t level, const char *text);
    /* Called exactly once for each request when it is over, also if it was refused, or cut by a
     * stop or by its client; may be NULL. An audit log is made of this. It is called on the thread
     * that served the request, on several at once. No call is left out, and the connection's next
     * request waits for it. A request begins with the last byte of its header. */
    void (*served)(void *context, const struct frame_served *request);
    /* The user ids whose processes are served at Unix sockets, root no more than others; they are
     * copied. NULL: whoever can connect, which the mode of the socket's file decides. Others are
     * told `denied`. Clients at other sockets are not asked for a user. */
    const uint32_t *users;
    /* Called before each wait, after each signal, and at least once a second, by the thread of
     * frame_server_run() or frame_server_step(), not with a timeout of 0; without workers also
     * while a request waits there. Return non-zero to end the call for the request, and then that
     * function, with FRAME_ECANCELED. May be NULL. */
    int (*interrupted)(void *context);
    /* Passed to log(), served() and interrupted(). */
    void *context;
};
#define FRAME_SERVER_OPTIONS_INIT { sizeof(struct frame_server_options), 0, 0, 0, 0, 0, 0, \
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL }

/* A request that is over: it was served, refused or cut. Everything in it is valid until the
 * function returns that is told. */
struct frame_served {
    /* sizeof(struct frame_served) of this library: members beyond it do not exist. */
    uint32_t size;
    /* 0; otherwise the code of the error reply, or of what has cut the request: FRAME_EABORTED
     * (the server was stopped), FRAME_ECLOSED and FRAME_ETRUNCATED (the client has gone). A
     * handler's own error replies do not count, only what it returns. */
    int32_t error;
    /* The id of the key that the client has proved, "" for a key without an id; NULL if the server
     * has no keys. */
    const char *key_id;
    /* The address of the client, as of frame_address(); NULL if it has none. */
    const char *address;
    /* At a Unix socket the client's process; otherwise 0. See frame_credentials. */
    int32_t pid;
    /* The same: its user id; otherwise UINT32_MAX. */
    uint32_t uid;
    /* The same: its group id; otherwise UINT32_MAX. */
    uint32_t gid;
    /* Of a command that ran: EXEC_EXITED, EXEC_SIGNALED and so on; otherwise -1. */
    int32_t outcome;
    /* The same: as in exec_result; otherwise -1. */
    int32_t exit_code;
    /* The same: the signal that ended it, or 0. */
    int32_t signal;
    /* The cmd of the request; NULL if it had none. */
    const char *cmd;
    /* Its header, as JSON text. */
    const char *header;
    /* Shell code that was to run, or the name of a file, which may be one that is refused;
     * what_len bytes and a NUL. NULL for anything else, and for a command that was refused before
     * it was read. */
    const char *what;
    /* Bytes of what. */
    uint64_t what_len;
    /* A program that was to run and its arguments, then NULL; NULL for anything else. */
    const char *const *argv;
    /* Bytes of the request behind its header that were received. */
    uint64_t bytes_in;
    /* Bytes of its replies, with their headers. The last of them may not be written yet. */
    uint64_t bytes_out;
    /* Milliseconds from its header to its end. */
    uint64_t time_ms;
};
#define FRAME_SERVED_INIT { sizeof(struct frame_served), 0, NULL, NULL, 0, 0, 0, 0, 0, 0, \
    NULL, NULL, NULL, 0, NULL, 0, 0, 0 }

/* A server of connections: of its own requests, of commands and of files. Everything is off until
 * it is added.
 *
 * It belongs to the caller, and is freed with frame_server_free(). Any thread may use it, but one
 * at a time calls frame_server_run() or frame_server_step(); another gets FRAME_EBUSY. It is the
 * only object of the library with threads of its own, see the member workers.
 *
 * After fork(2) its functions return FRAME_EFORKED in the child, and frame_server_stop() must not
 * be called there. */
struct frame_server;

/* Makes a server that serves nothing and listens nowhere. opts may be NULL; its strings are
 * copied.
 *
 * On success *out is the server; on failure it is NULL. Returns 0, FRAME_EINVAL, FRAME_EKEY (the
 * ring is empty), FRAME_ENOTSUP (this library was built without sealing), or FRAME_EIO with errno
 * (EMFILE: it needs four or five descriptors). */
int frame_server_new(const struct frame_server_options *opts, struct frame_server **out);

/* Frees a server; NULL is ignored. Its connections are closed at once, see frame_server_stop()
 * for another end. It waits for handlers that run. Call it on no thread of the server, and after
 * the last call that uses it has returned. */
void frame_server_free(struct frame_server *s);

/* Accepts connections of a listening socket, TCP or Unix: of frame_listen(), of systemd. Any
 * number of them, also while the server runs.
 *
 * fd is borrowed, and must stay open until frame_server_run() has returned. It may block or not.
 *
 * Returns 0. FRAME_EINVAL: it does not listen; or other hosts can reach it, and the server has no
 * ring and no FRAME_SERVER_OPEN. FRAME_ESTATE: it has stopped. FRAME_EBADF; FRAME_EIO with
 * errno. */
int frame_server_listen(struct frame_server *s, int fd);

/* Serves a connection that exists: of inetd, one end of a socketpair, one that dialled out. With
 * a ring its client must prove a key like any other; without one it can use everything.
 *
 * fd is a stream socket. On success it is the server's, which closes it; on failure it stays the
 * caller's. Returns 0, FRAME_ESTATE: it has stopped; FRAME_EBADF, FRAME_EINVAL, FRAME_EIO with
 * errno. */
int frame_server_add(struct frame_server *s, int fd);

/* For the flags of frame_server_handle(): the handler is called once the header has come, and
 * reads the body with frame_connection_read(). What it leaves is dropped, up to 16 MiB. */
#define FRAME_HANDLER_STREAM 1
/* The same: the handler may reply later, on any thread. If it returns 0, c is the host's until
 * frame_server_done(). The server serves other clients meanwhile; further requests of this one
 * wait. c can be used like any other connection: a host with a loop of its own polls for what
 * frame_connection_inspect() says. request is valid until the handler returns.
 *
 * If the handler returns a code, c is not its own, and frame_server_done() was not called. When a
 * stop ends what still runs, calls on c return FRAME_EABORTED. */
#define FRAME_HANDLER_LATER 2

/* Passes requests with this cmd to handler, on a thread of the server, several at once.
 *
 * request has the header and the body, valid until handler returns. It replies with
 * frame_connection_reply(), which queues and does not wait as long as max_queue has room, or with
 * any other function on c; no wait for the client lasts longer than stall_ms. c is the server's:
 * it is not to be kept, freed or ended. frame_connection_proof() tells who the client is.
 *
 * If handler returns 0 and has sent nothing, the reply is `ok`. If it returns a FRAME_E... code,
 * the reply is the error for it (FRAME_EIO for any other number), with the line of
 * frame_strerror(). If it has sent something before, the connection is ended instead.
 *
 * cmd is copied; context is passed to handler. Call it before the first turn. Returns 0,
 * FRAME_EEXIST (something serves this cmd), FRAME_ESTATE (the server runs), FRAME_EINVAL. */
int frame_server_handle(struct frame_server *s, const char *cmd,
                        int (*handler)(void *context,
                                       struct frame_connection *c,
                                       const struct frame_view *request),
                        void *context, uint32_t flags);

/* Ends a request whose handler has FRAME_HANDLER_LATER: with what was sent on c, or with the reply
 * `ok` if that is nothing. If code is not 0, the reply is the error for it, as for a handler's
 * result; message is its text for people, or NULL.
 *
 * Any thread may call it, before or after the handler has returned, also after
 * frame_server_free(). It does not wait. Then free c with frame_connection_free(); without this
 * call that ends the request with FRAME_ECANCELED.
 *
 * Returns 0. FRAME_ESTATE: c is not the connection of such a request, or the request is done.
 * FRAME_EBUSY: another call is using c. FRAME_EINVAL. */
int frame_server_done(struct frame_connection *c, int code, const char *message);

/* Serves commands, see exec_serve(). Their senders can do everything that the host's user can.
 *
 * opts may be NULL; its strings are copied, and its policy is called on any thread of the server.
 * command_timeout_ms is 1 h by default here. Call it before the first turn. Returns 0,
 * FRAME_EEXIST (something serves exec), FRAME_ESTATE (the server runs), FRAME_EINVAL. */
int frame_server_serve_exec(struct frame_server *s, const struct exec_options *opts);

/* Serves the files below the directory root_fd, see frame_file_serve(). flags are the rights
 * that there are: FRAME_SERVE_READ, FRAME_SERVE_CREATE, FRAME_SERVE_REPLACE, FRAME_SERVE_WRITE.
 *
 * root_fd is borrowed for the call only. opts may be NULL; its policy is called on any thread of
 * the server, and asked only about what flags allow. Call it before the first turn. Returns 0,
 * FRAME_EEXIST (something serves one of its requests), FRAME_ESTATE (the server runs),
 * FRAME_EINVAL, FRAME_EBADF (not a directory), FRAME_EIO with errno. */
int frame_server_serve_files(struct frame_server *s, int root_fd, uint32_t flags,
                             const struct frame_file_options *opts);

/* Serves until the server is stopped and every request is answered.
 *
 * Returns 0. FRAME_ETIMEDOUT: requests were cut, because drain_ms had passed or a second stop
 * came. FRAME_EBUSY: it runs, or a handler calls this. FRAME_ECANCELED: interrupted() says so; it
 * can be called again. FRAME_EIO with errno (EAGAIN: no threads), FRAME_EFORKED. */
int frame_server_run(struct frame_server *s);

/* The descriptor to poll(2) for reading before each frame_server_step(). It is valid until
 * frame_server_free(), and readable for the first turn too.
 *
 * Returns it, or FRAME_EINVAL. */
int frame_server_poll_fd(struct frame_server *s);

/* One turn, for a host with a loop of its own: does what can be done, and waits for that as
 * timeout_ms says. Without workers it serves requests, and takes as long as they do.
 *
 * Returns 0. FRAME_ETIMEDOUT: there was nothing to do. FRAME_ECLOSED: the server has stopped.
 * FRAME_EBUSY, FRAME_ECANCELED, FRAME_EIO with errno, FRAME_EFORKED. */
int frame_server_step(struct frame_server *s, int timeout_ms);

/* Stops a server. Who waits in the queue of a listening socket is accepted and served, requests
 * that have come are answered, idle connections are ended. A second call ends everything at once:
 * calls on connections return FRAME_EABORTED, and commands are killed.
 *
 * Any thread and any signal handler may call it until frame_server_free(). It only sets a number
 * and writes to an eventfd(2). Returns 0 or FRAME_EINVAL (NULL), and leaves frame_last_error() as
 * it is. */
int frame_server_stop(struct frame_server *s);

/* What a server has done so far, and does at the moment. */
struct frame_server_counts {
    /* sizeof(struct frame_server_counts). */
    uint32_t size;
    /* 0. */
    uint32_t reserved;
    /* Connections that were accepted or added. */
    uint64_t connections;
    /* Connections that exist. */
    uint64_t connections_now;
    /* Requests that are over: served, refused or cut. */
    uint64_t requests;
    /* Requests that are being served. */
    uint64_t requests_now;
    /* Requests that got an error reply or were cut, and bytes that were no request. */
    uint64_t errors;
    /* Connections that were refused because they proved no key, or not in time, or because of
     * their user. */
    uint64_t refused_auth;
    /* Connections that were refused or closed, and requests that were told `busy`, because of a
     * limit. */
    uint64_t refused_limit;
    /* Connections that were closed because the client was too slow. */
    uint64_t timed_out;
    /* Bytes that were written to clients. */
    uint64_t bytes_out;
    /* Bytes that were read from them. */
    uint64_t bytes_in;
};
#define FRAME_SERVER_COUNTS_INIT { sizeof(struct frame_server_counts), 0, 0, 0, 0, 0, 0, 0, \
    0, 0, 0, 0 }

/* Writes the counters of a server to *out. Any thread, at any time.
 *
 * Returns 0 or FRAME_EINVAL. */
int frame_server_counters(struct frame_server *s, struct frame_server_counts *out);

/* ===================================================================== 14  appendix ====== */
/* -100 and below were reported by the peer in an error reply: the connection is still usable.
 * The numbers never change and are never reused. frame_strerror() returns a line for each. */

/* The peer closed the stream between two messages: a clean end. */
#define FRAME_ECLOSED (-1)
/* The stream ended inside a frame, a packet or a handshake. */
#define FRAME_ETRUNCATED (-2)
/* Timed out before a byte was sent or received, or all received bytes are in a buffer. The
 * stream is still usable: call again. */
#define FRAME_ETIMEDOUT (-3)
/* Invalid length prefix: negative, zero for a header, or incomplete. */
#define FRAME_EBADLENGTH (-4)
/* A declared size is above the limit, or above the most that the format can carry. */
#define FRAME_ETOOBIG (-5)
/* The header is not one UTF-8 JSON object. */
#define FRAME_EBADJSON (-6)
/* A header field has the wrong type or value, or is given twice. */
#define FRAME_EBADFIELD (-7)
/* The header has no such field. */
#define FRAME_EMISSING (-8)
/* The peer's answer to the challenge is wrong: it does not have the key. */
#define FRAME_EAUTH (-9)
/* The key, or the file it is in, cannot be used. */
#define FRAME_EKEY (-10)
/* The file name is not acceptable, or leads out of the root. */
#define FRAME_EPATH (-11)
/* The target or the name exists, and must not be replaced. */
#define FRAME_EEXIST (-12)
/* There is no such file, or nothing else of the name that was asked for. */
#define FRAME_ENOENT (-13)
/* The disk or the quota is full. */
#define FRAME_ENOSPC (-14)
/* The content does not match its checksum. */
#define FRAME_ECHECKSUM (-15)
/* The command could not be started. */
#define FRAME_ESPAWN (-16)
/* A datagram was cut, or a table of a bounded size is full. */
#define FRAME_ELIMIT (-17)
/* An argument, a member of the options or a flag is not valid; the detail names it. */
#define FRAME_EINVAL (-18)
/* The descriptor is not open, or of a kind that the call cannot use. */
#define FRAME_EBADF (-19)
/* Out of memory. */
#define FRAME_ENOMEM (-20)
/* The object is not in a state that allows this call. */
#define FRAME_ESTATE (-21)
/* Another thread or transfer is using the object or the partial file. */
#define FRAME_EBUSY (-22)
/* A system call failed; errno says why. */
#define FRAME_EIO (-23)
/* Refused by a policy or by permissions. */
#define FRAME_EACCES (-24)
/* The peer, or this kernel, does not support the request. */
#define FRAME_ENOTSUP (-25)
/* A callback of the caller asked to stop. */
#define FRAME_ECANCELED (-26)
/* A reply does not answer the request, or contradicts itself. */
#define FRAME_EBADREPLY (-27)
/* A defect in this library: a panic was caught at the C boundary. */
#define FRAME_EPANIC (-28)
/* Timed out inside a message: the stream can no longer be used. */
#define FRAME_ESTALLED (-29)
/* The connection cannot be used after an earlier failure, which the detail names. */
#define FRAME_EBROKEN (-30)
/* The connection was aborted, by another thread or a signal handler. */
#define FRAME_EABORTED (-31)
/* The object belongs to the parent process: after fork(2) the child cannot use it. */
#define FRAME_EFORKED (-32)
/* A part of a tree could not be transferred, and the rest was. The detail names the first. */
#define FRAME_EINCOMPLETE (-33)
/* Reply code `bad_request`: the peer could not understand the request. */
#define FRAME_EREMOTE_BAD_REQUEST (-100)
/* Reply code `unsupported`: the peer does not support the request. */
#define FRAME_EREMOTE_UNSUPPORTED (-101)
/* Reply code `denied`: the peer refused the request. */
#define FRAME_EREMOTE_DENIED (-102)
/* Reply code `not_found`: the peer has no such file, or nothing else of that name. */
#define FRAME_EREMOTE_NOT_FOUND (-103)
/* Reply code `exists`: the file, or what else has that name, exists at the peer. */
#define FRAME_EREMOTE_EXISTS (-104)
/* Reply code `too_big`: the request is above a limit of the peer. */
#define FRAME_EREMOTE_TOO_BIG (-105)
/* Reply code `no_space`: the peer's disk or quota is full. */
#define FRAME_EREMOTE_NO_SPACE (-106)
/* Reply code `timed_out`: the request did not reach the peer in time. */
#define FRAME_EREMOTE_TIMED_OUT (-107)
/* Reply code `checksum`: the content that the peer received does not match its checksum. */
#define FRAME_EREMOTE_CHECKSUM (-108)
/* Reply code `busy`: try again later. */
#define FRAME_EREMOTE_BUSY (-109)
/* Reply code `spawn_failed`: the peer could not start the command. */
#define FRAME_EREMOTE_SPAWN_FAILED (-110)
/* Reply code `io`: the peer failed, such as in a system call. */
#define FRAME_EREMOTE_IO (-111)
/* A reply code that this version does not know. */
#define FRAME_EREMOTE_OTHER (-199)

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FRAMEFD_H */
