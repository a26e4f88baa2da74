"""Connections: a conversation with a peer, and how it is made."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Union

from ._arguments import C_INT_MAX, c_string, checked, poll_time, unsigned
from ._auth import Authentication, KeyLike, as_key, check_seal
from ._commands import Commands
from ._core import Options, address_of, native_options
from ._descriptors import Descriptor, fileno, own_timeout
from ._errors import FrameTimeoutError, check
from ._files import Files
from ._messages import Messages
from ._native import lib

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: "host:port", "[::1]:port", "unix:/path", "unix:@name", "vsock:cid:port", a (host, port) as
#: in the socket module, or a path-like object for a Unix socket.
ServerAddress = Union[str, tuple[Any, ...], "os.PathLike[str]", "os.PathLike[bytes]"]


class Connection(Messages, Commands, Files, Authentication):
    """A conversation over a socket or two descriptors: messages, calls, commands, files.

    ``Connection(sock)`` is for a connected socket, ``Connection(read, write)`` for a pair of
    pipes; -1 is a missing direction. They are closed with the connection, unless ``own`` is
    False. The connection reads ahead; :meth:`unread` returns bytes that were not used. As a
    context manager a connection writes queued messages at the end of the block, unless an
    exception ends it, and is closed.

    After a FrameTimeoutError or an exception of a signal handler no message is lost: call
    again. A call, command or file that fails after a part of its request was sent breaks the
    connection, and so do invalid bytes in the stream. Then every call raises a BrokenError,
    which names the first cause. After a fork the child gets a ForkedError. One thread at a
    time may use it; another one gets a BusyError.

    ``timeout`` is in seconds, for each call that has none; math.inf waits forever, 0 does not
    wait. None is the timeout that the socket object has at this moment, as set by its
    settimeout(), its setblocking(), or socket.setdefaulttimeout(); otherwise the calls wait
    forever. The other options:

    - ``max_header`` (bytes, default 64 KiB), ``max_body`` (bytes that are received into
      memory, default 64 MiB, or NO_LIMIT), ``max_depth`` (levels of JSON, default 32).
    - ``max_queue``: the most bytes that are accepted and not yet written, default 32 MiB.
    - ``prefix``: the messages are packets, a length and bytes, without a header.
    - ``duplex``: one thread may send while another one receives. Then a receive
      does not write queued bytes, and a send does not read.
    - ``exact``: no byte is read beyond a message, so that the descriptor can be passed on.
    - ``as_is``: TCP_NODELAY is not set. ``keepalive``: SO_KEEPALIVE.
    """


def connect(
    address: ServerAddress,
    *,
    key: KeyLike | None = None,
    key_id: str | None = None,
    name: str | None = None,
    plain: bool = False,
    connect_timeout: float | None = None,
    **options: Unpack[Options],
) -> Connection:
    """Connects to a server and, with a key, seals the connection: both ends prove that they
    hold the key, and everything is encrypted. ``key_id`` is the server's id for the key,
    ``name`` the server's name: see :meth:`Connection.auth_client`. With ``plain`` only this
    end proves its key, and nothing is encrypted, for servers that know no other way.

    ``address`` is a text such as "host:port", "[::1]:port", "unix:/path", "unix:@name" or
    "vsock:cid:port", a (host, port), or a path-like object for a Unix socket.
    ``connect_timeout`` is in seconds for all of it, including the handshake; the default is
    ``timeout``, otherwise 30 s and 10 s. The options are those of :class:`Connection`.

    FrameTimeoutError; DisconnectedError and SystemCallError, with errno (a
    ConnectionRefusedError if nobody listens); NotFoundError: there is no such name.
    TruncatedError, AuthenticationError: the server refuses the key, or has another one. (A
    plain server that refuses closes the connection, which the first receive reports.)
    """
    key = None if key is None else as_key(key)  # a wrong one is reported now
    check_seal(key, key_id, name, plain)
    options = with_timeout(options)
    if connect_timeout is None:
        connect_timeout = options.get("timeout") or None
    native = native_options(connect_timeout=connect_timeout, **options)
    deadline = math.inf if connect_timeout is None else time.monotonic() + connect_timeout
    text = address_text(address)
    made = Connection._made(lambda out: lib.frame_connect(text, native, out))
    if key is not None:
        try:
            left = deadline - time.monotonic()
            if left <= 0:
                raise FrameTimeoutError(-3, "timed out before the handshake")
            rest = None if left == math.inf else left
            made.auth_client(key, key_id=key_id, name=name, plain=plain, timeout=rest)
        except BaseException:
            made.close()
            raise
    return made


def with_timeout(options: Options) -> Options:
    """Options for a new socket, which gets the default timeout of the socket module."""
    timeout = options.get("timeout")
    return {**options, "timeout": socket.getdefaulttimeout() if timeout is None else timeout}


def accept(
    listener: Descriptor, *, accept_timeout: float | None = None, **options: Unpack[Options]
) -> Connection:
    """Accepts the next connection of a listening socket. FrameTimeoutError: there was none in
    ``accept_timeout`` seconds; by default that is the timeout of a socket object, or it waits
    forever. The options are those of :class:`Connection`."""
    native = native_options(**with_timeout(options))
    number = fileno(listener)
    if accept_timeout is None:
        accept_timeout = own_timeout(listener)
    wait = poll_time(math.inf if accept_timeout is None else accept_timeout)
    return Connection._made(lambda out: lib.frame_accept(number, native, wait, out))


class Listener:
    """A listening socket, as :func:`listen` returns it. Iterate it to accept connections. It
    is closed at the end of a `with` block."""

    def __init__(self, fd: int, options: Options) -> None:
        self._fd = fd
        self._options = options

    def accept(self, *, timeout: float | None = None) -> Connection:
        """Accepts the next connection. FrameTimeoutError: there was none in ``timeout``
        seconds, by default it waits forever. Any number of threads may accept."""
        return accept(self._fd, accept_timeout=timeout, **self._options)

    def __iter__(self) -> Iterator[Connection]:
        while True:
            yield self.accept()

    @property
    def address(self) -> str:
        """The address, as connect() takes it."""
        return address_of(self._fd, of_peer=False) or ""

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._fd

    def close(self) -> None:
        """Closes the socket; a second call does nothing. The file of a Unix socket stays."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()

    def __repr__(self) -> str:
        return f"<framefd.Listener {self.address or 'closed'}>"


def listen(
    address: ServerAddress, *, backlog: int = 0, mode: int = 0, **options: Unpack[Options]
) -> Listener:
    """Listens at an address, as for :func:`connect`; port 0 is any free port.

    ``backlog`` is the length of the queue (0: 4,096), ``mode`` the permissions of a Unix
    socket's file (0: 0o600). Such a file that nobody listens on is replaced. The options are
    those of the connections: see :class:`Connection`. SystemCallError, with errno, such as
    EADDRINUSE; ExistsError, NotFoundError.
    """
    native_options(**options)  # a wrong value is told now
    text = address_text(address)
    length, mode = unsigned(backlog, "backlog", C_INT_MAX), unsigned(mode, "mode", 0o777)
    fd = check(lib.frame_listen(text, length, mode))
    return Listener(fd, options)


def address_text(address: ServerAddress) -> bytes:
    """An address as the library takes it."""
    if isinstance(address, str):
        return c_string(address, "address")
    if isinstance(address, os.PathLike):
        return b"unix:" + c_string(address, "address")
    checked(address, tuple, "an address is 'host:port' or a (host, port)")
    if len(address) not in (2, 4):
        raise TypeError(f"an address is a (host, port), not {len(address)} members")
    host, port, *more = address
    checked(host, str, "a host is a str")
    unsigned(port, "a port", 65535)
    if more and more[1] and "%" not in host:
        host = f"{host}%{more[1]}"
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return c_string(text, "address")
