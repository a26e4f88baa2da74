/* The load on a server, and what it costs: the processor time and the memory are those of the
 * process PID, as the kernel counts them.
 *
 *     server_load WIRE PORT PID cpu CONNECTIONS DEPTH IDLE MILLISECONDS
 *                         microseconds of the server for a request: so many connections, each with
 *                         DEPTH requests under way, beside IDLE ones
 *     ... rate CONNECTIONS DEPTH IDLE MILLISECONDS     requests a second
 *     ... trips PERCENT DAWDLERS MILLISECONDS          microseconds, a percentile of the round
 *                                                      trips of one, beside so many that dawdle
 *     ... connects COUNT                               a second: connect, one request, close
 *     ... memory COUNT                                 bytes of an idle connection
 *     ... idle COUNT MILLISECONDS                      milliseconds of processor time they take
 *     ... stop CONNECTIONS                             milliseconds from SIGTERM to the last reply;
 *                                                      requests of 200 ms; fails if one is lost
 *
 * WIRE is one of server_wires.h. */

#include "server_wires.h"

#include <dirent.h>
#include <fcntl.h>
#include <framefd.h>
#include <signal.h>
#include <sys/epoll.h>

/* Microseconds: servers may give back after a while what idle connections do not need. */
enum { REST = 1300 * 1000 };

static struct wire wire;
static int port, pid;
static size_t size_of_reply;

/* A connection, and the replies that are due. */
struct client {
    int fd;
    struct frame_connection *sealed;
    size_t got;
    int due;
};

static int64_t done(int64_t code)
{
    if (code < 0)
        errx(1, "%s", frame_last_error());
    return code;
}

static void begin(struct client *client)
{
    *client = (struct client){.fd = connect_by(&wire, port)};
    if (strcmp(wire.name, "sealed") == 0) {
        done(frame_connection_new(client->fd, client->fd, NULL, &client->sealed));
        done(frame_connection_auth_client(client->sealed, "0123456789abcdef0123456789abcdef", 32,
                                          NULL));
    }
}

static void end(struct client *client)
{
    frame_connection_free(client->sealed);
    close(client->fd);
}

static void ask(struct client *client, int depth)
{
    static char requests[ROOM];
    size_t len = wire.request.len;
    client->due = depth;
    if (client->sealed != NULL) {
        struct frame_view request = {
            .header = "{\"cmd\":\"echo\"}", .body = wire.request.at + len - BODY, .body_len = BODY};
        for (int i = 0; i < depth; i++)
            done(frame_connection_queue(client->sealed, &request, 1, -1));
        done(frame_connection_flush(client->sealed, -1));
        return;
    }
    for (int i = 0; i < depth; i++)
        memcpy(requests + (size_t)i * len, wire.request.at, len);
    write_all(client->fd, requests, (size_t)depth * len);
}

/* Takes what is there; waits for it if nothing is. */
static void take(struct client *client)
{
    static char replies[ROOM];
    if (client->sealed != NULL) {
        struct frame_view view;
        int code, wait = -1;
        while (client->due > 0 && (code = frame_connection_next(client->sealed, &view, 1, wait)) !=
                                      FRAME_ETIMEDOUT) {
            done(code);
            client->due--;
            wait = 0;
        }
        return;
    }
    ssize_t got = read(client->fd, replies, sizeof replies);
    if (got <= 0)
        err(1, "%s: a reply", wire.name);
    client->got += (size_t)got;
    while (client->got >= size_of_reply && client->due > 0) {
        client->got -= size_of_reply;
        client->due--;
    }
}

static void trip(struct client *client)
{
    ask(client, 1);
    while (client->due > 0)
        take(client);
}

/* So many, each of which has had a reply. */
static struct client *crowd(int count)
{
    struct client *clients = allocated((size_t)count * sizeof *clients + 1);
    for (int i = 0; i < count; i++) {
        begin(&clients[i]);
        trip(&clients[i]);
    }
    return clients;
}

/* Seconds of all threads of the server. */
static double processor_time(void)
{
    char path[300];
    double nanoseconds = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        err(1, "%s", path);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        double of_one = 0;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, task->d_name);
        FILE *file = task->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (file != NULL && fscanf(file, "%lf", &of_one) == 1)
            nanoseconds += of_one;
        if (file != NULL)
            fclose(file);
    }
    closedir(tasks);
    return nanoseconds / 1e9;
}

/* Bytes that the server has, without files. */
static double memory(void)
{
    char line[256];
    double kib = 0;
    snprintf(line, sizeof line, "/proc/%d/status", pid);
    FILE *status = fopen(line, "r");
    if (status == NULL)
        err(1, "%s", line);
    while (fgets(line, sizeof line, status) != NULL)
        sscanf(line, "RssAnon: %lf", &kib);
    fclose(status);
    return kib * 1024;
}

/* Requests that all of them get answered in this time. */
static double drive(struct client *clients, int count, int depth, double seconds)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    double answered = 0, until = now() + seconds;
    struct epoll_event events[256];
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event) != 0)
            err(1, "epoll_ctl");
        ask(&clients[i], depth);
    }
    for (int waiting = count; waiting > 0;) {
        int ready = epoll_wait(epoll, events, 256, 10000);
        if (ready <= 0)
            errx(1, "%s: no reply", wire.name);
        bool goes_on = now() < until;
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            int before = client->due;
            take(client);
            answered += before - client->due;
            if (client->due == 0 && goes_on)
                ask(client, depth);
            else if (client->due == 0)
                waiting--;
        }
    }
    close(epoll);
    return answered;
}

static double drive_beside(char **words, bool counts_time)
{
    int count = atoi(words[0]), depth = atoi(words[1]), idle = atoi(words[2]);
    double seconds = atof(words[3]) / 1e3;
    crowd(idle);
    struct client *clients = crowd(count);
    drive(clients, count, depth, seconds / 10);
    double begun = now(), used = processor_time();
    double answered = drive(clients, count, depth, seconds);
    used = processor_time() - used;
    return counts_time ? used * 1e6 / answered : answered / (now() - begun);
}

static int compare(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

/* Sends nothing, or a byte of a request now and then. */
static double trips(int percent, int dawdlers, double seconds)
{
    enum { MOST = 1 << 22 };
    static double times[MOST];
    size_t count = 0;
    struct client client, *slow = allocated((size_t)dawdlers * sizeof *slow + 1);
    begin(&client);
    trip(&client);
    for (int i = 0; i < dawdlers; i++)
        begin(&slow[i]);
    double start = now(), next_byte = start;
    int dawdler = 0;
    while (count < MOST && now() < start + seconds) {
        double begun = now();
        trip(&client);
        times[count++] = now() - begun;
        /* One byte of each in 5 s. */
        if (dawdlers > 0 && begun > next_byte) {
            if (dawdler % 2 == 0)
                write_all(slow[dawdler].fd, wire.request.at, 1);
            dawdler = (dawdler + 1) % dawdlers;
            next_byte += 5.0 / dawdlers;
        }
    }
    qsort(times, count, sizeof *times, compare);
    return times[count * (size_t)percent / 100] * 1e6;
}

static double connects(int count)
{
    double begun = now();
    for (int i = 0; i < count; i++) {
        struct client client;
        begin(&client);
        trip(&client);
        end(&client);
    }
    return count / (now() - begun);
}

/* They come a tenth at a time, as the ones before are at rest: what these have given back is used
 * again. */
static double memory_of_idle(int count)
{
    struct client first;
    begin(&first);
    trip(&first);
    double before = memory();
    for (int i = 0; i < 10; i++) {
        crowd(count / 10);
        usleep(REST);
    }
    return (memory() - before) / count;
}

static double time_of_idle(int count, int milliseconds)
{
    crowd(count);
    usleep(2 * REST);
    double before = processor_time();
    usleep((useconds_t)milliseconds * 1000);
    return (processor_time() - before) * 1e3;
}

/* Requests are out of step; the last ones have connected and sent, and nobody has accepted them
 * when the signal comes. */
static double stop(int count)
{
    char reply[4096];
    struct bytes slow = framed("{\"data_size\":64,\"cmd\":\"slow\"}");
    int *fds = allocated((size_t)count * sizeof *fds), lost = 0;
    for (int i = 0; i < count; i++) {
        if (i < count * 9 / 10)
            usleep(150 * 1000 / (useconds_t)count);
        fds[i] = connect_to(port);
        write_all(fds[i], slow.at, slow.len);
    }
    double begun = now();
    if (kill(pid, SIGTERM) != 0)
        err(1, "kill");
    for (int i = 0; i < count; i++) {
        ssize_t got = read(fds[i], reply, sizeof reply);
        lost += got < (ssize_t)size_of_reply;
    }
    if (lost > 0)
        errx(1, "%d of %d requests were lost", lost, count);
    return (now() - begun) * 1e3;
}

int main(int argc, char **argv)
{
    if (argc < 6)
        errx(1, "usage: see the first comment");
    wire = wire_of(argv[1]);
    port = atoi(argv[2]);
    pid = atoi(argv[3]);
    if (strcmp(wire.name, "sealed") != 0)
        size_of_reply = reply_size(&wire, port);
    const char *kind = argv[4];
    char **words = argv + 5;
    double figure;
    if (strcmp(kind, "cpu") == 0 && argc == 9)
        figure = drive_beside(words, true);
    else if (strcmp(kind, "rate") == 0 && argc == 9)
        figure = drive_beside(words, false);
    else if (strcmp(kind, "trips") == 0 && argc == 8)
        figure = trips(atoi(words[0]), atoi(words[1]), atof(words[2]) / 1e3);
    else if (strcmp(kind, "connects") == 0)
        figure = connects(atoi(words[0]));
    else if (strcmp(kind, "memory") == 0)
        figure = memory_of_idle(atoi(words[0]));
    else if (strcmp(kind, "idle") == 0 && argc == 7)
        figure = time_of_idle(atoi(words[0]), atoi(words[1]));
    else if (strcmp(kind, "stop") == 0)
        figure = stop(atoi(words[0]));
    else
        errx(1, "no such figure: %s", kind);
    printf("%f\n", figure);
    return 0;
}
