"""Servers: the processor time that a request takes of them, as the kernel counts it, beside a
minimal server and others. Server and clients are on one cpu."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from harness import FASTEST_PEER, Bar, Contender, Workload, compiled, figure, rust_program
from service import CPUS, Service, free_port, installed, missing

LIMIT = "limit, epoll"
LOOP = "framefd, in the loop"
WORKER = "framefd, by a worker"
SEALED = "framefd, sealed"
TOKIO = "tokio codec"
REDIS = "Redis"
NGINX = "nginx"

# Connections that are idle or dawdle, and how long idle ones are watched.
IDLE, DAWDLERS = 10_000, 1000
IDLE_MILLISECONDS = 10_000
# Of each measurement; and connections, one after the other.
MILLISECONDS, QUICK_MILLISECONDS = 500, 150
COUNT, QUICK_COUNT = 3000, 1000
# Requests under way at a stop, each with a worker.
STOPPED = 100

NGINX_CONFIG = """\
daemon off;
master_process off;
pid {home}/pid;
error_log {home}/error;
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_body_temp_path {home};
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{body}"; }} }}
}}
"""


class Server:
    """One that is measured: its program, and the wire that clients speak to it."""

    def __init__(
        self,
        name: str,
        role: str,
        wire: str,
        command: Callable[[], Sequence[str | Path]],
        missing_packages: str | None = None,
    ) -> None:
        self.name = name
        self.role = role
        self.wire = wire
        self.command = command
        self.missing = missing_packages
        self.service = Service([])

    def around(self) -> AbstractContextManager[object]:
        self.service = Service(self.command())
        return self.service.running()

    def measure(self, *words: object) -> float:
        process = self.service.process
        if process is None:
            raise RuntimeError(f"{self.name} does not run")
        where = [self.wire, str(self.service.port), str(process.pid)]
        return figure([load(), *where, *map(str, words)], CPUS)

    def contender(self, *words: object, name: str = "") -> Contender:
        """Its server runs from the first round to the last."""
        measure = partial(self.measure, *words)
        return Contender(name or self.name, measure, self.role, self.missing, self.around)

    def anew(self, *words: object, name: str = "") -> Contender:
        """Its server is started for each measurement, whose memory nobody has used before."""

        def measure() -> float:
            with self.around():
                return self.measure(*words)

        return Contender(name or self.name, measure, self.role, self.missing)


class Told(Server):
    """A server that is told its port, and is set up in a directory."""

    def set_up(self, home: Path, port: int) -> list[str]:
        raise NotImplementedError

    def around(self) -> AbstractContextManager[object]:
        return self._running()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as home:
            port = free_port()
            self.service = Service(self.set_up(Path(home), port), port)
            with self.service.running():
                yield


class Redis(Told):
    def set_up(self, home: Path, port: int) -> list[str]:
        options = {"bind": "127.0.0.1", "save": "", "dir": str(home), "maxclients": "15000"}
        options |= {"port": str(port), "tcp-backlog": "4096"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return ["redis-server", *words]


class Nginx(Told):
    def set_up(self, home: Path, port: int) -> list[str]:
        config = home / "nginx.conf"
        config.write_text(
            NGINX_CONFIG.format(home=home, port=port, files=15_000, body="x" * 64)
        )
        return [str(installed("nginx")), "-p", str(home), "-c", str(config)]


def workloads(quick: bool) -> list[Workload]:
    time = QUICK_MILLISECONDS if quick else MILLISECONDS
    count = QUICK_COUNT if quick else COUNT
    idle = IDLE // 10 if quick else IDLE
    limit, loop, worker, sealed = limit_server(), ours(), ours(workers=1), ours(sealed=True)
    alone = f"{LOOP}, without them"
    return [
        Workload(
            "server: round trip of one connection",
            "µs",
            [one.contender("trips", 50, 0, time) for one in [limit, loop, worker, *peers()]],
            [
                Bar("within 1.05 of the limit", LOOP, LIMIT, 1.05),
                Bar("not above tokio", LOOP, TOKIO),
                Bar("within 1.15 of the limit", WORKER, LIMIT, 1.15),
            ],
            lower_is_better=True,
        ),
        costs(
            50,
            1,
            time,
            [limit, loop, worker, sealed, *peers()],
            [
                Bar("within 1.10 of the limit", LOOP, LIMIT, 1.10),
                Bar("below tokio, Redis and nginx", LOOP, FASTEST_PEER),
            ],
        ),
        costs(
            1000,
            1,
            time,
            [limit, loop, worker, *peers()],
            [
                Bar("within 1.15 of the limit", LOOP, LIMIT, 1.15),
            ],
        ),
        costs(
            50,
            16,
            time,
            [limit, loop, worker, *peers()],
            [
                Bar("within 1.4 of the limit", LOOP, LIMIT, 1.4),
            ],
        ),
        Workload(
            "server: requests of 50 connections",
            "a second",
            [one.contender("rate", 50, 1, 0, time) for one in [limit, loop, worker]],
            [Bar("0.75 of the limit", WORKER, LIMIT, 0.75)],
        ),
        Workload(
            f"server: 100 connections beside {idle} that are idle",
            "µs of the server a request",
            [
                loop.contender("cpu", 100, 1, 0, time, name=alone),
                *(
                    one.contender("cpu", 100, 1, idle, time)
                    for one in [ours(), ours(workers=1), limit, *peers()]
                ),
            ],
            [Bar("within 1.03 of the same without them", LOOP, alone, 1.03)],
            lower_is_better=True,
        ),
        Workload(
            "server: connect, one request, close",
            "a second",
            [
                one.contender("connects", count)
                for one in [limit, loop, worker, sealed, *peers()]
            ],
            [Bar("0.9 of the limit", LOOP, LIMIT, 0.9)],
        ),
        Workload(
            "server: memory of an idle connection",
            "B",
            [one.anew("memory", 1000) for one in [limit, loop, worker, sealed, *peers()]],
            [Bar("at most 512 B", LOOP, 512.0), Bar("at most 2 KiB", SEALED, 2048.0)],
            lower_is_better=True,
            rounds=1,
        ),
        Workload(
            f"server: {idle} idle connections, for 10 s",
            "ms of the server",
            [
                one.anew("idle", idle, IDLE_MILLISECONDS)
                for one in [limit, loop, worker, sealed, *peers()]
            ],
            [Bar("under 1 ms", name, 1.0) for name in (LOOP, WORKER, SEALED)],
            lower_is_better=True,
            rounds=1,
        ),
        *beside_dawdlers(4 * time),
        Workload(
            f"server: SIGTERM with {STOPPED} requests of 200 ms under way",
            "ms to the last reply",
            [ours(workers=STOPPED).anew("stop", STOPPED, name=WORKER)],
            [Bar("200 ms and 50", WORKER, 250.0)],
            lower_is_better=True,
        ),
    ]


def costs(
    connections: int, depth: int, time: int, servers: Sequence[Server], bars: Sequence[Bar]
) -> Workload:
    under_way = f", {depth} requests in flight each" if depth > 1 else ""
    return Workload(
        f"server: {connections} connections{under_way}",
        "µs of the server a request",
        [one.contender("cpu", connections, depth, 0, time) for one in servers],
        bars,
        lower_is_better=True,
    )


def beside_dawdlers(time: int) -> list[Workload]:
    found = []
    for percent, bar in (
        (50, Bar("within 1.02 of the same alone", LOOP, f"{LOOP}, alone", 1.02)),
        # Of the 16 µs that the limit takes.
        (99, Bar("at most 10 µs above the limit", LOOP, LIMIT, 1.6)),
    ):
        contenders = []
        for server in (limit_server(), ours(), ours(workers=1)):
            alone = f"{server.name}, alone"
            contenders.append(server.anew("trips", percent, 0, time, name=alone))
            contenders.append(server.anew("trips", percent, DAWDLERS, time))
        name = f"server: a client beside {DAWDLERS} that dawdle, {percent}th percentile"
        found.append(Workload(name, "µs", contenders, [bar], lower_is_better=True))
    return found


def limit_server() -> Server:
    return Server(LIMIT, "limit", "frame", lambda: [built("server_limit")])


def ours(workers: int = 0, sealed: bool = False) -> Server:
    name = SEALED if sealed else WORKER if workers else LOOP
    words = ["sealed" if sealed else "plain", str(workers)]
    wire = "sealed" if sealed else "frame"
    return Server(name, "ours", wire, lambda: [built("server_framefd"), *words])


def peers() -> list[Server]:
    tokio = Server(TOKIO, "peer", "tokio", lambda: [rust_program_once("tokio_server")])
    found = [
        tokio,
        Redis(REDIS, "peer", "redis", list, missing(**{"redis-server": "redis-server"})),
    ]
    found.append(Nginx(NGINX, "peer", "nginx", list, missing(nginx="nginx-light")))
    for name, library, package, header in (
        ("libzmq", "zmq", "libzmq3-dev", "zmq.h"),
        ("nng", "nng", "libnng-dev", "nng/nng.h"),
    ):
        program = with_library(f"server_{library}", f"-l{library}", header)
        absent = None if program else f"apt-get install {package}"
        found.append(Server(name, "peer", library, partial(list, [program or ""]), absent))
    return found


@functools.cache
def with_library(name: str, flag: str, header: str) -> Path | None:
    return compiled(name, flag, header=header)


@functools.cache
def built(name: str) -> Path:
    program = compiled(name)
    assert program is not None
    return program


@functools.cache
def rust_program_once(name: str) -> Path:
    return rust_program(name)


def load() -> Path:
    return built("server_load")
