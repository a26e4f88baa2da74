"""Commands whose output comes as it appears, and which can be talked to meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import _abi, _errors
from ._abi import ErrorCode
from ._arguments import (
    Buffer,
    Descriptor,
    StrOrBytesPath,
    fileno,
    in_position,
    limit,
    milliseconds,
    unsigned,
)
from ._errors import StateError
from ._exec import Command, CompletedCommand, ExecOptions, input_members, requested
from ._frames import LARGEST_READ
from ._handles import ExclusiveHandle
from ._native import lib

STDOUT: int = _abi.EXEC_STDOUT  #: what read() gives is standard output
STDERR: int = _abi.EXEC_STDERR  #: what read() gives is standard error

# Seconds in the library at a time, so that Python's signal handlers run in between.
TURN = 0.2


class RemoteCommand:
    """A command that runs on the other end of a stream: what start() returns.

    It is iterated for its output, ``(STDOUT or STDERR, bytes)`` as it comes, up to its end.
    After that ``result`` is there, and the connection is free for the next request; until
    then nothing else may be sent or received on it. It keeps the connection's object alive,
    not open. ``args`` is the command.

    >>> with framefd.start(connection, "make -k") as command:
    ...     for stream, data in command:
    ...         os.write(stream, data)
    >>> command.result.check_returncode()

    ``timeout`` is in seconds for each call: None and math.inf are for ever, 0 is not to
    wait. FrameTimeoutError: nothing was done, call again. Ctrl-C and other signals are
    handled while a call waits. One thread at a time may use it, another gets a BusyError;
    signal() and resize() are for any thread and any signal handler. Since this end has to
    read for the other one to go on, a thread that has much input to write takes copy(), or
    writes and reads in turn.

    Where ``remote`` is set (SpawnError, MalformedError, DeniedError and the like, from the
    first call that waits) the server did not run it, and the connection can be used on.
    After any other error close it: ConnectionError (TruncatedError, ClosedError,
    DisconnectedError: the other end is gone), StalledError, MalformedError.
    """

    def __init__(
        self,
        args: Command,
        handle: ExclusiveHandle,
        fd: Descriptor,
        write_fd: Descriptor | None,
    ) -> None:
        self.args = args
        self._open: ExclusiveHandle | None = handle
        self._descriptors = (fd, write_fd)
        self._result: CompletedCommand | None = None

    def read(
        self, size: int = 65536, timeout: float | None = None
    ) -> tuple[int, bytes] | None:
        """What the command has written, as it comes: STDOUT or STDERR, and 1 to ``size``
        bytes (1 MiB at most). None: it has ended, and all was read.

        The order of what went to different streams is not kept, unless ``merge`` or a
        ``terminal`` makes them one.
        """
        source = ctypes.c_int()
        room = ctypes.create_string_buffer(min(limit(size, "size"), LARGEST_READ))
        with self._handle as pointer:
            count = _waited(
                lambda turn: lib.exec_stream_read(pointer, source, room, len(room), turn),
                timeout,
            )
            if count == 0:
                self._end(pointer)
                return None
        return source.value, ctypes.string_at(room, count)

    def write(self, data: Any, timeout: float | None = None) -> int:
        """Gives the command input, of any bytes-like type; returns how many bytes of it
        were taken, as there is room for on the way. What the command does not read is
        dropped, and no error.

        0: read first, output waits; or the command has ended. StateError: it takes no
        input, or end_input() was called.
        """
        with self._handle as pointer, Buffer(data) as (address, length):
            return _waited(
                lambda turn: lib.exec_stream_write(pointer, address, length, turn), timeout
            )

    def end_input(self, timeout: float | None = None) -> None:
        """Tells the command that its input ends here. StateError: as for write()."""
        with self._handle as pointer:
            _waited(lambda turn: lib.exec_stream_end_input(pointer, turn), timeout)

    def signal(self, number: int) -> None:
        """Has the server send a signal to the command's process group: SIGHUP, SIGINT,
        SIGQUIT, SIGTERM, SIGKILL, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP, SIGSTOP, SIGALRM,
        SIGPIPE or SIGWINCH.

        It is sent by the call that is at work in another thread, or by the next one,
        behind the input that was taken before. ArgumentError: no such signal.
        """
        number = unsigned(number, "a signal", 2**31 - 1)
        code = lib.exec_stream_signal(self._handle.pointer, number)
        if code < 0:  # without details: those are not for signal handlers
            raise _errors.make(code, f"not a signal that can be sent: {number}")

    def resize(self, rows: int, columns: int) -> None:
        """Changes the size of the command's terminal, if it has one. As signal()."""
        size = unsigned(rows, "rows", 65535), unsigned(columns, "columns", 65535)
        lib.exec_stream_resize(self._handle.pointer, *size)

    def copy(
        self,
        stdin: Descriptor | None = None,
        stdout: Descriptor | None = None,
        stderr: Descriptor | None = None,
        timeout: float | None = None,
    ) -> CompletedCommand:
        """Copies between descriptors and the command until it has ended, and returns its
        ``result``. Memory is constant.

        ``stdin`` is read up to its end, which ends the command's input; None: it gets no
        more. ``stdout`` and ``stderr`` are sys.stdout and sys.stderr by default, and may be
        the same. File objects are flushed beforehand.

        FrameTimeoutError: all that was read was written, call again. DisconnectedError is
        also for a pipe that nobody reads any more, SystemCallError and NoSpaceError for a
        file that cannot be written.
        """
        with contextlib.ExitStack() as files, self._handle as pointer:
            source = -1 if stdin is None else files.enter_context(in_position(stdin))
            output = files.enter_context(in_position(_or(stdout, sys.stdout)))
            errors = files.enter_context(in_position(_or(stderr, sys.stderr)))
            _waited(
                lambda turn: lib.exec_stream_copy(pointer, source, output, errors, turn),
                timeout,
            )
            return self._end(pointer)

    @property
    def result(self) -> CompletedCommand:
        """How the command ended, as run() says it, with ``stdout_total`` and
        ``stderr_total``; the output itself was read before, and ``charset`` is not known. It
        stays after close().

        StateError: it has not ended, or read() has not come to the end.
        """
        if self._result is None:
            raise StateError(ErrorCode.STATE, "the command has not ended")
        return self._result

    @property
    def events(self) -> int:
        """What to wait for with select.poll() in a loop of one's own: POLLIN, or POLLIN |
        POLLOUT while something is still to be sent. Then read() with a timeout of 0."""
        with self._handle as pointer:
            return int(lib.exec_stream_events(pointer))

    def fileno(self) -> int:
        """The connection's descriptor."""
        self._handle  # noqa: B018 - or it is closed
        return fileno(self._descriptors[0])

    def close(self) -> None:
        """Ends the use of this object; once more is nothing. The connection stays open.

        A command that still runs goes on until the connection is closed, and then is ended
        by the server, unless ``survive_close``; the connection is fit for nothing else. A
        call that is at work in another thread is not disturbed. Whatever else is called
        afterwards, but for ``result``, is a StateError.
        """
        self._open = None
        self._descriptors = (-1, None)

    @property
    def _handle(self) -> ExclusiveHandle:
        handle = self._open
        if handle is None:
            raise StateError(ErrorCode.STATE, "the command was closed here")
        return handle

    def _end(self, pointer: int) -> CompletedCommand:
        if self._result is None:
            result = _abi.ExecResult()
            _errors.check(lib.exec_stream_result(pointer, result))
            self._result = CompletedCommand(self.args, b"", b"", "", result)
        return self._result

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while (piece := self.read()) is not None:
            yield piece

    def __enter__(self) -> RemoteCommand:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<framefd.RemoteCommand {self.args!r}>"


def start(
    fd: Descriptor,
    command: Command,
    *,
    timeout: float | None = None,
    exchange_timeout: float | None = None,
    cwd: StrOrBytesPath | None = None,
    env: Mapping[str, str] | None = None,
    max_output: int | None = None,
    survive_close: bool = False,
    input: bytes | bytearray | memoryview | None = None,
    live_input: bool = True,
    merge: bool = False,
    terminal: tuple[int, int] | os.terminal_size | None = None,
    write_fd: Descriptor | None = None,
) -> RemoteCommand:
    """Has the other end of a stream run a command whose output comes as it appears.

    ``input`` is all that the command can read; None: what is written to it later, or
    nothing without ``live_input``. ``merge``: its standard error goes where its standard
    output goes. ``terminal``: it gets a terminal of so many rows and columns, or of an
    os.terminal_size, for all of its streams.

    ``exchange_timeout`` is for this call, which only sends the request. There is no limit
    to the output, unless ``max_output`` sets one: more is dropped, and ``truncated`` set.
    A command whose ``timeout`` is over is ended, and ``timed_out`` set; that and its status
    are for the caller to look at. All else is as for :func:`run`.

    FrameTimeoutError: nothing was sent. After any other error close the connection.
    """
    flags = _abi.EXEC_MERGE * merge
    if input is None and not live_input:
        input = b""
    request = {} if input is None else input_members(input)
    if request.get("input_len") == 0:
        flags |= _abi.EXEC_NO_INPUT
    if terminal is not None:
        flags |= _abi.EXEC_TTY
        rows, columns = terminal
        if isinstance(terminal, os.terminal_size):
            rows, columns = terminal.lines, terminal.columns
        request["rows"] = limit(rows, "rows", 65535)
        request["columns"] = limit(columns, "columns", 65535)
    options = ExecOptions(
        timeout=exchange_timeout,
        command_timeout=timeout,
        max_output=max_output,
        cwd=cwd,
        env=env,
        survive_close=survive_close,
        write_fd=write_fd,
    ).native(flags, **request)
    out = requested(lib.exec_start, lib.exec_start_argv, fd, command, options)
    return RemoteCommand(command, ExclusiveHandle(out, lib.exec_stream_free), fd, write_fd)


def _or(given: Descriptor | None, default: Any) -> Any:
    return default if given is None else given


def _waited(call: Callable[[int], int], timeout: float | None) -> int:
    """What a call gives that is made again while its time is not up."""
    milliseconds(timeout)  # or ValueError
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        left = max(deadline - time.monotonic(), 0)
        code = call(milliseconds(min(left, TURN)))
        if code != ErrorCode.TIMEDOUT or left <= TURN:
            return _errors.check(code)
