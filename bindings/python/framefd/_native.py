"""The shared library: where it is found, its structs, and the type of every function."""

from __future__ import annotations

import ctypes
import operator
import os
import pathlib
from collections.abc import Iterator
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    py_object,
)
from typing import Any

from ._version import ABI_VERSION, VERSION

NO_TIMEOUT = -1
DONT_WAIT = -2
NO_LIMIT = 2**64 - 1

PREFIX_BIG_ENDIAN = 256
PREFIX_UNSIGNED = 512

AUTH_SHORT_KEY = 1

EXEC_ON_CLOSE_RUN = 1
EXEC_HOST_ENVIRONMENT = 2
EXEC_END_AT_LIMIT = 4
EXEC_MERGE = 8
EXEC_TTY = 16
EXEC_NO_INPUT = 32
EXEC_UMASK = 64

EXEC_RESULT_TIMED_OUT = 1
EXEC_RESULT_TRUNCATED = 2
EXEC_RESULT_PIPE_HELD = 4
EXEC_RESULT_CLIENT_GONE = 8

EXEC_STDOUT = 1
EXEC_STDERR = 2

FILE_NO_OVERWRITE = 1
FILE_NO_CHECKSUM = 2
FILE_NO_SYNC = 4
FILE_NO_REPLY = 8
FILE_RESUME = 16
FILE_PARENTS = 32
FILE_PRESERVE = 64
FILE_REFUSE_LINKS = 128
FILE_FOLLOW_LINKS = 256
FILE_COPY_LINKS = 512

FILE_REGULAR = 1
FILE_DIRECTORY = 2
FILE_SYMLINK = 3
FILE_OTHER = 4


class SizedStructure(Structure):
    """A struct whose first member is its size; all else is zero, the defaults."""

    def __init__(self, **members: Any) -> None:
        super().__init__(size=ctypes.sizeof(type(self)), **members)


class FrameOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("timeout_ms", c_int32),
        ("max_header", c_uint64),
        ("max_body", c_uint64),
        ("max_depth", c_uint32),
        ("prefix", c_uint32),
    ]


class FrameView(Structure):
    _fields_ = [
        ("header", c_void_p),
        ("header_len", c_size_t),
        ("body", c_void_p),
        ("body_len", c_size_t),
    ]


class AuthOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("timeout_ms", c_int32),
        ("write_fd", c_int32),
        ("flags", c_uint32),
    ]


class ExecInquiry(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("header", c_char_p),
        ("command", c_void_p),
        ("command_len", c_size_t),
        ("argv", POINTER(c_char_p)),
        ("cwd", c_char_p),
        ("env", POINTER(c_char_p)),
    ]


# The context, what is asked, room for the reason of a refusal and its size.
ExecPolicy = CFUNCTYPE(c_int, c_void_p, POINTER(ExecInquiry), c_void_p, c_size_t)


class ExecOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("timeout_ms", c_int32),
        ("write_fd", c_int32),
        ("flags", c_uint32),
        ("command_timeout_ms", c_int32),
        ("grace_ms", c_int32),
        ("drain_ms", c_int32),
        ("close_grace_ms", c_int32),
        ("max_output", c_uint64),
        ("max_command", c_uint64),
        ("cwd", c_char_p),
        ("env", POINTER(c_char_p)),
        ("input", c_char_p),
        ("input_len", c_uint64),
        ("cpu_seconds", c_uint64),
        ("memory", c_uint64),
        ("processes", c_uint64),
        ("file_size", c_uint64),
        ("umask", c_uint32),
        ("uid", c_uint32),
        ("gid", c_uint32),
        ("rows", c_uint16),
        ("columns", c_uint16),
        ("policy", ExecPolicy),
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
    ]


class FileInquiry(Structure):
    _fields_ = [
        ("size", c_uint32),
        ("reserved", c_uint32),
        ("cmd", c_char_p),
        ("name", c_void_p),
        ("name_len", c_size_t),
        ("filesize", c_uint64),
        ("header", c_char_p),
    ]


FilePolicy = CFUNCTYPE(c_int, c_void_p, POINTER(FileInquiry), c_void_p, c_size_t)
Progress = CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint64)


class FileOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("timeout_ms", c_int32),
        ("write_fd", c_int32),
        ("flags", c_uint32),
        ("stall_ms", c_int32),
        ("mode", c_uint32),
        ("max_size", c_uint64),
        ("length", c_uint64),
        ("progress", Progress),
        ("context", c_void_p),
        ("offset", c_uint64),
        ("rate", c_uint64),
        ("mtime_ms", c_int64),
        ("policy", FilePolicy),
    ]


class FileResult(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("error", c_int32),
        ("bytes", c_uint64),
        ("sha256", c_char * 72),
    ]


class FileStat(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("kind", c_uint32),
        ("file_size", c_uint64),
        ("mtime_ms", c_int64),
        ("mode", c_uint32),
        ("reserved", c_uint32),
    ]


class FileTree(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("reserved", c_uint32),
        ("files", c_uint64),
        ("directories", c_uint64),
        ("links", c_uint64),
        ("skipped", c_uint64),
        ("bytes", c_uint64),
    ]


class DatagramOptions(SizedStructure):
    _fields_ = [
        ("size", c_uint32),
        ("timeout_ms", c_int32),
        ("max_datagram", c_uint32),
        ("flags", c_uint32),
    ]


class PyBuffer(Structure):
    """Py_buffer of CPython's buffer protocol (PEP 3118)."""

    _fields_ = [
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", c_void_p),
        ("strides", c_void_p),
        ("suboffsets", c_void_p),
        ("internal", c_void_p),
    ]


# Opaque objects. An output is a pointer to a c_void_p.
FRAME = SENDER = BUILDER = KEY = OUTPUT = STREAM = LIST = SERVER = c_void_p
READER = WRITER = DECODER = c_void_p
OUT = POINTER(c_void_p)

FRAME_OPTIONS = POINTER(FrameOptions)
VIEWS = POINTER(FrameView)
AUTH_OPTIONS = POINTER(AuthOptions)
EXEC_OPTIONS = POINTER(ExecOptions)
EXEC_RESULT = POINTER(ExecResult)
FILE_OPTIONS = POINTER(FileOptions)
FILE_RESULT = POINTER(FileResult)
FILE_STAT = POINTER(FileStat)
FILE_TREE = POINTER(FileTree)
DATAGRAM_OPTIONS = POINTER(DatagramOptions)
SIZE = POINTER(c_size_t)

# name: (result, parameters), in the order of framefd.h
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "frame_version": (c_char_p, ()),
    "frame_abi_version": (c_int, ()),
    "frame_strerror": (c_char_p, (c_int,)),
    "frame_last_error": (c_char_p, ()),
    "frame_default": (c_int64, (c_char_p,)),
    "frame_send": (c_int, (c_int, c_char_p, c_void_p, c_size_t, FRAME_OPTIONS)),
    "frame_recv": (c_int, (c_int, OUT, FRAME_OPTIONS)),
    "frame_recv_header": (c_int, (c_int, OUT, FRAME_OPTIONS)),
    "frame_recv_into": (c_int, (c_int, c_void_p, c_size_t, VIEWS, OUT, FRAME_OPTIONS)),
    "frame_free": (None, (FRAME,)),
    "frame_header": (c_char_p, (FRAME, SIZE)),
    "frame_body": (c_void_p, (FRAME, SIZE)),
    "frame_header_string": (c_int, (FRAME, c_char_p, POINTER(c_char_p), SIZE)),
    "frame_header_int": (c_int, (FRAME, c_char_p, POINTER(c_int64))),
    "frame_header_bool": (c_int, (FRAME, c_char_p, POINTER(c_bool))),
    "frame_body_left": (c_uint64, (FRAME,)),
    "frame_body_read": (c_int64, (FRAME, c_void_p, c_size_t, FRAME_OPTIONS)),
    "frame_body_copy": (c_int, (FRAME, c_int, FRAME_OPTIONS)),
    "frame_body_gather": (c_int, (FRAME, FRAME_OPTIONS)),
    "frame_body_skip": (c_int, (FRAME, FRAME_OPTIONS)),
    "frame_sender_new": (c_int, (c_int, c_char_p, c_uint64, OUT, FRAME_OPTIONS)),
    "frame_sender_write": (c_int, (SENDER, c_void_p, c_size_t, FRAME_OPTIONS)),
    "frame_sender_copy": (c_int, (SENDER, c_int, c_uint64, FRAME_OPTIONS)),
    "frame_sender_left": (c_uint64, (SENDER,)),
    "frame_sender_finish": (c_int, (SENDER,)),
    "frame_sender_free": (None, (SENDER,)),
    "frame_packet_send": (c_int, (c_int, c_void_p, c_size_t, FRAME_OPTIONS)),
    "frame_packet_recv": (c_int, (c_int, OUT, FRAME_OPTIONS)),
    "frame_packet_recv_into": (c_int64, (c_int, c_void_p, c_size_t, OUT, FRAME_OPTIONS)),
    "frame_reader_new": (c_int, (c_int, OUT, FRAME_OPTIONS)),
    "frame_reader_free": (None, (READER,)),
    "frame_reader_tie": (c_int, (READER, WRITER)),
    "frame_reader_next": (c_int64, (READER, VIEWS, c_size_t, c_int)),
    "frame_reader_next_packet": (c_int64, (READER, VIEWS, c_size_t, c_int)),
    "frame_reader_next_header": (c_int, (READER, VIEWS, c_int)),
    "frame_reader_read": (c_int64, (READER, c_void_p, c_size_t, c_int)),
    "frame_reader_copy": (c_int, (READER, c_int, c_int)),
    "frame_reader_skip": (c_int, (READER, c_int)),
    "frame_reader_left": (c_uint64, (READER,)),
    "frame_reader_rest": (c_void_p, (READER, SIZE)),
    "frame_writer_new": (c_int, (c_int, OUT, FRAME_OPTIONS)),
    "frame_writer_free": (None, (WRITER,)),
    "frame_writer_send": (c_int, (WRITER, c_char_p, c_void_p, c_size_t, c_int)),
    "frame_writer_send_many": (
        c_int64,
        (WRITER, POINTER(c_char_p), POINTER(c_void_p), SIZE, c_size_t, c_int),
    ),
    "frame_writer_send_packet": (c_int, (WRITER, c_void_p, c_size_t, c_int)),
    "frame_writer_flush": (c_int, (WRITER, c_int)),
    "frame_writer_left": (c_size_t, (WRITER,)),
    "frame_copy": (c_int, (VIEWS, OUT)),
    "frame_encode": (c_int64, (c_void_p, c_size_t, c_char_p, c_uint64, FRAME_OPTIONS)),
    "frame_packet_encode": (c_int64, (c_void_p, c_size_t, c_uint64, FRAME_OPTIONS)),
    "frame_decoder_new": (c_int, (OUT, FRAME_OPTIONS)),
    "frame_decoder_free": (None, (DECODER,)),
    "frame_decoder_space": (c_void_p, (DECODER, SIZE)),
    "frame_decoder_fed": (c_int, (DECODER, c_size_t)),
    "frame_decoder_feed": (c_int, (DECODER, c_void_p, c_size_t)),
    "frame_decoder_next": (c_int64, (DECODER, VIEWS, c_size_t)),
    "frame_decoder_next_packet": (c_int64, (DECODER, VIEWS, c_size_t)),
    "frame_decoder_next_header": (c_int, (DECODER, VIEWS)),
    "frame_decoder_body": (c_int64, (DECODER, POINTER(c_void_p))),
    "frame_decoder_left": (c_uint64, (DECODER,)),
    "frame_decoder_rest": (c_void_p, (DECODER, SIZE)),
    "frame_decoder_end": (c_int, (DECODER,)),
    "frame_builder_new": (BUILDER, ()),
    "frame_builder_string": (c_int, (BUILDER, c_char_p, c_char_p)),
    "frame_builder_bytes": (c_int, (BUILDER, c_char_p, c_void_p, c_size_t)),
    "frame_builder_int": (c_int, (BUILDER, c_char_p, c_int64)),
    "frame_builder_bool": (c_int, (BUILDER, c_char_p, c_bool)),
    "frame_builder_json": (c_int, (BUILDER, c_char_p, c_char_p)),
    "frame_builder_text": (c_char_p, (BUILDER, SIZE)),
    "frame_builder_free": (None, (BUILDER,)),
    "auth_server": (c_int, (c_int, c_void_p, c_size_t, AUTH_OPTIONS)),
    "auth_server_keys": (c_int, (c_int, POINTER(KEY), c_size_t, SIZE, AUTH_OPTIONS)),
    "auth_client": (c_int, (c_int, c_void_p, c_size_t, AUTH_OPTIONS)),
    "auth_key_new": (c_int, (c_void_p, c_size_t, c_uint32, OUT)),
    "auth_key_load": (c_int, (c_char_p, c_uint32, OUT)),
    "auth_key_generate": (c_int, (c_char_p,)),
    "auth_key_bytes": (c_void_p, (KEY, SIZE)),
    "auth_key_free": (None, (KEY,)),
    "frame_reply_error": (c_int, (c_int, FRAME, c_int, c_char_p, FRAME_OPTIONS)),
    "frame_reply_hello": (c_int, (c_int, FRAME, POINTER(c_char_p), FRAME_OPTIONS)),
    "exec_and_reply": (c_int, (c_int, c_char_p, c_size_t, EXEC_OPTIONS, EXEC_RESULT)),
    "exec_serve": (c_int, (c_int, FRAME, EXEC_OPTIONS, EXEC_RESULT)),
    "exec_request": (c_int, (c_int, c_char_p, c_size_t, OUT, EXEC_OPTIONS)),
    "exec_request_argv": (c_int, (c_int, POINTER(c_char_p), OUT, EXEC_OPTIONS)),
    "exec_run": (c_int, (c_char_p, c_size_t, OUT, EXEC_OPTIONS)),
    "exec_output_stdout": (c_void_p, (OUTPUT, SIZE)),
    "exec_output_stderr": (c_void_p, (OUTPUT, SIZE)),
    "exec_output_charset": (c_char_p, (OUTPUT,)),
    "exec_output_result": (c_int, (OUTPUT, EXEC_RESULT)),
    "exec_output_free": (None, (OUTPUT,)),
    "exec_start": (c_int, (c_int, c_char_p, c_size_t, OUT, EXEC_OPTIONS)),
    "exec_start_argv": (c_int, (c_int, POINTER(c_char_p), OUT, EXEC_OPTIONS)),
    "exec_stream_read": (c_int64, (STREAM, POINTER(c_int), c_void_p, c_size_t, c_int)),
    "exec_stream_write": (c_int64, (STREAM, c_void_p, c_size_t, c_int)),
    "exec_stream_end_input": (c_int, (STREAM, c_int)),
    "exec_stream_signal": (c_int, (STREAM, c_int)),
    "exec_stream_resize": (c_int, (STREAM, c_uint16, c_uint16)),
    "exec_stream_copy": (c_int, (STREAM, c_int, c_int, c_int, c_int)),
    "exec_stream_events": (c_int, (STREAM,)),
    "exec_stream_result": (c_int, (STREAM, EXEC_RESULT)),
    "exec_stream_free": (None, (STREAM,)),
    "exec_is_late_input": (c_int, (FRAME,)),
    "frame_file_put": (c_int, (c_int, c_char_p, c_int, FILE_OPTIONS, FILE_RESULT)),
    "frame_file_put_path": (c_int, (c_int, c_char_p, c_char_p, FILE_OPTIONS, FILE_RESULT)),
    "frame_file_get": (c_int, (c_int, c_char_p, c_int, FILE_OPTIONS, FILE_RESULT)),
    "frame_file_get_path": (c_int, (c_int, c_char_p, c_char_p, FILE_OPTIONS, FILE_RESULT)),
    "frame_file_serve": (c_int, (c_int, FRAME, c_int, FILE_OPTIONS, FILE_RESULT)),
    "frame_file_stat": (c_int, (c_int, c_char_p, FILE_STAT, FILE_OPTIONS)),
    "frame_file_partial": (c_int, (c_int, c_char_p, FILE_OPTIONS, FILE_RESULT)),
    "frame_file_list": (c_int64, (c_int, c_char_p, OUT, FILE_OPTIONS)),
    "frame_file_list_entry": (c_char_p, (LIST, c_size_t, FILE_STAT, POINTER(c_char_p))),
    "frame_file_list_free": (None, (LIST,)),
    "frame_file_make_directory": (c_int, (c_int, c_char_p, FILE_OPTIONS)),
    "frame_file_sweep": (c_int64, (c_int, c_int64)),
    "frame_file_put_tree": (c_int, (c_int, c_char_p, c_char_p, FILE_OPTIONS, FILE_TREE)),
    "frame_file_get_tree": (c_int, (c_int, c_char_p, c_char_p, FILE_OPTIONS, FILE_TREE)),
    "frame_datagram_send": (
        c_int,
        (c_int, c_void_p, c_size_t, c_char_p, c_void_p, c_size_t, DATAGRAM_OPTIONS),
    ),
    "frame_datagram_recv": (c_int, (c_int, OUT, DATAGRAM_OPTIONS)),
    "frame_source": (c_void_p, (FRAME, SIZE)),
    "exec_datagram_server_new": (c_int, (c_void_p, c_size_t, OUT)),
    "exec_datagram_serve": (c_int, (SERVER, c_int, EXEC_OPTIONS, EXEC_RESULT)),
    "exec_datagram_server_free": (None, (SERVER,)),
    "exec_datagram_request": (
        c_int,
        (c_int, c_char_p, c_size_t, c_void_p, c_size_t, OUT, EXEC_OPTIONS),
    ),
}

PYTHON_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "PyObject_GetBuffer": (c_int, (py_object, POINTER(PyBuffer), c_int)),
    "PyBuffer_Release": (None, (POINTER(PyBuffer),)),
    "PyBytes_AsString": (c_void_p, (py_object,)),
    "PyBytes_FromStringAndSize": (py_object, (c_void_p, c_ssize_t)),
    "PyMemoryView_FromMemory": (py_object, (c_void_p, c_ssize_t, c_int)),
}


class QuickInt:
    """A C int of a Python int, in a third of the time that c_int takes: ctypes passes what
    from_param() returns as an int."""

    from_param = operator.index


# What ctypes converts faster than the type of a parameter, with the same outcome: a size_t
# goes where a pointer goes.
QUICK: dict[Any, Any] = {c_int: QuickInt, c_size_t: c_void_p, c_ssize_t: c_void_p}


def _declare(library: ctypes.CDLL, prototypes: dict[str, tuple[Any, tuple[Any, ...]]]) -> None:
    for name, (result, parameters) in prototypes.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = [QUICK.get(kind, kind) for kind in parameters]


def untyped(name: str) -> Any:
    """A function that takes an int for a C int, bytes or None for a pointer, and all else as
    byref() and from_param() make it. To convert what it is given by the types of its
    parameters takes ctypes as long as the call itself."""
    return lib[name]


def _load() -> ctypes.CDLL:
    """The first library that fits; ImportError with all that was tried."""
    chosen = os.environ.get("FRAMEFD_LIBRARY")
    tried = []
    for candidate in [chosen] if chosen else _candidates():
        try:
            return _opened(candidate)
        except (OSError, AttributeError, ImportError) as error:
            tried.append(f"  {error}")
    raise ImportError(
        "no framefd library can be used; install it, build it with `cargo build --release`, "
        "or set FRAMEFD_LIBRARY to its path. Tried:\n" + "\n".join(tried)
    )


def _candidates() -> Iterator[str]:
    """Beside this module, in the build tree it lies in, in the system."""
    package = pathlib.Path(__file__).resolve().parent
    yield from map(str, sorted(package.glob("libframefd.so*")) or [package / "libframefd.so"])
    root = next((above for above in package.parents if (above / "Cargo.toml").is_file()), None)
    if root is not None:
        target = root / (os.environ.get("CARGO_TARGET_DIR") or "target")
        yield from (str(target / kind / "libframefd.so") for kind in ("release", "debug"))
    yield f"libframefd.so.{VERSION.partition('.')[0]}"


def _opened(path: str) -> ctypes.CDLL:
    """A library that has this binary interface and is not older than this package."""
    library = ctypes.CDLL(path, use_errno=True)
    _declare(
        library, {name: PROTOTYPES[name] for name in ("frame_abi_version", "frame_version")}
    )
    abi = library.frame_abi_version()
    if abi != ABI_VERSION:
        raise ImportError(f"{path}: its binary interface is number {abi}, not {ABI_VERSION}")
    version = library.frame_version().decode()
    if _numbers(version) < _numbers(VERSION):
        raise ImportError(f"{path}: its version is {version}, less than {VERSION}")
    _declare(library, PROTOTYPES)
    return library


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.partition("-")[0].split(".")]


lib = _load()
python = ctypes.pythonapi
_declare(python, PYTHON_PROTOTYPES)
