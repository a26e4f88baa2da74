"""A command that the peer runs, in asyncio."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .._arguments import BytesLike
from .._commands import RemoteCommand as BlockingCommand
from .._errors import FrameError
from .._exec import CompletedCommand

if TYPE_CHECKING:
    from ._connection import Connection

Result = TypeVar("Result")


class RemoteCommand:
    """A command that the peer runs: see :class:`framefd.RemoteCommand`.

    Iterate it for its output, ``(STDOUT or STDERR, bytes)`` as it is received. The end of the
    `async with` block drops the rest of the output, and waits for the end of the command. If
    an exception or a cancellation ends the block, the connection is closed at once, and the
    server ends the command, unless it is ``detached``.
    """

    def __init__(self, connection: Connection, command: BlockingCommand) -> None:
        self.connection = connection
        self._command = command
        self._holds_turn = True

    async def read(self, size: int = 65536) -> tuple[int, bytes] | None:
        """Returns output as it is received; None: the command has ended."""
        piece = await self._step(self._command.read, size)
        if piece is None:
            self._release()
        return piece

    async def write(self, data: BytesLike) -> None:
        """Sends input to the command, all of it. Another task must read the output meanwhile,
        if there can be much."""
        rest = memoryview(data).cast("B")
        while len(rest) and self._holds_turn:
            count = await self._step(self._command.write, rest)
            rest = rest[count:]
            if not count:
                await self.connection._wait(self.connection._reading)

    async def end_input(self) -> None:
        """Ends the command's input."""
        await self._step(self._command.end_input)

    def signal(self, number: int) -> None:
        """Sends a signal to the command's process group; the call that reads sends it."""
        self._command.signal(number)
        self.connection._reading.wake()

    def resize(self, rows: int | os.terminal_size, columns: int | None = None) -> None:
        """Changes the size of the command's terminal, in the same way."""
        self._command.resize(rows, columns)
        self.connection._reading.wake()

    async def finish(self) -> CompletedCommand:
        """Drops the unread output, ends the input, waits for the end of the command and
        returns its ``result``."""
        done = await self._step(self._command.finish)
        self._release()
        return done

    @property
    def result(self) -> CompletedCommand:
        """The command's result. StateError: it has not ended."""
        return self._command.result

    async def _step(self, step: Callable[..., Result], *arguments: Any) -> Result:
        try:
            return await self.connection._retried(step, *arguments)
        except FrameError as error:
            if error.remote:
                self._release()  # it was refused, and the connection is free
            raise

    def _release(self) -> None:
        if self._holds_turn:
            self._holds_turn = False
            self.connection._turn.release()

    def __aiter__(self) -> RemoteCommand:
        return self

    async def __anext__(self) -> tuple[int, bytes]:
        piece = await self.read()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def __aenter__(self) -> RemoteCommand:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        try:
            if kind is None and self._holds_turn:
                await self.finish()
        finally:
            if self._holds_turn:
                self.connection.close()
                self._release()
