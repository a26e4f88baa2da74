"""Asks a server to run commands and shows what they print, on one of five wires."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from socket import socket
from typing import Any

import common
import framefd
from common import STDERR, STDIN, STDOUT, Mistake

HELP = """\
usage: exec_client [OPTION]... HOST PORT [COMMAND]

Runs COMMAND on the server, or each line of a prompt that quit or end of input ends.
What it prints comes to standard output and standard error; a wire that does not tell
them apart has all of it on standard output. Exits with the status of the last
command, 0 where the wire has none, or 255 where the command could not be run.

  --wire WIRE       as the server's: frame (the default), json, packet, ack, bare
  --key-file FILE   prove to the server that this client holds the key in FILE
  --help            show this and exit

On the frame wire only:

  --seal             have the server prove the key of --key-file too, and encrypt all
                     that is sent; the server needs --seal as well
  --id ID            the name of this client's key in the server's --keys
  --name NAME        the server's --name
  --timeout SECONDS  end a command that runs for longer
  --cwd DIR          the directory of the server that commands run in
  --env NAME=VALUE   a variable for commands; may be given several times
  --stdin            COMMAND reads this client's standard input; where both that and
                     standard output are a terminal, COMMAND always does
  --tty              commands get a terminal, as large as this one, for an editor or a
                     shell; this one is in raw mode meanwhile

With --stdin, --tty, or on a terminal, output is shown as it comes, and Ctrl-C sends
SIGINT to the command; a second one closes the connection, and the exit status is 130.
"""

OLD_RECV = 1024  # what the oldest servers and clients receive at once
BARE_REPLY_SECONDS = 2  # on the bare wire no output and no reply look the same
INTERRUPTED = 130
CLOSED = "the server closed the connection"


def main() -> int:
    frame_only = ["timeout=", "cwd=", "env=", "stdin", "tty"]
    arguments = common.Arguments(HELP, "wire=", *common.CLIENT_SEAL, *frame_only)
    old_wires = {"json": ask_json, "packet": ask_packet, "ack": ask_ack, "bare": ask_bare}
    ask_old = arguments.wire({"frame": None, **old_wires})
    if ask_old is None:
        ask_framed = Framed(arguments)
    elif any(arguments.has(name.rstrip("=")) for name in frame_only):
        needs = "--timeout, --cwd, --env, --stdin and --tty need the frame wire"
        raise Mistake(f"{needs}, see --help")
    status = 0
    with common.connect(arguments, exact=ask_old is not None) as server:
        if ask_old is None:
            for command in common.requests(arguments):
                status = ask_framed(server, command)
        else:
            with common.socket_of(server) as conn:
                for command in common.requests(arguments):
                    status = ask_old(conn, command)
    return status


# ---- the frame wire


class Framed:
    """How commands are requested: with one reply, or streamed."""

    def __init__(self, arguments: common.Arguments) -> None:
        stdin, self.tty = arguments.has("stdin"), arguments.has("tty")
        here, shown, prompt = os.isatty(STDIN), os.isatty(STDOUT), not arguments.request
        if stdin and prompt:
            raise Mistake("--stdin needs a COMMAND, see --help")
        self.options: dict[str, Any] = {
            "timeout": seconds(arguments),
            "cwd": arguments.option("cwd") if arguments.has("cwd") else None,
            "env": variables(arguments),
        }
        if self.tty and "TERM" in os.environ:
            # Programs on a terminal need its type.
            self.options["env"].setdefault("TERM", os.environ["TERM"])
        self.streams = stdin or self.tty or shown
        # Not by default: in a shell's `while read` loop it would consume the loop's lines.
        self.reads = stdin or (here and (self.tty or (shown and not prompt)))
        self.terminal = STDIN if here else STDOUT if shown else None

    def __call__(self, server: framefd.Connection, command: bytes) -> int:
        return common.show_command(lambda: self.run(server, command))

    def run(self, server: framefd.Connection, command: bytes) -> framefd.CompletedCommand:
        if not self.streams:
            return server.run(command, **self.options)
        size = size_of(self.terminal) if self.tty else None
        start = server.start(command, live_input=self.reads, terminal=size, **self.options)
        with start as running, Relay(running, self.terminal, raw=self.tty and self.reads):
            return running.copy(STDIN if self.reads else None, STDOUT, STDERR)


class Relay:
    """Passes signals to a streamed command. Afterwards the terminal's mode is restored in
    all cases."""

    signals = (signal.SIGINT, signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

    def __init__(self, running: framefd.RemoteCommand, terminal: int | None, raw: bool) -> None:
        self.running, self.terminal = running, terminal
        self.interrupted = False
        self.cooked = termios.tcgetattr(STDIN) if raw and os.isatty(STDIN) else None

    def __enter__(self) -> None:
        self.before = {number: signal.getsignal(number) for number in self.signals}
        for number, handler in self.before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, self.take)
        if self.cooked:
            tty.setraw(STDIN, termios.TCSANOW)

    def __exit__(self, *_: object) -> None:
        self.cook()
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def cook(self) -> None:
        if self.cooked:
            termios.tcsetattr(STDIN, termios.TCSANOW, self.cooked)

    def take(self, number: int, _: object) -> None:
        if number == signal.SIGWINCH:
            self.running.resize(*size_of(self.terminal))
        elif number == signal.SIGINT and not self.interrupted:
            self.interrupted = True
            self.running.signal(number)
        else:
            self.cook()
            if number == signal.SIGINT:
                os._exit(INTERRUPTED)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def size_of(terminal: int | None) -> tuple[int, int]:
    """Rows and columns."""
    columns, rows = (0, 0) if terminal is None else os.get_terminal_size(terminal)
    return rows or 24, columns or 80


def seconds(arguments: common.Arguments) -> float | None:
    text = arguments.option("timeout")
    if not arguments.has("timeout"):
        return None
    try:
        value = float(text) if set(text) <= set("0123456789.") else 0
    except ValueError:
        value = 0
    if not 1 <= value * 1000 <= 2**31 - 1:
        raise Mistake(f"--timeout {text} is not a number of seconds")
    return value


def variables(arguments: common.Arguments) -> dict[str, str]:
    env = {}
    for variable in arguments.options("env"):
        name, equals, value = variable.partition("=")
        if not (name and equals):
            raise Mistake(f"--env {variable} is not NAME=VALUE")
        env[name] = value
    return env


# ---- the older wires


def send_bare(conn: socket, command: bytes) -> None:
    """One recv() of the server must return all of it."""
    if len(command) > OLD_RECV:
        raise Mistake(f"a command of {len(command)} bytes, where 1 to {OLD_RECV} can be sent")
    send_all(conn, command)


def ask_json(conn: socket, command: bytes) -> int:
    """A server older than this library sends only data_size."""
    send_bare(conn, command)
    header, body = framefd.recv(conn)
    split = header.get("stdout_size")
    if not isinstance(split, int) or not 0 <= split <= len(body):
        split = len(body)
    common.show(body[:split])
    common.show(body[split:], STDERR)
    if header.get("truncated") is True:
        common.warn("the command wrote more than was kept")
    if header.get("status") == "error":
        common.warn(str(header.get("message")))
        return common.NO_COMMAND
    return common.status_of(header.get("exit_code", 0))


def ask_packet(conn: socket, command: bytes) -> int:
    send_bare(conn, command)
    common.show(framefd.recv(conn, prefix=framefd.Prefix()).body)
    return 0


def ask_ack(conn: socket, command: bytes) -> int:
    send_bare(conn, command)
    digits = recv_some(conn, 24)
    if not digits.isdigit():
        raise Mistake("a reply that does not begin with its length")
    send_all(conn, b"recv_ready")
    left = int(digits)
    while left > 0:
        data = recv_some(conn, min(left, 64 * 1024))
        common.show(data)
        left -= len(data)
    return 0


def ask_bare(conn: socket, command: bytes) -> int:
    """One recv() for each command, as in the old program: the rest is added to the next
    reply."""
    send_bare(conn, command)
    if select.select([conn], [], [], BARE_REPLY_SECONDS)[0]:
        common.show(recv_some(conn, OLD_RECV))
    else:
        common.warn(f"nothing came within {BARE_REPLY_SECONDS * 1000} ms")
    return 0


def send_all(conn: socket, data: bytes) -> None:
    try:
        conn.sendall(data)
    except OSError:
        raise Mistake(CLOSED) from None


def recv_some(conn: socket, size: int) -> bytes:
    with contextlib.suppress(OSError):
        if data := conn.recv(size):
            return data
    raise Mistake(CLOSED)


if __name__ == "__main__":
    common.run(main, common.NO_COMMAND)
