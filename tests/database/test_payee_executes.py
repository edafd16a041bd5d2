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


async def test_a_quote_is_executed_with_its_reserved_terms(payee, sql):
    uuid_ = await payee.reserved()
    answer = await payee.execute(uuid_)
    reply = answer.json

    assert 200 == answer.status
    assert {
        "uuid": uuid_,
        "state": "EXECUTED",
        "sourceAmount": "13.75",
        "destinationAmount": "12.50",
        "fee": "1.25",
        "executed": reply["executed"],
    } == reply
    assert [datetime.fromisoformat(reply["executed"])] == await executed(sql)


async def test_the_reserved_source_amount_of_a_destination_quote_is_the_requests(payee):
    """Also where there is no exact inverse: 0.10 costs 0.11 and 0.11 costs 0.13, so 0.01 of 0.12 is additional fee."""
    body = {**QUOTE, "amount": "0.12"}
    reply = (await payee.reserve(body, path=RESERVE_DESTINATION)).json
    paid = (await payee.execute(reply["uuid"], body)).json

    assert reply["amount"] == paid["destinationAmount"]
    assert ("0.12", "0.10", "0.02") == (paid["sourceAmount"], paid["destinationAmount"], paid["fee"])


async def test_500_payments_of_one_quote_over_two_processes_are_one_execution(two_processes, sql):
    """Promise 3: executed at most once, and all 500 replies are the same, byte for byte."""
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


async def test_of_two_payments_at_once_the_altered_one_is_409(two_processes, sql):
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
async def test_a_repeated_payment_gets_the_same_reply_also_after_expiry(start, clock, body):
    """Nexuq #393 answered that the quote had expired."""
    payee = await start()
    reply = (await payee.reserve()).json
    first = await payee.execute(reply["uuid"])
    await clock.set(reply["expires"], plus="1 year")
    again = await payee.execute(reply["uuid"], body)

    assert 200 == first.status
    assert first.body == again.body


@pytest.mark.parametrize(
    ("plus", "status"), [("-1 ms", 200), ("-1 us", 200), ("0", 410), ("1 us", 410), ("1 ms", 410)]
)
async def test_a_quote_expires_at_expires_to_the_microsecond(start, clock, sql, plus, status):
    """A microsecond earlier it can be executed. The database's clock decides."""
    payee = await start()
    reply = (await payee.reserve()).json
    await clock.set(reply["expires"], plus=plus)
    answer = await payee.execute(reply["uuid"])

    assert status == answer.status
    if status == 200:
        assert datetime.fromisoformat(answer.json["executed"]) < datetime.fromisoformat(reply["expires"])
        assert 1 == len(await executed(sql))
    else:
        assert "QuoteExpiredError" == answer.json["id"]
        assert reply["expires"] in answer.json["message"]
        assert [] == await executed(sql)


async def test_a_quote_that_expires_while_its_row_is_locked_is_not_executed(start, clock, sql):
    """The clock is read after the wait for the lock. Rafiki #3141 checked expiry when it accepted a payment."""
    payee = await start()
    reply = (await payee.reserve()).json
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote FOR UPDATE")
    paying = asyncio.create_task(payee.execute(reply["uuid"]))
    await waiting_for_lock(sql)
    await clock.set(reply["expires"])  # commits with the other transaction, so the waiting statement sees it
    await other.commit()

    assert (410, "QuoteExpiredError") == (await paying).outcome
    assert [] == await executed(sql)


async def test_a_quote_that_another_transaction_makes_expire_is_not_executed(payee, sql):
    """With Postgres' own clock: the quote expires after the payment has begun to wait for its row."""
    uuid_ = await payee.reserved()
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote FOR UPDATE")
    paying = asyncio.create_task(payee.execute(uuid_))
    await waiting_for_lock(sql)
    await sql.execute("UPDATE quote SET expires = clock_timestamp()")
    await other.commit()

    assert (410, "QuoteExpiredError") == (await paying).outcome
    assert [] == await executed(sql)


async def test_a_payment_that_waited_for_another_execution_gets_its_reply(payee, sql):
    """The quote is not executed again."""
    uuid_ = await payee.reserved()
    other = sql.transaction()
    await other.start()
    await sql.execute("UPDATE quote SET executed = '2017-01-01T00:00:00Z'")
    paying = asyncio.create_task(payee.execute(uuid_))
    await waiting_for_lock(sql)
    await other.commit()

    assert "2017-01-01T00:00:00.000Z" == (await paying).json["executed"]


async def test_a_payment_that_waited_for_a_transaction_that_rolled_back_is_executed(payee, sql):
    uuid_ = await payee.reserved()
    other = sql.transaction()
    await other.start()
    await sql.execute("UPDATE quote SET executed = '2017-01-01T00:00:00Z'")
    paying = asyncio.create_task(payee.execute(uuid_))
    await waiting_for_lock(sql)
    await other.rollback()

    assert 200 == (await paying).status
    assert 1 == len(await executed(sql))


@pytest.mark.parametrize("name", list(QUOTE))
async def test_the_refusal_of_an_altered_parameter_names_it(payee, sql, name):
    """Promise 4: this field and no other, with its wrong value."""
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
    """The statement that executes compares each of the optional amounts."""
    for name, value in itertools.product(("sourceAmount", "destinationAmount"), ("0.01", "13.74", "12.51")):
        uuid_ = await payee.reserved()
        rest = {"sourceAmount": "13.75", "destinationAmount": "12.50"}

        assert [name] == keys_of((await payee.execute(uuid_, {**QUOTE, **rest, name: value})).json)
    assert [] == await executed(sql)


async def test_a_payments_amounts_may_have_more_fraction_digits_than_the_currency(payee):
    """`12.500` equals 12.50; only a reservation has the limit."""
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


async def test_the_checks_are_in_the_order_of_wire_md(start, clock, sql):
    """Syntax 400, not found 404, a parameter differs 409, executed before 200, expired 410."""
    payee = await start()
    reply = (await payee.reserve()).json
    done = await payee.reserved()
    replay = await payee.execute(done)
    malformed, altered = {**QUOTE, "amount": "x"}, {**QUOTE, "amount": "1"}
    await clock.set(reply["expires"], plus="1 day")

    for uuid_, other in ((UNKNOWN_UUID, {}), (reply["uuid"], {"authorization": OTHER})):
        assert 400 == (await payee.execute(uuid_, malformed, **other)).status
        assert (404, "QuoteNotFoundError") == (await payee.execute(uuid_, altered, **other)).outcome
        assert (404, "QuoteNotFoundError") == (await payee.execute(uuid_, **other)).outcome
    for uuid_ in (reply["uuid"], done):
        assert 400 == (await payee.execute(uuid_, malformed)).status
        assert (409, "QuoteMismatchError") == (await payee.execute(uuid_, altered)).outcome
    assert replay.body == (await payee.execute(done)).body
    assert (410, "QuoteExpiredError") == (await payee.execute(reply["uuid"])).outcome
    assert 1 == len(await executed(sql))


async def test_another_callers_quote_is_not_found_whether_reserved_or_executed(payee, sql):
    uuid_ = await payee.reserved()
    assert (404, "QuoteNotFoundError") == (await payee.execute(uuid_, authorization=OTHER)).outcome
    assert [] == await executed(sql)

    assert 200 == (await payee.execute(uuid_)).status

    assert (404, "QuoteNotFoundError") == (await payee.execute(uuid_, authorization=OTHER)).outcome


async def test_a_uuid_in_upper_case_is_accepted_and_returned_in_lower_case(payee):
    uuid_ = await payee.reserved()

    assert uuid_ == (await payee.execute(uuid_.upper())).json["uuid"] == uuid_.lower()
    assert uuid_ == (await payee.look_up(uuid_.upper())).json["uuid"]


@pytest.mark.parametrize(
    "bad", ["1", UNKNOWN_UUID + "0", UNKNOWN_UUID.replace("-", ""), "g" + UNKNOWN_UUID[1:]]
)
async def test_a_malformed_uuid_is_400(payee, bad):
    assert (400, "InvalidUriParameterError") == (await payee.execute(bad)).outcome
    assert (400, "InvalidUriParameterError") == (await payee.look_up(bad)).outcome


async def test_a_locked_quote_does_not_delay_other_quotes(payee, sql):
    """Mojaloop #3564 stalled, probably under table locks."""
    held, free = await payee.reserved(), await payee.reserved()
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote WHERE uuid = $1 FOR UPDATE", uuid.UUID(held))
    paying = asyncio.create_task(payee.execute(held))
    await waiting_for_lock(sql)

    assert 200 == (await payee.execute(free)).status
    assert 200 == (await payee.reserve()).status
    assert "RESERVED" == (await payee.look_up(held)).json["state"]
    await other.rollback()
    assert 200 == (await paying).status
    assert 3 == await rows(sql)
