/* The least that a handshake takes: connect, a challenge from getrandom(2), HMAC-SHA256 by
 * OpenSSL, the answer, and the close that tells the client of the verdict.
 *
 *   handshakes_limit server
 *   handshakes_limit client PORT COUNT    prints how many there are in a second */

#include "tcp.h"

#include <openssl/evp.h>
#include <sys/random.h>

static const unsigned char key[] = "0123456789abcdef0123456789abcdef";
enum { SIZE = 32 };

/* SHA-256 that has taken in the key's inner or outer pad, and one to work with. */
static EVP_MD_CTX *inner, *outer, *work;

static EVP_MD_CTX *begun(unsigned char pad)
{
    unsigned char block[64];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (unsigned char)((i < SIZE ? key[i] : 0) ^ pad);
    if (hash == NULL || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1 ||
        EVP_DigestUpdate(hash, block, sizeof block) != 1)
        errx(1, "SHA-256");
    return hash;
}

static void finish(const EVP_MD_CTX *from, const unsigned char *data, unsigned char *digest)
{
    if (EVP_MD_CTX_copy_ex(work, from) != 1 || EVP_DigestUpdate(work, data, SIZE) != 1 ||
        EVP_DigestFinal_ex(work, digest, NULL) != 1)
        errx(1, "SHA-256");
}

/* HMAC-SHA256. */
static void answer_to(const unsigned char *challenge, unsigned char *answer)
{
    finish(inner, challenge, answer);
    finish(outer, answer, answer);
}

static void serve(int listener)
{
    for (;;) {
        unsigned char challenge[SIZE], expected[SIZE], answer[SIZE];
        int fd = accept_one(listener);
        if (getrandom(challenge, SIZE, 0) != SIZE)
            err(1, "getrandom");
        write_all(fd, challenge, SIZE);
        if (!recv_all(fd, answer, SIZE))
            errx(1, "no answer");
        answer_to(challenge, expected);
        if (memcmp(answer, expected, SIZE) != 0)
            errx(1, "a wrong answer");
        close(fd);
    }
}

static void client(int port, long count)
{
    double started = now();
    for (long i = 0; i < count; i++) {
        unsigned char challenge[SIZE], answer[SIZE];
        int fd = connect_to(port);
        if (!recv_all(fd, challenge, SIZE))
            errx(1, "no challenge");
        answer_to(challenge, answer);
        write_all(fd, answer, SIZE);
        if (read(fd, answer, 1) != 0)
            err(1, "no end");
        close(fd);
    }
    printf("%.1f\n", (double)count / (now() - started));
}

int main(int argc, char **argv)
{
    inner = begun(0x36);
    outer = begun(0x5c);
    work = begun(0);
    if (argc == 2 && strcmp(argv[1], "server") == 0)
        serve(listen_anywhere());
    else if (argc == 4 && strcmp(argv[1], "client") == 0)
        client(atoi(argv[2]), atol(argv[3]));
    else
        errx(2, "see the comment at the beginning");
    return 0;
}
