"""Converts arguments for the library: descriptors, times, limits, bytes."""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import math
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, Union

from . import _abi, _native


class HasFileno(Protocol):
    """A socket, a file, a Connection: anything with a descriptor of its own."""

    def fileno(self) -> int:
        """The descriptor's number."""


Descriptor = Union[int, HasFileno]
StrOrBytes = Union[str, bytes]
Environment = Union[Mapping[str, StrOrBytes], Mapping[bytes, StrOrBytes]]
StrOrBytesPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

C_INT_MAX = 2**31 - 1
PY_BUF_SIMPLE = 0
PY_BUF_WRITABLE = 1


def fileno(fd: Descriptor) -> int:
    """The number of a descriptor. TypeError if the object has none, or if its bytes are not
    those that the object reads and writes."""
    if type(fd) is int:
        number = fd
    elif isinstance(fd, int):
        number = int(fd)
    else:
        refuse(fd)
        number = fd.fileno()
    if not -1 <= number <= C_INT_MAX:  # which ctypes would take all the same
        raise ValueError(f"{number} is not a file descriptor")
    return number


def refuse(fd: Any) -> None:
    """TypeError for an object whose descriptor is not its stream."""
    if not hasattr(fd, "fileno"):
        kind = type(fd).__name__
        raise TypeError(f"an int, a socket or another object with a fileno(), not {kind}")
    for module, name, advice in WRAPPERS:
        wrapper = getattr(sys.modules.get(module), name, None)
        if wrapper is not None and isinstance(fd, wrapper):
            raise TypeError(f"{module}.{name} changes what goes through it: {advice}")


# Objects that convert bytes: their fileno() carries other bytes than they are given.
WRAPPERS = [
    ("ssl", "SSLSocket", "its descriptor has the ciphertext, so it cannot be used"),
    ("multiprocessing.connection", "_ConnectionBase", "it has messages of its own"),
]


def other_fileno(write_fd: Descriptor | None) -> int:
    """The number of a descriptor to write to; 0, the library's "the same", for None."""
    if write_fd is None:
        return 0
    number = fileno(write_fd)
    if number <= 0:
        raise ValueError(f"write_fd cannot be {number}")
    return number


@contextlib.contextmanager
def in_position(file: Any, *, to_read: bool) -> Iterator[int]:
    """The descriptor of a file, at the position of the file object, which may read ahead or
    write late. Afterwards the object gets the position of the descriptor.

    TypeError if the object converts the bytes, as text and compressed files do: the
    descriptor has other bytes than the object.
    """
    file = getattr(file, "file", file)  # of a tempfile
    if isinstance(file, io.TextIOBase):
        if to_read and file.seekable():
            raise TypeError("a text file stands where its decoder does: open it in binary mode")
        file.flush()
        file = getattr(file, "buffer", file)  # such as sys.stdout
    if hasattr(file, "flush"):
        file.flush()
    raw = getattr(file, "raw", file)
    if isinstance(raw, io.IOBase) and not isinstance(raw, (io.FileIO, socket.SocketIO)):
        kind = type(file).__name__
        raise TypeError(f"a file with a descriptor of its own bytes is needed, not {kind}")
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


def poll_time(seconds: float | None) -> int:
    """A time in seconds as for poll(2): None is the connection's, math.inf is forever."""
    if seconds is None:
        return _abi.FRAME_DEFAULT_TIMEOUT
    if seconds == math.inf:
        return -1
    return 0 if seconds == 0 else milliseconds(seconds)


def milliseconds(seconds: float | None) -> int:
    """A time in seconds as milliseconds: None is the default, math.inf no limit, 0 does not
    wait."""
    if seconds is None:
        return 0
    if seconds == math.inf:
        return _abi.FRAME_NO_TIMEOUT
    if seconds == 0:
        return _abi.FRAME_DONT_WAIT
    if not seconds > 0:
        raise ValueError(f"a time is 0 seconds or more: {seconds}")
    return min(math.ceil(seconds * 1000), C_INT_MAX)  # 24 days, which are as good as more


def timestamp(seconds: float) -> int:
    """A time in seconds since 1970, in milliseconds."""
    if not math.isfinite(seconds) or abs(seconds) >= 2**63 / 1000:
        raise ValueError(f"not a time that can be set: {seconds}")
    return round(seconds * 1000)


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


def environment(variables: Environment) -> ctypes.Array[ctypes.c_char_p]:
    """Environment variables as "NAME=value". TypeError if one is not text."""
    names = [os.fsencode(name) for name in variables]
    for name in names:
        if not name or b"=" in name:
            raise ValueError(f"not a name of an environment variable: {name!r}")
    values = map(os.fsencode, variables.values())
    return c_strings(map(b"=".join, zip(names, values)), "env")


class Buffer:
    """The memory of a bytes-like object: its address and length inside a `with` block, in
    which its size cannot change. BufferError if it is not contiguous, or cannot be written
    to."""

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
