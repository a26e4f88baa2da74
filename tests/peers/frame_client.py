"""Exec over TCP: a framed command out, a frame in, of which only `data_size` is looked at.

Usage: frame_client.py HOST PORT [COMMAND]...
"""

from __future__ import annotations

import socket
import sys

import wire


def main() -> None:
    host, port, *commands = sys.argv[1:]
    with socket.create_connection((host, int(port))) as conn:
        for command in wire.lines(commands):
            wire.write_frame(conn, {"cmd": "exec"}, command)
            reply = wire.read_frame(conn)
            if reply is None:
                raise EOFError("connection closed")
            wire.show(reply[1])


if __name__ == "__main__":
    wire.run_client(main)
