/* The replies that every kind of request can have. */
#include "check.h"

/* Sends a request and receives it. */
static struct frame *request(const int fd[2], const char *header)
{
    struct frame *frame;
    CHECK_RETURNS(0, frame_send(fd[0], header, NULL, 0, NULL));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    return frame;
}

static void has_text(const struct frame *frame, const char *key, const char *expected)
{
    const char *text;
    CHECK_RETURNS(0, frame_header_string(frame, key, &text, NULL));
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
    size_t i, len;
    int fd[2];
    socket_pair(fd);
    for (i = 0; i < sizeof codes / sizeof *codes; i++) {
        struct frame *asked = request(fd, "{\"cmd\":\"x\",\"id\":\"one \\\"of\\\" many\"}"), *reply;
        CHECK_RETURNS(0, frame_reply_error(fd[1], asked, codes[i].code, NULL, NULL));
        frame_free(asked);
        CHECK_RETURNS(0, frame_recv(fd[0], &reply, NULL));
        has_text(reply, "status", "error");
        has_text(reply, "code", codes[i].reply);
        has_text(reply, "id", "one \"of\" many");
        has_text(reply, "message", frame_strerror(codes[i].code));
        CHECK(frame_body(reply, &len) == NULL && len == 0);
        frame_free(reply);
    }
    close_both(fd);
}

static void what_was_no_frame_is_answered_too(void)
{
    struct frame *reply;
    const char *text;
    int fd[2];
    socket_pair(fd);
    CHECK_RETURNS(0, frame_reply_error(fd[1], NULL, FRAME_EBADLENGTH, "no \"frame\"", NULL));
    CHECK_RETURNS(0, frame_recv(fd[0], &reply, NULL));
    has_text(reply, "code", "bad_request");
    has_text(reply, "message", "no \"frame\"");
    CHECK_RETURNS(FRAME_EMISSING, frame_header_string(reply, "id", &text, NULL));
    frame_free(reply);

    CHECK_RETURNS(FRAME_EINVAL, frame_reply_error(fd[1], NULL, -12345, NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_reply_error(fd[1], NULL, 1, NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_reply_error(fd[1], NULL, FRAME_EIO, "caf\xe9", NULL));
    CHECK(unread(fd[0]) == 0);
    close_both(fd);
}

static void hello_tells_what_is_served(void)
{
    const char *const cmds[] = {"hello", "exec", "of \"ours\"", NULL};
    struct frame *asked, *reply;
    int64_t id;
    int fd[2];
    socket_pair(fd);
    asked = request(fd, "{\"cmd\":\"hello\",\"id\":-7}");
    CHECK_RETURNS(0, frame_reply_hello(fd[1], asked, cmds, NULL));
    frame_free(asked);
    CHECK_RETURNS(0, frame_recv(fd[0], &reply, NULL));
    has_text(reply, "status", "ok");
    has_text(reply, "version", frame_version());
    CHECK_RETURNS(0, frame_header_int(reply, "id", &id));
    CHECK(id == -7);
    CHECK(strstr(frame_header(reply, NULL), "\"cmds\":[\"hello\",\"exec\",\"of \\\"ours\\\"\"]"));
    CHECK(strstr(frame_header(reply, NULL), "\"max_header\":65536"));
    frame_free(reply);
    close_both(fd);
}

int main(void)
{
    a_refusal_says_why_and_to_what();
    what_was_no_frame_is_answered_too();
    hello_tells_what_is_served();
    return 0;
}
