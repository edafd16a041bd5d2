"""Conformance check: ``python -m integrations check <webhook-url>`` tests whether a webhook follows the guide.

Sends all eight event types, some events twice, types and versions that do not exist yet, and trades that make no sense.
Reports for each section of the guide how the provider would understand each answer. Use a test account: the check
opens, reverses and closes a position.
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

from integrations.conformance.findings import (
    Finding,
    Severity,
    check_repetition,
    check_response,
    check_unknown_version,
)
from integrations.events import (
    VERSIONS,
    CanonicalEvent,
    EventType,
    EventVersion,
    IntegrationData,
    SignalData,
    StrategyData,
    WebhookData,
    render,
    v1,
)
from integrations.webhook.client import TIMEOUT_SECONDS, open_session, post
from integrations.webhook.headers import header_fault
from integrations.webhook.http_connection import WebhookConnector
from integrations.webhook.signing import signature_headers
from integrations.webhook.webhook_response import HttpResponse

EVENTS: Final = "Handling Events, v1 Event types and data"
VERSIONING: Final = "Handling Events, Versioning"
RESPONDING: Final = "Responding to Events"
FUTURE_VERSION: Final = "v9999"


@dataclass(slots=True)
class WebhookUnderTest:
    """The webhook that is checked, and the values that the events for it contain."""

    session: aiohttp.ClientSession
    integration: IntegrationData
    signer: Webhook | None
    ticker: str
    quantity: str
    strategy: StrategyData

    def event(self, type_: str, **changes: str) -> CanonicalEvent:
        """Return a new event of this type. `changes` replaces a signal's ticker, quantity, direction or position."""
        data: object = None
        if type_.startswith("STRATEGY_"):
            data = self.strategy
        elif type_.startswith("SIGNAL_"):
            fields = {"direction": "BUY", "ticker": self.ticker, "quantity": self.quantity, **changes}
            quantity = msgspec.Raw(fields["quantity"].encode())
            position = changes.get("position", uuid4().hex)
            data = SignalData(fields["direction"], fields["ticker"], quantity, self.strategy, position)
        text = None if data is None else msgspec.json.encode(data).decode()
        return CanonicalEvent(str(uuid4()), type_, time.time_ns() // 1_000_000, text)

    async def send(self, event: CanonicalEvent, versions: Sequence[EventVersion] = VERSIONS) -> HttpResponse:
        now = datetime.now(UTC)
        body = render(versions, event, self.integration, now)
        headers = CIMultiDict(self.integration.webhook.headers)
        if self.signer is not None:
            headers.update(signature_headers([self.signer], event.id, now, body))
        else:
            headers["webhook-id"] = event.id
        headers[hdrs.CONTENT_TYPE] = "application/json"
        url = URL(self.integration.webhook.url, encoded=True)
        return await post(self.session, url, headers, body, TIMEOUT_SECONDS)


async def check(webhook: WebhookUnderTest) -> list[Finding]:
    """Send all events and return the findings in the order in which the events were sent."""
    return [*await _life(webhook), *await _versions(webhook), *await _oddities(webhook)]


async def _life(webhook: WebhookUnderTest) -> list[Finding]:
    """Send the events that an integration sends from its approval to its deletion; send some of them twice."""
    opened = webhook.event(EventType.SIGNAL_OPEN)
    reversed_ = webhook.event(EventType.SIGNAL_REOPEN, direction="SELL")
    closed = webhook.event(EventType.SIGNAL_CLOSE, direction="SELL")
    ended = (EventType.STRATEGY_DISABLED, EventType.INTEGRATION_REJECTED, EventType.INTEGRATION_DELETED)
    return [
        *await _send_each(webhook, EventType.INTEGRATION_APPROVED, EventType.STRATEGY_ENABLED),
        *await _send_twice(webhook, opened),
        await _send_refusable(
            webhook, "a second SIGNAL_OPEN", EventType.SIGNAL_OPEN, "PositionAlreadyExists"
        ),
        *await _send_twice(webhook, reversed_),
        *await _send_twice(webhook, closed),
        await _send_refusable(
            webhook, "SIGNAL_CLOSE without a position", EventType.SIGNAL_CLOSE, "PositionNotFound"
        ),
        *await _send_each(webhook, *ended),
    ]


async def _send_each(webhook: WebhookUnderTest, *types: EventType) -> list[Finding]:
    return [check_response(EVENTS, each, await webhook.send(webhook.event(each))) for each in types]


async def _send_twice(webhook: WebhookUnderTest, event: CanonicalEvent) -> list[Finding]:
    first, again = await webhook.send(event), await webhook.send(event)
    return [
        check_response(EVENTS, event.type, first),
        check_repetition(RESPONDING, f"{event.type} again", first, again),
    ]


async def _send_refusable(webhook: WebhookUnderTest, case: str, type_: EventType, expected: str) -> Finding:
    return check_response(RESPONDING, case, await webhook.send(webhook.event(type_)), expected=[expected])


async def _versions(webhook: WebhookUnderTest) -> list[Finding]:
    """Send an event with a version that does not exist yet: first together with v1, then alone."""
    future = EventVersion(FUTURE_VERSION, None, lambda _event, _integration: {"kind": "unknown"})
    ending = EventVersion("v1", datetime(2100, 1, 1, tzinfo=UTC), v1)
    enabled = webhook.event(EventType.STRATEGY_ENABLED)
    beside = await webhook.send(enabled, (ending, future))
    alone = await webhook.send(webhook.event(EventType.STRATEGY_ENABLED), (future,))
    return [
        check_response(VERSIONING, f"v1 with a deprecation date beside {FUTURE_VERSION}", beside),
        check_unknown_version(VERSIONING, f"{FUTURE_VERSION} alone", alone),
    ]


async def _oddities(webhook: WebhookUnderTest) -> list[Finding]:
    """Send event types that do not exist yet, and signals that cannot be executed."""
    found = [
        check_response(RESPONDING, f"the unknown type {each}", await webhook.send(webhook.event(each)))
        for each in ("SIGNAL_UNKNOWN", "UNKNOWN")
    ]
    trades: Mapping[str, tuple[dict[str, str], Iterable[str]]] = {
        "an unknown ticker": ({"ticker": "NOSUCHTICKER"}, ["UnsupportedInstrument"]),
        "a tiny quantity": ({"quantity": "0.00000001"}, ["QuantityTooLow", "InvalidQuantityPrecision"]),
        "a huge quantity": ({"quantity": "100000000000000"}, ["QuantityTooHigh", "InsufficientFunds"]),
    }
    for case, (changes, expected) in trades.items():
        response = await webhook.send(webhook.event(EventType.SIGNAL_OPEN, **changes))
        found.append(
            check_response(
                RESPONDING, f"SIGNAL_OPEN with {case}", response, expected=[*expected, "MarketClosed"]
            )
        )
        if response.status is not None and response.status < 300:  # noqa: PLR2004
            await webhook.send(webhook.event(EventType.SIGNAL_CLOSE, **changes))
    return found


def report(findings: Sequence[Finding]) -> str:
    """Return the report as text: the findings by section of the guide, and their counts in the last line."""
    lines = []
    for section in dict.fromkeys(each.section for each in findings):
        lines.append(f"\n{section}")
        lines += [
            f"  {each.severity:<5}  {each.case}: {each.text}" for each in findings if each.section == section
        ]
    counts = {severity: sum(each.severity is severity for each in findings) for severity in Severity}
    total = f"{counts[Severity.FAULT]} faults, {counts[Severity.NOTE]} notes, {counts[Severity.OK]} ok"
    return "\n".join([*lines, "", total]).lstrip("\n")


async def run(options: argparse.Namespace) -> list[Finding]:
    webhook = WebhookData(options.url, dict(options.header))
    async with open_session(WebhookConnector(limit=0)) as session:
        strategy = StrategyData(uuid4().hex, "Conformance check")
        integration = IntegrationData(
            "check@example.com", "Conformance check", "https://example.com/i.png", webhook
        )
        signer = Webhook(options.secret) if options.secret else None
        return await check(
            WebhookUnderTest(session, integration, signer, options.ticker, options.quantity, strategy)
        )


def main(arguments: list[str]) -> int:
    """Run the check and print its report. Return 0 if there is no fault, else 1; exit with 2 for invalid arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m integrations check", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("url", type=_url, help="URL of the webhook")
    parser.add_argument(
        "--secret", type=_secret, help="signing secret, whsec_…; without it nothing is signed"
    )
    parser.add_argument(
        "--header", type=_header, action="append", default=[], help="NAME:VALUE, sent with each event"
    )
    parser.add_argument("--ticker", default="XAUUSD", help="an instrument that the webhook trades")
    parser.add_argument(
        "--quantity", type=_quantity, default="10", help="a quantity that the webhook accepts"
    )
    findings = asyncio.run(run(parser.parse_args(arguments)))
    print(report(findings))  # noqa: T201 - a command for people
    return 1 if any(each.severity is Severity.FAULT for each in findings) else 0


def _url(text: str) -> str:
    url = URL(text)
    if url.scheme not in {"http", "https"} or not url.host:
        raise argparse.ArgumentTypeError("must be an absolute http or https URL")
    return text


def _secret(text: str) -> str:
    try:
        Webhook(text)
    except (ValueError, EmptyWebhookSecretError):
        raise argparse.ArgumentTypeError("must be a Standard Webhooks secret: whsec_ and base64") from None
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
