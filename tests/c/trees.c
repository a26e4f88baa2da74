/* What a file server has, trees of files, and transfers that go on where they were cut. */
#include "check.h"

#include <sys/stat.h>
#include <sys/syscall.h>

static char directory[] = "/tmp/framefd-trees-XXXXXX";

/* A path below the directory; eight of them at a time. */
static const char *at(const char *name)
{
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];
    CHECK(snprintf(path, sizeof paths[0], "%s/%s", directory, name) < (int)sizeof paths[0]);
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
    int fd = open(at(name), O_RDONLY | O_CLOEXEC);
    ssize_t len;
    CHECK(fd >= 0);
    len = read(fd, text, sizeof text);
    CHECK(len == (ssize_t)strlen(expected) && memcmp(text, expected, (size_t)len) == 0);
    CHECK(close(fd) == 0);
}

/* Serves below "root" until the client has closed; the process ends with 0 if that is how
 * it ended. */
static void serve(int fd, const struct frame_file_options *opts, int end)
{
    int code, root = open(at("root"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct frame *request;
    CHECK(root >= 0);
    while ((code = frame_recv_header(fd, &request, NULL)) == 0) {
        int served = frame_file_serve(fd, request, root, opts, NULL);
        frame_free(request);
        if (served != 0) {
            CHECK_RETURNS(end, served);
            exit(0);
        }
    }
    /* A client that has gone may have left before it took the last of a reply, or after. */
    CHECK_RETURNS(code == end ? end : FRAME_ECLOSED, code);
    exit(0);
}

/* A connection to a server in a child, which ends with this code. */
static int start(pid_t *child, const struct frame_file_options *opts, int end)
{
    int fd[2];
    socket_pair(fd);
    *child = fork();
    if (*child == 0) {
        CHECK(close(fd[0]) == 0);
        serve(fd[1], opts, end);
    }
    CHECK(close(fd[1]) == 0);
    return fd[0];
}

static void finish(int fd, pid_t child)
{
    CHECK(close(fd) == 0);
    wait_for(child);
}

static void names_are_described_and_listed(void)
{
    struct frame_file_stat stat = FRAME_FILE_STAT_INIT;
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_list *list;
    const char *target = "";
    pid_t child;
    int fd = start(&child, NULL, FRAME_ECLOSED);

    opts.mode = 0750;
    CHECK_RETURNS(0, frame_file_make_directory(fd, "dir", &opts));
    CHECK_RETURNS(0, frame_file_make_directory(fd, "dir", &opts));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_make_directory(fd, "a/b/c", NULL));
    opts.flags = FRAME_FILE_PARENTS;
    CHECK_RETURNS(0, frame_file_make_directory(fd, "dir/b/c", &opts));
    write_file("root/file", "four");
    opts.mode = 0604;
    opts.mtime_ms = 1234567;
    CHECK_RETURNS(FRAME_EREMOTE_DENIED,
                  frame_file_put_path(fd, "new/caf\xe9\n", at("root/file"), &opts, NULL));
    CHECK_RETURNS(0, frame_file_put_path(fd, "new/caf\xe9", at("root/file"), &opts, NULL));
    CHECK(symlink("file", at("root/link")) == 0);

    CHECK_RETURNS(0, frame_file_stat(fd, "new/caf\xe9", &stat, NULL));
    CHECK(stat.kind == FRAME_FILE_REGULAR && stat.file_size == 4 && stat.mode == 0604);
    CHECK(stat.mtime_ms == 1234567 && stat.size == sizeof stat);
    CHECK_RETURNS(0, frame_file_stat(fd, "link", &stat, NULL));
    CHECK(stat.kind == FRAME_FILE_SYMLINK);
    CHECK_RETURNS(0, frame_file_stat(fd, "dir", &stat, NULL));
    CHECK(stat.kind == FRAME_FILE_DIRECTORY && stat.mode == 0750);
    CHECK_RETURNS(0, frame_file_stat(fd, "", &stat, NULL));
    CHECK(stat.kind == FRAME_FILE_DIRECTORY);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_stat(fd, "none", &stat, NULL));
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_stat(fd, "link/x", &stat, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_file_stat(fd, "dir", NULL, NULL));

    CHECK_RETURNS(4, frame_file_list(fd, "", &list, NULL));
    CHECK(strcmp(frame_file_list_entry(list, 0, NULL, NULL), "dir") == 0);
    CHECK(strcmp(frame_file_list_entry(list, 1, &stat, &target), "file") == 0);
    CHECK(stat.kind == FRAME_FILE_REGULAR && stat.file_size == 4 && target == NULL);
    CHECK(strcmp(frame_file_list_entry(list, 2, &stat, &target), "link") == 0);
    CHECK(stat.kind == FRAME_FILE_SYMLINK && strcmp(target, "file") == 0);
    CHECK(strcmp(frame_file_list_entry(list, 3, NULL, NULL), "new") == 0);
    CHECK(frame_file_list_entry(list, 4, NULL, NULL) == NULL);
    CHECK(frame_file_list_entry(NULL, 0, NULL, NULL) == NULL);
    frame_file_list_free(list);
    frame_file_list_free(NULL);
    CHECK_RETURNS(1, frame_file_list(fd, "new", &list, NULL));
    CHECK(strcmp(frame_file_list_entry(list, 0, NULL, NULL), "caf\xe9") == 0);
    frame_file_list_free(list);
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, frame_file_list(fd, "file", &list, NULL));
    CHECK(list == NULL);
    finish(fd, child);
}

/* Not before Linux 5.6, and not under valgrind: links in a tree are not followed then. */
static int has_openat2(void)
{
    return syscall(SYS_openat2, -1, NULL, NULL, 0) != -1 || errno != ENOSYS;
}

static void a_tree_goes_there_and_back(void)
{
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_tree tree = FRAME_FILE_TREE_INIT;
    char target[16];
    pid_t child;
    int fd = start(&child, NULL, FRAME_ECLOSED);
    CHECK(mkdir(at("tree"), 0700) == 0 && mkdir(at("tree/sub"), 0700) == 0);
    CHECK(mkdir(at("tree/empty"), 0700) == 0);
    write_file("tree/one", "1");
    write_file("tree/sub/two", "22");
    CHECK(symlink("sub/two", at("tree/link")) == 0);

    CHECK_RETURNS(0, frame_file_put_tree(fd, "copy", at("tree"), NULL, &tree));
    CHECK(tree.files == 2 && tree.bytes == 3 && tree.directories == 3);
    CHECK(tree.links == 0 && tree.skipped == 1);
    check_file("root/copy/sub/two", "22");
    opts.flags = FRAME_FILE_REFUSE_LINKS;
    CHECK_RETURNS(FRAME_EPATH, frame_file_put_tree(fd, "copy", at("tree"), &opts, NULL));
    CHECK(strstr(frame_last_error(), "link") != NULL);
    opts.flags = FRAME_FILE_REFUSE_LINKS | FRAME_FILE_COPY_LINKS;
    CHECK_RETURNS(FRAME_EINVAL, frame_file_put_tree(fd, "copy", at("tree"), &opts, NULL));
    opts.flags = FRAME_FILE_FOLLOW_LINKS;
    if (has_openat2()) {
        CHECK_RETURNS(0, frame_file_put_tree(fd, "followed", at("tree"), &opts, &tree));
        CHECK(tree.files == 3 && tree.skipped == 0);
        check_file("root/followed/link", "22");
    } else {
        CHECK_RETURNS(FRAME_ENOTSUP,
                      frame_file_put_tree(fd, "followed", at("tree"), &opts, NULL));
    }
    opts.flags = FRAME_FILE_COPY_LINKS | FRAME_FILE_PRESERVE;
    CHECK_RETURNS(0, frame_file_put_tree(fd, "linked", at("tree"), &opts, &tree));
    CHECK(tree.links == 1 && readlink(at("root/linked/link"), target, sizeof target) == 7);

    CHECK_RETURNS(0, frame_file_get_tree(fd, "linked", at("back"), &opts, &tree));
    CHECK(tree.files == 2 && tree.links == 1 && tree.bytes == 3);
    check_file("back/sub/two", "22");
    check_file("back/link", "22");
    opts.flags |= FRAME_FILE_RESUME;
    CHECK_RETURNS(0, frame_file_get_tree(fd, "linked", at("back"), &opts, &tree));
    CHECK(tree.files == 2 && tree.bytes == 0);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_get_tree(fd, "none", at("x"), NULL, NULL));
    finish(fd, child);
}

/* Breaks off in the middle. */
static int cancel(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    return done > total / 2;
}

static void a_cut_transfer_goes_on_where_it_was(void)
{
    enum { SIZE = 160 * 1024 };
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT, partial = FRAME_FILE_RESULT_INIT;
    struct stat found;
    pid_t child;
    char tail[3];
    int fd, file = open(at("big"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(file >= 0 && ftruncate(file, SIZE) == 0 && pwrite(file, "end", 3, SIZE - 3) == 3);

    opts.flags = FRAME_FILE_RESUME;
    opts.progress = cancel;
    opts.rate = 256 * 1024; /* in pieces, of which some pass */
    fd = start(&child, NULL, FRAME_ETRUNCATED);
    CHECK_RETURNS(FRAME_ECANCELED, frame_file_put_path(fd, "big", at("big"), &opts, NULL));
    finish(fd, child);
    CHECK(stat(at("root/big"), &found) == -1 && errno == ENOENT);

    fd = start(&child, NULL, FRAME_EIO);
    CHECK_RETURNS(0, frame_file_partial(fd, "big", NULL, &partial));
    CHECK(partial.bytes > SIZE / 3 && partial.bytes < SIZE && strlen(partial.sha256) == 64);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_partial(fd, "file", NULL, NULL));
    opts.progress = NULL;
    opts.rate = 0;
    CHECK_RETURNS(0, frame_file_put_path(fd, "big", at("big"), &opts, &result));
    CHECK(result.bytes == SIZE && strlen(result.sha256) == 64);
    CHECK(stat(at("root/big"), &found) == 0 && found.st_size == SIZE);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_partial(fd, "big", NULL, NULL));

    /* The same in the other direction; and a part of it alone. */
    opts.progress = cancel;
    opts.rate = 256 * 1024;
    CHECK_RETURNS(FRAME_ECANCELED, frame_file_get_path(fd, "big", at("again"), &opts, NULL));
    finish(fd, child);
    CHECK(stat(at("again"), &found) == -1 && errno == ENOENT);
    fd = start(&child, NULL, FRAME_ECLOSED);
    opts.progress = NULL;
    opts.rate = 0;
    CHECK_RETURNS(0, frame_file_get_path(fd, "big", at("again"), &opts, &result));
    CHECK(result.bytes == SIZE && stat(at("again"), &found) == 0 && found.st_size == SIZE);
    opts.flags = 0;
    opts.offset = SIZE - 3;
    CHECK(ftruncate(file, SIZE - 3) == 0 && lseek(file, 0, SEEK_END) == SIZE - 3);
    CHECK_RETURNS(0, frame_file_get(fd, "big", file, &opts, &result));
    CHECK(result.bytes == SIZE && pread(file, tail, 3, SIZE - 3) == 3);
    CHECK(memcmp(tail, "end", 3) == 0 && strlen(result.sha256) == 64);
    CHECK(pwrite(file, "x", 1, 0) == 1 && lseek(file, -3, SEEK_END) == SIZE - 3);
    CHECK_RETURNS(FRAME_EREMOTE_CHECKSUM, frame_file_get(fd, "big", file, &opts, NULL));
    opts.flags = FRAME_FILE_NO_CHECKSUM;
    CHECK(ftruncate(file, 0) == 0 && lseek(file, 0, SEEK_SET) == 0);
    CHECK_RETURNS(0, frame_file_get(fd, "big", file, &opts, NULL));
    CHECK(close(file) == 0);
    check_file("big", "end");
    finish(fd, child);
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
    CHECK_RETURNS(0, frame_file_sweep(root, frame_default("partial_age_ms")));
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
    if (inquiry->name_len < 7 || memcmp(inquiry->name, "public/", 7) != 0)
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
    struct frame_file_stat stat = FRAME_FILE_STAT_INIT;
    struct frame_file_list *list;
    pid_t child;
    int fd;
    opts.policy = public_only;
    opts.rate = (uint64_t)1 << 30;
    CHECK(mkdir(at("root/public"), 0700) == 0);
    write_file("small", "four");
    write_file("large", "fives");
    fd = start(&child, &opts, FRAME_ECLOSED);
    CHECK_RETURNS(0, frame_file_put_path(fd, "public/a", at("small"), NULL, NULL));
    CHECK_RETURNS(FRAME_EREMOTE_TOO_BIG,
                  frame_file_put_path(fd, "public/b", at("large"), NULL, NULL));
    CHECK(strstr(frame_last_error(), "4 bytes at most") != NULL);
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_put_path(fd, "a", at("small"), NULL, NULL));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_get_path(fd, "file", at("x"), NULL, NULL));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_stat(fd, "file", &stat, NULL));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_list(fd, "", &list, NULL));
    CHECK_RETURNS(FRAME_EREMOTE_NOT_FOUND, frame_file_make_directory(fd, "made", NULL));
    CHECK_RETURNS(0, frame_file_get_path(fd, "public/a", at("x"), NULL, NULL));
    finish(fd, child);
    CHECK(access(at("root/a"), F_OK) == -1 && access(at("root/made"), F_OK) == -1);
    CHECK(access(at("root/public/b"), F_OK) == -1);
}

int main(void)
{
    char command[64];
    umask(0);
    CHECK(mkdtemp(directory) != NULL && mkdir(at("root"), 0700) == 0);
    names_are_described_and_listed();
    a_tree_goes_there_and_back();
    a_cut_transfer_goes_on_where_it_was();
    what_is_left_of_the_dead_is_swept();
    a_policy_decides_before_anything_is_touched();
    CHECK(snprintf(command, sizeof command, "rm -r %s", directory) > 0 && system(command) == 0);
    return 0;
}
