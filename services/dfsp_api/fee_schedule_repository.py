"""The table ``fee_schedule``: every fee schedule that has priced a quote (wire.md §9)."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final, TypeVar

import asyncpg
import orjson
from msgspec.structs import replace

from chassis.database import Connection, Database
from chassis.errors import UnavailableError
from dfsp_api.fee_schedule_file import FeeScheduleError, fee_schedule_of
from dfsp_api.fee_schedule_record import StoredFeeSchedule, canonical_form
from dfsp_api.pricing import FeeSchedule
from dfsp_api.stored_quote import StoredQuote

MAX_CACHED: Final = 64

K = TypeVar("K")

# Citus evaluates now() before it sends the statement to the nodes, but refuses clock_timestamp().
STORE: Final = """
INSERT INTO fee_schedule (number, id, rules) VALUES ($1, $2, $3::json) ON CONFLICT (number) DO NOTHING
"""
STORED: Final = """
SELECT id, since, (SELECT secret FROM namespace) AS namespace FROM fee_schedule WHERE number = $1
"""
SELECT: Final = "SELECT number, since, rules FROM fee_schedule WHERE number = ANY($1::bigint[])"
NUMBERS: Final = "SELECT number FROM fee_schedule WHERE number = ANY($1::bigint[])"

STATEMENTS: Final = {STORE: "store_fees", STORED: "find_fees", SELECT: "find_fees"}
"""Names of the statements, for metrics."""


class FeeScheduleRepository:
    """Stores and finds fee schedules. It remembers the last MAX_CACHED ones: a row of the table never changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stored: set[tuple[bytes, int]] = set()
        self._cached: OrderedDict[int, StoredFeeSchedule] = OrderedDict()
        database.on_connect(self._forget_lost)

    def is_stored(self, schedule: FeeSchedule, namespace: bytes) -> bool:
        """Whether the schedule is known to be in the database that has this secret."""
        return (namespace, schedule.number) in self._stored

    async def store(self, schedule: FeeSchedule, deadline: float | None = None) -> StoredFeeSchedule:
        """Store the schedule, unless it is there. Raises the errors of Database.fetch, UnavailableError."""
        number, rules = schedule.number, canonical_form(schedule.rules).decode()

        async def work(connection: Connection) -> StoredFeeSchedule:
            await connection.execute(STORE, number, schedule.id, rules)
            row = await connection.fetchrow(STORED, number)
            if row is None or row["id"] != schedule.id:
                raise UnavailableError(cause="another fee schedule has the same number")
            if len(self._stored) >= MAX_CACHED:
                self._stored.clear()
            self._stored.add((bytes(row["namespace"]), number))
            return self._remember(StoredFeeSchedule(schedule, row["since"]))

        return await self._database.use(work, deadline=deadline)

    def known(self, number: int) -> StoredFeeSchedule | None:
        """Return the schedule with this number if it is in the cache."""
        found = self._cached.get(number)
        if found is not None:
            self._cached.move_to_end(number)
        return found

    async def find(
        self, numbers: Collection[int], deadline: float | None = None
    ) -> dict[int, StoredFeeSchedule]:
        """Return the schedules with these numbers, from the cache or the database.

        Raises the errors of Database.fetch.
        """
        found: dict[int, StoredFeeSchedule] = {}
        left = []
        for number in numbers:
            known = self.known(number)
            if known is None:
                left.append(number)
            else:
                found[number] = known
        if left:
            for row in await self._database.fetch(SELECT, left, deadline=deadline):
                # one that this version would refuse, say because a currency is no longer in ISO 4217, explains nothing
                with suppress(FeeScheduleError):
                    schedule = fee_schedule_of({"rule": orjson.loads(row["rules"])})
                    found[row["number"]] = self._remember(StoredFeeSchedule(schedule, row["since"]))
        return found

    async def explain(
        self, quotes: Mapping[K, StoredQuote], deadline: float | None = None
    ) -> dict[K, StoredQuote]:
        """Return the quotes with their fee schedules. Raises the errors of Database.fetch."""
        numbers = {quote.schedule for quote in quotes.values() if quote.schedule is not None}
        found = await self.find(numbers, deadline)
        return {
            key: replace(quote, fees=found[quote.schedule].schedule) if quote.schedule in found else quote
            for key, quote in quotes.items()
        }

    async def _forget_lost(self, connection: Connection) -> None:
        """Forget the schedules that the database of a new connection does not have, so that they are stored again.

        A database that took over from a failed one, or was restored, may lack the last schedules.
        """
        noted = {number for _, number in self._stored}
        if not noted:
            return
        try:
            present = {row["number"] for row in await connection.fetch(NUMBERS, list(noted))}
        except asyncpg.UndefinedTableError:  # not migrated yet
            present = set()
        lost = noted - present
        self._stored = {each for each in self._stored if each[1] not in lost}

    def _remember(self, stored: StoredFeeSchedule) -> StoredFeeSchedule:
        self._cached[stored.schedule.number] = stored
        self._cached.move_to_end(stored.schedule.number)
        while len(self._cached) > MAX_CACHED:
            self._cached.popitem(last=False)
        return stored
