"""Connections in asyncio: what comes, what goes, exchanges, servers, and what is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import support
from support import encoded

import framefd
from framefd import ErrorCode, aio
from framefd.aio import Connection

T = TypeVar("T")

SECONDS = 20


async def soon(work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, SECONDS)


async def a_moment() -> None:
    """Long enough for what is on its way to arrive, and for tasks to go on."""
    await asyncio.sleep(0.05)


class Case(unittest.IsolatedAsyncioTestCase):
    """A connection, and the plain socket at its other end."""

    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().set_debug(False)  # which is for those who read along

    async def connected(self, **options: Any) -> tuple[Connection, socket.socket]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.addCleanup(theirs.close)
        connection = Connection(ours, **options)
        self.addCleanup(connection.close)
        return connection, theirs

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

    async def received(self, connection: Connection, count: int) -> list[bytes]:
        """The bodies of so many messages."""

        async def receive() -> list[bytes]:
            return [(await connection.recv()).body for _ in range(count)]

        return await soon(receive())

    async def wait_for_nothing(self, connection: Connection) -> asyncio.Task[framefd.Frame]:
        """A task that waits for a message."""
        task = asyncio.ensure_future(connection.recv())
        await a_moment()
        self.assertFalse(task.done())
        return task

    async def serving(self, handler: aio.Handler, **options: Any) -> str:
        server = await aio.start_server(handler, "127.0.0.1:0", **options)
        self.addAsyncCleanup(self.stopped, server)
        return server.address

    async def stopped(self, server: aio.Server) -> None:
        server.close()
        server.cancel()
        await soon(server.wait_closed())

    async def client(self, address: str, **options: Any) -> Connection:
        connection = await aio.connect(address, **options)
        self.addCleanup(connection.close)
        return connection

    def reported(self) -> list[dict[str, Any]]:
        """What comes to the loop's exception handler."""
        contexts: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: contexts.append(context))
        return contexts


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
            connection = await self.client(f"127.0.0.1:{listener.getsockname()[1]}")
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


async def answers(connection: Connection) -> None:
    """A server of a few requests."""
    async for header, body in connection:
        if header["cmd"] == "echo":
            await connection.reply(header, {"n": header.get("n")}, body)
        elif header["cmd"] == "slow":
            await asyncio.sleep(0.3)
            await connection.reply(header, {}, b"LATE")
        elif header["cmd"] == "other":
            await connection.reply({"id": "another"})
        else:
            await connection.reply_error(header, ErrorCode.NOENT, "no such thing")


class Calls(Case):
    async def test_calls_of_many_tasks(self) -> None:
        connection = await self.client(await self.serving(answers))
        replies = await soon(
            asyncio.gather(*[connection.call({"cmd": "echo", "n": n}) for n in range(100)])
        )
        self.assertEqual([reply.header["n"] for reply in replies], list(range(100)))
        self.assertEqual((await soon(connection.call("echo", b"body"))).body, b"body")

    async def test_an_error_reply_is_its_exception(self) -> None:
        connection = await self.client(await self.serving(answers))
        with self.assertRaisesRegex(FileNotFoundError, "no such thing") as missing:
            await soon(connection.call("x"))
        self.assertTrue(missing.exception.remote)  # type: ignore[attr-defined]
        self.assertEqual((await soon(connection.call("echo", b"on"))).body, b"on")
        with self.assertRaises(framefd.ArgumentError):
            await soon(connection.call({"id": 1}))

    async def test_a_call_that_does_not_end_breaks_the_connection(self) -> None:
        address = await self.serving(answers)
        connection = await self.client(address)
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(connection.call("slow"), 0.05)
        await asyncio.sleep(0.4)
        for call in (connection.recv, connection.send, lambda: connection.call("echo")):
            with self.assertRaises(framefd.BrokenError):
                await soon(call())
        connection = await self.client(address)
        with self.assertRaises(framefd.MalformedError):
            await soon(connection.call("other"))
        with self.assertRaisesRegex(framefd.BrokenError, "another request"):
            await soon(connection.call("echo"))

    async def test_only_a_reply_is_one(self) -> None:
        bad = framefd.MalformedError
        busy = {"status": "error", "code": "busy"}
        # Without a key, and with one.
        for header, body, expected in (
            ({"status": "ok", "id": "~a1"}, b"x", (None, None)),
            ({"status": "ok"}, b"", (None, bad)),
            ({"id": "~a1"}, b"", (bad, bad)),
            ({"status": "ok", "id": "~a2"}, b"", (bad, bad)),
            ({"status": "ok", "id": "~a1", "cmd": "x"}, b"", (bad, bad)),
            ({**busy, "id": "~a1"}, b"", (framefd.BusyError,) * 2),
            ({**busy, "id": "~a1"}, b"x", (bad, bad)),
            (busy, b"", (framefd.BusyError, bad)),
        ):
            for is_keyed in (False, True):
                ours, theirs = socket.socketpair()
                async with aio.Connection(ours) as connection:
                    if is_keyed:
                        theirs.sendall(bytes(32))
                        await soon(connection.auth_client(framefd.Key(bytes(32))))
                        theirs.recv(32)
                    framefd.send(theirs, header, body)
                    call = soon(connection.call("x"))
                    error = expected[is_keyed]
                    if error is None:
                        self.assertEqual((await call).body, body)
                    else:
                        with self.assertRaises(error):
                            await call
                theirs.close()

    async def test_a_refusal_is_heard_while_the_request_is_sent(self) -> None:
        ours, theirs = socket.socketpair()

        def refuse() -> None:
            theirs.recv(1)
            framefd.send(theirs, {"status": "error", "code": "too_big", "id": "~a1"})
            theirs.close()

        async with aio.Connection(ours) as connection:
            with support.meanwhile(refuse), self.assertRaises(framefd.TooBigError) as big:
                await soon(connection.call("x", bytes(8 << 20)))
            self.assertTrue(big.exception.remote)
            with self.assertRaises(framefd.BrokenError):
                await soon(connection.call("x"))

    async def test_a_refusal_that_came_before_the_request_is_heard(self) -> None:
        ours, theirs = socket.socketpair()
        async with aio.Connection(ours) as connection:
            framefd.send(theirs, {"status": "error", "code": "busy", "id": "~a1"})
            theirs.close()
            with self.assertRaises(framefd.BusyError) as busy:
                await soon(connection.call("x"))
            self.assertTrue(busy.exception.remote)


class Features(Case):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = directory.name

    async def serve(self, connection: Connection) -> None:
        with contextlib.suppress(framefd.ClosedError):
            while True:
                request = await connection.recv_header()
                if request.header["cmd"] == "exec":
                    await connection.serve_exec(request)
                else:
                    await connection.serve_file(request, self.root)

    async def connection(self) -> Connection:
        address = await self.serving(self.serve, keys={"me": support.KEY})
        return await self.client(address, key=support.KEY)

    async def test_a_wrong_key(self) -> None:
        contexts = self.reported()
        address = await self.serving(self.serve, keys=support.KEY)
        connection = await self.client(address, key=b"another key, of 23 bytes")
        with self.assertRaises(ConnectionError):
            await soon(connection.run("true"))
        await a_moment()
        self.assertEqual(len(contexts), 1)
        self.assertIsInstance(contexts[0]["exception"], framefd.AuthenticationError)

    async def test_commands(self) -> None:
        connection = await self.connection()
        done = await soon(connection.run("cat; echo err >&2; exit 3", input=b"out"))
        self.assertEqual((done.stdout, done.stderr, done.returncode), (b"out", b"err\n", 3))
        with self.assertRaises(framefd.CalledProcessError):
            await soon(connection.run("false", check=True))
        with self.assertRaises(framefd.CommandTimeout):
            await soon(connection.run("sleep 20", timeout=0.1))
        with self.assertRaises(framefd.SpawnError) as refused:
            await soon(connection.run(["/no/such/program"]))
        self.assertTrue(refused.exception.remote)
        runs = [connection.run(["echo", str(n)]) for n in range(10)]
        done_all = await soon(asyncio.gather(*runs))
        self.assertEqual([done.text for done in done_all], [f"{n}\n" for n in range(10)])

    async def test_a_streamed_command(self) -> None:
        connection = await self.connection()
        data = os.urandom(3 << 20)
        async with await connection.start("cat; exit 4") as command:

            async def write() -> None:
                await command.write(data)
                await command.end_input()

            writing = asyncio.ensure_future(write())
            got = b"".join([piece async for _, piece in command])
            await soon(writing)
        self.assertTrue(got == data)
        self.assertEqual(command.result.returncode, 4)
        async with await connection.start("echo up; exec cat") as command:
            self.assertEqual(await soon(command.read()), (framefd.STDOUT, b"up\n"))
            reading = asyncio.ensure_future(command.read())
            await a_moment()
            command.signal(15)
            self.assertIsNone(await soon(reading))
        self.assertEqual(command.result.signal, 15)
        self.assertEqual((await soon(connection.run("echo on"))).text, "on\n")

    async def test_a_command_that_is_cancelled_is_ended(self) -> None:
        connection = await self.connection()
        begin = time.monotonic()
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(connection.run("sleep 30"), 0.2)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertTrue(connection.closed)

    async def test_files(self) -> None:
        connection = await self.connection()
        path = f"{self.root}/local"
        with open(path, "wb") as file:
            file.write(os.urandom(1 << 20))
        result = await soon(connection.put(path, "a"))
        self.assertEqual(result.size, 1 << 20)
        self.assertEqual((await soon(connection.stat("a"))).size, 1 << 20)
        await soon(connection.mkdir("d"))
        names = [entry.name for entry in await soon(connection.listdir())]
        self.assertEqual(names, ["a", "d", "local"])
        self.assertEqual((await soon(connection.get("a", f"{self.root}/b"))).size, 1 << 20)
        with self.assertRaises(FileNotFoundError):
            await soon(connection.get("none", f"{self.root}/c"))

    async def test_a_transfer_that_is_cancelled_breaks_the_connection(self) -> None:
        connection, _ = await self.connected()
        begin = time.monotonic()
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(connection.stat("a"), 0.1)
        self.assertLess(time.monotonic() - begin, 5)
        with self.assertRaises(framefd.BrokenError):
            await soon(connection.stat("a"))


class Servers(Case):
    async def test_an_echo(self) -> None:
        async def echo(connection: Connection) -> None:
            async for header, body in connection:
                await connection.send(header, body)

        contexts = self.reported()
        address = await self.serving(echo)
        connection = await self.client(address)
        self.assertEqual(connection.peer, address)
        for n in (0, 1, 70_000, 1_000_000):
            await soon(connection.send({"n": n}, b"x" * n))
            self.assertEqual(await soon(connection.recv()), ({"n": n}, b"x" * n))
        await soon(connection.end())
        self.assertEqual([frame async for frame in connection], [])  # closed by the server
        self.assertEqual(contexts, [])

    async def test_an_exception_in_a_handler_is_reported_and_closes(self) -> None:
        async def fail(connection: Connection) -> None:
            await connection.recv()
            raise KeyError("an error")

        contexts = self.reported()
        address = await self.serving(fail)
        (await self.client(address)).close()  # a client that goes away is no error
        connection = await self.client(address)
        await soon(connection.send())
        with self.assertRaises(framefd.ClosedError):
            await soon(connection.recv())
        self.assertEqual([str(context["exception"]) for context in contexts], ["'an error'"])

    async def test_a_handler_that_is_cancelled_closes(self) -> None:
        async def wait(connection: Connection) -> None:
            await connection.recv()

        server = await aio.start_server(wait, "127.0.0.1:0")
        connection = await self.client(server.address)
        await a_moment()
        await self.stopped(server)
        with self.assertRaises(framefd.ClosedError):
            await soon(connection.recv())
        with self.assertRaises(ConnectionError):
            await aio.connect(server.address)

    async def test_the_block_waits_for_the_handlers(self) -> None:
        async def late(connection: Connection) -> None:
            await asyncio.sleep(0.1)
            await connection.send(None, b"late")

        async with await aio.start_server(late, "127.0.0.1:0") as server:
            connection = await self.client(server.address)
            await a_moment()
        self.assertEqual((await soon(connection.recv())).body, b"late")

    async def test_the_end_of_the_block_ends_the_handlers_when_it_is_cancelled(self) -> None:
        ended: list[str] = []

        async def idle(connection: Connection) -> None:
            try:
                await connection.recv()
            finally:
                ended.append("handler")

        async def serve() -> None:
            async with await aio.start_server(idle, "127.0.0.1:0") as server:
                await self.client(server.address)
                await a_moment()

        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(serve(), 0.5)
        await a_moment()
        self.assertEqual(ended, ["handler"])

    async def test_the_limits_are_for_every_client(self) -> None:
        errors: list[Exception] = []

        async def receive(connection: Connection) -> None:
            try:
                await connection.recv()
            except framefd.FrameError as error:
                errors.append(error)

        connection = await self.client(await self.serving(receive, max_body=3))
        await soon(connection.send(None, b"1234"))
        with self.assertRaises(framefd.FrameError):
            await soon(connection.recv())
        self.assertEqual([type(error) for error in errors], [framefd.TooBigError])

    async def test_unix_sockets(self) -> None:
        async def greet(connection: Connection) -> None:
            await connection.send({"hello": True})

        with tempfile.TemporaryDirectory() as folder:
            for address in (f"unix:{folder}/socket", f"unix:@framefd-aio-{os.getpid()}"):
                async with await aio.start_server(greet, address):
                    async with await aio.connect(address) as connection:
                        self.assertEqual(await soon(connection.recv()), ({"hello": True}, b""))

    async def test_nobody_is_there(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with self.assertRaises(ConnectionRefusedError):
                await aio.connect(unused.getsockname())
        for address in ("nowhere", "host:port"):
            with self.assertRaises(ValueError):
                await aio.connect(address)

    async def test_thousands_of_connections_that_are_idle(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        count = 1000 if hard != resource.RLIM_INFINITY and hard < 5000 else 2000
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count + 200), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        address = await self.serving(answers, backlog=count)
        connections = [await self.client(address) for _ in range(count)]
        for connection in (connections[0], connections[-1], connections[count // 2]):
            self.assertEqual((await soon(connection.call("echo", b"x"))).body, b"x")
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(0.3)
        after = resource.getrusage(resource.RUSAGE_SELF)
        self.assertLess(after.ru_utime - before.ru_utime, 0.1)


class Loops(unittest.TestCase):
    @unittest.skipIf(os.environ.get("FRAMEFD_LOOP"), "this is the other loop")
    def test_the_same_on_uvloop(self) -> None:
        found = [sys.executable, "-c", "import uvloop"]
        if subprocess.run(found, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("uvloop is not installed")
        program = "import uvloop, unittest; uvloop.install(); unittest.main('test_aio')"
        path = os.pathsep.join([str(support.PACKAGE), os.path.dirname(__file__)])
        environment = {**os.environ, "PYTHONPATH": path, "FRAMEFD_LOOP": "uvloop"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
