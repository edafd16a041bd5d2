"""Order and delivery while workers and the receiver are killed, Postgres restarts and webhooks fail.

Events pass a proxy that fails at random, and reach the real receiver. Its trades show which events arrived, and in
which order.
"""

import asyncio
import random
import time
from collections import Counter

import asyncpg
import pytest

from network.processes import Network
from network.topology import ServiceSpec
from support import provider as support
from support.chain import free_ports
from support.inbox import Inbox, accounts, traded
from support.provider import KEY, USER, Provider
from support.serving import stub

WORKERS = 3
RECEIVER = "signal-receiver"
LANES = 200
EVENTS_PER_LANE = 100
KILLS = 4
BETWEEN_SECONDS = (15.0, 20.0)
"""An OPEN expires after a minute, and each kill may delay the lanes of that worker by a lease of twenty seconds."""
TYPES = ("OPEN", "REOPEN", "CLOSE")
FEED_SECONDS = 70.0
DRAIN_SECONDS = 150.0


@pytest.fixture
def processes(own_postgres, tmp_path):
    """Start a process that accepts requests but delivers nothing, workers, and the receiver, on one Postgres."""
    first = free_ports()
    common = {
        "QUOTES_USERS_FILE": str(support.write_users(tmp_path / "users")),
        "QUOTES_DATABASE_URL": own_postgres.dsn,
        "QUOTES_STOP_GRACE_SECONDS": "0",
    }
    environment = {
        **common,
        "QUOTES_ENCRYPTION_KEYS": KEY,
        "QUOTES_ALLOW_HTTP": "true",
        "QUOTES_ALLOW_NETWORKS": "127.0.0.0/8",
        "QUOTES_REQUESTS_PER_ADDRESS": "100000",
        "QUOTES_REQUESTS_PER_EMAIL": "100000",
    }
    names = ["api", *(f"worker-{number}" for number in range(WORKERS))]
    specs = [
        ServiceSpec(
            name,
            "integrations",
            first + offset,
            {
                **environment,
                "QUOTES_PORT": str(first + offset),
                "QUOTES_DELIVERIES_AT_ONCE": "0" if name == "api" else "100",
            },
        )
        for offset, name in enumerate(names)
    ]
    (tmp_path / "accounts.toml").write_text(accounts([account(lane) for lane in range(LANES)], USER))
    port = first + len(names)
    own = {"QUOTES_PORT": str(port), "QUOTES_ACCOUNTS_FILE": str(tmp_path / "accounts.toml")}
    specs.append(ServiceSpec(RECEIVER, "signal_receiver", port, {**common, **own}))
    with Network(specs, logs=tmp_path / "logs") as network:
        network.wait_ready()
        yield network


def account(lane: int) -> str:
    return f"account-{lane}"


async def set_up(provider: Provider, inbox: Inbox, lane: int) -> None:
    """Create an integration for a new strategy. SQL approves it, because the API allows a user only a hundred."""
    id_ = (await provider.requested(inbox.url(account(lane))))["id"]
    await provider.sql.execute("UPDATE integration SET state = 'APPROVED' WHERE id = $1::uuid", id_)
    await provider.strategy(f"strategy-{lane}")
    got = await provider.switch("PUT", id_, f"strategy-{lane}")
    assert 200 == got.status, got.body


async def feed(provider: Provider, lane: int, chance: random.Random) -> None:
    """Send one strategy's signals as the engine does: in order, each until it is accepted."""
    pause = FEED_SECONDS / EVENTS_PER_LANE
    for number in range(EVENTS_PER_LANE):
        type_ = TYPES[number % len(TYPES)]
        more = {"signalId": f"{lane}-{number}", "proquantPositionId": str(number), "quantity": 0.01}
        while (got := await provider.signal(type_, f"strategy-{lane}", **more)).status != 202:
            assert 503 == got.status, got.body
            await asyncio.sleep(0.2)
        await asyncio.sleep(chance.uniform(0, 2 * pause))


async def break_things(network: Network, postgres, chance: random.Random) -> list[str]:
    """Kill and restart workers at random, and once the receiver; restart Postgres in between."""
    done = []
    for number in range(KILLS):
        await asyncio.sleep(chance.uniform(*BETWEEN_SECONDS))
        name = RECEIVER if number == KILLS - 1 else f"worker-{chance.randrange(WORKERS)}"
        await asyncio.to_thread(network.kill, name)
        done.append(f"{name} killed")
        await asyncio.sleep(chance.uniform(0, 2))
        await asyncio.to_thread(network.restart, name)
        if number == KILLS // 2:
            await asyncio.to_thread(postgres.stop)
            await asyncio.sleep(chance.uniform(0.5, 2))
            await asyncio.to_thread(postgres.start)
            done.append("Postgres restarted")
    return done


def expected_trades() -> list[tuple[str, str]]:
    """Return the trades of a lane whose signals are each carried out once, in order."""
    found: list[tuple[str, str]] = []
    is_open = None
    for number in range(EVENTS_PER_LANE):
        type_ = TYPES[number % len(TYPES)]
        if type_ != "OPEN":
            found.append(("CLOSE", str(is_open)))
        if type_ != "CLOSE":
            found.append(("OPEN", str(number)))
            is_open = number
    return found


async def states(dsn: str) -> Counter[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT state, count(*) AS count FROM event GROUP BY state")
        return Counter({row["state"]: row["count"] for row in rows})
    finally:
        await connection.close()


async def undelivered(dsn: str) -> list[dict[str, object]]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT type, state, created::text, first_try::text, expires::text, tries, log FROM event"
            " WHERE state <> 'DELIVERED' LIMIT 5"
        )
        return [dict(row) for row in rows]
    finally:
        await connection.close()


async def drained(dsn: str) -> Counter[str]:
    until = time.monotonic() + DRAIN_SECONDS
    while (found := await states(dsn))["WAITING"] and time.monotonic() < until:
        await asyncio.sleep(0.5)
    return found


async def test_every_event_arrives_in_the_order_of_its_lane_and_none_expires(
    processes, own_postgres, client, capsys
):
    chance = random.Random(20_261_121)
    inbox = Inbox(chance, client, processes.origin(RECEIVER))
    sql = await asyncpg.connect(own_postgres.dsn)
    provider = Provider(client, processes.origin("api"), sql, None)
    async with stub(inbox) as inbox.stub:
        for lane in range(LANES):
            await set_up(provider, inbox, lane)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            breaking = group.create_task(break_things(processes, own_postgres, chance))
            for lane in range(LANES):
                group.create_task(feed(provider, lane, chance))
        fed = time.monotonic()
        found = await drained(own_postgres.dsn)
        ended = time.monotonic()
    await sql.close()
    sql = await asyncpg.connect(own_postgres.dsn)  # the server's restart has ended the first connection
    trades = [await traded(sql, account(lane)) for lane in range(LANES)]
    await sql.close()
    with capsys.disabled():
        print(  # noqa: T201 - the test also reports figures
            f"\n{LANES} lanes, {LANES * EVENTS_PER_LANE} signals in {fed - began:.0f} s, all done {ended - fed:.0f} s"
            f" later; {', '.join(breaking.result())}; states {dict(found)}; the webhooks: {dict(inbox.counts)}"
        )

    assert [] == await undelivered(own_postgres.dsn)
    assert {"DELIVERED": LANES * (EVENTS_PER_LANE + 1)} == dict(found)
    assert [expected_trades()] * LANES == trades
    assert inbox.counts["outage"]
    assert inbox.counts["duplicate"]
