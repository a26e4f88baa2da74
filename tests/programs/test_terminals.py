"""The clients on a terminal: Ctrl-C, its size, its modes, and what is shown there alone."""

from __future__ import annotations

import importlib.util
import signal
import unittest

from pairs import OURS, Case, Servers, launch, tcp_exec_server

CTRL_C, CTRL_D = b"\x03", b"\x04"

# A shell without a trap may miss a signal that comes while it starts a process.
WAIT = "while :; do sleep 0.05; done"
INTERRUPTIBLE = f"trap 'exit 3' INT; echo ready; {WAIT}"


class Commands(Case):
    servers: Servers

    @classmethod
    def setUpClass(cls) -> None:
        cls.servers = Servers()
        cls.addClassCleanup(cls.servers.close)

    def terminal(
        self, server: str, client: str, *words: str, redirected: str = ""
    ) -> launch.Terminal:
        address = self.servers.start(tcp_exec_server(server, "frame")).address
        options = [word for word in words if word.startswith("--")]
        words = tuple(word for word in words if not word.startswith("--"))
        command = launch.program(client, "exec_client", *options, *address, *words)
        return launch.Terminal(command, redirected)

    def test_the_first_interrupt_is_for_the_command(self) -> None:
        def check(server: str, client: str, *options: str) -> None:
            with self.terminal(server, client, *options, INTERRUPTIBLE) as terminal:
                terminal.expect(b"ready")
                terminal.type(CTRL_C)
                self.assertEqual(terminal.wait(), 3)

        self.each([(*pair, *tty) for pair in OURS for tty in ((), ("--tty",))], check)

    def test_the_second_interrupt_ends_the_client(self) -> None:
        command = f"trap 'echo caught' INT; echo ready; {WAIT}"

        def check(server: str, client: str) -> None:
            with self.terminal(server, client, command) as terminal:
                terminal.expect(b"ready")
                terminal.type(CTRL_C)
                terminal.expect(b"caught")
                terminal.type(CTRL_C)
                self.assertEqual(terminal.wait(), 130)

        self.each(OURS, check)

    def test_a_prompt(self) -> None:
        def check(server: str, client: str) -> None:
            with self.terminal(server, client) as terminal:
                terminal.expect(b">>: ")
                # Its output is there before its end, and it does not take the next line.
                terminal.type(f"cat; {INTERRUPTIBLE}\n".encode())
                terminal.expect(b"\nready")
                terminal.type(CTRL_C)
                terminal.expect(b">>: ")
                terminal.type(b"echo on\n")
                terminal.expect(b"\non\r\n>>: ")
                terminal.type(CTRL_C)
                self.assertEqual(terminal.wait(), -signal.SIGINT)

        self.each(OURS, check)

    def test_a_command_reads_what_is_typed(self) -> None:
        def check(server: str, client: str) -> None:
            with self.terminal(server, client, "cat; exit 5") as terminal:
                terminal.type(b"hello\n")
                terminal.expect(b"hello\r\nhello\r\n")
                terminal.type(CTRL_D)
                self.assertEqual(terminal.wait(), 5)
            # Not where its output goes elsewhere: then it might be in a loop.
            with self.terminal(server, client, "cat", redirected=">/dev/null") as terminal:
                self.assertEqual(terminal.wait(), 0)

        self.each(OURS, check)

    def test_a_shell(self) -> None:
        def check(server: str, client: str) -> None:
            with self.terminal(server, client, "--tty", "--env=PS1=$ ", "sh") as terminal:
                terminal.expect(b"$ ")
                self.assertNotEqual(terminal.modes(), terminal.modes_before)
                terminal.type(b"test -t 0 && test -t 1 && test -t 2 && echo $((6 * 7))\r")
                terminal.expect(b"\r\n42\r\n$ ")
                # A job of the shell's own, once it runs.
                terminal.type(f"({INTERRUPTIBLE})\r".encode())
                terminal.expect(b"\nready\r\n")
                terminal.type(CTRL_C)
                terminal.expect(b"$ ")
                terminal.type(b"exit 7\r")
                self.assertEqual(terminal.wait(), 7)
                self.assertEqual(terminal.modes(), terminal.modes_before)

        self.each(OURS, check)

    def test_its_size(self) -> None:
        command = f"stty size; trap 'stty size' WINCH; {INTERRUPTIBLE}"

        def check(server: str, client: str) -> None:
            with self.terminal(server, client, "--tty", command) as terminal:
                terminal.expect(b"24 80\r\nready\r\n")
                terminal.resize(33, 101)
                terminal.expect(b"33 101\r\n")
                terminal.type(CTRL_C)
                self.assertEqual(terminal.wait(), 3)

        self.each(OURS, check)

    def test_without_one_here(self) -> None:
        def check(server: str, client: str) -> None:
            address = self.servers.start(tcp_exec_server(server, "frame")).address
            ask = launch.program(client, "exec_client", "--tty", *address)
            got = launch.run([*ask, "stty size; cat"], b"unread")
            self.assertEqual((got.stdout, got.stderr, got.returncode), (b"24 80\r\n", b"", 0))

        self.each(OURS, check)

    def test_its_modes_are_as_before_whatever_ends_the_client(self) -> None:
        def check(server: str, client: str) -> None:
            numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
            for number in numbers:
                command = "echo ready; sleep 1000"
                with self.terminal(server, client, "--tty", command) as terminal:
                    terminal.expect(b"ready\r\n")
                    self.assertNotEqual(terminal.modes(), terminal.modes_before)
                    terminal.process.send_signal(number)
                    self.assertEqual(terminal.wait(), -number)
                    self.assertEqual(terminal.modes(), terminal.modes_before)

        self.each(OURS, check)

    def test_its_modes_are_as_before_when_the_server_is_gone(self) -> None:
        def check(server: str, client: str) -> None:
            with launch.server(tcp_exec_server(server, "frame")) as running:
                ask = launch.program(client, "exec_client", "--tty", *running.address)
                with launch.Terminal([*ask, "echo ready; sleep 1000"]) as terminal:
                    terminal.expect(b"ready\r\n")
                    running.process.kill()
                    self.assertEqual(terminal.wait(), 255)
                    self.assertEqual(terminal.modes(), terminal.modes_before)
                    terminal.expect(b"exec_client: ")

        self.each(OURS, check)


class Progress(Case):
    """What file_client shows on a terminal; Python has the best that is installed."""

    def check(self, client: str, mark: str, *path: str) -> None:
        source, root = self.directory / "source", self.directory / f"{client}-root"
        source.write_bytes(bytes(3_000_000))
        root.mkdir()
        server = launch.program("c", "file_server", "--root", str(root))
        with launch.server(server) as running:
            ours = launch.ENVIRONMENT["PYTHONPATH"]
            command = ["env", f"PYTHONPATH={':'.join([*path, ours])}"]
            command += launch.program(client, "file_client", *running.address)
            for words in (["put", str(source)], ["get", "source", str(root / "copy")]):
                with launch.Terminal([*command, *words], redirected=">/dev/null") as terminal:
                    self.assertEqual(terminal.wait(), 0, terminal.shown)
                    self.assertRegex(terminal.shown.decode(), rf"{mark}.*\d%|\d%.*{mark}")
                errors = self.directory / f"{client}-errors"
                with launch.Terminal([*command, *words], redirected=f"2>{errors}") as terminal:
                    self.assertEqual(terminal.wait(), 0)
                    self.assertNotIn(b"%", terminal.shown)
                self.assertEqual(errors.read_bytes(), b"")

    def test_a_plain_bar(self) -> None:
        # What cannot be imported is not installed.
        for name in ("tqdm", "rich"):
            (self.directory / f"{name}.py").write_text("raise ImportError")
        here = str(self.directory)
        self.each([(language, "[-#]{40}", here) for language in launch.LANGUAGES], self.check)

    @unittest.skipUnless(importlib.util.find_spec("tqdm"), "tqdm is not installed")
    def test_tqdm(self) -> None:
        self.check("python", r"\|.*B/s")

    @unittest.skipUnless(importlib.util.find_spec("rich"), "rich is not installed")
    def test_rich(self) -> None:
        (self.directory / "tqdm.py").write_text("raise ImportError")
        self.check("python", "\N{BOX DRAWINGS HEAVY HORIZONTAL}", str(self.directory))


if __name__ == "__main__":
    unittest.main()
