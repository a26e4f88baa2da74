"""Runs the commands of its clients and sends back what they print, on one of five wires."""

from __future__ import annotations

import socket
from collections.abc import Callable

import common
import framefd

HELP = """\
usage: exec_server [--host HOST] [--port PORT] [--wire WIRE] [--key-file FILE]

Runs the commands of its clients and sends back what they print.

  --host HOST      listen on this address (127.0.0.1); any but loopback needs a key
  --port PORT      listen on this port; 0, the default, picks a free one
  --wire WIRE      how replies travel: frame (the default), json, packet, ack, bare
  --key-file FILE  serve only clients that hold the key in FILE
  --help           show this and exit

SIGINT and SIGTERM stop it; replies in flight are finished.
"""

RECV_SIZE = 64 * 1024
READY = b"recv_ready"


def main() -> None:
    arguments = common.Arguments(HELP, "host=", "port=", "wire=")
    answer = arguments.wire(
        {
            "frame": answer_frame,
            "json": on_old_wire(answer_json),
            "packet": on_old_wire(answer_packet),
            "ack": on_old_wire(answer_ack),
            "bare": on_old_wire(answer_bare),
        }
    )
    common.serve_connections(arguments, answer)


def answer_frame(conn: socket.socket) -> bool:
    return common.serve_frame(conn, ["exec"], framefd.exec_serve)


def on_old_wire(
    reply: Callable[[socket.socket, bytes], None],
) -> Callable[[socket.socket], bool]:
    """A wire on which a command is whatever one recv() returns."""

    def answer(conn: socket.socket) -> bool:
        command = conn.recv(RECV_SIZE)
        if command:
            reply(conn, command)
        return bool(command)

    return answer


def answer_json(conn: socket.socket, command: bytes) -> None:
    framefd.exec_and_reply(conn, command)


def answer_packet(conn: socket.socket, command: bytes) -> None:
    framefd.send_packet(conn, run(command), timeout=common.STALL_SECONDS)


def answer_ack(conn: socket.socket, command: bytes) -> None:
    """The client's next command may already be behind its recv_ready."""
    reply = run(command)
    conn.sendall(b"%d" % len(reply))
    if common.recv_exactly(conn, len(READY)) != READY:
        raise ConnectionError("the client is not ready")
    conn.sendall(reply)


def answer_bare(conn: socket.socket, command: bytes) -> None:
    conn.sendall(run(command))


def run(command: bytes) -> bytes:
    """What the older wires reply: stderr, then stdout, with nothing to tell them apart."""
    stdout, stderr = common.run_command(command)
    return stderr + stdout


if __name__ == "__main__":
    common.run(main, common.NO_SERVER)
