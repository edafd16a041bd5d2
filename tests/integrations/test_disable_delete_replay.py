"""Disabling, deleting and replaying (design, Ending)."""

import asyncio

import pytest

from support.provider import OK, STRATEGY, HeldAnswer, Script, event, typed, types, types_but_approved, until
from support.serving import reply, stub


class Stop:
    """A webhook that answers all events but the first of one type, which it answers when the test lets it."""

    def __init__(self, type_: str, then=None) -> None:
        self.type = type_
        self.held = HeldAnswer(then or reply(200))
        self.has_held = False

    async def __call__(self, seen):
        if event(seen)["type"] == self.type and not self.has_held:
            self.has_held = True
            return await self.held(seen)
        return await reply(200)(seen)


async def blocked(provider, hook, stop: Stop, type_: str, *behind: str) -> str:
    """Return an integration with an attempt of this type in flight and more signals behind it."""
    id_ = await provider.enabled(hook.url)
    await provider.signal(type_, direction="SELL")
    await stop.held.arrived.wait()
    for each in behind:
        await provider.signal(each, direction="SELL")
    return id_


async def test_disabling_cancels_openings_sends_closes_and_then_strategy_disabled(provider):
    stop = Stop("SIGNAL_CLOSE")
    async with stub(stop) as hook:
        id_ = await blocked(provider, hook, stop, "CLOSE", "OPEN", "CLOSE", "REOPEN", "OPEN")
        got = await provider.switch("DELETE", id_)
        stop.held.let_go.set()
        log = await provider.done(id_)

    assert 200 == got.status
    signals = [(each["type"], each["state"]) for each in log if each["type"].startswith("SIGNAL")]
    assert {
        ("SIGNAL_OPEN", "CANCELLED"),
        ("SIGNAL_REOPEN", "CANCELLED"),
        ("SIGNAL_CLOSE", "DELIVERED"),
    } == set(signals)
    sent = [event(seen) for seen in hook.seen if not event(seen)["type"].startswith("INTEGRATION")]
    assert ["STRATEGY_ENABLED", "SIGNAL_CLOSE", "SIGNAL_CLOSE", "SIGNAL_CLOSE", "STRATEGY_DISABLED"] == [
        each["type"] for each in sent
    ]
    assert ["SELL", "SELL", "BUY"] == [each["data"]["direction"] for each in sent[1:4]]


@pytest.mark.parametrize("answer", [reply(500), reply(429)])
async def test_an_attempt_in_flight_is_not_repeated_after_disabling(provider, answer):
    stop = Stop("SIGNAL_OPEN", answer)
    async with stub(stop) as hook:
        id_ = await blocked(provider, hook, stop, "OPEN")
        await provider.switch("DELETE", id_)
        stop.held.let_go.set()
        log = await provider.done(id_)
        await provider.pass_time(10)
        await asyncio.sleep(0.05)

    assert 1 == types(hook).count("SIGNAL_OPEN")
    assert "STRATEGY_DISABLED" == types_but_approved(hook)[-1]
    assert ["CANCELLED"] == [each["state"] for each in log if each["type"] == "SIGNAL_OPEN"]


async def test_an_attempt_in_flight_that_succeeds_counts_as_delivered_after_disabling(provider):
    stop = Stop("SIGNAL_OPEN")
    async with stub(stop) as hook:
        id_ = await blocked(provider, hook, stop, "OPEN")
        await provider.switch("DELETE", id_)
        stop.held.let_go.set()
        log = await provider.done(id_)

    assert ["DELIVERED"] == [each["state"] for each in log if each["type"] == "SIGNAL_OPEN"]


async def test_a_reopen_in_flight_is_followed_by_a_close_after_disabling(provider):
    stop = Stop("SIGNAL_REOPEN")
    async with stub(stop) as hook:
        id_ = await blocked(provider, hook, stop, "REOPEN")
        await provider.switch("DELETE", id_)
        stop.held.let_go.set()
        await provider.done(id_)

    assert ["SIGNAL_REOPEN", "SIGNAL_CLOSE", "STRATEGY_DISABLED"] == types_but_approved(hook)[-3:]


async def test_a_cancelled_retry_does_not_delay_its_lane(provider):
    async with stub(Script([reply(200), reply(200), reply(429, Retry_After="50"), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()
        await until(provider.notifications)
        await provider.switch("DELETE", id_)
        await provider.done(id_)

    assert "STRATEGY_DISABLED" == types_but_approved(hook)[-1]


async def test_enabled_again_an_integration_gets_only_later_signals(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.switch("DELETE", id_)
    await provider.signal(proquantPositionId="between")
    await provider.switch("PUT", id_)
    await provider.signal(proquantPositionId="after")
    await provider.done(id_)
    sent = [event(seen) for seen in hook.seen if not event(seen)["type"].startswith("INTEGRATION")]

    assert ["STRATEGY_ENABLED", "STRATEGY_DISABLED", "STRATEGY_ENABLED", "SIGNAL_OPEN"] == [
        each["type"] for each in sent
    ]
    assert "after" == sent[-1]["data"]["proquantPositionId"]


async def test_deleting_cancels_all_events_but_integration_deleted(provider):
    stop = Stop("SIGNAL_CLOSE", reply(500))
    async with stub(stop) as hook:
        id_ = await blocked(provider, hook, stop, "CLOSE", "OPEN", "CLOSE", "REOPEN")
        got = await provider.delete(id_)
        stop.held.let_go.set()
        log = await provider.done(id_)
        after = await provider.signal()
        await provider.pass_time(100)
        await asyncio.sleep(0.05)

    assert (200, "DELETED") == (got.status, got.json["status"])
    assert {"events": 0} == after.json
    assert {"CANCELLED"} == {each["state"] for each in log if each["type"].startswith("SIGNAL")}
    assert ["STRATEGY_ENABLED", "SIGNAL_CLOSE", "INTEGRATION_DELETED"] == types_but_approved(hook)[-3:]


async def test_deleting_notifies_the_user_of_positions_that_may_stay_open(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.strategy("closed", "Closed one")
    await provider.switch("PUT", id_, "closed")
    await provider.signal("OPEN", quantity=7, ticker="EURUSD")
    await provider.signal("OPEN", "closed")
    await provider.signal("CLOSE", "closed")
    await provider.done(id_)
    await provider.delete(id_)
    notified = (await provider.notifications())[-1]

    assert "Deleted" == notified["type"]
    assert "BUY 7 EURUSD of Gold High-Risk" in notified["text"]
    assert "Closed one" not in notified["text"]


async def test_an_opening_in_flight_when_the_integration_is_deleted_may_stay_open(provider):
    """The webhook may still open the position; the signals behind are not sent."""
    held = HeldAnswer()
    async with stub(Script([OK, OK, held, OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.signal("OPEN", ticker="EURUSD")
        await provider.signal("REOPEN", direction="SELL")
        await held.arrived.wait()
        await provider.delete(id_)
        held.let_go.set()
        await provider.done(id_)
        notified = [each["text"] for each in await provider.notifications()]

    assert [
        (
            "Foo Bar FX (user@example.com) is deleted and gets no more signals. These positions may still be open at"
            " Foo Bar FX: BUY 10 EURUSD of Gold High-Risk. Close the positions at Foo Bar FX if you do not want to keep them."
        )
    ] == notified


async def test_an_opening_that_was_never_sent_does_not_stay_open(start):
    provider = await start(deliveries_at_once=0)
    id_ = await provider.enabled("http://127.0.0.1:1")
    await provider.signal("OPEN")
    await provider.delete(id_)

    assert [] == await provider.notification_types()


async def test_deleting_without_open_positions_notifies_nobody(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.signal("OPEN")
    await provider.signal("CLOSE")
    await provider.done(id_)
    await provider.delete(id_)

    assert [] == await provider.notification_types()


async def test_a_position_whose_close_was_refused_may_stay_open(provider):
    answers = [reply(200), reply(200), reply(200), typed("MarketClosed"), reply(200)]
    async with stub(Script(answers)) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("OPEN")
        await provider.signal("CLOSE")
        await provider.done(id_)
        await provider.delete(id_)
        notified = await provider.notification_types()

    assert ["MarketClosed", "Deleted"] == notified


async def test_no_signal_follows_strategy_disabled_when_both_come_at_once(provider, hook):
    """Both lock the lane's row, so STRATEGY_DISABLED is the last event."""
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)  # INTEGRATION_APPROVED has another lane, and may arrive later
    for _ in range(5):
        await asyncio.gather(
            *(provider.signal() for _ in range(5)),
            provider.switch("DELETE", id_),
            *(provider.signal() for _ in range(5)),
        )
        await provider.done(id_)
        assert "STRATEGY_DISABLED" == types_but_approved(hook)[-1]
        await provider.switch("PUT", id_)


async def replayed(provider, id_: str, event_id: str):
    return await provider.send("POST", f"/v1/me/integrations/{id_}/deliveries/{event_id}/replay")


async def test_a_replay_keeps_the_webhook_id_and_the_body(provider):
    async with stub(Script([reply(200), reply(200), typed("InsufficientFunds"), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()
        last = (await provider.done(id_))[-1]
        got = await replayed(provider, id_, last["eventId"])
        log = await provider.done(id_)

    assert 202 == got.status
    assert ["REFUSED", "DELIVERED"] == [last["state"], log[-1]["state"]]
    assert ["REFUSED", "DELIVERED"] == [each["outcome"] for each in log[-1]["attempts"]]
    assert hook.seen[-1].headers["webhook-id"] == hook.seen[-2].headers["webhook-id"]
    assert hook.seen[-1].body == hook.seen[-2].body


async def test_an_expired_event_has_a_new_lifetime_when_it_is_replayed(provider):
    async with stub(Script([reply(200), reply(200), reply(500), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()
        await until(provider.notifications)
        await provider.pass_time(61)
        last = (await provider.done(id_))[-1]
        await replayed(provider, id_, last["eventId"])
        log = await provider.done(id_)

    assert ["EXPIRED", "DELIVERED"] == [last["state"], log[-1]["state"]]


async def test_an_event_cannot_be_replayed_after_a_later_signal(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.signal("OPEN")
    await provider.signal("CLOSE")
    log = await provider.done(id_)
    opened, closed = [each["eventId"] for each in log if each["type"].startswith("SIGNAL")]
    got = [(await replayed(provider, id_, each)).status for each in (opened, closed)]

    assert [409, 202] == got


async def test_an_event_cannot_be_replayed_while_a_later_signal_waits(provider):
    stop = Stop("SIGNAL_CLOSE")
    async with stub(stop) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.signal("OPEN")
        await provider.signal("CLOSE")
        await stop.held.arrived.wait()

        async def opened():
            return next(
                (each["eventId"] for each in await provider.deliveries(id_)
                 if (each["type"], each["state"]) == ("SIGNAL_OPEN", "DELIVERED")), None
            )  # fmt: skip

        got = await replayed(provider, id_, await until(opened))
        stop.held.let_go.set()
        await provider.done(id_)

    assert 409 == got.status


async def test_an_event_cannot_be_replayed_while_it_is_being_sent(provider):
    stop = Stop("SIGNAL_OPEN")
    async with stub(stop) as hook:
        id_ = await blocked(provider, hook, stop, "OPEN")
        event_id = (await provider.deliveries(id_))[-1]["eventId"]
        got = await replayed(provider, id_, event_id)
        stop.held.let_go.set()
        await provider.done(id_)

    assert 409 == got.status


async def test_an_event_of_a_disabled_strategy_cannot_be_replayed(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.signal()
    event_id = (await provider.done(id_))[-1]["eventId"]
    await provider.switch("DELETE", id_)
    await provider.done(id_)
    got = await replayed(provider, id_, event_id)

    assert 409 == got.status


async def test_an_event_can_be_replayed_at_most_ten_times(provider, hook):
    id_ = await provider.approved(hook.url)
    event_id = (await provider.done(id_))[-1]["eventId"]
    got = []
    for _ in range(11):
        got.append((await replayed(provider, id_, event_id)).status)
        await provider.done(id_)

    assert [202] * 10 + [409] == got
    assert 11 == len(hook.seen)


@pytest.mark.parametrize("event_id", ["00000000-0000-4000-8000-000000000000", "nonsense"])
async def test_an_unknown_event_is_not_found(provider, hook, event_id):
    id_ = await provider.approved(hook.url)

    assert 404 == (await replayed(provider, id_, event_id)).status


async def test_the_attempt_log_has_filters_and_pages(provider):
    async with stub(Script([reply(200), reply(200), typed("MarketClosed"), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        for _ in range(4):
            await provider.signal()
        await provider.done(id_)
        refused = await provider.deliveries(id_, "?state=REFUSED")
        opened = await provider.deliveries(id_, f"?type=SIGNAL_OPEN&strategyId={STRATEGY}")
        newest = await provider.deliveries(id_, "?limit=2")
        older = await provider.deliveries(id_, f"?limit=100&before={newest[0]['eventId']}")
        faults = [
            (await provider.send("GET", f"/v1/me/integrations/{id_}/deliveries?{each}")).status
            for each in ("limit=0", "limit=101", "limit=x", "state=LOST", "type=X", "before=x", "other=1")
        ]

    assert ["MarketClosed"] == [each["attempts"][0]["errorType"] for each in refused]
    assert (4, 2, 4) == (len(opened), len(newest), len(older))
    assert [400] * 7 == faults
