"""Commands: run one on the other end, or serve those of others."""

from __future__ import annotations

import codecs
import ctypes
import dataclasses
import enum
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Union

from . import _errors, _native
from ._arguments import (
    Descriptor,
    StrOrBytesPath,
    c_string,
    c_strings,
    environment,
    fileno,
    limit,
    milliseconds,
    other_fileno,
)
from ._errors import FrameError, FrameTimeoutError
from ._frames import IncomingFrame
from ._handles import memory
from ._native import lib

Command = Union[str, bytes, Sequence[StrOrBytesPath]]


class Outcome(enum.IntEnum):
    """How a command ended."""

    EXITED = 0  #: by itself
    SIGNALED = 1  #: by a signal
    TIMED_OUT = 2  #: because its time was up
    OUTPUT_LIMIT = 3  #: it wrote more than was kept
    STATUS_LOST = 4  #: the host reaped it, its exit status is not known
    SPAWN_FAILED = 5  #: not started; an error reply was sent
    REFUSED = 6  #: not run; an error reply was sent
    REPEATED = 7  #: a datagram that is known: answered from memory, or still running
    IGNORED = 8  #: a datagram that is no request of ours, or has a wrong tag


class CompletedCommand(subprocess.CompletedProcess[bytes]):
    """A command that was run, as :class:`subprocess.CompletedProcess`: ``args``,
    ``returncode`` (minus the signal that ended it), ``stdout`` and ``stderr`` in bytes.

    Besides: ``signal`` (0: none), ``timed_out``, ``truncated`` (more was written than
    kept: ``stdout_total``, ``stderr_total`` bytes), ``pipe_held`` (something that the
    command started still held its output) and ``charset`` (the server's locale encoding,
    "" if it did not say).
    """

    def __init__(
        self,
        args: Command,
        stdout: bytes,
        stderr: bytes,
        charset: str,
        result: _native.ExecResult,
    ) -> None:
        self.signal: int = result.signal
        super().__init__(args, -self.signal or result.exit_code, stdout, stderr)
        self.timed_out = bool(result.flags & _native.EXEC_FLAG_TIMED_OUT)
        self.truncated = bool(result.flags & _native.EXEC_FLAG_TRUNCATED)
        self.pipe_held = bool(result.flags & _native.EXEC_FLAG_PIPE_HELD)
        self.stdout_total: int = result.stdout_total
        self.stderr_total: int = result.stderr_total
        self.charset = charset

    @property
    def text(self) -> str:
        """``stdout`` as text; see :meth:`decode`."""
        return self.decode(self.stdout)

    @property
    def error_text(self) -> str:
        """``stderr`` as text; see :meth:`decode`."""
        return self.decode(self.stderr)

    def decode(self, output: bytes) -> str:
        r"""Output in the server's encoding; in UTF-8 where that is ASCII or not known here.
        It never fails: a byte that is no text becomes ``\xNN``."""
        try:
            encoding = codecs.lookup(self.charset).name
        except LookupError:
            encoding = "utf-8"
        return output.decode("utf-8" if encoding == "ascii" else encoding, "backslashreplace")

    def check_returncode(self) -> None:
        """Raises a :class:`CalledProcessError` where ``returncode`` is not 0."""
        if self.returncode:
            how = f"signal {self.signal}" if self.signal else f"status {self.returncode}"
            raise CalledProcessError(self, f"{self.args!r} ended with {how}")


class CommandError(FrameError):
    """A command did not end as it should, although the call went well: ``code`` is 0, the
    connection can be used on. ``result`` is the :class:`CompletedCommand`; ``cmd``,
    ``stdout`` (or ``output``) and ``stderr`` are its own."""

    def __init__(self, result: CompletedCommand, message: str) -> None:
        super().__init__(0, message)
        self.result = result
        self.cmd: Any = result.args
        self.output: Any = result.stdout
        self.stdout: Any = result.stdout
        self.stderr: Any = result.stderr

    def __reduce__(self) -> Any:
        return type(self), (self.result, self.message), self.__dict__


class CalledProcessError(CommandError, subprocess.CalledProcessError):
    """The command failed, and ``check`` was asked for. ``returncode`` is its status."""

    def __init__(self, result: CompletedCommand, message: str) -> None:
        super().__init__(result, message)
        self.returncode = result.returncode


class CommandTimeout(CommandError, FrameTimeoutError, subprocess.TimeoutExpired):
    """The command was ended because its ``timeout`` (seconds) was over."""

    def __init__(
        self, result: CompletedCommand, message: str, timeout: float | None = None
    ) -> None:
        super().__init__(result, message)
        self.timeout: Any = timeout


class OutputLimitError(CommandError):
    """The command wrote more than was kept: its output is not whole."""


class StatusLostError(CommandError):
    """The command ended, but its exit status was taken by somebody else on its host."""


def run(
    fd: Descriptor,
    command: Command,
    *,
    check: bool = False,
    timeout: float | None = None,
    exchange_timeout: float | None = None,
    cwd: StrOrBytesPath | None = None,
    env: Mapping[str, str] | None = None,
    max_output: int | None = None,
    allow_truncated: bool = False,
    survive_close: bool = False,
    write_fd: Descriptor | None = None,
) -> CompletedCommand:
    """Runs a command on the other end of a stream and returns its output.

    ``command`` is text for the server's /bin/sh or, as a list or tuple, a program and its
    arguments without a shell. It may run for ``timeout`` seconds (default: no limit) in
    ``cwd``, with ``env`` added to the server's clean environment. ``exchange_timeout`` is
    for the whole call; by default ``timeout`` and some seconds, or no limit.
    ``max_output`` bytes are kept of each stream (default 16 MiB, or less if the server
    says so). With ``survive_close`` the command goes on when this connection is gone.
    ``write_fd`` is written to where that is not ``fd``.

    CommandTimeout: ``timeout`` was over. OutputLimitError: the output is not whole, unless
    ``allow_truncated``. StatusLostError. CalledProcessError: the command failed, and
    ``check``. They have the output there is. SpawnError, MalformedError, DeniedError and
    the like where ``remote`` is set: the server did not run it. After all of these the
    connection can be used on; after any other error close it.
    """
    options = ExecOptions(
        timeout=exchange_timeout,
        command_timeout=timeout,
        max_output=max_output,
        cwd=cwd,
        env=env,
        survive_close=survive_close,
        write_fd=write_fd,
    ).native()
    out = ctypes.c_void_p()
    if isinstance(command, (str, bytes)):
        text = os.fsencode(command)
        code = lib.exec_request(fileno(fd), text, len(text), out, options)
    else:
        argv = c_strings(command, "command")
        code = lib.exec_request_argv(fileno(fd), argv, out, options)
    _errors.check(code)
    return completed(
        command, out, check=check, timeout=timeout, allow_truncated=allow_truncated
    )


@dataclasses.dataclass(frozen=True)
class ExecOptions:
    """How a server runs commands. Times are in seconds; None is the default, math.inf no
    limit. What a request asks for counts where it is less.

    ``timeout``: to send the reply, 30 s. ``command_timeout``: how long a command may run,
    no limit. ``grace``: from SIGTERM to SIGKILL, 2 s. ``drain``: to wait for output that
    something the command started still holds, 0.5 s. ``close_grace``: from the client's
    end of stream to the end of its command, 2 s; ``survive_close``: never, if it only
    closed. ``max_output``: bytes kept of each stream, 16 MiB; ``end_at_limit`` ends a
    command that writes more, else it is drained. ``max_command``: bytes of command text,
    64 KiB. ``cwd``: the server's own. ``env``: added to a clean environment, or with
    ``host_environment`` to the server's own. ``write_fd``: where the reply goes, if it is
    not the descriptor that is read from.
    """

    timeout: float | None = None
    command_timeout: float | None = None
    grace: float | None = None
    drain: float | None = None
    close_grace: float | None = None
    max_output: int | None = None
    max_command: int | None = None
    cwd: StrOrBytesPath | None = None
    env: Mapping[str, str] | None = None
    survive_close: bool = False
    host_environment: bool = False
    end_at_limit: bool = False
    write_fd: Descriptor | None = None

    def __post_init__(self) -> None:
        self.native()  # a wrong value is told now, not when a client waits

    def native(self) -> _native.ExecOptions:
        """The same for the library: a struct that keeps alive what it points to."""
        return _native.ExecOptions(
            timeout_ms=milliseconds(self.timeout),
            write_fd=other_fileno(self.write_fd),
            flags=_native.EXEC_ON_CLOSE_RUN * self.survive_close
            | _native.EXEC_HOST_ENVIRONMENT * self.host_environment
            | _native.EXEC_END_AT_LIMIT * self.end_at_limit,
            command_timeout_ms=milliseconds(self.command_timeout),
            grace_ms=milliseconds(self.grace),
            drain_ms=milliseconds(self.drain),
            close_grace_ms=milliseconds(self.close_grace),
            max_output=limit(self.max_output, "max_output"),
            max_command=limit(self.max_command, "max_command"),
            cwd=None if self.cwd is None else c_string(self.cwd, "cwd"),
            env=None if self.env is None else environment(self.env),
        )


@dataclasses.dataclass(frozen=True)
class ExecResult:
    """What became of a request, for a server's log.

    ``exit_code`` is 128 + ``signal`` after a signal, -1 if it is not known. ``error`` is
    the ErrorCode that was reported to the client after SPAWN_FAILED and REFUSED, for
    datagrams also why one was IGNORED or a reply could not be sent; else 0.
    """

    outcome: Outcome
    exit_code: int
    signal: int
    timed_out: bool
    truncated: bool
    pipe_held: bool
    client_gone: bool
    error: int
    stdout_total: int
    stderr_total: int


def exec_and_reply(
    fd: Descriptor, command: str | bytes, options: ExecOptions = ExecOptions()
) -> ExecResult:
    """Runs command text that a client sent, however it came, and sends one reply frame.

    Returns when the reply is sent, also an error reply. Any exception: no reply could be
    sent, close the connection.
    """
    text = os.fsencode(command)
    result = _native.ExecResult()
    native = options.native()
    _errors.check(lib.exec_and_reply(fileno(fd), text, len(text), native, result))
    return exec_result(result)


def exec_serve(
    fd: Descriptor, request: IncomingFrame, options: ExecOptions = ExecOptions()
) -> ExecResult:
    """The same for a request frame ``{"cmd":"exec"}`` that recv_header() returned; its body
    is read here. What its header asks for is capped by ``options``."""
    result = _native.ExecResult()
    native = options.native()
    with request.handle as pointer:
        _errors.check(lib.exec_serve(fileno(fd), pointer, native, result))
    return exec_result(result)


def exec_run(
    command: str | bytes,
    options: ExecOptions = ExecOptions(),
    *,
    check: bool = False,
    allow_truncated: bool = False,
) -> CompletedCommand:
    """Runs command text here as exec_and_reply() does, for its output alone: nothing is
    sent. For servers of older wires; ``timeout`` and ``write_fd`` mean nothing here.

    SpawnError: it could not be started. ArgumentError: it is empty or has a NUL in it.
    TooBigError. What is raised for the command's end is as for run().
    """
    text = os.fsencode(command)
    out = ctypes.c_void_p()
    _errors.check(lib.exec_run(text, len(text), out, options.native()))
    timeout = options.command_timeout
    return completed(
        command, out, check=check, timeout=timeout, allow_truncated=allow_truncated
    )


def exec_result(result: _native.ExecResult) -> ExecResult:
    """A server's result from the library's."""
    return ExecResult(
        outcome=Outcome(result.outcome),
        exit_code=result.exit_code,
        signal=result.signal,
        timed_out=bool(result.flags & _native.EXEC_FLAG_TIMED_OUT),
        truncated=bool(result.flags & _native.EXEC_FLAG_TRUNCATED),
        pipe_held=bool(result.flags & _native.EXEC_FLAG_PIPE_HELD),
        client_gone=bool(result.flags & _native.EXEC_FLAG_CLIENT_GONE),
        error=_errors.code_of(result.error) if result.error else 0,
        stdout_total=result.stdout_total,
        stderr_total=result.stderr_total,
    )


def completed(
    command: Command,
    out: ctypes.c_void_p,
    *,
    check: bool,
    timeout: float | None,
    allow_truncated: bool,
) -> CompletedCommand:
    """The client's result, or the exception that it stands for; frees the output."""
    result = _native.ExecResult()
    try:
        _errors.check(lib.exec_output_result(out, result))
        done = CompletedCommand(
            command,
            memory(lib.exec_output_stdout, out),
            memory(lib.exec_output_stderr, out),
            lib.exec_output_charset(out).decode("ascii", "replace"),
            result,
        )
    finally:
        lib.exec_output_free(out)
    if done.timed_out:
        raise CommandTimeout(done, f"{command!r} was ended after {timeout} seconds", timeout)
    if result.outcome == Outcome.STATUS_LOST:
        raise StatusLostError(done, f"the exit status of {command!r} was lost")
    if done.truncated and not allow_truncated:
        raise OutputLimitError(
            done, f"{command!r} wrote {done.stdout_total + done.stderr_total} bytes, too many"
        )
    if check:
        done.check_returncode()
    return done
