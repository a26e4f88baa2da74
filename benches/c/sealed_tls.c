/* OpenSSL's TLS 1.3 with a shared key and forward secrecy (X25519). */

#include "sealed.h"

#include <openssl/ssl.h>

static const unsigned char key[48] = "0123456789abcdef0123456789abcdef";
static const char id[] = "bench";
static SSL_CTX *of_client, *of_server;
/* The number of the cipher in TLS. */
static unsigned char number[2] = {0x13, 0x02};

struct session {
    SSL *ssl;
    int fd;
};

static void must(int result, const char *what)
{
    if (result != 1)
        errx(1, "OpenSSL: %s", what);
}

static SSL_SESSION *shared(SSL *ssl)
{
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, number);
    SSL_SESSION *session = SSL_SESSION_new();
    size_t len = number[1] == 2 ? 48 : 32;
    must(SSL_SESSION_set1_master_key(session, key, len), "the key");
    must(SSL_SESSION_set_cipher(session, cipher), "the cipher");
    must(SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION), "TLS 1.3");
    return session;
}

static int use(SSL *ssl, const EVP_MD *digest, const unsigned char **name, size_t *len,
               SSL_SESSION **session)
{
    (void)digest;
    *name = (const unsigned char *)id;
    *len = sizeof id - 1;
    *session = shared(ssl);
    return 1;
}

static int find(SSL *ssl, const unsigned char *name, size_t len, SSL_SESSION **session)
{
    bool is_known = len == sizeof id - 1 && memcmp(name, id, len) == 0;
    *session = is_known ? shared(ssl) : NULL;
    return 1;
}

static SSL_CTX *context(const SSL_METHOD *method, const char *suites)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    must(SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION), "TLS 1.3");
    must(SSL_CTX_set_ciphersuites(ctx, suites), "the suite");
    must(SSL_CTX_set1_groups_list(ctx, "X25519"), "X25519");
    must(SSL_CTX_set_num_tickets(ctx, 0), "no tickets");
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_psk_use_session_callback(ctx, use);
    SSL_CTX_set_psk_find_session_callback(ctx, find);
    /* As much in a read as the others get. */
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, STEP + 2048);
    return ctx;
}

static void choose(const char *suite)
{
    bool is_gcm = strcmp(suite, "aesgcm") == 0;
    const char *suites = is_gcm ? "TLS_AES_256_GCM_SHA384" : "TLS_CHACHA20_POLY1305_SHA256";
    number[1] = is_gcm ? 2 : 3;
    of_client = context(TLS_client_method(), suites);
    of_server = context(TLS_server_method(), suites);
}

static struct session *begin(int fd, bool is_client)
{
    struct session *s = allocated(sizeof *s);
    *s = (struct session){SSL_new(is_client ? of_client : of_server), fd};
    must(SSL_set_fd(s->ssl, fd), "the descriptor");
    must(is_client ? SSL_connect(s->ssl) : SSL_accept(s->ssl), "the handshake");
    if (!SSL_session_reused(s->ssl))
        errx(1, "the key was not used");
    return s;
}

static void give(struct session *s, const void *bytes, size_t len)
{
    size_t written;
    must(SSL_write_ex(s->ssl, bytes, len, &written), "write");
}

static size_t take_some(struct session *s, void *bytes, size_t room)
{
    size_t got = 0;
    if (SSL_read_ex(s->ssl, bytes, room, &got) != 1 &&
        SSL_get_error(s->ssl, 0) != SSL_ERROR_ZERO_RETURN)
        errx(1, "OpenSSL: read");
    return got;
}

static void rest(struct session *s)
{
    SSL_set_mode(s->ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_free_buffers(s->ssl);
}

static void finish(struct session *s)
{
    SSL_shutdown(s->ssl);
    SSL_free(s->ssl);
    close(s->fd);
    free(s);
}
