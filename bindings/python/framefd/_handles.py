"""Objects of the library: freed with their last reference, never copied."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NoReturn

from . import _headers
from ._native import lib, python
from ._views import Frame, new_frame


class Handle:
    """Owns a pointer. It cannot be freed early, so it is never used after that."""

    __slots__ = ("_free", "pointer")

    def __init__(self, out: ctypes.c_void_p, free: Callable[[int], Any]) -> None:
        assert out.value is not None
        self._free = free
        self.pointer = out.value

    def __del__(self) -> None:
        self._free(self.pointer)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an object of the library cannot be copied or pickled")


def memory(get: Callable[..., int | None], pointer: Any) -> bytes:
    """A copy of the bytes that ``get(pointer, &length)`` finds in the library's memory."""
    length = ctypes.c_size_t()
    start = get(pointer, length)  # NULL if there are none, of which b"" is made
    data: bytes = python.PyBytes_FromStringAndSize(start, length.value)
    return data


def taken(frame: ctypes.c_void_p) -> Frame:
    """A copy of a frame of the library, which is freed."""
    try:
        text = lib.frame_header(frame, None)
        header = {} if text is None else _headers.decode(text)
        return new_frame(Frame, (header, memory(lib.frame_body, frame)))
    finally:
        lib.frame_free(frame)
