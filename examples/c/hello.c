#include <framefd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* Two processes and a socket between them: one runs what the other asks for. */
int main(void)
{
    const char key[] = "at least sixteen bytes", *text;
    struct exec_output *output;
    struct frame *request;
    size_t len;
    int fd[2] = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0 && fork() == 0)
        return auth_server(fd[1], key, sizeof key - 1, NULL) != 0 ||
               frame_recv(fd[1], &request, NULL) != 0 || exec_serve(fd[1], request, NULL, NULL) < 0;
    if (auth_client(fd[0], key, sizeof key - 1, NULL) != 0 ||
        exec_request(fd[0], "echo hello", 10, &output, NULL) != EXEC_EXITED)
        return fprintf(stderr, "%s\n", frame_last_error()), 1;
    text = exec_output_stdout(output, &len);
    fwrite(text, 1, len, stdout);
    exec_output_free(output);
}
