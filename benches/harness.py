"""The model of the benchmark: workloads, their contenders and bars, and interleaved rounds."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
PROGRAMS = TARGET / "bench"

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "bindings" / "python")}
ALL_CPUS = os.sched_getaffinity(0)
ONE_CPU = {min(ALL_CPUS)}

# For Bar.against: the fastest of those that were measured.
FASTEST_PEER = "the fastest peer"

ROUNDS = 5
QUICK_ROUNDS = 2


@dataclass(frozen=True)
class Contender:
    """One that does the work of a workload."""

    name: str
    # Does the work once and returns the figure, in the unit of the workload.
    measure: Callable[[], float]
    # "limit": a program that does the least the wire allows; "ours"; "peer".
    role: str
    # What brings it, where it is not installed: "libzmq3-dev". It is named, not measured.
    missing: str | None = None
    # Held from before the first round until after the last: a server, a directory.
    around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext


@dataclass(frozen=True)
class Bar:
    """What one of ours has to reach: a share of another contender's figure, or of a number."""

    text: str
    ours: str
    # The name of a contender, FASTEST_PEER, or a number in the unit.
    against: str | float
    # The least that ours may be of it; the most, where lower is better.
    ratio: float = 1.0


@dataclass(frozen=True)
class Workload:
    """The same work, done by each contender."""

    name: str
    unit: str
    contenders: Sequence[Contender]
    bars: Sequence[Bar] = ()
    lower_is_better: bool = False
    # For a count, which is the same each time: 1.
    rounds: int | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a bar is met; None where one of its two sides was not measured."""

    bar: Bar
    ratio: float | None
    met: bool | None


@dataclass
class Result:
    """What a workload came to: the figures of each contender, a round after the other."""

    workload: Workload
    figures: dict[str, list[float]] = field(default_factory=dict)
    # Why a contender that is installed has no figures.
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])

    def spread(self, name: str) -> tuple[float, float]:
        return min(self.figures[name]), max(self.figures[name])

    def ratio(self, name: str, against: str) -> float:
        """The median of the ratios within a round: what slows a round slows both sides."""
        pairs = zip(self.figures[name], self.figures[against])
        return statistics.median(one / other for one, other in pairs)

    def limit(self) -> str | None:
        """The best limit, if others can be shares of it."""
        best = self.fastest("limit")
        return best if best and self.median(best) > 0 else None

    def fastest(self, role: str) -> str | None:
        names = [c.name for c in self.workload.contenders if c.role == role]
        names = [name for name in names if name in self.figures]
        best = min if self.workload.lower_is_better else max
        return best(names, key=self.median) if names else None

    def verdicts(self) -> list[Verdict]:
        return [self._verdict(bar) for bar in self.workload.bars]

    def _verdict(self, bar: Bar) -> Verdict:
        if bar.ours not in self.figures:
            return Verdict(bar, None, None)
        if isinstance(bar.against, str):
            against = self.fastest("peer") if bar.against == FASTEST_PEER else bar.against
            if against not in self.figures:
                return Verdict(bar, None, None)
            ratio = self.ratio(bar.ours, against)
            return Verdict(bar, ratio, self._reaches(ratio, bar.ratio))
        median = self.median(bar.ours)
        met = self._reaches(median, bar.ratio * bar.against)
        return Verdict(bar, median / bar.against if bar.against else None, met)

    def _reaches(self, value: float, bar: float) -> bool:
        return value <= bar if self.workload.lower_is_better else value >= bar


def run(workload: Workload, rounds: int) -> Result:
    """Measures the contenders in turn (A B C A B C ...), so many times if the workload does
    not say how often."""
    result = Result(workload)
    with contextlib.ExitStack() as stack:
        contenders = []
        for contender in workload.contenders:
            if contender.missing:
                continue
            try:
                stack.enter_context(contender.around())
                contenders.append(contender)
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                result.failures[contender.name] = _last_line(error)
        for _ in range(workload.rounds or rounds):
            for contender in contenders:
                if contender.name not in result.failures:
                    _measure(contender, result)
    return result


def _measure(contender: Contender, result: Result) -> None:
    try:
        figure = contender.measure()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        result.failures[contender.name] = _last_line(error)
        result.figures.pop(contender.name, None)
    else:
        result.figures.setdefault(contender.name, []).append(figure)


def _last_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[-1]


def figure(command: Sequence[str | Path], cpus: set[int] = ALL_CPUS) -> float:
    """Runs a program that prints one number: on these cpus only, and before all else there."""
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        preexec_fn=partial(first_in_line, cpus),
    ) as process:
        try:
            output, errors = process.communicate(timeout=60)
        except BaseException:  # Ctrl-C, too: it reaches no other session
            end(process)
            raise
    if process.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name}: {errors.strip() or process.returncode}")
    return float(output)


def first_in_line(cpus: set[int]) -> None:
    """This process, and what it starts, comes before all else on these cpus, and may have
    thousands of connections."""
    os.sched_setaffinity(0, cpus)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        # The session is new, and Linux gives each an equal share, whatever is in it.
        Path("/proc/self/autogroup").write_text("-20")


def end(process: subprocess.Popen[str]) -> None:
    """Ends a program that is in a session of its own, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def compiled(name: str, *flags: str, header: str | None = None) -> Path | None:
    """Builds benches/c/NAME.c, with framefd and these flags (`-lzmq`), into target/bench.

    None where the header of a library is not installed."""
    compiler = os.environ.get("CC", "cc")
    if header and not _preprocesses(compiler, f"#include <{header}>\n"):
        return None
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    program = PROGRAMS / name
    command = [compiler, "-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-O2"]
    command += ["-g", "-I", str(ROOT / "include"), "-o", str(program)]
    command += [str(ROOT / "benches" / "c" / f"{name}.c"), *flags]
    command += [str(TARGET / "release" / "libframefd-c.a")]
    command += (ROOT / "tests" / "abi" / "native-static-libs.txt").read_text().split()
    subprocess.run(command, check=True)
    return program


def rust_program(name: str) -> Path:
    """Builds benches/NAME.rs, optimised for speed."""
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--quiet", "--profile", "peer"]
    built = subprocess.run(
        [*cargo, "--bench", name, "--message-format", "json-render-diagnostics"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    messages = map(json.loads, built.stdout.splitlines())
    return next(
        Path(message["executable"])
        for message in messages
        if message.get("executable") and message["target"]["name"] == name
    )


def _preprocesses(compiler: str, source: str) -> bool:
    command = [compiler, "-E", "-x", "c", "-"]
    return subprocess.run(command, input=source.encode(), capture_output=True).returncode == 0
