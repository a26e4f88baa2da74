"""Every program in bad surroundings: without standard descriptors, with an output that does not
block, is full or has lost its reader, as process 1, and stopped while clients wait.

The programs are those of the folder: one that is added has to be added to a table here."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Iterator

from pairs import ROOT, Case, launch, plain, redirecting

WRONG = b"a key that only one side of this test has"

# Servers; the words after a client's HOST and PORT, and what it shows.
SERVERS = {
    "exec_server": ("exec_client", ("echo on",), b"on\n"),
    "udp_exec_server": ("udp_exec_client", ("echo on",), b"on\n"),
    "file_server": ("file_client", ("list",), b""),
    "auth_echo_server": ("auth_echo_client", ("on",), b"ON\n"),
    "echo_server": ("", (), b""),  # any program that sends frames
}
ALONE = {"hello": b"hello\n", "sticky": None}
WITH_KEY = {"exec_server", "udp_exec_server", "file_server", "auth_echo_server"}

EACH_SERVER = [(language, name) for language in launch.LANGUAGES for name in SERVERS]
CLIENTS = {client: name for name, (client, _, _) in SERVERS.items() if client}
EACH_CLIENT = [(language, name) for language in launch.LANGUAGES for name in CLIENTS]
EACH_ALONE = [(language, name) for language in launch.LANGUAGES for name in ALONE]
# Those that show something. The first program of the README does not look at its output.
SHOWING = EACH_CLIENT + [case for case in EACH_ALONE if case[1] != "hello"]

# What a shell closes.
CLOSED = ("<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-")


class Programs(Case):
    def setUp(self) -> None:
        super().setUp()
        self.keys = {"right": self.key_file(), "wrong": self.key_file("wrong", WRONG)}
        self.root = self.directory / "root"
        self.root.mkdir()

    def server(self, language: str, name: str) -> list[str]:
        options = ["--key-file", self.keys["right"]] if name in WITH_KEY else []
        if name == "file_server":
            options += ["--root", str(self.root)]
        return launch.program(language, name, *options)

    def client(
        self, language: str, name: str, address: tuple[str, str], key: str = "right"
    ) -> list[str]:
        words = SERVERS[CLIENTS[name]][1]
        return launch.program(language, name, "--key-file", self.keys[key], *address, *words)

    def check_service(self, name: str, address: tuple[str, str], seconds: float = 0) -> None:
        """A server serves; it may take as long as that to start."""
        end = time.monotonic() + seconds
        client, _, shown = SERVERS[name]
        while True:
            if client:
                got = launch.run(self.client("c", client, address))
                good, said = (got.stdout, got.returncode) == (shown, 0), got.stderr
            else:
                good, said = echoes(address), b""
            if good or time.monotonic() > end:
                break
            time.sleep(0.01)
        self.assertTrue(good, (name, said))

    def annoy(self, name: str, address: tuple[str, str]) -> None:
        """What a server may write to its log: a wrong key, or bytes that are none of ours."""
        client = SERVERS[name][0]
        if name == "udp_exec_server":
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.sendto(b"\xff" * 9, (address[0], int(address[1])))
        elif client:
            got = launch.run(self.client("c", client, address, "wrong"))
            self.assertEqual(got.stdout, b"")
        else:
            with socket.create_connection((address[0], int(address[1]))) as conn:
                conn.sendall(b"\xff" * 9)


class All(unittest.TestCase):
    def test_every_program_is_in_a_table(self) -> None:
        for folder, kind in (("c", "*.c"), ("python", "*.py")):
            found = {path.stem for path in (ROOT / "examples" / folder).glob(kind)}
            # test_kv_server.py has that one, whose server is the library's.
            others = {"common", "keys", "server", "kv_server"}
            self.assertEqual(found - others, {*SERVERS, *CLIENTS, *ALONE})


def free_port(kind: int) -> int:
    """A port that no client gets meanwhile: below those that the kernel gives out."""
    while True:
        port = random.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), socket.socket(type=kind) as free:
            free.bind(("127.0.0.1", port))
            return port


class Descriptors(Programs):
    """Without standard descriptors, another one gets their number."""

    def test_a_server(self) -> None:
        def check(language: str, name: str, closed: str) -> None:
            kind = socket.SOCK_DGRAM if name.startswith("udp") else socket.SOCK_STREAM
            address = ("127.0.0.1", str(free_port(kind)))
            command = [*self.server(language, name), "--port", address[1]]
            with launch.start(redirecting(closed, command)) as server:
                try:
                    self.check_service(name, address, launch.SECONDS)
                    self.annoy(name, address)
                    self.check_service(name, address)
                    server.terminate()
                    self.assertEqual(server.wait(launch.SECONDS), 0)
                finally:
                    server.kill()

        self.each([(*case, closed) for case in EACH_SERVER for closed in CLOSED[-1:]], check)

    def test_a_client(self) -> None:
        def check(language: str, name: str, closed: str) -> None:
            with launch.server(self.server("c", CLIENTS[name])) as running:
                ask = self.client(language, name, running.address)
                got = launch.run(redirecting(closed, ask))
                shown = b"" if ">&-" in closed.split() else SERVERS[CLIENTS[name]][2]
                self.assertEqual((got.stdout, got.stderr, got.returncode), (shown, b"", 0))

        self.each([(*case, closed) for case in EACH_CLIENT for closed in CLOSED], check)

    def test_a_program_alone(self) -> None:
        def check(language: str, name: str, closed: str) -> None:
            command = launch.program(language, name)
            got = launch.run(redirecting(closed, command))
            shown = b"" if ">&-" in closed.split() else launch.run(command).stdout
            self.assertEqual((got.stdout, got.stderr, got.returncode), (shown, b"", 0))

        self.each([(*case, closed) for case in EACH_ALONE for closed in CLOSED], check)


class Output(Programs):
    """A standard output that is not what a program hopes for."""

    def test_one_that_does_not_block_and_is_full_for_a_while(self) -> None:
        def check(language: str, name: str, unbuffered: str) -> None:
            with self.command(language, name) as command:
                shown = launch.run(command).stdout
                environment = launch.ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered}
                self.assertEqual(show_to_a_full_pipe(command, environment), shown)

        cases = [(*case, unbuffered) for case in SHOWING for unbuffered in ("", "1")]
        self.each(cases, check)

    def test_a_device_that_is_full(self) -> None:
        def check(language: str, name: str) -> None:
            with self.command(language, name) as command:
                got = launch.run(redirecting(">/dev/full", command))
                self.assertNotEqual(got.returncode, 0)
                self.assertNotEqual(got.stderr, b"")

        self.each(SHOWING, check)

    def test_the_help_on_each(self) -> None:
        def check(language: str, name: str) -> None:
            command = launch.program(language, name, "--help")
            shown = launch.run(command).stdout
            self.assertEqual(show_to_a_full_pipe(command, launch.ENVIRONMENT), shown)
            got = launch.run(redirecting(">/dev/full", command))
            self.assertNotEqual(got.returncode, 0)
            self.assertIn(b"No space left", got.stderr)

        self.each(EACH_SERVER + SHOWING, check)

    def test_a_log_that_nobody_reads_any_more(self) -> None:
        def check(language: str, name: str) -> None:
            log = self.directory / f"{language}-{name}"
            os.mkfifo(log)
            reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
            command = redirecting(f"2>{log}", self.server(language, name))
            with launch.server(command) as running:
                os.close(reader)
                self.annoy(name, running.address)
                self.check_service(name, running.address)
                self.assertEqual(running.stop(), 0)

        self.each(EACH_SERVER, check)

    def test_a_log_whose_reader_does_not_read(self) -> None:
        def check(language: str, name: str) -> None:
            log = self.directory / f"{language}-{name}"
            os.mkfifo(log)
            reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
            writer = os.open(log, os.O_WRONLY | os.O_NONBLOCK)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writer, bytes(4096))
            command = redirecting(f"2>{log}", self.server(language, name))
            with launch.server(command) as running:
                for _ in range(3):
                    self.annoy(name, running.address)
                self.check_service(name, running.address)
                self.assertEqual(running.stop(), 0)
            os.close(reader)
            os.close(writer)

        self.each(EACH_SERVER, check)

    @contextlib.contextmanager
    def command(self, language: str, name: str) -> Iterator[list[str]]:
        """One that shows something."""
        if name in ALONE:
            yield launch.program(language, name)
            return
        file = self.root / "a-file"
        file.touch()
        os.utime(file, (0, 0))
        with launch.server(self.server("c", CLIENTS[name])) as running:
            yield self.client(language, name, running.address)


class Stop(Programs):
    def test_who_has_asked_is_served_before_the_stop(self) -> None:
        """Twenty clients connect and ask while the server sleeps; it is stopped as it wakes."""

        def check(language: str, name: str) -> None:
            options = ("--root", str(self.root)) if name == "file_server" else ()
            with launch.server(launch.program(language, name, *options)) as running:
                running.process.send_signal(signal.SIGSTOP)
                with contextlib.ExitStack() as stack:
                    asked = [stack.enter_context(Asked(name, running, n)) for n in range(20)]
                    running.process.send_signal(signal.SIGTERM)
                    running.process.send_signal(signal.SIGCONT)
                    self.assertEqual([each.reply() for each in asked], [True] * 20)
                self.assertEqual(running.process.wait(launch.SECONDS), 0, running.errors())

        # The key would have to be proved by a client that has an answer.
        self.each([case for case in EACH_SERVER if case[1] != "auth_echo_server"], check)

    def test_a_client_that_never_pauses_does_not_hold_it_up(self) -> None:
        def check(language: str, name: str) -> None:
            options = ("--root", str(self.root)) if name == "file_server" else ()
            with launch.server(launch.program(language, name, *options)) as running:
                with Hurry(name, running):
                    time.sleep(0.3)
                    self.assertEqual(running.stop(), 0)

        self.each([case for case in EACH_SERVER if case[1] != "auth_echo_server"], check)

    def test_who_proves_no_key_does_not_hold_it_up(self) -> None:
        def check(language: str, name: str) -> None:
            with launch.server(self.server(language, name)) as running:
                with contextlib.ExitStack() as stack:
                    for _ in range(20):
                        conn = socket.create_connection(running.socket_address)
                        stack.enter_context(conn)
                        self.assertEqual(len(conn.recv(32, socket.MSG_WAITALL)), 32)
                    self.assertEqual(running.stop(), 0)
                # It has not waited until their time was up.
                self.assertNotIn("timed out", running.errors())

        self.each(
            [case for case in EACH_SERVER if case[1] in WITH_KEY - {"udp_exec_server"}], check
        )

    def test_who_never_reads_does_not_hold_it_up(self) -> None:
        """Of the servers in Python, whose times can be shortened."""
        for name in ("exec_server", "file_server"):
            options = ["--root", str(self.root)] if name == "file_server" else []
            folder = ROOT / "examples" / "python"
            program = f"""if True:
                import sys
                sys.path.insert(0, {str(folder)!r})
                import common, {name}
                common.STALL_SECONDS = common.LINGER_SECONDS = 0.2
                common.run({name}.main, common.NO_SERVER)"""
            command = [sys.executable, "-c", program, *options]
            with self.subTest(name), launch.server(command) as running:
                with socket.create_connection(running.socket_address) as conn:
                    conn.settimeout(launch.SECONDS)
                    requests = plain.pack_header({"cmd": "hello", "data_size": 0}) * 1000
                    with self.assertRaises(ConnectionError):  # it is given up
                        while True:
                            conn.sendall(requests)
                    self.assertEqual(running.stop(), 0)


class Hurry:
    """Sends requests as fast as the server reads them."""

    def __init__(self, name: str, server: launch.Server) -> None:
        is_udp = name.startswith("udp")
        self.sock = socket.socket(type=socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
        self.sock.connect(server.socket_address)
        request = plain.pack_header({"cmd": "hello", "data_size": 0})
        self.requests = b"not one" if is_udp else request * 50
        self.over = False
        self.threads = [threading.Thread(target=each) for each in (self.send, self.receive)]

    def send(self) -> None:
        while not self.over:
            try:
                self.sock.sendall(self.requests)
            except ConnectionRefusedError:
                pass  # a datagram after the end
            except OSError:
                return

    def receive(self) -> None:
        with contextlib.suppress(OSError):
            while not self.over and self.sock.recv(65536):
                pass

    def __enter__(self) -> None:
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self.over = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.sock.close()


class Asked:
    """A request that was sent to a server."""

    def __init__(self, name: str, server: launch.Server, n: int) -> None:
        is_udp = name.startswith("udp")
        self.sock = socket.socket(type=socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
        self.sock.settimeout(launch.SECONDS)
        self.sock.connect(server.socket_address)
        self.id = f"{n}-{time.time_ns()}"
        header = {"cmd": "list" if name == "file_server" else "exec", "id": self.id}
        if name == "file_server":
            header["filename"] = "."
        body = b"" if name == "file_server" else b"echo %d" % n
        frame = plain.pack_header(header | {"data_size": len(body)}) + body
        self.sock.sendall(frame)

    def reply(self) -> bool:
        """Whether there is one, for this request."""
        if self.sock.type == socket.SOCK_DGRAM:
            return self.id.encode() in self.sock.recv(65536)
        header, _ = plain.read_frame(self.sock) or ({}, b"")
        return header.get("id") == self.id

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def namespace() -> list[str]:
    """What makes a program process 1; nothing if this machine does not let us."""
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *own, "--pid", "--fork", "--kill-child"]
    with contextlib.suppress(OSError):
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return []


@unittest.skipUnless(os.environ.get("CI") or namespace(), "needs a PID namespace")
class Process1(Programs):
    """A server that is process 1 of a container is the parent of every orphan."""

    def test_orphans_are_reaped_and_commands_are_not_lost(self) -> None:
        def check(language: str, name: str) -> None:
            command = [*namespace(), *self.server(language, name)]
            with launch.server(command) as running:
                (init,) = children_of(running.process.pid)
                client = SERVERS[name][0]
                try:
                    for n in range(10):
                        ask = self.client("c", client, running.address)[:-1]
                        orphan = "setsid sleep 0.05 >/dev/null 2>&1 &"
                        got = launch.run([*ask, f"{orphan} exit {n}"])
                        self.assertEqual(got.returncode, n, got.stderr)
                    end = time.monotonic() + launch.SECONDS
                    while len(children_of(init)) > 1 and time.monotonic() < end:
                        time.sleep(0.01)
                    self.assertEqual(len(children_of(init)), 1, "only the server is left")
                finally:
                    os.kill(init, signal.SIGTERM)
                self.assertEqual(running.process.wait(launch.SECONDS), 0, running.errors())

        servers = [case for case in EACH_SERVER if "exec" in case[1]]
        self.each(servers, check)


def children_of(pid: int) -> list[int]:
    """Zombies as well."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            rest = stat.read_text().rpartition(")")[2].split()
            if int(rest[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def echoes(address: tuple[str, str]) -> bool:
    with contextlib.suppress(OSError):
        with socket.create_connection((address[0], int(address[1])), launch.SECONDS) as conn:
            plain.write_frame(conn, {"n": 1}, b"on")
            return (plain.read_frame(conn) or ({}, b""))[1] == b"on"
    return False


def show_to_a_full_pipe(command: list[str], environment: dict[str, str]) -> bytes:
    """What a program writes to a pipe that does not block, and is full until the program has
    been waiting for a while."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writer, bytes(4096))
    with open(reader, "rb") as pipe:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=writer, env=environment
        )
        os.close(writer)
        with process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
            output = pipe.read()
    if process.returncode != 0:
        raise AssertionError(f"{command}: status {process.returncode}")
    return output[filled:]


if __name__ == "__main__":
    unittest.main()
