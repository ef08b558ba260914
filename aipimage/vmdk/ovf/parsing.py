"""Reading the descriptor of an appliance, as far as its disks need it.

Source: DSP0243 1.1, "OVF Descriptor", "DiskSection". Descriptors of OVF 2 are read too: what is
looked at here is the same in another namespace; and those of OVF 0.9, whose sections say by their
``xsi:type`` what they are. What is not needed to find the disks is never a reason to refuse: it is
a warning. A document type declaration is refused, and with it all entities: they could name files,
or grow without bounds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn
from xml.parsers import expat

from aipimage.errors import FormatError, LimitError
from aipimage.vmdk.ovf.units import bytes_of_unit
from aipimage.vmdk.textcodes import codec_named

ENVELOPE_MAX = 8 << 20
DEPTH_MAX = 64
FILES_MAX = 1024
CAPACITY_MAX = (1 << 63) - 1
WARNINGS_MAX = 20
_NAMESPACE = re.compile(r"https?://\S+/ovf/(?:\S*/)?envelope(?:/\S*)?", re.IGNORECASE)
"""``http://schemas.dmtf.org/ovf/envelope/1`` and ``/2``, ``http://schemas.dmtf.org/ovf/1/envelope``
of drafts, ``http://www.vmware.com/schema/ovf/1/envelope`` of OVF 0.9; and no namespace at all."""
_TYPES = "http://www.w3.org/2001/XMLSchema-instance"
_BETWEEN = "\x1f"
"""Between a namespace and a name: what XML cannot hold, while a blank is in some namespaces."""
_DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:\-]{1,40})["']""")
_FILE_URI = re.compile(r"(?:ovf:)?/?file/")


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file of the package: ``id``, ``href``, bytes in ``size``, ``None`` where it is not said;
    ``compression``, empty where there is none.
    """

    id: str
    href: str
    size: int | None
    compression: str = ""


@dataclass(frozen=True, slots=True)
class DiskReference:
    """A disk: ``id``, the file it lies in or ``None`` for an empty one, ``capacity`` in bytes or
    ``None`` where it is not said or the importer chooses it, ``format`` as the descriptor
    says it, ``parent``: ``id`` of the disk that it builds on, or ``None``.
    """

    id: str
    file: FileReference | None
    capacity: int | None
    format: str
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What of a descriptor is looked at: ``name`` of the machine, ``files`` and ``disks`` in
    order; ``warnings``: sentences on what could not be understood.
    """

    name: str
    files: tuple[FileReference, ...]
    disks: tuple[DiskReference, ...]
    warnings: tuple[str, ...] = ()


def decode_envelope(data: bytes, name: str) -> Envelope:
    """Return what a descriptor says.

    Raises:
        FormatError: not an OVF descriptor, or damaged. LimitError: its length or a count over a
            limit.
    """
    if len(data) > ENVELOPE_MAX:
        raise LimitError(f"{name}: an OVF descriptor of over {ENVELOPE_MAX} bytes")
    if b"\0" not in data[:4]:
        # What editors and careless tools put around XML, which may not begin with blanks.
        data = data.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n\0")
    try:
        return _parsed(data, None, name)
    except (LookupError, ValueError) as error:
        codec = codec_named(found[1].decode("ascii")) if (found := _DECLARED.match(data)) else None
        if codec is None:
            raise FormatError(f"{name}: the OVF descriptor has an unknown encoding") from error
    try:
        return _parsed(data.decode(codec).encode("utf-8"), "utf-8", name)
    except ValueError as error:
        raise FormatError(f"{name}: the OVF descriptor is not in {codec}, as it says") from error


def _parsed(data: bytes, encoding: str | None, name: str) -> Envelope:
    reader = _Reader(name)
    parser = expat.ParserCreate(encoding, namespace_separator=_BETWEEN)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise FormatError(f"{name}: the OVF descriptor is not well-formed XML: {error}") from error
    return reader.envelope()


class _Reader:
    """Takes elements as they come; knows where it is by the path of their names."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._path: list[str] = []
        self._files: dict[str, FileReference] = {}
        self._disks: dict[str, dict[str, str]] = {}
        self._machine: list[str] = []
        self._warnings: list[str] = []
        # Without a name space an "Envelope" may be anything.
        self._named = self._sections = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        namespace, _, local = tag.rpartition(_BETWEEN)
        if not self._path and (local != "Envelope" or not _is_ovf(namespace)):
            raise self._no_ovf(local)
        if len(self._path) >= DEPTH_MAX:
            raise LimitError(f"{self._name}: elements of the OVF descriptor are nested too deeply")
        self._path.append(_section(local, attributes) if _is_ovf(namespace) else "")
        plain: dict[str, str] = {}
        for key, value in attributes.items():
            space, _, each = key.rpartition(_BETWEEN)
            if space and _is_ovf(space):
                plain[each] = value
            elif not space:
                plain.setdefault(each, value)
        self._named |= bool(namespace)
        self._sections |= self._path[1:] in (["References"], ["DiskSection"])
        if self._path[1:] == ["References", "File"]:
            self._add_file(plain)
        elif self._path[1:] == ["DiskSection", "Disk"]:
            self._add_disk(plain)

    def _no_ovf(self, local: str) -> FormatError:
        return FormatError(f"{self._name}: is not an OVF descriptor: it begins with {local[:40]!r}")

    def _warn(self, text: str) -> None:
        if len(self._warnings) < WARNINGS_MAX:
            self._warnings.append(f"{self._name}: {text}")

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
        key, href = attributes.get("id", ""), attributes.get("href", "")
        if not key or not href:
            self._warn("a file of the OVF descriptor has no id or no href")
            return
        if key in self._files:
            raise FormatError(f"{self._name}: two files of the OVF descriptor are called {key!r}")
        if len(self._files) >= FILES_MAX:
            raise LimitError(f"{self._name}: an OVF descriptor with over {FILES_MAX} files")
        compression = attributes.get("compression", "").strip().lower()
        self._files[key] = FileReference(
            key,
            href,
            self._number(attributes.get("size"), f"size of the file {href[:80]!r}"),
            "" if compression == "identity" else compression,
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
        if not (self._named or self._sections):
            raise self._no_ovf("Envelope, which refers to nothing")
        disks = tuple(self._disk(key, each) for key, each in self._disks.items())
        return Envelope(
            "".join(self._machine).strip(),
            tuple(self._files.values()),
            disks,
            tuple(self._warnings),
        )

    def _disk(self, key: str, attributes: dict[str, str]) -> DiskReference:
        reference = attributes.get("fileRef")
        return DiskReference(
            key,
            self._file(key, reference) if reference else None,
            self._capacity(key, attributes),
            attributes.get("format", ""),
            attributes.get("parentRef") or None,
        )

    def _file(self, disk: str, reference: str) -> FileReference:
        """The file that a disk lies in: by its id, or by its href, as some makers write it."""
        plain = _FILE_URI.sub("", reference, count=1)
        for each in (reference, plain):
            if each in self._files:
                return self._files[each]
        named = [each for each in self._files.values() if each.href == reference]
        if len(named) != 1:
            raise FormatError(
                f"{self._name}: disk {disk!r} lies in {reference!r}, which is not a file"
            )
        return named[0]

    def _capacity(self, disk: str, attributes: dict[str, str]) -> int | None:
        text = attributes.get("capacity", "")
        if text.startswith("${"):
            return None
        number = self._number(text, f"capacity of the disk {disk[:80]!r}")
        units = attributes.get("capacityAllocationUnits", "byte")
        unit = bytes_of_unit(units)
        if unit is None:
            self._warn(f"unknown unit of a capacity: {units[:40]!r}")
        if number is None or unit is None:
            return None
        if number > CAPACITY_MAX // unit:
            self._warn(f"a disk of {number} * {unit} bytes cannot be")
            return None
        return number * unit

    def _attribute(self, attributes: dict[str, str], key: str) -> str:
        value = attributes.get(key)
        if not value:
            raise FormatError(f"{self._name}: an element of the OVF descriptor has no {key!r}")
        return value

    def _number(self, text: str | None, what: str) -> int | None:
        """A number that nothing depends on: what is not a number is as if it were not there."""
        text = (text or "").strip()
        if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= CAPACITY_MAX:
            return int(text)
        if text:
            self._warn(f"the {what} is not a number: {text[:40]!r}")
        return None


def _is_ovf(namespace: str) -> bool:
    return not namespace or _NAMESPACE.fullmatch(namespace) is not None


def _section(local: str, attributes: dict[str, str]) -> str:
    """The name of an element, as OVF 1 has it: 0.9 says by a type what a section is."""
    if local not in ("Section", "Content"):
        return local
    kind = attributes.get(f"{_TYPES}{_BETWEEN}type", "").rpartition(":")[2]
    return kind.removesuffix("_Type") or local
