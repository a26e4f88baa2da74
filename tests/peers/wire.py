"""What the peers share: bytes on the wire with nothing but struct, json and hmac."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Header = dict[str, Any]

BUFFER = 1024
CHALLENGE_SIZE = 32
TAG_SIZE = 32


def recv_exact(conn: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = conn.recv(min(size - len(data), 65536))
        if not chunk:
            raise EOFError(f"connection closed after {len(data)} of {size} bytes")
        data += chunk
    return data


def read_header(conn: socket.socket) -> Header | None:
    """The next header, or None where the other end closed between two frames."""
    prefix = conn.recv(4)
    if not prefix:
        return None
    prefix += recv_exact(conn, 4 - len(prefix))
    (length,) = struct.unpack("<i", prefix)
    header: Header = json.loads(recv_exact(conn, length))
    return header


def read_frame(conn: socket.socket) -> tuple[Header, bytes] | None:
    header = read_header(conn)
    if header is None:
        return None
    return header, recv_exact(conn, header["data_size"])


def pack_header(header: Header) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<i", len(text)) + text


def write_frame(conn: socket.socket, header: Header, body: bytes = b"") -> None:
    conn.sendall(pack_header({**header, "data_size": len(body)}))
    conn.sendall(body)


def unpack_datagram(datagram: bytes) -> tuple[Header, bytes]:
    (length,) = struct.unpack_from("<i", datagram)
    header: Header = json.loads(datagram[4 : 4 + length])
    return header, datagram[4 + length :]


class DatagramKeys(NamedTuple):
    """HKDF-SHA256 (RFC 5869) of the shared key without a salt, one block for each direction."""

    request: bytes
    reply: bytes


def datagram_keys(key: bytes) -> DatagramKeys:
    secret = hmac.digest(bytes(32), key, hashlib.sha256)
    infos = (b"framefd datagram v1 request\x01", b"framefd datagram v1 reply\x01")
    return DatagramKeys(*(hmac.digest(secret, info, hashlib.sha256) for info in infos))


def sign(key: bytes | None, datagram: bytes) -> bytes:
    return datagram + hmac.digest(key, datagram, hashlib.sha256) if key else datagram


def verify(key: bytes | None, datagram: bytes) -> bytes:
    """The datagram without its tag; ValueError where the tag is wrong."""
    if not key:
        return datagram
    signed, tag = datagram[:-TAG_SIZE], datagram[-TAG_SIZE:]
    if not hmac.compare_digest(tag, hmac.digest(key, signed, hashlib.sha256)):
        raise ValueError("a datagram with a wrong tag")
    return signed


def read_key(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read().removesuffix(b"\n")


def run_command(command: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True)


def exec_reply(command: bytes) -> tuple[Header, bytes]:
    """Runs the command; the header and body of its reply."""
    result = run_command(command)
    header: Header = {
        "stdout_size": len(result.stdout),
        "stderr_size": len(result.stderr),
        "exit_code": result.returncode,
    }
    if result.returncode < 0:
        header |= {"signal": -result.returncode, "exit_code": 128 - result.returncode}
    return header, result.stdout + result.stderr


def announce(listener: socket.socket) -> None:
    host, port = listener.getsockname()
    print(f"listening on {host}:{port}", flush=True)


def serve(host: str, port: int, talk: Callable[[socket.socket], None]) -> None:
    """Accepts one client after the other, as the tutorial's servers do."""
    with socket.create_server((host, port)) as listener:
        announce(listener)
        while True:
            conn, _ = listener.accept()
            with conn:
                try:
                    talk(conn)
                except Exception as error:  # no client ends the server
                    print(repr(error), file=sys.stderr, flush=True)


def lines(arguments: list[str]) -> Iterator[bytes]:
    """The arguments one by one or, with none, the lines typed at the prompt."""
    if arguments:
        yield from map(os.fsencode, arguments)
        return
    while True:
        try:
            line = input(">>: ").strip()
        except EOFError:
            return
        if line == "quit":
            return
        if line:
            yield os.fsencode(line)


def show(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def run_client(main: Callable[[], None]) -> None:
    """Runs main; exit status 1 and a message where the other end refused or closed."""
    try:
        main()
    except (OSError, EOFError, ValueError, LookupError) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error!r}")
