/* The functions that signal handlers may call do not allocate: not even the first call of a thread
 * into a library that was loaded by dlopen(3), for which each thread-local variable is memory. */
#include <dlfcn.h>
#include <framefd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

/* glibc calls those of the program, also for thread-local variables. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
static volatile int is_in_handler, allocations;

void *malloc(size_t size)
{
    allocations += is_in_handler;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations += is_in_handler;
    return __libc_calloc(count, size);
}

static struct frame_connection *c;
static int (*send_signal)(struct frame_connection *, int);
static int (*resize)(struct frame_connection *, uint16_t, uint16_t);
static int (*stop)(struct frame_connection *);
static const char *(*text)(int);
static int codes[9];

static void handler(int number)
{
    is_in_handler = 1;
    codes[0] = send_signal(c, number);
    codes[1] = send_signal(c, 0);
    codes[2] = send_signal(NULL, number);
    codes[3] = resize(c, 1, 2);
    codes[4] = resize(NULL, 1, 2);
    codes[5] = stop(NULL);
    codes[6] = text(FRAME_EINVAL)[0];
    codes[7] = stop(c);
    codes[8] = stop(c);
    is_in_handler = 0;
}

static void *take_the_signal(void *unused)
{
    raise(SIGTERM);
    return unused;
}

int main(int argc, char **argv)
{
    int (*make)(int, int, const struct frame_connection_options *, struct frame_connection **);
    int (*start)(struct frame_connection *, const struct exec_request *, int);
    struct exec_request what = EXEC_REQUEST_INIT;
    void *library = dlopen(argv[argc - 1], RTLD_NOW | RTLD_LOCAL);
    pthread_t thread;
    int fd[2], i;
    *(void **)&make = dlsym(library, "frame_connection_new");
    *(void **)&start = dlsym(library, "exec_start");
    *(void **)&send_signal = dlsym(library, "exec_signal");
    *(void **)&resize = dlsym(library, "exec_resize");
    *(void **)&stop = dlsym(library, "frame_connection_abort");
    *(void **)&text = dlsym(library, "frame_strerror");
    what.command = "true";
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) != 0 || make(fd[0], fd[0], NULL, &c) != 0 ||
        start(c, &what, 1000) != 0)
        return 1;
    signal(SIGTERM, handler);
    if (pthread_create(&thread, NULL, take_the_signal, NULL) || pthread_join(thread, NULL))
        return 1;
    for (i = 0; i < 9; i++)
        printf("%d ", codes[i]);
    printf("%d allocations\n", allocations);
    return 0;
}
