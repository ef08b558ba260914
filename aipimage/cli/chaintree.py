"""The chain of an image as ``info`` draws it, and as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aipimage.cli.output import human_size, printable

if TYPE_CHECKING:
    from aipimage import Chain, ChainMember

_BRANCH, _BESIDE = "├─ ", "│  "
_DEEPEST = 12
"""Branches of branches that are drawn; further ones are drawn beside each other."""


def chain_values(chain: Chain) -> list[dict[str, Any]]:
    """The list that ``info --json`` has: each image after its parent."""
    return [
        {
            "path": member.path,
            "kind": member.kind,
            "image_id": member.image_id,
            "created": member.created.isoformat() if member.created else None,
            "stored": member.stored,
            "parent_id": member.parent_id,
            "sequence": member.sequence,
            "digest": member.digest,
            "changed": member.changed,
            "depth": member.depth,
            "state": member.state,
            "reason": member.reason or None,
            "replaces": list(member.replaces),
            "this": member is chain[-1],
        }
        for member in chain.members_of_tree
    ]


def chain_lines(chain: Chain) -> list[str]:
    """The same drawn for people: branches before the rest of the chain from the same image."""
    prefixes = _prefixes(chain.parents)
    rows = [
        _row(prefix, member, member is chain[-1])
        for prefix, member in zip(prefixes, chain.members_of_tree, strict=True)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ["chain"]
    for parent, member, row in zip(chain.parents, chain.members_of_tree, rows, strict=True):
        if parent is None and len(lines) > 1:
            lines.append("")
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(f"  {'  '.join([*cells, row[-1]])}".rstrip())
        if member.reason and member.state not in ("whole", "missing"):
            lines.append(f"      {printable(member.reason)}")
    lines += [f"  copy of {image_id}: {printable(path)}" for path, image_id in chain.duplicates]
    lines += [
        f"  no image: {printable(path)}: {printable(reason.removeprefix(f'{path}: '))}"
        for path, reason in chain.unreadable
    ]
    return lines


def _row(prefix: str, member: ChainMember, is_this: bool) -> list[str]:
    number = f" {member.sequence}" if member.sequence >= 0 else ""
    created = member.created.isoformat(" ", "seconds") if member.created else "-"
    name = printable(member.path) if member.path else member.image_id
    return [
        f"{prefix}{member.kind}{number}",
        created,
        human_size(member.stored) if member.path else "-",
        f"{human_size(member.changed)} changed" if member.path else "-",
        f"depth {member.depth}",
        member.state,
        name + ("  (this image)" if is_this else ""),
    ]


def _prefixes(parents: Sequence[int | None]) -> list[str]:
    """What is drawn before each image: the last child continues below its parent, the others branch
    off.
    """
    last = {parent: place for place, parent in enumerate(parents) if parent is not None}
    inner: list[str] = []
    drawn: list[str] = []
    for place, parent in enumerate(parents):
        # In a circle a parent may come later; such an image stands for itself.
        beside = inner[parent] if parent is not None and parent < place else ""
        branches = parent is not None and parent < place and last[parent] != place
        room = len(beside) < _DEEPEST * len(_BESIDE)
        drawn.append(beside + _BRANCH if branches and room else beside)
        inner.append(beside + _BESIDE if branches and room else beside)
    return drawn
