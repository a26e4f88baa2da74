"""What each function costs a frame of 64 bytes: system calls, allocations and instructions of
the release library. Times are for `make bench`; these repeat, so they are held.

Instructions differ a little between compilers and processors, so they may be off by a fifth
from those in instructions.txt. `make counts` writes that file anew.
"""

from __future__ import annotations

import os
import shutil
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "benches"))

import counts  # noqa: E402

CHECKED_IN = HERE / "instructions.txt"


@unittest.skipUnless(shutil.which("strace"), "strace is missing")
class SystemCalls(unittest.TestCase):
    def test_there_are_no_more_than_the_bars_allow(self) -> None:
        for function, most in counts.MAX_SYSTEM_CALLS.items():
            with self.subTest(function):
                self.assertLessEqual(counts.system_calls(function), most)

    def test_what_is_there_is_taken_without_a_poll(self) -> None:
        plain = ("frame_recv", "frame_connection_recv", "frame_connection_next")
        for function in (*plain, "sealed_recv", "sealed_next"):
            with self.subTest(function):
                self.assertLessEqual(
                    set(counts.system_calls_by_name(function)), {"read", "recvfrom", "recvmsg"}
                )

    def test_no_descriptor_is_touched_by_encoder_and_decoder(self) -> None:
        for function in ("frame_encode", "frame_decoder_next"):
            with self.subTest(function):
                self.assertEqual(counts.system_calls_by_name(function), {})


class Allocations(unittest.TestCase):
    def test_there_are_no_more_than_the_bars_allow(self) -> None:
        for function, most in counts.MAX_ALLOCATIONS.items():
            with self.subTest(function):
                self.assertLessEqual(counts.allocations(function), most)


@unittest.skipUnless(shutil.which("valgrind"), "valgrind is missing")
class Instructions(unittest.TestCase):
    def test_they_are_the_checked_in_ones(self) -> None:
        counted = {name: round(counts.instructions(name)) for name in counts.FUNCTIONS}
        if os.environ.get("FRAMEFD_WRITE_COUNTS"):
            lines = [f"{name} {count}\n" for name, count in counted.items()]
            CHECKED_IN.write_text("".join(lines))
        expected = dict(line.split() for line in CHECKED_IN.read_text().splitlines())
        self.assertEqual(counted.keys(), expected.keys())
        for name, count in counted.items():
            with self.subTest(name):
                fifth = int(expected[name]) / 5
                self.assertAlmostEqual(
                    count, int(expected[name]), delta=fifth, msg="`make counts` if it is meant"
                )

    def test_there_are_no_more_than_the_bars_allow(self) -> None:
        for function, most in counts.MAX_INSTRUCTIONS.items():
            with self.subTest(function):
                self.assertLessEqual(counts.instructions(function), most)


if __name__ == "__main__":
    unittest.main()
