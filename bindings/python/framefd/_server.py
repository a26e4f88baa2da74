"""Servers: a program's own requests, commands and files, on the threads of the library."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import _abi, _files, _interrupts, _policies
from ._abi import ErrorCode
from ._arguments import c_string, check_callable, checked, flag, optional, unsigned
from ._auth import KeyLike, Keyring, optional_text
from ._callbacks import Lasting
from ._connection import Listener, ServerAddress, listen
from ._contents import LocalFile, directory
from ._core import address_of, this_frame
from ._descriptors import Descriptor, fileno
from ._errors import FrameTimeoutError, StateError, last_error
from ._exec import ExecOptions
from ._log import Log
from ._native import lib
from ._native_server import (
    HandlerFunction,
    Limits,
    LogFunction,
    Logged,
    Native,
    ServerKeys,
    TellFunction,
    limit_members,
    living,
    ring_of,
)
from ._policies import FilePolicy
from ._requests import Handler, Reply
from ._served import ServedFunction, telling

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from typing_extensions import Unpack

    from ._log import LogLike
    from .aio._serving import Serving

Function = TypeVar("Function", bound="Callable[..., Reply | Awaitable[Reply]]")


class ServerCounts(NamedTuple):
    """What a server has done so far, and does at the moment."""

    #: Connections that were accepted or added, and those that exist.
    connections: int
    connections_now: int
    #: Requests that were served, with an error reply or without, and those that are served now.
    requests: int
    requests_now: int
    #: Requests that got an error reply.
    errors: int
    #: Connections that were closed because they proved no key, or not in time.
    refused_auth: int
    #: Connections that were refused or closed, and requests that were told that the server is
    #: busy, because of a limit.
    refused_limit: int
    #: Connections that were closed because the client was too slow.
    timed_out: int
    #: Bytes that were written.
    bytes_out: int


class Server:
    """A server: it accepts connections, checks keys, passes requests to their handlers, serves
    commands and files, holds limits against clients that are slow, many or wrong, and stops
    without losing a request.

    >>> server = framefd.Server(keys="keys/", name="db")
    >>> @server.command("add")
    ... def add(request):
    ...     return {"sum": request.header["a"] + request.header["b"]}
    >>> server.listen("0.0.0.0:7000")
    >>> server.run()

    Its clients use ``connect(...).call("add", {"a": 1, "b": 2})``.

    ``keys`` are its clients' keys by id: a dict, a :class:`Keyring`, or the path of a directory
    with a file for each. ``key`` is one key for all. With either, connections are sealed, and
    ``name`` is the server's name, which clients must know; ``plain`` is the plain handshake
    instead. Without keys it serves everybody, and listens on this host only, or with ``open`` on
    any address: for networks that are trusted. ``keyring`` has the keys, and may be changed
    while the server runs.

    ``workers`` are threads for requests. With 0 all are served in the thread of :meth:`run`,
    one at a time: handlers need no locks, and a command or a file holds up all others. With 1
    or more several handlers run at once, and commands and files have threads of their own
    beside these. They are threads of the library: no signal handler runs in them, and what is
    in a threading.local() is gone with the next request.

    ``reap`` is for process 1 of a container and for a subreaper: what commands leave behind is
    reaped. Then wait for children of your own within a second of their end: ``subprocess`` takes
    the status of one that was reaped for 0. One that still reads its output does not wait.

    ``hello`` answers the request of that name, with what the server can do. ``log`` is a
    logging.Logger, by default ``logging.getLogger("framefd")``, or a function of a level of the
    logging module and a text. It is called on any thread, and gets no key; text of clients is
    escaped, and no client can flood it. Level INFO is the server's, DEBUG each connection's.
    ``served`` is called with a :class:`ServedRequest` exactly once for each request when it is
    over, on any thread; no call is left out, and the client's next request waits for it.

    ``users`` are the ids of the users whose processes are served at Unix sockets, root no more than
    others; any other is told ``denied``. None: whoever can connect.

    The limits (None is the default) are numbers, bytes and seconds:

    - ``max_connections`` (1,024), and beside them ``max_unauthenticated`` that have proved no
      key yet (64); ``max_commands`` that run at once (2 for each processor), ``max_transfers``
      of files (64).
    - ``max_header`` of a request (64 KiB), ``max_body`` of one that a handler gets in memory
      (64 MiB, or NO_LIMIT), ``max_memory`` for unfinished requests of all connections
      (256 MiB), ``max_queue`` for replies of a connection that were not written yet (32 MiB).
    - ``auth_timeout`` for the handshake (10), ``frame_timeout`` for a header from its first
      byte (10), ``stall`` without a byte of a body or a reply (30), ``idle`` without a request
      (300), ``drain`` from a stop to the end of what still runs (25).

    Everything is off until it is added, before it runs. As a context manager it is closed at
    the end of the block; ``async with`` serves in the block, see :meth:`serve`. After a fork
    the child gets a ForkedError.
    """

    def __init__(
        self,
        *,
        keys: ServerKeys | None = None,
        key: KeyLike | None = None,
        name: str | None = None,
        plain: bool = False,
        open: bool = False,
        workers: int = 0,
        hello: bool = False,
        reap: bool = False,
        log: LogLike | None = None,
        served: ServedFunction | None = None,
        users: Iterable[int] | None = None,
        **limits: Unpack[Limits],
    ) -> None:
        check_callable(served, "served")
        self._native: Native | None = None
        self._log = Log(log)
        self._ring = ring_of(keys, key)
        known_as = optional_text(name, "name")
        if self._ring is None and (name is not None or plain):
            raise TypeError("name and plain need keys")
        lasting = Lasting()
        native = Native(lasting)
        note = LogFunction(lasting.guarded(self._log.line, 0))
        logged = Logged(native, self._log, "served")
        tell = (
            TellFunction()
            if served is None
            else TellFunction(logged.guarded(telling(served), 0))
        )
        some = optional(users, Iterable, "users are a list of numbers") or ()
        ids = [unsigned(uid, "a user", MOST_USER) for uid in some]
        allowed = (ctypes.c_uint32 * len(ids))(*ids)
        options = _abi.FrameServerOptions(
            flags=flag(_abi.FRAME_SERVER_PLAIN, plain)
            | flag(_abi.FRAME_SERVER_HELLO, hello)
            | flag(_abi.FRAME_SERVER_OPEN, open)
            | flag(_abi.FRAME_SERVER_REAP, reap),
            workers=unsigned(workers, "workers", MOST_WORKERS),
            log_level=self._log.level,
            ring=None if self._ring is None else self._ring.handle.pointer,
            server_name=known_as,
            log=ctypes.cast(note, _abi.FrameServerOptionsLog),
            served=ctypes.cast(tell, _abi.FrameServerOptionsServed),
            users=None if users is None else allowed,
            users_len=len(allowed),
            **limit_members(**limits),
            **_interrupts.MEMBERS,
        )
        native.kept = [note, tell, lasting]
        code = lib.frame_server_new(options, native)
        if code < 0:
            raise last_error(code)
        self._native = native
        self._workers = int(options.workers)
        self._handlers: list[Handler] = []
        self._listeners: list[Listener | Descriptor] = []
        self._own = contextlib.ExitStack()  # closes those that are its own
        # Serves what would hold up a loop.
        self._takes_long = False
        stall = limits.get("stall")
        self._stall = STALL if stall is None else stall
        self._stops = 0
        self._is_over = False
        self._serving: Serving | None = None
        living.add(native)

    # What it serves.

    def command(self, name: str, *, stream: bool = False) -> Callable[[Function], Function]:
        """A decorator: the function serves requests whose ``cmd`` is ``name``. It is called
        with a :class:`ServerRequest`, and returns the reply: a dict (members of the header),
        bytes (the body), both in a tuple, or None. In asyncio it may be an async function,
        which gets an :class:`aio.ServerRequest`.

        An exception becomes an error reply. A :class:`FrameError` keeps its kind and its text:
        ``raise framefd.NotFoundError("no such user")``. Any other is a defect: the client gets
        the name of its class, and the log the traceback.

        With ``stream`` the handler is called once the header has come, and reads the body from
        ``request.connection``. What it leaves is dropped, up to 16 MiB.

        ExistsError: something serves ``name``. StateError: the server runs.
        """
        checked(name, str, "a command's name is a str")

        def register(function: Function) -> Function:
            checked(function, Callable, "a handler is a function")
            self._handle(name, function, stream)
            return function

        return register

    def _handle(self, name: str, function: Callable[..., Any], stream: bool) -> None:
        native = self._open()
        known_as = c_string(name, "a command's name")
        handler = Handler(name, function, self._workers > 0, self._log)
        called = HandlerFunction(native.lasting.guarded(handler.serve, 0))
        flags = _abi.FRAME_HANDLER_LATER | flag(_abi.FRAME_HANDLER_STREAM, stream)
        self._done(
            lib.frame_server_handle(
                native,
                known_as,
                ctypes.cast(called, _abi.FrameServerHandleHandler),
                None,
                flags,
            )
        )
        native.kept.append(called)
        handler.kept = native.kept
        self._handlers.append(handler)

    def serve_exec(self, options: ExecOptions = ExecOptions()) -> None:
        """Serves commands. Their senders can do everything that the user of this process can;
        ``options`` can confine them, and its ``policy`` is called on any thread of the server.
        ``command_timeout`` is 1 h by default here.

        ExistsError: it serves commands. StateError: the server runs.
        """
        native = self._open()
        members = checked(options, ExecOptions, "options are ExecOptions").native()
        if options.policy is not None:
            members.policy = _policies.exec_callback(
                options.policy, Logged(native, self._log, POLICY)
            )
        self._done(lib.frame_server_serve_exec(native, members))
        native.kept.append(members)
        self._takes_long = True

    def serve_files(
        self,
        root: LocalFile,
        *,
        read: bool = True,
        write: bool = False,
        create: bool = False,
        replace: bool = False,
        overwrite: bool = True,
        checksum: bool = True,
        sync: bool = True,
        parents: bool = False,
        max_size: int | None = None,
        mode: int | None = None,
        rate: int | None = None,
        timeout: float | None = None,
        stall: float | None = None,
        reply_to_oldest: bool = True,
        policy: FilePolicy | None = None,
    ) -> None:
        """Serves the files below the directory ``root``, a path or a descriptor, from which no
        name leads out. With ``read`` they are sent, described and listed, with ``create`` new
        ones are made, with ``replace`` those that are there are replaced; ``write`` is both.
        The other parameters are those of :meth:`Connection.serve_file`; ``policy`` is called on
        any thread of the server, and asked only about what these rights allow.

        ExistsError: it serves files. StateError: the server runs. ValueError: there are no
        rights.
        """
        native = self._open()
        members = _files.serve_options(
            overwrite=overwrite,
            checksum=checksum,
            sync=sync,
            parents=parents,
            max_size=max_size,
            mode=mode,
            rate=rate,
            timeout=timeout,
            stall=stall,
            reply_to_oldest=reply_to_oldest,
        )
        flags = (
            flag(_abi.FRAME_SERVE_READ, read)
            | flag(_abi.FRAME_SERVE_WRITE, write)
            | flag(_abi.FRAME_SERVE_CREATE, create)
            | flag(_abi.FRAME_SERVE_REPLACE, replace)
        )
        if policy is not None:
            check_callable(policy, "a policy")
            members.policy = _policies.file_callback(policy, Logged(native, self._log, POLICY))
        with directory(root) as number:
            self._done(lib.frame_server_serve_files(native, number, flags, members))
        native.kept.append(members)
        self._takes_long = True

    # Where it listens.

    def listen(
        self, address: ServerAddress | Descriptor, *, backlog: int = 0, mode: int = 0
    ) -> str:
        """Listens at an address, as for :func:`framefd.listen`, or accepts connections of a
        socket that listens: an object, which it keeps, or a descriptor, such as that of
        systemd. Any number of them, also while it runs. Returns the address, as connect() takes
        it.

        ArgumentError: the socket does not listen, or other hosts can reach it and the server
        has no keys and is not ``open``. StateError: it has stopped. Otherwise raises as
        :func:`framefd.listen`.
        """
        native = self._open()
        if isinstance(address, (str, tuple, os.PathLike)):
            listener: Listener | Descriptor = listen(address, backlog=backlog, mode=mode)
        elif backlog or mode:
            raise TypeError("backlog and mode are for an address")
        else:
            listener = address
        with contextlib.ExitStack() as stack:
            if isinstance(listener, Listener) and listener is not address:
                stack.callback(listener.close)
            number = fileno(listener)
            self._done(lib.frame_server_listen(native, number))
            self._listeners.append(listener)
            self._own.push(stack.pop_all())
        return address_of(number, of_peer=False) or ""

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as connect() takes it."""
        numbers = [fileno(listener) for listener in self._listeners]
        return [address_of(number, of_peer=False) or "" for number in numbers]

    def add(self, connection: socket.socket | int) -> None:
        """Serves a connection that exists: a socket of inetd, one end of a socketpair, one that
        this side has opened. With keys its client must prove one like any other; without keys
        it can use everything. It is the server's from now on, which closes it."""
        checked(connection, (socket.socket, int), "a connection is a socket or its descriptor")
        self._done(lib.frame_server_add(self._open(), fileno(connection)))
        if isinstance(connection, socket.socket):
            connection.detach()

    @property
    def keyring(self) -> Keyring | None:
        """The keys of its clients, which may be changed while it runs; None without keys."""
        return self._ring

    # Running.

    def run(self, *, signals: Iterable[int] = (signal.SIGINT, signal.SIGTERM)) -> None:
        """Serves until the server is stopped, and every request is answered.

        In the main thread each of ``signals`` stops it, unless the program has a handler for
        that signal: Ctrl-C ends run() once requests are answered. A second one ends everything
        at once with a KeyboardInterrupt. The exception of another signal's handler ends run(),
        which can be called again. FrameTimeoutError: requests were cut, because ``drain``
        seconds had passed, or by a second stop(). BusyError: it runs.
        """
        checked(signals, Iterable, "signals are a list of numbers")
        numbers = [unsigned(number, "a signal", signal.NSIG) for number in signals]
        native = self._start(this_frame())
        try:
            for handler in self._handlers:
                if handler.is_async:
                    text = f"the handler of {handler.cmd!r} is async: use serve(), in asyncio"
                    raise TypeError(text)
            with self._stopped_by(numbers):
                while self._step(native, -1):
                    pass
            self._finish(native)
        finally:
            native.runner.clear()

    async def serve(self) -> None:
        """The same in the running loop of asyncio, without a thread: handlers, async or not,
        run in the loop. A plain function must not wait there. Commands and files need a server
        with ``workers``, since they would hold up the loop.

        If the task is cancelled, the server is stopped, and serve() ends once requests are
        answered; a second time ends everything at once. So does Ctrl-C in asyncio.run(), and
        SIGTERM in the main thread, unless the program handles it.
        """
        await (await self.__aenter__())._served().until_stopped()

    async def __aenter__(self) -> Server:
        from .aio._serving import Serving  # who does not use asyncio does not need it

        serving = Serving(self)
        native = self._start(serving)
        self._serving = serving
        serving.begin(native)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self._served().end(at_once=kind is not None)

    def _served(self) -> Serving:
        assert self._serving is not None
        return self._serving

    @contextlib.contextmanager
    def serving(self) -> Iterator[Server]:
        """Runs the server in a thread during the block, such as a test; then it is stopped, and
        if an exception ends the block, at once. Raises as run()."""
        raised: list[BaseException] = []

        def run() -> None:
            try:
                self.run()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run, name="framefd server")
        thread.start()
        try:
            yield self
            if not self._stops:
                self.stop()
            thread.join()
        finally:
            while thread.is_alive():
                self.stop()
                thread.join(1)
        if raised:
            raise raised[0]

    def stop(self) -> None:
        """Stops the server: who waits to be accepted is accepted and served, requests that have
        come are answered, idle connections are ended. A second time everything is ended at
        once: calls on connections raise an AbortedError, and commands are killed. Any thread,
        any signal handler, any handler of a request. After close() it does nothing."""
        self._stops += 1
        if self._native is not None:
            self._native.stop()

    def close(self) -> None:
        """Ends everything at once; a second call does nothing. It waits for handlers that run.
        Call stop() before, so that no request is lost. Later calls raise a StateError."""
        native, self._native = self._native, None
        if native is not None:
            native.stop()
            native.stop()
            self._end_listening()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._native is None

    def counters(self) -> ServerCounts:
        """What the server has done so far, and does at the moment. Any thread, at any time."""
        counts = _abi.FrameServerCounts()
        self._done(lib.frame_server_counters(self._open(), counts))
        return ServerCounts(*(getattr(counts, name) for name in ServerCounts._fields))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else " ".join(self.addresses) or "listens nowhere"
        return f"<framefd.Server {state}>"

    # Helpers.

    def _open(self) -> Native:
        native = self._native
        if native is None:
            raise StateError("the server is closed")
        return native

    def _start(self, me: FrameType | Serving) -> Native:
        """The server, which ``me`` runs from now on."""
        native = self._open()
        if self._is_over:
            raise StateError("the server has stopped: make another one")
        native.claim(me)
        return native

    def _poll_fd(self, native: Native) -> int:
        return self._done(lib.frame_server_poll_fd(native))

    def _step(self, native: Native, wait: int) -> bool:
        """One turn; False once the server has stopped."""
        code = lib.frame_server_step(native, wait)
        self._raise(native)
        if code == ErrorCode.CLOSED:
            return False
        # A handler may have caught what has ended its wait.
        if code not in (ErrorCode.TIMEDOUT, ErrorCode.CANCELED):
            self._done(code)
        return True

    def _raise(self, native: Native) -> None:
        """Raises the exception of a signal's handler, or what is no Exception, that has ended a
        callback or a wait."""
        raised = native.lasting.raised
        if raised:
            native.lasting.mend()
            error: BaseException | None = raised[0]
            raised.clear()
        elif _interrupts.raised:
            error = _interrupts.kept()
        else:
            return
        if error is not None:
            try:
                raise error
            finally:
                del error  # which has this frame in its traceback

    def _finish(self, native: Native) -> None:
        """After the last turn. FrameTimeoutError: something was cut."""
        self._is_over = True
        living.discard(native)
        self._end_listening()
        code = lib.frame_server_run(native)
        if code == ErrorCode.TIMEDOUT:
            raise FrameTimeoutError("requests were cut by the stop")
        self._done(code)

    def _end_listening(self) -> None:
        self._listeners.clear()
        self._own.close()

    def _done(self, code: int) -> int:
        if code < 0:
            raise last_error(code)
        return code

    @contextlib.contextmanager
    def _stopped_by(self, numbers: list[int]) -> Iterator[None]:
        """Signals stop it during the block, if nobody else handles them."""
        if threading.current_thread() is not threading.main_thread():
            numbers = []

        def stop(*_: object) -> None:
            self.stop()
            if self._stops > 1:
                raise KeyboardInterrupt

        before = {
            number: signal.signal(number, stop)
            for number in numbers
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) is stop:
                    signal.signal(number, handler)


# Seconds: the library's default of stall.
STALL = 30.0

MOST_WORKERS = 10_000
MOST_USER = 2**32 - 1

POLICY = "a policy"
