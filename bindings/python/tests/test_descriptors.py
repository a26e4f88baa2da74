"""Which descriptor an object stands for, and how long a call on it waits."""

from __future__ import annotations

import asyncio
import io
import math
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from typing import Any

import support

import framefd
from framefd import aio

#: A child that sends a line, and then a message.
LINE_AND_MESSAGE = [
    sys.executable,
    "-c",
    "import os; os.write(1, b'line\\n' + (5).to_bytes(4, 'little') + b'hello')",
]


class Files(unittest.TestCase):
    def test_what_a_buffered_pipe_has_read_ahead_is_not_lost_silently(self) -> None:
        packets = framefd.Prefix()
        calls: list[Callable[[Any, framefd.Connection], Any]] = [
            lambda pipe, _: framefd.recv(pipe, prefix=packets),
            lambda pipe, _: framefd.Connection(pipe, -1),
            lambda pipe, ours: (ours.begin({}, 9), ours.write_from(pipe)),
        ]
        for call in calls:
            with self.child() as pipe, support.connections() as (ours, _):
                pipe.readline()
                with self.assertRaisesRegex(framefd.StateError, "has read 9 bytes ahead"):
                    call(pipe, ours)
                self.assertEqual(pipe.read(4), b"\5\0\0\0")  # it still reads

    def child(self) -> Any:
        process = subprocess.Popen(LINE_AND_MESSAGE, stdout=subprocess.PIPE)
        self.addCleanup(process.wait)
        assert process.stdout is not None
        return process.stdout

    def test_a_pipe_from_which_all_was_read_can_be_used(self) -> None:
        read, write = os.pipe()
        with open(read, "rb") as reader, open(write, "wb") as writer:
            writer.write(b"line\n")
            writer.flush()
            self.assertEqual(reader.readline(), b"line\n")
            framefd.send(writer, {"n": 1})
            self.assertEqual(framefd.recv(reader).header, {"n": 1})

    def test_what_was_written_to_a_file_goes_before_what_is_sent(self) -> None:
        for mode in ("wb", "w"):
            read, write = os.pipe()
            with open(write, mode) as writer:
                writer.write(b"first" if mode == "wb" else "first")
                framefd.send(writer, None, b"second", prefix=framefd.Prefix(1))
            with open(read, "rb") as reader:
                self.assertEqual(reader.read(), b"first\6second")

    def test_a_text_file_is_read_only_if_nothing_was(self) -> None:
        read, write = os.pipe()
        framefd.send(write, {"n": 1})
        os.close(write)
        with open(read) as text:
            self.assertEqual(framefd.recv(text).header, {"n": 1})

        read, write = os.pipe()
        os.write(write, b"a line\nand another\n")
        os.close(write)
        with open(read) as text, support.connections() as (ours, _):
            text.readline()
            with self.assertRaisesRegex(TypeError, "binary mode"):
                framefd.recv(text)
            with self.assertRaisesRegex(TypeError, "binary mode"):
                ours.put(text, "name", length=3)
            self.assertEqual(text.read(), "and another\n")

    def test_objects_of_others_are_what_their_fileno_is(self) -> None:
        class Wrapper:
            def __init__(self, number: Any) -> None:
                self.number = number

            def fileno(self) -> Any:
                return self.number

        with support.stream() as (ours, theirs):
            framefd.send(Wrapper(ours.fileno()), {"n": 1})
            self.assertEqual(framefd.recv(theirs).header, {"n": 1})
            for wrong in (None, "3", 3.0):
                with self.assertRaisesRegex(TypeError, "a fileno"):
                    framefd.send(Wrapper(wrong), {})

    def test_a_flag_is_a_truth_and_not_a_number_of_flags(self) -> None:
        with (
            tempfile.TemporaryDirectory() as directory,
            support.connections() as (ours, theirs),
        ):
            pathlib.Path(directory, "file").touch()
            with support.meanwhile(lambda: theirs.recv()) as got:
                parents: Any = 2  # twice the flag is another flag
                with self.assertRaises(framefd.FrameError):
                    ours.put(f"{directory}/file", "name", parents=parents, timeout=0.2)
            self.assertEqual(got[0].header["parents"], True)
            self.assertNotIn("resume", got[0].header)

    def test_memory_without_a_descriptor_is_told_apart(self) -> None:
        with self.assertRaisesRegex(TypeError, "open.* not BytesIO"):
            framefd.send(io.BytesIO())


class Timeouts(unittest.TestCase):
    def test_every_call_without_a_timeout_takes_that_of_its_socket(self) -> None:
        large = bytes(8 << 20)
        calls: list[Callable[[socket.socket], Any]] = [
            framefd.recv,
            lambda sock: framefd.send(sock, {}, large),
            lambda sock: framefd.auth_server(sock, support.KEY),
            lambda sock: framefd.auth_client(sock, support.KEY),
            lambda sock: framefd.Connection(sock).recv(),
            lambda sock: queue_all(framefd.Connection(sock), large),
            lambda sock: framefd.Connection(sock).call("x"),
            lambda sock: framefd.Connection(sock).run("true"),
            lambda sock: framefd.Connection(sock).stat("x"),
        ]
        for call in calls:
            with support.stream() as (ours, theirs):
                ours.settimeout(0.02)
                self.check_ends(call, ours)
                theirs.close()

    def test_datagrams_and_listeners_too(self) -> None:
        options = framefd.ExecOptions()
        calls: list[Callable[[socket.socket], Any]] = [
            framefd.recv_datagram,
            lambda sock: framefd.DatagramServer(support.KEY).serve(sock, options),
            lambda sock: framefd.run_datagram(sock, "true", support.KEY),
        ]
        for call in calls:
            with (
                socket.socket(type=socket.SOCK_DGRAM) as ours,
                socket.socket(type=socket.SOCK_DGRAM) as theirs,
            ):
                theirs.bind(("127.0.0.1", 0))
                ours.connect(theirs.getsockname())
                ours.settimeout(0.02)
                self.check_ends(call, ours)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.02)
            self.check_ends(framefd.accept, listener)

    def check_ends(self, call: Callable[..., Any], *arguments: Any) -> None:
        begin = time.monotonic()
        with self.assertRaises(TimeoutError):
            call(*arguments)
        self.assertLess(time.monotonic() - begin, 8)

    def test_a_time_of_months_is_a_time(self) -> None:
        month = 30 * 24 * 3600.0
        with support.stream() as (ours, theirs):
            framefd.send(theirs, {"n": 1}, timeout=month)
            with framefd.Connection(ours, timeout=month) as connection:
                self.assertEqual(connection.recv(timeout=100 * month).header, {"n": 1})

    def test_a_socket_that_does_not_block_does_not_wait(self) -> None:
        with support.stream() as (ours, _):
            ours.setblocking(False)
            with self.assertRaises(framefd.FrameTimeoutError):
                framefd.recv(ours)
            with self.assertRaises(framefd.FrameTimeoutError):
                framefd.Connection(ours, own=False).recv()

    def test_a_timeout_of_the_call_or_the_connection_is_before_that(self) -> None:
        with support.stream() as (ours, theirs):
            ours.settimeout(0.001)
            connection = framefd.Connection(ours, own=False, timeout=math.inf)
            calls: list[Callable[[], framefd.Frame]] = [
                lambda: framefd.recv(ours, timeout=20),
                connection.recv,
            ]
            for receive in calls:
                with support.meanwhile(receive) as got:
                    time.sleep(0.02)
                    framefd.send(theirs, {"n": 1})
                self.assertEqual(got[0].header, {"n": 1})
            self.assertEqual(ours.gettimeout(), 0.001)

    def test_new_connections_take_the_default_of_new_sockets(self) -> None:
        self.addCleanup(socket.setdefaulttimeout, None)
        with framefd.listen("127.0.0.1:0") as listener:
            socket.setdefaulttimeout(0.02)
            with framefd.connect(listener.address) as ours, listener.accept() as theirs:
                for connection in (ours, theirs):
                    self.check_ends(connection.recv)

    def test_asyncio_waits_although_its_sockets_do_not_block(self) -> None:
        async def receive(ours: socket.socket, theirs: socket.socket) -> framefd.Frame:
            ours.setblocking(False)
            async with aio.Connection(ours) as connection:
                asyncio.get_running_loop().call_later(0.02, framefd.send, theirs, {"n": 1})
                return await connection.recv()

        with support.stream() as (ours, theirs):
            self.assertEqual(asyncio.run(receive(ours, theirs)).header, {"n": 1})


def queue_all(connection: framefd.Connection, body: bytes) -> None:
    connection.queue({}, body)
    connection.flush()


if __name__ == "__main__":
    unittest.main()
