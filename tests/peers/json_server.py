"""Exec over TCP: a bare command in, a frame out. Usage: json_server.py HOST PORT"""

from __future__ import annotations

import socket
import sys

import wire


def talk(conn: socket.socket) -> None:
    while command := conn.recv(wire.BUFFER):
        result = wire.run_command(command)
        wire.write_frame(conn, {}, result.stderr or result.stdout)


if __name__ == "__main__":
    wire.serve(sys.argv[1], int(sys.argv[2]), talk)
