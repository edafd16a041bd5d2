"""Reads the whole audit log from the database, and compares it with the table of quotes (docs/audit.md)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from chassis.database import Connection
from dfsp_api.audit import repository
from dfsp_api.audit.entry import is_stub_of
from dfsp_api.audit.export_format import (
    ABSENT,
    FORMAT,
    SAME,
    STUB,
    CheckpointRow,
    EndRow,
    HeaderRow,
    LeafRow,
    Row,
    UnloggedRow,
)
from dfsp_api.audit.repository import contents_of, last_checkpoint, search
from dfsp_api.audit.tiles import WIDTH, hash_of_range

MAX_ROWS: Final = 4 * WIDTH
"""Maximum number of leaves or checkpoints that are in memory at once."""
PENDING_FOR: Final = timedelta(seconds=10)
"""An event that happened less than this time before the export may have no leaf yet."""
NO_QUOTE: Final = UUID(int=0)


class NoAuditLogError(Exception):
    """The database has no audit log."""


async def export_rows(connection: Connection) -> AsyncIterator[Row]:
    """Yield the rows of an export.

    The caller has begun a transaction whose statements see the same state of the database. Raises NoAuditLogError.
    """
    last = await last_checkpoint(connection)
    if last is None:
        raise NoAuditLogError("the database has no audit log")
    size, number = last.size, 1
    yield HeaderRow(number, FORMAT, _origin(last.note), size)
    signed = _checkpoints(connection)
    checkpoint = await anext(signed, None)
    async for position, leaf in _leaves(connection, size):
        while checkpoint is not None and checkpoint["size"] <= position:
            number += 1
            yield CheckpointRow(number, checkpoint["note"])
            checkpoint = await anext(signed, None)
        number += 1
        yield LeafRow(number, position, *leaf)
    while checkpoint is not None:
        number += 1
        yield CheckpointRow(number, checkpoint["note"])
        checkpoint = await anext(signed, None)
    async for content in _unlogged(connection):
        number += 1
        yield UnloggedRow(number, content)
    yield EndRow(number + 1)


def _origin(note: str) -> str:
    return note.partition("\n")[0]


async def _checkpoints(connection: Connection) -> AsyncIterator[asyncpg.Record]:
    size = -1
    while rows := await connection.fetch(repository.CHECKPOINTS, size, MAX_ROWS):
        for row in rows:
            yield row
        size = rows[-1]["size"]


async def _leaves(
    connection: Connection, size: int
) -> AsyncIterator[tuple[int, tuple[str, str | None, str | None]]]:
    """Yield the position of each leaf, and its hash, its content and the state of the table of quotes."""
    for first in range(0, size, MAX_ROWS):
        end = min(first + MAX_ROWS, size)
        rows = await connection.fetch(repository.LEAVES, first, end)
        tiles = await repository.tiles(connection, [(0, each // WIDTH) for each in range(first, end, WIDTH)])
        for row in rows:
            position, content = row["position"], row["content"]
            leaf = hash_of_range(tiles, (position, position + 1)).hex()
            yield position, (leaf, content, None if content is None else _table(content, row["now"]))


def _table(content: str, now: str | None) -> str:
    if now is None:
        return ABSENT
    if now == content:
        return SAME
    try:
        return STUB if is_stub_of(now, content) else now
    except (orjson.JSONDecodeError, TypeError, LookupError):  # somebody has changed the content
        return now


async def _unlogged(connection: Connection) -> AsyncIterator[str]:
    """Yield the contents that the missing leaves would have."""
    until = await connection.fetchval(repository.TIME) - PENDING_FOR
    created, uuid = repository.EARLIEST, NO_QUOTE
    while found := await search(connection, created, uuid, until, until):
        contents = await contents_of(connection, [each.key for each in found.missing])
        for each in found.missing:
            yield contents[each.key]
        created, uuid = found.created, found.uuid
