"""Exchanges in asyncio: calls, commands, files, and servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import tempfile
import time
import unittest

import support
from aio_case import Case, a_moment, soon

import framefd
from framefd import ErrorCode, aio
from framefd.aio import Connection


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
            asyncio.gather(*[connection.call("echo", {"n": n}) for n in range(100)])
        )
        self.assertEqual([reply.header["n"] for reply in replies], list(range(100)))
        self.assertEqual((await soon(connection.call("echo", body=b"body"))).body, b"body")

    async def test_an_error_reply_is_its_exception(self) -> None:
        connection = await self.client(await self.serving(answers))
        with self.assertRaisesRegex(FileNotFoundError, "no such thing") as missing:
            await soon(connection.call("x"))
        self.assertTrue(missing.exception.remote)  # type: ignore[attr-defined]
        self.assertEqual((await soon(connection.call("echo", body=b"on"))).body, b"on")
        with self.assertRaises(framefd.ArgumentError):
            await soon(connection.call("echo", {"id": 1}))

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
                        await soon(connection.auth_client(framefd.Key(bytes(32)), plain=True))
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
                await soon(connection.call("x", body=bytes(8 << 20)))
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
        return await self.client(address, key=support.KEY, key_id="me")

    async def test_a_wrong_key(self) -> None:
        contexts = self.reported()
        address = await self.serving(self.serve, keys=support.KEY)
        with self.assertRaises(framefd.TruncatedError):
            await self.client(address, key=b"another key, which has 32 bytes.")
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
        connection = await self.client(server.address, own=False)
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
            connection = await self.client(server.address, own=False)
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
                await self.client(server.address, own=False)
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
            self.assertEqual((await soon(connection.call("echo", body=b"x"))).body, b"x")
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(0.3)
        after = resource.getrusage(resource.RUSAGE_SELF)
        self.assertLess(after.ru_utime - before.ru_utime, 0.1)


if __name__ == "__main__":
    unittest.main()
