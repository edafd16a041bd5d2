"""A `signal-receiver` in the test's process, a client that sends events to it, and a connection to its tables."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from chassis.settings import load
from signal_receiver.app import ReceiverSettings, create_app
from support.messages import basic
from support.responses import ReceivedResponse
from support.serving import served

RECEIVER: Final = basic("receiver", "sample")
OTHER: Final = basic("other", "456")
SAMPLE: Final = "sample"

ACCOUNTS: Final = """
[[account]]
id = "sample"
token = "sample"
owner = "receiver"
funds = "10000.00"

[[account]]
id = "poor"
token = "poor-token"
owner = "receiver"
funds = "1.00"

[[account]]
id = "others"
token = "others-token"
owner = "other"
funds = "10000.00"

[[account]]
id = "guarded"
token = "guarded-token"
owner = "receiver"
funds = "10000.00"
header = {name = "x-foo-bar-api-token", value = "baz"}
"""

_ids = itertools.count(1)


@dataclass(frozen=True)
class Answer(ReceivedResponse):
    @property
    def outcome(self) -> tuple[int, str | None]:
        """Status of the response, and the type of a typed error or None."""
        is_typed = self.headers.get("x-proquant-error") == "1"
        return self.status, self.json["type"] if is_typed else None


def signal(kind: str, quantity: object = 10, **changed: Any) -> dict[str, Any]:
    """Return the guide's example event with a new position id. `changed` replaces other values."""
    data = {
        "direction": changed.pop("direction", "BUY"),
        "ticker": changed.pop("ticker", "XAUUSD"),
        "quantity": quantity,
        "strategy": {"id": changed.pop("strategy", "gold"), "name": "Gold High-Risk"},
        "proquantPositionId": changed.pop("position", f"position-{next(_ids)}"),
    }
    event = {
        "timestamp": 1549623690730,
        "type": f"SIGNAL_{kind}",
        "integration": {
            "name": "user@example.com",
            "description": "Foo Bar FX",
            "imageUrl": "https://foo.bar/logo.png",
            "webhook": {"url": "https://foo.bar/api/proquant", "headers": {"x-foo-bar-api-token": "baz"}},
        },
        "data": data,
    }
    event.update(changed)
    return event


def envelope(event: object, deprecation: str | None = None) -> dict[str, Any]:
    return {"v1": {"deprecation": deprecation, "event": event}}


def number(event: dict[str, Any], text: str) -> bytes:
    """Return the event's body with this text as its quantity, because Python cannot write some JSON numbers."""
    marked = {**event, "data": {**event["data"], "quantity": "@"}}
    return json.dumps(envelope(marked)).replace('"@"', text).encode()


class Sender:
    """Sends events as the provider does, and API requests as the receiver's users do."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self.client = client
        self.url = url

    async def call(
        self, method: str, path: str, body: Any = None, *, authorization: str | None = RECEIVER, **more: str
    ) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **more}
        if authorization is not None:
            headers["Authorization"] = authorization
        async with self.client.request(method, self.url + path, data=data, headers=headers) as reply:
            return Answer(reply.status, await reply.read(), reply.headers)

    async def deliver(
        self,
        event: dict[str, Any] | bytes,
        webhook_id: str | None = None,
        *,
        token: str = SAMPLE,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        more = dict(headers or {})
        if webhook_id is not None:
            more["webhook-id"] = webhook_id
        body = event if isinstance(event, bytes) else json.dumps(envelope(event)).encode()
        return await self.call("POST", f"/webhook/{token}", body, authorization=None, **more)

    async def send(self, kind: str, quantity: object = 10, *, token: str = SAMPLE, **changed: Any) -> Answer:
        return await self.deliver(signal(kind, quantity, **changed), token=token)

    async def price(self, price: str, ticker: str = "XAUUSD") -> None:
        answer = await self.call("PUT", f"/v1/prices/{ticker}", {"price": price})
        assert 200 == answer.status, answer.body

    async def account(self, account: str = "sample", *, authorization: str = RECEIVER) -> dict[str, Any]:
        answer = await self.call("GET", f"/v1/accounts/{account}/positions", authorization=authorization)
        assert 200 == answer.status, answer.body
        return answer.json

    async def funds(self, account: str = "sample") -> Decimal:
        return Decimal((await self.account(account))["funds"])

    async def trades(self, account: str = "sample") -> list[dict[str, Any]]:
        """All trades of an account, oldest first."""
        answer = await self.call("GET", f"/v1/accounts/{account}/trades?limit=500")
        assert 200 == answer.status, answer.body
        return answer.json["trades"][::-1]


def instrument(name: str = "XAUUSD", **changed: str) -> str:
    """Return one instrument as TOML for a catalogue. `changed` replaces fields; the new values are TOML, too."""
    values = {
        "ticker": f'"{name}"',
        "least": '"0.01"',
        "most": '"1000"',
        "step": '"0.01"',
        "margin_percent": '"5"',
        "price": '{source = "table", first = "2000.00"}',
        "timezone": '"UTC"',
        "open": '["Mon-Sun 00:00-24:00"]',
        **changed,
    }
    return "[[instrument]]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def settings_of(
    database_url: str, users_file: Path, folder: Path, *, catalogue: str | None = None, **settings: object
) -> ReceiverSettings:
    """Return settings of the receiver. `settings` are environment variables in lower case without QUOTES_."""
    accounts = folder / "accounts.toml"
    accounts.write_text(ACCOUNTS)
    environment = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DATABASE_URL": database_url,
        "QUOTES_ACCOUNTS_FILE": str(accounts),
        **{f"QUOTES_{name.upper()}": str(value) for name, value in settings.items()},
    }
    if catalogue is not None:
        (folder / "instruments.toml").write_text(catalogue)
        environment["QUOTES_INSTRUMENTS"] = str(folder / "instruments.toml")
    return load(ReceiverSettings, environment)


@asynccontextmanager
async def receiver(settings: ReceiverSettings, client: aiohttp.ClientSession) -> AsyncIterator[Sender]:
    """A receiver that is ready."""
    async with served(create_app(settings)) as url:
        sender = Sender(client, url)
        await ready(sender)
        yield sender


async def ready(sender: Sender) -> None:
    """Wait until the receiver is ready."""
    for _ in range(6_000):
        if (await sender.call("GET", "/health/ready", authorization=None)).status == 200:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the receiver did not become ready within a minute")


async def own_schema(url: str) -> asyncpg.Connection:
    """A connection to the receiver's tables."""
    return await asyncpg.connect(url, server_settings={"search_path": "signal_receiver"})
