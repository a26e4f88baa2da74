"""The handshake and keys."""

from __future__ import annotations

import copy
import hashlib
import hmac
import os
import pathlib
import socket
import stat
import tempfile
import threading
import unittest
from collections.abc import Callable
from itertools import product
from typing import Any

import support
from driver import peer, run, server

import framefd

OTHER = b"another key, which has 32 bytes."


class Handshake(unittest.TestCase):
    def test_the_key_that_matched(self) -> None:
        key, other = framefd.Key(support.KEY), framefd.Key(OTHER)
        ring = framefd.Keyring({"a": other, "b": support.KEY})
        cases: list[tuple[Any, str | None]] = [
            (support.KEY, None),
            (bytearray(support.KEY), None),
            (key, None),
            (ring, "b"),
            ({"x": key, "y": OTHER}, "x"),
        ]
        for (keys, matched), answer, plain in product(cases, (support.KEY, key), (True, False)):
            with self.subTest(matched=matched, plain=plain):
                with support.connections(plain=True) as (ours, theirs):
                    asking = support.meanwhile(
                        lambda: theirs.auth_server(keys, plain=plain)  # noqa: B023
                    )
                    with asking as got:
                        ours.auth_client(answer, plain=plain, key_id=None if plain else matched)
                    self.assertEqual(got, [matched])
                    ours.send({}, b"after it")
                    self.assertEqual(theirs.recv().body, b"after it")
                    self.assertEqual(theirs.inspect().sealed, not plain)
                    assert theirs.proof and (plain or ours.proof)
                    self.assertEqual(theirs.proof.key_id, matched)
                    if not plain:
                        self.assertEqual(ours.proof, theirs.proof)

    def test_a_sealed_connection(self) -> None:
        with support.connections(plain=True) as (ours, theirs):
            self.assertIsNone(ours.proof)
            with support.meanwhile(lambda: theirs.auth_server({"me": OTHER}, name="db")):
                ours.auth_client(OTHER, key_id="me", name="db", chacha=True)
            assert ours.proof and ours.proof.handshake_hash
            self.assertEqual((ours.proof.suite, len(ours.proof.handshake_hash)), ("ChaChaPoly", 32))
            self.assertEqual(ours.proof, theirs.proof)
            with self.assertRaises(framefd.StateError):
                ours.unread()
            ours.send({}, b"last")
            ours.close()
            self.assertEqual(theirs.recv().body, b"last")
            with self.assertRaises(framefd.ClosedError):  # and not a TruncatedError
                theirs.recv()
        for wrong in ({"name": "web"}, {"key_id": "you"}, {"client_serves": True}, {}):
            with self.subTest(wrong), support.connections(plain=True) as (ours, theirs):
                options: dict[str, Any] = {"key_id": "me", "name": "db", **wrong}
                key = OTHER if wrong else support.KEY

                def serve(theirs: framefd.Connection = theirs) -> None:
                    with theirs, self.assertRaises(framefd.AuthenticationError):
                        theirs.auth_server({"me": OTHER}, name="db")

                with support.meanwhile(serve):
                    with self.assertRaises(framefd.TruncatedError):
                        ours.auth_client(key, **options)
        with support.connections(plain=True) as (ours, theirs):
            with self.assertRaises(framefd.BadKeyError):
                ours.auth_client(b"only sixteen....")
            self.assertIsNone(ours.proof)
        for options in ({"name": "db"}, {"key_id": "me"}, {"plain": True}):
            with self.assertRaisesRegex(TypeError, "need a key"):
                framefd.connect("127.0.0.1:1", **options)

    def test_on_a_raw_descriptor(self) -> None:
        with support.stream() as (ours, theirs):
            with support.meanwhile(lambda: framefd.auth_server(theirs, support.KEY)):
                framefd.auth_client(ours, framefd.Key(support.KEY))

    def test_a_wrong_key_is_refused(self) -> None:
        with support.stream() as (ours, theirs):
            with support.meanwhile(lambda: framefd.auth_client(ours, OTHER)):
                with self.assertRaises(framefd.AuthenticationError) as refused:
                    framefd.auth_server(theirs, support.KEY)
            self.assertIsInstance(refused.exception, PermissionError)
        with support.connections(plain=True) as (near, far):
            with support.meanwhile(lambda: near.auth_client(OTHER, plain=True)):
                with self.assertRaises(framefd.AuthenticationError):
                    far.auth_server(support.KEY, plain=True)
            with self.assertRaises(framefd.BrokenError):
                far.recv()

    def test_vectors(self) -> None:
        for name, key, challenge, answer in support.index("auth"):
            with self.subTest(name), support.stream() as (ours, theirs):
                theirs.sendall(bytes.fromhex(challenge))
                framefd.auth_client(ours, framefd.Key(bytes.fromhex(key), short=True))
                self.assertEqual(theirs.recv(100).hex(), answer)

    def test_the_answer_is_an_hmac_of_the_challenge(self) -> None:
        with support.stream() as (ours, theirs):
            with support.meanwhile(lambda: framefd.auth_server(theirs, support.KEY)) as got:
                challenge = ours.recv(100)
                ours.sendall(hmac.digest(support.KEY, challenge, hashlib.sha256))
            self.assertEqual((len(challenge), got), (32, [None]))

    def test_nobody_answers(self) -> None:
        with support.stream() as (_, theirs):
            with self.assertRaises(framefd.FrameTimeoutError):
                framefd.auth_client(theirs, support.KEY, timeout=0.01)
            with self.assertRaises(framefd.FrameTimeoutError):
                framefd.auth_server(theirs, support.KEY, timeout=0.01)
        with support.stream() as (ours, theirs):
            ours.close()
            with self.assertRaises(ConnectionError):
                framefd.auth_client(theirs, support.KEY)

    def test_a_pair_of_pipes(self) -> None:
        (client_in, server_out), (server_in, client_out) = os.pipe(), os.pipe()
        asking = support.meanwhile(
            lambda: framefd.auth_server(server_in, support.KEY, write_fd=server_out)
        )
        with asking:
            framefd.auth_client(client_in, support.KEY, write_fd=client_out)
        for fd in (client_in, server_out, server_in, client_out):
            os.close(fd)
        with self.assertRaises(ValueError):
            framefd.auth_client(client_in, support.KEY, write_fd=0)

    def test_plain_peers(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "key")
            framefd.generate_key(path)
            with server(
                peer("auth_echo_server", "127.0.0.1", "0", "--key-file", path)
            ) as address:
                key = framefd.load_key(path)
                with framefd.connect(":".join(address), key=key, plain=True) as connection:
                    os.write(connection.fileno(), b"hello")
                    self.assertEqual(os.read(connection.fileno(), 100), b"HELLO")
                with framefd.connect(":".join(address), key=OTHER, plain=True) as connection:
                    with self.assertRaises(ConnectionError):
                        connection.recv()

            def serve(listener: socket.socket) -> None:
                connection = listener.accept()[0]
                with connection:
                    framefd.auth_server(connection, key)
                    connection.sendall(connection.recv(100).upper())

            with socket.create_server(("127.0.0.1", 0)) as listener:
                host, port = listener.getsockname()
                with support.meanwhile(lambda: serve(listener)):
                    command = peer(
                        "auth_echo_client", host, str(port), "--key-file", path, "hello"
                    )
                    self.assertEqual(run(command).stdout.strip(), b"HELLO")


class Keys(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = pathlib.Path(directory.name) / "key"

    def matches(self, key: framefd.KeyLike, data: bytes) -> bool:
        with support.stream() as (ours, theirs):
            with support.meanwhile(lambda: framefd.auth_client(ours, key)):
                challenge = os.urandom(32)
                theirs.sendall(challenge)
            return theirs.recv(100) == hmac.digest(data, challenge, hashlib.sha256)

    def test_generate_and_load(self) -> None:
        framefd.generate_key(self.path)
        mode = self.path.stat().st_mode
        self.assertEqual((stat.S_IMODE(mode), len(self.path.read_bytes())), (0o600, 32))
        self.assertTrue(self.matches(framefd.load_key(self.path), self.path.read_bytes()))
        with self.assertRaises(FileExistsError):
            framefd.generate_key(self.path)

    def test_a_newline_at_the_end_is_not_of_the_key(self) -> None:
        self.path.write_bytes(support.KEY + b"\n")
        self.path.chmod(0o600)
        self.assertTrue(self.matches(framefd.load_key(os.fsencode(self.path)), support.KEY))

    def test_files_that_are_refused(self) -> None:
        with self.assertRaises(FileNotFoundError):
            framefd.load_key(self.path)
        with self.assertRaises(ValueError):
            framefd.load_key("a NUL: \0")
        self.path.write_bytes(support.KEY)
        self.path.chmod(0o644)
        with self.assertRaises(framefd.BadKeyError):
            framefd.load_key(self.path)

    def test_lengths(self) -> None:
        for length in (0, 15, 1025):
            for make in (framefd.Key, lambda key: framefd.auth_client(0, key)):
                with self.assertRaises(framefd.BadKeyError):
                    make(b"x" * length)
        self.path.write_bytes(b"short")
        self.path.chmod(0o600)
        with self.assertRaises(framefd.BadKeyError):
            framefd.load_key(self.path)
        for key in (framefd.load_key(self.path, short=True), framefd.Key(b"short", short=True)):
            self.assertTrue(self.matches(key, b"short"))

    def test_a_text_is_no_key(self) -> None:
        text: Any = "correct horse battery staple"
        calls: list[Callable[[], Any]] = [
            lambda: framefd.Key(text),
            lambda: framefd.Keyring({"a": text}),
            lambda: framefd.auth_client(0, text),
            lambda: framefd.auth_server(0, text),
            lambda: framefd.connect("127.0.0.1:1", key=text),
        ]
        for call in calls:
            with self.assertRaisesRegex(TypeError, "encode"):
                call()

    def test_rings(self) -> None:
        ring = framefd.Keyring()
        ring.add("a", support.KEY)
        with self.assertRaises(FileExistsError):
            ring.add("a", OTHER)
        with self.assertRaises(framefd.BadKeyError):
            ring.add("b", support.KEY)
        for wrong in ("", "a/b", "\0", "." * 3):
            with self.assertRaises(ValueError):
                ring.add(wrong, OTHER)
        folder = self.path.parent / "keys"
        folder.mkdir(0o700)
        framefd.generate_key(folder / "one")
        ring.load(folder)
        with support.connections(plain=True) as (ours, theirs):
            with support.meanwhile(lambda: theirs.auth_server(ring)) as got:
                ours.auth_client(framefd.load_key(folder / "one"), key_id="one")
        self.assertEqual(got, ["one"])

    def test_a_key_shows_and_copies_nothing(self) -> None:
        key = framefd.Key(support.KEY)
        self.assertNotIn("32 bytes", repr(key) + str(key) + repr(vars(key)))
        with self.assertRaises(TypeError):
            copy.deepcopy(key)

    def test_threads_share_a_key(self) -> None:
        key = framefd.Key(support.KEY)
        wrong: list[int] = []

        def use(key: framefd.Key) -> None:
            wrong.extend(n for n in range(50) if not self.matches(key, support.KEY))

        threads = [threading.Thread(target=use, args=[key]) for _ in range(4)]
        for thread in threads:
            thread.start()
        del key
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
