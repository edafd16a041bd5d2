"""The user's page: the operations of the JSON API in a browser. It works without JavaScript, too.

Each action is a form, and the response to it is a redirect. The script only fetches the page again and replaces the
parts that have changed.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from aiohttp import hdrs, web
from jinja2 import Environment, PackageLoader, StrictUndefined

from chassis.app import EXCHANGE, SERVICE
from chassis.auth import CALLER, without_credentials
from chassis.content import MAX_BODY_BYTES, is_of_type
from chassis.errors import (
    Fault,
    ForbiddenError,
    InvalidBodyError,
    QuotingError,
    TooManyRequestsError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from chassis.http.body import read
from chassis.http.request import joined
from chassis.service import challenge
from integrations.api.parameters import (
    DEFAULT_LIMIT,
    delivery_query,
    event_id,
    integration_id,
    query_of,
    strategy_id,
)
from integrations.api.replies import EVENT_STATES
from integrations.notifications import NotificationFeed
from integrations.operations import LIVE_STATES, NOT_ENDED_STATES, Operations
from integrations.page.form_tokens import FormTokens

REVISION: Final = re.compile(r"[0-9]{1,9}\Z")
FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM_FIELDS: Final = 4
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

# with `no-referrer` browsers would send forms with `Origin: null`, which counts as another site's
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src https: data: 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# every other path counts as the page's, so that its errors have the headers, too
API_PREFIXES: Final = ("/v1/", "/api/", "/health/", "/metrics", "/openapi.json", "/docs")
STATIC: Final = {"page.css": "text/css", "page.js": "text/javascript"}
SIGN_IN: Final = (
    "Sign in with your e-mail address and password. Load the page again, and your browser asks for both."
)

Handler = Callable[[web.Request], Awaitable[web.Response]]


def _initials(integration: Mapping[str, Any]) -> str:
    """Return the text to show if there is no image: the first letters of the first two words of the product's name."""
    words = [word for word in integration["description"].split() if word[0].isalnum()]
    return "".join(word[0] for word in words[:2]).upper() or "?"


_TEMPLATES: Final = Environment(
    loader=PackageLoader("integrations.page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["initials"] = _initials


@web.middleware
async def page_responses(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Add security headers to each response of the user's page.

    If the credentials are rejected, respond with a page.
    """
    if request.path.startswith(API_PREFIXES):
        return await handler(request)
    request[EXCHANGE].reply_headers.update(HEADERS)
    try:
        return await handler(request)
    except (UnauthorizedError, TooManyRequestsError) as error:
        is_login = isinstance(error, UnauthorizedError)
        heading = "Please sign in" if is_login else "Too many wrong passwords"
        message = SIGN_IN if is_login else f"{error.message} Wait a minute, then load the page again."
        response = _error_page(error, heading, message, "Sign in")
        if is_login:
            response.headers[hdrs.WWW_AUTHENTICATE] = challenge(request.app[SERVICE].name)
        request.app[SERVICE].logs.info("page", error=error.id, cause=error.cause or error.message)
        return response


def _error_page(
    error: QuotingError, heading: str, message: str, link: str, user: str | None = None
) -> web.Response:
    text = _TEMPLATES.get_template("error.html").render(
        heading=heading, message=message, link=link, user=user
    )
    response = web.Response(
        status=error.status, text=text, content_type="text/html", charset="utf-8", headers=error.headers
    )
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    return response


def routes(operations: Operations, notifications: NotificationFeed, tokens: FormTokens) -> list[web.RouteDef]:
    """Return the routes of the user's page: its views, its forms, and its static files."""
    page = Page(operations, notifications, tokens)
    one = "/integrations/{id}"
    views = [("GET", "/", page.home), ("GET", one, page.deliveries), ("GET", "/sign-out", page.sign_out)]
    forms = [
        ("POST", f"{one}/{{action:approve|reject|resume|delete}}", page.change),
        ("POST", f"{one}/secret", page.rotate_secret),
        ("POST", f"{one}/strategies/{{strategyId}}/{{action:enable|disable}}", page.switch),
        ("POST", f"{one}/deliveries/{{eventId}}/{{action:replay}}", page.replay),
    ]
    return [
        web.route(method, path, page.with_error_pages(handler)) for method, path, handler in [*views, *forms]
    ] + [web.get(f"/{name}", without_credentials(_file(name, type_))) for name, type_ in STATIC.items()]


class Page:
    """Views and forms."""

    def __init__(self, operations: Operations, notifications: NotificationFeed, tokens: FormTokens) -> None:
        self._operations = operations
        self._notifications = notifications
        self._tokens = tokens

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

    async def sign_out(self, _request: web.Request) -> web.Response:
        """Reject the request's credentials, so that the browser forgets them."""
        raise UnauthorizedError(cause="signed out")

    async def change(self, request: web.Request) -> web.Response:
        await self._checked_form(request)
        action = request.match_info["action"]
        operation: dict[str, Callable[[str, UUID], Awaitable[None]]] = {
            "approve": self._operations.approve,
            "reject": self._operations.reject,
            "resume": self._operations.resume,
            "delete": self._operations.delete,
        }
        await operation[action](request[CALLER], integration_id(request))
        return _redirect(f"/?done={action}")

    async def rotate_secret(self, request: web.Request) -> web.Response:
        """Create a new signing secret and show it: it cannot be shown later.

        A form that is sent twice creates one secret.
        """
        fields = await self._checked_form(request)
        revision = fields.get("revision", "")
        if not REVISION.match(revision):
            raise InvalidBodyError(faults=[Fault("revision", "must be the one in the page's form", revision)])
        user, id_ = request[CALLER], integration_id(request)
        integration = await self._operations.integration(user, id_)
        secret = await self._operations.rotate_secret(user, id_, int(revision))
        return self._render(request, "secret.html", integration=integration, secret=secret)

    async def switch(self, request: web.Request) -> web.Response:
        await self._checked_form(request)
        action = request.match_info["action"]
        operation = self._operations.enable if action == "enable" else self._operations.disable
        await operation(request[CALLER], integration_id(request), strategy_id(request))
        return _redirect(f"/?done={action}")

    async def replay(self, request: web.Request) -> web.Response:
        await self._checked_form(request)
        id_ = integration_id(request)
        await self._operations.replay(request[CALLER], id_, event_id(request))
        return _redirect(f"/integrations/{id_}?done=replay")

    def with_error_pages(self, handler: Handler) -> Handler:
        """Return a handler that calls `handler` and responds with an HTML page if it raises an error.

        Without this, the browser would show the error as JSON.
        """

        async def with_error_page(request: web.Request) -> web.Response:
            try:
                response = await handler(request)
            except UnauthorizedError:
                raise
            except QuotingError as error:
                cause = error.cause or error.message
                request.app[SERVICE].logs.info("page", error=error.id, cause=cause)
                heading = "This did not work"
                return _error_page(error, heading, error.message, "All integrations", request[CALLER])
            response.headers[hdrs.CACHE_CONTROL] = "no-store"
            return response

        return with_error_page

    async def _checked_form(self, request: web.Request) -> dict[str, str]:
        """Return the form's fields. Raises ForbiddenError if the form has no valid token of this user.

        Also raises UnsupportedMediaTypeError, InvalidBodyError, and the errors of `chassis.http.body.read`.
        """
        if not is_of_type(joined(request.headers), FORM):
            raise UnsupportedMediaTypeError("The body must be a form.")
        body = await read(request, MAX_BODY_BYTES)
        try:
            fields = dict(parse_qsl(body.decode("ascii"), max_num_fields=MAX_FORM_FIELDS))
        except ValueError:
            raise InvalidBodyError("The body must be a form.") from None
        if not self._tokens.is_valid(request[CALLER], fields.get("token", "")):
            raise ForbiddenError(
                "This form is out of date or belongs to another user. Go back, load the page again and retry."
            )
        return fields

    def _render(self, request: web.Request, template: str, **values: Any) -> web.Response:  # noqa: ANN401
        user = request[CALLER]
        token = self._tokens.create(user)
        text = _TEMPLATES.get_template(template).render(user=user, token=token, **values)
        return web.Response(text=text, content_type="text/html", charset="utf-8")


def _redirect(path: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: path})


def _file(name: str, type_: str) -> Handler:
    body = (files("integrations.page") / "static" / name).read_bytes()

    async def file(_request: web.Request) -> web.Response:
        return web.Response(
            body=body,
            content_type=type_,
            charset="utf-8",
            headers={hdrs.CACHE_CONTROL: "no-cache"},
        )

    return file
