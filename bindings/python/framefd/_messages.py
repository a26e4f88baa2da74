"""Messages and calls on a connection."""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple, Union

from . import _headers
from ._abi import FRAME_DEFAULT_TIMEOUT, ErrorCode, FrameView
from ._arguments import (
    C_INT_MAX,
    Buffer,
    BytesLike,
    at_least_1,
    c_string,
    checked,
    optional,
    poll_time,
    unsigned,
    wrong,
)
from ._core import Core, this_frame
from ._descriptors import Descriptor, in_position
from ._errors import ClosedError, FrameError, make
from ._handles import taken
from ._headers import Header
from ._native import lib, untyped
from ._views import Frame, Views

# The most bytes that read() returns, and that write_from() and read_to() copy at once.
LARGEST_READ = 1 << 20

# The most messages of one call of the library.
BATCH = 256

ERROR = "an error is an ErrorCode or a FrameError"

# A struct frame_view. In CPython the id of a bytes object is its address, and its content,
# with a NUL behind it, is the last of the object: a tenth of the time that ctypes takes.
VIEW_SIZE = ctypes.sizeof(FrameView)
BYTES_START = bytes.__basicsize__ - 1
packed_view = struct.Struct("4N").pack

untyped_send = untyped("frame_connection_send")
untyped_next = untyped("frame_connection_next")
untyped_queue = untyped("frame_connection_queue")


class Head(NamedTuple):
    """The header of a message whose body, of ``body_len`` bytes, was not read yet.

    ``text`` is the header's JSON text as it was received.
    """

    header: Header
    body_len: int
    text: bytes


#: A message to send: a body, or a header and a body, such as a Frame.
Message = Union[BytesLike, tuple[Union[Header, None], BytesLike]]

#: A request that is answered: what a receive gave, or its header alone; None for bytes that
#: were no message.
Request = Union[Frame, Head, Header, None]


class Messages(Core):
    """Messages of a connection: whole, in pieces, and in calls."""

    def send(
        self,
        header: Header | None = None,
        body: BytesLike = b"",
        *,
        timeout: float | None = None,
    ) -> bool:
        """Sends one message: a header, and a body of any bytes-like type.

        Returns True if the whole message was written. False: it was accepted, but a part is
        queued; that is written by the next send or before a receive waits. Do not send it
        again.

        FrameTimeoutError: nothing was accepted; it can be sent again. ValueError, TypeError:
        the message is not valid; nothing was sent. StateError: a body in pieces is not
        complete, or end() was called. DisconnectedError, SystemCallError: nothing can be sent
        any more, but messages that the peer has sent can be received.
        """
        text = None if header is None else _headers.encode(header)
        time = FRAME_DEFAULT_TIMEOUT if timeout is None else poll_time(timeout)
        if type(body) is bytes and len(body) <= C_INT_MAX:
            code = untyped_send(self._pointer, text, body, len(body), time)
        else:
            with Buffer(body) as (address, length):
                code = lib.frame_connection_send(self._pointer, text, address, length, time)
        if code == 0:
            return True
        self._done(code)
        return False

    def queue(
        self,
        header: Header | None = None,
        body: BytesLike = b"",
        *,
        timeout: float | None = None,
    ) -> None:
        """Queues a message, to be written together with others: once there are 64 KiB, by
        flush(), before a receive waits, and at the end of a `with` block.

        It waits only while more than ``max_queue`` bytes would be queued. Raises as send().
        For many messages :meth:`queue_many` takes a fraction of the time.
        """
        text = None if header is None else _headers.encode(header)
        if type(body) is not bytes:
            body = as_bytes(body)
        if text is None:
            view = packed_view(0, 0, id(body) + BYTES_START, len(body))
        else:
            start, body_start = id(text) + BYTES_START, id(body) + BYTES_START
            view = packed_view(start, len(text), body_start, len(body))
        time = FRAME_DEFAULT_TIMEOUT if timeout is None else poll_time(timeout)
        code = untyped_queue(self._pointer, view, 1, time)
        if code < 0:
            raise self._failed(code)

    def queue_many(self, messages: Iterable[Message], *, timeout: float | None = None) -> int:
        """Queues many messages, each a body or a ``(header, body)`` such as a :class:`Frame`.

        Returns the number of accepted messages: all, or fewer after a timeout.
        FrameTimeoutError: none was accepted. Before any other error, such as a ValueError for
        a header, the messages before it were accepted. ``timeout`` is for each 256 of them.
        """
        time = poll_time(timeout)
        accepted = 0
        source = each(messages)
        while chunk := list(islice(source, BATCH)):
            texts, bodies = split(chunk)
            views = as_views(texts, bodies)
            count = lib.frame_connection_queue(self._pointer, views, len(bodies), time)
            if count == ErrorCode.TIMEDOUT and accepted > 0:
                break
            accepted += self._done(count)
            if count < len(bodies):
                # A timeout, or a refused message? Sending it shows which.
                rest = as_views(texts[count : count + 1], bodies[count : count + 1])
                code = lib.frame_connection_queue(self._pointer, rest, 1, 0)
                if code == ErrorCode.TIMEDOUT:
                    break
                accepted += self._done(code)
                source = chain(chunk[count + 1 :], source)
        return accepted

    def recv(self, *, timeout: float | None = None) -> Frame:
        """Receives one message into memory.

        FrameTimeoutError: nothing is lost, call again. ClosedError: the peer closed the
        stream between two messages. These break the connection: TruncatedError,
        MalformedError, TooBigError (above ``max_header`` or ``max_body``), SystemCallError.
        """
        me = this_frame()
        if self._lent.setdefault(0, me) is not me:
            self._borrow(me)
        try:
            time = FRAME_DEFAULT_TIMEOUT if timeout is None else poll_time(timeout)
            code = untyped_next(self._pointer, self._view, 1, time)
            if code < 0:
                raise self._failed(code)
            return self._views.frame()
        finally:
            self._lent.pop(0, None)

    def recv_many(self, most: int = BATCH, *, timeout: float | None = None) -> list[Frame]:
        """Receives at most ``most`` messages: those that were received already, or it waits
        for one. They are copies. Raises as recv(), after all messages before the failure."""
        self._borrow(this_frame())
        try:
            views = Views(min(at_least_1(most, "most"), BATCH))
            pointer, time = self._pointer, poll_time(timeout)
            count = lib.frame_connection_next(pointer, views.array[0], views.most, time)
            if count < 0:
                raise self._failed(count)
            frames, error = views.frames(count)
            if error is not None and not frames:
                raise error
            return frames
        finally:
            self._lent.pop(0, None)

    def __iter__(self) -> Iterator[Frame]:
        """Iterates over received messages, until the peer closes the stream. It receives one
        at a time, so that the loop can be left, and other calls can receive in it. For many
        small messages :meth:`recv_many` takes a third of the time."""
        while True:
            try:
                frame = self.recv()
            except ClosedError:
                return
            yield frame

    def recv_header(self, *, timeout: float | None = None) -> Head:
        """Receives the header of the next message. Read its body, of any size, with read(),
        readinto(), read_to() or pieces(). The unread rest is dropped when the next message is
        received. Raises as recv()."""
        length = ctypes.c_uint64()
        self._borrow(this_frame())
        try:
            code = lib.frame_connection_recv_header(
                self._pointer, poll_time(timeout), self._views.array[0], length
            )
            if code < 0:
                raise self._failed(code)
            text = self._views.header()
            return Head(_headers.decode(text), length.value, text)
        finally:
            self._lent.pop(0, None)

    @property
    def to_receive(self) -> int:
        """Bytes of the body that were not read yet."""
        return int(self._state().to_receive)

    def read(self, size: int = LARGEST_READ, *, timeout: float | None = None) -> bytes:
        """Returns 1 to ``size`` bytes of the body (at most 1 MiB) as they are received; b""
        at its end. Raises as recv()."""
        size = min(unsigned(size, "size"), LARGEST_READ)
        if size == 0:
            return b""
        room = ctypes.create_string_buffer(min(size, self.to_receive) or 1)
        count = lib.frame_connection_read(self._pointer, room, len(room), poll_time(timeout))
        return ctypes.string_at(room, self._done(count))

    def readinto(self, target: BytesLike, *, timeout: float | None = None) -> int:
        """Reads 1 byte or more of the body into a writable bytes-like object, as
        :meth:`read`; returns the number."""
        with Buffer(target, writable=True) as (address, length):
            if length == 0:
                return 0
            time = poll_time(timeout)
            return self._done(lib.frame_connection_read(self._pointer, address, length, time))

    def read_to(self, file: Descriptor, *, timeout: float | None = None) -> int:
        """Copies the rest of the body to a descriptor or file object, in constant memory.
        Returns the number of bytes, less than the rest after a timeout.

        SystemCallError, NoSpaceError: ``file`` cannot be written; the rest of the body can
        still be read. Otherwise raises as recv().
        """
        with in_position(file, to_read=False) as number:
            count = lib.frame_connection_read_to(self._pointer, number, poll_time(timeout))
            return self._done(count)

    def pieces(self, size: int = LARGEST_READ) -> Iterator[bytes]:
        """Iterates over the rest of the body in pieces of 1 to ``size`` bytes, as they are
        received."""
        size = at_least_1(size, "size")
        return iter(lambda: self.read(size), b"")

    def begin(self, header: Header | None, body_len: int) -> None:
        """Begins a message with a body of ``body_len`` bytes, any number. Pass the body in
        pieces with write() and write_from(). Until it is complete every other send raises a
        StateError. Raises as send(). It never waits."""
        text = _headers.encode(header)
        length = unsigned(body_len, "body_len")
        self._done(lib.frame_connection_begin(self._pointer, text, length))

    @property
    def to_send(self) -> int:
        """Bytes that the begun body still needs."""
        return int(self._state().to_send)

    def write(self, piece: BytesLike, *, timeout: float | None = None) -> int:
        """Sends the next piece of the body, of any bytes-like type. Returns the number of
        accepted bytes: all, or fewer after a timeout; pass the others again.

        ArgumentError: it is longer than the body still needs; nothing was accepted. Otherwise
        raises as send().
        """
        with Buffer(piece) as (address, length):
            time = poll_time(timeout)
            count = lib.frame_connection_write(self._pointer, address, length, time)
            return self._done(count)

    def write_from(
        self, file: Descriptor, length: int | None = None, *, timeout: float | None = None
    ) -> int:
        """Sends the next ``length`` bytes of the body (None: all that it still needs) from a
        descriptor or file object, in constant memory.

        Returns the number of accepted bytes: fewer if ``file`` has ended, or after a timeout.
        All bytes that were read from ``file`` were accepted. SystemCallError: ``file`` cannot
        be read; the rest can still be sent.
        """
        with in_position(file, to_read=True) as number:
            wanted = self.to_send if length is None else unsigned(length, "length")
            time = poll_time(timeout)
            count = lib.frame_connection_write_from(self._pointer, number, wanted, time)
            return self._done(count)

    def call(
        self,
        cmd: str,
        header: Header | None = None,
        body: BytesLike = b"",
        *,
        timeout: float | None = None,
    ) -> Frame:
        """Sends the request ``cmd``, with the members of ``header``, and returns its reply:
        ``connection.call("add", {"a": 1, "b": 2}).header["sum"]``.

        ``timeout`` covers the whole exchange, and must not be 0. An error reply is the
        exception for its code, with ``remote`` set: the connection is still usable. After a
        part of the request was sent, any other error breaks the connection:
        FrameTimeoutError, MalformedError (the reply is for another request), ClosedError, and
        the errors of recv() and send(). ArgumentError: the header has an id or a cmd.
        """
        text = _headers.encode(request_header(cmd, header))
        out = ctypes.c_void_p()
        with Buffer(body) as (address, length):
            time = poll_time(timeout)
            code = lib.frame_connection_call(self._pointer, text, address, length, time, out)
        if code < 0:
            raise self._failed(code)
        return taken(out)

    def reply(
        self,
        request: Request,
        header: Header | None = None,
        body: BytesLike = b"",
        *,
        timeout: float | None = None,
    ) -> None:
        """Queues the reply to a request: ``status`` "ok", the request's ``id``, and the
        members of ``header``. MalformedError: the library writes one of them itself.
        Otherwise raises as queue()."""
        text = _headers.encode(header)
        with Buffer(body) as (address, length):
            time = poll_time(timeout)
            self._done(
                lib.frame_connection_reply(
                    self._pointer, text_of(request), text, address, length, time
                )
            )

    def reply_error(
        self,
        request: Request,
        error: int | FrameError,
        message: str | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Queues the error reply to a request: ``error`` is an :class:`ErrorCode`, or an
        exception, whose text is the default message. Raises as queue()."""
        if isinstance(error, FrameError):
            message = str(error) if message is None else message
            error = error.code
        optional(message, str, "a message is a text")
        text = None if message is None else c_string(message.encode(), "message")
        code = checked(error, int, ERROR) or ErrorCode.REMOTE_OTHER
        time = poll_time(timeout)
        self._done(
            lib.frame_connection_reply_error(self._pointer, text_of(request), code, text, time)
        )


def request_header(cmd: str, header: Header | None) -> Header:
    """The header of a request that call() sends."""
    checked(cmd, str, "a cmd is a str")
    members = optional(header, dict, "a header is a dict or None, and the body comes after it")
    for name in ("cmd", "id"):
        if name in (members or {}):
            raise make(ErrorCode.INVAL, f"the {name} of a request does not go into its header")
    return {"cmd": cmd, **(members or {})}


def text_of(request: Request) -> bytes:
    """The text of a request's header."""
    if isinstance(request, Head):
        return request.text
    header = request.header if isinstance(request, Frame) else request
    return _headers.encode(header) or b"{}"


def as_bytes(data: BytesLike) -> bytes:
    """The bytes of any bytes-like object. TypeError for a text."""
    return data if type(data) is bytes else memoryview(data).tobytes()


def each(messages: Iterable[Message]) -> Iterator[Any]:
    """The messages of a list. One message is not taken for a list of its bytes."""
    if isinstance(messages, (str, bytes, bytearray, memoryview)):
        raise wrong("messages are a list", messages)
    return iter(checked(messages, Iterable, "messages are a list"))


def split(messages: list[Any]) -> tuple[list[bytes | None], list[bytes]]:
    """The texts of the headers, an empty list if there are none, and the bodies."""
    if set(map(type, messages)) == {bytes}:
        return [], messages
    texts: list[bytes | None] = []
    bodies: list[bytes] = []
    for message in messages:
        header, body = message if isinstance(message, tuple) else (None, message)
        texts.append(_headers.encode(header))
        bodies.append(as_bytes(body))
    return texts, bodies


def as_views(texts: list[bytes | None], bodies: list[bytes]) -> Any:
    """An array of views. They point into the texts and bodies, which the caller keeps."""
    numbers = array("L", bytes(VIEW_SIZE * len(bodies)))  # a size_t is an "L", on Linux
    if texts:
        numbers[0::4] = array("L", [id(text) + BYTES_START if text else 0 for text in texts])
        numbers[1::4] = array("L", [len(text or b"") for text in texts])
    numbers[2::4] = array("L", [id(body) + BYTES_START for body in bodies])
    numbers[3::4] = array("L", map(len, bodies))
    return FrameView.from_buffer(numbers)
