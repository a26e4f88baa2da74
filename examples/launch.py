"""Starts the programs of this folder, in C or in Python, from the build tree.

For demo.py and the tests; what the programs themselves share is in c/common.c and
python/common.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
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


def program(language: str, name: str, *arguments: str) -> list[str]:
    """The command line of a program in one language."""
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
