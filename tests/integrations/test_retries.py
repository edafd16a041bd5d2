"""When events are sent again, and when they expire (design, Retries)."""

import pytest

from integrations.delivery.retry_policy import LIFETIME_SECONDS, next_retry
from integrations.events import EventType
from support.provider import Script, until
from support.serving import reply, stub


def all_retries(type_: str) -> list[float]:
    """Return the retries in seconds from the first attempt, if attempts take no time, within the event's life."""
    retries: list[float] = []
    since = 0.0
    while (due := next_retry(type_, since)) is not None and due < LIFETIME_SECONDS[type_]:
        retries.append(due)
        since = due
    return retries


def test_each_event_type_has_its_lifetime_and_its_retries():
    """INTEGRATION_* events are retried after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h more."""
    opening = (60, [1, 3, 8, 20, 45])
    other = (600, [1, 3, 8, 20, 45, 105, 165, 225, 285, 345, 405, 465, 525, 585])
    gaps = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]
    integration = (28 * 3_600, [sum(gaps[: n + 1]) for n in range(7)])

    assert {
        EventType.SIGNAL_OPEN: opening,
        EventType.SIGNAL_REOPEN: opening,
        EventType.SIGNAL_CLOSE: other,
        EventType.STRATEGY_ENABLED: other,
        EventType.STRATEGY_DISABLED: other,
        EventType.INTEGRATION_APPROVED: integration,
        EventType.INTEGRATION_REJECTED: integration,
        EventType.INTEGRATION_DELETED: integration,
    } == {type_: (LIFETIME_SECONDS[type_], all_retries(type_)) for type_ in EventType}


def test_a_retry_whose_time_passes_during_an_attempt_is_left_out():
    assert (20, 45) == (next_retry("SIGNAL_OPEN", 10.2), next_retry("SIGNAL_OPEN", 20.0))
    assert 165 == next_retry("SIGNAL_CLOSE", 110.0)


async def lane_that_fails(provider, hook, type_: str = "OPEN") -> str:
    """Return an integration whose next signal has been answered with 500."""
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)
    await provider.signal(type_)
    await attempts(provider, id_, 1)
    return id_


async def attempts(provider, id_: str, count: int):
    """Wait until the newest event has so many attempts in its log."""

    async def has_so_many():
        log = await provider.deliveries(id_)
        return len(log[-1]["attempts"]) >= count and log[-1]

    return await until(has_so_many)


def answers(*after_enabling):
    """Accept INTEGRATION_APPROVED and STRATEGY_ENABLED, then answer so."""
    return Script([reply(200), reply(200), *after_enabling])


async def test_an_open_is_retried_on_schedule_and_then_expires(provider):
    async with stub(answers(reply(500))) as hook:
        id_ = await lane_that_fails(provider, hook)
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
        types = await provider.notification_types()

    # on a slow machine an attempt or its commit may take longer, never shorter
    assert all(due - 0.5 < time for due, time in zip([1, 3, 8, 20, 45], times, strict=True))
    assert ("EXPIRED", 6) == (last["state"], len(last["attempts"]))
    assert ["Generic"] == types


async def test_an_event_is_not_sent_after_its_lifetime_which_begins_at_its_commit(provider):
    async with stub(answers(reply(500))) as hook:
        id_ = await lane_that_fails(provider, hook)
        await provider.signal("OPEN", proquantPositionId="behind")
        await provider.pass_time(61)
        log = await provider.done(id_)
        types = await provider.notification_types()

    assert [("EXPIRED", 0), "EXPIRED"] == [
        (log[-1]["state"], len(log[-1]["attempts"])),
        log[-2]["state"],
    ]
    assert "behind" not in [seen.json["v1"]["event"]["data"] for seen in hook.seen[2:]]
    assert ["Generic", "Expired"] == types


async def test_an_event_that_expires_before_its_first_attempt_is_never_sent(start, hook):
    api = await start(deliveries_at_once=0)
    id_ = await api.enabled(hook.url)
    await api.signal("OPEN")
    await api.pass_time(61)
    worker = await start()
    log = await worker.done(id_)

    assert ["DELIVERED", "DELIVERED", "EXPIRED"] == [each["state"] for each in log]
    assert 2 == len(hook.seen)


async def test_the_event_behind_one_that_expired_is_sent(provider):
    async with stub(answers(reply(500), reply(200))) as hook:
        id_ = await lane_that_fails(provider, hook)
        await provider.signal("CLOSE")
        await provider.pass_time(61)
        log = await provider.done(id_)

    assert "DELIVERED" == log[-1]["state"]


async def failing_reopen(provider, hook, behind: str) -> list[dict]:
    """Return the requests from the REOPEN on, which fails once and then expires; a signal waits behind it."""
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)
    await provider.signal("REOPEN", direction="SELL", quantity=3, proquantPositionId="new")
    await attempts(provider, id_, 1)
    await provider.signal(behind, proquantPositionId="behind")
    await provider.pass_time(61)
    await provider.done(id_)
    return hook.seen[2:]


async def test_a_reopen_that_expires_is_replaced_by_a_close_of_the_old_position(provider):
    """The CLOSE has the opposite direction and else the REOPEN's data, so that no wrong position stays open."""
    async with stub(answers(reply(429, Retry_After="50"), reply(200))) as hook:
        seen = await failing_reopen(provider, hook, "OPEN")
        sent = [each.json["v1"]["event"] for each in seen]
        ids = [each.headers["webhook-id"] for each in seen]

    assert ["SIGNAL_REOPEN", "SIGNAL_CLOSE"] == [each["type"] for each in sent[:2]]
    assert {**sent[0]["data"], "direction": "BUY"} == sent[1]["data"]
    assert sent[0]["timestamp"] == sent[1]["timestamp"]
    assert ids[0] != ids[1]


async def test_the_close_that_replaces_a_reopen_comes_before_the_signals_behind_it(provider):
    async with stub(answers(reply(429, Retry_After="50"), reply(200))) as hook:
        seen = await failing_reopen(provider, hook, "CLOSE")
        sent = [each.json["v1"]["event"] for each in seen[-2:]]

    assert ["BUY", "behind"] == [sent[0]["data"]["direction"], sent[1]["data"]["proquantPositionId"]]


async def test_a_success_after_failures_notifies_the_user_once_more(provider):
    async with stub(answers(reply(500), reply(503), reply(200))) as hook:
        id_ = await lane_that_fails(provider, hook)
        for count, seconds in ((1, 1), (2, 2)):
            await attempts(provider, id_, count)
            await provider.pass_time(seconds)
        await provider.done(id_)
        types = await provider.notification_types()

    assert ["Generic", "Recovered"] == types


async def test_a_success_at_the_first_attempt_notifies_nobody(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)

    assert [] == await provider.notification_types()


@pytest.mark.parametrize("status", [500, 429])
async def test_a_user_who_disabled_during_the_attempt_is_not_promised_a_retry(provider, status):
    """The event was cancelled meanwhile, which only the database knows."""
    from support.provider import HeldAnswer

    held = HeldAnswer(reply(status))
    async with stub(answers(held, reply(200))) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()
        await held.arrived.wait()
        await provider.switch("DELETE", id_)
        held.let_go.set()
        await provider.done(id_)
        (notification,) = await provider.notifications()

    assert (
        "Foo Bar FX (user@example.com) answered the signal to open BUY 10 XAUUSD for Gold High-Risk with an error (HTTP"
        f" status {status}). The signal is not sent again. Check at Foo Bar FX whether BUY 10 XAUUSD is open."
    ) == notification["text"]
