"""The file server whose faults are looked for, and a tracer that makes them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVER = ROOT / (os.environ.get("CARGO_TARGET_DIR") or "target") / "examples" / "file_server"


@contextlib.contextmanager
def serving(root: str) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """A server, and where it listens."""
    command = [str(SERVER), "--root", root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            host, _, port = process.stdout.readline().split()[2].rpartition(":")
            yield process, (host, int(port))
        finally:
            process.terminate()


@contextlib.contextmanager
def traced(process: subprocess.Popen[str], *options: str) -> Iterator[None]:
    """Runs strace on a process, from now on and with every thread that it starts."""
    command = ["strace", "-f", "-p", str(process.pid), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        line = strace.stderr.readline()
        if "attached" not in line:
            raise RuntimeError(line)
        try:
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            try:
                strace.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                # It may wait for ever for a thread of a process that has ended.
                strace.kill()


def may_trace() -> bool:
    scope = pathlib.Path("/proc/sys/kernel/yama/ptrace_scope")
    restricted = scope.exists() and scope.read_text().strip() != "0"
    return os.geteuid() == 0 or not restricted
