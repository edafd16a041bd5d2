"""Invalid bodies at each hop that reads bodies: a 4xx that names the field, and nothing goes on (wire.md §7.7)."""

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.client import ClientResponse, is_error_object
from support.forwarders import DESTINATION, EXECUTE, QUOTE_REPLY, SOURCE, ClientRequest, Hop
from support.messages import QUOTE, keys_of

MAX_BODY_BYTES = 64 * 1024
WRITES = (SOURCE, DESTINATION, EXECUTE)


def with_body(hop: Hop, operation: ClientRequest, body: bytes) -> ClientRequest:
    """The request with this body; for spsp-client with its submissionUrl, where the body is an object."""
    sent = replace(operation, body=body)
    return hop.adapted(sent) if body.rstrip().endswith(b"}") and body.strip() != b"{}" else sent


async def rejected(hop: Hop, operation: ClientRequest, body: bytes) -> ClientResponse:
    """Send a request whose body is rejected, and return the response."""
    response = await hop.send(with_body(hop, operation, body), adapt=False)

    assert (400, "InvalidBodyError") == (response.status, response.id), body[:80]
    assert is_error_object(response)
    assert [] == hop.next_hop.seen + hop.directory.seen
    return response


def quote(**changed: object) -> bytes:
    return json.dumps({**QUOTE, **changed}).encode()


def with_raw(key: str, raw: bytes) -> bytes:
    """The sample with one value replaced by these bytes."""
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
    "65,536 braces": b"{" * MAX_BODY_BYTES,
    "5,000 nested objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "an escape that is none": b'{"a":"\\x41"}',
    "half an escape": b'{"a":"\\u12"}',
    "half an escape in a key": b'{"\\u12":"1"}',
}


async def test_a_body_has_to_be_a_json_object(reader):
    for name, body in NO_OBJECTS.items():
        response = await rejected(reader, SOURCE, body)

        assert keys_of(response.json), name


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


async def test_the_payer_names_the_field_at_fault(payer):
    for raw in RAW.values():
        for key in FIELDS:
            response = await rejected(payer, SOURCE, with_raw(key, raw))

            assert {key} == set(keys_of(response.json))
            value = response.json["validationErrors"][0]["params"]["value"]
            assert value is None or isinstance(value, bool) or len(value) <= 64


async def test_the_proxy_names_the_field_at_fault(proxy):
    for raw in RAW.values():
        for key in READ_BY_ALL:
            for operation in WRITES:
                response = await rejected(proxy, operation, with_raw(key, raw))

                assert [key] == keys_of(response.json)


NOT_JSON = [
    "no UTF-8",
    "an overlong slash",
    "half a character",
    "20,000 lists",
    "a raw newline",
    "a raw zero",
]


async def test_invalid_json_is_reported_by_field_even_where_the_field_is_not_read(reader):
    for name in NOT_JSON:
        for operation in WRITES:
            response = await rejected(reader, operation, with_raw("currencySymbol", RAW[name]))

            assert ["currencySymbol"] == keys_of(response.json), name


async def test_a_duplicate_field_is_rejected_by_name(reader):
    for operation in WRITES:
        for key in [*FIELDS, "", "\u00fc", "sourceAmount"]:
            member = json.dumps(key).encode() + b':"x"'
            twice = (b", " + member) * (1 if key in QUOTE else 2)

            response = await rejected(reader, operation, quote()[:-1] + twice + b"}")

            assert key in keys_of(response.json)


async def test_a_key_written_with_an_escape_is_the_same_key(reader):
    response = await rejected(reader, SOURCE, quote()[:-1] + b', "\\u0061mount": "99.00"}')

    assert ["amount"] == keys_of(response.json)


async def test_all_faults_are_reported_at_once(payer):
    response = await rejected(payer, SOURCE, b'{"amount": 1, "x": 2, "currencySymbol": ""}')

    assert sorted([*QUOTE, "x"]) == sorted(set(keys_of(response.json)))


async def test_the_payer_rejects_unknown_fields(payer):
    for key in [
        "x",
        "Amount",
        "amount ",
        "submissionUrl",
        "__proto__",
        "sourceAmount",
        "uuid",
        "\u0000",
        "\ud800",
    ]:
        response = await rejected(payer, SOURCE, quote(**{key: "1"}))

        assert [key.encode("utf-8", "replace").decode()] == keys_of(response.json)


async def test_an_unusual_key_passes_or_is_400(proxy, spsp_client):
    for key in ["\ud800", "\udfff\ud800", "\u0000", "\r\nX: y", "\u2028", "\U0001f511"]:
        for hop in (proxy, spsp_client):
            for operation in WRITES:
                response = await hop.send(replace(operation, body=quote(**{key: "1"})))

                assert response.status in {200, 400}
                if response.status == 200:
                    assert "1" == json.loads(hop.next_hop.seen[-1].body)[key]


async def test_a_field_that_a_hop_does_not_read_passes_as_it_is_written(proxy, spsp_client):
    for name in ["5,000 digits", "a huge exponent", "a lone surrogate", "NaN"]:
        for hop in (proxy, spsp_client):
            response = await hop.send(replace(SOURCE, body=with_raw("transferType", RAW[name])))

            assert 200 == response.status, name
            assert b'"transferType":' + RAW[name] in hop.next_hop.seen[-1].body.replace(b": ", b":")


async def test_spsp_client_rejects_a_submission_url_that_is_no_string(spsp_client):
    for raw in [b"1", b"null", b"true", b"[]", b'{"a":1}', b'"\\ud800"']:
        for operation in WRITES:
            body = quote()[:-1] + b', "submissionUrl": ' + raw + b"}"
            response = await spsp_client.send(replace(operation, body=body), adapt=False)

            assert [] == spsp_client.next_hop.seen
            if raw.startswith(b'"'):
                assert (403, "SubmissionUrlNotAllowedError") == (response.status, response.id)
            else:
                assert (400, ["submissionUrl"]) == (response.status, keys_of(response.json))


async def test_the_amounts_of_an_execution_have_the_same_syntax(payer):
    for key in ["sourceAmount", "destinationAmount"]:
        for value in [12.5, "12,50", "1e3", "", "-1", None, []]:
            response = await rejected(payer, EXECUTE, quote(**{key: value}))

            assert [key] == keys_of(response.json)


@pytest.mark.parametrize(
    "amount", [12.5, "12,50", "1e3", "1_000", " 12", "0.00", "-1", "٣", "0", "00.1", "1.", ".5", "+1", "12.505",
    "12.50\n", "0x10", "1" * 19, "0." + "0" * 18 + "1", "NaN", "Infinity", "", "1 000"]
)  # fmt: skip
async def test_an_amount_is_a_plain_positive_decimal_string(payer, amount):
    response = await rejected(payer, SOURCE, quote(amount=amount))

    assert ["amount"] == keys_of(response.json)


@pytest.mark.parametrize(
    ("code", "amount"),
    [("USD", "0.01"), ("JPY", "1"), ("KWD", "0.001"), ("USD", "9999999999999999.99"), ("KWD", "1")],
)
async def test_an_amount_has_the_fraction_digits_of_its_currency(payer, code, amount):
    assert 200 == (await payer.send(replace(SOURCE, body=quote(currencyCode=code, amount=amount)))).status


@pytest.mark.parametrize(
    ("code", "amount"), [("USD", "0.001"), ("USD", "1.000"), ("JPY", "1.0"), ("KWD", "0.0010")]
)
async def test_trailing_zeros_count_as_fraction_digits(payer, code, amount):
    response = await rejected(payer, SOURCE, quote(currencyCode=code, amount=amount))

    assert ["amount"] == keys_of(response.json)


async def test_the_amount_of_an_execution_is_not_checked_against_the_currency(payer):
    assert 200 == (await payer.send(replace(EXECUTE, body=quote(amount="12.500")))).status


@pytest.mark.parametrize("code", ["usd", "US", "USDX", "XAU", "XXX", "ZZZ", "", " USD", "USD\n", "US٣"])
async def test_a_currency_is_one_of_iso_4217_with_an_exponent(payer, code):
    response = await rejected(payer, SOURCE, quote(currencyCode=code))

    assert ["currencyCode"] == list(dict.fromkeys(keys_of(response.json)))


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
    response = await rejected(payer, SOURCE, quote(**{key: value}))

    assert [key] == list(dict.fromkeys(keys_of(response.json)))


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
async def test_each_field_may_reach_its_bounds(payer, key, value):
    assert 200 == (await payer.send(replace(SOURCE, body=quote(**{key: value})))).status


async def test_a_body_full_of_faults_gets_a_response(payer):
    """As many members as 64 KiB hold."""
    body = b"{" + b",".join(b'"%04x":1' % number for number in range(7_000)) + b"}"
    assert len(body) <= MAX_BODY_BYTES

    await rejected(payer, SOURCE, body)


def is_documented(hop: Hop, response: ClientResponse) -> bool:
    """Whether it is a 4xx with the error object, or the next hop's response."""
    return (response.status == 200 and response.body == QUOTE_REPLY) or (
        400 <= response.status < 500 and is_error_object(response)
    )


BOUNDED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


async def test_a_body_of_arbitrary_bytes_gets_a_documented_response(reader):
    loop = asyncio.get_running_loop()

    @BOUNDED
    @given(body=st.binary(max_size=300) | st.binary(max_size=20).map(lambda b: b'{"amount":"' + b + b'"}'))
    def check(body):
        sent = replace(SOURCE, body=body)
        response = asyncio.run_coroutine_threadsafe(reader.send(sent, adapt=False), loop).result()
        assert is_documented(reader, response)

    await asyncio.to_thread(check)


async def test_a_body_of_arbitrary_json_gets_a_documented_response(reader):
    loop = asyncio.get_running_loop()

    @BOUNDED
    @given(
        content=st.dictionaries(st.sampled_from([*QUOTE, "submissionUrl", "x"]) | st.text(), JSON, max_size=9)
        .map(lambda changed: {**QUOTE, **changed})
        .map(lambda whole: json.dumps(whole).encode())
        | JSON.map(lambda any_: json.dumps(any_).encode())
    )
    def check(content):
        sent = replace(EXECUTE, body=content)
        response = asyncio.run_coroutine_threadsafe(reader.send(sent, adapt=False), loop).result()
        assert is_documented(reader, response)

    await asyncio.to_thread(check)
