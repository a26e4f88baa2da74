"""Proves that it holds the key, sends text, and shows the text that it receives."""

from __future__ import annotations

import socket

import common
from common import Mistake

HELP = """\
usage: auth_echo_client --key-file FILE HOST PORT [TEXT]

Sends TEXT to the server, or each line of a prompt that quit or end of input ends, and
shows what comes back. Exits with 1 if the server refuses the key.

  --key-file FILE  prove to the server that this client holds the key in FILE
  --help           show this and exit
"""


CHUNK_SIZE = 1024


def main() -> None:
    arguments = common.Arguments(HELP)
    if not arguments.key:
        raise Mistake("no --key-file, see --help")
    with common.connect(arguments, exact=True) as server, common.socket_of(server) as conn:
        for text in common.requests(arguments):
            try:
                echo(conn, text)
            except ConnectionError:
                raise Mistake("refused: the server closed the connection") from None


def echo(conn: socket.socket, text: bytes) -> None:
    """Sends chunks, and receives each before the next one. If everything was sent first,
    both peers could wait forever for the other one to read."""
    for start in range(0, len(text), CHUNK_SIZE):
        chunk = text[start : start + CHUNK_SIZE]
        conn.sendall(chunk)
        common.show(common.recv_exactly(conn, len(chunk)))
    common.show(b"\n")


if __name__ == "__main__":
    common.run(main, failure=1)
