"""How many quotes are reserved, executed, released and expired: counted in the database, and shown by `/metrics`.

A quote never changes after its expiry. So the quotes that expired some minutes ago are counted once and for all
(*settled*), slice by slice, and only the later ones are counted again. The index for retention finds both. The result is
in the table ``quote_count``, so all replicas show the same numbers, and they take turns to count.

Counting adds no work to the statements that reserve, execute or release a quote, and stops while no client requests
`/metrics`. However large the table is, counting takes at most about a hundredth of the time of one connection: after a
count that took long, the next one is due later.

The statements work on a distributed table, too: they get the time as a parameter and lock nothing. If two replicas
settle the same slice at once, the condition on ``settled_until`` lets one of them win.
"""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.database import Database
from chassis.errors import QuotingError, UnavailableError
from dfsp_api.expiry import CLOCK

WAIT_SECONDS: Final = 0.5
"""Time for which a collection waits for a count. A longer count goes on, and a later collection shows it."""
MIN_AGE: Final = timedelta(seconds=2)
PAUSES: Final = 100
"""A count is due again after this many times the time that it took."""
MAX_PAUSE_SECONDS: Final = 600.0
"""Maximum pause after a count that failed."""
SETTLED_AFTER: Final = timedelta(minutes=2)
"""Time after its expiry from which a quote cannot change. A statement in progress at its expiry ends within a minute."""
SETTLE_EVERY: Final = timedelta(minutes=1)
FIRST_SLICE: Final = timedelta(hours=1)
MIN_SLICE: Final = timedelta(seconds=1)
MAX_SLICE: Final = timedelta(days=366)
SHORT_SECONDS: Final = 0.1
LONG_SECONDS: Final = 1.0
MAX_UNCOUNTED_SHARE: Final = 0.1
MAX_UNCOUNTED: Final = 100
RECOUNT_EVERY_SECONDS: Final = 60.0
"""Minimum time between two counts from the beginning. It is longer by PAUSES times the time that the last one took."""

STATES: Final = ("reserved", "executed", "released", "expired")

STATE: Final = f"""
SELECT settled_until, counted, seconds, reserved, executed, released, expired, swept_until, {CLOCK} AS now
FROM quote_count, retention
"""

SETTLED: Final = """
SELECT count(*) FILTER (WHERE executed IS NOT NULL) AS executed,
    count(*) FILTER (WHERE released IS NOT NULL) AS released,
    count(*) FILTER (WHERE executed IS NULL AND released IS NULL) AS expired
FROM quote WHERE expires >= $1 AND expires < $2
"""

SETTLE: Final = """
UPDATE quote_count SET settled_until = $2, settled_executed = settled_executed + $3,
    settled_expired = settled_expired + $4, settled_released = settled_released + $5
WHERE settled_until = $1
"""

LATER: Final = """
SELECT count(*) FILTER (WHERE executed IS NOT NULL) AS executed,
    count(*) FILTER (WHERE released IS NOT NULL) AS released,
    count(*) FILTER (WHERE executed IS NULL AND released IS NULL AND expires <= $2) AS expired,
    count(*) FILTER (WHERE executed IS NULL AND released IS NULL AND expires > $2) AS reserved
FROM quote WHERE expires >= $1
"""

COUNTED: Final = """
UPDATE quote_count SET reserved = $2, executed = settled_executed + $3, expired = settled_expired + $4,
    released = settled_released + $5, counted = $6, seconds = $7
WHERE settled_until = $1
"""

# The planner's estimate, and the statistics' one, which is newer but lost after a crash. Both are 0 at a coordinator of
# Citus, which has no rows.
ESTIMATE: Final = """
SELECT greatest(c.reltuples::bigint, s.n_live_tup, 0) AS rows
FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid = to_regclass('quote')
"""

RECOUNT: Final = """
UPDATE quote_count SET settled_until = '2000-01-01 00:00:00+00', settled_executed = 0, settled_expired = 0,
    settled_released = 0
WHERE settled_until = $1
"""

STATEMENTS: Final = {
    STATE: "count_state",
    SETTLED: "count_settled",
    SETTLE: "settle",
    LATER: "count_later",
    COUNTED: "counted",
    ESTIMATE: "count_estimate",
    RECOUNT: "recount",
}
"""Name of each statement, for metrics."""


class QuoteCounts(Collector):
    """The numbers of quotes by state."""

    def __init__(self, database: Database, retention: timedelta) -> None:
        """`retention` is the time after which retention reduces an expired quote."""
        self._database = database
        self._retention = retention
        self._state: asyncpg.Record | None = None
        self._slice = FIRST_SLICE
        self._not_before = 0.0
        self._next_recount = 0.0
        self._settling_seconds = 0.0
        self._counting: asyncio.Task[None] | None = None

    async def step(self) -> bool:
        """Count, or settle one slice, if that is due. Return whether more slices are left to settle."""
        began = time.monotonic()
        if began < self._not_before:
            return False
        try:
            return await self._step()
        except (QuotingError, asyncpg.PostgresError):
            # the readiness check reports a database that is away; a statement may have taken too long, too
            self._not_before = began + min(PAUSES * (time.monotonic() - began), MAX_PAUSE_SECONDS)
            return False

    async def _step(self) -> bool:
        state = await self._read_state()
        begin, final = state["settled_until"], state["now"] - SETTLED_AFTER
        if final - begin > SETTLE_EVERY:
            return await self._settle(begin, final)
        if state["counted"] is None or _is_due(state):
            await self._count(begin, state["now"])
            await self._recount_if_incomplete(begin)
        return False

    async def _settle(self, begin: datetime, final: datetime) -> bool:
        end = min(begin + self._slice, final)
        began = time.monotonic()
        (found,) = await self._database.fetch(SETTLED, begin, end)
        took = time.monotonic() - began
        self._settling_seconds += took
        if took < SHORT_SECONDS:
            self._slice = min(self._slice * 2, MAX_SLICE)
        elif took > LONG_SECONDS:
            self._slice = max(self._slice / 2, MIN_SLICE)
        await self._database.fetch(SETTLE, begin, end, found["executed"], found["expired"], found["released"])
        await asyncio.sleep(took)  # leaves half of the time to requests
        return True

    async def _count(self, begin: datetime, now: datetime) -> None:
        began = time.monotonic()
        (found,) = await self._database.fetch(LATER, begin, now)
        took = time.monotonic() - began
        await self._database.fetch(
            COUNTED,
            begin,
            found["reserved"],
            found["executed"],
            found["expired"],
            found["released"],
            now,
            took,
        )

    async def _recount_if_incomplete(self, begin: datetime) -> None:
        """Begin again if the table has many more quotes than were counted.

        They were written with an earlier expiry than those that are settled, for example copied from another database.
        Until all are counted, the earlier numbers are shown.
        """
        if time.monotonic() < self._next_recount + PAUSES * self._settling_seconds:
            return
        state = await self._read_state()
        counted = sum(state[name] for name in STATES)
        for row in await self._database.fetch(ESTIMATE):
            if row["rows"] > counted * (1 + MAX_UNCOUNTED_SHARE) + MAX_UNCOUNTED:
                self._next_recount = time.monotonic() + RECOUNT_EVERY_SECONDS
                self._settling_seconds = 0.0
                await self._database.fetch(RECOUNT, begin)

    async def _read_state(self) -> asyncpg.Record:
        rows = await self._database.fetch(STATE)
        if not rows:
            raise UnavailableError(cause="the table quote_count or retention has lost its row")
        return rows[0]

    async def measure(self) -> None:
        """Count if that is due, and read the numbers for the next collection. Raises the errors of Database.fetch."""
        self._state = None
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._count_all())
        await asyncio.wait([self._counting], timeout=WAIT_SECONDS)
        self._state = await self._read_state()

    async def close(self) -> None:
        """Stop a count that is in progress."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait([self._counting])

    async def _count_all(self) -> None:
        while await self.step():
            pass  # each step waits for the database, and then as long as that took

    def collect(self) -> Iterator[Metric]:
        quotes = GaugeMetricFamily("quotes", "Quotes by state", labels=["state"])
        counted = GaugeMetricFamily("quotes_counted_timestamp_seconds", "Time at which quotes were counted")
        swept = GaugeMetricFamily(
            "retention_swept_until_timestamp_seconds", "Expiry up to which retention is complete"
        )
        lag = GaugeMetricFamily("retention_lag_seconds", "Time by which retention is behind")
        state = self._state
        if state is not None:
            if state["counted"] is not None:
                for name in STATES:
                    quotes.add_metric([name], state[name])
                counted.add_metric([], state["counted"].timestamp())
            swept.add_metric([], state["swept_until"].timestamp())
            behind = state["now"] - self._retention - state["swept_until"]
            lag.add_metric([], max(behind.total_seconds(), 0.0))
        yield from (quotes, counted, swept, lag)


def _is_due(state: asyncpg.Record) -> bool:
    age = state["now"] - state["counted"]
    return bool(abs(age) >= max(MIN_AGE, timedelta(seconds=PAUSES * state["seconds"])))
