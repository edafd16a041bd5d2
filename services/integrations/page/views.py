"""The user's page: the operations of the JSON API in a browser, with and without scripts (design, Provider).

Each action is a form whose answer is a redirect. The script only fetches the page again and replaces what has changed.
"""

import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from aiohttp import hdrs, web
from jinja2 import Environment, PackageLoader, StrictUndefined

from chassis.app import EXCHANGE, SERVICE, accept_any_expectation
from chassis.auth import CALLER
from chassis.content import MAX_BODY_BYTES, is_of_type, read
from chassis.errors import Fault, ForbiddenError, InvalidBodyError, QuotingError, UnsupportedMediaTypeError
from integrations.api.parameters import (
    EVENT_STATES,
    delivery_query,
    event_id,
    integration_id,
    query_of,
    strategy_id,
)
from integrations.notifications import NotificationFeed
from integrations.operations import LIVE_STATES, Operations
from integrations.page.form_tokens import FormTokens

REVISION: Final = re.compile(r"[0-9]{1,9}\Z")
FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM_FIELDS: Final = 4
SHOWN_NOTIFICATIONS: Final = 50
SHOWN_DELIVERIES: Final = 50
DONE: Final = {
    "approve": "Approved.",
    "reject": "Rejected.",
    "resume": "Resumed. Strategies stay disabled until you enable them.",
    "delete": "Deleted.",
    "enable": "Enabled.",
    "disable": "Disabled.",
    "replay": "It is being sent again.",
}

# with `no-referrer` browsers post forms with `Origin: null`, which is refused as anybody's
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src https: data: 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# what is not the page's; everything else may be looked at by its browser, paths that are not there too
API: Final = ("/v1/", "/api/")
STATIC: Final = {"page.css": "text/css", "page.js": "text/javascript"}

Handler = Callable[[web.Request], Awaitable[web.Response]]


@web.middleware
async def security_headers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Add security headers to each answer of the page, also to one that refuses credentials."""
    if not request.path.startswith(API):
        request[EXCHANGE].reply_headers.update(HEADERS)
    return await handler(request)


def routes(operations: Operations, notifications: NotificationFeed, tokens: FormTokens) -> list[web.RouteDef]:
    """The page's routes: its views, its forms, and the two files it needs."""
    page = Page(operations, notifications, tokens)
    one = "/integrations/{id}"
    views = [("GET", "/", page.home), ("GET", one, page.log)]
    forms = [
        ("POST", f"{one}/{{word:approve|reject|resume|delete}}", page.change),
        ("POST", f"{one}/secret", page.rotate_secret),
        ("POST", f"{one}/strategies/{{strategyId}}/{{word:enable|disable}}", page.switch),
        ("POST", f"{one}/deliveries/{{eventId}}/{{word:replay}}", page.replay),
    ]
    return [
        web.route(method, path, page.shown(handler), expect_handler=accept_any_expectation)
        for method, path, handler in [*views, *forms]
    ] + [
        web.get(f"/{name}", _file(name, type_), expect_handler=accept_any_expectation)
        for name, type_ in STATIC.items()
    ]


class Page:
    """What a user sees and posts."""

    def __init__(self, operations: Operations, notifications: NotificationFeed, tokens: FormTokens) -> None:
        self._operations = operations
        self._notifications = notifications
        self._tokens = tokens
        self._templates = Environment(
            loader=PackageLoader("integrations.page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    async def home(self, request: web.Request) -> web.Response:
        query = query_of(request, "done")
        user = request[CALLER]
        found = await self._operations.integrations(user)
        return self._render(
            request,
            "home.html",
            done=DONE.get(query.get("done", "")),
            pending=[each for each in found if each["status"] == "PENDING"],
            live=[each for each in found if each["status"] in LIVE_STATES],
            ended=[each for each in found if each["status"] not in {"PENDING", *LIVE_STATES}],
            strategies=await self._operations.strategies(user),
            notifications=await self._notifications.latest(user, None, SHOWN_NOTIFICATIONS),
        )

    async def log(self, request: web.Request) -> web.Response:
        """The attempt log of one integration; an empty `state` is any."""
        query = query_of(request, "state", "before", "done")
        done = DONE.get(query.pop("done", ""))
        given = {name: value for name, value in query.items() if value}
        user, id_ = request[CALLER], integration_id(request)
        integration = await self._operations.integration(user, id_)
        deliveries = await self._operations.deliveries(user, id_, delivery_query(given))
        return self._render(
            request,
            "log.html",
            done=done,
            integration=integration,
            deliveries=deliveries,
            state=given.get("state", ""),
            states=EVENT_STATES,
            is_full=len(deliveries) == SHOWN_DELIVERIES,
            revision=await self._operations.revision(user, id_),
            has_secret=integration["status"] in LIVE_STATES,
        )

    async def change(self, request: web.Request) -> web.Response:
        await self._checked_form(request)
        word = request.match_info["word"]
        act: dict[str, Callable[[str, UUID], Awaitable[None]]] = {
            "approve": self._operations.approve,
            "reject": self._operations.reject,
            "resume": self._operations.resume,
            "delete": self._operations.delete,
        }
        await act[word](request[CALLER], integration_id(request))
        return _see(f"/?done={word}")

    async def rotate_secret(self, request: web.Request) -> web.Response:
        """The answer itself shows the secret, as nothing keeps it: posted anew, by a reload, it changes nothing."""
        fields = await self._checked_form(request)
        revision = fields.get("revision", "")
        if not REVISION.match(revision):
            raise InvalidBodyError(faults=[Fault("revision", "must be that of the page", revision)])
        user, id_ = request[CALLER], integration_id(request)
        integration = await self._operations.integration(user, id_)
        secret = await self._operations.rotate_secret(user, id_, int(revision))
        return self._render(request, "secret.html", integration=integration, secret=secret)

    async def switch(self, request: web.Request) -> web.Response:
        await self._checked_form(request)
        word = request.match_info["word"]
        act = self._operations.enable if word == "enable" else self._operations.disable
        await act(request[CALLER], integration_id(request), strategy_id(request))
        return _see(f"/?done={word}")

    async def replay(self, request: web.Request) -> web.Response:
        await self._checked_form(request)
        id_ = integration_id(request)
        await self._operations.replay(request[CALLER], id_, event_id(request))
        return _see(f"/integrations/{id_}?done=replay")

    def shown(self, handler: Handler) -> Handler:
        """Errors as pages: who posted a form has no use for an error object."""

        async def shown_(request: web.Request) -> web.Response:
            try:
                response = await handler(request)
            except QuotingError as error:
                response = self._error(request, error)
            response.headers[hdrs.CACHE_CONTROL] = "no-store"
            return response

        return shown_

    async def _checked_form(self, request: web.Request) -> dict[str, str]:
        """The form's fields. Raises ForbiddenError where this user's token is not in it; else as `read` does."""
        if not is_of_type(request.headers, FORM):
            raise UnsupportedMediaTypeError("The body must be a form.")
        body = await read(request, MAX_BODY_BYTES)
        try:
            fields = dict(parse_qsl(body.decode("ascii"), max_num_fields=MAX_FORM_FIELDS))
        except ValueError:
            raise InvalidBodyError("The body must be a form.") from None
        if not self._tokens.is_valid(request[CALLER], fields.get("token", "")):
            raise ForbiddenError(
                "This form is too old, or not yours. Go back, load the page anew and try again."
            )
        return fields

    def _error(self, request: web.Request, error: QuotingError) -> web.Response:
        request.app[SERVICE].logs.info("page", error=error.id, cause=error.cause or error.message)
        response = self._render(request, "error.html", message=error.message)
        response.set_status(error.status)
        response.headers.update(error.headers)
        return response

    def _render(self, request: web.Request, template: str, **values: Any) -> web.Response:  # noqa: ANN401
        user = request[CALLER]
        text = self._templates.get_template(template).render(
            user=user, token=self._tokens.create(user), **values
        )
        return web.Response(text=text, content_type="text/html", charset="utf-8")


def _see(path: str) -> web.Response:
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
