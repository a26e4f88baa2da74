"""Commands: run one on the other end, or serve those of others."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import dataclasses
import enum
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Union

from . import _abi, _errors, _policies
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
    unsigned,
)
from ._callbacks import Callbacks
from ._errors import FrameError, FrameTimeoutError
from ._frames import IncomingFrame
from ._handles import memory
from ._native import lib
from ._policies import ExecPolicy

Command = Union[str, bytes, Sequence[StrOrBytesPath]]


class Outcome(enum.IntEnum):
    """How a command ended."""

    EXITED = _abi.EXEC_EXITED  #: by itself
    SIGNALED = _abi.EXEC_SIGNALED  #: by a signal
    TIMED_OUT = _abi.EXEC_TIMED_OUT  #: because its time was up
    OUTPUT_LIMIT = _abi.EXEC_OUTPUT_LIMIT  #: it wrote more than was kept
    STATUS_LOST = _abi.EXEC_STATUS_LOST  #: the host reaped it, its exit status is not known
    SPAWN_FAILED = _abi.EXEC_SPAWN_FAILED  #: not started; an error reply was sent
    REFUSED = _abi.EXEC_REFUSED  #: not run; an error reply was sent
    REPEATED = _abi.EXEC_REPEATED  #: a datagram that came before: answered again, or still runs
    IGNORED = _abi.EXEC_IGNORED  #: a datagram that is no request of ours, or has a wrong tag


class CompletedCommand(subprocess.CompletedProcess[bytes]):
    """A command that was run, as :class:`subprocess.CompletedProcess`: ``args``,
    ``returncode`` (minus the signal that ended it), ``stdout`` and ``stderr`` in bytes.

    Besides: ``outcome``, ``signal`` (0: none), ``timed_out``, ``truncated`` (more was
    written than kept: ``stdout_total``, ``stderr_total`` bytes), ``pipe_held`` (something
    that the command started still held its output) and ``charset`` (the server's locale
    encoding, "" if it did not say).
    """

    def __init__(
        self,
        args: Command,
        stdout: bytes,
        stderr: bytes,
        charset: str,
        result: _abi.ExecResult,
    ) -> None:
        self.outcome = Outcome(result.outcome)
        self.signal: int = result.signal
        super().__init__(args, -self.signal or result.exit_code, stdout, stderr)
        self.timed_out = bool(result.flags & _abi.EXEC_RESULT_TIMED_OUT)
        self.truncated = bool(result.flags & _abi.EXEC_RESULT_TRUNCATED)
        self.pipe_held = bool(result.flags & _abi.EXEC_RESULT_PIPE_HELD)
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
    input: bytes | bytearray | memoryview = b"",
    merge: bool = False,
    write_fd: Descriptor | None = None,
) -> CompletedCommand:
    """Runs a command on the other end of a stream and returns its output. For output as it
    appears there is :func:`start`.

    ``command`` is text for the server's /bin/sh or, as a list or tuple, a program and its
    arguments without a shell. It may run for ``timeout`` seconds (default: no limit) in
    ``cwd``, with ``env`` added to the server's clean environment. ``exchange_timeout`` is
    for the whole call; by default ``timeout`` and some seconds, or no limit. ``max_output``
    bytes are kept of each stream (default 16 MiB, or less if the server says so). With
    ``survive_close`` the command goes on when this connection is gone. ``input`` is what it
    can read; what it does not read is dropped. With ``merge`` its standard error is in
    ``stdout``, in order. ``write_fd`` is written to where that is not ``fd``.

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
    ).native(flags=_abi.EXEC_MERGE * merge, **input_members(input))
    out = requested(lib.exec_request, lib.exec_request_argv, fd, command, options)
    return completed(
        command, out, check=check, timeout=timeout, allow_truncated=allow_truncated
    )


def requested(
    shell: Callable[..., int],
    program: Callable[..., int],
    fd: Descriptor,
    command: Command,
    options: _abi.ExecOptions,
) -> ctypes.c_void_p:
    """What a request gives: by ``shell`` for text, else by ``program``."""
    out = ctypes.c_void_p()
    if isinstance(command, (str, bytes)):
        text = os.fsencode(command)
        _errors.check(shell(fileno(fd), text, len(text), out, options))
    else:
        argv = c_strings(command, "command")
        _errors.check(program(fileno(fd), argv, out, options))
    return out


def input_members(data: Any) -> dict[str, Any]:
    """The members of a request's options for its input, of any bytes-like type."""
    if not isinstance(data, bytes):
        data = memoryview(data).tobytes()
    return {"input": data, "input_len": len(data)}


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

    What a command may do: ``umask``; for each of its processes ``cpu_seconds``, ``memory``
    (bytes of address space) and ``file_size`` (bytes of a file that it writes), as
    setrlimit(2) has them; ``processes`` of its user at once, in all. ``user``: the user and
    group id that it gets, with no other groups, on a server that runs as root. The default
    of all of these is what the server itself has.

    ``policy`` is called with an :class:`ExecInquiry` in the thread of the call, before
    anything is run. It returns None to allow the request. To refuse it, it raises an
    OSError, such as PermissionError("not at night"), or a FrameError: the client gets the
    fitting code and the text. Any other exception, and any other result, refuses the
    request as denied and comes out of the call, once the client has its reply.
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
    umask: int | None = None
    cpu_seconds: int | None = None
    memory: int | None = None
    processes: int | None = None
    file_size: int | None = None
    user: tuple[int, int] | None = None
    policy: ExecPolicy | None = None

    def __post_init__(self) -> None:
        self.native()  # a wrong value is told now, not when a client waits

    def native(self, flags: int = 0, **request: Any) -> _abi.ExecOptions:
        """The same for the library, with what else a request has: a struct that keeps alive
        what it points to. It has no policy."""
        uid, gid = (None, 0) if self.user is None else self.user
        return _abi.ExecOptions(
            timeout_ms=milliseconds(self.timeout),
            write_fd=other_fileno(self.write_fd),
            flags=flags
            | _abi.EXEC_ON_CLOSE_RUN * self.survive_close
            | _abi.EXEC_HOST_ENVIRONMENT * self.host_environment
            | _abi.EXEC_END_AT_LIMIT * self.end_at_limit
            | _abi.EXEC_UMASK * (self.umask is not None),
            command_timeout_ms=milliseconds(self.command_timeout),
            grace_ms=milliseconds(self.grace),
            drain_ms=milliseconds(self.drain),
            close_grace_ms=milliseconds(self.close_grace),
            max_output=limit(self.max_output, "max_output"),
            max_command=limit(self.max_command, "max_command"),
            cwd=None if self.cwd is None else c_string(self.cwd, "cwd"),
            env=None if self.env is None else environment(self.env),
            umask=unsigned(self.umask or 0, "umask", 0o777),
            cpu_seconds=limit(self.cpu_seconds, "cpu_seconds"),
            memory=limit(self.memory, "memory"),
            processes=limit(self.processes, "processes"),
            file_size=limit(self.file_size, "file_size"),
            uid=limit(uid, "a user id", ID_MAX),
            gid=unsigned(gid, "a group id", ID_MAX),
            **request,
        )

    @contextlib.contextmanager
    def serving(self) -> Iterator[_abi.ExecOptions]:
        """The same with the policy, for the call in the `with` block."""
        native = self.native()
        with Callbacks() as callbacks:
            if self.policy is not None:
                native.policy = _policies.exec_callback(self.policy, callbacks)
            yield native


ID_MAX = 2**32 - 2  # -1 is none


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
    sent, close the connection; except for what ``options.policy`` raised.
    """
    text = os.fsencode(command)
    result = _abi.ExecResult()
    with options.serving() as native:
        code = lib.exec_and_reply(fileno(fd), text, len(text), native, result)
    return exec_result(code, result)


def exec_serve(
    fd: Descriptor, request: IncomingFrame, options: ExecOptions = ExecOptions()
) -> ExecResult:
    """The same for a request frame ``{"cmd":"exec"}`` that recv_header() returned; its body
    is read here. What its header asks for is capped by ``options``.

    Where the client asked for a stream, as start() does, its command's output is sent as it
    appears, and input, signals and terminal sizes are received from ``fd`` meanwhile; what
    comes of these after the reply, :func:`is_late_input` tells from requests.
    """
    result = _abi.ExecResult()
    with options.serving() as native, request.handle as pointer:
        code = lib.exec_serve(fileno(fd), pointer, native, result)
    return exec_result(code, result)


def is_late_input(request: IncomingFrame) -> bool:
    """Whether a frame that recv_header() returned is a client's input, signal or terminal
    size for a command that had ended by then. Such a frame is dropped, with its body, and
    nobody waits for a reply."""
    with request.handle as pointer:
        return bool(lib.exec_is_late_input(pointer))


def exec_run(
    command: str | bytes,
    options: ExecOptions = ExecOptions(),
    *,
    check: bool = False,
    allow_truncated: bool = False,
) -> CompletedCommand:
    """Runs command text here as exec_and_reply() does, for its output alone: nothing is
    sent. For servers of older wires; ``timeout``, ``write_fd`` and ``policy`` mean nothing
    here.

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


def exec_result(code: int, result: _abi.ExecResult) -> ExecResult:
    """A server's result from the library's, or the exception for its code."""
    _errors.check(code)
    return ExecResult(
        outcome=Outcome(result.outcome),
        exit_code=result.exit_code,
        signal=result.signal,
        timed_out=bool(result.flags & _abi.EXEC_RESULT_TIMED_OUT),
        truncated=bool(result.flags & _abi.EXEC_RESULT_TRUNCATED),
        pipe_held=bool(result.flags & _abi.EXEC_RESULT_PIPE_HELD),
        client_gone=bool(result.flags & _abi.EXEC_RESULT_CLIENT_GONE),
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
    result = _abi.ExecResult()
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
