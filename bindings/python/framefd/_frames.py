"""Frames and packets, whole or with the body in pieces; the replies of any server."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
from collections.abc import Iterable
from ctypes import byref
from typing import Any, Literal, NamedTuple

from . import _headers
from ._abi import FRAME_PREFIX_BIG_ENDIAN, FRAME_PREFIX_UNSIGNED, FrameOptions
from ._arguments import (
    C_INT_MAX,
    Buffer,
    Descriptor,
    c_string,
    c_strings,
    countdown,
    fileno,
    in_position,
    limit,
    milliseconds,
    unsigned,
)
from ._errors import check, last_error
from ._handles import ExclusiveHandle, memory
from ._headers import Header
from ._native import lib, untyped
from ._rooms import WHOLE, Room, rooms, size_for

LARGEST_READ = 1 << 20

untyped_send = untyped("frame_send")
untyped_recv_into = untyped("frame_recv_into")


class Frame(NamedTuple):
    """A received frame: ``header, body = recv(fd)``.

    ``header`` is what the sender put in, without the ``data_size`` of the wire: that is
    ``len(body)``. So a frame can be sent on with ``send(fd, *frame)``.
    """

    header: Header
    body: bytes


# Frame(header, body) in half the time: without a call of a function in Python.
new_frame = tuple.__new__


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
    body: Any = b"",
    *,
    timeout: float | None = None,
    max_header: int | None = None,
) -> None:
    """Sends one frame: a header, and a body of any bytes-like type, which is not copied.

    ``fd`` is an int, a socket or any object with a fileno(): a socket, pipe or terminal,
    blocking or not. It is not closed. A timeout that is set on a socket object does not
    count here; ``timeout`` is in seconds for the whole call, None and math.inf are for
    ever, 0 is not to wait.

    Threads that send on one descriptor have to take turns; one may send while another
    receives.

    FrameTimeoutError: nothing was sent. ValueError, TypeError: the header is none, or has
    a ``data_size``; nothing was sent. After any other error close the stream:
    DisconnectedError (the other end is gone), StalledError, SystemCallError.
    """
    text = _headers.encode(header) if header else None
    defaults = timeout is None and max_header is None
    options = None if defaults else byref(frame_options(timeout, max_header))
    if type(body) is bytes and len(body) <= C_INT_MAX:
        code = untyped_send(fileno(fd), text, body, len(body), options)
    else:
        with Buffer(body) as (address, length):
            code = lib.frame_send(fileno(fd), text, address, length, options)
    if code < 0:
        raise last_error(code)


def recv(
    fd: Descriptor,
    *,
    timeout: float | None = None,
    max_header: int | None = None,
    max_body: int | None = None,
    max_depth: int | None = None,
) -> Frame:
    """Receives one frame into memory. Nothing beyond it is read from ``fd``.

    ``max_header`` (bytes, default 64 KiB), ``max_body`` (bytes, default 64 MiB, or
    NO_LIMIT) and ``max_depth`` (levels of JSON, default 32) limit what is taken. ``fd``
    and ``timeout`` are as for :func:`send`.

    ClosedError: the other end closed between frames. FrameTimeoutError: nothing came. After
    any other error close the stream: TruncatedError, StalledError, MalformedError,
    TooBigError, SystemCallError.
    """
    options, size, left = None, WHOLE, None
    if not (timeout is max_header is max_body is max_depth is None):
        options = byref(frame_options(timeout, max_header, max_body, max_depth))
        size, left = size_for(max_body), countdown(timeout)
    try:
        room = rooms.pop()
    except IndexError:
        room = Room()
    try:
        code = untyped_recv_into(
            fileno(fd), room.data_out, size, room.view_out, room.rest_out, options
        )
        if code == 0:
            return new_frame(Frame, room.parts())
        rest = room.rest.value
    finally:
        rooms.append(room)
    if code < 0:
        raise last_error(code)
    if left is None:
        return gathered(rest, None)
    return gathered(rest, FrameOptions(timeout_ms=left(), max_body=max_body or 0))


def gathered(pointer: Any, options: FrameOptions | None) -> Frame:
    """A frame whose body is still in the stream."""
    try:
        check(lib.frame_body_gather(pointer, options))
        header = _headers.decode(lib.frame_header(pointer, None))
        return new_frame(Frame, (header, memory(lib.frame_body, pointer)))
    finally:
        lib.frame_free(pointer)


class IncomingFrame:
    """A frame whose body is still in the stream, to be read in pieces of any size.

    As a context manager it drops what is left of the body when the block ends well, so
    that the next frame can be received; after an exception close the stream. One thread
    at a time may use it, another gets a BusyError. The descriptor must stay open.

    ``header`` is as in :class:`Frame`.

    ``timeout`` is for each call, as for :func:`send`. Every method raises TruncatedError
    where the stream ends early, and SystemCallError.
    """

    def __init__(self, handle: ExclusiveHandle) -> None:
        self.handle = handle
        with handle as pointer:
            self.header = _headers.decode(lib.frame_header(pointer, None))

    @property
    def left(self) -> int:
        """Bytes of the body that are still in the stream."""
        with self.handle as pointer:
            return int(lib.frame_body_left(pointer))

    def read(self, size: int = LARGEST_READ, *, timeout: float | None = None) -> bytes:
        """1 to ``size`` bytes (1 MiB at most) as they come; b"" at the end of the body.

        FrameTimeoutError: nothing was lost, call again.
        """
        size = min(unsigned(size, "size"), LARGEST_READ)
        with self.handle as pointer:
            room = ctypes.create_string_buffer(min(size, lib.frame_body_left(pointer)) or 1)
            options = frame_options(timeout)
            count = check(lib.frame_body_read(pointer, room, min(size, len(room)), options))
        return ctypes.string_at(room, count)

    def readinto(self, target: Any, *, timeout: float | None = None) -> int:
        """Reads into a writable bytes-like object, as :meth:`read`; returns the count."""
        with self.handle as pointer, Buffer(target, writable=True) as (address, length):
            return check(lib.frame_body_read(pointer, address, length, frame_options(timeout)))

    def copy_to(self, fd: Descriptor, *, timeout: float | None = None) -> None:
        """Copies the rest of the body to another descriptor, in constant memory.

        FrameTimeoutError: all that was read was written, call again. StalledError,
        SystemCallError, NoSpaceError: bytes may be missing in ``fd``, but :meth:`skip`
        still brings the stream back in step.
        """
        with self.handle as pointer, in_position(fd) as number:
            check(lib.frame_body_copy(pointer, number, frame_options(timeout)))

    def gather(self, *, max_body: int | None = None, timeout: float | None = None) -> bytes:
        """The rest of the body. TooBigError above ``max_body`` (default 64 MiB): nothing
        was read then."""
        with self.handle as pointer:
            check(lib.frame_body_gather(pointer, frame_options(timeout, None, max_body)))
            return memory(lib.frame_body, pointer)

    def skip(self, *, timeout: float | None = None) -> None:
        """Drops the rest of the body. FrameTimeoutError: call again."""
        with self.handle as pointer:
            check(lib.frame_body_skip(pointer, frame_options(timeout)))

    def __enter__(self) -> IncomingFrame:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.skip()


def recv_header(
    fd: Descriptor,
    *,
    timeout: float | None = None,
    max_header: int | None = None,
    max_depth: int | None = None,
) -> IncomingFrame:
    """Receives the header of a frame, and leaves the body in the stream.

    Parameters and errors are as for :func:`recv`.
    """
    out = ctypes.c_void_p()
    options = frame_options(timeout, max_header, None, max_depth)
    check(lib.frame_recv_header(fileno(fd), out, options))
    return IncomingFrame(ExclusiveHandle(out, lib.frame_free))


class OutgoingFrame:
    """A frame whose header is sent and whose body follows in pieces.

    As a context manager it checks at the end of the block that the body is complete: a
    StateError says that it is not, and that the stream is to be closed. One thread at a
    time may use it, another gets a BusyError. The descriptor must stay open, and nothing
    else may be sent on it meanwhile.

    ``timeout`` is for each call, as for :func:`send`.
    """

    def __init__(self, handle: ExclusiveHandle) -> None:
        self._handle = handle

    @property
    def left(self) -> int:
        """Bytes that the body still needs."""
        with self._handle as pointer:
            return int(lib.frame_sender_left(pointer))

    def write(self, piece: Any, *, timeout: float | None = None) -> None:
        """Sends the next piece, of any bytes-like type.

        ArgumentError: it is longer than what the body still needs. FrameTimeoutError: call
        again. In both cases nothing of it was sent. StalledError, SystemCallError: close
        the stream.
        """
        with self._handle as pointer, Buffer(piece) as (address, length):
            check(lib.frame_sender_write(pointer, address, length, frame_options(timeout)))

    def copy_from(
        self,
        fd: Descriptor,
        length: int | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Sends the next ``length`` bytes (None: all that the body still needs) from
        another descriptor, in constant memory.

        The errors of :meth:`write`. TruncatedError: ``fd`` ended early, the body still
        needs the rest.
        """
        with self._handle as pointer, in_position(fd) as number:
            if length is None:
                length = lib.frame_sender_left(pointer)
            length = unsigned(length, "length")
            check(lib.frame_sender_copy(pointer, number, length, frame_options(timeout)))

    def finish(self) -> None:
        """Checks that the body is complete. StateError: the stream is out of step."""
        with self._handle as pointer:
            check(lib.frame_sender_finish(pointer))

    def __enter__(self) -> OutgoingFrame:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()


def send_header(
    fd: Descriptor,
    header: Header | None,
    length: int,
    *,
    timeout: float | None = None,
    max_header: int | None = None,
) -> OutgoingFrame:
    """Sends the header of a frame whose body of ``length`` bytes follows in pieces.

    Parameters and errors are as for :func:`send`.
    """
    text = _headers.encode(header)
    length = unsigned(length, "length")
    out = ctypes.c_void_p()
    check(
        lib.frame_sender_new(fileno(fd), text, length, out, frame_options(timeout, max_header))
    )
    return OutgoingFrame(ExclusiveHandle(out, lib.frame_sender_free))


def send_packet(
    fd: Descriptor,
    data: Any = b"",
    *,
    prefix: Prefix = Prefix(),
    timeout: float | None = None,
) -> None:
    """Sends one packet: its length as ``prefix`` says, and the bytes.

    As :func:`send` otherwise. TooBigError: the prefix cannot say the length.
    """
    options = frame_options(timeout, None, None, None, prefix)
    with Buffer(data) as (address, length):
        check(lib.frame_packet_send(fileno(fd), address, length, options))


def recv_packet(
    fd: Descriptor,
    *,
    prefix: Prefix = Prefix(),
    timeout: float | None = None,
    max_body: int | None = None,
) -> bytes:
    """Receives one packet; an empty one is b"". As :func:`recv` otherwise."""
    out = ctypes.c_void_p()
    check(
        lib.frame_packet_recv(
            fileno(fd), out, frame_options(timeout, None, max_body, None, prefix)
        )
    )
    try:
        return memory(lib.frame_body, out)
    finally:
        lib.frame_free(out)


def reply_error(
    fd: Descriptor,
    request: IncomingFrame | None,
    code: int,
    message: str | None = None,
    *,
    timeout: float | None = None,
) -> None:
    """Sends an error reply to a request, or to bytes that were no frame where it is None.

    ``code`` is an :class:`ErrorCode` (``error.code`` of a FrameError); None as the message
    is the library's line for it. As :func:`send` otherwise.
    """
    text = None if message is None else c_string(message.encode(), "message")
    options = frame_options(timeout)
    if request is None:
        check(lib.frame_reply_error(fileno(fd), None, code, text, options))
    else:
        with request.handle as pointer:
            check(lib.frame_reply_error(fileno(fd), pointer, code, text, options))


def reply_hello(
    fd: Descriptor,
    request: IncomingFrame,
    commands: Iterable[str],
    *,
    timeout: float | None = None,
) -> None:
    """Answers ``{"cmd":"hello"}``: the version, the commands that are served, the limits.

    As :func:`send` otherwise.
    """
    names = c_strings((name.encode() for name in commands), "commands")
    with request.handle as pointer:
        check(lib.frame_reply_hello(fileno(fd), pointer, names, frame_options(timeout)))


@functools.lru_cache(maxsize=128)
def frame_options(
    timeout: float | None = None,
    max_header: int | None = None,
    max_body: int | None = None,
    max_depth: int | None = None,
    prefix: Prefix | None = None,
) -> FrameOptions:
    """Options as the library reads them; it never changes them, so they are shared."""
    return FrameOptions(
        timeout_ms=milliseconds(timeout),
        max_header=limit(max_header, "max_header"),
        max_body=limit(max_body, "max_body"),
        max_depth=limit(max_depth, "max_depth", 2**32 - 1),
        prefix=0 if prefix is None else int(prefix),
    )
