/* Shows how messages stick together in a stream, and that packets and frames do not. */

#include "common.h"

#include <netinet/in.h>

static const char help[] =
    "usage: sticky\n"
    "\n"
    "Shows how messages stick together in a TCP stream, and that packets and frames do not.\n";

static const char *const messages[] = {"hello", "feng", "hello feng"};
enum { MESSAGES = sizeof messages / sizeof *messages };

/* Both ends of a TCP connection. */
static void open_stream(int *sender, int *receiver)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0 ||
        (*sender = socket(AF_INET, SOCK_STREAM, 0)) < 0 ||
        connect(*sender, (struct sockaddr *)&address, len) != 0 ||
        (*receiver = accept(listener, NULL, NULL)) < 0)
        err(EXIT_FAILURE, "no connection");
    close(listener);
}

static void check(bool done)
{
    if (!done)
        fail("the connection broke");
}

static void send_text(int fd, const char *text)
{
    check(send_all(fd, text, strlen(text)));
}

/* One recv() of up to size bytes; before it, expected bytes have come. */
static void recv_text(int fd, size_t size, size_t expected)
{
    char data[1024];
    check(recv(fd, data, expected, MSG_PEEK | MSG_WAITALL) == (ssize_t)expected);
    ssize_t len = recv_some(fd, data, size);
    check(len > 0);
    printf("  recv(%zu): %zd bytes \"%.*s\"\n", size, len, (int)len, data);
}

static void show_message(struct frame *message)
{
    size_t len;
    const char *data = frame_body(message, &len);
    printf("  %zu bytes \"%.*s\"\n", len, (int)len, data);
    frame_free(message);
}

int main(int argc, char **argv)
{
    int sender, receiver;
    struct frame *message;

    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return fputs(help, stdout) < 0;
    if (argc > 1)
        errx(EXIT_FAILURE, "unknown argument %s, see --help", argv[1]);
    open_stream(&sender, &receiver);

    puts("\"hello\" and \"feng\", sent apart, stick together:");
    send_text(sender, "hello");
    send_text(sender, "feng");
    recv_text(receiver, 1024, 9);

    puts("\"hello feng\", sent at once, comes in pieces:");
    send_text(sender, "hello feng");
    recv_text(receiver, 2, 10);
    recv_text(receiver, 1024, 8);

    puts("The same as packets:");
    for (int i = 0; i < MESSAGES; i++)
        check(frame_packet_send(sender, messages[i], strlen(messages[i]), NULL) == 0);
    for (int i = 0; i < MESSAGES; i++) {
        check(frame_packet_recv(receiver, &message, NULL) == 0);
        show_message(message);
    }

    puts("The same as frames:");
    for (int i = 0; i < MESSAGES; i++)
        check(frame_send(sender, NULL, messages[i], strlen(messages[i]), NULL) == 0);
    for (int i = 0; i < MESSAGES; i++) {
        check(frame_recv(receiver, &message, NULL) == 0);
        show_message(message);
    }
    close(sender);
    close(receiver);
    return EXIT_SUCCESS;
}
