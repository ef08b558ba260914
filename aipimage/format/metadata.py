"""Metadata records: docs/format.md, section 9.2."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from aipimage.errors import FormatError
from aipimage.format import constants as c
from aipimage.format.gates import verified_limit, verified_text

# A string that is not closed counts to the end, so that no byte is looked at twice.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def encode_json(values: Any) -> bytes:
    """Return JSON as metadata records have it; half characters, as in file names that are not
    text, become question marks.
    """
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def encode_metadata(values: Mapping[str, Any]) -> bytes:
    """Return the plain record of an object.

    Raises:
        LimitError, FormatError: it is longer than section 15 allows, or nested deeper.
    """
    return _verified(encode_json(values))


def decode_metadata(data: bytes | memoryview | bytearray) -> dict[str, Any]:
    """Decode a record and check that it is one object, within the limits of section 15.

    Raises:
        LimitError: it is too long. FormatError: it is nested too deep, or not a JSON object.
    """
    text = verified_text(_verified(bytes(data)), "metadata")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the metadata is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise FormatError("the metadata is not a JSON object")
    return values


def _verified(text: bytes) -> bytes:
    """The length and the depth, before a parser that recurses sees the text."""
    verified_limit(len(text), c.METADATA_MAX, "length of the metadata")
    depth = 0
    for token in _TOKENS.finditer(text):
        first = text[token.start()]
        if first in b"[{":
            depth += 1
            if depth > c.METADATA_DEPTH:
                raise FormatError(f"the metadata is nested over {c.METADATA_DEPTH} deep")
        elif first in b"]}":
            depth -= 1
    return text
