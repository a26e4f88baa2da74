"""Messages and round trips over TCP loopback, both processes on one cpu: on two, the time to
wake the other one would be all that is seen."""

from __future__ import annotations

import functools
import importlib.util
import sys
from functools import partial
from typing import NamedTuple

from harness import (
    FASTEST_PEER,
    ONE_CPU,
    ROOT,
    Bar,
    Contender,
    Workload,
    compiled,
    figure,
    rust_program,
)

BATCHED = "limit, batched at both ends"
READS = "limit, one writev and 3 reads"
BUFFERED_READS = "limit, one writev, buffered reads"
STATELESS = "framefd, send and recv"
CONNECTION = "framefd, a connection"
BUFFERED = "framefd, queued and borrowed"
TOKIO_BATCHED = "tokio codec, batched"
ZMQ = "libzmq"
PYTHON = "framefd in Python, one by one"
PYTHON_BUFFERED = "framefd in Python, queued and borrowed"
MULTIPROCESSING = "multiprocessing.connection"
PYZMQ = "pyzmq"


class Way(NamedTuple):
    """A contender: which program it is, what that calls it, and what it is measured in."""

    name: str
    role: str
    program: str
    argument: str
    kinds: str = "messages trips"


WAYS = [
    Way(BATCHED, "limit", "limit", "batched", "messages"),
    Way(READS, "limit", "limit", "reads", "messages trips memory"),
    Way(BUFFERED_READS, "limit", "limit", "buffered", "messages"),
    Way("limit, bytes without a frame", "limit", "limit", "raw", "trips"),
    Way(STATELESS, "ours", "framefd", "stateless", "messages trips memory"),
    Way(CONNECTION, "ours", "framefd", "connection", "messages trips memory"),
    Way(BUFFERED, "ours", "framefd", "buffered", "messages memory"),
    Way(PYTHON, "ours", "python", "framefd"),
    Way(PYTHON_BUFFERED, "ours", "python", "buffered", "messages"),
    Way(TOKIO_BATCHED, "peer", "tokio", "batched", "messages memory"),
    Way("tokio codec, flushed each", "peer", "tokio", "flushed"),
    Way(ZMQ, "peer", "zmq", "zmq", "messages trips memory"),
    Way("nng", "peer", "nng", "nng", "messages trips memory"),
    Way(MULTIPROCESSING, "peer", "python", "multiprocessing"),
    Way(PYZMQ, "peer", "python", "pyzmq"),
]

SIZES = {
    "16 B": 16,
    "64 B": 64,
    "1 KiB": 1 << 10,
    "16 KiB": 1 << 14,
    "256 KiB": 1 << 18,
    "4 MiB": 1 << 22,
}
QUICK_SIZES = ["64 B", "1 KiB", "256 KiB"]
TRIP_SIZES = ["64 B", "256 KiB"]

# Of each measurement.
MILLISECONDS = 200
QUICK_MILLISECONDS = 60


def workloads(quick: bool) -> list[Workload]:
    milliseconds = QUICK_MILLISECONDS if quick else MILLISECONDS
    found = []
    for label in QUICK_SIZES if quick else SIZES:
        contestants = contenders("messages", SIZES[label], milliseconds)
        bars = message_bars(SIZES[label])
        found.append(Workload(f"messages of {label}", "messages/s", contestants, bars))
    for label in TRIP_SIZES:
        contestants = contenders("trips", SIZES[label], milliseconds)
        bar = Bar("within 1.1 of one writev and 3 reads", STATELESS, READS, 1.1)
        bars = [bar] if label == "64 B" else []
        found.append(Workload(f"round trips of {label}", "µs", contestants, bars, True))
    return found


def message_bars(size: int) -> list[Bar]:
    bars = []
    if size in (64, 1 << 10):
        bars += [
            Bar("0.5 of the batched limit", BUFFERED, BATCHED, 0.5),
            Bar("3 times libzmq", BUFFERED, ZMQ, 3),
            Bar("ahead of tokio's codec, batched", BUFFERED, TOKIO_BATCHED),
        ]
    if size == 64:
        bars.append(Bar("1.7 times tokio's codec, batched", BUFFERED, TOKIO_BATCHED, 1.7))
    if 64 <= size <= 1 << 14:
        bars += [
            Bar("0.9 of one writev and 3 reads", STATELESS, READS, 0.9),
            Bar("0.95 of one writev, buffered reads", CONNECTION, BUFFERED_READS, 0.95),
        ]
    if size >= 1 << 18:
        bars += [
            Bar("0.95 of one writev and 3 reads", STATELESS, READS, 0.95),
            Bar("0.95 of the batched limit", BUFFERED, BATCHED, 0.95),
            Bar("ahead of every peer", STATELESS, FASTEST_PEER),
            Bar("ahead of every peer", BUFFERED, FASTEST_PEER),
        ]
    if size == 1 << 10:
        bars += [
            Bar("not below multiprocessing.connection", PYTHON, MULTIPROCESSING),
            Bar("2 times pyzmq", PYTHON_BUFFERED, PYZMQ, 2),
        ]
    return bars


def contenders(kind: str, size: int, milliseconds: int) -> list[Contender]:
    """Those that a kind, which the programs know by this name, is measured with."""
    return [
        contender(way, [kind, way.argument, str(size), str(milliseconds)])
        for way in WAYS
        if kind in way.kinds.split()
    ]


def contender(way: Way, arguments: list[str]) -> Contender:
    command = programs()[way.program]
    missing = MISSING[way.program] if command is None else None
    if way.argument == "pyzmq" and importlib.util.find_spec("zmq") is None:
        missing = MISSING["pyzmq"]
    measure = partial(figure, [*(command or []), *arguments], ONE_CPU)
    return Contender(way.name, measure, way.role, missing)


MISSING = {
    "zmq": "apt-get install libzmq3-dev",
    "nng": "apt-get install libnng-dev",
    "pyzmq": "python3 -m pip install pyzmq",
}


@functools.cache
def programs() -> dict[str, list[str] | None]:
    """The command of each program; None for one that cannot be built here."""
    built = {
        "limit": compiled("messages_limit"),
        "framefd": compiled("messages_framefd"),
        "zmq": compiled("messages_zmq", "-lzmq", header="zmq.h"),
        "nng": compiled("messages_nng", "-lnng", header="nng/nng.h"),
        "tokio": rust_program("tokio_codec"),
    }
    commands = {name: [str(path)] if path else None for name, path in built.items()}
    commands["python"] = [sys.executable, str(ROOT / "benches" / "python_messages.py")]
    return commands
