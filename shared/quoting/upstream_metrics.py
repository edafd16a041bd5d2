"""Metrics of a service's connections to the services that it calls (docs/metrics.md)."""

from prometheus_client import CollectorRegistry, Gauge

from chassis.http.pool import ConnectionPool
from quoting.peers import Peers


def add_upstream_metrics(registry: CollectorRegistry, pool: ConnectionPool, peers: Peers) -> None:
    """Let `/metrics` show the connections and waiting requests, as they are when Prometheus collects them."""
    connections = Gauge("upstream_connections", "Connections to next hops", ["state"], registry=registry)
    connections.labels("in_use").set_function(lambda: pool.connections()[0])
    connections.labels("idle").set_function(lambda: pool.connections()[1])
    waiters = Gauge(
        "upstream_connection_waiters", "Requests that wait for a connection to a next hop", registry=registry
    )
    waiters.set_function(lambda: pool.waiters)
    waiting = Gauge(
        "upstream_requests_waiting", "Requests that wait for the next batch to a next hop", registry=registry
    )
    waiting.set_function(lambda: peers.waiting)
