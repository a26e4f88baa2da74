"""framefd.Server in asyncio: async handlers, without a thread, and its ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pathlib
import signal
import socket
import threading
import time
import unittest
from collections.abc import AsyncIterator
from typing import Any

import aio_case
import server_case
import support
from aio_case import SECONDS, a_moment, soon
from server_case import WORKERS, logger, server_with

import framefd
from framefd import aio

PROGRAM = """
import asyncio, framefd, signal
server = framefd.Server(drain=20, log=lambda level, text: None)
@server.command("slow")
async def slow(request):
    print("slow", flush=True)
    await asyncio.sleep(request.header["s"])
    return b"done"
print(server.listen("127.0.0.1:0"), flush=True)
async def main():
    await server.serve()
    print("served", flush=True)
RUN
print("after", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
"""


class Case(aio_case.Case):
    @contextlib.asynccontextmanager
    async def served(self, server: framefd.Server) -> AsyncIterator[aio.Connection]:
        """A client of a server, which serves during the block."""
        address = server.listen("127.0.0.1:0")
        with server:
            async with server:
                async with await soon(self.client(address)) as client:
                    yield client

    async def entered(self, event: asyncio.Event) -> None:
        await soon(event.wait())


class Replies(Case):
    async def test_async_and_plain_handlers_run_in_the_loop(self) -> None:
        threads: set[int] = set()
        for workers in WORKERS:
            server = server_with(workers=workers)

            @server.command("plain")
            def plain(request: framefd.ServerRequest) -> dict[str, Any]:
                threads.add(threading.get_ident())
                return {"n": request.header["n"]}

            @server.command("async")
            async def later(request: aio.ServerRequest) -> tuple[dict[str, Any], bytes]:
                threads.add(threading.get_ident())
                await asyncio.sleep(0)
                return {"peer": request.peer, "key_id": request.key_id}, request.body

            class Object:
                async def __call__(self, request: aio.ServerRequest) -> bytes:
                    await request.reply({"early": True}, b"reply")
                    return None  # type: ignore[return-value]

            server.command("object")(Object())
            before = len(os.listdir("/proc/self/task"))
            async with self.served(server) as client:
                reply = await soon(client.call("plain", {"n": 7}))
                self.assertEqual(reply.header["n"], 7)
                reply = await soon(client.call("async", body=b"body"))
                self.assertEqual((reply.header["peer"], reply.body), (client.address, b"body"))
                self.assertEqual(reply.header["key_id"], "tests" if support.SEALED else None)
                reply = await soon(client.call("object"))
                self.assertEqual((reply.header["early"], reply.body), (True, b"reply"))
                self.assertEqual(len(os.listdir("/proc/self/task")), before + workers)
        self.assertEqual(threads, {threading.get_ident()})

    async def test_errors(self) -> None:
        async def coroutine() -> None:
            pass

        for workers in WORKERS:
            log, lines = logger()
            server = server_with(workers=workers, log=log)

            @server.command("missing")
            async def missing(request: aio.ServerRequest) -> None:
                raise framefd.NotFoundError("no such user")

            @server.command("defect")
            async def defect(request: aio.ServerRequest) -> None:
                raise KeyError("secret")

            @server.command("wrong")
            async def wrong(request: aio.ServerRequest) -> Any:
                return "text"

            @server.command("cancelled")
            async def cancelled(request: aio.ServerRequest) -> None:
                raise asyncio.CancelledError

            @server.command("returns")
            def returns(request: framefd.ServerRequest) -> Any:
                return coroutine()

            async with self.served(server) as client:
                for cmd, kind, text in (
                    ("missing", framefd.NotFoundError, "no such user"),
                    ("defect", framefd.FrameError, "KeyError"),
                    ("wrong", framefd.FrameError, "TypeError"),
                    ("cancelled", framefd.FrameError, "interrupted"),
                    ("returns", framefd.FrameError, "TypeError"),
                ):
                    with self.assertRaisesRegex(kind, text) as caught:
                        await soon(client.call(cmd))
                    self.assertTrue(caught.exception.remote)  # type: ignore[attr-defined]
                    self.assertNotIn("secret", str(caught.exception))
            self.assertEqual(len([record for record in lines.records if record.exc_info]), 3)

    async def test_many_replies_come_later(self) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers)
            here, gate = 0, asyncio.Event()

            @server.command("late")
            async def late(request: aio.ServerRequest) -> bytes:
                nonlocal here
                here += 1
                await gate.wait()  # noqa: B023
                return request.body

            server.command("quick")(lambda request: request.body)
            async with self.served(server) as client:
                address = server.addresses[0]
                clients = [await soon(self.client(address)) for _ in range(50)]
                calls = [
                    asyncio.ensure_future(c.call("late", body=b"%d" % n))
                    for n, c in enumerate(clients)
                ]
                while here < len(clients):
                    body = (await soon(client.call("quick", body=b"q"))).body
                    self.assertEqual(body, b"q")
                self.assertEqual(server.counters().requests_now, len(clients))
                gate.set()
                replies = await soon(asyncio.gather(*calls))
                self.assertEqual([int(reply.body) for reply in replies], [*range(50)])
                for one in clients:
                    one.close()

    async def test_requests_of_one_client_are_answered_in_order(self) -> None:
        server = server_with()

        @server.command("sleep")
        async def sleep(request: aio.ServerRequest) -> bytes:
            await asyncio.sleep(request.header["s"])
            return request.body

        async with self.served(server) as client:
            for n, s in enumerate((0.05, 0, 0.02, 0)):
                await client.send({"cmd": "sleep", "s": s}, b"%d" % n)
            bodies = [(await soon(client.recv())).body for _ in range(4)]
            self.assertEqual(bodies, [b"0", b"1", b"2", b"3"])


class Streams(Case):
    async def test_bodies_in_pieces(self) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers)

            @server.command("double", stream=True)
            async def double(request: aio.ServerRequest) -> None:
                pieces = [piece async for piece in request.connection.pieces(100_000)]
                await request.begin({"n": len(pieces)}, 2 * sum(map(len, pieces)))
                for piece in pieces * 2:
                    await request.connection.write(piece)

            @server.command("large")
            async def large(request: aio.ServerRequest) -> bytes:
                return bytes(request.header["size"])

            async with self.served(server) as client:
                body = os.urandom(3_000_000)
                self.assertEqual((await soon(client.call("double", body=body))).body, body * 2)
                size = 40 << 20  # more than is queued
                self.assertEqual(
                    len((await soon(client.call("large", {"size": size}))).body), size
                )
                await soon(client.call("double", body=b"x"))

    async def test_a_client_that_does_not_go_on_is_given_up(self) -> None:
        outcomes: list[BaseException] = []
        server = server_with(stall=0.2)

        @server.command("read", stream=True)
        async def read(request: aio.ServerRequest) -> None:
            try:
                async for _ in request.connection.pieces():
                    pass
            except framefd.FrameTimeoutError as error:
                outcomes.append(error)
                raise

        @server.command("write")
        async def write(request: aio.ServerRequest) -> None:
            try:
                await request.begin({}, 100 << 20)
                for _ in range(100):
                    await request.connection.write(bytes(1 << 20))
            except framefd.FrameTimeoutError as error:
                outcomes.append(error)
                raise

        async with self.served(server) as client:
            await client.begin({"cmd": "read"}, 10)
            await client.write(b"123")
            reply = (await soon(client.recv())).header
            self.assertEqual(reply["code"], "timed_out")
            other = await soon(self.client(server.addresses[0]))
            await other.send({"cmd": "write"})
            while len(outcomes) < 2:
                await a_moment()

    async def test_a_client_that_is_too_slow_is_given_up(self) -> None:
        """It never pauses for long, but has sent less than 1 KiB in a second."""
        server = server_with(stall=0.5)
        gone = asyncio.Event()

        @server.command("read", stream=True)
        async def read(request: aio.ServerRequest) -> None:
            try:
                async for _ in request.connection.pieces():
                    pass
            finally:
                gone.set()

        async with self.served(server) as client:
            await client.begin({"cmd": "read"}, 1 << 20)
            begin = time.monotonic()
            while not gone.is_set():
                with contextlib.suppress(framefd.FrameError):
                    await client.write(b"x")
                await asyncio.sleep(0.02)
            self.assertLess(time.monotonic() - begin, SECONDS)


class Features(Case):
    async def test_commands_and_files_have_threads(self) -> None:
        server = server_with(workers=1)
        server.serve_exec()
        server.serve_files("/")
        server.command("quick")(lambda request: b"quick")
        async with self.served(server) as client:
            slow = await soon(self.client(server.addresses[0]))
            running = asyncio.ensure_future(slow.run("sleep 0.5; echo done"))
            for _ in range(20):
                self.assertEqual((await soon(client.call("quick"))).body, b"quick")
            self.assertFalse(running.done())
            self.assertEqual((await soon(client.stat("etc"))).kind, "dir")
            self.assertEqual((await soon(running)).text, "done\n")
            slow.close()

    async def test_hundreds_of_clients_in_one_process_run_commands(self) -> None:
        """Neither a client nor its command has a thread on this side."""
        server = server_with(workers=1, max_unauthenticated=300)
        server.serve_exec()
        address = server.listen("127.0.0.1:0")
        served = threading.Thread(target=server.run)
        served.start()
        try:
            before = {int(task) for task in os.listdir("/proc/self/task")}

            async def run(n: int) -> int:
                async with await self.client(address) as client:
                    return (await client.run(["sh", "-c", f"exit {n % 100}"])).returncode

            codes = await asyncio.wait_for(asyncio.gather(*map(run, range(200))), 3 * SECONDS)
            self.assertEqual(codes, [n % 100 for n in range(200)])
            names = set()
            for task in pathlib.Path("/proc/self/task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if int(task.name) not in before:
                        names.add((task / "comm").read_text())
            self.assertLessEqual(names, {"framefd\n"})  # those of the server
        finally:
            server.stop()
            served.join()
            server.close()

    async def test_without_threads_they_are_refused(self) -> None:
        for serve in (lambda s: s.serve_exec(), lambda s: s.serve_files("/")):
            with server_with() as server:
                serve(server)
                with self.assertRaisesRegex(framefd.StateError, "workers=1"):
                    await server.serve()


class Ends(Case):
    async def start(self, **options: Any) -> tuple[framefd.Server, Any, asyncio.Event]:
        """A server with a request that is being served, the task, and what lets it end."""
        server = server_with(**options)
        entered, leave = asyncio.Event(), asyncio.Event()

        @server.command("slow")
        async def slow(request: aio.ServerRequest) -> bytes:
            entered.set()
            await leave.wait()
            return b"done"

        address = server.listen("127.0.0.1:0")
        task = asyncio.ensure_future(server.serve())
        self.addCleanup(server.close)
        self.caller = await soon(self.client(address))
        await self.caller.send({"cmd": "slow"})
        await soon(entered.wait())
        return server, task, leave

    async def test_a_stop_and_a_cancellation_answer_what_has_come(self) -> None:
        for workers in WORKERS:
            for how in ("stop", "thread", "cancel"):
                server, task, leave = await self.start(workers=workers)
                if how == "stop":
                    server.stop()
                elif how == "thread":
                    threading.Thread(target=server.stop).start()
                else:
                    task.cancel()
                await a_moment()
                self.assertFalse(task.done())
                leave.set()
                self.assertEqual((await soon(self.caller.recv())).body, b"done")
                if how == "cancel":
                    with self.assertRaises(asyncio.CancelledError):
                        await soon(task)
                else:
                    await soon(task)
                with self.assertRaises(framefd.ClosedError):
                    await soon(self.caller.recv())
                with self.assertRaises(framefd.StateError):
                    await server.serve()

    async def test_a_second_one_ends_everything_at_once(self) -> None:
        for workers in WORKERS:
            for how in ("stop", "cancel"):
                server, task, _ = await self.start(workers=workers)
                for _ in range(2):
                    if how == "stop":
                        server.stop()
                    else:
                        task.cancel()
                    await a_moment()
                kind = framefd.FrameTimeoutError if how == "stop" else asyncio.CancelledError
                with self.assertRaises(kind):
                    await soon(task)
                with contextlib.suppress(framefd.FrameError):
                    reply = (await soon(self.caller.recv())).header
                    self.assertEqual(reply["status"], "error")

    async def test_the_drain_has_an_end(self) -> None:
        server, task, _ = await self.start(drain=0.1)
        server.stop()
        with self.assertRaisesRegex(framefd.FrameTimeoutError, "cut"):
            await soon(task)

    async def test_an_exception_ends_the_block_at_once(self) -> None:
        server = server_with()

        @server.command("slow")
        async def slow(request: aio.ServerRequest) -> None:
            await asyncio.sleep(100)

        address = server.listen("127.0.0.1:0")
        with self.assertRaises(ZeroDivisionError):
            async with server:
                client = await soon(self.client(address))
                await client.send({"cmd": "slow"})
                await a_moment()
                raise ZeroDivisionError
        with self.assertRaises(framefd.FrameError):
            await soon(client.recv())

    async def test_one_runs_it(self) -> None:
        server = server_with()
        async with server:
            with self.assertRaises(framefd.BusyError):
                server.run()
            with self.assertRaises(framefd.BusyError), server.serving():
                pass
            with self.assertRaises(framefd.BusyError):
                await server.serve()

    async def test_closed_while_it_serves(self) -> None:
        server, task, leave = await self.start()
        server.close()
        leave.set()
        with contextlib.suppress(framefd.FrameTimeoutError):
            await soon(task)

    async def test_the_client_goes_while_its_handler_is_at_work(self) -> None:
        server, task, leave = await self.start()
        self.caller.close()
        await a_moment()
        leave.set()
        while server.counters().connections_now:
            await a_moment()
        server.stop()
        await soon(task)

    async def test_requests_leave_nothing(self) -> None:
        server = server_with()

        @server.command("x")
        async def x(request: aio.ServerRequest) -> bytes:
            return b"".join([piece async for piece in request.connection.pieces()])

        @server.command("stream", stream=True)
        async def stream(request: aio.ServerRequest) -> bytes:
            return b"".join([piece async for piece in request.connection.pieces()])

        async with self.served(server) as client:

            async def rounds(count: int) -> None:
                for _ in range(count):
                    await client.call("x", body=b"x")
                    await client.call("stream", body=b"x" * 100_000)

            await soon(rounds(100))
            gc.collect()
            objects, descriptors = len(gc.get_objects()), len(os.listdir("/proc/self/fd"))
            await soon(rounds(500))
            gc.collect()
            self.assertLess(abs(len(gc.get_objects()) - objects), 200)
            self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)


class Loops(unittest.TestCase):
    """What a loop of its own is needed for."""

    def test_a_loop_that_ends_in_the_middle(self) -> None:
        server = server_with()
        asked = threading.Event()

        @server.command("slow")
        async def slow(request: aio.ServerRequest) -> None:
            asked.set()
            await asyncio.sleep(100)

        address = server.listen("127.0.0.1:0")
        options: dict[str, Any] = {}
        if support.SEALED:
            options.update(key=support.KEY, key_id="tests", name="tests")

        def call() -> None:
            with framefd.connect(address, timeout=SECONDS, **options) as client:
                with self.assertRaises(framefd.FrameError):
                    client.call("slow")

        async def main() -> None:
            await server.__aenter__()
            while not asked.is_set():
                await asyncio.sleep(0.01)

        with support.meanwhile(call):
            asyncio.run(main())
            server.close()
            del server, slow
            gc.collect()

    def test_uvloop(self) -> None:
        try:
            import uvloop
        except ImportError:
            self.skipTest("uvloop is not installed")
        server = server_with()

        @server.command("x")
        async def x(request: aio.ServerRequest) -> bytes:
            await asyncio.sleep(0.01)
            return b"".join([piece async for piece in request.connection.pieces()])

        server.command("quick")(lambda request: request.body)
        address = server.listen("127.0.0.1:0")

        def call() -> None:
            options: dict[str, Any] = {}
            if support.SEALED:
                options.update(key=support.KEY, key_id="tests", name="tests")
            with framefd.connect(address, timeout=SECONDS, **options) as client:
                for _ in range(20):
                    client.call("x")
                    self.assertEqual(client.call("quick", body=b"q").body, b"q")
            server.stop()

        loop = uvloop.new_event_loop()
        with server, support.meanwhile(call):
            loop.run_until_complete(server.serve())
        loop.close()


class Signals(server_case.Case):
    RUNS = ("asyncio.run(main())", "asyncio.new_event_loop().run_until_complete(main())")

    def test_sigterm_stops_it_and_loses_nothing(self) -> None:
        for run in self.RUNS:
            with self.subTest(run), self.program(PROGRAM.replace("RUN", run)) as process:
                assert process.stdout is not None
                client = self.client(process.stdout.readline().strip(), own=False)
                client.send({"cmd": "slow", "s": 0.3})
                self.assertEqual(process.stdout.readline(), "slow\n")
                process.send_signal(signal.SIGTERM)
                self.assertEqual(client.recv().body, b"done")
                status, out, _ = self.ended(process)
                self.assertEqual((status, out), (0, "served\nafter True\n"))

    def test_ctrl_c_does_and_a_second_one_ends_it_at_once(self) -> None:
        for run in self.RUNS:
            for seconds, times in ((0.3, 1), (100, 2)):
                with self.subTest((run, times)):
                    self.interrupt(PROGRAM.replace("RUN", run), seconds, times)

    def interrupt(self, source: str, seconds: float, times: int) -> None:
        with self.program(source) as process:
            assert process.stdout is not None
            client = self.client(process.stdout.readline().strip(), own=False)
            client.send({"cmd": "slow", "s": seconds})
            self.assertEqual(process.stdout.readline(), "slow\n")
            for _ in range(times):
                process.send_signal(signal.SIGINT)
                time.sleep(0.1)
            if times == 1:
                self.assertEqual(client.recv().body, b"done")
            status, out, err = self.ended(process)
            self.assertEqual((status, out), (-signal.SIGINT, ""), err)
            self.assertIn("KeyboardInterrupt", err)


if __name__ == "__main__":
    unittest.main()
