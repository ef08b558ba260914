"""Block digests under layers are those of a plain array, over many increments."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipimage.errors import AipImageError, FormatError, IntegrityError
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.layers import BLOCKS_MAX, DIGEST_DTYPE, Digests, Layer, encode_layer
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.tables import IndexEntry, encode_digest_leaf, encode_index
from aipimage.io.index.digests import DigestView, check_digests
from aipimage.io.index.layerbuild import LayerBuilder, layers_to_join
from tests.chain.digestfiles import Files, some_digests, write_base, write_leaf

SHIFT = 20
STRIPE = 1 << (SHIFT - 16)


class Chain:
    """A chain of images of one device beside the digests that it must have."""

    def __init__(self, digests: Digests, shift: int = SHIFT, memory: int = 1 << 20) -> None:
        self.files, self.shift, self.memory = Files(), shift, memory
        self.model = digests.copy()
        self.root = write_base(self.files.writer(), digests, shift)
        self.written = 0

    def view(self) -> DigestView:
        return DigestView(self.files.records, self.root, len(self.model), self.shift)

    def increment(
        self, changed: np.ndarray, digests: Digests, size: int | None = None, step: int = 100
    ) -> DigestView:
        """Set ``digests`` at the blocks ``changed`` of a device that now has ``size`` blocks."""
        base, writer = self.view(), self.files.writer()
        size = len(self.model) if size is None else size
        builder = LayerBuilder(writer, base, size, self.memory)
        for at in range(0, len(changed), step):
            builder.set(changed[at : at + step], digests[at : at + step])
        self.root = builder.finish()
        self.written = writer.stream.position - c.CORE_MIN
        grown = np.zeros(size, DIGEST_DTYPE)
        grown[: len(self.model)] = self.model[:size]
        grown[changed] = digests
        self.model = grown
        return self.view()

    def check(self, piece: int = 64) -> None:
        """All that is read is what the model says, and a full verification finds nothing."""
        view = self.view()
        for first in range(0, len(self.model) + piece, piece):
            expected = np.zeros(piece, DIGEST_DTYPE)
            known = self.model[first : first + piece]
            expected[: len(known)] = known
            found = view.read(first, piece)
            assert found.dtype == DIGEST_DTYPE
            assert found.tobytes() == expected.tobytes()
        check_digests(self.files.records, self.root, len(self.model), self.shift)

    def random_increment(self, rng: np.random.Generator, count: int, size: int) -> DigestView:
        changed = np.sort(rng.choice(size, min(count, size), replace=False))
        return self.increment(changed, some_digests(rng, len(changed)), size)


RUNS = st.lists(st.tuples(st.sampled_from((0, 1, 2, 5, 40, 300)), st.integers(1, 500)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 400), RUNS, st.sampled_from((24, 500, 1 << 20)))
def test_increments_read_like_an_array(
    seed: int, blocks: int, runs: list[tuple[int, int]], memory: int
) -> None:
    """Any sets over any base, on a device that grows and shrinks, with any bound of memory."""
    rng = np.random.default_rng(seed)
    chain = Chain(some_digests(rng, blocks, rng.choice((0.1, 0.95, 1))), memory=memory)
    for count, size in runs:
        chain.random_increment(rng, count, size)
        chain.check(piece=int(rng.choice((7, 64, 1024))))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 200))))
def test_any_read_in_any_order(seed: int, reads: list[tuple[int, int]]) -> None:
    """What is kept from one read does no harm to the next."""
    rng = np.random.default_rng(seed)
    chain = Chain(some_digests(rng, 500, 0.5))
    for count in (200, 60, 20, 5, 1):
        view = chain.random_increment(rng, count, 500)
    for first, count in reads:
        expected = np.zeros(800, DIGEST_DTYPE)
        expected[:500] = chain.model
        assert view.read(first, count).tobytes() == expected[first : first + count].tobytes()


@pytest.mark.parametrize("memory", [1000, 1 << 20])
def test_forty_increments_of_falling_size(memory: int) -> None:
    """Sizes that never ask for a join by themselves, and trees of several leaves."""
    rng = np.random.default_rng(5)
    chain = Chain(some_digests(rng, 60_000), memory=memory)
    deepest = 0
    for turn in range(40):
        view = chain.random_increment(rng, 30_000 >> (turn % 15), 60_000 - 13 * turn)
        deepest = max(deepest, len(view.layers))
        assert len(view.layers) <= c.LAYERS_MAX
        if turn % 5 == 4:
            chain.check(piece=1024)
    assert deepest > 8


def test_a_seventeenth_layer_doubles_them_all() -> None:
    """Sixteen layers of which each is twice the one above, and what sets off all of them."""
    rng = np.random.default_rng(6)
    chain = Chain(some_digests(rng, 1 << 18))
    for turn in range(16):
        view = chain.random_increment(rng, 1 << (17 - turn), 1 << 18)
        assert [layer.depth for layer in view.layers] == list(range(turn + 1, 0, -1))
    chain.check(piece=1024)
    assert len(chain.random_increment(rng, 2, 1 << 18).layers) == 1
    chain.check(piece=1024)


def test_one_layer_too_many_is_joined_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer layers, because 16 that each have three times as many ask for large disks."""
    monkeypatch.setattr(c, "LAYERS_MAX", 4)
    rng = np.random.default_rng(6)
    chain = Chain(some_digests(rng, 4000))
    for count in (1350, 450, 150, 50):
        view = chain.random_increment(rng, count, 4000)
    assert [layer.entries for layer in view.layers] == [50, 150, 450, 1350]
    view = chain.increment(np.array([7]), some_digests(rng, 1))
    assert [layer.entries for layer in view.layers][1:] == [150, 450, 1350]
    assert view.layers[0].entries in (50, 51)
    chain.check()


def test_each_layer_has_twice_the_entries_of_the_one_above() -> None:
    rng = np.random.default_rng(7)
    chain = Chain(some_digests(rng, 5000))
    for _ in range(40):
        view = chain.random_increment(rng, int(rng.integers(1, 200)), 5000)
        sizes = [layer.entries for layer in view.layers]
        assert all(below >= 2 * above for above, below in pairwise(sizes))
    chain.check()


def test_what_a_layer_costs() -> None:
    """2000 scattered blocks of 131,072 take under 80 KB, and joins no more than log n times it."""
    rng = np.random.default_rng(8)
    blocks, count = 131_072, 2000
    chain = Chain(some_digests(rng, blocks), shift=22)
    costs = []
    for _ in range(32):
        chain.random_increment(rng, count, blocks)
        costs.append(chain.written)
    assert costs[0] < 80_000
    assert sum(costs) / len(costs) < 24 * count * (1 + 5 / 2) * 1.05
    chain.check(piece=1024)


def test_changing_the_same_blocks_keeps_one_layer() -> None:
    rng = np.random.default_rng(9)
    chain = Chain(some_digests(rng, 1000))
    for _ in range(10):
        view = chain.increment(np.arange(100, 200), some_digests(rng, 100))
        assert [layer.entries for layer in view.layers] == [100]
    chain.check()


@pytest.mark.parametrize(
    ("entries", "below", "joined"),
    [
        (5, [], 0), (5, [10], 0), (5, [9], 1), (5, [9, 28], 1), (5, [9, 27], 2), (0, [0], 1),
        (0, [1], 1), (0, [2], 0), (1, [2 << n for n in range(15)], 0),
        (1, [2 << n for n in range(16)], 16), (1, [2 * 3**n for n in range(16)], 1),
        (1, [9] * 16, 16), (100, [1] * 3 + [999], 3),
    ],
)  # fmt: skip
def test_layers_to_join(entries: int, below: list[int], joined: int) -> None:
    layers = [Layer(NO_REFERENCE, NO_REFERENCE, 0, size, 1) for size in below]
    assert layers_to_join(entries, layers) == joined


class TestRootStays:
    """No record is written where nothing changed."""

    def test_nothing_set(self) -> None:
        chain = Chain(some_digests(np.random.default_rng(1), 100))
        before = chain.root
        chain.increment(np.arange(0), some_digests(np.random.default_rng(1), 0))
        assert chain.root == before
        assert chain.written == 0

    def test_the_device_grew(self) -> None:
        chain = Chain(some_digests(np.random.default_rng(1), 100))
        before = chain.root
        chain.increment(np.arange(0), some_digests(np.random.default_rng(1), 0), 200)
        assert chain.root == before
        chain.check()

    def test_nothing_over_nothing(self) -> None:
        chain = Chain(np.zeros(100, DIGEST_DTYPE))
        assert chain.root == NO_REFERENCE
        chain.increment(np.arange(0), np.zeros(0, DIGEST_DTYPE), 50)
        assert chain.root == NO_REFERENCE
        chain.check()


def test_what_was_cut_off_does_not_come_back() -> None:
    """A device that shrank and grew again has zeros there, in the base and in the layers."""
    rng = np.random.default_rng(2)
    chain = Chain(some_digests(rng, 100, 0))
    chain.increment(np.arange(40, 90), some_digests(rng, 50, 0))
    view = chain.increment(np.arange(0), some_digests(rng, 0), 50)
    assert view.layers[0].limit == 50
    chain.increment(np.arange(3), some_digests(rng, 3), 100)
    assert not any(chain.view().read(50, 50).tobytes())
    chain.check()


def test_a_layer_alone_may_cut_everything() -> None:
    rng = np.random.default_rng(2)
    chain = Chain(np.zeros(100, DIGEST_DTYPE))
    chain.increment(np.array([90]), some_digests(rng, 1, 0))
    chain.increment(np.arange(0), some_digests(rng, 0), 50)
    assert chain.root == NO_REFERENCE
    chain.check()


def test_digests_in_any_buffer() -> None:
    """Bytes, rows of 16 bytes, and arrays of V16 are the same."""
    files, rng = Files(), np.random.default_rng(3)
    digests = some_digests(rng, 20)
    rows = digests.view(np.uint8).reshape(20, 16)
    for given_as in (digests, rows, digests.tobytes()):
        builder = LayerBuilder(files.writer(), DigestView(files.records, NO_REFERENCE, 20, 20), 20)
        builder.set(range(20), given_as)
        view = DigestView(files.records, builder.finish(), 20, 20)
        assert view.read(0, 20).tobytes() == digests.tobytes()


@pytest.mark.parametrize("blocks", [[3, 3], [4, 3], [2], [20], [1 << 63]])
def test_wrong_use_is_an_internal_error(blocks: list[int]) -> None:
    files = Files()
    builder = LayerBuilder(files.writer(), DigestView(files.records, NO_REFERENCE, 20, 20), 20)
    builder.set([2], bytes(16))
    with pytest.raises(RuntimeError, match="internal error"):
        builder.set(np.array(blocks, np.uint64), bytes(16 * len(blocks)))


def test_ascending_reads_fetch_each_record_once() -> None:
    """Also where pieces do not end where leaves end."""
    rng = np.random.default_rng(4)
    chain = Chain(some_digests(rng, 40_000))
    chain.random_increment(rng, 20_000, 40_000)
    view = chain.view()
    chain.files.fetched.clear()
    for first in range(0, 40_000, 100):
        view.read(first, 100)
    fetched = chain.files.fetched
    assert len(fetched) == len(set(fetched))
    assert len(fetched) >= 40_000 // STRIPE + 5


def test_stripes_of_zeros_cost_nothing() -> None:
    digests = np.zeros(10_000, DIGEST_DTYPE)
    digests[[5, 5000]] = b"\x11" * 16
    chain = Chain(digests)
    view = chain.view()
    chain.files.fetched.clear()
    for first in range(STRIPE, 4096, 64):
        view.read(first, 64)
    assert len(chain.files.fetched) == 1


def peak_of(step: object) -> int:
    """The most memory that a call takes at a time, in bytes."""
    assert callable(step)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        step()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def long_chain() -> Chain:
    """30,000 leaves under ten layers, the lowest with fifty thousand entries."""
    rng = np.random.default_rng(10)
    chain = Chain(some_digests(rng, 30_000 * STRIPE, 0))
    for turn in range(10):
        chain.random_increment(rng, 50_000 >> turn, len(chain.model))
    chain.files.records.on_fetch = None
    assert len(chain.view().layers) == 10
    return chain


class TestMemory:
    """None of it grows with the disk or with what changed."""

    def test_of_reading(self, long_chain: Chain) -> None:
        chain = long_chain
        view = chain.view()

        def read() -> None:
            for first in range(0, len(chain.model), 1024):
                view.read(first, 1024)

        assert peak_of(read) < 4 << 20

    def test_of_checking(self, long_chain: Chain) -> None:
        chain = long_chain
        arguments = (chain.files.records, chain.root, len(chain.model), SHIFT)
        assert peak_of(lambda: check_digests(*arguments)) < 4 << 20

    def test_of_a_run_that_changes_everything(self, long_chain: Chain) -> None:
        """11 MB of entries joined with ten layers; equal digests, because what is written is in
        memory here and has to be little.
        """
        chain = long_chain
        builder = LayerBuilder(chain.files.writer(), chain.view(), len(chain.model), 1 << 18)
        digests = b"\x77" * (16 * 1024)
        written = []

        def write() -> None:
            for first in range(0, len(chain.model) // 1024 * 1024, 1024):
                builder.set(np.arange(first, first + 1024), digests)
            written.append(builder.finish())

        assert peak_of(write) < 6 << 20
        view = DigestView(chain.files.records, written[0], len(chain.model), SHIFT)
        assert view.layers[0].entries >= len(chain.model) // 1024 * 1024
        check_digests(chain.files.records, written[0], len(chain.model), SHIFT)


class TestHostile:
    """Records whose digests are right and whose content is not."""

    def setup_method(self) -> None:
        self.files = Files()
        self.writer = self.files.writer()
        self.base = write_base(self.writer, some_digests(np.random.default_rng(1), 100), SHIFT)

    def layer(self, **fields: object) -> Reference:
        """Write a layer over two entries, with some fields made different."""
        tree = fields.setdefault("tree", write_leaf(self.writer, [5, 9]))
        assert isinstance(tree, Reference)
        layer = Layer(self.base, tree, 100, 2, 1)._replace(**fields)  # type: ignore[arg-type]
        return self.writer.write(RecordType.DIGEST_LAYER, encode_layer(layer))

    def index(self, level: int, *entries: tuple[int, Reference]) -> Reference:
        page = encode_index(level, [IndexEntry(*entry) for entry in entries])
        return self.writer.write(RecordType.INDEX, page)

    def refused(self, root: Reference, error: type[AipImageError] = FormatError) -> None:
        with pytest.raises(error):
            check_digests(self.files.records, root, 100, SHIFT)

    def read_refused(self, root: Reference, error: type[AipImageError] = FormatError) -> None:
        """Reading alone finds it too, and so does verifying."""
        self.refused(root, error)
        with pytest.raises(error):
            DigestView(self.files.records, root, 100, SHIFT).read(0, 100)

    def test_the_sample_is_valid(self) -> None:
        for root in (self.base, self.layer(), self.layer(base=self.layer(), depth=2)):
            check_digests(self.files.records, root, 100, SHIFT)

    @pytest.mark.parametrize("depth", [2, 16])
    def test_depth_over_a_base_that_is_no_layer(self, depth: int) -> None:
        self.read_refused(self.layer(depth=depth))

    @pytest.mark.parametrize("depth", [1, 3, 16])
    def test_depth_does_not_descend_by_one(self, depth: int) -> None:
        self.read_refused(self.layer(base=self.layer(), depth=depth))

    @pytest.mark.parametrize("depth", [0, 17, (1 << 32) - 1])
    def test_impossible_depth(self, depth: int) -> None:
        self.read_refused(self.layer(depth=depth))

    def test_seventeen_layers(self) -> None:
        root = self.layer()
        for depth in range(2, 18):
            root = self.layer(base=root, depth=depth)
        self.read_refused(root)

    @pytest.mark.parametrize("entries", [1, 3, BLOCKS_MAX])
    def test_wrong_number_of_entries(self, entries: int) -> None:
        self.refused(self.layer(entries=entries), IntegrityError)

    @pytest.mark.parametrize(("entries", "tree"), [(0, None), (2, NO_REFERENCE)])
    def test_entries_without_a_tree(self, entries: int, tree: Reference | None) -> None:
        self.read_refused(self.layer(entries=entries, **({} if tree is None else {"tree": tree})))

    def test_limit_beyond_the_device(self) -> None:
        self.read_refused(self.layer(limit=101))
        check_digests(self.files.records, self.layer(base=self.layer(limit=101), depth=2), 100, 20)

    def test_unsorted_blocks(self) -> None:
        for blocks in ([9, 5], [5, 5]):
            self.read_refused(self.layer(tree=write_leaf(self.writer, blocks)))

    def test_block_beyond_the_device(self) -> None:
        leaf = write_leaf(self.writer, [5, 100])
        self.read_refused(self.layer(tree=leaf), IntegrityError)
        below = self.layer(base=self.layer(tree=leaf), depth=2)
        check_digests(self.files.records, below, 100, SHIFT)

    def test_block_beyond_every_device(self) -> None:
        leaf = write_leaf(self.writer, [5, BLOCKS_MAX])
        self.read_refused(self.layer(base=self.layer(tree=leaf), depth=2))

    def test_base_leaf_beyond_the_device(self) -> None:
        plain = encode_digest_leaf(96, b"\x11" * 16 * 5)
        leaf = self.writer.write(RecordType.DIGEST_LEAF, plain)
        self.read_refused(leaf, IntegrityError)
        check_digests(self.files.records, self.layer(base=leaf), 100, SHIFT)
        check_digests(self.files.records, leaf, 101, SHIFT)

    def test_leaves_that_overlap(self) -> None:
        leaves = [(5, write_leaf(self.writer, [5, 9])), (9, write_leaf(self.writer, [9, 11]))]
        self.read_refused(self.layer(tree=self.index(1, *leaves), entries=4))

    def test_leaf_of_another_place(self) -> None:
        leaf = write_leaf(self.writer, [5, 9])
        self.read_refused(self.layer(tree=self.index(1, (4, leaf))), IntegrityError)

    def test_index_page_of_another_place(self) -> None:
        page = self.index(1, (5, write_leaf(self.writer, [5, 9])))
        self.read_refused(self.layer(tree=self.index(2, (4, page))))

    @pytest.mark.parametrize("level", [1, 3, 8])
    def test_levels_do_not_descend(self, level: int) -> None:
        page = self.index(1, (5, write_leaf(self.writer, [5, 9])))
        self.read_refused(self.layer(tree=self.index(level, (5, page))))

    def test_leaf_behind_all_possible_keys(self) -> None:
        """A key that no block has is looked at, too."""
        leaves = [(5, write_leaf(self.writer, [5, 9])), ((1 << 64) - 1, self.base)]
        self.refused(self.layer(tree=self.index(1, *leaves)))

    def test_records_of_other_types(self) -> None:
        """A leaf of one kind where the other must be, a layer as a tree, a table as a root."""
        layer, leaf = self.layer(), write_leaf(self.writer, [5, 9])
        table = self.writer.write(RecordType.TABLE_LEAF, b"no table")
        for root in (leaf, table, self.layer(base=leaf), self.layer(base=table)):
            self.read_refused(root)
        for tree in (self.base, layer, table):
            self.read_refused(self.layer(tree=tree))

    def test_another_record_than_was_sealed(self) -> None:
        other = self.layer(limit=99)
        root = self.layer()
        self.read_refused(other._replace(digest=root.digest), IntegrityError)

    def test_a_damaged_layer_is_not_joined(self) -> None:
        root = self.layer(tree=write_leaf(self.writer, [9, 5]))
        view = DigestView(self.files.records, root, 100, SHIFT)
        builder = LayerBuilder(self.files.writer(), view, 100)
        builder.set([1, 2, 3], bytes(48))
        with pytest.raises(FormatError):
            builder.finish()
