"""Writing through a queue: what is sent when, what is refused, and writers tied to readers."""

from __future__ import annotations

import array
import contextlib
import gc
import select
import socket
import tempfile
import unittest
import warnings
from collections.abc import Callable
from functools import partial

import support

import framefd
from framefd import Frame, Reader, Writer


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def has_come(self) -> bool:
        return bool(select.select([self.theirs], [], [], 0)[0])

    def received(self) -> list[Frame]:
        """All that was sent."""
        self.ours.shutdown(socket.SHUT_WR)
        return list(Reader(self.theirs))


class Frames(Case):
    def test_of_all_kinds_in_order(self) -> None:
        text = memoryview(b"a body")
        sent: list[tuple[dict[str, object], bytes]] = [
            ({}, b""),
            ({}, b"x" * 100),
            ({"n": 1}, b"with a header"),
            ({}, b"x" * 2048),
            ({}, b"x" * 2049),
            ({"ä": ["ö"]}, b""),
            ({}, b"x" * 40_000),
            ({}, b"last"),
        ]
        with Writer(self.ours) as writer:
            for header, body in sent:
                writer.send(header, body)
            writer.send(None, bytearray(b"bytearray"))
            writer.send(body=text)
            writer.send(body=array.array("H", [1, 2]))
            writer.send()
            sent += [({}, b"bytearray"), ({}, b"a body"), ({}, b"\1\0\2\0"), ({}, b"")]
        self.assertEqual(self.received(), sent)

    def test_many(self) -> None:
        frames = [b"1", ({"n": 2}, b"2"), bytearray(b"3"), Frame({}, b"4"), (None, b"5")]
        with Writer(self.ours) as writer:
            self.assertEqual(writer.send_many([]), 0)
            self.assertEqual(writer.send_many(frames), 5)
            self.assertEqual(writer.send_many(iter([b"6", array.array("H", [1])])), 2)
            writer.send(body=b"between")
            self.assertEqual(writer.send_many([b"7"] * 3 + [memoryview(b"8 8")[::2]]), 4)
            self.assertEqual(writer.send_many([b"large" * 10_000] * 2 + [b"small"] * 3), 5)
        got = self.received()
        bodies = (
            [b"1", b"2", b"3", b"4", b"5", b"6", b"\1\0", b"between"] + [b"7"] * 3 + [b"88"]
        )
        bodies += [b"large" * 10_000] * 2 + [b"small"] * 3
        self.assertEqual([frame.body for frame in got], bodies)
        self.assertEqual([frame.header for frame in got if frame.header], [{"n": 2}])

    def test_more_than_are_kept_at_once(self) -> None:
        bodies = [b"%d" % n for n in range(10_000)]
        with support.meanwhile(lambda: list(Reader(self.theirs))) as got:
            with Writer(self.ours) as writer:
                for body in bodies[:5000]:
                    writer.send(body=body)
                self.assertEqual(writer.send_many(bodies[5000:]), 5000)
            self.ours.close()
        self.assertEqual([frame.body for frame in got[0]], bodies)

    def test_a_body_may_be_changed_once_it_was_sent(self) -> None:
        body = bytearray(b"before")
        with Writer(self.ours) as writer:
            writer.send(None, body)
            writer.send_many([body, (None, body)])
            body[:] = b"later!"
        self.assertEqual([frame.body for frame in self.received()], [b"before"] * 3)

    def test_nothing_is_sent_before_it_is_flushed(self) -> None:
        writer = Writer(self.ours)
        writer.send(body=b"1")
        writer.send({"n": 1}, b"2")
        writer.send(body=b"3")
        self.assertFalse(self.has_come())
        left = writer.left
        writer.flush()
        self.assertEqual((writer.left, len(self.theirs.recv(1000))), (0, left))
        writer.flush()

    def test_it_is_sent_as_the_queue_fills_up(self) -> None:
        writer = Writer(self.ours)
        for size, times in ((300, 300), (10_000, 10)):
            with self.subTest(size):
                for _ in range(times):
                    if self.has_come():
                        break
                    writer.send(body=b"x" * size)
                self.assertTrue(self.has_come())
                with support.meanwhile(lambda: self.ours.sendall(b"end")):
                    got = b""
                    while not got.endswith(b"end"):
                        got += self.theirs.recv(1 << 20)
        writer.flush()

    def test_what_is_refused_leaves_the_rest_as_it_is(self) -> None:
        writer = Writer(self.ours, max_header=40)
        writer.send(body=b"1")
        for header, error in (
            ({"data_size": 1}, framefd.MalformedError),
            ({"a": "x" * 50}, framefd.TooBigError),
            ({"a": float("nan")}, ValueError),
            ({"a": {1, 2}}, TypeError),
        ):
            with self.assertRaises(error):
                writer.send(header, b"refused")
            with self.assertRaises(error):
                writer.send_many([b"accepted"] * 2 + [(header, b"refused")])
        for body in ("text", 5, None):
            with self.assertRaises(TypeError):
                writer.send(body=body)
            with self.assertRaises(TypeError):
                writer.send_many([body])
        writer.close()
        bodies = [frame.body for frame in self.received()]
        self.assertEqual(bodies[0], b"1")
        self.assertEqual(set(bodies[1:]), {b"accepted"})

    def test_a_packet(self) -> None:
        prefix = framefd.Prefix(1)
        with Writer(self.ours, prefix=prefix) as writer:
            writer.send(body=b"frame")
            writer.send_packet(b"packet")
            writer.send_packet()
            with self.assertRaises(framefd.TooBigError):
                writer.send_packet(b"x" * 128)
            writer.send(body=b"frame")
        reader = Reader(self.theirs, prefix=prefix)
        self.assertEqual(reader.recv().body, b"frame")
        self.assertEqual([reader.recv_packet(), reader.recv_packet()], [b"packet", b""])
        self.assertEqual(reader.recv().body, b"frame")


class Queue(Case):
    def test_a_full_queue_accepts_nothing_and_loses_nothing(self) -> None:
        for blocking in (True, False):
            for ways in ("one", "many", "headers", "large"):
                with self.subTest((blocking, ways)), support.stream() as (ours, theirs):
                    ours.setblocking(blocking)
                    self.fill(ours, theirs, ways)

    def fill(self, ours: socket.socket, theirs: socket.socket, ways: str) -> None:
        writer = Writer(ours, timeout=0)
        accepted: list[bytes] = []
        with self.assertRaises(framefd.FrameTimeoutError):
            while True:
                body = b"%d " % len(accepted) * (9000 if ways == "large" else 100)
                if ways == "many":
                    bodies = [body, body + b".", body + b"..", body]
                    accepted += bodies[: writer.send_many(bodies)]
                else:
                    writer.send({"n": 1} if ways == "headers" else None, body)
                    accepted.append(body)
        with self.assertRaises(framefd.FrameTimeoutError):
            writer.flush()
        left = writer.left
        self.assertGreater(left, 0)
        with support.meanwhile(lambda: list(Reader(theirs))) as got:
            writer.flush(timeout=10)
            ours.shutdown(socket.SHUT_WR)
        self.assertEqual([frame.body for frame in got[0]], accepted)

    def test_one_time_is_for_the_whole_call(self) -> None:
        writer = Writer(self.ours, timeout=0)
        with self.assertRaises(framefd.FrameTimeoutError):
            while True:
                writer.send(body=b"x" * 2048)
        with self.assertRaises(framefd.FrameTimeoutError):
            writer.flush(timeout=0.01)
        with self.assertRaises(framefd.FrameTimeoutError):
            writer.send(body=b"x", timeout=0.01)
        with self.assertRaises(ValueError):
            writer.flush(timeout=-1)
        writer._let_go()

    def test_an_end_that_is_gone(self) -> None:
        writer = Writer(self.ours)
        self.theirs.close()
        writer.send(body=b"1")
        calls: list[Callable[[], object]]
        calls = [writer.flush, writer.flush, lambda: writer.send({"n": 1}), writer.close]
        for call in calls:
            with self.assertRaises(framefd.DisconnectedError):
                call()
        writer.close()

    def test_closing(self) -> None:
        writer = Writer(self.ours)
        writer.send(body=b"1")
        writer.close()
        writer.close()
        calls: list[Callable[[], object]]
        calls = [writer.send, writer.flush, writer.send_packet, writer.fileno]
        calls += [lambda: writer.send_many([]), lambda: writer.left]
        for call in calls:
            with self.subTest(call), self.assertRaises(framefd.StateError):
                call()
        self.assertEqual([frame.body for frame in self.received()], [b"1"])

    def test_an_exception_in_the_block_drops_what_is_queued(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with self.assertRaises(KeyError), Writer(self.ours) as writer:
                writer.send(body=b"1")
                raise KeyError
            del writer
            gc.collect()
        self.assertEqual(self.received(), [])

    def test_a_writer_that_goes_away_with_its_queue_warns_and_writes_nothing(self) -> None:
        for header in (None, {"n": 1}):
            writer = Writer(self.ours)
            writer.send(header, b"1")
            with self.assertWarns(ResourceWarning):
                del writer
                gc.collect()
        self.assertEqual(self.received(), [])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            writer = Writer(self.ours)
            del writer
            gc.collect()

    def test_descriptors(self) -> None:
        with self.assertRaises(framefd.BadDescriptorError):
            Writer(-1)
        with self.assertRaises(ValueError):
            Writer(self.ours, max_header=0)
        with tempfile.TemporaryFile() as file:
            with Writer(file) as writer:
                self.assertEqual(writer.fileno(), file.fileno())
                writer.send(body=b"1")
            file.seek(0)
            self.assertEqual(framefd.recv(file).body, b"1")

    def test_another_thread_is_told_that_it_is_in_use(self) -> None:
        writer = Writer(self.ours, timeout=0)
        with self.assertRaises(framefd.FrameTimeoutError):
            while True:
                writer.send(body=b"x" * 1000)

        def flush() -> None:
            while True:
                with contextlib.suppress(framefd.BusyError):
                    writer.flush(timeout=20)
                    self.ours.shutdown(socket.SHUT_WR)
                    return

        with support.meanwhile(flush):
            for call in (
                writer.flush,
                lambda: writer.left,
                lambda: writer.send({"n": 1}),
                lambda: writer.send_many([b"1"]),
                lambda: writer.send(body=b"1"),
            ):
                busy = 0
                while not busy:
                    try:
                        call()
                    except framefd.BusyError:
                        busy += 1
                    except framefd.FrameTimeoutError:
                        pass
            self.assertGreater(len(list(Reader(self.theirs))), 0)
        writer.close()


class Tied(Case):
    def test_a_reader_sends_what_is_queued_before_it_waits(self) -> None:
        def answer(is_packet: bool) -> None:
            self.assertEqual(framefd.recv(self.theirs).body, b"question")
            if is_packet:
                framefd.send_packet(self.theirs, b"answer")
            else:
                framefd.send(self.theirs, None, b"answer")

        with Writer(self.ours) as writer, Reader(self.ours) as reader:
            reader.tie(writer)
            takes: list[Callable[[], object]] = [
                reader.recv,
                reader.recv_many,
                reader.__iter__().__next__,
                lambda: reader.recv_header().read(),
                reader.recv_packet,
            ]
            for take in takes:
                for header in (None, {"n": 1}):
                    writer.send(header, b"question")

                    is_packet = take == reader.recv_packet
                    with self.subTest(take), support.meanwhile(partial(answer, is_packet)):
                        take()

    def test_two_ends_that_write_to_each_other_do_not_wait_for_each_other(self) -> None:
        def talk(sock: socket.socket) -> int:
            with Reader(sock) as reader, Writer(sock) as writer:
                reader.tie(writer)
                for n in range(40):
                    writer.send({"n": n}, b"x" * (256 << 10))
                for _ in range(2000):
                    writer.send(body=b"y" * 1000)
                writer.flush()
                return sum(len(frame.body) for _, frame in zip(range(2040), reader))

        with support.meanwhile(lambda: talk(self.theirs)) as got:
            size = talk(self.ours)
        self.assertEqual((size, got), (40 * (256 << 10) + 2_000_000, [size]))

    def test_of_two_descriptors(self) -> None:
        with support.stream() as (ours, theirs):
            with Reader(self.ours) as reader, Writer(ours) as writer:
                reader.tie(writer)
                writer.send(body=b"1")
                with self.assertRaises(framefd.FrameTimeoutError):
                    reader.recv(timeout=0.01)
                self.assertEqual(framefd.recv(theirs, timeout=0).body, b"1")

    def test_untying(self) -> None:
        writer, other = Writer(self.ours), Writer(self.ours)
        reader, second = Reader(self.ours), Reader(self.ours)

        def is_tied(reader: Reader, writer: Writer) -> bool:
            writer.send(body=b"1")
            with self.assertRaises(framefd.FrameTimeoutError):
                reader.recv(timeout=0)
            came = self.has_come()
            writer.flush()
            framefd.recv(self.theirs)
            return came

        steps: list[tuple[Callable[[], None], bool]] = [
            (lambda: None, False),
            (lambda: reader.tie(writer), True),
            (lambda: reader.tie(writer), True),
            (lambda: reader.tie(None), False),
            (lambda: reader.tie(writer), True),
            (lambda: reader.tie(other), False),
            (lambda: reader.tie(writer), True),
            (lambda: second.tie(writer), False),
            (lambda: second.tie(None), False),
        ]
        for tie, tied in steps:
            tie()
            self.assertEqual(is_tied(reader, writer), tied)
        reader.tie(writer)
        writer.close()
        with self.assertRaises(framefd.FrameTimeoutError):
            reader.recv(timeout=0)
        with self.assertRaises(framefd.StateError):
            reader.tie(writer)
        reader.tie(other)
        reader.close()
        other.send(body=b"1")
        other.close()
        second.close()

    def test_a_writer_that_fails_does_not_hide_what_came(self) -> None:
        reader, writer = Reader(self.ours), Writer(self.ours)
        reader.tie(writer)
        framefd.send(self.theirs, None, b"last words")
        self.theirs.close()
        writer.send(body=b"1")
        self.assertEqual(reader.recv().body, b"last words")
        with self.assertRaises(framefd.DisconnectedError):
            writer.flush()
        writer._let_go()

    def test_one_thread_at_a_time_uses_either(self) -> None:
        reader, writer = Reader(self.ours), Writer(self.ours)
        reader.tie(writer)

        def receive() -> Frame:
            while True:
                with contextlib.suppress(framefd.BusyError):
                    return reader.recv()

        with support.meanwhile(receive):
            busy = 0
            while not busy:
                try:
                    writer.flush()
                except framefd.BusyError:
                    busy += 1
            framefd.send(self.theirs)
        reader.tie(None)
        with support.meanwhile(receive):
            writer.send(body=b"1")
            writer.flush()
            framefd.send(self.theirs)

    def test_each_keeps_the_other_alive(self) -> None:
        for keep in (0, 1):
            with self.subTest(keep), support.stream() as (ours, theirs):
                reader, writer = Reader(ours), Writer(ours)
                reader.tie(writer)
                kept = (reader, writer)[keep]
                del reader, writer
                gc.collect()
                framefd.send(theirs, None, b"1")
                if isinstance(kept, Reader):
                    self.assertEqual(kept.recv().body, b"1")
                else:
                    kept.send({"n": 1}, b"1")
                    kept.flush()
                    self.assertEqual(framefd.recv(theirs).header, {"n": 1})


if __name__ == "__main__":
    unittest.main()
