"""Frames, authentication, remote commands and file transfer over any file descriptor.

>>> with framefd.connect("host:port", key=framefd.load_key("key")) as server:
...     print(server.run("uname -a").text)

Every function takes a descriptor: an int, a socket, a :class:`Connection`, or any object
with a fileno(). It is borrowed: not closed, its flags not changed, nothing read beyond what
was asked for. Times are in seconds, sizes in bytes; None stands for the default. All
exceptions are a :class:`FrameError`, and of the fitting built-in class as well, except for
arguments that are no valid Python values (ValueError, TypeError).

Calls of the library let other threads run. A signal, Ctrl-C too, is seen when the call
returns: give a timeout where that matters. A :class:`RemoteCommand` sees it while it waits, a
transfer of files with the next piece.
"""

from ._addresses import Address
from ._arguments import Descriptor, HasFileno
from ._auth import Key, KeyLike, auth_client, auth_server, generate_key, load_key
from ._connection import Connection, connect
from ._datagrams import Datagram, DatagramServer, recv_datagram, run_datagram, send_datagram
from ._errors import (
    ArgumentError,
    AuthenticationError,
    BadDescriptorError,
    BadKeyError,
    BusyError,
    CancelledError,
    ChecksumError,
    ClosedError,
    DeniedError,
    DisconnectedError,
    ErrorCode,
    ExistsError,
    FrameError,
    FrameTimeoutError,
    InternalError,
    LimitError,
    MalformedError,
    NoMemoryError,
    NoSpaceError,
    NotFoundError,
    PathError,
    SpawnError,
    StalledError,
    StateError,
    SystemCallError,
    TooBigError,
    TruncatedError,
    UnsupportedError,
)
from ._exec import (
    CalledProcessError,
    Command,
    CommandError,
    CommandTimeout,
    CompletedCommand,
    ExecOptions,
    ExecResult,
    Outcome,
    OutputLimitError,
    StatusLostError,
    exec_and_reply,
    exec_run,
    exec_serve,
    is_late_input,
    run,
)
from ._files import FileResult, LocalFile, Progress, get, put, serve_file
from ._frames import (
    Frame,
    IncomingFrame,
    OutgoingFrame,
    Prefix,
    recv,
    recv_header,
    recv_packet,
    reply_error,
    reply_hello,
    send,
    send_header,
    send_packet,
)
from ._headers import Header
from ._native import NO_LIMIT
from ._policies import ExecInquiry, ExecPolicy, FileInquiry, FilePolicy
from ._queries import (
    Entry,
    FileKind,
    FileStat,
    PartialFile,
    listdir,
    mkdir,
    partial,
    stat,
    sweep,
)
from ._reader import Reader, StreamedFrame
from ._stream import STDERR, STDOUT, RemoteCommand, start
from ._trees import Links, TreeResult, get_tree, put_tree
from ._version import VERSION as __version__
from ._writer import Writer

__all__ = [
    "NO_LIMIT",
    "STDERR",
    "STDOUT",
    "Address",
    "ArgumentError",
    "AuthenticationError",
    "BadDescriptorError",
    "BadKeyError",
    "BusyError",
    "CalledProcessError",
    "CancelledError",
    "ChecksumError",
    "ClosedError",
    "Command",
    "CommandError",
    "CommandTimeout",
    "CompletedCommand",
    "Connection",
    "Datagram",
    "DatagramServer",
    "DeniedError",
    "Descriptor",
    "DisconnectedError",
    "Entry",
    "ErrorCode",
    "ExecInquiry",
    "ExecOptions",
    "ExecPolicy",
    "ExecResult",
    "ExistsError",
    "FileInquiry",
    "FileKind",
    "FilePolicy",
    "FileResult",
    "FileStat",
    "Frame",
    "FrameError",
    "FrameTimeoutError",
    "HasFileno",
    "Header",
    "IncomingFrame",
    "InternalError",
    "Key",
    "KeyLike",
    "LimitError",
    "Links",
    "LocalFile",
    "MalformedError",
    "NoMemoryError",
    "NoSpaceError",
    "NotFoundError",
    "Outcome",
    "OutgoingFrame",
    "OutputLimitError",
    "PartialFile",
    "PathError",
    "Prefix",
    "Progress",
    "Reader",
    "RemoteCommand",
    "SpawnError",
    "StalledError",
    "StateError",
    "StatusLostError",
    "StreamedFrame",
    "SystemCallError",
    "TooBigError",
    "TreeResult",
    "TruncatedError",
    "UnsupportedError",
    "Writer",
    "__version__",
    "auth_client",
    "auth_server",
    "connect",
    "exec_and_reply",
    "exec_run",
    "exec_serve",
    "generate_key",
    "get",
    "get_tree",
    "is_late_input",
    "listdir",
    "load_key",
    "mkdir",
    "partial",
    "put",
    "put_tree",
    "recv",
    "recv_datagram",
    "recv_header",
    "recv_packet",
    "reply_error",
    "reply_hello",
    "run",
    "run_datagram",
    "send",
    "send_datagram",
    "send_header",
    "send_packet",
    "serve_file",
    "start",
    "stat",
    "sweep",
]
