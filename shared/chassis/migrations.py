"""The migrations of a service: which of them a database has, and which tables they create."""

import re
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from typing import Final, TypeAlias

import asyncpg

Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

_TABLE: Final = re.compile(r"^CREATE TABLE (?:IF NOT EXISTS )?([a-z_]+)", re.MULTILINE)

_LEDGER: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migration"
    " (service text, name text, applied timestamptz DEFAULT now(), PRIMARY KEY (service, name))"
)

_MISSING: Final = """
SELECT 'migration ' || name FROM unnest($2::text[]) AS needed (name)
WHERE name NOT IN (SELECT name FROM schema_migration WHERE service = $1)
UNION ALL
SELECT 'table ' || name FROM unnest($3::text[]) AS needed (name) WHERE to_regclass(name) IS NULL
"""


class Migrations:
    """The ``*.sql`` files of a folder. Each is applied once, in the order of the file names."""

    def __init__(self, service: str, folder: Traversable, *, schema: str | None = None) -> None:
        """Read the files. ``service`` is the name under which migrations are recorded, and the name of their lock.

        A ``schema`` is created before the migrations run. Connections must already have it as their ``search_path``.
        """
        self.service = service
        self.schema = schema
        files = sorted(
            (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
        )
        self._statements = {file.name: file.read_text(encoding="utf-8") for file in files}
        self.tables = [name for text in self._statements.values() for name in _TABLE.findall(text)]

    async def apply(self, connection: Connection) -> None:
        """Apply the migrations that the database does not have yet, while holding an advisory lock."""
        async with connection.transaction():
            # a new index on a large table takes longer than any request may
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", self.service)
            if self.schema is not None:
                await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self.schema}")
            await connection.execute(_LEDGER)
            rows = await connection.fetch(
                "SELECT name FROM schema_migration WHERE service = $1", self.service
            )
            applied = {row["name"] for row in rows}
            for name, statements in self._statements.items():
                if name not in applied:
                    await connection.execute(statements)
                    await connection.execute(
                        "INSERT INTO schema_migration (service, name) VALUES ($1, $2)", self.service, name
                    )

    async def missing(self, connection: Connection) -> Sequence[str]:
        """Return the migrations and tables that the database lacks, such as ``table quote``."""
        try:
            rows = await connection.fetch(_MISSING, self.service, list(self._statements), self.tables)
        except asyncpg.UndefinedTableError:
            return ["table schema_migration"]
        return [row[0] for row in rows]
