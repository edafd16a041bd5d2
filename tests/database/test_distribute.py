"""The command that distributes a database, on a Postgres that looks like a Citus coordinator.

The tests show which statements the command sends and in which order. They do not show the effect on a real Citus.
"""

import os
import subprocess
import sys

import pytest

from chassis.run import StartError
from dfsp_api import distribute as command
from dfsp_api.distribute import distribute
from dfsp_api.payee import PayeeSettings, create_app
from support.payee import Caller, drop_tables, until
from support.serving import served
from support.settings import load

CITUS = """
SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
VALUES (99999, 'citus', 10, 'pg_catalog'::regnamespace, false, '13.0-1');
CREATE TABLE pg_dist_node (nodename text, nodeport int, isactive bool, shouldhaveshards bool, noderole text);
INSERT INTO pg_dist_node VALUES ('one', 5432, true, true, 'primary'), ('two', 5432, true, true, 'primary');
CREATE TABLE pg_dist_partition (logicalrelid regclass);
CREATE TABLE citus_tables (table_name regclass, citus_table_type text, distribution_column text);
CREATE TABLE worker_setting (command text PRIMARY KEY, result text);
INSERT INTO worker_setting
VALUES ('SHOW fsync', 'on'), ('SHOW full_page_writes', 'on'), ('SHOW synchronous_commit', 'on');
CREATE FUNCTION run_command_on_workers(asked text)
RETURNS TABLE (nodename text, nodeport int, success bool, result text) LANGUAGE sql AS
    'SELECT n.nodename, n.nodeport, true, s.result FROM pg_dist_node n, worker_setting s WHERE s.command = asked';
CREATE FUNCTION create_reference_table(name regclass) RETURNS void LANGUAGE sql AS
    $$INSERT INTO citus_tables VALUES (name, 'reference', '<none>')$$;
CREATE FUNCTION create_distributed_table(
    name regclass, by text, colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$BEGIN
    IF current_setting('citus.shard_replication_factor') <> '1' THEN RAISE 'more than one copy'; END IF;
    INSERT INTO citus_tables VALUES (name, 'distributed', by);
    INSERT INTO pg_dist_partition VALUES (name);
END$$;
CREATE FUNCTION truncate_local_data_after_distributing_table(name regclass) RETURNS void LANGUAGE plpgsql AS
    $$BEGIN EXECUTE format('TRUNCATE %s', name); END$$;
"""
TABLES = {
    ("namespace", "reference", "<none>"),
    ("retention", "reference", "<none>"),
    ("fee_schedule", "reference", "<none>"),
    ("quote_count", "reference", "<none>"),
    ("schema_migration", "reference", "<none>"),
    ("audit_checkpoint", "reference", "<none>"),
    ("audit_log", "reference", "<none>"),
    ("quote", "distributed", "uuid"),
    ("exposure", "distributed", "caller"),
    ("exposure_entry", "distributed", "caller"),
    ("audit_pending", "distributed", "uuid"),
    ("audit_leaf", "distributed", "uuid"),
    ("audit_tile", "distributed", "number"),
}


@pytest.fixture
async def citus(sql):
    await drop_tables(sql)
    await sql.execute(CITUS)
    return sql


async def tables(connection):
    return {
        tuple(row)
        for row in await connection.fetch(
            "SELECT table_name::text, citus_table_type, distribution_column FROM citus_tables"
        )
    }


async def distributed(url, **kwargs):
    lines = []
    await distribute(url, lines.append, **kwargs)
    return lines


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "dfsp_api", "distribute", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_the_extension_the_command_names_the_next_step_and_changes_nothing(
    database_url, monkeypatch, capsys
):
    monkeypatch.setenv("QUOTES_DATABASE_URL", database_url)

    assert 2 == command.main([])
    output = capsys.readouterr()
    assert "CREATE EXTENSION citus" in output.err
    assert "" == output.out


def test_without_a_database_the_command_ends_with_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("QUOTES_DATABASE_URL", raising=False)
    assert 2 == command.main([])
    monkeypatch.setenv("QUOTES_DATABASE_URL", "postgresql://nobody@db:port/none")
    assert 2 == command.main([])
    monkeypatch.setenv("QUOTES_DATABASE_URL", f"postgresql://nobody@/none?host={tmp_path}")
    assert 1 == command.main([])

    lines = capsys.readouterr().err.splitlines()
    assert 3 == len(lines)
    assert all(line.startswith("error: ") for line in lines)


async def test_the_command_spreads_the_quotes_and_copies_the_other_tables_to_every_node(citus, database_url):
    done = run("--shards", "64", QUOTES_DATABASE_URL=database_url)

    assert (0, "") == (done.returncode, done.stderr)
    assert TABLES == await tables(citus)
    assert "found: Citus 13.0-1, 2 nodes for shards" in done.stdout
    assert "done: quote is distributed by uuid" in done.stdout
    assert "QUOTES_DATABASE_KIND=distributed" in done.stdout


async def test_repeated_the_command_finds_nothing_to_do(citus, database_url):
    await distributed(database_url)
    lines = await distributed(database_url)

    assert TABLES == await tables(citus)
    assert "nothing to do: the database is distributed" in lines
    assert not [line for line in lines if line.startswith("done")]


async def test_after_an_interruption_the_command_does_the_steps_that_are_left(citus, database_url):
    await distributed(database_url)
    await citus.execute("DELETE FROM citus_tables WHERE table_name::text = 'retention'")
    await citus.execute(
        "INSERT INTO quote SELECT gen_random_uuid(), 'a', 'b', 'c', '{}', 2, 1, now(), now() + '1 day'::interval"
    )
    lines = await distributed(database_url)

    assert ["done: retention is on every node", "done: the coordinator's own copy of quote is gone"] == [
        line for line in lines if line.startswith("done")
    ]
    assert TABLES == await tables(citus)
    assert 0 == await citus.fetchval("SELECT count(*) FROM quote")


async def test_a_dry_run_prints_the_statements_and_changes_nothing(citus, database_url):
    lines = await distributed(database_url, dry_run=True, shards=8)

    assert [
        "SELECT create_reference_table('namespace');",
        "SELECT create_reference_table('retention');",
        "SELECT create_reference_table('quote_count');",
        "SELECT create_reference_table('fee_schedule');",
        "SELECT create_reference_table('audit_checkpoint');",
        "SELECT create_reference_table('audit_log');",
        "SELECT create_reference_table('schema_migration');",
        "SET citus.shard_replication_factor = 1;",
        "SELECT create_distributed_table('quote', 'uuid', colocate_with => 'none', shard_count => 8);",
        "SELECT truncate_local_data_after_distributing_table('quote');",
        "SELECT create_distributed_table('audit_pending', 'uuid', colocate_with => 'quote');",
        "SELECT truncate_local_data_after_distributing_table('audit_pending');",
        "SELECT create_distributed_table('audit_leaf', 'uuid', colocate_with => 'quote');",
        "SELECT truncate_local_data_after_distributing_table('audit_leaf');",
        "SELECT create_distributed_table('audit_tile', 'number', colocate_with => 'none', shard_count => 8);",
        "SELECT truncate_local_data_after_distributing_table('audit_tile');",
        "SELECT create_distributed_table('exposure', 'caller', colocate_with => 'none', shard_count => 8);",
        "SELECT truncate_local_data_after_distributing_table('exposure');",
        "SELECT create_distributed_table('exposure_entry', 'caller', colocate_with => 'exposure');",
        "SELECT truncate_local_data_after_distributing_table('exposure_entry');",
    ] == [line for line in lines if line.endswith(";")]
    assert set() == await tables(citus)
    assert await citus.fetchval("SELECT to_regclass('quote') IS NULL")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("DELETE FROM pg_dist_node", "citus_add_node"),
        ("UPDATE pg_dist_node SET shouldhaveshards = false", "citus_add_node"),
        ("UPDATE worker_setting SET result = 'off' WHERE command = 'SHOW fsync'", "one:5432 has fsync off"),
        (
            "UPDATE worker_setting SET result = 'local' WHERE command LIKE '%commit'",
            "synchronous_commit local",
        ),
    ],
)
async def test_a_cluster_that_cannot_keep_the_promises_is_refused(citus, database_url, broken, reason):
    await citus.execute(broken)

    with pytest.raises(StartError, match=reason):
        await distributed(database_url)
    assert set() == await tables(citus)


async def test_a_table_that_is_distributed_by_another_column_is_refused(citus, database_url):
    await distributed(database_url)
    await citus.execute(
        "UPDATE citus_tables SET distribution_column = 'caller' WHERE table_name::text = 'quote'"
    )

    with pytest.raises(StartError, match="quote is distributed by caller"):
        await distributed(database_url)


@pytest.mark.parametrize(
    "version",
    ["CockroachDB CCL v25.2.0 (x86_64-pc-linux-gnu, built 2025)", "PostgreSQL 15.2-YB-2025.2.0.0 on x86"],
)
async def test_an_engine_that_spreads_tables_by_itself_is_named(database_url, monkeypatch, version):
    monkeypatch.setattr(command, "VERSION", f"SELECT '{version}'")

    with pytest.raises(StartError, match="needs no command"):
        await distributed(database_url)


@pytest.mark.parametrize(("kind", "status"), [("postgres", 503), ("distributed", 200)])
async def test_on_a_distributed_database_only_a_payee_of_that_kind_is_ready(
    citus, database_url, users_file, client, kind, status
):
    await distributed(database_url)
    settings = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DATABASE_URL": database_url,
        "QUOTES_DATABASE_KIND": kind,
    }
    async with served(create_app(load(PayeeSettings, settings))) as url:
        payee = Caller(client, url)

        async def is_connected() -> bool:
            return "database" not in (await payee.readiness()).json.get("missing", [])

        await until(is_connected)
        readiness = await payee.readiness()

    assert status == readiness.status
    assert (kind == "postgres") == ("QUOTES_DATABASE_KIND" in str(readiness.json))
