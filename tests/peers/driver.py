"""Starts servers and runs clients, the peers here or any program with the same manners."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

TIMEOUT = 20.0


def peer(name: str, *arguments: str) -> list[str]:
    """The command line of a peer of this folder."""
    return [sys.executable, str(pathlib.Path(__file__).with_name(name + ".py")), *arguments]


@contextlib.contextmanager
def server(command: list[str]) -> Iterator[tuple[str, str]]:
    """Runs a server for as long as the block lasts; the host and port it announces."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            announced = process.stdout.readline().split()
            if announced[:2] != ["listening", "on"]:
                errors.seek(0)
                raise RuntimeError(f"{command}: does not listen: {announced} {errors.read()}")
            host, _, port = announced[2].rpartition(":")
            yield host, port
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def run(command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs a client to its end; subprocess.TimeoutExpired where it hangs."""
    return subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT)
