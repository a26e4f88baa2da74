/* framefd: frame_send() and frame_recv() on a raw descriptor, and a connection: a message at a
 * time, and queued, 64 in a call, and borrowed. */

#include "messages.h"

#include <framefd.h>

enum { VIEWS = 256, BATCH = 64 };

/* Ends the program where a call failed. */
static int64_t done(int64_t code)
{
    if (code < 0)
        errx(1, "%s", frame_last_error());
    return code;
}

static void send_stateless(int fd, size_t size)
{
    char *body = allocate(size);
    while (!time_is_up)
        done(frame_send(fd, NULL, body, size, NULL));
    free(body);
}

static uint64_t receive_stateless(int fd, size_t size)
{
    struct frame *frame;
    uint64_t count = 0;
    int code;
    (void)size;
    for (; (code = frame_recv(fd, &frame, NULL)) == 0; count++) {
        take(frame_body(frame, NULL));
        frame_free(frame);
    }
    if (code != FRAME_ECLOSED)
        done(code);
    return count;
}

static uint64_t ask_stateless(int fd, size_t size)
{
    char *body = allocate(size);
    struct frame *frame;
    uint64_t count = 0;
    for (; !time_is_up; count++) {
        done(frame_send(fd, NULL, body, size, NULL));
        done(frame_recv(fd, &frame, NULL));
        take(frame_body(frame, NULL));
        frame_free(frame);
    }
    free(body);
    return count;
}

static void answer_stateless(int fd, size_t size)
{
    struct frame *frame;
    (void)size;
    while (frame_recv(fd, &frame, NULL) == 0) {
        size_t len;
        const void *body = frame_body(frame, &len);
        done(frame_send(fd, NULL, body, len, NULL));
        frame_free(frame);
    }
}

static struct frame_connection *connection(int fd)
{
    struct frame_connection *c;
    done(frame_connection_new(fd, fd, NULL, &c));
    return c;
}

static void send_connection(int fd, size_t size)
{
    char *body = allocate(size);
    struct frame_connection *c = connection(fd);
    while (!time_is_up)
        done(frame_connection_send(c, NULL, body, size, -1));
    done(frame_connection_flush(c, -1));
    frame_connection_free(c);
    free(body);
}

static void send_buffered(int fd, size_t size)
{
    char *body = allocate(size);
    struct frame_view messages[BATCH];
    struct frame_connection *c = connection(fd);
    for (int index = 0; index < BATCH; index++)
        messages[index] = (struct frame_view){NULL, 0, body, size};
    while (!time_is_up)
        done(frame_connection_queue(c, messages, BATCH, -1));
    done(frame_connection_flush(c, -1));
    frame_connection_free(c);
    free(body);
}

static uint64_t receive_buffered(int fd, size_t size)
{
    struct frame_view views[VIEWS];
    struct frame_connection *c = connection(fd);
    uint64_t count = 0;
    int64_t got;
    (void)size;
    while ((got = frame_connection_next(c, views, VIEWS, -1)) > 0) {
        for (int64_t index = 0; index < got; index++)
            take(views[index].body);
        count += (uint64_t)got;
    }
    if (got != FRAME_ECLOSED)
        done(got);
    frame_connection_free(c);
    return count;
}

static uint64_t receive_connection(int fd, size_t size)
{
    struct frame *frame;
    struct frame_connection *c = connection(fd);
    uint64_t count = 0;
    int code;
    (void)size;
    for (; (code = frame_connection_recv(c, -1, &frame)) == 0; count++) {
        take(frame_body(frame, NULL));
        frame_free(frame);
    }
    if (code != FRAME_ECLOSED)
        done(code);
    frame_connection_free(c);
    return count;
}

static uint64_t ask_connection(int fd, size_t size)
{
    char *body = allocate(size);
    struct frame_connection *c = connection(fd);
    struct frame_view view;
    uint64_t count = 0;
    for (; !time_is_up; count++) {
        done(frame_connection_send(c, NULL, body, size, -1));
        done(frame_connection_next(c, &view, 1, -1));
        take(view.body);
    }
    frame_connection_free(c);
    free(body);
    return count;
}

static void answer_connection(int fd, size_t size)
{
    struct frame_connection *c = connection(fd);
    struct frame_view view;
    (void)size;
    while (frame_connection_next(c, &view, 1, -1) == 1)
        done(frame_connection_send(c, NULL, view.body, view.body_len, -1));
    frame_connection_free(c);
}

int main(int argc, char **argv)
{
    static const struct way ways[] = {
        {"stateless", send_stateless, receive_stateless, ask_stateless, answer_stateless},
        {"connection", send_connection, receive_connection, ask_connection, answer_connection},
        {"buffered", send_buffered, receive_buffered, ask_connection, answer_connection},
        {NULL, NULL, NULL, NULL, NULL},
    };
    return measure(argc, argv, ways);
}
