"""Requests and errors by caller, error and hop, by the minute."""

from console.collectors import ledger as module
from console.collectors.ledger import CallerErrorKey, CallerKey, ErrorKey, Ledger
from console.collectors.samples import Window, parse
from console.views.callers import caller_rows, hop_rows


def window(text: str) -> Window:
    return Window(parse("", 0.0), parse(text, 2.0))


def caller(name: str, requests: int, **errors: int) -> str:
    lines = [f'caller_requests_total{{caller="{name}"}} {requests}']
    lines += [f'caller_errors_total{{caller="{name}",error="{error}"}} {n}' for error, n in errors.items()]
    return "\n".join(lines) + "\n"


def error(count: int, name: str, origin: str = "own") -> str:
    return f'request_errors_total{{method="GET",route="/",status="503",error="{name}",origin="{origin}"}} {count}\n'


def test_the_growth_is_counted_in_the_minute_in_which_it_was_found():
    ledger = Ledger()
    ledger.add("payer", [window(caller("a", 5, E=1))], 60.0)
    ledger.add("payer", [window(caller("a", 7))], 130.0)
    last, both = ledger.tally(1, 130.0), ledger.tally(2, 130.0)

    assert {CallerKey("payer", "a"): 7} == last.requests
    assert {CallerKey("payer", "a"): 12} == both.requests
    assert {CallerErrorKey("payer", "a", "E"): 1} == both.caller_errors


def test_what_is_older_than_an_hour_is_forgotten():
    ledger = Ledger()
    for minute in range(100):
        ledger.add("payer", [window(caller("a", 1))], minute * 60.0)

    assert {CallerKey("payer", "a"): 60} == ledger.tally(60, 99 * 60.0).requests
    assert 60 == len(ledger._minutes)


def test_a_minute_has_a_limited_number_of_keys(monkeypatch):
    monkeypatch.setattr(module, "MAX_KEYS", 2)
    ledger = Ledger()
    for name in ("a", "b", "c", "a"):
        ledger.add("payer", [window(caller(name, 1))], 0.0)

    assert {CallerKey("payer", "a"): 2, CallerKey("payer", "b"): 1} == ledger.tally(1, 0.0).requests


def test_usual_errors_leave_out_the_present_and_the_last_minute():
    ledger = Ledger()
    ledger.add("payee", [window(error(60, "Usual") + error(60, "Passed", "upstream"))], 0.0)
    ledger.add("payee", [window(error(999, "New"))], 130.0)

    assert {("payee", "Usual"): 1.0} == ledger.usual_errors(130.0)
    assert {} == ledger.usual_errors(60.0)


def test_a_caller_is_counted_at_the_service_that_it_calls_and_the_one_that_fails_most_comes_first():
    ledger = Ledger()
    for service in ("payer", "proxy", "payee"):
        ledger.add(service, [window(caller("good", 90) + caller("bad", 20, Late=4, Gone=8))], 0.0)
    ledger.add("proxy", [window(caller("neighbour", 3))], 0.0)
    rows = caller_rows(ledger.tally(1, 0.0), ["payer", "proxy", "payee"])

    assert [("bad", "payer", 20, 12), ("good", "payer", 90, 0), ("neighbour", "proxy", 3, 0)] == [
        (row.caller, row.service, row.requests, row.failed) for row in rows
    ]
    assert [("Gone", 8), ("Late", 4)] == rows[0].errors
    assert 0.6 == rows[0].share


def test_the_hop_of_an_error_is_the_one_that_raised_it():
    ledger = Ledger()
    ledger.add("payer", [window(error(5, "Away", "upstream") + error(1, "Own"))], 0.0)
    ledger.add("payee", [window(error(5, "Away"))], 0.0)

    assert [(ErrorKey("payee", "Away", "503", "own"), 5), (ErrorKey("payer", "Own", "503", "own"), 1)] == (
        hop_rows(ledger.tally(1, 0.0))
    )


def test_counters_of_another_kind_of_program_do_no_harm():
    ledger = Ledger()
    ledger.add("payer", [window("request_errors_total 3\ncaller_requests_total NaN\n")], 0.0)

    assert {ErrorKey("payer", "", "", ""): 3} == ledger.tally(1, 0.0).errors
