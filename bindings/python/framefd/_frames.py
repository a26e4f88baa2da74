"""One message on a raw descriptor, without a connection: no state is kept between calls."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
from ctypes import byref
from typing import Any, Literal

from . import _headers, _interrupts
from ._abi import (
    FRAME_FORMAT_FRAMES,
    FRAME_FORMAT_PACKETS,
    FRAME_PREFIX_BIG_ENDIAN,
    FRAME_PREFIX_UNSIGNED,
    FrameOptions,
)
from ._arguments import Buffer, BytesLike, checked, limit, milliseconds, optional
from ._descriptors import Descriptor, fileno, own_timeout
from ._errors import check
from ._handles import taken
from ._headers import Header
from ._native import lib
from ._views import Frame


@dataclasses.dataclass(frozen=True)
class Prefix:
    """The length prefix of packets: ``width`` in bytes (1, 2, 4 or 8), ``byteorder`` and
    ``signed`` as for :meth:`int.to_bytes`.

    Erlang's ``{packet, 4}`` and tokio's ``LengthDelimitedCodec`` are
    ``Prefix(byteorder="big", signed=False)``.
    """

    width: int = 4
    byteorder: Literal["little", "big"] = "little"
    signed: bool = True

    def __post_init__(self) -> None:
        checked(self.width, int, "a width is an int")
        checked(self.byteorder, str, "a byte order is 'little' or 'big'")
        if self.width not in (1, 2, 4, 8):
            raise ValueError(f"the width of a prefix is 1, 2, 4 or 8 bytes: {self.width!r}")
        if self.byteorder not in ("little", "big"):
            raise ValueError(f"a byte order is 'little' or 'big': {self.byteorder!r}")

    def __int__(self) -> int:
        number = self.width
        if self.byteorder == "big":
            number += FRAME_PREFIX_BIG_ENDIAN
        if not self.signed:
            number += FRAME_PREFIX_UNSIGNED
        return number


def send(
    fd: Descriptor,
    header: Header | None = None,
    body: BytesLike = b"",
    *,
    prefix: Prefix | None = None,
    timeout: float | None = None,
    max_header: int | None = None,
) -> None:
    """Sends one message: a header, and a body of any bytes-like type, which is not copied.

    ``fd`` is an int, a socket or any object with a fileno(): a socket, pipe or terminal,
    blocking or not. It is not closed. ``timeout`` is in seconds for the whole call, math.inf
    waits forever, 0 does not wait. None is the timeout of a socket object, as set by its
    settimeout(), its setblocking(), or socket.setdefaulttimeout(); otherwise it waits forever.
    With a ``prefix`` the message is a packet: a length and bytes, without a header.

    Only one thread at a time may send on a descriptor; another may receive meanwhile.

    FrameTimeoutError: nothing was sent. ValueError, TypeError: the header is not valid, or
    has a ``data_size``; nothing was sent. After any other error close the stream:
    DisconnectedError (the peer is gone), StalledError, SystemCallError.
    """
    text = _headers.encode(header)
    options = byref(options_for(fd, timeout, max_header, None, None, prefix))
    with Buffer(body) as (address, length):
        check(lib.frame_send(fileno(fd), text, address, length, options))


def recv(
    fd: Descriptor,
    *,
    prefix: Prefix | None = None,
    timeout: float | None = None,
    max_header: int | None = None,
    max_body: int | None = None,
    max_depth: int | None = None,
) -> Frame:
    """Receives one message into memory. Nothing beyond it is read from ``fd``.

    ``max_header`` (bytes, default 64 KiB), ``max_body`` (bytes, default 64 MiB, or NO_LIMIT)
    and ``max_depth`` (levels of JSON, default 32) are limits. The header of a packet is {}.
    Otherwise as :func:`send`.

    ClosedError: the peer closed the stream between messages. FrameTimeoutError: nothing was
    received. After any other error close the stream: TruncatedError, StalledError,
    MalformedError, TooBigError, SystemCallError.
    """
    out = ctypes.c_void_p()
    options = options_for(fd, timeout, max_header, max_body, max_depth, prefix)
    check(lib.frame_recv(fileno(fd), out, options))
    return taken(out)


def options_for(fd: Descriptor, timeout: float | None, *others: Any) -> FrameOptions:
    """Options with the timeout of the object, if it has one."""
    if timeout is None:
        timeout = own_timeout(fd)
    try:
        return frame_options(timeout, *others)
    except TypeError:  # of a wrong type, which has no hash perhaps
        return frame_options.__wrapped__(timeout, *others)


@functools.lru_cache(maxsize=128)
def frame_options(
    timeout: float | None = None,
    max_header: int | None = None,
    max_body: int | None = None,
    max_depth: int | None = None,
    prefix: Prefix | None = None,
) -> FrameOptions:
    """Options as the library reads them; it never changes them, so they are shared."""
    optional(prefix, Prefix, "a prefix is a Prefix")
    return FrameOptions(
        timeout_ms=milliseconds(timeout),
        max_header=limit(max_header, "max_header"),
        max_body=limit(max_body, "max_body"),
        max_depth=limit(max_depth, "max_depth", 2**32 - 1),
        format=FRAME_FORMAT_FRAMES if prefix is None else FRAME_FORMAT_PACKETS,
        prefix=0 if prefix is None else int(prefix),
        **_interrupts.MEMBERS,
    )
