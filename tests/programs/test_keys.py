"""--key-file on both sides, on one, and with the wrong key: every pair on every wire."""

from __future__ import annotations

import pathlib
import subprocess
import unittest

from pairs import CLIENT, OLD, OURS, PAIRS, Case, launch, peer, tcp_exec_client, tcp_exec_server

WIRES = ("frame", "json", "packet", "ack", "bare")
WRONG = b"a key that only one side of this test has"


class Exec(Case):
    def test_the_right_key(self) -> None:
        key = self.key_file()
        # One newline at the end of a file is not part of the key.
        same = self.key_file("same", pathlib.Path(key).read_bytes() + b"\n")

        def check(server: str, client: str, wire: str) -> None:
            with launch.server(tcp_exec_server(server, wire, "--key-file", key)) as running:
                got = ask(client, wire, running, "echo on", "--key-file", same)
                self.assertEqual((got.stdout, got.stderr, got.returncode), (b"on\n", b"", 0))

        self.each([(*pair, wire) for pair in OURS for wire in WIRES], check)

    def test_the_wrong_key(self) -> None:
        key, wrong = self.key_file(), self.key_file("wrong", WRONG)

        def check(server: str, client: str, wire: str) -> None:
            marker = self.directory / "-".join((server, client, wire))
            with launch.server(tcp_exec_server(server, wire, "--key-file", key)) as running:
                got = ask(
                    client, wire, running, f"touch {marker}; echo on", "--key-file", wrong
                )
                self.assertEqual((got.stdout, got.returncode), (b"", 255))
                self.assertRegex(got.stderr, b"^exec_client: ")
                self.assertRegex(running.errors(), f"^exec_server: {CLIENT}: refused: ")
                right = ask(client, wire, running, "echo on", "--key-file", key)
                self.assertEqual(right.stdout, b"on\n")
                self.assertEqual(running.stop(), 0)
            self.assertFalse(marker.exists())

        self.each([(*pair, wire) for pair in OURS for wire in WIRES], check)

    def test_a_client_without_a_key(self) -> None:
        key = self.key_file()

        def check(server: str, client: str, wire: str) -> None:
            marker = self.directory / "-".join((server, client, wire))
            with launch.server(tcp_exec_server(server, wire, "--key-file", key)) as running:
                got = ask(client, wire, running, f"touch {marker}; echo on")
                self.assertNotIn(b"on\n", got.stdout)
                if wire != "bare":  # where the challenge is shown as if it were output
                    self.assertEqual(got.stdout, b"")
                    if client != OLD:
                        self.assertEqual(got.returncode, 255)
                self.assertEqual(running.stop(), 0)
            self.assertFalse(marker.exists())

        cases = [(*pair, wire) for pair in PAIRS if pair[0] != OLD for wire in WIRES]
        self.each(cases, check)

    def test_a_file_that_is_no_key(self) -> None:
        short = self.key_file("short", b"15 bytes, no mo")
        empty = self.key_file("empty", b"")
        open_to_all = pathlib.Path(self.key_file("open"))
        open_to_all.chmod(0o644)
        missing = str(self.directory / "missing")

        def check(language: str, path: str) -> None:
            for name, words, status in (
                ("exec_server", (), 2),
                ("exec_client", ("127.0.0.1", "1", "true"), 255),
            ):
                got = launch.run(launch.program(language, name, "--key-file", path, *words))
                self.assertEqual((got.returncode, got.stdout), (status, b""))
                self.assertRegex(got.stderr, f"^{name}: ".encode())

        files = (short, empty, str(open_to_all), missing, str(self.directory))
        self.each([(language, path) for language in launch.LANGUAGES for path in files], check)


class AuthEcho(Case):
    def test_echo_in_upper_case(self) -> None:
        key = self.key_file()
        long = "x" * 100_000

        def check(server: str, client: str) -> None:
            with launch.server(echo_server(server, key)) as running:
                got = launch.run(echo_client(client, key, running.address, "hello"))
                self.assertEqual((got.stdout, got.stderr), (b"HELLO\n", b""))
                self.assertEqual(got.returncode, 0)
                if client != OLD or server != OLD:
                    got = launch.run(echo_client(client, key, running.address, long))
                    self.assertEqual(got.stdout, long.upper().encode() + b"\n")
                lines = b"one\n\n\xc3\xa4 and \xff\nquit\nnever\n"
                got = launch.run(echo_client(client, key, running.address), lines)
                if client != OLD:
                    expected = b"ONE\n\xc3\xa4 AND \xff\n"
                    self.assertEqual(got.stdout.replace(b">>: ", b""), expected)

        self.each(PAIRS, check)

    def test_the_wrong_key(self) -> None:
        key, wrong = self.key_file(), self.key_file("wrong", WRONG)

        def check(server: str, client: str) -> None:
            with launch.server(echo_server(server, key)) as running:
                got = launch.run(echo_client(client, wrong, running.address, "hello"))
                self.assertEqual((got.stdout, got.returncode), (b"", 1))
                self.assertIn(b"_client", got.stderr)
                got = launch.run(echo_client(client, key, running.address, "next"))
                self.assertEqual(got.stdout, b"NEXT\n")

        self.each(PAIRS, check)

    def test_intruders_are_served_no_byte(self) -> None:
        key = self.key_file()

        def check(language: str, name: str) -> None:
            with launch.server(echo_server(language, key)) as running:
                got = launch.run(peer(name, *running.address))
                self.assertEqual((got.returncode, got.stdout), (1, b""), got.stderr)
                self.assertRegex(running.errors(), f"^auth_echo_server: {CLIENT}: refused: ")
                got = launch.run(echo_client(language, key, running.address, "next"))
                self.assertEqual(got.stdout, b"NEXT\n")

        names = ("auth_intruder_talks", "auth_intruder_wrong_key")
        self.each([(language, name) for language in launch.LANGUAGES for name in names], check)

    def test_a_key_is_needed(self) -> None:
        def check(language: str) -> None:
            for name, words, status in (
                ("auth_echo_server", (), 2),
                ("auth_echo_client", ("127.0.0.1", "1", "x"), 1),
            ):
                got = launch.run(launch.program(language, name, *words))
                self.assertEqual((got.returncode, got.stdout), (status, b""))
                self.assertRegex(got.stderr, f"^{name}: .*--key-file".encode())

        self.each([(language,) for language in launch.LANGUAGES], check)


def ask(
    client: str, wire: str, server: launch.Server, command: str, *options: str
) -> subprocess.CompletedProcess[bytes]:
    if client == OLD:
        return launch.run(peer(f"{wire}_client", *server.address, command))
    return launch.run(tcp_exec_client(client, wire, server.address, *options, command))


def echo_server(kind: str, key: str) -> list[str]:
    if kind == OLD:
        return peer("auth_echo_server", "127.0.0.1", "0", "--key-file", key)
    return launch.program(kind, "auth_echo_server", "--key-file", key)


def echo_client(kind: str, key: str, address: tuple[str, str], *text: str) -> list[str]:
    if kind == OLD:
        return peer("auth_echo_client", *address, "--key-file", key, *text)
    return launch.program(kind, "auth_echo_client", *address, "--key-file", key, *text)


if __name__ == "__main__":
    unittest.main()
