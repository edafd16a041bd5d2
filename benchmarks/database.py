"""Connection to the Postgres of a benchmark: executes SQL statements and returns their values and rows."""

import asyncio
from typing import Any, Self

import asyncpg


class BenchmarkDatabase:
    """One connection to Postgres; each method returns when the statement has been executed."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(asyncpg.connect(dsn))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()

    def execute(self, statement: str, *arguments: object) -> None:
        self._runner.run(self._connection.execute(statement, *arguments))

    def value(self, statement: str) -> Any:  # noqa: ANN401 - whatever the column is
        return self._runner.run(self._connection.fetchval(statement))

    def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        return self._runner.run(self._connection.fetch(statement, *arguments))
