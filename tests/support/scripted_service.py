"""A service whose health, metrics and configuration a test decides, for tests of the console."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from support.serving import listening

BUCKETS: Final = (0.01, 0.1, 1.0)
NOT_THERE: Final = 404


@dataclass
class ScriptedService:
    """`missing` are the resources that readiness lacks; while `answers` is not set, requests wait."""

    url: str = ""
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    configuration: Any = None
    configuration_status: int = 200
    fee_schedule: Any = None
    """The reply to each look-up of a fee schedule; None: 404."""
    exposures: Any = field(default_factory=lambda: {"exposures": []})
    exposures_status: int = 200
    checkpoint: str | None = None
    """The reply to each request for a checkpoint; None: 404."""
    checkpoint_status: int = 200
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    """Method and path of each request, and its Authorization header."""

    def __post_init__(self) -> None:
        self.answers.set()
        self._requests = Counter("requests", "", ["method", "route", "status"], registry=self.registry)
        self._errors = Counter(
            "request_errors", "", ["method", "route", "status", "error", "origin"], registry=self.registry
        )
        self._durations = Histogram(
            "request_duration_seconds", "", ["method", "route"], buckets=BUCKETS, registry=self.registry
        )
        self._caller_requests = Counter("caller_requests", "", ["caller"], registry=self.registry)
        self._caller_errors = Counter("caller_errors", "", ["caller", "error"], registry=self.registry)
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def freeze(self) -> None:
        """Accept connections and answer nothing from now on."""
        self.answers.clear()

    def thaw(self) -> None:
        self.answers.set()

    def requests(self, count: int, *, caller: str = "test", seconds: float = 0.005) -> None:
        """Count requests that were answered with 200."""
        self._requests.labels("POST", "/v1/quoteSourceAmount", "200").inc(count)
        self._caller_requests.labels(caller).inc(count)
        for _ in range(count):
            self._durations.labels("POST", "/v1/quoteSourceAmount").observe(seconds)

    def errors(
        self, count: int, error: str, *, status: int = 503, caller: str = "test", origin: str = "own"
    ) -> None:
        """Count requests that were answered with this error."""
        self._requests.labels("POST", "/v1/quoteSourceAmount", str(status)).inc(count)
        self._errors.labels("POST", "/v1/quoteSourceAmount", str(status), error, origin).inc(count)
        self._caller_requests.labels(caller).inc(count)
        self._caller_errors.labels(caller, error).inc(count)
        for _ in range(count):
            self._durations.labels("POST", "/v1/quoteSourceAmount").observe(0.005)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, "", list(labels), registry=self.registry)
        (self._gauges[name].labels(**labels) if labels else self._gauges[name]).set(value)

    def count(self, name: str, number: float, **labels: str) -> None:
        """Add to a counter; `name` is without `_total`."""
        if name not in self._counters:
            self._counters[name] = Counter(name, "", list(labels), registry=self.registry)
        (self._counters[name].labels(**labels) if labels else self._counters[name]).inc(number)

    def observe(self, name: str, *seconds: float, **labels: str) -> None:
        """Add observations to a histogram."""
        if name not in self._histograms:
            self._histograms[name] = Histogram(
                name, "", list(labels), buckets=BUCKETS, registry=self.registry
            )
        histogram = self._histograms[name].labels(**labels) if labels else self._histograms[name]
        for each in seconds:
            histogram.observe(each)

    async def handle(self, request: web.Request) -> web.Response:
        await self.answers.wait()
        self.seen.append((f"{request.method} {request.path}", request.headers.get("Authorization")))
        if request.path == "/health/ready":
            content: Mapping[str, Any] = (
                {"status": "not ready", "missing": self.missing}
                if self.missing
                else {"status": "ready", "warnings": self.warnings}
            )
            return web.json_response(content, status=503 if self.missing else 200)
        if request.path == "/metrics":
            return web.Response(body=generate_latest(self.registry))
        return self._operation(request)

    def _operation(self, request: web.Request) -> web.Response:
        if request.path == "/v1/configuration":
            return web.json_response(self.configuration, status=self.configuration_status)
        if request.path.startswith("/v1/feeSchedules/") and self.fee_schedule is not None:
            return web.json_response(self.fee_schedule)
        if request.path == "/v1/exposures":
            return web.json_response(self.exposures, status=self.exposures_status)
        if request.path == "/v1/audit/checkpoint" and self.checkpoint is not None:
            return web.Response(text=self.checkpoint, status=self.checkpoint_status)
        return web.Response(status=NOT_THERE)


@asynccontextmanager
async def scripted_service() -> AsyncIterator[ScriptedService]:
    """Run a scripted service on a free port."""
    service = ScriptedService()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    async with listening(web.AppRunner(app, shutdown_timeout=0.1)) as url:
        service.url = url
        yield service
        service.thaw()
