"""Wrong arguments are TypeError or ValueError with the argument's name, and nothing is sent."""

from decimal import Decimal
from uuid import UUID

import pytest

from dfsp_quotes import QuoteClient
from support.messages import UNKNOWN_UUID
from support.quote_client import ARGUMENTS, RECEIVER


@pytest.mark.parametrize(
    ("changed", "kind", "name"),
    [
        ({"amount": 12.5}, TypeError, "amount"),
        ({"amount": "12.50"}, TypeError, "amount"),
        ({"amount": 12}, TypeError, "amount"),
        ({"amount": True}, TypeError, "amount"),
        ({"amount": None}, TypeError, "amount"),
        ({"amount": Decimal("NaN")}, ValueError, "amount"),
        ({"amount": Decimal("sNaN")}, ValueError, "amount"),
        ({"amount": Decimal("Infinity")}, ValueError, "amount"),
        ({"amount": Decimal(0)}, ValueError, "amount"),
        ({"amount": Decimal("-0.01")}, ValueError, "amount"),
        ({"amount": Decimal(1234567890123456789)}, ValueError, "amount"),
        ({"amount": Decimal("0.000000000000000001")}, ValueError, "amount"),
        ({"amount": Decimal("1E+999999")}, ValueError, "amount"),
        ({"amount": Decimal("1E-999999")}, ValueError, "amount"),
        ({"amount": Decimal("1." + "0" * 999)}, ValueError, "amount"),
        ({"currency_code": None}, TypeError, "currency_code"),
        ({"currency_symbol": b"$"}, TypeError, "currency_symbol"),
        ({"account": 1}, TypeError, "account"),
        ({"identifier": 30754016}, TypeError, "identifier"),
        ({"identifier": "\ud800"}, ValueError, "identifier"),
        ({"identifier_type": None}, TypeError, "identifier_type"),
        ({"transfer_type": None}, TypeError, "transfer_type"),
        ({"idempotency_key": 1}, TypeError, "idempotency_key"),
        ({"idempotency_key": ""}, ValueError, "idempotency_key"),
        ({"idempotency_key": "a b"}, ValueError, "idempotency_key"),
        ({"idempotency_key": "a\r\nAuthorization: x"}, ValueError, "idempotency_key"),
        ({"idempotency_key": "a\n"}, ValueError, "idempotency_key"),
        ({"idempotency_key": "é"}, ValueError, "idempotency_key"),
        ({"idempotency_key": "k" * 129}, ValueError, "idempotency_key"),
        ({"timeout": None}, TypeError, "timeout"),
        ({"timeout": "10"}, TypeError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": 3_601}, ValueError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"timeout": float("inf")}, ValueError, "timeout"),
    ],
)
@pytest.mark.parametrize("operation", ["quote_source_amount", "quote_destination_amount"])
async def test_a_wrong_argument_is_named_before_anything_is_sent(
    fake, fake_client, operation, changed, kind, name
):
    with pytest.raises(kind, match=rf"^{name} must "):
        await getattr(fake_client, operation)(**{**ARGUMENTS, **changed})

    assert [] == list(fake.received)


@pytest.mark.parametrize(
    ("changed", "kind", "name"),
    [
        ({"uuid": None}, TypeError, "uuid"),
        ({"uuid": 1}, TypeError, "uuid"),
        ({"uuid": "x"}, ValueError, "uuid"),
        ({"uuid": UUID(UNKNOWN_UUID).hex}, ValueError, "uuid"),
        ({"uuid": "{" + UNKNOWN_UUID + "}"}, ValueError, "uuid"),
        ({"uuid": UNKNOWN_UUID + "/.."}, ValueError, "uuid"),
        ({"identifier": None}, TypeError, "identifier"),
        ({"identifier_type": 1}, TypeError, "identifier_type"),
        ({"timeout": "1"}, TypeError, "timeout"),
    ],
)
async def test_a_wrong_argument_of_look_up_is_named(fake, fake_client, changed, kind, name):
    arguments = {"uuid": UNKNOWN_UUID, **RECEIVER, **changed}
    with pytest.raises(kind, match=rf"^{name} must "):
        await fake_client.look_up(arguments.pop("uuid"), **arguments)

    assert [] == list(fake.received)


@pytest.mark.parametrize("method", ["pay", "requote"])
async def test_only_a_quote_can_be_paid_and_requoted(fake_client, method):
    with pytest.raises(TypeError, match=r"^quote must be a Quote or a StoredQuote, not str"):
        await getattr(fake_client, method)(UNKNOWN_UUID)


@pytest.mark.parametrize(
    ("base_url", "kind"),
    [
        (None, TypeError),
        ("", ValueError),
        ("127.0.0.1:8010", ValueError),
        ("ftp://a.example", ValueError),
        ("http://", ValueError),
        ("http://a.example:0", ValueError),
        ("http://a.example:99999", ValueError),
        ("http://a.example/?x=1", ValueError),
        ("http://a.example/#x", ValueError),
        ("http://a.example/\n", ValueError),
        ("http://user:secret@a.example", ValueError),
    ],
)
def test_a_wrong_base_url_is_named_and_not_repeated(base_url, kind):
    with pytest.raises(kind, match=r"^base_url must ") as caught:
        QuoteClient(base_url, "test", "123")

    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("name", "password", "kind", "wrong"),
    [
        (None, "123", TypeError, "name"),
        ("", "123", ValueError, "name"),
        ("a:b", "123", ValueError, "name"),
        ("test", None, TypeError, "password"),
        ("test", b"123", TypeError, "password"),
        ("test", "\ud800", ValueError, "password"),
    ],
)
def test_wrong_credentials_are_named(name, password, kind, wrong):
    with pytest.raises(kind, match=rf"^{wrong} must "):
        QuoteClient("http://127.0.0.1", name, password)
