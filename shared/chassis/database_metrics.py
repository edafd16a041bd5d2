"""Metrics of a service's pool of connections to Postgres and of its statements (docs/metrics.md, "Postgres")."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

from asyncpg.connection import LoggedQuery
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from chassis.histogram import Histogram, labelled

OTHER: Final = "other"
ENDS: Final = {"BEGIN;": "begin", "COMMIT;": "commit", "ROLLBACK;": "rollback"}
"""Statements that asyncpg sends for a transaction. The commit waits for the disk."""

Failure = Literal["unavailable", "timeout", "disk_full", "conflict"]


class DatabaseMetrics(Collector):
    """Metrics of one pool, in plain numbers."""

    def __init__(
        self, max_connections: int, connections: Callable[[], tuple[int, int]], names: Mapping[str, str]
    ) -> None:
        """`connections` returns how many connections are in use, and how many are idle.

        `names` has a name for each SQL statement; other statements are counted together.
        """
        self._max = max_connections
        self._connections = connections
        self._names = {**ENDS, **names}
        self._statements: dict[str, Histogram] = {}
        self._waits = Histogram()
        self._waiting = 0
        self.failures: dict[Failure, int] = {"unavailable": 0, "timeout": 0, "disk_full": 0, "conflict": 0}
        self.table_bytes: Mapping[str, int] = {}
        """Size of each table with its indexes; empty if it is not known now."""

    def log_statement(self, record: LoggedQuery) -> None:
        """Count a statement that has ended, with or without an error."""
        name = self._names.get(record.query, OTHER)
        durations = self._statements.get(name)
        if durations is None:
            durations = self._statements[name] = Histogram()
        durations.observe(record.elapsed)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure the wait for a connection, until the context ends."""
        began = time.monotonic()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            self._waits.observe(time.monotonic() - began)

    def collect(self) -> Iterator[Metric]:
        in_use, idle = self._connections()
        connections = GaugeMetricFamily("database_connections", "Open connections", labels=["state"])
        connections.add_metric(["in_use"], in_use)
        connections.add_metric(["idle"], idle)
        yield connections
        yield GaugeMetricFamily("database_connections_max", "Largest size of the pool", value=self._max)
        yield GaugeMetricFamily(
            "database_connection_waiters", "Statements that wait for a connection", value=self._waiting
        )
        waits = HistogramMetricFamily("database_connection_wait_seconds", "Wait for a connection", labels=[])
        self._waits.add_to(waits, [])
        yield waits
        yield labelled(
            "database_statement_duration_seconds", "Duration of statements", "statement", self._statements
        )
        errors = CounterMetricFamily("database_errors", "Failures of the database", labels=["reason"])
        for reason, number in self.failures.items():
            errors.add_metric([reason], number)
        yield errors
        tables = GaugeMetricFamily(
            "database_table_bytes", "Size of a table with its indexes", labels=["table"]
        )
        for table, size in self.table_bytes.items():
            tables.add_metric([table], size)
        yield tables
