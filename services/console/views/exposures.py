"""*Exposures*: what callers with an exposure limit have reserved at the payee, and their limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from aiohttp import web

from chassis.errors import UnavailableError
from chassis.queries import query_of
from console.quote_list import faults_of
from console.view import Console, View

PATH: Final = "/exposures"
PAYEE: Final = "dfsp-api"
MAX_ROWS: Final = 200
OK: Final = 200


@dataclass(frozen=True)
class ExposureRow:
    """One caller and currency. An empty text is a limit that is not set."""

    caller: str
    currency: str
    sum: str
    sum_limit: str
    count: str
    count_limit: str

    @property
    def share(self) -> float:
        """The larger part of a limit that is used. A limit of zero is used up."""
        pairs = ((self.sum, self.sum_limit), (self.count, self.count_limit))
        return max((_ratio(used, limit) for used, limit in pairs if limit), default=0.0)


def view(console: Console) -> View:
    async def show(request: web.Request) -> web.StreamResponse:
        query_of(request)
        rows, problems = await _read(console)
        values = {"rows": rows[:MAX_ROWS], "more": len(rows) - MAX_ROWS, "problems": problems}
        return console.render(request, "exposures.html", values)

    return View("Exposures", PATH, [web.get(PATH, show)])


def exposure_rows(reply: object) -> list[ExposureRow]:
    """Return the exposures of a reply, the one with the largest share first. Other entries are left out."""
    entries = reply.get("exposures") if isinstance(reply, Mapping) else None
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return []
    rows = [_row(each) for each in entries if isinstance(each, Mapping)]
    return sorted(rows, key=lambda row: (-row.share, row.caller, row.currency))


async def _read(console: Console) -> tuple[list[ExposureRow], list[str]]:
    """Return the exposures, and the problems, if there are any."""
    try:
        reply = await console.fleet.client.request(PAYEE, "GET", "/v1/exposures")
        content = reply.json()
    except UnavailableError as error:
        return [], [f"The payee's exposures cannot be read: {error.message}"]
    return ([], faults_of(content)) if reply.status != OK else (exposure_rows(content), [])


def _row(entry: Mapping[str, object]) -> ExposureRow:
    def text(name: str) -> str:
        value = entry.get(name)
        return "" if value is None else str(value)

    return ExposureRow(
        text("caller"),
        text("currencyCode"),
        text("sum"),
        text("sumLimit"),
        text("count"),
        text("countLimit"),
    )


def _ratio(used: str, limit: str) -> float:
    try:
        return float(Decimal(used) / Decimal(limit)) if Decimal(limit) else 1.0
    except InvalidOperation:
        return 0.0
