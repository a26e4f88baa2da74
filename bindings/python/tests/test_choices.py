"""What policies see of a client, and how they choose the way in which a request is served."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import math
import os
import re
import socket
import stat
import sys
import tempfile
import unittest
from collections.abc import Callable
from typing import Any

import support
from server_case import LONG, WORKERS, Case, logger, server_with

import framefd
from framefd import ExecChoice, ExecOptions, FileChoice, _abi


class Clients(Case):
    def test_a_policy_sees_whose_request_it_is(self) -> None:
        for workers in WORKERS:
            seen: list[Any] = []
            server = server_with(workers=workers)
            server.serve_exec(ExecOptions(policy=seen.append))
            server.serve_files("/", policy=seen.append)
            path = f"unix:{self.directory()}/sock"
            server.listen(path)
            key_id = "tests" if support.SEALED else None
            with self.served(server) as client, self.client(path) as local:
                client.run("true")
                client.stat("etc")
                local.run("true")
                local.stat("etc")
                address = client.address
            for inquiry in seen[:2]:
                self.assertEqual(who(inquiry), (key_id, address, None, None, None))
            for inquiry in seen[2:]:
                mine = (os.getpid(), os.getuid(), os.getgid())
                self.assertEqual((inquiry.key_id, *who(inquiry)[2:]), (key_id, *mine))
            self.assertEqual(
                [type(inquiry).__name__ for inquiry in seen],
                2 * [*("ExecInquiry", "FileInquiry")],
            )

    def test_the_key(self) -> None:
        seen: list[Any] = []
        server = framefd.Server(keys={"ann": support.KEY}, name="tests", log=lambda *_: None)
        server.serve_exec(ExecOptions(policy=seen.append))
        server.serve_files("/", policy=seen.append)
        address = server.listen("127.0.0.1:0")
        with server, server.serving():
            with self.client(address, key=support.KEY, key_id="ann", name="tests") as client:
                client.run("true")
                client.stat("etc")
        self.assertEqual([inquiry.key_id for inquiry in seen], ["ann", "ann"])

    def test_the_example_of_the_manual(self) -> None:
        manual = (support.ROOT / "docs" / "python.md").read_text()
        (example,) = [
            block
            for block in re.findall(r"```python\n(.*?)```", manual, re.S)
            if "FileChoice(" in block
        ]
        top = self.directory()
        other = bytes(reversed(support.KEY))
        ids = {"ann": support.KEY, "guest": other}
        for name in ids:
            (top / name).mkdir()
            (top / name / "there").write_text(name)
        server = framefd.Server(keys=ids, name="tests", log=lambda *_: None)
        exec(example.replace("/srv", str(top)), {"framefd": framefd, "server": server})
        address = server.listen("127.0.0.1:0")
        with server, server.serving():
            with self.client(address, key=support.KEY, key_id="ann", name="tests") as ann:
                self.assertEqual(ann.run("pwd; umask").text, f"{top}/ann\n0077\n")
                self.assertEqual(got(ann, "there"), b"ann")
                put(ann, b"new", "there")
                self.assertEqual((top / "ann" / "there").read_bytes(), b"new")
            with self.client(address, key=other, key_id="guest", name="tests") as guest:
                with self.assertRaisesRegex(framefd.DeniedError, "guests run no commands"):
                    guest.run("true")
                self.assertEqual(got(guest, "there"), b"guest")
                with self.assertRaises(framefd.ExistsError):
                    put(guest, b"new", "there")


class Commands(Case):
    def chosen(
        self, choice: ExecChoice, ask: Callable[[framefd.Connection], Any], **options: Any
    ) -> None:
        """Asks a server whose policy makes this choice, anew for each request."""
        for workers in WORKERS:
            server = server_with(workers=workers)
            server.serve_exec(ExecOptions(policy=functools.partial(again, choice), **options))
            with self.served(server) as client:
                ask(client)

    def test_another_command(self) -> None:
        def ask(client: framefd.Connection) -> None:
            for asked in ("echo asked", ["echo", "asked"]):
                self.assertEqual(
                    client.run(asked, input=b"from here ").stdout, b"from here \xff"
                )

        self.chosen(ExecChoice(command=b"cat; printf '\xff'"), ask)
        self.chosen(ExecChoice(command=os.fsdecode(b"cat; printf '\xff'")), ask)

    def test_a_umask(self) -> None:
        def umask(client: framefd.Connection) -> str:
            return client.run("umask").text

        for chosen, shown in ((0o27, "0027\n"), (0, "0000\n")):
            self.chosen(
                ExecChoice(umask=chosen),
                lambda client: self.assertEqual(umask(client), shown),  # noqa: B023
                umask=0o55,
            )
        self.chosen(ExecChoice(), lambda c: self.assertEqual(umask(c), "0055\n"), umask=0o55)

    def test_a_directory(self) -> None:
        directory = self.directory()
        (directory / "below").mkdir()

        def ask(client: framefd.Connection) -> None:
            self.assertEqual(client.run("pwd").text, f"{directory}\n")
            self.assertEqual(client.run("pwd", cwd="below").text, f"{directory}/below\n")

        for path in (directory, str(directory), os.fsencode(directory)):
            self.chosen(ExecChoice(cwd=path), ask, cwd="/")

    def test_variables(self) -> None:
        def ask(client: framefd.Connection) -> None:
            shown = client.run("echo $A $B $C", env={"C": "request"}).text
            self.assertEqual(shown, "options choice request\n")

        choice = ExecChoice(env={"B": "choice", "C": "choice"})
        self.chosen(choice, ask, env={"A": "options", "B": "options"})

    def test_a_time(self) -> None:
        def ends(client: framefd.Connection) -> None:
            with self.assertRaises(framefd.CommandTimeout):
                client.run(f"sleep {10 * LONG}")

        def goes_on(client: framefd.Connection) -> None:
            self.assertEqual(client.run("sleep 0.5; echo done").text, "done\n")
            with self.assertRaises(framefd.CommandTimeout):
                client.run(f"sleep {10 * LONG}", timeout=0.1)

        self.chosen(ExecChoice(command_timeout=0.1), ends)
        self.chosen(ExecChoice(command_timeout=math.inf), goes_on, command_timeout=0.2)

    @unittest.skipUnless(os.geteuid() == 0, "only root may")
    def test_a_user_and_its_groups(self) -> None:
        def shows(expected: str) -> Callable[[framefd.Connection], None]:
            def ask(client: framefd.Connection) -> None:
                self.assertEqual(client.run("echo $(id -u) $(id -g) $(id -G)").text, expected)

            return ask

        self.chosen(ExecChoice(user=(54321, 12345)), shows("54321 12345 12345\n"))
        both = ExecChoice(user=(54321, 12345), groups=[7, 8])
        self.chosen(both, shows("54321 12345 12345 7 8\n"))
        self.chosen(both, shows("54321 12345 12345 7 8\n"), user=(1, 2))
        self.chosen(ExecChoice(groups=(7,)), shows("1 2 2 7\n"), user=(1, 2))

    def test_what_it_points_to_lives_until_it_was_read(self) -> None:
        """Choices that nobody else has, of several threads at once."""

        def choose(inquiry: framefd.ExecInquiry) -> ExecChoice:
            name = inquiry.env["NAME"]
            choice = ExecChoice(
                command=f"printf %s {name * 50} $PWD $V1 $V99",
                cwd="/" + "/" * len(name) + "tmp",
                env={f"V{n}": f"{name}{n}" for n in range(100)},
            )
            gc.collect()
            return choice

        def ask(which: int) -> None:
            with self.client(server.addresses[0]) as client:
                for turn in range(20):
                    name = f"n{which}x{turn}"
                    shown = client.run("true", env={"NAME": name}).text
                    self.assertEqual(shown, f"{name * 50}/tmp{name}1{name}99")

        server = server_with(workers=2)
        server.serve_exec(ExecOptions(policy=choose))
        with self.served(server):
            with support.meanwhile(lambda: ask(0)), support.meanwhile(lambda: ask(1)):
                ask(2)

    def test_groups_need_a_user(self) -> None:
        log, lines = logger()
        server = server_with(log=log)
        server.serve_exec(ExecOptions(policy=lambda _: ExecChoice(groups=[1])))
        with self.served(server) as client, self.assertRaises(framefd.DeniedError):
            client.run("true")
        (record,) = [record for record in lines.records if record.exc_info]
        self.assertIn("groups need a user", raised(record))

    def test_on_a_connection(self) -> None:
        def serve() -> framefd.ExecResult:
            choice = ExecChoice(command="echo chosen")
            return theirs.serve_exec(theirs.recv_header(), ExecOptions(policy=lambda _: choice))

        with support.connections() as (ours, theirs), support.meanwhile(serve):
            self.assertEqual(ours.run("echo asked").text, "chosen\n")

    def test_without_a_connection(self) -> None:
        seen: list[Any] = []

        def policy(inquiry: framefd.ExecInquiry) -> ExecChoice:
            seen.append(inquiry)
            return ExecChoice(command="echo chosen")

        options = ExecOptions(policy=policy)
        with support.stream() as (ours, theirs):
            framefd.exec_and_reply(theirs, "echo asked", options)
            self.assertIn(b"chosen", ours.recv(1000))
        with tempfile.TemporaryDirectory() as directory:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
                    ours.bind(f"{directory}/ours")
                    theirs.bind(f"{directory}/theirs")
                    ours.connect(f"{directory}/theirs")
                    server = framefd.DatagramServer()
                    with support.meanwhile(lambda: server.serve(theirs, options, timeout=LONG)):
                        done = framefd.run_datagram(ours, "echo asked")
        self.assertEqual(done.text, "chosen\n")
        mine = (os.getpid(), os.getuid(), os.getgid())
        self.assertEqual((seen[0].key_id, *who(seen[0])[2:]), (None, *mine))
        self.assertEqual(who(seen[1]), (None,) * 5)


class Files(Case):
    def setUp(self) -> None:
        self.root, self.other = self.directory(), self.directory()
        (self.root / "there").write_bytes(b"here")
        (self.other / "there").write_bytes(b"other")

    def chosen(
        self, choice: Any, ask: Callable[[framefd.Connection], Any], **options: Any
    ) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers)
            policy = functools.partial(again, choice)
            server.serve_files(self.root, write=True, policy=policy, **options)
            with self.served(server) as client:
                ask(client)

    def test_rights_are_taken_away(self) -> None:
        def no_read(client: framefd.Connection) -> None:
            for ask in (client.stat, client.listdir, lambda name: got(client, name)):
                with self.assertRaisesRegex(framefd.DeniedError, "reading is off"):
                    ask("there")
            put(client, b"new", "there")

        def no_create(client: framefd.Connection) -> None:
            with self.assertRaisesRegex(framefd.DeniedError, "creating is off"):
                put(client, b"new", "not/there")
            with self.assertRaisesRegex(framefd.DeniedError, "creating is off"):
                client.mkdir("made")
            put(client, b"new", "there")
            self.assertEqual(got(client, "there"), b"new")

        def no_replace(client: framefd.Connection) -> None:
            with self.assertRaises(framefd.ExistsError):
                put(client, b"newer", "there")
            client.mkdir(f"made{len(os.listdir(self.root))}")
            self.assertEqual(got(client, "there"), b"new")

        self.chosen(FileChoice(read=False), no_read)
        self.chosen(FileChoice(create=False), no_create)
        self.chosen(FileChoice(replace=False), no_replace)

    def test_rights_are_not_added(self) -> None:
        server = server_with()
        server.serve_files(self.root, policy=lambda _: FileChoice())
        with self.served(server) as client:
            with self.assertRaisesRegex(framefd.DeniedError, "writing is off"):
                put(client, b"new", "there")

    def test_another_root(self) -> None:
        def ask(client: framefd.Connection) -> None:
            (self.other / "there").write_bytes(b"other")
            self.assertEqual(got(client, "there"), b"other")
            put(client, b"put", "there", parents=True)
            put(client, b"put", "a/b", parents=True)

        number = os.open(self.other, os.O_PATH | os.O_DIRECTORY)
        self.addCleanup(os.close, number)
        for root in (
            self.other,
            str(self.other),
            os.fsencode(self.other),
            number,
            Directory(number),
        ):
            self.chosen(FileChoice(root=root), ask)
            self.assertEqual((self.other / "there").read_bytes(), b"put")
            self.assertEqual((self.other / "a" / "b").read_bytes(), b"put")
            (self.other / "a" / "b").unlink()
            (self.other / "a").rmdir()
        self.assertEqual(os.listdir(self.root), ["there"])

    def test_a_size(self) -> None:
        def refuses(client: framefd.Connection) -> None:
            put(client, b"1234", "a")
            with self.assertRaises(framefd.TooBigError):
                put(client, b"12345", "a")

        self.chosen(FileChoice(max_size=4), refuses)
        self.chosen(FileChoice(max_size=4), refuses, max_size=8)
        self.chosen(FileChoice(max_size=8), refuses, max_size=4)
        self.chosen(FileChoice(max_size=framefd.NO_LIMIT), refuses, max_size=4)

    def test_a_mode(self) -> None:
        def ask(client: framefd.Connection) -> None:
            put(client, b"1", "a")
            self.assertEqual(stat.S_IMODE((self.root / "a").stat().st_mode), 0o600)
            (self.root / "a").unlink()

        self.chosen(FileChoice(mode=0o600), ask, mode=0o644)

    def test_directories_are_closed(self) -> None:
        def choose(inquiry: framefd.FileInquiry) -> FileChoice | None:
            return FileChoice(root=self.other) if inquiry.name == "there" else None

        def opened() -> int:
            links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
            return sum(os.path.realpath(link) == str(self.other.resolve()) for link in links)

        server = server_with()
        server.serve_files(self.root, policy=choose)
        with self.served(server) as client:
            for _ in range(20):
                self.assertEqual(client.stat("there").size, 5)
            self.assertEqual(opened(), 1)
            with self.assertRaises(framefd.NotFoundError):
                client.stat("no")
            self.assertEqual(opened(), 0)
            client.stat("there")
        del server
        gc.collect()
        self.assertEqual(opened(), 0)

        def serve() -> framefd.FileResult:
            return theirs.serve_file(theirs.recv_header(), self.root, policy=choose)

        with support.connections() as (ours, theirs):
            with support.meanwhile(serve):
                self.assertEqual(ours.stat("there").size, 5)
            self.assertEqual(opened(), 0)

    def test_a_root_that_is_not_there_is_a_defect_of_the_server(self) -> None:
        for workers in WORKERS:
            log, lines = logger()
            server = server_with(workers=workers, log=log)
            choice = FileChoice(root=self.other / "secret")
            server.serve_files(self.root, policy=lambda _: choice)  # noqa: B023
            with self.served(server) as client:
                with self.assertRaises(framefd.DeniedError) as refused:
                    client.stat("there")
            self.assertNotIn("secret", str(refused.exception))
            (record,) = [record for record in lines.records if record.exc_info]
            self.assertIn("secret", raised(record))

    def test_the_choice_of_another_kind_is_refused(self) -> None:
        log, lines = logger()
        server = server_with(log=log)
        server.serve_files(self.root, policy=other_kind(ExecChoice))
        server.serve_exec(ExecOptions(policy=other_kind(FileChoice)))
        with self.served(server) as client:
            with self.assertRaises(framefd.DeniedError):
                client.stat("there")
            with self.assertRaises(framefd.DeniedError):
                client.run("true")
        texts = [raised(record) for record in lines.records if record.exc_info]
        self.assertRegex(texts[0], "^a policy returns None or FileChoice, or raises")
        self.assertRegex(texts[1], "^a policy returns None or ExecChoice, or raises")


class Asyncio(Case):
    def test_a_server_in_a_loop(self) -> None:
        root, other = self.directory(), self.directory()
        (other / "there").write_bytes(b"other")
        server = server_with(workers=1)
        server.serve_exec(ExecOptions(policy=lambda _: ExecChoice(command="echo chosen")))
        server.serve_files(root, policy=lambda _: FileChoice(root=other))
        address = server.listen("127.0.0.1:0")

        async def soon(awaitable: Any) -> Any:
            return await asyncio.wait_for(awaitable, LONG)

        async def ask() -> None:
            key: Any = {"key": support.KEY, "key_id": "tests", "name": "tests"}
            async with server:
                connecting = framefd.aio.connect(address, **(key if support.SEALED else {}))
                async with await soon(connecting) as client:
                    self.assertEqual((await soon(client.run("echo asked"))).text, "chosen\n")
                    self.assertEqual((await soon(client.stat("there"))).size, 5)

        asyncio.run(ask())


class Members(unittest.TestCase):
    def test_each_member_of_c_has_one(self) -> None:
        names = {field.name for field in dataclasses.fields(ExecChoice)}
        native = {name.removesuffix("_ms") for name, *_ in _abi.ExecChoice._fields_}
        self.assertEqual(native - names, {"size", "flags", "uid", "gid", "groups_len"})
        self.assertEqual(names - native, {"user"})
        names = {field.name for field in dataclasses.fields(FileChoice)}
        native = {name.removesuffix("_fd") for name, *_ in _abi.FrameFileChoice._fields_}
        self.assertEqual(native - names, {"size", "rights"})
        self.assertEqual(names - native, {"read", "create", "replace"})

    def test_they_are_values(self) -> None:
        one = ExecChoice(umask=7, env={"A": "b"})
        self.assertEqual(one, ExecChoice(env={"A": "b"}, umask=7))
        self.assertEqual(repr(FileChoice(mode=1)).count("mode=1"), 1)
        changed = dataclasses.replace(one, umask=8)
        self.assertEqual((changed.umask, changed.env), (8, {"A": "b"}))
        with self.assertRaises(dataclasses.FrozenInstanceError):
            one.umask = 1  # type: ignore[misc]

    @unittest.skipIf(sys.version_info < (3, 10), "Python 3.9 has no such dataclasses")
    def test_they_are_given_by_name(self) -> None:
        kinds: list[Any] = [ExecChoice, FileChoice]
        for kind in kinds:
            with self.assertRaises(TypeError):
                kind(None)

    def test_what_cannot_be_used(self) -> None:
        wrong: list[tuple[Any, type[Exception], str, Any]] = [
            (ExecChoice, TypeError, "command", ["ls"]),
            (ExecChoice, ValueError, "command", "a\0b"),
            (ExecChoice, ValueError, "command", ""),
            (ExecChoice, TypeError, "user", 1000),
            (ExecChoice, ValueError, "user", (1, 2, 3)),
            (ExecChoice, TypeError, "user", ("ann", 1)),
            (ExecChoice, ValueError, "user", (0, 1)),
            (ExecChoice, ValueError, "user", (1, 0)),
            (ExecChoice, ValueError, "user", (1, 2**32 - 1)),
            (ExecChoice, TypeError, "groups", 7),
            (ExecChoice, TypeError, "groups", ["wheel"]),
            (ExecChoice, ValueError, "groups", [-1]),
            (ExecChoice, TypeError, "umask", "022"),
            (ExecChoice, ValueError, "umask", 0o1000),
            (ExecChoice, TypeError, "cwd", 3),
            (ExecChoice, ValueError, "cwd", "a\0b"),
            (ExecChoice, ValueError, "cwd", b""),
            (ExecChoice, TypeError, "env", ["A=b"]),
            (ExecChoice, TypeError, "env", {"A": 1}),
            (ExecChoice, ValueError, "env", {"A": "a\0b"}),
            (ExecChoice, ValueError, "env", {"A=B": "c"}),
            (ExecChoice, TypeError, "command_timeout", "1"),
            (ExecChoice, ValueError, "command_timeout", -1),
            (FileChoice, TypeError, "read", 1),
            (FileChoice, TypeError, "create", None),
            (FileChoice, TypeError, "replace", "no"),
            (FileChoice, TypeError, "root", 1.5),
            (FileChoice, ValueError, "root", -1),
            (FileChoice, ValueError, "root", "a\0b"),
            (FileChoice, ValueError, "root", ""),
            (FileChoice, TypeError, "max_size", "1k"),
            (FileChoice, ValueError, "max_size", 0),
            (FileChoice, ValueError, "max_size", 2**64),
            (FileChoice, TypeError, "mode", "rw"),
            (FileChoice, ValueError, "mode", 0o1000),
        ]
        for kind, error, name, value in wrong:
            with self.subTest(f"{name}={value!r}"), self.assertRaises(error) as refused:
                kind(**{name: value})
            self.assertRegex(str(refused.exception), rf"\b{name}\b")


class Directory:
    """An object with the descriptor of a directory."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number


def again(choice: Any, _: object) -> Any:
    """A policy that makes the same choice, with an object of its own each time."""
    return dataclasses.replace(choice)


def other_kind(kind: Any) -> Any:
    """A policy whose choices are of this kind."""
    return lambda _: kind()


def who(inquiry: Any) -> tuple[Any, ...]:
    """What an inquiry says of the client."""
    return inquiry.key_id, inquiry.address, inquiry.pid, inquiry.uid, inquiry.gid


def raised(record: Any) -> str:
    """The text of the exception in a record of a log."""
    return str(record.exc_info[1])


def put(client: framefd.Connection, content: bytes, name: str, **options: Any) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        client.put(file, name, **options)


def got(client: framefd.Connection, name: str) -> bytes:
    with tempfile.TemporaryFile() as file:
        client.get(name, file)
        file.seek(0)
        return file.read()


if __name__ == "__main__":
    unittest.main()
