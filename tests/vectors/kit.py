"""A vector: an archive of files, and the header that states what must happen (README.md)."""

from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.vectors.primitives import Change
from tests.vectors.stream import Recipe
from tests.vectors.writer import Writer

PASSWORD = "pässword"
WHOLE, DAMAGED = "whole", "damaged"
FROZEN = Path(__file__).parent / "v1.0"
README = Path(__file__).parent / "README.md"
_BEGIN, _END = "<!-- vectors -->\n", "<!-- end of vectors -->\n"


@dataclass
class Vector:
    """Files by name, the names that are opened, and what is said of them."""

    name: str
    files: dict[str, bytes]
    says: dict[str, Any] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Write archive and header; the same bytes each time."""
        with zipfile.ZipFile(directory / f"{self.name}.zip", "w") as archive:
            for name, data in self.files.items():
                entry = zipfile.ZipInfo(name)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data, compresslevel=9)
        says = {**self.says, "files": sorted(self.files)}
        text = json.dumps(says, indent=1, ensure_ascii=False) + "\n"
        (directory / f"{self.name}.json").write_text(text, encoding="utf-8")


@dataclass
class Case:
    """A hostile image of one recipe.

    Attributes:
        error, on: how and where it must be refused, or what verification must report.
        keyless, verify: what either verification says; none where the text leaves it open.
    """

    section: str
    about: str
    error: str
    on: str
    changes: dict[str, Change] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    keyless: str | None = WHOLE
    verify: str = DAMAGED


def names() -> list[str]:
    """Of all frozen vectors."""
    return sorted(path.stem for path in FROZEN.glob("*.json"))


def header(name: str, directory: Path = FROZEN) -> dict[str, Any]:
    """What a vector says."""
    says: dict[str, Any] = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
    return says


def files(name: str, directory: Path = FROZEN) -> dict[str, bytes]:
    """The files of a vector by name."""
    with zipfile.ZipFile(directory / f"{name}.zip") as archive:
        return {each: archive.read(each) for each in archive.namelist()}


def unpack(name: str, target: Path, directory: Path = FROZEN) -> dict[str, dict[str, Any]]:
    """Lay the files of a vector into a directory; return what is said of each image by its name,
    with the password.
    """
    says = header(name, directory)
    with zipfile.ZipFile(directory / f"{name}.zip") as archive:
        archive.extractall(target)
    images = says.get("images") or {f"{name}.aiv": says}
    return {each: {"password": says["password"], **said} for each, said in images.items()}


def written(seed: str, devices: list[bytes], **arguments: Any) -> Writer:
    """An image; with a suite it has the password of the kit."""
    arguments.setdefault("password", PASSWORD if arguments.get("suite") else None)
    writer = Writer(Recipe(devices, seed=seed, **arguments))
    writer.write()
    return writer


def contents(devices: list[bytes]) -> list[str]:
    """SHA-256 of each device."""
    return [sha256(content).hexdigest() for content in devices]


def read_as(
    name: str,
    section: str,
    about: str,
    writer: Writer,
    *,
    files: dict[str, bytes] | None = None,
    devices: list[bytes] | None = None,
    verify: str = WHOLE,
    keyless: str = WHOLE,
    password: str | None = None,
) -> Vector:
    """A vector that must be read; ``files`` by suffix."""
    says = {
        "about": about,
        "section": section,
        "password": password or writer.recipe.password,
        "devices": contents(writer.recipe.devices if devices is None else devices),
        "verify": verify,
        "keyless": keyless,
    }
    return Vector(f"good-{name}", _named("good", name, files or {"": bytes(writer.stream)}), says)


def refused(
    name: str,
    section: str,
    about: str,
    files: dict[str, bytes],
    error: str,
    on: str,
    *,
    password: str | None = None,
    keyless: str | None = WHOLE,
    devices: list[bytes] | None = None,
    verify: str = DAMAGED,
) -> Vector:
    """A vector that must be refused, or of which verification must report something."""
    says: dict[str, Any] = {"about": about, "section": section, "password": password}
    says |= {"error": error, "on": on}
    if devices is not None:
        says["devices"] = contents(devices)
    if on != "open":
        says["verify"] = verify
    if keyless is not None:
        says["keyless"] = keyless
    return Vector(f"hostile-{name}", _named("hostile", name, files), says)


def _named(kind: str, name: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{kind}-{name}.aiv{suffix}": data for suffix, data in files.items()}


# The table in README.md


def table() -> str:
    """A row for each frozen vector."""
    rows = ["| vector | section | must be | what it is for |", "|---|---|---|---|"]
    for name in names():
        says = header(name)
        rows.append(f"| `{name}` | {says['section']} | {outcome(says)} | {says['about']} |")
    return "\n".join(rows) + "\n"


def outcome(says: dict[str, Any]) -> str:
    """In a few words, what must happen to a vector or to the worst image of a chain."""
    images = says.get("images", {"": says})
    found = dict.fromkeys(_outcome(each) for each in images.values())
    return "; ".join(found)


def _outcome(says: dict[str, Any]) -> str:
    if says.get("on") in ("open", "read"):
        return f"`{says['error']}` on {says['on']}"
    reported = DAMAGED in (says.get("verify"), says.get("chain"))
    return ("read, and reported" if reported else "read") if "devices" in says else "reported"


def readme(text: str) -> str:
    """The text with the table as it must be now."""
    before, rest = text.split(_BEGIN)
    return before + _BEGIN + "\n" + table() + "\n" + _END + rest.split(_END)[1]


if __name__ == "__main__":
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit()
