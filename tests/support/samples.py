"""Metrics and looks for tests of the console's computations."""

from collections.abc import Sequence

from console.collectors.look import Health, Look
from console.collectors.samples import parse
from console.collectors.service_record import ServiceRecord

REPLICA = "http://10.0.0.1"


def look(
    text: str | None = "",
    at: float = 0.0,
    *,
    health: Health = Health.READY,
    reasons: Sequence[str] = (),
    replica: str = REPLICA,
) -> Look:
    """A look at this time. Without a text, the replica did not answer the request for metrics."""
    samples = None if text is None else parse(text, at)
    return Look(replica, at, health, tuple(reasons), samples)


def record(*texts: str, every: float = 10.0, name: str = "dfsp-api") -> ServiceRecord:
    """A record with one look for each text, `every` seconds apart."""
    made = ServiceRecord(name, REPLICA)
    for index, text in enumerate(texts):
        made.add([look(text, index * every)])
    return made
