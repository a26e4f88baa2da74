"""File upload as the tutorial left it: a header without `data_size`, and no reply is read.

Usage: file_client.py HOST PORT put FILE...
"""

from __future__ import annotations

import os
import socket
import sys

import wire


class MyTCPClient:
    """Connects, and calls the method that the first word of a request names."""

    def __init__(self, host: str, port: int) -> None:
        self.conn = socket.create_connection((host, port))

    def run(self, command: str, names: list[str]) -> None:
        with self.conn:
            for name in names:
                getattr(self, "cmd_" + command)(name)

    def cmd_put(self, path: str) -> None:
        filesize = os.path.getsize(path)
        header = {"cmd": "put", "filename": os.path.basename(path), "filesize": filesize}
        self.conn.sendall(wire.pack_header(header))
        with open(path, "rb") as file:
            for line in file:
                self.conn.sendall(line)


def main() -> None:
    host, port, command, *names = sys.argv[1:]
    MyTCPClient(host, int(port)).run(command, names)


if __name__ == "__main__":
    wire.run_client(main)
