"""`framefd forward` beside `ssh -L`, stunnel and spiped: both ends of a tunnel, and between them a
program that knows nothing of it. All on one cpu."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from harness import ROOT, TARGET, Bar, Workload
from sealed import (
    GCM,
    MILLISECONDS,
    QUICK_MILLISECONDS,
    SPIPED,
    SSH,
    TITLES,
    Spiped,
    Ssh,
    Stunnel,
    Tunnel,
)

OURS = "framefd forward"
STUNNEL = "stunnel"

STREAM_BARS = [
    Bar("1.2 times ssh -L", OURS, SSH, 1.2),
    Bar("1.5 times stunnel", OURS, STUNNEL, 1.5),
    Bar("4 times spiped", OURS, SPIPED, 4),
]
TRIP_BARS = [Bar("0.9 of spiped's", OURS, SPIPED, 0.9)]


def workloads(quick: bool) -> list[Workload]:
    milliseconds = QUICK_MILLISECONDS if quick else MILLISECONDS
    stream = [tunnel.contender("stream", milliseconds) for tunnel in tunnels()]
    trips = [tunnel.contender("trips", milliseconds) for tunnel in tunnels()]
    return [
        Workload(f"forwarded stream, {TITLES[GCM]}", "MiB/s", stream, STREAM_BARS),
        Workload(
            f"forwarded round trips of 64 B, {TITLES[GCM]}",
            "µs",
            trips,
            TRIP_BARS,
            lower_is_better=True,
        ),
    ]


def tunnels() -> list[Tunnel]:
    return [Forward(GCM), Ssh(GCM), Stunnel(GCM), Spiped(GCM)]


class Forward(Tunnel):
    """It has AES-GCM where the processor has instructions for it."""

    role = "ours"

    def __init__(self, suite: str) -> None:
        super().__init__(OURS, suite, None)

    def commands(self, home: Path) -> list[tuple[list[str], int]]:
        key = str(home / "key")
        subprocess.run([program(), "key", "new", key], stdout=subprocess.DEVNULL, check=True)

        def end(flag: str, source: int, target: int) -> tuple[list[str], int]:
            addresses = [f"127.0.0.1:{source}", f"127.0.0.1:{target}"]
            return [str(program()), "forward", flag, "-k", key, *addresses], source

        return [
            end("--from-sealed", self.middle, self.exit),
            end("--to-sealed", self.entry, self.middle),
        ]


@functools.cache
def program() -> Path:
    """Builds the program."""
    subprocess.run(["make", "--silent", "cli"], cwd=ROOT, check=True)
    return TARGET / "release" / "framefd"
