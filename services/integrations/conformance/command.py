"""The conformance kit: ``python -m integrations check <webhook-url>``, for whoever builds a webhook.

Sends all eight events, some of them twice, types and versions that do not exist yet, and trades that make no
sense; says by the guide's sections what the answers mean to the provider. The webhook should be one of an
account to try things with: a position is opened, turned round and closed.
"""

import argparse
import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import aiohttp
import msgspec
import orjson
from aiohttp import hdrs
from multidict import CIMultiDict
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError
from yarl import URL

from integrations import events
from integrations.api.schemas import header_fault
from integrations.conformance.findings import (
    CheckedResponse,
    Finding,
    Verdict,
    judge,
    judge_repeat,
    judge_unknown_version,
)
from integrations.encryption import signature
from integrations.events import CanonicalEvent, EventType, EventVersion, SignalData, StrategyData, render, v1
from integrations.webhook.client import MAX_REPLY_BYTES, TIMEOUT_SECONDS

EVENTS: Final = "Handling Events, v1 Event types and data"
VERSIONING: Final = "Handling Events, Versioning"
RESPONDING: Final = "Responding to Events"
FUTURE: Final = "v9999"


@dataclass(slots=True)
class WebhookUnderTest:
    """The webhook under test."""

    session: aiohttp.ClientSession
    integration: events.IntegrationData
    signer: Webhook | None
    ticker: str
    quantity: str
    strategy: StrategyData

    def event(self, type_: str, **changed: str) -> CanonicalEvent:
        """A new event; `changed` are ticker, quantity, direction or position of a signal."""
        data: object = None
        if type_.startswith("STRATEGY_"):
            data = self.strategy
        elif type_.startswith("SIGNAL_"):
            given = {"direction": "BUY", "ticker": self.ticker, "quantity": self.quantity, **changed}
            quantity = msgspec.Raw(given["quantity"].encode())
            position = changed.get("position", uuid4().hex)
            data = SignalData(given["direction"], given["ticker"], quantity, self.strategy, position)
        text = None if data is None else msgspec.json.encode(data).decode()
        return CanonicalEvent(str(uuid4()), type_, time.time_ns() // 1_000_000, text)

    async def send(
        self, event: CanonicalEvent, versions: Sequence[EventVersion] = events.VERSIONS
    ) -> CheckedResponse:
        now = datetime.now(UTC)
        body = render(versions, event, self.integration, now)
        headers = CIMultiDict(self.integration.webhook.headers)
        if self.signer is not None:
            headers.update(signature([self.signer], event.id, now, body))
        else:
            headers["webhook-id"] = event.id
        headers[hdrs.CONTENT_TYPE] = "application/json"
        url = URL(self.integration.webhook.url, encoded=True)
        try:
            async with self.session.post(url, data=body, headers=headers, allow_redirects=False) as reply:
                content = await reply.content.read(MAX_REPLY_BYTES + 1)
                is_whole = len(content) <= MAX_REPLY_BYTES
                return CheckedResponse(reply.status, reply.headers, content if is_whole else None)
        except TimeoutError:
            return CheckedResponse(None, CIMultiDict(), None, f"within {TIMEOUT_SECONDS:g} seconds")
        except aiohttp.ClientError as error:
            return CheckedResponse(None, CIMultiDict(), None, type(error).__name__)


async def check(webhook: WebhookUnderTest) -> list[Finding]:
    """All that is found, in the order of the guide."""
    return [*await _life(webhook), *await _versions(webhook), *await _oddities(webhook)]


async def _life(webhook: WebhookUnderTest) -> list[Finding]:
    """An integration's life with all eight types, and repetitions on the way."""
    opened = webhook.event(EventType.SIGNAL_OPEN)
    turned = webhook.event(EventType.SIGNAL_REOPEN, direction="SELL")
    closed = webhook.event(EventType.SIGNAL_CLOSE, direction="SELL")
    return [
        *await _told(webhook, EventType.INTEGRATION_APPROVED, EventType.STRATEGY_ENABLED),
        *await _twice(webhook, opened),
        *await _other(webhook, "a second SIGNAL_OPEN", EventType.SIGNAL_OPEN, "PositionAlreadyExists"),
        *await _twice(webhook, turned),
        *await _twice(webhook, closed),
        *await _other(webhook, "SIGNAL_CLOSE of nothing", EventType.SIGNAL_CLOSE, "PositionNotFound"),
        *await _told(
            webhook,
            EventType.STRATEGY_DISABLED,
            EventType.INTEGRATION_REJECTED,
            EventType.INTEGRATION_DELETED,
        ),
    ]


async def _told(webhook: WebhookUnderTest, *types: EventType) -> list[Finding]:
    return [judge(EVENTS, each, await webhook.send(webhook.event(each))) for each in types]


async def _twice(webhook: WebhookUnderTest, event: CanonicalEvent) -> list[Finding]:
    first, again = await webhook.send(event), await webhook.send(event)
    return [
        judge(EVENTS, event.type, first),
        judge_repeat(RESPONDING, f"{event.type} again", first, again),
    ]


async def _other(webhook: WebhookUnderTest, case: str, type_: EventType, wants: str) -> list[Finding]:
    return [judge(RESPONDING, case, await webhook.send(webhook.event(type_)), wants=[wants])]


async def _versions(webhook: WebhookUnderTest) -> list[Finding]:
    """A version that does not exist yet, beside v1 and alone."""
    future = EventVersion(FUTURE, None, lambda _event, _integration: {"kind": "unheard of"})
    ending = EventVersion("v1", datetime(2100, 1, 1, tzinfo=UTC), v1)
    enabled = webhook.event(EventType.STRATEGY_ENABLED)
    beside = await webhook.send(enabled, (ending, future))
    alone = await webhook.send(webhook.event(EventType.STRATEGY_ENABLED), (future,))
    return [
        judge(VERSIONING, f"v1, which is to end, and {FUTURE}", beside),
        judge_unknown_version(VERSIONING, f"{FUTURE} alone", alone),
    ]


async def _oddities(webhook: WebhookUnderTest) -> list[Finding]:
    """Types that do not exist yet, and trades that make no sense."""
    found = [
        judge(RESPONDING, f"the type {each}: irrelevant", await webhook.send(webhook.event(each)))
        for each in ("SIGNAL_UNHEARD_OF", "UNHEARD_OF")
    ]
    trades: Mapping[str, tuple[dict[str, str], Iterable[str]]] = {
        "an unknown ticker": ({"ticker": "NOSUCHTICKER"}, ["UnsupportedInstrument"]),
        "a tiny quantity": ({"quantity": "0.00000001"}, ["QuantityTooLow", "InvalidQuantityPrecision"]),
        "a huge quantity": ({"quantity": "100000000000000"}, ["QuantityTooHigh", "InsufficientFunds"]),
    }
    for case, (changed, wants) in trades.items():
        reply = await webhook.send(webhook.event(EventType.SIGNAL_OPEN, **changed))
        found.append(judge(RESPONDING, f"SIGNAL_OPEN of {case}", reply, wants=[*wants, "MarketClosed"]))
        if reply.status is not None and reply.status < 300:  # noqa: PLR2004
            await webhook.send(webhook.event(EventType.SIGNAL_CLOSE, **changed))
    return found


def report(findings: Sequence[Finding]) -> str:
    """The findings by section, and a last line that counts them."""
    lines = []
    for section in dict.fromkeys(each.section for each in findings):
        lines.append(f"\n{section}")
        lines += [
            f"  {each.verdict:<5}  {each.case}: {each.text}" for each in findings if each.section == section
        ]
    counts = {verdict: sum(each.verdict is verdict for each in findings) for verdict in Verdict}
    told = f"{counts[Verdict.FAULT]} faults, {counts[Verdict.NOTE]} notes, {counts[Verdict.OK]} in order"
    return "\n".join([*lines, "", told]).lstrip("\n")


async def run(options: argparse.Namespace) -> list[Finding]:
    headers = dict(options.header)
    webhook = events.Webhook(options.url, headers)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False, trust_env=False) as session:
        strategy = StrategyData(uuid4().hex, "Conformance check")
        integration = events.IntegrationData(
            "check@example.com", "Check", "https://example.com/i.png", webhook
        )
        signer = Webhook(options.secret) if options.secret else None
        return await check(
            WebhookUnderTest(session, integration, signer, options.ticker, options.quantity, strategy)
        )


def main(arguments: list[str]) -> int:
    """Exit status: 0 without a fault, 1 with one, 2 for arguments that make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m integrations check", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("url", type=_url, help="the webhook")
    parser.add_argument(
        "--secret", type=_secret, help="signing secret, whsec_…; without it nothing is signed"
    )
    parser.add_argument(
        "--header", type=_header, action="append", default=[], help="NAME:VALUE, to be sent with all"
    )
    parser.add_argument("--ticker", default="XAUUSD", help="an instrument that the webhook trades")
    parser.add_argument("--quantity", type=_quantity, default="10", help="a quantity that it takes")
    findings = asyncio.run(run(parser.parse_args(arguments)))
    print(report(findings))  # noqa: T201 - a command for people
    return 1 if any(each.verdict is Verdict.FAULT for each in findings) else 0


def _url(text: str) -> str:
    url = URL(text)
    if url.scheme not in {"http", "https"} or not url.host:
        raise argparse.ArgumentTypeError("must be an absolute http or https URL")
    return text


def _secret(text: str) -> str:
    try:
        Webhook(text)
    except (ValueError, EmptyWebhookSecretError):
        raise argparse.ArgumentTypeError("must be a secret of Standard Webhooks: whsec_ and base64") from None
    return text


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    fault = header_fault(name.strip(), value.strip())
    if fault is not None:
        raise argparse.ArgumentTypeError(f"{name} {fault}")
    return name.strip(), value.strip()


def _quantity(text: str) -> str:
    try:
        number: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
        raise argparse.ArgumentTypeError("must be a number above zero")
    return text
