"""The typed errors as the guide describes them ("Responding to Events"); test_market.py has MarketClosed."""

import pytest

from support.receiver import instrument, number, signal

OPENING = ("OPEN", "REOPEN")


@pytest.mark.parametrize("kind", OPENING)
async def test_insufficient_funds(receiver, kind):
    """Guide: The user's account in your system did not have enough funds to handle the SIGNAL_OPEN/SIGNAL_REOPEN
    Event.
    """
    assert "InsufficientFunds" == (await receiver.send(kind, 101)).outcome[1]
    assert "InsufficientFunds" == (await receiver.send(kind, 1, token="poor-token")).outcome[1]
    assert 200 == (await receiver.send(kind, 100)).status


@pytest.mark.parametrize("kind", OPENING)
async def test_quantity_too_low(start, kind):
    """Guide: ...is lower than the minimum allowed in your system, for the requested ticker."""
    sender = await start(catalogue=instrument(least='"0.10"'))

    assert "QuantityTooLow" == (await sender.send(kind, 0.09)).outcome[1]
    assert 200 == (await sender.send(kind, 0.1)).status


@pytest.mark.parametrize("kind", OPENING)
async def test_quantity_too_high(receiver, kind):
    """Guide: ...is higher than the maximum allowed in your system, for the requested ticker."""
    assert "QuantityTooHigh" == (await receiver.send(kind, 1000.01)).outcome[1]
    assert "InsufficientFunds" == (await receiver.send(kind, 1000)).outcome[1]


@pytest.mark.parametrize("kind", OPENING)
async def test_invalid_quantity_precision(receiver, kind):
    """Guide: ...is not supported by your system (e.g. buying 0.0001 units of XAUUSD)."""
    answer = await receiver.deliver(number(signal(kind), "0.0001"))

    assert "InvalidQuantityPrecision" == answer.outcome[1]


@pytest.mark.parametrize("kind", OPENING)
async def test_unsupported_instrument(receiver, kind):
    """Guide: The requested instrument in the SIGNAL_OPEN/SIGNAL_REOPEN Event is not supported by your system."""
    assert "UnsupportedInstrument" == (await receiver.send(kind, ticker="BTCUSD")).outcome[1]


async def test_position_already_exists(receiver):
    """Guide: A strategy can have up to 1 positions open at any given time. If you receive SIGNAL_OPEN from a strategy
    that already has an open position in your system, you should error out with PositionAlreadyExists.
    """
    await receiver.send("OPEN", 1)
    again = [
        await receiver.send("OPEN", 1, **more) for more in ({}, {"ticker": "EURUSD"}, {"direction": "SELL"})
    ]

    assert ["PositionAlreadyExists"] * 3 == [answer.outcome[1] for answer in again]
    assert 1 == len((await receiver.account())["positions"])


async def test_position_not_found(receiver):
    """Guide: You received SIGNAL_CLOSE but there isn't any open position from this strategy in your system."""
    await receiver.send("OPEN", 1, strategy="another")

    assert "PositionNotFound" == (await receiver.send("CLOSE")).outcome[1]


async def test_invalid_credentials(receiver):
    """Guide: You weren't able to identify and/or authorize the user this Event was meant for."""
    for token in ("nobodys-token", "guarded-token"):
        for kind in ("OPEN", "CLOSE", "REOPEN"):
            assert "InvalidCredentials" == (await receiver.send(kind, token=token)).outcome[1]
