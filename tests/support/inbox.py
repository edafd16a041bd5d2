"""Webhooks for the fault test of deliveries: they fail at random, and pass other requests on to a real receiver."""

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import asyncpg
from aiohttp import web

from support.serving import Seen, Stub

OUTAGE_SECONDS: Final = 12.0
BETWEEN_SECONDS: Final = 75.0
FAILING_SHARE: Final = 0.03
OWN_HEADERS: Final = frozenset({"host", "content-length", "connection", "transfer-encoding"})

TRADES: Final = """
SELECT action, position_id FROM signal_receiver.trade WHERE account_id = $1 ORDER BY id
"""


@dataclass
class FailingWebhook:
    """The webhook of one account, with the periods in which it fails."""

    outages: list[tuple[float, float]]
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)


@dataclass
class Inbox:
    """One webhook for each account; its URL ends in the account's name.

    Requests that do not fail are passed on to the receiver.
    """

    random: random.Random
    client: aiohttp.ClientSession
    receiver: str
    webhooks: dict[str, FailingWebhook] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    stub: Stub | None = None

    def url(self, account: str) -> str:
        began = time.monotonic() + self.random.uniform(2, 40)
        length = self.random.uniform(1, OUTAGE_SECONDS)
        again = began + length + BETWEEN_SECONDS
        self.webhooks[account] = FailingWebhook([(began, began + length), (again, again + length)])
        assert self.stub is not None
        return f"{self.stub.url}/{account}"

    async def __call__(self, seen: Seen) -> Any:
        assert self.stub is not None
        self.stub.seen.clear()
        account = seen.target.rpartition("/")[2]
        webhook, id_ = self.webhooks[account], seen.headers["webhook-id"]
        now = time.monotonic()
        if any(begin <= now < end for begin, end in webhook.outages):
            webhook.failed.add(id_)  # at most once: further failures could use up all retries
            return self._broken(seen, "outage")
        is_lost = False
        if id_ not in webhook.failed and self.random.random() < FAILING_SHARE:
            webhook.failed.add(id_)
            if self.random.random() < 0.5:
                return self._broken(seen, "failure")
            is_lost = True
        answer = await self._pass_on(seen, account)
        if answer is None:
            return self._broken(seen, "receiver away")
        self.counts[f"receiver {answer.status}"] += 1
        if answer.status == 200:
            self.counts["duplicate"] += id_ in webhook.passed
            webhook.passed.add(id_)
        return self._broken(seen, "answer lost") if is_lost else answer

    async def _pass_on(self, seen: Seen, account: str) -> web.Response | None:
        """Return the receiver's response; None if it does not respond."""
        headers = {name: value for name, value in seen.headers.items() if name.lower() not in OWN_HEADERS}
        url = f"{self.receiver}/webhook/{account}"
        try:
            async with self.client.post(url, data=seen.body, headers=headers) as reply:
                own = {name: reply.headers[name] for name in ("x-proquant-error",) if name in reply.headers}
                return web.Response(status=reply.status, body=await reply.read(), headers=own)
        except (aiohttp.ClientError, TimeoutError):
            return None

    def _broken(self, seen: Seen, why: str) -> web.Response:
        self.counts[why] += 1
        if self.random.random() < 0.5 and seen.transport is not None:
            seen.transport.abort()
        return web.Response(status=self.random.choice([500, 502, 503]))


async def traded(sql: asyncpg.Connection, account: str) -> list[tuple[str, str]]:
    """Return the trades of an account in their order, each as action and position id."""
    return [(row["action"], row["position_id"]) for row in await sql.fetch(TRADES, account)]


def accounts(names: list[str], owner: str) -> str:
    """Return the text of an accounts file for the receiver."""
    return "\n".join(
        f'[[account]]\nid = "{name}"\ntoken = "{name}"\nowner = "{owner}"\nfunds = "10000.00"\n'
        for name in names
    )
