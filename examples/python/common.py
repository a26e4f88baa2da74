"""What the example programs share: arguments, connections, a server's loop, the prompt."""

from __future__ import annotations

import contextlib
import getopt
import ipaddress
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import framefd

PROGRAM = Path(sys.argv[0]).stem
NO_SERVER, NO_COMMAND = 2, 255  # exit status where a program cannot do its work

HEADER_SECONDS = 10  # from the first byte of a request to its body
STALL_SECONDS = 30  # for a client inside a request or a reply
LINGER_SECONDS = 1  # what a client still sends is dropped for this long,
LINGER_SIZE = 256 * 1024  # or up to this size, so that it can read its reply
RETRY_SECONDS = 0.1  # before another accept() where there is no room for one
DATAGRAM_THREADS = 16

T = TypeVar("T")


class Mistake(Exception):
    """The program cannot do its work; the text says why."""


def run(main: Callable[[], int | None], failure: int) -> NoReturn:
    """Runs a program to its end: its exit status, or ``failure`` and a message."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # not only between two calls of the library
    try:
        sys.exit(main())
    except (OSError, Mistake) as error:
        warn(text_of(error))
        sys.exit(failure)


def warn(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr, flush=True)


def text_of(error: Exception) -> str:
    """What an exception says, without its number."""
    return getattr(error, "strerror", None) or str(error)


# ---- the command line


class Arguments:
    """Options, those of a server or those of a client, which come with HOST, PORT and a
    request. ``--help`` ends the program."""

    def __init__(self, help: str, *names: str, key: bool = True) -> None:
        server = "host=" in names
        self._known = [*names, *(["key-file="] if key else []), "help"]
        self._help = help
        self._options: list[tuple[str, str]] = []
        rest = self._read_options(sys.argv[1:])
        if server:
            self.host, self.port = self.option("host", "127.0.0.1"), self.option("port", "0")
            if rest:
                raise Mistake(f"unknown argument {rest[0]}, see --help")
        else:
            # Options end where the request begins, which may have options of its own.
            self.host, rest = self._operand("HOST", rest)
            self.port, rest = self._operand("PORT", rest)
        self.request = rest
        path = self.option("key-file")
        self.key = framefd.load_key(path) if path else None

    def option(self, name: str, default: str = "") -> str:
        return self.options(name)[-1] if self.options(name) else default

    def has(self, name: str) -> bool:
        return any(known == f"--{name}" for known, _ in self._options)

    def options(self, name: str) -> list[str]:
        """The values of an option that may be given several times."""
        return [value for known, value in self._options if known == f"--{name}"]

    def wire(self, wires: dict[str, T]) -> T:
        """What ``--wire`` stands for; "frame" unless given."""
        wire = self.option("wire", "frame")
        if wire not in wires:
            raise Mistake(f"no wire is called {wire}, see --help")
        return wires[wire]

    def _operand(self, name: str, rest: list[str]) -> tuple[str, list[str]]:
        if not rest:
            raise Mistake(f"no {name}, see --help")
        return rest[0], self._read_options(rest[1:])

    def _read_options(self, words: list[str]) -> list[str]:
        found, rest = read_options(words, "", self._known)
        self._options += found
        if self.has("help"):
            print(self._help, end="")
            sys.exit()
        return rest


def read_options(
    words: list[str], letters: str, names: Sequence[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """The options that words begin with, and the rest."""
    try:
        return getopt.getopt(words, letters, list(names))
    except getopt.GetoptError as error:
        option = f"--{error.opt}" if len(error.opt) > 1 else f"-{error.opt}"
        if error.msg.endswith("requires argument"):
            raise Mistake(f"{option} needs a value, see --help") from None
        raise Mistake(f"unknown option {option}, see --help") from None


# ---- addresses


def open_socket(
    arguments: Arguments, kind: socket.SocketKind, *, server: bool
) -> socket.socket:
    """A socket that is bound to HOST and PORT, for a server, or connected to it."""
    port = arguments.port
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise Mistake(f"port {port} is not a number from 0 to 65535")
    try:
        found = socket.getaddrinfo(arguments.host, port, type=kind)
    except OSError as error:
        raise Mistake(f"{arguments.host}: {text_of(error)}") from None
    failed: OSError | None = None
    for family, _, _, _, address in found:
        if server and not (arguments.key or is_loopback(str(address[0]))):
            raise Mistake(f"{arguments.host} is not a loopback address: that needs --key-file")
        sock = socket.socket(family, kind)
        try:
            if kind == socket.SOCK_STREAM:
                # A request waits for no acknowledgement; accepted sockets inherit it.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if server and kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            (sock.bind if server else sock.connect)(address)
            return sock
        except OSError as error:
            sock.close()
            failed = error
    assert failed is not None
    raise Mistake(f"{arguments.host} port {port}: {text_of(failed)}")


def is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def announce(sock: socket.socket) -> None:
    host, port = sock.getsockname()[:2]
    print(
        f"listening on [{host}]:{port}" if ":" in host else f"listening on {host}:{port}",
        flush=True,
    )


# ---- a client


def connect(arguments: Arguments) -> socket.socket:
    """A connection to HOST and PORT, with the handshake done if there is a key."""
    conn = open_socket(arguments, socket.SOCK_STREAM, server=False)
    if arguments.key:
        framefd.auth_client(conn, arguments.key)
    return conn


def requests(arguments: Arguments) -> Iterator[bytes]:
    """The request of the command line or, without one, the lines of the prompt."""
    if arguments.request:
        yield os.fsencode(" ".join(arguments.request))
        return
    while True:
        sys.stdout.write(">>: ")
        sys.stdout.flush()
        line = sys.stdin.buffer.readline()
        text = line.strip()
        if not line or text == b"quit":
            return
        if text:
            yield text


def show(stdout: bytes, stderr: bytes = b"") -> None:
    """Passes a command's output on, byte for byte."""
    for stream, data in ((sys.stdout, stdout), (sys.stderr, stderr)):
        stream.buffer.write(data)
        stream.flush()


def show_command(run: Callable[[], framefd.CompletedCommand]) -> int:
    """Has a command run, shows its output and returns its exit status. Raises only where
    the connection is of no more use."""
    try:
        done = run()
    except framefd.CommandError as error:
        done = error.result
    except framefd.FrameError as error:
        if not error.remote:
            raise
        warn(text_of(error))
        return NO_COMMAND
    show(done.stdout, done.stderr)
    if done.timed_out:
        warn("the command's time was up")
    if done.truncated:
        warn("the command wrote more than was kept")
    return status_of(128 + done.signal if done.signal else done.returncode)


def status_of(exit_code: object) -> int:
    """The status of a program whose command ended with ``exit_code``."""
    if isinstance(exit_code, int) and 0 <= exit_code <= 255:
        return exit_code
    warn("the command's exit status is not known")
    return NO_COMMAND


# ---- a server


class Stop:
    """SIGINT or SIGTERM, which every thread sees as a byte in a pipe that nobody reads. The
    next one ends the program at once."""

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # A handler in Python alone would not wake a poll() that is just about to begin.
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._let_the_next_one_end)

    def _let_the_next_one_end(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    def request_comes(self, sock: socket.socket) -> bool:
        """Waits for a socket to be readable; False where the stop comes first."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        poll.register(sock, select.POLLIN)
        return all(fd != self._reader for fd, _ in poll.poll())


def serve_connections(arguments: Arguments, answer: Callable[[socket.socket], bool]) -> None:
    """Listens, and serves each client in a thread of its own: one request after the other,
    for as long as ``answer`` returns True. Returns after SIGINT or SIGTERM; the interpreter
    then waits for the threads, and so for the replies in flight."""
    stop = Stop()
    with open_socket(arguments, socket.SOCK_STREAM, server=True) as listener:
        listener.listen()
        listener.setblocking(False)  # a client may be gone before it is accepted
        announce(listener)
        while stop.request_comes(listener):
            try:
                conn, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError:  # no descriptors, no memory
                time.sleep(RETRY_SECONDS)
                continue
            work = threading.Thread(target=serve_client, args=(conn, arguments, answer, stop))
            try:
                work.start()
            except RuntimeError:  # no threads
                conn.close()


def serve_client(
    conn: socket.socket,
    arguments: Arguments,
    answer: Callable[[socket.socket], bool],
    stop: Stop,
) -> None:
    with conn, contextlib.suppress(OSError):  # it ends with its connection
        conn.settimeout(STALL_SECONDS)
        if proves_key(conn, arguments.key):
            with contextlib.suppress(OSError):
                while stop.request_comes(conn) and answer(conn):
                    pass
        linger(conn)


def proves_key(conn: socket.socket, key: framefd.Key | None) -> bool:
    """Whether a client may be served."""
    try:
        if key:
            framefd.auth_server(conn, key)
        return True
    except framefd.FrameError as error:
        warn(f"a client was refused: {text_of(error)}")
        return False


def linger(conn: socket.socket) -> None:
    """A close with input unread would reset the connection, and lose a reply that is still
    on its way."""
    conn.shutdown(socket.SHUT_WR)
    end = time.monotonic() + LINGER_SECONDS
    left = LINGER_SIZE
    while left > 0 and (seconds := end - time.monotonic()) > 0:
        conn.settimeout(seconds)
        dropped = conn.recv(left)
        if not dropped:
            return
        left -= len(dropped)


def serve_datagrams(arguments: Arguments, answer: Callable[[socket.socket], None]) -> None:
    """The same for datagrams: several threads call ``answer`` whenever one may have come."""
    stop = Stop()
    with open_socket(arguments, socket.SOCK_DGRAM, server=True) as sock:

        def work() -> None:
            while stop.request_comes(sock):
                answer(sock)

        threads = [threading.Thread(target=work) for _ in range(DATAGRAM_THREADS)]
        for thread in threads:
            thread.start()
        announce(sock)
        for thread in threads:
            thread.join()


def serve_frame(
    conn: socket.socket,
    commands: Sequence[str],
    answer: Callable[[socket.socket, framefd.IncomingFrame], object],
) -> bool:
    """Serves one request in a frame: hello by itself, those of ``commands`` by ``answer``."""
    try:
        request = framefd.recv_header(conn, timeout=HEADER_SECONDS)
    except (framefd.MalformedError, framefd.TooBigError) as error:
        code = framefd.ErrorCode.BADFIELD  # whatever it was, no request
        framefd.reply_error(conn, None, code, error.message, timeout=STALL_SECONDS)
        return False
    command = request.header.get("cmd")
    if command == "hello":
        framefd.reply_hello(conn, request, commands, timeout=STALL_SECONDS)
    elif "exec" in commands and framefd.is_late_input(request):
        pass  # for a command that streamed, and has ended
    elif command in commands:
        answer(conn, request)
    else:
        codes = framefd.ErrorCode
        code = codes.NOTSUP if isinstance(command, str) else codes.BADFIELD
        framefd.reply_error(conn, request, code, timeout=STALL_SECONDS)
    request.skip(timeout=STALL_SECONDS)
    return True


# ---- wires without a frame


def run_command(command: bytes) -> tuple[bytes, bytes]:
    """What a command writes to its two outputs; a message, where it cannot be run."""
    try:
        done = framefd.exec_run(command)
    except framefd.CommandError as error:
        done = error.result
    except framefd.FrameError as error:
        return b"", f"{PROGRAM}: {error.message}\n".encode()
    if done.truncated:
        warn("a reply was cut: the command wrote more than is kept")
    return done.stdout, done.stderr


def recv_exactly(conn: socket.socket, size: int) -> bytes:
    """``size`` bytes, however many recv calls they take."""
    data = bytearray()
    while len(data) < size:
        piece = conn.recv(min(size - len(data), 64 * 1024))
        if not piece:
            raise ConnectionError("the connection ended")
        data += piece
    return bytes(data)
