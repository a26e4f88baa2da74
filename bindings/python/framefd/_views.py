"""What a reader or a decoder lends, copied into Python's objects."""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from typing import Any

from ._abi import FrameView
from ._errors import MalformedError
from ._frames import Frame, new_frame
from ._headers import Header, decode

# The members of a FrameView, each of which is as wide as a size_t.
MEMBERS = struct.Struct("4N")

# All memory from an address on: a slice is the quickest copy that ctypes makes.
Memory = ctypes.c_char * sys.maxsize


class Views:
    """Room for what one call lends, until it is copied."""

    def __init__(self, most: int) -> None:
        array = (FrameView * most)()
        self.most = most
        self.pointer = ctypes.pointer(array[0])
        self._members = memoryview(array).cast("B")
        self._empty = b""

    def header(self) -> bytes:
        """The text of the first header."""
        start, length, _, _ = MEMBERS.unpack_from(self._members)
        return copy(start, length)

    def body(self) -> bytes:
        """The first body, or the bytes of the first packet."""
        _, _, start, length = MEMBERS.unpack_from(self._members)
        return copy(start, length)

    def frame(self) -> Frame:
        """The first frame."""
        start, header_len, body, body_len = MEMBERS.unpack_from(self._members)
        memory: Any = Memory.from_address(start)
        text = memory[:header_len]
        fields = {} if text == self._empty else self._decoded(text)
        body -= start
        return new_frame(Frame, (fields, memory[body : body + body_len]))

    def frames(self, count: int) -> tuple[list[Frame], MalformedError | None]:
        """The first ``count`` frames; or those before one whose header Python does not
        take, and its error."""
        rows = self._members[: count * MEMBERS.size].cast("L").tolist()
        start = rows[0]
        # They lie one behind the other in the memory of whoever lends them.
        memory: Any = Memory.from_address(start)
        frames: list[Frame] = []
        append, empty = frames.append, self._empty
        try:
            for header, header_len, body, body_len in in_fours(rows):
                header -= start
                text = memory[header : header + header_len]
                if text == empty:
                    fields = {}
                else:
                    fields, empty = self._decoded(text), self._empty
                body -= start
                append(new_frame(Frame, (fields, memory[body : body + body_len])))
        except MalformedError as error:
            return frames, error
        return frames, None

    def _decoded(self, text: bytes) -> Header:
        fields = decode(text)
        if not fields:
            self._empty = text  # that of most frames without fields, if they are of one size
        return fields


def in_fours(numbers: list[int]) -> Iterator[tuple[int, int, int, int]]:
    source = iter(numbers)
    return zip(source, source, source, source)


def copy(start: int, length: int) -> bytes:
    memory: Any = Memory.from_address(start)
    data: bytes = memory[:length]
    return data
