"""A member's file is exchanged for any other file: right data, or a typed error (classes 16 to 22).

Four chains of eight images. Each file is put in the place of each other one: an older and a newer
member, the same place in another chain of the same disk size, an older state of the same file, one
with another password.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from aipimage.errors import AipImageError, IncompleteError, IntegrityError, PasswordError
from aipimage.io.stream.passwords import change_password
from aipimage.io.system.storage import Storage
from tests.support.images import CHEAP, PASSWORD
from tests.support.memory import MemorySystem
from tests.support.memorychains import Disk, at, change, make, opened

SIZE = (1 << 20) + 70_001
MEMBERS = 8
CHAINS = {
    "plain": ("plain", {}),
    "twin": ("plain", {}),
    "aes": ("aes", {}),
    "data": ("auth", {"block_digests": False}),
}


class Chain(NamedTuple):
    """The files of a chain by number, their contents and image digests; how they were before."""

    files: list[bytes]
    contents: list[bytes]
    digests: list[str]
    password: str | None
    kinds: list[str]


def _chain(protected: str, options: dict[str, Any], seed: int) -> Chain:
    """A full image, increments, a differential, and a branch of increments on it."""
    system, chance = MemorySystem(), random.Random(seed)
    source = Disk(bytes(chance.randbytes(300_000) + bytes(SIZE - 300_000)))
    contents, digests, kinds = [], [], []
    for number in range(MEMBERS):
        parent = f"{number - 1}.aiv" if number else None
        kind = "incremental" if number else None
        if number == 5:
            kind, parent = "differential", "0.aiv"
        made = make(system, f"{number}.aiv", [source], parent, protected, kind=kind, **options)
        contents.append(source.content())
        digests.append(made.digest)
        kinds.append(made.kind)
        for _ in range(4):
            change(source.data, chance)
    word = PASSWORD if protected != "plain" else None
    return Chain(
        [bytes(system.files[at(f"{n}.aiv")]) for n in range(MEMBERS)],
        contents,
        digests,
        word,
        kinds,
    )


@pytest.fixture(scope="module")
def chains() -> dict[str, Chain]:
    return {
        name: _chain(protected, options, number)
        for number, (name, (protected, options)) in enumerate(CHAINS.items())
    }


def disk_of(chain: Chain, place: int | None = None, data: bytes = b"") -> MemorySystem:
    """The chain's files, one of them exchanged."""
    files = {at(f"{n}.aiv"): each for n, each in enumerate(chain.files)}
    if place is not None:
        files[at(f"{place}.aiv")] = data
    return MemorySystem(files)


@functools.cache
def _another(name: str) -> Chain:
    return _chain(*CHAINS[name], seed=99)


def substitutes(chains: dict[str, Chain], name: str, place: int) -> Iterator[tuple[str, bytes]]:
    """Every other file that could lie there."""
    chain = chains[name]
    for number, data in enumerate(chain.files):
        if number != place:
            yield f"member {number}", data
    for other, its in chains.items():
        if other != name:
            yield f"{other} {place}", its.files[place]
            yield f"{other} {MEMBERS - 1 - place}", its.files[MEMBERS - 1 - place]
    yield "another chain with this name", _another(name).files[place]


def ways(system: MemorySystem, chain: Chain, name: str) -> Iterator[tuple[str, bytes | None]]:
    """Open an image and take its content in several ways; what each gives, ``None`` for errors."""

    def read() -> bytes:
        with opened(system, name, chain.password) as image:
            return image.devices[0].open().readall()

    def verified() -> bytes:
        with opened(system, name, chain.password) as image:
            if not image.verify(chain=True, threads=1).ok:
                raise IntegrityError("found by verification")
            assert image.chain.ok
            return image.devices[0].open().readall()

    def restored() -> bytes:
        with opened(system, name, chain.password) as image:
            try:
                image.restore(at("out.raw"), threads=1, storage=Storage(system))
            except AipImageError:
                system.files.pop(at("out.raw"), None)
                raise
        return bytes(system.files.pop(at("out.raw")))

    for way in (read, verified, restored):
        try:
            yield way.__name__, way()
        except AipImageError:
            yield way.__name__, None


@pytest.mark.parametrize("name", CHAINS)
def test_class_18_and_19_every_file_in_the_place_of_every_other(
    chains: dict[str, Chain], name: str
) -> None:
    chain = chains[name]
    newest = MEMBERS - 1
    outcomes: Counter[str] = Counter()
    for place in range(newest):
        for what, data in substitutes(chains, name, place):
            system = disk_of(chain, place, data)
            for way, content in ways(system, chain, f"{newest}.aiv"):
                label = f"{what} in the place of {place}: {way}"
                assert content in (None, chain.contents[newest]), f"wrong data: {label}"
                outcomes["refused" if content is None else "right"] += 1
            assert system.open_descriptors == 0, what
    # An inner image of another branch is not needed at all; the full one always is.
    assert outcomes["refused"] > 50
    assert outcomes["right"] > 50


@pytest.mark.parametrize("name", CHAINS)
def test_class_18_the_newest_replaced_by_another(chains: dict[str, Chain], name: str) -> None:
    """An older valid image opens as the point that it is; who kept the digest is told."""
    chain = chains[name]
    newest = MEMBERS - 1
    for number in range(newest):
        system = disk_of(chain, newest, chain.files[number])
        for _, content in ways(system, chain, f"{newest}.aiv"):
            assert content in (None, chain.contents[number])
        with opened(system, f"{newest}.aiv", chain.password) as image:
            assert image.digest == chain.digests[number]
            assert image.devices[0].open().readall() == chain.contents[number]
        with pytest.raises(IntegrityError, match="expected"):
            opened(system, f"{newest}.aiv", chain.password, expected_digest=chain.digests[-1])
    with opened(disk_of(chain), "7.aiv", chain.password, expected_digest=chain.digests[-1]) as it:
        assert it.devices[0].open().readall() == chain.contents[-1]


def test_class_19_foreign_files_by_password(chains: dict[str, Chain]) -> None:
    """A file of another chain in the newest one's place opens only by its own rules."""
    for name, chain in chains.items():
        for other, its in chains.items():
            if name == other:
                continue
            system = disk_of(chain, 7, its.files[7])
            if (chain.password is None) is not (its.password is None):
                with pytest.raises(PasswordError):
                    opened(system, "7.aiv", chain.password)
                continue
            with pytest.raises(IncompleteError), opened(system, "7.aiv", chain.password) as image:
                image.devices[0].open().readall()


@pytest.mark.parametrize("name", ["aes", "data"])
def test_a_member_with_another_password_stays_in_use(chains: dict[str, Chain], name: str) -> None:
    """The chain key is shared, so that a password of an older member is not asked for."""
    chain = chains[name]
    for place in range(MEMBERS - 1):
        system = disk_of(chain)
        change_password(
            at(f"{place}.aiv"), PASSWORD, "other", parameters=CHEAP, storage=Storage(system)
        )
        for way, content in ways(system, chain, "7.aiv"):
            assert content == chain.contents[7], (place, way)


@pytest.mark.parametrize("name", CHAINS)
def test_class_22_a_member_exchanged_while_the_image_is_open(
    chains: dict[str, Chain], name: str
) -> None:
    chain = chains[name]
    for place in (0, 5, 6):
        for what, data in substitutes(chains, name, place):
            system = disk_of(chain)
            with opened(system, "7.aiv", chain.password, cache_bytes=0) as image:
                image.devices[0].open().read(1000)
                system.files[at(f"{place}.aiv")][:] = data
                try:
                    content = image.devices[0].open().readall()
                except AipImageError:
                    continue
                assert content == chain.contents[7], f"{what} in the place of {place}"


def test_an_increment_on_an_exchanged_parent(chains: dict[str, Chain]) -> None:
    """Whatever lies where older members lay: the new image is right once they are back."""
    for name in ("plain", "aes"):
        chain = chains[name]
        source = Disk(chain.contents[7])
        source.write(500_000, b"new")
        for place in (0, 5, 6):
            for what, data in substitutes(chains, name, place):
                for compare in ("digests", "data"):
                    system = disk_of(chain, place, data)
                    protected = CHAINS[name][0]
                    try:
                        make(system, "8.aiv", [source], "7.aiv", protected, compare=compare)
                    except AipImageError:
                        continue
                    system.files[at(f"{place}.aiv")] = bytearray(chain.files[place])
                    with opened(system, "8.aiv", chain.password) as image:
                        content = image.devices[0].open().readall()
                    assert content == source.content(), f"{what} in the place of {place}"
