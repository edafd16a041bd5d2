"""Events of the integration guide as a webhook receives them: their checks, without I/O."""

import binascii
import json
from collections.abc import Mapping
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError
from standardwebhooks.webhooks import EmptyWebhookSecretError

from dfsp_quotes.cli.failures import BadInputError

SIGNAL_TYPES: Final = frozenset({"SIGNAL_OPEN", "SIGNAL_CLOSE", "SIGNAL_REOPEN"})
STRATEGY_TYPES: Final = frozenset({"STRATEGY_ENABLED", "STRATEGY_DISABLED"})
INTEGRATION_TYPES: Final = frozenset({"INTEGRATION_APPROVED", "INTEGRATION_REJECTED", "INTEGRATION_DELETED"})
ERROR_TYPES: Final = (
    "InsufficientFunds",
    "QuantityTooLow",
    "QuantityTooHigh",
    "InvalidQuantityPrecision",
    "UnsupportedInstrument",
    "PositionAlreadyExists",
    "MarketClosed",
    "PositionNotFound",
    "InvalidCredentials",
)
"""Guide, "Responding to Events"."""


def webhook_of(secret: str) -> Webhook:
    """Return the verifier for a secret such as `whsec_...`. Raises BadInputError."""
    try:
        return Webhook(secret)
    except (binascii.Error, EmptyWebhookSecretError, ValueError):
        raise BadInputError("The signing secret must be whsec_ and base64.") from None


def signature_problem(webhook: Webhook, headers: Mapping[str, str], body: bytes) -> str | None:
    """Return why the signature does not hold; None if it holds."""
    try:
        webhook.verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError as error:
        return str(error)
    except (ValueError, TypeError):  # base64, UTF-8 or the parts of the header
        return "the signature headers are malformed"
    return None


def read(body: bytes) -> tuple[dict[str, object] | None, list[str]]:
    """Return the event of version v1, and the faults of the body by the guide's "Handling Events"."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None, ["the body is not JSON"]
    version = content.get("v1") if isinstance(content, dict) else None
    event = version.get("event") if isinstance(version, dict) else None
    if not isinstance(event, dict):
        return None, ["the body has no v1.event"]
    return event, [*_problems(event)]


def without_secrets(event: dict[str, object] | None) -> dict[str, object] | None:
    """Return the event with *** in place of the values of the integration's headers, which may be credentials."""
    integration = (event or {}).get("integration")
    webhook = integration.get("webhook") if isinstance(integration, dict) else None
    headers = webhook.get("headers") if isinstance(webhook, dict) else None
    if event is None or not isinstance(integration, dict) or not isinstance(webhook, dict):
        return event
    hidden = dict.fromkeys(headers, "***") if isinstance(headers, dict) else None
    return {**event, "integration": {**integration, "webhook": {**webhook, "headers": hidden}}}


def _problems(event: Mapping[str, object]) -> list[str]:
    found = []
    timestamp, type_ = event.get("timestamp"), event.get("type")
    if not isinstance(timestamp, int) or isinstance(timestamp, bool):
        found.append("timestamp is not a whole number of milliseconds")
    if not isinstance(event.get("integration"), dict):
        found.append("integration is not an object")
    data = event.get("data")
    if type_ in INTEGRATION_TYPES:
        if data is not None:
            found.append("data is not null")
    elif type_ in STRATEGY_TYPES:
        found += _missing(data, "id", "name")
    elif type_ in SIGNAL_TYPES:
        found += _missing(data, "direction", "ticker", "quantity", "strategy", "proquantPositionId")
    else:
        found.append("type is not one of the guide")
    return found


def _missing(data: object, *names: str) -> list[str]:
    if not isinstance(data, dict):
        return ["data is not an object"]
    return [f"data has no {name}" for name in names if name not in data]
