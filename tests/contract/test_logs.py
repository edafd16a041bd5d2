"""A request has one log line; errors show callers nothing from inside the service (wire.md §4)."""

import re

import pytest

from support.client import is_error_object
from support.forwarders import EXECUTE, LOOK_UP, SOURCE, ClientRequest, hop_of
from support.internals import fail_requests, fail_responses
from support.messages import KEY, TRACE, basic
from support.messages import UNKNOWN_UUID as UUID
from support.scripted_server import unused_url
from support.serving import reply

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


@pytest.mark.parametrize("operation", [SOURCE, EXECUTE, LOOK_UP], ids=["source", "execute", "look_up"])
async def test_a_request_has_one_line(hop, operation):
    answer = await hop.send(operation)

    [line] = hop.log.events
    named = {"key": answer.headers[KEY]} if operation is SOURCE else {"uuid": UUID}
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
        **named,
    } == line


@pytest.mark.parametrize("told", [UUID, UUID.upper()])
async def test_the_line_of_a_reservation_has_the_uuid_of_its_quote(hop, told):
    hop.next_hop.answer = reply(200, {"amount": "13.75", "expires": "2017-05-11T11:30:03.561Z", "uuid": told})

    await hop.send(SOURCE)

    assert UUID == hop.log.events[0]["uuid"]


@pytest.mark.parametrize(
    "told", [None, 7, "", "x", UUID + "0", "g" + UUID[1:], UUID + "\n", [UUID], '"' * 36]
)
async def test_a_reply_without_a_uuid_gives_its_line_none(hop, told):
    hop.next_hop.answer = reply(200, {"uuid": told})

    await hop.send(SOURCE)

    assert "uuid" not in hop.log.events[0]


@pytest.mark.parametrize("key", ["k", "!" * 128, '"', "\\", 'a"b\\c', "%s%d%"])
async def test_the_line_of_a_reservation_has_its_key(hop, key):
    await hop.send(SOURCE, Idempotency_Key=key)

    assert key == hop.log.events[0]["key"]


@pytest.mark.parametrize("key", ["", "k" * 129, "a b", "\xe9"])
async def test_no_line_has_a_malformed_key(hop, key):
    answer = await hop.send(SOURCE, Idempotency_Key=key)

    assert (400, "InvalidHeaderError") == (answer.status, answer.id)
    assert "key" not in hop.log.events[0]


async def test_a_rejected_request_has_its_key_and_uuid_too(hop):
    await hop.send(SOURCE, Authorization=None, Idempotency_Key="k")
    await hop.send(EXECUTE, Authorization=None)

    reserve, execute = hop.log.events
    assert ("k", None) == (reserve["key"], reserve.get("uuid"))
    assert (None, UUID) == (execute.get("key"), execute["uuid"])


@pytest.mark.parametrize(
    ("name", "logged"),
    [
        ("test", "test"),
        ("nobody", "nobody"),
        ("x" * 5_000, "x" * 64),
        ("a\x1b[2Jb\u202e", "a\x1b[2Jb\u202e"),
        ("", ""),
    ],
)
async def test_a_failed_authentication_logs_the_name_that_was_attempted(hop, name, logged):
    answer = await hop.send(Authorization=basic(name, "wrong"))

    [line] = hop.log.events
    assert (401, None, logged) == (answer.status, line["caller"], line["attempted"])
    assert hop.log.text.replace("\n", "").isprintable()
    assert "wrong" not in hop.log.text.replace("wrong password", "")


@pytest.mark.parametrize(
    "header", [None, "", "Basic", "Basic !", "Bearer bmFtZTpzZWNyZXQ=", "Basic c2VjcmV0"]
)
async def test_credentials_without_a_name_log_none(hop, header):
    await hop.send(Authorization=header)

    assert "attempted" not in hop.log.events[0]


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
    assert (410, "QuoteExpiredError", "raised by dfsp-api: m") == (line["status"], line["id"], line["cause"])


async def test_the_line_of_another_services_error_has_its_message_cut(hop):
    hop.next_hop.answer = reply(410, {"id": "I" * 9_000, "message": "m" * 9_000, "service": "s" * 9_000})

    await hop.send(EXECUTE)

    [line] = hop.log.events
    assert ("I" * 64, f"raised by {'s' * 64}: {'m' * 160}") == (line["id"], line["cause"])


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
