"""Counts of requests (chassis.metrics)."""

from chassis.metrics import RequestMetrics


def test_requests_are_counted_by_method_route_and_status():
    metrics = RequestMetrics()
    for status in (200, 200, 404):
        metrics.count("GET", "/r", status, 0.02)

    count = metrics.registry.get_sample_value
    assert 2 == count("requests_total", {"method": "GET", "route": "/r", "status": "200"})
    assert 1 == count("requests_total", {"method": "GET", "route": "/r", "status": "404"})


def test_durations_are_counted_in_cumulative_buckets():
    metrics = RequestMetrics()
    for seconds in (0.001, 0.02, 61):
        metrics.count("GET", "/r", 200, seconds)

    count = metrics.registry.get_sample_value
    assert 3 == count("request_duration_seconds_count", {"route": "/r"})
    assert 61.021 == count("request_duration_seconds_sum", {"route": "/r"})
    assert [1, 1, 2, 2, 3] == [
        count("request_duration_seconds_bucket", {"route": "/r", "le": bound})
        for bound in ("0.001", "0.01", "0.025", "60.0", "+Inf")
    ]
