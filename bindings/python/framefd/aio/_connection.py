"""A connection of an asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _abi, _headers
from .._abi import ErrorCode
from .._arguments import Buffer, BytesLike, Environment, StrOrBytesPath, checked
from .._auth import KeyLike, Keys, Proof, as_key, as_keyring, check_seal
from .._commands import RemoteCommand as BlockingCommand
from .._connection import Connection as BlockingConnection
from .._core import Options, State
from .._descriptors import Descriptor
from .._errors import (
    BrokenError,
    BusyError,
    ClosedError,
    FrameError,
    FrameTimeoutError,
    SystemCallError,
    make,
)
from .._exec import Command, CompletedCommand, ExecResult
from .._files import Entry, FileResult, FileStat, PartialFile, TreeResult
from .._headers import Header
from .._messages import (
    BATCH,
    LARGEST_READ,
    Head,
    Message,
    Request,
    each,
    request_header,
    untyped_next,
)
from .._native import lib
from .._views import Frame
from ._command import RemoteCommand
from ._side import Side

if TYPE_CHECKING:
    from typing_extensions import Unpack

Result = TypeVar("Result")

# The most queued bytes before send() waits.
HIGH_WATER = 1 << 16

# Receives and sends before other tasks have a turn: a peer that never pauses must not keep the
# loop to itself.
STEPS = 64

# Bytes of output that run() keeps of each stream.
KEPT_OUTPUT = 16 << 20

# Seconds for a handshake.
HANDSHAKE_TIME = 10


class Connection:
    """A conversation over a socket or two descriptors: see :class:`framefd.Connection`, which
    has the same parameters and options, except for ``timeout``.

    One task at a time may receive, and others may send meanwhile; calls, commands and
    transfers take turns. As an async context manager it writes queued messages at the end of
    the block and is closed. If an exception or a cancellation ends the block, it is closed at
    once. Iterate it for received messages.
    """

    def __init__(
        self,
        fd: Descriptor,
        write_fd: Descriptor | None = None,
        *,
        own: bool = True,
        **options: Unpack[Options],
    ) -> None:
        self._take(BlockingConnection(fd, write_fd, own=own, **endless(options)))

    @classmethod
    def of(cls, connection: BlockingConnection) -> Connection:
        """Continues a connection in the running loop; nothing else may use it then."""
        checked(connection, BlockingConnection, "a connection is a framefd.Connection")
        self = cls.__new__(cls)
        self._take(connection)
        return self

    def _take(self, connection: BlockingConnection) -> None:
        self._blocking = connection
        self._loop = loop = asyncio.get_running_loop()
        state = connection._state()
        self._reading = Side(state.read_fd, loop.add_reader, loop.remove_reader)
        self._writing = Side(state.write_fd, loop.add_writer, loop.remove_writer, self._write)
        # The task that receives, if there is one.
        self._receiver: asyncio.Future[None] | None = None
        self._steps = 0  # since other tasks had a turn
        # Calls, commands and transfers take turns.
        self._turn = asyncio.Lock()
        self._calls = 0
        self._echoes = False
        self._cause: str | None = None

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._blocking.closed

    @property
    def peer(self) -> str | None:
        """The address of the peer, as for connect(); None if it has none."""
        return self._blocking.peer

    @property
    def address(self) -> str | None:
        """The address of this side."""
        return self._blocking.address

    def fileno(self) -> int:
        """The descriptor; -1 when the connection is closed."""
        return self._blocking.fileno()

    def inspect(self) -> State:
        """The state of the connection."""
        return self._blocking.inspect()

    # Receiving.

    async def recv(self) -> Frame:
        """Receives one message. ClosedError: the peer closed the stream between two messages.
        Nothing is lost if it is cancelled."""
        self._check_receiver()
        return await self._recv()

    async def _recv(self) -> Frame:
        connection = self._blocking
        self._steps += 1
        if self._steps > STEPS:
            await self._pause()
        while True:
            code = untyped_next(connection._pointer, connection._view, 1, 0)
            if code >= 0:
                return connection._views.frame()
            if code != ErrorCode.TIMEDOUT:
                raise self._failed(code)
            await self._wait(self._reading)

    async def recv_many(self, most: int = BATCH) -> list[Frame]:
        """Receives at most ``most`` messages: those that were received already, or it waits
        for one."""
        return await self._received(self._blocking.recv_many, most)

    async def recv_header(self) -> Head:
        """Receives the header of the next message. Read its body with read(), readinto() or
        pieces()."""
        return await self._received(self._blocking.recv_header)

    async def read(self, size: int = LARGEST_READ) -> bytes:
        """Returns 1 to ``size`` bytes of the body as they are received; b"" at its end."""
        return await self._received(self._blocking.read, size)

    async def readinto(self, target: BytesLike) -> int:
        """Reads 1 byte or more of the body into a writable bytes-like object."""
        return await self._received(self._blocking.readinto, target)

    async def pieces(self, size: int = LARGEST_READ) -> AsyncIterator[bytes]:
        """Iterates over the rest of the body in pieces of 1 to ``size`` bytes, as they are
        received."""
        while piece := await self.read(size):
            yield piece

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> Frame:
        try:
            return await self.recv()
        except ClosedError:
            raise StopAsyncIteration from None

    # Sending.

    async def send(self, header: Header | None = None, body: BytesLike = b"") -> None:
        """Sends one message; waits while more than 64 KiB are queued. If it is cancelled, the
        message was accepted as a whole or not at all."""
        await self._accepted(_headers.encode(header), body)
        await self.drain()

    async def _accepted(self, text: bytes | None, body: BytesLike) -> None:
        pointer = self._blocking._pointer
        while True:
            with Buffer(body) as (start, length):
                code = lib.frame_connection_send(pointer, text, start, length, 0)
            if code >= 0:
                return
            if code != ErrorCode.TIMEDOUT:
                raise self._failed(code)
            await self._wait(self._writing)

    async def queue(self, header: Header | None = None, body: BytesLike = b"") -> None:
        """Queues a message, to be written together with others: by flush(), or once there are
        64 KiB."""
        await self._sent(self._blocking.queue, header, body)

    async def queue_many(self, messages: Iterable[Message]) -> None:
        """Queues many messages, each a body or a ``(header, body)``."""
        source = each(messages)
        while chunk := list(islice(source, BATCH)):
            while chunk:
                del chunk[: await self._sent(self._blocking.queue_many, chunk)]
            await self.drain()

    async def flush(self) -> None:
        """Writes all queued bytes."""
        await self._sent(self._blocking.flush)

    async def drain(self) -> None:
        """Waits while more than 64 KiB are queued; the loop writes them."""
        while (queued := self._blocking._state().queued) > HIGH_WATER:
            await self._wait(self._writing)
            self._blocking.flush(timeout=0) if self.inspect().broken else None
        if queued:
            self._writing.watch()

    async def begin(self, header: Header | None, body_len: int) -> None:
        """Begins a message whose body is sent in pieces with write()."""
        self._blocking.begin(header, body_len)

    async def write(self, piece: BytesLike) -> None:
        """Sends the next piece of the body."""
        rest = memoryview(piece).cast("B")
        while len(rest):
            rest = rest[await self._sent(self._blocking.write, rest) :]

    async def end(self, *, linger: bool = False) -> None:
        """Writes all queued bytes, and ends this direction; see
        :meth:`framefd.Connection.end`."""
        await self._sent(self._blocking.flush)
        while True:
            try:
                self._blocking.end(linger=linger, timeout=0)
                return
            except FrameTimeoutError:
                await self._wait(self._reading)

    # Exchanges.

    async def call(
        self, cmd: str, header: Header | None = None, body: BytesLike = b""
    ) -> Frame:
        """Sends a request and returns its reply: see :meth:`framefd.Connection.call`. Calls
        of several tasks go one after the other."""
        request = request_header(cmd, header)
        async with self._turn:
            self._check_receiver()
            self._calls += 1
            name = request["id"] = f"~a{self._calls}"
            text = _headers.encode(request)
            try:
                await self._accepted(text, body)
            except SystemCallError as error:
                with self._breaking():
                    raise self._refusal(name) or error from None
            with self._breaking():
                try:
                    await self.drain()
                except FrameError as error:
                    raise self._refusal(name) or error from None
                return self._answer(await self._recv(), name)

    def _refusal(self, name: str) -> FrameError | None:
        """The error reply of a peer that closes before it has read the whole request."""
        try:
            self._answer(self._blocking.recv(timeout=0), name)
        except FrameError as error:
            return error if error.remote else None
        return None

    def _answer(self, reply: Frame, name: str) -> Frame:
        """A reply to the request with this id, or the exception of an error reply."""
        header = reply.header
        status, answers = header.get("status"), header.get("id")
        error = None
        if "cmd" in header:
            raise make(ErrorCode.BADREPLY, "it is a request, and not a reply")
        if status == "error":
            if reply.body:
                raise make(ErrorCode.BADREPLY, "an error reply has a body")
            kind = f"REMOTE_{header.get('code')}".upper()
            code = ErrorCode.__members__.get(kind, ErrorCode.REMOTE_OTHER)
            line = lib.frame_strerror(code).decode()
            error = make(code, f"{line}: {header['message']}" if "message" in header else line)
        is_unreadable = error is not None and error.code == ErrorCode.REMOTE_BAD_REQUEST
        if answers != name and not (answers is None and (not self._echoes or is_unreadable)):
            raise make(ErrorCode.BADREPLY, "it is the reply to another request")
        self._echoes = self._echoes or answers is not None
        if error is not None:
            raise error
        if status != "ok":
            raise make(ErrorCode.BADREPLY, 'it has no "status":"ok"')
        return reply

    async def reply(
        self, request: Request, header: Header | None = None, body: BytesLike = b""
    ) -> None:
        """Replies to a request: see :meth:`framefd.Connection.reply`."""
        await self._sent(self._blocking.reply, request, header, body)
        await self.flush()

    async def reply_error(
        self, request: Request, error: int | FrameError, message: str | None = None
    ) -> None:
        """Sends the error reply to a request."""
        await self._sent(self._blocking.reply_error, request, error, message)
        await self.flush()

    async def auth_server(
        self,
        keys: Keys,
        *,
        name: str | None = None,
        plain: bool = False,
        client_serves: bool = False,
    ) -> str | None:
        """Asks the client to prove that it holds a key, within 10 s, and seals the connection:
        see :meth:`framefd.Connection.auth_server`."""
        ring = as_keyring(keys)
        check_seal(ring, None, name, plain, client_serves)
        return await self._handshake(
            self._blocking.auth_server,
            ring,
            name=name,
            plain=plain,
            client_serves=client_serves,
        )

    async def auth_client(
        self,
        key: KeyLike,
        *,
        key_id: str | None = None,
        name: str | None = None,
        plain: bool = False,
        client_serves: bool = False,
        chacha: bool = False,
    ) -> None:
        """Proves to the server that this side holds the key, within 10 s, and seals the
        connection: see :meth:`framefd.Connection.auth_client`."""
        key = as_key(key)
        check_seal(key, key_id, name, plain, client_serves, chacha)
        await self._handshake(
            self._blocking.auth_client,
            key,
            key_id=key_id,
            name=name,
            plain=plain,
            client_serves=client_serves,
            chacha=chacha,
        )

    @property
    def proof(self) -> Proof | None:
        """What the handshake has proved; None without one."""
        return self._blocking.proof

    async def _handshake(self, step: Callable[..., Result], key: Any, **options: Any) -> Result:
        with self._breaking():
            try:
                step = functools.partial(step, **options)
                done = await asyncio.wait_for(self._retried(step, key), HANDSHAKE_TIME)
            except asyncio.TimeoutError:
                raise make(ErrorCode.TIMEDOUT, "the handshake took too long") from None
            self._echoes = True
            return done

    async def run(
        self,
        command: Command,
        *,
        check: bool = False,
        timeout: float | None = None,
        cwd: StrOrBytesPath | None = None,
        env: Environment | None = None,
        max_output: int | None = None,
        allow_truncated: bool = False,
        detached: bool = False,
        input: BytesLike | None = None,
        merge: bool = False,
    ) -> CompletedCommand:
        """Runs a command at the peer, and returns its output: see
        :meth:`framefd.Connection.run`. If it is cancelled, the connection is closed, and the
        server ends the command."""
        command_ = await self.start(
            command,
            timeout=timeout,
            cwd=cwd,
            env=env,
            max_output=max_output or KEPT_OUTPUT,
            detached=detached,
            input=b"" if input is None else input,
            merge=merge,
        )
        kept: dict[int, list[bytes]] = {_abi.EXEC_STDOUT: [], _abi.EXEC_STDERR: []}
        async with command_:
            async for which, piece in command_:
                kept[which].append(piece)
        done = command_.result
        done.stdout, done.stderr = map(b"".join, kept.values())
        done.judge(timeout, check=check, allow_truncated=allow_truncated)
        return done

    async def start(self, command: Command, **parameters: Any) -> RemoteCommand:
        """Starts a command at the peer whose output is received while it runs. The parameters
        are those of :meth:`framefd.Connection.start`, but for ``exchange_timeout``."""
        await self._turn.acquire()
        try:
            self._check_receiver()
            # It sends nothing, or all.
            started = await self._retried(functools.partial(self._start, command, parameters))
        except BaseException:
            self._turn.release()
            raise
        return RemoteCommand(self, started)

    def _start(
        self, command: Command, parameters: dict[str, Any], *, timeout: float
    ) -> BlockingCommand:
        return self._blocking.start(command, exchange_timeout=timeout, **parameters)

    async def put(self, *arguments: Any, **parameters: Any) -> FileResult:
        """Stores a file on the server: see :meth:`framefd.Connection.put`. ``progress`` is
        called in another thread."""
        return await self._in_thread(self._blocking.put, arguments, parameters)

    async def get(self, *arguments: Any, **parameters: Any) -> FileResult:
        """Fetches a file from the server: see :meth:`framefd.Connection.get`."""
        return await self._in_thread(self._blocking.get, arguments, parameters)

    async def put_tree(self, *arguments: Any, **parameters: Any) -> TreeResult:
        """Stores a directory on the server: see :meth:`framefd.Connection.put_tree`."""
        return await self._in_thread(self._blocking.put_tree, arguments, parameters)

    async def get_tree(self, *arguments: Any, **parameters: Any) -> TreeResult:
        """Fetches a directory from the server: see :meth:`framefd.Connection.get_tree`."""
        return await self._in_thread(self._blocking.get_tree, arguments, parameters)

    async def stat(self, name: StrOrBytesPath = "") -> FileStat:
        """Describes ``name`` on the server: see :meth:`framefd.Connection.stat`."""
        return await self._in_thread(self._blocking.stat, (name,), {})

    async def partial(self, name: StrOrBytesPath) -> PartialFile:
        """The part that the server has of an interrupted put."""
        return await self._in_thread(self._blocking.partial, (name,), {})

    async def listdir(self, name: StrOrBytesPath = "") -> list[Entry]:
        """The entries of the directory ``name`` on the server."""
        return await self._in_thread(self._blocking.listdir, (name,), {})

    async def mkdir(self, *arguments: Any, **parameters: Any) -> None:
        """Makes a directory on the server: see :meth:`framefd.Connection.mkdir`."""
        await self._in_thread(self._blocking.mkdir, arguments, parameters)

    async def serve_exec(self, *arguments: Any, **parameters: Any) -> ExecResult:
        """Serves a request for a command: see :meth:`framefd.Connection.serve_exec`. A policy
        is called in another thread."""
        return await self._in_thread(self._blocking.serve_exec, arguments, parameters)

    async def serve_file(self, *arguments: Any, **parameters: Any) -> FileResult:
        """Serves a request for a file: see :meth:`framefd.Connection.serve_file`."""
        return await self._in_thread(self._blocking.serve_file, arguments, parameters)

    # The end.

    def abort(self) -> None:
        """Aborts the connection: waiting and later calls raise an AbortedError."""
        self._blocking.abort()
        self._reading.wake()
        self._writing.wake()

    def close(self) -> None:
        """Closes the connection at once; queued bytes are dropped. A second call does
        nothing."""
        self._reading.stop()
        self._writing.stop()
        self._blocking.close()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._blocking._has_queued():
                await self.flush()
        finally:
            self.close()

    def __repr__(self) -> str:
        return f"<framefd.aio.Connection of {self._blocking!r}>"

    # Waiting.

    async def _wait(self, *sides: Side) -> None:
        """Waits until one of the sides is ready, or the connection has been ended."""
        ready = self._loop.create_future()
        if self._reading in sides:
            self._receiver = ready
        try:
            for side in sides:
                side.waiters.add(ready)
                side.watch()
            await ready
        finally:
            for side in sides:
                side.waiters.discard(ready)
            if self._receiver is ready:
                self._receiver = None

    async def _retried(self, step: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a step that is repeated whenever the connection may continue."""
        while True:
            try:
                return step(*arguments, timeout=0)
            except FrameTimeoutError as error:
                if error.remote:
                    raise
            except FrameError as error:
                raise self._failed(error.code, error) from None
            await self._wait(*self._sides())

    def _sides(self) -> list[Side]:
        """The sides to wait for."""
        state = self._blocking._state()
        sides = [self._writing] if state.write_events else []
        return [self._reading, *sides] if state.read_events or not sides else sides

    async def _received(self, step: Callable[..., Result], *arguments: Any) -> Result:
        self._check_receiver()
        return await self._retried_on(self._reading, step, *arguments)

    async def _sent(self, step: Callable[..., Result], *arguments: Any) -> Result:
        return await self._retried_on(self._writing, step, *arguments)

    async def _pause(self) -> None:
        """Before a step, so that a task that is cancelled here has lost nothing."""
        self._steps = 0
        await asyncio.sleep(0)

    async def _retried_on(
        self, side: Side, step: Callable[..., Result], *arguments: Any
    ) -> Result:
        self._steps += 1
        if self._steps > STEPS:
            await self._pause()
        while True:
            try:
                return step(*arguments, timeout=0)
            except FrameTimeoutError:
                await self._wait(side)
            except FrameError as error:
                raise self._failed(error.code, error) from None

    def _write(self) -> bool:
        """Writes queued bytes without waiting; whether there are more."""
        try:
            self._blocking.flush(timeout=0)
        except FrameTimeoutError:
            return True
        except FrameError:
            pass  # the next call that sends reports it
        return False

    def _check_receiver(self) -> None:
        # A task that is cancelled has its future cancelled at once, and runs later.
        if self._receiver is not None and not self._receiver.done():
            raise BusyError(ErrorCode.BUSY, "another task is receiving")

    def _failed(self, code: int, error: BaseException | None = None) -> BaseException:
        # The thread of a transfer may still be in the connection.
        if self._cause is not None and code in (ErrorCode.ABORTED, ErrorCode.BUSY):
            text = f"the connection cannot be used any more: {self._cause}"
            return BrokenError(ErrorCode.BROKEN, text)
        return error if error is not None else self._blocking._failed(code)

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        """An exchange that does not end breaks the connection: a late reply must not be taken
        for that of the next request."""
        try:
            yield
        except BaseException as error:
            if not getattr(error, "remote", False) and not self.closed:
                if self._cause is None:
                    self._cause = str(error) or type(error).__name__
                self.abort()
            raise

    async def _in_thread(
        self, function: Callable[..., Result], arguments: Any, parameters: Any
    ) -> Result:
        async with self._turn:
            self._check_receiver()
            call = functools.partial(function, *arguments, **parameters)
            future = self._loop.run_in_executor(None, call)
            try:
                return await asyncio.shield(future)
            except FrameError as error:
                raise self._failed(error.code, error) from None
            except asyncio.CancelledError:
                with self._breaking():
                    future.add_done_callback(_forgotten)
                    raise


def endless(options: Options) -> Options:
    """Options for a connection whose socket does not block: its calls wait here."""
    timeout = options.get("timeout")
    return {**options, "timeout": math.inf if timeout is None else timeout}


def _forgotten(future: asyncio.Future[Any]) -> None:
    """Nobody waits any more for what comes of it."""
    if not future.cancelled():
        future.exception()
