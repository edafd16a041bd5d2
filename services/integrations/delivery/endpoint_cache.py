"""Cache of endpoints: webhooks with decrypted headers and secrets.

To decrypt them takes longer than to send an event.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

import asyncpg
from cachetools import LRUCache
from standardwebhooks import Webhook
from yarl import URL

from chassis.database import Database
from integrations.encryption import DecryptionError, Encryption
from integrations.events import IntegrationData, WebhookData
from integrations.webhook.client import Endpoint

MAX_ENDPOINTS: Final = 10_000

SELECT: Final = """
SELECT id, name, description, image_url, url, headers, secret, previous_secret, revision,
    extract(epoch FROM previous_until - clock_timestamp())::float8 AS previous_seconds
FROM integration WHERE id = ANY($1::uuid[])
"""


class EndpointCache:
    """Endpoints by integration."""

    def __init__(self, database: Database, encryption: Encryption, on_fault: Callable[..., object]) -> None:
        self._database = database
        self._encryption = encryption
        self._on_fault = on_fault
        self._cached: LRUCache[UUID, Endpoint] = LRUCache(MAX_ENDPOINTS)

    async def get(self, revisions: Mapping[UUID, int]) -> dict[UUID, Endpoint]:
        """Return the endpoint of each integration. `revisions` has the oldest revision that is allowed for each.

        Leaves out integrations that no longer exist, and those that cannot be decrypted, for which it logs an error.
        """
        found = {
            each: self._cached[each]
            for each, revision in revisions.items()
            if each in self._cached and self._cached[each].revision >= revision
        }
        missing = [each for each in revisions if each not in found]
        if missing:
            began = time.monotonic()
            for row in await self._database.fetch(SELECT, missing):
                try:
                    found[row["id"]] = self._cached[row["id"]] = self._endpoint(row, began)
                except DecryptionError:
                    self._on_fault(
                        "no key in QUOTES_ENCRYPTION_KEYS decrypts an integration's secrets",
                        integration=str(row["id"]),
                    )
        return found

    def clear(self) -> None:
        self._cached.clear()

    def _endpoint(self, row: asyncpg.Record, began: float) -> Endpoint:
        """Raises DecryptionError."""
        webhook = WebhookData(row["url"], self._encryption.decrypt_headers(row["headers"]))
        previous = row["previous_secret"]
        return Endpoint(
            IntegrationData(row["name"], row["description"], row["image_url"], webhook),
            row["revision"],
            URL(row["url"], encoded=True),
            Webhook(self._encryption.decrypt(row["secret"])),
            None if previous is None else Webhook(self._encryption.decrypt(previous)),
            began + (row["previous_seconds"] or 0.0),
        )
