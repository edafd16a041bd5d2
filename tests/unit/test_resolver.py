"""Which replica a request goes to."""

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
    """What the name resolves to; a test changes it as it goes."""
    found = {"spsp-server": ["10.0.0.1", "10.0.0.2"]}

    async def getaddrinfo(host, port, **_options):
        if not found[host]:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return found


@pytest.fixture
def clock(monkeypatch):
    """Moved by hand."""
    now = [1_000.0]
    monkeypatch.setattr(resolver, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
async def connections(users_file):
    made = pool.ConnectionPool(Tls(load(Settings, {"QUOTES_USERS_FILE": str(users_file)})))
    yield made
    await made.close()


async def bases(replicas, count):
    return [(await replicas.next(BASE)).base for _ in range(count)]


async def test_replicas_take_turns(names):
    used = await bases(Resolver(), 100)

    assert {"http://10.0.0.1": 50, "http://10.0.0.2": 50} == {each: used.count(each) for each in used}


async def test_a_place_is_an_address_and_the_host_header_the_name(names):
    replica = await Resolver().next(BASE)

    assert {"Host": "spsp-server"} == replica.headers


async def test_a_repetition_goes_elsewhere(names):
    replicas = Resolver()
    for _ in range(10):
        replica = await replicas.next(BASE)
        other = await replicas.instead_of(replica, BASE, is_away=False)
        assert replica.base != other.base


async def test_what_cannot_be_reached_is_left_out_for_two_seconds(names, clock):
    replicas = Resolver()
    replica = await replicas.next(BASE)
    await replicas.instead_of(replica, BASE, is_away=True)

    assert replica.base not in await bases(replicas, 10)
    clock[0] += 2.1
    assert replica.base in await bases(replicas, 10)


async def test_what_alone_is_there_is_never_left_out(names):
    names["spsp-server"] = ["10.0.0.1"]
    replicas = Resolver()
    replica = await replicas.next(BASE)

    assert replica == await replicas.instead_of(replica, BASE, is_away=True)
    assert replica == await replicas.next(BASE)


async def test_where_there_is_nowhere_else_the_name_is_looked_up_again(names):
    """A service that was made anew has another address."""
    names["spsp-server"] = ["10.0.0.1"]
    replicas = Resolver()
    replica = await replicas.next(BASE)
    names["spsp-server"] = ["10.0.0.9"]

    assert "http://10.0.0.9" == (await replicas.instead_of(replica, BASE, is_away=True)).base


async def test_after_a_pause_no_old_address_is_used(names, clock):
    """It may be another service's by then: seen as an answer of spsp-client to what was meant for spsp-server."""
    replicas = Resolver()
    await replicas.next(BASE)
    names["spsp-server"] = ["10.0.0.8"]
    clock[0] += 60

    assert ["http://10.0.0.8"] * 5 == await bases(replicas, 5)


async def test_a_name_that_is_not_to_be_resolved_stays_what_it_was(names, clock):
    replicas = Resolver()
    before = set(await bases(replicas, 4))
    names["spsp-server"] = []
    clock[0] += 60

    assert before == set(await bases(replicas, 4))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionClosedError(),
        NotConnectedError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_closes_before_a_reply_is_repeated_elsewhere_once(
    names, connections, monkeypatch, error
):
    """Which of these it is depends on the very moment at which the other side closes."""
    tried = []

    async def once(replica, *_request):
        tried.append(replica.base)
        raise error

    monkeypatch.setattr(connections, "_once", once)

    with pytest.raises(pool.NoResponseError):
        await connections.request("GET", BASE, "/", {})

    assert ["http://10.0.0.1", "http://10.0.0.2"] == sorted(tried)


async def test_nothing_is_repeated_once_a_reply_has_begun(names, connections, monkeypatch):
    tried = []

    async def once(replica, *_request):
        tried.append(replica.base)
        raise BrokenResponseError

    monkeypatch.setattr(connections, "_once", once)

    with pytest.raises(pool.NoResponseError):
        await connections.request("GET", BASE, "/", {})

    assert 1 == len(tried)
