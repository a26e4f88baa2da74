"""What the programs say by themselves: help, mistakes, the sticky program, the demo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import unittest

from pairs import ROOT, Case, launch

SERVER = ("--host", "--port", "--key-file", "--help")
CLIENT = ("--key-file", "--help")
SERVER_SEAL = ("--seal", "--plain", "--keys", "--name")
CLIENT_SEAL = ("--seal", "--keys", "--id", "--name")
STREAM = ("--timeout", "--cwd", "--env", "--stdin", "--tty")
OPTIONS = {
    "exec_server": (*SERVER, *SERVER_SEAL, "--wire"),
    "exec_client": (*CLIENT, *CLIENT_SEAL, "--wire", *STREAM),
    "udp_exec_server": (*SERVER, "--wire"),
    "udp_exec_client": (*CLIENT, "--wire"),
    "file_server": (*SERVER, *SERVER_SEAL, "--root"),
    "file_client": (*CLIENT, *CLIENT_SEAL, "--no-reply", "--resume", "--in-place", "--no-checksum"),
    "auth_echo_server": (*SERVER, "--plain"),
    "auth_echo_client": CLIENT,
    "echo_server": (*SERVER, *SERVER_SEAL),
    "sticky": (),
}
SEAL_MISTAKES = (
    ("--seal",),
    ("--seal", "--wire", "json"),
    ("--name", "x"),
)
SERVER_MISTAKES = (
    ("--keys", "/etc"),
    ("--seal", "--plain"),
    ("--seal", "--keys", "/nonexistent"),
    ("--seal", "--keys", "/dev/null"),
)
NO_TIMES = ("", "x", "-1", "0", "1e3", "0x1", "1.2.3", ".", "inf", "2147484", "0.0009")


class Help(Case):
    def test_every_program_is_there_in_both_languages(self) -> None:
        folders = (ROOT / "examples" / "c", ROOT / "examples" / "python")
        c, python = ({path.stem for path in folder.glob("*.[cp]*")} for folder in folders)
        self.assertEqual(c, python)
        # The one of docs/serving.md has no options.
        self.assertEqual(python - {"common", "hello", "keys", "kv_server", "server"}, set(OPTIONS))

    def test_it_names_every_option_and_is_the_same_in_both_languages(self) -> None:
        def check(name: str) -> None:
            c, python = (
                launch.run(launch.program(each, name, "--help")) for each in launch.LANGUAGES
            )
            self.assertEqual((c.returncode, c.stderr), (0, b""))
            self.assertEqual((python.returncode, python.stderr), (0, b""))
            self.assertEqual(c.stdout, python.stdout)
            text = c.stdout.decode()
            self.assertRegex(text, f"^usage: {name}")
            self.assertEqual(set(re.findall(r"--[a-z-]+", text)), set(OPTIONS[name]))
            self.assertLessEqual(max(map(len, text.splitlines())), 100)

        self.each([(name,) for name in OPTIONS], check)

    def test_mistakes(self) -> None:
        def check(name: str, *words: str) -> None:
            c, python = (
                launch.run(launch.program(each, name, *words)) for each in launch.LANGUAGES
            )
            status = (
                2 if name.endswith("server") else 255 if name.endswith("exec_client") else 1
            )
            self.assertEqual((c.returncode, c.stdout), (status, b""))
            self.assertRegex(c.stderr, f"^{name}: .*\n$".encode())
            self.assertEqual((python.returncode, python.stdout), (status, b""))
            self.assertEqual(python.stderr, c.stderr)

        cases: list[tuple[str, ...]] = [(name, "--dance") for name in OPTIONS]
        cases += [(name, "surplus") for name in OPTIONS if name.endswith("server")]
        cases += [(name, "--port", "65536") for name in OPTIONS if name.endswith("exec_server")]
        cases += [(name,) for name in OPTIONS if name.endswith("client")]
        cases += [(name, "127.0.0.1") for name in OPTIONS if name.endswith("client")]
        cases += [
            ("exec_server", "--wire"),
            ("exec_server", "--wire", "smoke"),
            ("exec_client", "--wire", "smoke", "127.0.0.1", "1"),
            ("udp_exec_server", "--wire", "ack"),
            ("udp_exec_client", "127.0.0.1", "1", "--wire", "ack"),
            ("exec_client", "127.0.0.1", "0x10", "true"),
            ("exec_client", "--stdin", "127.0.0.1", "1"),
            ("exec_client", "--wire", "json", "--tty", "127.0.0.1", "1", "true"),
            ("exec_client", "--env", "A=1", "--wire", "bare", "127.0.0.1", "1", "true"),
            *(("exec_client", "--env", env, "127.0.0.1", "1") for env in ("A", "=1", "")),
            *(("exec_client", "--timeout", time, "127.0.0.1", "1") for time in NO_TIMES),
            ("exec_server", "--host", "no such host"),
            ("exec_server", "--root", "/"),
            ("file_server",),
            ("file_server", "--root", "/nonexistent"),
            ("file_client", "127.0.0.1", "1", "--wire", "frame"),
            ("auth_echo_server",),
            ("auth_echo_client", "127.0.0.1", "1"),
            ("sticky", "surplus"),
            *(("exec_server", *words) for words in SEAL_MISTAKES + SERVER_MISTAKES),
            *(("file_server", *words) for words in SERVER_MISTAKES),
            *(("exec_client", *words, "127.0.0.1", "1", "true") for words in SEAL_MISTAKES),
            *(("echo_server", *words) for words in SERVER_MISTAKES),
            ("file_client", "--seal", "127.0.0.1", "1", "list"),
            ("file_client", "--plain", "127.0.0.1", "1", "list"),
        ]
        self.each(cases, check)


class Sticky(Case):
    def test_what_it_shows(self) -> None:
        c, python = (
            launch.run(launch.program(language, "sticky")) for language in launch.LANGUAGES
        )
        self.assertEqual((c.returncode, c.stderr), (0, b""))
        self.assertEqual((python.returncode, python.stderr), (0, b""))
        self.assertEqual(c.stdout, python.stdout)
        for line in (
            'recv(1024): 9 bytes "hellofeng"',
            'recv(2): 2 bytes "he"',
            'recv(1024): 8 bytes "llo feng"',
            '5 bytes "hello"',
            '4 bytes "feng"',
        ):
            self.assertIn(f"  {line}\n", c.stdout.decode())


class Demo(Case):
    def test_it_fails_where_anything_goes_wrong(self) -> None:
        # Nothing is built there.
        with tempfile.TemporaryDirectory() as target:
            got = subprocess.run(
                [sys.executable, str(ROOT / "examples" / "demo.py")],
                capture_output=True,
                text=True,
                timeout=launch.SECONDS,
                env=os.environ | {"CARGO_TARGET_DIR": target},
            )
        self.assertEqual(got.returncode, 1, got.stdout)
        self.assertIn("BAD ", got.stdout)
        self.assertRegex(got.stdout, r"\d+ of \d+ checks failed\n")
        self.assertNotIn("\x1b", got.stdout)


if __name__ == "__main__":
    unittest.main()
