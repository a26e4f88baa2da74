/* What commands are asked for and run with: members that cannot apply are refused by name, structs
 * of other versions work, a policy decides, and commands are confined. */
#include "commands.h"

#include <signal.h>
#include <stddef.h>
#include <sys/stat.h>

static const char *const NO_VALUE[] = {"A", NULL}, *const NO_NAME[] = {"=1", NULL};
static const char *const EMPTY[] = {"", NULL}, *const NO_TEXT[] = {"A=\xff", NULL};
static const char *const NONE[] = {NULL}, *const TRUE[] = {"true", NULL};

static struct frame_connection *c;
static int fd[2], udp[2];

enum { CALL = 1, START = 2, DATAGRAM = 4, ALL = 7 };

static void named(int code, const char *name)
{
    CHECK_RETURNS(FRAME_EINVAL, code);
    if (strstr(frame_last_error(), name) == NULL) {
        fprintf(stderr, "%s is not in: %s\n", name, frame_last_error());
        CHECK(!"the member is named");
    }
}

/* A request that these calls refuse; each names what it is about. */
static void refused(int by, const struct exec_request *what, const char *name)
{
    struct exec_output *output = (struct exec_output *)&output;
    if (by & CALL) {
        named(exec_call(c, what, LONG, NULL, &output), name);
        CHECK(output == NULL);
    }
    if (by & START)
        named(exec_start(c, what, LONG), name);
    if (by & DATAGRAM) {
        output = (struct exec_output *)&output;
        named(exec_datagram_call(udp[0], what, NULL, 0, LONG, NULL, &output), name);
        CHECK(output == NULL);
    }
}

#define REQUEST_REFUSED(by, member, value) \
    do { \
        struct exec_request what_ = shell("true"); \
        what_.member = value; \
        refused(by, &what_, #member); \
    } while (0)

static void requests_that_cannot_apply_are_refused(void)
{
    struct {
        struct exec_request what;
        uint64_t of_a_later_version;
    } later = {EXEC_REQUEST_INIT, 1};
    struct exec_request what = shell("true");
    struct exec_output *output;
    REQUEST_REFUSED(ALL, size, 0);
    REQUEST_REFUSED(ALL, size, 3);
    REQUEST_REFUSED(ALL, flags, 0x80000000);
    REQUEST_REFUSED(CALL | DATAGRAM, flags, EXEC_TTY);
    REQUEST_REFUSED(CALL | DATAGRAM, flags, EXEC_NO_INPUT);
    REQUEST_REFUSED(ALL, rows, 24);
    REQUEST_REFUSED(ALL, columns, 80);
    REQUEST_REFUSED(ALL, command_timeout_ms, -3);
    REQUEST_REFUSED(ALL, argv, TRUE); /* and a command */
    REQUEST_REFUSED(ALL, env, NO_VALUE);
    REQUEST_REFUSED(ALL, env, NO_NAME);
    REQUEST_REFUSED(ALL, env, EMPTY);
    REQUEST_REFUSED(ALL, env, NO_TEXT);
    REQUEST_REFUSED(ALL, cwd, "\xff");
    what.input_len = 1; /* of NULL */
    refused(ALL, &what, "input");
    what.input_len = 0;
    what.command = NULL;
    what.command_len = 1;
    refused(ALL, &what, "command");
    what.command_len = 0;
    what.argv = NONE;
    refused(ALL, &what, "argv");
    what.argv = NO_TEXT;
    refused(ALL, &what, "argv");
    what = shell("true");
    what.input = "x";
    what.input_len = 1;
    refused(DATAGRAM, &what, "input");
    what.flags = EXEC_NO_INPUT;
    refused(START, &what, "input");
    later.what.command = "true";
    later.what.size = sizeof later;
    refused(ALL, &later.what, "what");
    refused(ALL, NULL, "what");

    /* A call cannot be resumed. */
    what = shell("true");
    named(exec_call(c, &what, 0, NULL, &output), "timeout_ms");
    named(exec_call(c, &what, -2, NULL, &output), "timeout_ms");
    named(exec_start(c, &what, -2), "timeout_ms");
    named(exec_call(c, &what, LONG, NULL, NULL), "out");
    named(exec_call(NULL, &what, LONG, NULL, &output), "c");
    CHECK(unread(fd[1]) == 0 && unread(udp[1]) == 0);
}

enum { SERVE = 1, REPLY = 2, RUN = 4, SERVE_DATAGRAM = 8, SERVERS = 15 };

static struct exec_datagram_server *datagrams;

static void refused_by(int by, const struct exec_options *opts, const char *name)
{
    struct exec_output *output = (struct exec_output *)&output;
    if (by & SERVE)
        named(exec_serve(c, "{\"cmd\":\"exec\",\"argv\":[\"true\"]}", opts, NULL), name);
    if (by & REPLY)
        named(exec_and_reply(fd[0], "true", 4, opts, NULL), name);
    if (by & RUN) {
        named(exec_run("true", 4, opts, NULL, &output), name);
        CHECK(output == NULL);
    }
    if (by & SERVE_DATAGRAM)
        named(exec_datagram_serve(datagrams, udp[1], opts, 0, NULL), name);
}

#define OPTION_REFUSED(by, member, value) \
    do { \
        struct exec_options opts_ = EXEC_OPTIONS_INIT; \
        opts_.member = value; \
        refused_by(by, &opts_, #member); \
    } while (0)

static int ask_nothing(void *context)
{
    return context != NULL;
}

static int allow(void *context, const struct exec_inquiry *inquiry, char *reason, size_t size)
{
    return context != NULL && inquiry != NULL && reason != NULL && size > 0;
}

static void options_that_cannot_apply_are_refused(void)
{
    struct exec_result result = EXEC_RESULT_INIT;
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    struct {
        struct exec_options opts;
        uint64_t of_a_later_version;
    } later = {EXEC_OPTIONS_INIT, 1};
    CHECK_RETURNS(0, exec_datagram_server_new(NULL, 0, &datagrams));
    OPTION_REFUSED(SERVERS, size, 0);
    OPTION_REFUSED(SERVERS, size, 3);
    OPTION_REFUSED(SERVERS, flags, 0x80000000);
    OPTION_REFUSED(SERVERS, flags, EXEC_MERGE);
    OPTION_REFUSED(SERVERS, reserved, 1);
    OPTION_REFUSED(SERVERS, command_timeout_ms, -3);
    OPTION_REFUSED(SERVERS, grace_ms, FRAME_NO_TIMEOUT);
    OPTION_REFUSED(SERVERS, drain_ms, FRAME_NO_TIMEOUT);
    OPTION_REFUSED(SERVERS, close_grace_ms, FRAME_NO_TIMEOUT);
    OPTION_REFUSED(SERVERS, reply_timeout_ms, -3);
    OPTION_REFUSED(SERVERS, max_command, 131072);
    OPTION_REFUSED(SERVERS, env, NO_VALUE);
    OPTION_REFUSED(SERVERS, env, NO_NAME);
    OPTION_REFUSED(SERVERS, env, EMPTY);
    OPTION_REFUSED(SERVERS, umask, 027); /* without EXEC_UMASK */
    OPTION_REFUSED(SERVERS, uid, 54321); /* without EXEC_USER */
    OPTION_REFUSED(SERVERS, gid, 54321);
    OPTION_REFUSED(SERVE | RUN | SERVE_DATAGRAM, write_fd, 1);
    OPTION_REFUSED(SERVE, interrupted, ask_nothing);
    OPTION_REFUSED(RUN, policy, allow);
    OPTION_REFUSED(RUN | SERVE_DATAGRAM, reply_timeout_ms, 1);
    OPTION_REFUSED(RUN | SERVE_DATAGRAM, close_grace_ms, 1);
    OPTION_REFUSED(SERVE_DATAGRAM, max_output, 16777217);
    opts.flags = EXEC_DETACHED;
    refused_by(RUN | SERVE_DATAGRAM, &opts, "EXEC_DETACHED");
    opts.flags = EXEC_UMASK;
    opts.umask = 01000;
    refused_by(SERVERS, &opts, "umask");
    opts.umask = 0;
    opts.flags = EXEC_USER;
    refused_by(SERVERS, &opts, "uid");
    opts.uid = 54321;
    refused_by(SERVERS, &opts, "gid");
    opts.uid = 0;
    opts.gid = 54321;
    refused_by(SERVERS, &opts, "uid");
    later.opts.size = sizeof later;
    refused_by(SERVERS, &later.opts, "opts");
    result.size = 0;
    named(exec_and_reply(fd[0], "true", 4, NULL, &result), "result");
    named(exec_serve(c, "{\"cmd\":\"exec\",\"argv\":[\"true\"]}", NULL, &result), "result");
    named(exec_run("true", 4, NULL, &result, &output), "result");
    named(exec_datagram_serve(datagrams, udp[1], NULL, 0, &result), "result");
    named(exec_finish(c, 0, &result), "result");
    named(exec_copy(c, -1, 1, 2, 0, &result), "result");
    CHECK(unread(fd[1]) == 0);
    exec_datagram_server_free(datagrams);
}

/* Who writes a result, and how the command ended: with 3, or below 0 a failure. */
static int with_result(int who, struct frame_connection *client, struct exec_result *result)
{
    struct exec_request what = shell("printf out; exit 3");
    struct exec_output *output = NULL;
    int code;
    if (who == 0)
        return exec_and_reply(fd[0], "printf out; exit 3", 18, NULL, result);
    if (who == 1)
        code = exec_run("printf out; exit 3", 18, NULL, result, &output);
    else if (who == 2)
        code = exec_call(client, &what, LONG, result, &output);
    else {
        CHECK_RETURNS(0, exec_start(client, &what, LONG));
        code = who == 3 ? exec_finish(client, LONG, result)
                        : exec_copy(client, -1, fd[0], fd[0], LONG, result);
    }
    exec_output_free(output);
    return code;
}

static void a_result_is_as_long_as_its_size_says(void)
{
    const size_t older = offsetof(struct exec_result, signal);
    struct {
        struct exec_result result;
        uint64_t of_a_later_version;
    } later;
    unsigned char *bytes = (unsigned char *)&later;
    struct server server;
    struct frame_connection *client = start(&server, NULL);
    size_t i;
    int who;
    for (who = 0; who < 5; who++) {
        memset(&later, 0x55, sizeof later);
        later.result.size = (uint32_t)older;
        CHECK_RETURNS(EXEC_EXITED, with_result(who, client, &later.result));
        CHECK(later.result.outcome == EXEC_EXITED && later.result.exit_code == 3);
        CHECK_RETURNS(older, later.result.size);
        for (i = older; i < sizeof later; i++)
            CHECK(bytes[i] == 0x55);
        later.result.size = sizeof later;
        CHECK_RETURNS(EXEC_EXITED, with_result(who, client, &later.result));
        CHECK(later.result.stdout_total == 3 && later.of_a_later_version == 0);
        CHECK(later.result.charset[0] != '\0' && strlen(later.result.charset) < 40);
    }
    stop_in_sync(&server, client);

    /* On failure nothing is written. */
    memset(&later, 0x55, sizeof later);
    later.result.size = sizeof later;
    CHECK_RETURNS(FRAME_EBADF, exec_and_reply(-1, "true", 4, NULL, &later.result));
    for (i = sizeof later.result.size; i < sizeof later; i++)
        CHECK(bytes[i] == 0x55);
}

/* Members behind the size that a program was built with are not read. */
static void structs_of_an_older_program_work(void)
{
    struct exec_request what;
    struct exec_options opts;
    struct exec_output *output;
    struct server server;
    struct frame_connection *client;
    memset(&opts, 0x55, sizeof opts);
    opts.size = offsetof(struct exec_options, cwd);
    memset((char *)&opts + sizeof opts.size, 0, opts.size - sizeof opts.size);
    client = start(&server, &opts);
    memset(&what, 0x55, sizeof what);
    what.size = offsetof(struct exec_request, argv);
    what.flags = 0;
    what.command = "echo short";
    what.command_len = 0;
    CHECK_RETURNS(EXEC_EXITED, exec_call(client, &what, LONG, NULL, &output));
    CHECK_OUTPUT("short\n", output, EXEC_STDOUT);
    exec_output_free(output);
    CHECK_RETURNS(EXEC_EXITED, exec_run("echo short", 10, &opts, NULL, &output));
    exec_output_free(output);
    stop_in_sync(&server, client);
}

static void the_options_of_a_client_are_in_its_request(void)
{
    static const char *const ENV[] = {"A=1", "B=x=y", NULL};
    static const char *const KEYS[] = {
        "\"cmd\":\"exec\"", "\"timeout_ms\":1234", "\"max_output\":77", "\"cwd\":\"/tmp\"",
        "\"env\":{\"A\":\"1\",\"B\":\"x=y\"}", "\"on_close\":\"run\"", "\"merge\":true",
        "\"stdin_size\":5", "\"id\":\"~1\"",
    };
    struct exec_request what = shell("commanding");
    struct frame_connection *client;
    struct exec_output *output;
    struct frame *request;
    int pair[2];
    size_t i;
    socket_pair(pair);
    CHECK_RETURNS(0, frame_connection_new(pair[0], pair[0], NULL, &client));
    what.command_len = 7;
    what.command_timeout_ms = 1234;
    what.max_output = 77;
    what.cwd = "/tmp";
    what.env = ENV;
    what.input = "input";
    what.input_len = 5;
    what.flags = EXEC_DETACHED | EXEC_MERGE;
    CHECK_RETURNS(0, frame_send(pair[1], "{\"exit_code\":0,\"id\":\"~1\"}", NULL, 0, NULL));
    CHECK_RETURNS(EXEC_EXITED, exec_call(client, &what, LONG, NULL, &output));
    exec_output_free(output);
    CHECK_RETURNS(0, frame_recv(pair[1], &request, NULL));
    CHECK_BODY("commandinput", request);
    for (i = 0; i < sizeof KEYS / sizeof *KEYS; i++)
        CHECK(strstr(frame_header(request, NULL), KEYS[i]) != NULL);
    frame_free(request);

    what = shell("x");
    what.flags = EXEC_TTY | EXEC_NO_INPUT;
    what.rows = 3;
    CHECK_RETURNS(0, exec_start(client, &what, 0));
    CHECK_RETURNS(0, frame_recv(pair[1], &request, NULL));
    CHECK(strstr(frame_header(request, NULL), "\"stream\":true") != NULL);
    CHECK(strstr(frame_header(request, NULL), "\"rows\":3") != NULL);
    CHECK(strstr(frame_header(request, NULL), "\"columns\":80") != NULL);
    CHECK(strstr(frame_header(request, NULL), "\"stdin_size\":0") != NULL);
    CHECK(strstr(frame_header(request, NULL), "\"max_output\"") == NULL);
    frame_free(request);
    frame_connection_free(client);
    close_both(pair);
}

/* A policy that allows what begins with "echo", and remembers what it saw. */
static int only_echo(void *context, const struct exec_inquiry *inquiry, char *reason,
                     size_t reason_size)
{
    int *asked = context;
    CHECK(inquiry->size == sizeof *inquiry && inquiry->env != NULL && reason_size >= 512);
    ++*asked;
    if (inquiry->argv != NULL) {
        CHECK(strcmp(inquiry->argv[0], "true") == 0 && inquiry->argv[1] == NULL);
        CHECK(inquiry->command_len == 0 && strcmp(inquiry->cwd, "/tmp") == 0);
        CHECK(strcmp(inquiry->env[0], "A=b") == 0 && inquiry->env[1] == NULL);
        CHECK(inquiry->flags == EXEC_MERGE && strstr(inquiry->header, "\"argv\"") != NULL);
        return FRAME_EBUSY;
    }
    if (inquiry->command_len >= 4 && memcmp(inquiry->command, "echo", 4) == 0)
        return 0;
    snprintf(reason, reason_size, "only echo \"here\"");
    return 1;
}

static void a_policy_decides_before_anything_runs(void)
{
    static const char *const env[] = {"A=b", NULL};
    char path[] = "/tmp/framefd-policy-XXXXXX", command[64];
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_request what = EXEC_REQUEST_INIT;
    struct exec_result result = EXEC_RESULT_INIT;
    struct frame_connection *client;
    struct exec_output *output;
    struct server server;
    struct stat stat_buf;
    int asked = 0, pair[2];
    char byte;
    CHECK(mkdtemp(path) != NULL);
    CHECK(snprintf(command, sizeof command, "rmdir %s", path) > 0);
    opts.policy = only_echo;
    opts.context = &asked;
    client = start(&server, &opts);
    expect_reply(client, "echo x", "x\n");
    what.command = command;
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, exec_call(client, &what, LONG, NULL, &output));
    CHECK(strstr(frame_last_error(), "only echo \"here\"") != NULL);
    CHECK_RETURNS(0, exec_start(client, &what, LONG));
    CHECK_RETURNS(FRAME_EREMOTE_DENIED, exec_read(client, &byte, 1, LONG, NULL));
    what.command = NULL;
    what.argv = TRUE;
    what.cwd = "/tmp";
    what.env = env;
    what.flags = EXEC_MERGE;
    CHECK_RETURNS(FRAME_EREMOTE_BUSY, exec_call(client, &what, LONG, NULL, &output));
    stop_in_sync(&server, client);

    socket_pair(pair);
    CHECK_RETURNS(EXEC_REFUSED,
                  exec_and_reply(pair[0], command, strlen(command), &opts, &result));
    CHECK(result.error == FRAME_EACCES && asked == 5);
    close_both(pair);
    CHECK(stat(path, &stat_buf) == 0 && rmdir(path) == 0);
}

static void commands_are_confined(void)
{
    struct exec_options opts = EXEC_OPTIONS_INIT;
    struct exec_output *output;
    opts.flags = EXEC_UMASK;
    opts.umask = 027;
    opts.file_size = 4096;
    opts.cpu_seconds = 5;
    opts.memory = (uint64_t)1 << 30;
    CHECK_RETURNS(EXEC_EXITED,
                  exec_run("umask; ulimit -t; ulimit -f; ulimit -v", 38, &opts, NULL, &output));
    CHECK_OUTPUT("0027\n5\n8\n1048576\n", output, EXEC_STDOUT);
    exec_output_free(output);
    if (geteuid() == 0) {
        opts.flags |= EXEC_USER;
        opts.uid = 54321;
        opts.gid = 12345;
        CHECK_RETURNS(EXEC_EXITED, exec_run("id -u; id -g; id -G; echo ${HOME-none}", 38, &opts,
                                            NULL, &output));
        CHECK_OUTPUT("54321\n12345\n12345\nnone\n", output, EXEC_STDOUT);
        exec_output_free(output);
    }
}

int main(void)
{
    socket_pair(fd);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, udp) == 0);
    CHECK_RETURNS(0, frame_connection_new(fd[0], fd[0], NULL, &c));
    requests_that_cannot_apply_are_refused();
    options_that_cannot_apply_are_refused();
    frame_connection_free(c);
    a_result_is_as_long_as_its_size_says();
    structs_of_an_older_program_work();
    the_options_of_a_client_are_in_its_request();
    a_policy_decides_before_anything_runs();
    commands_are_confined();
    close_both(fd);
    close_both(udp);
    return 0;
}
