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
from ._arguments import Descriptor, fileno, limit, milliseconds, poll_time
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
    """What a connection is about to do: see :meth:`Connection.inspect`."""

    #: The :class:`ErrorCode` of what broke the connection, or its sending; 0 if nothing did.
    broken: int
    #: Whether this side has ended its direction, and whether the peer has ended its own.
    ended: bool
    peer_ended: bool
    #: What to wait for, as for select.poll(): 0 if nothing.
    read_events: int
    write_events: int
    #: Bytes of a body that were not read yet, and of one that were not given yet.
    to_receive: int
    to_send: int
    #: Bytes that were accepted and not written.
    queued: int


class Pointer(ctypes.c_void_p):
    """A connection in the library: freed with the last reference, and its descriptors are
    closed then. A call holds a reference, so close() in another thread takes nothing away."""

    owned: tuple[Any, ...] = ()

    def __del__(self) -> None:
        if self.value is not None:
            lib.frame_connection_free(self)
        for descriptor in self.owned:
            descriptor.close()


CLOSED = Pointer()


class Core:
    """What every connection has, whatever is sent on it."""

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
        """The descriptor that is read from, or else the one that is written to; -1 when the
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
        """The address of the other end, as :func:`connect` takes it; None if it has none."""
        return address_of(self.fileno(), of_peer=True)

    @property
    def address(self) -> str | None:
        """The address of this end."""
        return address_of(self.fileno(), of_peer=False)

    def inspect(self) -> State:
        """What the connection is about to do, for an event loop of one's own: receive with
        a timeout of 0 until that is a FrameTimeoutError, then wait for the events."""
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
        )

    def flush(self, *, timeout: float | None = None) -> None:
        """Writes all that is queued. FrameTimeoutError: not all of it, call again."""
        self._done(lib.frame_connection_flush(self._pointer, poll_time(timeout)))

    def end(self, *, linger: bool = False, timeout: float | None = None) -> None:
        """Writes what is queued, and ends this direction: the peer sees the end of the
        stream, and what it sends can still be received.

        With ``linger`` that is dropped instead until the peer has ended, too, at most
        256 KiB: else closing with unread input would take the last reply from the peer.
        FrameTimeoutError: call again.
        """
        self._done(lib.frame_connection_end(self._pointer, linger, poll_time(timeout)))

    def abort(self) -> None:
        """Ends every call that waits on this connection, and every later one: they raise an
        AbortedError. For any thread and any signal handler. A socket is shut down, also for
        other processes that have it."""
        if not self.closed:
            lib.frame_connection_abort(self._pointer)

    def unread(self) -> bytes:
        """Gives receiving up for good, and returns what was read ahead: the next part of
        the stream, for whoever goes on with the descriptor."""
        start, length = ctypes.c_void_p(), ctypes.c_size_t()
        self._done(lib.frame_connection_unread(self._pointer, start, length))
        begin = start.value or 0
        data: bytes = memory[begin : begin + length.value]
        return data

    def close(self) -> None:
        """Ends the use of this object; once more does nothing. What is queued is dropped,
        and a call that is at work in another thread is aborted. The descriptors are closed,
        unless they are borrowed. Whatever is called afterwards is a StateError."""
        pointer, self._pointer = self._pointer, CLOSED
        if pointer is CLOSED:
            return
        state = _abi.FrameConnectionState()
        if lib.frame_connection_inspect(pointer, state) == ErrorCode.BUSY:
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
        """The count that a call returned; raises if it is the code of a failure, and what the
        handler of a signal has raised during the call."""
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
    """The same for the library, which asks Python whether a signal has come."""
    return _abi.FrameConnectionOptions(
        flags=_abi.FRAME_CONNECTION_DUPLEX * duplex
        | _abi.FRAME_CONNECTION_EXACT * exact
        | _abi.FRAME_CONNECTION_AS_IS * as_is
        | _abi.FRAME_CONNECTION_KEEPALIVE * keepalive,
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
