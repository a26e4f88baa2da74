"""What the servers share: signals, a server of frames, and threads for wires without frames."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import common
import framefd
import keys

AT_ONCE = 1024  # commands or files that are served at once, as there may be clients
IDLE_SECONDS = 24 * 3600  # for the user of a prompt
RETRY_SECONDS = 0.1  # before another accept() if there is no room for one

STOPS = (signal.SIGINT, signal.SIGTERM)

# ---- frames


def serve_frames(arguments: common.Arguments, add: Callable[[framefd.Server], None]) -> None:
    """Listens, and serves what ``add`` adds to the library's server until SIGINT or SIGTERM, and
    then until no request is left. A second signal ends them at once, and the program."""
    came: list[int] = []

    def stop(number: int, _: object) -> None:
        came.append(number)
        server.stop()

    server_keys = keys.Keys(arguments)
    ring, seal = server_keys.ring, arguments.has("seal")
    with framefd.Server(
        keys=ring,
        name=server_keys.name,
        plain=ring is not None and not seal,
        open=ring is None and arguments.has("plain"),
        workers=1,  # beside those for commands and files
        hello=True,
        log=log_line,
        max_commands=AT_ONCE,
        max_transfers=AT_ONCE,
        stall=common.STALL_SECONDS,
        idle=IDLE_SECONDS,
    ) as server:
        add(server)
        for number in STOPS:
            signal.signal(number, stop)
        common.look_up(arguments, socket.SOCK_STREAM, server=True)
        common.announce(server.listen(common.address_of(arguments)))
        with contextlib.suppress(framefd.FrameTimeoutError):  # something was cut
            server.run(signals=())
    if len(came) > 1:
        signal.signal(came[-1], signal.SIG_DFL)
        signal.raise_signal(came[-1])


def log_line(level: int, text: str) -> None:
    """Lines about a client begin with its address. That the server itself begins and ends is no
    news here."""
    if level > logging.INFO or ":" in text:
        common.warn(text)


# ---- threads


# Requests are served until then, on the monotonic clock: see still_serves().
stop_end = math.inf


def still_serves() -> bool:
    """After a stop clients that have connected, and requests that have arrived, are served.
    Those who connect or ask without a pause must not hold the stop up."""
    return time.monotonic() < stop_end


def open_stop() -> int:
    """A descriptor that is readable after SIGINT or SIGTERM: a pipe that is never read, so
    every thread sees it. The next signal ends the program at once."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # A handler in Python would not wake a poll() that is just about to begin.
    signal.set_wakeup_fd(writer)

    def let_the_next_one_end(*_: object) -> None:
        global stop_end
        stop_end = time.monotonic() + common.LINGER_SECONDS
        for number in STOPS:
            signal.signal(number, signal.SIG_DFL)

    for number in STOPS:
        signal.signal(number, let_the_next_one_end)
    return reader


class Client:
    """A client of a wire without frames, which is served in a thread of its own."""

    def __init__(self, connection: framefd.Connection, stop: int) -> None:
        self.connection = connection
        self._stop = stop

    def request_comes(self) -> bool:
        """Waits until the client has sent something; False if the server stops first."""
        fd = self.connection.fileno()
        return fd in common.wait_for(self._stop, fd) and still_serves()

    def run(self, server_keys: keys.Keys, serve: Serve, strangers: set[Client]) -> None:
        """Serves it, once it is none of the ``strangers``."""
        with contextlib.suppress(OSError), self.connection:
            may_ask = server_keys.proved_by(self.connection)
            strangers.discard(self)
            if may_ask:
                with contextlib.suppress(OSError), common.socket_of(self.connection) as conn:
                    conn.settimeout(common.STALL_SECONDS)
                    serve(self, conn)
            self._hang_up()

    def _hang_up(self) -> None:
        """Ends the connection so that the client can read its last reply, which a close with
        unread input could drop. After a failed handshake only another one on its socket can."""
        with framefd.Connection(self.connection.fileno(), own=False) as last:
            last.end(linger=True, timeout=common.LINGER_SECONDS)


# Serves a client until it disconnects.
Serve = Callable[[Client, socket.socket], None]


def serve_connections(arguments: common.Arguments, serve: Serve) -> None:
    """For a wire without frames: listens, and serves each client that proves its key in a thread
    of its own. Returns after SIGINT or SIGTERM; the interpreter then waits for the threads, and so
    for the replies in flight."""
    stop = open_stop()
    server_keys = keys.Keys(arguments)
    strangers: set[Client] = set()
    common.look_up(arguments, socket.SOCK_STREAM, server=True)
    with framefd.listen(common.address_of(arguments), keepalive=True, exact=True) as listener:

        def accept_client() -> bool:
            """Serves the next client that waits in the queue; False if there was none."""
            try:
                client = Client(listener.accept(timeout=0), stop)
            except framefd.FrameTimeoutError:
                return False
            except OSError:  # no descriptors, no memory
                time.sleep(RETRY_SECONDS)
                return False
            work = threading.Thread(target=client.run, args=(server_keys, serve, strangers))
            strangers.add(client)
            try:
                work.start()
            except RuntimeError:  # no threads
                strangers.discard(client)
                client.connection.close()
            return True

        common.announce(listener.address)
        while stop not in common.wait_for(stop, listener.fileno()):
            accept_client()
        while still_serves() and accept_client():
            pass
    while strangers and still_serves():
        time.sleep(RETRY_SECONDS)
    for client in list(strangers):  # nor must those who have not proved a key yet
        client.connection.abort()


def serve_datagrams(
    arguments: common.Arguments, count: int, answer: Callable[[socket.socket], None]
) -> None:
    """The same for datagrams: ``count`` threads call ``answer`` when one may have arrived."""
    stop = open_stop()
    with common.open_datagrams(arguments, server=True) as sock:

        def work() -> None:
            while sock.fileno() in common.wait_for(stop, sock.fileno()) and still_serves():
                answer(sock)

        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        host, port = sock.getsockname()[:2]
        common.announce(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        for thread in threads:
            thread.join()
