"""Images of aged file systems, of what is in use, stopped at many steps: creating, three kinds of
increments, merging, and converting what was merged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from aipimage import ConvertOptions
from aipimage.converting.convert import convert
from aipimage.io.increment import grouping
from aipimage.io.increment import plan as planning
from aipimage.io.increment.create import create_image
from aipimage.io.merge import copying as mergecopy
from aipimage.io.merge.job import merge_images
from aipimage.io.system.storage import Storage
from tests.support.aged import KINDS, aged, differing, used_content, used_of
from tests.support.memorychains import at
from tests.support.realistic_chains import check_chain, chosen, facts_of
from tests.support.stopping import SharedMemory, stops

Run = Callable[[Storage, Any], Any]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that increments have checkpoints, and merges several batches."""
    monkeypatch.setattr(planning, "PIECE", 65_536)
    monkeypatch.setattr(grouping, "GROUP", 16_384)
    monkeypatch.setattr(mergecopy, "BATCH", 300_000)


def at_many_steps(run: Run, path: str, base: SharedMemory, content: np.ndarray) -> int:
    """Stop, do it again, compare; then do it on ``base``. Return how often it resumed."""
    files = base.snapshot()
    run(Storage(base), None)
    wanted, resumed = facts_of(base, path, None), 0
    assert wanted.content == (blake3(content.data).hexdigest(),)
    for stop in stops(run, files, most=8, ways=("killed", "power", "error")):
        if path not in stop.files:
            system = stop.system()
            resumed += run(Storage(system), None).resumed
            assert facts_of(system, path, None) == wanted, stop.label
            for name, data in files.items():
                assert system.files[name] == data, f"{stop}: {name} was changed"
    return resumed


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_many_steps(kind: str) -> None:
    states, system, resumed = aged(kind), SharedMemory({}), 0
    told = [
        {},
        {"changed": differing(states[0], states[1])},
        {"compare": "digests"},
        {"compare": "data"},
    ]
    for number, state in enumerate(states):
        more = dict(told[number]) | ({"parent": at(f"{number - 1}.aiv")} if number else {})

        def creating(
            storage: Storage, progress: Any, number: int = number, more: Any = more
        ) -> Any:
            options = chosen("zstd", checkpoint_bytes=1, resume=True, **more)
            source = used_of(states[number])
            return create_image(at(f"{number}.aiv"), [source], options, progress, storage)

        resumed += at_many_steps(creating, at(f"{number}.aiv"), system, used_content(state))

    def merging(storage: Storage, progress: Any) -> Any:
        names = [at(f"{n}.aiv") for n in range(len(states))]
        return merge_images(at("m.aiv"), names, threads=1, progress=progress, storage=storage)

    merged = at_many_steps(merging, at("m.aiv"), system, used_content(states[-1]))
    assert resumed > 5
    assert merged
    check_chain(system, at("m.aiv"), None)
    convert(at("m.aiv"), at("back.raw"), ConvertOptions(), storage=Storage(system))
    assert system.files[at("back.raw")] == used_content(states[-1]).tobytes()


def test_free_space_is_left_out() -> None:
    """The volumes are aged: a part of what was ever written is free."""
    state = aged("ext4")[-1]
    assert (used_content(state) != state.data).sum() > 500_000
    assert differing(state, state) == []
