"""Every page of the console: sign in, roles, navigation, security headers."""

import pytest

from chassis.app import SERVICE
from console import live_stream
from support.console import OPERATOR, VIEWER, basic

NO_DATABASE = "postgresql://postgres@127.0.0.1:1/none"


async def test_a_page_names_the_user_and_the_role(start):
    console = await start()
    pages = {user: (await console.get("/", user)).body.decode() for user in (OPERATOR, VIEWER)}

    assert "operator (operator)" in pages[OPERATOR]
    assert "viewer (viewer)" in pages[VIEWER]


async def test_without_credentials_the_browser_asks_for_them(start):
    console = await start()
    got = await console.get("/", None)

    assert (401, "text/html; charset=utf-8") == (got.status, got.headers["Content-Type"])
    assert got.headers["WWW-Authenticate"].startswith("Basic ")
    assert "Please sign in" in got.body.decode()


async def test_after_sign_out_the_browser_forgets_the_credentials(start):
    console = await start()

    assert 401 == (await console.get("/sign-out")).status


async def test_the_navigation_leads_to_every_view_and_marks_the_present_one(start):
    console = await start()
    views = console.console.pages.templates.globals["views"]
    for view in views:
        page = (await console.get(view.path)).body.decode()

        assert f'<a href="{view.path}" aria-current="page">{view.title}</a>' in page
        assert all(f'<a href="{each.path}"' in page for each in views)


@pytest.mark.parametrize("path", ["/", "/live.js", "/console.css", "/nothing", "/sign-out"])
async def test_every_response_has_security_headers(start, path):
    console = await start()
    headers = (await console.get(path)).headers

    assert (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ) == headers["Content-Security-Policy"]
    assert ("nosniff", "same-origin") == (headers["X-Content-Type-Options"], headers["Referrer-Policy"])


async def test_the_pages_are_there_while_the_consoles_own_database_is_away(start):
    console = await start(database_url=NO_DATABASE)

    assert 200 == (await console.get("/")).status


async def test_the_live_stream_sends_an_event_after_each_look(start):
    console = await start()
    headers = {"Authorization": basic(OPERATOR)}
    async with console.client.get(console.url + "/live", headers=headers) as response:
        first = await response.content.readuntil(b"\n\n")

    assert b"data: new figures\n\n" == first
    assert ("text/event-stream", "no", "no-store") == tuple(
        response.headers[name] for name in ("Content-Type", "X-Accel-Buffering", "Cache-Control")
    )


async def test_one_user_cannot_take_all_live_streams(start, monkeypatch):
    monkeypatch.setattr(live_stream, "MAX_STREAMS_OF_USER", 1)
    console = await start()
    headers = {"Authorization": basic(VIEWER)}
    async with console.client.get(console.url + "/live", headers=headers) as first:
        refused = await console.get("/live", VIEWER)
        async with console.client.get(
            console.url + "/live", headers={"Authorization": basic(OPERATOR)}
        ) as other:
            assert (200, 429, 200) == (first.status, refused.status, other.status)

    assert "Too many pages are open" in refused.body.decode()


async def test_slow_pages_and_streams_are_no_sign_of_overload(start, monkeypatch):
    console = await start()
    service = console.app[SERVICE]
    measured: list[float] = []
    monkeypatch.setattr(service.monitor, "answered", measured.append)
    await console.get("/configuration")
    service.flush_log()

    assert [] == measured
