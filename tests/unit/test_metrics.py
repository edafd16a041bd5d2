"""Counts of requests (chassis.metrics)."""

import pytest

from chassis.metrics import RequestMetrics


@pytest.fixture
def metrics() -> RequestMetrics:
    return RequestMetrics()


def test_requests_are_counted_by_method_route_and_status(metrics):
    for status in (200, 200, 404):
        metrics.count("GET", "/r", status, 0.02, None, is_upstream=False)

    count = metrics.registry.get_sample_value
    assert 2 == count("requests_total", {"method": "GET", "route": "/r", "status": "200"})
    assert 1 == count("requests_total", {"method": "GET", "route": "/r", "status": "404"})


def test_durations_are_counted_in_cumulative_buckets(metrics):
    for seconds in (0.001, 0.02, 61):
        metrics.count("GET", "/r", 200, seconds, None, is_upstream=False)

    count, operation = metrics.registry.get_sample_value, {"method": "GET", "route": "/r"}
    assert 3 == count("request_duration_seconds_count", operation)
    assert 61.021 == count("request_duration_seconds_sum", operation)
    assert [1, 1, 2, 2, 3] == [
        count("request_duration_seconds_bucket", {**operation, "le": bound})
        for bound in ("0.001", "0.01", "0.025", "60.0", "+Inf")
    ]


@pytest.mark.parametrize(
    ("sent", "label"),
    [
        ("QuoteExpiredError", "QuoteExpiredError"),
        ("QuotingError", "QuotingError"),
        ("InsufficientFunds", "InsufficientFunds"),
        ("AnythingThatAPeerSends", "other"),
        ("", "other"),
    ],
)
@pytest.mark.parametrize("origin", ["own", "upstream"])
def test_errors_are_counted_by_known_ids_and_by_the_hop_that_raised_them(metrics, sent, label, origin):
    metrics.know_errors(["InsufficientFunds"])
    metrics.count("GET", "/r", 410, 0.1, sent, is_upstream=origin == "upstream")

    labels = {"method": "GET", "route": "/r", "status": "410", "error": label, "origin": origin}
    assert 1 == metrics.registry.get_sample_value("request_errors_total", labels)


def test_every_reason_to_reject_a_request_has_a_counter_from_the_start(metrics):
    count = metrics.registry.get_sample_value

    assert [0, 0, 0, 0] == [
        count("requests_rejected_total", {"reason": reason})
        for reason in ("overload", "queue_full", "capacity", "shutdown")
    ]


def test_no_metric_says_when_a_counter_was_created(metrics):
    metrics.count("GET", "/r", 200, 0.02, None, is_upstream=False)

    assert not [
        sample.name
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name.endswith("_created")
    ]
