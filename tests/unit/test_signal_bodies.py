"""The fast decoder of signals and the schema accept the same bodies."""

import json

import pytest

from chassis.errors import InvalidBodyError
from chassis.schemas import parse
from integrations.api import schemas

PLAIN = {
    "signalId": "one",
    "type": "OPEN",
    "direction": "BUY",
    "ticker": "XAUUSD",
    "quantity": 10,
    "proquantPositionId": "position-1",
}


def written(text=None, **changed):
    return (text or json.dumps({**PLAIN, **changed}, ensure_ascii=False)).encode()


def by_schema(body):
    try:
        return parse(schemas.NEW_SIGNAL, body)
    except InvalidBodyError as error:
        return [(fault.key, fault.message) for fault in error.faults]


def by_either(body):
    try:
        return schemas.parse_signal(body)
    except InvalidBodyError as error:
        return [(fault.key, fault.message) for fault in error.faults]


TEXT = written().decode()
BODIES = {
    "plain": written(),
    "in another order, with white space": written(json.dumps(dict(reversed(PLAIN.items())), indent=1)),
    "a number as it was written": written(TEXT.replace(": 10,", ": 10.50,")),
    "no ASCII": written(ticker="GOLD\u00fc"),
    "escapes": written(TEXT.replace("XAU", "X\\u0041U")),
    "a control character": written(ticker="GOLD\u0085"),
    "a key twice": written(TEXT[:-1] + ', "quantity": 11}'),
    "a key twice and another missing": written(
        TEXT.replace('"proquantPositionId": "position-1"', '"signalId": "two"')
    ),
    "a field too many": written(more=1),
    "a field too few": written(TEXT.replace('"quantity": 10, ', "")),
    "another type": written(type="SHUT"),
    "too long": written(ticker="x" * 65),
    "as long as may be": written(ticker="\u00fc" * 64),
    "empty": written(signalId=""),
    "a quantity that is a string": written(quantity="10"),
    "a quantity of zero": written(TEXT.replace(": 10,", ": 0.0,")),
    "a quantity with an exponent": written(TEXT.replace(": 10,", ": 1e3,")),
    "a quantity that is none": written(TEXT.replace(": 10,", ": null,")),
    "a quantity of too many digits": written(TEXT.replace(": 10,", f": {'1' * 19},")),
    "no UTF-8": written().replace(b"XAU", b"X\xff\xfe"),
    "no JSON": written(TEXT[:-1]),
    "more behind it": written(TEXT + " 1"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_fast_decoder_and_the_schema_agree(body):
    assert by_schema(body) == by_either(body)


@pytest.mark.parametrize("name", ["plain", "a number as it was written", "no ASCII", "as long as may be"])
def test_a_plain_body_does_not_reach_the_schema(name, monkeypatch):
    monkeypatch.setattr(schemas, "parse", None)

    assert "one" == schemas.parse_signal(BODIES[name])["signalId"]
