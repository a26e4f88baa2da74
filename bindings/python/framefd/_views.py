"""What a reader or a decoder lends, copied into Python's objects."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator

from ._errors import MalformedError
from ._frames import Frame, new_frame
from ._headers import Header, decode
from ._native import FrameView, python

# The members of a FrameView, each of which is as wide as a size_t.
MEMBERS = struct.Struct("4N")

# Frames that are smaller, on average, are copied together and then cut: a call for each
# takes longer than copying them twice.
CUT_BELOW = 4096


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
        header, header_len, body, body_len = MEMBERS.unpack_from(self._members)
        if body_len >= CUT_BELOW:
            return self._copied(header, header_len, body, body_len)
        size = (body + body_len if body else header + header_len) - header
        block = python.PyBytes_FromStringAndSize(header, size)
        text = block[:header_len]
        fields = {} if text == self._empty else self._decoded(text)
        return new_frame(Frame, (fields, block[size - body_len :] if body else b""))

    def frames(self, count: int) -> tuple[list[Frame], MalformedError | None]:
        """The first ``count`` frames; or those before one whose header Python does not
        take, and its error."""
        if count == 1:
            return self._one()
        rows = self._members[: count * MEMBERS.size].cast("L").tolist()
        start = rows[0]
        # They lie one behind the other in the memory of whoever lends them.
        size = max(sum(rows[-2:]), sum(rows[-4:-2])) - start
        frames: list[Frame] = []
        try:
            if size < count * CUT_BELOW:
                self._cut(copy(start, size), start, rows, frames)
            else:
                for row in in_fours(rows):
                    frames.append(self._copied(*row))
        except MalformedError as error:
            return frames, error
        return frames, None

    def _one(self) -> tuple[list[Frame], MalformedError | None]:
        try:
            return [self.frame()], None
        except MalformedError as error:
            return [], error

    def _cut(self, block: bytes, start: int, rows: list[int], frames: list[Frame]) -> None:
        """Appends the frames of a block that was copied from ``start``."""
        append, empty = frames.append, self._empty
        for header, header_len, body, body_len in in_fours(rows):
            header -= start
            text = block[header : header + header_len]
            if text == empty:
                fields = {}
            else:
                fields, empty = self._decoded(text), self._empty
            body -= start
            append(new_frame(Frame, (fields, block[body : body + body_len])))

    def _copied(self, header: int, header_len: int, body: int, body_len: int) -> Frame:
        fields = self._decoded(copy(header, header_len))
        return new_frame(Frame, (fields, copy(body, body_len)))

    def _decoded(self, text: bytes) -> Header:
        fields = decode(text)
        if not fields:
            self._empty = text  # that of most frames without fields, if they are of one size
        return fields


def in_fours(numbers: list[int]) -> Iterator[tuple[int, int, int, int]]:
    source = iter(numbers)
    return zip(source, source, source, source)


def copy(start: int, length: int) -> bytes:
    return python.PyBytes_FromStringAndSize(start, length) if length else b""
