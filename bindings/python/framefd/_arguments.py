"""What a caller may pass, as the library takes it: descriptors, times, limits, bytes."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, Union

from . import _abi, _native


class HasFileno(Protocol):
    """A socket, a file, a Connection: anything with a descriptor of its own."""

    def fileno(self) -> int:
        """The descriptor's number."""


Descriptor = Union[int, HasFileno]
StrOrBytesPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

C_INT_MAX = 2**31 - 1
PY_BUF_SIMPLE = 0
PY_BUF_WRITABLE = 1


def fileno(fd: Descriptor) -> int:
    """The number of a descriptor."""
    number = fd if isinstance(fd, int) else fd.fileno()
    if not -1 <= number <= C_INT_MAX:  # which ctypes would take all the same
        raise ValueError(f"{number} is not a file descriptor")
    return number


def other_fileno(write_fd: Descriptor | None) -> int:
    """The number of a descriptor to write to; 0, the library's "the same", for None."""
    if write_fd is None:
        return 0
    number = fileno(write_fd)
    if number <= 0:
        raise ValueError(f"write_fd cannot be {number}")
    return number


@contextlib.contextmanager
def in_position(file: Any) -> Iterator[int]:
    """The descriptor of a file, standing where the file object stands although that reads
    ahead or writes late; afterwards the object stands where the descriptor was left."""
    if hasattr(file, "flush"):
        file.flush()
    file = getattr(file, "buffer", file)  # of a text file, such as sys.stdout
    fd = fileno(file)
    if not (hasattr(file, "seekable") and file.seekable()):
        yield fd
        return
    known = os.lseek(fd, 0, os.SEEK_CUR)
    os.lseek(fd, file.tell(), os.SEEK_SET)
    try:
        yield fd
    finally:
        reached = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, known, os.SEEK_SET)
        file.seek(reached)


def milliseconds(seconds: float | None) -> int:
    """A time in seconds: None is the default, math.inf no limit, 0 not to wait at all."""
    if seconds is None:
        return 0
    if seconds == math.inf:
        return _abi.FRAME_NO_TIMEOUT
    if seconds == 0:
        return _abi.FRAME_DONT_WAIT
    if not 0 < seconds <= C_INT_MAX // 1000:
        raise ValueError(f"a time is 0 to {C_INT_MAX // 1000} seconds or math.inf: {seconds}")
    return math.ceil(seconds * 1000)


def countdown(seconds: float | None) -> Callable[[], int]:
    """What is left of a time that begins now, in milliseconds, whenever it is called."""
    whole = milliseconds(seconds)
    if seconds is None or whole <= 0:
        return lambda: whole
    end = time.monotonic() + seconds
    return lambda: milliseconds(max(end - time.monotonic(), 0))


def timestamp(seconds: float | None) -> int:
    """A time in seconds since 1970, in milliseconds: None is none in particular."""
    if seconds is None:
        return 0
    number = round(seconds * 1000) if math.isfinite(seconds) else 0
    if number == 0 or abs(number) >= 2**63:
        raise ValueError(f"not a time that can be set: {seconds}")
    return number


def limit(value: int | None, what: str, most: int = _abi.FRAME_NO_LIMIT) -> int:
    """A limit: None is the default."""
    if value is None:
        return 0
    if value == 0:
        raise ValueError(f"{what} cannot be 0")
    return unsigned(value, what, most)


def unsigned(value: int, what: str, most: int = _abi.FRAME_NO_LIMIT) -> int:
    """An int that ctypes would otherwise wrap silently."""
    if not 0 <= value <= most:
        raise ValueError(f"{what} is 0 to {most}: {value}")
    return value


def c_string(value: StrOrBytesPath, what: str) -> bytes:
    """Text or a path as bytes without a NUL inside, which C would take for the end."""
    data = os.fsencode(value)
    if b"\0" in data:
        raise ValueError(f"{what} has a NUL in it")
    return data


def c_strings(values: Iterable[StrOrBytesPath], what: str) -> ctypes.Array[ctypes.c_char_p]:
    """A NULL-terminated array of C strings."""
    strings = [c_string(value, what) for value in values]
    return (ctypes.c_char_p * (len(strings) + 1))(*strings, None)


def strings(values: Any) -> Iterator[str]:
    """The strings of a NULL-terminated array of the library's, of any encoding."""
    for index in itertools.count():
        if values[index] is None:
            return
        yield os.fsdecode(values[index])


def environment(variables: Mapping[str, str]) -> ctypes.Array[ctypes.c_char_p]:
    """Environment variables as "NAME=value"."""
    for name in variables:
        if not name or "=" in name:
            raise ValueError(f"not a name of an environment variable: {name!r}")
    return c_strings((f"{name}={value}" for name, value in variables.items()), "env")


class Buffer:
    """The memory of a bytes-like object: its address and length inside a `with` block,
    where it stays as it is. BufferError where it is in pieces, or cannot be written to."""

    __slots__ = ("_data", "_view", "_writable")

    def __init__(self, data: Any, *, writable: bool = False) -> None:
        self._data = data
        self._writable = writable
        self._view: _native.PyBuffer | None = None

    def __enter__(self) -> tuple[bytes | int | None, int]:
        if type(self._data) is bytes and not self._writable:
            return self._data, len(self._data)
        view = _native.PyBuffer()
        flags = PY_BUF_WRITABLE if self._writable else PY_BUF_SIMPLE
        _native.python.PyObject_GetBuffer(self._data, view, flags)
        self._view = view
        return view.buf, view.len

    def __exit__(self, *_: object) -> None:
        if self._view is not None:
            _native.python.PyBuffer_Release(self._view)
