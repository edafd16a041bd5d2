"""A view of the console, and what all views share: templates, roles, the log of actions, the services' figures.

A view is one module in `views/` with a function `view(console) -> View`, and one template. `views/__init__.py` lists the
views in the order of the navigation.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from chassis.app import EXCHANGE
from chassis.auth import CALLER
from chassis.database import Database
from chassis.errors import UnavailableError
from chassis.page.pages import Pages
from chassis.service import Service
from console.actions import store_action
from console.collectors.fleet import Fleet
from console.settings import ConsoleSettings
from console.traces.timelines import Timelines


@dataclass(frozen=True)
class View:
    """One entry of the navigation, and the routes of its pages and forms.

    `path` is the page that the entry leads to. Handlers raise QuotingErrors; the console answers them as pages.
    """

    title: str
    path: str
    routes: Sequence[web.RouteDef]


@dataclass(frozen=True)
class Console:
    """The parts of the console that all views use."""

    settings: ConsoleSettings
    service: Service
    pages: Pages
    database: Database
    """The console's own Postgres; each use may raise UnavailableError."""
    fleet: Fleet
    """The watched services: their figures, and requests to them with the console's credentials."""
    timelines: Timelines
    """The timelines of traces, from spans and log lines."""

    def render(self, request: web.Request, template: str, values: Mapping[str, Any]) -> web.Response:
        """Return a page. Besides `values`, the template has `user`, `token`, and the values of `create_app`."""
        return self.pages.render(request, template, values)

    async def form(self, request: web.Request, action: str, **subject: str) -> dict[str, str]:
        """Return the fields of an operator's form, and log the action with the name of the operator.

        `subject` names what the action changes. Raises ForbiddenError for a viewer, and the errors of `Pages.checked_form`.
        """
        fields = await self.pages.checked_form(request)
        user, trace_id = request[CALLER], request[EXCHANGE].trace_id
        self.service.require_operator(user)
        self.service.logs.info("action", action=action, caller=user, traceId=trace_id, **subject)
        with suppress(UnavailableError):  # the log has the action, too
            await store_action(self.database, user, action, subject, trace_id)
        return fields
