"""Protection against requests that pages of other sites forge in a user's name (CSRF).

A browser adds the credentials that it remembers to a request from any page. It also names the page's site in headers,
which this module checks.
"""

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from chassis.errors import ForbiddenError
from chassis.http.request import Headers, joined

SAFE: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
OWN: Final = frozenset({"same-origin", "none"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@web.middleware
async def own_pages_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Middleware that calls `refuse_foreign` for each request."""
    refuse_foreign(request.method, joined(request.headers))
    return await handler(request)


def refuse_foreign(method: str, headers: Headers) -> None:
    """Raise ForbiddenError if a page of another site makes a browser send a request with an unsafe method.

    Unsafe are all methods but GET, HEAD and OPTIONS. If there is a ``Sec-Fetch-Site`` header, it decides: pages cannot
    set it, and a proxy that rewrites ``Host`` does not change it. Older browsers send only ``Origin``. Its host and
    port must then be the same as in ``Host``.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if method in SAFE or (site is None and origin is None):
        return
    is_own = site in OWN if site is not None else _is_same_host(origin or "", headers.get("host", ""))
    if not is_own:
        raise ForbiddenError("A browser may send this request only from a page of this service.")


def _is_same_host(origin: str, host: str) -> bool:
    """Whether ``origin`` and ``host`` have the same host and port. TLS may end at a proxy, so schemes may differ."""
    try:
        page, service = urlsplit(origin), urlsplit(f"//{host}")
        page_port, service_port = page.port, service.port
    except ValueError:
        return False
    default = DEFAULT_PORTS.get(page.scheme)
    is_same_port = (page_port or default) == (service_port or default)
    return page.hostname is not None and page.hostname == service.hostname and is_same_port
