"""A queue to write many small frames through."""

from __future__ import annotations

import contextlib
import ctypes
import warnings
from array import array
from collections.abc import Callable, Iterable
from itertools import accumulate, islice, repeat
from typing import Any, Protocol

from . import _headers
from ._abi import ErrorCode
from ._arguments import Buffer, Descriptor, countdown, fileno
from ._errors import FrameError, StateError, check, last_error
from ._frames import Prefix, frame_options
from ._handles import ExclusiveHandle, busy
from ._native import lib, python

# Bodies up to this size, without a header, are kept here until there are so many of them:
# one call then gives them all to the library.
KEPT_SIZE = 2048
KEPT = 256

# Fewer than this are given one by one, and so are larger ones: copied together they would
# take longer.
TOGETHER = 4
TOGETHER_SIZE = 16384


class Tied(Protocol):
    """A reader that a writer is tied to."""

    def tie(self, writer: Writer | None) -> None: ...


class Writer:
    """Writes frames and packets to one descriptor through a queue: small ones go out
    together.

    >>> with framefd.Writer(sock) as writer:
    ...     for body in bodies:
    ...         writer.send(body=body)

    What is queued is written as the queue fills up, by flush(), at the end of the block
    unless an exception ends it, and before a reader that is tied to it waits
    (:meth:`Reader.tie`). Of a writer that goes away with frames in its queue nothing more
    is written, since its descriptor may be another's by then: that is a ResourceWarning.

    ``max_header`` is as for :func:`send`, ``prefix`` is for packets, and ``timeout`` for
    each call that names none: None and math.inf are for ever, 0 is not to wait. A message
    is accepted whole or not at all. FrameTimeoutError: the queue is full, and the message
    was not accepted; nothing is lost, call again. ValueError, TypeError: as for
    :func:`send`. DisconnectedError, SystemCallError: every later call raises it, too.

    One thread at a time may use it, another gets a BusyError. It keeps the descriptor's
    object alive, not open, and does not close it.
    """

    _open: ExclusiveHandle | None = None

    def __init__(
        self,
        fd: Descriptor,
        *,
        timeout: float | None = None,
        max_header: int | None = None,
        prefix: Prefix = Prefix(),
    ) -> None:
        options = frame_options(timeout, max_header, None, None, prefix)
        out = ctypes.c_void_p()
        check(lib.frame_writer_new(fileno(fd), out, options))
        self._open = ExclusiveHandle(out, lib.frame_writer_free)
        self._fd = fd
        self._timeout = timeout
        self._reader: Tied | None = None
        self._kept: list[bytes] = []
        self._most_kept = KEPT

    def send(
        self,
        header: _headers.Header | None = None,
        body: Any = b"",
        *,
        timeout: float | None = None,
    ) -> None:
        """Sends one frame, later or at once; the body is of any bytes-like type."""
        if not header and type(body) is bytes and len(body) <= KEPT_SIZE:
            kept = self._kept
            if len(kept) >= self._most_kept:
                with self.handle as pointer:
                    self._give(pointer, self._countdown(timeout))
            kept.append(body)
            return
        text = _headers.encode(header)
        left = self._countdown(timeout)
        with self.handle as pointer, Buffer(body) as (address, length):
            self._give_all(pointer, left)
            check(lib.frame_writer_send(pointer, text, address, length, left()))

    def send_many(self, frames: Iterable[Any], *, timeout: float | None = None) -> int:
        """Sends many frames, each a body or a ``(header, body)``, which a :class:`Frame` is.

        Returns how many were accepted: all, or less where the time was up. Where not even
        the first one was, that is a FrameTimeoutError. Any other error, such as a ValueError
        for a header, comes after those before it were accepted.
        """
        left = self._countdown(timeout)
        accepted = 0
        source = iter(frames)
        with self.handle as pointer:
            self._give_all(pointer, left)
            while chunk := list(islice(source, KEPT)):
                texts, bodies = split(chunk)
                given = 0
                while given < len(bodies):
                    count = give(pointer, texts and texts[given:], bodies[given:], left)
                    if count == ErrorCode.TIMEDOUT and accepted > 0:
                        return accepted
                    given += check(count)
                    accepted += count
        return accepted

    def send_packet(self, data: Any = b"", *, timeout: float | None = None) -> None:
        """Sends one packet, later or at once. TooBigError: the prefix cannot say its length."""
        left = self._countdown(timeout)
        with self.handle as pointer, Buffer(data) as (address, length):
            self._give_all(pointer, left)
            check(lib.frame_writer_send_packet(pointer, address, length, left()))

    def flush(self, *, timeout: float | None = None) -> None:
        """Writes all that is queued. FrameTimeoutError: ``left`` is the rest, call again."""
        left = self._countdown(timeout)
        handle = self.handle
        if not handle.lock.acquire(False):  # a `with` block would take longer
            raise busy()
        try:
            if self._kept:
                self._give_all(handle.pointer, left)
            code = lib.frame_writer_flush(handle.pointer, left())
            if code < 0:
                raise last_error(code)
        finally:
            handle.lock.release()

    @property
    def left(self) -> int:
        """Bytes that were accepted and not written."""
        with self.handle as pointer:
            kept = sum(encoded_size(body) for body in self._kept)
            return int(lib.frame_writer_left(pointer)) + kept

    def fileno(self) -> int:
        """The descriptor."""
        self.handle  # noqa: B018 - or it is closed
        return fileno(self._fd)

    def close(self) -> None:
        """Writes all that is queued, and ends the use of this object; once more is nothing.
        The descriptor stays open. Whatever else is called afterwards is a StateError."""
        if self._open is not None:
            try:
                self.flush()
            finally:
                self._let_go()

    @property
    def handle(self) -> ExclusiveHandle:
        handle = self._open
        if handle is None:
            raise StateError(ErrorCode.STATE, "the writer is closed")
        return handle

    def tied(self, reader: Tied | None, handle: ExclusiveHandle | None) -> None:
        """Notes the reader it is tied to, which keeps that alive, and how that is locked."""
        if reader is not None and self._reader is not None:
            self._reader.tie(None)
        with self.handle:
            pass  # not in use, or that is a BusyError
        self.handle.share(handle)
        self._reader = reader

    def give_what_is_kept(self, time: int) -> None:
        """For the tied reader, which has locked both. Should it fail, the next call tells."""
        if self._kept:
            with contextlib.suppress(FrameError):
                self._give(self.handle.pointer, lambda: time)

    def _countdown(self, timeout: float | None) -> Callable[[], int]:
        if timeout is None:
            timeout = self._timeout
        return default_time if timeout is None else countdown(timeout)

    def _give_all(self, pointer: int, left: Callable[[], int]) -> None:
        while self._kept:
            self._give(pointer, left)

    def _give(self, pointer: int, left: Callable[[], int]) -> None:
        """Gives the library what is kept here, as far as it accepts that; at least one."""
        kept = self._kept
        if len(kept) == 1:
            code = lib.frame_writer_send(pointer, None, kept[0], len(kept[0]), left())
            count = code or 1
        else:
            count = give(pointer, None, kept, left)
        if count < 0:
            raise last_error(count)
        del kept[:count]

    def _let_go(self) -> None:
        if self._reader is not None:
            self._reader.tie(None)
        self._open = None
        self._kept = []
        self._most_kept = 0  # so that send() finds out

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._let_go()

    def __del__(self) -> None:
        if self._open is not None and (
            self._kept or lib.frame_writer_left(self._open.pointer) > 0
        ):
            text = f"frames in the queue of {self!r} are lost: flush() goes before"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)


def default_time() -> int:
    return 0


def split(frames: list[Any]) -> tuple[list[bytes | None] | None, list[bytes]]:
    """The texts of the headers, if there are any, and the bodies."""
    if set(map(type, frames)) == {bytes}:
        return None, frames
    texts: list[bytes | None] = []
    bodies: list[bytes] = []
    for frame in frames:
        header, body = frame if isinstance(frame, tuple) else (None, frame)
        texts.append(_headers.encode(header))
        bodies.append(body if type(body) is bytes else memoryview(body).tobytes())
    return texts, bodies


def give(
    pointer: int, texts: list[bytes | None] | None, bodies: list[bytes], left: Callable[[], int]
) -> int:
    """Gives frames to the library: how many it accepted or, if not even the first, why."""
    count = len(bodies)
    sizes = array("L", map(len, bodies))  # a size_t, on Linux
    if count < TOGETHER or sum(sizes) > count * TOGETHER_SIZE:
        return give_one_by_one(pointer, texts, bodies, left)
    block = b"".join(bodies)
    starts = array("L", accumulate(sizes, initial=python.PyBytes_AsString(block)))
    return int(
        lib.frame_writer_send_many(
            pointer,
            texts and (ctypes.c_char_p * count)(*texts),
            (ctypes.c_void_p * count).from_buffer(starts),
            (ctypes.c_size_t * count).from_buffer(sizes),
            count,
            left(),
        )
    )


def give_one_by_one(
    pointer: int, texts: list[bytes | None] | None, bodies: list[bytes], left: Callable[[], int]
) -> int:
    for accepted, (text, body) in enumerate(zip(texts or repeat(None), bodies)):
        code = lib.frame_writer_send(pointer, text, body, len(body), left())
        if code < 0:
            return accepted or int(code)
    return len(bodies)


def encoded_size(body: bytes) -> int:
    """Bytes of a frame without a header."""
    return int(check(lib.frame_encode(None, 0, None, len(body), None))) + len(body)
