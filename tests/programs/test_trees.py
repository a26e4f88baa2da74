"""Files that were cut and go on, directories, and what a server has."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import time
import unittest

from pairs import OURS, Case, launch

CONTENT = os.urandom(8_000_000)
HALF, LEAST = 4_000_000, 2_000_000  # what passes before a cut, and what of it is kept
DAY = 24 * 60 * 60

# Names of the server, and how they are shown.
NAMES = {
    b"plain": b"plain",
    b"with blanks": b"with blanks",
    "\N{SNOWMAN} \u4e2d\u6587".encode(): "\N{SNOWMAN} \u4e2d\u6587".encode(),
    b"two\nlines\t\x1b[31m\x7f": b"two\\x0alines\\x09\\x1b[31m\\x7f",
    b"back\\slash\\x0a": b"back\\\\slash\\\\x0a",
    "\x80\x9b\u00a0".encode(): b"\\xc2\\x80\\xc2\\x9b\xc2\xa0",
    b"no text \xff\xc2": b"no text \xff\xc2",
}


class Trees(Case):
    def root(self, *names: str) -> pathlib.Path:
        """A directory of its own for each pair."""
        root = self.directory / "-".join(names) / "root"
        root.mkdir(parents=True)
        return root

    def test_a_put_goes_on_where_it_was_cut(self) -> None:
        source = self.directory / "source"
        source.write_bytes(CONTENT)

        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(file_server(server, root)) as running:
                request = ("put", "--resume", str(source), "target")
                with launch.Line(running, most=HALF) as line:
                    kill_in_the_middle(line, root, client, *request)
                    self.assertFalse((root / "target").exists())
                launch.wait_for_partial(root, LEAST, free=True)
                with launch.Line(running) as line:
                    said = self.succeed(line, client, *request)
                    self.assertLess(line.sent, len(CONTENT) - LEAST + 10_000)
                self.assertEqual(said, f"put target: {len(CONTENT)} bytes, sha256 {DIGEST}\n")
                self.assertEqual(os.listdir(root), ["target"])
                self.assertTrue((root / "target").read_bytes() == CONTENT, "it is changed")

        self.each(OURS, check)

    def test_a_put_takes_over_from_the_one_before(self) -> None:
        source = self.directory / "source"
        source.write_bytes(CONTENT)

        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(file_server(server, root)) as running:
                request = ("put", "--resume", str(source), "target")
                with launch.Line(running, most=HALF) as line:
                    kill_in_the_middle(line, root, client, *request)
                launch.wait_for_partial(root, LEAST, free=True)
                (partial,) = root.glob(".framefd-*.part")
                with open(partial, "rb") as file:
                    # A server whose client is silent has it.
                    fcntl.flock(file, fcntl.LOCK_EX)
                    os.utime(partial, (time.time() - 1.5,) * 2)
                    self.succeed(running, client, *request)
                self.assertTrue((root / "target").read_bytes() == CONTENT, "it is changed")

        self.each(OURS, check)

    def test_a_get_goes_on_where_it_was_cut(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            (root / "source").write_bytes(CONTENT)
            here = root.parent / "here"
            here.mkdir()
            with launch.server(file_server(server, root)) as running:
                request = ("get", "--resume", "source", str(here / "target"))
                with launch.Line(running, most=HALF) as line:
                    kill_in_the_middle(line, here, client, *request)
                    self.assertFalse((here / "target").exists())
                with launch.Line(running) as line:
                    said = self.succeed(line, client, *request)
                    self.assertLess(line.received, len(CONTENT) - LEAST + 10_000)
                self.assertEqual(said, f"get source: {len(CONTENT)} bytes, sha256 {DIGEST}\n")
                self.assertEqual(os.listdir(here), ["target"])
                self.assertTrue((here / "target").read_bytes() == CONTENT, "it is changed")

        self.each(OURS, check)

    def test_another_file_is_sent_from_its_beginning(self) -> None:
        source, other = self.directory / "source", self.directory / "other"
        source.write_bytes(CONTENT)
        other.write_bytes(CONTENT[::-1])

        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(file_server(server, root)) as running:
                with launch.Line(running, most=HALF) as line:
                    kill_in_the_middle(
                        line, root, client, "put", "--resume", str(source), "target"
                    )
                launch.wait_for_partial(root, LEAST, free=True)
                self.succeed(running, client, "put", "--resume", str(other), "target")
                self.assertTrue((root / "target").read_bytes() == CONTENT[::-1])

        self.each(OURS, check)

    def test_what_was_cut_long_ago_is_removed_when_a_server_starts(self) -> None:
        def check(server: str) -> None:
            root = self.root(server)
            old, new = (root / f".framefd-{digit * 16}.part" for digit in "01")
            (root / "below").mkdir()
            for path in (old, root / "below" / old.name, root / "kept"):
                path.write_bytes(b"old")
                os.utime(path, (time.time() - 2 * DAY,) * 2)
            new.write_bytes(b"new")
            with launch.server(file_server(server, root)):
                pass
            left = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
            self.assertEqual(left, [new.name, "below", "kept"])

        self.each([(language,) for language in launch.LANGUAGES], check)

    def test_a_tree_there_and_back(self) -> None:
        tree = self.tree()

        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            back = root.parent / "back"
            counts = "300005 bytes, files: 3, directories: 3, left out: "
            with launch.server(file_server(server, root)) as running:
                # A shell puts a slash behind a directory.
                said = self.succeed(running, client, "put", "-r", f"{tree}/")
                self.assertEqual(said, f"put tree: {counts}1\n")
                self.assertEqual(listing(root / "tree"), listing(tree))
                said = self.succeed(running, client, "get", "-r", "tree", str(back))
                self.assertEqual(said, f"get tree: {counts}0\n")
                self.assertEqual(listing(back), listing(tree))
                # What is the same already does not pass again.
                (back / "small").write_bytes(b"later")
                said = self.succeed(running, client, "put", "-r", "--resume", str(back), "tree")
                counts = "5 bytes, files: 3, directories: 3, left out: 0"
                self.assertEqual(said, f"put tree: {counts}\n")
                self.assertEqual((root / "tree" / "small").read_bytes(), b"later")

        self.each(OURS, check)

    def test_what_cannot_be_stored_is_left_out_and_said(self) -> None:
        tree = self.tree()

        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            (root / "tree" / "small").mkdir(parents=True)
            with launch.server(file_server(server, root)) as running:
                words = ("put", "-r", str(tree))
                command = launch.program(client, "file_client", *running.address, *words)
                got = launch.run(command)
                said = b"put tree: 300000 bytes, files: 2, directories: 3, left out: 2\n"
                self.assertEqual((got.returncode, got.stdout), (1, said))
                self.assertRegex(got.stderr, b"^file_client: not all.*tree/small")
                self.assertEqual(got.stderr.count(b"\n"), 1)

        self.each(OURS, check)

    def test_a_file_goes_into_a_directory(self) -> None:
        tree = self.tree()

        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            (root / "with blanks").mkdir()
            here = root.parent / "here too"
            here.mkdir()
            with launch.server(file_server(server, root)) as running:
                self.succeed(running, client, "put", str(tree / "small"), "with blanks/")
                self.succeed(running, client, "get", "with blanks/small", str(here))
                self.assertEqual((here / "small").read_bytes(), b"small")
                lines = (
                    b"get 'with blanks/small' \"here too/a b\"\n"
                    b"put here\\ too/a\\ b with\\ blanks/\nget 'x\n"
                )
                command = launch.program(client, "file_client", *running.address)
                got = launch.run(command, lines, str(root.parent))
                said = b"file_client: a quote is not closed, see --help\n"
                self.assertEqual((got.returncode, got.stderr), (1, said))
                self.assertEqual((root / "with blanks" / "a b").read_bytes(), b"small")

        self.each(OURS, check)

    def test_what_a_server_has(self) -> None:
        root = self.root("server")
        for seconds, name in zip(range(0, 10**9, 10**8), NAMES):
            path = os.fsencode(root) + b"/" + name
            with open(path, "wb") as file:
                file.truncate(seconds)
            os.chmod(path, 0o640)
            os.utime(path, (seconds, seconds))
        (root / "dir").mkdir()
        (root / "dir" / "link").symlink_to("gone")

        for old in (root / "dir" / "link", root / "dir", root):
            os.utime(old, (-1.5, -1.5), follow_symlinks=False)
        os.chmod(root / "dir", 0o1777)
        size = (root / "dir").stat().st_size
        directory = b"dir 1777 %d 1969-12-31T23:59:58Z " % size

        def check(server: str, client: str) -> None:
            with launch.server(file_server(server, root)) as running:
                listed = self.ask(running, client, "list")
                lines = listed.splitlines()
                self.assertEqual(len(lines), len(NAMES) + 1)
                self.assertEqual([line.split(b" ", 4)[4] for line in lines], sorted_names())
                self.assertIn(b"file 0640 100000000 1973-03-03T09:46:40Z with blanks", lines)
                self.assertIn(directory + b"dir", lines)
                told = self.ask(running, client, "stat", "dir/")
                self.assertEqual(told, directory + b"dir\n")
                link = b"symlink 0777 4 1969-12-31T23:59:58Z "
                self.assertEqual(self.ask(running, client, "list", "dir"), link + b"link\n")
                self.assertEqual(
                    self.ask(running, client, "stat", "dir/link"), link + b"dir/link\n"
                )
                told = self.ask(running, client, "stat", os.fsdecode(list(NAMES)[4]))
                self.assertIn(told.rstrip(b"\n"), lines)
                self.assertRegex(self.ask(running, client, "stat", ""), b"^dir [^\n]* \n$")
                for words in (("stat", "gone"), ("list", "gone"), ("list", "plain")):
                    command = launch.program(client, "file_client", *running.address, *words)
                    got = launch.run(command)
                    self.assertEqual((got.returncode, got.stdout), (1, b""))
                    self.assertRegex(got.stderr, b"^file_client: ")

        self.each(OURS, check)

    def test_a_prompt(self) -> None:
        tree = self.tree()
        lines = (
            "put -r tree\nlist\nget -r --resume tree back\nstat tree/small\n"
            "get --no-checksum tree/small copy\nput --no-checksum copy\n"
        )

        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            shutil.copytree(tree, root.parent / "tree", symlinks=True)
            with launch.server(file_server(server, root)) as running:
                command = launch.program(client, "file_client", *running.address)
                got = launch.run(command, lines.encode(), str(root.parent))
                self.assertEqual((got.returncode, got.stderr), (0, b""))
                self.assertEqual(listing(root.parent / "back"), listing(tree))
                shown = got.stdout.replace(b">>: ", b"").decode().splitlines()
                self.assertEqual(
                    [line.partition(": ")[0].split(" ")[0] for line in shown],
                    ["put", "dir", "get", "file", "get", "put"],
                )
                self.assertEqual(shown[4:], ["get tree/small: 5 bytes", "put copy: 5 bytes"])

        self.each(OURS, check)

    def tree(self) -> pathlib.Path:
        tree = self.directory / "tree"
        (tree / "empty").mkdir(parents=True)
        (tree / "sub").mkdir()
        (tree / "small").write_bytes(b"small")
        (tree / "sub" / "large").write_bytes(bytes(range(256)) * 1171 + bytes(224))
        (tree / "sub" / "program").write_bytes(b"")
        (tree / "sub" / "program").chmod(0o755)
        (tree / "link").symlink_to("small")
        for at, path in enumerate(tree.rglob("*")):
            os.utime(path, (10**9 + at,) * 2, follow_symlinks=False)
        return tree

    def ask(self, server: launch.Server | launch.Line, client: str, *words: str) -> bytes:
        got = launch.run(launch.program(client, "file_client", *server.address, *words))
        self.assertEqual((got.returncode, got.stderr), (0, b""), words)
        return got.stdout

    def succeed(self, server: launch.Server | launch.Line, client: str, *words: str) -> str:
        return self.ask(server, client, *words).decode()


def file_server(language: str, root: pathlib.Path) -> list[str]:
    return launch.program(language, "file_server", "--root", str(root))


def kill_in_the_middle(
    line: launch.Line, target: pathlib.Path, client: str, *words: str
) -> None:
    """Has a client killed in the middle of a transfer into a directory."""
    with launch.start(launch.program(client, "file_client", *line.address, *words)) as dying:
        launch.wait_for_partial(target, LEAST)
        dying.kill()
    line.cut()


def listing(tree: pathlib.Path) -> dict[str, tuple[object, ...]]:
    """What is in a tree, less its links: contents, modes and times."""
    found = {}
    for path in tree.rglob("*"):
        status = path.lstat()
        about: tuple[object, ...] = ()
        if path.is_file():
            about = (path.read_bytes(), status.st_mode, status.st_mtime)
        if not path.is_symlink():
            found[str(path.relative_to(tree))] = about
    return found


def sorted_names() -> list[bytes]:
    return [NAMES.get(name, name) for name in sorted([*NAMES, b"dir"])]


DIGEST = hashlib.sha256(CONTENT).hexdigest()


if __name__ == "__main__":
    unittest.main()
