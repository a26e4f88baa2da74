"""Streams of frames in asyncio, without threads.

>>> async def echo(stream: aio.FrameStream) -> None:
...     async for header, body in stream:
...         stream.send(header, body)
...         await stream.drain()
>>> server = await aio.start_server(echo, "localhost", 7000)

>>> stream = await aio.open_connection("localhost", 7000)
>>> stream.send({"question": 1})
>>> header, body = await stream.recv()

open_connection() and start_server(), and those of Unix sockets, take what asyncio's take.
There is no handshake here: connect and authenticate a socket with :func:`framefd.connect`
or :func:`framefd.auth_server`, in an executor for instance, and hand it over as ``sock``.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from operator import length_hint
from typing import Any, Union, cast

from . import _arguments as arguments
from . import _headers
from ._abi import ErrorCode, FrameOptions
from ._errors import (
    BusyError,
    ClosedError,
    FrameError,
    NoMemoryError,
    StateError,
    check,
    last_error,
    make,
)
from ._frames import Frame, frame_options
from ._handles import Handle
from ._native import lib, python
from ._views import Views

__all__ = [
    "FrameStream",
    "Handler",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
]

# Bytes that may come before the frames in them are asked for.
READ_LIMIT = 1 << 16

# Frames that are taken at once.
BATCH = 256

# A body up to this size is joined with its head: one system call for two.
JOINED_SIZE = 1 << 16

# What a head is longer than the header, at most.
MOST_AROUND_HEADER = 43

PY_BUF_WRITE = 0x200


class FrameStream:
    """Both directions of a connection, in frames: what open_connection() returns, and what
    the handler of a server gets.

    It is iterated for the frames that come, up to where the other end closes. One task at a
    time may receive. As an async context manager it is closed at the end of the block.

    Errors that recv() and iteration raise, after all frames before them, and again with
    every later call: TruncatedError (the stream ended inside a frame), MalformedError,
    TooBigError (what came is no frame that is taken here, and nothing more is read),
    DisconnectedError, SystemCallError. Close it after any of them.
    """

    def __init__(self, protocol: _Protocol, transport: asyncio.Transport) -> None:
        self._protocol = protocol
        self.transport = transport

    async def recv(self) -> Frame:
        """Receives one frame. ClosedError: the other end, or this one, has closed.

        Nothing is lost where this is cancelled.
        """
        protocol = self._protocol
        while (frame := protocol.taken()) is None:
            await protocol.wait_for_more()
        return frame

    def __aiter__(self) -> FrameStream:
        return self

    async def __anext__(self) -> Frame:
        protocol = self._protocol
        try:
            while (frame := protocol.taken()) is None:
                await protocol.wait_for_more()
        except ClosedError:
            raise StopAsyncIteration from None
        return frame

    def stop_receiving(self) -> None:
        """Reads no more: recv() and iteration give the frames that have come, and then end
        as if the other end had closed. So a server stops without losing a reply."""
        self._protocol.stop()

    def send(self, header: _headers.Header | None = None, body: Any = b"") -> None:
        """Sends one frame, now or when there is room; ``await drain()`` goes after it.

        The errors of :func:`framefd.send` for what is no frame, and DisconnectedError or
        StateError once the connection is lost or closed here: nothing was sent then.
        """
        self._protocol.check_open()
        body = as_bytes(body)
        head = self._protocol.head(header, len(body))
        if len(body) <= JOINED_SIZE:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    def send_many(self, frames: Iterable[Any]) -> None:
        """Sends many frames at once, each a body or a ``(header, body)``. If one of them is
        no frame, none is sent."""
        self._protocol.check_open()
        pieces = []
        for frame in frames:
            header, body = frame if isinstance(frame, tuple) else (None, frame)
            body = as_bytes(body)
            pieces += [self._protocol.head(header, len(body)), body]
        self.transport.write(b"".join(pieces))

    async def drain(self) -> None:
        """Waits until the other end has read enough for more to be sent.

        DisconnectedError, SystemCallError: the connection is lost.
        """
        await self._protocol.drained()

    def write_eof(self) -> None:
        """Tells the other end that no more frames follow; receiving goes on."""
        self.transport.write_eof()

    def close(self) -> None:
        """Closes the connection once all that was sent is out."""
        self.transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed, or being closed."""
        return self.transport.is_closing()

    async def wait_closed(self) -> None:
        """Waits until it is closed. DisconnectedError, SystemCallError: it was lost."""
        await self._protocol.closed()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``peername``, ``socket`` and the like: asyncio.BaseTransport.get_extra_info()."""
        return self.transport.get_extra_info(name, default)

    async def __aenter__(self) -> FrameStream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        try:
            await self.wait_closed()
        except FrameError:
            if kind is None:
                raise

    def __repr__(self) -> str:
        return f"<framefd.aio.FrameStream {self.transport!r}>"


Handler = Callable[[FrameStream], Union[Awaitable[None], None]]


async def open_connection(
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: int = READ_LIMIT,
    max_header: int | None = None,
    max_body: int | None = None,
    max_depth: int | None = None,
    **kwargs: Any,
) -> FrameStream:
    """Connects to a server. ``kwargs`` are those of loop.create_connection().

    ``limit`` is how many bytes may come before anybody asks for the frames in them: then
    the other end has to wait. The other limits are as for :func:`framefd.recv`; a frame is
    in memory as a whole.
    """
    options = frame_options(None, max_header, max_body, max_depth)
    loop = asyncio.get_running_loop()
    factory = functools.partial(_Protocol, loop, options, limit)
    connect: Any = loop.create_connection  # with fewer overloads
    _, protocol = await connect(factory, host, port, **kwargs)
    return cast(FrameStream, protocol.stream)


async def open_unix_connection(
    path: str | os.PathLike[str] | None = None,
    *,
    limit: int = READ_LIMIT,
    max_header: int | None = None,
    max_body: int | None = None,
    max_depth: int | None = None,
    **kwargs: Any,
) -> FrameStream:
    """Connects to a server at a Unix socket, as open_connection()."""
    options = frame_options(None, max_header, max_body, max_depth)
    loop = asyncio.get_running_loop()
    factory = functools.partial(_Protocol, loop, options, limit)
    where = None if path is None else os.fspath(path)
    _, protocol = await loop.create_unix_connection(factory, where, **kwargs)
    return protocol.stream


async def start_server(
    handler: Handler,
    host: str | Sequence[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = READ_LIMIT,
    max_header: int | None = None,
    max_body: int | None = None,
    max_depth: int | None = None,
    **kwargs: Any,
) -> asyncio.Server:
    """Starts a server: each client has ``handler(stream)`` called, a coroutine in a task.

    ``kwargs`` are those of loop.create_server(); the limits are as for open_connection().
    When the coroutine has ended the stream is closed. Its exception goes to the loop's
    exception handler.
    """
    options = frame_options(None, max_header, max_body, max_depth)
    loop = asyncio.get_running_loop()
    factory = functools.partial(_Protocol, loop, options, limit, handler)
    start: Any = loop.create_server  # with fewer overloads
    return cast(asyncio.Server, await start(factory, host, port, **kwargs))


async def start_unix_server(
    handler: Handler,
    path: str | os.PathLike[str] | None = None,
    *,
    limit: int = READ_LIMIT,
    max_header: int | None = None,
    max_body: int | None = None,
    max_depth: int | None = None,
    **kwargs: Any,
) -> asyncio.Server:
    """Starts a server at a Unix socket, as start_server()."""
    options = frame_options(None, max_header, max_body, max_depth)
    loop = asyncio.get_running_loop()
    factory = functools.partial(_Protocol, loop, options, limit, handler)
    where = None if path is None else os.fspath(path)
    return await loop.create_unix_server(factory, where, **kwargs)


class _Protocol(asyncio.BufferedProtocol):
    """Has a transport put bytes where the library decodes them."""

    __slots__ = (
        "_ahead",
        "_decoder",
        "_drains",
        "_end",
        "_ended",
        "_failed",
        "_handler",
        "_has_more",
        "_is_full",
        "_is_reading",
        "_limit",
        "_loop",
        "_lost",
        "_options",
        "_stopped",
        "_task",
        "_unread",
        "_waiter",
        "stream",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: FrameOptions,
        limit: int,
        handler: Handler | None = None,
    ) -> None:
        out = ctypes.c_void_p()
        check(lib.frame_decoder_new(out, options))
        self._decoder = Handle(out, lib.frame_decoder_free)
        self._loop = loop
        self._options = options
        self._limit = arguments.limit(limit, "limit")
        self._handler = handler
        self._task: asyncio.Task[None] | None = None
        # Frames that were taken from the decoder, and whether it may have more.
        self._ahead: Iterator[Frame] = iter(())
        self._has_more = False
        # What is to be raised after them.
        self._failed: FrameError | None = None
        # Bytes that came since a task last waited for them.
        self._unread = 0
        self._is_reading = True
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._stopped = False
        self._is_full = False
        self._drains: set[asyncio.Future[None]] = set()
        # Why the connection is lost, once it is; and the end of it.
        self._lost: FrameError | None = None
        self._end: asyncio.Future[None] = loop.create_future()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.stream = FrameStream(self, transport)
        if self._handler is not None:
            handling = self._handler(self.stream)
            if inspect.iscoroutine(handling):
                self._task = self._loop.create_task(handling)
                self._task.add_done_callback(self._handled)

    def get_buffer(self, sizehint: int) -> memoryview:
        room = ctypes.c_size_t()
        start = lib.frame_decoder_space(self._decoder.pointer, room)
        if not start:
            raise NoMemoryError(ErrorCode.NOMEM, "no memory for what comes")
        view: memoryview = python.PyMemoryView_FromMemory(start, room.value, PY_BUF_WRITE)
        return view

    def buffer_updated(self, nbytes: int) -> None:
        check(lib.frame_decoder_fed(self._decoder.pointer, nbytes))
        self._has_more = True
        if self._waiter is not None and not self._waiter.done():
            self._wake()
            return
        self._unread += nbytes
        if self._unread > self._limit:
            self._pause()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        # Sending goes on, if it can.
        return self.stream.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake_drains()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self._lost = StateError(ErrorCode.STATE, "the connection is closed")
        elif isinstance(exc, FrameError):
            self._lost = exc
        else:
            self._lost = make(ErrorCode.IO, str(exc), getattr(exc, "errno", None))
        if not self._end.done():
            self._end.set_result(None)
        self._wake_drains()
        self._wake()

    # What the stream calls.

    def taken(self) -> Frame | None:
        """The next frame, if it has come."""
        for frame in self._ahead:
            return frame
        self._take()
        return next(self._ahead, None)

    async def wait_for_more(self) -> None:
        """Waits until there is a frame, or raises what there is instead."""
        if self._waiter is not None:
            raise BusyError(ErrorCode.BUSY, "another task is receiving")
        if self._failed is not None:
            raise self._failed.with_traceback(None)
        self._unread = 0
        if not self._is_reading:
            self._is_reading = True
            self.stream.transport.resume_reading()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def stop(self) -> None:
        self._stopped = True
        self._pause()
        self._wake()

    def check_open(self) -> None:
        if self._lost is not None:
            raise self._lost.with_traceback(None)
        if self.stream.is_closing():
            raise StateError(ErrorCode.STATE, "the connection is closed")

    def head(self, header: _headers.Header | None, length: int) -> bytes:
        """What goes before a body."""
        text = _headers.encode(header)
        return usual_head(length) if text is None else encoded(text, length, self._options)

    async def drained(self) -> None:
        if self._lost is None and self.stream.is_closing():
            await asyncio.sleep(0)  # so that a loop of send() and drain() learns of it
        if self._is_full and self._lost is None:
            room = self._loop.create_future()
            self._drains.add(room)
            try:
                await room
            finally:
                self._drains.discard(room)
        if self._lost is not None:
            raise self._lost.with_traceback(None)

    async def closed(self) -> None:
        await asyncio.shield(self._end)
        if self._lost is not None and not isinstance(self._lost, StateError):
            raise self._lost.with_traceback(None)

    # Helpers.

    def _take(self) -> None:
        """Takes the frames that have come from the decoder, or what is there instead."""
        if self._failed is not None:
            return
        if self._has_more:
            views = _rooms.views
            count = lib.frame_decoder_next(self._decoder.pointer, views.pointer, views.most)
            if count > 0:
                frames, self._failed = views.frames(count)
                self._ahead = iter(frames)
            elif count < 0:
                self._failed = last_error(count)
            self._has_more = count > 0  # or what follows them is an error
            if self._failed is not None:
                self._pause()
                return
            if count > 0:
                return
        if self._stopped or isinstance(self._lost, StateError):
            self._failed = ClosedError(ErrorCode.CLOSED, "the stream was closed here")
        elif self._ended:
            self._failed = last_error(lib.frame_decoder_end(self._decoder.pointer))
        else:
            self._failed = self._lost

    def _wake(self) -> None:
        """Wakes the task that waits for a frame, if there is one or never will be."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        self._take()
        if length_hint(self._ahead) or self._failed is not None:
            waiter.set_result(None)

    def _wake_drains(self) -> None:
        for room in self._drains:
            if not room.done():
                room.set_result(None)

    def _pause(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self.stream.transport.pause_reading()

    def _handled(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._loop.call_exception_handler(
                {
                    "message": "Unhandled exception in the handler of a client",
                    "exception": error,
                    "transport": self.stream.transport,
                }
            )
        self.stream.close()


class _Rooms(threading.local):
    """Room for views: for any number of streams, in the thread of their loop."""

    def __init__(self) -> None:
        self.views = Views(BATCH)


_rooms = _Rooms()


@functools.lru_cache(maxsize=1024)
def usual_head(length: int) -> bytes:
    """What goes before a body where there is no header."""
    return encoded(None, length, None)


def encoded(text: bytes | None, length: int, options: FrameOptions | None) -> bytes:
    room = ctypes.create_string_buffer(len(text or b"") + MOST_AROUND_HEADER)
    size = check(lib.frame_encode(room, len(room), text, length, options))
    return room.raw[:size]


def as_bytes(body: Any) -> bytes:
    """The body itself or, where it could change while it waits to be sent, a copy."""
    return body if type(body) is bytes else memoryview(body).tobytes()
