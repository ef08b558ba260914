"""Warnings that arise deep in a job, in what it does to files, and belong to its result.

The code that finds one is far from the code that makes the result, and neither should know of the
other: the job's function collects (:func:`with_notices`) what is noted (:func:`notice`) on its
thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from typing import ClassVar

_collected: ContextVar[list[str] | None] = ContextVar("aipimage_notices", default=None)


class Warned(Protocol):
    """A frozen dataclass with ``warnings``, such as every result of a job is."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def warnings(self) -> tuple[str, ...]: ...


_P = ParamSpec("_P")
_R = TypeVar("_R", bound=Warned)


def notice(text: str) -> None:
    """Note a warning for the job that runs on this thread, once; without a job it is dropped."""
    found = _collected.get()
    if found is not None and text not in found:
        found.append(text)


def with_notices(job: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add what is noted while a job runs to the warnings of its result."""

    @functools.wraps(job)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        found: list[str] = []
        token = _collected.set(found)
        try:
            result = job(*args, **kwargs)
        finally:
            _collected.reset(token)
        if not found:
            return result
        warnings = (*result.warnings, *(text for text in found if text not in result.warnings))
        return replace(result, warnings=warnings)

    return run
