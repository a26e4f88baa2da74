/* Common to the suites of files: a directory of their own, and a server below it. */
#ifndef FILES_H
#define FILES_H

#include "check.h"

#include <sys/stat.h>

static char directory[] = "/tmp/framefd-c-files-XXXXXX";

/* A path below the directory; eight are valid at a time. */
static inline const char *at(const char *name)
{
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];
    CHECK(snprintf(path, sizeof paths[0], "%s/%s", directory, name) < (int)sizeof paths[0]);
    return path;
}

/* A new file, or new content of one. */
static inline void write_file(const char *name, const char *text)
{
    int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    write_all(fd, text, strlen(text));
    CHECK(close(fd) == 0);
}

/* Whether a file has exactly this content. */
static inline void check_file(const char *name, const char *expected)
{
    char text[256];
    int fd = open(at(name), O_RDONLY | O_CLOEXEC);
    ssize_t len;
    CHECK(fd >= 0);
    len = read(fd, text, sizeof text);
    CHECK(len == (ssize_t)strlen(expected) && memcmp(text, expected, (size_t)len) == 0);
    CHECK(close(fd) == 0);
}

static inline struct frame_file_transfer by_path(const char *name, const char *path)
{
    struct frame_file_transfer what = FRAME_FILE_TRANSFER_INIT;
    what.name = name;
    what.path = path;
    return what;
}

static inline struct frame_file_transfer by_fd(const char *name, int fd)
{
    struct frame_file_transfer what = by_path(name, NULL);
    what.fd = fd;
    return what;
}

/* A file at a path, with all defaults. */
static inline int put(struct frame_connection *c, const char *name, const char *path)
{
    struct frame_file_transfer what = by_path(name, path);
    return frame_file_put(c, &what, LONG, NULL);
}

static inline int get(struct frame_connection *c, const char *name, const char *path)
{
    struct frame_file_transfer what = by_path(name, path);
    return frame_file_get(c, &what, LONG, NULL);
}

/* A file server: its directory, its options, and the results that it must report in turn. */
struct files {
    const char *root;
    const struct frame_file_options *opts;
    const int *errors;
};

static inline int serve_file(void *context, struct frame_connection *c, const char *request)
{
    struct files *files = context;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    int root = open(files->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int code = frame_file_serve(c, request, root, files->opts, &result);
    CHECK(root >= 0 && close(root) == 0);
    if (code == 0 && files->errors != NULL)
        CHECK_RETURNS(*files->errors++, result.error);
    return code;
}

#endif
