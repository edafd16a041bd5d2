"""Tokens in forms: only who was shown the page can post them (design, Browsers)."""

import hmac
from collections.abc import Sequence
from typing import Final

_PURPOSE: Final = b"integrations: form of the page\0"


class FormTokens:
    """Bound to the user by the service's own keys, so that every process of it, and the next, knows them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def of(self, user: str) -> str:
        return _token(self._keys[0], user)

    def is_right(self, user: str, token: str) -> bool:
        """Whether it is this user's, under any of the keys."""
        return any(hmac.compare_digest(_token(key, user).encode(), token.encode()) for key in self._keys)


def _token(key: bytes, user: str) -> str:
    return hmac.digest(key, _PURPOSE + user.encode(), "sha256").hex()
