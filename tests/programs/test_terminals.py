"""Commands on a terminal: Ctrl-C, its size, its modes."""

from __future__ import annotations

import signal
import unittest

from pairs import OURS, Case, Servers, launch, tcp_exec_server

CTRL_C, CTRL_D = b"\x03", b"\x04"


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
        command = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done"

        def check(server: str, client: str, *options: str) -> None:
            with self.terminal(server, client, *options, command) as terminal:
                terminal.expect(b"ready")
                terminal.type(CTRL_C)
                terminal.expect(b"caught")
                self.assertEqual(terminal.wait(), 3)

        self.each([(*pair, *tty) for pair in OURS for tty in ((), ("--tty",))], check)

    def test_the_second_interrupt_ends_the_client(self) -> None:
        command = "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done"

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
                terminal.type(b"cat; echo ready; sleep 1000\n")
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
                terminal.expect(b"\r\n42\r\n")
                # A job of the shell's own, once it runs.
                terminal.type(b"(echo $((7 * 7)); exec sleep 1000)\r")
                terminal.expect(b"\r\n49\r\n")
                terminal.type(CTRL_C)
                terminal.expect(b"$ ")
                terminal.type(b"exit 7\r")
                self.assertEqual(terminal.wait(), 7)
                self.assertEqual(terminal.modes(), terminal.modes_before)

        self.each(OURS, check)

    def test_its_size(self) -> None:
        command = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"

        def check(server: str, client: str) -> None:
            with self.terminal(server, client, "--tty", command) as terminal:
                terminal.expect(b"24 80\r\nready\r\n")
                terminal.resize(33, 101)
                terminal.expect(b"33 101\r\n")
                terminal.type(CTRL_C)
                self.assertEqual(terminal.wait(), 128 + signal.SIGINT)

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


if __name__ == "__main__":
    unittest.main()
