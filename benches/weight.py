"""What the library weighs: its size, the time to load it, threads of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

from harness import ONE_CPU, PROGRAMS, ROOT, TARGET, Bar, Contender, Workload, compiled, figure

OURS = "framefd"
WITHOUT_SERVE = "framefd without the feature serve"
WITHOUT_BOTH = "framefd without the features seal and serve"
KIB = 1024


def workloads(quick: bool) -> list[Workload]:
    library = TARGET / "release" / "libframefd.so"
    program = compiled("weight", "-ldl")
    stripped = [
        Contender(OURS, lambda: size_of(library), "ours", no_strip()),
        Contender(WITHOUT_SERVE, lambda: size_of(built_with("--features=seal")), "ours", no_strip()),
        Contender(WITHOUT_BOTH, lambda: size_of(built_with()), "ours", no_strip()),
        *(Contender(path.name, partial(size_of, path), "peer") for path in installed_peers()),
    ]

    def measured(what: str) -> Contender:
        return Contender(OURS, lambda: figure([program or "", what, library], ONE_CPU), "ours")

    return [
        lower("size, stripped", "KiB", stripped, SIZE_BAR, rounds=1),
        lower("time to load", "µs", [measured("load")], Bar("at most 1 ms", OURS, 1000)),
        lower("threads", "threads", [measured("threads")], Bar("none", OURS, 0), rounds=1),
    ]


SIZE_BAR = Bar("under 1.3 MiB without the server", WITHOUT_SERVE, 1.3 * 1024)


def lower(
    name: str, unit: str, contenders: list[Contender], bar: Bar, rounds: int | None = None
) -> Workload:
    return Workload(name, unit, contenders, [bar], lower_is_better=True, rounds=rounds)


def no_strip() -> str | None:
    return None if shutil.which("strip") else "binutils"


def size_of(library: Path) -> float:
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    copy = PROGRAMS / library.name
    subprocess.run(["strip", "-o", str(copy), str(library)], check=True)
    return copy.stat().st_size / KIB


def built_with(*features: str) -> Path:
    """Builds it with these features alone, which takes a minute the first time."""
    target = PROGRAMS / "features"
    cargo = [os.environ.get("CARGO", "cargo"), "rustc", "--quiet", "--lib", "--release"]
    cargo += ["--no-default-features", *features, "--crate-type", "cdylib"]
    subprocess.run([*cargo, "--target-dir", str(target)], cwd=ROOT, check=True)
    return target / "release" / "libframefd.so"


def installed_peers() -> list[Path]:
    patterns = ("libzmq.so.5", "libnng.so.1", "libssh2.so.1")
    return [path for pattern in patterns for path in Path("/usr/lib").glob(f"*/{pattern}")]
