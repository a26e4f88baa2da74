/* A server: handlers, limits of access, a loop of the host, signals, what is passed wrongly. */
#include "serving.h"

#include <poll.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

/* ---- handlers */

static int count(void *context, struct frame_connection *c, const struct frame_view *request)
{
    char piece[1000], reply[64];
    int64_t sum = 0, n;
    CHECK(request->body == NULL && request->body_len == 0 && *(int *)context == 7);
    while ((n = frame_connection_read(c, piece, sizeof piece, FRAME_DEFAULT_TIMEOUT)) > 0)
        sum += n;
    CHECK(n == 0);
    sprintf(reply, "{\"sum\":%ld}", (long)sum);
    return frame_connection_reply(c, request->header, reply, NULL, 0, 0);
}

static int who(void *context, struct frame_connection *c, const struct frame_view *request)
{
    struct auth_result proof = AUTH_RESULT_INIT;
    (void)context;
    CHECK_RETURNS(0, frame_connection_proof(c, &proof));
    return frame_connection_reply(c, request->header, NULL, proof.key_id, strlen(proof.key_id), 0);
}

/* The connection is the server's: what is wrong here ends it. */
static int starts_a_command(void *context, struct frame_connection *c,
                            const struct frame_view *request)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    (void)context;
    (void)request;
    what.command = "true";
    return exec_start(c, &what, LONG_MS);
}

static int seven = 7;

static struct frame_server *server_with(const struct frame_server_options *opts)
{
    struct frame_server *s;
    CHECK_RETURNS(0, frame_server_new(opts, &s));
    CHECK_RETURNS(0, frame_server_handle(s, "upper", upper, NULL, 0));
    CHECK_RETURNS(0, frame_server_handle(s, "count", count, &seven, FRAME_HANDLER_STREAM));
    CHECK_RETURNS(0, frame_server_handle(s, "fail", fail, NULL, 0));
    CHECK_RETURNS(0, frame_server_handle(s, "who", who, NULL, 0));
    CHECK_RETURNS(0, frame_server_handle(s, "start", starts_a_command, NULL, 0));
    CHECK_RETURNS(FRAME_EEXIST, frame_server_handle(s, "who", who, NULL, 0));
    return s;
}

static void requests_go_to_their_handlers(void)
{
    uint32_t workers;
    for (workers = 0; workers <= 2; workers += 2) {
        struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
        struct frame_server_counts counts = FRAME_SERVER_COUNTS_INIT;
        char address[64], *large = malloc(1000001);
        struct frame *reply;
        struct frame_connection *c;
        struct frame_server *s;
        pthread_t thread;
        int fd = listener(address);
        opts.workers = workers;
        opts.flags = FRAME_SERVER_HELLO;
        s = server_with(&opts);
        CHECK_RETURNS(0, frame_server_listen(s, fd));
        CHECK_RETURNS(0, frame_server_serve_exec(s, NULL));
        CHECK_RETURNS(FRAME_EEXIST, frame_server_serve_exec(s, NULL));
        thread = start(s);
        c = client(address);
        ask(c, "{\"cmd\":\"upper\"}", "Hello", "HELLO");
        CHECK_RETURNS(FRAME_ESTATE, frame_server_handle(s, "late", who, NULL, 0));
        memset(large, 'x', 1000000);
        large[1000000] = '\0';
        CHECK_RETURNS(0, frame_connection_call(c, "{\"cmd\":\"count\"}", large, 1000000, LONG_MS,
                                               &reply));
        CHECK(strstr(frame_header(reply, NULL), "\"sum\":1000000") != NULL);
        frame_free(reply);
        free(large);
        ask(c, "{\"cmd\":\"fail\",\"code\":0}", "", "");
        CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND,
                      frame_connection_call(c, "{\"cmd\":\"fail\",\"code\":-13}", NULL, 0, LONG_MS,
                                            &reply));
        CHECK_RETURNS(FRAME_EREMOTE_IO,
                      frame_connection_call(c, "{\"cmd\":\"fail\",\"code\":5}", NULL, 0, LONG_MS,
                                            &reply));
        CHECK_RETURNS(FRAME_EREMOTE_UNSUPPORTED,
                      frame_connection_call(c, "{\"cmd\":\"other\"}", NULL, 0, LONG_MS, &reply));
        CHECK_RETURNS(0, frame_connection_call(c, "{\"cmd\":\"hello\"}", NULL, 0, LONG_MS, &reply));
        CHECK(strstr(frame_header(reply, NULL), "\"exec\"") != NULL);
        frame_free(reply);
        CHECK_RETURNS(0, frame_server_counters(s, &counts));
        CHECK(counts.requests == 7 && counts.errors == 3 && counts.connections_now == 1);
        frame_connection_free(c);
        c = client(address);
        CHECK(frame_connection_call(c, "{\"cmd\":\"start\"}", NULL, 0, LONG_MS, &reply) < 0);
        frame_connection_free(c);
        stop(s, thread);
        CHECK(close(fd) == 0);
    }
}

static int denies(void *context, const struct exec_inquiry *inquiry, char *reason, size_t size)
{
    CHECK(context == &seven && strcmp(inquiry->key_id, "one") == 0);
    if (inquiry->command_len != 2 || memcmp(inquiry->command, "no", 2) != 0)
        return 0;
    snprintf(reason, size, "not for %s", inquiry->key_id);
    return FRAME_EACCES;
}

static void keys_are_asked_for_sealed_or_plain(void)
{
    int plain;
    for (plain = 0; plain < 2; plain++) {
        struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
        struct auth_options how = AUTH_OPTIONS_INIT;
        struct exec_options exec = EXEC_OPTIONS_INIT;
        struct exec_request what = EXEC_REQUEST_INIT;
        struct exec_output *output;
        struct frame_connection *c;
        struct auth_keyring *ring;
        struct frame_server *s;
        char address[64];
        pthread_t thread;
        int fd = listener(address);
        CHECK_RETURNS(0, auth_keyring_new(&ring));
        opts.ring = ring;
        opts.flags = plain ? FRAME_SERVER_PLAIN : 0;
        opts.server_name = plain ? NULL : "db";
        opts.workers = 2;
        CHECK_RETURNS(FRAME_EKEY, frame_server_new(&opts, &s));
        CHECK(s == NULL);
        CHECK_RETURNS(0, auth_keyring_add(ring, "one", KEY, 32, 0));
        s = server_with(&opts);
        auth_keyring_free(ring);
        exec.policy = denies;
        exec.context = &seven;
        CHECK_RETURNS(0, frame_server_serve_exec(s, &exec));
        CHECK_RETURNS(0, frame_server_listen(s, fd));
        thread = start(s);
        how.flags = plain ? AUTH_PLAIN : 0;
        how.key_id = plain ? NULL : "one";
        how.server_name = plain ? NULL : "db";
        c = client(address);
        CHECK_RETURNS(0, frame_connection_auth_client(c, KEY, 32, &how));
        ask(c, "{\"cmd\":\"who\"}", "", "one");
        what.command = "echo $((6 * 7))";
        CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG_MS, NULL, &output));
        exec_output_free(output);
        what.command = "no";
        CHECK_RETURNS(FRAME_EREMOTE_DENIED, exec_call(c, &what, LONG_MS, NULL, &output));
        CHECK(strstr(frame_last_error(), "not for one") != NULL);
        frame_connection_free(c);
        stop(s, thread);
        close(fd);
    }
}

/* A host with its own poll(2), a connection of its own, and files. */
static void a_foreign_loop_serves_it(void)
{
    struct frame_server *s = server_with(NULL);
    struct frame_connection *c;
    char root[] = "/tmp/framefd-serve-XXXXXX", path[64];
    int ends[2], dir, code = 0, asked = 0, file;
    struct pollfd ready;
    CHECK(mkdtemp(root) != NULL);
    CHECK((dir = open(root, O_RDONLY | O_DIRECTORY)) >= 0);
    snprintf(path, sizeof path, "%s/file", root);
    CHECK((file = open(path, O_CREAT | O_WRONLY, 0600)) >= 0 && write(file, "12345", 5) == 5);
    close(file);
    CHECK_RETURNS(FRAME_EINVAL, frame_server_serve_files(s, dir, 0, NULL));
    CHECK_RETURNS(0, frame_server_serve_files(s, dir, FRAME_SERVE_READ, NULL));
    close(dir);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    CHECK_RETURNS(0, frame_server_add(s, ends[0]));
    CHECK_RETURNS(0, frame_connection_new(ends[1], ends[1], NULL, &c));
    CHECK_RETURNS(0, frame_connection_send(c, "{\"cmd\":\"upper\"}", "abc", 3, LONG_MS));
    ready.fd = frame_server_poll_fd(s);
    ready.events = POLLIN;
    while (code == 0) {
        struct frame *reply;
        CHECK(poll(&ready, 1, LONG_MS) == 1);
        code = frame_server_step(s, 0);
        if (code == FRAME_ETIMEDOUT)
            code = 0;
        if (frame_connection_recv(c, 0, &reply) == 0) {
            if (asked++ == 0) {
                CHECK_BODY("ABC", reply);
                CHECK_RETURNS(0, frame_connection_send(c, "{\"cmd\":\"stat\",\"filename\":\"file\"}",
                                                       NULL, 0, LONG_MS));
            } else {
                CHECK(strstr(frame_header(reply, NULL), "\"size\":5") != NULL);
                CHECK_RETURNS(0, frame_server_stop(s));
            }
            frame_free(reply);
        }
        if (asked == 2 && c != NULL && frame_connection_recv(c, 0, &reply) == FRAME_ECLOSED) {
            frame_connection_free(c);
            close(ends[1]);
            c = NULL;
        }
    }
    CHECK_RETURNS(FRAME_ECLOSED, code);
    CHECK_RETURNS(FRAME_ECLOSED, frame_server_step(s, -1));
    CHECK(c == NULL && fcntl(ends[0], F_GETFD) < 0);
    frame_server_free(s);
    CHECK(unlink(path) == 0 && rmdir(root) == 0);
}

static struct frame_server *stopped_by_signal;

static void on_signal(int number)
{
    (void)number;
    frame_server_stop(stopped_by_signal);
}

/* Nobody reads its log any more. */
static void log_to_nobody(void *context, uint32_t level, const char *text)
{
    CHECK(level >= FRAME_LOG_ERROR && level <= FRAME_LOG_DEBUG);
    CHECK(write(*(int *)context, text, strlen(text)) < 0 && errno == EPIPE);
}

/* A process with no descriptors, default signals and a log into a broken pipe, ended by SIGTERM. */
static void an_odd_host_can_have_it(void)
{
    pid_t child;
    char address[64];
    int fd = listener(address), status;
    if ((child = fork()) == 0) {
        struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
        int ends[2], high;
        CHECK((high = fcntl(fd, F_DUPFD_CLOEXEC, 10)) >= 10);
        close(0);
        close(1);
        close(fd);
        CHECK(pipe(ends) == 0);
        close(ends[0]);
        signal(SIGPIPE, SIG_DFL);
        opts.log = log_to_nobody;
        opts.log_level = FRAME_LOG_DEBUG;
        opts.context = &ends[1];
        opts.workers = 2;
        close(2);
        stopped_by_signal = server_with(&opts);
        CHECK_RETURNS(0, frame_server_serve_exec(stopped_by_signal, NULL));
        CHECK_RETURNS(0, frame_server_listen(stopped_by_signal, high));
        signal(SIGTERM, on_signal);
        CHECK_RETURNS(0, frame_server_run(stopped_by_signal));
        signal(SIGTERM, SIG_IGN);
        frame_server_free(stopped_by_signal);
        _exit(0);
    }
    close(fd);
    {
        struct exec_request what = EXEC_REQUEST_INIT;
        struct exec_output *output;
        struct frame_connection *c = client(address);
        struct frame *none;
        const void *bytes;
        size_t len;
        ask(c, "{\"cmd\":\"upper\"}", "odd", "ODD");
        what.command = "echo out; echo err >&2";
        CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG_MS, NULL, &output));
        bytes = exec_output_bytes(output, EXEC_STDOUT, &len);
        CHECK_BYTES("out\n", bytes, len);
        exec_output_free(output);
        CHECK(kill(child, SIGTERM) == 0);
        CHECK_RETURNS(FRAME_ECLOSED, frame_connection_recv(c, LONG_MS, &none));
        frame_connection_free(c);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void in_a_child_of_fork_it_is_refused(void)
{
    struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
    char address[64];
    int fd = listener(address), status;
    struct frame_server *s;
    pthread_t thread;
    pid_t child;
    opts.workers = 1;
    s = server_with(&opts);
    CHECK_RETURNS(0, frame_server_listen(s, fd));
    thread = start(s);
    if ((child = fork()) == 0) {
        bool ok = frame_server_run(s) == FRAME_EFORKED && frame_server_step(s, 0) == FRAME_EFORKED;
        frame_server_free(s);
        if (ok) /* what only the parent's threads knew is no leak: another program ends here */
            execl("/bin/true", "true", NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    {
        struct frame_connection *c = client(address);
        ask(c, "{\"cmd\":\"upper\"}", "parent", "PARENT");
        frame_connection_free(c);
    }
    stop(s, thread);
    close(fd);
}

/* ---- replies that come later */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t filled;
    struct frame_connection *c;
    char header[64];
} kept = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, "" };

static int keep(void *context, struct frame_connection *c, const struct frame_view *request)
{
    if (context != NULL) { /* done at once, or failed */
        if (request->body_len == 0)
            return FRAME_EACCES;
        CHECK_RETURNS(0, frame_server_done(c, FRAME_EREMOTE_BUSY, "later, please"));
        CHECK_RETURNS(FRAME_ESTATE, frame_server_done(c, 0, NULL));
        CHECK_RETURNS(FRAME_ESTATE, frame_connection_send(c, NULL, "x", 1, 0));
        CHECK_RETURNS(0, frame_connection_abort(c)); /* which is the server's business now */
        frame_connection_free(c);
        return 0;
    }
    CHECK(pthread_mutex_lock(&kept.mutex) == 0 && request->header_len < sizeof kept.header);
    memcpy(kept.header, request->header, request->header_len + 1);
    kept.c = c;
    CHECK(pthread_cond_signal(&kept.filled) == 0 && pthread_mutex_unlock(&kept.mutex) == 0);
    return 0;
}

static struct frame_connection *take_kept(void)
{
    struct frame_connection *c;
    CHECK(pthread_mutex_lock(&kept.mutex) == 0);
    while (kept.c == NULL)
        CHECK(pthread_cond_wait(&kept.filled, &kept.mutex) == 0);
    c = kept.c;
    kept.c = NULL;
    CHECK(pthread_mutex_unlock(&kept.mutex) == 0);
    return c;
}

static void a_handler_may_reply_later(void)
{
    uint32_t workers;
    for (workers = 0; workers <= 1; workers++) {
        struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
        struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
        struct frame_connection *c, *other, *late;
        struct frame *reply;
        char address[64];
        struct frame_server *s;
        pthread_t thread;
        int fd = listener(address);
        opts.workers = workers;
        s = server_with(&opts);
        CHECK_RETURNS(0, frame_server_handle(s, "keep", keep, NULL, FRAME_HANDLER_LATER));
        CHECK_RETURNS(0, frame_server_handle(s, "done", keep, s, FRAME_HANDLER_LATER));
        CHECK_RETURNS(0, frame_server_listen(s, fd));
        thread = start(s);
        c = client(address);
        other = client(address);
        CHECK_RETURNS(0, frame_connection_send(c, "{\"cmd\":\"keep\"}", NULL, 0, LONG_MS));
        CHECK_RETURNS(0, frame_connection_send(c, "{\"cmd\":\"keep\"}", NULL, 0, LONG_MS));
        late = take_kept();
        ask(other, "{\"cmd\":\"upper\"}", "meanwhile", "MEANWHILE");
        CHECK_RETURNS(0, frame_connection_inspect(late, &state));
        CHECK(state.read_fd >= 0 && state.broken == 0);
        CHECK_RETURNS(0, frame_connection_reply(late, kept.header, NULL, "late", 4, 0));
        CHECK_RETURNS(0, frame_server_done(late, 0, NULL));
        frame_connection_free(late);
        CHECK_RETURNS(0, frame_connection_recv(c, LONG_MS, &reply));
        CHECK_BODY("late", reply);
        frame_free(reply);
        frame_connection_free(take_kept()); /* without frame_server_done() */
        CHECK_RETURNS(0, frame_connection_recv(c, LONG_MS, &reply));
        CHECK(strstr(frame_header(reply, NULL), "\"status\":\"error\"") != NULL);
        frame_free(reply);
        CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_connection_call(c, "{\"cmd\":\"done\"}", NULL, 0,
                                                                  LONG_MS, &reply));
        CHECK_RETURNS(FRAME_EREMOTE_BUSY, frame_connection_call(c, "{\"cmd\":\"done\"}", "x", 1,
                                                                LONG_MS, &reply));
        CHECK(strstr(frame_last_error(), "later, please") != NULL);
        CHECK_RETURNS(FRAME_ESTATE, frame_server_done(c, 0, NULL));
        CHECK_RETURNS(FRAME_EINVAL, frame_server_done(NULL, 0, NULL));
        frame_connection_free(other);
        frame_connection_free(c);
        stop(s, thread);
        close(fd);
    }
}

/* ---- a handler that forks */

static bool child_returns;

/* With ThreadSanitizer of clang a thread of the library cannot end in a child of fork(2). */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ROUNDS 3
#endif
#endif
#ifndef ROUNDS
#define ROUNDS 4
#endif

/* What only the parent's threads knew is no leak: another program ends here. */
static void leave(void)
{
    execl("/bin/true", "true", NULL);
    _exit(1);
}

static int forks(void *context, struct frame_connection *c, const struct frame_view *request)
{
    (void)context;
    if (fork() == 0) {
        CHECK(atexit(leave) == 0);
        if (!child_returns)
            leave();
    }
    return frame_connection_reply(c, request->header, NULL, "one", 3, 0);
}

static void *run_until_forked(void *s)
{
    int code = frame_server_run(s);
    CHECK(code == 0 || code == FRAME_EFORKED);
    if (code == FRAME_EFORKED)
        leave();
    return NULL;
}

/* The child has the same epoll: what it leaves undone, the parent does. */
static void a_handler_may_fork(void)
{
    int round;
    for (round = 0; round < ROUNDS; round++) {
        struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
        struct frame_connection *c, *other;
        struct frame_server *s;
        struct frame *none;
        pthread_t thread;
        char address[64];
        int fd = listener(address), status;
        opts.workers = round & 1;
        child_returns = (round & 2) != 0;
        s = server_with(&opts);
        CHECK_RETURNS(0, frame_server_handle(s, "fork", forks, NULL, 0));
        CHECK_RETURNS(0, frame_server_listen(s, fd));
        CHECK(pthread_create(&thread, NULL, run_until_forked, s) == 0);
        c = client(address);
        other = client(address);
        ask(other, "{\"cmd\":\"upper\"}", "before", "BEFORE");
        ask(c, "{\"cmd\":\"fork\"}", "", "one");
        CHECK(wait(&status) > 0);
        CHECK_RETURNS(0, status);
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_recv(c, 0, &none));
        ask(c, "{\"cmd\":\"upper\"}", "after", "AFTER");
        ask(other, "{\"cmd\":\"upper\"}", "after", "AFTER");
        frame_connection_free(c);
        frame_connection_free(other);
        stop(s, thread);
        close(fd);
    }
}

/* ---- a host that wants its thread back */

static int asked;

static int interrupted(void *context)
{
    CHECK(context == &seven);
    return ++asked == 1 ? 1 : 0;
}

static void the_host_may_end_a_wait(void)
{
    struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
    struct frame_server *s;
    opts.interrupted = interrupted;
    opts.context = &seven;
    CHECK_RETURNS(0, frame_server_new(&opts, &s));
    CHECK_RETURNS(FRAME_ECANCELED, frame_server_run(s));
    CHECK_RETURNS(0, frame_server_step(s, 0));
    CHECK(asked == 1); /* without a wait it is not asked */
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_server_step(s, 1));
    CHECK(asked > 1);
    CHECK_RETURNS(0, frame_server_stop(s));
    CHECK_RETURNS(0, frame_server_run(s));
    frame_server_free(s);
}

static void what_is_wrong_is_refused(void)
{
    struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
    struct frame_server_counts counts = FRAME_SERVER_COUNTS_INIT;
    struct frame_server *s;
    int fd, ends[2];
    CHECK_RETURNS(FRAME_EINVAL, frame_server_new(&opts, NULL));
    opts.flags = 64;
    CHECK_RETURNS(FRAME_EINVAL, frame_server_new(&opts, &s));
    opts.flags = 0;
    opts.idle_ms = FRAME_NO_TIMEOUT;
    CHECK_RETURNS(FRAME_EINVAL, frame_server_new(&opts, &s));
    opts.idle_ms = 0;
    opts.log_level = 5;
    CHECK_RETURNS(FRAME_EINVAL, frame_server_new(&opts, &s));
    opts.log_level = 0;
    opts.flags = FRAME_SERVER_PLAIN;
    opts.server_name = "db";
    CHECK_RETURNS(FRAME_EINVAL, frame_server_new(&opts, &s));
    opts.size = 8; /* an older program */
    CHECK_RETURNS(0, frame_server_new(&opts, &s));
    CHECK((fd = frame_listen("0.0.0.0:0", 0, 0)) >= 0);
    CHECK_RETURNS(FRAME_EINVAL, frame_server_listen(s, fd));
    CHECK(strstr(frame_last_error(), "key ring") != NULL);
    {
        struct frame_server *open;
        opts.size = sizeof opts;
        opts.server_name = NULL;
        opts.flags = FRAME_SERVER_OPEN;
        CHECK_RETURNS(0, frame_server_new(&opts, &open));
        CHECK_RETURNS(0, frame_server_listen(open, fd));
        frame_server_free(open);
    }
    close(fd);
    CHECK_RETURNS(FRAME_EBADF, frame_server_listen(s, -1));
    CHECK_RETURNS(FRAME_EBADF, frame_server_add(s, 9999));
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    CHECK_RETURNS(FRAME_EINVAL, frame_server_add(s, ends[0]));
    CHECK(close(ends[0]) == 0);
    close(ends[1]);
    CHECK_RETURNS(FRAME_EINVAL, frame_server_handle(s, "x", NULL, NULL, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_server_handle(s, NULL, who, NULL, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_server_handle(s, "", who, NULL, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_server_handle(s, "x", who, NULL, 4));
    CHECK_RETURNS(FRAME_EINVAL, frame_server_counters(s, NULL));
    CHECK_RETURNS(0, frame_server_counters(s, &counts));
    CHECK(counts.connections == 0);
    CHECK_RETURNS(FRAME_EINVAL, frame_server_stop(NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_server_run(NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_server_poll_fd(NULL));
    frame_server_free(NULL);
    frame_server_free(s);
}

/* What a command leaves behind is reaped, and no status of a command is taken. */
static void as_a_subreaper_it_reaps_what_it_inherits(void)
{
    struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;
    struct frame_connection *c;
    struct frame_server *s;
    char address[64];
    pthread_t thread;
    siginfo_t info;
    int fd = listener(address), i;
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    opts.flags = FRAME_SERVER_REAP;
    opts.workers = 1;
    s = server_with(&opts);
    CHECK_RETURNS(0, frame_server_serve_exec(s, NULL));
    CHECK_RETURNS(0, frame_server_listen(s, fd));
    thread = start(s);
    c = client(address);
    what.command = "(sleep 0.01; exit 5) >/dev/null 2>&1 & exit 3";
    for (i = 0; i < 3; i++) {
        CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG_MS, &result, &output));
        CHECK(result.exit_code == 3);
        exec_output_free(output);
    }
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
        usleep(1000);
    CHECK(errno == ECHILD);
    frame_connection_free(c);
    stop(s, thread);
    close(fd);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0);
}

static double cpu_seconds(void)
{
    struct timespec used;
    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* The host may close one at any time; the others go on. */
static void a_listening_socket_that_the_host_closes_is_forgotten(void)
{
    char gone[64], address[64];
    int closed = listener(gone), fd = listener(address);
    struct frame_connection *c;
    struct frame_server *s;
    pthread_t thread;
    double before;
    s = server_with(NULL);
    CHECK_RETURNS(0, frame_server_listen(s, closed));
    CHECK_RETURNS(0, frame_server_listen(s, fd));
    thread = start(s);
    c = client(gone);
    ask(c, "{\"cmd\":\"upper\"}", "before", "BEFORE");
    frame_connection_free(c);
    CHECK(close(closed) == 0);
    before = cpu_seconds();
    c = client(address);
    ask(c, "{\"cmd\":\"upper\"}", "after", "AFTER");
    usleep(300000);
    CHECK(cpu_seconds() - before < 0.2);
    frame_connection_free(c);
    stop(s, thread);
    close(fd);
}

static int keeps_alive(void *context, struct frame_connection *c, const struct frame_view *request)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    int is_on = 0, idle = 0, between = 0, count = 0;
    socklen_t len = sizeof(int);
    (void)context;
    (void)request;
    CHECK_RETURNS(0, frame_connection_inspect(c, &state));
    CHECK(getsockopt(state.read_fd, SOL_SOCKET, SO_KEEPALIVE, &is_on, &len) == 0);
    CHECK(getsockopt(state.read_fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &len) == 0);
    CHECK(getsockopt(state.read_fd, IPPROTO_TCP, TCP_KEEPINTVL, &between, &len) == 0);
    CHECK(getsockopt(state.read_fd, IPPROTO_TCP, TCP_KEEPCNT, &count, &len) == 0);
    CHECK(is_on && idle + count * between <= 90);
    return 0;
}

/* TCP asks whether a client is still there whose machine was switched off. */
static void a_client_whose_machine_is_gone_is_noticed(void)
{
    char address[64];
    int fd = listener(address);
    struct frame_server *s = server_with(NULL);
    struct frame_connection *c;
    pthread_t thread;
    CHECK_RETURNS(0, frame_server_handle(s, "alive", keeps_alive, NULL, 0));
    CHECK_RETURNS(0, frame_server_listen(s, fd));
    thread = start(s);
    c = client(address);
    ask(c, "{\"cmd\":\"alive\"}", "", "");
    frame_connection_free(c);
    stop(s, thread);
    close(fd);
}

int main(void)
{
    what_is_wrong_is_refused();
    requests_go_to_their_handlers();
    keys_are_asked_for_sealed_or_plain();
    a_foreign_loop_serves_it();
    an_odd_host_can_have_it();
    in_a_child_of_fork_it_is_refused();
    a_handler_may_reply_later();
    a_handler_may_fork();
    the_host_may_end_a_wait();
    as_a_subreaper_it_reaps_what_it_inherits();
    a_listening_socket_that_the_host_closes_is_forgotten();
    a_client_whose_machine_is_gone_is_noticed();
    return 0;
}
