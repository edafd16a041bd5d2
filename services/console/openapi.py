"""The console's OpenAPI document: its pages are not in it."""

from typing import Any, Final

from chassis.errors import UnavailableError, UpstreamTimeoutError
from chassis.openapi import DescribedOperation, Document, json_reply
from console.traces.receiver import PATH

_ABOUT: Final = "Pages for the people who operate the services. This API is for the services themselves."
_TRACES: Final = "Traces"

_EXPORT: Final = {
    "type": "object",
    "description": "An ExportTraceServiceRequest of OTLP.",
    "properties": {"resourceSpans": {"type": "array", "items": {"type": "object"}}},
}
_RESULT: Final = {
    "type": "object",
    "description": "An ExportTraceServiceResponse of OTLP.",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "properties": {"rejectedSpans": {"type": "string"}, "errorMessage": {"type": "string"}},
        }
    },
}
_SPAN: Final = {
    "traceId": "8a1c6c1e5a3f4a539d1b0d6f0b1f6f5e",
    "spanId": "b7ad6b7169203331",
    "name": "POST /v1/quoteSourceAmount",
    "kind": 2,
    "startTimeUnixNano": "1790000000000000000",
    "endTimeUnixNano": "1790000000012500000",
}
_SERVICE: Final = {"attributes": [{"key": "service.name", "value": {"stringValue": "dfsp-api"}}]}


def openapi(title: str) -> dict[str, Any]:
    document = Document(title, _ABOUT, {_TRACES: "For services that export spans."})
    document.add("POST", PATH, _export_traces())
    return document.to_dict()


def _export_traces() -> DescribedOperation:
    example = {"resourceSpans": [{"resource": _SERVICE, "scopeSpans": [{"spans": [_SPAN]}]}]}
    return DescribedOperation(
        id="exportTraces",
        summary="Export spans",
        tag=_TRACES,
        description="OTLP over HTTP, in JSON or in protobuf (`application/x-protobuf`), also with `Content-Encoding: gzip`."
        " The answer has the media type of the request. Senders in the networks of `QUOTES_TRACES_FROM` need no"
        " credentials.",
        body=_EXPORT,
        body_examples={"span": example},
        answers={
            200: json_reply("The spans are stored, except those that `partialSuccess` counts.", _RESULT, {})
        },
        errors=(UnavailableError, UpstreamTimeoutError),
    )
