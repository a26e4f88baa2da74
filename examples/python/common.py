"""Common to the example programs: arguments, addresses, a client's connection, the prompt."""

from __future__ import annotations

import contextlib
import getopt
import ipaddress
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import framefd
import keys

PROGRAM = Path(sys.argv[0]).stem
NO_SERVER, NO_COMMAND = 2, 255  # exit status of a program that cannot do its work
STDIN, STDOUT, STDERR = 0, 1, 2

STALL_SECONDS = 30  # for a client inside a request or a reply
LINGER_SECONDS = 1  # what a client still sends is dropped for this long, so that it can read

# Options of programs whose connections can be sealed.
CLIENT_SEAL = ("seal", "id=", "name=")
SERVER_SEAL = ("seal", "keys=", "name=", "plain")

T = TypeVar("T")


# Whether this program is one.
is_server = False


class Mistake(Exception):
    """An error that ends the program; its text is the message."""


def run(main: Callable[[], int | None], failure: int) -> NoReturn:
    """Runs a program to its end: its exit status, or ``failure`` and a message."""
    global is_server
    is_server = failure == NO_SERVER
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C without a traceback
    open_standard_descriptors()
    try:
        sys.exit(main())
    except BrokenPipeError:  # nobody reads the output any more: that is no failure
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)
        raise
    except (OSError, Mistake) as error:
        warn(reason_of(error))
        sys.exit(failure)


def open_standard_descriptors() -> None:
    """A socket that got one of these numbers would receive what the program prints."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(fd)
    sys.stdin = sys.stdin or open(os.devnull)
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")


def warn(message: str) -> None:
    """A line on stderr. A server that would have to wait for who reads it drops the line."""
    if is_server and not wait_for(STDERR, events=select.POLLOUT, milliseconds=0):
        return
    with contextlib.suppress(OSError, Mistake):  # nobody may be left who reads it
        show(os.fsencode(f"{PROGRAM}: {message}\n"), STDERR)


def show(data: bytes, fd: int = STDOUT) -> None:
    """Writes all bytes, also to a non-blocking descriptor."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            wait_for(fd, events=select.POLLOUT)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Mistake(f"cannot show the output: {error.strerror}") from None


def wait_for(
    *fds: int, events: int = select.POLLIN, milliseconds: int | None = None
) -> set[int]:
    """Those of the descriptors that are ready, or have an error."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, events)
    return {fd for fd, _ in poll.poll(milliseconds)}


def text_of(error: Exception) -> str:
    """The text of an exception, without its number."""
    return getattr(error, "strerror", None) or str(error)


# ---- the command line


def leave_process_1() -> None:
    """As process 1 of a container a server gets the orphans of its commands. Whoever reaps them
    must not reap the commands, which the library waits for. So process 1 does nothing else, and
    the server is its child. Ctrl-C must not reach that twice: it has a process group of its own."""
    if os.getpid() != 1:
        return
    signals = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server = os.fork()
    if server == 0:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            os.kill(server, number)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == server:
                    code = os.waitstatus_to_exitcode(ended[1])
                    os._exit(code if code >= 0 else 128 - code)


class Arguments:
    """Options of a server, or options of a client with HOST, PORT and a request. ``--help``
    ends the program."""

    def __init__(self, help: str, *names: str) -> None:
        server = "host=" in names
        self.can_seal = "seal" in names
        self._known = [*names, "key-file=", "help"]
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
        self.key = keys.check(self, server=server)
        if server:
            leave_process_1()

    def option(self, name: str, default: str = "") -> str:
        return self.options(name)[-1] if self.options(name) else default

    def has(self, name: str) -> bool:
        return any(known == f"--{name}" for known, _ in self._options)

    def options(self, name: str) -> list[str]:
        """The values of an option that may be repeated."""
        return [value for known, value in self._options if known == f"--{name}"]

    def wire(self, wires: dict[str, T]) -> T:
        """The value of ``--wire``; "frame" by default."""
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
            show(self._help.encode())
            sys.exit()
        return rest


def read_options(
    words: list[str], letters: str, names: Sequence[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """The options at the beginning of words, and the rest."""
    try:
        return getopt.getopt(words, letters, list(names))
    except getopt.GetoptError as error:
        option = f"--{error.opt}" if len(error.opt) > 1 else f"-{error.opt}"
        if error.msg.endswith("requires argument"):
            raise Mistake(f"{option} needs a value, see --help") from None
        raise Mistake(f"unknown option {option}, see --help") from None


# ---- addresses


def address_of(arguments: Arguments) -> str:
    """HOST and PORT as an address for the library."""
    host, port = arguments.host, arguments.port
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise Mistake(f"port {port} is not a number from 0 to 65535")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def look_up(arguments: Arguments, kind: socket.SocketKind, *, server: bool) -> list[Any]:
    """The addresses of HOST, at which a server may listen."""
    address_of(arguments)
    try:
        found = socket.getaddrinfo(arguments.host, arguments.port, type=kind)
    except OSError as error:
        raise Mistake(f"{arguments.host}: {text_of(error)}") from None
    for *_, address in found:
        if server and not is_loopback(str(address[0])):
            check_beyond(arguments, kind)
    return found


def check_beyond(arguments: Arguments, kind: socket.SocketKind) -> None:
    """Fails unless a server may listen beyond loopback. Datagrams with a key are signed, each by
    itself; somebody in between can use a connection that is not sealed as the client."""
    if kind == socket.SOCK_DGRAM:
        may, needs = bool(arguments.key), "--key-file"
    else:
        may = arguments.has("seal") or arguments.has("plain")
        needs = "--seal, or --plain on" if arguments.can_seal else "--plain, on"
        needs += " a network that is trusted"
    if not may:
        raise Mistake(f"{arguments.host} is not a loopback address: that needs {needs}")


def is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def open_datagrams(arguments: Arguments, *, server: bool) -> socket.socket:
    """A socket for datagrams, bound to HOST and PORT or connected to them."""
    failed = ""
    for family, kind, _, _, address in look_up(arguments, socket.SOCK_DGRAM, server=server):
        sock = socket.socket(family, kind)
        try:
            (sock.bind if server else sock.connect)(address)
            return sock
        except OSError as error:
            sock.close()
            failed = text_of(error)
    raise Mistake(f"{arguments.host} port {arguments.port}: {failed}")


def announce(address: str) -> None:
    with contextlib.suppress(OSError, Mistake):  # nobody may be left who reads it
        show(f"listening on {address}\n".encode())


# ---- a client


# What a server may have wanted that closes the connection before its first reply.
wanted = ""


def reason_of(error: Exception) -> str:
    """The text of an exception, and if the server has just closed the connection before its
    first reply, what it may have wanted."""
    return text_of(error) + (wanted if isinstance(error, framefd.ClosedError) else "")


def connect(arguments: Arguments, *, exact: bool = False) -> framefd.Connection:
    """A connection to HOST and PORT, after the handshake if there is a key."""
    global wanted
    connection = framefd.connect(address_of(arguments), keepalive=True, exact=exact)
    try:
        keys.prove_to(connection, arguments)
    except BaseException:
        connection.close()
        raise
    if not arguments.has("seal"):
        wanted = " (does the server want a key, another one, or --seal?)"
    return connection


def requests(arguments: Arguments) -> Iterator[bytes]:
    """The request of the command line or, without one, the lines of the prompt."""
    if arguments.request:
        yield os.fsencode(" ".join(arguments.request))
        return
    while True:
        show(b">>: ")
        line = sys.stdin.buffer.readline()
        text = line.strip()
        if not line or text == b"quit":
            return
        if text:
            yield text


def show_command(run: Callable[[], framefd.CompletedCommand]) -> int:
    """Runs a command at the peer, shows its output and returns its exit status. Raises only
    if the connection is broken."""
    global wanted
    try:
        done = run()
    except framefd.CommandError as error:
        done = error.result
    except framefd.FrameError as error:
        if not error.remote:
            raise
        wanted = ""
        warn(text_of(error))
        return NO_COMMAND
    wanted = ""
    show(done.stdout or b"")
    show(done.stderr or b"", STDERR)
    if done.timed_out:
        warn("the command's time was up")
    if done.truncated:
        warn("the command wrote more than was kept")
    if done.pipe_held:
        held = "a job in the background keeps the output, which nobody reads any more"
        warn(f"{held}: redirect it")
    return status_of(128 + done.signal if done.signal else done.returncode)


def status_of(exit_code: object) -> int:
    """The status of a program whose command ended with ``exit_code``."""
    if isinstance(exit_code, int) and 0 <= exit_code <= 255:
        return exit_code
    warn("the command's exit status is not known")
    return NO_COMMAND


# ---- wires without a frame


def socket_of(connection: framefd.Connection) -> socket.socket:
    """The socket of an ``exact`` connection, for bytes without a frame."""
    return socket.socket(fileno=os.dup(connection.fileno()))


def recv_exactly(conn: socket.socket, size: int) -> bytes:
    """``size`` bytes, however many recv calls they take."""
    data = bytearray()
    while len(data) < size:
        piece = conn.recv(min(size - len(data), 64 * 1024))
        if not piece:
            raise ConnectionError("the connection ended")
        data += piece
    return bytes(data)


def run_command(
    command: bytes, options: framefd.ExecOptions = framefd.ExecOptions()
) -> tuple[bytes, bytes]:
    """The two outputs of a command; a message if it cannot be run."""
    try:
        done = framefd.exec_run(command, options)
    except framefd.CommandError as error:
        done = error.result
    except framefd.FrameError as error:
        return b"", f"{PROGRAM}: {error.message}\n".encode()
    if done.truncated:
        warn("a reply was cut: the command wrote more than is kept")
    return done.stdout or b"", done.stderr or b""
