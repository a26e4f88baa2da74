"""Reading through a buffer: frames, packets, bodies in pieces, and what is left."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import shutil
import socket
import tempfile
import unittest
import weakref
from collections.abc import Callable
from functools import partial

import support
from support import encoded

import framefd
from framefd import Frame, Prefix, Reader, Writer


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def reader(self, data: bytes = b"", **options: object) -> Reader:
        """A reader of bytes that have come already."""
        self.theirs.sendall(data)
        return Reader(self.ours, **options)  # type: ignore[arg-type]


class Frames(Case):
    def test_iteration_ends_where_the_other_end_closes(self) -> None:
        sent = [({}, b""), ({"n": 1}, b""), ({}, b"x" * 100), ({"ä": [1]}, b"y")]
        reader = self.reader(encoded(*sent))
        self.theirs.close()
        self.assertEqual(list(reader), sent)
        self.assertEqual(list(reader), [])
        with self.assertRaises(framefd.ClosedError):
            reader.recv()

    def test_frames_are_of_their_type_and_share_nothing(self) -> None:
        reader = self.reader(encoded(b"1", b"2", b"3"))
        first, second = reader.recv_many(2)
        self.assertIs(type(first), Frame)
        self.assertIs(type(reader.recv()), Frame)
        first.header["n"] = 1
        self.assertEqual(second.header, {})

    def test_many_more_than_one_batch(self) -> None:
        bodies = [bytes([n % 256]) * (n % 300) for n in range(5000)]
        with support.meanwhile(lambda: self.theirs.sendall(encoded(*bodies))):
            reader = Reader(self.ours)
            got = [frame.body for _, frame in zip(bodies, reader)]
        self.assertEqual(got, bodies)

    def test_what_is_given_stays_when_more_is_read(self) -> None:
        reader = self.reader(encoded(b"first", ({"n": 1}, b"second")))
        first, second = reader.recv(), reader.recv()
        self.theirs.sendall(encoded(b"x" * 5, b"x" * 6))
        reader.recv_many()
        self.assertEqual((first.body, second), (b"first", ({"n": 1}, b"second")))

    def test_bodies_of_every_size_around_where_they_are_copied_alone(self) -> None:
        for size in (4060, 4095, 4096, 4097, 65536, 300_000):
            bodies = [bytes([n]) * size for n in range(3)]
            with self.subTest(size), support.stream() as (ours, theirs):
                with support.meanwhile(partial(theirs.sendall, encoded(*bodies))):
                    reader = Reader(ours)
                    got = [frame.body for _, frame in zip(bodies, reader)]
                self.assertEqual(got, bodies)

    def test_large_bodies(self) -> None:
        body = os.urandom(5 << 20)
        wire = encoded(b"a", ({"n": 1}, body), b"b")
        with support.meanwhile(lambda: self.theirs.sendall(wire)):
            reader = Reader(self.ours)
            got = [reader.recv(), reader.recv(), reader.recv()]
        self.assertEqual(got, [({}, b"a"), ({"n": 1}, body), ({}, b"b")])

    def test_frames_that_are_cut_at_any_byte_wait_for_the_rest(self) -> None:
        data = encoded(({"n": 1}, b"12"), b"", b"345")
        whole = [({"n": 1}, b"12"), ({}, b""), ({}, b"345")]
        for at in range(len(data)):
            with self.subTest(at), support.stream() as (ours, theirs):
                reader = Reader(ours, timeout=0)
                theirs.sendall(data[:at])
                got = []
                with self.assertRaises(framefd.FrameTimeoutError):
                    while True:
                        got += reader.recv_many()
                self.assertEqual(got, whole[: len(got)])
                self.assertLess(len(got), 3)
                theirs.sendall(data[at:])
                theirs.close()
                self.assertEqual(got + list(reader), whole)

    def test_frames_that_come_byte_by_byte(self) -> None:
        reader = self.reader(timeout=0)
        for byte in encoded(({"n": 1}, b"12")):
            with self.assertRaises(framefd.FrameTimeoutError):
                reader.recv()
            self.theirs.sendall(bytes([byte]))
        self.assertEqual(reader.recv(), ({"n": 1}, b"12"))

    def test_a_stream_that_is_cut_at_any_byte(self) -> None:
        data = encoded(b"123")
        for at in range(1, len(data)):
            with self.subTest(at), support.stream() as (ours, theirs):
                theirs.sendall(data + data[:at])
                theirs.close()
                reader = Reader(ours)
                self.assertEqual(next(iter(reader)).body, b"123")
                for _ in range(2):
                    with self.assertRaises(framefd.TruncatedError):
                        reader.recv()

    def test_frames_before_an_error_come_first_and_the_error_sticks(self) -> None:
        for bad, kind in (
            (b"\xff\xff\xff\xff", framefd.MalformedError),
            (b"\2\0\0\0[]", framefd.MalformedError),
            (b"\0\0\1\0" + b" " * 65536, framefd.MalformedError),
            (b"\1\0\1\0", framefd.TooBigError),
        ):
            for take in (list, lambda reader: [reader.recv() for _ in range(3)]):
                with self.subTest(bad[:6]), support.stream() as (ours, theirs):
                    theirs.sendall(encoded(b"1", b"2") + bad)
                    theirs.close()
                    reader = Reader(ours)
                    self.assertEqual([frame.body for frame in reader.recv_many()], [b"1", b"2"])
                    for _ in range(2):
                        with self.assertRaises(kind):
                            take(reader)

    def test_a_header_that_python_does_not_take_comes_after_those_before_it(self) -> None:
        digits = b'{"n":' + b"1" * 5000 + b"}"
        data = encoded(b"1", b"2") + len(digits).to_bytes(4, "little") + digits + encoded(b"3")
        try:
            int("1" * 5000)
        except ValueError:
            pass
        else:
            self.skipTest("this Python takes integers of any size")
        reader = self.reader(data)
        self.assertEqual([frame.body for frame in reader.recv_many()], [b"1", b"2"])
        calls: list[Callable[[], object]] = [reader.recv, reader.recv_many, reader.recv_packet]
        for call in calls:
            with self.assertRaises(framefd.MalformedError):
                call()
        takes: list[Callable[[Reader], object]] = [Reader.recv, Reader.recv_header]
        for take in takes:
            with support.stream() as (ours, theirs):
                theirs.sendall(data[len(encoded(b"1", b"2")) :])
                again = Reader(ours)
                for _ in range(2):
                    with self.assertRaises(framefd.MalformedError):
                        take(again)

    def test_limits(self) -> None:
        for options, frame in (
            ({"max_body": 4}, b"12345"),
            ({"max_header": 20}, ({"a": "long enough"}, b"")),
        ):
            with self.subTest(options), support.stream() as (ours, theirs):
                theirs.sendall(encoded(b"ok", frame))
                reader = Reader(ours, **options)  # type: ignore[arg-type]
                self.assertEqual(reader.recv().body, b"ok")
                with self.assertRaises(framefd.TooBigError):
                    reader.recv()
        with self.assertRaises(framefd.MalformedError):
            self.reader(encoded(({"a": [[1]]}, b"")), max_depth=2).recv()
        for options in ({"max_body": 0}, {"max_header": -1}, {"timeout": -1}):
            with self.assertRaises(ValueError):
                Reader(self.ours, **options)  # type: ignore[arg-type]

    def test_recv_takes_no_more_than_one(self) -> None:
        reader = self.reader(encoded(b"upgrade") + b"and now for something else")
        self.assertEqual(reader.recv().body, b"upgrade")
        self.assertEqual(reader.rest, b"and now for something else")

    def test_rest_is_empty_where_nothing_is_left(self) -> None:
        self.assertEqual(self.reader().rest, b"")

    def test_what_iteration_took_comes_first(self) -> None:
        reader = self.reader(encoded(b"1", b"2", b"3", b"4"))
        for frame in reader:
            self.assertEqual(frame.body, b"1")
            break
        for call in (reader.recv_packet, reader.recv_header, lambda: reader.rest):
            with self.assertRaises(framefd.StateError):
                call()
        self.assertEqual(reader.recv().body, b"2")
        self.assertEqual([body for _, body in reader.recv_many(1)], [b"3"])
        self.assertEqual(next(iter(reader)).body, b"4")
        self.theirs.sendall(b"\5\0\0")
        with self.assertRaises(framefd.FrameTimeoutError):
            reader.recv(timeout=0)
        self.assertEqual(reader.rest, b"\5\0\0")

    def test_iterators_of_one_reader_take_turns(self) -> None:
        reader = self.reader(encoded(b"1", b"2", b"3"))
        one, two = iter(reader), iter(reader)
        got = [next(one), next(two), reader.recv()]
        self.theirs.sendall(encoded(b"4", b"5"))
        got += [next(one), next(two)]
        self.assertEqual([body for _, body in got], [b"1", b"2", b"3", b"4", b"5"])

    def test_recv_many_has_a_limit(self) -> None:
        reader = self.reader(encoded(*[b"x"] * 10))
        self.assertEqual([len(reader.recv_many(n)) for n in (1, 3, 1000)], [1, 3, 6])
        for most in (0, -1):
            with self.assertRaises(ValueError):
                reader.recv_many(most)

    def test_one_call_reads_what_many_frames_need(self) -> None:
        reader = self.reader(encoded(*[b"x"] * 50))
        reader.recv()
        self.ours.close()
        self.assertEqual(len(reader.recv_many()), 49)

    def test_a_timeout_loses_nothing(self) -> None:
        for blocking in (True, False):
            with self.subTest(blocking), support.stream() as (ours, theirs):
                ours.setblocking(blocking)
                reader = Reader(ours, timeout=0.01)
                data = encoded(b"12345")
                theirs.sendall(data[:10])
                for call in (reader.recv, reader.recv_many):
                    for timeout in (None, 0, 0.001):
                        with self.assertRaises(framefd.FrameTimeoutError):
                            call(timeout=timeout)
                with self.assertRaises(framefd.FrameTimeoutError):
                    next(iter(reader))
                theirs.sendall(data[10:])
                self.assertEqual(reader.recv().body, b"12345")

    def test_a_call_waits_on_a_descriptor_that_does_not_block(self) -> None:
        self.ours.setblocking(False)
        reader = Reader(self.ours)
        with support.meanwhile(lambda: self.theirs.sendall(encoded(b"late"))):
            self.assertEqual(reader.recv().body, b"late")

    def test_descriptors(self) -> None:
        with self.assertRaises(framefd.BadDescriptorError):
            Reader(-1)
        reader = self.reader()
        self.assertEqual(reader.fileno(), self.ours.fileno())
        self.ours.close()
        with self.assertRaises(framefd.BadDescriptorError):
            reader.recv()

    def test_closing(self) -> None:
        with self.reader(encoded(b"1", b"2")) as reader:
            next(iter(reader))
        reader.close()
        calls = (reader.recv, reader.recv_many, reader.recv_packet, reader.fileno)
        for call in (*calls, lambda: next(iter(reader)), lambda: reader.rest):
            with self.assertRaises(framefd.StateError):
                call()
        self.assertNotEqual(self.ours.fileno(), -1)

    def test_it_keeps_the_descriptors_object_alive(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            reader = Reader(ours)
            alive = weakref.ref(ours)
            del ours
            theirs.sendall(encoded(b"1"))
            self.assertEqual(reader.recv().body, b"1")
            sock = alive()
            assert sock is not None
            sock.close()

    def test_it_cannot_be_copied(self) -> None:
        with self.assertRaises(TypeError):
            pickle.dumps(self.reader())


class Packets(Case):
    def test_packets_of_every_prefix(self) -> None:
        for width in (1, 2, 4, 8):
            for byteorder in ("little", "big"):
                prefix = Prefix(width, byteorder, False)
                with self.subTest(prefix), support.stream() as (ours, theirs):
                    with Writer(theirs, prefix=prefix) as writer:
                        for data in (b"", b"x" * 100, bytearray(b"y")):
                            writer.send_packet(data)
                    reader = Reader(ours, prefix=prefix)
                    got = [reader.recv_packet() for _ in range(3)]
                    self.assertEqual(got, [b"", b"x" * 100, b"y"])

    def test_packets_and_frames_may_follow_each_other(self) -> None:
        framefd.send_packet(self.theirs, b"packet")
        framefd.send(self.theirs, {"n": 1}, b"frame")
        framefd.send_packet(self.theirs, b"again")
        reader = Reader(self.ours)
        self.assertEqual(reader.recv_packet(), b"packet")
        self.assertEqual(reader.recv(), ({"n": 1}, b"frame"))
        self.assertEqual(reader.recv_packet(), b"again")

    def test_limits_and_ends(self) -> None:
        framefd.send_packet(self.theirs, b"1234")
        framefd.send_packet(self.theirs, b"12345")
        reader = Reader(self.ours, max_body=4)
        self.assertEqual(reader.recv_packet(), b"1234")
        with self.assertRaises(framefd.TooBigError):
            reader.recv_packet()
        with support.stream() as (ours, theirs):
            theirs.close()
            with self.assertRaises(framefd.ClosedError):
                Reader(ours).recv_packet()


class Bodies(Case):
    def test_in_pieces(self) -> None:
        reader = self.reader(encoded(({"n": 1}, b"0123456789"), b"next"))
        with reader.recv_header() as frame:
            self.assertEqual((frame.header, frame.left), ({"n": 1}, 10))
            self.assertEqual((frame.read(4), frame.left), (b"0123", 6))
            room = bytearray(4)
            self.assertEqual((frame.readinto(room), room), (4, b"4567"))
            self.assertEqual((frame.read(), frame.read(), frame.left), (b"89", b"", 0))
        self.assertEqual(reader.recv().body, b"next")

    def test_the_block_leads_to_the_next_frame(self) -> None:
        reader = self.reader(encoded(b"x" * 1000, b"next"))
        with reader.recv_header() as frame:
            frame.read(10)
        self.assertEqual(reader.recv().body, b"next")

    def test_an_exception_in_the_block_comes_out_at_once(self) -> None:
        reader = self.reader(encoded(b"x" * 1000)[:100])
        with self.assertRaises(KeyError), reader.recv_header():
            raise KeyError  # the rest of the body never comes

    def test_the_next_frame_begins_behind_the_body(self) -> None:
        reader = self.reader(encoded(b"123", b"next"))
        frame = reader.recv_header()
        for call in (reader.recv, reader.recv_many, reader.recv_packet, reader.recv_header):
            with self.assertRaises(framefd.StateError):
                call()
        frame.skip()
        reader.recv_header()
        for late in (frame.read, frame.skip, lambda: frame.left):
            with self.assertRaises(framefd.StateError):
                late()

    def test_of_any_size(self) -> None:
        data = os.urandom(3 << 20)
        wire = encoded(({"n": 1}, data), data, b"end")
        with support.meanwhile(lambda: self.theirs.sendall(wire)):
            reader = Reader(self.ours, max_body=10)  # which is for those that are gathered
            frame = reader.recv_header()
            self.assertEqual(b"".join(iter(frame.read, b"")), data)
            with tempfile.TemporaryFile() as target, reader.recv_header() as frame:
                frame.copy_to(target)
                target.seek(0)
                self.assertEqual(target.read(), data)
            self.assertEqual(reader.recv().body, b"end")

    def test_shutil_reads_a_body(self) -> None:
        data = os.urandom(100_000)
        with support.meanwhile(lambda: self.theirs.sendall(encoded(data))):
            with tempfile.TemporaryFile() as target, Reader(self.ours).recv_header() as frame:
                shutil.copyfileobj(frame, target)
                target.seek(0)
                self.assertEqual(target.read(), data)

    def test_a_timeout_loses_nothing(self) -> None:
        data = encoded(b"0123456789")
        frame = self.reader(data[:-4]).recv_header()
        self.assertEqual(frame.read(), b"012345")
        with tempfile.TemporaryFile() as target:
            for call in (frame.read, frame.skip, partial(frame.copy_to, target)):
                with self.assertRaises(framefd.FrameTimeoutError):
                    call(timeout=0)
        self.theirs.sendall(data[-4:])
        self.assertEqual(frame.read(), b"6789")

    def test_a_body_that_is_cut(self) -> None:
        frame = self.reader(encoded(b"0123456789")[:-4]).recv_header()
        self.theirs.close()
        self.assertEqual(frame.read(), b"012345")
        for call in (frame.read, frame.skip):
            with self.assertRaises(framefd.TruncatedError):
                call()

    def test_what_cannot_be_written_to(self) -> None:
        frame = self.reader(encoded(b"1234")).recv_header()
        with self.assertRaises(BufferError):
            frame.readinto(b"1234")
        with self.assertRaises(ValueError):
            frame.read(-1)
        self.assertEqual((frame.read(0), frame.left), (b"", 4))


class Threads(Case):
    def test_another_thread_is_told_that_it_is_in_use(self) -> None:
        reader = self.reader()

        def receive() -> Frame:
            while True:
                with contextlib.suppress(framefd.BusyError):
                    return reader.recv()

        with support.meanwhile(receive) as got:
            for call in (
                lambda: reader.rest,
                lambda: reader.recv(timeout=0),
                lambda: reader.recv_many(timeout=0),
                lambda: reader.recv_packet(timeout=0),
            ):
                busy = 0
                while not busy:
                    try:
                        call()
                    except framefd.BusyError:
                        busy += 1
                    except framefd.FrameTimeoutError:
                        pass
            self.theirs.sendall(encoded(b"1"))
        self.assertEqual(got, [({}, b"1")])

    def test_it_is_not_freed_while_in_use(self) -> None:
        readers = [self.reader()]
        with support.meanwhile(readers.pop().recv) as got:
            gc.collect()
            self.theirs.sendall(encoded(b"1"))
        self.assertEqual(got, [({}, b"1")])


if __name__ == "__main__":
    unittest.main()
