"""Exec over UDP: every server against every client, with and without a key."""

from __future__ import annotations

import itertools
import pathlib
import socket
import subprocess
import time
import unittest

from pairs import OLD, OURS, PAIRS, Case, launch, peer, plain

LONG = b"".join(b"%d\n" % n for n in range(1, 40_001))
LARGEST = 65_507


class Frame(Case):
    def test_both_streams_and_the_status(self) -> None:
        def check(server: str, client: str) -> None:
            with launch.server(udp_server(server, "frame")) as running:
                got = ask(client, "frame", running, "printf out; printf err >&2; exit 3")
                self.assertEqual((got.stdout, got.stderr), (b"out", b"err"))
                self.assertEqual(got.returncode, 0 if client == OLD else 3)

        self.each(PAIRS, check)

    def test_empty_and_binary_output(self) -> None:
        def check(server: str, client: str) -> None:
            with launch.server(udp_server(server, "frame")) as running:
                self.assertEqual(ask(client, "frame", running, "true").stdout, b"")
                got = ask(client, "frame", running, r"printf '\000\377\r\n'")
                self.assertEqual(got.stdout, b"\x00\xff\r\n")

        self.each(PAIRS, check)

    def test_a_long_reply_comes_in_parts_with_a_key_and_without(self) -> None:
        key = self.key_file()

        def check(server: str, client: str, *options: str) -> None:
            # The old ones ask once and send all at once: what a socket's buffer does not
            # hold is lost.
            lines = 4_000 if OLD in (server, client) else 40_000
            expected = b"".join(LONG.splitlines(keepends=True)[:lines])
            with launch.server(udp_server(server, "frame", *options)) as running:
                got = ask(client, "frame", running, f"seq {lines}", *options)
                self.assertEqual(len(got.stdout), len(expected), got.stderr)
                self.assertEqual((got.stdout, got.returncode), (expected, 0))

        keys = ((), ("--key-file", key))
        self.each(
            [(*pair, *options) for pair, options in itertools.product(PAIRS, keys)], check
        )

    def test_several_commands_from_the_prompt(self) -> None:
        def check(server: str, client: str) -> None:
            with launch.server(udp_server(server, "frame")) as running:
                lines = b"echo one\n\necho two\nquit\necho never\n"
                got = launch.run(udp_client(client, "frame", running.address), lines)
                self.assertEqual(got.stdout.replace(b">>: ", b""), b"one\ntwo\n")

        self.each(PAIRS, check)

    def test_strangers_are_not_served(self) -> None:
        key, wrong = self.key_file(), self.key_file("wrong", b"a key of one side of this test")

        def check(server: str, client: str, *options: str) -> None:
            marker = self.directory / "-".join((server, client, *options)).replace("/", "-")
            with launch.server(udp_server(server, "frame", "--key-file", key)) as running:
                command = udp_client(client, "frame", running.address, *options)
                with launch.start([*command, f"touch {marker}; echo on"]) as stranger:
                    got = ask(client, "frame", running, "echo on", "--key-file", key)
                    self.assertEqual(got.stdout, b"on\n")
                    stranger.kill()  # it would ask for as long as its patience lasts
                    self.assertEqual(stranger.communicate()[0], b"")
                self.assertEqual(running.stop(), 0)
            self.assertFalse(marker.exists())

        options = ((), ("--key-file", wrong))
        self.each(
            [(*pair, *option) for pair, option in itertools.product(OURS, options)], check
        )

    def test_junk_does_not_end_the_server(self) -> None:
        def check(language: str) -> None:
            with launch.server(udp_server(language, "frame")) as running:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    for junk in (
                        b"",
                        b"\0",
                        bytes(4),
                        b"GET / HTTP/1.1\r\n\r\n",
                        b"x" * 60_000,
                    ):
                        sock.sendto(junk, (running.host, int(running.port)))
                self.assertEqual(ask(language, "frame", running, "echo on").stdout, b"on\n")
                self.assertEqual(running.stop(), 0)

        self.each([(language,) for language in launch.LANGUAGES], check)


class Bare(Case):
    def test_both_streams(self) -> None:
        def check(server: str, client: str) -> None:
            with launch.server(udp_server(server, "bare")) as running:
                got = ask(client, "bare", running, "printf out; printf err >&2; exit 3")
                self.assertEqual((got.stdout, got.stderr), (b"out", b"err"))
                self.assertEqual(got.returncode, 0)
                lines = b"true\necho two\n"
                got = launch.run(udp_client(client, "bare", running.address), lines)
                self.assertEqual(got.stdout.replace(b">>: ", b"").strip(), b"two")

        self.each(PAIRS, check)

    def test_a_long_reply_is_cut(self) -> None:
        def check(server: str, client: str) -> None:
            with launch.server(udp_server(server, "bare")) as running:
                got = ask(client, "bare", running, "seq 40000")
                self.assertEqual(got.stdout, LONG[: 1024 if client == OLD else LARGEST])
                self.assertIn("cut", running.errors())

        self.each([pair for pair in PAIRS if pair[0] != OLD], check)

    def test_a_server_that_is_gone(self) -> None:
        def check(client: str, wire: str) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 0))
                host, port = sock.getsockname()
            got = launch.run(udp_client(client, wire, (host, str(port)), "true"))
            self.assertEqual((got.stdout, got.returncode), (b"", 255))
            self.assertRegex(got.stderr, b"^udp_exec_client: .*refused")

        self.each([(client, "bare") for client in launch.LANGUAGES], check)

    def test_there_is_no_place_for_a_key(self) -> None:
        key = self.key_file()

        def check(language: str) -> None:
            for name, words, status in (
                ("udp_exec_server", (), 2),
                ("udp_exec_client", ("127.0.0.1", "1", "true"), 255),
            ):
                command = launch.program(language, name, "--wire", "bare", "--key-file", key)
                got = launch.run([*command, *words])
                self.assertEqual((got.returncode, got.stdout), (status, b""))
                self.assertRegex(got.stderr, f"^{name}: .* no place for a key".encode())

        self.each([(language,) for language in launch.LANGUAGES], check)


class Both(Case):
    def test_a_slow_command_keeps_nobody_waiting(self) -> None:
        def check(server: str, client: str, wire: str) -> None:
            fifo = self.directory / "-".join((server, client, wire))
            subprocess.run(["mkfifo", fifo], check=True)
            with launch.server(udp_server(server, wire)) as running:
                slow = launch.start(udp_client(client, wire, running.address, f"cat {fifo}"))
                with slow, open(fifo, "wb"):  # the command has opened it: it runs
                    self.assertEqual(ask(client, wire, running, "echo on").stdout, b"on\n")
                    self.assertIsNone(slow.poll())
                self.assertEqual(slow.wait(launch.SECONDS), 0)

        self.each([(*pair, wire) for pair in OURS for wire in ("frame", "bare")], check)

    def test_a_server_whose_threads_all_run_commands_says_so(self) -> None:
        def check(language: str, wire: str) -> None:
            end = self.directory / "-".join((language, wire))
            wait = f"while ! [ -e {end} ]; do sleep 0.05; done"
            with launch.server(udp_server(language, wire)) as running:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.connect((running.host, int(running.port)))
                    sock.settimeout(launch.SECONDS)
                    for number in range(16):
                        sock.send(request(wire, number, f"touch {end}{number}; {wait}"))
                    while len(list(self.directory.glob(end.name + "?*"))) < 16:
                        time.sleep(0.01)
                    got = ask(language, wire, running, "echo on")
                    self.assertEqual(got.stdout, b"")
                    self.assertRegex(got.stderr, b"all threads run commands")
                    end.touch()
                    for _ in range(16 if wire == "frame" else 32):
                        sock.recv(LARGEST)
                self.assertEqual(ask(language, wire, running, "echo on").stdout, b"on\n")

        self.each(itertools.product(launch.LANGUAGES, ("frame", "bare")), check)

    def test_a_reply_in_flight_is_delivered(self) -> None:
        def check(server: str, client: str, wire: str) -> None:
            fifo = self.directory / "-".join((server, client, wire))
            subprocess.run(["mkfifo", fifo], check=True)
            with launch.server(udp_server(server, wire)) as running:
                command = f"cat {fifo}; sleep 0.3; seq 5000"
                asking = launch.start(udp_client(client, wire, running.address, command))
                with asking:
                    pathlib.Path(fifo).write_bytes(b"")
                    self.assertEqual(running.stop(), 0)
                    output, errors = asking.communicate(timeout=launch.SECONDS)
                self.assertEqual((errors, asking.returncode), (b"", 0))
                self.assertEqual(output, b"".join(b"%d\n" % n for n in range(1, 5001)))

        self.each([(*pair, wire) for pair in OURS for wire in ("frame", "bare")], check)


def request(wire: str, number: int, command: str) -> bytes:
    body = command.encode()
    if wire == "bare":
        return body
    header = {"cmd": "exec", "id": number, "data_size": len(body)}
    return plain.pack_header(header) + body


def udp_server(kind: str, wire: str, *options: str) -> list[str]:
    if kind == OLD:
        return peer(f"udp_{wire}_server", "127.0.0.1", "0", *options)
    return launch.program(kind, "udp_exec_server", "--wire", wire, *options)


def udp_client(kind: str, wire: str, address: tuple[str, str], *words: str) -> list[str]:
    if kind == OLD:
        return peer(f"udp_{wire}_client", *address, *words)
    return launch.program(kind, "udp_exec_client", *address, "--wire", wire, *words)


def ask(
    client: str, wire: str, server: launch.Server, command: str, *options: str
) -> subprocess.CompletedProcess[bytes]:
    return launch.run(udp_client(client, wire, server.address, *options, command))


if __name__ == "__main__":
    unittest.main()
