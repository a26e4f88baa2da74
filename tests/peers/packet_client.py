"""Exec over TCP: reads a four-byte length, then that many bytes.

Usage: packet_client.py HOST PORT [COMMAND]...
"""

from __future__ import annotations

import socket
import struct
import sys

import wire


def main() -> None:
    host, port, *commands = sys.argv[1:]
    with socket.create_connection((host, int(port))) as conn:
        for command in wire.lines(commands):
            conn.sendall(command)
            (length,) = struct.unpack("i", wire.recv_exact(conn, 4))
            wire.show(wire.recv_exact(conn, length))


if __name__ == "__main__":
    wire.run_client(main)
