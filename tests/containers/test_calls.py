"""Quotes in both directions, the refusals, and the sample requests of the Quote API, in containers."""

import base64
import json
import re
import shlex
import time

import pytest

from support import compose
from support.client import send
from support.messages import QUOTE, RESERVE, RESERVE_DESTINATION, UNKNOWN_UUID

CALL = """
import http.client, json, sys
from urllib.parse import urlsplit
method, url, headers, body = json.loads(sys.argv[1])
parts = urlsplit(url)
connection = http.client.HTTPConnection(parts.netloc, timeout=15)
connection.request(method, parts.path, body.encode(), headers)
reply = connection.getresponse()
print(json.dumps([reply.status, reply.read().decode()]))
"""


def at(payee: str) -> dict[str, str]:
    return {**QUOTE, "identifier": compose.AT[payee]}


def pairs(network):
    """Return each payer's URL with the other DFSP's name."""
    return [(network.urls["dfsp1"], "dfsp2"), (network.urls["dfsp2"], "dfsp1")]


async def test_the_sample_quote_works_in_both_directions(network, caller):
    for url, payee in pairs(network):
        source = await send(caller, "POST", url + RESERVE, at(payee))
        destination = await send(caller, "POST", url + RESERVE_DESTINATION, at(payee) | {"amount": "13.75"})
        path = f"/v1/payments/{source.json['uuid']}"
        paid = await send(caller, "PUT", url + path, at(payee))
        query = f"identifierType=eur&identifier={compose.AT[payee]}"
        seen = await send(caller, "GET", f"{url}/v1/quote/{source.json['uuid']}?{query}")

        assert (200, "13.75") == (source.status, source.json["amount"]), source.body
        assert (200, "12.50") == (destination.status, destination.json["amount"]), destination.body
        assert (200, "EXECUTED") == (paid.status, paid.json["state"]), paid.body
        assert (200, "EXECUTED") == (seen.status, seen.json["state"]), seen.body
        assert source.json["uuid"] in network.rows(payee)


async def test_unknown_altered_and_expired_quotes_are_refused(network, caller):
    """Quote API §III."""
    for url, payee in pairs(network):
        unknown = await send(caller, "PUT", f"{url}/v1/payments/{UNKNOWN_UUID}", at(payee))
        assert (404, "QuoteNotFoundError") == unknown.raised[:2]

        uuid = (await send(caller, "POST", url + RESERVE, at(payee))).json["uuid"]
        for name, other in {
            "amount": "12.51",
            "currencyCode": "EUR",
            "currencySymbol": "€",
            "account": "http://ledger.example/accounts/mallory",
            "transferType": "p2b",
        }.items():
            altered = await send(caller, "PUT", f"{url}/v1/payments/{uuid}", at(payee) | {name: other})
            assert (409, "QuoteMismatchError") == altered.raised[:2], name
            assert [name] == [fault["params"]["key"] for fault in altered.json["validationErrors"]]

        expire(network, payee, uuid)
        expired = await send(caller, "PUT", f"{url}/v1/payments/{uuid}", at(payee))
        assert (410, "QuoteExpiredError") == expired.raised[:2]
        assert network.rows(payee)[uuid]["executed"] is None


def expire(network, payee, uuid):
    database = network.container("postgres" if payee == "dfsp1" else "dfsp2-postgres")
    sql = f"UPDATE quote SET expires = date_trunc('milliseconds', now()) WHERE uuid = '{uuid}'"
    done = database.exec_run(["psql", "-U", "quotes", "-d", "quotes", "-c", sql])
    assert b"UPDATE 1" in done.output
    time.sleep(0.01)


def sample_calls():
    """Return the requests of the curl commands in the Quote API."""
    text = (compose.TOP / "docs" / "quote-api.md").read_text(encoding="utf-8")
    for block in re.findall(r"```curl\n(.*?)```", text, re.DOTALL):
        words = shlex.split(block.replace("\n", "\n ").replace("-d\n", "-d "))
        headers, method, data, url = {}, "", "", ""
        iterator = iter(words)
        for word in iterator:
            if word == "--header":
                name, _, value = next(iterator).partition(": ")
                headers[name] = value
            elif word == "-X":
                method = next(iterator)
            elif word == "-d":
                data = next(iterator)
            elif word != "curl":
                url = word
        # curl's default content type for -d
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        yield pytest.param(method, url, headers, data, id=url.split("/")[2])


def test_the_quote_api_has_five_sample_requests():
    assert 5 == len(list(sample_calls()))


@pytest.mark.parametrize("dfsp", ["dfsp1", "dfsp2"])
@pytest.mark.parametrize(("method", "url", "headers", "data"), list(sample_calls()))
def test_a_sample_request_works_unchanged(network, dfsp, method, url, headers, data):
    """From a container in the DFSP's network, with the host names of the Quote API."""
    said = network.engine.containers.run(
        network.image,
        ["-c", CALL, json.dumps([method, url, headers, data])],
        entrypoint=["python"],
        network=f"{network.project}_{dfsp}",
        remove=True,
    )
    status, body = json.loads(said)

    assert 200 == status, body
    assert "13.75" == json.loads(body)["amount"]
    assert {"amount", "expires", "uuid"} == set(json.loads(body))
    assert base64.b64encode(b"test:123").decode() in headers["Authorization"]
