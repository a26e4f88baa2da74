"""Making connections: connect(), and a server that accepts them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .._abi import ErrorCode
from .._arguments import wrong
from .._auth import KeyLike, Keys, as_key, as_keyring, check_seal
from .._connection import Listener, ServerAddress, address_text, listen
from .._core import Options, native_options
from .._errors import FrameTimeoutError, make
from ._connection import Connection, endless

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Seconds without accepting after there were no descriptors left, and without a report of that
# after the first one.
PAUSE, QUIET = 0.2, 60


async def connect(
    address: ServerAddress,
    *,
    key: KeyLike | None = None,
    key_id: str | None = None,
    name: str | None = None,
    plain: bool = False,
    **options: Unpack[Options],
) -> Connection:
    """Connects to a server and, with a key, seals the connection: see
    :func:`framefd.connect`."""
    key = None if key is None else as_key(key)  # a wrong one is reported now
    check_seal(key, key_id, name, plain)
    native_options(**options)
    sock = await _connected(address)
    try:
        connection = Connection(sock, **options)
    except BaseException:
        sock.close()
        raise
    if key is not None:
        try:
            await connection.auth_client(key, key_id=key_id, name=name, plain=plain)
        except BaseException:
            connection.close()
            raise
    return connection


async def _connected(address: ServerAddress) -> socket.socket:
    loop = asyncio.get_running_loop()
    text = address_text(address).decode("utf-8", "surrogateescape")
    error: OSError | None = None
    try:
        for family, place in await _places(loop, text):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                await loop.sock_connect(sock, place)
                return sock
            except OSError as raised:
                sock.close()
                error = raised
            except BaseException:
                sock.close()
                raise
    except socket.gaierror as raised:
        raise make(ErrorCode.NOENT, f"{text}: {raised.strerror}") from None
    assert error is not None
    raise make(ErrorCode.IO, f"{text}: {error}", error.errno)


async def _places(loop: asyncio.AbstractEventLoop, text: str) -> list[tuple[int, Any]]:
    """The families and addresses of the socket module for an address."""
    scheme, _, rest = text.partition(":")
    if scheme == "unix":
        return [(socket.AF_UNIX, f"\0{rest[1:]}" if rest.startswith("@") else rest)]
    host, _, port = text.rpartition(":")
    if scheme == "vsock":
        return [(socket.AF_VSOCK, (int(host.partition(":")[2]), int(port)))]
    if not host or not port.isdecimal():
        raise make(ErrorCode.INVAL, f"not an address: {text!r}")
    host = host.strip("[]")
    kind: dict[str, Any] = {"type": socket.SOCK_STREAM}
    found: list[Any]
    try:
        found = socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST, **kind)
    except socket.gaierror:  # a name, which is looked up in a thread
        found = await loop.getaddrinfo(host, port, **kind)
    return [(family, place) for family, _, _, _, place in found]


#: Called with each connection, in a task of its own.
Handler = Callable[[Connection], Awaitable[None]]


class Server:
    """A server, as start_server() returns it: it accepts connections until it is closed. As
    an async context manager it is closed at the end of the block, and waits for its handlers;
    if an exception ends the block or that wait, they are cancelled."""

    def __init__(
        self,
        handler: Handler,
        listener: Listener,
        keys: Keys | None,
        name: str | None,
        plain: bool,
    ) -> None:
        self._handler = handler
        self._listener = listener
        self._address = listener.address
        self._ring = None if keys is None else as_keyring(keys)
        self._name, self._plain = name, plain
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet_until = 0.0
        self._loop.add_reader(listener.fileno(), self._accept)

    @property
    def address(self) -> str:
        """The address that it listens at, or listened at, as for connect()."""
        return self._address

    def close(self) -> None:
        """Stops accepting; existing connections stay, and those that wait to be accepted."""
        if self._listener.fileno() >= 0:
            while self._accept():
                pass
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()

    def cancel(self) -> None:
        """Cancels the handlers, which closes their connections."""
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Waits until the handlers have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def serve_forever(self) -> None:
        """Serves until it is cancelled; then it is closed, and its handlers are cancelled."""
        try:
            await self._loop.create_future()
        finally:
            self.close()
            self.cancel()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        if kind is not None:
            self.cancel()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _accept(self) -> bool:
        """Accepts the next client that waits; False if there was none."""
        try:
            connection = self._listener.accept(timeout=0)
        except FrameTimeoutError:
            return False
        except OSError as error:
            # Such as no descriptors left: the connection stays in the queue.
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(PAUSE, self._resume)
            if self._loop.time() >= self._quiet_until:
                self._quiet_until = self._loop.time() + QUIET
                self._report("A connection could not be accepted", error)
            return False
        task = self._loop.create_task(self._handle(Connection.of(connection)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    async def _handle(self, connection: Connection) -> None:
        try:
            async with connection:
                if self._ring is not None:
                    await connection.auth_server(self._ring, name=self._name, plain=self._plain)
                await self._handler(connection)
        except ConnectionError:
            pass  # a client that went away
        except Exception as error:
            self._report("Unhandled exception in the handler of a client", error)

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": message, "exception": error})


async def start_server(
    handler: Handler,
    address: ServerAddress,
    *,
    keys: Keys | None = None,
    name: str | None = None,
    plain: bool = False,
    backlog: int = 0,
    mode: int = 0,
    **options: Unpack[Options],
) -> Server:
    """Starts a server: each client has ``handler(connection)`` awaited in a task of its own,
    after the handshake if there are ``keys``: it seals the connection, with the server's
    ``name``, unless ``plain`` is set. When it has ended the connection is closed. Its
    exception goes to the loop's exception handler, unless it is a ConnectionError: a client
    that goes away.

    ``address``, ``backlog`` and ``mode`` are as for :func:`framefd.listen`, the options those
    of :class:`Connection`.
    """
    if not callable(handler):
        raise wrong("a handler is a function", handler)
    check_seal(keys, None, name, plain)
    listener = listen(address, backlog=backlog, mode=mode, **endless(options))
    return Server(handler, listener, keys, name, plain)
