"""*Callers*: requests and errors by caller, by error id and by hop."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from chassis.errors import Fault, InvalidQueryParameterError
from chassis.queries import query_of
from console.collectors.ledger import ErrorKey, Tally
from console.view import Console, View

PATH: Final = "/callers"
CHOICES: Final = (5, 15, 60)
MAX_ROWS: Final = 200


@dataclass(frozen=True)
class CallerRow:
    """One caller at the service that it calls. `errors` are by error id, the most frequent first."""

    caller: str
    service: str
    requests: int
    errors: Sequence[tuple[str, int]]

    @property
    def failed(self) -> int:
        return sum(count for _, count in self.errors)

    @property
    def share(self) -> float | None:
        """The part of the requests that failed; None without requests."""
        return min(self.failed / self.requests, 1.0) if self.requests else None


def view(console: Console) -> View:
    async def show(request: web.Request) -> web.StreamResponse:
        minutes = _minutes(request)
        fleet = console.fleet
        await fleet.fresh()
        now = time.time()
        tally = fleet.ledger.tally(minutes, now)
        values = {
            "minutes": minutes,
            "choices": CHOICES,
            "began": fleet.began,
            "looked_at": fleet.looked_at,
            "callers": caller_rows(tally, list(fleet.records))[:MAX_ROWS],
            "hops": hop_rows(tally)[:MAX_ROWS],
        }
        return console.render(request, "callers.html", values)

    return View("Callers", PATH, [web.get(PATH, show)])


def caller_rows(tally: Tally, services: Sequence[str]) -> list[CallerRow]:
    """Return one row for each caller, the caller with the most errors first.

    Each service on the way of a request counts it. A row has the counts of the first one, in the order of `services`.
    """
    entries: dict[str, str] = {}
    for service in services:
        for caller in _callers_of(tally, service):
            entries.setdefault(caller, service)
    rows = [_caller_row(tally, caller, service) for caller, service in entries.items()]
    return sorted(rows, key=lambda row: (-row.failed, -row.requests, row.caller))


def hop_rows(tally: Tally) -> list[tuple[ErrorKey, int]]:
    """Return the errors that each service raised itself, the most frequent first."""
    own = ((key, count) for key, count in tally.errors.items() if key.origin == "own")
    return sorted(own, key=lambda each: (-each[1], each[0]))


def _callers_of(tally: Tally, service: str) -> Iterable[str]:
    yield from (key.caller for key in tally.requests if key.service == service)
    yield from (key.caller for key in tally.caller_errors if key.service == service)


def _caller_row(tally: Tally, caller: str, service: str) -> CallerRow:
    errors: Counter[str] = Counter()
    for key, count in tally.caller_errors.items():
        if (key.service, key.caller) == (service, caller):
            errors[key.error] += count
    requests = sum(
        count for key, count in tally.requests.items() if (key.service, key.caller) == (service, caller)
    )
    return CallerRow(caller, service, requests, errors.most_common())


def _minutes(request: web.Request) -> int:
    """Return the time span that the query chooses. Raises InvalidQueryParameterError."""
    query = query_of(request, "minutes")
    given = query.get("minutes", str(CHOICES[1]))
    if given not in {str(each) for each in CHOICES}:
        raise InvalidQueryParameterError(
            faults=[Fault("minutes", f"must be one of {', '.join(map(str, CHOICES))}", given)]
        )
    return int(given)
