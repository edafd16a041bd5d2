"""The reports: text, JUnit XML and HTML, with anything in it that a peer can send."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from multidict import CIMultiDict

from dfsp_quotes.conformance import Outcome, Part, Report, Result, Role, html, junit, text
from dfsp_quotes.conformance.result import MAX_EXCHANGES, MAX_TEXT, Exchange
from dfsp_quotes.conformance.wire import Request, Response
from support.model import TEST, Refused, StillClock
from support.model_payee import ModelPayee, check_payee

EVIL = '<script>alert(1)</script>\x1b[31m\x00\x0b"&\ud800\u202e'


def result(id_: str, outcome: Outcome, part: Part = Part.SOURCE, message: str = "") -> Result:
    exchange = Exchange("kit → payee", f"POST /v1/{EVIL}\n\nbody", f"200\n\n{EVIL}")
    return Result(id_, part, "§I.5", "It is right.", outcome, message, (exchange,), 3, 0.25)


def report_of(*results: Result) -> Report:
    return Report("http://payee", Role.PAYEE, datetime(2026, 5, 11, tzinfo=UTC), results)


FAILED, PASSED, SKIPPED = Outcome.FAILED, Outcome.PASSED, Outcome.SKIPPED


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ({}, 0),
        ({Part.SOURCE: PASSED, Part.PROMISES: PASSED}, 0),
        ({Part.SOURCE: SKIPPED, Part.PROMISES: SKIPPED}, 0),
        ({Part.SOURCE: FAILED, Part.PROMISES: PASSED}, 1),
        ({Part.SOURCE: FAILED, Part.PROMISES: FAILED}, 1),
        ({Part.SOURCE: PASSED, Part.PROMISES: FAILED}, 3),
    ],
)
def test_the_exit_code_says_which_part_failed(outcomes, code):
    assert code == report_of(*(result("a", outcome, part) for part, outcome in outcomes.items())).exit_code


def test_the_text_has_each_check_and_the_exchanges_of_those_that_failed():
    lines = text(
        report_of(
            result("a", FAILED, message=EVIL), result("b", PASSED), result("c", SKIPPED, message="Why.")
        )
    ).splitlines()

    assert ["FAIL", "ok", "skip"] == [line.split()[0] for line in lines if re.match(r" {4}\S", line)]
    assert any("Right: It is right." in line for line in lines)
    assert any("> POST /v1/" in line for line in lines)
    assert "1 passed, 1 failed, 1 skipped" == lines[-1]
    assert all(line.isprintable() for line in lines)


def test_junit_has_one_suite_for_each_part_and_one_case_for_each_check():
    found = ET.fromstring(
        junit(
            report_of(
                result("a", FAILED, message=EVIL),
                result("b", SKIPPED, message="Why."),
                result("c", PASSED, Part.PROMISES),
            )
        )
    )
    suites = found.findall("testsuite")

    assert [("2", "1", "1"), ("1", "0", "0")] == [
        (suite.get("tests"), suite.get("failures"), suite.get("skipped")) for suite in suites
    ]
    assert ["a", "b", "c"] == [case.get("name") for case in found.iter("testcase")]
    assert "<script>" in (found.find(".//failure").text or "")
    assert "Why." == found.find(".//skipped").get("message")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_runs_nothing():
    page = html(report_of(result("a", FAILED, message=EVIL), result("b", PASSED)))
    tags = Tags()
    tags.feed(page)
    [policy] = [
        attrs["content"] for tag, attrs in tags.found if attrs.get("http-equiv") == "Content-Security-Policy"
    ]

    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags.found}
    assert not [attrs for _, attrs in tags.found if {"src", "style", "onclick"} & attrs.keys()]
    assert ["#a"] == [attrs["href"] for _, attrs in tags.found if "href" in attrs]
    assert [True, False] == ["open" in attrs for tag, attrs in tags.found if tag == "details"]
    page.encode()


class Shouts(ModelPayee):
    def new_uuid(self, _body):
        return "x" * 100_000


async def test_texts_of_a_peer_are_cut_and_credentials_are_masked():
    report = await check_payee(Shouts(StillClock()))
    shown = html(report) + text(report) + junit(report).decode()

    assert {"reserve.uuid"} == report.failed
    assert all(len(each.message) <= MAX_TEXT + 30 for each in report.results)
    assert "x" * (MAX_TEXT + 1) not in shown
    assert "dGVzdDoxMjM=" not in shown
    assert TEST.password not in re.findall(r"Authorization: (.*)", shown)
    assert {"***"} == set(re.findall(r"Authorization: ([^<\n]*)", shown))


async def test_a_check_with_many_requests_shows_a_limited_number():
    class NoInverse(ModelPayee):
        def destination_amount(self, source):
            return (
                source
                if source.normalize().as_tuple().digits[-1] == 9
                else super().destination_amount(source)
            )

    report = await check_payee(NoInverse(StillClock()))
    [largest] = [each for each in report.results if each.id == "inverse.largest"]

    assert len(largest.exchanges) == MAX_EXCHANGES
    assert largest.more_exchanges > 0


async def test_a_failed_check_says_what_was_sent_what_came_and_what_would_be_right():
    class NoPayments(ModelPayee):
        async def paid(self, quote):
            raise Refused(410, "QuoteExpiredError")

    report = await check_payee(NoPayments(StillClock()))
    [failed] = [each for each in report.results if each.outcome is FAILED]
    reserve, pay = failed.exchanges

    assert ("transfer.accepted", "§II Additional Information") == (failed.id, failed.section)
    assert "The transfer was answered with 410 QuoteExpiredError." == failed.message
    assert failed.right.startswith("A transfer with the uuid of a quote and the same parameters succeeds")
    assert reserve.request.startswith("POST /v1/quoteSourceAmount\n")
    assert reserve.response.startswith("200\n")
    assert pay.request.startswith("PUT /v1/payments/")
    assert pay.response.startswith("410\n")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"id": 1, "validationErrors": [{"params": 1}, 2]}']
)
def test_any_body_is_a_message(body):
    response = Response(CIMultiDict(), body, 500)

    assert (None, set(), "500") == (response.error_id, response.faulty_fields, response.outcome)
    assert response.text.startswith("500")
    assert Request(CIMultiDict(), body, "GET", "/").text.startswith("GET /")
