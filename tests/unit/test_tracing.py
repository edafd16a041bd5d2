"""Trace ids (chassis.tracing)."""

import re

import pytest

from chassis.tracing import trace_id_from

A_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


@pytest.mark.parametrize("trace_id", ["a", "A-Za-z0-9._", "x" * 64])
def test_a_valid_trace_id_of_the_caller_is_kept(trace_id):
    assert trace_id == trace_id_from(trace_id)


@pytest.mark.parametrize("header", [None, "", "x" * 65, "a, b", "a, a", "a b", "a\n", "ä", "٣"])
def test_any_other_trace_id_is_replaced_by_a_uuid(header):
    assert A_UUID.match(trace_id_from(header))


def test_new_trace_ids_are_different():
    assert 1_000 == len({trace_id_from(None) for _ in range(1_000)})
