"""Metrics of a service's connections to the services that it calls (docs/metrics.md)."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.http.pool import ConnectionPool
from quoting.peers import Peers


class UpstreamMetrics(Collector):
    """Connections and waiting requests, as they are when Prometheus collects them."""

    def __init__(self, pool: ConnectionPool, peers: Peers) -> None:
        self._pool = pool
        self._peers = peers

    def collect(self) -> Iterator[Metric]:
        in_use, idle = self._pool.connections()
        connections = GaugeMetricFamily("upstream_connections", "Connections to next hops", labels=["state"])
        connections.add_metric(["in_use"], in_use)
        connections.add_metric(["idle"], idle)
        yield connections
        yield GaugeMetricFamily(
            "upstream_connection_waiters",
            "Requests that wait for a connection to a next hop",
            value=self._pool.waiters,
        )
        yield GaugeMetricFamily(
            "upstream_requests_waiting",
            "Requests that wait for the next batch to a next hop",
            value=self._peers.waiting,
        )
