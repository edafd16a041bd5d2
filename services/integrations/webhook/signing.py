"""Sign webhook requests: Standard Webhooks, version 1."""

import base64
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from standardwebhooks import Webhook

SECRET_BYTES: Final = 32
PREFIX: Final = "whsec_"


def new_signing_secret() -> str:
    """Return a new random signing secret in the text format of Standard Webhooks."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature_headers(
    signers: Iterable[Webhook], webhook_id: str, at: datetime, body: bytes
) -> dict[str, str]:
    """Return the headers webhook-id, webhook-timestamp and webhook-signature.

    webhook-signature has one signature by each signer; spaces separate them.
    """
    text = body.decode()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(each.sign(webhook_id, at, text) for each in signers),
    }
