"""Exec over TCP: a framed command in, a frame out. Usage: frame_server.py HOST PORT"""

from __future__ import annotations

import socket
import sys

import wire


def talk(conn: socket.socket) -> None:
    while request := wire.read_frame(conn):
        header, command = request
        if header["cmd"] == "exec":
            wire.write_frame(conn, *wire.exec_reply(command))
        else:
            error = {"status": "error", "code": "unsupported", "message": "only exec"}
            wire.write_frame(conn, error)


if __name__ == "__main__":
    wire.serve(sys.argv[1], int(sys.argv[2]), talk)
