"""Which consumer has seen which changes: segments of marks, and consumers that count from one of
them.

Marks go into the active segment, a sparse bitmap. Freezing closes it and begins the next. A
consumer counts from the first segment that its last image does not have, so that an image that
fails leaves nothing to be taken back. Segments that no consumer distinguishes any more are joined:
there are never more than consumers and open generations together. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aipimage.errors import RequestError
from aipimage.io.changes.chunkmap import Chunks, FrozenChunks, merged
from aipimage.io.changes.trackerfile import CONSUMERS_MAX, NAME_MAX, Consumer


@dataclass(slots=True)
class Account:
    """What is known of a consumer.

    Attributes:
        since: its last image's id, or ``None``.
        start: number of the first segment that is not in that image.
        watched: smallest size in bytes that the disk had since that image began. What lies past
            may have been cut off and have grown again, and counts as changed.
        watched_next: likewise since the open generation began.
        doubt: why what it would get must not be trusted, or ``None``.
        end: number of the first segment after its open generation; ``None`` where none is open.
    """

    since: str | None
    start: int
    watched: int
    watched_next: int
    doubt: str | None
    end: int | None = None

    @property
    def trusted(self) -> bool:
        """Whether the segments from ``start`` on are all that changed since the last image."""
        return self.doubt is None and self.since is not None


class Ledger:
    """Segments and accounts.

    Attributes:
        active: the chunks that marks go into.
        distrusts: counts how often trust was withdrawn.

    Args:
        doubt: why those that are not among the consumers are to doubt, too.
    """

    def __init__(
        self,
        size: int,
        consumers: Sequence[Consumer] = (),
        segments: Sequence[FrozenChunks] = (),
        doubt: str | None = None,
    ) -> None:
        self.active: Chunks = {}
        self.distrusts = 0
        self._doubt = doubt
        self._size = size
        self._number = len(segments)
        self._frozen: dict[int, FrozenChunks] = dict(enumerate(segments))
        self.accounts = {
            each.name: Account(each.since, each.first, each.watched, size, each.doubt)
            for each in consumers
        }
        self._tidy()

    def begin(self, name: str) -> tuple[Account, Sequence[FrozenChunks]]:
        """Freeze, and return a consumer's account with the segments that it has not seen."""
        account = self.accounts.get(name) or self._admitted(name)
        if account.end is not None:
            raise RequestError(
                f"consumer {name!r} has an open generation; commit it or roll it back first"
            )
        self._freeze()
        account.end = self._number
        if not account.trusted:
            # Only the next image gives it something to count from.
            account.start, account.watched = self._number, self._size
        account.watched_next = self._size
        self._tidy()
        return account, [each for n, each in self._frozen.items() if n >= account.start]

    def commit(self, account: Account, image_id: str, distrusts: int) -> None:
        """The open generation is in an image; it ends the doubt that was known when it began."""
        assert account.end is not None
        account.since, account.start, account.end = image_id, account.end, None
        account.watched = account.watched_next
        if distrusts == self.distrusts:
            account.doubt = None
        self._tidy()

    def rollback(self, account: Account) -> None:
        """The open generation is in no image; it counts again."""
        account.end = None
        self._tidy()

    def forget(self, name: str) -> None:
        """Drop a consumer."""
        if name not in self.accounts:
            raise RequestError(f"the tracker has no consumer {name!r}")
        if self.accounts[name].end is not None:
            raise RequestError(f"consumer {name!r} has an open generation; end that first")
        del self.accounts[name]
        self._tidy()

    def distrust(self, reason: str) -> None:
        """Withdraw the trust of all consumers until each has its next image."""
        self.distrusts += 1
        for account in self.accounts.values():
            account.doubt = reason
        self._tidy()

    def resize(self, size: int) -> None:
        """The disk has another size in bytes."""
        self._size = size
        for account in self.accounts.values():
            account.watched = min(account.watched, size)
            account.watched_next = min(account.watched_next, size)

    def kept(self) -> tuple[list[Consumer], list[FrozenChunks]]:
        """Return all that a file must keep; marks after open generations count again then."""
        numbers = sorted(self._frozen)
        segments = [self._frozen[number] for number in numbers]
        consumers = [
            Consumer(
                name, each.since, each.watched, sum(n < each.start for n in numbers), each.doubt
            )
            for name, each in self.accounts.items()
        ]
        return consumers, [*segments, self.active] if self.active else segments

    def _admitted(self, name: str) -> Account:
        try:
            length = len(name.encode())
        except UnicodeEncodeError:
            length = 0
        if not 1 <= length <= NAME_MAX:
            raise RequestError(
                f"a consumer's name has 1 to {NAME_MAX} bytes of UTF-8, not {name!r}"
            )
        if len(self.accounts) == CONSUMERS_MAX:
            raise RequestError(f"the tracker has {CONSUMERS_MAX} consumers; forget one first")
        account = self.accounts[name] = Account(
            None, self._number, self._size, self._size, self._doubt
        )
        return account

    def _freeze(self) -> None:
        if self.active:
            self._frozen[self._number] = self.active
            self._number += 1
            self.active = {}

    def _tidy(self) -> None:
        """Drop the segments that no consumer counts, and join those that none distinguishes."""
        accounts = self.accounts.values()
        needed = {each.start for each in accounts if each.trusted}
        needed |= {each.end for each in accounts if each.end is not None}
        lowest = min(needed, default=self._number)
        groups: dict[int, list[int]] = {}
        for number in sorted(self._frozen):
            if number >= lowest:
                groups.setdefault(max(n for n in needed if n <= number), []).append(number)
        self._frozen = {
            group[0]: merged([self._frozen[n] for n in group])
            if len(group) > 1
            else self._frozen[group[0]]
            for group in groups.values()
        }
