"""Each service of the chain answers as its OpenAPI document says, whatever the document allows to send."""

from collections.abc import Iterator

import pytest

from support.chain import Chain, running
from support.explored import LONG_EXAMPLES, QUICK, document_of, explore, number_of_cases
from support.postgres import fresh_database

CREDENTIALS = {"central-directory": ("admin", "admin")}
# the directory comes last, since requests change it
SERVICES = (
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
    "central-directory",
)

# a busy machine must not look like an overloaded service
PATIENT = {service: {"QUOTES_MAX_WAIT_SECONDS": "60"} for service in SERVICES}


@pytest.fixture(scope="module")
def network(postgres_url, users_file, tmp_path_factory) -> Iterator[Chain]:
    """A chain for this module only, because its requests change the directory."""
    with (
        fresh_database(postgres_url) as url,
        running(tmp_path_factory.mktemp("explored"), url, users_file, PATIENT) as started,
    ):
        yield started


def test_the_payee_answers_as_its_document_says(chain):
    """Only the longer tests try the other services and the other phases."""
    output = explore(chain.origin("dfsp-api"), "test", "123", phases=QUICK)

    assert number_of_cases(output) > 100


@pytest.mark.fault
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_many_requests_as_its_document_says(network, service):
    credentials = CREDENTIALS.get(service, ("test", "123"))
    output = explore(network.origin(service), *credentials, examples=LONG_EXAMPLES)

    assert number_of_cases(output) > 300


@pytest.mark.fault
def test_a_document_that_is_wrong_is_found(network):
    """The check can fail: here a status and a field of a response are missing, and a pattern is too wide."""
    origin = network.origin("dfsp-api")
    document = document_of(origin)
    schemas = document["components"]["schemas"]
    del document["paths"]["/v1/quote/{uuid}"]["get"]["responses"]["404"]
    del schemas["Execution"]["properties"]["fee"]
    schemas["Execution"]["required"].remove("fee")
    schemas["Reservation"]["properties"]["identifierType"]["pattern"] = "^.*$"

    with pytest.raises(AssertionError) as raised:
        explore(origin, "test", "123", document=document)

    assert "Undocumented status code" in str(raised.value)
    assert "Response violates schema" in str(raised.value)
    assert "Schema-valid request rejected" in str(raised.value)
