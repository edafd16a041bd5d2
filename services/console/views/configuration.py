"""*Configuration*: the settings of every service as they are in force, its fee schedule and directory, and actions."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from aiohttp import web

from chassis import configuration
from chassis.errors import NotFoundError, QuotingError, UnavailableError
from console.actions import latest_actions
from console.fee_schedule import CURRENT, ID, FeeSchedule, schedule_of
from console.service_list import PAYEE
from console.view import Console, View

PATH: Final = "/configuration"
OK, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 200, 401, 403, 404
MAX_ROWS: Final = 500
PROBLEMS: Final[Mapping[int, str]] = {
    UNAUTHORIZED: "it rejects the console's user or password (QUOTES_SERVICE_USER, QUOTES_SERVICE_PASSWORD)",
    FORBIDDEN: "the console's user is no operator there (QUOTES_OPERATORS)",
    NOT_FOUND: "it has no such operation: its version is older",
}


@dataclass(frozen=True)
class Setting:
    """One setting. `variable` is the environment variable that was set; None for a default."""

    name: str
    value: str | None
    source: str
    variable: str | None


@dataclass(frozen=True)
class Table:
    """A configuration file in force. `total` is the number of its rows, of which `rows` has the first ones."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: int


@dataclass(frozen=True)
class ServiceConfiguration:
    """The configuration of one service, or the problem why there is none."""

    name: str
    version: str
    problem: str | None
    settings: Sequence[Setting] = ()
    tables: Sequence[Table] = ()
    schedule: FeeSchedule | None = None
    """The payee's fee schedule in force."""
    schedule_problem: str | None = None


def view(console: Console) -> View:
    async def show(request: web.Request) -> web.StreamResponse:
        found, actions = await asyncio.gather(
            asyncio.gather(*(_read(console, name) for name in console.fleet.records)), _actions(console)
        )
        own = [_setting(each) for each in configuration.describe(console.settings)]
        values = {
            "services": [*found, ServiceConfiguration("console", "", None, own)],
            "read_at": time.time(),
            "actions": actions,
        }
        return console.render(request, "configuration.html", values)

    async def show_schedule(request: web.Request) -> web.StreamResponse:
        """Show a fee schedule that has priced quotes."""
        id_ = request.match_info["id"]
        if not ID.match(id_):
            raise NotFoundError("The id of a fee schedule has 64 hexadecimal digits.")
        return console.render(request, "fee_schedule.html", {"schedule": await _schedule(console, id_)})

    return View("Configuration", PATH, [web.get(PATH, show), web.get("/fee-schedules/{id}", show_schedule)])


async def _read(console: Console, name: str) -> ServiceConfiguration:
    try:
        reply = await console.fleet.client.request(name, "GET", configuration.PATH)
        if reply.status != OK:
            problem = PROBLEMS.get(reply.status, f"it answers {reply.status}")
            return ServiceConfiguration(name, "", problem)
        found = parse(name, reply.json())
    except QuotingError as error:
        return ServiceConfiguration(name, "", error.message)
    return await _with_schedule(console, found) if name == PAYEE else found


async def _with_schedule(console: Console, found: ServiceConfiguration) -> ServiceConfiguration:
    """Return the payee's configuration with its fee schedule in force, or with the reason why it is missing."""
    try:
        return replace(found, schedule=await _schedule(console, CURRENT))
    except QuotingError as error:
        return replace(found, schedule_problem=error.message)


async def _schedule(console: Console, id_: str) -> FeeSchedule:
    """Return a fee schedule of the payee. Raises NotFoundError and UnavailableError."""
    reply = await console.fleet.client.request(PAYEE, "GET", f"/v1/feeSchedules/{id_}")
    if reply.status == NOT_FOUND:
        raise NotFoundError("The payee has no fee schedule with this id.")
    if reply.status != OK:
        raise UnavailableError(f"The payee answers {reply.status}.")
    return schedule_of(reply.json())


def parse(name: str, content: Any) -> ServiceConfiguration:  # noqa: ANN401 - JSON
    """Return the configuration in a response. Raises UnavailableError if the response has another form."""
    try:
        return ServiceConfiguration(
            name,
            str(content["version"]),
            None,
            [_setting(each) for each in content["settings"][:MAX_ROWS]],
            [_table(each) for each in content["tables"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnavailableError("Its configuration has another form than expected.") from error


def _setting(each: Mapping[str, Any]) -> Setting:
    return Setting(each["name"], each["value"], each["source"], each["variable"])


def _table(each: Mapping[str, Any]) -> Table:
    rows = [list(map(str, row)) for row in each["rows"][:MAX_ROWS]]
    return Table(str(each["title"]), list(map(str, each["columns"])), rows, int(each["total"]))


async def _actions(console: Console) -> Sequence[Mapping[str, Any]] | None:
    """Return the newest actions; None while the console's own Postgres is away."""
    try:
        return await latest_actions(console.database)
    except UnavailableError:
        return None
