"""A hop without storage that keeps every check of the conformance kit. Each method is something that a test can break."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from dfsp_quotes.conformance import Role
from support.messages import KEY, TRACE
from support.model import TIMEOUT_MS, Refused, caller_of, envelope, key_of, object_of, timeout_of

URL: Final = "submissionUrl"
LIFETIME: Final = "X-Quote-Lifetime-Ms"
PASSED_BACK: Final = ("Content-Type", "Retry-After")


@dataclass
class Passing:
    """A request on its way to the next hop."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any] | None
    headers: CIMultiDict[str]
    timeout_ms: int

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a request: those of its body, or of the query of a look-up or a release."""
        return self.query if self.body is None else self.body


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]


class ModelHop:
    """The right hop. `next_url` is the next service, and `directory` the central directory of a proxy."""

    def __init__(self, role: Role, next_url: str, directory: str) -> None:
        self.role = role
        self.next_url = next_url
        self.directory = directory
        self.allowed = (next_url, f"{next_url}/second-dfsp")
        self.session: aiohttp.ClientSession

    def app(self) -> web.Application:
        app = web.Application(middlewares=[envelope])
        for operation in ("quoteSourceAmount", "quoteDestinationAmount"):
            app.router.add_post(f"/v1/{operation}", self.handle)
        app.router.add_put("/v1/payments/{uuid}", self.handle)
        app.router.add_get("/v1/quote/{uuid}", self.handle, allow_head=False)
        app.router.add_delete("/v1/quote/{uuid}", self.handle)
        app.cleanup_ctx.append(self._open)
        return app

    async def _open(self, _app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as self.session:
            yield

    async def handle(self, request: web.Request) -> web.Response:
        caller_of(request)
        headers = CIMultiDict(
            {
                "Authorization": request.headers["Authorization"],
                "Accept": "application/json",
                "Content-Type": "application/json",
                KEY: key_of(request),
                TRACE: request["trace"],
                TIMEOUT_MS: str(timeout_of(request)),
            }
        )
        if LIFETIME in request.headers:
            headers[LIFETIME] = request.headers[LIFETIME]
        body = None if request.method in {"GET", "DELETE"} else object_of(await request.read())
        query = dict(parse_qsl(request.query_string))
        passing = Passing(request.method, request.path, query, body, headers, timeout_of(request))
        reply = await self.passed_on(passing)
        back = {name: reply.headers[name] for name in PASSED_BACK if name in reply.headers}
        return web.Response(status=reply.status, body=reply.body, headers={KEY: headers[KEY], **back})

    async def passed_on(self, passing: Passing) -> Reply:
        base = self.next_url
        if self.role is Role.PAYER:
            self.check(passing)
        if self.role is Role.SPSP_CLIENT_PROXY:
            self.add_submission_url(passing, await self.receiver(passing))
        if self.role is Role.SPSP_CLIENT:
            base = self.take_submission_url(passing)
        return self.judged(await self.sent(base, passing))

    def check(self, passing: Passing) -> None:
        body = passing.body or {}
        wrong = [
            name
            for name, is_wrong in (("amount", "-"), ("currencyCode", "usd"))
            if is_wrong in body.get(name, "")
        ]
        if wrong:
            raise Refused(400, "InvalidBodyError", wrong)

    # spsp-client-proxy

    def directory_query(self, passing: Passing) -> dict[str, str]:
        return {name: passing.fields[name] for name in ("identifierType", "identifier")}

    def directory_headers(self, passing: Passing) -> dict[str, str]:
        return {"Authorization": passing.headers["Authorization"]}

    async def receiver(self, passing: Passing) -> str:
        url = f"{self.directory}/resources?{urlencode(self.directory_query(passing))}"
        async with self.session.get(url, headers=self.directory_headers(passing)) as response:
            status, body = response.status, await response.read()
        if status == 404:
            raise Refused(404, "ReceiverNotFoundError")
        try:
            return self.receiver_in(json.loads(body))
        except (ValueError, KeyError, TypeError):
            raise Refused(502, "UpstreamError") from None

    def receiver_in(self, found: Any) -> str:
        if isinstance(found, list):
            [primary] = [each for each in found if each["primary"]]
            return str(primary["providerUrl"])
        return str(found["spspReceiver"])

    def add_submission_url(self, passing: Passing, receiver: str) -> None:
        passing.fields[URL] = receiver + passing.path

    # spsp-client

    def take_submission_url(self, passing: Passing) -> str:
        url = passing.fields.pop(URL, None)
        if url is None:
            raise Refused(400, "InvalidBodyError", [URL])
        for base in self.allowed:
            if url == base + passing.path:
                return base
        return self.foreign(url, passing)

    def foreign(self, _url: str, _passing: Passing) -> str:
        raise Refused(403, "SubmissionUrlNotAllowedError")

    # all

    async def sent(self, base: str, passing: Passing) -> Reply:
        url = f"{base}{passing.path}" + (f"?{urlencode(passing.query)}" if passing.query else "")
        data = None if passing.body is None else json.dumps(passing.body).encode()
        try:
            async with (
                asyncio.timeout(passing.timeout_ms / 1000),
                self.session.request(
                    passing.method, url, data=data, headers=passing.headers, allow_redirects=False
                ) as response,
            ):
                return Reply(response.status, await response.read(), response.headers)
        except TimeoutError:
            raise Refused(504, "UpstreamTimeoutError") from None
        except aiohttp.ClientError:
            raise Refused(502, "UpstreamError") from None

    def judged(self, reply: Reply) -> Reply:
        """Let only replies pass that are some."""
        try:
            is_object = isinstance(json.loads(reply.body), dict)
        except ValueError:
            is_object = False
        if not is_object or not (reply.status == 200 or 400 <= reply.status < 500):
            raise Refused(502, "UpstreamError")
        return reply
