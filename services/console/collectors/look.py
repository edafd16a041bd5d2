"""One look at a replica of a service: its health, and its metrics."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import orjson

from chassis.errors import UnavailableError
from chassis.http.resolver import ReplicaAddress
from console.collectors.samples import MetricsError, Samples, parse
from console.collectors.service_client import ServiceClient, ServiceReply

LOOK_SECONDS: Final = 1.5
"""Time limit of a look. Together with the time between two looks it is less than five seconds."""
MAX_REASONS: Final = 10
MAX_REASON_CHARACTERS: Final = 300
OK, NOT_READY = 200, 503


class Health(Enum):
    """The state of a replica."""

    READY = "ready"
    NOT_READY = "not ready"
    STOPPING = "shutting down"
    FROZEN = "frozen"
    AWAY = "away"

    @property
    def answers(self) -> bool:
        return self not in {Health.FROZEN, Health.AWAY}


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one look at a replica. `at` is the time of its end in seconds since 1970."""

    replica: str
    at: float
    health: Health
    reasons: tuple[str, ...] = ()
    samples: Samples | None = None


async def look_at(client: ServiceClient, replica: ReplicaAddress) -> Look:
    """Ask a replica for its readiness and its metrics at the same time. Raises nothing."""
    readiness, metrics = await asyncio.gather(
        _get(client, replica, "/health/ready"), _get(client, replica, "/metrics")
    )
    health, reasons = judge(readiness, metrics)
    samples = None
    if isinstance(metrics, ServiceReply) and metrics.status == OK:
        try:
            samples = parse(metrics.body.decode("utf-8", "replace"), time.monotonic())
        except MetricsError as error:
            reasons = (*reasons, f"its metrics cannot be read: {error}")
    return Look(replica.base, time.time(), health, _cut(reasons), samples)


def judge(
    readiness: ServiceReply | UnavailableError, metrics: ServiceReply | UnavailableError
) -> tuple[Health, tuple[str, ...]]:
    """Return the state of a replica with its warnings if it is ready, else with the reasons.

    The readiness check may wait for a database that does not answer, so a process is frozen only if neither readiness nor
    metrics are answered.
    """
    if isinstance(readiness, ServiceReply):
        return _of_reply(readiness)
    if isinstance(metrics, ServiceReply):
        return Health.NOT_READY, (
            f"its check of readiness did not end within {LOOK_SECONDS:g} s; its database may be frozen",
        )
    if isinstance(readiness.__cause__, TimeoutError) and isinstance(metrics.__cause__, TimeoutError):
        return Health.FROZEN, (f"no response within {LOOK_SECONDS:g} s",)
    return Health.AWAY, (readiness.cause or readiness.message,)


def _of_reply(readiness: ServiceReply) -> tuple[Health, tuple[str, ...]]:
    if readiness.status == OK:
        return Health.READY, tuple(_texts(readiness.body, "warnings"))
    missing = _texts(readiness.body, "missing") if readiness.status == NOT_READY else []
    if missing == ["the service is shutting down"]:
        return Health.STOPPING, ()
    return Health.NOT_READY, tuple(missing) or (f"it answers {readiness.status}",)


def _texts(body: bytes, name: str) -> list[str]:
    try:
        texts = orjson.loads(body)[name]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []
    return [str(each) for each in texts] if isinstance(texts, list) else []


def _cut(reasons: Sequence[str]) -> tuple[str, ...]:
    return tuple(each[:MAX_REASON_CHARACTERS] for each in reasons[:MAX_REASONS])


async def _get(client: ServiceClient, replica: ReplicaAddress, path: str) -> ServiceReply | UnavailableError:
    try:
        return await client.send(replica, "GET", path, timeout_seconds=LOOK_SECONDS)
    except UnavailableError as error:
        return error
