"""The user's page: the operations of the JSON API in a browser. It works without JavaScript, too.

Each action is a form, and the response to it is a redirect.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from chassis.auth import CALLER
from chassis.errors import Fault, InvalidBodyError
from chassis.page.form_tokens import FormTokens
from chassis.page.pages import PageOptions, Pages, redirect, sign_out, with_error_pages
from chassis.queries import query_of
from integrations.api.parameters import (
    DEFAULT_LIMIT,
    delivery_query,
    event_id,
    integration_id,
    strategy_id,
)
from integrations.api.replies import EVENT_STATES
from integrations.notifications import NotificationFeed
from integrations.operations import LIVE_STATES, NOT_ENDED_STATES, Operations

REVISION: Final = re.compile(r"[0-9]{1,9}\Z")
MAX_NOTIFICATIONS: Final = 50
DONE: Final = {
    "approve": "The integration is approved. Switch on the strategies whose signals the integration shall get.",
    "reject": "The request is rejected.",
    "resume": "The integration is resumed. Its strategies stay off until you switch them on.",
    "delete": "The integration is deleted.",
    "enable": "The strategy is switched on.",
    "disable": "The strategy is switched off.",
    "replay": "The event is being sent again.",
}
EVENT_TITLES: Final = {
    "INTEGRATION_APPROVED": "Integration approved",
    "INTEGRATION_REJECTED": "Integration rejected",
    "INTEGRATION_DELETED": "Integration deleted",
    "STRATEGY_ENABLED": "Strategy enabled",
    "STRATEGY_DISABLED": "Strategy disabled",
    "SIGNAL_OPEN": "Open position",
    "SIGNAL_CLOSE": "Close position",
    "SIGNAL_REOPEN": "Close and reopen position",
}
OUTCOMES: Final = {
    "DELIVERED": "delivered",
    "REFUSED": "refused",
    "FAILED": "failed",
    "RETRY": "failed for now",
}

PAGE: Final = PageOptions(
    "integrations.page",
    home="All integrations",
    sign_in="Sign in with your e-mail address and password. Load the page again, and your browser asks for both.",
    image_sources="https: data: 'self'",
)


def _initials(integration: Mapping[str, Any]) -> str:
    """Return the text to show if there is no image: the first letters of the first two words of the product's name."""
    words = [word for word in integration["description"].split() if word[0].isalnum()]
    return "".join(word[0] for word in words[:2]).upper() or "?"


def create_pages(keys: Sequence[str]) -> Pages:
    """Return what renders the page. `keys` are the service's keys, with which its forms are protected."""
    pages = Pages(PAGE, FormTokens("integrations", keys))
    pages.templates.filters["initials"] = _initials
    return pages


def routes(operations: Operations, notifications: NotificationFeed, pages: Pages) -> list[web.RouteDef]:
    """Return the routes of the user's page: its views, its forms, and its static files."""
    page = Page(operations, notifications, pages)
    one = "/integrations/{id}"
    views = [web.get("/", page.home), web.get(one, page.deliveries), web.get("/sign-out", sign_out)]
    forms = [
        web.post(f"{one}/{{action:approve|reject|resume|delete}}", page.change),
        web.post(f"{one}/secret", page.rotate_secret),
        web.post(f"{one}/strategies/{{strategyId}}/{{action:enable|disable}}", page.switch),
        web.post(f"{one}/deliveries/{{eventId}}/{{action:replay}}", page.replay),
    ]
    return [*with_error_pages(pages, [*views, *forms]), *pages.files()]


class Page:
    """Views and forms."""

    def __init__(self, operations: Operations, notifications: NotificationFeed, pages: Pages) -> None:
        self._operations = operations
        self._notifications = notifications
        self._pages = pages

    async def home(self, request: web.Request) -> web.Response:
        query = query_of(request, "done")
        user = request[CALLER]
        found = await self._operations.integrations(user)
        return self._render(
            request,
            "home.html",
            done=DONE.get(query.get("done", "")),
            pending=[each for each in found if each["status"] == "PENDING"],
            paused=[each for each in found if each["status"] == "PAUSED"],
            approved=[each for each in found if each["status"] == "APPROVED"],
            ended=[each for each in found if each["status"] not in NOT_ENDED_STATES],
            strategies=await self._operations.strategies(user),
            notifications=await self._notifications.latest(user, None, MAX_NOTIFICATIONS),
        )

    async def deliveries(self, request: web.Request) -> web.Response:
        """Show the attempt log of one integration.

        The query can choose a `state` (empty: all states) or one `event`.
        """
        query = query_of(request, "state", "before", "done", "event")
        done = DONE.get(query.pop("done", ""))
        filters = {name: value for name, value in query.items() if value}
        user, id_ = request[CALLER], integration_id(request)
        integration = await self._operations.integration(user, id_)
        found = await self._operations.deliveries_for_page(user, id_, delivery_query(filters))
        return self._render(
            request,
            "deliveries.html",
            done=done,
            integration=integration,
            deliveries=found,
            state=filters.get("state", ""),
            states=EVENT_STATES,
            is_one_event="event" in filters,
            is_full=len(found) == DEFAULT_LIMIT,
            revision=await self._operations.revision(user, id_),
            can_rotate_secret=integration["status"] in LIVE_STATES,
            titles=EVENT_TITLES,
            outcomes=OUTCOMES,
        )

    async def change(self, request: web.Request) -> web.Response:
        await self._pages.checked_form(request)
        action = request.match_info["action"]
        operation: dict[str, Callable[[str, UUID], Awaitable[None]]] = {
            "approve": self._operations.approve,
            "reject": self._operations.reject,
            "resume": self._operations.resume,
            "delete": self._operations.delete,
        }
        await operation[action](request[CALLER], integration_id(request))
        return redirect(f"/?done={action}")

    async def rotate_secret(self, request: web.Request) -> web.Response:
        """Create a new signing secret and show it: it cannot be shown later.

        A form that is sent twice creates one secret.
        """
        fields = await self._pages.checked_form(request)
        revision = fields.get("revision", "")
        if not REVISION.match(revision):
            raise InvalidBodyError(faults=[Fault("revision", "must be the one in the page's form", revision)])
        user, id_ = request[CALLER], integration_id(request)
        integration = await self._operations.integration(user, id_)
        secret = await self._operations.rotate_secret(user, id_, int(revision))
        return self._render(request, "secret.html", integration=integration, secret=secret)

    async def switch(self, request: web.Request) -> web.Response:
        await self._pages.checked_form(request)
        action = request.match_info["action"]
        operation = self._operations.enable if action == "enable" else self._operations.disable
        await operation(request[CALLER], integration_id(request), strategy_id(request))
        return redirect(f"/?done={action}")

    async def replay(self, request: web.Request) -> web.Response:
        await self._pages.checked_form(request)
        id_ = integration_id(request)
        await self._operations.replay(request[CALLER], id_, event_id(request))
        return redirect(f"/integrations/{id_}?done=replay")

    def _render(self, request: web.Request, template: str, **values: Any) -> web.Response:  # noqa: ANN401
        return self._pages.render(request, template, values)
