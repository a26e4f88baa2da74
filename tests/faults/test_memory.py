"""Every call that needs memory for something that a peer or the caller sizes, with too little
memory: it succeeds, or it fails with FRAME_ENOMEM. The host is never aborted.

Each call runs in a process of its own, whose address space may grow by ROOM bytes. Its peer is
another process, without a limit. What a request with a header of 64 KiB needs is less than the
smallest of these, with Python's own objects: docs/embedding.md says what is not covered.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import resource
import signal
import socket
import sys
import tempfile
import unittest
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bindings" / "python")]

import framefd  # noqa: E402

MIB = 1 << 20
# From hardly any to enough for all.
ROOM = [4 * MIB, 6 * MIB, 8 * MIB, 20 * MIB, 40 * MIB, 90 * MIB, 300 * MIB]
SECONDS = 60

SIZE = 16 * MIB
KEY = bytes(range(32))

Call = Callable[[framefd.Connection], object]


def frames(count: int, size: int, keys: str = "") -> bytes:
    header = b'{"data_size":%d%s}' % (size, keys.encode())
    return (len(header).to_bytes(4, "little") + header + bytes(size)) * count


def sends(*messages: bytes) -> Callable[[socket.socket], None]:
    def peer(sock: socket.socket) -> None:
        for message in messages:
            sock.sendall(message)

    return peer


def answers(reply: bytes) -> Callable[[socket.socket], None]:
    """The peer reads a request and sends this, with the request's id in it."""

    def peer(sock: socket.socket) -> None:
        with framefd.Connection(sock) as served:
            head = served.recv_header()
            served.reply(head, {"filesize": len(reply)}, reply)
            served.flush()

    return peer


def asks(header: dict[str, object], body: bytes = b"") -> Callable[[socket.socket], None]:
    """The peer is a client: it sends a request, and reads whatever is sent."""

    def peer(sock: socket.socket) -> None:
        with framefd.Connection(sock) as client:
            client.send(header, body)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(MIB):
                pass

    return peer


def serves_commands(sock: socket.socket) -> None:
    with framefd.Connection(sock) as served, contextlib.suppress(framefd.FrameError):
        while True:
            served.serve_exec(served.recv_header(), framefd.ExecOptions(max_output=SIZE))


def serves_files(sock: socket.socket) -> None:
    with framefd.Connection(sock) as served, contextlib.suppress(framefd.FrameError):
        while True:
            served.serve_file(served.recv_header(), FOLDER.name)


def reads_nothing(sock: socket.socket) -> None:
    signal.pause()


def serve_file(c: framefd.Connection) -> None:
    judge(c.serve_file(c.recv_header(), FOLDER.name))


def serve_exec(c: framefd.Connection) -> None:
    judge(c.serve_exec(c.recv_header(), framefd.ExecOptions(max_output=SIZE)))


def judge(result: framefd.ExecResult | framefd.FileResult) -> None:
    """The server has said to its client that it has no memory, or it succeeded."""
    if result.error == framefd.ErrorCode.NOMEM:
        raise MemoryError
    if result.error != 0:
        raise RuntimeError(result)


def proves(sock: socket.socket) -> None:
    with framefd.Connection(sock) as client:
        client.auth_client(KEY)
        client.send({}, bytes(SIZE))


def asks_for_a_key(sock: socket.socket) -> None:
    with framefd.Connection(sock) as server:
        server.auth_server(KEY)
        server.recv()
        server.recv_header()  # the end


def sealed_recv(c: framefd.Connection) -> None:
    c.auth_server(KEY)
    c.recv()


def sealed_send(c: framefd.Connection) -> None:
    c.auth_client(KEY)
    c.send({}, bytes(SIZE))


def seal(_: framefd.Connection) -> None:
    client, server = framefd.Seal(key=KEY), framefd.Seal(keys=KEY)
    server.receive(client.output())
    client.receive(server.output())
    client.send(bytes(SIZE))
    server.receive(client.output())


def fill(c: framefd.Connection) -> None:
    with contextlib.suppress(framefd.FrameTimeoutError):
        while True:
            c.queue({}, bytes(MIB), timeout=0.01)


def read_body(c: framefd.Connection) -> None:
    c.recv_header()
    while c.read(timeout=SECONDS):
        pass


def stream(c: framefd.Connection) -> None:
    command = c.start(f"head -c {SIZE} /dev/zero")
    while command.read() is not None:
        pass
    command.finish()


def get(c: framefd.Connection) -> None:
    c.get("large", os.path.join(FOLDER.name, "copy"))


def get_tree(c: framefd.Connection) -> None:
    with tempfile.TemporaryDirectory() as target:
        c.get_tree("tree", target, sync=False)


def put_tree(c: framefd.Connection) -> None:
    c.put_tree(os.path.join(FOLDER.name, "tree"), "copied")


def run_datagram(c: framefd.Connection) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(UDP)
        framefd.run_datagram(sock, "head -c 900000 /dev/zero", timeout=20)


def serve_datagram(_: framefd.Connection) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        framefd.send_datagram(sock, {**BOTH, "id": 1})
        options = framefd.ExecOptions(max_output=SIZE)
        served = framefd.DatagramServer().serve(sock, options, timeout=20)
        if served.error == framefd.ErrorCode.NOMEM:
            raise MemoryError
        if served.outcome != framefd.Outcome.EXITED:
            raise RuntimeError(served)


LIST = {"cmd": "list", "filename": "many"}
OUTPUT = {"cmd": "exec", "argv": ["head", "-c", str(SIZE), "/dev/zero"]}
BOTH = {"cmd": "exec", "argv": ["sh", "-c", f"head -c {SIZE} /dev/zero | tee /dev/stderr"]}
ENV = {"cmd": "exec", "argv": ["true"], "env": {f"NAME{n}": "x" * 5 for n in range(2500)}}
PATHS = {"cmd": "exec", "argv": ["true", "x" * 20_000], "env": {"PATH": ":" * 40_000 + "/bin"}}
PUT = {"cmd": "put", "filename": "stored", "filesize": SIZE}

CASES: dict[str, tuple[Callable[[socket.socket], None], Call]] = {
    "recv on a raw descriptor": (sends(frames(1, SIZE)), lambda c: framefd.recv(c.fileno())),
    "recv of a large header": (
        sends(frames(1, 0, ',"key":"%s"' % ("x" * 60_000))),
        lambda c: framefd.recv(c.fileno()),
    ),
    "recv": (sends(frames(2, SIZE)), lambda c: c.recv()),
    "recv_many": (sends(frames(5000, 2000)), lambda c: c.recv_many(5000)),
    "recv_header": (sends(frames(1, SIZE)), read_body),
    "queue": (reads_nothing, fill),
    "call": (answers(bytes(SIZE)), lambda c: c.call("x")),
    "run": (serves_commands, lambda c: c.run(f"head -c {SIZE} /dev/zero")),
    "run with much input": (serves_commands, lambda c: c.run("cat", input=bytes(SIZE))),
    "start": (serves_commands, stream),
    "serve_exec": (asks(OUTPUT), serve_exec),
    "serve_exec, both outputs": (asks(BOTH), serve_exec),
    "serve_exec, with a large environment": (asks(ENV), serve_exec),
    "serve_exec, with many directories": (asks(PATHS), serve_exec),
    "exec_run": (sends(), lambda c: framefd.exec_run(f"head -c {SIZE} /dev/zero")),
    "listdir": (serves_files, lambda c: c.listdir("many")),
    "serve_file, list": (asks(LIST), serve_file),
    "serve_file, put": (asks(PUT, bytes(SIZE)), serve_file),
    "serve_file, get": (asks({"cmd": "get", "filename": "large"}), serve_file),
    "put": (serves_files, lambda c: c.put(os.path.join(FOLDER.name, "large"), "stored")),
    "get": (serves_files, get),
    "put_tree": (serves_files, put_tree),
    "get_tree": (serves_files, get_tree),
    "run_datagram": (sends(), run_datagram),
    "DatagramServer.serve": (sends(), serve_datagram),
    "auth_server and a sealed recv": (proves, sealed_recv),
    "auth_client and a sealed send": (asks_for_a_key, sealed_send),
    "Seal": (sends(), seal),
    "serve_file, put in place": (asks({**PUT, "overwrite": "in_place"}, bytes(SIZE)), serve_file),
    "a large keyring": (sends(), lambda c: framefd.Keyring().load(os.path.join(FOLDER.name, "keys"))),
}

# Members that fill a header of 60 KB, each in its own way.
SHAPES: dict[str, dict[str, object]] = {
    "many keys": {f"k{n}": n for n in range(4400)},
    "one long text": {"text": "x" * 58_000},
    "a text of escapes": {"text": "\x01" * 9_600},
    "many small values": {"values": [0] * 19_000},
    "deep": {"values": [[[[[[[[[[[[[[1]]]]]]]]]]]]]] * 1_700},
    "many texts": {"argv": ["x"] * 11_000, "env": {f"k{n}": "" for n in range(500)}},
    "long names": {"filename": "d/" * 28_000, "target": "../" * 300},
    "Base64": {"filename_b64": "YQ==" * 14_000},
}
COMMANDS = ["exec", "put", "get", "stat", "list", "mkdir", "symlink", "no such command"]

FOLDER = tempfile.TemporaryDirectory()
UDP = ("127.0.0.1", 0)


class Memory(unittest.TestCase):
    def test_a_call_succeeds_or_says_that_there_is_no_memory(self) -> None:
        for name, (peer, call) in CASES.items():
            outcomes = []
            for room in ROOM:
                with self.subTest(name, room=room):
                    outcomes.append(self.outcome(peer, call, room))
                    self.assertIn(outcomes[-1], ("done", "no memory"))
            with self.subTest(name):
                self.assertEqual(outcomes[-1:], ["done"], "with enough memory")

    def outcome(self, peer: Callable[[socket.socket], None], call: Call, room: int) -> str:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            other = fork(lambda: (ours.close(), peer(theirs)))
            reading, writing = os.pipe()
            limited = fork(lambda: run_limited(ours, theirs, call, room, writing))
            os.close(writing)
            ours.close()
            theirs.close()
            with open(reading, "rb") as told:
                text = told.read().decode()
            _, status = os.waitpid(limited, 0)
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)
        return text or f"it ended with the wait status {status}"


class Peak(unittest.TestCase):
    def test_a_request_costs_a_small_multiple_of_its_size(self) -> None:
        for command in COMMANDS:
            for name, members in SHAPES.items():
                with self.subTest(command, header=name):
                    header = {"cmd": command, **members}
                    size = len(json.dumps(header))
                    self.assertLess(size, 65_000)
                    grown = peak(header)
                    # Python's own objects of a header take half of it.
                    self.assertLess(grown, 96 * size, f"{grown // size} bytes for each byte")


def peak(header: dict[str, object]) -> int:
    """Bytes by which a server of it grows."""
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, theirs, open(reading, "rb") as told:
        framefd.send(theirs, header)
        theirs.shutdown(socket.SHUT_WR)
        server = fork(lambda: os.write(writing, str(growth(ours, header["cmd"])).encode()))
        os.close(writing)
        grown = int(told.read())
        os.waitpid(server, 0)
    return grown


def growth(sock: socket.socket, command: object) -> int:
    connection = framefd.Connection(sock)
    ctypes.CDLL(None).malloc_trim(0)
    # Begins the high-water mark anew: proc_pid_clear_refs(5).
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    request = connection.recv_header()
    if command == "exec":
        connection.serve_exec(request)
    else:
        connection.serve_file(request, FOLDER.name)
    return memory("VmHWM") - before


def memory(key: str) -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split(key + ":")[1].split()[0])


def fork(work: Callable[[], object]) -> int:
    process = os.fork()
    if process == 0:
        signal.alarm(SECONDS)
        # The other end may leave at any time.
        with contextlib.suppress(OSError):
            work()
        os._exit(0)
    return process


def run_limited(
    ours: socket.socket, theirs: socket.socket, call: Call, room: int, told: int
) -> None:
    theirs.close()
    connection = framefd.Connection(ours)
    # Freed memory that malloc(3) keeps would be room as well.
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    try:
        call(connection)
        result = "done"
    except MemoryError:
        result = "no memory"
    except BaseException as error:
        result = repr(error)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    os.write(told, result.encode())


def setUpModule() -> None:
    global UDP
    folder = pathlib.Path(FOLDER.name)
    (folder / "large").write_bytes(bytes(SIZE))
    (folder / "many").mkdir()
    for number in range(20_000):
        (folder / "many" / f"{number}-{'x' * 200}").touch()
    (folder / "tree").mkdir()
    for number in range(40):
        (folder / "tree" / f"{number}-{'x' * 200}").touch()
    (folder / "keys").mkdir(mode=0o700)
    for number in range(500):
        key = folder / "keys" / f"key-{number}"
        key.touch(0o600)
        key.write_bytes(number.to_bytes(2, "little") * 500)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(UDP)
    UDP = sock.getsockname()
    unittest.addModuleCleanup(os.kill, fork(lambda: serve_datagrams(sock)), signal.SIGKILL)
    sock.close()
    unittest.addModuleCleanup(FOLDER.cleanup)


def serve_datagrams(sock: socket.socket) -> None:
    signal.alarm(0)
    server = framefd.DatagramServer()
    while True:
        server.serve(sock)


if __name__ == "__main__":
    unittest.main()
