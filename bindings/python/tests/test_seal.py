"""Sealed streams without descriptors."""

from __future__ import annotations

import os
import unittest

import support

import framefd


class Streams(unittest.TestCase):
    def ends(self, **options: str) -> tuple[framefd.Seal, framefd.Seal]:
        client = framefd.Seal(key=support.KEY, **{"key_id": "me", "name": "db", **options})
        return client, framefd.Seal(keys={"me": support.KEY}, name="db")

    def test_a_conversation_in_pieces_of_every_size(self) -> None:
        for step in (1, 13, 100_000):
            client, server = self.ends()
            client.send(b"early")
            self.assertIsNone(client.proof)
            seen = b""
            for from_, to in ((client, server), (server, client), (client, server)):
                sent = from_.output()
                for start in range(0, len(sent), step):
                    seen += to.receive(memoryview(sent)[start : start + step])
            self.assertEqual(seen, b"early")
            assert client.proof
            self.assertEqual(client.proof.key_id, "me")
            self.assertEqual(client.proof, server.proof)
            data = os.urandom(70_000)
            server.send(bytearray(data), end=True)
            sent = server.output()
            self.assertEqual(server.output(), b"")
            self.assertNotIn(data[:20], sent)
            seen = b"".join(
                client.receive(sent[start : start + step]) for start in range(0, len(sent), step)
            )
            self.assertEqual(seen, data)
            self.assertTrue(client.ended)
            client.end_of_stream()
            with self.assertRaises(framefd.TruncatedError):
                server.end_of_stream()
            with self.assertRaises(framefd.StateError):
                server.send(b"more")

    def test_what_is_refused(self) -> None:
        client, server = self.ends(name="web")
        for _ in range(2):  # it sticks
            with self.assertRaises(framefd.AuthenticationError):
                server.receive(client.output() or b"x")
        with self.assertRaises(framefd.AuthenticationError):
            server.output()
        with self.assertRaises(framefd.BadKeyError):
            framefd.Seal(key=b"only sixteen....")
        for wrong in ({}, {"key": support.KEY, "keys": support.KEY}):
            with self.assertRaisesRegex(TypeError, "either a key"):
                framefd.Seal(**wrong)  # type: ignore[arg-type]
        with self.assertRaises(framefd.StateError):
            self.ends()[0].send(bytes(70_000))
