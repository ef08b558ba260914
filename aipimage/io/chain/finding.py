"""Which chains lie in some directories, and the keys of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from aipimage.errors import PasswordError, RequestError
from aipimage.io.chain.unlocking import chain_keys
from aipimage.io.reading.members import MemberFiles
from aipimage.io.records.keys import ChainKeys
from aipimage.io.system.storage import Storage


class PlaceOfChain(NamedTuple):
    """The directories in which the files of a chain lie, its id, and its keys; those are ``None``
    for a plain one.
    """

    files: MemberFiles
    chain_id: bytes
    keys: ChainKeys | None


def place_of_chain(
    search: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    chain_id: str | None,
    password: str | None,
    storage: Storage,
) -> PlaceOfChain:
    """One chain in some directories; the public form is :func:`aipimage.find_chain`.

    Raises:
        The errors of the public form.
    """
    alone = isinstance(search, (str, os.PathLike))
    files = MemberFiles(storage, [search] if alone else search)  # type: ignore[list-item, arg-type]
    wanted = _one_chain(files, chain_id)
    return PlaceOfChain(files, wanted, _keys_of(files, wanted, password))


def places_of_chains(
    folders: Sequence[str], password: str | None, storage: Storage
) -> list[PlaceOfChain]:
    """All chains in some directories; the public form is :func:`aipimage.chains`.

    Raises:
        PasswordError: there are chains, and the password opens none of them.
    """
    files = MemberFiles(storage, folders)
    found: list[PlaceOfChain] = []
    refused: PasswordError | None = None
    for chain_id in sorted({each.chain_id for each in files.all()}):
        try:
            keys = _keys_or_none(files, chain_id, password)
        except PasswordError as error:
            refused = error
            continue
        found.append(PlaceOfChain(files, chain_id, keys))
    if refused is not None and not found:
        raise refused
    return found


def _keys_or_none(files: MemberFiles, chain_id: bytes, password: str | None) -> ChainKeys | None:
    """The keys of a chain; a password is not for a plain one."""
    try:
        return _keys_of(files, chain_id, password)
    except PasswordError as error:
        if error.reason != "unwanted":
            raise
        return _keys_of(files, chain_id, None)


def _one_chain(files: MemberFiles, chain_id: str | None) -> bytes:
    where = ", ".join(files.directories)
    found = sorted({each.chain_id.hex() for each in files.all()})
    if chain_id is not None:
        found = [each for each in found if each == chain_id.lower()]
    if not found:
        raise RequestError(
            f"{where}: has no image of {f'chain {chain_id}' if chain_id else 'any chain'}"
        )
    if len(found) > 1:
        some = ", ".join(found[:5])
        raise RequestError(f"{where}: has {len(found)} chains ({some}, …); pass the id of one")
    return bytes.fromhex(found[0])


def _keys_of(files: MemberFiles, chain_id: bytes, password: str | None) -> ChainKeys | None:
    """The keys, from the newest image that the password opens."""
    candidates = sorted(files.of_chain(chain_id), key=lambda each: each.created, reverse=True)
    return chain_keys(files, candidates, password)
