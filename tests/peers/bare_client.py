"""Exec over TCP, one recv per reply, so that long replies stick to the next one.

Usage: bare_client.py HOST PORT [COMMAND]...
"""

from __future__ import annotations

import socket
import sys

import wire


def main() -> None:
    host, port, *commands = sys.argv[1:]
    with socket.create_connection((host, int(port))) as conn:
        for command in wire.lines(commands):
            conn.sendall(command)
            reply = conn.recv(wire.BUFFER)
            if not reply:
                raise EOFError("connection closed")
            wire.show(reply)


if __name__ == "__main__":
    wire.run_client(main)
