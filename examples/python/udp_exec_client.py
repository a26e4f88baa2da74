"""Asks a server to run commands and shows what they print, in datagrams."""

from __future__ import annotations

import socket

import common
import framefd
from common import Mistake

HELP = """\
usage: udp_exec_client [--wire WIRE] [--key-file FILE] HOST PORT [COMMAND]

Runs COMMAND on the server, or each line of a prompt that quit or end of input ends.
What it prints comes to standard output and standard error. Exits with the status of
the last command, 0 where the wire has none, or 255 where the command could not be run
or its reply did not come within 30 s.

  --wire WIRE      as the server's: frame (the default) or bare, which has no place
                   for a key
  --key-file FILE  sign datagrams with the key in FILE, and take only signed ones
  --help           show this and exit
"""

REPLY_SECONDS = 30
MAX_DATAGRAM = 65507
ROOM = 2 * 1024 * 1024  # for all parts of a reply: what finds none is lost


def main() -> int:
    arguments = common.Arguments(HELP, "wire=")
    ask = arguments.wire({"frame": ask_frame, "bare": ask_bare})
    if ask == ask_bare and arguments.key:
        raise Mistake("the bare wire has no place for a key")
    status = 0
    with common.open_datagrams(arguments, server=False) as sock:
        sock.settimeout(REPLY_SECONDS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        for command in common.requests(arguments):
            status = ask(sock, command, arguments.key)
    return status


def ask_frame(sock: socket.socket, command: bytes, key: framefd.Key | None) -> int:
    return common.show_command(lambda: framefd.run_datagram(sock, command, key))


def ask_bare(sock: socket.socket, command: bytes, _: framefd.Key | None) -> int:
    sock.send(command)
    common.show(recv_reply(sock), common.STDERR)
    common.show(recv_reply(sock))
    return 0


def recv_reply(sock: socket.socket) -> bytes:
    try:
        return sock.recv(MAX_DATAGRAM)
    except socket.timeout:
        raise Mistake("no reply: it did not come in time") from None
    except OSError as error:
        raise Mistake(f"no reply: {error.strerror}") from None


if __name__ == "__main__":
    common.run(main, common.NO_COMMAND)
