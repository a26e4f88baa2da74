"""Commands: both sides, and against plain peers."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from collections.abc import Callable
from typing import Any

import support
from driver import peer, run, server

import framefd
from framefd import ErrorCode, ExecOptions, Outcome


def serve_one(
    connection: framefd.Connection, options: ExecOptions = ExecOptions()
) -> framefd.ExecResult:
    return connection.serve_exec(connection.recv_header(), options)


class Exec(unittest.TestCase):
    def setUp(self) -> None:
        pair = support.connections()
        self.ours, self.theirs = pair.__enter__()
        self.addCleanup(pair.__exit__, None, None, None)
        self.served: list[framefd.ExecResult] = []

    def run_one(self, command: framefd.Command, **options: Any) -> framefd.CompletedCommand:
        """One command there and back; self.served has the server's result."""
        on_server = options.pop("server", ExecOptions())
        with support.meanwhile(lambda: serve_one(self.theirs, on_server)) as self.served:
            return self.ours.run(command, **options)

    def test_both_outputs_and_the_status(self) -> None:
        done = self.run_one("printf out; printf err >&2; exit 3")
        self.assertIsInstance(done, subprocess.CompletedProcess)
        self.assertEqual((done.stdout, done.stderr, done.returncode), (b"out", b"err", 3))
        self.assertEqual((done.text, done.error_text, done.signal), ("out", "err", 0))
        self.assertFalse(done.timed_out or done.truncated or done.pipe_held)
        self.assertEqual((done.stdout_total, done.stderr_total), (3, 3))
        self.assertIn("returncode=3", repr(done))
        result = self.served[0]
        self.assertEqual((result.outcome, result.exit_code), (Outcome.EXITED, 3))
        self.assertEqual((result.stdout_total, result.stderr_total, result.error), (3, 3, 0))

    def test_commands_in_every_form(self) -> None:
        odd = "a 'b' $c"
        for command in (["printf", "%s", odd], ("printf", b"%s", odd)):
            self.assertEqual(self.run_one(command).text, odd)
        self.assertEqual(self.run_one(b"printf '\xff'").stdout, b"\xff")
        self.assertEqual(self.run_one(os.fsdecode(b"printf '\xff'")).stdout, b"\xff")

    def test_check(self) -> None:
        with self.assertRaises(framefd.CalledProcessError) as failed:
            self.run_one("printf out; exit 3", check=True)
        error = failed.exception
        self.assertIsInstance(error, subprocess.CalledProcessError)
        self.assertEqual((error.returncode, error.stdout, error.code), (3, b"out", 0))
        self.assertEqual(self.run_one("true", check=True).returncode, 0)

    def test_a_signal(self) -> None:
        done = self.run_one("kill -9 $$")
        self.assertEqual((done.returncode, done.signal), (-9, signal.SIGKILL))
        self.assertEqual(self.served[0].outcome, Outcome.SIGNALED)
        with self.assertRaisesRegex(framefd.CalledProcessError, "signal 9"):
            done.check_returncode()

    def test_a_command_that_takes_too_long(self) -> None:
        with self.assertRaises(framefd.CommandTimeout) as late:
            self.run_one("printf out; sleep 20", timeout=0.1)
        self.assertIsInstance(late.exception, subprocess.TimeoutExpired)
        self.assertIsInstance(late.exception, TimeoutError)
        self.assertEqual((late.exception.output, late.exception.timeout), (b"out", 0.1))
        self.assertTrue(late.exception.result.timed_out)
        self.assertEqual(self.run_one("echo in step").text, "in step\n")

    def test_more_output_than_is_kept(self) -> None:
        with self.assertRaises(framefd.OutputLimitError) as cut:
            self.run_one("seq 1000", max_output=5)
        self.assertEqual(cut.exception.result.stdout, b"1\n2\n3")
        done = self.run_one("seq 1000", max_output=5, allow_truncated=True)
        self.assertTrue(done.truncated)
        self.assertEqual((done.stdout_total, done.returncode), (3893, 0))

    def test_where_and_with_what(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            done = self.run_one("pwd; echo $A", cwd=directory, env={"A": "b=c é"})
        self.assertEqual(done.stdout.decode(), f"{directory}\nb=c é\n")
        self.assertEqual(self.run_one("echo $A", env={b"A": b"x"}).stdout, b"x\n")
        for env in ({"A=B": "c"}, {"": "c"}, {"A": "\0"}):
            with self.assertRaises(ValueError):
                self.ours.run("true", env=env)
        for value in (None, 1):
            with self.assertRaises(TypeError):
                self.ours.run("true", env={"A": value})  # type: ignore[arg-type]
        with self.assertRaises(ValueError):
            self.ours.run("true", cwd="\0")
        with self.assertRaises(ValueError):
            self.ours.run(["printf", "a\0b"])

    def test_arguments_and_variables_longer_than_a_header(self) -> None:
        long = "x" * 100_000
        done = self.run_one(
            ["sh", "-c", "echo ${#0} ${#A}", long],
            env={"A": long},
            server=ExecOptions(max_command=131_071),
        )
        self.assertEqual(done.text, "100000 100000\n")
        with self.assertRaises(framefd.TooBigError) as refused:
            self.run_one(["true", long])
        self.assertTrue(refused.exception.remote)
        self.assertEqual(self.run_one("echo in step").text, "in step\n")

    def test_what_the_server_refuses(self) -> None:
        for command in ("", "a\0b", "x" * 100_000):
            with self.assertRaises(framefd.FrameError) as refused:
                self.run_one(command)
            self.assertTrue(refused.exception.remote)
            self.assertEqual(self.served[0].outcome, Outcome.REFUSED)
            self.assertLess(self.served[0].error, 0)
        with self.assertRaises(framefd.SpawnError) as failed:
            self.run_one(["/nowhere/nothing"])
        self.assertEqual(failed.exception.code, ErrorCode.REMOTE_SPAWN_FAILED)
        self.assertEqual(self.served[0].outcome, Outcome.SPAWN_FAILED)
        self.assertEqual(self.run_one("echo in step").text, "in step\n")

    def test_options_of_the_server(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            options = ExecOptions(cwd=directory, env={"A": "b"}, max_output=100, max_command=20)
            self.assertEqual(
                self.run_one("pwd; echo $A", server=options).text, f"{directory}\nb\n"
            )
        done = self.run_one(
            "yes", server=ExecOptions(max_output=9, end_at_limit=True), allow_truncated=True
        )
        self.assertEqual(done.stdout, b"y\ny\ny\ny\ny")
        with self.assertRaises(framefd.FrameError):
            self.run_one("x" * 21, server=options)
        for name in ("SET_HERE", "FRAMEFD_KEY"):  # whose place is not for commands
            os.environ[name] = name
            self.addCleanup(os.environ.pop, name)
        for host, expected in ((True, "SET_HERE \n"), (False, " \n")):
            options = ExecOptions(host_environment=host)
            done = self.run_one('echo "$SET_HERE $FRAMEFD_KEY"', server=options)
            self.assertEqual(done.text, expected)
        with self.assertRaises(framefd.CommandTimeout):
            self.run_one("sleep 20", server=ExecOptions(command_timeout=0.1))
        with self.assertRaises(ValueError):
            ExecOptions(grace=-1)

    def test_text_that_came_some_other_way(self) -> None:
        for command in ("printf '%s' hello", b"printf '%s' hello"):
            with support.stream() as (ours, theirs):
                result = framefd.exec_and_reply(theirs, command)
                header, body = framefd.recv(ours)
            self.assertEqual(result.outcome, Outcome.EXITED)
            self.assertEqual((header["exit_code"], body), (0, b"hello"))

    def test_a_command_whose_output_is_sent_by_other_means(self) -> None:
        done = framefd.exec_run("printf out; printf err >&2; exit 3")
        self.assertEqual((done.stdout, done.stderr, done.returncode), (b"out", b"err", 3))
        with self.assertRaises(framefd.CommandTimeout) as late:
            framefd.exec_run(b"printf out; sleep 20", ExecOptions(command_timeout=0.1))
        self.assertEqual((late.exception.stdout, late.exception.timeout), (b"out", 0.1))
        with self.assertRaises(framefd.CalledProcessError):
            framefd.exec_run("exit 3", check=True)
        with self.assertRaises(framefd.ArgumentError):
            framefd.exec_run("")

    def test_a_server_that_does_not_answer(self) -> None:
        with self.assertRaises(framefd.FrameTimeoutError):
            self.ours.run("true", exchange_timeout=0.01)

    def test_a_connection_that_ends(self) -> None:
        self.theirs.close()
        with self.assertRaises(ConnectionError):
            self.ours.run("true")

    def test_a_client_that_goes_away(self) -> None:
        for detached, grace in ((True, None), (False, 0.1)):
            with tempfile.TemporaryDirectory() as directory:
                with support.connections() as (ours, theirs):
                    options = ExecOptions(detached=detached, close_grace=grace)
                    with support.meanwhile(lambda: serve_one(theirs, options)) as served:  # noqa: B023
                        script = f"sleep 0.4; touch {directory}/done".encode()
                        ours.send({"cmd": "exec"}, script)
                        ours.end()
                        ours.recv()
                self.assertEqual(os.path.exists(f"{directory}/done"), detached)
                self.assertEqual(served[0].client_gone, not detached)

    def test_a_call_that_ends_early_breaks_the_connection(self) -> None:
        with support.meanwhile(lambda: serve_one(self.theirs)):
            with self.assertRaises(framefd.FrameTimeoutError):
                self.ours.run("sleep 0.3; echo LATE", exchange_timeout=0.05)
            time.sleep(0.4)  # the late reply is there
            with self.assertRaisesRegex(framefd.BrokenError, "timed out"):
                self.ours.run("echo next")

    def test_ctrl_c_ends_a_command(self) -> None:
        def serve() -> None:
            request = self.theirs.recv_header()
            _thread.interrupt_main()
            with contextlib.suppress(framefd.FrameError):
                self.theirs.serve_exec(request)

        begin = time.monotonic()
        with support.meanwhile(serve):
            with self.assertRaises(KeyboardInterrupt):
                self.ours.run("sleep 20")
            self.ours.close()
        self.assertLess(time.monotonic() - begin, 10)

    def test_output_as_text(self) -> None:
        done = self.run_one(r"printf 'caf\303\251 \377'")
        for charset, text in (
            ("UTF-8", "café \\xff"),
            ("ANSI_X3.4-1968", "café \\xff"),
            ("", "café \\xff"),
            ("no such charset", "café \\xff"),
            ("ISO-8859-1", "cafÃ© ÿ"),
        ):
            done.charset = charset
            self.assertEqual(done.text, text)

    def test_a_pipe_that_is_held(self) -> None:
        begin = time.monotonic()
        done = self.run_one("sleep 20 & echo started", server=ExecOptions(drain=0.05))
        self.assertLess(time.monotonic() - begin, 10)
        self.assertTrue(done.pipe_held)
        self.assertEqual(done.text, "started\n")


class PlainPeers(unittest.TestCase):
    def test_our_client_and_a_plain_server(self) -> None:
        with server(peer("frame_server", "127.0.0.1", "0")) as (host, port):
            with framefd.connect((host, int(port))) as connection:
                done = connection.run("seq 20000; echo err >&2; exit 2")
                self.assertEqual((done.returncode, done.stderr), (2, b"err\n"))
                self.assertEqual(done.stdout, b"".join(b"%d\n" % n for n in range(1, 20001)))
                self.assertEqual(connection.run("kill -15 $$").returncode, -15)

    def test_a_plain_client_and_our_server(self) -> None:
        def answer(sock: socket.socket) -> None:
            with framefd.Connection(sock) as connection:
                for _ in range(2):
                    serve_one(connection)

        self.ask("frame_client", answer)

    def test_a_plain_client_that_sends_bare_text(self) -> None:
        def answer(sock: socket.socket) -> None:
            with sock:
                for _ in range(2):
                    framefd.exec_and_reply(sock, sock.recv(1024))

        self.ask("json_client", answer)

    def ask(self, name: str, answer: Callable[[socket.socket], None]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            host, port = listener.getsockname()
            with support.meanwhile(lambda: answer(listener.accept()[0])):
                result = run(peer(name, host, str(port), "seq 5", "echo after"))
        self.assertEqual((result.stdout, result.stderr), (b"1\n2\n3\n4\n5\nafter\n", b""))


if __name__ == "__main__":
    unittest.main()
