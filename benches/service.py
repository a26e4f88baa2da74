"""Servers that contenders talk to, and the clients that take as long as they take."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from harness import ENVIRONMENT, ONE_CPU, ROOT, end, first_in_line

# Server, client and what they start, on one cpu: their cost together is what is compared.
# On two, where the kernel wakes whom is most of what is seen.
CPUS = ONE_CPU


class Service:
    """A program that prints the port it serves on; or one that is told it."""

    def __init__(self, command: Sequence[str | Path], port: int = 0, cpus: set[int] = CPUS) -> None:
        self.command = [str(part) for part in command]
        self.port = port
        self.cpus = cpus
        # While it runs.
        self.process: subprocess.Popen[str] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        told = self.port != 0
        with subprocess.Popen(
            self.command,
            stdout=subprocess.DEVNULL if told else subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
            start_new_session=True,
            preexec_fn=partial(first_in_line, self.cpus),
        ) as process:
            try:
                if told:
                    wait_for(self.port)
                else:
                    self.port = int((process.stdout and process.stdout.readline()) or 0)
                    if not self.port:
                        raise RuntimeError(f"{self.command[0]} did not start")
                self.process = process
                yield
            finally:
                self.process = None
                end(process)
                if not told:
                    self.port = 0


def seconds(command: Sequence[str | Path], count: int = 1, cpus: set[int] = CPUS) -> float:
    """How long a client takes that is a program of somebody else's, run so many times."""
    started = time.monotonic()
    for _ in range(count):
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            start_new_session=True,
            preexec_fn=partial(first_in_line, cpus),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
    return time.monotonic() - started


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on port {port}")


def missing(**packages: str) -> str | None:
    """Which packages bring the programs that are not installed: `sshd="openssh-server"`."""
    names = (package for program, package in packages.items() if not installed(program))
    return " ".join(names) or None


def installed(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "benches" / program), *arguments]


class OpenSsh:
    """A server of our own, with keys that are made for it, and its client."""

    def __init__(self, cpus: set[int] = CPUS, ciphers: str = "") -> None:
        self.cpus = cpus
        self.ciphers = ciphers
        self.missing = missing(ssh="openssh-client", sshd="openssh-server")
        self._port = 0
        self._home = Path()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """With a master connection, which `multiplexed` ones go through."""
        with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
            self._home = Path(home)
            self._port = free_port()
            for key in ("host", "client"):
                generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{home}/{key}"]
                subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
            Path(home, "authorized_keys").write_text(Path(home, "client.pub").read_text())
            with contextlib.suppress(OSError):
                Path("/run/sshd").mkdir(exist_ok=True)
            stack.enter_context(Service(self._server(), self._port, self.cpus).running())
            seconds([*self.client("ssh", "-M", "-f", "-N"), "127.0.0.1"])
            try:
                yield
            finally:
                close = [*self.client("ssh", "-O", "exit"), "127.0.0.1"]
                subprocess.run(close, stderr=subprocess.DEVNULL, check=False)

    def _server(self) -> list[str]:
        options = {
            "HostKey": self._home / "host",
            "AuthorizedKeysFile": self._home / "authorized_keys",
            "ListenAddress": f"127.0.0.1:{self._port}",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "MaxStartups": "1000",
            "Subsystem": "sftp internal-sftp",
            # bash reads ~/.bashrc for a command from sshd, whatever that may cost.
            "SetEnv": f"HOME={self._home}",
        }
        command = [str(installed("sshd")), "-D", "-f", "/dev/null"]
        return command + [f"-o{name}={value}" for name, value in options.items()]

    def client(self, program: str, *flags: str, multiplexed: bool = True) -> list[str]:
        """The start of a command line; a host comes next."""
        options = {
            "ControlPath": self._home / "master" if multiplexed else "none",
            "Port": self._port,
            "IdentityFile": self._home / "client",
            "UserKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "no",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
        }
        if self.ciphers:
            options["Ciphers"] = self.ciphers
        command = [program, *flags, "-F", "/dev/null"]
        return command + [f"-o{name}={value}" for name, value in options.items()]
