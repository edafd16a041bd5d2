"""The number of connections is limited: idle ones are closed to make room, then new ones are refused."""

import socket

import pytest
from prometheus_client import CollectorRegistry

from chassis.http import connection_limit
from chassis.http.connection_limit import ConnectionLimit

BALANCER, OTHER = "10.0.0.1", "10.0.0.2"


class Served:
    def __init__(self, *, is_idle: bool = True) -> None:
        self.is_idle = is_idle
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def limit(registry, monkeypatch) -> ConnectionLimit:
    """Eight connections, six of them of one network."""
    monkeypatch.setattr(connection_limit, "LOOK_AGAIN_SECONDS", 0.0)
    return ConnectionLimit(8, registry)


def opened(limit: ConnectionLimit, address: str, count: int, *, is_idle: bool = True) -> list[Served]:
    """Open as many connections from this address; none may be refused."""
    found = []
    for _ in range(count):
        connection, served = socket.socket(), Served(is_idle=is_idle)
        assert limit.take(connection, address) is None
        limit.attach(connection, served)
        connection.close()
        found.append(served)
    return found


def refusal(limit: ConnectionLimit, address: str) -> str | None:
    with socket.socket() as connection:
        return limit.take(connection, address)


def closed(*served: Served) -> list[bool]:
    return [each.is_closed for each in served]


def test_the_idle_connection_that_opened_first_is_closed_to_make_room(limit, registry):
    first = opened(limit, BALANCER, 6)
    [new] = opened(limit, BALANCER, 1)

    assert [True, *[False] * 6] == closed(*first, new)
    assert 6 == registry.get_sample_value("connections_open")
    assert 1 == registry.get_sample_value("connections_shed_total")


def test_a_connection_with_a_request_is_not_closed(limit):
    busy, idle = opened(limit, BALANCER, 5, is_idle=False), opened(limit, BALANCER, 1)
    opened(limit, BALANCER, 1)

    assert [*[False] * 5, True] == closed(*busy, *idle)


def test_one_network_without_idle_connections_leaves_room_for_others(limit, registry):
    opened(limit, BALANCER, 6, is_idle=False)

    assert "one network has 6 of at most 8 connections" == refusal(limit, BALANCER)
    opened(limit, OTHER, 2, is_idle=False)
    assert "8 connections are open, as many as QUOTES_MAX_CONNECTIONS allows" == refusal(limit, OTHER)
    for reason in ("share", "limit"):
        assert 1 == registry.get_sample_value("connections_refused_total", {"reason": reason})


def test_the_network_with_the_most_connections_makes_room_for_another_one(limit):
    many, few = opened(limit, BALANCER, 6), opened(limit, OTHER, 2)
    opened(limit, "10.0.0.3", 1)

    assert [True, *[False] * 5] == closed(*many)
    assert [False, False] == closed(*few)


def test_a_network_without_idle_connections_does_not_keep_those_of_others_open(limit):
    many, few = opened(limit, BALANCER, 6, is_idle=False), opened(limit, OTHER, 2)
    opened(limit, "10.0.0.3", 1)

    assert not any(closed(*many))
    assert [True, False] == closed(*few)


def test_a_closed_connection_makes_room(limit):
    connection = socket.socket()
    opened(limit, BALANCER, 5, is_idle=False)
    assert limit.take(connection, BALANCER) is None
    assert refusal(limit, BALANCER) is not None
    limit.release(connection)
    limit.release(connection)

    assert refusal(limit, BALANCER) is None
    connection.close()


def test_the_addresses_of_one_ipv6_customer_are_one_network(limit):
    for host in range(6):
        opened(limit, f"2001:db8::{host}", 1, is_idle=False)

    assert refusal(limit, "2001:db8::99") is not None
    assert refusal(limit, "2001:db8:0:1::1") is None


def test_a_connection_that_no_protocol_serves_yet_is_not_closed(limit):
    connections = [socket.socket() for _ in range(6)]
    assert [None] * 6 == [limit.take(each, BALANCER) for each in connections]

    assert refusal(limit, BALANCER) is not None
    for each in connections:
        each.close()


def test_after_a_search_that_found_nothing_there_is_a_pause(monkeypatch):
    """A search looks at every connection: a thousand callers a second must not cause a thousand searches."""
    clock = [100.0]
    monkeypatch.setattr(connection_limit.time, "monotonic", lambda: clock[0])
    limit = ConnectionLimit(8)
    busy = opened(limit, BALANCER, 6, is_idle=False)
    assert refusal(limit, BALANCER) is not None
    busy[0].is_idle = True

    assert refusal(limit, BALANCER) is not None
    clock[0] += connection_limit.LOOK_AGAIN_SECONDS
    assert refusal(limit, BALANCER) is None


def test_a_lack_of_descriptors_closes_at_most_16_idle_connections(registry):
    limit = ConnectionLimit(4_096, registry)
    served = opened(limit, BALANCER, 20) + opened(limit, OTHER, 3)

    assert 16 == limit.close_idle()
    assert [*[True] * 16, *[False] * 7] == closed(*served)
    assert 7 == limit.close_idle()
    assert 0 == limit.close_idle()
