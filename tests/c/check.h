/* Common to the C suites: checks that report their line, and small helpers. A program runs in
 * the root of the repository and succeeds by returning 0. */
#ifndef CHECK_H
#define CHECK_H

#include <framefd.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Ends the program with 1 if the condition is false. */
#define CHECK(condition) \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))

/* The same for the result of a call: shows the returned code and its text. */
#define CHECK_RETURNS(expected, call) \
    check_returns(__FILE__, __LINE__, #call, (int64_t)(expected), (int64_t)(call))

/* The same for len bytes, which must be those of a literal. */
#define CHECK_BYTES(expected, bytes, len) \
    check_bytes(__FILE__, __LINE__, #expected, expected, sizeof(expected) - 1, bytes, len)

/* The same for the body of a frame. */
#define CHECK_BODY(expected, frame) \
    check_body(__FILE__, __LINE__, #expected, expected, sizeof(expected) - 1, frame)

/* A flag that one thread sets for another, or a signal handler for the program. */
#define SET(flag, value) __atomic_store_n(&(flag), value, __ATOMIC_SEQ_CST)
#define GET(flag) __atomic_load_n(&(flag), __ATOMIC_SEQ_CST)

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1 /* as gcc says it */
#endif
#endif

/* It lets a handler of signals run at the next call of C's library only, so that none can end
 * a wait. */
static inline bool under_thread_sanitizer(void)
{
#ifdef __SANITIZE_THREAD__
    return true;
#else
    return false;
#endif
}

static inline void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

static inline void check_returns(const char *file, int line, const char *call, int64_t expected,
                                 int64_t returned)
{
    if (returned == expected)
        return;
    fprintf(stderr, "%s:%d: %s: %lld and not %lld (%s)\n", file, line, call, (long long)returned,
            (long long)expected, returned < 0 ? frame_last_error() : "");
    exit(1);
}

static inline void check_bytes(const char *file, int line, const char *what, const void *expected,
                               size_t expected_len, const void *bytes, size_t len)
{
    if (len != expected_len || bytes == NULL || memcmp(bytes, expected, len) != 0)
        check_failed(file, line, what);
}

static inline void check_body(const char *file, int line, const char *what, const void *expected,
                              size_t expected_len, const struct frame *frame)
{
    size_t len = SIZE_MAX;
    const void *body = frame_body(frame, &len);
    check_bytes(file, line, what, expected, expected_len, body, len);
}

static inline void socket_pair(int fd[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
}

static inline void close_both(const int fd[2])
{
    CHECK(close(fd[0]) == 0 && close(fd[1]) == 0);
}

static inline void write_all(int fd, const void *bytes, size_t len)
{
    CHECK(write(fd, bytes, len) == (ssize_t)len);
}

static inline void read_all(int fd, void *bytes, size_t len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t count = read(fd, (char *)bytes + got, len - got);
        CHECK(count > 0);
        got += (size_t)count;
    }
}

/* The number of bytes that can be read. */
static inline size_t unread(int fd)
{
    int count = -1;
    CHECK(ioctl(fd, FIONREAD, &count) == 0);
    return (size_t)count;
}

/* Waits for a child, which must exit with 0. */
static inline void wait_for(pid_t child)
{
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        fprintf(stderr, "a child was ended by signal %d\n", WTERMSIG(status));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Milliseconds on the monotonic clock. */
static inline int64_t milliseconds(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Milliseconds that no call takes, unless it is broken. */
#define LONG 20000

/* A connection with these flags, and defaults for the rest. */
static inline struct frame_connection *connection_of(int read_fd, int write_fd, uint32_t flags)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_connection *c;
    opts.flags = flags;
    CHECK_RETURNS(0, frame_connection_new(read_fd, write_fd, &opts, &c));
    return c;
}

/* The same for one descriptor, which it owns. */
static inline struct frame_connection *owner_of(int fd)
{
    return connection_of(fd, fd, FRAME_CONNECTION_OWN);
}

/* Serves a request whose header was received; a result other than 0 ends the server. */
typedef int serve_function(void *context, struct frame_connection *c, const char *request);

/* Serves until the client has closed, and returns the code that ended it. */
static inline int serve_all(struct frame_connection *c, serve_function *serve, void *context)
{
    struct frame_view view;
    int code;
    do
        code = frame_connection_recv_header(c, LONG, &view, NULL);
    while (code == 0 && (code = serve(context, c, view.header)) == 0);
    return code;
}

/* Whether connections of which both ends are the library's are sealed in this run. */
static inline bool are_sealed(void)
{
    return getenv("FRAMEFD_TEST_SEALED") != NULL;
}

/* The client's part of sealing a connection: FRAME_ETIMEDOUT without a wait is its first step. */
static inline int seal_client(struct frame_connection *c, int32_t timeout_ms)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    opts.key_id = opts.server_name = "suite";
    opts.timeout_ms = timeout_ms;
    return frame_connection_auth_client(c, "thirty-two bytes of a shared key", 32, &opts);
}

/* The server's part. */
static inline int seal_server(struct frame_connection *c, int32_t timeout_ms)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    struct auth_keyring *ring;
    int code;
    opts.server_name = "suite";
    opts.timeout_ms = timeout_ms;
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    CHECK_RETURNS(0, auth_keyring_add(ring, "suite", "thirty-two bytes of a shared key", 32, 0));
    code = frame_connection_auth_server(c, ring, &opts, NULL);
    auth_keyring_free(ring);
    return code;
}

/* Both parts in one thread. */
static inline void seal_both(struct frame_connection *client, struct frame_connection *server)
{
    if (!are_sealed())
        return;
    CHECK_RETURNS(FRAME_ETIMEDOUT, seal_client(client, FRAME_DONT_WAIT));
    CHECK_RETURNS(FRAME_ETIMEDOUT, seal_server(server, FRAME_DONT_WAIT));
    CHECK_RETURNS(0, seal_client(client, FRAME_DONT_WAIT));
    CHECK_RETURNS(0, seal_server(server, FRAME_DONT_WAIT));
}

/* The code of a receive from a peer that has closed without ending its direction. */
static inline int closed_code(void)
{
    return are_sealed() ? FRAME_ETRUNCATED : FRAME_ECLOSED;
}

/* The flags of a state apart from the seal, which depends on the run. */
static inline uint32_t flags_of(const struct frame_connection_state *state)
{
    return state->flags & ~(uint32_t)FRAME_STATE_SEALED;
}

/* A connection to a server in a child, which must end with this code. */
static inline struct frame_connection *start_server(serve_function *serve, void *context, int end,
                                                    pid_t *child)
{
    struct frame_connection *c;
    int fd[2];
    socket_pair(fd);
    *child = fork();
    if (*child == 0) {
        c = owner_of(fd[1]);
        CHECK(close(fd[0]) == 0);
        CHECK(!are_sealed() || seal_server(c, LONG) == 0);
        CHECK_RETURNS(end == FRAME_ECLOSED ? closed_code() : end,
                      serve_all(c, serve, context));
        frame_connection_free(c);
        exit(0);
    }
    CHECK(close(fd[1]) == 0);
    c = owner_of(fd[0]);
    CHECK(!are_sealed() || seal_client(c, LONG) == 0);
    return c;
}

/* Closes a connection to a server, and waits for its end. */
static inline void end_server(struct frame_connection *c, pid_t child)
{
    frame_connection_free(c);
    wait_for(child);
}

#endif
