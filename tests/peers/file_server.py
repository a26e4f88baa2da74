"""File upload as the tutorial left it: put only, no reply, and every name believed.

Usage: file_server.py HOST PORT DIRECTORY
"""

from __future__ import annotations

import os
import socket
import sys

import wire


class MyTCPServer:
    """Binds, listens, accepts, and calls the method that a header's `cmd` names."""

    request_queue_size = 5
    max_packet_size = 8192

    def __init__(self, host: str, port: int, directory: str) -> None:
        self.directory = directory
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(self.request_queue_size)
        wire.announce(self.listener)

    def run(self) -> None:
        while True:
            self.conn, _ = self.listener.accept()
            with self.conn:
                try:
                    while header := wire.read_header(self.conn):
                        getattr(self, "cmd_" + header["cmd"])(header)
                except Exception as error:  # no client ends the server
                    print(repr(error), file=sys.stderr, flush=True)

    def cmd_put(self, header: wire.Header) -> None:
        path = os.path.normpath(os.path.join(self.directory, header["filename"]))
        left = header["filesize"]
        with open(path, "wb") as file:
            while left > 0:
                data = self.conn.recv(min(left, self.max_packet_size))
                if not data:
                    raise EOFError(f"{header['filename']}: {left} bytes are missing")
                file.write(data)
                left -= len(data)


if __name__ == "__main__":
    MyTCPServer(sys.argv[1], int(sys.argv[2]), sys.argv[3]).run()
