"""Reading the descriptor of an appliance, as far as its disks need it.

Source: DSP0243 1.1, "OVF Descriptor", "DiskSection". Descriptors of OVF 2 are read too: what is
looked at here is the same in another namespace. A document type declaration is refused, and with it
all entities: they could name files, or grow without bounds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn
from xml.parsers import expat

from aipimage.errors import FormatError, LimitError, UnsupportedError

ENVELOPE_MAX = 8 << 20
DEPTH_MAX = 64
FILES_MAX = 1024
CAPACITY_MAX = (1 << 63) - 1
_NAMESPACE = re.compile(r"http://schemas\.dmtf\.org/ovf/envelope/[12]")
_BETWEEN = "\x1f"
"""Between a namespace and a name: what XML cannot hold, while a blank is in some namespaces."""
_UNITS = re.compile(r"\s*byte(?:\s*\*\s*(?:2\s*\^\s*(\d{1,2})|1024((?:\s*\*\s*1024)*)))?\s*", re.I)
_OLD_UNITS = {"kilobytes": 10, "megabytes": 20, "gigabytes": 30, "terabytes": 40}


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file of the package: ``id``, ``href``, bytes in ``size``, ``None`` where it is not said."""

    id: str
    href: str
    size: int | None


@dataclass(frozen=True, slots=True)
class DiskReference:
    """A disk: ``id``, the file it lies in or ``None`` for an empty one, ``capacity`` in bytes or
    ``None`` where whoever imports it chooses it, ``format`` as the descriptor says it, ``parent``:
    ``id`` of the disk that it builds on, or ``None``.
    """

    id: str
    file: FileReference | None
    capacity: int | None
    format: str
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What of a descriptor is looked at: ``name`` of the machine, ``files`` and ``disks`` in
    order.
    """

    name: str
    files: tuple[FileReference, ...]
    disks: tuple[DiskReference, ...]


def decode_envelope(data: bytes, name: str) -> Envelope:
    """Return what a descriptor says.

    Raises:
        FormatError: no OVF descriptor, or damaged. LimitError: a number or its length over a limit.
        UnsupportedError: a disk in several files, or in a compressed one.
    """
    if len(data) > ENVELOPE_MAX:
        raise LimitError(f"{name}: an OVF descriptor of over {ENVELOPE_MAX} bytes")
    reader = _Reader(name)
    parser = expat.ParserCreate(namespace_separator=_BETWEEN)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise FormatError(f"{name}: the OVF descriptor is no well-formed XML: {error}") from error
    except (LookupError, ValueError) as error:
        raise FormatError(f"{name}: the OVF descriptor has an unknown encoding") from error
    return reader.envelope()


class _Reader:
    """Takes elements as they come; knows where it is by the path of their names."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._path: list[str] = []
        self._files: dict[str, FileReference] = {}
        self._disks: dict[str, dict[str, str]] = {}
        self._machine: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        namespace, _, local = tag.rpartition(_BETWEEN)
        if not self._path and (local != "Envelope" or not _NAMESPACE.fullmatch(namespace)):
            raise FormatError(f"{self._name}: is no OVF descriptor: it begins with {local[:40]!r}")
        if len(self._path) >= DEPTH_MAX:
            raise LimitError(f"{self._name}: elements of the OVF descriptor are nested too deeply")
        self._path.append(local if _NAMESPACE.fullmatch(namespace) else "")
        plain = {}
        for key, value in attributes.items():
            space, _, each = key.rpartition(_BETWEEN)
            if not space or _NAMESPACE.fullmatch(space):
                plain[each] = value
        if self._path[1:] == ["References", "File"]:
            self._add_file(plain)
        elif self._path[1:] == ["DiskSection", "Disk"]:
            self._add_disk(plain)

    def end(self, tag: str) -> None:
        """An element ends."""
        self._path.pop()

    def text(self, data: str) -> None:
        """Characters inside of an element."""
        if self._path[-1] == "Name" and self._path[-2:-1] == ["VirtualSystem"]:
            self._machine.append(data)

    def doctype(self, *_: object) -> NoReturn:
        """A document type declaration."""
        raise FormatError(f"{self._name}: an OVF descriptor with a document type declaration")

    def _add_file(self, attributes: dict[str, str]) -> None:
        key, href = self._attribute(attributes, "id"), self._attribute(attributes, "href")
        if key in self._files:
            raise FormatError(f"{self._name}: two files of the OVF descriptor are called {key!r}")
        if len(self._files) >= FILES_MAX:
            raise LimitError(f"{self._name}: an OVF descriptor with over {FILES_MAX} files")
        if attributes.get("compression", "identity") not in ("", "identity"):
            raise UnsupportedError(f"{self._name}: {href}: a compressed file; unpack it first")
        if attributes.get("chunkSize"):
            raise UnsupportedError(f"{self._name}: {href}: a file in chunks; join them first")
        size = attributes.get("size")
        self._files[key] = FileReference(
            key, href, None if size is None else self._number(size, "size of a file")
        )

    def _add_disk(self, attributes: dict[str, str]) -> None:
        key = self._attribute(attributes, "diskId")
        if key in self._disks:
            raise FormatError(f"{self._name}: two disks of the OVF descriptor are called {key!r}")
        if len(self._disks) >= FILES_MAX:
            raise LimitError(f"{self._name}: an OVF descriptor with over {FILES_MAX} disks")
        self._disks[key] = attributes

    def envelope(self) -> Envelope:
        """What was said, once all of it was."""
        disks = tuple(self._disk(key, each) for key, each in self._disks.items())
        return Envelope("".join(self._machine), tuple(self._files.values()), disks)

    def _disk(self, key: str, attributes: dict[str, str]) -> DiskReference:
        reference = attributes.get("fileRef")
        if reference is not None and reference not in self._files:
            raise FormatError(f"{self._name}: disk {key!r} lies in {reference!r}, which is no file")
        file = None if reference is None else self._files[reference]
        return DiskReference(
            key, file, self._capacity(attributes), attributes.get("format", ""),
            attributes.get("parentRef") or None,
        )  # fmt: skip

    def _capacity(self, attributes: dict[str, str]) -> int | None:
        text = self._attribute(attributes, "capacity")
        if text.startswith("${"):
            return None
        number = self._number(text, "capacity of a disk")
        shift = self._shift(attributes.get("capacityAllocationUnits", "byte"))
        if number > CAPACITY_MAX >> shift:
            raise LimitError(f"{self._name}: a disk of {number} * 2^{shift} bytes")
        return number << shift

    def _shift(self, units: str) -> int:
        """DSP0004's units of bytes, those of early drafts too, as a power of two below 2^62."""
        if units.lower() in _OLD_UNITS:
            return _OLD_UNITS[units.lower()]
        found = _UNITS.fullmatch(units)
        if found is None:
            raise UnsupportedError(f"{self._name}: unknown unit of a capacity: {units[:40]!r}")
        if found[2] is not None:
            return min(10 + 10 * found[2].count("*"), 62)
        return min(int(found[1] or 0), 62)

    def _attribute(self, attributes: dict[str, str], key: str) -> str:
        value = attributes.get(key)
        if not value:
            raise FormatError(f"{self._name}: an element of the OVF descriptor has no {key!r}")
        return value

    def _number(self, text: str, what: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise FormatError(f"{self._name}: the {what} is no number: {text[:40]!r}")
        return int(text)
