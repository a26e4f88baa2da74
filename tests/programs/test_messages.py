"""What the clients say is the same in both languages, word for word."""

from __future__ import annotations

import unittest

from pairs import Case, launch

WRONG = b"a key that only one side of this test has"


class Messages(Case):
    def test_nobody_listens(self) -> None:
        self.assert_same("exec_client", "127.0.0.1", "1", "true")
        self.assert_same("udp_exec_client", "127.0.0.1", "1", "true")
        self.assert_same("udp_exec_client", "--wire", "bare", "127.0.0.1", "1", "true")
        self.assert_same("file_client", "127.0.0.1", "1", "get", "x")

    def test_exec(self) -> None:
        key, wrong = self.key_file(), self.key_file("wrong", WRONG)

        def check(wire: str) -> None:
            server = launch.program("c", "exec_server", "--wire", wire)
            ask = ("exec_client", "--wire", wire)
            with launch.server(server) as running:
                self.assert_same(*ask, *running.address, "echo out; kill -9 $$")
                self.assert_same(*ask, *running.address, "x" * 70_000)
            with launch.server([*server, "--key-file", key]) as running:
                self.assert_same(*ask, "--key-file", wrong, *running.address, "true")

        self.each([(wire,) for wire in ("frame", "json", "packet", "ack", "bare")], check)

    def test_streams(self) -> None:
        def check(*options: str) -> None:
            command = "echo $A; sleep 1; exit 3"
            self.assert_same("exec_client", *options, *running.address, command)

        with launch.server(launch.program("c", "exec_server")) as running:
            cases = [
                ("--stdin",),
                ("--tty",),
                ("--timeout", "0.1"),
                ("--timeout", "0.1", "--stdin"),
                ("--cwd", "/nonexistent"),
                ("--env", "A=1"),
                ("--env", "A=\udcff"),
            ]
            self.each(cases, check)

    def test_files(self) -> None:
        key, wrong = self.key_file(), self.key_file("wrong", WRONG)
        server = launch.program("c", "file_server", "--root", str(self.directory))
        with launch.server(server) as running:
            for words in (
                ("put", key, "stored"),
                ("get", "stored", str(self.directory / "copy")),
                ("get", "missing"),
                ("get", "../x"),
                ("get", "stored", "/nonexistent/x"),
                ("put", "/nonexistent"),
                ("put", "/"),
                ("put",),
                ("dance",),
                ("stat", "stored"),
                ("stat", "missing"),
                ("list",),
                ("list", "stored"),
                ("list", "a", "b"),
                ("get", "-r", "missing", "copy"),
                ("get", "-r", "stored", "copy"),
                ("put", "-r", "/nonexistent"),
                ("put", "-r", key),
                ("put", "-r", "--no-reply", key),
                ("put", "--resume", key, "resumed"),
                ("put", "--dance", key),
                ("put", "--resume=3", key),
                ("put", "-rx", key),
                ("get", "--no-reply", "x"),
                ("stat", "-r", "x"),
                ("list", "--", "-r"),
            ):
                self.assert_same("file_client", *running.address, *words)
        with launch.server([*server, "--key-file", key]) as running:
            self.assert_same("file_client", "--key-file", wrong, *running.address, "get", "key")

    def test_echo(self) -> None:
        key, wrong = self.key_file(), self.key_file("wrong", WRONG)
        with launch.server(
            launch.program("c", "auth_echo_server", "--key-file", key)
        ) as running:
            self.assert_same("auth_echo_client", "--key-file", key, *running.address, "x")
            self.assert_same("auth_echo_client", "--key-file", wrong, *running.address, "x")

    def test_key_files(self) -> None:
        for path in (self.key_file("short", b"short"), str(self.directory), "/nonexistent"):
            self.assert_same("exec_client", "--key-file", path, "127.0.0.1", "1")
            self.assert_same("exec_server", "--key-file", path)

    def assert_same(self, name: str, *words: str) -> None:
        c, python = (
            launch.run(launch.program(language, name, *words), directory=str(self.directory))
            for language in launch.LANGUAGES
        )
        self.assertTrue(c.stdout + c.stderr or c.returncode, words)
        self.assertEqual(
            (c.stdout, c.stderr, c.returncode),
            (python.stdout, python.stderr, python.returncode),
        )


if __name__ == "__main__":
    unittest.main()
