"""Look up (Quote API §IV): the state and the contents of a quote."""

import pytest

from support.messages import LOOK_UP_QUERY, OTHER, QUOTE, RESERVE, RESERVE_DESTINATION, UNKNOWN_UUID
from support.payee import rows


@pytest.mark.parametrize(
    ("path", "operation", "amount", "source", "destination"),
    [
        (RESERVE, "quoteSourceAmount", "13.75", "13.75", "12.50"),
        (RESERVE_DESTINATION, "quoteDestinationAmount", "11.36", "12.50", "11.36"),
    ],
)
async def test_a_look_up_returns_the_state_and_the_contents_of_a_quote(
    start, clock, path, operation, amount, source, destination
):
    payee = await start()
    await clock.set("2030-01-01T00:00:00.000Z")
    body = {**QUOTE, "amount": "12.5", "identifier": "Zoë \U0001f600"}
    uuid = await payee.reserved(body, path=path)
    expected = {
        "uuid": uuid,
        "state": "RESERVED",
        "operation": operation,
        "amount": amount,
        "sourceAmount": source,
        "destinationAmount": destination,
        "fee": {RESERVE: "1.25", RESERVE_DESTINATION: "1.14"}[path],
        "expires": "2030-01-01T00:05:00.000Z",
        "created": "2030-01-01T00:00:00.000Z",
        "executed": None,
        "request": body,
    }
    assert expected == (await payee.look_up(uuid, "")).json

    await clock.set("2030-01-01T00:04:59.999Z")
    assert expected == (await payee.look_up(uuid, "")).json
    await clock.set("2030-01-01T00:05:00.000Z")
    assert expected | {"state": "EXPIRED"} == (await payee.look_up(uuid, "")).json
    await clock.set("2030-01-01T00:04:59.999Z")
    assert 200 == (await payee.execute(uuid, body)).status
    await clock.set("2030-01-02T00:00:00.000Z")
    assert (
        expected | {"state": "EXECUTED", "executed": "2030-01-01T00:04:59.999Z"}
        == (await payee.look_up(uuid, "")).json
    )


async def test_a_quote_is_found_with_its_own_receiver_or_without_one(payee, sql):
    """With another identifier or type it is not found."""
    uuid = await payee.reserved()
    for query in ("", LOOK_UP_QUERY, "identifier=30754016", "identifierType=eur"):
        assert 200 == (await payee.look_up(uuid, query)).status, query
    for query in (
        "identifierType=eur&identifier=30754017",
        "identifierType=tel&identifier=30754016",
        "identifier=30754017",
        "identifier=",
        "identifierType=EUR",
    ):
        assert (404, "QuoteNotFoundError") == (await payee.look_up(uuid, query)).outcome, query
    for query in (
        "x=1",
        "identifier=30754016&identifier=30754016",
        "submissionUrl=http://a",
        "identifier=%00",
    ):
        assert (400, "InvalidQueryParameterError") == (await payee.look_up(uuid, query)).outcome, query
    assert 1 == await rows(sql)


async def test_another_callers_quote_and_an_unknown_one_are_not_found(payee):
    uuid = await payee.reserved()

    assert (404, "QuoteNotFoundError") == (await payee.look_up(uuid, authorization=OTHER)).outcome
    assert (404, "QuoteNotFoundError") == (await payee.look_up(UNKNOWN_UUID)).outcome
