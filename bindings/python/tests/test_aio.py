"""Streams of frames in asyncio: what comes, what goes, and what happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import tempfile
import unittest
from collections.abc import Awaitable
from typing import Any, TypeVar

import support
from support import encoded

import framefd
from framefd import aio
from framefd.aio import FrameStream

T = TypeVar("T")

SECONDS = 20


async def soon(work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, SECONDS)


async def a_moment() -> None:
    """Long enough for what is on its way to arrive, and for tasks to go on."""
    await asyncio.sleep(0.05)


class Case(unittest.IsolatedAsyncioTestCase):
    """A stream, and the plain socket at its other end."""

    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().set_debug(False)  # which is for those who read along

    async def connected(self, **options: Any) -> tuple[FrameStream, socket.socket]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.addCleanup(theirs.close)
        stream = await aio.open_connection(sock=ours, **options)
        self.addAsyncCleanup(self.closed, stream)
        return stream, theirs

    async def closed(self, stream: FrameStream) -> None:
        stream.transport.abort()
        with contextlib.suppress(OSError):
            await stream.wait_closed()

    async def write(self, sock: socket.socket, data: bytes) -> None:
        await soon(asyncio.get_running_loop().sock_sendall(sock, data))

    async def read(self, sock: socket.socket, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = await soon(asyncio.get_running_loop().sock_recv(sock, size - len(data)))
            if not piece:
                break
            data += piece
        return bytes(data)

    async def received(self, stream: FrameStream, count: int) -> list[bytes]:
        """The bodies of so many frames."""

        async def receive() -> list[bytes]:
            return [(await stream.recv()).body for _ in range(count)]

        return await soon(receive())

    async def wait_for_nothing(self, stream: FrameStream) -> asyncio.Task[framefd.Frame]:
        """A task that waits for a frame."""
        task = asyncio.ensure_future(stream.recv())
        await a_moment()
        self.assertFalse(task.done())
        return task


class Receiving(Case):
    async def test_frames_up_to_the_end(self) -> None:
        stream, theirs = await self.connected()
        sent = [({}, b""), ({"n": 1}, b"x"), ({}, b"y" * 5000), ({"ä": [1]}, b"")]
        await self.write(theirs, encoded(*sent))
        self.assertEqual([await soon(stream.recv()) for _ in sent[:2]], sent[:2])
        theirs.close()
        self.assertEqual([frame async for frame in stream], sent[2:])
        for _ in range(2):
            with self.assertRaises(framefd.ClosedError):
                await soon(stream.recv())

    async def test_many_more_than_one_batch(self) -> None:
        stream, theirs = await self.connected()
        bodies = [b"%d" % n for n in range(5000)]
        writing = asyncio.ensure_future(self.write(theirs, encoded(*bodies)))
        self.assertEqual(await self.received(stream, len(bodies)), bodies)
        await writing

    async def test_frames_that_are_cut_at_any_byte_wait_for_the_rest(self) -> None:
        data = encoded(({"n": 1}, b"12"), b"345")
        for at in range(1, len(data)):
            with self.subTest(at):
                stream, theirs = await self.connected()
                await self.write(theirs, data[:at])
                first = asyncio.ensure_future(stream.recv())
                await asyncio.sleep(0.001)
                await self.write(theirs, data[at:])
                self.assertEqual(await soon(first), ({"n": 1}, b"12"))
                self.assertEqual((await soon(stream.recv())).body, b"345")

    async def test_frames_that_come_byte_by_byte(self) -> None:
        stream, theirs = await self.connected()
        for byte in encoded(({"n": 1}, b"12")):
            task = asyncio.ensure_future(stream.recv())
            await asyncio.sleep(0.001)
            self.assertFalse(task.done())
            task.cancel()
            # Until it has ended, it counts as receiving.
            await asyncio.wait([task])
            await self.write(theirs, bytes([byte]))
        self.assertEqual(await soon(stream.recv()), ({"n": 1}, b"12"))

    async def test_large_bodies(self) -> None:
        stream, theirs = await self.connected()
        body = os.urandom(5 << 20)
        writing = asyncio.ensure_future(self.write(theirs, encoded(b"a", body, b"b")))
        self.assertEqual(await self.received(stream, 3), [b"a", body, b"b"])
        await writing

    async def test_a_stream_that_is_cut(self) -> None:
        stream, theirs = await self.connected()
        await self.write(theirs, encoded(b"1") + encoded(b"2")[:-1])
        theirs.close()
        self.assertEqual((await soon(stream.recv())).body, b"1")
        for _ in range(2):
            with self.assertRaises(framefd.TruncatedError):
                await soon(stream.recv())
        with self.assertRaises(framefd.TruncatedError):
            async for _ in stream:
                pass

    async def test_what_is_no_frame_comes_after_those_before_it(self) -> None:
        for bad, options, error in (
            (b"\xff\xff\xff\xff", {}, framefd.MalformedError),
            (b"\2\0\0\0[]", {}, framefd.MalformedError),
            (encoded(b"12345"), {"max_body": 4}, framefd.TooBigError),
            (encoded(({"long": "header"}, b"")), {"max_header": 20}, framefd.TooBigError),
            (encoded(({"deep": [[]]}, b"")), {"max_depth": 2}, framefd.MalformedError),
        ):
            for is_waiting in (True, False):
                with self.subTest((bad, is_waiting)):
                    stream, theirs = await self.connected(**options)
                    task = await self.wait_for_nothing(stream) if is_waiting else None
                    await self.write(theirs, encoded(b"1", b"2") + bad)
                    await a_moment()
                    got = [await soon(task or stream.recv()), await soon(stream.recv())]
                    self.assertEqual([frame.body for frame in got], [b"1", b"2"])
                    stream.send(None, b"answer")
                    for _ in range(2):
                        with self.assertRaises(error):
                            await soon(stream.recv())
                    stream.close()
                    await soon(stream.wait_closed())
                    self.assertEqual(await self.read(theirs, 1000), encoded(b"answer"))

    async def test_an_end_that_is_reset(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            stream = await aio.open_connection(*listener.getsockname())
            theirs, _ = listener.accept()
        task = await self.wait_for_nothing(stream)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with self.assertRaises(framefd.DisconnectedError) as caught:
            await soon(task)
        with self.assertRaises(framefd.DisconnectedError):
            await soon(stream.recv())
        self.assertIsInstance(caught.exception, ConnectionError)
        for call in (stream.drain, stream.wait_closed):
            with self.assertRaises(framefd.DisconnectedError):
                await soon(call())
        with self.assertRaises(framefd.DisconnectedError):
            stream.send(None, b"1")

    async def test_cancelling_loses_nothing(self) -> None:
        stream, theirs = await self.connected()
        task = await self.wait_for_nothing(stream)
        await self.write(theirs, encoded(b"1")[:5])
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        await self.write(theirs, encoded(b"1")[5:])
        self.assertEqual((await soon(stream.recv())).body, b"1")

    async def test_cancelling_when_a_frame_has_just_come(self) -> None:
        stream, _ = await self.connected()
        task = await self.wait_for_nothing(stream)
        protocol = stream._protocol
        data = encoded(b"1", b"2")
        protocol.get_buffer(-1)[: len(data)] = data
        protocol.buffer_updated(len(data))
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertEqual((await soon(stream.recv())).body, b"1")
        self.assertEqual((await soon(stream.recv())).body, b"2")

    async def test_with_a_timeout(self) -> None:
        stream, theirs = await self.connected()
        for _ in range(2):
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.recv(), 0.01)
        await self.write(theirs, encoded(b"1"))
        self.assertEqual((await soon(stream.recv())).body, b"1")

    async def test_one_task_at_a_time(self) -> None:
        stream, theirs = await self.connected()
        task = await self.wait_for_nothing(stream)
        with self.assertRaises(framefd.BusyError):
            await soon(stream.recv())
        await self.write(theirs, encoded(b"1"))
        self.assertEqual((await soon(task)).body, b"1")

    async def test_closing_while_a_task_receives(self) -> None:
        stream, _ = await self.connected()
        task = await self.wait_for_nothing(stream)
        stream.close()
        with self.assertRaises(framefd.ClosedError):
            await soon(task)
        self.assertEqual([frame async for frame in stream], [])
        await soon(stream.wait_closed())

    async def test_what_had_come_before_it_was_closed_is_still_there(self) -> None:
        stream, theirs = await self.connected()
        await self.write(theirs, encoded(b"1", b"2"))
        await soon(stream.recv())
        stream.close()
        await soon(stream.wait_closed())
        self.assertEqual([frame.body async for frame in stream], [b"2"])

    async def test_stopping_gives_what_has_come_and_ends(self) -> None:
        stream, theirs = await self.connected()
        await self.write(theirs, encoded(b"1", b"2", b"3")[:-1])
        await soon(stream.recv())
        stream.stop_receiving()
        await self.write(theirs, encoded(b"4"))
        await a_moment()
        self.assertEqual([frame.body async for frame in stream], [b"2"])
        stream.send(None, b"answer")
        self.assertEqual(await self.read(theirs, len(encoded(b"answer"))), encoded(b"answer"))
        other, _ = await self.connected()
        task = await self.wait_for_nothing(other)
        other.stop_receiving()
        with self.assertRaises(framefd.ClosedError):
            await soon(task)


class Sending(Case):
    async def test_of_all_kinds(self) -> None:
        stream, theirs = await self.connected()
        large = os.urandom(100_000)
        body = bytearray(b"before")
        stream.send()
        stream.send({"n": 1}, b"x")
        stream.send(None, body)
        stream.send({"ä": "ö"}, memoryview(large))
        frame = framefd.Frame({}, b"3")
        stream.send_many([b"1", ({"n": 2}, b"2"), frame, memoryview(b"4 4")[::2]])
        stream.send_many([])
        body[:] = b"later!"
        expected = encoded(
            b"",
            ({"n": 1}, b"x"),
            b"before",
            ({"ä": "ö"}, large),
            b"1",
            ({"n": 2}, b"2"),
            b"3",
            b"44",
        )
        self.assertEqual(await self.read(theirs, len(expected)), expected)

    async def test_what_is_refused_is_not_sent(self) -> None:
        stream, theirs = await self.connected(max_header=40)
        for header, error in (
            ({"data_size": 1}, framefd.MalformedError),
            ({"a": "x" * 50}, framefd.TooBigError),
            ({"a": float("nan")}, ValueError),
            ({"a": {1}}, TypeError),
        ):
            with self.assertRaises(error):
                stream.send(header, b"refused")
            with self.assertRaises(error):
                stream.send_many([b"with it", (header, b"refused")])
        for body in ("text", 5):
            with self.assertRaises(TypeError):
                stream.send(None, body)
        stream.send(None, b"1")
        stream.close()
        self.assertEqual(await self.read(theirs, 1000), encoded(b"1"))

    async def test_drain_waits_for_the_other_end_to_read(self) -> None:
        stream, theirs = await self.connected()
        sent = 0
        draining = asyncio.ensure_future(stream.drain())
        await soon(draining)
        while draining.done():
            stream.send(None, b"x" * 50_000)
            sent += 1
            draining = asyncio.ensure_future(stream.drain())
            await a_moment()
        self.assertLess(sent, 200)
        other = asyncio.ensure_future(stream.drain())
        await asyncio.sleep(0)
        other.cancel()
        size = len(encoded(b"x" * 50_000)) * sent
        self.assertEqual(len(await self.read(theirs, size)), size)
        await soon(draining)

    async def test_drain_tells_of_an_end_that_goes_away(self) -> None:
        stream, theirs = await self.connected()
        while not stream._protocol._is_full:
            stream.send(None, b"x" * 50_000)
        draining = asyncio.ensure_future(stream.drain())
        await a_moment()
        self.assertFalse(draining.done())
        theirs.close()
        with self.assertRaises(framefd.DisconnectedError):
            await soon(draining)

    async def test_a_closed_stream_takes_nothing(self) -> None:
        stream, theirs = await self.connected()
        stream.send(None, b"1")
        self.assertFalse(stream.is_closing())
        stream.close()
        self.assertTrue(stream.is_closing())
        for _ in range(2):
            with self.assertRaises(framefd.StateError):
                stream.send()
            with self.assertRaises(framefd.StateError):
                stream.send_many([b"2"])
            with self.assertRaises(framefd.StateError):
                await soon(stream.drain())
            await soon(stream.wait_closed())
        self.assertEqual(await self.read(theirs, 1000), encoded(b"1"))

    async def test_half_of_it_may_be_closed(self) -> None:
        stream, theirs = await self.connected()
        stream.send(None, b"question")
        stream.write_eof()
        self.assertEqual(await self.read(theirs, 1000), encoded(b"question"))
        await self.write(theirs, encoded(b"answer"))
        self.assertEqual((await soon(stream.recv())).body, b"answer")

    async def test_sending_goes_on_after_the_other_end_has_ended(self) -> None:
        stream, theirs = await self.connected()
        theirs.shutdown(socket.SHUT_WR)
        with self.assertRaises(framefd.ClosedError):
            await soon(stream.recv())
        stream.send(None, b"answer")
        await soon(stream.drain())
        self.assertEqual(await self.read(theirs, len(encoded(b"answer"))), encoded(b"answer"))

    async def test_the_block_closes(self) -> None:
        stream, theirs = await self.connected()
        async with stream as same:
            self.assertIs(same, stream)
            stream.send(None, b"1")
        self.assertEqual(await self.read(theirs, 1000), encoded(b"1"))
        other, theirs = await self.connected()
        with self.assertRaises(KeyError):
            async with other:
                raise KeyError
        self.assertEqual(await self.read(theirs, 1000), b"")


class BackPressure(Case):
    async def test_an_end_that_does_not_receive_takes_in_little(self) -> None:
        for size in (100, 10_000, 1_000_000):
            with self.subTest(size):
                stream, theirs = await self.connected(limit=10_000)
                data = encoded(*[b"x" * size] * (4_000_000 // size))
                writing = asyncio.ensure_future(self.write(theirs, data))
                await a_moment()
                await a_moment()
                self.assertFalse(writing.done())
                self.assertLess(stream._protocol._unread, 10_000 + (256 << 10))
                bodies = await self.received(stream, 4_000_000 // size)
                self.assertEqual(set(map(len, bodies)), {size})
                await writing

    async def test_a_slow_receiver_holds_the_sender_up_again_and_again(self) -> None:
        stream, theirs = await self.connected(limit=10_000)
        bodies = [b"%d" % n * 500 for n in range(2000)]
        writing = asyncio.ensure_future(self.write(theirs, encoded(*bodies)))
        most = 0
        for n, body in enumerate(bodies):
            if n % 100 == 0:
                await asyncio.sleep(0.002)
            most = max(most, stream._protocol._unread)
            self.assertEqual((await soon(stream.recv())).body, body)
        await writing
        self.assertLess(most, 10_000 + (256 << 10))

    async def test_a_limit_that_is_none(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, self.assertRaises(ValueError):
            await aio.open_connection(sock=ours, limit=0)


class Servers(Case):
    async def serving(self, handler: aio.Handler, **options: Any) -> tuple[str, int]:
        server = await aio.start_server(handler, "127.0.0.1", 0, **options)
        self.addAsyncCleanup(self.stopped, server)
        return server.sockets[0].getsockname()[:2]  # type: ignore[no-any-return]

    async def stopped(self, server: asyncio.Server) -> None:
        server.close()

    async def client(self, address: tuple[str, int]) -> FrameStream:
        stream = await aio.open_connection(*address)
        self.addAsyncCleanup(self.closed, stream)
        return stream

    def reported(self) -> list[dict[str, Any]]:
        """What comes to the loop's exception handler."""
        contexts: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: contexts.append(context))
        return contexts

    async def test_an_echo(self) -> None:
        async def echo(stream: FrameStream) -> None:
            async for header, body in stream:
                stream.send(header, body)
                await stream.drain()

        contexts = self.reported()
        stream = await self.client(await self.serving(echo))
        self.assertEqual(stream.get_extra_info("peername")[0], "127.0.0.1")
        for n in (0, 1, 70_000, 1_000_000):
            stream.send({"n": n}, b"x" * n)
            self.assertEqual(await soon(stream.recv()), ({"n": n}, b"x" * n))
        stream.write_eof()
        self.assertEqual([frame async for frame in stream], [])  # closed after the handler
        self.assertEqual(contexts, [])

    async def test_an_exception_in_a_handler_is_reported_and_closes(self) -> None:
        async def fail(stream: FrameStream) -> None:
            await stream.recv()
            raise KeyError("an error")

        contexts = self.reported()
        stream = await self.client(await self.serving(fail))
        stream.send()
        with self.assertRaises(framefd.ClosedError):
            await soon(stream.recv())
        self.assertEqual([str(context["exception"]) for context in contexts], ["'an error'"])

    async def test_a_handler_that_is_cancelled_closes(self) -> None:
        tasks = []

        async def wait(stream: FrameStream) -> None:
            tasks.append(asyncio.current_task())
            await stream.recv()

        contexts = self.reported()
        stream = await self.client(await self.serving(wait))
        await a_moment()
        tasks[0].cancel()  # type: ignore[union-attr]
        with self.assertRaises(framefd.ClosedError):
            await soon(stream.recv())
        self.assertEqual(contexts, [])

    async def test_a_handler_that_is_no_coroutine(self) -> None:
        streams: list[FrameStream] = []
        stream = await self.client(await self.serving(streams.append))
        stream.send(None, b"1")
        await a_moment()
        self.assertEqual((await soon(streams[0].recv())).body, b"1")
        streams[0].close()

    async def test_the_limits_are_for_every_client(self) -> None:
        errors: list[Exception] = []

        async def receive(stream: FrameStream) -> None:
            try:
                await stream.recv()
            except framefd.FrameError as error:
                errors.append(error)

        stream = await self.client(await self.serving(receive, max_body=3))
        stream.send(None, b"1234")
        with self.assertRaises(framefd.FrameError):
            await soon(stream.recv())
        self.assertEqual([type(error) for error in errors], [framefd.TooBigError])

    async def test_unix_sockets(self) -> None:
        async def greet(stream: FrameStream) -> None:
            stream.send({"hello": True})

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "socket")
            server = await aio.start_unix_server(greet, path)
            async with await aio.open_unix_connection(path) as stream:
                self.assertEqual(await soon(stream.recv()), ({"hello": True}, b""))
            server.close()

    async def test_a_socket_that_was_authenticated_before(self) -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        serving = loop.run_in_executor(None, framefd.auth_server, theirs, support.KEY)
        await loop.run_in_executor(None, framefd.auth_client, ours, support.KEY)
        await serving
        async with await aio.open_connection(sock=ours) as stream:
            framefd.send(theirs, {"n": 1})
            self.assertEqual(await soon(stream.recv()), ({"n": 1}, b""))
        theirs.close()

    async def test_thousands_of_connections_that_are_idle(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        count = 1000 if hard != resource.RLIM_INFINITY and hard < 5000 else 2000
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count + 200), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

        async def echo(stream: FrameStream) -> None:
            async for header, body in stream:
                stream.send(header, body)

        address = await self.serving(echo, backlog=count)
        streams = [await self.client(address) for _ in range(count)]
        for stream in (streams[0], streams[-1], streams[count // 2]):
            stream.send({"n": 1}, b"x")
            self.assertEqual(await soon(stream.recv()), ({"n": 1}, b"x"))
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(0.3)
        after = resource.getrusage(resource.RUSAGE_SELF)
        self.assertLess(after.ru_utime - before.ru_utime, 0.1)
        for stream in streams:
            stream.close()


if __name__ == "__main__":
    unittest.main()
