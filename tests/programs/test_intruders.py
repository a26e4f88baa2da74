"""Somebody in between, or a stranger, at a sealed server: no byte is served, nothing is run, and
others are not disturbed. What a plain handshake and a shared key without a name allow is pinned.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import socket
import unittest
from collections.abc import Callable, Iterator

from pairs import CLIENT, KEY, OURS, Case, launch, peer, plain
from sealed_client import CONFIRM, DATA, END, Sealed

ID, NAME = b"web-1", b"db"
OTHER = b"a key of another client of this server"
FLIGHT, REPLY, CONFIRMED = 11 + 2 + 48, 2 + 48, 2 + 17  # bytes of a handshake with this id
REPLAYS = 1000
EACH = tuple((language,) for language in launch.LANGUAGES)
# A line of the log. Of very many not all are shown.
SEEN = rf"({CLIENT}( \(web-1\))?: (has proved its key|refused: .+)|\d+ lines before .* left out)"


class Meeting:
    """A sealed server, what would be seen if an intruder was served, and a client whose
    session goes on meanwhile."""

    def __init__(self, language: str, directory: pathlib.Path) -> None:
        self.seen = directory / f"{language}-seen"
        self.keys = directory / f"{language}-keys"
        self.keys.mkdir(0o700)
        for name, key in (("web-1", KEY), ("web-2", OTHER)):
            path = self.keys / name
            path.touch(0o600)
            path.write_bytes(key)
        self.options = ["--seal", "--keys", str(self.keys), "--name", "db"]
        self.stack = contextlib.ExitStack()
        command = launch.program(language, "exec_server", *self.options)
        self.server = self.stack.enter_context(launch.server(command))
        self.bystander = self.sealed()

    def connect(self) -> socket.socket:
        conn = socket.create_connection(self.server.socket_address, launch.SECONDS)
        return self.stack.enter_context(conn)

    def sealed(self) -> Sealed:
        return Sealed(self.connect(), KEY, ID, NAME)

    @property
    def command(self) -> bytes:
        """What an intruder wants to run."""
        return f"touch {self.seen}".encode()

    @property
    def request(self) -> bytes:
        header = {"cmd": "exec", "data_size": len(self.command)}
        return plain.pack_header(header) + self.command

    @contextlib.contextmanager
    def between(self, client: str = "c", *options: str) -> Iterator[tuple[socket.socket, ...]]:
        """Somebody in between: the socket of a client of ours, and one to the server."""
        with contextlib.ExitStack() as stack:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                host, port = listener.getsockname()
                key = ["--key-file", str(self.keys / "web-1")]
                given = options or ("--seal", "--id", "web-1", "--name", "db")
                command = launch.program(client, "exec_client", *given, *key, host, str(port))
                running = stack.enter_context(launch.start([*command, "echo secret"]))
                stack.callback(running.kill)
                near, _ = listener.accept()
            stack.enter_context(near).settimeout(launch.SECONDS)
            self.running = running
            yield near, self.connect()

    def client_says(self) -> tuple[int, str]:
        """The status and the error of that client."""
        output, errors = self.running.communicate(timeout=launch.SECONDS)
        return self.running.returncode, errors.decode()


def carry(source: socket.socket, target: socket.socket, size: int) -> bytes:
    data = plain.recv_exact(source, size)
    target.sendall(data)
    return data


def rest(conn: socket.socket) -> bytes:
    """All that still comes, after the end of what this side sends."""
    data = b""
    with contextlib.suppress(ConnectionError):
        conn.shutdown(socket.SHUT_WR)
        while piece := conn.recv(65536):
            data += piece
    return data


# ---- attacks: each does its worst, and returns what the server sent that it must not


def speaks_after_the_relay(meeting: Meeting) -> bytes:
    """It passes the handshake, then sends a request of its own."""
    with meeting.between() as (near, far):
        carry(near, far, FLIGHT)
        carry(far, near, REPLY)
        carry(near, far, CONFIRMED)
        far.sendall(meeting.request)
        return rest(far)


def reflects_the_server(meeting: Meeting) -> bytes:
    """It sends the server's own records back to it."""
    client = meeting.sealed()
    client.record(DATA, plain.pack_header({"cmd": "hello", "data_size": 0}))
    length = plain.recv_exact(client.conn, 2)
    record = length + plain.recv_exact(client.conn, int.from_bytes(length, "big"))
    client.conn.sendall(record + record)
    return rest(client.conn)


def replays_message_1(meeting: Meeting) -> bytes:
    """It repeats the first message of a client. Each gets a reply, and nothing more."""
    with meeting.between() as (near, far):
        flight = carry(near, far, FLIGHT)
    replies = set()
    for _ in range(REPLAYS):
        with socket.create_connection(meeting.server.socket_address, launch.SECONDS) as conn:
            conn.sendall(flight)
            replies.add(plain.recv_exact(conn, REPLY))
    assert len(replies) == REPLAYS
    with meeting.connect() as conn:
        conn.sendall(flight + meeting.request)
        return rest(conn)[REPLY:]


def replays_a_session(meeting: Meeting) -> bytes:
    """It repeats all that a client sent."""
    with Recorder(meeting.connect()) as recorded:
        Sealed(recorded, KEY, ID, NAME).run(meeting.command)
    meeting.seen.unlink()
    with meeting.connect() as conn:
        conn.sendall(recorded.sent)
        return rest(conn)[REPLY:]


def strips_to_plain(meeting: Meeting) -> bytes:
    """It answers a challenge that was never sent, and asks in clear."""
    with meeting.connect() as conn:
        conn.sendall(bytes(32) + meeting.request)
        sent = rest(conn)
    with meeting.connect() as conn:
        conn.sendall(meeting.request)
        return sent + rest(conn)


def swaps_the_id(meeting: Meeting) -> bytes:
    """It names another key of the server."""
    with meeting.between() as (near, far):
        flight = plain.recv_exact(near, FLIGHT)
        far.sendall(flight.replace(b"web-1", b"web-2"))
        return rest(far)


def flips_bits(meeting: Meeting) -> bytes:
    """It changes one bit in each byte that a client sends, up to its first request."""
    sent = b""
    size = FLIGHT + CONFIRMED + 2 + 17 + len(meeting.request)
    for at in range(size):
        conn = Flipper(meeting.connect(), at, 1 << at % 8)
        # If it is a length, the server waits for more.
        conn.settimeout(1)
        with contextlib.suppress(EOFError, OSError, ValueError):
            client = Sealed(conn, KEY, ID, NAME)
            client.record(DATA, meeting.request)
            sent += rest(conn)
        conn.close()
    return sent


def is_a_stranger(meeting: Meeting) -> bytes:
    """It speaks something else."""
    sent = b""
    for words in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / HTTP/1.1\r\nHost: db\r\n\r\n",
        b"FDS2" + bytes(60),
        b"FDS1\x03\x00\x00\x30" + bytes(48),
        b"FDS1\x01\xff" + bytes(400),
        b"FDS1\x01\x05../..\x00\x30" + bytes(48),
        b"FDS1\x01\x00\xff\xff" + bytes(65535),
        b"FDS1\x01\x00\x00\x30" + bytes(48),
        b"\0",
        b"",
        os.urandom(100_000),
    ):
        with meeting.connect() as conn, contextlib.suppress(ConnectionError):
            conn.sendall(words)
            sent += rest(conn)
    return sent


class Unconfirmed(Sealed):
    """A client that has the key, and leaves out its first record."""

    is_first = True

    def record(self, kind: int, body: bytes = b"") -> None:
        if self.is_first:
            self.is_first = False
        else:
            super().record(kind, body)


def asks_before_it_confirms(meeting: Meeting) -> bytes:
    """A client that has the key, but sends no confirmation, or two of them."""
    sent = b""
    for kinds in ((DATA,), (DATA, CONFIRM), (CONFIRM, CONFIRM, DATA), (CONFIRM, 7, DATA)):
        client = Unconfirmed(meeting.connect(), KEY, ID, NAME)
        with contextlib.suppress(ConnectionError):
            for kind in kinds:
                client.record(kind, meeting.request if kind == DATA else b"")
        sent += rest(client.conn)
    return sent


def sends_no_frame(meeting: Meeting) -> bytes:
    """A client that has the key sends bytes that are no frame: it gets no reply in clear."""
    client = meeting.sealed()
    client.record(DATA, b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
    with contextlib.suppress(EOFError, OSError):  # it is closed
        while (reply := client.open()) is not None:
            assert b"bad_request" in reply
        return rest(client.conn)
    return b""


def takes_the_other_name(meeting: Meeting) -> bytes:
    """A client that has the key, and takes this server for another one."""
    sent = b""
    for name in (b"", b"d", b"db2", b"DB"):
        with contextlib.suppress(EOFError, ConnectionError):
            client = Sealed(meeting.connect(), KEY, ID, name)
            sent += client.run(meeting.command)[1] + b"served"
    return sent


ATTACKS: dict[str, Callable[[Meeting], bytes]] = {
    attack.__name__: attack
    for attack in (
        speaks_after_the_relay,
        reflects_the_server,
        replays_message_1,
        replays_a_session,
        strips_to_plain,
        swaps_the_id,
        flips_bits,
        is_a_stranger,
        asks_before_it_confirms,
        sends_no_frame,
        takes_the_other_name,
    )
}


class Recorder(socket.socket):
    """A connection whose sent bytes are kept."""

    def __init__(self, conn: socket.socket) -> None:
        super().__init__(fileno=os.dup(conn.fileno()))
        self.settimeout(launch.SECONDS)
        self.sent = b""

    def sendall(self, data: bytes) -> None:  # type: ignore[override]
        self.sent += data
        super().sendall(data)


class Flipper(Recorder):
    """A connection on which one bit of what is sent is another one."""

    def __init__(self, conn: socket.socket, at: int, bit: int) -> None:
        super().__init__(conn)
        self.at, self.bit = at, bit

    def sendall(self, data: bytes) -> None:  # type: ignore[override]
        at = self.at - len(self.sent)
        if 0 <= at < len(data):
            data = data[:at] + bytes([data[at] ^ self.bit]) + data[at + 1 :]
        super().sendall(data)


class Intruders(Case):
    def test_a_sealed_server_serves_none_of_them(self) -> None:
        def check(language: str) -> None:
            meeting = Meeting(language, self.directory)
            with meeting.stack:
                for name, attack in ATTACKS.items():
                    self.assertEqual(attack(meeting), b"", name)
                    self.assertFalse(meeting.seen.exists(), name)
                    header, body = meeting.bystander.run(b"echo on")
                    self.assertEqual((header["exit_code"], body), (0, b"on\n"), name)
                meeting.bystander.record(END)
                self.assertEqual(meeting.server.stop(), 0)
                for line in meeting.server.errors().splitlines():
                    self.assertRegex(line, f"^exec_server: {SEEN}$")
                meeting.bystander.conn.close()

        self.each(EACH, check)

    def test_a_relay_that_only_passes_bytes_learns_nothing(self) -> None:
        def check(server: str, client: str) -> None:
            meeting = Meeting(server, self.directory_of(server, client))
            with meeting.stack, meeting.between(client) as (near, far):
                passed = carry(near, far, FLIGHT) + carry(far, near, REPLY)
                passed += carry(near, far, CONFIRMED)
                length = carry(near, far, 2)
                passed += carry(near, far, int.from_bytes(length, "big"))
                passed += (reply := far.recv(65536))
                near.sendall(reply)
                output, errors = meeting.running.communicate(timeout=launch.SECONDS)
                self.assertEqual((output, errors), (b"secret\n", b""))
                # What is left is the end that the client sends before it closes.
                self.assertEqual(len(rest(near)), CONFIRMED)
                for word in (b"secret", b"echo", b"exec", b"data_size", KEY):
                    self.assertNotIn(word, passed)

        self.each(OURS, check)

    def test_a_sealed_client_takes_no_other_server(self) -> None:
        def check(client: str) -> None:
            meeting = Meeting("c", self.directory_of("c", client))
            with meeting.stack:
                with meeting.between(client) as (near, far):
                    carry(near, far, FLIGHT)
                    recorded = plain.recv_exact(far, REPLY)
                plain_reply = plain.pack_header({"status": "ok", "data_size": 0})
                answers: dict[str, Callable[[bytes], bytes]] = {
                    "a challenge": lambda flight: os.urandom(32),
                    "a frame": lambda flight: plain_reply,
                    "its own message": lambda flight: flight[-REPLY:],
                    "message 2 of another session": lambda flight: recorded,
                    "another length": lambda flight: b"\xff\xff" + bytes(65535),
                    "random bytes": lambda flight: b"\0\x30" + os.urandom(48),
                    "nothing": lambda flight: b"",
                }
                for name, answer in answers.items():
                    with meeting.between(client) as (near, _):
                        near.sendall(answer(plain.recv_exact(near, FLIGHT)))
                        self.assertEqual(rest(near), b"", name)
                        status, errors = meeting.client_says()
                        self.assertEqual(status, 255, name)
                        self.assertRegex(errors, "^exec_client: [^\n]+\n$", name)

        self.each(EACH, check)

    def test_a_name_keeps_a_client_from_another_holder_of_its_key(self) -> None:
        key = self.key_file()

        def check(server: str, client: str) -> None:
            for ours, theirs, served in (("", "", True), ("a", "b", False), ("", "b", False)):
                options = ["--seal", "--key-file", key, "--name"]
                command = launch.program(server, "exec_server", *options, ours)
                with launch.server(command) as running:
                    ask = launch.program(client, "exec_client", *options, theirs)
                    got = launch.run([*ask, *running.address, "echo on"])
                # Without a name any holder of the key is the server.
                self.assertEqual(got.stdout, b"on\n" if served else b"")
                self.assertEqual(got.returncode, 0 if served else 255)

        self.each(OURS, check)

    def test_a_relay_of_the_plain_handshake_gets_its_own_command_run(self) -> None:
        """That is why a plain server does not listen beyond loopback by itself."""

        def check(language: str) -> None:
            meeting = Meeting(language, self.directory_of(language, "plain"))
            with meeting.stack:
                options = ("--key-file", str(meeting.keys / "web-1"))
                command = launch.program(language, "exec_server", *options)
                meeting.server = meeting.stack.enter_context(launch.server(command))
                with meeting.between("c", "--wire", "frame") as (near, far):
                    carry(far, near, 32)
                    carry(near, far, 32)
                    far.sendall(meeting.request)
                    header, _ = plain.read_frame(far) or ({}, b"")
                self.assertEqual(header["exit_code"], 0)
                self.assertTrue(meeting.seen.exists())

        self.each(EACH, check)

    def test_a_client_without_the_library(self) -> None:
        self.without_the_library("sealed_client")

    @unittest.skipUnless(importlib.util.find_spec("noise"), "pip install noiseprotocol")
    def test_a_short_client_without_the_library(self) -> None:
        self.without_the_library("noise_client")

    def without_the_library(self, client: str) -> None:
        def check(language: str) -> None:
            meeting = Meeting(language, self.directory)
            with meeting.stack:
                key = str(meeting.keys / "web-1")
                ask = peer(client, *meeting.server.address, key, "web-1", "db")
                got = launch.run([*ask, "seq 30000; exit 3"])
                expected = b"".join(b"%d\n" % n for n in range(1, 30_001))
                self.assertEqual((got.stdout, got.stderr, got.returncode), (expected, b"", 3))

        self.each(EACH, check)

    def directory_of(self, *names: str) -> pathlib.Path:
        path = self.directory / "-".join(names)
        path.mkdir()
        return path


if __name__ == "__main__":
    unittest.main()
