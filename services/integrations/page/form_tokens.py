"""Tokens in the forms of the user's page, which prevent cross-site request forgery: other sites cannot know them."""

import hmac
from collections.abc import Sequence
from typing import Final

from chassis.users import key_of

_PURPOSE: Final = b"integrations: form of the page\0"


class FormTokens:
    """Creates and checks tokens. A token depends only on the user's name and the service's keys.

    So every process of the service accepts it, also after a restart.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def create(self, user: str) -> str:
        return _token(self._keys[0], user)

    def is_valid(self, user: str, token: str) -> bool:
        """Whether the token was created for this user, with any of the keys."""
        return any(hmac.compare_digest(_token(key, user).encode(), token.encode()) for key in self._keys)


def _token(key: bytes, user: str) -> str:
    return hmac.digest(key, _PURPOSE + key_of(user).encode(), "sha256").hex()
