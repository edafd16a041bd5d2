"""The inbox: an event that is sent again, once or fifty times at once, is executed once."""

import asyncio

import pytest

from signal_receiver import event_repository
from signal_receiver.account_repository import EXPIRED_ROWS
from support.payee import until
from support.receiver import ready, signal

COPIES = 50


async def outcomes_of(*calls):
    return [answer.outcome for answer in await asyncio.gather(*calls)]


@pytest.mark.parametrize("webhook_id", ["msg_1", None])
async def test_fifty_concurrent_copies_of_an_event_trade_once(receiver, start, webhook_id):
    """The copies go to two receivers on one database."""
    second = await start()
    for kind, expected in (("OPEN", 1), ("REOPEN", 3), ("CLOSE", 4)):
        event = signal(kind, direction="SELL")
        id_ = webhook_id and f"{webhook_id}_{kind}"
        outcomes = await outcomes_of(
            *(each.deliver(event, id_) for each in (receiver, second) for _ in range(COPIES // 2))
        )

        assert {(200, None)} == set(outcomes)
        assert expected == len(await receiver.trades())


async def test_fifty_concurrent_copies_of_a_reopen_that_cannot_open_close_once(receiver):
    await receiver.send("OPEN")
    event = signal("REOPEN", 1001, direction="SELL")
    outcomes = await outcomes_of(*(receiver.deliver(event, "msg_1") for _ in range(COPIES)))

    assert {(422, "QuantityTooHigh")} == set(outcomes)
    assert ["OPEN", "CLOSE"] == [trade["action"] for trade in await receiver.trades()]


async def test_concurrent_strategies_trade_once_each_and_only_within_the_funds(receiver):
    """Twenty events that need a tenth of the funds each, five copies of each event."""
    events = [signal("OPEN", 10, strategy=f"strategy-{number}") for number in range(20)]
    outcomes = await outcomes_of(
        *(receiver.deliver(event, f"msg_{number}") for _ in range(5) for number, event in enumerate(events))
    )
    account = await receiver.account()

    assert {(200, None), (422, "InsufficientFunds")} == set(outcomes)
    assert (50, 50) == (outcomes.count((200, None)), outcomes.count((422, "InsufficientFunds")))
    assert 10 == len(account["positions"])
    assert "0.00" == account["freeFunds"]


async def test_an_event_that_is_sent_again_gets_the_stored_response(receiver):
    event = signal("OPEN")
    first = await receiver.deliver(event, "msg_1")
    await receiver.send("CLOSE")
    again = await receiver.deliver(event, "msg_1")

    assert [(200, None)] * 2 == [first.outcome, again.outcome]
    assert ["OPEN", "CLOSE"] == [trade["action"] for trade in await receiver.trades()]


async def test_a_close_under_the_webhook_id_of_an_open_is_executed(receiver):
    await receiver.deliver(signal("OPEN", position="p1"), "msg_1")
    answer = await receiver.deliver(signal("CLOSE", position="p1"), "msg_1")

    assert (200, None) == answer.outcome
    assert ["OPEN", "CLOSE"] == [trade["action"] for trade in await receiver.trades()]


async def test_another_event_under_a_known_webhook_id_is_executed(receiver):
    """It differs from the first event of that id in type, timestamp, strategy or position."""
    event = signal("OPEN", 1, strategy="gold", position="p1")
    others = [
        signal("OPEN", 1, strategy="silver", position="p1"),
        {**event, "type": "SIGNAL_REOPEN"},
        signal("CLOSE", strategy="silver", position="p1"),
    ]
    outcomes = [(await receiver.deliver(each, "msg_1")).outcome for each in (event, *others, *others)]

    assert [(200, None)] * 7 == outcomes
    assert ["OPEN", "OPEN", "CLOSE", "OPEN", "CLOSE"] == [
        trade["action"] for trade in await receiver.trades()
    ]


async def test_two_accounts_may_get_the_same_webhook_id(receiver):
    answers = [
        await receiver.deliver(signal("OPEN", 1), "msg_1", token=token)
        for token in ("sample", "others-token")
    ]

    assert [(200, None)] * 2 == [answer.outcome for answer in answers]
    assert 1 == len((await receiver.account())["positions"])


async def test_without_an_id_an_event_is_known_by_type_timestamp_strategy_and_position(receiver, sql):
    event = signal("OPEN", 1, strategy="gold", position="p1")
    others = [
        {**event, "timestamp": event["timestamp"] + 1},
        {**event, "type": "SIGNAL_REOPEN"},
        signal("OPEN", 1, strategy="silver", position="p1"),
        signal("OPEN", 1, strategy="gold", position="p2"),
    ]
    same = signal("OPEN", 2, strategy="gold", position="p1", direction="SELL")
    for each in (event, same, *others, *others):
        await receiver.deliver(each)

    assert 1 + len(others) == await sql.fetchval("SELECT count(*) FROM inbox")


async def test_an_event_with_another_timestamp_is_another_event(receiver):
    event = signal("OPEN", 1)
    await receiver.deliver(event)
    answer = await receiver.deliver({**event, "timestamp": event["timestamp"] + 1})

    assert (409, "PositionAlreadyExists") == answer.outcome


async def test_a_typed_error_is_stored_for_ten_minutes_and_then_the_event_is_executed_anew(receiver, sql):
    event = signal("OPEN", 999)
    first = await receiver.deliver(event, "msg_1")
    await receiver.price("1.00")
    soon = await receiver.deliver(event, "msg_1")
    left = await sql.fetchval("SELECT extract(epoch FROM until - clock_timestamp()) FROM inbox")
    await sql.execute("UPDATE inbox SET until = clock_timestamp()")
    later = await receiver.deliver(event, "msg_1")

    assert [(422, "InsufficientFunds")] * 2 + [(200, None)] == [
        answer.outcome for answer in (first, soon, later)
    ]
    assert 540 < left <= 600
    assert [None] == [row["until"] for row in await sql.fetch("SELECT until FROM inbox")]


async def test_a_200_and_a_reopen_that_closed_are_stored_without_a_limit(receiver, sql):
    await receiver.deliver(signal("OPEN"), "msg_1")
    await receiver.deliver(signal("REOPEN", 1001), "msg_2")
    rows = await sql.fetch("SELECT type, until FROM inbox ORDER BY type NULLS FIRST")

    assert [(None, None), ("QuantityTooHigh", None)] == [(row["type"], row["until"]) for row in rows]


async def test_a_sender_with_wrong_credentials_leaves_nothing_in_the_inbox(receiver, sql):
    """Otherwise a stranger who guesses an id could have the real event refused."""
    event = signal("OPEN")
    refused = await receiver.deliver(event, "msg_1", token="guarded-token")
    answer = await receiver.deliver(
        event, "msg_1", token="guarded-token", headers={"x-foo-bar-api-token": "baz"}
    )

    assert [(401, "InvalidCredentials"), (200, None)] == [refused.outcome, answer.outcome]


async def test_an_event_that_could_not_be_written_gets_503_and_is_executed_when_sent_again(receiver, sql):
    event = signal("OPEN")
    await sql.execute("ALTER TABLE trade RENAME TO elsewhere")
    failed = await receiver.deliver(event, "msg_1")
    inbox = await sql.fetchval("SELECT count(*) FROM inbox")
    await sql.execute("ALTER TABLE elsewhere RENAME TO trade")
    await ready(receiver)
    again = await receiver.deliver(event, "msg_1")

    assert (503, None) == failed.outcome
    assert 0 == inbox
    assert (200, None) == again.outcome


async def test_an_event_is_executed_again_if_another_process_has_changed_the_account(
    receiver, sql, monkeypatch
):
    read = event_repository.read

    async def read_then_change(fetch, queries):
        found = await read(fetch, queries)
        monkeypatch.setattr(event_repository, "read", read)
        await sql.execute("UPDATE account SET funds = 0, version = version + 1")
        return found

    monkeypatch.setattr(event_repository, "read", read_then_change)
    answer = await receiver.send("OPEN")

    assert (422, "InsufficientFunds") == answer.outcome
    assert [] == await receiver.trades()


async def test_an_event_that_fails_a_batch_does_not_fail_the_others(receiver, sql):
    """A trigger makes the statement fail."""
    await sql.execute(
        """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.strategy_id = 'bad' THEN RAISE 'no'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON position FOR EACH ROW EXECUTE FUNCTION fail()"""
    )
    strategies = ["good", "bad", *(f"good-{number}" for number in range(30))]
    outcomes = await outcomes_of(*(receiver.send("OPEN", 0.01, strategy=each) for each in strategies))

    assert [(200, None), (503, None), *[(200, None)] * 30] == outcomes
    assert 31 == len(await receiver.trades())


async def test_only_expired_inbox_entries_are_deleted(start, receiver, sql):
    await receiver.deliver(signal("OPEN"), "msg_1")
    await receiver.deliver(signal("OPEN"), "msg_2")
    await sql.execute(
        "INSERT INTO inbox SELECT 'sample', sha256(n::text::bytea), 'MarketClosed', now() - interval '1 s'"
        " FROM generate_series(1, $1) AS n",
        EXPIRED_ROWS + 1,
    )
    await start(inbox_sweep_seconds=0.05)

    async def are_deleted():
        return 2 == await sql.fetchval("SELECT count(*) FROM inbox")

    await until(are_deleted)

    assert {None, "PositionAlreadyExists"} == {
        row["type"] for row in await sql.fetch("SELECT type FROM inbox")
    }
