"""A signal ends a client that waits, whatever it waits for."""

from __future__ import annotations

import itertools
import signal
import socket
import time
import unittest

from pairs import SEALED, Case, launch


class Signals(Case):
    def test_they_end_a_client_that_waits(self) -> None:
        key = self.key_file()
        clients = {
            "frame": ["exec_client", "{host}", "{port}", "true"],
            "json": ["exec_client", "--wire", "json", "{host}", "{port}", "true"],
            "packet": ["exec_client", "--wire", "packet", "{host}", "{port}", "true"],
            "ack": ["exec_client", "--wire", "ack", "{host}", "{port}", "true"],
            "key": ["auth_echo_client", "--key-file", key, "{host}", "{port}", "text"],
            "stat": ["file_client", "{host}", "{port}", "stat", "x"],
            "get": ["file_client", "{host}", "{port}", "get", "x", f"{self.directory}/x"],
            "udp": ["udp_exec_client", "{host}", "{port}", "true"],
        }

        if SEALED:
            clients = {name: clients[name] for name in ("frame", "stat", "get")}

        def check(language: str, client: str, number: str) -> None:
            with Silent(udp=client == "udp") as server:
                host, port = server.sock.getsockname()
                words = [word.format(host=host, port=port) for word in clients[client]]
                with launch.start(launch.program(language, *words)) as process:
                    try:
                        server.wait_until_asked()
                        process.send_signal(signal.Signals[number])
                        status = process.wait(10)
                    finally:
                        process.kill()
                    output, errors = process.communicate()
            self.assertEqual((output, errors, status), (b"", b"", -signal.Signals[number]))

        kinds = itertools.product(launch.LANGUAGES, clients, ("SIGINT", "SIGTERM"))
        self.each(kinds, check)


class Silent:
    """A server that clients reach, and which says nothing."""

    def __init__(self, *, udp: bool) -> None:
        self.sock = socket.socket(type=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self.sock.settimeout(launch.SECONDS)
        self.sock.bind(("127.0.0.1", 0))
        if not udp:
            self.sock.listen()
        self.conn: socket.socket | None = None

    def wait_until_asked(self) -> None:
        """Until a client has come, and waits for an answer."""
        if self.sock.type == socket.SOCK_DGRAM:
            self.sock.recv(65536)
        else:
            self.conn = self.sock.accept()[0]
        time.sleep(0.2)

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        if self.conn:
            self.conn.close()


if __name__ == "__main__":
    unittest.main()
