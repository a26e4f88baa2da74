"""Directories: what is in them, whole trees there and back, what is left of the dead."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import pickle
import socket
import stat
import tempfile
import unittest
from collections.abc import Iterator
from typing import Any

import support

import framefd
from framefd import Entry, FileStat, TreeResult


class Case(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.local = pathlib.Path(directory.name) / "local"
        self.root = pathlib.Path(directory.name) / "root"
        self.local.mkdir()
        self.root.mkdir()
        self.addCleanup(os.umask, os.umask(0o022))

    @contextlib.contextmanager
    def server(self, **options: Any) -> Iterator[framefd.Connection]:
        """A connection, and its server until the client closes or breaks off."""

        def serve() -> None:
            with theirs, contextlib.suppress(framefd.FrameError):
                while True:
                    theirs.serve_file(theirs.recv_header(), self.root, **options)

        ours, theirs = map(framefd.Connection, socket.socketpair())
        with support.meanwhile(serve), ours:
            yield ours


class Queries(Case):
    def test_stat(self) -> None:
        (self.root / "file").write_bytes(b"four")
        os.chmod(self.root / "file", 0o604)
        os.utime(self.root / "file", (1, 1234567.891))
        (self.root / "link").symlink_to("file")
        os.mkfifo(self.root / "fifo")
        with self.server() as server:
            self.assertEqual(server.stat("file"), FileStat("file", 4, 0o604, 1234567.891))
            self.assertEqual(server.stat("link").kind, "symlink")
            self.assertEqual(server.stat("fifo").kind, "other")
            for name in ("", b""):
                self.assertEqual(server.stat(name).kind, "dir")
            self.assertEqual(server.stat(), server.stat(""))
            with self.assertRaises(FileNotFoundError) as missing:
                server.stat("none")
            assert isinstance(missing.exception, framefd.NotFoundError)
            self.assertTrue(missing.exception.remote)
            with self.assertRaises(framefd.DeniedError):
                server.stat("../file")
            with self.assertRaises(ValueError):
                server.stat("a\0b")

    def test_a_list_has_names_of_any_bytes(self) -> None:
        names = [b"a b", b"caf\xc3\xa9", b"caf\xe9", b"quote\"'\\"]
        for name in names:
            (self.root / os.fsdecode(name)).write_bytes(name)
        (self.root / "sub").mkdir(0o750)
        (self.root / "sub" / "link").symlink_to(os.fsdecode(b"../caf\xe9"))
        (self.root / ".framefd-0123456789abcdef.part").touch()
        with self.server() as server:
            found = server.listdir()
            expected = sorted([*names, b"sub"])
            self.assertEqual([entry.name for entry in found], [*map(os.fsdecode, expected)])
            self.assertEqual([os.fsencode(entry.name) for entry in found], expected)
            for entry in found:
                self.assertEqual(entry[1:5], server.stat(entry.name))
                self.assertIsNone(entry.target)
            self.assertEqual((found[-1].kind, found[-1].mode), ("dir", 0o750))
            (link,) = server.listdir("sub")
            target = os.fsdecode(b"../caf\xe9")
            self.assertEqual((link.name, link.kind, link.target), ("link", "symlink", target))
            self.assertIsInstance(link, Entry)
            with self.assertRaises(framefd.NotFoundError):
                server.listdir("none")
            with self.assertRaises(framefd.FrameError) as wrong:
                server.listdir("a b")
            self.assertTrue(wrong.exception.remote)

    def test_a_name_that_leads_out_is_no_name(self) -> None:
        with support.connections() as (ours, theirs):

            def serve() -> None:
                body = b'[{"name":"../x","kind":"file","size":1,"mode":1,"mtime":1}]'
                theirs.reply(theirs.recv(), {}, body)
                theirs.flush()

            with support.meanwhile(serve), self.assertRaises(framefd.MalformedError):
                ours.listdir()

    def test_mkdir(self) -> None:
        with self.server() as server:
            server.mkdir("a", 0o700)
            server.mkdir("a")
            self.assertEqual(server.stat("a").mode, 0o700)
            with self.assertRaises(framefd.NotFoundError):
                server.mkdir("b/c/d")
            server.mkdir("b/c/d", parents=True)
            self.assertEqual(server.stat("b/c/d").mode, 0o755)
            (self.root / "file").touch()
            with self.assertRaises(framefd.FrameError) as there:
                server.mkdir("file")
            self.assertTrue(there.exception.remote)
            with self.assertRaises(ValueError):
                server.mkdir("a", 0o7777)
            self.assertEqual([entry.name for entry in server.listdir()], ["a", "b", "file"])

    def test_exceptions_name_the_file(self) -> None:
        with self.server() as server:
            for call in (
                lambda: server.stat("gone"),
                lambda: server.listdir("gone"),
                lambda: server.get("gone", self.local / "here"),
                lambda: server.put(self.local / "gone"),
            ):
                with self.assertRaises(FileNotFoundError) as missing:
                    call()
                error = missing.exception
                self.assertEqual(error.errno, errno.ENOENT)
                self.assertEqual(os.path.basename(error.filename), "gone")
                self.assertEqual(pickle.loads(pickle.dumps(error)).filename, error.filename)

    def test_a_server_that_does_not_answer(self) -> None:
        for name in ("stat", "listdir", "partial", "mkdir"):
            with support.connections() as (ours, _):
                with self.assertRaises(TimeoutError):
                    getattr(ours, name)("x", timeout=0.01)
                with self.assertRaises(framefd.BrokenError):
                    ours.stat()


class Trees(Case):
    def setUp(self) -> None:
        super().setUp()
        self.tree = self.local / "tree"
        (self.tree / "sub").mkdir(parents=True)
        (self.tree / "empty").mkdir()
        (self.tree / "one").write_bytes(b"1")
        (self.tree / "sub" / os.fsdecode(b"\xff")).write_bytes(b"22")
        (self.tree / "link").symlink_to("one")
        os.chmod(self.tree / "one", 0o640)
        os.utime(self.tree / "one", (1e9, 1e9))

    def test_there_and_back(self) -> None:
        with self.server() as server:
            self.assertEqual(server.put_tree(self.tree), TreeResult(2, 3, 0, 1, 3))
            self.assertEqual(content(self.root / "tree"), content(self.tree) - {"link"})
            self.assertEqual(server.put_tree(str(self.tree) + "/", b"b").files, 2)
            got = server.get_tree("b", self.local / "back")
            self.assertEqual(got, TreeResult(2, 3, 0, 0, 3))
            self.assertEqual(content(self.local / "back"), content(self.root / "tree"))
            self.assertEqual((self.local / "back" / "one").read_bytes(), b"1")
            with self.assertRaises(framefd.NotFoundError):
                server.get_tree("none", self.local / "c")
            with self.assertRaises(FileNotFoundError):
                server.put_tree(self.local / "none")

    def test_links(self) -> None:
        with self.server() as server:
            with self.assertRaisesRegex(framefd.PathError, "link"):
                server.put_tree(self.tree, links="refuse")
        with self.server() as server:
            followed = server.put_tree(self.tree, "followed", links="follow")
            self.assertEqual((followed.files, followed.skipped), (3, 0))
            self.assertEqual((self.root / "followed" / "link").read_bytes(), b"1")
            self.assertFalse((self.root / "followed" / "link").is_symlink())
            self.assertEqual(server.put_tree(self.tree, "copied", links="copy").links, 1)
            self.assertEqual(os.readlink(self.root / "copied" / "link"), "one")
            back = self.local / "back"
            self.assertEqual(server.get_tree("copied", back, links="copy").links, 1)
            self.assertEqual(os.readlink(back / "link"), "one")
            self.assertEqual(server.get_tree("copied", self.local / "c").skipped, 1)
        for options in ({"links": "follow"}, {"links": "refuse"}):
            with self.server() as server, self.assertRaises(ValueError):
                server.get_tree("copied", self.local / "d", **options)  # type: ignore[arg-type]
        with self.server() as server, self.assertRaises(ValueError):
            server.put_tree(self.tree, links="some")  # type: ignore[arg-type]

    def test_links_that_lead_out(self) -> None:
        (self.tree / "sub" / "out").symlink_to("../../out")
        (self.local / "out").write_bytes(b"secret")
        for links in ("copy", "follow"):
            with self.server() as server:
                self.assertEqual(server.put_tree(self.tree, links, links=links).skipped, 1)
            self.assertFalse(os.path.lexists(self.root / links / "sub" / "out"))

    def test_what_is_the_same_is_passed_over(self) -> None:
        both: dict[str, Any] = {"preserve": True, "resume": True}
        with self.server() as server:
            self.assertEqual(server.put_tree(self.tree, **both).files, 2)
            stored = (self.root / "tree" / "one").stat()
            self.assertEqual((stat.S_IMODE(stored.st_mode), stored.st_mtime), (0o640, 1e9))
            again = server.put_tree(self.tree, **both)
            self.assertEqual((again.files, again.skipped, again.bytes), (2, 1, 0))
            (self.tree / "one").write_bytes(b"changed")
            again = server.put_tree(self.tree, **both)
            self.assertEqual((again.files, again.bytes), (2, 7))
            back = self.local / "back"
            self.assertEqual(server.get_tree("tree", back, **both).bytes, 9)
            self.assertEqual(server.get_tree("tree", back, **both).bytes, 0)
            self.assertEqual((back / "one").read_bytes(), b"changed")

    def test_the_files_stay_the_same(self) -> None:
        for directory in (self.local, self.root):
            (directory / "a").write_bytes(b"a of " + directory.name.encode())
            os.link(directory / "a", directory.parent / directory.name[::-1])
        with self.server() as server:
            server.put_tree(self.local, "", in_place=True)
            self.assertEqual((self.root.parent / "toor").read_bytes(), b"a of local")
            (self.root / "a").write_bytes(b"new")
            server.get_tree("", self.local, in_place=True)
            self.assertEqual((self.local.parent / "lacol").read_bytes(), b"new")

    def test_progress_is_that_of_the_whole_tree(self) -> None:
        seen: list[tuple[str, int, int]] = []
        with self.server() as server:
            server.put_tree(self.tree, progress=lambda *now: seen.append(now))
        done = [now[1:] for now in seen]
        self.assertEqual(done, sorted(done))
        self.assertEqual(done[-1], (3, 3))
        self.assertLessEqual(
            {name for name, _, _ in seen}, {"tree/one", os.fsdecode(b"tree/sub/\xff")}
        )

        class Enough(Exception):
            pass

        def stop(*_: object) -> None:
            raise Enough

        with self.server() as server, self.assertRaises(Enough):
            server.get_tree("tree", self.local / "back", progress=stop)

    def test_a_failure_says_where(self) -> None:
        def policy(inquiry: framefd.FileInquiry) -> None:
            if inquiry.name == "tree/one":
                raise PermissionError("not one")

        with self.server(policy=policy) as server:
            with self.assertRaisesRegex(framefd.IncompleteError, "tree/one.*not one") as failed:
                server.put_tree(self.tree)
            self.assertEqual(failed.exception.result, TreeResult(1, 3, 0, 1, 2, 1))
            self.assertEqual(server.stat("tree").kind, "dir")
            again = pickle.loads(pickle.dumps(failed.exception))
            self.assertEqual(again.result, failed.exception.result)

    def test_limits(self) -> None:
        with self.server() as server:
            server.put_tree(self.tree)
            with self.assertRaisesRegex(framefd.IncompleteError, "exists"):
                server.put_tree(self.tree, overwrite=False)
            with self.assertRaisesRegex(framefd.IncompleteError, "limit is 1") as left_out:
                server.get_tree("tree", self.local / "back", max_size=1)
            self.assertEqual(left_out.exception.result, TreeResult(1, 3, 0, 0, 1, 1))
            self.assertEqual((self.local / "back" / "one").read_bytes(), b"1")

    def test_a_tree_into_itself(self) -> None:
        (self.root / "sub").mkdir()
        (self.root / "sub" / "file").touch()
        with self.server() as server:
            put = server.put_tree(self.root, "sub/copy")
            self.assertEqual((put.files, put.skipped), (1, 1))
            got = server.get_tree("sub", self.root / "sub" / "fetched")
            self.assertEqual((got.files, got.skipped), (2, 0))

    def test_names_of_any_bytes(self) -> None:
        for name in ("Icon\r", "a\nb", "\x1b[2J"):
            (self.tree / name).write_bytes(name.encode())
        with self.server() as server:
            server.put_tree(self.tree)
            server.get_tree("tree", self.local / "back")
        self.assertEqual(content(self.local / "back"), content(self.tree) - {"link"})


class Sweeping(Case):
    def test_what_is_old_and_ours_goes(self) -> None:
        (self.root / "sub").mkdir()
        ours = [".framefd-0123456789abcdef.tmp", ".framefd-0123456789abcdef.part"]
        for place in (self.root, self.root / "sub"):
            for name in (*ours, "kept", ".framefd-fedcba9876543210.part"):
                (place / name).touch()
                if "fedc" not in name:
                    os.utime(place / name, (1000, 1000))
        root = os.open(self.root, os.O_RDONLY)
        self.addCleanup(os.close, root)
        self.assertEqual(framefd.sweep(root, older_than=3600), 4)
        new = [".framefd-fedcba9876543210.part", "kept"]
        self.assertEqual(sorted(os.listdir(self.root / "sub")), new)
        self.assertEqual(framefd.sweep(self.root), 0)
        for place in (self.root, self.root / "sub"):
            os.utime(place / new[0], (1000, 1000))
        self.assertEqual(framefd.sweep(self.root, older_than=0), 2)
        self.assertEqual(sorted(os.listdir(self.root)), ["kept", "sub"])
        for wrong in (-1, float("nan"), float("inf")):
            with self.assertRaises(ValueError):
                framefd.sweep(self.root, older_than=wrong)
        with self.assertRaises(FileNotFoundError):
            framefd.sweep(self.root / "none")


def content(directory: pathlib.Path) -> set[str]:
    """The names of all that is in it."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


if __name__ == "__main__":
    unittest.main()
