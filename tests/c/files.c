/* Files put, got and served, as C programs use them. */
#include "files.h"

/* Of "content". */
#define DIGEST "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"

/* A server below the directory. */
static struct frame_connection *start(const struct frame_file_options *opts, const int *errors,
                                      pid_t *child)
{
    struct files files;
    files.root = directory;
    files.opts = opts;
    files.errors = errors;
    return start_server(serve_file, &files, FRAME_ECLOSED, child);
}

static void a_file_goes_there_and_back(void)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what;
    struct stat found;
    pid_t child;
    struct frame_connection *c = start(NULL, NULL, &child);
    char text[16];
    int file[2];

    CHECK(pipe(file) == 0);
    write_all(file[1], "content", 7);
    what = by_fd("a", file[0]);
    CHECK_RETURNS(FRAME_EINVAL, frame_file_put(c, &what, LONG, NULL)); /* how many bytes? */
    what.length = 7;
    what.mode = 0640;
    CHECK_RETURNS(0, frame_file_put(c, &what, LONG, &result));
    CHECK(result.error == 0 && result.bytes == 7 && result.files == 1);
    CHECK(strcmp(result.sha256, DIGEST) == 0);
    check_file("a", "content");
    CHECK(stat(at("a"), &found) == 0 && (found.st_mode & 07777) == 0640);

    what = by_fd("a", file[1]);
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, &result));
    CHECK(result.bytes == 7 && strcmp(result.sha256, DIGEST) == 0);
    read_all(file[0], text, 7);
    CHECK_BYTES("content", text, 7);
    close_both(file);

    CHECK_RETURNS(0, get(c, "a", at("b")));
    check_file("b", "content");
    CHECK_RETURNS(0, put(c, "caf\xe9", at("b")));
    check_file("caf\xe9", "content");

    /* 0 is a time as well. */
    what = by_path("a", at("b"));
    what.flags = FRAME_FILE_MTIME;
    CHECK_RETURNS(0, frame_file_put(c, &what, LONG, NULL));
    CHECK(stat(at("a"), &found) == 0 && found.st_mtime == 0);
    what.mtime_ms = -1000;
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, NULL));
    CHECK(stat(at("b"), &found) == 0 && found.st_mtime == -1);
    end_server(c, child);
}

static mode_t mode_of(const char *name)
{
    struct stat found;
    CHECK(stat(at(name), &found) == 0);
    return found.st_mode & 07777;
}

/* The kernel says that it has 0 bytes. */
static void a_file_of_proc_is_whole(void)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what = by_path("version", "/proc/version");
    struct stat found;
    pid_t child;
    struct frame_connection *c = start(NULL, NULL, &child);
    CHECK_RETURNS(0, frame_file_put(c, &what, LONG, &result));
    CHECK(stat(at("version"), &found) == 0 && found.st_size > 0);
    CHECK(result.bytes == (uint64_t)found.st_size);
    end_server(c, child);
}

/* A file that is replaced keeps its permission bits, and a new one has those of its source. */
static void modes_are_kept(void)
{
    pid_t child;
    struct frame_connection *c = start(NULL, NULL, &child);
    write_file("closed", "content");
    write_file("program", "content");
    CHECK(chmod(at("program"), 0700) == 0);
    CHECK_RETURNS(0, put(c, "closed", at("program")));
    CHECK_RETURNS(0, put(c, "another", at("program")));
    CHECK(mode_of("closed") == 0600 && mode_of("another") == 0700);
    CHECK_RETURNS(0, get(c, "closed", at("another")));
    CHECK_RETURNS(0, get(c, "closed", at("fetched")));
    CHECK(mode_of("another") == 0700 && mode_of("fetched") == 0600);
    end_server(c, child);
}

/* It stays the same file: both of its names show each content. */
static void a_file_is_written_in_place(void)
{
    static const char *const contents[] = {"a longer content", "new", "", "again"};
    struct frame_file_transfer what;
    struct stat before, after;
    pid_t child;
    struct frame_connection *c = start(NULL, NULL, &child);
    size_t i;
    write_file("old", "old");
    CHECK(chmod(at("old"), 0750) == 0 && link(at("old"), at("link")) == 0);
    CHECK(stat(at("old"), &before) == 0);
    for (i = 0; i < sizeof contents / sizeof *contents; i++) {
        write_file("source", contents[i]);
        what = by_path("old", at("source"));
        what.flags = FRAME_FILE_IN_PLACE;
        CHECK_RETURNS(0, frame_file_put(c, &what, LONG, NULL));
        check_file("link", contents[i]);
    }
    CHECK(stat(at("link"), &after) == 0 && after.st_ino == before.st_ino);
    CHECK(after.st_mode == before.st_mode && after.st_nlink == 2);
    write_file("source", "and back");
    what = by_path("source", at("link"));
    what.flags = FRAME_FILE_IN_PLACE;
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, NULL));
    check_file("old", "and back");
    CHECK(mkfifo(at("fifo"), 0600) == 0);
    what = by_path("fifo", at("source"));
    what.flags = FRAME_FILE_IN_PLACE;
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_put(c, &what, LONG, NULL));
    CHECK(unlink(at("fifo")) == 0 && unlink(at("link")) == 0 && unlink(at("source")) == 0);
    end_server(c, child);
}

/* The reply says whether it was done: others replace the file. */
static void a_server_that_replaced_the_file_is_told_of(void)
{
    static const char reply[] =
        "{\"status\":\"ok\",\"id\":\"~1\",\"filename\":\"x\",\"filesize\":3}";
    struct frame_file_transfer what;
    struct frame_connection *c;
    int fd[2];
    socket_pair(fd);
    c = owner_of(fd[0]);
    CHECK_RETURNS(0, frame_send(fd[1], reply, NULL, 0, NULL));
    what = by_path("x", at("old"));
    write_file("old", "old");
    what.flags = FRAME_FILE_IN_PLACE;
    CHECK_RETURNS(FRAME_ENOTSUP, frame_file_put(c, &what, LONG, NULL));
    CHECK(strstr(frame_last_error(), "not in place") != NULL);
    frame_connection_free(c);
    CHECK(close(fd[1]) == 0);
}

static void what_is_refused_leaves_the_connection_in_sync(void)
{
    static const int errors[] = {FRAME_EPATH, FRAME_ENOENT, FRAME_EEXIST, FRAME_ETOOBIG, 0};
    struct frame_file_options small = FRAME_FILE_OPTIONS_INIT;
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what;
    struct frame_connection *c;
    pid_t child;
    write_file("old", "old");
    write_file("long", "longer");
    small.max_size = 5;
    c = start(&small, errors, &child);

    what = by_path("../x", at("old"));
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_put(c, &what, LONG, &result));
    CHECK(strstr(frame_last_error(), "../x") != NULL);
    CHECK(result.bytes == 3 && result.files == 0 && result.sha256[0] == '\0');
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, get(c, "none", at("new")));
    CHECK(access(at("new"), F_OK) == -1);
    what = by_path("old", at("old"));
    what.flags = FRAME_FILE_NO_OVERWRITE | FRAME_FILE_NO_CHECKSUM;
    CHECK_RETURNS(FRAME_EREMOTE_EXISTS, frame_file_put(c, &what, LONG, NULL));
    CHECK_RETURNS(FRAME_EREMOTE_TOO_BIG, put(c, "new", at("long")));
    what.flags |= FRAME_FILE_NO_SYNC;
    CHECK_RETURNS(FRAME_EEXIST, frame_file_get(c, &what, LONG, NULL));
    CHECK_RETURNS(FRAME_EPATH, put(c, "x", "/dev/null"));
    CHECK_RETURNS(FRAME_EPATH, get(c, "x", directory));
    what.path = at("new");
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, &result));
    CHECK(result.bytes == 3 && result.sha256[0] == '\0');
    check_file("new", "old");
    CHECK_RETURNS(0, frame_connection_inspect(c, &state));
    CHECK(state.broken == 0);
    end_server(c, child);
}

static int end_the_second(void *context, const char *name, uint64_t done, uint64_t total)
{
    int *calls = context;
    CHECK(strcmp(name, "seven") == 0 && done == 7 && total == 7);
    ++*calls;
    return *calls == 2;
}

static void progress_ends_a_transfer(void)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what;
    struct frame_connection *c;
    int calls = 0;
    pid_t child;
    write_file("seven", "content");
    c = start(NULL, NULL, &child);
    what = by_path("seven", at("copy"));
    what.progress = end_the_second;
    what.context = &calls;
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, NULL));
    what.path = at("none");
    CHECK_RETURNS(FRAME_ECANCELED, frame_file_get(c, &what, LONG, &result));
    CHECK(calls == 2 && result.bytes == 7 && access(at("none"), F_OK) == -1);
    /* Little of the file was still to come: the connection is in sync. */
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, NULL));
    CHECK(calls == 3 && unlink(at("none")) == 0);
    end_server(c, child);
}

static void an_old_server_is_sent_what_it_knows(void)
{
    static const char header[] =
        "{\"data_size\":7,\"cmd\":\"put\",\"filename\":\"x\",\"filesize\":7}";
    struct frame_file_transfer what;
    struct frame_connection *c;
    struct frame *frame;
    const char *text;
    int fd[2];
    size_t len;
    socket_pair(fd);
    c = owner_of(fd[0]);
    write_file("seven", "content");
    what = by_path("x", at("seven"));
    what.flags = FRAME_FILE_NO_REPLY;
    CHECK_RETURNS(0, frame_file_put(c, &what, LONG, NULL));
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    text = frame_header(frame, &len);
    CHECK_BYTES(header, text, len);
    CHECK_BODY("content", frame);
    CHECK(unread(fd[1]) == 0);
    frame_free(frame);
    frame_connection_free(c);
    CHECK(close(fd[1]) == 0);
}

/* What a client of the oldest kind sends. */
static const char old_put[] =
    "\x2b\0\0\0{\"cmd\":\"put\",\"filename\":\"up\",\"filesize\":7} content";

/* Clients of the oldest kind, and what their server makes of them. */
static void an_old_client_reads_no_reply(void)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_connection *c;
    struct frame_view view;
    int fd[2], root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(root >= 0);
    socket_pair(fd);
    c = owner_of(fd[1]);
    write_all(fd[0], old_put, sizeof old_put - 1);
    opts.flags = FRAME_FILE_NO_REPLY;
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(0, frame_file_serve(c, view.header, root, &opts, &result));
    CHECK(result.error == 0 && result.bytes == 7 && unread(fd[0]) == 0);
    /* The next one is gone before its reply comes. */
    write_all(fd[0], old_put, sizeof old_put - 1);
    CHECK(close(fd[0]) == 0);
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(0, frame_file_serve(c, view.header, root, NULL, &result));
    CHECK(result.error == FRAME_ECLOSED && result.bytes == 7 && strcmp(result.sha256, DIGEST) == 0);
    CHECK_RETURNS(FRAME_ECLOSED, frame_connection_recv_header(c, LONG, &view, NULL));
    check_file("up", "content");
    frame_connection_free(c);
    CHECK(close(root) == 0);
}

/* What does not apply: the flags and members that are set, and what the detail has to name. */
#define REFUSED(direction, word) \
    (CHECK_RETURNS(FRAME_EINVAL, frame_file_##direction(c, &what, LONG, NULL)), \
     CHECK(strstr(frame_last_error(), word) != NULL), what = by_path("x", "/dev/null"))

static void what_cannot_apply_is_named(struct frame_connection *c)
{
    struct frame_file_transfer what = by_path("x", "/dev/null");
    what.flags = FRAME_FILE_NO_SYNC, REFUSED(put, "sync");
    what.max_size = 1, REFUSED(put, "max_size");
    what.length = 1, REFUSED(put, "length");
    what.length = 1, REFUSED(get, "length");
    what.offset = 1, REFUSED(get, "offset");
    what.flags = FRAME_FILE_PARENTS, REFUSED(get, "parents");
    what.flags = FRAME_FILE_NO_REPLY, REFUSED(get, "reply");
    what.flags = FRAME_FILE_NO_REPLY | FRAME_FILE_RESUME, REFUSED(put, "resume");
    what.flags = FRAME_FILE_NO_REPLY | FRAME_FILE_IN_PLACE, REFUSED(put, "in_place");
    what.flags = FRAME_FILE_NO_OVERWRITE | FRAME_FILE_IN_PLACE, REFUSED(put, "in_place");
    what.flags = FRAME_FILE_NO_OVERWRITE | FRAME_FILE_IN_PLACE, REFUSED(get, "in_place");
    what.path = NULL, what.flags = FRAME_FILE_IN_PLACE, REFUSED(get, "in_place");
    what.flags = FRAME_FILE_COPY_LINKS, REFUSED(put, "links");
    what.flags = FRAME_FILE_TREE | FRAME_FILE_FOLLOW_LINKS, REFUSED(get, "links");
    what.flags = FRAME_FILE_TREE | FRAME_FILE_REFUSE_LINKS | FRAME_FILE_COPY_LINKS;
    REFUSED(put, "links");
    what.flags = FRAME_FILE_TREE, what.offset = 1, REFUSED(put, "offset");
    what.flags = FRAME_FILE_TREE, what.path = NULL, REFUSED(get, "fd");
    what.path = NULL, what.mode = 0600, REFUSED(get, "mode");
    what.path = NULL, what.flags = FRAME_FILE_RESUME, REFUSED(get, "resume");
    what.fd = 1, REFUSED(put, "fd");
    what.name = "", REFUSED(put, "name");
    what.name = NULL, REFUSED(get, "name");
    what.mtime_ms = 1, REFUSED(put, "mtime_ms");
    what.mode = 04755, REFUSED(put, "mode");
    what.reserved = 1, REFUSED(put, "reserved");
    what.stall_ms = FRAME_DONT_WAIT, REFUSED(put, "stall_ms");
    what.flags = FRAME_FILE_PARTIAL, REFUSED(put, "flags");
    what.size = 0, REFUSED(put, "size");
}

static void bad_arguments_send_nothing(void)
{
    struct frame_file_transfer what = by_path("x", "/dev/null");
    struct frame_file_result unset = FRAME_FILE_RESULT_INIT;
    struct frame_connection *c;
    int fd[2];
    socket_pair(fd);
    c = owner_of(fd[0]);
    what_cannot_apply_is_named(c);
    CHECK_RETURNS(FRAME_EINVAL, frame_file_put(c, NULL, LONG, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_put(NULL, &what, LONG, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_put(c, &what, 0, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_get(c, &what, -2, NULL));
    unset.size = 0;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_get(c, &what, LONG, &unset));
    what = by_fd("x", -1);
    CHECK_RETURNS(FRAME_EBADF, frame_file_put(c, &what, LONG, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_file_get(c, &what, LONG, NULL));
    CHECK(unread(fd[1]) == 0);
    frame_connection_free(c);
    CHECK(close(fd[1]) == 0);
}

/* What cannot be served leaves the request to be served. */
static void a_server_is_told_what_is_wrong(void)
{
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_connection *c;
    struct frame_view view;
    int fd[2], root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char byte;
    CHECK(root >= 0);
    socket_pair(fd);
    c = owner_of(fd[1]);
    CHECK_RETURNS(0, frame_send(fd[0], "{\"cmd\":\"get\"}", "12", 2, NULL));
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_serve(NULL, view.header, root, NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_serve(c, NULL, root, NULL, NULL));
    CHECK_RETURNS(FRAME_EBADJSON, frame_file_serve(c, "{", root, NULL, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_file_serve(c, view.header, -1, NULL, NULL));
    CHECK_RETURNS(FRAME_EBADF, frame_file_serve(c, view.header, fd[0], NULL, NULL));
    opts.flags = FRAME_FILE_IN_PLACE;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_serve(c, view.header, root, &opts, NULL));
    opts.flags = FRAME_FILE_RESUME;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_serve(c, view.header, root, &opts, NULL));
    opts.flags = 0, opts.timeout_ms = FRAME_DONT_WAIT;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_serve(c, view.header, root, &opts, NULL));
    CHECK(strstr(frame_last_error(), "timeout_ms") != NULL);
    opts.timeout_ms = 0, opts.reserved = 1;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_serve(c, view.header, root, &opts, NULL));
    opts.reserved = 0, opts.size = 0;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_serve(c, view.header, root, &opts, NULL));
    result.size = 0;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_serve(c, view.header, root, NULL, &result));
    result.size = sizeof result;
    CHECK_RETURNS(0, frame_file_serve(c, view.header, root, NULL, &result));
    CHECK(result.error == FRAME_EMISSING); /* the name */

    CHECK_RETURNS(0, frame_send(fd[0], "{\"cmd\":\"get\"}", "12", 2, NULL));
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(1, frame_connection_read(c, &byte, 1, LONG));
    CHECK_RETURNS(FRAME_ESTATE, frame_file_serve(c, view.header, root, NULL, NULL));
    frame_connection_free(c);
    CHECK(close(fd[0]) == 0 && close(root) == 0);
}

/* A get that gets no reply, on a connection that waits 20 ms by default. */
static void a_get_times_out(int stall_ms, int timeout_ms)
{
    struct frame_connection_options opts = FRAME_CONNECTION_OPTIONS_INIT;
    struct frame_file_transfer what = by_path("x", at("x"));
    struct frame_connection *c;
    int64_t before = milliseconds();
    int fd[2];
    socket_pair(fd);
    opts.timeout_ms = 20;
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], &opts, &c));
    what.stall_ms = stall_ms;
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_file_get(c, &what, timeout_ms, NULL));
    CHECK(milliseconds() - before >= 20);
    CHECK_RETURNS(FRAME_EBROKEN, frame_file_get(c, &what, timeout_ms, NULL));
    frame_connection_free(c);
    close_both(fd);
}

/* A put whose last byte does not come. */
static void a_put_times_out(const struct frame_file_options *opts)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_connection *c;
    struct frame_view view;
    int fd[2], root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(root >= 0);
    socket_pair(fd);
    c = owner_of(fd[1]);
    write_all(fd[0], old_put, sizeof old_put - 2);
    CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_file_serve(c, view.header, root, opts, &result));
    CHECK(result.bytes == 6 && result.files == 0); /* how far it came */
    CHECK_RETURNS(FRAME_EBROKEN, frame_file_serve(c, "{}", root, opts, NULL));
    frame_connection_free(c);
    CHECK(close(fd[0]) == 0 && close(root) == 0);
}

static void times_are_kept(void)
{
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    a_get_times_out(20, -1);
    a_get_times_out(FRAME_NO_TIMEOUT, 20);
    a_get_times_out(0, FRAME_DEFAULT_TIMEOUT);
    opts.stall_ms = 20;
    a_put_times_out(&opts);
    opts.stall_ms = FRAME_NO_TIMEOUT;
    opts.timeout_ms = 20;
    a_put_times_out(&opts);
}

int main(void)
{
    static const char *const left[] = {"a", "b", "caf\xe9", "old", "long", "new", "seven", "copy",
                                       "up", "closed", "program", "another", "fetched",
                                       "version"};
    size_t i;
    CHECK(mkdtemp(directory) != NULL);
    umask(022);
    a_file_goes_there_and_back();
    a_file_of_proc_is_whole();
    modes_are_kept();
    a_file_is_written_in_place();
    a_server_that_replaced_the_file_is_told_of();
    what_is_refused_leaves_the_connection_in_sync();
    progress_ends_a_transfer();
    an_old_server_is_sent_what_it_knows();
    an_old_client_reads_no_reply();
    bad_arguments_send_nothing();
    a_server_is_told_what_is_wrong();
    times_are_kept();
    for (i = 0; i < sizeof left / sizeof *left; i++)
        CHECK(unlink(at(left[i])) == 0);
    CHECK(rmdir(directory) == 0); /* nothing else was left */
    return 0;
}
