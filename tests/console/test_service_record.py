"""The record of a service: figures of the last seconds, points of the last hour, replicas that come and go."""

import pytest

from console.collectors.look import Health
from console.collectors.service_record import MAX_POINTS, QUANTILE_SECONDS, ServiceRecord
from console.views.now import last_hour
from support.samples import REPLICA, look, record

OTHER = "http://10.0.0.2"


def requests(count: int, status: str = "200") -> str:
    return f'requests_total{{method="GET",route="/",status="{status}"}} {count}\n'


def test_figures_are_rates_over_the_last_seconds():
    figures = record(
        requests(0) + requests(0, "503"), requests(150) + requests(30, "503"), every=15.0
    ).figures()

    assert figures is not None
    assert (12.0, 2.0, 0.0) == (figures.rate, figures.error_rate, figures.refusal_rate)
    assert 15.0 == figures.at


def test_before_the_second_look_no_rate_is_known():
    figures = record(requests(5)).figures()

    assert figures is not None
    assert figures.rate is None


def test_a_service_that_has_never_answered_has_no_figures():
    made = ServiceRecord("dfsp-api", REPLICA)
    made.add([look(None, health=Health.AWAY)])

    assert made.figures() is None
    assert Health.AWAY is made.health


def test_the_figures_of_a_frozen_service_keep_their_age():
    made = record(requests(0), requests(10))
    made.add([look(None, 60.0, health=Health.FROZEN)])
    figures = made.figures()

    assert figures is not None
    assert (10.0, 1.0) == (figures.at, figures.rate)


def test_replicas_add_up_and_the_worst_one_decides_the_state():
    made = ServiceRecord("dfsp-api", REPLICA)
    for at, count in ((0.0, 0), (10.0, 50)):
        made.add([look(requests(count), at), look(requests(count), at, replica=OTHER)])
    figures = made.figures()
    made.add([look(requests(50), 20.0), look(None, 20.0, replica=OTHER, health=Health.AWAY)])

    assert figures is not None
    assert 10.0 == figures.rate
    assert Health.AWAY is made.health


def test_a_replica_whose_address_is_gone_is_forgotten():
    made = ServiceRecord("dfsp-api", REPLICA)
    made.add([look(requests(0)), look(None, replica=OTHER, health=Health.AWAY)])
    made.add([look(requests(0), 2.0)])

    assert [REPLICA] == [each.replica for each in made.looks]
    assert Health.READY is made.health


def test_metrics_are_kept_for_a_minute_however_often_they_come():
    made = ServiceRecord("dfsp-api", REPLICA)
    for second in range(0, 1_000, 2):
        made.add([look(requests(second), float(second))])
    (window,) = made.windows(QUANTILE_SECONDS)

    assert QUANTILE_SECONDS <= window.seconds <= QUANTILE_SECONDS + 10
    assert len(made._replicas[REPLICA].kept) < 20
    assert [1.0] == [each.seconds / 2 for each in made.last_windows()]


def test_a_window_has_at_least_the_length_that_is_wanted_if_the_console_has_looked_for_so_long():
    made = record(*map(requests, range(20)), every=2.0)

    assert all(15.0 <= each.seconds < 22.0 for each in made.windows(15.0))


def test_points_of_an_hour_are_kept_and_gaps_are_unknown():
    made = ServiceRecord("dfsp-api", REPLICA)
    for index in range(MAX_POINTS + 10):
        made.add([look(requests(index * 20), index * 10.0)])
        made.add_point(index * 10.0)
    made.add([look(None, 10_000.0, health=Health.FROZEN)])
    made.add_point(10_000.0)

    assert MAX_POINTS == len(made.points)
    assert (2.0, None) == (made.points[-2].rate, made.points[-1].rate)


def test_after_a_gap_the_requests_of_the_gap_count_over_its_length():
    made = record(requests(0))
    made.add_point(0.0)
    made.add([look(None, 10.0, health=Health.FROZEN)])
    made.add_point(10.0)
    made.add([look(requests(100), 20.0)])
    made.add_point(20.0)

    assert [None, None, 5.0] == [each.rate for each in made.points]


def test_the_line_of_the_last_hour_ends_with_the_newest_points():
    line = last_hour([1.0, 5.0, 2.0, None, 4.0, None])

    assert [None, 5.0, 4.0] == line[-3:]
    assert 120 == len(line)
    assert {None} == set(line[:-2])


@pytest.mark.parametrize(("name", "expected"), [("g", 3.0), ("h", None)])
def test_gauges_add_up_or_the_highest_counts(name, expected):
    made = ServiceRecord("dfsp-api", REPLICA)
    made.add([look("g 1\n"), look("g 2\n", replica=OTHER)])

    assert expected == made.gauge(name)
    assert (2.0 if expected else None) == made.highest(name)
