"""Servers: stops, signals, close(), fork, threads that misuse a request, and what is left."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import threading
import time
import unittest
import weakref
from typing import Any

import support
from server_case import LONG, WORKERS, Case, server_with

import framefd

#: A server in a program of its own. It prints where it listens.
PROGRAM = """
import framefd, os, signal, sys, threading, time
server = framefd.Server(workers=WORKERS, drain=20, log=lambda level, text: None)
server.command("echo")(lambda request: request.body)
@server.command("slow")
def slow(request):
    print("slow", flush=True)
    for _ in range(request.header["n"]):
        time.sleep(0.05)
    return b"done"
@server.command("stuck")
def stuck(request):
    print("stuck", flush=True)
    while True:
        time.sleep(0.05)
@server.command("body", stream=True)
def body(request):
    print("body", flush=True)
    return request.connection.read()
server.serve_exec()
PREPARE
print(server.listen("127.0.0.1:0"), flush=True)
RUN
print("after", signal.getsignal(signal.SIGINT) is signal.default_int_handler,
      signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
"""


def program(workers: int = 0, prepare: str = "", run: str = "server.run()") -> str:
    text = PROGRAM.replace("WORKERS", str(workers)).replace("PREPARE", prepare)
    return text.replace("RUN", run)


class Stops(Case):
    def test_a_stop_answers_what_has_come(self) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers)
            entered, leave = threading.Event(), threading.Event()

            @server.command("slow")
            def slow(request: framefd.ServerRequest) -> bytes:
                entered.set()
                leave.wait(LONG)  # noqa: B023
                return request.body

            address = server.listen("127.0.0.1:0")
            with server, server.serving():
                client = self.client(address)
                client.send({"cmd": "slow"}, b"first")
                entered.wait(LONG)
                client.send({"cmd": "slow"}, b"second")
                server.stop()
                leave.set()
                self.assertEqual([client.recv().body for _ in range(2)], [b"first", b"second"])
                with self.assertRaises(framefd.ClosedError):
                    client.recv()

    def test_a_handler_may_stop_its_server(self) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers)

            @server.command("stop")
            def stop(request: framefd.ServerRequest) -> bytes:
                server.stop()  # noqa: B023
                return b"stopping"

            address = server.listen("127.0.0.1:0")
            with server:
                with support.meanwhile(server.run), self.client(address) as client:
                    self.assertEqual(client.call("stop").body, b"stopping")
                with self.assertRaisesRegex(framefd.StateError, "has stopped"):
                    server.run()

    def test_requests_that_are_cut_are_told_of(self) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers, drain=0.1)
            server.serve_exec()
            address = server.listen("127.0.0.1:0")
            with server, self.assertRaisesRegex(framefd.FrameTimeoutError, "cut"):
                with server.serving():
                    client = self.client(address)
                    client.send({"cmd": "exec"}, b"sleep 100")
                    self.wait_until(lambda: server.counters().requests_now == 1)  # noqa: B023

    def test_an_exception_ends_the_block_at_once(self) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers)
            server.serve_exec()
            address = server.listen("127.0.0.1:0")
            with server, self.assertRaises(ZeroDivisionError):
                with server.serving():
                    self.client(address).send({"cmd": "exec"}, b"sleep 100")
                    self.wait_until(lambda: server.counters().requests_now == 1)  # noqa: B023
                    raise ZeroDivisionError

    def test_after_close(self) -> None:
        server = server_with()
        address = server.listen("127.0.0.1:0")
        server.close()
        server.close()
        server.stop()
        self.assertTrue(server.closed)
        self.assertIn("closed", repr(server))
        self.assertEqual(server.addresses, [])
        with self.assertRaises(ConnectionRefusedError):
            self.client(address)
        with socket.socket() as sock:
            uses: list[Any] = [
                server.run,
                server.counters,
                server.serve_exec,
                lambda: server.serve_files("/"),
                lambda: server.command("x")(lambda request: None),
                lambda: server.listen("127.0.0.1:0"),
                lambda: server.add(sock),
                lambda: server.serving().__enter__(),
            ]
            for use in uses[:-1]:
                with self.assertRaisesRegex(framefd.StateError, "closed"):
                    use()
        with self.assertRaises(framefd.StateError), server.serving():
            pass

    def test_close_ends_a_server_that_another_thread_runs(self) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers)
            server.command("x")(lambda request: None)
            address = server.listen("127.0.0.1:0")
            with contextlib.suppress(framefd.FrameTimeoutError), support.meanwhile(server.run):
                client = self.client(address)
                client.call("x")
                server.close()
                with self.assertRaises(framefd.FrameError):
                    while True:
                        client.call("x")

    def test_one_thread_runs_it(self) -> None:
        raised: list[BaseException] = []
        for workers in WORKERS:
            server = server_with(workers=workers)

            @server.command("run")
            def run(request: framefd.ServerRequest) -> None:
                try:
                    server.run()  # noqa: B023
                except framefd.BusyError as error:
                    raised.append(error)

            with self.served(server) as client:
                client.call("run")
                with self.assertRaises(framefd.BusyError):
                    server.run()
        self.assertEqual(len(raised), 2)

    def test_async_handlers_are_for_asyncio(self) -> None:
        server = server_with()

        @server.command("x")
        async def x(request: Any) -> None:
            self.fail("it runs")

        with server, self.assertRaisesRegex(TypeError, "'x' is async"):
            server.run()


class Signals(Case):
    def test_ctrl_c_and_sigterm_stop_it_and_lose_nothing(self) -> None:
        for workers in WORKERS:
            for number in (signal.SIGINT, signal.SIGTERM):
                with self.subTest((workers, number)), self.program(program(workers)) as process:
                    assert process.stdout is not None
                    address = process.stdout.readline().strip()
                    client = self.client(address, own=False)
                    client.send({"cmd": "slow", "n": 6})
                    self.assertEqual(process.stdout.readline(), "slow\n")
                    client.send({"cmd": "echo"}, b"behind")
                    process.send_signal(number)
                    self.assertEqual(client.recv().body, b"done")
                    self.assertEqual(client.recv().body, b"behind")
                    status, out, err = self.ended(process)
                    self.assertEqual((status, out, err), (0, "after True True\n", ""))

    def test_a_second_one_ends_everything_at_once(self) -> None:
        cases: list[tuple[int, dict[str, Any], bytes]] = [
            (0, {"cmd": "stuck"}, b""),
            (0, {"cmd": "body"}, b""),
            (0, {"cmd": "exec"}, b"sleep 100"),
            (2, {"cmd": "exec"}, b"sleep 100"),
            (2, {"cmd": "body"}, b""),
        ]
        for workers, header, body in cases:
            with self.subTest((workers, header)), self.program(program(workers)) as process:
                assert process.stdout is not None
                client = self.client(process.stdout.readline().strip(), own=False)
                if header["cmd"] == "body":
                    client.begin(header, 10)
                    client.flush()
                else:
                    client.send(header, body)
                if header["cmd"] == "exec":
                    time.sleep(0.3)
                else:
                    process.stdout.readline()
                begin = time.monotonic()
                process.send_signal(signal.SIGINT)
                time.sleep(0.2)
                self.assertIsNone(process.poll())
                process.send_signal(signal.SIGINT)
                status, _, err = self.ended(process)
                self.assertEqual(status, -signal.SIGINT, err)
                self.assertIn("KeyboardInterrupt", err)
                self.assertLess(time.monotonic() - begin, 10)

    def test_a_program_that_handles_signals_itself(self) -> None:
        prepare = """
class Enough(Exception):
    pass
def enough(*_):
    raise Enough
signal.signal(signal.SIGTERM, enough)
"""
        run = """
try:
    server.run()
except Enough:
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    print("enough", flush=True)
server.run()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
"""
        for workers in WORKERS:
            source = program(workers, prepare, run)
            with self.subTest(workers), self.program(source) as process:
                assert process.stdout is not None
                client = self.client(process.stdout.readline().strip(), own=False)
                client.call("echo")
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.stdout.readline(), "enough\n")
                client.call("echo")
                process.send_signal(signal.SIGTERM)
                self.assertEqual(self.ended(process), (0, "after True True\n", ""))

    def test_without_signals_ctrl_c_is_an_exception(self) -> None:
        run = """
for _ in range(2):
    try:
        server.run(signals=())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
        with self.program(program(run=run)) as process:
            assert process.stdout is not None
            client = self.client(process.stdout.readline().strip(), own=False)
            client.call("echo")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.stdout.readline(), "interrupted\n")
            client.begin({"cmd": "body"}, 10)  # in a wait of a handler
            client.flush()
            self.assertEqual(process.stdout.readline(), "body\n")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.stdout.readline(), "interrupted\n")
            self.assertEqual(client.recv().header["status"], "error")

    def test_in_another_thread_signals_are_the_program_s(self) -> None:
        run = """
with server.serving():
    sys.stdin.readline()
"""
        with self.program(program(run=run)) as process:
            assert process.stdout is not None and process.stdin is not None
            client = self.client(process.stdout.readline().strip(), own=False)
            client.call("echo")
            process.stdin.write("\n")
            self.assertEqual(self.ended(process), (0, "after True True\n", ""))


class Storms(Case):
    def test_exceptions_of_handlers_of_signals_come_out_and_requests_are_answered(self) -> None:
        """In the main thread, wherever a signal arrives: in a wait, in a handler, in a log."""

        class Raised(BaseException):
            pass

        raised, armed = 0, False

        def handler(*_: object) -> None:
            nonlocal raised, armed
            if armed:
                armed = False
                raised += 1
                raise Raised

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, handler))
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        server = server_with(log=lambda level, text: None)

        @server.command("echo")
        def echo(request: framefd.ServerRequest) -> dict[str, Any]:
            return {"n": request.header["n"]}

        answered = refused = 0
        address = server.listen("127.0.0.1:0")

        def ask() -> None:
            nonlocal answered, refused
            client, n = self.client(address), 0
            while not enough and time.monotonic() < end + LONG:
                n += 1
                try:
                    self.assertEqual(client.call("echo", {"n": n}).header["n"], n)
                    answered += 1
                except framefd.FrameError as error:
                    refused += 1
                    if not error.remote:
                        client.close()
                        client = self.client(address)
            client.close()
            server.stop()

        caught, enough, end = 0, False, time.monotonic() + 2
        with server, support.meanwhile(ask):
            signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
            while True:
                try:
                    armed = not enough
                    server.run(signals=())
                    break
                except Raised:
                    caught += 1
                if time.monotonic() > end and caught > 50:
                    enough = True
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertGreater(answered, 50)
        # One may have been raised between two calls of run().
        self.assertLessEqual(raised - caught, 1)
        self.assertLessEqual(refused, raised)


class Forks(Case):
    def test_a_handler_may_fork(self) -> None:
        for workers in WORKERS:
            for returns in (False, True):
                with self.subTest((workers, returns)):
                    self.fork(workers, returns)

    def fork(self, workers: int, returns: bool) -> None:
        children: list[int] = []
        server = server_with(workers=workers)
        server.command("echo")(lambda request: request.body)

        @server.command("fork")
        def fork(request: framefd.ServerRequest) -> bytes:
            pid = os.fork()
            if pid == 0 and not returns:
                os._exit(7)
            if pid == 0 and workers == 0:
                # run() raises a ForkedError in the child, which the thread of serving() keeps.
                threading.excepthook = lambda _: os._exit(7)
            children.append(pid)
            return b"one reply"

        with self.served(server) as client, self.client(server.addresses[0]) as other:
            other.call("echo")
            self.assertEqual(client.call("fork").body, b"one reply")
            _, status = os.waitpid(children[0], 0)
            self.assertFalse(os.WIFSIGNALED(status))
            with self.assertRaises(framefd.FrameTimeoutError):
                client.recv(timeout=0)
            self.assertEqual(client.call("echo", body=b"on").body, b"on")
            self.assertEqual(other.call("echo", body=b"on").body, b"on")

    def test_a_child_cannot_use_it(self) -> None:
        server = server_with(workers=1)
        server.command("x")(lambda request: None)
        with self.served(server) as client:
            client.call("x")
            pid = os.fork()
            if pid == 0:
                status = 1
                with contextlib.suppress(BaseException):
                    for use in (server.serve_exec, lambda: server.listen("127.0.0.1:0")):
                        with contextlib.suppress(framefd.ForkedError):
                            use()
                            os._exit(2)
                    server.stop()
                    server.close()
                    gc.collect()
                    status = 0
                os._exit(status)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            client.call("x")

    def test_a_child_does_not_wait_for_a_thread_of_its_parent(self) -> None:
        source = """
import os, sys, time, warnings
import framefd
warnings.simplefilter("ignore")  # of a fork beside threads
server = framefd.Server()
server.listen("127.0.0.1:0")
with server, server.serving():
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        sys.exit(3)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(code, time.monotonic() - begun < 4)
"""
        with self.program(source) as process:
            self.assertEqual(self.ended(process), (0, "3 True\n", ""))


class Misuse(Case):
    def test_a_request_that_another_thread_goes_on_to_use(self) -> None:
        """It is in a call when the handler returns."""
        for workers in WORKERS:
            server = server_with(workers=workers, stall=LONG)
            outcomes: list[BaseException | None] = []
            begun = threading.Event()

            def use(request: framefd.ServerRequest) -> None:
                connection = request.connection
                begun.set()  # noqa: B023
                try:
                    connection.recv()
                    outcomes.append(None)  # noqa: B023
                except BaseException as error:
                    outcomes.append(error)  # noqa: B023

            @server.command("x")
            def x(request: framefd.ServerRequest) -> None:
                thread = threading.Thread(target=use, args=[request])
                thread.start()
                begun.wait(LONG)  # noqa: B023
                time.sleep(0.05)

            with self.served(server) as client:
                with self.assertRaises(framefd.FrameError):
                    client.call("x")
                self.wait_until(lambda: bool(outcomes))  # noqa: B023
                self.assertIsInstance(outcomes[0], framefd.FrameError)
                self.client(server.addresses[0]).close()
            self.assertEqual(server.closed, True)

    def test_a_handler_may_close_its_connection(self) -> None:
        for end in ("close", "abort", "end"):
            server = server_with()
            server.command("end")(lambda request, end=end: getattr(request.connection, end)())
            with self.served(server) as client:
                address = server.addresses[0]
                with self.assertRaises(framefd.FrameError):
                    client.call("end")
                with self.assertRaises(framefd.FrameError):
                    self.client(address).call("end")

    def test_threads_hammer_it_while_it_runs(self) -> None:
        server = server_with(workers=2)
        server.command("echo")(lambda request: request.body)
        address = server.listen("127.0.0.1:0")
        counts = [0] * 4
        with server, server.serving(), contextlib.ExitStack() as stack:

            def hammer(index: int) -> None:
                for n in range(200):
                    with self.client(address) as client:
                        body = b"%d/%d" % (index, n)
                        self.assertEqual(client.call("echo", body=body).body, body)
                    server.counters()
                    ours, theirs = socket.socketpair()
                    server.add(theirs)
                    ours.close()
                    counts[index] += 1

            for index in range(len(counts)):
                stack.enter_context(support.meanwhile(lambda index=index: hammer(index)))
        self.assertEqual(counts, [200] * 4)


class Leftovers(Case):
    def test_requests_leave_nothing(self) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers, log=lambda level, text: None)
            server.command("echo")(lambda request: ({"n": 1}, request.body))
            server.command("fail")(lambda request: 1 // 0)
            server.command("stream", stream=True)(
                lambda request: b"".join(request.connection.pieces())
            )
            with self.served(server) as client:

                def rounds(count: int) -> None:
                    for _ in range(count):
                        client.call("echo", body=b"x")  # noqa: B023
                        client.call("stream", body=b"x" * 100)  # noqa: B023
                        with self.assertRaises(framefd.FrameError):
                            client.call("fail")  # noqa: B023

                rounds(500)
                gc.collect()
                objects, memory = len(gc.get_objects()), resident()
                descriptors = len(os.listdir("/proc/self/fd"))
                rounds(3000)
                gc.collect()
                self.assertLess(abs(len(gc.get_objects()) - objects), 200)
                self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)
                self.assertLess(resident() - memory, 8 << 20)

    def test_servers_leave_nothing(self) -> None:
        before = (0, 0)
        for n in range(30):
            server = server_with(workers=n % 3)
            server.command("x")(lambda request: None)
            server.serve_exec(framefd.ExecOptions(policy=lambda inquiry: None))
            with self.served(server) as client:
                client.call("x")
            server = None  # type: ignore[assignment]
            gc.collect()
            if n == 5:
                before = len(os.listdir("/proc/self/fd")), threads()
        # A thread of an earlier test may have ended since.
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before[0])
        self.assertLessEqual(threads(), before[1])

    def test_a_server_that_nobody_has_any_more(self) -> None:
        """It is in a cycle, through its handlers, and was never closed."""
        for workers in WORKERS:
            server = server_with(workers=workers)

            @server.command("x")
            def x(request: framefd.ServerRequest, server: Any = server) -> None:
                pass

            address = server.listen("127.0.0.1:0")
            with support.meanwhile(lambda: server.run()):  # noqa: B023
                client = self.client(address)
                client.call("x")
                server.stop()
            gone = weakref.ref(server)
            descriptors = len(os.listdir("/proc/self/fd"))
            del server, x
            gc.collect()
            self.assertIsNone(gone())
            self.assertLess(len(os.listdir("/proc/self/fd")), descriptors)

    def test_the_last_reference_goes_in_a_handler(self) -> None:
        """In a thread of the server, which frees it."""
        source = """
import framefd, gc, os, threading
gc.disable()
def make():
    server = framefd.Server(workers=1, log=lambda level, text: None)
    held = [server]
    entered, leave = threading.Event(), threading.Event()
    @server.command("x")
    def x(request):
        entered.set()
        leave.wait(20)
        held.clear()
        gc.collect()
    return held, server.listen("127.0.0.1:0"), entered, leave
held, address, entered, leave = make()
class Enough(Exception): pass
def enough(*_): raise Enough
import signal
signal.signal(signal.SIGALRM, enough)
client = framefd.connect(address, timeout=20)
client.send({"cmd": "x"})
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    held[0].run()
except Enough:
    pass
entered.wait(20)
leave.set()
try:
    client.recv()
except framefd.FrameError as error:
    pass
while os.listdir("/proc/self/task") != [str(os.getpid())]:
    pass
print("gone")
"""
        with self.program(source) as process:
            self.assertEqual(self.ended(process), (0, "gone\n", ""))

    def test_a_program_ends_although_servers_run(self) -> None:
        source = """
import framefd, threading, time
servers = []
for workers in (0, 2):
    server = framefd.Server(workers=workers, log=lambda level, text: None)
    server.command("echo")(lambda request: request.body)
    address = server.listen("127.0.0.1:0")
    threading.Thread(target=server.run, daemon=True).start()
    def ask(address=address):
        client = framefd.connect(address, timeout=20)
        while True:
            client.call("echo", body=b"x")
    for _ in range(3):
        threading.Thread(target=ask, daemon=True).start()
    servers.append(server)
time.sleep(0.5)
print("ending", flush=True)
threading.excepthook = lambda _: None
"""
        for _ in range(3):
            with self.program(source) as process:
                self.assertEqual(self.ended(process), (0, "ending\n", ""))


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


if __name__ == "__main__":
    unittest.main()
