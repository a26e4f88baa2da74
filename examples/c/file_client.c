/* Sends files to a server, and fetches them. */

#include "common.h"

#include <inttypes.h>

static const char help[] =
    "usage: file_client [--key-file FILE] HOST PORT [REQUEST]\n"
    "\n"
    "Does what REQUEST says, or each line of a prompt that quit or end of input ends:\n"
    "\n"
    "  put [--no-reply] LOCAL [REMOTE]  send a file; --no-reply is for an old server, which\n"
    "                                   does not say whether it stored it\n"
    "  get REMOTE [LOCAL]               fetch a file\n"
    "\n"
    "A second name that is left out is the last part of the first.\n"
    "\n"
    "  --key-file FILE  prove to the server that this client holds the key in FILE\n"
    "  --help           show this and exit\n";

enum { MAX_WORDS = 5 };

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* Sends or fetches one file, on a connection of its own: a transfer that fails half-way
 * leaves it of no more use. words ends with NULL. */
static int transfer(const struct arguments *a, char *const *words)
{
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    struct frame_file_result result = FRAME_FILE_RESULT_INIT;
    bool put = strcmp(words[0], "put") == 0, get = strcmp(words[0], "get") == 0;

    words++;
    if (put && words[0] != NULL && strcmp(words[0], "--no-reply") == 0) {
        opts.flags = FRAME_FILE_NO_REPLY;
        words++;
    }
    if (!(put || get) || words[0] == NULL || (words[1] != NULL && words[2] != NULL)) {
        warnx("neither put [--no-reply] LOCAL [REMOTE] nor get REMOTE [LOCAL]");
        return exit_failure;
    }
    const char *from = words[0], *to = words[1] != NULL ? words[1] : last_part(from);
    int fd = connect_to(a, SOCK_STREAM);
    int code = put ? frame_file_put_path(fd, to, from, &opts, &result)
                   : frame_file_get_path(fd, from, to, &opts, &result);
    close(fd);
    if (code != 0) {
        warnx("%s", frame_last_error());
        return exit_failure;
    }
    printf("%s %s: %" PRIu64 " bytes%s%s\n", put ? "put" : "get", put ? to : from, result.bytes,
           result.sha256[0] != '\0' ? ", sha256 " : "", result.sha256);
    return EXIT_SUCCESS;
}

/* Splits a line at its blanks; words has room for MAX_WORDS and a NULL. */
static void split(char *line, char **words)
{
    size_t count = 0;
    char *word = strtok(line, " \t");
    while (word != NULL && count < MAX_WORDS) {
        words[count++] = word;
        word = strtok(NULL, " \t");
    }
    words[count] = NULL;
}

int main(int argc, char **argv)
{
    char *line, *words[MAX_WORDS + 1];
    int status = EXIT_SUCCESS;

    struct arguments a = read_arguments(argc, argv, "k", help);
    if (a.request[0] != NULL)
        status = transfer(&a, a.request);
    else
        while ((line = next_request(&a)) != NULL) {
            split(line, words);
            status = transfer(&a, words);
        }
    free_arguments(&a);
    return status;
}
