"""Exec over TCP: every server against every client on every wire."""

from __future__ import annotations

import itertools
import subprocess
import unittest

from pairs import (
    KINDS,
    OLD,
    OURS,
    PAIRS,
    Case,
    Servers,
    in_clear,
    launch,
    tcp_exec_client,
    tcp_exec_server,
    wires,
)

WITH_STATUS = wires("frame", "json")
WHOLE = (*WITH_STATUS, *wires("packet", "ack"))
WIRES = (*WHOLE, *wires("bare"))

SHORT_OF_A_MEGABYTE = b"".join(b"%d\n" % n for n in range(1, 200_001))


class Exec(Case):
    servers: Servers

    @classmethod
    def setUpClass(cls) -> None:
        cls.servers = Servers()
        cls.addClassCleanup(cls.servers.close)
        for kind, wire in itertools.product(KINDS, WIRES):
            cls.servers.start(tcp_exec_server(kind, wire))

    def ask(
        self, server: str, client: str, wire: str, *words: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        address = self.servers.start(tcp_exec_server(server, wire)).address
        return launch.run(tcp_exec_client(client, wire, address, *words), stdin)

    def test_both_streams_and_the_status(self) -> None:
        def check(server: str, client: str, wire: str) -> None:
            got = self.ask(server, client, wire, "printf out; printf err >&2; exit 3")
            expected = both_streams(server, client, wire)
            self.assertEqual((got.stdout, got.stderr, got.returncode), expected)

        self.each([(*pair, wire) for pair in PAIRS for wire in WHOLE], check)

    def test_a_command_that_fails_half_way(self) -> None:
        command = "echo one; cat /nonexistent; echo two; false"

        def check(server: str, client: str, wire: str) -> None:
            got = self.ask(server, client, wire, command)
            self.assertEqual(got.stdout, b"one\ntwo\n")
            self.assertIn(b"/nonexistent", got.stderr)
            self.assertEqual(got.returncode, 1)

        self.each([(*pair, wire) for pair in OURS for wire in WITH_STATUS], check)

    def test_two_commands_in_one(self) -> None:
        here = self.servers.directory

        def check(server: str, client: str, wire: str) -> None:
            got = self.ask(server, client, wire, "ls -l; pwd")
            self.assertRegex(got.stdout, rb"^total ")
            self.assertTrue(got.stdout.endswith(f"\n{here}\n".encode()), got.stdout)
            self.assertEqual((got.stderr, got.returncode), (b"", 0))

        self.each([(*pair, wire) for pair in PAIRS for wire in WHOLE], check)

    def test_the_status_is_that_of_the_command(self) -> None:
        def check(server: str, client: str, wire: str) -> None:
            for command, status in [
                ("exit 0", 0),
                ("exit 127", 127),
                ("exit 255", 255),
                ("kill -9 $$", 137),
            ]:
                got = self.ask(server, client, wire, command)
                self.assertEqual((got.returncode, got.stdout), (status, b""), command)

        self.each([(*pair, wire) for pair in OURS for wire in WITH_STATUS], check)

    @in_clear
    def test_a_wire_without_a_status_reports_none(self) -> None:
        def check(server: str, client: str, wire: str) -> None:
            got = self.ask(server, client, wire, "echo out; exit 3")
            self.assertEqual((got.stdout, got.stderr, got.returncode), (b"out\n", b"", 0))

        self.each([(*pair, wire) for pair in OURS for wire in ("packet", "ack", "bare")], check)

    def test_words_are_joined_and_the_options_of_a_command_left_alone(self) -> None:
        def check(server: str, client: str, wire: str) -> None:
            got = self.ask(
                server, client, wire, "printf", "%s,", "--wire", "--help", "-x", "*w*"
            )
            self.assertEqual((got.stdout, got.returncode), (b"--wire,--help,-x,*w*,", 0))

        self.each([(*pair, wire) for pair in OURS for wire in WIRES], check)

    def test_empty_output(self) -> None:
        def check(server: str, client: str, wire: str) -> None:
            got = self.ask(server, client, wire, "true")
            self.assertEqual((got.stdout, got.stderr, got.returncode), (b"", b"", 0))

        self.each([(*pair, wire) for pair in PAIRS for wire in WHOLE], check)

    def test_output_is_bytes(self) -> None:
        def check(server: str, client: str, wire: str) -> None:
            got = self.ask(server, client, wire, r"printf '\000\377\r\n\303('")
            self.assertEqual((got.stdout, got.returncode), (b"\x00\xff\r\n\xc3(", 0))

        self.each([(*pair, wire) for pair in PAIRS for wire in WIRES], check)

    def test_long_output_then_more_commands_on_one_connection(self) -> None:
        lines = b"seq 200000\n\n  \ntrue\necho after\nquit\necho never\n"

        def check(server: str, client: str, wire: str) -> None:
            got = self.ask(server, client, wire, stdin=lines)
            output = got.stdout.replace(b">>: ", b"")
            self.assertEqual(len(output), len(SHORT_OF_A_MEGABYTE) + len(b"after\n"))
            self.assertEqual(output, SHORT_OF_A_MEGABYTE + b"after\n")
            self.assertEqual((got.stderr, got.returncode), (b"", 0))

        self.each([(*pair, wire) for pair in PAIRS for wire in WHOLE], check)

    def test_a_prompt_is_the_same_in_both_languages(self) -> None:
        def check(wire: str) -> None:
            lines = b"echo one\n\n  \necho two >&2\nexit 4\n"
            c, python = (
                self.ask("c", client, wire, stdin=lines) for client in launch.LANGUAGES
            )
            self.assertEqual(c.stdout, python.stdout)
            self.assertEqual(c.stderr, python.stderr)
            self.assertEqual(c.returncode, python.returncode)

        self.each([(wire,) for wire in WHOLE], check)

    @in_clear
    def test_bare_replies_stick(self) -> None:
        lines = b"printf %03000d 7\necho second\n"

        def check(server: str, client: str) -> None:
            output = self.ask(server, client, "bare", stdin=lines).stdout.replace(b">>: ", b"")
            self.assertTrue(0 < len(output) <= 2048)
            self.assertEqual(output, b"0" * len(output))

        self.each(PAIRS, check)

    @in_clear
    def test_on_the_bare_wire_no_output_and_no_reply_look_the_same(self) -> None:
        def check(server: str, client: str) -> None:
            got = self.ask(server, client, "bare", stdin=b"true\necho on\n")
            self.assertEqual(got.stdout.replace(b">>: ", b""), b"on\n")
            self.assertEqual(got.stderr, b"exec_client: nothing came within 2000 ms\n")
            self.assertEqual(got.returncode, 0)

        self.each(OURS, check)

    def test_a_long_command(self) -> None:
        command = "printf " + "x" * 60_000

        def check(server: str, client: str) -> None:
            got = self.ask(server, client, "frame", command)
            self.assertEqual((len(got.stdout), got.returncode), (60_000, 0))

        self.each(PAIRS, check)

    def test_a_command_that_cannot_be_run(self) -> None:
        def check(server: str, client: str) -> None:
            got = self.ask(server, client, "frame", "x" * 70_000)
            self.assertEqual((got.returncode, got.stdout), (255, b""))
            self.assertRegex(got.stderr, rb"^exec_client: ")

        self.each(OURS, check)

    @in_clear
    def test_another_wire_is_an_error_and_not_output(self) -> None:
        # A packet's length makes no header, and a header's length no digits.
        def check(language: str, server: str, client: str) -> None:
            address = self.servers.start(tcp_exec_server(language, server)).address
            got = launch.run(tcp_exec_client(language, client, address, "echo text"))
            self.assertEqual((got.returncode, got.stdout), (255, b""))
            self.assertRegex(got.stderr, rb"^exec_client: ")

        wires = [("packet", "json"), ("json", "ack"), ("packet", "ack"), ("json", "frame")]
        cases = [(language, *pair) for language in launch.LANGUAGES for pair in wires]
        self.each(cases, check)


def both_streams(server: str, client: str, wire: str) -> tuple[bytes, bytes, int]:
    """What a client shows of "out" and "err" with status 3, and the status it ends with."""
    if wire not in WITH_STATUS or (server, wire) == (OLD, "json"):
        # The tutorial's servers send stderr if there is any.
        return (b"err" if server == OLD else b"errout"), b"", 0
    if client == OLD:
        return b"outerr", b"", 0
    return b"out", b"err", 3


if __name__ == "__main__":
    unittest.main()
