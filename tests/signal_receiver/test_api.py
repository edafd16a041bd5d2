"""What the receiver's users ask for and change."""

import base64

import pytest

from support.messages import keys_of
from support.receiver import OTHER, signal

SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()
ACCOUNT_CALLS = [
    ("GET", "/v1/accounts/{}/positions", None),
    ("GET", "/v1/accounts/{}/trades", None),
    ("PUT", "/v1/accounts/{}/webhook-secret", {"secret": SECRET}),
]


@pytest.mark.parametrize(("method", "path", "body"), ACCOUNT_CALLS)
async def test_an_account_is_its_owners_alone(receiver, method, path, body):
    statuses = [
        (await receiver.call(method, path.format(account), body, authorization=authorization)).status
        for account, authorization in (
            ("others", OTHER),
            ("sample", OTHER),
            ("nobodys", OTHER),
            ("sample", None),
        )
    ]

    assert [204 if method == "PUT" else 200, 404, 404, 401] == statuses


@pytest.mark.parametrize("id_", ["%00", "sample%00", "%ff", "%ed%a0%80", "a%20b", "x" * 65])
@pytest.mark.parametrize(("method", "path", "body"), ACCOUNT_CALLS)
async def test_what_no_account_can_be_called_is_not_there(receiver, method, path, body, id_):
    assert 404 == (await receiver.call(method, path.format(id_), body)).status


async def test_trades_come_the_newest_first_and_in_pages(receiver):
    for number in range(3):
        await receiver.send("OPEN", 1, strategy=f"strategy-{number}")
    page = (await receiver.call("GET", "/v1/accounts/sample/trades?limit=2")).json["trades"]
    rest = (await receiver.call("GET", f"/v1/accounts/sample/trades?before={page[-1]['id']}")).json["trades"]

    assert [["strategy-2", "strategy-1"], ["strategy-0"]] == [
        [trade["strategyId"] for trade in trades] for trades in (page, rest)
    ]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=1e2", "before=-1", f"before={2**63}", "page=1"]
)
async def test_a_query_at_fault_is_named(receiver, query):
    answer = await receiver.call("GET", f"/v1/accounts/sample/trades?{query}")

    assert (400, [query.partition("=")[0]]) == (answer.status, keys_of(answer.json))


async def test_a_price_is_told_and_traded_at(receiver):
    answer = await receiver.call("PUT", "/v1/prices/XAUUSD", {"price": "2100.50"})
    await receiver.send("OPEN", 1)

    assert ("XAUUSD", "2100.50") == (answer.json["ticker"], answer.json["price"])
    assert "2100.50" == (await receiver.account())["positions"][0]["price"]


async def test_only_the_price_feeder_tells_prices(receiver):
    answer = await receiver.call("PUT", "/v1/prices/XAUUSD", {"price": "1.00"}, authorization=OTHER)

    assert 403 == answer.status


async def test_a_price_of_what_is_not_in_the_catalogue_is_404(receiver):
    assert 404 == (await receiver.call("PUT", "/v1/prices/BTCUSD", {"price": "1.00"})).status


@pytest.mark.parametrize(
    "price", ["0", "0.00", "-1", "1e3", "NaN", "", " 1", "1,5", "1" * 13, "1.123456789", 2000, None]
)
async def test_a_price_is_a_plain_decimal_string_above_zero(receiver, price):
    answer = await receiver.call("PUT", "/v1/prices/XAUUSD", {"price": price})

    assert (400, ["price"]) == (answer.status, keys_of(answer.json))


@pytest.mark.parametrize(
    "secret", ["", "whsec_", SECRET[6:], "whsec_?", "whsec_" + "A" * 28, "whsec_" + "A" * 92, 7]
)
async def test_a_secret_is_a_standard_webhooks_secret(receiver, secret):
    answer = await receiver.call("PUT", "/v1/accounts/sample/webhook-secret", {"secret": secret})

    assert (400, ["secret"]) == (answer.status, keys_of(answer.json))


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/webhook/sample", {"v1": {"event": signal("OPEN")}}),
        *[("PUT", *call[1:]) for call in ACCOUNT_CALLS[2:]],
        ("PUT", "/v1/prices/XAUUSD", {"price": "1.00"}),
    ],
    ids=["webhook", "secret", "price"],
)
async def test_a_browser_changes_nothing_for_another_sites_page(receiver, method, path, body, headers):
    answer = await receiver.call(method, path.format("sample"), body, **headers)

    assert (403, "ForbiddenError") == (answer.status, answer.json["id"])
    assert [] == await receiver.trades()


async def test_a_browser_may_read_and_change_from_an_own_page(receiver):
    own = {"Origin": receiver.url, "Sec-Fetch-Site": "same-origin"}
    statuses = [
        (await receiver.call("PUT", "/v1/prices/XAUUSD", {"price": "1.00"}, **own)).status,
        (await receiver.call("GET", "/v1/accounts/sample/positions", **FOREIGN[2])).status,
    ]

    assert [200, 200] == statuses
