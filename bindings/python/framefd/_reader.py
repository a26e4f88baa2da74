"""A buffer to read many small frames through."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from itertools import chain, islice
from operator import length_hint
from typing import Any

from . import _headers
from ._abi import ErrorCode
from ._arguments import Buffer, Descriptor, fileno, in_position, limit, milliseconds, unsigned
from ._errors import ClosedError, MalformedError, StateError, check, last_error
from ._frames import LARGEST_READ, Frame, Prefix, frame_options
from ._handles import ExclusiveHandle, busy, memory
from ._native import lib
from ._views import Views
from ._writer import Writer

# Frames that iteration takes at once.
BATCH = 256


class Reader:
    """Reads frames and packets from one descriptor through a buffer: one system call, and
    one call of the library, bring as many frames as are there.

    >>> with framefd.Reader(sock) as reader:
    ...     for header, body in reader:
    ...         ...

    Iteration is what is fast: it takes all frames that have come, whatever follows them,
    and ends where the other end closes. recv(), recv_packet() and recv_header() take one
    thing at a time, so that frames, packets and other bytes may follow each other; after
    iterating they raise a StateError while frames are left that were taken and not given,
    except for recv() and recv_many(), which give them.

    The limits are as for :func:`recv`, ``prefix`` is for packets, and ``timeout`` for each
    call that names none: None and math.inf are for ever, 0 is not to wait.
    FrameTimeoutError: nothing is lost, call again. The errors of :func:`recv` otherwise;
    those of the stream come after all frames before them, and again with every later call.

    The descriptor is read beyond what was given: ``rest`` is for whoever reads on without
    the reader. One thread at a time may use it, another gets a BusyError. It keeps the
    descriptor's object alive, not open, and does not close it.
    """

    def __init__(
        self,
        fd: Descriptor,
        *,
        timeout: float | None = None,
        max_header: int | None = None,
        max_body: int | None = None,
        max_depth: int | None = None,
        prefix: Prefix = Prefix(),
    ) -> None:
        options = frame_options(timeout, max_header, max_body, max_depth, prefix)
        out = ctypes.c_void_p()
        check(lib.frame_reader_new(fileno(fd), out, options))
        self._fd = fd
        self._open: ExclusiveHandle | None = ExclusiveHandle(out, lib.frame_reader_free)
        self._one = Views(1)
        self._batch: Views | None = None
        self._ahead: Iterator[Frame] = iter([])
        self._failed: MalformedError | None = None
        self._streamed: StreamedFrame | None = None
        self._writer: Writer | None = None

    def recv(self, *, timeout: float | None = None) -> Frame:
        """Receives one frame. ClosedError: the other end closed between frames."""
        for frame in self._ahead:
            return frame
        handle = self._handle
        if not handle.lock.acquire(False):  # a `with` block would take longer
            raise busy()
        try:
            time = 0
            if timeout is not None or self._writer is not None or self._failed is not None:
                time = self.before_waiting(timeout)
            count = lib.frame_reader_next(handle.pointer, self._one.pointer, 1, time)
            if count < 0:
                raise last_error(count)
            return self._one.frame()
        except MalformedError as error:
            self._failed = error
            raise
        finally:
            handle.lock.release()

    def recv_many(self, most: int = BATCH, *, timeout: float | None = None) -> list[Frame]:
        """Receives the frames that are there, at least one and ``most`` at most."""
        most = limit(most, "most")
        frames = list(islice(self._ahead, most))
        if not frames:
            views = self._views() if most >= BATCH else Views(most)
            frames = self._taken(views, timeout)
        return frames

    def __iter__(self) -> Iterator[Frame]:
        return chain.from_iterable(iter(self._more, None))

    def recv_packet(self, *, timeout: float | None = None) -> bytes:
        """Receives one packet; an empty one is b""."""
        with self._handle as pointer:
            self._check_nothing_is_ahead()
            time = self.before_waiting(timeout)
            check(lib.frame_reader_next_packet(pointer, self._one.pointer, 1, time))
            return self._one.body()

    def recv_header(self, *, timeout: float | None = None) -> StreamedFrame:
        """Receives the header of a frame, whose body of any size is then read in pieces.
        It has to be read or skipped before the next frame."""
        with self._handle as pointer:
            self._check_nothing_is_ahead()
            time = self.before_waiting(timeout)
            check(lib.frame_reader_next_header(pointer, self._one.pointer, time))
            try:
                header = _headers.decode(self._one.header())
            except MalformedError as error:
                self._failed = error
                raise
            self._streamed = StreamedFrame(self, header)
            return self._streamed

    def at(self, frame: StreamedFrame) -> ExclusiveHandle:
        """What the body of a frame is read from, as long as no later frame was asked for."""
        if frame is not self._streamed:
            raise StateError(ErrorCode.STATE, "the reader is at a later frame")
        return self._handle

    @property
    def rest(self) -> bytes:
        """What was read from the descriptor and not taken."""
        with self._handle as pointer:
            self._check_nothing_is_ahead()
            return memory(lib.frame_reader_rest, pointer)

    def tie(self, writer: Writer | None) -> None:
        """Ties a writer to this reader, so that two ends that write to each other never wait
        for each other: before the reader waits, the writer sends what it has queued; and
        while the writer waits for the other end to read, the reader takes in what that
        sends, up to 64 MiB.

        They may be of one descriptor or of two. From then on one thread at a time may use
        either. None unties, and so does closing either of them; each can be tied to one
        other.
        """
        former = self._writer
        if former is not None:
            with self._handle as pointer:
                check(lib.frame_reader_tie(pointer, None))
            self._writer = None
            former.tied(None, None)
        if writer is not None:
            with self._handle as pointer:
                writer.tied(self, self._handle)
                check(lib.frame_reader_tie(pointer, writer.handle.pointer))
                self._writer = writer

    def fileno(self) -> int:
        """The descriptor."""
        self._handle  # noqa: B018 - or it is closed
        return fileno(self._fd)

    def close(self) -> None:
        """Ends the use of this object, with all that it has read and not given; once more
        is nothing. The descriptor stays open. Whatever else is called afterwards is a
        StateError."""
        if self._open is not None:
            self.tie(None)
            self._open = None
            self._ahead = iter([])

    @property
    def _handle(self) -> ExclusiveHandle:
        handle = self._open
        if handle is None:
            raise StateError(ErrorCode.STATE, "the reader is closed")
        return handle

    def _views(self) -> Views:
        if self._batch is None:
            self._batch = Views(BATCH)
        return self._batch

    def _more(self) -> Iterator[Frame] | None:
        """Frames for iteration; None where the other end has closed."""
        if not length_hint(self._ahead):
            try:
                self._ahead = iter(self._taken(self._views(), None))
            except ClosedError:
                return None
        return self._ahead

    def _taken(self, views: Views, timeout: float | None) -> list[Frame]:
        """The frames that are there, as many as the views have room for."""
        with self._handle as pointer:
            time = self.before_waiting(timeout)
            count = lib.frame_reader_next(pointer, views.pointer, views.most, time)
            if count < 0:
                raise last_error(count)
            frames, self._failed = views.frames(count)
        if self._failed is not None and not frames:
            raise self._failed
        return frames

    def before_waiting(self, timeout: float | None) -> int:
        """Has a tied writer give what it keeps; the time in milliseconds."""
        if self._failed is not None:
            raise self._failed.with_traceback(None)
        time = milliseconds(timeout)
        if self._writer is not None:
            self._writer.give_what_is_kept(time)
        return time

    def _check_nothing_is_ahead(self) -> None:
        if length_hint(self._ahead):
            raise StateError(ErrorCode.STATE, "frames that were taken by iterating are left")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StreamedFrame:
    """A frame whose body a :class:`Reader` still has to read, in pieces of any size: what
    recv_header() returns.

    ``header`` is as in :class:`Frame`. As a context manager it drops what is left of the
    body when the block ends well, so that the next frame can be received.

    ``timeout`` is for each call, as for the reader. Every method raises TruncatedError
    where the stream ends early, SystemCallError, and StateError once the reader has gone
    on to a later frame.
    """

    def __init__(self, reader: Reader, header: _headers.Header) -> None:
        self.header = header
        self._reader = reader

    @property
    def left(self) -> int:
        """Bytes of the body that were not read yet."""
        with self._reader.at(self) as pointer:
            return int(lib.frame_reader_left(pointer))

    def read(self, size: int = LARGEST_READ, *, timeout: float | None = None) -> bytes:
        """1 to ``size`` bytes (1 MiB at most) as they come; b"" at the end of the body.

        FrameTimeoutError: nothing was lost, call again.
        """
        size = min(unsigned(size, "size"), LARGEST_READ)
        with self._reader.at(self) as pointer:
            size = min(size, lib.frame_reader_left(pointer))
            room = ctypes.create_string_buffer(size or 1)
            time = self._reader.before_waiting(timeout)
            count = check(lib.frame_reader_read(pointer, room, size, time))
        return ctypes.string_at(room, count)

    def readinto(self, target: Any, *, timeout: float | None = None) -> int:
        """Reads into a writable bytes-like object, as :meth:`read`; returns the count."""
        with self._reader.at(self) as pointer:
            with Buffer(target, writable=True) as (address, length):
                time = self._reader.before_waiting(timeout)
                return check(lib.frame_reader_read(pointer, address, length, time))

    def copy_to(self, fd: Descriptor, *, timeout: float | None = None) -> None:
        """Copies the rest of the body to another descriptor, in constant memory.

        FrameTimeoutError: all that was read was written, call again. StalledError,
        SystemCallError, NoSpaceError: bytes may be missing in ``fd``, but :meth:`skip`
        still leads to the next frame.
        """
        with self._reader.at(self) as pointer, in_position(fd) as number:
            time = self._reader.before_waiting(timeout)
            check(lib.frame_reader_copy(pointer, number, time))

    def skip(self, *, timeout: float | None = None) -> None:
        """Drops the rest of the body. FrameTimeoutError: call again."""
        with self._reader.at(self) as pointer:
            check(lib.frame_reader_skip(pointer, self._reader.before_waiting(timeout)))

    def __enter__(self) -> StreamedFrame:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.skip()
