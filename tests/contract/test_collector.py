"""A collector of traces that is away, slow or back again (docs/tracing.md) does not affect callers."""

import sys
import time

import pytest
from aiohttp import web

from chassis import otlp, spans
from chassis.app import SERVICE
from chassis.settings import SettingsError
from support.collector import Collector, collector
from support.forwarders import FORWARDERS, LOOK_UP, Hop, hop_of
from support.messages import basic
from support.payee import until
from support.scripted_server import HANG, scripted_server, unused_url
from support.serving import stub

BACKEND = FORWARDERS["spsp-server-backend"]
SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
AWAY = "spans cannot be exported and are dropped"
BACK = "spans are exported again"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(otlp, "DELAY_SECONDS", 0.01)


def events(hop: Hop, name: str) -> list[dict]:
    return [line for line in hop.log.events if line["event"] == name]


async def metric(hop: Hop, name: str) -> float:
    async with hop.client.get(f"{hop.url}/metrics") as reply:
        [value] = [
            line.split()[1] for line in (await reply.text()).splitlines() if line.startswith(name + " ")
        ]
    return float(value)


def dropped(reason: str) -> str:
    return f'spans_dropped_total{{reason="{reason}"}}'


async def send_sampled(hop: Hop, count: int) -> None:
    for _ in range(count):
        assert 200 == (await hop.send(LOOK_UP, traceparent=SAMPLED)).status


async def test_a_collector_that_goes_away_and_comes_back_is_logged_once_each(users_file, client):
    is_away = True

    async def answer(seen):
        return web.Response(status=500) if is_away else await receiver.receive(seen)

    receiver = Collector("")
    async with (
        stub(answer) as server,
        hop_of(BACKEND, users_file, client, traces_url=f"{server.url}/v1/traces") as hop,
    ):
        for sent in (1, 2):
            await send_sampled(hop, 1)
            await until(lambda: is_metric(hop, dropped("collector"), sent))  # noqa: B023
        is_away = False
        for sent in (1, 2):
            await send_sampled(hop, 1)
            await until(lambda: is_metric(hop, "spans_exported_total", sent))  # noqa: B023

        [away], [back] = events(hop, AWAY), events(hop, BACK)
        assert ("warning", "info") == (away["level"], back["level"])
        assert "500" in away["cause"]
        assert 2 == len(receiver.spans)


async def has_logged(hop: Hop, event: str) -> bool:
    return bool(events(hop, event))


async def is_metric(hop: Hop, name: str, value: float) -> bool:
    return value == await metric(hop, name)


async def test_no_request_fails_while_no_collector_listens(users_file, client, monkeypatch):
    monkeypatch.setattr(otlp, "EXPORT_SECONDS", 0.05)  # too short for a second attempt
    async with hop_of(BACKEND, users_file, client, traces_url=f"{unused_url()}/v1/traces") as hop:
        await send_sampled(hop, 5)
        await until(lambda: is_metric(hop, dropped("collector"), 5))
        await until(lambda: has_logged(hop, AWAY))
        await send_sampled(hop, 1)
        await until(lambda: is_metric(hop, dropped("collector"), 6))

        assert 1 == len(events(hop, AWAY))


async def test_a_frozen_collector_fills_the_queue_and_delays_no_end(users_file, client, monkeypatch):
    monkeypatch.setattr(otlp, "EXPORT_SECONDS", 600.0)
    monkeypatch.setattr(otlp, "MAX_QUEUE", 8)
    monkeypatch.setattr(otlp, "MAX_BATCH", 8)
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.05)
    async with scripted_server(HANG) as frozen:
        async with hop_of(BACKEND, users_file, client, traces_url=f"{frozen.url}/v1/traces") as hop:
            await send_sampled(hop, 20)

            assert 12 == await metric(hop, dropped("queue"))
            began = time.monotonic()
        assert time.monotonic() - began < 60


async def test_errors_over_the_limit_have_no_span_and_displace_no_sampled_request(
    users_file, client, monkeypatch
):
    monkeypatch.setattr(spans, "BURST", 3)
    async with (
        collector() as receiver,
        hop_of(BACKEND, users_file, client, traces_url=receiver.url, traces_per_second="1") as hop,
    ):
        for _ in range(20):
            assert 401 == (await hop.send(LOOK_UP, Authorization=None)).status
        await send_sampled(hop, 1)
        [sampled] = await receiver.where(lambda span: span.trace_id == SAMPLED[3:35])
        over = await metric(hop, dropped("limit"))

    errors = [span for span in receiver.spans if "error.type" in span.attributes]
    assert 20 == len(errors) + over
    assert 3 <= len(errors) < 20
    assert 200 == sampled.attributes["http.response.status_code"]


async def test_text_of_a_peer_is_cut_and_escaped(users_file, client):
    async with (
        collector() as receiver,
        hop_of(BACKEND, users_file, client, traces_url=receiver.url) as hop,
    ):
        await hop.send(LOOK_UP, Authorization=basic("n\x00ame", "x"))
        async with hop.client.get(
            f"{hop.url}/v1/quote/" + "x" * 5_000, headers={"Authorization": basic("test", "123")}
        ):
            pass
        found = await receiver.where(lambda span: "error.type" in span.attributes, 2)

    for span in found:
        for value in span.attributes.values():
            assert len(str(value)) <= 4 * 256
            assert str(value).isprintable()


async def test_a_service_with_a_url_for_traces_but_without_the_extra_does_not_start(
    users_file, client, monkeypatch
):
    monkeypatch.setitem(sys.modules, "chassis.otlp", None)
    with pytest.raises(
        SettingsError, match=r"QUOTES_TRACES_URL is set, but the extra `tracing` is not installed"
    ):
        async with hop_of(BACKEND, users_file, client, traces_url="http://127.0.0.1:1/v1/traces"):
            pass


async def test_without_a_url_nothing_of_it_is_loaded(users_file, client, monkeypatch):
    monkeypatch.setitem(sys.modules, "chassis.otlp", None)
    async with hop_of(BACKEND, users_file, client) as hop:
        await send_sampled(hop, 1)

        assert hop.app[SERVICE].tracer is None
        assert SAMPLED == hop.next_hop.seen[0].headers["traceparent"]
