"""Tokens in the page's forms, against cross-site request forgery: another site cannot know a user's token."""

import hmac
from collections.abc import Sequence
from typing import Final

from chassis.users import key_of

_PURPOSE: Final = b"integrations: form of the page\0"


class FormTokens:
    """Tokens made of the user's name and the service's keys, so every process accepts them, also after a restart."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def create(self, user: str) -> str:
        return _token(self._keys[0], user)

    def is_valid(self, user: str, token: str) -> bool:
        """Whether the token is this user's, made with any of the keys."""
        return any(hmac.compare_digest(_token(key, user).encode(), token.encode()) for key in self._keys)


def _token(key: bytes, user: str) -> str:
    return hmac.digest(key, _PURPOSE + key_of(user).encode(), "sha256").hex()
