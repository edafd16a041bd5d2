"""Strategies and signals of the strategy engine (design, Provider)."""

import asyncio
import json

import asyncpg
import pytest

from chassis.errors import InvalidBodyError
from chassis.schemas import parse
from integrations.api.schemas import NEW_SIGNAL
from support.provider import ENGINE, OPEN, OTHER, STRATEGY, USER, until

SIGNAL = {"signalId": "s-1", **OPEN}


async def test_a_repeated_signal_changes_nothing_and_has_the_same_answer(provider, hook):
    id_ = await provider.enabled(hook.url)
    got = [await provider.signal(signalId="one") for _ in range(3)]
    log = await provider.done(id_)

    assert [(202, {"events": 1})] * 3 == [(each.status, each.json) for each in got]
    assert ["SIGNAL_OPEN"] == [each["type"] for each in log if each["type"].startswith("SIGNAL")]


async def test_a_repeated_signal_has_the_same_answer_after_integrations_changed(provider, hook):
    id_ = await provider.enabled(hook.url)
    first = await provider.signal(signalId="one")
    await provider.enabled(hook.url)
    await provider.switch("DELETE", id_)
    again = await provider.signal(signalId="one")

    assert first.json == again.json == {"events": 1}


@pytest.mark.parametrize(
    "change",
    [{"type": "CLOSE"}, {"direction": "SELL"}, {"ticker": "EURUSD"}, {"quantity": 11},
     {"proquantPositionId": "another"}],
)  # fmt: skip
async def test_the_same_signal_id_with_another_body_is_409(start, change):
    provider = await start(deliveries_at_once=0)
    await provider.strategy()
    await provider.signal(signalId="one")
    got = await provider.signal(**{"signalId": "one", "type": "OPEN", **change})

    assert 409 == got.status


async def test_equal_quantities_in_other_notations_are_the_same_signal(start):
    provider = await start(deliveries_at_once=0)
    await provider.strategy()
    texts = ["10", "10.0", "10.000"]
    body = json.dumps({**SIGNAL, "quantity": "?"})
    path = f"/v1/strategies/{STRATEGY}/signals"
    got = [
        await provider.send("POST", path, body.replace('"?"', each).encode(), as_=ENGINE) for each in texts
    ]

    assert [202, 202, 202] == [each.status for each in got]


async def test_the_same_signal_many_times_at_once_becomes_one_event(provider, hook):
    id_ = await provider.enabled(hook.url)
    got = await asyncio.gather(*(provider.signal(signalId="one") for _ in range(30)))
    log = await provider.done(id_)

    assert [{"events": 1}] * 30 == [each.json for each in got]
    assert 1 == sum(each["type"] == "SIGNAL_OPEN" for each in log)


async def test_of_different_signals_with_one_id_at_once_only_one_is_accepted(start):
    provider = await start(deliveries_at_once=0)
    await provider.strategy()
    got = await asyncio.gather(
        *(provider.signal(signalId="one", direction=each) for each in ["BUY", "SELL"] * 5)
    )

    assert [202] * 5 + [409] * 5 == sorted(each.status for each in got)


async def test_an_unknown_strategy_is_404_and_does_not_affect_other_signals(provider):
    await provider.strategy()
    unknown, known = await asyncio.gather(provider.signal(strategy="unknown"), provider.signal())

    assert (404, 202) == (unknown.status, known.status)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signalId", None),
        ("signalId", ""),
        ("signalId", "x" * 129),
        ("type", "open"),
        ("type", "SIGNAL_OPEN"),
        ("direction", "buy"),
        ("direction", None),
        ("ticker", ""),
        ("ticker", "X\n"),
        ("quantity", "10"),
        ("quantity", True),
        ("quantity", None),
        ("quantity", -1),
        ("quantity", 0),
        ("quantity", 0.0),
        ("quantity", 1e30),
        ("quantity", float("nan")),
        ("quantity", float("inf")),
        ("quantity", 1234567890123456789),
        ("proquantPositionId", ""),
        ("extra", 1),
    ],
)
def test_each_fault_of_a_signal_names_its_field(field, value):
    with pytest.raises(InvalidBodyError) as raised:
        parse(NEW_SIGNAL, json.dumps({**SIGNAL, field: value}).encode())

    assert [field] == [each.key for each in raised.value.faults]


async def test_a_strategy_can_be_renamed_but_not_given_to_another_user(provider):
    await provider.strategy("s", "before")
    await provider.strategy("s", "after")
    got = await provider.send("PUT", "/v1/strategies/s", {"name": "x", "userEmail": OTHER}, as_=ENGINE)
    mine = await provider.send("GET", "/v1/me/strategies", as_=USER)

    assert 409 == got.status
    assert ["after"] == [each["name"] for each in mine.json["strategies"]]


@pytest.mark.parametrize("table", ["event", "signal"])
async def test_a_signal_and_its_event_are_committed_together_or_not_at_all(provider, hook, table):
    """One transaction stores the signal, advances the lane and inserts the event."""
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)
    await provider.sql.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
        f"CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    refused = await provider.signal(signalId="one")
    lanes = await provider.sql.fetch("SELECT FROM lane WHERE last_seq > done_seq")
    signals = await provider.sql.fetchval("SELECT count(*) FROM signal")
    await provider.sql.execute(f"DROP TRIGGER fail ON {table}")
    taken = await provider.signal(signalId="one")
    log = await provider.done(id_)

    assert (503, 202) == (refused.status, taken.status)
    assert ([], 0) == (lanes, signals)
    assert 1 == sum(each["type"] == "SIGNAL_OPEN" for each in log)


async def test_an_approval_that_is_rolled_back_sends_nothing(provider, hook):
    id_ = (await provider.requested(hook.url))["id"]
    await provider.sql.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
        "CREATE CONSTRAINT TRIGGER fail AFTER UPDATE ON integration DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    got = await provider.send("POST", f"/v1/me/integrations/{id_}/approve")

    assert 503 == got.status
    assert 0 == await provider.sql.fetchval("SELECT count(*) FROM event")
    assert "PENDING" == await provider.sql.fetchval("SELECT state FROM integration")
    assert [] == hook.seen


async def test_signals_of_one_strategy_arrive_in_the_order_of_acceptance(provider, hook):
    await provider.enabled(hook.url)
    positions = [str(number) for number in range(60)]
    for each in positions:
        await provider.signal(proquantPositionId=each)
    await until(lambda: len(hook.seen) == 62)
    arrived = [
        seen.json["v1"]["event"]["data"]["proquantPositionId"]
        for seen in hook.seen
        if b"SIGNAL_OPEN" in seen.body
    ]

    assert positions == arrived


async def test_while_the_database_is_away_signals_are_answered_503(provider, postgres_url):
    await provider.strategy()
    name = await provider.sql.fetchval("SELECT current_database()")
    server = await asyncpg.connect(postgres_url)
    await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    away = await provider.signal()
    await server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    await server.close()

    async def is_back():
        return (await provider.signal()).status == 202

    assert 503 == away.status
    assert await until(is_back)
