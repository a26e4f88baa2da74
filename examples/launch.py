"""Starts the programs of this folder, in C or in Python, from the build tree.

For demo.py and the tests; what the programs themselves share is in c/common.c and
python/common.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pty
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

LANGUAGES = ("c", "python")
SECONDS = 30.0  # no program here may take longer

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / (os.environ.get("CARGO_TARGET_DIR") or "target")
ENVIRONMENT = os.environ | {
    "FRAMEFD_LIBRARY": str(TARGET / "release" / "libframefd.so"),
    "PYTHONPATH": str(ROOT / "bindings" / "python"),
}


# Options that every command line of a program gets.
ADDED: dict[str, list[str]] = {}


def program(language: str, name: str, *arguments: str) -> list[str]:
    """The command line of a program in one language."""
    arguments = (*ADDED.get(name, ()), *arguments)
    if language == "c":
        return [str(TARGET / "examples" / name), *arguments]
    return [sys.executable, str(ROOT / "examples" / "python" / f"{name}.py"), *arguments]


@dataclasses.dataclass
class Server:
    """A server that is listening."""

    host: str
    port: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> tuple[str, str]:
        """HOST and PORT for a command line."""
        return self.host, self.port

    @property
    def socket_address(self) -> tuple[str, int]:
        """The same for a socket."""
        return self.host, int(self.port)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Asks it to stop, and returns its exit status."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def errors(self) -> str:
        """What it has written to standard error."""
        return self.log.read_text(errors="replace")


@contextlib.contextmanager
def server(command: list[str], directory: str | None = None) -> Iterator[Server]:
    """Runs a server for as long as the block lasts."""
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, cwd=directory, env=ENVIRONMENT
        )
        with process:
            try:
                assert process.stdout is not None
                announced = process.stdout.readline().decode()
                host, _, port = announced.strip().removeprefix("listening on ").rpartition(":")
                started = Server(host, port, process, Path(log.name))
                if not port.isdigit():
                    raise RuntimeError(f"{command}: {announced!r} {started.errors()}")
                yield started
            finally:
                process.terminate()
                try:
                    process.wait(SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


def start(command: list[str], directory: str | None = None) -> subprocess.Popen[bytes]:
    """Starts a client whose standard input and output are pipes."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=directory, env=ENVIRONMENT
    )


def run(
    command: list[str], stdin: bytes = b"", directory: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs a client to its end."""
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        timeout=SECONDS,
        cwd=directory,
        env=ENVIRONMENT,
    )


def allow_files(count: int) -> None:
    """Lets this process, and what it starts, have so many files open, if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, hard)), hard))


def wait_for_partial(directory: Path, least: int, free: bool = False) -> None:
    """Until so many bytes of a file that is to be resumed are in a directory and, if
    ``free``, whoever received it has seen the end."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for path in directory.glob(".framefd-*.part"):
            # It may be locked, or gone since.
            gone = contextlib.suppress(BlockingIOError, FileNotFoundError)
            with gone, open(path, "rb") as file:
                if free:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_size >= least:
                    return
        time.sleep(0.01)
    raise TimeoutError(f"no partial file: {os.listdir(directory)}")


class Terminal:
    """A program on a terminal of its own, 24 lines of 80 columns: what it shows there, and
    what is typed. ``redirected`` is the shell's way to have it write elsewhere."""

    def __init__(
        self, command: list[str], redirected: str = "", directory: str | None = None
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(24, 80)
        self.modes_before = self.modes()
        self.shown = b""
        self._seen = 0
        # The first terminal that the leader of a session opens is the session's.
        tty = os.ttyname(self._slave)
        self.process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" <{tty} >{tty} 2>{tty} {redirected}', "sh", *command],
            cwd=directory,
            env=ENVIRONMENT,
            start_new_session=True,
        )

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def modes(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    def expect(self, text: bytes) -> bytes:
        """Waits until ``text`` is shown, behind what was expected before; what came up to
        its end."""
        while text not in self.shown[self._seen :]:
            if not self._read() and self.process.poll() is not None and not self._read():
                raise AssertionError(f"{text!r} is not in {self.shown!r}")
        end = self.shown.index(text, self._seen) + len(text)
        begin, self._seen = self._seen, end
        return self.shown[begin:end]

    def wait(self) -> int:
        """The program's exit status; ``shown`` is then all that it has shown."""
        while self.process.poll() is None:
            self._read()
        while self._read():
            pass
        return self.process.returncode

    def _read(self) -> bool:
        if time.monotonic() > self._end:
            raise TimeoutError(f"{self.process.args!r} shows {self.shown!r}")
        came = bool(select.select([self._master], [], [], 0.01)[0])
        if came:
            self.shown += os.read(self._master, 65536)
        return came

    def __enter__(self) -> Terminal:
        self._end = time.monotonic() + SECONDS
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)


class Line:
    """A line to a server, on which bytes are counted and take their time; after ``most`` of
    them in one direction of a connection it carries no more, until it is cut."""

    def __init__(self, server: Server, seconds: float = 0.0, most: int | None = None) -> None:
        self._far, self._seconds = server.socket_address, seconds
        self._most = sys.maxsize if most is None else most
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._over = threading.Event()
        self.sent = self.received = 0  # bytes to the server, and from it

    @property
    def address(self) -> tuple[str, str]:
        host, port = self._listener.getsockname()
        return host, str(port)

    def cut(self) -> None:
        self._over.set()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._far)
                self._ends += near, far
                for ends in ((near, far, "sent"), (far, near, "received")):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        left = self._most
        with contextlib.suppress(OSError):
            while data := source.recv(min(left, 65536)):
                time.sleep(self._seconds)
                target.sendall(data)
                setattr(self, counter, getattr(self, counter) + len(data))
                left -= len(data)
                if left == 0:
                    self._over.wait(SECONDS)
            target.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
