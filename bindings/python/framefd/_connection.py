"""A connection of one's own: made, authenticated and closed here."""

from __future__ import annotations

import math
import os
import pathlib
import socket
import time
from typing import Union

from . import _auth, _exec, _files, _frames, _queries, _stream, _trees
from ._auth import KeyLike

ServerAddress = Union[tuple[str, int], str, "os.PathLike[str]", "os.PathLike[bytes]"]


class Connection:
    """A connected stream socket, closed at the end of a `with` block.

    Its methods are the functions of this package of the same names, on this connection.
    ``Connection(sock)`` takes over a socket that accept() returned. Do not close it while
    another thread uses it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    send = _frames.send
    recv = _frames.recv
    send_header = _frames.send_header
    recv_header = _frames.recv_header
    send_packet = _frames.send_packet
    recv_packet = _frames.recv_packet
    reply_error = _frames.reply_error
    reply_hello = _frames.reply_hello
    auth_server = _auth.auth_server
    auth_client = _auth.auth_client
    run = _exec.run
    start = _stream.start
    exec_and_reply = _exec.exec_and_reply
    exec_serve = _exec.exec_serve
    put = _files.put
    get = _files.get
    put_tree = _trees.put_tree
    get_tree = _trees.get_tree
    stat = _queries.stat
    listdir = _queries.listdir
    partial = _queries.partial
    mkdir = _queries.mkdir
    serve_file = _files.serve_file

    def fileno(self) -> int:
        """The socket's descriptor; -1 when it is closed."""
        return self.socket.fileno()

    def close(self) -> None:
        """Closes the socket; once more is nothing."""
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<framefd.Connection {self.socket!r}>"


def connect(
    address: ServerAddress,
    key: KeyLike | None = None,
    timeout: float | None = None,
) -> Connection:
    """Connects to a server and, with a key, authenticates this end to it.

    ``address`` is ("host", port), "host:port" ("[::1]:port"), "unix:/path", or a path-like
    object for a Unix socket. ``timeout`` is in seconds for all of it; by default the
    system's for the connection, 10 s for the handshake.

    OSError as from the socket module; for the handshake as auth_client(). A server that
    refuses the key closes the connection, which the first receive shows.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    sock = _connected(address, timeout)
    try:
        sock.settimeout(None)
        if key is not None:
            left = None if timeout is None else max(deadline - time.monotonic(), 0)
            _auth.auth_client(sock, key, timeout=left)
    except BaseException:
        sock.close()
        raise
    return Connection(sock)


def _connected(address: ServerAddress, timeout: float | None) -> socket.socket:
    if isinstance(address, str):
        address = _parsed(address)
    if isinstance(address, tuple):
        sock = socket.create_connection(address, timeout)
        # A body in pieces is not to wait for the acknowledgement of the piece before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(os.fsencode(address))
    except BaseException:
        sock.close()
        raise
    return sock


def _parsed(address: str) -> ServerAddress:
    scheme, _, path = address.partition(":")
    if scheme == "unix":
        return pathlib.PurePosixPath(path)
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"an address is 'host:port' or 'unix:/path': {address!r}")
    return host.strip("[]"), int(port)
