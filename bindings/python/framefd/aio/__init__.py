"""Connections in asyncio: the same conversation, in the loop's thread.

>>> async def echo(connection: aio.Connection) -> None:
...     async for header, body in connection:
...         await connection.send(header, body)
>>> server = await aio.start_server(echo, "localhost:7000")

>>> async with await aio.connect("localhost:7000") as connection:
...     reply = await connection.call("add", {"a": 1, "b": 2})

A connection here uses one of the library, whose calls do not wait, and the loop watches its
descriptor. So it has all features of a blocking one, such as its state and the handshake. Its
methods have the names and the errors of :class:`framefd.Connection`; set a timeout with
asyncio.wait_for(). A task that is cancelled loses no message. A call, a command or a transfer
that is cancelled breaks the connection. Files are transferred in a thread, since system calls
on files block.
"""

from __future__ import annotations

from ._command import RemoteCommand
from ._connection import Connection
from ._server import Handler, Server, connect, start_server
from ._serving import ServerRequest

__all__ = [
    "Connection",
    "Handler",
    "RemoteCommand",
    "Server",
    "ServerRequest",
    "connect",
    "start_server",
]
