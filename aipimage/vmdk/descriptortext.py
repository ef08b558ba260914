"""The bytes of a descriptor as lines of text, whatever wrote or edited them.

A descriptor is ASCII but for names of files, and these are bytes: a descriptor that was copied
keeps those of the system where it was made. So the text is read byte by byte, and a name is looked
for as its bytes are, and as the encoding that the descriptor names has it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

FIRST_LINE = "# Disk DescriptorFile"
HEAD = 4096
"""Bytes of a file by which a descriptor is known."""
_SQUEEZED = "#diskdescriptorfile"
_FIRST_KEY = re.compile(r"(version|encoding|cid|parentcid|createtype)\s*=", re.IGNORECASE)
_BOM = b"\xef\xbb\xbf"
_WIDE = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_BLANKS = " \t\v\f\xa0\ufeff"


def looks_like_descriptor(data: bytes) -> bool:
    """Whether bytes begin as a descriptor does: the first line, in any case of letters and with any
    blanks; or, as for qemu, comments alone and then one of the settings that stand in front.
    """
    for _, line in _numbered(descriptor_text(data[:HEAD])):
        if squeezed(line).startswith(_SQUEEZED):
            return True
        if line and not line.startswith("#"):
            return _FIRST_KEY.match(line) is not None
    return False


def squeezed(line: str) -> str:
    """A line in small letters and without blanks."""
    return re.sub(r"\s", "", line).lower()


def wide_codec(data: bytes) -> str | None:
    """The codec of a descriptor that an editor saved in UTF-16, with or without a mark."""
    if data[:2] in _WIDE:
        return _WIDE[data[:2]]
    for at, codec in ((1, "utf-16-le"), (0, "utf-16-be")):
        head = data[:32]
        if len(head) >= 16 and not any(head[at::2]) and all(head[1 - at :: 2]):
            return codec
    return None


def descriptor_text(data: bytes) -> str:
    """Return the text up to the first NUL character; bytes that are not UTF-8 survive a round trip
    by ``surrogateescape``.
    """
    codec = wide_codec(data)
    if codec is not None:
        text = data[: len(data) & ~1].decode(codec, "replace").removeprefix("\ufeff")
        return text.split("\0", 1)[0]
    return data.removeprefix(_BOM).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
        yield number, line.strip().strip(_BLANKS)


def telling_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers from 1."""
    return ((number, line) for number, line in _numbered(text) if line and line[0] != "#")


def first_line(text: str) -> str:
    """The first line that is not blank."""
    return next((line for _, line in _numbered(text) if line), "")


def decoded_name(raw: str, codec: str | None) -> str:
    """A name as people read it: bytes that are not UTF-8 by the codec, where they fit it."""
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError:
        return _by_codec(raw, codec) or raw
    return raw


def other_spellings(raw: str, name: str, codec: str | None) -> tuple[str, ...]:
    """Names, beside ``name``, under which the file that a descriptor calls ``raw`` may lie: its
    bytes as they are, as the codec reads them, and, where the descriptor alone was made UTF-8, as
    the codec writes them.
    """
    if raw.isascii():
        return ()
    found = [raw, _by_codec(raw, codec)]
    if codec is not None:
        with contextlib.suppress(UnicodeError):
            found.append(name.encode(codec).decode("utf-8", "surrogateescape"))
    return tuple(each for each in dict.fromkeys(found) if each and each != name)


def _by_codec(raw: str, codec: str | None) -> str | None:
    if codec is None or codec.startswith("utf-16"):
        return None
    try:
        return raw.encode("utf-8", "surrogateescape").decode(codec)
    except UnicodeError:
        return None
