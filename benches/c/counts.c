/* Does one thing many times, so that its system calls and instructions can be counted from
 * outside; prints how many allocations it made.
 *
 *     counts WHAT BATCHES
 *
 * A batch is BATCH frames of 64 bytes, in sealed_large of 64 KiB. It has one system call of this
 * program's own, in sealed_recv and sealed_large one a frame, for encode and decode none. Linked
 * with --wrap for each function of the allocator. */

#include <framefd.h>

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 64, BATCH = 128, ROOM = 64 * 1024, BATCHES = 16, LARGE = ROOM };

static char body[SIZE];
static int near, far;
/* The frames of a batch, as they are sent. */
static char frames[ROOM];
static size_t frames_len;
static unsigned long allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    allocations++;
    return __real_realloc(memory, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
    allocations++;
    return __real_posix_memalign(memory, alignment, size);
}

static int64_t done(int64_t code)
{
    if (code < 0)
        errx(1, "%s", frame_last_error());
    return code;
}

static void check(int holds, const char *what)
{
    if (!holds)
        err(1, "%s", what);
}

static void put_frames(void)
{
    check(write(far, frames, frames_len) == (ssize_t)frames_len, "write");
}

static void take_frames(void)
{
    ssize_t len = read(far, frames, sizeof frames);
    check(len > 0 && (frames_len == 0 || (size_t)len == frames_len), "read");
    frames_len = (size_t)len;
}

static void send_batch(void)
{
    for (int index = 0; index < BATCH; index++)
        done(frame_send(near, NULL, body, SIZE, NULL));
    take_frames();
}

static void recv_batch(void)
{
    struct frame *frame;
    put_frames();
    for (int index = 0; index < BATCH; index++) {
        done(frame_recv(near, &frame, NULL));
        frame_free(frame);
    }
}

static struct frame_connection *connection;
static struct frame_decoder *decoder;
static struct frame_view views[BATCH];

static void connection_send_batch(void)
{
    for (int index = 0; index < BATCH; index++)
        done(frame_connection_send(connection, NULL, body, SIZE, -1));
    take_frames();
}

static void connection_recv_batch(void)
{
    struct frame *frame;
    put_frames();
    for (int index = 0; index < BATCH; index++) {
        done(frame_connection_recv(connection, -1, &frame));
        frame_free(frame);
    }
}

static void queue_batch(void)
{
    struct frame_view message = {NULL, 0, body, SIZE};
    for (int index = 0; index < BATCH; index++)
        done(frame_connection_queue(connection, &message, 1, -1));
    done(frame_connection_flush(connection, -1));
    take_frames();
}

static void next_batch(void)
{
    put_frames();
    for (int64_t got = 0; got < BATCH;)
        got += done(frame_connection_next(connection, views, BATCH, -1));
}

/* What the peer of a sealed connection sends: made beforehand, since each record is used once. */
static struct frame_connection *peer;
static struct {
    char bytes[ROOM];
    size_t len;
} sealed[BATCHES];
static size_t next_sealed;

/* Returns the sum of the lengths. */
static size_t read_near(char *bytes, size_t room)
{
    ssize_t len = recv(near, bytes, room, MSG_DONTWAIT);
    check(len > 0, "what the peer has sent");
    return (size_t)len;
}

/* Seals both ends; `one_by_one` or not, the peer sends its batches. */
static void seal(int one_by_one)
{
    static const char key[] = "thirty-two bytes of a shared key";
    struct auth_options opts = AUTH_OPTIONS_INIT;
    struct frame_view message = {NULL, 0, body, SIZE};
    struct auth_keyring *ring;
    opts.timeout_ms = FRAME_DONT_WAIT;
    done(auth_keyring_new(&ring));
    done(auth_keyring_add(ring, NULL, key, sizeof key - 1, 0));
    done(frame_connection_new(far, far, NULL, &peer));
    /* The client begins, the server answers, and each of them is done. */
    for (int turn = 0; turn < 2; turn++) {
        int code = turn == 0 ? FRAME_ETIMEDOUT : 0;
        if (frame_connection_auth_client(peer, key, sizeof key - 1, &opts) != code ||
            frame_connection_auth_server(connection, ring, &opts, NULL) != code)
            errx(1, "the handshake: %s", frame_last_error());
    }
    for (int batch = 0; batch < BATCHES; batch++) {
        char *bytes = sealed[batch].bytes;
        size_t *len = &sealed[batch].len;
        for (int index = 0; index < BATCH; index++) {
            done(frame_connection_queue(peer, &message, 1, -1));
            if (one_by_one || index == BATCH - 1) {
                done(frame_connection_flush(peer, -1));
                *len += read_near(bytes + *len, ROOM - *len);
            }
        }
    }
}

static const char *next_batch_sealed(size_t *len)
{
    if (next_sealed == BATCHES)
        errx(1, "at most %d batches", BATCHES);
    *len = sealed[next_sealed].len;
    return sealed[next_sealed++].bytes;
}

/* A record for each frame, and each is there before it is received. */
static void sealed_recv_batch(void)
{
    struct frame *frame;
    size_t len;
    if (peer == NULL)
        seal(1);
    const char *bytes = next_batch_sealed(&len);
    for (int index = 0; index < BATCH; index++) {
        check(write(far, bytes, len / BATCH) == (ssize_t)(len / BATCH), "write");
        bytes += len / BATCH;
        done(frame_connection_recv(connection, -1, &frame));
        frame_free(frame);
    }
}

static void sealed_next_batch(void)
{
    size_t len;
    if (peer == NULL)
        seal(0);
    const char *bytes = next_batch_sealed(&len);
    check(write(far, bytes, len) == (ssize_t)len, "write");
    for (int64_t got = 0; got < BATCH;)
        got += done(frame_connection_next(connection, views, BATCH, -1));
}

static void sealed_send_batch(void)
{
    if (peer == NULL)
        seal(0);
    connection_send_batch();
}

static void sealed_large_batch(void)
{
    static char large[LARGE], received[2 * LARGE];
    if (peer == NULL)
        seal(0);
    for (int index = 0; index < BATCH; index++) {
        done(frame_connection_send(connection, NULL, large, LARGE, -1));
        check(read(far, received, sizeof received) > LARGE, "read");
    }
}

static void sealed_queue_batch(void)
{
    size_t records = 0;
    if (peer == NULL)
        seal(0);
    queue_batch();
    for (size_t at = 0; at < frames_len; records++)
        at += 2 + ((size_t)(unsigned char)frames[at] << 8) + (unsigned char)frames[at + 1];
    if (records > 1)
        errx(1, "%zu records for %d messages", records, BATCH);
}

static void encode_batch(void)
{
    char head[64];
    for (int index = 0; index < BATCH; index++)
        done(frame_encode(head, sizeof head, NULL, SIZE, NULL));
}

static void decode_batch(void)
{
    for (size_t at = 0; at < frames_len;) {
        size_t room, left = frames_len - at;
        void *place = frame_decoder_reserve(decoder, &room);
        check(place != NULL, "room");
        room = room < left ? room : left;
        memcpy(place, frames + at, room);
        done(frame_decoder_commit(decoder, room));
        at += room;
        while (done(frame_decoder_next(decoder, views, BATCH)) > 0)
            ;
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*batch)(void);
    } acts[] = {
        {"frame_send", send_batch},
        {"frame_recv", recv_batch},
        {"frame_connection_send", connection_send_batch},
        {"frame_connection_recv", connection_recv_batch},
        {"frame_connection_queue", queue_batch},
        {"frame_connection_next", next_batch},
        {"sealed_send", sealed_send_batch},
        {"sealed_recv", sealed_recv_batch},
        {"sealed_large", sealed_large_batch},
        {"sealed_queue", sealed_queue_batch},
        {"sealed_next", sealed_next_batch},
        {"frame_encode", encode_batch},
        {"frame_decoder_next", decode_batch},
    };
    enum { ACTS = sizeof acts / sizeof *acts };
    int fd[2];
    size_t act = 0;
    if (argc != 3)
        errx(1, "usage: counts WHAT BATCHES");
    while (act < ACTS && strcmp(acts[act].name, argv[1]) != 0)
        act++;
    if (act == ACTS)
        errx(1, "no such act: %s", argv[1]);
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0, "socketpair");
    near = fd[0];
    far = fd[1];
    send_batch();
    if (strncmp(argv[1], "sealed", 6) == 0)
        frames_len = 0;
    done(frame_connection_new(near, near, NULL, &connection));
    done(frame_decoder_new(NULL, &decoder));
    acts[act].batch();
    allocations = 0;
    for (long batches = strtol(argv[2], NULL, 10); batches > 0; batches--)
        acts[act].batch();
    printf("%lu\n", allocations);
    return 0;
}
