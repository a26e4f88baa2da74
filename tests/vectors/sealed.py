"""Sealed streams in plain Python, from the text of docs/protocol.md, Noise (revision 34) and the
RFCs alone. It is slow, and its times depend on the secrets: it is for tests only.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import operator
from collections.abc import Iterable
from typing import Literal

VERSION = b"framefd seal v1\0"
DATA, END, CONFIRM, PADDED = range(4)
NAMES = {1: b"Noise_NNpsk0_25519_AESGCM_SHA256", 2: b"Noise_NNpsk0_25519_ChaChaPoly_SHA256"}


class Handshake:
    """One end, up to the keys of both directions."""

    def __init__(self, suite: int, psk: bytes, prologue: bytes, private: bytes) -> None:
        self.suite, self.private = suite, private
        name = NAMES[suite]
        self.h = name.ljust(32, b"\0") if len(name) <= 32 else sha256(name)
        self.ck = self.h
        self.mix_hash(prologue)
        self.psk = psk

    def mix_hash(self, data: bytes) -> None:
        self.h = sha256(self.h + data)

    def mix_key(self, data: bytes) -> None:
        self.ck, self.k = hkdf(self.ck, data, b"", 2)

    def begin(self) -> None:
        self.ck, mixed, self.k = hkdf(self.ck, self.psk, b"", 3)
        self.mix_hash(mixed)

    def write(self, others: bytes | None) -> bytes:
        """Our message; the other end's public key, if we have it."""
        if others is None:
            self.begin()
        public = x25519(self.private, (9).to_bytes(32, "little"))
        self.token(public, others)
        sealed = seal(self.suite, self.k, 0, b"", self.h)
        self.mix_hash(sealed)
        return public + sealed

    def read(self, message: bytes, is_first: bool) -> bytes:
        """The other end's public key."""
        public, sealed = message[:32], message[32:]
        if is_first:
            self.begin()
        self.token(public, None if is_first else public)
        if seal(self.suite, self.k, 0, b"", self.h) != sealed:
            raise ValueError("the message is not made with this key")
        self.mix_hash(sealed)
        return public

    def token(self, public: bytes, others: bytes | None) -> None:
        self.mix_hash(public)
        self.mix_key(public)
        if others is not None:
            self.mix_key(x25519(self.private, others))

    def split(self) -> list[bytes]:
        return hkdf(self.ck, b"", b"", 2)


def psk_of(key: bytes, suite: int) -> bytes:
    return hkdf(bytes(32), key, VERSION + bytes([suite]), 1)[0]


def preface_of(suite: int, key_id: bytes) -> bytes:
    return b"FDS1" + bytes([suite, len(key_id)]) + key_id


def prologue_of(role: int, preface: bytes, name: bytes) -> bytes:
    return VERSION + bytes([role]) + preface + bytes([len(name)]) + name


def record(suite: int, k: bytes, n: int, kind: int, body: bytes) -> bytes:
    sealed = seal(suite, k, n, bytes([kind]) + body, b"")
    return len(sealed).to_bytes(2, "big") + sealed


def rekey(suite: int, k: bytes) -> bytes:
    return seal(suite, k, 2**64 - 1, bytes(32), b"")[:32]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hkdf(salt: bytes, material: bytes, info: bytes, outputs: int) -> list[bytes]:
    extracted = hmac.digest(salt, material, "sha256")
    found = [b""]
    for number in range(1, outputs + 1):
        found.append(hmac.digest(extracted, found[-1] + info + bytes([number]), "sha256"))
    return found[1:]


def x25519(private: bytes, public: bytes) -> bytes:
    """RFC 7748, section 5."""
    p = 2**255 - 19
    k = int.from_bytes(private, "little") & ~7 & (2**254 - 1) | 2**254
    x1 = int.from_bytes(public, "little") & (2**255 - 1)
    x2, z2, x3, z3 = 1, 0, x1, 1
    for at in range(254, -1, -1):
        bit = k >> at & 1
        if bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a % p, c * b % p, a * a % p, b * b % p
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, (aa - bb) * (aa + 121665 * (aa - bb)) % p
        if bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def seal(suite: int, k: bytes, n: int, plain: bytes, ad: bytes) -> bytes:
    """The encrypted bytes and their tag."""
    return aes_gcm(k, n, plain, ad) if suite == 1 else chacha_poly(k, n, plain, ad)


def xor(one: bytes, two: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, two))


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def chacha_poly(k: bytes, n: int, plain: bytes, ad: bytes) -> bytes:
    """RFC 8439."""

    def block(counter: int) -> bytes:
        words = [*b"expa", *b"nd 3", *b"2-by", *b"te k"]
        data = (
            bytes(words)
            + k
            + counter.to_bytes(4, "little")
            + bytes(4)
            + n.to_bytes(8, "little")
        )
        start = [int.from_bytes(data[at : at + 4], "little") for at in range(0, 64, 4)]
        x = start[:]

        def quarter(a: int, b: int, c: int, d: int) -> None:
            for to, other, turned, bits in (
                (a, b, d, 16),
                (c, d, b, 12),
                (a, b, d, 8),
                (c, d, b, 7),
            ):
                x[to] = x[to] + x[other] & 0xFFFFFFFF
                mixed = x[turned] ^ x[to]
                x[turned] = (mixed << bits | mixed >> 32 - bits) & 0xFFFFFFFF

        for _ in range(10):
            for at in range(4):
                quarter(at, at + 4, at + 8, at + 12)
            for at in range(4):
                quarter(at, (at + 1) % 4 + 4, (at + 2) % 4 + 8, (at + 3) % 4 + 12)
        return b"".join((a + b & 0xFFFFFFFF).to_bytes(4, "little") for a, b in zip(x, start))

    stream = b"".join(block(1 + at) for at in range(-(-len(plain) // 64)))
    text = xor(plain, stream)
    r = int.from_bytes(block(0)[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for part in blocks(padded(ad) + padded(text) + lengths(ad, text, 1, "little")):
        total = (total + int.from_bytes(part + b"\1", "little")) * r % (2**130 - 5)
    tag = total + int.from_bytes(block(0)[16:32], "little") & 2**128 - 1
    return text + tag.to_bytes(16, "little")


def aes_gcm(k: bytes, n: int, plain: bytes, ad: bytes) -> bytes:
    """NIST SP 800-38D, with a nonce of 12 bytes."""
    keys = expand(k)
    h = int.from_bytes(aes(keys, bytes(16)), "big")

    def block(counter: int) -> bytes:
        return aes(keys, bytes(4) + n.to_bytes(8, "big") + counter.to_bytes(4, "big"))

    stream = b"".join(block(2 + at) for at in range(-(-len(plain) // 16)))
    text = xor(plain, stream)
    total = 0
    for part in blocks(padded(ad) + padded(text) + lengths(ad, text, 8, "big")):
        x, v, total = total ^ int.from_bytes(part, "big"), h, 0
        for at in range(127, -1, -1):
            if x >> at & 1:
                total ^= v
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
    return text + xor(total.to_bytes(16, "big"), block(1))


def blocks(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 16] for at in range(0, len(data), 16))


def lengths(ad: bytes, text: bytes, unit: int, order: Literal["little", "big"]) -> bytes:
    return b"".join((len(data) * unit).to_bytes(8, order) for data in (ad, text))


def times_plain(a: int, b: int) -> int:
    """A product of polynomials, not reduced."""
    return functools.reduce(operator.xor, (a << at for at in range(8) if b >> at & 1), 0)


def times(a: int, b: int) -> int:
    """A product in the field of AES."""
    product = 0
    while b:
        product ^= a * (b & 1)
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def substitution() -> bytes:
    found = []
    for value in range(256):
        inverse = next((x for x in range(256) if times(value, x) == 1), 0)
        bits = times_plain(inverse, 0x1F)
        found.append((bits ^ bits >> 8) & 0xFF ^ 0x63)
    return bytes(found)


SUBSTITUTION = substitution()


def expand(k: bytes) -> list[bytes]:
    """The keys of the 15 rounds of AES-256 (FIPS 197)."""
    words, constant = [k[at : at + 4] for at in range(0, 32, 4)], 1
    while len(words) < 60:
        word = words[-1]
        if len(words) % 8 == 0:
            word = (word[1:] + word[:1]).translate(SUBSTITUTION)
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = times(constant, 2)
        elif len(words) % 8 == 4:
            word = word.translate(SUBSTITUTION)
        words.append(xor(words[-8], word))
    return [b"".join(words[at : at + 4]) for at in range(0, 60, 4)]


def aes(keys: list[bytes], block: bytes) -> bytes:
    state = xor(block, keys[0])
    for number, key in enumerate(keys[1:], 1):
        state = state.translate(SUBSTITUTION)
        state = bytes(state[(5 * at) % 16] for at in range(16))
        if number < 14:
            state = bytes(
                times(state[at], 2)
                ^ times(state[at & 12 | (at + 1) & 3], 3)
                ^ state[at & 12 | (at + 2) & 3]
                ^ state[at & 12 | (at + 3) & 3]
                for at in range(16)
            )
        state = xor(state, key)
    return state
