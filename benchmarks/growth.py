"""`make bench-growth`: measure the bare chain and this project's chain while millions of quotes are in their tables."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from benchmarks import bare, report, tables, wrk
from benchmarks.about import about
from benchmarks.chains import Machine
from benchmarks.measurement import Measurement
from benchmarks.medians import MedianRow, rows
from benchmarks.names import WARM
from benchmarks.options import Options
from benchmarks.rounds import Rounds
from benchmarks.targets import TargetOutcome, at_least
from benchmarks.workloads import sides

SIZES: Final = (0, 1_000_000, 10_000_000)
CONNECTIONS: Final = (128,)
ROWS_PER_STATEMENT: Final = 1_000_000
REQUEST: Final = (
    """'{"currencyCode":"USD","currencySymbol":"$","amount":"' || amount || '","account":"""
    """"http://ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088/ilp/ledger/v1/accounts/bob","""
    """"identifier":"' || 30000000 + n % 1000000 || '","identifierType":"eur","transferType":"p2p"}'"""
)
NUMBERS: Final = (
    "SELECT n, round((1 + random() * 999)::numeric, 2) AS amount FROM generate_series($1::bigint, $2) n"
)
# 25 days of quotes, four in five executed after four seconds; none is old enough for retention
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
MIN_RATIO: Final = 0.9
"""Target: at every table size, the ratio to the bare chain is at least this part of that at the smallest size."""


def run(options: Options) -> None:
    wrk.require()
    measured: dict[int, list[Measurement]] = {}
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
                show=print,
            )
    by_size = {size: rows(each) for size, each in measured.items()}
    content = {
        "about": on,
        "medians": [{"rows": size, **asdict(row)} for size, found in by_size.items() for row in found],
        "rounds": [{"rows": size, **asdict(one)} for size, each in measured.items() for one in each],
    }
    report.write(options, "growth", content, described(on, measured, by_size))


def fill(machine: Machine, table: str, size: int, largest: int) -> None:
    """Add rows to a table until it has `size` rows. Their times are spread so that `largest` rows would cover 25 days.

    The primary key is dropped first and built again afterwards, which saves minutes.
    """
    present = int(machine.database.value(f"SELECT count(*) FROM {table}"))
    if present >= size:
        return
    print(f"filling {table}: from {present:,} to {size:,} rows")
    execute = machine.database.execute
    execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
    for first in range(present + 1, size + 1, ROWS_PER_STATEMENT):
        last = min(first + ROWS_PER_STATEMENT - 1, size)
        execute(FILLS[table], first, last, largest)
    execute("SET maintenance_work_mem = '1GB'")
    execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY (uuid)")
    # vacuum now, because autovacuum would run during the rounds
    execute(f"VACUUM (FREEZE, ANALYZE) {table}")


def described(
    on: dict[str, Any], measured: Mapping[int, list[Measurement]], by_size: Mapping[int, list[MedianRow]]
) -> str:
    """Return the results as Markdown: ratios by table size, and how they changed since the smallest size."""
    parts = ["# Growth", report.described(on)]
    for size, found in by_size.items():
        parts += [
            f"## {size:,} rows before the first round",
            report.noise(measured[size]),
            tables.rates(found),
        ]
    parts += ["## Targets", tables.targets_table([*_kept(by_size)])]
    return report.joined(parts)


def _kept(by_size: Mapping[int, list[MedianRow]]) -> Iterator[TargetOutcome]:
    """Yield a target outcome for each larger table size.

    It compares the ratio to the bare chain at this size with that at the smallest size.
    """
    (first, rows_before), *larger = by_size.items()
    before = {row.connections: row.to_bare.median for row in rows_before if row.to_bare}
    for size, found in larger:
        for row in found:
            if row.to_bare:
                what = f"{row.connections} connections, {size:,} rows: ratio to bare, compared with {first:,} rows"
                yield at_least(what, MIN_RATIO).outcome(row.to_bare.median / before[row.connections])
