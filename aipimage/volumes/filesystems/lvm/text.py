"""The text in which LVM2 writes down a volume group: sections, numbers, strings and lists.

Source: LVM2, libdm/libdm-config.c (the parser of configuration and metadata).
"""

from __future__ import annotations

import re
from typing import TypeAlias

from aipimage.volumes.view import LayoutError

TEXT_MAX = 4 << 20
"""Bytes; a group of some thousand logical volumes takes 1 MiB."""
_DEPTH_MAX = 8
_NUMBER_MAX = (1 << 63) - 1
Scalar: TypeAlias = int | float | str
Value: TypeAlias = "Scalar | list[Scalar] | Section"
Section: TypeAlias = dict[str, Value]

# Possessive throughout, so that a text which does not fit is not tried in other ways.
_TOKEN = re.compile(
    r"(?:[\s\0]++|#[^\n]*+)*+(?:"
    r'(?P<string>"(?:[^"\\]|\\.)*+"|\'[^\']*+\')'
    r"|(?P<mark>[={}\[\],])"
    r"|(?P<word>[^\s\0#={}\[\],\"']++)"
    r"|(?P<end>\Z))",
    re.DOTALL,
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_REAL = re.compile(r"[+-]?[0-9]{0,20}\.[0-9]{0,20}\Z")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse(text: str) -> Section:
    """Return the outermost section.

    Raises:
        LayoutError: it does not follow the grammar, a name occurs twice in a section, sections lie
            too deep, or a number does not fit in 64 bits.
    """
    return _Parser(text).section(outermost=True)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0

    def _next(self) -> tuple[str, str]:
        """The kind of the next token, and its text."""
        match = _TOKEN.match(self._text, self._at)
        if match is None or match.lastgroup is None:
            raise LayoutError(f"its metadata makes no sense at character {self._at}")
        self._at = match.end()
        return match.lastgroup, match[match.lastgroup]

    def section(self, outermost: bool = False) -> Section:
        """What stands up to the closing brace, or to the end of the text."""
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise LayoutError("the sections of its metadata lie too deep")
        found: Section = {}
        closing = ("end", "") if outermost else ("mark", "}")
        while (token := self._next()) != closing:
            if token[0] not in ("word", "string"):
                raise LayoutError(f"its metadata has no name at character {self._at}")
            name = _unquoted(token[1]) if token[0] == "string" else token[1]
            if name in found:
                raise LayoutError(f"its metadata says {name[:40]!r} twice in a section")
            found[name] = self._value()
        self._depth -= 1
        return found

    def _value(self) -> Value:
        """What belongs to a name: a section, or what follows a sign of equality."""
        token = self._next()
        if token == ("mark", "="):
            token = self._next()
            if token == ("mark", "["):
                return self._list()
            if token != ("mark", "{"):
                return _scalar(*token)
        if token != ("mark", "{"):
            raise LayoutError(f"its metadata has no value at character {self._at}")
        return self.section()

    def _list(self) -> list[Scalar]:
        found: list[Scalar] = []
        while (token := self._next()) != ("mark", "]"):
            found.append(_scalar(*token))
            token = self._next()
            if token == ("mark", "]"):
                break
            if token != ("mark", ","):
                raise LayoutError(f"its metadata has a list without commas at {self._at}")
        return found


def _unquoted(text: str) -> str:
    return _ESCAPED.sub(r"\1", text[1:-1]) if text[0] == '"' else text[1:-1]


def _scalar(kind: str, text: str) -> Scalar:
    if kind == "string":
        return _unquoted(text)
    if kind == "word":
        if _INTEGER.match(text) and abs(number := int(text)) <= _NUMBER_MAX:
            return number
        if _REAL.match(text) and text.strip("+-") != ".":
            return float(text)
    raise LayoutError(f"its metadata has the value {text[:40]!r}, which is none")
