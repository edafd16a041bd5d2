"""Audit logs in tests: keys, exports, and a sequencer without a service."""

import io
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import asyncpg

from chassis.database import Connection, Database
from dfsp_api.audit.checkpoint import Checkpoint
from dfsp_api.audit.export import export_rows
from dfsp_api.audit.export_format import LeafRow, Row, encode_row
from dfsp_api.audit.keys import AuditKeys, audit_keys
from dfsp_api.audit.note import SigningKey
from dfsp_api.audit.outbox import TAKE_EVENTS
from dfsp_api.audit.sequencer import Sequencer
from dfsp_api.audit.verify import Verdict, verify_export

T = TypeVar("T")

KEY: Final = SigningKey("example.com/quotes", bytes(range(32)))
OTHER_KEY: Final = SigningKey("example.com/quotes", bytes(32))
KEYS: Final = audit_keys(KEY.secret_text)


async def exported(sql: asyncpg.Connection) -> list[Row]:
    """Return the rows of an export."""
    async with sql.transaction(isolation="repeatable_read", readonly=True):
        return [row async for row in export_rows(sql)]


def verified(rows: Sequence[Row], kept: Sequence[Checkpoint] = (), keys: AuditKeys = KEYS) -> Verdict:
    return verify_export(io.BytesIO(b"".join(map(encode_row, rows))), keys.verifiers, kept)


async def good_export(sql: asyncpg.Connection) -> list[LeafRow]:
    """Export the log and verify it. Return its leaves."""
    rows = await exported(sql)
    verdict = verified(rows)
    assert verdict.is_good, [str(each) for each in verdict.findings]
    return [row for row in rows if isinstance(row, LeafRow)]


class ServiceOfSequencer:
    """Notes what a sequencer reports."""

    def __init__(self) -> None:
        self.warnings: dict[str, str] = {}
        self.events: list[str] = []
        self.reports: list[tuple[str, dict[str, object]]] = []
        self.logs: Any = SimpleNamespace(error=self._note, info=self._note)

    def _note(self, event: str, **fields: object) -> None:
        logging.getLogger(__name__).info("%s %s", event, fields)
        self.events.append(event)
        self.reports.append((event, fields))


def sequencer(
    database: Database,
    keys: AuditKeys = KEYS,
    *,
    kind: str = "postgres",
    content_for: timedelta = timedelta(days=400),
    longest_lifetime: timedelta = timedelta(days=1),
    service: ServiceOfSequencer | None = None,
) -> Sequencer:
    return Sequencer(
        database,
        keys,
        TAKE_EVENTS[kind],
        content_for=content_for,
        longest_lifetime=longest_lifetime,
        service=service or ServiceOfSequencer(),  # type: ignore[arg-type]
    )


async def run(each: Sequencer) -> None:
    """Let a sequencer add everything that waits."""
    while await each.step():
        pass


class ProcessEndedError(Exception):
    """Stands for the end of a process between two statements."""


class MortalDatabase(Database):
    """Raises ProcessEndedError in a transaction when no more statements are left. The transaction is rolled back."""

    statements_left = 0

    async def transaction(
        self, work: Callable[[Connection], Awaitable[T]], *, deadline: float | None = None
    ) -> T:
        async def counted(connection: Connection) -> T:
            return await work(_Counted(connection, self))  # type: ignore[arg-type]

        return await super().transaction(counted, deadline=deadline)

    def count(self) -> None:
        if not self.statements_left:
            raise ProcessEndedError
        self.statements_left -= 1


class _Counted:
    def __init__(self, connection: Connection, mortal: MortalDatabase) -> None:
        self._connection = connection
        self._mortal = mortal

    def __getattr__(self, name: str) -> Any:
        self._mortal.count()
        return getattr(self._connection, name)
