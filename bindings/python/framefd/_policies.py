"""What a client asks of a server, and what the server's host says to it."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
from collections.abc import Callable
from typing import Any

from . import _abi, _headers
from ._abi import ErrorCode
from ._arguments import strings
from ._callbacks import Guarding
from ._errors import FrameError
from ._headers import Header


@dataclasses.dataclass(frozen=True)
class ExecInquiry:
    """What a client wants to have run, for ``ExecOptions.policy``.

    ``command`` is text for /bin/sh, or a program and its arguments as a tuple; bytes that
    are no text are in it as os.fsdecode() has them. ``cwd`` and ``env`` are what is asked
    for, not what the server adds; ``merge``, ``terminal`` and ``detached`` as for
    start(). ``header`` is the whole header of the request, None for exec_and_reply().
    ``key_id`` is the id of the client's key, "" for a key without an id; None if there was no
    handshake on a connection.
    """

    command: str | tuple[str, ...]
    cwd: str | None
    env: dict[str, str]
    merge: bool
    terminal: bool
    detached: bool
    header: Header | None
    key_id: str | None

    @classmethod
    def of(cls, native: _abi.ExecInquiry) -> ExecInquiry:
        """What the library shows, copied."""
        text = ctypes.string_at(native.command, native.command_len)
        variables = (variable.partition("=") for variable in strings(native.env))
        return cls(
            command=tuple(strings(native.argv)) if native.argv else os.fsdecode(text),
            cwd=None if native.cwd is None else os.fsdecode(native.cwd),
            env={name: value for name, _, value in variables},
            merge=bool(native.flags & _abi.EXEC_MERGE),
            terminal=bool(native.flags & _abi.EXEC_TTY),
            detached=bool(native.flags & _abi.EXEC_DETACHED),
            header=None if native.header is None else _headers.decode(native.header),
            key_id=key_id_of(native),
        )


#: Returns None to allow a request, or raises an exception to refuse it.
ExecPolicy = Callable[[ExecInquiry], None]


@dataclasses.dataclass(frozen=True)
class FileInquiry:
    """One thing that a request to a file server would do, for the ``policy`` of serve_file().

    ``cmd`` is "put", "get", "stat", "list", "mkdir" or "symlink": first that of the request.
    Then "get", if the reply could tell of bytes that are there (a put with an offset, a stat of
    the partial file), and "mkdir" for each directory that ``parents`` would make. So what cannot
    be got cannot be resumed, unless the policy allows "get" if ``header["cmd"]`` is another.
    ``name`` is relative to the root, "" the root itself; bytes that are no text are in it as
    os.fsdecode() has them. ``filesize`` is that of a put, else None. ``header`` is the whole
    header of the request. ``key_id`` is as in :class:`ExecInquiry`.
    """

    cmd: str
    name: str
    filesize: int | None
    header: Header
    key_id: str | None

    @classmethod
    def of(cls, native: _abi.FrameFileInquiry) -> FileInquiry:
        """What the library shows, copied."""
        filesize = native.filesize
        return cls(
            cmd=native.cmd.decode(),
            name=os.fsdecode(ctypes.string_at(native.name, native.name_len)),
            filesize=None if filesize == _abi.FRAME_NO_LIMIT else filesize,
            header=_headers.decode(native.header),
            key_id=key_id_of(native),
        )


def key_id_of(native: _abi.ExecInquiry | _abi.FrameFileInquiry) -> str | None:
    key_id: bytes | None = native.key_id
    return None if key_id is None else key_id.decode("ascii")


#: The same for files.
FilePolicy = Callable[[FileInquiry], None]


def exec_callback(policy: ExecPolicy, callbacks: Guarding) -> Any:
    """A policy for the library's options."""

    def ask(_: object, inquiry: Any, reason: int, size: int) -> int:
        return _verdict(lambda: policy(ExecInquiry.of(inquiry.contents)), reason, size)

    return _abi.ExecOptionsPolicy(callbacks.guarded(ask, ErrorCode.ACCES))


def file_callback(policy: FilePolicy, callbacks: Guarding) -> Any:
    """The same for files."""

    def ask(_: object, inquiry: Any, reason: int, size: int) -> int:
        return _verdict(lambda: policy(FileInquiry.of(inquiry.contents)), reason, size)

    return _abi.FrameFileOptionsPolicy(callbacks.guarded(ask, ErrorCode.ACCES))


def _verdict(ask: Callable[[], object], reason: int, size: int) -> int:
    """What a policy says, as the library takes it: 0, or the code of a refusal, with its
    text in the ``size`` bytes at the address ``reason``."""
    try:
        answer = ask()
    except OSError as error:
        text = str(error).encode("utf-8", "backslashreplace")[: size - 1] + b"\0"
        ctypes.memmove(reason, text, len(text))
        return _code_of(error)
    if answer is not None:
        raise TypeError(f"a policy returns None or raises an exception: {answer!r}")
    return 0


def _code_of(error: OSError) -> int:
    if isinstance(error, FrameError):
        return error.code if error.code < 0 else ErrorCode.ACCES
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ErrorCode.NOSPC
    return next((code for kind, code in CODES if isinstance(error, kind)), ErrorCode.IO)


CODES = [
    (PermissionError, ErrorCode.ACCES),
    (FileNotFoundError, ErrorCode.NOENT),
    (FileExistsError, ErrorCode.EXIST),
    (TimeoutError, ErrorCode.TIMEDOUT),
    (BlockingIOError, ErrorCode.BUSY),
]
