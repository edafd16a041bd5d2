"""``python -m dfsp_api distribute``: spreads the payee's database over the nodes of a Citus cluster.

What is done already is left as it is, so it can be said again, also after it was interrupted.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from chassis.database import CONNECT_SECONDS, Connection
from chassis.run import StartError
from chassis.settings import SettingsError, load, whole
from dfsp_api.payee import PayeeSettings
from dfsp_api.repository import IS_CITUS, MIGRATIONS

# small, read by every node, written once or once an hour
REFERENCE_TABLES: Final = ("namespace", "retention", "schema_migration")
# a 200 means that the quote is on disk, and it is a worker that writes it there
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
LOCAL_BYTES: Final = "SELECT pg_relation_size(to_regclass('quote'))"
ROWS: Final = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass('quote')"
# with more than one copy of a shard, Citus refuses to lock a row
ONE_COPY: Final = "SET citus.shard_replication_factor = 1"
FORGET_LOCAL: Final = "SELECT truncate_local_data_after_distributing_table('quote')"

Say = Callable[[str], object]


@dataclass(frozen=True)
class Step:
    """A statement that is still to be executed, and what it does."""

    does: str
    statement: str


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 when the database is distributed, or would be."""
    parser = argparse.ArgumentParser(
        prog="python -m dfsp_api distribute",
        description="Spread the database at QUOTES_DATABASE_URL over the nodes of its Citus cluster.",
    )
    parser.add_argument("--shards", type=whole(1, 64_000), help="how many shards; unless said, the server's")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, print the SQL")
    chosen = parser.parse_args(arguments)
    try:
        settings = load(PayeeSettings, {"QUOTES_USERS_FILE": os.devnull, **os.environ})
        asyncio.run(distribute(settings.database_url, _say, shards=chosen.shards, dry_run=chosen.dry_run))
    except (SettingsError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


async def distribute(url: str, say: Say, *, shards: int | None = None, dry_run: bool = False) -> None:
    """Says what it finds and what it does. Raises StartError where this database cannot be distributed."""
    connection = await asyncpg.connect(
        url, timeout=CONNECT_SECONDS, server_settings={"application_name": "dfsp_api distribute"}
    )
    try:
        await _require_citus(connection, say)
        await _require_durable_workers(connection)
        if not dry_run:
            await MIGRATIONS.apply(connection)
        steps = await _steps(connection, say, shards)
        for step in steps:
            if dry_run:
                say(f"{step.statement};")
            else:
                await connection.execute(step.statement)
                say(f"done: {step.does}")
    finally:
        await connection.close(timeout=CONNECT_SECONDS)
    if not steps:
        say("nothing to do: the database is distributed")
    say("payees on this database need QUOTES_DATABASE_KIND=distributed")


async def _require_citus(connection: Connection, say: Say) -> None:
    version = await connection.fetchval(VERSION)
    if "CockroachDB" in version or "-YB-" in version:
        raise StartError(
            f"this is {version.split(',')[0]}, which spreads every table by its key without being told;"
            " docs/scaling.md says what its schema needs"
        )
    extension = await connection.fetchval(IS_CITUS)
    if extension is None:
        raise StartError(
            "the database has no extension citus: install it on every node, say CREATE EXTENSION citus,"
            " add the workers with citus_add_node, and come again"
        )
    nodes = await connection.fetchval(NODES)
    if not nodes:
        raise StartError("the cluster has no active node that takes shards: add some with citus_add_node")
    say(f"found: Citus {extension}, {nodes} node{'s' if nodes > 1 else ''} for shards")


async def _require_durable_workers(connection: Connection) -> None:
    wrong = [
        f"{row['nodename']}:{row['nodeport']} has {name} {row['result']}"
        for name, right in DURABLE.items()
        for row in await connection.fetch(ON_WORKERS, f"SHOW {name}")
        if not (row["success"] and row["result"] in right)
    ]
    if wrong:
        raise StartError(f"workers would answer before a quote is on disk: {'; '.join(wrong)}")


async def _steps(connection: Connection, say: Say, shards: int | None) -> list[Step]:
    """What is left to do. Raises StartError where a table is distributed in another way."""
    rows = await connection.fetchval(ROWS)
    is_there = {row["name"]: row for row in await connection.fetch(TABLES, [*REFERENCE_TABLES, "quote"])}
    forget_local = Step("the coordinator's own copy of quote is gone", FORGET_LOCAL)
    steps = []
    for name in REFERENCE_TABLES:
        kind = is_there[name]["kind"] if name in is_there else "local"
        say(f"found: {name} is {kind}")
        if kind != "reference":
            steps.append(Step(f"{name} is on every node", f"SELECT create_reference_table('{name}')"))
    if "quote" not in is_there:
        say(f"found: quote is local, about {rows or 0:,} rows")
        count = f", shard_count => {shards}" if shards else ""
        statement = f"SELECT create_distributed_table('quote', 'uuid', colocate_with => 'none'{count})"
        steps += [
            Step("one copy of each shard", ONE_COPY),
            Step("quote is distributed by uuid", statement),
            forget_local,
        ]
        return steps
    kind, by = is_there["quote"]["kind"], is_there["quote"]["by"]
    if (kind, by) != ("distributed", "uuid"):
        raise StartError(f"quote is {kind} by {by}, not distributed by uuid: say undistribute_table('quote')")
    say("found: quote is distributed by uuid")
    if await connection.fetchval(LOCAL_BYTES):  # interrupted before that
        steps.append(forget_local)
    return steps
