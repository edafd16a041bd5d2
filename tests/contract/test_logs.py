"""A request has one log line; errors show callers nothing from inside the service (wire.md §4)."""

import re

import pytest

from support.client import is_error_object
from support.forwarders import EXECUTE, LOOK_UP, SOURCE, ClientRequest, hop_of
from support.internals import fail_requests, fail_responses
from support.messages import TRACE
from support.scripted_server import unused_url
from support.serving import reply

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


@pytest.mark.parametrize("operation", [SOURCE, EXECUTE, LOOK_UP], ids=["source", "execute", "look_up"])
async def test_a_request_has_one_line(hop, operation):
    answer = await hop.send(operation)

    [line] = hop.log.events
    assert TIME.match(line.pop("time"))
    assert 0 < line.pop("duration_ms") < 5_000
    service = "dfsp-api-payer" if hop.service == "dfsp-api" else hop.service
    assert {
        "level": "info",
        "service": service,
        "event": "request",
        "traceId": answer.headers[TRACE],
        "caller": "test",
        "method": operation.method,
        "path": operation.path,
        "status": 200,
    } == line


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/openapi.json"])
async def test_health_checks_and_metrics_have_no_line(hop, path):
    await hop.send(ClientRequest("GET", path), adapt=False)

    assert [] == hop.log.events


async def test_the_line_of_an_error_has_its_id(hop):
    await hop.send(Authorization=None)

    [line] = hop.log.events
    assert ("warning", 401, "UnauthorizedError", None) == (
        line["level"],
        line["status"],
        line["id"],
        line["caller"],
    )


async def test_the_line_of_another_services_error_has_its_id_and_service(hop):
    hop.next_hop.answer = reply(
        410, {"id": "QuoteExpiredError", "message": "m", "service": "dfsp-api", "traceId": "t"}
    )

    await hop.send(EXECUTE)

    [line] = hop.log.events
    assert (410, "QuoteExpiredError", "raised by dfsp-api") == (line["status"], line["id"], line["cause"])


async def test_only_the_log_names_the_address_of_an_unreachable_next_hop(forwarder, users_file, client):
    url = unused_url()
    async with hop_of(forwarder, users_file, client, next_url=url) as hop:
        answer = await hop.send()

        [line] = hop.log.events
        port = url.rpartition(":")[2]
        assert ("error", "UpstreamError") == (line["level"], line["id"])
        assert port in line["cause"]
        assert port not in answer.body.decode()


async def test_no_line_has_a_query(hop):
    """It contains the receiver's identifier."""
    await hop.send(LOOK_UP)

    assert "30754016" not in hop.log.text


@pytest.mark.parametrize("path", ["/v1/x%0a%0dinjected", "/v1/\xc3\xbc", "/" + "x" * 4_000])
async def test_no_path_breaks_a_line(hop, path):
    await hop.send_bytes(hop.request_bytes(ClientRequest("GET", path), adapt=False))

    [line] = hop.log.kept
    assert b"\n" not in line
    assert hop.log.events[0]["status"] in {400, 404}


async def test_malformed_http_has_a_line(hop):
    [answer] = await hop.send_bytes(b"nonsense\r\n\r\n")

    [line] = hop.log.events
    assert (400, "InvalidHeaderError") == (line["status"], line["id"])
    assert answer.headers[TRACE] == line["traceId"]


async def test_an_unexpected_exception_is_503_and_only_the_log_has_its_traceback(hop, monkeypatch):
    fail_requests(monkeypatch, RuntimeError("secret inside"))

    answer = await hop.send()

    assert (503, "UnavailableError") == (answer.status, answer.id)
    assert is_error_object(answer)
    assert int(answer.headers["Retry-After"]) > 0
    assert b"secret inside" not in answer.body
    assert b"Traceback" not in answer.body
    [line] = hop.log.events
    assert "secret inside" in line["cause"]
    assert "internals.py" in line["cause"]


async def test_no_kind_of_exception_is_a_bare_500(hop, monkeypatch):
    for error in [RecursionError, MemoryError, KeyError, UnicodeError, OSError, AssertionError]:
        fail_responses(monkeypatch, error)

        answer = await hop.send()

        assert answer.status in {502, 503}, error
        assert is_error_object(answer)
