"""`POST /v1/batch` at each service: the envelope, before any of its lines is begun (wire.md §8)."""

import io
import json
from collections.abc import AsyncIterator

import pytest

from chassis.app import SERVICE
from support.batches import BATCH, NDJSON, QUOTE_BATCH, send_batch, written
from support.forwarders import Ask, answers_in
from support.messages import TRACE, basic, headers
from support.serving import raw, reply

MIB = 2**20


async def test_each_reply_says_how_many_lines_a_batch_may_have(taker_with):
    taker = await taker_with(batch_lines="17")

    assert ["17"] == (await taker.alone()).headers.getall(QUOTE_BATCH)
    assert ["17"] == (await taker.alone(Authorization=None)).headers.getall(QUOTE_BATCH)
    assert ["17"] == (await taker.alone(Ask("GET", "/nowhere"))).headers.getall(QUOTE_BATCH)
    assert "17" == (await taker.batch(taker.line())).headers[QUOTE_BATCH]
    assert "17" == (await taker.batch(Content_Type="text/plain")).headers[QUOTE_BATCH]


async def test_who_takes_none_says_nothing_and_answers_404(taker_with):
    taker = await taker_with(batch_lines="0")
    refused = await taker.batch(taker.line())

    assert (404, "NotFoundError") == (refused.status, json.loads(refused.body)["id"])
    assert QUOTE_BATCH not in refused.headers
    assert QUOTE_BATCH not in (await taker.alone()).headers


async def test_only_post_is_a_batch(taker):
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"]:
        async with taker.client.request(method, taker.url + BATCH) as reply:
            content = await reply.json()

        assert (405, "MethodNotAllowedError", "POST") == (reply.status, content["id"], reply.headers["Allow"])


@pytest.mark.parametrize(
    "more",
    [
        {"Content_Type": "application/json"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-ndjson; charset=latin-1"},
        {"Content_Encoding": "gzip"},
    ],
    ids=str,
)
async def test_another_type_is_415(taker, more):
    refused = await taker.batch(taker.line(), **more)

    assert (415, "UnsupportedMediaTypeError") == (refused.status, json.loads(refused.body)["id"])
    assert [415] == [event["status"] for event in taker.log.events]


@pytest.mark.parametrize("type_", [NDJSON, NDJSON + "; charset=utf-8", "Application/X-NDJSON;charset=UTF-8"])
async def test_the_type_may_name_its_charset(taker, type_):
    assert 200 == (await taker.batch(taker.line(), Content_Type=type_)).status


async def test_a_line_too_many_is_413_and_nothing_is_begun(taker_with):
    taker = await taker_with(batch_lines="3")
    lines = [taker.line(number) for number in range(4)]
    refused = await taker.batch(*lines)

    assert (413, "PayloadTooLargeError") == (refused.status, json.loads(refused.body)["id"])
    assert [413] == [event["status"] for event in taker.log.events]
    assert [200] * 3 == [each["status"] for each in (await taker.batch(*lines[:3])).lines]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_over_4_mib_is_413(taker, is_chunked):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * MIB

    data = chunks() if is_chunked else io.BytesIO(b" " * (4 * MIB + 1))
    async with taker.client.post(taker.url + BATCH, data=data, headers={"Content-Type": NDJSON}) as reply:
        content = await reply.json()

    assert (413, "PayloadTooLargeError") == (reply.status, content["id"])


async def test_just_4_mib_are_taken(taker):
    one = written([taker.line()])
    whole = await send_batch(taker.client, taker.url, one[:-1] + b" " * (4 * MIB - len(one)) + b"\n")

    assert [200] == [each["status"] for each in whole.lines]


async def test_a_service_that_stops_refuses_the_whole(taker):
    taker.app[SERVICE].is_closed = True
    refused = await taker.batch(taker.line(1), taker.line(2))

    assert (503, "UnavailableError") == (refused.status, json.loads(refused.body)["id"])
    assert "Retry-After" in refused.headers
    assert [503] == [event["status"] for event in taker.log.events]


async def test_a_service_with_its_hands_full_refuses_the_whole(taker):
    taker.app[SERVICE].in_hand = taker.app[SERVICE].settings.max_in_flight
    refused = await taker.batch(taker.line())
    taker.app[SERVICE].in_hand = 0

    assert (503, "UnavailableError") == (refused.status, json.loads(refused.body)["id"])
    assert "Retry-After" in refused.headers


async def test_a_refused_envelope_tells_the_trace_id_it_came_with(taker):
    refused = await taker.batch(Content_Type="text/plain", L1p_Trace_Id="of-the-whole")

    assert "of-the-whole" == refused.headers[TRACE] == json.loads(refused.body)["traceId"]


async def test_the_envelope_needs_no_credentials_and_its_own_are_for_nothing(taker):
    """Only what stands in a line counts."""
    whole = await taker.batch(
        taker.line("none", Authorization=None),
        taker.line("wrong", Authorization=basic("test", "wrong")),
        taker.line("right"),
        Authorization=headers()["Authorization"],
    )

    assert {
        "none": (401, "UnauthorizedError"),
        "wrong": (401, "UnauthorizedError"),
        "right": (200, None),
    } == whole.outcomes
    challenge = f'Basic realm="{taker.service}", charset="UTF-8"'
    assert challenge == whole.by_id["none"]["headers"]["WWW-Authenticate"]


async def test_an_empty_batch_is_an_empty_answer(taker):
    whole = await taker.batch()

    assert (200, b"") == (whole.status, whole.body)
    assert NDJSON == whole.headers["Content-Type"]
    assert [] == taker.log.events


async def test_a_batch_that_does_not_arrive_whole_begins_nothing(taker):
    data = written([taker.line()])
    head = (
        f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(data) + 9}\r\n"
    )
    [answer] = answers_in(await raw(taker.url, head.encode() + b"\r\n" + data, half_close=True))

    assert (400, "InvalidBodyError") == (answer.status, answer.id)
    assert [400] == [event["status"] for event in taker.log.events]


async def test_the_last_line_may_lack_its_newline(taker):
    whole = await send_batch(taker.client, taker.url, written([taker.line(1), taker.line(2)])[:-1])

    assert {1, 2} == set(whole.by_id)


async def test_the_old_protocol_is_answered_too(taker):
    data = written([taker.line(1), taker.line(2)])
    head = (
        f"POST {BATCH} HTTP/1.0\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    said = await raw(taker.url, head.encode() + data)

    assert said.startswith(b"HTTP/1.0 200 ")
    assert [200, 200] == [json.loads(each)["status"] for each in said.partition(b"\r\n\r\n")[2].splitlines()]


async def test_a_next_hops_announcement_is_not_passed_on(hop_to, forwarder):
    hop = await hop_to(forwarder, batch_lines="17")
    hop.next_hop.answer = reply(200, {}, Quote_Batch="9")

    assert ["17"] == (await hop.send()).headers.getall(QUOTE_BATCH)


async def test_who_takes_none_passes_no_announcement_on(hop_to, forwarder):
    hop = await hop_to(forwarder, batch_lines="0")
    hop.next_hop.answer = reply(200, {}, Quote_Batch="9")

    assert QUOTE_BATCH not in (await hop.send()).headers


async def test_what_is_said_of_the_whole_run_holds_where_a_test_says_nothing(hop, pytestconfig):
    """`--batches=off`: as next to any other implementation."""
    expected = {"on": ["256"], "off": []}[pytestconfig.getoption("batches")]

    assert expected == (await hop.send()).headers.getall(QUOTE_BATCH, [])
