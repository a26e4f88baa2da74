"""Files and trees on a connection: put, got, described, listed and served."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Union

from . import _abi, _errors, _policies
from ._arguments import (
    HasFileno,
    StrOrBytesPath,
    c_string,
    fileno,
    in_position,
    limit,
    milliseconds,
    poll_time,
    timestamp,
    unsigned,
)
from ._callbacks import Callbacks
from ._core import Core
from ._messages import Request, text_of
from ._native import lib
from ._policies import FilePolicy

#: Called with the name of the file on the server, the bytes that are done and all of them; to
#: stop, raise an exception.
Progress = Callable[[str, int, int], object]
LocalFile = Union[int, HasFileno, StrOrBytesPath]
FileKind = Literal["file", "dir", "symlink", "other"]
Links = Literal["skip", "refuse", "follow", "copy"]

PATH = (str, bytes, os.PathLike)

KINDS: dict[int, FileKind] = {
    _abi.FRAME_FILE_REGULAR: "file",
    _abi.FRAME_FILE_DIRECTORY: "dir",
    _abi.FRAME_FILE_SYMLINK: "symlink",
}

LINKS = {
    "skip": 0,
    "refuse": _abi.FRAME_FILE_REFUSE_LINKS,
    "follow": _abi.FRAME_FILE_FOLLOW_LINKS,
    "copy": _abi.FRAME_FILE_COPY_LINKS,
}


class FileResult(NamedTuple):
    """A file that was transferred: its ``size`` in bytes, its ``sha256`` in hex ("" if none
    was computed, or nothing was transferred). ``error`` is the ErrorCode that serve_file()
    reported to the client, or 0."""

    size: int
    sha256: str
    error: int = 0


class TreeResult(NamedTuple):
    """What came of a tree: the counts of ``files`` that were transferred or, with
    ``resume``, were the same on both sides, of ``directories``, the uppermost one among
    them, of symbolic ``links`` that were made, and of what was ``skipped``; and the
    ``bytes`` of the files that were transferred."""

    files: int
    directories: int
    links: int
    skipped: int
    bytes: int


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


class Files(Core):
    """Files of a connection: those of the server at the other end, or of this one."""

    def put(
        self,
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
        reply: bool = True,
    ) -> FileResult:
        """Stores a file on the server.

        ``source`` is a path, or a descriptor or binary file object to be read from where it
        stands: ``length`` bytes, or to the end of a regular file. ``name`` is relative to the
        server's root; by default the last part of the path. The server replaces a file of
        that name only when all of the new one is there; not at all without ``overwrite``.
        ``mode``: its permission bits (default 0o666), less the server's umask. ``mtime``: its
        time of modification, in seconds since 1970. ``preserve``: both are those of the
        source. ``parents``: directories that are missing there are made.

        ``resume``: this goes on where an earlier put of the same content was cut, and if it
        is cut as well the next one can go on from there. Otherwise all of it is sent again.
        ``offset`` is for a caller who knows that the server has so many bytes of the file:
        they are not sent, and ``source`` stands behind them. Without ``checksum`` it need not
        have them.

        ``progress(name, done, total)`` is called as bytes go; an exception that it raises
        ends the transfer and comes out of this call. ``rate`` is the most bytes per second
        (default: no limit). ``timeout`` is in seconds for the whole call, by default the
        connection's; ``stall`` the longest without a byte (default 30 s). ``checksum``:
        SHA-256 over all of it, compared at the end. ``reply=False`` is for servers of old,
        which answer nothing.

        If ``remote`` is set (DeniedError: the name; ExistsError, NoSpaceError, ChecksumError
        and the like) the server did not store it, and the connection can be used on; so it
        can after NotFoundError, DeniedError, PathError and ValueError for ``source``, which
        come before anything was sent. Any other error after that breaks the connection.
        """
        if name is None:
            if not isinstance(source, PATH):
                raise TypeError("a name is needed if the source is not a path")
            name = os.path.basename(os.fsencode(source))
        flags = (
            flags_of(overwrite, checksum, True, reply)
            | _abi.FRAME_FILE_PRESERVE * preserve
            | _abi.FRAME_FILE_PARENTS * parents
            | _abi.FRAME_FILE_RESUME * resume
        )
        result = self._transfer(
            lib.frame_file_put,
            name,
            source,
            True,
            progress,
            timeout,
            flags,
            mode=limit(mode, "mode", 0o777),
            length=limit(length, "length"),
            offset=unsigned(offset, "offset"),
            mtime=mtime,
            stall_ms=milliseconds(stall),
            rate=limit(rate, "rate"),
        )
        return FileResult(result.bytes, result.sha256.decode("ascii"))

    def get(
        self,
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
    ) -> FileResult:
        """Fetches a file from the server.

        ``destination`` is a path, whose file is replaced only when all of the new one is
        there and, with ``sync``, on the disk, or a descriptor or binary file object to be
        written to. A file of more than ``max_size`` bytes is refused (default: no limit).

        For a path: ``overwrite``, ``mode``, ``mtime``, ``sync``; with ``preserve`` it gets
        the permission bits and the time that the file has on the server. ``resume``: this
        goes on from what an earlier get has left in a partial file beside it, if that is how
        the server's file begins, and if it is cut as well the next one can go on.

        For a descriptor: ``offset`` bytes of the file are there already, before where it
        stands, and only the rest comes. They have to be readable, or ``checksum`` False. If
        the server's file begins with others that is a ChecksumError, and if it is shorter a
        MalformedError, both with ``remote``.

        If ``remote`` is set (NotFoundError, DeniedError and the like), and after a
        ChecksumError, the connection can be used on. As :meth:`put` otherwise.
        """
        flags = (
            flags_of(overwrite, checksum, sync)
            | _abi.FRAME_FILE_PRESERVE * preserve
            | _abi.FRAME_FILE_RESUME * resume
        )
        result = self._transfer(
            lib.frame_file_get,
            name,
            destination,
            False,
            progress,
            timeout,
            flags,
            mode=limit(mode, "mode", 0o777),
            max_size=limit(max_size, "max_size"),
            offset=unsigned(offset, "offset"),
            mtime=mtime,
            stall_ms=milliseconds(stall),
            rate=limit(rate, "rate"),
        )
        return FileResult(result.bytes, result.sha256.decode("ascii"))

    def put_tree(
        self,
        source: StrOrBytesPath,
        name: StrOrBytesPath | None = None,
        *,
        links: Links = "skip",
        overwrite: bool = True,
        preserve: bool = False,
        parents: bool = False,
        resume: bool = False,
        rate: int | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        stall: float | None = None,
        checksum: bool = True,
    ) -> TreeResult:
        """Stores a directory on the server, with all that is in it.

        ``source`` is a path; ``name`` is relative to the server's root, by default the last
        part of the path. Directories that are missing are made, and what else is in them
        stays. Nothing outside of ``source`` is ever sent.

        ``links``: symbolic links are left out and counted ("skip"), end the call with a
        PathError ("refuse"), are replaced by the files that they lead to within the tree
        ("follow"), or made anew ("copy"); one that leads out of the tree ends the call.
        FIFOs, sockets and devices are skipped. ``resume`` is for each of the files, and
        implies ``preserve``: a file of the same size and time is not sent again.
        ``progress`` counts the bytes of the whole tree. All else is as for :meth:`put`.

        The first failure ends it, and its message says which name it was about. What was
        sent before is stored.
        """
        if name is None:
            name = os.path.basename(os.path.abspath(os.fsencode(source)))
        flags = (
            flags_of(overwrite, checksum, True)
            | tree_flags(links, preserve, resume)
            | _abi.FRAME_FILE_PARENTS * parents
        )
        return self._tree(
            lib.frame_file_put,
            name,
            source,
            True,
            progress,
            timeout,
            flags,
            rate=limit(rate, "rate"),
            stall_ms=milliseconds(stall),
        )

    def get_tree(
        self,
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
    ) -> TreeResult:
        """Fetches a directory from the server, with all that is in it.

        It becomes the directory at the path ``destination``. Nothing that the server says
        leads out of there: a name that is none is a MalformedError, and a symbolic link that
        could lead out a PathError. ``links`` cannot be "follow". A file of more than
        ``max_size`` bytes ends the call. As :meth:`put_tree` otherwise, and as :meth:`get`
        for each of the files.
        """
        return self._tree(
            lib.frame_file_get,
            name,
            destination,
            False,
            progress,
            timeout,
            flags_of(overwrite, checksum, sync) | tree_flags(links, preserve, resume),
            max_size=limit(max_size, "max_size"),
            rate=limit(rate, "rate"),
            stall_ms=milliseconds(stall),
        )

    def stat(self, name: StrOrBytesPath = "", *, timeout: float | None = None) -> FileStat:
        """What ``name`` is, relative to the server's root; "" is the root. A symbolic link
        is not followed.

        If ``remote`` is set (NotFoundError, DeniedError and the like) the connection can be
        used on; any other error after the request has begun to go out breaks it.
        """
        return stat_of(self._info(name, 0, timeout))

    def partial(self, name: StrOrBytesPath, *, timeout: float | None = None) -> PartialFile:
        """How much the server has of a put of ``name`` with ``resume`` that was cut.

        NotFoundError: nothing. As :meth:`stat` otherwise.
        """
        info = self._info(name, _abi.FRAME_FILE_PARTIAL, timeout)
        return PartialFile(info.file_size, info.sha256.decode("ascii"))

    def listdir(
        self, name: StrOrBytesPath = "", *, timeout: float | None = None
    ) -> list[Entry]:
        """What is in the directory ``name`` on the server, sorted by the bytes of the names.

        A list of more than 64 MiB on the wire is refused: TooBigError. MalformedError: the
        server sent a name that is none. As :meth:`stat` otherwise.
        """
        out, target, time = ctypes.c_void_p(), c_string(name, "name"), poll_time(timeout)
        count = self._done(lib.frame_file_list(self._pointer, target, time, out))
        try:
            return [entry_of(out, index) for index in range(count)]
        finally:
            lib.frame_file_listing_free(out)

    def mkdir(
        self,
        name: StrOrBytesPath,
        mode: int | None = None,
        parents: bool = False,
        *,
        timeout: float | None = None,
    ) -> None:
        """Makes the directory ``name`` on the server; one that is there already is fine.

        ``mode``: its permission bits (default 0o777), less the server's umask. ``parents``:
        those above it that are missing are made, too. ExistsError: something else has that
        name. As :meth:`stat` otherwise.
        """
        target, bits = c_string(name, "name"), limit(mode, "mode", 0o777)
        flags, time = _abi.FRAME_FILE_PARENTS * parents, poll_time(timeout)
        self._done(lib.frame_file_mkdir(self._pointer, target, bits, flags, time))

    def serve_file(
        self,
        request: Request,
        root: LocalFile,
        *,
        max_size: int | None = None,
        mode: int | None = None,
        parents: bool = False,
        policy: FilePolicy | None = None,
        rate: int | None = None,
        timeout: float | None = None,
        stall: float | None = None,
        overwrite: bool = True,
        checksum: bool = True,
        sync: bool = True,
        reply_to_oldest: bool = True,
    ) -> FileResult:
        """Does what a request asks for that recv_header() returned: ``put``, ``get``,
        ``stat``, ``list``, ``mkdir`` or ``symlink``; its body is read here.

        ``root`` is a directory, as a path or a descriptor; no name leads out of it. Returns
        when the reply is sent, also an error reply (``error`` says which). Any exception
        breaks the connection, except for what ``policy`` raised. Parameters are as for
        :meth:`put` and :meth:`get`.

        ``policy`` is called with a :class:`FileInquiry` in the thread of the call, before
        anything is opened or stored. It returns None to allow the request. To refuse it, it
        raises an OSError, such as PermissionError("read only"), or a FrameError: the client
        gets the fitting code and the text. Any other exception, and any other result,
        refuses the request as denied and comes out of this call, once the client has its
        reply.

        ``reply_to_oldest=False`` leaves a put without data_size unanswered: those who send
        one read no reply, and lose what is on its way if they close with a reply unread.
        """
        options = _abi.FrameFileOptions(
            flags=flags_of(overwrite, checksum, sync, reply_to_oldest)
            | _abi.FRAME_FILE_PARENTS * parents,
            timeout_ms=milliseconds(timeout),
            stall_ms=milliseconds(stall),
            max_size=limit(max_size, "max_size"),
            mode=limit(mode, "mode", 0o777),
            rate=limit(rate, "rate"),
        )
        text, result = text_of(request), _abi.FrameFileResult()
        with directory(root) as number, Callbacks() as callbacks:
            if policy is not None:
                options.policy = _policies.file_callback(policy, callbacks)
            code = lib.frame_file_serve(self._pointer, text, number, options, result)
        self._done(code)
        error = _errors.code_of(result.error) if result.error else 0
        return FileResult(result.bytes, result.sha256.decode("ascii"), error)

    # Helpers.

    def _transfer(
        self,
        function: Callable[..., int],
        name: StrOrBytesPath,
        file: LocalFile,
        to_read: bool,
        progress: Progress | None,
        timeout: float | None,
        flags: int,
        mtime: float | None = None,
        **members: Any,
    ) -> _abi.FrameFileResult:
        what = _abi.FrameFileTransfer(flags=flags, name=c_string(name, "name"), **members)
        if mtime is not None:
            what.flags |= _abi.FRAME_FILE_MTIME
            what.mtime_ms = timestamp(mtime)
        result = _abi.FrameFileResult()
        with contextlib.ExitStack() as stack:
            callbacks = stack.enter_context(Callbacks())
            if progress is not None:
                report = callbacks.guarded(functools.partial(reported, progress), 1)
                what.progress = _abi.FrameFileTransferProgress(report)
            if isinstance(file, PATH):
                what.path = c_string(file, "path")
            else:
                what.fd = stack.enter_context(in_position(file, to_read=to_read))
            code = function(self._pointer, what, poll_time(timeout), result)
        self._done(code)
        return result

    def _tree(self, *arguments: Any, **members: Any) -> TreeResult:
        result = self._transfer(*arguments, **members)
        return TreeResult(
            result.files, result.directories, result.links, result.skipped, result.bytes
        )

    def _info(
        self, name: StrOrBytesPath, flags: int, timeout: float | None
    ) -> _abi.FrameFileInfo:
        info, target, time = _abi.FrameFileInfo(), c_string(name, "name"), poll_time(timeout)
        self._done(lib.frame_file_stat(self._pointer, target, flags, time, info))
        return info


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


def reported(progress: Progress, _: object, name: bytes, done: int, total: int) -> int:
    progress(os.fsdecode(name), done, total)
    return 0


def flags_of(overwrite: bool, checksum: bool, sync: bool, reply: bool = True) -> int:
    """What is not to be done, for the options."""
    return (
        _abi.FRAME_FILE_NO_OVERWRITE * (not overwrite)
        | _abi.FRAME_FILE_NO_CHECKSUM * (not checksum)
        | _abi.FRAME_FILE_NO_SYNC * (not sync)
        | _abi.FRAME_FILE_NO_REPLY * (not reply)
    )


def tree_flags(links: Links, preserve: bool, resume: bool) -> int:
    """What is done with what is in a tree."""
    if links not in LINKS:
        raise ValueError(f"links is one of {', '.join(LINKS)}: {links!r}")
    return (
        _abi.FRAME_FILE_TREE
        | LINKS[links]
        | _abi.FRAME_FILE_PRESERVE * preserve
        | _abi.FRAME_FILE_RESUME * resume
    )


def entry_of(entries: ctypes.c_void_p, index: int) -> Entry:
    info, target = _abi.FrameFileInfo(), ctypes.c_char_p()
    name = lib.frame_file_listing_entry(entries, index, info, target)
    leads_to = None if target.value is None else os.fsdecode(target.value)
    return Entry(os.fsdecode(name), *stat_of(info), leads_to)


def stat_of(info: _abi.FrameFileInfo) -> FileStat:
    kind = KINDS.get(info.kind, "other")
    return FileStat(kind, info.file_size, info.mode, info.mtime_ms / 1000)
