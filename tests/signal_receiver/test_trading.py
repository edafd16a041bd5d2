"""How signals change an account."""

import asyncio
from decimal import Decimal

from support.receiver import instrument, number, signal

NOW = 1549623690730


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


async def test_closing_adds_the_profit_and_frees_the_margin(receiver):
    for direction, price, funds in (
        ("BUY", "2001.50", "10015.00"),
        ("BUY", "1999.00", "10005.00"),
        ("SELL", "1999.00", "10015.00"),
    ):
        await receiver.price("2000.00")
        await receiver.send("OPEN", 10, direction=direction)
        await receiver.price(price)
        answer = await receiver.send("CLOSE")

        assert 200 == answer.status
        assert {"funds": funds, "freeFunds": funds, "positions": []} == await receiver.account()


async def test_a_loss_is_capped_at_the_accounts_funds(receiver):
    await receiver.send("OPEN", 100)
    await receiver.price("0.01")
    answer = await receiver.send("CLOSE")

    assert 200 == answer.status
    assert Decimal(0) == await receiver.funds()
    assert ["-10000.00"] == [trade["profit"] for trade in await receiver.trades() if trade["profit"]]


async def test_a_reopen_closes_and_opens_in_the_other_direction(receiver):
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


async def test_a_reopen_that_cannot_open_still_closes(receiver):
    for changed, type_ in (
        ({"quantity": 1000.01}, "QuantityTooHigh"),
        ({"quantity": 0}, "QuantityTooLow"),
        ({"quantity": 900}, "InsufficientFunds"),
        ({"ticker": "BTCUSD"}, "UnsupportedInstrument"),
    ):
        await receiver.send("OPEN", 10)
        answer = await receiver.send("REOPEN", **{"quantity": 5, "direction": "SELL", **changed})

        assert type_ == answer.outcome[1]
        assert [] == (await receiver.account())["positions"]


async def test_a_close_ignores_direction_ticker_and_quantity(receiver):
    await receiver.send("OPEN", 10)
    answer = await receiver.send("CLOSE", "all of it", direction="SIDEWAYS", ticker="EURUSD", position=7.5)

    assert 400 == answer.status, "a position's id is a string"

    answer = await receiver.send("CLOSE", "all of it", direction="SIDEWAYS", ticker="EURUSD")

    assert 200 == answer.status
    assert [] == (await receiver.account())["positions"]


async def test_a_close_without_a_position_id_closes_the_open_position(receiver):
    without = signal("CLOSE", timestamp=NOW + 3)
    del without["data"]["proquantPositionId"]
    for close in (signal("CLOSE", position=None, timestamp=NOW + 1), without):
        await receiver.send("OPEN", 1, timestamp=NOW)
        answer = await receiver.deliver(close)

        assert (200, None) == answer.outcome
        assert [] == (await receiver.account())["positions"]


async def test_a_stale_close_does_not_close_the_newer_position(receiver):
    """The position that the CLOSE names is closed already."""
    await receiver.send("OPEN", 1, position="p1", timestamp=NOW)
    await receiver.send("CLOSE", position="p1", timestamp=NOW + 1)
    await receiver.send("OPEN", 1, position="p2", timestamp=NOW + 2)
    stale = [
        await receiver.deliver(signal("CLOSE", position="p1", timestamp=timestamp), webhook_id)
        for timestamp in (NOW + 1, NOW + 2, NOW + 3)
        for webhook_id in ("msg_1", None)
    ]
    open_ones = (await receiver.account())["positions"]
    closed = await receiver.send("CLOSE", position="p2", timestamp=NOW + 4)

    # without a webhook-id the first is the CLOSE that was executed, sent again
    assert [(404, "PositionNotFound"), (200, None), *[(404, "PositionNotFound")] * 4] == [
        answer.outcome for answer in stale
    ]
    assert ["p2"] == [position["proquantPositionId"] for position in open_ones]
    assert (200, None) == closed.outcome


async def test_a_close_that_is_older_than_the_open_position_does_not_close_it(receiver):
    """The position that the CLOSE names was never opened here."""
    await receiver.send("OPEN", 1, position="p2", timestamp=NOW)
    answer = await receiver.send("CLOSE", position="p1", timestamp=NOW - 1)

    assert (404, "PositionNotFound") == answer.outcome
    assert 1 == len((await receiver.account())["positions"])


async def test_stale_closes_in_one_batch_with_the_newer_open_do_not_close_it(receiver):
    """All events of an account that arrive together are executed from one snapshot."""
    await receiver.send("OPEN", 1, position="p1")
    await asyncio.gather(
        receiver.send("CLOSE", position="p1"),
        receiver.send("OPEN", 1, position="p2"),
        *(receiver.deliver(signal("CLOSE", position="p1"), f"msg_{number}") for number in range(5)),
    )
    positions = (await receiver.account())["positions"]

    assert {"p2"} >= {position["proquantPositionId"] for position in positions}
    closed = [trade["proquantPositionId"] for trade in await receiver.trades() if trade["action"] == "CLOSE"]
    assert ["p1"] == closed


async def test_a_close_closes_a_position_that_a_lost_reopen_would_have_replaced(receiver):
    """Nothing may leave a position open that the strategy has given up."""
    await receiver.send("OPEN", 1, position="p1", timestamp=NOW)
    answer = await receiver.send("CLOSE", position="p2", timestamp=NOW + 1)

    assert (200, None) == answer.outcome
    assert [] == (await receiver.account())["positions"]


async def test_each_strategy_has_its_own_position(receiver):
    for strategy in ("gold", "silver"):
        await receiver.send("OPEN", 1, strategy=strategy)
    await receiver.send("CLOSE", strategy="gold")

    assert ["silver"] == [position["strategyId"] for position in (await receiver.account())["positions"]]


async def test_each_typed_error_has_its_status_and_body(receiver, start):
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


async def test_a_quantity_is_the_number_as_it_is_written(receiver):
    for text, type_ in QUANTITIES.items():
        answer = await receiver.deliver(number(signal("OPEN", strategy=text[:24]), text))

        assert (200 if type_ is None else 422, type_) == answer.outcome, text[:24]


async def test_a_quantity_that_is_not_a_json_number_gets_an_untyped_400(receiver):
    for text in ("NaN", "Infinity", '"10"', "null", "true", "[1]", "{}", "01", "+1", "1.", ".5", "1e", "0x1"):
        answer = await receiver.deliver(number(signal("OPEN"), text))

        assert (400, None) == answer.outcome, text
    assert [] == await receiver.trades()


async def test_the_step_is_checked_before_the_minimum(start):
    sender = await start(catalogue=instrument(least='"0.10"'))
    answers = [await sender.send("OPEN", quantity) for quantity in (0.09, 0.095)]

    assert ["QuantityTooLow", "InvalidQuantityPrecision"] == [answer.outcome[1] for answer in answers]


async def test_a_margin_is_rounded_up_to_the_cent(start):
    sender = await start(catalogue=instrument(price='{source = "table", first = "0.01"}'))
    await sender.send("OPEN", 0.01)

    assert "9999.99" == (await sender.account())["freeFunds"]
