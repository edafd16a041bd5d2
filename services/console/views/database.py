"""*Database*: the pools, the statements, the tables and the quotes, and whether Postgres is the bottleneck."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from console.collectors.look import Health
from console.collectors.samples import Window, increase, increases_by, mean, quantile, rate
from console.collectors.service_record import DURATIONS, QUANTILE_SECONDS, ServiceRecord
from console.verdict import PoolFigures, Verdict, judge
from console.view import Console, View

PATH: Final = "/database"
STATEMENTS: Final = "database_statement_duration_seconds"
WAITS: Final = "database_connection_wait_seconds"
MAX_ROWS: Final = 100


@dataclass(frozen=True)
class StatementRow:
    """One statement in the last minute. `share` is its part of the time of all statements."""

    name: str
    per_second: float | None
    mean_seconds: float | None
    p50_seconds: float | None
    p99_seconds: float | None
    share: float | None


@dataclass(frozen=True)
class DatabaseFigures:
    """The database of one service. `at` is the time of the figures in seconds since 1970."""

    service: str
    at: float
    health: Health
    reasons: Sequence[str]
    pool: PoolFigures
    verdict: Verdict
    statements: Sequence[StatementRow]
    tables: Sequence[tuple[str, float]]
    retention_lag_seconds: float | None
    swept_until: float | None


def view(console: Console) -> View:
    async def show(request: web.Request) -> web.StreamResponse:
        fleet = console.fleet
        await fleet.fresh()
        values = {
            "databases": [
                figures
                for record in fleet.records.values()
                if (figures := database_figures(record)) is not None
            ],
            "quotes": fleet.quotes,
            "looked_at": fleet.looked_at,
        }
        return console.render(request, "database.html", values)

    return View("Database", PATH, [web.get(PATH, show)])


def database_figures(record: ServiceRecord) -> DatabaseFigures | None:
    """Return the figures of a service's database; None if the service has none, or has not answered yet."""
    at = record.metrics_at()
    largest = record.gauge("database_connections_max")
    if at is None or largest is None:
        return None
    minute = record.windows(QUANTILE_SECONDS)
    pool = _pool(record, minute, largest)
    reasons = [reason for look in record.looks for reason in look.reasons]
    return DatabaseFigures(
        record.name,
        at,
        record.health,
        reasons,
        pool,
        judge(pool, is_ready=record.health is Health.READY),
        _statements(minute),
        _tables(record),
        record.highest("retention_lag_seconds"),
        record.highest("retention_swept_until_timestamp_seconds"),
    )


def _pool(record: ServiceRecord, minute: Sequence[Window], largest: float) -> PoolFigures:
    return PoolFigures(
        service=record.name,
        largest=largest,
        in_use=record.gauge("database_connections", state="in_use"),
        idle=record.gauge("database_connections", state="idle"),
        busy=rate(minute, f"{STATEMENTS}_sum"),
        waiting=record.gauge("database_connection_waiters"),
        wait_p99_seconds=quantile(minute, WAITS, 0.99),
        statement_mean_seconds=mean(minute, STATEMENTS),
        statement_p99_seconds=quantile(minute, STATEMENTS, 0.99),
        request_mean_seconds=mean(minute, DURATIONS),
        request_p99_seconds=quantile(minute, DURATIONS, 0.99),
    )


def _statements(minute: Sequence[Window]) -> list[StatementRow]:
    """Return the statements, the one that takes the most time of Postgres first."""
    seconds = increases_by(minute, f"{STATEMENTS}_sum", lambda has: has["statement"])
    total = sum(seconds.values())
    rows = [
        StatementRow(
            name,
            rate(minute, f"{STATEMENTS}_count", statement=name),
            mean(minute, STATEMENTS, statement=name),
            quantile(minute, STATEMENTS, 0.5, statement=name),
            quantile(minute, STATEMENTS, 0.99, statement=name),
            spent / total if total else None,
        )
        for name, spent in seconds.items()
        if increase(minute, f"{STATEMENTS}_count", statement=name)
    ]
    return sorted(rows, key=lambda row: -(row.share or 0))[:MAX_ROWS]


def _tables(record: ServiceRecord) -> list[tuple[str, float]]:
    """Return the size of each table in bytes, the largest first."""
    found: dict[str, float] = {}
    for samples in record.newest():
        for labels, value in samples.each("database_table_bytes"):
            found[labels["table"]] = max(value, found.get(labels["table"], 0.0))
    return sorted(found.items(), key=lambda each: -each[1])[:MAX_ROWS]
