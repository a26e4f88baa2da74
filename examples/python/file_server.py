"""Stores the files of its clients below one directory, and gives them back."""

from __future__ import annotations

import os

import common
import framefd
import server
from common import Mistake

HELP = """\
usage: file_server --root DIR [--host HOST] [--port PORT] [OPTION]...

Stores the files of its clients below one directory, and gives them back. What is left
of transfers that were cut more than a day ago is removed at the start.

  --root DIR       the directory, which no name leads out of
  --host HOST      listen on this address (127.0.0.1); any but loopback needs
                   --seal or --plain
  --port PORT      listen on this port; 0, the default, picks a free one
  --key-file FILE  serve only clients that hold the key in FILE
  --seal           prove the key to clients too, and encrypt all that is sent; the key is
                   32 random bytes or more: head -c 32 /dev/urandom >FILE
  --keys DIR       with --seal, serve the clients that hold a key in DIR, which has a file
                   for each; its name is the key's id
  --name NAME      with --seal, this server's name, which clients give too; without one
                   two servers with the same key can be taken for each other
  --plain          listen on any address without --seal, though somebody in between can
                   read all and act as a client: for networks that are trusted
  --help           show this and exit

SIGHUP reads the keys again, and ends the connections of clients whose key is gone.
SIGINT and SIGTERM stop it; transfers in flight are finished, within 25 s. A second
signal ends it at once.
"""


def main() -> None:
    arguments = common.Arguments(HELP, "root=", "host=", "port=", *common.SERVER_SEAL)
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

    def add(frames: framefd.Server) -> None:
        # The oldest clients do not read a reply, and would lose bytes in transit.
        frames.serve_files(root, write=True, reply_to_oldest=False)

    server.serve_frames(arguments, add)


if __name__ == "__main__":
    common.run(main, common.NO_SERVER)
