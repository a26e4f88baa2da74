"""What repeats where times do not: system calls, allocations and instructions of each function
for a frame of 64 bytes, and peak memory. tests/counts holds them. `sealed_send` is
frame_connection_send on a sealed connection, and so on; `sealed_large` sends 64 KiB."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import messages
from harness import Bar, Contender, Workload, compiled, figure

FUNCTIONS = [
    "frame_send",
    "frame_recv",
    "frame_connection_send",
    "frame_connection_recv",
    "frame_connection_queue",
    "frame_connection_next",
    "sealed_send",
    "sealed_recv",
    "sealed_queue",
    "sealed_next",
    "frame_encode",
    "frame_decoder_next",
]

# As in benches/c/counts.c.
BATCH = 128
OWN_CALLS = {"frame_send": "read", "frame_recv": "write"}
OWN_CALLS |= {"frame_connection_send": "read", "frame_connection_recv": "write"}
OWN_CALLS |= {"frame_connection_queue": "read", "frame_connection_next": "write"}
OWN_CALLS |= {"sealed_send": "read", "sealed_recv": "write"}
OWN_CALLS |= {"sealed_large": "read", "sealed_queue": "read", "sealed_next": "write"}
# That do it for each frame.
OWN_EACH = {"sealed_recv", "sealed_large"}

MAX_SYSTEM_CALLS = {
    "frame_send": 1,
    "frame_recv": 3,
    "frame_connection_send": 1,
    "frame_connection_recv": 1 / 50,
    "frame_connection_queue": 1 / 50,
    "frame_connection_next": 1 / 50,
    "sealed_send": 1,
    "sealed_recv": 1,
    "sealed_large": 1,
    "sealed_queue": 1 / 50,
    "sealed_next": 1 / 50,
}
# The frame is what a receive allocates: itself, its header and its body.
MAX_ALLOCATIONS = {
    "frame_send": 0,
    "frame_recv": 3,
    "frame_connection_send": 0,
    "frame_connection_recv": 3,
    "frame_connection_queue": 0,
    "frame_connection_next": 0,
    "sealed_send": 0,
    "sealed_recv": 3,
    "sealed_large": 0,
    "sealed_queue": 0,
    "sealed_next": 0,
    "frame_encode": 0,
    "frame_decoder_next": 0,
}
MAX_INSTRUCTIONS = {"frame_encode": 600, "frame_decoder_next": 600}


def workloads(quick: bool) -> list[Workload]:
    def of_functions(
        name: str,
        unit: str,
        measure: Callable[[str], float],
        most: Mapping[str, float],
        tool: str,
    ) -> Workload:
        missing = None if shutil.which(tool) else f"apt-get install {tool}"
        contenders = [
            Contender(function, partial(measure, function), "ours", missing)
            for function in dict.fromkeys([*FUNCTIONS, *most])
        ]
        bars = [Bar(f"{most[at]:.3g} or fewer", at, most[at]) for at in most]
        return Workload(name, unit, contenders, bars, lower_is_better=True, rounds=1)

    return [
        of_functions("system calls", "a frame", system_calls, MAX_SYSTEM_CALLS, "strace"),
        of_functions("allocations", "a frame", allocations, MAX_ALLOCATIONS, "cc"),
        of_functions("instructions", "a frame", instructions, MAX_INSTRUCTIONS, "valgrind"),
        Workload(
            "peak memory of the receiver, messages of 4 MiB",
            "KiB",
            messages.contenders("memory", 1 << 22, messages.MILLISECONDS),
            lower_is_better=True,
            rounds=1,
        ),
    ]


def system_calls(function: str) -> float:
    """Of one frame, without this program's own."""
    return sum(system_calls_by_name(function).values())


def system_calls_by_name(function: str) -> dict[str, float]:
    few, many = (_traced(function, batches) for batches in (FEW, MANY))
    if own := OWN_CALLS.get(function):
        many[own] -= (MANY - FEW) * (BATCH if function in OWN_EACH else 1)
    return {name: (many[name] - few[name]) / FRAMES for name in many if many[name] != few[name]}


def allocations(function: str) -> float:
    few, many = (figure([program(), function, str(batches)]) for batches in (FEW, MANY))
    return (many - few) / FRAMES


@functools.cache
def instructions(function: str) -> float:
    """Of one frame in user space."""
    return (_executed(function, MANY) - _executed(function, FEW)) / FRAMES


@functools.cache
def program() -> Path:
    wraps = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "realloc", "posix_memalign")]
    built = compiled("counts", *wraps)
    assert built is not None
    return built


# Batches: what both runs do is taken off, so that a start counts for nothing.
FEW = 2
MANY = 10
FRAMES = (MANY - FEW) * BATCH


def _traced(function: str, batches: int) -> Counter[str]:
    with tempfile.NamedTemporaryFile("r") as table:
        strace = ["strace", "-c", "-o", table.name]
        _output([*strace, str(program()), function, str(batches)])
        rows = [line.split() for line in table]
    # % time, seconds, usecs/call, calls, errors if there are any, name
    rows = [row for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"]
    return Counter({row[-1]: int(row[3]) for row in rows})


def _executed(function: str, batches: int) -> int:
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    said = _output([*callgrind, str(program()), function, str(batches)])
    found = re.search(r"Collected : (\d+)", said)
    assert found, said
    return int(found[1])


def _output(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stdout)
    return done.stdout
