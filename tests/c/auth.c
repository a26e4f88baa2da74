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

static void any_of_several_keys_is_named(void)
{
    static const char *const texts[] = {"the first of all the keys", "the second of the keys",
                                        "and the third key of them", "one that is not there"};
    struct auth_key *keys[3];
    size_t i, matched = 99, len;
    for (i = 0; i < 3; i++) {
        CHECK_RETURNS(0, auth_key_new(texts[i], strlen(texts[i]), 0, &keys[i]));
        CHECK(memcmp(auth_key_bytes(keys[i], &len), texts[i], strlen(texts[i])) == 0);
        CHECK(len == strlen(texts[i]));
    }
    for (i = 0; i < 4; i++) {
        int fd[2];
        pid_t child;
        const struct auth_key *const *all = (const struct auth_key *const *)keys;
        socket_pair(fd);
        child = prove(fd[0], texts[i], strlen(texts[i]));
        if (i < 3) {
            CHECK_RETURNS(0, auth_server_keys(fd[1], all, 3, i == 1 ? NULL : &matched, NULL));
            CHECK(i == 1 || matched == i);
        } else {
            CHECK_RETURNS(FRAME_EAUTH, auth_server_keys(fd[1], all, 3, &matched, NULL));
            CHECK(matched == 2);
        }
        wait_for(child);
        close_both(fd);
    }
    for (i = 0; i < 3; i++)
        auth_key_free(keys[i]);
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
        {16, 2, FRAME_EINVAL},
    };
    static const char bytes[1025];
    size_t i;
    for (i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct auth_key *key = (struct auth_key *)keys;
        struct auth_options opts = AUTH_OPTIONS_INIT;
        int fd[2];
        CHECK_RETURNS(keys[i].code, auth_key_new(bytes, keys[i].len, keys[i].flags, &key));
        CHECK((key == NULL) == (keys[i].code != 0));
        auth_key_free(key);

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
    struct auth_key *key = (struct auth_key *)directory;
    CHECK_RETURNS(code, auth_key_load(path, flags, &key));
    CHECK((key == NULL) == (code != 0));
    CHECK(code == 0 || strstr(frame_last_error(), path) != NULL);
    auth_key_free(key);
}

static void key_files_are_checked(void)
{
    struct auth_key *key;
    const char *path;
    pid_t child;
    size_t len;
    CHECK(mkdtemp(directory) != NULL);

    CHECK_RETURNS(0, auth_key_load(file("good", KEY, KEY_LEN, 0600), 0, &key));
    CHECK(memcmp(auth_key_bytes(key, &len), KEY, KEY_LEN) == 0 && len == KEY_LEN);
    auth_key_free(key);
    CHECK_RETURNS(0, auth_key_load(file("newline", "sixteen bytes ok\n", 17, 0400), 0, &key));
    CHECK(auth_key_bytes(key, &len) != NULL && len == 16);
    auth_key_free(key);
    CHECK_RETURNS(0, auth_key_load(file("nul", "sixteen\0bytes ok", 16, 0600), 0, &key));
    CHECK(auth_key_bytes(key, &len) != NULL && len == 16);
    auth_key_free(key);

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
        CHECK_RETURNS(geteuid() == 65534 ? FRAME_EACCES : 0, auth_key_load(path, 0, &key));
        CHECK_RETURNS(FRAME_EEXIST, auth_key_generate(path));
        if (geteuid() == 65534)
            CHECK_RETURNS(FRAME_EACCES, auth_key_generate(in_directory("another")));
        exit(0);
    }
    wait_for(child);
}

static void remove_files(void)
{
    static const char *const names[] = {"good",  "newline", "nul",  "others-read", "group-reads",
                                        "empty", "short",   "link", "fifo",        "new"};
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(unlink(in_directory(names[i])) == 0);
    CHECK(rmdir(directory) == 0);
}

int main(void)
{
    the_right_key_opens_and_a_wrong_one_does_not();
    any_of_several_keys_is_named();
    lengths_of_keys_are_checked();
    a_fork_does_not_repeat_challenges();
    a_silent_peer_is_not_waited_for();
    two_pipes_are_a_connection();
    key_files_are_checked();
    remove_files();
    return 0;
}
