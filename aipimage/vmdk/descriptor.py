"""The text that says what a virtual disk consists of: text <-> values.

Source: VMware "Virtual Disk Format 5.0" technical note, "The Descriptor File". What writers do
beside it is read too: up to seven fields in an extent line, RDONLY, spaces around "=", any order
of sections, keys in any case, CRLF, NUL bytes behind the text, encodings other than UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aipimage.errors import FormatError, LimitError
from aipimage.vmdk.layout import verified_capacity

FIRST_LINE = "# Disk DescriptorFile"
NO_PARENT = 0xFFFF_FFFF
TEXT_MAX = 16 << 20
"""Bytes of a descriptor at most: 64 TiB in extents of 2 GB are 2 MiB (hostile-inputs class 40)."""
EXTENTS_MAX = 65_536
ACCESS = ("RW", "RDONLY", "NOACCESS")
EXTENT_TYPES = ("FLAT", "SPARSE", "ZERO", "VMFS", "VMFSSPARSE", "SESPARSE", "VMFSRDM", "VMFSRAW")

_EXTENT = re.compile(
    r'(?P<access>RW|RDONLY|NOACCESS)\s+(?P<sectors>\d{1,19})\s+(?P<type>[A-Z]+)'
    r'(?:\s+"(?P<name>[^"]*)"(?P<rest>(?:\s+\S+)*))?\s*',
    re.IGNORECASE,
)  # fmt: skip
_SETTING = re.compile(r'(?P<key>[\w.\-]+)\s*=\s*(?P<value>"(?:[^"]*)"|[^"]*?)\s*')


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One line of "Extent description".

    Attributes:
        access: ``RW``, ``RDONLY`` or ``NOACCESS``. sectors: its size. kind: ``SPARSE``, ``FLAT``,
            ``ZERO``, ``VMFS``, ``VMFSSPARSE``, ``SESPARSE``, …
        name: the file, empty for ``ZERO``. offset: first sector in the file; ``None`` where the
            line has none, as those of type ``VMFS``.
    """

    access: str
    sectors: int
    kind: str
    name: str = ""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A descriptor.

    Attributes:
        cid, parent_cid: content identities; ``parent_cid`` is ``NO_PARENT`` for a base.
        create_type: ``createType``. extents: in the order of the disk.
        parent_hint: ``parentFileNameHint``, or ``None``. encoding: as the text says it.
        ddb: the disk database, ``adapterType`` and so on, names without ``ddb.``.
        header: other settings of the first part, such as ``version`` and ``changeTrackPath``.
    """

    cid: int
    create_type: str
    extents: tuple[ExtentLine, ...]
    parent_cid: int = NO_PARENT
    parent_hint: str | None = None
    encoding: str = "UTF-8"
    ddb: Mapping[str, str] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)

    @property
    def sectors(self) -> int:
        """Sectors of the disk."""
        return sum(extent.sectors for extent in self.extents)


def looks_like_descriptor(data: bytes) -> bool:
    """Whether bytes begin as a descriptor does: the first line, in any case of letters."""
    return data[: len(FIRST_LINE)].lower() == FIRST_LINE.lower().encode()


def format_descriptor(descriptor: Descriptor) -> str:
    """Return the text, lines ended by a newline, sections as in the note's examples."""
    lines = [
        FIRST_LINE, "version=1", f'encoding="{descriptor.encoding}"',
        f"CID={descriptor.cid:08x}", f"parentCID={descriptor.parent_cid:08x}",
        f'createType="{descriptor.create_type}"',
    ]  # fmt: skip
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


def parse_descriptor(data: bytes, name: str) -> Descriptor:
    """Return what a descriptor says; NUL bytes and what follows them are not part of it.

    Raises:
        FormatError: it is none, a line cannot be understood, or something is missing or said twice.
        LimitError: it is too long, or has too many extents.
    """
    if len(data) > TEXT_MAX:
        raise LimitError(f"{name}: a descriptor of over {TEXT_MAX} bytes")
    data = data.split(b"\0", 1)[0]
    if not looks_like_descriptor(data):
        raise FormatError(f"{name}: no VMDK descriptor: its first line is not {FIRST_LINE!r}")
    settings: dict[str, str] = {}
    extents: list[ExtentLine] = []
    for number, line in _lines(_decoded(data)):
        if (extent := _extent(line, name)) is not None:
            extents.append(extent)
            if len(extents) > EXTENTS_MAX:
                raise LimitError(f"{name}: a descriptor of over {EXTENTS_MAX} extents")
            continue
        found = _SETTING.fullmatch(line)
        if found is None:
            raise FormatError(f"{name}: line {number} of the descriptor cannot be understood")
        settings.setdefault(_known(found["key"]), found["value"].strip('"'))
    return _built(settings, tuple(extents), name)


def _decoded(data: bytes) -> str:
    """As UTF-8 where it is that; else byte by byte, so that names of files survive a round trip."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers from 1."""
    for number, line in enumerate(text.replace("\r", "\n" if "\n" not in text else "").split("\n")):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number + 1, line


_NAMES = {
    each.lower(): each for each in ("CID", "parentCID", "createType", "parentFileNameHint",
                                    "encoding", "version")
}  # fmt: skip


def _known(key: str) -> str:
    return _NAMES.get(key.lower(), key)


def _extent(line: str, name: str) -> ExtentLine | None:
    if not line.upper().startswith(ACCESS):
        return None
    found = _EXTENT.fullmatch(line)
    if found is None:
        return None
    rest = (found["rest"] or "").split()
    offset = None
    if rest and found["type"].upper() in ("FLAT", "VMFS", "VMFSRAW", "VMFSRDM"):
        if not (rest[0].isascii() and rest[0].isdigit() and len(rest[0]) < 20):
            raise FormatError(f"{name}: the offset of an extent is no number: {rest[0][:40]!r}")
        offset = verified_capacity(int(rest[0]), name)
    sectors = verified_capacity(int(found["sectors"]), name)
    return ExtentLine(
        found["access"].upper(), sectors, found["type"].upper(), found["name"] or "", offset
    )


def _built(settings: dict[str, str], extents: tuple[ExtentLine, ...], name: str) -> Descriptor:
    for needed in ("CID", "createType"):
        if needed not in settings:
            raise FormatError(f"{name}: the descriptor has no {needed}")
    cid = _identity(settings.pop("CID"), "CID", name)
    parent = _identity(settings.pop("parentCID", "ffffffff"), "parentCID", name)
    ddb = {key[4:]: value for key, value in settings.items() if key.lower().startswith("ddb.")}
    header = {key: value for key, value in settings.items() if not key.lower().startswith("ddb.")}
    create_type = header.pop("createType")
    hint = header.pop("parentFileNameHint", None)
    encoding = header.pop("encoding", "UTF-8")
    verified_capacity(sum(extent.sectors for extent in extents), name)
    return Descriptor(cid, create_type, extents, parent, hint, encoding, ddb, header)


def _identity(text: str, what: str, name: str) -> int:
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", text):
        raise FormatError(f"{name}: {what} is no number of 32 bits: {text[:40]!r}")
    return int(text, 16)
