"""Tokens in the forms of a page, which prevent cross-site request forgery: other sites cannot know them."""

import hmac
from collections.abc import Sequence

from chassis.users import key_of


class FormTokens:
    """Creates and checks tokens. A token depends only on the page, the user's name and the service's keys.

    So every process that has the keys accepts it, also after a restart.
    """

    def __init__(self, page: str, keys: Sequence[str]) -> None:
        self._purpose = f"{page}: form of the page\0".encode()
        self._keys = [key.encode() for key in keys]

    def create(self, user: str) -> str:
        return self._token(self._keys[0], user)

    def is_valid(self, user: str, token: str) -> bool:
        """Whether the token was created for this user, with any of the keys."""
        return any(hmac.compare_digest(self._token(key, user).encode(), token.encode()) for key in self._keys)

    def _token(self, key: bytes, user: str) -> str:
        return hmac.digest(key, self._purpose + key_of(user).encode(), "sha256").hex()
