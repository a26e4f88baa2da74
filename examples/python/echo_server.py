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
import keys
from common import Mistake
from framefd import aio

HELP = """\
usage: echo_server [--host HOST] [--port PORT] [OPTION]...

Sends back the frames of its clients: thousands of connections, one thread.

  --host HOST      listen on this address (127.0.0.1); any but loopback needs
                   --seal or --plain
  --port PORT      listen on this port; 0, the default, picks a free one
  --seal           prove the key of --key-file or --keys to clients, have them prove theirs,
                   and encrypt all that is sent; a key is 32 random bytes or more
  --key-file FILE  with --seal, serve only clients that hold the key in FILE
  --keys DIR       with --seal, serve the clients that hold a key in DIR, which has a file
                   for each; its name is the key's id
  --name NAME      with --seal, this server's name, which clients give too
  --plain          listen on any address, though anybody can use it: for networks that are
                   trusted
  --help           show this and exit

A frame comes back with the same header and the same body. A client that does not read
is not read from, one that sends something else than frames is left.

SIGHUP reads the keys again, and ends the connections of clients whose key is gone, when
they send something. SIGINT and SIGTERM stop it; replies in flight are finished.
"""

AT_ONCE = 16  # frames that are sent with one system call


def main() -> None:
    arguments = common.Arguments(HELP, "host=", "port=", *common.SERVER_SEAL)
    if arguments.has("key-file") and not arguments.has("seal"):
        raise Mistake("--key-file needs --seal, see --help")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    common.look_up(arguments, socket.SOCK_STREAM, server=True)
    asyncio.run(Server(keys.Keys(arguments)).run(common.address_of(arguments)))


class Server:
    def __init__(self, server_keys: keys.Keys) -> None:
        self.keys = server_keys
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
        if await self.is_proved_by(client):
            with contextlib.suppress(framefd.MalformedError, framefd.TooBigError):
                while frames := await self.receive(client):
                    for header, body in frames:
                        await client.queue(header, body)
                    await client.flush()
        await hang_up(client)

    async def is_proved_by(self, client: aio.Connection) -> bool:
        if self.keys.ring is None:
            return True
        try:
            key_id = await client.auth_server(self.keys.ring, name=self.keys.name)
        except framefd.FrameError as error:
            keys.log_client(client, None, f"refused: {common.text_of(error)}")
            return False
        if key_id:
            keys.log_client(client, key_id, "has proved its key")
        return True

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
