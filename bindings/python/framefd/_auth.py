"""The handshakes that prove a shared key, and seal a connection; keys and key rings."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import NamedTuple, NoReturn, Union

from . import _interrupts
from ._abi import (
    AUTH_CHACHA,
    AUTH_CLIENT_SERVES,
    AUTH_GROUP_READABLE,
    AUTH_PLAIN,
    AUTH_SHORT_KEY,
    AUTH_SUITE_AESGCM,
    AUTH_SUITE_CHACHAPOLY,
    AuthOptions,
    AuthResult,
    ErrorCode,
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
        name, key = optional_text(key_id, "a key's id"), as_key(key)
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


class Proof(NamedTuple):
    """What a handshake has proved: see :attr:`Connection.proof`."""

    #: The id of the client's key; None for a key without an id.
    key_id: str | None
    #: "AESGCM" or "ChaChaPoly" for a sealed connection, otherwise None.
    suite: str | None
    #: For a sealed connection: 32 bytes that both ends have, and no other connection.
    handshake_hash: bytes | None


SUITES = {AUTH_SUITE_AESGCM: "AESGCM", AUTH_SUITE_CHACHAPOLY: "ChaChaPoly"}


class Authentication(Core):
    """The handshakes on a connection, before anything else is sent."""

    def auth_server(
        self,
        keys: Keys,
        *,
        name: str | None = None,
        plain: bool = False,
        client_serves: bool = False,
        timeout: float | None = None,
    ) -> str | None:
        """Asks the client to prove that it holds a key, proves the same to it, and seals the
        connection: everything that follows is encrypted.

        ``keys`` is one key, a :class:`Keyring`, or keys by id, each of 32 bytes or more. The
        connection ends if the key leaves the ring later. Returns the id of the key, None for
        a key without an id. ``name`` is this server's name, which the client must know.
        ``client_serves``: the end that connected is the one that serves; both ends say so.
        ``timeout`` is in seconds for the whole handshake; default 10, at most 60.

        ``plain`` is the handshake of :func:`framefd.auth_server`, which says what that
        proves. Nothing that follows is protected. A key of 16 bytes is enough.

        AuthenticationError: the client does not have the key, or another name, or does not
        speak sealed. BadKeyError: a key cannot be used. After these and any other failure the
        connection is broken. Exception: after a FrameTimeoutError with a timeout of 0 call
        again.
        """
        ring, who = as_keyring(keys), AuthResult()
        flags = flag(AUTH_PLAIN, plain) | flag(AUTH_CLIENT_SERVES, client_serves)
        options = AuthOptions(
            timeout_ms=milliseconds(timeout), flags=flags, server_name=optional_text(name, "name")
        )
        pointer = ring.handle.pointer
        self._done(lib.frame_connection_auth_server(self._pointer, pointer, options, who))
        return who.key_id.decode("ascii") or None

    def auth_client(
        self,
        key: KeyLike,
        *,
        key_id: str | None = None,
        name: str | None = None,
        plain: bool = False,
        client_serves: bool = False,
        chacha: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Proves to the server that this end holds the key, has it prove the same, and seals
        the connection. ``key_id`` is the server's id for the key, ``name`` the server's name.
        ``chacha`` uses ChaCha20-Poly1305 in any case, and not only where the processor has
        no instructions for AES.

        A server that refuses closes the connection: TruncatedError. With ``plain`` the next
        receive shows that. As :meth:`auth_server` otherwise.
        """
        key = as_key(key)
        flags = flag(AUTH_CLIENT_SERVES, client_serves) | flag(AUTH_CHACHA, chacha)
        if flag(AUTH_PLAIN, plain):
            # How short a key may be was settled when it was made.
            flags |= AUTH_PLAIN | AUTH_SHORT_KEY
        options = AuthOptions(
            timeout_ms=milliseconds(timeout),
            flags=flags,
            key_id=optional_text(key_id, "key_id"),
            server_name=optional_text(name, "name"),
        )
        self._done(
            lib.frame_connection_auth_client(self._pointer, key.pointer, len(key), options)
        )

    @property
    def proof(self) -> Proof | None:
        """What the handshake has proved; None without one."""
        known = AuthResult()
        code = lib.frame_connection_proof(self._pointer, known)
        if code == ErrorCode.STATE and not self.closed:
            return None
        self._done(code)
        return proof_of(known)


def proof_of(known: AuthResult) -> Proof:
    """What the library says of a handshake."""
    suite = SUITES.get(known.suite)
    key_id = known.key_id.decode("ascii") or None
    return Proof(key_id, suite, bytes(known.handshake_hash) if suite else None)


def optional_text(text: str | None, what: str) -> bytes | None:
    """A text for the library, or NULL."""
    optional(text, str, f"{what} is a str")
    return None if text is None else c_string(text, what)


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


def check_seal(
    key: object, key_id: str | None, name: str | None, plain: bool, *flags: bool
) -> None:
    """Refuses options of a handshake that are wrong, or without one."""
    for value in flags:
        flag(1, value)
    given = [optional_text(key_id, "key_id"), optional_text(name, "name"), flag(1, plain) or None]
    if key is None and given != [None] * 3:
        raise TypeError("key_id, name and plain need a key")


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
