"""The echo server of frames: many connections in one thread, and none that harms another."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import unittest

from pairs import Case, launch, plain

IN_EVERY_LANGUAGE = tuple((language,) for language in launch.LANGUAGES)
MIB = 1 << 20


class Echo(Case):
    def test_every_frame_comes_back_in_order(self) -> None:
        headers: list[plain.Header] = [{}, {"id": 7, "text": "caf\u00e9", "list": [1, None]}]
        frames = [
            (header, os.urandom(size))
            for size in (0, 1, 70_000, 3 * MIB, 5)
            for header in headers
        ]

        def check(language: str) -> None:
            with serving(language) as running, connected(running) as conn:
                for frame in frames:
                    plain.write_frame(conn, *frame)
                    self.assertEqual(read_echo(conn), frame)
                sending = threading.Thread(target=send_all, args=(conn, frames))
                sending.start()
                self.assertEqual([read_echo(conn) for _ in frames], frames)
                sending.join()

        self.each(IN_EVERY_LANGUAGE, check)

    def test_a_header_in_any_spelling_comes_back(self) -> None:
        def check(language: str) -> None:
            with serving(language) as running, connected(running) as conn:
                for text, keys, body in (
                    (b"{}", {}, b""),
                    (b'{"data_size":2}', {}, b"ok"),
                    (b' { "a" : 1 ,"data\\u005fsize":2} ', {"a": 1}, b"ok"),
                    (b'{"a":{"data_size":9}}', {"a": {"data_size": 9}}, b""),
                ):
                    conn.sendall(len(text).to_bytes(4, "little") + text + body)
                    header = plain.read_header(conn) or {}
                    self.assertEqual(plain.recv_exact(conn, header.pop("data_size", 0)), body)
                    self.assertEqual(header, keys)

        self.each(IN_EVERY_LANGUAGE, check)

    def test_a_byte_at_a_time(self) -> None:
        def check(language: str) -> None:
            with serving(language) as running, connected(running) as conn:
                frame = plain.pack_header({"n": 1, "data_size": 5}) + b"hello"
                for at in range(len(frame)):
                    conn.sendall(frame[at : at + 1])
                self.assertEqual(read_echo(conn), ({"n": 1}, b"hello"))

        self.each(IN_EVERY_LANGUAGE, check)

    def test_a_client_that_has_sent_everything_gets_everything(self) -> None:
        def check(language: str) -> None:
            with serving(language) as running, connected(running) as conn:
                for n in range(100):
                    plain.write_frame(conn, {"n": n}, bytes(10_000))
                conn.shutdown(socket.SHUT_WR)
                for n in range(100):
                    self.assertEqual(read_echo(conn), ({"n": n}, bytes(10_000)))
                self.assertEqual(conn.recv(1), b"")

        self.each(IN_EVERY_LANGUAGE, check)


class ManyClients(Case):
    def test_thousands_at_once(self) -> None:
        count = 2000
        launch.allow_files(count + 100)

        def check(language: str) -> None:
            with serving(language) as running:
                conns = [connected(running) for _ in range(count)]
                for n, conn in enumerate(conns):
                    plain.write_frame(conn, {"n": n}, b"%d" % n)
                for n, conn in reversed(list(enumerate(conns))):
                    self.assertEqual(read_echo(conn), ({"n": n}, b"%d" % n))
                self.assertEqual(status(running, "Threads"), 1)
                self.assertEqual((running.stop(), running.errors()), (0, ""))
                for conn in conns:
                    conn.close()

        for case in IN_EVERY_LANGUAGE:
            check(*case)

    def test_more_than_it_may_have_wait_for_their_turn(self) -> None:
        def check(language: str) -> None:
            server = launch.program(language, "echo_server")
            with launch.server(["sh", "-c", 'ulimit -n 40; exec "$@"', "sh", *server]) as running:
                conns = [connected(running) for _ in range(80)]
                for n, conn in enumerate(conns):
                    plain.write_frame(conn, {"n": n}, b"hello")
                wait_until_idle(running)
                for n, conn in enumerate(conns):
                    self.assertEqual(read_echo(conn), ({"n": n}, b"hello"))
                    conn.close()
                self.assertEqual(running.stop(), 0)
                self.assertLessEqual(running.errors().count("could not be accepted"), 1)

        self.each(IN_EVERY_LANGUAGE, check)

    def test_one_that_does_not_read_is_not_read_from(self) -> None:
        frames = [({"n": n}, n.to_bytes(4, "big") * 5000) for n in range(2000)]

        def check(language: str) -> None:
            with serving(language) as running, connected(running) as full:
                before = status(running, "VmRSS")
                sending = threading.Thread(target=send_all, args=(full, frames))
                sending.start()
                wait_until_idle(running)
                self.assertTrue(sending.is_alive(), "40 MB were taken, and nothing read")
                self.assertLess(status(running, "VmRSS") - before, 4096)
                with connected(running) as other:
                    plain.write_frame(other, {}, b"hello")
                    self.assertEqual(read_echo(other), ({}, b"hello"))
                for frame in frames:
                    self.assertEqual(read_echo(full), frame)
                sending.join()

        self.each(IN_EVERY_LANGUAGE, check)

    def test_what_is_no_frame_is_answered_by_the_close_and_hurts_nobody(self) -> None:
        def check(language: str) -> None:
            with serving(language) as running, connected(running) as other:
                for start in (b"GET / HTTP/1.1\r\n\r\n", bytes(4), b"\2\0\0\0[]"):
                    with connected(running) as conn:
                        # More than the server reads of it: a close would take the reply along.
                        plain.write_frame(conn, {"n": 1}, b"before")
                        conn.sendall(start.ljust(100_000, b"x"))
                        self.assertEqual(read_echo(conn), ({"n": 1}, b"before"))
                        self.assertEqual(conn.recv(1), b"")
                with connected(running) as conn:
                    conn.sendall(plain.pack_header({"data_size": 9}) + b"cut")
                with connected(running) as conn:
                    plain.write_frame(conn, {}, bytes(8 * MIB))
                    conn.recv(1)  # and it closes with the rest unread: a reset
                plain.write_frame(other, {}, b"on")
                self.assertEqual(read_echo(other), ({}, b"on"))
                self.assertEqual((running.stop(), running.errors()), (0, ""))

        self.each(IN_EVERY_LANGUAGE, check)


class Stop(Case):
    def test_a_reply_in_flight_is_delivered(self) -> None:
        def check(language: str, number: str) -> None:
            body = os.urandom(16 * MIB)
            with serving(language) as running, connected(running) as conn:
                plain.write_frame(conn, {"n": 1}, body)
                header = plain.read_header(conn)
                assert header is not None
                running.process.send_signal(signal.Signals[number])
                with self.assertRaises(subprocess.TimeoutExpired):
                    running.process.wait(0.3)
                self.assertEqual(plain.recv_exact(conn, header["data_size"]), body)
                self.assertEqual(conn.recv(1), b"")
                conn.close()
                self.assertEqual(running.process.wait(launch.SECONDS), 0)
                self.assertEqual(running.errors(), "")

        self.each([(language, "SIGTERM") for language in launch.LANGUAGES], check)
        self.each([(language, "SIGINT") for language in launch.LANGUAGES], check)

    def test_clients_that_ask_nothing_do_not_hold_it_up(self) -> None:
        def check(language: str) -> None:
            with serving(language) as running, connected(running) as idle:
                begin = time.monotonic()
                self.assertEqual(running.stop(), 0)
                self.assertLess(time.monotonic() - begin, 10)
                self.assertEqual(idle.recv(1), b"")
                with self.assertRaises(ConnectionRefusedError):
                    connected(running)

        self.each(IN_EVERY_LANGUAGE, check)

    def test_a_second_signal_does_not_wait(self) -> None:
        def check(language: str) -> None:
            with serving(language) as running, connected(running) as conn:
                plain.write_frame(conn, {}, bytes(16 * MIB))
                conn.recv(1)
                running.process.send_signal(signal.SIGTERM)
                with self.assertRaises(subprocess.TimeoutExpired):
                    running.process.wait(0.3)
                self.assertEqual(running.stop(signal.SIGINT), -signal.SIGINT)

        self.each(IN_EVERY_LANGUAGE, check)


def serving(language: str) -> contextlib.AbstractContextManager[launch.Server]:
    return launch.server(launch.program(language, "echo_server"))


def connected(server: launch.Server) -> socket.socket:
    return socket.create_connection(server.socket_address, launch.SECONDS)


def send_all(conn: socket.socket, frames: list[tuple[plain.Header, bytes]]) -> None:
    for frame in frames:
        plain.write_frame(conn, *frame)


def read_echo(conn: socket.socket) -> tuple[plain.Header, bytes]:
    """A frame, its header as the client's was."""
    header, body = plain.read_frame(conn) or ({}, b"")
    del header["data_size"]
    return header, body


def status(server: launch.Server, field: str) -> int:
    """A number that the kernel has about a server."""
    text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0])


def wait_until_idle(server: launch.Server) -> None:
    """Until a server uses no more processor time: it waits, and not in a loop."""
    end = time.monotonic() + launch.SECONDS
    path = pathlib.Path(f"/proc/{server.process.pid}/stat")
    used, before = path.read_text().split()[13:15], None
    while used != before:
        if time.monotonic() > end:
            raise TimeoutError(f"it is still busy: {used}")
        time.sleep(0.2)
        used, before = path.read_text().split()[13:15], used


if __name__ == "__main__":
    unittest.main()
