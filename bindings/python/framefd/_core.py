"""A connection of the library: how it is made, watched, ended and freed."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypedDict, TypeVar

from . import _abi, _interrupts
from ._abi import ErrorCode
from ._arguments import flag, limit, milliseconds, optional, poll_time
from ._descriptors import Descriptor, fileno, own_timeout
from ._errors import BusyError, FrameError, StateError, code_of, last_error
from ._frames import Prefix
from ._native import lib
from ._views import Views, memory

if TYPE_CHECKING:
    from typing_extensions import Unpack

    Self = TypeVar("Self", bound="Core")


class Options(TypedDict, total=False):
    """How a connection is made: see :class:`Connection`."""

    timeout: float | None
    max_header: int | None
    max_body: int | None
    max_depth: int | None
    max_queue: int | None
    prefix: Prefix | None
    duplex: bool
    exact: bool
    as_is: bool
    keepalive: bool


class State(NamedTuple):
    """The state of a connection: see :meth:`Connection.inspect`."""

    #: The :class:`ErrorCode` that broke the connection or its sending direction, or 0.
    broken: int
    #: Whether this side has ended its direction, and whether the peer has.
    ended: bool
    peer_ended: bool
    #: The events to wait for, as for select.poll(); 0 is none.
    read_events: int
    write_events: int
    #: Bytes of a received body not read yet, and of a begun body not written yet.
    to_receive: int
    to_send: int
    #: Bytes that were accepted and not written.
    queued: int
    #: Whether everything that is sent and received is sealed.
    sealed: bool


class Pointer(ctypes.c_void_p):
    """A connection in the library. With the last reference it is freed and its descriptors
    are closed. A call holds a reference, so close() in another thread is safe."""

    owned: tuple[Any, ...] = ()

    def __del__(self) -> None:
        if self.value is not None:
            lib.frame_connection_free(self)
        for descriptor in self.owned:
            descriptor.close()


CLOSED = Pointer()


class Core:
    """The common part of all connections."""

    _pointer = CLOSED

    def __init__(
        self,
        fd: Descriptor,
        write_fd: Descriptor | None = None,
        *,
        own: bool = True,
        **options: Unpack[Options],
    ) -> None:
        ends = [fd] if write_fd is None or write_fd is fd else [fd, write_fd]
        numbers = [fileno(end) for end in ends]
        objects = [end for end in ends if not isinstance(end, int)]
        if objects and len(objects) < len([number for number in numbers if number >= 0]):
            raise TypeError("both descriptors are ints, or both are objects")
        if options.get("timeout") is None:
            options["timeout"] = own_timeout(fd)
        native = native_options(**options)
        if own and not objects:
            native.flags |= _abi.FRAME_CONNECTION_OWN
        pointer = Pointer()
        # Borrowed objects stay open as long as the connection, too.
        self._descriptors = objects
        code = lib.frame_connection_new(numbers[0], numbers[-1], native, pointer)
        if code < 0:
            raise last_error(code)
        if own:
            pointer.owned = tuple(objects)
        self._take(pointer)

    @classmethod
    def _made(cls: type[Self], make: Any) -> Self:
        """A connection that ``make(pointer)`` makes."""
        pointer = Pointer()
        code = make(pointer)
        if code < 0:
            raise last_error(code)
        self = cls.__new__(cls)
        self._descriptors = []
        self._take(pointer)
        return self

    def _take(self, pointer: Pointer) -> None:
        self._views = Views(1)
        self._view = ctypes.byref(self._views.array)
        self._lent: dict[int, FrameType] = {}
        self._pointer = pointer

    def fileno(self) -> int:
        """The read descriptor, or the write descriptor if there is none; -1 when the
        connection is closed."""
        if self.closed:
            return -1
        state = self._state()
        return int(state.read_fd if state.read_fd >= 0 else state.write_fd)

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._pointer is CLOSED

    @property
    def peer(self) -> str | None:
        """The address of the peer, as for :func:`connect`; None if it has none."""
        return address_of(self.fileno(), of_peer=True)

    @property
    def address(self) -> str | None:
        """The address of this side."""
        return address_of(self.fileno(), of_peer=False)

    def inspect(self) -> State:
        """The state of the connection. With your own event loop, receive with a timeout of 0
        until a FrameTimeoutError, then wait for the events."""
        state = self._state()
        return State(
            code_of(state.broken) if state.broken else 0,
            bool(state.flags & _abi.FRAME_STATE_ENDED),
            bool(state.flags & _abi.FRAME_STATE_PEER_ENDED),
            state.read_events,
            state.write_events,
            state.to_receive,
            state.to_send,
            state.queued,
            bool(state.flags & _abi.FRAME_STATE_SEALED),
        )

    def flush(self, *, timeout: float | None = None) -> None:
        """Writes all queued bytes. FrameTimeoutError: not all were written, call again."""
        self._done(lib.frame_connection_flush(self._pointer, poll_time(timeout)))

    def end(self, *, linger: bool = False, timeout: float | None = None) -> None:
        """Writes all queued bytes, and ends this direction: the peer sees the end of the
        stream. Its messages can still be received.

        With ``linger`` at most 256 KiB are read and dropped until the peer has ended its
        direction too: if a socket is closed with unread input, the peer may lose the last
        reply. FrameTimeoutError: call again.
        """
        self._done(lib.frame_connection_end(self._pointer, bool(linger), poll_time(timeout)))

    def abort(self) -> None:
        """Aborts the connection: waiting and later calls raise an AbortedError. For any
        thread and any signal handler. A socket is shut down, for all its processes."""
        if not self.closed:
            lib.frame_connection_abort(self._pointer)

    def unread(self) -> bytes:
        """Stops receiving for good, and returns the bytes that were read ahead. They are the
        next part of the stream, for code that continues to read from the descriptor.
        StateError: the connection is sealed."""
        start, length = ctypes.c_void_p(), ctypes.c_size_t()
        self._done(lib.frame_connection_unread(self._pointer, start, length))
        begin = start.value or 0
        data: bytes = memory[begin : begin + length.value]
        return data

    def close(self) -> None:
        """Closes the connection; a second call does nothing. Queued bytes are dropped, and a
        running call of another thread is aborted. The descriptors are closed, unless they are
        borrowed. A sealed connection is ended before, as by :meth:`end`, if that does not
        take time. Later calls raise a StateError."""
        pointer, self._pointer = self._pointer, CLOSED
        if pointer is CLOSED:
            return
        if self._is_sealed(pointer):
            lib.frame_connection_end(pointer, False, 0)
        state, start, length = _abi.FrameConnectionState(), ctypes.c_void_p(), ctypes.c_size_t()
        # A receive of another thread that has not begun yet finds that nothing can be received.
        stopped = lib.frame_connection_unread(pointer, start, length)
        inspected = lib.frame_connection_inspect(pointer, state)
        # So it does on a sealed connection, which has nothing to return.
        if stopped == ErrorCode.STATE or ErrorCode.BUSY in (stopped, inspected):
            lib.frame_connection_abort(pointer)
        self._descriptors = []

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and not self.closed and self._has_queued():
                self.flush()
        finally:
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a connection cannot be copied or pickled: pass on its socket")

    def __repr__(self) -> str:
        name = f"{type(self).__module__.partition('.')[0]}.{type(self).__name__}"
        if self.closed:
            return f"<{name}, closed>"
        return f"<{name} {self.fileno()}{f' to {self.peer}' if self.peer else ''}>"

    # For the classes of messages, commands and files.

    def _done(self, code: int) -> int:
        """The count that a call returned. Raises if it is the code of a failure, or if a
        signal handler has raised during the call."""
        if code < 0:
            raise self._failed(code)
        if _interrupts.raised:
            error = _interrupts.kept()
            if error is not None:
                raise error
        return code

    def _failed(self, code: int) -> BaseException:
        if self.closed:
            return StateError(ErrorCode.STATE, "the connection is closed")
        return last_error(code)

    def _state(self) -> _abi.FrameConnectionState:
        state = _abi.FrameConnectionState()
        self._done(lib.frame_connection_inspect(self._pointer, state))
        return state

    @staticmethod
    def _is_sealed(pointer: Pointer) -> bool:
        state = _abi.FrameConnectionState()
        code = lib.frame_connection_inspect(pointer, state)
        return code == 0 and bool(state.flags & _abi.FRAME_STATE_SEALED)

    def _has_queued(self) -> bool:
        with contextlib.suppress(FrameError):
            state = self._state()
            return bool(state.queued and not state.broken)
        return False

    def _borrow(self, me: FrameType) -> None:
        """Notes that the function of frame ``me`` copies what the library lends, which the
        next receive would overwrite. Its `finally` is ``_lent.pop(0, None)``; an exception
        of a signal's handler can skip that, and then its frame has ended, which is seen."""
        if self._lent.setdefault(0, me) is me:
            return
        with _taking_over:
            owner = self._lent.setdefault(0, me)
            if owner is me:
                return
            try:
                owner.clear()
            except RuntimeError:  # it is running
                raise BusyError(ErrorCode.BUSY, "another thread is receiving") from None
            self._lent[0] = me


_taking_over = threading.Lock()

this_frame = sys._getframe


def native_options(
    *,
    timeout: float | None = None,
    connect_timeout: float | None = None,
    max_header: int | None = None,
    max_body: int | None = None,
    max_depth: int | None = None,
    max_queue: int | None = None,
    prefix: Prefix | None = None,
    duplex: bool = False,
    exact: bool = False,
    as_is: bool = False,
    keepalive: bool = False,
) -> _abi.FrameConnectionOptions:
    """The options as the library's struct, with the hook that runs signal handlers."""
    optional(prefix, Prefix, "a prefix is a Prefix")
    return _abi.FrameConnectionOptions(
        flags=flag(_abi.FRAME_CONNECTION_DUPLEX, duplex)
        | flag(_abi.FRAME_CONNECTION_EXACT, exact)
        | flag(_abi.FRAME_CONNECTION_AS_IS, as_is)
        | flag(_abi.FRAME_CONNECTION_KEEPALIVE, keepalive),
        timeout_ms=milliseconds(timeout),
        connect_timeout_ms=milliseconds(connect_timeout),
        max_header=limit(max_header, "max_header"),
        max_body=limit(max_body, "max_body"),
        max_depth=limit(max_depth, "max_depth", 2**32 - 1),
        max_queue=limit(max_queue, "max_queue"),
        format=_abi.FRAME_FORMAT_FRAMES if prefix is None else _abi.FRAME_FORMAT_PACKETS,
        prefix=0 if prefix is None else int(prefix),
        **_interrupts.MEMBERS,
    )


def address_of(fd: int, *, of_peer: bool) -> str | None:
    """The text of a socket's address; None if it has none."""
    room = ctypes.create_string_buffer(ADDRESS_ROOM)
    length = lib.frame_address(fd, of_peer, room, len(room))
    return room.value.decode("utf-8", "surrogateescape") if length >= 0 else None


# More than any address: a Unix socket's path has 108 bytes.
ADDRESS_ROOM = 256
