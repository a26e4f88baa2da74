"""Exec over UDP: reads stderr, then stdout, and loses what its buffer does not hold.

Usage: udp_bare_client.py HOST PORT [COMMAND]...
"""

from __future__ import annotations

import socket
import sys

import wire

TIMEOUT = 5.0


def main() -> None:
    host, port, *commands = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        for command in wire.lines(commands):
            sock.sendto(command, (host, int(port)))
            errors, _ = sock.recvfrom(wire.BUFFER)
            output, _ = sock.recvfrom(wire.BUFFER)
            sys.stderr.buffer.write(errors)
            wire.show(output)


if __name__ == "__main__":
    wire.run_client(main)
