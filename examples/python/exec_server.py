"""Runs the commands of its clients and sends back what they print, on one of five wires."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from socket import socket

import common
import framefd
import server

HELP = """\
usage: exec_server [--host HOST] [--port PORT] [--wire WIRE] [OPTION]...

Runs the commands of its clients and sends back what they print.

  --host HOST      listen on this address (127.0.0.1); any but loopback needs
                   --seal or --plain
  --port PORT      listen on this port; 0, the default, picks a free one
  --wire WIRE      how replies travel: frame (the default), json, packet, ack, bare
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
SIGINT and SIGTERM stop it; replies in flight are finished, on the frame wire
within 25 s. A second signal ends it at once.
"""

RECV_SIZE = 64 * 1024
READY = b"recv_ready"


def main() -> None:
    arguments = common.Arguments(HELP, "host=", "port=", "wire=", *common.SERVER_SEAL)
    old_wires = {
        "json": answer_json,
        "packet": answer_packet,
        "ack": answer_ack,
        "bare": answer_bare,
    }
    answer = arguments.wire({"frame": None, **old_wires})
    if answer is None:
        options = framefd.ExecOptions(command_timeout=math.inf)
        server.serve_frames(arguments, lambda frames: frames.serve_exec(options))
    else:
        server.serve_connections(arguments, partial(serve_old_wire, answer))


def serve_old_wire(
    answer: Callable[[socket, bytes], object], client: server.Client, conn: socket
) -> None:
    """A wire on which a command is the bytes of one recv()."""
    while client.request_comes() and (command := conn.recv(RECV_SIZE)):
        answer(conn, command)


def answer_json(conn: socket, command: bytes) -> None:
    framefd.exec_and_reply(conn, command)


def answer_packet(conn: socket, command: bytes) -> None:
    reply = run(command)
    framefd.send(conn, body=reply, prefix=framefd.Prefix(), timeout=common.STALL_SECONDS)


def answer_ack(conn: socket, command: bytes) -> None:
    """The client's next command may follow its recv_ready directly."""
    reply = run(command)
    conn.sendall(b"%d" % len(reply))
    if common.recv_exactly(conn, len(READY)) != READY:
        raise ConnectionError("the client is not ready")
    conn.sendall(reply)


def answer_bare(conn: socket, command: bytes) -> None:
    conn.sendall(run(command))


def run(command: bytes) -> bytes:
    """The reply of the older wires: stderr, then stdout, without a separator."""
    stdout, stderr = common.run_command(command)
    return stderr + stdout


if __name__ == "__main__":
    common.run(main, common.NO_SERVER)
