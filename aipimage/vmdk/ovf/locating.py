"""Finds the file of a package that a descriptor or a manifest names.

Source: DSP0243 1.1, "OVF Package", and RFC 3986: a name is a relative reference with the place of
the descriptor as its base, percent-encoded; and what makers write instead. A name is only compared
with those that are there: none is ever used for a path of the system (hostile-inputs 21, 36).
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from aipimage.errors import FormatError, IncompleteError
from aipimage.vmdk.ovf.members import Listing, Member, clean_name
from aipimage.vmdk.ovf.parsing import FileReference

_CHUNK = re.compile(r"(?s)(.*)\.(\d{9})")
_ELSEWHERE = re.compile(
    r"(?s)[/\\]|[A-Za-z]:[/\\]|[A-Za-z][A-Za-z0-9+.\-]*:/|(?:.*[/\\])?\.\.(?:[/\\]|$)"
)
"""What leads out of a package: a root, a drive, another host, a folder above."""
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


class Wanted:
    """Which files of a folder ``names`` may stand for, in all their spellings and chunks."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {folded(each) for name in names for each in _spellings(name, "")}

    def has(self, name: str) -> bool:
        """Whether a file of that name may be meant."""
        chunk = _CHUNK.fullmatch(name)
        return folded(name) in self._names or (
            chunk is not None and folded(chunk[1]) in self._names
        )


class Package:
    """The files of an appliance, looked up as its descriptor names them."""

    def __init__(self, name: str, base: str, listing: Listing, missing: str) -> None:
        """Take the appliance's ``name`` and what to do where a file is ``missing``, both for
        messages; and ``base``, the folder of the descriptor.
        """
        self._name, self._base, self._listing, self._missing = name, base, listing, missing
        self._files = {each.name: each for each in listing.files}
        self._alike: dict[str, list[Member]] = {}
        self._chunks: dict[str, dict[int, Member]] = {}
        for each in listing.files:
            self._alike.setdefault(folded(each.name), []).append(each)
            if (found := _CHUNK.fullmatch(each.name)) is not None:
                self._chunks.setdefault(found[1], {})[int(found[2])] = each

    def member(self, text: str) -> Member | None:
        """The file that is called ``text``, or ``None``.

        Raises:
            FormatError: several are called so, or it is not a file.
        """
        names = list(_spellings(text, self._base))
        for name in names:
            if name in self._listing.twice:
                raise FormatError(f"{self._name}: has two members called {name!r}")
            if name in self._files:
                return self._files[name]
            if name in self._listing.others:
                what = self._listing.others[name]
                raise FormatError(f"{self._name}: {name!r} is {what} in the appliance, not a file")
        for name in names:
            if len(alike := self._alike.get(folded(name), [])) == 1:
                return alike[0]
        return None

    def disk_file(self, reference: FileReference) -> tuple[Member, list[str]]:
        """The file of a disk, joined where it is in chunks; and sentences on what is odd.

        Raises:
            FormatError: it is not there, or named twice, or leads out of the package.
            IncompleteError: a chunk is missing.
        """
        href = reference.href
        if leads_out(href):
            raise FormatError(
                f"{self._name}: {href[:200]!r} leads out of the appliance and is not followed"
            )
        member = self.member(href)
        if member is not None:
            return member, self._odd(member, reference)
        for name in _spellings(href, self._base):
            if name in self._chunks:
                joined = self._joined(name, self._chunks[name], reference)
                return joined, self._odd(joined, reference)
        raise FormatError(
            f"{self._name}: {href[:200]!r} is named, and not in the appliance; {self._missing}"
        )

    def _odd(self, member: Member, reference: FileReference) -> list[str]:
        if reference.size in (None, member.size):
            return []
        return [
            f"{self._name}: {member.name} has {member.size} bytes, and the descriptor says "
            f"{reference.size}"
        ]

    def _joined(self, name: str, chunks: Mapping[int, Member], reference: FileReference) -> Member:
        """Chunks one after the other (DSP0243: ``href``, a dot, nine digits)."""
        pieces: list[tuple[int, int, int]] = []
        total = 0
        for number in range(len(chunks)):
            if number not in chunks:
                raise self._gap(name, number)
            chunk = chunks[number]
            if chunk.name in self._listing.twice:
                raise FormatError(f"{self._name}: has two members called {chunk.name!r}")
            pieces += [(total + start, place, length) for start, place, length in chunk.ranges]
            total += chunk.size
        if reference.size is not None and total < reference.size:
            raise self._gap(name, len(chunks))
        return Member(name, chunks[0].offset, total, tuple(pieces))

    def _gap(self, name: str, number: int) -> IncompleteError:
        return IncompleteError(
            f"{self._name}: {name}.{number:09d}, a chunk of the disk {name}, is not in the "
            f"appliance; {self._missing}"
        )


def leads_out(href: str) -> bool:
    """Whether a reference names what is not in the package, in whatever spelling."""
    return any(_ELSEWHERE.match(each) or "\0" in each for each in (href, _decoded(href)))


def _decoded(href: str) -> str:
    """A reference without its percent-encoding; bytes that are not UTF-8 are kept."""
    raw = href.encode("utf-8", "surrogatepass")
    plain = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), raw)
    return plain.decode("utf-8", "surrogateescape")


def _spellings(text: str, base: str) -> Iterator[str]:
    """Names that a reference may stand for, best first; none of them leads upwards."""
    given = (_decoded(text), text)
    for folder in dict.fromkeys((base, "")):
        for each in dict.fromkeys((*given, *(one.replace("\\", "/") for one in given))):
            name = clean_name(posixpath.join(folder, each.lstrip("/")))
            if name and ".." not in name.split("/"):
                yield name


def folded(name: str) -> str:
    """Return what names have in common that a file system may call the same."""
    return unicodedata.normalize("NFC", name).casefold()
