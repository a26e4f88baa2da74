"""An intruder that knows the handshake and not the key.

Exit status 1 where it is refused, 0 where a single byte beyond the challenge came back.

Usage: auth_intruder_wrong_key.py HOST PORT [TEXT]
"""

from __future__ import annotations

import hmac
import os
import socket
import sys

import wire

KEY = b"not the key that the server has"


def main() -> None:
    host, port, *text = sys.argv[1:]
    with socket.create_connection((host, int(port))) as conn:
        challenge = wire.recv_exact(conn, wire.CHALLENGE_SIZE)
        conn.sendall(hmac.new(KEY, challenge, "sha256").digest())
        conn.sendall(os.fsencode(text[0] if text else "hello"))
        wire.show(wire.recv_exact(conn, 1))


if __name__ == "__main__":
    wire.run_client(main)
