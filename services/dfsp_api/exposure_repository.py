"""SQL statements that keep exposure limits (docs/exposures.md). Quotes without a limit use those of repository.py.

A batch of quotes with limits costs one statement. It locks the rows of its pairs of caller and currency in the table
``exposure``, so that concurrent reservations wait, also those of other payees. Its cost does not grow with the number
of reserved quotes: it reads and removes only the entries of quotes that have ended.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from chassis.database import Connection, Database
from chassis.errors import UnavailableError
from dfsp_api.expiry import CLOCK
from dfsp_api.exposure_limits import Exposure, ExposureLimits, ExposureRefusal, Pair
from dfsp_api.exposures import Exposures, pair_of
from dfsp_api.repository import (
    COLUMNS,
    EXECUTE,
    LOGGED_EXECUTE,
    LOGGED_RELEASE,
    MAX_TRIES,
    NAMESPACE,
    RELEASE,
    NewQuote,
    QuoteOfCaller,
    Repository,
    Reserved,
    common_namespace,
    log_of,
    quotes_by_uuid,
    request_text,
)
from dfsp_api.stored_quote import QuoteEvent, StoredQuote


# Without ON CONFLICT: the function leaves out the quotes that are stored. If a payee without the limit stores one of them
# at the same moment, the statement fails as a whole, the counts of the function too, and is tried again.
def _insert_within_limits(further: str) -> str:
    return f"""
WITH admitted AS MATERIALIZED (
    SELECT * FROM admit_to_exposure($1, $2, $3, $4, $5, $6, $7, $8, $9)
), inserted AS (
    INSERT INTO quote (uuid, caller, operation, fingerprint, request, source_amount, destination_amount,
        created, expires, schedule, lifetime_ms)
    SELECT i.uuid, ($2::text[])[i.pair], i.operation, i.fingerprint, i.request::json, i.source_amount,
        i.destination_amount, a.created, a.expires, i.schedule, i.lifetime_ms
    FROM unnest($6::uuid[], $7::int[], $8::numeric[], $10::text[], $11::bytea[], $12::text[], $13::numeric[],
        $14::bigint[], $15::bigint[]) WITH ORDINALITY
        AS i (uuid, pair, source_amount, operation, fingerprint, request, destination_amount, schedule, lifetime_ms, item)
    JOIN admitted AS a ON a.item = i.item
    WHERE a.is_admitted
    ORDER BY i.uuid
    RETURNING {COLUMNS}, false AS is_expired
), entries AS (
    INSERT INTO exposure_entry (caller, currency_code, until, uuid, amount)
    SELECT caller, request->>'currencyCode', expires, uuid, source_amount FROM inserted
){further}
SELECT a.item, a.is_admitted, a.sum_before, a.count_before, i.*
FROM admitted AS a LEFT JOIN inserted AS i ON a.is_admitted AND i.uuid = ($6::uuid[])[a.item]
"""


INSERT_WITHIN_LIMITS: Final = _insert_within_limits("")
LOGGED_INSERT_WITHIN_LIMITS: Final = _insert_within_limits(
    f", {log_of('inserted', QuoteEvent.RESERVED, 'created')}"
)


def _freeing(statement: str, further: str = "") -> str:
    """Return a statement that executes or releases quotes, with the end of their entries."""
    return f"""
WITH changed AS ({statement}), freed AS (
    SELECT free_exposure(array_agg(caller), array_agg(request->>'currencyCode'), array_agg(expires), array_agg(uuid))
        AS done
    FROM changed
){further}
SELECT changed.* FROM changed, freed WHERE freed.done = 0
"""


EXECUTE_AND_FREE: Final = _freeing(EXECUTE)
RELEASE_AND_FREE: Final = _freeing(RELEASE)
LOGGED_EXECUTE_AND_FREE: Final = _freeing(EXECUTE, f", {log_of('changed', QuoteEvent.EXECUTED, 'executed')}")
LOGGED_RELEASE_AND_FREE: Final = _freeing(RELEASE, f", {log_of('changed', QuoteEvent.RELEASED, 'released')}")
FREEING: Final = {
    EXECUTE: EXECUTE_AND_FREE,
    RELEASE: RELEASE_AND_FREE,
    LOGGED_EXECUTE: LOGGED_EXECUTE_AND_FREE,
    LOGGED_RELEASE: LOGGED_RELEASE_AND_FREE,
}

ADD_PAIRS: Final = """
INSERT INTO exposure (caller, currency_code)
SELECT caller, currency_code FROM unnest($1::text[], $2::text[]) AS p (caller, currency_code)
ORDER BY caller, currency_code
ON CONFLICT DO NOTHING
"""
LOCK_PAIRS: Final = """
SELECT FROM exposure WHERE (caller, currency_code) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY caller, currency_code FOR NO KEY UPDATE
"""
# FOR SHARE: this statement waits for executions in progress, because they have locked their quotes.
ENTER_OPEN: Final = f"""
INSERT INTO exposure_entry (caller, currency_code, until, uuid, amount)
SELECT caller, request->>'currencyCode', expires, uuid, source_amount FROM (
    SELECT * FROM quote
    WHERE caller = ANY($1::text[]) AND expires > (SELECT {CLOCK}) AND executed IS NULL AND released IS NULL
        AND request IS NOT NULL
        AND (caller, request->>'currencyCode') IN (SELECT * FROM unnest($1::text[], $2::text[]))
        AND NOT EXISTS (
            SELECT FROM exposure_entry AS e
            WHERE e.caller = quote.caller AND e.currency_code = quote.request->>'currencyCode'
                AND e.until = quote.expires AND e.uuid = quote.uuid
        )
    ORDER BY uuid FOR SHARE
) AS missing
"""
FREE_ENDED: Final = """
UPDATE exposure_entry AS e SET until = '-infinity' FROM quote
WHERE (e.caller, e.currency_code) IN (SELECT * FROM unnest($1::text[], $2::text[])) AND e.until > '-infinity'
    AND quote.uuid = e.uuid AND (quote.executed IS NOT NULL OR quote.released IS NOT NULL)
"""
COUNT_ENTRIES: Final = """
UPDATE exposure SET swept_until = '-infinity', sum = counted.sum, count = counted.count
FROM unnest($1::text[], $2::text[]) AS p (caller, currency_code), LATERAL (
    SELECT coalesce(sum(amount), 0) AS sum, count(*) AS count FROM exposure_entry AS e
    WHERE e.caller = p.caller AND e.currency_code = p.currency_code
) AS counted
WHERE exposure.caller = p.caller AND exposure.currency_code = p.currency_code
"""

_EXPOSURES: Final = """
SELECT e.caller, e.currency_code, e.sum - ended.sum AS sum, e.count - ended.count AS count
FROM exposure AS e, LATERAL (
    SELECT coalesce(sum(amount), 0) AS sum, count(*) AS count FROM (
        SELECT o.amount FROM exposure_entry AS o
        WHERE o.caller = e.caller AND o.currency_code = e.currency_code AND o.until = '-infinity'
        UNION ALL
        SELECT o.amount FROM exposure_entry AS o
        WHERE o.caller = e.caller AND o.currency_code = e.currency_code AND o.until > e.swept_until AND o.until <= {}
    ) AS o
) AS ended
"""
EXPOSURES: Final = _EXPOSURES.format(f"(SELECT {CLOCK})")
EXPOSURES_AT: Final = _EXPOSURES.format("$1")

# Removes ended entries of pairs that reserve nothing. The functions for reservations do not depend on it.
TIDY: Final = f"""
WITH pair AS MATERIALIZED (
    SELECT caller, currency_code FROM exposure WHERE count > 0
    ORDER BY caller, currency_code FOR NO KEY UPDATE SKIP LOCKED
), ended AS (
    DELETE FROM exposure_entry AS e WHERE e.ctid = ANY (ARRAY(
        SELECT o.ctid FROM pair JOIN exposure_entry AS o USING (caller, currency_code)
        WHERE o.until <= (SELECT {CLOCK})
        LIMIT $1 FOR UPDATE OF o SKIP LOCKED
    ))
    RETURNING e.caller, e.currency_code, e.amount
), removed AS (
    SELECT caller, currency_code, sum(amount) AS sum, count(*) AS count FROM ended GROUP BY caller, currency_code
), counted AS (
    UPDATE exposure SET sum = exposure.sum - removed.sum, count = exposure.count - removed.count FROM removed
    WHERE exposure.caller = removed.caller AND exposure.currency_code = removed.currency_code
)
SELECT coalesce(sum(count), 0)::bigint AS count FROM removed
"""
TIDY_ROWS: Final = 500

STATEMENTS: Final = {
    INSERT_WITHIN_LIMITS: "reserve_limited",
    EXECUTE_AND_FREE: "execute_limited",
    RELEASE_AND_FREE: "release_limited",
    LOGGED_INSERT_WITHIN_LIMITS: "reserve_limited",
    LOGGED_EXECUTE_AND_FREE: "execute_limited",
    LOGGED_RELEASE_AND_FREE: "release_limited",
    ADD_PAIRS: "exposure_pairs",
    LOCK_PAIRS: "exposure_lock",
    ENTER_OPEN: "exposure_enter",
    FREE_ENDED: "exposure_free",
    COUNT_ENTRIES: "exposure_count",
    EXPOSURES: "exposures",
    TIDY: "exposure_tidy",
}
"""Name of each statement, for metrics."""


class ExposureRepository(Repository):
    """The parts that the repositories with exposure limits have in common."""

    def __init__(self, database: Database, lifetime: timedelta, *, is_audited: bool = False) -> None:
        super().__init__(database, lifetime, is_audited=is_audited)
        self.exposures = Exposures(self._count_open, self.exposures_now)

    async def reserve(
        self, quotes: Sequence[NewQuote], deadline: float | None = None
    ) -> Mapping[UUID, Reserved]:
        """Reserve quotes. If a quote would exceed a limit, its outcome is an ExposureRefusal.

        The quotes of one pair of caller and currency are decided in the order of `quotes`.
        """
        limited, others = self.exposures.split(quotes)
        found: dict[UUID, Reserved] = {}
        if others:
            with self.exposures.without_entries():
                found.update(await super().reserve(others, deadline))
        if limited:
            found.update(await self._reserve_limited(limited, deadline))
        return found

    async def exposures_now(self, deadline: float | None = None) -> dict[Pair, Exposure]:
        """Return the exposures that are counted, by the database's clock."""
        raise NotImplementedError

    async def tidy(self) -> bool:
        """Remove entries of quotes that have ended. Return whether more may be left."""
        raise NotImplementedError

    async def _reserve_limited(
        self, quotes: Sequence[NewQuote], deadline: float | None
    ) -> Mapping[UUID, Reserved]:
        """Reserve quotes that have a limit."""
        raise NotImplementedError

    async def _count_open(self, pairs: Sequence[Pair]) -> None:
        """Insert missing entries of the pairs' reserved quotes, and mark entries of quotes that have ended."""
        raise NotImplementedError

    async def _read_namespace(self, connection: Connection) -> None:
        before = self._namespace
        await super()._read_namespace(connection)
        if self._namespace != before:
            self.exposures.forget()


class LimitedRepository(ExposureRepository):
    """The table ``quote``, with exposure limits."""

    async def _reserve_limited(
        self, quotes: Sequence[NewQuote], deadline: float | None
    ) -> dict[UUID, Reserved]:
        found: dict[UUID, Reserved] = {}
        left = quotes
        for _ in range(MAX_TRIES):
            await self.exposures.count(map(pair_of, left), deadline)
            limits = self.exposures.limits
            if any(limits.of(*pair_of(each)) is None for each in left):  # the limit has gone meanwhile
                return {**found, **await self.reserve(left, deadline)}
            rows = await self._insert_within_limits(left, limits, deadline)
            for item, is_admitted, sum_, count, *row in rows:
                new = left[item - 1]
                if is_admitted:
                    found.update(quotes_by_uuid([row]))
                elif limit := limits.of(*pair_of(new)):
                    found.setdefault(new.uuid, ExposureRefusal(limit, Exposure(sum_, count)))
            left = [each for each in left if each.uuid not in found]
            if left:
                found.update(await self.find(left, deadline))
                left = [each for each in left if each.uuid not in found]
            if not left:
                return found
            for secret in await self._database.fetch(NAMESPACE, deadline=deadline):
                self.require_same_namespace(left[0], secret["secret"])
            self.exposures.forget()  # the rows of the pairs may be missing
        raise UnavailableError(cause="a quote was neither inserted nor found nor refused")

    async def _insert_within_limits(
        self, quotes: Sequence[NewQuote], limits: ExposureLimits, deadline: float | None
    ) -> Sequence[asyncpg.Record]:
        pairs = list(dict.fromkeys(map(pair_of, quotes)))
        of_pairs = [limits.of(*pair) for pair in pairs]
        try:
            return await self._database.fetch(
                LOGGED_INSERT_WITHIN_LIMITS if self.is_audited else INSERT_WITHIN_LIMITS,
                common_namespace(quotes),
                [caller for caller, _ in pairs],
                [currency for _, currency in pairs],
                [limit and limit.sum for limit in of_pairs],
                [limit and limit.count for limit in of_pairs],
                [each.uuid for each in quotes],
                [pairs.index(pair_of(each)) + 1 for each in quotes],
                [each.terms.source_amount for each in quotes],
                [self.lifetime_of(each) for each in quotes],
                [each.operation for each in quotes],
                [each.fingerprint for each in quotes],
                [request_text(each) for each in quotes],
                [each.terms.destination_amount for each in quotes],
                [each.schedule for each in quotes],
                [each.lifetime_ms for each in quotes],
                deadline=deadline,
            )
        except asyncpg.UniqueViolationError:
            return []

    async def _change(
        self,
        statement: str,
        orders: Sequence[QuoteOfCaller],
        arguments: Sequence[object],
        deadline: float | None,
    ) -> dict[UUID, StoredQuote]:
        if self.exposures.limits.has_any_of(each.caller for each in orders):
            return await super()._change(FREEING[statement], orders, arguments, deadline)
        with self.exposures.without_entries():
            return await super()._change(statement, orders, arguments, deadline)

    async def exposures_now(self, deadline: float | None = None) -> dict[Pair, Exposure]:
        return exposures_of(await self._database.fetch(EXPOSURES, deadline=deadline))

    async def tidy(self) -> bool:
        """Remove a small batch of ended entries. Return whether more may be left."""
        rows = await self._database.fetch(TIDY, TIDY_ROWS)
        return bool(rows[0]["count"] >= TIDY_ROWS)

    async def _count_open(self, pairs: Sequence[Pair]) -> None:
        arguments = [caller for caller, _ in pairs], [currency for _, currency in pairs]

        async def work(connection: Connection) -> None:
            for statement in (ADD_PAIRS, LOCK_PAIRS, ENTER_OPEN, FREE_ENDED, COUNT_ENTRIES):
                await connection.fetch(statement, *arguments)

        await self._database.transaction(work)


def exposures_of(rows: Sequence[asyncpg.Record]) -> dict[Pair, Exposure]:
    return {(row["caller"], row["currency_code"]): Exposure(row["sum"], row["count"]) for row in rows}
