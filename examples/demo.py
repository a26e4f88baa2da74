"""Runs the example programs against each other and shows what happens.

`make demo` builds them first. The exit status is 1 if a check fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import launch
from launch import ROOT, program, run

NAMES = {"c": "C", "python": "Python"}
PAIRS = list(itertools.product(launch.LANGUAGES, repeat=2))
INDENT = "   "
WIDTH = 80
NUL = b"\0"
DONE = b"done\n"


def main() -> int:
    begin = time.monotonic()
    story = Story()
    story.print_text(INTRODUCTION)
    steps = [
        sticky,
        commands,
        bare_sticks,
        bytes_on_the_wire,
        wasted_round_trip,
        clean_stop,
        many_connections,
        handshake,
        sealed,
        agents,
        datagrams,
        streams,
        interrupts,
        terminals,
        files,
        resumed,
        trees,
        plain_peers,
    ]
    for number, step in enumerate(steps, 1):
        story.tell(step, number)
    seconds = time.monotonic() - begin
    print()
    if story.wrong:
        print(story.paint(31, f"{story.wrong} of {story.checks} checks failed"))
        return 1
    print(story.paint(32, f"All {story.checks} checks passed, in {seconds:.0f} s."))
    print(NEXT)
    return 0


INTRODUCTION = """
framefd sends whole messages over any file descriptor, and builds on that:
authentication, remote commands, files, datagrams. Each step below starts real servers
and clients of examples/c and examples/python, mixes the two languages, and checks what
they do. "C to Python" is a C client with a Python server, "ok" is a check that passed.
It takes half a minute.
"""

NEXT = """
To try it yourself, make a key and start an agent in one terminal:

    target/release/framefd key new key
    target/release/framefd serve --listen 127.0.0.1:7010 --exec -k key

and use it from another:

    target/release/framefd run -k key 127.0.0.1:7010 'echo hello; uname -a'
    target/release/framefd shell -k key 127.0.0.1:7010

The example programs, in C or in Python: start a server in one terminal,

    target/examples/exec_server --port 7000

and use it from another:

    target/examples/exec_client localhost 7000 'echo hello; uname -a'
    target/examples/exec_client --tty localhost 7000 bash
    PYTHONPATH=bindings/python python3
    >>> import framefd
    >>> framefd.connect("localhost:7000").run("id").text

Files work the same way:

    mkdir files && target/examples/file_server --root files --port 7001
    target/examples/file_client localhost 7001 put README.md copy.md
    target/examples/file_client localhost 7001 list

On a network, both sides need a key, and seal what they send:

    target/examples/exec_server --host 0.0.0.0 --port 7002 --seal --key-file key
    target/examples/exec_client --seal --key-file key localhost 7002 'echo hello'

Then read README.md and, for C, include/framefd.h."""


def sticky(story: Story) -> None:
    """Why messages need a frame

    TCP carries bytes, not messages. Two messages that are sent one after the other may arrive
    together, and one message may arrive in pieces. A length before each message keeps them
    apart.
    """
    c, python = (run(program(language, "sticky")) for language in launch.LANGUAGES)
    for line in c.stdout.decode().splitlines():
        story.say(line)
    story.check(c.returncode == 0 and c.stdout == python.stdout, "the same in C and in Python")


def commands(story: Story) -> None:
    """Commands over TCP

    A client sends a command, a server runs it and sends its output back. The programs speak
    five wire formats, so that each step towards a frame can be seen: bare (bytes without a
    length), ack (the length first, the output after the client's answer), packet (a length,
    then the output), json (a JSON header, then the output) and frame (a header in both
    directions; stdout, stderr and the exit status arrive apart). Only json and frame carry
    all three.
    """
    command = "echo out; echo err >&2; exit 3"
    story.say(f"$ exec_client HOST PORT --wire WIRE '{command}'")
    for wire in ("frame", "json", "packet", "ack", "bare"):
        both = wire in ("frame", "json")
        expected = (b"out\n", b"err\n", 3) if both else (b"err\nout\n", b"", 0)
        for server, client in PAIRS:
            with serving(server, "exec_server", "--wire", wire) as started:
                got = run(
                    program(client, "exec_client", *started.address, "--wire", wire, command)
                )
                story.check(
                    (got.stdout, got.stderr, got.returncode) == expected,
                    f"{wire:7}{pair(server, client)} stdout {text(got.stdout):13}"
                    f" stderr {text(got.stderr):8} status {got.returncode}",
                )


def bare_sticks(story: Story) -> None:
    """Without a length, replies stick together

    On the bare wire the client calls recv(1024) once for each command. The rest of a long
    reply is then taken for the reply to the next command.
    """
    lines = ["seq -w 0 10 3000", "echo second", "echo third"]
    with serving("c", "exec_server", "--wire", "bare") as started:
        client = program("python", "exec_client", *started.address, "--wire", "bare")
        got = run(client, "".join(line + "\n" for line in lines).encode())
    replies = got.stdout.split(b">>: ")[1 : len(lines) + 1]
    for line, reply in zip(lines, replies):
        story.say(f">>: {line:17} {len(reply):4} bytes  {text(reply, 26)}")
    stuck = (
        len(replies) == 3 and b"second" not in replies[0] and not replies[1].startswith(b"s")
    )
    story.check(stuck, "the rest of the reply to `seq` took the place of the next one")


def bytes_on_the_wire(story: Story) -> None:
    """The bytes on each wire

    The same command, sent with a plain socket (->), and its reply (<-).
    """
    header = b'{"cmd":"exec","data_size":7}'
    framed = (len(header).to_bytes(4, "little"), header, b"echo hi")
    outputs = []
    for wire, request, reply in (
        ("bare", (b"echo hi",), (3,)),
        ("ack", (b"echo hi",), (1,)),
        ("packet", (b"echo hi",), (4, 3)),
        ("json", (b"echo hi",), (4, AS_MANY, 3)),
        ("frame", framed, (4, AS_MANY, 3)),
    ):
        with serving("c", "exec_server", "--wire", wire) as started:
            with socket.create_connection(started.socket_address, launch.SECONDS) as conn:
                conn.sendall(b"".join(request))
                show_pieces(story, f"{wire:7}->", request)
                received = recv_pieces(conn, reply)
                show_pieces(story, "       <-", received)
                if wire == "ack":
                    conn.sendall(b"recv_ready")
                    show_pieces(story, "       ->", [b"recv_ready"])
                    received = recv_pieces(conn, (3,))
                    show_pieces(story, "       <-", received)
        outputs.append(received[-1])
    story.check(outputs == [b"hi\n"] * 5, "every wire carries the whole output")


AS_MANY = -1  # as many bytes as the piece before says


def recv_pieces(conn: socket.socket, sizes: Iterable[int]) -> list[bytes]:
    pieces: list[bytes] = []
    for size in sizes:
        if size == AS_MANY:
            size = int.from_bytes(pieces[-1], "little")
        pieces.append(conn.recv(size, socket.MSG_WAITALL))
    return pieces


def show_pieces(story: Story, mark: str, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        seen = piece.hex(" ") if piece[-1:] == NUL else printable(piece)
        story.say(f"{mark:11}{seen}", hang=11)
        mark = ""


def wasted_round_trip(story: Story) -> None:
    """The round trip that ack wastes

    After the length, an ack server waits for the client's `recv_ready` before it sends the
    output. A packet server sends both at once. Shown is the mean time of a command on this
    machine, and over a line that takes 5 ms in each direction.
    """
    with contextlib.ExitStack() as stack:
        here, away = {}, {}
        for wire in ("ack", "packet"):
            started = stack.enter_context(serving("c", "exec_server", "--wire", wire))
            here[wire] = started.address
            line = stack.enter_context(launch.Line(started, seconds=0.005))
            away[wire] = line.address
        for where, addresses, rounds, count in (
            ("here", here, 5, 100),
            ("5 ms away", away, 5, 10),
        ):
            means = mean_seconds(addresses, rounds, count)
            ratios = [ack / packet for ack, packet in zip(means["ack"], means["packet"])]
            figures = (f"{wire} {statistics.mean(means[wire]) * 1e3:6.2f} ms" for wire in means)
            story.say(
                f"{where:10} {'   '.join(figures)}   ratio {statistics.mean(ratios):.2f}"
                f"   ({rounds} x {count})"
            )
    story.check(statistics.mean(ratios) > 1.3, "over the long line ack is much slower")


def mean_seconds(
    addresses: dict[str, tuple[str, str]], rounds: int, count: int
) -> dict[str, list[float]]:
    """The mean time of a command on each wire, for each round."""
    means: dict[str, list[float]] = {wire: [] for wire in addresses}
    for wire in list(addresses) * rounds:  # in turns, so that a busy machine slows both
        client = program("c", "exec_client", "--wire", wire, *addresses[wire])
        begin = time.perf_counter()
        run(client, b"echo hi\n" * count).check_returncode()
        means[wire].append((time.perf_counter() - begin) / count)
    return means


def clean_stop(story: Story) -> None:
    """A server that stops loses no reply

    Eight commands are running when the server gets SIGTERM. Each client still gets its reply.
    """
    for language in launch.LANGUAGES:
        with tempfile.TemporaryDirectory() as directory:
            with serving(language, "exec_server", directory=directory) as started:
                command = "touch $$; sleep 0.5; echo done"
                clients = [
                    launch.start(program(client, "exec_client", *started.address, command))
                    for client in launch.LANGUAGES * 4
                ]
                while len(os.listdir(directory)) < len(clients):
                    time.sleep(0.01)
                status = started.stop(signal.SIGTERM)
                replies = [client.communicate()[0] for client in clients]
        story.check(
            status == 0 and replies == [DONE] * 8,
            f"{NAMES[language]} server: {replies.count(DONE)} of 8 replies, status {status}",
        )


def many_connections(story: Story) -> None:
    """A thousand connections, one thread

    An event loop reads bytes as they come and decodes frames from them. Each client sends
    three frames before it reads; each frame comes back on its own connection.
    """
    count = 1000
    launch.allow_files(count + 100)
    for language in launch.LANGUAGES:
        with serving(language, "echo_server") as started, contextlib.ExitStack() as stack:
            conns = [
                stack.enter_context(
                    socket.create_connection(started.socket_address, launch.SECONDS)
                )
                for _ in range(count)
            ]
            for n, conn in enumerate(conns):
                conn.sendall(b"".join(framed(n, n * size) for size in range(3)))
            returned = [
                recv_framed(conn) == (n, bytes(n * size))
                for n, conn in enumerate(conns)
                for size in range(3)
            ]
        story.check(
            all(returned),
            f"{NAMES[language]} server: {returned.count(True)} of {len(returned)} frames came"
            f" back on {count} connections",
        )


def framed(number: int, size: int) -> bytes:
    header = json.dumps({"number": number, "data_size": size}).encode()
    return len(header).to_bytes(4, "little") + header + bytes(size)


def recv_framed(conn: socket.socket) -> tuple[int, bytes]:
    pieces = recv_pieces(conn, (4, AS_MANY))
    header = json.loads(pieces[-1])
    return header["number"], recv_pieces(conn, (header["data_size"],))[0]


def handshake(story: Story) -> None:
    """A shared key

    The server sends 32 random bytes, and the client answers with their HMAC. Until then the
    server serves nothing.
    """
    with tempfile.TemporaryDirectory() as directory:
        key = key_file(directory, "key")
        wrong = key_file(directory, "wrong")
        for server in launch.LANGUAGES:
            with serving(server, "auth_echo_server", "--key-file", key) as started:
                for client in launch.LANGUAGES:
                    echo = program(client, "auth_echo_client", *started.address, "--key-file")
                    got = run([*echo, key, "hello"])
                    story.check(
                        (got.stdout, got.returncode) == (b"HELLO\n", 0),
                        f"{pair(server, client)} `hello` came back as {text(got.stdout)}",
                    )
                got = run([*echo, wrong, "hello"])
                story.check(
                    (got.stdout, got.returncode) == (b"", 1),
                    f"{NAMES[server]} server, another key: {last_line(got.stderr)}",
                )
                talker = ROOT / "tests" / "peers" / "auth_intruder_talks.py"
                got = run([sys.executable, str(talker), *started.address])
                story.check(
                    (got.stdout, got.returncode) == (b"", 1),
                    f"{NAMES[server]} server, a client that just talks: closed, nothing served",
                )


def sealed(story: Story) -> None:
    """A sealed connection

    After a plain handshake nothing is protected: a machine in between, without any key, passes
    the handshake on, and then asks for a command of its own. With --seal both sides prove the
    key, and every byte is encrypted: the same machine gets nothing.
    """
    with tempfile.TemporaryDirectory() as directory:
        key = ["--key-file", key_file(directory, "key")]
        seal = ["--seal", "--name", "db", *key]
        steps = (("client", 56), ("server", 50), ("client", 19))
        for server in launch.LANGUAGES:
            with serving(server, "exec_server", *key) as started:
                got = speak_after(started, key, ("server", 32), ("client", 32))
            story.check(
                got.endswith(b"mine\n"),
                f"{NAMES[server]} server, plain: the machine in between ran `echo mine`",
            )
            files = ("file_server", "--root", directory)
            with (
                serving(server, "exec_server", *seal) as started,
                serving(server, *files, *seal) as stores,
            ):
                got = speak_after(started, seal, *steps)
                story.check(got == b"", f"{NAMES[server]} server, sealed: it got nothing")
                for client in launch.LANGUAGES:
                    ask = program(client, "exec_client", *seal, *started.address)
                    ran = run([*ask, "echo hello; exit 3"])
                    ask = program(client, "file_client", *seal, *stores.address)
                    put = run([*ask, "put", key[1], f"{server}-{client}"])
                    copy = Path(directory, f"{server}-{client}")
                    story.check(
                        (ran.stdout, ran.returncode, put.returncode) == (b"hello\n", 3, 0)
                        and copy.read_bytes() == Path(key[1]).read_bytes(),
                        f"{pair(server, client)} {text(ran.stdout)}, status {ran.returncode};"
                        f" {last_line(put.stdout).partition(',')[0]}",
                    )


def agents(story: Story) -> None:
    """The program framefd

    It is an agent for a machine, and a client of such agents: commands and files on one sealed
    connection. Each machine here has a key of its own. Whoever steals the key of one, and with
    it that machine, gets no further: no other machine takes it.
    """
    framefd = str(launch.TARGET / "release" / "framefd")
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        machines = {}
        for name in ("web", "db"):
            key, root = Path(directory, f"{name}.key"), Path(directory, name)
            root.mkdir()
            made = run([framefd, "key", "new", str(key)])
            story.check(made.returncode == 0, f"framefd key new {key.name}")
            agent = [framefd, "serve", "--listen", "127.0.0.1:0", "--name", name, "-k", str(key)]
            agent += ["--exec", "--root", str(root), "--writable"]
            machines[name] = stack.enter_context(launch.server(agent))

        def ask(verb: str, key: str, name: str, *words: str) -> subprocess.CompletedProcess[bytes]:
            file = str(Path(directory, f"{key}.key"))
            return run([framefd, verb, "-k", file, "--name", name, *words])

        web, db = (":".join(machine.address) for machine in machines.values())
        ran = ask("run", "web", "web", web, "echo hello; exit 3")
        story.check(
            (ran.stdout, ran.returncode) == (b"hello\n", 3),
            f"framefd run WEB 'echo hello; exit 3': {text(ran.stdout)}, status {ran.returncode}",
        )
        put = ask("put", "db", "db", __file__, f"{db}:copy")
        same = Path(directory, "db", "copy").read_bytes() == Path(__file__).read_bytes()
        story.check(same and put.returncode == 0, "framefd put demo.py DB:copy")
        stolen = ask("run", "web", "db", db, "echo stolen")
        story.check(
            (stolen.stdout, stolen.returncode) == (b"", 255),
            f"the key of WEB at DB, status {stolen.returncode}: {last_line(stolen.stderr)}",
        )


def speak_after(server: launch.Server, options: list[str], *steps: tuple[str, int]) -> bytes:
    """What a server sends to a machine in between that passes a client's handshake on, in
    steps of so many bytes, and then asks for a command."""
    header = json.dumps({"cmd": "exec", "data_size": 9}).encode()
    request = len(header).to_bytes(4, "little") + header + b"echo mine"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        client = program("c", "exec_client", *options, host, str(port), "echo theirs")
        with launch.start(client) as asking, listener.accept()[0] as near:
            with socket.create_connection(server.socket_address, launch.SECONDS) as far:
                for who, size in steps:
                    source, target = (near, far) if who == "client" else (far, near)
                    target.sendall(source.recv(size, socket.MSG_WAITALL))
                far.sendall(request)
                far.shutdown(socket.SHUT_WR)
                received = b""
                while data := far.recv(65536):
                    received += data
            asking.kill()
    return received


def datagrams(story: Story) -> None:
    """Commands in datagrams

    A datagram holds one frame. A lost one is sent again, a long reply is split into numbered
    parts, and with a key each datagram is signed. On the bare wire a long reply is cut.
    """
    with tempfile.TemporaryDirectory() as directory:
        key = ["--key-file", key_file(directory, "key")]
        for server, client in PAIRS:
            with serving(server, "udp_exec_server", *key) as started:
                got = run(
                    program(client, "udp_exec_client", *key, *started.address, "seq 30000")
                )
            story.check(
                (got.stdout, got.returncode) == (lines_to(30000), 0),
                f"frame  {pair(server, client)} with a key, `seq 30000`:"
                f" {len(got.stdout)} bytes, all there",
            )
    for server, client in PAIRS:
        with serving(server, "udp_exec_server", "--wire", "bare") as started:
            bare = program(client, "udp_exec_client", "--wire", "bare", *started.address)
            got, long = run([*bare, "echo out; echo err >&2"]), run([*bare, "seq 30000"])
        story.check(
            (got.stdout, got.stderr) == (b"out\n", b"err\n")
            and long.stdout == lines_to(30000)[: len(long.stdout)] != lines_to(30000),
            f"bare   {pair(server, client)} {text(got.stdout)} {text(got.stderr)},"
            f" `seq 30000`: {len(long.stdout)} bytes",
        )


def streams(story: Story) -> None:
    """Output while the command runs, and input

    With --stdin, or on a terminal, output arrives while the command runs, and the command
    reads what the client reads. The reply with the exit status comes last.
    """
    command = 'echo ready; while read x; do echo "got $x"; done; exit 3'
    story.say(f"$ exec_client --stdin HOST PORT '{command}'")
    for server, client in PAIRS:
        with serving(server, "exec_server") as started:
            ask = program(client, "exec_client", "--stdin", *started.address, command)
            with launch.start(ask) as running:
                assert running.stdin and running.stdout
                got = [running.stdout.readline()]
                for word in (b"one\n", b"two\n"):
                    running.stdin.write(word)
                    running.stdin.flush()
                    got.append(running.stdout.readline())
                running.communicate()
        story.check(
            (got, running.returncode) == ([b"ready\n", b"got one\n", b"got two\n"], 3),
            f"{pair(server, client)} {text(b''.join(got), 40)}, one by one; status"
            f" {running.returncode}",
        )


def interrupts(story: Story) -> None:
    """Ctrl-C

    On a terminal the first Ctrl-C goes to the command, which may handle it. The second one
    ends the client, and with it the command.
    """
    command = "trap 'echo caught' INT; echo $$; while :; do sleep 0.05; done"
    story.say(f'$ exec_client HOST PORT "{command}"')
    for server, client in PAIRS:
        with serving(server, "exec_server") as started:
            ask = program(client, "exec_client", *started.address, command)
            with launch.Terminal(ask) as terminal:
                number = int(terminal.expect(b"\n"))
                terminal.type(b"\x03")
                caught = terminal.expect(b"caught\r\n")
                terminal.type(b"\x03")
                status = terminal.wait()
                gone = is_gone(number)
        story.check(
            (status, gone) == (130, True),
            f"{pair(server, client)} {text(caught.strip())}, then status {status}, the command"
            " is gone",
        )


def terminals(story: Story) -> None:
    """A terminal

    With --tty the command gets a terminal: a shell shows its prompt, an editor draws. It has
    the size of the client's own terminal, which is put into raw mode and restored afterwards.
    """
    for server, client in PAIRS:
        with serving(server, "exec_server") as started:
            ask = program(client, "exec_client", "--tty", "--env", "PS1=$ ", *started.address)
            with launch.Terminal([*ask, "sh"]) as terminal:
                sizes = []
                for size in ((24, 80), (40, 120)):
                    terminal.expect(b"$ ")
                    raw = terminal.modes() != terminal.modes_before
                    terminal.resize(*size)
                    reached = b"test \"$(stty size)\" = '%d %d'" % size
                    terminal.type(b"until %s; do :; done; stty size\r" % reached)
                    terminal.expect(b"size\r\n")
                    sizes.append(terminal.expect(b"\r\n"))
                terminal.type(b"exit 7\r")
                status = terminal.wait()
                restored = terminal.modes() == terminal.modes_before
        story.check(
            (sizes, status, raw, restored) == ([b"24 80\r\n", b"40 120\r\n"], 7, True, True),
            f"{pair(server, client)} `stty size` {text(sizes[0].strip())}, made larger"
            f" {text(sizes[1].strip())}, status {status}",
        )


def files(story: Story) -> None:
    """Files

    A file is put and fetched back, with a checksum over both ways. No name leads out of the
    server's directory.
    """
    content = os.urandom(3_000_000)
    digest = hashlib.sha256(content).hexdigest()
    with tempfile.TemporaryDirectory() as directory:
        root, local, copy = (Path(directory, name) for name in ("root", "local", "copy"))
        root.mkdir()
        local.write_bytes(content)
        for server, client in PAIRS:
            with serving(server, "file_server", "--root", str(root)) as started:
                ask = program(client, "file_client", *started.address)
                put = run([*ask, "put", str(local), "stored"])
                get = run([*ask, "get", "stored", str(copy)])
                out = run([*ask, "put", str(local), "../out"])
            story.check(
                (put.returncode, get.returncode) == (0, 0)
                and digest.encode() in put.stdout
                and (root / "stored").read_bytes() == copy.read_bytes() == content,
                f"{pair(server, client)} put and get, 3,000,000 bytes, sha256 {digest[:12]}...",
            )
            story.check(
                out.returncode == 1 and not Path(directory, "out").exists(),
                f"{pair(server, client)} put ../out: {last_line(out.stderr)}",
            )
            copy.unlink()


def resumed(story: Story) -> None:
    """An interrupted transfer continues

    The client is killed half-way. The next one compares what is there with what it has, and
    transfers only the rest.
    """
    content = os.urandom(8_000_000)
    for server, client in PAIRS:
        with tempfile.TemporaryDirectory() as directory:
            root, local, copy = (Path(directory, name) for name in ("root", "local", "copy"))
            root.mkdir()
            local.write_bytes(content)
            with serving(server, "file_server", "--root", str(root)) as started:
                put = ("put", "--resume", str(local), "stored")
                get = ("get", "--resume", "stored", str(copy))
                carried = [carried_until_killed(started, client, put, root)]
                launch.wait_for_partial(root, 1, free=True)
                carried += [carried_to_the_end(started, client, put)]
                carried += [carried_until_killed(started, client, get, copy.parent)]
                carried += [carried_to_the_end(started, client, get)]
            same = (root / "stored").read_bytes() == copy.read_bytes() == content
            left = sorted(os.listdir(directory)) != ["copy", "local", "root"]
        story.check(
            same and not left and carried[1] < 6.1e6 and carried[3] < 6.1e6,
            f"{pair(server, client)} 8 MB: put {megabytes(carried[:2])} MB,"
            f" get {megabytes(carried[2:])} MB",
        )


def carried_until_killed(
    server: launch.Server, client: str, words: Iterable[str], target: Path
) -> int:
    """The bytes that pass before a client is killed in the middle."""
    with launch.Line(server, most=4_000_000) as line:
        with launch.start(program(client, "file_client", *line.address, *words)) as running:
            launch.wait_for_partial(target, 2_000_000)
            running.kill()
        return line.sent + line.received


def carried_to_the_end(server: launch.Server, client: str, words: Iterable[str]) -> int:
    with launch.Line(server) as line:
        run(program(client, "file_client", *line.address, *words)).check_returncode()
        return line.sent + line.received


def megabytes(counts: Iterable[int]) -> str:
    return " + ".join(f"{count / 1e6:.1f}" for count in counts)


def trees(story: Story) -> None:
    """A directory tree

    Each file is stored as safely as one that is sent alone. `list` prints the same lines in
    both languages.
    """
    contents = {"todo": b"sleep\n", "letters/to ann": b"Dear Ann\n", "letters/to bob": b""}
    listed = []
    for server, client in PAIRS:
        with tempfile.TemporaryDirectory() as directory:
            root, notes, back = (Path(directory, name) for name in ("root", "notes", "back"))
            root.mkdir()
            (notes / "letters").mkdir(parents=True)
            for name, content in contents.items():
                (notes / name).write_bytes(content)
                os.utime(notes / name, (10**9, 10**9))
            with serving(server, "file_server", "--root", str(root)) as started:
                ask = program(client, "file_client", *started.address)
                put = run([*ask, "put", "-r", str(notes)])
                get = run([*ask, "get", "-r", "notes", str(back)])
                listed.append(run([*ask, "list", "notes/letters"]).stdout)
            same = all((back / name).read_bytes() == text for name, text in contents.items())
        story.check(
            same and (put.returncode, get.returncode) == (0, 0),
            f"{pair(server, client)} put -r, {last_line(put.stdout).partition(': ')[2]}",
        )
    for line in listed[0].decode().splitlines():
        story.say(line)
    story.check(
        listed == [listed[0]] * 4 and len(listed[0].splitlines()) == 2,
        "`list notes/letters` shows the same for every pair",
    )


def plain_peers(story: Story) -> None:
    """Programs without framefd

    The wire formats are simple: these clients and servers use only sockets, struct and json,
    and work with ours in both directions.
    """
    peers = ROOT / "tests" / "peers"
    for wire in ("bare", "ack", "packet", "json"):
        old_server = [sys.executable, str(peers / f"{wire}_server.py"), "127.0.0.1", "0"]
        old_client = [sys.executable, str(peers / f"{wire}_client.py")]
        for language in launch.LANGUAGES:
            with serving(language, "exec_server", "--wire", wire) as started:
                theirs = run([*old_client, *started.address, "echo hello"])
            with launch.server(old_server) as started:
                client = program(language, "exec_client", "--wire", wire, *started.address)
                ours = run([*client, "echo hello"])
            story.check(
                theirs.stdout == ours.stdout == b"hello\n",
                f"{wire:7}plain to {NAMES[language]}: {text(theirs.stdout)}"
                f"   {NAMES[language]} to plain: {text(ours.stdout)}",
            )


class Story:
    """What is shown, and how many of its checks failed."""

    def __init__(self) -> None:
        self.checks = self.wrong = 0
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def tell(self, step: Callable[[Story], None], number: int) -> None:
        """Runs one step; its title and what it is about are its docstring."""
        title, _, about = (step.__doc__ or "").partition("\n")
        print("\n" + self.paint(1, f"{number}. {title}"))
        self.print_text(about)
        try:
            step(self)
        except Exception as error:
            self.check(False, f"{type(error).__name__}: {error}")

    def print_text(self, text: str) -> None:
        """A paragraph, in lines that fit."""
        words = textwrap.fill(" ".join(text.split()), WIDTH - len(INDENT))
        print(textwrap.indent(words, INDENT) + "\n", flush=True)

    def say(self, line: str, hang: int = 0) -> None:
        """One line; where it is long it goes on in the next, behind ``hang`` blanks."""
        self._print("", line, hang)

    def check(self, good: bool, line: str) -> None:
        """One thing that was seen, and whether it is what should be seen."""
        self.checks += 1
        self.wrong += not good
        self._print(self.paint(32, "ok  ") if good else self.paint(31, "BAD "), line, 4)

    def paint(self, colour: int, words: str) -> str:
        return f"\033[{colour}m{words}\033[0m" if self.colour else words

    def _print(self, mark: str, line: str, hang: int) -> None:
        room = WIDTH - len(INDENT) - len("BAD ")
        lines = textwrap.wrap(line, room, subsequent_indent=" " * hang, break_on_hyphens=False)
        print(textwrap.indent(mark + "\n".join(lines), INDENT), flush=True)


def serving(
    language: str, name: str, *options: str, directory: str | None = None
) -> contextlib.AbstractContextManager[launch.Server]:
    return launch.server(program(language, name, *options), directory)


def pair(server: str, client: str) -> str:
    """The client's language, then the server's."""
    return f"{NAMES[client] + ' to ' + NAMES[server]:16}"


def text(data: bytes, most: int = 30) -> str:
    """Bytes in quotes; of many, the first and the last."""
    seen = printable(data)
    if len(seen) > most:
        seen = f"{seen[: most // 2]} ... {seen[-most // 2 :]}"
    return f'"{seen}"'


def printable(data: bytes) -> str:
    return data.decode("ascii", "backslashreplace").replace("\n", "\\n")


def last_line(data: bytes) -> str:
    lines = data.decode(errors="replace").splitlines()
    return lines[-1] if lines else "(nothing)"


def lines_to(number: int) -> bytes:
    """What `seq` prints."""
    return b"".join(b"%d\n" % n for n in range(1, number + 1))


def is_gone(number: int) -> bool:
    """Whether a process ends, within a time that is ample."""
    end = time.monotonic() + launch.SECONDS
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.kill(number, 0)
            time.sleep(0.02)
        return False
    return True


def key_file(directory: str, name: str) -> str:
    path = Path(directory, name)
    path.touch(0o600)
    path.write_text(secrets.token_hex(32))
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
