"""Commands on a connection: at once, streamed, and served."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

from . import _abi, _errors
from ._abi import ErrorCode
from ._arguments import (
    Buffer,
    BytesLike,
    Environment,
    StrOrBytesPath,
    at_least_1,
    flag,
    poll_time,
    unsigned,
)
from ._core import Core
from ._descriptors import Descriptor, in_position
from ._errors import FrameError, StateError
from ._exec import (
    Command,
    CompletedCommand,
    ExecOptions,
    ExecRequest,
    ExecResult,
    as_bytes,
    completed,
    exec_result,
    serving,
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
        input: BytesLike | None = None,
        merge: bool = False,
    ) -> CompletedCommand:
        """Runs a command at the peer, and returns its output. Use :meth:`start` to receive
        output while the command runs.

        ``command`` is text for the server's /bin/sh or, as a list or tuple, a program and its
        arguments without a shell. It may run for ``timeout`` seconds (default: no limit) in
        ``cwd``, with ``env`` added to the server's clean environment. ``exchange_timeout`` is
        for the whole call, by default the connection's ``timeout``. ``max_output`` bytes are
        kept of each stream (default 16 MiB, or the server's limit). ``detached``: the command
        runs on if this connection is closed. ``input`` is its standard input; bytes that it
        does not read are dropped. ``merge``: its standard error is in ``stdout``, in order.

        CommandTimeout: the command exceeded ``timeout``. OutputLimitError: the output is not
        complete, unless ``allow_truncated``. StatusLostError. CalledProcessError: the command
        failed, and ``check`` is set. These have the output so far. SpawnError,
        MalformedError, DeniedError and so on with ``remote`` set: the server did not run it.
        After all of these the connection is still usable. Any other error after a part of the
        request was sent breaks it, also an exception of a signal handler.
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
        input: BytesLike | None = None,
        live_input: bool = True,
        merge: bool = False,
        terminal: tuple[int, int] | os.terminal_size | None = None,
    ) -> RemoteCommand:
        """Starts a command at the peer whose output is received while it runs.

        ``input`` is the command's whole standard input; None: it is written later, or empty
        without ``live_input``. ``terminal``: the command gets a terminal of this many rows
        and columns, or of an os.terminal_size, for all of its streams.

        ``exchange_timeout`` is for this call, which only sends the request. The output has no
        limit, unless ``max_output`` sets one: the rest is dropped, and ``truncated`` is set.
        A command that exceeds ``timeout`` is ended, and ``timed_out`` is set. The caller
        checks that and the status. Otherwise as :meth:`run`.

        FrameTimeoutError: nothing was sent. Until the command has ended all other calls on
        the connection raise a StateError.
        """
        if input is not None:
            input = as_bytes(input)
        elif not live_input:
            input = b""
        flags = flag(_abi.EXEC_NO_INPUT, input == b"")
        request = ExecRequest(
            command, timeout, cwd, env, max_output, detached, input, merge, flags, terminal
        ).native()
        self._done(lib.exec_start(self._pointer, request, poll_time(exchange_timeout)))
        return RemoteCommand(self, command)

    def serve_exec(self, request: Request, options: ExecOptions = ExecOptions()) -> ExecResult:
        """Serves a request ``{"cmd":"exec"}`` that recv_header() returned: reads its body,
        runs the command and sends the reply. ``options`` limit the request.

        If the client asked for a stream, as start() does, output is sent while the command
        runs, and input, signals and terminal sizes are received meanwhile. Returns when the
        reply was sent, also an error reply. Any exception breaks the connection, except one
        of ``options.policy``.
        """
        text = text_of(request)
        result = _abi.ExecResult()
        with serving(options) as native:
            code = lib.exec_serve(self._pointer, text, native, result)
        self._done(code)
        return exec_result(result)


class RemoteCommand:
    """A command that the peer runs, as start() returns it.

    Iterate it for its output, ``(STDOUT or STDERR, bytes)`` as it is received, up to its end.
    Then ``result`` is set, and the connection is free for the next request. ``args`` is the
    command.

    >>> with connection.start("make -k") as command:
    ...     for stream, data in command:
    ...         os.write(stream, data)
    >>> command.result.check_returncode()

    The end of the `with` block drops the rest of the output, and waits for the end of the
    command. If an exception ends the block, the connection is closed; then the server ends
    the command, unless it is ``detached``.

    ``timeout`` is in seconds for each call: None is the connection's, math.inf waits forever,
    0 does not wait. After a FrameTimeoutError or an exception of a signal handler call again.
    One thread at a time may use it; signal() and resize() are for any thread and any signal
    handler. The peer stops reading input while output is not read: with much input use
    copy(), or write and read in turn.

    If ``remote`` is set (SpawnError, MalformedError, DeniedError and so on, from the first
    call that waits), the server did not run the command, and the connection is still usable.
    Any other error breaks it.
    """

    def __init__(self, connection: Core, args: Command) -> None:
        self.args = args
        self.connection = connection
        self._result: CompletedCommand | None = None
        # It was refused, or its connection is broken: it has no result.
        self._is_lost = False

    def read(
        self, size: int = 65536, *, timeout: float | None = None
    ) -> tuple[int, bytes] | None:
        """Returns output as it is received: STDOUT or STDERR, and 1 to ``size`` bytes (at
        most 1 MiB). None: the command has ended, and all output was read.

        The order between the two streams is not kept, unless ``merge`` or a ``terminal``
        makes them one.
        """
        if self._result is not None:
            return None
        which = ctypes.c_int()
        room = ctypes.create_string_buffer(min(at_least_1(size, "size"), LARGEST_READ))
        pointer, time = self.connection._pointer, poll_time(timeout)
        count = lib.exec_read(pointer, room, len(room), time, which)
        if self._went(count) == 0:
            self.finish()
            return None
        return which.value, ctypes.string_at(room, count)

    def write(self, data: BytesLike, *, timeout: float | None = None) -> int:
        """Sends input to the command, of any bytes-like type; returns the number of accepted
        bytes. Input that the command does not read is dropped without an error.

        0: output must be read first, or the command has ended. StateError: it has no input,
        or end_input() was called.
        """
        pointer, time = self.connection._pointer, poll_time(timeout)
        with Buffer(data) as (address, length):
            return self._went(lib.exec_write(pointer, address, length, time))

    def end_input(self, *, timeout: float | None = None) -> None:
        """Ends the command's input. FrameTimeoutError: a part is not written yet; the calls
        that follow write it."""
        time = poll_time(timeout)
        self._went(lib.exec_end_input(self.connection._pointer, time))

    def signal(self, number: int) -> None:
        """Sends a signal to the command's process group: SIGHUP, SIGINT, SIGQUIT, SIGTERM,
        SIGKILL, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP, SIGSTOP, SIGALRM, SIGPIPE or SIGWINCH.

        The running call of another thread sends it, or the next call does, after the input
        that was accepted before. It has no effect once the command has ended. ArgumentError: no
        such signal.
        """
        number = unsigned(number, "a signal", 2**31 - 1)
        if self._is_over():
            return
        code = lib.exec_signal(self.connection._pointer, number)
        if code < 0:  # without details: those are not for signal handlers
            raise _errors.make(code, f"not a signal that can be sent: {number}")

    def resize(self, rows: int | os.terminal_size, columns: int | None = None) -> None:
        """Changes the size of the command's terminal, if it has one and still runs. Otherwise
        as signal()."""
        if isinstance(rows, os.terminal_size):
            size = size_of(rows)
        else:
            size = unsigned(rows, "rows", 65535), unsigned(columns or 0, "columns", 65535)
        if not self._is_over():
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

        ``stdin`` is read up to its end, which ends the command's input; None: the input ends
        at once. ``stdout`` and ``stderr`` are sys.stdout and sys.stderr by default, and may
        be the same. File objects are flushed beforehand.

        FrameTimeoutError: all bytes that were read were written, call again.
        DisconnectedError is also for a pipe that nobody reads any more, SystemCallError and
        NoSpaceError for a file that cannot be written: the command runs on.
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
        """Drops the unread output, ends the input, waits for the end of the command and
        returns its ``result``."""
        if self._result is None:
            result = _abi.ExecResult()
            time = poll_time(timeout)
            self._went(lib.exec_finish(self.connection._pointer, time, result))
            self._ended(result)
        return self.result

    @property
    def result(self) -> CompletedCommand:
        """The command's result, as from run(), but ``stdout`` and ``stderr`` are None, since
        the output was read before. StateError: it has not ended, or not all output was read."""
        if self._result is None:
            raise StateError(ErrorCode.STATE, "the command has not ended")
        return self._result

    def fileno(self) -> int:
        """The connection's descriptor; :meth:`Connection.inspect` has the events."""
        return self.connection.fileno()

    def _is_over(self) -> bool:
        """Whether a signal would be for nobody, or for a later command."""
        return self._result is not None or self._is_lost or self.connection.closed

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
