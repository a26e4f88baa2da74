"""Commands for a client: how many in a second, and how fast their output comes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness import Bar, Contender, Workload, compiled, figure
from service import CPUS, OpenSsh, Service, python, seconds

LIMIT = "limit, posix_spawn and one pipe"
OURS = "framefd"
POPEN = "Python, subprocess"
MASTER = "OpenSSH, ControlMaster"
ANEW = "OpenSSH, anew"

# Memory that the server's process has touched, in MiB.
HOSTS = {"a small host": 0, "a host of 1 GiB": 1024}
RUNS, QUICK_RUNS = 300, 60
SSH_RUNS, ANEW_RUNS = 20, 3


def workloads(quick: bool) -> list[Workload]:
    programs = {LIMIT: compiled("commands_limit"), OURS: compiled("commands_framefd")}
    runs = QUICK_RUNS if quick else RUNS
    found = []
    for host, touched in HOSTS.items():
        contenders = [
            contender(name, program, ["runs", str(runs)], touched)
            for name, program in programs.items()
            if program
        ]
        bars = [Bar("0.95 of the limit", OURS, LIMIT, 0.95)]
        if touched == 0:
            contenders += [popen(runs), *ssh_runs()]
            bars.append(Bar("10 times OpenSSH over a ControlMaster", OURS, MASTER, 10))
        found.append(Workload(f"commands from {host}", "commands/s", contenders, bars))
    for size in [100] if quick else [100, 1024]:
        for way, text in (("stream", "streamed"), ("whole", "as one reply")):
            contenders = [
                contender(name, program, [way, str(size)])
                for name, program in programs.items()
                if program
            ]
            bars = [Bar("0.9 of the limit", OURS, LIMIT, 0.9)] if way == "stream" else []
            if way == "stream":
                contenders.append(ssh_output(size))
            name = f"output of {size} MiB, {text}"
            found.append(Workload(name, "MiB/s", contenders, bars))
    return found


def contender(name: str, program: Path, work: list[str], touched: int = 0) -> Contender:
    service = Service([program, "server", str(touched)])

    def measure() -> float:
        return figure([program, "client", str(service.port), *work], CPUS)

    return Contender(name, measure, "ours" if name == OURS else "limit", around=service.running)


def popen(runs: int) -> Contender:
    command = python("python_peers.py", "popen")
    service = Service([*command, "server"])

    def measure() -> float:
        return figure([*command, "client", str(service.port), str(runs)], CPUS)

    return Contender(POPEN, measure, "peer", around=service.running)


def ssh_runs() -> list[Contender]:
    def measure(ssh: OpenSsh, count: int, multiplexed: bool) -> float:
        client = ssh.client("ssh", multiplexed=multiplexed)
        return count / seconds([*client, "127.0.0.1", "true"], count)

    return [
        ssh_contender(MASTER, partial(measure, count=SSH_RUNS, multiplexed=True)),
        ssh_contender(ANEW, partial(measure, count=ANEW_RUNS, multiplexed=False)),
    ]


def ssh_output(size: int) -> Contender:
    def measure(ssh: OpenSsh) -> float:
        command = f"dd if=/dev/zero bs=1M count={size} status=none"
        return size / seconds([*ssh.client("ssh"), "127.0.0.1", command])

    return ssh_contender(MASTER, measure)


def ssh_contender(name: str, measure: Callable[[OpenSsh], float]) -> Contender:
    ssh = OpenSsh()
    return Contender(name, lambda: measure(ssh), "peer", ssh.missing, ssh.running)
