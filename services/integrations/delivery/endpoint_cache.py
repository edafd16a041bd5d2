"""What integrations are sent to with, remembered, as decrypting costs more than an event does."""

import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

import asyncpg
from cachetools import LRUCache
from standardwebhooks import Webhook
from yarl import URL

from chassis.database import Database
from integrations import events
from integrations.encryption import DecryptionError, Encryption
from integrations.webhook.client import Endpoint

MAX_REMEMBERED: Final = 10_000

SELECT: Final = """
SELECT id, name, description, image_url, url, headers, secret, previous_secret, revision,
    extract(epoch FROM previous_until - clock_timestamp())::float8 AS previous_seconds
FROM integration WHERE id = ANY($1::uuid[])
"""


class EndpointCache:
    """Destinations by integration, of the revision that is asked for or a newer one."""

    def __init__(self, database: Database, vault: Encryption, on_fault: Callable[..., object]) -> None:
        self._database = database
        self._vault = vault
        self._on_fault = on_fault
        self._known: LRUCache[UUID, Endpoint] = LRUCache(MAX_REMEMBERED)

    async def of(self, revisions: Mapping[UUID, int]) -> dict[UUID, Endpoint]:
        """Less those that are gone, and those that cannot be decrypted, which is logged."""
        found = {
            each: self._known[each]
            for each, revision in revisions.items()
            if each in self._known and self._known[each].revision >= revision
        }
        missing = [each for each in revisions if each not in found]
        if missing:
            began = time.monotonic()
            for row in await self._database.fetch(SELECT, missing):
                try:
                    found[row["id"]] = self._known[row["id"]] = self._destination(row, began)
                except DecryptionError:
                    self._on_fault("no key opens an integration's secrets", integration=str(row["id"]))
        return found

    def _destination(self, row: asyncpg.Record, began: float) -> Endpoint:
        """Raises VaultError."""
        webhook = events.Webhook(row["url"], self._vault.open_headers(row["headers"]))
        previous = row["previous_secret"]
        return Endpoint(
            events.IntegrationData(row["name"], row["description"], row["image_url"], webhook),
            row["revision"],
            URL(row["url"], encoded=True),
            Webhook(self._vault.open(row["secret"])),
            None if previous is None else Webhook(self._vault.open(previous)),
            began + (row["previous_seconds"] or 0.0),
        )
