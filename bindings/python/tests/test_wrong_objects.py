"""A wrong object is never taken: every function says what to pass, and sends nothing.

The public functions, their parameters and the types of these are found by inspection. So what
is new is tested as well, or fails for want of a line in the tables here.
"""

from __future__ import annotations

import asyncio
import bz2
import codecs
import contextlib
import gzip
import inspect
import io
import lzma
import multiprocessing
import os
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import support

import framefd
from framefd import _core, _native_server, aio

#: One object of each kind that a program may have in its hands.
OBJECTS: dict[str, Any] = {
    "None": None,
    "bool": True,
    "int": 1,
    "float": 1.5,
    "str": "1",
    "bytes": b"1",
    "tuple": (1.5, 1.5),
    "list": [1],
    "dict": {1: 1},
    "set": {1},
    "class": int,
    "object": object(),
}

#: Which of them are right, by the type of a parameter. A tuple, list or dict of others is not.
RIGHT: dict[str, set[str]] = {
    "BytesLike": {"bytes"},
    "BytesLike | None": {"bytes", "None"},
    "BlockingConnection": set(),
    "Command": {"str", "bytes"},
    "str | bytes": {"str", "bytes"},
    "str | bytes | None": {"str", "bytes", "None"},
    "Descriptor": {"int"},
    "Descriptor | None": {"int", "None"},
    "Environment | None": {"None"},
    "ExecOptions": set(),
    "ExecPolicy | None": {"class", "None"},
    "FilePolicy | None": {"class", "None"},
    "Progress | None": {"class", "None"},
    "Handler": {"class"},
    "Header | None": {"dict", "None"},
    "Request": {"dict", "None"},
    "str": {"str"},
    "Iterable[Message]": set(),
    "KeyLike": {"bytes"},
    "KeyLike | None": {"bytes", "None"},
    "Keys": {"bytes"},
    "Keys | None": {"bytes", "None"},
    "Mapping[str, KeyLike] | None": {"None"},
    "Links": set(),
    "Literal['little', 'big']": set(),
    "LocalFile": {"int", "str", "bytes"},
    "LocalFile | None": {"int", "str", "bytes", "None"},
    "LocalSource": {"int", "str", "bytes"},
    "LocalTarget": {"int", "str", "bytes"},
    "Prefix | None": {"None"},
    "ServerAddress": {"str"},
    "Address | None": {"str", "bytes", "None"},
    "ServerAddress | Descriptor": {"str", "int"},
    "ServerKeys | None": {"str", "None"},
    "LogLike | None": {"class", "None"},
    "ServedFunction | None": {"class", "None"},
    "Function": {"class"},
    "Iterable[int]": {"list", "dict", "set", "bytes"},
    "Iterable[int] | None": {"list", "dict", "set", "bytes", "None"},
    "socket.socket | int": {"int"},
    "StrOrBytesPath": {"str", "bytes"},
    "StrOrBytesPath | None": {"str", "bytes", "None"},
    "str | None": {"str", "None"},
    "float | None": {"float", "int", "bool", "None"},
    "int": {"int", "bool"},
    "int | None": {"int", "bool", "None"},
    "int | FrameError": {"int", "bool"},
    "int | os.terminal_size": {"int", "bool"},
    "tuple[int, int] | None": {"None"},
    "tuple[int, int] | os.terminal_size | None": {"None"},
}

#: Everything has a truth.
NOT_TESTED = {"bool"}

#: Wrong values of the right type, which are a ValueError.
CHOICES = {"Links", "Literal['little', 'big']"}

#: Types of parameters that also take a file.
FILES = {"Descriptor", "Descriptor | None", "LocalFile", "LocalFile | None"}

#: Those that also take any object with a read() or a write() of bytes.
CONTENTS = {"LocalSource", "LocalTarget"}

#: What the library makes, and no program.
RESULTS = {
    "framefd.CompletedCommand",
    "framefd.ErrorCode",
    "framefd.ExecInquiry",
    "framefd.ExecResult",
    "framefd.FileInquiry",
    "framefd.HasFileno",
    "framefd.Outcome",
    "framefd.Readable",
    "framefd.Writable",
    "framefd.ServedRequest",
    "framefd.ServerRequest",
    "framefd.aio.Server",
    "framefd.aio.ServerRequest",
}
#: Objects with methods, and how a test gets one from a connection.
OBJECTS_OF: dict[str, Callable[[Any], Any]] = {
    "framefd.Connection": lambda connection: connection,
    "framefd.RemoteCommand": lambda connection: connection.start("cat"),
    "framefd.Listener": lambda _: framefd.listen("127.0.0.1:0"),
    "framefd.Keyring": lambda _: framefd.Keyring(),
    "framefd.Key": lambda _: framefd.Key(support.KEY),
    "framefd.DatagramServer": lambda _: framefd.DatagramServer(support.KEY),
    "framefd.ExecOptions": lambda _: framefd.ExecOptions(),
    "framefd.Prefix": lambda _: framefd.Prefix(),
    "framefd.Seal": lambda _: framefd.Seal(key=support.KEY),
    "framefd.Server": lambda _: framefd.Server(),
    "framefd.aio.Connection": lambda connection: connection,
    "framefd.aio.RemoteCommand": lambda connection: connection.start("cat"),
}
#: Classes of which programs do not call the constructor.
NOT_CONSTRUCTED = {"framefd.RemoteCommand", "framefd.Listener", "framefd.aio.RemoteCommand"}

#: Right values for the parameters that are needed.
VALUES: dict[str, Callable[[socket.socket], Any]] = {
    "address": lambda _: "127.0.0.1:1",
    "body_len": lambda _: 1,
    "cmd": lambda _: "cmd",
    "command": lambda _: "true",
    "connection": lambda _: None,
    "data": lambda _: support.KEY,
    "destination": lambda _: "destination",
    "error": lambda _: framefd.ErrorCode.BUSY,
    "fd": lambda sock: sock,
    "file": lambda _: os.open(os.devnull, os.O_RDWR),
    "handler": lambda _: int,
    "header": lambda _: {},
    "key": lambda _: support.KEY,
    "key_id": lambda _: "id",
    "keys": lambda _: support.KEY,
    "listener": lambda sock: sock,
    "messages": lambda _: [b"body"],
    "name": lambda _: "name",
    "number": lambda _: 15,
    "path": lambda _: "path",
    "piece": lambda _: b"piece",
    "request": lambda _: {"cmd": "exec"},
    "root": lambda _: ".",
    "rows": lambda _: 1,
    "sock": lambda sock: sock,
    "source": lambda _: "source",
    "target": lambda _: bytearray(1),
}

#: Methods of asyncio that pass on the parameters of the blocking ones, and those they set.
PASSED_ON = ("arguments", "parameters")
SET_BY_AIO = {"exchange_timeout"}

Parameters = dict[str, inspect.Parameter]

#: Dicts of parameters.
UNPACKED: dict[str, Any] = {
    "Unpack[Options]": _core.Options,
    "Unpack[Limits]": _native_server.Limits,
}


def functions() -> Iterator[tuple[str, str | None, Callable[..., Any]]]:
    """Every public function and method: its class, if it has one, and its name."""
    for module in (framefd, aio):
        for name in module.__all__:
            item, full = getattr(module, name), f"{module.__name__}.{name}"
            if inspect.isfunction(item):
                yield full, None, item
            elif inspect.isclass(item) and not issubclass(item, (BaseException, tuple)):
                if full in RESULTS:
                    continue
                for method in dir(item):
                    # Before 3.12 dir() has a name more: __abstractmethods__.
                    function = inspect.getattr_static(item, method, None)
                    function = getattr(function, "__func__", function)
                    is_public = method == "__init__" or not method.startswith("_")
                    if is_public and inspect.isfunction(function):
                        if method != "__init__":
                            yield f"{full}.{method}", full, function
                        elif full not in NOT_CONSTRUCTED:
                            yield f"{full}.{method}", None, item


def parameters(name: str, function: Callable[..., Any]) -> Parameters:
    """The parameters, with those of a TypedDict and those that are passed on."""
    found: Parameters = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.annotation in UNPACKED:
            for option, kind in UNPACKED[parameter.annotation].__annotations__.items():
                text = getattr(kind, "__forward_arg__", kind)
                found[option] = parameter.replace(
                    name=option, kind=parameter.KEYWORD_ONLY, annotation=text, default=None
                )
        elif parameter.name in PASSED_ON:
            method = getattr(framefd.Connection, name.rpartition(".")[2])
            more = {**parameters(name, method), **found}
            found = {key: value for key, value in more.items() if key not in SET_BY_AIO}
        else:
            found[parameter.name] = parameter
    return found


def cases() -> Iterator[tuple[str, str | None, Callable[..., Any], Parameters, str]]:
    for name, owner, function in functions():
        all_of_them = parameters(name, function)
        for parameter in all_of_them.values():
            if parameter.annotation not in NOT_TESTED:
                yield name, owner, function, all_of_them, parameter.name


class Wrong(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory.name)
        pathlib.Path("source").write_bytes(b"content")
        self.files = contextlib.ExitStack()
        self.addCleanup(self.files.close)

    def test_every_parameter_of_every_function(self) -> None:
        tried = 0
        for name, owner, function, others, parameter in cases():
            if name.startswith("framefd.aio"):
                continue
            for wrong in self.wrong_objects(others[parameter]):
                with self.subTest(f"{name}({parameter}={wrong!r})"), self.peer() as ours:
                    connection = framefd.Connection(ours, timeout=0.2, own=False)
                    call = self.prepared(owner, function, others, connection, ours)
                    with self.refused(others[parameter], wrong, connection):
                        call(**{parameter: wrong})
                    connection.close()
                    tried += 1
        self.assertGreater(tried, 1000)

    def test_every_parameter_in_asyncio(self) -> None:
        asyncio.run(self.all_in_asyncio())

    async def all_in_asyncio(self) -> None:
        tried = 0
        for name, owner, function, others, parameter in cases():
            if not name.startswith("framefd.aio"):
                continue
            for wrong in self.wrong_objects(others[parameter]):
                with self.subTest(f"{name}({parameter}={wrong!r})"), self.peer() as ours:
                    connection = aio.Connection(ours, own=False)
                    call = self.prepared(owner, function, others, connection, ours)
                    if inspect.isawaitable(call):
                        call = await call
                    with self.refused(others[parameter], wrong, connection):
                        await settled(call(**{parameter: wrong}))
                    connection.close()
                    tried += 1
        self.assertGreater(tried, 300)

    def wrong_objects(self, parameter: inspect.Parameter) -> list[Any]:
        right = RIGHT[parameter.annotation]
        wrong = [value for kind, value in OBJECTS.items() if kind not in right]
        if parameter.annotation in CONTENTS:
            wrong += [file for file in self.wrong_files(True) if not has_bytes(file)]
        if parameter.annotation in FILES:
            is_written = parameter.name in ("stdout", "stderr")
            wrong += self.wrong_files(is_written or parameter.name == "file")
        return wrong

    @contextlib.contextmanager
    def peer(self) -> Iterator[socket.socket]:
        """A socket, to the other end of which nothing must come."""
        with support.stream() as (ours, theirs):
            ours.settimeout(0.2)
            self.theirs = theirs
            yield ours

    def prepared(
        self,
        owner: str | None,
        function: Callable[..., Any],
        others: Parameters,
        connection: Any,
        sock: socket.socket,
    ) -> Any:
        """The function with right values for what it needs, on an object of its class."""
        needed = {
            name: VALUES[name](sock)
            for name, other in others.items()
            if other.default is other.empty
        }
        if owner is None:
            return lambda **wrong: function(**{**needed, **wrong})
        item = OBJECTS_OF[owner](connection)

        def call(**wrong: Any) -> Any:
            given = {**needed, **wrong}
            if inspect.ismethod(getattr(type(item), function.__name__, None)):
                return function(type(item), **given)
            return function(item, **given)

        if inspect.isawaitable(item):
            return self.awaited(item, function, needed)
        return call

    async def awaited(
        self, made: Any, function: Callable[..., Any], needed: dict[str, Any]
    ) -> Callable[..., Any]:
        item = await made
        return lambda **wrong: function(item, **{**needed, **wrong})

    @contextlib.contextmanager
    def refused(
        self, parameter: inspect.Parameter, wrong: object, connection: Any
    ) -> Iterator[None]:
        """The block says what to pass, has sent nothing, and has left all as it was."""
        sent = connection.inspect().queued
        with contextlib.suppress(BlockingIOError):
            self.theirs.recv(1 << 16, socket.MSG_DONTWAIT)  # such as a command's start
        before = sorted(os.listdir())
        kinds: tuple[type[Exception], ...] = (TypeError,)
        if parameter.annotation in CHOICES:
            kinds = (TypeError, ValueError)
        if isinstance(wrong, io.BufferedReader) and isinstance(wrong.raw, io.FileIO):
            kinds = (framefd.StateError,)
        with self.assertRaises(kinds) as caught:
            yield
        if caught.exception.__class__ is not ValueError:
            self.assertRegex(str(caught.exception), says_what_it_is(wrong))
        with self.assertRaises(BlockingIOError):
            self.theirs.recv(1, socket.MSG_DONTWAIT)
        self.assertEqual(connection.inspect().broken, 0)
        self.assertEqual(connection.inspect().queued, sent)
        self.assertEqual(sorted(os.listdir()), before)

    def wrong_files(self, is_written: bool) -> list[Any]:
        if not hasattr(self, "made"):
            self.made = [self.files.enter_context(file) for file in files_of_other_bytes()]
            child = subprocess.Popen(["echo", "one\ntwo"], stdout=subprocess.PIPE)
            self.files.enter_context(child)
            assert child.stdout is not None
            child.stdout.readline()
            text = self.files.enter_context(open("source"))  # noqa: SIM115
            self.ahead = [child.stdout, text]
        return self.made if is_written else self.made + self.ahead


def files_of_other_bytes() -> Iterator[Any]:
    """Objects with a descriptor that does not have the bytes that they are given."""
    ours, theirs = socket.socketpair()
    yield theirs.makefile("rwb")
    context = ssl.create_default_context()
    context.check_hostname = False
    tls = context.wrap_socket(ours, do_handshake_on_connect=False)
    yield tls
    yield tls.makefile("rb")
    yield from multiprocessing.Pipe()
    for module in (gzip, bz2, lzma):
        yield module.open(f"{module.__name__}.z", "wb")  # type: ignore[attr-defined]
    yield codecs.open("source", encoding="utf-8")  # noqa: SIM115
    yield tempfile.SpooledTemporaryFile()  # noqa: SIM115
    yield io.BytesIO(b"content")
    yield io.StringIO("content")
    yield framefd.Connection(theirs)


def has_bytes(file: Any) -> bool:
    """Whether its read() and write() have the bytes that its descriptor has not."""
    return isinstance(file, (io.BufferedIOBase, tempfile.SpooledTemporaryFile))


def says_what_it_is(wrong: object) -> str:
    """What the text of an error has: the type of the object, or of an item of it."""
    names = {type(wrong).__name__}
    if isinstance(wrong, (tuple, list, set, dict)):
        names |= {type(item).__name__ for item in wrong}
    listed = "|".join(map(re.escape, sorted(names)))
    if hasattr(wrong, "fileno"):
        return rf"\b({listed})\b"
    return rf"not '?({listed})\b"


async def settled(outcome: Any) -> None:
    """Awaits what a function of asyncio returns."""
    if inspect.isasyncgen(outcome):
        await outcome.__anext__()
    elif inspect.isawaitable(outcome):
        await asyncio.wait_for(outcome, 1)


if __name__ == "__main__":
    unittest.main()
