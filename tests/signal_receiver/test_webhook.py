"""Requests to a webhook before anything is traded: bodies, versions, credentials (guide, "Handling Events")."""

import base64
import gc
import json
from datetime import UTC, datetime, timedelta

import pytest
from multidict import CIMultiDict
from standardwebhooks import Webhook

from chassis.errors import InvalidBodyError
from signal_receiver.credentials import signature_fault
from signal_receiver.events import READERS, read
from support.messages import keys_of
from support.receiver import envelope, signal

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"fedcba9876543210fedcba9876543210").decode()
LIFECYCLE = {
    "INTEGRATION_APPROVED": None,
    "INTEGRATION_REJECTED": None,
    "INTEGRATION_DELETED": None,
    "STRATEGY_ENABLED": {"id": "gold", "name": "Gold High-Risk"},
    "STRATEGY_DISABLED": {"id": "gold", "name": "Gold High-Risk"},
    "SOMETHING_NEW": {"anything": [1, 2, 3]},
}


async def test_lifecycle_events_and_unknown_types_get_an_empty_200(receiver):
    """Guide: ...or is irrelevant to you and you did not consume/handle it at all, simply respond with status code
    200 and an empty body.
    """
    for type_, data in LIFECYCLE.items():
        answer = await receiver.deliver({**signal("OPEN"), "type": type_, "data": data})

        assert (200, b"") == (answer.status, answer.body), type_
    assert [] == await receiver.trades()


async def test_lifecycle_events_need_credentials(receiver):
    event = {**signal("OPEN"), "type": "INTEGRATION_APPROVED", "data": None}

    assert (401, "InvalidCredentials") == (await receiver.deliver(event, token="nobodys-token")).outcome


async def test_the_guides_example_is_executed(receiver):
    body = b"""{"v1": {"deprecation": null, "event": {"timestamp": 1549623690730, "type": "SIGNAL_OPEN",
        "integration": {"name": "user@example.com", "description": "Foo Bar FX",
            "imageUrl": "https://foo.bar/logo.png", "webhook": {"url": "https://foo.bar/api/proquant",
            "headers": {"x-foo-bar-api-token": "baz"}}},
        "data": {"direction": "BUY", "ticker": "XAUUSD", "quantity": 10,
            "strategy": {"id": "6bbc583bf6d70605bbbc892f66367ab7", "name": "Gold High-Risk"},
            "proquantPositionId": "960fe1a63d264d0f4e19a0ebf385497e"}}}}"""

    assert (200, None) == (await receiver.deliver(body)).outcome


async def test_of_several_versions_the_known_one_is_read(receiver):
    body = {"v0": {"event": "?"}, **envelope(signal("OPEN")), "v2": {"deprecation": None, "event": [1]}}
    answer = await receiver.deliver(json.dumps(body).encode())

    assert (200, None) == answer.outcome
    assert 1 == len(await receiver.trades())


def test_the_newest_known_version_is_read():
    """Guide: ...a simple versioning system must be adhered to when consuming ProQuant Events."""
    readers = {**READERS, "v2": lambda _raw: ("NEWER", None)}
    old = envelope(signal("OPEN"))
    both = {"v2": {"event": {}}, **old, "v3": {"event": {}}}

    assert ("v2", "NEWER") == ((event := read(json.dumps(both).encode(), readers)).version, event.type)
    assert "v1" == read(json.dumps(old).encode(), readers).version


def test_a_deprecated_version_is_read_as_long_as_it_is_sent():
    event = read(json.dumps(envelope(signal("OPEN"), "2020-01-01T00:00:00.000Z")).encode())

    assert ("v1", "2020-01-01T00:00:00.000Z") == (event.version, event.deprecation)


async def test_a_body_without_a_known_version_gets_an_untyped_400(receiver):
    for offered in ({}, {"v2": {"deprecation": None, "event": {}}}, {"V1": {"event": {}}}):
        answer = await receiver.deliver(json.dumps(offered).encode())

        assert (400, None) == answer.outcome, offered
        assert "InvalidBodyError" == answer.json["id"], offered


EVENT = signal("OPEN")
BROKEN = {
    "no JSON": (b"{", "body"),
    "no object": (b"[]", "body"),
    "nothing": (b"", "body"),
    "no UTF-8": (json.dumps(envelope(EVENT)).encode().replace(b"gold", b"\xff"), "v1.event.data"),
    "too deep": (b'{"v1": ' + b"[" * 30_000, "body"),
    "no event": ({"v1": {"deprecation": None}}, "v1"),
    "no type": ({**EVENT, "type": None}, "v1.event.type"),
    "no timestamp": ({**EVENT, "timestamp": None}, "v1.event.timestamp"),
    "a timestamp beyond 2^53": ({**EVENT, "timestamp": 2**63}, "v1.event.timestamp"),
    "a timestamp in words": ({**EVENT, "timestamp": "now"}, "v1.event.timestamp"),
    "no data": ({**EVENT, "data": None}, "v1.event.data"),
    "another direction": (signal("OPEN", direction="UP"), "v1.event.data.direction"),
    "no ticker": (signal("OPEN", ticker=""), "v1.event.data.ticker"),
    "a ticker without end": (signal("OPEN", ticker="X" * 129), "v1.event.data.ticker"),
    "no strategy": (signal("CLOSE", strategy=""), "v1.event.data.strategy.id"),
    "a strategy with a zero byte": (signal("OPEN", strategy="a\0"), "v1.event.data.strategy.id"),
    "a strategy that is a number": (signal("OPEN", strategy=7), "v1.event.data.strategy.id"),
    "no position": (signal("OPEN", position=None), "v1.event.data.proquantPositionId"),
    "a quantity in words": (signal("OPEN", "10"), "v1.event.data.quantity"),
}


async def test_a_malformed_event_gets_an_untyped_400_that_names_the_field(receiver):
    for name, (content, field) in BROKEN.items():
        answer = await receiver.deliver(
            content if isinstance(content, bytes) or "v1" not in content else json.dumps(content).encode()
        )

        assert ((400, None), [field]) == (answer.outcome, keys_of(answer.json)), name
    assert [] == await receiver.trades()


def test_a_key_that_occurs_twice_is_refused_at_every_depth():
    """JSON parsers disagree about the value of such a key: of two quantities the last one was traded."""
    body = json.dumps(envelope(signal("OPEN"), "2030-01-01"))
    lifecycle = body.replace("SIGNAL_OPEN", "STRATEGY_ENABLED")
    for text in (body, lifecycle):
        for key, value in (
            ("v1", "{}"),
            ("event", "{}"),
            ("deprecation", "null"),
            ("type", '"SIGNAL_CLOSE"'),
            ("timestamp", "1"),
            ("data", "null"),
            ("quantity", "999"),
            ("ticker", '"EURUSD"'),
            ("id", '"another strategy"'),
            ("x-foo-bar-api-token", '"?"'),
        ):
            repeated = text.replace(f'"{key}":', f'"{key}": {value}, "{key}":', 1)
            assert repeated != text

            with pytest.raises(InvalidBodyError, match="twice"):
                read(repeated.encode())


async def test_a_quantity_that_occurs_twice_trades_nothing(receiver):
    body = json.dumps(envelope(signal("OPEN", 1))).replace('"quantity":', '"quantity": 2, "quantity":')
    answer = await receiver.deliver(body.encode())

    assert (400, None) == answer.outcome
    assert [] == await receiver.trades()


async def test_credentials_are_checked_before_the_body(receiver):
    for body in (b"{", b"{}", json.dumps(envelope(signal("OPEN", "?"))).encode()):
        outcome = (await receiver.deliver(body, token="nobodys-token")).outcome

        assert (401, "InvalidCredentials") == outcome, body


async def test_an_account_with_a_header_requires_it(receiver):
    for value in (None, "", "BAZ", "baz2"):
        headers = {} if value is None else {"x-foo-bar-api-token": value}
        refused = await receiver.deliver(signal("OPEN"), token="guarded-token", headers=headers)

        assert (401, "InvalidCredentials") == refused.outcome, value
    accepted = await receiver.deliver(
        signal("OPEN"), token="guarded-token", headers={"X-Foo-Bar-Api-Token": "baz"}
    )

    assert (200, None) == accepted.outcome


def signed(
    body: bytes, secret: str = SECRET, at: datetime | None = None, id_: str = "msg_1"
) -> dict[str, str]:
    at = at or datetime.now(UTC)
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(id_, at, body.decode()),
    }


@pytest.fixture
async def signing(receiver):
    """A receiver whose sample account requires a signature."""
    answer = await receiver.call("PUT", "/v1/accounts/sample/webhook-secret", {"secret": SECRET})
    assert 204 == answer.status, answer.body
    return receiver


BODY = json.dumps(envelope(signal("OPEN"))).encode()
FORGED = {
    "none": {},
    "another secret's": signed(BODY, OTHER_SECRET),
    "of another body": signed(BODY + b" "),
    "of another id": {**signed(BODY), "webhook-id": "msg_2"},
    "old": signed(BODY, at=datetime.now(UTC) - timedelta(hours=1)),
    "from the future": signed(BODY, at=datetime.now(UTC) + timedelta(hours=1)),
    "without a comma": {**signed(BODY), "webhook-signature": "v1"},
    "of two commas": {**signed(BODY), "webhook-signature": "v1,a,b"},
    "no base64": {**signed(BODY), "webhook-signature": "v1,abc"},
    "no ASCII": {**signed(BODY), "webhook-signature": "v1,ж"},
    "another version's": {
        **signed(BODY),
        "webhook-signature": signed(BODY)["webhook-signature"].replace("v1", "v2"),
    },
    "no time": {**signed(BODY), "webhook-timestamp": "soon"},
    "no number's time": {**signed(BODY), "webhook-timestamp": "nan"},
    "without end": {**signed(BODY), "webhook-timestamp": "inf"},
    "of a clock six minutes behind": signed(BODY, at=datetime.now(UTC) - timedelta(minutes=6)),
}


async def test_a_required_signature_must_be_valid(signing):
    for name, headers in FORGED.items():
        answer = await signing.deliver(BODY, headers=headers)

        assert (401, "InvalidCredentials") == answer.outcome, name
    assert [] == await signing.trades()


async def test_one_valid_signature_of_several_is_enough(signing):
    """While a secret is rotated there are two."""
    headers = signed(BODY)
    other = signed(BODY, OTHER_SECRET)["webhook-signature"]
    answers = [
        await signing.deliver(BODY, headers=headers),
        await signing.deliver(
            BODY, headers={**headers, "webhook-signature": f"{other} {headers['webhook-signature']}"}
        ),
    ]

    assert [(200, None)] * 2 == [answer.outcome for answer in answers]
    assert 1 == len(await signing.trades())


async def test_a_clock_difference_of_four_minutes_is_accepted(signing):
    for minutes in (-4, 4):
        headers = signed(BODY, at=datetime.now(UTC) + timedelta(minutes=minutes))

        assert (200, None) == (await signing.deliver(BODY, headers=headers)).outcome, minutes


def test_a_wrong_clock_is_named_as_the_fault_of_a_signature():
    for minutes, text in ((-60, "60 minutes behind"), (60, "60 minutes ahead of")):
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        fault = signature_fault(SECRET, CIMultiDict(signed(BODY, at=at)), BODY)

        assert f"its timestamp is about {text} this machine's clock" in fault
        assert "check the clocks of both machines" in fault


def test_the_clock_is_not_named_where_the_signature_itself_is_invalid():
    old = datetime.now(UTC) - timedelta(hours=1)
    for name, headers in {**FORGED, "another secret's, and old": signed(BODY, OTHER_SECRET, old)}.items():
        fault = signature_fault(SECRET, CIMultiDict(headers), BODY)

        assert fault is not None, name
        is_only_late = name in {"old", "from the future", "of a clock six minutes behind"}
        assert is_only_late == ("clock" in fault), name


async def test_a_secret_can_be_replaced_and_removed(signing):
    for secret, headers in ((OTHER_SECRET, signed(BODY, OTHER_SECRET)), (None, {"webhook-id": "msg_1"})):
        await signing.call("PUT", "/v1/accounts/sample/webhook-secret", {"secret": secret})

        assert (200, None) == (await signing.deliver(BODY, headers=headers)).outcome


async def test_a_body_must_be_json_and_at_most_64_kib(receiver):
    for type_ in ("text/plain", "multipart/form-data; boundary=a"):
        answer = await receiver.deliver(signal("OPEN"), headers={"Content-Type": type_})

        assert (415, None) == answer.outcome, type_
    assert (413, None) == (await receiver.deliver(b" " * (64 * 1024 + 1))).outcome


def test_a_json_string_is_not_a_quantity():
    with pytest.raises(InvalidBodyError):
        read(json.dumps(envelope(signal("OPEN", "10.00"))).encode())


async def test_nothing_of_a_refused_body_waits_for_the_garbage_collector(receiver):
    """Collections are rare: after twenty requests without credentials, 17 MB waited for one (measured)."""
    body = b"{" + b",".join(b'"%d":1' % number for number in range(6_000)) + b"}"
    await receiver.deliver(body, token="unknown")
    gc.collect()
    gc.disable()
    try:
        answer = await receiver.deliver(body, token="unknown")
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        held = [
            len(each)
            for garbage in gc.garbage
            for each in gc.get_referents(garbage)
            if isinstance(each, (bytes, dict)) and len(each) > 5_000
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert 401 == answer.status
    assert [] == held
