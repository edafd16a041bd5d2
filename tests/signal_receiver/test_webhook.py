"""What comes to a webhook, before anything is traded (guide, "Handling Events")."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from chassis.errors import InvalidBodyError
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


@pytest.mark.parametrize("type_", LIFECYCLE)
async def test_lifecycle_events_and_unknown_types_are_200_and_empty(receiver, type_):
    """Guide: ...or is irrelevant to you and you did not consume/handle it at all, simply respond with status code
    200 and an empty body.
    """
    event = {**signal("OPEN"), "type": type_, "data": LIFECYCLE[type_]}
    answer = await receiver.deliver(event)

    assert (200, b"") == (answer.status, answer.body)
    assert [] == await receiver.trades()


async def test_lifecycle_events_need_credentials_too(receiver):
    event = {**signal("OPEN"), "type": "INTEGRATION_APPROVED", "data": None}

    assert (401, "InvalidCredentials") == (await receiver.deliver(event, token="nobodys-token")).outcome


async def test_the_guides_own_example_is_carried_out(receiver):
    body = b"""{"v1": {"deprecation": null, "event": {"timestamp": 1549623690730, "type": "SIGNAL_OPEN",
        "integration": {"name": "user@example.com", "description": "Foo Bar FX",
            "imageUrl": "https://foo.bar/logo.png", "webhook": {"url": "https://foo.bar/api/proquant",
            "headers": {"x-foo-bar-api-token": "baz"}}},
        "data": {"direction": "BUY", "ticker": "XAUUSD", "quantity": 10,
            "strategy": {"id": "6bbc583bf6d70605bbbc892f66367ab7", "name": "Gold High-Risk"},
            "proquantPositionId": "960fe1a63d264d0f4e19a0ebf385497e"}}}}"""

    assert (200, None) == (await receiver.deliver(body)).outcome


async def test_among_several_versions_the_known_one_is_taken(receiver):
    body = {"v0": {"event": "?"}, **envelope(signal("OPEN")), "v2": {"deprecation": None, "event": [1]}}
    answer = await receiver.deliver(json.dumps(body).encode())

    assert (200, None) == answer.outcome
    assert 1 == len(await receiver.trades())


def test_the_newest_version_that_is_known_is_taken():
    """Guide: ...a simple versioning system must be adhered to when consuming ProQuant Events."""
    readers = {**READERS, "v2": lambda _raw: ("NEWER", None)}
    old = envelope(signal("OPEN"))
    both = {"v2": {"event": {}}, **old, "v3": {"event": {}}}

    assert ("v2", "NEWER") == ((event := read(json.dumps(both).encode(), readers)).version, event.type)
    assert "v1" == read(json.dumps(old).encode(), readers).version


def test_a_version_with_an_end_is_read_as_long_as_it_comes():
    event = read(json.dumps(envelope(signal("OPEN"), "2020-01-01T00:00:00.000Z")).encode())

    assert ("v1", "2020-01-01T00:00:00.000Z") == (event.version, event.deprecation)


@pytest.mark.parametrize("offered", [{}, {"v2": {"deprecation": None, "event": {}}}, {"V1": {"event": {}}}])
async def test_no_known_version_is_a_plain_400_never_a_silent_200(receiver, offered):
    answer = await receiver.deliver(json.dumps(offered).encode())

    assert (400, None) == answer.outcome
    assert "InvalidBodyError" == answer.json["id"]


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


@pytest.mark.parametrize(("said", "field"), BROKEN.values(), ids=BROKEN)
async def test_a_malformed_event_is_a_plain_400_that_names_the_field(receiver, said, field):
    body = said if isinstance(said, bytes) else json.dumps(said if "v1" in said else envelope(said)).encode()
    answer = await receiver.deliver(body)

    assert (400, None) == answer.outcome
    assert [field] == keys_of(answer.json)
    assert [] == await receiver.trades()


@pytest.mark.parametrize("body", [b"{", b"{}", json.dumps(envelope(signal("OPEN", "?"))).encode()])
async def test_credentials_come_before_the_body(receiver, body):
    assert (401, "InvalidCredentials") == (await receiver.deliver(body, token="nobodys-token")).outcome


@pytest.mark.parametrize("header", [None, "", "BAZ", "baz2"])
async def test_an_account_with_a_header_of_its_own_demands_it(receiver, header):
    headers = {} if header is None else {"x-foo-bar-api-token": header}
    refused = await receiver.deliver(signal("OPEN"), token="guarded-token", headers=headers)
    taken = await receiver.deliver(
        signal("OPEN"), token="guarded-token", headers={"X-Foo-Bar-Api-Token": "baz"}
    )

    assert [(401, "InvalidCredentials"), (200, None)] == [refused.outcome, taken.outcome]


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
    """The sample account demands a signature."""
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


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
async def test_a_demanded_signature_must_be_right(signing, headers):
    answer = await signing.deliver(BODY, headers=headers)

    assert (401, "InvalidCredentials") == answer.outcome
    assert [] == await signing.trades()


async def test_a_right_signature_lets_in_and_one_of_several_is_enough(signing):
    """As while a secret is rotated."""
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


@pytest.mark.parametrize("minutes", [-4, 4])
async def test_a_clock_that_is_a_little_wrong_lets_in(signing, minutes):
    headers = signed(BODY, at=datetime.now(UTC) + timedelta(minutes=minutes))

    assert (200, None) == (await signing.deliver(BODY, headers=headers)).outcome


async def test_a_secret_can_be_replaced_and_taken_back(signing):
    for secret, headers in ((OTHER_SECRET, signed(BODY, OTHER_SECRET)), (None, {"webhook-id": "msg_1"})):
        await signing.call("PUT", "/v1/accounts/sample/webhook-secret", {"secret": secret})

        assert (200, None) == (await signing.deliver(BODY, headers=headers)).outcome


@pytest.mark.parametrize("type_", ["text/plain", "multipart/form-data; boundary=a"])
async def test_only_json_is_read(receiver, type_):
    answer = await receiver.deliver(signal("OPEN"), headers={"Content-Type": type_})

    assert (415, None) == answer.outcome


async def test_a_body_over_64_kib_is_413(receiver):
    assert (413, None) == (await receiver.deliver(b" " * (64 * 1024 + 1))).outcome


def test_a_json_string_is_no_quantity_even_where_it_holds_one():
    with pytest.raises(InvalidBodyError):
        read(json.dumps(envelope(signal("OPEN", "10.00"))).encode())
