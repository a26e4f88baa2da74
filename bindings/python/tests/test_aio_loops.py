"""The tests of asyncio on another loop."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest

import support


class Loops(unittest.TestCase):
    def test_the_same_on_uvloop(self) -> None:
        found = [sys.executable, "-c", "import uvloop"]
        if subprocess.run(found, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("uvloop is not installed")
        program = "import uvloop, unittest; uvloop.install(); unittest.main(None)"
        path = os.pathsep.join([str(support.PACKAGE), os.path.dirname(__file__)])
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, "test_aio", "test_aio_exchanges"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
