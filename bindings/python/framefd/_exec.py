"""Commands: requests, results and server options."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import dataclasses
import enum
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, Union

from . import _abi, _errors, _interrupts, _policies
from ._arguments import (
    BytesLike,
    Environment,
    StrOrBytesPath,
    c_string,
    c_strings,
    check_callable,
    checked,
    environment,
    flag,
    limit,
    milliseconds,
    optional,
    unsigned,
)
from ._callbacks import Callbacks
from ._choices import ID_MAX
from ._descriptors import Descriptor, fileno, other_fileno, own_timeout
from ._errors import FrameError, FrameTimeoutError
from ._native import lib
from ._policies import ExecPolicy

Command = Union[str, bytes, Sequence[StrOrBytesPath]]
COMMAND = "a command is a text, or a list of a program and its arguments"


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
    ``returncode`` (minus the signal that ended it), ``stdout`` and ``stderr`` in bytes, or
    None for a streamed command, whose output is not kept.

    It also has ``outcome``, ``signal`` (0: none), ``timed_out``, ``truncated`` (more was
    written than kept: ``stdout_total``, ``stderr_total`` bytes), ``pipe_held`` (a process
    that the command had started kept its output open; its next write fails, as nobody reads
    it) and ``charset`` (the encoding of the
    server's locale, "" if it is not known).
    """

    def __init__(
        self,
        args: Command,
        stdout: bytes | None,
        stderr: bytes | None,
        result: _abi.ExecResult,
    ) -> None:
        self.outcome = Outcome(result.outcome)
        self.signal: int = result.signal
        output: Any = (stdout, stderr)
        super().__init__(args, -self.signal or result.exit_code, *output)
        self.timed_out = bool(result.flags & _abi.EXEC_RESULT_TIMED_OUT)
        self.truncated = bool(result.flags & _abi.EXEC_RESULT_TRUNCATED)
        self.pipe_held = bool(result.flags & _abi.EXEC_RESULT_PIPE_HELD)
        self.stdout_total: int = result.stdout_total
        self.stderr_total: int = result.stderr_total
        self.charset: str = result.charset.decode("ascii", "replace")

    @property
    def text(self) -> str:
        """``stdout`` as text; see :meth:`decode`."""
        return self.decode(self.stdout)

    @property
    def error_text(self) -> str:
        """``stderr`` as text; see :meth:`decode`."""
        return self.decode(self.stderr)

    def decode(self, output: bytes | None) -> str:
        r"""Decodes output from the server's encoding, or from UTF-8 if that is ASCII or not
        known here. It never fails: a byte that is not text becomes ``\xNN``."""
        try:
            encoding = codecs.lookup(self.charset).name
        except LookupError:
            encoding = "utf-8"
        encoding = "utf-8" if encoding == "ascii" else encoding
        return (output or b"").decode(encoding, "backslashreplace")

    def judge(self, timeout: float | None, *, check: bool, allow_truncated: bool) -> None:
        """Raises the exception for a command that did not end as it should."""
        if self.timed_out:
            text = f"{self.args!r} was ended after {timeout} seconds"
            raise CommandTimeout(self, text, timeout)
        if self.outcome == Outcome.STATUS_LOST:
            raise StatusLostError(self, f"the exit status of {self.args!r} was lost")
        if self.truncated and not allow_truncated:
            total = self.stdout_total + self.stderr_total
            raise OutputLimitError(self, f"{self.args!r} wrote {total} bytes, too many")
        if check:
            self.check_returncode()

    def check_returncode(self) -> None:
        """Raises a :class:`CalledProcessError` if ``returncode`` is not 0."""
        if self.returncode:
            how = f"signal {self.signal}" if self.signal else f"status {self.returncode}"
            raise CalledProcessError(self, f"{self.args!r} ended with {how}")


class CommandError(FrameError):
    """A command did not end as it should, although the call succeeded: ``code`` is 0, and the
    connection is usable. ``result`` is the :class:`CompletedCommand`; ``cmd``, ``stdout`` (or
    ``output``) and ``stderr`` are its members."""

    def __init__(self, result: CompletedCommand, message: str) -> None:
        super().__init__(0, message)
        self.result = result
        self.cmd: Any = result.args
        self.output: bytes | None = result.stdout
        self.stdout: bytes | None = result.stdout
        self.stderr: bytes | None = result.stderr

    def __reduce__(self) -> Any:
        return type(self), (self.result, self.message), self.__dict__


class CalledProcessError(CommandError, subprocess.CalledProcessError):
    """The command failed, and ``check`` was set. ``returncode`` is its status."""

    def __init__(self, result: CompletedCommand, message: str) -> None:
        super().__init__(result, message)
        self.returncode = result.returncode


class CommandTimeout(CommandError, FrameTimeoutError, subprocess.TimeoutExpired):
    """The command was ended after its ``timeout`` (seconds)."""

    def __init__(
        self, result: CompletedCommand, message: str, timeout: float | None = None
    ) -> None:
        super().__init__(result, message)
        self.timeout: float | None = timeout  # type: ignore[assignment]


class OutputLimitError(CommandError):
    """The command wrote more than was kept: its output is not complete."""


class StatusLostError(CommandError):
    """The command ended, but its exit status is lost: the server's program reaps or ignores
    its children."""


@dataclasses.dataclass(frozen=True)
class ExecRequest:
    """What a command is and how the peer runs it: the parameters of run() and start()."""

    command: Command
    timeout: float | None = None
    cwd: StrOrBytesPath | None = None
    env: Environment | None = None
    max_output: int | None = None
    detached: bool = False
    input: BytesLike | None = None
    merge: bool = False
    flags: int = 0
    terminal: tuple[int, int] | os.terminal_size | None = None

    def native(self) -> _abi.ExecRequest:
        """The same for the library: a struct that keeps alive what it points to."""
        members: dict[str, Any] = {}
        if isinstance(self.command, (str, bytes)):
            text = os.fsencode(self.command)
            members.update(command=text, command_len=len(text))
        else:
            argv = checked(self.command, Sequence, COMMAND)
            members.update(argv=c_strings(argv, "command"))
        if self.input is not None:
            data = as_bytes(self.input)
            members.update(input=data, input_len=len(data))
        rows, columns = size_of(self.terminal)
        return _abi.ExecRequest(
            flags=self.flags
            | flag(_abi.EXEC_MERGE, self.merge)
            | flag(_abi.EXEC_DETACHED, self.detached)
            | _abi.EXEC_TTY * (self.terminal is not None),
            cwd=None if self.cwd is None else c_string(self.cwd, "cwd"),
            env=None if self.env is None else environment(self.env),
            max_output=limit(self.max_output, "max_output"),
            command_timeout_ms=milliseconds(self.timeout),
            rows=rows,
            columns=columns,
            **members,
        )


def size_of(terminal: tuple[int, int] | os.terminal_size | None) -> tuple[int, int]:
    """The rows and columns of a terminal."""
    if terminal is None:
        return 0, 0
    rows, columns = checked(terminal, tuple, "a terminal is a (rows, columns)")
    if isinstance(terminal, os.terminal_size):
        rows, columns = terminal.lines, terminal.columns
    return limit(rows, "rows", 65535), limit(columns, "columns", 65535)


def as_bytes(data: Any) -> bytes:
    """The bytes of any bytes-like object. TypeError for a text."""
    return data if isinstance(data, bytes) else memoryview(data).tobytes()


@dataclasses.dataclass(frozen=True)
class ExecOptions:
    """How a server runs commands. Times are in seconds; None is the default, math.inf no
    limit. A request can only lower the limits.

    ``reply_timeout``: the time without a byte after which a client that does not send its
    request or does not read its reply is given up, 30 s. On average it must let 1 KiB pass in
    a second. If it is set, it is also for a stream's output after the command's end, which a
    client may otherwise read until ``command_timeout``. ``command_timeout``: how long a command
    may run, no limit. ``grace``: from SIGTERM to SIGKILL, 2 s. ``drain``: how long output is read after the
    command's end while another process keeps it open, 0.5 s. ``close_grace``: from the
    client's end of stream to the end of its command, 2 s; with ``detached`` the command runs
    on. ``max_output``: bytes kept of each stream, 16 MiB; ``end_at_limit`` ends a command
    that writes more, otherwise the rest is dropped. ``max_command``: bytes of command text,
    or of all arguments, 64 KiB. ``cwd``: by default the server's own. ``env``: added to a clean
    environment, or with ``host_environment`` to the server's own. ``write_fd``, for exec_and_reply() only:
    the descriptor for the reply, if it is another one.

    Limits of a command: ``umask``; for each of its processes ``cpu_seconds``, ``memory``
    (bytes of address space) and ``file_size`` (bytes of a file that it writes), as for
    setrlimit(2); ``processes`` of its user in all. ``user``: the user and group id that it
    runs as, without other groups, on a server that runs as root. By default these are the
    server's own.

    ``policy`` is called with an :class:`ExecInquiry` in the thread of the call, before
    anything is run. It returns None to allow the request, or an :class:`ExecChoice` to say how
    the command is run. To refuse it, it raises an OSError, such as
    PermissionError("not at night"), or a FrameError: the client gets the matching code and the
    text. Any other exception or result refuses the request as denied, and is raised by the call
    after the reply was sent; :class:`Server` logs it.
    """

    reply_timeout: float | None = None
    command_timeout: float | None = None
    grace: float | None = None
    drain: float | None = None
    close_grace: float | None = None
    max_output: int | None = None
    max_command: int | None = None
    cwd: StrOrBytesPath | None = None
    env: Environment | None = None
    detached: bool = False
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
        self.native()  # a wrong value is reported now, not when a client waits

    def native(self) -> _abi.ExecOptions:
        """The same for the library: a struct that keeps alive what it points to. It has no
        policy."""
        check_callable(self.policy, "a policy")
        uid, gid = optional(self.user, tuple, "a user is a (user id, group id)") or (0, 0)
        return _abi.ExecOptions(
            flags=flag(_abi.EXEC_DETACHED, self.detached)
            | flag(_abi.EXEC_HOST_ENVIRONMENT, self.host_environment)
            | flag(_abi.EXEC_END_AT_LIMIT, self.end_at_limit)
            | _abi.EXEC_UMASK * (self.umask is not None)
            | _abi.EXEC_USER * (self.user is not None),
            reply_timeout_ms=milliseconds(self.reply_timeout),
            command_timeout_ms=milliseconds(self.command_timeout),
            grace_ms=milliseconds(self.grace),
            drain_ms=milliseconds(self.drain),
            close_grace_ms=milliseconds(self.close_grace),
            write_fd=other_fileno(self.write_fd),
            max_output=limit(self.max_output, "max_output"),
            max_command=limit(self.max_command, "max_command"),
            cpu_seconds=limit(self.cpu_seconds, "cpu_seconds"),
            memory=limit(self.memory, "memory"),
            processes=limit(self.processes, "processes"),
            file_size=limit(self.file_size, "file_size"),
            umask=unsigned(self.umask or 0, "umask", 0o777),
            uid=unsigned(uid, "a user id", ID_MAX),
            gid=unsigned(gid, "a group id", ID_MAX),
            cwd=None if self.cwd is None else c_string(self.cwd, "cwd"),
            env=None if self.env is None else environment(self.env),
        )


@contextlib.contextmanager
def serving(
    options: ExecOptions, timeout: float | None = None, *, raw: bool = False
) -> Iterator[_abi.ExecOptions]:
    """The options with their policy, for the call in the `with` block; and with the hook, if
    no connection has it. ``timeout`` is the default of ``reply_timeout``."""
    native = checked(options, ExecOptions, "options are ExecOptions").native()
    if options.reply_timeout is None:
        native.reply_timeout_ms = milliseconds(timeout)
    if raw:
        for name, value in _interrupts.MEMBERS.items():
            setattr(native, name, value)
    with Callbacks() as callbacks:
        if options.policy is not None:
            native.policy = _policies.exec_callback(options.policy, callbacks)
        yield native


@dataclasses.dataclass(frozen=True)
class ExecResult:
    """Result of serving a request, for a server's log.

    ``exit_code`` is 128 + ``signal`` after a signal, -1 if it is not known. ``error`` is the
    ErrorCode that was reported to the client after SPAWN_FAILED and REFUSED; for datagrams
    also the reason for IGNORED or for a reply that could not be sent; otherwise 0.
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
    """Runs command text, received in any way, and sends one reply on a raw descriptor.

    Returns when the reply was sent, also an error reply. After any exception no reply could
    be sent, close the stream; exceptions of ``options.policy`` excepted. The default of
    ``options.reply_timeout`` is the timeout of a socket object, if it has one.
    """
    text = os.fsencode(command)
    result = _abi.ExecResult()
    with serving(options, own_timeout(fd), raw=True) as native:
        code = lib.exec_and_reply(fileno(fd), text, len(text), native, result)
    _errors.check(code)
    return exec_result(result)


def exec_run(
    command: str | bytes,
    options: ExecOptions = ExecOptions(),
    *,
    check: bool = False,
    allow_truncated: bool = False,
) -> CompletedCommand:
    """Runs command text as exec_and_reply() does, and returns its output; nothing is sent.
    For servers of other protocols; ``reply_timeout``, ``close_grace``, ``write_fd`` and
    ``policy`` do not apply.

    SpawnError: it could not be started. ArgumentError: it is empty or has a NUL in it.
    TooBigError. The exceptions for the command's end are as for run().
    """
    text = os.fsencode(command)
    out, result = ctypes.c_void_p(), _abi.ExecResult()
    with serving(options, raw=True) as native:
        code = lib.exec_run(text, len(text), native, result, out)
    _errors.check(code)
    done = completed(command, result, out)
    done.judge(options.command_timeout, check=check, allow_truncated=allow_truncated)
    return done


def exec_result(result: _abi.ExecResult) -> ExecResult:
    """A server's result from the library's."""
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
    command: Command, result: _abi.ExecResult, out: ctypes.c_void_p
) -> CompletedCommand:
    """The client's result; frees the output."""
    try:
        outputs = []
        for which in (_abi.EXEC_STDOUT, _abi.EXEC_STDERR):
            length = ctypes.c_size_t()
            start = lib.exec_output_bytes(out, which, length)
            outputs.append(ctypes.string_at(start, length.value))
        return CompletedCommand(command, outputs[0], outputs[1], result)
    finally:
        lib.exec_output_free(out)
