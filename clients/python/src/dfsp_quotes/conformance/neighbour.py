"""The neighbours of one hop, played by the kit: a server that keeps requests and answers as a check says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from dfsp_quotes.conformance.options import Address
from dfsp_quotes.conformance.result import NotRunError
from dfsp_quotes.conformance.wire import MAX_BODY, Request, Response, encode, read_body

MAX_KEPT: Final = 1_000
"""Limit for the requests that a neighbour keeps for one check."""

Answer = Callable[[Request], Awaitable[Response]]


def response(status: int, content: dict[str, object] | list[object] | bytes, **headers: str) -> Response:
    """Return a response with this content: as JSON, unless it is bytes. Keywords are headers with _ for -."""
    body = content if isinstance(content, bytes) else encode({"": content})[5:-1]
    made = CIMultiDict({hdrs.CONTENT_TYPE: "application/json"})
    made.update({name.replace("_", "-"): value for name, value in headers.items()})
    return Response(made, body, status)


def always(answer: Response) -> Answer:
    """Return a function that gives every request the same answer."""

    async def give(_request: Request) -> Response:
        return answer

    return give


QUOTE_UUID: Final = "110ec58a-a0f2-4ac4-8393-c866d813b8d1"


def quote_reply(uuid: str = QUOTE_UUID, amount: str = "13.75") -> Response:
    """Return the response to a reservation, as in Quote API §I."""
    expires = (datetime.now(UTC) + timedelta(minutes=5)).isoformat(timespec="milliseconds")
    return response(200, {"amount": amount, "expires": expires.replace("+00:00", "Z"), "uuid": uuid})


class Neighbour:
    """A server at which the implementation under test sends its requests."""

    def __init__(self, name: str, answer: Answer) -> None:
        self.name = name
        self.url = ""
        self.default = answer
        self.answer = answer
        self.received: list[Request] = []
        self.on_exchange: Callable[[Neighbour, Request, Response | None], None] = lambda *_: None

    def reset(self) -> None:
        """Forget the requests of the check before, and answer as at the start."""
        self.answer = self.default
        self.received.clear()

    async def handle(self, request: web.Request) -> web.Response:
        # the check that the request belongs to may have ended when the response is given
        on_exchange = self.on_exchange
        body = await read_body(request.content)
        kept = Request(CIMultiDict(request.headers), body, request.method, request.raw_path)
        if len(self.received) < MAX_KEPT:
            self.received.append(kept)
        try:
            answer = await self.answer(kept)
        except asyncio.CancelledError:
            on_exchange(self, kept, None)
            raise
        on_exchange(self, kept, answer)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


@asynccontextmanager
async def listening(
    neighbour: Neighbour, address: Address, url: str | None = None
) -> AsyncIterator[Neighbour]:
    """Let a neighbour listen. Raises NotRunError if the address is not free."""
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_route("*", "/{any:.*}", neighbour.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            where = f"{address.host}:{address.port}"
            raise NotRunError(
                f"The kit cannot listen on {where} as {neighbour.name}: {error.strerror}."
            ) from error
        host = f"[{address.host}]" if ":" in address.host else address.host
        neighbour.url = url or f"http://{host}:{runner.addresses[0][1]}"
        yield neighbour
    finally:
        await runner.cleanup()
