"""What is only read for now, because there is too much to do, is answered as all else is."""

import asyncio
from dataclasses import replace

import pytest

from chassis import connection
from chassis.app import SERVICE
from chassis.pace import Pace
from chassis.room import WaitingRoom
from quoting.express import CallExpress
from support.forwarders import EXECUTE, FORWARDERS, LOOK_UP, SOURCE, ClientRequest, hop_of

VARYING = {"time", "duration_ms"}


@pytest.fixture(params=["dfsp-api", "spsp-server"])
async def hop(request, users_file, client):
    """One that knows its caller."""
    async with hop_of(FORWARDERS[request.param], users_file, client) as made:
        assert 200 == (await made.send()).status
        made.log.kept.clear()
        yield made


@pytest.fixture
def crowd(monkeypatch):
    monkeypatch.setattr(Pace, "is_crowded", True)


def in_hand(hop):
    pace = hop.app[SERVICE].pace
    return pace.waiting, pace.in_hand


@pytest.mark.parametrize(
    "operation",
    [SOURCE, EXECUTE, LOOK_UP, ClientRequest("GET", "/health/live"), ClientRequest("GET", "/nowhere")],
)
async def test_whatever_waits_is_answered(hop, monkeypatch, operation):
    [before] = await hop.send_bytes(hop.request_bytes(operation))
    monkeypatch.setattr(Pace, "is_crowded", True)
    [answer] = await hop.send_bytes(hop.request_bytes(operation))

    assert before.status == answer.status
    assert (0, 0) == in_hand(hop)


@pytest.mark.usefixtures("crowd")
class TestInACrowd:
    """Whatever comes, and however."""

    async def test_a_malformed_request_is_refused(self, hop):
        [answer] = await hop.send_bytes(b"nonsense\r\n\r\n")

        assert 400 == answer.status

    async def test_a_request_in_parts_is_answered(self, hop):
        written = hop.request_bytes(SOURCE)

        assert 200 == (await hop.send_parts(written[:40], written[40:-10], written[-10:], pause=0.02)).status

    async def test_who_has_sent_all_he_will_is_answered(self, hop):
        [answer] = await hop.send_bytes(hop.request_bytes(SOURCE), half_close=True)

        assert 200 == answer.status

    async def test_one_after_the_other_on_one_connection(self, hop):
        first = hop.request_bytes(SOURCE, Connection=None)
        answers = await hop.send_bytes(first * 3 + hop.request_bytes(LOOK_UP))

        assert [200] * 4 == [each.status for each in answers]

    async def test_what_is_asked_again_on_a_connection_waits_again(self, hop):
        host, _, port = hop.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(3):
            writer.write(hop.request_bytes(SOURCE, Connection=None))
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        writer.close()

    async def test_nothing_is_left_of_who_goes_while_he_waits(self, hop):
        host, _, port = hop.url.removeprefix("http://").partition(":")
        for _ in range(20):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(hop.request_bytes(SOURCE))
            await writer.drain()
            writer.transport.abort()
        async with asyncio.timeout(5):
            while in_hand(hop) != (0, 0):
                await asyncio.sleep(0.01)

        [answer] = await hop.send_bytes(hop.request_bytes(SOURCE))
        assert 200 == answer.status


@pytest.mark.usefixtures("crowd")
async def test_the_connection_of_who_fails_beyond_expectation_closes_and_others_are_answered(hop):
    def fail(asked, _respond):
        if "X-Broken" in asked.headers:
            raise RuntimeError("beyond expectation")
        return False

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    hop.app[SERVICE].express = fail
    asked = [
        hop.request_bytes(SOURCE, X_Broken="yes"),
        hop.request_bytes(SOURCE),
        hop.request_bytes(SOURCE, X_Broken="yes"),
    ]
    outcomes = await asyncio.gather(*map(hop.raw, asked), return_exceptions=True)

    assert 200 == outcomes[1][0].status
    assert all(not each or isinstance(each, ConnectionError) for each in (outcomes[0], outcomes[2]))
    assert (0, 0) == in_hand(hop)


async def test_who_has_waited_for_too_long_is_refused(hop, monkeypatch, crowd):
    del crowd
    monkeypatch.setattr(connection, "waited_in", lambda _: hop.app[SERVICE].settings.max_wait_seconds)
    [answer] = await hop.send_bytes(hop.request_bytes(SOURCE, Idempotency_Key="key"))

    assert (503, "UnavailableError") == (answer.status, answer.id)
    assert ("1", "key") == (answer.headers["Retry-After"], answer.headers["Idempotency-Key"])
    [event] = hop.log.events
    assert event["duration_ms"] >= hop.app[SERVICE].settings.max_wait_seconds * 1_000


@pytest.mark.usefixtures("crowd")
async def test_who_waits_when_the_service_ends_is_answered(users_file, client, monkeypatch):
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(WaitingRoom, "add", lambda _, begin: loop.call_later(0.1, begin))
    async with hop_of(FORWARDERS["spsp-server"], users_file, client) as hop:
        host, _, port = hop.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(hop.request_bytes(SOURCE, Connection=None))
        await asyncio.sleep(0.05)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    "more",
    [
        {"L1p_Trace_Id": "trace", "Idempotency_Key": "key"},
        {"L1p_Trace_Id": "trace", "Idempotency_Key": "a b"},
        {"L1p_Trace_Id": "trace", "Idempotency_Key": "key", "Authorization": "Basic x"},
        {"L1p_Trace_Id": "trace", "Idempotency_Key": "key", "Content_Type": "text/plain"},
    ],
)
@pytest.mark.parametrize("operation", [SOURCE, replace(SOURCE, body=b"{}"), EXECUTE, LOOK_UP])
async def test_who_finds_no_room_is_refused_as_under_overload_always(hop, monkeypatch, operation, more):
    """In the short way and in the ordinary one, answer and log."""
    pace = hop.app[SERVICE].pace
    pace.stop()
    pace.is_overloaded, pace.in_hand, pace.seconds_each = True, 1_000, 0.01
    told = []
    for short in (True, False):
        hop.log.kept.clear()
        if not short:
            monkeypatch.setattr(Pace, "is_too_late_to_be_looked_at", lambda *_: False)
            monkeypatch.setattr(CallExpress, "_take", lambda *_: False)
        [answer] = await hop.send_bytes(hop.request_bytes(operation, **more))
        [event] = hop.log.events
        headers = {k: v for k, v in answer.headers.items() if k != "Date"}
        told.append(
            (answer.status, headers, answer.body, {k: v for k, v in event.items() if k not in VARYING})
        )

    assert told[0] == told[1]
    assert 503 == told[0][0]
    assert b"overloaded" in told[0][2]
    assert 1_000 == pace.in_hand
    pace.in_hand = 0
