"""What a client asks of a server, and what the server's host says to it."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import threading
from collections.abc import Callable
from typing import Any, Union

from . import _abi, _headers
from ._abi import ErrorCode
from ._arguments import strings
from ._callbacks import Guarding
from ._choices import ExecChoice, FileChoice
from ._errors import FrameError
from ._headers import Header

NOBODY = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class ExecInquiry:
    """What a client wants to have run, for ``ExecOptions.policy``.

    ``command`` is text for /bin/sh, or a program and its arguments as a tuple; bytes that
    are no text are in it as os.fsdecode() has them. ``cwd`` and ``env`` are what is asked
    for, not what the server adds; ``merge``, ``terminal`` and ``detached`` as for
    start(). ``header`` is the whole header of the request, None for exec_and_reply().
    ``key_id`` is the id of the client's key, "" for a key without an id; None if there was no
    handshake on a connection. ``address`` is the client's, None if it has none; ``pid``,
    ``uid`` and ``gid`` are those of its process at a Unix socket, otherwise None.
    """

    command: str | tuple[str, ...]
    cwd: str | None
    env: dict[str, str]
    merge: bool
    terminal: bool
    detached: bool
    header: Header | None
    key_id: str | None
    address: str | None
    pid: int | None
    uid: int | None
    gid: int | None

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
            **client_of(native),
        )


#: Returns None to allow a request, or an :class:`ExecChoice` to say how it is served; or raises
#: an exception to refuse it.
ExecPolicy = Callable[[ExecInquiry], Union[ExecChoice, None]]


@dataclasses.dataclass(frozen=True)
class FileInquiry:
    """One thing that a request to a file server would do, for the ``policy`` of serve_file().

    ``cmd`` is "put", "get", "stat", "list", "mkdir" or "symlink": first that of the request.
    Then "get", if the reply could tell of bytes that are there (a put with an offset, a stat of
    the partial file), and "mkdir" for each directory that ``parents`` would make. So what cannot
    be got cannot be resumed, unless the policy allows "get" if ``header["cmd"]`` is another.
    ``name`` is relative to the root, "" the root itself; bytes that are no text are in it as
    os.fsdecode() has them. ``filesize`` is that of a put, else None. ``header`` is the whole
    header of the request. ``key_id``, ``address``, ``pid``, ``uid`` and ``gid`` are as in
    :class:`ExecInquiry`.
    """

    cmd: str
    name: str
    filesize: int | None
    header: Header
    key_id: str | None
    address: str | None
    pid: int | None
    uid: int | None
    gid: int | None

    @classmethod
    def of(cls, native: _abi.FrameFileInquiry) -> FileInquiry:
        """What the library shows, copied."""
        filesize = native.filesize
        return cls(
            cmd=native.cmd.decode(),
            name=os.fsdecode(ctypes.string_at(native.name, native.name_len)),
            filesize=None if filesize == _abi.FRAME_NO_LIMIT else filesize,
            header=_headers.decode(native.header),
            **client_of(native),
        )


def client_of(native: Any) -> dict[str, Any]:
    """Who the client is."""
    return {
        "key_id": None if native.key_id is None else native.key_id.decode("ascii"),
        "address": None if native.address is None else os.fsdecode(native.address),
        "pid": native.pid or None,
        "uid": None if native.uid == NOBODY else native.uid,
        "gid": None if native.gid == NOBODY else native.gid,
    }


#: The same for files: with a :class:`FileChoice`.
FilePolicy = Callable[[FileInquiry], Union[FileChoice, None]]


def exec_callback(policy: ExecPolicy, callbacks: Guarding) -> Any:
    """A policy for the library's options."""
    asking = Asking(policy, ExecInquiry, ExecChoice)
    return _abi.ExecOptionsPolicy(callbacks.guarded(asking.ask, int(ErrorCode.ACCES)))


def file_callback(policy: FilePolicy, callbacks: Guarding) -> Any:
    """The same for files."""
    asking = Asking(policy, FileInquiry, FileChoice)
    return _abi.FrameFileOptionsPolicy(callbacks.guarded(asking.ask, int(ErrorCode.ACCES)))


class Asking:
    """Asks a policy, on any thread."""

    def __init__(self, policy: Callable[[Any], object], inquiry: Any, choice: Any) -> None:
        self._policy, self._inquiry, self._choice = policy, inquiry, choice
        # What the library reads after the policy has returned, on the same thread. So it lives
        # until the next question there, or as long as this. A threading.local() would not do:
        # for a thread of the library it is gone when the policy returns.
        self._kept: dict[int, object] = {}

    def ask(self, _: object, shown: Any, reason: int, size: int) -> int:
        """What the policy says, as the library takes it: 0, with what it has chosen, or the
        code of a refusal, with its text in the ``size`` bytes at the address ``reason``."""
        thread = threading.get_ident()
        self._kept.pop(thread, None)
        native = shown.contents
        inquiry = self._inquiry.of(native)
        try:
            answer = self._policy(inquiry)
        except OSError as error:
            text = str(error).encode("utf-8", "backslashreplace")[: size - 1] + b"\0"
            ctypes.memmove(reason, text, len(text))
            return _code_of(error)
        if answer is None:
            return 0
        if not isinstance(answer, self._choice):
            name = self._choice.__name__
            raise TypeError(
                f"a policy returns None or {name}, or raises an exception: {answer!r}"
            )
        self._kept[thread] = answer, answer._write(native.choice.contents)
        return 0


def _code_of(error: OSError) -> int:
    if isinstance(error, FrameError):
        code = error.code if error.code < 0 else ErrorCode.ACCES
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        code = ErrorCode.NOSPC
    else:
        code = next((code for kind, code in CODES if isinstance(error, kind)), ErrorCode.IO)
    return int(code)  # C takes no subclass of it


CODES = [
    (PermissionError, ErrorCode.ACCES),
    (FileNotFoundError, ErrorCode.NOENT),
    (FileExistsError, ErrorCode.EXIST),
    (TimeoutError, ErrorCode.TIMEDOUT),
    (BlockingIOError, ErrorCode.BUSY),
]
