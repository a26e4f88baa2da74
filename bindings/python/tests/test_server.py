"""Servers: requests and their replies, keys, commands and files, listening, limits, the log."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import socket
import tempfile
import threading
import unittest
from typing import Any

import support
from server_case import LONG, WORKERS, Case, logger, server_with

import framefd
from framefd import ErrorCode, _abi, _native_server


class Replies(Case):
    def test_what_a_handler_returns_is_the_reply(self) -> None:
        outcomes: dict[str, Any] = {
            "none": None,
            "members": {"sum": 3, "text": "é"},
            "bytes": b"bytes",
            "array": bytearray(b"array"),
            "view": memoryview(b"a view")[2:],
            "both": ({"n": 1}, b"both"),
            "only": (None, b"only"),
            "frame": framefd.Frame({"n": 2}, b"frame"),
            "empty": {},
            "large": bytes(1_000_000),
        }
        for workers in WORKERS:
            server = server_with(workers=workers)
            for name, outcome in outcomes.items():
                server.command(name)(lambda request, outcome=outcome: outcome)
            with self.served(server) as client:
                for name, outcome in outcomes.items():
                    header, body = {}, b""
                    if isinstance(outcome, dict):
                        header = outcome
                    elif isinstance(outcome, tuple):
                        header, body = outcome
                    elif outcome is not None:
                        body = outcome
                    reply = client.call(name)
                    own = {k: v for k, v in reply.header.items() if k not in ("id", "status")}
                    self.assertEqual((own, reply.body), (header or {}, bytes(body)), name)

    def test_what_a_handler_gets(self) -> None:
        seen: list[framefd.ServerRequest] = []

        def note(request: framefd.ServerRequest) -> dict[str, Any]:
            seen.append(request)
            return {"peer": request.peer, "key_id": request.key_id}

        for workers in WORKERS:
            server = server_with(workers=workers)
            self.assertIs(server.command("note")(note), note)
            with self.served(server) as client:
                reply = client.call("note", {"a": [1, {"é": None}], "id_": 1}, b"body").header
                self.assertEqual(reply["peer"], client.address)
                self.assertEqual(reply["key_id"], "tests" if support.SEALED else None)
            request = seen.pop()
            self.assertEqual(request.header["a"], [1, {"é": None}])
            self.assertEqual((request.header["cmd"], request.body), ("note", b"body"))
            self.assertIn("done", repr(request))
            uses: list[Any] = [
                request.reply,
                lambda: request.begin({}, 1),  # noqa: B023
                lambda: request.connection,  # noqa: B023
                lambda: request.peer,  # noqa: B023
            ]
            for use in uses:
                with self.assertRaisesRegex(framefd.StateError, "done"):
                    use()

    def test_a_handler_may_reply_before_it_returns(self) -> None:
        gone_on = threading.Event()
        server = server_with()

        @server.command("early")
        def early(request: framefd.ServerRequest) -> None:
            request.reply({"n": 1}, b"early")
            request.connection.flush()
            gone_on.wait(LONG)

        @server.command("pieces")
        def pieces(request: framefd.ServerRequest) -> None:
            request.begin({"n": 2}, 5)
            for piece in (b"12", b"345"):
                request.connection.write(piece)

        with self.served(server) as client:
            self.assertEqual(client.call("early").body, b"early")
            gone_on.set()
            reply = client.call("pieces")
            self.assertEqual((reply.header["n"], reply.body), (2, b"12345"))

    def test_an_exception_is_an_error_reply(self) -> None:
        class Own(framefd.DeniedError):
            pass

        errors: list[tuple[BaseException, type[Exception], str, str]] = [
            (framefd.NotFoundError("no é"), framefd.NotFoundError, "not_found", "no é"),
            (Own("not you"), framefd.DeniedError, "denied", "not you"),
            (framefd.MalformedError("a: int"), framefd.MalformedError, "bad_request", "a: int"),
            (framefd.BusyError(ErrorCode.BUSY, "later"), framefd.BusyError, "busy", "later"),
            (framefd.FrameError("just so"), framefd.FrameError, "other", "just so"),
            (
                framefd.BusyError(ErrorCode.REMOTE_BUSY, "there"),
                framefd.BusyError,
                "busy",
                "there",
            ),
            (KeyError("secret"), framefd.FrameError, "other", "KeyError"),
            (PermissionError(13, "secret"), framefd.FrameError, "other", "PermissionError"),
            (framefd.NotFoundError("a\0b\udc80"), framefd.NotFoundError, "not_found", "a"),
            (framefd.DeniedError(), framefd.DeniedError, "denied", ""),
        ]
        for workers in WORKERS:
            log, lines = logger()
            server = server_with(workers=workers, log=log)

            @server.command("fail")
            def fail(request: framefd.ServerRequest) -> None:
                raise errors[request.header["n"]][0]

            with self.served(server) as client:
                for n, (error, kind, code, text) in enumerate(errors):
                    with self.assertRaisesRegex(kind, text) as caught:
                        client.call("fail", {"n": n})
                    self.assertIs(type(caught.exception), kind)
                    self.assertTrue(caught.exception.remote)  # type: ignore[attr-defined]
                    self.assertNotIn("secret", str(caught.exception))
                    client.send({"cmd": "fail", "n": n, "id": n})
                    self.assertEqual(client.recv().header["code"], code, error)
                self.assertEqual(server.counters().errors, 2 * len(errors))
            logged = [record for record in lines.records if record.exc_info]
            self.assertEqual(len(logged), 4)
            assert logged[0].exc_info is not None
            self.assertIs(logged[0].exc_info[1], errors[6][0])
            self.assertEqual(logged[0].levelno, logging.ERROR)
            self.assertIn("'fail'", logged[0].getMessage())

    def test_what_is_no_reply_is_a_defect_of_the_server(self) -> None:
        async def coroutine() -> None:
            self.fail("it runs")

        wrong: list[Any] = [
            "text",
            7,
            [b"x"],
            ({}, "text"),
            ([], b""),
            ({}, b"", b""),
            {"status": "ok"},
            ({"id": 1}, b""),
            {"data_size": 1},
            {"a": float("nan")},
            {"a": object()},
            {"a": "x" * (17 << 20)},
            {"name": "\udc80"},
            ({1: 1}, b""),
        ]
        log, lines = logger()
        server = server_with(log=log)

        @server.command("wrong")
        def reply(request: framefd.ServerRequest) -> Any:
            n = request.header["n"]
            return coroutine() if n == len(wrong) else wrong[n]

        @server.command("begin")
        def begin(request: framefd.ServerRequest) -> None:
            request.begin({"name": "\udc80"}, 1)

        @server.command("twice")
        def twice(request: framefd.ServerRequest) -> None:
            request.reply()
            raise RuntimeError("after the reply")

        with self.served(server) as client:
            for n in range(len(wrong) + 1):
                if wrong[n : n + 1] == [({1: 1}, b"")]:  # JSON makes a text of the key
                    self.assertEqual(client.call("wrong", {"n": n}).header["1"], 1)
                    continue
                with self.subTest(n), self.assertRaises(framefd.FrameError) as caught:
                    client.call("wrong", {"n": n})
                self.assertRegex(str(caught.exception), "(Type|Value|Malformed)Error")
            with self.assertRaisesRegex(framefd.FrameError, "ValueError"):
                client.call("begin")
            client.call("twice")
            with self.assertRaises(framefd.ClosedError):
                client.recv()
        texts = [str(record.exc_info[1]) for record in lines.records if record.exc_info]
        self.assertEqual(len(texts), len(wrong) + 2)
        self.assertIn("not str", texts[0])
        self.assertIn("async", texts[-3])


class Streams(Case):
    def test_a_body_in_pieces_both_ways(self) -> None:
        size = 3_000_000
        for workers in WORKERS:
            server = server_with(workers=workers)

            @server.command("double", stream=True)
            def double(request: framefd.ServerRequest) -> None:
                self.assertEqual(request.body, b"")
                connection = request.connection
                total = connection.to_receive
                pieces = list(connection.pieces(100_000))
                request.begin({"n": total}, 2 * total)
                for piece in pieces * 2:
                    connection.write(piece)

            @server.command("leave", stream=True)
            def leave(request: framefd.ServerRequest) -> dict[str, Any]:
                return {"first": request.connection.read(1).decode()}

            with self.served(server) as client:
                body = os.urandom(size)
                reply = client.call("double", body=body)
                self.assertEqual((reply.header["n"], reply.body), (size, body * 2))
                for _ in range(3):
                    self.assertEqual(client.call("leave", body=b"xyz").header["first"], "x")

    def test_a_reply_that_breaks_off_ends_the_connection(self) -> None:
        log, lines = logger()
        server = server_with(log=log)

        @server.command("break")
        def breaks(request: framefd.ServerRequest) -> None:
            request.begin({}, 10)
            request.connection.write(b"12345")
            if request.header["raises"]:
                raise RuntimeError

        with self.served(server) as client:
            address = server.addresses[0]
            for raises in (True, False):
                with self.assertRaises(framefd.TruncatedError):
                    self.client(address).call("break", {"raises": raises})
            with self.assertRaises(framefd.UnsupportedError):
                client.call("on")
        self.assertEqual(len([record for record in lines.records if record.exc_info]), 1)


class Keys(Case):
    def test_every_form_of_keys(self) -> None:
        directory = self.directory()
        key = os.urandom(32)
        (directory / "one").write_bytes(key)
        (directory / "one").chmod(0o600)
        ring = framefd.Keyring({"one": key})
        forms: list[dict[str, Any]] = [
            {"keys": str(directory)},
            {"keys": directory},
            {"keys": ring},
            {"keys": {"one": key}},
            {"key": key},
            {"key": framefd.Key(key)},
            {"keys": {"one": key}, "plain": True},
            {"keys": {"one": key}, "name": "db"},
        ]
        for form in forms:
            server = server_with(**form)
            server.command("who")(lambda request: {"key_id": request.key_id})
            address = server.listen("0.0.0.0:0").replace("0.0.0.0", "127.0.0.1")
            with self.subTest(form), server, server.serving():
                key_id = None if "key" in form or form.get("plain") else "one"
                client = self.client(
                    address,
                    key=key,
                    key_id=key_id,
                    name=form.get("name"),
                    plain=form.get("plain", False),
                )
                found = client.call("who").header["key_id"]
                self.assertEqual(found, "" if "key" in form else "one")
                self.assertIsNotNone(server.keyring)
                client.close()
                with self.assertRaises((framefd.AuthenticationError, ConnectionError)):
                    other = self.client(
                        address, own=False, key=os.urandom(32), plain=form.get("plain", False)
                    )
                    other.call("who")

    def test_keys_change_while_it_runs(self) -> None:
        key = os.urandom(32)
        server = server_with(keys={"one": os.urandom(32)})
        server.command("x")(lambda request: None)
        address = server.listen("127.0.0.1:0")
        with server, server.serving():
            with self.assertRaises((framefd.AuthenticationError, ConnectionError)):
                self.client(address, key=key, key_id="two")
            assert server.keyring is not None
            server.keyring.add("two", key)
            self.client(address, key=key, key_id="two").call("x")

    def test_without_keys_it_listens_here_only(self) -> None:
        with framefd.Server() as server:
            self.assertIsNone(server.keyring)
            for address in ("0.0.0.0:0", ("0.0.0.0", 0)):
                with self.assertRaisesRegex(ValueError, "key ring"):
                    server.listen(address)
            self.assertEqual(server.addresses, [])
        with framefd.Server(open=True) as server:
            self.assertRegex(server.listen("0.0.0.0:0"), r"^0\.0\.0\.0:\d+$")

    def test_what_does_not_fit(self) -> None:
        key = os.urandom(32)
        for wrong in ({"keys": key}, {"keys": {"a": key}, "key": key}, {"name": "x"}):
            with self.assertRaises(TypeError):
                framefd.Server(**wrong)  # type: ignore[arg-type]
        for wrong in ({"plain": True}, {"key": "text"}, {"keys": 7}, {"max_threads": 1}):
            with self.assertRaises(TypeError):
                framefd.Server(**wrong)  # type: ignore[arg-type]
        with self.assertRaises(framefd.BadKeyError):
            framefd.Server(keys={})
        for wrong in ({"plain": True, "name": "x"}, {"open": True}):
            with self.assertRaises(ValueError):
                framefd.Server(keys={"a": key}, **wrong)  # type: ignore[arg-type]
        with self.assertRaises(FileNotFoundError):
            framefd.Server(keys="/no/such/directory")


class Features(Case):
    def test_commands_and_files(self) -> None:
        root = self.directory()
        (root / "there").write_text("content")
        for workers in WORKERS:
            server = server_with(workers=workers, hello=True)
            server.serve_exec(framefd.ExecOptions(env={"WHO": "me"}))
            server.serve_files(root, write=True, parents=True)
            server.command("mine")(lambda request: b"mine")
            with self.served(server) as client:
                self.assertEqual(client.run("echo $WHO").text, "me\n")
                self.assertEqual(client.stat("there").size, 7)
                (root / "source").write_text("to be put")
                client.put(root / "source", "a/b")
                self.assertEqual((root / "a" / "b").read_text(), "to be put")
                self.assertEqual(client.call("mine").body, b"mine")
                self.assertLessEqual(
                    {"exec", "get", "mine"}, {*client.call("hello").header["cmds"]}
                )

    def test_a_subreaper_reaps_what_commands_leave_behind(self) -> None:
        source = """
import ctypes, os, time
import framefd
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
server = framefd.Server(reap=True, workers=1)
server.serve_exec()
print(server.listen("127.0.0.1:0"), flush=True)
with server.serving():
    input()
    try:
        while True:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            time.sleep(0.01)
    except ChildProcessError:
        print("none is left", flush=True)
"""
        with self.program(source) as process:
            assert process.stdout is not None and process.stdin is not None
            with self.client(process.stdout.readline().strip(), own=False) as client:
                done = client.run("(sleep 0.1; exit 5) >/dev/null 2>&1 & exit 3")
                self.assertEqual(done.returncode, 3)
            process.stdin.write("\n")
            process.stdin.flush()
            self.assertEqual(self.ended(process), (0, "none is left\n", ""))

    def test_files_to_read_or_to_write(self) -> None:
        root = self.directory()
        (root / "there").write_text("content")
        server = server_with()
        server.serve_files(root)
        with self.served(server) as client:
            self.assertEqual(client.stat("there").size, 7)
            with self.assertRaisesRegex(framefd.DeniedError, "writing"):
                client.put(root / "there", "other")
        server = server_with()
        with self.assertRaises(ValueError):
            server.serve_files(root, read=False)
        server.serve_files(root, create=True)
        with self.served(server) as client:
            client.put(root / "there", "new")
            with self.assertRaises(framefd.FrameError):
                client.put(root / "there", "new")
        server = server_with()
        server.serve_files(root, read=False, write=True)
        with self.served(server) as client:
            client.put(root / "there", "other")
            with self.assertRaisesRegex(framefd.DeniedError, "reading"):
                client.stat("there")

    def test_the_oldest_clients_of_files_get_no_reply(self) -> None:
        root = self.directory()
        for replies in (True, False):
            server = framefd.Server()  # such clients know no keys
            server.serve_files(root, write=True, reply_to_oldest=replies)
            address = server.listen("127.0.0.1:0").rpartition(":")
            with server, server.serving():
                with socket.create_connection((address[0], int(address[2]))) as conn:
                    header = b'{"cmd":"put","filename":"f%d","filesize":4}' % replies
                    conn.sendall(len(header).to_bytes(4, "little") + header + b"data")
                    conn.shutdown(socket.SHUT_WR)
                    received = conn.makefile("rb").read()
            self.assertEqual((root / f"f{replies:d}").read_bytes(), b"data")
            self.assertEqual(b'"ok"' in received, replies, received)
            self.assertEqual(bool(received), replies, received)

    def test_policies(self) -> None:
        seen: list[Any] = []

        def command(inquiry: framefd.ExecInquiry) -> None:
            seen.append(inquiry.key_id)
            if inquiry.command == "no":
                raise PermissionError("not that")
            if inquiry.command == "defect":
                raise KeyError("secret")

        def file(inquiry: framefd.FileInquiry) -> None:
            if inquiry.name == "no":
                raise framefd.DeniedError("not that either")

        for workers in WORKERS:
            log, lines = logger()
            server = server_with(workers=workers, log=log)
            server.serve_exec(framefd.ExecOptions(policy=command))
            server.serve_files(self.directory(), policy=file)
            with self.served(server) as client:
                self.assertEqual(client.run("echo yes").text, "yes\n")
                with self.assertRaisesRegex(framefd.DeniedError, "not that"):
                    client.run("no")
                with self.assertRaises(framefd.DeniedError) as defect:
                    client.run("defect")
                self.assertNotIn("secret", str(defect.exception))
                with self.assertRaisesRegex(framefd.DeniedError, "either"):
                    client.stat("no")
                with self.assertRaises(framefd.NotFoundError):
                    client.stat("yes")
            self.assertEqual(seen.pop(), "tests" if support.SEALED else None)
            self.assertEqual(len([record for record in lines.records if record.exc_info]), 1)

    def test_what_is_served_is_fixed_and_unique(self) -> None:
        server = server_with(hello=True)
        server.command("x")(lambda request: None)
        server.serve_exec()
        repeated: list[Any] = [
            lambda: server.command("x")(lambda request: None),
            lambda: server.command("hello")(lambda request: None),
            server.serve_exec,
        ]
        for again in repeated:
            with self.assertRaises(framefd.ExistsError):
                again()
        for name in ("", "x\0", "x2\0", "\udc80"):
            with self.assertRaises(ValueError):
                server.command(name)(lambda request: None)
        with self.assertRaises(FileNotFoundError):
            server.serve_files("/no/such/directory")
        with self.served(server) as client:
            client.call("x")
            late: list[Any] = [
                lambda: server.command("y")(lambda request: None),
                lambda: server.serve_files("/"),
            ]
            for add in late:
                with self.assertRaises(framefd.StateError):
                    add()


class Places(Case):
    def test_where_it_listens(self) -> None:
        directory = self.directory()
        sock = socket.create_server(("127.0.0.1", 0))
        number = socket.create_server(("127.0.0.1", 0)).detach()
        self.addCleanup(os.close, number)
        listener = framefd.listen("127.0.0.1:0")
        self.addCleanup(listener.close)
        self.addCleanup(sock.close)
        server = server_with()
        server.command("x")(lambda request: None)
        places: list[Any] = [
            "127.0.0.1:0",
            ("127.0.0.1", 0),
            f"unix:{directory}/one",
            pathlib.Path(directory) / "two",
            sock,
            number,
            listener,
        ]
        addresses = [server.listen(place) for place in places]
        self.assertEqual(server.addresses, addresses)
        self.assertEqual(addresses[2], f"unix:{directory}/one")
        self.assertIn(addresses[0], repr(server))
        with server, server.serving():
            late = server.listen(f"unix:{directory}/late", mode=0o660, backlog=5)
            self.assertEqual((directory / "late").stat().st_mode & 0o777, 0o660)
            for address in [*addresses, late]:
                with self.client(address) as client:
                    client.call("x")
        for gone in (addresses[0], addresses[2], late):
            with self.assertRaises(ConnectionRefusedError):
                self.client(gone)
        for kept in (sock.fileno(), number, listener.fileno()):
            os.fstat(kept)

    def test_what_it_cannot_listen_on(self) -> None:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        with server_with() as server:
            before = len(os.listdir("/proc/self/fd"))
            with self.assertRaisesRegex(ValueError, "listen"):
                server.listen(ours)
            with self.assertRaises(TypeError):
                server.listen(ours, backlog=3)
            with self.assertRaises(OSError):
                server.listen("127.0.0.1:1:1")
            taken = server.listen("127.0.0.1:0")
            with self.assertRaises(OSError):
                server.listen(taken)
            self.assertEqual(server.addresses, [taken])
            self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)

    def test_connections_that_exist(self) -> None:
        for workers in WORKERS:
            server = server_with(workers=workers)
            server.command("x")(lambda request: b"x")
            first, theirs = socket.socketpair()
            server.add(theirs)
            self.assertEqual(theirs.fileno(), -1)
            with server, server.serving():
                second, theirs = socket.socketpair()
                server.add(theirs.detach())
                for sock in (first, second):
                    with framefd.Connection(sock, timeout=LONG) as client:
                        if support.SEALED:
                            client.auth_client(support.KEY, key_id="tests", name="tests")
                        self.assertEqual(client.call("x").body, b"x")

    def test_what_cannot_be_added_stays(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            with server_with() as server:
                with self.assertRaises(OSError):
                    server.add(datagrams)
                self.assertGreaterEqual(datagrams.fileno(), 0)
                with self.assertRaises(OSError):
                    server.add(9999)


class Users(Case):
    def test_only_those_are_served_at_a_unix_socket(self) -> None:
        ours = os.getuid()
        for users, is_served in [(None, True), ([ours], True), ([ours + 1], False), ([], False)]:
            with tempfile.TemporaryDirectory() as directory:
                address = f"unix:{directory}/socket"
                server = server_with(users=users)
                server.command("x")(lambda request: b"y")
                server.listen(address)
                with server, server.serving(), self.client(address) as client:
                    if is_served:
                        self.assertEqual(client.call("x").body, b"y")
                    else:
                        with self.assertRaises(framefd.DeniedError):
                            client.call("x")
        with self.assertRaises(ValueError):
            framefd.Server(users=[-1])


class Limits(Case):
    def test_each_limit_has_its_member(self) -> None:
        members = {
            name.removesuffix("_ms") if name.endswith("_ms") else name
            for name, *_ in _abi.FrameServerOptions._fields_
        }
        limits = {*_native_server.Limits.__annotations__}
        self.assertEqual(limits, {*_native_server.TIMES, *_native_server.NUMBERS})
        self.assertLessEqual(limits, members)
        others = {"size", "flags", "workers", "log_level", "reserved", "ring", "server_name"}
        self.assertEqual(members - limits - others, {
            *("log", "served", "interrupted", "context", "users", "users_len")
        })
        made = _native_server.limit_members(drain=1.5, max_body=framefd.NO_LIMIT, idle=None)
        self.assertEqual(made, {"drain_ms": 1500, "max_body": 2**64 - 1, "idle_ms": 0})

    def test_limits_hold(self) -> None:
        server = server_with(max_connections=1, max_body=10, max_header=2000, idle=60)
        server.command("x")(lambda request: None)
        with self.served(server) as client:
            client.call("x", body=b"1234567890")
            with self.assertRaises(framefd.TooBigError):
                client.call("x", body=b"12345678901")
            with self.assertRaises(framefd.BusyError):
                self.client(server.addresses[0]).call("x")
            counts = server.counters()
            self.assertEqual((counts.refused_limit, counts.errors), (1, 2))
            self.assertEqual((counts.connections, counts.requests), (2, 3))

    def test_a_limit_that_is_none(self) -> None:
        for wrong in ({"idle": float("inf")}, {"max_body": 0}, {"stall": -1}, {"workers": -1}):
            with self.assertRaises(ValueError):
                framefd.Server(**wrong)  # type: ignore[arg-type]


class Served(Case):
    def test_each_request_is_told_of_when_it_is_over(self) -> None:
        for workers in WORKERS:
            told: list[framefd.ServedRequest] = []
            server = server_with(workers=workers, served=told.append)
            server.command("x")(lambda request: b"12345")
            server.command("fail")(lambda request: 1 // 0)
            server.serve_exec()
            server.serve_files("/")
            path = f"unix:{self.directory()}/sock"
            server.listen(path)
            with self.served(server) as client:
                client.call("x", {"n": 1}, b"body")
                for refused in ("fail", "other"):
                    with self.assertRaises(framefd.FrameError):
                        client.call(refused)
                client.run(["sh", "-c", "exit 3"])
                client.run("kill -9 $$")
                with self.assertRaises(framefd.NotFoundError):
                    client.stat("no/such/file")
                address = client.address
                with self.client(path) as local:
                    local.call("x")
                self.wait_until(lambda: len(told) == 7)  # noqa: B023
            # Those of several threads may be told in another order.
            xs = [one for one in told if one.cmd == "x"]
            ran = [one for one in told if one.cmd == "exec"]
            errors = {one.cmd: one.error for one in told}
            first, local = sorted(xs, key=lambda one: one.pid or 0)
            self.assertEqual((errors["x"], errors["exec"]), (0, 0))
            self.assertEqual(errors["fail"], ErrorCode.REMOTE_OTHER)
            self.assertEqual(errors["other"], ErrorCode.NOTSUP)
            self.assertEqual(errors["stat"], ErrorCode.NOENT)
            self.assertEqual((first.cmd, first.header["n"], first.bytes_in), ("x", 1, 4))
            self.assertEqual(first.key_id, "tests" if support.SEALED else None)
            self.assertEqual((first.address, first.pid, first.what), (address, None, None))
            self.assertGreater(first.bytes_out, 5)
            self.assertLess(first.seconds, LONG)
            self.assertEqual((first.outcome, first.exit_code, first.signal), (None, -1, 0))
            self.assertEqual(ran[0].what, ("sh", "-c", "exit 3"))
            self.assertEqual((ran[0].outcome, ran[0].exit_code), (framefd.Outcome.EXITED, 3))
            self.assertEqual((ran[1].what, ran[1].signal), ("kill -9 $$", 9))
            self.assertIn("no/such/file", [one.what for one in told])
            self.assertEqual((local.pid, local.uid), (os.getpid(), os.getuid()))

    def test_what_it_raises_goes_to_the_log(self) -> None:
        log, lines = logger()

        def served(request: framefd.ServedRequest) -> None:
            raise RuntimeError("the disk is full")

        server = server_with(log=log, served=served)
        server.command("x")(lambda request: None)
        with self.served(server) as client:
            client.call("x")
            client.call("x")
        texts = [record.getMessage() for record in lines.records if record.exc_info]
        self.assertEqual(texts, ["served has failed: RuntimeError"] * 2)


class Log(Case):
    def test_a_function_gets_levels_and_lines(self) -> None:
        lines: list[tuple[int, str]] = []
        server = server_with(log=lambda level, text: lines.append((level, text)))
        server.command("fail")(lambda request: 1 // 0)
        with self.served(server) as client:
            with self.assertRaisesRegex(framefd.FrameError, "ZeroDivisionError"):
                client.call("fail")
        self.assertEqual(lines[0], (logging.INFO, "serving"))
        self.assertEqual(lines[-1], (logging.INFO, "stopped"))
        (text,) = [text for level, text in lines if level == logging.ERROR]
        self.assertRegex(text, r"(?s)'fail'.*Traceback.*ZeroDivisionError")

    def test_by_default_it_is_the_logger_of_the_package(self) -> None:
        server = server_with(log=None)
        with self.assertLogs("framefd", logging.DEBUG) as logs, self.served(server) as client:
            with self.assertRaises(framefd.UnsupportedError):
                client.call("x")
        levels = {record.levelno for record in logs.records}
        self.assertEqual(levels, {logging.INFO, logging.DEBUG})

    def test_what_a_log_raises_ends_nothing(self) -> None:
        def broken(level: int, text: str) -> None:
            raise RuntimeError("the log is broken")

        for workers in WORKERS:
            server = server_with(workers=workers, log=broken)
            server.command("fail")(lambda request: 1 // 0)
            with self.assertLogs("framefd") as logs, self.served(server) as client:
                for _ in range(2):
                    with self.assertRaises(framefd.FrameError):
                        client.call("fail")
            self.assertIn("the log is broken", logs.output[0])

    def test_a_client_cannot_flood_it_and_its_text_is_escaped(self) -> None:
        lines: list[str] = []
        server = server_with(log=lambda level, text: lines.append(text))

        @server.command("fail")
        def fail(request: framefd.ServerRequest) -> None:
            raise ValueError(request.header["text"])

        with self.served(server) as client:
            for _ in range(500):
                with self.assertRaises(framefd.FrameError):
                    client.call("fail", {"text": "\x1b[31m\u202e"})
        failed = [line for line in lines if "ValueError" in line]
        self.assertTrue(45 < len(failed) < 200, len(failed))
        for line in failed:
            self.assertIn("\\x1b[31m\\u202e", line)
            self.assertTrue(line.replace("\n", "").isprintable())

    def test_the_number_of_lines_left_out_is_told(self) -> None:
        from framefd._log import Log as Target

        lines: list[str] = []
        log = Target(lambda level, text: lines.append(text))
        for _ in range(60):
            log.exception("x", ValueError())
        log._filled -= 10
        log.exception("x", ValueError())
        self.assertRegex(lines[-2], "^(9|10) exceptions before this were left out$")


class Concurrency(Case):
    def test_workers_serve_several_at_once_and_no_worker_one(self) -> None:
        for workers, at_once in ((0, 1), (3, 3)):
            server = server_with(workers=workers)
            here, most, lock = 0, 0, threading.Lock()
            together = threading.Barrier(at_once)
            threads: set[int] = set()

            @server.command("x")
            def x(request: framefd.ServerRequest) -> None:
                nonlocal here, most
                with lock:
                    here += 1
                    most = max(most, here)
                    threads.add(threading.get_ident())
                together.wait(LONG)  # noqa: B023
                with lock:
                    here -= 1

            address = server.listen("127.0.0.1:0")
            with server, server.serving():
                with contextlib.ExitStack() as stack:
                    for _ in range(3):
                        client = self.client(address)
                        stack.enter_context(support.meanwhile(lambda c=client: c.call("x")))
            self.assertEqual((most, len(threads)), (at_once, at_once))


if __name__ == "__main__":
    unittest.main()
