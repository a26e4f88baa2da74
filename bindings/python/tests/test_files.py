"""Files: both sides, and against plain peers."""

from __future__ import annotations

import _thread
import contextlib
import hashlib
import io
import os
import pathlib
import socket
import stat
import tempfile
import time
import unittest
from collections.abc import Callable
from typing import Any

import support
from driver import peer, run, server

import framefd
from framefd import ErrorCode


class Files(unittest.TestCase):
    def setUp(self) -> None:
        pair = support.stream()
        self.ours, self.theirs = pair.__enter__()
        self.addCleanup(pair.__exit__, None, None, None)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.local = pathlib.Path(directory.name) / "local"
        self.root = pathlib.Path(directory.name) / "root"
        self.local.mkdir()
        self.root.mkdir()
        self.data = os.urandom(3 << 20)
        (self.local / "a").write_bytes(self.data)

    def serve(self, **options: Any) -> framefd.FileResult:
        with framefd.recv_header(self.theirs) as request:
            return framefd.serve_file(self.theirs, request, self.root, **options)

    def put(self, *args: Any, server: Any = (), **options: Any) -> framefd.FileResult:
        with support.meanwhile(lambda: self.serve(**dict(server))) as self.served:
            return framefd.put(self.ours, *args, **options)

    def get(self, *args: Any, server: Any = (), **options: Any) -> framefd.FileResult:
        with support.meanwhile(lambda: self.serve(**dict(server))) as self.served:
            return framefd.get(self.ours, *args, **options)

    def breaks_off(self, kind: type[BaseException], call: Callable[[], Any]) -> None:
        """A call that fails with the server in the middle of it: the connection is over."""

        def serve() -> None:
            with contextlib.suppress(framefd.FrameError):
                self.serve()

        with support.meanwhile(serve):
            with self.assertRaises(kind):
                call()
            self.ours.close()

    def test_there_and_back(self) -> None:
        digest = hashlib.sha256(self.data).hexdigest()
        for source in (self.local / "a", str(self.local / "a"), os.fsencode(self.local / "a")):
            self.assertEqual(self.put(source), (len(self.data), digest, 0))
            self.assertEqual(self.served[0].size, len(self.data))
            self.assertEqual((self.root / "a").read_bytes(), self.data)
            (self.root / "a").unlink()
        self.put(self.local / "a", "b")
        self.assertEqual(self.get("b", self.local / "c"), (len(self.data), digest, 0))
        self.assertEqual((self.local / "c").read_bytes(), self.data)
        (self.local / "empty").touch()
        self.assertEqual(self.put(self.local / "empty").size, 0)
        self.assertEqual(self.get("empty", self.local / "c").size, 0)
        self.assertEqual((self.local / "c").read_bytes(), b"")

    def test_names_of_any_bytes(self) -> None:
        for name in (b"\xff\xfe", os.fsdecode(b"\xff"), "é"):
            self.put(self.local / "a", name)
            self.assertEqual(self.get(name, self.local / "c").size, len(self.data))
        self.assertIn(b"\xff\xfe", os.listdir(os.fsencode(self.root)))
        with self.assertRaises(ValueError):
            framefd.put(self.ours, self.local / "a", "a\0b")

    def test_descriptors_and_file_objects(self) -> None:
        with open(self.local / "a", "rb") as source:
            source.read(10)
            self.put(source, "rest")
            self.assertEqual(source.tell(), len(self.data))
        self.assertEqual((self.root / "rest").read_bytes(), self.data[10:])
        fd = os.open(self.local / "a", os.O_RDONLY)
        self.put(fd, "part", length=1000)
        os.close(fd)
        self.assertEqual((self.root / "part").read_bytes(), self.data[:1000])
        with open(self.local / "c", "w+b") as target:
            target.write(b"before")
            self.get("part", target)
            target.write(b"after")
        self.assertEqual(
            (self.local / "c").read_bytes(), b"before" + self.data[:1000] + b"after"
        )
        with self.assertRaises(io.UnsupportedOperation):
            framefd.put(self.ours, io.BytesIO(b"no descriptor"), "name")
        with open(self.local / "a", "rb") as source, self.assertRaises(TypeError):
            framefd.put(self.ours, source)

    def test_modes_and_overwriting(self) -> None:
        self.put(self.local / "a", mode=0o640)
        self.assertEqual(stat.S_IMODE((self.root / "a").stat().st_mode), 0o640)
        with self.assertRaises(FileExistsError) as there:
            self.put(self.local / "a", overwrite=False)
        assert isinstance(there.exception, framefd.ExistsError)
        self.assertTrue(there.exception.remote)
        self.assertEqual(self.served[0].error, ErrorCode.EXISTS)
        self.get("a", self.local / "c", mode=0o600)
        self.assertEqual(stat.S_IMODE((self.local / "c").stat().st_mode), 0o600)
        for mode in (0o4755, -1, 0):
            with self.assertRaises(ValueError):
                framefd.put(self.ours, self.local / "a", mode=mode)
        target = self.local / "c"
        self.breaks_off(
            framefd.ExistsError, lambda: framefd.get(self.ours, "a", target, overwrite=False)
        )

    def test_what_is_refused_leaves_the_connection_in_step(self) -> None:
        with self.assertRaises(FileNotFoundError) as missing:
            self.get("missing", self.local / "c")
        assert isinstance(missing.exception, framefd.NotFoundError)
        self.assertTrue(missing.exception.remote)
        self.assertFalse((self.local / "c").exists())
        with self.assertRaises(FileNotFoundError) as nothing:
            framefd.put(self.ours, self.local / "missing")
        assert isinstance(nothing.exception, framefd.NotFoundError)
        self.assertFalse(nothing.exception.remote)
        with self.assertRaises(framefd.FrameError):
            self.put(self.local / "a", "../a")
        with self.assertRaises(framefd.TooBigError):
            self.put(self.local / "a", server={"max_size": 1000})
        self.put(self.local / "a", "b")
        self.assertEqual(self.get("b", self.local / "c").size, len(self.data))

    def test_a_file_that_is_larger_than_is_wanted(self) -> None:
        self.put(self.local / "a")
        target = self.local / "c"
        self.breaks_off(
            framefd.TooBigError, lambda: framefd.get(self.ours, "a", target, max_size=1000)
        )
        self.assertFalse(target.exists())

    def test_without_checksum_and_sync(self) -> None:
        self.assertEqual(self.put(self.local / "a", checksum=False, sync=False).sha256, "")
        self.assertEqual((self.root / "a").read_bytes(), self.data)

    def test_progress(self) -> None:
        seen: list[tuple[int, int]] = []

        def note(done: int, total: int) -> None:
            seen.append((done, total))

        for transfer, *names in (
            (self.put, self.local / "a"),
            (self.get, "a", self.local / "c"),
        ):
            seen.clear()
            transfer(*names, progress=note)
            self.assertEqual(seen[-1], (len(self.data), len(self.data)))
            self.assertEqual(seen, sorted(seen))

    def test_an_exception_in_progress_ends_the_transfer_and_comes_out(self) -> None:
        class Enough(BaseException):
            pass

        def stop(done: int, _: int) -> None:
            if done:
                raise Enough(done)

        source = self.local / "a"
        self.breaks_off(Enough, lambda: framefd.put(self.ours, source, progress=stop))
        self.assertEqual(os.listdir(self.root), [])

    def test_a_server_that_stalls(self) -> None:
        with self.assertRaises(TimeoutError):
            framefd.get(self.ours, "a", self.local / "c", stall=0.01)
        with self.assertRaises(TimeoutError):
            framefd.get(self.ours, "a", self.local / "c", timeout=0.01)

    def test_the_root_as_a_descriptor(self) -> None:
        root = os.open(self.root, os.O_RDONLY)
        before = os.listdir("/proc/self/fd")

        def serve() -> framefd.FileResult:
            with framefd.recv_header(self.theirs) as request:
                return framefd.serve_file(self.theirs, request, root)

        with support.meanwhile(serve):
            framefd.put(self.ours, self.local / "a")
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        os.close(root)
        self.assertEqual((self.root / "a").read_bytes(), self.data)


    def test_ctrl_c_ends_the_transfer_and_comes_out(self) -> None:
        source = self.local / "a"

        def serve() -> None:
            with contextlib.suppress(framefd.FrameError):
                with framefd.recv_header(self.theirs) as request:
                    _thread.interrupt_main()  # which is sending more than there is room for
                    framefd.serve_file(self.theirs, request, self.root)

        with support.meanwhile(serve):
            with self.assertRaises(KeyboardInterrupt):
                framefd.put(self.ours, source)
            self.ours.close()
        self.assertEqual(os.listdir(self.root), [])


class PlainPeers(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.data = os.urandom(100_000)
        (self.directory / "local").write_bytes(self.data)
        (self.directory / "root").mkdir()

    def test_a_server_of_old_that_answers_nothing(self) -> None:
        root = self.directory / "root"
        with server(peer("file_server", "127.0.0.1", "0", str(root))) as (host, port):
            with framefd.connect((host, int(port))) as connection:
                for name in ("a", "b"):
                    connection.put(self.directory / "local", name, reply=False)
            until = time.monotonic() + 10
            while not (root / "b").exists() or (root / "b").stat().st_size < len(self.data):
                self.assertLess(time.monotonic(), until)
                time.sleep(0.01)
        for name in ("a", "b"):
            self.assertEqual((root / name).read_bytes(), self.data)

    def test_a_client_of_old_that_reads_no_reply(self) -> None:
        def serve(listener: socket.socket) -> framefd.FileResult:
            connection = listener.accept()[0]
            with connection, framefd.recv_header(connection) as request:
                return framefd.serve_file(connection, request, self.directory / "root")

        with socket.create_server(("127.0.0.1", 0)) as listener:
            host, port = listener.getsockname()
            with support.meanwhile(lambda: serve(listener)) as served:
                local = str(self.directory / "local")
                result = run(peer("file_client", host, str(port), "put", local))
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        self.assertEqual(served[0].size, len(self.data))
        self.assertEqual((self.directory / "root" / "local").read_bytes(), self.data)


if __name__ == "__main__":
    unittest.main()
