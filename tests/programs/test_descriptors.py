"""Clients whose standard descriptors are closed, do not block or have nobody at their end, on
every wire and in every mode; test_surroundings.py has what is so for all programs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import unittest

from pairs import Case, launch, redirecting, tcp_exec_client, tcp_exec_server

IN_EVERY_LANGUAGE = tuple((language,) for language in launch.LANGUAGES)


class Clients(Case):
    def test_without_standard_output(self) -> None:
        def check(language: str) -> None:
            marker = self.directory / language
            with launch.server(launch.program("c", "exec_server")) as running:
                ask = launch.program(language, "exec_client", *running.address)
                # What is shown in vain must not go to the server in place of a request.
                got = launch.run(
                    redirecting(">&-", ask), b"echo one\ntouch %s\n" % bytes(marker)
                )
                self.assertEqual((got.stderr, got.returncode), (b"", 0))
            self.assertTrue(marker.exists())

        self.each(IN_EVERY_LANGUAGE, check)

    def test_without_standard_input(self) -> None:
        def check(language: str) -> None:
            with launch.server(launch.program("c", "exec_server")) as running:
                ask = launch.program(language, "exec_client", "--stdin", *running.address)
                got = launch.run(redirecting("<&-", [*ask, "cat; echo end"]))
                self.assertEqual((got.stdout, got.stderr, got.returncode), (b"end\n", b"", 0))

        self.each(IN_EVERY_LANGUAGE, check)

    def test_a_standard_output_that_does_not_block(self) -> None:
        root = self.directory / "root"
        root.mkdir()
        for n in range(2000):
            (root / f"a-file-with-a-name-of-some-length-{n}").touch()

        def check(language: str) -> None:
            servers = (
                launch.program("c", "exec_server"),
                launch.program("c", "file_server", "--root", str(root)),
            )
            with launch.server(servers[0]) as first, launch.server(servers[1]) as second:
                ask = launch.program(language, "exec_client", *first.address, "seq 30000")
                self.assertEqual(read_slowly(ask).count(b"\n"), 30_000)
                ask = launch.program(language, "file_client", *second.address, "list")
                self.assertEqual(read_slowly(ask).count(b"\n"), 2000)

        self.each(IN_EVERY_LANGUAGE, check)

    def test_one_that_does_not_block_on_every_wire(self) -> None:
        def check(language: str, wire: str, *options: str) -> None:
            with launch.server(tcp_exec_server("c", wire)) as running:
                ask = tcp_exec_client(language, wire, running.address, *options, "seq 30000")
                self.assertEqual(read_slowly(ask).count(b"\n"), 30_000)

        ways = (("frame", "--stdin"), ("json",), ("packet",), ("ack",))
        self.each([(*case, *way) for case in IN_EVERY_LANGUAGE for way in ways], check)

    def test_when_nobody_reads_the_output_any_more(self) -> None:
        def check(language: str, wire: str) -> None:
            with launch.server(tcp_exec_server("c", wire)) as running:
                ask = tcp_exec_client(language, wire, running.address, "seq 30000")
                with launch.start(ask) as asking:
                    assert asking.stdout and asking.stderr
                    asking.stdout.close()
                    self.assertEqual(asking.wait(launch.SECONDS), -signal.SIGPIPE)
                    self.assertEqual(asking.stderr.read(), b"")

        wires = ("frame", "json", "packet", "ack")
        self.each([(*case, wire) for case in IN_EVERY_LANGUAGE for wire in wires], check)


def read_slowly(command: list[str]) -> bytes:
    """What a program writes to a pipe that does not block, and is full for a while."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(reader, "rb") as pipe:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=writer, env=launch.ENVIRONMENT
        )
        os.close(writer)
        with process:
            time.sleep(0.3)
            output = pipe.read()
    if process.returncode != 0:
        raise AssertionError(f"{command}: status {process.returncode}")
    return output


if __name__ == "__main__":
    unittest.main()
