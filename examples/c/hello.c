#include <framefd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, frame_last_error());
    return 1;
}

/* Serves one command: 0 once its reply was sent. */
static int serve(int fd)
{
    struct frame_connection *client;
    struct frame_view request;
    int code;

    if (frame_connection_new(fd, fd, NULL, &client) != 0)
        return failed("server");
    code = frame_connection_recv_header(client, -1, &request, NULL);
    if (code == 0)
        code = exec_serve(client, request.header, NULL, NULL);
    if (code >= 0)
        code = frame_connection_end(client, true, 1000);
    if (code < 0)
        failed("server");
    frame_connection_free(client);
    return code < 0;
}

/* Asks for one, and prints what it wrote. */
static int ask(int fd)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    struct frame_connection *server;
    struct exec_output *output;
    const void *text;
    size_t len;

    what.command = "echo hello";
    if (frame_connection_new(fd, fd, NULL, &server) != 0)
        return failed("client");
    if (exec_call(server, &what, 10000, NULL, &output) != EXEC_EXITED) {
        frame_connection_free(server);
        return failed("client");
    }
    text = exec_output_bytes(output, EXEC_STDOUT, &len);
    fwrite(text, 1, len, stdout);
    exec_output_free(output);
    frame_connection_free(server);
    return 0;
}

/* Two processes, and a socket between them. */
int main(void)
{
    int fd[2], status = 1, code;
    pid_t child;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) != 0 || (child = fork()) < 0)
        return perror("hello"), 1;
    if (child == 0) {
        close(fd[0]);
        return serve(fd[1]);
    }
    close(fd[1]);
    code = ask(fd[0]);
    close(fd[0]);
    return waitpid(child, &status, 0) != child || status != 0 || code != 0;
}
