"""The grammar of a descriptor, line by line; it does not use the reader's parser.

Source: the note, "The Descriptor File". What cannot be understood is a finding, and the rest is
looked at all the same.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from aipimage.vmdk.descriptor import EXTENTS_MAX, NO_PARENT, TEXT_MAX, ExtentLine
from aipimage.vmdk.descriptortext import FIRST_LINE, descriptor_text, wide_codec
from aipimage.vmdk.layout import CAPACITY_MAX
from aipimage.vmdk.linting.findings import CheckedFile

_ACCESS = re.compile(r"(rw|rdonly|noaccess)\s", re.IGNORECASE)
_EXTENT = re.compile(r'(\w+)\s+(\d{1,19})\s+(\w+)(?:\s+"([^"]*)"((?:\s+\S{1,64}){0,4}))?', re.ASCII)
_SETTING = re.compile(r'([\w.\-]{1,80})\s*=\s*(?:"([^"]*)"|([^"]*))')
_CID = re.compile("[0-9a-fA-F]{1,8}")
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_OFFSET_TYPES = ("FLAT", "VMFS", "VMFSRDM", "VMFSRAW")
_KNOWN_TEXT = """
version encoding CID parentCID isNativeSnapshot createType parentFileNameHint changeTrackPath
ddb.adapterType ddb.geometry.cylinders ddb.geometry.heads ddb.geometry.sectors
ddb.geometry.biosCylinders ddb.geometry.biosHeads ddb.geometry.biosSectors ddb.uuid ddb.uuid.image
ddb.uuid.parent ddb.uuid.modification ddb.uuid.parentmodification ddb.longContentID
ddb.virtualHWVersion ddb.toolsVersion ddb.toolsInstallType ddb.deletable ddb.encoding
ddb.thinProvisioned ddb.comment ddb.objectParentUri ddb.nativeParentHint ddb.nativeParentCID
ddb.iofilters ddb.sidecars ddb.grain ddb.consolidateDestination
"""
_KNOWN = {name.lower(): name for name in _KNOWN_TEXT.split()}


@dataclass
class Described:
    """What a descriptor says, as far as it could be understood.

    Attributes:
        settings: names in small letters. places: byte offset of each of them in the file.
        lines: extents with the byte offsets of their lines.
    """

    cid: int | None = None
    parent_cid: int = NO_PARENT
    settings: dict[str, str] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    lines: list[tuple[ExtentLine, int]] = field(default_factory=list)

    @property
    def create_type(self) -> str:
        """``createType``, empty where there is none."""
        return self.settings.get("createtype", "")

    @property
    def sectors(self) -> int:
        """Sectors of the disk."""
        return sum(line.sectors for line, _ in self.lines)


def check_text(checked: CheckedFile, data: bytes, base: int) -> Described:
    """Check the lines of a descriptor that stands at byte ``base``; return what they say."""
    found = Described()
    if len(data) > TEXT_MAX:
        checked.add("descriptor-too-long", f"a descriptor of over {TEXT_MAX} bytes", base)
        data = data[:TEXT_MAX]
    if (wide := wide_codec(data)) is not None:
        checked.add("descriptor-encoding", f"the descriptor is in {wide}", base)
        data = descriptor_text(data).encode("utf-8")
    text, _, rest = data.partition(b"\0")
    if rest.strip(b"\0"):
        at = base + len(data) - len(rest.lstrip(b"\0"))
        checked.add("descriptor-after-end", "bytes follow the end of the descriptor's text", at)
    if control := _CONTROL.search(text):
        what = f"a control character, {control[0][0]:#04x}"
        checked.add("descriptor-control", what, base + control.start())
    for number, (raw, at) in enumerate(_split(text, base)):
        if number == 0:
            _check_first(checked, raw, at)
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not _line(checked, found, raw.strip(), at, number + 1):
            return found
    _check_encoding(checked, found, text, base)
    _check_identities(checked, found, base)
    return found


def _split(text: bytes, base: int) -> Iterator[tuple[bytes, int]]:
    """Lines with their places; some old files end them with a carriage return alone."""
    at = 0
    for end in re.finditer(b"\r\n|\n|\r", text):
        yield text[at : end.start()], base + at
        at = end.end()
    yield text[at:], base + at


def _check_first(checked: CheckedFile, raw: bytes, at: int) -> None:
    if raw.rstrip() != FIRST_LINE.encode():
        line = raw[:40].decode("ascii", "backslashreplace")
        checked.add(
            "descriptor-first-line", f"the first line is {line!r} and not {FIRST_LINE!r}", at
        )


def _line(checked: CheckedFile, found: Described, raw: bytes, at: int, number: int) -> bool:
    """Take one line; ``False`` where there are too many extents to continue."""
    if not raw or raw.startswith(b"#"):
        return True
    line = raw.decode("utf-8", "surrogateescape")
    if _ACCESS.match(line):
        if len(found.lines) >= EXTENTS_MAX:
            checked.add("descriptor-too-long", f"over {EXTENTS_MAX} extents", at)
            return False
        if (extent := _extent(line)) is not None:
            found.lines.append((extent, at))
            if any(word != word.upper() for word in line.split()[0:3:2]):
                checked.add("letter-case", f"small letters in line {number}", at)
            return True
    elif setting := _SETTING.fullmatch(line):
        _take_setting(checked, found, setting, at)
        return True
    checked.add("descriptor-line", f"line {number} cannot be understood: {line[:60]!r}", at)
    return True


def _extent(line: str) -> ExtentLine | None:
    match = _EXTENT.fullmatch(line)
    if match is None or int(match[2]) > CAPACITY_MAX:
        return None
    access, kind, offset = match[1].upper(), match[3].upper(), None
    fields = (match[5] or "").split()
    if fields and kind in _OFFSET_TYPES:
        if not re.fullmatch(r"[0-9]{1,19}", fields[0]) or int(fields[0]) > CAPACITY_MAX:
            return None
        offset = int(fields[0])
    return ExtentLine(access, int(match[2]), kind, match[4] or "", offset)


def _take_setting(checked: CheckedFile, found: Described, match: re.Match[str], at: int) -> None:
    key = match[1].lower()
    value = (match[2] if match[2] is not None else match[3]).strip()
    if key in found.settings:
        if found.settings[key] != value:
            checked.add("key-twice", f"{match[1]} is there twice, with different values", at)
        return
    found.settings[key] = value
    found.places[key] = at
    if key not in _KNOWN:
        checked.add("key-unknown", f"{match[1]} is not a known setting", at)
    elif match[1] != _KNOWN[key]:
        checked.add("letter-case", f"{match[1]} is written {_KNOWN[key]}", at)


def _check_encoding(checked: CheckedFile, found: Described, text: bytes, base: int) -> None:
    name = found.settings.get("encoding", "UTF-8")
    at = found.places.get("encoding", base)
    try:
        codec = codecs.lookup(name)
        # The registry has codecs that are not encodings of text, such as hex.
        text.decode(codec.name)
    except (LookupError, ValueError, TypeError) as error:
        known = not isinstance(error, LookupError)
        what = "is not in the encoding that it names" if known else "names an unknown encoding"
        checked.add("descriptor-encoding", f"the descriptor {what}, {name[:40]!r}", at)


def _check_identities(checked: CheckedFile, found: Described, base: int) -> None:
    version = found.settings.get("version", "")
    if version not in ("1", "2", "3", "4"):
        at = found.places.get("version", base)
        checked.add("descriptor-version", f"version is {version[:20]!r} and not 1", at)
    found.cid = _identity(checked, found, "cid", "CID")
    if "cid" not in found.settings:
        checked.add("cid-missing", "the descriptor has no CID", base)
    if "parentcid" not in found.settings:
        checked.add("parent-cid-missing", "no parentCID; it is taken for a base", base)
    parent = _identity(checked, found, "parentcid", "parentCID")
    found.parent_cid = NO_PARENT if parent is None else parent
    if found.cid == NO_PARENT:
        checked.add("cid-reserved", "CID is ffffffff, which means: no parent", found.places["cid"])
    elif found.cid is not None and found.cid == found.parent_cid:
        # Until it is written to, a delta of ESX has the CID of its parent.
        delta = "parentfilenamehint" in found.settings
        checked.add(
            "parent-own-cid",
            f"parentCID is its own CID, {found.cid:08x}",
            found.places["parentcid"],
            severity="note" if delta else None,
        )


def _identity(checked: CheckedFile, found: Described, key: str, name: str) -> int | None:
    value = found.settings.get(key)
    if value is None:
        return None
    if not _CID.fullmatch(value):
        checked.add(
            "cid-invalid", f"{name} is not a number of 32 bits: {value[:20]!r}", found.places[key]
        )
        return None
    return int(value, 16)
