"""The manifest of a package: a digest of each file, text <-> values.

Source: DSP0243, "OVF Package" (``ALGORITHM(name)= hex``). No space stands before the bracket, since
some importers then find no digest at all; behind the equals sign stands one, as ovftool writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aipimage.errors import FormatError, LimitError, RequestError

if TYPE_CHECKING:
    from hashlib import _Hash

ALGORITHMS = {"sha256": "SHA256", "sha1": "SHA1"}
"""What may be asked for, and how the manifest spells it; ``sha512`` is read, too."""
_READ = {"SHA1": 40, "SHA256": 64, "SHA512": 128}
MANIFEST_MAX = 1 << 20
_LINE = re.compile(r"(SHA\d{1,3}) ?\((.{1,255})\) ?= ?([0-9a-fA-F]+)")


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """The digest of a file: ``algorithm`` as the manifest spells it, ``digest`` in hex."""

    name: str
    algorithm: str
    digest: str


def verified_algorithm(name: str) -> str | None:
    """Return the algorithm that is asked for, ``None`` for ``"none"``; ``RequestError`` else."""
    if name != "none" and name not in ALGORITHMS:
        raise RequestError(
            f"{name!r}: unknown manifest; give one of {', '.join([*ALGORITHMS, 'none'])}"
        )
    return None if name == "none" else name


def new_digest(algorithm: str) -> _Hash:
    """Return an empty digest: against damage, not against people, for which SHA-1 is too weak."""
    # Imported here: whoever reads virtual disks does not need it.
    import hashlib

    return hashlib.new(algorithm.lower(), usedforsecurity=False)


def encode_manifest(algorithm: str, digests: Iterable[tuple[str, str]]) -> bytes:
    """Return the manifest for (file name, hex digest) of each file, the descriptor first."""
    spelled = ALGORITHMS[algorithm]
    return "".join(f"{spelled}({name})= {digest}\n" for name, digest in digests).encode("utf-8")


def manifest_length(algorithm: str, names: Iterable[str]) -> int:
    """Bytes of a manifest, which are known before any digest is."""
    zeros = "0" * new_digest(algorithm).digest_size * 2
    return len(encode_manifest(algorithm, ((name, zeros) for name in names)))


def decode_manifest(data: bytes, name: str) -> tuple[ManifestLine, ...]:
    """Return the lines of a manifest.

    Raises:
        FormatError: a line cannot be understood, or a file is there twice. LimitError: too long.
    """
    if len(data) > MANIFEST_MAX:
        raise LimitError(f"{name}: a manifest of over {MANIFEST_MAX} bytes")
    found: dict[str, ManifestLine] = {}
    for number, text in enumerate(data.decode("utf-8", "surrogateescape").splitlines(), 1):
        if not text.strip():
            continue
        line = _LINE.fullmatch(text.strip())
        if line is None or len(line[3]) != _READ.get(line[1]):
            raise FormatError(f"{name}: line {number} of the manifest cannot be understood")
        if line[2] in found:
            raise FormatError(f"{name}: the manifest names {line[2]!r} twice")
        found[line[2]] = ManifestLine(line[2], line[1], line[3].lower())
    return tuple(found.values())
