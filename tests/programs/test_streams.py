"""Commands whose output comes as it is written, with input, limits and an end of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import unittest
from collections.abc import Iterator

from pairs import (
    KINDS,
    OLD,
    OURS,
    Case,
    Servers,
    in_clear,
    launch,
    plain,
    tcp_exec_client,
    tcp_exec_server,
)

EITHER_WAY = ((), ("--stdin",))  # in one reply, and streamed


class Streams(Case):
    servers: Servers

    @classmethod
    def setUpClass(cls) -> None:
        cls.servers = Servers()
        cls.addClassCleanup(cls.servers.close)
        for kind in KINDS:
            cls.servers.start(tcp_exec_server(kind, "frame"))

    def client(self, server: str, client: str, *words: str) -> list[str]:
        address = self.servers.start(tcp_exec_server(server, "frame")).address
        return launch.program(client, "exec_client", *words[:-1], *address, words[-1])

    def ask(
        self, server: str, client: str, *words: str, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        return launch.run(self.client(server, client, *words), stdin)

    def test_output_comes_before_the_end_of_input(self) -> None:
        command = 'echo ready; while read word; do echo "got $word"; done; echo end >&2; exit 3'

        def check(server: str, client: str) -> None:
            with launch.start(self.client(server, client, "--stdin", command)) as asking:
                assert asking.stdin and asking.stdout
                self.assertEqual(asking.stdout.readline(), b"ready\n")
                for word in (b"one", b"two"):
                    asking.stdin.write(word + b"\n")
                    asking.stdin.flush()
                    self.assertEqual(asking.stdout.readline(), b"got " + word + b"\n")
                output, errors = asking.communicate(timeout=launch.SECONDS)
                self.assertEqual((output, errors, asking.returncode), (b"", b"end\n", 3))

        self.each(OURS, check)

    def test_input_and_output_are_bytes_of_any_number(self) -> None:
        data = os.urandom(5_000_001)

        def check(server: str, client: str) -> None:
            got = self.ask(server, client, "--stdin", "tee /dev/stderr", stdin=data)
            self.assertEqual(got.returncode, 0)
            self.assertTrue(got.stdout == got.stderr == data, "it came back changed")

        self.each(OURS, check)

    def test_input_that_is_not_read_is_no_error(self) -> None:
        def check(server: str, client: str) -> None:
            got = self.ask(server, client, "--stdin", "exit 4", stdin=bytes(2_000_000))
            self.assertEqual((got.stdout, got.stderr, got.returncode), (b"", b"", 4))

        self.each(OURS, check)

    def test_a_loop_of_the_shell_loses_none_of_its_lines(self) -> None:
        loop = 'printf "one\ntwo\nthree\n" | while read x; do "$@" "echo $x; cat"; done'

        def check(server: str, client: str, *options: str) -> None:
            *words, _ = self.client(server, client, *options, "")
            command = ["sh", "-c", loop, "sh", *words]
            got = launch.run(command)
            # Where output is shown as it comes, too.
            with launch.Terminal(command) as terminal:
                terminal.wait()
            for shown in (got.stdout + got.stderr, terminal.shown):
                self.assertEqual(shown.replace(b"\r", b""), b"one\ntwo\nthree\n")

        self.each([(*pair, *tty) for pair in OURS for tty in ((), ("--tty",))], check)

    def test_a_signal_that_was_ignored_still_is(self) -> None:
        def check(server: str, client: str) -> None:
            ask = self.client(server, client, "--stdin", "echo ready; cat; exit 4")
            with launch.start(["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *ask]) as asking:
                assert asking.stdout
                self.assertEqual(asking.stdout.readline(), b"ready\n")
                asking.send_signal(signal.SIGHUP)
                output, errors = asking.communicate(b"input", launch.SECONDS)
                self.assertEqual((output, errors, asking.returncode), (b"input", b"", 4))

        self.each(OURS, check)

    def test_a_time_limit(self) -> None:
        def check(server: str, client: str, *options: str) -> None:
            limit = ("--timeout", "0.2", *options)
            got = self.ask(server, client, *limit, "echo begun; sleep 1000; echo done")
            self.assertEqual(got.stdout, b"begun\n")
            self.assertEqual(got.stderr, b"exec_client: the command's time was up\n")
            self.assertEqual(got.returncode, 128 + signal.SIGTERM)

        self.each([(*pair, *options) for pair in OURS for options in EITHER_WAY], check)

    def test_a_directory_and_variables(self) -> None:
        command = 'pwd; printf "%s|%s|%s" "$A" "$B" "$C"'
        given = ("--env", "A=1", "--env", "B=x y=z", "--env", "C=", "--env", "A=2")

        def check(server: str, client: str, *options: str) -> None:
            got = self.ask(server, client, "--cwd", "/usr", *given, *options, command)
            self.assertEqual((got.stdout, got.stderr), (b"/usr\n2|x y=z|", b""))
            got = self.ask(server, client, "--cwd", "/nonexistent", *options, command)
            self.assertEqual((got.stdout, got.returncode), (b"", 255))
            self.assertRegex(got.stderr, b"^exec_client: ")

        self.each([(*pair, *options) for pair in OURS for options in EITHER_WAY], check)

    def test_what_cannot_be_run(self) -> None:
        def check(server: str, client: str) -> None:
            got = self.ask(server, client, "--stdin", "x" * 70_000)
            self.assertEqual((got.returncode, got.stdout), (255, b""))
            self.assertRegex(got.stderr, b"^exec_client: ")

        self.each(OURS, check)

    @in_clear
    def test_a_server_that_knows_no_streams(self) -> None:
        def check(client: str) -> None:
            got = self.ask(OLD, client, "--stdin", "echo out; echo err >&2; exit 3")
            self.assertEqual((got.stdout, got.stderr, got.returncode), (b"out\n", b"err\n", 3))

        self.each([(language,) for language in launch.LANGUAGES], check)

    @in_clear
    def test_input_that_comes_late_is_dropped(self) -> None:
        late: list[tuple[dict[str, object], bytes]] = [
            ({"stream": "stdin"}, b"hello"),
            ({"signal": "INT"}, b""),
            ({"resize": {"rows": 1, "columns": 2}}, b""),
            ({"stream": "stdin", "eof": True}, b""),
        ]

        def check(server: str) -> None:
            address = self.servers.start(tcp_exec_server(server, "frame")).socket_address
            with socket.create_connection(address, launch.SECONDS) as conn:
                for _ in range(2):
                    plain.write_frame(conn, {"cmd": "exec", "stream": True}, b"echo hi")
                    output, status = b"", None
                    while status is None:
                        header, body = plain.read_frame(conn) or ({"exit_code": -1}, b"")
                        output += body
                        self.assertNotEqual(header.get("status"), "error")
                        status = header.get("exit_code")
                    self.assertEqual((output, status), (b"hi\n", 0))
                    for said, body in late:
                        plain.write_frame(conn, said, body)

        self.each([(language,) for language in launch.LANGUAGES], check)


class Ends(Case):
    """What becomes of a command when one of the two programs is killed."""

    def test_of_the_client(self) -> None:
        def check(server: str, client: str, *options: str) -> None:
            with launch.server(tcp_exec_server(server, "frame")) as running:
                with self.asking(running, client, *options) as (process, number):
                    process.kill()
                    self.assert_gone(number)
                self.assertEqual(running.stop(), 0, running.errors())

        self.each([(*pair, *options) for pair in OURS for options in EITHER_WAY], check)

    def test_of_the_server(self) -> None:
        def check(server: str, client: str, *options: str) -> None:
            with launch.server(tcp_exec_server(server, "frame")) as running:
                with self.asking(running, client, *options) as (process, number):
                    running.process.kill()
                    self.assert_gone(number)
                    self.assertEqual(process.wait(launch.SECONDS), 255)

        self.each([(*pair, *options) for pair in OURS for options in EITHER_WAY], check)

    @contextlib.contextmanager
    def asking(
        self, server: launch.Server, client: str, *options: str
    ) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """A client whose command runs, and the number of that one's process."""
        marker = self.directory / f"{server.port}-{client}-{len(options)}"
        command = f"echo $$ >{marker}.tmp; mv {marker}.tmp {marker}; exec sleep 1000"
        with launch.start(tcp_exec_client(client, "frame", server.address, command)) as process:
            end = time.monotonic() + launch.SECONDS
            while not marker.exists() and time.monotonic() < end:
                time.sleep(0.01)
            yield process, int(marker.read_text())

    def assert_gone(self, number: int) -> None:
        end = time.monotonic() + launch.SECONDS
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.kill(number, 0)
                time.sleep(0.02)
            self.fail("the command still runs")


if __name__ == "__main__":
    unittest.main()
