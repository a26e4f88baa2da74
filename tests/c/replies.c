/* The replies that every kind of request can have. */
#include "check.h"

/* Two connections with each other. */
static void connect_both(struct frame_connection *c[2])
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    int fd[2], i;
    socket_pair(fd);
    opts.flags = FRAME_CONNECTION_OWN;
    for (i = 0; i < 2; i++)
        CHECK_RETURNS(0, frame_connection_new(fd[i], fd[i], &opts, &c[i]));
    seal_both(c[0], c[1]);
}

static void free_both(struct frame_connection *c[2])
{
    frame_connection_free(c[0]);
    frame_connection_free(c[1]);
}

/* What was queued at the other end. */
static struct frame *reply(struct frame_connection *c[2])
{
    struct frame *frame;
    CHECK_RETURNS(0, frame_connection_flush(c[1], 1000));
    CHECK_RETURNS(0, frame_connection_recv(c[0], 1000, &frame));
    return frame;
}

static void has_text(const struct frame *frame, const char *key, const char *expected)
{
    char text[256];
    int64_t len = frame_header_string(frame_header(frame, NULL), key, text, sizeof text);
    CHECK_RETURNS(strlen(expected), len);
    if (strcmp(text, expected) != 0)
        check_failed(key, 0, text);
}

static void a_refusal_says_why_and_to_what(void)
{
    static const struct {
        int code;
        const char *reply;
    } codes[] = {
        {FRAME_ENOTSUP, "unsupported"},   {FRAME_EBADJSON, "bad_request"},
        {FRAME_EBADFIELD, "bad_request"},      {FRAME_EMISSING, "bad_request"},
        {FRAME_EACCES, "denied"},             {FRAME_EPATH, "denied"},
        {FRAME_ENOENT, "not_found"},        {FRAME_EEXIST, "exists"},
        {FRAME_ETOOBIG, "too_big"},            {FRAME_ENOSPC, "no_space"},
        {FRAME_ETIMEDOUT, "timed_out"},         {FRAME_ECHECKSUM, "checksum"},
        {FRAME_EBUSY, "busy"},                 {FRAME_ESPAWN, "spawn_failed"},
        {FRAME_EIO, "io"},                     {FRAME_EREMOTE_DENIED, "denied"},
        {FRAME_EREMOTE_NOT_FOUND, "not_found"},
    };
    static const char request[] = "{\"cmd\":\"x\",\"id\":\"one \\\"of\\\" many\"}";
    struct frame_connection *c[2];
    size_t i, len;
    connect_both(c);
    for (i = 0; i < sizeof codes / sizeof *codes; i++) {
        struct frame *frame;
        CHECK_RETURNS(0, frame_connection_reply_error(c[1], request, codes[i].code, NULL, 0));
        frame = reply(c);
        has_text(frame, "status", "error");
        has_text(frame, "code", codes[i].reply);
        has_text(frame, "id", "one \"of\" many");
        has_text(frame, "message", frame_strerror(codes[i].code));
        CHECK(frame_body(frame, &len) == NULL && len == 0);
        frame_free(frame);
    }
    free_both(c);
}

static void a_request_without_an_id_is_answered_without_one(void)
{
    struct frame_connection *c[2];
    struct frame *frame;
    connect_both(c);
    CHECK_RETURNS(0, frame_connection_reply_error(c[1], "{}", FRAME_EBADLENGTH, "no \"frame\"", 0));
    frame = reply(c);
    has_text(frame, "code", "bad_request");
    has_text(frame, "message", "no \"frame\"");
    CHECK_RETURNS(FRAME_EMISSING, frame_header_string(frame_header(frame, NULL), "id", NULL, 0));
    frame_free(frame);

    CHECK_RETURNS(FRAME_EINVAL, frame_connection_reply_error(c[1], "{}", -12345, NULL, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_reply_error(c[1], "{}", 1, NULL, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_reply_error(c[1], "{}", FRAME_EIO, "caf\xe9", 0));
    CHECK_RETURNS(0, frame_connection_flush(c[1], 0));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_recv(c[0], 0, &frame));
    free_both(c);
}

static void a_reply_says_ok_and_to_what(void)
{
    struct frame_connection *c[2];
    struct frame *frame;
    int64_t id;
    connect_both(c);
    CHECK_RETURNS(0, frame_connection_reply(c[1], "{\"id\":-7}", "{\"n\":[1]}", "body", 4, 0));
    frame = reply(c);
    has_text(frame, "status", "ok");
    CHECK_RETURNS(0, frame_header_int(frame_header(frame, NULL), "id", &id));
    CHECK(id == -7 && strstr(frame_header(frame, NULL), "\"n\":[1]") != NULL);
    CHECK_BODY("body", frame);
    frame_free(frame);
    free_both(c);
}

int main(void)
{
    a_refusal_says_why_and_to_what();
    a_request_without_an_id_is_answered_without_one();
    a_reply_says_ok_and_to_what();
    return 0;
}
