"""HTTP that a proxy in front of a service may read differently, and connections that end early.

Each test runs with every implementation of HTTP (`QUOTES_HTTP`).
"""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from aiohttp.web_protocol import RequestHandler

from chassis.http import adapter, unfinished_head
from chassis.http.unfinished_head import UnfinishedHead
from support.client import responses_in
from support.forwarders import LOOK_UP, SOURCE, ClientRequest, response_from
from support.payee import until
from support.serving import connection, loop_iterations
from support.settings import HTTP


@pytest.fixture(params=HTTP)
def http(request) -> str:
    return request.param


@pytest.fixture
async def hop(shared_hop, http):
    return await shared_hop("spsp-server", http=http)


def kept_open(hop, request=LOOK_UP, **headers):
    return hop.request_bytes(request, Connection="keep-alive", **headers)


async def test_valid_requests_before_malformed_bytes_are_answered_in_their_order(hop):
    responses = await hop.send_bytes(kept_open(hop) * 2 + b"nonsense\r\n\r\n")

    assert [200, 200, 400] == [response.status for response in responses]


async def test_pipelined_requests_are_answered_after_the_client_has_closed_its_side(hop):
    answered_at_once = kept_open(hop, replace(SOURCE, method="DELETE"))
    responses = await hop.send_bytes(kept_open(hop) + answered_at_once + kept_open(hop), half_close=True)

    assert [200, 405, 200] == [response.status for response in responses]


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "anything"])
async def test_the_connection_closes_after_a_request_with_upgrade(hop, upgrade):
    data = kept_open(hop).replace(
        b"Connection: keep-alive", b"Connection: Upgrade\r\nUpgrade: " + upgrade.encode()
    )
    [response] = await hop.send_bytes(data + kept_open(hop))

    assert (200, "close") == (response.status, response.headers["Connection"])


async def test_the_connection_closes_after_connect(hop):
    [response] = await hop.send_bytes(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" + kept_open(hop))

    assert (404, "close") == (response.status, response.headers["Connection"])


async def test_an_ambiguous_request_is_400_and_the_last_on_its_connection(hop):
    chunks = b"2\r\n{}\r\n0\r\n\r\n"
    chunked = hop.request_bytes(SOURCE, Content_Length=None, Transfer_Encoding="chunked").partition(
        b"\r\n\r\n"
    )[0]
    ambiguous = {
        "two codings": chunked.replace(b"chunked", b"gzip, chunked") + b"\r\n\r\n" + chunks,
        "HTTP/1.0 with chunks": chunked.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n\r\n" + chunks,
        "a host with a space": kept_open(hop, Host="a b"),
        "a host with a user": kept_open(hop, Host="a@b"),
    }
    for name, data in ambiguous.items():
        [response] = await hop.send_bytes(data)

        assert (400, "InvalidHeaderError") == (response.status, response.id), name
        assert [] == hop.next_hop.seen


async def test_no_100_continue_is_sent_for_an_unknown_path(hop):
    request = ClientRequest("POST", "/nope", body=b"{}")
    [response] = await hop.send_bytes(hop.request_bytes(request, adapt=False, Expect="100-continue"))

    assert 404 == response.status


async def test_a_client_that_leaves_within_its_body_is_no_error_in_the_log(hop, caplog):
    head = hop.request_bytes(SOURCE).partition(b"\r\n\r\n")[0]
    for data in [
        head.replace(b"/v1/quoteSourceAmount", b"/nope"),
        head.replace(b"POST", b"DELETE"),
        head.replace(b"Authorization", b"X-Nothing"),
        head.replace(b"application/json", b"text/plain"),
    ]:
        async with connection(hop.url) as (reader, writer):
            writer.write(data + b"\r\n\r\nx")
            assert responses_in(await reader.readuntil(b"\r\n\r\n"))
            writer.transport.abort()
    await asyncio.sleep(0.1)

    assert [] == [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


async def test_the_head_of_a_request_must_arrive_in_time(start_hop, http, monkeypatch):
    monkeypatch.setattr(unfinished_head, "HEAD_SECONDS", 0.05)
    hop = await start_hop("spsp-server", http=http)
    [response] = await hop.send_bytes(kept_open(hop)[:30])

    assert (408, "RequestTimeoutError") == (response.status, response.id)


FIRST_REQUESTS = {
    "without a body": b"OPTIONS /nope HTTP/1.1\r\nHost: a\r\nL1p-Trace-Id: first\r\n\r\n",
    "with a body": b"POST /nope HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n{} \n",
    "with chunks": b"POST /nope HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "with a trailer": b"POST /nope HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
}
SECOND_HEAD = b"GET /health/live HTTP/1.1\r\nX-Long: "


@pytest.mark.parametrize("together", [True, False], ids=["in one segment", "later"])
@pytest.mark.parametrize("kind", FIRST_REQUESTS)
async def test_a_later_head_of_a_connection_must_arrive_in_time(start_hop, http, monkeypatch, kind, together):
    """It was kept for 75 s, in however many bytes."""
    monkeypatch.setattr(unfinished_head, "HEAD_SECONDS", 0.05)
    hop = await start_hop("spsp-server", http=http)
    first = FIRST_REQUESTS[kind]
    parts = [first + SECOND_HEAD] if together else [first, SECOND_HEAD]
    responses = await hop.send_bytes(*parts)

    assert [404, 408] == [response.status for response in responses]


@pytest.mark.parametrize("cut", [1, 2, 3])
async def test_a_head_whose_end_comes_in_parts_is_answered(start_hop, http, monkeypatch, cut):
    """After it the connection may be idle for as long as any other: no time limit runs."""
    heads: list[UnfinishedHead] = []

    class Recorded(UnfinishedHead):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            heads.append(self)

    monkeypatch.setattr(adapter, "UnfinishedHead", Recorded)
    hop = await start_hop("spsp-server", http=http)
    for first in FIRST_REQUESTS.values():
        async with connection(hop.url) as (reader, writer):
            for _ in range(2):
                writer.write(first[:-cut])
                await asyncio.sleep(0.02)
                writer.write(first[-cut:])
                assert 404 == (await response_from(reader)).status
            assert not heads.pop().is_begun


async def test_blank_lines_before_a_request_are_read_in_few_steps(hop, monkeypatch):
    """A step for each of them took a second of processor time."""
    steps = []
    receive = RequestHandler.data_received

    def count(connection: RequestHandler, data: bytes) -> None:
        steps.append(len(data))
        receive(connection, data)

    monkeypatch.setattr(RequestHandler, "data_received", count)
    [response] = await hop.send_bytes(b"\r\n\r\n" * 50_000 + hop.request_bytes(LOOK_UP))

    assert 200 == response.status
    assert len(steps) < 1_000


async def test_a_head_that_goes_on_and_on_is_refused(start_hop, http):
    hop = await start_hop("spsp-server", http=http)
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 7_000) for number in range(100))
    [response] = await hop.send_bytes(b"GET / HTTP/1.1\r\n" + fields)

    assert (400, "InvalidHeaderError") == (response.status, response.id)


@pytest.mark.parametrize("size", [1_000, 500_000])
async def test_the_body_of_a_refused_request_is_discarded_and_the_next_request_answered(
    start_hop, http, size
):
    """The connection was read no further, and the body stayed for 75 s."""
    hop = await start_hop("spsp-server", http=http)
    first = b"POST /nope HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with connection(hop.url) as (reader, writer):
        for _ in range(3):
            writer.write(first)
            assert 404 == (await response_from(reader)).status


async def test_unfinished_heads_have_the_budget_of_bodies(start_hop, http):
    hop = await start_hop("spsp-server", http=http, max_unread_bytes="4194304")
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 7_000) for number in range(8))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(37):
            _, writer = await stack.enter_async_context(connection(hop.url))
            writer.write(b"GET / HTTP/1.1\r\n" + fields)
            await writer.drain()

        async def is_refused() -> bool:
            refused = await hop.send_bytes(b"GET / HTTP/1.1\r\n" + fields)
            return (503, "UnavailableError") == (refused[0].status, refused[0].id)

        assert await asyncio.wait_for(is_refused(), 60)

    async def has_room() -> bool:
        whole = await hop.send_bytes(
            b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + b"\r\n"
        )
        return 200 == whole[0].status

    await until(has_room)


async def test_incomplete_bodies_have_a_budget(start_hop, http, monkeypatch):
    monkeypatch.setattr(adapter, "DISCARD_SECONDS", 0.1)
    hop = await start_hop("spsp-server", http=http, max_unread_bytes="4194304")
    head = hop.request_bytes(replace(SOURCE, path="/v1/batch"), Content_Length="2000000", adapt=False)
    head = head.partition(b"\r\n\r\n")[0].replace(b"application/json", b"application/x-ndjson")
    async with connection(hop.url) as (_, writer):
        writer.write(head + b"\r\n\r\n{")
        await loop_iterations()
        [refused] = await hop.send_bytes(head + b"\r\n\r\n{")

        assert (503, "UnavailableError") == (refused.status, refused.id)
        assert 200 == (await hop.send()).status
