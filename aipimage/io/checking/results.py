"""What a verification says, to programs and to people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aipimage.io.index.frameranges import Range


class Damage(NamedTuple):
    """Something that is not as it was sealed.

    Attributes:
        what: one sentence. origin, frame: which frame, where it is one; of several that follow each
            other the first.
        ranges: (device, offset, length) in bytes that cannot be read because of it, or of which the
            digest is wrong, the first 100, of the image that was asked for.
        path: of the other file of the chain that it is in, or that is missing; ``None`` in the
            image's own.
        frames: how many frames.
    """

    what: str
    origin: int | None = None
    frame: int | None = None
    ranges: tuple[Range, ...] = ()
    path: str | None = None
    frames: int = 1


class MemberResult(NamedTuple):
    """What the verification of a chain found of one of its images.

    Attributes:
        image_id: 32 hexadecimal digits. path: of its file, ``None`` where it is missing.
        ok: it is whole, and the image that its child names.
        frames, bytes: as in :class:`VerifyResult`, of this file.
    """

    image_id: str
    path: str | None
    ok: bool
    frames: int
    bytes: int


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verification found.

    Attributes:
        mode: ``"full"``, ``"sample"`` or ``"keyless"``. frames: frames checked. bytes: stored bytes
            checked.
        damage: at most 1000 findings; empty means that all that was checked is whole.
        members: of the images that were checked, oldest first, where the chain was.
    """

    mode: str
    frames: int
    bytes: int
    seconds: float
    damage: tuple[Damage, ...]
    members: tuple[MemberResult, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.damage
