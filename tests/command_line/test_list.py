"""`quotes list`, against the chain."""

import dataclasses

import pytest

from support.command_line import RESERVE, TO

CONTENT = {
    "uuid",
    "operation",
    "amount",
    "sourceAmount",
    "destinationAmount",
    "fee",
    "expires",
    "traceId",
    "request",
    "state",
    "created",
    "executed",
    "released",
    "explanation",
}


async def test_quotes_are_listed_by_every_filter_the_newest_first(quotes):
    first, second = (await quotes.json(*RESERVE))["uuid"], (await quotes.json(*RESERVE))["uuid"]
    await quotes.json("pay", first, *TO)
    created = (await quotes.json("show", first, *TO))["created"]
    filters = ("--since", created, "--until", "9999-12-31", "--identifier", "30754016", "--amount", "12.5")

    found = await quotes.json("list", *filters)
    paid = await quotes.json("list", *filters, "--state", "EXECUTED", "--since", "1d", "--limit", "1")

    assert [second, first] == [quote["uuid"] for quote in found["quotes"]]
    assert None is found["next"]
    assert [CONTENT, CONTENT] == [set(quote) for quote in found["quotes"]]
    assert [first] == [quote["uuid"] for quote in paid["quotes"]]


async def test_a_list_ends_with_the_option_that_goes_on(quotes):
    expected = [(await quotes.json(*RESERVE))["uuid"] for _ in range(3)][::-1]
    one = await quotes.json("list", "--limit", "1")
    two = await quotes.json("list", "--limit", "2", "--after", one["next"])
    text = (await quotes.run("list", "--limit", "1")).output

    assert expected == [quote["uuid"] for quote in one["quotes"] + two["quotes"]]
    assert f"More with: --after {one['next']}" in text
    assert f"{expected[0]}  13.75    12.50  1.25  USD       eur:30754016" in text


async def test_an_operator_lists_the_quotes_of_a_caller_and_others_may_not(quotes):
    uuid = (await quotes.json(*RESERVE))["uuid"]
    operator = dataclasses.replace(
        quotes, environment={**quotes.environment, "QUOTES_USER": "admin", "QUOTES_PASSWORD": "admin"}
    )

    found = await operator.json("list", "--caller", "test", "--limit", "1")
    refused = await quotes.error(1, "list", "--caller", "other")
    view = await operator.run("list", "--limit", "1")

    assert [(uuid, "test")] == [(quote["uuid"], quote["caller"]) for quote in found["quotes"]]
    assert "caller" in view.output.splitlines()[0]
    assert "ForbiddenError" in refused


async def test_a_list_without_quotes_says_so(quotes):
    assert "No quote fits.\n" == (await quotes.run("list", "--until", "2020-01-01")).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--limit", "0"), "--limit must be from 1 to 10,000."),
        (("--amount", "1e3"), "--amount must be a plain decimal number such as 12.50."),
        (("--since", "yesterday"), "--since must be a time with Z or an offset"),
        (("--since", "2026-11-21T02:18:51"), "--since must be a time with Z or an offset"),
        (("--until", "0001-01-01T00:00:00+23:00"), "--until must be a time with Z or an offset"),
        (("--until", "10x"), "--until must be a time with Z or an offset"),
        (("--state", "PAID"), "Invalid value for '--state'"),
        ((), "--url is missing; set it, or QUOTES_PAYEE_URL, or payee_url in"),
    ],
)
def test_bad_input_is_refused_and_names_the_option(refusal, arguments, message):
    assert refusal("list", *arguments).startswith(message)
