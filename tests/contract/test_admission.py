"""A busy service queues requests and rejects the ones it could not answer in time.

Each test runs with every implementation of HTTP (`QUOTES_HTTP`).
"""

import asyncio
from dataclasses import replace

import pytest

from chassis.admission import MIN_IN_FLIGHT
from support.client import is_error_object
from support.forwarders import (
    EXECUTE,
    FORWARDERS,
    LOOK_UP,
    SOURCE,
    ClientRequest,
    Hop,
    hop_of,
    response_from,
)
from support.internals import (
    add_in_flight,
    delay_queued_requests,
    end_overload,
    fail_requests,
    is_idle,
    overload,
    queue_every_request,
    wait_in_queue,
    wait_in_socket,
)
from support.messages import KEY, TRACE
from support.payee import until
from support.serving import SECONDS, connection, loop_iterations
from support.settings import HTTP


@pytest.fixture(params=HTTP)
def http(request) -> str:
    return request.param


@pytest.fixture(params=["dfsp-api", "spsp-server"])
async def hop(request, http, start_hop) -> Hop:
    """A hop that knows its caller."""
    made = await start_hop(request.param, http=http, max_wait_seconds="5")
    assert 200 == (await made.send()).status
    made.reset()
    return made


@pytest.fixture
def queueing(monkeypatch) -> None:
    """Each request is queued for a moment."""
    queue_every_request(monkeypatch)


async def until_idle(hop: Hop) -> None:
    async def idle() -> bool:
        return is_idle(hop.app)

    await until(idle)


async def test_a_queued_request_gets_the_same_response(hop, monkeypatch):
    requests = [
        SOURCE,
        EXECUTE,
        LOOK_UP,
        ClientRequest("GET", "/health/live"),
        ClientRequest("GET", "/nowhere"),
    ]
    before = [(await hop.send_bytes(hop.request_bytes(each)))[0].status for each in requests]
    queue_every_request(monkeypatch)
    queued = [(await hop.send_bytes(hop.request_bytes(each)))[0].status for each in requests]

    assert [200, 200, 200, 200, 404] == before == queued
    await until_idle(hop)


@pytest.mark.usefixtures("queueing")
class TestWhileRequestsAreQueued:
    async def test_a_malformed_request_is_rejected(self, hop):
        [response] = await hop.send_bytes(b"nonsense\r\n\r\n")

        assert 400 == response.status

    async def test_a_request_in_parts_is_answered(self, hop):
        data = hop.request_bytes(SOURCE)
        [response] = await hop.send_bytes(data[:40], data[40:-10], data[-10:])

        assert 200 == response.status

    async def test_a_client_that_closes_its_side_gets_its_response(self, hop):
        [response] = await hop.send_bytes(hop.request_bytes(SOURCE), half_close=True)

        assert 200 == response.status

    async def test_pipelined_requests_are_answered(self, hop):
        first = hop.request_bytes(SOURCE, Connection=None)
        responses = await hop.send_bytes(first * 3 + hop.request_bytes(LOOK_UP))

        assert [200] * 4 == [each.status for each in responses]

    async def test_each_request_of_a_connection_is_answered(self, hop):
        async with connection(hop.url) as (reader, writer):
            for _ in range(3):
                writer.write(hop.request_bytes(SOURCE, Connection=None))

                assert 200 == (await response_from(reader)).status

    async def test_nothing_is_left_of_clients_that_go_away(self, hop):
        for _ in range(20):
            async with connection(hop.url) as (_, writer):
                writer.write(hop.request_bytes(SOURCE))
                await writer.drain()
                writer.transport.abort()
        await until_idle(hop)

        [response] = await hop.send_bytes(hop.request_bytes(SOURCE))
        assert 200 == response.status

    async def test_an_unexpected_failure_affects_no_other_request(self, hop, monkeypatch):
        fail_requests(monkeypatch, RuntimeError("unexpected"), trace_id="broken")
        traces = ["broken", "good", "broken"]
        sent = [hop.request_bytes(SOURCE, L1p_Trace_Id=trace) for trace in traces]
        outcomes = await asyncio.gather(*map(hop.send_bytes, sent))

        assert [[503], [200], [503]] == [[each.status for each in outcome] for outcome in outcomes]
        await until_idle(hop)


@pytest.mark.usefixtures("queueing")
@pytest.mark.parametrize("http", ["protocol"])  # aiohttp's own connections do not queue requests
async def test_a_request_that_has_waited_too_long_is_rejected_while_many_are_in_flight(hop, monkeypatch):
    wait_in_queue(monkeypatch, 5)
    [response] = await hop.send_bytes(hop.request_bytes(SOURCE))
    assert 200 == response.status
    hop.reset()

    add_in_flight(hop.app, MIN_IN_FLIGHT)
    [response] = await hop.send_bytes(hop.request_bytes(SOURCE, Idempotency_Key="key"))

    assert (503, "UnavailableError") == (response.status, response.id)
    assert is_error_object(response), "with the request's own trace id"
    assert ("1", "key") == (response.headers["Retry-After"], response.headers[KEY])
    [event] = hop.log.events
    assert event["duration_ms"] >= 5_000


@pytest.mark.parametrize("sent", [SOURCE, replace(SOURCE, body=b"{}")], ids=["good", "bad body"])
async def test_a_request_whose_deadline_passed_before_it_was_read_is_504(hop, monkeypatch, sent):
    wait_in_socket(monkeypatch, 0.05)
    data = hop.request_bytes(sent, Idempotency_Key="key", X_Request_Timeout_Ms="20")
    [response] = await hop.send_bytes(data)

    assert (504, "UpstreamTimeoutError") == (response.status, response.id)
    assert ["test"] == [event["caller"] for event in hop.log.events]
    assert [] == hop.next_hop.seen


@pytest.mark.usefixtures("queueing")
@pytest.mark.parametrize("http", ["protocol"])
async def test_a_queued_request_is_answered_when_the_service_shuts_down(
    users_file, client, http, monkeypatch
):
    delay_queued_requests(monkeypatch, 0.1)
    async with hop_of(FORWARDERS["spsp-server"], users_file, client, http=http) as hop:
        host, _, port = hop.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(hop.request_bytes(SOURCE, Connection=None))
        await loop_iterations()
    received = await asyncio.wait_for(reader.read(), SECONDS)
    writer.close()

    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in received


async def test_an_overloaded_service_rejects_each_request_with_its_key_and_trace_id(hop):
    overload(hop.app)
    for sent in [SOURCE, replace(SOURCE, body=b"{}"), EXECUTE, LOOK_UP]:
        for more in [
            {},
            {"Idempotency_Key": "two words"},
            {"Authorization": "Basic x"},
            {"Content_Type": "text/plain"},
        ]:
            hop.log.kept.clear()
            given = {"L1p_Trace_Id": "trace", "Idempotency_Key": "key", **more}
            [response] = await hop.send_bytes(hop.request_bytes(sent, **given))
            [event] = hop.log.events

            assert (503, "UnavailableError") == (response.status, response.id)
            assert "overloaded" in response.json["message"]
            assert ("1", "trace") == (response.headers["Retry-After"], response.headers[TRACE])
            assert (503, None, "trace") == (event["status"], event["caller"], event["traceId"])
            if "quote" in sent.path and sent.body is not None and given["Idempotency_Key"] == "key":
                assert "key" == response.headers[KEY]
            assert [] == hop.next_hop.seen

    assert 1_000 == end_overload(hop.app)
