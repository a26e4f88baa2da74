"""Objects of the library: freed with their last reference, never copied."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from ._abi import ErrorCode
from ._errors import BusyError
from ._native import python


class Handle:
    """Owns a pointer. There is no way to free it early, so none is used after."""

    __slots__ = ("_free", "pointer")

    def __init__(self, out: ctypes.c_void_p, free: Callable[[int], Any]) -> None:
        assert out.value is not None
        self._free = free
        self.pointer = out.value

    def __del__(self) -> None:
        self._free(self.pointer)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an object of the library cannot be copied or pickled")


class ExclusiveHandle(Handle):
    """A pointer that one thread at a time may use: inside a `with` block."""

    __slots__ = ("lock",)

    def __init__(self, out: ctypes.c_void_p, free: Callable[[int], Any]) -> None:
        super().__init__(out, free)
        self.lock = threading.Lock()

    def __enter__(self) -> int:
        if not self.lock.acquire(False):
            raise busy()
        return self.pointer

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def share(self, other: ExclusiveHandle | None) -> None:
        """Has one thread at a time use this pointer or another one; None ends that."""
        self.lock = threading.Lock() if other is None else other.lock


def busy() -> BusyError:
    return BusyError(ErrorCode.BUSY, "in use by another thread")


def memory(get: Callable[..., int | None], pointer: Any) -> bytes:
    """A copy of the bytes that ``get(pointer, &length)`` finds in the library's memory."""
    length = ctypes.c_size_t()
    start = get(pointer, length)  # NULL where there are none, of which b"" is made
    data: bytes = python.PyBytes_FromStringAndSize(start, length.value)
    return data
