"""Metadata records (docs/format.md, section 9.2): one door in, one door out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage.errors import FormatError, LimitError
from aipimage.format import constants as c
from aipimage.format.metadata import decode_metadata, encode_json, encode_metadata

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_what_is_encoded_is_decoded(values: dict[str, Any]) -> None:
    assert decode_metadata(encode_metadata(values)) == values
    assert decode_metadata(memoryview(encode_metadata(values))) == values


def test_file_names_that_are_not_text() -> None:
    """Half characters stand for bytes of a name; they become question marks."""
    assert decode_metadata(encode_metadata({"name": "a\udcffb"})) == {"name": "a?b"}


def nested(depth: int, inside: str = "1") -> bytes:
    """An object that is nested so deep, itself counted."""
    return b'{"a":' + b"[" * (depth - 1) + inside.encode() + b"]" * (depth - 1) + b"}"


def test_depth() -> None:
    decode_metadata(nested(c.METADATA_DEPTH))
    for depth in (c.METADATA_DEPTH + 1, 1000, 400_000):
        with pytest.raises(FormatError, match="nested over 32"):
            decode_metadata(nested(depth))
    values: Any = 1
    for _ in range(c.METADATA_DEPTH):
        values = [values]
    with pytest.raises(FormatError, match="nested"):
        encode_metadata({"a": values})


@pytest.mark.parametrize(
    "text", ["[" * 100, '"' + "[" * 100, '\\"' + "[" * 100, '\\\\\\"' + "]" * 100, "{}" * 100]
)
def test_brackets_in_strings_do_not_count(text: str) -> None:
    inside = json.dumps(text)
    assert decode_metadata(nested(c.METADATA_DEPTH, inside))
    with pytest.raises(FormatError, match="nested"):
        decode_metadata(nested(c.METADATA_DEPTH + 1, inside))


def test_length() -> None:
    longest = {"a": "x" * (c.METADATA_MAX - 8)}
    text = encode_metadata(longest)
    assert len(text) == c.METADATA_MAX
    assert decode_metadata(text) == longest
    for data in (text + b" ", b'"' * c.METADATA_MAX + b"x"):
        with pytest.raises(LimitError, match="length of the metadata"):
            decode_metadata(data)
    with pytest.raises(LimitError):
        encode_metadata({"a": "x" * (c.METADATA_MAX - 7)})


@pytest.mark.parametrize(
    "data",
    [
        *[b"", b"[]", b"1", b"null", b'"a"', b"{", b'{"a":}', b'{"a":1}x', b"{'a':1}", b'{"a"'],
        *[b'{"a":"\xff"}', '{"a":1}'.encode("utf-16-le"), '{"a":1}'.encode("utf-16"), b"\\" * 99],
        *[b"\xef\xbb\xbf{}", b'{"a":' + b"9" * 5000 + b"}", b'"' * 1_000_000, b'"\\' * 500_000],
    ],
)
def test_what_is_not_an_object_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="the metadata is not"):
        decode_metadata(data)


def test_pieces_of_descriptions_are_measured_alike() -> None:
    assert encode_json(["a", 1]) == b'["a",1]'
