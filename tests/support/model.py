"""Models of the Quote API in memory, right in every check of the conformance kit; tests break one thing each.

This module has the part that the payee and the hops share: credentials, headers, error objects.
"""

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from dfsp_quotes.conformance import Clock, Credentials
from support.messages import KEY, TRACE

CALLERS: Final = (Credentials("test", "123"), Credentials("other", "456"))
TEST, OTHER = CALLERS
TIMEOUT_MS: Final = "X-Request-Timeout-Ms"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StillClock(Clock):
    """A clock that moves only when something waits for it."""

    def __init__(self) -> None:
        self._now = datetime(2026, 5, 11, 11, 30, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    async def sleep_until(self, when: datetime) -> None:
        self._now = max(when, self._now)


@dataclass
class Refused(Exception):  # noqa: N818 - the model's own errors have the ids of wire.md §4
    status: int
    id: str
    fields: list[str] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = ""


async def turns() -> None:
    """Let everything else in this process go on until it waits: the kit and the model share a loop."""
    for _ in range(200):
        await asyncio.sleep(0)


def caller_of(request: web.Request) -> str:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    for each in CALLERS:
        expected = base64.b64encode(f"{each.name}:{each.password}".encode()).decode()
        if (scheme, encoded) == ("Basic", expected):
            return each.name
    raise Refused(401, "UnauthorizedError", headers={"WWW-Authenticate": 'Basic realm="model"'})


def key_of(request: web.Request) -> str:
    key = request.headers.get(KEY, str(uuid4()))
    if not re.fullmatch(r"[!-~]{1,128}", key):
        raise Refused(400, "InvalidHeaderError")
    return key


def timeout_of(request: web.Request) -> int:
    text = request.headers.get(TIMEOUT_MS, "10000")
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) == 0:
        raise Refused(400, "InvalidHeaderError")
    return int(text)


def object_of(body: bytes) -> dict[str, Any]:
    """The members of a JSON object. Raises Refused for anything else."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key is there twice")
        return dict(pairs)

    try:
        found = json.loads(body.decode(), object_pairs_hook=unique)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "InvalidBodyError")
    return found


@web.middleware
async def envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put the trace id on each response, and answer errors with the error object."""
    trace = request.headers.get(TRACE, str(uuid4()))
    request["trace"] = trace
    try:
        response = await handler(request)
    except Refused as refused:
        response = _error(refused, trace)
    except web.HTTPNotFound:
        response = _error(Refused(404, "NotFoundError"), trace)
    except web.HTTPMethodNotAllowed:
        response = _error(Refused(405, "MethodNotAllowedError"), trace)
    response.headers.setdefault(TRACE, trace)
    return response


def _error(refused: Refused, trace: str) -> web.Response:
    content = {
        "id": refused.id,
        "message": refused.message or refused.id,
        "service": "model",
        "traceId": trace,
    }
    if refused.fields:
        content["validationErrors"] = [
            {"message": "is wrong", "params": {"key": key}} for key in refused.fields
        ]  # type: ignore[assignment]
    return web.json_response(content, status=refused.status, headers=refused.headers)
