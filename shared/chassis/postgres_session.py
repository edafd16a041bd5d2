"""Sets and checks the settings of each new connection to Postgres, before a statement uses the connection.

A response with status 200 promises that a quote is on disk, and counting a limit needs the isolation level READ
COMMITTED. The settings of the role, the database or the server could break both, so each connection sets its own. It
sends them after connecting and not as startup parameters, because PgBouncer refuses or silently drops the startup
parameters that it does not know.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import asyncpg

from chassis.keepalive import detect_dead_peer
from chassis.migrations import Connection

SETTINGS: Final[Mapping[str, str]] = {
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # the longest time that a caller can give
    "statement_timeout": "1min",
    "lock_timeout": "0",
    # a process that stands still in a transaction must not hold its locks for ever
    "idle_in_transaction_session_timeout": "1min",
    "transaction_timeout": "0",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
}
"""Settings of every connection. ``default_transaction_read_only`` is not one of them.

An administrator sets it to prevent writes, for example before a move to another server. The readiness check then
reports that the database accepts no writes.
"""

PLAN_ONCE: Final[Mapping[str, str]] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "off",
}
"""Further settings for a service whose frequent statements find each row by an index.

To plan such a statement takes up to four times as long as to execute it, so Postgres plans it once for each connection. A
plan that was made for a small table must not read the whole table when it has grown. Up to version 17, Postgres adds a
large cost to a scan that it cannot avoid, for example of a table with one row, and this cost would start the JIT
compiler.
"""

POOLER_CHECK_SECONDS: Final = 2.0
POOLER_CHECKS: Final = 5

# Older versions of Postgres, and databases that speak its protocol, do not know all settings. A search_path in the
# database's URL is the operator's own choice of a schema.
_SET: Final = """
SELECT wanted.name, set_config(wanted.name, wanted.value, false) AS value
FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
JOIN pg_settings AS known ON lower(known.name) = lower(wanted.name)
WHERE wanted.name <> 'search_path' OR $3 OR known.source <> 'client'
"""

_VERIFY: Final = """
SELECT name, current_setting(name) AS value, pg_backend_pid() AS pid FROM unnest($1::text[]) AS wanted (name)
"""

_PID: Final = "SELECT pg_backend_pid()"

SHARED_SESSION: Final = (
    "the connection pooler in front of Postgres gives one session to several clients (transaction or statement"
    " pooling), so that synchronous_commit and the isolation level would not hold; set pool_mode = session"
)


class UnfitDatabaseError(Exception):
    """The database, or this connection to it, cannot keep the service's promises. The message says why."""


async def prepare_session(
    connection: Connection, settings: Mapping[str, str], schema: str | None, *, url: str | None
) -> None:
    """Set the settings on which the statements rely, and verify them. Raises UnfitDatabaseError.

    ``settings`` are the service's own settings, which are added to SETTINGS. Without a ``schema``, tables are in
    ``public`` or in the ``search_path`` that the database's URL names. If ``url`` is given, a second connection tests
    whether a pooler shares one session between clients.
    """
    # asyncpg has no public way to its socket
    detect_dead_peer(connection._transport.get_extra_info("socket"))  # type: ignore[union-attr]  # noqa: SLF001
    wanted = {**settings, **SETTINGS, "search_path": schema or "public"}
    try:
        rows = await connection.fetch(_SET, list(wanted), list(wanted.values()), schema is not None)
        values = {row["name"]: row["value"] for row in rows}
        rows = await connection.fetch(_VERIFY, list(values))
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError) as error:
        raise UnfitDatabaseError(SHARED_SESSION) from error
    for row in rows:
        name, value = row["name"], row["value"]
        if value != values[name] or (name == "synchronous_commit" and value != "on"):
            raise UnfitDatabaseError(
                f"{name} is {value} on a new connection, although it was set to {wanted[name]};"
                " behind a connection pooler, set pool_mode = session"
            )
    pid = rows[0]["pid"]
    # a pooler makes up the process ids that its clients get
    if url is not None and pid != connection.get_server_pid():
        await _require_own_session(connection, url, pid)


async def _require_own_session(connection: Connection, url: str, pid: int) -> None:
    """Raise UnfitDatabaseError if another client can get this connection's session between two statements.

    ``pid`` is the process id of the session. A pooler that lends a session for one transaction lends the session that
    was used last to the next client. So a second connection soon gets the session with this process id.
    """
    other = await asyncpg.connect(url, timeout=POOLER_CHECK_SECONDS)
    try:
        async with asyncio.timeout(POOLER_CHECK_SECONDS):
            # a pooler that does not share sessions and has none left lets this connection wait until the timeout
            async with other.transaction():
                pids = {await other.fetchval(_PID)}
            for _ in range(POOLER_CHECKS):
                pids.add(await other.fetchval(_PID))
                if pid != await connection.fetchval(_PID):
                    raise UnfitDatabaseError(SHARED_SESSION)
        if pid in pids:
            raise UnfitDatabaseError(SHARED_SESSION)
    except TimeoutError:
        pass
    except asyncpg.PostgresError as error:
        # PgBouncer refuses transactions with pool_mode = statement; a prepared statement is in another session
        raise UnfitDatabaseError(SHARED_SESSION) from error
    finally:
        other.terminate()
