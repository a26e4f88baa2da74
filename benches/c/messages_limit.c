/* The limits: the least that the wire allows, without a library. The wire is that of frames, the
 * length of the header, {"data_size":N} and the body; nothing is parsed, since every message has
 * the same size. Each arrives in one piece of memory. */

#include "messages.h"

enum { BUFFER = 64 * 1024, PREFIX = 4 };

/* The prefix and the header of every message; returns their length. */
static size_t make_head(char *head, size_t size)
{
    int len = sprintf(head + PREFIX, "{\"data_size\":%zu}", size);
    memcpy(head, &(uint32_t){(uint32_t)len}, PREFIX);
    return PREFIX + (size_t)len;
}

static void write_both(int fd, const char *head, size_t head_len, const char *body, size_t size)
{
    struct iovec parts[] = {{(void *)head, head_len}, {(void *)body, size}};
    ssize_t sent = writev(fd, parts, 2);
    check(sent > 0, "writev");
    if ((size_t)sent < head_len)
        write_all(fd, head + sent, head_len - (size_t)sent);
    size_t of_body = (size_t)sent < head_len ? 0 : (size_t)sent - head_len;
    write_all(fd, body + of_body, size - of_body);
}

/* False at the end of the stream. */
static bool read_three(int fd, char *head, size_t head_len, char *body, size_t size)
{
    return read_all(fd, head, PREFIX) && read_all(fd, head + PREFIX, head_len - PREFIX) &&
           read_all(fd, body, size);
}

static void send_one_by_one(int fd, size_t size)
{
    char head[64], *body = allocate(size);
    size_t head_len = make_head(head, size);
    while (!time_is_up)
        write_both(fd, head, head_len, body, size);
    free(body);
}

static void send_batched(int fd, size_t size)
{
    char head[64], *body = allocate(size), *buffer = allocate(BUFFER);
    size_t head_len = make_head(head, size), frame = head_len + size, have = 0;
    if (frame > BUFFER) {
        send_one_by_one(fd, size);
    } else {
        while (!time_is_up) {
            if (have + frame > BUFFER) {
                write_all(fd, buffer, have);
                have = 0;
            }
            memcpy(buffer + have, head, head_len);
            memcpy(buffer + have + head_len, body, size);
            have += frame;
        }
        write_all(fd, buffer, have);
    }
    free(buffer);
    free(body);
}

static uint64_t receive_by_three(int fd, size_t size)
{
    char head[64], *body = allocate(size);
    size_t head_len = make_head(head, size);
    uint64_t count = 0;
    for (; read_three(fd, head, head_len, body, size); count++)
        take(body);
    free(body);
    return count;
}

static uint64_t receive_buffered(int fd, size_t size)
{
    char head[64], *body = allocate(size), *buffer = allocate(BUFFER);
    size_t head_len = make_head(head, size), frame = head_len + size, have = 0;
    uint64_t count = 0;
    ssize_t got;
    while ((got = read(fd, buffer + have, BUFFER - have)) > 0) {
        char *at = buffer;
        have += (size_t)got;
        for (; have >= frame; at += frame, have -= frame, count++)
            take(at + head_len);
        if (frame > BUFFER && have > head_len) {
            size_t of_body = have - head_len;
            memcpy(body, at + head_len, of_body);
            check(read_all(fd, body + of_body, size - of_body), "the end of a message");
            take(body);
            count++;
            have = 0;
        } else {
            memmove(buffer, at, have);
        }
    }
    free(buffer);
    free(body);
    return count;
}

static uint64_t ask_three(int fd, size_t size)
{
    char head[64], *body = allocate(size);
    size_t head_len = make_head(head, size);
    uint64_t count = 0;
    for (; !time_is_up; count++) {
        write_both(fd, head, head_len, body, size);
        check(read_three(fd, head, head_len, body, size), "an answer");
        take(body);
    }
    free(body);
    return count;
}

static void answer_three(int fd, size_t size)
{
    char head[64], *body = allocate(size);
    size_t head_len = make_head(head, size);
    while (read_three(fd, head, head_len, body, size))
        write_both(fd, head, head_len, body, size);
    free(body);
}

static uint64_t ask_raw(int fd, size_t size)
{
    char *body = allocate(size);
    uint64_t count = 0;
    for (; !time_is_up; count++) {
        write_all(fd, body, size);
        check(read_all(fd, body, size), "an answer");
        take(body);
    }
    free(body);
    return count;
}

static void answer_raw(int fd, size_t size)
{
    char *body = allocate(size);
    while (read_all(fd, body, size))
        write_all(fd, body, size);
    free(body);
}

int main(int argc, char **argv)
{
    static const struct way ways[] = {
        {"batched", send_batched, receive_buffered, NULL, NULL},
        {"reads", send_one_by_one, receive_by_three, ask_three, answer_three},
        {"buffered", send_one_by_one, receive_buffered, NULL, NULL},
        {"raw", NULL, NULL, ask_raw, answer_raw},
        {NULL, NULL, NULL, NULL, NULL},
    };
    return measure(argc, argv, ways);
}
