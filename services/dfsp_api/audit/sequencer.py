"""Adds the committed events to the tree and signs checkpoints. One payee at a time holds the lease for this work.

No request waits for the sequencer: the transaction that changes a quote leaves an event in ``audit_pending``, and the
sequencer turns events into leaves later. Each transaction of the sequencer renews the lease. So if two payees act as
the holder at the same time, only one of them can commit.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

import asyncpg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.database import Connection, Database
from chassis.errors import UnavailableError
from chassis.service import Service
from dfsp_api.audit import repository
from dfsp_api.audit.checkpoint import open_checkpoint, sign_checkpoint
from dfsp_api.audit.keys import AuditKeys
from dfsp_api.audit.note import NoteError
from dfsp_api.audit.outbox import TakeEvents
from dfsp_api.audit.repository import MAX_CHECKED, MAX_CONTENTS, Pending, SignedTree
from dfsp_api.audit.tiles import TileId, add_leaves, hash_of_range, last_tiles

LATE_SECONDS: Final = 10.0
"""Age from which an event without a leaf is a fault."""
KEEP_EVERY: Final = timedelta(minutes=1)
"""Time between two checkpoints that stay in the database."""
REMOVE_EVERY_SECONDS: Final = 60.0

LATE: Final = (
    f"events of quotes have waited for longer than {LATE_SECONDS:.0f} s to be added to the audit log"
)
MISSING: Final = "quotes were missing from the audit log and are added now"
LOST: Final = "events without a quote were not added to the audit log"


class _Search(NamedTuple):
    """A search in the table of quotes for events that have no leaf.

    ``lag`` is the minimum age of the quotes that it reads. ``created`` and ``uuid`` are the columns of ``audit_log`` with
    the position of the search, and ``store`` is the statement that stores the position.
    """

    lag: timedelta
    created: str
    uuid: str
    store: str


class Sequencer(Collector):
    """Adds leaves while it holds the lease. The holder's name is random."""

    def __init__(
        self,
        database: Database,
        keys: AuditKeys,
        take_events: TakeEvents,
        *,
        content_for: timedelta,
        longest_lifetime: timedelta,
        service: Service,
    ) -> None:
        """``take_events`` is the one for the kind of the database. ``content_for`` is the time for which leaves keep their content.

        ``longest_lifetime`` is the longest lifetime of a quote; after it a quote cannot change any more. ``service`` gets
        log lines, and shows a warning while events are late.
        """
        self._database = database
        self._keys = keys
        self._take_events = take_events
        self._content_for = content_for
        self._service = service
        self._report = service.logs.error
        self._holder = secrets.token_hex(8)
        self._searches = (
            _Search(timedelta(seconds=LATE_SECONDS), "checked_created", "checked_uuid", repository.CHECKED),
            _Search(
                longest_lifetime + timedelta(seconds=LATE_SECONDS),
                "settled_created",
                "settled_uuid",
                repository.SETTLED,
            ),
        )
        self._next_removal = 0.0
        self._waiting_seconds: float | None = None
        self._missing_found = 0
        self._leaves: int | None = None
        self._is_late = False

    async def step(self) -> bool:
        """Add some leaves, or search for missing ones. Return whether more is left to do.

        Raises the errors of Database.fetch.
        """
        (state,) = await self._database.fetch(repository.STATE)
        self._note_waiting(state)
        if state["holder"] != self._holder and state["is_leased"]:
            return False
        is_more = await self._database.transaction(partial(self._add, is_waiting=state["oldest"] is not None))
        if is_more is not False:
            return is_more is not None
        began = time.monotonic()
        is_more = await self._database.transaction(self._check)
        if began >= self._next_removal:
            is_left = await self._database.transaction(self._remove_content)
            self._next_removal = began if is_left else began + REMOVE_EVERY_SECONDS
            is_more |= is_left
        if is_more:  # so that requests get half of the time
            await asyncio.sleep(time.monotonic() - began)
        return is_more

    def _note_waiting(self, state: asyncpg.Record) -> None:
        oldest = state["oldest"]
        waiting = max((state["now"] - oldest).total_seconds(), 0.0) if oldest is not None else 0.0
        self._waiting_seconds = waiting
        was_late, self._is_late = self._is_late, waiting > LATE_SECONDS
        if self._is_late and not was_late:
            self._service.warnings["audit"] = LATE
            self._report(LATE, oldest=oldest.isoformat())
        elif was_late and not self._is_late:
            self._service.warnings.pop("audit", None)
            self._service.logs.info("the audit log is up to date")

    async def _add(self, connection: Connection, *, is_waiting: bool) -> bool | None:
        """Add leaves and sign the tree. Return whether more events wait; None if another payee has the lease.

        Raises UnavailableError if the tree is not the one that was signed last.
        """
        leased = await repository.lease(connection, self._holder)
        if leased is None:
            return None
        row, now = leased
        last = await repository.last_checkpoint(connection)
        if last is not None and not is_waiting:
            return False
        size = 0 if last is None else last.size
        tiles = await repository.tiles(connection, last_tiles(size))
        if last is not None:
            self._require_signed(last, tiles)
        taken = await self._take_events(connection, size)
        if taken.lost:
            self._report(LOST, count=len(taken.lost), first=taken.lost[0])
        if taken.hashes or last is None:
            changed = add_leaves(tiles, size, taken.hashes)
            await repository.store_tiles(connection, changed)
            root = hash_of_range({**tiles, **changed}, (0, size + taken.added))
            await self._sign(connection, last, size + taken.added, root, now, row["kept"])
        return taken.is_more

    def _require_signed(self, last: SignedTree, tiles: Mapping[TileId, bytes]) -> None:
        """Raise UnavailableError if the tree is not the one that a key of this log has signed last."""
        try:
            signed = open_checkpoint(last.note, self._keys.verifiers)
            root = hash_of_range(tiles, (0, last.size))
        except NoteError as error:
            raise UnavailableError(
                cause=f"the last checkpoint of the audit log cannot be used: {error}"
            ) from None
        except KeyError:
            raise UnavailableError(cause="the tree of the audit log has lost a part") from None
        if (signed.size, signed.root) != (last.size, root):
            raise UnavailableError(cause="the tree of the audit log is not the one that was signed last")

    async def _sign(
        self,
        connection: Connection,
        last: SignedTree | None,
        size: int,
        root: bytes,
        now: datetime,
        kept: datetime,
    ) -> None:
        is_kept = abs(now - kept) >= KEEP_EVERY  # the clock may have been set back
        if last is not None:
            await connection.execute(repository.REMOVE_CHECKPOINT, last.size)
        note = sign_checkpoint(self._keys.signer, size, root)
        await connection.execute(repository.ADD_CHECKPOINT, size, now, is_kept, note)
        if is_kept:
            await connection.execute(repository.KEPT, now)

    async def _check(self, connection: Connection) -> bool:
        """Add missing events for one slice of the table ``quote`` by each search. Return whether more slices are left.

        An event has no leaf if its quote is older than the audit log, if a payee without the key has written it, or if
        somebody has changed the tables by hand.
        """
        leased = await repository.lease(connection, self._holder)
        if leased is None:
            return False
        state, now = leased
        return any([await self._search(connection, search, state, now) for search in self._searches])

    async def _search(
        self, connection: Connection, search: _Search, state: asyncpg.Record, now: datetime
    ) -> bool:
        found = await repository.search(
            connection,
            state[search.created],
            state[search.uuid],
            now - search.lag,
            now - timedelta(seconds=LATE_SECONDS),
        )
        if found is None:
            return False
        missing = found.missing
        if missing:
            waiting = await repository.waiting_events(connection, [each.uuid for each in missing])
            missing = [each for each in missing if each.key not in waiting]
        await self._add_missing(connection, missing, state["began"], now)
        await connection.execute(search.store, found.created, found.uuid)
        return found.quotes == MAX_CHECKED

    async def _add_missing(
        self, connection: Connection, missing: Sequence[Pending], began: datetime, now: datetime
    ) -> None:
        if not missing:
            return
        late = [each for each in missing if each.at >= began]
        if late:
            self._missing_found += len(late)
            self._report(MISSING, count=len(late), first=str(late[0].uuid))
        await connection.execute(
            repository.ADD_PENDING,
            [each.uuid for each in missing],
            [each.event for each in missing],
            # events from before the log began do not count as late
            [each.at if each.at >= began else now for each in missing],
        )

    async def _remove_content(self, connection: Connection) -> bool:
        """Remove the contents of some old leaves. Return whether more are left."""
        leased = await repository.lease(connection, self._holder)
        if leased is None:
            return False
        row, now = leased
        first, end = (
            row["content_from"],
            await connection.fetchval(repository.LAST_SIGNED, now - self._content_for),
        )
        if end is None or end <= first:
            return False
        until = min(end, first + MAX_CONTENTS)
        await connection.execute(repository.REMOVE_CONTENT, first, until)
        await connection.execute(repository.CONTENT_FROM, until)
        return bool(until < end)

    async def measure(self) -> None:
        """Read the figures for the next collection. Raises the errors of Database.fetch."""
        self._waiting_seconds = self._leaves = None
        (state,) = await self._database.fetch(repository.STATE)
        self._note_waiting(state)
        for row in await self._database.fetch(repository.CHECKPOINT):
            self._leaves = row["size"]

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "audit_oldest_waiting_seconds", "Age of the oldest committed event that is not in the audit log"
        )
        leaves = GaugeMetricFamily("audit_leaves", "Events in the audit log")
        if self._waiting_seconds is not None:
            waiting.add_metric([], self._waiting_seconds)
        if self._leaves is not None:
            leaves.add_metric([], self._leaves)
        missing = CounterMetricFamily(
            "audit_missing_found", "Events that were committed without the audit log, and found by a search"
        )
        missing.add_metric([], self._missing_found)
        yield from (waiting, leaves, missing)
