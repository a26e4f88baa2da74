/* Datagrams and commands asked for in them: limits, broken ones, arguments, and a server on a
 * thread with and without a key. */
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>

static const char KEY[] = "a key of both ends, 32 bytes long";
#define KEY_LEN (sizeof KEY - 1)

static const struct frame_datagram_options SOON = {sizeof SOON, 10000, 0, 0, NULL, NULL};

static struct sockaddr_in address_of(int fd)
{
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    memset(&address, 0, sizeof address);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    return address;
}

static int udp(void)
{
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(fd >= 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static int connected(int to)
{
    struct sockaddr_in address = address_of(to);
    int fd = udp();
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void there_and_back(void)
{
    int client = udp(), server = udp();
    struct sockaddr_in to = address_of(server), from = address_of(client);
    struct frame *frame;
    const void *source;
    size_t len;

    CHECK_RETURNS(0, frame_datagram_send(client, &to, sizeof to, "{\"a\":\"b\"}", "body", 4, &SOON));
    CHECK_RETURNS(0, frame_datagram_recv(server, &SOON, &frame));
    CHECK_BODY("body", frame);
    CHECK(strcmp(frame_header(frame, NULL), "{\"data_size\":4,\"a\":\"b\"}") == 0);
    source = frame_datagram_source(frame, &len);
    CHECK(len == sizeof from && memcmp(source, &from, len) == 0);

    CHECK_RETURNS(0, frame_datagram_send(server, source, len, NULL, NULL, 0, NULL));
    frame_free(frame);
    CHECK_RETURNS(0, frame_datagram_recv(client, NULL, &frame));
    CHECK(frame_body(frame, &len) == NULL && len == 0);
    frame_free(frame);
    close(client);
    close(server);
}

static void limits(void)
{
    struct frame_datagram_options options = FRAME_DATAGRAM_OPTIONS_INIT;
    static char body[70000];
    int server = udp(), client = connected(server);
    struct frame *frame = NULL;
    size_t len;
    int pair[2];

    options.max_datagram = 65507;
    options.timeout_ms = 10000;
    /* The length, the header {"data_size":65486} and the body. */
    CHECK_RETURNS(0, frame_datagram_send(client, NULL, 0, NULL, body, 65507 - 23, &options));
    CHECK_RETURNS(0, frame_datagram_recv(server, &options, &frame));
    CHECK(frame_body(frame, &len) != NULL && len == 65507 - 23);
    frame_free(frame);
    CHECK_RETURNS(FRAME_ETOOBIG,
                  frame_datagram_send(client, NULL, 0, NULL, body, 65508 - 23, &options));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_datagram_send(client, NULL, 0, NULL, body, 8192, &SOON));

    options.max_datagram = 65508;
    CHECK_RETURNS(FRAME_EINVAL, frame_datagram_send(client, NULL, 0, NULL, NULL, 0, &options));

    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    CHECK(send(pair[0], body, sizeof body, 0) == sizeof body);
    frame = (struct frame *)body;
    CHECK_RETURNS(FRAME_ELIMIT, frame_datagram_recv(pair[1], &SOON, &frame));
    CHECK(frame == NULL);
    CHECK(strstr(frame_last_error(), "70000") != NULL);
    CHECK_RETURNS(0, frame_datagram_send(pair[0], NULL, 0, NULL, "x", 1, &SOON));
    CHECK_RETURNS(0, frame_datagram_recv(pair[1], &SOON, &frame));
    CHECK(frame_datagram_source(frame, &len) == NULL && len == 0);
    frame_free(frame);
    close_both(pair);
    close(client);
    close(server);
}

/* What is lost here, valgrind and the sanitizers find. */
static void broken_ones_leak_nothing(void)
{
    static const char whole[] = "\x0f\0\0\0{\"data_size\":2}ab";
    int server = udp(), client = connected(server), n;
    struct frame *frame;

    for (n = 0; n < 1000; n++) {
        size_t len = (size_t)n % (sizeof whole - 1);
        CHECK(send(client, whole, len, 0) == (ssize_t)len);
        CHECK_RETURNS(FRAME_EBADLENGTH, frame_datagram_recv(server, &SOON, &frame));
        CHECK(frame == NULL);
    }
    CHECK(send(client, whole, sizeof whole - 1, 0) == sizeof whole - 1);
    CHECK_RETURNS(0, frame_datagram_recv(server, &SOON, &frame));
    frame_free(frame);
    close(client);
    close(server);
}

static int stop(void *context)
{
    ++*(int *)context;
    return 1;
}

static void a_hook_ends_the_wait(void)
{
    struct frame_datagram_options options = FRAME_DATAGRAM_OPTIONS_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_output *output;
    struct frame *frame;
    int fd = udp(), client = connected(fd), calls = 0;
    options.interrupted = stop;
    options.context = &calls;
    CHECK_RETURNS(FRAME_ECANCELED, frame_datagram_recv(fd, &options, &frame));
    CHECK(calls == 1 && frame == NULL);
    what.command = "true";
    what.interrupted = stop;
    what.context = &calls;
    CHECK_RETURNS(FRAME_ECANCELED, exec_datagram_call(client, &what, NULL, 0, -1, NULL, &output));
    CHECK(calls == 2 && output == NULL);
    close(client);
    close(fd);
}

static void bad_arguments(void)
{
    struct frame_datagram_options options = FRAME_DATAGRAM_OPTIONS_INIT;
    struct exec_options exec = EXEC_OPTIONS_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_datagram_server *server;
    struct exec_output *output;
    struct frame *frame;
    int fd = udp(), pair[2];

    CHECK_RETURNS(FRAME_EBADF, frame_datagram_send(-1, NULL, 0, NULL, NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_datagram_send(fd, NULL, 16, NULL, NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_datagram_send(fd, "", 0, NULL, NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_datagram_send(fd, "x", 1, NULL, NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_datagram_send(fd, NULL, 0, NULL, NULL, 1, NULL));
    CHECK_RETURNS(FRAME_EBADJSON, frame_datagram_send(fd, NULL, 0, "[]", NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EIO, frame_datagram_send(fd, NULL, 0, NULL, NULL, 0, NULL));
    CHECK(errno == EDESTADDRREQ);
    CHECK_RETURNS(FRAME_EINVAL, frame_datagram_recv(fd, NULL, NULL));
    options.timeout_ms = FRAME_DONT_WAIT;
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_datagram_recv(fd, &options, &frame));
    CHECK(frame == NULL);
    options.flags = 1;
    CHECK_RETURNS(FRAME_EINVAL, frame_datagram_recv(fd, &options, &frame));
    options.flags = 0;
    options.size = 0;
    CHECK_RETURNS(FRAME_EINVAL, frame_datagram_recv(fd, &options, &frame));
    CHECK(frame_datagram_source(NULL, NULL) == NULL);

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK_RETURNS(FRAME_EBADF, frame_datagram_recv(pair[0], NULL, &frame));
    CHECK_RETURNS(FRAME_EBADF, frame_datagram_send(pair[0], NULL, 0, NULL, NULL, 0, NULL));
    close_both(pair);

    CHECK_RETURNS(FRAME_EINVAL, exec_datagram_server_new(NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EINVAL, exec_datagram_server_new(NULL, 16, &server));
    CHECK(server == NULL);
    CHECK_RETURNS(FRAME_EKEY, exec_datagram_server_new("short", 5, &server));
    CHECK(server == NULL);
    CHECK_RETURNS(FRAME_EKEY, exec_datagram_server_new("", 0, &server));
    CHECK(server == NULL);
    CHECK_RETURNS(0, exec_datagram_server_new(NULL, 0, &server));
    CHECK_RETURNS(FRAME_EINVAL, exec_datagram_serve(NULL, fd, NULL, 0, NULL));
    CHECK_RETURNS(FRAME_ETIMEDOUT, exec_datagram_serve(server, fd, NULL, 0, NULL));
    CHECK_RETURNS(FRAME_EBADF, exec_datagram_serve(server, -1, NULL, 0, NULL));
    exec.write_fd = 1;
    CHECK_RETURNS(FRAME_EINVAL, exec_datagram_serve(server, fd, &exec, 0, NULL));
    what.command = "true";
    CHECK_RETURNS(FRAME_EKEY, exec_datagram_call(fd, &what, "short", 5, 1000, NULL, &output));
    CHECK_RETURNS(FRAME_EINVAL, exec_datagram_call(fd, &what, NULL, 0, 1000, NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, exec_datagram_call(fd, NULL, NULL, 0, 1000, NULL, &output));
    CHECK_RETURNS(FRAME_EIO, exec_datagram_call(fd, &what, NULL, 0, 1000, NULL, &output));
    CHECK(output == NULL && errno == EDESTADDRREQ);
    what.input = "x";
    what.input_len = 1;
    CHECK_RETURNS(FRAME_EINVAL, exec_datagram_call(fd, &what, NULL, 0, 1000, NULL, &output));
    what.input_len = 0;
    what.flags = EXEC_TTY;
    CHECK_RETURNS(FRAME_EINVAL, exec_datagram_call(fd, &what, NULL, 0, 1000, NULL, &output));
    exec_datagram_server_free(server);
    exec_datagram_server_free(NULL);
    close(fd);
}

/* A server, and what became of its last datagram. */
struct serving {
    struct exec_datagram_server *server;
    int fd;
    struct exec_result result;
};

static int serve_one(struct serving *serving)
{
    return exec_datagram_serve(serving->server, serving->fd, NULL, 10000, &serving->result);
}

/* Serves until a request is refused. */
static void *serve(void *argument)
{
    struct serving *serving = argument;
    int outcome;
    do {
        outcome = serve_one(serving);
        CHECK(outcome >= 0 && outcome == serving->result.outcome);
    } while (outcome != EXEC_REFUSED);
    return NULL;
}

static int poll_in(int fd)
{
    struct pollfd polled = {fd, POLLIN, 0};
    return poll(&polled, 1, 0) == 1;
}

/* Has a command run; its output, or NULL. */
static int call(int fd, const char *command, const void *key, size_t key_len,
                struct exec_result *result, struct exec_output **output)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    what.command = command;
    return exec_datagram_call(fd, &what, key, key_len, FRAME_DEFAULT_TIMEOUT, result, output);
}

static void commands(const void *key, size_t key_len)
{
    static const char failing[] = "echo out; echo err >&2; exit 7";
    static const char request[] = "{\"cmd\":\"exec\",\"id\":1}";
    struct serving serving = {NULL, udp(), EXEC_RESULT_INIT};
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;
    pthread_t thread;
    size_t len;
    int client = connected(serving.fd);

    CHECK_RETURNS(0, exec_datagram_server_new(key, key_len, &serving.server));
    CHECK(pthread_create(&thread, NULL, serve, &serving) == 0);

    CHECK_RETURNS(EXEC_EXITED, call(client, failing, key, key_len, &result, &output));
    CHECK_BYTES("out\n", exec_output_bytes(output, EXEC_STDOUT, NULL), 4);
    CHECK_BYTES("err\n", exec_output_bytes(output, EXEC_STDERR, NULL), 4);
    CHECK(result.exit_code == 7 && result.stdout_total == 4);
    exec_output_free(output);

    CHECK_RETURNS(EXEC_EXITED, call(client, "seq 20000", key, key_len, NULL, &output));
    CHECK(exec_output_bytes(output, EXEC_STDOUT, &len) != NULL && len == 108894);
    exec_output_free(output);

    CHECK_RETURNS(FRAME_EREMOTE_BAD_REQUEST, call(client, "", key, key_len, NULL, &output));
    CHECK(output == NULL);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(serving.result.error == FRAME_EINVAL);

    /* On a slow machine the client has asked again for what was on its way. */
    while (poll_in(serving.fd))
        CHECK_RETURNS(EXEC_REPEATED, serve_one(&serving));

    /* The same request twice; it has no tag. */
    CHECK_RETURNS(0, frame_datagram_send(client, NULL, 0, request, "true", 4, NULL));
    CHECK_RETURNS(0, frame_datagram_send(client, NULL, 0, request, "true", 4, NULL));
    CHECK_RETURNS(key ? EXEC_IGNORED : EXEC_EXITED, serve_one(&serving));
    CHECK(serving.result.error == (key ? FRAME_EAUTH : 0));
    CHECK_RETURNS(key ? EXEC_IGNORED : EXEC_REPEATED, serve_one(&serving));
    exec_datagram_server_free(serving.server);

    CHECK(close(serving.fd) == 0);
    CHECK_RETURNS(FRAME_EIO, call(client, "true", key, key_len, NULL, &output));
    CHECK(errno == ECONNREFUSED && output == NULL);
    CHECK(close(client) == 0);
}

/* Sends back what it receives. */
static void *echo(void *argument)
{
    static char bytes[65507];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    int fd = *(int *)argument;
    ssize_t n = recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &len);
    CHECK(n > 0 && sendto(fd, bytes, (size_t)n, 0, (struct sockaddr *)&from, len) == n);
    return NULL;
}

static void a_request_that_is_sent_back_is_no_reply(const void *key, size_t key_len)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_output *output;
    pthread_t thread;
    int server = udp(), client = connected(server);

    CHECK(pthread_create(&thread, NULL, echo, &server) == 0);
    what.command = "echo no";
    CHECK_RETURNS(FRAME_ETIMEDOUT,
                  exec_datagram_call(client, &what, key, key_len, 300, NULL, &output));
    CHECK(output == NULL);
    CHECK(strstr(frame_last_error(), key ? "tag" : "it is a request") != NULL);
    CHECK(pthread_join(thread, NULL) == 0);
    close(client);
    close(server);
}

static void a_hook_ends_serving(void)
{
    static const char request[] = "{\"cmd\":\"exec\",\"id\":1}";
    struct exec_options options = EXEC_OPTIONS_INIT;
    struct exec_datagram_server *server;
    int fd = udp(), client = connected(fd), calls = 0;

    CHECK_RETURNS(0, exec_datagram_server_new(NULL, 0, &server));
    options.interrupted = stop;
    options.context = &calls;
    CHECK_RETURNS(FRAME_ECANCELED, exec_datagram_serve(server, fd, &options, -1, NULL));
    CHECK(calls == 1);
    /* The command, too; it gets no reply, and does not run again. */
    CHECK_RETURNS(0, frame_datagram_send(client, NULL, 0, request, "sleep 1000", 10, NULL));
    CHECK_RETURNS(FRAME_ECANCELED, exec_datagram_serve(server, fd, &options, -1, NULL));
    CHECK_RETURNS(0, frame_datagram_send(client, NULL, 0, request, "sleep 1000", 10, NULL));
    CHECK_RETURNS(EXEC_REPEATED, exec_datagram_serve(server, fd, NULL, 10000, NULL));
    CHECK(!poll_in(client));
    exec_datagram_server_free(server);
    close(client);
    close(fd);
}

static void *send_for_ever(void *argument)
{
    static const char request[] = "{\"id\":1}";
    int *ends = argument;
    while (!poll_in(ends[1]))
        CHECK_RETURNS(0, frame_datagram_send(ends[0], NULL, 0, request, NULL, 0, NULL));
    return NULL;
}

static void *serve_for_ever(void *argument)
{
    struct serving *serving = argument;
    int code;
    do {
        code = exec_datagram_serve(serving->server, serving->fd, NULL, 200, NULL);
    } while (code != FRAME_ETIMEDOUT);
    return NULL;
}

/* Each child begins at another moment of the parent's other threads. */
static void a_child_of_fork_is_refused_and_does_not_hang(void)
{
    struct serving serving = {NULL, udp(), EXEC_RESULT_INIT};
    pthread_t sending, working;
    int n, status, client = connected(serving.fd), end[2];
    int ends[2];

    CHECK(pipe(end) == 0);
    ends[0] = client;
    ends[1] = end[0];
    CHECK_RETURNS(0, exec_datagram_server_new(NULL, 0, &serving.server));
    CHECK(pthread_create(&sending, NULL, send_for_ever, ends) == 0);
    CHECK(pthread_create(&working, NULL, serve_for_ever, &serving) == 0);
    for (n = 0; n < 20; n++) {
        pid_t child = fork();
        if (child == 0) {
            CHECK_RETURNS(FRAME_EFORKED,
                          exec_datagram_serve(serving.server, serving.fd, NULL, 10000, NULL));
            exec_datagram_server_free(serving.server);
            execl("/bin/true", "true", (char *)NULL); /* its other threads leave their memory */
            _exit(1);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    write_all(end[1], "x", 1);
    CHECK(pthread_join(sending, NULL) == 0);
    CHECK(pthread_join(working, NULL) == 0);
    exec_datagram_server_free(serving.server);
    close_both(end);
    close(client);
    close(serving.fd);
}

static int busy(void *context, const struct exec_inquiry *inquiry, char *reason, size_t size)
{
    (void)inquiry;
    snprintf(reason, size, "%s", (const char *)context);
    return FRAME_EBUSY;
}

static void *serve_busy(void *argument)
{
    static char reason[] = "all threads run commands";
    struct serving *serving = argument;
    struct exec_options options = EXEC_OPTIONS_INIT;
    options.policy = busy;
    options.context = reason;
    CHECK_RETURNS(EXEC_REFUSED, exec_datagram_serve(serving->server, serving->fd, &options, 10000,
                                                    &serving->result));
    CHECK(serving->result.error == FRAME_EBUSY);
    return NULL;
}

static void a_policy_can_say_that_the_server_is_busy(void)
{
    struct serving serving = {NULL, udp(), EXEC_RESULT_INIT};
    struct exec_output *output;
    pthread_t thread;
    int client = connected(serving.fd);

    CHECK_RETURNS(0, exec_datagram_server_new(KEY, KEY_LEN, &serving.server));
    CHECK(pthread_create(&thread, NULL, serve_busy, &serving) == 0);
    CHECK_RETURNS(FRAME_EREMOTE_BUSY, call(client, "true", KEY, KEY_LEN, NULL, &output));
    CHECK(strstr(frame_last_error(), "all threads") != NULL);
    CHECK(pthread_join(thread, NULL) == 0);
    exec_datagram_server_free(serving.server);
    close(client);
    close(serving.fd);
}

int main(void)
{
    there_and_back();
    limits();
    broken_ones_leak_nothing();
    a_hook_ends_the_wait();
    bad_arguments();
    commands(NULL, 0);
    commands(KEY, KEY_LEN);
    a_request_that_is_sent_back_is_no_reply(NULL, 0);
    a_request_that_is_sent_back_is_no_reply(KEY, KEY_LEN);
    a_hook_ends_serving();
    a_policy_can_say_that_the_server_is_busy();
    a_child_of_fork_is_refused_and_does_not_hang();
    return 0;
}
