"""What people type: - for standard input and output, -r for a file, many words in a line."""

from __future__ import annotations

import json
import pathlib
import socket
import struct
import threading
import unittest

from pairs import OURS, Case, launch, redirecting

CONTENT = bytes(range(256)) * 12_000
DIGEST_OF_OTHERS = "0" * 64


class Typed(Case):
    def setUp(self) -> None:
        super().setUp()
        self.source = self.directory / "source"
        self.source.write_bytes(CONTENT)
        self.source.chmod(0o640)

    def root(self, *names: str) -> pathlib.Path:
        root = self.directory / "-".join(names) / "root"
        root.mkdir(parents=True)
        return root

    def test_standard_output(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            (root / "name").write_bytes(CONTENT)
            with launch.server(
                launch.program(server, "file_server", "--root", str(root))
            ) as it:
                command = launch.program(client, "file_client", *it.address)
                for target in ("-", "/dev/stdout"):
                    got = launch.run([*command, "get", "name", target], directory=str(root))
                    self.assertEqual((got.returncode, got.stderr), (0, b""))
                    self.assertTrue(got.stdout == CONTENT)
                    for option in ("-r", "--resume"):
                        got = launch.run([*command, "get", option, "name", target])
                        self.assertEqual((got.returncode, got.stdout), (1, b""))
                        self.assertRegex(got.stderr, b"do not go with standard output")
                got = launch.run([*command, "get", "missing", "-"])
                self.assertEqual((got.returncode, got.stdout), (1, b""))
                got = launch.run(redirecting("> /dev/full", [*command, "get", "name", "-"]))
                self.assertEqual(got.returncode, 1)
                self.assertRegex(got.stderr, b"cannot show the output")
                self.assertEqual([path.name for path in root.iterdir()], ["name"])

        self.each(OURS, check)

    def test_nothing_is_shown_of_a_file_whose_digest_is_wrong(self) -> None:
        def check(client: str) -> None:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                thread = threading.Thread(target=serve_wrongly, args=(listener,))
                thread.start()
                address = map(str, listener.getsockname())
                got = launch.run(
                    launch.program(client, "file_client", *address, "get", "x", "-")
                )
                self.assertEqual((got.returncode, got.stdout), (1, b""))
                self.assertRegex(got.stderr, b"checksum|digest")
                thread.join()

        self.each([(language,) for language in launch.LANGUAGES], check)

    def test_standard_input_and_pipes(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            with launch.server(
                launch.program(server, "file_server", "--root", str(root))
            ) as it:
                command = launch.program(client, "file_client", *it.address, "put")
                for source in ("-", "/dev/stdin"):
                    got = launch.run([*command, source, "typed"], CONTENT)
                    self.assertEqual((got.returncode, got.stderr), (0, b""))
                    self.assertRegex(got.stdout, b"^put typed: 3072000 bytes, sha256 ")
                    self.assertTrue((root / "typed").read_bytes() == CONTENT)
                    redirected = redirecting(
                        f"< {self.source}", [*command, source, "redirected"]
                    )
                    self.assertEqual(launch.run(redirected).returncode, 0)
                    self.assertTrue((root / "redirected").read_bytes() == CONTENT)
                script = 'mkfifo fifo; cat "$0" > fifo & "$@" fifo piped'
                shell = ["sh", "-c", script, str(self.source), *command]
                got = launch.run(shell, directory=str(root.parent))
                self.assertEqual((got.returncode, got.stderr), (0, b""))
                self.assertTrue((root / "piped").read_bytes() == CONTENT)
                for words in (["-"], ["-r", "-", "tree"]):
                    got = launch.run([*command, *words])
                    self.assertEqual((got.returncode, got.stdout), (1, b""))

        self.each(OURS, check)

    def test_a_single_file_with_r(self) -> None:
        def check(server: str, client: str) -> None:
            root = self.root(server, client)
            (root / "directory").mkdir()
            with launch.server(
                launch.program(server, "file_server", "--root", str(root))
            ) as it:
                command = launch.program(client, "file_client", *it.address)
                for words in (["name"], ["directory/"]):
                    got = launch.run([*command, "put", "-r", str(self.source), *words])
                    self.assertEqual((got.returncode, got.stderr), (0, b""))
                    self.assertRegex(got.stdout, b"^put (name|.*/source): .* bytes, sha256 ")
                for stored in (root / "name", root / "directory" / "source"):
                    self.assert_same(stored)
                got = launch.run([*command, "get", "-r", "name", str(root.parent)])
                self.assertEqual((got.returncode, got.stderr), (0, b""))
                self.assert_same(root.parent / "name")

        self.each(OURS, check)

    def assert_same(self, copy: pathlib.Path) -> None:
        """The content, mode and time are those of the source."""
        self.assertTrue(copy.read_bytes() == CONTENT)
        ours, theirs = self.source.stat(), copy.stat()
        self.assertEqual(theirs.st_mode, ours.st_mode)
        self.assertEqual(int(theirs.st_mtime * 1000), int(ours.st_mtime * 1000))

    def test_a_line_of_many_words(self) -> None:
        line = b"stat " + b"x " * 20_000 + b"\n"

        def check(client: str) -> None:
            command = launch.program(client, "file_client", "127.0.0.1", "1")
            for lines in (line, b"put --resume " + b"--no-checksum " * 12 + b"a b c\n"):
                got = launch.run(command, lines)
                self.assertEqual(got.returncode, 1)
                self.assertRegex(got.stderr, b"(stat|put) takes 1 to [12] names")

        self.each([(language,) for language in launch.LANGUAGES], check)


def serve_wrongly(listener: socket.socket) -> None:
    """Answers a get with a content and the digest of another one."""
    client, _ = listener.accept()
    with client:
        (size,) = struct.unpack("<i", client.recv(4, socket.MSG_WAITALL))
        request = json.loads(client.recv(size, socket.MSG_WAITALL))
        reply = {
            "status": "ok",
            "id": request["id"],
            "filename": request["filename"],
            "filesize": 7,
            "data_size": 7,
            "sha256": DIGEST_OF_OTHERS,
        }
        text = json.dumps(reply).encode()
        client.sendall(struct.pack("<i", len(text)) + text + b"content")
        client.recv(1)


if __name__ == "__main__":
    unittest.main()
