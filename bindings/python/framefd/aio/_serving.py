"""A server in a loop of asyncio, and the requests that its handlers get."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._abi import ErrorCode
from .._arguments import BytesLike
from .._connection import Connection as BlockingConnection
from .._errors import FrameTimeoutError, StateError
from .._headers import Header
from .._requests import (
    INTERRUPTED,
    Base,
    Handler,
    Lent,
    check_header,
    reply_of,
    request_of,
    text_of,
)
from .._requests import ServerRequest as BlockingRequest
from ._connection import Connection
from ._side import Side

if TYPE_CHECKING:
    from .._native_server import Native
    from .._server import Server

# The bytes that a client must send or read in a second, on average, while it is waited for. The
# library has the same.
LEAST_RATE = 1024


class RequestConnection(Connection):
    """The connection of a request, which waits no longer than the server lets it."""

    def __init__(self, connection: BlockingConnection, stall: float) -> None:
        self._take(connection)
        self._stall = stall
        self._waited = 0.0
        self._left = 0
        self._moved = 0

    async def _wait(self, *sides: Side) -> None:
        state = self._blocking._state()
        left = state.to_receive + state.to_send + state.queued
        self._moved += max(self._left - left, 0)
        self._left = left
        begun = self._loop.time()
        time = min(self._stall + self._moved / LEAST_RATE - self._waited, self._stall)
        try:
            await asyncio.wait_for(super()._wait(*sides), time)
        except asyncio.TimeoutError:
            raise FrameTimeoutError("the client does not send or read, or too slowly") from None
        finally:
            self._waited += self._loop.time() - begun


class ServerRequest(Base):
    """A request, as an async handler of a :class:`framefd.Server` gets it: its ``header``,
    ``body``, ``peer`` and ``key_id``. It cannot be used once the handler has returned. Further
    requests of the client wait until then."""

    _stall = 0.0
    _aio: RequestConnection | None = None

    @property
    def connection(self) -> Connection:
        """The connection, for bodies in pieces: see
        :attr:`framefd.ServerRequest.connection`."""
        blocking = self._connection()
        if self._aio is None:
            self._aio = RequestConnection(blocking, self._stall)
        return self._aio

    async def reply(self, header: Header | None = None, body: BytesLike = b"") -> None:
        """Sends the reply before the handler returns, which then returns None."""
        check_header({} if header is None else header)
        await self._send(text_of(header), body)

    async def begin(self, header: Header | None, body_len: int) -> None:
        """Begins the reply, whose body of ``body_len`` bytes follows in pieces, by
        ``connection.write()``. The handler then returns None."""
        await self.connection.begin(self._begun(header), body_len)

    async def _send(self, text: bytes | None, body: BytesLike) -> None:
        self._connection()  # the request is not done
        while True:
            code = self._reply(text, body, 0)
            if code >= 0:
                return
            if code != ErrorCode.TIMEDOUT:
                self._not_sent(code)
            connection = self.connection
            await connection._wait(connection._writing)

    def _done(self, code: int, message: str | None = None) -> None:
        if self._aio is not None:
            self._aio._reading.stop()
            self._aio._writing.stop()
        super()._done(code, message)


class Serving:
    """A server while a loop runs it. The loop watches the one descriptor of the server, and
    those of connections for which a handler waits."""

    def __init__(self, server: Server) -> None:
        if server._takes_long and not server._workers:
            raise StateError("commands and files would hold up the loop: set workers=1")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] = self._loop.create_future()

    def begin(self, native: Native) -> None:
        self._native = native
        self._fd = self._server._poll_fd(native)
        for handler in self._server._handlers:
            handler.loop = self
        self._loop.add_reader(self._fd, self._turn)

    def is_running(self) -> bool:
        return not (self._over.done() or self._loop.is_closed())

    # Requests.

    def serve(self, handler: Handler, pointer: Lent, view: int) -> None:
        """Called for each request, in the loop's thread or in one of the library."""
        begin: Callable[[Handler, Any], None]
        if handler.is_async:
            request: Any = request_of(ServerRequest, pointer, view, handler.kept)
            begin = self._begin
        else:
            request = request_of(BlockingRequest, pointer, view, handler.kept)
            begin = self._answer_now
        if request is None:
            return
        if threading.get_ident() == self._thread:
            begin(handler, request)
        else:
            self._loop.call_soon_threadsafe(begin, handler, request)

    def _begin(self, handler: Handler, request: ServerRequest) -> None:
        request._stall = self._server._stall
        self._start(self._answer(handler, request, handler.function))

    def _answer_now(self, handler: Handler, request: BlockingRequest) -> None:
        handler.answer(request)

    def _start(self, answering: Any) -> None:
        task = self._loop.create_task(answering)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, handler: Handler, request: ServerRequest, function: Callable[..., Any]
    ) -> None:
        try:
            outcome = await function(request)
            if outcome is not None:
                await request._send(*reply_of(outcome))
        except Exception as error:
            request._failed(handler.cmd, error, handler.log)
        except BaseException:
            request._done(ErrorCode.CANCELED, INTERRUPTED.decode())
            raise
        else:
            request._done(0)

    # Running.

    def _turn(self) -> None:
        try:
            if self._server._step(self._native, 0):
                return
        except BaseException as error:
            self._end(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self._loop.remove_reader(self._fd)
        if self._over.done():
            return
        if isinstance(error, Exception):
            self._over.set_exception(error)
        else:
            self._over.set_result(None)

    async def until_stopped(self) -> None:
        """Waits for a stop, which signals and a cancellation are, and for its end."""
        interrupted = False
        me = asyncio.current_task()

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            if me is not None:
                me.cancel()

        with self._handling({signal.SIGINT: interrupt, signal.SIGTERM: self._server.stop}):
            try:
                await asyncio.wait([self._over])
            except asyncio.CancelledError:
                with contextlib.suppress(FrameTimeoutError, asyncio.CancelledError):
                    await self.end()
                if interrupted:
                    raise KeyboardInterrupt from None
                raise
            await self.end(stop=False)

    async def end(self, *, stop: bool = True, at_once: bool = False) -> None:
        """Stops the server, and waits for its end. Each cancellation stops it again."""
        cancelled = False
        for _ in range(self._server._stops, stop + at_once):
            self._server.stop()
        while not self._over.done():
            try:
                await asyncio.wait([self._over])
            except asyncio.CancelledError:
                cancelled = True
                self._server.stop()
                self._cancel()
        self._cancel()
        while self._tasks:
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError:
                cancelled = True
        self._over.result()
        with contextlib.ExitStack() as stack:
            if at_once or cancelled:
                stack.enter_context(contextlib.suppress(FrameTimeoutError))
            self._server._finish(self._native)
        if cancelled:
            raise asyncio.CancelledError

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    @contextlib.contextmanager
    def _handling(self, handlers: dict[signal.Signals, Callable[[], None]]) -> Any:
        """Signals are handled in the block, if nobody else handles them."""
        added = []
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._loop.add_signal_handler(number, handler)
                    added.append(number)
        try:
            yield
        finally:
            for number in added:
                self._loop.remove_signal_handler(number)
