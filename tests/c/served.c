/* What a server tells its host about each request. */
#include "serving.h"

static int seven = 7;

static struct frame_server *server_with(const struct frame_server_options *opts)
{
    struct frame_server *s;
    CHECK_RETURNS(0, frame_server_new(opts, &s));
    CHECK_RETURNS(0, frame_server_handle(s, "upper", upper, NULL, 0));
    CHECK_RETURNS(0, frame_server_handle(s, "fail", fail, NULL, 0));
    return s;
}

/* What was told about the last request, and how many there were. */
static struct {
    pthread_mutex_t lock;
    unsigned count;
    struct frame_served last;
    char key[64], address[64], cmd[16], what[64], argv[64];
} told = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from == NULL ? "NULL" : from);
}

static void note(void *context, const struct frame_served *request)
{
    size_t i;
    CHECK(context == &seven && request->size >= sizeof *request && request->header[0] == '{');
    pthread_mutex_lock(&told.lock);
    told.last = *request;
    copy(told.key, sizeof told.key, request->key_id);
    copy(told.address, sizeof told.address, request->address);
    copy(told.cmd, sizeof told.cmd, request->cmd);
    copy(told.what, sizeof told.what, request->what);
    CHECK(request->what == NULL || strlen(request->what) == request->what_len);
    told.argv[0] = '\0';
    for (i = 0; request->argv != NULL && request->argv[i] != NULL; i++)
        strcat(strcat(told.argv, request->argv[i]), "|");
    told.count++;
    pthread_mutex_unlock(&told.lock);
}

/* The reply comes before the call. */
static void wait_for_told(unsigned count)
{
    bool is_over = false;
    while (!is_over) {
        pthread_mutex_lock(&told.lock);
        is_over = told.count >= count;
        pthread_mutex_unlock(&told.lock);
        usleep(1000);
    }
    CHECK(told.count == count);
}

static void each_request_is_told_when_it_is_over(void)
{
    struct frame_server_options opts = FRAME_SERVER_OPTIONS_INIT;
    struct frame_server_counts counts = FRAME_SERVER_COUNTS_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    const char *argv[] = {"sh", "-c", "kill -9 $$", NULL};
    struct exec_output *output;
    struct frame_connection *c;
    struct auth_options how = AUTH_OPTIONS_INIT;
    struct auth_keyring *ring;
    struct frame_server *s;
    struct frame *reply;
    char address[64], own[64];
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    pthread_t thread;
    int fd = listener(address), ends[2];
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    CHECK_RETURNS(0, auth_keyring_add(ring, "one", KEY, 32, 0));
    opts.ring = ring;
    opts.workers = 2;
    opts.served = note;
    opts.context = &seven;
    s = server_with(&opts);
    auth_keyring_free(ring);
    CHECK_RETURNS(0, frame_server_serve_exec(s, NULL));
    CHECK_RETURNS(0, frame_server_listen(s, fd));
    thread = start(s);
    c = client(address);
    CHECK_RETURNS(0, frame_connection_inspect(c, &state));
    CHECK(frame_address(state.read_fd, false, own, sizeof own) > 0);
    how.key_id = "one";
    CHECK_RETURNS(0, frame_connection_auth_client(c, KEY, 32, &how));
    ask(c, "{\"cmd\":\"upper\"}", "abc", "ABC");
    wait_for_told(1);
    CHECK(told.last.error == 0 && told.last.bytes_in == 3 && told.last.bytes_out > 20);
    CHECK(told.last.time_ms < LONG_MS && told.last.outcome == -1 && told.last.exit_code == -1);
    CHECK(told.last.pid == 0 && told.last.uid == UINT32_MAX && told.last.gid == UINT32_MAX);
    CHECK(strcmp(told.cmd, "upper") == 0 && strcmp(told.what, "NULL") == 0);
    CHECK(strcmp(told.key, "one") == 0 && strcmp(told.address, own) == 0);
    CHECK(frame_connection_call(c, "{\"cmd\":\"fail\",\"code\":-13}", NULL, 0, LONG_MS, &reply) < 0);
    wait_for_told(2);
    CHECK_RETURNS(-13, told.last.error);
    CHECK(frame_connection_call(c, "{\"n\":1}", NULL, 0, LONG_MS, &reply) < 0);
    wait_for_told(3);
    CHECK(told.last.error != 0 && strcmp(told.cmd, "NULL") == 0);
    what.command = "exit 7";
    CHECK_RETURNS(EXEC_EXITED, exec_call(c, &what, LONG_MS, NULL, &output));
    exec_output_free(output);
    wait_for_told(4);
    CHECK(told.last.outcome == EXEC_EXITED && told.last.exit_code == 7 && told.last.signal == 0);
    CHECK(strcmp(told.cmd, "exec") == 0 && strcmp(told.what, "exit 7") == 0);
    what.command = NULL;
    what.argv = argv;
    CHECK_RETURNS(EXEC_SIGNALED, exec_call(c, &what, LONG_MS, NULL, &output));
    exec_output_free(output);
    wait_for_told(5);
    CHECK(told.last.outcome == EXEC_SIGNALED && told.last.signal == 9);
    CHECK(told.last.what == NULL && strcmp(told.argv, "sh|-c|kill -9 $$|") == 0);
    CHECK_RETURNS(0, frame_server_counters(s, &counts));
    CHECK(counts.requests == 5 && counts.errors == 2 && counts.bytes_in > 100);
    /* A client that leaves its command. */
    what.argv = NULL;
    what.command = "sleep 1000";
    CHECK_RETURNS(0, exec_start(c, &what, LONG_MS));
    frame_connection_free(c);
    wait_for_told(6);
    CHECK_RETURNS(FRAME_ECLOSED, told.last.error);
    stop(s, thread);
    close(fd);
    /* At a Unix socket the process is known. */
    opts.ring = NULL;
    s = server_with(&opts);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    CHECK_RETURNS(0, frame_server_add(s, ends[0]));
    thread = start(s);
    CHECK_RETURNS(0, frame_connection_new(ends[1], ends[1], NULL, &c));
    ask(c, "{\"cmd\":\"upper\"}", "unix", "UNIX");
    wait_for_told(7);
    CHECK(told.last.pid == getpid() && told.last.uid == geteuid() && told.last.gid == getegid());
    CHECK(told.last.key_id == NULL && strcmp(told.address, "unix:") == 0);
    frame_connection_free(c);
    close(ends[1]);
    stop(s, thread);
}

int main(void)
{
    each_request_is_told_when_it_is_over();
    return 0;
}
