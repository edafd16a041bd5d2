"""Check whether an account accepts the sender of an event: its secret header and its Standard Webhooks signature."""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError

from chassis.http.request import Headers
from signal_receiver.digests import digest
from signal_receiver.event_repository import Account

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
MAX_CLOCK_DIFFERENCE_MINUTES: Final = 5
"""The tolerance of Standard Webhooks."""


def sender_fault(account: Account, headers: Headers, body: bytes) -> str | None:
    """Return the reason why an account does not accept the sender of an event; None if it does.

    The reason is for the log only. The sender gets the typed error InvalidCredentials without it.
    """
    if account.header_name is not None and account.header_digest is not None:
        value = headers.get(account.header_name.lower())
        if value is None:
            return f"account {account.id} requires the header {account.header_name}"
        if not hmac.compare_digest(digest(value), account.header_digest):
            return f"the value of the header {account.header_name} is not that of account {account.id}"
    if account.webhook_secret is None:
        return None
    fault = signature_fault(account.webhook_secret, headers, body)
    return fault and f"{fault} (account {account.id})"


def signature_fault(secret: str, headers: Headers, body: bytes) -> str | None:
    """Return the fault of a signature; None if it is valid for this body and at most five minutes old."""
    names = (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
    missing = [name for name in names if name not in headers]
    if missing:
        return f"a signature is required; missing: {', '.join(missing)}"
    signed = {name: headers[name] for name in names}
    webhook = Webhook(secret)
    try:
        webhook.verify(body, signed, json_parse=False)
    except (WebhookVerificationError, ValueError):  # malformed headers raise ValueErrors of several kinds
        return _clock_fault(webhook, signed, body) or (
            "the webhook-signature is malformed, or was not made for this request with the account's secret"
        )
    return None


def _clock_fault(webhook: Webhook, signed: Mapping[str, str], body: bytes) -> str | None:
    """Return the difference of the clocks as text if a signature has no other fault, else None."""
    try:
        at = datetime.fromtimestamp(float(signed[TIMESTAMP_HEADER]), UTC)
        expected = webhook.sign(signed[ID_HEADER], at, body.decode()).encode()
        given = [each.encode() for each in signed[SIGNATURE_HEADER].split()]
    except (ValueError, OverflowError, OSError):
        return None
    if not any(hmac.compare_digest(expected, each) for each in given):
        return None
    minutes = round((at - datetime.now(UTC)).total_seconds() / 60)
    side = f"{minutes} minutes ahead of" if minutes > 0 else f"{-minutes} minutes behind"
    return (
        f"the signature is valid, but its timestamp is about {side} this machine's clock, and at most"
        f" {MAX_CLOCK_DIFFERENCE_MINUTES} minutes are accepted: check the clocks of both machines"
    )
