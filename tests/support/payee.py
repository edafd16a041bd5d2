"""Run a payee in the test's process, call it, and read its database directly."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from chassis.database import Database
from dfsp_api.idempotency import fingerprint, quote_uuid
from dfsp_api.payee import SESSION_SETTINGS, PayeeSettings, create_app
from dfsp_api.pricing import Terms
from dfsp_api.repository import MIGRATIONS, NewQuote, PaymentOrder
from support.messages import KEY, LOOK_UP_QUERY, QUOTE, RESERVE, TEST, headers
from support.responses import ReceivedResponse
from support.serving import served
from support.settings import load

PATIENCE_SECONDS: Final = 60

TTL: Final = timedelta(minutes=5)
NAMESPACE: Final = bytes(32)
SCHEDULE: Final = 1
TERMS: Final = Terms(Decimal("13.75"), Decimal("12.50"))

NO_FEES: Final = "rule = []\n"
FIVE_PER_CENT: Final = """
[[rule]]
transferType = "p2p"
currencyCode = "USD"
[[rule.step]]
from = "0.01"
to = "1000.00"
percent = "5"
"""


@dataclass(frozen=True)
class PayeeResponse(ReceivedResponse):
    @property
    def outcome(self) -> tuple[int, str | None]:
        """The status, and the id of an error."""
        return self.status, self.json.get("id")


class Caller:
    """Calls one payee."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self.client = client
        self.url = url

    async def send(
        self, method: str, path: str, body: Any = None, *, authorization: str = TEST, **more: str
    ) -> PayeeResponse:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.request(
            method, self.url + path, data=data, headers=headers(authorization, **more)
        ) as reply:
            return PayeeResponse(reply.status, await reply.read(), reply.headers)

    async def reserve(
        self, body: Any = QUOTE, key: str | None = None, *, path: str = RESERVE, **more: str
    ) -> PayeeResponse:
        if key is not None:
            more[KEY] = key
        return await self.send("POST", path, body, **more)

    async def reserved(self, body: Any = QUOTE, key: str | None = None, **more: str) -> str:
        """Reserve a quote and return its uuid."""
        answer = await self.reserve(body, key, **more)
        assert 200 == answer.status, answer.body
        uuid: str = answer.json["uuid"]
        return uuid

    async def execute(self, uuid: str, body: Any = QUOTE, **more: str) -> PayeeResponse:
        return await self.send("PUT", f"/v1/payments/{uuid}", body, **more)

    async def look_up(self, uuid: str, query: str = LOOK_UP_QUERY, **more: str) -> PayeeResponse:
        return await self.send("GET", f"/v1/quote/{uuid}{query and '?'}{query}", **more)

    async def readiness(self) -> PayeeResponse:
        return await self.send("GET", "/health/ready")


@asynccontextmanager
async def payee(
    database_url: str, users_file: Path, client: aiohttp.ClientSession, **settings: object
) -> AsyncIterator[Caller]:
    """Run a payee with the server that `chassis.run` uses. `settings` are variables in lower case without QUOTES_."""
    environment = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DATABASE_URL": database_url,
        **{f"QUOTES_{name.upper()}": str(value) for name, value in settings.items()},
    }
    async with served(create_app(load(PayeeSettings, environment))) as url:
        caller = Caller(client, url)
        await until(lambda: is_ready(caller))
        yield caller


async def is_ready(caller: Caller) -> bool:
    return 200 == (await caller.readiness()).status


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until a condition is true. The time limit is long, because the machine may be slow."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < PATIENCE_SECONDS, "the condition did not become true"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def database(url: str, connections: int = 4) -> AsyncIterator[Database]:
    """Return the payee's migrated database, without a service. Its secret for uuids is NAMESPACE."""
    made = Database(url, connections, MIGRATIONS, settings=SESSION_SETTINGS["postgres"])
    faults: list[str] = []
    await made.open(faults.append)
    try:

        async def migrated() -> bool:
            return not await made.missing()

        await until(migrated)
        assert not faults
        await made.fetch("UPDATE namespace SET secret = $1", NAMESPACE)
        yield made
    finally:
        await made.close()


async def drop_tables(sql: asyncpg.Connection) -> None:
    """Make the database one that no payee has used yet."""
    await sql.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


async def waiting_for_lock(sql: asyncpg.Connection, *, count: int = 1) -> None:
    """Wait until at least ``count`` statements on this database wait for a lock."""

    async def waits() -> bool:
        # in a transaction, each look would have the result of the first one
        await sql.execute("SELECT pg_stat_clear_snapshot()")
        found: int = await sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        return found >= count

    await until(waits)


async def rows(sql: asyncpg.Connection) -> int:
    """The number of quotes, stubs included."""
    found: int = await sql.fetchval("SELECT count(*) FROM quote")
    return found


async def stubs(sql: asyncpg.Connection) -> int:
    """Return the number of stubs: old quotes whose request and amounts retention has removed."""
    found: int = await sql.fetchval("SELECT count(*) FROM quote WHERE request IS NULL")
    return found


# Replaces Postgres' clock in this database with a time that the test sets.
FAKE_CLOCK: Final = """
CREATE TABLE public.fake_clock (at timestamptz NOT NULL);
INSERT INTO public.fake_clock VALUES (pg_catalog.clock_timestamp());
ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO real_clock_timestamp;
CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql
    AS 'SELECT at FROM public.fake_clock';
"""


class FakeClock:
    """Replaces the database's clock with a time that the test sets. Install it before the payee connects."""

    def __init__(self, sql: asyncpg.Connection) -> None:
        self._sql = sql

    async def install(self) -> None:
        await self._sql.execute(FAKE_CLOCK)

    async def remove(self) -> None:
        await self._sql.execute(
            "DROP FUNCTION pg_catalog.clock_timestamp();"
            "ALTER FUNCTION pg_catalog.real_clock_timestamp() RENAME TO clock_timestamp;"
            "DROP TABLE public.fake_clock"
        )

    async def set(self, time: str, plus: str = "0") -> None:
        """Set the time. ``time`` has the form of times in replies; ``plus`` is a Postgres interval that is added."""
        await self._sql.execute(
            "UPDATE public.fake_clock SET at = $1::text::timestamptz + $2::text::interval", time, plus
        )


def new(key: str, **changes: str) -> NewQuote:
    """Return a quote to reserve, from the sample request with changes."""
    request = {**QUOTE, **changes}
    return NewQuote(
        quote_uuid(NAMESPACE, "test", key),
        "test",
        "quoteSourceAmount",
        fingerprint(request),
        request,
        TERMS,
        SCHEDULE,
        None,
        NAMESPACE,
    )


def payment(of: NewQuote, **changes: str) -> PaymentOrder:
    """Return the payment for a quote, with changes to its parameters."""
    request = {**of.request, **changes}
    return PaymentOrder(
        of.uuid,
        of.caller,
        fingerprint(request),
        request.get("sourceAmount"),
        request.get("destinationAmount"),
    )
