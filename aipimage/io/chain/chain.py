"""The chain of an image: which images it needs, and which others there are (docs/format.md, section
9.4).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Unpack, overload

from aipimage.errors import AipImageError, IncompleteError, IntegrityError, LimitError, RequestError
from aipimage.format import constants as c
from aipimage.io.chain.files import ChainFile, DamagedFile, file_of, read_file, replaced_identity
from aipimage.io.chain.finding import PlaceOfChain
from aipimage.io.chain.links import KIND_NAMES, Links, Node, in_tree_order, upward
from aipimage.io.reading.explaining import explain_what_is_missing
from aipimage.io.reading.image import HowToOpen, ImageReader, open_reader
from aipimage.io.reading.members import MemberFiles
from aipimage.io.records.keys import ChainKeys
from aipimage.io.system.storage import StrPath, absolute

_FILES_MAX = 4 * c.CHAIN_MAX
"""Files of one chain: copies of images, and inputs of merges that were not removed, count too."""
_REPLACED_MAX = 16 * c.REPLACED_MAX


@dataclass(frozen=True, slots=True)
class ChainMember:
    """An image of a chain.

    Attributes:
        image_id: 32 hexadecimal digits, as ``parent_id``, which is ``None`` without a parent.
        kind: ``"full"``, ``"incremental"``, ``"differential"``; ``"unknown"`` where nothing
            readable says it.
        sequence: number in the chain, from 0; -1 where nothing readable says it.
        created: of the point in time (of a merged image that of the last one it stands for), with
            the zone UTC, or ``None`` where nothing readable says it.
        path: of its file, of the first part where it is split; ``None`` where it is missing.
        digest: the image digest, 64 hexadecimal digits, as it is or for a missing one as it must
            be; empty where nothing readable says it.
        stored: bytes of its file. changed: bytes of data that it added to the chain.
        depth: links to the full image below it.
        state: ``"whole"``; ``"missing"``; ``"exchanged"``: not the image that its child names;
            ``"damaged"``: its file cannot be read; ``"orphan"``: what it needs is not there;
            ``"superseded"``: a merged image stands for it; ``"contradicts"``: two files with its id
            differ, or the parents run in a circle.
        reason: one sentence, ``None`` where all is well.
        replaces: ids of the images that a merged one stands for, oldest first.
        tags: (name, text) of each tag that it was given, by name.
    """

    image_id: str
    parent_id: str | None
    kind: str
    sequence: int
    created: datetime | None
    path: str | None
    digest: str
    stored: int
    changed: int
    depth: int
    state: str
    reason: str | None = None
    replaces: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()


class ChainMembers(Sequence[ChainMember]):
    """The images from the first of a chain to one of it, in order.

    Where a parent is missing, or is not the one it should be, that one comes first. All files of
    the chain were opened once, their seals verified, and closed again.

    Attributes:
        chain_id: 32 hexadecimal digits.
        members_of_tree: all images of the chain that were found, and those that are missing: this
            image's, newer ones, and branches; each after its parent, and what leads to this image
            after the branches.
        parents: of each of ``members_of_tree`` the place of its parent there, or ``None``.
        needed: the images that the last one cannot be read without, itself included: from the last
            full image on.
        duplicates: (path, image id) of further copies of an image.
        unreadable: (path, why) of files in the directories that have the name of an image and are
            none, of whatever chain.
    """

    def __init__(self, place: PlaceOfChain, own: ChainFile | None = None) -> None:
        files, chain_id, keys = place
        self._place = place
        self.chain_id = chain_id.hex()
        found = _read_all(files, chain_id, keys, own)
        where = ", ".join(files.directories)
        links = Links(found, partial(replaced_identity, files, keys), where)
        self._path = _path_to(links.nodes[0] if own else _newest(links.nodes))
        self._made: dict[int, ChainMember] = {}
        exchange = _exchange(self._path)
        tree = list(in_tree_order([*links.nodes, *links.missing], self._path))
        for node in tree:
            self._made[id(node)] = _member(node, exchange if node is self._path[0] else None)
        places = {id(node): place for place, node in enumerate(tree)}
        self.members_of_tree = tuple(self._made[id(node)] for node in tree)
        self.parents = tuple(places[id(node.parent)] if node.parent else None for node in tree)
        self.duplicates = tuple(
            (file.path, file.identity.image_id.hex()) for file in links.duplicates
        )
        self.unreadable = tuple(files.unreadable)
        self.needed = tuple(self._made[id(node)] for node in _needed(self._path))
        self._newest = self._made[id(_newest(links.nodes))]

    def __len__(self) -> int:
        return len(self._path)

    @overload
    def __getitem__(self, index: int) -> ChainMember: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ChainMember]: ...
    def __getitem__(self, index: int | slice) -> ChainMember | Sequence[ChainMember]:
        if isinstance(index, slice):
            return [self._made[id(node)] for node in self._path[index]]
        return self._made[id(self._path[index])]

    def __repr__(self) -> str:
        return f"<aipimage.{type(self).__name__} {self.chain_id} of {len(self)} images>"

    @property
    def ok(self) -> bool:
        """Whether :meth:`check` finds nothing."""
        return next(self._problems(), None) is None

    @property
    def newest(self) -> ChainMember:
        """The newest image of the whole chain whose ancestors are all present."""
        return self._newest

    def check(self) -> None:
        """Check that each image from the first on is there, and is the parent that the next names.

        Seals are compared, which bind all else, as they were when the chain was looked for;
        :meth:`aipimage.Image.verify` looks at the data.

        Raises:
            IncompleteError: one is missing; it is named with its number and kind.
            IntegrityError: one was exchanged, or two files with one id contradict each other.
            FormatError: the parents run in a circle. Or what opening a file raised.
        """
        problem = next(self._problems(), None)
        if problem is not None:
            raise problem

    def _problems(self) -> Iterator[AipImageError]:
        for node in self._path:
            if isinstance(node.file, ChainFile) and node.trouble is not None:
                yield copy.copy(node.trouble)
            if node.problem is not None:
                yield copy.copy(node.problem)

    def way_to(self, image_id: str) -> tuple[str, HowToOpen]:
        """The path of an image of the chain, and how it is opened without its password.

        Raises:
            RequestError: the chain has no such image. IncompleteError: it is missing.
            IntegrityError: there are two that contradict each other.
        """
        found = [member for member in self.members_of_tree if member.image_id == image_id.lower()]
        member = next((each for each in found if each.state != "damaged"), None)
        if not found:
            raise RequestError(f"chain {self.chain_id}: has no image {image_id}")
        if member is None or member.path is None or member.state == "contradicts":
            bad = member or found[0]
            error = IntegrityError if bad.path else IncompleteError
            raise error(f"image {image_id} cannot be opened: {bad.reason}")
        files, _, keys = self._place
        return member.path, {
            "keys": keys,
            "files": files,
            "storage": files.storage,
            "expected_digest": member.digest,
        }


def members_of(image: ImageReader) -> ChainMembers:
    """The images of the chain of an opened one, up to it."""
    place = PlaceOfChain(image.beside, image.seal.chain_id, image.keys)
    return ChainMembers(place, file_of(image))


def open_in_chain(
    path: StrPath, password: str | None = None, **how: Unpack[HowToOpen]
) -> ImageReader:
    """Open an image that is read together with others of its chain: where one of them is missing
    or wrong, the error names it.

    Raises:
        The errors of :func:`aipimage.open`.
    """
    image = open_reader(path, password, **how)
    explain_what_is_missing(image.foreign, image, members_of)
    return image


def _read_all(
    files: MemberFiles, chain_id: bytes, keys: ChainKeys | None, own: ChainFile | None
) -> list[ChainFile | DamagedFile]:
    """All files of the chain; ``own`` was read already and is the first."""
    candidates = files.of_chain(chain_id)
    if len(candidates) > _FILES_MAX:
        raise LimitError(f"chain {chain_id.hex()}: over {_FILES_MAX} files belong to it")
    found: list[ChainFile | DamagedFile] = [own] if own else []
    own_path = absolute(own.path) if own else None
    ids = {own.identity.image_id} if own else set()
    replaced = 0
    for candidate in candidates:
        if absolute(candidate.path) == own_path:
            continue
        file = read_file(files, candidate, keys)
        found.append(file)
        if isinstance(file, ChainFile):
            ids.add(file.identity.image_id)
            replaced += len(file.replaced)
        if len(ids) > c.CHAIN_MAX or replaced > _REPLACED_MAX:
            raise LimitError(
                f"chain {chain_id.hex()}: has over {c.CHAIN_MAX} images in "
                f"{', '.join(files.directories)}; move those of finished branches elsewhere"
            )
    return found


def _path_to(last: Node) -> list[Node]:
    """From the first image to ``last``, or from the first that is wrong; a circle once around."""
    whole = list(upward(last, lambda _: True))
    if whole[-1].parent is not None:
        return whole[::-1]
    wrong = next((place for place, node in enumerate(whole) if node.problem), len(whole))
    return whole[: wrong + 2][::-1]


def _exchange(path: list[Node]) -> AipImageError | None:
    """Why the first of a path is not what the second names, where it is there."""
    return path[1].problem if len(path) > 1 and isinstance(path[0].file, ChainFile) else None


def _needed(path: list[Node]) -> list[Node]:
    """From the last full image of a path on."""
    fulls = [place for place, node in enumerate(path) if node.is_full]
    return path[fulls[-1] if fulls else 0 :]


def _newest(nodes: Sequence[Node]) -> Node:
    """The newest of those that nothing depends on and nothing is missing for."""
    sound = [node for node in nodes if node.sound and node.replaced_by is None]
    ends = [node for node in sound if not any(child.sound for child in node.children)]
    return max(ends or sound or nodes, key=lambda node: node.order()[1:2] + node.order())


def _member(node: Node, exchange: AipImageError | None) -> ChainMember:
    file, identity = node.file, node.identity
    whole = file if isinstance(file, ChainFile) else None
    if whole is None and node.children:
        child = node.children[0].file
        identity = child.parent or identity if isinstance(child, ChainFile) else identity
    state, reason = _state(node, exchange)
    return ChainMember(
        node.identity.image_id.hex(),
        whole.parent.image_id.hex() if whole and whole.parent else None,
        KIND_NAMES.get(identity.kind, "unknown"),
        identity.sequence,
        file.created if file else None,
        file.path if file else None,
        node.identity.digest.hex(),
        file.stored if file else 0,
        whole.changed if whole else 0,
        node.depth,
        state,
        reason,
        tuple(ref.origin.hex() for ref in whole.replaced) if whole else (),
        whole.tags if whole else (),
    )


def _state(node: Node, exchange: AipImageError | None) -> tuple[str, str | None]:
    reason = node.trouble or node.problem
    if node.file is None:
        return "missing", str(reason)
    if isinstance(node.file, DamagedFile):
        return "damaged", str(reason)
    if node.trouble is not None:
        return "contradicts", str(reason)
    if exchange is not None:
        return "exchanged", str(exchange)
    if node.replaced_by is not None and node.replaced_by.file is not None:
        return "superseded", f"{node.replaced_by.file.path} stands for it"
    if not node.sound:
        return "orphan", str(reason or "an image that it depends on is missing or wrong")
    return "whole", str(reason) if reason else None
