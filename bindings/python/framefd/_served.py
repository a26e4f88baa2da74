"""What a server's host is told about each request when it is over."""

from __future__ import annotations

import ctypes
import dataclasses
import os
from collections.abc import Callable
from typing import Any

from . import _abi, _headers
from ._abi import ErrorCode
from ._arguments import strings
from ._errors import code_of
from ._exec import Outcome
from ._headers import Header
from ._policies import client_of


@dataclasses.dataclass(frozen=True)
class ServedRequest:
    """A request that is over: it was served, refused or cut. For an audit log.

    ``error`` is 0, or the ErrorCode of the error reply or of what has cut the request: ABORTED
    (the server was stopped), CLOSED and TRUNCATED (the client has gone). ``cmd`` and ``header``
    are the request's. ``key_id`` is the id of the client's key, "" for a key without an id,
    None if the server has no keys; ``address`` is the client's, None if it has none; ``pid``,
    ``uid`` and ``gid`` are those of its process at a Unix socket, otherwise None.

    ``what`` is the command that was to run, as in :class:`ExecInquiry`, or the name of a file,
    which may be one that is refused; otherwise None. Of a command that ran there are its
    ``outcome``, ``exit_code`` (-1 if it is not known) and ``signal``; otherwise None, -1 and 0.
    ``bytes_in`` came behind the request's header, ``bytes_out`` are those of its replies, with
    their headers. ``seconds`` is from its header to its end.
    """

    error: ErrorCode | int
    cmd: str | None
    header: Header
    key_id: str | None
    address: str | None
    pid: int | None
    uid: int | None
    gid: int | None
    what: str | tuple[str, ...] | None
    outcome: Outcome | None
    exit_code: int
    signal: int
    bytes_in: int
    bytes_out: int
    seconds: float

    @classmethod
    def of(cls, native: _abi.FrameServed) -> ServedRequest:
        """What the library shows, copied."""
        text = None if native.what is None else ctypes.string_at(native.what, native.what_len)
        return cls(
            error=code_of(native.error) if native.error else 0,
            cmd=decoded(native.cmd),
            header=_headers.decode(native.header),
            **client_of(native),
            what=tuple(strings(native.argv)) if native.argv else decoded(text),
            outcome=None if native.outcome < 0 else Outcome(native.outcome),
            exit_code=native.exit_code,
            signal=native.signal if native.outcome >= 0 else 0,
            bytes_in=native.bytes_in,
            bytes_out=native.bytes_out,
            seconds=native.time_ms / 1000,
        )


#: Called with each request when it is over.
ServedFunction = Callable[[ServedRequest], object]


def decoded(text: bytes | None) -> str | None:
    return None if text is None else os.fsdecode(text)


def telling(function: ServedFunction) -> Callable[..., int]:
    """The function as it is called."""

    def tell(_: object, request: Any) -> int:
        function(ServedRequest.of(request.contents))
        return 0

    return tell
