/* Common to the suites of servers: one in a thread, its clients, and two handlers. */
#ifndef SERVING_H
#define SERVING_H

#include "check.h"

#include <pthread.h>
#include <stdbool.h>

enum { LONG_MS = 20000 };

static const char KEY[] = "0123456789abcdef0123456789abcdef";

static inline int upper(void *context, struct frame_connection *c, const struct frame_view *request)
{
    char *loud = malloc(request->body_len + 1);
    size_t i;
    int code;
    CHECK(context == NULL && request->header[request->header_len] == '\0' && loud != NULL);
    for (i = 0; i < request->body_len; i++) {
        char letter = ((const char *)request->body)[i];
        loud[i] = letter >= 'a' && letter <= 'z' ? (char)(letter - 'a' + 'A') : letter;
    }
    code = frame_connection_reply(c, request->header, NULL, loud, request->body_len, 0);
    free(loud);
    return code;
}

static inline int fail(void *context, struct frame_connection *c, const struct frame_view *request)
{
    int64_t code;
    (void)context;
    (void)c;
    CHECK_RETURNS(0, frame_header_int(request->header, "code", &code));
    return (int)code;
}

static inline void *run(void *s)
{
    CHECK_RETURNS(0, frame_server_run(s));
    return NULL;
}

static inline pthread_t start(struct frame_server *s)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, s) == 0);
    return thread;
}

static inline void stop(struct frame_server *s, pthread_t thread)
{
    CHECK_RETURNS(0, frame_server_stop(s));
    CHECK(pthread_join(thread, NULL) == 0);
    frame_server_free(s);
}

/* A listening socket, and its address. */
static inline int listener(char address[64])
{
    int fd = frame_listen("127.0.0.1:0", 0, 0);
    CHECK(fd >= 0 && frame_address(fd, false, address, 64) > 0);
    return fd;
}

static inline struct frame_connection *client(const char *address)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    opts.timeout_ms = LONG_MS;
    CHECK_RETURNS(0, frame_connect(address, &opts, &c));
    return c;
}

static inline void ask(struct frame_connection *c, const char *header, const char *body,
                const char *expected)
{
    struct frame *reply;
    CHECK_RETURNS(0, frame_connection_call(c, header, body, strlen(body), LONG_MS, &reply));
    if (expected != NULL) {
        size_t len;
        const void *bytes = frame_body(reply, &len);
        CHECK(len == strlen(expected) && (len == 0 || memcmp(bytes, expected, len) == 0));
    }
    frame_free(reply);
}

#endif
