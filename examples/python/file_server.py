"""Stores the files of its clients below one directory, and gives them back."""

from __future__ import annotations

import os

import common
import framefd
from common import Mistake

HELP = """\
usage: file_server --root DIR [--host HOST] [--port PORT] [--key-file FILE]

Stores the files of its clients below one directory, and gives them back. What is left
of transfers that were cut more than a day ago is removed at the start.

  --root DIR       the directory, which no name leads out of
  --host HOST      listen on this address (127.0.0.1); any but loopback needs a key
  --port PORT      listen on this port; 0, the default, picks a free one
  --key-file FILE  serve only clients that hold the key in FILE
  --help           show this and exit

SIGINT and SIGTERM stop it; transfers in flight are finished.
"""

COMMANDS = ["put", "get", "stat", "list", "mkdir", "symlink"]


def main() -> None:
    arguments = common.Arguments(HELP, "root=", "host=", "port=")
    path = arguments.option("root")
    if not path:
        raise Mistake("no --root, see --help")
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Mistake(f"{path}: {error.strerror}") from None
    try:
        framefd.sweep(root)
    except framefd.FrameError as error:
        common.warn(error.message)

    def transfer(connection: framefd.Connection, request: framefd.Head) -> None:
        # The oldest clients do not read a reply, and would lose bytes in transit.
        connection.serve_file(request, root, reply_to_oldest=False)

    def serve(client: common.Client) -> framefd.FrameError | None:
        return common.serve_frames(client, COMMANDS, transfer)

    common.serve_connections(arguments, serve)


if __name__ == "__main__":
    common.run(main, common.NO_SERVER)
