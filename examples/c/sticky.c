/* Shows how messages stick together in a stream, and that packets and frames do not. */

#include "common.h"

static const char help[] =
    "usage: sticky\n"
    "\n"
    "Shows how messages stick together in a TCP stream, and that packets and frames do not.\n";

static const char *const messages[] = {"hello", "feng", "hello feng"};
enum { MESSAGES = sizeof messages / sizeof *messages };

static void check(bool done)
{
    if (!done)
        fail("the connection broke");
}

/* Both ends of a TCP connection. */
static void open_stream(struct frame_connection **sender, struct frame_connection **receiver)
{
    char address[64];
    int listener = frame_listen("127.0.0.1:0", 1, 0);
    if (frame_address(listener, false, address, sizeof address) < 0 ||
        frame_connect(address, NULL, sender) != 0 ||
        frame_accept(listener, NULL, -1, receiver) != 0)
        fail("%s", frame_last_error());
    close(listener);
}

static void send_text(int fd, const char *text)
{
    check(send_all(fd, text, strlen(text)));
}

/* One recv() of up to size bytes, once `expected` bytes have arrived. */
static void recv_text(int fd, size_t size, size_t expected)
{
    char data[1024];
    check(recv(fd, data, expected, MSG_PEEK | MSG_WAITALL) == (ssize_t)expected);
    ssize_t len = recv_some(fd, data, size);
    check(len > 0);
    say("  recv(%zu): %zd bytes \"%.*s\"\n", size, len, (int)len, data);
}

/* Sends the messages one by one, and receives them. */
static void show_messages(int sender, int receiver, const struct frame_options *opts)
{
    struct frame *message;
    size_t len;
    for (int i = 0; i < MESSAGES; i++)
        check(frame_send(sender, NULL, messages[i], strlen(messages[i]), opts) == 0);
    for (int i = 0; i < MESSAGES; i++) {
        check(frame_recv(receiver, &message, opts) == 0);
        const char *data = frame_body(message, &len);
        say("  %zu bytes \"%.*s\"\n", len, (int)len, data);
        frame_free(message);
    }
}

int main(int argc, char **argv)
{
    struct frame_options packets = FRAME_OPTIONS_INIT;
    struct frame_connection *ends[2];

    open_standard_descriptors();
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        say("%s", help);
        return EXIT_SUCCESS;
    }
    if (argc > 1)
        errx(EXIT_FAILURE, "unknown argument %s, see --help", argv[1]);
    open_stream(&ends[0], &ends[1]);
    int sender = socket_of(ends[0]), receiver = socket_of(ends[1]);

    say("\"hello\" and \"feng\", sent apart, stick together:\n");
    send_text(sender, "hello");
    send_text(sender, "feng");
    recv_text(receiver, 1024, 9);

    say("\"hello feng\", sent at once, comes in pieces:\n");
    send_text(sender, "hello feng");
    recv_text(receiver, 2, 10);
    recv_text(receiver, 1024, 8);

    say("The same as packets:\n");
    packets.format = FRAME_FORMAT_PACKETS;
    show_messages(sender, receiver, &packets);

    say("The same as frames:\n");
    show_messages(sender, receiver, NULL);
    frame_connection_free(ends[0]);
    frame_connection_free(ends[1]);
    return EXIT_SUCCESS;
}
