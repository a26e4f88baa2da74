"""Exec over UDP: one frame per datagram, long replies in numbered parts.

With a key every datagram is authenticated, and one that is not gets no answer. A repeated
request gets its reply again without being run again.

Usage: udp_frame_server.py HOST PORT [--key-file FILE] [--part-size BYTES]
"""

from __future__ import annotations

import argparse
import socket
import sys
import time

import wire

REPLAY_MS = 30_000


def parts_of(request: wire.Header, command: bytes, part_size: int) -> list[bytes]:
    if request["cmd"] == "exec":
        header, body = wire.exec_reply(command)
    else:
        header = {"status": "error", "code": "unsupported", "message": "only exec"}
        body = b""
    slices = [body[at : at + part_size] for at in range(0, len(body), part_size)] or [b""]
    repeated: wire.Header = {
        name: request[name] for name in ("id", "time", "nonce") if name in request
    }
    parts = []
    for part, data in enumerate(slices):
        answer = dict(repeated)
        if len(slices) > 1:
            answer |= {"part": part, "parts": len(slices)}
        if part == 0:
            answer |= header
        parts.append(wire.pack_header({**answer, "data_size": len(data)}) + data)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--key-file")
    parser.add_argument("--part-size", type=int, default=4096)
    options = parser.parse_args()
    keys = wire.datagram_keys(wire.read_key(options.key_file)) if options.key_file else None
    request_key, reply_key = keys or (None, None)

    replies: dict[object, list[bytes]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((options.host, options.port))
        wire.announce(sock)
        while True:
            datagram, sender = sock.recvfrom(65536)
            try:
                request, command = wire.unpack_datagram(wire.verify(request_key, datagram))
                if len(command) != request["data_size"]:
                    raise ValueError("a datagram that is cut or too long")
                if keys and abs(time.time() * 1000 - request["time"]) > REPLAY_MS:
                    raise ValueError("a datagram that is too old")
                name = request["nonce"] if keys else (sender, request["id"])
                if name not in replies:
                    replies[name] = parts_of(request, command, options.part_size)
                for part in replies[name]:
                    sock.sendto(wire.sign(reply_key, part), sender)
            except Exception as error:  # no client ends the server
                print(repr(error), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
