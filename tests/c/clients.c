/* What a server knows of its clients, and what policies choose for each. */
#include "serving.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { USER = 64341, GROUP = 64342 };

static int seven = 7;
static int other_root = -1;
static const uint32_t groups[] = {64343, 64344};
static const char *const variables[] = {"WHOSE=two's", NULL};

static bool is(const struct exec_inquiry *inquiry, const char *command)
{
    return inquiry->command_len == strlen(command) &&
           memcmp(inquiry->command, command, strlen(command)) == 0;
}

/* "one" runs what it likes; "two" runs it elsewhere, and not for long. */
static int choose_command(void *context, const struct exec_inquiry *inquiry, char *reason,
                          size_t size)
{
    struct exec_choice *choice = inquiry->choice;
    CHECK(context == &seven && inquiry->size >= sizeof *inquiry && choice->size >= sizeof *choice);
    CHECK(strncmp(inquiry->address, "127.0.0.1:", 10) == 0 && inquiry->reserved == 0);
    CHECK(inquiry->pid == 0 && inquiry->uid == UINT32_MAX && inquiry->gid == UINT32_MAX);
    CHECK(choice->flags == EXEC_UMASK && choice->umask == 027 && choice->cwd == NULL);
    CHECK(choice->command_timeout_ms == 3600000 && choice->env == NULL && choice->groups == NULL);
    CHECK(choice->command == NULL);
    if (strcmp(inquiry->key_id, "one") == 0)
        return 0;
    if (is(inquiry, "bad")) {
        choice->flags = EXEC_USER; /* without a user */
        return 0;
    }
    if (is(inquiry, "no")) {
        snprintf(reason, size, "not for %s", inquiry->key_id);
        return FRAME_EACCES;
    }
    if (is(inquiry, "this")) {
        choice->command = "echo that";
        return 0;
    }
    choice->command_timeout_ms = 300;
    choice->cwd = "/usr";
    choice->env = variables;
    choice->umask = 077;
    if (geteuid() == 0) {
        choice->flags |= EXEC_USER;
        choice->uid = USER;
        choice->gid = GROUP;
        choice->groups = groups;
        choice->groups_len = 2;
    }
    return 0;
}

/* "one" stores what is new; "two" reads elsewhere. */
static int choose_file(void *context, const struct frame_file_inquiry *inquiry, char *reason,
                       size_t size)
{
    struct frame_file_choice *choice = inquiry->choice;
    (void)reason;
    CHECK(context == &seven && size > 0 && choice->size >= sizeof *choice);
    CHECK(strncmp(inquiry->address, "127.0.0.1:", 10) == 0 && inquiry->pid == 0);
    CHECK(choice->rights == (FRAME_SERVE_READ | FRAME_SERVE_WRITE) && choice->root_fd == -1);
    CHECK(choice->max_size == FRAME_NO_LIMIT && choice->mode == 0);
    if (strcmp(inquiry->key_id, "one") == 0) {
        choice->rights = FRAME_SERVE_CREATE;
        choice->mode = 0600;
        choice->max_size = 10;
    } else {
        choice->rights = FRAME_SERVE_READ;
        choice->root_fd = other_root;
    }
    return 0;
}

static const char *output_of(struct frame_connection *c, const char *command, char text[256])
{
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_output *output;
    const void *bytes;
    size_t len;
    what.command = command;
    CHECK(exec_call(c, &what, LONG_MS, NULL, &output) >= 0);
    bytes = exec_output_bytes(output, EXEC_STDOUT, &len);
    CHECK(len < 256);
    memcpy(text, bytes, len);
    text[len] = '\0';
    exec_output_free(output);
    return text;
}

static struct frame_connection *proven(const char *address, const char *id, char key)
{
    struct auth_options how = AUTH_OPTIONS_INIT;
    struct frame_connection *c = client(address);
    char bytes[32];
    memset(bytes, key, sizeof bytes);
    how.key_id = id;
    CHECK_RETURNS(0, frame_connection_auth_client(c, bytes, sizeof bytes, &how));
    return c;
}

static int put(struct frame_connection *c, const char *name, const char *content)
{
    struct frame_file_transfer what = FRAME_FILE_TRANSFER_INIT;
    char path[] = "/tmp/framefd-clients-XXXXXX";
    int fd = mkstemp(path), code;
    CHECK(fd >= 0 && write(fd, content, strlen(content)) == (ssize_t)strlen(content));
    what.name = name;
    what.path = path;
    code = frame_file_put(c, &what, LONG_MS, NULL);
    close(fd);
    CHECK(unlink(path) == 0);
    return code;
}

static void policies_choose_for_each_client(void)
{
    struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
    struct frame_file_options files = FRAME_FILE_OPTIONS_INIT;
    struct exec_options exec = EXEC_OPTIONS_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    char roots[2][32] = {"/tmp/framefd-clients-XXXXXX", "/tmp/framefd-clients-XXXXXX"};
    char address[64], key[32], text[256], path[64];
    struct frame_file_info there = FRAME_FILE_INFO_INIT;
    struct frame_connection *one, *two;
    struct exec_output *output;
    struct auth_keyring *ring;
    struct frame_server *s;
    struct stat stored;
    pthread_t thread;
    int fd = listener(address), root;
    CHECK(mkdtemp(roots[0]) != NULL && mkdtemp(roots[1]) != NULL);
    CHECK((root = open(roots[0], O_RDONLY | O_DIRECTORY)) >= 0);
    CHECK((other_root = open(roots[1], O_RDONLY | O_DIRECTORY)) >= 0);
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    memset(key, '1', sizeof key);
    CHECK_RETURNS(0, auth_keyring_add(ring, "one", key, sizeof key, 0));
    memset(key, '2', sizeof key);
    CHECK_RETURNS(0, auth_keyring_add(ring, "two", key, sizeof key, 0));
    opts.ring = ring;
    opts.workers = 2;
    CHECK_RETURNS(0, frame_server_new(&opts, &s));
    auth_keyring_free(ring);
    exec.policy = choose_command;
    files.policy = choose_file;
    exec.context = files.context = &seven;
    exec.flags = EXEC_UMASK;
    exec.umask = 027;
    CHECK_RETURNS(0, frame_server_serve_exec(s, &exec));
    CHECK_RETURNS(FRAME_EINVAL, frame_server_serve_files(s, root, 8, &files));
    CHECK_RETURNS(0, frame_server_serve_files(s, root, FRAME_SERVE_READ | FRAME_SERVE_WRITE, &files));
    CHECK_RETURNS(0, frame_server_listen(s, fd));
    close(root);
    thread = start(s);
    one = proven(address, "one", '1');
    two = proven(address, "two", '2');
    CHECK(strcmp(output_of(one, "umask; echo $WHOSE", text), "0027\n\n") == 0);
    CHECK(strcmp(output_of(two, "umask; echo $WHOSE; pwd", text), "0077\ntwo's\n/usr\n") == 0);
    if (geteuid() == 0) {
        CHECK(strcmp(output_of(one, "id -u", text), "0\n") == 0);
        CHECK(strcmp(output_of(two, "id -u; id -G", text), "64341\n64342 64343 64344\n") == 0);
    }
    CHECK(strcmp(output_of(two, "this", text), "that\n") == 0);
    what.command = "sleep 1000";
    CHECK_RETURNS(EXEC_TIMED_OUT, exec_call(two, &what, LONG_MS, NULL, &output));
    exec_output_free(output);
    what.command = "no";
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, exec_call(two, &what, LONG_MS, NULL, &output));
    what.command = "bad";
    CHECK_RETURNS(FRAME_EREMOTE_BAD_REQUEST, exec_call(two, &what, LONG_MS, NULL, &output));

    CHECK_RETURNS(0, put(one, "new", "content"));
    snprintf(path, sizeof path, "%s/new", roots[0]);
    CHECK(stat(path, &stored) == 0 && (stored.st_mode & 0777) == 0600 && stored.st_size == 7);
    CHECK_RETURNS(FRAME_EREMOTE_EXISTS, put(one, "new", "again"));
    CHECK_RETURNS(FRAME_EREMOTE_TOO_BIG, put(one, "long", "longer than that"));
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_stat(one, "new", 0, LONG_MS, &there));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_stat(two, "new", 0, LONG_MS, &there));
    CHECK_RETURNS(0, frame_file_stat(two, "", 0, LONG_MS, &there));
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, put(two, "new", "content"));
    frame_connection_free(one);
    frame_connection_free(two);
    stop(s, thread);
    close(fd);
    close(other_root);
    CHECK(unlink(path) == 0 && rmdir(roots[0]) == 0 && rmdir(roots[1]) == 0);
}

static int tell(void *context, struct frame_connection *c, const struct frame_view *request)
{
    struct frame_credentials who = FRAME_CREDENTIALS_INIT;
    char text[64];
    (void)context;
    CHECK_RETURNS(0, frame_connection_credentials(c, &who));
    snprintf(text, sizeof text, "%d %u %u", who.pid, who.uid, who.gid);
    return frame_connection_reply(c, request->header, NULL, text, strlen(text), 0);
}

static void users_at_a_unix_socket_are_known(void)
{
    uint32_t users[2], wrong;
    users[0] = 1;
    users[1] = geteuid();
    for (wrong = 0; wrong < 2; wrong++) {
        struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
        struct frame_server_counts counts = FRAME_SERVER_COUNTS_INIT;
        struct frame_credentials who = FRAME_CREDENTIALS_INIT;
        char address[64], expected[64];
        struct frame_connection *c;
        struct frame_server *s;
        struct frame *reply;
        pthread_t thread;
        int fd, ends[2];
        snprintf(address, sizeof address, "unix:@framefd-clients-%d", getpid());
        CHECK((fd = frame_listen(address, 0, 0)) >= 0);
        users[1] += wrong;
        opts.users = users;
        opts.users_len = 2;
        CHECK_RETURNS(0, frame_server_new(&opts, &s));
        memset(users, 0xff, sizeof users); /* they were copied */
        CHECK_RETURNS(0, frame_server_handle(s, "who", tell, NULL, 0));
        CHECK_RETURNS(0, frame_server_listen(s, fd));
        thread = start(s);
        c = client(address);
        CHECK_RETURNS(0, frame_connection_credentials(c, &who));
        CHECK(who.pid == getpid() && who.uid == geteuid() && who.gid == getegid());
        snprintf(expected, sizeof expected, "%d %u %u", getpid(), geteuid(), getegid());
        if (!wrong)
            ask(c, "{\"cmd\":\"who\"}", "", expected);
        else
            CHECK_RETURNS(FRAME_EREMOTE_DENIED,
                          frame_connection_call(c, "{\"cmd\":\"who\"}", NULL, 0, LONG_MS, &reply));
        CHECK_RETURNS(0, frame_server_counters(s, &counts));
        CHECK(counts.refused_auth == wrong);
        frame_connection_free(c);
        stop(s, thread);
        close(fd);
        users[0] = 1;
        users[1] = geteuid();
        CHECK(pipe(ends) == 0);
        CHECK_RETURNS(0, frame_connection_new(ends[0], -1, NULL, &c));
        CHECK_RETURNS(FRAME_ENOTSUP, frame_connection_credentials(c, &who));
        CHECK_RETURNS(FRAME_EINVAL, frame_connection_credentials(c, NULL));
        frame_connection_free(c);
        close(ends[0]);
        close(ends[1]);
    }
}

int main(void)
{
    users_at_a_unix_socket_are_known();
    policies_choose_for_each_client();
    return 0;
}
