"""File upload and download with replies. Usage: file_get_server.py HOST PORT DIRECTORY"""

from __future__ import annotations

import hashlib
import os
import socket
import sys

import wire


def put(conn: socket.socket, path: str, header: wire.Header) -> None:
    body = wire.recv_exact(conn, header["data_size" if "data_size" in header else "filesize"])
    with open(path, "wb") as file:
        file.write(body)
    digest = hashlib.sha256(body).hexdigest()
    wire.write_frame(conn, {"status": "ok", "filesize": len(body), "sha256": digest})


def get(conn: socket.socket, path: str, header: wire.Header) -> None:
    try:
        with open(path, "rb") as file:
            body = file.read()
    except FileNotFoundError as error:
        reply = {"status": "error", "code": "not_found", "message": str(error)}
        wire.write_frame(conn, reply)
        return
    found = {"status": "ok", "filename": header["filename"], "filesize": len(body)}
    wire.write_frame(conn, found, body)


def talk(conn: socket.socket) -> None:
    commands = {"put": put, "get": get}
    while header := wire.read_header(conn):
        path = os.path.join(sys.argv[3], os.path.basename(header["filename"]))
        commands[header["cmd"]](conn, path, header)


if __name__ == "__main__":
    wire.serve(sys.argv[1], int(sys.argv[2]), talk)
