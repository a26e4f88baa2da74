"""Socket addresses: those of the socket module, and struct sockaddr."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any, Union

from ._arguments import checked, unsigned

#: (host, port), (host, port, flowinfo, scope_id), or the path of a Unix socket.
Address = Union[tuple[str, int], tuple[str, int, int, int], str, bytes, "os.PathLike[str]"]

FAMILY = struct.Struct("=H")
INET = struct.Struct("=H2s4s8x")
INET6 = struct.Struct("=H2s4s16sI")


def pack(address: Address, family: int) -> bytes:
    """The struct sockaddr for an address; a name is looked up in the given family, 0: any."""
    if isinstance(address, (str, bytes, os.PathLike)):
        path = os.fsencode(address)
        end = b"" if path.startswith(b"\0") else b"\0"  # the abstract ones have none
        return FAMILY.pack(socket.AF_UNIX) + path + end
    host, port, *more = checked(address, tuple, "an address is a (host, port), or a path")
    checked(host, str, "a host is a str")
    unsigned(port, "a port", 65535)
    looked_up = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)[0]
    family = looked_up[0]
    place: tuple[Any, ...] = looked_up[4]
    number = socket.inet_pton(family, place[0].partition("%")[0])
    port_number = place[1].to_bytes(2, "big")
    if family == socket.AF_INET:
        return INET.pack(family, port_number, number)
    flow, scope = more or place[2:]
    return INET6.pack(family, port_number, flow.to_bytes(4, "big"), number, scope)


def unpack(data: bytes) -> Address | None:
    """The address in a struct sockaddr; None if there is none."""
    if len(data) <= FAMILY.size:
        return None
    (family,) = FAMILY.unpack_from(data)
    if family == socket.AF_UNIX:
        path = data[FAMILY.size :]
        return path if path.startswith(b"\0") else os.fsdecode(path.rstrip(b"\0"))
    if family == socket.AF_INET:
        _, port, number = INET.unpack(data)
        return socket.inet_ntop(family, number), int.from_bytes(port, "big")
    _, port, flow, number, scope = INET6.unpack(data)
    host = socket.inet_ntop(family, number)
    return host, int.from_bytes(port, "big"), int.from_bytes(flow, "big"), scope
