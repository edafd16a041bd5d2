"""What a service may answer at all: the table of wire.md §4."""

from collections.abc import Mapping
from typing import Final

import orjson

IDS: Final = {
    400: {"InvalidBodyError", "InvalidQueryParameterError", "InvalidHeaderError", "InvalidUriParameterError"},
    401: {"UnauthorizedError"},
    403: {"SubmissionUrlNotAllowedError"},
    404: {"NotFoundError", "ReceiverNotFoundError", "QuoteNotFoundError"},
    405: {"MethodNotAllowedError"},
    408: {"RequestTimeoutError"},
    409: {"QuoteMismatchError"},
    410: {"QuoteExpiredError"},
    413: {"PayloadTooLargeError"},
    415: {"UnsupportedMediaTypeError"},
    417: {"ExpectationFailedError"},
    422: {"IdempotencyKeyReusedError", "NoFeeScheduleError", "AmountOutOfRangeError"},
    429: {"TooManyRequestsError"},
    502: {"UpstreamError"},
    503: {"UnavailableError"},
    504: {"UpstreamTimeoutError"},
}
SERVICES: Final = {
    "dfsp-api",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "central-directory",
}
OUTCOME_UNKNOWN: Final = {502, 503, 504}
"""What wire.md §3 tells callers to repeat after."""


def why_undocumented(status: int, headers: Mapping[str, str], body: bytes, trace_id: str) -> str | None:
    """What is wrong with a reply, None where it is a 200 with an object or one of section 4's errors."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return f"{status}: not JSON: {body[:200]!r}"
    faults = []
    if not isinstance(content, dict):
        faults.append("no object")
    elif status == 200:
        faults += ["no uuid"] if "uuid" not in content else []
    elif content.get("id") not in IDS.get(status, set()):
        faults.append("not an id of this status")
    elif content.get("service") not in SERVICES:
        faults.append("no such service")
    elif content.get("traceId") != trace_id:
        faults.append("another traceId")
    elif not content.get("message"):
        faults.append("no message")
    elif status in {429, 503} and "Retry-After" not in headers:
        faults.append("no Retry-After")
    if headers.get("L1p-Trace-Id") != trace_id:
        faults.append("another L1p-Trace-Id")
    if headers.get("Content-Type", "").partition(";")[0] != "application/json":
        faults.append("another Content-Type")
    return f"{status}: {', '.join(faults)}: {body[:300]!r}" if faults else None
