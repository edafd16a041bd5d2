"""Counts of requests (chassis.metrics)."""

import pytest

from chassis.metrics import MAX_RECENT, RequestMetrics


@pytest.fixture
def metrics() -> RequestMetrics:
    return RequestMetrics()


def test_requests_are_counted_by_method_route_and_status(metrics):
    for status in (200, 200, 404):
        metrics.count((None, "GET", "/r", status, None, False), 0.02, 0.0)

    count = metrics.registry.get_sample_value
    assert 2 == count("requests_total", {"method": "GET", "route": "/r", "status": "200"})
    assert 1 == count("requests_total", {"method": "GET", "route": "/r", "status": "404"})


def test_durations_are_counted_in_cumulative_buckets(metrics):
    for seconds in (0.001, 0.02, 61):
        metrics.count((None, "GET", "/r", 200, None, False), seconds, 0.0)

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
    metrics.count((None, "GET", "/r", 410, sent, origin == "upstream"), 0.1, 0.0)

    labels = {"method": "GET", "route": "/r", "status": "410", "error": label, "origin": origin}
    assert 1 == metrics.registry.get_sample_value("request_errors_total", labels)


def test_each_of_many_requests_is_counted_once_for_its_operation_and_for_its_caller(metrics):
    for number in range(MAX_RECENT + 1):
        metrics.count((f"caller-{number % 2}", "GET", "/r", 200, None, False), 0.02, 0.001)

    count = metrics.registry.get_sample_value
    for _ in range(2):  # reading the counts does not change them
        assert MAX_RECENT + 1 == count("requests_total", {"method": "GET", "route": "/r", "status": "200"})
        assert MAX_RECENT // 2 + 1 == count("caller_requests_total", {"caller": "caller-0"})
        assert MAX_RECENT + 1 == count("request_wait_seconds_count")


def test_every_reason_to_reject_a_request_has_a_counter_from_the_start(metrics):
    count = metrics.registry.get_sample_value

    assert [0, 0, 0, 0] == [
        count("requests_rejected_total", {"reason": reason})
        for reason in ("overload", "queue_full", "capacity", "shutdown")
    ]


def test_no_metric_says_when_a_counter_was_created(metrics):
    metrics.count((None, "GET", "/r", 200, None, False), 0.02, 0.0)

    assert not [
        sample.name
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name.endswith("_created")
    ]
