"""*Now*: the chain at this moment; present problems come first."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from console.collectors.look import Health
from console.collectors.service_record import Figures, Point, ServiceRecord
from console.view import Console, View

OUTSIDE_THE_CHAIN: Final = frozenset({"integrations", "signal-receiver"})
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
    reasons = [reason for look in record.looks for reason in look.reasons]
    return Card(record.name, record.health, reasons, len(record.looks), record.figures(), list(record.points))
