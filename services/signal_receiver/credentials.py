"""Whether an account accepts the sender of an event: its own header, and a Standard Webhooks signature."""

import hmac
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError

from chassis.messages import Headers
from signal_receiver.digests import digest
from signal_receiver.event_repository import Account

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"


def accepts(account: Account, headers: Headers, body: bytes) -> bool:
    """Whether the request has what the account requires: its header, a valid signature, both, or neither."""
    if account.header_name is not None and account.header_digest is not None:
        values = headers.getall(account.header_name, [])
        if len(values) != 1 or not hmac.compare_digest(digest(values[0]), account.header_digest):
            return False
    return account.webhook_secret is None or is_signed(account.webhook_secret, headers, body)


def is_signed(secret: str, headers: Headers, body: bytes) -> bool:
    """Whether the headers hold a signature of the body that was made within the last five minutes."""
    names = (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)
    try:
        Webhook(secret).verify(
            body, {name: headers[name] for name in names if name in headers}, json_parse=False
        )
    except (WebhookVerificationError, ValueError):  # malformed headers raise ValueErrors of several kinds
        return False
    return True
