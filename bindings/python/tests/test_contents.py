"""A file's content in any object: from where put() reads it, and to where get() writes it."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import http.client
import http.server
import io
import lzma
import os
import pathlib
import socket
import ssl
import sys
import tarfile
import tempfile
import threading
import unittest
import zipfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import support

import framefd

MODULES: list[Any] = [gzip, bz2, lzma]

CONTENT = os.urandom(200_000) + bytes(1 << 20) + b"the end"


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.directory = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.root = self.directory / "root"
        self.root.mkdir()
        self.ours, self.theirs = self.stack.enter_context(support.connections())

    def serve(self, count: int = 1) -> None:
        for _ in range(count):
            self.theirs.serve_file(self.theirs.recv_header(), self.root)

    def put(self, source: Any, **options: Any) -> bytes:
        """What the server has stored."""
        with support.meanwhile(self.serve):
            result = self.ours.put(source, "name", **options)
        stored = (self.root / "name").read_bytes()
        self.assertEqual(result.size, len(stored))
        return stored

    def get(self, destination: Any, content: bytes = CONTENT, **options: Any) -> None:
        (self.root / "name").write_bytes(content)
        with support.meanwhile(self.serve):
            self.ours.get("name", destination, **options)

    def assert_still_usable(self) -> None:
        self.assertEqual(self.put(io.BytesIO(b"still usable")), b"still usable")


class Sources(Case):
    def test_of_every_kind(self) -> None:
        for kind, source in self.sources():
            with self.subTest(kind), source:
                self.assertTrue(self.put(source) == CONTENT)
                self.assertEqual(source.read(1), b"")

    def sources(self) -> Iterator[tuple[str, Any]]:
        packed = self.directory / "packed"
        for module in MODULES:
            packed.write_bytes(module.compress(CONTENT))
            yield module.__name__, module.open(packed)
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("member", CONTENT)
        with zipfile.ZipFile(packed) as archive:
            yield "zip", archive.open("member")
        with tarfile.open(packed, "w:gz") as tar:
            tar.addfile(member(len(CONTENT)), io.BytesIO(CONTENT))
        with tarfile.open(packed) as tar:
            file = tar.extractfile("member")
            assert file is not None
            yield "tar", file
        for size in (10, 1 << 30):
            spooled = tempfile.SpooledTemporaryFile(size)  # noqa: SIM115
            spooled.write(CONTENT)
            spooled.seek(0)
            yield "spooled", spooled
        yield "bytesio", io.BytesIO(CONTENT)
        raws: list[Any] = [io.BytesIO(CONTENT), io.BytesIO()]
        yield "pair", io.BufferedRWPair(*raws)
        yield "http", self.stack.enter_context(response())

    def test_the_mode_is_not_that_of_the_copy(self) -> None:
        self.put(io.BytesIO(b"memory"))
        expected = pathlib.Path(self.directory, "file")
        expected.touch()
        self.assertEqual((self.root / "name").stat().st_mode, expected.stat().st_mode)

    def test_from_the_position_and_no_more_than_is_wanted(self) -> None:
        source = io.BytesIO(CONTENT)
        source.seek(100)
        self.assertTrue(self.put(source, length=1_100_000) == CONTENT[100:1_100_100])
        self.assertEqual(source.tell(), 1_100_100)
        with self.assertRaisesRegex(ValueError, "1 byte.* fewer"):
            self.ours.put(io.BytesIO(b"short"), "name", length=6)
        cases: list[dict[str, Any]]
        cases = [{"length": 0}, {"mode": -1}, {"timeout": -1}, {"name": "a\0b"}]
        for wrong in cases:
            with self.subTest(wrong), self.assertRaises(ValueError):
                self.ours.put(source, **{"name": "name", **wrong})
        self.assertEqual(source.tell(), 1_100_100)
        self.assert_still_usable()

    def test_pipes_and_sockets(self) -> None:
        for buffered in (False, True):
            for length in (None, 6):
                file = self.stack.enter_context(pipe(b"from a pipe", buffered))
                if buffered:
                    self.assertEqual(file.read(5), b"from ")
                self.assertEqual(
                    self.put(file if buffered else file.fileno(), length=length),
                    (b"a pipe" if buffered else b"from a pipe")[:length],
                )
        for timeout in (None, 0, 8):
            with support.stream() as (ours, theirs):
                ours.settimeout(timeout)
                sender = threading.Timer(0.05, send_and_close, (theirs,))
                sender.start()
                self.assertTrue(self.put(ours) == CONTENT)
                sender.join()

    def test_a_pipe_that_does_not_block_is_waited_for(self) -> None:
        for opened in (False, True):
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            with open(reader, "rb", buffering=0) as file:
                sender = threading.Timer(0.05, write_and_close, (writer,))
                sender.start()
                self.assertEqual(self.put(file if opened else reader), b"x")
                sender.join()

    def test_what_a_read_raises_comes_out_before_anything_is_sent(self) -> None:
        packed = gzip.compress(CONTENT)[:-20]
        with self.assertRaises(EOFError):
            self.ours.put(gzip.GzipFile(fileobj=io.BytesIO(packed)), "name")
        with gzip.open(self.directory / "packed", "wb") as file, self.assertRaises(OSError):
            self.ours.put(file, "name")
        self.assert_still_usable()

    def test_texts_are_refused(self) -> None:
        (self.directory / "text").write_text("text")
        with open(self.directory / "text") as file, self.assertRaisesRegex(TypeError, "binary"):
            self.ours.put(file, "name")
        (self.directory / "packed").write_bytes(gzip.compress(b"text"))
        texts = [
            gzip.open(self.directory / "packed", "rt"),  # noqa: SIM115
            tempfile.SpooledTemporaryFile(mode="w+"),  # noqa: SIM115
            io.StringIO("text"),
        ]
        for text in texts:
            with text, self.assertRaisesRegex(TypeError, "of bytes, not "):
                self.ours.put(text, "name")
        self.assert_still_usable()

    def test_bytes_are_a_path(self) -> None:
        path = self.directory / "file"
        path.write_bytes(b"content")
        self.assertEqual(self.put(os.fsencode(path)), b"content")

    def test_a_descriptor_is_read_by_the_library(self) -> None:
        path = self.directory / "file"
        path.write_bytes(CONTENT)
        path.chmod(0o640)
        with open(path, "rb") as file, mock.patch("tempfile.TemporaryFile") as temporary:
            self.put(file, preserve=True)
            temporary.assert_not_called()
        self.assertEqual((self.root / "name").stat().st_mode & 0o777, 0o640)

    def test_the_plaintext_of_tls_is_not_that_of_the_descriptor(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        ours, theirs = socket.socketpair()
        with context.wrap_socket(ours, do_handshake_on_connect=False) as tls, theirs:
            theirs.sendall(b"ciphertext")
            with tls.makefile("rb") as file:
                for call in (framefd.recv, lambda file: self.ours.put(file, "x", length=5)):
                    with self.assertRaises((TypeError, ssl.SSLError)):
                        call(file)
        self.assert_still_usable()


class Targets(Case):
    def test_of_every_kind(self) -> None:
        for kind, target, content in self.targets():
            with self.subTest(kind):
                self.get(target)
                self.assertTrue(content() == CONTENT)

    def targets(self) -> Iterator[tuple[str, Any, Any]]:
        packed = self.directory / "packed"
        for module in MODULES:
            file = module.open(packed, "wb")

            def content(module: Any = module, file: Any = file) -> bytes:
                file.close()
                data: bytes = module.decompress(packed.read_bytes())
                return data

            yield module.__name__, file, content
        memory = io.BytesIO()
        yield "bytesio", memory, memory.getvalue
        captured = io.BytesIO()
        text = io.TextIOWrapper(captured)  # a sys.stdout that a test captures
        text.write("before ")
        yield "captured", text, lambda: captured.getvalue().removeprefix(b"before ")
        slow = Slow()
        yield "slow", slow, lambda: slow.data
        with open(self.directory / "file", "w+b") as opened:
            yield "file", opened, lambda: (opened.seek(0), opened.read())[1]

    def test_what_is_written_goes_behind_what_was(self) -> None:
        with gzip.open(self.directory / "packed", "wb") as file:
            file.write(b"before")
            self.get(file, b"content")
            file.write(b"after")
        packed = (self.directory / "packed").read_bytes()
        self.assertEqual(gzip.decompress(packed), b"beforecontentafter")

    def test_nothing_is_written_unless_all_is_right(self) -> None:
        target = io.BytesIO()
        (self.root / "name").write_bytes(b"content")

        def serve_wrongly() -> None:
            request = self.theirs.recv_header()
            assert request.header["cmd"] == "get"
            said = {"filename": "name", "filesize": 7, "sha256": "0" * 64}
            self.theirs.reply(request, said, b"content")
            self.theirs.flush()

        with support.meanwhile(self.serve):
            with self.assertRaises(framefd.NotFoundError):
                self.ours.get("missing", target)
        with support.meanwhile(serve_wrongly), self.assertRaises(framefd.ChecksumError):
            self.ours.get("name", target)
        self.assertEqual(target.getvalue(), b"")

    def test_what_a_write_raises_comes_out(self) -> None:
        with self.assertRaisesRegex(OSError, "takes no more"):
            self.get(Slow(most=2000))
        with self.assertRaises(OSError):
            self.ours.get("name", gzip.GzipFile(fileobj=io.BytesIO(b""), mode="rb"))
        self.assert_still_usable()

    def test_the_rest_of_a_file(self) -> None:
        target = io.BytesIO()
        self.get(target, b"content", offset=3, checksum=False)
        self.assertEqual(target.getvalue(), b"tent")
        with self.assertRaisesRegex(ValueError, "checksum=False"):
            self.ours.get("name", target, offset=3)
        self.assert_still_usable()

    def test_texts_are_refused(self) -> None:
        texts = [io.StringIO(), tempfile.SpooledTemporaryFile(mode="w")]  # noqa: SIM115
        for text in texts:
            with text, self.assertRaisesRegex(TypeError, "of bytes, not "):
                self.ours.get("name", text)
        self.assert_still_usable()


class Slow:
    """Takes some of the bytes at once, and not more than ``most`` in all."""

    def __init__(self, most: int = sys.maxsize) -> None:
        self.data = b""
        self.most = most

    def write(self, data: memoryview) -> int:
        taken = data[: min(100_000, self.most - len(self.data))]
        self.data += taken
        return len(taken)


def member(size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo("member")
    info.size = size
    return info


@contextlib.contextmanager
def response() -> Iterator[http.client.HTTPResponse]:
    """The content, as a server of the web sends it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(CONTENT), 500_000):
                piece = CONTENT[start : start + 500_000]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        client = http.client.HTTPConnection("127.0.0.1", server.server_port)
        client.request("GET", "/")
        with client.getresponse() as answer:
            yield answer
        client.close()
        thread.join()


def pipe(content: bytes, buffered: bool) -> Any:
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return open(reader, "rb", buffering=-1 if buffered else 0)


def write_and_close(fd: int) -> None:
    os.write(fd, b"x")
    os.close(fd)


def send_and_close(sock: socket.socket) -> None:
    sock.sendall(CONTENT)
    sock.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    unittest.main()
