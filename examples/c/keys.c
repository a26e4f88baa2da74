/* Keys of the example programs: which options go together, and both ends of the handshake. */

#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>

enum { SEAL_KEY = 32, LONGEST_KEY = 1024, LONGEST_NAME = 64 };

#define TOO_SHORT "%s: %d bytes are too few for --seal, which needs %d random ones"

/* ---- the command line */

static bool is_name(const char *text)
{
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                              "0123456789._-");
    return text[len] == '\0' && len <= LONGEST_NAME;
}

void check_keys(const struct arguments *a, bool server)
{
    const char *alone = a->keys != NULL ? "--keys" : a->id != NULL ? "--id" : "--name";

    if (!a->seal && (a->keys != NULL || a->id != NULL || a->name != NULL))
        fail("%s needs --seal, see --help", alone);
    if (a->seal && a->plain)
        fail("--seal and --plain do not go together, see --help");
    if (a->seal && strcmp(a->wire, "frame") != 0)
        fail("--seal needs the frame wire, see --help");
    if (a->keys != NULL && a->key_file != NULL)
        fail("--keys and --key-file do not go together, see --help");
    if (a->seal && a->keys == NULL && a->key_file == NULL)
        fail("--seal needs --key-file%s, see --help", server ? " or --keys" : "");
    if (a->name != NULL && !is_name(a->name))
        fail("--name %s is not 0 to 64 of A-Z a-z 0-9 . _ -", a->name);
    if (a->id != NULL && (!is_name(a->id) || *a->id == '\0' || *a->id == '.'))
        fail("--id %s is not 1 to 64 of A-Z a-z 0-9 . _ - without a dot at the start", a->id);
    if (a->seal && a->key_file != NULL && a->key_len < SEAL_KEY)
        fail(TOO_SHORT, a->key_file, (int)a->key_len, SEAL_KEY);
}

/* ---- a client */

void prove_to(struct frame_connection *c, const struct arguments *a)
{
    struct auth_options opts = AUTH_OPTIONS_INIT;
    int code;

    opts.flags = a->seal ? 0 : AUTH_PLAIN;
    opts.key_id = a->id;
    opts.server_name = a->name;
    if (a->key_len == 0 ||
        (code = frame_connection_auth_client(c, a->key, a->key_len, &opts)) == 0)
        return;
    if (!a->seal && (code == FRAME_ETIMEDOUT || code == FRAME_ECLOSED))
        fail("%s (a sealed server needs --seal)", frame_last_error());
    fail("%s", frame_last_error());
}

/* ---- a server */

/* Why keys cannot be used. */
static char why[1024];

/* Whether the key in a file is long enough to seal. A file that is no key is left to
 * auth_keyring_load(). */
static bool is_long(const char *path)
{
    unsigned char key[LONGEST_KEY];
    int len = auth_key_load(path, 0, key, sizeof key);
    explicit_bzero(key, sizeof key);
    if (len >= 0 && len < SEAL_KEY)
        snprintf(why, sizeof why, TOO_SHORT, path, len, SEAL_KEY);
    return len < 0 || len >= SEAL_KEY;
}

static bool are_long(const char *directory)
{
    char path[PATH_MAX];
    DIR *entries = opendir(directory);
    const struct dirent *entry;
    bool good = true;

    if (entries == NULL) {
        snprintf(why, sizeof why, "%s: %s", directory, strerror(errno));
        return false;
    }
    while (good && (entry = readdir(entries)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        good = entry->d_name[0] == '.' || is_long(path);
    }
    closedir(entries);
    return good;
}

/* Puts the keys into the ring, all or none. */
static bool load(struct auth_keyring *ring, const struct arguments *a)
{
    const char *path = a->keys != NULL ? a->keys : a->key_file;
    if (a->seal && !(a->keys != NULL ? are_long(path) : is_long(path)))
        return false;
    int code = auth_keyring_load(ring, path, 0);
    if (code != 0)
        snprintf(why, sizeof why, "%s", frame_last_error());
    return code == 0;
}

struct auth_keyring *load_keys(const struct arguments *a)
{
    struct auth_keyring *ring;

    if (!has_keys(a))
        return NULL;
    if (auth_keyring_new(&ring) != 0)
        fail("%s", frame_last_error());
    if (!load(ring, a))
        fail("%s", why);
    return ring;
}

void load_keys_again(struct auth_keyring *ring, const struct arguments *a)
{
    if (load(ring, a))
        complain("the keys were read again");
    else
        complain("the keys stay as they are: %s", why);
}

bool has_keys(const struct arguments *a)
{
    return a->keys != NULL || a->key_file != NULL;
}

void log_client(int fd, const char *key_id, const char *what, const char *why)
{
    char address[64], reason[1024];
    snprintf(reason, sizeof reason, "%s", why);
    if (frame_address(fd, true, address, sizeof address) < 0)
        strcpy(address, "a client");
    complain(*key_id == '\0' ? "%s%s: %s%s" : "%s (%s): %s%s", address, key_id, what, reason);
}
