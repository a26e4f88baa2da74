/* Commands and their host: what they inherit, that nothing of them is left whatever the host does
 * with its signals, and that a hook ends them. */
#include "commands.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>

static int run(const char *command, const struct exec_options *opts, struct exec_result *result,
               struct exec_output **out)
{
    return exec_run(command, strlen(command), opts, result, out);
}

static void a_command_has_nothing_of_its_host(void)
{
    static const char *const ENV[] = {"ADDED=a=b c", NULL};
    static const char SHOW[] =
        "ls /proc/$$/fd; cat /proc/self/status | grep -E 'Sig(Blk|Ign|Cgt)'; "
        "pwd; echo $SECRET $ADDED; readlink /proc/$$/fd/0; umask";
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    pid_t child;
    if ((child = fork()) == 0) {
        struct sigaction ignore;
        sigset_t all;
        int number;
        CHECK(setenv("SECRET", "secret", 1) == 0 && setenv("LD_BIND_NOW", "1", 1) == 0);
        CHECK(dup2(open("/dev/null", O_RDWR), 100) == 100);
        memset(&ignore, 0, sizeof ignore);
        ignore.sa_handler = SIG_IGN;
        for (number = 1; number < NSIG; number++)
            if (number != SIGCHLD && number != SIGKILL && number != SIGSTOP)
                sigaction(number, &ignore, NULL); /* some are the C library's own */
        CHECK(sigfillset(&all) == 0 && sigprocmask(SIG_SETMASK, &all, NULL) == 0);
        umask(027);
        opts.cwd = "/";
        opts.env = ENV;
        CHECK_RETURNS(EXEC_EXITED, run(SHOW, &opts, NULL, &output));
        CHECK_OUTPUT("0\n1\n2\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
                     "SigCgt:\t0000000000000000\n/\na=b c\n/dev/null\n0027\n", output, EXEC_STDOUT);
        exec_output_free(output);

        opts.flags = EXEC_HOST_ENVIRONMENT;
        CHECK_RETURNS(EXEC_EXITED, run("echo $SECRET $ADDED $LD_BIND_NOW", &opts, NULL, &output));
        CHECK_OUTPUT("secret a=b c 1\n", output, EXEC_STDOUT);
        exec_output_free(output);
        /* A SIGTERM that is ignored here still ends a command. */
        opts.command_timeout_ms = 50;
        CHECK_RETURNS(EXEC_TIMED_OUT, run("sleep 1000", &opts, NULL, &output));
        exec_output_free(output);
        CHECK(fcntl(100, F_GETFD) == 0);
        exit(0);
    }
    wait_for(child);
}

static bool done;

static void *allocate(void *argument)
{
    while (!GET(done)) {
        int i;
        for (i = 0; i < 1000; i++)
            free(realloc(malloc(i % 100 + 1), 1000));
        usleep(100); /* lest the sanitizers and valgrind let the others starve */
    }
    return argument;
}

/* Valgrind runs one thread at a time. */
static bool under_valgrind(void)
{
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

static void an_allocator_in_use_does_not_stop_a_command(void)
{
    struct exec_output *output;
    struct exec_result result = EXEC_RESULT_INIT;
    pthread_t threads[4];
    char command[20];
    int i, times = under_valgrind() ? 30 : 300;
    SET(done, false);
    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, allocate, NULL) == 0);
    for (i = 0; i < times; i++) {
        sprintf(command, "exit %d", i % 256);
        CHECK_RETURNS(EXEC_EXITED, run(command, NULL, &result, &output));
        CHECK_RETURNS(i % 256, result.exit_code);
        exec_output_free(output);
    }
    SET(done, true);
    for (i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void *reap(void *argument)
{
    while (!GET(done))
        if (waitpid(-1, NULL, WNOHANG) <= 0)
            sched_yield();
    return argument;
}

/* A status that somebody else takes is lost, or told by a kernel that keeps it; nothing
 * else changes. */
static void a_host_may_reap_its_children_itself(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_output *output;
    int how, i, code;
    for (how = 0; how < 2; how++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t reaper;
            SET(done, false);
            if (how == 0)
                CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
            else
                CHECK(pthread_create(&reaper, NULL, reap, NULL) == 0);
            for (i = 0; i < 20; i++) {
                code = run("echo out; exit 7", NULL, &result, &output);
                CHECK_OUTPUT("out\n", output, EXEC_STDOUT);
                CHECK((code == EXEC_EXITED && result.exit_code == 7)
                      || (code == EXEC_STATUS_LOST && result.exit_code == -1));
                CHECK(result.signal == 0 && result.flags == 0);
                exec_output_free(output);
            }
            opts.command_timeout_ms = 30;
            CHECK_RETURNS(EXEC_TIMED_OUT, run("sleep 1000", &opts, NULL, &output));
            exec_output_free(output);
            SET(done, true);
            if (how == 1)
                CHECK(pthread_join(reaper, NULL) == 0);
            exit(0);
        }
        wait_for(child);
    }
}

static volatile sig_atomic_t handled;

static void on_child(int number)
{
    (void)number;
    handled++;
}

static void a_handler_of_the_host_stays(void)
{
    struct sigaction action, after;
    struct exec_output *output;
    memset(&action, 0, sizeof action); /* without SA_RESTART */
    action.sa_handler = on_child;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    CHECK_RETURNS(EXEC_EXITED, run("sleep 0.05 & sleep 0.02; wait", NULL, NULL, &output));
    exec_output_free(output);
    CHECK(handled <= 1);
    CHECK(sigaction(SIGCHLD, NULL, &after) == 0 && after.sa_handler == on_child);
    CHECK(signal(SIGCHLD, SIG_DFL) == on_child);
}

static int open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = -3; /* ".", ".." and the directory's own */
    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    CHECK(closedir(directory) == 0);
    return count;
}

static void a_lack_of_descriptors_is_told_and_leaks_none(void)
{
    pid_t child = fork();
    if (child == 0) {
        int fd[2], before, outcome, failures = 0;
        struct rlimit all, few;
        struct frame *reply;
        socket_pair(fd);
        before = open_descriptors();
        CHECK(getrlimit(RLIMIT_NOFILE, &all) == 0);
        few = all;
        for (few.rlim_cur = (rlim_t)fd[1] + 1;; few.rlim_cur++) {
            struct exec_result result = EXEC_RESULT_INIT;
            CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
            outcome = exec_and_reply(fd[1], "true", 4, NULL, &result);
            CHECK(setrlimit(RLIMIT_NOFILE, &all) == 0);
            CHECK_RETURNS(0, frame_recv(fd[0], &reply, NULL));
            frame_free(reply);
            CHECK_RETURNS(before, open_descriptors());
            if (outcome == EXEC_EXITED)
                break;
            CHECK_RETURNS(EXEC_SPAWN_FAILED, outcome);
            CHECK_RETURNS(FRAME_ESPAWN, result.error);
            failures++;
        }
        CHECK(failures > 3);
        exit(0);
    }
    wait_for(child);
}

/* Asks to stop once the command is there: it has written its first line. */
static int asked_to_stop(void *context)
{
    int *up = context;
    return unread(*up) > 0;
}

/* However a command is run, the hook ends it, and nothing of it is left. */
static void a_hook_ends_a_command(void)
{
    struct frame_connection_options hooked = FRAME_CONNECTION_OPTIONS_INIT;
    struct exec_options opts = EXEC_OPTIONS_INIT;
    int how, fd[2], alive[2];
    char command[120];
    for (how = 0; how < 4; how++) {
        struct exec_result result = EXEC_RESULT_INIT;
        struct exec_output *output = NULL;
        struct frame_connection *c;
        struct frame_view view;
        int64_t began = milliseconds();
        socket_pair(fd);
        CHECK(pipe2(alive, O_CLOEXEC) == 0);
        CHECK(snprintf(command, sizeof command, "exec 9>/proc/%d/fd/%d; echo >&9; sleep 1000; true",
                       (int)getpid(), alive[1]) < (int)sizeof command);
        opts.interrupted = how < 2 ? asked_to_stop : NULL;
        opts.context = how < 2 ? &alive[0] : NULL;
        if (how == 0) {
            CHECK_RETURNS(FRAME_ECANCELED,
                          exec_and_reply(fd[1], command, strlen(command), &opts, &result));
        } else if (how == 1) {
            CHECK_RETURNS(FRAME_ECANCELED, run(command, &opts, &result, &output));
            CHECK(output == NULL);
        } else {
            hooked.interrupted = asked_to_stop;
            hooked.context = &alive[0];
            CHECK_RETURNS(0, frame_connection_new(fd[1], fd[1], &hooked, &c));
            CHECK_RETURNS(0, frame_send(fd[0], how == 2 ? "{\"cmd\":\"exec\"}"
                                                        : "{\"cmd\":\"exec\",\"stream\":true}",
                                        command, strlen(command), NULL));
            CHECK_RETURNS(0, frame_connection_recv_header(c, LONG, &view, NULL));
            CHECK_RETURNS(FRAME_ECANCELED, exec_serve(c, view.header, &opts, &result));
            CHECK_RETURNS(FRAME_EBROKEN, frame_connection_flush(c, LONG));
            frame_connection_free(c);
        }
        CHECK(milliseconds() - began < LONG);
        CHECK_RETURNS(0, result.outcome);
        read_all(alive[0], command, 1);
        CHECK(close(alive[1]) == 0);
        wait_for_end(alive[0]);
        CHECK(close(alive[0]) == 0);
        close_both(fd);
    }
}

static void *abort_soon(void *argument)
{
    struct server *server = argument;
    usleep(100000);
    CHECK_RETURNS(0, frame_connection_abort(server->served));
    return NULL;
}

/* Another thread aborts the server's connection while a command runs: it is gone as well. */
static void an_abort_ends_a_command(void)
{
    struct exec_request what = EXEC_REQUEST_INIT;
    struct frame_connection *c;
    struct server server;
    pthread_t thread;
    char command[80], text[8];
    int alive[2], which;
    CHECK(pipe2(alive, O_CLOEXEC) == 0);
    what.command = holding(command, sizeof command, alive[1]);
    c = start(&server, NULL);
    CHECK_RETURNS(0, exec_start(c, &what, LONG));
    CHECK_RETURNS(3, exec_read(c, text, sizeof text, LONG, &which));
    CHECK(pthread_create(&thread, NULL, abort_soon, &server) == 0);
    CHECK(exec_read(c, text, sizeof text, LONG, &which) < 0);
    CHECK_RETURNS(FRAME_EBROKEN, exec_finish(c, LONG, NULL));
    CHECK(pthread_join(thread, NULL) == 0);
    stop(&server, c);
    CHECK_RETURNS(FRAME_EABORTED, server.code);
    CHECK(close(alive[1]) == 0);
    wait_for_end(alive[0]);
    CHECK(close(alive[0]) == 0);
}

int main(void)
{
    int before = open_descriptors();
    a_command_has_nothing_of_its_host();
    an_allocator_in_use_does_not_stop_a_command();
    a_host_may_reap_its_children_itself();
    a_handler_of_the_host_stays();
    a_hook_ends_a_command();
    an_abort_ends_a_command();
    if (!under_valgrind()) /* which does not survive a clone(2) that fails */
        a_lack_of_descriptors_is_told_and_leaks_none();
    CHECK_RETURNS(before, open_descriptors());
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    return 0;
}
