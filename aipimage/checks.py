"""What callers pass is checked once, at the door of each public function.

A value of a wrong type is an :class:`OptionTypeError`, which is a ``TypeError`` too; one of the
right type that makes no sense is an :class:`OptionError`, which is a ``ValueError`` too. Both are
a :class:`RequestError`, name the parameter and the value, and say what is accepted. Each function
returns the value as the library uses it. Secrets are never shown.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
import re
import reprlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

from aipimage.errors import OptionError, OptionTypeError

Size = int | str
"""Bytes as a number, or as ``"650M"``, ``"4G"``, ``"512K"``; K is 1024."""
SIZE_MAX = (1 << 63) - 1
THREADS_MAX = 1024
TAGS_MAX, TAG_MAX = 64, 1000
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}
_SIZE = re.compile(r"(\d{1,19})([KMGTP]?)", re.ASCII | re.IGNORECASE)
_DIGEST = re.compile("[0-9a-fA-F]{64}")
_Value = TypeVar("_Value")


def parse_size(text: str, low: int = 1) -> int:
    """Return the bytes of ``650M``, ``4G``, ``512K``, ``1T`` or plain digits; K is 1024.

    Raises:
        ValueError: it is another form, less than ``low``, or over 8 EiB; the message says so.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 650M, 4G, 512K, 1T or plain bytes")
    size = int(match[1]) << _UNITS[match[2].upper()]
    if not low <= size <= SIZE_MAX:
        raise ValueError(f"{text!r} is not possible; pass at least {low} and less than 8192P")
    return size


def wrong_type(name: str, value: object, accepted: str) -> OptionTypeError:
    """The error for a value of a wrong type."""
    kind = type(value).__name__
    shown = reprlib.repr(value)
    return OptionTypeError(f"{name}={shown} ({kind}) is not possible; pass {accepted}")


def wrong_value(name: str, value: object, accepted: str) -> OptionError:
    """The error for a value that makes no sense."""
    return OptionError(f"{name}={reprlib.repr(value)} is not possible; pass {accepted}")


def whole(name: str, value: object, low: int = 0, high: int = SIZE_MAX) -> int:
    """A whole number within bounds, also one of numpy; a truth value is none."""
    if type(value) is int and low <= value <= high:
        return value
    accepted = f"a whole number, {low} to {high}"
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        raise wrong_type(name, value, accepted)
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise wrong_type(name, value, accepted) from None
    if not low <= number <= high:
        raise wrong_value(name, value, accepted)
    return number


@overload
def optional_whole(name: str, value: None, low: int = ..., high: int = ...) -> None: ...
@overload
def optional_whole(name: str, value: object, low: int = ..., high: int = ...) -> int | None: ...
def optional_whole(name: str, value: object, low: int = 0, high: int = SIZE_MAX) -> int | None:
    """Likewise, or ``None``."""
    return None if value is None else whole(name, value, low, high)


def offset(name: str, value: object) -> int:
    """A place in bytes: a whole number that is not negative."""
    return whole(name, value)


def threads(value: object) -> int | None:
    """How many threads: 1 to 1024, or ``None``."""
    return optional_whole("threads", value, 1, THREADS_MAX)


def size(name: str, value: object, low: int = 1, high: int = SIZE_MAX) -> int:
    """Bytes, as a number or a text such as ``"4G"``."""
    if not isinstance(value, str):
        try:
            return whole(name, value, low, high)
        except OptionTypeError:
            accepted = f'bytes, {low} to {high}, or a text such as "650M" or "4G"'
            raise wrong_type(name, value, accepted) from None
    try:
        return whole(name, parse_size(value, low), low, high)
    except OptionError:
        raise wrong_value(name, value, f"{low} to {high} bytes") from None
    except ValueError as error:
        raise OptionError(f"{name}={error}") from error


def optional_size(name: str, value: object, low: int = 1, high: int = SIZE_MAX) -> int | None:
    """Likewise, or ``None``."""
    return None if value is None else size(name, value, low, high)


def number(name: str, value: object, low: float, high: float, *, above: bool = False) -> float:
    """A finite number within bounds; with ``above`` it is not ``low`` itself."""
    accepted = f"a number {'over ' if above else 'from '}{low:g} to {high:g}"
    if isinstance(value, (bool, str, bytes)):
        raise wrong_type(name, value, accepted)
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise wrong_type(name, value, accepted) from None
    if math.isnan(found) or not low <= found <= high or (above and found == low):
        raise wrong_value(name, value, accepted)
    return found


def flags(**values: object) -> None:
    """Each is ``True`` or ``False``: a text such as ``"no"`` would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool) and type(value).__name__ != "bool_":
            raise wrong_type(name, value, "True or False")


def texts(**values: object) -> None:
    """Each is a text."""
    for name, value in values.items():
        if not isinstance(value, str):
            raise wrong_type(name, value, "a text")


def optional_texts(**values: object) -> None:
    """Each is a text or ``None``."""
    texts(**{name: value for name, value in values.items() if value is not None})


def secrets(**values: object) -> None:
    """Each is a text or ``None``; the value is not shown."""
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise OptionTypeError(f"{name}: a password is a text, not {type(value).__name__}")


def choice(name: str, value: object, accepted: Collection[str]) -> None:
    """One of some words."""
    listed = "one of " + ", ".join(repr(each) for each in accepted)
    if not isinstance(value, str):
        raise wrong_type(name, value, listed)
    if value not in accepted:
        raise wrong_value(name, value, listed)


def path(name: str, value: object) -> str:
    """A path as text."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(found, str):
        raise wrong_type(name, value, "a path as text or os.PathLike")
    if not found or "\0" in found:
        raise wrong_value(name, value, "a path: this one is empty or has a NUL character")
    return found


def optional_path(name: str, value: object) -> str | None:
    """A path, or ``None``."""
    return None if value is None else path(name, value)


def is_path(value: object) -> bool:
    """Whether something is meant as a path."""
    return isinstance(value, (str, bytes, os.PathLike))


def paths(name: str, value: object) -> list[str]:
    """A path alone, several, or ``None`` for none."""
    if value is None:
        return []
    if is_path(value):
        return [path(name, value)]
    if not isinstance(value, Sequence):
        raise wrong_type(name, value, "a path, or a list of paths")
    return [path(f"{name}[{at}]", each) for at, each in enumerate(value)]


def writable(name: str, value: object) -> memoryview:
    """A buffer of contiguous bytes that can be written to, as a view of bytes."""
    accepted = "a contiguous buffer that can be written to, such as a bytearray"
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        raise wrong_type(name, value, accepted) from None
    if view.readonly or not view.c_contiguous:
        raise OptionTypeError(f"{name}: a buffer of this kind is not possible; pass {accepted}")
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def words(name: str, value: object) -> list[str]:
    """Several texts; one alone is none, because it would be taken letter by letter."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise wrong_type(name, value, "a list of texts")
    texts(**{f"{name}[{at}]": each for at, each in enumerate(value)})
    return list(value)


def call(name: str, value: object) -> None:
    """Something that can be called, or ``None``."""
    if value is not None and not callable(value):
        raise wrong_type(name, value, "a function, or None")


def jobs(executor: object, progress: object) -> None:
    """What long jobs take: an executor, and a function that is called with their progress."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise wrong_type("executor", executor, "a concurrent.futures executor, or None")
    call("progress", progress)


def hex_digest(name: str, value: object) -> str | None:
    """An image digest, in small letters, or ``None``."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, value, "a digest of 64 hexadecimal digits, or None")
    if not _DIGEST.fullmatch(value):
        raise wrong_value(name, value, "a digest of 64 hexadecimal digits")
    return value.lower()


def moment(name: str, value: object) -> datetime:
    """A point in time with a zone."""
    if not isinstance(value, datetime):
        raise wrong_type(name, value, "a datetime with a time zone")
    try:
        is_known = value.utcoffset() is not None and value.astimezone(UTC) is not None
    except OverflowError:
        is_known = False
    if not is_known:
        raise wrong_value(name, value, "a datetime with a time zone")
    return value


def tags(name: str, value: object) -> dict[str, str]:
    """At most 64 texts by their names, of at most 1000 characters each."""
    accepted = f"a dictionary of at most {TAGS_MAX} texts of at most {TAG_MAX} characters"
    if not isinstance(value, Mapping):
        raise wrong_type(name, value, accepted)
    found = dict(value)
    for key, text in found.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise wrong_type(name, value, accepted)
    if len(found) > TAGS_MAX or any(len(each) > TAG_MAX for each in (*found, *found.values())):
        raise wrong_value(name, value, accepted)
    return found


def instance(
    name: str, value: _Value, kinds: type[Any] | tuple[type[Any], ...], what: str
) -> _Value:
    """A value of some class."""
    if not isinstance(value, kinds):
        raise wrong_type(name, value, what)
    return value


def options(kind: type[_Value], value: _Value | None, arguments: Mapping[str, object]) -> _Value:
    """The options of a call: ``value`` where there is one, else those made of the keywords.

    Args:
        kind: a dataclass whose fields have the names, the order and the defaults of the keywords
            (``tests/image/test_options.py``).
        arguments: of the function, by their names: ``locals()``, before it has other variables of
            these names. Those that are no fields are passed over.

    Raises:
        OptionTypeError: it is something else. OptionError: a keyword says something beside it.
    """
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    if value is None:
        return kind(**{field.name: arguments[field.name] for field in fields})
    instance("options", value, kind, f"{kind.__name__}(...), or None")
    for field in fields:
        if not _same(arguments[field.name], field.default):
            raise OptionError(
                f"{field.name} is passed beside options; set it there: "
                f"dataclasses.replace(options, {field.name}=...)"
            )
    return value


def _same(value: object, default: object) -> bool:
    # What changed may be an array, which compares each of its elements.
    return value is default or (type(value) is type(default) and bool(value == default))
