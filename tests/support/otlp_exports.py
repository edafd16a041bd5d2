"""Exports of spans as OpenTelemetry's exporters send them, in JSON and in protobuf."""

import json

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE_ID, SPAN_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
START, END = 1_790_000_000_000_000_000, 1_790_000_000_012_500_000

SENT = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "dfsp-api"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "chassis"},
                    "spans": [
                        {
                            "traceId": TRACE_ID,
                            "spanId": SPAN_ID,
                            "parentSpanId": PARENT_ID,
                            "name": "POST /v1/quoteSourceAmount",
                            "kind": 2,
                            "startTimeUnixNano": str(START),
                            "endTimeUnixNano": str(END),
                            "attributes": [
                                {"key": "l1p.trace_id", "value": {"stringValue": "order-17"}},
                                {"key": "quote.uuid", "value": {"stringValue": "ABC"}},
                                {"key": "enduser.id", "value": {"stringValue": "test"}},
                                {"key": "error.type", "value": {"stringValue": "QuoteExpiredError"}},
                                {"key": "http.response.status_code", "value": {"intValue": "410"}},
                                {"key": "sampled", "value": {"boolValue": True}},
                                {"key": "share", "value": {"doubleValue": 0.5}},
                                {"key": "peers", "value": {"arrayValue": {"values": [{"stringValue": "a"}]}}},
                            ],
                            "status": {"code": 2},
                        }
                    ],
                }
            ],
        }
    ]
}


def sent(**members: object) -> dict[str, object]:
    """Return an export of one span with these members."""
    export = json.loads(json.dumps(SENT))
    export["resourceSpans"][0]["scopeSpans"][0]["spans"][0].update(members)
    return export


def as_protobuf(export: dict[str, object]) -> bytes:
    """Return the export as protobuf. Ids are hexadecimal in OTLP's JSON, so they are set one by one."""
    message = ExportTraceServiceRequest()
    for group in export["resourceSpans"]:
        made = message.resource_spans.add()
        _fill(made.resource.attributes, group["resource"]["attributes"])
        for scope in group["scopeSpans"]:
            spans = made.scope_spans.add().spans
            for each in scope["spans"]:
                span = spans.add(
                    trace_id=bytes.fromhex(each["traceId"]),
                    span_id=bytes.fromhex(each["spanId"]),
                    parent_span_id=bytes.fromhex(each["parentSpanId"]),
                    name=each["name"],
                    start_time_unix_nano=int(each["startTimeUnixNano"]),
                    end_time_unix_nano=int(each["endTimeUnixNano"]),
                )
                span.status.code = each["status"]["code"]
                _fill(span.attributes, each["attributes"])
    return message.SerializeToString()


def _fill(attributes, values) -> None:
    for each in values:
        value = attributes.add(key=each["key"]).value
        ((kind, content),) = each["value"].items()
        if kind == "arrayValue":
            for item in content["values"]:
                value.array_value.values.add(string_value=item["stringValue"])
        else:
            kinds = {"stringValue": str, "intValue": int, "boolValue": bool, "doubleValue": float}
            setattr(value, f"{kind.removesuffix('Value')}_value", kinds[kind](content))
