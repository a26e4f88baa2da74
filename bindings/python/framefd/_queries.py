"""What a file server has, apart from the content; and what cut transfers have left."""

from __future__ import annotations

import ctypes
import os
from typing import Literal, NamedTuple

from . import _abi, _errors
from ._arguments import (
    Descriptor,
    StrOrBytesPath,
    c_string,
    fileno,
    limit,
    milliseconds,
    other_fileno,
)
from ._files import LocalFile, directory
from ._native import lib

FileKind = Literal["file", "dir", "symlink", "other"]

KINDS: dict[int, FileKind] = {
    _abi.FRAME_FILE_REGULAR: "file",
    _abi.FRAME_FILE_DIRECTORY: "dir",
    _abi.FRAME_FILE_SYMLINK: "symlink",
}


class FileStat(NamedTuple):
    """What a name on a server is: its ``kind`` ("file", "dir", "symlink", or "other" for
    FIFOs, sockets and devices), the ``size`` of a file in bytes, its permission bits
    ``mode``, and ``mtime``, the time of modification in seconds since 1970."""

    kind: FileKind
    size: int
    mode: int
    mtime: float


class Entry(NamedTuple):
    """What is in a directory on a server: its ``name`` there, where bytes that are no text
    are as os.fsdecode() has them, and what :class:`FileStat` has. ``target`` is where a
    symbolic link leads, else None."""

    name: str
    kind: FileKind
    size: int
    mode: int
    mtime: float
    target: str | None


class PartialFile(NamedTuple):
    """What a server has of a put that was cut: ``size`` bytes, and their ``sha256`` in
    hex."""

    size: int
    sha256: str


def stat(
    fd: Descriptor,
    name: StrOrBytesPath = "",
    *,
    timeout: float | None = None,
    write_fd: Descriptor | None = None,
) -> FileStat:
    """What ``name`` is, relative to the server's root; "" is the root. A symbolic link is
    not followed.

    ``timeout`` is in seconds for the whole call (default: no limit, but none of more than
    30 s without a byte). ``write_fd`` is written to where that is not ``fd``.

    Where ``remote`` is set (NotFoundError, DeniedError and the like), and after a
    FrameTimeoutError that is no StalledError, the connection can be used on. After any
    other error close it.
    """
    found = _abi.FrameFileStat()
    options = _options(timeout, write_fd)
    _errors.check(lib.frame_file_stat(fileno(fd), c_string(name, "name"), found, options))
    return _stat(found)


def listdir(
    fd: Descriptor,
    name: StrOrBytesPath = "",
    *,
    timeout: float | None = None,
    write_fd: Descriptor | None = None,
) -> list[Entry]:
    """What is in the directory ``name`` on the server, sorted by the bytes of the names.

    A list of more than 64 MiB on the wire is refused: TooBigError. MalformedError: the
    server sent a name that is none. As :func:`stat` otherwise.
    """
    out = ctypes.c_void_p()
    options = _options(timeout, write_fd)
    target = c_string(name, "name")
    count = _errors.check(lib.frame_file_list(fileno(fd), target, out, options))
    try:
        return [_entry(out, index) for index in range(count)]
    finally:
        lib.frame_file_list_free(out)


def partial(
    fd: Descriptor,
    name: StrOrBytesPath,
    *,
    timeout: float | None = None,
    write_fd: Descriptor | None = None,
) -> PartialFile:
    """How much the server has of a put of ``name`` with ``resume`` that was cut.

    NotFoundError: nothing. As :func:`stat` otherwise.
    """
    result = _abi.FrameFileResult()
    options = _options(timeout, write_fd)
    target = c_string(name, "name")
    _errors.check(lib.frame_file_partial(fileno(fd), target, options, result))
    return PartialFile(result.bytes, result.sha256.decode("ascii"))


def mkdir(
    fd: Descriptor,
    name: StrOrBytesPath,
    mode: int | None = None,
    parents: bool = False,
    *,
    timeout: float | None = None,
    write_fd: Descriptor | None = None,
) -> None:
    """Makes the directory ``name`` on the server; one that is there already is fine.

    ``mode``: its permission bits (default 0o777), less the server's umask. ``parents``:
    those above it that are missing are made, too. ExistsError: something else has that
    name. As :func:`stat` otherwise.
    """
    options = _options(timeout, write_fd)
    options.mode = limit(mode, "mode", 0o777)
    options.flags = _abi.FRAME_FILE_PARENTS * parents
    target = c_string(name, "name")
    _errors.check(lib.frame_file_make_directory(fileno(fd), target, options))


def sweep(root: LocalFile, older_than: float | None = None) -> int:
    """For a server: removes what is left of transfers that were cut, in the directory
    ``root`` (a path or a descriptor) and all below it. Returns how many files those were.

    They are files of the library's own names, ``.framefd-...``, that nobody writes to and
    that were last written ``older_than`` seconds ago or earlier (default a day). A process
    that was killed leaves such files, and so does a transfer with ``resume``. Symbolic
    links are not followed. SystemCallError: some may have been removed.
    """
    if older_than is not None and not 0 <= older_than <= _abi.FRAME_NO_LIMIT:
        raise ValueError(f"an age is 0 seconds or more: {older_than}")
    # The library's 0 is its default.
    age = 0 if older_than is None else min(max(round(older_than * 1000), 1), 2**63 - 1)
    with directory(root) as number:
        return _errors.check(lib.frame_file_sweep(number, age))


def _options(timeout: float | None, write_fd: Descriptor | None) -> _abi.FrameFileOptions:
    return _abi.FrameFileOptions(
        timeout_ms=milliseconds(timeout), write_fd=other_fileno(write_fd)
    )


def _entry(entries: ctypes.c_void_p, index: int) -> Entry:
    found, target = _abi.FrameFileStat(), ctypes.c_char_p()
    name = lib.frame_file_list_entry(entries, index, found, target)
    leads_to = None if target.value is None else os.fsdecode(target.value)
    return Entry(os.fsdecode(name), *_stat(found), leads_to)


def _stat(found: _abi.FrameFileStat) -> FileStat:
    kind = KINDS.get(found.kind, "other")
    return FileStat(kind, found.file_size, found.mode, found.mtime_ms / 1000)
