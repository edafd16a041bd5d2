"""When a service sends batches, to which peers, and in which form (wire.md §8)."""

import asyncio
import json
from dataclasses import replace

import pytest

from support.batch_senders import MAX_BODY_BYTES, echo_trace_id, numbered
from support.batches import NDJSON, Line
from support.client import is_error_object
from support.forwarders import EXECUTE, LOOK_UP, SOURCE
from support.messages import KEY, OTHER, TEST, TRACE
from support.scripted_server import unused_url


async def test_an_idle_service_sends_each_request_alone(each_sender):
    for operation in [SOURCE, EXECUTE, LOOK_UP] * 3:
        assert 200 == (await each_sender.hop.send(operation)).status

    assert (9, 0) == (len(each_sender.peer.single), len(each_sender.peer.batches))


async def test_a_busy_service_sends_waiting_requests_together(each_sender):
    each_sender.peer.answer = echo_trace_id
    responses = await each_sender.together(*numbered(10))

    assert [(200, {"for": f"trace-{each}"}) for each in range(10)] == [
        (response.status, response.json) for response in responses
    ]
    assert [10] == [len(batch) for batch in each_sender.peer.batches]
    assert [] == each_sender.peer.single


@pytest.mark.parametrize("announced", [None, "", "0", "x", "-1", "1.5", "٣", "999999999", "64, 64"], ids=repr)
async def test_a_peer_that_announces_no_number_of_lines_gets_no_batch(sender_of, announced):
    sender = await sender_of()
    sender.peer.announces = announced
    assert 200 == (await sender.hop.send()).status
    sender.peer.hold()
    tasks = [asyncio.create_task(sender.hop.send()) for _ in range(10)]
    await sender.peer.until_holding(10)
    sender.peer.release()

    assert [200] * 10 == [response.status for response in await asyncio.gather(*tasks)]
    assert [] == sender.peer.batches


async def test_a_service_without_batches_sends_none(sender_of):
    sender = await sender_of(batch_lines="0")
    sender.peer.hold()
    tasks = [asyncio.create_task(sender.hop.send()) for _ in range(10)]
    await sender.peer.until_holding(10)
    sender.peer.release()

    assert [200] * 10 == [response.status for response in await asyncio.gather(*tasks)]
    assert [] == sender.peer.batches


@pytest.mark.parametrize(("announced", "own", "limit"), [("3", "64", 3), ("64", "4", 4), ("1000", "5", 5)])
async def test_a_batch_has_at_most_the_lines_of_both_limits(sender_of, announced, own, limit):
    sender = await sender_of(batch_lines=own)
    sender.peer.announces = announced
    assert 200 == (await sender.hop.send()).status
    responses = await sender.together(*numbered(3 * limit))

    assert [200] * 3 * limit == [response.status for response in responses]
    assert limit == max(len(batch) for batch in sender.peer.batches)


async def test_a_line_is_the_request_and_the_envelope_has_no_headers_of_a_caller(sender):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = [
        (SOURCE, {TRACE: "t-1", KEY: "k-1", "traceparent": trace, "X-Request-Timeout-Ms": "20000"}),
        (EXECUTE, {TRACE: "t-2", "Authorization": OTHER, "X-Request-Timeout-Ms": "40000"}),
        (LOOK_UP, {TRACE: "t-3", "X-Request-Timeout-Ms": "60000"}),
    ]
    await sender.hop.send(Authorization=OTHER)  # a known password needs no hash, which would take a while
    await sender.together(*given)
    [lines], [envelope] = sender.peer.batches, sender.peer.envelopes

    found = {each["headers"].pop(TRACE): each for each in lines}
    left = {name: int(each["headers"].pop("X-Request-Timeout-Ms")) for name, each in found.items()}
    expected = [
        ("t-1", SOURCE, {"Authorization": TEST, KEY: "k-1", "traceparent": trace}),
        ("t-2", EXECUTE, {"Authorization": OTHER}),
        ("t-3", LOOK_UP, {"Authorization": TEST}),
    ]
    for name, operation, headers in expected:
        body = None if operation.body is None else operation.body.decode()
        each = {key: value for key, value in found[name].items() if key != "id"}
        assert {
            "method": operation.method,
            "path": operation.target,
            "headers": headers,
            "body": body,
        } == each
    assert 0 < left["t-1"] <= 20_000 < left["t-2"] <= 40_000 < left["t-3"] <= 60_000
    assert len({each["id"] for each in lines}) == len(lines)
    assert {"Host", "Content-Type", "Content-Length", "L1p-Trace-Id"} == set(envelope.headers)
    assert NDJSON == envelope.headers["Content-Type"]


async def test_the_time_of_a_line_is_the_time_left_when_it_is_sent(sender):
    tasks = await sender.waiting(*numbered(2, X_Request_Timeout_Ms="60000"))
    await asyncio.sleep(0.2)
    sender.peer.release()
    await asyncio.gather(*tasks)
    [lines] = sender.peer.batches

    assert all(0 < int(each["headers"]["X-Request-Timeout-Ms"]) <= 59_800 for each in lines)


async def test_the_response_to_a_line_passes_as_without_a_batch(sender):
    theirs = json.dumps({"id": "X", "message": "m", "service": "s", "traceId": "t"})
    challenge = {"WWW-Authenticate": 'Basic realm="theirs"', "Content-Type": "application/problem+json"}
    replies = {
        "trace-0": (
            200,
            {"Content-Type": "application/json; charset=utf-8"},
            '{"a" : "ü\\u0041 \U0001f4b6"}',
        ),
        "trace-1": (401, challenge, theirs),
        "trace-2": (429, {"Retry-After": "7", "Set-Cookie": "a=b"}, theirs),
        "trace-3": (503, {"Retry-After": "3"}, theirs),
        "trace-4": (500, {}, theirs),
        "trace-5": (500, {}, "{}"),
        "trace-6": (404, {}, "<html>"),
        "trace-7": (302, {"Location": "/"}, "{}"),
        "trace-8": (200, {}, "[]"),
        "trace-9": (200, {}, None),
        "trace-10": (200, {}, '{"a":"' + "x" * MAX_BODY_BYTES + '"}'),
        "trace-11": (200, {"Content-Type": "text/plain\r\nX: y", "Retry-After": "\0"}, "{}"),
        "trace-12": (0, {}, "{}"),
        "trace-13": (99_999, {}, "{}"),
        "trace-14": (418, {}, '{"a":"' + "x" * MAX_BODY_BYTES + '"}'),
    }

    async def answer(line: Line) -> tuple[int, dict[str, str], str | None]:
        return replies.get(line["headers"][TRACE], (200, {}, "{}"))

    sender.peer.answer = answer
    found = await sender.together(*numbered(len(replies)))

    assert [200, 401, 429, 503, 500, 502, 404, 502, 502, 502, 502, 200, 502, 502, 418] == [
        each.status for each in found
    ]
    for each in range(5):
        assert replies[f"trace-{each}"][2].encode() == found[each].body
    assert ["application/json; charset=utf-8", "application/problem+json"] == [
        each.headers["Content-Type"] for each in found[:2]
    ]
    assert 'Basic realm="theirs"' == found[1].headers["WWW-Authenticate"]
    assert ("7", "3") == (found[2].headers["Retry-After"], found[3].headers["Retry-After"])
    assert not {"Set-Cookie", "X", "Location"} & {name for each in found for name in each.headers}
    assert all(is_error_object(found[each]) for each in (5, 6, 7, 8, 9, 10, 12, 13, 14))
    assert 1 == len(sender.peer.batches)


async def test_a_request_that_is_sent_alone_beside_a_batch_has_a_span_id_of_its_own(sender_of):
    """A body that is not UTF-8 cannot be in a batch."""
    sender = await sender_of(traces_url=f"{unused_url()}/v1/traces", traces_ratio="0")
    assert 200 == (await sender.hop.send()).status
    await sender.together((SOURCE, {}), (replace(SOURCE, body=b"\xff"), {}), (SOURCE, {}), (SOURCE, {}))
    [alone] = sender.peer.single
    [lines], [envelope] = sender.peer.batches, sender.peer.envelopes

    first = int(envelope.headers["Quote-Batch-Spans"], 16)
    assert 3 == len(lines)
    assert int(alone.headers["traceparent"].split("-")[2], 16) not in {first + each["id"] for each in lines}
