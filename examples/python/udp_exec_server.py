"""Runs the commands of its clients and sends back what they print, in datagrams."""

from __future__ import annotations

import socket
import threading

import common
import framefd
from common import Mistake
from server import serve_datagrams

HELP = """\
usage: udp_exec_server [--host HOST] [--port PORT] [--wire WIRE] [--key-file FILE]

Runs the commands of its clients and sends back what they print, in datagrams.

  --host HOST      listen on this address (127.0.0.1); any but loopback needs a key
  --port PORT      listen on this port; 0, the default, picks a free one
  --wire WIRE      frame (the default) or bare, which has no place for a key
  --key-file FILE  answer only datagrams that are signed with the key in FILE
  --help           show this and exit

A command is ended after 30 s, when its client no longer waits. If 16 of them run, other
clients are told that the server is busy. SIGINT and SIGTERM stop it; replies in flight
are finished.
"""

MAX_DATAGRAM = 65507
COMMAND_SECONDS = 30
COMMANDS = 16


def main() -> None:
    arguments = common.Arguments(HELP, "host=", "port=", "wire=")
    server = framefd.DatagramServer(arguments.key)

    def answer_frame(sock: socket.socket) -> None:
        with Slot() as slot:
            options = framefd.ExecOptions(
                policy=slot.begin, command_timeout=COMMAND_SECONDS
            )
            try:
                server.serve(sock, options, timeout=0)
            except framefd.FrameTimeoutError:
                pass  # several threads wait: the datagram may be another one's by now
            except framefd.FrameError as error:
                common.warn(error.message)

    answer = arguments.wire({"frame": answer_frame, "bare": answer_bare})
    if answer is answer_bare and arguments.key:
        raise Mistake("the bare wire has no place for a key")
    # One more thread than commands is always free to say that the others are not.
    serve_datagrams(arguments, COMMANDS + 1, answer)


class Slot:
    """Held by a thread that runs a command. ``begin`` raises BlockingIOError if as many do as may;
    it is also a policy."""

    free = threading.Semaphore(COMMANDS)

    def __init__(self) -> None:
        self.is_held = False

    def begin(self, _: framefd.ExecInquiry | None = None) -> None:
        self.is_held = self.free.acquire(blocking=False)
        if not self.is_held:
            raise BlockingIOError("all threads run commands")

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_held:
            self.free.release()


def answer_bare(sock: socket.socket) -> None:
    try:
        command, client = sock.recvfrom(MAX_DATAGRAM, socket.MSG_DONTWAIT)
    except OSError:  # none: another thread has it
        return
    with Slot() as slot:
        try:
            slot.begin()
        except BlockingIOError as error:
            stdout, stderr = b"", f"{common.PROGRAM}: {error}\n".encode()
        else:
            options = framefd.ExecOptions(command_timeout=COMMAND_SECONDS)
            stdout, stderr = common.run_command(command, options)
    reply(sock, client, stderr)
    reply(sock, client, stdout)


def reply(sock: socket.socket, client: tuple[str, int], data: bytes) -> None:
    if len(data) > MAX_DATAGRAM:
        common.warn(f"a reply of {len(data)} bytes was cut: a datagram holds {MAX_DATAGRAM}")
    try:
        sock.sendto(data[:MAX_DATAGRAM], client)
    except OSError as error:
        common.warn(f"a reply was not sent: {error.strerror}")


if __name__ == "__main__":
    common.run(main, common.NO_SERVER)
