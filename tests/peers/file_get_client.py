"""File upload and download with the replies read.

Usage: file_get_client.py HOST PORT put LOCAL [REMOTE] | get REMOTE [LOCAL]
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys

import wire


def read_reply(conn: socket.socket) -> tuple[wire.Header, bytes]:
    reply = wire.read_frame(conn)
    if reply is None:
        raise EOFError("connection closed")
    if reply[0]["status"] == "error":
        raise ValueError(f"{reply[0]['code']}: {reply[0]['message']}")
    return reply


def put(conn: socket.socket, local: str, remote: str) -> None:
    with open(local, "rb") as file:
        body = file.read()
    wire.write_frame(conn, {"cmd": "put", "filename": remote, "filesize": len(body)}, body)
    header, _ = read_reply(conn)
    if (header["filesize"], header["sha256"]) != (len(body), hashlib.sha256(body).hexdigest()):
        raise ValueError("the file was not stored as it was sent")


def get(conn: socket.socket, remote: str, local: str) -> None:
    wire.write_frame(conn, {"cmd": "get", "filename": remote})
    header, body = read_reply(conn)
    if header["filesize"] != len(body):
        raise ValueError("the file did not come whole")
    with open(local, "wb") as file:
        file.write(body)


def main() -> None:
    host, port, command, source, *rest = sys.argv[1:]
    target = rest[0] if rest else os.path.basename(source)
    with socket.create_connection((host, int(port))) as conn:
        {"put": put, "get": get}[command](conn, source, target)


if __name__ == "__main__":
    wire.run_client(main)
