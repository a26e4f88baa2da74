"""The programs where what surrounds them is not as usual: no standard descriptors, nobody who
reads the log, a standard output that does not block, a signal while they wait."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
import unittest

from pairs import OURS, Case, launch, tcp_exec_client, tcp_exec_server

IN_EVERY_LANGUAGE = tuple((language,) for language in launch.LANGUAGES)
SHORT_OF_A_MEGABYTE = b"".join(b"%d\n" % n for n in range(1, 150_001))


class Servers(Case):
    """A client that is refused is logged, and the next one is served all the same."""

    def servers(self) -> dict[str, list[str]]:
        return {
            "exec_server": ["exec_client", "echo on"],
            "file_server": ["file_client", "list"],
            "auth_echo_server": ["auth_echo_client", "on"],
        }

    def command(self, language: str, name: str) -> list[str]:
        root = ["--root", str(self.directory)] if name == "file_server" else []
        return launch.program(language, name, "--key-file", self.key, *root)

    def ask(self, language: str, name: str, address: tuple[str, str], key: str) -> int:
        client, *words = self.servers()[name]
        ask = launch.program(language, client, "--key-file", key, *address, *words)
        return launch.run(ask).returncode

    def assert_served(self, language: str, name: str, address: tuple[str, str]) -> None:
        for _ in range(2):
            self.assertNotEqual(self.ask(language, name, address, self.wrong), 0)
            self.assertEqual(self.ask(language, name, address, self.key), 0)

    def setUp(self) -> None:
        super().setUp()
        self.key = self.key_file()
        self.wrong = self.key_file("wrong", b"another key, which is wrong")

    def test_without_standard_descriptors(self) -> None:
        def check(language: str, name: str) -> None:
            with socket.create_server(("127.0.0.1", 0)) as unused:
                port = str(unused.getsockname()[1])
            command = [*without("<&- >&- 2>&-"), *self.command(language, name), "--port", port]
            with subprocess.Popen(command, env=launch.ENVIRONMENT) as process:
                try:
                    wait_for_listener(int(port))
                    self.assert_served(language, name, ("127.0.0.1", port))
                    process.terminate()
                    self.assertEqual(process.wait(launch.SECONDS), 0)
                finally:
                    process.kill()

        self.each(
            [(*case, name) for case in IN_EVERY_LANGUAGE for name in self.servers()], check
        )

    def test_nobody_reads_the_log(self) -> None:
        def check(language: str, name: str) -> None:
            pipe = subprocess.PIPE
            command = self.command(language, name)
            with subprocess.Popen(
                command, stdout=pipe, stderr=pipe, env=launch.ENVIRONMENT
            ) as process:
                try:
                    assert process.stdout and process.stderr
                    port = process.stdout.readline().decode().strip().rpartition(":")[2]
                    process.stdout.close()
                    process.stderr.close()
                    self.assert_served(language, name, ("127.0.0.1", port))
                    process.terminate()
                    self.assertEqual(process.wait(launch.SECONDS), 0)
                finally:
                    process.kill()

        self.each(
            [(*case, name) for case in IN_EVERY_LANGUAGE for name in self.servers()], check
        )


class Clients(Case):
    def test_without_standard_descriptors(self) -> None:
        def check(server: str, client: str, *options: str) -> None:
            with launch.server(tcp_exec_server(server, "frame")) as running:
                marker = self.directory / "-".join((server, client, *options))
                # What it shows must not go to the server as a request.
                for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
                    command = f"cat; seq 1000; seq 1000 >&2; echo {closed!r} >{marker}; exit 3"
                    ask = tcp_exec_client(client, "frame", running.address, *options, command)
                    got = launch.run([*without(closed), *ask])
                    self.assertEqual(got.returncode, 3, (closed, got.stderr))
                    self.assertEqual(marker.read_text(), f"{closed}\n")
                self.assertEqual((running.stop(), running.errors()), (0, ""))

        self.each([(*pair, *more) for pair in OURS for more in ((), ("--stdin",))], check)

    def test_a_standard_output_that_does_not_block(self) -> None:
        command = "seq 150000"

        def check(client: str, *options: str) -> None:
            wire = (
                options[0] if options and options[0] in ("packet", "ack", "json") else "frame"
            )
            more = () if options and options[0] == wire else options
            with launch.server(tcp_exec_server("c", wire)) as running:
                reader, writer = os.pipe()
                fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
                ask = tcp_exec_client(client, wire, running.address, *more, command)
                with subprocess.Popen(
                    ask, stdin=subprocess.DEVNULL, stdout=writer, env=launch.ENVIRONMENT
                ) as process:
                    os.close(writer)
                    time.sleep(0.3)  # until the pipe is full
                    with open(reader, "rb") as output:
                        got = output.read()
                    self.assertEqual(process.wait(launch.SECONDS), 0)
                self.assertTrue(got == SHORT_OF_A_MEGABYTE, len(got))

        ways: list[tuple[str, ...]] = [(), ("--stdin",), ("json",), ("packet",), ("ack",)]
        self.each([(*case, *way) for case in IN_EVERY_LANGUAGE for way in ways], check)

    def test_nobody_reads_the_output(self) -> None:
        def check(client: str, wire: str) -> None:
            with launch.server(tcp_exec_server("c", wire)) as running:
                ask = tcp_exec_client(client, wire, running.address, "seq 150000")
                with launch.start(ask) as process:
                    assert process.stdout and process.stderr
                    process.stdout.close()
                    self.assertEqual(process.wait(launch.SECONDS), -signal.SIGPIPE)
                    self.assertEqual(process.stderr.read(), b"")

        wires = ("frame", "json", "packet", "ack")
        self.each([(*case, wire) for case in IN_EVERY_LANGUAGE for wire in wires], check)

    def test_a_signal_ends_one_that_waits(self) -> None:
        key = self.key_file()
        clients = {
            "frame": ["exec_client", "true"],
            "json": ["exec_client", "--wire", "json", "true"],
            "packet": ["exec_client", "--wire", "packet", "true"],
            "ack": ["exec_client", "--wire", "ack", "true"],
            "key": ["auth_echo_client", "--key-file", key, "on"],
            "stat": ["file_client", "stat", "x"],
            "get": ["file_client", "get", "x", str(self.directory / "x")],
            "udp": ["udp_exec_client", "true"],
        }

        def check(language: str, client: str, number: str) -> None:
            name, *words = clients[client]
            options = [words.pop(0) for _ in range(2)] if words[0].startswith("--") else []
            with Silent(udp=client == "udp") as server:
                host, port = server.sock.getsockname()
                ask = launch.program(language, name, *options, host, str(port), *words)
                with launch.start(ask) as process:
                    try:
                        server.wait_until_asked()
                        process.send_signal(signal.Signals[number])
                        status = process.wait(2)
                    finally:
                        process.kill()
                    self.assertEqual(status, -signal.Signals[number])
                    assert process.stdout and process.stderr
                    self.assertEqual((process.stdout.read(), process.stderr.read()), (b"", b""))

        numbers = ("SIGINT", "SIGTERM")
        self.each(
            [
                (*case, client, n)
                for case in IN_EVERY_LANGUAGE
                for client in clients
                for n in numbers
            ],
            check,
        )


def without(closed: str) -> list[str]:
    """What runs a program whose standard descriptors are closed as the shell says."""
    return ["sh", "-c", f'exec "$@" {closed}', "sh"]


def wait_for_listener(port: int) -> None:
    end = time.monotonic() + launch.SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), launch.SECONDS).close()
            return
        time.sleep(0.01)
    raise TimeoutError(f"nobody listens at port {port}")


class Silent:
    """A server that clients reach, and which says nothing."""

    def __init__(self, *, udp: bool) -> None:
        self.sock = socket.socket(type=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self.sock.settimeout(launch.SECONDS)
        self.sock.bind(("127.0.0.1", 0))
        if not udp:
            self.sock.listen()
        self.conn: socket.socket | None = None

    def wait_until_asked(self) -> None:
        """Until a client has come, and waits for an answer."""
        if self.sock.type == socket.SOCK_DGRAM:
            self.sock.recv(65536)
        else:
            self.conn = self.sock.accept()[0]
        time.sleep(0.2)

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        if self.conn:
            self.conn.close()


if __name__ == "__main__":
    unittest.main()
