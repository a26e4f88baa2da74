"""A server in the library: its options, what C may call, and its end."""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, TypedDict, Union

from . import _abi
from ._arguments import checked, limit, milliseconds
from ._auth import KeyLike, Keyring, as_key, as_keyring
from ._callbacks import Lasting, inside
from ._errors import BusyError
from ._log import Log
from ._native import lib
from ._requests import Lent

if TYPE_CHECKING:
    from .aio._serving import Serving

#: The keys of clients by id, or the path of a directory of them: see :meth:`Keyring.load`.
ServerKeys = Union[Keyring, Mapping[str, KeyLike], str, "os.PathLike[str]"]

# The parameters of C callbacks as they are passed on here: a connection belongs to its pointer
# from the beginning, whatever is raised.
HandlerFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, Lent, ctypes.c_void_p)
LogFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p)
TellFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_abi.FrameServed))


class Limits(TypedDict, total=False):
    """The limits of a :class:`Server`."""

    max_connections: int | None
    max_unauthenticated: int | None
    max_commands: int | None
    max_transfers: int | None
    max_header: int | None
    max_body: int | None
    max_queue: int | None
    max_memory: int | None
    auth_timeout: float | None
    frame_timeout: float | None
    stall: float | None
    idle: float | None
    drain: float | None


class Native(ctypes.c_void_p):
    """A server in the library. With the last reference it is freed, and its connections are
    closed. A call holds a reference, so close() in another thread is safe."""

    __hash__ = object.__hash__

    def __init__(self, lasting: Lasting) -> None:
        super().__init__()
        self.lasting = lasting
        # What C may call, and what it reads.
        self.kept: list[Any] = []
        self.process = os.getpid()
        # What runs it: the frame of run(), or a Serving of asyncio. An exception of a signal's
        # handler can keep a frame from saying that it has ended, but that is seen.
        self.runner: list[FrameType | Serving] = []

    def claim(self, me: FrameType | Serving) -> None:
        """From now on ``me`` runs it. BusyError: something else does."""
        with claiming:
            if self.is_running():
                raise BusyError("the server runs, or a handler calls this")
            self.runner[:] = [me]

    def is_running(self) -> bool:
        for runner in self.runner:
            if not isinstance(runner, FrameType):
                return runner.is_running()
            try:
                runner.clear()
            except RuntimeError:
                return True
        return False

    def stop(self) -> None:
        if self.value is not None and self.process == os.getpid():
            lib.frame_server_stop(self)

    def __del__(self) -> None:
        if self.value is None:
            return
        self.lasting.mend()
        if threading.get_ident() in inside:
            # One of its own threads, for which it would wait.
            value, kept, self.value = self.value, self.kept, None
            threading.Thread(target=free, args=[value, kept]).start()
        else:
            lib.frame_server_free(self)


def free(value: int, _: object) -> None:
    lib.frame_server_free(value)


# Servers that exist.
living: weakref.WeakSet[Native] = weakref.WeakSet()


@atexit.register
def end_all() -> None:
    """A thread of the library must not call Python once that has gone."""
    for native in list(living):
        if native.process != os.getpid():
            continue  # that of a parent, whose threads this process does not have
        native.stop()
        native.stop()
        end = time.monotonic() + PATIENCE
        while native.is_running() and time.monotonic() < end:
            time.sleep(0.001)
        lib.frame_server_run(native)


# Seconds at the end of the program for a server that another thread runs.
PATIENCE = 5

claiming = threading.Lock()


class Logged:
    """Makes functions callable by C whose exceptions go to the log."""

    def __init__(self, native: Native, log: Log, what: str) -> None:
        self._lasting, self._log, self._what = native.lasting, log, what

    def guarded(self, function: Callable[..., int], failed: int) -> Callable[..., Any]:
        log, what = self._log, self._what

        def logged(*arguments: Any) -> int:
            try:
                return function(*arguments)
            except Exception as error:
                log.exception(f"{what} has failed", error)
                return failed

        return self._lasting.guarded(logged, failed)


def ring_of(keys: ServerKeys | None, key: KeyLike | None) -> Keyring | None:
    """The ring with the keys of a server's clients, if there are any."""
    if keys is None:
        return None if key is None else as_keyring(as_key(key))
    if key is not None:
        raise TypeError("a server has either keys or one key")
    if isinstance(keys, (str, os.PathLike)):
        ring = Keyring()
        ring.load(keys)
        return ring
    if isinstance(keys, Keyring):
        return keys
    return Keyring(
        checked(keys, Mapping, "keys are a dict, a Keyring or the path of a directory")
    )


def limit_members(**limits: Any) -> dict[str, int]:
    """The limits as the library has them."""
    members = {}
    for name, value in limits.items():
        if name in TIMES:
            members[f"{name}_ms"] = milliseconds(value)
        elif name in NUMBERS:
            members[name] = limit(value, name, *NUMBERS[name])
        else:
            raise TypeError(f"a server has no {name}")
    return members


TIMES = ("auth_timeout", "frame_timeout", "stall", "idle", "drain")
SMALL = (2**32 - 1,)
NUMBERS: dict[str, tuple[int, ...]] = {
    "max_connections": SMALL,
    "max_unauthenticated": SMALL,
    "max_commands": SMALL,
    "max_transfers": SMALL,
    "max_header": (),
    "max_body": (),
    "max_queue": (),
    "max_memory": (),
}
