"""Files: put and get them, or serve those of a directory."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Union

from . import _abi, _errors, _policies
from ._arguments import (
    Descriptor,
    HasFileno,
    StrOrBytesPath,
    c_string,
    fileno,
    in_position,
    limit,
    milliseconds,
    other_fileno,
    timestamp,
    unsigned,
)
from ._callbacks import Callbacks
from ._frames import IncomingFrame
from ._native import lib
from ._policies import FilePolicy

#: Called with the bytes that are done and all of them; to stop, raise an exception.
Progress = Callable[[int, int], object]
LocalFile = Union[int, HasFileno, StrOrBytesPath]
PATH = (str, bytes, os.PathLike)


class FileResult(NamedTuple):
    """A file that was transferred: its ``size`` in bytes, its ``sha256`` in hex ("" if none
    was computed, or nothing was transferred). ``error`` is the ErrorCode that serve_file()
    reported to the client, or 0."""

    size: int
    sha256: str
    error: int = 0


def put(
    fd: Descriptor,
    source: LocalFile,
    name: StrOrBytesPath | None = None,
    *,
    overwrite: bool = True,
    mode: int | None = None,
    length: int | None = None,
    offset: int = 0,
    mtime: float | None = None,
    preserve: bool = False,
    parents: bool = False,
    resume: bool = False,
    rate: int | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    checksum: bool = True,
    sync: bool = True,
    reply: bool = True,
    write_fd: Descriptor | None = None,
) -> FileResult:
    """Stores a file on the other end of a stream.

    ``source`` is a path, or a descriptor or file object to be read from where it stands:
    ``length`` bytes, or to the end of a regular file. ``name`` is relative to the server's
    root; by default the last part of the path. The server replaces a file of that name
    only when all of the new one is there; not at all without ``overwrite``. ``mode``: its
    permission bits (default 0o666), less the server's umask. ``mtime``: its time of
    modification, in seconds since 1970. ``preserve``: both are those of the file at the
    path ``source``. ``parents``: directories that are missing there are made.

    ``resume`` is for a regular file: this goes on where an earlier put of the same content
    was cut, and if it is cut as well the next one can go on from there. Otherwise all of it
    is sent again. ``offset`` is for a caller who knows that the server has so many bytes of
    the file: they are not sent, and ``source`` stands behind them. Without ``checksum`` it
    need not have them.

    ``progress(done, total)`` is called as bytes go; an exception that it raises, and
    Ctrl-C, ends the transfer and comes out of this call, and the connection is to be
    closed. ``rate`` is the most bytes per second (default: no limit). ``timeout`` is in
    seconds for the whole call (default: no limit), ``stall`` the longest without a byte
    (default 30 s). ``checksum``: SHA-256 over all of it, compared at the end. ``sync``: the
    server has it on its disk before it replies. ``reply=False`` is for servers of old,
    which answer nothing. ``write_fd`` is written to where that is not ``fd``.

    Where ``remote`` is set (DeniedError: the name; ExistsError, NoSpaceError, ChecksumError
    and the like) the server did not store it, and the connection can be used on; so it can
    after NotFoundError, DeniedError, PathError and ValueError for ``source``, where nothing
    was sent, and after a FrameTimeoutError that is no StalledError. After any other close
    it.
    """
    if name is None:
        if not isinstance(source, PATH):
            raise TypeError("a name is needed where the source is not a path")
        name = os.path.basename(os.fsencode(source))
    target = c_string(name, "name")
    result = _abi.FrameFileResult()
    with transfer_options(
        progress,
        timeout_ms=milliseconds(timeout),
        write_fd=other_fileno(write_fd),
        flags=flags_of(overwrite, checksum, sync, reply)
        | _abi.FRAME_FILE_PRESERVE * preserve
        | _abi.FRAME_FILE_PARENTS * parents
        | _abi.FRAME_FILE_RESUME * resume,
        stall_ms=milliseconds(stall),
        mode=limit(mode, "mode", 0o777),
        length=limit(length, "length"),
        offset=unsigned(offset, "offset"),
        mtime_ms=timestamp(mtime),
        rate=limit(rate, "rate"),
    ) as options:
        if isinstance(source, PATH):
            path = c_string(source, "source")
            code = lib.frame_file_put_path(fileno(fd), target, path, options, result)
        else:
            with in_position(source) as number:
                code = lib.frame_file_put(fileno(fd), target, number, options, result)
    return _checked(code, result)


def get(
    fd: Descriptor,
    name: StrOrBytesPath,
    destination: LocalFile,
    *,
    overwrite: bool = True,
    mode: int | None = None,
    max_size: int | None = None,
    offset: int = 0,
    mtime: float | None = None,
    preserve: bool = False,
    resume: bool = False,
    rate: int | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    checksum: bool = True,
    sync: bool = True,
    write_fd: Descriptor | None = None,
) -> FileResult:
    """Fetches a file from the other end of a stream.

    ``destination`` is a path, whose file is replaced only when all of the new one is there,
    or a descriptor or file object to be written to. A file of more than ``max_size`` bytes
    is refused (default: no limit).

    For a path: ``overwrite``, ``mode``, ``mtime``, ``sync``; with ``preserve`` it gets the
    permission bits and the time that the file has on the server. ``resume``: this goes on
    from what an earlier get has left in a partial file beside it, if that is how the
    server's file begins, and if it is cut as well the next one can go on.

    For a descriptor: ``offset`` bytes of the file are there already, before where it stands,
    and only the rest comes. They have to be readable, or ``checksum`` False. Where the
    server's file begins with others that is a ChecksumError, and where it is shorter a
    MalformedError, both with ``remote``.

    Where ``remote`` is set (NotFoundError, DeniedError and the like), and after a
    ChecksumError, the connection can be used on. After any other close it: TruncatedError,
    TooBigError (``max_size``), ExistsError or PathError (``destination``), NoSpaceError,
    StalledError. As :func:`put` otherwise.
    """
    source = c_string(name, "name")
    result = _abi.FrameFileResult()
    with transfer_options(
        progress,
        timeout_ms=milliseconds(timeout),
        write_fd=other_fileno(write_fd),
        flags=flags_of(overwrite, checksum, sync)
        | _abi.FRAME_FILE_PRESERVE * preserve
        | _abi.FRAME_FILE_RESUME * resume,
        stall_ms=milliseconds(stall),
        mode=limit(mode, "mode", 0o777),
        max_size=limit(max_size, "max_size"),
        offset=unsigned(offset, "offset"),
        mtime_ms=timestamp(mtime),
        rate=limit(rate, "rate"),
    ) as options:
        if isinstance(destination, PATH):
            path = c_string(destination, "destination")
            code = lib.frame_file_get_path(fileno(fd), source, path, options, result)
        else:
            with in_position(destination) as number:
                code = lib.frame_file_get(fileno(fd), source, number, options, result)
    return _checked(code, result)


def serve_file(
    fd: Descriptor,
    request: IncomingFrame,
    root: LocalFile,
    *,
    max_size: int | None = None,
    policy: FilePolicy | None = None,
    rate: int | None = None,
    progress: Progress | None = None,
    timeout: float | None = None,
    stall: float | None = None,
    overwrite: bool = True,
    checksum: bool = True,
    sync: bool = True,
    reply_to_oldest: bool = True,
    write_fd: Descriptor | None = None,
) -> FileResult:
    """Does what a request that recv_header() returned asks for: ``put``, ``get``, ``stat``,
    ``list``, ``mkdir`` or ``symlink``.

    ``root`` is a directory, as a path or a descriptor; no name leads out of it. Returns
    when the reply is sent, also an error reply (``error`` says which). Any exception: close
    the connection, except for what ``policy`` raised. Parameters are as for :func:`put` and
    :func:`get`.

    ``policy`` is called with a :class:`FileInquiry` in the thread of the call, before
    anything is opened or stored. It returns None to allow the request. To refuse it, it
    raises an OSError, such as PermissionError("read only"), or a FrameError: the client
    gets the fitting code and the text. Any other exception, and any other result, refuses
    the request as denied and comes out of this call, once the client has its reply.

    ``reply_to_oldest=False`` leaves a put without data_size unanswered: those who send one
    read no reply, and lose what is on its way if they close with a reply unread.
    """
    options = transfer_options(
        progress,
        policy,
        timeout_ms=milliseconds(timeout),
        write_fd=other_fileno(write_fd),
        flags=flags_of(overwrite, checksum, sync, reply_to_oldest),
        stall_ms=milliseconds(stall),
        max_size=limit(max_size, "max_size"),
        rate=limit(rate, "rate"),
    )
    result = _abi.FrameFileResult()
    with directory(root) as number, request.handle as pointer, options as native:
        code = lib.frame_file_serve(fileno(fd), pointer, number, native, result)
    return _checked(code, result)


@contextlib.contextmanager
def transfer_options(
    progress: Progress | None, policy: FilePolicy | None = None, **members: Any
) -> Iterator[_abi.FrameFileOptions]:
    """Options for the call in the `with` block, out of which comes what the callbacks
    raise. Even without a function of the caller's there is one, for Ctrl-C."""
    with Callbacks() as callbacks:
        report = callbacks.guarded(functools.partial(_reported, progress), 1)
        callback = _abi.FrameFileOptionsProgress(report)
        options = _abi.FrameFileOptions(progress=callback, **members)
        if policy is not None:
            options.policy = _policies.file_callback(policy, callbacks)
        yield options


def _reported(progress: Progress | None, _: object, done: int, total: int) -> int:
    if progress is not None:
        progress(done, total)
    return 0


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


def _checked(code: int, result: _abi.FrameFileResult) -> FileResult:
    _errors.check(code)
    error = _errors.code_of(result.error) if result.error else 0
    return FileResult(result.bytes, result.sha256.decode("ascii"), error)


def flags_of(overwrite: bool, checksum: bool, sync: bool, reply: bool = True) -> int:
    """What is not to be done, for the options."""
    return (
        _abi.FRAME_FILE_NO_OVERWRITE * (not overwrite)
        | _abi.FRAME_FILE_NO_CHECKSUM * (not checksum)
        | _abi.FRAME_FILE_NO_SYNC * (not sync)
        | _abi.FRAME_FILE_NO_REPLY * (not reply)
    )
