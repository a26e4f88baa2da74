"""What is left of a put whose server dies, or fails at any of its system calls: the old
file or the new one, byte for byte, and nothing that a sweep would not find.

The server is the program file_server; the client has nothing but sockets and JSON.
"""

from __future__ import annotations

import collections
import os
import pathlib
import random
import re
import shutil
import socket
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "peers")]

import wire  # noqa: E402
from server import may_trace, serving, traced  # noqa: E402

PUTS = 1000
# Opening the directory and syncing it: the new file is in place by then.
AFTER_THE_RENAME = {("openat", 2), ("fsync", 2)}
SIZE = 200_000
TIMEOUT = 20.0


def content(number: int) -> bytes:
    """Unlike that of any other number, in every part of it."""
    return random.Random(number).randbytes(64) * (SIZE // 64)


def put_header(number: int) -> wire.Header:
    size = len(content(number))
    return {"cmd": "put", "filename": "target", "filesize": size, "data_size": size}


def left_over(root: str) -> list[str]:
    return [name for name in os.listdir(root) if name != "target"]


class AKilledServer(unittest.TestCase):
    def test_leaves_the_old_file_or_the_new_one(self) -> None:
        with tempfile.TemporaryDirectory() as root:
            target = pathlib.Path(root) / "target"
            target.write_bytes(content(0))
            current, ends = 0, collections.Counter[str]()
            # About as long as a put takes: each end moves it towards the other one.
            took = 0.001
            for number in range(1, PUTS + 1):
                answered = self.put_and_kill(root, number, random.uniform(0, 2 * took))
                stored = target.read_bytes()
                self.assertIn(stored, (content(current), content(number)), f"put {number}")
                if stored == content(number):
                    current = number
                elif answered:
                    self.fail(f"put {number} was answered, and its file is not there")
                ends["new" if current == number else "old"] += 1
                took *= 0.9 if current == number else 1.1
            # Killed at random, both ends are seen.
            self.assertGreater(min(ends["new"], ends["old"]), PUTS // 20, ends)
            for name in left_over(root):
                self.assertRegex(name, r"^\.framefd-[0-9a-f]{16}\.(tmp|part)$")

    def put_and_kill(self, root: str, number: int, delay: float) -> bool:
        """Whether the server said that the file is stored."""
        with serving(root) as (process, address), socket.create_connection(address) as conn:
            resume = {"resume": True} if number % 2 else {}
            conn.sendall(wire.pack_header(put_header(number) | resume))
            until = time.monotonic() + delay
            conn.sendall(content(number))
            while time.monotonic() < until:
                pass
            process.kill()
            process.wait()
            try:
                reply = wire.read_frame(conn)
            except (EOFError, ConnectionError):
                return False
            return reply is not None and reply[0]["status"] == "ok"


@unittest.skipUnless(shutil.which("strace") or os.environ.get("CI"), "needs strace")
@unittest.skipUnless(may_trace(), "may not trace")
class ASystemCallThatFails(unittest.TestCase):
    """Each system call that the thread of a connection makes for one put, failed once."""

    def test_leaves_the_old_file_or_the_new_one(self) -> None:
        calls = self.calls_of_a_put()
        for name in ("openat2", "openat", "write", "fchmod", "fsync", "renameat", "close"):
            self.assertIn(name, calls)
        outcomes = {}
        for name, count in calls.items():
            for occurrence in range(1, count + 1):
                for errno in ("EIO", "ENOSPC"):
                    with self.subTest(call=name, occurrence=occurrence, errno=errno):
                        outcome = self.put_with(name, occurrence, errno)
                        outcomes[name, occurrence, errno] = outcome
        # Where it matters the failure is seen and told, and not passed over.
        for name in ("write", "fsync", "renameat"):
            self.assertEqual(outcomes[name, 1, "ENOSPC"], "no_space")
            self.assertEqual(outcomes[name, 1, "EIO"], "io")

    def calls_of_a_put(self) -> dict[str, int]:
        """How often the thread of a connection makes each call."""
        with tempfile.TemporaryDirectory() as scratch:
            trace = os.path.join(scratch, "trace")
            with serving(self.root(scratch)) as (process, address):
                with traced(process, "-ff", "-o", trace):
                    self.assertEqual(self.put(address), "ok")
            for path in pathlib.Path(scratch).glob("trace.*"):
                lines = path.read_text().splitlines()
                if any("fsync(" in line for line in lines):
                    names = [re.match(r"(\w+)\(", line) for line in lines]
                    counts = collections.Counter(name[1] for name in names if name)
                    # Of the C library, without which no thread starts, and of the loop of the
                    # server: their manual pages have no such errors.
                    for name in ("rseq", "epoll_pwait", "futex"):
                        del counts[name]
                    return dict(counts)
        self.fail("no thread synced a file")

    def put_with(self, call: str, occurrence: int, errno: str) -> str:
        """The outcome of a put during which this call fails."""
        with tempfile.TemporaryDirectory() as scratch:
            root = self.root(scratch)
            target = pathlib.Path(root) / "target"
            inject = f"inject={call}:error={errno}:when={occurrence}"
            options = ("-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
            with serving(root) as (process, address):
                with traced(process, *options):
                    outcome = self.put(address)
                stored = target.read_bytes()
                self.assertIn(stored, (content(0), content(1)), outcome)
                if outcome == "ok":
                    self.assertEqual(stored, content(1))
                elif outcome != "closed" and (call, occurrence) not in AFTER_THE_RENAME:
                    self.assertEqual(stored, content(0), outcome)
                self.assertEqual(left_over(root), [], outcome)
                # It serves on.
                self.assertEqual(self.put(address), "ok")
                self.assertEqual(target.read_bytes(), content(1))
                return outcome

    def put(self, address: tuple[str, int]) -> str:
        """The status of the reply, or its code; "closed" where there is none."""
        with socket.create_connection(address) as conn:
            conn.settimeout(TIMEOUT)
            try:
                conn.sendall(wire.pack_header(put_header(1)) + content(1))
                reply = wire.read_frame(conn)
            except (EOFError, ConnectionError):
                return "closed"
            if reply is None:
                return "closed"
            return str(reply[0].get("code", reply[0]["status"]))

    def root(self, scratch: str) -> str:
        root = os.path.join(scratch, "root")
        os.mkdir(root)
        pathlib.Path(root, "target").write_bytes(content(0))
        return root


if __name__ == "__main__":
    unittest.main()
