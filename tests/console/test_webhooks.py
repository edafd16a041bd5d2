"""The view *Webhooks*, on a console beside a real `integrations`."""

import asyncio
import json
import re
from typing import Any

import pytest

from chassis.app import SERVICE
from chassis.errors import UnavailableError
from console import app as console_app
from console.collectors.service_client import ServiceReply
from console.collectors.webhook_operations import WebhookOperations
from integrations.delivery.queue import MIGRATIONS
from support import provider as providers
from support.console import OPERATOR, VIEWER, RunningConsole
from support.provider import OK, PASSWORDS, USER, Provider, Script, until
from support.serving import reply, stub

CREDENTIALS = {"service_user": providers.OPERATOR, "service_password": PASSWORDS[providers.OPERATOR]}


@pytest.fixture(scope="session")
def provider_users(tmp_path_factory):
    return providers.write_users(tmp_path_factory.mktemp("provider") / "users")


@pytest.fixture
async def database_url(reused_databases):
    """A database of the test's own, with the tables of both services."""
    async with reused_databases.one(console_app.MIGRATIONS, MIGRATIONS) as url:
        yield url


@pytest.fixture
async def provider(database_url, provider_users, client):
    async with providers.provider(database_url, provider_users, client) as made:
        yield made


@pytest.fixture
async def console(start, provider) -> RunningConsole:
    return await start({"integrations": provider.url}, **CREDENTIALS)


async def page(console: RunningConsole, path: str, as_: str = OPERATOR, status: int = 200) -> str:
    got = await console.get(path, as_)
    assert status == got.status, got.body
    return got.body.decode()


def token_in(html: str) -> str:
    return re.search(r'name="token" value="(\w+)"', html)[1]


def fields_of(html: str, path: str) -> dict[str, str]:
    """Return the hidden fields of the form with this path."""
    form = html.partition(f'action="{path}"')[2].partition("</form>")[0]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))


async def failing(provider: Provider, hook: Any, number: int, **more: Any) -> str:
    """Return an integration of which this number of signals have failed for good; the webhook then works."""
    id_ = await provider.enabled(hook.url, **more)
    await provider.done(id_)
    hook.answer.lines[:] = [reply(400, b"no <b>room</b>", X_Why="full")] * number + [OK]
    for _ in range(number):
        await provider.signal("CLOSE")
    await provider.done(id_)
    return id_


async def test_the_overview_shows_the_backlog_and_the_integrations_in_trouble(console, provider):
    async with stub(Script([OK, OK, reply(410)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()

        async def is_paused():
            # the number and the list are read one after the other
            html = await page(console, "/webhooks")
            return ("Paused</strong>" in html and "<dt>Paused integrations</dt><dd>1</dd>" in html) and html

        html = await until(is_paused)

    assert f'href="/webhooks/{id_}"' in html
    assert "the webhook answered with status 410" in html
    assert f"user {USER}" in html


async def test_one_event_is_shown_with_request_and_response_and_sent_again(console, provider):
    async with stub(Script([OK])) as hook:
        id_ = await failing(provider, hook, 1)
        listed = await page(console, f"/webhooks/{id_}?state=FAILED")
        path = re.search(rf'href="(/webhooks/{id_}/deliveries/[\w-]+)"', listed)[1]
        html = await page(console, path)
        got = await console.post(f"{path}/replay", fields_of(html, f"{path}/replay"))
        after = await page(console, got.headers["Location"])
        log = await provider.done(id_)

    assert "no &lt;b&gt;room&lt;/b&gt;" in html
    assert "<dt>X-Why</dt><dd>full</dd>" in html
    assert "<dt>webhook-signature</dt><dd>(hidden)</dd>" in html
    assert "SIGNAL_CLOSE" in html
    assert "baz" not in html
    assert 303 == got.status
    assert "The event is being sent again." in after
    assert "DELIVERED" == log[-1]["state"]


async def test_all_failed_events_are_sent_again_after_a_confirmation(console, provider):
    async with stub(Script([OK])) as hook:
        id_ = await failing(provider, hook, 3)
        path = f"/webhooks/{id_}/replays"
        html = await page(console, path)
        form = fields_of(html, path)
        got = await console.post(path, form)
        after = await page(console, got.headers["Location"])
        again = await console.post(path, form)
        log = await provider.done(id_)

    assert "3 of 3 failed events" in html
    assert "Send 3 events again" in html
    assert "Failed events that are being sent again: 3." in after
    assert f"/webhooks/{id_}?replayed=0&left=0&skipped=0" == again.headers["Location"]
    assert {"DELIVERED"} == {each["state"] for each in log}


async def test_the_time_of_the_confirmation_can_be_typed_and_is_utc(console, provider):
    async with stub(Script([OK])) as hook:
        id_ = await failing(provider, hook, 1)
        late = await page(console, f"/webhooks/{id_}/replays?since=2999-01-31T20:00&state=")
        faulty = await page(console, f"/webhooks/{id_}/replays?since=yesterday", status=400)

    assert "0 of 0 failed events" in late
    assert 'value="2999-01-31T20:00:00"' in late
    assert "Send 0" not in late
    assert "This did not work" in faulty


async def test_viewers_see_everything_but_no_buttons_and_may_not_use_the_forms(console, provider):
    async with stub(Script([OK])) as hook:
        id_ = await failing(provider, hook, 1)
        event_id = (await provider.deliveries(id_))[-1]["eventId"]
        paths = ("/webhooks", f"/webhooks/{id_}", f"/webhooks/{id_}/deliveries/{event_id}")
        pages = [await page(console, path, VIEWER) for path in paths]
        token = token_in(await page(console, f"/webhooks/{id_}", OPERATOR))
        forms = (
            f"/webhooks/{id_}/deliveries/{event_id}/replay",
            f"/webhooks/{id_}/replays",
            f"/webhooks/{id_}/resume",
        )
        statuses = [(await console.post(form, {"token": token}, VIEWER)).status for form in forms]
        confirm = (await console.get(f"/webhooks/{id_}/replays", VIEWER)).status
        forged = [(await console.post(form, {"token": "x"}, OPERATOR)).status for form in forms]

    assert all("Send " not in html and 'method="post"' not in html for html in pages)
    assert [403] * 7 == [*statuses, confirm, *forged]
    assert "FAILED" == (await provider.deliveries(id_))[-1]["state"]


async def test_a_form_of_a_viewer_with_a_token_of_their_own_is_forbidden(console, provider):
    """A valid token is not enough: the user must be an operator."""
    async with stub(Script([OK])) as hook:
        id_ = await failing(provider, hook, 1)
        token = console.console.pages._tokens.create(VIEWER)
        got = await console.post(
            f"/webhooks/{id_}/replays", {"token": token, "since": "2020-01-01T00:00:00Z"}, VIEWER
        )

    assert 403 == got.status


async def test_integrations_logs_the_name_of_the_consoles_user(console, provider, monkeypatch):
    lines: list[dict[str, Any]] = []
    writer = provider.app[SERVICE].logs.writer
    monkeypatch.setattr(writer, "write", lambda found, *, now: lines.extend(map(json.loads, found)))
    async with stub(Script([OK])) as hook:
        id_ = await failing(provider, hook, 1)
        path = f"/webhooks/{id_}/replays"
        await console.post(path, fields_of(await page(console, path), path))
        await provider.done(id_)
    (line,) = [each for each in lines if each["event"] == "operator"]

    assert ("replay of failed events", OPERATOR, 1) == (line["action"], line["operator"], line["events"])


async def test_a_paused_integration_is_resumed(console, provider):
    async with stub(Script([OK, OK, reply(410), OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()

        async def form():
            html = await page(console, "/webhooks")
            return fields_of(html, f"/webhooks/{id_}/resume")

        got = await console.post(f"/webhooks/{id_}/resume", await until(form))
        after = await page(console, got.headers["Location"])
        again = await console.post(
            f"/webhooks/{id_}/resume", {"token": console.console.pages._tokens.create(OPERATOR)}
        )

    assert 409 == again.status
    assert "The integration is resumed." in after
    assert "state-approved" in after


async def test_an_integration_is_found_by_its_user_and_its_status(console, provider):
    for number in range(22):
        await provider.requested(description=f"Product <{number}>", userEmail=f"u{number % 2}@example.com")
    found = await page(console, "/webhooks?userEmail=U1@example.com&state=PENDING")
    first = await page(console, "/webhooks?state=PENDING&userEmail=")
    more = re.search(r'<a class="button" href="([^"]+)">More', first)[1].replace("&amp;", "&")
    second = await page(console, more)
    none = await page(console, "/webhooks?state=DELETED")
    faulty = await console.get("/webhooks?state=LOST")

    assert "Product &lt;21&gt;" in found
    assert "Product &lt;20&gt;" not in found
    assert (20, 2) == (first.count("Product"), second.count("Product"))
    assert "No integration matches." in none
    assert 400 == faulty.status


async def test_the_overview_survives_integrations_and_says_how_old_its_figures_are(
    start, database_url, provider_users, client
):
    async with providers.provider(database_url, provider_users, client) as provider:
        console = await start({"integrations": provider.url}, **CREDENTIALS)
        before = await page(console, "/webhooks")

    async def is_away():
        return "The figures below are" in (html := await page(console, "/webhooks")) and html

    after = await until(is_away)
    one = await page(console, "/webhooks/00000000-0000-4000-8000-000000000000", status=503)

    assert 'role="alert"' not in before
    assert 'role="alert"' in after
    assert "<dt>Waiting events</dt><dd>0</dd>" in after
    assert "This did not work" in one


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "integrations rejects the console&#39;s credentials"),
        ({**CREDENTIALS, "services": {}}, "The console does not watch a service integrations"),
    ],
)
async def test_the_overview_says_what_is_wrong_with_the_consoles_settings(start, provider, settings, message):
    services = settings.pop("services", {"integrations": provider.url})
    console = await start(services, **settings)

    assert message in await page(console, "/webhooks")


@pytest.mark.parametrize("path", ["/webhooks/x", "/webhooks/00000000-0000-4000-8000-000000000000"])
async def test_an_unknown_integration_is_a_page_with_404(console, path):
    got = await console.get(path)

    assert (404, "text/html; charset=utf-8") == (got.status, got.headers["Content-Type"])


async def test_many_open_pages_read_the_backlog_once(monkeypatch):
    """The backlog is read again only when the figures are old, also while `integrations` is away."""
    now, calls = [100.0], []

    class Client:
        async def request(self, *arguments: object, **_more: object) -> ServiceReply:
            calls.append(arguments)
            if len(calls) == 2:
                raise UnavailableError("away")
            return ServiceReply(200, {}, b'{"waiting": 1}')

    monkeypatch.setattr("console.collectors.webhook_operations.time.monotonic", lambda: now[0])
    operations = WebhookOperations(Client())
    first = await asyncio.gather(*(operations.backlog() for _ in range(5)))
    now[0] += 3
    second = [await operations.backlog() for _ in range(5)]
    now[0] += 3
    third = await operations.backlog()

    assert 3 == len(calls)
    assert [({"waiting": 1}, 0.0, None)] * 5 == [
        (each.figures, each.age_seconds, each.problem) for each in first
    ]
    assert [({"waiting": 1}, 3.0, "away")] * 5 == [
        (each.figures, each.age_seconds, each.problem) for each in second
    ]
    assert (0.0, None) == (third.age_seconds, third.problem)


async def test_a_paused_endpoint_is_on_the_first_page_until_it_is_resumed(console, provider):
    async with stub(Script([OK, OK, reply(410), OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        before = await page(console, "/")
        await provider.signal()

        async def has_problem():
            return 'id="p-integrations/paused"' in (html := await page(console, "/")) and html

        during = await until(has_problem)
        await provider.do("resume", id_)

        async def is_cleared():
            return 'id="c-integrations/paused' in (html := await page(console, "/")) and html

        after = await until(is_cleared)

    assert 'id="p-integrations/paused"' not in before + after
    assert "1 endpoint is paused" in during
    assert '<a href="/webhooks">Show more</a>' in during


async def test_waiting_events_are_attempted_at_once(console, provider):
    async with stub(Script([OK, OK, reply(503, Retry_After="50"), OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("CLOSE")

        async def form():
            return fields_of(await page(console, f"/webhooks/{id_}"), f"/webhooks/{id_}/retry")

        got = await console.post(f"/webhooks/{id_}/retry", await until(form))
        after = await page(console, got.headers["Location"])
        log = await provider.done(id_)

    assert "The waiting events are being sent now." in after
    assert "DELIVERED" == log[-1]["state"]
