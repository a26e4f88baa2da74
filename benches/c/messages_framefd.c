/* framefd: frame_send() and frame_recv(), and a writer and a reader. */

#include "messages.h"

#include <framefd.h>

enum { VIEWS = 256 };

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

static void send_buffered(int fd, size_t size)
{
    char *body = allocate(size);
    struct frame_writer *writer;
    done(frame_writer_new(fd, &writer, NULL));
    while (!time_is_up)
        done(frame_writer_send(writer, NULL, body, size, 0));
    done(frame_writer_flush(writer, 0));
    frame_writer_free(writer);
    free(body);
}

static uint64_t receive_buffered(int fd, size_t size)
{
    struct frame_view views[VIEWS];
    struct frame_reader *reader;
    uint64_t count = 0;
    int64_t got;
    (void)size;
    done(frame_reader_new(fd, &reader, NULL));
    while ((got = frame_reader_next(reader, views, VIEWS, 0)) > 0) {
        for (int64_t index = 0; index < got; index++)
            take(views[index].body);
        count += (uint64_t)got;
    }
    if (got != FRAME_ECLOSED)
        done(got);
    frame_reader_free(reader);
    return count;
}

/* A writer, and a reader that flushes it before it waits. */
static void open_both(int fd, struct frame_writer **writer, struct frame_reader **reader)
{
    done(frame_writer_new(fd, writer, NULL));
    done(frame_reader_new(fd, reader, NULL));
    done(frame_reader_tie(*reader, *writer));
}

static uint64_t ask_buffered(int fd, size_t size)
{
    char *body = allocate(size);
    struct frame_writer *writer;
    struct frame_reader *reader;
    struct frame_view view;
    uint64_t count = 0;
    open_both(fd, &writer, &reader);
    for (; !time_is_up; count++) {
        done(frame_writer_send(writer, NULL, body, size, 0));
        done(frame_reader_next(reader, &view, 1, 0));
        take(view.body);
    }
    frame_reader_free(reader);
    frame_writer_free(writer);
    free(body);
    return count;
}

static void answer_buffered(int fd, size_t size)
{
    struct frame_writer *writer;
    struct frame_reader *reader;
    struct frame_view view;
    (void)size;
    open_both(fd, &writer, &reader);
    while (frame_reader_next(reader, &view, 1, 0) == 1)
        done(frame_writer_send(writer, NULL, view.body, view.body_len, 0));
    frame_reader_free(reader);
    frame_writer_free(writer);
}

int main(int argc, char **argv)
{
    static const struct way ways[] = {
        {"stateless", send_stateless, receive_stateless, ask_stateless, answer_stateless},
        {"buffered", send_buffered, receive_buffered, ask_buffered, answer_buffered},
        {NULL, NULL, NULL, NULL, NULL},
    };
    return measure(argc, argv, ways);
}
