"""The view *Quotes*: lists, one quote, one trace, failed requests; with a payee that is a stub."""

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from chassis.logs import iso_time
from chassis.tracing import w3c_trace_id
from console.traces import timelines
from console.traces.span import Span
from support.console import VIEWER, RunningConsole
from support.payee import until
from support.serving import Stub, reply, stub

UUID = "8f0c2a4e-0000-4000-8000-000000000001"
TRACE = "5a3f4a53-9d1b-4d6f-8b1f-6f5e8a1c6c1e"
SCHEDULE = "0f" * 32
NOW = 1_790_000_000.0
CHAIN = (
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
)

QUOTE = {
    "uuid": UUID,
    "state": "EXECUTED",
    "operation": "quoteSourceAmount",
    "amount": "13.75",
    "sourceAmount": "13.75",
    "destinationAmount": "12.50",
    "fee": "1.25",
    "expires": iso_time(NOW + 300),
    "created": iso_time(NOW),
    "executed": iso_time(NOW + 60),
    "caller": "test",
    "explanation": {
        "schedule": SCHEDULE,
        "rule": {"transferType": "p2p", "currencyCode": "USD"},
        "step": {"from": "0.01", "to": "1000.00", "flat": "0.00", "percent": "10"},
        "least": "0.01",
        "most": None,
        "rounding": "half_up",
        "unrounded": "1.2500001",
    },
    "request": {"currencyCode": "USD", "identifier": "30754016", "identifierType": "eur", "amount": "12.50"},
}


def quotes(*found: dict, next_: str | None = None):
    return reply(200, {"quotes": list(found), "next": next_})


@pytest.fixture
async def payee():
    """A payee with one quote."""
    async with stub(quotes(QUOTE)) as made:
        yield made


@pytest.fixture
async def show(start, payee, tmp_path):
    """Return a function that starts a console beside the payee, with log files in `tmp_path`."""

    async def show_(**settings: object) -> RunningConsole:
        console = await start({"dfsp-api": payee.url}, **{"log_folder": tmp_path, **settings})

        async def is_ready() -> bool:
            return not await console.console.database.missing()

        await until(is_ready)
        return console

    return show_


async def page(console: RunningConsole, path: str, user: str = VIEWER) -> str:
    got = await console.get(path, user)
    assert 200 == got.status, got.body
    return got.body.decode()


def asked(payee: Stub) -> dict[str, str]:
    """Return the query of the last list that the payee was asked for."""
    targets = [seen.target for seen in payee.seen if seen.target.startswith("/v1/quotes")]
    return {name: values[0] for name, values in parse_qs(urlsplit(targets[-1]).query).items()}


def write_lines(folder: Path, trace: str, *, at: float, status: int = 200, **fields: object) -> None:
    """Write a log line for each hop of one request."""
    for depth, service in enumerate(CHAIN):
        members = {
            "time": iso_time(at - depth / 1_000),
            "service": service,
            "event": "request",
            "traceId": trace,
            "method": "POST",
            "path": "/v1/quoteSourceAmount",
            "status": status,
            "duration_ms": 20.0 - 2 * depth,
            **fields,
        }
        with (folder / f"{service}.log").open("a") as file:
            file.write(json.dumps(members, separators=(",", ":")) + "\n")


def spans(
    trace: str, *, at: float, hops: int = len(CHAIN), error: str | None = None, **more: str
) -> list[Span]:
    """Return the spans of the first hops of one request."""
    attributes = {"l1p.trace_id": trace, "enduser.id": "test", **more}
    if error is not None:
        attributes |= {
            "error.type": error,
            "http.response.status_code": 503,
            "error.message": "the disk is full",
        }
    return [
        Span(
            w3c_trace_id(trace),
            f"{depth + 1:016x}",
            f"{depth:016x}" if depth else None,
            service,
            "POST /v1/quoteSourceAmount",
            round(at * 1e9) + depth * 1_000_000,
            (20 - 2 * depth) * 1_000_000,
            error is not None,
            attributes,
        )
        for depth, service in enumerate(CHAIN[:hops])
    ]


async def test_a_list_shows_quotes_with_links_and_the_sum_of_payments(show, payee):
    payee.answer = quotes(
        QUOTE, {**QUOTE, "fee": "0.75", "sourceAmount": "1.25"}, {**QUOTE, "state": "EXPIRED"}
    )
    text = await page(await show(), "/quotes")

    assert f'<a href="/quotes/{UUID}">{UUID}</a>' in text
    assert '<a href="/quotes?caller=test">test</a>' in text
    assert "<strong>15.00 USD</strong> in 2 payments (fees 2.00)" in text
    assert {"limit": "50"} == asked(payee)


async def test_the_console_lists_with_its_own_credentials(show, payee):
    await page(await show(), "/quotes")

    (listed,) = [seen for seen in payee.seen if seen.target.startswith("/v1/quotes")]
    assert listed.headers["Authorization"].startswith("Basic ")


async def test_the_form_becomes_the_payees_query_and_is_kept(show, payee):
    query = "state=EXECUTED&since=2026-11-01&until=2026-12-01&caller=t%C3%A4st&identifier=3&amount=12.5&after=abc&last="
    text = await page(await show(), f"/quotes?{query}")

    assert asked(payee) == {
        "state": "EXECUTED",
        "since": "2026-11-01",
        "until": "2026-12-01",
        "caller": "täst",
        "identifier": "3",
        "amount": "12.5",
        "after": "abc",
        "limit": "50",
    }
    assert '<option value="EXECUTED" selected>' in text
    assert 'name="caller" value="täst"' in text


async def test_a_period_ends_now(show, payee, monkeypatch):
    monkeypatch.setattr("console.views.quotes.time.time", lambda: NOW)
    await page(await show(), "/quotes?last=600&since=2020-01-01")

    assert iso_time(NOW - 600) == asked(payee)["since"]


async def test_a_list_goes_on_on_the_next_page(show, payee):
    payee.answer = quotes(next_="cursor-2")
    text = await page(await show(), "/quotes?state=EXPIRED")

    assert 'href="/quotes?state=EXPIRED&amp;after=cursor-2"' in text
    assert "No quote on this page fits these filters." in text


async def test_faults_of_the_form_are_shown(show, payee):
    faults = [{"message": "must be an ISO 8601 time", "params": {"key": "since", "value": "x"}}]
    payee.answer = reply(
        400, {"id": "InvalidQueryParameterError", "message": "m", "validationErrors": faults}
    )

    assert "since must be an ISO 8601 time" in await page(await show(), "/quotes?since=x")


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (reply(403, {"message": "Only an operator may list."}), "Only an operator may list."),
        (reply(200, b"<html>"), "not JSON"),
        (reply(200, []), "No quote fits"),
        (reply(200, {"quotes": [7, {"uuid": UUID}], "next": 7}), UUID),
    ],
)
async def test_whatever_the_payee_answers_the_page_is_shown(show, payee, answer, shown):
    payee.answer = answer

    assert shown in await page(await show(), "/quotes")


async def test_without_a_payee_the_page_says_so(start):
    console = await start({"dfsp-api": "http://127.0.0.1:1"})

    assert "cannot be reached" in await page(console, "/quotes")
    assert 503 == (await console.get(f"/quotes/{UUID}")).status


async def test_a_quote_shows_its_lifetime_and_how_its_fee_was_calculated(show, payee):
    payee.answer = quotes({**QUOTE, "state": "RELEASED", "executed": None, "released": iso_time(NOW + 30)})
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", await page(await show(), f"/quotes/{UUID}")))

    assert "(lifetime 5 min)" in text
    assert f"Released {iso_time(NOW + 30)[:10]} {iso_time(NOW + 30)[11:19]} UTC" in text
    for line in (
        "Rule p2p, USD",
        "Step 0.01 to 1000.00: 0.00 plus 10 % of the amount that arrives",
        "Limits at least 0.01, no maximum",
        "Before rounding 1.2500001",
        "Rounding half up",
        "Fee 1.25",
    ):
        assert line in text
    assert f'href="/fee-schedules/{SCHEDULE}"' in await page(await show(), f"/quotes/{UUID}")


@pytest.mark.parametrize("explanation", [None, [], {}, {"rule": 7}, {"rule": {}, "step": []}])
async def test_a_quote_without_an_explanation_says_so(show, payee, explanation):
    payee.answer = quotes({**QUOTE, "explanation": explanation, "created": "x"})

    assert "The payee has no explanation of this fee" in await page(await show(), f"/quotes/{UUID}")


async def test_a_quote_that_was_not_sampled_has_a_timeline_of_log_lines(show, payee, tmp_path):
    write_lines(tmp_path, TRACE, at=NOW + 0.02, uuid=UUID)
    write_lines(tmp_path, "payment", at=NOW + 60, path=f"/v1/payments/{UUID}", method="PUT")
    write_lines(tmp_path, "another", at=NOW)
    text = await page(await show(), f"/quotes/{UUID}")

    assert {"uuid": UUID} == asked(payee)
    assert ["1.25 USD", "not sampled", TRACE, f"PUT /v1/payments/{UUID}"] == [
        each for each in ("1.25 USD", "not sampled", TRACE, f"PUT /v1/payments/{UUID}") if each in text
    ]
    assert "another" not in text
    assert 12 == text.count("<rect ")
    assert text.index(TRACE) < text.index("/traces/payment")


async def test_a_quote_that_was_sampled_has_a_timeline_of_spans(show, tmp_path):
    console = await show()
    write_lines(tmp_path, TRACE, at=NOW + 0.02)
    await console.console.timelines.spans.insert(spans(TRACE, at=NOW, **{"quote.uuid": UUID}))
    text = await page(console, f"/quotes/{UUID}")

    assert "Made of spans." in text
    assert 6 == text.count("<rect ")
    assert 6 == text.count("1 log line, span of ")


async def test_a_hop_without_a_span_is_named(show, tmp_path):
    console = await show()
    write_lines(tmp_path, TRACE, at=NOW + 0.02)
    await console.console.timelines.spans.insert(spans(TRACE, at=NOW, hops=4))
    text = await page(console, f"/traces/{TRACE}")

    assert "the hops without a span are made of their log lines" in text
    assert 2 == text.count('<span class="badge">log line</span>')


async def test_a_trace_says_where_the_error_began_and_why(show):
    console = await show()
    await console.console.timelines.spans.insert(spans(TRACE, at=NOW, hops=3, error="UnavailableError"))
    for path in (f"/traces/{TRACE}", f"/traces/{w3c_trace_id(TRACE)}"):
        text = await page(console, path)

        assert "<strong>The error began at spsp-client</strong>" in text
        assert "UnavailableError 503, the disk is full" in text


async def test_a_statement_is_shown_below_the_request_that_it_served(show):
    console = await show()
    statement = Span(
        "f" * 32,
        "a" * 16,
        None,
        "dfsp-api",
        "reserve quote",
        round(NOW * 1e9) + 6_000_000,
        3_000_000,
        False,
        {},
        (("0" * 31 + "1", "1" * 16),),
    )
    made = spans(TRACE, at=NOW)
    last = made[-1]
    linked = Span(
        last.trace_id,
        last.span_id,
        last.parent_id,
        last.service,
        last.name,
        last.start_ns,
        last.duration_ns,
        last.is_error,
        last.attributes,
        (("f" * 32, "a" * 16),),
    )
    await console.console.timelines.spans.insert([*made[:-1], linked, statement])
    found = await console.console.timelines.of_trace(TRACE)

    (waterfall,) = found.timeline.waterfalls
    assert ("reserve quote", 6) == (waterfall.rows[-1].name, waterfall.rows[-1].depth)
    assert "reserve quote" in await page(console, f"/traces/{TRACE}")


async def test_a_trace_links_to_its_quotes(show):
    console = await show()
    await console.console.timelines.spans.insert(spans(TRACE, at=NOW, **{"quote.uuid": UUID}))

    assert f'<a href="/quotes/{UUID}">{UUID}</a>' in await page(console, f"/traces/{TRACE}")


async def test_a_trace_of_which_nothing_is_known_says_how_long_spans_are_kept(show):
    assert "Spans are kept for 24 h." in await page(await show(), "/traces/unknown")


async def test_while_the_consoles_database_is_away_timelines_are_made_of_log_lines(start, payee, tmp_path):
    console = await start(
        {"dfsp-api": payee.url}, log_folder=tmp_path, database_url="postgresql://postgres@127.0.0.1:1/none"
    )
    write_lines(tmp_path, TRACE, at=NOW + 0.02, uuid=UUID)
    text = await page(console, f"/quotes/{UUID}")

    assert "The spans cannot be read" in text
    assert 6 == text.count("<rect ")
    assert "The spans cannot be read" in await page(console, "/quotes/failed")


async def test_a_tracing_system_is_linked_where_one_is_configured(show):
    link = "https://traces.example/trace/{trace_id}?q={l1p_trace_id}"
    text = await page(await show(traces_link=link), f"/traces/{TRACE}")

    assert f'href="https://traces.example/trace/{w3c_trace_id(TRACE)}?q={TRACE}"' in text


async def test_failed_requests_lead_to_their_traces(show):
    console = await show()
    await console.console.timelines.spans.insert(
        [*spans(TRACE, at=NOW, hops=3, error="UnavailableError"), *spans("good", at=NOW + 1)]
    )
    text = await page(console, "/quotes/failed")

    assert f'<a href="/traces/{TRACE}">{TRACE}</a>' in text
    assert "good" not in text
    assert "<td>spsp-client</td>" in text
    assert 'href="/quotes/failed?error=UnavailableError"' in text
    assert TRACE in await page(console, "/quotes/failed?error=UnavailableError&caller=test")
    assert TRACE not in await page(console, "/quotes/failed?error=QuoteExpiredError")
    assert "has failed lately" in await page(console, "/quotes/failed?caller=other")


@pytest.mark.parametrize(
    ("id_", "target"),
    [(UUID, f"/quotes/{UUID}"), (UUID.upper(), f"/quotes/{UUID}"), ("order-17", "/traces/order-17")],
)
async def test_find_leads_to_a_quote_or_a_trace(show, id_, target):
    got = await (await show()).get(f"/quotes/find?id={id_}", VIEWER)

    assert (303, target) == (got.status, got.headers["Location"])


async def test_a_uuid_that_is_no_quote_is_taken_for_a_trace(show, payee):
    payee.answer = quotes()
    got = await (await show()).get(f"/quotes/find?id={UUID}", VIEWER)

    assert f"/traces/{UUID}" == got.headers["Location"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/quotes/find?id=a%20b", 400),
        ("/quotes/find", 400),
        ("/quotes?nothing=1", 400),
        ("/quotes/failed?x=1", 400),
        ("/quotes/17", 404),
        (f"/traces/{'x' * 65}", 404),
        ("/traces/a%2Fb", 404),
        (f"/quotes/{UUID}", 404),
    ],
)
async def test_what_does_not_exist_is_answered_by_a_page(show, payee, path, status):
    payee.answer = quotes()
    got = await (await show()).get(path, VIEWER)

    assert (status, "text/html; charset=utf-8") == (got.status, got.headers["Content-Type"])


async def test_text_of_others_is_escaped(show, payee, tmp_path):
    evil = "<script>alert(1)</script>"
    payee.answer = quotes({**QUOTE, "caller": evil, "request": {**QUOTE["request"], "identifier": evil}})
    write_lines(tmp_path, TRACE, at=NOW, uuid=UUID, path=evil, cause=evil, id="X")
    console = await show()
    for path in ("/quotes", f"/quotes/{UUID}", f"/traces/{TRACE}"):
        text = await page(console, path)

        assert "&lt;script&gt;" in text
        assert evil not in text


@pytest.mark.parametrize(
    "settings",
    [
        {"traces_link": "ftp://x/{trace_id}"},
        {"traces_link": "https://x/none"},
        {"traces_link": "https://user@x/{trace_id}"},
        {"traces_from": "10.0.0.1/8"},
        {"traces_max_rows": "1"},
        {"traces_keep_seconds": "1"},
    ],
)
async def test_settings_at_fault_are_refused(start, settings):
    with pytest.raises(Exception, match="QUOTES_TRACES"):
        await start({}, **settings)


async def test_the_id_of_a_span_cannot_change_the_link_to_a_tracing_system(show):
    console = await show(traces_link="https://traces.example/{l1p_trace_id}/x")
    made = spans("a/../b?c#d", at=NOW)
    await console.console.timelines.spans.insert(made)

    assert 'href="https://traces.example/a%2F..%2Fb%3Fc%23d/x"' in await page(
        console, f"/traces/{made[0].trace_id}"
    )


async def test_a_page_does_not_wait_behind_many_searches_of_the_log(show, monkeypatch):
    console = await show()
    monkeypatch.setattr(timelines, "MAX_WAITING", 0)
    found = console.console.timelines
    for _ in range(timelines.MAX_SEARCHES):
        await found._turns.acquire()
    busy = await found.of_trace(TRACE)
    for _ in range(timelines.MAX_SEARCHES):
        found._turns.release()

    assert not busy.has_all_lines
    assert (await found.of_trace(TRACE)).has_all_lines
