"""The requests that each forwarder sends to its next hop (wire.md §1, §2)."""

from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from support.forwarders import (
    BODY,
    DESTINATION,
    EXECUTE,
    LOOK_UP,
    OPERATIONS,
    QUOTE_REPLY,
    RECEIVER_URL,
    SOURCE,
    authorization,
    pairs,
)
from support.messages import QUOTE, TEST, UNKNOWN_UUID, headers, keys_of

pytestmark = pytest.mark.batches


async def test_every_operation_keeps_its_method_and_path(hop):
    for operation in OPERATIONS.values():
        response = await hop.send(operation)

        assert 200 == response.status
        seen = hop.next_hop.seen.pop()
        assert (operation.method, operation.path) == (seen.method, seen.target.partition("?")[0])
        assert [] == hop.next_hop.seen


async def test_the_values_of_a_body_stay_as_they_are_written(hop):
    for operation in [SOURCE, DESTINATION, EXECUTE]:
        await hop.send(operation)

        body = hop.next_hop.seen[-1].body
        assert b'"12.50"' in body
        assert b'"\\u0024"' in body
        assert pairs(BODY) == [pair for pair in pairs(body) if pair[0] != "submissionUrl"]


async def test_only_the_proxy_adds_a_submission_url(hop):
    for operation in [SOURCE, DESTINATION, EXECUTE]:
        await hop.send(operation)

        sent = dict(pairs(hop.next_hop.seen[-1].body)).get("submissionUrl")
        assert sent == (RECEIVER_URL + operation.path if hop.service == "spsp-client-proxy" else None)


async def test_the_query_of_a_look_up_goes_on_and_only_the_proxy_adds_to_it(hop):
    await hop.send(LOOK_UP)

    query = parse_qsl(hop.next_hop.seen[0].target.partition("?")[2])
    url = [("submissionUrl", RECEIVER_URL + LOOK_UP.path)] if hop.service == "spsp-client-proxy" else []
    assert [("identifierType", "eur"), ("identifier", "30754016"), *url] == query


async def test_a_look_up_goes_on_without_a_body_and_a_content_type(hop):
    await hop.send(LOOK_UP)

    [seen] = hop.next_hop.seen
    assert b"" == seen.body
    assert "Content-Type" not in seen.headers


async def test_an_identifier_of_unusual_characters_arrives_as_it_was_sent(hop):
    await hop.send(replace(LOOK_UP, query="identifierType=tel&identifier=%2B35988%26a%3Db%2F%C3%BC+x"))

    query = dict(parse_qsl(hop.next_hop.seen[0].target.partition("?")[2]))
    assert "+35988&a=b/ü x" == query["identifier"]


async def test_a_uuid_goes_on_in_lower_case(hop):
    upper = UNKNOWN_UUID.upper()
    if hop.service == "spsp-client":  # its URL must be that of the path
        sent = replace(hop.adapted(EXECUTE), path=f"/v1/payments/{upper}")
        await hop.send(sent, adapt=False)
    else:
        await hop.send(replace(EXECUTE, path=f"/v1/payments/{upper}"))

    assert f"/v1/payments/{UNKNOWN_UUID}" == hop.next_hop.seen[0].target


async def test_a_body_goes_on_as_json_whatever_its_content_type_was(hop):
    await hop.send(SOURCE, Content_Type="application/x-www-form-urlencoded")

    [seen] = hop.next_hop.seen
    assert "application/json" == seen.headers["Content-Type"]
    assert "application/json" == seen.headers["Accept"]


async def test_the_credentials_go_on_unchanged(hop):
    """RFC 7617 lets a client write the scheme in either case."""
    given = TEST.replace("Basic", "bAsIc")

    assert 200 == (await hop.send(Authorization=given)).status
    assert given == hop.next_hop.seen[0].headers["Authorization"]


async def test_the_proxy_calls_the_directory_with_the_callers_own_credentials(proxy):
    await proxy.send(L1p_Trace_Id="trace-1")

    [seen] = proxy.directory.seen
    assert TEST == seen.headers["Authorization"]
    assert "trace-1" == seen.headers["L1p-Trace-Id"]


async def test_no_other_header_goes_on(hop):
    await hop.send(
        Cookie="a=b", X_Forwarded_For="10.0.0.1", Origin="https://x", Quote_Batch="100", Forwarded="for=x"
    )

    allowed = {
        "host",
        "authorization",
        "accept",
        "l1p-trace-id",
        "x-request-timeout-ms",
        "content-type",
        "content-length",
        "idempotency-key",
    }
    assert set() == {name.lower() for name in hop.next_hop.seen[0].headers} - allowed


async def test_the_payer_and_the_proxy_reject_a_submission_url(payer, proxy):
    body = BODY[:-1] + b', "submissionUrl": "http://spsp-server/v1/quoteSourceAmount"}'
    for hop in (payer, proxy):
        response = await hop.send(replace(SOURCE, body=body))

        assert (400, "InvalidBodyError") == (response.status, response.id)
        assert ["submissionUrl"] == keys_of(response.json)
        assert [] == hop.next_hop.seen


async def test_only_spsp_client_takes_a_submission_url_in_a_query(hop):
    url = f"{hop.next_url}{LOOK_UP.path}"
    response = await hop.send(replace(LOOK_UP, query=f"{LOOK_UP.query}&submissionUrl={url}"), adapt=False)

    if hop.service == "spsp-client":
        assert 200 == response.status
    else:
        assert (400, "InvalidQueryParameterError") == (response.status, response.id)
        assert ["submissionUrl"] == keys_of(response.json)


async def test_spsp_client_requires_a_submission_url(spsp_client):
    for operation in OPERATIONS.values():
        response = await spsp_client.send(operation, adapt=False)

        expected = "InvalidQueryParameterError" if operation.body is None else "InvalidBodyError"
        assert (400, expected) == (response.status, response.id)
        assert ["submissionUrl"] == keys_of(response.json)
        assert [] == spsp_client.next_hop.seen


async def test_a_look_up_without_its_identifier_ends_where_the_identifier_is_needed(payer, proxy):
    for query in ["", "identifier=30754016", "identifierType=eur"]:
        for hop in (payer, proxy):
            response = await hop.send(replace(LOOK_UP, query=query))

            missing = [name for name in ("identifier", "identifierType") if f"{name}=" not in query]
            assert (400, "InvalidQueryParameterError") == (response.status, response.id)
            assert missing == sorted(keys_of(response.json))
            assert [] == hop.next_hop.seen + hop.directory.seen


async def test_the_sources_sample_call_works_to_the_letter(hop):
    """Curl -X POST with --data sends a form's Content-Type by itself (Quote API §I)."""
    given = {
        "Accept": "application/json",
        "Authorization": "Basic dGVzdDoxMjM=",
        "Content-Type": "application/x-www-form-urlencoded",
    }

    response = await hop.send_with(SOURCE, given)

    assert (200, QUOTE_REPLY) == (response.status, response.body)


def test_the_sample_is_the_sources():
    assert authorization("test:123") == TEST == headers()["Authorization"]
    assert "12.50" == QUOTE["amount"]
