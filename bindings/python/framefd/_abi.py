"""The C interface: made of include/framefd.h by `make header`, do not edit."""

from __future__ import annotations

import enum
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char,
    c_char_p,
    c_int,
    c_int16,
    c_int32,
    c_int64,
    c_size_t,
    c_ubyte,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    sizeof,
)
from typing import Any


class SizedStructure(Structure):
    """A struct whose first member is its size; all else is zero, the defaults."""

    def __init__(self, **members: Any) -> None:
        super().__init__(size=sizeof(type(self)), **members)


FRAME_VERSION_MAJOR = 0
FRAME_VERSION_MINOR = 1
FRAME_VERSION_PATCH = 0
FRAME_ABI_VERSION = 0
FRAME_NO_TIMEOUT = -1
FRAME_DONT_WAIT = -2
FRAME_NO_LIMIT = 2**64 - 1
FRAME_DEFAULT_TIMEOUT = -(2**31)
FRAME_FORMAT_FRAMES = 0
FRAME_FORMAT_PACKETS = 1
FRAME_PREFIX_BIG_ENDIAN = 256
FRAME_PREFIX_UNSIGNED = 512
FRAME_CONNECTION_OWN = 1
FRAME_CONNECTION_DUPLEX = 2
FRAME_CONNECTION_EXACT = 4
FRAME_CONNECTION_AS_IS = 8
FRAME_CONNECTION_KEEPALIVE = 16
FRAME_STATE_ENDED = 1
FRAME_STATE_PEER_ENDED = 2
FRAME_STATE_EXEC = 4
FRAME_STATE_SEALED = 8
AUTH_PLAIN = 1
AUTH_SHORT_KEY = 2
AUTH_GROUP_READABLE = 4
AUTH_CLIENT_SERVES = 8
AUTH_CHACHA = 16
AUTH_SUITE_AESGCM = 1
AUTH_SUITE_CHACHAPOLY = 2
EXEC_MERGE = 1
EXEC_TTY = 2
EXEC_NO_INPUT = 4
EXEC_DETACHED = 8
EXEC_EXITED = 0
EXEC_SIGNALED = 1
EXEC_TIMED_OUT = 2
EXEC_OUTPUT_LIMIT = 3
EXEC_STATUS_LOST = 4
EXEC_SPAWN_FAILED = 5
EXEC_REFUSED = 6
EXEC_RESULT_TIMED_OUT = 1
EXEC_RESULT_TRUNCATED = 2
EXEC_RESULT_PIPE_HELD = 4
EXEC_RESULT_CLIENT_GONE = 8
EXEC_STDOUT = 1
EXEC_STDERR = 2
EXEC_HOST_ENVIRONMENT = 16
EXEC_END_AT_LIMIT = 32
EXEC_UMASK = 64
EXEC_USER = 128
FRAME_FILE_TREE = 1
FRAME_FILE_NO_OVERWRITE = 2
FRAME_FILE_NO_CHECKSUM = 4
FRAME_FILE_NO_SYNC = 8
FRAME_FILE_NO_REPLY = 16
FRAME_FILE_RESUME = 32
FRAME_FILE_PARENTS = 64
FRAME_FILE_PRESERVE = 128
FRAME_FILE_REFUSE_LINKS = 256
FRAME_FILE_FOLLOW_LINKS = 512
FRAME_FILE_COPY_LINKS = 1024
FRAME_FILE_MTIME = 8192
FRAME_FILE_IN_PLACE = 16384
FRAME_FILE_PARTIAL = 4096
FRAME_FILE_REGULAR = 1
FRAME_FILE_DIRECTORY = 2
FRAME_FILE_SYMLINK = 3
FRAME_FILE_OTHER = 4
FRAME_SERVE_READ = 1
FRAME_SERVE_CREATE = 2
FRAME_SERVE_REPLACE = 4
FRAME_SERVE_WRITE = 6
EXEC_REPEATED = 7
EXEC_IGNORED = 8
FRAME_SERVER_PLAIN = 1
FRAME_SERVER_HELLO = 2
FRAME_SERVER_OPEN = 4
FRAME_SERVER_REAP = 8
FRAME_LOG_ERROR = 1
FRAME_LOG_WARNING = 2
FRAME_LOG_INFO = 3
FRAME_LOG_DEBUG = 4
FRAME_HANDLER_STREAM = 1
FRAME_HANDLER_LATER = 2


class ErrorCode(enum.IntEnum):
    """The library's ``FRAME_E...`` numbers. They never change their meaning.

    Numbers of -100 and below were reported by the peer.
    """

    CLOSED = -1
    """The peer closed the stream between two messages: a clean end."""

    TRUNCATED = -2
    """The stream ended inside a frame, a packet or a handshake."""

    TIMEDOUT = -3
    """Timed out before a byte was sent or received, or all received bytes are in a buffer. The
    stream is still usable: call again."""

    BADLENGTH = -4
    """Invalid length prefix: negative, zero for a header, or incomplete."""

    TOOBIG = -5
    """A declared size is above the limit, or above the most that the format can carry."""

    BADJSON = -6
    """The header is not one UTF-8 JSON object."""

    BADFIELD = -7
    """A header field has the wrong type or value, or is given twice."""

    MISSING = -8
    """The header has no such field."""

    AUTH = -9
    """The peer's answer to the challenge is wrong: it does not have the key."""

    KEY = -10
    """The key, or the file it is in, cannot be used."""

    PATH = -11
    """The file name is not acceptable, or leads out of the root."""

    EXIST = -12
    """The target or the name exists, and must not be replaced."""

    NOENT = -13
    """There is no such file, or nothing else of the name that was asked for."""

    NOSPC = -14
    """The disk or the quota is full."""

    CHECKSUM = -15
    """The content does not match its checksum."""

    SPAWN = -16
    """The command could not be started."""

    LIMIT = -17
    """A datagram was cut, or a table of a bounded size is full."""

    INVAL = -18
    """An argument, a member of the options or a flag is not valid; the detail names it."""

    BADF = -19
    """The descriptor is not open, or of a kind that the call cannot use."""

    NOMEM = -20
    """Out of memory."""

    STATE = -21
    """The object is not in a state that allows this call."""

    BUSY = -22
    """Another thread or transfer is using the object or the partial file."""

    IO = -23
    """A system call failed; errno says why."""

    ACCES = -24
    """Refused by a policy or by permissions."""

    NOTSUP = -25
    """The peer, or this kernel, does not support the request."""

    CANCELED = -26
    """A callback of the caller asked to stop."""

    BADREPLY = -27
    """A reply does not answer the request, or contradicts itself."""

    PANIC = -28
    """A defect in this library: a panic was caught at the C boundary."""

    STALLED = -29
    """Timed out inside a message: the stream can no longer be used."""

    BROKEN = -30
    """The connection cannot be used after an earlier failure, which the detail names."""

    ABORTED = -31
    """The connection was aborted, by another thread or a signal handler."""

    FORKED = -32
    """The object belongs to the parent process: after fork(2) the child cannot use it."""

    INCOMPLETE = -33
    """A part of a tree could not be transferred, and the rest was. The detail names the
    first."""

    REMOTE_BAD_REQUEST = -100
    """Reply code ``bad_request``: the peer could not understand the request."""

    REMOTE_UNSUPPORTED = -101
    """Reply code ``unsupported``: the peer does not support the request."""

    REMOTE_DENIED = -102
    """Reply code ``denied``: the peer refused the request."""

    REMOTE_NOT_FOUND = -103
    """Reply code ``not_found``: the peer has no such file, or nothing else of that name."""

    REMOTE_EXISTS = -104
    """Reply code ``exists``: the file, or what else has that name, exists at the peer."""

    REMOTE_TOO_BIG = -105
    """Reply code ``too_big``: the request is above a limit of the peer."""

    REMOTE_NO_SPACE = -106
    """Reply code ``no_space``: the peer's disk or quota is full."""

    REMOTE_TIMED_OUT = -107
    """Reply code ``timed_out``: the request did not reach the peer in time."""

    REMOTE_CHECKSUM = -108
    """Reply code ``checksum``: the content that the peer received does not match its
    checksum."""

    REMOTE_BUSY = -109
    """Reply code ``busy``: try again later."""

    REMOTE_SPAWN_FAILED = -110
    """Reply code ``spawn_failed``: the peer could not start the command."""

    REMOTE_IO = -111
    """Reply code ``io``: the peer failed, such as in a system call."""

    REMOTE_OTHER = -199
    """A reply code that this version does not know."""


FrameOptionsInterrupted = CFUNCTYPE(c_int, c_void_p)


class FrameOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("timeout_ms", c_int32),
        ("max_header", c_uint64),
        ("max_body", c_uint64),
        ("max_depth", c_uint32),
        ("format", c_uint32),
        ("prefix", c_uint32),
        ("flags", c_uint32),
        ("interrupted", FrameOptionsInterrupted),
        ("context", c_void_p),
    ]


class FrameView(Structure):
    _fields_ = [
        ("header", c_void_p),
        ("header_len", c_size_t),
        ("body", c_void_p),
        ("body_len", c_size_t),
    ]


FrameConnectionOptionsInterrupted = CFUNCTYPE(c_int, c_void_p)


class FrameConnectionOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("timeout_ms", c_int32),
        ("connect_timeout_ms", c_int32),
        ("max_header", c_uint64),
        ("max_body", c_uint64),
        ("max_depth", c_uint32),
        ("format", c_uint32),
        ("prefix", c_uint32),
        ("reserved", c_uint32),
        ("max_queue", c_uint64),
        ("interrupted", FrameConnectionOptionsInterrupted),
        ("context", c_void_p),
    ]


class FrameConnectionState(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("broken", c_int32),
        ("read_fd", c_int32),
        ("write_fd", c_int32),
        ("read_events", c_int16),
        ("write_events", c_int16),
        ("to_receive", c_uint64),
        ("to_send", c_uint64),
        ("queued", c_uint64),
    ]


class FrameCredentials(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("pid", c_int32),
        ("uid", c_uint32),
        ("gid", c_uint32),
    ]


AuthOptionsInterrupted = CFUNCTYPE(c_int, c_void_p)


class AuthOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("timeout_ms", c_int32),
        ("flags", c_uint32),
        ("write_fd", c_int32),
        ("interrupted", AuthOptionsInterrupted),
        ("context", c_void_p),
        ("key_id", c_char_p),
        ("server_name", c_char_p),
    ]


class AuthResult(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("suite", c_uint32),
        ("key_id", c_char * 68),
        ("handshake_hash", c_ubyte * 32),
    ]


ExecRequestInterrupted = CFUNCTYPE(c_int, c_void_p)


class ExecRequest(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("command", c_char_p),
        ("command_len", c_uint64),
        ("argv", POINTER(c_char_p)),
        ("cwd", c_char_p),
        ("env", POINTER(c_char_p)),
        ("input", c_char_p),
        ("input_len", c_uint64),
        ("max_output", c_uint64),
        ("command_timeout_ms", c_int32),
        ("rows", c_uint16),
        ("columns", c_uint16),
        ("interrupted", ExecRequestInterrupted),
        ("context", c_void_p),
    ]


class ExecResult(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("outcome", c_int32),
        ("exit_code", c_int32),
        ("signal", c_int32),
        ("flags", c_uint32),
        ("error", c_int32),
        ("stdout_total", c_uint64),
        ("stderr_total", c_uint64),
        ("charset", c_char * 40),
    ]


class ExecChoice(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("command_timeout_ms", c_int32),
        ("umask", c_uint32),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("cwd", c_char_p),
        ("env", POINTER(c_char_p)),
        ("groups", POINTER(c_uint32)),
        ("groups_len", c_uint64),
        ("command", c_char_p),
    ]


class ExecInquiry(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("header", c_char_p),
        ("command", c_void_p),
        ("command_len", c_uint64),
        ("argv", POINTER(c_char_p)),
        ("cwd", c_char_p),
        ("env", POINTER(c_char_p)),
        ("key_id", c_char_p),
        ("address", c_char_p),
        ("pid", c_int32),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("reserved", c_uint32),
        ("choice", POINTER(ExecChoice)),
    ]


ExecOptionsPolicy = CFUNCTYPE(c_int, c_void_p, POINTER(ExecInquiry), c_void_p, c_size_t)


ExecOptionsInterrupted = CFUNCTYPE(c_int, c_void_p)


class ExecOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("reply_timeout_ms", c_int32),
        ("command_timeout_ms", c_int32),
        ("grace_ms", c_int32),
        ("drain_ms", c_int32),
        ("close_grace_ms", c_int32),
        ("write_fd", c_int32),
        ("max_output", c_uint64),
        ("max_command", c_uint64),
        ("cpu_seconds", c_uint64),
        ("memory", c_uint64),
        ("processes", c_uint64),
        ("file_size", c_uint64),
        ("umask", c_uint32),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("reserved", c_uint32),
        ("cwd", c_char_p),
        ("env", POINTER(c_char_p)),
        ("policy", ExecOptionsPolicy),
        ("interrupted", ExecOptionsInterrupted),
        ("context", c_void_p),
    ]


FrameFileTransferProgress = CFUNCTYPE(c_int, c_void_p, c_char_p, c_uint64, c_uint64)


class FrameFileTransfer(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("name", c_char_p),
        ("path", c_char_p),
        ("fd", c_int32),
        ("mode", c_uint32),
        ("length", c_uint64),
        ("offset", c_uint64),
        ("max_size", c_uint64),
        ("rate", c_uint64),
        ("mtime_ms", c_int64),
        ("stall_ms", c_int32),
        ("reserved", c_uint32),
        ("progress", FrameFileTransferProgress),
        ("context", c_void_p),
    ]


class FrameFileResult(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("error", c_int32),
        ("bytes", c_uint64),
        ("files", c_uint64),
        ("directories", c_uint64),
        ("links", c_uint64),
        ("skipped", c_uint64),
        ("sha256", c_char * 72),
        ("failed", c_uint64),
    ]


class FrameFileInfo(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("kind", c_uint32),
        ("file_size", c_uint64),
        ("mtime_ms", c_int64),
        ("mode", c_uint32),
        ("reserved", c_uint32),
        ("sha256", c_char * 72),
    ]


class FrameFileChoice(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("rights", c_uint32),
        ("root_fd", c_int32),
        ("mode", c_uint32),
        ("max_size", c_uint64),
    ]


class FrameFileInquiry(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("pid", c_int32),
        ("cmd", c_char_p),
        ("name", c_void_p),
        ("name_len", c_uint64),
        ("filesize", c_uint64),
        ("header", c_char_p),
        ("key_id", c_char_p),
        ("address", c_char_p),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("choice", POINTER(FrameFileChoice)),
    ]


FrameFileOptionsPolicy = CFUNCTYPE(
    c_int, c_void_p, POINTER(FrameFileInquiry), c_void_p, c_size_t
)


class FrameFileOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("timeout_ms", c_int32),
        ("stall_ms", c_int32),
        ("max_size", c_uint64),
        ("rate", c_uint64),
        ("mode", c_uint32),
        ("reserved", c_uint32),
        ("policy", FrameFileOptionsPolicy),
        ("context", c_void_p),
    ]


FrameDatagramOptionsInterrupted = CFUNCTYPE(c_int, c_void_p)


class FrameDatagramOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("timeout_ms", c_int32),
        ("max_datagram", c_uint32),
        ("flags", c_uint32),
        ("interrupted", FrameDatagramOptionsInterrupted),
        ("context", c_void_p),
    ]


class FrameServed(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("error", c_int32),
        ("key_id", c_char_p),
        ("address", c_char_p),
        ("pid", c_int32),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("outcome", c_int32),
        ("exit_code", c_int32),
        ("signal", c_int32),
        ("cmd", c_char_p),
        ("header", c_char_p),
        ("what", c_char_p),
        ("what_len", c_uint64),
        ("argv", POINTER(c_char_p)),
        ("bytes_in", c_uint64),
        ("bytes_out", c_uint64),
        ("time_ms", c_uint64),
    ]


FrameServerOptionsLog = CFUNCTYPE(None, c_void_p, c_uint32, c_char_p)


FrameServerOptionsServed = CFUNCTYPE(None, c_void_p, POINTER(FrameServed))


FrameServerOptionsInterrupted = CFUNCTYPE(c_int, c_void_p)


class FrameServerOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("workers", c_uint32),
        ("max_connections", c_uint32),
        ("max_unauthenticated", c_uint32),
        ("max_commands", c_uint32),
        ("max_transfers", c_uint32),
        ("log_level", c_uint32),
        ("auth_timeout_ms", c_int32),
        ("frame_timeout_ms", c_int32),
        ("stall_ms", c_int32),
        ("idle_ms", c_int32),
        ("drain_ms", c_int32),
        ("users_len", c_uint32),
        ("max_header", c_uint64),
        ("max_body", c_uint64),
        ("max_queue", c_uint64),
        ("max_memory", c_uint64),
        ("ring", c_void_p),
        ("server_name", c_char_p),
        ("log", FrameServerOptionsLog),
        ("served", FrameServerOptionsServed),
        ("users", POINTER(c_uint32)),
        ("interrupted", FrameServerOptionsInterrupted),
        ("context", c_void_p),
    ]


class FrameServerCounts(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("reserved", c_uint32),
        ("connections", c_uint64),
        ("connections_now", c_uint64),
        ("requests", c_uint64),
        ("requests_now", c_uint64),
        ("errors", c_uint64),
        ("refused_auth", c_uint64),
        ("refused_limit", c_uint64),
        ("timed_out", c_uint64),
        ("bytes_out", c_uint64),
        ("bytes_in", c_uint64),
    ]


FrameServerHandleHandler = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(FrameView))


# name: (result, parameters)
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "frame_version": (c_char_p, ()),
    "frame_abi_version": (c_int, ()),
    "frame_strerror": (c_char_p, (c_int,)),
    "frame_last_error": (c_char_p, ()),
    "frame_send": (c_int, (c_int, c_char_p, c_void_p, c_size_t, POINTER(FrameOptions))),
    "frame_recv": (c_int, (c_int, POINTER(c_void_p), POINTER(FrameOptions))),
    "frame_recv_into": (
        c_int,
        (
            c_int,
            c_void_p,
            c_size_t,
            POINTER(FrameOptions),
            POINTER(FrameView),
            POINTER(c_void_p),
        ),
    ),
    "frame_header": (c_char_p, (c_void_p, POINTER(c_size_t))),
    "frame_body": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "frame_free": (None, (c_void_p,)),
    "frame_header_string": (c_int64, (c_char_p, c_char_p, c_void_p, c_size_t)),
    "frame_header_int": (c_int, (c_char_p, c_char_p, POINTER(c_int64))),
    "frame_header_bool": (c_int, (c_char_p, c_char_p, POINTER(c_bool))),
    "frame_header_json": (c_int64, (c_char_p, c_char_p, POINTER(c_char_p))),
    "frame_builder_new": (c_void_p, ()),
    "frame_builder_string": (c_int, (c_void_p, c_char_p, c_char_p, c_size_t)),
    "frame_builder_int": (c_int, (c_void_p, c_char_p, c_int64)),
    "frame_builder_bool": (c_int, (c_void_p, c_char_p, c_bool)),
    "frame_builder_json": (c_int, (c_void_p, c_char_p, c_char_p)),
    "frame_builder_merge": (c_int, (c_void_p, c_char_p)),
    "frame_builder_text": (c_char_p, (c_void_p, POINTER(c_size_t))),
    "frame_builder_free": (None, (c_void_p,)),
    "frame_connect": (c_int, (c_char_p, POINTER(FrameConnectionOptions), POINTER(c_void_p))),
    "frame_listen": (c_int, (c_char_p, c_int, c_uint32)),
    "frame_accept": (
        c_int,
        (c_int, POINTER(FrameConnectionOptions), c_int, POINTER(c_void_p)),
    ),
    "frame_address": (c_int64, (c_int, c_bool, c_void_p, c_size_t)),
    "frame_connection_new": (
        c_int,
        (c_int, c_int, POINTER(FrameConnectionOptions), POINTER(c_void_p)),
    ),
    "frame_connection_free": (None, (c_void_p,)),
    "frame_connection_end": (c_int, (c_void_p, c_bool, c_int)),
    "frame_connection_abort": (c_int, (c_void_p,)),
    "frame_connection_unread": (c_int, (c_void_p, POINTER(c_void_p), POINTER(c_size_t))),
    "frame_connection_inspect": (c_int, (c_void_p, POINTER(FrameConnectionState))),
    "frame_connection_credentials": (c_int, (c_void_p, POINTER(FrameCredentials))),
    "frame_connection_recv": (c_int, (c_void_p, c_int, POINTER(c_void_p))),
    "frame_connection_next": (c_int64, (c_void_p, POINTER(FrameView), c_size_t, c_int)),
    "frame_connection_recv_header": (
        c_int,
        (c_void_p, c_int, POINTER(FrameView), POINTER(c_uint64)),
    ),
    "frame_connection_read": (c_int64, (c_void_p, c_void_p, c_size_t, c_int)),
    "frame_connection_read_to": (c_int64, (c_void_p, c_int, c_int)),
    "frame_connection_send": (c_int, (c_void_p, c_char_p, c_void_p, c_size_t, c_int)),
    "frame_connection_queue": (c_int64, (c_void_p, POINTER(FrameView), c_size_t, c_int)),
    "frame_connection_flush": (c_int, (c_void_p, c_int)),
    "frame_connection_begin": (c_int, (c_void_p, c_char_p, c_uint64)),
    "frame_connection_write": (c_int64, (c_void_p, c_void_p, c_size_t, c_int)),
    "frame_connection_write_from": (c_int64, (c_void_p, c_int, c_uint64, c_int)),
    "frame_connection_call": (
        c_int,
        (c_void_p, c_char_p, c_void_p, c_size_t, c_int, POINTER(c_void_p)),
    ),
    "frame_connection_reply": (
        c_int,
        (c_void_p, c_char_p, c_char_p, c_void_p, c_size_t, c_int),
    ),
    "frame_connection_reply_error": (c_int, (c_void_p, c_char_p, c_int, c_char_p, c_int)),
    "frame_encode": (c_int64, (c_void_p, c_size_t, c_char_p, c_uint64, POINTER(FrameOptions))),
    "frame_decoder_new": (c_int, (POINTER(FrameOptions), POINTER(c_void_p))),
    "frame_decoder_free": (None, (c_void_p,)),
    "frame_decoder_reserve": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "frame_decoder_commit": (c_int, (c_void_p, c_size_t)),
    "frame_decoder_next": (c_int64, (c_void_p, POINTER(FrameView), c_size_t)),
    "frame_decoder_next_header": (c_int, (c_void_p, POINTER(FrameView), POINTER(c_uint64))),
    "frame_decoder_body": (c_int64, (c_void_p, POINTER(c_void_p))),
    "frame_decoder_unread": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "frame_decoder_end": (c_int, (c_void_p,)),
    "auth_server": (c_int, (c_int, c_void_p, c_size_t, POINTER(AuthOptions))),
    "auth_client": (c_int, (c_int, c_void_p, c_size_t, POINTER(AuthOptions))),
    "auth_key_load": (c_int, (c_char_p, c_uint32, c_void_p, c_size_t)),
    "auth_key_generate": (c_int, (c_char_p,)),
    "auth_keyring_new": (c_int, (POINTER(c_void_p),)),
    "auth_keyring_add": (c_int, (c_void_p, c_char_p, c_void_p, c_size_t, c_uint32)),
    "auth_keyring_load": (c_int, (c_void_p, c_char_p, c_uint32)),
    "auth_keyring_free": (None, (c_void_p,)),
    "frame_connection_auth_client": (
        c_int,
        (c_void_p, c_void_p, c_size_t, POINTER(AuthOptions)),
    ),
    "frame_connection_auth_server": (
        c_int,
        (c_void_p, c_void_p, POINTER(AuthOptions), POINTER(AuthResult)),
    ),
    "frame_connection_proof": (c_int, (c_void_p, POINTER(AuthResult))),
    "frame_seal_client": (
        c_int,
        (c_void_p, c_size_t, POINTER(AuthOptions), POINTER(c_void_p)),
    ),
    "frame_seal_server": (c_int, (c_void_p, POINTER(AuthOptions), POINTER(c_void_p))),
    "frame_seal_free": (None, (c_void_p,)),
    "frame_seal_reserve": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "frame_seal_commit": (c_int, (c_void_p, c_size_t)),
    "frame_seal_read": (c_int64, (c_void_p, POINTER(c_void_p))),
    "frame_seal_finish": (c_int, (c_void_p,)),
    "frame_seal_write": (c_int, (c_void_p, c_void_p, c_size_t, c_bool)),
    "frame_seal_output": (c_int64, (c_void_p, c_size_t, POINTER(c_void_p))),
    "frame_seal_proof": (c_int, (c_void_p, POINTER(AuthResult))),
    "exec_call": (
        c_int,
        (c_void_p, POINTER(ExecRequest), c_int, POINTER(ExecResult), POINTER(c_void_p)),
    ),
    "exec_output_bytes": (c_void_p, (c_void_p, c_int, POINTER(c_size_t))),
    "exec_output_free": (None, (c_void_p,)),
    "exec_start": (c_int, (c_void_p, POINTER(ExecRequest), c_int)),
    "exec_read": (c_int64, (c_void_p, c_void_p, c_size_t, c_int, POINTER(c_int))),
    "exec_write": (c_int64, (c_void_p, c_void_p, c_size_t, c_int)),
    "exec_end_input": (c_int, (c_void_p, c_int)),
    "exec_copy": (c_int, (c_void_p, c_int, c_int, c_int, c_int, POINTER(ExecResult))),
    "exec_finish": (c_int, (c_void_p, c_int, POINTER(ExecResult))),
    "exec_signal": (c_int, (c_void_p, c_int)),
    "exec_resize": (c_int, (c_void_p, c_uint16, c_uint16)),
    "exec_and_reply": (
        c_int,
        (c_int, c_char_p, c_size_t, POINTER(ExecOptions), POINTER(ExecResult)),
    ),
    "exec_serve": (c_int, (c_void_p, c_char_p, POINTER(ExecOptions), POINTER(ExecResult))),
    "exec_run": (
        c_int,
        (c_char_p, c_size_t, POINTER(ExecOptions), POINTER(ExecResult), POINTER(c_void_p)),
    ),
    "frame_file_put": (
        c_int,
        (c_void_p, POINTER(FrameFileTransfer), c_int, POINTER(FrameFileResult)),
    ),
    "frame_file_get": (
        c_int,
        (c_void_p, POINTER(FrameFileTransfer), c_int, POINTER(FrameFileResult)),
    ),
    "frame_file_stat": (c_int, (c_void_p, c_char_p, c_uint32, c_int, POINTER(FrameFileInfo))),
    "frame_file_mkdir": (c_int, (c_void_p, c_char_p, c_uint32, c_uint32, c_int)),
    "frame_file_list": (c_int64, (c_void_p, c_char_p, c_int, POINTER(c_void_p))),
    "frame_file_listing_entry": (
        c_char_p,
        (c_void_p, c_size_t, POINTER(FrameFileInfo), POINTER(c_char_p)),
    ),
    "frame_file_listing_free": (None, (c_void_p,)),
    "frame_file_serve": (
        c_int,
        (c_void_p, c_char_p, c_int, POINTER(FrameFileOptions), POINTER(FrameFileResult)),
    ),
    "frame_file_sweep": (c_int64, (c_int, c_int64)),
    "frame_datagram_send": (
        c_int,
        (
            c_int,
            c_void_p,
            c_size_t,
            c_char_p,
            c_void_p,
            c_size_t,
            POINTER(FrameDatagramOptions),
        ),
    ),
    "frame_datagram_recv": (c_int, (c_int, POINTER(FrameDatagramOptions), POINTER(c_void_p))),
    "frame_datagram_source": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "exec_datagram_server_new": (c_int, (c_void_p, c_size_t, POINTER(c_void_p))),
    "exec_datagram_serve": (
        c_int,
        (c_void_p, c_int, POINTER(ExecOptions), c_int, POINTER(ExecResult)),
    ),
    "exec_datagram_server_free": (None, (c_void_p,)),
    "exec_datagram_call": (
        c_int,
        (
            c_int,
            POINTER(ExecRequest),
            c_void_p,
            c_size_t,
            c_int,
            POINTER(ExecResult),
            POINTER(c_void_p),
        ),
    ),
    "frame_server_new": (c_int, (POINTER(FrameServerOptions), POINTER(c_void_p))),
    "frame_server_free": (None, (c_void_p,)),
    "frame_server_listen": (c_int, (c_void_p, c_int)),
    "frame_server_add": (c_int, (c_void_p, c_int)),
    "frame_server_handle": (
        c_int,
        (c_void_p, c_char_p, FrameServerHandleHandler, c_void_p, c_uint32),
    ),
    "frame_server_done": (c_int, (c_void_p, c_int, c_char_p)),
    "frame_server_serve_exec": (c_int, (c_void_p, POINTER(ExecOptions))),
    "frame_server_serve_files": (
        c_int,
        (c_void_p, c_int, c_uint32, POINTER(FrameFileOptions)),
    ),
    "frame_server_run": (c_int, (c_void_p,)),
    "frame_server_poll_fd": (c_int, (c_void_p,)),
    "frame_server_step": (c_int, (c_void_p, c_int)),
    "frame_server_stop": (c_int, (c_void_p,)),
    "frame_server_counters": (c_int, (c_void_p, POINTER(FrameServerCounts))),
}
