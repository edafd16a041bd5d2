"""Operations for operators answer only the users in QUOTES_OPERATORS (wire.md §9)."""

import pytest
from aiohttp import encode_basic_auth, web

from chassis.app import SERVICE, add_routes, create_app
from chassis.auth import CALLER
from chassis.exchange import CoroutineRoute, Exchange, Routes
from chassis.http.response import Response
from chassis.settings import Settings
from support.serving import served
from support.settings import load

PATHS = ("/route", "/handler")


def application(users_file, operators: str) -> web.Application:
    """Return an application with an operation for operators as a `Route`, and the same as an aiohttp handler."""
    settings = load(
        Settings,
        {"QUOTES_PORT": "0", "QUOTES_USERS_FILE": str(users_file), "QUOTES_OPERATORS": operators},
    )
    app = create_app("example", settings, openapi={})

    async def operation(exchange: Exchange) -> Response:
        exchange.service.require_operator(exchange.caller)
        return Response(200, b"{}")

    async def handler(request: web.Request) -> web.Response:
        request.app[SERVICE].require_operator(request[CALLER])
        return web.json_response({})

    routes = Routes()
    routes.add("GET", CoroutineRoute("/route", operation))
    add_routes(app, routes)
    app.router.add_get("/handler", handler)
    return app


@pytest.mark.parametrize(
    ("operators", "statuses"),
    [
        ("", {"test:123": 403, "User@Example.com:sample": 403, "test:wrong": 401}),
        ("test, user@example.com", {"test:123": 200, "User@Example.com:sample": 200, "other:456": 403}),
        ("USER@example.com", {"user@example.com:sample": 200, "test:123": 403}),
        ("Test,tes,test2", {"test:123": 403}),
    ],
)
async def test_only_the_named_users_are_operators(client, users_file, operators, statuses):
    async with served(application(users_file, operators)) as url:
        for credentials, status in statuses.items():
            name, _, password = credentials.partition(":")
            headers = {"Authorization": encode_basic_auth(name, password)}
            for path in PATHS:
                async with client.get(url + path, headers=headers) as answer:
                    body = await answer.json()

                assert status == answer.status, (credentials, path)
                if status == 403:
                    assert "ForbiddenError" == body["id"]
                    assert "QUOTES_OPERATORS" in body["message"]
