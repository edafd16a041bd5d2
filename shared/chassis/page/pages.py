"""Pages for people: HTML that a service makes from templates, for users who sign in with HTTP Basic.

A page works without scripts: each action is a form, and the response to it is a redirect. The script `live.js` only
fetches the page again and replaces the parts that have changed.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from chassis.app import EXCHANGE, SERVICE
from chassis.auth import CALLER, without_credentials
from chassis.content import MAX_BODY_BYTES, is_of_type
from chassis.errors import (
    ForbiddenError,
    InvalidBodyError,
    QuotingError,
    TooManyRequestsError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from chassis.http.body import read
from chassis.http.request import joined
from chassis.page.form_tokens import FormTokens
from chassis.service import challenge

FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM_FIELDS: Final = 8
API_PREFIXES: Final = ("/v1/", "/api/", "/health/", "/metrics", "/openapi.json", "/docs")
"""Every other path counts as a page's, so that its errors have the security headers, too."""

# with `no-referrer` browsers would send forms with `Origin: null`, which counts as another site's
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}
_SHARED: Final = files("chassis.page") / "static"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class PageOptions:
    """Options by which the pages of one service differ from those of another.

    `package` has the folders `templates` (with `base.html`, which extends `page.html`) and `static`; each file of
    `static` is served at `/<name>`. `home` is the text of the link to `/` on an error page, and `sign_in` explains with
    what to sign in.
    """

    package: str
    home: str
    sign_in: str
    image_sources: str = "'self' data:"
    context: Callable[[web.Request], Mapping[str, Any]] = lambda _request: {}
    """Returns further values for the templates; it is called for signed-in users only."""


class Pages:
    """Renders a service's templates, answers errors as pages, and reads forms."""

    def __init__(self, options: PageOptions, tokens: FormTokens) -> None:
        self._options = options
        self._tokens = tokens
        self.templates: Final = Environment(
            loader=ChoiceLoader([PackageLoader(options.package), PackageLoader("chassis.page")]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._headers = {
            "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
            f" img-src {options.image_sources}; connect-src 'self'; form-action 'self';"
            " frame-ancestors 'none'; base-uri 'none'",
            **HEADERS,
        }

    @property
    def middleware(self) -> Middleware:
        """Middleware that adds security headers to each response of a page.

        If the credentials are rejected, it responds with a page.
        """

        @web.middleware
        async def page_responses(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith(API_PREFIXES):
                return await handler(request)
            request[EXCHANGE].reply_headers.update(self._headers)
            try:
                return await handler(request)
            except (UnauthorizedError, TooManyRequestsError) as error:
                return self._sign_in_page(request, error)

        return page_responses

    def files(self) -> list[web.RouteDef]:
        """Return the routes of the scripts and styles: those that all pages share, and the service's own."""
        own = files(self._options.package) / "static"
        found = [*_SHARED.iterdir(), *own.iterdir()]
        return [web.get(f"/{file.name}", without_credentials(_file(file))) for file in found]

    def render(self, request: web.Request, template: str, values: Mapping[str, Any]) -> web.Response:
        """Return a page. Besides `values`, the template has `user` and `token`, which its forms must send."""
        user = request[CALLER]
        given = {"user": user, "token": self._tokens.create(user), **self._options.context(request), **values}
        return _page(self.templates.get_template(template).render(given), 200)

    async def checked_form(self, request: web.Request) -> dict[str, str]:
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

    def with_error_pages(self, handler: Handler) -> Handler:
        """Return a handler that calls `handler` and responds with an HTML page if it raises an error.

        Without this, the browser would show the error as JSON.
        """

        async def with_error_page(request: web.Request) -> web.StreamResponse:
            try:
                response = await handler(request)
            except UnauthorizedError:
                raise
            except QuotingError as error:
                return self._error_page(
                    request, error, "This did not work", error.message, self._options.home, request[CALLER]
                )
            response.headers[hdrs.CACHE_CONTROL] = "no-store"
            return response

        return with_error_page

    def _sign_in_page(
        self, request: web.Request, error: UnauthorizedError | TooManyRequestsError
    ) -> web.Response:
        if isinstance(error, TooManyRequestsError):
            message = f"{error.message} Wait a minute, then load the page again."
            return self._error_page(request, error, "Too many wrong passwords", message, "Sign in")
        response = self._error_page(request, error, "Please sign in", self._options.sign_in, "Sign in")
        response.headers[hdrs.WWW_AUTHENTICATE] = challenge(request.app[SERVICE].name)
        return response

    def _error_page(
        self,
        request: web.Request,
        error: QuotingError,
        heading: str,
        message: str,
        link: str,
        user: str | None = None,
    ) -> web.Response:
        request.app[SERVICE].logs.info("page", error=error.id, cause=error.cause or error.message)
        context = {} if user is None else self._options.context(request)
        values = {"user": user, "heading": heading, "message": message, "link": link, **context}
        response = _page(self.templates.get_template("error.html").render(values), error.status)
        response.headers.update(error.headers)
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        return response


async def sign_out(_request: web.Request) -> web.StreamResponse:
    """Reject the request's credentials, so that the browser forgets them."""
    raise UnauthorizedError(cause="signed out")


def redirect(path: str) -> web.Response:
    """Return the response to a form: the browser gets the page at `path` next."""
    return web.Response(status=303, headers={hdrs.LOCATION: path})


def with_error_pages(pages: Pages, routes: Sequence[web.RouteDef]) -> list[web.RouteDef]:
    """Return the routes with handlers that respond with an HTML page if they raise an error."""
    return [web.route(each.method, each.path, pages.with_error_pages(each.handler)) for each in routes]


def _page(text: str, status: int) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html", charset="utf-8")


def _file(file: Traversable) -> Handler:
    body = file.read_bytes()
    type_ = _TYPES[file.name[file.name.rindex(".") :]]

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(
            body=body, content_type=type_, charset="utf-8", headers={hdrs.CACHE_CONTROL: "no-cache"}
        )

    return serve
