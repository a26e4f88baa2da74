"""What the library lends, copied into Python's objects."""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from ._abi import FrameView
from ._errors import MalformedError
from ._headers import Header, decode

# All memory, by address: a slice of it is the quickest copy that ctypes makes.
memory: Any = (ctypes.c_char * sys.maxsize).from_address(0)


class Frame(NamedTuple):
    """A received message: ``header, body = connection.recv()``.

    ``header`` is what the sender put in, without the ``data_size`` of the wire: that is
    ``len(body)``. So a message can be sent on with ``send(*frame)``.
    """

    header: Header
    body: bytes


four_numbers = struct.Struct("4N").unpack_from

# Frame(header, body) in half the time: without a call of a function in Python.
new_frame = tuple.__new__


class Views:
    """Room for what one call lends, until it is copied."""

    def __init__(self, most: int) -> None:
        self.array = (FrameView * most)()
        self.most = most
        # Each member of a view is as wide as a size_t.
        self._numbers = memoryview(self.array).cast("B").cast("L")
        self._empty = b""

    def header(self) -> bytes:
        """The text of the first header."""
        start, length, _, _ = four_numbers(self.array)
        text: bytes = memory[start : start + length]
        return text

    def frame(self) -> Frame:
        """The first message."""
        header, header_len, body, body_len = four_numbers(self.array)
        text = memory[header : header + header_len]
        fields = {} if text == self._empty else self._decoded(text)
        return new_frame(Frame, (fields, memory[body : body + body_len]))

    def frames(self, count: int) -> tuple[list[Frame], MalformedError | None]:
        """The first ``count`` messages; or those before one whose header Python does not
        take, and its error."""
        frames: list[Frame] = []
        append, empty = frames.append, self._empty
        try:
            for header, header_len, body, body_len in in_fours(
                self._numbers[: 4 * count].tolist()
            ):
                text = memory[header : header + header_len]
                if text == empty:
                    fields = {}
                else:
                    fields, empty = self._decoded(text), self._empty
                append(new_frame(Frame, (fields, memory[body : body + body_len])))
        except MalformedError as error:
            return frames, error
        return frames, None

    def _decoded(self, text: bytes) -> Header:
        if not text:
            return {}  # a packet
        fields = decode(text)
        if not fields:
            self._empty = text  # that of most messages without fields, if they are of one size
        return fields


def in_fours(numbers: list[int]) -> Iterator[tuple[int, int, int, int]]:
    source = iter(numbers)
    return zip(source, source, source, source)
