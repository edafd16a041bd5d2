"""*Webhooks*: the backlog, integrations in trouble, deliveries with request and response, and replay for operators."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from chassis.auth import CALLER
from chassis.errors import Fault, InvalidQueryParameterError, NotFoundError
from chassis.page.pages import redirect
from chassis.patterns import is_uuid
from chassis.queries import query_of
from console.collectors.webhook_operations import Json, WebhookOperations
from console.formats import duration
from console.view import Console, View

PATH: Final = "/webhooks"
PAGE_SIZE: Final = "20"
BEFORE_FAILURES: Final = timedelta(minutes=10)
"""An event may have been created this long before its first failed attempt."""
DEFAULT_SINCE: Final = timedelta(hours=1)
STATES: Final = ("PENDING", "APPROVED", "REJECTED", "PAUSED", "DELETED")
EVENT_STATES: Final = ("WAITING", "DELIVERED", "REFUSED", "FAILED", "EXPIRED", "CANCELLED")
REPLAYED_STATES: Final = ("FAILED", "EXPIRED", "REFUSED")
OUTCOMES: Final = {
    "DELIVERED": "delivered",
    "REFUSED": "refused",
    "FAILED": "failed",
    "RETRY": "failed for now",
}
PAUSE_REASONS: Final = {
    "GONE": "the webhook answered with status 410",
    "FAILURES": "too many deliveries in a row failed",
}
DONE: Final = {
    "resume": "The integration is resumed. Its strategies stay off until its user switches them on.",
    "replay": "The event is being sent again.",
    "retry": "The waiting events are being sent now.",
}

# what a browser sends for an input of the type datetime-local
_LOCAL_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?\Z", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,6}\Z", re.ASCII)


def view(console: Console) -> View:
    page = WebhooksView(console, WebhookOperations(console.fleet.client))
    one = PATH + "/{id}"
    return View(
        "Webhooks",
        PATH,
        [
            web.get(PATH, page.overview),
            web.get(one, page.integration),
            web.post(f"{one}/resume", page.resume),
            web.post(f"{one}/retry", page.retry_now),
            web.get(f"{one}/replays", page.confirm),
            web.post(f"{one}/replays", page.replay_failed),
            web.get(f"{one}/deliveries/{{eventId}}", page.delivery),
            web.post(f"{one}/deliveries/{{eventId}}/replay", page.replay),
        ],
    )


class WebhooksView:
    """Pages and forms of the view."""

    def __init__(self, console: Console, operations: WebhookOperations) -> None:
        self._console = console
        self._operations = operations

    async def overview(self, request: web.Request) -> web.StreamResponse:
        query = _query(request, "state", "userEmail", "after")
        backlog = await self._operations.backlog()
        found = await self._operations.integrations({**query, "limit": PAGE_SIZE}) if query else None
        return self._render(
            request,
            "webhooks.html",
            {
                "backlog": backlog.figures,
                "age": duration(max(round(backlog.age_seconds), 1)),
                "problem": backlog.problem,
                "user_email": query.get("userEmail", ""),
                "chosen": query.get("state", ""),
                "found": found,
                "next": found and _page_after(PATH, query, found),
                "states": STATES,
            },
        )

    async def integration(self, request: web.Request) -> web.StreamResponse:
        id_ = _id(request)
        query = _query(request, "state", "after", "done", "replayed", "left", "skipped")
        filters = _only(query, "state", "after")
        found = await self._operations.integration(id_)
        deliveries = await self._operations.deliveries(id_, {**filters, "limit": PAGE_SIZE})
        return self._render(
            request,
            "webhook.html",
            {
                "each": found,
                "deliveries": deliveries["deliveries"],
                "next": _page_after(f"{PATH}/{found['id']}", filters, deliveries),
                "chosen": filters.get("state", ""),
                "states": EVENT_STATES,
                "done": DONE.get(query.get("done", "")) or _replayed(query),
            },
        )

    async def delivery(self, request: web.Request) -> web.StreamResponse:
        _query(request)
        id_ = _id(request)
        found = await self._operations.delivery(id_, _id(request, "eventId"))
        integration = await self._operations.integration(id_)
        return self._render(request, "delivery.html", {"each": integration, "event": found})

    async def confirm(self, request: web.Request) -> web.StreamResponse:
        """Show how many events a replay would send again, and ask whether to do it. For operators only."""
        self._console.service.require_operator(request[CALLER])
        id_ = _id(request)
        query = _query(request, "since", "state")
        integration = await self._operations.integration(id_)
        since = time_of(query["since"]) if "since" in query else _default_since(integration)
        filters = {"since": since, **_only(query, "state")}
        found = await self._operations.failed(id_, filters)
        return self._render(
            request,
            "replay.html",
            {
                "each": integration,
                "found": found,
                "since": since[:19],
                "chosen": filters.get("state", ""),
                "states": REPLAYED_STATES,
                "fields": {**filters, "until": found["until"]},
            },
        )

    async def replay_failed(self, request: web.Request) -> web.StreamResponse:
        id_ = _id(request)
        fields = await self._console.form(request, "replay of failed events", integration=id_)
        body = _only(fields, "since", "until", "state")
        found = await self._operations.replay_failed(id_, body, request[CALLER])
        skipped = sum(each["events"] for each in found["skipped"])
        numbers = {"replayed": found["replayed"], "left": found["left"], "skipped": skipped}
        return redirect(f"{PATH}/{id_}?{urlencode(numbers)}")

    async def replay(self, request: web.Request) -> web.StreamResponse:
        id_, event_id = _id(request), _id(request, "eventId")
        await self._console.form(request, "replay", integration=id_, webhook_id=event_id)
        await self._operations.replay(id_, event_id, request[CALLER])
        return redirect(f"{PATH}/{id_}?done=replay")

    async def retry_now(self, request: web.Request) -> web.StreamResponse:
        id_ = _id(request)
        await self._console.form(request, "retry now", integration=id_)
        await self._operations.retry_now(id_, request[CALLER])
        return redirect(f"{PATH}/{id_}?done=retry")

    async def resume(self, request: web.Request) -> web.StreamResponse:
        id_ = _id(request)
        await self._console.form(request, "resume", integration=id_)
        await self._operations.resume(id_, request[CALLER])
        return redirect(f"{PATH}/{id_}?done=resume")

    def _render(self, request: web.Request, template: str, values: Mapping[str, Any]) -> web.StreamResponse:
        now = datetime.now(UTC)

        def age(at: str) -> str:
            return duration(max(round((now - datetime.fromisoformat(at)).total_seconds()), 1))

        shared = {"age_of": age, "outcomes": OUTCOMES, "reasons": PAUSE_REASONS, "path": PATH}
        return self._console.render(request, template, {**shared, **values})


def time_of(text: str) -> str:
    """Return a time from a browser's form in the form that `integrations` accepts. Without a time zone it is UTC."""
    return f"{text if text.count(':') > 1 else f'{text}:00'}Z" if _LOCAL_TIME.match(text) else text


def _query(request: web.Request, *allowed: str) -> dict[str, str]:
    """Return the query's parameters that are not empty. Raises InvalidQueryParameterError."""
    return {name: value for name, value in query_of(request, *allowed).items() if value}


def _only(values: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: values[name] for name in names if name in values}


def _id(request: web.Request, name: str = "id") -> str:
    """Return an id in the path. Raises NotFoundError."""
    text = request.match_info[name]
    if not is_uuid(text):
        raise NotFoundError("There is no such page.")
    return text.lower()


def _page_after(path: str, query: Mapping[str, str], found: Json) -> str | None:
    return None if found["next"] is None else f"{path}?{urlencode({**query, 'after': found['next']})}"


def _default_since(integration: Json) -> str:
    """Return the time shortly before the integration began to fail."""
    failing = integration["failingSince"]
    since = (
        datetime.now(UTC) - DEFAULT_SINCE
        if failing is None
        else datetime.fromisoformat(failing) - BEFORE_FAILURES
    )
    return f"{since:%Y-%m-%dT%H:%M:%S}Z"


def _replayed(query: Mapping[str, str]) -> str | None:
    """Return the message about a replay whose numbers are in the query; None if there are none."""
    if "replayed" not in query:
        return None
    numbers = {name: query.get(name, "0") for name in ("replayed", "left", "skipped")}
    for name, value in numbers.items():
        if not _NUMBER.match(value):
            raise InvalidQueryParameterError(faults=[Fault(name, "must be a whole number", value)])
    text = f"Failed events that are being sent again: {numbers['replayed']}."
    if int(numbers["left"]):
        text += f" Left for later, because of the limit: {numbers['left']}. Repeat this after a minute."
    if int(numbers["skipped"]):
        text += f" Cannot be sent again in order: {numbers['skipped']}."
    return text
