"""Sends back the frames of its clients: thousands of connections, one thread."""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import signal
import socket

import common
import framefd
from framefd import aio

HELP = """\
usage: echo_server [--host HOST] [--port PORT] [--plain]

Sends back the frames of its clients: thousands of connections, one thread.

  --host HOST      listen on this address (127.0.0.1); any but loopback needs --plain
  --port PORT      listen on this port; 0, the default, picks a free one
  --plain          listen on any address, though anybody can use it: for networks that are
                   trusted
  --help           show this and exit

A frame comes back with the same header and the same body. A client that does not read
is not read from, one that sends something else than frames is left.

SIGINT and SIGTERM stop it; replies in flight are finished.
"""

AT_ONCE = 16  # frames that are sent with one system call


def main() -> None:
    arguments = common.Arguments(HELP, "host=", "port=", "plain", key=False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    common.look_up(arguments, socket.SOCK_STREAM, server=True)
    asyncio.run(Server().run(common.address_of(arguments)))


class Server:
    def __init__(self) -> None:
        self.receiving: set[asyncio.Task[None]] = set()
        self.is_stopping = False
        self.end = math.inf  # of reading, on the loop's clock

    async def run(self, address: str) -> None:
        """Serves until SIGINT or SIGTERM, then until the clients have received their
        replies. The next signal ends the program at once."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        server = await aio.start_server(self.serve, address)
        common.announce(server.address)
        await stop.wait()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        server.close()
        self.is_stopping, self.end = True, loop.time() + common.LINGER_SECONDS
        for task in self.receiving:
            task.cancel()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(server.wait_closed(), common.STALL_SECONDS)

    async def serve(self, client: aio.Connection) -> None:
        with contextlib.suppress(framefd.MalformedError, framefd.TooBigError):
            while frames := await self.receive(client):
                for header, body in frames:
                    await client.queue(header, body)
                await client.flush()
        await hang_up(client)

    async def receive(self, client: aio.Connection) -> list[framefd.Frame]:
        """The next frames of a client; none if it has ended, or if the server stops and there
        are none yet."""
        task = asyncio.current_task()
        assert task is not None
        self.receiving.add(task)
        try:
            if not self.is_stopping:
                return await client.recv_many(AT_ONCE)
        except framefd.ClosedError:
            return []
        except asyncio.CancelledError:
            if not self.is_stopping:
                raise
        finally:
            self.receiving.discard(task)
        return await received(client) if task.get_loop().time() < self.end else []


async def received(client: aio.Connection) -> list[framefd.Frame]:
    """The frames that have arrived, without waiting for more."""
    task = asyncio.ensure_future(client.recv_many(AT_ONCE))
    await asyncio.wait([task], timeout=0)
    task.cancel()
    with contextlib.suppress(framefd.ClosedError, asyncio.CancelledError):
        return await task
    return []


async def hang_up(client: aio.Connection) -> None:
    """A close with unread input could drop the client's last reply. A broken connection
    cannot be ended, but another one on its socket can."""
    with contextlib.suppress(asyncio.TimeoutError):
        try:
            await asyncio.wait_for(client.end(linger=True), common.LINGER_SECONDS)
        except framefd.BrokenError:
            async with aio.Connection(client.fileno(), own=False) as last:
                await asyncio.wait_for(last.end(linger=True), common.LINGER_SECONDS)


if __name__ == "__main__":
    common.run(main, common.NO_SERVER)
