"""connect() and what it gives."""

from __future__ import annotations

import inspect
import pathlib
import socket
import tempfile
import unittest
from collections.abc import Callable
from typing import Any, get_origin

import support

import framefd


def serve(listener: socket.socket) -> None:
    """One client: a handshake, then two commands."""
    connection = framefd.Connection(listener.accept()[0])
    with connection:
        connection.auth_server(support.KEY)
        for _ in range(2):
            with connection.recv_header() as request:
                connection.exec_serve(request)


class Connect(unittest.TestCase):
    def ask(self, listener: socket.socket, address: Any) -> None:
        with listener, support.meanwhile(lambda: serve(listener)):
            with framefd.connect(address, key=support.KEY, timeout=10) as connection:
                self.assertEqual(connection.run("echo hello").text, "hello\n")
                self.assertEqual(connection.run("exit 3").returncode, 3)
                self.assertIsNone(connection.socket.gettimeout())
            self.assertEqual(connection.fileno(), -1)
            connection.close()

    def test_tcp(self) -> None:
        for text in (False, True):
            listener = socket.create_server(("127.0.0.1", 0))
            host, port = listener.getsockname()
            self.ask(listener, f"{host}:{port}" if text else (host, port))
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self.ask(listener, f"[::1]:{listener.getsockname()[1]}")

    def test_unix(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            kinds: list[Callable[[str], Any]] = [lambda path: f"unix:{path}", pathlib.Path]
            for n, kind in enumerate(kinds):
                path = f"{directory}/{n}"
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(path)
                listener.listen()
                self.ask(listener, kind(path))

    def test_addresses_that_are_none(self) -> None:
        for address in ("localhost", "/run/some.sock", "host:", "host:port", ""):
            with self.assertRaises(ValueError):
                framefd.connect(address)

    def test_nobody_is_there(self) -> None:
        with tempfile.TemporaryDirectory() as directory, self.assertRaises(FileNotFoundError):
            framefd.connect(pathlib.Path(directory) / "socket")
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with self.assertRaises(ConnectionRefusedError):
                framefd.connect(unused.getsockname())

    def test_a_handshake_that_fails_leaves_no_socket_open(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with self.assertRaises(framefd.FrameTimeoutError):
                framefd.connect(listener.getsockname(), key=support.KEY, timeout=0.05)
            connection = listener.accept()[0]
            with connection:
                self.assertEqual(connection.recv(1), b"")


class Methods(unittest.TestCase):
    def test_they_are_the_functions_of_the_package(self) -> None:
        taking_streams = [
            name
            for name in framefd.__all__
            if inspect.isfunction(function := getattr(framefd, name))
            and next(iter(inspect.signature(function).parameters)) == "fd"
        ]
        self.assertGreater(len(taking_streams), 15)
        for name in taking_streams:
            method = inspect.getattr_static(framefd.Connection, name)
            self.assertIs(method, getattr(framefd, name))

    def test_every_public_name_says_what_it_is(self) -> None:
        for name in framefd.__all__:
            value = getattr(framefd, name)
            if get_origin(value) or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            self.assertTrue(inspect.getdoc(value), name)
            for member, attribute in vars(value).items():
                if not member.startswith("_") and inspect.isfunction(attribute):
                    self.assertTrue(inspect.getdoc(attribute), f"{name}.{member}")

    def test_frames_files_and_packets(self) -> None:
        ours, theirs = map(framefd.Connection, socket.socketpair())
        with ours, theirs:
            ours.send({"n": 1}, b"x")
            self.assertEqual(theirs.recv(timeout=5), ({"n": 1}, b"x"))
            with ours.send_header({"n": 2}, 1) as frame:
                frame.write(b"y")
            with theirs.recv_header() as incoming:
                self.assertEqual((incoming.header, incoming.gather()), ({"n": 2}, b"y"))
            ours.send_packet(b"z")
            self.assertEqual(theirs.recv_packet(), b"z")


if __name__ == "__main__":
    unittest.main()
