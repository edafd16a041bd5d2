"""Exports of spans as OpenTelemetry's exporters send them, and all that can be wrong with them."""

import gzip
import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from chassis.errors import InvalidBodyError, PayloadTooLargeError, QuotingError, UnsupportedMediaTypeError
from console.traces.otlp import (
    JSON,
    MAX_BYTES,
    MAX_GROUPS,
    MAX_RESOURCE_ATTRIBUTES,
    MAX_SPANS,
    PROTOBUF,
    decompressed,
    media_type_of,
    read_export,
)
from console.traces.span import MAX_ATTRIBUTES
from support.otlp_exports import PARENT_ID, SENT, SPAN_ID, START, TRACE_ID, as_protobuf, sent

SENT_ATTRIBUTES = SENT["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"]
ZIPPED = gzip.compress(b"spans", mtime=0)


def read(export: dict[str, object], media_type: str = JSON):
    return read_export(json.dumps(export).encode() if media_type == JSON else as_protobuf(export), media_type)


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
def test_both_forms_of_an_export_give_the_same_span(media_type):
    (span,) = read(SENT, media_type).spans

    assert (TRACE_ID, SPAN_ID, PARENT_ID) == (span.trace_id, span.span_id, span.parent_id)
    assert ("dfsp-api", "POST /v1/quoteSourceAmount") == (span.service, span.name)
    assert (START, 12_500_000, True) == (span.start_ns, span.duration_ns, span.is_error)
    assert ("order-17", "abc", "test") == (span.l1p_trace_id, span.quote_uuid, span.caller)
    assert ("QuoteExpiredError", 410) == (span.error_id, span.status)
    assert (True, 0.5, "a") == tuple(span.attributes[key] for key in ("sampled", "share", "peers"))


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"traceId": "00" * 16}, "traceId"),
        ({"traceId": "ab"}, "traceId"),
        ({"spanId": "00" * 8}, "spanId"),
        ({"parentSpanId": "ab"}, "parentSpanId"),
        ({"startTimeUnixNano": "0"}, "startTimeUnixNano"),
        ({"endTimeUnixNano": str(START - 1)}, "endTimeUnixNano"),
        ({"endTimeUnixNano": str(START + 86_400 * 10**9 + 1)}, "a day"),
        ({"startTimeUnixNano": str(2**63 - 2), "endTimeUnixNano": str(2**63 - 1)}, "2100"),
    ],
)
def test_a_span_at_fault_is_rejected_alone(members, named, media_type):
    export = sent(**members)
    spans = export["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans.append(SENT["resourceSpans"][0]["scopeSpans"][0]["spans"][0])
    made = read(export, media_type)

    assert (1, 1) == (len(made.spans), made.rejected)
    assert named in made.reason
    if media_type == JSON:
        body = json.loads(made.response(JSON))
        assert {"rejectedSpans": "1", "errorMessage": made.reason} == body["partialSuccess"]
    else:
        response = ExportTraceServiceResponse.FromString(made.response(PROTOBUF))
        assert (1, made.reason) == (
            response.partial_success.rejected_spans,
            response.partial_success.error_message,
        )


def test_a_complete_success_has_no_partial_success():
    made = read(SENT)

    assert b"{}" == made.response(JSON)
    assert b"" == made.response(PROTOBUF)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"[]", "JSON"),
        (b'{"resourceSpans": 1}', "$.resourceSpans"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 7}]}]}]}', "traceId"),
        (b"\xff", "JSON"),
        (b'{"a":' * 100_000, "JSON"),
        (
            b'{"resourceSpans":[{"resource":{"attributes":[{"value":'
            + b'{"arrayValue":{"values":[' * 100_000,
            "JSON",
        ),
    ],
)
def test_json_that_is_no_export_is_refused_and_the_fault_named(body, named):
    with pytest.raises(InvalidBodyError) as refused:
        read_export(body, JSON)

    assert named in refused.value.faults[0].message


@pytest.mark.parametrize("body", [b"\xff\xff\xff", as_protobuf(SENT)[:-3], b"\x0a\x05{}", b"\x0b" * 1_000])
def test_bytes_that_are_no_protobuf_are_refused(body):
    with pytest.raises(InvalidBodyError) as refused:
        read_export(body, PROTOBUF)

    assert "protobuf" in refused.value.faults[0].message


@given(st.binary(max_size=200), st.sampled_from([JSON, PROTOBUF]), st.sampled_from(["", "gzip", "br"]))
def test_any_bytes_are_read_or_refused(body, media_type, encoding):
    statuses = []
    try:
        read_export(decompressed(body, encoding), media_type).response(media_type)
    except QuotingError as error:
        statuses.append(error.status)

    assert set(statuses) <= {400, 413, 415}


def test_an_export_with_too_many_spans_is_cut():
    export = sent()
    spans = export["resourceSpans"][0]["scopeSpans"][0]["spans"]
    numbers = count(1)
    export["resourceSpans"][0]["scopeSpans"][0]["spans"] = [
        {**spans[0], "attributes": [], "spanId": f"{next(numbers):016x}"} for _ in range(MAX_SPANS + 5)
    ]
    made = read(export)

    assert (MAX_SPANS, 5) == (len(made.spans), made.rejected)


def test_text_of_a_span_is_cut_and_shown_in_one_line():
    attributes = [
        {"key": f"k{number}\n{'y' * 100}", "value": {"stringValue": "\x00\u202e" + "x" * 10_000}}
        for number in range(100)
    ]
    (span,) = read(sent(name="a\x00b" + "n" * 1_000, attributes=attributes)).spans

    assert MAX_ATTRIBUTES == len(span.attributes)
    assert 128 == len(span.name)
    assert span.name.startswith("a?b")
    assert all(len(key) <= 64 and key.isprintable() for key in span.attributes)
    assert all(256 == len(value) and value.startswith("??x") for value in span.attributes.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_kept_as_text(value):
    message = ExportTraceServiceRequest.FromString(as_protobuf(SENT))
    message.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="n").value.double_value = value
    (span,) = read_export(message.SerializeToString(), PROTOBUF).spans

    assert str(value) == span.attributes["n"]


def test_gzip_is_unpacked_up_to_the_limit():
    assert b"spans" == decompressed(gzip.compress(b"spans"), "gzip")
    assert b"x" * MAX_BYTES == decompressed(gzip.compress(b"x" * MAX_BYTES), "gzip")
    with pytest.raises(PayloadTooLargeError):
        decompressed(gzip.compress(b"x" * (MAX_BYTES + 1)), "gzip")


@pytest.mark.parametrize("body", [b"", b"spans", ZIPPED[:-4], ZIPPED + b"more"])
def test_a_body_that_is_not_gzip_is_refused(body):
    with pytest.raises(InvalidBodyError) as refused:
        decompressed(body, "gzip")

    assert "gzip" in refused.value.faults[0].message


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_other_encodings_are_refused(encoding):
    with pytest.raises(UnsupportedMediaTypeError):
        decompressed(b"", encoding)


@pytest.mark.parametrize("type_", ["", "text/plain", "application/grpc", "application/x-www-form-urlencoded"])
def test_other_media_types_are_refused(type_):
    with pytest.raises(UnsupportedMediaTypeError):
        media_type_of({"content-type": type_})
    assert JSON == media_type_of({"content-type": "Application/JSON; charset=utf-8"})


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
@pytest.mark.parametrize(
    "groups",
    [
        [{"resource": {"attributes": []}, "scopeSpans": []}] * (MAX_GROUPS + 1),
        [{"resource": {"attributes": []}, "scopeSpans": [{"spans": []}] * (MAX_GROUPS + 1)}],
    ],
    ids=["resources", "scopes"],
)
def test_an_export_of_very_many_empty_groups_is_refused(groups, media_type):
    with pytest.raises(InvalidBodyError) as raised:
        read({"resourceSpans": groups}, media_type)

    assert "groups of spans" in raised.value.faults[0].message


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
def test_attributes_behind_the_maximum_are_not_looked_at(media_type):
    export = sent(attributes=[{"key": "a", "value": {"boolValue": True}}] * MAX_ATTRIBUTES + SENT_ATTRIBUTES)
    resource = export["resourceSpans"][0]["resource"]
    resource["attributes"] = [
        {"key": "b", "value": {"boolValue": True}}
    ] * MAX_RESOURCE_ATTRIBUTES + resource["attributes"]
    (span,) = read(export, media_type).spans

    assert ("unknown", {"a": True}) == (span.service, span.attributes)
