/* framefd: messages, proof of a key, remote commands and files over any file descriptor.
 * Made by `make header` from src/ffi; do not edit.
 *
 *   1  basics                versions, texts of errors, limits and times         4
 *   2  one message           sent or received on a raw descriptor                6
 *   3  headers               read and built, field by field                     12
 *   4  addresses             connect, listen, accept                             4
 *   5  connections           a conversation: messages, bodies, calls            20
 *   6  event loops           bytes in, frames out: no descriptor, no clock      10
 *   7  keys                  the handshake, key files, rings of keys            10
 *   8  commands, client      run at the peer, at once or streamed               11
 *   9  commands, server      run here, for a peer                                3
 *  10  files, client         put, get, trees, stat, list, mkdir                  7
 *  11  files, server         served below one directory                          2
 *  12  datagrams             frames and commands over UDP or Unix sockets        7
 *  13  appendix              every error code, in words
 *                                                                      in all 96 functions
 *
 * True of every function, unless it says otherwise:
 *
 * - It returns 0 or a count, or a negative FRAME_E... code. frame_strerror() has a line for
 *   each code, frame_last_error() this thread's details in words. A code of -100 or below
 *   came from the peer in an error reply: the connection is still usable.
 * - Descriptors are borrowed. They are never closed, their flags are never changed, and
 *   nothing beyond the message is read, except by a connection. They may block or not.
 * - No call changes the process: no signal handler or mask, no SIGPIPE, no working directory,
 *   environment or locale, no global state. Nothing is printed.
 * - One deadline covers a whole call, on the monotonic clock.
 * - Options may be NULL. Their first member is their size, which ..._INIT sets:
 *       struct frame_options opts = FRAME_OPTIONS_INIT;
 *   A member that is 0 has its default. No struct has padding at its end.
 * - An output pointer may be NULL if its function says so. It is NULL after a failure.
 * - Objects are freed with the function of their own name; NULL is ignored.
 * - Threads may call everything at the same time, on different objects and descriptors. Each
 *   object and function says more if it allows more.
 * - Everything is there since version 0.1, unless it says another.
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

/* The version that this header belongs to. */
#define FRAME_VERSION_MAJOR 0
/* See FRAME_VERSION_MAJOR. */
#define FRAME_VERSION_MINOR 1
/* See FRAME_VERSION_MAJOR. */
#define FRAME_VERSION_PATCH 0
/* Changes when a program must be rebuilt; compare it with frame_abi_version(). */
#define FRAME_ABI_VERSION 0

/* The version of the library as text, such as "0.1.0".
 *
 * The text is static. May be called from any thread and from a signal handler. Cannot
 * fail. */
const char *frame_version(void);

/* The number of the library's binary interface: a program loaded with another
 * FRAME_ABI_VERSION than this must not use it.
 *
 * May be called from any thread and from a signal handler. Cannot fail. */
int frame_abi_version(void);

/* One line of English for a code, without a full stop.
 *
 * Every int has a text; it is static. May be called from any thread and from a signal
 * handler. Cannot fail. */
const char *frame_strerror(int code);

/* This thread's last failure: the line of its code, and the details: what was expected, what
 * came, the text of the errno. For people; a program branches on the code.
 *
 * The text is empty before the first failure. It is in a buffer of the thread, which the next
 * failure overwrites and nothing frees before the thread ends. Bytes of the peer are escaped
 * in it. May be called from any thread. Cannot fail. */
const char *frame_last_error(void);

/* For a `timeout_ms`: wait for ever. */
#define FRAME_NO_TIMEOUT (-1)
/* For a `timeout_ms`: do not wait at all. */
#define FRAME_DONT_WAIT (-2)
/* For a limit: none. */
#define FRAME_NO_LIMIT UINT64_MAX
/* As a timeout parameter: that of the object. As a member it is 0. */
#define FRAME_DEFAULT_TIMEOUT INT32_MIN

/* =================================================================== 2  one message ====== */
/*   frame_send(fd, "{\"cmd\":\"add\"}", body, len, NULL);
 *   frame_recv(fd, &frame, NULL);  frame_body(frame, &len);  frame_free(frame);
 * No state, and not a byte beyond the message. A conversation is better held on a connection. */

/* For frame_options.format and frame_connection_options.format: a JSON header and a body. */
#define FRAME_FORMAT_FRAMES 0
/* The same: a length and bytes. Headers are NULL. */
#define FRAME_FORMAT_PACKETS 1
/* For frame_options.prefix, to be added to the width in bytes (1, 2, 4 or 8): the most
 * significant byte comes first. */
#define FRAME_PREFIX_BIG_ENDIAN 256
/* For frame_options.prefix, to be added to the width: the length has no sign bit. */
#define FRAME_PREFIX_UNSIGNED 512

/* How messages are sent and received on a raw descriptor, or without one. Initialise it with
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
     * Erlang's {packet,N} and tokio's LengthDelimitedCodec are both: big-endian and unsigned. */
    uint32_t prefix;
    /* None are defined: 0. */
    uint32_t flags;
    /* Asked before each wait and after each signal, and at least once a second while a call
     * waits: a result other than 0 ends the call with FRAME_ECANCELED, or with FRAME_ESTALLED
     * inside a message. NULL: nothing is asked. */
    int (*interrupted)(void *context);
    /* Passed to interrupted. */
    void *context;
};
#define FRAME_OPTIONS_INIT { sizeof(struct frame_options), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* A received message, in memory of its own.
 *
 * It belongs to the caller and is freed with frame_free(). It never changes: any number of
 * threads may read it. */
struct frame;

/* Sends one message: a JSON header and body_len bytes of body, in one system call if the
 * descriptor takes it.
 *
 * header is a JSON object in UTF-8, without the key data_size, which the library adds; NULL is
 * an empty one, and the only one for packets. body may be NULL if body_len is 0. opts may be
 * NULL.
 *
 * Everything is borrowed for the call. fd is a socket, pipe or terminal, blocking or not; it
 * is not closed and none of its flags is changed. On a TCP socket set TCP_NODELAY: else a
 * small message may wait for the peer's delayed acknowledgement. Threads that send on one
 * descriptor have to take turns; one may send while another receives.
 *
 * Returns 0. Nothing was sent, and the stream is in sync: FRAME_ETIMEDOUT, FRAME_ECANCELED,
 * FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size), FRAME_ETOOBIG
 * (the header is above max_header, or the length beyond the prefix). Out of sync, close the
 * stream: FRAME_ESTALLED (a part was sent when the time was up, or the call was interrupted),
 * FRAME_EBADF, FRAME_EIO with errno (EPIPE if the peer is gone; no SIGPIPE is raised). */
int frame_send(int fd, const char *header, const void *body, size_t body_len,
               const struct frame_options *opts);

/* Receives one message into memory of its own.
 *
 * On success *out is the message, which the caller frees with frame_free(); on failure it is
 * NULL. opts may be NULL. fd is borrowed, is not read beyond the message, and keeps its flags.
 * Threads that receive on one descriptor have to take turns.
 *
 * Returns 0. In sync: FRAME_ECLOSED (the peer closed between messages), FRAME_ETIMEDOUT and
 * FRAME_ECANCELED (nothing came). Out of sync, close the stream: FRAME_ETRUNCATED (it ended
 * inside the message), FRAME_ESTALLED (the time was up inside the message, or the call was
 * interrupted there), FRAME_EBADLENGTH, FRAME_ETOOBIG (above max_header or max_body; nothing
 * is allocated for it), FRAME_EBADJSON, FRAME_EBADFIELD (data_size is not a plain integer, or
 * there twice), FRAME_ENOMEM, FRAME_EIO with errno. FRAME_EINVAL, FRAME_EBADF: nothing was
 * read. */
int frame_recv(int fd, struct frame **out, const struct frame_options *opts);

struct frame_view; /* section 2 */
/* Receives one message into the caller's buffer: the header's text with a NUL after it, and
 * the body behind it, 16 bytes aligned to buf; the bytes of a packet are at its start. The
 * library asks for no memory if it fits and the header has less than 64 bytes.
 *
 * buf takes up to cap bytes and may be NULL if cap is 0. On success either *view says where in
 * buf the message is, and *rest is NULL; or it does not fit, and *rest is the whole message as
 * from frame_recv(), freed with frame_free(), and *view shows it until then. max_body is for
 * rest alone. rest may be NULL: then a message that does not fit is refused. opts may be NULL.
 *
 * Returns 0 or a code of frame_recv(). FRAME_ETOOBIG: it does not fit and rest is NULL, or it
 * is above max_body; the stream is then out of sync. */
int frame_recv_into(int fd, void *buf, size_t cap, const struct frame_options *opts,
                    struct frame_view *view, struct frame **rest);

/* The header of a message: the JSON text as it came, with a NUL after it.
 *
 * len, if len is not NULL, is its length without the NUL. The text is valid until
 * frame_free(). NULL with a length of 0 for a packet or a NULL message. */
const char *frame_header(const struct frame *frame, size_t *len);

/* The body of a message, or a packet's bytes.
 *
 * len, if len is not NULL, is their number. The bytes are valid until frame_free(). NULL with
 * a length of 0 for an empty body or a NULL message. */
const void *frame_body(const struct frame *frame, size_t *len);

/* Frees a message; NULL is ignored. */
void frame_free(struct frame *frame);

/* A message that is in somebody else's memory: a connection's, a decoder's or the caller's.
 * The function that fills it says how long it lasts. Also a message to be queued.
 *
 * The struct never grows: it is used in arrays. */
struct frame_view {
    /* The JSON text of the header with a NUL after it; NULL for a packet. */
    const char *header;
    /* Its length without the NUL. It is not read of a message to be queued. */
    size_t header_len;
    /* The body, or the bytes of a packet; NULL if there are none. */
    const void *body;
    /* Their number. */
    size_t body_len;
};

/* ======================================================================= 3  headers ====== */
/*   frame_header_string(view.header, "cmd", cmd, sizeof cmd);    the text of any header
 *   b = frame_builder_new();  frame_builder_int(b, "n", 3);  text = frame_builder_text(b, NULL);
 * A failure sticks in a builder, and each function takes NULL: check the text alone. */

/* Copies the string at the top-level key `key` to buf, unescaped and with a NUL after it.
 *
 * header is the text of a header; NULL, as a packet has it, has no fields. buf takes up to cap
 * bytes, the NUL among them; NULL asks for the length alone. Any thread.
 *
 * Returns the length without the NUL. FRAME_EMISSING: no such key. FRAME_EBADFIELD: not a
 * string, or one with a NUL inside, or the key is there twice. FRAME_ETOOBIG: longer than buf,
 * and nothing was written. FRAME_EBADJSON: header is not a JSON object. FRAME_EINVAL. */
int64_t frame_header_string(const char *header, const char *key, char *buf, size_t cap);

/* Reads the integer at the top-level key `key` into *value.
 *
 * header is as for frame_header_string(). After a failure *value is unchanged: a default can
 * be set first. Any thread.
 *
 * Returns 0, FRAME_EMISSING, FRAME_EBADFIELD (not an integer, beyond 64 bits with a sign, or
 * the key is there twice), FRAME_EBADJSON or FRAME_EINVAL. */
int frame_header_int(const char *header, const char *key, int64_t *value);

/* Reads the boolean at the top-level key `key` into *value. As frame_header_int() otherwise. */
int frame_header_bool(const char *header, const char *key, bool *value);

/* Finds the value at the top-level key `key`, of any type, as it stands in the text.
 *
 * On success *json points to it inside header, without a NUL behind it; on failure it is NULL.
 * header is as for frame_header_string(). Any thread.
 *
 * Returns its length, FRAME_EMISSING, FRAME_EBADFIELD (the key is there twice), FRAME_EBADJSON
 * or FRAME_EINVAL. */
int64_t frame_header_json(const char *header, const char *key, const char **json);

/* A header that is being put together.
 *
 * It belongs to the caller, is freed with frame_builder_free() and may be used by one thread
 * at a time. A failure sticks: every later call returns its code, and there is no text. */
struct frame_builder;

/* A new, empty object; freed with frame_builder_free(). NULL if memory is out, which the other
 * functions take. */
struct frame_builder *frame_builder_new(void);

/* Adds a string; quotes, newlines and the like are escaped.
 *
 * key and value are UTF-8 and are copied. value_len is the number of bytes of value, or
 * SIZE_MAX: it ends with a NUL. value may be NULL if value_len is 0.
 *
 * Returns 0, or the first failure of this builder: FRAME_EBADFIELD (the key is there already,
 * or is data_size; value is not UTF-8), FRAME_ENOMEM (builder is NULL) or FRAME_EINVAL. */
int frame_builder_string(struct frame_builder *builder, const char *key, const char *value,
                         size_t value_len);

/* Adds an integer. The codes of frame_builder_string(). */
int frame_builder_int(struct frame_builder *builder, const char *key, int64_t value);

/* Adds true or false. The codes of frame_builder_string(). */
int frame_builder_bool(struct frame_builder *builder, const char *key, bool value);

/* Adds a value that is JSON already: an array, an object, null, a fraction.
 *
 * The codes of frame_builder_string(), and FRAME_EBADJSON. */
int frame_builder_json(struct frame_builder *builder, const char *key, const char *json);

/* Adds the members of another header as they stand in its text, for a relay: all but data_size
 * and those whose key is there already.
 *
 * The codes of frame_builder_string(), and FRAME_EBADJSON. */
int frame_builder_merge(struct frame_builder *builder, const char *header);

/* The object as it is now: JSON text with a NUL after it.
 *
 * len, if len is not NULL, is its length without the NUL. Valid until the builder is changed
 * or freed. NULL with a length of 0 after a failure, whose code the builder's other functions
 * return, and for a NULL builder. */
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
 * If a name has several addresses, they are tried in order. opts may be NULL; its
 * connect_timeout_ms is for all of it, except that the lookup of a name is the C library's and
 * keeps to no deadline. FRAME_CONNECTION_OWN is implied.
 *
 * On success *out is the connection, on failure NULL. Returns 0, FRAME_ETIMEDOUT, FRAME_EIO
 * with errno (ECONNREFUSED, EHOSTUNREACH and so on), FRAME_ENOENT (no such name), FRAME_EINVAL
 * (the address, named in frame_last_error()), FRAME_ENOMEM. */
int frame_connect(const char *address, const struct frame_connection_options *opts,
                  struct frame_connection **out);

/* Makes a listening socket, which is the caller's and closed on exec.
 *
 * backlog is the length of its queue, 0 for the default of 4,096. mode is that of a Unix socket's
 * file, 0 for 0600. The file of a Unix socket that nobody listens on is replaced; anything else
 * there stays. A TCP port can be had again at once after its last listener.
 *
 * Returns the descriptor, FRAME_EIO with errno (EADDRINUSE, EACCES and so on), FRAME_EEXIST,
 * FRAME_ENOENT or FRAME_EINVAL. */
int frame_listen(const char *address, int backlog, uint32_t mode);

/* Takes the next connection of a listening socket, which stays as it is, blocking or not.
 *
 * On success *out is the connection, which owns its descriptor; on failure NULL. opts may be
 * NULL; FRAME_CONNECTION_OWN is implied. Any number of threads may accept from one socket.
 *
 * Returns 0, FRAME_ETIMEDOUT (none came), FRAME_EIO with errno (EMFILE: the connection stays in
 * the queue), FRAME_EBADF, FRAME_EINVAL, FRAME_ENOMEM. */
int frame_accept(int listening_fd, const struct frame_connection_options *opts, int timeout_ms,
                 struct frame_connection **out);

/* Writes the text of a socket's own address, or of its peer's, to buf, with a NUL. Functions
 * that take an address take this text. A Unix socket without a name is "unix:".
 *
 * buf may be NULL, to learn the length. Returns the length without the NUL, FRAME_ETOOBIG (cap
 * is too small; nothing was written), FRAME_EBADF (no socket), FRAME_ENOTSUP (another family),
 * FRAME_EIO with errno (ENOTCONN). */
int64_t frame_address(int fd, bool of_peer, char *buf, size_t cap);

/* =================================================================== 5  connections ====== */
/*   frame_connection_send(c, header, body, len, -1);
 *   while ((n = frame_connection_next(c, views, 64, -1)) > 0) ...
 *   frame_connection_call(c, "{\"cmd\":\"get\"}", NULL, 0, 5000, &reply);
 * timeout_ms as a parameter is poll(2)'s: 0 does not wait, -1 waits for ever, and
 * FRAME_DEFAULT_TIMEOUT is the connection's. */

/* For frame_connection_options.flags: the connection owns the descriptors, once
 * frame_connection_new() has returned 0; frame_connection_free() closes them. */
#define FRAME_CONNECTION_OWN 1
/* One thread may send while another receives. Then neither direction serves the other: a
 * receive does not write the queue, and a send does not take in what comes. */
#define FRAME_CONNECTION_DUPLEX 2
/* Not a byte is read beyond the message at hand, so that the descriptor can be handed on after
 * any of them. A send does not take in what comes, either. */
#define FRAME_CONNECTION_EXACT 4
/* TCP_NODELAY stays as it is. Without this flag a connection sets it on a TCP socket, and
 * leaves it set: that is the only thing that the library changes on a borrowed descriptor. */
#define FRAME_CONNECTION_AS_IS 8
/* Keepalive probes are switched on: SO_KEEPALIVE of socket(7). */
#define FRAME_CONNECTION_KEEPALIVE 16

/* How a connection is made. */
struct frame_connection_options {
    /* sizeof(struct frame_connection_options). */
    uint32_t size;
    /* FRAME_CONNECTION_... added up. */
    uint32_t flags;
    /* Milliseconds that FRAME_DEFAULT_TIMEOUT stands for; default FRAME_NO_TIMEOUT. */
    int32_t timeout_ms;
    /* Milliseconds for all of frame_connect(), every address of the name; default 30,000. */
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
    /* Bytes that are accepted and not written; default 32 MiB. */
    uint64_t max_queue;
    /* Asked before each wait and after each signal, and at least once a second while a call
     * lasts: a result other than 0 ends the call with FRAME_ECANCELED. A call that need not wait,
     * and one with 0 as timeout, does not ask. NULL: nothing is asked. */
    int (*interrupted)(void *context);
    /* Passed to interrupted. */
    void *context;
};
#define FRAME_CONNECTION_OPTIONS_INIT { sizeof(struct frame_connection_options), 0, 0, 0, \
    0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* A conversation over one or two descriptors: messages, bodies in pieces, calls, commands and
 * files, one after the other.
 *
 * It belongs to the caller, and is freed with frame_connection_free(). One thread at a time
 * may use it, or one in each direction with FRAME_CONNECTION_DUPLEX; a second one gets
 * FRAME_EBUSY. What allows any thread, or a signal handler, says so.
 *
 * Messages lose nothing: after FRAME_ETIMEDOUT and FRAME_ECANCELED call again. Exchanges
 * (calls, commands, files) are whole, or break the connection once their request has begun to
 * go out. A framing error and an end of stream inside a message break it too. Then every call
 * but frame_connection_inspect(), _unread(), _abort() and _free() returns FRAME_EBROKEN, and
 * frame_last_error() names the first cause.
 *
 * After fork(2) a child gets FRAME_EFORKED from everything but _unread() and _free(). */
struct frame_connection;

/* Makes a connection of read_fd and write_fd: one socket twice, a pair of pipes, or -1 for a
 * direction that is not there.
 *
 * On success *out is the connection, on failure NULL, and no descriptor was taken. They are
 * borrowed and have to stay open until frame_connection_free(), which closes them only with
 * FRAME_CONNECTION_OWN. They are sockets of type SOCK_STREAM, pipes or terminals in raw mode,
 * blocking or not. opts may be NULL.
 *
 * Returns 0, FRAME_EBADF (not open), FRAME_EINVAL (a datagram socket, or options), FRAME_ENOMEM
 * or FRAME_EIO with errno (EMFILE: what is no socket needs an eventfd(2)). */
int frame_connection_new(int read_fd, int write_fd,
                         const struct frame_connection_options *opts,
                         struct frame_connection **out);

/* Ends the object; NULL is ignored. What is queued is dropped, and nothing is sent or shut
 * down: see frame_connection_end(). The descriptors are closed if the connection owns them. */
void frame_connection_free(struct frame_connection *c);

/* Writes what is queued, and ends this direction: the peer sees an end of stream (on a socket;
 * anything else ends when it is closed).
 *
 * With linger it then drops what the peer sends, until the peer has ended its direction too,
 * at most 256 KiB: a close with unread input would take the last reply from the peer. Nothing is
 * received after that. Without it one direction ends and the other goes on, with
 * FRAME_CONNECTION_DUPLEX beside a thread that receives.
 *
 * Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: call again. FRAME_ESTATE: a body in pieces is
 * not complete, or there is nothing to drop after frame_connection_unread(). FRAME_EIO with
 * errno, FRAME_EBROKEN, FRAME_EABORTED, FRAME_EFORKED, FRAME_EBUSY. */
int frame_connection_end(struct frame_connection *c, bool linger, int timeout_ms);

/* Makes whatever waits on the connection return FRAME_EABORTED within 100 ms, and every later
 * call at once; but not a name lookup, and not what the kernel does with a file.
 *
 * A socket is shut down, which every process that shares it feels. In a child of fork(2) it
 * does nothing. Any thread, and any signal handler, while the connection is not freed.
 *
 * Returns 0 or FRAME_EINVAL (NULL). */
int frame_connection_abort(struct frame_connection *c);

/* Gives receiving up for good, and gives back what was read ahead: the next part of the
 * stream, for whoever goes on with the descriptor.
 *
 * bytes is borrowed until frame_connection_free(), and *len its length. It works on a broken
 * connection, and in a child of fork(2).
 *
 * Returns 0, FRAME_EINVAL, FRAME_EBUSY, FRAME_ENOMEM, or FRAME_EFORKED: in a child, if another
 * thread of its parent was in the connection when it forked. */
int frame_connection_unread(struct frame_connection *c, const void **bytes, size_t *len);

/* For frame_connection_state.flags: this side has ended its direction. */
#define FRAME_STATE_ENDED 1
/* The same: the peer has ended its own. */
#define FRAME_STATE_PEER_ENDED 2
/* The same: a streamed command runs, see exec_start(). */
#define FRAME_STATE_EXEC 4

/* What a connection is about to do. */
struct frame_connection_state {
    /* sizeof(struct frame_connection_state). */
    uint32_t size;
    /* FRAME_STATE_... added up. */
    uint32_t flags;
    /* The code that broke the connection, or its sending; 0 if nothing did. */
    int32_t broken;
    /* Where to poll(2) for reading, or -1. */
    int32_t read_fd;
    /* Where to poll for writing, or -1. */
    int32_t write_fd;
    /* For poll(2); poll only after a receive has returned FRAME_ETIMEDOUT, since messages may
     * have been read already. */
    int16_t read_events;
    /* For poll(2): 0 if nothing is queued. */
    int16_t write_events;
    /* Bytes of a body in pieces that were not read. */
    uint64_t to_receive;
    /* Bytes of a body that was begun, which were not given. */
    uint64_t to_send;
    /* Bytes that were accepted and not written. */
    uint64_t queued;
};
#define FRAME_CONNECTION_STATE_INIT { sizeof(struct frame_connection_state), 0, 0, 0, 0, 0, \
    0, 0, 0, 0 }

/* Writes what a connection is about to do to *out. For a program with its own event loop:
 * receive with 0 as timeout until FRAME_ETIMEDOUT, then poll.
 *
 * Returns 0, FRAME_EINVAL or FRAME_EBUSY; never FRAME_EBROKEN. */
int frame_connection_inspect(struct frame_connection *c, struct frame_connection_state *out);

/* Receives one message into memory of its own.
 *
 * On success *out is the frame, which the caller frees with frame_free(); on failure NULL.
 *
 * Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: nothing is lost, call again. FRAME_ECLOSED:
 * the peer ended the stream between two messages. These break the connection:
 * FRAME_ETRUNCATED, FRAME_EBADLENGTH, FRAME_ETOOBIG (above max_header or max_body),
 * FRAME_EBADJSON, FRAME_EBADFIELD (data_size), FRAME_EIO with errno. FRAME_EBROKEN,
 * FRAME_EABORTED, FRAME_EFORKED, FRAME_EBUSY, FRAME_EINVAL, FRAME_ENOMEM, FRAME_EBADF (the
 * connection has nothing to read from), FRAME_ESTATE (after frame_connection_unread()). */
int frame_connection_recv(struct frame_connection *c, int timeout_ms, struct frame **out);

/* Takes the messages that are there, in order, max at most, and waits if there is none.
 *
 * views has room for max of them, and max is at least 1. They are borrowed until the next
 * receive on this connection, or until it is freed.
 *
 * Returns how many, at least 1, or a code of frame_connection_recv(); one that breaks the
 * connection comes after all messages before it. */
int64_t frame_connection_next(struct frame_connection *c, struct frame_view *views, size_t max,
                              int timeout_ms);

/* Receives the header of the next message; its body is then read with frame_connection_read()
 * and frame_connection_read_to(), or by exec_serve() and frame_file_serve().
 *
 * view has the header, borrowed until the next receive, and no body. *body_len is the length
 * of the body, of any size, and may be NULL.
 *
 * Returns 0 or a code of frame_connection_recv(); FRAME_ESTATE for packets, which have no
 * header. */
int frame_connection_recv_header(struct frame_connection *c, int timeout_ms,
                                 struct frame_view *view, uint64_t *body_len);

/* Reads 1 to cap bytes of the body into buf, as they come.
 *
 * Returns how many, 0 at the end of the body, or a code of frame_connection_recv(). cap is at
 * least 1. */
int64_t frame_connection_read(struct frame_connection *c, void *buf, size_t cap,
                              int timeout_ms);

/* Copies the rest of the body to a descriptor, which is borrowed.
 *
 * Returns how many bytes were copied: less than the rest if the time was up, and then
 * frame_connection_inspect() has the number that is left. A failure of to_fd is its own code
 * (FRAME_EIO with errno, FRAME_ENOSPC), and leaves the connection in sync and the rest of the
 * body to be read. The codes of frame_connection_recv(). */
int64_t frame_connection_read_to(struct frame_connection *c, int to_fd, int timeout_ms);

/* Sends one message: a JSON header and body_len bytes of body, in one system call if the
 * descriptor takes it.
 *
 * header is a JSON object without data_size, which the library adds; NULL is an empty one, and
 * the only one for packets. body may be NULL if body_len is 0. Both are borrowed for the call.
 *
 * Returns 0: all of it was written. 1: it was accepted and some of it is queued, do not send it
 * again. FRAME_ETIMEDOUT and FRAME_ECANCELED: nothing of it was accepted, it can be sent again.
 * FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size), FRAME_ETOOBIG
 * (above max_header, or beyond the prefix), FRAME_ESTATE (a body in pieces is not complete, or
 * this direction was ended): nothing was accepted. FRAME_EIO with errno: nothing can be sent
 * any more, but what the peer sent before can be received. FRAME_EBROKEN, FRAME_EABORTED,
 * FRAME_EFORKED, FRAME_EBUSY, FRAME_ENOMEM, FRAME_EBADF (nothing to write to). */
int frame_connection_send(struct frame_connection *c, const char *header, const void *body,
                          size_t body_len, int timeout_ms);

/* Accepts messages to be written together: once they are 64 KiB, by frame_connection_flush(),
 * and before a receive waits. It waits only while more than max_queue would be queued.
 *
 * messages are count of them, borrowed for the call; headers and bodies are as for
 * frame_connection_send().
 *
 * Returns how many were accepted, less than count if the time was up or one of them is refused.
 * A failure before the first is a code of frame_connection_send(). */
int64_t frame_connection_queue(struct frame_connection *c, const struct frame_view *messages,
                               size_t count, int timeout_ms);

/* Writes all that is queued.
 *
 * Returns 0. FRAME_ETIMEDOUT and FRAME_ECANCELED: not all, call again; frame_connection_inspect()
 * has the number of bytes that are left. The other codes of frame_connection_send(). */
int frame_connection_flush(struct frame_connection *c, int timeout_ms);

/* Begins a message whose body of body_len bytes, any number, is given in pieces with
 * frame_connection_write() and frame_connection_write_from().
 *
 * Its header is written together with the first piece. Until the last byte was given every
 * other function that sends returns FRAME_ESTATE.
 *
 * Returns 0 or a code of frame_connection_send(). It never waits. */
int frame_connection_begin(struct frame_connection *c, const char *header, uint64_t body_len);

/* Gives the next len bytes of the body.
 *
 * Returns how many were accepted: all, or less if the time was up; give the others again.
 * FRAME_EINVAL: more than the body needs, nothing was accepted. The codes of
 * frame_connection_send(). */
int64_t frame_connection_write(struct frame_connection *c, const void *data, size_t len,
                               int timeout_ms);

/* Gives the next len bytes of the body from a descriptor, which is borrowed.
 *
 * Returns how many: less than len if from_fd has no more, or if the time was up. What was read
 * from from_fd was accepted. A failure of from_fd is FRAME_EIO with errno, and leaves the
 * connection in sync and the rest of the body to be given. The codes of
 * frame_connection_write(). */
int64_t frame_connection_write_from(struct frame_connection *c, int from_fd, uint64_t len,
                                    int timeout_ms);

/* Sends a request and takes its reply, which repeats the request's id and says
 * "status":"ok".
 *
 * header is a JSON object without an id, which the library chooses, and without data_size. On
 * success *reply is the reply, which the caller frees with frame_free(); on failure NULL.
 * timeout_ms is for the whole exchange, and not 0: a call cannot be resumed.
 *
 * Returns 0. -100 and below: an error reply, whose message frame_last_error() has; the
 * connection is in sync. Once a byte of the request was accepted every other failure breaks
 * the connection: FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_EBADREPLY (it answers another
 * request, or does not say "ok"), FRAME_ECLOSED, and the codes of frame_connection_recv() and
 * frame_connection_send(). FRAME_EINVAL: the header has an id, or timeout_ms is 0. */
int frame_connection_call(struct frame_connection *c, const char *header, const void *body,
                          size_t body_len, int timeout_ms, struct frame **reply);

/* Queues the reply to a request: "status":"ok", the request's id, the members of header, and
 * body_len bytes of body.
 *
 * request is the text of the request's header. header is a JSON object, or NULL for none;
 * members that the library writes (status, id, data_size) are FRAME_EBADFIELD. It waits only
 * while more than max_queue would be queued, so 0 as timeout_ms will do.
 *
 * Returns 0 or a code of frame_connection_send(). */
int frame_connection_reply(struct frame_connection *c, const char *request, const char *header,
                           const void *body, size_t body_len, int timeout_ms);

/* Queues the error reply to a request: the reply code that stands for code, and a message for
 * people, or NULL.
 *
 * code is a FRAME_E... code; one of FRAME_EREMOTE_... names its reply code. Otherwise as
 * frame_connection_reply(). */
int frame_connection_reply_error(struct frame_connection *c, const char *request, int code,
                                 const char *message, int timeout_ms);

/* =================================================================== 6  event loops ====== */
/*   p = frame_decoder_reserve(d, &room);  n = read(fd, p, room);  frame_decoder_commit(d, n);
 *   while ((n = frame_decoder_next(d, views, 64)) > 0) ... */

/* Takes messages out of bytes as they come. It reads no descriptor and never waits.
 *
 * It belongs to the caller, is freed with frame_decoder_free() and may be used by one thread
 * at a time. An error of the stream sticks: from then on every call returns it. */
struct frame_decoder;

/* Writes what goes before a body: the length and the header of a frame, or the length of a
 * packet. The program then sends it and body_len bytes of body, with one writev(2) for
 * instance.
 *
 * buf takes up to cap bytes; NULL asks for the length alone. header is as for frame_send(); 43
 * bytes more than its length are enough. opts may be NULL; timeout_ms and interrupted do not
 * apply. Any thread.
 *
 * Returns how many bytes it is. FRAME_ETOOBIG: more than cap, and nothing was written; the
 * header is above max_header; or body_len is beyond the prefix. FRAME_EINVAL, FRAME_EBADJSON,
 * FRAME_EBADFIELD (the header has a data_size). */
int64_t frame_encode(void *buf, size_t cap, const char *header, uint64_t body_len,
                     const struct frame_options *opts);

/* Makes a decoder for a stream that is at the start of a message.
 *
 * On success *out is the decoder, on failure NULL. opts may be NULL; timeout_ms and interrupted
 * do not apply.
 *
 * Returns 0 or FRAME_EINVAL. */
int frame_decoder_new(const struct frame_options *opts, struct frame_decoder **out);

/* Frees a decoder and what it lent; NULL is ignored. */
void frame_decoder_free(struct frame_decoder *decoder);

/* Memory for the next bytes of the stream, so that read(2) puts them where they are decoded.
 * frame_decoder_commit() then says how many came.
 *
 * room, if room is not NULL, is how many bytes fit, at least one. The memory belongs to the
 * decoder and is valid until the next call for it. It is 8 KiB at first and 128 KiB if that
 * much comes again and again; for a longer body it grows with the bytes that came, here or of
 * the message before, never with what was declared.
 *
 * NULL with a room of 0 once the decoder has failed, or if memory is out; the next
 * frame_decoder_next() returns the error that sticks, if there is one. */
void *frame_decoder_reserve(struct frame_decoder *decoder, size_t *room);

/* Says that n bytes of the stream were put where frame_decoder_reserve() said.
 *
 * Returns 0, or FRAME_EINVAL: it is more than there was room for. */
int frame_decoder_commit(struct frame_decoder *decoder, size_t n);

/* Takes the messages of which all bytes were committed, in order, max at most.
 *
 * views has room for max of them, and max is at least 1. They are borrowed until the next
 * frame_decoder_reserve(), and until the decoder is freed.
 *
 * Returns how many, 0 if the next one is not whole yet. FRAME_EBADLENGTH, FRAME_ETOOBIG (above
 * max_header or max_body: as soon as that is known), FRAME_EBADJSON, FRAME_EBADFIELD: it
 * sticks, and comes after all messages before it were taken. FRAME_ESTATE: bytes of a body in
 * pieces are left. FRAME_EINVAL. */
int64_t frame_decoder_next(struct frame_decoder *decoder, struct frame_view *views,
                           size_t max);

/* Takes the header of the next frame if all of it was committed. Its body is then taken with
 * frame_decoder_body(); max_body does not apply.
 *
 * view has the header, borrowed as from frame_decoder_next(), and no body. *body_len is the
 * length of the body, of any size, and may be NULL.
 *
 * Returns 1, or 0 if the header is not whole yet. FRAME_ESTATE for packets too, which have no
 * header; the other codes of frame_decoder_next(). */
int frame_decoder_next_header(struct frame_decoder *decoder, struct frame_view *view,
                              uint64_t *body_len);

/* Takes the bytes of a body in pieces that were committed.
 *
 * piece is where they are, borrowed as from frame_decoder_next(); NULL if there are none.
 *
 * Returns how many, 0 at the end of the body. FRAME_ETIMEDOUT: more bytes are needed.
 * FRAME_ESTATE: no header was taken with frame_decoder_next_header(). FRAME_EINVAL. */
int64_t frame_decoder_body(struct frame_decoder *decoder, const void **piece);

/* What was committed and not taken, for a program that goes on with the stream in another way.
 *
 * len, if len is not NULL, is its length. The bytes are borrowed as from frame_decoder_next();
 * NULL with a length of 0 if there are none. */
const void *frame_decoder_unread(const struct frame_decoder *decoder, size_t *len);

/* Says that the stream has ended, after all whole messages were taken, and returns what that
 * means, which is never 0.
 *
 * Returns FRAME_ECLOSED: between two messages, a clean end. FRAME_ETRUNCATED: bytes are left
 * that are no whole message; it sticks. The error that sticks already. FRAME_EINVAL. */
int frame_decoder_end(struct frame_decoder *decoder);

/* ========================================================================== 7  keys ====== */
/*   auth_server(fd, key, len, NULL);     auth_client(fd, key, len, NULL);
 *   opts.flags = AUTH_PLAIN;
 *   frame_connection_auth_client(c, key, len, &opts);
 *   frame_connection_auth_server(c, ring, &opts, &who); */

/* For auth_options.flags: the plain handshake. It proves that the client held the key when
 * the connection opened, and no more: the server is not authenticated, the bytes that follow
 * are neither secret nor protected against change, and whoever sits in between can pass the
 * challenge on. It is for networks that are trusted. */
#define AUTH_PLAIN 1
/* For flags: take keys of 1 to 15 bytes, for peers that cannot change theirs. Whoever sees a
 * handshake can try all such keys. */
#define AUTH_SHORT_KEY 2
/* For the flags of auth_key_load() and auth_keyring_load(): the group of a key file may read
 * it, it may belong to root, and there may be symbolic links to it. */
#define AUTH_GROUP_READABLE 4

/* How the handshake is done. Initialise it with AUTH_OPTIONS_INIT; a member that is 0 has its
 * default. */
struct auth_options {
    /* sizeof(struct auth_options), set by AUTH_OPTIONS_INIT. */
    uint32_t size;
    /* Milliseconds for the whole handshake; default 10 s, and never more than 60 s. */
    int32_t timeout_ms;
    /* AUTH_PLAIN and AUTH_SHORT_KEY. */
    uint32_t flags;
    /* For auth_server() and auth_client(): the descriptor to write to, if it is not the one
     * that is read from. */
    int32_t write_fd;
    /* For auth_server() and auth_client(), as in frame_options; a connection has its own. */
    int (*interrupted)(void *context);
    /* Passed to interrupted. */
    void *context;
};
#define AUTH_OPTIONS_INIT { sizeof(struct auth_options), 0, 0, 0, 0, 0 }

/* What a handshake proved. */
struct auth_result {
    /* sizeof(struct auth_result), set by AUTH_RESULT_INIT. */
    uint32_t size;
    /* The id of the key that the client holds, with a NUL; empty for a key without an id. */
    char key_id[68];
};
#define AUTH_RESULT_INIT { sizeof(struct auth_result), { 0 } }

/* Keys by id, whose bytes are wiped when they are replaced or freed.
 *
 * It belongs to the caller and is freed with auth_keyring_free(), once no call uses it any
 * more. Any number of threads may use and change it. */
struct auth_keyring;

/* Asks the peer to prove that it holds the key: sends a challenge of 32 random bytes, takes
 * HMAC-SHA256(key, challenge) back (RFC 2104) and compares it in constant time. Nothing that
 * follows is read before the verdict. AUTH_PLAIN says what it proves.
 *
 * key is key_len bytes, 16 to 1,024; HMAC pads with zeros, so a key and the same key with NULs
 * behind it are one. opts may be NULL. Everything is borrowed for the call. Threads may call it
 * at the same time on different descriptors.
 *
 * Returns 0. FRAME_EAUTH: the answer is wrong. FRAME_EKEY: the key cannot be used, or there
 * are no random numbers; nothing was sent. FRAME_ETIMEDOUT, FRAME_ESTALLED, FRAME_ECANCELED,
 * FRAME_ECLOSED, FRAME_ETRUNCATED: no answer. FRAME_EBADF, FRAME_EIO with errno, FRAME_EINVAL.
 * Close the descriptor after any of them. */
int auth_server(int fd, const void *key, size_t key_len, const struct auth_options *opts);

/* Proves to the peer that this side holds the key: takes its challenge of 32 bytes and answers
 * with HMAC-SHA256(key, challenge).
 *
 * The wire has no verdict: 0 says that the answer was sent, and a server that refuses it
 * closes the connection, which the next receive shows. Whoever can be the server chooses what
 * is answered: use the key for nothing else.
 *
 * Parameters and codes are as for auth_server(), without FRAME_EAUTH; FRAME_ECLOSED: the
 * server closed before its challenge. */
int auth_client(int fd, const void *key, size_t key_len, const struct auth_options *opts);

/* Reads a key from the file at path into buf, less one newline at its end.
 *
 * flags is AUTH_SHORT_KEY and AUTH_GROUP_READABLE. buf takes up to cap bytes; 1,024 are
 * enough. Wipe it after use. Any thread.
 *
 * Returns the length of the key. FRAME_EKEY: others may read or write the file, it belongs to
 * another user, is a symbolic link or no regular file, or the key is empty, too short or too
 * long; frame_last_error() says which. FRAME_ETOOBIG: longer than buf. FRAME_ENOENT,
 * FRAME_EACCES, FRAME_EIO, with errno. FRAME_EINVAL. */
int auth_key_load(const char *path, uint32_t flags, void *buf, size_t cap);

/* Writes a new key of 32 random bytes into a new file at path, of mode 0600.
 *
 * Any thread. Returns 0. FRAME_EEXIST: there is something at path, and it stays. FRAME_EKEY:
 * no random numbers. FRAME_ENOENT (the directory), FRAME_EACCES, FRAME_ENOSPC, FRAME_EIO, with
 * errno; no file is left. FRAME_EINVAL. */
int auth_key_generate(const char *path);

/* Makes an empty ring of keys.
 *
 * On success *out is the ring, freed with auth_keyring_free(); on failure NULL. Returns 0 or
 * FRAME_EINVAL. */
int auth_keyring_new(struct auth_keyring **out);

/* Adds a key, which is copied.
 *
 * id is 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot; NULL is a key without an
 * id. key is key_len bytes, 16 to 1,024. flags is AUTH_SHORT_KEY or 0. Any thread.
 *
 * Returns 0. FRAME_EEXIST: the id has a key already. FRAME_EKEY: another id has this key, or
 * the key or the id cannot be used. FRAME_EINVAL. */
int auth_keyring_add(struct auth_keyring *ring, const char *id, const void *key,
                     size_t key_len, uint32_t flags);

/* Replaces all keys of a ring by those in the files of a directory, whose names are the ids,
 * or by the one in a file, which has no id. All or nothing.
 *
 * Names that begin with a dot are left out. flags and the rules for each file are as for
 * auth_key_load(). Any thread; handshakes that run go on.
 *
 * Returns 0, or a code of auth_key_load(): the ring is then as it was. FRAME_EKEY also: a name
 * that is no id, two files with one key, or no key at all. */
int auth_keyring_load(struct auth_keyring *ring, const char *path, uint32_t flags);

/* Wipes and frees a ring; NULL is ignored. */
void auth_keyring_free(struct auth_keyring *ring);

/* Proves to the peer that this side holds the key, before anything else is sent.
 *
 * opts->flags has to have AUTH_PLAIN: the handshake of auth_client(). write_fd and interrupted
 * do not apply. key is borrowed for the call.
 *
 * Returns 0: the answer was accepted; a server that refuses it closes the connection, which the
 * next receive shows. FRAME_ETIMEDOUT with FRAME_DONT_WAIT as timeout_ms: call again. These
 * change nothing: FRAME_ENOTSUP (without AUTH_PLAIN), FRAME_EKEY (the key cannot be used),
 * FRAME_EINVAL, FRAME_ESTATE (a body in pieces is not complete), FRAME_EBUSY. Any other failure
 * breaks the connection: the codes of frame_connection_recv() and frame_connection_send(). */
int frame_connection_auth_client(struct frame_connection *c, const void *key, size_t key_len,
                                 const struct auth_options *opts);

/* Has the peer prove that it holds a key of ring, before anything else is received.
 *
 * opts->flags has to be AUTH_PLAIN: the handshake of auth_server(), which tries every key.
 * write_fd and interrupted do not apply. who may be NULL; on success *who says whose key it is.
 *
 * Returns 0. FRAME_EAUTH: the answer is wrong. FRAME_EKEY: ring is empty, or there are no
 * random numbers. Otherwise as frame_connection_auth_client(). */
int frame_connection_auth_server(struct frame_connection *c, const struct auth_keyring *ring,
                                 const struct auth_options *opts, struct auth_result *who);

/* ============================================================== 8  commands, client ====== */
/*   struct exec_request what = EXEC_REQUEST_INIT;   what.command = "uname -a";
 *   exec_call(c, &what, 10000, NULL, &output);      exec_output_bytes(output, EXEC_STDOUT, &len);
 *   exec_start(c, &what, -1);                       exec_copy(c, 0, 1, 2, -1, &result);
 * While a streamed command runs, exec_signal() sends it Ctrl-C. */

/* For exec_request.flags: standard error goes where standard output goes, in the order in which
 * the command writes. */
#define EXEC_MERGE 1
/* For exec_request.flags of exec_start(): the command gets a terminal of rows and columns as
 * its three standard streams; all that it writes is standard output. */
#define EXEC_TTY 2
/* For exec_request.flags of exec_start(): no input will be written; the command's standard
 * input ends at once. */
#define EXEC_NO_INPUT 4
/* For exec_request.flags and exec_options.flags: a client that goes away does not end its
 * command. */
#define EXEC_DETACHED 8

/* A command, and how the peer runs it: shell code, or a program and its arguments. */
struct exec_request {
    /* sizeof(struct exec_request). */
    uint32_t size;
    /* EXEC_MERGE, EXEC_TTY, EXEC_NO_INPUT, EXEC_DETACHED, added up. */
    uint32_t flags;
    /* Shell code, for /bin/sh of the server. Never build it of untrusted input: use argv. */
    const char *command;
    /* Bytes of command; 0: it ends with a NUL. */
    uint64_t command_len;
    /* A program and its arguments, in UTF-8, and NULL behind them: no shell reads them. A
     * program without a slash is looked for in the server's PATH. command is NULL then. */
    const char *const *argv;
    /* The working directory; NULL is the server's own. */
    const char *cwd;
    /* Variables, "NAME=value", and NULL behind them, added to the command's clean environment;
     * NULL is none. */
    const char *const *env;
    /* All of the command's standard input: input_len bytes. NULL is none, or for exec_start()
     * what exec_write() gives. Input that the command does not read is dropped and no error. */
    const void *input;
    /* Bytes of input. */
    uint64_t input_len;
    /* Bytes kept of each of the two outputs; default 16 MiB. A streamed command has no limit
     * unless one is set here. */
    uint64_t max_output;
    /* Milliseconds that the command may run; default FRAME_NO_TIMEOUT. The server ends it then. */
    int32_t command_timeout_ms;
    /* With EXEC_TTY: lines of the terminal; default 24. */
    uint16_t rows;
    /* With EXEC_TTY: columns of the terminal; default 80. */
    uint16_t columns;
};
#define EXEC_REQUEST_INIT { sizeof(struct exec_request), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
    0 }

/* The command ended by itself; exit_code is its status. */
#define EXEC_EXITED 0
/* A signal ended the command. */
#define EXEC_SIGNALED 1
/* The command was ended since its time was up. */
#define EXEC_TIMED_OUT 2
/* The command wrote more than was kept; what was kept is there. */
#define EXEC_OUTPUT_LIMIT 3
/* The command ended, but how is not known: the server's host reaps or ignores its children, or
 * the server does not report it. */
#define EXEC_STATUS_LOST 4
/* Server: the command could not be started; an error reply was sent. */
#define EXEC_SPAWN_FAILED 5
/* Server: the request was refused (an empty command, a NUL byte in it, a length above the
 * limit, a bad field, a policy), or memory was out; an error reply was sent. */
#define EXEC_REFUSED 6
/* In exec_result.flags: the command was ended since its time was up. */
#define EXEC_RESULT_TIMED_OUT 1
/* In exec_result.flags: the command wrote more than was kept. */
#define EXEC_RESULT_TRUNCATED 2
/* In exec_result.flags: another process still held the command's output open after its end,
 * which was not waited for. */
#define EXEC_RESULT_PIPE_HELD 4
/* In exec_result.flags, on a server: the client closed its sending side meanwhile. With
 * EXEC_DETACHED it is not watched, and this is never set. */
#define EXEC_RESULT_CLIENT_GONE 8

/* How a command ended. */
struct exec_result {
    /* sizeof(struct exec_result). */
    uint32_t size;
    /* EXEC_EXITED or the like, as returned. */
    int32_t outcome;
    /* 0 to 255; 128 and the signal for a death by signal; -1 if it is not known. */
    int32_t exit_code;
    /* The signal that ended the command, or 0. */
    int32_t signal;
    /* EXEC_RESULT_... added up. */
    uint32_t flags;
    /* Server: the code of what was reported to the client for EXEC_SPAWN_FAILED and
     * EXEC_REFUSED; else 0. */
    int32_t error;
    /* Bytes that the command wrote to its standard output, kept or not. */
    uint64_t stdout_total;
    /* Bytes that the command wrote to its standard error, kept or not. */
    uint64_t stderr_total;
    /* The encoding of the server's locale, such as "UTF-8"; "" if the server did not say. The
     * output is the command's own bytes, and never converted. */
    char charset[40];
};
#define EXEC_RESULT_INIT { sizeof(struct exec_result), 0, 0, 0, 0, 0, 0, 0, { 0 } }

/* For exec_output_bytes() and exec_read(): standard output. */
#define EXEC_STDOUT 1
/* The same: standard error. */
#define EXEC_STDERR 2

/* What a command wrote.
 *
 * It belongs to the caller and is freed with exec_output_free(). It never changes: any number
 * of threads may use it. */
struct exec_output;

/* Runs a command at the peer, and waits for its reply.
 *
 * what is the command. timeout_ms is for the whole exchange, and not 0: a call cannot be
 * resumed. It is beside command_timeout_ms, by which the server ends the command and still
 * replies. result may be NULL. On success *out is the output, freed with exec_output_free(); on
 * failure NULL.
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST (0 or more): anything but EXEC_EXITED says that the
 * output or the status is not what a command left to itself would give. -100 and below: an
 * error reply, such as FRAME_EREMOTE_SPAWN_FAILED or FRAME_EREMOTE_DENIED; the connection is in
 * sync. Once a byte of the request was accepted every other failure breaks the connection:
 * FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_ECLOSED (the peer closed instead of replying, as one
 * that refuses a key does), FRAME_EBADREPLY, FRAME_ETOOBIG (more than twice max_output), and
 * the codes of frame_connection_recv() and frame_connection_send(). FRAME_EINVAL: nothing was
 * sent, and frame_last_error() names the member. */
int exec_call(struct frame_connection *c, const struct exec_request *what, int timeout_ms,
              struct exec_result *result, struct exec_output **out);

/* What the command wrote to EXEC_STDOUT or EXEC_STDERR, which is `which`, with a NUL behind it.
 *
 * The bytes are the command's own, valid until exec_output_free(). *len is their number; len
 * may be NULL. "" with a length of 0 if there are none. NULL if output is, and for any other
 * `which`. */
const void *exec_output_bytes(const struct exec_output *output, int which, size_t *len);

/* Ends the object; NULL is ignored. */
void exec_output_free(struct exec_output *output);

/* Starts a command whose output comes as it appears.
 *
 * what is the command. Until exec_finish() or exec_copy() has returned how it ended, every
 * other function that receives or sends on the connection returns FRAME_ESTATE. The first
 * exec_read() reports whether the server accepted the command. To give it up, free the
 * connection and close its descriptors: that ends the command, unless it is EXEC_DETACHED.
 *
 * Returns 0: the request was accepted, and what is not written yet will be by the calls that
 * follow. FRAME_ETIMEDOUT: nothing was accepted. FRAME_EINVAL, which names the member, and the
 * codes of frame_connection_send(). */
int exec_start(struct frame_connection *c, const struct exec_request *what, int timeout_ms);

/* Reads 1 to cap bytes of output into buf, as they come. *which is EXEC_STDOUT or EXEC_STDERR.
 *
 * Returns how many; 0: the command has ended and all of its output was read, exec_finish() says
 * how it ended. FRAME_ETIMEDOUT and FRAME_ECANCELED: call again; 0 as timeout_ms does not wait.
 * -100 and below: the server refused the command; the connection is in sync and free. Other
 * failures break the connection: FRAME_ETRUNCATED, FRAME_ECLOSED (nothing came at all),
 * FRAME_EBADREPLY, and the codes of frame_connection_recv(). FRAME_ESTATE: no command was
 * started. FRAME_EINVAL. */
int64_t exec_read(struct frame_connection *c, void *buf, size_t cap, int timeout_ms,
                  int *which);

/* Gives the command input.
 *
 * Returns how much of it was taken; 0: output waits and has to be read first, or the command
 * has ended. FRAME_ETIMEDOUT: nothing was taken. FRAME_ESTATE: the input has ended. Otherwise as
 * exec_read(). */
int64_t exec_write(struct frame_connection *c, const void *data, size_t len, int timeout_ms);

/* Ends the input, and waits until all of it was written, or output has to be read first, or the
 * command has ended. A second call only waits.
 *
 * Returns 0. FRAME_ETIMEDOUT: not all was written, and will be by the calls that follow.
 * Otherwise as exec_read(). */
int exec_end_input(struct frame_connection *c, int timeout_ms);

/* Copies between descriptors and the command until it has ended: input from in_fd (-1: none, it
 * ends), output to out_fd and err_fd. All three are borrowed; none is read or written beyond
 * what the command gets and gave.
 *
 * result may be NULL. Returns how the command ended, EXEC_EXITED to EXEC_STATUS_LOST; the
 * connection is free then. FRAME_ETIMEDOUT, FRAME_ECANCELED, and a failure of one of the
 * descriptors (FRAME_EIO or FRAME_ENOSPC, with errno): the command runs on, and the call can be
 * made again without a loss. Otherwise as exec_read(). */
int exec_copy(struct frame_connection *c, int in_fd, int out_fd, int err_fd, int timeout_ms,
              struct exec_result *result);

/* Drops the output that is left, ends the input, and waits for the end of the command.
 *
 * result may be NULL. Returns how the command ended, EXEC_EXITED to EXEC_STATUS_LOST; the
 * connection is free then. Otherwise as exec_read(). */
int exec_finish(struct frame_connection *c, int timeout_ms, struct exec_result *result);

/* Sends a signal to the command's process group: whoever is in a call for the command does
 * that, or makes the next one. What is sent twice before that arrives once.
 *
 * signal is a number of signal(7) of this system: HUP, INT, QUIT, TERM, KILL, USR1, USR2, CONT,
 * TSTP, STOP, WINCH, ALRM or PIPE. Any thread, and any signal handler.
 *
 * Returns 0, FRAME_EINVAL (another signal) or FRAME_ESTATE (no command was ever started). */
int exec_signal(struct frame_connection *c, int signal);

/* Gives the command's terminal another size, in the same way. Any thread, and any signal
 * handler. Returns 0 or FRAME_ESTATE. */
int exec_resize(struct frame_connection *c, uint16_t rows, uint16_t columns);

/* ============================================================== 9  commands, server ====== */
/*   frame_connection_recv_header(c, -1, &view, NULL);
 *   exec_serve(c, view.header, NULL, &result);
 *   exec_and_reply(fd, command, len, NULL, &result);          a command from anywhere else */

/* For exec_options.flags: commands get all of the host's environment instead of a clean one. */
#define EXEC_HOST_ENVIRONMENT 16
/* For exec_options.flags: a command is ended at the output limit. Without it the command runs
 * on, and the rest of its output is dropped. */
#define EXEC_END_AT_LIMIT 32
/* For exec_options.flags: commands have the umask of exec_options.umask instead of the host's. */
#define EXEC_UMASK 64
/* For exec_options.flags of a server that runs as root: commands have exec_options.uid and gid,
 * and no other group; HOME, USER and LOGNAME only if env sets them. */
#define EXEC_USER 128

/* What a client wants to have run, for a policy. Everything in it is valid until the policy
 * returns. */
struct exec_inquiry {
    /* sizeof(struct exec_inquiry) of this library: members beyond it do not exist. */
    uint32_t size;
    /* EXEC_MERGE, EXEC_TTY, EXEC_DETACHED, as the request has them. */
    uint32_t flags;
    /* The header of the request, JSON text; NULL from exec_and_reply(). */
    const char *header;
    /* The shell code, command_len bytes; none if there is an argv. */
    const char *command;
    /* Bytes of command. */
    uint64_t command_len;
    /* A program and its arguments, and NULL behind them; NULL for shell code. */
    const char *const *argv;
    /* The working directory that is asked for, or NULL. */
    const char *cwd;
    /* The variables that are asked for, "NAME=value", and NULL behind them; never NULL. */
    const char *const *env;
};

/* How a server runs commands. A request can only lower the limits. */
struct exec_options {
    /* sizeof(struct exec_options). */
    uint32_t size;
    /* EXEC_DETACHED, EXEC_HOST_ENVIRONMENT, EXEC_END_AT_LIMIT, EXEC_UMASK, EXEC_USER. */
    uint32_t flags;
    /* Milliseconds that the reply may wait without a byte for a client that does not read, and
     * so may a streamed command's output once the command has ended; default 30 s. */
    int32_t reply_timeout_ms;
    /* Milliseconds that a command may run; default FRAME_NO_TIMEOUT. */
    int32_t command_timeout_ms;
    /* Milliseconds from SIGTERM to SIGKILL; default 2 s. */
    int32_t grace_ms;
    /* Milliseconds that output is read on after the command's end while another process holds
     * it open; default 500 ms. */
    int32_t drain_ms;
    /* Milliseconds from the client's end of stream, which may be a half-close, to the end of
     * its command; default 2 s. A hang-up ends it at once. */
    int32_t close_grace_ms;
    /* exec_and_reply() only: where to write, if that is not the same descriptor; 0 is the same. */
    int32_t write_fd;
    /* Bytes kept of each of the two outputs; default 16 MiB. */
    uint64_t max_output;
    /* Bytes of a command; default 64 KiB, at most 131,071. */
    uint64_t max_command;
    /* Seconds of processor time for each process of a command (RLIMIT_CPU of setrlimit(2)); 0
     * is the host's own limit, here and for the next three. */
    uint64_t cpu_seconds;
    /* Bytes of memory for each process of a command (RLIMIT_AS). */
    uint64_t memory;
    /* Processes that the command's user may have at once, in all (RLIMIT_NPROC). */
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
    /* The directory that commands start in; NULL is the host's own. */
    const char *cwd;
    /* Variables, "NAME=value", and NULL behind them, added to the clean environment. */
    const char *const *env;
    /* Asked before anything is run; may be NULL. 0 allows the request. A FRAME_E... code
     * refuses it: the client gets the reply code that stands for it, and what was written to
     * reason, a C string of reason_size bytes at most, as the message. Any other number is
     * FRAME_EACCES. It is called on the thread of the call. */
    int (*policy)(void *context, const struct exec_inquiry *inquiry, char *reason,
                  size_t reason_size);
    /* exec_and_reply() and exec_run() only: asked before each wait and after each signal, as in
     * frame_options. A connection has its own. */
    int (*interrupted)(void *context);
    /* Passed to policy and interrupted. */
    void *context;
};
#define EXEC_OPTIONS_INIT { sizeof(struct exec_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Runs shell code and sends one reply on a raw descriptor: what the command wrote to its two
 * outputs, and how it ended.
 *
 * command is command_len bytes for /bin/sh, however they came; whoever may send them may do
 * anything that the host's user may. opts and result may be NULL.
 *
 * The command's standard input is /dev/null. It leads its own process group, with default
 * signal actions, nothing blocked and no descriptor of the host's. Its environment is clean:
 * PATH, SHELL, and the host's HOME, USER, LOGNAME, TMPDIR, TZ, LANG and the LC_* of locale(7).
 * When its time is up, or the client goes away, the group gets SIGTERM, and SIGKILL after
 * grace_ms. If the calling thread dies, the command is killed. fd is not read.
 *
 * No signal handler is touched: a host that ignores SIGCHLD or reaps all its children works,
 * and on Linux before 6.15 only loses the exit status (EXEC_STATUS_LOST). Any number of threads
 * may run commands at once, on different descriptors.
 *
 * Returns EXEC_EXITED to EXEC_REFUSED (0 or more): a reply was sent, and the stream is usable.
 * FRAME_ECLOSED: the client hung up, and its command was ended. FRAME_ESTALLED, FRAME_EIO with
 * errno, FRAME_EBADF: the reply did not get through. FRAME_ECANCELED: the hook ended it, and the
 * command. Close the stream after those. FRAME_EINVAL: nothing was run. */
int exec_and_reply(int fd, const char *command, size_t command_len,
                   const struct exec_options *opts, struct exec_result *result);

/* Serves an exec request, whose header was just received with frame_connection_recv_header():
 * reads its body, runs what it asks for and sends one reply.
 *
 * request is the text of the header. Its argv, cwd, env, timeout_ms, max_output, on_close,
 * merge, tty, stdin_size, stream and id are followed, its limits only if they are lower than
 * those of opts. If the client asked for a stream, output is sent as it appears, the reply
 * comes last, and input, signals and sizes are received meanwhile; those that come too late are
 * dropped by the connection. A client that does not read slows the command down.
 *
 * Otherwise as exec_and_reply(). Every code below 0 but FRAME_EINVAL and FRAME_ESTATE (the body
 * was received before) breaks the connection: FRAME_ECLOSED (the client went away from its
 * command), FRAME_ETRUNCATED, FRAME_ESTALLED (it does not read), FRAME_EBADFIELD (a frame that
 * is not for a running command). */
int exec_serve(struct frame_connection *c, const char *request,
               const struct exec_options *opts, struct exec_result *result);

/* Runs shell code here for its output alone: nothing is sent. For servers of older wires.
 *
 * On success *out is the output, freed with exec_output_free(); on failure NULL. opts and
 * result may be NULL; write_fd, reply_timeout_ms, close_grace_ms, policy and EXEC_DETACHED do
 * not apply.
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST. FRAME_ESPAWN with errno: it could not be started.
 * FRAME_EINVAL: empty, or a NUL byte in it. FRAME_ETOOBIG: above max_command. FRAME_ECANCELED,
 * FRAME_ENOMEM. */
int exec_run(const char *command, size_t command_len, const struct exec_options *opts,
             struct exec_result *result, struct exec_output **out);

/* ================================================================ 10  files, client ====== */
/*   struct frame_file_transfer what = FRAME_FILE_TRANSFER_INIT;
 *   what.name = "notes/a";  what.path = "a";
 *   frame_file_put(c, &what, -1, &result);
 *   what.flags |= FRAME_FILE_TREE;                     a directory with all that is in it
 * Each is an exchange on a connection: 0 as timeout_ms is FRAME_EINVAL. */

/* For frame_file_transfer.flags: a directory, with all that is in it. Without this flag it is
 * one file. */
#define FRAME_FILE_TREE 1
/* For frame_file_transfer.flags and frame_file_options.flags: a file that exists is not
 * replaced, and the transfer fails. One system call decides, also between several transfers
 * at once. */
#define FRAME_FILE_NO_OVERWRITE 2
/* The same: no digest is computed. A server still checks a digest that a client sends. */
#define FRAME_FILE_NO_CHECKSUM 4
/* For a get to a path and frame_file_options.flags: a file that was stored need not survive a
 * power loss. */
#define FRAME_FILE_NO_SYNC 8
/* For the put of one file: the server is an old one that never replies, and 0 only says that all
 * was sent.
 * In frame_file_options.flags: a put without data_size gets no reply. The oldest clients read
 * none, and would lose what is still on its way if they closed with a reply unread. */
#define FRAME_FILE_NO_REPLY 16
/* For a put, or a get to a path: what arrives of a transfer that is cut is kept in a partial
 * file, and the next transfer with this flag goes on from there, if both sides have the same
 * bytes until then. A tree passes over files of the same size and time of modification as well,
 * and implies FRAME_FILE_PRESERVE. A partial file is named .framefd-DIGITS.part, and
 * frame_file_sweep() removes old ones. */
#define FRAME_FILE_RESUME 32
/* For a put and frame_file_mkdir(): directories that are missing on the way to the name are made.
 * For frame_file_options.flags: that is so if the request does not say. */
#define FRAME_FILE_PARENTS 64
/* For a put, or a get to a path: permission bits and time of modification are those of the
 * source. Directories keep no time, and those that a put makes keep all rights for their owner. */
#define FRAME_FILE_PRESERVE 128
/* For a tree: a symbolic link ends the transfer with FRAME_EPATH. Without a flag for links they
 * are left out and counted; at most one of the three flags can be set. */
#define FRAME_FILE_REFUSE_LINKS 256
/* For the put of a tree: the file that a symbolic link leads to is sent in its place; a link
 * that leads out of the tree ends the transfer. FRAME_ENOTSUP without openat2(2), before Linux
 * 5.6. */
#define FRAME_FILE_FOLLOW_LINKS 512
/* For a tree: symbolic links are made anew; one that leads out of the tree ends the transfer. */
#define FRAME_FILE_COPY_LINKS 1024
/* For frame_file_transfer.flags: the file that is stored gets mtime_ms as its time of
 * modification. */
#define FRAME_FILE_MTIME 8192

/* What is put or got, and how. A member or flag that does not apply is FRAME_EINVAL, and
 * frame_last_error() names it. */
struct frame_file_transfer {
    /* sizeof(struct frame_file_transfer). */
    uint32_t size;
    /* FRAME_FILE_... added up. */
    uint32_t flags;
    /* The name at the server, relative to its root: components with one / between each two, in
     * any encoding. "" is the root itself, which only a tree can be. */
    const char *name;
    /* The file or the directory here, or NULL: then it is fd. */
    const char *path;
    /* If path is NULL: a file, from where it stands, a pipe, a socket or a terminal. It is
     * borrowed. 0 if path is set. */
    int32_t fd;
    /* Permission bits of the file that is stored, of 0777; 0 is 0666. The umask there is taken
     * off. */
    uint32_t mode;
    /* Put of fd: bytes to send; 0 is all to the end of a regular file. A pipe or a socket needs
     * a length. */
    uint64_t length;
    /* Put of one file: bytes that the server has already. They are not sent: those before where
     * fd stands, or the first ones at path. Get to fd: bytes that fd has before where it stands;
     * only the rest is asked for. They have to be readable, for their digest, unless
     * FRAME_FILE_NO_CHECKSUM is set. */
    uint64_t offset;
    /* Get: bytes of a file that are taken; default FRAME_NO_LIMIT. A larger file is
     * FRAME_ETOOBIG, and nothing of it is written. */
    uint64_t max_size;
    /* Bytes per second that are sent or received; 0 is as fast as it goes. */
    uint64_t rate;
    /* With FRAME_FILE_MTIME: milliseconds since 1970, or before if it is negative. Else 0. */
    int64_t mtime_ms;
    /* Milliseconds without a byte; default 30 s, or FRAME_NO_TIMEOUT. A server that syncs a
     * large file before it replies is silent for as long as that takes. */
    int32_t stall_ms;
    /* 0. */
    uint32_t reserved;
    /* Called after each piece, at most 1 MiB: name is that of the file at the server, done of
     * total bytes have passed, in a tree those of the whole tree. A result other than 0 ends the
     * transfer with FRAME_ECANCELED. May be NULL. */
    int (*progress)(void *context, const char *name, uint64_t done, uint64_t total);
    /* Passed to progress. */
    void *context;
};
#define FRAME_FILE_TRANSFER_INIT { sizeof(struct frame_file_transfer), 0, 0, 0, 0, 0, 0, 0, \
    0, 0, 0, 0, 0, 0, 0 }

/* What came of a transfer: written after a failure too, and then it says how far it came. */
struct frame_file_result {
    /* sizeof(struct frame_file_result). */
    uint32_t size;
    /* Server: the code of what was reported to the client; FRAME_ECLOSED if the request was
     * followed and the client did not wait for the reply. Else 0. */
    int32_t error;
    /* Bytes of the file, those that did not have to pass included. In a tree, files that were
     * the same on both sides do not count. */
    uint64_t bytes;
    /* Regular files that passed or, with FRAME_FILE_RESUME, were the same on both sides. */
    uint64_t files;
    /* Directories of a tree that are there now, the uppermost one included. */
    uint64_t directories;
    /* Symbolic links that were made. */
    uint64_t links;
    /* Left out of a tree: links without a flag for them, FIFOs, sockets and devices. */
    uint64_t skipped;
    /* The SHA-256 of the whole file in 64 lower-case hex digits and a NUL; "" if none was
     * computed, and for a tree. */
    char sha256[72];
};
#define FRAME_FILE_RESULT_INIT { sizeof(struct frame_file_result), 0, 0, 0, 0, 0, 0, { 0 } }

/* Stores a file on the server, or with FRAME_FILE_TREE a directory with all that is in it.
 *
 * what is borrowed for the call. timeout_ms is for the whole transfer, and not 0: it cannot be
 * resumed in the middle. result may be NULL. Memory is constant: 1 MiB, and what a directory's
 * list takes.
 *
 * A file is replaced as a whole or not at all. Its digest follows the content, so that the
 * server stores nothing else, and what the server says it has stored is compared once more. An
 * error reply comes once the whole file was sent.
 *
 * What a directory on the server has already stays. Nothing outside path is sent. The first
 * failure ends a tree, and frame_last_error() says at which name; files that were sent before
 * are stored.
 *
 * Returns 0: stored. These leave the connection in sync: -100 and below, an error reply, such as
 * FRAME_EREMOTE_DENIED (the name), FRAME_EREMOTE_EXISTS, FRAME_EREMOTE_NO_SPACE or
 * FRAME_EREMOTE_CHECKSUM, and nothing was stored; FRAME_ECHECKSUM, the server says that it has
 * stored something else; FRAME_EPATH (path is no regular file, or no directory; a link; a name
 * that the server would not take), FRAME_ENOENT, FRAME_EACCES; FRAME_EINVAL. Once a byte of a
 * request was accepted every other failure breaks the connection: FRAME_ETRUNCATED (the source
 * ended too early), FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_ECLOSED, FRAME_EBADREPLY, FRAME_EIO
 * with errno (of the source as well), and the codes of frame_connection_send() and
 * frame_connection_recv(). */
int frame_file_put(struct frame_connection *c, const struct frame_file_transfer *what,
                   int timeout_ms, struct frame_file_result *result);

/* Takes a file of the server's, or with FRAME_FILE_TREE a directory with all that is in it.
 *
 * what, timeout_ms, result and memory are as for frame_file_put().
 *
 * A file at path is there once it is complete, matches its digest and, without
 * FRAME_FILE_NO_SYNC, would survive a power loss. Until then, and after a failure, what was
 * there stays, and nothing else is left, except for the partial file of FRAME_FILE_RESUME. Only
 * a regular file is replaced, and no symbolic link. fd has what was received, also after a
 * failure.
 *
 * Nothing that the server says leads out of path: a name that is not one component, and a
 * symbolic link that could lead out, end a tree with FRAME_EPATH. What the directory at path has
 * already stays.
 *
 * Returns 0: it came whole, and matches the digest, if the server sends one. These leave the
 * connection in sync: -100 and below, an error reply, such as FRAME_EREMOTE_NOT_FOUND or
 * FRAME_EREMOTE_DENIED; FRAME_ECHECKSUM; FRAME_EINVAL; and if 1 MiB or less of the file is still
 * to come a local failure: FRAME_EPATH, FRAME_EEXIST, FRAME_ENOENT (the directory),
 * FRAME_EACCES, FRAME_ENOSPC, FRAME_EIO with errno, FRAME_ETOOBIG (above max_size),
 * FRAME_ECANCELED (progress). Every other failure breaks the connection once a byte of the
 * request was accepted: FRAME_ETRUNCATED (the server gave up, as it does if the file becomes
 * shorter), FRAME_ETIMEDOUT, FRAME_ECLOSED, FRAME_EBADREPLY (the reply contradicts itself), and
 * the codes of frame_connection_send() and frame_connection_recv(). */
int frame_file_get(struct frame_connection *c, const struct frame_file_transfer *what,
                   int timeout_ms, struct frame_file_result *result);

/* For frame_file_stat(): the partial file of a put with FRAME_FILE_RESUME that was cut. */
#define FRAME_FILE_PARTIAL 4096
/* In frame_file_info.kind: a regular file. */
#define FRAME_FILE_REGULAR 1
/* The same: a directory. */
#define FRAME_FILE_DIRECTORY 2
/* The same: a symbolic link, which is itself described. */
#define FRAME_FILE_SYMLINK 3
/* The same: a FIFO, a socket or a device. */
#define FRAME_FILE_OTHER 4

/* What a name on the server is. */
struct frame_file_info {
    /* sizeof(struct frame_file_info). */
    uint32_t size;
    /* FRAME_FILE_REGULAR, FRAME_FILE_DIRECTORY, FRAME_FILE_SYMLINK or FRAME_FILE_OTHER. */
    uint32_t kind;
    /* Bytes of a regular file. */
    uint64_t file_size;
    /* Milliseconds since 1970: the time of modification; 0 for a partial file. */
    int64_t mtime_ms;
    /* Permission bits, of 07777; 0 for a partial file. */
    uint32_t mode;
    /* 0. */
    uint32_t reserved;
    /* For a partial file: its SHA-256 in 64 lower-case hex digits and a NUL. Else "". */
    char sha256[72];
};
#define FRAME_FILE_INFO_INIT { sizeof(struct frame_file_info), 0, 0, 0, 0, 0, { 0 } }

/* The entries of a directory on the server, sorted by name.
 *
 * It belongs to the caller and is freed with frame_file_listing_free(). It never changes: any
 * number of threads may use it. */
struct frame_file_listing;

/* Asks what a name on the server is, and writes it to *info. Links are not followed.
 *
 * name is as in frame_file_transfer; "" is the root. flags are 0 or FRAME_FILE_PARTIAL: how much
 * the server has of a put that was cut, and its digest. timeout_ms is not 0.
 *
 * Returns 0. -100 and below: an error reply, such as FRAME_EREMOTE_NOT_FOUND or
 * FRAME_EREMOTE_DENIED; the connection is in sync. Otherwise the codes of
 * frame_connection_call(). */
int frame_file_stat(struct frame_connection *c, const char *name, uint32_t flags,
                    int timeout_ms, struct frame_file_info *info);

/* Makes the directory name on the server; it may be there already.
 *
 * mode is its permission bits, of 0777, less the server's umask; 0 is 0777. flags are 0 or
 * FRAME_FILE_PARENTS: those that are missing above it are made as well. timeout_ms is not 0.
 *
 * Returns 0 or a code of frame_file_stat(); FRAME_EREMOTE_EXISTS: it is there, and no directory. */
int frame_file_mkdir(struct frame_connection *c, const char *name, uint32_t mode,
                     uint32_t flags, int timeout_ms);

/* Lists the directory name on the server; "" is the root.
 *
 * On success *out is the list, which the caller frees with frame_file_listing_free(); on failure
 * NULL. timeout_ms is not 0.
 *
 * Returns how many entries there are, or a code of frame_file_stat(). A list of more than 64 MiB
 * is FRAME_ETOOBIG and breaks the connection. */
int64_t frame_file_list(struct frame_connection *c, const char *name, int timeout_ms,
                        struct frame_file_listing **out);

/* The name of the entry at index, counted from 0; NULL beyond the last one, and if the size member
 * of *info is not set.
 *
 * Writes what the name is to *info, and to *target where a symbolic link leads, or NULL for
 * anything else. Both parameters may be NULL. The strings end in a NUL, are valid until
 * frame_file_listing_free(), and are the server's own, in any encoding: look for / and .. before
 * you make a path of a name. */
const char *frame_file_listing_entry(const struct frame_file_listing *list, size_t index,
                                     struct frame_file_info *info, const char **target);

/* Ends the object; NULL is ignored. */
void frame_file_listing_free(struct frame_file_listing *list);

/* ================================================================ 11  files, server ====== */
/*   frame_connection_recv_header(c, -1, &view, NULL);
 *   frame_file_serve(c, view.header, root_fd, NULL, &result); */

/* What a client asks of a file server, for a policy. Everything in it is valid until the policy
 * returns. */
struct frame_file_inquiry {
    /* sizeof(struct frame_file_inquiry) of this library: members beyond it do not exist. */
    uint32_t size;
    /* 0. */
    uint32_t reserved;
    /* "put", "get", "stat", "list", "mkdir" or "symlink". */
    const char *cmd;
    /* The name, relative to the root: name_len bytes and a NUL, in any encoding. It was found to
     * be acceptable; "" is the root. */
    const char *name;
    /* Bytes of name. */
    uint64_t name_len;
    /* Bytes of the file that a put wants to store; FRAME_NO_LIMIT for the others. */
    uint64_t filesize;
    /* The header of the request, JSON text. */
    const char *header;
};

/* How files are served. A request cannot go beyond max_size, rate and FRAME_FILE_NO_OVERWRITE. */
struct frame_file_options {
    /* sizeof(struct frame_file_options). */
    uint32_t size;
    /* FRAME_FILE_NO_OVERWRITE, FRAME_FILE_NO_CHECKSUM, FRAME_FILE_NO_SYNC, FRAME_FILE_NO_REPLY,
     * FRAME_FILE_PARENTS, added up. */
    uint32_t flags;
    /* Milliseconds for the whole request; default FRAME_NO_TIMEOUT. */
    int32_t timeout_ms;
    /* Milliseconds without a byte; default 30 s, or FRAME_NO_TIMEOUT. */
    int32_t stall_ms;
    /* Bytes of a file that is stored; default FRAME_NO_LIMIT. */
    uint64_t max_size;
    /* Bytes per second that are sent or received; 0 is as fast as it goes. */
    uint64_t rate;
    /* Permission bits of a file that is stored, of 0777, if the request does not say; 0 is 0666.
     * The umask is taken off. */
    uint32_t mode;
    /* 0. */
    uint32_t reserved;
    /* Asked before anything is opened or stored; may be NULL. 0 allows the request. A FRAME_E...
     * code refuses it: the client gets the reply code that stands for it, and what was written
     * to reason, a C string of reason_size bytes at most, as the message. Any other number is
     * FRAME_EACCES. It is called on the thread of the call. */
    int (*policy)(void *context, const struct frame_file_inquiry *inquiry, char *reason,
                  size_t reason_size);
    /* Passed to policy. */
    void *context;
};
#define FRAME_FILE_OPTIONS_INIT { sizeof(struct frame_file_options), 0, 0, 0, 0, 0, 0, 0, \
    0, 0 }

/* Serves a put, get, stat, list, mkdir or symlink below the directory root_fd, whose header was
 * just received with frame_connection_recv_header(): reads its body and replies. Any other cmd
 * is answered as unsupported.
 *
 * request is the text of the header. root_fd is opened with O_PATH or O_RDONLY. Everything is
 * borrowed for the call. opts and result may be NULL. Threads may serve side by side, also in
 * one root, on different connections.
 *
 * No name leads out of root_fd: symbolic links are followed nowhere, only regular files are read
 * or replaced, and names that begin with .framefd- are the library's own. A file that is put is
 * written beside its place, and takes that place once it is complete and matches the digest that
 * was sent. Whatever fails, the old file stays, and nothing else is left, except for the partial
 * file of a put that is to be resumed. A symbolic link is made only if it cannot lead out. A put
 * that is refused is received to its end all the same, so that the connection stays in sync.
 *
 * Returns 0: the client got a reply, or did not wait for it; the error member of *result has the
 * code of an error reply. These leave the connection as it was: FRAME_EINVAL, FRAME_EBADF
 * (root_fd is no directory), FRAME_EBADJSON (request is no header), FRAME_ESTATE (a part of the
 * body was received before). Every other failure breaks the connection: FRAME_ETRUNCATED (a put
 * was cut, or a file that is being sent became shorter, which the client learns when the
 * connection is closed), FRAME_ETIMEDOUT, FRAME_ECANCELED, FRAME_EBADFIELD and FRAME_ETOOBIG
 * (nobody knows where the put ends; the client was told), FRAME_EIO with errno, and the codes of
 * frame_connection_recv() and frame_connection_send(). */
int frame_file_serve(struct frame_connection *c, const char *request, int root_fd,
                     const struct frame_file_options *opts, struct frame_file_result *result);

/* Removes what is left of transfers that were cut, in root_fd and all directories below it:
 * files whose names begin with .framefd-, that nobody writes at present, and that were last
 * written older_than_ms milliseconds ago or earlier; 0 is the default, 24 h. A process that was
 * killed leaves such files, and so does a transfer with FRAME_FILE_RESUME that was cut.
 *
 * root_fd is borrowed; symbolic links are not followed. Returns how many files were removed.
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
    /* Milliseconds for the whole call, on the monotonic clock; the default is
     * FRAME_NO_TIMEOUT. FRAME_DONT_WAIT fails at once where the call would wait. */
    int32_t timeout_ms;
    /* Bytes of a datagram to be sent; default 8 KiB, at most 65,507. What has to cross
     * the Internet unfragmented is better kept to 1,200. Received are all up to 65,507. */
    uint32_t max_datagram;
    /* None are defined: 0. */
    uint32_t flags;
    /* Asked before each wait and after each signal, and at least once a second while a call
     * waits: a result other than 0 ends the call with FRAME_ECANCELED. NULL: nothing is asked. */
    int (*interrupted)(void *context);
    /* Passed to interrupted. */
    void *context;
};
#define FRAME_DATAGRAM_OPTIONS_INIT { sizeof(struct frame_datagram_options), 0, 0, 0, 0, 0 }

/* Sends one frame as one datagram.
 *
 * to is a struct sockaddr of to_len bytes; NULL and 0 send to where the socket is connected.
 * header is a JSON object in UTF-8, without the key data_size, which the library adds; NULL is
 * an empty one. body may be NULL if body_len is 0. opts may be NULL.
 *
 * Everything is borrowed for the call. fd is a UDP or Unix datagram socket, blocking or not.
 * Threads may send on one descriptor at the same time.
 *
 * Returns 0: it is on its way, and may be lost on it. Nothing was sent with any other code.
 * FRAME_ETOOBIG: the datagram is above max_datagram, or too large for the network (errno
 * EMSGSIZE). FRAME_ETIMEDOUT: no room in the queue. FRAME_ECANCELED, FRAME_EBADJSON,
 * FRAME_EBADFIELD (the header has a data_size), FRAME_EINVAL. FRAME_EBADF: not a datagram
 * socket. FRAME_EIO with errno; ECONNREFUSED tells that nobody received an earlier datagram,
 * and this one may be sent again. */
int frame_datagram_send(int fd, const void *to, size_t to_len, const char *header,
                        const void *body, size_t body_len,
                        const struct frame_datagram_options *opts);

/* Receives one datagram, which has to be one whole frame, into memory.
 *
 * On success *out is the frame, which the caller frees with frame_free(); on failure it is
 * NULL. frame_datagram_source() says who sent it, which on a network anybody can forge. opts
 * may be NULL. fd is borrowed, a UDP or Unix datagram socket, blocking or not. Threads may
 * receive on one descriptor at the same time.
 *
 * Returns 0. Whatever is returned, the next call receives the next datagram. FRAME_ETIMEDOUT,
 * FRAME_ECANCELED: none came. FRAME_ELIMIT: it was cut, being larger than 65,507 bytes.
 * FRAME_EBADLENGTH: it is empty, or its length or data_size does not lead exactly to its end.
 * FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_ETOOBIG (data_size is beyond 63 bits). Such a datagram
 * is gone. FRAME_EIO with errno: ECONNREFUSED tells that nobody received an earlier datagram.
 * FRAME_EBADF: not a datagram socket. FRAME_EINVAL. */
int frame_datagram_recv(int fd, const struct frame_datagram_options *opts, struct frame **out);

/* The struct sockaddr of the sender of a received datagram, fit for frame_datagram_send().
 *
 * len, if len is not NULL, is its length. It is valid until frame_free(). NULL with a length
 * of 0 if there is none: a Unix socket without a name sent it, the frame came in a stream, or
 * it is NULL. */
const void *frame_datagram_source(const struct frame *frame, size_t *len);

/* Server of datagrams: the request was served before, and the same reply was sent again. */
#define EXEC_REPEATED 7
/* Server of datagrams: what came is not served, and not answered; error in exec_result says why. */
#define EXEC_IGNORED 8

/* Runs commands for clients that ask in datagrams, each of them once: it remembers requests
 * and their replies for 30 s at least, of the last 1,024 requests, and 32 MiB of replies.
 *
 * It belongs to the caller and is freed with exec_datagram_server_free(). Any number of threads
 * may use it. */
struct exec_datagram_server;

/* Makes a server.
 *
 * key is key_len bytes, 16 to 1,024, shared with the clients; it is copied. A datagram that
 * does not end in the tag that the key makes of it, that was made more than 30 s ago by this
 * machine's clock, or before this call, gets no answer at all. NULL and 0 are no key: then
 * whoever is on this machine is served, every user of it, and nobody else.
 *
 * On success *out is the server, freed with exec_datagram_server_free(); on failure NULL.
 * Returns 0, FRAME_EKEY or FRAME_EINVAL. */
int exec_datagram_server_new(const void *key, size_t key_len,
                             struct exec_datagram_server **out);

/* Receives one datagram, runs the command that it asks for and sends the reply, in as many
 * datagrams of up to 8 KiB as it takes.
 *
 * A request that comes twice runs once: while it runs the second one is dropped, and later the
 * same reply is sent again, to the same address only. What is run, and how, is as for
 * exec_serve(). opts and result may be NULL. In opts max_output is 1 MiB by default, at most
 * 16 MiB; write_fd, reply_timeout_ms, close_grace_ms, interrupted and EXEC_DETACHED do not apply:
 * a lost client does not end its command. fd is a UDP or Unix datagram socket, borrowed for the call; threads
 * may serve on one descriptor side by side, and the call lasts as long as the command.
 * timeout_ms is the wait for a datagram.
 *
 * Returns EXEC_EXITED to EXEC_REFUSED for a new request: the reply was sent, unless error in
 * result is the code of what kept it, or a part of it, from being sent; the client will ask
 * again. EXEC_REPEATED. EXEC_IGNORED: error in result is FRAME_EAUTH (no tag, or a wrong one),
 * FRAME_EACCES (not from this machine, or its time is not acceptable, or it was sent from
 * another address before), FRAME_EBUSY (1,024 requests are running), FRAME_EBADLENGTH,
 * FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_EMISSING, FRAME_ETOOBIG or FRAME_ELIMIT (no request).
 * Below 0: FRAME_ETIMEDOUT, no datagram came; FRAME_EBADF, FRAME_EIO with errno, FRAME_EINVAL. */
int exec_datagram_serve(struct exec_datagram_server *server, int fd,
                        const struct exec_options *opts, int timeout_ms,
                        struct exec_result *result);

/* Ends a server that no thread uses any more; NULL is ignored. */
void exec_datagram_server_free(struct exec_datagram_server *server);

/* Asks for a command in a datagram, sends it again while no whole reply comes (after 200 ms,
 * then twice as long, up to 2 s), and puts the reply together.
 *
 * fd is a UDP or Unix datagram socket that is connected to the server, so that nobody else's
 * datagrams are taken; a Unix socket needs a name of its own to be answered. It is borrowed for
 * the call, and used by one thread at a time. what is the command, which with all that goes with
 * it has to fit one datagram of 65,507 bytes: input, EXEC_TTY and EXEC_NO_INPUT do not apply,
 * max_output is 1 MiB by default and at most 16 MiB. key is key_len bytes, 16 to 1,024, as the
 * server has them; NULL and 0 are no key. timeout_ms is for the whole exchange;
 * FRAME_DEFAULT_TIMEOUT is 30 s. result may be NULL. On success *out is the output, freed with
 * exec_output_free(); on failure NULL.
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST. The command ran once, or with a code below 0 perhaps
 * not at all. -100 and below: the server's error reply. FRAME_ETIMEDOUT: the reply, or a part of
 * it, did not come. FRAME_EIO with errno: ECONNREFUSED if nobody receives, at once.
 * FRAME_EBADREPLY: the reply contradicts itself. FRAME_ETOOBIG: the request does not fit, or the
 * reply is larger than twice max_output. FRAME_EKEY, FRAME_EINVAL, FRAME_EBADF: nothing was sent.
 * The socket can be used again after any of them. */
int exec_datagram_call(int fd, const struct exec_request *what, const void *key,
                       size_t key_len, int timeout_ms, struct exec_result *result,
                       struct exec_output **out);

/* ===================================================================== 13  appendix ====== */
/* -100 and below were reported by the peer in an error reply: the connection is still usable.
 * The numbers never change and are never reused. frame_strerror() has a line for each. */

/* The peer closed the stream between two messages: a clean end. */
#define FRAME_ECLOSED (-1)
/* The stream ended inside a frame, a packet or a handshake. */
#define FRAME_ETRUNCATED (-2)
/* Timed out before anything was sent or received, or all of it is in a buffer. The stream
 * is still usable: call again. */
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
/* The target exists and must not be replaced. */
#define FRAME_EEXIST (-12)
/* There is no such file. */
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
/* The object, or the partial file of a transfer, is in use by another. */
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
/* Reply code `bad_request`: the peer could not understand the request. */
#define FRAME_EREMOTE_BAD_REQUEST (-100)
/* Reply code `unsupported`: the peer does not support the request. */
#define FRAME_EREMOTE_UNSUPPORTED (-101)
/* Reply code `denied`: the peer refused the request. */
#define FRAME_EREMOTE_DENIED (-102)
/* Reply code `not_found`: the peer has no such file. */
#define FRAME_EREMOTE_NOT_FOUND (-103)
/* Reply code `exists`: the file exists at the peer. */
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
/* Reply code `io`: a system call failed at the peer. */
#define FRAME_EREMOTE_IO (-111)
/* A reply code that this version does not know. */
#define FRAME_EREMOTE_OTHER (-199)

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FRAMEFD_H */
