"""A request is answered, passed on and logged in the same way as a line of a batch and without a batch."""

import asyncio
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.batches import Line, peer, send_batch
from support.forwarders import BODY, FORWARDERS, SOURCE, ClientRequest, Hop, hop_of
from support.internals import fail_requests, is_idle
from support.messages import QUOTE, TEST, UNKNOWN_UUID

VARYING = {"time", "duration_ms"}
GENERATED = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9_-]{32}")
NOT_COMPARED = {"date", "server", "content-length", "connection", "quote-batch"}

GOOD_QUOTE = {**QUOTE, "account": "http://ledger.example/accounts/bob"}
BODIES = {
    "good": json.dumps(GOOD_QUOTE).encode(),
    "not ASCII": json.dumps(GOOD_QUOTE, ensure_ascii=False).replace("$", "€").encode(),
    "spaces and escapes": BODY,
    "with an amount": json.dumps({**GOOD_QUOTE, "sourceAmount": "13.75"}).encode(),
    "two faults": json.dumps({**GOOD_QUOTE, "amount": "1e3", "identifierType": "EUR"}).encode(),
    "elsewhere": json.dumps(
        {**GOOD_QUOTE, "submissionUrl": "http://elsewhere/v1/quoteSourceAmount"}
    ).encode(),
    "empty": b"{}",
    "list": b"[]",
    "broken": b"{",
    "nothing": b"",
    "spaces alone": b" " * 70_000,
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
        "Authorization": mostly(TEST, None, "Basic", "Basic eDp5OnoK", "Bearer x"),
        "L1p-Trace-Id": mostly("trace", "a b", "x" * 65, "ü"),
        "X-Request-Timeout-Ms": mostly(
            "9000", None, "0", "007000", "99999", "999999", "-1", "5000.0", "\u0665"
        ),
        "Idempotency-Key": mostly("key", None, "", "a b", "x" * 129, "x" * 128, "ü"),
        "traceparent": st.sampled_from(
            [None] * 8 + ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] * 4 + ["00-x", ""]
        ),
        "Content-Type": mostly("application/json", "text/plain", "application/json; charset=latin-1"),
        "X-Other": mostly(None, "x"),
    }
)
REQUESTS = st.lists(
    st.tuples(TARGETS, HEADERS, st.sampled_from(["good"] * 6 + list(BODIES))), min_size=1, max_size=20
)


async def echo(received: Line) -> tuple[int, dict[str, str], str]:
    """Respond with the request, and with the number of digits of the time left."""
    given = {name.lower(): value for name, value in received["headers"].items()}
    kept = {
        each: given.get(each) for each in ("authorization", "l1p-trace-id", "idempotency-key", "traceparent")
    }
    left = given.get("x-request-timeout-ms", "")
    content = {"path": received["path"], "body": received["body"] or "", "left": len(left), **kept}
    return 200, {"Content-Type": "application/json"}, json.dumps(content)


def adapted(hop: Hop, request: Any) -> Any:
    """The request as this hop needs it."""
    (method, path), headers, name = request
    body = BODIES[name]
    if hop.service != "spsp-client" or not body.endswith(b"}"):
        return (method, path), headers, body
    sent = hop.adapted(ClientRequest(method, path.partition("?")[0], body=body))
    return (method, path), headers, sent.body


def lines_of(requests: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "method": method,
            "path": path,
            "headers": _given(headers, number),
            "body": body.decode() if method != "GET" else None,
        }
        for number, ((method, path), headers, body) in enumerate(requests)
    ]


def _given(headers: dict[str, str | None], number: int) -> dict[str, str]:
    made = {name: value for name, value in headers.items() if value is not None}
    if made.get("L1p-Trace-Id") == "trace":
        made["L1p-Trace-Id"] = f"trace-{number}"
    return made


def without_generated(outcome: Any) -> str:
    """Without trace ids and keys that the service generated."""
    return GENERATED.sub("generated", json.dumps(outcome, default=repr, sort_keys=True))


def response_of(status: int, headers: Any, body: str) -> str:
    compared = {k.lower(): v for k, v in headers.items() if k.lower() not in NOT_COMPARED}
    return without_generated((status, compared, body))


async def in_a_batch(hop: Hop, lines: list[dict[str, Any]]) -> list[str]:
    by_id = (await send_batch(hop.client, hop.url, lines)).by_id
    return [
        response_of(each["status"], each["headers"], each["body"])
        for each in (by_id[line["id"]] for line in lines)
    ]


async def without_a_batch(hop: Hop, lines: list[dict[str, Any]]) -> list[str]:
    responses = []
    for line in lines:
        path, _, query = line["path"].partition("?")
        body = line["body"].encode() if line["body"] is not None else None
        sent = ClientRequest(line["method"], path, query, body)
        response = await hop.send_with(sent, line["headers"], adapt=False)
        responses.append(response_of(response.status, response.headers, response.body.decode()))
    return responses


def logged(hop: Hop) -> list[str]:
    kept = ({k: v for k, v in event.items() if k not in VARYING} for event in hop.log.events)
    return sorted(without_generated(event) for event in kept)


@pytest.mark.parametrize(
    ("name", "more"),
    [*((name, {}) for name in FORWARDERS), ("spsp-client-proxy", {"directory_memory_seconds": "0"})],
)
async def test_a_line_of_a_batch_is_answered_and_logged_as_without_a_batch(name, more, users_file, client):
    loop = asyncio.get_running_loop()
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

        async def both(lines: list[dict[str, Any]]) -> tuple[Any, Any]:
            outcomes = []
            for way in (without_a_batch, in_a_batch):
                hop.log.kept.clear()
                outcomes.append((await way(hop, lines), logged(hop)))
            return outcomes[0], outcomes[1]

        assert 200 == (await hop.send(replace(SOURCE, body=json.dumps(GOOD_QUOTE).encode()))).status

        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(requests=REQUESTS)
        def check(requests: Any) -> None:
            lines = lines_of([adapted(hop, request) for request in requests])
            alone, batched = asyncio.run_coroutine_threadsafe(both(lines), loop).result()
            for one, other in zip(alone[0] + alone[1], batched[0] + batched[1], strict=True):
                assert one == other

        await asyncio.to_thread(check)


async def test_an_unexpected_failure_of_one_line_affects_no_other(users_file, client, monkeypatch):
    async with (
        peer(answer=echo) as next_hop,
        hop_of(FORWARDERS["spsp-server"], users_file, client, next_url=next_hop.url, batch_lines="64") as hop,
    ):
        assert 200 == (await hop.send()).status
        fail_requests(monkeypatch, RuntimeError("unexpected"), trace_id="broken")
        lines = lines_of([(("POST", SOURCE.path), {"Authorization": TEST, "L1p-Trace-Id": trace}, BODY)
                          for trace in ("good", "broken", "good too")])  # fmt: skip
        batch = await send_batch(client, hop.url, lines)
        alone = await hop.send(L1p_Trace_Id="broken")

        assert {0: 200, 1: 503, 2: 200} == {number: each["status"] for number, each in batch.by_id.items()}
        assert (503, "UnavailableError") == (alone.status, alone.id)
        assert is_idle(hop.app)
