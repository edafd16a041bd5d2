"""Lists of quotes by the client, on the real payee and on the fake: one suite for both."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from dfsp_quotes import (
    ForbiddenError,
    InvalidQueryParameterError,
    InvalidResponseError,
    QuoteClient,
    State,
    StoredQuote,
    UnauthorizedError,
)
from support.messages import QUOTE
from support.quote_client import PATIENCE_SECONDS, RECEIVER, reserve
from support.serving import reply, stub

ADMIN = ("admin", "admin")


@pytest.fixture
async def payee(server) -> AsyncIterator[QuoteClient]:
    async with server.payee_client() as client:
        yield client


@pytest.fixture
async def operator(server) -> AsyncIterator[QuoteClient]:
    async with server.payee_client(*ADMIN) as client:
        yield client


async def whole(client: QuoteClient, **filters) -> list[StoredQuote]:
    return [
        quote
        async for page in client.list_quotes(**filters, timeout=PATIENCE_SECONDS)
        for quote in page.quotes
    ]


async def newest(client: QuoteClient, count: int, **filters) -> list[UUID]:
    """Return the uuids of the newest quotes: the chain has those of other tests, too."""
    return [quote.uuid for quote in (await whole(client, **filters))[:count]]


async def test_a_listed_quote_is_the_stored_quote_of_a_look_up(client, payee):
    quote = await reserve(client)
    await client.pay(quote, timeout=PATIENCE_SECONDS)

    [listed] = await whole(payee, since=(await stored(client, quote.uuid)).created, state=State.EXECUTED)

    assert await stored(client, quote.uuid) == listed
    assert listed.caller is None
    assert listed.trace_id


async def stored(client: QuoteClient, uuid: UUID) -> StoredQuote:
    return await client.look_up(uuid, **RECEIVER, timeout=PATIENCE_SECONDS)


async def test_pages_have_each_quote_once_the_newest_first(client, payee):
    before = [(await reserve(client)).uuid for _ in range(5)]
    first = await stored(client, before[0])
    seen, sizes = [], []
    async for page in payee.list_quotes(since=first.created, limit=2, timeout=PATIENCE_SECONDS):
        seen += page.quotes
        sizes.append(len(page.quotes))
        await reserve(client)

    assert [2, 2, 1] == sizes
    assert set(before) == {quote.uuid for quote in seen}
    assert sorted(seen, key=lambda quote: (quote.created, quote.uuid), reverse=True) == seen


async def test_a_list_goes_on_after_a_page(client, payee):
    quotes = [(await reserve(client)).uuid for _ in range(3)]
    pages = payee.list_quotes(limit=1, timeout=PATIENCE_SECONDS)
    page = await anext(pages)

    assert page.next is not None
    rest = await newest(payee, 2, after=page.next)
    assert set(quotes) == {page.quotes[0].uuid, *rest}


async def test_filters_select_by_state_time_identifier_and_amount(client, payee, server):
    cents = Decimal(uuid4().int % 10**7) / 100 + 1  # an amount of this test alone
    expired = await reserve(client, amount=cents)
    await server.expire(expired.uuid)
    paid = await reserve(client, amount=cents)
    await client.pay(paid, timeout=PATIENCE_SECONDS)
    reserved = await reserve(client, amount=cents)
    created = (await stored(client, reserved.uuid)).created

    async def found(**filters) -> set[UUID]:
        return {quote.uuid for quote in await whole(payee, amount=cents, **filters)}

    assert {expired.uuid, paid.uuid, reserved.uuid} == await found()
    assert {expired.uuid} == await found(state=State.EXPIRED)
    assert {paid.uuid} == await found(state=State.EXECUTED)
    assert {reserved.uuid} == await found(state=State.RESERVED)
    assert reserved.uuid in await found(since=created)
    assert set() == await found(since=created + timedelta(milliseconds=1))
    assert reserved.uuid not in await found(until=created)
    assert {reserved.uuid} <= await found(until=(created + timedelta(seconds=1)).astimezone())
    assert {paid.uuid, reserved.uuid, expired.uuid} == await found(identifier=RECEIVER["identifier"])
    assert set() == await found(identifier="1")
    assert reserved.uuid in {quote.uuid for quote in await whole(payee, amount=reserved.source_amount)}


async def test_a_caller_sees_its_own_quotes_and_an_operator_those_of_all(
    client, other_client, payee, operator
):
    own, others = await reserve(client), await reserve(other_client)
    since = (await stored(client, own.uuid)).created

    assert [own.uuid] == await newest(payee, 2, since=since)
    assert [own.uuid] == await newest(payee, 2, since=since, caller="test")
    found = await whole(operator, since=since)
    assert {(own.uuid, "test"), (others.uuid, "other")} == {(quote.uuid, quote.caller) for quote in found}
    assert [others.uuid] == await newest(operator, 2, since=since, caller="other")
    with pytest.raises(ForbiddenError) as caught:
        await whole(payee, caller="other")
    assert "Only an operator may list the quotes of another caller." == caught.value.message


async def test_wrong_credentials_are_an_error(server):
    async with server.payee_client("test", "wrong") as client:
        with pytest.raises(UnauthorizedError):
            await whole(client)


async def test_a_page_that_is_none_is_an_error_that_names_the_field(payee):
    with pytest.raises(InvalidQueryParameterError) as caught:
        await whole(payee, after="x", identifier="")

    assert {
        "after": "must be the value of next in an earlier response",
        "identifier": "must be 1 to 128 characters",
    } == caught.value.fields


@pytest.mark.parametrize(
    ("argument", "value", "kind"),
    [
        ("state", "PAID", ValueError),
        ("state", 1, TypeError),
        ("since", datetime(2030, 1, 1), ValueError),  # noqa: DTZ001 - the fault
        ("since", "2030-01-01", TypeError),
        ("until", date(2030, 1, 1), TypeError),
        ("caller", 1, TypeError),
        ("identifier", b"1", TypeError),
        ("amount", 12.5, TypeError),
        ("amount", Decimal(-1), ValueError),
        ("limit", 0, ValueError),
        ("limit", 201, ValueError),
        ("limit", True, TypeError),
        ("after", 1, TypeError),
        ("timeout", 0, ValueError),
    ],
)
async def test_an_argument_that_cannot_be_right_is_refused_before_anything_is_sent(
    fake, argument, value, kind
):
    client = QuoteClient(fake.url, fake.name, fake.password)  # not even open

    with pytest.raises(kind, match=f"^{argument} must"):
        client.list_quotes(**{argument: value})
    assert not fake.received


QUOTE_STATE = {
    "uuid": str(uuid4()),
    "state": "RESERVED",
    "operation": "quoteSourceAmount",
    "amount": "13.75",
    "expires": "2030-01-01T00:05:00.000Z",
    "created": "2030-01-01T00:00:00.000Z",
    "executed": None,
    "request": QUOTE,
}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"next": None}, "quotes is not a list of at most 200 objects"),
        ({"quotes": {}, "next": None}, "quotes is not a list of at most 200 objects"),
        ({"quotes": [QUOTE_STATE] * 201, "next": None}, "quotes is not a list of at most 200 objects"),
        ({"quotes": [1], "next": None}, "an entry of quotes is not a JSON object"),
        ({"quotes": [QUOTE_STATE | {"state": "PAID"}], "next": None}, "state has an unknown value"),
        ({"quotes": [QUOTE_STATE | {"caller": 1}], "next": None}, "caller is not a string"),
        ({"quotes": [], "next": 1}, "next is not a string"),
        ({"quotes": [], "next": "x" * 5_000_000}, "the body is longer than 4,194,304 bytes"),
    ],
)
async def test_a_response_that_is_no_page_is_an_error_that_says_why(content, reason):
    async with stub(reply(200, content)) as server, QuoteClient(server.url, "test", "123") as client:
        with pytest.raises(InvalidResponseError, match=reason):
            await whole(client)


async def test_a_page_may_be_longer_than_other_responses():
    quotes = [QUOTE_STATE | {"request": QUOTE | {"account": f"http://a/{'x' * 2_000}"}}] * 200
    async with (
        stub(reply(200, {"quotes": quotes, "next": None})) as server,
        QuoteClient(server.url, "test", "123") as client,
    ):
        assert 200 == len(await whole(client))


async def test_every_argument_can_be_given(payee):
    now = datetime.now(UTC)

    assert [] == await whole(
        payee,
        state=State.RESERVED,
        since=now,
        until=now,
        caller="test",
        identifier="1",
        amount=Decimal("1E+2"),
        limit=200,
        after=None,
    )
