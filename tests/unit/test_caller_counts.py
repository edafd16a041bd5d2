"""The list of the callers with the most requests (chassis.caller_counts)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from chassis.caller_counts import MAX_LISTED, MAX_NOTED, TURN_SECONDS, CallerCounts


class Turns:
    """Counts by caller, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.counts = CallerCounts(clock=lambda: self.now)
        self.registry = CollectorRegistry()
        self.registry.register(self.counts)

    def count(self, *callers: str, error: str | None = None) -> None:
        for caller in callers:
            self.counts.count(caller, error)

    def end(self) -> None:
        """Let a turn pass: the next request of a caller that is not listed changes the list."""
        self.now += TURN_SECONDS

    def requests(self, caller: str) -> float | None:
        return self.registry.get_sample_value("caller_requests_total", {"caller": caller})

    @property
    def all_requests(self) -> dict[str, float]:
        return {
            sample.labels["caller"]: sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "caller_requests_total"
        }


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def full(turns) -> Turns:
    """A full list: each of its callers has sent two requests."""
    turns.count(*names("listed", MAX_LISTED), *names("listed", MAX_LISTED))
    return turns


def names(prefix: str, number: int) -> list[str]:
    return [f"{prefix}-{position}" for position in range(number)]


def test_the_first_hundred_callers_are_listed_and_all_others_are_counted_together(full):
    full.count("late", "later", "late")

    assert (2, None, 3) == (full.requests("listed-99"), full.requests("late"), full.requests("other"))


def test_errors_are_counted_by_caller_and_id(full):
    full.count("listed-1", "late", error="QuoteExpiredError")
    count = full.registry.get_sample_value

    assert 1 == count("caller_errors_total", {"caller": "listed-1", "error": "QuoteExpiredError"})
    assert 1 == count("caller_errors_total", {"caller": "other", "error": "QuoteExpiredError"})
    assert 3 == full.requests("listed-1")


def test_a_busy_caller_takes_the_place_of_the_quietest_one_after_a_minute(full):
    full.count(*names("listed", 99))  # listed-99 has fewer requests than the others
    full.count(*["late"] * 20)
    assert full.requests("late") is None

    full.end()
    full.count("late")

    assert (1, None) == (full.requests("late"), full.requests("listed-99"))
    assert 20 == full.requests(
        "other"
    )  # it keeps its own count, and does not get the count of the caller that left


def test_a_caller_takes_no_place_without_twice_the_requests_of_its_owner(full):
    full.count(*["late"] * 4)  # the listed ones have two requests each
    full.end()
    full.count("late")

    assert (None, 5) == (full.requests("late"), full.requests("other"))


def test_requests_of_earlier_minutes_do_not_keep_a_place(full):
    full.count(*names("listed", MAX_LISTED) * 10)
    full.end()
    full.count("late")
    full.count(*["late"] * 9)
    full.end()
    full.count("late")

    assert 1 == full.requests("late")


def test_a_caller_that_returns_starts_again_at_zero(full):
    full.count(*names("listed", 99))
    full.count(*["late"] * 20)
    full.end()
    full.count("late", *["listed-99"] * 50)
    full.end()
    full.count("listed-99")

    assert 1 == full.requests("listed-99")


def test_a_caller_with_the_name_other_is_counted_with_the_others(turns):
    turns.count("other", "one")

    assert {"other": 1, "one": 1} == turns.all_requests


def test_without_places_in_the_list_no_caller_is_named():
    counts = CallerCounts(0)
    registry = CollectorRegistry()
    registry.register(counts)
    counts.count("one", "QuoteExpiredError")

    assert 1 == registry.get_sample_value("caller_requests_total", {"caller": "other"})
    assert registry.get_sample_value("caller_requests_total", {"caller": "one"}) is None


def test_names_are_cut(turns):
    turns.count("n" * 1_000, "n" * 64)

    assert {"n" * 64: 2, "other": 0} == turns.all_requests


def test_a_busy_caller_enters_the_list_among_any_number_of_others(full):
    for number in range(3 * MAX_NOTED):
        full.count(f"once-{number}", *["busy"] * (number % 3 == 0))
    full.end()
    full.count("busy")

    assert 1 == full.requests("busy")


@given(st.lists(st.tuples(st.integers(0, 130), st.sampled_from([1, 5, 40]), st.booleans()), max_size=40))
def test_no_count_decreases_while_it_is_listed_and_each_request_is_counted_once(steps):
    turns = Turns()
    turns.count(*names("caller", MAX_LISTED))
    before = turns.all_requests
    for number, requests, ends_turn in steps:
        if ends_turn:
            turns.end()
        turns.count(*[f"caller-{number}"] * requests)
        now = turns.all_requests

        increases = [value - before.get(name, 0) for name, value in now.items()]
        assert min(increases) >= 0
        assert sum(increases) == requests
        assert len(now) <= MAX_LISTED + 1
        before = now
