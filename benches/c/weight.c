/* What a process pays for the library: prints the microseconds that dlopen(3) takes and, for
 * a host, how many threads there are then.
 *
 *   weight load|threads LIBRARY */

#include <dirent.h>
#include <dlfcn.h>
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static int threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;
    if (tasks == NULL)
        err(1, "/proc/self/task");
    for (struct dirent *task; (task = readdir(tasks)) != NULL;)
        count += task->d_name[0] != '.';
    closedir(tasks);
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "see the comment at the beginning");
    double started = now();
    void *library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    double taken = now() - started;
    if (library == NULL || dlsym(library, "frame_send") == NULL)
        errx(1, "%s", dlerror());
    if (strcmp(argv[1], "load") == 0)
        printf("%.1f\n", taken);
    else
        printf("%d\n", threads() - 1);
    return 0;
}
