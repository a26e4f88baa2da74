"""Exec over TCP: reads a length in digits, answers `recv_ready`, reads that many bytes.

Usage: ack_client.py HOST PORT [COMMAND]...
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
            digits = conn.recv(wire.BUFFER)
            if not digits:
                raise EOFError("connection closed")
            conn.sendall(b"recv_ready")
            wire.show(wire.recv_exact(conn, int(digits)))


if __name__ == "__main__":
    wire.run_client(main)
