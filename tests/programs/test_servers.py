"""What every server of ours does besides its wire: many clients, a clean stop, strangers."""

from __future__ import annotations

import pathlib
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from pairs import (
    OURS,
    Case,
    in_clear,
    launch,
    plain,
    tcp_exec_client,
    tcp_exec_server,
    wires,
)

WIRES = wires("frame", "json", "packet", "ack", "bare")
IN_EVERY_LANGUAGE = tuple((language,) for language in launch.LANGUAGES)


class ManyClients(Case):
    def test_a_slow_client_keeps_nobody_waiting(self) -> None:
        def check(server: str, client: str, name: str) -> None:
            with launch.server(tcp_exec_server(server, name)) as running:
                started = self.started(running, client, name, "{wait}; echo slow")
                with started as slow, socket.create_connection(running.socket_address):
                    quick = [
                        launch.start(
                            tcp_exec_client(client, name, running.address, f"echo {n}")
                        )
                        for n in range(4)
                    ]
                    output = [
                        process.communicate(timeout=launch.SECONDS)[0] for process in quick
                    ]
                    self.assertEqual(output, [b"%d\n" % n for n in range(4)])
                    self.assertIsNone(slow.poll())
                    self.release(slow)
                    self.assertEqual(slow.communicate(timeout=launch.SECONDS)[0], b"slow\n")

        # A client on the bare wire waits for 2 s, and then takes silence for the reply.
        self.each([(*pair, name) for pair in OURS for name in WIRES if name != "bare"], check)

    def test_a_client_that_dies_hurts_nobody(self) -> None:
        def check(server: str, client: str, name: str) -> None:
            with launch.server(tcp_exec_server(server, name)) as running:
                with self.started(running, client, name, "{wait}") as dying:
                    dying.kill()
                    got = launch.run(tcp_exec_client(client, name, running.address, "echo on"))
                    self.assertEqual((got.stdout, got.returncode), (b"on\n", 0))
                    self.release(dying)
                self.assertEqual(running.stop(), 0, running.errors())

        self.each([(*pair, name) for pair in OURS for name in WIRES], check)

    def started(
        self, server: launch.Server, client: str, name: str, command: str
    ) -> subprocess.Popen[bytes]:
        """A client whose command runs, and goes on once it is released."""
        directory = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
        gate, marker = directory / "gate", directory / "marker"
        wait = f"until [ -e {gate} ]; do sleep 0.05; done"
        command = f"touch {marker}; {command.format(wait=wait)}"
        process = launch.start(tcp_exec_client(client, name, server.address, command))
        self.gates[process.pid] = gate
        wait_for(marker)
        return process

    def release(self, process: subprocess.Popen[bytes]) -> None:
        """The server may have ended the command already, since its client died."""
        self.gates.pop(process.pid).touch()

    def setUp(self) -> None:
        super().setUp()
        self.gates: dict[int, pathlib.Path] = {}


class Stop(Case):
    def test_a_reply_in_flight_is_delivered(self) -> None:
        def check(server: str, client: str, name: str, number: str) -> None:
            marker = self.directory / "-".join((server, client, name, number))
            with launch.server(tcp_exec_server(server, name)) as running:
                command = f"touch {marker}; sleep 0.2; seq 10000"
                with launch.start(
                    tcp_exec_client(client, name, running.address, command)
                ) as asking:
                    wait_for(marker)
                    status = running.stop(signal.Signals[number])
                    output, errors = asking.communicate(timeout=launch.SECONDS)
                self.assertEqual((status, running.errors()), (0, ""))
                self.assertEqual((errors, asking.returncode), (b"", 0))
                whole = b"".join(b"%d\n" % n for n in range(1, 10_001))
                self.assertEqual(output, whole[:1024] if name == "bare" else whole)

        cases = [(*pair, name, "SIGTERM") for pair in OURS for name in WIRES]
        self.each([*cases, *((*pair, "frame", "SIGINT") for pair in OURS)], check)

    def test_clients_that_ask_nothing_do_not_hold_it_up(self) -> None:
        def check(language: str, name: str) -> None:
            with launch.server(tcp_exec_server(language, name)) as running:
                with socket.create_connection(running.socket_address) as idle:
                    got = launch.run(
                        tcp_exec_client(language, name, running.address, "echo on")
                    )
                    self.assertEqual(got.stdout, b"on\n")
                    self.assertEqual(running.stop(), 0, running.errors())
                    self.assertEqual(idle.recv(1), b"")
                with self.assertRaises(ConnectionRefusedError):
                    socket.create_connection(running.socket_address)

        self.each([(language, name) for language in launch.LANGUAGES for name in WIRES], check)

    def test_a_second_signal_does_not_wait(self) -> None:
        def check(language: str) -> None:
            marker = self.directory / language
            with launch.server(tcp_exec_server(language, "frame")) as running:
                command = f"touch {marker}; exec sleep 1000"
                asking = launch.start(tcp_exec_client("c", "frame", running.address, command))
                with asking:
                    wait_for(marker)
                    running.process.send_signal(signal.SIGTERM)
                    with self.assertRaises(subprocess.TimeoutExpired):
                        running.process.wait(0.3)
                    self.assertEqual(running.stop(signal.SIGINT), -signal.SIGINT)
                    self.assertEqual(asking.wait(launch.SECONDS), 255)

        self.each(IN_EVERY_LANGUAGE, check)

    @in_clear
    def test_every_server_stops(self) -> None:
        key = self.key_file()

        def check(language: str, name: str, *options: str) -> None:
            command = launch.program(language, name, *options)
            for number in (signal.SIGINT, signal.SIGTERM):
                with launch.server(command) as running:
                    self.assertEqual((running.stop(number), running.errors()), (0, ""))

        servers = [
            ("udp_exec_server",),
            ("udp_exec_server", "--wire", "bare"),
            ("file_server", "--root", str(self.directory)),
            ("auth_echo_server", "--key-file", key),
            ("echo_server",),
        ]
        self.each(
            [(language, *server) for language in launch.LANGUAGES for server in servers], check
        )


@in_clear
class Addresses(Case):
    seals = (("exec_server",), ("file_server", "--root", "."))
    echo = ("echo_server",)
    plain = (*seals, ("exec_server", "--wire", "bare"), echo)
    datagrams = (("udp_exec_server",), ("udp_exec_server", "--wire", "bare"))

    def test_only_a_loopback_address_is_listened_on(self) -> None:
        """A key alone is not enough: somebody in between can use the client's connection."""
        key = self.key_file()

        def check(language: str, needs: str, name: str, *options: str) -> None:
            for host in ("0.0.0.0", "::", "10.127.0.1"):
                got = launch.run(launch.program(language, name, "--host", host, *options))
                self.assertEqual((got.returncode, got.stdout), (2, b""), got.stderr)
                said = f"{name}: {host} is not a loopback address: that needs {needs}\n"
                self.assertEqual(got.stderr.decode(), said)

        trusted = "--plain, on a network that is trusted"
        seal = "--seal, or --plain on a network that is trusted"
        servers = [
            *((seal, *server) for server in self.plain[:-1]),
            *((seal, *server, "--key-file", key) for server in self.plain[:-1]),
            (seal, *self.echo),
            (trusted, "auth_echo_server", "--key-file", key),
            *(("--key-file", *server) for server in self.datagrams),
        ]
        self.each([(each, *server) for each in launch.LANGUAGES for server in servers], check)

    def test_any_address_will_do_if_it_is_sealed_or_plain_is_asked_for(self) -> None:
        key = ("--key-file", self.key_file())

        def check(language: str, name: str, *options: str) -> None:
            command = launch.program(language, name, "--host", "0.0.0.0", *options)
            with launch.server(command) as running:
                self.assertEqual(running.host, "0.0.0.0")

        servers = [
            *((*server, "--seal", *key) for server in (*self.seals, self.echo)),
            *((*server, "--plain") for server in self.plain),
            *((*server, "--plain", *key) for server in self.seals),
            ("auth_echo_server", "--plain", *key),
            (*self.datagrams[0], *key),
        ]
        self.each([(each, *server) for each in launch.LANGUAGES for server in servers], check)

    def test_another_loopback_address(self) -> None:
        def check(server: str, client: str) -> None:
            command = launch.program(server, "exec_server", "--host", "127.1.2.3")
            with launch.server(command) as running:
                self.assertEqual(running.host, "127.1.2.3")
                got = launch.run(tcp_exec_client(client, "frame", running.address, "echo on"))
                self.assertEqual(got.stdout, b"on\n")

        self.each(OURS, check)

    def test_a_port_that_is_taken(self) -> None:
        def check(language: str) -> None:
            with launch.server(tcp_exec_server(language, "frame")) as running:
                got = launch.run(
                    launch.program(language, "exec_server", "--port", running.port)
                )
                self.assertEqual((got.returncode, got.stdout), (2, b""))
                self.assertRegex(got.stderr, rb"^exec_server: .*in use")

        self.each(IN_EVERY_LANGUAGE, check)

    def test_nobody_listens(self) -> None:
        key = self.key_file()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            host, port = listener.getsockname()

        def check(language: str, name: str, *words: str) -> None:
            got = launch.run(launch.program(language, name, host, str(port), *words))
            status = 255 if "exec" in name else 1
            self.assertEqual((got.returncode, got.stdout), (status, b""))
            self.assertRegex(got.stderr, rb"^%s: .*refused" % name.encode())

        clients = [
            ("exec_client", "true"),
            ("udp_exec_client", "true"),
            ("file_client", "get", "x"),
            ("auth_echo_client", "--key-file", key, "x"),
        ]
        self.each(
            [(language, *client) for language in launch.LANGUAGES for client in clients], check
        )


@in_clear
class Strangers(Case):
    """What comes to a server of framed requests and is none."""

    def test_bytes_that_are_no_frame_get_one_reply_and_the_close(self) -> None:
        def check(language: str) -> None:
            with launch.server(tcp_exec_server(language, "frame")) as running:
                for start in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"ls -l\n", bytes(4)):
                    # More than the server reads of it: a close would take the reply along.
                    with socket.create_connection(
                        running.socket_address, launch.SECONDS
                    ) as conn:
                        conn.sendall(start.ljust(100_000, b"x"))
                        header, body = plain.read_frame(conn) or ({}, b"")
                        self.assertEqual((header["status"], body), ("error", b""))
                        self.assertEqual(header["code"], "bad_request")
                        self.assertTrue(header["message"])
                        self.assertEqual(conn.recv(1), b"")
                got = launch.run(tcp_exec_client(language, "frame", running.address, "echo on"))
                self.assertEqual(got.stdout, b"on\n")

        self.each(IN_EVERY_LANGUAGE, check)

    def test_a_cut_request_is_dropped(self) -> None:
        def check(language: str) -> None:
            with launch.server(tcp_exec_server(language, "frame")) as running:
                frame = plain.pack_header({"cmd": "exec", "data_size": 4}) + b"true"
                for cut in (1, 4, 10, len(frame) - 1):
                    with socket.create_connection(
                        running.socket_address, launch.SECONDS
                    ) as conn:
                        conn.sendall(frame[:cut])
                        conn.shutdown(socket.SHUT_WR)
                        self.assertEqual(conn.recv(1), b"")
                self.assertEqual(running.stop(), 0, running.errors())

        self.each(IN_EVERY_LANGUAGE, check)

    def test_hello_and_a_request_that_is_not_served(self) -> None:
        def check(language: str, name: str, cmds: str, *options: str) -> None:
            with (
                launch.server(launch.program(language, name, *options)) as running,
                socket.create_connection(running.socket_address, launch.SECONDS) as conn,
            ):
                plain.write_frame(conn, {"cmd": "dance", "id": 5}, bytes(200_000))
                header, _ = plain.read_frame(conn) or ({}, b"")
                self.assertEqual((header["status"], header["code"]), ("error", "unsupported"))
                self.assertEqual(header["id"], 5)
                plain.write_frame(conn, {"id": "x"})
                header, _ = plain.read_frame(conn) or ({}, b"")
                self.assertEqual((header["status"], header["code"]), ("error", "bad_request"))
                self.assertEqual(header["id"], "x")
                plain.write_frame(conn, {"cmd": "hello"})
                header, _ = plain.read_frame(conn) or ({}, b"")
                self.assertEqual(header["status"], "ok")
                self.assertEqual(sorted(header["cmds"]), cmds.split())

        servers = (
            ("exec_server", "exec"),
            (
                "file_server",
                "get list mkdir put stat symlink",
                "--root",
                str(self.directory),
            ),
        )
        self.each(
            [(language, *server) for language in launch.LANGUAGES for server in servers], check
        )

    def test_a_stranger_to_a_server_with_a_key(self) -> None:
        key = self.key_file()

        def check(language: str) -> None:
            marker = self.directory / language
            with launch.server(
                tcp_exec_server(language, "frame", "--key-file", key)
            ) as running:
                with socket.create_connection(running.socket_address, launch.SECONDS) as conn:
                    plain.write_frame(conn, {"cmd": "exec"}, f"touch {marker}".encode())
                    received = b""
                    try:
                        while data := conn.recv(1024):
                            received += data
                    except ConnectionResetError:
                        pass
                self.assertLessEqual(len(received), 32)
                self.assertEqual(running.stop(), 0)
                self.assertFalse(marker.exists())

        self.each(IN_EVERY_LANGUAGE, check)

    def test_a_reset_in_the_middle_of_a_reply(self) -> None:
        def check(language: str, name: str) -> None:
            with launch.server(tcp_exec_server(language, name)) as running:
                for _ in range(3):
                    with socket.create_connection(
                        running.socket_address, launch.SECONDS
                    ) as conn:
                        request = b"seq 200000"
                        if name == "frame":
                            plain.write_frame(conn, {"cmd": "exec"}, request)
                        else:
                            conn.sendall(request)
                        conn.recv(4)
                        if name == "ack":
                            conn.sendall(b"recv_ready")
                        conn.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                got = launch.run(tcp_exec_client(language, name, running.address, "echo on"))
                self.assertEqual((got.stdout, got.returncode), (b"on\n", 0))
                self.assertEqual(running.stop(), 0, running.errors())

        self.each([(language, name) for language in launch.LANGUAGES for name in WIRES], check)


def wait_for(marker: pathlib.Path) -> None:
    end = time.monotonic() + launch.SECONDS
    while not marker.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"no {marker}")
        time.sleep(0.005)


if __name__ == "__main__":
    unittest.main()
