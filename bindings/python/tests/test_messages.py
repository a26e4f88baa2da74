"""Messages of a connection: whole, in pieces, and in calls."""

from __future__ import annotations

import array
import contextlib
import gc
import os
import socket
import tempfile
import unittest
import unittest.mock
from collections.abc import Callable
from typing import Any

import support
from support import encoded

import framefd
from framefd import Connection, ErrorCode, Frame, Prefix


class Messages(unittest.TestCase):
    def setUp(self) -> None:
        pair = support.connections()
        self.ours, self.theirs = pair.__enter__()
        self.addCleanup(pair.__exit__, None, None, None)

    def test_of_all_kinds_in_order(self) -> None:
        sent: list[tuple[dict[str, object], bytes]] = [
            ({}, b""),
            ({}, b"x" * 100),
            ({"n": 1}, b"with a header"),
            ({}, b"x" * 2049),
            ({"ä": ["ö"]}, b""),
            ({}, b"x" * 400_000),
        ]

        def send() -> None:
            for header, body in sent:
                self.ours.send(header, body)
            for header, body in sent:
                self.ours.queue(header, body)
            self.assertEqual(self.ours.queue_many(sent), len(sent))
            self.ours.send(None, bytearray(b"bytearray"))
            self.ours.queue(None, memoryview(b"view"))
            self.ours.queue_many([array.array("H", [1, 2]), memoryview(b"8 8")[::2], b"last"])
            self.ours.end()

        with support.meanwhile(send):
            got = list(self.theirs)
        self.assertEqual(got[: 3 * len(sent)], sent * 3)
        self.assertEqual(
            [body for _, body in got[3 * len(sent) :]],
            [b"bytearray", b"view", b"\1\0\2\0", b"88", b"last"],
        )
        self.assertIs(type(got[0]), Frame)
        self.assertEqual(list(self.theirs), [])
        with self.assertRaises(framefd.ClosedError):
            self.theirs.recv()

    def test_many_more_than_one_batch(self) -> None:
        bodies = [bytes([n % 256]) * (n % 300) for n in range(5000)]
        got: list[bytes] = []

        def send() -> None:
            self.ours.queue_many(bodies)
            self.ours.flush()

        with support.meanwhile(send):
            while len(got) < len(bodies):
                frames = self.theirs.recv_many()
                self.assertLessEqual(len(frames), 256)
                got += [body for _, body in frames]
        self.assertEqual(got, bodies)

    def test_what_is_given_stays_when_more_is_read(self) -> None:
        self.ours.send({}, b"first")
        self.ours.send({"n": 1}, b"second")
        first, second = self.theirs.recv(), self.theirs.recv()
        self.ours.queue_many([b"x" * 5, b"x" * 6])
        self.ours.flush()
        self.theirs.recv_many()
        first.header["n"] = 2
        self.assertEqual((first.body, second), (b"first", ({"n": 1}, b"second")))

    def test_recv_many_has_a_limit(self) -> None:
        self.ours.queue_many([b"x"] * 10)
        self.ours.flush()
        self.assertEqual([len(self.theirs.recv_many(n)) for n in (1, 3, 1000)], [1, 3, 6])
        for most in (0, -1):
            with self.assertRaises(ValueError):
                self.theirs.recv_many(most)

    def test_nothing_is_sent_before_it_is_flushed_or_a_receive_waits(self) -> None:
        for write in (self.ours.flush, lambda: self.ours.recv(timeout=0)):
            self.ours.queue({"n": 1}, b"1")
            self.assertGreater(self.ours.inspect().queued, 0)
            with self.assertRaises(framefd.FrameTimeoutError):
                self.theirs.recv(timeout=0)
            with contextlib.suppress(framefd.FrameTimeoutError):
                write()
            self.assertEqual(self.theirs.recv(timeout=5), ({"n": 1}, b"1"))
            self.assertEqual(self.ours.inspect().queued, 0)

    def test_the_block_writes_what_is_queued_unless_an_exception_ends_it(self) -> None:
        for fails in (False, True):
            ours, theirs = map(Connection, socket.socketpair())
            with theirs, contextlib.suppress(KeyError):
                with ours:
                    ours.queue({}, b"1")
                    if fails:
                        raise KeyError
                self.assertTrue(ours.closed)
            with theirs:
                pass
        with support.connections() as (ours, theirs):
            with ours:
                ours.queue({}, b"1")
            self.assertEqual(list(theirs), [({}, b"1")])

    def test_what_is_refused_leaves_the_rest_as_it_is(self) -> None:
        refused: list[tuple[Any, type[BaseException]]] = [
            ({"data_size": 1}, framefd.MalformedError),
            ({"a": "x" * 70_000}, framefd.TooBigError),
            ({"a": float("nan")}, ValueError),
            ({"a": {1, 2}}, TypeError),
            ([1], TypeError),
            (b"a body", TypeError),
        ]
        for header, error in refused:
            for call in (self.ours.send, self.ours.queue):
                with self.assertRaises(error):
                    call(header, b"refused")
            with self.assertRaises(error):
                self.ours.queue_many([b"accepted"] * 2 + [(header, b"refused")])
        for body in ("text", 5, None):
            with self.assertRaises(TypeError):
                self.ours.send(None, body)
            with self.assertRaises(TypeError):
                self.ours.queue_many([body])
        self.ours.end()
        self.assertEqual({body for _, body in self.theirs}, {b"accepted"})

    def test_a_full_queue_accepts_nothing_and_loses_nothing(self) -> None:
        for way in ("send", "queue", "queue_many"):
            with self.subTest(way), support.connections(max_queue=200_000) as (ours, theirs):
                accepted: list[bytes] = []
                with self.assertRaises(framefd.FrameTimeoutError):
                    while True:
                        body = b"%d " % len(accepted) * 900
                        if way == "queue_many":
                            bodies = [body, body + b".", body + b"..", body]
                            accepted += bodies[: ours.queue_many(bodies, timeout=0)]
                        else:
                            getattr(ours, way)(None, body, timeout=0)
                            accepted.append(body)
                if way != "send":
                    with self.assertRaises(framefd.FrameTimeoutError):
                        ours.flush(timeout=0)
                with support.meanwhile(lambda: list(theirs)) as got:
                    ours.flush()
                    ours.end()
                self.assertEqual([body for _, body in got[0]], accepted)

    def test_two_ends_that_send_to_each_other_do_not_wait_for_each_other(self) -> None:
        def talk(connection: Connection) -> int:
            for n in range(40):
                connection.send({"n": n}, b"x" * (256 << 10))
            return sum(len(connection.recv().body) for _ in range(40))

        with support.meanwhile(lambda: talk(self.theirs)) as got:
            size = talk(self.ours)
        self.assertEqual((size, got), (40 * (256 << 10), [size]))

    def test_a_timeout_loses_nothing(self) -> None:
        data = encoded(({"n": 1}, b"12"), b"", b"345")
        whole = [({"n": 1}, b"12"), ({}, b""), ({}, b"345")]
        for at in range(len(data)):
            ours, theirs = socket.socketpair()
            with self.subTest(at), theirs, Connection(ours, timeout=0) as connection:
                theirs.sendall(data[:at])
                got = []
                with self.assertRaises(framefd.FrameTimeoutError):
                    while True:
                        got += connection.recv_many()
                self.assertLess(len(got), 3)
                theirs.sendall(data[at:])
                theirs.close()
                self.assertEqual(got + list(connection), whole)

    def test_a_stream_that_is_cut_at_any_byte(self) -> None:
        data = encoded(b"123")
        for at in range(1, len(data)):
            ours, theirs = socket.socketpair()
            with self.subTest(at), Connection(ours) as connection:
                theirs.sendall(data + data[:at])
                theirs.close()
                self.assertEqual(connection.recv().body, b"123")
                with self.assertRaises(framefd.TruncatedError):
                    connection.recv()
                with self.assertRaises(framefd.BrokenError):
                    connection.recv()

    def test_messages_before_an_error_come_first(self) -> None:
        for bad, kind in (
            (b"\xff\xff\xff\xff", framefd.MalformedError),
            (b"\2\0\0\0[]", framefd.MalformedError),
            (b"\1\0\1\0", framefd.TooBigError),
        ):
            ours, theirs = socket.socketpair()
            with self.subTest(bad[:6]), theirs, Connection(ours) as connection:
                theirs.sendall(encoded(b"1", b"2") + bad)
                got = [frame.body for frame in connection.recv_many()]
                self.assertEqual(got, [b"1", b"2"])
                with self.assertRaises(kind):
                    connection.recv()
                with self.assertRaises(framefd.BrokenError):
                    connection.send()
                self.assertNotEqual(connection.inspect().broken, 0)

    def test_a_number_beyond_json_breaks_the_connection(self) -> None:
        ours, theirs = socket.socketpair()
        digits = b'{"n":' + b"1" * 5000 + b"}"
        with theirs, Connection(ours) as connection:
            theirs.sendall(len(digits).to_bytes(4, "little") + digits)
            with self.assertRaises(framefd.MalformedError):
                connection.recv()

    def test_limits(self) -> None:
        for options in ({"max_body": 4}, {"max_header": 20}, {"max_depth": 1}):
            with self.subTest(options), support.connections(**options) as (ours, theirs):
                theirs.send({}, b"ok")
                theirs.send({"deep": {"n": "long enough"}}, b"12345")
                self.assertEqual(ours.recv().body, b"ok")
                with self.assertRaises((framefd.TooBigError, framefd.MalformedError)):
                    ours.recv()

    def test_what_was_read_ahead_is_given_back(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, Connection(ours) as connection:
            theirs.sendall(encoded(b"upgrade") + b"and now for something else")
            self.assertEqual(connection.recv().body, b"upgrade")
            self.assertEqual(connection.unread(), b"and now for something else")
            with self.assertRaises(framefd.StateError):
                connection.recv()

    def test_exactly_a_message_is_read(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, ours, Connection(ours, own=False, exact=True) as connection:
            theirs.sendall(encoded(b"upgrade") + b"rest")
            self.assertEqual(connection.recv().body, b"upgrade")
            self.assertEqual(ours.recv(100), b"rest")

    def test_packets_of_every_prefix(self) -> None:
        for width in (1, 2, 4, 8):
            for byteorder in ("little", "big"):
                prefix = Prefix(width, byteorder, False)
                ours, theirs = socket.socketpair()
                with Connection(ours, prefix=prefix) as near, theirs:
                    with Connection(theirs, prefix=prefix) as far:
                        for data in (b"", b"x" * 100, bytearray(b"y")):
                            near.send(None, data)
                            self.assertEqual(far.recv(), ({}, data))
                        near.queue_many([b"1", b"2"])
                        near.flush()
                        self.assertEqual(far.recv_many(), [({}, b"1"), ({}, b"2")])
                        with self.assertRaises(framefd.StateError):
                            far.recv_header(timeout=0)


class Bodies(unittest.TestCase):
    def setUp(self) -> None:
        pair = support.connections()
        self.ours, self.theirs = pair.__enter__()
        self.addCleanup(pair.__exit__, None, None, None)

    def test_in_pieces(self) -> None:
        self.ours.begin({"n": 1}, 10)
        self.assertEqual(self.ours.write(b"01234"), 5)
        self.assertEqual(self.ours.to_send, 5)
        with self.assertRaises(framefd.ArgumentError):
            self.ours.write(b"567890")
        for call in (self.ours.send, self.ours.end, lambda: self.ours.begin({}, 1)):
            with self.assertRaises(framefd.StateError):
                call()
        self.assertEqual(self.ours.write(memoryview(b"567")), 3)
        self.assertEqual(self.ours.write(bytearray(b"89")), 2)
        self.ours.send({}, b"next")
        head = self.theirs.recv_header()
        self.assertEqual((head.header, head.body_len), ({"n": 1}, 10))
        self.assertEqual((self.theirs.read(4), self.theirs.to_receive), (b"0123", 6))
        room = bytearray(4)
        self.assertEqual((self.theirs.readinto(room), room), (4, b"4567"))
        self.assertEqual((self.theirs.read(0), self.theirs.to_receive), (b"", 2))
        self.assertEqual([*self.theirs.pieces(), self.theirs.read()], [b"89", b""])
        self.assertEqual(self.theirs.recv().body, b"next")

    def test_a_body_keeps_its_connection_open(self) -> None:
        ours, theirs = socket.socketpair()
        framefd.send(theirs, {}, b"body")

        def body() -> Any:
            connection = Connection(ours.detach())
            connection.recv_header()
            return connection.pieces()

        pieces = body()
        gc.collect()
        with tempfile.TemporaryFile() as other:  # it does not get the descriptor's number
            other.write(b"another body")
            other.seek(0)
            self.assertEqual(b"".join(pieces), b"body")
        del pieces
        gc.collect()
        self.assertEqual(theirs.recv(1), b"", "nobody has it any more")
        theirs.close()

    def test_a_body_ends_with_its_connection(self) -> None:
        with support.connections() as (ours, theirs):
            theirs.send({}, b"body")
            ours.recv_header()
            ours.begin({}, 9)
            ours.close()
            with tempfile.TemporaryFile() as other:
                calls = (lambda: ours.write(b"SECRET"), ours.read, lambda: next(ours.pieces()))
                for call in calls:
                    with self.assertRaisesRegex(framefd.StateError, "closed"):
                        call()
                self.assertEqual(other.read(), b"")

    def test_what_is_left_of_a_body_is_dropped(self) -> None:
        self.ours.send({}, b"x" * 1000)
        self.ours.send({}, b"next")
        self.theirs.recv_header()
        self.theirs.read(10)
        self.assertEqual(self.theirs.recv().body, b"next")

    def test_a_body_of_a_terabyte_is_only_a_number(self) -> None:
        self.ours.begin({}, 1 << 40)
        self.ours.write(b"begin")
        self.assertEqual(self.theirs.recv_header().body_len, 1 << 40)
        self.assertEqual(self.theirs.read(1 << 40), b"begin")
        for wrong in (-1, 2**64):
            with self.assertRaises(ValueError):
                self.theirs.begin({}, wrong)

    def test_from_file_to_file(self) -> None:
        data = os.urandom(3_000_000)
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(data)
            source.seek(0)

            def send() -> None:
                self.ours.begin({}, len(data))
                self.assertEqual(self.ours.write_from(source, 1000), 1000)
                self.assertEqual(self.ours.write_from(source), len(data) - 1000)

            with support.meanwhile(send):
                self.theirs.recv_header()
                self.assertEqual(self.theirs.read_to(target), len(data))
            target.seek(0)
            self.assertEqual(target.read(), data)

    def test_file_objects_stay_in_step_with_their_descriptors(self) -> None:
        with tempfile.NamedTemporaryFile("w+b") as file:
            file.write(b"line 1\nline 2\nline 3\n")
            file.flush()
            with open(file.name, "rb") as source:
                self.assertEqual(source.readline(), b"line 1\n")  # has read all of it ahead
                self.ours.begin({}, 7)
                self.ours.write_from(source)
                self.assertEqual(source.readline(), b"line 3\n")
            with open(file.name) as text, self.assertRaises(TypeError):
                self.ours.begin({}, 0)
                self.ours.write_from(text)
        with tempfile.NamedTemporaryFile("w+") as text_target:
            text_target.write("before ")  # still in the object's buffer
            self.theirs.recv_header()
            self.theirs.read_to(text_target)
            text_target.write("after")
            text_target.seek(0)
            self.assertEqual(text_target.read(), "before line 2\nafter")

    def test_a_source_that_ends_early(self) -> None:
        with tempfile.TemporaryFile() as source:
            source.write(b"123")
            source.seek(0)
            self.ours.begin({}, 5)
            self.assertEqual(self.ours.write_from(source), 3)
            self.assertEqual(self.ours.to_send, 2)
            self.ours.write(b"45")
        self.assertEqual(self.theirs.recv().body, b"12345")

    def test_a_target_that_cannot_be_written_leaves_the_body(self) -> None:
        self.ours.send({}, b"12345")
        self.theirs.recv_header()
        with open("/dev/full", "wb", 0) as full, self.assertRaises(framefd.NoSpaceError):
            self.theirs.read_to(full)
        self.ours.send({}, b"next")
        self.assertEqual(self.theirs.recv().body, b"next")

    def test_reading_into_what_cannot_be_written(self) -> None:
        self.ours.send({}, b"1234")
        self.theirs.recv_header()
        for room in (b"1234", memoryview(b"1234")):
            with self.assertRaises(BufferError):
                self.theirs.readinto(room)
        with self.assertRaises(ValueError):
            self.theirs.read(-1)
        self.assertEqual(self.theirs.to_receive, 4)


class Calls(unittest.TestCase):
    def served(self, *answers: Callable[[Connection, Frame], None]) -> Any:
        """A connection whose requests are answered in turn."""
        stack = contextlib.ExitStack()
        ours, theirs = stack.enter_context(support.connections(timeout=20))

        def serve() -> None:
            for answer in answers:
                answer(theirs, theirs.recv())
                theirs.flush()

        stack.enter_context(support.meanwhile(serve))
        self.addCleanup(stack.close)
        return ours

    def test_a_reply(self) -> None:
        connection = self.served(
            lambda c, r: c.reply(r, {"n": len(r.body)}, r.body), lambda c, r: c.reply(r.header)
        )
        header, body = connection.call("add", body=b"12")
        self.assertEqual((header["status"], header["n"], body), ("ok", 2, b"12"))
        self.assertEqual(connection.call("x", {"n": 1}).body, b"")

    def test_an_error_reply_is_its_exception(self) -> None:
        connection = self.served(
            lambda c, r: c.reply_error(r, ErrorCode.NOENT, "no such thing"),
            lambda c, r: c.reply_error(r, framefd.DeniedError(ErrorCode.ACCES, "not you")),
            lambda c, r: c.reply(r),
        )
        with self.assertRaisesRegex(FileNotFoundError, "no such thing") as missing:
            connection.call("x")
        self.assertTrue(missing.exception.remote)  # type: ignore[attr-defined]
        with self.assertRaisesRegex(framefd.DeniedError, "not you"):
            connection.call("x")
        connection.call("x")

    def test_an_error_reply_to_what_was_no_message(self) -> None:
        with support.connections() as (ours, theirs):
            theirs.reply_error(None, ErrorCode.BADJSON)
            theirs.flush()
            header = ours.recv().header
            self.assertEqual((header["code"], "id" in header), ("bad_request", False))
            with self.assertRaises(ValueError):
                theirs.reply_error(None, ErrorCode.IO, "a NUL: \0")

    def test_what_answers_something_else_breaks_the_connection(self) -> None:
        connection = self.served(lambda c, r: c.reply({"id": "another"}))
        with self.assertRaises(framefd.MalformedError):
            connection.call("x")
        with self.assertRaisesRegex(framefd.BrokenError, "another request"):
            connection.call("x")

    def test_a_refusal_is_heard_while_the_request_is_sent(self) -> None:
        ours, theirs = socket.socketpair()

        def refuse() -> None:
            theirs.recv(1)
            framefd.send(theirs, {"status": "error", "code": "too_big", "id": "~1"})
            theirs.close()

        with Connection(ours) as connection:
            with support.meanwhile(refuse), self.assertRaises(framefd.TooBigError) as big:
                connection.call("x", body=bytes(8 << 20), timeout=20)
            self.assertTrue(big.exception.remote)
            with self.assertRaises(framefd.BrokenError):
                connection.call("x")

    def test_a_call_that_times_out_breaks_the_connection(self) -> None:
        with support.connections() as (ours, theirs):
            with self.assertRaises(framefd.FrameTimeoutError):
                ours.call("x", timeout=0.01)
            theirs.reply(theirs.recv(), {}, b"late")
            theirs.flush()
            for call in (lambda: ours.call("y"), ours.recv, lambda: ours.run("true")):
                with self.assertRaisesRegex(ConnectionError, "timed out"):
                    call()

    def test_what_is_no_request(self) -> None:
        with support.connections() as (ours, _):
            for wrong in ({"id": 1}, {"cmd": "y"}, {"data_size": 1}):
                with self.assertRaises(ValueError):
                    ours.call("x", wrong)
            with self.assertRaises(framefd.ArgumentError):
                ours.call("x", timeout=0)


if __name__ == "__main__":
    unittest.main()
