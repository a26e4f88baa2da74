/* Sealed connections, as C programs use them. */
#include "check.h"

#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static const char KEY[] = "thirty-two bytes of a shared key";
static const char OTHER[] = "thirty-two bytes of another key.";

enum { KEY_LEN = sizeof KEY - 1 };

static struct auth_options named(const char *key_id, const char *name, uint32_t flags)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    opts.key_id = key_id;
    opts.server_name = name;
    opts.flags = flags;
    return opts;
}

static struct auth_keyring *ring_of(const char *id, const char *key)
{
    struct auth_keyring *ring;
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    CHECK_RETURNS(0, auth_keyring_add(ring, id, key, strlen(key), 0));
    return ring;
}

/* Both ends of a connection: the client proves the key. */
struct ends {
    struct frame_connection *client, *server;
    int fd[2];
    struct auth_result who;
};

static struct ends unsealed(void)
{
    struct ends ends = {NULL, NULL, {-1, -1}, AUTH_RESULT_INIT};
    socket_pair(ends.fd);
    ends.client = connection_of(ends.fd[0], ends.fd[0], 0);
    ends.server = connection_of(ends.fd[1], ends.fd[1], 0);
    return ends;
}

/* Without a wait: each end takes its steps in turn. */
static void seal(struct ends *ends, struct auth_keyring *ring, uint32_t flags)
{
    struct auth_options ours = named("web-1", "db", flags), theirs = named(NULL, "db", 0);
    ours.timeout_ms = theirs.timeout_ms = FRAME_DONT_WAIT;
    CHECK_RETURNS(FRAME_ETIMEDOUT,
                  frame_connection_auth_client(ends->client, KEY, KEY_LEN, &ours));
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_send(ends->client, NULL, "clear", 5, 0));
    CHECK_RETURNS(FRAME_ETIMEDOUT,
                  frame_connection_auth_server(ends->server, ring, &theirs, &ends->who));
    CHECK_RETURNS(0, frame_connection_auth_client(ends->client, KEY, KEY_LEN, &ours));
    CHECK_RETURNS(0, frame_connection_auth_server(ends->server, ring, &theirs, &ends->who));
}

static void free_ends(struct ends *ends)
{
    frame_connection_free(ends->client);
    frame_connection_free(ends->server);
    close_both(ends->fd);
}

static void both_ends_are_proved_and_what_follows_is_sealed(void)
{
    static const uint32_t suites[][2] = {{0, 0}, {AUTH_CHACHA, AUTH_SUITE_CHACHAPOLY}};
    struct auth_keyring *ring = ring_of("web-1", KEY);
    size_t i;
    for (i = 0; i < 2; i++) {
        struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
        struct auth_result ours = AUTH_RESULT_INIT;
        struct ends ends = unsealed();
        struct frame *frame;
        char wire[256];
        ssize_t len;
        CHECK_RETURNS(FRAME_ESTATE, frame_connection_proof(ends.client, &ours));
        seal(&ends, ring, suites[i][0]);
        CHECK_RETURNS(0, frame_connection_proof(ends.client, &ours));
        CHECK(strcmp(ends.who.key_id, "web-1") == 0 && strcmp(ours.key_id, "web-1") == 0);
        CHECK(ours.suite == ends.who.suite && (i == 0 || ours.suite == suites[i][1]));
        CHECK(memcmp(ours.handshake_hash, ends.who.handshake_hash, 32) == 0);
        CHECK_RETURNS(0, frame_connection_inspect(ends.client, &state));
        CHECK(state.flags == FRAME_STATE_SEALED);

        CHECK_RETURNS(0, frame_connection_send(ends.client, "{\"a\":1}", "secret", 6, LONG));
        len = recv(ends.fd[1], wire, sizeof wire, MSG_PEEK);
        CHECK(len == 4 + 21 + 6 + 19 && memmem(wire, (size_t)len, "secret", 6) == NULL);
        CHECK_RETURNS(0, frame_connection_recv(ends.server, LONG, &frame));
        CHECK_BODY("secret", frame);
        frame_free(frame);

        /* Its end is proved as well. */
        CHECK_RETURNS(0, frame_connection_end(ends.client, false, LONG));
        CHECK_RETURNS(FRAME_ECLOSED, frame_connection_recv(ends.server, LONG, &frame));
        CHECK_RETURNS(0, frame_connection_send(ends.server, NULL, "last", 4, LONG));
        CHECK(shutdown(ends.fd[1], SHUT_WR) == 0);
        CHECK_RETURNS(0, frame_connection_recv(ends.client, LONG, &frame));
        CHECK_BODY("last", frame);
        frame_free(frame);
        CHECK_RETURNS(FRAME_ETRUNCATED, frame_connection_recv(ends.client, LONG, &frame));
        free_ends(&ends);
    }
    auth_keyring_free(ring);
}

static void what_does_not_apply_is_refused_and_changes_nothing(void)
{
    static const uint32_t flags[] = {AUTH_SHORT_KEY, AUTH_GROUP_READABLE, 32};
    struct auth_keyring *ring = ring_of("web-1", KEY), *brief = ring_of("a", "only sixteen.....");
    struct ends ends = unsealed();
    struct auth_options opts;
    const void *bytes;
    size_t i, len;
    for (i = 0; i < 3; i++) {
        opts = named(NULL, NULL, flags[i]);
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_client(ends.client, KEY, 32, &opts));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_server(ends.server, ring, &opts, NULL));
    }
    opts = named(NULL, NULL, AUTH_CHACHA);
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_server(ends.server, ring, &opts, NULL));
    opts = named("web-1", NULL, 0);
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_server(ends.server, ring, &opts, NULL));
    opts = named(NULL, "db", AUTH_PLAIN);
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_server(ends.server, ring, &opts, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_client(ends.client, KEY, 32, &opts));
    CHECK(strstr(frame_last_error(), "server_name") != NULL);
    CHECK_RETURNS(FRAME_EINVAL, auth_client(ends.fd[0], KEY, 32, &opts));
    opts = named("web-1", NULL, AUTH_PLAIN);
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_client(ends.client, KEY, 32, &opts));
    opts = named(".a", NULL, 0);
    CHECK_RETURNS(FRAME_EKEY, frame_connection_auth_client(ends.client, KEY, 32, &opts));
    opts = named(NULL, "a/b", 0);
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_client(ends.client, KEY, 32, &opts));
    CHECK_RETURNS(FRAME_EKEY, frame_connection_auth_client(ends.client, KEY, 31, NULL));
    CHECK_RETURNS(FRAME_EKEY, frame_connection_auth_server(ends.server, brief, NULL, NULL));
    CHECK(unread(ends.fd[0]) == 0 && unread(ends.fd[1]) == 0);
    seal(&ends, ring, 0);
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_unread(ends.client, &bytes, &len));
    CHECK_RETURNS(FRAME_ESTATE, frame_connection_auth_client(ends.client, KEY, 32, NULL));
    free_ends(&ends);
    auth_keyring_free(ring);
    auth_keyring_free(brief);
}

/* A server's end of a handshake in a child; it must end with this code. */
static pid_t serve(int fd, uint32_t flags, int end)
{
    pid_t child = fork();
    if (child == 0) {
        struct auth_options opts = named(NULL, "db", flags);
        struct auth_keyring *ring = ring_of("web-1", KEY);
        struct frame_connection *c = owner_of(fd);
        CHECK_RETURNS(end, frame_connection_auth_server(c, ring, &opts, NULL));
        frame_connection_free(c);
        auth_keyring_free(ring);
        exit(0);
    }
    CHECK(close(fd) == 0);
    return child;
}

static void who_does_not_match_is_refused(void)
{
    static const struct {
        const char *key, *id, *name;
        uint32_t flags;
    } wrong[] = {
        {OTHER, "web-1", "db", 0}, {KEY, "web-2", "db", 0}, {KEY, NULL, "db", 0},
        {KEY, "web-1", "web", 0},  {KEY, "web-1", NULL, 0}, {KEY, "web-1", "db", AUTH_CLIENT_SERVES},
    };
    size_t i;
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct auth_options opts = named(wrong[i].id, wrong[i].name, wrong[i].flags);
        struct frame_connection *c;
        struct frame *frame;
        pid_t child;
        int fd[2];
        socket_pair(fd);
        child = serve(fd[1], 0, FRAME_EAUTH);
        c = owner_of(fd[0]);
        CHECK_RETURNS(FRAME_ETRUNCATED, frame_connection_auth_client(c, wrong[i].key, 32, &opts));
        CHECK(strstr(frame_last_error(), "closed the connection") != NULL);
        CHECK_RETURNS(FRAME_EBROKEN, frame_connection_recv(c, 0, &frame));
        frame_connection_free(c);
        wait_for(child);
    }
}

static void a_plain_and_a_sealed_end_say_so(void)
{
    struct auth_options plain = named(NULL, NULL, AUTH_PLAIN), opts = named("web-1", "db", 0);
    struct auth_keyring *ring = ring_of("web-1", KEY);
    struct ends ends = unsealed();
    plain.timeout_ms = opts.timeout_ms = FRAME_DONT_WAIT;
    /* The server sends a challenge. */
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_auth_server(ends.server, ring, &plain, NULL));
    CHECK_RETURNS(FRAME_EAUTH, frame_connection_auth_client(ends.client, KEY, 32, &opts));
    CHECK(strstr(frame_last_error(), "sealed") != NULL);
    free_ends(&ends);
    /* The client sends a request. */
    ends = unsealed();
    opts.key_id = NULL;
    CHECK_RETURNS(0, frame_connection_send(ends.client, "{\"cmd\":\"hello\"}", NULL, 0, 0));
    CHECK_RETURNS(FRAME_EAUTH, frame_connection_auth_server(ends.server, ring, &opts, NULL));
    CHECK(strstr(frame_last_error(), "sealed") != NULL);
    free_ends(&ends);
    auth_keyring_free(ring);
}

/* What a policy was shown. */
static char seen[8];

static int exec_policy(void *context, const struct exec_inquiry *inquiry, char *reason, size_t size)
{
    (void)context, (void)reason, (void)size;
    snprintf(seen, sizeof seen, "%s", inquiry->key_id ? inquiry->key_id : "none");
    return FRAME_EACCES;
}

static int file_policy(void *context, const struct frame_file_inquiry *inquiry, char *reason,
                       size_t size)
{
    (void)context, (void)reason, (void)size;
    snprintf(seen, sizeof seen, "%s", inquiry->key_id ? inquiry->key_id : "none");
    return FRAME_EACCES;
}

/* A request that a policy refuses, on a connection that was sealed or not. */
static void ask(bool is_sealed, bool is_file, const char *expected)
{
    struct auth_keyring *ring = ring_of("web-1", KEY);
    struct frame_file_options file = FRAME_FILE_OPTIONS_INIT;
    struct exec_options exec = EXEC_OPTIONS_INIT;
    struct ends ends = unsealed();
    struct frame_view view;
    char request[128];
    if (is_sealed)
        seal(&ends, ring, 0);
    CHECK_RETURNS(0, frame_connection_send(ends.client,
                                           is_file ? "{\"cmd\":\"stat\",\"filename\":\"a\"}"
                                                   : "{\"cmd\":\"exec\"}",
                                           "true", is_file ? 0 : 4, LONG));
    CHECK_RETURNS(0, frame_connection_recv_header(ends.server, LONG, &view, NULL));
    snprintf(request, sizeof request, "%s", view.header);
    memset(seen, 0, sizeof seen);
    if (is_file) {
        int root = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
        file.policy = file_policy;
        CHECK_RETURNS(0, frame_file_serve(ends.server, request, root, &file, NULL));
        CHECK(close(root) == 0);
    } else {
        exec.policy = exec_policy;
        CHECK_RETURNS(EXEC_REFUSED, exec_serve(ends.server, request, &exec, NULL));
    }
    CHECK(strcmp(seen, expected) == 0);
    free_ends(&ends);
    auth_keyring_free(ring);
}

static void a_policy_sees_whose_key_it_is(void)
{
    ask(true, false, "web-1");
    ask(false, false, "none");
    ask(true, true, "web-1");
    ask(false, true, "none");
}

/* Ways to make a child. All but the first are none that the C library hears of. */
enum { FORK, CLONE, CLONE_AND_WAIT, CLONE3, WAYS };

static pid_t child_by(int way)
{
    /* struct clone_args of linux/sched.h, which a compiler for musl need not find: its exit_signal
     * is the fifth member. */
    uint64_t args[8] = {0, 0, 0, 0, SIGCHLD};
    if (way == FORK)
        return fork();
    if (way == CLONE3)
        return (pid_t)syscall(SYS_clone3, args, sizeof args);
    return (pid_t)syscall(SYS_clone, SIGCHLD | (way == CLONE ? 0 : CLONE_VFORK), 0, 0, 0, 0);
}

/* Else two processes would seal with one key and number. */
static void a_child_can_do_nothing(struct ends *ends, struct auth_keyring *ring)
{
    struct auth_options ours = named("web-1", "db", 0), theirs = named(NULL, "db", 0);
    struct auth_result who = AUTH_RESULT_INIT;
    size_t waiting[] = {unread(ends->fd[0]), unread(ends->fd[1])};
    struct frame *frame;
    int way, i;
    pid_t child;
    for (way = 0; way < WAYS; way++) {
        child = child_by(way);
        if (child == 0) {
            CHECK_RETURNS(FRAME_EFORKED,
                          frame_connection_auth_client(ends->client, KEY, KEY_LEN, &ours));
            CHECK_RETURNS(FRAME_EFORKED,
                          frame_connection_auth_server(ends->server, ring, &theirs, NULL));
            for (i = 0; i < 2; i++) {
                struct frame_connection *c = i ? ends->server : ends->client;
                CHECK_RETURNS(FRAME_EFORKED, frame_connection_send(c, NULL, "child", 5, 0));
                CHECK_RETURNS(FRAME_EFORKED, frame_connection_recv(c, 0, &frame));
                CHECK_RETURNS(FRAME_EFORKED, frame_connection_end(c, false, 0));
                CHECK_RETURNS(FRAME_EFORKED, frame_connection_proof(c, &who));
                frame_connection_free(c);
            }
            _exit(0);
        }
        if (child == -1 && way == CLONE3 && (errno == ENOSYS || errno == EPERM))
            continue; /* a container without it */
        wait_for(child);
        for (i = 0; i < 2; i++)
            CHECK(unread(ends->fd[i]) == waiting[i]);
    }
}

static void a_child_can_do_nothing_in_any_state_and_its_parent_goes_on(void)
{
    struct auth_options ours = named("web-1", "db", 0), theirs = named(NULL, "db", 0);
    struct auth_keyring *ring = ring_of("web-1", KEY);
    struct ends ends = unsealed();
    struct frame *frame;
    int i;
    ours.timeout_ms = theirs.timeout_ms = FRAME_DONT_WAIT;
    a_child_can_do_nothing(&ends, ring);
    CHECK_RETURNS(FRAME_ETIMEDOUT,
                  frame_connection_auth_client(ends.client, KEY, KEY_LEN, &ours));
    a_child_can_do_nothing(&ends, ring);
    CHECK_RETURNS(FRAME_ETIMEDOUT,
                  frame_connection_auth_server(ends.server, ring, &theirs, NULL));
    a_child_can_do_nothing(&ends, ring);
    CHECK_RETURNS(0, frame_connection_auth_client(ends.client, KEY, KEY_LEN, &ours));
    a_child_can_do_nothing(&ends, ring);
    CHECK_RETURNS(0, frame_connection_auth_server(ends.server, ring, &theirs, NULL));
    for (i = 0; i < 2; i++) {
        struct frame_connection *from = i ? ends.server : ends.client;
        CHECK_RETURNS(0, frame_connection_send(from, NULL, "before", 6, 0));
        a_child_can_do_nothing(&ends, ring);
        CHECK_RETURNS(0, frame_connection_send(from, NULL, "after", 5, 0));
        from = i ? ends.client : ends.server;
        CHECK_RETURNS(0, frame_connection_recv(from, LONG, &frame));
        CHECK_BODY("before", frame);
        frame_free(frame);
        a_child_can_do_nothing(&ends, ring);
        CHECK_RETURNS(0, frame_connection_recv(from, LONG, &frame));
        CHECK_BODY("after", frame);
        frame_free(frame);
    }
    free_ends(&ends);
    auth_keyring_free(ring);
}

static void a_key_that_is_removed_ends_its_connections(void)
{
    char directory[] = "/tmp/framefd-c-sealed-XXXXXX", first[64], second[64];
    struct auth_keyring *ring;
    struct frame *frame;
    struct ends ends;
    FILE *file;
    CHECK(mkdtemp(directory) != NULL);
    snprintf(first, sizeof first, "%s/web-1", directory);
    snprintf(second, sizeof second, "%s/web-2", directory);
    CHECK_RETURNS(0, auth_key_generate(second));
    CHECK((file = fopen(first, "w")) != NULL && chmod(first, 0600) == 0);
    CHECK(fputs(KEY, file) >= 0 && fclose(file) == 0);
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    CHECK_RETURNS(0, auth_keyring_load(ring, directory, 0));
    ends = unsealed();
    seal(&ends, ring, 0);
    CHECK_RETURNS(0, auth_keyring_load(ring, directory, 0));
    CHECK_RETURNS(0, frame_connection_send(ends.client, NULL, "stays", 5, LONG));
    CHECK_RETURNS(0, frame_connection_recv(ends.server, LONG, &frame));
    frame_free(frame);
    CHECK(unlink(first) == 0);
    CHECK_RETURNS(0, auth_keyring_load(ring, directory, 0));
    CHECK_RETURNS(FRAME_EABORTED, frame_connection_recv(ends.server, LONG, &frame));
    CHECK(strstr(frame_last_error(), "web-1") != NULL);
    CHECK_RETURNS(FRAME_ETRUNCATED, frame_connection_recv(ends.client, LONG, &frame));
    free_ends(&ends);
    auth_keyring_free(ring);
    CHECK(unlink(second) == 0 && rmdir(directory) == 0);
}

int main(void)
{
    both_ends_are_proved_and_what_follows_is_sealed();
    what_does_not_apply_is_refused_and_changes_nothing();
    who_does_not_match_is_refused();
    a_plain_and_a_sealed_end_say_so();
    a_policy_sees_whose_key_it_is();
    a_child_can_do_nothing_in_any_state_and_its_parent_goes_on();
    a_key_that_is_removed_ends_its_connections();
    return 0;
}
