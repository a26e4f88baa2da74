"""Directories with all that is in them, to a server and from one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

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
from ._files import Progress, flags_of, transfer_options
from ._native import lib

Links = Literal["skip", "refuse", "follow", "copy"]

LINKS = {
    "skip": 0,
    "refuse": _abi.FRAME_FILE_REFUSE_LINKS,
    "follow": _abi.FRAME_FILE_FOLLOW_LINKS,
    "copy": _abi.FRAME_FILE_COPY_LINKS,
}


class TreeResult(NamedTuple):
    """What came of a tree: the counts of ``files`` that were transferred or, with
    ``resume``, were the same on both sides, of ``directories``, the uppermost one among
    them, of symbolic ``links`` that were made, and of what was ``skipped``; and the
    ``bytes`` that were transferred."""

    files: int
    directories: int
    links: int
    skipped: int
    bytes: int


def put_tree(
    fd: Descriptor,
    source: StrOrBytesPath,
    name: StrOrBytesPath | None = None,
    *,
    links: Links = "skip",
    overwrite: bool = True,
    preserve: bool = False,
    resume: bool = False,
    rate: int | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    checksum: bool = True,
    sync: bool = True,
    write_fd: Descriptor | None = None,
) -> TreeResult:
    """Stores a directory, with all that is in it, on the other end of a stream.

    ``source`` is a path; ``name`` is relative to the server's root, by default the last
    part of the path. Directories that are missing are made, and what else is in them stays.
    Nothing outside of ``source`` is ever sent.

    ``links``: symbolic links are left out and counted ("skip"), end the call with a
    PathError ("refuse"), are replaced by the files that they lead to within the tree
    ("follow"), or made anew ("copy"), where one that leads out of the tree ends the call.
    FIFOs, sockets and devices are skipped. ``resume`` is for each of them, and implies
    ``preserve``: a file of the same size and time is not sent again. ``progress`` counts
    the bytes of the whole tree. All else is as for :func:`put`.

    The first failure ends it, and its message says which name it was about. What was sent
    before is stored.
    """
    if name is None:
        name = os.path.basename(os.path.abspath(os.fsencode(source)))
    return _tree(
        lib.frame_file_put_tree,
        fd,
        name,
        c_string(source, "source"),
        progress,
        links=links,
        flags=flags_of(overwrite, checksum, sync)
        | _abi.FRAME_FILE_PRESERVE * preserve
        | _abi.FRAME_FILE_RESUME * resume,
        rate=limit(rate, "rate"),
        timeout_ms=milliseconds(timeout),
        stall_ms=milliseconds(stall),
        write_fd=other_fileno(write_fd),
    )


def get_tree(
    fd: Descriptor,
    name: StrOrBytesPath,
    destination: StrOrBytesPath,
    *,
    links: Links = "skip",
    overwrite: bool = True,
    max_size: int | None = None,
    preserve: bool = False,
    resume: bool = False,
    rate: int | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    checksum: bool = True,
    sync: bool = True,
    write_fd: Descriptor | None = None,
) -> TreeResult:
    """Fetches a directory, with all that is in it, from the other end of a stream.

    It becomes the directory at the path ``destination``. Nothing that the server says leads
    out of there: a name that is none is a MalformedError, and a symbolic link that could
    lead out a PathError. ``links`` cannot be "follow". A file of more than ``max_size``
    bytes ends the call. As :func:`put_tree` otherwise, and as :func:`get` for each of the
    files.
    """
    return _tree(
        lib.frame_file_get_tree,
        fd,
        name,
        c_string(destination, "destination"),
        progress,
        links=links,
        flags=flags_of(overwrite, checksum, sync)
        | _abi.FRAME_FILE_PRESERVE * preserve
        | _abi.FRAME_FILE_RESUME * resume,
        max_size=limit(max_size, "max_size"),
        rate=limit(rate, "rate"),
        timeout_ms=milliseconds(timeout),
        stall_ms=milliseconds(stall),
        write_fd=other_fileno(write_fd),
    )


def _tree(
    function: Callable[..., int],
    fd: Descriptor,
    name: StrOrBytesPath,
    path: bytes,
    progress: Progress | None,
    *,
    links: Links,
    flags: int,
    **members: Any,
) -> TreeResult:
    if links not in LINKS:
        raise ValueError(f"links is one of {', '.join(LINKS)}: {links!r}")
    result = _abi.FrameFileTree()
    with transfer_options(progress, flags=flags | LINKS[links], **members) as options:
        code = function(fileno(fd), c_string(name, "name"), path, options, result)
    _errors.check(code)
    return TreeResult(
        result.files, result.directories, result.links, result.skipped, result.bytes
    )
