"""Commands: what a server allows, and how they are confined."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import time
import unittest
from collections.abc import Iterator
from typing import Any

import support

import framefd
from framefd import ErrorCode, ExecInquiry, ExecOptions, Outcome

WAIT = 20.0  # seconds: long enough for any machine


class Policies(unittest.TestCase):
    def setUp(self) -> None:
        pair = support.connections()
        self.ours, self.theirs = pair.__enter__()
        self.addCleanup(pair.__exit__, None, None, None)
        self.served: list[Any] = []

    def serve(self, policy: Any) -> framefd.ExecResult:
        request = self.theirs.recv_header()
        return self.theirs.serve_exec(request, ExecOptions(policy=policy))

    def asked(self, policy: Any, command: framefd.Command, **options: Any) -> bytes:
        with support.meanwhile(lambda: self.serve(policy)) as self.served:
            return self.ours.run(command, **options).stdout

    def client(self) -> tuple[Any, ...]:
        """The address, pid, uid and gid of the client: this process."""
        return self.theirs.peer, os.getpid(), os.getuid(), os.getgid()

    def test_what_is_asked(self) -> None:
        seen: list[ExecInquiry] = []
        key_id = "tests" if support.SEALED else None
        self.assertEqual(self.asked(seen.append, "echo ran"), b"ran\n")
        self.assertEqual(
            without(seen[0], "header"),
            ("echo ran", None, {}, False, False, False, key_id, *self.client()),
        )
        assert seen[0].header is not None
        self.assertEqual(seen[0].header["cmd"], "exec")
        options: dict[str, Any] = {"cwd": "/tmp", "env": {"A": "b=c", "É": ""}}
        argv = ["printf", "", "é"]
        self.asked(seen.append, argv, merge=True, detached=True, **options)
        self.assertEqual(
            without(seen[1], "header"),
            (tuple(argv), "/tmp", options["env"], True, False, True, key_id, *self.client()),
        )
        self.asked(seen.append, b"printf '\xff'")
        self.assertEqual(seen[2].command, os.fsdecode(b"printf '\xff'"))
        with support.meanwhile(lambda: self.serve(seen.append)):
            with self.ours.start("exit", terminal=(24, 80)) as command:
                self.assertEqual([*command], [])
        self.assertTrue(seen[3].terminal)
        with support.stream() as (_, theirs):
            framefd.exec_and_reply(theirs, "true", ExecOptions(policy=seen.append))
        self.assertEqual((seen[4].command, seen[4].header), ("true", None))

    def test_a_refusal_has_a_code_and_a_reason(self) -> None:
        refusals: list[tuple[OSError, int, str]] = [
            (PermissionError("not at night: é"), ErrorCode.ACCES, "not at night: é"),
            (framefd.DeniedError(ErrorCode.ACCES, "no"), ErrorCode.ACCES, "no"),
            (framefd.DeniedError(ErrorCode.REMOTE_DENIED, "no"), ErrorCode.REMOTE_DENIED, "no"),
            (framefd.BusyError(ErrorCode.BUSY, "later"), ErrorCode.BUSY, "later"),
            (framefd.FrameError(0, "no code"), ErrorCode.ACCES, "no code"),
            (FileNotFoundError(2, "none"), ErrorCode.NOENT, "[Errno 2] none"),
            (FileExistsError("there"), ErrorCode.EXIST, "there"),
            (OSError(28, "full"), ErrorCode.NOSPC, "[Errno 28] full"),
            (TimeoutError("slow"), ErrorCode.TIMEDOUT, "slow"),
            (OSError("other"), ErrorCode.IO, "other"),
            (PermissionError("half \udc80"), ErrorCode.ACCES, "udc80"),
        ]
        for refusal, code, text in refusals:
            with self.subTest(repr(refusal)):
                with self.assertRaises(framefd.FrameError) as refused:
                    self.asked(raising(refusal), "echo ran")
                self.assertTrue(refused.exception.remote)
                self.assertIn(text, str(refused.exception))
                result = self.served[0]
                self.assertEqual((result.outcome, result.error), (Outcome.REFUSED, code))
        with self.assertRaises(framefd.DeniedError) as long:
            self.asked(raising(PermissionError("é" * 100_000)), "echo ran")
        self.assertIn("é" * 100, str(long.exception))
        with support.meanwhile(lambda: self.serve(raising(PermissionError("no")))):
            command = self.ours.start("echo ran")
            with self.assertRaisesRegex(framefd.DeniedError, "no"):
                command.read(timeout=WAIT)

    def test_other_exceptions_refuse_and_come_out(self) -> None:
        class Defect(BaseException):
            pass

        raised: list[BaseException] = []

        def serve(policy: Any) -> None:
            try:
                self.serve(policy)
            except BaseException as error:
                raised.append(error)

        def refused(policy: Any) -> BaseException:
            with support.meanwhile(lambda: serve(policy)):
                with self.assertRaises(framefd.DeniedError):
                    self.ours.run("echo ran")
            return raised.pop()

        for error in (Defect(), KeyError("x"), KeyboardInterrupt(), GeneratorExit()):
            self.assertIs(refused(raising(error)), error)
        for answer in (False, True, 0, "no"):
            self.assertIsInstance(refused(lambda _: answer), TypeError)  # noqa: B023
        self.assertEqual(self.asked(lambda _: None, "echo on"), b"on\n")

    def test_ctrl_c_ends_a_server_that_waits_for_the_request(self) -> None:
        def ask() -> None:
            self.ours.begin({"cmd": "exec"}, 10)
            self.ours.write(b"echo")
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)

        with support.meanwhile(ask):
            with self.assertRaises(KeyboardInterrupt):
                self.serve(lambda _: None)
        with self.assertRaises(framefd.BrokenError):
            self.theirs.recv()

    def test_datagrams(self) -> None:
        seen: list[Any] = []

        def policy(inquiry: ExecInquiry) -> None:
            seen.append(inquiry)
            if inquiry.command != "echo ran":
                raise PermissionError("only echo")

        server = framefd.DatagramServer()
        with tempfile.TemporaryDirectory() as directory:
            with datagrams(directory) as (ours, theirs):
                options = ExecOptions(policy=policy)
                with support.meanwhile(lambda: server.serve(theirs, options, timeout=WAIT)):
                    self.assertEqual(framefd.run_datagram(ours, "echo ran").text, "ran\n")
                with support.meanwhile(
                    lambda: server.serve(theirs, options, timeout=WAIT)
                ) as served:
                    with self.assertRaisesRegex(framefd.DeniedError, "only echo"):
                        framefd.run_datagram(ours, "echo no")
        self.assertEqual((served[0].outcome, len(seen)), (Outcome.REFUSED, 2))


class Confinement(unittest.TestCase):
    def run_one(self, command: str, **options: Any) -> framefd.CompletedCommand:
        def serve() -> framefd.ExecResult:
            request = theirs.recv_header()
            return theirs.serve_exec(request, ExecOptions(**options))

        with support.connections() as (ours, theirs), support.meanwhile(serve):
            return ours.run(command)

    def test_umask(self) -> None:
        self.assertEqual(self.run_one("umask", umask=0o27).text, "0027\n")
        self.assertEqual(self.run_one("umask", umask=0).text, "0000\n")

    def test_resources(self) -> None:
        limits = self.run_one(
            "ulimit -t; ulimit -f; ulimit -v; ulimit -p 2> /dev/null || ulimit -u",
            cpu_seconds=5,
            file_size=4096,
            memory=1 << 30,
            processes=10_000,
        )
        self.assertEqual(limits.text, "5\n8\n1048576\n10000\n")
        with tempfile.TemporaryDirectory() as directory:
            script = f"dd if=/dev/zero of={directory}/big bs=1000 count=10"
            done = self.run_one(script, file_size=4096)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(os.path.getsize(f"{directory}/big"), 4096)

    @unittest.skipUnless(os.geteuid() == 0, "only root may")
    def test_users(self) -> None:
        done = self.run_one("id -u; id -g; id -G; echo ${HOME-none}", user=(54321, 12345))
        self.assertEqual(done.text, "54321\n12345\n12345\nnone\n")

    def test_values_that_are_none(self) -> None:
        for wrong in (
            {"umask": 0o1000},
            {"umask": -1},
            {"cpu_seconds": 0},
            {"memory": -1},
            {"processes": 0},
            {"file_size": 2**64},
            {"user": (1, 2**32)},
        ):
            with self.assertRaises(ValueError):
                ExecOptions(**wrong)


def raising(error: BaseException) -> Any:
    """A policy that raises this."""

    def policy(_: object) -> None:
        raise error

    return policy


def without(value: Any, left_out: str) -> tuple[Any, ...]:
    """The fields of a dataclass but for one."""
    return tuple(v for k, v in vars(value).items() if k != left_out)


@contextlib.contextmanager
def datagrams(directory: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends for datagrams, with names, so that replies find the way."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
            ours.bind(f"{directory}/ours")
            theirs.bind(f"{directory}/theirs")
            ours.connect(f"{directory}/theirs")
            yield ours, theirs


if __name__ == "__main__":
    unittest.main()
