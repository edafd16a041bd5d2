"""Metrics of deliveries: attempts by outcome, and the backlog that all processes share."""

from support.provider import OK, until
from support.serving import reply, stub


async def shown(provider) -> str:
    async with provider.client.get(f"{provider.url}/metrics") as answer:
        return await answer.text()


def value(text: str, name: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


async def test_attempts_are_counted_by_outcome(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.signal()
    await provider.done(id_)
    text = await shown(provider)

    assert value(text, 'webhook_attempts_total{outcome="DELIVERED"}') >= 2
    assert 0 == value(text, 'webhook_attempts_total{outcome="RETRY"}')
    assert value(text, "webhook_attempt_duration_seconds_count") >= 2
    assert 0 == value(text, 'webhook_oldest_waiting_seconds{kind="signal"}')
    assert 0 == value(text, "webhook_events_waiting")


async def test_the_backlog_has_the_age_of_the_oldest_event_and_the_lanes_by_state(start):
    idle = await start(deliveries_at_once=0)
    id_ = await idle.enabled("http://127.0.0.1:1/")
    await idle.signal()
    await idle.signal("CLOSE")
    await idle.pass_time(50)
    text = await shown(idle)

    assert 50 <= value(text, 'webhook_oldest_waiting_seconds{kind="signal"}') < 3_600
    assert value(text, 'webhook_lanes{state="due"}') >= 1
    assert 0 == value(text, 'webhook_lanes{state="in_progress"}')
    assert value(text, "webhook_events_waiting") >= 2
    assert 1 == value(text, 'integrations{state="approved"}')

    await idle.sql.execute("UPDATE integration SET state = 'PAUSED' WHERE id = $1", id_)

    async def is_paused() -> bool:
        return value(await shown(idle), 'integrations{state="paused"}') == 1

    await until(is_paused)


async def test_a_webhook_that_fails_makes_its_lane_retry(provider):
    async with stub(reply(500)) as hook:
        await provider.enabled(hook.url)
        await provider.signal()

        async def is_retrying() -> bool:
            text = await shown(provider)
            return (
                value(text, 'webhook_lanes{state="retrying"}') > 0
                and value(text, "integrations_failing") == 1
            )

        await until(is_retrying)
        assert value(await shown(provider), 'webhook_attempts_total{outcome="RETRY"}') > 0
        hook.answer = OK


async def test_every_process_shows_the_same_backlog(start):
    one = await start(deliveries_at_once=0)
    await one.enabled("http://127.0.0.1:1/")
    await one.signal()
    other = await start(deliveries_at_once=0)
    first, second = await shown(one), await shown(other)

    for name in ("webhook_events_waiting", 'webhook_lanes{state="due"}', 'integrations{state="approved"}'):
        assert value(first, name) == value(second, name)
