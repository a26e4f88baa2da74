"""Commands whose output comes as it appears: both sides."""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import tempfile
import time
import unittest
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import support
from driver import peer, server

import framefd
from framefd import STDERR, STDOUT, ErrorCode, ExecInquiry, ExecOptions, Outcome

WAIT = 20.0  # seconds: long enough for any machine


class Streams(unittest.TestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.served: list[framefd.ExecResult] = []
        self.late = 0

    @contextlib.contextmanager
    def server(self, **options: Any) -> Iterator[socket.socket]:
        """Serves commands during the block; the client's end."""

        def serve() -> None:
            with contextlib.suppress(framefd.ClosedError):
                while True:
                    with framefd.recv_header(self.theirs) as request:
                        if framefd.is_late_input(request):
                            self.late += 1
                            continue
                        result = framefd.exec_serve(
                            self.theirs, request, ExecOptions(**options)
                        )
                        self.served.append(result)

        with support.meanwhile(serve):
            try:
                yield self.ours
            finally:
                with contextlib.suppress(OSError):
                    self.ours.shutdown(socket.SHUT_WR)

    def expect(self, command: framefd.RemoteCommand, expected: bytes, stream: int) -> None:
        """Reads just these bytes of one output, however they are cut."""
        got = b""
        while len(got) < len(expected):
            piece = command.read(len(expected) - len(got), timeout=WAIT)
            assert piece is not None, got
            self.assertEqual(piece[0], stream)
            got += piece[1]
        self.assertEqual(got, expected)

    def collect(self, command: framefd.RemoteCommand) -> dict[int, bytes]:
        """All output up to the end."""
        got = {STDOUT: b"", STDERR: b""}
        for stream, data in command:
            got[stream] += data
        return got

    def test_output_comes_while_the_command_runs(self) -> None:
        script = "echo out; read line; echo err-$line >&2; read line; exit 7"
        with self.server() as fd, framefd.start(fd, script) as command:
            self.expect(command, b"out\n", STDOUT)
            with self.assertRaises(framefd.StateError):
                command.result  # noqa: B018
            with self.assertRaises(framefd.FrameTimeoutError):
                command.read(timeout=0)
            with self.assertRaises(framefd.FrameTimeoutError):
                command.read(timeout=0.3)
            self.assertEqual(command.write(b"one\n"), 4)
            self.expect(command, b"err-one\n", STDERR)
            command.end_input()
            command.end_input()
            with self.assertRaises(framefd.StateError):
                command.write(b"more")
            self.assertIsNone(command.read(timeout=WAIT))
            self.assertIsNone(command.read(timeout=WAIT))
            done = command.result
            self.assertIs(command.result, done)
        self.assertEqual((done.args, done.returncode), (script, 7))
        self.assertEqual(done.outcome, Outcome.EXITED)
        self.assertEqual((done.stdout, done.stdout_total, done.stderr_total), (b"", 4, 8))
        self.assertEqual((self.served[0].exit_code, self.served[0].stdout_total), (7, 4))

    def test_iteration_and_the_next_request(self) -> None:
        with self.server() as fd:
            script = "seq 20000; echo no >&2; kill -9 $$"
            with framefd.start(fd, ["sh", "-c", script]) as command:
                got = self.collect(command)
            self.assertEqual(got[STDOUT], b"".join(b"%d\n" % n for n in range(1, 20001)))
            self.assertEqual(got[STDERR], b"no\n")
            self.assertEqual(command.result.returncode, -9)
            with self.assertRaisesRegex(framefd.CalledProcessError, "signal 9"):
                command.result.check_returncode()
            self.assertEqual(framefd.run(fd, "echo on").text, "on\n")

    def test_one_thread_that_writes_and_reads_does_not_block_itself(self) -> None:
        data, back = memoryview(os.urandom(5 << 20)), bytearray()
        with self.server() as fd, framefd.start(fd, "cat") as command:
            given = 0
            while given < len(data):
                taken = command.write(data[given:], timeout=WAIT)
                given += taken
                if taken == 0:
                    back += command.read(1 << 20, timeout=WAIT)[1]  # type: ignore[index]
            command.end_input()
            back += self.collect(command)[STDOUT]
            self.assertEqual(command.result.stdout_total, len(data))
        self.assertTrue(back == data)

    def test_a_loop_of_ones_own(self) -> None:
        data, back, given = bytes(range(256)) * 2000, bytearray(), 0
        with self.server() as fd, framefd.start(fd, "cat") as command:
            self.assertEqual(command.fileno(), fd.fileno())
            poll = select.poll()
            poll.register(command, command.events)
            self.assertTrue(command.events & select.POLLIN)
            piece: tuple[int, bytes] | None = (STDOUT, b"")
            while piece is not None:
                with contextlib.suppress(framefd.FrameTimeoutError):
                    if given < len(data):
                        given += command.write(data[given:], timeout=0)
                    elif given == len(data):
                        command.end_input(timeout=0)
                        given += 1
                with contextlib.suppress(framefd.FrameTimeoutError):
                    piece = command.read(timeout=0)
                    back += piece[1] if piece else b""
                    continue
                poll.modify(command, command.events)
                self.assertTrue(poll.poll(WAIT * 1000))
        self.assertEqual(back, data)

    def test_input_that_goes_along(self) -> None:
        with self.server() as fd:
            forms = b"given", bytearray(b"given"), memoryview(b"<given>")[1:-1]
            for data in forms:
                with framefd.start(fd, "cat", input=data) as command:
                    with self.assertRaises(framefd.StateError):
                        command.write(b"x")
                    self.assertEqual(self.collect(command)[STDOUT], b"given")
                self.assertEqual(framefd.run(fd, "cat", input=data).stdout, b"given")
            for options in ({"input": b""}, {"live_input": False}):
                with framefd.start(fd, "cat", **options) as command:
                    self.assertEqual(self.collect(command)[STDOUT], b"")
            self.assertEqual(framefd.run(fd, "cat").stdout, b"")
            nul = framefd.run(fd, ["cat"], input=b"a\0b")
            self.assertEqual(nul.stdout, b"a\0b")
            dropped = framefd.run(fd, "exit 3", input=bytes(1 << 20))
            self.assertEqual(dropped.returncode, 3)
            with self.assertRaises(TypeError):
                framefd.run(fd, "cat", input=5)  # type: ignore[arg-type]

    def test_one_output_for_both(self) -> None:
        script = "echo 1; echo 2 >&2; echo 3"
        with self.server() as fd:
            with framefd.start(fd, script, merge=True) as command:
                got = self.collect(command)
            self.assertEqual(got, {STDOUT: b"1\n2\n3\n", STDERR: b""})
            done = framefd.run(fd, script, merge=True)
            self.assertEqual((done.stdout, done.stderr), (b"1\n2\n3\n", b""))

    def test_signals(self) -> None:
        wait = waiting(signal.SIGINT, "print('caught'); sys.exit(9)")
        with self.server() as fd:
            with framefd.start(fd, wait) as command:
                self.expect(command, b"up\n", STDOUT)
                command.signal(signal.SIGINT)
                self.assertEqual(self.collect(command)[STDOUT], b"caught\n")
            self.assertEqual(command.result.returncode, 9)
            with framefd.start(fd, "cat", live_input=False) as command:
                for number in (0, signal.SIGSEGV, 1000):
                    with self.assertRaisesRegex(framefd.ArgumentError, f"sent: {number:d}$"):
                        command.signal(number)
                self.assertEqual([*command], [])

    def test_a_thread_and_a_handler_signal_while_the_command_is_used(self) -> None:
        with self.server() as fd:
            with framefd.start(fd, "echo up; exec cat") as command:
                self.expect(command, b"up\n", STDOUT)
                with support.meanwhile(lambda: command.signal(signal.SIGTERM)):
                    self.assertIsNone(command.read(timeout=WAIT))
            self.assertEqual(command.result.signal, signal.SIGTERM)

            with framefd.start(fd, "echo up; exec cat") as command:
                self.expect(command, b"up\n", STDOUT)
                self.addCleanup(
                    signal.signal,
                    signal.SIGUSR1,
                    signal.signal(signal.SIGUSR1, lambda *_: command.signal(signal.SIGUSR1)),
                )
                main = _thread.get_ident()
                with support.meanwhile(lambda: signal.pthread_kill(main, signal.SIGUSR1)):
                    self.assertIsNone(command.read(timeout=WAIT))
            self.assertEqual(command.result.signal, signal.SIGUSR1)

    def test_ctrl_c_ends_a_wait(self) -> None:
        tell = waiting(signal.SIGUSR1, "open('told', 'w').close()")

        def interrupt() -> None:
            with open(f"{directory}/told") as told:  # once the call has sent the signal
                told.read()
            _thread.interrupt_main()

        with tempfile.TemporaryDirectory() as directory, self.server() as fd:
            os.mkfifo(f"{directory}/told")
            with framefd.start(fd, tell, cwd=directory) as command:
                self.expect(command, b"up\n", STDOUT)
                with open(os.devnull, "r+b") as null:
                    for wait in (
                        lambda: command.read(timeout=WAIT),
                        lambda: command.copy(None, null, null, timeout=WAIT),
                    ):
                        command.signal(signal.SIGUSR1)
                        begin = time.monotonic()
                        with self.assertRaises(KeyboardInterrupt):
                            with support.meanwhile(interrupt):
                                wait()
                        self.assertLess(time.monotonic() - begin, WAIT / 2)
                command.signal(signal.SIGKILL)
                self.assertIsNone(command.read(timeout=WAIT))

    def test_a_terminal(self) -> None:
        script = waiting(signal.SIGWINCH, "os.system('stty size'); sys.exit(0)")
        with self.server() as fd:
            for size in ((50, 132), os.terminal_size((132, 50))):
                with framefd.start(fd, script, terminal=size) as command:
                    self.expect(command, b"up\r\n", STDOUT)
                    command.resize(10, 20)
                    self.assertEqual(self.collect(command)[STDOUT], b"10 20\r\n")
                    self.assertEqual(command.result.returncode, 0)
                with framefd.start(fd, "stty size", terminal=size) as command:
                    self.assertEqual(self.collect(command)[STDOUT], b"50 132\r\n")
            for wrong in ((0, 80), (24, 70000), (24,)):
                with self.assertRaises(ValueError):
                    framefd.start(fd, "true", terminal=wrong)  # type: ignore[arg-type]

    def test_copies_between_descriptors(self) -> None:
        data = os.urandom(2 << 20)
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(b"before" + data)
            source.seek(6)
            target.write(b"buffered ")
            with self.server() as fd, framefd.start(fd, "cat; echo no >&2; exit 4") as command:
                done = command.copy(source, target, target, timeout=WAIT)
                self.assertIs(done, command.result)
                self.assertEqual((done.returncode, done.stderr_total), (4, 3))
                self.assertIs(command.copy(None, target, target), done)
            self.assertEqual(source.tell(), 6 + len(data))
            target.seek(0)
            self.assertEqual(target.read(), b"buffered " + data + b"no\n")

    def test_copies_to_this_process_by_default(self) -> None:
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                print("before")
                script = "echo out; echo err >&2"
                with self.server() as fd, framefd.start(fd, script) as command:
                    command.copy()
                print("after")
            for file, expected in ((output, "before\nout\nafter\n"), (errors, "err\n")):
                file.seek(0)
                self.assertEqual(file.read(), expected)

    def test_a_copy_goes_on_after_its_time(self) -> None:
        read, write = os.pipe()
        with open(read, "rb") as source, open(write, "wb", 0) as feed:
            with tempfile.TemporaryFile() as target, self.server() as fd:
                with framefd.start(fd, "cat") as command:
                    with self.assertRaises(framefd.FrameTimeoutError):
                        command.copy(source, target, target, timeout=0.01)
                    feed.write(b"late")
                    feed.close()
                    command.copy(source, target, target, timeout=WAIT)
                target.seek(0)
                self.assertEqual(target.read(), b"late")

    def test_what_the_server_refuses_leaves_the_connection_in_step(self) -> None:
        with self.server() as fd:
            refused: list[tuple[framefd.Command, type[framefd.FrameError]]] = [
                (["/no/such/program"], framefd.SpawnError),
                ("a\0b", framefd.MalformedError),
            ]
            for asked, kind in refused:
                with framefd.start(fd, asked) as command:
                    with self.assertRaises(kind) as error:
                        command.read(timeout=WAIT)
                    self.assertTrue(error.exception.remote)
                self.assertEqual(framefd.run(fd, "echo on").text, "on\n")

    def test_a_command_that_is_ended_and_one_that_writes_too_much(self) -> None:
        with self.server() as fd:
            with framefd.start(fd, "echo up; exec sleep 100", timeout=0.1) as command:
                self.assertEqual(self.collect(command)[STDOUT], b"up\n")
            self.assertTrue(command.result.timed_out)
            self.assertEqual(command.result.outcome, Outcome.TIMED_OUT)
            with framefd.start(fd, "seq 1000", max_output=5) as command:
                self.assertEqual(self.collect(command)[STDOUT], b"1\n2\n3")
            self.assertTrue(command.result.truncated)
            self.assertEqual(command.result.stdout_total, 3893)

    def test_where_and_with_what(self) -> None:
        with tempfile.TemporaryDirectory() as directory, self.server() as fd:
            env = {"A": "b=c é"}
            with framefd.start(fd, "pwd; echo $A", cwd=directory, env=env) as command:
                got = self.collect(command)[STDOUT]
        self.assertEqual(got.decode(), f"{directory}\nb=c é\n")

    def test_a_connection_that_is_cut(self) -> None:
        header = {"stream": "stdout"}
        for cut in ("between", "inside"):
            with support.stream() as (ours, theirs):
                with framefd.start(ours, "anything") as command:
                    with framefd.recv_header(theirs):
                        framefd.send(theirs, header, b"some")
                    if cut == "inside":
                        framefd.send_header(theirs, header, 10).write(b"more")
                    theirs.close()
                    self.expect(command, b"some", STDOUT)
                    with self.assertRaises(ConnectionError):
                        while True:
                            self.assertIsNotNone(command.read(timeout=WAIT))
                    with self.assertRaises(framefd.StateError):
                        command.result  # noqa: B018

    def test_output_that_is_missing(self) -> None:
        with support.stream() as (ours, theirs), framefd.start(ours, "anything") as command:
            with framefd.recv_header(theirs):
                framefd.send(theirs, {"stream": "stdout"}, b"some")
                reply = {"status": "ok", "exit_code": 0, "signal": 0, "stdout_total": 5}
                framefd.send(theirs, {**reply, "stdout_size": 0, "stderr_size": 0})
            self.expect(command, b"some", STDOUT)
            with self.assertRaises(framefd.MalformedError):
                command.read(timeout=WAIT)

    def test_closing(self) -> None:
        with self.server() as fd:
            command = framefd.start(fd, "exit 3")
            self.assertEqual(self.collect(command)[STDOUT], b"")
            command.close()
            command.close()
            self.assertEqual(command.result.returncode, 3)
            uses: list[Callable[[], object]] = [
                lambda: command.read(),
                lambda: command.write(b""),
                lambda: command.end_input(),
                lambda: command.signal(2),
                lambda: command.resize(1, 1),
                lambda: command.copy(),
                lambda: command.events,
                lambda: command.fileno(),
                lambda: next(iter(command)),
            ]
            for use in uses:
                with self.assertRaisesRegex(framefd.StateError, "closed"):
                    use()
            unfinished = framefd.start(fd, "cat")
            unfinished.close()
            with self.assertRaises(framefd.StateError):
                unfinished.result  # noqa: B018

    def test_it_keeps_the_connection_alive(self) -> None:
        with self.server():
            connection = framefd.Connection(self.ours.dup())
            self.addCleanup(connection.socket.close)
            command = connection.start("echo up")
            alive = weakref.ref(connection)
            del connection
            gc.collect()
            self.assertIsNotNone(alive())
            self.assertEqual(self.collect(command)[STDOUT], b"up\n")
            command.close()
            gc.collect()
            self.assertIsNone(alive())

    def test_one_thread_at_a_time(self) -> None:
        with self.server() as fd, framefd.start(fd, "exec cat") as command:
            with command._handle:  # as a call in another thread has it
                with self.assertRaises(framefd.BusyError):
                    command.read()
                command.signal(signal.SIGTERM)
            self.assertIsNone(command.read(timeout=WAIT))

    def test_arguments_that_are_none(self) -> None:
        with self.server() as fd, framefd.start(fd, "cat") as command:
            for wrong in (
                lambda: command.read(0),
                lambda: command.read(-1),
                lambda: command.read(timeout=-1),
                lambda: command.write(b"x", timeout=float("nan")),
                lambda: command.signal(-2),
                lambda: command.signal(2**40),
                lambda: command.resize(-1, 1),
                lambda: command.resize(1, 65536),
            ):
                with self.assertRaises(ValueError):
                    wrong()
            with self.assertRaises(TypeError):
                command.write("text")
            command.end_input()
            self.assertIsNone(command.read(timeout=WAIT))
            self.assertIn("cat", repr(command))

    def test_input_that_is_late_is_told_from_requests(self) -> None:
        with self.server() as fd:
            with framefd.start(fd, "exit 0") as command:
                select.select([fd], [], [], WAIT)  # the reply is there
                with contextlib.suppress(framefd.StateError):
                    command.write(b"late")
                self.assertIsNone(command.read(timeout=WAIT))
            framefd.send(fd, {"stream": "stdin"}, b"late")
            framefd.send(fd, {"signal": "INT"})
            framefd.send(fd, {"resize": {"rows": 1, "columns": 1}})
            self.assertEqual(framefd.run(fd, "echo on").text, "on\n")
        self.assertGreaterEqual(self.late, 3)

    def test_other_descriptors_to_write_to(self) -> None:
        (read, their_write), (their_read, write) = os.pipe(), os.pipe()
        for fd in (read, write, their_read, their_write):
            self.addCleanup(os.close, fd)

        def serve() -> None:
            with framefd.recv_header(their_read) as request:
                framefd.exec_serve(their_read, request, ExecOptions(write_fd=their_write))

        with support.meanwhile(serve):
            with framefd.start(read, "cat", input=b"x", write_fd=write) as command:
                self.assertEqual(self.collect(command)[STDOUT], b"x")


class PlainPeers(unittest.TestCase):
    def test_a_server_that_knows_no_streams(self) -> None:
        with server(peer("frame_server", "127.0.0.1", "0")) as (host, port):
            with framefd.connect((host, int(port))) as connection:
                for _ in range(2):
                    with connection.start("echo out; echo err >&2; exit 3") as command:
                        got = sorted(command)
                    self.assertEqual(got, [(STDOUT, b"out\n"), (STDERR, b"err\n")])
                    self.assertEqual(command.result.returncode, 3)


class Policies(unittest.TestCase):
    def setUp(self) -> None:
        pair = support.stream()
        self.ours, self.theirs = pair.__enter__()
        self.addCleanup(pair.__exit__, None, None, None)
        self.served: list[Any] = []

    def serve(self, policy: Any) -> framefd.ExecResult:
        with framefd.recv_header(self.theirs) as request:
            return framefd.exec_serve(self.theirs, request, ExecOptions(policy=policy))

    def asked(self, policy: Any, command: framefd.Command, **options: Any) -> bytes:
        with support.meanwhile(lambda: self.serve(policy)) as self.served:
            return framefd.run(self.ours, command, **options).stdout

    def test_what_is_asked(self) -> None:
        seen: list[ExecInquiry] = []
        self.assertEqual(self.asked(seen.append, "echo ran"), b"ran\n")
        self.assertEqual(
            without(seen[0], "header"), ("echo ran", None, {}, False, False, False)
        )
        assert seen[0].header is not None
        self.assertEqual(seen[0].header["cmd"], "exec")
        options: dict[str, Any] = {"cwd": "/tmp", "env": {"A": "b=c", "É": ""}}
        argv = ["printf", "", "é"]
        self.asked(seen.append, argv, merge=True, survive_close=True, **options)
        self.assertEqual(
            without(seen[1], "header"),
            (tuple(argv), "/tmp", options["env"], True, False, True),
        )
        self.asked(seen.append, b"printf '\xff'")
        self.assertEqual(seen[2].command, os.fsdecode(b"printf '\xff'"))
        with support.meanwhile(lambda: self.serve(seen.append)):
            with framefd.start(self.ours, "exit", terminal=(24, 80)) as command:
                self.assertEqual([*command], [])
        self.assertTrue(seen[3].terminal)
        framefd.exec_and_reply(self.theirs, "true", ExecOptions(policy=seen.append))
        framefd.recv(self.ours)
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
            with framefd.start(self.ours, "echo ran") as command:
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
                    framefd.run(self.ours, "echo ran")
            return raised.pop()

        for error in (Defect(), KeyError("x"), KeyboardInterrupt(), GeneratorExit()):
            self.assertIs(refused(raising(error)), error)
        for answer in (False, True, 0, "no"):
            self.assertIsInstance(refused(lambda _: answer), TypeError)  # noqa: B023
        self.assertEqual(self.asked(lambda _: None, "echo on"), b"on\n")

    def test_ctrl_c_while_the_request_comes_refuses_it(self) -> None:
        # Small buffers tell that the server is in the library, and reads the command.
        for end in (self.ours, self.theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = b"echo ran".ljust(60_000)

        def ask() -> framefd.Frame:
            with framefd.send_header(self.ours, {"cmd": "exec"}, len(body)) as frame:
                frame.write(body[:-1])
                _thread.interrupt_main()
                frame.write(body[-1:])
            return framefd.recv(self.ours)

        with support.meanwhile(ask) as replies:
            with self.assertRaises(KeyboardInterrupt):
                self.serve(lambda _: None)
        self.assertEqual(replies[0].header["status"], "error")
        self.assertEqual(replies[0].header["code"], "denied")

    def test_datagrams(self) -> None:
        seen: list[Any] = []

        def policy(inquiry: ExecInquiry) -> None:
            seen.append(inquiry)
            if inquiry.command != "echo ran":
                raise PermissionError("only echo")

        server = framefd.DatagramServer()
        with tempfile.TemporaryDirectory() as directory:
            with datagrams(directory) as (ours, theirs):
                options = ExecOptions(policy=policy, timeout=WAIT)
                with support.meanwhile(lambda: server.serve(theirs, options)):
                    self.assertEqual(framefd.run_datagram(ours, "echo ran").text, "ran\n")
                with support.meanwhile(lambda: server.serve(theirs, options)) as served:
                    with self.assertRaisesRegex(framefd.DeniedError, "only echo"):
                        framefd.run_datagram(ours, "echo no")
        self.assertEqual((served[0].outcome, len(seen)), (Outcome.REFUSED, 2))


class Confinement(unittest.TestCase):
    def run_one(self, command: str, **options: Any) -> framefd.CompletedCommand:
        def serve() -> framefd.ExecResult:
            with framefd.recv_header(theirs) as request:
                return framefd.exec_serve(theirs, request, ExecOptions(**options))

        with support.stream() as (ours, theirs), support.meanwhile(serve):
            return framefd.run(ours, command)

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
            {"user": (0, 0)},
            {"user": (1, 2**32)},
        ):
            with self.assertRaises(ValueError):
                ExecOptions(**wrong)


def waiting(number: signal.Signals, reaction: str) -> list[str]:
    """A command that says "up", and each time that a signal comes does something."""
    code = f"""
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [{number:d}])
print("up", flush=True)
while True:
    signal.sigwait([{number:d}])
    {reaction}
"""
    return [sys.executable, "-c", code]


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
