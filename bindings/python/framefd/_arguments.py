"""Converts arguments for the library: times, limits, text, bytes."""

from __future__ import annotations

import ctypes
import itertools
import math
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Union

from . import _abi, _native

if TYPE_CHECKING:
    import typing_extensions

    BytesLike = typing_extensions.Buffer  # whatever has its bytes in memory, and no text
else:
    BytesLike = Union[bytes, bytearray, memoryview]

StrOrBytes = Union[str, bytes]
Environment = Union[Mapping[str, StrOrBytes], Mapping[bytes, StrOrBytes]]
StrOrBytesPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

C_INT_MAX = 2**31 - 1
PY_BUF_SIMPLE = 0
PY_BUF_WRITABLE = 1


def wrong(what: str, value: object) -> TypeError:
    """The exception for an object of a wrong type: ``what`` says what to pass."""
    return TypeError(f"{what}, not {type(value).__name__}")


def checked(value: Any, kind: Any, what: str) -> Any:
    """The value, which is of a kind."""
    if not isinstance(value, kind):
        raise wrong(what, value)
    return value


def optional(value: Any, kind: Any, what: str) -> Any:
    """The same, or None."""
    return None if value is None else checked(value, kind, what)


def check_callable(function: object, what: str) -> None:
    """TypeError for what is neither a function nor None."""
    if function is not None and not callable(function):
        raise wrong(f"{what} is a function", function)


def flag(bit: int, is_set: object) -> int:
    """An option's bit."""
    return bit if is_set else 0


def poll_time(seconds: float | None) -> int:
    """A time in seconds as for poll(2): None is the connection's, math.inf is forever."""
    if seconds is None:
        return _abi.FRAME_DEFAULT_TIMEOUT
    if seconds == math.inf:
        return -1
    return 0 if seconds == 0 else milliseconds(seconds)


def milliseconds(seconds: float | None, what: str = "a time") -> int:
    """A time in seconds as milliseconds: None is the default, math.inf no limit, 0 does not
    wait."""
    if seconds is None:
        return 0
    if seconds == math.inf:
        return _abi.FRAME_NO_TIMEOUT
    if seconds == 0:
        return _abi.FRAME_DONT_WAIT
    try:
        if seconds > 0:
            return min(math.ceil(seconds * 1000), C_INT_MAX)  # 24 days, as good as more
    except TypeError:
        raise wrong(f"{what} is a number of seconds", seconds) from None
    raise ValueError(f"{what} is 0 seconds or more: {seconds}")


def timestamp(seconds: float) -> int:
    """A time in seconds since 1970, in milliseconds."""
    if not math.isfinite(seconds) or abs(seconds) >= 2**63 / 1000:
        raise ValueError(f"not a time that can be set: {seconds}")
    return round(seconds * 1000)


def limit(value: int | None, what: str, most: int = _abi.FRAME_NO_LIMIT) -> int:
    """A limit: None is the default."""
    if value is None:
        return 0
    number = unsigned(value, what, most)
    if number == 0:
        raise ValueError(f"{what} cannot be 0")
    return number


def at_least_1(value: int, what: str) -> int:
    """A size of at least 1."""
    return limit(unsigned(value, what), what)


def unsigned(value: int, what: str, most: int = _abi.FRAME_NO_LIMIT) -> int:
    """An int that ctypes would otherwise wrap silently."""
    try:
        value = operator.index(value)
    except TypeError:
        raise wrong(f"{what} is an int", value) from None
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
    checked(variables, Mapping, "env is a dict of names and values")
    for text in (*variables, *variables.values()):
        checked(text, (str, bytes, os.PathLike), "a name or value in env is a text")
    names = [os.fsencode(name) for name in variables]
    for name in names:
        if not name or b"=" in name:
            raise ValueError(f"env has a name that is none: {name!r}")
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
