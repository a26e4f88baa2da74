"""A sealed stream without descriptors, for programs that read and write themselves."""

from __future__ import annotations

import ctypes

from ._abi import AUTH_CHACHA, AUTH_CLIENT_SERVES, AuthOptions, AuthResult, ErrorCode
from ._arguments import Buffer, BytesLike, flag
from ._auth import KeyLike, Keys, Proof, as_key, as_keyring, optional_text, proof_of
from ._errors import check
from ._handles import Handle
from ._native import lib
from ._views import memory


class Seal:
    """A sealed stream: received bytes go in at one side and bytes to send come out of it, and
    the other side has the plain ones. It is for an event loop that has its own sockets; with
    :class:`Connection` and :mod:`framefd.aio` you do not need it.

    ``Seal(key=...)`` is the client's end, ``Seal(keys=...)`` the server's; the options are those
    of :meth:`Connection.auth_client` and :meth:`Connection.auth_server`. Send the output() at
    first, after each receive() and after each send(). The program itself gives the handshake a
    time limit. One thread at a time may use it.

    An AuthenticationError (the peer does not have the key, or another name; or the bytes were
    changed) sticks: close the socket, and send nothing more. In a child of a fork every method
    raises a ForkedError.
    """

    def __init__(
        self,
        *,
        key: KeyLike | None = None,
        keys: Keys | None = None,
        key_id: str | None = None,
        name: str | None = None,
        client_serves: bool = False,
        chacha: bool = False,
    ) -> None:
        options = AuthOptions(
            flags=flag(AUTH_CLIENT_SERVES, client_serves) | flag(AUTH_CHACHA, chacha),
            key_id=optional_text(key_id, "key_id"),
            server_name=optional_text(name, "name"),
        )
        client = None if key is None else as_key(key)
        ring = None if keys is None else as_keyring(keys)
        out = ctypes.c_void_p()
        if client is not None and ring is None:
            check(lib.frame_seal_client(client.pointer, len(client), options, out))
        elif ring is not None and client is None:
            check(lib.frame_seal_server(ring.handle.pointer, options, out))
        else:
            raise TypeError("a seal has either a key, at a client, or keys, at a server")
        self._handle = Handle(out, lib.frame_seal_free)
        #: Whether the peer has ended its direction.
        self.ended = False

    def receive(self, data: BytesLike) -> bytes:
        """Takes received bytes, and returns the next bytes of the stream: b"" until there are
        any. Then send the output()."""
        plain, room = [], ctypes.c_size_t()
        with Buffer(data) as (start, length):
            done = 0
            while done < length:
                place = lib.frame_seal_reserve(self._handle.pointer, room)
                count = min(room.value, length - done)
                if place:
                    if isinstance(start, bytes):
                        ctypes.memmove(place, start[done : done + count], count)
                    else:
                        ctypes.memmove(place, (start or 0) + done, count)
                    check(lib.frame_seal_commit(self._handle.pointer, count))
                done += count
                plain.append(self._next())  # without a place it raises the failure
        return b"".join(plain)

    def _next(self) -> bytes:
        pieces, piece = [], ctypes.c_void_p()
        while True:
            count = lib.frame_seal_read(self._handle.pointer, piece)
            if count > 0:
                begin = piece.value or 0
                pieces.append(memory[begin : begin + count])
            elif count in (0, ErrorCode.CLOSED):
                self.ended = self.ended or count < 0
                return b"".join(pieces)
            else:
                check(count)

    def end_of_stream(self) -> None:
        """Call it if the socket has no more bytes. TruncatedError: the peer has not ended its
        direction, so the stream was cut."""
        check(lib.frame_seal_finish(self._handle.pointer))

    def send(self, data: BytesLike, *, end: bool = False) -> None:
        """Seals bytes, to be sent as output(). With ``end`` they are the last. Before the
        handshake is done they wait, up to 64 KiB; more is a StateError."""
        with Buffer(data) as (start, length):
            pointer = self._handle.pointer
            check(lib.frame_seal_write(pointer, start, length, bool(flag(1, end))))

    def output(self) -> bytes:
        """The bytes to send; they are returned once, and all of them must be sent."""
        start = ctypes.c_void_p()
        count = check(lib.frame_seal_output(self._handle.pointer, 0, start))
        begin = start.value or 0
        data: bytes = memory[begin : begin + count]
        if count > 0:
            check(lib.frame_seal_output(self._handle.pointer, count, start))
        return data

    @property
    def proof(self) -> Proof | None:
        """What the handshake has proved; None until it is done."""
        known = AuthResult()
        code = lib.frame_seal_proof(self._handle.pointer, known)
        if code == ErrorCode.STATE:
            return None
        check(code)
        return proof_of(known)
