"""Headers: a dict on this side, JSON text on the wire."""

from __future__ import annotations

import json
from typing import Any

from ._abi import ErrorCode
from ._errors import MalformedError

Header = dict[str, Any]

# UTF-8 as it is, rather than escapes: shorter, and as exact.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode

# What a header without anything of the sender's is, up to the number.
_EMPTY = b'{"data_size":'


def encode(header: Header | None) -> bytes | None:
    """The JSON text of a header. ValueError for NaN, for infinities and for text that is
    not Unicode (half surrogate pairs); TypeError for what JSON has no form for."""
    if header is None:
        return None
    if not isinstance(header, dict):
        raise TypeError(
            f"a header is a dict or None, not {type(header).__name__}: the body comes after it"
        )
    if not header:
        return None
    try:
        return _encode(header).encode()
    except UnicodeEncodeError as error:
        text = f"a header is Unicode text, which {error.object[error.start]!r} is not"
        raise MalformedError(ErrorCode.BADJSON, text) from None


def decode(text: bytes) -> Header:
    """A received header without its data_size, which belongs to the framing."""
    if text.startswith(_EMPTY) and text[13:-1].isdigit():
        return {}
    try:
        header: Header = _decode(text.decode().lstrip())[0]
    except ValueError as error:  # valid JSON, but an integer of thousands of digits
        raise MalformedError(ErrorCode.BADJSON, str(error)) from None
    header.pop("data_size", None)
    return header
