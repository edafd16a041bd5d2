"""SQL statements that keep exposure limits on a distributed table. Each works on one quote, or on one pair.

A pair is a caller and a currency. Its row of ``exposure`` and its entries are on one node, by the caller. A transaction
locks the row of a pair first, then one quote after the other, as an execution or a release locks one quote.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

import asyncpg

from chassis.database import Connection
from chassis.errors import UnavailableError
from dfsp_api.distributed_repository import (
    INSERT,
    LOCK_ONE,
    SELECT,
    TIME,
    DistributedRepository,
    for_each,
    insert_arguments,
)
from dfsp_api.exposure_limits import Exposure, ExposureLimits, ExposureRefusal, Pair
from dfsp_api.exposure_repository import EXPOSURES_AT, ExposureRepository, exposures_of
from dfsp_api.exposures import pair_of
from dfsp_api.repository import MAX_TRIES, NewQuote, PaymentOrder, ReleaseOrder, Reserved, quotes_by_uuid
from dfsp_api.stored_quote import QuoteEvent, StoredQuote

ADD_PAIR: Final = "INSERT INTO exposure (caller, currency_code) VALUES ($1, $2) ON CONFLICT DO NOTHING"
LOCK_PAIR: Final = """
SELECT sum, count FROM exposure WHERE caller = $1 AND currency_code = $2 FOR UPDATE
"""
TAKE_OFF: Final = """
WITH ended AS (
    DELETE FROM exposure_entry
    WHERE caller = $1 AND currency_code = $2 AND until <= $3 RETURNING amount
)
SELECT coalesce(sum(amount), 0) AS sum, count(*) AS count FROM ended
"""
ENTER: Final = """
INSERT INTO exposure_entry (caller, currency_code, until, uuid, amount) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING uuid
"""
SET_PAIR: Final = """
UPDATE exposure SET sum = $3, count = $4 WHERE caller = $1 AND currency_code = $2
"""
FREE: Final = """
UPDATE exposure_entry SET until = '-infinity'
WHERE caller = $1 AND currency_code = $2 AND until = $3 AND uuid = $4
"""
OPEN: Final = """
SELECT uuid FROM quote
WHERE caller = $1 AND request->>'currencyCode' = $2 AND expires > $3 AND executed IS NULL AND released IS NULL
"""
ENTERED: Final = """
SELECT uuid, until FROM exposure_entry WHERE caller = $1 AND currency_code = $2 AND until > $3
"""
SUM_ENTRIES: Final = """
SELECT coalesce(sum(amount), 0) AS sum, count(*) AS count FROM exposure_entry WHERE caller = $1 AND currency_code = $2
"""

STATEMENTS: Final = {
    ADD_PAIR: "exposure_pairs",
    LOCK_PAIR: "exposure_lock",
    TAKE_OFF: "exposure_take_off",
    ENTER: "exposure_enter",
    SET_PAIR: "exposure_set",
    FREE: "exposure_free",
    OPEN: "exposure_open",
    ENTERED: "exposure_entered",
    SUM_ENTRIES: "exposure_count",
    EXPOSURES_AT: "exposures",
}
"""Name of each statement, for metrics."""


class LimitedDistributedRepository(ExposureRepository, DistributedRepository):
    """The table ``quote``, row by row, with exposure limits."""

    async def _reserve_limited(
        self, quotes: Sequence[NewQuote], deadline: float | None
    ) -> Mapping[UUID, Reserved]:
        """Reserve the quotes of each pair in one transaction."""
        by_pair: dict[Pair, list[NewQuote]] = {}
        for new in quotes:
            by_pair.setdefault(pair_of(new), []).append(new)
        reserve = partial(self._reserve_pair, deadline=deadline)
        found: dict[UUID, Reserved] = {}
        for outcomes in await for_each(reserve, by_pair.items()):
            found.update(outcomes)
        return found

    async def _reserve_pair(
        self, group: tuple[Pair, Sequence[NewQuote]], deadline: float | None
    ) -> Mapping[UUID, Reserved]:
        """Reserve the quotes of one pair."""
        pair, quotes = group

        async def work(limits: ExposureLimits, connection: Connection) -> dict[UUID, Reserved] | None:
            row = await connection.fetchrow(LOCK_PAIR, *pair)
            if row is None:
                return None
            book = _Book(pair, row)
            found: dict[UUID, Reserved] = {}
            for new in quotes:
                outcome = await self._reserve_in(connection, new, limits, book)
                if isinstance(outcome, StoredQuote) or new.uuid not in found:
                    found[new.uuid] = outcome
            await book.write(connection)
            return found

        for _ in range(MAX_TRIES):
            await self.exposures.count([pair], deadline)
            limits = self.exposures.limits
            if limits.of(*pair) is None:  # the limit has gone meanwhile
                return await self.reserve(quotes, deadline)
            try:
                found = await self._database.transaction(partial(work, limits), deadline=deadline)
            except _LostRaceError:
                continue
            if found is not None:
                return found
            self.exposures.forget()
        raise UnavailableError(cause="a quote was neither inserted nor found nor refused")

    async def _reserve_in(
        self, connection: Connection, new: NewQuote, limits: ExposureLimits, book: "_Book"
    ) -> Reserved:
        """Reserve a quote in the transaction that has locked the row of its pair."""
        time = await connection.fetchrow(TIME, self.lifetime_of(new))
        assert time is not None  # noqa: S101 - a SELECT of one row
        self.require_same_namespace(new, time["namespace"])
        stored = quotes_by_uuid(await connection.fetch(SELECT, new.uuid, time["at"], new.caller))
        if new.uuid in stored:
            return stored[new.uuid]
        limit = limits.of(*book.pair)
        amount = new.terms.source_amount
        if limit is not None and not book.exposure.fits(limit, amount):
            await book.take_off(connection, time)
            if not book.exposure.fits(limit, amount):
                return ExposureRefusal(limit, book.exposure)
        arguments = insert_arguments(new, time["in_milliseconds"], time["later"])
        rows = await connection.fetch(INSERT, *arguments)
        if not rows:  # a payee without the limit has stored the quote in the meantime
            raise _LostRaceError
        await self.log(connection, new.uuid, QuoteEvent.RESERVED, time["in_milliseconds"])
        await connection.fetch(ENTER, *book.pair, time["later"], new.uuid, amount)
        book.exposure = book.exposure.with_quote(amount)
        return quotes_by_uuid(rows)[new.uuid]

    async def execute(
        self, payments: Sequence[PaymentOrder], deadline: float | None = None
    ) -> dict[UUID, StoredQuote]:
        if self.exposures.limits.has_any_of(each.caller for each in payments):
            return await super().execute(payments, deadline)
        with self.exposures.without_entries():
            return await super().execute(payments, deadline)

    async def release(
        self, orders: Sequence[ReleaseOrder], deadline: float | None = None
    ) -> dict[UUID, StoredQuote]:
        if self.exposures.limits.has_any_of(each.caller for each in orders):
            return await super().release(orders, deadline)
        with self.exposures.without_entries():
            return await super().release(orders, deadline)

    async def _changed(self, connection: Connection, row: asyncpg.Record) -> None:
        (quote,) = quotes_by_uuid([row]).values()
        if quote.request is not None and self.exposures.limits.has_any_of([quote.caller]):
            await connection.fetch(
                FREE, quote.caller, quote.request["currencyCode"], quote.expires, quote.uuid
            )

    async def exposures_now(self, deadline: float | None = None) -> dict[Pair, Exposure]:
        (time,) = await self._database.fetch(TIME, timedelta(), deadline=deadline)
        return exposures_of(await self._database.fetch(EXPOSURES_AT, time["at"], deadline=deadline))

    async def tidy(self) -> bool:
        """Remove the ended entries of pairs without new reservations. Always return False: none are left."""
        await for_each(self._tidy_pair, await self.exposures_now())
        return False

    async def _tidy_pair(self, pair: Pair) -> None:
        async def work(connection: Connection) -> None:
            row = await connection.fetchrow(LOCK_PAIR, *pair)
            if row is not None:
                book = _Book(pair, row)
                time = await connection.fetchrow(TIME, timedelta())
                assert time is not None  # noqa: S101 - a SELECT of one row
                await book.take_off(connection, time)
                await book.write(connection)

        await self._database.transaction(work)

    async def _count_open(self, pairs: Sequence[Pair]) -> None:
        await for_each(self._count_pair, pairs)

    async def _count_pair(self, pair: Pair) -> None:
        await self._database.fetch(ADD_PAIR, *pair)
        (time,) = await self._database.fetch(TIME, timedelta())
        is_open = {row["uuid"] for row in await self._database.fetch(OPEN, *pair, time["at"])}
        is_entered = {row["uuid"] for row in await self._database.fetch(ENTERED, *pair, time["at"])}
        # a payee without the limit may have reserved a quote without an entry, or executed one and left its entry
        await for_each(partial(self._count_quote, pair), is_open ^ is_entered)

        async def work(connection: Connection) -> None:
            await connection.fetchrow(LOCK_PAIR, *pair)
            row = await connection.fetchrow(SUM_ENTRIES, *pair)
            assert row is not None  # noqa: S101 - a SELECT of one row
            await connection.fetch(SET_PAIR, *pair, row["sum"], row["count"])

        await self._database.transaction(work)

    async def _count_quote(self, pair: Pair, uuid: UUID) -> None:
        """Insert the entry of an open quote, or mark the entry of a quote that has ended."""

        async def work(connection: Connection) -> None:
            await connection.fetchrow(LOCK_PAIR, *pair)
            await connection.fetchval(LOCK_ONE, uuid, pair[0])
            (time,) = await connection.fetch(TIME, timedelta())
            (quote,) = quotes_by_uuid(await connection.fetch(SELECT, uuid, time["at"], pair[0])).values()
            if quote.state == "RESERVED":
                await connection.fetch(ENTER, *pair, quote.expires, uuid, quote.source_amount)
            else:
                await connection.fetch(FREE, *pair, quote.expires, uuid)

        await self._database.transaction(work)


class _Book:
    """The row of a pair in ``exposure``, which this transaction has locked."""

    def __init__(self, pair: Pair, row: asyncpg.Record) -> None:
        self.pair = pair
        self.exposure = Exposure(row["sum"], row["count"])

    async def take_off(self, connection: Connection, time: asyncpg.Record) -> None:
        """Delete the entries of quotes that have ended, and subtract them from the exposure."""
        (ended,) = await connection.fetch(TAKE_OFF, *self.pair, time["at"])
        self.exposure = Exposure(self.exposure.sum - ended["sum"], self.exposure.count - ended["count"])

    async def write(self, connection: Connection) -> None:
        await connection.fetch(SET_PAIR, *self.pair, self.exposure.sum, self.exposure.count)


class _LostRaceError(Exception):
    """Another payee has stored the quote between two statements. The transaction begins again."""
