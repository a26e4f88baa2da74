"""Writes the test vectors that the Rust, C and Python suites share; README.md has the columns.

Expected results are written down here by hand, never computed: test_vectors.py holds an
independent reader against them.

Usage: generate.py [DIRECTORY]
"""

from __future__ import annotations

import hashlib
import hmac
import pathlib
import shutil
import struct
import sys

MAX_HEADER = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
MAX_DEPTH = 32


def main() -> None:
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    for index in (frames(), packets(), answers(), names(), datagrams(), sealed()):
        index.write(root)


class Index:
    """The rows of one index.tsv, and the files they speak of."""

    def __init__(self, folder: str, *columns: str) -> None:
        self.folder = folder
        self.columns = columns
        self.rows: list[tuple[str, ...]] = []
        self.files: dict[str, bytes] = {}

    def add(self, *row: object) -> None:
        self.rows.append(tuple(map(str, row)))

    def add_file(self, path: str, data: bytes) -> str:
        if path in self.files:
            raise ValueError(f"{path} is there twice")
        self.files[path] = data
        return path

    def write(self, root: pathlib.Path) -> None:
        folder = root / self.folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        lines = ["# " + "\t".join(self.columns), *("\t".join(row) for row in self.rows)]
        (folder / "index.tsv").write_text("\n".join(lines) + "\n", encoding="ascii")
        for path, data in self.files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(data)


def text_column(data: bytes) -> str:
    """The text itself, or `@N` where a line of TSV would not hold it well."""
    text = data.decode("latin-1")
    plain = text.isascii() and text.isprintable() and text == text.strip()
    return text if plain and len(text) <= 200 else f"@{len(data)}"


def hex_column(data: bytes) -> str:
    """The bytes in hex, or `@N` where they are many."""
    return (data.hex() or "-") if len(data) <= 256 else f"@{len(data)}"


class Frame:
    """A frame that is received."""

    def __init__(self, header: bytes, body: bytes = b"") -> None:
        self.header = header
        self.body = body
        self.encoded = struct.pack("<i", len(header)) + header + body


class Frames(Index):
    def __init__(self) -> None:
        super().__init__("frames", "file", "result", "header", "body", "consumed", "options")

    def good(self, name: str, *received: Frame, options: str = "-") -> None:
        data = b"".join(frame.encoded for frame in received)
        self.add_received(self.add_file(f"good/{name}.bin", data), received, options)

    def cut(self, name: str, data: bytes, *before: Frame) -> None:
        """The stream ends inside `data`."""
        self.bad(name, "TRUNCATED", data, len(data), "-", *before)

    def bad_length(self, name: str, error: str, data: bytes, options: str = "-") -> None:
        self.bad(name, error, data, 4, options)

    def bad_header(
        self, name: str, error: str, header: bytes, body: bytes = b"", options: str = "-"
    ) -> None:
        self.bad(name, error, Frame(header, body).encoded, 4 + len(header), options)

    def bad(
        self, name: str, error: str, data: bytes, consumed: int, options: str, *before: Frame
    ) -> None:
        data = b"".join(frame.encoded for frame in before) + data
        file = self.add_file(f"bad/{name}.bin", data)
        self.add_received(file, before, options)
        self.add(file, error, "-", "-", consumed, options)

    def add_received(self, file: str, received: tuple[Frame, ...], options: str) -> None:
        for frame in received:
            header, body = text_column(frame.header), hex_column(frame.body)
            self.add(file, "ok", header, body, len(frame.encoded), options)


def frames() -> Frames:
    vectors = Frames()
    bodies_and_boundaries(vectors)
    ends_of_stream(vectors)
    lengths(vectors)
    text_that_is_json(vectors)
    text_that_is_not_json(vectors)
    sizes_accepted(vectors)
    sizes_refused(vectors)
    return vectors


def bodies_and_boundaries(v: Frames) -> None:
    pattern = bytes(n * 7 % 251 for n in range(100_000))
    v.good("empty-object", Frame(b"{}"))
    v.good("body-empty", Frame(b'{"data_size":0}'))
    v.good("body-one-byte", Frame(b'{"data_size":1}', b"x"))
    v.good("body-one-nul", Frame(b'{"data_size":1}', b"\0"))
    v.good("body-every-byte", Frame(b'{"data_size":256}', bytes(range(256))))
    v.good("body-100000", Frame(b'{"data_size":100000}', pattern))
    v.good("body-like-a-frame", Frame(b'{"data_size":6}', Frame(b"{}").encoded))
    v.good("body-at-limit", Frame(b'{"data_size":16}', b"sixteen bytes ok"), options="max_body=16")
    v.good("two-frames-without-body", Frame(b'{"n":1}'), Frame(b'{"n":2}'))
    v.good(
        "three-frames",
        Frame(b'{"n":1,"data_size":5}', b"hello"),
        Frame(b'{"n":2}'),
        Frame(b'{"n":3,"data_size":4}', b"feng"),
    )


def ends_of_stream(v: Frames) -> None:
    whole = Frame(b'{"data_size":5}', b"hello")
    v.bad("end-at-once", "CLOSED", b"", 0, "-")
    v.bad("end-after-a-frame", "CLOSED", b"", 0, "-", whole)
    for size in (1, 2, 3):
        v.cut(f"end-in-length-{size}", whole.encoded[:size])
    v.cut("end-after-length", whole.encoded[:4])
    v.cut("end-in-header", whole.encoded[:10])
    v.cut("end-before-last-header-byte", whole.encoded[:18])
    v.cut("end-before-body", whole.encoded[:19])
    v.cut("end-in-body", whole.encoded[:-1])
    v.cut("end-in-second-length", whole.encoded[:2], whole)
    v.cut("end-in-second-body", whole.encoded[:-1], whole)
    v.cut("end-in-body-of-64-mib", Frame(b'{"data_size":67108864}', b"ten bytes.").encoded)


def lengths(v: Frames) -> None:
    for limit in (16, MAX_HEADER):
        padded = b'{"pad":"' + b"x" * (limit - 10) + b'"}'
        options = "-" if limit == MAX_HEADER else f"max_header={limit}"
        v.good(f"header-at-limit-{limit}", Frame(padded), options=options)
        over = struct.pack("<i", limit + 1)
        v.bad_length(f"header-over-limit-{limit}", "TOOBIG", over, options)
    v.bad_length("length-0", "BADLENGTH", struct.pack("<i", 0))
    v.bad_length("length-0-then-object", "BADLENGTH", struct.pack("<i", 0) + b"{}")
    v.bad_length("length-minus-1", "BADLENGTH", struct.pack("<i", -1))
    v.bad_length("length-minus-2", "BADLENGTH", struct.pack("<i", -2) + b"{}")
    v.bad_length("length-least", "BADLENGTH", struct.pack("<i", -(2**31)))
    v.bad_length("length-greatest", "TOOBIG", struct.pack("<i", 2**31 - 1))
    v.bad("length-0-after-a-frame", "BADLENGTH", bytes(4), 4, "-", Frame(b"{}"))
    hello = Frame(b'{"data_size":5}', b"hello")
    v.bad("body-longer-than-size", "TOOBIG", b", world", 4, "-", hello)
    # A peer of another kind: what its first four bytes say as a length.
    v.bad_length("http-get", "TOOBIG", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    v.bad_length("http-reply", "TOOBIG", b"HTTP/1.1 400 Bad Request\r\n\r\n")
    v.bad_length("tls-1-0-hello", "TOOBIG", bytes.fromhex("16030100c8010000c40303"))
    v.bad_length("tls-1-2-hello", "TOOBIG", bytes.fromhex("16030300c8010000c40303"))
    v.bad_length("ssh-banner", "TOOBIG", b"SSH-2.0-OpenSSH_9.9\r\n")
    v.bad_length("json-without-length", "TOOBIG", b'{"cmd":"exec"}\n')
    v.bad_length("big-endian-80", "TOOBIG", struct.pack(">i", 80) + b"{" + b" " * 78 + b"}")
    v.bad_length("big-endian-255", "BADLENGTH", struct.pack(">i", 255) + b"{" + b" " * 253 + b"}")
    # 256 read backwards is 65,536, which is just within the limit.
    v.cut("big-endian-256", struct.pack(">i", 256) + b"{" + b" " * 254 + b"}")


def text_that_is_json(v: Frames) -> None:
    for name, header in {
        "unknown-keys": rb'{"cmd":"x","future":[1,2.5,null,true,{"k":"v"}],"id":"7"}',
        "keys-in-any-order": rb'{"z":1,"a":2,"m":3}',
        "key-empty": rb'{"":1}',
        # serde_json keeps this key for itself.
        "key-of-the-parser": rb'{"data_s#ze":{"$serde_json::private::RawValue":999}}',
        "key-of-the-parser-outside": rb'{"$serde_json::private::RawValue":"{"}',
        "key-twice": rb'{"name":"a","name":"b"}',
        "key-of-60-kib": b'{"' + b"k" * 61440 + b'":1}',
        "nul-escapes": rb'{"a\u0000b":"\u0000"}',
        "nul-escapes-60-kib": b'{"nuls":"' + rb"\u0000" * 10240 + b'"}',
        "every-escape": rb'{"s":"\"\\\/\b\f\n\r\t\u00e9\u00E9"}',
        "surrogate-pair": rb'{"s":"\ud83d\ude00\uD83D\uDE00"}',
        "utf-8-of-every-length": '{"é":"aé€😀"}'.encode(),
        "utf-8-1-and-2": '{"s":"\x7f\x80\u07ff"}'.encode(),
        "utf-8-3-and-4": '{"s":"\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"}'.encode(),
        "numbers": rb'{"n":[0,-0,-1,0.5,-0.0,1e3,1E+3,1e-3,12.50e2]}',
        "number-greatest-double": rb'{"n":[1.7976931348623157e308,-1.7976931348623157e308]}',
        "number-below-double": rb'{"n":[1e-400,-1e-400]}',
        "number-of-300-digits": b'{"n":' + b"9" * 300 + b"}",
        "space-around": b' \t\r\n{"a":1} \t\r\n',
        "space-inside": b'{ \t"a" \r: \n[ 1 , 2 ] }',
        "brackets-in-a-string": b'{"s":"' + b"[{" * 40 + b'"}',
        "brackets-after-an-escaped-quote": rb'{"s":"\"' + b"[{" * 40 + rb'\\"}',
        "objects-side-by-side": b'{"a":[' + b"{},[]," * 40 + b"{}]}",
        f"depth-{MAX_DEPTH}-objects": objects(MAX_DEPTH),
        f"depth-{MAX_DEPTH}-arrays": arrays(MAX_DEPTH),
    }.items():
        v.good(name, Frame(header))
    v.good("keys-10000", Frame(ten_thousand_keys()), options="max_header=131072")


def text_that_is_not_json(v: Frames) -> None:
    for name, header in {
        "length-1": b"{",
        "array": b"[]",
        "array-of-objects": b'[{"data_size":0}]',
        "number": b"1",
        "string": b'"data_size"',
        "null": b"null",
        "true": b"true",
        "only-space": b"    ",
        "nul-byte": b"\0",
        "object-twice": b"{}{}",
        "text-after": b'{"data_size":0}x',
        "brace-after": b"{}}",
        "nul-after": b"{}\0",
        "text-before": b"x{}",
        "form-feed-around": b"\f{}",
        "vertical-tab-around": b"{}\v",
        "no-break-space-around": "\u00a0{}".encode(),
        "object-not-closed": b'{"a":1',
        "array-not-closed": b'{"a":[1}',
        "string-not-closed": b'{"a":"b}',
        "key-not-a-string": b"{a:1}",
        "key-a-number": b"{1:1}",
        "colon-missing": b'{"a" 1}',
        "value-missing": b'{"a":}',
        "comma-missing": b'{"a":1 "b":2}',
        "comma-at-end": b'{"a":1,}',
        "comma-alone": b"{,}",
        "comma-at-end-of-array": b'{"a":[1,]}',
        "single-quotes": b"{'a':1}",
        "comment": b'{"a":1/*b*/}',
        "literal-in-capitals": b'{"a":True}',
        "literal-cut": b'{"a":nul}',
        "literal-undefined": b'{"a":undefined}',
        "nan": b'{"a":NaN}',
        "infinity": b'{"a":Infinity}',
        "minus-infinity": b'{"a":-Infinity}',
        "number-with-plus": b'{"a":+1}',
        "number-with-zero-first": b'{"a":01}',
        "number-with-minus-zero-first": b'{"a":-01}',
        "number-without-integer": b'{"a":.5}',
        "number-without-fraction": b'{"a":5.}',
        "number-without-exponent": b'{"a":1e}',
        "number-only-minus": b'{"a":-}',
        "number-in-hex": b'{"a":0x10}',
        "number-with-underscore": b'{"a":1_000}',
        "number-beyond-double": rb'{"n":1e400}',
        "number-beyond-double-minus": rb'{"n":-1e400}',
        "number-beyond-double-deep": rb'{"n":[{"data_size":1e309}]}',
        "number-of-5000-digits": b'{"n":' + b"9" * 5000 + b"}",
        "escape-unknown": rb'{"a":"\x41"}',
        "escape-cut": rb'{"a":"\u12"}',
        "escape-not-hex": rb'{"a":"\u12g4"}',
        "escape-of-the-closing-quote": rb'{"a":"\"}',
        "control-newline": b'{"a":"b\nc"}',
        "control-tab": b'{"a":"b\tc"}',
        "control-nul": b'{"a":"b\0c"}',
        "control-in-key": b'{"a\x1fb":1}',
        "surrogate-high-alone": rb'{"a":"\ud800"}',
        "surrogate-low-alone": rb'{"a":"\udc80"}',
        "surrogate-high-then-letter": rb'{"a":"\ud800\u0041"}',
        "surrogate-high-twice": rb'{"a":"\ud800\ud800\udc00"}',
        "surrogates-swapped": rb'{"a":"\udc00\ud800"}',
        "surrogate-in-key": rb'{"\udc80":1}',
        "surrogate-deep": rb'{"a":[{"b":"\udfff"}]}',
        "utf-8-bom": b"\xef\xbb\xbf{}",
        "utf-16-le": '{"a":1}'.encode("utf-16-le"),
        "utf-16-be": '{"a":1}'.encode("utf-16-be"),
        "utf-16-bom": b"\xff\xfe" + '{"a":1}'.encode("utf-16-le"),
        "utf-32-le": '{"a":1}'.encode("utf-32-le"),
        "latin-1": '{"a":"é"}'.encode("latin-1"),
        "utf-8-stray-continuation": b'{"a":"\x80"}',
        "utf-8-cut": b'{"a":"\xe2\x82"}',
        "utf-8-overlong-slash": b'{"a":"\xc0\xaf"}',
        "utf-8-overlong-nul": b'{"a":"\xc0\x80"}',
        "utf-8-overlong-3": b'{"a":"\xe0\x82\xaf"}',
        "utf-8-overlong-4": b'{"a":"\xf0\x80\x80\xaf"}',
        "utf-8-surrogate": b'{"a":"\xed\xa0\x80"}',
        "utf-8-surrogate-pair": b'{"a":"\xed\xa0\xbd\xed\xb8\x80"}',
        "utf-8-above-10ffff": b'{"a":"\xf4\x90\x80\x80"}',
        "utf-8-byte-ff": b'{"a":"\xff"}',
        f"depth-{MAX_DEPTH + 1}-objects": objects(MAX_DEPTH + 1),
        f"depth-{MAX_DEPTH + 1}-arrays": arrays(MAX_DEPTH + 1),
        "depth-30000-never-closed": b'{"a":' + b"[" * 30000,
        "depth-10000-objects": objects(10_000),
    }.items():
        v.bad_header(name, "BADJSON", header)
    v.bad_header("depth-100000-arrays", "BADJSON", arrays(100_000), options="max_header=262144")


def sizes_accepted(v: Frames) -> None:
    for name, header, body in (
        ("size-between-keys", rb'{"a":1,"data_size":3,"b":2}', b"abc"),
        ("size-with-space", b'{"data_size" : 3 }', b"abc"),
        ("size-escaped-key", rb'{"data\u005fsize":5}', b"hello"),
        ("size-escaped-key-all-of-it", size_escaped_wholly() + b"5}", b"hello"),
        ("size-inside-an-object", rb'{"meta":{"data_size":9},"data_size":2}', b"ab"),
        ("size-inside-an-array", rb'{"a":[{"data_size":7},{"data_size":9}]}', b""),
        ("size-inside-not-valid", rb'{"a":{"data_size":-1,"data_size":"x"}}', b""),
        ("size-in-a-string", rb'{"a":"\"data_size\":9,","b":"data_size"}', b""),
        ("size-in-other-letters", rb'{"Data_Size":9,"DATA_SIZE":9}', b""),
        ("size-with-space-in-key", rb'{" data_size":9,"data_size ":9}', b""),
        ("size-with-nul-in-key", rb'{"data_size\u0000":9}', b""),
    ):
        v.good(name, Frame(header, body))


def sizes_refused(v: Frames) -> None:
    for name, value in {
        "null": "null",
        "true": "true",
        "false": "false",
        "string": '"5"',
        "string-empty": '""',
        "object": "{}",
        "array": "[]",
        "array-of-5": "[5]",
        "minus-0": "-0",
        "minus-1": "-1",
        "minus-2-63": str(-(2**63)),
        "minus-5000-digits": "-" + "9" * 5000,
        "five-point-zero": "5.0",
        "five-point-five": "5.5",
        "zero-point-zero": "0.0",
        "exponent": "1e3",
        "exponent-capital": "5E0",
        "exponent-zero": "0e0",
        "exponent-400": "1e400",
        "exponent-minus-400": "-1e400",
    }.items():
        header = f'{{"data_size":{value}}}'.encode()
        v.bad_header(f"size-{name}", "BADFIELD", header, b"hello")

    for name, header in {
        "twice": rb'{"data_size":1,"data_size":9}',
        "twice-the-same": rb'{"data_size":5,"data_size":5}',
        "twice-apart": rb'{"data_size":5,"a":{"b":[]},"data_size":0}',
        "twice-second-escaped": rb'{"data_size":5,"data\u005fsize":9}',
        "twice-first-escaped": rb'{"\u0064ata_size":5,"data_size":9}',
        "twice-both-escaped": rb'{"data\u005fsize":5,"data\u005Fsize":9}',
    }.items():
        v.bad_header(f"size-{name}", "BADFIELD", header, b"hello")

    for name, value in {
        "nan": "NaN",
        "infinity": "Infinity",
        "minus-infinity": "-Infinity",
        "zero-first": "007",
        "plus": "+5",
        "hex": "0x5",
    }.items():
        header = f'{{"data_size":{value}}}'.encode()
        v.bad_header(f"size-{name}", "BADJSON", header, b"hello")

    for name, size in {
        "over-limit": MAX_BODY + 1,
        "2-31-minus-1": 2**31 - 1,
        "2-31": 2**31,
        "2-32": 2**32,
        "2-32-plus-5": 2**32 + 5,
        "2-53-plus-1": 2**53 + 1,
        "2-63-minus-1": 2**63 - 1,
        "2-63": 2**63,
        "2-64-minus-1": 2**64 - 1,
        "2-64": 2**64,
        "2-64-plus-5": 2**64 + 5,
        "2-128-plus-5": 2**128 + 5,
    }.items():
        v.bad_header(f"size-{name}", "TOOBIG", b'{"data_size":%d}' % size, b"hello")
    v.bad_header("size-5000-digits", "TOOBIG", b'{"data_size":' + b"9" * 5000 + b"}", b"hello")
    v.bad_header("size-over-limit-16", "TOOBIG", b'{"data_size":17}', options="max_body=16")


def objects(depth: int) -> bytes:
    """Objects in objects, `depth` of them with the outermost."""
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def arrays(depth: int) -> bytes:
    """One object and arrays in it, `depth` of them together."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def ten_thousand_keys() -> bytes:
    return b"{" + b",".join(b'"%d":0' % n for n in range(10_000)) + b"}"


def size_escaped_wholly() -> bytes:
    return b'{"' + b"".join(rb"\u%04x" % byte for byte in b"data_size") + b'":'


class Packets(Index):
    def __init__(self) -> None:
        columns = ("file", "result", "payload", "consumed", "width", "order", "sign", "max")
        super().__init__("packets", *columns)

    def good(self, name: str, layout: str, *received: bytes) -> None:
        """`layout` is the prefix's format in the `struct` module's letters."""
        prefixed = [struct.pack(layout, len(payload)) + payload for payload in received]
        file = self.add_file(f"good/{name}.bin", b"".join(prefixed))
        for payload, packet in zip(received, prefixed):
            self.add(file, "ok", hex_column(payload), len(packet), *describe(layout), "-")

    def bad(
        self, name: str, layout: str, error: str, data: bytes, consumed: int, maximum: int = 0
    ) -> None:
        file = self.add_file(f"bad/{name}.bin", data)
        self.add(file, error, "-", consumed, *describe(layout), maximum or "-")


def describe(layout: str) -> tuple[int, str, str]:
    order = "little" if layout[0] == "<" else "big"
    sign = "unsigned" if layout[1].isupper() else "signed"
    return struct.calcsize(layout), order, sign


def packets() -> Packets:
    v = Packets()
    v.good("empty", "<i", b"")
    v.good("hello", "<i", b"hello")
    v.good("every-byte", "<i", bytes(range(256)))
    v.good("hello-then-feng", "<i", b"hello", b"feng")
    v.good("empty-between", "<i", b"a", b"", b"b")
    v.good("erlang-packet-1", ">B", b"hello", b"", b"x" * 255)
    v.good("erlang-packet-2", ">H", b"hello", b"", b"x" * 256)
    v.good("erlang-packet-2-greatest", ">H", b"x" * 65535)
    v.good("erlang-packet-4", ">I", b"hello", b"")
    v.good("tokio-length-delimited", ">I", b"hello", b"x" * 1000)
    v.good("netty-length-field", ">i", b"hello", b"")
    for width, letter in ((1, "b"), (2, "h"), (4, "i"), (8, "q")):
        for order, order_name in (("<", "little"), (">", "big")):
            for sign, sign_name in ((letter, "signed"), (letter.upper(), "unsigned")):
                name = f"width-{width}-{order_name}-{sign_name}"
                v.good(name, order + sign, b"hello", b"", b"x" * 100)
    v.good("width-1-signed-greatest", "<b", b"x" * 127)
    v.good("width-2-bytes-differ", "<H", b"x" * 0x0201)

    v.bad("end-at-once", "<i", "CLOSED", b"", 0)
    v.bad("end-at-once-width-1", ">B", "CLOSED", b"", 0)
    for size in (1, 2, 3):
        v.bad(f"end-in-length-{size}", "<i", "TRUNCATED", b"\5\0\0"[:size], size)
    v.bad("end-in-length-width-2", ">H", "TRUNCATED", b"\0", 1)
    v.bad("end-in-length-width-8", ">Q", "TRUNCATED", bytes(7), 7)
    v.bad("end-after-length", "<i", "TRUNCATED", b"\5\0\0\0", 4)
    v.bad("end-in-payload", "<i", "TRUNCATED", b"\5\0\0\0hell", 8)
    v.bad("end-in-payload-width-1", ">B", "TRUNCATED", b"\xffhell", 5)
    for name, layout, data in (
        ("minus-1-width-1", "<b", b"\xff"),
        ("least-width-1", "<b", b"\x80"),
        ("minus-1-width-2-little", "<h", b"\xff\xff"),
        ("least-width-2-big", ">h", b"\x80\x00"),
        ("minus-1-width-4-little", "<i", b"\xff\xff\xff\xff"),
        ("least-width-4-little", "<i", b"\x00\x00\x00\x80"),
        ("least-width-4-big", ">i", b"\x80\x00\x00\x00"),
        ("minus-1-width-8-little", "<q", b"\xff" * 8),
        ("least-width-8-big", ">q", b"\x80" + bytes(7)),
    ):
        v.bad(name, layout, "BADLENGTH", data + b"payload", len(data))
    for name, layout, data, maximum in (
        ("over-limit", "<i", b"\x11\0\0\0", 16),
        ("over-limit-width-1", ">B", b"\x11", 16),
        ("greatest-width-4-signed", "<i", b"\xff\xff\xff\x7f", MAX_BODY),
        ("top-bit-width-4-unsigned", ">I", b"\x80\0\0\0", MAX_BODY),
        ("greatest-width-4-unsigned", "<I", b"\xff\xff\xff\xff", MAX_BODY),
        ("2-32-plus-5-width-8", "<q", b"\5\0\0\0\1\0\0\0", MAX_BODY),
        ("greatest-width-8-signed", ">q", b"\x7f" + b"\xff" * 7, MAX_BODY),
        ("greatest-width-8-unsigned", ">Q", b"\xff" * 8, MAX_BODY),
    ):
        v.bad(name, layout, "TOOBIG", data + b"hello", len(data), maximum)
    return v


def answers() -> Index:
    v = Index("auth", "name", "key", "challenge", "answer")

    def add(name: str, key: bytes, challenge: bytes) -> None:
        answer = hmac.digest(key, challenge, "sha256")
        v.add(name, key.hex(), challenge.hex(), answer.hex())

    for size in (1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 199, 200, 1024):
        add(f"key-of-{size}", some_bytes(f"key {size}", size), some_bytes(f"nonce {size}", 32))

    key, challenge = some_bytes("key", 32), some_bytes("nonce", 32)
    add("challenge-all-zero", key, bytes(32))
    add("challenge-all-ones", key, b"\xff" * 32)
    add("challenge-with-nuls", key, b"\0" + challenge[1:16] + b"\0" + challenge[17:31] + b"\0")
    add("key-all-zero", bytes(32), challenge)
    add("key-with-nul-inside", key[:16] + b"\0" + key[17:], challenge)
    add("key-of-text", b"correct horse battery staple", challenge)
    add("key-of-text-and-newline", b"correct horse battery staple\n", challenge)
    # HMAC pads a key with NULs up to its block of 64 bytes: these two are one key.
    add("same-1-key", key, challenge)
    add("same-1-key-and-nul", key + b"\0", challenge)
    # It hashes a key that is longer than its block: so are these two.
    long_key = some_bytes("long key", 65)
    add("same-2-long-key", long_key, challenge)
    add("same-2-hash-of-long-key", hashlib.sha256(long_key).digest(), challenge)
    # And a NUL that makes the key longer than the block makes it another.
    add("other-3-key-of-block", some_bytes("block", 64), challenge)
    add("other-3-key-of-block-and-nul", some_bytes("block", 64) + b"\0", challenge)
    return v


def some_bytes(seed: str, size: int) -> bytes:
    """The same arbitrary bytes every time."""
    return hashlib.shake_256(seed.encode()).digest(size)


def names() -> Index:
    v = Index("names", "name", "result", "bytes")
    for name, accepted in {
        "plain": b"a.txt",
        "one-letter": b"a",
        "in-directories": b"a/b/c.txt",
        "three-dots": b"...",
        "dots-first": b"..a",
        "dots-last": b"a..",
        "dots-in-directory": b"a../..b",
        "hidden": b".profile",
        "dash-first": b"-rf",
        "space": b" ",
        "space-first": b" a",
        "space-last": b"a ",
        "dot-last": b"a.",
        "backslash": rb"a\b",
        "backslash-dots": rb"..\a",
        "drive-letter": b"C:a",
        "device-of-another-system": b"CON",
        "tilde": b"~",
        "shell-characters": b"$(id);`id`|*?&<>'\"#!",
        "percent-dots": b"%2e%2e%2fa",
        "per-cent-format": b"%s%n",
        "utf-8": "日本語/é😀".encode(),
        "e-acute-composed": "\u00e9".encode(),
        "e-acute-decomposed": "e\u0301".encode(),
        "case-lower": b"readme",
        "case-upper": b"README",
        "slash-of-full-width": "..\uff0fa".encode(),
        "newline": b"a\nb",
        "newline-last": b"a\n",
        "carriage-return": b"a\rb",
        "tab": b"a\tb",
        "escape": b"\x1b[2Ja",
        "bell": b"a\x07",
        "control-01": b"\x01",
        "control-1f": b"a\x1fb",
        "delete": b"a\x7fb",
        "control-in-directory": b"a\n/b",
        "component-of-255": b"x" * 255,
        "component-of-255-in-utf-8": "é".encode() * 127 + b"x",
        "components-of-255": b"/".join([b"x" * 255] * 8),
    }.items():
        v.add(name, "ok", accepted.hex())

    for name, refused in {
        "empty": b"",
        "dot": b".",
        "dot-dot": b"..",
        "slash": b"/",
        "two-slashes": b"//",
        "up": b"../x",
        "up-twice": b"../../x",
        "up-from-within": b"a/../../x",
        "up-and-back": b"a/../x",
        "up-at-end": b"a/..",
        "dot-at-start": b"./a",
        "dot-within": b"a/./b",
        "dot-at-end": b"a/.",
        "absolute": b"/etc/passwd",
        "absolute-two-slashes": b"//etc/passwd",
        "slash-last": b"a/",
        "slash-twice-within": b"a//b",
        "nul-within": b"a\0b",
        "nul-last": b"a.txt\0",
        "nul-hides-suffix": b"../x\0.txt",
        "component-of-256": b"x" * 256,
        "component-of-256-in-utf-8": "é".encode() * 128,
        "directory-of-256": b"x" * 256 + b"/a",
        "path-of-4096": (b"x" * 255 + b"/") * 15 + b"x" * 128 + b"/" + b"x" * 127,
        "components-1000": b"/".join([b"a"] * 1000),
    }.items():
        v.add(name, "PATH", refused.hex() or "-")
    return v


def datagrams() -> Index:
    v = Index("datagrams", "name", "key", "direction", "result", "datagram")

    def tagged(key: bytes, info: str, frame: bytes) -> bytes:
        secret = hmac.digest(bytes(32), key, "sha256")
        derived = hmac.digest(secret, info.encode() + b"\x01", "sha256")
        return frame + hmac.digest(derived, frame, "sha256")

    mark = '"id":"7","time":1000000000000,"nonce":"' + "0123456789abcdef" * 2 + '"'
    texts = {"request": '"cmd":"exec",' + mark, "reply": '"exit_code":0,' + mark}
    key = some_bytes("datagram key", 32)
    for direction, text in texts.items():
        info = f"framefd datagram v1 {direction}"
        frame = Frame(f'{{"data_size":4,{text}}}'.encode(), b"true").encoded
        good = tagged(key, info, frame)
        other = "reply" if direction == "request" else "request"
        for size in (16, 17, 32, 64, 65, 1024):
            sized = some_bytes(f"datagram key {size}", size)
            v.add(f"key-of-{size}", sized.hex(), direction, "ok", tagged(sized, info, frame).hex())
        for name, datagram in {
            "key-of-the-other-direction": tagged(key, f"framefd datagram v1 {other}", frame),
            "key-of-no-direction": tagged(key, "framefd datagram v1", frame),
            "shared-key-itself": frame + hmac.digest(key, frame, "sha256"),
            "no-tag": frame,
            "tag-cut": good[:-1],
            "tag-first": good[-32:] + good[:-32],
            "bit-of-the-tag": good[:-1] + bytes([good[-1] ^ 1]),
            "bit-of-the-body": frame[:-1] + b"f" + good[-32:],
            "byte-behind": good + b"\0",
            "empty-tag": bytes(32),
        }.items():
            v.add(name, key.hex(), direction, "AUTH", datagram.hex())
        v.add("only-a-tag", key.hex(), direction, "BADLENGTH", tagged(key, info, b"").hex())
        cut = tagged(key, info, frame[:-1])
        v.add("body-cut-and-tagged", key.hex(), direction, "BADLENGTH", cut.hex())
    return v


def sealed() -> Index:
    """Sealed sessions. Two independent programs wrote each of them down."""
    index = Index(
        "seal",
        *("suite", "role", "id", "name", "key", "client_private", "server_private", "psk"),
        *("prologue", "client", "server", "hash", "client_key", "server_key"),
        *("client_records", "server_records"),
    )
    for suite, psk, client, server, keys, ours, theirs in SEALED:
        preface = b"FDS1" + bytes([suite, 5]) + b"web-1"
        index.add(
            suite,
            0,
            "web-1",
            "db.example",
            bytes(range(32)).hex(),
            bytes(range(0x40, 0x60)).hex(),
            bytes(range(0x80, 0xA0)).hex(),
            psk,
            (b"framefd seal v1\0\0" + preface + b"\x0adb.example").hex(),
            preface.hex() + client,
            server,
            *keys,
            ours,
            theirs,
        )
    return index


# suite, psk, client's message, server's message, (hash, client's key, server's key), records.
SEALED = [
    (
        1,
        "01ad6fc38fd6c6677e8879e074ee7a8cc05c2d95b4a821ffb71f1581c3d42ddc",
        "003079a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a958312586063"
        "349c27858a26af20370d",
        "0030493e82fc74464a59268817623d2053c5eb8e2cc4a988b4fee179ec6b010d531d0027acee9b78"
        "fb07ec97a130bd73ae60",
        (
            "871c86ec9bd9963e89d2a022539ce3a0ce5c706439dc959b92adfbdc9adbc997",
            "f2f50b769ed5ae331e23f2a61cbd5239acf599a6f92d87e7d36973798c112159",
            "61bb23c579bd415fe438e18a75f92e047e6b40d64a2b21d908dc5a58e95ba2ec",
        ),
        ",".join(
            [
                "001182d0a046bb40b80809d5622075eaf7410a",
                "001683c8fbdc4b74602af5fbe9adeff3a7f58a1febc48891",
                "00197ca6cef5948015ccc6073fcecb2e8ff08b2f541af12de05c1f",
                "0011872b65108e4e6e059c4caf3dc3323835b0",
            ]
        ),
        ",".join(
            [
                "00168055842022dce3c8300551baa96149b4212835460436",
                "0011e1c184f3c4714b291680ff9bb566dfb6bb",
            ]
        ),
    ),
    (
        2,
        "7e05918b5d232010290acc2aaff5c7a389a4061260907e164c9e0f973764c75f",
        "003079a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a175fd63351be"
        "f647b1a25279e1568f49",
        "0030493e82fc74464a59268817623d2053c5eb8e2cc4a988b4fee179ec6b010d531d60481c8004fb"
        "54c205adacc1094c1471",
        (
            "a79843aac1bd38fe0f60e8d98c8f18563134427872dbce7ef7409ebfaae47e4f",
            "14bded6351ad576f0243c4527225cf1b48560967e5be7e96cb2143b65ff5807e",
            "21603a2a802a8e58cdd6bbe4d33ec5681c8f2ae21527fc494f8868db9d73aaa0",
        ),
        ",".join(
            [
                "00118c245986eedd92fb031d405267118b74f5",
                "0016f3e93717fd6ecb74e1dfb01080aa62d9abb215368efc",
                "001991ad06a36b6ad845076d38e70c7dcb18f6540739ede40e38d3",
                "00115ef248a95afc3fe77e650288a39bd3541a",
            ]
        ),
        ",".join(
            [
                "00164f3fe9abba676d69706890a9c4fd5b0432b3900d7ac9",
                "001176b112aff6eb1a934f77cabaadec008a20",
            ]
        ),
    ),
]


if __name__ == "__main__":
    main()
