"""Exec on a sealed connection, from docs/protocol.md alone, with the handshake of the package
noiseprotocol.

Usage: noise_client.py HOST PORT KEY_FILE [ID [NAME]] COMMAND
"""

import hmac
import json
import os
import pathlib
import socket
import sys

from noise.connection import NoiseConnection

VERSION = b"framefd seal v1\0"
DATA, END, CONFIRM, PADDED = range(4)

host, port, path, *terms, command = map(os.fsencode, sys.argv[1:])
id, name = (*terms, b"", b"")[:2]
secret = hmac.digest(bytes(32), pathlib.Path(path.decode()).read_bytes(), "sha256")
preface = b"FDS1\2" + bytes([len(id)]) + id
noise = NoiseConnection.from_name(b"Noise_NNpsk0_25519_ChaChaPoly_SHA256")
noise.set_psks(psk=hmac.digest(secret, VERSION + b"\2" + b"\1", "sha256"))
noise.set_prologue(VERSION + b"\0" + preface + bytes([len(name)]) + name)
noise.set_as_initiator()
noise.start_handshake()
conn = socket.create_connection((host, int(port)))
server = conn.makefile("rb")


def send(kind: int, content: bytes = b"") -> None:
    record = noise.encrypt(bytes([kind]) + content)
    conn.sendall(len(record).to_bytes(2, "big") + record)


def stream() -> bytes:
    """The next bytes of the stream, which may be none."""
    kind, *content = noise.decrypt(server.read(int.from_bytes(server.read(2), "big")))
    if kind == PADDED:
        content = content[2 : 2 + int.from_bytes(content[:2], "big")]
    return bytes(content) if kind in (DATA, PADDED) else sys.exit("there is no reply")


conn.sendall(preface + b"\0\x30" + noise.write_message())
noise.read_message(server.read(50)[2:])
send(CONFIRM)
header = json.dumps({"cmd": "exec", "data_size": len(command)}).encode()
send(DATA, len(header).to_bytes(4, "little") + header + command)
reply = stream()
while len(reply) < 4 or len(reply) < 4 + (length := int.from_bytes(reply[:4], "little")):
    reply += stream()
header = json.loads(reply[4 : 4 + length])
while len(reply) < 4 + length + header["data_size"]:
    reply += stream()
send(END)
sys.stdout.buffer.write(reply[4 + length :])
sys.exit(header["exit_code"])
