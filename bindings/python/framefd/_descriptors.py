"""Which descriptor an object stands for, if its bytes are those of the descriptor."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any, Protocol, Union

from ._abi import ErrorCode
from ._arguments import C_INT_MAX, wrong
from ._errors import StateError


class HasFileno(Protocol):
    """A socket, a file: anything with a descriptor of its own."""

    def fileno(self) -> int:
        """The descriptor's number."""


Descriptor = Union[int, HasFileno]

DESCRIPTOR = "a descriptor is an int, a socket or another object with a fileno()"

IN_MEMORY = "its bytes are in memory, use a TemporaryFile"

BUFFERED = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)

# Objects whose descriptor carries other bytes than they are given, or some of whose bytes are
# elsewhere. Their modules need not be there.
WRAPPERS = [
    ("ssl", "SSLSocket", "its descriptor has the ciphertext, so it cannot be used"),
    ("gevent.ssl", "SSLSocket", "its descriptor has the ciphertext, so it cannot be used"),
    ("OpenSSL.SSL", "Connection", "its descriptor has the ciphertext, so it cannot be used"),
    ("paramiko.channel", "Channel", "its descriptor is for select() only"),
    ("multiprocessing.connection", "_ConnectionBase", "it has messages of its own"),
    ("codecs", "StreamReaderWriter", "open the file in binary mode"),
    ("codecs", "StreamRecoder", "open the file in binary mode"),
    ("tempfile", "SpooledTemporaryFile", IN_MEMORY),
    ("framefd._core", "Core", "it has methods for that"),
    ("framefd._commands", "RemoteCommand", "it has methods for that"),
    ("framefd.aio._connection", "Connection", "it has methods for that"),
]


def fileno(fd: Descriptor) -> int:
    """The number of a descriptor. TypeError if the object has none, or if its bytes are not
    those that the object reads and writes; StateError if the object has read some of them."""
    kind = type(fd)
    if kind is int:
        number: Any = fd
    elif kind is socket.socket:
        number = fd.fileno()  # type: ignore[union-attr]
    else:
        number = number_of(fd)
    if not -1 <= number <= C_INT_MAX:  # which ctypes would take all the same
        raise ValueError(f"{number} is not a file descriptor")
    return int(number)


def number_of(fd: Any) -> int:
    """The same for any object."""
    if isinstance(fd, int) and not isinstance(fd, bool):
        return int(fd)
    file = binary(fd)
    check_nothing_is_ahead(file)
    return given_number(file)


def given_number(fd: Any) -> int:
    """What fileno() returns."""
    try:
        number = fd.fileno()
    except io.UnsupportedOperation:  # such as a BytesIO
        raise wrong(DESCRIPTOR, fd) from None
    if not isinstance(number, int):
        raise wrong("a fileno() is an int", number)
    return number


def binary(file: Any, *, is_read: bool | None = None) -> Any:
    """The object itself, or the binary file below a tempfile or a text file. All that was
    written to it is in its descriptor. ``is_read``: whether the descriptor is to be read, by
    default if the object can be.

    TypeError if the object converts the bytes, as compressed files do, or has no descriptor.
    """
    refuse(file)
    file = inside(file)
    if not isinstance(file, io.IOBase):
        return file
    if isinstance(file, io.TextIOBase):
        if (file.readable() if is_read is None else is_read) and is_inside(file):
            text = "open it in binary mode: a text file stands where its decoder does"
            raise TypeError(f"{text} ({type(file).__name__})")
        file.flush()
        file = getattr(file, "buffer", file)  # such as sys.stdout
    if not is_file(file):
        raise wrong("a file is one that open() makes in binary mode", file)
    file.flush()
    return file


def is_file(file: Any) -> bool:
    """Whether it is a file of open() or a socket's makefile(), whose descriptor has the bytes
    that it reads and writes."""
    file = inside(file)
    if isinstance(file, io.TextIOWrapper):
        file = file.buffer
    raw = file.raw if isinstance(file, BUFFERED) else file
    if isinstance(raw, socket.SocketIO):
        return advice_on(getattr(raw, "_sock", None)) is None
    return isinstance(raw, io.FileIO)


def inside(file: Any) -> Any:
    """The file inside a tempfile, or the file itself."""
    wrapper = getattr(sys.modules.get("tempfile"), "_TemporaryFileWrapper", None)
    return file.file if wrapper is not None and isinstance(file, wrapper) else file


def is_inside(file: io.TextIOBase) -> bool:
    """Whether a text file may have read ahead of its position. One that cannot be sought
    takes no other settings once it has."""
    if file.seekable():
        return True
    if isinstance(file, io.TextIOWrapper):
        try:
            file.reconfigure(encoding=file.encoding, errors=file.errors)
        except io.UnsupportedOperation:
            return True
    return False


def check_nothing_is_ahead(file: Any) -> None:
    """StateError if a buffered file has bytes that are in its descriptor no more."""
    ahead = is_ahead(file)
    if ahead:
        text = f"the {type(file).__name__} has read {ahead} bytes ahead: open it unbuffered"
        raise StateError(ErrorCode.STATE, text)


def is_ahead(file: Any) -> int:
    """How many bytes a buffered file has read ahead. peek() shows them; it must not read
    others meanwhile."""
    if not isinstance(file, (io.BufferedReader, io.BufferedRandom)):
        return 0
    raw: Any = file.raw
    raw.readinto = nothing_there
    try:
        return len(file.peek())
    finally:
        del raw.readinto


def nothing_there(_: object) -> None:
    """What a raw file's readinto() returns if it would have to wait."""


def refuse(fd: Any) -> None:
    """TypeError for an object whose descriptor is not its stream."""
    if not hasattr(fd, "fileno"):
        raise wrong(DESCRIPTOR, fd)
    advice = advice_on(fd)
    if advice is not None:
        raise TypeError(f"a {type(fd).__name__} cannot be passed: {advice}")


def advice_on(fd: Any) -> str | None:
    """What to do with a wrapper of a descriptor; None for what is none."""
    for module, name, advice in WRAPPERS:
        wrapper = getattr(sys.modules.get(module), name, None)
        if wrapper is not None and isinstance(fd, wrapper):
            return advice
    return None


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
    write late. Afterwards the object gets the position of the descriptor. TypeError,
    StateError: as for fileno(); but what was read ahead of a position is no obstacle."""
    if isinstance(file, int):
        yield fileno(file)
        return
    file = binary(file, is_read=to_read)
    if not (isinstance(file, io.IOBase) and file.seekable()):
        if to_read:
            check_nothing_is_ahead(file)
        yield given_number(file)
        return
    fd = given_number(file)
    known = os.lseek(fd, 0, os.SEEK_CUR)
    os.lseek(fd, file.tell(), os.SEEK_SET)
    try:
        yield fd
    finally:
        reached = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, known, os.SEEK_SET)
        file.seek(reached)


def own_timeout(fd: Any) -> float | None:
    """The timeout of a socket object, for a call without one: None if it has none, 0 if it
    does not block."""
    get = getattr(fd, "gettimeout", None)
    return None if get is None else get()
