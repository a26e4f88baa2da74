"""Files and trees on a connection: put, fetched, described, listed and served."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, TypeVar

from . import _abi, _errors, _policies
from ._arguments import (
    StrOrBytesPath,
    c_string,
    check_callable,
    checked,
    flag,
    limit,
    milliseconds,
    optional,
    poll_time,
    timestamp,
    unsigned,
)
from ._callbacks import Callbacks
from ._contents import (
    PATH,
    LocalFile,
    LocalSource,
    LocalTarget,
    directory,
    readable,
    reader,
    writable,
)
from ._core import Core
from ._descriptors import in_position
from ._errors import FrameError
from ._messages import Request, text_of
from ._native import lib
from ._policies import FilePolicy

#: Called with the name of the file on the server, the bytes that are done and all of them; to
#: stop, raise an exception.
Progress = Callable[[str, int, int], object]
FileKind = Literal["file", "dir", "symlink", "other"]
Links = Literal["skip", "refuse", "follow", "copy"]

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
    """Result of transferring a tree: the counts of ``files`` that were transferred or, with
    ``resume``, were the same on both sides, of ``directories``, including the topmost one, of
    symbolic ``links`` that were made, and of entries that were ``skipped``; the ``bytes`` of
    the files, with what the other side had of a file already but without files that were the
    same; and how many entries ``failed``."""

    files: int
    directories: int
    links: int
    skipped: int
    bytes: int
    failed: int = 0


Result = TypeVar("Result", FileResult, TreeResult)


class FileStat(NamedTuple):
    """A file, directory or other entry on a server: its ``kind`` ("file", "dir", "symlink",
    or "other" for FIFOs, sockets and devices), the ``size`` of a file in bytes, its
    permission bits ``mode``, and ``mtime``, the modification time in seconds since 1970."""

    kind: FileKind
    size: int
    mode: int
    mtime: float


class Entry(NamedTuple):
    """An entry of a directory on a server: its ``name``, decoded like os.fsdecode(), and the
    members of :class:`FileStat`. ``target`` is that of a symbolic link, otherwise None."""

    name: str
    kind: FileKind
    size: int
    mode: int
    mtime: float
    target: str | None


class PartialFile(NamedTuple):
    """The part that a server has of an interrupted put: its ``size`` in bytes, and its
    ``sha256`` in hex."""

    size: int
    sha256: str


class Files(Core):
    """File requests of a connection, sent to the peer or served for it."""

    def put(
        self,
        source: LocalSource,
        name: StrOrBytesPath | None = None,
        *,
        overwrite: bool = True,
        in_place: bool = False,
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

        ``source`` is a path, or a descriptor or any binary object with a read(), which is
        read from its position: ``length`` bytes, or to the end. What is no file of open(),
        such as a BytesIO, a gzip file, a member of an archive or an HTTP response, and a pipe
        or a socket without a ``length``, is read into a temporary file before ``timeout``
        begins. ``put(b"...")`` is a path, too: pass content in a BytesIO.

        ``name`` is relative to the server's root; by default the last part of the path. The
        server replaces a file of that name only once the new one is complete; without
        ``overwrite`` it never replaces one. ``mode``: permission bits, reduced by the
        server's umask; by default those of the file that is replaced, or of the source.
        ``mtime``: modification time, in seconds since 1970. ``preserve``: both are those of
        the source. ``parents``: missing parent directories are made.

        ``in_place``: a file that is there gets the new content, and stays the same file, with
        its owner, its access control list and its hard links. So it can be a bind mount, or in
        a directory in which no file can be made. The content is copied to it once it is
        complete and matches its digest. A failure before that leaves the old content. One while
        it is copied, or a crash, leaves a file that may have a part of each content; the message
        says so. MalformedError with ``remote``: the server cannot do so, and stored nothing.

        ``resume``: continues an interrupted put of the same content, and can be continued
        itself. Otherwise the whole file is sent again. ``offset`` is for a caller who knows
        that the server has this many bytes of the file: they are not sent, and the position
        of ``source`` is after them. Without ``checksum`` it need not have them.

        ``progress(name, done, total)`` is called after each piece, and once for an empty
        file; an exception that it raises ends the transfer, and this call raises it. ``rate``
        is the most bytes per second (default: no limit). ``timeout`` is in seconds for the
        whole call, by default the connection's; ``stall`` is the longest time without a byte
        (default 30 s).
        ``checksum``: a SHA-256 of the whole file is compared at the end. ``reply=False`` is
        for old servers, which do not reply.

        If ``remote`` is set (DeniedError: the name; ExistsError, NoSpaceError, ChecksumError
        and so on), the server did not store the file, and the connection is still usable,
        unless more than 8 MiB were left to send. It is also usable after NotFoundError,
        DeniedError, PathError and ValueError for ``source``, and after what its read()
        raises: these come before anything is sent. Any other error after that breaks the
        connection.
        """
        if name is None:
            if not isinstance(source, PATH):
                reader(source, length is not None)  # raises for a wrong object
                raise TypeError("a name is needed if the source is not a path")
            name = os.path.basename(os.fsencode(source))
        flags = (
            flags_of(overwrite, checksum, True, reply)
            | flag(_abi.FRAME_FILE_PRESERVE, preserve)
            | flag(_abi.FRAME_FILE_PARENTS, parents)
            | flag(_abi.FRAME_FILE_RESUME, resume)
            | flag(_abi.FRAME_FILE_IN_PLACE, in_place)
        )
        return self._transfer(
            file_result,
            lib.frame_file_put,
            name,
            readable(source, length),
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

    def get(
        self,
        name: StrOrBytesPath,
        destination: LocalTarget,
        *,
        overwrite: bool = True,
        in_place: bool = False,
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

        ``destination`` is a path, or a descriptor or any binary object with a write(). The
        file at a path is replaced only once the new one is complete and, with ``sync``, on
        the disk. What is no file of open(), such as a BytesIO or a gzip file, is written once
        the file is complete in a temporary file. A file of more than ``max_size`` bytes is
        refused (default: no limit).

        For a path: ``overwrite``, ``in_place``, ``mode``, ``mtime``, ``sync``; with
        ``preserve`` it gets the permission bits and the time of the server's file. Without
        ``mode`` a file that is replaced keeps its permission bits, and a new one gets those of
        the server's file.
        ``resume``: continues from the partial file of an interrupted get, if the server's
        file begins with the same bytes, and can be continued itself.

        For a descriptor: ``offset`` bytes of the file are already there, before its position,
        and only the rest is requested. They must be readable, unless ``checksum`` is False.
        ChecksumError with ``remote``: the server's file begins with other bytes.
        MalformedError with ``remote``: it is shorter.

        If ``remote`` is set (NotFoundError, DeniedError and so on), and after a
        ChecksumError, the connection is still usable. Otherwise as :meth:`put`.
        """
        flags = (
            flags_of(overwrite, checksum, sync)
            | flag(_abi.FRAME_FILE_PRESERVE, preserve)
            | flag(_abi.FRAME_FILE_RESUME, resume)
            | flag(_abi.FRAME_FILE_IN_PLACE, in_place)
        )
        return self._transfer(
            file_result,
            lib.frame_file_get,
            name,
            writable(destination, offset, checksum),
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

    def put_tree(
        self,
        source: StrOrBytesPath,
        name: StrOrBytesPath | None = None,
        *,
        links: Links = "skip",
        overwrite: bool = True,
        in_place: bool = False,
        preserve: bool = False,
        parents: bool = False,
        resume: bool = False,
        rate: int | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        stall: float | None = None,
        checksum: bool = True,
    ) -> TreeResult:
        """Stores a directory on the server, with everything in it.

        ``source`` is a path; ``name`` is relative to the server's root, by default the last
        part of the path. Missing directories are made, and other files in existing ones stay.
        Nothing outside of ``source`` is ever sent.

        ``links``: symbolic links are skipped and counted ("skip"), end the call with a
        PathError ("refuse"), are replaced by their targets within the tree ("follow"), or are
        copied as links ("copy"). Links that lead out of the tree, FIFOs, sockets and devices
        are skipped and counted. ``resume`` is for each of the files, and implies
        ``preserve``: a file of the same size and time is not sent again. ``progress`` counts
        the bytes of the whole tree. Otherwise as :meth:`put`.

        What cannot be read or stored, or vanishes meanwhile, is left out. At the end that is
        an IncompleteError, whose message names the first one; its ``result`` has the counts.
        A failure that is not one file's alone ends the call; its ``result`` says how far it
        came.
        """
        checked(source, PATH, "the source of a tree is a path")
        if name is None:
            name = os.path.basename(os.path.abspath(os.fsencode(source)))
        flags = (
            flags_of(overwrite, checksum, True)
            | tree_flags(links, preserve, resume, in_place)
            | flag(_abi.FRAME_FILE_PARENTS, parents)
        )
        return self._transfer(
            tree_result,
            lib.frame_file_put,
            name,
            contextlib.nullcontext(source),
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
        in_place: bool = False,
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
        """Fetches a directory from the server, with everything in it.

        It is stored as the directory at the path ``destination``. The server cannot make the
        call write outside of it: an invalid name is a PathError, and a symbolic link that
        could lead out is skipped. ``links`` cannot be "follow". A file of more than
        ``max_size`` bytes is left out. Otherwise as :meth:`put_tree`, and as :meth:`get`
        for each file.
        """
        checked(destination, PATH, "the destination of a tree is a path")
        return self._transfer(
            tree_result,
            lib.frame_file_get,
            name,
            contextlib.nullcontext(destination),
            False,
            progress,
            timeout,
            flags_of(overwrite, checksum, sync)
            | tree_flags(links, preserve, resume, in_place),
            max_size=limit(max_size, "max_size"),
            rate=limit(rate, "rate"),
            stall_ms=milliseconds(stall),
        )

    def stat(self, name: StrOrBytesPath = "", *, timeout: float | None = None) -> FileStat:
        """Describes ``name``, relative to the server's root; "" is the root. A symbolic link
        is not followed.

        If ``remote`` is set (NotFoundError, DeniedError and so on), the connection is still
        usable. Any other error after a part of the request was sent breaks it.
        """
        return stat_of(self._info(name, 0, timeout))

    def partial(self, name: StrOrBytesPath, *, timeout: float | None = None) -> PartialFile:
        """The part that the server has of an interrupted put of ``name`` with ``resume``.

        NotFoundError: there is none. Otherwise as :meth:`stat`.
        """
        info = self._info(name, _abi.FRAME_FILE_PARTIAL, timeout)
        return PartialFile(info.file_size, info.sha256.decode("ascii"))

    def listdir(
        self, name: StrOrBytesPath = "", *, timeout: float | None = None
    ) -> list[Entry]:
        """The entries of the directory ``name`` on the server, sorted by the bytes of their
        names.

        TooBigError: the list has more than 64 MiB on the wire. MalformedError: the server
        sent an invalid name. Otherwise as :meth:`stat`.
        """
        out, target, time = ctypes.c_void_p(), c_string(name, "name"), poll_time(timeout)
        count = self._about(lib.frame_file_list(self._pointer, target, time, out), name)
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
        """Makes the directory ``name`` on the server. It is no error if it exists.

        ``mode``: its permission bits (default 0o777), reduced by the server's umask.
        ``parents``: missing parent directories are made too. ExistsError: something else has
        that name. Otherwise as :meth:`stat`.
        """
        target, bits = c_string(name, "name"), limit(mode, "mode", 0o777)
        flags, time = flag(_abi.FRAME_FILE_PARENTS, parents), poll_time(timeout)
        self._about(lib.frame_file_mkdir(self._pointer, target, bits, flags, time), name)

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
        """Serves a request that recv_header() returned: ``put``, ``get``, ``stat``, ``list``,
        ``mkdir`` or ``symlink``. Its body is read here.

        ``root`` is a directory, as a path or a descriptor; no name leads out of it. Returns
        when the reply was sent, also an error reply (``error`` has its code). Any exception
        breaks the connection, except one of ``policy``. Parameters are as for :meth:`put` and
        :meth:`get`.

        ``policy`` is called with a :class:`FileInquiry` in the thread of the call, before
        anything is opened or stored, about each thing that the request would do. It returns
        None to allow it, or a :class:`FileChoice` to say how it is done. To refuse the request,
        it raises an OSError, such as PermissionError("read only"), or a FrameError: the client
        gets the matching code and the text. Any other exception or result refuses the request
        as denied, and is raised by this call after the reply was sent.

        ``reply_to_oldest=False`` sends no reply to a put without data_size: the clients that
        send such a put do not read a reply, and if they close with an unread reply, bytes in
        transit are lost.
        """
        options = serve_options(
            overwrite=overwrite,
            checksum=checksum,
            sync=sync,
            reply_to_oldest=reply_to_oldest,
            parents=parents,
            timeout=timeout,
            stall=stall,
            max_size=max_size,
            mode=mode,
            rate=rate,
        )
        text, result = text_of(request), _abi.FrameFileResult()
        with directory(root) as number, Callbacks() as callbacks:
            check_callable(policy, "a policy")
            if policy is not None:
                options.policy = _policies.file_callback(policy, callbacks)
            code = lib.frame_file_serve(self._pointer, text, number, options, result)
        self._done(code)
        return file_result(result)

    # Helpers.

    def _transfer(
        self,
        result_of: Callable[[_abi.FrameFileResult], Result],
        function: Callable[..., int],
        name: StrOrBytesPath,
        opening: AbstractContextManager[Any],
        to_read: bool,
        progress: Progress | None,
        timeout: float | None,
        flags: int,
        mtime: float | None = None,
        **members: Any,
    ) -> Result:
        what = _abi.FrameFileTransfer(flags=flags, name=c_string(name, "name"), **members)
        if mtime is not None:
            what.flags |= _abi.FRAME_FILE_MTIME
            what.mtime_ms = timestamp(mtime)
        result, time = _abi.FrameFileResult(), poll_time(timeout)
        check_callable(progress, "progress")
        with opening as file:
            with contextlib.ExitStack() as stack:
                callbacks = stack.enter_context(Callbacks())
                if progress is not None:
                    report = callbacks.guarded(functools.partial(reported, progress), 1)
                    what.progress = _abi.FrameFileTransferProgress(report)
                if isinstance(file, PATH):
                    what.path = c_string(file, "path")
                else:
                    what.fd = stack.enter_context(in_position(file, to_read=to_read))
                code = function(self._pointer, what, time, result)
            try:
                self._about(code, name, file if isinstance(file, PATH) else None)
            except FrameError as error:
                error.result = result_of(result)
                raise
        return result_of(result)

    def _about(
        self, code: int, name: StrOrBytesPath, local: StrOrBytesPath | None = None
    ) -> int:
        """As _done(); the exception has the name, or if the failure is here, the path."""
        try:
            return self._done(code)
        except FrameError as error:
            error.filename = name if error.remote else local
            raise

    def _info(
        self, name: StrOrBytesPath, flags: int, timeout: float | None
    ) -> _abi.FrameFileInfo:
        info, target, time = _abi.FrameFileInfo(), c_string(name, "name"), poll_time(timeout)
        self._about(lib.frame_file_stat(self._pointer, target, flags, time, info), name)
        return info


def sweep(root: LocalFile, older_than: float | None = None) -> int:
    """For a server: removes the leftovers of interrupted transfers, in the directory ``root``
    (a path or a descriptor) and all below it. Returns the number of removed files.

    These are files with the library's names, ``.framefd-...``, that no transfer is writing,
    and that were last written at least ``older_than`` seconds ago (default a day). Killed
    processes and interrupted transfers with ``resume`` leave such files. Symbolic links are
    not followed. SystemCallError: some may have been removed.
    """
    optional(older_than, (int, float), "an age is a number of seconds")
    if older_than is not None and not 0 <= older_than <= _abi.FRAME_NO_LIMIT:
        raise ValueError(f"an age is 0 seconds or more: {older_than}")
    # The library's 0 is its default.
    age = 0 if older_than is None else min(max(round(older_than * 1000), 1), 2**63 - 1)
    with directory(root) as number:
        return _errors.check(lib.frame_file_sweep(number, age))


def serve_options(
    *,
    overwrite: bool,
    checksum: bool,
    sync: bool,
    parents: bool,
    timeout: float | None,
    stall: float | None,
    max_size: int | None,
    mode: int | None,
    rate: int | None,
    reply_to_oldest: bool = True,
) -> _abi.FrameFileOptions:
    """How files are served, without a policy."""
    return _abi.FrameFileOptions(
        flags=flags_of(overwrite, checksum, sync, reply_to_oldest)
        | flag(_abi.FRAME_FILE_PARENTS, parents),
        timeout_ms=milliseconds(timeout),
        stall_ms=milliseconds(stall),
        max_size=limit(max_size, "max_size"),
        mode=limit(mode, "mode", 0o777),
        rate=limit(rate, "rate"),
    )


def file_result(result: _abi.FrameFileResult) -> FileResult:
    error = _errors.code_of(result.error) if result.error else 0
    return FileResult(result.bytes, result.sha256.decode("ascii"), error)


def tree_result(result: _abi.FrameFileResult) -> TreeResult:
    return TreeResult(
        result.files,
        result.directories,
        result.links,
        result.skipped,
        result.bytes,
        result.failed,
    )


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


def tree_flags(links: Links, preserve: bool, resume: bool, in_place: bool) -> int:
    """What is done with what is in a tree."""
    if checked(links, str, f"links is one of {', '.join(LINKS)}") not in LINKS:
        raise ValueError(f"links is one of {', '.join(LINKS)}: {links!r}")
    return (
        _abi.FRAME_FILE_TREE
        | LINKS[links]
        | flag(_abi.FRAME_FILE_PRESERVE, preserve)
        | flag(_abi.FRAME_FILE_RESUME, resume)
        | flag(_abi.FRAME_FILE_IN_PLACE, in_place)
    )


def entry_of(entries: ctypes.c_void_p, index: int) -> Entry:
    info, target = _abi.FrameFileInfo(), ctypes.c_char_p()
    name = lib.frame_file_listing_entry(entries, index, info, target)
    leads_to = None if target.value is None else os.fsdecode(target.value)
    return Entry(os.fsdecode(name), *stat_of(info), leads_to)


def stat_of(info: _abi.FrameFileInfo) -> FileStat:
    kind = KINDS.get(info.kind, "other")
    return FileStat(kind, info.file_size, info.mode, info.mtime_ms / 1000)
