"""The simplest honest chain: Quote API §I to §IV and nothing more, in plain aiohttp."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import aiohttp
from aiohttp import web

FEE, CENT = Decimal("1.1"), Decimal("0.01")


def plain_hop(to: str = "", directory: str = "") -> web.Application:
    """A proxy if it has a directory, spsp-client if it has no next hop, else one of the others."""

    async def forward(request: web.Request) -> web.Response:
        content = json.loads(await request.read() or b"{}") or dict(request.query)
        headers = {"Authorization": request.headers["Authorization"], "Content-Type": "application/json"}
        async with aiohttp.ClientSession(headers=headers) as session:
            if directory:
                receiver = {name: content[name] for name in ("identifierType", "identifier")}
                async with session.get(f"{directory}/resources", params=receiver) as found:
                    if found.status != 200:
                        return web.Response(status=found.status)
                    content["submissionUrl"] = (await found.json())["spspReceiver"] + request.path
            url = to + request.path if to else content.pop("submissionUrl")
            sent = {"params": content} if request.method == "GET" else {"data": json.dumps(content)}
            async with session.request(request.method, url, **sent) as reply:  # type: ignore[arg-type]
                return web.Response(
                    status=reply.status, body=await reply.read(), content_type=reply.content_type
                )

    app = web.Application()
    app.router.add_route("*", "/v1/{rest:.*}", forward)
    return app


def plain_payee(now: Callable[[], datetime]) -> web.Application:
    quotes: dict[str, tuple[dict[str, str], dict[str, str], datetime]] = {}

    async def reserve(request: web.Request) -> web.Response:
        content = json.loads(await request.read())
        amount, expires = Decimal(content["amount"]), now() + timedelta(minutes=5)
        amount = amount * FEE if request.path.endswith("SourceAmount") else amount / FEE
        at = expires.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        reply = {"amount": str(amount.quantize(CENT)), "expires": at, "uuid": str(uuid4())}
        quotes[reply["uuid"]] = content, reply, expires
        return web.json_response(reply)

    async def execute(request: web.Request) -> web.Response:
        content, reply, expires = quotes.get(request.match_info["uuid"], ({}, {}, now()))
        is_right = content == json.loads(await request.read()) and now() < expires
        return web.json_response(reply, status=200 if is_right else 409)

    async def look_up(request: web.Request) -> web.Response:
        found = quotes.get(request.match_info["uuid"])
        return web.json_response(found[1]) if found else web.Response(status=404)

    app = web.Application()
    app.router.add_post("/v1/{operation:quote(?:Source|Destination)Amount}", reserve)
    app.router.add_put("/v1/payments/{uuid}", execute)
    app.router.add_get("/v1/quote/{uuid}", look_up)
    return app
