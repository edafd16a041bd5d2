"""/metrics of a running service: errors and the hop that raised them, callers, rejections, readiness, the process."""

import asyncio

import pytest

from chassis import measurements
from chassis.app import SERVICE
from chassis.errors import QuoteExpiredError, error_object
from chassis.measurements import Measurements
from support.forwarders import LOOK_UP, SOURCE, ClientRequest
from support.messages import basic
from support.serving import reply

METRICS = ClientRequest("GET", "/metrics")
EXPIRED = error_object(QuoteExpiredError(), "dfsp-api", "t")
UNREACHABLE = "http://127.0.0.1:1"
ROUTE = {"method": "POST", "route": "/v1/quoteSourceAmount"}


def count(hop, name: str, **labels: str) -> float | None:
    return hop.app[SERVICE].metrics.registry.get_sample_value(name, labels)


async def text(hop) -> str:
    return (await hop.send(METRICS, adapt=False)).body.decode()


def errors(hop, status: int, error: str, origin: str) -> float | None:
    return count(hop, "request_errors_total", **ROUTE, status=str(status), error=error, origin=origin)


async def test_an_error_of_the_next_hop_is_counted_as_passed_on(start_hop, forwarder):
    hop = await start_hop(forwarder)
    hop.next_hop.answer = reply(410, EXPIRED)
    await hop.send()

    assert 1 == errors(hop, 410, "QuoteExpiredError", "upstream")
    assert errors(hop, 410, "QuoteExpiredError", "own") is None


async def test_an_error_of_this_hop_is_counted_as_its_own(start_hop, forwarder):
    hop = await start_hop(forwarder, next_url=UNREACHABLE)
    await hop.send()

    assert 1 == errors(hop, 502, "UpstreamError", "own")


async def test_an_id_that_a_peer_has_made_up_is_no_label(start_hop):
    hop = await start_hop("spsp-server")
    for number in range(3):
        body = EXPIRED.replace(b"QuoteExpiredError", b"Made%d" % number)
        hop.next_hop.answer = reply(410, body)
        await hop.send()

    assert 3 == errors(hop, 410, "other", "upstream")
    assert "Made" not in await text(hop)


async def test_requests_and_errors_are_counted_by_caller_and_without_valid_credentials_by_none(start_hop):
    hop = await start_hop("spsp-server")
    await hop.send()
    await hop.send(Authorization=basic("other-caller", "456"))
    await hop.send(LOOK_UP, X_Request_Timeout_Ms="0")

    assert 2 == count(hop, "caller_requests_total", caller="test")
    assert 1 == count(hop, "caller_errors_total", caller="test", error="InvalidHeaderError")
    assert "other-caller" not in await text(hop)


async def test_a_rejection_is_counted_by_its_reason(start_hop):
    hop = await start_hop("spsp-server", max_in_flight="1")
    service = hop.app[SERVICE]
    service.monitor.in_flight += 1
    assert 503 == (await hop.send()).status
    service.monitor.in_flight -= 1
    service.is_closed = True
    assert 503 == (await hop.send()).status
    service.is_closed = False

    assert [0, 0, 1, 1] == [
        count(hop, "requests_rejected_total", reason=reason)
        for reason in ("overload", "queue_full", "capacity", "shutdown")
    ]


async def test_the_wait_of_a_queued_request_is_measured(start_hop, monkeypatch):
    hop = await start_hop("spsp-server")
    monitor = hop.app[SERVICE].monitor
    monkeypatch.setattr(type(monitor), "waited", lambda *_: 3.0)
    await hop.send()

    assert 1 == count(hop, "request_wait_seconds_count")
    assert 3 <= count(hop, "request_wait_seconds_sum")


async def test_a_scrape_counts_no_request_and_shows_the_process(start_hop):
    hop = await start_hop("dfsp-api")
    await hop.send(SOURCE)
    for _ in range(2):
        shown = await text(hop)

    assert 'requests_total{method="POST",route="/v1/quoteSourceAmount",status="200"} 1.0' in shown
    assert "/metrics" not in shown
    assert 'service_build_info{python="' in shown
    assert 'service="dfsp-api-payer"' in shown
    assert "\nservice_ready 1.0\n" in shown
    assert "\nrequests_queued 0.0\n" in shown
    assert "\nupstream_connection_waiters 0.0\n" in shown
    assert "\nprocess_resident_memory_bytes " in shown


async def test_a_service_that_lacks_something_is_shown_as_not_ready(start_hop):
    hop = await start_hop("spsp-server")
    missing = ["database"]

    async def check() -> list[str]:
        return missing

    hop.app[SERVICE].checks.append(check)
    assert "\nservice_ready 0.0\n" in await text(hop)

    missing.clear()
    assert "\nservice_ready 1.0\n" in await text(hop)


async def test_a_check_that_hangs_does_not_stop_the_metrics(start_hop, monkeypatch):
    monkeypatch.setattr(measurements, "MAX_SECONDS", 0.01)
    hop = await start_hop("spsp-server")
    cancelled = asyncio.Event()

    async def check() -> list[str]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return []

    hop.app[SERVICE].checks.append(check)
    assert "\nservice_ready 0.0\n" in await text(hop)
    assert cancelled.is_set()


async def test_collections_at_the_same_time_share_one_measurement():
    taken = 0
    go_on = asyncio.Event()

    async def measure() -> None:
        nonlocal taken
        taken += 1
        await go_on.wait()

    shared = Measurements()
    shared.add(measure)
    waiting = [asyncio.create_task(shared.take()) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # this client has closed its connection
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    await asyncio.gather(*waiting[1:])
    assert 1 == taken

    await shared.take()
    assert 2 == taken
