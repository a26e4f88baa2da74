"""Messages in asyncio: what comes, what goes, and what is cancelled."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import unittest
from collections.abc import Callable
from typing import Any

from aio_case import Case, a_moment, soon
from support import encoded

import framefd


class Receiving(Case):
    async def test_messages_up_to_the_end(self) -> None:
        connection, theirs = await self.connected()
        sent = [({}, b""), ({"n": 1}, b"x"), ({}, b"y" * 5000), ({"ä": [1]}, b"")]
        await self.write(theirs, encoded(*sent))
        self.assertEqual([await soon(connection.recv()) for _ in sent[:2]], sent[:2])
        theirs.close()
        self.assertEqual([frame async for frame in connection], sent[2:])
        for _ in range(2):
            with self.assertRaises(framefd.ClosedError):
                await soon(connection.recv())

    async def test_many_more_than_one_batch(self) -> None:
        connection, theirs = await self.connected()
        bodies = [b"%d" % n for n in range(5000)]
        writing = asyncio.ensure_future(self.write(theirs, encoded(*bodies)))
        self.assertEqual(await self.received(connection, 2000), bodies[:2000])
        got: list[bytes] = []
        while len(got) < 3000:
            got += [body for _, body in await soon(connection.recv_many())]
        self.assertEqual(got, bodies[2000:])
        await writing

    async def test_messages_that_are_cut_at_any_byte_wait_for_the_rest(self) -> None:
        data = encoded(({"n": 1}, b"12"), b"345")
        for at in range(1, len(data)):
            with self.subTest(at):
                connection, theirs = await self.connected()
                await self.write(theirs, data[:at])
                first = asyncio.ensure_future(connection.recv())
                await asyncio.sleep(0.001)
                await self.write(theirs, data[at:])
                self.assertEqual(await soon(first), ({"n": 1}, b"12"))
                self.assertEqual((await soon(connection.recv())).body, b"345")

    async def test_messages_that_come_byte_by_byte(self) -> None:
        connection, theirs = await self.connected()
        for byte in encoded(({"n": 1}, b"12")):
            task = asyncio.ensure_future(connection.recv())
            await asyncio.sleep(0.001)
            self.assertFalse(task.done())
            task.cancel()  # and the next one may begin before this one has run
            await self.write(theirs, bytes([byte]))
        self.assertEqual(await soon(connection.recv()), ({"n": 1}, b"12"))

    async def test_large_bodies(self) -> None:
        connection, theirs = await self.connected()
        body = os.urandom(5 << 20)
        writing = asyncio.ensure_future(self.write(theirs, encoded(b"a", body, b"b")))
        self.assertEqual(await self.received(connection, 3), [b"a", body, b"b"])
        await writing

    async def test_bodies_in_pieces(self) -> None:
        connection, theirs = await self.connected()
        body = os.urandom(3 << 20)
        writing = asyncio.ensure_future(self.write(theirs, encoded(({"n": 1}, body), b"next")))
        head = await soon(connection.recv_header())
        self.assertEqual((head.header, head.body_len), ({"n": 1}, len(body)))
        room = bytearray(10)
        count = await soon(connection.readinto(room))
        got = bytes(room[:count]) + await soon(connection.read(100))
        async for piece in connection.pieces():
            got += piece
        self.assertTrue(got == body)
        self.assertEqual((await soon(connection.recv())).body, b"next")
        await writing

    async def test_a_loop_over_a_body_is_left_when_it_is_cancelled(self) -> None:
        connection, theirs = await self.connected()
        await self.write(theirs, encoded(b"x" * 1000)[:-1])

        async def read() -> None:
            async with connection:
                await connection.recv_header()
                async for _ in connection.pieces():
                    pass

        begin = time.monotonic()
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(read(), 0.1)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertTrue(connection.closed)

    async def test_a_stream_that_is_cut(self) -> None:
        connection, theirs = await self.connected()
        await self.write(theirs, encoded(b"1") + encoded(b"2")[:-1])
        theirs.close()
        self.assertEqual((await soon(connection.recv())).body, b"1")
        with self.assertRaises(framefd.TruncatedError):
            await soon(connection.recv())
        with self.assertRaises(framefd.BrokenError):
            async for _ in connection:
                pass

    async def test_what_is_no_message_comes_after_those_before_it(self) -> None:
        for bad, options, error in (
            (b"\xff\xff\xff\xff", {}, framefd.MalformedError),
            (b"\2\0\0\0[]", {}, framefd.MalformedError),
            (encoded(b"12345"), {"max_body": 4}, framefd.TooBigError),
            (encoded(({"long": "header"}, b"")), {"max_header": 20}, framefd.TooBigError),
            (encoded(({"deep": [[]]}, b"")), {"max_depth": 2}, framefd.MalformedError),
        ):
            for is_waiting in (True, False):
                with self.subTest((bad, is_waiting)):
                    connection, theirs = await self.connected(**options)
                    task = await self.wait_for_nothing(connection) if is_waiting else None
                    await self.write(theirs, encoded(b"1", b"2") + bad)
                    await a_moment()
                    got = [await soon(task or connection.recv())]
                    got += [await soon(connection.recv())]
                    self.assertEqual([frame.body for frame in got], [b"1", b"2"])
                    with self.assertRaises(error):
                        await soon(connection.recv())

    async def test_a_peer_that_resets(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            connection = await self.client(f"127.0.0.1:{listener.getsockname()[1]}", own=False)
            theirs, _ = listener.accept()
        task = await self.wait_for_nothing(connection)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with self.assertRaises(framefd.DisconnectedError) as caught:
            await soon(task)
        self.assertIsInstance(caught.exception, ConnectionError)
        with self.assertRaises(ConnectionError):
            await soon(connection.send())

    async def test_with_a_timeout(self) -> None:
        connection, theirs = await self.connected()
        for _ in range(2):
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.recv(), 0.01)
        await self.write(theirs, encoded(b"1"))
        self.assertEqual((await soon(connection.recv())).body, b"1")

    async def test_a_receive_may_follow_a_cancelled_one_at_once(self) -> None:
        """The cancelled task has not run yet then, whichever version of Python this is."""
        connection, theirs = await self.connected()
        calls: list[Callable[[], Any]] = [
            connection.recv,
            connection.recv_many,
            connection.recv_header,
            lambda: connection.__anext__(),
        ]
        for first in calls:
            for second in calls:
                task = asyncio.ensure_future(first())
                await a_moment()
                task.cancel()
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(second(), 0.01)
                self.assertTrue(task.cancelled())
        await self.write(theirs, encoded(b"1"))
        self.assertEqual((await soon(connection.recv())).body, b"1")

    async def test_one_task_at_a_time(self) -> None:
        connection, theirs = await self.connected()
        task = await self.wait_for_nothing(connection)
        for call in (connection.recv, connection.recv_header, lambda: connection.call("x")):
            with self.assertRaises(framefd.BusyError):
                await soon(call())
        await self.write(theirs, encoded(b"1"))
        self.assertEqual((await soon(task)).body, b"1")

    async def test_a_connection_that_is_ended_while_a_task_receives(self) -> None:
        for end, error in (("close", framefd.StateError), ("abort", framefd.AbortedError)):
            connection, _ = await self.connected()
            task = await self.wait_for_nothing(connection)
            getattr(connection, end)()
            with self.assertRaises(error):
                await soon(task)
            with self.assertRaises(error):
                await soon(connection.send())

    async def test_a_peer_that_never_pauses_leaves_turns_to_other_tasks(self) -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        connection, theirs = await self.connected()
        await self.write(theirs, encoded(*[b""] * 1000))
        task = asyncio.ensure_future(other())
        for _ in range(1000):
            await connection.recv()
        self.assertGreater(turns, 5)
        task.cancel()


class Sending(Case):
    async def test_of_all_kinds(self) -> None:
        connection, theirs = await self.connected()
        large = os.urandom(100_000)
        body = bytearray(b"before")

        async def send() -> None:
            await connection.send()
            await connection.send({"n": 1}, b"x")
            await connection.send(None, body)
            await connection.send({"ä": "ö"}, memoryview(large))
            await connection.queue({"n": 2}, b"2")
            await connection.queue_many(
                [b"1", framefd.Frame({}, b"3"), memoryview(b"4 4")[::2]]
            )
            await connection.queue_many([])
            await connection.flush()
            await connection.begin({"n": 3}, 6)
            await connection.write(b"abc")
            await connection.write(memoryview(b"def"))
            await connection.end()

        sending = asyncio.ensure_future(send())
        expected = encoded(
            b"",
            ({"n": 1}, b"x"),
            b"before",
            ({"ä": "ö"}, large),
            ({"n": 2}, b"2"),
            b"1",
            b"3",
            b"44",
            ({"n": 3}, b"abcdef"),
        )
        self.assertEqual(await self.read(theirs, len(expected) + 1), expected)
        await soon(sending)
        await self.write(theirs, encoded(b"answer"))
        self.assertEqual((await soon(connection.recv())).body, b"answer")

    async def test_what_is_refused_is_not_sent(self) -> None:
        connection, theirs = await self.connected(max_header=40)
        refused: list[tuple[Any, type[Exception]]] = [
            ({"data_size": 1}, framefd.MalformedError),
            ({"a": "x" * 50}, framefd.TooBigError),
            ({"a": float("nan")}, ValueError),
            ({"a": {1}}, TypeError),
        ]
        for header, error in refused:
            with self.assertRaises(error):
                await soon(connection.send(header, b"refused"))
        for body in ("text", 5):
            with self.assertRaises(TypeError):
                await soon(connection.send(None, body))
        await soon(connection.send(None, b"1"))
        connection.close()
        self.assertEqual(await self.read(theirs, 1000), encoded(b"1"))

    async def test_sending_waits_for_the_peer_to_read(self) -> None:
        connection, theirs = await self.connected()
        sent = 0
        sending = asyncio.ensure_future(connection.send(None, b"x" * 50_000))
        await soon(sending)
        while sending.done():
            sent += 1
            sending = asyncio.ensure_future(connection.send(None, b"x" * 50_000))
            await a_moment()
        self.assertLess(sent, 200)
        other = asyncio.ensure_future(connection.send(None, b"other"))
        await asyncio.sleep(0)
        other.cancel()
        size = len(encoded(b"x" * 50_000)) * (sent + 1)
        self.assertEqual(len(await self.read(theirs, size)), size)
        await soon(sending)

    async def test_sending_tells_of_a_peer_that_goes_away(self) -> None:
        connection, theirs = await self.connected()

        async def send() -> None:
            while True:
                await connection.send(None, b"x" * 50_000)

        sending = asyncio.ensure_future(send())
        await a_moment()
        self.assertFalse(sending.done())
        theirs.close()
        with self.assertRaises(ConnectionError):
            await soon(sending)

    async def test_sending_goes_on_after_the_peer_has_ended(self) -> None:
        connection, theirs = await self.connected()
        theirs.shutdown(socket.SHUT_WR)
        with self.assertRaises(framefd.ClosedError):
            await soon(connection.recv())
        await soon(connection.send(None, b"answer"))
        self.assertEqual(await self.read(theirs, len(encoded(b"answer"))), encoded(b"answer"))

    async def test_the_block_writes_and_closes(self) -> None:
        connection, theirs = await self.connected()
        async with connection as same:
            self.assertIs(same, connection)
            await connection.queue(None, b"1")
        self.assertEqual(await self.read(theirs, 1000), encoded(b"1"))
        other, theirs = await self.connected()
        with self.assertRaises(KeyError):
            async with other:
                await other.queue(None, b"1")
                raise KeyError
        self.assertEqual(await self.read(theirs, 1000), b"")

    async def test_a_block_is_left_at_once_when_it_is_cancelled(self) -> None:
        connection, _ = await self.connected()

        async def send() -> None:
            async with connection:
                while True:
                    await connection.send({}, b"x" * (16 << 20))

        begin = time.monotonic()
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(send(), 0.2)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertTrue(connection.closed)

    async def test_the_end_of_a_block_is_left_at_once_when_it_is_cancelled(self) -> None:
        connection, _ = await self.connected()

        async def queue() -> None:
            async with connection:
                await connection.queue(None, bytes(16 << 20))

        begin = time.monotonic()
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(queue(), 0.2)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertTrue(connection.closed)

    async def test_nothing_is_sent_after_the_end(self) -> None:
        connection, theirs = await self.connected()
        await soon(connection.end())
        calls: list[Callable[[], Any]] = [
            connection.send,
            connection.queue,
            lambda: connection.queue_many([b"1"]),
            lambda: connection.begin({}, 1),
            lambda: connection.reply({"id": 1}),
        ]
        for call in calls:
            with self.assertRaises(framefd.StateError):
                await soon(call())
        self.assertEqual(await self.read(theirs, 1), b"")

    async def test_a_peer_that_does_not_receive_is_not_read_from(self) -> None:
        connection, theirs = await self.connected()
        data = encoded(*[b"x" * 10_000] * 400)
        writing = asyncio.ensure_future(self.write(theirs, data))
        await soon(connection.recv())
        await a_moment()
        await a_moment()
        self.assertFalse(writing.done())
        bodies = await self.received(connection, 399)
        self.assertEqual(set(map(len, bodies)), {10_000})
        await writing


if __name__ == "__main__":
    unittest.main()
