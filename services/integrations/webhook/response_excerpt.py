"""The part of a webhook's response that the attempt log keeps. Pure: no I/O.

A webhook chooses every byte of it, so its length is limited, and it has only characters that Postgres can store as
JSON. The values of the partner's own headers and of the URL's query are secrets: a webhook may repeat them, and the
log does not keep them.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from yarl import URL

from integrations.webhook.webhook_response import SUCCESS_BELOW, HttpResponse

MAX_BODY_CHARACTERS: Final = 1_024
MAX_HEADERS: Final = 32
MAX_HEADER_CHARACTERS: Final = 1_024
"""Maximum number of characters in all names and values together."""
HIDDEN: Final = "(hidden)"
MIN_SECRET_CHARACTERS: Final = 3
"""Shorter values are not hidden, because they would also occur in ordinary words."""
MIN_QUERY_SECRET_CHARACTERS: Final = 8
"""Shorter values in the query of the webhook's URL are often ordinary words, such as `json`."""

_HIDDEN_HEADERS: Final = frozenset({"set-cookie", "set-cookie2", "authorization", "proxy-authorization"})
_NO_URL: Final = URL()
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]")


def response_excerpt(
    response: HttpResponse, header_values: Iterable[str], url: URL = _NO_URL
) -> dict[str, object] | None:
    """Return the headers and the body of a response for the attempt log; None if there was no status line.

    Also None for the most frequent response, a success without a body: its headers would double the log.
    `header_values` are the values of the partner's headers. They are hidden, and so are the values in the query of the
    webhook's `url`, which a redirect usually repeats. In the result, `body` is None if the body
    was too long or could not be read, and `isCut` says whether headers or body were longer than their limits.
    """
    if response.status is None or (response.status < SUCCESS_BELOW and response.body == b""):
        return None
    secrets = _secrets(header_values, url)
    headers: list[tuple[str, str]] = []
    left = MAX_HEADER_CHARACTERS
    is_cut = len(response.headers) > MAX_HEADERS
    for name, value in response.headers.items():
        if len(headers) == MAX_HEADERS:
            break
        shown = HIDDEN if name.lower() in _HIDDEN_HEADERS else _shown(value, secrets)
        left -= len(name) + len(shown)
        if left < 0:
            is_cut = True
            break
        headers.append((_printable(name), shown))
    body = None
    if response.body is not None:
        body = _shown(response.body.decode("utf-8", "replace"), secrets)
        is_cut = is_cut or len(body) > MAX_BODY_CHARACTERS
        body = body[:MAX_BODY_CHARACTERS]
    return {"headers": headers, "body": body, "isCut": is_cut}


def _secrets(header_values: Iterable[str], url: URL) -> list[str]:
    """Return the texts to hide, the longest first: a part of a value may be a value, too."""
    found = {part for value in header_values for part in _parts(value) if len(part) >= MIN_SECRET_CHARACTERS}
    if url.raw_query_string:
        sent = (pair.partition("=")[2] for pair in url.raw_query_string.split("&"))
        found |= {
            value for value in (*url.query.values(), *sent) if len(value) >= MIN_QUERY_SECRET_CHARACTERS
        }
    return sorted(found, key=len, reverse=True)


def _parts(value: str) -> Iterator[str]:
    yield value
    scheme, _, credentials = value.partition(" ")
    if scheme.lower() in {"basic", "bearer", "digest", "token"}:
        yield credentials


def _shown(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return _printable(text)


def _printable(text: str) -> str:
    return text if text.isascii() and text.isprintable() else _UNPRINTABLE.sub("\ufffd", text)
