"""The patterns of the OpenAPI documents in the engine that they are written for: Node's.

For each field the pattern accepts what the service accepts; where the rule fits into a pattern, also nothing else.
"""

import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from hypothesis import given, strategies
from marshmallow import Schema, ValidationError

from central_directory.schemas import NewResource
from chassis.openapi import schema_of
from integrations.api.schemas import NewIntegration
from quoting.json_schema import amount_pattern
from quoting.schemas import RESERVATION, Payment, Reservation, exponents
from signal_receiver.schemas import NewPrice, NewSecret
from support.messages import QUOTE
from support.openapi_documents import SERVICES, document, patterns

NODE: Final = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="NOT RUN: patterns in Node, because node is missing")

SCRIPT: Final = """
const tests = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(tests.map(([pattern, values]) => {
  const expression = new RegExp(pattern, "u");
  return values.map((value) => expression.test(value));
})));
"""
EXACT: Final = (
    (Reservation, "identifier", ["30754016", "a", "ä b", "x" * 128]),
    (Reservation, "identifierType", ["eur", "a_b-c", "0" * 32]),
    (Reservation, "transferType", ["p2p", "A_b-0"]),
    (Reservation, "currencyCode", ["USD", "JPY", "KWD", "XAU", "usd"]),
    (Reservation, "currencySymbol", ["$", "лв", "12345678"]),
    (
        Payment,
        "sourceAmount",
        ["12.50", "0.01", "0", "0.0", "1" * 18, "1" * 19, "0." + "0" * 16 + "1", "0." + "0" * 17 + "1", "1" + "0" * 16 + ".1"],
    ),
    (
        Reservation,
        "account",
        [
            "http://ledger.example:8088/ilp/bob?a=b#c",
            "HTTPS://a",
            "http://a:",
            "http://a:00080/",
            "http://a:65536",
            "http://[::1]/x",
            "http://[2001:db8::1]:80",
            "http://[::ffff:1.2.3.4]",
            "http://user@a/",
            "http://a/@b",
            "http://a?@",
            "http://日本.example/",
            "http://",
            "ftp://a",
        ],
    ),
    (NewResource, "spspReceiver", ["http://127.0.0.1:8013", "http://a:0/b/", "http://a?b", "https://[::1]:1/x"]),
    (NewPrice, "price", ["2000.00", "0.00000001", "0", "1" * 12 + ".5", "1" * 13]),
    (NewSecret, "secret", ["whsec_" + "A" * 32, "whsec_" + "A" * 84 + "AA==", "whsec_" + "A" * 31 + "=", "whsec_" + "A" * 28]),
)  # fmt: skip
WIDER: Final = (
    (NewIntegration, "name", ["user@example.com", "Ä b", " ", "a\u200bb", "\u2800", "👩\u200d👩"]),
    (NewIntegration, "imageUrl", ["https://foo.bar/logo.png", "http://a:x", "http://a@b/", "data:,"]),
    (NewIntegration, "userEmail", ["user@example.com", "a@b", "a b@c", "@", "a@b@c"]),
)
CHANGES: Final = '0159.:/@#?[]-_ aZé\u00a0\u2003\n\t\u0085\ufeff=+\\"\u3000٣'


def in_node(tests: list[tuple[str, list[str]]]) -> list[list[bool]]:
    """Whether each pattern accepts each of its values."""
    done = subprocess.run(
        [NODE, "-e", SCRIPT], input=json.dumps(tests), capture_output=True, text=True, check=True, timeout=120
    )
    found: list[list[bool]] = json.loads(done.stdout)
    return found


def changed(values: list[str]) -> Iterator[str]:
    """The values, and values that differ from one of them in one to three characters."""
    chance = random.Random(1)
    yield from values
    for _ in range(2_000):
        text = list(chance.choice(values))
        for _ in range(chance.randint(1, 3)):
            at = chance.randint(0, len(text))
            text[at : at + chance.randint(0, 1)] = chance.choice(["", *CHANGES])
        yield "".join(text)


def is_accepted(schema: type[Schema], name: str) -> Callable[[str], bool]:
    field = schema().fields[name]

    def accepts(value: str) -> bool:
        try:
            field.deserialize(value)
        except ValidationError:
            return False
        return True

    return accepts


def by_json_schema(schema: dict[str, Any], values: list[str], matched: list[bool]) -> list[bool]:
    """Whether the rest of the JSON Schema accepts the values that the pattern matched."""
    least, most = schema.get("minLength", 0), schema.get("maxLength", float("inf"))
    allowed = schema.get("enum")
    return [
        is_match and least <= len(value) <= most and (allowed is None or value in allowed)
        for value, is_match in zip(values, matched, strict=True)
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_every_pattern_of_a_document_compiles(service, users_file, tmp_path):
    found = sorted(set(patterns(document(service, users_file, tmp_path))))

    assert [[]] * len(found) == in_node([(each, []) for each in found])


@pytest.mark.parametrize(
    ("schema", "name", "samples"), EXACT, ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_pattern_accepts_exactly_what_the_service_accepts(schema, name, samples):
    described, values = schema_of(schema().fields[name]), list(changed(samples))
    [matched] = in_node([(described["pattern"], values)])
    by_service = list(map(is_accepted(schema, name), values))

    assert {True, False} == set(by_service)
    differing = [
        (value, wanted)
        for value, wanted, found in zip(
            values, by_service, by_json_schema(described, values, matched), strict=True
        )
        if wanted != found
    ]
    assert [] == differing


@pytest.mark.parametrize(
    ("schema", "name"), [(schema, name) for schema, name, _ in EXACT if name != "currencyCode"]
)
@given(data=strategies.data())
def test_the_service_accepts_what_a_pattern_makes(schema, name, data):
    described = schema_of(schema().fields[name])
    expression = re.compile(described["pattern"].removesuffix("$") + r"\Z")
    value = data.draw(strategies.from_regex(expression))
    [is_allowed] = by_json_schema(described, [value], [True])

    assert not is_allowed or is_accepted(schema, name)(value), value


@pytest.mark.parametrize(
    ("schema", "name", "samples"), WIDER, ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_pattern_accepts_what_the_service_accepts(schema, name, samples):
    described, values = schema_of(schema().fields[name]), list(changed(samples))
    [matched] = in_node([(described["pattern"], values)])
    accepts = is_accepted(schema, name)

    found = by_json_schema(described, values, matched)
    assert [] == [
        value for value, is_match in zip(values, found, strict=True) if accepts(value) and not is_match
    ]
    assert {True, False} == set(found)


@pytest.mark.parametrize("currency", ["JPY", "USD", "KWD", "CLF"])
def test_the_pattern_of_an_amount_in_a_currency_accepts_exactly_what_the_service_accepts(currency):
    values = list(changed(["12.50", "0.01", "12", "0.001", "0.0001", "1" * 18, "0", "0.10"]))
    [matched] = in_node([(amount_pattern(exponents()[currency]), values)])

    def accepts(amount: str) -> bool:
        return not RESERVATION.validate({**QUOTE, "currencyCode": currency, "amount": amount})

    found = by_json_schema({"maxLength": 19}, values, matched)
    assert [] == [
        (value, is_match) for value, is_match in zip(values, found, strict=True) if accepts(value) != is_match
    ]
