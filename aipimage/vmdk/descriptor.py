"""The text that says what a virtual disk consists of: text <-> values.

Source: VMware "Virtual Disk Format 5.0" technical note, "The Descriptor File". What writers do
beside it is read too: up to seven fields in an extent line, RDONLY, spaces around "=", any order
of sections, keys in any case, CRLF, NUL bytes after the text, encodings other than UTF-8, other
first lines. What qemu passes over is passed over, with a warning; but never a line that names
an extent, without which the disk would be another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aipimage.errors import FormatError, LimitError
from aipimage.vmdk.descriptortext import (
    FIRST_LINE,
    decoded_name,
    descriptor_text,
    first_line,
    looks_like_descriptor,
    other_spellings,
    squeezed,
    telling_lines,
)
from aipimage.vmdk.layout import verified_capacity
from aipimage.vmdk.textcodes import codec_named

NO_PARENT = 0xFFFF_FFFF
TEXT_MAX = 16 << 20
"""Bytes of a descriptor at most: 64 TiB in extents of 2 GB are 2 MiB (hostile-inputs class 40)."""
EXTENTS_MAX = 65_536
ACCESS = ("RW", "RDONLY", "NOACCESS")
EXTENT_TYPES = ("FLAT", "SPARSE", "ZERO", "VMFS", "VMFSSPARSE", "SESPARSE", "VMFSRDM", "VMFSRAW")

WARNINGS_MAX = 10

_EXTENT = re.compile(
    r"(?P<access>RW|RDONLY|NOACCESS)\s+(?P<sectors>\+?\d{1,30})\s+(?P<type>[A-Z]+)"
    r'(?:\s+(?:"(?P<name>[^"]*)"|(?P<bare>[^\s"]+))(?P<rest>(?:\s+\S+)*))?\s*',
    re.IGNORECASE | re.ASCII,
)
_NUMBER = re.compile(r"\+?(\d{1,30}|0x[0-9a-f]{1,16})", re.IGNORECASE | re.ASCII)
_SETTING = re.compile(r"(?P<key>[\w.\-]+)\s*=\s*(?P<value>.*)", re.DOTALL)
_QUOTES = "\"'\u201c\u201d\u201e"
"""What stands around values; the last three are what word processors make of the first."""


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One line of "Extent description".

    Attributes:
        access: ``RW``, ``RDONLY`` or ``NOACCESS``. sectors: its size. kind: ``SPARSE``, ``FLAT``,
            ``ZERO``, ``VMFS``, ``VMFSSPARSE``, ``SESPARSE``, …
        name: the file, empty for ``ZERO``. offset: first sector in the file; ``None`` where the
            line has none, as those of type ``VMFS``. spellings: other names under which the file
            may lie, by the encoding of the descriptor.
    """

    access: str
    sectors: int
    kind: str
    name: str = ""
    offset: int | None = None
    spellings: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A descriptor.

    Attributes:
        cid, parent_cid: content identities; ``parent_cid`` is ``NO_PARENT`` for a base.
        create_type: ``createType``. extents: in the order of the disk.
        parent_hint: ``parentFileNameHint``, or ``None``. encoding: as the text says it.
        ddb: the disk database, ``adapterType`` and so on, names without ``ddb.``.
        header: other settings of the first part, such as ``version`` and ``changeTrackPath``.
        warnings: what could not be understood and does not change the disk.
    """

    cid: int
    create_type: str
    extents: tuple[ExtentLine, ...]
    parent_cid: int = NO_PARENT
    parent_hint: str | None = None
    encoding: str = "UTF-8"
    ddb: Mapping[str, str] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def sectors(self) -> int:
        """Sectors of the disk."""
        return sum(extent.sectors for extent in self.extents)


def format_descriptor(descriptor: Descriptor) -> str:
    """Return the text, lines ended by a newline, sections as in the note's examples."""
    lines = [
        FIRST_LINE,
        "version=1",
        f'encoding="{descriptor.encoding}"',
        f"CID={descriptor.cid:08x}",
        f"parentCID={descriptor.parent_cid:08x}",
        f'createType="{descriptor.create_type}"',
    ]
    if descriptor.parent_hint is not None:
        lines.append(f'parentFileNameHint="{descriptor.parent_hint}"')
    lines += [f"{key}={value}" for key, value in descriptor.header.items() if key != "version"]
    lines += ["", "# Extent description", *map(_extent_text, descriptor.extents)]
    lines += ["", "# The Disk Data Base", "#DDB", ""]
    lines += [f'ddb.{key} = "{value}"' for key, value in descriptor.ddb.items()]
    return "\n".join(lines) + "\n"


def _extent_text(extent: ExtentLine) -> str:
    text = f"{extent.access} {extent.sectors} {extent.kind}"
    if extent.name:
        text += f' "{extent.name}"'
    return text if extent.offset is None else f"{text} {extent.offset}"


def parse_descriptor(
    data: bytes, name: str, *, embedded: bool = False, create_type: str | None = None
) -> Descriptor:
    """Return what a descriptor says; NUL bytes and what follows them are not part of it.

    Args:
        embedded: it lies in a disk whose binary header says what the disk is. Then the first line
            may be anything, and a line of an extent is only a remark.
        create_type: what the disk is where the text does not say it.

    Raises:
        FormatError: it is none, the line of an extent cannot be understood, or something is
            missing. LimitError: it is too long, or has too many extents.
    """
    if len(data) > TEXT_MAX:
        raise LimitError(f"{name}: a descriptor of over {TEXT_MAX} bytes")
    if not embedded and not looks_like_descriptor(data):
        raise FormatError(f"{name}: no VMDK descriptor: its first line is not {FIRST_LINE!r}")
    return _Parser(name, embedded).parsed(descriptor_text(data), create_type)


class _Parser:
    """Takes line by line, and notes what it passes over."""

    def __init__(self, name: str, embedded: bool) -> None:
        self._name, self._embedded = name, embedded
        self._settings: dict[str, str] = {}
        self._extents: list[ExtentLine] = []
        self._warnings: list[str] = []

    def parsed(self, text: str, create_type: str | None) -> Descriptor:
        if not squeezed(first_line(text)).startswith(squeezed(FIRST_LINE)):
            self._warn(f"its descriptor does not begin with the line {FIRST_LINE!r}")
        for number, line in telling_lines(text):
            if _is_extent(line):
                self._take_extent(line, number)
            elif (found := _SETTING.fullmatch(line)) is not None:
                self._take_setting(found["key"], found["value"].strip().strip(_QUOTES))
            else:
                self._warn(f"line {number} of the descriptor cannot be understood")
        if "createType" not in self._settings and create_type is not None:
            self._warn("the descriptor has no createType")
            self._settings["createType"] = create_type
        return self._built()

    def _warn(self, text: str) -> None:
        if len(self._warnings) < WARNINGS_MAX:
            self._warnings.append(f"{self._name}: {text}")

    def _take_setting(self, key: str, value: str) -> None:
        key = _NAMES.get(key.lower(), key)
        if self._settings.setdefault(key, value) != value:
            self._warn(f"{key[:40]} is there twice in the descriptor; the first counts")

    def _take_extent(self, line: str, number: int) -> None:
        found = _EXTENT.fullmatch(line)
        if found is not None:
            self._extents.append(self._extent(found))
        elif self._embedded:
            self._warn(f"line {number} of the descriptor cannot be understood")
        else:
            # Left out, it would make another disk of it.
            raise FormatError(f"{self._name}: line {number} of the descriptor cannot be understood")
        if len(self._extents) > EXTENTS_MAX:
            raise LimitError(f"{self._name}: a descriptor of over {EXTENTS_MAX} extents")

    def _extent(self, found: re.Match[str]) -> ExtentLine:
        rest = (found["rest"] or "").split()
        offset = None
        if rest and found["type"].upper() in ("FLAT", "VMFS", "VMFSRAW", "VMFSRDM"):
            offset = verified_capacity(self._number(rest[0]), self._name)
        sectors = verified_capacity(int(found["sectors"]), self._name)
        return ExtentLine(
            found["access"].upper(),
            sectors,
            found["type"].upper(),
            found["name"] or (found["bare"] or "").strip(_QUOTES),
            offset,
        )

    def _number(self, text: str) -> int:
        found = _NUMBER.fullmatch(text)
        if found is None:
            raise FormatError(
                f"{self._name}: the offset of an extent is not a number: {text[:40]!r}"
            )
        return int(found[1], 16 if found[1][:2] in ("0x", "0X") else 10)

    def _built(self) -> Descriptor:
        name, settings = self._name, self._settings
        for needed in ("CID", "createType"):
            if needed not in settings:
                raise FormatError(f"{name}: the descriptor has no {needed}")
        cid = _identity(settings.pop("CID"), "CID", name)
        parent = _identity(settings.pop("parentCID", "ffffffff"), "parentCID", name)
        ddb = {key[4:]: value for key, value in settings.items() if key.lower().startswith("ddb.")}
        header = {
            key: value for key, value in settings.items() if not key.lower().startswith("ddb.")
        }
        create_type = header.pop("createType")
        hint = header.pop("parentFileNameHint", None)
        encoding = header.pop("encoding", "UTF-8")
        codec = codec_named(encoding)
        if codec is None:
            self._warn(f"the descriptor names an unknown encoding, {encoding[:40]!r}")
        extents = tuple(_named(extent, codec) for extent in self._extents)
        verified_capacity(sum(extent.sectors for extent in extents), name)
        hint = None if hint is None else decoded_name(hint, codec)
        return Descriptor(
            cid, create_type, extents, parent, hint, encoding, ddb, header, tuple(self._warnings)
        )


_NAMES = {
    each.lower(): each
    for each in ("CID", "parentCID", "createType", "parentFileNameHint", "encoding", "version")
}


def _is_extent(line: str) -> bool:
    return line.split(None, 1)[0].upper() in ACCESS


def _named(extent: ExtentLine, codec: str | None) -> ExtentLine:
    """An extent with its name as people read it, and the others that it may have."""
    if extent.name.isascii():
        return extent
    name = decoded_name(extent.name, codec)
    return replace(extent, name=name, spellings=other_spellings(extent.name, name, codec))


def _identity(text: str, what: str, name: str) -> int:
    if not re.fullmatch(r"(?:0[xX])?[0-9a-fA-F]{1,8}", text):
        raise FormatError(f"{name}: {what} is not a number of 32 bits: {text[:40]!r}")
    return int(text, 16)
