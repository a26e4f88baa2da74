"""Datagrams: one frame in each, and commands over them."""

from __future__ import annotations

import ctypes
import math
from typing import NamedTuple

from . import _abi, _addresses, _errors, _headers, _interrupts
from ._addresses import Address
from ._arguments import (
    Buffer,
    BytesLike,
    Environment,
    StrOrBytesPath,
    limit,
    milliseconds,
    poll_time,
)
from ._auth import KeyLike, as_key
from ._descriptors import Descriptor, fileno, own_timeout
from ._exec import (
    Command,
    CompletedCommand,
    ExecOptions,
    ExecRequest,
    ExecResult,
    completed,
    exec_result,
    serving,
)
from ._handles import Handle, memory
from ._headers import Header
from ._native import lib


class Datagram(NamedTuple):
    """A received datagram: ``header, body, source = recv_datagram(sock)``.

    ``source`` is the sender's address as in the socket module, None if it has none.
    """

    header: Header
    body: bytes
    source: Address | None


def send_datagram(
    sock: Descriptor,
    header: Header | None = None,
    body: BytesLike = b"",
    to: Address | None = None,
    *,
    timeout: float | None = None,
    max_datagram: int | None = None,
) -> None:
    """Sends one frame as one datagram: to an address or, None, on a connected socket.

    A datagram of more than ``max_datagram`` bytes (default 8 KiB, at most 65,507) is a
    TooBigError and is not sent. ``timeout`` is in seconds (default: that of a socket object,
    or no limit). Otherwise raises as send().
    """
    text = _headers.encode(header)
    address = None if to is None else _addresses.pack(to, getattr(sock, "family", 0))
    options = _abi.FrameDatagramOptions(
        timeout_ms=milliseconds(own_timeout(sock) if timeout is None else timeout),
        max_datagram=limit(max_datagram, "max_datagram", 65507),
        **_interrupts.MEMBERS,
    )
    with Buffer(body) as (start, length):
        _errors.check(
            lib.frame_datagram_send(
                fileno(sock), address, len(address or b""), text, start, length, options
            )
        )


def recv_datagram(sock: Descriptor, *, timeout: float | None = None) -> Datagram:
    """Receives one datagram that is a frame. ``timeout`` is as for :func:`send_datagram`.

    FrameTimeoutError: none was received. LimitError: it was truncated. MalformedError: it is
    not a frame. After any of these the next one can be received.
    """
    out = ctypes.c_void_p()
    time = milliseconds(own_timeout(sock) if timeout is None else timeout)
    options = _abi.FrameDatagramOptions(timeout_ms=time, **_interrupts.MEMBERS)
    _errors.check(lib.frame_datagram_recv(fileno(sock), options, out))
    try:
        header = _headers.decode(lib.frame_header(out, None))
        source = _addresses.unpack(memory(lib.frame_datagram_source, out))
        return Datagram(header, memory(lib.frame_body, out), source)
    finally:
        lib.frame_free(out)


class DatagramServer:
    """Serves commands that are requested in datagrams. Any number of threads may use it.

    With a key every datagram is authenticated, and one that is older than 30 s by this host's
    clock is ignored. Without a key all users of this host are served, and nobody else.

    A repeated request is not run again: it gets the same reply, for 30 s. framefd.h says what
    exactly is promised. Servers do not share their memory of requests: use one for a socket,
    and give each its own key. In a child of os.fork() it raises ForkedError.
    """

    def __init__(self, key: KeyLike | None = None) -> None:
        held = None if key is None else as_key(key)
        out = ctypes.c_void_p()
        address, length = (None, 0) if held is None else (held.pointer, len(held))
        _errors.check(lib.exec_datagram_server_new(address, length, out))
        self._handle = Handle(out, lib.exec_datagram_server_free)

    def serve(
        self,
        sock: Descriptor,
        options: ExecOptions = ExecOptions(),
        *,
        timeout: float | None = None,
    ) -> ExecResult:
        """Receives one datagram and serves it; ``timeout`` is for the wait for it, by default
        that of a socket object, or forever.

        It lasts as long as the command; set ``options.command_timeout``. If all threads run
        commands nobody gets an answer: let one more serve, whose policy raises BlockingIOError
        while the others do. ``options.max_output`` is 1 MiB by default. The outcome of an
        invalid request is IGNORED, and ``error`` says why. FrameTimeoutError: no datagram
        was received. Any other exception: the socket failed.
        """
        result = _abi.ExecResult()
        timeout = own_timeout(sock) if timeout is None else timeout
        time = poll_time(math.inf if timeout is None else timeout)
        with serving(options, raw=True) as native:
            code = lib.exec_datagram_serve(
                self._handle.pointer, fileno(sock), native, time, result
            )
        _errors.check(code)
        return exec_result(result)


def run_datagram(
    sock: Descriptor,
    command: Command,
    key: KeyLike | None = None,
    *,
    check: bool = False,
    timeout: float | None = None,
    exchange_timeout: float | None = None,
    cwd: StrOrBytesPath | None = None,
    env: Environment | None = None,
    max_output: int | None = None,
    allow_truncated: bool = False,
    merge: bool = False,
) -> CompletedCommand:
    """Runs a command at the peer of a connected datagram socket.

    Lost datagrams are sent again, and the command runs once. ``exchange_timeout`` is by
    default that of a socket object, or 30 s; the command may not run for longer.
    ``max_output`` is 1 MiB. Otherwise as run().

    FrameTimeoutError: the reply was not received completely; the command may have run.
    DisconnectedError: nobody receives there. The socket is usable after any error.
    """
    held = None if key is None else as_key(key)
    address, length = (None, 0) if held is None else (held.pointer, len(held))
    request = ExecRequest(command, timeout, cwd, env, max_output, merge=merge).native()
    for name, member in _interrupts.MEMBERS.items():
        setattr(request, name, member)
    out, result = ctypes.c_void_p(), _abi.ExecResult()
    time = poll_time(own_timeout(sock) if exchange_timeout is None else exchange_timeout)
    code = lib.exec_datagram_call(fileno(sock), request, address, length, time, result, out)
    _errors.check(code)
    done = completed(command, result, out)
    done.judge(timeout, check=check, allow_truncated=allow_truncated)
    return done
