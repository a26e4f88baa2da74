/* The handshake and its keys, as C programs use them. */
#include "check.h"

#include <sys/stat.h>

static const char KEY[] = "thirty-two bytes of a shared key";
static const char OTHER[] = "thirty-two bytes of another key.";

enum { KEY_LEN = sizeof KEY - 1 };

/* A child that proves to fd that it holds a key, and then sends a command. */
static pid_t prove(int fd, const void *key, size_t len)
{
    pid_t child = fork();
    if (child == 0) {
        struct auth_options opts = AUTH_OPTIONS_INIT;
        opts.flags = AUTH_SHORT_KEY;
        CHECK_RETURNS(0, auth_client(fd, key, len, &opts));
        write_all(fd, "command", 7);
        exit(0);
    }
    return child;
}

static void the_right_key_opens_and_a_wrong_one_does_not(void)
{
    char command[7];
    int wrong;
    for (wrong = 0; wrong < 2; wrong++) {
        int fd[2];
        pid_t child;
        socket_pair(fd);
        child = prove(fd[0], wrong ? OTHER : KEY, KEY_LEN);
        CHECK_RETURNS(wrong ? FRAME_EAUTH : 0, auth_server(fd[1], KEY, KEY_LEN, NULL));
        wait_for(child);
        CHECK(unread(fd[1]) == 7); /* what follows is not read in either case */
        read_all(fd[1], command, 7);
        CHECK(memcmp(command, "command", 7) == 0);
        close_both(fd);
    }
}

/* A connection over one of two descriptors, which stay the caller's. */
static void any_of_several_keys_is_named(void)
{
    static const char *const ids[] = {"first", "second", NULL};
    static const char *const texts[] = {"the first of all the keys", "the second of the keys",
                                        "and the third key of them", "one that is not there"};
    struct auth_options opts = AUTH_OPTIONS_INIT;
    struct auth_result who = AUTH_RESULT_INIT;
    struct auth_keyring *ring;
    size_t i;
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    for (i = 0; i < 3; i++)
        CHECK_RETURNS(0, auth_keyring_add(ring, ids[i], texts[i], strlen(texts[i]), 0));
    CHECK_RETURNS(FRAME_EEXIST, auth_keyring_add(ring, "first", texts[3], strlen(texts[3]), 0));
    CHECK_RETURNS(FRAME_EKEY, auth_keyring_add(ring, "other", texts[0], strlen(texts[0]), 0));
    CHECK_RETURNS(FRAME_EKEY, auth_keyring_add(ring, "a/b", texts[3], strlen(texts[3]), 0));
    opts.flags = AUTH_PLAIN;
    for (i = 0; i < 4; i++) {
        struct frame_connection *c;
        struct frame *frame;
        int fd[2];
        pid_t child;
        socket_pair(fd);
        child = prove(fd[0], texts[i], strlen(texts[i]));
        c = connection_of(fd[1], fd[1], 0);
        memset(who.key_id, '#', sizeof who.key_id);
        if (i < 3) {
            CHECK_RETURNS(0, frame_connection_auth_server(c, ring, &opts, i ? &who : NULL));
            CHECK(i == 0 || strcmp(who.key_id, ids[i] ? ids[i] : "") == 0);
        } else {
            CHECK_RETURNS(FRAME_EAUTH, frame_connection_auth_server(c, ring, &opts, &who));
            CHECK(who.key_id[0] == '#');
            CHECK_RETURNS(FRAME_EBROKEN, frame_connection_recv(c, 0, &frame));
        }
        wait_for(child);
        frame_connection_free(c);
        close_both(fd);
    }
    auth_keyring_free(ring);
}

/* Without a wait, one call after the other; what comes right behind the answer is not lost. */
static void a_handshake_on_a_connection_can_be_resumed(void)
{
    struct auth_options opts = AUTH_OPTIONS_INIT, bad;
    struct auth_result who = AUTH_RESULT_INIT;
    struct frame_connection *client, *server;
    struct auth_keyring *ring;
    struct frame *frame;
    int fd[2], i;
    socket_pair(fd);
    client = connection_of(fd[0], fd[0], 0);
    server = connection_of(fd[1], fd[1], 0);
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    CHECK_RETURNS(0, auth_keyring_add(ring, "id", KEY, KEY_LEN, 0));

    /* What is refused changes nothing. */
    opts.flags = AUTH_PLAIN;
    bad = opts;
    bad.write_fd = fd[0];
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_client(client, KEY, KEY_LEN, &bad));
    bad = opts;
    bad.flags |= AUTH_GROUP_READABLE;
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_client(client, KEY, KEY_LEN, &bad));
    CHECK_RETURNS(FRAME_EKEY, frame_connection_auth_client(client, KEY, 15, &opts));
    CHECK_RETURNS(FRAME_EINVAL, frame_connection_auth_server(server, NULL, &opts, &who));
    CHECK(unread(fd[0]) == 0 && unread(fd[1]) == 0);

    opts.timeout_ms = FRAME_DONT_WAIT;
    for (i = 0; i < 3; i++)
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_auth_client(client, KEY, KEY_LEN, &opts));
    for (i = 0; i < 3; i++)
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_auth_server(server, ring, &opts, &who));
    CHECK(unread(fd[0]) == 32);
    CHECK_RETURNS(0, frame_connection_auth_client(client, KEY, KEY_LEN, &opts));
    CHECK_RETURNS(0, frame_connection_send(client, NULL, "hello", 5, 0));
    CHECK_RETURNS(0, frame_connection_auth_server(server, ring, &opts, &who));
    CHECK(strcmp(who.key_id, "id") == 0);
    CHECK_RETURNS(0, frame_connection_recv(server, 0, &frame));
    CHECK_BODY("hello", frame);
    frame_free(frame);

    /* With a wait it is over. */
    opts.timeout_ms = 10;
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_auth_server(server, ring, &opts, NULL));
    CHECK_RETURNS(FRAME_EBROKEN, frame_connection_auth_server(server, ring, &opts, NULL));
    auth_keyring_free(ring);
    frame_connection_free(client);
    frame_connection_free(server);
    close_both(fd);
}

static void lengths_of_keys_are_checked(void)
{
    static const struct {
        size_t len;
        uint32_t flags;
        int code;
    } keys[] = {
        {0, 0, FRAME_EKEY},
        {0, AUTH_SHORT_KEY, FRAME_EKEY},
        {1, 0, FRAME_EKEY},
        {1, AUTH_SHORT_KEY, 0},
        {15, 0, FRAME_EKEY},
        {16, 0, 0},
        {64, 0, 0},
        {65, 0, 0},
        {1024, 0, 0},
        {1025, 0, FRAME_EKEY},
        {1025, AUTH_SHORT_KEY, FRAME_EKEY},
        {16, 8, FRAME_EINVAL},
    };
    static const char bytes[1025];
    size_t i;
    for (i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct auth_options opts = AUTH_OPTIONS_INIT;
        struct auth_keyring *ring;
        int fd[2];
        CHECK_RETURNS(0, auth_keyring_new(&ring));
        CHECK_RETURNS(keys[i].code,
                      auth_keyring_add(ring, "id", bytes, keys[i].len, keys[i].flags));
        auth_keyring_free(ring);

        /* A key that cannot be used is no open door. */
        socket_pair(fd);
        CHECK(shutdown(fd[0], SHUT_WR) == 0);
        opts.flags = keys[i].flags;
        CHECK_RETURNS(keys[i].code ? keys[i].code : FRAME_ECLOSED,
                      auth_server(fd[1], bytes, keys[i].len, &opts));
        CHECK(unread(fd[0]) == (keys[i].code ? 0 : 32));
        close_both(fd);
    }
}

/* The challenge that a server sends now. */
static void challenge(unsigned char out[32])
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    int fd[2];
    socket_pair(fd);
    opts.timeout_ms = FRAME_DONT_WAIT;
    CHECK_RETURNS(FRAME_ETIMEDOUT, auth_server(fd[1], KEY, KEY_LEN, &opts));
    CHECK(unread(fd[0]) == 32);
    read_all(fd[0], out, 32);
    close_both(fd);
}

static void a_fork_does_not_repeat_challenges(void)
{
    unsigned char mine[32], childs[32], before[32];
    pid_t child;
    int fd[2];
    challenge(before);
    socket_pair(fd);
    child = fork();
    if (child == 0) {
        challenge(childs);
        write_all(fd[0], childs, 32);
        exit(0);
    }
    challenge(mine);
    read_all(fd[1], childs, 32);
    wait_for(child);
    CHECK(memcmp(mine, childs, 32) != 0 && memcmp(mine, before, 32) != 0);
    CHECK(memcmp(before, childs, 32) != 0);
    close_both(fd);
}

static void a_silent_peer_is_not_waited_for(void)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    int64_t start = milliseconds();
    int fd[2];
    opts.timeout_ms = 50;
    socket_pair(fd);
    CHECK_RETURNS(FRAME_ETIMEDOUT, auth_server(fd[1], KEY, KEY_LEN, &opts));
    CHECK_RETURNS(0, auth_client(fd[0], KEY, KEY_LEN, &opts));
    CHECK_RETURNS(FRAME_ETIMEDOUT, auth_client(fd[0], KEY, KEY_LEN, &opts));
    write_all(fd[1], "half a challenge", 16);
    CHECK_RETURNS(FRAME_ESTALLED, auth_client(fd[0], KEY, KEY_LEN, &opts));
    write_all(fd[1], "half a challenge", 16);
    CHECK(shutdown(fd[1], SHUT_WR) == 0);
    CHECK_RETURNS(FRAME_ETRUNCATED, auth_client(fd[0], KEY, KEY_LEN, &opts));
    CHECK_RETURNS(FRAME_ECLOSED, auth_client(fd[0], KEY, KEY_LEN, &opts));
    CHECK(milliseconds() - start >= 150 && milliseconds() - start < 10000);
    close_both(fd);
}

static void two_pipes_are_a_connection(void)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    int to_server[2], to_client[2];
    pid_t child;
    CHECK(pipe(to_server) == 0 && pipe(to_client) == 0);
    child = fork();
    if (child == 0) {
        opts.write_fd = to_server[1];
        CHECK_RETURNS(0, auth_client(to_client[0], KEY, KEY_LEN, &opts));
        exit(0);
    }
    opts.write_fd = to_client[1];
    CHECK_RETURNS(0, auth_server(to_server[0], KEY, KEY_LEN, &opts));
    wait_for(child);
    close_both(to_server);
    close_both(to_client);
}

static char directory[] = "/tmp/framefd-auth-XXXXXX";

/* A path in the directory of this run; four can be in use at once. */
static const char *in_directory(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    CHECK(snprintf(path, 256, "%s/%s", directory, name) < 256);
    return path;
}

static const char *file(const char *name, const char *content, size_t len, mode_t mode)
{
    const char *path = in_directory(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    write_all(fd, content, len);
    CHECK(fchmod(fd, mode) == 0 && close(fd) == 0);
    return path;
}

static void load_returns(int code, const char *path, uint32_t flags)
{
    char key[1024];
    int len = auth_key_load(path, flags, key, sizeof key);
    CHECK_RETURNS(code, len > 0 ? 0 : len);
    CHECK(code == 0 || strstr(frame_last_error(), path) != NULL);
}

static void a_ring_is_loaded_whole_or_not_at_all(void)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    struct auth_result who = AUTH_RESULT_INIT;
    struct frame_connection *client, *server;
    struct auth_keyring *ring;
    int fd[2];
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    CHECK_RETURNS(FRAME_EKEY, auth_keyring_load(ring, directory, 0)); /* it has bad ones */
    CHECK_RETURNS(FRAME_ENOENT, auth_keyring_load(ring, in_directory("none"), 0));
    CHECK_RETURNS(0, auth_keyring_load(ring, in_directory("good"), 0));
    socket_pair(fd);
    client = connection_of(fd[0], fd[0], 0);
    server = connection_of(fd[1], fd[1], 0);
    opts.flags = AUTH_PLAIN;
    opts.timeout_ms = FRAME_DONT_WAIT;
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_auth_server(server, ring, &opts, &who));
    CHECK_RETURNS(0, frame_connection_auth_client(client, KEY, KEY_LEN, &opts));
    CHECK_RETURNS(FRAME_ENOENT, auth_keyring_load(ring, in_directory("none"), 0));
    CHECK_RETURNS(0, frame_connection_auth_server(server, ring, &opts, &who));
    CHECK(who.key_id[0] == '\0');
    frame_connection_free(client);
    frame_connection_free(server);
    auth_keyring_free(ring);
    auth_keyring_free(NULL);
    close_both(fd);
}

static void key_files_are_checked(void)
{
    char key[1024];
    const char *path;
    pid_t child;
    CHECK(mkdtemp(directory) != NULL);

    path = file("good", KEY, KEY_LEN, 0600);
    CHECK_RETURNS(KEY_LEN, auth_key_load(path, 0, key, sizeof key));
    CHECK(memcmp(key, KEY, KEY_LEN) == 0);
    CHECK_RETURNS(KEY_LEN, auth_key_load(path, 0, key, KEY_LEN));
    memset(key, '#', sizeof key);
    CHECK_RETURNS(FRAME_ETOOBIG, auth_key_load(path, 0, key, KEY_LEN - 1));
    CHECK(key[0] == '#');
    path = file("newline", "sixteen bytes ok\n", 17, 0400);
    CHECK_RETURNS(16, auth_key_load(path, 0, key, sizeof key));
    path = file("nul", "sixteen\0bytes ok", 16, 0600);
    CHECK_RETURNS(16, auth_key_load(path, 0, key, sizeof key));
    CHECK_RETURNS(FRAME_EINVAL, auth_key_load(path, AUTH_PLAIN, key, sizeof key));
    path = file("for-a-group", KEY, KEY_LEN, 0440);
    load_returns(FRAME_EKEY, path, 0);
    load_returns(0, path, AUTH_GROUP_READABLE);

    load_returns(FRAME_EKEY, file("others-read", KEY, KEY_LEN, 0604), 0);
    load_returns(FRAME_EKEY, file("group-reads", KEY, KEY_LEN, 0640), 0);
    load_returns(FRAME_EKEY, file("empty", "", 0, 0600), AUTH_SHORT_KEY);
    path = file("short", "fifteen bytes..", 15, 0600);
    load_returns(FRAME_EKEY, path, 0);
    load_returns(0, path, AUTH_SHORT_KEY);
    path = in_directory("link");
    CHECK(symlink(in_directory("good"), path) == 0);
    load_returns(FRAME_EKEY, path, 0);
    path = in_directory("fifo");
    CHECK(mkfifo(path, 0600) == 0);
    load_returns(FRAME_EKEY, path, 0);
    load_returns(FRAME_EKEY, directory, 0);
    load_returns(FRAME_ENOENT, in_directory("none"), 0);

    path = in_directory("new");
    CHECK_RETURNS(0, auth_key_generate(path));
    load_returns(0, path, 0);
    {
        struct stat stat_of_new;
        CHECK(stat(path, &stat_of_new) == 0);
        CHECK((stat_of_new.st_mode & 07777) == 0600 && stat_of_new.st_size == 32);
    }
    CHECK_RETURNS(FRAME_EEXIST, auth_key_generate(path));
    load_returns(0, path, 0);
    CHECK_RETURNS(FRAME_ENOENT, auth_key_generate(in_directory("none/new")));

    CHECK(chmod(directory, 0755) == 0);
    child = fork();
    if (child == 0) {
        if (geteuid() == 0)
            CHECK(setgid(65534) == 0 && setuid(65534) == 0);
        CHECK_RETURNS(geteuid() == 65534 ? FRAME_EACCES : 32,
                      auth_key_load(path, 0, key, sizeof key));
        CHECK_RETURNS(FRAME_EEXIST, auth_key_generate(path));
        if (geteuid() == 65534)
            CHECK_RETURNS(FRAME_EACCES, auth_key_generate(in_directory("another")));
        exit(0);
    }
    wait_for(child);
}

static void remove_files(void)
{
    static const char *const names[] = {"good",        "newline",     "nul",   "for-a-group",
                                        "others-read", "group-reads", "empty", "short",
                                        "link",        "fifo",        "new"};
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(unlink(in_directory(names[i])) == 0);
    CHECK(rmdir(directory) == 0);
}

int main(void)
{
    the_right_key_opens_and_a_wrong_one_does_not();
    any_of_several_keys_is_named();
    a_handshake_on_a_connection_can_be_resumed();
    lengths_of_keys_are_checked();
    a_fork_does_not_repeat_challenges();
    a_silent_peer_is_not_waited_for();
    two_pipes_are_a_connection();
    key_files_are_checked();
    a_ring_is_loaded_whole_or_not_at_all();
    remove_files();
    return 0;
}
