"""How often and how long an event is tried (design, Retries)."""

import asyncio

import pytest

from integrations.delivery.retry_policy import LIFETIME_SECONDS, next_retry
from integrations.events import EventType
from support.provider import STRATEGY, Script, until
from support.serving import reply, stub


def all_tries(type_: str) -> list[float]:
    """Seconds from the first attempt, where attempts take no time, to the end of the event's life."""
    tries: list[float] = []
    since = 0.0
    while (due := next_retry(type_, since)) is not None and due < LIFETIME_SECONDS[type_]:
        tries.append(due)
        since = due
    return tries


@pytest.mark.parametrize("type_", ["SIGNAL_OPEN", "SIGNAL_REOPEN"])
def test_an_opening_is_tried_for_less_than_a_minute(type_):
    assert 60 == LIFETIME_SECONDS[type_]
    assert [1, 3, 8, 20, 45] == all_tries(type_)


@pytest.mark.parametrize("type_", ["SIGNAL_CLOSE", "STRATEGY_ENABLED", "STRATEGY_DISABLED"])
def test_a_close_goes_on_every_minute_for_ten(type_):
    assert 600 == LIFETIME_SECONDS[type_]
    assert [1, 3, 8, 20, 45, 105, 165, 225, 285, 345, 405, 465, 525, 585] == all_tries(type_)


@pytest.mark.parametrize("type_", [each for each in EventType if each.startswith("INTEGRATION")])
def test_what_happens_to_an_integration_is_tried_for_more_than_a_day(type_):
    """After 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h more."""
    gaps = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]

    assert [sum(gaps[: n + 1]) for n in range(7)] == all_tries(type_)


def test_times_that_passed_during_an_attempt_are_not_made_up_for():
    assert (20, 45) == (next_retry("SIGNAL_OPEN", 10.2), next_retry("SIGNAL_OPEN", 20.0))
    assert 165 == next_retry("SIGNAL_CLOSE", 110.0)


async def failing_lane(provider, hook, type_: str = "OPEN") -> str:
    """An integration whose next signal is refused with 500s from then on."""
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)
    await provider.signal(type_)
    await until(lambda: len(hook.seen) == 3)
    return id_


async def attempts(provider, id_: str, count: int):
    async def there():
        log = await provider.deliveries(id_)
        return len(log[-1]["attempts"]) >= count and log[-1]

    return await until(there)


def failing() -> Script:
    return Script([reply(200), reply(200), reply(500)])


async def test_an_open_is_tried_at_its_times_and_then_has_expired(provider):
    async with stub(failing()) as hook:
        id_ = await failing_lane(provider, hook)
        times = []
        for count, seconds in ((1, 1), (2, 2), (3, 5), (4, 12), (5, 25)):
            await attempts(provider, id_, count)
            times.append(
                await provider.sql.fetchval(
                    "SELECT extract(epoch FROM l.due - e.first_try)::float8 FROM lane l JOIN event e ON e.lane_id = l.id"
                    " WHERE e.type = 'SIGNAL_OPEN'"
                )
            )
            await provider.pass_time(seconds)
        last = (await provider.done(id_))[-1]
        told = await provider.notification_types()

    assert pytest.approx([1, 3, 8, 20, 45], abs=0.5) == times
    assert ("EXPIRED", 6) == (last["state"], len(last["attempts"]))
    assert ["Generic"] == told


async def test_nothing_is_sent_after_its_life(provider):
    """Life counts from the commit of the event, not from the first attempt."""
    async with stub(failing()) as hook:
        id_ = await failing_lane(provider, hook)
        await attempts(provider, id_, 1)
        await provider.signal("OPEN", proquantPositionId="behind")
        await provider.pass_time(61)
        log = await provider.done(id_)
        told = await provider.notifications()

    assert [("EXPIRED", 1), ("EXPIRED", 0)] == [(each["state"], len(each["attempts"])) for each in log[-2:]]
    assert 3 == len(hook.seen)
    assert ["Generic", "Expired"] == [each["type"] for each in told]


async def test_an_event_whose_life_ends_before_its_first_attempt_is_never_sent(start, hook):
    api = await start(deliveries_at_once=0)
    id_ = await api.enabled(hook.url)
    await api.signal("OPEN")
    await api.pass_time(61)
    worker = await start()
    log = await worker.done(id_)

    assert ["DELIVERED", "DELIVERED", "EXPIRED"] == [each["state"] for each in log]
    assert 2 == len(hook.seen)


async def test_what_waits_behind_an_event_that_expired_is_sent(provider):
    async with stub(Script([reply(200), reply(200), reply(500), reply(200)])) as hook:
        id_ = await failing_lane(provider, hook)
        await attempts(provider, id_, 1)
        await provider.signal("CLOSE")
        await provider.pass_time(61)
        log = await provider.done(id_)

    assert ["EXPIRED", "DELIVERED"] == [each["state"] for each in log[-2:]]


async def test_a_reopen_that_expires_becomes_a_close_of_the_old_position_in_its_place(provider):
    """Opposite direction, else its own data: no wrong-way position stays."""
    async with stub(Script([reply(200), reply(200), reply(500), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("REOPEN", direction="SELL", quantity=3, proquantPositionId="new")
        await attempts(provider, id_, 1)
        await provider.signal("OPEN", proquantPositionId="behind")
        await provider.pass_time(61)
        await provider.done(id_)
        sent = [seen.json["v1"]["event"] for seen in hook.seen[2:]]
        ids = [seen.headers["webhook-id"] for seen in hook.seen[2:]]

    assert ["SIGNAL_REOPEN", "SIGNAL_CLOSE"] == [each["type"] for each in sent[:2]]
    assert {**sent[0]["data"], "direction": "BUY"} == sent[1]["data"]
    assert sent[0]["timestamp"] == sent[1]["timestamp"]
    assert ids[0] != ids[1]


async def test_the_close_in_its_place_comes_before_what_was_behind_it(provider):
    async with stub(Script([reply(200), reply(200), reply(500), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("REOPEN", direction="SELL")
        await attempts(provider, id_, 1)
        await provider.signal("CLOSE", proquantPositionId="behind")
        await provider.pass_time(61)
        await provider.done(id_)
        sent = [seen.json["v1"]["event"] for seen in hook.seen[-2:]]

    assert ["BUY", "behind"] == [sent[0]["data"]["direction"], sent[1]["data"]["proquantPositionId"]]


async def test_a_success_after_failures_is_told_once_more(provider):
    async with stub(Script([reply(200), reply(200), reply(500), reply(503), reply(200)])) as hook:
        id_ = await failing_lane(provider, hook)
        for count, seconds in ((1, 1), (2, 2)):
            await attempts(provider, id_, count)
            await provider.pass_time(seconds)
        await provider.done(id_)
        told = await provider.notification_types()

    assert ["Generic", "Recovered"] == told


async def test_a_success_at_once_is_told_to_nobody(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)

    assert [] == await provider.notification_types()


async def beat(provider, id_: str, count: int) -> None:
    """So many failures in a row, as fast as the lanes allow."""
    for _ in range(count):
        before = await provider.sql.fetchval("SELECT failures FROM integration")
        await provider.sql.execute("UPDATE lane SET due = '-infinity' WHERE NOT is_held")
        await provider.sql.execute(
            "UPDATE event SET expires = now() + interval '1 hour' WHERE state = 'WAITING'"
        )
        provider.dispatcher.wake()

        async def counted(before=before):
            return await provider.sql.fetchval("SELECT failures FROM integration") > before

        await until(counted)


async def test_twenty_failures_in_a_row_over_ten_minutes_pause_the_integration(provider):
    async with stub(reply(500)) as hook:
        id_ = await provider.approved(hook.url)
        await until(lambda: hook.seen)
        await provider.sql.execute("UPDATE event SET type = 'SIGNAL_CLOSE', data = $1", CLOSE_DATA)
        await beat(provider, id_, 18)
        await provider.pass_time(601)
        await asyncio.sleep(0.1)
        state_before = await provider.sql.fetchval("SELECT state FROM integration")
        await beat(provider, id_, 1)

        async def is_paused():
            return await provider.sql.fetchval("SELECT state FROM integration") == "PAUSED"

        await until(is_paused)
        told = await provider.notification_types()

    assert "APPROVED" == state_before
    assert "Paused" == told[-1]


async def test_twenty_failures_in_less_than_ten_minutes_pause_nothing(provider):
    async with stub(reply(500)) as hook:
        id_ = await provider.approved(hook.url)
        await until(lambda: hook.seen)
        await provider.sql.execute("UPDATE event SET type = 'SIGNAL_CLOSE', data = $1", CLOSE_DATA)
        await beat(provider, id_, 25)

        assert "APPROVED" == await provider.sql.fetchval("SELECT state FROM integration")


CLOSE_DATA = (
    '{"direction":"BUY","ticker":"X","quantity":1,"strategy":{"id":"s","name":"n"},"proquantPositionId":"p"}'
)


@pytest.mark.parametrize("answer", [reply(200), reply(422, {"type": "MarketClosed"}, x_proquant_error="1")])
async def test_an_answer_ends_a_run_of_failures(provider, answer):
    """A typed error is a sign of health."""
    async with stub(Script([reply(500), answer])) as hook:
        id_ = await provider.approved(hook.url)

        async def failed():
            return await provider.sql.fetchval("SELECT failures FROM integration") == 1

        await until(failed)
        await provider.pass_time(6)
        await provider.done(id_)

        async def is_well():
            return await provider.sql.fetchval("SELECT failures FROM integration") == 0

        assert await until(is_well)


async def test_an_untyped_410_pauses_at_once_and_tells_the_user(provider):
    async with stub(Script([reply(200), reply(200), reply(410)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()

        async def is_paused():
            return await provider.sql.fetchval("SELECT state FROM integration") == "PAUSED"

        await until(is_paused)
        await provider.done(id_)
        enabled = await provider.sql.fetchval("SELECT bool_or(is_enabled) FROM lane")
        told = await provider.notification_types()

    assert not enabled
    assert ["Generic", "Paused"] == told[:2]


async def test_a_typed_410_pauses_nothing(provider):
    async with stub(reply(410, {"type": "PositionNotFound"}, x_proquant_error="1")) as hook:
        id_ = await provider.approved(hook.url)
        await provider.done(id_)

    assert "APPROVED" == await provider.sql.fetchval("SELECT state FROM integration")


async def test_pausing_acts_like_disabling_every_strategy_and_resuming_does_not_enable_them(provider):
    async with stub(Script([reply(200), reply(200), reply(200), reply(410), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.strategy("second")
        await provider.switch("PUT", id_, "second")
        await provider.done(id_)
        await provider.signal()

        async def both():
            log = await provider.deliveries(id_)
            return sum(each["type"] == "STRATEGY_DISABLED" for each in log) == 2

        await until(both)
        while_paused = await provider.signal(strategy="second")
        await provider.do("resume", id_)
        after = await provider.signal(strategy="second")
        again = await provider.switch("PUT", id_, STRATEGY)

    assert ({"events": 0}, {"events": 0}) == (while_paused.json, after.json)
    assert 200 == again.status
