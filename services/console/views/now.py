"""*Now*: the chain at this moment; present problems come first."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from console.collectors.look import Health
from console.collectors.service_record import MAX_POINTS, Figures, ServiceRecord
from console.view import Console, View

OUTSIDE_THE_CHAIN: Final = frozenset({"integrations", "signal-receiver"})
CLEARED_SECONDS: Final = 3_600
POINTS_IN_A_VALUE: Final = 3


@dataclass(frozen=True)
class Card:
    """One service as the page draws it."""

    name: str
    health: Health
    reasons: Sequence[str]
    replicas: int
    figures: Figures | None
    rates: Sequence[float | None]
    """Requests per second in the last hour, one value for each half minute; None where nothing is known."""
    p99s: Sequence[float | None]
    """p99 in seconds, in the same form."""


def view(console: Console) -> View:
    async def show(request: web.Request) -> web.StreamResponse:
        fleet = console.fleet
        await fleet.fresh()
        now = time.time()
        cards = [_card(record) for record in fleet.records.values() if record.is_known]
        values = {
            "looked_at": fleet.looked_at,
            "problems": fleet.problems.present,
            "cleared": [each for each in fleet.problems.cleared if now - each.until < CLEARED_SECONDS],
            "quotes": fleet.quotes,
            "chain": [card for card in cards if card.name not in OUTSIDE_THE_CHAIN],
            "others": [card for card in cards if card.name in OUTSIDE_THE_CHAIN],
        }
        return console.render(request, "now.html", values)

    return View("Now", "/", [web.get("/", show)])


def _card(record: ServiceRecord) -> Card:
    return Card(
        record.name,
        record.health,
        [reason for look in record.looks for reason in look.reasons],
        len(record.looks),
        record.figures(),
        last_hour([point.rate for point in record.points]),
        last_hour([point.p99_seconds for point in record.points]),
    )


def last_hour(values: Sequence[float | None]) -> list[float | None]:
    """Return the highest of each POINTS_IN_A_VALUE points of the last hour; the newest points may be the only ones."""
    hour = [*[None] * (MAX_POINTS - len(values)), *values]
    groups = [hour[start : start + POINTS_IN_A_VALUE] for start in range(0, MAX_POINTS, POINTS_IN_A_VALUE)]
    return [max((value for value in group if value is not None), default=None) for group in groups]
