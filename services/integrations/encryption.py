"""What is secret: header values and signing secrets at rest, and signatures.

Signatures are those of Standard Webhooks, v1: ``webhook-id``, ``webhook-timestamp``, ``webhook-signature``.
"""

import base64
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from standardwebhooks import Webhook

from chassis.settings import Secret

SECRET_BYTES: Final = 32
PREFIX: Final = "whsec_"


class DecryptionError(Exception):
    """What the database holds was encrypted with a key that this service does not have."""


def keys(value: str | Sequence[Secret]) -> tuple[Secret, ...]:
    """Converts Fernet keys, separated by commas or white space; the first encrypts, all decrypt."""
    found = (
        tuple(Secret(each) for each in value.replace(",", " ").split()) if isinstance(value, str) else value
    )
    if not found:
        raise ValueError("must hold a key at least")
    for each in found:
        try:
            Fernet(each)
        except ValueError:
            raise ValueError("must hold Fernet keys: 32 bytes each, in URL-safe base64") from None
    return tuple(found)


class Encryption:
    """Encrypts what goes into the database."""

    def __init__(self, keys_: Iterable[str]) -> None:
        self._fernet = MultiFernet([Fernet(each) for each in keys_])

    def seal(self, secret: str) -> bytes:
        return self._fernet.encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """Raises VaultError."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise DecryptionError from None

    def seal_headers(self, headers: Mapping[str, str]) -> bytes:
        return self.seal(orjson.dumps(dict(headers)).decode())

    def open_headers(self, sealed: bytes) -> dict[str, str]:
        """Raises VaultError."""
        headers: dict[str, str] = orjson.loads(self.open(sealed))
        return headers


def new_secret() -> str:
    """A signing secret as Standard Webhooks writes it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature(signers: Iterable[Webhook], webhook_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers: a signature for each secret in force, separated by spaces."""
    text = body.decode()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(each.sign(webhook_id, at, text) for each in signers),
    }
