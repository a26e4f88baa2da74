/* Sends files and trees to a server, fetches them, and shows what is there. */

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>

static const char help[] =
    "usage: file_client [OPTION]... HOST PORT [REQUEST]\n"
    "\n"
    "Does what REQUEST says, or each line of a prompt that quit or end of input ends:\n"
    "\n"
    "  put [OPTION]... LOCAL [REMOTE]  send a file\n"
    "  get [OPTION]... REMOTE [LOCAL]  fetch a file\n"
    "  stat REMOTE                     show kind, mode, size, time and name of REMOTE\n"
    "  list [REMOTE]                   the same of all that is in the directory REMOTE\n"
    "\n"
    "A second name that is left out is the last part of the first; a file goes into LOCAL if\n"
    "that is a directory, and into REMOTE if that ends with a slash. LOCAL can be -, which is\n"
    "standard input or output. list shows the server's root. At the prompt a name with blanks\n"
    "is in quotes, or has a backslash before each. In names a control character is shown as\n"
    "\\xNN, and a backslash as \\\\.\n"
    "\n"
    "  -r               send or fetch a directory with all that is in it; files keep their\n"
    "                   modes and times; symbolic links are left out, and what cannot be read\n"
    "                   or stored, which makes the status 1\n"
    "  --resume         go on where the last attempt was cut; with -r, pass over files that\n"
    "                   have the same size and time already\n"
    "  --in-place       write over a file that is there, and do not replace it: it keeps its\n"
    "                   owner and its hard links, and can be a mount\n"
    "  --no-checksum    do not compare the content's SHA-256\n"
    "  --no-reply       put to an old server, which does not say whether it stored the file\n"
    "\n"
    "  --key-file FILE  prove to the server that this client holds the key in FILE\n"
    "  --seal           have the server prove the key too, and encrypt all that is sent; the\n"
    "                   server needs --seal as well\n"
    "  --id ID          the name of this client's key in the server's --keys\n"
    "  --name NAME      the server's --name\n"
    "  --help           show this and exit\n"
    "\n"
    "Where standard error is a terminal it shows how far a transfer is.\n";

enum {
    PIECE = 1 << 16, /* bytes that are copied at once */
    BAR_WIDTH = 40,
    BAR_MS = 100,
    BUSY_MS = 3000, /* wait while a file is busy */
    RETRY_MS = 100
};

/* The options of requests are the library's flags. */
enum {
    TREE = FRAME_FILE_TREE,
    GET = TREE | FRAME_FILE_RESUME | FRAME_FILE_IN_PLACE | FRAME_FILE_NO_CHECKSUM,
    PUT = GET | FRAME_FILE_NO_REPLY
};

struct request;

/* A word that begins a request, its options and its number of names. */
struct verb {
    const char *name;
    int options, least, most;
    int (*perform)(struct frame_connection *c, const struct request *request);
};

struct request {
    const struct verb *verb;
    uint32_t flags;
    const char *from, *to;
};

/* ---- what is shown */

/* One line for one file, whatever its name. */
static void print_file(FILE *out, const struct frame_file_info *info, const char *name)
{
    static const char *const kinds[] = {
        [FRAME_FILE_REGULAR] = "file", [FRAME_FILE_DIRECTORY] = "dir",
        [FRAME_FILE_SYMLINK] = "symlink", [FRAME_FILE_OTHER] = "other"};
    time_t seconds = info->mtime_ms / 1000 - (info->mtime_ms % 1000 < 0);
    char text[40] = "";
    struct tm parts;

    if (gmtime_r(&seconds, &parts) != NULL)
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    fprintf(out, "%s %04" PRIo32 " %" PRIu64 " %s ", kinds[info->kind], info->mode,
            info->file_size, text);
    for (const unsigned char *at = (const unsigned char *)name; *at != '\0'; at++)
        if (*at == '\\')
            fputs("\\\\", out);
        else if (*at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) /* U+0080 to U+009F */
            fprintf(out, "\\xc2\\x%02x", *++at);
        else if (*at < ' ' || *at == 0x7f)
            fprintf(out, "\\x%02x", *at);
        else
            putc(*at, out);
    putc('\n', out);
}

/* Text is formatted in memory first: printf() would lose parts of it on a non-blocking standard
 * output. */
static struct {
    char *bytes;
    size_t len;
} shown;

static FILE *open_text(void)
{
    FILE *out = open_memstream(&shown.bytes, &shown.len);
    if (out == NULL)
        fail("out of memory");
    return out;
}

static void show_text(FILE *out)
{
    if (fclose(out) != 0)
        fail("out of memory");
    show(STDOUT_FILENO, shown.bytes, shown.len);
    free(shown.bytes);
}

struct bar {
    int64_t next_ms; /* when it is drawn again */
};

static int draw(void *context, const char *name, uint64_t done, uint64_t total)
{
    (void)name;
    static const char full[] = "########################################";
    static const char empty[] = "----------------------------------------";
    struct bar *bar = context;
    int64_t ms = now_ms();
    if (ms >= bar->next_ms) {
        double part = total > 0 ? (double)done / (double)total : 1;
        int filled = (int)(part * BAR_WIDTH);
        fprintf(stderr, "\r[%.*s%.*s] %3.0f%%", filled, full, BAR_WIDTH - filled, empty,
                part * 100);
        bar->next_ms = ms + BAR_MS;
    }
    return 0;
}

static void wipe(const struct bar *bar)
{
    if (bar->next_ms > 0)
        fprintf(stderr, "\r%*s\r", BAR_WIDTH + 7, "");
}

/* ---- standard input and output */

static bool is_standard(const char *local, const char *device)
{
    return strcmp(local, "-") == 0 || strcmp(local, device) == 0;
}

static FILE *temporary(void)
{
    FILE *file = tmpfile();
    if (file == NULL)
        fail("cannot make a temporary file: %s", strerror(errno));
    return file;
}

/* The number of bytes that were read, 0 at the end. Waits also if fd does not block. */
static size_t read_piece(int fd, char *piece)
{
    struct pollfd input = {.fd = fd, .events = POLLIN};
    ssize_t count;
    while ((count = read(fd, piece, PIECE)) < 0)
        if (errno == EAGAIN)
            poll(&input, 1, -1);
        else if (errno != EINTR)
            fail("cannot read the input: %s", strerror(errno));
    return (size_t)count;
}

/* A copy of what comes from standard input or a pipe: its length is needed before it is sent.
 * NULL for other files. */
static FILE *copy_of(const char *local)
{
    char piece[PIECE];
    struct stat found;
    size_t count;
    int fd = STDIN_FILENO;
    if (!is_standard(local, "/dev/stdin")) {
        if (stat(local, &found) != 0 || !S_ISFIFO(found.st_mode))
            return NULL;
        if ((fd = open(local, O_RDONLY | O_CLOEXEC)) < 0)
            fail("%s: %s", local, strerror(errno));
    }
    FILE *copy = temporary();
    while ((count = read_piece(fd, piece)) > 0)
        if (fwrite(piece, 1, count, copy) != count)
            fail("cannot write a temporary file: %s", strerror(errno));
    if (fflush(copy) != 0)
        fail("cannot write a temporary file: %s", strerror(errno));
    if (fd != STDIN_FILENO)
        close(fd);
    rewind(copy);
    return copy;
}

/* Writes what was fetched to standard output. */
static void show_content(FILE *content)
{
    char piece[PIECE];
    size_t count;
    rewind(content);
    while ((count = read_piece(fileno(content), piece)) > 0)
        show(STDOUT_FILENO, piece, count);
}

/* ---- requests */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* Puts or gets. With --resume it waits while the file is busy: the last attempt may have been
 * interrupted just now. Once that is silent for 2 s, this one takes the file over. */
static int move(struct frame_connection *c, bool put, const struct frame_file_transfer *what,
                struct frame_file_result *result)
{
    int64_t end = now_ms() + BUSY_MS;
    for (;;) {
        int code = (put ? frame_file_put : frame_file_get)(c, what, FRAME_NO_TIMEOUT, result);
        if (code != FRAME_EREMOTE_BUSY || !(what->flags & FRAME_FILE_RESUME) || now_ms() >= end)
            return code;
        usleep(RETRY_MS * 1000);
    }
}

/* The file of this name in a directory, which may end with a slash. */
static void join(char *path, size_t size, const char *directory, const char *name)
{
    size_t len = strlen(directory);
    const char *slash = len > 0 && directory[len - 1] == '/' ? "" : "/";
    if ((size_t)snprintf(path, size, "%s%s%s", directory, slash, name) >= size)
        fail("the name is too long: %s", directory);
}

/* Where a single file goes: into a directory, if its name is that of one. */
static const char *target_of(const struct request *request, bool put, char *path, size_t size)
{
    const char *to = request->to;
    struct stat found;
    size_t len = strlen(to);
    bool within = put ? len > 0 && to[len - 1] == '/'
                      : stat(to, &found) == 0 && S_ISDIR(found.st_mode);
    if (!within || request->flags & TREE)
        return to;
    join(path, size, to, last_part(request->from));
    return path;
}

/* Whether -r is for a single file. */
static bool is_single(struct frame_connection *c, const struct request *request, bool put)
{
    struct frame_file_info info = FRAME_FILE_INFO_INIT;
    struct stat found;
    if (put)
        return stat(request->from, &found) == 0 && !S_ISDIR(found.st_mode);
    return frame_file_stat(c, request->from, 0, FRAME_NO_TIMEOUT, &info) == 0 &&
           info.kind == FRAME_FILE_REGULAR;
}

static void show_transfer(const struct frame_file_transfer *what, const char *verb,
                          const struct frame_file_result *result)
{
    FILE *out = open_text();
    fprintf(out, "%s %s: %" PRIu64 " bytes", verb, what->name, result->bytes);
    if (what->flags & TREE)
        fprintf(out, ", files: %" PRIu64 ", directories: %" PRIu64 ", left out: %" PRIu64 "\n",
                result->files, result->directories, result->skipped + result->failed);
    else
        fprintf(out, "%s%s\n", result->sha256[0] != '\0' ? ", sha256 " : "", result->sha256);
    show_text(out);
}

static int transfer(struct frame_connection *c, const struct request *given)
{
    char path[2 * PATH_MAX];
    struct request request = *given;
    struct frame_file_transfer what = FRAME_FILE_TRANSFER_INIT;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    bool put = strcmp(request.verb->name, "put") == 0;
    bool shown = !put && is_standard(request.to, "/dev/stdout");
    struct bar bar = {0};

    what.flags = request.flags & TREE ? FRAME_FILE_PRESERVE : 0;
    if (request.flags & TREE && is_single(c, &request, put))
        request.flags &= ~(uint32_t)TREE;
    what.flags |= request.flags;
    const char *to = target_of(&request, put, path, sizeof path);
    FILE *content = shown ? temporary() : put ? copy_of(request.from) : NULL;
    what.name = put ? to : request.from;
    if (content != NULL)
        what.fd = fileno(content);
    else
        what.path = put ? request.from : to;
    if (isatty(STDERR_FILENO)) {
        what.progress = draw;
        what.context = &bar;
    }
    int code = move(c, put, &what, &result);
    wipe(&bar);
    if (shown && code == 0)
        show_content(content);
    else if (code == 0 || code == FRAME_EINCOMPLETE)
        show_transfer(&what, request.verb->name, &result);
    if (content != NULL)
        fclose(content);
    return code;
}

static int show_stat(struct frame_connection *c, const struct request *request)
{
    struct frame_file_info info = FRAME_FILE_INFO_INIT;
    int code = frame_file_stat(c, request->from, 0, FRAME_NO_TIMEOUT, &info);
    if (code == 0) {
        FILE *out = open_text();
        print_file(out, &info, request->from);
        show_text(out);
    }
    return code;
}

static int show_list(struct frame_connection *c, const struct request *request)
{
    struct frame_file_info info = FRAME_FILE_INFO_INIT;
    struct frame_file_listing *list;
    const char *name;
    int64_t count = frame_file_list(c, request->from, FRAME_NO_TIMEOUT, &list);
    if (count < 0)
        return (int)count;
    FILE *out = open_text();
    for (size_t i = 0; (name = frame_file_listing_entry(list, i, &info, NULL)) != NULL; i++)
        print_file(out, &info, name);
    show_text(out);
    frame_file_listing_free(list);
    return 0;
}

/* ---- words */

static const struct verb verbs[] = {{"put", PUT, 1, 2, transfer},
                                    {"get", GET, 1, 2, transfer},
                                    {"stat", 0, 1, 1, show_stat},
                                    {"list", 0, 0, 1, show_list}};

static void unknown_option(int option, const char *word)
{
    if (option == TREE || (option == '?' && optopt > ' '))
        complain("unknown option -%c, see --help", option == TREE ? 'r' : optopt);
    else
        complain("unknown option %.*s, see --help", (int)strcspn(word, "="), word);
}

/* Standard input has no name, and standard output takes one file from its beginning. */
static bool fits_standard(const struct request *request, int names)
{
    bool put = request->verb->options == PUT, get = request->verb->options == GET;
    if (put && names == 1 && strcmp(request->from, "-") == 0)
        complain("put - needs a REMOTE, see --help");
    else if (put && request->flags & TREE && is_standard(request->from, "/dev/stdin"))
        complain("-r does not go with standard input, see --help");
    else if (get && request->flags & (TREE | FRAME_FILE_RESUME | FRAME_FILE_IN_PLACE) &&
             is_standard(request->to, "/dev/stdout"))
        complain("-r, --resume and --in-place do not go with standard output, see --help");
    else
        return true;
    return false;
}

/* Reads a request of count words and a NULL; false after a message. */
static bool read_request(struct request *request, int count, char **words)
{
    static const struct option known[] = {
        {"resume", no_argument, NULL, FRAME_FILE_RESUME},
        {"in-place", no_argument, NULL, FRAME_FILE_IN_PLACE},
        {"no-checksum", no_argument, NULL, FRAME_FILE_NO_CHECKSUM},
        {"no-reply", no_argument, NULL, FRAME_FILE_NO_REPLY},
        {NULL, 0, NULL, 0},
    };
    size_t verb = 0, verbs_count = sizeof verbs / sizeof *verbs;
    int option;

    *request = (struct request){.from = "", .to = ""};
    while (verb < verbs_count && strcmp(verbs[verb].name, words[0]) != 0)
        verb++;
    if (verb == verbs_count) {
        complain("no request is called %s, see --help", words[0]);
        return false;
    }
    request->verb = &verbs[verb];
    optind = 0; /* from the start */
    while ((option = getopt_long(count, words, "+r", known, NULL)) != -1) {
        if (option == 'r')
            option = TREE;
        if (option == '?' || !(request->verb->options & option)) {
            unknown_option(option, words[optind - 1]);
            return false;
        }
        request->flags |= (uint32_t)option;
    }
    if ((~request->flags & (TREE | FRAME_FILE_NO_REPLY)) == 0) {
        complain("-r and --no-reply do not go together, see --help");
        return false;
    }
    words += optind;
    count -= optind;
    if (count < request->verb->least || count > request->verb->most) {
        complain("%s takes %d to %d names, see --help", request->verb->name, request->verb->least,
              request->verb->most);
        return false;
    }
    if (count > 0) {
        /* A shell adds a slash to the name of a directory that it completes. */
        for (size_t len = strlen(words[0]); len > 1 && words[0][len - 1] == '/'; len--)
            words[0][len - 1] = '\0';
        request->from = words[0];
        request->to = count > 1 ? words[1] : last_part(words[0]);
    }
    return fits_standard(request, count);
}

/* Runs one request on its own connection: a transfer that fails halfway breaks it. */
static int perform(const struct arguments *a, int count, char **words)
{
    struct request request;
    if (!read_request(&request, count, words))
        return exit_failure;
    struct frame_connection *c = connect_to(a, 0);
    int code = request.verb->perform(c, &request);
    if (code != 0)
        complain("%s", reason_of(code));
    disconnect(c);
    return code == 0 ? EXIT_SUCCESS : exit_failure;
}

/* Splits a line at its blanks that are not in quotes and have no backslash before them, as a
 * shell does; words has room for as many as there can be, and a NULL. Returns -1 if a quote is
 * not closed. */
static int split(char *line, char **words)
{
    char *in = line, *out = line, quote = '\0';
    int count = 0;
    while (*(in += strspn(in, " \t")) != '\0') {
        words[count++] = out;
        for (; *in != '\0' && (quote != '\0' || strchr(" \t", *in) == NULL); in++) {
            if (quote == '\0' ? strchr("'\"", *in) != NULL : *in == quote) {
                quote = quote == '\0' ? *in : '\0';
                continue;
            }
            if (*in == '\\' && quote != '\'' && in[1] != '\0' &&
                (quote == '\0' || strchr("\"\\", in[1]) != NULL))
                in++;
            *out++ = *in;
        }
        in += *in != '\0';
        *out++ = '\0';
    }
    words[count] = NULL;
    return quote == '\0' ? count : -1;
}

/* Runs a line of the prompt. */
static int perform_line(const struct arguments *a, char *line)
{
    char **words = calloc(strlen(line) / 2 + 2, sizeof *words);
    if (words == NULL)
        fail("out of memory");
    int count = split(line, words), status = exit_failure;
    if (count < 0)
        complain("a quote is not closed, see --help");
    else
        status = perform(a, count, words);
    free(words);
    return status;
}

int main(int argc, char **argv)
{
    char *line;
    int count = 0, status = EXIT_SUCCESS;

    struct arguments a = read_arguments(argc, argv, "ksIN", help);
    while (a.request[count] != NULL)
        count++;
    if (count > 0)
        status = perform(&a, count, a.request);
    else
        while ((line = next_request(&a)) != NULL)
            status = perform_line(&a, line);
    free_arguments(&a);
    return status;
}
