"""*Now*: the chain at this moment; present problems come first."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from console.collectors.look import Health
from console.collectors.service_record import Figures, Point, ServiceRecord
from console.view import Console, View

OUTSIDE_THE_CHAIN: Final = frozenset({"integrations", "signal-receiver"})
STATES: Final = ("reserved", "executed", "expired")
CLEARED_SECONDS: Final = 3_600


@dataclass(frozen=True)
class Card:
    """One service as the page draws it."""

    name: str
    health: Health
    reasons: Sequence[str]
    replicas: int
    figures: Figures | None
    points: Sequence[Point]


@dataclass(frozen=True)
class QuoteCounts:
    """Quotes by state, and the time of their count in seconds since 1970; None stands for unknown."""

    by_state: Mapping[str, float | None]
    counted: float | None


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
            "quotes": count_quotes(fleet.records.values()),
            "chain": [card for card in cards if card.name not in OUTSIDE_THE_CHAIN],
            "others": [card for card in cards if card.name in OUTSIDE_THE_CHAIN],
        }
        return console.render(request, "now.html", values)

    return View("Now", "/", [web.get("/", show)])


def count_quotes(records: Iterable[ServiceRecord]) -> QuoteCounts | None:
    """Return the quotes by state; None if no service counts quotes. All replicas count the same table."""
    for record in records:
        found = {state: record.highest("quotes", state=state) for state in STATES}
        if any(count is not None for count in found.values()):
            return QuoteCounts(found, record.highest("quotes_counted_timestamp_seconds"))
    return None


def _card(record: ServiceRecord) -> Card:
    reasons = [reason for look in record.looks for reason in look.reasons]
    return Card(record.name, record.health, reasons, len(record.looks), record.figures(), list(record.points))
