"""Images outside of a run that need what a merge of it leaves out (docs/format.md, section 9.5)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from aipimage.errors import AipImageError, RequestError
from aipimage.format.seal import Seal
from aipimage.io.chain.chain import open_in_chain
from aipimage.io.merge.run import MergeRun
from aipimage.io.stream.instream import open_stream
from aipimage.io.stream.opening import read_header
from aipimage.io.stream.tail import Tail, check_header_keys, check_twins


@dataclass(frozen=True, slots=True)
class Outside:
    """What the other images of the chain say.

    Attributes:
        unreadable: (path, why) of files of the chain that could not be looked at.
    """

    unreadable: list[tuple[str, str]]


def look_outside(run: MergeRun, is_removing: bool) -> Outside:
    """Look at all other images of the chain in the directories that are searched.

    Args:
        is_removing: the files of the run will be removed.

    Raises:
        RequestError: one builds on an inner image of the run, so that it would lose its records; or
            the file of one that was merged before was kept, and would lose what it needs.
    """
    inside = {each for member in run.members for each in member.names}
    ends = set(run.ends(run.last))
    members = {member.image_id for member in run.members}
    found = Outside([])
    given_up: list[str] = []
    staying: set[bytes] = set()
    for candidate in run.files.of_chain(run.last.header.chain_id):
        try:
            seal = _read_seal(run, candidate.path)
        except AipImageError as error:
            found.unreadable.append((candidate.path, str(error)))
            continue
        if seal.image_id not in members:
            staying.add(candidate.file_id)
        if seal.image_id in inside:
            if seal.image_id not in members | ends:
                given_up.append(candidate.path)
            continue
        if _builds_within(seal, inside, ends):
            raise RequestError(
                f"{candidate.path}: builds on image {seal.parent_id.hex()}, which would be merged "
                "with newer ones; merge up to that image only, or remove this one first"
            )
    if is_removing:
        _refuse_loss(run, given_up, staying)
    return found


def _needed_of_others(run: MergeRun, path: str) -> set[bytes]:
    """Origins of other images that the map of one names, as far as it can be read: what it lacks
    already it does not lose.
    """
    with open_in_chain(path, keys=run.keys, files=run.files, storage=run.storage) as image:
        for device in image.devices:
            with contextlib.suppress(AipImageError):
                for _ in device.map.walk():
                    pass
        own = image.seal.image_id
        return {each.origin for each in image.origins.entries() if each.holder != own}


def _refuse_loss(run: MergeRun, given_up: list[str], staying: set[bytes]) -> None:
    """Refuse where an image that an earlier merge gave up still lies there, readable, and needs
    what only the files of the run hold whole.
    """
    held = {segment.origin for member in run.members for segment in member.segments} - staying
    for path in given_up:
        if _needed_of_others(run, path) & held:
            raise RequestError(
                f"{path}: was merged before and its file was kept; it needs data of the images "
                "that would be removed; remove it first, or merge without removing"
            )


def _builds_within(seal: Seal, inside: set[bytes], ends: set[bytes]) -> bool:
    """Whether an image needs more than the last of the run does.

    One that stands for that last image itself, having merged it with newer ones, needs no more.
    """
    if seal.parent_id not in inside or seal.parent_id in ends:
        return False
    return not any(ref.origin in ends for ref in seal.replaced)


def _read_seal(run: MergeRun, path: str) -> Seal:
    with open_stream(run.storage, path) as stream:
        header = read_header(stream)
        check_header_keys(stream, header, run.keys)
        tail = Tail(stream)
        trailer = tail.trailer()
        check_twins(header, trailer)
        return tail.seal(header, trailer, run.keys)
