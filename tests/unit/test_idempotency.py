"""The uuid of an idempotency key, and which two requests are the same."""

import itertools
import uuid

import pytest

from chassis.schemas import parse
from dfsp_api.idempotency import fingerprint, quote_uuid
from quoting.schemas import RESERVATION
from support.messages import QUOTE

NAMESPACE = bytes(range(32))


def test_a_quotes_uuid_is_of_rfc_9562_version_8():
    for number in range(50):
        made = quote_uuid(NAMESPACE, "test", f"key-{number}")

        assert 8 == made.version
        assert uuid.RFC_4122 == made.variant


def test_a_quotes_uuid_comes_from_namespace_caller_and_key_alone():
    assert quote_uuid(NAMESPACE, "test", "a key") == quote_uuid(NAMESPACE, "test", "a key")
    made = {
        quote_uuid(namespace, caller, key)
        for namespace in (NAMESPACE, bytes(32))
        for caller in ("test", "other")
        for key in ("a", "b")
    }
    assert 8 == len(made)


def test_a_quotes_uuid_never_changes_between_versions_of_this_code():
    """HMAC-SHA-256(namespace, 8 bytes of length ‖ caller ‖ key), 122 of its bits."""
    import hashlib
    import hmac

    digest = hmac.new(NAMESPACE, b"\0\0\0\0\0\0\0\x04testa key", hashlib.sha256).hexdigest()
    given = quote_uuid(NAMESPACE, "test", "a key").hex

    assert digest[:12] + "8" + digest[13:16] == given[:16]
    assert digest[17:32] == given[17:]


def test_two_splits_of_one_text_into_caller_and_key_have_different_uuids():
    """Caller ab with key c is not caller a with key bc. The length of a name is in bytes."""
    for text in ("abcdef", "éèüöß", "a:b:c:"):
        splits = [(text[:at], text[at:]) for at in range(len(text) + 1)]

        assert len(splits) == len({quote_uuid(NAMESPACE, *split) for split in splits})


@pytest.mark.parametrize("name", list(QUOTE))
def test_a_fingerprint_differs_where_any_field_does(name):
    assert fingerprint(QUOTE) != fingerprint(
        {**QUOTE, name: "13.00" if name == "amount" else QUOTE[name] + "x"}
    )


def test_a_character_moved_from_one_field_to_the_next_changes_the_fingerprint():
    names = list(QUOTE)
    for one, other in itertools.pairwise(names):
        if "amount" in {one, other}:
            continue
        moved = {**QUOTE, one: QUOTE[one][:-1], other: QUOTE[one][-1] + QUOTE[other]}

        assert fingerprint(QUOTE) != fingerprint(moved)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12.5", "12.50"),
        ("12", "12.0"),
        ("10", "10.00"),
        ("100", "100.0"),
        ("0.10", "0.1"),
        ("100000000000000000", "100000000000000000"),
    ],
)
def test_a_fingerprint_is_of_the_amount_as_a_number(one, other):
    assert fingerprint({**QUOTE, "amount": one}) == fingerprint({**QUOTE, "amount": other})


@pytest.mark.parametrize(("one", "other"), [("1", "10"), ("10", "100"), ("0.1", "0.01"), ("1.05", "1.5")])
def test_different_amounts_have_different_fingerprints(one, other):
    assert fingerprint({**QUOTE, "amount": one}) != fingerprint({**QUOTE, "amount": other})


def test_key_order_and_white_space_do_not_change_the_fingerprint():
    one = parse(RESERVATION, b'{"currencyCode":"USD","currencySymbol":"$","amount":"12.50","account":"http://a",'
                b'"identifier":"1","identifierType":"eur","transferType":"p2p"}')  # fmt: skip
    other = parse(RESERVATION, b'\n{ "transferType" : "p2p", "identifierType":"eur" , "identifier":"\\u0031",'
                  b'"account":"http:\\/\\/a","amount":"12.5","currencySymbol":"$","currencyCode":"USD" }\n')  # fmt: skip

    assert fingerprint(one) == fingerprint(other)


def test_the_fields_that_only_a_payment_has_are_not_in_the_fingerprint():
    assert fingerprint(QUOTE) == fingerprint({**QUOTE, "sourceAmount": "1", "destinationAmount": "2"})
