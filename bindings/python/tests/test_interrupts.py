"""Ctrl-C, SIGTERM and alarms: they end every call that waits, and nothing is lost."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import functools
import operator
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from typing import Any

import support

import framefd
from framefd import _interrupts


class Raised(Exception):
    """What the handlers of these tests raise."""


def raises(*_: object) -> None:
    raise Raised


class Case(unittest.TestCase):
    def handle(self, number: signal.Signals, handler: Any) -> None:
        self.addCleanup(signal.signal, number, signal.signal(number, handler))

    def setUp(self) -> None:
        self.handle(signal.SIGALRM, raises)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)


class Waits(Case):
    def test_every_call_that_waits_is_ended(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            for name, call in calls(pathlib.Path(directory)):
                with self.subTest(name), contextlib.ExitStack() as stack:
                    ours, theirs = socket.socketpair()
                    stack.enter_context(theirs)
                    connection = stack.enter_context(framefd.Connection(ours))
                    begin = time.monotonic()
                    signal.setitimer(signal.ITIMER_REAL, 0.05)
                    with self.assertRaises(Raised):
                        call(connection)
                    self.assertLess(time.monotonic() - begin, 5)
                    connection.close()

    def test_a_signal_that_another_thread_got_is_seen_within_seconds(self) -> None:
        with support.connections() as (ours, _):
            main = threading.main_thread().ident

            def elsewhere() -> None:
                time.sleep(0.05)
                signal.pthread_kill(threading.get_ident(), signal.SIGALRM)

            self.assertEqual(threading.get_ident(), main)
            begin = time.monotonic()
            with self.assertRaises(Raised), support.meanwhile(elsewhere):
                ours.recv()
            self.assertLess(time.monotonic() - begin, 5)

    def test_a_handler_that_raises_nothing_ends_nothing(self) -> None:
        seen: list[int] = []
        self.handle(signal.SIGALRM, lambda *_: seen.append(1))
        with support.connections() as (ours, theirs):
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)

            def reply() -> None:
                time.sleep(0.2)
                theirs.reply(theirs.recv(), {"n": 1})
                theirs.flush()

            with support.meanwhile(reply):
                self.assertEqual(ours.call("x").header["n"], 1)
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertGreater(len(seen), 5)

    def test_a_message_that_is_interrupted_is_not_lost(self) -> None:
        with support.connections() as (ours, theirs):
            theirs.begin({"n": 1}, 4)
            theirs.write(b"12")
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with self.assertRaises(Raised):
                ours.recv()
            theirs.write(b"34")
            self.assertEqual(ours.recv(), ({"n": 1}, b"1234"))

    def test_a_call_that_is_interrupted_breaks_the_connection(self) -> None:
        with support.connections() as (ours, _):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with self.assertRaises(Raised):
                ours.call("x")
            with self.assertRaises(framefd.BrokenError):
                ours.recv()

    def test_a_handler_may_use_the_library(self) -> None:
        with support.connections() as (ours, theirs), support.connections() as (one, other):
            got: list[framefd.Frame] = []

            def handler(*_: object) -> None:
                with contextlib.suppress(framefd.BusyError):
                    ours.recv(timeout=0)
                    self.fail("two calls are in one connection")
                got.append(one.recv())  # this waits, too
                theirs.send({"of": "the program"})

            self.handle(signal.SIGALRM, handler)
            late = threading.Timer(0.2, other.send, ({"of": "the handler"},))
            late.start()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            self.assertEqual(ours.recv().header, {"of": "the program"})
            late.join()
            self.assertEqual(got, [({"of": "the handler"}, b"")])

    def test_handlers_that_raise_inside_of_handlers(self) -> None:
        with support.connections() as (ours, _), support.connections() as (one, _):

            def handler(*_: object) -> None:
                signal.signal(signal.SIGALRM, raises)
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                one.recv()

            self.handle(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with self.assertRaises(Raised):
                ours.recv()
            for _ in range(2):  # and it can be asked again
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                with self.assertRaises(Raised):
                    ours.recv()

    def test_a_server_is_ended_by_sigterm_and_by_ctrl_c(self) -> None:
        program = """
import signal, sys, framefd
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
listener = framefd.listen("127.0.0.1:0")
print("up", flush=True)
listener.accept()
"""
        environment = {**os.environ, "PYTHONPATH": str(support.PACKAGE)}
        for number, status in ((signal.SIGTERM, 7), (signal.SIGINT, -signal.SIGINT)):
            command = [sys.executable, "-c", program]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            ) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(0.1)
                process.send_signal(number)
                self.assertEqual(process.wait(20), status)


class Storms(Case):
    def test_every_exception_comes_out_and_every_message_arrives(self) -> None:
        raised = 0
        armed = False

        def handler(*_: object) -> None:
            nonlocal raised, armed
            if armed:
                armed = False
                raised += 1
                raise Raised

        self.handle(signal.SIGALRM, handler)
        with support.connections() as (ours, theirs):
            caught, got, enough = 0, 0, threading.Event()

            def send() -> None:
                n = 0
                while not enough.is_set():
                    time.sleep(0.001)
                    theirs.send({"n": n})
                    n += 1

            with support.meanwhile(send):
                signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
                end = time.monotonic() + 0.5
                while time.monotonic() < end or caught < 20:
                    try:
                        armed = True
                        frame = ours.recv()
                        armed = False
                    except Raised:
                        caught += 1
                        continue
                    # One that had come when a handler raised behind the call is gone, as it
                    # is for socket.recv(): what comes is in order all the same.
                    self.assertGreaterEqual(frame.header["n"], got)
                    got = frame.header["n"] + 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                enough.set()
        self.assertEqual(caught, raised)

    def test_an_ordinary_function_loses_exceptions_where_the_hook_does_not(self) -> None:
        """Python runs handlers at the entry of a function, before its first `try`."""

        def naive(_: object) -> int:
            answer = 0
            try:
                return answer
            except Raised:
                return 1

        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
        function, context = _interrupts.MEMBERS["interrupted"], _interrupts.MEMBERS["context"]
        hook = functools.partial(ctypes.cast(function, kind), context)
        self.handle(signal.SIGINT, raises)
        unraisable: list[Any] = []
        self.addCleanup(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = unraisable.append
        for _ in range(50):
            answers_with_a_signal_pending(functools.partial(kind(naive), None))
            self.assertEqual(len(unraisable), 1)
            unraisable.clear()
            self.assertEqual(answers_with_a_signal_pending(hook), 1)
            self.assertEqual(hook(), 1)  # until the exception is taken
            self.assertIsInstance(_interrupts.kept(), Raised)
            self.assertEqual((hook(), unraisable), (0, []))


def answers_with_a_signal_pending(asked: Callable[[], int]) -> int:
    """What C gets of Python if a signal came just before. Between the two calls no
    instruction of Python is run, which would run the handler."""
    call = operator.methodcaller("__call__")
    answers: list[Any] = list(map(call, [_thread.interrupt_main, asked]))
    return int(answers[1])


def calls(directory: pathlib.Path) -> list[tuple[str, Callable[[framefd.Connection], Any]]]:
    """All that waits, for a peer that neither sends nor reads."""
    (directory / "file").write_bytes(bytes(8 << 20))
    (directory / "tree").mkdir()
    (directory / "tree" / "file").touch()
    large = bytes(8 << 20)

    def begun(connection: framefd.Connection) -> None:
        connection.begin({}, len(large))
        connection.write(large)

    def raw(call: Callable[[socket.socket], Any]) -> Any:
        def wait(_: framefd.Connection) -> None:
            with support.stream() as (ours, theirs):
                call(ours)
                theirs.close()

        return wait

    def datagram(_: framefd.Connection) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            framefd.recv_datagram(sock)

    def serve_datagram(_: framefd.Connection) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            framefd.DatagramServer().serve(sock)

    def run_datagram(_: framefd.Connection) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock, socket.socket(
            type=socket.SOCK_DGRAM
        ) as silent:
            silent.bind(("127.0.0.1", 0))
            sock.connect(silent.getsockname())
            framefd.run_datagram(sock, "true")

    def accept(_: framefd.Connection) -> None:
        with framefd.listen("127.0.0.1:0") as listener:
            listener.accept()

    def read(connection: framefd.Connection) -> None:
        connection.start("cat").read()

    return [
        ("recv", lambda c: c.recv()),
        ("recv_many", lambda c: c.recv_many()),
        ("recv_header", lambda c: c.recv_header()),
        ("iteration", list),
        ("send", lambda c: c.send({}, large)),
        ("flush", lambda c: (c.queue_many([large] * 3), c.flush())),
        ("write", begun),
        ("call", lambda c: c.call("x")),
        ("end", lambda c: c.end(linger=True)),
        ("auth_server", lambda c: c.auth_server(support.KEY)),
        ("auth_client", lambda c: c.auth_client(support.KEY)),
        ("run", lambda c: c.run("true")),
        ("read", read),
        ("finish", lambda c: c.start("cat").finish()),
        ("put", lambda c: c.put(directory / "file")),
        ("get", lambda c: c.get("x", directory / "y")),
        ("put_tree", lambda c: c.put_tree(directory / "tree")),
        ("listdir", lambda c: c.listdir()),
        ("raw recv", raw(framefd.recv)),
        ("raw send", raw(lambda fd: framefd.send(fd, {}, large))),
        ("raw auth_server", raw(lambda fd: framefd.auth_server(fd, support.KEY))),
        ("raw auth_client", raw(lambda fd: framefd.auth_client(fd, support.KEY))),
        ("exec_and_reply", raw(lambda fd: framefd.exec_and_reply(fd, "sleep 20"))),
        ("exec_run", lambda _: framefd.exec_run("sleep 20")),
        ("accept", accept),
        ("recv_datagram", datagram),
        ("DatagramServer.serve", serve_datagram),
        ("run_datagram", run_datagram),
    ]


if __name__ == "__main__":
    unittest.main()
