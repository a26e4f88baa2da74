"""Standard descriptors of any kind, and a stop while clients wait to be accepted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import unittest

from pairs import Case, launch, plain, tcp_exec_client, tcp_exec_server

IN_EVERY_LANGUAGE = tuple((language,) for language in launch.LANGUAGES)
WRONG = b"a key that only one side of this test has"


class Servers(Case):
    """A client with the wrong key is refused, which is logged, and hurts nobody."""

    def test_without_standard_descriptors(self) -> None:
        def check(language: str) -> None:
            with socket.create_server(("127.0.0.1", 0)) as free:
                address = ("127.0.0.1", str(free.getsockname()[1]))
            command = [*self.server(language), "--port", address[1]]
            with launch.start(redirecting("<&- >&- 2>&-", command)) as server:
                try:
                    self.ask(address, "right", b"on\n", patient=True)
                    self.ask(address, "wrong", b"")
                    self.ask(address, "right", b"on\n")
                    server.terminate()
                    self.assertEqual(server.wait(launch.SECONDS), 0)
                finally:
                    server.kill()

        self.each(IN_EVERY_LANGUAGE, check)

    def test_when_nobody_reads_the_log_any_more(self) -> None:
        def check(language: str) -> None:
            log = self.directory / f"{language}-log"
            os.mkfifo(log)
            reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
            with launch.server(redirecting(f"2>{log}", self.server(language))) as running:
                os.close(reader)
                self.ask(running.address, "wrong", b"")
                self.ask(running.address, "right", b"on\n")
                self.assertEqual(running.stop(), 0)

        self.each(IN_EVERY_LANGUAGE, check)

    def setUp(self) -> None:
        super().setUp()
        self.keys = {"right": self.key_file(), "wrong": self.key_file("wrong", WRONG)}

    def server(self, language: str) -> list[str]:
        return launch.program(language, "exec_server", "--key-file", self.keys["right"])

    def ask(
        self, address: tuple[str, str], key: str, output: bytes, patient: bool = False
    ) -> None:
        command = launch.program("c", "exec_client", "--key-file", self.keys[key], *address)
        end = time.monotonic() + launch.SECONDS
        got = launch.run([*command, "echo on"])
        while patient and b"refused" in got.stderr and time.monotonic() < end:
            time.sleep(0.01)
            got = launch.run([*command, "echo on"])
        self.assertEqual(got.stdout, output, got.stderr)

    def test_who_waits_to_be_accepted_is_served_before_the_stop(self) -> None:
        def check(language: str) -> None:
            with launch.server(launch.program(language, "exec_server")) as running:
                running.process.send_signal(signal.SIGSTOP)
                conns = [socket.create_connection(running.socket_address) for _ in range(20)]
                for n, conn in enumerate(conns):
                    plain.write_frame(conn, {"cmd": "exec"}, b"echo %d" % n)
                running.process.send_signal(signal.SIGTERM)
                running.process.send_signal(signal.SIGCONT)
                for n, conn in enumerate(conns):
                    _, body = plain.read_frame(conn) or ({}, b"")
                    self.assertEqual(body, b"%d\n" % n)
                    conn.close()
                self.assertEqual(running.process.wait(launch.SECONDS), 0, running.errors())

        self.each(IN_EVERY_LANGUAGE, check)


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


def redirecting(redirected: str, command: list[str]) -> list[str]:
    """A command with descriptors as the shell makes them."""
    return ["sh", "-c", f'exec "$@" {redirected}', "sh", *command]


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
