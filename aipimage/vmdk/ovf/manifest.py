"""The manifest of a package: a digest of each file, text <-> values.

Source: DSP0243, "OVF Package" (``ALGORITHM(name)= hex``). No space stands before the bracket, since
some importers then find no digest at all; one follows the equals sign, as ovftool writes it.
Read is what the tools of others leave: OpenSSL 3 spells ``SHA2-256``, BSD's tools have blanks
around the brackets, those of GNU put the digest in front; editors add CRLF, a BOM, or UTF-16. The
digests are needed by a check alone, so what is not understood is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aipimage.errors import LimitError, RequestError

if TYPE_CHECKING:
    from hashlib import _Hash

ALGORITHMS = {"sha256": "SHA256", "sha1": "SHA1"}
"""What may be asked for, and how the manifest spells it."""
_READ = {
    "MD5": 32,
    "SHA1": 40,
    "SHA224": 56,
    "SHA256": 64,
    "SHA384": 96,
    "SHA512": 128,
    "SHA3224": 56,
    "SHA3256": 64,
    "SHA3384": 96,
    "SHA3512": 128,
}
"""What is read, and the hex digits of each."""
_HASHLIB = {
    "SHA3224": "sha3_224",
    "SHA3256": "sha3_256",
    "SHA3384": "sha3_384",
    "SHA3512": "sha3_512",
}
_BY_WIDTH = {32: "MD5", 40: "SHA1", 56: "SHA224", 64: "SHA256", 96: "SHA384", 128: "SHA512"}
MANIFEST_MAX = 1 << 20
WARNINGS_MAX = 20
_LINE = re.compile(r"([A-Za-z][\w./\-]{0,30})\s*\((.{1,1024})\)\s*[=:]\s*([0-9a-fA-F]+)")
_COREUTILS = re.compile(r"([0-9a-fA-F]{32,128})\s+\*?(.{1,1024})")
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """The digest of a file: ``algorithm`` as ``SHA256`` is spelled, ``digest`` in hex."""

    name: str
    algorithm: str
    digest: str


def verified_algorithm(name: str) -> str | None:
    """Return the algorithm that is asked for, ``None`` for ``"none"``; ``RequestError`` else."""
    if name != "none" and name not in ALGORITHMS:
        raise RequestError(
            f"{name!r}: unknown manifest; use one of {', '.join([*ALGORITHMS, 'none'])}"
        )
    return None if name == "none" else name


def new_digest(algorithm: str) -> _Hash:
    """Return an empty digest: against damage, not against people, for which SHA-1 is too weak."""
    # Imported here: reading virtual disks does not need it.
    import hashlib

    name = _HASHLIB.get(algorithm, algorithm.lower())
    return hashlib.new(name, usedforsecurity=False)


def encode_manifest(algorithm: str, digests: Iterable[tuple[str, str]]) -> bytes:
    """Return the manifest for (file name, hex digest) of each file, the descriptor first."""
    spelled = ALGORITHMS[algorithm]
    return "".join(f"{spelled}({name})= {digest}\n" for name, digest in digests).encode("utf-8")


def manifest_length(algorithm: str, names: Iterable[str]) -> int:
    """Bytes of a manifest, which are known before any digest is."""
    zeros = "0" * new_digest(algorithm).digest_size * 2
    return len(encode_manifest(algorithm, ((name, zeros) for name in names)))


def decode_manifest(data: bytes, name: str) -> tuple[tuple[ManifestLine, ...], tuple[str, ...]]:
    """Return the lines of a manifest that could be understood, and sentences on the others.

    Raises:
        LimitError: it is too long.
    """
    if len(data) > MANIFEST_MAX:
        raise LimitError(f"{name}: a manifest of over {MANIFEST_MAX} bytes")
    found: dict[ManifestLine, None] = {}
    warnings: list[str] = []
    for number, text in enumerate(re.split("\r\n|\r|\n", _text(data)), 1):
        text = text.strip().strip("\0")
        if not text or text.startswith("#"):
            continue
        line = _line(text)
        if isinstance(line, ManifestLine):
            found[line] = None
        elif len(warnings) < WARNINGS_MAX:
            warnings.append(f"{name}: line {number} of the manifest {line}")
    return tuple(found), tuple(warnings)


def _text(data: bytes) -> str:
    for mark, codec in _MARKS:
        if data.startswith(mark):
            errors = "surrogateescape" if codec == "utf-8" else "replace"
            return data[len(mark) :].decode(codec, errors)
    return data.decode("utf-8", "surrogateescape")


def _line(text: str) -> ManifestLine | str:
    """What a line says; or why it says nothing."""
    if (turned := _COREUTILS.fullmatch(text)) is not None:
        algorithm = _BY_WIDTH.get(len(turned[1]))
        if algorithm is not None:
            return ManifestLine(turned[2], algorithm, turned[1].lower())
    line = _LINE.fullmatch(text)
    if line is None:
        return "cannot be understood"
    algorithm = _algorithm(line[1])
    if algorithm is None:
        return f"has a digest of an unknown kind, {line[1]!r}, which is not compared"
    if len(line[3]) != _READ[algorithm]:
        return f"has a digest of {len(line[3])} digits where {line[1]} has {_READ[algorithm]}"
    return ManifestLine(line[2].strip().removeprefix("*"), algorithm, line[3].lower())


def _algorithm(spelled: str) -> str | None:
    """``SHA256`` for SHA-256, sha256, SHA2-256; ``None`` for what is not known."""
    plain = re.sub(r"[^A-Z0-9]", "", spelled.upper())
    if re.fullmatch("SHA2(224|256|384|512)", plain):
        plain = "SHA" + plain[4:]
    return plain if plain in _READ else None
