"""The views without scripts, with scripted services."""

import re
from html import unescape

import pytest
from aiohttp import web

from console import app as module
from console.view import Console, View
from support.console import OPERATOR, SERVICE_PASSWORD, VIEWER, basic
from support.provider import until
from support.scripted_service import scripted_service

NO_DATABASE = "postgresql://postgres@127.0.0.1:1/none"


async def shown(console, path: str) -> str:
    """Return the text of a page's main part, without tags."""
    got = await console.get(path)
    assert 200 == got.status
    main = got.body.decode().partition("<main")[2].partition("</main>")[0]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", main)))


async def is_ready(console) -> bool:
    return not await console.console.database.missing()


async def look_again(console) -> None:
    """Wait until the console has looked at the services again."""
    fleet = console.console.fleet
    await fleet.ticked()
    await fleet.ticked()


async def test_the_chain_has_each_services_figures_and_their_age(watched, service):
    service.gauge("service_build_info", 1, service="dfsp-api", version="1.2.3", python="3.13")
    service.gauge("requests_in_flight", 4)
    service.requests(1)
    await look_again(watched)

    async def has_rate() -> bool:
        """Whether the two looks were so close to each other that they give a rate."""
        service.requests(100, seconds=0.05)
        await look_again(watched)
        return re.search(r"Requests (?!0/s)[0-9.,]+/s", await shown(watched, "/")) is not None

    await until(has_rate)
    page = await shown(watched, "/")

    assert "Nothing is wrong." in page
    assert "dfsp-api ready" in page
    assert re.search(r"p50 5\d\.\d ms p99 9\d\.\d ms In flight 3", page)
    assert re.search(r"version 1\.2\.3 · figures of \d+ s ago", page)


async def test_what_is_wrong_comes_first_and_clears_by_itself(watched, service):
    service.missing = ["database"]
    await look_again(watched)
    wrong = await shown(watched, "/")
    service.missing = []
    await look_again(watched)
    right = await shown(watched, "/")

    assert "1 problem The Postgres of dfsp-api is away" in wrong
    assert wrong.index("The Postgres of dfsp-api is away") < wrong.index("Quotes")
    assert "Nothing is wrong." in right
    assert "The Postgres of dfsp-api is away: from" in right


async def test_a_frozen_service_keeps_its_last_figures(watched, service, impatient):
    service.gauge("requests_in_flight", 4)
    await look_again(watched)
    service.freeze()
    await until(lambda: watched.console.fleet.problems.present)
    page = await shown(watched, "/")

    assert "dfsp-api is frozen" in page
    assert "In flight 3" in page


async def test_the_counts_of_quotes_are_on_the_first_view_and_with_the_database(watched, service):
    for state, count in (("reserved", 1234), ("executed", 5), ("expired", 6), ("released", 7)):
        service.gauge("quotes", count, state=state)
    await look_again(watched)

    for path in ("/", "/database"):
        assert "Open 1,234 Executed 5 Expired 6 Released 7" in await shown(watched, path)


async def test_the_caller_that_fails_most_comes_first(watched, service):
    service.requests(1)
    await look_again(watched)
    service.requests(50, caller="good")
    service.errors(20, "QuoteExpiredError", status=410, caller="bad")
    await look_again(watched)
    page = await shown(watched, "/callers")

    assert "bad dfsp-api 20 20 100.0 % QuoteExpiredError 20 good dfsp-api 50 0 0.0 %" in page
    assert "QuoteExpiredError dfsp-api 410 20" in page


def exposure(caller: str, sum_: str, count: int, sum_limit: str | None, count_limit: int | None) -> dict:
    return {
        "caller": caller,
        "currencyCode": "USD",
        "sum": sum_,
        "count": count,
        "sumLimit": sum_limit,
        "countLimit": count_limit,
    }


async def test_the_exposure_that_has_used_most_of_its_limit_comes_first(watched, service):
    assert "The payee has no exposure limits." in await shown(watched, "/exposures")
    service.exposures = {
        "exposures": [exposure("alice", "13.75", 1, "1000.00", None), exposure("<bob>", "10.00", 3, None, 4)]
    }

    page = await shown(watched, "/exposures")

    assert "<bob> USD 75.0 % 10.00 none 3 4 alice USD 1.4 % 13.75 1000.00 1 none" in page


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        ({"id": "ForbiddenError", "message": "Only an operator may."}, 403, "Only an operator may."),
        ({"exposures": "x"}, 200, "The payee has no exposure limits."),
        ({"exposures": [1, {"caller": "alice", "sumLimit": "x", "sum": "y"}]}, 200, "alice 0.0 %"),
    ],
)
async def test_exposures_that_cannot_be_read_are_explained(watched, service, content, status, text):
    service.exposures, service.exposures_status = content, status

    assert text in await shown(watched, "/exposures")


async def test_the_last_checkpoint_of_the_audit_log_is_shown(watched, service):
    assert "The payee has no audit log." in await shown(watched, "/audit")
    service.checkpoint = "example.com/<log>\n1234\nroot=\n\n— example.com/<log> signature=\n"

    page = await shown(watched, "/audit")

    assert "Log example.com/<log> Events 1,234 Root root=" in page
    assert "— example.com/<log> signature=" in page


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        ('{"id": "ForbiddenError", "message": "Only an operator may."}', 403, "Only an operator may."),
        ("nonsense", 503, "The payee's audit log cannot be read"),
        ("nonsense", 200, "The payee's response is not a checkpoint."),
        ("a\n" * 99, 200, "The payee's response is not a checkpoint."),
    ],
)
async def test_a_checkpoint_that_cannot_be_read_is_explained(watched, service, content, status, text):
    service.checkpoint, service.checkpoint_status = content, status

    assert text in await shown(watched, "/audit")


@pytest.mark.parametrize("query", ["?minutes=7", "?minutes=", "?minutes=5&minutes=5", "?x=1"])
async def test_another_time_span_is_refused(watched, query):
    got = await watched.get(f"/callers{query}")

    assert 400 == got.status
    assert "This did not work" in got.body.decode()


async def test_the_database_view_says_whether_postgres_is_the_bottleneck(watched, service):
    service.gauge("database_connections_max", 16)
    service.gauge("database_connections", 2, state="in_use")
    service.gauge("database_connections", 3, state="idle")
    service.gauge("database_connection_waiters", 1)
    service.gauge("database_table_bytes", 8192, table="quote")
    service.gauge("retention_lag_seconds", 90)
    service.observe("database_statement_duration_seconds", 0.5, statement="reserve")
    await look_again(watched)
    service.observe("database_statement_duration_seconds", *[0.5] * 40, statement="reserve")
    service.requests(40, seconds=0.6)
    await look_again(watched)
    page = await shown(watched, "/database")

    assert "dfsp-api Yes: " in page
    assert "a statement takes 500 ms of the 600 ms of a request (means)" in page
    assert re.search(r"dfsp-api 2 3 16 \d+\.\d 1 \S \d s ago", page)
    assert re.search(r"reserve dfsp-api [\d.]+/s 500 ms 550 ms 991 ms 100\.0 %", page)
    assert "quote dfsp-api 8 KiB" in page
    assert "retention is 90.0 s behind" in page


async def test_the_configuration_of_a_service_is_read_with_the_consoles_credentials(watched, service):
    setting = {
        "name": "QUOTES_TTL_SECONDS",
        "value": "<7>",
        "source": "file",
        "variable": "QUOTES_TTL_SECONDS_FILE",
    }
    table = {"title": "Fee schedule", "columns": ["currency", "flat"], "rows": [["USD", "1.00"]], "total": 9}
    service.configuration = {
        "service": "dfsp-api",
        "version": "1.2.3",
        "settings": [setting],
        "tables": [table],
    }
    page = await shown(watched, "/configuration")

    assert "QUOTES_TTL_SECONDS <7> file (QUOTES_TTL_SECONDS_FILE)" in page
    assert "Fee schedule currency flat USD 1.00 The first 1 of 9 rows." in page
    assert ("GET /v1/configuration", basic("console", SERVICE_PASSWORD)) in service.seen


SCHEDULE = {
    "id": "0f" * 32,
    "since": "2026-11-01T10:00:00.000Z",
    "rules": [
        {
            "transferType": "p2p",
            "currencyCode": "USD",
            "least": "0.01",
            "most": "25.00",
            "rounding": "half_even",
            "step": [
                {"from": "0.01", "to": "100.00", "flat": "0.20", "percent": "1"},
                {"from": "100.01", "to": "10000.00", "flat": "0.70", "percent": "0.5"},
            ],
        }
    ],
}


async def test_the_fee_schedule_in_force_has_its_id_its_time_and_its_steps(watched, service):
    service.configuration = {"service": "dfsp-api", "version": "1", "settings": [], "tables": []}
    service.fee_schedule = SCHEDULE
    page = await shown(watched, "/configuration")
    schedule = await shown(watched, f"/fee-schedules/{SCHEDULE['id']}")

    assert f"The fee schedule in force is {SCHEDULE['id']} , stored 2026-11-01 10:00:00 UTC ." in page
    assert "p2p USD 0.01 100.00 0.20 1 0.01 25.00 half even" in schedule
    assert "p2p USD 100.01 10000.00 0.70 0.5 0.01 25.00 half even" in schedule
    assert ("GET /v1/feeSchedules/current", basic("console", SERVICE_PASSWORD)) in service.seen
    assert f"GET /v1/feeSchedules/{SCHEDULE['id']}" in [request for request, _ in service.seen]


@pytest.mark.parametrize(
    "reply", [[], {"id": 7}, {**SCHEDULE, "id": "<b>"}, {**SCHEDULE, "rules": [7]}, {**SCHEDULE, "rules": 7}]
)
async def test_a_fee_schedule_of_another_form_is_a_sentence(watched, service, reply):
    service.configuration = {"service": "dfsp-api", "version": "1", "settings": [], "tables": []}
    service.fee_schedule = reply
    page = await shown(watched, "/configuration")

    assert "cannot be read: The payee's fee schedule has another form than expected." in page
    assert 503 == (await watched.get(f"/fee-schedules/{SCHEDULE['id']}")).status


@pytest.mark.parametrize("id_", ["0f" * 32, "0F" * 32, "current", "1"])
async def test_a_fee_schedule_that_is_not_known_is_a_page(watched, id_):
    got = await watched.get(f"/fee-schedules/{id_}")

    assert 404 == got.status
    assert b"<main" in got.body


async def test_the_consoles_own_secrets_are_hidden(watched):
    page = await shown(watched, "/configuration")

    assert "QUOTES_SERVICE_PASSWORD set" in page
    assert SERVICE_PASSWORD not in page


@pytest.mark.parametrize(
    ("status", "content", "problem"),
    [
        (401, {}, "it rejects the console's user or password"),
        (403, {}, "the console's user is no operator there"),
        (500, {}, "it answers 500"),
        (200, {"version": "1"}, "Its configuration has another form than expected."),
        (200, [1], "Its configuration has another form than expected."),
    ],
)
async def test_a_configuration_that_cannot_be_read_is_a_sentence(watched, service, status, content, problem):
    service.configuration, service.configuration_status = content, status

    assert problem in await shown(watched, "/configuration")


async def test_every_view_is_there_while_everything_else_is_away(start):
    console = await start({"dfsp-api": "http://127.0.0.1:1"}, database_url=NO_DATABASE)
    for view in console.console.pages.templates.globals["views"]:
        await shown(console, view.path)
    page = await shown(console, "/")

    assert "dfsp-api is away" in page
    assert "The console's own Postgres is away" in page


async def test_texts_of_services_and_callers_are_escaped(watched, service):
    evil = "\"'><script>alert(1)</script>{{ 7 * 7 }}"
    service.requests(1)
    await look_again(watched)
    service.requests(1, caller=evil)
    service.missing = [evil]
    await look_again(watched)

    for path in ("/", "/callers"):
        page = (await watched.get(path)).body.decode()

        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}" in page


async def test_several_services_are_looked_at_at_the_same_time(start, service, impatient):
    async with scripted_service() as other:
        console = await start({"dfsp-api": service.url, "spsp-client": other.url})
        other.freeze()
        await until(lambda: console.console.fleet.problems.present)
        page = await shown(console, "/")

    assert "spsp-client is frozen" in page
    assert "dfsp-api is" not in page


@pytest.fixture
def acting(monkeypatch):
    """Add a view with a form to the console."""

    def view(console: Console) -> View:
        async def act(request: web.Request) -> web.StreamResponse:
            fields = await console.form(request, "test", subject="thing")
            return web.Response(text=fields["more"])

        return View("Act", "/act", [web.post("/act", act)])

    monkeypatch.setattr(module, "VIEWS", (*module.VIEWS, view))


async def test_an_operator_acts_and_the_action_is_stored_with_the_user(acting, start, capfd):
    console = await start()
    await until(lambda: is_ready(console))
    token = console.console.pages._tokens.create(OPERATOR)
    got = await console.post("/act", {"token": token, "more": "done"})
    page = await shown(console, "/configuration")

    assert (200, b"done") == (got.status, got.body)
    assert "operator test subject thing" in page

    console.console.service.logs.writer.flush()
    assert '"event":"action","action":"test","caller":"operator"' in capfd.readouterr().out


async def test_a_viewer_may_not_act(acting, start):
    console = await start()
    token = console.console.pages._tokens.create(VIEWER)
    got = await console.post("/act", {"token": token, "more": "done"}, VIEWER)

    assert 403 == got.status
    assert "Only an operator may use this operation." in got.body.decode()


async def test_a_form_without_the_users_token_is_refused(acting, start):
    console = await start()
    got = await console.post("/act", {"token": console.console.pages._tokens.create(VIEWER), "more": "x"})

    assert 403 == got.status
    assert "This form is out of date or belongs to another user." in got.body.decode()


async def test_an_action_works_while_the_consoles_database_is_away(acting, start):
    console = await start(database_url=NO_DATABASE)
    got = await console.post("/act", {"token": console.console.pages._tokens.create(OPERATOR), "more": "x"})

    assert 200 == got.status


async def test_the_last_counts_of_quotes_stay_on_the_page_while_there_are_no_new_ones(watched, service):
    service.gauge("quotes", 7, state="reserved")
    await look_again(watched)
    service.registry.unregister(service._gauges.pop("quotes"))
    await look_again(watched)

    assert "Open 7" in await shown(watched, "/")


async def test_the_console_looks_again_after_a_look_has_failed(start, monkeypatch):
    monkeypatch.setattr(module, "FAILED_LOOK_SECONDS", 0.0)
    console = await start()
    fleet = console.console.fleet
    failed: list[bool] = []

    def disk() -> tuple[None, None]:
        if not failed:
            failed.append(True)
            raise ValueError
        return None, None

    await fleet.ticked()
    monkeypatch.setattr(fleet, "_disk", disk)
    await until(lambda: failed)
    looked_at = fleet.looked_at
    await fleet.ticked()

    assert fleet.looked_at > looked_at
