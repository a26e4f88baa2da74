"""Common to the example programs: arguments, connections, a server's loop, the prompt."""

from __future__ import annotations

import contextlib
import getopt
import ipaddress
import math
import os
import select
import signal
import socket
import sys
import threading
import time
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
RETRY_SECONDS = 0.1  # before another accept() if there is no room for one
DATAGRAM_THREADS = 16
MAX_QUEUED = 64 * 1024  # bytes of replies that a client has not read
LIMITS = {"max_header": 65536, "max_body": 1 << 26, "max_command": 65536, "max_output": 1 << 24}

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


# ---- a server


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
        stop_end = time.monotonic() + LINGER_SECONDS
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, let_the_next_one_end)
    return reader


class Client:
    """A client that is served in a thread of its own."""

    def __init__(self, connection: framefd.Connection, stop: int) -> None:
        self.connection = connection
        self._stop = stop

    def request_comes(self) -> bool:
        """Waits until the client has sent something; False if the server stops first."""
        fd = self.connection.fileno()
        return fd in wait_for(self._stop, fd) and still_serves()

    def run(self, server_keys: keys.Keys, serve: Serve, strangers: set[Client]) -> None:
        """Serves it, once it is none of the ``strangers``."""
        error = None
        # An error ends it with its connection, which then does not wait to send what is queued.
        with contextlib.suppress(OSError), self.connection:
            may_ask = server_keys.proved_by(self.connection)
            strangers.discard(self)
            if may_ask:
                with contextlib.suppress(OSError):
                    error = serve(self)
            self._hang_up(error)

    def _hang_up(self, error: framefd.FrameError | None) -> None:
        """Ends the connection so that the client can read its last reply, which a close with
        unread input could drop. A broken connection cannot be ended, but another one on the
        same socket can; it also sends the error, if there is one. It would send in clear: a
        sealed client gets no byte of it."""
        try:
            self.connection.end(linger=True, timeout=LINGER_SECONDS)
        except framefd.BrokenError:
            last = framefd.Connection(self.connection.fileno(), own=False)
            if error and not self.connection.inspect().sealed:
                code = framefd.ErrorCode.BADFIELD  # whatever it was, no request
                last.reply_error(None, code, text_of(error), timeout=0)
            last.end(linger=True, timeout=LINGER_SECONDS)


# Serves a client until it disconnects; returns the error for bytes that are not a request.
Serve = Callable[[Client], "framefd.FrameError | None"]


def serve_connections(arguments: Arguments, serve: Serve, *, exact: bool = False) -> None:
    """Listens, and serves each client in a thread of its own. Returns after SIGINT or
    SIGTERM; the interpreter then waits for the threads, and so for the replies in flight."""
    stop = open_stop()
    server_keys = keys.Keys(arguments)
    strangers: set[Client] = set()
    look_up(arguments, socket.SOCK_STREAM, server=True)
    address = address_of(arguments)
    with framefd.listen(address, keepalive=True, exact=exact) as listener:

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

        announce(listener.address)
        while stop not in wait_for(stop, listener.fileno()):
            accept_client()
        while still_serves() and accept_client():
            pass
    while strangers and still_serves():
        time.sleep(RETRY_SECONDS)
    for client in list(strangers):  # nor must those who have not proved a key yet
        client.connection.abort()


def serve_datagrams(arguments: Arguments, answer: Callable[[socket.socket], None]) -> None:
    """The same for datagrams: several threads call ``answer`` when one may have arrived. One
    more serves than may run commands: it is always free to say that the others are not."""
    stop = open_stop()
    with open_datagrams(arguments, server=True) as sock:

        def work() -> None:
            while sock.fileno() in wait_for(stop, sock.fileno()) and still_serves():
                answer(sock)

        threads = [threading.Thread(target=work) for _ in range(DATAGRAM_THREADS + 1)]
        for thread in threads:
            thread.start()
        host, port = sock.getsockname()[:2]
        announce(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        for thread in threads:
            thread.join()


class Slot:
    """Held by a thread that runs a command in a datagram. ``begin`` raises BlockingIOError if
    as many do as may; it is also a policy."""

    free = threading.Semaphore(DATAGRAM_THREADS)

    def __init__(self) -> None:
        self.is_held = False

    def begin(self, _: framefd.ExecInquiry | None = None) -> None:
        self.is_held = self.free.acquire(blocking=False)
        if not self.is_held:
            raise BlockingIOError("all threads run commands")

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_held:
            self.free.release()


def serve_frames(
    client: Client,
    commands: Sequence[str],
    answer: Callable[[framefd.Connection, framefd.Head], object],
) -> framefd.FrameError | None:
    """Serves requests in frames: replies to hello itself, and calls ``answer`` for those of
    ``commands``."""
    connection = client.connection
    while still_serves():
        try:
            # Requests may have been read ahead, which poll() does not report: serve them first.
            request = connection.recv_header(timeout=0)
        except framefd.FrameTimeoutError:
            connection.flush(timeout=STALL_SECONDS)
            if not client.request_comes():
                return None
        except (framefd.MalformedError, framefd.TooBigError) as error:
            keys.log_client(connection, None, f"refused: {text_of(error)}")
            return error
        else:
            # Replies are queued for a client that does not read. Its time ends with the flush.
            if connection.inspect().queued >= MAX_QUEUED:
                connection.flush(timeout=STALL_SECONDS)
            answer_request(connection, request, commands, answer)
    return None


def answer_request(
    connection: framefd.Connection,
    request: framefd.Head,
    commands: Sequence[str],
    answer: Callable[[framefd.Connection, framefd.Head], object],
) -> None:
    command = request.header.get("cmd")
    if command == "hello":
        # The served requests, the version and the limits.
        said = {"version": framefd.__version__, "cmds": commands, "limits": LIMITS}
        connection.reply(request, said, timeout=STALL_SECONDS)
    elif command in commands:
        answer(connection, request)
    else:
        codes = framefd.ErrorCode
        code = codes.NOTSUP if isinstance(command, str) else codes.BADFIELD
        connection.reply_error(request, code, timeout=STALL_SECONDS)


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
