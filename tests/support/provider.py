"""`integrations` in the test's process; calls of a partner, a user and the engine; and scripted webhooks."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
from cryptography.fernet import Fernet

from chassis.settings import load
from integrations.app import DISPATCHER, WEBHOOK_CLIENT, create_app
from integrations.settings import IntegrationsSettings
from support.responses import ReceivedResponse
from support.serving import Responder, Seen, Stub, reply, served
from support.settings import CHEAP_HASHER

PATIENCE_SECONDS: Final = 60.0
KEY: Final = Fernet.generate_key().decode()
USER, OTHER, ENGINE, OPERATOR = "user@example.com", "other@example.com", "engine", "operator"
UNICODE_USER: Final = "änne@example.com"
PASSWORDS: Final = {
    USER: "sample",
    OTHER: "another",
    ENGINE: "sample",
    OPERATOR: "operate",
    UNICODE_USER: "sample",
}
CREATE: Final = "/api/integrations/v1/integrations"
STRATEGY: Final = "6bbc583bf6d70605bbbc892f66367ab7"
POSITION: Final = "960fe1a63d264d0f4e19a0ebf385497e"

REQUEST: Final = {
    "name": "user@example.com",
    "description": "Foo Bar FX",
    "imageUrl": "https://foo.bar/logo.png",
    "userEmail": USER,
    "webhook": {"url": "https://foo.bar/api/proquant", "headers": {"x-foo-bar-api-token": "baz"}},
}
"""Body of the request for the integration that the guide's example event shows."""

OPEN: Final = {
    "type": "OPEN",
    "direction": "BUY",
    "ticker": "XAUUSD",
    "quantity": 10,
    "proquantPositionId": POSITION,
}
OK: Final = reply(200, b"")


def write_users(path: Path) -> Path:
    path.write_text(
        "".join(f"{name}:{CHEAP_HASHER.hash(password)}\n" for name, password in PASSWORDS.items())
    )
    return path


def basic(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{PASSWORDS[name]}".encode()).decode()


def typed(type_: str, status: int = 422, **headers: str) -> Responder:
    """Return a responder that answers with one of the guide's typed errors."""
    return reply(status, {"type": type_}, **{"x_proquant_error": "1", **headers})


@dataclass(frozen=True)
class Got(ReceivedResponse):
    @property
    def faults(self) -> dict[str, str]:
        """The message about each field."""
        return {each["params"]["key"]: each["message"] for each in self.json["validationErrors"]}


@dataclass
class Script:
    """A responder that answers each request with the next of `lines`, and repeats the last one."""

    lines: list[Responder]

    async def __call__(self, seen: Seen) -> Any:
        line = self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]
        return await line(seen)


@dataclass
class HeldAnswer:
    """An answer that waits for the test."""

    answer: Responder = OK
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, seen: Seen) -> Any:
        self.arrived.set()
        await self.let_go.wait()
        return await self.answer(seen)


def event(seen: Seen) -> dict[str, Any]:
    """Return the event in version 1 format."""
    found: dict[str, Any] = seen.json["v1"]["event"]
    return found


def types_but_approved(hook: Stub) -> list[str]:
    """Return the types of the events that a webhook received, without INTEGRATION_APPROVED.

    That event has another lane and may arrive at any time.
    """
    return [type_ for type_ in types(hook) if type_ != "INTEGRATION_APPROVED"]


def types(hook: Stub) -> list[str]:
    return [event(seen)["type"] for seen in hook.seen]


async def until(is_so: Callable[[], Any] | Callable[[], Awaitable[Any]]) -> Any:
    """Call a function again and again until its result is true, and return the result."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = is_so()
        found = await found if isinstance(found, Awaitable) else found
        if found:
            return found
        assert time.monotonic() < deadline, f"the condition did not become true within {PATIENCE_SECONDS:g} s"
        await asyncio.sleep(0.005)


@dataclass
class Provider:
    """A running provider."""

    client: aiohttp.ClientSession
    url: str
    sql: asyncpg.Connection
    app: Any
    signals: int = 0

    @property
    def dispatcher(self) -> Any:
        return self.app[DISPATCHER]

    @property
    def webhook_client(self) -> Any:
        return self.app[WEBHOOK_CLIENT]

    async def send(
        self, method: str, path: str, body: Any = None, *, as_: str | None = USER, **headers: str
    ) -> Got:
        made = {name.replace("_", "-"): value for name, value in headers.items()}
        if as_ is not None:
            made["Authorization"] = basic(as_)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            made.setdefault("Content-Type", "application/json")
        async with self.client.request(method, self.url + path, data=data, headers=made) as answer:
            return Got(answer.status, await answer.read(), answer.headers)

    async def ask(self, body: Any = REQUEST, **headers: str) -> Got:
        """Send a partner's request."""
        return await self.send("POST", CREATE, body, as_=None, **headers)

    async def requested(self, url: str | None = None, **more: Any) -> dict[str, Any]:
        """Request an integration with this webhook URL; return the response's body."""
        headers = more.pop("headers", REQUEST["webhook"]["headers"])
        webhook = {"url": url or REQUEST["webhook"]["url"], "headers": headers}
        got = await self.ask({**REQUEST, **more, "webhook": webhook})
        assert 201 == got.status, got.body
        return got.json

    async def approved(self, url: str, **more: Any) -> str:
        """Request an integration and approve it; return its id."""
        id_ = (await self.requested(url, **more))["id"]
        await self.do("approve", id_)
        return id_

    async def do(self, word: str, id_: str, *, as_: str = USER) -> Got:
        got = await self.send("POST", f"/v1/me/integrations/{id_}/{word}", as_=as_)
        assert 200 == got.status, got.body
        return got

    async def enabled(self, url: str, strategy: str = STRATEGY, **more: Any) -> str:
        """Request an integration, approve it, and enable it for a strategy; return its id."""
        id_ = await self.approved(url, **more)
        await self.strategy(strategy)
        await self.switch("PUT", id_, strategy)
        return id_

    async def strategy(self, id_: str = STRATEGY, name: str = "Gold High-Risk", email: str = USER) -> None:
        got = await self.send("PUT", f"/v1/strategies/{id_}", {"name": name, "userEmail": email}, as_=ENGINE)
        assert 200 == got.status, got.body

    async def switch(self, method: str, id_: str, strategy: str = STRATEGY, *, as_: str = USER) -> Got:
        return await self.send(method, f"/v1/me/strategies/{strategy}/integrations/{id_}", as_=as_)

    async def delete(self, id_: str) -> Got:
        return await self.send("DELETE", f"/v1/me/integrations/{id_}")

    async def signal(self, type_: str = "OPEN", strategy: str = STRATEGY, **more: Any) -> Got:
        """Send a signal as the engine. It has a new signalId unless `more` has one."""
        self.signals += 1
        body = {"signalId": f"signal-{self.signals}", **OPEN, "type": type_, **more}
        return await self.send("POST", f"/v1/strategies/{strategy}/signals", body, as_=ENGINE)

    async def send_signal_with_trace(self, trace: str, type_: str = "OPEN", **more: Any) -> Got:
        """Send a signal as the engine, under a trace id."""
        self.signals += 1
        body = {"signalId": f"signal-{self.signals}", **OPEN, "type": type_, **more}
        return await self.send(
            "POST", f"/v1/strategies/{STRATEGY}/signals", body, as_=ENGINE, L1p_Trace_Id=trace
        )

    async def deliveries(self, id_: str, query: str = "") -> list[dict[str, Any]]:
        """Return the attempt log of an integration, the oldest event first."""
        got = await self.send("GET", f"/v1/me/integrations/{id_}/deliveries{query}")
        assert 200 == got.status, got.body
        return list(reversed(got.json["deliveries"]))

    async def done(self, id_: str) -> list[dict[str, Any]]:
        """Wait until no event of the integration waits any more, and return its attempt log."""

        async def all_done() -> Any:
            log = await self.deliveries(id_)
            return log if log and all(each["state"] != "WAITING" for each in log) else None

        found: list[dict[str, Any]] = await until(all_done)
        return found

    async def operate(self, method: str, path: str, body: Any = None, **headers: str) -> Got:
        """Call an operation for operators as an operator. `path` begins behind its prefix."""
        return await self.send(method, f"/v1/operations{path}", body, as_=OPERATOR, **headers)

    async def notifications(self, as_: str = USER) -> list[dict[str, Any]]:
        """Return the notifications of a user, the oldest first."""
        got = await self.send("GET", "/v1/me/notifications", as_=as_)
        assert 200 == got.status, got.body
        return list(reversed(got.json["notifications"]))

    async def pass_time(self, seconds: float) -> None:
        """Make every time in the database earlier by `seconds`, so that retries and expiries become due."""
        async with self.sql.transaction():
            for table, column in (
                ("lane", "due"),
                ("event", "expires"),
                ("event", "first_try"),
                ("event", "created"),
                ("integration", "failing_since"),
                ("integration", "previous_until"),
            ):
                await self.sql.execute(
                    f"UPDATE {table} SET {column} = {column} - make_interval(secs => $1)", seconds
                )
        self.dispatcher.wake()

    async def notification_types(self) -> list[str]:
        return [each["type"] for each in await self.notifications()]


@asynccontextmanager
async def provider(
    database_url: str, users: Path, client: aiohttp.ClientSession, **settings: object
) -> AsyncIterator[Provider]:
    """Run `integrations`, with permission to call webhooks on this machine.

    Keywords are settings: fields of IntegrationsSettings.
    """
    given = {
        "users_file": users,
        "database_url": database_url,
        "encryption_keys": KEY,
        "allow_http": "true",
        "allow_networks": "127.0.0.0/8",
        "requests_per_address": 1_000,
        "requests_per_email": 1_000,
        "operators": OPERATOR,
        **settings,
    }
    environment = {f"QUOTES_{name.upper()}": str(value) for name, value in given.items()}
    app = create_app(load(IntegrationsSettings, environment))
    sql = await asyncpg.connect(database_url)
    try:
        async with served(app) as url:
            made = Provider(client, url, sql, app)

            async def is_ready() -> bool:
                return 200 == (await made.send("GET", "/health/ready", as_=None)).status

            await until(is_ready)
            yield made
    finally:
        await sql.close()
