"""SIGHUP reads the instruments file again."""

import json

import pytest

from chassis.logs import LogWriter
from signal_receiver.app import create_app
from support.internals import reload
from support.receiver import Sender, instrument, ready, settings_of
from support.serving import served


@pytest.fixture
async def app(database_url, users_file, tmp_path):
    return create_app(settings_of(database_url, users_file, tmp_path, catalogue=instrument()))


@pytest.fixture
def lines(monkeypatch) -> list[dict]:
    found: list[dict] = []
    monkeypatch.setattr(LogWriter, "write", lambda _self, new, *, now: found.extend(map(json.loads, new)))
    return found


@pytest.fixture
async def receiver(app, lines, client):
    async with served(app) as url:
        sender = Sender(client, url)
        await ready(sender)
        yield sender


async def test_a_new_instrument_can_be_traded_after_sighup_and_has_its_first_price(
    app, receiver, lines, tmp_path
):
    before = await receiver.send("OPEN", 1, ticker="XAGUSD", strategy="silver")
    (tmp_path / "instruments.toml").write_text(instrument() + instrument("XAGUSD", most='"5"'))
    await reload(app)
    after = [await receiver.send("OPEN", count, ticker="XAGUSD", strategy="silver") for count in (6, 1)]

    assert (422, "UnsupportedInstrument") == before.outcome
    assert [(422, "QuantityTooHigh"), (200, None)] == [each.outcome for each in after]
    (reloaded,) = [line for line in lines if line["event"] == "the instruments file was reloaded"]
    assert 2 == reloaded["instruments"]


async def test_instruments_that_are_refused_change_nothing(app, receiver, lines, tmp_path):
    (tmp_path / "instruments.toml").write_text(instrument("XAGUSD") + instrument("XAUUSD", step='"0"'))
    await reload(app)

    assert (200, None) == (await receiver.send("OPEN", 1)).outcome
    assert (422, "UnsupportedInstrument") == (await receiver.send("OPEN", 1, ticker="XAGUSD")).outcome
    (refused,) = [line for line in lines if "stays in force" in line["event"]]
    assert "the instruments file is refused; the previous content stays in force" == refused["event"]
    assert "instruments.toml, line" in refused["cause"]
    assert "XAUUSD: step must be above 0" in refused["cause"]
