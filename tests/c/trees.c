/* What a file server has, trees of files, and transfers that go on where they were cut. */
#include "files.h"

#include <sys/syscall.h>

/* A server below "root", which this code ends. */
static struct frame_connection *start(const struct frame_file_options *opts, int end, pid_t *child)
{
    struct files files;
    files.root = at("root");
    files.opts = opts;
    files.errors = NULL;
    return start_server(serve_file, &files, end, child);
}

static void names_are_made_and_described(struct frame_connection *c)
{
    struct frame_file_info info = FRAME_FILE_INFO_INIT;
    struct frame_file_transfer what;

    CHECK_RETURNS(0, frame_file_mkdir(c, "dir", 0750, 0, LONG));
    CHECK_RETURNS(0, frame_file_mkdir(c, "dir", 0750, 0, LONG));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_mkdir(c, "a/b/c", 0, 0, LONG));
    CHECK_RETURNS(0, frame_file_mkdir(c, "dir/b/c", 0, FRAME_FILE_PARENTS, LONG));
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_mkdir(c, "", 0, 0, LONG));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_mkdir(c, NULL, 0, 0, LONG));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_mkdir(c, "x", 01000, 0, LONG));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_mkdir(c, "x", 0, FRAME_FILE_TREE, LONG));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_mkdir(c, "x", 0, 0, 0));
    write_file("root/file", "four");
    CHECK_RETURNS(FRAME_EREMOTE_EXISTS, frame_file_mkdir(c, "file", 0, 0, LONG));
    what = by_path("new//caf\xe9", at("root/file"));
    what.flags = FRAME_FILE_PARENTS | FRAME_FILE_MTIME;
    what.mode = 0604;
    what.mtime_ms = 1234567;
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_put(c, &what, LONG, NULL));
    what.name = "new/caf\xe9\n";
    CHECK_RETURNS(0, frame_file_put(c, &what, LONG, NULL));
    CHECK(symlink("file", at("root/link")) == 0);

    CHECK_RETURNS(0, frame_file_stat(c, "new/caf\xe9\n", 0, LONG, &info));
    CHECK(info.kind == FRAME_FILE_REGULAR && info.file_size == 4 && info.mode == 0604);
    CHECK(info.mtime_ms == 1234567 && info.size == sizeof info && info.sha256[0] == '\0');
    CHECK_RETURNS(0, frame_file_stat(c, "link", 0, LONG, &info));
    CHECK(info.kind == FRAME_FILE_SYMLINK);
    CHECK_RETURNS(0, frame_file_stat(c, "dir", 0, LONG, &info));
    CHECK(info.kind == FRAME_FILE_DIRECTORY && info.mode == 0750);
    CHECK_RETURNS(0, frame_file_stat(c, "", 0, LONG, &info));
    CHECK(info.kind == FRAME_FILE_DIRECTORY);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_stat(c, "none", 0, LONG, &info));
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_stat(c, "link/x", 0, LONG, &info));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_stat(c, "dir", FRAME_FILE_TREE, LONG, &info));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_stat(c, "dir", 0, 0, &info));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_stat(c, "dir", 0, LONG, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_stat(c, NULL, 0, LONG, &info));
}

static void names_are_listed(void)
{
    struct frame_file_info info = FRAME_FILE_INFO_INIT;
    struct frame_file_listing *list;
    const char *target = "";
    pid_t child;
    struct frame_connection *c = start(NULL, FRAME_ECLOSED, &child);

    names_are_made_and_described(c);
    CHECK_RETURNS(4, frame_file_list(c, "", LONG, &list));
    CHECK(strcmp(frame_file_listing_entry(list, 0, NULL, NULL), "dir") == 0);
    CHECK(strcmp(frame_file_listing_entry(list, 1, &info, &target), "file") == 0);
    CHECK(info.kind == FRAME_FILE_REGULAR && info.file_size == 4 && target == NULL);
    CHECK(strcmp(frame_file_listing_entry(list, 2, &info, &target), "link") == 0);
    CHECK(info.kind == FRAME_FILE_SYMLINK && strcmp(target, "file") == 0);
    CHECK(strcmp(frame_file_listing_entry(list, 3, NULL, NULL), "new") == 0);
    CHECK(frame_file_listing_entry(list, 4, NULL, NULL) == NULL);
    CHECK(frame_file_listing_entry(NULL, 0, NULL, NULL) == NULL);
    info.size = 0;
    CHECK(frame_file_listing_entry(list, 0, &info, NULL) == NULL);
    CHECK(strstr(frame_last_error(), "size") != NULL);
    frame_file_listing_free(list);
    frame_file_listing_free(NULL);
    CHECK_RETURNS(1, frame_file_list(c, "new", LONG, &list));
    CHECK(strcmp(frame_file_listing_entry(list, 0, NULL, NULL), "caf\xe9\n") == 0);
    frame_file_listing_free(list);
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_list(c, "file", LONG, &list));
    CHECK(list == NULL);
    CHECK_RETURNS(FRAME_EINVAL, frame_file_list(c, "", 0, &list));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_list(c, NULL, LONG, &list));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_list(c, "", LONG, NULL));
    end_server(c, child);
}

/* A server may list what it likes, but no name that C would see the end of too early. */
static void a_name_with_a_nul_is_refused(void)
{
    static const char entry[] = "[{\"name\":\"a\\u0000b\",\"kind\":\"file\",\"size\":1,"
                                "\"mode\":\"0644\",\"mtime\":0}]";
    struct frame_file_listing *list;
    struct frame_connection *c;
    int fd[2];
    socket_pair(fd);
    c = owner_of(fd[0]);
    CHECK_RETURNS(0, frame_send(fd[1], "{\"status\":\"ok\",\"id\":\"~1\"}", entry,
                                sizeof entry - 1, NULL));
    CHECK_RETURNS(FRAME_EBADREPLY, frame_file_list(c, "", LONG, &list));
    CHECK(list == NULL && strstr(frame_last_error(), "NUL") != NULL);
    frame_connection_free(c);
    CHECK(close(fd[1]) == 0);
}

/* Not before Linux 5.6, and not under valgrind: links in a tree are not followed then. */
static int has_openat2(void)
{
    return syscall(SYS_openat2, -1, NULL, NULL, 0) != -1 || errno != ENOSYS;
}

/* Counts the calls, which name the files of a tree. */
static int count_files(void *context, const char *name, uint64_t done, uint64_t total)
{
    int *files = context;
    CHECK(strcmp(name, "copy/one") == 0 || strcmp(name, "copy/sub/two") == 0);
    CHECK(done <= 3 && total == 3);
    ++*files;
    return 0;
}

static void a_tree_goes_there(struct frame_connection *c)
{
    struct frame_file_result tree = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what = by_path("copy", at("tree"));
    int files = 0;

    what.flags = FRAME_FILE_TREE;
    what.progress = count_files;
    what.context = &files;
    CHECK_RETURNS(0, frame_file_put(c, &what, LONG, &tree));
    CHECK(files == 2 && tree.files == 2 && tree.bytes == 3 && tree.directories == 3);
    CHECK(tree.links == 0 && tree.skipped == 1 && tree.sha256[0] == '\0');
    check_file("root/copy/sub/two", "22");
    what.progress = NULL;
    what.flags = FRAME_FILE_TREE | FRAME_FILE_REFUSE_LINKS;
    CHECK_RETURNS(FRAME_EPATH, frame_file_put(c, &what, LONG, NULL));
    CHECK(strstr(frame_last_error(), "link") != NULL);
    what.name = "followed";
    what.flags = FRAME_FILE_TREE | FRAME_FILE_FOLLOW_LINKS;
    if (has_openat2()) {
        CHECK_RETURNS(0, frame_file_put(c, &what, LONG, &tree));
        CHECK(tree.files == 3 && tree.skipped == 0);
        check_file("root/followed/link", "22");
    } else {
        CHECK_RETURNS(FRAME_ENOTSUP, frame_file_put(c, &what, LONG, NULL));
    }
}

static void a_tree_goes_there_and_back(void)
{
    struct frame_file_result tree = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what;
    char target[16];
    pid_t child;
    struct frame_connection *c = start(NULL, FRAME_ECLOSED, &child);
    CHECK(mkdir(at("tree"), 0700) == 0 && mkdir(at("tree/sub"), 0700) == 0);
    CHECK(mkdir(at("tree/empty"), 0700) == 0);
    write_file("tree/one", "1");
    write_file("tree/sub/two", "22");
    CHECK(symlink("sub/two", at("tree/link")) == 0);

    a_tree_goes_there(c);
    what = by_path("linked", at("tree"));
    what.flags = FRAME_FILE_TREE | FRAME_FILE_COPY_LINKS | FRAME_FILE_PRESERVE;
    CHECK_RETURNS(0, frame_file_put(c, &what, LONG, &tree));
    CHECK(tree.links == 1 && readlink(at("root/linked/link"), target, sizeof target) == 7);

    what.path = at("back");
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, &tree));
    CHECK(tree.files == 2 && tree.links == 1 && tree.bytes == 3);
    check_file("back/sub/two", "22");
    check_file("back/link", "22");
    what.flags |= FRAME_FILE_RESUME;
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, &tree));
    CHECK(tree.files == 2 && tree.bytes == 0);
    what = by_path("none", at("x"));
    what.flags = FRAME_FILE_TREE;
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_get(c, &what, LONG, NULL));

    /* The root is a tree; and the second directory is in the way of a file. */
    what = by_path("", at("all"));
    what.flags = FRAME_FILE_TREE;
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, &tree));
    check_file("all/copy/one", "1");
    CHECK(unlink(at("tree/one")) == 0 && mkdir(at("tree/one"), 0700) == 0);
    what = by_path("copy", at("tree"));
    what.flags = FRAME_FILE_TREE;
    CHECK_RETURNS(FRAME_EINCOMPLETE, frame_file_put(c, &what, LONG, &tree));
    CHECK(strstr(frame_last_error(), "copy/one") != NULL);
    CHECK(tree.directories == 3 && tree.files == 1 && tree.failed == 1);
    what.flags |= FRAME_FILE_COPY_LINKS;
    CHECK(symlink("./sub/", at("tree/in")) == 0 && symlink("/", at("tree/out")) == 0);
    CHECK_RETURNS(FRAME_EINCOMPLETE, frame_file_put(c, &what, LONG, &tree));
    CHECK(tree.links == 2 && tree.skipped == 1 && tree.failed == 1);
    CHECK(readlink(at("root/copy/in"), target, sizeof target) == 6);
    end_server(c, child);
}

enum { SIZE = 160 * 1024 };

/* Ends a transfer in the middle. */
static int end_halfway(void *context, const char *name, uint64_t done, uint64_t total)
{
    (void)context;
    CHECK(strcmp(name, "big") == 0);
    return done > total / 2;
}

/* One that can be resumed, in pieces of which some pass. */
static struct frame_file_transfer cut(const char *path)
{
    struct frame_file_transfer what = by_path("big", path);
    what.flags = FRAME_FILE_RESUME;
    what.progress = end_halfway;
    what.rate = 256 * 1024;
    return what;
}

static void a_cut_put_goes_on_where_it_was(void)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_info partial = FRAME_FILE_INFO_INIT;
    struct frame_file_transfer what = cut(at("big"));
    struct frame_connection *c;
    struct stat found;
    pid_t child;

    c = start(NULL, FRAME_ETRUNCATED, &child);
    CHECK_RETURNS(FRAME_ECANCELED, frame_file_put(c, &what, LONG, &result));
    CHECK(result.bytes > SIZE / 2 && result.bytes < SIZE && result.files == 0);
    CHECK_RETURNS(FRAME_EBROKEN, frame_file_put(c, &what, LONG, &result));
    CHECK(result.bytes == 0);
    end_server(c, child);
    CHECK(stat(at("root/big"), &found) == -1 && errno == ENOENT);

    c = start(NULL, FRAME_ECLOSED, &child);
    CHECK_RETURNS(0, frame_file_stat(c, "big", FRAME_FILE_PARTIAL, LONG, &partial));
    CHECK(partial.file_size > SIZE / 3 && partial.file_size < SIZE);
    CHECK(partial.kind == FRAME_FILE_REGULAR && strlen(partial.sha256) == 64);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND,
                  frame_file_stat(c, "file", FRAME_FILE_PARTIAL, LONG, &partial));
    what.progress = NULL;
    what.rate = 0;
    CHECK_RETURNS(0, frame_file_put(c, &what, LONG, &result));
    CHECK(result.bytes == SIZE && strlen(result.sha256) == 64);
    CHECK(stat(at("root/big"), &found) == 0 && found.st_size == SIZE);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND,
                  frame_file_stat(c, "big", FRAME_FILE_PARTIAL, LONG, &partial));
    end_server(c, child);
}

/* Its digits are the start of sha256sum(1) of the name. */
#define LOST_PART "root/.framefd-76f75e6129fe3013.part"

/* Begins a put and sends no more: its connection is lost, and the server does not know yet. */
static struct frame_connection *begin_and_fall_silent(pid_t *child)
{
    static const char request[] = "{\"cmd\":\"put\",\"filename\":\"lost\",\"filesize\":10,"
                                  "\"resume\":true}";
    struct timespec old[2] = {{0, UTIME_OMIT}, {0, 0}};
    struct frame_connection *c = start(NULL, FRAME_ECLOSED, child);
    struct stat found;
    CHECK_RETURNS(0, frame_connection_begin(c, request, 10));
    CHECK_RETURNS(5, frame_connection_write(c, "01234", 5, LONG));
    CHECK_RETURNS(0, frame_connection_flush(c, LONG));
    while (stat(at(LOST_PART), &found) != 0 || found.st_size < 5)
        usleep(1000);
    CHECK(utimensat(AT_FDCWD, at(LOST_PART), old, 0) == 0);
    return c;
}

static void a_put_takes_over_from_a_client_that_is_silent(void)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what;
    pid_t children[2];
    struct frame_connection *lost = begin_and_fall_silent(&children[0]);
    struct frame_connection *again = start(NULL, FRAME_ECLOSED, &children[1]);
    struct frame *reply;

    write_file("lost", "0123456789");
    what = by_path("lost", at("lost"));
    what.flags = FRAME_FILE_RESUME;
    CHECK_RETURNS(0, frame_file_put(again, &what, LONG, &result));
    CHECK(result.bytes == 10 && access(at(LOST_PART), F_OK) == -1);
    CHECK_RETURNS(5, frame_connection_write(lost, "56789", 5, LONG));
    CHECK_RETURNS(0, frame_connection_recv(lost, LONG, &reply));
    CHECK(strstr(frame_header(reply, NULL), "\"busy\"") != NULL);
    frame_free(reply);
    end_server(again, children[1]);
    end_server(lost, children[0]);
}

static void a_cut_get_goes_on_where_it_was(void)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what = cut(at("again"));
    struct stat found;
    pid_t child;
    struct frame_connection *c = start(NULL, FRAME_ECLOSED, &child);

    CHECK_RETURNS(FRAME_ECANCELED, frame_file_get(c, &what, LONG, &result));
    CHECK(result.bytes > SIZE / 2 && result.bytes < SIZE);
    CHECK(stat(at("again"), &found) == -1 && errno == ENOENT);
    what.progress = NULL;
    what.rate = 0;
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, &result));
    CHECK(result.bytes == SIZE && stat(at("again"), &found) == 0 && found.st_size == SIZE);
    end_server(c, child);
}

static void a_part_of_a_file_is_got(int file)
{
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what = by_fd("big", file);
    char tail[3];
    pid_t child;
    struct frame_connection *c = start(NULL, FRAME_ECLOSED, &child);

    what.offset = SIZE - 3;
    CHECK(ftruncate(file, SIZE - 3) == 0 && lseek(file, 0, SEEK_END) == SIZE - 3);
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, &result));
    CHECK(result.bytes == SIZE && pread(file, tail, 3, SIZE - 3) == 3);
    CHECK_BYTES("end", tail, 3);
    CHECK(strlen(result.sha256) == 64);
    CHECK(pwrite(file, "x", 1, 0) == 1 && lseek(file, -3, SEEK_END) == SIZE - 3);
    CHECK_RETURNS(FRAME_EREMOTE_CHECKSUM, frame_file_get(c, &what, LONG, NULL));
    what.flags = FRAME_FILE_NO_CHECKSUM;
    CHECK(ftruncate(file, 0) == 0 && lseek(file, 0, SEEK_SET) == 0);
    CHECK_RETURNS(0, frame_file_get(c, &what, LONG, NULL));
    CHECK(pread(file, tail, 3, 0) == 3);
    CHECK_BYTES("end", tail, 3);
    end_server(c, child);
}

static void a_transfer_goes_on_where_it_was(void)
{
    int file = open(at("big"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(file >= 0 && ftruncate(file, SIZE) == 0 && pwrite(file, "end", 3, SIZE - 3) == 3);
    a_cut_put_goes_on_where_it_was();
    a_put_takes_over_from_a_client_that_is_silent();
    a_cut_get_goes_on_where_it_was();
    a_part_of_a_file_is_got(file);
    CHECK(close(file) == 0);
}

static void what_is_left_of_the_dead_is_swept(void)
{
    static const struct timespec old[2] = {{1000, 0}, {1000, 0}};
    int root;
    CHECK(mkdir(at("root/swept"), 0700) == 0);
    write_file("root/swept/.framefd-0123456789abcdef.tmp", "x");
    write_file("root/swept/.framefd-0123456789abcdef.part", "x");
    write_file("root/swept/.framefd-fedcba9876543210.part", "x");
    write_file("root/swept/kept", "x");
    CHECK(utimensat(AT_FDCWD, at("root/swept/kept"), old, 0) == 0);
    CHECK(utimensat(AT_FDCWD, at("root/swept/.framefd-0123456789abcdef.tmp"), old, 0) == 0);
    CHECK(utimensat(AT_FDCWD, at("root/swept/.framefd-0123456789abcdef.part"), old, 0) == 0);
    root = open(at("root"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(root >= 0);
    CHECK_RETURNS(2, frame_file_sweep(root, 0));
    CHECK(access(at("root/swept/.framefd-fedcba9876543210.part"), F_OK) == 0);
    CHECK(access(at("root/swept/kept"), F_OK) == 0);
    CHECK_RETURNS(0, frame_file_sweep(root, 24 * 60 * 60 * 1000)); /* the default */
    CHECK_RETURNS(FRAME_EINVAL, frame_file_sweep(root, -1));
    CHECK_RETURNS(FRAME_EBADF, frame_file_sweep(-1, 0));
    CHECK(close(root) == 0);
}

/* Lets files below "public/" be read and small ones be stored. */
static int public_only(void *context, const struct frame_file_inquiry *inquiry, char *reason,
                       size_t reason_size)
{
    (void)context;
    CHECK(inquiry->size == sizeof *inquiry && strstr(inquiry->header, inquiry->cmd) != NULL);
    CHECK(inquiry->name_len == strlen(inquiry->name));
    if (strncmp(inquiry->name, "public/", 7) != 0)
        return FRAME_ENOENT;
    if (strcmp(inquiry->cmd, "put") == 0 && inquiry->filesize > 4) {
        snprintf(reason, reason_size, "%d bytes at most", 4);
        return FRAME_ETOOBIG;
    }
    CHECK(strcmp(inquiry->cmd, "put") == 0 || inquiry->filesize == FRAME_NO_LIMIT);
    return 0;
}

static void a_policy_decides_before_anything_is_touched(void)
{
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_info info = FRAME_FILE_INFO_INIT;
    struct frame_file_listing *list;
    struct frame_connection *c;
    pid_t child;
    opts.policy = public_only;
    opts.rate = (uint64_t)1 << 30;
    CHECK(mkdir(at("root/public"), 0700) == 0);
    write_file("small", "four");
    write_file("large", "fives");
    c = start(&opts, FRAME_ECLOSED, &child);
    CHECK_RETURNS(0, put(c, "public/a", at("small")));
    CHECK_RETURNS(FRAME_EREMOTE_TOO_BIG, put(c, "public/b", at("large")));
    CHECK(strstr(frame_last_error(), "4 bytes at most") != NULL);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, put(c, "a", at("small")));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, get(c, "file", at("x")));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_stat(c, "file", 0, LONG, &info));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_list(c, "", LONG, &list));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_mkdir(c, "made", 0, 0, LONG));
    CHECK_RETURNS(0, get(c, "public/a", at("x")));
    end_server(c, child);
    CHECK(access(at("root/a"), F_OK) == -1 && access(at("root/made"), F_OK) == -1);
    CHECK(access(at("root/public/b"), F_OK) == -1);
}

static int not_get(void *context, const struct frame_file_inquiry *inquiry, char *reason,
                   size_t reason_size)
{
    (void)context;
    (void)reason;
    (void)reason_size;
    return strcmp(inquiry->cmd, "get") == 0 ? FRAME_EACCES : 0;
}

static void what_may_not_be_got_is_not_read_by_a_put(void)
{
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_info info = FRAME_FILE_INFO_INIT;
    struct frame_file_transfer what = by_path("secret", at("large"));
    struct frame_connection *c;
    pid_t child;
    opts.policy = not_get;
    write_file("root/secret", "fives");
    c = start(&opts, FRAME_ECLOSED, &child);
    CHECK_RETURNS(FRAME_EREMOTE_DENIED,
                  frame_file_stat(c, "secret", FRAME_FILE_PARTIAL, LONG, &info));
    what.offset = 2;
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_put(c, &what, LONG, NULL));
    what.offset = 0;
    what.flags = FRAME_FILE_RESUME;
    CHECK_RETURNS(0, frame_file_put(c, &what, LONG, NULL));
    end_server(c, child);
}

/* Of a large file much is left to send when the refusal comes. */
static void a_large_file_that_is_refused_is_not_sent_to_its_end(void)
{
    struct frame_connection_state state = FRAME_CONNECTION_STATE_INIT;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    struct frame_file_transfer what = by_path("../x", at("large"));
    pid_t child;
    struct frame_connection *c = start(NULL, FRAME_EBROKEN, &child);
    write_file("large", "");
    CHECK(truncate(at("large"), 1 << 26) == 0);
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_put(c, &what, LONG, &result));
    CHECK(result.bytes < 1 << 25);
    CHECK_RETURNS(0, frame_connection_inspect(c, &state));
    CHECK(state.broken == FRAME_EREMOTE_DENIED);
    end_server(c, child);
}

int main(void)
{
    char command[64];
    umask(0);
    CHECK(mkdtemp(directory) != NULL && mkdir(at("root"), 0700) == 0);
    names_are_listed();
    a_name_with_a_nul_is_refused();
    a_tree_goes_there_and_back();
    a_transfer_goes_on_where_it_was();
    what_is_left_of_the_dead_is_swept();
    a_policy_decides_before_anything_is_touched();
    what_may_not_be_got_is_not_read_by_a_put();
    a_large_file_that_is_refused_is_not_sent_to_its_end();
    CHECK(snprintf(command, sizeof command, "rm -r %s", directory) > 0 && system(command) == 0);
    return 0;
}
