"""Promises 3 and 4: executed at most once, never at or after expires, never with other parameters."""

import asyncio
import itertools
import uuid
from datetime import datetime

import pytest

from support.messages import OTHER, QUOTE, RESERVE_DESTINATION, UNKNOWN_UUID, keys_of
from support.payee import rows, waiting_for_lock

ALTERED = {
    "currencyCode": "EUR",
    "currencySymbol": "€",
    "amount": "12.51",
    "account": "http://elsewhere/alice",
    "identifier": "30754017",
    "identifierType": "tel",
    "transferType": "p2b",
}


async def executed(sql) -> list[datetime]:
    return [
        row["executed"] for row in await sql.fetch("SELECT executed FROM quote WHERE executed IS NOT NULL")
    ]


async def test_a_quote_is_executed_with_the_terms_reserved(payee, sql):
    uuid_ = await payee.reserved()
    answer = await payee.execute(uuid_)
    told = answer.json

    assert 200 == answer.status
    assert {
        "uuid": uuid_,
        "state": "EXECUTED",
        "sourceAmount": "13.75",
        "destinationAmount": "12.50",
        "fee": "1.25",
        "executed": told["executed"],
    } == told
    assert [datetime.fromisoformat(told["executed"])] == await executed(sql)


async def test_the_reserved_source_amount_of_a_destination_quote_is_the_requests(payee):
    """Also where there is no exact inverse: 0.10 costs 0.11 and 0.11 costs 0.13, so 0.01 of 0.12 is additional fee."""
    body = {**QUOTE, "amount": "0.12"}
    told = (await payee.reserve(body, path=RESERVE_DESTINATION)).json
    paid = (await payee.execute(told["uuid"], body)).json

    assert told["amount"] == paid["destinationAmount"]
    assert ("0.12", "0.10", "0.02") == (paid["sourceAmount"], paid["destinationAmount"], paid["fee"])


async def test_500_payments_of_one_quote_over_two_processes_are_one_execution(two_processes, sql):
    """Promise 3: at most once, and all 500 are told the same, byte for byte."""
    await sql.execute(
        "CREATE TABLE execution (uuid uuid);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO execution VALUES (NEW.uuid); RETURN NEW; END $$;"
        "CREATE TRIGGER note AFTER UPDATE ON quote FOR EACH ROW EXECUTE FUNCTION note()"
    )
    uuid_ = await two_processes[0].reserved()
    answers = await asyncio.gather(
        *(two_processes[number % 2].execute(uuid_, X_Request_Timeout_Ms="60000") for number in range(500))
    )

    assert {200} == {answer.status for answer in answers}
    assert 1 == len({answer.body for answer in answers})
    assert [uuid.UUID(uuid_)] == [row["uuid"] for row in await sql.fetch("SELECT uuid FROM execution")]


async def test_a_payment_and_an_altered_one_at_once_are_200_and_409(two_processes, sql):
    for _ in range(10):
        uuid_ = await two_processes[0].reserved()
        answers = await asyncio.gather(
            *(
                two_processes[number % 2].execute(uuid_, {**QUOTE, "amount": ("12.50", "12.51")[number // 2]})
                for number in range(4)
            )
        )

        assert [200, 200, 409, 409] == [answer.status for answer in answers]
    assert 10 == len(await executed(sql))


@pytest.mark.parametrize("body", [QUOTE, {**QUOTE, "amount": "12.5", "sourceAmount": "13.750"}])
async def test_the_same_payment_again_is_told_the_same_also_after_expires(start, clock, body):
    """Nexuq #393: a finished transfer asked again after expiry answers "expired"."""
    payee = await start()
    told = (await payee.reserve()).json
    first = await payee.execute(told["uuid"])
    await clock.set(told["expires"], plus="1 year")
    again = await payee.execute(told["uuid"], body)

    assert 200 == first.status
    assert first.body == again.body


@pytest.mark.parametrize(
    ("plus", "status"), [("-1 ms", 200), ("-1 us", 200), ("0", 410), ("1 us", 410), ("1 ms", 410)]
)
async def test_a_quote_ends_at_expires_to_the_microsecond(start, clock, sql, plus, status):
    """At `expires` it is over; a moment before it is not. The database's clock says so."""
    payee = await start()
    told = (await payee.reserve()).json
    await clock.set(told["expires"], plus=plus)
    answer = await payee.execute(told["uuid"])

    assert status == answer.status
    if status == 200:
        assert datetime.fromisoformat(answer.json["executed"]) < datetime.fromisoformat(told["expires"])
        assert 1 == len(await executed(sql))
    else:
        assert "QuoteExpiredError" == answer.json["id"]
        assert told["expires"] in answer.json["message"]
        assert [] == await executed(sql)


async def test_a_quote_that_expires_while_its_row_is_locked_is_not_executed(start, clock, sql):
    """The clock is read after the wait for the lock: Rafiki #471 looks when accepted, not when processed."""
    payee = await start()
    told = (await payee.reserve()).json
    rival = sql.transaction()
    await rival.start()
    await sql.execute("SELECT FROM quote FOR UPDATE")
    paying = asyncio.create_task(payee.execute(told["uuid"]))
    await waiting_for_lock(sql)
    await clock.set(told["expires"])  # commits with the rival, and is seen by who waits for it
    await rival.commit()

    assert (410, "QuoteExpiredError") == (await paying).outcome
    assert [] == await executed(sql)


async def test_a_quote_whose_end_comes_while_its_row_is_locked_is_not_executed(payee, sql):
    """The same by Postgres' own clock: the rival makes it end after the payment has begun to wait."""
    uuid_ = await payee.reserved()
    rival = sql.transaction()
    await rival.start()
    await sql.execute("SELECT FROM quote FOR UPDATE")
    paying = asyncio.create_task(payee.execute(uuid_))
    await waiting_for_lock(sql)
    await sql.execute("UPDATE quote SET expires = clock_timestamp()")
    await rival.commit()

    assert (410, "QuoteExpiredError") == (await paying).outcome
    assert [] == await executed(sql)


async def test_a_payment_that_waits_for_a_rivals_takes_over_its_answer(payee, sql):
    """What the rival executed while this one waited is told, not executed again."""
    uuid_ = await payee.reserved()
    rival = sql.transaction()
    await rival.start()
    await sql.execute("UPDATE quote SET executed = '2017-01-01T00:00:00Z'")
    paying = asyncio.create_task(payee.execute(uuid_))
    await waiting_for_lock(sql)
    await rival.commit()

    assert "2017-01-01T00:00:00.000Z" == (await paying).json["executed"]


async def test_a_payment_executes_where_its_rival_gave_up(payee, sql):
    uuid_ = await payee.reserved()
    rival = sql.transaction()
    await rival.start()
    await sql.execute("UPDATE quote SET executed = '2017-01-01T00:00:00Z'")
    paying = asyncio.create_task(payee.execute(uuid_))
    await waiting_for_lock(sql)
    await rival.rollback()

    assert 200 == (await paying).status
    assert 1 == len(await executed(sql))


@pytest.mark.parametrize("name", list(QUOTE))
async def test_an_altered_parameter_is_refused_by_its_name(payee, sql, name):
    """Promise 4: that field and no other is named, with the value that was wrong."""
    uuid_ = await payee.reserved()
    answer = await payee.execute(uuid_, {**QUOTE, name: ALTERED[name]})

    assert (409, "QuoteMismatchError") == answer.outcome
    assert [{"key": name, "value": ALTERED[name]}] == [
        fault["params"] for fault in answer.json["validationErrors"]
    ]
    assert [] == await executed(sql)


async def test_all_altered_parameters_are_named_at_once(payee, sql):
    uuid_ = await payee.reserved()
    for names in [*itertools.combinations(QUOTE, 2), tuple(QUOTE)]:
        answer = await payee.execute(uuid_, {**QUOTE, **{name: ALTERED[name] for name in names}})

        assert (409, set(names)) == (answer.status, set(keys_of(answer.json)))
    everything = {**ALTERED, "sourceAmount": "1", "destinationAmount": "2"}
    assert set(everything) == set(keys_of((await payee.execute(uuid_, everything)).json))
    assert [] == await executed(sql)


@pytest.mark.parametrize(
    ("name", "reserved", "as_number", "other"),
    [
        ("amount", "12.50", "12.5", "12.05"),
        ("sourceAmount", "13.75", "13.750", "13.76"),
        ("destinationAmount", "12.50", "12.5", "13.75"),
    ],
)
async def test_amounts_are_compared_as_numbers(payee, sql, name, reserved, as_number, other):
    uuid_ = await payee.reserved()
    refused = await payee.execute(uuid_, {**QUOTE, name: other})
    assert (409, [name]) == (refused.status, keys_of(refused.json))
    assert [] == await executed(sql)

    answers = [await payee.execute(uuid_, {**QUOTE, name: value}) for value in (as_number, reserved)]

    assert [200, 200] == [answer.status for answer in answers]
    assert 409 == (await payee.execute(uuid_, {**QUOTE, name: other})).status


async def test_a_wrong_amount_in_a_first_payment_never_executes(payee, sql):
    """The amounts that may be given are compared in the statement that executes, each by itself."""
    for name, value in itertools.product(("sourceAmount", "destinationAmount"), ("0.01", "13.74", "12.51")):
        uuid_ = await payee.reserved()
        rest = {"sourceAmount": "13.75", "destinationAmount": "12.50"}

        assert [name] == keys_of((await payee.execute(uuid_, {**QUOTE, **rest, name: value})).json)
    assert [] == await executed(sql)


async def test_the_currencys_digits_are_no_rule_for_a_payment(payee):
    """`12.500` is 12.50, and that is all that is asked: a syntax error would be another answer."""
    uuid_ = await payee.reserved()
    body = {**QUOTE, "amount": "12.500", "sourceAmount": "13.75000", "destinationAmount": "12.500"}

    assert 200 == (await payee.execute(uuid_, body)).status
    assert 409 == (await payee.execute(uuid_, {**QUOTE, "amount": "12.501"})).status


@pytest.mark.parametrize("name", ["amount", "sourceAmount", "destinationAmount"])
async def test_a_malformed_amount_is_400_and_executes_nothing(payee, sql, name):
    uuid_ = await payee.reserved()
    for value in ("", "abc", "-1", "1e3", "0", 12.5, None, "12,50", "1" * 19, "٣"):
        answer = await payee.execute(uuid_, {**QUOTE, name: value})

        assert (400, "InvalidBodyError") == answer.outcome
        assert {name} == set(keys_of(answer.json))
    assert [] == await executed(sql)


async def test_checks_come_in_the_contracts_order(start, clock, sql):
    """Syntax 400, not found 404, a parameter differs 409, executed already 200, expired 410."""
    payee = await start()
    told = (await payee.reserve()).json
    done = await payee.reserved()
    replay = await payee.execute(done)
    malformed, altered = {**QUOTE, "amount": "x"}, {**QUOTE, "amount": "1"}
    await clock.set(told["expires"], plus="1 day")

    for uuid_, other in ((UNKNOWN_UUID, {}), (told["uuid"], {"authorization": OTHER})):
        assert 400 == (await payee.execute(uuid_, malformed, **other)).status
        assert (404, "QuoteNotFoundError") == (await payee.execute(uuid_, altered, **other)).outcome
        assert (404, "QuoteNotFoundError") == (await payee.execute(uuid_, **other)).outcome
    for uuid_ in (told["uuid"], done):
        assert 400 == (await payee.execute(uuid_, malformed)).status
        assert (409, "QuoteMismatchError") == (await payee.execute(uuid_, altered)).outcome
    assert replay.body == (await payee.execute(done)).body
    assert (410, "QuoteExpiredError") == (await payee.execute(told["uuid"])).outcome
    assert 1 == len(await executed(sql))


async def test_another_callers_quote_is_not_found_whether_reserved_or_executed(payee, sql):
    uuid_ = await payee.reserved()
    assert (404, "QuoteNotFoundError") == (await payee.execute(uuid_, authorization=OTHER)).outcome
    assert [] == await executed(sql)

    assert 200 == (await payee.execute(uuid_)).status

    assert (404, "QuoteNotFoundError") == (await payee.execute(uuid_, authorization=OTHER)).outcome


async def test_a_uuid_may_come_in_upper_case_and_goes_out_in_lower(payee):
    uuid_ = await payee.reserved()

    assert uuid_ == (await payee.execute(uuid_.upper())).json["uuid"] == uuid_.lower()
    assert uuid_ == (await payee.look_up(uuid_.upper())).json["uuid"]


@pytest.mark.parametrize(
    "bad", ["1", UNKNOWN_UUID + "0", UNKNOWN_UUID.replace("-", ""), "g" + UNKNOWN_UUID[1:]]
)
async def test_what_is_no_uuid_is_400(payee, bad):
    assert (400, "InvalidUriParameterError") == (await payee.execute(bad)).outcome
    assert (400, "InvalidUriParameterError") == (await payee.look_up(bad)).outcome


async def test_one_row_is_the_widest_lock(payee, sql):
    """Mojaloop #3564: a locked quote holds up nobody else's, nor any reservation."""
    held, free = await payee.reserved(), await payee.reserved()
    rival = sql.transaction()
    await rival.start()
    await sql.execute("SELECT FROM quote WHERE uuid = $1 FOR UPDATE", uuid.UUID(held))
    paying = asyncio.create_task(payee.execute(held))
    await waiting_for_lock(sql)

    assert 200 == (await payee.execute(free)).status
    assert 200 == (await payee.reserve()).status
    assert "RESERVED" == (await payee.look_up(held)).json["state"]
    await rival.rollback()
    assert 200 == (await paying).status
    assert 3 == await rows(sql)
