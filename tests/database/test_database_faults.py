"""A database that is away, hangs, is unsafe or has no free connection: answers in time, and no restart is needed."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

from chassis import database as chassis_database
from chassis.errors import UnavailableError
from dfsp_api.payee import PayeeSettings, create_app
from network.postgres import EmbeddedPostgres, processes_on
from support.messages import QUOTE, RESERVE, TEST, UNKNOWN_UUID
from support.payee import Caller, database, drop_tables, is_ready, rows, until, waiting_for_lock
from support.serving import served
from support.settings import load


@pytest.fixture(autouse=True)
def _patient() -> None:
    """Here the database cannot be reached, and the payee's own limit holds."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of this module's own, which tests stop, kill and halt.

    Its folder is not below pytest's, which another session of pytest closes to Postgres' user.
    """
    with (
        tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder,
        EmbeddedPostgres(Path(folder) / "data") as embedded,
    ):
        yield embedded


@pytest.fixture
async def postgres(server) -> AsyncIterator[EmbeddedPostgres]:
    """The server, running, with its usual settings and an empty database."""
    await asyncio.to_thread(server.start)
    connection = await asyncpg.connect(server.dsn)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    yield server
    await asyncio.to_thread(server.start)


TIMEOUT = (504, "UpstreamTimeoutError")
# a busy machine rejects requests that it could not answer in time
TOO_LATE = {TIMEOUT, (503, "UnavailableError")}


class Halted:
    """All processes of a server with SIGSTOP: the kernel accepts connections for it, and nothing answers."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.folder = postgres._folder

    def __enter__(self) -> None:
        self.pids = processes_on(self.folder)
        assert self.pids
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


async def all_operations(payee: Caller, **more: str) -> list[tuple[int, str | None]]:
    answers = [
        await payee.reserve(key="one", **more),
        await payee.execute(UNKNOWN_UUID, **more),
        await payee.look_up(UNKNOWN_UUID, **more),
    ]
    return [answer.outcome for answer in answers]


async def test_while_the_database_is_away_the_answer_is_503_and_afterwards_all_works(start, postgres):
    """Stopped and started, killed and started: the payee and its quotes are the same."""
    payee = await start(url=postgres.dsn)
    first = await payee.reserve(key="one")
    for end in (postgres.stop, postgres.kill):
        await asyncio.to_thread(end)

        assert [(503, "UnavailableError")] * 3 == await all_operations(payee)
        away = await payee.reserve()
        assert away.headers["Retry-After"].isdigit()
        assert away.json["message"] in {"The database is away.", "The database is not ready."}
        readiness = await payee.readiness()
        assert (503, ["database"]) == (readiness.status, readiness.json["missing"])
        assert 200 == (await payee.send("GET", "/health/live")).status

        await asyncio.to_thread(postgres.start)
        await until(lambda: is_ready(payee))
        assert first.body == (await payee.reserve(key="one")).body
        assert 200 == (await payee.execute(first.json["uuid"])).status


async def test_a_payee_may_start_before_its_database(users_file, client, postgres):
    """It is not ready and refuses requests, and migrates when the database is there."""
    await asyncio.to_thread(postgres.stop)
    settings = load(
        PayeeSettings, {"QUOTES_USERS_FILE": str(users_file), "QUOTES_DATABASE_URL": postgres.dsn}
    )
    async with served(create_app(settings)) as url:
        payee = Caller(client, url)
        assert 503 == (await payee.readiness()).status
        assert [(503, "UnavailableError")] * 3 == await all_operations(payee)
        # the body is checked before the database is needed
        assert (400, "InvalidBodyError") == (await payee.reserve(b"{")).outcome

        await asyncio.to_thread(postgres.start)
        await until(lambda: is_ready(payee))
        assert 200 == (await payee.reserve()).status


async def test_while_the_database_hangs_the_answer_is_504_in_the_callers_time(start, postgres):
    """Also with more callers than connections, and when none is connected yet."""
    payee = await start(url=postgres.dsn, database_connections=2)
    paid = await payee.reserved(key="paid")
    with Halted(postgres):
        began = time.monotonic()
        readiness = await payee.readiness()
        assert (503, ["database"]) == (readiness.status, readiness.json["missing"])
        assert time.monotonic() - began < 40  # less than the limit of a statement
        for _ in range(2):  # first with open connections, then with none
            answers = await asyncio.gather(
                *(payee.reserve(key=f"key-{n}", X_Request_Timeout_Ms="300") for n in range(6)),
                *(payee.execute(paid, X_Request_Timeout_Ms="300") for _ in range(6)),
                *(payee.look_up(paid, X_Request_Timeout_Ms="300") for _ in range(6)),
            )

            assert {answer.outcome for answer in answers} <= TOO_LATE

    await until(lambda: is_ready(payee))
    answers = await asyncio.gather(*(payee.reserve(key=f"key-{n}") for n in range(6)))
    assert {200} == {answer.status for answer in answers}
    assert 200 == (await payee.execute(paid)).status
    beside = await asyncpg.connect(postgres.dsn)
    assert 7 == await rows(beside)
    await beside.close()


@pytest.mark.fault
async def test_a_caller_with_time_left_gets_503_when_no_connection_can_be_opened(start, postgres):
    """504 would say that the caller's time is used up; opening a connection has a limit of five seconds."""
    payee = await start(url=postgres.dsn, database_connections=1)
    with Halted(postgres):
        await payee.reserve(X_Request_Timeout_Ms="100")  # its connection is closed

        assert (503, "UnavailableError") == (await payee.reserve(X_Request_Timeout_Ms="60000")).outcome


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_payee_is_not_ready_on_a_database_that_may_lose_commits(start, postgres, setting):
    payee = await start(url=postgres.dsn)
    beside = await asyncpg.connect(postgres.dsn)
    for value, status in (("off", 503), ("on", 200)):
        await beside.execute(f"ALTER SYSTEM SET {setting} = {value}")
        await beside.execute("SELECT pg_reload_conf()")

        async def answers(status: int = status) -> bool:
            return status == (await payee.readiness()).status

        await until(answers)
        missing = (await payee.readiness()).json.get("missing", [])
        assert ([f"database with {setting} on"] if status == 503 else []) == missing
    await beside.close()


async def test_no_statement_begins_when_the_body_arrives_after_the_deadline(payee, sql):
    """A payment whose last byte is late is answered 504, or 503 on a busy machine, and is not executed afterwards."""
    uuid = await payee.reserved()
    body = str(QUOTE).replace("'", '"').encode()
    for method, path in (("POST", RESERVE), ("PUT", f"/v1/payments/{uuid}")):
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {TEST}\r\nX-Request-Timeout-Ms: 1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode()
        host, _, port = payee.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + body[:-1])
        await asyncio.sleep(0.05)
        writer.write(body[-1:])
        answer = await reader.read()
        writer.close()

        assert answer.startswith((b"HTTP/1.1 504 ", b"HTTP/1.1 503 "))
        assert b"UpstreamTimeoutError" in answer or b"UnavailableError" in answer
    assert 1 == await rows(sql)
    assert "RESERVED" == (await payee.look_up(uuid)).json["state"]


async def test_no_statement_begins_for_a_caller_whose_time_ended_in_the_queue_for_a_connection(start, sql):
    payee = await start(database_connections=1)
    uuid = await payee.reserved()
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote FOR UPDATE")
    first = asyncio.create_task(payee.execute(uuid))
    await waiting_for_lock(sql)

    async def is_too_late() -> bool:
        answer = await payee.reserve(key="late", X_Request_Timeout_Ms="300")
        assert answer.outcome in TOO_LATE
        is_timeout: bool = TIMEOUT == answer.outcome
        assert not is_timeout or answer.json["message"].startswith("The database did not answer in time.")
        return is_timeout

    await until(is_too_late)
    await other.rollback()
    assert 200 == (await first).status
    assert 1 == await rows(sql)
    assert 200 == (await payee.reserve(key="late")).status


async def test_connections_stay_usable_after_callers_whose_time_ended(start, sql):
    """Ten times as many callers as connections. Their outcome is unknown, and a repetition shows it."""
    payee = await start(database_connections=2)
    uuid = await payee.reserved()
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote FOR UPDATE")
    answers = await asyncio.gather(*(payee.execute(uuid, X_Request_Timeout_Ms="100") for _ in range(20)))
    assert {answer.outcome for answer in answers} <= TOO_LATE
    await other.rollback()

    answers = await asyncio.gather(*(payee.execute(uuid) for _ in range(20)))

    assert {200} == {answer.status for answer in answers}
    assert 1 == len({answer.body for answer in answers})


async def test_more_callers_than_connections_all_get_their_quote(start, sql):
    payee = await start(database_connections=1)
    answers = await asyncio.gather(*(payee.reserve(X_Request_Timeout_Ms="60000") for _ in range(200)))

    assert {200} == {answer.status for answer in answers}
    assert 200 == await rows(sql)


async def test_a_connection_lost_in_a_statement_is_503_and_an_idle_one_is_replaced(start, sql):
    payee = await start()
    uuid = await payee.reserved()
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote FOR UPDATE")
    paying = asyncio.create_task(payee.execute(uuid))
    await waiting_for_lock(sql)
    await lose_connections(sql)

    assert (503, "UnavailableError") == (await paying).outcome
    await other.rollback()
    assert 200 == (await payee.execute(uuid)).status
    await lose_connections(sql)
    await until(lambda: is_ready(payee))
    assert 200 == (await payee.execute(uuid)).status


async def lose_connections(sql: asyncpg.Connection) -> None:
    await sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'dfsp_api'"
    )


async def test_after_three_deadlocks_the_answer_is_503(start, sql):
    """Our own statements cannot deadlock, but others' can with ours."""
    payee = await start()
    await sql.execute(
        "CREATE SEQUENCE tries;"
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('tries') < 3 THEN RAISE deadlock_detected; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON quote FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    assert 200 == (await payee.reserve()).status

    await sql.execute("ALTER SEQUENCE tries MINVALUE -100 RESTART WITH -100")
    assert (503, "UnavailableError") == (await payee.reserve()).outcome
    assert 1 == await rows(sql)
    assert -98 == await sql.fetchval("SELECT last_value FROM tries")


async def test_the_answer_to_a_failed_statement_has_nothing_of_sql(start, sql):
    """Promise 7: one of the contract's answers, for any error of Postgres."""
    payee = await start()
    uuid = await payee.reserved()
    await sql.execute("ALTER TABLE quote RENAME TO gone")
    for answer in (await payee.reserve(), await payee.execute(uuid), await payee.look_up(uuid)):
        assert (503, "UnavailableError") == answer.outcome
        assert "quote" not in answer.json["message"]
    await sql.execute("ALTER TABLE gone RENAME TO quote")
    await until(lambda: is_ready(payee))

    assert 200 == (await payee.execute(uuid)).status


async def test_many_processes_migrate_one_database_once(database_url, sql):
    """Under an advisory lock, in a transaction: one secret, one row for each migration, and all are ready."""

    async def opened() -> None:
        async with database(database_url):
            pass

    await drop_tables(sql)
    await asyncio.gather(*(opened() for _ in range(10)))

    assert sorted(file.name for file in (files("dfsp_api") / "migrations").iterdir()) == [
        row["name"] for row in await sql.fetch("SELECT name FROM schema_migration ORDER BY name")
    ]
    assert 1 == await sql.fetchval("SELECT count(*) FROM namespace")


async def test_a_database_migrated_before_keeps_its_secret_and_quotes(start):
    first = await (await start()).reserve(key="one")
    again = await (await start()).reserve(key="one")

    assert first.body == again.body


async def test_a_statement_without_a_caller_has_a_limit(database_url, sql, monkeypatch):
    """A dead connection must not stop retention for ever."""
    async with database(database_url, 1) as made:
        monkeypatch.setattr(chassis_database, "STATEMENT_SECONDS", 0.1)
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            await made.fetch("SELECT pg_sleep(50)")
        assert time.monotonic() - began < 40
        monkeypatch.undo()
        assert 1 == (await made.fetch("SELECT 1 AS one"))[0]["one"]


@pytest.mark.fault
async def test_each_request_answered_200_survives_a_crash_of_the_database(start, postgres):
    """Promises 1 to 3 under load and kill -9: no quote or payment that was answered is lost or doubled."""
    payee = await start(url=postgres.dsn)
    reserved: dict[str, bytes] = {}
    paid: dict[str, bytes] = {}

    async def caller(name: int) -> None:
        for number in range(30):
            key = f"{name}-{number}"
            answer = await payee.reserve({**QUOTE, "amount": f"{number + 1}.50"}, key)
            if answer.status == 200:
                reserved[key] = answer.body
                payment = await payee.execute(answer.json["uuid"], {**QUOTE, "amount": f"{number + 1}.50"})
                if payment.status == 200:
                    paid[answer.json["uuid"]] = payment.body

    async def crash() -> None:
        async def is_under_way() -> bool:
            return len(paid) > 50

        await until(is_under_way)
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)

    await asyncio.gather(crash(), *(caller(name) for name in range(20)))
    await until(lambda: is_ready(payee))

    for name in range(20):
        for number in range(30):
            body = {**QUOTE, "amount": f"{number + 1}.50"}
            again = await payee.reserve(body, f"{name}-{number}")
            assert reserved.get(f"{name}-{number}", again.body) == again.body
            payment = await payee.execute(again.json["uuid"], body)
            assert paid.get(again.json["uuid"], payment.body) == payment.body
    beside = await asyncpg.connect(postgres.dsn)
    assert 600 == await rows(beside)
    await beside.close()
