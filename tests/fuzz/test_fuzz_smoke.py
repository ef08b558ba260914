"""Each fuzz target for about a second on mutants of its seeds, the same ones each time."""

from __future__ import annotations

import itertools

import pytest

from aipimage.errors import AipImageError
from tests.format.structures import BY_NAME
from tests.fuzz.mutate import loop, mutants
from tests.fuzz.targets import TARGETS, VOLUMES, drive, seeds

SECONDS = 1.0


@pytest.mark.parametrize("name", TARGETS)
def test_target_finds_nothing(name: str) -> None:
    """No exception but a typed error, and nothing misread."""
    least = 5 if name in VOLUMES else 100
    assert loop(TARGETS[name], seeds(name), SECONDS) > least


@pytest.mark.parametrize("name", TARGETS)
def test_degenerate_inputs(name: str) -> None:
    """What no mutation of a seed yields: nothing, and runs of one byte."""
    for length in (0, 1, 7, 8, 63, 64, 255, 256, 4096, 70_000):
        for byte in (b"\0", b"\xff", b"\x01"):
            TARGETS[name](byte * length)


def test_mutants_are_deterministic() -> None:
    """A failure in one run is the same failure in the next."""
    one, two = (list(itertools.islice(mutants([b"seed" * 20], 7), 200)) for _ in range(2))
    assert one == two
    assert len(set(one)) > 150


def test_a_decoder_that_fails_is_caught() -> None:
    """The targets can fail: on a foreign exception, and on a misread value."""
    structure = BY_NAME["part_header"]
    drive(structure, structure.sample)

    def breaks(data: bytes) -> None:
        raise IndexError(len(data))

    with pytest.raises(IndexError):
        loop(breaks, [structure.sample], 1)

    def refuses(data: bytes) -> None:
        raise AipImageError

    wrong = type(structure)(
        "wrong", structure.sample, (), structure.decode, lambda value, _: b"other bytes"
    )
    with pytest.raises(AssertionError):
        drive(wrong, structure.sample)
    drive(type(structure)("typed", b"", (), refuses, lambda value, _: b""), b"")


def test_mutants_get_behind_the_digests() -> None:
    """A good share of them is accepted or refused by checks of values, not by the digest."""
    for name in ("trailer", "part_footer", "header_plain"):
        structure = BY_NAME[name]
        reached = 0
        for data in itertools.islice(mutants([structure.sample], 3), 2000):
            try:
                structure.decode(structure.repair(data))
                reached += 1
            except AipImageError as error:
                reached += "digest" not in str(error) and len(data) == len(structure.sample)
        assert reached > 500, name
