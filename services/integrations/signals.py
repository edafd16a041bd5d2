"""What the strategy engine does: strategies, and their signals, each of which becomes an event in each lane.

Signals that come while others are being written travel together: one transaction, one commit.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from chassis.database import Connection, Database
from chassis.errors import ConflictError, NotFoundError, QuotingError
from integrations.delivery import outbox
from integrations.delivery.batches import Batches
from integrations.delivery.dispatcher import Dispatcher
from integrations.delivery.queue import LEASE_SECONDS, ClaimedLane, claimed, new_token, reads
from integrations.events import LIVES_SECONDS, SignalData, StrategyData

MAX_SIGNALS: Final = 256

PUT: Final = """
INSERT INTO strategy AS s (id, name, user_email) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET name = $2 WHERE lower(s.user_email) = lower($3)
RETURNING id
"""

NAMES: Final = "SELECT id, name FROM strategy WHERE id = ANY($1::text[])"

# the row decides: a strategy that is being disabled is so from the moment its lane is locked
LANES: Final = """
SELECT id, strategy_id, integration_id FROM lane WHERE strategy_id = ANY($1::text[]) AND is_enabled
ORDER BY id FOR NO KEY UPDATE
"""

# sorted, as two batches with the same signals must not wait for each other
REMEMBER: Final = """
INSERT INTO signal (strategy_id, signal_id, fingerprint, events)
SELECT DISTINCT ON (strategy_id, signal_id) strategy_id, signal_id, fingerprint, events
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::integer[]) WITH ORDINALITY
    AS s (strategy_id, signal_id, fingerprint, events, position)
ORDER BY strategy_id, signal_id, position
ON CONFLICT (strategy_id, signal_id) DO NOTHING
RETURNING strategy_id, signal_id
"""

FIND: Final = """
SELECT s.strategy_id, s.signal_id, s.fingerprint, s.events
FROM signal s JOIN unnest($1::text[], $2::text[]) AS w (strategy_id, signal_id)
    ON s.strategy_id = w.strategy_id AND s.signal_id = w.signal_id
"""

# A lane in which nothing waits is taken up in the same breath, where there is room for it: as a claim would, and
# with the rows that a read would find.
SEND: Final = """
WITH s AS (
    SELECT s.*, row_number() OVER (PARTITION BY strategy_id ORDER BY position) AS rank,
        count(*) OVER (PARTITION BY strategy_id) AS total
    FROM unnest($2::text[], $3::text[], $4::text[], $5::float8[]) WITH ORDINALITY
        AS s (strategy_id, type, data, life_seconds, position)
), l AS (
    UPDATE lane SET last_seq = last_seq + t.total,
        token = CASE WHEN is_free THEN $7 ELSE token END,
        is_held = is_free OR is_held,
        due = CASE WHEN is_free THEN clock_timestamp() + make_interval(secs => $8) ELSE due END
    FROM (SELECT DISTINCT strategy_id, total FROM s) t, (
        SELECT id, id = ANY($6::bigint[]) AND last_seq = done_seq AND due <= clock_timestamp() AS is_free
        FROM lane WHERE id = ANY($1::bigint[])
    ) f
    WHERE lane.id = f.id AND lane.strategy_id = t.strategy_id
    RETURNING lane.id, lane.integration_id, lane.strategy_id, lane.last_seq - t.total AS before, lane.changes,
        is_free
), e AS (
    INSERT INTO event (lane_id, seq, integration_id, type, timestamp_ms, data, expires)
    SELECT l.id, l.before + s.rank, l.integration_id, s.type,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, s.data,
        clock_timestamp() + make_interval(secs => s.life_seconds)
    FROM l JOIN s ON s.strategy_id = l.strategy_id
    RETURNING lane_id, seq, take, id, type, timestamp_ms, data, tries, is_told,
        extract(epoch FROM expires - clock_timestamp())::float8 AS lives_seconds
)
SELECT e.*, NULL::float8 AS since_first_seconds, l.integration_id, l.strategy_id, l.before AS done_seq, l.changes,
    i.revision
FROM l JOIN integration i ON i.id = l.integration_id JOIN e ON e.lane_id = l.id
WHERE l.is_free ORDER BY l.id, e.seq
"""


@dataclass(frozen=True, slots=True)
class EngineSignal:
    """A signal as the engine gave it."""

    strategy_id: str
    signal_id: str
    type: str
    direction: str
    ticker: str
    quantity: str
    position_id: str

    @property
    def key(self) -> tuple[str, str]:
        return self.strategy_id, self.signal_id

    def fingerprint(self) -> bytes:
        """Equal for what says the same: 10 and 10.0 are one quantity."""
        parts = (self.type, self.direction, self.ticker, _canonical(self.quantity), self.position_id)
        return hashlib.sha256("".join(f"{len(each)}:{each}" for each in parts).encode()).digest()

    def data(self, name: str) -> str:
        signal = SignalData(
            self.direction,
            self.ticker,
            msgspec.Raw(self.quantity.encode()),
            StrategyData(self.strategy_id, name),
            self.position_id,
        )
        return msgspec.json.encode(signal).decode()


def _canonical(quantity: str) -> str:
    return f"{Decimal(quantity).normalize():f}"


def given(strategy_id: str, body: Mapping[str, Any]) -> EngineSignal:
    return EngineSignal(
        strategy_id,
        body["signalId"],
        body["type"],
        body["direction"],
        body["ticker"],
        body["quantity"],
        body["proquantPositionId"],
    )


class SignalPublisher:
    """Strategies and their signals."""

    def __init__(self, database: Database, deliverer: Dispatcher) -> None:
        self._database = database
        self._deliverer = deliverer
        self._batches: Batches[EngineSignal, int | QuotingError] = Batches(self._send, MAX_SIGNALS)

    async def put_strategy(self, id_: str, name: str, user_email: str) -> None:
        """Makes a strategy, or renames it. Raises ConflictError where it is another user's."""
        if not await self._database.fetch(PUT, id_, name, user_email):
            raise ConflictError("The strategy is another user's.")

    async def send(self, signal: EngineSignal) -> int:
        """How many events it has become; the same again becomes none, and has the same answer.

        Raises NotFoundError for a strategy that is not known, ConflictError where the signalId is that of
        another signal, UnavailableError.
        """
        result = await self._batches.add(signal)
        if isinstance(result, QuotingError):
            raise result
        return result

    async def _send(self, signals: Sequence[EngineSignal]) -> list[int | QuotingError]:
        has_room = self._deliverer.has_room
        before = self._deliverer.now()

        async def work(connection: Connection) -> PublishedBatch:
            sent = await _send(connection, signals, self._deliverer.room_for)
            if not has_room:
                await outbox.ready(connection)
            return sent

        try:
            sent = await self._database.transaction(work)
            await self._deliverer.begin(sent.taken, reads(sent.rows, before.at), before)
        finally:
            self._deliverer.promised = 0
        if len(sent.taken) < sent.lanes:
            self._deliverer.wake()
        return sent.results


@dataclass(frozen=True, slots=True)
class PublishedBatch:
    """What became of a batch: the lanes that have got events, and those that were taken up, with their events."""

    results: list[int | QuotingError]
    lanes: int
    taken: Sequence[ClaimedLane]
    rows: Sequence[asyncpg.Record]


async def _send(
    connection: Connection,
    signals: Sequence[EngineSignal],
    room_for: Callable[[Sequence[tuple[int, UUID]]], Sequence[int]],
) -> PublishedBatch:
    ids = list({each.strategy_id for each in signals})
    names = {row["id"]: row["name"] for row in await connection.fetch(NAMES, ids)}
    lanes: dict[str, list[tuple[int, UUID]]] = {each: [] for each in names}
    for row in await connection.fetch(LANES, ids):
        lanes[row["strategy_id"]].append((row["id"], row["integration_id"]))
    known = [each for each in signals if each.strategy_id in names]
    remembered = await connection.fetch(
        REMEMBER,
        [each.strategy_id for each in known],
        [each.signal_id for each in known],
        [each.fingerprint() for each in known],
        [len(lanes[each.strategy_id]) for each in known],
    )
    new = {(row["strategy_id"], row["signal_id"]) for row in remembered}
    first = {each.key: each for each in reversed(known) if each.key in new}
    fresh = [each for each in known if first.get(each.key) is each and lanes[each.strategy_id]]
    into = [lane for id_ in {each.strategy_id for each in fresh} for lane in lanes[id_]]
    token = new_token()
    rows: Sequence[asyncpg.Record] = ()
    if fresh:
        types = [f"SIGNAL_{each.type}" for each in fresh]
        rows = await connection.fetch(
            SEND,
            [lane for lane, _ in into],
            [each.strategy_id for each in fresh],
            types,
            [each.data(names[each.strategy_id]) for each in fresh],
            [LIVES_SECONDS[each] for each in types],
            room_for(into),
            token,
            LEASE_SECONDS,
        )
    written = {key: (each.fingerprint(), len(lanes[each.strategy_id])) for key, each in first.items()}
    old = [each.key for each in known if each.key not in new]
    if old:
        found = await connection.fetch(FIND, *map(list, zip(*old, strict=True)))
        written |= {
            (row["strategy_id"], row["signal_id"]): (row["fingerprint"], row["events"]) for row in found
        }
    taken = {row["lane_id"]: claimed(row["lane_id"], token, row) for row in rows}
    return PublishedBatch([_result(each, written) for each in signals], len(into), list(taken.values()), rows)


def _result(signal: EngineSignal, written: Mapping[tuple[str, str], tuple[bytes, int]]) -> int | QuotingError:
    if signal.key not in written:
        return NotFoundError("There is no such strategy.")
    fingerprint, events = written[signal.key]
    if fingerprint != signal.fingerprint():
        return ConflictError("The signalId belongs to another signal.")
    return events
