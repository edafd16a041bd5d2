"""Metrics about a service's process: its version, its load, whether it is ready."""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import Gauge, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.service import Service

_VERSION: Final = version("dfsp-quoting")


def add_process_metrics(service: Service, name: str) -> None:
    """Add the metrics of the process to `/metrics`. `name` is the service's name in the log."""
    registry, monitor = service.metrics.registry, service.monitor
    ProcessCollector(registry=registry)
    build = Gauge("service_build_info", "Version", ["service", "version", "python"], registry=registry)
    build.labels(name, _VERSION, platform.python_version()).set(1)
    in_flight = Gauge("requests_in_flight", "Requests in flight", registry=registry)
    in_flight.set_function(lambda: monitor.in_flight)
    queued = Gauge("requests_queued", "Requests that wait in the queue", registry=registry)
    queued.set_function(lambda: monitor.queued)
    overloaded = Gauge("service_overloaded", "Whether requests are rejected", registry=registry)
    overloaded.set_function(lambda: int(monitor.is_overloaded))
    registry.register(_Health(service))


class _Health(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service
        self._is_ready = False
        service.measurements.add(self._measure)

    async def _measure(self) -> None:
        self._is_ready = False
        self._is_ready = not await self._service.missing()

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("service_ready", "Whether the service is ready", value=int(self._is_ready))
        lag = HistogramMetricFamily("event_loop_lag_seconds", "How late a timer of 0.1 s was", labels=[])
        self._service.monitor.lag.add_to(lag, [])
        yield lag
