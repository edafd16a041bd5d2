"""Requests to services beside the Quote API: the directory, the integrations, health checks."""

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from dfsp_quotes.cli.configuration import Access
from dfsp_quotes.cli.failures import BadInputError, CommandError, NoAnswerError
from dfsp_quotes.cli.output import printable

MAX_BODY_BYTES: Final = 1_048_576
MAX_TEXT_CHARACTERS: Final = 500
MAX_FIELDS: Final = 32


@dataclass(frozen=True)
class Answer:
    """The response to one request."""

    status: int
    content: object
    """The body as JSON; None if it is not JSON."""
    headers: Mapping[str, str] = field(repr=False)
    sent_at: float
    """Unix time."""
    seconds: float
    """Time until the whole response was there."""

    def member(self, name: str) -> object:
        return self.content.get(name) if isinstance(self.content, dict) else None


def base_url(text: str) -> str:
    """Return a base URL without its last slash. Raises BadInputError."""
    try:
        parts = urlsplit(text)
        is_base = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_base = False
    if not is_base or "@" in text or "?" in text or "#" in text or not text.isprintable() or " " in text:
        raise BadInputError("A base URL must be absolute, http or https, without user, query and fragment.")
    return text.rstrip("/")


@asynccontextmanager
async def opened_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that follows no proxy of the environment and keeps no cookies."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as session:
        yield session


async def fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    access: Access | None = None,
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    seconds: float,
) -> Answer:
    """Send one request. Raises NoAnswerError."""
    headers = {} if access is None else {"Authorization": _basic(access)}
    if body is not None:
        headers["Content-Type"] = "application/json"
    sent_at, began = time.time(), time.monotonic()
    try:
        async with (
            asyncio.timeout(seconds),
            session.request(
                method, url, params=query, data=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            content = await _read(response)
            return Answer(
                response.status, _json(content), response.headers, sent_at, time.monotonic() - began
            )
    except TimeoutError:
        raise NoAnswerError(f"{url} did not respond within {seconds:g} s.") from None
    except aiohttp.ClientSSLError:
        raise NoAnswerError(f"The TLS certificate of {url} is not trusted.") from None
    except (aiohttp.ClientError, OSError) as error:
        raise NoAnswerError(f"No response from {url}: {type(error).__name__}.") from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body; nothing of one that is too long."""
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES and (part := await response.content.read(MAX_BODY_BYTES)):
        body += part
    return bytes(body) if len(body) <= MAX_BODY_BYTES else b""


def call(
    method: str,
    path: str,
    *,
    access: Access,
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    seconds: float,
) -> object:
    """Send one request to a service and return the JSON of its success. Raises CommandError."""
    url = base_url(access.url) + path

    async def send() -> Answer:
        async with opened_session() as session:
            return await fetch(
                session, method, url, access=access, query=query, body=body, seconds=checked_seconds(seconds)
            )

    answer = asyncio.run(send())
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return answer.content
    raise _failure(url, answer)


def checked_seconds(seconds: float) -> float:
    """Raises BadInputError for a time limit that cannot be used."""
    if not 0 < seconds <= 3_600:  # noqa: PLR2004 - also false for a number that is none
        raise BadInputError("--timeout must be above 0 and at most 3,600 seconds.")
    return seconds


def _basic(access: Access) -> str:
    return "Basic " + b64encode(f"{access.user}:{access.password}".encode()).decode()


def _json(content: bytes) -> object:
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found


def _failure(url: str, answer: Answer) -> CommandError:
    """Return the failure of a response with the error object (wire.md §4), or with another body."""
    kind: type[CommandError] = CommandError
    if answer.status == HTTPStatus.BAD_REQUEST:
        kind = BadInputError
    elif answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = NoAnswerError
    faults = answer.member("validationErrors")
    fields = dict(map(_fault, faults[:MAX_FIELDS])) if isinstance(faults, list) else {}
    message = "; ".join(f"{name}: {text}" for name, text in fields.items()) or _text(answer, "message")
    details = {
        "id": _text(answer, "id") or None,
        "status": answer.status,
        "service": _text(answer, "service") or None,
        "traceId": _text(answer, "traceId") or None,
        "fields": fields,
    }
    origin = f"status {answer.status} of {url}"
    if details["id"]:
        origin = f"{details['id']}, service {details['service']}, trace id {details['traceId']}"
    return kind(f"{message or 'The request failed.'} ({origin})", details)


def _text(answer: Answer, name: str) -> str:
    value = answer.member(name)
    return printable(value[:MAX_TEXT_CHARACTERS]) if isinstance(value, str) else ""


def _fault(entry: object) -> tuple[str, str]:
    members = entry if isinstance(entry, dict) else {}
    parameters = members.get("params")
    key = parameters.get("key") if isinstance(parameters, dict) else None
    return str(key)[:64], str(members.get("message"))[:MAX_TEXT_CHARACTERS]
