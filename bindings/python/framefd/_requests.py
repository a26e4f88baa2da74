"""A request of a client, for the handler of a server, and what becomes of its reply."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, Union

from . import _headers
from ._abi import FRAME_DEFAULT_TIMEOUT, ErrorCode
from ._arguments import C_INT_MAX, Buffer, BytesLike, poll_time
from ._connection import Connection
from ._core import CLOSED, Pointer
from ._errors import FrameError, MalformedError, StateError
from ._headers import Header
from ._log import Log
from ._native import lib, to_look_up, untyped
from ._views import four_numbers, memory

#: What a handler returns: the members of the reply's header, its body, or both in a tuple. None
#: is an empty reply, unless the handler has replied itself.
Reply = Union[Header, BytesLike, tuple[Union[Header, None], BytesLike], None]

INTERRUPTED = b"the server was interrupted"

#: The members of a reply that the library writes.
WRITTEN = {"status", "id", "data_size"}

#: Codes of a reply that cannot be sent because of what is in it. All others are the client's.
INVALID = {ErrorCode.BADFIELD, ErrorCode.BADJSON, ErrorCode.INVAL, ErrorCode.TOOBIG}

# struct frame_view, at an address.
VIEW_SIZE = 4 * ctypes.sizeof(ctypes.c_size_t)

untyped_reply = untyped("frame_connection_reply")
untyped_done = untyped("frame_server_done")


class Lent(Pointer):
    """The connection of a request, which is the server's. With the last reference it is freed,
    and if the request is not done, that ends it with an error reply.

    A signal's handler runs when Python enters a function, and so would raise in a ``__del__``
    in Python, which drops it, and would not free anything. So this one is in C: to look it up
    frees the connection, and gives what can be called.
    """

    __del__ = to_look_up("frame_connection_free")


class Base:
    """A request, in a blocking server and in asyncio."""

    def __init__(self, pointer: Lent, view: int, kept: object) -> None:
        start, length, body, body_len = four_numbers(memory[view : view + VIEW_SIZE])
        self._text: bytes = memory[start : start + length]
        #: The header; its ``cmd`` is the command's name.
        self.header: Header = _headers.decode(self._text)
        #: The body; b"" for a handler that reads it from the connection.
        self.body: bytes = memory[body : body + body_len]
        self._pointer: Pointer = pointer
        self._kept = kept
        self._blocking: Connection | None = None

    def _connection(self) -> Connection:
        """The connection, until the request is done."""
        if self._pointer is CLOSED:
            raise StateError("the request is done")
        if self._blocking is None:
            made = self._blocking = Connection.__new__(Connection)
            made._descriptors = []
            made._take(self._pointer)
        return self._blocking

    @property
    def peer(self) -> str | None:
        """The address of the client, as for connect(); None if it has none."""
        return self._connection().peer

    @property
    def key_id(self) -> str | None:
        """The id of the key that the client has proved, "" for a key without an id; None if
        the server has no keys."""
        proof = self._connection().proof
        return None if proof is None else proof.key_id or ""

    def _reply(self, text: bytes | None, body: BytesLike, time: int) -> int:
        """The code of queueing a reply."""
        pointer = self._pointer
        if type(body) is bytes and len(body) <= C_INT_MAX:
            code = untyped_reply(pointer, self._text, text, body, len(body), time)
        else:
            with Buffer(body) as (start, length):
                code = lib.frame_connection_reply(
                    pointer, self._text, text, start, length, time
                )
        return int(code)

    def _begun(self, header: Header | None) -> Header:
        """The header of a reply whose body is sent in pieces."""
        members = {} if header is None else header
        check_header(members)
        text_of(members)
        head = {"status": "ok"}
        if "id" in self.header:
            head["id"] = self.header["id"]
        return {**head, **members}

    def _not_sent(self, code: int) -> None:
        """A reply could not be queued. ValueError: it is not valid; in all other cases the
        client has gone, or does not read."""
        error = self._connection()._failed(code)
        if code in INVALID:
            raise ValueError(f"the reply cannot be sent: {error}")
        raise error

    def _done(self, code: int, message: str | None = None) -> None:
        """Gives the connection back to the server."""
        pointer: Pointer = self._pointer
        self._pointer = CLOSED
        if pointer is CLOSED:
            return
        if self._blocking is not None:
            self._blocking._pointer = CLOSED
        text = (
            None if message is None else message.replace("\0", "\\0").encode(errors="replace")
        )
        if untyped_done(pointer, code, text) == ErrorCode.BUSY:
            # Another thread uses it although the request is done. With the end of its call the
            # last reference goes, and then the server gets it.
            lib.frame_connection_abort(pointer)

    def _failed(self, cmd: str, error: BaseException, log: Log) -> None:
        """Sends the error reply for an exception of the handler."""
        if isinstance(error, FrameError):
            self._done(error.code or ErrorCode.REMOTE_OTHER, str(error))
            return
        self._done(ErrorCode.REMOTE_OTHER, type(error).__name__)
        log.exception(f"the handler of {cmd!r} has failed", error)

    def __repr__(self) -> str:
        state = "done" if self._pointer is CLOSED else f"{len(self.body)} bytes"
        return f"<{type(self).__module__}.{type(self).__name__} {self.header}, {state}>"


AnyRequest = TypeVar("AnyRequest", bound=Base)


class ServerRequest(Base):
    """A request, as the handler of a :class:`Server` gets it: its ``header``, ``body``,
    ``peer`` and ``key_id``. It cannot be used once the handler has returned.
    """

    @property
    def connection(self) -> Connection:
        """The connection, for bodies in pieces: :meth:`Connection.read`, ``pieces`` and others
        read that of a request whose command has ``stream``, :meth:`Connection.write` and others
        send that of a reply after :meth:`begin`. A wait for the client ends after the server's
        ``stall``. It is the server's: do not close it."""
        return self._connection()

    def reply(
        self,
        header: Header | None = None,
        body: BytesLike = b"",
        *,
        timeout: float | None = None,
    ) -> None:
        """Sends the reply before the handler returns, which then returns None."""
        check_header({} if header is None else header)
        code = self._reply(text_of(header), body, poll_time(timeout))
        self._connection()._done(code)

    def begin(self, header: Header | None, body_len: int) -> None:
        """Begins the reply, whose body of ``body_len`` bytes follows in pieces, by
        ``connection.write()`` and ``write_from()``. The handler then returns None."""
        self.connection.begin(self._begun(header), body_len)


class Handler:
    """A command of a server, and the function that serves it."""

    def __init__(
        self, cmd: str, function: Callable[..., Any], has_threads: bool, log: Log
    ) -> None:
        self.cmd, self.function, self.log = cmd, function, log
        call = getattr(function, "__call__", None)  # noqa: B004
        self.is_async = any(map(inspect.iscoroutinefunction, (function, call)))
        self._has_threads = has_threads
        # What C may call as long as there is a connection of the server.
        self.kept: object = None
        # Serves requests in a loop of asyncio.
        self.loop: Any = None

    def serve(self, _: object, pointer: Lent, view: int) -> int:
        """Called by the library for each request. The pointer owns its connection."""
        if self.loop is not None:
            self.loop.serve(self, pointer, view)
            return 0
        request = request_of(ServerRequest, pointer, view, self.kept)
        if request is None:
            return 0
        try:
            self.answer(request)
        except BaseException:
            # The traceback may keep the pointer. If the request is done, this does nothing.
            untyped_done(pointer, ErrorCode.CANCELED, INTERRUPTED)
            raise
        return 0

    def answer(self, request: ServerRequest) -> None:
        """Calls the function, and replies with what it returns or raises."""
        try:
            outcome = self.function(request)
            if outcome is not None:
                code = request._reply(*reply_of(outcome), FRAME_DEFAULT_TIMEOUT)
                if code < 0:
                    request._not_sent(code)
        except Exception as error:
            request._failed(self.cmd, error, self.log)
        except BaseException as error:
            if self._has_threads:  # it has no thread in which that means anything
                return request._failed(self.cmd, error, self.log)
            raise
        else:
            request._done(0)


def request_of(
    kind: type[AnyRequest], pointer: Lent, view: int, kept: object
) -> AnyRequest | None:
    """The request that the library shows. None: there is no memory for it, or Python cannot
    read its header. With the pointer it is ended, and its client gets an error reply."""
    try:
        return kind(pointer, view, kept)
    except (MalformedError, MemoryError):
        return None


def reply_of(outcome: Any) -> tuple[bytes | None, BytesLike]:
    """The text of the header and the body of a reply that a handler has returned."""
    if isinstance(outcome, dict):
        header, body = outcome, b""
    elif isinstance(outcome, tuple) and len(outcome) == 2:
        header, body = outcome
    else:
        header, body = None, outcome
    is_bytes = isinstance(body, (bytes, bytearray, memoryview))
    if not is_bytes or not (header is None or isinstance(header, dict)):
        kinds = "None, a dict, bytes, or a dict and bytes in a tuple"
        names = ", ".join(type(part).__name__ for part in (header, body) if part is not None)
        if hasattr(outcome, "__await__"):
            getattr(outcome, "close", int)()
            raise TypeError("an async handler is for serve(), in asyncio")
        raise TypeError(f"a handler returns {kinds}, not {names}")
    check_header(header or {})
    return text_of(header), body


def text_of(header: Header | None) -> bytes | None:
    """The text of a reply's header. What is wrong with that is no fault of the client's."""
    try:
        return _headers.encode(header)
    except MalformedError as error:
        raise ValueError(f"the reply cannot be sent: {error.message}") from None


def check_header(header: Header) -> None:
    """ValueError for what the library writes itself."""
    mine = WRITTEN & header.keys()
    if mine:
        raise ValueError(f"the {min(mine)} of a reply is the server's to write")
