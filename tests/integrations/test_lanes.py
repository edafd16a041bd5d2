"""Lanes: events in order, no event lost, and no change by a holder whose lease has ended (design, Order)."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from integrations.delivery import dispatcher, lane_worker, queue
from integrations.delivery.attempt_outcome import after_attempt
from integrations.delivery.queue import LEASE_SECONDS, LaneQueue, LaneReport
from integrations.webhook.webhook_response import AttemptOutcome, WebhookResponse
from support.provider import STRATEGY, HeldAnswer, Script, event, types, types_but_approved, until
from support.serving import reply, stub


@pytest.fixture
async def idle(start):
    """A provider that sends nothing: the test is the worker."""
    return await start(deliveries_at_once=0)


@pytest.fixture
def worker(idle):
    """The queue that the test works on."""
    return idle.dispatcher.queue


async def claim(worker, most: int = 10):
    return await worker.claim(most, [])


async def read(worker, lane):
    return (await worker.read([(lane.id, lane.done)]))[lane.id]


async def report(worker, idle, lane, queued, answer: WebhookResponse, *, is_given_up: bool = False):
    """Report the result of an attempt as a worker does."""
    to = (await idle.dispatcher.endpoints.get({lane.integration_id: 0}))[lane.integration_id].integration
    attempt = after_attempt(lane, queued, to, answer, at="2026-11-21T00:00:00.000Z", seconds=0.01)
    news = LaneReport(
        lane, attempt, queued.position, queued.position, 0, wants_more=True, is_given_up=is_given_up
    )
    return (await worker.report([news]))[0]


DELIVERED = WebhookResponse(AttemptOutcome.DELIVERED, 200)


async def one_lane(idle, worker, signals: int):
    """Claim both lanes; return the strategy's lane and its contents."""
    await idle.enabled("http://127.0.0.1:1/")
    for _ in range(signals):
        await idle.signal()
    claimed = await claim(worker)
    lane = next(each for each in claimed if each.strategy_id == STRATEGY)
    return lane, await read(worker, lane)


async def test_a_claimed_lane_cannot_be_claimed_again_until_its_lease_ends(idle, worker):
    await one_lane(idle, worker, 1)
    meanwhile = await claim(worker)
    await idle.pass_time(LEASE_SECONDS - 1)
    shortly_before = await claim(worker)
    await idle.pass_time(1.5)
    after = await claim(worker)

    assert ([], [], 2) == (meanwhile, shortly_before, len(after))


async def test_workers_that_claim_at_once_never_get_the_same_lane(idle, worker):
    for number in range(20):
        await idle.enabled("http://127.0.0.1:1/", f"s-{number}")
    claimed = await asyncio.gather(*(claim(worker, 3) for _ in range(20)))
    ids = [lane.id for some in claimed for lane in some]

    assert 40 == len(ids) == len(set(ids))


async def test_a_report_after_the_lease_changes_only_the_attempt_log(idle, worker):
    stale, before = await one_lane(idle, worker, 2)
    await idle.pass_time(LEASE_SECONDS + 1)
    fresh = next(each for each in await claim(worker) if each.strategy_id == STRATEGY)
    held = await report(worker, idle, stale, before.events[0], DELIVERED)
    row = await idle.sql.fetchrow("SELECT done_seq, is_held, token FROM lane WHERE id = $1", fresh.id)
    states = await idle.sql.fetch(
        "SELECT state, tries, jsonb_array_length(log) AS logged FROM event WHERE lane_id = $1 ORDER BY seq",
        fresh.id,
    )
    now = await report(worker, idle, fresh, (await read(worker, fresh)).events[0], DELIVERED)

    assert not held.is_held
    assert (0, True, fresh.token) == (row["done_seq"], row["is_held"], row["token"])
    assert [("WAITING", 0, 1), ("WAITING", 0, 0), ("WAITING", 0, 0)] == [tuple(each) for each in states]
    assert now.is_held


async def test_a_failure_reported_after_the_lease_causes_no_notification_and_no_delay(idle, worker):
    stale, before = await one_lane(idle, worker, 1)
    await idle.pass_time(LEASE_SECONDS + 1)
    await claim(worker)
    await report(worker, idle, stale, before.events[0], WebhookResponse(AttemptOutcome.RETRY, 500, "Generic"))

    assert [] == await idle.notifications()
    assert await idle.sql.fetchval("SELECT is_held FROM lane WHERE id = $1", stale.id)


async def test_a_lane_is_held_while_it_has_events_and_released_when_it_has_none(idle, worker):
    lane, found = await one_lane(idle, worker, 1)
    first = await report(worker, idle, lane, found.events[0], DELIVERED)
    last = await report(worker, idle, lane, found.events[1], DELIVERED)
    await idle.signal()
    again = await claim(worker)

    assert (True, False) == (first.is_held, last.is_held)
    assert [lane.id] == [each.id for each in again]


async def test_an_event_that_is_added_during_the_release_of_its_lane_is_not_lost(idle, worker):
    """The signal waits for the lane's row, or the release waits for the signal; either way a worker sees the event."""
    lane, found = await one_lane(idle, worker, 0)
    queue = found.events[0]
    for number in range(40):
        held, _ = await asyncio.gather(
            report(worker, idle, lane, queue, DELIVERED),
            idle.signal(proquantPositionId=f"p-{number}"),
        )
        if not held.is_held:
            lane = next(each for each in await claim(worker) if each.id == lane.id)
            queue = (await read(worker, lane)).events[0]
        else:
            queue = held.contents.events[0]

        assert f'"p-{number}"' in queue.event.data


async def test_a_release_waits_for_a_transaction_that_adds_an_event(idle, worker):
    lane, found = await one_lane(idle, worker, 0)
    other = idle.sql
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE lane SET last_seq = last_seq + 1 WHERE id = $1", lane.id)
    await other.execute(
        "INSERT INTO event (lane_id, seq, integration_id, type, timestamp_ms, expires)"
        " VALUES ($1, 2, $2, 'STRATEGY_DISABLED', 1, now() + interval '1 minute')",
        lane.id,
        lane.integration_id,
    )
    releasing = asyncio.create_task(report(worker, idle, lane, found.events[0], DELIVERED))
    await asyncio.sleep(0.1)
    was_done = releasing.done()
    await transaction.commit()
    held = await releasing

    assert not was_done
    assert held.is_held
    assert ["STRATEGY_DISABLED"] == [each.event.type for each in held.contents.events]


async def test_a_claimed_lanes_events_are_all_read(idle, worker):
    """Claim and read are two statements, and the second sees all that the row counts."""
    await idle.enabled("http://127.0.0.1:1/")
    await idle.signal()
    claimed = await claim(worker)
    reads = await worker.read([(each.id, each.done) for each in claimed])

    assert sorted([1, 2]) == sorted(len(each.events) for each in reads.values())


async def test_a_report_that_is_committed_twice_counts_once(idle, worker):
    """The server may commit and vanish before it answers; the worker then reports the batch again."""
    lane, found = await one_lane(idle, worker, 1)
    await report(worker, idle, lane, found.events[0], DELIVERED)
    failed = WebhookResponse(AttemptOutcome.RETRY, 500, "Generic")
    first = await report(worker, idle, lane, found.events[1], failed)
    again = await report(worker, idle, lane, found.events[1], failed)
    row = await idle.sql.fetchrow(
        "SELECT tries, jsonb_array_length(log) AS logged FROM event WHERE type = 'SIGNAL_OPEN'"
    )

    assert (False, False) == (first.is_held, again.is_held)
    assert (1, 1) == tuple(row)
    assert ["Generic"] == await idle.notification_types()


async def test_a_lane_that_is_given_up_can_be_claimed_at_once(idle, worker):
    lane, found = await one_lane(idle, worker, 1)
    held = await report(worker, idle, lane, found.events[0], DELIVERED, is_given_up=True)
    again = await claim(worker)

    assert not held.is_held
    assert [lane.id] == [each.id for each in again]


async def test_a_lane_sends_its_next_event_only_after_the_answer_to_the_one_before(provider):
    held = HeldAnswer()
    async with stub(held) as hook:
        await provider.enabled(hook.url)
        await held.arrived.wait()
        for _ in range(5):
            await provider.signal()
        await asyncio.sleep(0.1)
        under_way = types_but_approved(hook)
        held.let_go.set()
        await until(lambda: len(hook.seen) == 7)

    assert ["STRATEGY_ENABLED"] == under_way


async def test_a_dead_endpoint_delays_only_its_own_lane(provider, hook):
    held = HeldAnswer()
    async with stub(held) as dead:
        await provider.enabled(dead.url, "dead")
        await held.arrived.wait()
        id_ = await provider.enabled(hook.url, "alive")
        for _ in range(20):
            await provider.signal(strategy="dead")
            await provider.signal(strategy="alive")
        log = await provider.done(id_)
        held.let_go.set()

    assert {"DELIVERED"} == {each["state"] for each in log}


async def test_one_integration_does_not_use_all_the_lanes_of_a_process(start, hook, monkeypatch):
    monkeypatch.setattr(dispatcher, "MAX_PER_INTEGRATION", 2)
    monkeypatch.setattr(dispatcher, "MAX_CLAIMED", 2)
    provider = await start(deliveries_at_once=8)
    held = HeldAnswer()
    async with stub(held) as dead:
        id_ = await provider.approved(dead.url)
        for number in range(12):
            await provider.strategy(f"dead-{number}")
            await provider.switch("PUT", id_, f"dead-{number}")
        await held.arrived.wait()
        alive = await provider.enabled(hook.url, "alive")
        log = await provider.done(alive)
        held.let_go.set()

    assert {"DELIVERED"} == {each["state"] for each in log}


async def test_a_signal_claims_its_idle_lane_without_another_statement(provider, hook, monkeypatch):
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)

    async def nothing(*_):
        return []

    monkeypatch.setattr(queue.LaneQueue, "claim", nothing)
    for number in range(3):
        await provider.signal(proquantPositionId=str(number))
    await provider.done(id_)

    sent = [event(seen)["data"]["proquantPositionId"] for seen in hook.seen if b"SIGNAL_OPEN" in seen.body]
    assert ["0", "1", "2"] == sent


async def test_the_close_that_replaces_a_reopen_comes_before_events_that_were_read_meanwhile(
    provider, monkeypatch
):
    """A report that was made before the event expired may bring the events behind it."""
    honest = queue.LaneQueue.report
    held = HeldAnswer()
    script = Script([reply(200), reply(200), held, reply(200), reply(500), reply(200)])
    async with stub(script) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("CLOSE", proquantPositionId="first")
        await held.arrived.wait()
        for type_, position in (("CLOSE", "second"), ("REOPEN", "late"), ("CLOSE", "third")):
            await provider.signal(type_, proquantPositionId=position)
        await provider.sql.execute(
            "UPDATE event SET expires = now() + interval '0.9 seconds' WHERE type = 'SIGNAL_REOPEN'"
        )

        async def slow(self, reports):
            if any(each.result and '"second"' in (each.result.queued.event.data or "") for each in reports):
                await provider.signal("CLOSE", proquantPositionId="fourth")
            return await honest(self, reports)

        monkeypatch.setattr(queue.LaneQueue, "report", slow)
        held.let_go.set()
        await provider.done(id_)
        sent = [event(seen)["data"]["proquantPositionId"] for seen in hook.seen[2:]]

    assert ["first", "second", "late", "third", "fourth"] == list(dict.fromkeys(sent))


async def test_room_is_reserved_up_to_the_limits_of_the_process_and_of_each_integration(start, monkeypatch):
    monkeypatch.setattr(dispatcher, "MAX_PER_INTEGRATION", 2)
    provider = (await start(deliveries_at_once=3)).dispatcher
    one, other = uuid4(), uuid4()
    found = provider.reserve_room([(1, one), (2, one), (3, one), (4, other), (5, other)])

    assert [1, 2, 4] == found
    assert not provider.has_room


async def test_an_event_that_is_cancelled_while_its_lane_is_claimed_is_not_sent(provider, hook, monkeypatch):
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)
    start_lanes = dispatcher.Dispatcher.start_lanes

    async def late(self, *arguments):
        monkeypatch.setattr(dispatcher.Dispatcher, "start_lanes", start_lanes)
        await provider.switch("DELETE", id_)
        await start_lanes(self, *arguments)

    monkeypatch.setattr(dispatcher.Dispatcher, "start_lanes", late)
    await provider.signal()
    await provider.done(id_)

    assert "STRATEGY_DISABLED" == types_but_approved(hook)[-1]
    assert "SIGNAL_OPEN" not in types(hook)


async def test_a_retry_keeps_its_place_and_its_webhook_id(provider):
    async with stub(Script([reply(200), reply(200), reply(503), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal(proquantPositionId="one")
        await until(lambda: len(hook.seen) == 3)
        await provider.signal(proquantPositionId="two")
        await provider.done(id_)
        sent = hook.seen[2:]

    assert ["one", "one", "two"] == [event(each)["data"]["proquantPositionId"] for each in sent]
    assert sent[0].headers["webhook-id"] == sent[1].headers["webhook-id"] != sent[2].headers["webhook-id"]
    assert sent[0].body == sent[1].body


async def test_several_processes_deliver_each_event_once_and_in_order(start, hook):
    providers = [await start() for _ in range(3)]
    id_ = await providers[0].enabled(hook.url)
    for number in range(60):
        await providers[0].signal(proquantPositionId=str(number))
    await providers[0].done(id_)
    sent = [event(seen)["data"]["proquantPositionId"] for seen in hook.seen if b"SIGNAL_OPEN" in seen.body]

    assert [str(number) for number in range(60)] == sent


async def test_a_process_without_room_leaves_its_events_to_others(start, hook):
    api = await start(deliveries_at_once=0)
    await start()
    id_ = await api.enabled(hook.url)
    await api.signal()
    log = await api.done(id_)

    assert {"DELIVERED"} == {each["state"] for each in log}


async def test_an_attempt_begins_only_while_the_lease_outlasts_the_timeout_by_five_seconds(
    start, hook, monkeypatch
):
    """Measured on a monotonic clock. Otherwise the worker renews the lease first."""
    provider = await start()
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)
    now = dispatcher.time.monotonic
    skipped = 0.0

    class Clock:
        monotonic = staticmethod(lambda: now() + skipped)

    monkeypatch.setattr(lane_worker, "time", Clock)
    monkeypatch.setattr(dispatcher, "time", Clock)
    asked = []
    honest = queue.LaneQueue.report

    async def watched(self, reports):
        asked.extend(each.result is None for each in reports)
        return await honest(self, reports)

    monkeypatch.setattr(queue.LaneQueue, "report", watched)
    start_lanes = dispatcher.Dispatcher.start_lanes

    async def slowly(self, *arguments):
        nonlocal skipped
        found = await start_lanes(self, *arguments)
        skipped += LEASE_SECONDS - provider.webhook_client.timeout_seconds - lane_worker.MARGIN_SECONDS + 0.1
        return found

    monkeypatch.setattr(dispatcher.Dispatcher, "start_lanes", slowly)
    await provider.signal()
    log = await provider.done(id_)

    assert "DELIVERED" == log[-1]["state"]
    assert [True, False] == asked


async def test_the_wall_clock_decides_only_about_signatures_and_versions(provider, hook):
    """A clock that differs from the database's changes no lifetime and no lease."""
    from datetime import UTC, datetime

    provider.webhook_client.now = lambda: datetime(2031, 1, 1, tzinfo=UTC)
    id_ = await provider.enabled(hook.url)
    await provider.signal()
    log = await provider.done(id_)

    assert {"DELIVERED"} == {each["state"] for each in log}
    assert {str(int(datetime(2031, 1, 1, tzinfo=UTC).timestamp()))} == {
        seen.headers["webhook-timestamp"] for seen in hook.seen
    }


async def test_a_lane_that_is_being_claimed_when_the_process_stops_is_released(start, hook, monkeypatch):
    first = await start()
    taken_up = asyncio.Event()
    claim = LaneQueue.claim

    async def claim_slowly(self: LaneQueue, *arguments: Any) -> Any:
        """Commit the claim before this process knows of it."""
        found = await claim(self, *arguments)
        if found:
            taken_up.set()
            await asyncio.sleep(0.1)
        return found

    monkeypatch.setattr(LaneQueue, "claim", claim_slowly)
    await first.enabled(hook.url)
    async with asyncio.timeout(60):
        await taken_up.wait()
    await first.dispatcher.close()

    assert [] == await first.sql.fetch("SELECT FROM lane WHERE is_held")


async def test_a_process_that_stops_releases_its_lanes_after_the_attempts_in_flight(start):
    held = HeldAnswer()
    async with stub(held) as slow:
        first = await start()
        id_ = await first.enabled(slow.url)
        await held.arrived.wait()
        closing = asyncio.create_task(first.dispatcher.close())
        await asyncio.sleep(0.05)
        held.let_go.set()
        await closing
        rows = await first.sql.fetch("SELECT is_held FROM lane")
        second = await start()
        log = await second.done(id_)

    assert {False} == {row["is_held"] for row in rows}
    assert {"DELIVERED"} == {each["state"] for each in log}
    assert len(slow.seen) == len({seen.headers["webhook-id"] for seen in slow.seen})
