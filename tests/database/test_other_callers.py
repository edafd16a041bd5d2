"""The time of a response does not tell whether another caller's quote exists: the same work is done where it does not.

PUT and GET took 50 to 300 µs longer for another caller's uuid than for an unknown one: its row was locked, which is
written to disk, and was read and converted before the reply looked at its caller.
"""

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from chassis.database import Database
from dfsp_api.distributed_repository import DistributedRepository
from dfsp_api.repository import MIGRATIONS, LookUp, ReleaseOrder, Repository
from support.messages import LOOK_UP_QUERY, OTHER, QUOTE, UNKNOWN_UUID
from support.payee import TTL, PayeeResponse, database, new, payment, until


@pytest.fixture
def sent() -> list[str]:
    """The statements of each connection, in their order."""
    return []


@pytest.fixture(params=[Repository, DistributedRepository])
async def repository(request, database_url, sent) -> AsyncIterator[Repository]:
    async def listen(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(lambda record: sent.append(record.query))

    async with database(database_url):
        pass  # sets the secret of the namespace
    opened = Database(database_url, 1, MIGRATIONS)
    opened.on_connect(listen)
    await opened.open(print)

    async def is_ready() -> bool:
        return not await opened.missing()

    await until(is_ready)
    yield request.param(opened, TTL)
    await opened.close()


@pytest.fixture
async def others(repository) -> UUID:
    """The uuid of a quote that another caller reserved, after the connection's first use of each statement."""
    quote = new("one")
    await repository.reserve([quote])
    for caller in ("test", "other"):
        await repository.execute([replace(payment(quote, amount="1.00"), caller=caller)])
        await repository.find([LookUp(quote.uuid, caller)])
    # another quote, because this one must stay as it is
    await repository.reserve([new("two")])
    await repository.release([ReleaseOrder(new("two").uuid, "test")])
    return quote.uuid


async def test_a_payment_executes_the_same_statements_as_for_an_unknown_uuid(repository, others, sent):
    work = []
    for uuid in (others, UUID(UNKNOWN_UUID)):
        sent.clear()
        order = replace(payment(new("one")), uuid=uuid, caller="other")
        work.append((await repository.execute([order]), list(sent)))

    assert ({}, work[1][1]) == work[0]
    assert {} == work[1][0]


async def test_a_look_up_executes_the_same_statements_as_for_an_unknown_uuid(repository, others, sent):
    work = []
    for uuid in (others, UUID(UNKNOWN_UUID)):
        sent.clear()
        work.append((await repository.find([LookUp(uuid, "other")]), list(sent)))

    assert ({}, work[1][1]) == work[0]
    assert {} == work[1][0]


async def test_a_release_executes_the_same_statements_as_for_an_unknown_uuid(repository, others, sent):
    work = []
    for uuid in (others, UUID(UNKNOWN_UUID)):
        sent.clear()
        work.append((await repository.release([ReleaseOrder(uuid, "other")]), list(sent)))

    assert ({}, work[1][1]) == work[0]
    assert {} == work[1][0]


async def test_another_callers_payment_or_release_locks_no_row(repository, sql):
    """A lock writes the row and needs a commit on disk. It would also let a caller hold up the payments of another."""
    quote = new("one")
    await repository.reserve([quote])
    await repository.execute([replace(payment(quote), caller="other")])
    await repository.release([ReleaseOrder(quote.uuid, "other")])

    assert "0" == await sql.fetchval("SELECT xmax::text FROM quote")


async def test_payments_of_two_callers_for_one_uuid_in_one_batch_execute_the_owners(repository):
    quote = new("one")
    await repository.reserve([quote])
    orders = [payment(quote), replace(payment(quote), caller="other")]

    assert (await repository.execute(orders))[quote.uuid].executed
    assert (await repository.execute(orders))[quote.uuid].executed


@pytest.mark.parametrize("kind", ["postgres", "distributed"])
async def test_the_responses_are_equal_but_for_the_trace_id(start, kind):
    payee = await start(database_kind=kind)
    others = await payee.reserved(QUOTE)

    async def release(uuid: str, authorization: str) -> PayeeResponse:
        return await payee.send("DELETE", f"/v1/quote/{uuid}?{LOOK_UP_QUERY}", authorization=authorization)

    for send in (payee.execute, payee.look_up, release):
        answers = [await send(uuid, authorization=OTHER) for uuid in (others, UNKNOWN_UUID)]

        assert [(404, "QuoteNotFoundError")] * 2 == [answer.outcome for answer in answers]
        assert 1 == len({answer.json["message"] for answer in answers})
