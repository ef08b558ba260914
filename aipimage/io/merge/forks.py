"""Images outside of a run that need what a merge of it leaves out (docs/format.md, section 9.5)."""

from __future__ import annotations

from dataclasses import dataclass

from aipimage.errors import AipImageError, RequestError
from aipimage.format.seal import Seal, SealOrigins
from aipimage.io.instream import open_stream
from aipimage.io.merge.run import Run
from aipimage.io.opening import read_header
from aipimage.io.tail import Tail, check_header_keys, check_twins


@dataclass(frozen=True, slots=True)
class Outside:
    """What the other images of the chain say.

    Attributes:
        listed: origins that their seals list.
        unreadable: (path, why) of files of the chain that could not be looked at.
    """

    listed: set[bytes]
    unreadable: list[tuple[str, str]]


def look_outside(run: Run) -> Outside:
    """Look at all other images of the chain in the directories that are searched.

    Raises:
        RequestError: one builds on an inner image of the run, so that it would lose its records.
    """
    inside = {each for member in run.members for each in member.names}
    ends = set(run.ends(run.last))
    found = Outside(set(), [])
    for candidate in run.files.of_chain(run.last.header.chain_id):
        try:
            seal = _read_seal(run, candidate.path)
        except AipImageError as error:
            found.unreadable.append((candidate.path, str(error)))
            continue
        if seal.image_id in inside:
            continue
        if _builds_within(seal, inside, ends):
            raise RequestError(
                f"{candidate.path}: builds on image {seal.parent_id.hex()}, which would be merged "
                "with newer ones; merge up to that image only, or remove this one first"
            )
        origins = seal.origins
        found.listed.update(origins.ids() if isinstance(origins, SealOrigins) else ())
    return found


def _builds_within(seal: Seal, inside: set[bytes], ends: set[bytes]) -> bool:
    """Whether an image needs more than the last of the run does.

    One that stands for that last image itself, having merged it with newer ones, needs no more.
    """
    if seal.parent_id not in inside or seal.parent_id in ends:
        return False
    return not any(ref.origin in ends for ref in seal.replaced)


def _read_seal(run: Run, path: str) -> Seal:
    with open_stream(run.storage, path) as stream:
        header = read_header(stream)
        check_header_keys(stream, header, run.keys)
        tail = Tail(stream)
        trailer = tail.trailer()
        check_twins(header, trailer)
        return tail.seal(header, trailer, run.keys)
