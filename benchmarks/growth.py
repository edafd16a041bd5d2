"""`make bench-growth`: the same comparison with millions of quotes in the tables already."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from benchmarks import bare, report, tables, wrk
from benchmarks.about import about
from benchmarks.chains import Machine
from benchmarks.measured import Measured
from benchmarks.medians import Row, rows
from benchmarks.names import WARM
from benchmarks.options import Options
from benchmarks.rounds import Rounds
from benchmarks.targets import Outcome, least
from benchmarks.workloads import sides

SIZES: Final = (0, 1_000_000, 10_000_000)
CONNECTIONS: Final = (128,)
AT_ONCE: Final = 1_000_000
"""Rows a statement."""
REQUEST: Final = (
    """'{"currencyCode":"USD","currencySymbol":"$","amount":"' || amount || '","account":"""
    """"http://ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088/ilp/ledger/v1/accounts/bob","""
    """"identifier":"' || 30000000 + n % 1000000 || '","identifierType":"eur","transferType":"p2p"}'"""
)
NUMBERS: Final = (
    "SELECT n, round((1 + random() * 999)::numeric, 2) AS amount FROM generate_series($1::bigint, $2) n"
)
# 25 days of quotes, of which four in five were executed after some seconds: none is old enough for retention
FILLS: Final = {
    bare.TABLE: f"INSERT INTO {bare.TABLE} (uuid, request) SELECT gen_random_uuid(), {REQUEST} FROM ({NUMBERS}) WHERE n <= $3",
    "quote": f"""
INSERT INTO quote (uuid, caller, operation, fingerprint, request, source_amount, destination_amount,
    created, expires, executed)
SELECT gen_random_uuid(), 'test', 'quoteSourceAmount', sha256(int8send(n)), request::json, round(amount * 1.1, 2),
    amount, at, at + interval '300 s', CASE WHEN n % 5 > 0 THEN at + interval '4 s' END
FROM (
    SELECT n, amount, {REQUEST} AS request,
        date_trunc('milliseconds', now() - interval '25 days' * (1 - n / $3::float8)) AS at
    FROM ({NUMBERS})
)""",
}
KEPT: Final = 0.9


def run(options: Options) -> None:
    wrk.require()
    measured: dict[int, list[Measured]] = {}
    sizes = sorted(options.rows or SIZES)
    with Machine(options.data) as machine:
        on = about(machine, options, wrk.version())
        compared = sides(machine, (WARM,), options.data)
        for size in sizes:
            for side in compared:
                fill(machine, side.chain.table, size, sizes[-1])
            measured[size] = Rounds(machine).run(
                compared,
                connections=options.connections or CONNECTIONS,
                rounds=options.rounds,
                seconds=options.seconds,
                tell=print,
            )
    by_size = {size: rows(each) for size, each in measured.items()}
    content = {
        "about": on,
        "medians": [{"rows": size, **asdict(row)} for size, found in by_size.items() for row in found],
        "rounds": [{"rows": size, **asdict(one)} for size, each in measured.items() for one in each],
    }
    report.write(options, "growth", content, described(on, measured, by_size))


def fill(machine: Machine, table: str, size: int, largest: int) -> None:
    """Add rows until there are so many, `largest` in 25 days. The key is built afterwards: minutes less."""
    there = int(machine.database.value(f"SELECT count(*) FROM {table}"))
    if there >= size:
        return
    print(f"filling {table}: {there:,} rows to {size:,}")
    execute = machine.database.execute
    execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
    for first in range(there + 1, size + 1, AT_ONCE):
        last = min(first + AT_ONCE - 1, size)
        execute(FILLS[table], first, last, largest)
    execute("SET maintenance_work_mem = '1GB'")
    execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY (uuid)")
    # or autovacuum would do it during the rounds
    execute(f"VACUUM (FREEZE, ANALYZE) {table}")


def described(
    on: dict[str, Any], measured: Mapping[int, list[Measured]], by_size: Mapping[int, list[Row]]
) -> str:
    """Ratios by size, and what has become of the first size's."""
    parts = ["# With more and more quotes", report.described(on)]
    for size, found in by_size.items():
        parts += [
            f"## {size:,} rows before the first round",
            report.noise(measured[size]),
            tables.rates(found),
        ]
    parts += ["## What was aimed at", tables.aims([*_kept(by_size)])]
    return report.joined(parts)


def _kept(by_size: Mapping[int, list[Row]]) -> Iterator[Outcome]:
    """Each size's ratio to bare, beside that of the first size."""
    (first, before), *larger = by_size.items()
    was = {row.connections: row.to_bare.median for row in before if row.to_bare}
    for size, found in larger:
        for row in found:
            if row.to_bare:
                what = (
                    f"{row.connections} connections, {size:,} rows: ratio to bare, to that at {first:,} rows"
                )
                yield least(what, KEPT).beside(row.to_bare.median / was[row.connections])
