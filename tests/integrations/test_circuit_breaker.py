"""The circuit breaker: causes and effects of a pause (design, Retries and Ending)."""

from uuid import UUID

import pytest

from integrations.delivery.queue import AttemptResult, ClaimedLane, LaneReport, LaneStatus
from support.provider import STRATEGY, Script, until
from support.serving import reply, stub


@pytest.fixture
async def idle(start):
    """A provider that sends nothing: a test reports the results of attempts itself, so that no retry adds another."""
    return await start(deliveries_at_once=0)


async def report_failures(provider, id_: str, number: int) -> None:
    """Report failed attempts to the circuit breaker, and wait until they are counted."""
    lane = ClaimedLane(1, 1, UUID(id_), STRATEGY, (0, 1))
    result = AttemptResult(None, "WAITING", {}, is_healthy=False)
    report = LaneReport(lane, result, (1, 0), (1, 0), 0, wants_more=False)
    before = await failures(provider)
    provider.dispatcher._circuit_breaker.record([(report, LaneStatus(True, True, None))] * number)

    async def counted():
        return await failures(provider) == before + number

    await until(counted)


async def failures(provider) -> int:
    return await provider.sql.fetchval("SELECT failures FROM integration")


async def state(provider) -> str:
    return await provider.sql.fetchval("SELECT state FROM integration")


async def test_twenty_failures_in_a_row_over_ten_minutes_pause_the_integration(idle):
    id_ = await idle.approved("http://127.0.0.1:1/")
    await report_failures(idle, id_, 1)
    await idle.pass_time(601)
    await report_failures(idle, id_, 18)
    before = await state(idle)
    await report_failures(idle, id_, 1)
    (notification,) = await idle.notifications()

    assert ("APPROVED", "PAUSED") == (before, await state(idle))
    assert ("Paused", (
        "Foo Bar FX (user@example.com) is paused: at least 20 deliveries in a row have failed for ten minutes or longer."
        " No new signals are sent to Foo Bar FX, and positions that are open at Foo Bar FX may stay open. When Foo Bar"
        " FX works again, resume the integration and enable your strategies."
    )) == (notification["type"], notification["text"])  # fmt: skip


async def test_twenty_failures_in_less_than_ten_minutes_do_not_pause_the_integration(idle):
    id_ = await idle.approved("http://127.0.0.1:1/")
    await report_failures(idle, id_, 1)
    await idle.pass_time(500)
    await report_failures(idle, id_, 24)

    assert "APPROVED" == await state(idle)


@pytest.mark.parametrize("answer", [reply(200), reply(422, {"type": "MarketClosed"}, x_proquant_error="1")])
async def test_a_success_or_a_typed_error_ends_a_run_of_failures(provider, answer):
    async with stub(Script([reply(500), answer])) as hook:
        id_ = await provider.approved(hook.url)

        async def has_failed():
            return await failures(provider) == 1

        await until(has_failed)
        await provider.pass_time(6)
        await provider.done(id_)

        async def is_reset():
            return await failures(provider) == 0

        assert await until(is_reset)


async def test_an_untyped_410_pauses_the_integration_at_once_and_notifies_the_user(provider):
    async with stub(Script([reply(200), reply(200), reply(410)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()

        async def is_paused():
            return await state(provider) == "PAUSED"

        await until(is_paused)
        await provider.done(id_)
        is_enabled = await provider.sql.fetchval("SELECT bool_or(is_enabled) FROM lane")
        types = await provider.notification_types()

    assert not is_enabled
    assert ["Generic", "Paused"] == types[:2]


async def test_a_typed_410_does_not_pause_the_integration(provider):
    async with stub(reply(410, {"type": "PositionNotFound"}, x_proquant_error="1")) as hook:
        id_ = await provider.approved(hook.url)
        await provider.done(id_)

    assert "APPROVED" == await state(provider)


async def test_a_pause_disables_every_strategy_and_resuming_does_not_enable_them(provider):
    async with stub(Script([reply(200), reply(200), reply(200), reply(410), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.strategy("second")
        await provider.switch("PUT", id_, "second")
        await provider.done(id_)
        await provider.signal()

        async def both_are_disabled():
            log = await provider.deliveries(id_)
            return sum(each["type"] == "STRATEGY_DISABLED" for each in log) == 2

        await until(both_are_disabled)
        while_paused = await provider.signal(strategy="second")
        await provider.do("resume", id_)
        after = await provider.signal(strategy="second")
        again = await provider.switch("PUT", id_, STRATEGY)

    assert ({"events": 0}, {"events": 0}) == (while_paused.json, after.json)
    assert 200 == again.status
