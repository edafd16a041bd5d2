"""Encryption of header values and signing secrets before they go into the database."""

from collections.abc import Iterable, Mapping, Sequence

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from chassis.settings import Secret


class DecryptionError(Exception):
    """No key of this service decrypts the data: it was encrypted with a key that is not configured."""


def encryption_keys(value: str | Sequence[Secret]) -> tuple[Secret, ...]:
    """Convert Fernet keys, separated by commas or white space. The first encrypts, all decrypt."""
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
    """Encrypts and decrypts with the service's Fernet keys."""

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
