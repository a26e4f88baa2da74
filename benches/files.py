"""A file from the page cache over TCP to memory, with a checksum at both ends and without."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness import ALL_CPUS, TARGET, Bar, Contender, Workload, compiled, figure
from service import CPUS, OpenSsh, Service, free_port, installed, missing, seconds

LIMIT = "limit, read and write of 1 MiB"
HASHING = "limit, with SHA-256 of OpenSSL in line"
OURS = "framefd"
RSYNC = "rsync, daemon"
FTP = "curl, vsftpd"

SIZE, QUICK_SIZE = 256, 64
MIB = 1 << 20


def workloads(quick: bool) -> list[Workload]:
    size = QUICK_SIZE if quick else SIZE
    limit = compiled("files_limit", "-lcrypto", header="openssl/evp.h")
    ours = compiled("files_framefd")
    found = []
    for direction in ("put", "get"):
        for how, text in (("plain", ""), ("hashed", ", with checksum")):
            shelf = Shelf(size)
            title = f"{direction} of {size} MiB{text}"
            name = LIMIT if how == "plain" else HASHING
            contenders = [
                contender(shelf, name, limit, "limit", direction, how, CPUS),
                contender(shelf, OURS, ours, "ours", direction, how, CPUS),
            ]
            bars = [Bar("0.95 of the limit", OURS, name, 0.95)]
            found.append(Workload(f"{title}, on one cpu", "MiB/s", contenders, bars))
            contenders = [
                # Of peers some have more processes than two, and each hashes on a cpu of its own.
                contender(shelf, OURS, ours, "ours", direction, how, ALL_CPUS),
                *peers(shelf, direction, how),
            ]
            bars = []
            if how == "hashed":
                bars = [Bar("1.3 times rsync", OURS, RSYNC, 1.3)]
            elif direction == "get":
                bars = [Bar("1.4 times vsftpd", OURS, FTP, 1.4)]
            found.append(Workload(f"{title}, beside peers", "MiB/s", contenders, bars))
    return found


class Shelf:
    """Where the file is, on disk and in the page cache, and where it goes, in memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.source = Path()
        self.dest = Path()
        self._stack = contextlib.ExitStack()
        self._users = 0

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """All contenders have it in common: the first one makes it, the last one removes it."""
        if self._users == 0:
            self._make()
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                self._stack.close()

    def _make(self) -> None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        TARGET.mkdir(parents=True, exist_ok=True)
        disk = self._stack.enter_context(tempfile.TemporaryDirectory(dir=TARGET))
        room = self._stack.enter_context(tempfile.TemporaryDirectory(dir=memory))
        for directory in (disk, room):
            os.chmod(directory, 0o755)
        self.source, self.dest = Path(disk, "source"), Path(room, "dest")
        with self.source.open("wb") as file:
            for _ in range(self.size):
                file.write(os.urandom(MIB))
            file.flush()
            os.fsync(file.fileno())  # what is written back later would be measured, too

    def served(self, direction: str) -> Path:
        """The directory that a server has."""
        return (self.source if direction == "get" else self.dest).parent

    def clear(self) -> None:
        """What was there before is not to be removed on the measured way."""
        self.dest.unlink(missing_ok=True)

    def rate(self, command: Sequence[str | Path]) -> float:
        """MiB per second of a client."""
        self.clear()
        taken = seconds(command, cpus=ALL_CPUS)
        if self.dest.stat().st_size != self.size * MIB:
            raise RuntimeError(f"{command[0]} left something out")
        return self.size / taken


def contender(
    shelf: Shelf,
    name: str,
    program: Path | None,
    role: str,
    direction: str,
    how: str,
    cpus: set[int],
) -> Contender:
    service = Service([], cpus=cpus)

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        with shelf.ready():
            service.command = [str(program), "server", str(shelf.served(direction)), how]
            with service.running():
                yield

    def measure() -> float:
        shelf.clear()
        source, dest = shelf.source, shelf.dest
        command: list[str | Path] = [program or "", "client", str(service.port), direction, how]
        command += [source.name, dest] if direction == "get" else [source, dest.name]
        return figure(command, cpus)

    return Contender(name, measure, role, None if program else "libssl-dev", around)


def peers(shelf: Shelf, direction: str, how: str) -> list[Contender]:
    ssh = OpenSsh(ALL_CPUS)

    def copied(program: str) -> float:
        remote, local = f"127.0.0.1:{shelf.source}", str(shelf.dest)
        if direction == "put":
            remote, local = f"127.0.0.1:{shelf.dest}", str(shelf.source)
        pair = [remote, local] if direction == "get" else [local, remote]
        return shelf.rate([*ssh.client(program, multiplexed=False), *pair])

    scp = peer(shelf, "scp", lambda: copied("scp"), ssh.missing, ssh.running)
    if how == "hashed":
        return [rsync(shelf, direction), scp]
    local = peer(shelf, "cp, no network", lambda: shelf.rate(["cp", shelf.source, shelf.dest]))
    return [local, scp, *([ftp(shelf)] if direction == "get" else [])]


def peer(
    shelf: Shelf,
    name: str,
    measure: Callable[[], float],
    missing: str | None = None,
    running: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Contender:
    @contextlib.contextmanager
    def around() -> Iterator[None]:
        with shelf.ready(), running():
            yield

    return Contender(name, measure, "peer", missing, around)


def rsync(shelf: Shelf, direction: str) -> Contender:
    service = Service([], free_port(), ALL_CPUS)

    @contextlib.contextmanager
    def running() -> Iterator[None]:
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
            config.write("use chroot = no\nuid = 0\ngid = 0\n" if os.geteuid() == 0 else "")
            config.write(f"[files]\npath = {shelf.served(direction)}\nread only = no\n")
            config.flush()
            service.command = ["rsync", "--daemon", "--no-detach", f"--config={config.name}"]
            service.command.append(f"--port={service.port}")
            with service.running():
                yield

    def measure() -> float:
        there = f"rsync://127.0.0.1:{service.port}/files/"
        pair = [there + shelf.source.name, str(shelf.dest)]
        if direction == "put":
            pair = [str(shelf.source), there + shelf.dest.name]
        return shelf.rate(["rsync", "--whole-file", "--ignore-times", *pair])

    return peer(shelf, RSYNC, measure, missing(rsync="rsync"), running)


def ftp(shelf: Shelf) -> Contender:
    service = Service([], free_port(), ALL_CPUS)

    @contextlib.contextmanager
    def running() -> Iterator[None]:
        options = {
            "listen": "YES",
            "listen_address": "127.0.0.1",
            "listen_port": service.port,
            "anonymous_enable": "YES",
            "anon_root": shelf.source.parent,
            "no_anon_password": "YES",
            "seccomp_sandbox": "NO",
            "background": "NO",
        }
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
            config.writelines(f"{name}={value}\n" for name, value in options.items())
            config.flush()
            service.command = [str(installed("vsftpd")), config.name]
            with service.running():
                yield

    def measure() -> float:
        url = f"ftp://127.0.0.1:{service.port}/{shelf.source.name}"
        return shelf.rate(["curl", "--silent", "--show-error", "--output", shelf.dest, url])

    return peer(shelf, FTP, measure, missing(vsftpd="vsftpd", curl="curl"), running)
