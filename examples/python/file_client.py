"""Sends files and trees to a server, fetches them, and shows what is there."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import common
import framefd
from common import Mistake

HELP = """\
usage: file_client [OPTION]... HOST PORT [REQUEST]

Does what REQUEST says, or each line of a prompt that quit or end of input ends:

  put [OPTION]... LOCAL [REMOTE]  send a file
  get [OPTION]... REMOTE [LOCAL]  fetch a file
  stat REMOTE                     show kind, mode, size, time and name of REMOTE
  list [REMOTE]                   the same of all that is in the directory REMOTE

A second name that is left out is the last part of the first; a file goes into LOCAL if
that is a directory, and into REMOTE if that ends with a slash. LOCAL can be -, which is
standard input or output. list shows the server's root. At the prompt a name with blanks
is in quotes, or has a backslash before each. In names a control character is shown as
\\xNN, and a backslash as \\\\.

  -r               send or fetch a directory with all that is in it; files keep their
                   modes and times; symbolic links are left out, and what cannot be read
                   or stored, which makes the status 1
  --resume         go on where the last attempt was cut; with -r, pass over files that
                   have the same size and time already
  --in-place       write over a file that is there, and do not replace it: it keeps its
                   owner and its hard links, and can be a mount
  --no-checksum    do not compare the content's SHA-256
  --no-reply       put to an old server, which does not say whether it stored the file

  --key-file FILE  prove to the server that this client holds the key in FILE
  --seal           have the server prove the key too, and encrypt all that is sent; the
                   server needs --seal as well
  --id ID          the name of this client's key in the server's --keys
  --name NAME      the server's --name
  --help           show this and exit

Where standard error is a terminal it shows how far a transfer is.
"""

BAR_WIDTH, BAR_SECONDS = 40, 0.1
BUSY_SECONDS, RETRY_SECONDS = 3, 0.1  # wait while a file is busy

# Options and how many names each request takes.
TRANSFER = ("-r", "--resume", "--in-place", "--no-checksum")
REQUESTS = {
    "put": ((*TRANSFER, "--no-reply"), 1, 2),
    "get": (TRANSFER, 1, 2),
    "stat": ((), 1, 1),
    "list": ((), 0, 1),
}


STANDARD_INPUT, STANDARD_OUTPUT = ("-", "/dev/stdin"), ("-", "/dev/stdout")


class Request(NamedTuple):
    verb: str
    options: dict[str, str]
    source: str
    target: str
    within: bool  # a single file goes into the target


def main() -> int:
    arguments = common.Arguments(HELP, *common.CLIENT_SEAL)
    if arguments.request:
        return perform(arguments, arguments.request)
    status = 0
    for line in common.requests(arguments):
        try:
            words = shlex.split(os.fsdecode(line))
        except ValueError:
            common.warn("a quote is not closed, see --help")
            status = 1
        else:
            status = perform(arguments, words)
    return status


def perform(arguments: common.Arguments, words: list[str]) -> int:
    """Runs one request on its own connection: a transfer that fails halfway breaks it."""
    try:
        request = read_request(words)
    except Mistake as mistake:
        common.warn(str(mistake))
        return 1
    with common.connect(arguments) as server:
        try:
            if request.verb == "stat":
                show_file(server.stat(request.source), request.source)
            elif request.verb == "list":
                for entry in server.listdir(request.source):
                    show_file(entry, entry.name)
            else:
                transfer(server, request)
        except framefd.FrameError as error:
            common.warn(common.reason_of(error))
            return 1
    return 0


def read_request(words: list[str]) -> Request:
    verb, *words = words
    if verb not in REQUESTS:
        raise Mistake(f"no request is called {verb}, see --help")
    options, least, most = REQUESTS[verb]
    long = [option[2:] for option in REQUESTS["put"][0][1:]]
    found, names = common.read_options(words, "r", long)
    for option, _ in found:
        if option not in options:
            raise Mistake(f"unknown option {option}, see --help")
    if {"-r", "--no-reply"} <= dict(found).keys():
        raise Mistake("-r and --no-reply do not go together, see --help")
    if not least <= len(names) <= most:
        raise Mistake(f"{verb} takes {least} to {most} names, see --help")
    # A shell adds a slash to the name of a directory that it completes.
    source = names[0][:1] + names[0][1:].rstrip("/") if names else ""
    target = names[1] if names[1:] else os.path.basename(source)
    within = target.endswith("/") if verb == "put" else os.path.isdir(target)
    if verb == "put" and names == ["-"]:
        raise Mistake("put - needs a REMOTE, see --help")
    if verb == "put" and source in STANDARD_INPUT and "-r" in dict(found):
        raise Mistake("-r does not go with standard input, see --help")
    to_a_path = {"-r", "--resume", "--in-place"} & dict(found).keys()
    if verb == "get" and target in STANDARD_OUTPUT and to_a_path:
        said = "-r, --resume and --in-place do not go with standard output, see --help"
        raise Mistake(said)
    return Request(verb, dict(found), source, target, within)


def transfer(server: framefd.Connection, request: Request) -> None:
    verb, given, source, target, within = request
    is_tree = "-r" in given and not is_single(server, verb, source)
    if within and not is_tree:
        target = os.path.join(target, os.path.basename(source))
    options: dict[str, Any] = {
        "resume": "--resume" in given,
        "in_place": "--in-place" in given,
        "checksum": "--no-checksum" not in given,
        "preserve": "-r" in given,
    }
    if "--no-reply" in given:
        options["reply"] = False
    not_all = None
    with progress_bar() as progress, contextlib.ExitStack() as stack:
        options["progress"] = progress
        if is_tree:
            move_tree = server.put_tree if verb == "put" else server.get_tree
            try:
                tree = patiently(move_tree, source, target, **options)
            except framefd.IncompleteError as error:
                tree, not_all = error.result, error
        elif verb == "put":
            file = patiently(server.put, opened(source, stack), target, **options)
        elif target in STANDARD_OUTPUT:
            patiently(server.get, source, StandardOutput(), **options)
            return
        else:
            file = patiently(server.get, source, target, **options)
    if is_tree:
        said = f"{tree.bytes} bytes, files: {tree.files}"
        said += f", directories: {tree.directories}, left out: {tree.skipped + tree.failed}"
    else:
        said = f"{file.size} bytes" + (f", sha256 {file.sha256}" if file.sha256 else "")
    common.show(os.fsencode(f"{verb} {target if verb == 'put' else source}: {said}\n"))
    if not_all is not None:
        raise not_all


def is_single(server: framefd.Connection, verb: str, source: str) -> bool:
    """Whether -r is for a single file."""
    if verb == "put":
        return os.path.exists(source) and not os.path.isdir(source)
    try:
        return server.stat(source).kind == "file"
    except framefd.FrameError:
        return False


def opened(source: str, stack: contextlib.ExitStack) -> Any:
    """What the package reads: standard input, a pipe, or the path of another file."""
    if source in STANDARD_INPUT:
        return common.STDIN
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.stat(source).st_mode):
            return stack.enter_context(open(source, "rb", buffering=0))
    return source


class StandardOutput:
    """Gets a file once it is complete, also if it does not block."""

    def write(self, data: bytes) -> None:
        common.show(data)


def patiently(move: Callable[..., Any], *names: Any, **options: Any) -> Any:
    """Puts or gets. With --resume it waits while the file is busy: the last attempt may have
    been interrupted just now. Once that is silent for 2 s, this one takes the file over."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return move(*names, **options)
        except framefd.BusyError as error:
            is_remote = error.code == framefd.ErrorCode.REMOTE_BUSY
            if not (is_remote and options["resume"]) or time.monotonic() >= end:
                raise
        time.sleep(RETRY_SECONDS)


# ---- what is shown


def show_file(file: framefd.FileStat | framefd.Entry, name: str) -> None:
    """One line for one file, whatever its name."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(math.floor(file.mtime)))
    # The control characters, U+0080 to U+009F among them, and the backslash.
    shown = re.sub(rb"[\x00-\x1f\x7f\\]|\xc2[\x80-\x9f]", escaped, os.fsencode(name))
    line = f"{file.kind} {file.mode:04o} {file.size} {when} ".encode() + shown + b"\n"
    common.show(line)


def escaped(match: re.Match[bytes]) -> bytes:
    if match[0] == b"\\":
        return b"\\\\"
    return b"".join(b"\\x%02x" % byte for byte in match[0])


@contextlib.contextmanager
def progress_bar() -> Iterator[framefd.Progress | None]:
    """A bar on standard error if that is a terminal: the best one that is installed."""
    if not sys.stderr.isatty():
        yield None
        return
    with contextlib.ExitStack() as stack:
        for bar in (tqdm_bar, rich_bar, plain_bar):
            with contextlib.suppress(ImportError):
                draw = stack.enter_context(bar())
                break
        yield draw


@contextlib.contextmanager
def tqdm_bar() -> Iterator[framefd.Progress]:
    import tqdm

    with contextlib.ExitStack() as stack:
        bar: tqdm.tqdm[None] | None = None

        def draw(_: str, done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                bar = tqdm.tqdm(total=total, unit="B", unit_scale=True, leave=False)
                stack.enter_context(bar)
            bar.update(done - bar.n)

        yield draw


@contextlib.contextmanager
def rich_bar() -> Iterator[framefd.Progress]:
    from rich import console, progress

    terminal = console.Console(stderr=True)
    with progress.Progress(console=terminal, transient=True) as bar:
        terminal.show_cursor()  # which would stay hidden after Ctrl-C
        task = bar.add_task("")
        yield lambda _, done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def plain_bar() -> Iterator[framefd.Progress]:
    due = 0.0

    def draw(_: str, done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            part = done / total if total else 1
            filled = "#" * int(part * BAR_WIDTH)
            sys.stderr.write(f"\r[{filled:-<{BAR_WIDTH}}] {part:4.0%}")
            sys.stderr.flush()
            due = time.monotonic() + BAR_SECONDS

    try:
        yield draw
    finally:
        if due:
            sys.stderr.write("\r" + " " * (BAR_WIDTH + 7) + "\r")


if __name__ == "__main__":
    common.run(main, failure=1)
