"""Other people's pages: what a browser sends for them changes nothing here (design, "Browsers").

A browser adds the credentials it remembers to whatever any page sends to us, and says on whose behalf it sends.
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
    """Refuses unsafe methods with a foreign ``Origin``, or a ``Sec-Fetch-Site`` other than our own."""
    refuse_foreign(request.method, request.headers)
    return await handler(request)


def refuse_foreign(method: str, headers: Headers) -> None:
    """Raises ForbiddenError where a browser says that it sends this for another site's page."""
    if method in SAFE or (SITE_HEADER not in headers and hdrs.ORIGIN not in headers):
        return
    host = headers.get(hdrs.HOST)
    sites, origins = headers.getall(SITE_HEADER, ()), headers.getall(hdrs.ORIGIN, ())
    if any(site not in OWN for site in sites) or any(_host(origin) != host for origin in origins):
        raise ForbiddenError("A browser may call this from this service's own pages alone.")


def _host(origin: str) -> str | None:
    """Host and port; None for ``null`` and what is no origin. The scheme may have ended at a proxy."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
