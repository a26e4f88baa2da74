"""Memory that one frame at a time is received into: made once, used again."""

from __future__ import annotations

import ctypes
from collections import deque
from ctypes import byref, c_size_t, c_void_p
from typing import Any

from ._abi import FrameView
from ._headers import Header, decode

SIZE = 1 << 16
WHOLE = c_size_t.from_param(SIZE)

# What the header takes up at least, where there is a body.
LEAST_HEADER = 16


def size_for(max_body: int | None) -> Any:
    """How much of a room to use, so that a body that is longer than this does not fit."""
    if max_body is None:
        return WHOLE
    return c_size_t.from_param(min(max_body + LEAST_HEADER, SIZE))


class Room:
    """Room for one frame: what frame_recv_into() is given, for ``untyped``, and what came."""

    __slots__ = ("_data", "_empty", "_members", "data_out", "rest", "rest_out", "view_out")

    def __init__(self) -> None:
        view = FrameView()
        # Each of them is as wide as a size_t.
        self._members = memoryview(view).cast("B").cast("L")
        self._data: Any = ctypes.create_string_buffer(SIZE)
        self._empty = b""
        self.rest = c_void_p()
        self.data_out = byref(self._data)
        self.view_out = byref(view)
        self.rest_out = byref(self.rest)

    def parts(self) -> tuple[Header, bytes]:
        """The header and the body of the frame that fitted."""
        start, header_len, body, body_len = self._members.tolist()
        text = self._data[:header_len]
        body -= start
        if text == self._empty:
            return {}, self._data[body : body + body_len]
        header = decode(text)
        if not header:
            self._empty = text  # that of most frames without fields, if they are of one size
        return header, self._data[body : body + body_len]


# Those that are not in use. A call that begins while others wait finds another one here or
# makes it, be it in another thread or in the handler of a signal.
rooms: deque[Room] = deque(maxlen=16)
