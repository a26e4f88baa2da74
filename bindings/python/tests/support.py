"""What the tests share: the package of this tree, and where the rest of the tree is."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]
PEERS = ROOT / "tests" / "peers"
VECTORS = ROOT / "tests" / "vectors"

sys.path.insert(0, str(PACKAGE))
sys.path.append(str(PEERS))

import framefd  # noqa: E402

KEY = b"a key of 32 bytes, and not less."


@contextlib.contextmanager
def stream() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a stream."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


# Connections of which both ends are the package's are sealed in this run.
SEALED = bool(os.environ.get("FRAMEFD_TEST_SEALED"))


@contextlib.contextmanager
def connections(
    plain: bool = False, **options: Any
) -> Iterator[tuple[framefd.Connection, framefd.Connection]]:
    """Two connections to each other. ``plain``: also in a run with sealed ones."""
    ours, theirs = socket.socketpair()
    with framefd.Connection(ours, **options) as near, framefd.Connection(theirs) as far:
        if SEALED and not plain and not options.get("exact"):
            seal(near, far)
        try:
            yield near, far
        finally:
            near.close()  # drops what a test has left in its queue
            far.close()


def seal(client: framefd.Connection, server: framefd.Connection) -> None:
    """Both ends of a handshake, without a wait."""
    for _ in range(2):
        with contextlib.suppress(framefd.FrameTimeoutError):
            client.auth_client(KEY, key_id="tests", name="tests", timeout=0)
        with contextlib.suppress(framefd.FrameTimeoutError):
            server.auth_server({"tests": KEY}, name="tests", timeout=0)
    assert client.inspect().sealed and server.inspect().sealed


@contextlib.contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Does work in another thread during the block: its result, once the block has ended.
    An exception of the work comes out of the block."""
    outcome: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(20)
        if thread.is_alive():
            raise TimeoutError("the other thread does not end")
    if raised:
        raise raised[0]


def encoded(*messages: Any) -> bytes:
    """Messages, each a body or a ``(header, body)``, as they are on the wire."""
    with tempfile.TemporaryFile() as file:
        for message in messages:
            header, body = message if isinstance(message, tuple) else (None, message)
            framefd.send(file, header, body)
        file.seek(0)
        return file.read()


def index(folder: str) -> Iterator[list[str]]:
    """The rows of one index of the test vectors, without the comments."""
    for line in (VECTORS / folder / "index.tsv").read_text("ascii").splitlines():
        if not line.startswith("#"):
            yield line.split("\t")
