"""Connections: how they are made, how they end, and which thread uses them."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import os
import pathlib
import pickle
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
import unittest.mock
import weakref
from multiprocessing.connection import Connection as OtherConnection
from typing import Any

import support

import framefd
from framefd import Connection, Frame
from framefd._native import lib
from framefd._views import Views


class Making(unittest.TestCase):
    def ask(self, address: Any, to: Any = None) -> None:
        with framefd.listen(address) as listener:

            def serve() -> None:
                with listener.accept(timeout=20) as connection:
                    connection.auth_server(support.KEY)
                    for _ in range(2):
                        connection.serve_exec(connection.recv_header())

            to = to or listener.address
            with support.meanwhile(serve):
                with framefd.connect(to, key=support.KEY, timeout=20) as connection:
                    self.assertEqual(connection.run("echo hello").text, "hello\n")
                    self.assertEqual(connection.run("exit 3").returncode, 3)
                    self.assertEqual(connection.peer, listener.address)
                self.assertEqual((connection.fileno(), connection.closed), (-1, True))
                connection.close()

    def test_tcp(self) -> None:
        for address in ("127.0.0.1:0", ("127.0.0.1", 0), "[::1]:0", ("::1", 0)):
            self.ask(address)

    def test_unix(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            self.ask(f"unix:{directory}/1")
            self.ask(pathlib.Path(directory) / "2")
            self.assertEqual(os.stat(f"{directory}/2").st_mode & 0o777, 0o600)
        self.ask(f"unix:@framefd-test-{os.getpid()}")

    def test_addresses_that_are_none(self) -> None:
        for address in ("localhost", "/run/some.sock", "host:", "host:port", ""):
            with self.assertRaises(ValueError):
                framefd.connect(address)
        for wrong in (5, None, ("host",), b"host:1"):
            with self.assertRaises(TypeError):
                framefd.connect(wrong)  # type: ignore[arg-type]

    def test_nobody_is_there(self) -> None:
        with tempfile.TemporaryDirectory() as directory, self.assertRaises(OSError) as none:
            framefd.connect(pathlib.Path(directory) / "socket")
        self.assertIsInstance(none.exception, framefd.FrameError)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with self.assertRaises(ConnectionRefusedError) as refused:
                framefd.connect(unused.getsockname())
        self.assertIsInstance(refused.exception, framefd.DisconnectedError)

    def test_times_hold(self) -> None:
        with framefd.listen("127.0.0.1:0") as listener:
            begin = time.monotonic()
            with self.assertRaises(framefd.FrameTimeoutError):
                framefd.connect(listener.address, key=support.KEY, connect_timeout=0.05)
            with listener.accept() as left, self.assertRaises(framefd.TooBigError):
                left.recv()  # a preface
            with self.assertRaises(framefd.FrameTimeoutError):
                framefd.connect(
                    listener.address, key=support.KEY, plain=True, connect_timeout=0.05
                )
            with listener.accept() as left, self.assertRaises(framefd.ClosedError):
                left.recv()
            with framefd.connect(listener.address, timeout=0.05) as connection:
                with self.assertRaises(framefd.FrameTimeoutError):
                    connection.recv()
                with self.assertRaises(framefd.FrameTimeoutError):
                    connection.recv(timeout=0.01)
            listener.accept().close()
            with self.assertRaises(framefd.FrameTimeoutError):
                listener.accept(timeout=0.01)
            self.assertLess(time.monotonic() - begin, 5)

    def test_descriptors_are_closed_unless_they_are_borrowed(self) -> None:
        for own in (True, False):
            ours, theirs = socket.socketpair()
            with theirs, ours:
                Connection(ours, own=own).close()
                self.assertEqual(ours.fileno() == -1, own)
                numbers = os.dup(theirs.fileno())
                with Connection(numbers, own=own) as connection:
                    self.assertEqual(connection.fileno(), numbers)
                with contextlib.suppress(OSError):
                    os.close(numbers)
                    self.assertFalse(own)

    def test_one_direction(self) -> None:
        read, write = os.pipe()
        with Connection(read, -1) as receiver, Connection(-1, write) as sender:
            sender.send({"n": 1}, b"x")
            self.assertEqual(receiver.recv(), ({"n": 1}, b"x"))
            for call in (sender.recv, receiver.send):
                with self.assertRaises(framefd.BadDescriptorError):
                    call()
        with self.assertRaises(framefd.BadDescriptorError):
            Connection(10_000)

    def test_objects_whose_descriptor_is_not_their_stream(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, OtherConnection(os.dup(theirs.fileno())) as other:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            tls = context.wrap_socket(ours, do_handshake_on_connect=False)
            wrong: list[Any] = [tls, other, "host:1", b"x", None, io.BytesIO]
            for fd in wrong:
                with self.subTest(type(fd)), self.assertRaises(TypeError):
                    Connection(fd)
                with self.subTest(type(fd)), self.assertRaises(TypeError):
                    framefd.send(fd)
            tls.close()

    def test_options_that_are_none(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for options in ({"max_body": 0}, {"max_header": -1}, {"timeout": -1}):
                with self.assertRaises(ValueError):
                    Connection(ours, **options)  # type: ignore[arg-type]
            with self.assertRaises(TypeError):
                Connection(ours, colour="red")  # type: ignore[call-arg]
            self.assertNotEqual(ours.fileno(), -1)

    def test_it_cannot_be_copied(self) -> None:
        with support.connections() as (ours, _):
            for again in (copy.copy, copy.deepcopy, pickle.dumps):
                with self.assertRaisesRegex(TypeError, "socket"):
                    again(ours)

    def test_objects_may_live_until_the_interpreter_ends(self) -> None:
        program = """
            import socket, framefd
            ours, theirs = map(framefd.Connection, socket.socketpair())
            ours.queue({"n": 1}, b"lost")
            cycle = [ours, theirs, framefd.Key(bytes(32))]
            cycle.append(cycle)
        """
        command = [sys.executable, "-c", textwrap.dedent(program)]
        env = {**os.environ, "PYTHONPATH": str(support.PACKAGE)}
        done = subprocess.run(command, env=env, capture_output=True, timeout=20)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class Ending(unittest.TestCase):
    def test_abort_ends_what_waits(self) -> None:
        with support.connections() as (ours, _):
            timer = threading.Timer(0.05, ours.abort)
            timer.start()
            begin = time.monotonic()
            with self.assertRaises(framefd.AbortedError):
                ours.run("sleep 100")
            self.assertLess(time.monotonic() - begin, 5)
            timer.join()
            with self.assertRaises(framefd.AbortedError):
                ours.recv()

    def test_close_in_another_thread_ends_what_waits(self) -> None:
        with support.connections() as (ours, _):
            timer = threading.Timer(0.05, ours.close)
            timer.start()
            with self.assertRaises(framefd.FrameError):
                ours.recv()
            timer.join()
            for call in (ours.recv, ours.send, ours.flush, ours.inspect, ours.unread):
                with self.assertRaisesRegex(framefd.StateError, "closed"):
                    call()
            ours.abort()
            self.assertIn("closed", repr(ours))

    def test_the_last_reply_is_not_lost_where_input_is_left(self) -> None:
        with framefd.listen("127.0.0.1:0") as listener:
            with framefd.connect(listener.address) as client, listener.accept() as server:
                client.send({}, b"x" * 1_000_000)
                server.send({}, b"goodbye")
                with support.meanwhile(lambda: server.end(linger=True)):
                    self.assertEqual(client.recv().body, b"goodbye")
                    client.end()

    def test_a_peer_that_is_gone(self) -> None:
        with support.connections() as (ours, theirs):
            theirs.send({}, b"last words")
            theirs.close()
            with self.assertRaises(framefd.DisconnectedError):
                while True:
                    ours.send({}, b"x")
            self.assertEqual(ours.recv().body, b"last words")

    def test_a_receive_that_begins_during_a_close_does_not_wait(self) -> None:
        with support.connections() as (ours, _):
            pointer = ours._pointer  # as another thread has it that is about to call
            ours.close()
            code = lib.frame_connection_next(pointer, Views(1).array, 1, 10_000)
            # Nothing of a sealed stream can be given back, so it was aborted.
            expected = framefd.ErrorCode.ABORTED if support.SEALED else framefd.ErrorCode.STATE
            self.assertEqual(code, expected)

    def test_a_child_cannot_use_it(self) -> None:
        with support.connections() as (ours, theirs):
            pid = os.fork()
            if pid == 0:
                try:
                    ours.send({}, b"from the child")
                except framefd.ForkedError:
                    ours.close()
                    os._exit(7)
                os._exit(1)
            self.assertEqual(os.waitpid(pid, 0)[1] >> 8, 7)
            ours.send({}, b"from the parent")
            self.assertEqual(theirs.recv().body, b"from the parent")

    def test_memory_and_descriptors_are_given_back(self) -> None:
        def used() -> tuple[int, int]:
            gc.collect()
            with open("/proc/self/statm") as statm:
                size = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            return size, len(os.listdir("/proc/self/fd"))

        def work(times: int) -> None:
            for _ in range(times):
                with support.connections() as (ours, theirs):
                    ours.send({"n": 1}, bytes(100_000))
                    theirs.recv()

        work(50)
        size, descriptors = used()
        work(500)
        grown, left = used()
        self.assertLess(grown - size, 8 << 20)  # of 50 MiB that came
        self.assertEqual(left, descriptors)


class Threads(unittest.TestCase):
    def test_another_thread_is_told_that_it_is_in_use(self) -> None:
        with support.connections() as (ours, theirs):

            def receive() -> Frame:
                while True:
                    with contextlib.suppress(framefd.BusyError):
                        return ours.recv()

            with support.meanwhile(receive) as got:
                for call in (
                    lambda: ours.recv(timeout=0),
                    lambda: ours.recv_many(timeout=0),
                    lambda: ours.recv_header(timeout=0),
                    lambda: ours.send(timeout=0),
                    lambda: ours.inspect(),
                ):
                    busy = False
                    while not busy:
                        try:
                            call()
                        except framefd.BusyError:
                            busy = True
                        except framefd.FrameTimeoutError:
                            pass
                theirs.send({}, b"1")
            self.assertEqual(got, [({}, b"1")])

    def test_many_threads_never_get_the_bytes_of_others(self) -> None:
        with support.connections() as (ours, theirs):

            def serve() -> None:
                for header, body in theirs:
                    theirs.reply(header, {}, body)
                    theirs.flush()

            wrong: list[object] = []
            done = [0]

            def ask(number: int) -> None:
                for n in range(50):
                    body = b"%d %d" % (number, n)
                    try:
                        if ours.call("x", body=body).body != body:
                            wrong.append(body)
                        done[0] += 1
                    except framefd.BusyError:
                        pass

            with support.meanwhile(serve):
                threads = [threading.Thread(target=ask, args=[n]) for n in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                ours.end()
            self.assertEqual(wrong, [])
            self.assertGreater(done[0], 0)

    def test_a_frame_that_has_ended_lends_no_more(self) -> None:
        with support.connections() as (ours, theirs):

            def skipped() -> None:
                """As a receive whose `finally` an exception has skipped."""
                ours._borrow(sys._getframe())

            skipped()
            theirs.send({}, b"1")
            self.assertEqual(ours.recv().body, b"1")

            def running() -> None:
                ours._borrow(sys._getframe())
                with self.assertRaises(framefd.BusyError):
                    ours.recv(timeout=0)

            running()

    def test_a_call_keeps_a_connection_that_another_thread_closes(self) -> None:
        for name, call in (
            ("exec_signal", lambda command: command.signal(signal.SIGTERM)),
            ("exec_resize", lambda command: command.resize(24, 80)),
            ("exec_write", lambda command: command.write(b"x")),
            ("frame_connection_abort", lambda command: command.connection.abort()),
            ("frame_connection_flush", lambda command: command.connection.flush()),
        ):
            # The close of a sealed connection may call the abort that is counted.
            with support.connections(plain=True) as (ours, _):
                command = ours.start("cat")
                pointer = weakref.ref(ours._pointer)
                alive = []

                def close(*_: object, c: Connection = ours, p: Any = pointer) -> int:
                    c.close()
                    alive.append(p() is not None)
                    return 0

                with unittest.mock.patch.object(lib, name, close):
                    call(command)
                self.assertEqual((alive, pointer()), ([True], None), name)

    def test_duplex(self) -> None:
        with support.connections(duplex=True) as (ours, theirs):
            with support.meanwhile(ours.recv) as got:
                time.sleep(0.02)
                ours.send({}, b"question")
                theirs.send(*theirs.recv())
            self.assertEqual(got, [({}, b"question")])


if __name__ == "__main__":
    unittest.main()
