/* Sealed streams in programs that read and write themselves. */
#include "check.h"

#include <sys/stat.h>

static const char KEY[] = "thirty-two bytes of a shared key";

enum { KEY_LEN = sizeof KEY - 1 };

static struct auth_keyring *ring_of(const char *id)
{
    struct auth_keyring *ring;
    CHECK_RETURNS(0, auth_keyring_new(&ring));
    CHECK_RETURNS(0, auth_keyring_add(ring, id, KEY, KEY_LEN, 0));
    return ring;
}

struct ends {
    struct frame_seal *client, *server;
};

static struct ends ends_of(struct auth_keyring *ring, const char *id, const char *name)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    struct ends ends;
    opts.server_name = "db";
    CHECK_RETURNS(0, frame_seal_server(ring, &opts, &ends.server));
    opts.server_name = name;
    opts.key_id = id;
    CHECK_RETURNS(0, frame_seal_client(KEY, KEY_LEN, &opts, &ends.client));
    return ends;
}

static void free_ends(struct ends *ends)
{
    frame_seal_free(ends->client);
    frame_seal_free(ends->server);
}

/* Gives received bytes to one end, at most step at a time. */
static int receive(struct frame_seal *to, const char *bytes, size_t len, size_t step)
{
    while (len > 0) {
        size_t room = 0, n;
        void *memory = frame_seal_reserve(to, &room);
        if (memory == NULL)
            return -1;
        CHECK(room >= 1);
        n = len < step ? len : step;
        n = n < room ? n : room;
        memcpy(memory, bytes, n);
        CHECK_RETURNS(0, frame_seal_commit(to, n));
        bytes += n;
        len -= n;
    }
    return 0;
}

/* All that one end wants to send. */
static size_t output(struct frame_seal *from, char *to, size_t cap)
{
    const void *bytes;
    size_t len = 0, written = 0;
    int64_t n;
    while ((n = frame_seal_output(from, written, &bytes)) > 0) {
        CHECK(len + (size_t)n <= cap);
        /* Half of it is sent at a time. */
        written = ((size_t)n + 1) / 2;
        memcpy(to + len, bytes, written);
        len += written;
    }
    CHECK(n == 0 && bytes == NULL);
    return len;
}

static int64_t read_to(struct frame_seal *from, char *to, size_t *len)
{
    const void *bytes;
    int64_t n;
    while ((n = frame_seal_read(from, &bytes)) > 0) {
        memcpy(to + *len, bytes, (size_t)n);
        *len += (size_t)n;
    }
    CHECK(bytes == NULL);
    return n;
}

static char wire[1 << 20], text[1 << 19], seen[1 << 19];

/* Passes what one end sends to the other, which reads; the result of the last read. */
static int64_t pass(struct frame_seal *from, struct frame_seal *to, size_t step, size_t *len)
{
    size_t sent = output(from, wire, sizeof wire);
    CHECK(receive(to, wire, sent, step) == 0);
    return read_to(to, seen, len);
}

static void a_conversation_in_pieces_of_every_size(void)
{
    static const size_t steps[] = {1, 7, 1000, sizeof wire};
    struct auth_keyring *ring = ring_of("web-1");
    size_t i, k;
    for (i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7 + i / 251);
    for (i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct auth_result ours = AUTH_RESULT_INIT, theirs = AUTH_RESULT_INIT;
        struct ends ends = ends_of(ring, "web-1", "db");
        size_t len = 0;
        CHECK_RETURNS(FRAME_ESTATE, frame_seal_proof(ends.client, &ours));
        /* It waits for the handshake. */
        CHECK_RETURNS(0, frame_seal_write(ends.client, "early", 5, false));
        CHECK_RETURNS(FRAME_ESTATE, frame_seal_write(ends.client, text, 65536, false));
        CHECK_RETURNS(0, pass(ends.client, ends.server, steps[i], &len));
        CHECK_RETURNS(FRAME_ESTATE, frame_seal_proof(ends.server, &theirs));
        CHECK_RETURNS(0, pass(ends.server, ends.client, steps[i], &len));
        CHECK_RETURNS(0, frame_seal_proof(ends.client, &ours));
        CHECK(len == 0);
        CHECK_RETURNS(0, pass(ends.client, ends.server, steps[i], &len));
        CHECK(len == 5 && memcmp(seen, "early", 5) == 0);
        CHECK_RETURNS(0, frame_seal_proof(ends.server, &theirs));
        CHECK(strcmp(theirs.key_id, "web-1") == 0 && ours.suite == theirs.suite);
        CHECK(memcmp(ours.handshake_hash, theirs.handshake_hash, 32) == 0);

        for (k = 0; k < 2; k++) {
            struct frame_seal *from = k ? ends.server : ends.client;
            struct frame_seal *to = k ? ends.client : ends.server;
            size_t size = steps[i] == 1 ? 40000 : sizeof text;
            len = 0;
            CHECK_RETURNS(0, frame_seal_write(from, text, size, false));
            CHECK_RETURNS(0, pass(from, to, steps[i], &len));
            CHECK(len == size && memcmp(seen, text, len) == 0);
            len = 0;
            CHECK_RETURNS(0, frame_seal_write(from, "last", 4, true));
            CHECK_RETURNS(FRAME_ESTATE, frame_seal_write(from, NULL, 0, true));
            CHECK_RETURNS(FRAME_ETRUNCATED, k ? frame_seal_finish(to) : FRAME_ETRUNCATED);
            if (k)
                break;
            CHECK_RETURNS(FRAME_ECLOSED, pass(from, to, steps[i], &len));
            CHECK(len == 4 && memcmp(seen, "last", 4) == 0);
            CHECK_RETURNS(0, frame_seal_finish(to));
        }
        free_ends(&ends);
    }
    auth_keyring_free(ring);
}

static void what_was_changed_is_refused_for_good(void)
{
    struct auth_keyring *ring = ring_of(NULL);
    struct ends ends = ends_of(ring, NULL, "db");
    const void *bytes;
    size_t len = 0, sent;
    auth_keyring_free(ring); /* the seal keeps what it needs */
    CHECK_RETURNS(0, pass(ends.client, ends.server, 100, &len));
    CHECK_RETURNS(0, pass(ends.server, ends.client, 100, &len));
    CHECK_RETURNS(0, frame_seal_write(ends.client, "text", 4, false));
    sent = output(ends.client, wire, sizeof wire);
    wire[sent - 1] ^= 1;
    CHECK(receive(ends.server, wire, sent, sent) == 0);
    CHECK_RETURNS(FRAME_EAUTH, read_to(ends.server, seen, &len));
    CHECK(len == 0);
    CHECK_RETURNS(FRAME_EAUTH, frame_seal_read(ends.server, &bytes));
    CHECK_RETURNS(FRAME_EAUTH, frame_seal_write(ends.server, "x", 1, false));
    CHECK_RETURNS(FRAME_EAUTH, frame_seal_output(ends.server, 0, &bytes));
    CHECK(frame_seal_reserve(ends.server, &len) == NULL && len == 0);
    free_ends(&ends);
}

static void another_name_is_refused(void)
{
    struct auth_keyring *ring = ring_of("web-1");
    struct ends ends = ends_of(ring, "web-1", "web");
    size_t len = 0;
    CHECK_RETURNS(FRAME_EAUTH, pass(ends.client, ends.server, 100, &len));
    free_ends(&ends);
    auth_keyring_free(ring);
}

static void a_removed_key_and_a_fork_end_it(void)
{
    char directory[] = "/tmp/framefd-c-seal-XXXXXX", path[64];
    struct auth_keyring *ring = ring_of("web-1");
    struct ends ends = ends_of(ring, "web-1", "db");
    struct auth_result proof = AUTH_RESULT_INIT;
    const void *bytes;
    size_t len = 0;
    pid_t child;
    CHECK_RETURNS(0, pass(ends.client, ends.server, 100, &len));
    CHECK_RETURNS(0, pass(ends.server, ends.client, 100, &len));
    CHECK_RETURNS(0, pass(ends.client, ends.server, 100, &len));
    child = fork();
    if (child == 0) {
        CHECK_RETURNS(FRAME_EFORKED, frame_seal_write(ends.client, "x", 1, false));
        CHECK_RETURNS(FRAME_EFORKED, frame_seal_read(ends.client, &bytes));
        CHECK_RETURNS(FRAME_EFORKED, frame_seal_output(ends.client, 0, &bytes));
        CHECK_RETURNS(FRAME_EFORKED, frame_seal_proof(ends.client, &proof));
        free_ends(&ends);
        auth_keyring_free(ring);
        exit(0);
    }
    wait_for(child);
    CHECK_RETURNS(0, frame_seal_write(ends.server, "parent", 6, false));
    CHECK_RETURNS(0, pass(ends.server, ends.client, 100, &len));
    CHECK(len == 6);
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/other", directory);
    CHECK_RETURNS(0, auth_key_generate(path));
    CHECK_RETURNS(0, auth_keyring_load(ring, directory, 0));
    CHECK_RETURNS(FRAME_EAUTH, frame_seal_write(ends.server, "late", 4, false));
    CHECK(strstr(frame_last_error(), "web-1") != NULL);
    CHECK_RETURNS(FRAME_EAUTH, frame_seal_read(ends.server, &bytes));
    CHECK(unlink(path) == 0 && rmdir(directory) == 0);
    free_ends(&ends);
    auth_keyring_free(ring);
}

static void what_is_wrong_is_refused(void)
{
    struct auth_keyring *ring = ring_of("web-1");
    struct auth_options opts = AUTH_OPTIONS_INIT;
    struct auth_result proof = AUTH_RESULT_INIT;
    struct frame_seal *seal = (struct frame_seal *)&opts;
    struct ends ends = ends_of(ring, "web-1", "db");
    const void *bytes;
    size_t room, len;
    CHECK_RETURNS(FRAME_EKEY, frame_seal_client(KEY, 31, NULL, &seal));
    CHECK(seal == NULL);
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_client(NULL, 32, NULL, &seal));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_client(KEY, KEY_LEN, NULL, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_server(NULL, NULL, &seal));
    opts.timeout_ms = 1;
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_client(KEY, KEY_LEN, &opts, &seal));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_server(ring, &opts, &seal));
    opts.timeout_ms = 0;
    opts.flags = AUTH_PLAIN;
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_client(KEY, KEY_LEN, &opts, &seal));
    opts.flags = 0;
    opts.key_id = "a";
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_server(ring, &opts, &seal));

    CHECK(frame_seal_reserve(NULL, &room) == NULL && room == 0);
    CHECK(frame_seal_reserve(ends.server, &room) != NULL);
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_commit(ends.server, room + 1));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_commit(ends.server, 1));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_commit(NULL, 0));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_read(NULL, &bytes));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_read(ends.server, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_write(NULL, NULL, 0, false));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_write(ends.client, NULL, 1, false));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_output(NULL, 0, &bytes));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_output(ends.client, 0, NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_output(ends.client, 1000, &bytes));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_finish(NULL));
    CHECK_RETURNS(FRAME_EINVAL, frame_seal_proof(NULL, &proof));
    frame_seal_free(NULL);
    /* Nothing of that has done harm. */
    len = 0;
    CHECK_RETURNS(0, pass(ends.client, ends.server, 100, &len));
    CHECK_RETURNS(0, pass(ends.server, ends.client, 100, &len));
    CHECK_RETURNS(0, frame_seal_proof(ends.client, &proof));
    free_ends(&ends);
    auth_keyring_free(ring);
}

int main(void)
{
    a_conversation_in_pieces_of_every_size();
    what_was_changed_is_refused_for_good();
    another_name_is_refused();
    a_removed_key_and_a_fork_end_it();
    what_is_wrong_is_refused();
    return 0;
}
