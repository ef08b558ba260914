"""The chain as the public surface hands it out: what ``io`` finds, and images that it opens."""

from __future__ import annotations

import os
from collections.abc import Sequence

from aipimage.io.chain.chain import ChainMembers
from aipimage.io.chain.files import ChainFile, file_of
from aipimage.io.chain.finding import PlaceOfChain, place_of_chain, places_of_chains
from aipimage.io.system.storage import DEFAULT, Storage
from aipimage.volumes.image import Image, open_image


class Chain(ChainMembers):
    __doc__ = ChainMembers.__doc__

    def __init__(
        self, place: PlaceOfChain, own: ChainFile | None = None, owner: Image | None = None
    ) -> None:
        super().__init__(place, own)
        # An image that is dropped is closed, and its chain would open no others any more.
        self._owner = owner

    def open(self, image_id: str) -> Image:
        """Open another image of the chain; its password is not needed again.

        It is an image of its own, which the caller closes.

        Raises:
            ClosedError: the image whose chain this is was closed.
            RequestError: the chain has no such image. IncompleteError: it is missing.
            IntegrityError: there are two that contradict each other, or its file was exchanged
                meanwhile. And what opening a file raises.
        """
        if self._owner is not None:
            self._owner.check_open()
        path, how = self.way_to(image_id)
        return open_image(path, **how)


def chain_of(image: Image) -> Chain:
    """The chain of an opened image; the public form is :attr:`aipimage.Image.chain`."""
    place = PlaceOfChain(image.beside, image.seal.chain_id, image.keys)
    return Chain(place, file_of(image), image)


def find_chain(
    search: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    chain_id: str | None = None,
    password: str | None = None,
    *,
    storage: Storage = DEFAULT,
) -> Chain:
    """Find a chain in some directories; the public form is :func:`aipimage.find_chain`."""
    return Chain(place_of_chain(search, chain_id, password, storage))


def chains_in(folders: Sequence[str], password: str | None, storage: Storage) -> tuple[Chain, ...]:
    """Find all chains in some directories; the public form is :func:`aipimage.chains`."""
    return tuple(Chain(place) for place in places_of_chains(folders, password, storage))
