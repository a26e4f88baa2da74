"""Authenticated echo: a challenge, its HMAC back, then every chunk in upper case.

Usage: auth_echo_server.py HOST PORT --key-file FILE
"""

from __future__ import annotations

import argparse
import hmac
import os
import socket

import wire

TIMEOUT = 10.0


def authenticate(conn: socket.socket, key: bytes) -> bool:
    conn.settimeout(TIMEOUT)
    challenge = os.urandom(wire.CHALLENGE_SIZE)
    conn.sendall(challenge)
    expected = hmac.new(key, challenge, "sha256").digest()
    answer = wire.recv_exact(conn, len(expected))
    conn.settimeout(None)
    return hmac.compare_digest(answer, expected)


def talk(conn: socket.socket, key: bytes) -> None:
    if not authenticate(conn, key):
        raise ValueError("a client with a wrong answer")
    while data := conn.recv(wire.BUFFER):
        conn.sendall(data.upper())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--key-file", required=True)
    options = parser.parse_args()
    key = wire.read_key(options.key_file)
    wire.serve(options.host, options.port, lambda conn: talk(conn, key))


if __name__ == "__main__":
    main()
