"""The content of a file in any object: read or written through its descriptor if that has the
same bytes, otherwise through its read() or write() and a temporary file."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import select
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Union

from ._arguments import StrOrBytesPath, wrong
from ._descriptors import (
    IN_MEMORY,
    HasFileno,
    advice_on,
    binary,
    fileno,
    given_number,
    is_ahead,
    is_file,
    refuse,
)


class Readable(Protocol):
    """A binary object to read from, such as a BytesIO, a gzip file, a member of an archive or
    the response of a server."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; b"" at the end."""


class Writable(Protocol):
    """A binary object to write to, such as a BytesIO or a gzip file."""

    def write(self, data: bytes, /) -> Any:
        """Writes the bytes; the number that were taken, if not all were."""


LocalFile = Union[int, HasFileno, StrOrBytesPath]
LocalSource = Union[LocalFile, Readable]
LocalTarget = Union[LocalFile, Writable]

PATH = (str, bytes, os.PathLike)

SOURCE = "a source is a path, a descriptor, or an object with a read() of bytes"
TARGET = "a destination is a path, a descriptor, or an object with a write() of bytes"

#: Bytes that are read or written at once.
PIECE = 1 << 20


@contextlib.contextmanager
def readable(source: Any, length: int | None) -> Iterator[Any]:
    """A path, or what in_position() takes: the source itself, or a file with a copy of its
    ``length`` bytes, or of all up to its end. TypeError before anything is read of a source
    that is no file of bytes."""
    read = reader(source, length is not None)
    if read is None:
        yield source
        return
    with tempfile.TemporaryFile() as file:
        left = length
        while left != 0:
            piece = some(read, source, PIECE if left is None else min(left, PIECE))
            if not piece:
                break
            file.write(piece)
            left = None if left is None else left - len(piece)
        if left:
            raise ValueError(f"the source has {left} bytes fewer than its length")
        file.seek(0)
        yield file


@contextlib.contextmanager
def writable(target: Any, offset: int, checksum: bool) -> Iterator[Any]:
    """As readable(), to write to. If the block ends without an exception, the target gets what
    was written behind the first ``offset`` bytes."""
    write = writer(target)
    if write is None:
        yield target
        return
    if offset and checksum:
        raise ValueError("an offset needs a file that can be read, or checksum=False")
    with tempfile.TemporaryFile() as file:
        file.seek(offset)
        yield file
        file.seek(offset)
        for piece in iter(functools.partial(file.read, PIECE), b""):
            write_all(write, piece)


@contextlib.contextmanager
def directory(root: LocalFile) -> Iterator[int]:
    """The descriptor of a directory, open during the `with` block."""
    if not isinstance(root, PATH):
        yield fileno(root)
        return
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def reader(source: Any, is_length_known: bool) -> Callable[[int], Any] | None:
    """How a source is read; None if the library can do that. It needs a length."""
    if isinstance(source, PATH):
        return None
    if is_descriptor(source, "read", SOURCE):
        if not isinstance(source, int):
            source = binary(source, is_read=True)
        if has_length(source) or (is_length_known and not is_ahead(source)):
            return None
        if isinstance(source, socket.socket):
            return source.recv
        if not hasattr(source, "read"):
            return functools.partial(os.read, fileno(source))
    read: Callable[[int], Any] = source.read
    if not isinstance(read(0), (bytes, bytearray, memoryview, type(None))):
        raise wrong(SOURCE, source)
    return read


def writer(target: Any) -> Callable[[Any], Any] | None:
    """How a target is written; None if the library can do that."""
    if isinstance(target, PATH) or is_descriptor(target, "write", TARGET):
        return None
    if isinstance(target, io.TextIOWrapper):  # such as a sys.stdout that somebody captures
        target.flush()
        target = target.buffer
    write: Callable[[Any], Any] = target.write
    try:
        outcome = write(b"")
    except TypeError:
        raise wrong(TARGET, target) from None
    if not isinstance(outcome, (int, type(None))):
        raise wrong(TARGET, target)
    return write


def is_descriptor(file: Any, method: str, what: str) -> bool:
    """Whether the descriptor of a file has its bytes. If not, it has the method."""
    if isinstance(file, int) and not isinstance(file, bool):
        return True
    if is_file(file):
        return True
    has_method = callable(getattr(file, method, None))
    if not has_method and not hasattr(file, "fileno"):
        raise wrong(what, file)
    if not has_method or advice_on(file) not in (None, IN_MEMORY):
        refuse(file)
    return not has_method


def has_length(source: Any) -> bool:
    """Whether the library finds out how many bytes there are."""
    number = fileno(source) if isinstance(source, int) else given_number(source)
    return stat.S_ISREG(os.fstat(number).st_mode)


def some(read: Callable[[int], Any], source: Any, size: int) -> Any:
    """The next bytes. It waits for them, also if the source does not block."""
    while True:
        with contextlib.suppress(BlockingIOError):
            piece = read(size)
            if piece is not None:
                return piece
        poll = select.poll()
        poll.register(source, select.POLLIN)
        poll.poll()


def write_all(write: Callable[[Any], Any], data: bytes) -> None:
    """Writes all bytes to what may take fewer at once."""
    rest = memoryview(data)
    while rest:
        taken = write(rest)
        if taken is None:
            return
        if taken == 0:
            raise OSError("the destination takes no more bytes")
        rest = rest[taken:]
