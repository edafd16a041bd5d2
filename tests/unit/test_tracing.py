"""Trace ids and the place of a request in its trace (chassis.tracing)."""

import hashlib
import re
import uuid

import pytest

from chassis.tracing import Sampler, batch_context, is_traceparent, trace_id_from, w3c_trace_id

GIVEN = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"

A_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


@pytest.mark.parametrize("trace_id", ["a", "A-Za-z0-9._", "x" * 64])
def test_a_valid_trace_id_of_the_caller_is_kept(trace_id):
    assert trace_id == trace_id_from(trace_id)


@pytest.mark.parametrize("header", [None, "", "x" * 65, "a, b", "a, a", "a b", "a\n", "ä", "٣"])
def test_any_other_trace_id_is_replaced_by_a_uuid(header):
    assert A_UUID.match(trace_id_from(header))


def test_new_trace_ids_are_different():
    assert 1_000 == len({trace_id_from(None) for _ in range(1_000)})


@pytest.mark.parametrize(
    "header",
    [
        f"00-{GIVEN}-{PARENT}-01",
        f"00-{GIVEN}-{PARENT}-ff",
        f"cc-{GIVEN}-{PARENT}-00",
        f"cc-{GIVEN}-{PARENT}-00-what-the-future-brings",
    ],
)
def test_a_valid_traceparent(header):
    assert is_traceparent(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{GIVEN}-{PARENT}",
        f"00-{GIVEN}-{PARENT}-01-more",
        f"ff-{GIVEN}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{GIVEN}-{'0' * 16}-01",
        f"00-{GIVEN.upper()}-{PARENT}-01",
        f"00-{GIVEN}-{PARENT}-01, 00-{GIVEN}-{PARENT}-01",
        f"00-{GIVEN}-{PARENT}-01\n",
        f"cc-{GIVEN}-{PARENT}-01-\r\nX: y",
    ],
)
def test_a_traceparent_that_w3c_calls_invalid(header):
    assert not is_traceparent(header)


def test_the_w3c_trace_id_has_the_digits_of_a_uuid_or_those_of_a_hash():
    made = uuid.uuid4()

    assert made.hex == w3c_trace_id(str(made)) == w3c_trace_id(str(made).upper())
    for other in ("a", made.hex, str(uuid.UUID(int=0)), "x" * 64):
        assert hashlib.sha256(other.encode()).hexdigest()[:32] == w3c_trace_id(other)


def test_a_hop_keeps_the_trace_and_has_a_span_of_its_own():
    begin = Sampler(0, 1).begin
    first, second = (begin(f"00-{GIVEN}-{PARENT}-00", "t") for _ in range(2))

    assert (GIVEN, PARENT, False) == (first.trace_id, first.parent_id, first.is_sampled)
    assert f"00-{GIVEN}-{first.span_id}-00" == first.traceparent
    assert is_traceparent(first.traceparent)
    assert 3 == len({PARENT, first.span_id, second.span_id})


def test_a_first_hop_begins_a_trace():
    begun = Sampler(0, 1).begin("none of it", str(uuid.UUID(GIVEN)))

    assert (GIVEN, None) == (begun.trace_id, begun.parent_id)
    assert is_traceparent(begun.traceparent)


@pytest.mark.parametrize(
    ("given", "passed_on", "is_sampled"),
    [("00", "00", False), ("01", "01", True), ("02", "02", False), ("03", "03", True), ("fd", "01", True)],
)
def test_only_the_flags_that_w3c_defines_are_passed_on(given, passed_on, is_sampled):
    begun = Sampler(0, 1).begin(f"00-{GIVEN}-{PARENT}-{given}", "t")

    assert (passed_on, is_sampled) == (begun.traceparent[-2:], begun.is_sampled)


@pytest.mark.parametrize("given", ["00", "02"])
def test_a_request_in_the_ratio_gets_the_flag(given):
    begun = Sampler(1, 1).begin(f"00-{GIVEN}-{PARENT}-{given}", "t")

    assert (f"0{int(given) + 1}", True) == (begun.traceparent[-2:], begun.is_sampled)


@pytest.mark.parametrize("ratio", [0, 0.01, 0.3, 1])
def test_the_ratio_holds_for_new_trace_ids_and_for_random_uuids(ratio):
    begin = Sampler(ratio, 1).begin
    for new in (lambda: trace_id_from(None), lambda: str(uuid.uuid4())):
        sampled = sum(begin(None, new()).is_sampled for _ in range(10_000))

        # ten standard deviations: no run is that unlucky
        assert abs(sampled - 10_000 * ratio) <= 10 * (10_000 * ratio * (1 - ratio)) ** 0.5


def test_under_high_load_the_ratio_is_lowered_and_afterwards_restored():
    sampler = Sampler(0.5, 25)
    sampler.adapt(100.0)

    def sampled() -> int:
        return sum(sampler.begin(None, trace_id_from(None)).is_sampled for _ in range(10_000))

    assert 4_500 < sampled() < 5_500
    sampler.adapt(101.0)
    assert sampled() < 100
    sampler.adapt(1_000_000.0)
    assert 4_500 < sampled() < 5_500


def test_a_batch_begins_a_trace():
    first, second = batch_context(), batch_context()

    assert first.trace_id != second.trace_id
    assert (None, True) == (first.parent_id, first.is_sampled)
