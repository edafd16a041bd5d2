"""Protection against forged requests from other sites' pages.

A browser adds remembered credentials to requests from any page, and names the page's site in headers.
"""

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from chassis.errors import ForbiddenError
from chassis.messages import Headers

SAFE: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
OWN: Final = frozenset({"same-origin", "none"})
SITE_HEADER: Final = "Sec-Fetch-Site"


@web.middleware
async def own_pages_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Middleware that calls `refuse_foreign` for each request."""
    refuse_foreign(request.method, request.headers)
    return await handler(request)


def refuse_foreign(method: str, headers: Headers) -> None:
    """Raise ForbiddenError if a browser sends an unsafe method for a page of another site."""
    if method in SAFE or (SITE_HEADER not in headers and hdrs.ORIGIN not in headers):
        return
    host = headers.get(hdrs.HOST)
    sites, origins = headers.getall(SITE_HEADER, ()), headers.getall(hdrs.ORIGIN, ())
    if any(site not in OWN for site in sites) or any(_host(origin) != host for origin in origins):
        raise ForbiddenError("A browser may send this request only from a page of this service.")


def _host(origin: str) -> str | None:
    """Return host and port, or None for ``null``. The scheme is not compared: a proxy may have ended TLS."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
