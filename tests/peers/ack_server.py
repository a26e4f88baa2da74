"""Exec over TCP: the length in digits, a wait for `recv_ready`, then the data.

Usage: ack_server.py HOST PORT
"""

from __future__ import annotations

import socket
import sys

import wire

READY = b"recv_ready"


def talk(conn: socket.socket) -> None:
    while command := conn.recv(wire.BUFFER):
        result = wire.run_command(command)
        reply = result.stderr or result.stdout
        conn.sendall(str(len(reply)).encode())
        if wire.recv_exact(conn, len(READY)) != READY:
            return
        conn.sendall(reply)


if __name__ == "__main__":
    wire.serve(sys.argv[1], int(sys.argv[2]), talk)
