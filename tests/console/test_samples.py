"""Figures from two moments of a process' metrics: increases, rates, quantiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from console.collectors.samples import (
    MetricsError,
    Window,
    increase,
    increases_by,
    mean,
    parse,
    quantile,
    rate,
)


def window(before: str, after: str, seconds: float = 10.0) -> Window:
    return Window(parse(before, 0.0), parse(after, seconds))


def histogram(*observations: float, bounds=(0.1, 0.5, 1.0)) -> str:
    registry = CollectorRegistry()
    made = Histogram("d", "", ["route"], buckets=bounds, registry=registry)
    for each in observations:
        made.labels("/a").observe(each)
    return generate_latest(registry).decode()


def test_a_rate_is_the_growth_per_second():
    grown = window('x_total{a="b"} 5\n', 'x_total{a="b"} 25\n')

    assert 2.0 == rate([grown], "x_total")
    assert 20.0 == increase([grown], "x_total", a="b")
    assert 0.0 == increase([grown], "x_total", a="c")


def test_the_rates_of_replicas_add_up_however_long_their_windows_are():
    assert 3.0 == rate([window("x 0\n", "x 10\n", 10.0), window("x 0\n", "x 40\n", 20.0)], "x")


def test_without_a_window_nothing_is_known():
    assert rate([], "x") is None
    assert quantile([], "d", 0.5) is None
    assert mean([], "d") is None


def test_after_a_restart_the_whole_new_value_counts():
    assert 3.0 == increase([window("x_total 1000\n", "x_total 3\n")], "x_total")


def test_a_counter_that_is_new_counts_from_zero():
    assert 4.0 == increase([window('x{a="b"} 1\n', 'x{a="b"} 1\nx{a="c"} 4\n')], "x")


def test_increases_are_grouped_and_unwanted_ones_left_out():
    grown = window("", 'x{a="b",s="500"} 1\nx{a="c",s="500"} 2\nx{a="b",s="404"} 9\n')

    assert {"b": 1.0, "c": 2.0} == increases_by(
        [grown], "x", lambda has: has["a"] if has["s"] == "500" else None
    )


def test_a_quantile_lies_within_its_bucket_as_in_prometheus():
    found = window("", histogram(0.2, 0.2, 0.2, 0.2))

    assert 0.3 == pytest.approx(quantile([found], "d", 0.5))
    assert 0.496 == pytest.approx(quantile([found], "d", 0.99))


def test_a_quantile_beyond_the_last_bound_is_that_bound():
    assert 1.0 == quantile([window("", histogram(7.0, 8.0))], "d", 0.99)


def test_a_quantile_is_over_the_observations_between_the_two_moments_alone():
    early = [0.05] * 100
    found = window(histogram(*early), histogram(*early, 0.7))

    assert 0.5 < (quantile([found], "d", 0.5) or 0) <= 1.0


def test_the_quantile_of_replicas_is_that_of_all_their_observations():
    fast, slow = window("", histogram(*[0.05] * 99)), window("", histogram(0.7))

    assert (quantile([fast, slow], "d", 0.5) or 1) <= 0.1
    assert (quantile([fast, slow], "d", 0.999) or 0) > 0.5


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=50), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_quantiles_rise_and_lie_within_the_buckets(observations, one, other):
    found = [window("", histogram(*observations))]
    low, high = (quantile(found, "d", q) for q in sorted([one, other]))

    assert low is not None
    assert high is not None
    assert 0.0 <= low <= high <= 1.0


def test_a_mean_is_the_sum_through_the_number():
    found = [window(histogram(5.0), histogram(5.0, 0.2, 0.4))]

    assert 0.3 == pytest.approx(mean(found, "d"))


def test_two_labels_of_one_value_are_not_the_same():
    moment = parse('x{a="1",b="2"} 3\nx{a="2",b="1"} 4\n', 0.0)

    assert 3.0 == moment.total("x", a="1")
    assert 7.0 == moment.total("x")
    assert moment.total("x", a="9") is None


@pytest.mark.parametrize(
    "text", ["x{", "x 1 2 3 y", "\x00", 'x{a="b} 1', "<html></html>", "# TYPE x foo\nx 1"]
)
def test_a_text_in_another_format_is_one_error(text):
    with pytest.raises(MetricsError, match="not in Prometheus' text format"):
        parse(text, 0.0)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_a_value_that_is_no_number_is_left_out(value):
    found = parse(f'x_total{{a="b"}} {value}\nx_total{{a="c"}} 5\n', 0.0)

    assert 5.0 == found.total("x_total")


def test_a_missing_label_is_empty_and_a_bucket_without_a_bound_does_not_count():
    grown = window("", 'x_total 1\nd_bucket 5\nd_bucket{le="wide"} 5\n')

    assert {"": 1.0} == increases_by([grown], "x_total", lambda has: has["caller"])
    assert quantile([grown], "d", 0.5) is None
