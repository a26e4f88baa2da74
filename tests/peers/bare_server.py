"""Exec over TCP, no framing at all: stderr, then stdout. Usage: bare_server.py HOST PORT"""

from __future__ import annotations

import socket
import sys

import wire


def talk(conn: socket.socket) -> None:
    while command := conn.recv(wire.BUFFER):
        result = wire.run_command(command)
        conn.sendall(result.stderr)
        conn.sendall(result.stdout)


if __name__ == "__main__":
    wire.serve(sys.argv[1], int(sys.argv[2]), talk)
