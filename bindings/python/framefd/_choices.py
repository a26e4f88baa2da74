"""What a policy may choose: how a command is run, and how a request for a file is served."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

from . import _abi
from ._arguments import (
    Environment,
    StrOrBytesPath,
    c_string,
    checked,
    environment,
    limit,
    milliseconds,
    unsigned,
)
from ._contents import PATH, LocalFile, directory
from ._descriptors import fileno

# Python 3.9 takes the members by position as well.
if sys.version_info >= (3, 10):
    from dataclasses import KW_ONLY

ID_MAX = 2**32 - 2  # -1 is none


@dataclasses.dataclass(frozen=True)
class ExecChoice:
    """How one command is run, if the policy of :class:`ExecOptions` returns it. A member that
    is None is as these options say.

    ``command``: shell code that is run in place of what was asked for, and gets its input.
    ``user``: the user and group id that it runs as, on a server that runs as root. ``groups``:
    the supplementary groups of that user, or of the options' ``user``, which otherwise has
    none. ``umask``: as in the options. ``cwd``: its working directory; that of a request is
    relative to it. ``env``: added to the ``env`` of the options; a request's own variables
    replace those of the same name. ``command_timeout``: how long it may run, in seconds,
    math.inf is no limit; a request can only lower it.

    The values are copied: what is done with ``env`` or ``groups`` later changes nothing.
    TypeError and ValueError name the member that cannot be used.
    """

    if sys.version_info >= (3, 10):
        _: KW_ONLY

    command: str | bytes | None = None
    user: tuple[int, int] | None = None
    groups: Iterable[int] | None = None
    umask: int | None = None
    cwd: StrOrBytesPath | None = None
    env: Environment | None = None
    command_timeout: float | None = None

    def __post_init__(self) -> None:
        flags, members = 0, dict[str, Any]()
        if self.command is not None:
            command = checked(self.command, (str, bytes), "command is shell code, str or bytes")
            members["command"] = full(command, "command")
        if self.user is not None:
            user = checked(self.user, tuple, "user is a (user id, group id)")
            if len(user) != 2:
                raise ValueError(f"user is a (user id, group id): {user}")
            members["uid"] = limit(user[0], "the user id in user", ID_MAX)
            members["gid"] = limit(user[1], "the group id in user", ID_MAX)
            flags |= _abi.EXEC_USER
        if self.groups is not None:
            groups = checked(self.groups, Iterable, "groups are some group ids, as a list")
            numbers = [unsigned(group, "each of groups", ID_MAX) for group in groups]
            members["groups"] = (ctypes.c_uint32 * len(numbers))(*numbers)
            members["groups_len"] = len(numbers)
        if self.umask is not None:
            members["umask"] = unsigned(self.umask, "umask", 0o777)
            flags |= _abi.EXEC_UMASK
        if self.cwd is not None:
            members["cwd"] = full(checked(self.cwd, PATH, "cwd is a path"), "cwd")
        if self.env is not None:
            members["env"] = environment(self.env)
        if self.command_timeout is not None:
            members["command_timeout_ms"] = milliseconds(
                self.command_timeout, "command_timeout"
            )
        # C has pointers into these values, so they live as long as this object.
        vars(self).update(_flags=flags, _members=members)

    def _write(self, native: _abi.ExecChoice) -> object:
        """Writes it for the library. What it points to lives as long as this and the result."""
        native.flags |= vars(self)["_flags"]
        for name, value in vars(self)["_members"].items():
            setattr(native, name, value)
        if native.groups_len and not native.flags & _abi.EXEC_USER:
            raise ValueError("groups need a user, here or in the options")
        return None


@dataclasses.dataclass(frozen=True)
class FileChoice:
    """How one request for a file is served, if the ``policy`` of serve_files() or serve_file()
    returns it. A member that is None is as their parameters say.

    ``read``, ``create`` and ``replace``: rights that are False are taken away from those of the
    server; none can be added. ``root``: another directory, as a path or a descriptor. A path is
    opened each time the policy returns this; a descriptor must stay open. ``max_size``: bytes
    of the largest file that is stored, if the server's own ``max_size`` is not smaller.
    ``mode``: permission bits of new files, as for :meth:`Connection.serve_file`.

    A policy is asked several times about some requests: see :class:`FileInquiry`. The rights
    count each time, and the other members with the first question.

    TypeError and ValueError name the member that cannot be used.
    """

    if sys.version_info >= (3, 10):
        _: KW_ONLY

    read: bool = True
    create: bool = True
    replace: bool = True
    root: LocalFile | None = None
    max_size: int | None = None
    mode: int | None = None

    def __post_init__(self) -> None:
        for name in RIGHTS:
            checked(getattr(self, name), bool, f"{name} is a bool")
        limit(self.max_size, "max_size")
        limit(self.mode, "mode", 0o777)
        if isinstance(self.root, PATH):
            full(self.root, "root")
        elif self.root is not None:
            try:
                number = fileno(self.root)
            except TypeError as error:
                raise TypeError(f"root is a path or a descriptor: {error}") from None
            if number < 0:
                raise ValueError(f"root is a path or a descriptor: {number}")

    def _write(self, native: _abi.FrameFileChoice) -> object:
        """The same as for commands."""
        native.rights &= sum(right for name, right in RIGHTS.items() if getattr(self, name))
        if self.max_size is not None:
            native.max_size = limit(self.max_size, "max_size")
        if self.mode is not None:
            native.mode = limit(self.mode, "mode")
        if self.root is None:
            return None
        opening = directory(self.root)
        native.root_fd = opening.__enter__()
        return opening  # with which it is closed


def full(text: StrOrBytesPath, what: str) -> bytes:
    """Text for C that is not empty."""
    data = c_string(text, what)
    if not data:
        raise ValueError(f"{what} is empty")
    return data


RIGHTS = {
    "read": _abi.FRAME_SERVE_READ,
    "create": _abi.FRAME_SERVE_CREATE,
    "replace": _abi.FRAME_SERVE_REPLACE,
}
