"""Release: the caller gives up a quote that it reserved (wire.md §9)."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from support.messages import LOOK_UP_QUERY, OTHER, QUOTE, TEST, UNKNOWN_UUID
from support.payee import Caller, PayeeResponse, until, waiting_for_lock

PATIENT = {"X_Request_Timeout_Ms": "60000"}

Call = Callable[[Caller, str], Awaitable[PayeeResponse]]


@pytest.fixture(params=["postgres", "distributed"])
def start(request, start):
    """Starts a payee of each kind on the test's database."""

    async def start_kind(**settings: object) -> Caller:
        return await start(database_kind=request.param, **settings)

    return start_kind


async def release(
    payee: Caller, uuid: str, query: str = LOOK_UP_QUERY, authorization: str = TEST
) -> PayeeResponse:
    path = f"/v1/quote/{uuid}{query and '?'}{query}"
    return await payee.send("DELETE", path, authorization=authorization, **PATIENT)


async def test_a_release_is_the_same_however_often_it_is_sent(start, clock):
    payee = await start()
    await clock.set("2030-01-01T00:00:00.000Z")
    quote = (await payee.reserve(key="one")).json
    uuid = quote["uuid"]
    await clock.set("2030-01-01T00:00:07.250Z")

    first = await release(payee, uuid)
    await clock.set("2030-01-02T00:00:00.000Z")

    assert 200 == first.status
    assert {"uuid": uuid, "state": "RELEASED", "released": "2030-01-01T00:00:07.250Z"} == first.json
    assert first.body == (await release(payee, uuid)).body
    assert first.body == (await release(payee, uuid.upper(), "")).body


async def test_a_released_quote_is_never_executed_and_is_shown_as_released(start, clock):
    payee = await start()
    await clock.set("2030-01-01T00:00:00.000Z")
    quote = (await payee.reserve(key="one")).json
    uuid = quote["uuid"]
    before = (await payee.look_up(uuid)).json
    await release(payee, uuid)

    assert None is before["released"]
    for time in ("2030-01-01T00:00:00.000Z", "2030-01-02T00:00:00.000Z"):
        await clock.set(time)
        assert (410, "QuoteReleasedError") == (await payee.execute(uuid)).outcome
        assert (409, "QuoteMismatchError") == (await payee.execute(uuid, {**QUOTE, "amount": "1"})).outcome
        assert (
            before | {"state": "RELEASED", "released": "2030-01-01T00:00:00.000Z"}
            == (await payee.look_up(uuid)).json
        )
        assert quote == (await payee.reserve(key="one")).json


async def test_an_executed_quote_is_not_released(start, sql):
    payee = await start()
    uuid = await payee.reserved()
    paid = await payee.execute(uuid)

    assert (409, "QuoteExecutedError") == (await release(payee, uuid)).outcome
    assert paid.body == (await payee.execute(uuid)).body
    assert 0 == await sql.fetchval("SELECT count(released) FROM quote")


@pytest.mark.parametrize(("plus", "status"), [("-1 us", 200), ("0", 410)])
async def test_a_quote_is_released_before_expires_to_the_microsecond(start, clock, plus, status):
    payee = await start()
    quote = (await payee.reserve()).json
    await clock.set(quote["expires"], plus=plus)

    answer = await release(payee, quote["uuid"])

    assert status == answer.status
    assert answer.json.get("id") in {None, "QuoteExpiredError"}


async def test_another_callers_quote_another_receiver_and_an_unknown_uuid_are_not_found(start, sql):
    payee = await start()
    uuid = await payee.reserved()

    for query, authorization in [
        (LOOK_UP_QUERY, OTHER),
        ("identifierType=tel&identifier=30754016", TEST),
        ("identifier=30754017", TEST),
        ("identifierType=EUR", TEST),
    ]:
        assert (404, "QuoteNotFoundError") == (await release(payee, uuid, query, authorization)).outcome
    assert (404, "QuoteNotFoundError") == (await release(payee, UNKNOWN_UUID)).outcome
    assert (400, "InvalidUriParameterError") == (await release(payee, "x")).outcome
    assert (400, "InvalidQueryParameterError") == (await release(payee, uuid, "x=1")).outcome
    assert 0 == await sql.fetchval("SELECT count(released) FROM quote")
    assert 200 == (await release(payee, uuid, "identifierType=eur")).status


async def test_a_quote_that_expires_during_the_wait_for_its_row_is_not_released(start, clock, sql):
    payee = await start()
    quote = (await payee.reserve()).json
    async with sql.transaction():
        await sql.execute("SELECT FROM quote FOR UPDATE")
        releasing = asyncio.create_task(release(payee, quote["uuid"]))
        await waiting_for_lock(sql)
        await clock.set(quote["expires"])

    assert (410, "QuoteExpiredError") == (await releasing).outcome
    assert 0 == await sql.fetchval("SELECT count(released) FROM quote")


async def test_of_many_releases_and_executions_at_once_one_kind_wins_and_all_say_the_same(two_processes, sql):
    """The requests go to two payees."""
    for turn in range(4):
        uuid = await two_processes[0].reserved()
        calls = [release, execute] * 60
        random.Random(turn).shuffle(calls)
        answers = await asyncio.gather(
            *(call(two_processes[number % 2], uuid) for number, call in enumerate(calls))
        )
        by_call = {
            call: {answer.body for each, answer in zip(calls, answers, strict=True) if each is call}
            for call in (release, execute)
        }
        outcomes = {
            call: {answer.outcome for each, answer in zip(calls, answers, strict=True) if each is call}
            for call in (release, execute)
        }

        assert outcomes in (
            {release: {(200, None)}, execute: {(410, "QuoteReleasedError")}},
            {release: {(409, "QuoteExecutedError")}, execute: {(200, None)}},
        )
        assert 1 == len(by_call[release if (200, None) in outcomes[release] else execute])
    assert 0 == await sql.fetchval(
        "SELECT count(*) FROM quote WHERE executed IS NOT NULL AND released IS NOT NULL"
    )


# each execution and each release lets the clock go on by three seconds when it commits
TICKING: Final = """
CREATE FUNCTION tick() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN UPDATE public.fake_clock SET at = at + interval ''3 s''; RETURN NULL; END';
CREATE TRIGGER tick AFTER UPDATE OF executed, released ON quote FOR EACH ROW EXECUTE FUNCTION tick();
"""


@pytest.mark.parametrize("two_processes", ["postgres", "distributed"], indirect=True)
async def test_of_release_execution_and_expiry_at_once_each_quote_has_one_outcome_and_all_say_the_same(
    clock, two_processes, sql
):
    """Five hundred requests for fifty quotes, to two payees. The quotes expire one after the other meanwhile."""
    await sql.execute(TICKING)
    for turn, lead in enumerate([0, 20]):
        await clock.set(f"2030-01-01T0{turn}:00:00.000Z")
        seconds = range(1, 51)
        uuids = [
            await two_processes[0].reserved(X_Quote_Lifetime_Ms=f"{each}000", **PATIENT) for each in seconds
        ]
        calls = [
            (call, uuid, number % 2) for call in (release, execute) for uuid in uuids for number in range(5)
        ]
        # about in the order of their expiry, so that not all quotes are decided by the first statements; in the second
        # turn the executions, which have a body to send, are ahead
        place = random.Random(turn).uniform
        calls.sort(key=lambda each: uuids.index(each[1]) + place(0, 10) - lead * (each[0] is execute))

        answers = await asyncio.gather(*(call(two_processes[payee], uuid) for call, uuid, payee in calls))

        assert 500 == len(answers)
        of_quote: dict[str, list[tuple[Call, PayeeResponse]]] = {uuid: [] for uuid in uuids}
        for (call, uuid, _), answer in zip(calls, answers, strict=True):
            of_quote[uuid].append((call, answer))
        for uuid, each in of_quote.items():
            assert TOLD[await state_at_both(two_processes, uuid)] == {
                call: {answer.outcome for made, answer in each if made is call} for call in (release, execute)
            }
            assert 1 == len({answer.body for _, answer in each if answer.status == 200} or {b""})
    assert 0 == await sql.fetchval(
        "SELECT count(*) FROM quote WHERE executed IS NOT NULL AND released IS NOT NULL"
    )


async def state_at_both(payees: list[Caller], uuid: str) -> str:
    """Return the state of a quote, which is the same at both payees."""
    one, other = [(await payee.look_up(uuid, **PATIENT)).json for payee in payees]
    assert one == other
    state: str = one["state"]
    return state


async def execute(payee: Caller, uuid: str) -> PayeeResponse:
    return await payee.execute(uuid, **PATIENT)


TOLD = {
    "RELEASED": {release: {(200, None)}, execute: {(410, "QuoteReleasedError")}},
    "EXECUTED": {release: {(409, "QuoteExecutedError")}, execute: {(200, None)}},
    "EXPIRED": {release: {(410, "QuoteExpiredError")}, execute: {(410, "QuoteExpiredError")}},
}
"""By the state of a quote, what all who released or executed it were told."""


async def test_the_stub_of_a_released_quote_gives_the_same_reply_byte_for_byte(start, clock, sql):
    payee = await start(retention_days="0", retention_every_seconds="0.05")
    quote = (await payee.reserve(key="one")).json
    first = await release(payee, quote["uuid"])
    await clock.set(quote["expires"], plus="1 s")

    async def is_stub() -> bool:
        return 1 == await sql.fetchval("SELECT count(*) FROM quote WHERE request IS NULL")

    await until(is_stub)
    again = await release(payee, quote["uuid"])
    assert (200, first.body) == (again.status, again.body)
    assert (410, "QuoteReleasedError") == (await payee.execute(quote["uuid"])).outcome
    assert (404, "QuoteNotFoundError") == (await payee.look_up(quote["uuid"])).outcome


async def test_a_list_selects_released_quotes(start):
    payee = await start()
    kept, released = await payee.reserved(), await payee.reserved()
    await release(payee, released)

    for state, uuid in (("RELEASED", released), ("RESERVED", kept)):
        answer = await payee.send("GET", f"/v1/quotes?state={state}")
        assert [uuid] == [quote["uuid"] for quote in answer.json["quotes"]]
