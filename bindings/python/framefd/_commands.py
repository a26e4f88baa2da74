"""Commands on a connection: at once, streamed, and served."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Any

from . import _abi, _errors
from ._abi import ErrorCode
from ._arguments import (
    Buffer,
    Descriptor,
    Environment,
    StrOrBytesPath,
    in_position,
    limit,
    poll_time,
    unsigned,
)
from ._core import Core
from ._errors import FrameError, StateError
from ._exec import (
    Command,
    CompletedCommand,
    ExecOptions,
    ExecRequest,
    ExecResult,
    completed,
    exec_result,
    size_of,
)
from ._messages import LARGEST_READ, Request, text_of
from ._native import lib

STDOUT: int = _abi.EXEC_STDOUT  #: what read() gives is standard output
STDERR: int = _abi.EXEC_STDERR  #: what read() gives is standard error


class Commands(Core):
    """Commands of a connection, run by the peer or for it."""

    def run(
        self,
        command: Command,
        *,
        check: bool = False,
        timeout: float | None = None,
        exchange_timeout: float | None = None,
        cwd: StrOrBytesPath | None = None,
        env: Environment | None = None,
        max_output: int | None = None,
        allow_truncated: bool = False,
        detached: bool = False,
        input: bytes | bytearray | memoryview | None = None,
        merge: bool = False,
    ) -> CompletedCommand:
        """Has the peer run a command, and returns its output. For output as it appears there
        is :meth:`start`.

        ``command`` is text for the server's /bin/sh or, as a list or tuple, a program and
        its arguments without a shell. It may run for ``timeout`` seconds (default: no limit)
        in ``cwd``, with ``env`` added to the server's clean environment.
        ``exchange_timeout`` is for the whole call, by default the connection's ``timeout``.
        ``max_output`` bytes are kept of each stream (default 16 MiB, or less if the server
        says so). ``detached``: the command goes on when this connection is gone. ``input`` is
        what it can read; what it does not read is dropped. ``merge``: its standard error is
        in ``stdout``, in order.

        CommandTimeout: ``timeout`` was over. OutputLimitError: the output is not whole,
        unless ``allow_truncated``. StatusLostError. CalledProcessError: the command failed,
        and ``check``. They have the output there is. SpawnError, MalformedError, DeniedError
        and the like if ``remote`` is set: the server did not run it. After all of these the
        connection can be used on. Any other error after the request has begun to go out
        breaks it, an exception of a signal's handler too.
        """
        request = ExecRequest(
            command, timeout, cwd, env, max_output, detached, input, merge
        ).native()
        out, result = ctypes.c_void_p(), _abi.ExecResult()
        time = poll_time(exchange_timeout)
        self._done(lib.exec_call(self._pointer, request, time, result, out))
        done = completed(command, result, out)
        done.judge(timeout, check=check, allow_truncated=allow_truncated)
        return done

    def start(
        self,
        command: Command,
        *,
        timeout: float | None = None,
        exchange_timeout: float | None = None,
        cwd: StrOrBytesPath | None = None,
        env: Environment | None = None,
        max_output: int | None = None,
        detached: bool = False,
        input: bytes | bytearray | memoryview | None = None,
        live_input: bool = True,
        merge: bool = False,
        terminal: tuple[int, int] | os.terminal_size | None = None,
    ) -> RemoteCommand:
        """Has the peer run a command whose output comes as it appears.

        ``input`` is all that the command can read; None: what is written to it later, or
        nothing without ``live_input``. ``terminal``: it gets a terminal of so many rows and
        columns, or of an os.terminal_size, for all of its streams.

        ``exchange_timeout`` is for this call, which only sends the request. There is no limit
        to the output, unless ``max_output`` sets one: more is dropped, and ``truncated`` set.
        A command whose ``timeout`` is over is ended, and ``timed_out`` set; that and its
        status are for the caller to look at. All else is as for :meth:`run`.

        FrameTimeoutError: nothing was sent. Until the command has ended everything else on
        the connection is a StateError.
        """
        if input is None and not live_input:
            input = b""
        flags = _abi.EXEC_NO_INPUT if input is not None and not len(input) else 0
        request = ExecRequest(
            command, timeout, cwd, env, max_output, detached, input, merge, flags, terminal
        ).native()
        self._done(lib.exec_start(self._pointer, request, poll_time(exchange_timeout)))
        return RemoteCommand(self, command)

    def serve_exec(self, request: Request, options: ExecOptions = ExecOptions()) -> ExecResult:
        """Runs what a request ``{"cmd":"exec"}`` asks for that recv_header() returned, and
        sends the reply; its body is read here. What its header asks for is capped by
        ``options``.

        If the client asked for a stream, as start() does, its command's output is sent as it
        appears, and input, signals and terminal sizes are received meanwhile. Returns when
        the reply is sent, also an error reply. Any exception breaks the connection, except
        for what ``options.policy`` raised.
        """
        text = text_of(request)
        result = _abi.ExecResult()
        with options.serving() as native:
            code = lib.exec_serve(self._pointer, text, native, result)
        self._done(code)
        return exec_result(result)


class RemoteCommand:
    """A command that the peer runs: what start() returns.

    It is iterated for its output, ``(STDOUT or STDERR, bytes)`` as it comes, up to its end.
    After that ``result`` is there, and the connection is free for the next request. ``args``
    is the command.

    >>> with connection.start("make -k") as command:
    ...     for stream, data in command:
    ...         os.write(stream, data)
    >>> command.result.check_returncode()

    At the end of the `with` block the rest of the output is dropped, and the end of the
    command waited for. If an exception ends the block, the connection is closed, by which the
    server ends the command, unless it is ``detached``.

    ``timeout`` is in seconds for each call: None is the connection's, math.inf is for ever,
    0 is not to wait. FrameTimeoutError, or an exception of a signal's handler: call again.
    One thread at a time may use it; signal() and resize() are for any thread and any signal
    handler. Since this end has to read for the other one to go on, a thread that has much
    input to write takes copy(), or writes and reads in turn.

    Where ``remote`` is set (SpawnError, MalformedError, DeniedError and the like, from the
    first call that waits) the server did not run it, and the connection can be used on. Any
    other error breaks it.
    """

    def __init__(self, connection: Core, args: Command) -> None:
        self.args = args
        self.connection = connection
        self._result: CompletedCommand | None = None
        # It was refused, or its connection is broken: it will not end.
        self._is_lost = False

    def read(
        self, size: int = 65536, *, timeout: float | None = None
    ) -> tuple[int, bytes] | None:
        """What the command has written, as it comes: STDOUT or STDERR, and 1 to ``size``
        bytes (1 MiB at most). None: it has ended, and all was read.

        The order of what went to different streams is not kept, unless ``merge`` or a
        ``terminal`` makes them one.
        """
        if self._result is not None:
            return None
        which = ctypes.c_int()
        room = ctypes.create_string_buffer(min(limit(size, "size"), LARGEST_READ))
        pointer, time = self.connection._pointer, poll_time(timeout)
        count = lib.exec_read(pointer, room, len(room), time, which)
        if self._went(count) == 0:
            self.finish()
            return None
        return which.value, ctypes.string_at(room, count)

    def write(self, data: Any, *, timeout: float | None = None) -> int:
        """Gives the command input, of any bytes-like type; returns how many bytes of it
        were taken, as there is room for on the way. What the command does not read is
        dropped, and no error.

        0: read first, output waits; or the command has ended. StateError: it takes no
        input, or end_input() was called.
        """
        pointer, time = self.connection._pointer, poll_time(timeout)
        with Buffer(data) as (address, length):
            return self._went(lib.exec_write(pointer, address, length, time))

    def end_input(self, *, timeout: float | None = None) -> None:
        """Tells the command that its input ends here. FrameTimeoutError: not all of it was
        written; the calls that follow do that."""
        time = poll_time(timeout)
        self._went(lib.exec_end_input(self.connection._pointer, time))

    def signal(self, number: int) -> None:
        """Has the server send a signal to the command's process group: SIGHUP, SIGINT,
        SIGQUIT, SIGTERM, SIGKILL, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP, SIGSTOP, SIGALRM,
        SIGPIPE or SIGWINCH.

        It is sent by the call that is at work in another thread, or by the next one, behind
        the input that was taken before. ArgumentError: no such signal.
        """
        number = unsigned(number, "a signal", 2**31 - 1)
        code = lib.exec_signal(self.connection._pointer, number)
        if code < 0:  # without details: those are not for signal handlers
            raise _errors.make(code, f"not a signal that can be sent: {number}")

    def resize(self, rows: int | os.terminal_size, columns: int | None = None) -> None:
        """Changes the size of the command's terminal, if it has one and still runs. As
        signal()."""
        if isinstance(rows, os.terminal_size):
            size = size_of(rows)
        else:
            size = unsigned(rows, "rows", 65535), unsigned(columns or 0, "columns", 65535)
        lib.exec_resize(self.connection._pointer, *size)

    def copy(
        self,
        stdin: Descriptor | None = None,
        stdout: Descriptor | None = None,
        stderr: Descriptor | None = None,
        *,
        timeout: float | None = None,
    ) -> CompletedCommand:
        """Copies between descriptors and the command until it has ended, and returns its
        ``result``. Memory is constant.

        ``stdin`` is read up to its end, which ends the command's input; None: it gets no
        more. ``stdout`` and ``stderr`` are sys.stdout and sys.stderr by default, and may be
        the same. File objects are flushed beforehand.

        FrameTimeoutError: all that was read was written, call again. DisconnectedError is
        also for a pipe that nobody reads any more, SystemCallError and NoSpaceError for a
        file that cannot be written: the command runs on.
        """
        if self._result is not None:
            return self._result
        with contextlib.ExitStack() as files:
            source = -1
            if stdin is not None:
                source = files.enter_context(in_position(stdin, to_read=True))
            output, errors = (
                files.enter_context(
                    in_position(default if file is None else file, to_read=False)
                )
                for file, default in ((stdout, sys.stdout), (stderr, sys.stderr))
            )
            result = _abi.ExecResult()
            pointer, time = self.connection._pointer, poll_time(timeout)
            self._went(lib.exec_copy(pointer, source, output, errors, time, result))
        return self._ended(result)

    def finish(self, *, timeout: float | None = None) -> CompletedCommand:
        """Drops the output that is left, ends the input, waits for the end of the command
        and returns its ``result``."""
        if self._result is None:
            result = _abi.ExecResult()
            time = poll_time(timeout)
            self._went(lib.exec_finish(self.connection._pointer, time, result))
            self._ended(result)
        return self.result

    @property
    def result(self) -> CompletedCommand:
        """How the command ended, as run() says it. The output was read before, so ``stdout``
        and ``stderr`` are None. StateError: it has not ended, or read() has not come to the
        end."""
        if self._result is None:
            raise StateError(ErrorCode.STATE, "the command has not ended")
        return self._result

    def fileno(self) -> int:
        """The connection's descriptor; see :meth:`Connection.inspect` for what to wait."""
        return self.connection.fileno()

    def _went(self, code: int) -> int:
        """The count that a call returned; raises if it is the code of a failure."""
        try:
            return self.connection._done(code)
        except FrameError as error:
            self._is_lost = error.remote or bool(self.connection.inspect().broken)
            raise

    def _ended(self, result: _abi.ExecResult) -> CompletedCommand:
        self._result = CompletedCommand(self.args, None, None, result)
        return self._result

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while (piece := self.read()) is not None:
            yield piece

    def __enter__(self) -> RemoteCommand:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_lost or self._result is not None:
            return
        if kind is None:
            self.finish()
        else:
            self.connection.close()

    def __repr__(self) -> str:
        return f"<framefd.RemoteCommand {self.args!r}>"
