"""The Python contenders for commands and handshakes: the same work as the programs in
benches/c, with their arguments.

Usage: python_peers.py popen|sockets|multiprocessing|framefd server
       python_peers.py popen|sockets|multiprocessing|framefd client PORT COUNT
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Listener
from typing import Any

import framefd

KEY = b"0123456789abcdef0123456789abcdef"
SIZE = 32
HOST = "127.0.0.1"


def main() -> None:
    peer, side, *numbers = sys.argv[1:]
    if side == "server":
        SERVERS[peer]()
        return
    port, count = map(int, numbers)
    started = time.monotonic()
    CLIENTS[peer](port, count)
    print(count / (time.monotonic() - started))


def popen_server() -> None:
    listener = listen()
    while True:
        sock = accept(listener)
        with sock, sock.makefile("rb") as stream:
            while frame := recv_frame(stream.read):
                done = subprocess.run(
                    ["/bin/sh", "-c", frame[1]], stdin=subprocess.DEVNULL, capture_output=True
                )
                reply = {
                    "status": "ok",
                    "stdout_size": len(done.stdout),
                    "stderr_size": len(done.stderr),
                    "exit_code": done.returncode,
                }
                send_frame(sock, reply, done.stdout + done.stderr)


def popen_client(port: int, count: int) -> None:
    with connect(port) as sock, sock.makefile("rb") as stream:
        for _ in range(count):
            send_frame(sock, {"cmd": "exec"}, b"true")
            frame = recv_frame(stream.read)
            if frame is None or frame[0]["exit_code"] != 0:
                sys.exit(f"an unexpected reply: {frame}")


def send_frame(sock: socket.socket, header: dict[str, object], body: bytes) -> None:
    text = json.dumps({**header, "data_size": len(body)}).encode()
    sock.sendmsg([struct.pack("<i", len(text)), text, body])


def recv_frame(read: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes] | None:
    prefix = read(4)
    if not prefix:
        return None
    header = json.loads(read(struct.unpack("<i", prefix)[0]))
    return header, read(header["data_size"])


def sockets_server() -> None:
    listener = listen()
    while True:
        with accept(listener) as sock:
            challenge = os.urandom(SIZE)
            sock.sendall(challenge)
            expected = hmac.digest(KEY, challenge, hashlib.sha256)
            if not hmac.compare_digest(recv_exactly(sock, SIZE), expected):
                sys.exit("a wrong answer")


def sockets_client(port: int, count: int) -> None:
    for _ in range(count):
        with connect(port) as sock:
            sock.sendall(hmac.digest(KEY, recv_exactly(sock, SIZE), hashlib.sha256))
            expect_end(sock)


def framefd_server() -> None:
    listener = listen()
    key = framefd.Key(KEY)
    while True:
        with accept(listener) as sock:
            framefd.auth_server(sock, key)


def framefd_client(port: int, count: int) -> None:
    key = framefd.Key(KEY)
    for _ in range(count):
        with framefd.connect((HOST, port), key=key) as connection:
            if os.read(connection.fileno(), 1):
                sys.exit("no end")


def multiprocessing_server() -> None:
    with Listener((HOST, 0), authkey=KEY) as listener:
        print(listener.address[1], flush=True)
        while True:
            listener.accept().close()


def multiprocessing_client(port: int, count: int) -> None:
    for _ in range(count):
        with Client((HOST, port), authkey=KEY) as connection:
            try:
                connection.recv_bytes()
            except EOFError:
                continue
            sys.exit("no end")


def listen() -> socket.socket:
    listener = socket.create_server((HOST, 0))
    print(listener.getsockname()[1], flush=True)
    return listener


def accept(listener: socket.socket) -> socket.socket:
    return without_delay(listener.accept()[0])


def connect(port: int) -> socket.socket:
    return without_delay(socket.create_connection((HOST, port)))


def without_delay(sock: socket.socket) -> socket.socket:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def recv_exactly(sock: socket.socket, size: int) -> bytes:
    data = sock.recv(size, socket.MSG_WAITALL)
    if len(data) != size:
        sys.exit("the stream ends too early")
    return data


def expect_end(sock: socket.socket) -> None:
    if sock.recv(1):
        sys.exit("no end")


SERVERS = {
    "popen": popen_server,
    "sockets": sockets_server,
    "multiprocessing": multiprocessing_server,
    "framefd": framefd_server,
}
CLIENTS = {
    "popen": popen_client,
    "sockets": sockets_client,
    "multiprocessing": multiprocessing_client,
    "framefd": framefd_client,
}

if __name__ == "__main__":
    main()
