"""A directory that turns into a link out of the root and back, as fast as a process can
do it, while every command works below its name: nothing outside is read or changed.

The server is the program file_server, once with openat2(2) and once without; the clients
have nothing but sockets and JSON.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import itertools
import multiprocessing
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "peers")]

import wire  # noqa: E402
from server import may_trace, serving, traced  # noqa: E402

SECONDS = 60.0 if os.environ.get("CI") else 6.0
TIMEOUT = 20.0
# In memory where there is such a place: to be quick is all that counts here.
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
AT_FDCWD, RENAME_EXCHANGE = -100, 2
INSIDE, OUTSIDE = b"inside", b"outside"


def swap_for_ever(first: bytes, second: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    while libc.renameat2(AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE) == 0:
        pass
    raise OSError(ctypes.get_errno(), "renameat2")


def requests() -> list[tuple[wire.Header, bytes]]:
    put = {"cmd": "put", "filename": "dir/new", "filesize": 3}
    resumed = {"cmd": "put", "filename": "dir/resumed", "filesize": 3, "resume": True}
    digest = "0" * 64
    return [
        (put, b"new"),
        (resumed, b"new"),
        ({**put, "sha256": digest}, b"new"),
        ({**put, "mode": "0600", "mtime": 1000, "parents": True}, b"new"),
        ({**put, "filename": "dir/sub/made/new", "parents": True}, b"new"),
        ({"cmd": "get", "filename": "dir/file"}, b""),
        ({"cmd": "stat", "filename": "dir/file"}, b""),
        ({"cmd": "stat", "filename": "dir/resumed", "partial": True}, b""),
        ({"cmd": "list", "filename": "dir"}, b""),
        ({"cmd": "mkdir", "filename": "dir/made"}, b""),
        ({"cmd": "mkdir", "filename": "dir/sub/a/b", "parents": True}, b""),
        ({"cmd": "symlink", "filename": "dir/linked", "target": "file"}, b""),
    ]


class ADirectoryThatTurnsIntoALink(unittest.TestCase):
    def test_leads_nowhere(self) -> None:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
            root, outside = pathlib.Path(scratch, "root"), pathlib.Path(scratch, "outside")
            for directory in (root / "dir" / "sub", outside / "sub"):
                directory.mkdir(parents=True)
            (root / "dir" / "file").write_bytes(INSIDE)
            (outside / "file").write_bytes(OUTSIDE)
            (root / "link").symlink_to("../outside")
            before = sorted(outside.rglob("*")), outside.stat().st_mtime_ns
            names = [bytes(root / name) for name in ("dir", "link")]
            swapper = multiprocessing.Process(target=swap_for_ever, args=names, daemon=True)
            swapper.start()
            try:
                for without_openat2 in (False, True):
                    with self.subTest(without_openat2=without_openat2):
                        self.race(root, without_openat2)
            finally:
                self.assertTrue(swapper.is_alive())
                swapper.kill()
                swapper.join()
            self.assertEqual((sorted(outside.rglob("*")), outside.stat().st_mtime_ns), before)
            self.assertEqual((outside / "file").read_bytes(), OUTSIDE)

    def race(self, root: pathlib.Path, without_openat2: bool) -> None:
        if without_openat2 and not (may_trace() and shutil.which("strace")):
            self.skipTest("may not trace")
        inject = ("-o", "/dev/null", "-e", "trace=openat2", "-e", "inject=openat2:error=ENOSYS")
        outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
        failures: list[Exception] = []
        with contextlib.ExitStack() as stack:
            process, address = stack.enter_context(serving(str(root)))
            if without_openat2:
                stack.enter_context(traced(process, *inject))
            until = time.monotonic() + SECONDS / 2

            def work() -> None:
                try:
                    ask_until(until, address, outcomes)
                except Exception as error:
                    failures.append(error)

            threads = [threading.Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        # Each command has met the directory as well as the link.
        for command in ("put", "get", "stat", "list", "mkdir"):
            self.assertTrue(outcomes[command, "ok"] and outcomes[command, "denied"], outcomes)


def ask_until(
    until: float, address: tuple[str, int], outcomes: collections.Counter[tuple[str, str]]
) -> None:
    with socket.create_connection(address) as conn:
        conn.settimeout(TIMEOUT)
        # Header and body go out apart, and are not to wait for each other.
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for header, body in itertools.cycle(requests()):
            if time.monotonic() > until:
                return
            wire.write_frame(conn, header, body)
            reply = wire.read_frame(conn)
            if reply is None:
                raise AssertionError(f"{header}: closed")
            answer, content = reply
            if header["cmd"] == "get" and answer["status"] == "ok" and content != INSIDE:
                raise AssertionError(f"{content!r} was read")
            if header["cmd"] == "stat" and answer.get("size", len(INSIDE)) == len(OUTSIDE):
                raise AssertionError(f"{answer} was told")
            outcomes[header["cmd"], answer.get("code", answer["status"])] += 1


if __name__ == "__main__":
    unittest.main()
