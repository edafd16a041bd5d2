"""Check that responses are documented: that they are in the table of wire.md §4."""

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
    409: {"QuoteMismatchError", "QuoteExecutedError"},
    410: {"QuoteExpiredError", "QuoteReleasedError"},
    413: {"PayloadTooLargeError"},
    415: {"UnsupportedMediaTypeError"},
    417: {"ExpectationFailedError"},
    422: {"IdempotencyKeyReusedError", "NoFeeScheduleError", "AmountOutOfRangeError", "ExposureLimitError"},
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
"""After these statuses a client does not know the outcome and repeats its request (wire.md §3)."""


def why_undocumented(status: int, headers: Mapping[str, str], body: bytes, trace_id: str) -> str | None:
    """Return the fault of a response; None if it is a 200 with an object, or an error of wire.md §4."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return f"{status}: not JSON: {body[:200]!r}"
    if not isinstance(content, dict):
        return f"{status}: no object: {body[:200]!r}"
    checks = {
        "the trace id": headers.get("L1p-Trace-Id") == trace_id,
        "the Content-Type": headers.get("Content-Type", "").partition(";")[0] == "application/json",
        "Retry-After": status not in {429, 503} or "Retry-After" in headers,
    }
    if status == 200:
        checks["a uuid"] = "uuid" in content
    else:
        checks["an id of this status"] = content.get("id") in IDS.get(status, set())
        checks["a service of ours"] = content.get("service") in SERVICES
        checks["the traceId"] = content.get("traceId") == trace_id
        checks["a message"] = bool(content.get("message"))
    lacking = [name for name, is_there in checks.items() if not is_there]
    return f"{status} lacks {', '.join(lacking)}: {body[:300]!r}" if lacking else None
