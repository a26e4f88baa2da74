"""Serves only clients that hold the key: sends every chunk back in upper case."""

from __future__ import annotations

from socket import socket

import common
import server
from common import Mistake

HELP = """\
usage: auth_echo_server --key-file FILE [--host HOST] [--port PORT] [--plain]

Sends back what its clients send, in upper case, if they hold the key.

  --host HOST      listen on this address (127.0.0.1); any but loopback needs --plain
  --port PORT      listen on this port; 0, the default, picks a free one
  --key-file FILE  serve only clients that hold the key in FILE
  --plain          listen on any address, though somebody in between can read all and act
                   as a client: for networks that are trusted
  --help           show this and exit

SIGHUP reads the key again. SIGINT and SIGTERM stop it; replies in flight are finished.
"""

CHUNK_SIZE = 1024


def main() -> None:
    arguments = common.Arguments(HELP, "host=", "port=", "plain")
    if not arguments.key:
        raise Mistake("no --key-file, see --help")
    server.serve_connections(arguments, echo)


def echo(client: server.Client, conn: socket) -> None:
    while client.request_comes() and (data := conn.recv(CHUNK_SIZE)):
        conn.sendall(data.upper())


if __name__ == "__main__":
    common.run(main, common.NO_SERVER)
