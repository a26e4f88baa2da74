"""Exceptions: one class for each kind of failure, chosen by the library's code."""

from __future__ import annotations

import ctypes
import errno as _errno
from typing import Any

from . import _interrupts, _native
from ._abi import ErrorCode


class FrameError(OSError):
    """The base of every exception of this package.

    ``code`` is the :class:`ErrorCode` (a plain int if this package does not know it; 0 for a
    :class:`CommandError`, since no call failed). ``errno`` is that of the failed system call,
    or the one that fits the class, or None; ``filename`` is that of a request about a file.
    ``remote`` is True if the peer reported the failure: the connection is then still
    usable. After the transfer of a file or a tree, ``result`` says how far it came.

    A program raises one with a text alone, such as NotFoundError("no such user"): a policy,
    or a handler of a :class:`Server`, whose client then gets that error.
    """

    #: A FileResult or a TreeResult.
    result: Any = None

    def __init__(
        self, code: int | str = "", message: str = "", errno: int | None = None
    ) -> None:
        if isinstance(code, str):
            message, errno = code, errno or own(type(self), ERRNO)
            code = own(type(self), CODES) or 0
        super().__init__(errno, message)
        self.code = code_of(code)
        self.message = message

    @property
    def remote(self) -> bool:
        """Whether the peer reported this in an error reply."""
        return self.code <= ErrorCode.REMOTE_BAD_REQUEST

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        state = {**self.__dict__, "filename": self.filename}
        return type(self), (int(self.code), self.message, self.errno), state


class ClosedError(FrameError, ConnectionError):
    """The peer closed the stream between two messages: a clean end."""


class TruncatedError(FrameError, ConnectionResetError):
    """The stream ended inside a message. A ConnectionResetError, as for an incomplete HTTP
    response."""


class FrameTimeoutError(FrameError, TimeoutError):
    """Timed out. Unless it is a StalledError, nothing of a message was sent or received, and
    the stream is in sync."""


class StalledError(FrameTimeoutError):
    """Timed out inside a message: the stream is out of sync, close it."""


class MalformedError(FrameError, ValueError):
    """Invalid bytes: a bad length, a header that is not JSON, a field of the wrong type, a
    reply that does not match its request."""


class TooBigError(FrameError, ValueError):
    """A message is above a limit."""


class AuthenticationError(FrameError, PermissionError):
    """The peer does not have the key."""


class BadKeyError(FrameError, ValueError):
    """The key cannot be used: too short, too long, or in a file that others can read."""


class PathError(FrameError, ValueError):
    """The file name is not acceptable."""


class ExistsError(FrameError, FileExistsError):
    """The target or the name exists, and must not be replaced."""


class NotFoundError(FrameError, FileNotFoundError):
    """There is no such file, or nothing else of the name that was asked for."""


class NoSpaceError(FrameError):
    """The disk or the quota is full."""


class ChecksumError(FrameError):
    """The content does not match its checksum."""


class SpawnError(FrameError):
    """The command could not be started."""


class LimitError(FrameError):
    """A datagram was cut, or a table of a bounded size is full."""


class ArgumentError(FrameError, ValueError):
    """An argument of the call is not valid."""


class BadDescriptorError(FrameError):
    """The descriptor is not open, or of a kind that the call cannot use."""


class NoMemoryError(FrameError, MemoryError):
    """Out of memory."""


class StateError(FrameError, RuntimeError):
    """The call is not possible now, such as reading a body that is in memory."""


class BusyError(FrameError):
    """In use by another thread or, if ``remote``, the peer is busy."""


class SystemCallError(FrameError):
    """A system call failed; ``errno`` says why."""


class DisconnectedError(SystemCallError, ConnectionError):
    """A system call failed because the peer has disconnected: EPIPE, ECONNRESET and so on."""


class RefusedError(DisconnectedError, ConnectionRefusedError):
    """Nobody listens at the address: ECONNREFUSED."""


class DeniedError(FrameError, PermissionError):
    """Refused by a policy or by permissions."""


class UnsupportedError(FrameError):
    """The peer or this kernel does not support the request."""


class CancelledError(FrameError):
    """A callback asked to stop."""


class BrokenError(FrameError, ConnectionError):
    """The connection cannot be used after an earlier failure, which the message names."""


class AbortedError(FrameError, ConnectionAbortedError):
    """The connection was aborted, by another thread or a signal handler."""


class ForkedError(FrameError, ConnectionError):
    """The object belongs to the parent process: after a fork the child cannot use it."""


class IncompleteError(FrameError):
    """A part of a tree could not be transferred, and the rest was; ``result`` has the
    counts."""


class InternalError(FrameError, RuntimeError):
    """A defect in the library."""


CLASSES: dict[int, type[FrameError]] = {
    ErrorCode.CLOSED: ClosedError,
    ErrorCode.TRUNCATED: TruncatedError,
    ErrorCode.TIMEDOUT: FrameTimeoutError,
    ErrorCode.BADLENGTH: MalformedError,
    ErrorCode.TOOBIG: TooBigError,
    ErrorCode.BADJSON: MalformedError,
    ErrorCode.BADFIELD: MalformedError,
    ErrorCode.MISSING: MalformedError,
    ErrorCode.AUTH: AuthenticationError,
    ErrorCode.KEY: BadKeyError,
    ErrorCode.PATH: PathError,
    ErrorCode.EXIST: ExistsError,
    ErrorCode.NOENT: NotFoundError,
    ErrorCode.NOSPC: NoSpaceError,
    ErrorCode.CHECKSUM: ChecksumError,
    ErrorCode.SPAWN: SpawnError,
    ErrorCode.LIMIT: LimitError,
    ErrorCode.INVAL: ArgumentError,
    ErrorCode.BADF: BadDescriptorError,
    ErrorCode.NOMEM: NoMemoryError,
    ErrorCode.STATE: StateError,
    ErrorCode.BUSY: BusyError,
    ErrorCode.IO: SystemCallError,
    ErrorCode.ACCES: DeniedError,
    ErrorCode.NOTSUP: UnsupportedError,
    ErrorCode.CANCELED: CancelledError,
    ErrorCode.BADREPLY: MalformedError,
    ErrorCode.PANIC: InternalError,
    ErrorCode.STALLED: StalledError,
    ErrorCode.BROKEN: BrokenError,
    ErrorCode.ABORTED: AbortedError,
    ErrorCode.FORKED: ForkedError,
    ErrorCode.INCOMPLETE: IncompleteError,
    ErrorCode.REMOTE_BAD_REQUEST: MalformedError,
    ErrorCode.REMOTE_UNSUPPORTED: UnsupportedError,
    ErrorCode.REMOTE_DENIED: DeniedError,
    ErrorCode.REMOTE_NOT_FOUND: NotFoundError,
    ErrorCode.REMOTE_EXISTS: ExistsError,
    ErrorCode.REMOTE_TOO_BIG: TooBigError,
    ErrorCode.REMOTE_NO_SPACE: NoSpaceError,
    ErrorCode.REMOTE_TIMED_OUT: FrameTimeoutError,
    ErrorCode.REMOTE_CHECKSUM: ChecksumError,
    ErrorCode.REMOTE_BUSY: BusyError,
    ErrorCode.REMOTE_SPAWN_FAILED: SpawnError,
    ErrorCode.REMOTE_IO: SystemCallError,
    ErrorCode.REMOTE_OTHER: FrameError,
}

# The errno for a built-in class, if no system call of this process failed.
ERRNO: dict[type, int] = {
    NotFoundError: _errno.ENOENT,
    ExistsError: _errno.EEXIST,
    DeniedError: _errno.EACCES,
    NoSpaceError: _errno.ENOSPC,
    FrameTimeoutError: _errno.ETIMEDOUT,
    StalledError: _errno.ETIMEDOUT,
}

# The code for a class that a program raises: its first one, unless it says here.
CODES: dict[type, int] = {kind: code for code, kind in reversed(CLASSES.items())}
CODES.update({MalformedError: ErrorCode.BADFIELD, FrameError: 0})


def own(kind: type, numbers: dict[type, int]) -> int | None:
    """The number of a class, or of the nearest one that it is derived from."""
    return next((numbers[base] for base in kind.__mro__ if base in numbers), None)


DISCONNECTED = {
    _errno.EPIPE,
    _errno.ECONNRESET,
    _errno.ECONNABORTED,
    _errno.ECONNREFUSED,
    _errno.ENOTCONN,
    _errno.ESHUTDOWN,
}


def check(code: int) -> int:
    """The count that a call returned; raises if it is the code of a failure."""
    if code < 0:
        raise last_error(code)
    return code


def last_error(code: int) -> BaseException:
    """The exception for the call that has just failed in this thread, or that of a signal
    handler that ended the call."""
    if _interrupts.raised:
        error = _interrupts.kept()
        if error is not None:
            return error
    return failure(code)


def failure(code: int) -> FrameError:
    """The same for a call that no signal handler has ended."""
    number = ctypes.set_errno(0)
    text = _native.lib.frame_last_error() or _native.lib.frame_strerror(code)
    return make(code, text.decode("utf-8", "replace"), number)


def make(code: int, message: str, errno: int | None = None) -> FrameError:
    """The exception for a code."""
    kind = CLASSES.get(code, FrameError)
    if kind is SystemCallError and errno in DISCONNECTED:
        kind = RefusedError if errno == _errno.ECONNREFUSED else DisconnectedError
    return kind(code, message, errno or ERRNO.get(kind))


def code_of(number: int) -> ErrorCode | int:
    """The member with this number, or the number if it is not known here."""
    try:
        return ErrorCode(number)
    except ValueError:
        return number
