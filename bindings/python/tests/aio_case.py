"""What the tests of asyncio share: a connection, and the plain socket at its other end."""

from __future__ import annotations

import asyncio
import socket
import unittest
from collections.abc import Awaitable
from typing import Any, TypeVar

import support

import framefd
from framefd import aio
from framefd.aio import Connection

T = TypeVar("T")

SECONDS = 20


async def soon(work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, SECONDS)


async def a_moment() -> None:
    """Long enough for what is on its way to arrive, and for tasks to go on."""
    await asyncio.sleep(0.05)


class Case(unittest.IsolatedAsyncioTestCase):
    """A connection, and the plain socket at its other end."""

    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().set_debug(False)  # which is for those who read along

    async def connected(self, **options: Any) -> tuple[Connection, socket.socket]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.addCleanup(theirs.close)
        connection = Connection(ours, **options)
        self.addCleanup(connection.close)
        return connection, theirs

    async def write(self, sock: socket.socket, data: bytes) -> None:
        await soon(asyncio.get_running_loop().sock_sendall(sock, data))

    async def read(self, sock: socket.socket, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = await soon(asyncio.get_running_loop().sock_recv(sock, size - len(data)))
            if not piece:
                break
            data += piece
        return bytes(data)

    async def received(self, connection: Connection, count: int) -> list[bytes]:
        """The bodies of so many messages."""

        async def receive() -> list[bytes]:
            return [(await connection.recv()).body for _ in range(count)]

        return await soon(receive())

    async def wait_for_nothing(self, connection: Connection) -> asyncio.Task[framefd.Frame]:
        """A task that waits for a message."""
        task = asyncio.ensure_future(connection.recv())
        await a_moment()
        self.assertFalse(task.done())
        return task

    async def serving(self, handler: aio.Handler, **options: Any) -> str:
        if support.SEALED and "keys" not in options:
            options.update(keys={"tests": support.KEY}, name="tests")
        server = await aio.start_server(handler, "127.0.0.1:0", **options)
        self.addAsyncCleanup(self.stopped, server)
        return server.address

    async def stopped(self, server: aio.Server) -> None:
        server.close()
        server.cancel()
        await soon(server.wait_closed())

    async def client(self, address: str, own: bool = True, **options: Any) -> Connection:
        """A connection to a server of :meth:`serving`; if not ``own``, to another one."""
        if support.SEALED and own and "key" not in options:
            options.update(key=support.KEY, key_id="tests", name="tests")
        connection = await aio.connect(address, **options)
        self.addCleanup(connection.close)
        return connection

    def reported(self) -> list[dict[str, Any]]:
        """What comes to the loop's exception handler."""
        contexts: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: contexts.append(context))
        return contexts
