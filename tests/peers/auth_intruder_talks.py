"""An intruder that has never heard of a handshake: it talks, and sees whether it is served.

Exit status 1 where it is refused, 0 where a single byte beyond the challenge came back.

Usage: auth_intruder_talks.py HOST PORT [TEXT]
"""

from __future__ import annotations

import os
import socket
import sys

import wire

TEXT = "good morning, is anybody there? i have no key, but much to say"


def main() -> None:
    host, port, *text = sys.argv[1:]
    with socket.create_connection((host, int(port))) as conn:
        conn.sendall(os.fsencode(text[0] if text else TEXT))
        wire.recv_exact(conn, wire.CHALLENGE_SIZE)
        wire.show(wire.recv_exact(conn, 1))


if __name__ == "__main__":
    wire.run_client(main)
