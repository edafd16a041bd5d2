"""Encrypt header values and signing secrets for the database, and decrypt them."""

from collections.abc import Iterable, Mapping, Sequence

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from chassis.settings import Secret


class DecryptionError(Exception):
    """The data was encrypted with a key that is not in QUOTES_ENCRYPTION_KEYS."""


def encryption_keys(value: str | Sequence[Secret]) -> tuple[Secret, ...]:
    """Return the Fernet keys in a text, where commas or white space separate them. Raises ValueError.

    The service encrypts with the first key, and decrypts with all keys.
    """
    found = (
        tuple(Secret(each) for each in value.replace(",", " ").split()) if isinstance(value, str) else value
    )
    if not found:
        raise ValueError("must hold at least one key")
    for each in found:
        try:
            Fernet(each)
        except ValueError:
            raise ValueError("must hold Fernet keys: 32 bytes each, in URL-safe base64") from None
    return tuple(found)


class Encryption:
    """Encrypts with the first of the service's Fernet keys, and decrypts with any of them."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._fernet = MultiFernet([Fernet(each) for each in keys])

    def encrypt(self, secret: str) -> bytes:
        return self._fernet.encrypt(secret.encode())

    def decrypt(self, encrypted: bytes) -> str:
        """Raises DecryptionError."""
        try:
            return self._fernet.decrypt(encrypted).decode()
        except InvalidToken:
            raise DecryptionError from None

    def encrypt_headers(self, headers: Mapping[str, str]) -> bytes:
        return self.encrypt(orjson.dumps(dict(headers)).decode())

    def decrypt_headers(self, encrypted: bytes) -> dict[str, str]:
        """Raises DecryptionError."""
        headers: dict[str, str] = orjson.loads(self.decrypt(encrypted))
        return headers
