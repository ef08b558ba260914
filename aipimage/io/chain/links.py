"""Which image is the parent of which among the files of a chain, and what is wrong with them
(docs/format.md, section 9.4). Nothing here recurses: a chain has up to 4096 images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from aipimage.errors import AipImageError, FormatError, IncompleteError, IntegrityError, reworded
from aipimage.format.constants import ImageKind
from aipimage.io.chain.files import ChainFile, DamagedFile, Identity
from aipimage.io.stream.tail import check_sizes

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
KIND_NAMES = {kind.value: kind.name.lower() for kind in ImageKind}
ReplacedIdentity = Callable[[ChainFile, bytes], Identity]


@dataclass(slots=True, eq=False)
class Node:
    """An image of a chain that was found, or that another one names.

    Attributes:
        identity: of a damaged or missing image as far as another one or its trailer says.
        file: ``None`` where it is missing.
        parent: the image that is, or stands for, what the file names as its parent.
        problem: what is wrong with the link to the parent.
        trouble: what is wrong with the image itself.
        depth: links to the full image below it.
        sound: as far as the links say, it can be read.
        replaced_by: a merged image that stands for it.
    """

    identity: Identity
    file: ChainFile | DamagedFile | None
    parent: Node | None = None
    problem: AipImageError | None = None
    trouble: AipImageError | None = None
    depth: int = 0
    sound: bool | None = None
    replaced_by: Node | None = None
    children: list[Node] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether it needs no other image."""
        return self.identity.kind == ImageKind.FULL and isinstance(self.file, ChainFile)

    def order(self) -> tuple[int, datetime, str]:
        """Older ones first."""
        created = self.file.created if self.file else None
        return self.identity.sequence, created or _LONG_AGO, self.file.path if self.file else ""


class _Holder(NamedTuple):
    """A merged image, and the digest of an image that it stands for."""

    node: Node
    digest: bytes
    is_last: bool


class Links:
    """The nodes of one chain, linked.

    Args:
        found: what was read, in the order of the directories; the first of several copies counts.
        replaced: returns which image a merged one stands for.
        where: the directories that were searched, for messages.

    Attributes:
        nodes: of each image once.
        duplicates: further files of images that are among the nodes.
    """

    def __init__(
        self, found: Sequence[ChainFile | DamagedFile], replaced: ReplacedIdentity, where: str
    ) -> None:
        self._replaced, self._where = replaced, where
        self.nodes: list[Node] = []
        self.duplicates: list[ChainFile] = []
        self._by_id: dict[bytes, list[Node]] = {}
        self._holders: dict[bytes, list[_Holder]] = {}
        self._missing: dict[Identity, Node] = {}
        for file in found:
            self._add(file)
        for nodes in self._by_id.values():
            _mark_contradictions(nodes)
        self._mark_replaced()
        for node in self.nodes:
            if isinstance(node.file, ChainFile) and node.file.parent is not None:
                self._link(node, node.file, node.file.parent)
        self._mark_circles()
        for node in self.nodes:
            _settle(node)

    def _add(self, file: ChainFile | DamagedFile) -> None:
        if isinstance(file, DamagedFile):
            identity = Identity(file.image_id, file.digest, -1, 0)
            node = Node(identity, file, trouble=file.error)
        else:
            same = self._by_id.get(file.identity.image_id, [])
            if any(each.file and each.identity == file.identity for each in same):
                self.duplicates.append(file)
                return
            node = Node(file.identity, file)
            last = len(file.replaced) - 1
            for place, ref in enumerate(file.replaced):
                holder = _Holder(node, ref.digest, place == last)
                self._holders.setdefault(ref.origin, []).append(holder)
        self.nodes.append(node)
        self._by_id.setdefault(node.identity.image_id, []).append(node)

    def _mark_replaced(self) -> None:
        for image_id, holders in self._holders.items():
            for node in self._by_id.get(image_id, []):
                others = [
                    holder.node
                    for holder in holders
                    if holder.node is not node and holder.digest == node.identity.digest
                ]
                node.replaced_by = others[0] if others else None

    # From a file to its parent

    def _link(self, node: Node, file: ChainFile, wanted: Identity) -> None:
        rivals = [_rank_of_file(each, wanted) for each in self._by_id.get(wanted.image_id, [])]
        rivals += [_rank_of_holder(each, wanted) for each in self._holders.get(wanted.image_id, [])]
        if rivals:
            node.parent = min(rivals, key=lambda each: each[0])[1]
            node.problem = self._difference(node.parent, file, wanted)
        else:
            node.parent = self._missing_node(wanted)
            node.problem = IncompleteError(self._missing_text(file, wanted))
        node.parent.children.append(node)

    def _missing_node(self, wanted: Identity) -> Node:
        if wanted not in self._missing:
            nothing = IncompleteError("no file of it was found")
            self._missing[wanted] = Node(wanted, None, trouble=nothing)
        return self._missing[wanted]

    @property
    def missing(self) -> list[Node]:
        """Nodes that are named as parents and have no file."""
        return list(self._missing.values())

    def _difference(self, parent: Node, file: ChainFile, wanted: Identity) -> AipImageError | None:
        """Why a file that has the parent's id is not the parent."""
        found = parent.file
        assert found is not None
        if isinstance(found, DamagedFile):
            text = f"{file.path}: its parent, image {_text(wanted)}, cannot be read: {found.error}"
            return reworded(found.error, text)
        identity = found.identity
        if identity.image_id != wanted.image_id:
            try:
                identity = self._replaced(found, wanted.image_id)
            except AipImageError as error:
                return reworded(error, f"{file.path}: its parent cannot be read: {error}")
        if identity == wanted:
            return _other_sizes(file, found)
        differs = "digest" if identity.digest != wanted.digest else "place in the chain or kind"
        return IntegrityError(
            f"{file.path}: its parent, image {_text(wanted)}, was exchanged: {found.path} has this "
            f"id and another {differs}"
        )

    def _missing_text(self, file: ChainFile, wanted: Identity) -> str:
        text = (
            f"{file.path}: its parent, image {_text(wanted)}, is missing; it was looked for in "
            f"{self._where}, where {len(self.nodes) - 1} other images of the chain are"
        )
        bad = (node.file for node in self.nodes if isinstance(node.file, DamagedFile))
        damaged = next(bad, None)
        return text + (f"; one cannot be read: {damaged.error}" if damaged else "")

    # All together

    def _mark_circles(self) -> None:
        """Follow the parents of every node once; one that meets itself is in a circle."""
        done: set[int] = set()
        for start in self.nodes:
            path: dict[int, Node] = {}
            node: Node | None = start
            while node is not None and id(node) not in done and id(node) not in path:
                path[id(node)] = node
                node = node.parent
            if node is not None and id(node) in path:
                nodes = list(path.values())
                _refuse_circle(nodes[nodes.index(node) :])
            done.update(path)


_Rank = tuple[tuple[bool, bool, int], Node]
"""Of several files that may be a parent the one with the lowest rank is taken: one that fits; one
that can be read; a merged image that ends with the parent, because the files that went into it may
be half removed; the parent's own file.
"""


def _other_sizes(child: ChainFile, parent: ChainFile) -> FormatError | None:
    """Nothing of a parent can be read through the map of a child that counts otherwise."""
    try:
        check_sizes(child.path, child.shifts, parent.shifts)
    except FormatError as error:
        return error
    return None


def _rank_of_file(node: Node, wanted: Identity) -> _Rank:
    fits = node.identity.digest == wanted.digest
    return (not fits, not isinstance(node.file, ChainFile), 1), node


def _rank_of_holder(holder: _Holder, wanted: Identity) -> _Rank:
    place = 3 if holder.node.replaced_by else 0 if holder.is_last else 2
    return (holder.digest != wanted.digest, False, place), holder.node


def _mark_contradictions(nodes: list[Node]) -> None:
    whole = [node for node in nodes if isinstance(node.file, ChainFile)]
    if len(whole) < 2:
        return
    paths = " and ".join(node.file.path for node in whole[:2] if node.file)
    text = (
        f"{paths}: contradict each other: both are image {whole[0].identity.image_id.hex()}, and "
        "differ; move the wrong one away"
    )
    for node in whole:
        node.trouble = IntegrityError(text)


def _refuse_circle(nodes: list[Node]) -> None:
    for node in nodes:
        path = node.file.path if node.file else "?"
        node.trouble = FormatError(f"{path}: the parents of its chain run in a circle")
        node.sound = False


def _settle(node: Node) -> None:
    """Set ``sound`` and ``depth`` of a node, and of those below it that are not settled yet."""
    for each in reversed(list(upward(node, lambda other: other.sound is None))):
        if each.sound is not None:
            continue
        parent, usable = each.parent, each.trouble is None and each.file is not None
        if each.is_full:
            each.sound = usable
        else:
            each.depth = parent.depth + 1 if parent else 0
            below = parent is not None and bool(parent.sound)
            each.sound = usable and each.problem is None and below


def upward(start: Node, further: Callable[[Node], bool]) -> Iterator[Node]:
    """Yield a node and its parents, as long as ``further`` says so of the last one, and none
    twice.
    """
    seen: set[int] = set()
    node: Node | None = start
    while node is not None and id(node) not in seen:
        seen.add(id(node))
        yield node
        node = node.parent if further(node) else None


def in_tree_order(nodes: Iterable[Node], path: Iterable[Node]) -> Iterator[Node]:
    """Yield each node after its parent; siblings with all their children from the oldest on, but
    those on ``path`` last.
    """
    main, seen = {id(node) for node in path}, set[int]()

    def order(node: Node) -> tuple[bool, tuple[int, datetime, str]]:
        return id(node) in main, node.order()

    ordered = sorted(nodes, key=order)
    # Those in a circle have no root: any one of them is the first then.
    for root in [node for node in ordered if node.parent is None] + ordered:
        stack = [root]
        while stack:
            node = stack.pop()
            if id(node) not in seen:
                seen.add(id(node))
                yield node
                stack += sorted(node.children, key=order, reverse=True)


def _text(wanted: Identity) -> str:
    kind = KIND_NAMES.get(wanted.kind, "of unknown kind")
    return f"{wanted.image_id.hex()} ({kind}, number {wanted.sequence} of its chain)"
