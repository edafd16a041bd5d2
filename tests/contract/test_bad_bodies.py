"""Bad input at each hop that reads bodies: a 4xx that names the field, and nothing goes on (wire.md §7.7)."""

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.forwarders import DESTINATION, EXECUTE, QUOTE_REPLY, SOURCE, Answer, Ask, Hop, is_error_object
from support.messages import QUOTE, keys_of

MOST = 64 * 1024
WRITES = {"source": SOURCE, "destination": DESTINATION, "execute": EXECUTE}


@pytest.fixture(params=WRITES.values(), ids=WRITES.keys())
def ask(request) -> Ask:
    return request.param


def asked(hop: Hop, ask: Ask, body: bytes) -> Ask:
    """The request with this body; spsp-client gets the URL it needs, where the body is an object."""
    made = replace(ask, body=body)
    return hop.adapted(made) if body.rstrip().endswith(b"}") and body.strip() != b"{}" else made


async def refused(hop: Hop, ask: Ask, body: bytes) -> Answer:
    """The refusal of a body, which has gone nowhere."""
    answer = await hop.send(asked(hop, ask, body), adapt=False)

    assert (400, "InvalidBodyError") == (answer.status, answer.id)
    assert is_error_object(answer)
    assert [] == hop.next_hop.seen + hop.directory.seen
    return answer


def quote(**changed: object) -> bytes:
    return json.dumps({**QUOTE, **changed}).encode()


def with_raw(key: str, raw: bytes) -> bytes:
    """The sample with one value as these bytes."""
    return quote(**{key: "MARK"}).replace(b'"MARK"', raw)


NO_OBJECTS = {
    "nothing": b"",
    "blanks": b" \n\t ",
    "a list": b"[]",
    "a list of objects": b'[{"amount":"1"}]',
    "a string": b'"amount"',
    "a number": b"12.50",
    "a number of 60,000 digits": b"1" * 60_000,
    "null": b"null",
    "true": b"true",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "a form": b"amount=12.50&currencyCode=USD",
    "XML": b"<amount>12.50</amount>",
    "an open object": b'{"amount":"1"',
    "an open string": b'{"amount":"1',
    "an open key": b'{"amou',
    "a brace": b"{",
    "a closing brace": b"}",
    "a comma at the end": b'{"amount":"1",}',
    "a comma at the start": b'{,"amount":"1"}',
    "two commas": b'{"a":"1",,"b":"1"}',
    "no colon": b'{"amount" "1"}',
    "no value": b'{"amount":}',
    "no quotes": b'{amount:"1"}',
    "single quotes": b"{'amount':'1'}",
    "a comment": b'{"amount":"1"/**/}',
    "two objects": b'{"a":"1"}{"a":"1"}',
    "something behind": b'{"amount":"1"} x',
    "a byte order mark": b'\xef\xbb\xbf{"amount":"1"}',
    "UTF-16": '{"amount":"1"}'.encode("utf-16"),
    "UTF-32": '{"amount":"1"}'.encode("utf-32"),
    "a zero byte": b"\x00",
    "zero bytes": b"\x00" * 100,
    "a zero byte in front": b'\x00{"amount":"1"}',
    "a zero byte behind": b'{"amount":"1"}\x00',
    "no UTF-8": b"\xff\xfe\xfd",
    "no UTF-8 behind": b'{"amount":"1"}\xff',
    "20,000 brackets": b"[" * 20_000,
    "20,000 lists": b"[" * 20_000 + b"]" * 20_000,
    "65,536 braces": b"{" * MOST,
    "5,000 nested objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "an escape that is none": b'{"a":"\\x41"}',
    "half an escape": b'{"a":"\\u12"}',
    "half an escape in a key": b'{"\\u12":"1"}',
}


@pytest.mark.parametrize("body", NO_OBJECTS.values(), ids=NO_OBJECTS.keys())
async def test_what_is_no_json_object_is_refused(reader, body):
    answer = await refused(reader, SOURCE, body)

    assert keys_of(answer.json)


READ_BY_ALL = ["identifier", "identifierType"]
FIELDS = list(QUOTE)
RAW = {
    "a number": b"12.5",
    "a huge exponent": b"1e999999999",
    "a small exponent": b"1e-999999999",
    "5,000 digits": b"9" * 5_000,
    "null": b"null",
    "true": b"true",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "a list": b'["12.50"]',
    "an object": b'{"a":"12.50"}',
    "nothing": b'""',
    "a newline": b'"a\\nb"',
    "a zero": b'"a\\u0000b"',
    "delete": b'"\\u007f"',
    "a C1 control": b'"\\u0085"',
    "header injection": b'"x\\r\\nX-Injected: 1"',
    "a lone surrogate": b'"\\ud800"',
    "surrogates in the wrong order": b'"\\udc00\\ud800"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "no UTF-8": b'"\xff"',
    "an overlong slash": b'"\xc0\xaf"',
    "half a character": b'"\xe2\x82"',
    "a character beyond Unicode": b'"\xf4\x90\x80\x80"',
    "20,000 lists": b"[" * 20_000 + b"]" * 20_000,
    "a raw newline": b'"a\nb"',
    "a raw zero": b'"a\x00b"',
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
async def test_the_payer_names_the_field_at_fault(payer, raw):
    for key in FIELDS:
        answer = await refused(payer, SOURCE, with_raw(key, raw))

        assert {key} == set(keys_of(answer.json))
        value = answer.json["validationErrors"][0]["params"]["value"]
        assert value is None or isinstance(value, bool) or len(value) <= 64


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
async def test_the_proxy_names_the_field_at_fault(proxy, raw):
    for key in READ_BY_ALL:
        for ask in WRITES.values():
            answer = await refused(proxy, ask, with_raw(key, raw))

            assert [key] == keys_of(answer.json)


NOT_JSON = [
    "no UTF-8",
    "an overlong slash",
    "half a character",
    "20,000 lists",
    "a raw newline",
    "a raw zero",
]


@pytest.mark.parametrize("name", NOT_JSON)
async def test_what_is_not_json_is_named_by_field_also_where_the_field_is_not_read(reader, name):
    for ask in WRITES.values():
        answer = await refused(reader, ask, with_raw("currencySymbol", RAW[name]))

        assert ["currencySymbol"] == keys_of(answer.json)


async def test_a_field_that_is_there_twice_is_refused_by_name(reader, ask):
    for key in [*FIELDS, "", "\u00fc", "sourceAmount"]:
        member = json.dumps(key).encode() + b':"x"'
        twice = (b", " + member) * (1 if key in QUOTE else 2)

        answer = await refused(reader, ask, quote()[:-1] + twice + b"}")

        assert key in keys_of(answer.json)


async def test_a_key_written_in_two_ways_is_one_key(reader):
    answer = await refused(reader, SOURCE, quote()[:-1] + b', "\\u0061mount": "99.00"}')

    assert ["amount"] == keys_of(answer.json)


async def test_all_faults_are_told_at_once(payer):
    answer = await refused(payer, SOURCE, b'{"amount": 1, "x": 2, "currencySymbol": ""}')

    assert sorted([*QUOTE, "x"]) == sorted(set(keys_of(answer.json)))


@pytest.mark.parametrize(
    "key",
    ["x", "Amount", "amount ", "submissionUrl", "__proto__", "sourceAmount", "uuid", "\u0000", "\ud800"],
)
async def test_the_payer_takes_no_field_it_does_not_know(payer, key):
    answer = await refused(payer, SOURCE, quote(**{key: "1"}))

    expected = key.encode("utf-8", "replace").decode()
    assert [expected] == keys_of(answer.json)


@pytest.mark.parametrize("key", ["\ud800", "\udfff\ud800", "\u0000", "\r\nX: y", "\u2028", "\U0001f511"])
async def test_an_odd_key_does_not_upset_a_hop_that_passes_it_on(proxy, spsp_client, ask, key):
    for hop in (proxy, spsp_client):
        answer = await hop.send(replace(ask, body=quote(**{key: "1"})))

        assert answer.status in {200, 400}
        if answer.status == 200:
            assert "1" == json.loads(hop.next_hop.seen[0].body)[key]


@pytest.mark.parametrize("name", ["5,000 digits", "a huge exponent", "a lone surrogate", "NaN"])
async def test_what_a_hop_does_not_read_it_passes_on_as_written(proxy, spsp_client, name):
    for hop in (proxy, spsp_client):
        answer = await hop.send(replace(SOURCE, body=with_raw("transferType", RAW[name])))

        assert 200 == answer.status
        assert b'"transferType":' + RAW[name] in hop.next_hop.seen[0].body.replace(b": ", b":")


@pytest.mark.parametrize("raw", [b"1", b"null", b"true", b"[]", b'{"a":1}', b'"\\ud800"'])
async def test_spsp_client_names_a_submission_url_at_fault(spsp_client, ask, raw):
    body = quote()[:-1] + b', "submissionUrl": ' + raw + b"}"
    answer = await spsp_client.send(replace(ask, body=body), adapt=False)

    assert [] == spsp_client.next_hop.seen
    if raw.startswith(b'"'):
        assert (403, "SubmissionUrlNotAllowedError") == (answer.status, answer.id)
    else:
        assert (400, ["submissionUrl"]) == (answer.status, keys_of(answer.json))


@pytest.mark.parametrize("key", ["sourceAmount", "destinationAmount"])
@pytest.mark.parametrize("value", [12.5, "12,50", "1e3", "", "-1", None, []])
async def test_the_amounts_of_an_execution_have_a_syntax_too(payer, key, value):
    answer = await refused(payer, EXECUTE, quote(**{key: value}))

    assert [key] == keys_of(answer.json)


@pytest.mark.parametrize(
    "amount", [12.5, "12,50", "1e3", "1_000", " 12", "0.00", "-1", "٣", "0", "00.1", "1.", ".5", "+1", "12.505",
    "12.50\n", "0x10", "1" * 19, "0." + "0" * 18 + "1", "NaN", "Infinity", "", "1 000"]
)  # fmt: skip
async def test_an_amount_is_a_plain_positive_decimal_string(payer, amount):
    answer = await refused(payer, SOURCE, quote(amount=amount))

    assert ["amount"] == keys_of(answer.json)


@pytest.mark.parametrize(
    ("code", "amount"),
    [("USD", "0.01"), ("JPY", "1"), ("KWD", "0.001"), ("USD", "9999999999999999.99"), ("KWD", "1")],
)
async def test_an_amount_has_the_fraction_digits_of_its_currency(payer, code, amount):
    assert 200 == (await payer.send(replace(SOURCE, body=quote(currencyCode=code, amount=amount)))).status


@pytest.mark.parametrize(
    ("code", "amount"), [("USD", "0.001"), ("USD", "1.000"), ("JPY", "1.0"), ("KWD", "0.0010")]
)
async def test_trailing_zeros_count(payer, code, amount):
    answer = await refused(payer, SOURCE, quote(currencyCode=code, amount=amount))

    assert ["amount"] == keys_of(answer.json)


async def test_an_execution_is_not_checked_against_the_currency(payer):
    assert 200 == (await payer.send(replace(EXECUTE, body=quote(amount="12.500")))).status


@pytest.mark.parametrize("code", ["usd", "US", "USDX", "XAU", "XXX", "ZZZ", "", " USD", "USD\n", "US٣"])
async def test_a_currency_is_one_of_iso_4217_that_has_an_exponent(payer, code):
    answer = await refused(payer, SOURCE, quote(currencyCode=code))

    assert ["currencyCode"] == list(dict.fromkeys(keys_of(answer.json)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("currencySymbol", "x" * 9),
        ("account", "ftp://ledger.example/bob"),
        ("account", "ledger.example/bob"),
        ("account", "//ledger.example/bob"),
        ("account", "http:///bob"),
        ("account", "http://user@ledger.example/bob"),
        ("account", "http://user:password@ledger.example/bob"),
        ("account", "http://ledger.example:99999/bob"),
        ("account", "http://[::1/bob"),
        ("account", "http://ledger.example/" + "x" * 2_048),
        ("account", "javascript:alert(1)"),
        ("identifier", "x" * 129),
        ("identifierType", "EUR"),
        ("identifierType", "x" * 33),
        ("identifierType", "eur "),
        ("identifierType", "eur/.."),
        ("identifierType", "ü"),
        ("transferType", "p2p/x"),
        ("transferType", "x" * 33),
        ("transferType", "p2p\n"),
        ("transferType", "٣"),
    ],
)
async def test_each_field_has_its_bounds(payer, key, value):
    answer = await refused(payer, SOURCE, quote(**{key: value}))

    assert [key] == list(dict.fromkeys(keys_of(answer.json)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("currencySymbol", "лв.лв.лв"),
        ("account", "https://ledger.example/bob?x=1"),
        ("account", "HTTPS://ledger.example"),
        ("account", "http://ledger.example/" + "x" * (2_048 - 22)),
        ("identifier", "x" * 128),
        ("identifier", "+359 88/ü%&="),
        ("identifierType", "a-z_09"),
        ("transferType", "A-z_09"),
    ],
)
async def test_these_values_are_within_them(payer, key, value):
    assert 200 == (await payer.send(replace(SOURCE, body=quote(**{key: value})))).status


async def test_a_body_full_of_faults_gets_an_answer(payer):
    """As many members as 64 KiB hold."""
    body = b"{" + b",".join(b'"%04x":1' % number for number in range(7_000)) + b"}"
    assert len(body) <= MOST

    await refused(payer, SOURCE, body)


def documented(hop: Hop, answer: Answer) -> bool:
    """A 4xx with the error object, or what the next hop said."""
    return (answer.status == 200 and answer.body == QUOTE_REPLY) or (
        400 <= answer.status < 500 and is_error_object(answer)
    )


BOUNDED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


async def test_arbitrary_bytes_never_upset_a_hop(reader):
    loop = asyncio.get_running_loop()

    @BOUNDED
    @given(body=st.binary(max_size=300) | st.binary(max_size=20).map(lambda b: b'{"amount":"' + b + b'"}'))
    def check(body):
        ask = replace(SOURCE, body=body)
        answer = asyncio.run_coroutine_threadsafe(reader.send(ask, adapt=False), loop).result(10)
        assert documented(reader, answer)

    await asyncio.to_thread(check)


async def test_arbitrary_json_never_upsets_a_hop(reader):
    loop = asyncio.get_running_loop()

    @BOUNDED
    @given(
        content=st.dictionaries(st.sampled_from([*QUOTE, "submissionUrl", "x"]) | st.text(), JSON, max_size=9)
        .map(lambda changed: {**QUOTE, **changed})
        .map(lambda whole: json.dumps(whole).encode())
        | JSON.map(lambda any_: json.dumps(any_).encode())
    )
    def check(content):
        ask = replace(EXECUTE, body=content)
        answer = asyncio.run_coroutine_threadsafe(reader.send(ask, adapt=False), loop).result(10)
        assert documented(reader, answer)

    await asyncio.to_thread(check)
