"""Holds the peers against each other, so that they are known to be right."""

from __future__ import annotations

import pathlib
import socket
import subprocess
import tempfile
import threading
import unittest

import wire
from driver import peer, run, server

WIRES = ("ack", "packet", "json", "frame")
BOTH_STREAMS = "printf out; printf err >&2"


class TcpExec(unittest.TestCase):
    def ask(self, wire_name: str, *commands: str) -> bytes:
        with server(peer(f"{wire_name}_server", "127.0.0.1", "0")) as address:
            result = run(peer(f"{wire_name}_client", *address, *commands))
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        return result.stdout

    def test_replies_come_whole_and_in_order(self) -> None:
        for name in WIRES:
            with self.subTest(name):
                output = self.ask(name, "seq 20000", "true", "echo after")
                numbers = b"".join(b"%d\n" % n for n in range(1, 20001))
                self.assertEqual(output, numbers + b"after\n")

    def test_output_is_bytes(self) -> None:
        for name in WIRES:
            with self.subTest(name):
                self.assertEqual(self.ask(name, r"printf '\000\377'"), b"\x00\xff")

    def test_only_the_framed_request_gets_both_streams(self) -> None:
        for name in WIRES:
            with self.subTest(name):
                expected = b"outerr" if name == "frame" else b"err"
                self.assertEqual(self.ask(name, BOTH_STREAMS), expected)

    def test_bare_replies_stick(self) -> None:
        output = self.ask("bare", "printf %03000d 7", "echo second")
        self.assertTrue(0 < len(output) <= 2048)
        self.assertEqual(output, b"0" * len(output))

    def test_bare_short_reply(self) -> None:
        self.assertEqual(self.ask("bare", "echo one", "echo two >&2"), b"one\ntwo\n")

    def test_commands_are_read_from_the_prompt(self) -> None:
        for name in ("bare", *WIRES):
            with self.subTest(name):
                with server(peer(f"{name}_server", "127.0.0.1", "0")) as address:
                    lines = b"echo one\n\n  \necho two\nquit\necho never\n"
                    result = run(peer(f"{name}_client", *address), lines)
                self.assertEqual(result.stdout.replace(b">>: ", b""), b"one\ntwo\n")

    def test_a_server_serves_again_after_a_client_left(self) -> None:
        for name in ("bare", *WIRES):
            with self.subTest(name):
                with server(peer(f"{name}_server", "127.0.0.1", "0")) as (host, port):
                    with socket.create_connection((host, int(port))) as conn:
                        conn.sendall(b"\x05\x00")
                    result = run(peer(f"{name}_client", host, port, "echo still here"))
                self.assertEqual(result.stdout, b"still here\n")

    def test_a_closed_connection_is_an_error(self) -> None:
        for name in ("bare", *WIRES):
            with self.subTest(name), socket.create_server(("127.0.0.1", 0)) as listener:
                result = refuse(listener, name, "pwd")
                self.assertEqual(result.returncode, 1)
                self.assertIn(b"_client.py: ", result.stderr)

    def test_a_refusal_and_the_exit_status_of_a_framed_request(self) -> None:
        with (
            server(peer("frame_server", "127.0.0.1", "0")) as (host, port),
            socket.create_connection((host, int(port))) as conn,
        ):
            wire.write_frame(conn, {"cmd": "dance"})
            refusal, _ = wire.read_frame(conn) or ({}, b"")
            self.assertEqual((refusal["status"], refusal["code"]), ("error", "unsupported"))
            wire.write_frame(conn, {"cmd": "exec"}, BOTH_STREAMS.encode() + b"; exit 7")
            header, body = wire.read_frame(conn) or ({}, b"")
            sizes = {"data_size": 6, "stdout_size": 3, "stderr_size": 3, "exit_code": 7}
            self.assertEqual((header, body), (sizes, b"outerr"))
            wire.write_frame(conn, {"cmd": "exec"}, b"kill -9 $$")
            header, _ = wire.read_frame(conn) or ({}, b"")
            self.assertEqual((header["signal"], header["exit_code"]), (9, 137))


class UdpExec(unittest.TestCase):
    def test_bare(self) -> None:
        with server(peer("udp_bare_server", "127.0.0.1", "0")) as address:
            result = run(peer("udp_bare_client", *address, BOTH_STREAMS, "true", "echo on"))
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, b"outon\n", b"err"))

    def test_bare_cuts_a_long_reply(self) -> None:
        with server(peer("udp_bare_server", "127.0.0.1", "0")) as address:
            result = run(peer("udp_bare_client", *address, "printf %03000d 7", "echo on"))
        self.assertEqual(result.stdout, b"0" * 1024 + b"on\n")

    def test_bare_survives_a_reply_no_datagram_holds(self) -> None:
        with server(peer("udp_bare_server", "127.0.0.1", "0")) as (host, port):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(5)
                sock.sendto(b"printf %070000d 7", (host, int(port)))
                self.assertEqual(sock.recv(1024), b"")
            result = run(peer("udp_bare_client", host, port, "echo on"))
        self.assertEqual(result.stdout, b"on\n")

    def test_frame_in_parts(self) -> None:
        with tempfile.NamedTemporaryFile() as key_file:
            key_file.write(b"the shared key of this test\n")
            key_file.flush()
            for key in ([], ["--key-file", key_file.name]):
                command = peer("udp_frame_server", "127.0.0.1", "0", "--part-size", "700", *key)
                with self.subTest(key), server(command) as address:
                    commands = ("seq 2000", "true", BOTH_STREAMS)
                    result = run(peer("udp_frame_client", *address, *key, *commands))
                    numbers = b"".join(b"%d\n" % n for n in range(1, 2001))
                    self.assertEqual(result.stdout, numbers + b"out")
                    self.assertEqual((result.returncode, result.stderr), (0, b"err"))

    def test_a_repeated_request_is_not_run_again(self) -> None:
        with (
            tempfile.NamedTemporaryFile() as trace,
            server(peer("udp_frame_server", "127.0.0.1", "0")) as (host, port),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):
            sock.settimeout(5)
            sock.connect((host, int(port)))
            command = f"printf x >> {trace.name}; echo ran".encode()
            request = {"cmd": "exec", "id": 7, "data_size": len(command)}
            for _ in range(3):
                sock.send(wire.pack_header(request) + command)
                header, body = wire.unpack_datagram(sock.recv(65536))
                self.assertEqual((header["id"], body), (7, b"ran\n"))
            self.assertEqual(pathlib.Path(trace.name).read_bytes(), b"x")

    def test_a_malformed_datagram_does_not_end_the_server(self) -> None:
        with server(peer("udp_frame_server", "127.0.0.1", "0")) as (host, port):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for datagram in (b"", b"abc", bytes(4), wire.pack_header({}), b"\2\0\0\0[]"):
                    sock.sendto(datagram, (host, int(port)))
            result = run(peer("udp_frame_client", host, port, "echo on"))
        self.assertEqual(result.stdout, b"on\n")

    def test_the_datagram_keys_are_hkdf(self) -> None:
        # What `openssl kdf -kdfopt digest:SHA256 ... HKDF` makes of the same key and infos.
        keys = wire.datagram_keys(b"the shared key of this test")
        self.assertEqual(
            (keys.request.hex(), keys.reply.hex()),
            (
                "74df4e8bc08a0d763f3ebee7f4103ee4c21ebcc7d30adca24f47841062ef1ef9",
                "d49ce6c6d286c62aa14ce326b682a6a4a8a45e98bad28faf98360543f09a3d4e",
            ),
        )

    def test_a_wrong_tag_is_refused(self) -> None:
        signed = wire.sign(b"key", b"datagram")
        self.assertEqual(wire.verify(b"key", signed), b"datagram")
        for wrong in (b"", signed[:-1], signed[1:], b"D" + signed[1:]):
            with self.subTest(wrong), self.assertRaises(ValueError):
                wire.verify(b"key", wrong)


class Files(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = pathlib.Path(temporary.name, "root")
        self.root.mkdir()
        self.sources = []
        for name, content in (("empty", b""), ("small", b"a\nb"), ("big", bytes(range(256)) * 800)):
            path = pathlib.Path(temporary.name, name)
            path.write_bytes(content)
            self.sources.append(path)

    def assert_stored(self) -> None:
        for path in self.sources:
            self.assertEqual((self.root / path.name).read_bytes(), path.read_bytes(), path.name)

    def test_old_upload(self) -> None:
        paths = map(str, self.sources)
        with server(peer("file_server", "127.0.0.1", "0", str(self.root))) as (host, port):
            result = run(peer("file_client", host, port, "put", *paths))
            self.assertEqual((result.returncode, result.stderr), (0, b""))
            # It serves one client at a time: once it answers the next, the first is done.
            with socket.create_connection((host, int(port))) as conn:
                conn.shutdown(socket.SHUT_WR)
                self.assertEqual(conn.recv(1), b"")
        self.assert_stored()

    def test_upload_and_download_with_replies(self) -> None:
        with server(peer("file_get_server", "127.0.0.1", "0", str(self.root))) as address:
            for path in self.sources:
                result = run(peer("file_get_client", *address, "put", str(path)))
                self.assertEqual((result.returncode, result.stderr), (0, b""))
            self.assert_stored()
            for path in self.sources:
                copy = str(path) + ".copy"
                result = run(peer("file_get_client", *address, "get", path.name, copy))
                self.assertEqual((result.returncode, result.stderr), (0, b""))
                self.assertEqual(pathlib.Path(copy).read_bytes(), path.read_bytes())

    def test_old_upload_to_a_server_that_replies(self) -> None:
        with server(peer("file_get_server", "127.0.0.1", "0", str(self.root))) as address:
            run(peer("file_client", *address, "put", str(self.sources[1])))
            result = run(peer("file_get_client", *address, "get", "small", "/dev/stdout"))
        self.assertEqual(result.stdout, b"a\nb")

    def test_a_missing_file_is_an_error(self) -> None:
        with server(peer("file_get_server", "127.0.0.1", "0", str(self.root))) as address:
            result = run(peer("file_get_client", *address, "get", "nothing"))
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"not_found", result.stderr)


class AuthenticatedEcho(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.key = str(pathlib.Path(temporary.name, "key"))
        self.other = str(pathlib.Path(temporary.name, "other"))
        pathlib.Path(self.key).write_bytes(b"the shared key of this test\n")
        pathlib.Path(self.other).write_bytes(b"the shared key of this test\n\n")
        command = peer("auth_echo_server", "127.0.0.1", "0", "--key-file", self.key)
        running = server(command)
        self.address = running.__enter__()
        self.addCleanup(running.__exit__, None, None, None)

    def echo(self, key: str, *text: str) -> subprocess.CompletedProcess[bytes]:
        return run(peer("auth_echo_client", *self.address, "--key-file", key, *text))

    def test_echo_in_upper_case(self) -> None:
        result = self.echo(self.key, "hello", "x" * 5000)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        self.assertEqual(result.stdout, b"HELLO\n" + b"X" * 5000 + b"\n")

    def test_intruders_are_refused_and_the_next_client_served(self) -> None:
        for name in ("auth_intruder_talks", "auth_intruder_wrong_key"):
            with self.subTest(name):
                result = run(peer(name, *self.address))
                self.assertEqual((result.returncode, result.stdout), (1, b""))
                self.assertIn(name.encode(), result.stderr)
                self.assertEqual(self.echo(self.key, "next").stdout, b"NEXT\n")

    def test_one_newline_and_no_more_is_stripped_from_a_key(self) -> None:
        self.assertEqual(self.echo(self.other, "hello").returncode, 1)

    def test_the_intruders_would_notice_being_served(self) -> None:
        for name in ("auth_intruder_talks", "auth_intruder_wrong_key"):
            with self.subTest(name), socket.create_server(("127.0.0.1", 0)) as listener:
                host, port = listener.getsockname()
                thread = threading.Thread(target=serve_anybody, args=(listener,))
                thread.start()
                result = run(peer(name, host, str(port)))
                thread.join()
                self.assertEqual((result.returncode, result.stdout), (0, b"!"))


def refuse(listener: socket.socket, name: str, command: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a client against a server that reads the command and closes."""

    def accept() -> None:
        conn, _ = listener.accept()
        with conn:
            conn.recv(1024)

    thread = threading.Thread(target=accept)
    thread.start()
    host, port = listener.getsockname()
    result = run(peer(f"{name}_client", host, str(port), command))
    thread.join()
    return result


def serve_anybody(listener: socket.socket) -> None:
    """A server that sends its challenge and takes any answer."""
    conn, _ = listener.accept()
    with conn:
        conn.sendall(bytes(wire.CHALLENGE_SIZE) + b"!")
        while conn.recv(1024):
            pass


if __name__ == "__main__":
    unittest.main()
