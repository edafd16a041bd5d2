"""The kit ends with a report, whatever an implementation sends."""

import asyncio
import contextlib
import json

import pytest
from aiohttp import web

from dfsp_quotes.conformance import Options, Part, Role, html, junit, neighbours, run, text
from dfsp_quotes.conformance.options import HOPS
from dfsp_quotes.conformance.result import NotRunError
from dfsp_quotes.conformance.wire import MAX_BODY
from support.model import TEST, StillClock
from support.model_hop import ModelHop
from support.model_payee import LONG, ModelPayee
from support.serving import listening

VALUES = {
    "null": None,
    "a number": 13.75,
    "a huge number": 10**400,
    "a list": [[]],
    "an object": {"": {}},
    "an empty string": "",
    "a surrogate": "\ud800",
    "control characters": "\x00\r\n\x1b[2J",
    "Arabic digits": "\u0661\u0662.\u0665\u0660",
    "a long string": "9" * 10_000,
    "a time that does not exist": "2026-02-31T25:00:00.000Z",
    "an amount with many digits": "0." + "1" * 17,
    "the first year": "0001-01-01T00:00:00.000Z",
    "the last year": "9999-12-31T23:59:59.999Z",
}


def serving(app: web.Application):
    return listening(web.AppRunner(app, access_log=None, shutdown_timeout=0.1))


def written(report) -> str:
    return text(report) + html(report) + junit(report).decode()


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_any_value_in_any_field_is_a_failed_check(value):
    class AllFields(ModelPayee):
        def reservation_reply(self, quote):
            return self.spoiled(super().reservation_reply(quote), {"uuid"})

        def payment(self, quote):
            return json.dumps(self.spoiled(json.loads(super().payment(quote)), set())).encode()

        def look_up_reply(self, quote):
            return self.spoiled(super().look_up_reply(quote), set())

        def spoiled(self, reply, kept):
            return {name: found if name in kept else value for name, found in reply.items()}

    payee = AllFields(StillClock())
    async with serving(payee.app()) as url:
        report = await run(Options(url, TEST, Role.PAYEE, max_wait=LONG), clock=payee.clock)

    assert report.failed
    assert written(report)


@pytest.mark.parametrize("role", [Role.PAYEE, Role.SPSP_CLIENT, Role.SPSP_CLIENT_PROXY])
@pytest.mark.parametrize(
    "body", [b"", b"null", b"[1]", b"\xff\xfe", b"[" * 50_000, b'{"id": [], "validationErrors": {}}']
)
@pytest.mark.parametrize("status", [200, 404, 500])
async def test_any_body_for_every_request_is_a_failed_check(role, body, status):
    async def answer(_request):
        return web.Response(status=status, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    async with serving(app) as url:
        report = await run(Options(url, TEST, role))

    assert report.failed
    assert written(report)


async def test_connections_that_close_without_a_response_are_failed_checks():
    async def close(_reader, writer):
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(NotRunError, match="cannot be reached"):
            await run(Options(url, TEST, Role.PAYEE))


async def test_a_body_without_an_end_is_read_up_to_a_limit():
    async def endless(request):
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * MAX_BODY)
        return response

    app = web.Application()
    app.router.add_route("*", "/v1/{any:.*}", endless)
    async with serving(app) as url:
        report = await run(Options(url, TEST, Role.PAYEE, frozenset({Part.SOURCE})))

    assert "reserve.reply" in report.failed


@pytest.mark.parametrize("role", sorted(HOPS))
async def test_a_hop_may_send_the_kit_anything(role):
    """The body of each request to the next hop is long garbage, in parts."""

    class Garbage(ModelHop):
        async def sent(self, base, passing):
            passing.headers["L1p-Trace-Id"] = "é" * 500
            async with self.session.request(
                "TRACE", f"{base}/{'x' * 3_000}", data=parts(), headers=passing.headers
            ) as response:
                await response.read()
            return await super().sent(base, passing)

    async def parts():
        for _ in range(20):
            yield b"\xff" * 20_000

    async with neighbours(Options("", TEST, role)) as played:
        app = Garbage(role, played.next_hop.url, played.directory.url if played.directory else "").app()
        async with serving(app) as url:
            report = await run(Options(url, TEST, role), played=played)

    assert {"hop.request", "hop.reply"} & report.failed
    assert written(report)
