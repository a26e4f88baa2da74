"""Holds the vectors against their generator, and against readers written apart from it."""

from __future__ import annotations

import hashlib
import io
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sealed

ROOT = pathlib.Path(__file__).parent
FOLDERS = ("frames", "packets", "auth", "names", "datagrams", "seal")
LARGEST_FILE = 200 * 1024


class Refused(Exception):
    """Its argument is the error's name in the index."""


class Vectors(unittest.TestCase):
    def test_the_generator_makes_the_same_files(self) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            subprocess.run([sys.executable, ROOT / "generate.py", temporary], check=True)
            made, kept = contents(pathlib.Path(temporary)), contents(ROOT)
        changed = [path for path in made.keys() | kept.keys() if made.get(path) != kept.get(path)]
        self.assertEqual(sorted(changed), [], "run tests/vectors/generate.py and commit")

    def test_files_are_small_and_all_in_the_index(self) -> None:
        for folder in ("frames", "packets"):
            named = {row[0] for row in rows(folder)}
            there = {path.relative_to(ROOT / folder) for path in ROOT.glob(f"{folder}/*/*.bin")}
            self.assertEqual(named, set(map(str, there)))
        for path, data in contents(ROOT).items():
            self.assertLess(len(data), LARGEST_FILE, path)

    def test_rows_have_every_column(self) -> None:
        for folder in FOLDERS:
            text = (ROOT / folder / "index.tsv").read_text("ascii")
            columns = text.split("\n")[0].count("\t") + 1
            for row in rows(folder):
                self.assertEqual(len(row), columns, row)
                self.assertNotIn("", row)

    def test_a_folder_tells_whether_a_file_is_good(self) -> None:
        for folder in ("frames", "packets"):
            for file, reads in by_file(folder):
                expected = "ok" if file.startswith("good/") else "an error"
                result = "ok" if reads[-1][1] == "ok" else "an error"
                self.assertEqual(result, expected, file)
                self.assertTrue(all(read[1] == "ok" for read in reads[:-1]), file)

    def test_frames(self) -> None:
        for file, reads in by_file("frames"):
            with self.subTest(file):
                data = (ROOT / "frames" / file).read_bytes()
                stream = io.BytesIO(data)
                for _, result, header, body, consumed, options in reads:
                    limits = dict(
                        option.split("=") for option in options.split(",") if "=" in option
                    )
                    start = stream.tell()
                    try:
                        got = receive_frame(stream, **{k: int(v) for k, v in limits.items()})
                    except Refused as refused:
                        self.assertEqual((str(refused), "-", "-"), (result, header, body))
                    else:
                        self.assertEqual("ok", result)
                        self.assertEqual(got[0], column_bytes(header, got[0], str.encode))
                        self.assertEqual(got[1], column_bytes(body, got[1], bytes.fromhex))
                    self.assertEqual(stream.tell() - start, int(consumed))
                if result == "ok":
                    self.assertEqual(stream.tell(), len(data))

    def test_packets(self) -> None:
        for file, reads in by_file("packets"):
            with self.subTest(file):
                data = (ROOT / "packets" / file).read_bytes()
                stream = io.BytesIO(data)
                for _, result, payload, consumed, width, order, sign, maximum in reads:
                    start = stream.tell()
                    limit = sys.maxsize if maximum == "-" else int(maximum)
                    try:
                        got = receive_packet(stream, int(width), order, sign == "signed", limit)
                    except Refused as refused:
                        self.assertEqual((str(refused), "-"), (result, payload))
                    else:
                        self.assertEqual("ok", result)
                        self.assertEqual(got, column_bytes(payload, got, bytes.fromhex))
                    self.assertEqual(stream.tell() - start, int(consumed))
                if result == "ok":
                    self.assertEqual(stream.tell(), len(data))

    def test_answers(self) -> None:
        by_group: dict[str, set[str]] = {}
        for name, key, challenge, answer in rows("auth"):
            with self.subTest(name):
                self.assertEqual(len(bytes.fromhex(challenge)), 32)
                computed = hmac_sha256(bytes.fromhex(key), bytes.fromhex(challenge))
                self.assertEqual(computed.hex(), answer)
            if name.startswith(("same-", "other-")):
                by_group.setdefault("-".join(name.split("-")[:2]), set()).add(answer)
        for name, found in by_group.items():
            self.assertEqual(len(found), 1 if name.startswith("same") else 2, name)

    def test_tags_of_datagrams(self) -> None:
        for name, key, direction, result, datagram in rows("datagrams"):
            with self.subTest(f"{name} {direction}"):
                # HKDF of RFC 5869: extract without a salt, expand to one block.
                info = f"framefd datagram v1 {direction}".encode()
                extracted = hmac_sha256(bytes(32), bytes.fromhex(key))
                derived = hmac_sha256(extracted, info + b"\x01")
                data = bytes.fromhex(datagram)
                frame, tag = data[:-32], data[-32:]
                is_tagged = len(data) >= 32 and hmac_sha256(derived, frame) == tag
                self.assertEqual(is_tagged, result != "AUTH")
                if is_tagged:
                    whole = (
                        len(frame) > 4
                        and len(frame) == 4 + frame[0] + data_size(frame[4 : 4 + frame[0]])
                    )
                    self.assertEqual(whole, result == "ok")

    def test_the_reader_of_answers_is_hmac(self) -> None:
        # RFC 4231, test cases 2 and 6.
        self.assertEqual(
            hmac_sha256(b"Jefe", b"what do ya want for nothing?").hex(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        )
        self.assertEqual(
            hmac_sha256(
                b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First"
            ).hex(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        )

    def test_sealed_sessions(self) -> None:
        for row in rows("seal"):
            suite, role, key_id, name, key, ours, theirs, psk, prologue, client, server = row[:11]
            with self.subTest(suite):
                number = int(suite)
                preface = sealed.preface_of(number, key_id.encode())
                derived = sealed.psk_of(bytes.fromhex(key), number)
                mixed = sealed.prologue_of(int(role), preface, name.encode())
                self.assertEqual((derived.hex(), mixed.hex()), (psk, prologue))
                ends = [
                    sealed.Handshake(number, derived, mixed, bytes.fromhex(private))
                    for private in (ours, theirs)
                ]
                first = ends[0].write(None)
                self.assertEqual((preface + b"\0\x30" + first).hex(), client)
                second = ends[1].write(ends[1].read(first, True))
                self.assertEqual((b"\0\x30" + second).hex(), server)
                ends[0].read(second, False)
                for end in ends:
                    found = [data.hex() for data in (end.h, *end.split())]
                    self.assertEqual(found, row[11:14])
                k1, k2 = ends[0].split()
                records = [
                    sealed.record(number, k1, 0, sealed.CONFIRM, b""),
                    sealed.record(number, k1, 1, sealed.DATA, b"hello"),
                ]
                k1 = sealed.rekey(number, k1)
                records.append(sealed.record(number, k1, 2, sealed.PADDED, b"\0\x02hi\0\0\0\0"))
                records.append(sealed.record(number, k1, 3, sealed.END, b""))
                self.assertEqual(",".join(data.hex() for data in records), row[14])
                records = [
                    sealed.record(number, k2, 0, sealed.DATA, b"world"),
                    sealed.record(number, k2, 1, sealed.END, b""),
                ]
                self.assertEqual(",".join(data.hex() for data in records), row[15])

    def test_names(self) -> None:
        for name, result, column in rows("names"):
            with self.subTest(name):
                raw = b"" if column == "-" else bytes.fromhex(column)
                self.assertEqual("ok" if name_is_acceptable(raw) else "PATH", result)


def contents(root: pathlib.Path) -> dict[str, bytes]:
    """Every generated file under a directory."""
    paths = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def rows(folder: str) -> Iterator[list[str]]:
    for line in (ROOT / folder / "index.tsv").read_text("ascii").split("\n"):
        if line and not line.startswith("#"):
            yield line.split("\t")


def by_file(folder: str) -> Iterator[tuple[str, list[list[str]]]]:
    for file, reads in groupby(rows(folder), lambda row: row[0]):
        yield file, list(reads)


def column_bytes(column: str, got: bytes, decode: Any) -> bytes:
    """What a column expects; `@N` expects N bytes as they stand in the file."""
    if column.startswith("@"):
        return got if len(got) == int(column[1:]) else b"not " + column.encode()
    decoded: bytes = b"" if column == "-" else decode(column)
    return decoded


def receive_frame(
    stream: io.BytesIO, max_header: int = 65536, max_body: int = 67108864
) -> tuple[bytes, bytes]:
    header = receive_packet(stream, 4, "little", True, max_header, least=1)
    size = data_size(header)
    if size > max_body:
        raise Refused("TOOBIG")
    return header, read_exact(stream, size)


def receive_packet(
    stream: io.BytesIO, width: int, order: Any, signed: bool, limit: int, least: int = 0
) -> bytes:
    prefix = stream.read(width)
    if not prefix:
        raise Refused("CLOSED")
    if len(prefix) < width:
        raise Refused("TRUNCATED")
    length = int.from_bytes(prefix, order, signed=signed)
    if length < least:
        raise Refused("BADLENGTH")
    if length > limit:
        raise Refused("TOOBIG")
    return read_exact(stream, length)


def read_exact(stream: io.BytesIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise Refused("TRUNCATED")
    return data


class Number(str):
    """A number as it is written."""


class Object(list[tuple[str, Any]]):
    """An object with its keys in order, those that are there twice too."""


def data_size(header: bytes) -> int:
    """The `data_size` of a header, 0 where there is none."""
    try:
        value = json.loads(
            header.decode("utf-8"),
            object_pairs_hook=Object,
            parse_int=Number,
            parse_float=Number,
            parse_constant=refuse_constant,
        )
    except (ValueError, RecursionError):
        raise Refused("BADJSON") from None
    if not isinstance(value, Object):
        raise Refused("BADJSON")
    sizes = [size for key, size in value if key == "data_size"]
    others = Object((key, other) for key, other in value if key != "data_size")
    if not is_acceptable(others, depth=1):
        raise Refused("BADJSON")
    if not sizes:
        return 0
    if len(sizes) > 1 or not isinstance(sizes[0], Number) or not sizes[0].isdecimal():
        raise Refused("BADFIELD")
    return int(sizes[0]) if len(sizes[0]) < 100 else sys.maxsize


def refuse_constant(name: str) -> None:
    raise ValueError(name)


def is_acceptable(value: Any, depth: int) -> bool:
    """Whether the nesting is within 32, no string has half a surrogate pair, numbers are finite."""
    if isinstance(value, Number):
        return math.isfinite(float(value))
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if not isinstance(value, list):
        return True
    inner = [part for pair in value for part in pair] if isinstance(value, Object) else value
    return depth <= 32 and all(is_acceptable(part, depth + 1) for part in inner)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104 to the letter, without the hmac module."""
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def name_is_acceptable(name: bytes) -> bool:
    """No NUL; 255 bytes a component; none empty, `.` or `..`."""
    component = rb"(?!\.{1,2}(?:/|\Z))[^/\x00]{1,255}"
    whole = component + rb"(?:/" + component + rb"){0,254}"
    return len(name) < 4096 and re.fullmatch(whole, name) is not None


if __name__ == "__main__":
    unittest.main()
