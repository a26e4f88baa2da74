"""Sends files to a server, and fetches them."""

from __future__ import annotations

import os

import common
import framefd

HELP = """\
usage: file_client [--key-file FILE] HOST PORT [REQUEST]

Does what REQUEST says, or each line of a prompt that quit or end of input ends:

  put [--no-reply] LOCAL [REMOTE]  send a file; --no-reply is for an old server, which
                                   does not say whether it stored it
  get REMOTE [LOCAL]               fetch a file

A second name that is left out is the last part of the first.

  --key-file FILE  prove to the server that this client holds the key in FILE
  --help           show this and exit
"""


def main() -> int:
    arguments = common.Arguments(HELP)
    if arguments.request:
        return transfer(arguments, arguments.request)
    status = 0
    for line in common.requests(arguments):
        status = transfer(arguments, os.fsdecode(line).split())
    return status


def transfer(arguments: common.Arguments, words: list[str]) -> int:
    """Sends or fetches one file, on a connection of its own: a transfer that fails half-way
    leaves it of no more use."""
    command, *names = words
    reply = not (command == "put" and names[:1] == ["--no-reply"])
    if not reply:
        names.pop(0)
    if command not in ("put", "get") or not 1 <= len(names) <= 2:
        common.warn("neither put [--no-reply] LOCAL [REMOTE] nor get REMOTE [LOCAL]")
        return 1
    source, target = names[0], names[1] if names[1:] else os.path.basename(names[0])
    with common.connect(arguments) as conn:
        try:
            if command == "put":
                result = framefd.put(conn, source, target, reply=reply)
            else:
                result = framefd.get(conn, source, target)
        except framefd.FrameError as error:
            common.warn(error.message)
            return 1
    name = target if command == "put" else source
    digest = f", sha256 {result.sha256}" if result.sha256 else ""
    print(f"{command} {name}: {result.size} bytes{digest}", flush=True)
    return 0


if __name__ == "__main__":
    common.run(main, failure=1)
