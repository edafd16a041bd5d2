"""The bare chain, to compare this project's chain with: five services that forward bodies, and one that stores them.

    python -m benchmarks.bare forward PORT ORIGIN
    python -m benchmarks.bare insert PORT DSN

It is the simplest chain that can be compared fairly. It has no credentials, validation, directory, deadlines, logs or
metrics, and aiohttp is set up for speed.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from uuid import uuid4

import aiohttp
import asyncpg
import uvloop
from aiohttp import web

HOST: Final = "127.0.0.1"
TABLE: Final = "bare_quote"
CREATE: Final = f"CREATE TABLE {TABLE} (uuid uuid PRIMARY KEY, request text NOT NULL)"
INSERT: Final = f"INSERT INTO {TABLE} (uuid, request) VALUES ($1, $2)"
CONNECTIONS: Final = 16
# 512 callers connect at once; the services of the mesh have the same backlog
BACKLOG: Final = 1_024

SESSION: Final = web.AppKey("session", aiohttp.ClientSession)
POOL: Final[web.AppKey["asyncpg.Pool[asyncpg.Record]"]] = web.AppKey("pool")
JSON: Final = {"Content-Type": "application/json"}


def forwarder(origin: str) -> web.Application:
    """Return an application that forwards each request body to ``origin`` and each response body to the client."""

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as app[SESSION]:
            yield

    async def forward(request: web.Request) -> web.Response:
        body = await request.read()
        async with request.app[SESSION].post(origin + request.path, data=body, headers=JSON) as reply:
            return web.Response(status=reply.status, body=await reply.read(), headers=JSON)

    return _app(forward, session)


def inserter(dsn: str) -> web.Application:
    """Return an application that inserts each request body into a table and answers when the row is committed."""

    async def pool(app: web.Application) -> AsyncIterator[None]:
        # connections are not reset, which saves a round trip; the payee of the mesh does the same
        async with asyncpg.create_pool(
            dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, reset=_nothing_to_reset
        ) as app[POOL]:
            yield

    async def insert(request: web.Request) -> web.Response:
        uuid, body = uuid4(), (await request.read()).decode()
        await request.app[POOL].execute(INSERT, uuid, body)
        return web.Response(
            text=f'{{"amount":"13.75","expires":"2017-05-11T11:30:03.561Z","uuid":"{uuid}"}}', headers=JSON
        )

    return _app(insert, pool)


async def _nothing_to_reset(_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    pass


def _app(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    context: Callable[[web.Application], AsyncIterator[None]],
) -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(context)
    app.router.add_post("/v1/quoteSourceAmount", handler)
    return app


def main(kind: str, port: str, target: str) -> None:
    app = {"forward": forwarder, "insert": inserter}[kind](target)
    loop = uvloop.new_event_loop()
    web.run_app(app, host=HOST, port=int(port), access_log=None, backlog=BACKLOG, loop=loop, print=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
