"""The API for the receiver's users."""

import base64

from support.messages import keys_of
from support.receiver import OTHER, signal

SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()
ACCOUNT_CALLS = [
    ("GET", "/v1/accounts/{}/positions", None),
    ("GET", "/v1/accounts/{}/trades", None),
    ("PUT", "/v1/accounts/{}/webhook-secret", {"secret": SECRET}),
]


async def test_only_its_owner_sees_an_account(receiver):
    for method, path, body in ACCOUNT_CALLS:
        statuses = [
            (await receiver.call(method, path.format(account), body, authorization=authorization)).status
            for account, authorization in (
                ("others", OTHER),
                ("sample", OTHER),
                ("unknown", OTHER),
                ("sample", None),
            )
        ]

        assert [204 if method == "PUT" else 200, 404, 404, 401] == statuses, path


async def test_an_impossible_account_id_is_404(receiver):
    for method, path, body in ACCOUNT_CALLS:
        for id_ in ("%00", "sample%00", "%ff", "%ed%a0%80", "a%20b", "x" * 65):
            assert 404 == (await receiver.call(method, path.format(id_), body)).status, (path, id_)


async def test_trades_are_listed_newest_first_and_in_pages(receiver):
    for number in range(3):
        await receiver.send("OPEN", 1, strategy=f"strategy-{number}")
    page = (await receiver.call("GET", "/v1/accounts/sample/trades?limit=2")).json["trades"]
    rest = (await receiver.call("GET", f"/v1/accounts/sample/trades?before={page[-1]['id']}")).json["trades"]

    assert [["strategy-2", "strategy-1"], ["strategy-0"]] == [
        [trade["strategyId"] for trade in trades] for trades in (page, rest)
    ]


async def test_an_invalid_query_names_the_parameter_at_fault(receiver):
    for query in ("limit=0", "limit=501", "limit=1e2", "before=-1", f"before={2**63}", "page=1"):
        answer = await receiver.call("GET", f"/v1/accounts/sample/trades?{query}")

        assert (400, [query.partition("=")[0]]) == (answer.status, keys_of(answer.json)), query


async def test_positions_are_opened_at_the_price_that_was_set(receiver):
    answer = await receiver.call("PUT", "/v1/prices/XAUUSD", {"price": "2100.50"})
    await receiver.send("OPEN", 1)

    assert ("XAUUSD", "2100.50") == (answer.json["ticker"], answer.json["price"])
    assert "2100.50" == (await receiver.account())["positions"][0]["price"]


async def test_only_the_price_feeder_sets_prices(receiver):
    answer = await receiver.call("PUT", "/v1/prices/XAUUSD", {"price": "1.00"}, authorization=OTHER)

    assert 403 == answer.status


async def test_the_price_of_an_unknown_instrument_cannot_be_set(receiver):
    assert 404 == (await receiver.call("PUT", "/v1/prices/BTCUSD", {"price": "1.00"})).status


async def test_a_price_is_a_plain_decimal_string_above_zero(receiver):
    for price in ("0", "0.00", "-1", "1e3", "NaN", "", " 1", "1,5", "1" * 13, "1.123456789", 2000, None):
        answer = await receiver.call("PUT", "/v1/prices/XAUUSD", {"price": price})

        assert (400, ["price"]) == (answer.status, keys_of(answer.json)), price


async def test_a_secret_is_a_standard_webhooks_secret(receiver):
    for secret in ("", "whsec_", SECRET[6:], "whsec_?", "whsec_" + "A" * 28, "whsec_" + "A" * 92, 7):
        answer = await receiver.call("PUT", "/v1/accounts/sample/webhook-secret", {"secret": secret})

        assert (400, ["secret"]) == (answer.status, keys_of(answer.json)), secret


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


async def test_a_page_of_another_site_can_change_nothing(receiver):
    for headers in FOREIGN:
        for method, path, body in (
            ("POST", "/webhook/sample", {"v1": {"event": signal("OPEN")}}),
            *ACCOUNT_CALLS[2:],
            ("PUT", "/v1/prices/XAUUSD", {"price": "1.00"}),
        ):
            answer = await receiver.call(method, path.format("sample"), body, **headers)

            assert (403, "ForbiddenError") == (answer.status, answer.json["id"]), (path, headers)
    assert [] == await receiver.trades()


async def test_a_page_of_this_site_can_change_and_any_page_can_read(receiver):
    own = {"Origin": receiver.url, "Sec-Fetch-Site": "same-origin"}
    statuses = [
        (await receiver.call("PUT", "/v1/prices/XAUUSD", {"price": "1.00"}, **own)).status,
        (await receiver.call("GET", "/v1/accounts/sample/positions", **FOREIGN[2])).status,
    ]

    assert [200, 200] == statuses
