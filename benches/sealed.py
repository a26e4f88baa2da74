"""Sealed connections, beside the least that OpenSSL's ciphers allow, TLS 1.3 and tunnels: a
stream, round trips, connections, and the memory of one that is idle. All on one cpu."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from harness import Bar, Contender, Workload, compiled, figure, rust_program
from service import CPUS, OpenSsh, Service, free_port, missing, seconds


def openssl() -> str:
    """`OpenSSL 3.0.19`; just the name where there is none."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            ["openssl", "version"], capture_output=True, text=True, check=True
        )
        return " ".join(said.stdout.split()[:2])
    return "OpenSSL"


PLAIN = "framefd, plain"
OURS = "framefd, sealed"
# Whose version counts: AES-GCM is faster in later ones.
LIMIT = f"limit, EVP of {openssl()}"
TLS = "OpenSSL, TLS 1.3"
SSH = "OpenSSH"
SPIPED = "spiped"
CURVE = "limit, its curve arithmetic"

GCM, CHACHA = "aesgcm", "chacha"
TITLES = {GCM: "AES-256-GCM", CHACHA: "ChaCha20-Poly1305"}
SSH_CIPHERS = {GCM: "aes256-gcm@openssh.com", CHACHA: "chacha20-poly1305@openssh.com"}
STUNNEL_SUITES = {
    GCM: "sslVersion = TLSv1.2\nciphers = PSK-AES256-GCM-SHA384",
    CHACHA: "sslVersion = TLSv1.3\nciphersuites = TLS_CHACHA20_POLY1305_SHA256",
}

# Of each measurement; the connections that are made, and those that are idle.
MILLISECONDS, QUICK_MILLISECONDS = 300, 100
COUNT, QUICK_COUNT = 600, 200
IDLE = 400
SSH_MIB = 256

STREAM_BARS = {
    GCM: [
        Bar("1.25 of EVP", OURS, LIMIT, 1.25),
        Bar("1.45 times TLS", OURS, TLS, 1.45),
        Bar("2.5 times ssh", OURS, SSH, 2.5),
        Bar("8 times spiped", OURS, SPIPED, 8),
    ],
    CHACHA: [Bar("0.8 of EVP", OURS, LIMIT, 0.8), Bar("2.5 times ssh", OURS, SSH, 2.5)],
}
TRIP_BARS = {
    GCM: [Bar("within 1.13 of plain", OURS, PLAIN, 1.13)],
    CHACHA: [Bar("within 1.20 of plain", OURS, PLAIN, 1.20)],
}
CONNECTION_BARS = [
    Bar("0.8 of EVP", OURS, LIMIT, 0.8),
    Bar("1.3 times TLS", OURS, TLS, 1.3),
]


def workloads(quick: bool) -> list[Workload]:
    milliseconds = QUICK_MILLISECONDS if quick else MILLISECONDS
    count = QUICK_COUNT if quick else COUNT
    found = []
    for suite, title in TITLES.items():
        name = f"sealed stream, {title}"
        contenders = own("stream", suite, milliseconds) + tunnels("stream", suite, milliseconds)
        found.append(Workload(name, "MiB/s", contenders, STREAM_BARS[suite]))
    for suite, title in TITLES.items():
        name = f"sealed round trips of 64 B, {title}"
        contenders = own("trips", suite, milliseconds) + tunnels("trips", suite, milliseconds)
        found.append(Workload(name, "µs", contenders, TRIP_BARS[suite], lower_is_better=True))
    connections = [connecting(way, count) for way in ways(GCM)]
    connections += [connecting_through(tunnel, count) for tunnel in some_tunnels(GCM)]
    name = "sealed connections, with a round trip"
    found.append(Workload(name, "a second", connections, CONNECTION_BARS))
    return [*found, curve(), idle()]


class Way(NamedTuple):
    """A program of benches/c, called with a suite."""

    name: str
    role: str
    program: str
    suite: str

    def contender(
        self,
        measure: Callable[[], float],
        around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> Contender:
        return Contender(self.name, measure, self.role, absent(self.program), around)


def ways(suite: str) -> list[Way]:
    return [
        Way(LIMIT, "limit", "limit", suite),
        Way(OURS, "ours", "framefd", suite),
        Way(TLS, "peer", "tls", suite),
    ]


def own(kind: str, suite: str, milliseconds: int) -> list[Contender]:
    """Those that are programs of ours at both ends."""

    def measure(way: Way) -> float:
        return figure([program(way.program), kind, way.suite, str(milliseconds)], CPUS)

    plain = Way(PLAIN, "ours", "framefd", "none")
    return [way.contender(partial(measure, way)) for way in [plain, *ways(suite)]]


def connecting(way: Way, count: int) -> Contender:
    service = Service([programs()[way.program] or "", "server", way.suite])

    def measure() -> float:
        arguments = ["client", way.suite, str(service.port), str(count)]
        return figure([program(way.program), *arguments], CPUS)

    return way.contender(measure, service.running)


def idle() -> Workload:
    def measure(way: Way) -> float:
        return figure([program(way.program), "idle", way.suite, str(IDLE)], CPUS)

    all_ways = [*ways(GCM), Way(PLAIN, "ours", "framefd", "none")]
    contenders = [way.contender(partial(measure, way)) for way in all_ways]
    bars = [Bar("at most 2 KiB", OURS, 2048)]
    name = "memory of an idle sealed connection"
    return Workload(name, "B", contenders, bars, lower_is_better=True, rounds=1)


def curve() -> Workload:
    """A handshake in memory, beside the arithmetic that it consists of."""

    def measure(what: str) -> float:
        return figure([curve_program(), what], CPUS)

    contenders = [
        Contender(CURVE, partial(measure, "curve"), "limit"),
        Contender(OURS, partial(measure, "handshake"), "ours"),
    ]
    bars = [Bar("within 1.5 of its curve arithmetic", OURS, CURVE, 1.5)]
    return Workload("sealed handshake, both ends", "µs", contenders, bars, lower_is_better=True)


class Tunnel:
    """Programs that carry the bytes of a plain connection: one listens on `entry`, the other
    connects to `exit`."""

    role = "peer"

    def __init__(self, name: str, suite: str, missing_programs: str | None) -> None:
        self.name = name
        self.suite = suite
        self.missing = missing_programs or absent("limit")
        self.entry, self.middle, self.exit = free_port(), free_port(), free_port()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
            for command, port in self.commands(Path(home)):
                stack.enter_context(Service(command, port).running())
            yield

    def commands(self, home: Path) -> list[tuple[list[str], int]]:
        """The end that connects to `exit` and the other one, with the ports they listen on."""
        raise NotImplementedError

    def contender(self, kind: str, milliseconds: int) -> Contender:
        def measure() -> float:
            ports = [str(self.entry), str(self.exit)]
            return figure([program("limit"), kind, "none", str(milliseconds), *ports], CPUS)

        return Contender(self.name, measure, self.role, self.missing, self.running)


class Spiped(Tunnel):
    """AES-256 in counter mode and HMAC-SHA256; the handshake has forward secrecy."""

    def __init__(self, suite: str) -> None:
        super().__init__(SPIPED, suite, missing(spiped="spiped"))

    def commands(self, home: Path) -> list[tuple[list[str], int]]:
        key = home / "key"
        key.write_bytes(b"0123456789abcdef0123456789abcdef")

        def end(flag: str, source: int, target: int) -> tuple[list[str], int]:
            addresses = ["-s", f"[127.0.0.1]:{source}", "-t", f"[127.0.0.1]:{target}"]
            return ["spiped", flag, "-F", *addresses, "-k", str(key)], source

        return [end("-d", self.middle, self.exit), end("-e", self.entry, self.middle)]


class Stunnel(Tunnel):
    """With a shared key, which it has for TLS 1.3 only with SHA-256: so AES is in TLS 1.2."""

    def __init__(self, suite: str) -> None:
        super().__init__("stunnel", suite, missing(stunnel="stunnel4"))

    def commands(self, home: Path) -> list[tuple[list[str], int]]:
        secrets = home / "secrets"
        secrets.write_text("bench:0123456789abcdef0123456789abcdef\n")
        secrets.chmod(0o600)

        def end(is_client: bool, source: int, target: int) -> tuple[list[str], int]:
            config = home / f"{source}.conf"
            lines = ["foreground = yes", "pid =", "socket = l:TCP_NODELAY=1"]
            lines += ["socket = r:TCP_NODELAY=1", "[bench]", STUNNEL_SUITES[self.suite]]
            lines += [f"accept = 127.0.0.1:{source}", f"connect = 127.0.0.1:{target}"]
            lines += [f"PSKsecrets = {secrets}", f"client = {'yes' if is_client else 'no'}"]
            lines += ["PSKidentity = bench"] if is_client else []
            config.write_text("\n".join(lines) + "\n")
            return ["stunnel", str(config)], source

        return [end(False, self.middle, self.exit), end(True, self.entry, self.middle)]


class Ssh(Tunnel):
    """`ssh -L`."""

    def __init__(self, suite: str) -> None:
        self.ssh = OpenSsh(ciphers=SSH_CIPHERS[suite])
        super().__init__(SSH, suite, self.ssh.missing)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with self.ssh.running():
            forward = ["-O", "forward", "-L", f"{self.entry}:127.0.0.1:{self.exit}"]
            seconds([*self.ssh.client("ssh", *forward), "127.0.0.1"])
            yield

    def stream(self) -> Contender:
        """Through a command: that is faster than a port."""

        def measure() -> float:
            client = [*self.ssh.client("ssh"), "127.0.0.1", "cat >/dev/null"]
            pipe = f'head -c {SSH_MIB}M /dev/zero | "$@"'
            return SSH_MIB / seconds(["sh", "-c", pipe, "sh", *client])

        return Contender(self.name, measure, "peer", self.missing, self.running)


def tunnels(kind: str, suite: str, milliseconds: int) -> list[Contender]:
    ssh = Ssh(suite)
    first = ssh.stream() if kind == "stream" else ssh.contender(kind, milliseconds)
    others = [tunnel.contender(kind, milliseconds) for tunnel in some_tunnels(suite)]
    return [first, *others]


def some_tunnels(suite: str) -> list[Tunnel]:
    """Besides ssh. spiped has one suite, its own."""
    return [Stunnel(suite), Spiped(suite)] if suite == GCM else [Stunnel(suite)]


def connecting_through(tunnel: Tunnel, count: int) -> Contender:
    command = [programs()["limit"] or "", "server", "none", str(tunnel.exit)]
    server = Service(command, tunnel.exit)

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        with server.running(), tunnel.running():
            yield

    def measure() -> float:
        return figure([program("limit"), "client", "none", str(tunnel.entry), str(count)], CPUS)

    return Contender(tunnel.name, measure, "peer", tunnel.missing, around)


@functools.cache
def programs() -> dict[str, Path | None]:
    """None for one that cannot be built here."""
    return {
        "limit": compiled("sealed_limit", "-lcrypto", header="openssl/evp.h"),
        "framefd": compiled("sealed_framefd"),
        "tls": compiled("sealed_tls", "-lssl", "-lcrypto", header="openssl/ssl.h"),
    }


def absent(name: str) -> str | None:
    return None if programs()[name] else "libssl-dev"


def program(name: str) -> Path:
    built = programs()[name]
    if built is None:
        raise RuntimeError("libssl-dev is missing")
    return built


@functools.cache
def curve_program() -> Path:
    return rust_program("curve")
