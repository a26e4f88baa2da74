"""Datagrams: frames, commands, and the addresses they come from."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import socket
import tempfile
import threading
import unittest
from typing import Any

import support

import framefd
from framefd import ErrorCode, Outcome, _addresses


def udp(family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    return sock


class Datagrams(unittest.TestCase):
    def test_there_and_back(self) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            with udp(family) as ours, udp(family) as theirs:
                framefd.send_datagram(ours, {"n": 1}, b"body", theirs.getsockname())
                got = framefd.recv_datagram(theirs)
                self.assertEqual(got, ({"n": 1}, b"body", ours.getsockname()))
                framefd.send_datagram(theirs, {"n": 2}, to=got.source)
                self.assertEqual(framefd.recv_datagram(ours).header, {"n": 2})

    def test_a_connected_socket(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ours, theirs:
            framefd.send_datagram(ours, {"n": 1}, bytearray(b"body"))
            self.assertEqual(framefd.recv_datagram(theirs), ({"n": 1}, b"body", None))

    def test_unix_sockets_have_names(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
                    ours.bind(f"{directory}/ours")
                    theirs.bind(f"{directory}/theirs")
                    framefd.send_datagram(ours, {}, to=f"{directory}/theirs")
                    source = framefd.recv_datagram(theirs).source
                    self.assertEqual(source, f"{directory}/ours")
                    framefd.send_datagram(theirs, {"n": 2}, to=source)
                    self.assertEqual(framefd.recv_datagram(ours).header, {"n": 2})

    def test_limits_and_timeouts(self) -> None:
        with udp() as ours, udp() as theirs:
            ours.connect(theirs.getsockname())
            with self.assertRaises(framefd.TooBigError):
                framefd.send_datagram(ours, {}, bytes(9000))
            framefd.send_datagram(ours, {}, bytes(9000), max_datagram=65507)
            self.assertEqual(len(framefd.recv_datagram(theirs).body), 9000)
            with self.assertRaises(framefd.FrameTimeoutError):
                framefd.recv_datagram(theirs, timeout=0.001)
            ours.send(b"no frame")
            with self.assertRaises(framefd.FrameError):
                framefd.recv_datagram(theirs)

    def test_addresses(self) -> None:
        addresses: list[Any] = [
            ("127.0.0.1", 7000),
            ("::1", 7000, 5, 0),
            ("fe80::1", 7000, 0, 3),
            "/run/some.sock",
            os.fsdecode(b"/run/\xff.sock"),
            b"\0abstract",
        ]
        for address in addresses:
            self.assertEqual(_addresses.unpack(_addresses.pack(address, 0)), address)
        for same in (b"/run/x", pathlib.Path("/run/x")):
            self.assertEqual(_addresses.unpack(_addresses.pack(same, 0)), "/run/x")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as named:
            named.bind(f"\0framefd-test-{os.getpid()}")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                framefd.send_datagram(ours, {"n": 1}, to=named.getsockname())
            self.assertEqual(framefd.recv_datagram(named).header, {"n": 1})
        with self.assertRaises(OSError):
            _addresses.pack(("127.0.0.1", 7000), socket.AF_INET6)


class Exec(unittest.TestCase):
    def run_one(
        self, command: str, held: Any = None, key: Any = None, **options: Any
    ) -> framefd.CompletedCommand:
        """One command there and back; self.served has what the server did."""
        server = framefd.DatagramServer(held)
        done = threading.Event()

        def serve() -> list[framefd.ExecResult]:
            """Until the client is done: it asks again for a part that was lost."""
            results: list[framefd.ExecResult] = []
            while not (done.is_set() and results):
                with contextlib.suppress(framefd.FrameTimeoutError):
                    results.append(server.serve(theirs, timeout=0.02))
            return results

        with udp() as ours, udp() as theirs:
            ours.connect(theirs.getsockname())
            with support.meanwhile(serve) as self.served:
                try:
                    return framefd.run_datagram(ours, command, key, **options)
                finally:
                    done.set()

    def test_a_command(self) -> None:
        for key in (None, support.KEY, framefd.Key(support.KEY)):
            done = self.run_one("printf out; printf err >&2; exit 3", key, key)
            self.assertEqual((done.stdout, done.stderr, done.returncode), (b"out", b"err", 3))
            self.assertEqual(self.served[0][0].outcome, Outcome.EXITED)
        with self.assertRaises(framefd.CalledProcessError):
            self.run_one("exit 3", check=True)

    def test_where_and_with_what(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            done = self.run_one("pwd; echo $A", cwd=directory, env={"A": "b"})
            self.assertEqual(done.text, f"{directory}\nb\n")

    def test_a_request_that_is_sent_back(self) -> None:
        for key in (None, support.KEY):
            with udp() as ours, udp() as echo:
                ours.connect(echo.getsockname())
                with support.meanwhile(lambda: echo.sendto(*echo.recvfrom(65507))):
                    with self.assertRaises(framefd.FrameTimeoutError):
                        framefd.run_datagram(ours, "echo no", key, exchange_timeout=0.3)

    def test_a_busy_server(self) -> None:
        def busy(_: framefd.ExecInquiry) -> None:
            raise BlockingIOError("all threads run commands")

        server = framefd.DatagramServer()
        with udp() as ours, udp() as theirs:
            ours.connect(theirs.getsockname())
            options = framefd.ExecOptions(policy=busy)
            with support.meanwhile(lambda: server.serve(theirs, options)) as served:
                with self.assertRaisesRegex(framefd.BusyError, "all threads") as refused:
                    framefd.run_datagram(ours, "true")
                self.assertTrue(refused.exception.remote)
            self.assertEqual(served[0].outcome, Outcome.REFUSED)

    def test_a_child_of_fork(self) -> None:
        with udp() as theirs:
            server = framefd.DatagramServer()
            child = os.fork()
            if child == 0:
                try:
                    server.serve(theirs)
                except framefd.ForkedError:
                    os._exit(0)
                finally:
                    os._exit(1)
            self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_nobody_is_there(self) -> None:
        with udp() as ours, udp() as unused:
            ours.connect(unused.getsockname())
            unused.close()
            with self.assertRaises(framefd.DisconnectedError) as nobody:
                framefd.run_datagram(ours, "true")
            self.assertEqual(nobody.exception.errno, errno.ECONNREFUSED)

    def test_a_reply_in_many_parts(self) -> None:
        done = self.run_one("seq 20000", support.KEY, support.KEY)
        self.assertEqual(done.stdout, b"".join(b"%d\n" % n for n in range(1, 20001)))

    def test_a_wrong_key(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            with self.assertRaises(framefd.FrameTimeoutError):
                other = b"another key, of 23 bytes"
                self.run_one(f"touch {directory}/a", support.KEY, other, exchange_timeout=0.1)
            self.assertEqual(self.served[0][0].outcome, Outcome.IGNORED)
            self.assertEqual(self.served[0][0].error, ErrorCode.AUTH)
            self.assertEqual(os.listdir(directory), [])

    def test_vectors(self) -> None:
        codes = {"ok": ErrorCode.ACCES, "AUTH": ErrorCode.AUTH, "BADLENGTH": ErrorCode.BADLENGTH}
        for name, key, direction, result, datagram in support.index("datagrams"):
            if direction == "request":
                with self.subTest(name), udp() as theirs, udp() as ours:
                    ours.sendto(bytes.fromhex(datagram), theirs.getsockname())
                    served = framefd.DatagramServer(bytes.fromhex(key)).serve(theirs)
                    self.assertEqual(served.error, codes[result])  # they are too old

    def test_nobody_asks(self) -> None:
        with udp() as theirs, self.assertRaises(framefd.FrameTimeoutError):
            framefd.DatagramServer().serve(theirs, timeout=0.001)

    def test_keys_that_cannot_be_used(self) -> None:
        for key in (b"", b"short"):
            with self.assertRaises(framefd.BadKeyError):
                framefd.DatagramServer(key)
            with self.assertRaises(framefd.BadKeyError), udp() as ours:
                framefd.run_datagram(ours, "true", key)


if __name__ == "__main__":
    unittest.main()
