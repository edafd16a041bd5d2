"""The client on the real chain and on the fake: one suite for both, so that the fake cannot drift."""

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

import pytest

from dfsp_quotes import (
    AmountOutOfRangeError,
    IdempotencyKeyReusedError,
    InvalidBodyError,
    InvalidHeaderError,
    InvalidQueryParameterError,
    NoFeeScheduleError,
    NotFoundError,
    Operation,
    QuoteClient,
    QuoteError,
    QuoteExecutedError,
    QuoteExpiredError,
    QuoteMismatchError,
    QuoteNotFoundError,
    QuoteReleasedError,
    ReceiverNotFoundError,
    State,
    UnauthorizedError,
)
from support.messages import UNKNOWN_UUID
from support.quote_client import ARGUMENTS, PATIENCE_SECONDS, RECEIVER, reserve

AMOUNT = "must be a plain decimal number such as 12.50"


async def look_up(client: QuoteClient, uuid: UUID | str, **changed: str):
    return await client.look_up(uuid, **{**RECEIVER, **changed}, timeout=PATIENCE_SECONDS)


async def pay(client: QuoteClient, quote):
    return await client.pay(quote, timeout=PATIENCE_SECONDS)


async def failure(call, kind: type[QuoteError]) -> QuoteError:
    """Return the error of a call, which must be of exactly this class and describe itself."""
    with pytest.raises(kind) as caught:
        await call
    error = caught.value

    assert kind is type(error)
    assert kind.__name__ == error.id
    assert kind.status == error.status
    assert error.message
    assert error.service
    assert error.trace_id
    assert error.trace_id in str(error)
    return error


async def test_a_source_amount_is_the_amount_that_arrives_and_the_fee(client):
    quote = await reserve(client, amount=Decimal("12.50"))

    assert Decimal("13.75") == quote.amount == quote.source_amount
    assert Decimal("12.50") == quote.destination_amount
    assert Decimal("1.25") == quote.fee
    assert Operation.QUOTE_SOURCE_AMOUNT is quote.request.operation


async def test_a_destination_amount_is_the_amount_that_is_sent_less_the_fee(client):
    quote = await client.quote_destination_amount(**{**ARGUMENTS, "amount": Decimal("13.75")})

    assert Decimal("12.50") == quote.amount == quote.destination_amount
    assert Decimal("13.75") == quote.source_amount
    assert Decimal("1.25") == quote.fee
    assert Operation.QUOTE_DESTINATION_AMOUNT is quote.request.operation


async def test_a_quote_is_good_for_the_lifetime_that_was_asked_for(client):
    quote = await reserve(client, idempotency_key="short", lifetime=timedelta(milliseconds=1))
    same = await reserve(client, idempotency_key="short", lifetime=timedelta(milliseconds=1))
    stored = await look_up(client, quote.uuid)

    assert quote.uuid == same.uuid
    assert timedelta(milliseconds=1) == stored.expires - stored.created
    assert State.EXPIRED is stored.state
    await failure(pay(client, quote), QuoteExpiredError)
    for other in (timedelta(milliseconds=2), None):
        await failure(reserve(client, idempotency_key="short", lifetime=other), IdempotencyKeyReusedError)
    await failure(reserve(client, lifetime=timedelta(days=1, milliseconds=1)), InvalidHeaderError)


async def test_a_stored_quote_explains_its_fee(client):
    stored = await look_up(client, (await reserve(client, amount=Decimal("12.55"))).uuid)
    explained = stored.explanation

    assert explained is not None
    assert ("p2p", "USD", "up") == (explained.transfer_type, explained.currency_code, explained.rounding)
    assert (Decimal(10), Decimal("0.01"), None) == (explained.percent, explained.least, explained.most)
    assert (Decimal("1.255"), Decimal("1.26")) == (explained.unrounded, stored.fee)
    assert explained.step_from <= stored.destination_amount <= explained.step_to
    assert 64 == len(explained.schedule)


async def test_a_quote_is_valid_for_a_while(client):
    quote = await reserve(client)

    assert not quote.is_expired
    assert timedelta(0) < quote.time_left <= timedelta(minutes=5)
    assert UTC is quote.expires.tzinfo


@pytest.mark.parametrize(
    ("currency_code", "amount", "source_amount"),
    [
        ("USD", "0.01", "0.02"),
        ("USD", "0.04", "0.05"),
        ("USD", "99.99", "109.99"),
        ("EUR", "1000000.00", "1100000.00"),
        ("JPY", "1", "2"),
        ("JPY", "105", "116"),
        ("KWD", "0.001", "0.002"),
        ("KWD", "1.234", "1.358"),
    ],
)
async def test_the_destination_amount_of_a_source_amount_is_the_first_amount(
    client, currency_code, amount, source_amount
):
    source = await reserve(client, currency_code=currency_code, amount=Decimal(amount))
    back = await client.quote_destination_amount(
        **{**ARGUMENTS, "currency_code": currency_code, "amount": source.amount}
    )

    assert source_amount == str(source.amount)
    assert amount == str(back.amount)


@pytest.mark.parametrize("amount", ["13.76", "0.03", "77.77"])
async def test_an_amount_without_an_exact_inverse_is_the_source_amount_as_it_is(client, amount):
    quote = await client.quote_destination_amount(**{**ARGUMENTS, "amount": Decimal(amount)})

    assert Decimal(amount) == quote.source_amount
    assert quote.fee == quote.source_amount - quote.destination_amount


async def test_an_amount_with_an_exponent_is_sent_as_a_plain_number(client):
    quote = await reserve(client, amount=Decimal("1E+2"))

    assert Decimal("110.00") == quote.amount


async def test_the_decimal_context_of_the_program_does_not_round_amounts(client):
    with localcontext(prec=3):
        quote = await reserve(client, amount=Decimal("123456.78"))
        payment = await pay(client, quote)
        requote = await client.requote(quote, timeout=PATIENCE_SECONDS)

        assert ("135802.46", "123456.78", "12345.68") == tuple(
            map(str, (payment.source_amount, payment.destination_amount, payment.fee))
        )
        assert payment.fee == quote.fee
        assert "0.00" == str(requote.difference)


async def test_the_same_key_gives_the_same_quote(client):
    first = await reserve(client, amount=Decimal("12.50"))
    again = await reserve(client, amount=Decimal("12.5"), idempotency_key=first.idempotency_key)

    assert first == again
    assert first.trace_id != again.trace_id


async def test_without_a_key_each_call_is_a_new_quote(client):
    first, second = await reserve(client), await reserve(client)

    assert first.uuid != second.uuid
    assert first.idempotency_key != second.idempotency_key


async def test_calls_with_one_key_at_once_give_one_quote(client):
    key = (await reserve(client)).idempotency_key
    quotes = await asyncio.gather(*(reserve(client, idempotency_key=key) for _ in range(20)))

    assert 1 == len({quote.uuid for quote in quotes})


async def test_the_same_key_with_another_amount_is_refused(client):
    quote = await reserve(client)
    error = await failure(
        reserve(client, amount=Decimal("12.51"), idempotency_key=quote.idempotency_key),
        IdempotencyKeyReusedError,
    )

    assert quote.idempotency_key == error.idempotency_key
    assert not error.is_outcome_unknown


async def test_the_same_key_with_the_other_operation_is_refused(client):
    quote = await reserve(client)
    await failure(
        client.quote_destination_amount(**ARGUMENTS, idempotency_key=quote.idempotency_key),
        IdempotencyKeyReusedError,
    )


async def test_the_same_key_without_a_price_is_refused_for_the_key(client):
    quote = await reserve(client)
    await failure(
        reserve(client, transfer_type="nobody", idempotency_key=quote.idempotency_key),
        IdempotencyKeyReusedError,
    )


async def test_keys_of_two_callers_do_not_meet(client, other_client):
    quote = await reserve(client)
    others = await reserve(other_client, idempotency_key=quote.idempotency_key)

    assert quote.uuid != others.uuid


async def test_paying_executes_the_quote(client):
    quote = await reserve(client)
    payment = await pay(client, quote)

    assert State.EXECUTED is payment.state
    assert quote.uuid == payment.uuid
    assert (quote.source_amount, quote.destination_amount, quote.fee) == (
        payment.source_amount,
        payment.destination_amount,
        payment.fee,
    )
    assert payment.executed <= quote.expires


async def test_paying_again_gives_the_same_payment(client, server):
    quote = await reserve(client)
    payment = await pay(client, quote)
    again = await pay(client, quote)
    await server.expire(quote.uuid)
    after_expiry = await pay(client, quote)

    assert payment == again == after_expiry


async def test_paying_a_destination_amount_executes_it(client):
    quote = await client.quote_destination_amount(**ARGUMENTS)
    payment = await pay(client, quote)

    assert (Decimal("12.50"), quote.amount) == (payment.source_amount, payment.destination_amount)


async def test_an_expired_quote_cannot_be_paid(client, server):
    quote = await reserve(client)
    await server.expire(quote.uuid)
    error = await failure(pay(client, quote), QuoteExpiredError)

    assert not error.is_outcome_unknown


async def test_the_key_of_an_expired_quote_gives_the_expired_quote(client, server):
    quote = await reserve(client)
    await server.expire(quote.uuid)
    again = await reserve(client, idempotency_key=quote.idempotency_key)

    assert quote.uuid == again.uuid
    assert again.is_expired
    assert timedelta(0) == again.time_left


async def test_a_requote_of_an_expired_quote_can_be_paid(client, server):
    quote = await reserve(client)
    await server.expire(quote.uuid)
    requote = await client.requote(quote, timeout=PATIENCE_SECONDS)

    assert requote.quote.uuid != quote.uuid
    assert requote.quote.request == quote.request
    assert requote.previous is quote
    assert 0 == requote.difference == requote.fee_difference
    assert State.EXECUTED is (await pay(client, requote.quote)).state


async def test_another_caller_cannot_pay_a_quote(client, other_client):
    quote = await reserve(client)
    await failure(pay(other_client, quote), QuoteNotFoundError)

    assert State.RESERVED is (await look_up(client, quote.uuid)).state


async def test_a_payment_with_other_terms_is_refused_and_names_them(client):
    quote = await reserve(client)
    changed = dataclasses.replace(quote.request, amount=Decimal("12.00"), currency_symbol="US$")
    error = await failure(pay(client, dataclasses.replace(quote, request=changed)), QuoteMismatchError)

    differs = "differs from the reserved one"
    assert dict.fromkeys(("amount", "currencySymbol", "destinationAmount"), differs) == error.fields


async def test_a_payment_of_another_source_amount_is_refused(client):
    quote = await reserve(client)
    error = await failure(
        pay(client, dataclasses.replace(quote, amount=Decimal("13.74"))), QuoteMismatchError
    )

    assert ["sourceAmount"] == list(error.fields)


async def test_a_look_up_gives_the_terms_and_the_state(client):
    quote = await reserve(client)
    found = await look_up(client, quote.uuid)

    assert State.RESERVED is found.state
    assert None is found.executed
    assert found.created <= datetime.now(UTC)
    terms = ("uuid", "request", "amount", "source_amount", "destination_amount", "fee", "expires")
    assert [getattr(quote, name) for name in terms] == [getattr(found, name) for name in terms]


async def test_a_look_up_accepts_the_uuid_as_text_in_upper_case(client):
    quote = await reserve(client)

    assert quote.uuid == (await look_up(client, str(quote.uuid).upper())).uuid


async def test_a_look_up_of_a_destination_amount_gives_its_operation(client):
    quote = await client.quote_destination_amount(**ARGUMENTS)

    assert quote.request == (await look_up(client, quote.uuid)).request


async def test_a_look_up_sees_the_payment(client):
    quote = await reserve(client)
    payment = await pay(client, quote)
    found = await look_up(client, quote.uuid)

    assert (State.EXECUTED, payment.executed) == (found.state, found.executed)


async def test_a_look_up_sees_the_expiry(client, server):
    quote = await reserve(client)
    await server.expire(quote.uuid)

    assert State.EXPIRED is (await look_up(client, quote.uuid)).state


async def release(client: QuoteClient, quote):
    return await client.release(quote, timeout=PATIENCE_SECONDS)


async def test_a_released_quote_stays_released_and_cannot_be_paid(client):
    quote = await reserve(client)
    first = await release(client, quote)
    again = await release(client, await look_up(client, quote.uuid))
    found = await look_up(client, quote.uuid)
    error = await failure(pay(client, quote), QuoteReleasedError)

    assert (quote.uuid, State.RELEASED) == (first.uuid, first.state)
    assert first == again
    assert (State.RELEASED, first.released) == (found.state, found.released)
    assert not error.is_outcome_unknown
    assert quote == await reserve(client, idempotency_key=quote.idempotency_key)


async def test_a_quote_that_was_paid_expired_or_is_anothers_cannot_be_released(client, other_client, server):
    paid, expired, own = [await reserve(client) for _ in range(3)]
    await pay(client, paid)
    await server.expire(expired.uuid)

    await failure(release(client, paid), QuoteExecutedError)
    await failure(release(client, expired), QuoteExpiredError)
    await failure(release(other_client, own), QuoteNotFoundError)
    assert (await look_up(client, own.uuid)).released is None


async def test_a_quote_that_was_looked_up_can_be_paid_and_requoted(client):
    quote = await reserve(client)
    found = await look_up(client, quote.uuid)
    requote = await client.requote(found, timeout=PATIENCE_SECONDS)

    assert State.EXECUTED is (await pay(client, found)).state
    assert requote.quote.uuid != quote.uuid


async def test_nobody_else_can_look_up_a_quote(client, other_client):
    quote = await reserve(client)

    await failure(look_up(other_client, quote.uuid), QuoteNotFoundError)


async def test_an_unknown_uuid_is_not_found(client):
    await failure(look_up(client, UNKNOWN_UUID), QuoteNotFoundError)


@pytest.mark.parametrize("identifier", ["unknown", "Zoë & co=1+2/3?#", "%41"])
async def test_an_unknown_receiver_is_not_found(client, identifier):
    await failure(reserve(client, identifier=identifier), ReceiverNotFoundError)
    await failure(look_up(client, UNKNOWN_UUID, identifier=identifier), ReceiverNotFoundError)


async def test_a_wrong_password_is_refused(server):
    async with server.client(password="wrong") as client:
        error = await failure(reserve(client, idempotency_key="of-nobody"), UnauthorizedError)

    assert "of-nobody" == error.idempotency_key


async def test_a_wrong_path_is_not_found(server):
    async with QuoteClient(server.url + "/nothing/", "test", "123") as client:
        await failure(reserve(client), NotFoundError)


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        (
            {"currency_code": "usd"},
            {"currencyCode": "must be an ISO 4217 currency that has a minor unit, in upper case"},
        ),
        (
            {"currency_code": "XAU"},
            {"currencyCode": "must be an ISO 4217 currency that has a minor unit, in upper case"},
        ),
        ({"currency_symbol": ""}, {"currencySymbol": "must be 1 to 8 characters"}),
        ({"currency_symbol": "dollars!!"}, {"currencySymbol": "must be 1 to 8 characters"}),
        ({"amount": Decimal("12.505")}, {"amount": "must have at most 2 fraction digits in USD"}),
        (
            {"currency_code": "JPY", "amount": Decimal("100.0")},
            {"amount": "must have at most 0 fraction digits in JPY"},
        ),
        ({"account": "bob"}, {"account": "must be an absolute http or https URL"}),
        ({"account": "ftp://a.example/bob"}, {"account": "must be an absolute http or https URL"}),
        ({"account": "http://a.example/b ob"}, {"account": "must be an absolute http or https URL"}),
        ({"account": "http://bob@a.example/"}, {"account": "must not contain a user or password"}),
        (
            {"account": ""},
            {"account": "must be 1 to 2,048 characters; must be an absolute http or https URL"},
        ),
        ({"account": f"http://a.example/{'b' * 2_048}"}, {"account": "must be 1 to 2,048 characters"}),
        ({"identifier": ""}, {"identifier": "must be 1 to 128 characters"}),
        ({"identifier": "a\nb"}, {"identifier": "must not contain control characters"}),
        ({"identifier_type": "EUR"}, {"identifierType": "must be 1 to 32 of a-z, 0-9, _ and -"}),
        ({"transfer_type": "p 2 p"}, {"transferType": "must be 1 to 32 of A-Z, a-z, 0-9, _ and -"}),
        (
            {"currency_symbol": "", "identifier": "", "amount": Decimal("0.001")},
            {
                "currencySymbol": "must be 1 to 8 characters",
                "identifier": "must be 1 to 128 characters",
                "amount": "must have at most 2 fraction digits in USD",
            },
        ),
    ],
)
async def test_wrong_fields_are_named(client, changed, fields):
    error = await failure(reserve(client, **changed), InvalidBodyError)

    assert fields == error.fields
    assert not error.is_outcome_unknown


async def test_a_wrong_query_is_named(client):
    error = await failure(
        look_up(client, UNKNOWN_UUID, identifier="", identifier_type="EUR"), InvalidQueryParameterError
    )

    assert {
        "identifierType": "must be 1 to 32 of a-z, 0-9, _ and -",
        "identifier": "must be 1 to 128 characters",
    } == error.fields


async def test_a_transfer_type_without_fees_is_refused(client):
    await failure(reserve(client, transfer_type="nobody"), NoFeeScheduleError)


@pytest.mark.parametrize(
    ("operation", "amount", "message"),
    [
        (
            "quote_source_amount",
            "1000000.01",
            "The amount must be from 0.01 to 1000000.00 for this transfer.",
        ),
        (
            "quote_destination_amount",
            "1100000.01",
            "The amount must be from 0.02 to 1100000.00 for this transfer.",
        ),
        ("quote_destination_amount", "0.01", "The amount must be from 0.02 to 1100000.00 for this transfer."),
    ],
)
async def test_an_amount_outside_the_fee_schedule_is_refused(client, operation, amount, message):
    call = getattr(client, operation)(**{**ARGUMENTS, "amount": Decimal(amount)})
    error = await failure(call, AmountOutOfRangeError)

    assert message == error.message


async def test_a_key_may_have_every_visible_character(client):
    key = "".join(map(chr, range(0x21, 0x7F))) + "x" * 34
    quote = await reserve(client, idempotency_key=key)

    assert key == quote.idempotency_key
    assert quote == await reserve(client, idempotency_key=key)
