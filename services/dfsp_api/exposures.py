"""The exposure limits in force, and the pairs of caller and currency whose reserved quotes are counted.

Quotes that were reserved without a limit have no entries in the table ``exposure_entry``. So before a payee uses the
limit of a pair for the first time, it counts the pair's quotes in the table ``quote``. At that time, the payee may
still execute statements that began before the new limit and write no entries. The count waits until these statements
have ended. So a payee that has loaded a limit has an entry for each of its quotes. When all payees of a database
have loaded the limit, every quote has an entry.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from chassis.errors import UpstreamTimeoutError
from chassis.users import key_of
from dfsp_api.exposure_limits import ExposureLimits, Pair
from dfsp_api.repository import NewQuote


class Exposures:
    """Decides which quotes of a batch have a limit, and makes sure that their pairs are counted."""

    def __init__(
        self,
        count_open: Callable[[Sequence[Pair]], Awaitable[None]],
        known_pairs: Callable[[], Awaitable[Iterable[Pair]]],
    ) -> None:
        """`count_open` inserts missing entries of the pairs' reserved quotes, and marks entries of ended quotes.

        `known_pairs` returns the pairs that any payee has counted.
        """
        self._count_open = count_open
        self._known_pairs = known_pairs
        self.limits = ExposureLimits()
        self._counted: set[Pair] = set()
        self._wanted: set[Pair] = set()
        self._counting: asyncio.Task[None] | None = None
        self._era = _Era()

    def use(self, limits: ExposureLimits) -> None:
        """Use other limits from now on. The pairs that are new will be counted before their next reservation."""
        self.limits = limits
        self._counted = {pair for pair in self._counted if limits.of(*pair) is not None}

    def forget(self) -> None:
        """Count all pairs again before their next reservation: the database has changed."""
        self._counted = set()

    def split(self, quotes: Sequence[NewQuote]) -> tuple[list[NewQuote], list[NewQuote]]:
        """Return the quotes that have a limit, and the others."""
        limited: list[NewQuote] = []
        others: list[NewQuote] = []
        for new in quotes:
            (others if self.limits.of(*pair_of(new)) is None else limited).append(new)
        return limited, others

    @contextmanager
    def without_entries(self) -> Iterator[None]:
        """A statement that writes no entries is in progress while this context lasts."""
        era = self._era
        era.in_progress += 1
        era.ended.clear()
        try:
            yield
        finally:
            era.in_progress -= 1
            if not era.in_progress:
                era.ended.set()

    def uncounted(self, pairs: Iterable[Pair]) -> set[Pair]:
        """Return the pairs that have a limit and are not counted yet."""
        return {pair for pair in pairs if pair not in self._counted and self.limits.of(*pair) is not None}

    async def count(self, pairs: Iterable[Pair], deadline: float | None = None) -> None:
        """Wait until the quotes of these pairs are counted. Raises the errors of Database.fetch."""
        pairs = list(pairs)
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                while missing := self.uncounted(pairs):
                    self._wanted |= missing
                    if self._counting is None or self._counting.done():
                        self._counting = asyncio.create_task(self._count())
                    # the count continues for the other callers if one of them is cancelled
                    await asyncio.shield(self._counting)
        except TimeoutError as error:
            raise UpstreamTimeoutError(cause="the reserved quotes were not counted in time") from error

    async def close(self) -> None:
        """Stop a count that is in progress."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait([self._counting])

    async def _count(self) -> None:
        pairs, self._wanted = self._wanted, set()
        counted = self._counted
        era, self._era = self._era, _Era()
        if era.in_progress:
            await era.ended.wait()
        pairs |= await self._written_otherwise(pairs)
        await self._count_open(sorted(pairs))
        counted.update(pairs)  # has no effect if the limits or the database have changed meanwhile

    async def _written_otherwise(self, pairs: Iterable[Pair]) -> set[Pair]:
        """Return the pairs that any payee has counted and that have the same callers and currencies as these pairs.

        The limits file may write an e-mail address in another case than the users file. Another payee may then have
        counted the pair of the users file, without the quotes that this payee has reserved.
        """
        keys = {(key_of(caller), currency) for caller, currency in pairs if "@" in caller}
        if not keys:
            return set()
        return {pair for pair in await self._known_pairs() if (key_of(pair[0]), pair[1]) in keys}


class _Era:
    """The statements that began between two counts."""

    def __init__(self) -> None:
        self.in_progress = 0
        self.ended = asyncio.Event()


def pair_of(new: NewQuote) -> Pair:
    return new.caller, new.request["currencyCode"]
