"""Each service of the chain answers as its OpenAPI document says, whatever the document allows to send."""

import json
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from support.chain import Chain, running
from support.explored import LONG_EXAMPLES, explore, number_of_cases
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


@pytest.fixture(scope="module")
def network(postgres_url, users_file, tmp_path_factory) -> Iterator[Chain]:
    """A chain of this module's own."""
    with (
        fresh_database(postgres_url) as url,
        running(tmp_path_factory.mktemp("explored"), url, users_file, {}) as started,
    ):
        yield started


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_as_its_document_says(network, service):
    output = explore(f"{network.origin(service)}/openapi.json", *CREDENTIALS.get(service, ("test", "123")))

    assert number_of_cases(output) > 100


@pytest.mark.fault
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_many_requests_as_its_document_says(network, service):
    document = f"{network.origin(service)}/openapi.json"
    output = explore(document, *CREDENTIALS.get(service, ("test", "123")), examples=LONG_EXAMPLES)

    assert number_of_cases(output) > 500


def test_a_document_that_is_wrong_is_found(network, tmp_path):
    """The check can fail: here the document has a status too few and a pattern too wide."""
    origin = network.origin("dfsp-api")
    with urlopen(f"{origin}/openapi.json") as response:
        document = json.load(response)
    del document["paths"]["/v1/quote/{uuid}"]["get"]["responses"]["404"]
    document["components"]["schemas"]["Reservation"]["properties"]["identifierType"]["pattern"] = "^.*$"
    (tmp_path / "openapi.json").write_text(json.dumps(document))

    with pytest.raises(AssertionError) as raised:
        explore(str(tmp_path / "openapi.json"), "test", "123", url=origin)

    assert "Undocumented status code" in str(raised.value)
    assert "Schema-valid request rejected" in str(raised.value)
