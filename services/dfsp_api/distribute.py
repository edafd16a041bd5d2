"""``python -m dfsp_api distribute``: spread the payee's database over the nodes of a Citus cluster.

The command can be run again at any time, for example after an interruption: it executes only the steps that are left.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from chassis.database import CONNECT_SECONDS, Connection, require_usable_url
from chassis.postgres_session import UnfitDatabaseError, prepare_session
from chassis.run import StartError
from chassis.settings import SettingsError, load, whole
from dfsp_api.payee import PayeeSettings
from dfsp_api.repository import IS_CITUS, MIGRATIONS

# small tables that each node reads, written once or once an hour
REFERENCE_TABLES: Final = (
    "namespace",
    "retention",
    "quote_count",
    "fee_schedule",
    "audit_checkpoint",
    "audit_log",
    "schema_migration",
)
# the column, and the table with which the shards are colocated: rows that one transaction writes are on one node
DISTRIBUTED_TABLES: Final = {
    "quote": ("uuid", "none"),
    "audit_pending": ("uuid", "quote"),
    "audit_leaf": ("uuid", "quote"),
    "audit_tile": ("number", "none"),
    "exposure": ("caller", "none"),
    "exposure_entry": ("caller", "exposure"),
}
# a 200 means that the quote is on disk, and the workers write it
DURABLE: Final = {
    "fsync": {"on"},
    "full_page_writes": {"on"},
    "synchronous_commit": {"on", "remote_apply"},
}

VERSION: Final = "SELECT version()"
NODES: Final = (
    "SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards AND noderole = 'primary'"
)
ON_WORKERS: Final = "SELECT nodename, nodeport, success, result FROM run_command_on_workers($1)"
TABLES: Final = """
SELECT table_name::text AS name, citus_table_type AS kind, distribution_column AS by FROM citus_tables
WHERE table_name::text = ANY($1)
"""
LOCAL_BYTES: Final = "SELECT pg_relation_size(to_regclass($1))"
ROWS: Final = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass('quote')"
# with more than one copy of a shard, Citus refuses to lock a row
ONE_COPY: Final = "SET citus.shard_replication_factor = 1"

Report = Callable[[str], object]


@dataclass(frozen=True)
class DistributionStep:
    """One SQL statement to execute. ``result`` describes the state after it, for the user."""

    result: str
    statement: str


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Return 0 for success, 1 for a database error, 2 if the settings or the cluster cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m dfsp_api distribute",
        description="Spread the database at QUOTES_DATABASE_URL over the nodes of its Citus cluster.",
    )
    parser.add_argument(
        "--shards", type=whole(1, 64_000), help="number of shards; default: the server's setting"
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing, print the SQL")
    chosen = parser.parse_args(arguments)
    try:
        settings = load(PayeeSettings, {"QUOTES_USERS_FILE": os.devnull, **os.environ})
        asyncio.run(distribute(settings.database_url, _print, shards=chosen.shards, dry_run=chosen.dry_run))
    except (SettingsError, StartError, UnfitDatabaseError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


async def distribute(url: str, report: Report, *, shards: int | None = None, dry_run: bool = False) -> None:
    """Distribute the database, and pass a line of text to ``report`` for each step.

    With ``dry_run``, only report the SQL. Raises StartError if the database cannot be distributed.
    """
    await require_usable_url(url)
    connection = await asyncpg.connect(
        url, timeout=CONNECT_SECONDS, server_settings={"application_name": "dfsp_api distribute"}
    )
    try:
        await prepare_session(connection, {}, MIGRATIONS.schema, url=url)
        await connection.execute("SET statement_timeout = 0")  # to copy many quotes takes long
        await _require_citus(connection, report)
        await _require_durable_workers(connection)
        if not dry_run:
            await MIGRATIONS.apply(connection)
        steps = await _steps(connection, report, shards)
        for step in steps:
            if dry_run:
                report(f"{step.statement};")
            else:
                await connection.execute(step.statement)
                report(f"done: {step.result}")
    finally:
        await connection.close(timeout=CONNECT_SECONDS)
    if not steps:
        report("nothing to do: the database is distributed")
    report("payees on this database need QUOTES_DATABASE_KIND=distributed")


async def _require_citus(connection: Connection, report: Report) -> None:
    version = await connection.fetchval(VERSION)
    if "CockroachDB" in version or "-YB-" in version:
        raise StartError(
            f"this is {version.split(',')[0]}, which spreads every table by its key and needs no command;"
            " docs/scaling.md lists the changes that its schema needs"
        )
    extension = await connection.fetchval(IS_CITUS)
    if extension is None:
        raise StartError(
            "the database has no extension citus: install it on every node, execute CREATE EXTENSION citus,"
            " add the workers with citus_add_node, and run this command again"
        )
    nodes = await connection.fetchval(NODES)
    if not nodes:
        raise StartError("the cluster has no active node for shards: add nodes with citus_add_node")
    report(f"found: Citus {extension}, {nodes} node{'s' if nodes > 1 else ''} for shards")


async def _require_durable_workers(connection: Connection) -> None:
    wrong = [
        f"{row['nodename']}:{row['nodeport']} has {name} {row['result']}"
        for name, allowed in DURABLE.items()
        for row in await connection.fetch(ON_WORKERS, f"SHOW {name}")
        if not (row["success"] and row["result"] in allowed)
    ]
    if wrong:
        raise StartError(f"workers would confirm a commit before it is on disk: {'; '.join(wrong)}")


async def _steps(connection: Connection, report: Report, shards: int | None) -> list[DistributionStep]:
    """Return the steps that are left. Raises StartError if a table is distributed in another way."""
    rows = await connection.fetchval(ROWS)
    names = [*REFERENCE_TABLES, *DISTRIBUTED_TABLES]
    is_there = {row["name"]: row for row in await connection.fetch(TABLES, names)}
    steps = []
    for name in REFERENCE_TABLES:
        kind = is_there[name]["kind"] if name in is_there else "local"
        report(f"found: {name} is {kind}")
        if kind != "reference":
            steps.append(
                DistributionStep(f"{name} is on every node", f"SELECT create_reference_table('{name}')")
            )
    if not is_there.keys() >= DISTRIBUTED_TABLES.keys():
        steps.append(DistributionStep("one copy of each shard", ONE_COPY))
    for name, (column, beside) in DISTRIBUTED_TABLES.items():
        forget_local = DistributionStep(
            f"the coordinator's own copy of {name} is gone",
            f"SELECT truncate_local_data_after_distributing_table('{name}')",
        )
        if name not in is_there:
            report(f"found: {name} is local" + (f", about {rows or 0:,} rows" if name == "quote" else ""))
            count = f", shard_count => {shards}" if shards and beside == "none" else ""
            statement = (
                f"SELECT create_distributed_table('{name}', '{column}', colocate_with => '{beside}'{count})"
            )
            steps += [DistributionStep(f"{name} is distributed by {column}", statement), forget_local]
            continue
        kind, by = is_there[name]["kind"], is_there[name]["by"]
        if (kind, by) != ("distributed", column):
            raise StartError(
                f"{name} is {kind} by {by}, not distributed by {column}: execute undistribute_table('{name}') first"
            )
        report(f"found: {name} is distributed by {column}")
        if await connection.fetchval(LOCAL_BYTES, name):  # an earlier run was interrupted before this step
            steps.append(forget_local)
    return steps
