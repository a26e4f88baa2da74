"""Exec over UDP: one datagram in, then stderr and stdout as a datagram each.

Usage: udp_bare_server.py HOST PORT
"""

from __future__ import annotations

import socket
import sys

import wire


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((sys.argv[1], int(sys.argv[2])))
        wire.announce(sock)
        while True:
            command, sender = sock.recvfrom(wire.BUFFER)
            result = wire.run_command(command)
            for output in (result.stderr, result.stdout):
                try:
                    sock.sendto(output, sender)
                except OSError as error:
                    print(error, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
