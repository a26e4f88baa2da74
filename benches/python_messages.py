"""The Python contenders for messages, as the programs in benches/c: two processes, one figure.

Usage: python_messages.py messages|trips WAY SIZE MILLISECONDS
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from multiprocessing.connection import Connection
from operator import itemgetter

import framefd

# Sends one message; those that come, until an empty one.
Channel = tuple[Callable[[bytes], object], Iterator[bytes]]

# Between two looks at the clock.
STRIDE = 16

# Messages that are queued together.
BATCH = 256


def main() -> None:
    kind, way, size, milliseconds = sys.argv[1:]
    body = b"x" * int(size)
    seconds = int(milliseconds) / 1000
    near, far = connected()
    child = os.fork()
    if child == 0:
        near.close()
        channel = WAYS[way](far, False)
        answer(channel) if kind == "trips" else send(channel, body, seconds)
        sys.exit()
    far.close()
    channel = WAYS[way](near, True)
    print(ask(channel, body, seconds) if kind == "trips" else receive(channel))
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("the other process failed")


def send(channel: Channel, body: bytes, seconds: float) -> None:
    put, _ = channel
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(STRIDE):
            put(body)
    put(b"")


def receive(channel: Channel) -> float:
    """Messages per second, after the first one."""
    _, messages = channel
    next(messages)
    began = time.monotonic()
    count = sum(1 for _ in messages)
    return count / (time.monotonic() - began)


def ask(channel: Channel, body: bytes, seconds: float) -> float:
    """Microseconds per round trip, after the first one."""
    put, messages = channel
    put(body)
    next(messages)
    began = time.monotonic()
    count = 0
    while time.monotonic() < began + seconds:
        put(body)
        next(messages)
        count += 1
    taken = time.monotonic() - began
    put(b"")
    return taken * 1e6 / count


def answer(channel: Channel) -> None:
    put, messages = channel
    for message in messages:
        put(message)


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        return listener.accept()[0], far


def by_multiprocessing(stream: socket.socket, listens: bool) -> Channel:
    connection = Connection(stream.detach())
    return connection.send_bytes, iter(connection.recv_bytes, b"")


def by_pyzmq(stream: socket.socket, listens: bool) -> Channel:
    import zmq

    # Of one kind for messages and round trips: PAIR.
    context = zmq.Context.instance()
    channel = context.socket(zmq.PAIR)
    # Sends what is queued: a process that just ends would drop it.
    atexit.register(context.destroy)
    if listens:
        stream.sendall(channel.bind_to_random_port("tcp://127.0.0.1").to_bytes(2, "big"))
    else:
        channel.connect(f"tcp://127.0.0.1:{int.from_bytes(stream.recv(2), 'big')}")
    return channel.send, iter(channel.recv, b"")


def by_framefd(stream: socket.socket, listens: bool) -> Channel:
    connection = framefd.Connection(stream)
    recv = connection.recv
    return partial(connection.send, None), iter(lambda: recv()[1], b"")


def batched(stream: socket.socket, listens: bool) -> Channel:
    connection = framefd.Connection(stream)
    atexit.register(connection.flush)
    waiting: list[bytes] = []

    def put(body: bytes) -> None:
        waiting.append(body)
        if len(waiting) == BATCH or not body:
            connection.queue_many(waiting)
            waiting.clear()

    def batches() -> Iterator[list[framefd.Frame]]:
        with contextlib.suppress(framefd.ClosedError):
            while True:
                yield connection.recv_many()

    return put, map(itemgetter(1), chain.from_iterable(batches()))


WAYS = {
    "multiprocessing": by_multiprocessing,
    "pyzmq": by_pyzmq,
    "framefd": by_framefd,
    "buffered": batched,
}


if __name__ == "__main__":
    main()
