"""Annotations of everything public can be resolved, by documentation tools and by validators."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import aipimage


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions and classes, and what public classes have of their own, properties too."""
    for name in aipimage.__all__:
        value = getattr(aipimage, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value
        for inner, method in vars(value).items() if inspect.isclass(value) else ():
            function = getattr(method, "fget", None) or getattr(method, "__func__", method)
            if not inner.startswith("_") and inspect.isfunction(function):
                yield f"{name}.{inner}", function


PUBLIC = dict(public_callables())


def test_functions_and_methods_are_among_them() -> None:
    assert {"create", "open", "Image", "Image.restore", "Device.read_into"} <= set(PUBLIC)
    assert {"Image.chain", "Device.image"} <= set(PUBLIC)
    assert len(PUBLIC) > 80


@pytest.mark.parametrize("name", PUBLIC)
def test_annotations_resolve(name: str) -> None:
    hints = typing.get_type_hints(PUBLIC[name])
    assert all(not isinstance(hint, str) for hint in hints.values())


def test_they_resolve_to_the_public_types() -> None:
    assert typing.get_type_hints(aipimage.create)["return"] is aipimage.CreateResult
    assert typing.get_type_hints(aipimage.open)["return"] is aipimage.Image
    assert typing.get_type_hints(aipimage.find_chain)["return"] is aipimage.Chain
    assert typing.get_type_hints(aipimage.Image.verify)["return"] is aipimage.VerifyResult
    assert typing.get_type_hints(PUBLIC["Image.chain"])["return"] is aipimage.Chain
    assert issubclass(aipimage.Image, typing.get_type_hints(PUBLIC["Device.image"])["return"])


@pytest.mark.parametrize("name", ["create", "open", "convert", "merge", "survey"])
def test_in_a_fresh_process(name: str) -> None:
    """Where nothing else was loaded before; and asking for the function alone loads no types."""
    script = (
        f"import json, sys, typing, aipimage; f = aipimage.{name}; before = list(sys.modules);"
        "typing.get_type_hints(f); print(json.dumps(before))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert not {"numpy", "concurrent.futures", "aipimage.volumes"} & set(json.loads(done.stdout))
