/* The library is a guest in a process: it leaves the process as it was, works whatever the
 * host does with its signals, and needs little stack. */
#include "check.h"

#include <dirent.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

static const char KEY[] = "sixteen bytes ok";

extern char **environ;

/* Some of every kind of work: what succeeds, what fails, what times out, what writes to
 * nobody. Returns how a command ended. */
static int work(void)
{
    struct frame_options now = FRAME_OPTIONS_INIT, soon = FRAME_OPTIONS_INIT;
    struct frame_options packets = FRAME_OPTIONS_INIT;
    struct auth_options auth = AUTH_OPTIONS_INIT;
    struct frame_builder *builder = frame_builder_new();
    struct frame_connection *c;
    struct frame *frame;
    struct frame_view view;
    struct exec_output *output;
    char deepest[80] = "{\"a\":";
    char full[4096] = "";
    int outcome, kind, sent, fd[2];
    const void *text;
    size_t len;
    now.timeout_ms = auth.timeout_ms = FRAME_DONT_WAIT;
    soon.timeout_ms = 30;
    packets.timeout_ms = 30;
    packets.format = FRAME_FORMAT_PACKETS;

    memset(deepest + 5, '[', 31);
    memset(deepest + 36, ']', 31);
    deepest[67] = '}';
    CHECK_RETURNS(0, frame_builder_string(builder, "name", "\"\n\x1b", SIZE_MAX));
    for (kind = 0; kind < 2; kind++) {
        if (kind == 0)
            socket_pair(fd);
        else
            CHECK(pipe2(fd, O_CLOEXEC) == 0);
        CHECK_RETURNS(0, frame_send(fd[1], frame_builder_text(builder, NULL), "hello", 5, NULL));
        CHECK_RETURNS(0, frame_recv(fd[0], &frame, NULL));
        CHECK_BODY("hello", frame);
        frame_free(frame);
        CHECK_RETURNS(0, frame_send(fd[1], deepest, NULL, 0, &soon));
        CHECK_RETURNS(0, frame_recv(fd[0], &frame, &soon));
        CHECK_RETURNS(FRAME_EBADFIELD,
                      frame_header_string(frame_header(frame, NULL), "a", NULL, 0));
        frame_free(frame);
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_recv(fd[0], &frame, &soon));
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_recv(fd[0], &frame, &now));

        CHECK_RETURNS(0, frame_connection_new(fd[0], fd[1], NULL, &c));
        CHECK_RETURNS(0, frame_connection_begin(c, NULL, 5));
        CHECK_RETURNS(5, frame_connection_write(c, "hello", 5, 30));
        CHECK_RETURNS(1, frame_connection_next(c, &view, 1, 30));
        CHECK_BYTES("hello", view.body, view.body_len);
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_connection_recv(c, 30, &frame));
        frame_connection_free(c);
        do
            sent = frame_send(fd[1], NULL, full, sizeof full, &packets);
        while (sent == 0);
        CHECK(sent == FRAME_ETIMEDOUT || sent == FRAME_ESTALLED);
        CHECK(close(fd[0]) == 0);
        CHECK_RETURNS(FRAME_EIO, frame_send(fd[1], NULL, "hello", 5, NULL));
        CHECK_RETURNS(FRAME_EIO, frame_send(fd[1], NULL, "hello", 5, &soon));
        CHECK(errno == EPIPE);
        CHECK(close(fd[1]) == 0);
    }
    frame_builder_free(builder);

    socket_pair(fd);
    CHECK_RETURNS(FRAME_ETIMEDOUT, auth_server(fd[1], KEY, 16, &auth));
    CHECK_RETURNS(0, auth_client(fd[0], KEY, 16, NULL));
    CHECK_RETURNS(FRAME_EAUTH, auth_server(fd[1], KEY, 16, &auth));
    close_both(fd);

    outcome = exec_run("cat; echo hello; echo more >&2", 30, NULL, NULL, &output);
    CHECK(outcome == EXEC_EXITED || outcome == EXEC_STATUS_LOST);
    text = exec_output_bytes(output, EXEC_STDOUT, &len);
    CHECK_BYTES("hello\n", text, len);
    exec_output_free(output);
    return outcome;
}

static char snapshots[2][32768];

static void note(char **at, const char *end, const char *format, ...)
{
    va_list arguments;
    int len;
    va_start(arguments, format);
    len = vsnprintf(*at, (size_t)(end - *at), format, arguments);
    va_end(arguments);
    CHECK(len >= 0 && len < end - *at);
    *at += len;
}

static void note_set(char **at, const char *end, const sigset_t *set)
{
    int number;
    for (number = 1; number < NSIG; number++)
        if (sigismember(set, number) == 1)
            note(at, end, " %d", number);
    note(at, end, "\n");
}

/* What the process is like now, in words. */
static const char *snapshot(char *out)
{
    char *at = out, *end = out + sizeof *snapshots;
    char path[4096];
    struct dirent *entry;
    struct itimerval timer;
    struct rlimit limit;
    sigset_t set;
    mode_t mask;
    DIR *open_files;
    int number, value = 0;
    char **variable;

    for (number = 1; number < NSIG; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) != 0)
            continue; /* the C library's own */
        note(&at, end, "signal %d: %p flags %x mask", number, *(void **)&action.sa_handler,
             (unsigned)action.sa_flags);
        note_set(&at, end, &action.sa_mask);
    }
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &set) == 0);
    note(&at, end, "blocked:");
    note_set(&at, end, &set);
    CHECK(sigpending(&set) == 0);
    note(&at, end, "pending:");
    note_set(&at, end, &set);
    for (number = 0; number < 3; number++) {
        CHECK(getitimer(number, &timer) == 0);
        note(&at, end, "timer %d: %ld\n", number, (long)timer.it_interval.tv_usec);
    }
    for (number = 0; number < RLIM_NLIMITS; number++) {
        CHECK(getrlimit(number, &limit) == 0);
        note(&at, end, "limit %d: %llu %llu\n", number, (unsigned long long)limit.rlim_cur,
             (unsigned long long)limit.rlim_max);
    }
    CHECK(getcwd(path, sizeof path) != NULL);
    note(&at, end, "cwd: %s\n", path);
    mask = umask(0);
    umask(mask);
    note(&at, end, "umask: %o\nlocale: %s\nnice: %d\n", (unsigned)mask, setlocale(LC_ALL, NULL),
         getpriority(PRIO_PROCESS, 0));
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &value) == 0);
    note(&at, end, "subreaper: %d, no new privileges: %d, dumpable: %d\n", value,
         prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), prctl(PR_GET_DUMPABLE));
    CHECK(prctl(PR_GET_PDEATHSIG, &value) == 0);
    note(&at, end, "signal at the parent's death: %d\ngroup: %d, session: %d\n", value,
         (int)getpgrp(), (int)getsid(0));
    for (variable = environ; *variable != NULL; variable++)
        note(&at, end, "%s\n", *variable);
    CHECK((open_files = opendir("/proc/self/fd")) != NULL);
    while ((entry = readdir(open_files)) != NULL) {
        number = atoi(entry->d_name);
        if (entry->d_name[0] != '.')
            note(&at, end, "open: %d, flags %x %x\n", number, (unsigned)fcntl(number, F_GETFD),
                 (unsigned)fcntl(number, F_GETFL));
    }
    CHECK(closedir(open_files) == 0);
    note(&at, end, "children: %d\n", waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD ? 0 : 1);
    return out;
}

static void the_process_stays_as_it_was(void)
{
    int times;
    work(); /* what the C library opens at first use is its own affair */
    snapshot(snapshots[0]);
    for (times = 0; times < 2; times++)
        work();
    if (strcmp(snapshots[0], snapshot(snapshots[1])) != 0) {
        fprintf(stderr, "--- before\n%s--- after\n%s", snapshots[0], snapshots[1]);
        CHECK(!"the process is as it was");
    }
}

static volatile sig_atomic_t handled;

static void count(int number)
{
    (void)number;
    handled++;
}

enum disposition { DEFAULT, IGNORED, HANDLED, BLOCKED };

static void dispose(int number, enum disposition how)
{
    struct sigaction action;
    sigset_t set;
    memset(&action, 0, sizeof action); /* without SA_RESTART */
    action.sa_handler = how == IGNORED ? SIG_IGN : how == HANDLED ? count : SIG_DFL;
    CHECK(sigaction(number, &action, NULL) == 0);
    CHECK(sigemptyset(&set) == 0 && sigaddset(&set, number) == 0);
    CHECK(sigprocmask(how == BLOCKED ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL) == 0);
}

static void every_disposition_of_a_signal_will_do(void)
{
    static const int numbers[] = {SIGPIPE, SIGCHLD};
    int which, how;
    for (which = 0; which < 2; which++) {
        for (how = DEFAULT; how <= BLOCKED; how++) {
            pid_t child = fork();
            if (child == 0) {
                int outcome;
                dispose(numbers[which], (enum disposition)how);
                snapshot(snapshots[0]);
                outcome = work();
                if (numbers[which] == SIGPIPE) {
                    CHECK(handled == 0);
                    CHECK(strcmp(snapshots[0], snapshot(snapshots[1])) == 0);
                }
                /* Who ignores SIGCHLD has no status to tell, before Linux 6.15. */
                CHECK(outcome == EXEC_EXITED || (numbers[which] == SIGCHLD && how == IGNORED));
                exit(0);
            }
            wait_for(child);
        }
    }
}

/* Every system call that waits is interrupted, a thousand times a second. */
static void interruptions_go_unnoticed(void)
{
    static char body[(1 << 20) + 64];
    struct itimerval often = {{0, 1000}, {0, 1000}};
    struct frame_options opts = FRAME_OPTIONS_INIT;
    struct frame *frame;
    int64_t start;
    pid_t child;
    int fd[2];
    socket_pair(fd);
    child = fork();
    if (child == 0) {
        dispose(SIGALRM, HANDLED);
        CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
        handled = 0;
        opts.timeout_ms = 200;
        start = milliseconds();
        CHECK_RETURNS(FRAME_ETIMEDOUT, frame_recv(fd[1], &frame, &opts));
        CHECK(milliseconds() - start >= 200 && milliseconds() - start < 10000);
        CHECK(handled > 10);
        memset(body, 'x', sizeof body);
        CHECK_RETURNS(0, frame_send(fd[1], NULL, body, 1 << 20, NULL));
        CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
        CHECK_BODY("reply", frame);
        frame_free(frame);
        work();
        exit(0);
    }
    /* By now the child is waiting; and it waits again while nothing is read, or sent. */
    usleep(250000);
    read_all(fd[0], body, 4096);
    usleep(20000);
    read_all(fd[0], body, 4 + 21 + (1 << 20) - 4096);
    usleep(20000);
    CHECK_RETURNS(0, frame_send(fd[0], NULL, "reply", 5, NULL));
    wait_for(child);
    close_both(fd);
}

static void *work_in_thread(void *argument)
{
    work();
    return argument;
}

static void a_small_stack_is_enough(void)
{
    pthread_attr_t small;
    pthread_t thread;
    CHECK(pthread_attr_init(&small) == 0);
    CHECK(pthread_attr_setstacksize(&small, 64 * 1024) == 0);
    CHECK(pthread_create(&thread, &small, work_in_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&small) == 0);
}

int main(void)
{
    the_process_stays_as_it_was();
    every_disposition_of_a_signal_will_do();
    interruptions_go_unnoticed();
    a_small_stack_is_enough();
    return 0;
}
