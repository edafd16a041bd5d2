"""Reads an export of spans: OTLP over HTTP, in protobuf or JSON (OTLP specification 1.x, "OTLP/HTTP").

An export that cannot be read is refused as a whole. Of an export that can be read, each span is taken or rejected, and
the response says how many were rejected and why ("partial success"). The module does no input or output.
"""

import binascii
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec
import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from chassis.errors import Fault, InvalidBodyError, PayloadTooLargeError, UnsupportedMediaTypeError
from console.traces import otlp_json
from console.traces.span import (
    ERROR_ID,
    MAX_ATTRIBUTES,
    MAX_KEY_CHARACTERS,
    MAX_LINKS,
    MAX_NAME_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    Attribute,
    Span,
    clean,
)

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
MAX_SENT_BYTES: Final = 1_048_576
"""Maximum size of a body as it is sent. OpenTelemetry's exporters send 512 spans at once: about 200 KiB."""
MAX_BYTES: Final = 2 * 1_048_576
"""Maximum size of a body that has been decompressed. A million empty spans of two bytes take 150 MB when read."""
MAX_SPANS: Final = 4_096
MAX_GROUPS: Final = 4_096
"""Maximum number of groups of spans, by resource and by scope. To read a million empty groups would take seconds."""
MAX_RESOURCE_ATTRIBUTES: Final = 128
"""Maximum number of attributes of a resource that are searched for the service's name. A body has room for a million."""
MAX_VALUES: Final = 8
MAX_DURATION_NS: Final = 24 * 3_600 * 10**9
MAX_UNIX_NS: Final = 4_102_444_800 * 10**9
"""The year 2100."""
UNKNOWN_SERVICE: Final = "unknown"

_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Export:
    """The spans of an export that can be stored, and the number of the others with the first reason."""

    spans: tuple[Span, ...]
    rejected: int = 0
    reason: str = ""

    def response(self, media_type: str) -> bytes:
        """Return the body of the response as JSON or protobuf, as the media type of the request says."""
        if media_type == JSON:
            partial = {"rejectedSpans": str(self.rejected), "errorMessage": self.reason}
            return orjson.dumps({"partialSuccess": partial} if self.rejected else {})
        message = ExportTraceServiceResponse()
        if self.rejected:
            message.partial_success.rejected_spans = self.rejected
            message.partial_success.error_message = self.reason
        body: bytes = message.SerializeToString()
        return body


class _SpanFaultError(Exception):
    """A span that cannot be stored. The text says why."""


def media_type_of(headers: Mapping[str, str]) -> str:
    """Return the media type of an export, without its parameters. Raises UnsupportedMediaTypeError."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in {PROTOBUF, JSON}:
        raise UnsupportedMediaTypeError(f"The body must be {PROTOBUF} or {JSON}.")
    return media_type


def decompressed(body: bytes, encoding: str) -> bytes:
    """Return a body without its Content-Encoding, which may be gzip.

    Raises UnsupportedMediaTypeError, PayloadTooLargeError, InvalidBodyError.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding != "gzip":
        raise UnsupportedMediaTypeError("The Content-Encoding must be gzip, or there must be none.")
    decompressor = zlib.decompressobj(_GZIP)
    try:
        plain = decompressor.decompress(body, MAX_BYTES + 1)
    except zlib.error as error:
        raise _invalid(f"is not gzip: {error}") from None
    if len(plain) > MAX_BYTES:
        raise PayloadTooLargeError(
            f"The decompressed body is longer than the maximum of {MAX_BYTES // 1024:,} KiB."
        )
    if not decompressor.eof or decompressor.unused_data:
        raise _invalid("is not one whole gzip member")
    return plain


def read_export(body: bytes, media_type: str) -> Export:
    """Read an export without Content-Encoding. Raises InvalidBodyError."""
    message = _from_json(body) if media_type == JSON else _from_protobuf(body)
    if (
        len(message.resource_spans) > MAX_GROUPS
        or sum(len(group.scope_spans) for group in message.resource_spans) > MAX_GROUPS
    ):
        raise _invalid(f"has more than {MAX_GROUPS:,} groups of spans")
    count = sum(len(scope.spans) for group in message.resource_spans for scope in group.scope_spans)
    spans: list[Span] = []
    reason = f"an export may have {MAX_SPANS:,} spans at most" if count > MAX_SPANS else ""
    for sent, service in islice(_sent_spans(message.resource_spans), MAX_SPANS):
        try:
            spans.append(_span(sent, service))
        except _SpanFaultError as fault:
            reason = reason or str(fault)
    return Export(tuple(spans), count - len(spans), reason)


def _from_protobuf(body: bytes) -> Any:  # noqa: ANN401 - a protobuf message, or structs of the same shape
    message = ExportTraceServiceRequest()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise _invalid("is not an ExportTraceServiceRequest in protobuf") from None
    return message


def _from_json(body: bytes) -> Any:  # noqa: ANN401 - as above
    try:
        return otlp_json.decode(body)
    except msgspec.DecodeError as error:
        raise _invalid(f"is not an ExportTraceServiceRequest in JSON: {error}") from None
    except (UnicodeDecodeError, RecursionError):
        raise _invalid("is not an ExportTraceServiceRequest in JSON") from None


def _invalid(message: str) -> InvalidBodyError:
    return InvalidBodyError(faults=[Fault("body", message)])


def _sent_spans(groups: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """Yield each span as it was sent, with the name of its service."""
    for group in groups:
        named = _first(group.resource.attributes, "service.name")
        service = clean(str(named), MAX_NAME_CHARACTERS) if named else UNKNOWN_SERVICE
        for scope in group.scope_spans:
            for span in scope.spans:
                yield span, service


def _first(attributes: Iterable[Any], key: str) -> Attribute | None:
    examined = islice(attributes, MAX_RESOURCE_ATTRIBUTES)
    return next((_value(each.value) for each in examined if each.key == key), None)


def _span(sent: Any, service: str) -> Span:  # noqa: ANN401 - as above
    start, end = sent.start_time_unix_nano, sent.end_time_unix_nano
    if not 0 < start <= end <= MAX_UNIX_NS:
        raise _SpanFaultError(
            "startTimeUnixNano must be before endTimeUnixNano, and both before the year 2100"
        )
    if end - start > MAX_DURATION_NS:
        raise _SpanFaultError("a span may last a day at most")
    attributes = _attributes(sent.attributes)
    return Span(
        _id(sent.trace_id, 16, "traceId"),
        _id(sent.span_id, 8, "spanId"),
        _id(sent.parent_span_id, 8, "parentSpanId") if sent.parent_span_id else None,
        service,
        clean(sent.name, MAX_NAME_CHARACTERS),
        start,
        end - start,
        sent.status.code == Status.STATUS_CODE_ERROR or ERROR_ID in attributes,
        attributes,
        tuple(
            (_id(link.trace_id, 16, "links"), _id(link.span_id, 8, "links"))
            for link in sent.links[:MAX_LINKS]
        ),
    )


def _id(sent: bytes | str, length: int, member: str) -> str:
    try:
        found = sent if isinstance(sent, bytes) else binascii.unhexlify(sent)
    except ValueError:
        found = b""
    if len(found) != length or not any(found):
        raise _SpanFaultError(f"{member} must have {length} bytes that are not all zero")
    return found.hex()


def _attributes(sent: Iterable[Any]) -> dict[str, Attribute]:
    """Return the first attributes of a span. Later attributes, and later members of array values, are left out."""
    found: dict[str, Attribute] = {}
    for each in islice(sent, MAX_ATTRIBUTES):
        value = _value(each.value)
        if value is not None:
            found[clean(each.key, MAX_KEY_CHARACTERS)] = value
    return found


def _value(sent: Any) -> Attribute | None:  # noqa: ANN401 - an AnyValue in either form
    kind = sent.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        values = sent.array_value.values
        shown = [str(_scalar(each)) for each in values[:MAX_VALUES]]
        return clean(", ".join(shown) + (", …" if len(values) > MAX_VALUES else ""), MAX_VALUE_CHARACTERS)
    return _scalar(sent)


def _scalar(sent: Any) -> Attribute:  # noqa: ANN401 - as above
    kind = sent.WhichOneof("value")
    if kind in {"bool_value", "int_value", "double_value"}:
        value: bool | int | float = getattr(sent, kind)
        return (
            value if isinstance(value, int) or value - value == 0 else str(value)
        )  # NaN and infinity: no JSON
    if kind == "string_value":
        return clean(sent.string_value, MAX_VALUE_CHARACTERS)
    return "…"
