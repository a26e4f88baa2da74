"""Messages, calls, remote commands and files over any descriptor, authenticated by a key.

>>> with framefd.connect("host:port", key=framefd.load_key("key")) as server:
...     print(server.run("uname -a").text)

There are three interfaces. A :class:`Connection`, which connect() and listen() make, is a
conversation: messages, calls, commands and files are its methods. In asyncio use
:class:`framefd.aio.Connection`. Functions such as send() and recv() are for one message on a
raw descriptor, without state: an int, a socket or another object with a fileno(), which is
not closed.

Times are in seconds, sizes in bytes; None is the default. Every exception is a
:class:`FrameError`, and also of the matching built-in class, except for invalid arguments
(ValueError, TypeError).

While a call waits, other threads and signal handlers run: Ctrl-C ends the call with a
KeyboardInterrupt.
"""

from ._abi import FRAME_NO_LIMIT as NO_LIMIT
from ._abi import ErrorCode
from ._addresses import Address
from ._auth import (
    Key,
    KeyLike,
    Keyring,
    Keys,
    Proof,
    auth_client,
    auth_server,
    generate_key,
    load_key,
)
from ._choices import ExecChoice, FileChoice
from ._commands import STDERR, STDOUT, RemoteCommand
from ._connection import Connection, Listener, ServerAddress, accept, connect, listen
from ._contents import LocalFile, LocalSource, LocalTarget, Readable, Writable
from ._core import State
from ._datagrams import Datagram, DatagramServer, recv_datagram, run_datagram, send_datagram
from ._descriptors import Descriptor, HasFileno
from ._errors import (
    AbortedError,
    ArgumentError,
    AuthenticationError,
    BadDescriptorError,
    BadKeyError,
    BrokenError,
    BusyError,
    CancelledError,
    ChecksumError,
    ClosedError,
    DeniedError,
    DisconnectedError,
    ExistsError,
    ForkedError,
    FrameError,
    FrameTimeoutError,
    IncompleteError,
    InternalError,
    LimitError,
    MalformedError,
    NoMemoryError,
    NoSpaceError,
    NotFoundError,
    PathError,
    RefusedError,
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
)
from ._files import (
    Entry,
    FileKind,
    FileResult,
    FileStat,
    Links,
    PartialFile,
    Progress,
    TreeResult,
    sweep,
)
from ._frames import Prefix, recv, send
from ._headers import Header
from ._messages import Head, Request
from ._policies import ExecInquiry, ExecPolicy, FileInquiry, FilePolicy
from ._requests import ServerRequest
from ._seal import Seal
from ._served import ServedRequest
from ._server import Server, ServerCounts
from ._version import VERSION as __version__
from ._views import Frame

__all__ = [
    "NO_LIMIT",
    "STDERR",
    "STDOUT",
    "AbortedError",
    "Address",
    "ArgumentError",
    "AuthenticationError",
    "BadDescriptorError",
    "BadKeyError",
    "BrokenError",
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
    "ExecChoice",
    "ExecInquiry",
    "ExecOptions",
    "ExecPolicy",
    "ExecResult",
    "ExistsError",
    "FileChoice",
    "FileInquiry",
    "FileKind",
    "FilePolicy",
    "FileResult",
    "FileStat",
    "ForkedError",
    "Frame",
    "FrameError",
    "FrameTimeoutError",
    "HasFileno",
    "Head",
    "Header",
    "IncompleteError",
    "InternalError",
    "Key",
    "KeyLike",
    "Keyring",
    "Keys",
    "LimitError",
    "Links",
    "Listener",
    "LocalFile",
    "LocalSource",
    "LocalTarget",
    "MalformedError",
    "NoMemoryError",
    "NoSpaceError",
    "NotFoundError",
    "Outcome",
    "OutputLimitError",
    "PartialFile",
    "PathError",
    "Prefix",
    "Progress",
    "Proof",
    "Readable",
    "RefusedError",
    "RemoteCommand",
    "Request",
    "ServedRequest",
    "Server",
    "ServerAddress",
    "ServerCounts",
    "ServerRequest",
    "Seal",
    "SpawnError",
    "StalledError",
    "State",
    "StateError",
    "StatusLostError",
    "SystemCallError",
    "TooBigError",
    "TreeResult",
    "TruncatedError",
    "UnsupportedError",
    "Writable",
    "__version__",
    "accept",
    "auth_client",
    "auth_server",
    "connect",
    "exec_and_reply",
    "exec_run",
    "generate_key",
    "listen",
    "load_key",
    "recv",
    "recv_datagram",
    "run_datagram",
    "send",
    "send_datagram",
    "sweep",
]
