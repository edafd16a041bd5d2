"""`POST /v1/batch` at each service: how the envelope is checked before any of its lines starts (wire.md §8)."""

import asyncio
import io
import json
from collections.abc import AsyncIterator

import pytest

from support.batch_servers import batch_server_of
from support.batches import BATCH, NDJSON, QUOTE_BATCH, batch_bytes, send_batch
from support.client import responses_in
from support.forwarders import ClientRequest
from support.internals import reject_new_requests
from support.messages import TRACE, basic, headers
from support.serving import Seen, reply, send_bytes

MIB = 2**20


async def test_each_response_announces_how_many_lines_a_batch_may_have(get_batch_server):
    server = await get_batch_server(batch_lines="17")

    assert ["17"] == (await server.alone()).headers.getall(QUOTE_BATCH)
    assert ["17"] == (await server.alone(Authorization=None)).headers.getall(QUOTE_BATCH)
    assert ["17"] == (await server.alone(ClientRequest("GET", "/nowhere"))).headers.getall(QUOTE_BATCH)
    assert "17" == (await server.batch(server.line())).headers[QUOTE_BATCH]
    assert "17" == (await server.batch(Content_Type="text/plain")).headers[QUOTE_BATCH]


async def test_a_service_without_batches_announces_nothing_and_responds_404(get_batch_server):
    server = await get_batch_server(batch_lines="0")
    rejected = await server.batch(server.line())

    assert (404, "NotFoundError") == (rejected.status, json.loads(rejected.body)["id"])
    assert QUOTE_BATCH not in rejected.headers
    assert QUOTE_BATCH not in (await server.alone()).headers


async def test_a_batch_has_to_be_posted(batch_server):
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"]:
        async with batch_server.client.request(method, batch_server.url + BATCH) as response:
            content = await response.json()

        found = (response.status, content["id"], response.headers["Allow"])
        assert (405, "MethodNotAllowedError", "POST") == found


async def test_another_type_than_ndjson_is_415(batch_server):
    for more in [
        {"Content_Type": "application/json"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-ndjson; charset=latin-1"},
        {"Content_Encoding": "gzip"},
    ]:
        batch_server.log.kept.clear()
        rejected = await batch_server.batch(batch_server.line(), **more)

        assert (415, "UnsupportedMediaTypeError") == (rejected.status, json.loads(rejected.body)["id"])
        assert [415] == [event["status"] for event in batch_server.log.events]


async def test_the_type_may_name_its_charset(batch_server):
    for given in [NDJSON, NDJSON + "; charset=utf-8", "Application/X-NDJSON;charset=UTF-8"]:
        assert 200 == (await batch_server.batch(batch_server.line(), Content_Type=given)).status


async def test_a_batch_with_one_line_too_many_is_413_and_no_line_starts(get_batch_server):
    server = await get_batch_server(batch_lines="3")
    lines = [server.line(number) for number in range(4)]
    rejected = await server.batch(*lines)

    assert (413, "PayloadTooLargeError") == (rejected.status, json.loads(rejected.body)["id"])
    assert [413] == [event["status"] for event in server.log.events]
    assert [200] * 3 == [each["status"] for each in (await server.batch(*lines[:3])).lines]


@pytest.mark.parametrize("is_chunked", [False, True], ids=["whole", "chunked"])
async def test_a_batch_over_4_mib_is_413(batch_server, is_chunked):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * MIB

    data = chunks() if is_chunked else io.BytesIO(b" " * (4 * MIB + 1))
    given = {"Content-Type": NDJSON, "Connection": "close"}
    async with batch_server.client.post(batch_server.url + BATCH, data=data, headers=given) as response:
        content = await response.json()

    assert (413, "PayloadTooLargeError") == (response.status, content["id"])


async def test_a_batch_of_4_mib_is_accepted(batch_server):
    one = batch_bytes([batch_server.line()])
    padded = one[:-1] + b" " * (4 * MIB - len(one)) + b"\n"
    whole = await send_batch(batch_server.client, batch_server.url, padded)

    assert [200] == [each["status"] for each in whole.lines]


@pytest.mark.parametrize("name", ["spsp-server", "central-directory"])
async def test_a_service_that_shuts_down_rejects_the_whole_batch(shared_batch_server, name):
    server = await shared_batch_server(name, stop_grace_seconds="0")  # a server of this test's own
    reject_new_requests(server.app)
    rejected = await server.batch(server.line(1), server.line(2))

    assert (503, "UnavailableError") == (rejected.status, json.loads(rejected.body)["id"])
    assert "Retry-After" in rejected.headers
    assert [503] == [event["status"] for event in server.log.events]


async def test_a_service_at_capacity_rejects_the_whole_batch(start_hop, forwarder):
    hop = await start_hop(forwarder, batch_lines="64", max_in_flight="1")
    received, go_on = asyncio.Event(), asyncio.Event()

    async def held(seen: Seen):
        received.set()
        await go_on.wait()
        return await reply(200, {})(seen)

    hop.next_hop.answer = held
    in_flight = asyncio.create_task(hop.send())
    await received.wait()
    server = batch_server_of(hop)
    rejected = await server.batch(server.line())
    go_on.set()

    assert (503, "UnavailableError") == (rejected.status, json.loads(rejected.body)["id"])
    assert "Retry-After" in rejected.headers
    assert 200 == (await in_flight).status


async def test_a_rejected_envelope_keeps_its_trace_id(batch_server):
    rejected = await batch_server.batch(Content_Type="text/plain", L1p_Trace_Id="of-the-whole")

    assert "of-the-whole" == rejected.headers[TRACE] == json.loads(rejected.body)["traceId"]


async def test_only_the_credentials_of_a_line_count(batch_server):
    """The envelope needs none, and its own are ignored."""
    whole = await batch_server.batch(
        batch_server.line("none", Authorization=None),
        batch_server.line("wrong", Authorization=basic("test", "wrong")),
        batch_server.line("right"),
        Authorization=headers()["Authorization"],
    )

    assert {
        "none": (401, "UnauthorizedError"),
        "wrong": (401, "UnauthorizedError"),
        "right": (200, None),
    } == whole.outcomes
    challenge = f'Basic realm="{batch_server.service}", charset="UTF-8"'
    assert challenge == whole.by_id["none"]["headers"]["WWW-Authenticate"]


async def test_an_empty_batch_gets_an_empty_response(batch_server):
    whole = await batch_server.batch()

    assert (200, b"") == (whole.status, whole.body)
    assert NDJSON == whole.headers["Content-Type"]
    assert [] == batch_server.log.events


async def test_no_line_of_an_incomplete_batch_starts(batch_server):
    data = batch_bytes([batch_server.line()])
    head = (
        f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(data) + 9}\r\n"
    )
    received = await send_bytes(batch_server.url, head.encode() + b"\r\n" + data, half_close=True)
    [response] = responses_in(received)

    assert (400, "InvalidBodyError") == (response.status, response.id)
    assert [400] == [event["status"] for event in batch_server.log.events]


async def test_the_last_line_may_lack_its_newline(batch_server):
    data = batch_bytes([batch_server.line(1), batch_server.line(2)])[:-1]
    whole = await send_batch(batch_server.client, batch_server.url, data)

    assert {1, 2} == set(whole.by_id)


async def test_a_batch_in_http_1_0_is_answered_too(batch_server):
    data = batch_bytes([batch_server.line(1), batch_server.line(2)])
    head = (
        f"POST {BATCH} HTTP/1.0\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    received = await send_bytes(batch_server.url, head.encode() + data)
    _, _, body = received.partition(b"\r\n\r\n")

    assert received.startswith(b"HTTP/1.0 200 ")
    assert [200, 200] == [json.loads(each)["status"] for each in body.splitlines()]


async def test_a_next_hops_announcement_is_not_passed_on(shared_hop, forwarder):
    for lines, expected in [("17", ["17"]), ("0", [])]:
        hop = await shared_hop(forwarder.service, batch_lines=lines)
        hop.next_hop.answer = reply(200, {}, Quote_Batch="9")

        assert expected == (await hop.send()).headers.getall(QUOTE_BATCH, [])


@pytest.mark.batches
async def test_the_option_of_the_test_run_switches_batches_off(hop, pytestconfig):
    """`--batches=off`: as beside any other implementation."""
    expected = {"on": ["256"], "off": []}[pytestconfig.getoption("batches")]

    assert expected == (await hop.send()).headers.getall(QUOTE_BATCH, [])
