"""What is forgotten after a while, and what is not."""

from integrations.retention import sweep
from support.provider import Held
from support.serving import stub


async def age(provider, days: float) -> None:
    for table in ("event", "notification", "signal", "integration"):
        await provider.sql.execute(
            f"UPDATE {table} SET created = created - make_interval(secs => $1)", days * 86_400
        )


async def counts(provider) -> dict[str, int]:
    tables = ("event", "notification", "signal", "integration")
    return {each: await provider.sql.fetchval(f"SELECT count(*) FROM {each}") for each in tables}


async def test_what_is_done_and_old_is_forgotten_and_integrations_that_live_are_not(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.signal()
    await provider.done(id_)
    rejected = (await provider.requested(hook.url))["id"]
    await provider.do("reject", rejected)
    await provider.done(rejected)
    database = provider.deliverer.lanes._database
    await age(provider, 29)
    await sweep(database, 30)
    before = await counts(provider)
    await age(provider, 2)
    await sweep(database, 30)
    await sweep(database, 30)
    after = await counts(provider)

    assert {"event": 4, "notification": 0, "signal": 1, "integration": 2} == before
    assert {"event": 0, "notification": 0, "signal": 0, "integration": 1} == after


async def test_what_waits_is_not_forgotten(provider):
    held = Held()
    async with stub(held) as hook:
        id_ = await provider.approved(hook.url)
        await held.arrived.wait()
        await age(provider, 40)
        await sweep(provider.deliverer.lanes._database, 30)
        held.let_go.set()
        log = await provider.done(id_)

    assert ["DELIVERED"] == [each["state"] for each in log]


async def test_what_comes_after_forgetting_is_delivered_in_its_place(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)
    await age(provider, 40)
    await sweep(provider.deliverer.lanes._database, 30)
    await provider.signal()
    log = await provider.done(id_)

    assert [("SIGNAL_OPEN", "DELIVERED")] == [(each["type"], each["state"]) for each in log]
