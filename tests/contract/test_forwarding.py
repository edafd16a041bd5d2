"""One suite over all forwarders: what goes on to the next hop, and how (wire.md §1, §2)."""

from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from support.forwarders import (
    ASKS,
    BODY,
    EXECUTE,
    LOOK_UP,
    QUOTE_REPLY,
    RECEIVER_URL,
    SOURCE,
    authorization,
    pairs,
)
from support.messages import QUOTE, TEST, UNKNOWN_UUID, headers, keys_of


@pytest.fixture(params=ASKS.values(), ids=ASKS.keys())
def ask(request):
    return request.param


async def test_every_operation_keeps_its_method_and_path(hop, ask):
    answer = await hop.send(ask)

    assert 200 == answer.status
    [seen] = hop.next_hop.seen
    assert (ask.method, ask.path) == (seen.method, seen.target.partition("?")[0])


@pytest.mark.parametrize("operation", ["source", "destination", "execute"])
async def test_the_values_of_a_body_stay_as_they_are_written(hop, operation):
    await hop.send(ASKS[operation])

    body = hop.next_hop.seen[0].body
    assert b'"12.50"' in body
    assert b'"\\u0024"' in body
    assert pairs(BODY) == [pair for pair in pairs(body) if pair[0] != "submissionUrl"]


@pytest.mark.parametrize("operation", ["source", "destination", "execute"])
async def test_only_the_proxy_tells_its_next_hop_a_submission_url(hop, operation):
    ask = ASKS[operation]
    await hop.send(ask)

    told = dict(pairs(hop.next_hop.seen[0].body)).get("submissionUrl")
    assert told == (RECEIVER_URL + ask.path if hop.service == "spsp-client-proxy" else None)


async def test_the_query_of_a_look_up_goes_on_and_only_the_proxy_adds_to_it(hop):
    await hop.send(LOOK_UP)

    query = parse_qsl(hop.next_hop.seen[0].target.partition("?")[2])
    url = [("submissionUrl", RECEIVER_URL + LOOK_UP.path)] if hop.service == "spsp-client-proxy" else []
    assert [("identifierType", "eur"), ("identifier", "30754016"), *url] == query


async def test_a_look_up_has_no_body_and_no_content_type_on_its_way(hop):
    await hop.send(LOOK_UP)

    [seen] = hop.next_hop.seen
    assert b"" == seen.body
    assert "Content-Type" not in seen.headers


async def test_an_identifier_of_odd_characters_arrives_as_it_was_sent(hop):
    await hop.send(replace(LOOK_UP, query="identifierType=tel&identifier=%2B35988%26a%3Db%2F%C3%BC+x"))

    query = dict(parse_qsl(hop.next_hop.seen[0].target.partition("?")[2]))
    assert "+35988&a=b/ü x" == query["identifier"]


async def test_a_uuid_goes_on_in_lower_case(hop):
    upper = UNKNOWN_UUID.upper()
    if hop.service == "spsp-client":  # where the URL must be that of the path
        ask = replace(hop.adapted(EXECUTE), path=f"/v1/payments/{upper}")
        await hop.send(ask, adapt=False)
    else:
        await hop.send(replace(EXECUTE, path=f"/v1/payments/{upper}"))

    assert f"/v1/payments/{UNKNOWN_UUID}" == hop.next_hop.seen[0].target


async def test_a_body_names_json_to_the_next_hop_whatever_it_named_itself(hop):
    await hop.send(SOURCE, Content_Type="application/x-www-form-urlencoded")

    [seen] = hop.next_hop.seen
    assert "application/json" == seen.headers["Content-Type"]
    assert "application/json" == seen.headers["Accept"]


async def test_the_credentials_go_on_unchanged(hop):
    """RFC 7617 lets the scheme be written in either case; ours must not rewrite it."""
    given = TEST.replace("Basic", "bAsIc")

    assert 200 == (await hop.send(Authorization=given)).status
    assert given == hop.next_hop.seen[0].headers["Authorization"]


async def test_the_proxy_asks_the_directory_with_the_callers_own_credentials(proxy):
    await proxy.send(L1p_Trace_Id="trace-1")

    [seen] = proxy.directory.seen
    assert TEST == seen.headers["Authorization"]
    assert "trace-1" == seen.headers["L1p-Trace-Id"]


async def test_nothing_else_that_a_caller_sends_goes_on(hop):
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


async def test_a_submission_url_is_refused_where_it_does_not_belong(payer, proxy):
    body = BODY[:-1] + b', "submissionUrl": "http://spsp-server/v1/quoteSourceAmount"}'
    for hop in (payer, proxy):
        answer = await hop.send(replace(SOURCE, body=body))

        assert (400, "InvalidBodyError") == (answer.status, answer.id)
        assert ["submissionUrl"] == keys_of(answer.json)
        assert [] == hop.next_hop.seen


async def test_a_submission_url_in_a_query_is_taken_by_spsp_client_alone(hop):
    url = f"{hop.next_url}{LOOK_UP.path}"
    answer = await hop.send(replace(LOOK_UP, query=f"{LOOK_UP.query}&submissionUrl={url}"), adapt=False)

    if hop.service == "spsp-client":
        assert 200 == answer.status
    else:
        assert (400, "InvalidQueryParameterError") == (answer.status, answer.id)
        assert ["submissionUrl"] == keys_of(answer.json)


@pytest.mark.parametrize("operation", ASKS)
async def test_spsp_client_requires_a_submission_url(spsp_client, operation):
    answer = await spsp_client.send(ASKS[operation], adapt=False)

    expected = "InvalidQueryParameterError" if operation == "look_up" else "InvalidBodyError"
    assert (400, expected) == (answer.status, answer.id)
    assert ["submissionUrl"] == keys_of(answer.json)
    assert [] == spsp_client.next_hop.seen


@pytest.mark.parametrize("query", ["", "identifier=30754016", "identifierType=eur"])
async def test_a_look_up_without_the_identifier_ends_where_it_is_needed(payer, proxy, query):
    for hop in (payer, proxy):
        answer = await hop.send(replace(LOOK_UP, query=query))

        missing = [name for name in ("identifier", "identifierType") if f"{name}=" not in query]
        assert (400, "InvalidQueryParameterError") == (answer.status, answer.id)
        assert missing == sorted(keys_of(answer.json))
        assert [] == hop.next_hop.seen
        assert [] == hop.directory.seen


async def test_the_sources_sample_call_works_to_the_letter(hop):
    """Curl -X POST with --data and no Content-Type of one's own (Quote API §I)."""
    given = {
        "Accept": "application/json",
        "Authorization": "Basic dGVzdDoxMjM=",
        "Content-Type": "application/x-www-form-urlencoded",
    }

    answer = await hop.send_with(SOURCE, given)

    assert (200, QUOTE_REPLY) == (answer.status, answer.body)


def test_the_sample_is_the_sources():
    assert authorization("test:123") == TEST == headers()["Authorization"]
    assert "12.50" == QUOTE["amount"]
