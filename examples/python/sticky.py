"""Shows how messages stick together in a stream, and that packets and frames do not."""

from __future__ import annotations

import socket
import sys

import common
import framefd
from common import Mistake

HELP = """\
usage: sticky

Shows how messages stick together in a TCP stream, and that packets and frames do not.
"""

MESSAGES = [b"hello", b"feng", b"hello feng"]


def main() -> None:
    if sys.argv[1:] == ["--help"]:
        say(HELP)
        return
    if len(sys.argv) > 1:
        raise Mistake(f"unknown argument {sys.argv[1]}, see --help")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    with sender, receiver:
        say('"hello" and "feng", sent apart, stick together:\n')
        sender.sendall(b"hello")
        sender.sendall(b"feng")
        recv_text(receiver, 1024, 9)

        say('"hello feng", sent at once, comes in pieces:\n')
        sender.sendall(b"hello feng")
        recv_text(receiver, 2, 10)
        recv_text(receiver, 1024, 8)

        say("The same as packets:\n")
        show_messages(sender, receiver, framefd.Prefix())

        say("The same as frames:\n")
        show_messages(sender, receiver)


def say(text: str) -> None:
    common.show(text.encode())


def recv_text(receiver: socket.socket, size: int, expected: int) -> None:
    """One recv() of up to ``size`` bytes, once ``expected`` bytes have arrived."""
    receiver.recv(expected, socket.MSG_PEEK | socket.MSG_WAITALL)
    data = receiver.recv(size)
    say(f'  recv({size}): {len(data)} bytes "{data.decode()}"\n')


def show_messages(
    sender: socket.socket, receiver: socket.socket, prefix: framefd.Prefix | None = None
) -> None:
    """Sends the messages one by one, and receives them."""
    for message in MESSAGES:
        framefd.send(sender, body=message, prefix=prefix)
    for _ in MESSAGES:
        message = framefd.recv(receiver, prefix=prefix).body
        say(f'  {len(message)} bytes "{message.decode()}"\n')


if __name__ == "__main__":
    common.run(main, failure=1)
