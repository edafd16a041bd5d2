"""One look at a replica: ready, not ready, frozen or away."""

import pytest

from chassis.http.resolver import ReplicaAddress
from console.collectors import look as module
from console.collectors.look import Health, look_at
from console.collectors.service_client import ServiceClient
from console.service_list import watched_services


@pytest.fixture
async def look(users_file, service, monkeypatch):
    """Return a function that looks at the scripted service, or at another address."""
    client = ServiceClient(watched_services(f"dfsp-api={service.url}"), None, "console", "secret")
    client._tls = type("NoTls", (), {"client": True})()
    client.open()

    async def look_(url: str | None = None):
        return await look_at(client, ReplicaAddress(url or service.url))

    yield look_
    await client.close()


async def test_a_service_that_is_ready_has_metrics(look, service):
    service.gauge("requests_in_flight", 3)
    found = await look()

    assert (Health.READY, ()) == (found.health, found.reasons)
    assert found.samples is not None
    assert 3.0 == found.samples.total("requests_in_flight")


async def test_a_service_that_is_not_ready_says_what_it_lacks(look, service):
    service.missing = ["database with fsync on"]
    found = await look()

    assert (Health.NOT_READY, ("database with fsync on",)) == (found.health, found.reasons)
    assert found.samples is not None


async def test_a_service_that_is_ready_may_have_warnings(look, service):
    service.warnings = ["the fee schedule is refused"]
    found = await look()

    assert (Health.READY, ("the fee schedule is refused",)) == (found.health, found.reasons)


async def test_a_service_that_shuts_down_is_no_failure(look, service):
    service.missing = ["the service is shutting down"]

    assert Health.STOPPING is (await look()).health


async def test_a_service_that_accepts_connections_and_does_not_answer_is_frozen(look, service, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.2)
    service.freeze()
    found = await look()

    assert (Health.FROZEN, None) == (found.health, found.samples)


async def test_a_service_that_refuses_connections_is_away(look):
    found = await look("http://127.0.0.1:1")

    assert Health.AWAY is found.health
    assert "127.0.0.1:1" in found.reasons[0]


async def test_metrics_that_cannot_be_read_do_not_hide_the_health(look, service, monkeypatch):
    monkeypatch.setattr("support.scripted_service.generate_latest", lambda _: b"<html>")
    found = await look()

    assert (Health.READY, None) == (found.health, found.samples)
    assert found.reasons[0].startswith("its metrics cannot be read: not in Prometheus' text format")


async def test_a_peers_reasons_are_cut(look, service):
    service.missing = ["x" * 10_000] * 100
    found = await look()

    assert (10, 300) == (len(found.reasons), len(found.reasons[0]))
