"""Sealed programs: what they say about each mistake, keys that are read again, and what a broken
connection is told."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import unittest
from collections.abc import Callable, Iterator

from pairs import CLIENT, KEY, OURS, Case, launch, plain
from sealed_client import DATA, END, whole
from sealed_client import Sealed as SealedClient

OTHER = b"a key that only one side of these tests has"
SHORT = b"a key of 24 bytes, alone"
EACH = tuple((language,) for language in launch.LANGUAGES)
SIZES = (0, 1, 70_000, 16_384)  # of bodies
PIECE, END_SIZE = 60_000, 19  # bytes of a record's content at most, and of the end's record

PROVED = f"{CLIENT} \\(web-1\\): has proved its key"
REFUSED = "the server closed the connection during the handshake: is the key one of its keys"
LACKS = 'the client does not have the key "{}", or it expects another name of the server'
CLOSED = r"the peer closed the connection \(does the server want a key, another one, or --seal\?\)"

# Of a server and a client with a key: their options, and a part of what each says.
MISTAKES = {
    "the wrong key": ("--seal", "--seal {other}", REFUSED, LACKS.format("")),
    "an unknown id": ("--seal", "--seal --id web-9", REFUSED, LACKS.format("web-9")),
    "another name": (
        "--seal --name one",
        "--seal --name two",
        f"{REFUSED}.*under this id, and its name the same at both ends",
        LACKS.format(""),
    ),
    "a plain client": ("--seal", "{none}", CLOSED, "does the client speak sealed"),
    "a plain server": (
        "",
        "--seal",
        "does the server speak sealed",
        f"{CLIENT}: refused: .*the client speaks sealed",
    ),
    "a server without a key": (
        "{none}",
        "--seal",
        "does the server speak sealed",
        f"{CLIENT}: refused: .*the peer speaks sealed",
    ),
    "the wrong key, plain": ("", "{other}", CLOSED, f"{CLIENT}: refused: authentication failed"),
}


class Sealed(Case):
    """What these tests share."""

    def setUp(self) -> None:
        super().setUp()
        self.key, self.other = self.key_file(), self.key_file("other", OTHER)
        self.names = {name: self.directory / name for name in ("keys", "root")}
        for path in self.names.values():
            path.mkdir(0o700)

    def options(self, text: str) -> list[str]:
        """The options of one side; it has the key unless they say otherwise."""
        key = self.other if "{other}" in text else self.key
        words = re.sub(r"\{\w+\}", "", text).split()
        return words if "{none}" in text or "--keys" in text else [*words, "--key-file", key]

    def server(self, language: str, name: str, text: str) -> list[str]:
        root = ("--root", str(self.names["root"])) if name == "file" else ()
        return launch.program(language, f"{name}_server", *root, *self.options(text))

    def ask(
        self, language: str, name: str, server: launch.Server, text: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Asks for something that would be seen."""
        words = ("put", self.other, "seen") if name == "file" else ("touch", self.seen)
        command = launch.program(language, f"{name}_client", *self.options(text))
        return launch.run([*command, *server.address, *words])

    @property
    def seen(self) -> str:
        return str(self.names["root"] / "seen")

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + launch.SECONDS
        while not is_so():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)


class Programs(Sealed):
    def test_each_mistake_is_said_at_both_ends(self) -> None:
        def check(server: str, client: str, name: str, what: str) -> None:
            ours, theirs, said, logged = MISTAKES[what]
            with launch.server(self.server(server, name, ours)) as running:
                got = self.ask(client, name, running, theirs)
                self.assertEqual((got.returncode, got.stdout), (255 if name == "exec" else 1, b""))
                self.assertRegex(got.stderr.decode(), f"^{name}_client: [^\n]*{said}[^\n]*\n$")
                self.assertEqual(running.stop(), 0)
                self.assertRegex(running.errors(), f"^{name}_server: [^\n]*{logged}[^\n]*\n$")
            self.assertFalse(os.path.exists(self.seen))

        pairs = [(*pair, name) for pair in OURS for name in ("exec", "file")]
        self.each([(*pair, what) for pair in pairs for what in MISTAKES], check)

    @unittest.skipUnless(os.environ.get("FRAMEFD_LONG"), "it takes as long as a handshake may")
    def test_a_plain_client_with_a_key_waits_for_what_a_sealed_server_never_sends(self) -> None:
        def check(server: str, client: str) -> None:
            with launch.server(self.server(server, "exec", "--seal")) as running:
                got = self.ask(client, "exec", running, "")
                said = rb"^exec_client: .* \(a sealed server needs --seal\)\n$"
                self.assertRegex(got.stderr, said)

        self.each(OURS, check)

    def test_a_key_that_cannot_be_used(self) -> None:
        short, open_to_all = self.key_file("short", SHORT), self.key_file("open")
        os.chmod(open_to_all, 0o644)
        keys = self.names["keys"]
        write_key(keys / "web-1", KEY)
        write_key(keys / "web-2", SHORT)
        needs = "24 bytes are too few for --seal, which needs 32 random ones\n$"

        def check(language: str, name: str, said: str, *options: str) -> None:
            words = () if name.endswith("server") else ("127.0.0.1", "1", "list")
            root = ("--root", "/") if name == "file_server" else ()
            got = launch.run(launch.program(language, name, *root, "--seal", *options, *words))
            self.assertEqual(got.stdout, b"")
            self.assertRegex(got.stderr.decode(), f"^{name}: {said}")

        each = ("exec_server", "exec_client", "file_server", "file_client")
        cases = [(name, f"{short}: {needs}", "--key-file", short) for name in each]
        cases += [(name, ".*chmod 600", "--key-file", open_to_all) for name in each]
        cases.append(("exec_server", f"{keys}/web-2: {needs}", "--keys", str(keys)))
        self.each([(one, *case) for one in launch.LANGUAGES for case in cases], check)

    def test_keys_by_id_are_read_again(self) -> None:
        def check(server: str, client: str) -> None:
            keys = self.directory / f"{server}-{client}"
            keys.mkdir(0o700)
            write_key(keys / "web-1", KEY)
            options = f"--seal --keys {keys} --name db"
            with launch.server(self.server(server, "exec", options)) as running:
                first = self.client(client, running, "web-1", self.key, "echo on; sleep 1000")
                with launch.start(first) as asking:
                    assert asking.stdout
                    self.assertEqual(asking.stdout.readline(), b"on\n")
                    self.assertRegex(running.errors(), f"^exec_server: {PROVED}\n$")

                    write_key(keys / "web-2", SHORT)
                    self.hang_up(running, "the keys stay as they are: .*web-2: 24 bytes are too")
                    os.unlink(keys / "web-2")
                    (keys / "not a name").touch(0o600)
                    self.hang_up(running, "the keys stay as they are: .*not a name")
                    os.unlink(keys / "not a name")
                    self.assertIsNone(asking.poll())

                    write_key(keys / "web-2", OTHER)
                    self.hang_up(running, "the keys were read again")
                    self.assertIsNone(asking.poll())
                    os.unlink(keys / "web-1")
                    self.hang_up(running, "the keys were read again")
                    self.assertEqual(asking.wait(launch.SECONDS), 255)
                    asking.communicate()
                again = launch.run(self.client(client, running, "web-1", self.key, "echo on"))
                self.assertEqual((again.returncode, again.stdout), (255, b""))
                new = launch.run(self.client(client, running, "web-2", self.other, "echo on"))
                self.assertEqual((new.stdout, new.stderr), (b"on\n", b""))
                self.assertEqual(running.stop(), 0)

        self.each(OURS, check)

    def test_a_key_file_is_read_again(self) -> None:
        def check(server: str, seal: str) -> None:
            path = self.directory / f"{server}{seal}"
            write_key(path, KEY)
            options = [*seal.split(), "--key-file", str(path)]
            with launch.server(launch.program(server, "exec_server", *options)) as running:
                os.chmod(path, 0o644)
                self.hang_up(running, "the keys stay as they are: .*chmod 600")
                os.chmod(path, 0o600)
                write_key(path, OTHER)
                self.hang_up(running, "the keys were read again")
                for key, status in ((self.key, 255), (self.other, 0)):
                    command = launch.program("c", "exec_client", *seal.split(), "--key-file", key)
                    got = launch.run([*command, *running.address, "true"])
                    self.assertEqual(got.returncode, status, got.stderr)
                self.assertEqual(running.stop(), 0)

        self.each([(one, seal) for one in launch.LANGUAGES for seal in ("", "--seal")], check)

    def client(
        self, language: str, server: launch.Server, key_id: str, key: str, command: str
    ) -> list[str]:
        options = ["--seal", "--id", key_id, "--name", "db", "--key-file", key, "--stdin"]
        return launch.program(language, "exec_client", *options, *server.address, command)

    def hang_up(self, server: launch.Server, said: str) -> None:
        """Has the keys read again, and waits for what the server says to that."""
        before = len(server.errors())
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + launch.SECONDS
        while not server.errors()[before:].endswith("\n") and time.monotonic() < end:
            time.sleep(0.01)
        self.assertRegex(server.errors()[before:], f"^exec_server: {said}[^\n]*\n$")


class Echo(Sealed):
    """The servers whose event loop is their own, with a client that has no library."""

    def test_frames_come_back_until_the_end(self) -> None:
        header = {"text": "caf\u00e9"}
        frames = [({"n": n, **header}, bytes([n]) * size) for n, size in enumerate(SIZES)]

        def check(language: str) -> None:
            with self.serving(language) as running, self.connected(running) as conn:
                client = SealedClient(conn, KEY, b"web-1", b"db")
                for header, body in frames:
                    send(client, header, body)
                    self.assertEqual(
                        receive(client), ({**header, "data_size": len(body)}, body)
                    )
                client.record(END)
                self.assertIsNone(client.open())
                self.assertEqual(conn.recv(1), b"")
                self.assertEqual(running.stop(), 0)
                self.assertRegex(running.errors(), f"^echo_server: {PROVED}\n$")

        self.each(EACH, check)

    def test_many_frames_before_the_first_is_read(self) -> None:
        def check(language: str) -> None:
            with self.serving(language) as running, self.connected(running) as conn:
                client = SealedClient(conn, KEY, b"web-1", b"db")
                for n in range(400):
                    send(client, {"n": n}, bytes(1000))
                client.record(END)
                data = b""
                while (piece := client.open()) is not None:
                    data += piece
                numbers = re.findall(rb'"n": ?(\d+)', data)
                self.assertEqual(numbers, [b"%d" % n for n in range(400)])
                self.assertGreater(len(data), 400_000)
                self.assertEqual(running.stop(), 0)

        self.each(EACH, check)

    def test_nothing_is_sent_to_a_stranger(self) -> None:
        def check(language: str) -> None:
            with self.serving(language) as running:
                for words in (b"GET / HTTP/1.1\r\n\r\n", framed({}, b"x"), os.urandom(70_000)):
                    with self.connected(running) as conn:
                        self.assertEqual(all_of(conn, words), b"")
                with self.connected(running) as conn, self.assertRaises(EOFError):
                    SealedClient(conn, OTHER, b"web-1", b"db")
                with self.connected(running) as conn:
                    client = SealedClient(conn, KEY, b"web-1", b"db")
                    self.assertEqual(all_of(conn, framed({}, b"in clear")), b"")
                with self.connected(running) as conn:
                    client = SealedClient(conn, KEY, b"web-1", b"db")
                    client.record(DATA, b"GET / HTTP/1.1\r\n\r\n" + bytes(100))
                    self.assertIn(len(all_of(conn, b"")), (0, END_SIZE))
                self.assertEqual(running.stop(), 0)
                for line in running.errors().splitlines():
                    self.assertRegex(line, f"^echo_server: ({CLIENT}: refused: .|{PROVED}$)")

        self.each(EACH, check)

    def test_a_client_whose_key_is_gone(self) -> None:
        def check(language: str) -> None:
            with self.serving(language) as running, self.connected(running) as conn:
                client = SealedClient(conn, KEY, b"web-1", b"db")
                send(client, {}, b"before")
                self.assertEqual(receive(client)[1], b"before")
                keys = self.directory / f"{language}-keys"
                write_key(keys / "web-2", OTHER)
                os.unlink(keys / "web-1")
                before = running.errors()
                running.process.send_signal(signal.SIGHUP)
                self.wait_until(lambda: "read again" in running.errors()[len(before) :])
                with contextlib.suppress(ConnectionError):
                    send(client, {}, b"after")
                    self.assertEqual(all_of(conn, b""), b"")
                self.assertEqual(running.stop(), 0)

        self.each(EACH, check)

    @contextlib.contextmanager
    def serving(self, language: str) -> Iterator[launch.Server]:
        keys = self.directory / f"{language}-keys"
        keys.mkdir(0o700)
        write_key(keys / "web-1", KEY)
        options = ("--seal", "--keys", str(keys), "--name", "db")
        with launch.server(launch.program(language, "echo_server", *options)) as running:
            yield running

    def connected(self, server: launch.Server) -> socket.socket:
        return socket.create_connection(server.socket_address, launch.SECONDS)


def framed(header: plain.Header, body: bytes) -> bytes:
    return plain.pack_header({**header, "data_size": len(body)}) + body


def send(client: SealedClient, header: plain.Header, body: bytes) -> None:
    data = framed(header, body)
    for start in range(0, len(data), PIECE):
        client.record(DATA, data[start : start + PIECE])


def receive(client: SealedClient) -> tuple[plain.Header, bytes]:
    data = b""
    while (frame := whole(data)) is None:
        data += client.open() or b""
    return frame


def all_of(conn: socket.socket, words: bytes) -> bytes:
    """Sends the last words, and returns all that comes."""
    data = b""
    with contextlib.suppress(ConnectionError):
        conn.sendall(words)
        conn.shutdown(socket.SHUT_WR)
        while piece := conn.recv(65536):
            data += piece
    return data


def write_key(path: pathlib.Path, key: bytes) -> None:
    """Its owner alone can read it."""
    path.touch(0o600)
    path.write_bytes(key)


if __name__ == "__main__":
    unittest.main()
