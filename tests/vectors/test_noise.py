"""Sealed streams against the package noiseprotocol, an implementation of Noise by others."""

from __future__ import annotations

import os
import pathlib
import sys
import unittest
from collections.abc import Iterator

import sealed
from sealed import CONFIRM, DATA, END, PADDED

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bindings" / "python"))

import framefd  # noqa: E402

try:
    from noise.connection import NoiseConnection
except ImportError:
    NoiseConnection = None

KEY, ID, NAME = bytes(range(32)), "web-1", "db.example"


class Peer:
    """The other end, with nothing of framefd but the text of docs/protocol.md."""

    def __init__(self, suite: int, is_client: bool, key: bytes = KEY) -> None:
        self.records, self.bytes = {True: 0, False: 0}, {True: 0, False: 0}
        self.rekeyed = {True: 0, False: 0}
        self.preface = sealed.preface_of(suite, ID.encode())
        self.noise = NoiseConnection.from_name(sealed.NAMES[suite])
        self.noise.set_psks(psk=sealed.psk_of(key, suite))
        self.noise.set_prologue(sealed.prologue_of(0, self.preface, NAME.encode()))
        (self.noise.set_as_initiator if is_client else self.noise.set_as_responder)()
        self.noise.start_handshake()

    def message(self) -> bytes:
        return b"\0\x30" + bytes(self.noise.write_message())

    def record(self, kind: int, body: bytes) -> bytes:
        text = bytes(self.noise.encrypt(bytes([kind]) + body))
        self.count(True, len(text))
        return len(text).to_bytes(2, "big") + text

    def opened(self, data: bytes) -> list[tuple[int, bytes]]:
        """All records in it."""
        found, at = [], 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 2], "big")
            plain = bytes(self.noise.decrypt(data[at + 2 : at + 2 + length]))
            self.count(False, length)
            found.append((plain[0], plain[1:]))
            at += 2 + length
        return found

    def count(self, outbound: bool, length: int) -> None:
        self.records[outbound] += 1
        self.bytes[outbound] += length
        if self.records[outbound] >= 1 << 20 or self.bytes[outbound] >= 1 << 30:
            self.records[outbound] = self.bytes[outbound] = 0
            self.rekeyed[outbound] += 1
            if outbound:
                self.noise.rekey_outbound_cipher()
            else:
                self.noise.rekey_inbound_cipher()


def session(suite: int, ours_is_client: bool) -> tuple[framefd.Seal, Peer]:
    """Both ends after their handshake."""
    peer = Peer(suite, not ours_is_client)
    if ours_is_client:
        ours = framefd.Seal(key=KEY, key_id=ID, name=NAME, chacha=suite == 2)
        first = ours.output()
        if first[4] != suite:
            raise unittest.SkipTest("the library does not choose AES on this processor")
        size = len(peer.preface)
        assert first[:size] == peer.preface and first[size : size + 2] == b"\0\x30"
        peer.noise.read_message(first[size + 2 :])
        assert ours.receive(peer.message()) == b""
        assert peer.opened(ours.output()) == [(CONFIRM, b"")]
    else:
        ours = framefd.Seal(keys={ID: KEY}, name=NAME)
        assert ours.receive(peer.preface + peer.message()) == b""
        reply = ours.output()
        assert reply[:2] == b"\0\x30"
        peer.noise.read_message(reply[2:])
        assert ours.receive(peer.record(CONFIRM, b"")) == b""
    proof = ours.proof
    assert proof is not None and proof.handshake_hash == peer.noise.get_handshake_hash()
    return ours, peer


@unittest.skipIf(NoiseConnection is None, "noiseprotocol is missing: pip install noiseprotocol")
class Sessions(unittest.TestCase):
    def each(self) -> Iterator[tuple[framefd.Seal, Peer]]:
        """Both suites, in both roles."""
        for suite in sealed.NAMES:
            for ours_is_client in (True, False):
                with self.subTest(suite=suite, ours_is_client=ours_is_client):
                    yield session(suite, ours_is_client)

    def both_ways(self, ours: framefd.Seal, peer: Peer, body: bytes) -> None:
        ours.send(body)
        opened = peer.opened(ours.output())
        self.assertEqual({kind for kind, _ in opened}, {DATA})
        self.assertEqual(b"".join(piece for _, piece in opened), body)
        self.assertEqual(ours.receive(peer.record(DATA, body)), body)

    def test_data_padding_and_both_ends(self) -> None:
        for ours, peer in self.each():
            for body in (b"x", b"hello" * 1000, bytes(65_518)):
                self.both_ways(ours, peer, body)
            padded = (5).to_bytes(2, "big") + b"where" + bytes(100)
            self.assertEqual(ours.receive(peer.record(PADDED, padded)), b"where")
            self.assertEqual(ours.receive(peer.record(PADDED, bytes(2))), b"")
            # Each direction ends by itself.
            ours.send(b"last", end=True)
            self.assertEqual(peer.opened(ours.output()), [(DATA, b"last"), (END, b"")])
            self.assertEqual(ours.receive(peer.record(DATA, b"goes on")), b"goes on")
            self.assertFalse(ours.ended)
            self.assertEqual(ours.receive(peer.record(END, b"")), b"")
            self.assertTrue(ours.ended)
            ours.end_of_stream()

    def test_another_key_is_found_by_both(self) -> None:
        for suite in sealed.NAMES:
            peer = Peer(suite, True, bytes(32))
            ours = framefd.Seal(keys={ID: KEY}, name=NAME)
            with self.assertRaises(framefd.AuthenticationError):
                ours.receive(peer.preface + peer.message())
            with self.assertRaises(framefd.AuthenticationError):
                ours.output()

    @unittest.skipUnless(os.environ.get("FRAMEFD_LONG"), "takes minutes: make test-long")
    def test_the_key_changes_after_so_many_records(self) -> None:
        for ours, peer in self.each():
            for _ in range((1 << 20) + 2):
                ours.send(b"x")
                self.assertEqual(peer.opened(ours.output()), [(DATA, b"x")])
            for _ in range((1 << 20) + 2):
                self.assertEqual(ours.receive(peer.record(DATA, b"y")), b"y")
            self.assertTrue(peer.rekeyed[True] and peer.rekeyed[False])
            self.both_ways(ours, peer, b"after")

    @unittest.skipUnless(os.environ.get("FRAMEFD_LONG"), "takes minutes: make test-long")
    def test_the_key_changes_after_so_many_bytes(self) -> None:
        body = bytes(65_518)
        for ours, peer in self.each():
            for _ in range((1 << 30) // len(body) + 2):
                self.both_ways(ours, peer, body)
            self.assertTrue(peer.rekeyed[True] and peer.rekeyed[False])
            self.both_ways(ours, peer, b"after")


if __name__ == "__main__":
    unittest.main()
