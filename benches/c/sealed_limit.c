/* The limits: the least that a sealed stream takes with OpenSSL's ciphers: 64 KiB a write, in
 * records of 16 KiB, each encrypted from the caller's memory and decrypted into it, its tag
 * written and verified. The handshake is X25519 and HKDF with the shared key; the first record of
 * each end proves that it has the key. "none" is a bare TCP connection. */

#include "sealed.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

enum { RECORD = 16 * 1024, LENGTH = 2, TAG = 16, KEY = 32, SEALED = LENGTH + RECORD + TAG };

static unsigned char psk[] = "0123456789abcdef0123456789abcdef";
static EVP_CIPHER *cipher;
static EVP_KDF_CTX *kdf;

struct session {
    int fd;
    EVP_CIPHER_CTX *seal, *open;
    uint64_t sealed, opened;
    /* Of the direction that is read. */
    unsigned char *buffer;
    size_t start, end;
};

static void must(int result, const char *what)
{
    if (result != 1)
        errx(1, "OpenSSL: %s", what);
}

static void choose(const char *suite)
{
    if (strcmp(suite, "none") == 0)
        return;
    bool is_gcm = strcmp(suite, "aesgcm") == 0;
    EVP_KDF *hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    cipher = EVP_CIPHER_fetch(NULL, is_gcm ? "AES-256-GCM" : "ChaCha20-Poly1305", NULL);
    kdf = EVP_KDF_CTX_new(hkdf);
    must(hkdf != NULL && cipher != NULL && kdf != NULL, "the suite");
}

static EVP_CIPHER_CTX *keyed(const unsigned char *key, bool seals)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    must(EVP_CipherInit_ex2(ctx, cipher, key, NULL, seals, NULL), "a key");
    return ctx;
}

/* X25519, and two keys out of it. */
static void handshake(struct session *s, bool is_client)
{
    unsigned char ours[KEY], theirs[KEY], secret[KEY], keys[2 * KEY];
    size_t len = KEY;
    EVP_PKEY *private = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    must(EVP_PKEY_get_raw_public_key(private, ours, &len), "a public key");
    if (is_client)
        write_all(s->fd, ours, KEY);
    check(read_all(s->fd, theirs, KEY), "the peer's key");
    if (!is_client)
        write_all(s->fd, ours, KEY);
    EVP_PKEY *public = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, theirs, KEY);
    EVP_PKEY_CTX *derive = EVP_PKEY_CTX_new(private, NULL);
    must(EVP_PKEY_derive_init(derive), "X25519");
    must(EVP_PKEY_derive_set_peer(derive, public), "X25519");
    must(EVP_PKEY_derive(derive, secret, &len), "X25519");
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret, KEY),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, psk, KEY),
        OSSL_PARAM_construct_end(),
    };
    must(EVP_KDF_derive(kdf, keys, sizeof keys, params), "HKDF");
    s->seal = keyed(keys + (is_client ? 0 : KEY), true);
    s->open = keyed(keys + (is_client ? KEY : 0), false);
    EVP_PKEY_CTX_free(derive);
    EVP_PKEY_free(public);
    EVP_PKEY_free(private);
}

static struct session *begin(int fd, bool is_client)
{
    struct session *s = allocated(sizeof *s);
    *s = (struct session){.fd = fd};
    if (cipher != NULL)
        handshake(s, is_client);
    return s;
}

/* What both ways of a record share: returns the text's length. */
static void work(EVP_CIPHER_CTX *ctx, uint64_t number, const unsigned char *from, size_t len,
                 unsigned char *to, unsigned char *tag, bool seals)
{
    unsigned char nonce[12] = {0};
    int written;
    memcpy(nonce + 4, &number, sizeof number);
    must(EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, -1, NULL), "a nonce");
    if (!seals)
        must(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, tag), "a tag");
    must(EVP_CipherUpdate(ctx, to, &written, from, (int)len), "a record");
    must(EVP_CipherFinal_ex(ctx, to + written, &written), "the tag is wrong");
    if (seals)
        must(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, tag), "a tag");
}

static void give(struct session *s, const void *bytes, size_t len)
{
    static unsigned char out[STEP / RECORD * SEALED];
    size_t end = 0;
    if (cipher == NULL) {
        write_all(s->fd, bytes, len);
        return;
    }
    for (size_t at = 0; at < len;) {
        size_t here = len - at < RECORD ? len - at : RECORD;
        uint16_t length = (uint16_t)(here + TAG);
        memcpy(out + end, &length, LENGTH);
        work(s->seal, s->sealed++, (const unsigned char *)bytes + at, here, out + end + LENGTH,
             out + end + LENGTH + here, true);
        end += LENGTH + here + TAG;
        at += here;
    }
    write_all(s->fd, out, end);
}

/* Whether a whole record is in the buffer. */
static bool is_there(struct session *s, uint16_t *length)
{
    if (s->end - s->start < LENGTH)
        return false;
    memcpy(length, s->buffer + s->start, LENGTH);
    return s->end - s->start >= (size_t)LENGTH + *length;
}

static size_t take_some(struct session *s, void *bytes, size_t room)
{
    uint16_t length;
    if (cipher == NULL) {
        if (room == TRIP)
            return read_all(s->fd, bytes, room) ? room : 0;
        ssize_t got = read(s->fd, bytes, room);
        check(got >= 0, "read");
        return (size_t)got;
    }
    if (s->buffer == NULL)
        s->buffer = allocate(STEP + SEALED);
    while (!is_there(s, &length)) {
        memmove(s->buffer, s->buffer + s->start, s->end - s->start);
        s->end -= s->start;
        s->start = 0;
        ssize_t got = read(s->fd, s->buffer + s->end, STEP + SEALED - s->end);
        check(got >= 0, "read");
        if (got == 0)
            return 0;
        s->end += (size_t)got;
    }
    size_t len = (size_t)length - TAG;
    if (len > room)
        errx(1, "a record of %zu bytes", len);
    unsigned char *text = s->buffer + s->start + LENGTH;
    work(s->open, s->opened++, text, len, bytes, text + len, false);
    s->start += LENGTH + (size_t)length;
    return len;
}

static void rest(struct session *s)
{
    free(s->buffer);
    s->buffer = NULL;
    s->start = s->end = 0;
}

static void finish(struct session *s)
{
    EVP_CIPHER_CTX_free(s->seal);
    EVP_CIPHER_CTX_free(s->open);
    free(s->buffer);
    close(s->fd);
    free(s);
}
