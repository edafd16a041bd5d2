"""Build log lines in the form in which services write them."""

import json

from network import log_records


def entry(service="dfsp-api", *, at=1.0, trace="t", ms=1.0, status=200, **more):
    fields = {
        "time": f"2026-11-21T00:00:{at:06.3f}Z",
        "level": "info" if status < 400 else "warning" if status < 500 else "error",
        "service": service,
        "event": "request",
        "traceId": trace,
        "caller": "test",
        "method": "POST",
        "path": "/v1/quoteSourceAmount",
        "status": status,
        "duration_ms": ms,
    }
    return json.dumps(fields | more, separators=(",", ":"))


def record(service="dfsp-api", **fields):
    return log_records.parse(service, entry(service, **fields), default_time=0)
