"""Errors about a file of a chain that is not found say which image of the chain is missing."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from aipimage.errors import AipImageError
from aipimage.io.reading.members import ForeignFiles

Owner = TypeVar("Owner")


class Checkable(Protocol):
    """A chain, as far as an explanation needs it."""

    def check(self) -> None:
        """Raise what is wrong with the chain."""


def explain_what_is_missing(
    foreign: ForeignFiles, owner: Owner, chain_of: Callable[[Owner], Checkable]
) -> None:
    """Let errors about files that ``foreign`` does not find name the image that is missing or
    wrong.

    Args:
        owner: of ``foreign``. It is not kept alive, so that an image which is dropped closes by
            itself what it holds open.
        chain_of: returns the chain of the owner; called at the first such error.
    """
    foreign.explain = partial(_what_is_wrong, weakref.ref(owner), chain_of)


def _what_is_wrong(owner: weakref.ref[Owner], chain_of: Callable[[Owner], Checkable]) -> str:
    found = owner()
    try:
        if found is not None:
            chain_of(found).check()
    except AipImageError as error:
        return f"; {error}"
    return ""
