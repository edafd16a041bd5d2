"""The OpenAPI document of each service is valid, and the payer responds as its document says."""

import asyncio

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from central_directory import app as central_directory
from quoting.openapi import openapi
from support.forwarders import ClientRequest
from support.messages import QUOTE, TEST, UNKNOWN_UUID
from support.serving import Seen, reply, served
from support.settings import load

DOCUMENT = ClientRequest("GET", "/openapi.json")
OPERATIONS = {
    ("/v1/quoteSourceAmount", "post"),
    ("/v1/quoteDestinationAmount", "post"),
    ("/v1/payments/{uuid}", "put"),
    ("/v1/quote/{uuid}", "get"),
}
CHECKS = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

QUOTED = {"amount": "13.75", "expires": "2017-05-11T11:30:03.561Z", "uuid": UNKNOWN_UUID}
AMOUNTS = {"uuid": UNKNOWN_UUID, "sourceAmount": "13.75", "destinationAmount": "12.50", "fee": "1.25"}
EXECUTED = {**AMOUNTS, "state": "EXECUTED", "executed": "2017-05-11T11:30:00.000Z"}
STATE = {
    **AMOUNTS,
    "state": "RESERVED",
    "operation": "quoteSourceAmount",
    "amount": "13.75",
    "expires": "2017-05-11T11:30:03.561Z",
    "created": "2017-05-11T11:25:03.561Z",
    "executed": None,
    "request": QUOTE,
}


async def payee(seen: Seen):
    """Respond as the payee does."""
    content = {"POST": QUOTED, "PUT": EXECUTED, "GET": STATE}[seen.method]
    return await reply(200, content)(seen)


async def test_the_document_of_each_forwarder_is_valid_and_has_the_operations(hop):
    document = (await hop.send(DOCUMENT, adapt=False)).json

    OpenAPIV31SpecValidator(document).validate()
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert described >= OPERATIONS
    assert hop.service == document["info"]["title"]


async def test_the_document_of_the_directory_is_valid(users_file, tmp_path, client):
    environment = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DIRECTORY_FILE": str(tmp_path / "directory.json"),
    }
    app = central_directory.create_app(load(central_directory.CentralDirectorySettings, environment))
    async with served(app) as url, client.get(f"{url}/openapi.json") as answer:
        document = await answer.json()

    OpenAPIV31SpecValidator(document).validate()
    assert {"/resources", "/commands/register", "/identifier-types", "/"} <= set(document["paths"])


async def test_only_the_document_of_spsp_client_has_a_submission_url(hop):
    text = (await hop.send(DOCUMENT, adapt=False)).body

    assert (hop.service == "spsp-client") == (b'"submissionUrl"' in text)


def test_the_document_of_the_payee_is_valid():
    OpenAPIV31SpecValidator(openapi("dfsp-api", ("identifierType", "identifier"))).validate()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_the_payer_responds_as_its_document_says(payer, mode):
    payer.next_hop.answer = payee
    schema = schemathesis.openapi.from_dict((await payer.send(DOCUMENT, adapt=False)).json)
    statuses = set()

    def explore() -> None:
        for found in schema.get_all_operations():
            operation = found.ok()
            if mode is GenerationMode.NEGATIVE and (operation.path, operation.method) not in OPERATIONS:
                continue  # no request to it is invalid

            @settings(
                max_examples=20,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case):
                answer = case.call_and_validate(
                    base_url=payer.url, headers={"Authorization": TEST}, checks=CHECKS, timeout=10
                )
                statuses.add(answer.status_code)

            check()

    await asyncio.to_thread(explore)

    assert statuses <= {200, 400, 401, 404, 415}
    assert (200 if mode is GenerationMode.POSITIVE else 400) in statuses
