"""One message on a raw descriptor: from every kind of buffer, from several threads."""

from __future__ import annotations

import array
import contextlib
import json
import math
import mmap
import os
import signal
import socket
import struct
import sys
import tempfile
import time
import unittest
from itertools import groupby
from typing import Any

import support

import framefd
from framefd import ErrorCode, Prefix

RESULTS = {
    "CLOSED": ErrorCode.CLOSED,
    "TRUNCATED": ErrorCode.TRUNCATED,
    "BADLENGTH": ErrorCode.BADLENGTH,
    "TOOBIG": ErrorCode.TOOBIG,
    "BADJSON": ErrorCode.BADJSON,
    "BADFIELD": ErrorCode.BADFIELD,
}


class Whole(unittest.TestCase):
    def setUp(self) -> None:
        pair = support.stream()
        self.ours, self.theirs = pair.__enter__()
        self.addCleanup(pair.__exit__, None, None, None)

    def back(self, header: Any, body: Any = b"") -> framefd.Frame:
        framefd.send(self.ours, header, body)
        return framefd.recv(self.theirs)

    def test_a_frame_arrives_as_it_was_sent_and_can_be_sent_on(self) -> None:
        header: framefd.Header = {
            "cmd": "x",
            "n": [1, -2, 2.5, None, True, {"ключ": '\x00"\\ \U0001f600'}],
        }
        header["big"] = 2**200
        header["small"] = 1e-300
        frame = self.back(header, b"\x00body\xff")
        self.assertEqual(frame, (header, b"\x00body\xff"))
        self.assertEqual(self.back(*frame), frame)

    def test_the_least_frame(self) -> None:
        framefd.send(self.ours)
        self.assertEqual(framefd.recv(self.theirs), ({}, b""))

    def test_the_wire_is_a_length_a_header_and_the_body(self) -> None:
        framefd.send(self.ours, {"cmd": "put"}, b"ab")
        text = b'{"data_size":2,"cmd":"put"}'
        self.assertEqual(self.theirs.recv(100), struct.pack("<i", len(text)) + text + b"ab")

    def test_bodies_of_every_bytes_like_type(self) -> None:
        data = bytes(range(256)) * 4
        with mmap.mmap(-1, len(data)) as mapped:
            mapped.write(data)
            kinds = [data, bytearray(data), memoryview(data), array.array("I", data), mapped]
            kinds += [memoryview(bytearray(b"_" + data + b"_"))[1:-1]]
            kinds += [memoryview(b"_" + data + b"_")[1:-1], memoryview(data).cast("I")]
            for body in kinds:
                with self.subTest(type(body).__name__):
                    self.assertEqual(self.back({}, body).body, data)
        self.assertEqual(self.back({}, bytearray()).body, b"")

    def test_a_buffer_is_released_after_the_call(self) -> None:
        body = bytearray(b"12345")
        self.back({}, body)
        body.extend(b"6")  # BufferError if it were still exported
        self.ours.close()
        with self.assertRaises(framefd.BadDescriptorError):
            framefd.send(self.ours, {}, body)
        body.extend(b"7")

    def test_a_buffer_in_pieces_or_none_is_refused(self) -> None:
        with self.assertRaises(BufferError):
            framefd.send(self.ours, {}, memoryview(b"abcdef")[::2])
        for body in ("text", 5, None):
            with self.assertRaises(TypeError):
                framefd.send(self.ours, {}, body)

    def test_what_is_no_header_is_refused_before_anything_is_sent(self) -> None:
        refused: list[tuple[type[BaseException], Any]] = [
            (ValueError, {"n": math.nan}),
            (ValueError, {"n": math.inf}),
            (TypeError, {"n": b"bytes"}),
            (TypeError, {"n": object()}),
            (framefd.MalformedError, {"name": os.fsdecode(b"\xff")}),
            (TypeError, [1]),
            (TypeError, []),
            (TypeError, b"a body"),
            (framefd.MalformedError, {"data_size": 5}),
            (framefd.TooBigError, {"long": "x" * 70_000}),
        ]
        for kind, header in refused:
            with self.subTest(str(header)[:40]), self.assertRaises(kind) as caught:
                framefd.send(self.ours, header)
            self.assertIsInstance(caught.exception, (ValueError, TypeError))
        self.assertEqual(self.back({"n": 1}).header, {"n": 1})

    def test_a_number_beyond_python_is_refused_and_the_stream_in_step(self) -> None:
        text = b'{"n":%s}' % (b"9" * 5000)
        self.ours.sendall(struct.pack("<i", len(text)) + text)
        if hasattr(sys, "set_int_max_str_digits"):
            with self.assertRaises(framefd.MalformedError):
                framefd.recv(self.theirs)
        else:  # a Python that takes any number
            framefd.recv(self.theirs)
        self.assertEqual(self.back({"n": 1}).header, {"n": 1})

    def test_limits(self) -> None:
        for limits in ({"max_body": 99}, {"max_header": 10}, {"max_depth": 1}):
            with self.subTest(str(limits)), support.stream() as (ours, theirs):
                framefd.send(ours, {"deep": {"n": 1}}, b"x" * 100)
                with self.assertRaises((framefd.TooBigError, framefd.MalformedError)):
                    framefd.recv(theirs, **limits)  # type: ignore[arg-type]
        framefd.send(self.ours, {"deep": {"n": 1}}, b"x" * 100)
        whole = framefd.recv(self.theirs, max_body=100, max_header=100, max_depth=2)
        self.assertEqual(len(whole.body), 100)
        for name in ("max_body", "max_header", "max_depth"):
            for value in (0, -1, 2**64):
                with self.assertRaises(ValueError):
                    framefd.recv(self.theirs, **{name: value})  # type: ignore[arg-type]

    def test_timeouts(self) -> None:
        for seconds in (0, 0.001):
            with self.assertRaises(framefd.FrameTimeoutError) as late:
                framefd.recv(self.theirs, timeout=seconds)
            self.assertNotIsInstance(late.exception, framefd.StalledError)
        self.ours.send(b"\x05")
        with self.assertRaises(framefd.StalledError):
            framefd.recv(self.theirs, timeout=0.001)
        for wrong in (-1, math.nan, -math.inf):
            with self.assertRaises(ValueError):
                framefd.recv(self.theirs, timeout=wrong)

    def test_a_time_is_rounded_up_to_a_millisecond(self) -> None:
        begin = time.monotonic()
        with self.assertRaises(TimeoutError):
            framefd.recv(self.theirs, timeout=0.0501)
        self.assertGreaterEqual(time.monotonic() - begin, 0.0501)

    def test_infinity_is_no_timeout(self) -> None:
        with support.meanwhile(lambda: framefd.recv(self.theirs, timeout=math.inf)) as got:
            time.sleep(0.02)
            framefd.send(self.ours, {"n": 1})
        self.assertEqual(got[0].header, {"n": 1})

    def test_ends(self) -> None:
        self.ours.close()
        with self.assertRaises(framefd.ClosedError):
            framefd.recv(self.theirs)
        with support.stream() as (ours, theirs):
            ours.send(b"\x05\x00")
            ours.close()
            with self.assertRaises(framefd.TruncatedError):
                framefd.recv(theirs)

    def test_pipes_files_and_numbers(self) -> None:
        read, write = os.pipe()
        framefd.send(write, {"n": 1}, b"x")
        with open(read, "rb") as reader:
            self.assertEqual(framefd.recv(reader), ({"n": 1}, b"x"))
        os.close(write)

    def test_a_big_body(self) -> None:
        body = bytearray(32 << 20)
        body[-1] = 7
        with support.meanwhile(lambda: framefd.recv(self.theirs)) as got:
            framefd.send(self.ours, {}, body)
        self.assertEqual(got[0].body, body)

    def test_bodies_about_as_large_as_what_is_kept_to_receive_into(self) -> None:
        for header in ({}, {"name": "x" * 100}):
            for size in (65_000, 65_392, 65_393, 65_504, 65_505, 65_536, 100_000):
                with self.subTest(size=size, header=header):
                    body = os.urandom(size)
                    self.assertEqual(self.back(header, body), (header, body))

    def test_a_body_above_the_limit_is_refused_before_it_is_received(self) -> None:
        for header in ({}, {"n": 1}, {"name": "x" * 100}):
            for most in (1, 9, 10, 100, 65_500, 65_520, 65_536, 70_000):
                with self.subTest(most=most, header=header):
                    body = os.urandom(most)
                    framefd.send(self.ours, header, body)
                    got = framefd.recv(self.theirs, max_body=most)
                    self.assertEqual(got, (header, body))
                    framefd.send(self.ours, header, body + b"x")
                    with self.assertRaises(framefd.TooBigError):
                        framefd.recv(self.theirs, max_body=most)
                    left = self.theirs.recv(most + 1, socket.MSG_WAITALL)
                    self.assertEqual(left, body + b"x")

    def test_one_time_for_the_header_and_a_large_body(self) -> None:
        text = b'{"data_size":100000}'
        begin = time.monotonic()
        with self.assertRaises(framefd.StalledError):
            with support.meanwhile(lambda: framefd.recv(self.theirs, timeout=0.6)):
                time.sleep(0.5)
                self.ours.sendall(struct.pack("<i", len(text)) + text)
        self.assertLess(time.monotonic() - begin, 1)

    def test_a_signal_handler_that_receives_while_the_program_does(self) -> None:
        with support.stream() as (ours, theirs):
            framefd.send(ours, {"of": "the handler"}, b"handler" * 99)
            inner = []

            def handler(*_: object) -> None:
                inner.append(framefd.recv(theirs))

            former = signal.signal(signal.SIGALRM, handler)
            self.addCleanup(signal.signal, signal.SIGALRM, former)

            def disturb() -> None:
                time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGALRM)
                time.sleep(0.05)
                framefd.send(self.ours, {"of": "the program"}, b"program")

            with support.meanwhile(disturb):
                outer = framefd.recv(self.theirs)
        self.assertEqual(outer, ({"of": "the program"}, b"program"))
        self.assertEqual(inner, [({"of": "the handler"}, b"handler" * 99)])

    def test_threads_on_descriptors_of_their_own(self) -> None:
        frames = [framefd.Frame({"n": n}, os.urandom(1000)) for n in range(300)]

        def echo(fd: socket.socket) -> None:
            for _ in frames:
                framefd.send(fd, *framefd.recv(fd))

        def ask(fd: socket.socket) -> list[framefd.Frame]:
            answers = []
            for frame in frames:
                framefd.send(fd, *frame)
                answers.append(framefd.recv(fd))
            return answers

        with contextlib.ExitStack() as stack:
            results = []
            for _ in range(4):
                ours, theirs = stack.enter_context(support.stream())
                stack.enter_context(support.meanwhile(lambda fd=theirs: echo(fd)))  # type: ignore[misc]
                asking = support.meanwhile(lambda fd=ours: ask(fd))  # type: ignore[misc]
                results.append(stack.enter_context(asking))
        for result in results:
            self.assertEqual(result, [frames])

    def test_memory_is_given_back(self) -> None:
        def received(times: int) -> int:
            for _ in range(times):
                framefd.send(self.ours, {"n": 1}, body)
                framefd.recv(self.theirs)
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * mmap.PAGESIZE

        body = bytes(64 << 10)
        before = received(50)
        self.assertLess(received(800) - before, 8 << 20)  # of 50 MiB that came

    def test_other_threads_run_during_a_call(self) -> None:
        with support.meanwhile(lambda: framefd.recv(self.theirs, timeout=20)):
            # With the interpreter locked in recv() this thread would never get here.
            framefd.send(self.ours, {})


class Vectors(unittest.TestCase):
    def read(self, data: bytes, rows: list[list[str]], one: Any, column: int) -> None:
        """Reads a vector from a file, so that what each read consumed can be seen."""
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            fd, at = file.fileno(), 0
            for row in rows:
                consumed = int(row[column])
                if row[1] == "ok":
                    one(fd, row, data, at)
                    at += consumed
                    self.assertEqual(os.lseek(fd, 0, os.SEEK_CUR), at)
                else:
                    with self.assertRaises(framefd.FrameError) as caught:
                        one(fd, row, data, at)
                    self.assertEqual(caught.exception.code, RESULTS[row[1]])
                    self.assertLessEqual(os.lseek(fd, 0, os.SEEK_CUR), at + consumed)

    def frame(self, fd: int, row: list[str], data: bytes, at: int) -> None:
        _, result, header, body, _, options = row
        texts = dict(part.split("=") for part in options.split(",") if part != "-")
        limits: dict[str, Any] = {name: int(value) for name, value in texts.items()}
        if result != "ok":
            framefd.recv(fd, **limits)
        size = struct.unpack_from("<i", data, at)[0]
        text = data[at + 4 : at + 4 + size]
        if not header.startswith("@"):
            self.assertEqual(text, header.encode())
        try:
            expected = json.loads(text)
        except ValueError:  # more digits than Python takes, if it has a limit
            with self.assertRaises(framefd.MalformedError):
                framefd.recv(fd)
            return
        got = framefd.recv(fd, **limits)
        self.assertEqual(expected.pop("data_size", 0), len(got.body))
        self.assertEqual(got.header, expected)
        start = at + 4 + size
        self.assertEqual(got.body, part(body, data[start : start + len(got.body)]))

    def packet(self, fd: int, row: list[str], data: bytes, at: int) -> None:
        _, _, payload, _, width, order, sign, most = row
        prefix = Prefix(int(width), order, sign == "signed")  # type: ignore[arg-type]
        max_body = None if most == "-" else int(most)
        got = framefd.recv(fd, prefix=prefix, max_body=max_body).body
        start = at + int(width)
        self.assertEqual(got, part(payload, data[start : start + len(got)]))

    def test_frames(self) -> None:
        self.all("frames", self.frame, 4)

    def test_packets(self) -> None:
        self.all("packets", self.packet, 3)

    def all(self, folder: str, one: Any, column: int) -> None:
        for name, rows in groupby(support.index(folder), lambda row: row[0]):
            with self.subTest(name):
                data = (support.VECTORS / folder / name).read_bytes()
                self.read(data, list(rows), one, column)


class Packets(unittest.TestCase):
    def test_there_and_back(self) -> None:
        with support.stream() as (ours, theirs):
            for width in (1, 2, 4, 8):
                for byteorder in ("little", "big"):
                    for signed in (False, True):
                        prefix = Prefix(width, byteorder, signed)
                        for data in (b"", b"x" * 100, bytearray(b"y")):
                            framefd.send(ours, None, data, prefix=prefix)
                            got = framefd.recv(theirs, prefix=prefix)
                            self.assertEqual(got, ({}, data))
            framefd.send(ours, None, b"x" * 258, prefix=Prefix(2, "big", False))
            self.assertEqual(theirs.recv(2), b"\x01\x02")
            with self.assertRaises(framefd.TooBigError):
                framefd.send(ours, None, b"x" * 128, prefix=Prefix(1))

    def test_a_prefix_that_is_none(self) -> None:
        for width in (0, 3, 16):
            with self.assertRaises(ValueError):
                Prefix(width)
        with self.assertRaises(ValueError):
            Prefix(4, "network")  # type: ignore[arg-type]

    def test_limits_and_ends(self) -> None:
        with support.stream() as (ours, theirs):
            framefd.send(ours, None, b"12345", prefix=Prefix())
            with self.assertRaises(framefd.TooBigError):
                framefd.recv(theirs, prefix=Prefix(), max_body=4)
        with support.stream() as (ours, theirs):
            with self.assertRaises(framefd.FrameTimeoutError):
                framefd.recv(theirs, prefix=Prefix(), timeout=0)
            ours.close()
            with self.assertRaises(framefd.ClosedError):
                framefd.recv(theirs, prefix=Prefix())

    def test_a_packet_has_no_header(self) -> None:
        with support.stream() as (ours, _), self.assertRaises(ValueError):
            framefd.send(ours, {"n": 1}, b"", prefix=Prefix())


def part(column: str, data: bytes) -> bytes:
    """What a column of the vectors stands for, given the bytes in that place."""
    if column.startswith("@"):
        return data if len(data) == int(column[1:]) else b"of another length"
    return b"" if column == "-" else bytes.fromhex(column)


if __name__ == "__main__":
    unittest.main()
