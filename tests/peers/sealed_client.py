"""Exec on a sealed connection: the handshake and the records of docs/protocol.md, suite 2.

Usage: sealed_client.py HOST PORT KEY_FILE [ID [NAME]] COMMAND
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pathlib
import socket
import sys

import wire

try:
    from cryptography.hazmat.primitives.asymmetric import x25519
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    def dh(private: bytes, public: bytes) -> bytes:
        own = x25519.X25519PrivateKey.from_private_bytes(private)
        return own.exchange(x25519.X25519PublicKey.from_public_bytes(public))

    def encrypt(key: bytes, n: int, text: bytes, ad: bytes) -> bytes:
        return ChaCha20Poly1305(key).encrypt(bytes(4) + n.to_bytes(8, "little"), text, ad)

except ImportError:
    sys.path.append(str(pathlib.Path(__file__).parents[1] / "vectors"))
    from sealed import chacha_poly as encrypt
    from sealed import x25519 as dh

BASE = (9).to_bytes(32, "little")
VERSION = b"framefd seal v1\0"
DATA, END, CONFIRM = 0, 1, 2


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hkdf(salt: bytes, material: bytes, count: int, info: bytes = b"") -> list[bytes]:
    secret, blocks = hmac.digest(salt, material, "sha256"), [b""]
    for number in range(1, count + 1):
        blocks.append(hmac.digest(secret, blocks[-1] + info + bytes([number]), "sha256"))
    return blocks[1:]


class Sealed:
    """The client's end."""

    def __init__(self, conn: socket.socket, key: bytes, id: bytes = b"", name: bytes = b"") -> None:
        self.conn, self.sent, self.received = conn, 0, 0
        preface = b"FDS1\2" + bytes([len(id)]) + id
        prologue = VERSION + b"\0" + preface + bytes([len(name)]) + name
        (psk,) = hkdf(bytes(32), key, 1, VERSION + b"\2")
        chain = h = digest(b"Noise_NNpsk0_25519_ChaChaPoly_SHA256")
        chain, mixed, k = hkdf(chain, psk, 3)
        private = os.urandom(32)
        public = dh(private, BASE)
        h = digest(digest(digest(h + prologue) + mixed) + public)
        chain, k = hkdf(chain, public, 2)
        tag = encrypt(k, 0, b"", h)
        conn.sendall(preface + b"\0\x30" + public + tag)
        message = wire.recv_exact(conn, 50)[2:]
        h = digest(digest(h + tag) + message[:32])
        chain, k = hkdf(chain, message[:32], 2)
        chain, k = hkdf(chain, dh(private, message[:32]), 2)
        if encrypt(k, 0, b"", h) != message[32:]:
            raise ValueError("the server does not have the key")
        self.ours, self.theirs = hkdf(chain, b"", 2)
        self.record(CONFIRM)

    def record(self, kind: int, body: bytes = b"") -> None:
        sealed = encrypt(self.ours, self.sent, bytes([kind]) + body, b"")
        self.sent += 1
        self.conn.sendall(len(sealed).to_bytes(2, "big") + sealed)

    def open(self) -> bytes | None:
        """The bytes of the next record; None for the end."""
        size = int.from_bytes(wire.recv_exact(self.conn, 2), "big")
        sealed = wire.recv_exact(self.conn, size)
        text = encrypt(self.theirs, self.received, sealed[:-16], b"")[:-16]
        if encrypt(self.theirs, self.received, text, b"") != sealed:
            raise ValueError("a record was changed")
        self.received += 1
        return text[1:] if text[0] == DATA else None

    def run(self, command: bytes) -> tuple[wire.Header, bytes]:
        """The header and the body of the reply to a command."""
        self.record(DATA, wire.pack_header({"cmd": "exec", "data_size": len(command)}) + command)
        data = b""
        while (frame := whole(data)) is None:
            data += self.open() or b""
        return frame


def whole(data: bytes) -> tuple[wire.Header, bytes] | None:
    """The frame, once all of it is there."""
    if len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "little"):
        return None
    header, body = wire.unpack_datagram(data)
    return (header, body) if len(body) == header["data_size"] else None


def main() -> None:
    host, port, path, *terms, command = sys.argv[1:]
    with socket.create_connection((host, int(port))) as conn:
        sealed = Sealed(conn, wire.read_key(path), *map(os.fsencode, terms))
        header, body = sealed.run(os.fsencode(command))
        sealed.record(END)
    wire.show(body)
    sys.exit(header["exit_code"])


if __name__ == "__main__":
    wire.run_client(main)
