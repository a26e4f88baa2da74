"""Asks a server to run commands and shows what they print, on one of five wires."""

from __future__ import annotations

import select
import socket

import common
import framefd
from common import Mistake

HELP = """\
usage: exec_client [--wire WIRE] [--key-file FILE] HOST PORT [COMMAND]

Runs COMMAND on the server, or each line of a prompt that quit or end of input ends.
What it prints comes to standard output and standard error; a wire that does not tell
them apart has all of it on standard output. Exits with the status of the last
command, 0 where the wire has none, or 255 where the command could not be run.

  --wire WIRE      as the server's: frame (the default), json, packet, ack, bare
  --key-file FILE  prove to the server that this client holds the key in FILE
  --help           show this and exit
"""

OLD_RECV = 1024  # what the oldest servers and clients receive at once
BARE_REPLY_SECONDS = 2  # on the bare wire no output and no reply look the same


def main() -> int:
    arguments = common.Arguments(HELP, "wire=")
    ask = arguments.wire(
        {
            "frame": ask_frame,
            "json": ask_json,
            "packet": ask_packet,
            "ack": ask_ack,
            "bare": ask_bare,
        }
    )
    status = 0
    with common.connect(arguments) as conn:
        for command in common.requests(arguments):
            status = ask(conn, command)
    return status


def ask_frame(conn: socket.socket, command: bytes) -> int:
    return common.show_command(lambda: framefd.run(conn, command))


def send_bare(conn: socket.socket, command: bytes) -> None:
    """One recv() of the server has to return all of it."""
    if len(command) > OLD_RECV:
        raise Mistake(f"a command of {len(command)} bytes, where 1 to {OLD_RECV} can be sent")
    conn.sendall(command)


def ask_json(conn: socket.socket, command: bytes) -> int:
    """A server older than this library sends data_size alone."""
    send_bare(conn, command)
    header, body = framefd.recv(conn)
    split = header.get("stdout_size")
    if not isinstance(split, int) or not 0 <= split <= len(body):
        split = len(body)
    common.show(body[:split], body[split:])
    if header.get("status") == "error":
        common.warn(str(header.get("message")))
        return common.NO_COMMAND
    return common.status_of(header.get("exit_code", 0))


def ask_packet(conn: socket.socket, command: bytes) -> int:
    send_bare(conn, command)
    common.show(framefd.recv_packet(conn))
    return 0


def ask_ack(conn: socket.socket, command: bytes) -> int:
    send_bare(conn, command)
    digits = recv_some(conn, 24)
    if not digits.isdigit():
        raise Mistake("a reply that does not begin with its length")
    conn.sendall(b"recv_ready")
    left = int(digits)
    while left > 0:
        data = recv_some(conn, min(left, 64 * 1024))
        common.show(data)
        left -= len(data)
    return 0


def ask_bare(conn: socket.socket, command: bytes) -> int:
    """One recv() a command, as always: what does not fit sticks to the next reply."""
    send_bare(conn, command)
    if select.select([conn], [], [], BARE_REPLY_SECONDS)[0]:
        common.show(recv_some(conn, OLD_RECV))
    else:
        common.warn(f"nothing came within {BARE_REPLY_SECONDS * 1000} ms")
    return 0


def recv_some(conn: socket.socket, size: int) -> bytes:
    data = conn.recv(size)
    if not data:
        raise Mistake("the server closed the connection")
    return data


if __name__ == "__main__":
    common.run(main, common.NO_COMMAND)
