"""What is kept for later: values in a bounded cache, things that are open in a pool."""

from __future__ import annotations

import threading

import pytest

from aipimage.errors import ClosedError, StorageError
from aipimage.io.system.cache import BoundedCache
from aipimage.io.system.pool import Pool


def test_what_was_used_longest_ago_goes_first() -> None:
    cache: BoundedCache[str, bytes] = BoundedCache(10, len)
    cache.keep("a", b"1234")
    cache.keep("b", b"1234")
    assert cache.find("a") == b"1234"
    cache.keep("c", b"1234")
    assert (cache.find("a"), cache.find("b"), cache.find("c")) == (b"1234", None, b"1234")


def test_a_value_that_is_kept_again_counts_once() -> None:
    cache: BoundedCache[str, bytes] = BoundedCache(10, len)
    for length in (4, 6, 2):
        cache.keep("a", bytes(length))
    cache.keep("b", bytes(8))
    assert cache.find("a") == bytes(2)


def test_one_value_over_the_limit_is_kept_alone() -> None:
    cache: BoundedCache[int, bytes] = BoundedCache(10, len)
    cache.keep(1, b"1")
    cache.keep(2, bytes(100))
    assert (cache.find(1), cache.find(2)) == (None, bytes(100))
    cache.clear()
    cache.keep(3, bytes(10))
    assert (cache.find(2), cache.find(3)) == (None, bytes(10))


class Thing:
    """Something that can be closed once, and fails to where it is told to."""

    def __init__(self, fails: bool = False) -> None:
        self.is_open, self._fails = True, fails

    def close(self) -> None:
        assert self.is_open
        self.is_open = False
        if self._fails:
            raise StorageError("close failed")


@pytest.fixture
def pool() -> Pool[int, Thing]:
    return Pool(2, lambda key: f"number {key} is closed")


def test_what_is_used_again_is_not_opened_again(pool: Pool[int, Thing]) -> None:
    with pool.lent(1, Thing) as first, pool.lent(1, Thing) as second:
        assert first is second
    with pool.lent(1, Thing) as third:
        assert third is first


def test_a_thing_in_use_is_never_closed(pool: Pool[int, Thing]) -> None:
    with pool.lent(1, Thing) as first:
        others = []
        for key in (2, 3, 4):
            with pool.lent(key, Thing) as each:
                others.append(each)
        assert first.is_open
        assert [each.is_open for each in others] == [False, False, True]
        pool.close()
        assert first.is_open
    assert not first.is_open
    assert not others[-1].is_open


def test_a_closed_pool_names_what_was_asked_for(pool: Pool[int, Thing]) -> None:
    pool.close()
    with pytest.raises(ClosedError, match="number 7 is closed"), pool.lent(7, Thing):
        pass


def test_what_is_put_twice_is_closed(pool: Pool[int, Thing]) -> None:
    first, second = Thing(), Thing()
    pool.put(1, first)
    pool.put(1, second)
    assert (first.is_open, second.is_open) == (True, False)
    with pool.lent(1, Thing) as lent:
        assert lent is first


def test_all_are_closed_where_one_fails_to(pool: Pool[int, Thing]) -> None:
    things = [Thing(fails=True), Thing()]
    for key, thing in enumerate(things):
        pool.put(key, thing)
    with pytest.raises(StorageError, match="close failed"):
        pool.close()
    assert not any(thing.is_open for thing in things)


def test_what_cannot_be_opened_is_tried_again(pool: Pool[int, Thing]) -> None:
    def fails() -> Thing:
        raise StorageError("no such file")

    with pytest.raises(StorageError), pool.lent(1, fails):
        pass
    with pool.lent(1, Thing) as thing:
        assert thing.is_open


def test_threads_share_one_opening(pool: Pool[int, Thing]) -> None:
    made: list[Thing] = []
    seen: set[int] = set()
    begin = threading.Barrier(4)

    def opened() -> Thing:
        made.append(Thing())
        return made[-1]

    def use() -> None:
        begin.wait()
        for _ in range(100):
            with pool.lent(1, opened) as thing:
                assert thing.is_open
                seen.add(id(thing))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(seen)) == (1, 1)
