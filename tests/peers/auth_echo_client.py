"""Authenticated echo: answers the challenge, then sends text and shows what comes back.

Usage: auth_echo_client.py HOST PORT --key-file FILE [TEXT]...
"""

from __future__ import annotations

import argparse
import hmac
import socket

import wire


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--key-file", required=True)
    parser.add_argument("text", nargs="*")
    options = parser.parse_intermixed_args()
    key = wire.read_key(options.key_file)

    with socket.create_connection((options.host, options.port)) as conn:
        challenge = wire.recv_exact(conn, wire.CHALLENGE_SIZE)
        conn.sendall(hmac.new(key, challenge, "sha256").digest())
        for text in wire.lines(options.text):
            conn.sendall(text)
            wire.show(wire.recv_exact(conn, len(text)) + b"\n")


if __name__ == "__main__":
    wire.run_client(main)
