"""Sends back the frames of its clients: thousands of connections, one thread."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket

import common
import framefd
from framefd import aio

HELP = """\
usage: echo_server [--host HOST] [--port PORT]

Sends back the frames of its clients: thousands of connections, one thread.

  --host HOST      listen on this address (127.0.0.1), a loopback one
  --port PORT      listen on this port; 0, the default, picks a free one
  --help           show this and exit

A frame comes back with the same header and the same body. A client that does not read
is not read from, one that sends something else than frames is left.

SIGINT and SIGTERM stop it; replies in flight are finished.
"""

BACKLOG = 4096
AT_ONCE = 16
LINGER_SIZE = 1 << 24  # what a client that is left may still send: more than sockets hold


def main() -> None:
    arguments = common.Arguments(HELP, "host=", "port=", key=False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with common.open_socket(arguments, socket.SOCK_STREAM, server=True) as listener:
        asyncio.run(Server().run(listener))


class Server:
    def __init__(self) -> None:
        self.clients: dict[asyncio.Task[None] | None, aio.FrameStream] = {}
        self.is_stopping = False

    async def run(self, listener: socket.socket) -> None:
        """Serves until SIGINT or SIGTERM, and then until the clients have their replies. The
        next signal ends the program at once."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        # asyncio accepts as many clients at a time as its backlog has, and tries as often where
        # there is no descriptor for one: a whole backlog of failures, each of them logged.
        server = await aio.start_server(self.serve, sock=listener, backlog=AT_ONCE)
        listener.listen(BACKLOG)
        common.announce(listener)
        await stop.wait()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        server.close()
        self.is_stopping = True
        for stream in self.clients.values():
            stream.stop_receiving()
        tasks = [task for task in self.clients if task]
        if tasks:
            await asyncio.wait(tasks, timeout=common.STALL_SECONDS)

    async def serve(self, stream: aio.FrameStream) -> None:
        task = asyncio.current_task()
        self.clients[task] = stream
        try:
            if not await self.has_ended(stream):
                await leave(stream)
        except OSError:
            pass  # the client is gone
        finally:
            del self.clients[task]

    async def has_ended(self, stream: aio.FrameStream) -> bool:
        """Answers a client; True where that has closed its end."""
        try:
            async for header, body in stream:
                stream.send(header, body)
                await stream.drain()
        except (framefd.MalformedError, framefd.TooBigError):
            return False
        return not self.is_stopping


async def leave(stream: aio.FrameStream) -> None:
    """A close with input unread would reset the connection, and lose a reply that is still
    on its way."""
    stream.write_eof()
    dropping = Dropping()
    stream.transport.set_protocol(dropping)
    stream.transport.resume_reading()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(dropping.end.wait(), common.LINGER_SECONDS)


class Dropping(asyncio.Protocol):
    """Drops what comes, up to a size."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.left = LINGER_SIZE

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left <= 0:
            self.end.set()

    def eof_received(self) -> None:
        self.end.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end.set()


if __name__ == "__main__":
    common.run(main, common.NO_SERVER)
