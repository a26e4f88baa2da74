"""Memory that one frame at a time is received into: made once, used again."""

from __future__ import annotations

import ctypes
from collections import deque
from ctypes import byref, c_size_t, c_void_p
from typing import Any

from ._headers import Header, decode
from ._native import FrameView, lib

SIZE = 1 << 16

# What the header of a frame with a body takes up at least.
LEAST_HEADER = 16

# Without the types of its parameters: ctypes takes longer to convert what it is called with
# than the call does, so that is converted beforehand.
recv_into = lib["frame_recv_into"]


class Room:
    """What a call of recv_into() has to be given, for a frame that fits and one that does not."""

    __slots__ = ("_data", "_empty", "_members", "data", "rest", "rest_out", "view")

    def __init__(self) -> None:
        view = FrameView()
        self._data = ctypes.create_string_buffer(SIZE)
        self.rest = c_void_p()
        self.data, self.view, self.rest_out = byref(self._data), byref(view), byref(self.rest)
        # Each of them is as wide as a size_t.
        self._members = memoryview(view).cast("B").cast("L")
        self._empty = b""

    def parts(self) -> tuple[Header, bytes]:
        """The header and the body that came."""
        start, header_len, body, body_len = self._members.tolist()
        text = self._data[:header_len]
        body -= start
        if text == self._empty:
            return {}, self._data[body : body + body_len]
        header = decode(text)
        if not header:
            self._empty = text  # that of most frames without fields, if they are of one size
        return header, self._data[body : body + body_len]


WHOLE = c_size_t.from_param(SIZE)


def size_for(max_body: int | None) -> Any:
    """How much of a room to use, so that no body fits that is larger than this."""
    if max_body is None:
        return WHOLE
    return c_size_t(min(max_body + LEAST_HEADER, SIZE))


# Those not in use. A call that is interrupted by a signal's handler, or by another thread,
# finds another one or makes it.
rooms: deque[Room] = deque(maxlen=16)
