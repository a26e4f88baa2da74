/* Stores the files of its clients below one directory, and sends them back. */

#include "common.h"

#include <fcntl.h>

static const char help[] =
    "usage: file_server --root DIR [--host HOST] [--port PORT] [OPTION]...\n"
    "\n"
    "Stores the files of its clients below one directory, and gives them back. What is left\n"
    "of transfers that were cut more than a day ago is removed at the start.\n"
    "\n"
    "  --root DIR       the directory, which no name leads out of\n"
    "  --host HOST      listen on this address (127.0.0.1); any but loopback needs\n"
    "                   --seal or --plain\n"
    "  --port PORT      listen on this port; 0, the default, picks a free one\n"
    "  --key-file FILE  serve only clients that hold the key in FILE\n"
    "  --seal           prove the key to clients too, and encrypt all that is sent; the key is\n"
    "                   32 random bytes or more: head -c 32 /dev/urandom >FILE\n"
    "  --keys DIR       with --seal, serve the clients that hold a key in DIR, which has a file\n"
    "                   for each; its name is the key's id\n"
    "  --name NAME      with --seal, this server's name, which clients give too; without one\n"
    "                   two servers with the same key can be taken for each other\n"
    "  --plain          listen on any address without --seal, though somebody in between can\n"
    "                   read all and act as a client: for networks that are trusted\n"
    "  --help           show this and exit\n"
    "\n"
    "SIGHUP reads the keys again, and ends the connections of clients whose key is gone.\n"
    "SIGINT and SIGTERM stop it; transfers in flight are finished, within 25 s. A second\n"
    "signal ends it at once.\n";

int main(int argc, char **argv)
{
    exit_failure = EXIT_NO_SERVER;
    struct arguments a = read_arguments(argc, argv, "hprksKNP", help);
    if (a.root == NULL)
        fail("no --root, see --help");
    int root = open(a.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        err(exit_failure, "%s", a.root);
    if (frame_file_sweep(root, 0) < 0)
        complain("%s", frame_last_error());
    struct service service = open_service(&a);
    /* The oldest clients do not read a reply, and would lose bytes in transit. */
    struct frame_file_options opts = FRAME_FILE_OPTIONS_INIT;
    opts.flags = FRAME_FILE_NO_REPLY;
    uint32_t all = FRAME_SERVE_READ | FRAME_SERVE_WRITE;
    if (frame_server_serve_files(service.server, root, all, &opts) != 0)
        fail("%s", frame_last_error());
    close(root);
    int status = run_service(&service);
    free_arguments(&a);
    return status;
}
