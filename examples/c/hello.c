#include <framefd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Serves one command. */
static int serve(struct frame_connection *client)
{
    struct frame_view request;

    return frame_connection_recv_header(client, -1, &request, NULL) != 0 ||
           exec_serve(client, request.header, NULL, NULL) < 0 ||
           frame_connection_end(client, true, 1000) != 0;
}

/* Runs a command at the peer, and prints its output. */
static int ask(struct frame_connection *server)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_output *output;
    const void *text;
    size_t len;

    what.command = "echo hello";
    if (exec_call(server, &what, 10000, NULL, &output) != EXEC_EXITED)
        return 1;
    text = exec_output_bytes(output, EXEC_STDOUT, &len);
    fwrite(text, 1, len, stdout);
    exec_output_free(output);
    return 0;
}

/* Two processes, each with one end of a socket. */
int main(void)
{
    struct frame_connection *c;
    int ends[2], fd, failed;
    pid_t child;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || (child = fork()) < 0)
        return perror("hello"), 1;
    fd = ends[child == 0];
    close(ends[child != 0]);
    failed = frame_connection_new(fd, fd, NULL, &c) != 0 || (child == 0 ? serve(c) : ask(c));
    if (failed)
        fprintf(stderr, "%s\n", frame_last_error());
    frame_connection_free(c);
    close(fd);
    if (child != 0)
        waitpid(child, NULL, 0);
    return failed;
}
