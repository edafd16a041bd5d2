"""Waterfalls from spans and log lines: order, depth, clocks that differ, hops that are missing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.logs import iso_time
from console.traces.log_line import parse_line
from console.traces.span import Span
from console.traces.timeline import CALLED_BY, timeline

MS = 1_000_000
START = 1_790_000_000_000 * MS
CHAIN = (
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
)


def span(service, start_ms, duration_ms, *, id_=None, parent=None, error=None) -> Span:
    attributes = {"http.response.status_code": 503, "error.type": error} if error else {}
    return Span(
        "t" * 32,
        id_ or service,
        parent,
        service,
        f"POST at {service}",
        START + round(start_ms * MS),
        round(duration_ms * MS),
        error is not None,
        attributes,
    )


def line(service, end_ms, duration_ms=None, **fields):
    request = {} if duration_ms is None else {"event": "request", "duration_ms": duration_ms}
    at = iso_time((START + end_ms * MS) / 1e9)
    members = {"time": at, "service": service, "event": "event", "traceId": "t", **request, **fields}
    found = parse_line(service, json.dumps(members).encode())
    assert found is not None
    return found


def chain_of_spans(*, shift_ms=0.0, shifted=(), error_from=None) -> list[Span]:
    """Return a span for each hop of one request, with clocks that are ahead at some services."""
    spans, failing = [], error_from is not None
    for depth, service in enumerate(CHAIN):
        ahead = shift_ms if service in shifted else 0
        parent = CHAIN[depth - 1] if depth else None
        error = "UnavailableError" if failing else None
        spans.append(span(service, depth + ahead, 20 - 2 * depth, parent=parent, error=error))
        failing = failing and service != error_from
    return spans


def shape(found):
    return [[(row.service, row.depth) for row in waterfall.rows] for waterfall in found.waterfalls]


IN_ORDER = [(service, depth) for depth, service in enumerate(CHAIN)]


def test_each_hop_is_below_its_caller():
    found = timeline(list(reversed(chain_of_spans())), [])

    assert [IN_ORDER] == shape(found)
    (waterfall,) = found.waterfalls
    assert [0, 0.05, 0.1] == [row.offset for row in waterfall.rows[:3]]
    assert [1, 0.9, 0.8] == [row.width for row in waterfall.rows[:3]]
    assert (START, 20 * MS) == (waterfall.start_ns, waterfall.duration_ns)


@pytest.mark.parametrize("shift_ms", [-3_600_000, -40, 40, 3_600_000])
def test_a_clock_that_differs_moves_a_hop_and_all_below_it_into_its_caller(shift_ms):
    found = timeline(chain_of_spans(shift_ms=shift_ms, shifted=CHAIN[3:]), [])

    assert [IN_ORDER] == shape(found)
    rows = found.waterfalls[0].rows
    assert [0, 0, 0] == [row.shift_ns for row in rows[:3]]
    assert all(abs(row.shift_ns + shift_ms * MS) <= 2 * MS for row in rows[3:])
    assert 20 * MS == found.waterfalls[0].duration_ns


def test_a_hop_that_works_on_after_its_caller_gave_up_is_not_moved():
    spans = [
        span("dfsp-api-payer", 0, 10, error="UpstreamTimeoutError"),
        span("spsp-client-proxy", 2, 50, parent="dfsp-api-payer"),
    ]
    rows = timeline(spans, []).waterfalls[0].rows

    assert [0, 0] == [row.shift_ns for row in rows]
    assert pytest.approx([0, 2 / 52]) == [row.offset for row in rows]


def test_a_hop_whose_span_is_missing_is_made_of_its_log_line():
    spans = [each for each in chain_of_spans() if each.service != "spsp-client"]
    lines = [line("spsp-client", 18, 16.0, method="POST", path="/v1/quoteSourceAmount", status=200)]
    found = timeline(spans, lines)

    assert [IN_ORDER[:3]] == [sorted(shape(found)[0], key=lambda row: row[1])[:3]]
    row = next(row for row in found.waterfalls[0].rows if row.service == "spsp-client")
    assert row.span is None
    assert ("POST /v1/quoteSourceAmount", 200, 16 * MS) == (row.name, row.status, row.duration_ns)


def test_a_hop_whose_caller_is_missing_says_so_and_stays_below_the_nearest_one():
    spans = [each for each in chain_of_spans() if each.service != "spsp-client"]
    alone = [span("spsp-server", 0, 5, parent="lost")]

    assert ("spsp-server", 2) in shape(timeline(spans, []))[0]
    assert timeline(alone, []).waterfalls[0].rows[0].lacks_caller


def test_the_first_hop_lacks_no_caller_although_its_span_has_a_parent():
    assert (
        not timeline([span("dfsp-api-payer", 0, 5, parent="theirs")], []).waterfalls[0].rows[0].lacks_caller
    )


def test_a_trace_without_spans_has_a_waterfall_of_log_lines():
    directory = line("central-directory", 4, 1.0, method="GET", path="/resources", status=200)
    lines = [
        line(service, 20 - depth, 20.0 - 2 * depth, method="POST", path="/", status=200)
        for depth, service in enumerate(CHAIN)
    ]
    found = timeline([], [*lines, directory])

    rows = [("dfsp-api-payer", 0), ("spsp-client-proxy", 1), ("spsp-client", 2), ("spsp-server", 3)]
    rest = [("spsp-server-backend", 4), ("dfsp-api", 5)]
    assert [*rows, *rest, ("central-directory", 2)] == shape(found)[0]
    assert 0 == found.waterfalls[0].span_count


def test_two_requests_of_a_trace_have_a_waterfall_each():
    again = [
        Span(**{**_members(each), "span_id": f"{each.span_id}-2", "start_ns": each.start_ns + 90_000 * MS})
        for each in chain_of_spans()
    ]
    again = [
        Span(**{**_members(each), "parent_id": each.parent_id and f"{each.parent_id}-2"}) for each in again
    ]
    found = timeline([*again, *chain_of_spans()], [line("dfsp-api-payer", 90_020, 20.0)])

    assert [IN_ORDER, IN_ORDER] == shape(found)
    assert [0, 1] == [len(waterfall.rows[0].lines) for waterfall in found.waterfalls]


def _members(of: Span) -> dict[str, object]:
    return {name: getattr(of, name) for name in Span.__slots__}


@pytest.mark.parametrize("hop", CHAIN)
def test_the_hop_where_the_error_began_is_marked(hop):
    waterfall = timeline(chain_of_spans(error_from=hop), []).waterfalls[0]

    assert waterfall.first_error is not None
    assert (hop, "UnavailableError") == (waterfall.first_error.service, waterfall.first_error.error_id)
    assert 1 == sum(row.is_first_error for row in waterfall.rows)


def test_log_lines_belong_to_the_request_of_their_service():
    request = line("dfsp-api", 15, 10.0, status=200)
    event = line("dfsp-api", 8, event="the database is away")
    later = line("dfsp-api", 5_000, event="much later")
    found = timeline(chain_of_spans(), [later, request, event])

    assert [(), (), (), (), (), (event, request)] == [row.lines for row in found.waterfalls[0].rows]
    assert (later,) == found.other_lines


def test_a_log_line_of_a_service_with_another_clock_belongs_to_its_span():
    spans = chain_of_spans(shift_ms=60_000, shifted=("dfsp-api",))
    event = line("dfsp-api", 60_008, event="the database is away")

    assert (event,) == timeline(spans, [event]).waterfalls[0].rows[-1].lines


def test_an_empty_trace_has_no_waterfall():
    assert () == timeline([], []).waterfalls


SERVICES = st.sampled_from([*CALLED_BY, "dfsp-api-payer", "integrations"])
IDS = st.sampled_from("abcdef")
SPANS = st.builds(
    span,
    SERVICES,
    st.integers(0, 5_000),
    st.integers(0, 3_000),
    id_=IDS,
    parent=st.none() | IDS,
    error=st.sampled_from([None, "UnavailableError"]),
)
LINES = st.builds(line, SERVICES, st.integers(0, 8_000), st.none() | st.integers(0, 3_000))


@given(st.lists(SPANS, max_size=25), st.lists(LINES, max_size=25))
def test_whatever_arrives_each_span_is_in_one_row_and_each_line_in_one_place(spans, lines):
    """Ids may repeat and parents may form rings, as spans come from other processes."""
    found = timeline(spans, lines)
    rows = [row for waterfall in found.waterfalls for row in waterfall.rows]

    assert sorted(map(id, spans)) == sorted(id(row.span) for row in rows if row.span is not None)
    shown = [each for row in rows for each in row.lines] + list(found.other_lines)
    assert sorted(map(id, lines)) == sorted(map(id, shown))
    for waterfall in found.waterfalls:
        assert 0 == waterfall.rows[0].depth
        assert sum(row.is_first_error for row in waterfall.rows) == any(
            row.is_error for row in waterfall.rows
        )
        for before, row in zip(waterfall.rows, waterfall.rows[1:], strict=False):
            assert 0 <= row.depth <= before.depth + 1
        for row in waterfall.rows:
            assert 0 <= row.offset <= 1
            assert 0 <= row.width <= 1
            assert row.offset + row.width <= 1 + 1e-9
    starts = [waterfall.start_ns for waterfall in found.waterfalls]
    assert sorted(starts) == starts
