"""Replay of all failed events: which are chosen, in which order, and how many; plans of the operators' statements."""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.errors import TooManyRequestsError
from integrations import operator_repository
from integrations.delivery.retry_policy import LIFETIME_SECONDS
from integrations.operations import MAX_REPLAYS
from integrations.replays import MAX_EVENTS, FailedEvent, ReplayLimit, plan
from support.provider import OK, event
from support.serving import reply, stub

LONG_AGO = "2020-01-01T00:00:00Z"
FAILED = ("FAILED", "EXPIRED")
SIGNALS = ("SIGNAL_OPEN", "SIGNAL_CLOSE", "SIGNAL_REOPEN")
STATES = ("DELIVERED", "REFUSED", *FAILED, *FAILED, "CANCELLED")


def failed(lane: int, number: int, fault: str | None = None) -> list[FailedEvent]:
    return [FailedEvent(uuid4(), "SIGNAL_OPEN", lane, fault) for _ in range(number)]


def test_the_events_of_a_lane_are_chosen_together_or_not_at_all():
    first, second, third = failed(1, 3), failed(2, 4), failed(3, 2)
    chosen = plan([*first, *second, *third], room=6, max_room=10)

    assert (tuple(first + third), 4) == (chosen.events, chosen.left)


def test_of_a_lane_that_is_longer_than_any_call_may_replay_the_newest_events_are_chosen():
    events = failed(1, 5)
    chosen = plan(events, room=3, max_room=3)

    assert (tuple(events[2:]), 0, 2) == (chosen.events, chosen.left, chosen.skipped.total())
    assert 3 == plan(events, room=2, max_room=3).left


def test_events_that_cannot_be_sent_again_are_counted_by_reason():
    chosen = plan([*failed(1, 2, "late"), *failed(1, 1), *failed(2, 1, "late"), *failed(2, 1, "off")], 10, 10)

    assert (1, {"late": 3, "off": 1}) == (len(chosen.events), dict(chosen.skipped))


def test_the_limit_begins_anew_a_minute_after_the_first_event():
    now = [100.0]
    limit = ReplayLimit(5, lambda: now[0])
    limit.take(3)
    now[0] += 30
    limit.take(2)
    with pytest.raises(TooManyRequestsError, match="Retry after 30 s"):
        limit.take(1)
    limit.give_back(1)
    limit.take(1)
    now[0] += 30

    assert (5, 5) == (limit.left, limit.max_at_once)
    assert MAX_EVENTS == ReplayLimit(1_000_000).max_at_once


@dataclass
class Stored:
    """A stored event, for the model."""

    id: UUID
    lane: int
    seq: int
    type: str
    state: str
    tries: int
    replays: int


def stored(random_: random.Random, lanes: list[int]) -> list[Stored]:
    """Return random events of these lanes, in the order of their positions."""
    return [
        Stored(
            UUID(int=random_.getrandbits(128), version=4),
            lane,
            seq,
            random_.choice((*SIGNALS, "STRATEGY_ENABLED")),
            state := random_.choices((*STATES, "WAITING"), (2, 1, 2, 2, 2, 2, 1, 0.2))[0],
            0 if state == "WAITING" else random_.choice((0, 1)) if state in {"EXPIRED", "CANCELLED"} else 1,
            random_.choices((0, MAX_REPLAYS), (9, 1))[0],
        )
        for lane in lanes
        for seq in range(1, random_.randint(1, 9))
    ]


def expected(events: list[Stored]) -> list[UUID]:
    """Model of the choice in one lane: from its end, up to the first event that must not be overtaken."""
    chosen: list[UUID] = []
    for each in reversed(events):
        is_replaced = each.type == "SIGNAL_REOPEN" and each.state == "EXPIRED"
        can_be_sent = each.state in FAILED and each.replays < MAX_REPLAYS and not is_replaced
        if can_be_sent:
            chosen.insert(0, each.id)
        elif each.type in SIGNALS and (each.tries or each.state == "WAITING"):
            break
    return chosen


@pytest.mark.parametrize("seed", range(6))
async def test_of_random_lanes_exactly_the_events_that_keep_the_order_are_sent_again(start, seed):
    """Compared with a model that walks through each lane."""
    random_ = random.Random(seed)
    provider = await start(deliveries_at_once=0, replays_per_minute=1_000)
    id_ = await provider.approved("http://127.0.0.1:1/")
    lanes = [
        await provider.sql.fetchval(
            "INSERT INTO lane (integration_id, strategy_id, is_enabled) VALUES ($1, $2, true) RETURNING id",
            UUID(id_),
            f"strategy-{number}",
        )
        for number in range(20)
    ]
    events = stored(random_, lanes)
    await provider.sql.executemany(
        """
        INSERT INTO event (id, lane_id, seq, integration_id, type, timestamp_ms, data, expires, state, tries, replays)
        VALUES ($1, $2, $3, $4, $5, 0, $6, clock_timestamp() + make_interval(secs => $7), $8, $9, $10)
        """,
        [
            (
                *(each.id, each.lane, each.seq, UUID(id_), each.type, '{"id": "s", "name": "S"}'),
                *(LIFETIME_SECONDS[each.type], each.state, each.tries, each.replays),
            )
            for each in events
        ],
    )
    await provider.sql.execute(
        "UPDATE lane SET last_seq = coalesce((SELECT max(seq) FROM event WHERE lane_id = lane.id), 0)"
    )
    by_lane = {lane: [each for each in events if each.lane == lane] for lane in lanes}
    chosen = {lane: expected(found) for lane, found in by_lane.items()}
    ends = {row["id"]: row["last_seq"] for row in await provider.sql.fetch("SELECT id, last_seq FROM lane")}
    got = await provider.operate("POST", f"/integrations/{id_}/replays", {"since": LONG_AGO})
    rows = await provider.sql.fetch(
        "SELECT lane_id, seq, id FROM event WHERE replays % 10 = 1 ORDER BY lane_id, seq"
    )
    sent = {lane: [row["id"] for row in rows if row["lane_id"] == lane] for lane in lanes}

    assert chosen == sent
    assert got.json["replayed"] == sum(map(len, chosen.values())) > 0
    assert got.json["failed"] == sum(each.state in FAILED for each in events)
    assert got.json["failed"] == got.json["replayed"] + sum(each["events"] for each in got.json["skipped"])
    assert [(row["lane_id"], row["seq"]) for row in rows] == [
        (lane, ends[lane] + rank) for lane in lanes for rank in range(1, len(chosen[lane]) + 1)
    ]


class Flaky:
    """A webhook that refuses events at random until it is repaired."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.is_repaired = False

    async def __call__(self, seen):
        refuses = not self.is_repaired and event(seen)["type"] in SIGNALS and self._random.random() < 0.6
        return await (reply(400) if refuses else OK)(seen)


async def test_replays_at_the_same_time_as_signals_never_break_the_order_of_a_lane(start):
    provider = await start(replays_per_minute=10_000)
    hook_answer = Flaky(7)
    lanes = [f"strategy-{number}" for number in range(4)]
    async with stub(hook_answer) as hook:
        id_ = await provider.enabled(hook.url)
        for lane in lanes:
            await provider.strategy(lane)
            await provider.switch("PUT", id_, lane)

        async def signal(lane: str) -> None:
            for number in range(12):
                await provider.signal("OPEN", lane, proquantPositionId=f"{lane}/{number:02d}")

        async def replay_all() -> int:
            got = await provider.operate("POST", f"/integrations/{id_}/replays", {"since": LONG_AGO})
            assert 202 == got.status, got.body
            return got.json["replayed"]

        async def replay_often() -> int:
            return sum([await replay_all() for _ in range(10)])

        *_, first, second = await asyncio.gather(*map(signal, lanes), replay_often(), replay_often())
        await provider.done(id_)
        hook_answer.is_repaired = True
        last = await replay_all()
        await provider.done(id_)

    arrivals: dict[str, dict[str, int]] = defaultdict(dict)
    for at, seen in enumerate(hook.seen):
        if event(seen)["type"] in SIGNALS:
            position = event(seen)["data"]["proquantPositionId"]
            arrivals[position.partition("/")[0]][position] = at

    assert len(hook.seen) > 48
    assert first + second + last > 0
    for lane in lanes:
        assert sorted(arrivals[lane]) == sorted(arrivals[lane], key=lambda each: arrivals[lane][each])


STATEMENTS = {
    name: value
    for name, value in vars(operator_repository).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str) and "SELECT" in value
}


@pytest.mark.parametrize("name", sorted(STATEMENTS))
async def test_every_statement_for_operators_can_use_an_index(database_url, name):
    """If a plan with an index exists, Postgres chooses it when the table is large."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
        prepared = await connection.prepare(STATEMENTS[name])
        nulls = ", ".join("NULL" for _ in prepared.get_parameters())
        types = ", ".join(
            each.name + "[]" * (each.kind == "array" and not each.name.endswith("[]"))
            for each in prepared.get_parameters()
        )
        declared = f" ({types})" if types else ""
        await connection.execute(f"PREPARE one{declared} AS {STATEMENTS[name]}")
        rows = await connection.fetch(f"EXPLAIN EXECUTE one{f'({nulls})' if nulls else ''}")
    finally:
        await connection.close()
    scans = [row[0].strip() for row in rows if "Seq Scan" in row[0]]

    assert [] == scans
