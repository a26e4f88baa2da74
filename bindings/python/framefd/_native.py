"""The shared library: where it is found, and what ctypes makes of its functions."""

from __future__ import annotations

import ctypes
import operator
import os
import pathlib
from collections.abc import Iterator
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_size_t,
    c_ssize_t,
    c_void_p,
    py_object,
)
from typing import Any

from ._abi import FRAME_ABI_VERSION, PROTOTYPES
from ._version import VERSION


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


PYTHON_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "PyObject_GetBuffer": (c_int, (py_object, POINTER(PyBuffer), c_int)),
    "PyBuffer_Release": (None, (POINTER(PyBuffer),)),
    "PyBytes_FromStringAndSize": (py_object, (c_void_p, c_ssize_t)),
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


def to_look_up(name: str) -> property:
    """A member that, where it is looked up, passes its object to a function of one pointer, and is
    then a function that gives 0."""
    function = untyped(name)
    function.argtypes = [ctypes.c_void_p]
    function.restype = type  # of the number that ctypes takes for its result: int
    return property(function)


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
    if abi != FRAME_ABI_VERSION:
        raise ImportError(
            f"{path}: its binary interface is number {abi}, not {FRAME_ABI_VERSION}"
        )
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
