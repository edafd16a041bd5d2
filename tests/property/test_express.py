"""What is taken without a task of its own is answered, passed on and logged as all else is."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.app import SERVICE
from quoting.call import Call
from quoting.express import CallExpress
from quoting.forwarder import forwarder
from support.batches import Line, peer, send_batch
from support.forwarders import BODY, FORWARDERS, SOURCE, ClientRequest, Hop, hop_of
from support.messages import TEST, UNKNOWN_UUID

SECONDS = 40
VARYING = {"time", "duration_ms"}
ANEW = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9_-]{32}")
NOT_COMPARED = {"Date", "Content-Length"}

GOOD_QUOTE = {
    "currencyCode": "USD",
    "currencySymbol": "$",
    "amount": "12.50",
    "account": "http://ledger.example/accounts/bob",
    "identifier": "30754016",
    "identifierType": "eur",
    "transferType": "p2p",
}
BODIES = {
    "good": json.dumps(GOOD_QUOTE).encode(),
    "not ASCII": json.dumps(GOOD_QUOTE, ensure_ascii=False).replace("$", "€").encode(),
    "blanks and escapes": BODY,
    "with an amount": json.dumps({**GOOD_QUOTE, "sourceAmount": "13.75"}).encode(),
    "two faults": json.dumps({**GOOD_QUOTE, "amount": "1e3", "identifierType": "EUR"}).encode(),
    "elsewhere": json.dumps(
        {**GOOD_QUOTE, "submissionUrl": "http://elsewhere/v1/quoteSourceAmount"}
    ).encode(),
    "empty": b"{}",
    "list": b"[]",
    "broken": b"{",
    "nothing": b"",
    "blanks alone": b" " * 70_000,
    "too long in bytes": b'{"amount": "' + "€".encode() * 22_000 + b'"}',
}
TARGETS = st.sampled_from(
    [
        *[("POST", "/v1/quoteSourceAmount")] * 8,
        ("POST", "/v1/quoteDestinationAmount"),
        ("POST", "/v1/quoteSourceAmount?a=b"),
        ("POST", "/v1/elsewhere"),
        *[("PUT", f"/v1/payments/{UNKNOWN_UUID}")] * 4,
        ("PUT", "/v1/payments/3F2B8E0C-AAAA-4BBB-8CCC-0123456789AB"),
        ("PUT", "/v1/payments/3f2b8e0c-aaaa-4bbb-8ccc-0123456789a"),
        ("PUT", "/v1/payments/"),
        ("PUT", "/v1/quoteSourceAmount"),
        ("GET", f"/v1/quote/{UNKNOWN_UUID}?identifierType=eur&identifier=30754016"),
    ]
)


def mostly(usual: str | None, *others: str | None) -> st.SearchStrategy[str | None]:
    return st.sampled_from([usual] * 4 * len(others) + list(others))


HEADERS = st.fixed_dictionaries(
    {
        "Authorization": mostly(TEST, None, "Basic", "Basic eDp5OnoK\t", "Bearer x"),
        "L1p-Trace-Id": mostly("trace", "a b", "x" * 65, "ü"),
        "X-Request-Timeout-Ms": mostly(
            "9000", None, "0", "007000", "99999", "999999", "-1", "5000.0", "\u0665"
        ),
        "Idempotency-Key": mostly("key", None, "", "a b", "x" * 129, "x" * 128, "ü"),
        "traceparent": st.sampled_from(
            [None] * 8 + ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] * 4 + ["00-x", ""]
        ),
        "Content-Type": mostly(None, "application/json", "text/plain", "application/json; charset=latin-1"),
        "X-Other": mostly(None, "x"),
    }
)
MESSAGES = st.lists(
    st.tuples(TARGETS, HEADERS, st.sampled_from(["good"] * 6 + list(BODIES))), min_size=1, max_size=20
)


async def echo(asked: Line) -> tuple[int, dict[str, str], str]:
    """What came, but for how much time is left."""
    told = {name.lower(): value for name, value in asked["headers"].items()}
    kept = {
        each: told.get(each) for each in ("authorization", "l1p-trace-id", "idempotency-key", "traceparent")
    }
    left = told.get("x-request-timeout-ms", "")
    said = {"path": asked["path"], "body": asked["body"], "left": left[:1] + str(len(left)), **kept}
    return 200, {"Content-Type": "application/json"}, json.dumps(said)


def lines_of(messages: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "method": method,
            "path": path,
            "headers": _given(headers, number),
            "body": body.decode("utf-8", "replace") if method != "GET" else None,
        }
        for number, ((method, path), headers, body) in enumerate(messages)
    ]


def _given(headers: dict[str, str | None], number: int) -> dict[str, str]:
    made = {name: value for name, value in headers.items() if value is not None}
    if made.get("L1p-Trace-Id") == "trace":
        made["L1p-Trace-Id"] = f"trace-{number}"
    return made


@pytest.mark.parametrize(
    ("name", "more"),
    [*((name, {}) for name in FORWARDERS), ("spsp-client-proxy", {"directory_memory_seconds": "0"})],
)
async def test_express_is_as_all_else_is(name, more, users_file, client, monkeypatch):
    loop = asyncio.get_running_loop()
    ordinary = CallExpress._take
    taken = []

    def counted(*arguments: Any) -> bool:
        taken.append(ordinary(*arguments))
        return taken[-1]

    async with (
        peer(answer=echo) as next_hop,
        hop_of(
            FORWARDERS[name],
            users_file,
            client,
            next_url=next_hop.url,
            max_wait_seconds="60",
            batch_lines="64",
            **more,
        ) as hop,
    ):

        async def lines(made: list[dict[str, Any]]) -> Any:
            hop.log.kept.clear()
            batch = await send_batch(client, hop.url, made)
            return batch.by_id, logged()

        async def alone(made: list[dict[str, Any]]) -> Any:
            hop.log.kept.clear()
            answers = []
            for each in made:
                path, _, query = each["path"].partition("?")
                body = each["body"].encode() if each["body"] is not None else None
                try:
                    answer = await hop.send_with(
                        ClientRequest(each["method"], path, query, body), each["headers"], adapt=False
                    )
                except ValueError:  # the client does not send this
                    continue
                told = {k: v for k, v in answer.headers.items() if k not in NOT_COMPARED}
                answers.append((answer.status, told, answer.body))
            return answers, logged()

        def logged() -> list[str]:
            kept = ({k: v for k, v in event.items() if k not in VARYING} for event in hop.log.events)
            return sorted(_known(event) for event in kept)

        async def both(made: list[dict[str, Any]], how: Any) -> Any:
            monkeypatch.setattr(CallExpress, "_take", lambda *_: False)
            expected = await how(made)
            monkeypatch.setattr(CallExpress, "_take", counted)
            return expected, await how(made)

        assert 200 == (await hop.send(replace(SOURCE, body=json.dumps(GOOD_QUOTE).encode()))).status

        @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(messages=MESSAGES, is_batch=st.booleans())
        def check(messages: Any, is_batch: bool) -> None:
            made = lines_of([_adapted(hop, message) for message in messages])
            run = asyncio.run_coroutine_threadsafe(both(made, lines if is_batch else alone), loop)
            expected, express = run.result(SECONDS)
            assert _known(expected) == _known(express)

        await asyncio.to_thread(check)
    assert sum(taken) >= 5


def _adapted(hop: Any, message: Any) -> Any:
    """As this hop takes it."""
    (method, path), headers, named = message
    body = BODIES[named]
    if hop.service != "spsp-client" or not body.endswith(b"}"):
        return (method, path), headers, body
    ask = hop.adapted(ClientRequest(method, path.partition("?")[0], body=body))
    return (method, path), headers, ask.body


def _known(outcome: Any) -> str:
    """Without what is made anew for each message: trace ids and keys that nobody gave."""
    return ANEW.sub("anew", json.dumps(outcome, default=repr, sort_keys=True))


PLAIN = {"Authorization": TEST, "L1p-Trace-Id": "trace", "X-Request-Timeout-Ms": "9000"}


def plain_line(number: int, **more: str | None) -> dict[str, Any]:
    """A reservation as a service of ours writes it."""
    told = {name.replace("_", "-"): value for name, value in more.items()}
    return {
        "id": number,
        "method": "POST",
        "path": "/v1/quoteSourceAmount",
        "headers": {**PLAIN, "Idempotency-Key": "key", **told},
        "body": json.dumps(GOOD_QUOTE),
    }


@pytest.fixture
async def hop(users_file, client) -> AsyncIterator[Hop]:
    """One that knows its caller, and that its next hop takes batches."""
    async with (
        peer(answer=echo) as next_hop,
        hop_of(
            FORWARDERS["spsp-server"], users_file, client, next_url=next_hop.url, batch_lines="64"
        ) as made,
    ):
        assert 200 == (await made.send()).status
        made.log.kept.clear()
        yield made


async def batched(hop: Hop, monkeypatch: pytest.MonkeyPatch, *lines: dict[str, Any]) -> list[str]:
    """Answers and log, in the ordinary way and by express."""
    told = []
    for is_express in (False, True):
        with monkeypatch.context() as patch:
            if not is_express:
                patch.setattr(CallExpress, "_take", lambda *_: False)
            hop.log.kept.clear()
            answers = (await send_batch(hop.client, hop.url, lines)).lines
        kept = [{k: v for k, v in event.items() if k not in VARYING} for event in hop.log.events]
        told.append(_known([answers, kept]))
    return told


@pytest.mark.parametrize("name", ["Idempotency-Key", "traceparent"])
async def test_null_is_no_header(hop, monkeypatch, name):
    line = plain_line(1)
    line["headers"][name] = None
    if name == "Idempotency-Key":
        line |= {"method": "PUT", "path": f"/v1/payments/{UNKNOWN_UUID}"}
    ordinary, express = await batched(hop, monkeypatch, line)

    assert ordinary == express
    assert '"status": 400' in express


async def test_no_header_is_longer_than_alone(hop, monkeypatch):
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-"
    line = plain_line(1, traceparent=traceparent + "x" * 9_000)
    ordinary, express = await batched(hop, monkeypatch, line)

    assert ordinary == express
    assert "InvalidHeaderError" in express


async def test_who_is_refused_before_he_was_looked_at_is_nobody_in_the_log(hop, monkeypatch):
    hop.app[SERVICE].is_closed = True
    asked = hop.request_bytes(SOURCE, Idempotency_Key="key", L1p_Trace_Id="trace")
    [ordinary, express] = [await _alone(hop, asked, monkeypatch, way) for way in (False, True)]

    assert (503, None) == ordinary == express


async def _alone(
    hop: Hop, asked: bytes, monkeypatch: pytest.MonkeyPatch, is_express: bool
) -> tuple[int, str | None]:
    """Status, and the caller in the log."""
    hop.log.kept.clear()
    with monkeypatch.context() as patch:
        if not is_express:
            patch.setattr(CallExpress, "_take", lambda *_: False)
        [answer] = await hop.send_bytes(asked)
    [event] = hop.log.events
    return answer.status, event["caller"]


async def test_what_fails_beyond_expectation_fails_alone(users_file, client):
    """The others of the batch are answered, and nothing stays in hand."""

    def aim(call: Call) -> tuple[Call, str]:
        if call.trace_id == "broken":
            raise RuntimeError("beyond expectation")
        return call, next_hop.url

    def create_app(settings: Any) -> web.Application:
        return forwarder("spsp-server", settings, aim, next_service="spsp-server-backend")

    async with peer(answer=echo) as next_hop:
        broken = replace(FORWARDERS["spsp-server"], create_app=create_app)
        async with hop_of(broken, users_file, client, next_url=next_hop.url, batch_lines="64") as hop:
            assert 200 == (await hop.send()).status
            lines = [plain_line(1), plain_line(2, L1p_Trace_Id="broken"), plain_line(3)]
            batch = await send_batch(client, hop.url, lines)
            alone = await hop.send(L1p_Trace_Id="broken", Idempotency_Key="key")

            assert {1: 200, 2: 503, 3: 200} == {
                number: each["status"] for number, each in batch.by_id.items()
            }
            assert (503, "UnavailableError") == (alone.status, alone.id)
            assert (0, 0) == (hop.app[SERVICE].in_hand, hop.app[SERVICE].envelopes)


async def test_whose_time_has_ended_before_he_was_read_is_late_whatever_he_asks(
    users_file, client, monkeypatch
):
    async with hop_of(FORWARDERS["dfsp-api"], users_file, client) as hop:
        assert 200 == (await hop.send()).status
        monkeypatch.setattr(hop.app[SERVICE].pace, "waited", lambda _: 0.05)
        asked = hop.request_bytes(
            replace(SOURCE, body=b"{}"),
            Idempotency_Key="key",
            L1p_Trace_Id="trace",
            X_Request_Timeout_Ms="20",
        )
        [ordinary, express] = [await _alone(hop, asked, monkeypatch, way) for way in (False, True)]

        assert (504, "test") == ordinary == express
