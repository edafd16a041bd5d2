"""A request goes to a replica of a service (chassis.http.resolver)."""

import asyncio
import socket
from types import SimpleNamespace

import pytest

from chassis.http import pool, resolver
from chassis.http.client import BrokenResponseError, ConnectionClosedError, NotConnectedError
from chassis.http.resolver import Resolver
from chassis.settings import Settings, load
from chassis.tls import Tls

BASE = "http://spsp-server"


@pytest.fixture
async def names(monkeypatch):
    """The addresses of a name, which a test may change."""
    found = {"spsp-server": ["10.0.0.1", "10.0.0.2"]}

    async def getaddrinfo(host, port, **_options):
        if not found[host]:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return found


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [1_000.0]
    monkeypatch.setattr(resolver, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
async def connections(users_file):
    made = pool.ConnectionPool(Tls(load(Settings, {"QUOTES_USERS_FILE": str(users_file)})))
    yield made
    await made.close()


async def bases(resolved, count):
    return [(await resolved.next(BASE)).base for _ in range(count)]


async def test_requests_go_to_the_replicas_in_turn(names):
    used = await bases(Resolver(), 100)

    assert {"http://10.0.0.1": 50, "http://10.0.0.2": 50} == {each: used.count(each) for each in used}


async def test_a_request_goes_to_an_address_with_the_name_as_host_header(names):
    replica = await Resolver().next(BASE)

    assert {"Host": "spsp-server"} == replica.headers


async def test_a_repetition_goes_to_another_replica(names):
    resolved = Resolver()
    for _ in range(10):
        replica = await resolved.next(BASE)
        other = await resolved.instead_of(replica, BASE, is_away=False)
        assert replica.base != other.base


async def test_a_replica_that_cannot_be_reached_is_avoided_for_two_seconds(names, clock):
    resolved = Resolver()
    replica = await resolved.next(BASE)
    await resolved.instead_of(replica, BASE, is_away=True)

    assert replica.base not in await bases(resolved, 10)
    clock[0] += 2.1
    assert replica.base in await bases(resolved, 10)


async def test_the_only_replica_is_never_avoided(names):
    names["spsp-server"] = ["10.0.0.1"]
    resolved = Resolver()
    replica = await resolved.next(BASE)

    assert replica == await resolved.instead_of(replica, BASE, is_away=True)
    assert replica == await resolved.next(BASE)


async def test_without_another_replica_the_name_is_resolved_again(names):
    """A container that was created again has another address."""
    names["spsp-server"] = ["10.0.0.1"]
    resolved = Resolver()
    replica = await resolved.next(BASE)
    names["spsp-server"] = ["10.0.0.9"]

    assert "http://10.0.0.9" == (await resolved.instead_of(replica, BASE, is_away=True)).base


async def test_after_a_replica_that_is_away_the_name_is_resolved_again(names):
    """In a rolling update, the other known replica may be away, too."""
    resolved = Resolver()
    replica = await resolved.next(BASE)
    names["spsp-server"] = ["10.0.0.9"]

    assert "http://10.0.0.9" == (await resolved.instead_of(replica, BASE, is_away=True)).base


async def test_an_old_address_is_not_used_after_a_pause(names, clock):
    """It may belong to another service: spsp-client once answered requests to spsp-server."""
    resolved = Resolver()
    await resolved.next(BASE)
    names["spsp-server"] = ["10.0.0.8"]
    clock[0] += 60

    assert ["http://10.0.0.8"] * 5 == await bases(resolved, 5)


async def test_a_name_that_cannot_be_resolved_keeps_its_addresses(names, clock):
    resolved = Resolver()
    before = set(await bases(resolved, 4))
    names["spsp-server"] = []
    clock[0] += 60

    assert before == set(await bases(resolved, 4))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionClosedError(),
        NotConnectedError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_request_without_a_response_is_repeated_once_at_another_replica(
    names, connections, monkeypatch, error
):
    """The error depends on the moment at which the peer closes the connection."""
    tried = []

    async def attempt(replica, *_request):
        tried.append(replica.base)
        raise error

    monkeypatch.setattr(connections, "_try", attempt)

    with pytest.raises(pool.NoResponseError):
        await connections.request("GET", BASE, "/", {})

    assert ["http://10.0.0.1", "http://10.0.0.2"] == sorted(tried)


async def test_a_request_is_not_repeated_when_a_response_has_begun(names, connections, monkeypatch):
    tried = []

    async def attempt(replica, *_request):
        tried.append(replica.base)
        raise BrokenResponseError

    monkeypatch.setattr(connections, "_try", attempt)

    with pytest.raises(pool.NoResponseError):
        await connections.request("GET", BASE, "/", {})

    assert 1 == len(tried)
