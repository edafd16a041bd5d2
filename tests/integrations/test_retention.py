"""Deletion of old data."""

from integrations import retention
from integrations.retention import MAX_ROWS, STATEMENTS, delete_old
from support.provider import HeldAnswer, until
from support.serving import stub


async def age(provider, days: float) -> None:
    for table in ("event", "notification", "signal", "integration"):
        await provider.sql.execute(
            f"UPDATE {table} SET created = created - make_interval(secs => $1)", days * 86_400
        )


async def counts(provider) -> dict[str, int]:
    tables = ("event", "notification", "signal", "integration")
    return {each: await provider.sql.fetchval(f"SELECT count(*) FROM {each}") for each in tables}


async def sweep_all(provider) -> None:
    for _ in range(3):
        await delete_old(provider.dispatcher.queue._database, 30)


async def test_old_finished_data_is_deleted_and_live_integrations_are_not(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.signal("OPEN")
    await provider.signal("CLOSE")
    await provider.done(id_)
    rejected = (await provider.requested(hook.url))["id"]
    await provider.do("reject", rejected)
    await provider.done(rejected)
    database = provider.dispatcher.queue._database
    await age(provider, 29)
    await delete_old(database, 30)
    before = await counts(provider)
    await age(provider, 2)
    await delete_old(database, 30)
    await delete_old(database, 30)
    after = await counts(provider)

    assert {"event": 5, "notification": 0, "signal": 2, "integration": 2} == before
    assert {"event": 0, "notification": 0, "signal": 0, "integration": 1} == after


async def test_the_event_of_a_position_that_may_be_open_is_kept(provider, hook):
    """A user who deletes the integration must be notified of the position."""
    id_ = await provider.enabled(hook.url)
    await provider.signal("OPEN")
    await provider.signal("CLOSE")
    await provider.signal("OPEN", ticker="EURUSD")
    await provider.signal("REOPEN", ticker="EURUSD", direction="SELL")
    await provider.done(id_)
    await age(provider, 40)
    await sweep_all(provider)
    left = await provider.deliveries(id_)
    await provider.delete(id_)
    await until(provider.notifications)
    notified = [each["text"] for each in await provider.notifications()]

    assert [("SIGNAL_REOPEN", "SELL")] == [(each["type"], each["data"]["direction"]) for each in left]
    assert [
        (
            "Foo Bar FX (user@example.com) is deleted and gets no more signals. These positions may still be open at"
            " Foo Bar FX: SELL 10 EURUSD of Gold High-Risk. Close the positions at Foo Bar FX if you do not want to keep them."
        )
    ] == notified

    await provider.done(id_)
    await age(provider, 40)
    await sweep_all(provider)

    assert 0 == (await counts(provider))["integration"]


async def test_a_close_is_not_deleted_before_the_opening_that_it_closed(provider, hook, monkeypatch):
    """Also in batches of one event. Otherwise the position would seem to be open for ever."""
    id_ = await provider.enabled(hook.url)
    for type_ in ("OPEN", "CLOSE") * 3:
        await provider.signal(type_)
    await provider.done(id_)
    await age(provider, 40)
    # an updated row is behind all others in the table, and found last
    await provider.sql.execute("UPDATE event SET tries = tries WHERE type = 'SIGNAL_OPEN'")
    lefts = []
    one_at_once = [each.replace(f"LIMIT {MAX_ROWS}", "LIMIT 1") for each in STATEMENTS]
    monkeypatch.setattr(retention, "STATEMENTS", one_at_once)
    for _ in range(10):
        await delete_old(provider.dispatcher.queue._database, 30)
        lefts.append([each["type"] for each in await provider.deliveries(id_)])

    assert all(left[-1:] != ["SIGNAL_OPEN"] for left in lefts)
    assert [] == lefts[-1]


async def test_a_waiting_event_is_kept(provider):
    held = HeldAnswer()
    async with stub(held) as hook:
        id_ = await provider.approved(hook.url)
        await held.arrived.wait()
        await age(provider, 40)
        await delete_old(provider.dispatcher.queue._database, 30)
        held.let_go.set()
        log = await provider.done(id_)

    assert ["DELIVERED"] == [each["state"] for each in log]


async def test_events_after_a_deletion_are_delivered(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)
    await age(provider, 40)
    await delete_old(provider.dispatcher.queue._database, 30)
    await provider.signal()
    log = await provider.done(id_)

    assert [("SIGNAL_OPEN", "DELIVERED")] == [(each["type"], each["state"]) for each in log]
