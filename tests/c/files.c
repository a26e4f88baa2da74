/* Files put, got and served, as C programs use them. */
#include "check.h"

#include <sys/stat.h>

/* Of "content". */
#define DIGEST "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"

static char directory[] = "/tmp/framefd-files-XXXXXX";

static const char *at(const char *name)
{
    static char path[256];
    CHECK(snprintf(path, sizeof path, "%s/%s", directory, name) < (int)sizeof path);
    return path;
}

static void write_file(const char *name, const char *text)
{
    int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    write_all(fd, text, strlen(text));
    CHECK(close(fd) == 0);
}

static void check_file(const char *name, const char *expected)
{
    char text[256];
    ssize_t len;
    int fd = open(at(name), O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    len = read(fd, text, sizeof text);
    CHECK(len == (ssize_t)strlen(expected) && memcmp(text, expected, (size_t)len) == 0);
    CHECK(close(fd) == 0);
}

/* Serves until the client has closed; the process ends with 0 if that is how it ended. */
static void serve(int fd, const struct frame_file_options *opts, const int *expected)
{
    int root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct frame *request;
    int code;
    CHECK(root >= 0);
    while ((code = frame_recv_header(fd, &request, NULL)) == 0) {
        struct frame_file_result result = FRAME_FILE_RESULT_INIT;
        CHECK_RETURNS(0, frame_file_serve(fd, request, root, opts, &result));
        CHECK(expected == NULL || result.error == *expected++);
        frame_free(request);
    }
    CHECK_RETURNS(FRAME_ECLOSED, code);
    CHECK(close(root) == 0);
    exit(0);
}

/* A connection to a server in a child. */
static int start(pid_t *child, const struct frame_file_options *opts, const int *expected)
{
    int fd[2];
    socket_pair(fd);
    *child = fork();
    if (*child == 0) {
        CHECK(close(fd[0]) == 0);
        serve(fd[1], opts, expected);
    }
    CHECK(close(fd[1]) == 0);
    return fd[0];
}

static void finish(int fd, pid_t child)
{
    CHECK(close(fd) == 0);
    wait_for(child);
}

static void a_file_goes_there_and_back(void)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct stat stat_buf;
    pid_t child;
    int file[2], fd = start(&child, NULL, NULL);
    char text[16];

    CHECK(pipe(file) == 0);
    write_all(file[1], "content", 7);
    CHECK_RETURNS(FRAME_EINVAL, frame_file_put(fd, "a", file[0], NULL, NULL));
    opts.length = 7;
    opts.mode = 0640;
    CHECK_RETURNS(0, frame_file_put(fd, "a", file[0], &opts, &result));
    CHECK(result.error == 0 && result.bytes == 7 && strcmp(result.sha256, DIGEST) == 0);
    check_file("a", "content");
    CHECK(stat(at("a"), &stat_buf) == 0 && (stat_buf.st_mode & 07777) == 0640);

    CHECK_RETURNS(0, frame_file_get(fd, "a", file[1], NULL, &result));
    CHECK(result.bytes == 7 && strcmp(result.sha256, DIGEST) == 0);
    read_all(file[0], text, 7);
    CHECK(memcmp(text, "content", 7) == 0);
    close_both(file);

    CHECK_RETURNS(0, frame_file_get_path(fd, "a", at("b"), NULL, NULL));
    check_file("b", "content");
    CHECK_RETURNS(0, frame_file_put_path(fd, "caf\xe9", at("b"), NULL, NULL));
    check_file("caf\xe9", "content");
    finish(fd, child);
}

static void what_is_refused_leaves_the_connection_usable(void)
{
    static const int expected[] = {FRAME_EPATH, FRAME_ENOENT, FRAME_EEXIST, FRAME_ETOOBIG, 0};
    struct frame_file_options keep = FRAME_FILE_OPTIONS_INIT, small = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    pid_t child;
    int fd;
    write_file("old", "old");
    write_file("long", "longer");
    small.max_size = 5;
    fd = start(&child, &small, expected);

    result.bytes = 99;
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_put_path(fd, "../x", at("old"), NULL, &result));
    CHECK(result.bytes == 99 && strstr(frame_last_error(), "../x") != NULL);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_get_path(fd, "none", at("new"), NULL, NULL));
    CHECK(access(at("new"), F_OK) == -1);
    keep.flags = FRAME_FILE_NO_OVERWRITE | FRAME_FILE_NO_CHECKSUM | FRAME_FILE_NO_SYNC;
    CHECK_RETURNS(FRAME_EREMOTE_EXISTS, frame_file_put_path(fd, "old", at("old"), &keep, NULL));
    CHECK_RETURNS(FRAME_EREMOTE_TOO_BIG, frame_file_put_path(fd, "new", at("long"), NULL, NULL));
    CHECK_RETURNS(FRAME_EEXIST, frame_file_get_path(fd, "old", at("old"), &keep, NULL));
    CHECK_RETURNS(FRAME_EPATH, frame_file_put_path(fd, "x", "/dev/null", NULL, NULL));
    CHECK_RETURNS(FRAME_EPATH, frame_file_get_path(fd, "x", directory, NULL, NULL));
    CHECK_RETURNS(0, frame_file_get_path(fd, "old", at("new"), &keep, &result));
    CHECK(result.bytes == 3 && result.sha256[0] == '\0');
    check_file("new", "old");
    CHECK(unlink(at("new")) == 0);
    finish(fd, child);
}

static int count_calls(void *context, uint64_t done, uint64_t total)
{
    int *calls = context;
    CHECK(done <= total && total == 7);
    ++*calls;
    return *calls == 2;
}

static void progress_can_break_off(void)
{
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    int calls = 0, fd;
    pid_t child;
    write_file("seven", "content");
    opts.progress = count_calls;
    opts.context = &calls;
    opts.flags = FRAME_FILE_NO_CHECKSUM; /* nothing is on its way when the client breaks off */
    fd = start(&child, NULL, NULL);
    CHECK_RETURNS(0, frame_file_get_path(fd, "seven", at("copy"), &opts, NULL));
    CHECK_RETURNS(FRAME_ECANCELED, frame_file_get_path(fd, "seven", at("none"), &opts, NULL));
    CHECK(calls == 2 && access(at("none"), F_OK) == -1);
    finish(fd, child);
}

static void an_old_server_is_sent_what_it_knows(void)
{
    static const char header[] =
        "{\"data_size\":7,\"cmd\":\"put\",\"filename\":\"x\",\"filesize\":7}";
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame *frame;
    int fd[2];
    size_t len;
    socket_pair(fd);
    write_file("seven", "content");
    opts.flags = FRAME_FILE_NO_REPLY;
    CHECK_RETURNS(0, frame_file_put_path(fd[0], "x", at("seven"), &opts, &result));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK_BYTES(header, frame_header(frame, &len), strlen(frame_header(frame, NULL)));
    CHECK_BODY("content", frame);
    CHECK(unread(fd[1]) == 0);
    frame_free(frame);
    close_both(fd);
}

/* An uploader of the oldest kind, and what its server makes of it. */
static void an_old_uploader_is_gone_before_the_reply(void)
{
    static const char request[] =
        "\x2b\0\0\0{\"cmd\":\"put\",\"filename\":\"up\",\"filesize\":7} content";
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame *frame;
    int fd[2], root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(root >= 0);
    socket_pair(fd);
    write_all(fd[0], request, sizeof request - 1);
    CHECK(close(fd[0]) == 0);
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK_RETURNS(0, frame_file_serve(fd[1], frame, root, NULL, &result));
    CHECK(result.error == FRAME_ECLOSED && result.bytes == 7 && strcmp(result.sha256, DIGEST) == 0);
    check_file("up", "content");
    frame_free(frame);
    CHECK(close(fd[1]) == 0 && close(root) == 0);
}

static void bad_arguments_send_nothing(void)
{
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_result unset;
    struct frame *frame;
    int fd[2];
    memset(&unset, 0, sizeof unset);
    socket_pair(fd);
    CHECK_RETURNS(FRAME_EINVAL, frame_file_put(fd[0], NULL, 0, NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_get(fd[0], NULL, 1, NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_put_path(fd[0], "x", NULL, NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_get_path(fd[0], "x", NULL, NULL, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_file_put(fd[0], "x", -1, NULL, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_file_get(fd[0], "x", -1, NULL, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_file_get(-1, "x", fd[0], NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_get(fd[0], "x", fd[0], NULL, &unset));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_serve(fd[0], NULL, fd[0], NULL, NULL));
    opts.flags = 0x80000000;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_get(fd[0], "x", fd[0], &opts, NULL));
    opts.flags = 0;
    opts.mode = 04755;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_get(fd[0], "x", fd[0], &opts, NULL));
    opts.mode = 0;
    opts.stall_ms = -7;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_get(fd[0], "x", fd[0], &opts, NULL));
    CHECK(unread(fd[1]) == 0);

    /* A packet is no request, and a file no root. */
    CHECK_RETURNS(0, frame_packet_send(fd[0], "x", 1, NULL));
    CHECK_RETURNS(0, frame_packet_recv(fd[1], &frame, NULL));
    CHECK_RETURNS(FRAME_ESTATE, frame_file_serve(fd[1], frame, fd[1], NULL, NULL));
    frame_free(frame);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"cmd\":\"get\"}", NULL, 0, NULL));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_file_serve(fd[1], frame, fd[1], NULL, NULL));
    frame_free(frame);
    close_both(fd);
}

static void times_are_kept(void)
{
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    int64_t before = milliseconds();
    int fd[2];
    socket_pair(fd);
    opts.stall_ms = 20;
    CHECK_RETURNS(FRAME_ESTALLED, frame_file_get(fd[0], "x", fd[0], &opts, NULL));
    opts.stall_ms = FRAME_NO_TIMEOUT;
    opts.timeout_ms = 20;
    CHECK_RETURNS(FRAME_ESTALLED, frame_file_get(fd[0], "x", fd[0], &opts, NULL));
    CHECK(milliseconds() - before >= 40);
    CHECK(frame_default("stall_ms") == 30000);
    close_both(fd);
}

int main(void)
{
    static const char *const left[] = {"a", "b", "caf\xe9", "old", "long", "seven", "copy", "up"};
    size_t i;
    CHECK(mkdtemp(directory) != NULL);
    umask(022);
    a_file_goes_there_and_back();
    what_is_refused_leaves_the_connection_usable();
    progress_can_break_off();
    an_old_server_is_sent_what_it_knows();
    an_old_uploader_is_gone_before_the_reply();
    bad_arguments_send_nothing();
    times_are_kept();
    for (i = 0; i < sizeof left / sizeof *left; i++)
        CHECK(unlink(at(left[i])) == 0);
    CHECK(rmdir(directory) == 0); /* nothing else was left */
    return 0;
}
