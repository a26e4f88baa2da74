"""Files: both sides, and against plain peers."""

from __future__ import annotations

import _thread
import contextlib
import gc
import hashlib
import io
import math
import os
import pathlib
import socket
import stat
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import support
from driver import peer, run, server

import framefd
from framefd import ErrorCode


class Files(unittest.TestCase):
    def setUp(self) -> None:
        pair = support.connections()
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
        request = self.theirs.recv_header()
        return self.theirs.serve_file(request, self.root, **options)

    def put(self, *args: Any, server: Any = (), **options: Any) -> framefd.FileResult:
        with support.meanwhile(lambda: self.serve(**dict(server))) as self.served:
            return self.ours.put(*args, **options)

    def get(self, *args: Any, server: Any = (), **options: Any) -> framefd.FileResult:
        with support.meanwhile(lambda: self.serve(**dict(server))) as self.served:
            return self.ours.get(*args, **options)

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
            self.ours.put(self.local / "a", "a\0b")

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
        with open(self.local / "a", "rb") as source, self.assertRaises(TypeError):
            self.ours.put(source)

    def test_a_file_of_proc_is_whole(self) -> None:
        version = pathlib.Path("/proc/version").read_bytes()
        self.assertEqual(self.put("/proc/version").size, len(version))
        self.assertEqual((self.root / "version").read_bytes(), version)

    def test_modes_and_overwriting(self) -> None:
        self.put(self.local / "a", mode=0o640)
        self.assertEqual(stat.S_IMODE((self.root / "a").stat().st_mode), 0o640)
        with self.assertRaises(FileExistsError) as there:
            self.put(self.local / "a", overwrite=False)
        assert isinstance(there.exception, framefd.ExistsError)
        self.assertTrue(there.exception.remote)
        self.assertEqual(self.served[0].error, ErrorCode.EXIST)
        self.get("a", self.local / "c", mode=0o600)
        self.assertEqual(stat.S_IMODE((self.local / "c").stat().st_mode), 0o600)
        os.chmod(self.local / "a", 0o700)
        for name, kept in (("a", 0o640), ("new", 0o700)):
            self.put(self.local / "a", name)
            self.assertEqual(stat.S_IMODE((self.root / name).stat().st_mode), kept)
        for target, kept in ((self.local / "c", 0o600), (self.local / "new", 0o700)):
            self.get("new", target)
            self.assertEqual(stat.S_IMODE(target.stat().st_mode), kept)
        for mode in (0o4755, -1, 0):
            with self.assertRaises(ValueError):
                self.ours.put(self.local / "a", mode=mode)
        target = self.local / "c"
        self.breaks_off(
            framefd.ExistsError, lambda: self.ours.get("a", target, overwrite=False)
        )

    def test_in_place(self) -> None:
        stored, link = self.root / "stored", self.local / "link"
        stored.write_bytes(b"old")
        os.link(stored, link)
        self.put(self.local / "a", "stored", in_place=True)
        self.assertEqual(link.read_bytes(), self.data)
        (self.root / "new").write_bytes(b"new")
        self.get("new", link, in_place=True)
        self.assertEqual(stored.read_bytes(), b"new")
        for wrong in ({"overwrite": False}, {"reply": False}):
            with self.assertRaisesRegex(ValueError, "in_place"):
                self.ours.put(self.local / "a", in_place=True, **wrong)
        with self.assertRaisesRegex(ValueError, "in_place"):
            self.ours.get("new", io.BytesIO(), in_place=True)
        os.mkfifo(self.root / "fifo")
        with self.assertRaises(framefd.DeniedError):
            self.put(self.local / "a", "fifo", in_place=True)

    def test_what_is_refused_leaves_the_connection_in_step(self) -> None:
        with self.assertRaises(FileNotFoundError) as missing:
            self.get("missing", self.local / "c")
        assert isinstance(missing.exception, framefd.NotFoundError)
        self.assertTrue(missing.exception.remote)
        self.assertFalse((self.local / "c").exists())
        with self.assertRaises(FileNotFoundError) as nothing:
            self.ours.put(self.local / "missing")
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
        self.breaks_off(framefd.TooBigError, lambda: self.ours.get("a", target, max_size=1000))
        self.assertFalse(target.exists())

    def test_without_checksum_and_sync(self) -> None:
        self.assertEqual(self.put(self.local / "a", checksum=False).sha256, "")
        self.assertEqual((self.root / "a").read_bytes(), self.data)

    def test_progress(self) -> None:
        seen: list[tuple[int, int]] = []

        def note(name: str, done: int, total: int) -> None:
            self.assertEqual(name, "a")
            seen.append((done, total))

        for transfer, *names in (
            (self.put, self.local / "a"),
            (self.get, "a", self.local / "c"),
        ):
            seen.clear()
            transfer(*names, progress=note)
            self.assertEqual(seen[-1], (len(self.data), len(self.data)))
            self.assertEqual(seen, sorted(seen))

    def test_a_callback_leaves_nothing_behind(self) -> None:
        def classes() -> int:
            return sum(kind.__name__ == "Call" for kind in Exception.__subclasses__())

        self.put(self.local / "a", progress=print_nothing)
        before = classes()
        gc.disable()
        self.addCleanup(gc.enable)
        for _ in range(20):
            self.put(self.local / "a", progress=print_nothing)
        self.assertEqual(classes(), before)

    def test_an_exception_in_progress_ends_the_transfer_and_comes_out(self) -> None:
        class Enough(BaseException):
            pass

        def stop(_: str, done: int, total: int) -> None:
            if done:
                raise Enough(done)

        source = self.local / "a"
        self.breaks_off(Enough, lambda: self.ours.put(source, progress=stop))
        self.assertEqual(os.listdir(self.root), [])

    def test_a_server_that_stalls(self) -> None:
        for name in ("stall", "timeout"):
            with support.connections() as (ours, _), self.assertRaises(TimeoutError):
                ours.get("a", self.local / "c", **{name: 0.01})  # type: ignore[arg-type]

    def test_the_root_as_a_descriptor(self) -> None:
        root = os.open(self.root, os.O_RDONLY)
        before = os.listdir("/proc/self/fd")

        def serve() -> framefd.FileResult:
            request = self.theirs.recv_header()
            return self.theirs.serve_file(request, root)

        with support.meanwhile(serve):
            self.ours.put(self.local / "a")
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        os.close(root)
        self.assertEqual((self.root / "a").read_bytes(), self.data)

    def test_ctrl_c_ends_the_transfer_and_comes_out(self) -> None:
        source = self.local / "a"

        def serve() -> None:
            with contextlib.suppress(framefd.FrameError):
                request = self.theirs.recv_header()
                _thread.interrupt_main()  # which is sending more than there is room for
                self.theirs.serve_file(request, self.root)

        with support.meanwhile(serve):
            with self.assertRaises(KeyboardInterrupt):
                self.ours.put(source)
            self.ours.close()
        self.assertEqual(os.listdir(self.root), [])

    def test_modes_and_times_go_along(self) -> None:
        source, target = self.local / "a", self.local / "c"
        os.chmod(source, 0o640)
        os.utime(source, (1e9, 1e9 + 0.25))
        self.put(source, preserve=True)
        stored = (self.root / "a").stat()
        self.assertEqual((stat.S_IMODE(stored.st_mode), stored.st_mtime), (0o640, 1e9 + 0.25))
        self.get("a", target, preserve=True)
        fetched = target.stat()
        self.assertEqual((stat.S_IMODE(fetched.st_mode), fetched.st_mtime), (0o640, 1e9 + 0.25))
        for seconds in (-1.5, 0):
            self.put(source, "b", mtime=seconds)
            self.assertEqual((self.root / "b").stat().st_mtime, seconds)
        for wrong in (math.nan, math.inf, -1e30):
            with self.assertRaises(ValueError):
                self.ours.put(source, mtime=wrong)

    def test_directories_that_are_missing(self) -> None:
        with self.assertRaises(framefd.NotFoundError):
            self.put(self.local / "a", "x/y/a")
        self.put(self.local / "a", "x/y/a", parents=True)
        self.assertEqual((self.root / "x/y/a").read_bytes(), self.data)

    def test_what_the_other_side_has_is_not_sent(self) -> None:
        size = len(self.data)
        self.put(self.local / "a")
        with open(self.local / "c", "w+b") as target:
            target.write(b"before" + self.data[:-5])
            result = self.get("a", target, offset=size - 5)
            self.assertEqual((result.size, target.tell()), (size, 6 + size))
            target.seek(6)
            self.assertEqual(target.read(), self.data)
            with self.assertRaises(framefd.ChecksumError) as others:
                target.seek(-1, os.SEEK_CUR)
                self.get("a", target, offset=size - 5)
            self.assertTrue(others.exception.remote)
        with tempfile.TemporaryFile() as target:
            self.get("a", target, offset=size - 5, checksum=False)
            target.seek(0)
            self.assertEqual(target.read(), self.data[-5:])
            with self.assertRaises(framefd.MalformedError):
                self.get("a", target, offset=size + 1, checksum=False)
            for wrong in (-1, 2**64):
                with self.assertRaises(ValueError):
                    self.ours.get("a", target, offset=wrong)
        (self.root / "b").write_bytes(self.data[:1000])
        with open(self.local / "a", "rb") as source:
            source.seek(1000)
            self.assertEqual(self.put(source, "b", offset=1000).size, size)
        self.assertEqual((self.root / "b").read_bytes(), self.data)

    def test_a_rate(self) -> None:
        (self.local / "b").write_bytes(self.data[:300_000])
        transfers: list[Callable[[], Any]] = [
            lambda: self.put(self.local / "b", rate=1_000_000),
            lambda: self.get("b", self.local / "c", rate=1_000_000),
            lambda: self.get("b", self.local / "c", server={"rate": 1_000_000}),
        ]
        for transfer in transfers:
            begin = time.monotonic()
            transfer()
            self.assertGreater(time.monotonic() - begin, 0.15)
        self.assertEqual((self.local / "c").read_bytes(), self.data[:300_000])
        with self.assertRaises(ValueError):
            self.ours.put(self.local / "b", rate=0)


class Resuming(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.local = pathlib.Path(directory.name) / "local"
        self.root = pathlib.Path(directory.name) / "root"
        self.local.mkdir()
        self.root.mkdir()
        self.data = os.urandom(5 << 20)
        self.asked: list[framefd.FileInquiry] = []

    @contextlib.contextmanager
    def server(self) -> Iterator[framefd.Connection]:
        """A connection, and its server until the client closes or breaks off."""

        def serve() -> None:
            with theirs, contextlib.suppress(framefd.FrameError):
                while True:
                    request = theirs.recv_header()
                    theirs.serve_file(request, self.root, policy=self.asked.append)

        with support.connections() as (ours, theirs), support.meanwhile(serve):
            with ours:
                yield ours

    def cut(self, transfer: Callable[..., Any]) -> None:
        """Breaks a transfer off when half of it has passed."""

        class Cut(Exception):
            pass

        def stop(_: str, done: int, total: int) -> None:
            if done > total // 2:
                raise Cut

        with self.server() as fd, self.assertRaises(Cut):
            transfer(fd, progress=stop, resume=True)

    def test_a_put_goes_on_where_it_was_cut(self) -> None:
        source = self.local / "a"
        source.write_bytes(self.data)
        self.cut(lambda fd, **options: fd.put(source, **options))
        self.assertFalse((self.root / "a").exists())
        with self.server() as fd:
            there = fd.partial("a")
            self.assertTrue(0 < there.size < len(self.data))
            self.assertEqual(there.sha256, sha256(self.data[: there.size]))
            self.asked.clear()
            result = fd.put(source, resume=True)
            put = next(inquiry for inquiry in self.asked if inquiry.cmd == "put")
            self.assertEqual(put.header["offset"], there.size)
            self.assertEqual(put.filesize, len(self.data))
            with self.assertRaises(framefd.NotFoundError):
                fd.partial("a")
        self.assertEqual(result, (len(self.data), sha256(self.data), 0))
        self.assertEqual((self.root / "a").read_bytes(), self.data)
        self.assertEqual(os.listdir(self.root), ["a"])

    def test_a_get_goes_on_where_it_was_cut(self) -> None:
        target = self.local / "a"
        (self.root / "a").write_bytes(self.data)
        self.cut(lambda fd, **options: fd.get("a", target, **options))
        self.assertFalse(target.exists())
        (left,) = self.local.iterdir()
        there = left.stat().st_size
        self.assertTrue(0 < there < len(self.data))
        self.asked.clear()
        with self.server() as fd:
            result = fd.get("a", target, resume=True)
        self.assertEqual(self.asked[0].header["offset"], there)
        self.assertEqual(result, (len(self.data), sha256(self.data), 0))
        self.assertEqual(target.read_bytes(), self.data)
        self.assertEqual(os.listdir(self.local), ["a"])

    def test_what_has_changed_meanwhile_is_sent_anew(self) -> None:
        source, target = self.local / "a", self.local / "b"
        source.write_bytes(self.data)
        self.cut(lambda fd, **options: fd.put(source, **options))
        changed = b"!" + self.data[1:]
        source.write_bytes(changed)
        with self.server() as fd:
            fd.put(source, resume=True)
        self.assertEqual((self.root / "a").read_bytes(), changed)
        self.cut(lambda fd, **options: fd.get("a", target, **options))
        (self.root / "a").write_bytes(self.data)
        with self.server() as fd:
            fd.get("a", target, resume=True)
        self.assertEqual(target.read_bytes(), self.data)


class Policies(unittest.TestCase):
    def setUp(self) -> None:
        pair = support.connections()
        self.ours, self.theirs = pair.__enter__()
        self.addCleanup(pair.__exit__, None, None, None)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name) / "root"
        self.root.mkdir()
        self.file = pathlib.Path(directory.name) / "file"
        self.file.write_bytes(b"four")

    def serve(self, policy: Any) -> framefd.FileResult:
        request = self.theirs.recv_header()
        return self.theirs.serve_file(request, self.root, policy=policy)

    def put(self, policy: Any, name: str | bytes) -> list[framefd.FileResult]:
        with support.meanwhile(lambda: self.serve(policy)) as served:
            self.ours.put(self.file, name)
        return served

    def test_what_is_asked(self) -> None:
        seen: list[framefd.FileInquiry] = []
        self.put(seen.append, "a")
        self.assertEqual((seen[0].cmd, seen[0].name, seen[0].filesize), ("put", "a", 4))
        self.assertEqual(seen[0].header["filename"], "a")
        self.put(seen.append, b"\xff")
        self.assertEqual(seen[1].name, os.fsdecode(b"\xff"))
        asking: list[Callable[[], Any]] = [
            lambda: self.ours.get("a", self.file),
            self.ours.stat,
            lambda: self.ours.listdir("b"),
            lambda: self.ours.mkdir("c"),
        ]
        for ask in asking:
            with support.meanwhile(lambda: self.serve(seen.append)):
                with contextlib.suppress(framefd.NotFoundError):
                    ask()
        asked = [(inquiry.cmd, inquiry.name, inquiry.filesize) for inquiry in seen[2:]]
        expected = [("get", "a"), ("stat", ""), ("list", "b"), ("mkdir", "c")]
        self.assertEqual(asked, [(*ask, None) for ask in expected])

    def test_a_put_of_the_rest_is_a_get_too(self) -> None:
        (self.root / "a").write_bytes(b"four")
        seen: list[framefd.FileInquiry] = []
        with (
            open(self.file, "rb") as source,
            support.meanwhile(lambda: self.serve(seen.append)),
        ):
            source.seek(2)
            self.ours.put(source, "a", offset=2)
        asked = [(inquiry.cmd, inquiry.header["cmd"]) for inquiry in seen]
        self.assertEqual(asked, [("put", "put"), ("get", "put")])

    def test_a_refusal_has_a_code_and_a_reason(self) -> None:
        def policy(inquiry: framefd.FileInquiry) -> None:
            if inquiry.name == "no":
                raise PermissionError("not this one")
            if inquiry.filesize is not None and inquiry.filesize > 3:
                raise framefd.TooBigError(ErrorCode.TOOBIG, "3 bytes at most")

        for name, kind, code, text in (
            ("no", framefd.DeniedError, ErrorCode.ACCES, "not this one"),
            ("a", framefd.TooBigError, ErrorCode.TOOBIG, "3 bytes at most"),
        ):
            with support.meanwhile(lambda: self.serve(policy)) as served:
                with self.assertRaisesRegex(kind, text) as refused:
                    self.ours.put(self.file, name)
            self.assertTrue(refused.exception.remote)
            self.assertEqual(served[0].error, code)
        self.assertEqual(os.listdir(self.root), [])
        self.file.write_bytes(b"two")
        self.put(policy, "a")
        self.assertEqual(os.listdir(self.root), ["a"])

    def test_other_exceptions_refuse_and_come_out(self) -> None:
        class Defect(BaseException):
            pass

        raised: list[BaseException] = []

        def policy(_: object) -> None:
            raise Defect

        def serve() -> None:
            try:
                self.serve(policy)
            except BaseException as error:
                raised.append(error)

        with support.meanwhile(serve), self.assertRaises(framefd.DeniedError):
            self.ours.put(self.file, "a")
        self.assertIsInstance(raised[0], Defect)
        self.assertEqual(os.listdir(self.root), [])
        self.put(lambda _: None, "a")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
            with framefd.accept(listener) as connection:
                request = connection.recv_header()
                return connection.serve_file(request, self.directory / "root")

        with socket.create_server(("127.0.0.1", 0)) as listener:
            host, port = listener.getsockname()
            with support.meanwhile(lambda: serve(listener)) as served:
                local = str(self.directory / "local")
                result = run(peer("file_client", host, str(port), "put", local))
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        self.assertEqual(served[0].size, len(self.data))
        self.assertEqual((self.directory / "root" / "local").read_bytes(), self.data)


def print_nothing(*_: object) -> None:
    pass


if __name__ == "__main__":
    unittest.main()
