"""Exec over UDP: one frame out, its reply put together from numbered parts.

Usage: udp_frame_client.py HOST PORT [--key-file FILE] [COMMAND]...
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time

import wire

TIMEOUT = 5.0


def ask(
    sock: socket.socket, keys: wire.DatagramKeys | None, command: bytes
) -> tuple[wire.Header, bytes]:
    request = {"cmd": "exec", "id": os.urandom(8).hex(), "data_size": len(command)}
    request_key, reply_key = keys or (None, None)
    if keys:
        request |= {"time": int(time.time() * 1000), "nonce": os.urandom(16).hex()}
    sock.send(wire.sign(request_key, wire.pack_header(request) + command))

    parts: dict[int, tuple[wire.Header, bytes]] = {}
    expected = 1
    while len(parts) < expected:
        header, body = wire.unpack_datagram(wire.verify(reply_key, sock.recv(65536)))
        if "cmd" in header:  # a request that was sent back
            continue
        if any(header.get(name) != request.get(name) for name in ("id", "nonce")):
            continue
        if header["data_size"] != len(body):
            raise ValueError("a part that is cut or too long")
        parts[header.get("part", 0)] = header, body
        expected = header.get("parts", 1)
    if parts[0][0].get("status") != "error" and "exit_code" not in parts[0][0]:
        raise ValueError("a reply without an exit_code")
    return parts[0][0], b"".join(parts[part][1] for part in range(expected))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--key-file")
    parser.add_argument("command", nargs="*")
    options = parser.parse_intermixed_args()
    keys = wire.datagram_keys(wire.read_key(options.key_file)) if options.key_file else None

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((options.host, options.port))
        sock.settimeout(TIMEOUT)
        for command in wire.lines(options.command):
            header, body = ask(sock, keys, command)
            if header.get("status") == "error":
                raise ValueError(f"{header['code']}: {header['message']}")
            wire.show(body[: header["stdout_size"]])
            sys.stderr.buffer.write(body[header["stdout_size"] :])


if __name__ == "__main__":
    wire.run_client(main)
