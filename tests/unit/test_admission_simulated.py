"""A hop in simulated time: it rejects nothing after something stood still, and rejects the excess under overload."""

from itertools import product

import pytest

from support.simulated_hop import SimulatedHop, arrivals

CAPACITY = 4_000
SECONDS = 6
STALLS = (0.2, 1.0, 3.0)
LIGHT = (1, 5, 20)
"""Requests per second."""


@pytest.mark.parametrize("capacity", [CAPACITY, 60])
@pytest.mark.parametrize("what", [("still",), ("next_still",), ("still", "next_still")], ids="+".join)
def test_light_traffic_is_not_rejected_because_something_stood_still(capacity, what):
    for rate, stall, left in product(LIGHT, STALLS, [(10.0,), (1.5,), (10.0, 0.5)]):
        requests = arrivals(rate, SECONDS, left=left)
        span = [(2.0, 2.0 + stall)]
        outcome = SimulatedHop(capacity).run(requests, **dict.fromkeys(what, span))

        assert [] == outcome.rejected, (rate, stall, left)
        assert len(requests) == outcome.statuses.total()
        if left == (10.0,):
            assert {200} == set(outcome.statuses)


def test_light_traffic_is_not_rejected_on_a_machine_that_stalls_again_and_again():
    stalls = [(1 + 0.6 * number, 1.5 + 0.6 * number) for number in range(8)]
    outcome = SimulatedHop(40).run(arrivals(20, SECONDS), still=stalls, next_still=stalls)

    assert max(outcome.seconds) > 1
    assert {200} == set(outcome.statuses)


@pytest.mark.parametrize("capacity", [200, 1_000, CAPACITY])
@pytest.mark.parametrize("times", [2, 3])
def test_overload_is_rejected_early_and_the_rest_is_answered_in_time(capacity, times):
    requests = arrivals(capacity / 8, 1) + arrivals(times * capacity, SECONDS, begin=1)
    outcome = SimulatedHop(capacity).run(requests)
    first, _ = outcome.rejected[0]

    assert {200, 503} == set(outcome.statuses)
    assert len(requests) == outcome.statuses.total()
    assert first < 2 + 0.5 / (times - 1)
    assert outcome.statuses[200] > 0.98 * capacity * SECONDS
    assert 0.5 > max(outcome.seconds[-capacity:])


def test_under_overload_the_requests_that_are_admitted_make_their_deadlines():
    """Half of the callers wait for 0.3 s only: less than the queue of the others takes."""
    requests = arrivals(CAPACITY / 8, 1) + arrivals(2 * CAPACITY, 4, begin=1, left=(10.0, 0.3))
    outcome = SimulatedHop(CAPACITY).run(requests)

    assert outcome.statuses[504] < 0.03 * len(requests)
    assert outcome.statuses[200] > 0.95 * CAPACITY * 4


def test_a_hop_that_can_hardly_read_all_requests_still_answers():
    """Each request has waited unread for longer than the maximum wait, so none of them is better than another."""
    requests = arrivals(12_000, 3)
    outcome = SimulatedHop(CAPACITY, read_per_step=10).run(requests)

    assert len(requests) == outcome.statuses.total()
    assert outcome.statuses[200] > 0.9 * CAPACITY * 3
    assert outcome.seconds[-1] > 0.5


def test_overload_ends_when_the_queue_is_empty():
    again = arrivals(20, 2, begin=4)
    hop = SimulatedHop(CAPACITY)
    outcome = hop.run(arrivals(2 * CAPACITY, 2) + again)
    last, _ = outcome.rejected[-1]

    assert last < 2.1
    assert not hop.monitor.is_overloaded
