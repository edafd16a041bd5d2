"""What signals do to an account (design, "Receiver")."""

from decimal import Decimal

import pytest

from support.receiver import instrument, number, signal


async def test_an_open_signal_opens_a_position_that_holds_its_margin(receiver):
    answer = await receiver.send("OPEN", 10, strategy="gold", position="p1")
    account = await receiver.account()

    assert (200, b"") == (answer.status, answer.body)
    assert ("10000.00", "9000.00") == (account["funds"], account["freeFunds"])
    (position,) = account["positions"]
    assert {
        "strategyId": "gold",
        "proquantPositionId": "p1",
        "ticker": "XAUUSD",
        "direction": "BUY",
        "quantity": "10",
        "price": "2000.00",
        "margin": "1000.00",
    } == {name: value for name, value in position.items() if name != "opened"}


@pytest.mark.parametrize(
    ("direction", "price", "funds"),
    [("BUY", "2001.50", "10015.00"), ("BUY", "1999.00", "9990.00"), ("SELL", "1999.00", "10010.00")],
)
async def test_closing_books_the_profit_and_frees_the_margin(receiver, direction, price, funds):
    await receiver.send("OPEN", 10, direction=direction)
    await receiver.price(price)
    answer = await receiver.send("CLOSE")
    account = await receiver.account()

    assert 200 == answer.status
    assert {"funds": funds, "freeFunds": funds, "positions": []} == account


async def test_a_loss_is_capped_at_the_accounts_funds(receiver):
    await receiver.send("OPEN", 100)
    await receiver.price("0.01")
    answer = await receiver.send("CLOSE")

    assert 200 == answer.status
    assert Decimal(0) == await receiver.funds()
    assert ["-10000.00"] == [trade["profit"] for trade in await receiver.trades() if trade["profit"]]


async def test_a_reopen_closes_and_opens_the_other_way_round(receiver):
    await receiver.send("OPEN", 10, direction="BUY")
    await receiver.price("2010.00")
    answer = await receiver.send("REOPEN", 5, direction="SELL")
    (position,) = (await receiver.account())["positions"]

    assert 200 == answer.status
    assert ("SELL", "5", "2010.00") == (position["direction"], position["quantity"], position["price"])
    assert [("OPEN", "10"), ("CLOSE", "10"), ("OPEN", "5")] == [
        (trade["action"], trade["quantity"]) for trade in await receiver.trades()
    ]
    assert Decimal("10100.00") == await receiver.funds()


async def test_a_reopen_without_an_open_position_is_an_open(receiver):
    answer = await receiver.send("REOPEN", 5, direction="SELL")

    assert 200 == answer.status
    assert ["OPEN"] == [trade["action"] for trade in await receiver.trades()]


@pytest.mark.parametrize(
    ("changed", "type_"),
    [
        ({"quantity": 1000.01}, "QuantityTooHigh"),
        ({"quantity": 0}, "QuantityTooLow"),
        ({"quantity": 900}, "InsufficientFunds"),
        ({"ticker": "BTCUSD"}, "UnsupportedInstrument"),
    ],
)
async def test_where_the_opening_of_a_reopen_fails_the_closing_stands(receiver, changed, type_):
    await receiver.send("OPEN", 10)
    answer = await receiver.send("REOPEN", **{"quantity": 5, "direction": "SELL", **changed})

    assert type_ == answer.outcome[1]
    assert [] == (await receiver.account())["positions"]


async def test_a_close_closes_the_whole_position_whatever_else_it_says(receiver):
    await receiver.send("OPEN", 10)
    answer = await receiver.send("CLOSE", "all of it", direction="SIDEWAYS", ticker="EURUSD", position=7.5)

    assert 400 == answer.status, "the position's id is text"

    answer = await receiver.send("CLOSE", "all of it", direction="SIDEWAYS", ticker="EURUSD")

    assert 200 == answer.status
    assert [] == (await receiver.account())["positions"]


async def test_strategies_have_positions_of_their_own(receiver):
    for strategy in ("gold", "silver"):
        await receiver.send("OPEN", 1, strategy=strategy)
    await receiver.send("CLOSE", strategy="gold")

    assert ["silver"] == [position["strategyId"] for position in (await receiver.account())["positions"]]


async def test_each_typed_error_has_its_status_and_form(receiver, start):
    """Guide: Implementing and returning these specific Event Errors is optional, but recommended..."""
    closed = await start(catalogue=instrument("XAUUSD") + instrument("CLOSED", open="[]"), port=0)
    await receiver.send("OPEN", 1, strategy="open")
    answers = [
        await receiver.send("OPEN", token="nobodys-token"),
        await receiver.send("OPEN", ticker="BTCUSD"),
        await receiver.send("CLOSE"),
        await receiver.send("OPEN", strategy="open"),
        await closed.send("OPEN", ticker="CLOSED"),
        await receiver.send("OPEN", 1001),
        await receiver.send("OPEN", 0.015),
        await receiver.send("OPEN", 0),
        await receiver.send("OPEN", 999),
    ]

    assert [
        (401, "InvalidCredentials"),
        (422, "UnsupportedInstrument"),
        (404, "PositionNotFound"),
        (409, "PositionAlreadyExists"),
        (422, "MarketClosed"),
        (422, "QuantityTooHigh"),
        (422, "InvalidQuantityPrecision"),
        (422, "QuantityTooLow"),
        (422, "InsufficientFunds"),
    ] == [answer.outcome for answer in answers]
    for answer in answers:
        assert "application/json" == answer.headers["Content-Type"].partition(";")[0]
        assert {"type", "message"} == set(answer.json)


QUANTITIES = {
    "0.0001": "InvalidQuantityPrecision",
    "1e-4": "InvalidQuantityPrecision",
    "1E-4": "InvalidQuantityPrecision",
    "1e-400": "InvalidQuantityPrecision",
    "1e-99999999999999999999": "InvalidQuantityPrecision",
    "1e-999999999999999999": "InvalidQuantityPrecision",
    "1." + "0" * 40 + "1": "InvalidQuantityPrecision",
    "0.015": "InvalidQuantityPrecision",
    "-1": "QuantityTooLow",
    "-1e400": "QuantityTooLow",
    "-1e-400": "QuantityTooLow",
    "0": "QuantityTooLow",
    "-0": "QuantityTooLow",
    "0.00": "QuantityTooLow",
    "0e99999999999999999999": "QuantityTooLow",
    "1e400": "QuantityTooHigh",
    "1e999999999999999999": "QuantityTooHigh",
    "1e99999999999999999999": "QuantityTooHigh",
    "1000.0001": "QuantityTooHigh",
    "9" * 5_000: "QuantityTooHigh",
    "0.03": None,
    "3e-2": None,
    "0.0300": None,
    "100e-2": None,
    "0.1e1": None,
}


@pytest.mark.parametrize(("text", "type_"), QUANTITIES.items(), ids=[text[:24] for text in QUANTITIES])
async def test_a_quantity_is_what_is_written_and_is_answered_as_designed(receiver, text, type_):
    answer = await receiver.deliver(number(signal("OPEN"), text))

    assert (200 if type_ is None else 422, type_) == answer.outcome


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", '"10"', "null", "true", "[1]", "{}", "01", "+1", "1.", ".5", "1e", "0x1"]
)
async def test_what_is_no_number_is_a_plain_400(receiver, text):
    answer = await receiver.deliver(number(signal("OPEN"), text))

    assert (400, None) == answer.outcome
    assert [] == await receiver.trades()


async def test_a_quantity_below_the_least_is_too_low_once_it_is_a_multiple_of_the_step(start):
    sender = await start(catalogue=instrument(least='"0.10"'))
    answers = [await sender.send("OPEN", quantity) for quantity in (0.09, 0.095)]

    assert ["QuantityTooLow", "InvalidQuantityPrecision"] == [answer.outcome[1] for answer in answers]


async def test_a_margin_is_rounded_up_to_the_cent(start):
    sender = await start(catalogue=instrument(price='{source = "table", first = "0.01"}'))
    await sender.send("OPEN", 0.01)

    assert "9999.99" == (await sender.account())["freeFunds"]
