"""``/docs``: the service's OpenAPI document as a page, by Swagger UI.

All files come from this service. The policy allows no other host and no inline script.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web
from swagger_ui_bundle import swagger_ui_path

PATH: Final = "/docs"
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_VENDOR: Final = Path(str(swagger_ui_path))
_OWN: Final = Path(__file__).with_name("docs_static")
FILES: Final[Mapping[str, tuple[Path, str]]] = {
    "swagger-ui-bundle.js": (_VENDOR, "text/javascript"),
    "swagger-ui.css": (_VENDOR, "text/css"),
    "page.js": (_OWN, "text/javascript"),
    "page.css": (_OWN, "text/css"),
}

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="stylesheet" href="docs/page.css">
</head>
<body>
<main id="api"><p class="loading">The page needs JavaScript. <a href="openapi.json">openapi.json</a> has the same
content.</p></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/page.js"></script>
</body>
</html>
"""


async def page(service: str) -> web.Response:
    """Return the page of the service of this name."""
    text = _PAGE.format(title=escape(f"{service}: API"))
    return web.Response(text=text, content_type="text/html", headers=HEADERS)


async def file(name: str) -> web.FileResponse:
    """Return a file of the page. Raises HTTPNotFound."""
    if name not in FILES:
        raise web.HTTPNotFound
    folder, content_type = FILES[name]
    headers = {**HEADERS, hdrs.CONTENT_TYPE: f"{content_type}; charset=utf-8", hdrs.CACHE_CONTROL: "no-cache"}
    return web.FileResponse(folder / name, headers=headers)
