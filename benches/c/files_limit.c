/* The least that a file on its way takes: read(2) and write(2) in steps of 1 MiB, into a
 * file that takes its name at the end, and, where both ends are to hash, SHA-256 by OpenSSL
 * in line. Nothing is parsed: the client's first byte says what it wants.
 *
 *   files_limit server DIRECTORY plain|hashed
 *   files_limit client PORT put|get plain|hashed SOURCE DEST    a name on the server is of
 *                                                               a file in its DIRECTORY
 *
 * The client prints MiB per second. */

#include "tcp.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>

enum { DIGEST = 32, NAME = 64 };

struct request {
    char get, hashed, name[NAME];
    int64_t size;
};

static char buffer[MIB];

/* Moves size bytes, and hashes them if asked to. */
static void move(int from, int to, int64_t size, bool hashed, unsigned char *digest)
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (hash == NULL || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1)
        errx(1, "SHA-256");
    while (size > 0) {
        ssize_t got = read(from, buffer, size < MIB ? (size_t)size : MIB);
        if (got <= 0)
            err(1, "the content ends too early");
        write_all(to, buffer, (size_t)got);
        if (hashed)
            EVP_DigestUpdate(hash, buffer, (size_t)got);
        size -= got;
    }
    EVP_DigestFinal_ex(hash, digest, NULL);
    EVP_MD_CTX_free(hash);
}

static void send_file(int fd, int file, int64_t size, bool hashed)
{
    unsigned char digest[DIGEST];
    move(file, fd, size, hashed, digest);
    if (hashed)
        write_all(fd, digest, DIGEST);
}

static void store_file(int fd, const char *name, int64_t size, bool hashed)
{
    unsigned char digest[DIGEST], theirs[DIGEST];
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0)
        err(1, "%s", temporary);
    move(fd, file, size, hashed, digest);
    if (hashed && (!recv_all(fd, theirs, DIGEST) || memcmp(digest, theirs, DIGEST) != 0))
        errx(1, "a wrong digest");
    if (fsync(file) != 0 || close(file) != 0 || rename(temporary, name) != 0)
        err(1, "%s", name);
}

static int open_file(const char *name, int64_t *size)
{
    struct stat stat;
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &stat) != 0)
        err(1, "%s", name);
    *size = stat.st_size;
    return file;
}

static void serve(int listener)
{
    for (;;) {
        struct request request;
        int fd = accept_one(listener);
        while (recv_all(fd, &request, sizeof request)) {
            if (request.get) {
                int file = open_file(request.name, &request.size);
                write_all(fd, &request.size, sizeof request.size);
                send_file(fd, file, request.size, request.hashed);
                close(file);
            } else {
                store_file(fd, request.name, request.size, request.hashed);
                write_all(fd, "", 1);
            }
        }
        close(fd);
    }
}

static void client(int fd, bool get, bool hashed, const char *source, const char *dest)
{
    struct request request = {.get = get, .hashed = hashed};
    char done;
    double started = now();
    snprintf(request.name, sizeof request.name, "%s", get ? source : dest);
    if (get) {
        write_all(fd, &request, sizeof request);
        if (!recv_all(fd, &request.size, sizeof request.size))
            errx(1, "no reply");
        store_file(fd, dest, request.size, hashed);
    } else {
        int file = open_file(source, &request.size);
        write_all(fd, &request, sizeof request);
        send_file(fd, file, request.size, hashed);
        if (!recv_all(fd, &done, 1))
            errx(1, "no reply");
    }
    printf("%.1f\n", (double)request.size / MIB / (now() - started));
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "server") == 0) {
        if (chdir(argv[2]) != 0)
            err(1, "%s", argv[2]);
        serve(listen_anywhere());
    } else if (argc == 7 && strcmp(argv[1], "client") == 0) {
        client(connect_to(atoi(argv[2])), strcmp(argv[3], "get") == 0,
               strcmp(argv[4], "hashed") == 0, argv[5], argv[6]);
    } else {
        errx(2, "see the comment at the beginning");
    }
    return 0;
}
