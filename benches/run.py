"""`make bench`: measures framefd beside the limits and its peers, and says which bars it meets.

Usage: run.py [--quick] [--rounds N] [NAME]...

NAME limits it to the workloads that have it in their names: `run.py messages "64 B"`.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import harness
import report

# Each has workloads(quick).
MODULES = [
    "messages",
    "commands",
    "handshakes",
    "sealed",
    "forward",
    "files",
    "servers",
    "weight",
    "counts",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less of everything: a minute")
    parser.add_argument("--rounds", type=int, help="how often each contender is measured")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="workloads with it in the name"
    )
    options = parser.parse_args()
    rounds = options.rounds or (harness.QUICK_ROUNDS if options.quick else harness.ROUNDS)

    workloads = [
        workload
        for module in MODULES
        for workload in importlib.import_module(module).workloads(options.quick)
        if not options.names or any(name in workload.name for name in options.names)
    ]
    if not workloads:
        parser.error("no workload has such a name")
    machine = report.Machine.now()
    results = []
    for workload in workloads:
        results.append(harness.run(workload, rounds))
        print(report.table(results[-1]), flush=True)
    print(report.summary(results))
    for path in report.write(results, rounds, machine):
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
