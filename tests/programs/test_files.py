"""Files: every client with every server, and those from the tutorial."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from pairs import OLD, OURS, Case, in_clear, launch, peer

CONTENTS = {
    "empty": b"",
    "small": b"a\r\n\0b",
    "large": bytes(range(256)) * 12_000,
    "name with blanks and \N{SNOWMAN}": b"snow",
}


class Files(Case):
    def setUp(self) -> None:
        super().setUp()
        self.sources = self.directory / "sources"
        self.sources.mkdir()
        for name, content in CONTENTS.items():
            (self.sources / name).write_bytes(content)

    def root(self, *names: str) -> pathlib.Path:
        """A directory of its own for each pair."""
        root = self.directory / "-".join(names) / "root"
        root.mkdir(parents=True)
        return root

    def test_put_and_get(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(file_server(server, root)) as running:
                for name, content in CONTENTS.items():
                    digest = hashlib.sha256(content).hexdigest()
                    put = ask(client, running, "put", str(self.sources / name))
                    said = f"put {name}: {len(content)} bytes, sha256 {digest}\n"
                    self.assertEqual(
                        (put.stdout.decode(), put.returncode), (said, 0), put.stderr
                    )
                    self.assertEqual((root / name).read_bytes(), content)

                    copy = root.parent / "copy"
                    get = ask(client, running, "get", name, str(copy))
                    said = f"get {name}: {len(content)} bytes, sha256 {digest}\n"
                    self.assertEqual(
                        (get.stdout.decode(), get.returncode), (said, 0), get.stderr
                    )
                    self.assertEqual(copy.read_bytes(), content)

        self.each(OURS, check)

    def test_names(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(file_server(server, root)) as running:
                small = str(self.sources / "small")
                self.assertEqual(ask(client, running, "put", small, "other").returncode, 0)
                self.assertEqual((root / "other").read_bytes(), CONTENTS["small"])
                # Without a second name a file comes to the working directory.
                got = ask(client, running, "get", "other", directory=str(root.parent))
                self.assertEqual(got.returncode, 0, got.stderr)
                self.assertEqual((root.parent / "other").read_bytes(), CONTENTS["small"])

        self.each(OURS, check)

    def test_the_prompt(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(file_server(server, root)) as running:
                lines = (
                    "put small\nget missing\n\n sing\nput large there\nget there back\nquit\n"
                )
                command = launch.program(client, "file_client", *running.address)
                directory = root.parent
                for name in ("small", "large"):
                    (directory / name).write_bytes(CONTENTS[name])
                got = launch.run(command, lines.encode(), str(directory))
                self.assertEqual(got.returncode, 0, got.stderr)
                self.assertEqual((directory / "back").read_bytes(), CONTENTS["large"])
                self.assertEqual((root / "small").read_bytes(), CONTENTS["small"])
                self.assertEqual(len(got.stderr.splitlines()), 2, got.stderr)

        self.each(OURS, check)

    def test_no_name_leads_out_of_the_root(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            (root / "link").symlink_to(root.parent)
            secret = root.parent / "secret"
            secret.write_bytes(b"secret")
            with launch.server(file_server(server, root)) as running:
                for name in ("../secret", str(secret), "link/secret", "..", ".", ""):
                    copy = root.parent / "copy"
                    got = ask(client, running, "get", name, str(copy))
                    self.assertEqual((got.returncode, got.stdout), (1, b""), name)
                    self.assertRegex(got.stderr, b"^file_client: ")
                    self.assertFalse(copy.exists(), name)
                    put = ask(client, running, "put", str(self.sources / "small"), name)
                    self.assertEqual((put.returncode, put.stdout), (1, b""), name)
                    self.assertEqual(secret.read_bytes(), b"secret")

        self.each(OURS, check)

    def test_in_place(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            stored, link = root / "stored", root.parent / "link"
            stored.write_bytes(b"a content that is longer than the new one")
            os.link(stored, link)
            # A bind mount is a file that cannot be replaced; not every user may make one.
            mounted = root / "mounted"
            mounted.touch()
            mount = ["mount", "--bind", str(stored), str(mounted)]
            names = ["stored"]
            if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
                self.addCleanup(subprocess.run, ["umount", str(mounted)], check=True)
                names.append("mounted")
            with launch.server(file_server(server, root)) as running:
                for name in names:
                    for source, content in CONTENTS.items():
                        words = ("put", "--in-place", str(self.sources / source), name)
                        put = ask(client, running, *words)
                        self.assertEqual(put.returncode, 0, put.stderr)
                        self.assertEqual(link.read_bytes(), content)
                if "mounted" in names:
                    put = ask(client, running, "put", str(self.sources / "small"), "mounted")
                    self.assertEqual(put.returncode, 1)
                (root / "new").write_bytes(b"new")
                got = ask(client, running, "get", "--in-place", "new", str(link))
                self.assertEqual((got.returncode, stored.read_bytes()), (0, b"new"), got.stderr)
                for words in (("get", "--in-place", "new", "-"), ("stat", "--in-place", "new")):
                    got = ask(client, running, *words)
                    self.assertEqual((got.returncode, got.stdout), (1, b""))
                    self.assertRegex(got.stderr, b"--in-place")

        self.each(OURS, check)

    def test_what_cannot_be_done(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(file_server(server, root)) as running:
                for words in (
                    ("get", "missing", str(root.parent / "copy")),
                    ("put", str(root.parent / "missing")),
                    ("put", str(self.sources)),
                    ("put",),
                    ("get", "a", "b", "c"),
                    ("dance", "a"),
                ):
                    got = ask(client, running, *words)
                    self.assertEqual((got.returncode, got.stdout), (1, b""), words)
                    self.assertRegex(got.stderr, b"^file_client: ")
                self.assertEqual(os.listdir(root), [])

        self.each(OURS, check)

    @in_clear
    def test_keys(self) -> None:
        key, wrong = self.key_file(), self.key_file("wrong", b"a key of one side of this test")

        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(file_server(server, root, "--key-file", key)) as running:
                put = ("put", str(self.sources / "small"))
                for options in (("--key-file", wrong), ()):
                    command = launch.program(client, "file_client", *options, *running.address)
                    got = launch.run([*command, *put])
                    self.assertEqual((got.returncode, got.stdout), (1, b""))
                    self.assertEqual(os.listdir(root), [])
                command = launch.program(client, "file_client", "--key-file", key)
                got = launch.run([*command, *running.address, *put])
                self.assertEqual(got.returncode, 0, got.stderr)
                self.assertEqual(os.listdir(root), ["small"])

        self.each(OURS, check)

    def test_a_client_that_dies_leaves_nothing(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            source = root.parent / "source"
            with open(source, "wb") as file:
                file.truncate(1 << 40)
            with launch.server(file_server(server, root)) as running:
                command = launch.program(client, "file_client", *running.address)
                with launch.start([*command, "put", str(source), "target"]) as dying:
                    time.sleep(0.3)
                    dying.kill()
                got = ask(client, running, "put", str(self.sources / "small"))
                self.assertEqual(got.returncode, 0, got.stderr)
                self.assertEqual(running.stop(), 0)
                self.assertEqual(os.listdir(root), ["small"])

        self.each(OURS, check)

    @in_clear
    def test_an_old_uploader_reads_no_reply(self) -> None:
        def check(server: str) -> None:
            root = self.root(server)
            with launch.server(file_server(server, root)) as running:
                for name, content in CONTENTS.items():
                    source = str(self.sources / name)
                    got = launch.run(peer("file_client", *running.address, "put", source))
                    self.assertEqual((got.returncode, got.stderr), (0, b""))
                    self.assertEqual(wait_for(root / name, len(content)), content, name)

        self.each([(language,) for language in launch.LANGUAGES], check)

    @in_clear
    def test_an_old_uploader_loses_none_of_several_files(self) -> None:
        files = {"first": b"x" * 10, "second": b"y" * 2_000_000}

        def check(server: str) -> None:
            with tempfile.TemporaryDirectory() as root:
                with launch.server(launch.program(server, "file_server", "--root", root)) as running:
                    with socket.create_connection((running.host, int(running.port))) as conn:
                        for name, data in files.items():
                            request = {"cmd": "put", "filename": name, "filesize": len(data)}
                            header = json.dumps(request).encode()
                            conn.sendall(struct.pack("<i", len(header)) + header + data)
                    stored = pathlib.Path(root, "second")
                    end = time.monotonic() + launch.SECONDS
                    while not stored.exists() and time.monotonic() < end:
                        time.sleep(0.02)
                    for name, data in files.items():
                        self.assertEqual(pathlib.Path(root, name).read_bytes(), data)

        self.each([(language,) for language in launch.LANGUAGES], check)

    @in_clear
    def test_a_refusal_comes_before_the_content(self) -> None:
        size = 2**40
        request = {"cmd": "put", "filename": "..", "filesize": size, "data_size": size}
        large = self.directory / "large"
        with large.open("wb") as file:
            file.truncate(2**26)

        def check(server: str) -> None:
            with launch.server(file_server(server, self.root(server))) as running:
                host, port = running.address
                with socket.create_connection((host, int(port)), launch.SECONDS) as sock:
                    text = json.dumps(request).encode()
                    sock.sendall(struct.pack("<i", len(text)) + text)
                    (length,) = struct.unpack("<i", sock.recv(4, socket.MSG_WAITALL))
                    reply = json.loads(sock.recv(length, socket.MSG_WAITALL))
                self.assertEqual(reply["code"], "denied")
                for client in launch.LANGUAGES:
                    got = ask(client, running, "put", str(large), "missing/x")
                    self.assertEqual(got.returncode, 1)
                    self.assertIn(b"missing/x", got.stderr)

        self.each([(language,) for language in launch.LANGUAGES], check)

    @in_clear
    def test_an_old_server_sends_no_reply(self) -> None:
        def check(client: str) -> None:
            root = self.root(client)
            with launch.server(peer("file_server", "127.0.0.1", "0", str(root))) as running:
                for name, content in CONTENTS.items():
                    got = ask(client, running, "put", "--no-reply", str(self.sources / name))
                    self.assertEqual((got.returncode, got.stderr), (0, b""))
                    self.assertEqual(wait_for(root / name, len(content)), content)

        self.each([(language,) for language in launch.LANGUAGES], check)

    @in_clear
    def test_peers_that_read_and_send_replies(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(file_server(server, root)) as running:
                for name, content in CONTENTS.items():
                    got = ask(client, running, "put", str(self.sources / name), "stored")
                    self.assertEqual(got.returncode, 0, got.stderr)
                    self.assertEqual((root / "stored").read_bytes(), content)
                    copy = root.parent / "copy"
                    got = ask(client, running, "get", "stored", str(copy))
                    self.assertEqual(got.returncode, 0, got.stderr)
                    self.assertEqual(copy.read_bytes(), content)
                got = ask(client, running, "get", "missing", str(root / "missing"))
                self.assertEqual(got.returncode, 1)
                self.assertFalse((root / "missing").exists())

        self.each([(OLD, language) for language in launch.LANGUAGES], check)
        self.each([(language, OLD) for language in launch.LANGUAGES], check)


def file_server(kind: str, root: pathlib.Path, *options: str) -> list[str]:
    if kind == OLD:
        return peer("file_get_server", "127.0.0.1", "0", str(root))
    return launch.program(kind, "file_server", "--root", str(root), *options)


def ask(
    client: str, server: launch.Server, *words: str, directory: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    if client == OLD:
        return launch.run(peer("file_get_client", *server.address, *words))
    command = launch.program(client, "file_client", *server.address, *words)
    return launch.run(command, directory=directory)


def wait_for(path: pathlib.Path, size: int) -> bytes:
    """What was stored by somebody who does not say when it is done."""
    end = time.monotonic() + launch.SECONDS
    while time.monotonic() < end and not (path.exists() and path.stat().st_size == size):
        time.sleep(0.01)
    return path.read_bytes()


if __name__ == "__main__":
    unittest.main()
