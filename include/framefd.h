/* framefd: messages, proof of a key, remote commands and files over any file descriptor.
 * Made by `make header` from src/ffi; do not edit.
 *
 *   1  basics                versions, texts of errors, limits and times         5
 *   2  one message           sent or received on a raw descriptor               10
 *   3  headers               read and built, field by field                     11
 *   4  bodies in pieces      of any size, on a raw descriptor                   12
 *   5  readers and writers   many small messages, a few system calls            18
 *   6  addresses             connect, listen, accept                             4
 *   7  connections           a conversation: messages, bodies, calls            20
 *   8  event loops           bytes in, frames out: no descriptor, no clock      14
 *   9  keys                  the handshake, key files                            8
 *  10  replies               for servers that read requests themselves           2
 *  11  commands, client      run at the peer, at once or streamed               18
 *  12  commands, server      run here, for a peer                                4
 *  13  files, client         put, get, trees, stat, list, mkdir                 12
 *  14  files, server         served below one directory                          2
 *  15  datagrams             frames and commands over UDP or Unix sockets        7
 *  16  appendix              every error code, in words
 *                                                                     in all 147 functions
 *
 * True of every function, unless it says otherwise:
 *
 * - It returns 0 or a count, or a negative FRAME_E... code. frame_strerror() has a line for
 *   each code, frame_last_error() this thread's details in words. A code of -100 or below
 *   came from the peer in an error reply: the connection is still usable.
 * - Descriptors are borrowed. They are never closed, their flags are never changed, and
 *   nothing beyond the message is read, except by a frame_reader. They may block or not.
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

/* The details of this thread's last failed call: what was expected, what came, the text
 * of the errno. For people; a program branches on the code.
 *
 * The text is empty before the first failure, and stays valid and unchanged until the
 * next failing call of the same thread. Bytes of the other end are escaped in it. May
 * be called from any thread. Cannot fail. */
const char *frame_last_error(void);

/* The default that a limit or a time of 0 stands for, by the name of its option:
 * "max_header", "max_depth", "max_body", "max_command", "max_output" (bytes, levels),
 * "auth_timeout_ms", "grace_ms", "drain_ms", "close_grace_ms", "reply_timeout_ms",
 * "stall_ms", "partial_age_ms", "max_datagram", "min_key".
 *
 * Returns the value, or FRAME_EINVAL for NULL or an unknown name. May be called from
 * any thread. */
int64_t frame_default(const char *name);

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
 *   frame_recv(fd, &frame, NULL);  frame_body(frame, &len);  frame_free(frame); */

/* For frame_options.prefix, to be added to the width in bytes (1, 2, 4 or 8): the most
 * significant byte comes first. */
#define FRAME_PREFIX_BIG_ENDIAN 256
/* For frame_options.prefix, to be added to the width: the length has no sign bit. */
#define FRAME_PREFIX_UNSIGNED 512

/* How frames and packets are sent and received. Initialise it with FRAME_OPTIONS_INIT;
 * a member that is 0 has its default. */
struct frame_options {
    /* sizeof(struct frame_options), set by FRAME_OPTIONS_INIT. */
    uint32_t size;
    /* Milliseconds for the whole call, on the monotonic clock; the default is
     * FRAME_NO_TIMEOUT. FRAME_DONT_WAIT fails at once where the call would wait. */
    int32_t timeout_ms;
    /* Bytes of header text; default 64 KiB, at most 16 MiB. */
    uint64_t max_header;
    /* Bytes of a body or packet received into memory; default 64 MiB, or FRAME_NO_LIMIT.
     * A body that is streamed has no limit. */
    uint64_t max_body;
    /* Levels of nesting in a received header; default 32, at most 127. */
    uint32_t max_depth;
    /* The length prefix of packets: the width in bytes, plus FRAME_PREFIX_BIG_ENDIAN and
     * FRAME_PREFIX_UNSIGNED as they apply; default 4, little-endian, signed. Erlang's
     * {packet,N} and tokio's LengthDelimitedCodec are both: big-endian and unsigned.
     * Frames have one prefix and take none here. */
    uint32_t prefix;
};
#define FRAME_OPTIONS_INIT { sizeof(struct frame_options), 0, 0, 0, 0, 0 }

/* A received frame, packet or datagram, whole or with its body still in the stream.
 *
 * It belongs to the caller and is freed with frame_free(). One thread at a time may use
 * it, except that the functions which take it as const may run side by side. */
struct frame;

/* Sends one frame: a JSON header and body_len bytes of body. A socket that has room
 * takes it in one system call.
 *
 * header is a JSON object in UTF-8, without the key data_size, which the library adds;
 * NULL is an empty one. body may be NULL where body_len is 0. opts may be NULL.
 *
 * Everything is borrowed for the call. fd is a socket, pipe or terminal, blocking or
 * not; it is not closed and none of its flags changed. Threads that send on one
 * descriptor have to take turns; one may send while another receives.
 *
 * Returns 0. FRAME_ETIMEDOUT: nothing was sent, the stream is in step. FRAME_EINVAL,
 * FRAME_EBADJSON, FRAME_EBADFIELD (the header has a data_size) and FRAME_ETOOBIG (the
 * header is above max_header): refused, nothing was sent. FRAME_ESTALLED: a part was
 * sent when the time was up. FRAME_EBADF, FRAME_EIO with errno (EPIPE where the other
 * end is gone; no SIGPIPE is raised). After those the stream is out of step: close it. */
int frame_send(int fd, const char *header, const void *body, size_t body_len,
               const struct frame_options *opts);

/* Receives one frame into memory.
 *
 * On success *out is the frame, which the caller frees with frame_free(); on failure it
 * is NULL. opts may be NULL. fd is borrowed, is not read beyond the frame, and keeps its
 * flags. Threads that receive on one descriptor have to take turns.
 *
 * Returns 0. In step: FRAME_ECLOSED (the other end closed between frames),
 * FRAME_ETIMEDOUT (nothing came in time). Out of step, close the stream:
 * FRAME_ETRUNCATED (it ended inside the frame), FRAME_ESTALLED (the time was up inside
 * the frame), FRAME_EBADLENGTH, FRAME_ETOOBIG (above max_header or max_body; nothing is
 * allocated for it), FRAME_EBADJSON, FRAME_EBADFIELD (data_size is not a plain integer,
 * or there twice), FRAME_ENOMEM, FRAME_EIO with errno. FRAME_EINVAL, FRAME_EBADF:
 * nothing was read. */
int frame_recv(int fd, struct frame **out, const struct frame_options *opts);

struct frame_view; /* section 2 */
/* Receives one frame into the caller's buffer: the header's text with a NUL after it, and
 * the body behind it, 16 bytes aligned to buf. The library asks for no memory where the
 * header has less than 64 bytes.
 *
 * buf takes up to cap bytes and may be NULL where cap is 0. On success with 0, *view says
 * where in buf the two are. rest is where a frame goes that does not fit: *rest is NULL if it
 * did, else as from frame_recv_header(), freed with frame_free(). Where rest itself is NULL, a
 * frame that does not fit is refused. opts may be NULL; max_body does not apply.
 *
 * Returns 0, or 1: it does not fit, *rest is set and *view is all zero. The codes of
 * frame_recv(), and FRAME_ETOOBIG where it does not fit and rest is NULL: the stream is then
 * out of step. */
int frame_recv_into(int fd, void *buf, size_t cap, struct frame_view *view,
                    struct frame **rest, const struct frame_options *opts);

/* Frees a frame; NULL is nothing. What is left of a body in the stream stays there: the
 * stream is then out of step, unless frame_body_skip() went before. */
void frame_free(struct frame *frame);

/* The header of a frame: the JSON text as it came, with a NUL after it.
 *
 * len, where len is not NULL, is its length without the NUL. The text is valid until
 * frame_free(). NULL with a length of 0 for a packet or a NULL frame. */
const char *frame_header(const struct frame *frame, size_t *len);

/* The body of a frame, or a packet's bytes, where they are in memory.
 *
 * len, where len is not NULL, is their count. The bytes are valid until frame_free().
 * NULL with a length of 0 for an empty body, one that is still in the stream, or a NULL
 * frame. */
const void *frame_body(const struct frame *frame, size_t *len);

/* Sends one packet: its length as frame_options.prefix says, and len bytes.
 *
 * data may be NULL where len is 0: an empty packet is a packet. opts may be NULL. As
 * frame_send() otherwise; FRAME_ETOOBIG where the prefix cannot say the length. */
int frame_packet_send(int fd, const void *data, size_t len, const struct frame_options *opts);

/* Receives one packet into memory: frame_body() has its bytes.
 *
 * As frame_recv() otherwise; FRAME_ETOOBIG where the packet is above max_body. */
int frame_packet_recv(int fd, struct frame **out, const struct frame_options *opts);

/* Receives one packet into the caller's buffer.
 *
 * buf takes up to cap bytes and may be NULL where cap is 0. rest is where the part goes
 * that does not fit: *rest is NULL if all did, else a handle to the bytes that are still
 * in the stream, for frame_body_read() and its like, freed with frame_free(). Where rest
 * itself is NULL, a packet that does not fit is refused. opts may be NULL.
 *
 * Returns the length of the whole packet: more than cap says that *rest is set. The codes
 * of frame_recv(), and FRAME_ETOOBIG where the packet is above max_body or does not fit
 * and rest is NULL: the stream is then out of step. */
int64_t frame_packet_recv_into(int fd, void *buf, size_t cap, struct frame **rest,
                               const struct frame_options *opts);

/* A frame or a packet in the memory of a reader or decoder, borrowed until the next call
 * for that object, or in the caller's (frame_recv_into()). Those of one call are there
 * together, one behind the other in one piece of memory. frame_copy() makes one that stays.
 * The struct never grows: it is used in arrays. */
struct frame_view {
    /* The JSON text of the header with a NUL after it; NULL for a packet. */
    const char *header;
    /* Its length without the NUL. */
    size_t header_len;
    /* The body, or the bytes of a packet; NULL where there are none. */
    const void *body;
    /* Their count. */
    size_t body_len;
};

/* Copies a frame or a packet out of the memory it is borrowed from.
 *
 * On success *out is the frame, which the caller frees with frame_free(), and which every
 * function that takes a frame accepts; on failure it is NULL.
 *
 * Returns 0, FRAME_EINVAL, FRAME_EBADJSON (the header is not what a reader or decoder
 * gave) or FRAME_ENOMEM. */
int frame_copy(const struct frame_view *view, struct frame **out);

/* ======================================================================= 3  headers ====== */
/*   frame_header_int(frame, "n", &n);
 *   b = frame_builder_new();  frame_builder_int(b, "n", 3);  text = frame_builder_text(b, NULL);
 * A failure sticks in a builder, and each function takes NULL: check the text alone. */

/* A string at the top level of the header.
 *
 * On success *text is the string, unescaped, with a NUL after it, valid until
 * frame_free(), and *len its length; on failure *text is NULL. len may be NULL: then a
 * string that has a NUL inside is refused, since it would look shorter than it is. A key
 * that is there twice has its last value.
 *
 * Returns 0, FRAME_EMISSING (no such key), FRAME_EBADFIELD (not a string, or a NUL
 * inside), FRAME_ESTATE (a packet has no header) or FRAME_EINVAL. */
int frame_header_string(const struct frame *frame, const char *key, const char **text,
                        size_t *len);

/* An integer at the top level of the header, in *value.
 *
 * Returns 0, FRAME_EMISSING, FRAME_EBADFIELD (not an integer, or beyond 64 bits with a
 * sign), FRAME_ESTATE or FRAME_EINVAL; *value is then unchanged. */
int frame_header_int(const struct frame *frame, const char *key, int64_t *value);

/* A boolean at the top level of the header, in *value.
 *
 * Returns 0, FRAME_EMISSING, FRAME_EBADFIELD (neither true nor false), FRAME_ESTATE or
 * FRAME_EINVAL; *value is then unchanged. */
int frame_header_bool(const struct frame *frame, const char *key, bool *value);

/* A header that is being put together: always a complete JSON object.
 *
 * It belongs to the caller, is freed with frame_builder_free() and may be used by one
 * thread at a time. A call that fails adds nothing, and the object can be used on. */
struct frame_builder;

/* A new, empty object; freed with frame_builder_free(). NULL only where memory is out. */
struct frame_builder *frame_builder_new(void);

/* Adds a string; quotes, newlines and the like are escaped.
 *
 * key and value are C strings in UTF-8 and are copied.
 *
 * Returns 0, FRAME_EINVAL (NULL, or not UTF-8: see frame_builder_bytes()) or
 * FRAME_EBADFIELD (the key is there already, or is data_size). */
int frame_builder_string(struct frame_builder *builder, const char *key, const char *value);

/* Adds len bytes that need not be text, such as a file name: as a string where they are
 * UTF-8, else in Base64 (RFC 4648) under the key with "_b64" behind it.
 *
 * value may be NULL where len is 0. The codes of frame_builder_string(). */
int frame_builder_bytes(struct frame_builder *builder, const char *key, const void *value,
                        size_t len);

/* Adds an integer. The codes of frame_builder_string(). */
int frame_builder_int(struct frame_builder *builder, const char *key, int64_t value);

/* Adds true or false. The codes of frame_builder_string(). */
int frame_builder_bool(struct frame_builder *builder, const char *key, bool value);

/* Adds a value that is JSON already: an array, an object, null, a fraction.
 *
 * The codes of frame_builder_string(), and FRAME_EBADJSON. */
int frame_builder_json(struct frame_builder *builder, const char *key, const char *json);

/* The object as it is now, for frame_send(): JSON text with a NUL after it.
 *
 * len, where len is not NULL, is its length without the NUL. Valid until the builder is
 * changed or freed. NULL for a NULL builder. */
const char *frame_builder_text(const struct frame_builder *builder, size_t *len);

/* Frees a builder; NULL is nothing. */
void frame_builder_free(struct frame_builder *builder);

/* ============================================================== 4  bodies in pieces ====== */
/*   frame_recv_header(fd, &frame, NULL);
 *   while ((n = frame_body_read(frame, buf, sizeof buf, NULL)) > 0) ...
 *   frame_sender_new(fd, header, len, &sender, NULL);
 *   while (...) frame_sender_write(sender, piece, n, NULL);   frame_sender_finish(sender); */

/* A frame that is being sent: its header is out, its body is sent in pieces.
 *
 * It belongs to the caller, is freed with frame_sender_free() and may be used by one
 * thread at a time. */
struct frame_sender;

/* Receives the header of one frame and leaves its body, of any size, in the stream: to
 * be read with frame_body_read(), frame_body_copy() or frame_body_gather(), or dropped
 * with frame_body_skip(). The next frame begins when frame_body_left() is 0.
 *
 * As frame_recv() otherwise; max_body does not apply. fd must stay open while the body
 * is read. */
int frame_recv_header(int fd, struct frame **out, const struct frame_options *opts);

/* Bytes of the body that are still in the stream; 0 for a NULL frame. */
uint64_t frame_body_left(const struct frame *frame);

/* Reads on in a body that is in the stream: 1 to cap bytes into buf, as they come; never
 * beyond the body's end.
 *
 * buf may be NULL where cap is 0. opts may be NULL; its timeout_ms is for this call.
 *
 * Returns the count, 0 only at the body's end (or for a cap of 0). FRAME_ETIMEDOUT:
 * nothing was lost, call again. FRAME_ETRUNCATED: the stream ended. FRAME_ESTATE: the
 * body is in memory. FRAME_EIO, FRAME_EINVAL. frame_body_left() is right after every
 * one of them. */
int64_t frame_body_read(struct frame *frame, void *buf, size_t cap,
                        const struct frame_options *opts);

/* Copies the rest of a body from the stream to another descriptor, in constant memory.
 *
 * to_fd is borrowed; it may be a file, socket, pipe or terminal. opts may be NULL.
 *
 * Returns 0. FRAME_ETIMEDOUT: all that was read was written, call again. FRAME_ESTALLED,
 * FRAME_EIO, FRAME_ENOSPC: bytes may be missing in to_fd, but frame_body_skip() still
 * brings the stream back in step. FRAME_ETRUNCATED: the stream ended. FRAME_ESTATE: the
 * body is in memory. */
int frame_body_copy(struct frame *frame, int to_fd, const struct frame_options *opts);

/* Reads the rest of a body from the stream into memory, where frame_body() finds it.
 *
 * opts may be NULL. Returns 0, also where it is there already. FRAME_ETOOBIG: it is
 * larger than max_body; nothing was read. FRAME_ESTALLED, FRAME_ETRUNCATED, FRAME_EIO,
 * FRAME_ENOMEM: what came is lost; frame_body_skip() drops the rest. */
int frame_body_gather(struct frame *frame, const struct frame_options *opts);

/* Reads the rest of a body from the stream and drops it, in constant memory.
 *
 * opts may be NULL. Returns 0, also where nothing is left. FRAME_ETIMEDOUT: call again.
 * FRAME_ETRUNCATED, FRAME_EIO. */
int frame_body_skip(struct frame *frame, const struct frame_options *opts);

/* Sends the header of a frame whose body of body_len bytes follows in pieces, through
 * frame_sender_write() and frame_sender_copy(); frame_sender_finish() ends it.
 *
 * On success *out is the sender, which the caller frees with frame_sender_free(); on
 * failure it is NULL. fd must stay open while the body is sent, and nothing else may be
 * sent on it meanwhile. header, opts and the codes are as for frame_send(). */
int frame_sender_new(int fd, const char *header, uint64_t body_len, struct frame_sender **out,
                     const struct frame_options *opts);

/* Sends the next piece of a body.
 *
 * piece may be NULL where len is 0. opts may be NULL; its timeout_ms is for this call.
 *
 * Returns 0. FRAME_EINVAL: the piece is longer than what the body still needs; nothing
 * of it was sent. FRAME_ETIMEDOUT: nothing of it was sent, call again. FRAME_ESTALLED,
 * FRAME_EIO: the stream is out of step, close it; FRAME_ESTATE ever after. */
int frame_sender_write(struct frame_sender *sender, const void *piece, size_t len,
                       const struct frame_options *opts);

/* Sends the next len bytes of a body from another descriptor, in constant memory.
 *
 * from_fd is borrowed and read from where it stands. opts may be NULL.
 *
 * Returns 0. FRAME_EINVAL: more than what the body still needs. FRAME_ETRUNCATED:
 * from_fd ended early. FRAME_ETIMEDOUT: from_fd gave nothing in time. After these two, what
 * from_fd gave was sent, and frame_sender_left() says what the body still needs.
 * FRAME_ESTALLED, FRAME_EIO: the stream is out of step, close it; FRAME_ESTATE ever after. */
int frame_sender_copy(struct frame_sender *sender, int from_fd, uint64_t len,
                      const struct frame_options *opts);

/* Bytes the body still needs; 0 for NULL. */
uint64_t frame_sender_left(const struct frame_sender *sender);

/* Checks that the body was sent whole. The sender is still to be freed.
 *
 * Returns 0, or FRAME_ESTATE: bytes are missing, the stream is out of step. */
int frame_sender_finish(const struct frame_sender *sender);

/* Frees a sender; NULL is nothing. */
void frame_sender_free(struct frame_sender *sender);

/* =========================================================== 5  readers and writers ====== */
/*   while ((n = frame_reader_next(reader, views, 64, 0)) > 0) ...
 *   frame_writer_send(writer, header, body, len, 0);  frame_writer_flush(writer, 0); */

/* Reads frames and packets from one descriptor through a buffer: one system call brings as
 * many as are there.
 *
 * It belongs to the caller, is freed with frame_reader_free() and may be used by one thread
 * at a time. The descriptor stays the caller's, blocking or not, and is read beyond the
 * frame that was asked for: whoever reads on without the reader begins with what
 * frame_reader_rest() has.
 *
 * After FRAME_ETIMEDOUT nothing is lost, the call can be made again. A framing error and
 * FRAME_ETRUNCATED stick. In an event loop, call with FRAME_DONT_WAIT until FRAME_ETIMEDOUT
 * before polling again: frames may be in the buffer while the descriptor has nothing. */
struct frame_reader;

/* Makes a reader for what comes next from fd, which has to stay open.
 *
 * On success *out is the reader, on failure NULL. opts may be NULL; its limits hold for
 * every message, its prefix for frame_reader_next_packet(), its timeout_ms for each call
 * that says 0.
 *
 * Returns 0, FRAME_EINVAL or FRAME_EBADF. */
int frame_reader_new(int fd, struct frame_reader **out, const struct frame_options *opts);

/* Frees a reader, what it lent, and what it had read and not given; NULL is nothing. A
 * writer tied to it is untied. */
void frame_reader_free(struct frame_reader *reader);

struct frame_writer; /* section 5 */
/* Ties a writer to a reader, which then keeps two ends that write to each other from
 * waiting for each other: before the reader waits, the writer sends what it has queued; and
 * while the writer waits for the other end to read, the reader takes in what that sends, up
 * to 64 MiB; what the reader has lent stays where it is.
 *
 * They may be of one descriptor or of two. From then on one thread at a time may use either.
 * writer NULL unties. Each can be tied to one other: a former tie ends. Whichever is freed
 * first is untied.
 *
 * Returns 0 or FRAME_EINVAL. */
int frame_reader_tie(struct frame_reader *reader, struct frame_writer *writer);

/* Takes the frames that are there, in order, max at most, and waits where there is none.
 *
 * views has room for max of them; they are borrowed until the next call for the reader. A
 * frame that does not fit the buffer is gathered in memory that grows with what comes.
 *
 * timeout_ms is in milliseconds, FRAME_NO_TIMEOUT or FRAME_DONT_WAIT; 0 is that of the
 * options.
 *
 * Returns their count, at least 1. FRAME_ETIMEDOUT: nothing is lost, call again.
 * FRAME_ECLOSED: the other end closed between frames. FRAME_ETRUNCATED, FRAME_EBADLENGTH,
 * FRAME_ETOOBIG, FRAME_EBADJSON, FRAME_EBADFIELD: it sticks, and comes after all frames
 * before it were taken. FRAME_ESTATE: bytes of a streamed body are left. FRAME_EIO with
 * errno, FRAME_EBADF, FRAME_ENOMEM, FRAME_EINVAL. */
int64_t frame_reader_next(struct frame_reader *reader, struct frame_view *views, size_t max,
                          int timeout_ms);

/* Takes the packets that are there, in order, max at most, and waits where there is none.
 *
 * As frame_reader_next() otherwise. */
int64_t frame_reader_next_packet(struct frame_reader *reader, struct frame_view *views,
                                 size_t max, int timeout_ms);

/* Takes the header of the next frame. Its body, of any size, is then read with
 * frame_reader_read() or frame_reader_copy(), or dropped with frame_reader_skip(); the next
 * frame begins when frame_reader_left() is 0. max_body does not apply.
 *
 * The body of *view is NULL. Returns 0. As frame_reader_next() otherwise. */
int frame_reader_next_header(struct frame_reader *reader, struct frame_view *view,
                             int timeout_ms);

/* Reads on in a streamed body: 1 to cap bytes into buf, as they come; never beyond the
 * body's end. What is not in the buffer yet goes straight to buf, where cap is at least
 * 8 KiB.
 *
 * buf may be NULL where cap is 0. timeout_ms is as for frame_reader_next().
 *
 * Returns the count, 0 only at the body's end (or for a cap of 0). FRAME_ETIMEDOUT: nothing
 * was lost, call again. FRAME_ETRUNCATED: the stream ended. FRAME_EIO, FRAME_EINVAL. */
int64_t frame_reader_read(struct frame_reader *reader, void *buf, size_t cap, int timeout_ms);

/* Copies the rest of a streamed body to another descriptor, in constant memory.
 *
 * to_fd is borrowed; what a writer has queued for it goes out later, unless it is flushed
 * before. timeout_ms is as for frame_reader_next(), for the whole call.
 *
 * Returns 0. FRAME_ETIMEDOUT: all that was taken was written, call again. FRAME_ESTALLED,
 * FRAME_EIO, FRAME_ENOSPC: bytes may be missing in to_fd, but frame_reader_skip() still
 * leads to the next frame. FRAME_ETRUNCATED: the stream ended. */
int frame_reader_copy(struct frame_reader *reader, int to_fd, int timeout_ms);

/* Reads the rest of a streamed body and drops it.
 *
 * Returns 0, also where nothing is left. FRAME_ETIMEDOUT: call again. FRAME_ETRUNCATED,
 * FRAME_EIO. */
int frame_reader_skip(struct frame_reader *reader, int timeout_ms);

/* Bytes of a streamed body that were not read yet; 0 for NULL. */
uint64_t frame_reader_left(const struct frame_reader *reader);

/* What was read from the descriptor and not taken, for a program that goes on with the
 * stream in another way.
 *
 * len, where len is not NULL, is its length. The bytes are borrowed until the next call
 * for the reader; NULL with a length of 0 where there are none. */
const void *frame_reader_rest(struct frame_reader *reader, size_t *len);

/* Writes frames and packets to one descriptor through a queue: small ones go out together.
 * What is queued is written when it is 64 KiB, with frame_writer_flush(), and before a
 * reader that is tied to it waits (frame_reader_tie()).
 *
 * It belongs to the caller, is freed with frame_writer_free() and may be used by one thread
 * at a time. The descriptor stays the caller's, blocking or not.
 *
 * A message is accepted whole or not at all. FRAME_EIO, with errno, sticks: EPIPE where the
 * other end is gone (no SIGPIPE is raised). */
struct frame_writer;

/* Makes a writer for fd, which has to stay open.
 *
 * On success *out is the writer, on failure NULL. opts may be NULL; its max_header holds for
 * every frame, its prefix for frame_writer_send_packet(), its timeout_ms for each call that
 * says 0.
 *
 * Returns 0, FRAME_EINVAL or FRAME_EBADF. */
int frame_writer_new(int fd, struct frame_writer **out, const struct frame_options *opts);

/* Frees a writer; NULL is nothing. What is queued is dropped: frame_writer_flush() goes
 * before. A reader it is tied to is untied. */
void frame_writer_free(struct frame_writer *writer);

/* Sends one frame, later or at once: it is copied to the queue, or written together with
 * what is queued where it does not fit.
 *
 * header, body and body_len are as for frame_send(), borrowed for the call. timeout_ms is in
 * milliseconds, FRAME_NO_TIMEOUT or FRAME_DONT_WAIT; 0 is that of the options.
 *
 * Returns 0: the frame is accepted whole. Where the time was up (with FRAME_DONT_WAIT that
 * is at once) a part of it may be in the queue, of any size: frame_writer_left() tells.
 * FRAME_ETIMEDOUT: the queue is full, nothing of the frame was accepted, call again.
 * FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_ETOOBIG: refused, as
 * frame_send() does. FRAME_EBADF, FRAME_EIO with errno: it sticks. FRAME_ENOMEM: nothing
 * of the frame was accepted; where a part of it had gone out, it sticks. */
int frame_writer_send(struct frame_writer *writer, const char *header, const void *body,
                      size_t body_len, int timeout_ms);

/* Sends count frames, as frame_writer_send() does one after the other.
 *
 * bodies and body_lens are arrays of count members, headers too, or NULL where no frame has
 * a header; a member of headers may be NULL. timeout_ms is for the whole call.
 *
 * Returns how many were accepted, which is less than count only where the time was up or the
 * next one failed: sent alone, it says why. Where not even the first is accepted, its code. */
int64_t frame_writer_send_many(struct frame_writer *writer, const char *const *headers,
                               const void *const *bodies, const size_t *body_lens,
                               size_t count, int timeout_ms);

/* Sends one packet, later or at once: its length as frame_options.prefix says, and len bytes.
 *
 * data may be NULL where len is 0. As frame_writer_send() otherwise; FRAME_ETOOBIG where the
 * prefix cannot say the length. */
int frame_writer_send_packet(struct frame_writer *writer, const void *data, size_t len,
                             int timeout_ms);

/* Writes all that is queued.
 *
 * timeout_ms is as for frame_writer_send(). Returns 0. FRAME_ETIMEDOUT: a part may have been
 * written, frame_writer_left() is the rest; call again, in an event loop once the descriptor
 * can be written to. FRAME_EBADF, FRAME_EIO with errno: it sticks. */
int frame_writer_flush(struct frame_writer *writer, int timeout_ms);

/* Bytes that were accepted and not written; 0 for NULL. */
size_t frame_writer_left(const struct frame_writer *writer);

/* ===================================================================== 6  addresses ====== */
/*   frame_connect("localhost:7000", NULL, &c);
 *   fd = frame_listen("[::]:7000", 0, 0);  frame_accept(fd, NULL, -1, &c);
 * An address is "host:port", "[::1]:port", "[fe80::1%eth0]:port", "unix:/path", "unix:@name"
 * or "vsock:cid:port". */

struct frame_connection_options; /* section 7 */
struct frame_connection; /* section 7 */
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

/* =================================================================== 7  connections ====== */
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
/* For frame_connection_options.format and frame_options.format: a JSON header and a body. */
#define FRAME_FORMAT_FRAMES 0
/* The same: a length and bytes. Headers are NULL. */
#define FRAME_FORMAT_PACKETS 1

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

/* =================================================================== 8  event loops ====== */
/*   p = frame_decoder_space(d, &room);  n = read(fd, p, room);  frame_decoder_fed(d, n);
 *   while ((n = frame_decoder_next(d, views, 64)) > 0) ... */

/* Takes frames and packets out of bytes as they come. It reads no descriptor and never
 * waits: it is for a program with its own event loop.
 *
 * It belongs to the caller, is freed with frame_decoder_free() and may be used by one
 * thread at a time. An error of the stream sticks: from then on every call returns it. */
struct frame_decoder;

/* Writes what goes before the body of a frame: the length and the header. The program sends
 * it and then body_len bytes of body, with one writev(2) for instance.
 *
 * buf takes up to cap bytes and may be NULL where cap is 0. header is as for frame_send(),
 * NULL is an empty one; 43 bytes more than its length are enough. opts may be NULL.
 *
 * Returns how many bytes it is; where that is more than cap, nothing was written, and the
 * call can be made again with more room. FRAME_EINVAL, FRAME_EBADJSON, FRAME_EBADFIELD
 * (the header has a data_size), FRAME_ETOOBIG (the header is above max_header, or body_len
 * above 2^63 - 1). Any thread. */
int64_t frame_encode(void *buf, size_t cap, const char *header, uint64_t body_len,
                     const struct frame_options *opts);

/* Writes what goes before the bytes of a packet: their length, as frame_options.prefix says.
 * The program then sends len bytes.
 *
 * As frame_encode() otherwise; FRAME_ETOOBIG where the prefix cannot say the length. */
int64_t frame_packet_encode(void *buf, size_t cap, uint64_t len,
                            const struct frame_options *opts);

/* Makes a decoder for a stream that is at the start of a message.
 *
 * On success *out is the decoder, on failure NULL. opts may be NULL; its limits hold for
 * every message, its prefix for frame_decoder_next_packet(), timeout_ms means nothing here.
 *
 * Returns 0 or FRAME_EINVAL. */
int frame_decoder_new(struct frame_decoder **out, const struct frame_options *opts);

/* Frees a decoder and what it lent; NULL is nothing. */
void frame_decoder_free(struct frame_decoder *decoder);

/* Memory for the next bytes of the stream, so that read(2) puts them where they are
 * decoded. frame_decoder_fed() then says how many came.
 *
 * len is how many there is room for, at least one. The memory belongs to the decoder and is
 * valid until the next call for it. It is 8 KiB at first and 128 KiB where that much comes
 * again and again; for a body that is longer it grows with the bytes that came, here or of
 * the frame before, never with what was declared.
 *
 * NULL with a length of 0 once the decoder has failed, or there is no memory; the next
 * frame_decoder_next() returns the error that sticks, if there is one. */
void *frame_decoder_space(struct frame_decoder *decoder, size_t *len);

/* Says that n bytes of the stream were put where frame_decoder_space() said.
 *
 * Returns 0, or FRAME_EINVAL: it is more than there was room for. */
int frame_decoder_fed(struct frame_decoder *decoder, size_t n);

/* Takes in the next len bytes of the stream, which are copied.
 *
 * bytes may be NULL where len is 0. Returns 0, FRAME_ENOMEM (nothing was taken in),
 * FRAME_EINVAL, or the error that sticks. */
int frame_decoder_feed(struct frame_decoder *decoder, const void *bytes, size_t len);

/* Takes the frames of which all bytes were fed, in order, max at most.
 *
 * views has room for max of them. They are borrowed until the next call for the decoder.
 *
 * Returns their count, 0 where the next one is not whole yet. FRAME_EBADLENGTH,
 * FRAME_ETOOBIG (above max_header or max_body: as soon as that is known), FRAME_EBADJSON,
 * FRAME_EBADFIELD: it sticks, and comes after all frames before it were taken.
 * FRAME_ESTATE: bytes of a streamed body are left. FRAME_EINVAL. */
int64_t frame_decoder_next(struct frame_decoder *decoder, struct frame_view *views,
                           size_t max);

/* Takes the packets of which all bytes were fed, in order, max at most.
 *
 * As frame_decoder_next() otherwise. */
int64_t frame_decoder_next_packet(struct frame_decoder *decoder, struct frame_view *views,
                                  size_t max);

/* Takes the header of the next frame if all of it was fed. Its body, of any size, is then
 * taken with frame_decoder_body() until frame_decoder_left() is 0; max_body does not apply.
 *
 * The body of *view is NULL. Returns 1, or 0 where the header is not whole yet. The codes
 * of frame_decoder_next(). */
int frame_decoder_next_header(struct frame_decoder *decoder, struct frame_view *view);

/* Takes the bytes of a streamed body that were fed.
 *
 * piece is where they are, borrowed until the next call for the decoder; NULL where there
 * are none. Returns their count: 0 where more have to be fed, and at the body's end, when
 * frame_decoder_left() is 0. FRAME_EINVAL. */
int64_t frame_decoder_body(struct frame_decoder *decoder, const void **piece);

/* Bytes of a streamed body that were not taken yet; 0 for NULL. */
uint64_t frame_decoder_left(const struct frame_decoder *decoder);

/* What was fed and not taken, for a program that goes on with the stream in another way.
 *
 * len, where len is not NULL, is its length. The bytes are borrowed until the next call
 * for the decoder; NULL with a length of 0 where there are none. */
const void *frame_decoder_rest(const struct frame_decoder *decoder, size_t *len);

/* Says that the stream has ended, after all whole messages were taken, and returns what
 * that means, which is never 0.
 *
 * Returns FRAME_ECLOSED: between two messages, a clean end. FRAME_ETRUNCATED: bytes are left
 * that are no whole message; it sticks. The error that sticks already. FRAME_EINVAL. */
int frame_decoder_end(struct frame_decoder *decoder);

/* ========================================================================== 9  keys ====== */
/*   auth_server(fd, key, len, NULL);     auth_client(fd, key, len, NULL); */

/* For auth_options.flags: take keys of 1 to 15 bytes, for peers that cannot change
 * theirs. Whoever sees a handshake can try all such keys. */
#define AUTH_SHORT_KEY 1

/* How the handshake is done. Initialise it with AUTH_OPTIONS_INIT; a member that is 0
 * has its default. */
struct auth_options {
    /* sizeof(struct auth_options), set by AUTH_OPTIONS_INIT. */
    uint32_t size;
    /* Milliseconds for the whole handshake; default 10 s, and never more than 60 s. */
    int32_t timeout_ms;
    /* The descriptor to write to, where it is not the one that is read from. */
    int32_t write_fd;
    /* AUTH_SHORT_KEY or 0. */
    uint32_t flags;
};
#define AUTH_OPTIONS_INIT { sizeof(struct auth_options), 0, 0, 0 }

/* A key in memory; its bytes are wiped when it is freed.
 *
 * It belongs to the caller and is freed with auth_key_free(). It never changes: any
 * number of threads may use it. */
struct auth_key;

/* Asks the other end to prove that it holds the key: sends a challenge of 32 random
 * bytes, takes HMAC-SHA256(key, challenge) back (RFC 2104) and compares it in constant
 * time. Nothing that follows is read before the verdict.
 *
 * This is for networks that are trusted. It proves that the client held the key when the
 * connection opened, and no more: the server is not authenticated, the bytes that follow
 * are neither secret nor protected against change, and whoever sits in between can pass
 * the challenge on.
 *
 * key is key_len bytes, 16 to 1,024; HMAC pads with zeros, so a key and the same key with
 * NULs behind it are one. opts may be NULL. Everything is borrowed for the call. Threads
 * may call it side by side on different descriptors.
 *
 * Returns 0. FRAME_EAUTH: the answer is wrong. FRAME_EKEY: the key cannot be used, or
 * there are no random numbers; nothing was sent. FRAME_ETIMEDOUT, FRAME_ESTALLED,
 * FRAME_ECLOSED, FRAME_ETRUNCATED: no answer. FRAME_EBADF, FRAME_EIO with errno,
 * FRAME_EINVAL. Close the connection after any of them. */
int auth_server(int fd, const void *key, size_t key_len, const struct auth_options *opts);

/* As auth_server() with any of several keys, so that keys can be replaced one by one.
 * Every key is tried, whichever matches.
 *
 * keys is count pointers, none of them NULL. *matched, where matched is not NULL, is the
 * index of the key that matched; it is unchanged on failure. */
int auth_server_keys(int fd, const struct auth_key *const *keys, size_t count, size_t *matched,
                     const struct auth_options *opts);

/* Proves to the other end that this one holds the key: takes its challenge of 32 bytes
 * and answers with HMAC-SHA256(key, challenge).
 *
 * The wire has no verdict: 0 says that the answer was sent, and a server that refuses it
 * closes the connection, which the next receive shows. What the handshake does not
 * protect is said at auth_server(). Whoever can be the server chooses what is answered:
 * use the key for nothing else.
 *
 * Parameters and codes are as for auth_server(), without FRAME_EAUTH; FRAME_ECLOSED: the
 * server closed before its challenge. */
int auth_client(int fd, const void *key, size_t key_len, const struct auth_options *opts);

/* A key from bytes in memory, 16 to 1,024 of them, or from 1 with AUTH_SHORT_KEY in
 * flags.
 *
 * The bytes are copied. On success *out is the key, freed with auth_key_free(); on
 * failure it is NULL. Returns 0, FRAME_EKEY or FRAME_EINVAL. */
int auth_key_new(const void *key, size_t key_len, uint32_t flags, struct auth_key **out);

/* Reads a key from the file at path, less one newline at its end.
 *
 * flags is AUTH_SHORT_KEY or 0. On success *out is the key, freed with auth_key_free();
 * on failure it is NULL. May be called from any thread.
 *
 * Returns 0. FRAME_EKEY: others may read or write the file, it belongs to another user,
 * is a symbolic link or not a regular file, or the key is empty, too short or too long;
 * frame_last_error() says which. FRAME_ENOENT, FRAME_EACCES, FRAME_EIO, with errno.
 * FRAME_EINVAL. */
int auth_key_load(const char *path, uint32_t flags, struct auth_key **out);

/* Writes a new key of 32 random bytes into a new file at path, of mode 0600.
 *
 * May be called from any thread. Returns 0. FRAME_EEXIST: there is something at path,
 * and it stays. FRAME_EKEY: no random numbers. FRAME_ENOENT (the directory),
 * FRAME_EACCES, FRAME_ENOSPC, FRAME_EIO, with errno; no file is left. FRAME_EINVAL. */
int auth_key_generate(const char *path);

/* The bytes of a key, for auth_server() and auth_client(); valid until auth_key_free().
 *
 * len, where len is not NULL, is their count. NULL with a length of 0 for NULL. */
const void *auth_key_bytes(const struct auth_key *key, size_t *len);

/* Wipes and frees a key; NULL is nothing. */
void auth_key_free(struct auth_key *key);

/* ====================================================================== 10  replies ====== */
/*   frame_reply_error(fd, request, FRAME_EREMOTE_UNSUPPORTED, "no such cmd", NULL); */

/* Server: sends the error reply to a request that is not served: status "error", the
 * reply code that stands for code, a message for people, and the request's id.
 *
 * request is the frame that is answered, or NULL where what came was no frame: then close
 * the connection afterwards. What is left of its body in the stream stays there; see
 * frame_body_skip(). code is a FRAME_E... code, and one of -100 or below is passed on as
 * what it is. message is UTF-8; NULL is frame_strerror(code). opts may be NULL. All are
 * borrowed for the call.
 *
 * Returns 0, and the codes of frame_send(). */
int frame_reply_error(int fd, const struct frame *request, int code, const char *message,
                      const struct frame_options *opts);

/* Server: answers a request with the cmd "hello": the library's version, what is served,
 * and the default limits.
 *
 * cmds is an array of C strings in UTF-8 that ends with NULL, such as "exec", "put" and
 * "get". request and opts are as for frame_reply_error(). Returns 0, and the codes of
 * frame_send(). */
int frame_reply_hello(int fd, const struct frame *request, const char *const *cmds,
                      const struct frame_options *opts);

/* ============================================================= 11  commands, client ====== */
/*   exec_request(fd, "uname -a", 8, &output, NULL);  exec_output_stdout(output, &len);
 *   exec_start(fd, "sh", 2, &stream, NULL);  exec_stream_copy(stream, 0, 1, 2, 0); */

/* The command ended by itself: exit_code says how. */
#define EXEC_EXITED 0
/* A signal ended the command. */
#define EXEC_SIGNALED 1
/* The command was ended because its time was up. */
#define EXEC_TIMED_OUT 2
/* The command wrote more than was kept; what was kept is there. */
#define EXEC_OUTPUT_LIMIT 3
/* The command ended, but how is not known: the server's host reaps or ignores its
 * children, or the server does not report it. */
#define EXEC_STATUS_LOST 4
/* Server: the command could not be started; an error reply was sent. */
#define EXEC_SPAWN_FAILED 5
/* Server: the request was refused, for an empty command, a NUL byte in it, a length above
 * the limit, a bad field, a policy's verdict, or because running it failed for want of
 * memory; an error reply was sent. */
#define EXEC_REFUSED 6
/* For exec_options.flags: a client that goes away does not end its command. */
#define EXEC_ON_CLOSE_RUN 1
/* For exec_options.flags, on a server: commands get all of the host's environment instead
 * of a clean one. */
#define EXEC_HOST_ENVIRONMENT 2
/* For exec_options.flags, on a server: a command is ended at the output limit; without
 * it, it runs on and the rest of its output is dropped. */
#define EXEC_END_AT_LIMIT 4
/* For exec_options.flags, on a client: standard error goes where standard output goes, in
 * the order in which the command writes. */
#define EXEC_MERGE 8
/* For exec_options.flags, on a client of exec_start(): the command gets a terminal of
 * rows and columns as its three standard streams; all it writes is standard output. */
#define EXEC_TTY 16
/* For exec_options.flags, on a client of exec_start(): no input will be written; the
 * command's standard input ends at once. */
#define EXEC_NO_INPUT 32
/* For exec_options.flags, on a server: commands have the umask of exec_options.umask
 * instead of the host's. */
#define EXEC_UMASK 64
/* In exec_result.flags: the command was ended because its time was up. */
#define EXEC_RESULT_TIMED_OUT 1
/* In exec_result.flags: the command wrote more than was kept. */
#define EXEC_RESULT_TRUNCATED 2
/* In exec_result.flags: another process still held the command's output open after its
 * end, which was not waited for. */
#define EXEC_RESULT_PIPE_HELD 4
/* In exec_result.flags, on a server: the client closed its sending side meanwhile. With
 * EXEC_ON_CLOSE_RUN it is not watched, and this never set. */
#define EXEC_RESULT_CLIENT_GONE 8

struct exec_inquiry; /* section 12 */
/* How a command is run, or asked for. Initialise it with EXEC_OPTIONS_INIT; a member that
 * is 0 has its default. */
struct exec_options {
    /* sizeof(struct exec_options), set by EXEC_OPTIONS_INIT. */
    uint32_t size;
    /* Milliseconds. Client: for the whole exchange, or to send the request of
     * exec_start(); default FRAME_NO_TIMEOUT, or with a command_timeout_ms that and
     * grace_ms and 10 s. Server: how long the reply may wait without a byte for a client
     * that does not read, which does not count while a streamed command still runs;
     * default 30 s. */
    int32_t timeout_ms;
    /* The descriptor to write to, where it is not the one that is read from. */
    int32_t write_fd;
    /* EXEC_ON_CLOSE_RUN and the like. */
    uint32_t flags;
    /* How long the command may run, in milliseconds; default FRAME_NO_TIMEOUT. A client's
     * goes into its request; the server's is the most that a request can ask for. */
    int32_t command_timeout_ms;
    /* Server: milliseconds from SIGTERM to SIGKILL; default 2 s. */
    int32_t grace_ms;
    /* Server: milliseconds that output is read on after the command's end while another
     * process holds it open; default 500 ms. */
    int32_t drain_ms;
    /* Server: milliseconds from the client's end-of-stream, which may be a half-close, to
     * the end of its command; default 2 s. A hang-up ends it at once. */
    int32_t close_grace_ms;
    /* Bytes kept of each of the two outputs; default 16 MiB. A client's goes into its
     * request; the server's is the most that a request can ask for. A streamed command
     * has no such limit unless its client sets one. */
    uint64_t max_output;
    /* Server: bytes of a command; default 64 KiB, at most 131,071. */
    uint64_t max_command;
    /* The working directory; NULL is the server's own. */
    const char *cwd;
    /* Variables for the command: an array of "NAME=value" that ends with NULL, added to
     * the clean environment; NULL is none. */
    const char *const *env;
    /* Client: input_len bytes for the command's standard input, which then ends. NULL is
     * no input, or for exec_start() what exec_stream_write() gives. Input that the
     * command does not read is dropped and no error. */
    const void *input;
    /* Bytes of input. */
    uint64_t input_len;
    /* Server: seconds of processor time for each process of a command (RLIMIT_CPU), as
     * setrlimit(2) bounds it; 0 is the host's own limit, here and for the next three. */
    uint64_t cpu_seconds;
    /* Server: bytes of memory for each process of a command (RLIMIT_AS). */
    uint64_t memory;
    /* Server: processes that the command's user may have at once, in all (RLIMIT_NPROC). */
    uint64_t processes;
    /* Server: bytes of a file that a command writes (RLIMIT_FSIZE). */
    uint64_t file_size;
    /* Server, with EXEC_UMASK: the umask of commands. */
    uint32_t umask;
    /* Server that runs as root: the user id that commands get; 0 is the host's. They then
     * have the group gid and no other, and HOME, USER and LOGNAME only if env sets them. */
    uint32_t uid;
    /* Server: the group id that goes with uid; one without the other is FRAME_EINVAL. */
    uint32_t gid;
    /* Client, with EXEC_TTY: lines of the terminal; default 24. */
    uint16_t rows;
    /* Client, with EXEC_TTY: columns of the terminal; default 80. */
    uint16_t columns;
    /* Server: asked before anything is run; may be NULL. 0 allows the request. A
     * FRAME_E... code refuses it: the client gets the reply code that stands for it, and
     * what was written to reason, a C string of reason_size bytes at most, as the message.
     * Any other number is FRAME_EACCES. It is called on the thread of the call. */
    int (*policy)(void *context, const struct exec_inquiry *inquiry, char *reason,
                  size_t reason_size);
    /* What policy is given; the library does not look at it. */
    void *context;
};
#define EXEC_OPTIONS_INIT { sizeof(struct exec_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* How a command ended. Initialise it with EXEC_RESULT_INIT: size says how much of it may
 * be written. */
struct exec_result {
    /* sizeof(struct exec_result), set by EXEC_RESULT_INIT. */
    uint32_t size;
    /* EXEC_EXITED or the like, as returned. */
    int32_t outcome;
    /* 0 to 255; 128 and the signal for a death by signal; -1 where it is not known. */
    int32_t exit_code;
    /* The signal that ended the command, or 0. */
    int32_t signal;
    /* EXEC_RESULT_TIMED_OUT and the like: all that apply. */
    uint32_t flags;
    /* Server: the FRAME_E... code of what was reported to the client for
     * EXEC_SPAWN_FAILED and EXEC_REFUSED; else 0. */
    int32_t error;
    /* Bytes the command wrote to its standard output, kept or not. */
    uint64_t stdout_total;
    /* Bytes the command wrote to its standard error, kept or not. */
    uint64_t stderr_total;
};
#define EXEC_RESULT_INIT { sizeof(struct exec_result), 0, 0, 0, 0, 0, 0, 0 }

/* What a command wrote and how it ended.
 *
 * It belongs to the caller and is freed with exec_output_free(). It never changes: any
 * number of threads may use it. */
struct exec_output;

/* Client: sends a command for the other end's shell, and waits for the reply.
 *
 * command is command_len bytes of shell code: what is put together from other people's
 * strings belongs into exec_request_argv(). On success *out is the output, freed with
 * exec_output_free(); on failure it is NULL. opts may be NULL; command_timeout_ms,
 * max_output, cwd, env, input, EXEC_MERGE and EXEC_ON_CLOSE_RUN are sent along. For
 * output as it appears there is exec_start().
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST (0 or more) with *out set: the exchange is
 * complete and the stream in step; anything but EXEC_EXITED says that the output or the
 * status is not what a command left to itself would give. A code of -100 or below: the
 * other end's error reply, such as FRAME_EREMOTE_SPAWN_FAILED, FRAME_EREMOTE_BAD_REQUEST or
 * FRAME_EREMOTE_DENIED, still in step. FRAME_ETIMEDOUT: nothing was sent. FRAME_ECLOSED:
 * the other end closed instead of replying, as one that refuses a key does. After that
 * and FRAME_ESTALLED, FRAME_ETRUNCATED, FRAME_EBADREPLY (the reply contradicts itself),
 * FRAME_ETOOBIG (more than twice max_output), FRAME_EIO and the codes of frame_recv(),
 * close the stream. FRAME_EINVAL, FRAME_EBADF: nothing was sent. */
int exec_request(int fd, const char *command, size_t command_len, struct exec_output **out,
                 const struct exec_options *opts);

/* Client: as exec_request() for a program and its arguments, without a shell.
 *
 * argv is an array of C strings in UTF-8 that ends with NULL; a program without a slash
 * is looked for in the server's PATH. */
int exec_request_argv(int fd, const char *const *argv, struct exec_output **out,
                      const struct exec_options *opts);

/* What the command wrote to its standard output.
 *
 * len, where len is not NULL, is the count of bytes. They are the command's own, in the
 * encoding that exec_output_charset() names, and valid until exec_output_free(). NULL
 * with a length of 0 where there are none. */
const void *exec_output_stdout(const struct exec_output *output, size_t *len);

/* What the command wrote to its standard error; as exec_output_stdout(). */
const void *exec_output_stderr(const struct exec_output *output, size_t *len);

/* The encoding of the server's locale, such as "UTF-8"; "" where it did not say. Valid
 * until exec_output_free(). */
const char *exec_output_charset(const struct exec_output *output);

/* How the command ended, in *result.
 *
 * Returns 0 or FRAME_EINVAL (NULL, or a size that is not set). */
int exec_output_result(const struct exec_output *output, struct exec_result *result);

/* Frees an output; NULL is nothing. */
void exec_output_free(struct exec_output *output);

/* For exec_stream_read(): standard output. */
#define EXEC_STDOUT 1
/* For exec_stream_read(): standard error. */
#define EXEC_STDERR 2

/* A command that runs on the other end: its output as it appears, its input as it is
 * written.
 *
 * It belongs to the caller and is freed with exec_stream_free(). One thread at a time may
 * use it, except for exec_stream_signal() and exec_stream_resize(), which any thread and
 * any signal handler may call meanwhile. The descriptor of the connection stays the
 * caller's, may be polled, and is not for anything else until the command has ended. */
struct exec_stream;

/* Client: has the other end's shell run a command, whose output then comes as it appears.
 *
 * command is command_len bytes of shell code. On success *out is the running command,
 * freed with exec_stream_free(); on failure it is NULL. opts may be NULL; timeout_ms is
 * for this call, which only sends the request. With neither opts->input nor
 * EXEC_NO_INPUT the command's input is what exec_stream_write() gives until
 * exec_stream_end_input().
 *
 * There is no limit to the output, unless opts->max_output sets one. Whether the server
 * runs the command at all, the first exec_stream_read() tells.
 *
 * Returns 0. FRAME_ETIMEDOUT, FRAME_EINVAL, FRAME_EBADF: nothing was sent. Close the
 * connection after FRAME_ESTALLED and FRAME_EIO with errno. */
int exec_start(int fd, const char *command, size_t command_len, struct exec_stream **out,
               const struct exec_options *opts);

/* Client: as exec_start() for a program and its arguments, without a shell; argv is as for
 * exec_request_argv(). */
int exec_start_argv(int fd, const char *const *argv, struct exec_stream **out,
                    const struct exec_options *opts);

/* Takes what the command has written, as it comes: 1 to cap bytes.
 *
 * buf is for cap bytes, at least 1. *output is EXEC_STDOUT or EXEC_STDERR; the order
 * between the two is not kept, unless EXEC_MERGE makes them one. timeout_ms is for this
 * call: milliseconds, 0 and FRAME_NO_TIMEOUT wait for ever, FRAME_DONT_WAIT does not wait:
 * the call for a loop of one's own, when the connection can be read.
 *
 * Returns the count of bytes, or 0 once the command has ended and all that it wrote has
 * been taken: then exec_stream_result() tells how it ended, and the connection is free for
 * the next request. FRAME_ETIMEDOUT: nothing yet; call again. A code of -100 or below: the
 * other end refused to run it, as for exec_request(); the connection is in step. Close it
 * after all others: FRAME_ETRUNCATED and FRAME_ECLOSED (the other end is gone),
 * FRAME_EBADREPLY (output is missing, or the reply contradicts itself), FRAME_ESTALLED,
 * FRAME_EIO with errno, FRAME_EINVAL (nothing was done). */
int64_t exec_stream_read(struct exec_stream *stream, int *output, void *buf, size_t cap,
                         int timeout_ms);

/* Gives the command input: some of len bytes, as much as there is room for on the way.
 *
 * One thread that writes and reads in turn does not block itself: where output waits to be
 * read first, nothing is taken. timeout_ms is as for exec_stream_read().
 *
 * Returns the count of bytes that were taken. 0: read first; or the command has ended, and
 * more input is of no use. FRAME_ETIMEDOUT: nothing was taken; call again. FRAME_ESTATE:
 * the command takes no input, or its end was told. The rest as for exec_stream_read(). */
int64_t exec_stream_write(struct exec_stream *stream, const void *data, size_t len,
                          int timeout_ms);

/* Tells the command that its input ends here.
 *
 * Returns 0, also where it has ended before. The rest as for exec_stream_write(). */
int exec_stream_end_input(struct exec_stream *stream, int timeout_ms);

/* Has the other end send a signal to the command's process group: SIGHUP, SIGINT, SIGQUIT,
 * SIGTERM, SIGKILL, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP, SIGSTOP, SIGALRM, SIGPIPE or
 * SIGWINCH.
 *
 * May be called from any thread and from a signal handler while another call uses the
 * stream: that call, or the next one, sends it, behind the input that was taken before.
 *
 * Returns 0 or FRAME_EINVAL. */
int exec_stream_signal(const struct exec_stream *stream, int signal);

/* Changes the size of the command's terminal; without EXEC_TTY nothing happens. Callable
 * as exec_stream_signal() is.
 *
 * Returns 0 or FRAME_EINVAL. */
int exec_stream_resize(const struct exec_stream *stream, uint16_t rows, uint16_t columns);

/* Copies between descriptors and the command until it has ended: in_fd to its input, its
 * output to out_fd, its standard error to err_fd, in constant memory.
 *
 * in_fd may be -1 for no input; its end is the input's end. out_fd and err_fd may be the
 * same. None of them is closed, and no flags are changed; one that blocks slows the
 * command down. timeout_ms is for the whole of it, as for exec_stream_read().
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST (0 or more): the command has ended, and all that
 * it wrote was written. FRAME_ETIMEDOUT: call again to go on. The rest as for
 * exec_stream_read(); FRAME_EIO with errno may also come from one of the three
 * descriptors, as EPIPE does where nobody reads the output any more. */
int exec_stream_copy(struct exec_stream *stream, int in_fd, int out_fd, int err_fd,
                     int timeout_ms);

/* What the stream waits for, for a loop of one's own: POLLIN, or POLLIN | POLLOUT while
 * something is still to be sent to the other end. */
int exec_stream_events(const struct exec_stream *stream);

/* How the command ended, in *result; stdout_total and stderr_total are what came.
 *
 * Returns 0. FRAME_ESTATE: it has not ended. FRAME_EINVAL (NULL, or a size that is not
 * set). */
int exec_stream_result(const struct exec_stream *stream, struct exec_result *result);

/* Frees a stream; NULL is nothing. A command that still runs is left to the server, which
 * ends it once the connection is closed, unless EXEC_ON_CLOSE_RUN was asked for. */
void exec_stream_free(struct exec_stream *stream);

/* ============================================================= 12  commands, server ====== */
/*   exec_serve(fd, request, NULL, &result);                   a request that was received
 *   exec_and_reply(fd, command, len, NULL, &result);          a command from anywhere else */

/* What a client wants to have run, for a policy. Everything in it is valid until the
 * policy returns. */
struct exec_inquiry {
    /* sizeof(struct exec_inquiry) of this library: what is beyond it is not there. */
    uint32_t size;
    /* EXEC_MERGE, EXEC_TTY, EXEC_ON_CLOSE_RUN, as the request has them. */
    uint32_t flags;
    /* The header of the request, JSON text; NULL for exec_and_reply(). */
    const char *header;
    /* The shell code: command_len bytes; none where there is an argv. */
    const char *command;
    /* Bytes of command. */
    size_t command_len;
    /* Program and arguments, ending with NULL; NULL for shell code. */
    const char *const *argv;
    /* The working directory that is asked for; NULL if none is. */
    const char *cwd;
    /* The variables that are asked for, "NAME=value", ending with NULL; never NULL. */
    const char *const *env;
};

/* Server: runs a command through /bin/sh and sends one reply frame with what it wrote to
 * its two outputs and how it ended.
 *
 * command is command_len bytes of shell code, however they came; whoever may send them
 * may do anything that the host's user may. opts and result may be NULL.
 *
 * The command's standard input is /dev/null. It leads its own process group, with default
 * signal actions, nothing blocked and no descriptor of the host's; its environment is
 * clean: PATH, SHELL, and HOME, USER, LOGNAME, TMPDIR, TZ, LANG and the LC_* of locale(7) of
 * the host's.
 * Its end and both outputs are waited for together. Out of time, its group gets SIGTERM,
 * and SIGKILL after a grace; so it does when the client goes away. When the calling
 * thread dies the command is killed. fd is not read.
 *
 * No signal handler is touched: a host that ignores SIGCHLD or reaps all its children
 * works, and on Linux before 6.15 only loses the exit status (EXEC_STATUS_LOST). Any
 * number of threads may run commands at once, on different descriptors.
 *
 * Returns EXEC_EXITED and the like (0 or more): a reply was sent and the stream is in
 * step. FRAME_ECLOSED: the client hung up and its command was ended. FRAME_ESTALLED,
 * FRAME_EIO with errno, FRAME_EBADF: the reply did not get through. FRAME_EINVAL:
 * nothing was run. Close the stream after those. */
int exec_and_reply(int fd, const char *command, size_t command_len,
                   const struct exec_options *opts, struct exec_result *result);

/* Server: does what a received exec request asks for, and sends one reply frame.
 *
 * request is a frame with the cmd "exec", from frame_recv_header() or frame_recv(); its
 * body is received here. Its argv, cwd, env, timeout_ms, max_output, on_close, merge, tty,
 * stdin_size, stream and id are followed, its limits only where they are lower than those
 * of opts.
 *
 * Where the client asked for a stream, output is sent as it appears, the reply comes last,
 * and fd is read meanwhile, frame by frame, for input, signals and terminal sizes; what
 * still comes of these after the reply, exec_is_late_input() tells from requests. Memory
 * is constant: a client that does not read slows the command down.
 *
 * The rest, and the codes, are as for exec_and_reply(); after FRAME_ETRUNCATED,
 * FRAME_ETIMEDOUT, FRAME_ESTALLED and FRAME_EBADFIELD the request or the client's part of
 * the stream did not come whole, or was not understood. */
int exec_serve(int fd, struct frame *request, const struct exec_options *opts,
               struct exec_result *result);

/* Runs a command as exec_and_reply() does, for its output alone: nothing is sent. For
 * servers of older wires.
 *
 * On success *out is the output, freed with exec_output_free(); on failure it is NULL.
 * opts may be NULL; write_fd and timeout_ms have no meaning here.
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST. FRAME_ESPAWN with errno: it could not be
 * started. FRAME_EINVAL: empty, or a NUL byte in it. FRAME_ETOOBIG: above
 * max_command. FRAME_ENOMEM. */
int exec_run(const char *command, size_t command_len, struct exec_output **out,
             const struct exec_options *opts);

/* Server: whether a received frame is a client's input, signal or terminal size for a
 * streamed command that had ended by then. It is to be dropped, with its body, and
 * needs no reply.
 *
 * Returns 1 or 0. */
int exec_is_late_input(const struct frame *request);

/* ================================================================ 13  files, client ====== */
/*   frame_file_put_path(fd, "notes/a", "a", NULL, &result);
 *   frame_file_get_tree(fd, "notes", "copy", NULL, &tree); */

/* For frame_file_options.flags: a file that exists is not replaced, and the call fails;
 * which of several at once comes first is decided by one system call. */
#define FRAME_FILE_NO_OVERWRITE 1
/* For frame_file_options.flags: nothing is hashed. A server still checks a digest that a
 * client sends. */
#define FRAME_FILE_NO_CHECKSUM 2
/* For frame_file_options.flags: a file that is stored here need not survive a power loss. */
#define FRAME_FILE_NO_SYNC 4
/* For frame_file_options.flags. Put: the server is an old one that answers nothing; 0
 * then says that all was sent, and no more. Server: a put without data_size is not
 * answered; the oldest uploaders send several on one connection, read nothing, and lose
 * what is still on its way if they close with a reply unread. */
#define FRAME_FILE_NO_REPLY 8
/* For frame_file_options.flags. Put: goes on where an earlier one was cut, after the digest
 * of what the server has was compared, and if it is cut as well the next one can go on
 * from there; the source has to be a regular file. frame_file_get_path(): the same, with
 * the partial file here. Trees: files of the same size and time are passed over, too. A
 * partial file is named .framefd-DIGITS.part, and frame_file_sweep() removes old ones. */
#define FRAME_FILE_RESUME 16
/* For frame_file_options.flags: directories that are missing on the way are made. */
#define FRAME_FILE_PARENTS 32
/* For frame_file_options.flags: the permission bits and the time of modification go along
 * with a path or a tree, in either direction. Directories keep no time, and those that are
 * made on a server all rights for their owner. */
#define FRAME_FILE_PRESERVE 64
/* For frame_file_options.flags, for trees: a symbolic link ends the call with FRAME_EPATH;
 * without a flag for links they are left out and counted. */
#define FRAME_FILE_REFUSE_LINKS 128
/* For frame_file_options.flags, for frame_file_put_tree(): the file that a symbolic link
 * leads to within the tree is sent in its place. FRAME_ENOTSUP where there is no
 * openat2(2), before Linux 5.6. */
#define FRAME_FILE_FOLLOW_LINKS 256
/* For frame_file_options.flags, for trees: symbolic links are made anew; one that leads
 * out of the tree ends the call. */
#define FRAME_FILE_COPY_LINKS 512

struct frame_file_inquiry; /* section 14 */
/* How a file is sent, received or served. Initialise it with FRAME_FILE_OPTIONS_INIT; a
 * member that is 0 has its default. */
struct frame_file_options {
    /* sizeof(struct frame_file_options), set by FRAME_FILE_OPTIONS_INIT. */
    uint32_t size;
    /* Milliseconds for the whole call; the default is FRAME_NO_TIMEOUT. */
    int32_t timeout_ms;
    /* The descriptor to write to, where it is not the one that is read from. */
    int32_t write_fd;
    /* FRAME_FILE_NO_OVERWRITE and the like. */
    uint32_t flags;
    /* Milliseconds without a byte; default 30 s, or FRAME_NO_TIMEOUT. A server that syncs
     * a large file before it replies is silent for as long as that takes. */
    int32_t stall_ms;
    /* Permission bits of the file that is stored: on the server for a put, here for
     * frame_file_get_path(), on a server where the request does not say. Default 0666; the
     * umask is taken off. Only the bits of 0777. */
    uint32_t mode;
    /* Bytes of a file that is taken from the other end, by a get or on a server; default
     * FRAME_NO_LIMIT. */
    uint64_t max_size;
    /* frame_file_put(): bytes to send; 0 is those from where a regular file stands to its
     * end. */
    uint64_t length;
    /* Called after each piece, at most 1 MiB, with how many bytes have passed of how
     * many; other than 0 breaks off with FRAME_ECANCELED. May be NULL. */
    int (*progress)(void *context, uint64_t done, uint64_t total);
    /* What progress and policy are given; the library does not look at it. */
    void *context;
    /* frame_file_get(): bytes of the file that to_fd has already, before where it stands;
     * only the rest is asked for. They have to be readable, to be compared with the
     * server's, unless FRAME_FILE_NO_CHECKSUM is set. frame_file_put(): bytes that the
     * server has, before where from_fd stands. */
    uint64_t offset;
    /* Bytes per second that are sent or received, at the most; 0 is as fast as it goes. */
    uint64_t rate;
    /* Milliseconds since 1970, the time of modification of the file that is stored; 0 is
     * none in particular. */
    int64_t mtime_ms;
    /* Server: asked before anything is opened or stored; may be NULL. 0 allows the
     * request. A FRAME_E... code refuses it: the client gets the reply code that stands
     * for it, and what was written to reason, a C string of reason_size bytes at most, as
     * the message. Any other number is FRAME_EACCES. It is called on the thread of the
     * call. */
    int (*policy)(void *context, const struct frame_file_inquiry *inquiry, char *reason,
                  size_t reason_size);
};
#define FRAME_FILE_OPTIONS_INIT { sizeof(struct frame_file_options), 0, 0, 0, 0, 0, 0, 0, \
    0, 0, 0, 0, 0, 0 }

/* What came of a file. Initialise it with FRAME_FILE_RESULT_INIT: size says how much of
 * it may be written. */
struct frame_file_result {
    /* sizeof(struct frame_file_result), set by FRAME_FILE_RESULT_INIT. */
    uint32_t size;
    /* Server: the FRAME_E... code of what was reported to the client; FRAME_ECLOSED where
     * the file was stored, but the client did not wait for the reply; else 0. */
    int32_t error;
    /* Bytes of the file. */
    uint64_t bytes;
    /* The SHA-256 of the file in 64 lower-case hex digits and a NUL; "" where none was
     * computed. */
    char sha256[72];
};
#define FRAME_FILE_RESULT_INIT { sizeof(struct frame_file_result), 0, 0, { 0 } }

/* Client: stores what from_fd gives as the file name on the server.
 *
 * name is relative to the server's root: components with one / between each two, in any
 * encoding; the server judges it. from_fd may be a file, pipe or socket, the latter two
 * with opts->length set; it is read from where it stands and not closed. opts and result
 * may be NULL. Memory is constant: 1 MiB. Threads may call it side by side on different
 * connections.
 *
 * The file is replaced as a whole or not at all. Its digest follows the content, so that
 * the server stores nothing else, and what the server says it has stored is compared
 * once more. An error reply comes when the whole file was sent.
 *
 * Returns 0: stored. A code of -100 or below: the other end's error reply, such as
 * FRAME_EREMOTE_DENIED (the name), FRAME_EREMOTE_EXISTS, FRAME_EREMOTE_NO_SPACE or
 * FRAME_EREMOTE_CHECKSUM: nothing was stored, the stream is in step. FRAME_ECHECKSUM:
 * what the server says it has stored is something else; in step. FRAME_ETIMEDOUT,
 * FRAME_EINVAL, FRAME_EBADF: nothing was sent. Close the connection after all others:
 * FRAME_ETRUNCATED (from_fd ended before length, or the reply was cut), FRAME_ESTALLED,
 * FRAME_ECANCELED, FRAME_ECLOSED, FRAME_EBADREPLY, FRAME_EIO with errno. */
int frame_file_put(int fd, const char *name, int from_fd,
                   const struct frame_file_options *opts, struct frame_file_result *result);

/* Client: as frame_file_put() for the regular file at path, all of it.
 *
 * FRAME_EPATH where path is not a regular file, FRAME_ENOENT, FRAME_EACCES: nothing
 * was sent. */
int frame_file_put_path(int fd, const char *name, const char *path,
                        const struct frame_file_options *opts,
                        struct frame_file_result *result);

/* Client: writes the server's file name to to_fd.
 *
 * to_fd may be a file, pipe, socket or terminal; it is not closed, and after a failure
 * has what was received until then. Nothing that the server says has a part in where it
 * goes, and no more than opts->max_size is taken. name, opts, result and threads are as
 * for frame_file_put().
 *
 * Returns 0: it came whole, and matches the digest, where the server sends one. A code
 * of -100 or below: the other end's error reply, such as FRAME_EREMOTE_NOT_FOUND or
 * FRAME_EREMOTE_DENIED; in step. FRAME_ECHECKSUM: it does not match; in step.
 * FRAME_ETIMEDOUT, FRAME_EINVAL, FRAME_EBADF for fd: nothing was sent. Close the
 * connection after all others: FRAME_ETRUNCATED (the server gave up in the middle, as it
 * does when the file becomes shorter), FRAME_ETOOBIG (above max_size; nothing was
 * written), FRAME_ENOSPC and FRAME_EIO with errno (also of to_fd), FRAME_ESTALLED,
 * FRAME_ECANCELED, FRAME_ECLOSED, FRAME_EBADREPLY (the reply contradicts itself),
 * FRAME_EBADFIELD. */
int frame_file_get(int fd, const char *name, int to_fd, const struct frame_file_options *opts,
                   struct frame_file_result *result);

/* Client: as frame_file_get() into the file at path, which is there once it is complete,
 * matches its digest and, without FRAME_FILE_NO_SYNC, would survive a power loss. Until
 * then, and after a failure, what was there stays; nothing else is left.
 *
 * With FRAME_FILE_RESUME what came before a failure is kept in a partial file beside path,
 * for the next call to go on from.
 *
 * Only a regular file is replaced, and no symbolic link: FRAME_EPATH. FRAME_EEXIST,
 * FRAME_ENOENT (the directory), FRAME_EACCES, FRAME_ENOSPC: if they are seen
 * beforehand nothing is sent; close the connection all the same. */
int frame_file_get_path(int fd, const char *name, const char *path,
                        const struct frame_file_options *opts,
                        struct frame_file_result *result);

/* In frame_file_stat.kind: a regular file. */
#define FRAME_FILE_REGULAR 1
/* In frame_file_stat.kind: a directory. */
#define FRAME_FILE_DIRECTORY 2
/* In frame_file_stat.kind: a symbolic link, which is itself described. */
#define FRAME_FILE_SYMLINK 3
/* In frame_file_stat.kind: a FIFO, a socket or a device. */
#define FRAME_FILE_OTHER 4

/* What a name on the server is. Initialise it with FRAME_FILE_STAT_INIT: size says how
 * much of it may be written. */
struct frame_file_stat {
    /* sizeof(struct frame_file_stat), set by FRAME_FILE_STAT_INIT. */
    uint32_t size;
    /* FRAME_FILE_REGULAR and the like. */
    uint32_t kind;
    /* Bytes of a regular file. */
    uint64_t file_size;
    /* Milliseconds since 1970: the time of modification. */
    int64_t mtime_ms;
    /* Permission bits, 07777 at the most. */
    uint32_t mode;
    /* 0. */
    uint32_t reserved;
};
#define FRAME_FILE_STAT_INIT { sizeof(struct frame_file_stat), 0, 0, 0, 0, 0 }

/* The entries of a directory on the server, sorted by name.
 *
 * It belongs to the caller and is freed with frame_file_list_free(). It never changes: any
 * number of threads may use it. */
struct frame_file_list;

/* Client: asks what name is on the server, in *stat. Links are not followed.
 *
 * name is as for frame_file_put(); "" is the root. opts may be NULL. Threads as for
 * frame_file_put().
 *
 * Returns 0. A code of -100 or below: the other end's error reply, such as
 * FRAME_EREMOTE_NOT_FOUND or FRAME_EREMOTE_DENIED; in step. FRAME_ETIMEDOUT,
 * FRAME_EINVAL, FRAME_EBADF: nothing was sent. Close the connection after all others. */
int frame_file_stat(int fd, const char *name, struct frame_file_stat *stat,
                    const struct frame_file_options *opts);

/* Client: asks how much the server has of a put of name that was cut, with
 * FRAME_FILE_RESUME: result has its bytes and their digest. The codes are those of
 * frame_file_stat(). */
int frame_file_partial(int fd, const char *name, const struct frame_file_options *opts,
                       struct frame_file_result *result);

/* Client: lists the directory name on the server.
 *
 * name is as for frame_file_stat(). On success *out is the list, freed with
 * frame_file_list_free(); on failure it is NULL. Every name in it is one component; one
 * that is not makes the whole reply FRAME_EBADREPLY.
 *
 * Returns the count of entries, or the codes of frame_file_stat(). */
int64_t frame_file_list(int fd, const char *name, struct frame_file_list **out,
                        const struct frame_file_options *opts);

/* The name of the entry at index, counted from 0; NULL beyond the last one.
 *
 * stat, where stat is not NULL, is what the name is; *target, where target is not NULL,
 * where a symbolic link leads, else NULL. Both strings are of any encoding, and valid
 * until frame_file_list_free(). */
const char *frame_file_list_entry(const struct frame_file_list *list, size_t index,
                                  struct frame_file_stat *stat, const char **target);

/* Frees a list; NULL is nothing. */
void frame_file_list_free(struct frame_file_list *list);

/* Client: makes the directory name on the server; one that is there already is fine. With
 * FRAME_FILE_PARENTS those above it as well. opts->mode is its mode, less the server's
 * umask; default 0777. The codes are those of frame_file_stat(). */
int frame_file_make_directory(int fd, const char *name, const struct frame_file_options *opts);

/* What came of a tree. Initialise it with FRAME_FILE_TREE_INIT: size says how much of it
 * may be written. */
struct frame_file_tree {
    /* sizeof(struct frame_file_tree), set by FRAME_FILE_TREE_INIT. */
    uint32_t size;
    /* 0. */
    uint32_t reserved;
    /* Regular files that passed or, with FRAME_FILE_RESUME, were the same on both sides. */
    uint64_t files;
    /* Directories that are there now, the uppermost one among them. */
    uint64_t directories;
    /* Symbolic links that were made. */
    uint64_t links;
    /* What was left out: links without a flag for them, FIFOs, sockets and devices. */
    uint64_t skipped;
    /* Bytes of the files that passed. */
    uint64_t bytes;
};
#define FRAME_FILE_TREE_INIT { sizeof(struct frame_file_tree), 0, 0, 0, 0, 0, 0 }

/* Client: stores the directory at path, with all that is in it, as the directory name on
 * the server.
 *
 * Directories that are missing are made, and what else is in them stays. Each file has
 * the guarantees of frame_file_put(); symbolic links are treated as the flags say, and
 * nothing outside path is ever sent. progress counts the bytes of the whole tree. opts,
 * result, threads and names are as for frame_file_put().
 *
 * The first failure ends it; frame_last_error() says which name it was. What was sent
 * before is stored.
 *
 * Returns 0, or the codes of frame_file_put_path(). */
int frame_file_put_tree(int fd, const char *name, const char *path,
                        const struct frame_file_options *opts, struct frame_file_tree *result);

/* Client: stores the server's directory name, with all that is in it, as the directory at
 * path.
 *
 * Nothing that the server says leads out of path: a name that is not one component is
 * FRAME_EBADREPLY, and a symbolic link that could lead out is FRAME_EPATH. Each file has
 * the guarantees of frame_file_get_path(); all else is as for frame_file_put_tree().
 *
 * Returns 0, or the codes of frame_file_get_path(). */
int frame_file_get_tree(int fd, const char *name, const char *path,
                        const struct frame_file_options *opts, struct frame_file_tree *result);

/* ================================================================ 14  files, server ====== */
/*   frame_file_serve(fd, request, root_fd, NULL, &result); */

/* What a client asks of a file server, for a policy. Everything in it is valid until the
 * policy returns. */
struct frame_file_inquiry {
    /* sizeof(struct frame_file_inquiry) of this library: what is beyond it is not there. */
    uint32_t size;
    /* 0. */
    uint32_t reserved;
    /* "put", "get", "stat", "list", "mkdir" or "symlink". */
    const char *cmd;
    /* The name, relative to the root: name_len bytes, of any encoding. */
    const char *name;
    /* Bytes of name. */
    size_t name_len;
    /* Bytes of the file that a put wants to store; FRAME_NO_LIMIT for the others. */
    uint64_t filesize;
    /* The header of the request, JSON text. */
    const char *header;
};

/* Server: does what a received put, get, stat, list, mkdir or symlink asks for, beneath the
 * directory root_fd, and replies.
 *
 * request is a frame with one of these as its cmd, from frame_recv_header() or, where its
 * body is small, frame_recv(); none of its body may have been read yet. fd is where it
 * came from. root_fd is a directory, opened with O_PATH or O_RDONLY. Everything is
 * borrowed. opts and result may be NULL. Threads may serve side by side, also in one
 * root, on different connections.
 *
 * No name leads out of root_fd: symbolic links are followed nowhere, only regular files
 * are read or replaced, and names that begin with .framefd- are the library's own. A file
 * that is put is written beside its place under such a name and takes its place when it
 * is complete and matches the digest that was sent; whatever fails, the old file stays
 * and nothing else is left, but for the partial file of a put that is to be resumed. A
 * symbolic link is made only where it cannot lead out. A put that is refused is received
 * to its end all the same, so that the reply can follow and the stream stays in step.
 *
 * Returns 0: a reply was sent, or the client did not wait for it, and the stream is in
 * step; result->error says what was refused. Anything negative: close the connection.
 * FRAME_ETRUNCATED: a put was cut, or a file that is being sent became shorter, which the
 * client learns from the close. FRAME_ESTALLED, FRAME_ECANCELED, FRAME_EIO with errno,
 * FRAME_EBADFIELD and FRAME_ETOOBIG (nobody knows where the put ends; the client was
 * told), FRAME_ESTATE (a packet, or a body that was read), FRAME_EBADF, FRAME_EINVAL. */
int frame_file_serve(int fd, struct frame *request, int root_fd,
                     const struct frame_file_options *opts, struct frame_file_result *result);

/* Server: removes what is left of transfers that were cut, in root_fd and all directories
 * below it: files whose names begin with .framefd-, that nobody writes to at present, and
 * that were last written older_than_ms milliseconds ago or earlier; 0 is
 * frame_default("partial_age_ms"). A process that was killed leaves such files behind, and
 * so does a put or get with FRAME_FILE_RESUME that was cut.
 *
 * root_fd is borrowed; symbolic links are not followed. Returns how many files were
 * removed. FRAME_EINVAL, FRAME_EBADF, FRAME_EIO with errno (some may have been
 * removed). */
int64_t frame_file_sweep(int root_fd, int64_t older_than_ms);

/* ==================================================================== 15  datagrams ====== */
/*   frame_datagram_send(fd, NULL, 0, header, body, len, NULL);
 *   exec_datagram_request(fd, "uptime", 6, key, key_len, &output, NULL); */

/* From exec_datagram_serve(): a request that came before, and is still running, or whose
 * reply was sent again. */
#define EXEC_REPEATED 7
/* From exec_datagram_serve(): a datagram that got no answer; error in the result says why. */
#define EXEC_IGNORED 8

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
};
#define FRAME_DATAGRAM_OPTIONS_INIT { sizeof(struct frame_datagram_options), 0, 0, 0 }

/* Remembers the requests that came in datagrams, and their replies, for 30 s at least: of
 * the last 1,024 requests, and 32 MiB of replies.
 *
 * It belongs to the caller and is freed with exec_datagram_server_free(). Any number of
 * threads may serve with it at the same time. */
struct exec_datagram_server;

/* Sends one frame as one datagram.
 *
 * to is a struct sockaddr of to_len bytes; NULL and 0 send to where the socket is
 * connected. header is a JSON object in UTF-8, without the key data_size, which the
 * library adds; NULL is an empty one. body may be NULL where body_len is 0. opts may be
 * NULL.
 *
 * Everything is borrowed for the call. fd is a UDP or Unix datagram socket, blocking or
 * not. Threads may send on one descriptor side by side.
 *
 * Returns 0: it is on its way, and may be lost on it. Nothing was sent with any other
 * code. FRAME_ETOOBIG: the datagram is above max_datagram, or too large for the network
 * (errno EMSGSIZE). FRAME_ETIMEDOUT: no room in the queue. FRAME_EBADJSON, FRAME_EBADFIELD
 * (the header has a data_size), FRAME_EINVAL. FRAME_EBADF: not a datagram socket.
 * FRAME_EIO with errno; ECONNREFUSED tells that nobody received an earlier datagram, and
 * this one may be sent again. */
int frame_datagram_send(int fd, const void *to, size_t to_len, const char *header,
                        const void *body, size_t body_len,
                        const struct frame_datagram_options *opts);

/* Receives one datagram, which has to be one whole frame, into memory.
 *
 * On success *out is the frame, which the caller frees with frame_free(); on failure it
 * is NULL. frame_source() says who sent it, which on a network anybody can forge. opts
 * may be NULL. fd is borrowed, a UDP or Unix datagram socket, blocking or not. Threads
 * may receive on one descriptor side by side.
 *
 * Returns 0. Whatever is returned, the next call receives the next datagram.
 * FRAME_ETIMEDOUT: none came. FRAME_ELIMIT: it was cut, being larger than 65,507 bytes.
 * FRAME_EBADLENGTH: it is empty, or its length or data_size does not lead exactly to its
 * end. FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_ETOOBIG (data_size is beyond 63 bits). Such a
 * datagram is gone. FRAME_EIO with errno: ECONNREFUSED tells that nobody received an
 * earlier datagram. FRAME_EBADF: not a datagram socket. FRAME_EINVAL. */
int frame_datagram_recv(int fd, struct frame **out, const struct frame_datagram_options *opts);

/* The struct sockaddr of the sender of a received datagram, fit for frame_datagram_send().
 *
 * len, where len is not NULL, is its length. It is valid until frame_free(). NULL with
 * a length of 0 where there is none: a Unix socket without a name sent it, the frame came
 * in a stream, or it is NULL. */
const void *frame_source(const struct frame *frame, size_t *len);

/* Server: a memory of datagram requests, for exec_datagram_serve().
 *
 * key is key_len bytes, 16 to 1,024, shared with the clients; it is copied. Then whatever
 * does not end in the tag that the key makes of it, was made more than 30 s ago by this
 * machine's clock, or before this call, gets no answer at all. NULL and 0 are no key:
 * then whoever is on this machine is served, every user of it, and nobody else.
 *
 * Two servers that share a key share no memory: what was recorded on its way to one of
 * them can be played to the other within 30 s. Give each a key of its own.
 *
 * On success *out is the server, freed with exec_datagram_server_free(); on failure it is
 * NULL. Returns 0, FRAME_EKEY or FRAME_EINVAL. */
int exec_datagram_server_new(const void *key, size_t key_len,
                             struct exec_datagram_server **out);

/* Server: receives one datagram, runs the command that it asks for and sends the reply,
 * in as many datagrams of up to 8 KiB as it takes.
 *
 * A request that comes twice runs once: while it runs the second one is dropped, and later
 * the same reply is sent again, to the same address only. What is run, and how, is as for
 * exec_serve(). opts and result may be NULL. In opts timeout_ms is the wait for a
 * datagram, by default FRAME_NO_TIMEOUT; max_output is 1 MiB by default, at most 16 MiB;
 * a lost client does not end its command. fd is a UDP or Unix datagram socket, borrowed
 * for the call; threads may serve on one descriptor side by side, and the call lasts as
 * long as the command: one thread serves one command at a time.
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST, EXEC_SPAWN_FAILED or EXEC_REFUSED for a new
 * request: the reply was sent, unless error in result is the FRAME_E... code of what
 * kept it, or a part of it, from being sent; the client will ask again. EXEC_REPEATED.
 * EXEC_IGNORED: error in result is FRAME_EAUTH (no tag, or a wrong one), FRAME_EACCES
 * (not from this machine, or its time is not acceptable, or it was sent from another
 * address before), FRAME_EBUSY (1,024 requests are running), FRAME_EBADLENGTH,
 * FRAME_EBADJSON, FRAME_EBADFIELD, FRAME_EMISSING, FRAME_ETOOBIG or FRAME_ELIMIT (no
 * request). A negative code: FRAME_ETIMEDOUT, no datagram came; FRAME_EBADF, FRAME_EIO
 * with errno, FRAME_EINVAL. */
int exec_datagram_serve(struct exec_datagram_server *server, int fd,
                        const struct exec_options *opts, struct exec_result *result);

/* Frees a server that no thread uses any more; NULL is nothing. */
void exec_datagram_server_free(struct exec_datagram_server *server);

/* Client: asks for a command in a datagram, sends it again while no whole reply comes
 * (after 200 ms, then twice as long, up to 2 s), and puts the reply together.
 *
 * fd is a UDP or Unix datagram socket that is connected to the server, so that nobody
 * else's datagrams are taken; a Unix socket needs a name of its own to be answered. It is
 * borrowed for the call, and used by one thread at a time. command is command_len bytes
 * of shell code; with the rest of the request it has to fit one datagram of 65,507 bytes.
 * key is key_len bytes, 16 to 1,024, as the server has them; NULL and 0 are no key. On
 * success *out is the output, freed with exec_output_free(); on failure it is NULL. opts
 * may be NULL, and is as for exec_request(), except that timeout_ms is 30 s by default
 * where there is no command_timeout_ms, and max_output 1 MiB, at most 16 MiB.
 *
 * Returns EXEC_EXITED to EXEC_STATUS_LOST (0 or more) with *out set. The command ran once,
 * or with a negative code perhaps not at all. A code of -100 or below: the server's error
 * reply. FRAME_ETIMEDOUT: the reply, or a part of it, did not come. FRAME_EIO with errno:
 * ECONNREFUSED where nobody receives, at once. FRAME_EBADREPLY: the reply contradicts
 * itself. FRAME_ETOOBIG: the request does not fit, or the reply is larger than twice
 * max_output. FRAME_EKEY, FRAME_EINVAL (input and EXEC_TTY among others: a datagram has
 * no room for them), FRAME_EBADF: nothing was sent. The socket can be used again after
 * any of them. */
int exec_datagram_request(int fd, const char *command, size_t command_len, const void *key,
                          size_t key_len, struct exec_output **out,
                          const struct exec_options *opts);

/* ===================================================================== 16  appendix ====== */
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
