"""Whether Postgres is the bottleneck."""

import dataclasses

import pytest

from console.verdict import PoolFigures, judge

CALM = PoolFigures(
    service="dfsp-api",
    largest=16,
    in_use=1,
    idle=3,
    busy=0.3,
    waiting=0,
    wait_p99_seconds=0.001,
    statement_mean_seconds=0.002,
    statement_p99_seconds=0.009,
    request_mean_seconds=0.014,
    request_p99_seconds=0.03,
)


def test_no_says_what_the_figures_are():
    verdict = judge(CALM, is_ready=True)

    assert verdict.is_bottleneck is False
    assert (
        "No: 0.3 of 16 connections are busy on average, statements wait 1 ms for one (p99), and a statement takes 2 ms"
        " (mean; p99 9 ms), and a request takes 14.0 ms." == verdict.sentence
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"busy": 13.0}, "13.0 of 16 connections are busy"),
        ({"wait_p99_seconds": 0.2}, "statements wait up to 200 ms for a connection"),
        (
            {"statement_mean_seconds": 0.4, "request_mean_seconds": 0.5},
            "a statement takes 400 ms of the 500 ms",
        ),
    ],
)
def test_yes_says_why(change, why):
    verdict = judge(dataclasses.replace(CALM, **change), is_ready=True)

    assert verdict.is_bottleneck is True
    assert verdict.sentence.startswith("Yes: ")
    assert why in verdict.sentence


@pytest.mark.parametrize(
    "change",
    [
        {"statement_mean_seconds": 0.4, "request_mean_seconds": 5.0},
        {"statement_mean_seconds": 0.004, "request_mean_seconds": 0.005},
        {"busy": None, "wait_p99_seconds": None, "request_mean_seconds": None},
    ],
)
def test_a_quick_statement_or_a_small_part_of_a_request_is_no_bottleneck(change):
    assert judge(dataclasses.replace(CALM, **change), is_ready=True).is_bottleneck is False


def test_a_database_that_is_away_is_one_and_without_statements_it_is_not_known():
    idle = dataclasses.replace(CALM, statement_mean_seconds=None)

    assert judge(idle, is_ready=False).is_bottleneck is True
    assert judge(idle, is_ready=True).is_bottleneck is None
