"""Exec over TCP: the reply behind a four-byte length. Usage: packet_server.py HOST PORT"""

from __future__ import annotations

import socket
import struct
import sys

import wire


def talk(conn: socket.socket) -> None:
    while command := conn.recv(wire.BUFFER):
        result = wire.run_command(command)
        reply = result.stderr or result.stdout
        conn.sendall(struct.pack("i", len(reply)))
        conn.sendall(reply)


if __name__ == "__main__":
    wire.serve(sys.argv[1], int(sys.argv[2]), talk)
