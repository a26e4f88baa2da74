"""Handshakes: connect, challenge, answer and the close that tells of the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import Bar, Contender, Workload, compiled, figure
from service import CPUS, OpenSsh, Service, python, seconds

LIMIT = "limit, HMAC of OpenSSL"
OURS = "framefd"
PYTHON = "framefd in Python"
MULTIPROCESSING = "multiprocessing.connection"

COUNT, QUICK_COUNT = 2000, 400
SSH_COUNT = 3


def workloads(quick: bool) -> list[Workload]:
    limit = compiled("handshakes_limit", "-lcrypto", header="openssl/evp.h")
    ours = compiled("handshakes_framefd")
    count = QUICK_COUNT if quick else COUNT
    peers = {
        PYTHON: ("ours", "framefd"),
        MULTIPROCESSING: ("peer", "multiprocessing"),
        "Python, sockets": ("peer", "sockets"),
    }
    contenders = [
        contender(LIMIT, "limit", [limit or ""], count, None if limit else "libssl-dev"),
        contender(OURS, "ours", [ours or ""], count),
        *(
            contender(name, role, python("python_peers.py", argument), count)
            for name, (role, argument) in peers.items()
        ),
        ssh(),
    ]
    bars = [
        Bar("0.95 of the limit", OURS, LIMIT, 0.95),
        Bar("in Python, not below multiprocessing.connection", PYTHON, MULTIPROCESSING),
    ]
    return [Workload("handshakes", "handshakes/s", contenders, bars)]


def contender(
    name: str, role: str, program: Sequence[str | Path], count: int, missing: str | None = None
) -> Contender:
    service = Service([*program, "server"])

    def measure() -> float:
        return figure([*program, "client", str(service.port), str(count)], CPUS)

    return Contender(name, measure, role, missing, service.running)


def ssh() -> Contender:
    ssh = OpenSsh()

    def measure() -> float:
        client = ssh.client("ssh", multiplexed=False)
        return SSH_COUNT / seconds([*client, "127.0.0.1", "true"], SSH_COUNT)

    return Contender("OpenSSH, anew, with a command", measure, "peer", ssh.missing, ssh.running)
