"""`make bench-events`: lags, rates and targets, and the events that end a run."""

import json
from dataclasses import replace

import pytest

from benchmarks import delivery_services, events, strategy_engine
from benchmarks.delivery_services import Attempt
from benchmarks.errors import BenchmarkError
from benchmarks.events import EventsRound, Lag

AT = "2026-11-21T00:00:00.250Z"
ENTRY = {"at": AT, "status": 200, "durationMs": 500}


def row(state="DELIVERED", log=(ENTRY,)):
    return {"position": "run-1", "state": state, "log": json.dumps(log)}


def lag(p99_ms=80.0):
    return Lag(offered=100.0, p50_ms=10.0, p99_ms=p99_ms, max_late_ms=1.0)


def measured(**changed):
    one = EventsRound(
        ceiling={1: 400.0, 1_000: 2_000.0},
        drained={1: 600.0, 1_000: 1_000.0},
        lag={1: lag(), 1_000: lag()},
        all_alive=lag(50.0),
        one_dead=lag(52.0),
        others_share=0.25,
    )
    return replace(one, **changed)


def test_an_event_that_was_delivered_once_becomes_an_attempt_with_begin_and_end():
    attempt = delivery_services.delivered(row())

    assert ("run-1", 0.5) == (attempt.position, round(attempt.ended - attempt.began, 3))


@pytest.mark.parametrize(
    "found",
    [row("EXPIRED"), row(log=()), row(log=(ENTRY, ENTRY)), row(log=({**ENTRY, "status": 204},))],
    ids=["expired", "no attempt", "twice", "another status"],
)
def test_any_other_event_ends_the_run(found):
    with pytest.raises(BenchmarkError, match="run-1"):
        delivery_services.delivered(found)


def test_a_lag_is_the_time_from_when_the_call_was_due_to_the_end_of_the_response():
    due = {str(number): 100.0 for number in range(200)}
    attempts = [Attempt(str(number), 100.0, 100.0 + number / 1e3) for number in range(200)]
    samples = events.LagSamples([events.lags_ms(due, attempts)], max_late_ms=3.0)

    assert Lag(50.0, 99.5, 198.0, 3.0) == samples.lag(strategy_engine.SignalSchedule(50, 1.0))


def test_one_slow_stretch_of_several_does_not_change_the_lag():
    samples = events.LagSamples([[10.0] * 100, [900.0] * 100, [12.0] * 100])

    assert (12.0, 12.0) == (
        samples.lag(strategy_engine.SignalSchedule(50, 1.0)).p50_ms,
        samples.lag(strategy_engine.SignalSchedule(50, 1.0)).p99_ms,
    )


def test_a_rate_is_taken_from_the_first_request_to_the_last_response():
    attempts = [Attempt("a", 10.0, 10.5), Attempt("b", 10.25, 12.0)]

    assert 1.0 == events.rate(attempts)


def test_signals_are_due_at_equal_intervals():
    assert [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)] == list(strategy_engine.SignalSchedule(4, 1.0).times())


def test_each_target_is_compared_with_the_median_of_the_rounds():
    rounds = [measured(), measured(drained={1: 300.0, 1_000: 1_600.0}), measured()]

    assert [False, True, True, True] == [one.is_met for one in events.outcomes(rounds)]


def test_the_target_is_missed_if_a_dead_endpoint_slows_the_others():
    assert not events.outcomes([measured(one_dead=lag(66.0))])[-1].is_met


def test_a_few_milliseconds_between_two_short_lags_are_tolerated():
    assert events.outcomes([measured(all_alive=lag(10.0), one_dead=lag(19.0))])[-1].is_met


def test_a_plain_post_has_the_same_body_as_a_delivery():
    body = json.loads(strategy_engine.event("gold", "position-1"))
    event = body["v1"]["event"]

    assert "SIGNAL_REOPEN" == event["type"]
    assert ("gold", "position-1") == (event["data"]["strategy"]["id"], event["data"]["proquantPositionId"])
