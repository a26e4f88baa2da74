"""The handshake that proves a shared key; keys and key rings."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import NoReturn, Union

from . import _interrupts
from ._abi import (
    AUTH_GROUP_READABLE,
    AUTH_PLAIN,
    AUTH_SHORT_KEY,
    AuthOptions,
    AuthResult,
)
from ._arguments import (
    Buffer,
    BytesLike,
    StrOrBytesPath,
    c_string,
    flag,
    milliseconds,
    optional,
)
from ._core import Core
from ._descriptors import Descriptor, fileno, other_fileno, own_timeout
from ._errors import check
from ._handles import Handle
from ._native import lib

# Bytes of the longest key.
LONGEST = 1024


class Key:
    """A key of 16 to 1,024 bytes. Its memory is wiped when the last reference is gone. Any
    number of threads may use it.

    ``short`` also accepts 1 to 15 bytes, for peers that cannot use longer keys: an observer
    of a handshake can guess such a key. BadKeyError: the length is not accepted.
    """

    def __init__(self, data: BytesLike, *, short: bool = False) -> None:
        if isinstance(data, str):
            raise TypeError("a key is bytes, not str: a text becomes them with its encode()")
        with Buffer(data) as (address, length):
            # A ring checks the key.
            pointer, flags = Keyring().handle, flag(AUTH_SHORT_KEY, short)
            check(lib.auth_keyring_add(pointer.pointer, None, address, length, flags))
            self._memory = (ctypes.c_char * length)()
            ctypes.memmove(self._memory, address or b"", length)

    def __len__(self) -> int:
        return len(self._memory)

    @property
    def pointer(self) -> ctypes.Array[ctypes.c_char]:
        """Its bytes, for the library."""
        return self._memory

    def __del__(self) -> None:
        memory = getattr(self, "_memory", None)
        if memory is not None:
            ctypes.memset(memory, 0, len(memory))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be copied or pickled: pass on the path of its file")


class Keyring:
    """Keys by id, for a server whose clients have different keys. Any number of threads may
    use and change it."""

    def __init__(self, keys: Mapping[str, KeyLike] | None = None) -> None:
        optional(keys, Mapping, "keys are a dict of ids and keys")
        out = ctypes.c_void_p()
        check(lib.auth_keyring_new(out))
        self.handle = Handle(out, lib.auth_keyring_free)
        for name, key in (keys or {}).items():
            self.add(name, key)

    def add(self, key_id: str | None, key: KeyLike) -> None:
        """Adds a key: ``key_id`` is 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a
        dot; None is a key without an id. ExistsError: the id has a key. BadKeyError: another
        id has this key, or it cannot be used."""
        optional(key_id, str, "a key's id is a str")
        name = None if key_id is None else c_string(key_id, "key_id")
        key = as_key(key)
        pointer, flags = self.handle.pointer, AUTH_SHORT_KEY
        check(lib.auth_keyring_add(pointer, name, key.pointer, len(key), flags))

    def load(
        self, path: StrOrBytesPath, *, short: bool = False, group_readable: bool = False
    ) -> None:
        """Replaces all keys, or none. If ``path`` is a directory, each of its files is a key
        and the file's name is the id; if it is a file, it is one key without an id. See
        :func:`load_key`."""
        flags = file_flags(short, group_readable)
        check(lib.auth_keyring_load(self.handle.pointer, c_string(path, "path"), flags))


KeyLike = Union[Key, BytesLike]
Keys = Union[KeyLike, Keyring, Mapping[str, KeyLike]]


class Authentication(Core):
    """The handshake on a connection, before anything else is sent."""

    def auth_server(self, keys: Keys, *, timeout: float | None = None) -> str | None:
        """Asks the peer to prove that it holds a key. :func:`framefd.auth_server` says what
        that proves.

        ``keys`` is one key, a :class:`Keyring`, or keys by id. Returns the id of the one that
        the peer has, None for a key without an id. ``timeout`` is in seconds for the whole
        handshake; default 10, at most 60.

        AuthenticationError: the answer is wrong. BadKeyError: a key cannot be used. After
        these and any other failure the connection is broken. Exception: after a
        FrameTimeoutError with a timeout of 0 call again.
        """
        ring, who = as_keyring(keys), AuthResult()
        options = AuthOptions(timeout_ms=milliseconds(timeout), flags=AUTH_PLAIN)
        pointer = ring.handle.pointer
        self._done(lib.frame_connection_auth_server(self._pointer, pointer, options, who))
        return who.key_id.decode("ascii") or None

    def auth_client(self, key: KeyLike, *, timeout: float | None = None) -> None:
        """Proves to the peer that this end holds the key. A server that refuses closes the
        connection, which the next receive shows. As :meth:`auth_server` otherwise."""
        key = as_key(key)
        # How short a key may be was settled when it was made.
        flags = AUTH_PLAIN | AUTH_SHORT_KEY
        options = AuthOptions(timeout_ms=milliseconds(timeout), flags=flags)
        self._done(
            lib.frame_connection_auth_client(self._pointer, key.pointer, len(key), options)
        )


def load_key(path: StrOrBytesPath, *, short: bool = False, group_readable: bool = False) -> Key:
    """Reads a key from a file, less one newline at its end.

    BadKeyError: others may read or write the file, it belongs to another user, is a
    symbolic link or no regular file, or the key is too short or too long (see
    :class:`Key`). With ``group_readable`` its group may read it, it may belong to root, and
    there may be symbolic links to it. NotFoundError, DeniedError, SystemCallError.
    """
    room, flags = (ctypes.c_char * LONGEST)(), file_flags(short, group_readable)
    try:
        length = check(lib.auth_key_load(c_string(path, "path"), flags, room, LONGEST))
        return Key(memoryview(room)[:length], short=short)
    finally:
        ctypes.memset(room, 0, LONGEST)


def generate_key(path: StrOrBytesPath) -> None:
    """Writes a new key of 32 random bytes into a new file of mode 0600.

    ExistsError: there is something at ``path``, and it stays. NotFoundError (the
    directory), DeniedError, NoSpaceError, SystemCallError.
    """
    check(lib.auth_key_generate(c_string(path, "path")))


def auth_server(
    fd: Descriptor,
    key: KeyLike,
    *,
    timeout: float | None = None,
    write_fd: Descriptor | None = None,
) -> None:
    """Asks the peer on a raw descriptor to prove that it holds the key.

    This is for networks that are trusted. It proves that the client held the key when the
    connection opened, and no more: the server is not authenticated, the bytes that follow
    are neither secret nor protected against change, and whoever sits in between can pass
    the challenge on.

    ``timeout`` is in seconds for the whole handshake; default that of a socket object, or 10,
    never more than 60.
    ``write_fd`` is written to if that is not ``fd``.

    AuthenticationError: the answer is wrong. BadKeyError: the key cannot be used, nothing
    was sent. FrameTimeoutError, StalledError, ClosedError, TruncatedError: no answer. Close
    the stream after any of them.
    """
    key, options = as_key(key), raw_options(fd, timeout, write_fd)
    check(lib.auth_server(fileno(fd), key.pointer, len(key), options))


def auth_client(
    fd: Descriptor,
    key: KeyLike,
    *,
    timeout: float | None = None,
    write_fd: Descriptor | None = None,
) -> None:
    """Proves to the peer on a raw descriptor that this side holds the key.

    The wire has no verdict: a server that refuses closes the connection, which the next
    receive shows. Whoever can be the server chooses what is answered: use the key for
    nothing else. As :func:`auth_server` otherwise.
    """
    key, options = as_key(key), raw_options(fd, timeout, write_fd)
    check(lib.auth_client(fileno(fd), key.pointer, len(key), options))


def as_key(key: KeyLike) -> Key:
    """A key that is wiped after use."""
    return key if isinstance(key, Key) else Key(key)


def as_keyring(keys: Keys) -> Keyring:
    """A ring with these keys."""
    if isinstance(keys, Keyring):
        return keys
    if isinstance(keys, Mapping):
        return Keyring(keys)
    ring = Keyring()
    ring.add(None, keys)
    return ring


def raw_options(
    fd: Descriptor, timeout: float | None, write_fd: Descriptor | None
) -> AuthOptions:
    if timeout is None:
        timeout = own_timeout(fd)
    return AuthOptions(
        timeout_ms=milliseconds(timeout),
        write_fd=other_fileno(write_fd),
        flags=AUTH_PLAIN | AUTH_SHORT_KEY,
        **_interrupts.MEMBERS,
    )


def file_flags(short: bool, group_readable: bool) -> int:
    return flag(AUTH_SHORT_KEY, short) | flag(AUTH_GROUP_READABLE, group_readable)
