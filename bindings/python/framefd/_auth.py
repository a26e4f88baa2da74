"""The handshake that proves who has the key, and keys."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Union

from ._abi import AUTH_SHORT_KEY, AuthOptions
from ._arguments import (
    Descriptor,
    StrOrBytesPath,
    c_string,
    fileno,
    milliseconds,
    other_fileno,
)
from ._errors import check
from ._handles import Handle
from ._native import lib


class Key:
    """A key of 16 to 1,024 bytes, in memory of the library that is wiped when the last
    reference is gone. Any number of threads may use it.

    ``short`` takes one of 1 to 15 bytes too, for peers that cannot change theirs: whoever
    sees a handshake can try all such keys. BadKeyError: the length is another.
    """

    def __init__(self, data: bytes, *, short: bool = False) -> None:
        out = ctypes.c_void_p()
        check(lib.auth_key_new(data, len(data), _flags(short), out))
        self.handle = Handle(out, lib.auth_key_free)


KeyLike = Union[Key, bytes]


def load_key(path: StrOrBytesPath, *, short: bool = False) -> Key:
    """Reads a key from a file, less one newline at its end.

    BadKeyError: others may read or write the file, it belongs to another user, is a
    symbolic link or no regular file, or the key is too short or too long (see
    :class:`Key`). NotFoundError, DeniedError, SystemCallError.
    """
    out = ctypes.c_void_p()
    check(lib.auth_key_load(c_string(path, "path"), _flags(short), out))
    key = Key.__new__(Key)
    key.handle = Handle(out, lib.auth_key_free)
    return key


def generate_key(path: StrOrBytesPath) -> None:
    """Writes a new key of 32 random bytes into a new file of mode 0600.

    ExistsError: there is something at ``path``, and it stays. NotFoundError (the
    directory), DeniedError, NoSpaceError, SystemCallError.
    """
    check(lib.auth_key_generate(c_string(path, "path")))


def auth_server(
    fd: Descriptor,
    keys: KeyLike | Sequence[KeyLike],
    *,
    timeout: float | None = None,
    write_fd: Descriptor | None = None,
) -> int:
    """Asks the other end to prove that it holds a key; the index of the one that it has.

    This is for networks that are trusted. It proves that the client held the key when the
    connection opened, and no more: the server is not authenticated, the bytes that follow
    are neither secret nor protected against change, and whoever sits in between can pass
    the challenge on.

    ``keys`` is one key, or several of which any will do. ``timeout`` is in seconds for the
    whole handshake; default 10, never more than 60. ``write_fd`` is written to where that
    is not ``fd``.

    AuthenticationError: the answer is wrong. BadKeyError: a key cannot be used, nothing was
    sent. FrameTimeoutError, StalledError, ClosedError, TruncatedError: no answer. Close the
    connection after any of them.
    """
    if isinstance(keys, (Key, bytes)):
        keys = [keys]
    held = [as_key(key) for key in keys]
    pointers = (ctypes.c_void_p * len(held))(*(key.handle.pointer for key in held))
    matched = ctypes.c_size_t()
    options = _options(timeout, write_fd)
    check(lib.auth_server_keys(fileno(fd), pointers, len(held), matched, options))
    return matched.value


def auth_client(
    fd: Descriptor,
    key: KeyLike,
    *,
    timeout: float | None = None,
    write_fd: Descriptor | None = None,
) -> None:
    """Proves to the other end that this one holds the key.

    The wire has no verdict: a server that refuses closes the connection, which the next
    receive shows. Whoever can be the server chooses what is answered: use the key for
    nothing else. As :func:`auth_server` otherwise.
    """
    key = as_key(key)
    address, length = key_bytes(key)
    check(lib.auth_client(fileno(fd), address, length, _options(timeout, write_fd)))


def as_key(key: KeyLike) -> Key:
    """A key in the library's memory."""
    return key if isinstance(key, Key) else Key(key)


def key_bytes(key: Key | None) -> tuple[int | None, int]:
    """The address and length of a key, which is to be kept meanwhile; NULL for None."""
    if key is None:
        return None, 0
    length = ctypes.c_size_t()
    return lib.auth_key_bytes(key.handle.pointer, length), length.value


def _options(timeout: float | None, write_fd: Descriptor | None) -> AuthOptions:
    # How short a key may be was settled when it was made.
    return AuthOptions(
        timeout_ms=milliseconds(timeout),
        write_fd=other_fileno(write_fd),
        flags=AUTH_SHORT_KEY,
    )


def _flags(short: bool) -> int:
    return AUTH_SHORT_KEY if short else 0
