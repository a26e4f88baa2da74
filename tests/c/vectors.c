/* Every row of tests/vectors through the C interface. Streams are read as files, whose
 * position tells how much of them was consumed. */
#include "check.h"

enum { LINE = 16 * 1024 + 2, COLUMNS = 8, BYTES = 256 * 1024 };

struct row {
    char line[LINE];
    const char *column[COLUMNS];
    int columns;
};

/* The next row of an index, without comments; false at its end. */
static bool next_row(FILE *index, struct row *row)
{
    char *rest;
    do {
        if (fgets(row->line, sizeof row->line, index) == NULL)
            return false;
    } while (row->line[0] == '#');
    rest = strchr(row->line, '\n');
    CHECK(rest != NULL);
    *rest = '\0';
    rest = row->line;
    for (row->columns = 0; rest != NULL; row->columns++) {
        CHECK(row->columns < COLUMNS);
        row->column[row->columns] = rest;
        rest = strchr(rest, '\t');
        if (rest != NULL)
            *rest++ = '\0';
    }
    return true;
}

static FILE *open_index(const char *folder)
{
    char path[256];
    FILE *index;
    CHECK(snprintf(path, sizeof path, "tests/vectors/%s/index.tsv", folder) < (int)sizeof path);
    index = fopen(path, "re");
    CHECK(index != NULL);
    return index;
}

/* Opens the file of a row, unless it is the one that is open already: rows of one file
 * are its reads, in order. */
static void open_file(const char *folder, const char *name, char open_name[256], int *fd)
{
    char path[512];
    if (strcmp(open_name, name) == 0)
        return;
    if (*fd >= 0)
        CHECK(close(*fd) == 0);
    CHECK(snprintf(open_name, 256, "%s", name) < 256);
    CHECK(snprintf(path, sizeof path, "tests/vectors/%s/%s", folder, name) < (int)sizeof path);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(*fd >= 0);
}

static int code_of(const char *result)
{
    static const struct {
        const char *name;
        int code;
    } codes[] = {
        {"ok", 0},
        {"CLOSED", FRAME_ECLOSED},
        {"TRUNCATED", FRAME_ETRUNCATED},
        {"BADLENGTH", FRAME_EBADLENGTH},
        {"AUTH", FRAME_EAUTH},
        {"TOOBIG", FRAME_ETOOBIG},
        {"BADJSON", FRAME_EBADJSON},
        {"BADFIELD", FRAME_EBADFIELD},
    };
    size_t i;
    for (i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(codes[i].name, result) == 0)
            return codes[i].code;
    check_failed(__FILE__, __LINE__, result);
    return 0;
}

static size_t unhex(const char *text, unsigned char *out, size_t cap)
{
    size_t len = strlen(text) / 2, i;
    unsigned byte;
    CHECK(len <= cap);
    for (i = 0; i < len; i++) {
        CHECK(sscanf(text + 2 * i, "%2x", &byte) == 1);
        out[i] = (unsigned char)byte;
    }
    return len;
}

/* Whether a column is what was received: itself, or "@" and how long it is. */
static bool fits(const char *column, const void *received, size_t len, bool is_hex)
{
    static unsigned char decoded[LINE];
    size_t expected;
    if (column[0] == '@')
        return strtoull(column + 1, NULL, 10) == len;
    if (strcmp(column, "-") == 0)
        return len == 0;
    if (is_hex) {
        expected = unhex(column, decoded, sizeof decoded);
        return expected == len && memcmp(decoded, received, len) == 0;
    }
    return strlen(column) == len && memcmp(column, received, len) == 0;
}

/* Checks len received bytes against those at an offset of the file. */
static void check_in_file(int fd, off_t at, const void *received, size_t len)
{
    static unsigned char bytes[BYTES];
    CHECK(len <= sizeof bytes);
    CHECK(pread(fd, bytes, len, at) == (ssize_t)len);
    CHECK(len == 0 || memcmp(bytes, received, len) == 0);
}

static int frames(void)
{
    static struct row row;
    char name[256] = "";
    int fd = -1, count = 0;
    FILE *index = open_index("frames");
    for (; next_row(index, &row); count++) {
        struct frame_options opts = FRAME_OPTIONS_INIT;
        struct frame *frame = (struct frame *)&opts;
        off_t start, consumed;
        CHECK(row.columns == 6);
        open_file("frames", row.column[0], name, &fd);
        if (strncmp(row.column[5], "max_header=", 11) == 0)
            opts.max_header = strtoull(row.column[5] + 11, NULL, 10);
        else if (strncmp(row.column[5], "max_body=", 9) == 0)
            opts.max_body = strtoull(row.column[5] + 9, NULL, 10);
        else
            CHECK(strcmp(row.column[5], "-") == 0);

        start = lseek(fd, 0, SEEK_CUR);
        if (frame_recv(fd, &frame, &opts) != code_of(row.column[1]))
            check_failed(name, count, frame_last_error());
        consumed = lseek(fd, 0, SEEK_CUR) - start;
        CHECK(consumed == strtoll(row.column[4], NULL, 10));
        if (strcmp(row.column[1], "ok") == 0) {
            size_t header_len, body_len;
            const char *header = frame_header(frame, &header_len);
            const void *body = frame_body(frame, &body_len);
            CHECK(consumed == (off_t)(4 + header_len + body_len));
            CHECK(header[header_len] == '\0');
            check_in_file(fd, start + 4, header, header_len);
            check_in_file(fd, start + 4 + (off_t)header_len, body, body_len);
            CHECK(fits(row.column[2], header, header_len, false));
            CHECK(fits(row.column[3], body, body_len, true));
        } else {
            CHECK(frame == NULL);
        }
        frame_free(frame);
    }
    CHECK(close(fd) == 0 && fclose(index) == 0);
    return count;
}

static int packets(void)
{
    static struct row row;
    char name[256] = "";
    int fd = -1, count = 0;
    FILE *index = open_index("packets");
    for (; next_row(index, &row); count++) {
        struct frame_options opts = FRAME_OPTIONS_INIT;
        struct frame *packet = (struct frame *)&opts;
        off_t start, consumed;
        CHECK(row.columns == 8);
        open_file("packets", row.column[0], name, &fd);
        opts.format = FRAME_FORMAT_PACKETS;
        opts.prefix = (uint32_t)strtoul(row.column[4], NULL, 10);
        if (strcmp(row.column[5], "big") == 0)
            opts.prefix |= FRAME_PREFIX_BIG_ENDIAN;
        if (strcmp(row.column[6], "unsigned") == 0)
            opts.prefix |= FRAME_PREFIX_UNSIGNED;
        opts.max_body = FRAME_NO_LIMIT;
        if (strcmp(row.column[7], "-") != 0)
            opts.max_body = strtoull(row.column[7], NULL, 10);

        start = lseek(fd, 0, SEEK_CUR);
        if (frame_recv(fd, &packet, &opts) != code_of(row.column[1]))
            check_failed(name, count, frame_last_error());
        consumed = lseek(fd, 0, SEEK_CUR) - start;
        CHECK(consumed == strtoll(row.column[3], NULL, 10));
        if (strcmp(row.column[1], "ok") == 0) {
            size_t len;
            const void *data = frame_body(packet, &len);
            check_in_file(fd, start + consumed - (off_t)len, data, len);
            CHECK(fits(row.column[2], data, len, true));
        } else {
            CHECK(packet == NULL);
        }
        frame_free(packet);
    }
    CHECK(close(fd) == 0 && fclose(index) == 0);
    return count;
}

static int answers(void)
{
    static struct row row;
    int count = 0;
    FILE *index = open_index("auth");
    for (; next_row(index, &row); count++) {
        struct auth_options opts = AUTH_OPTIONS_INIT;
        unsigned char key[1024], challenge[32], expected[32], answer[32];
        size_t key_len;
        int fd[2];
        CHECK(row.columns == 4);
        key_len = unhex(row.column[1], key, sizeof key);
        CHECK(unhex(row.column[2], challenge, 32) == 32);
        CHECK(unhex(row.column[3], expected, 32) == 32);
        opts.flags = AUTH_SHORT_KEY;
        socket_pair(fd);
        write_all(fd[0], challenge, 32);
        CHECK_RETURNS(0, auth_client(fd[1], key, key_len, &opts));
        CHECK(unread(fd[0]) == 32);
        read_all(fd[0], answer, 32);
        if (memcmp(answer, expected, 32) != 0)
            check_failed(__FILE__, __LINE__, row.column[0]);
        close_both(fd);
    }
    CHECK(fclose(index) == 0);
    return count;
}

/* A server that has the key refuses every one: a request for its age, if the tag is right, and
 * whatever has the tag of a reply. */
static int datagrams(void)
{
    static struct row row;
    static unsigned char datagram[1024];
    int count = 0;
    FILE *index = open_index("datagrams");
    for (; next_row(index, &row); count++) {
        struct exec_datagram_server *server;
        struct exec_result result = EXEC_RESULT_INIT;
        unsigned char key[1024];
        size_t key_len, len;
        int fd[2], expected;
        CHECK(row.columns == 5);
        key_len = unhex(row.column[1], key, sizeof key);
        len = unhex(row.column[4], datagram, sizeof datagram);
        expected = strcmp(row.column[3], "ok") == 0 ? FRAME_EACCES : code_of(row.column[3]);
        if (strcmp(row.column[2], "reply") == 0) /* one has the tag of a request all the same */
            expected = strcmp(row.column[0], "key-of-the-other-direction") == 0 ? FRAME_EBADFIELD
                                                                                : FRAME_EAUTH;
        CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd) == 0);
        CHECK(send(fd[0], datagram, len, 0) == (ssize_t)len);
        CHECK_RETURNS(0, exec_datagram_server_new(key, key_len, &server));
        CHECK_RETURNS(EXEC_IGNORED, exec_datagram_serve(server, fd[1], NULL, 10000, &result));
        if (result.error != expected)
            check_failed(__FILE__, __LINE__, row.column[0]);
        exec_datagram_server_free(server);
        close_both(fd);
    }
    CHECK(fclose(index) == 0);
    return count;
}

int main(void)
{
    CHECK(frames() > 100);
    CHECK(packets() > 20);
    CHECK(answers() > 10);
    CHECK(datagrams() > 30);
    return 0;
}
