"""Commands whose output comes as it appears: both sides."""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import signal
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import support
from driver import peer, server

import framefd
from framefd import STDERR, STDOUT, ExecOptions, Outcome

WAIT = 20.0  # seconds: long enough for any machine


class Streams(unittest.TestCase):
    def setUp(self) -> None:
        self.served: list[framefd.ExecResult] = []

    @contextlib.contextmanager
    def server(self, **options: Any) -> Iterator[framefd.Connection]:
        """A connection to a server of commands, which ends with the block."""

        def serve() -> None:
            with contextlib.suppress(framefd.ClosedError):
                while True:
                    request = theirs.recv_header()
                    self.served.append(theirs.serve_exec(request, ExecOptions(**options)))

        with support.connections() as (ours, theirs), support.meanwhile(serve):
            try:
                yield ours
            finally:
                with contextlib.suppress(framefd.FrameError):
                    ours.end(timeout=WAIT)

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
        with self.server() as fd, fd.start(script) as command:
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
        self.assertEqual((done.stdout, done.text), (None, ""))
        self.assertEqual((done.stdout_total, done.stderr_total), (4, 8))
        self.assertEqual((self.served[0].exit_code, self.served[0].stdout_total), (7, 4))

    def test_iteration_and_the_next_request(self) -> None:
        with self.server() as fd:
            script = "seq 20000; echo no >&2; kill -9 $$"
            with fd.start(["sh", "-c", script]) as command:
                got = self.collect(command)
            self.assertEqual(got[STDOUT], b"".join(b"%d\n" % n for n in range(1, 20001)))
            self.assertEqual(got[STDERR], b"no\n")
            self.assertEqual(command.result.returncode, -9)
            with self.assertRaisesRegex(framefd.CalledProcessError, "signal 9"):
                command.result.check_returncode()
            self.assertEqual(fd.run("echo on").text, "on\n")

    def test_one_thread_that_writes_and_reads_does_not_block_itself(self) -> None:
        data, back = memoryview(os.urandom(5 << 20)), bytearray()
        with self.server() as fd, fd.start("cat") as command:
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
        with self.server() as fd, fd.start("cat") as command:
            self.assertEqual(command.fileno(), fd.fileno())
            poll = select.poll()
            poll.register(command, select.POLLIN)
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
                state = fd.inspect()
                poll.modify(command, state.read_events | state.write_events)
                self.assertTrue(poll.poll(WAIT * 1000))
        self.assertEqual(back, data)

    def test_input_that_goes_along(self) -> None:
        with self.server() as fd:
            forms = b"given", bytearray(b"given"), memoryview(b"<given>")[1:-1]
            for data in forms:
                with fd.start("cat", input=data) as command:
                    with self.assertRaises(framefd.StateError):
                        command.write(b"x")
                    self.assertEqual(self.collect(command)[STDOUT], b"given")
                self.assertEqual(fd.run("cat", input=data).stdout, b"given")
            for options in ({"input": b""}, {"live_input": False}):
                with fd.start("cat", **options) as command:
                    self.assertEqual(self.collect(command)[STDOUT], b"")
            self.assertEqual(fd.run("cat").stdout, b"")
            nul = fd.run(["cat"], input=b"a\0b")
            self.assertEqual(nul.stdout, b"a\0b")
            dropped = fd.run("exit 3", input=bytes(1 << 20))
            self.assertEqual(dropped.returncode, 3)
            with self.assertRaises(TypeError):
                fd.run("cat", input=5)  # type: ignore[arg-type]

    def test_one_output_for_both(self) -> None:
        script = "echo 1; echo 2 >&2; echo 3"
        with self.server() as fd:
            with fd.start(script, merge=True) as command:
                got = self.collect(command)
            self.assertEqual(got, {STDOUT: b"1\n2\n3\n", STDERR: b""})
            done = fd.run(script, merge=True)
            self.assertEqual((done.stdout, done.stderr), (b"1\n2\n3\n", b""))

    def test_signals(self) -> None:
        wait = waiting(signal.SIGINT, "print('caught'); sys.exit(9)")
        with self.server() as fd:
            with fd.start(wait) as command:
                self.expect(command, b"up\n", STDOUT)
                command.signal(signal.SIGINT)
                self.assertEqual(self.collect(command)[STDOUT], b"caught\n")
            self.assertEqual(command.result.returncode, 9)
            with fd.start("cat", live_input=False) as command:
                for number in (0, signal.SIGSEGV, 1000):
                    with self.assertRaisesRegex(framefd.ArgumentError, f"sent: {number:d}$"):
                        command.signal(number)
                self.assertEqual([*command], [])

    def test_a_thread_and_a_handler_signal_while_the_command_is_used(self) -> None:
        with self.server() as fd:
            with fd.start("echo up; exec cat") as command:
                self.expect(command, b"up\n", STDOUT)
                with support.meanwhile(lambda: command.signal(signal.SIGTERM)):
                    self.assertIsNone(command.read(timeout=WAIT))
            self.assertEqual(command.result.signal, signal.SIGTERM)

            with fd.start("echo up; exec cat") as command:
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
            with fd.start(tell, cwd=directory) as command:
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
                with fd.start(script, terminal=size) as command:
                    self.expect(command, b"up\r\n", STDOUT)
                    command.resize(10, 20)
                    self.assertEqual(self.collect(command)[STDOUT], b"10 20\r\n")
                    self.assertEqual(command.result.returncode, 0)
                with fd.start("stty size", terminal=size) as command:
                    self.assertEqual(self.collect(command)[STDOUT], b"50 132\r\n")
            for wrong in ((0, 80), (24, 70000), (24,)):
                with self.assertRaises(ValueError):
                    fd.start("true", terminal=wrong)  # type: ignore[arg-type]

    def test_signals_and_sizes_after_the_end_are_for_nobody(self) -> None:
        with self.server() as fd:
            with fd.start("true") as first:
                self.assertIsNone(first.read(timeout=WAIT))
            with fd.start("cat") as command:
                first.signal(signal.SIGKILL)
                command.end_input()
                self.assertIsNone(command.read(timeout=WAIT))
            self.assertEqual(command.result.returncode, 0)
            with self.assertRaises(framefd.SpawnError), fd.start(["/nowhere"]) as refused:
                refused.read(timeout=WAIT)
            refused.signal(signal.SIGTERM)
            self.assertEqual(fd.run("echo on").text, "on\n")
        for ended in (first, command, refused):
            ended.signal(signal.SIGWINCH)
            ended.resize(os.terminal_size((80, 24)))
            with self.assertRaises(ValueError):
                ended.signal(-1)
        self.assertIsNone(first.result.stdout)

    def test_copies_between_descriptors(self) -> None:
        data = os.urandom(2 << 20)
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(b"before" + data)
            source.seek(6)
            target.write(b"buffered ")
            with self.server() as fd, fd.start("cat; echo no >&2; exit 4") as command:
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
                with self.server() as fd, fd.start(script) as command:
                    command.copy()
                print("after")
            for file, expected in ((output, "before\nout\nafter\n"), (errors, "err\n")):
                file.seek(0)
                self.assertEqual(file.read(), expected)

    def test_a_copy_goes_on_after_its_time(self) -> None:
        read, write = os.pipe()
        with open(read, "rb") as source, open(write, "wb", 0) as feed:
            with tempfile.TemporaryFile() as target, self.server() as fd:
                with fd.start("cat") as command:
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
                with fd.start(asked) as command:
                    with self.assertRaises(kind) as error:
                        command.read(timeout=WAIT)
                    self.assertTrue(error.exception.remote)
                self.assertEqual(fd.run("echo on").text, "on\n")

    def test_a_command_that_is_ended_and_one_that_writes_too_much(self) -> None:
        with self.server() as fd:
            with fd.start("echo up; exec sleep 100", timeout=0.1) as command:
                self.assertEqual(self.collect(command)[STDOUT], b"up\n")
            self.assertTrue(command.result.timed_out)
            self.assertEqual(command.result.outcome, Outcome.TIMED_OUT)
            with fd.start("seq 1000", max_output=5) as command:
                self.assertEqual(self.collect(command)[STDOUT], b"1\n2\n3")
            self.assertTrue(command.result.truncated)
            self.assertEqual(command.result.stdout_total, 3893)

    def test_where_and_with_what(self) -> None:
        with tempfile.TemporaryDirectory() as directory, self.server() as fd:
            env = {"A": "b=c é"}
            with fd.start("pwd; echo $A", cwd=directory, env=env) as command:
                got = self.collect(command)[STDOUT]
        self.assertEqual(got.decode(), f"{directory}\nb=c é\n")

    def test_a_connection_that_is_cut(self) -> None:
        header = {"stream": "stdout"}
        for cut in ("between", "inside"):
            with support.connections() as (ours, theirs), contextlib.suppress(ConnectionError):
                with ours.start("anything") as command:
                    # Who has proved a key repeats ids.
                    header["id"] = theirs.recv().header["id"]
                    theirs.send(header, b"some")
                    if cut == "inside":
                        theirs.begin(header, 10)
                        theirs.write(b"more")
                    theirs.close()
                    self.expect(command, b"some", STDOUT)
                    with self.assertRaises(ConnectionError):
                        while True:
                            self.assertIsNotNone(command.read(timeout=WAIT))
                    with self.assertRaises(framefd.StateError):
                        command.result  # noqa: B018

    def test_output_that_is_missing(self) -> None:
        with support.connections() as (ours, theirs):
            command = ours.start("anything")
            request = theirs.recv()
            theirs.send({"stream": "stdout", "id": request.header["id"]}, b"some")
            reply = {"exit_code": 0, "signal": 0, "stdout_total": 5}
            theirs.reply(request, {**reply, "stdout_size": 0, "stderr_size": 0})
            theirs.flush()
            self.expect(command, b"some", STDOUT)
            with self.assertRaises(framefd.MalformedError):
                command.read(timeout=WAIT)

    def test_the_block_waits_for_the_end(self) -> None:
        with self.server() as fd:
            with fd.start("seq 100000; cat; exit 3") as command:
                pass
            self.assertEqual((command.result.returncode, command.read()), (3, None))
            self.assertEqual(fd.run("echo on").text, "on\n")

    def test_an_exception_in_the_block_ends_the_command_with_the_connection(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            with contextlib.suppress(framefd.ClosedError), self.server() as fd:
                with self.assertRaises(KeyError), fd.start(f"cat; touch {directory}/x"):
                    raise KeyError
                self.assertTrue(fd.closed)

    def test_until_its_end_the_connection_is_for_it_alone(self) -> None:
        with self.server() as fd, fd.start("exec cat") as command:
            calls: list[Callable[[], object]] = [
                fd.recv,
                fd.send,
                lambda: fd.call("x"),
                lambda: fd.run("true"),
                lambda: fd.start("true"),
                lambda: fd.stat(),
            ]
            for call in calls:
                with self.assertRaises(framefd.StateError):
                    call()
            self.assertEqual(command.finish().returncode, 0)

    def test_one_thread_at_a_time(self) -> None:
        with self.server() as fd, fd.start("exec cat") as command:

            def read() -> tuple[int, bytes] | None:
                while True:
                    with contextlib.suppress(framefd.BusyError):
                        return command.read(timeout=WAIT)

            with support.meanwhile(read) as got:
                busy = False
                while not busy:
                    try:
                        command.read(timeout=0)
                    except framefd.BusyError:
                        busy = True
                    except framefd.FrameTimeoutError:
                        pass
                command.signal(signal.SIGTERM)
            self.assertEqual(got, [None])

    def test_arguments_that_are_none(self) -> None:
        with self.server() as fd, fd.start("cat") as command:
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

    def test_input_that_is_late_is_dropped(self) -> None:
        with self.server() as fd:
            with fd.start("exit 0") as command:
                select.select([fd], [], [], WAIT)  # the reply is there
                with contextlib.suppress(framefd.StateError):
                    command.write(b"late")
                self.assertIsNone(command.read(timeout=WAIT))
            fd.send({"stream": "stdin"}, b"late")
            fd.send({"signal": "INT"})
            fd.send({"resize": {"rows": 1, "columns": 1}})
            self.assertEqual(fd.run("echo on").text, "on\n")

    def test_a_pair_of_pipes(self) -> None:
        (read, their_write), (their_read, write) = os.pipe(), os.pipe()
        with framefd.Connection(read, write) as ours:
            with framefd.Connection(their_read, their_write) as theirs:
                with support.meanwhile(lambda: theirs.serve_exec(theirs.recv_header())):
                    with ours.start("cat", input=b"x") as command:
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


if __name__ == "__main__":
    unittest.main()
