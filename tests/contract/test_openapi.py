"""The OpenAPI document of each service: valid, complete, and with examples that match their schemas."""

import re

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from chassis import errors
from support.forwarders import ClientRequest
from support.messages import KEY, TRACE
from support.openapi_documents import METHODS, SERVICES, document, operations, patterns

DOCUMENT = ClientRequest("GET", "/openapi.json")
RESERVATIONS = ("POST /v1/quoteSourceAmount", "POST /v1/quoteDestinationAmount")
PAY, LOOK_UP = "PUT /v1/payments/{uuid}", "GET /v1/quote/{uuid}"
RELEASE = "DELETE /v1/quote/{uuid}"
CHAIN = (*RESERVATIONS, PAY, LOOK_UP, RELEASE)
LIST = "GET /v1/quotes"
FEES = "GET /v1/feeSchedules/{id}"
EXPOSURES = "GET /v1/exposures"
AUDIT = {f"GET /v1/audit/{path}" for path in ("checkpoint", "proof/{uuid}", "consistency")}
EVERY = {"400", "401", "429"}
WITH_BODY = EVERY | {"408", "413", "415", "417"}
PAYEE = {"503", "504"}


@pytest.fixture(params=SERVICES)
def described(request, users_file, tmp_path) -> dict:
    """The document of each service."""
    return document(request.param, users_file, tmp_path)


@pytest.fixture
def document_of(users_file, tmp_path):
    return lambda service: document(service, users_file, tmp_path)


def statuses(operation: dict) -> set[str]:
    return {status for status in operation["responses"] if status >= "400"}


def error_ids(operation: dict, status: str) -> list[str]:
    [_, more] = operation["responses"][status]["content"]["application/json"]["schema"]["allOf"]
    return more["properties"]["id"]["enum"]


def names(operation: dict, place: str) -> dict[str, bool]:
    """The parameters in a place, and whether they are required."""
    return {each["name"]: each["required"] for each in operation["parameters"] if each["in"] == place}


def test_a_document_is_valid(described):
    OpenAPIV31SpecValidator(described).validate()


async def test_a_service_serves_its_document(hop):
    served = (await hop.send(DOCUMENT, adapt=False)).json

    assert hop.service == served["info"]["title"]
    assert set(CHAIN) <= {name for name, _ in operations(served)}


def test_each_operation_has_a_summary_a_tag_an_id_and_the_trace_id(described):
    found = dict(operations(described))
    tags = {each["name"] for each in described["tags"]}
    ids = [each["operationId"] for each in found.values()]

    assert len(ids) == len(set(ids))
    for name, operation in found.items():
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, name
        assert {TRACE: False}.items() <= names(operation, "header").items(), name
        assert all(TRACE in each["headers"] for each in operation["responses"].values()), name


def test_each_success_has_a_schema_or_no_body(described):
    empty = {
        f"{name} {status}"
        for name, operation in operations(described)
        for status, response in operation["responses"].items()
        if "content" not in response
    }

    assert empty <= {"POST /webhook/{accountToken} 200", "PUT /v1/accounts/{id}/webhook-secret 204"}


def test_error_ids_are_those_of_the_error_tree_and_of_their_status(described):
    for name, operation in operations(described):
        for status in statuses(operation):
            content = operation["responses"][status]["content"]["application/json"]["schema"]
            if "allOf" not in content or "id" not in content["allOf"][1]["properties"]:
                continue  # readiness, and the typed errors of the integration guide
            for id_ in error_ids(operation, status):
                assert int(status) == getattr(errors, id_).status, f"{name}: {id_}"


def test_the_headers_that_errors_have_are_described(described):
    for name, operation in operations(described):
        for status, header in {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}.items():
            response = operation["responses"].get(status)
            if response and "x-proquant-error" not in response["headers"]:
                assert header in response["headers"], f"{name} {status}"


def test_patterns_are_anchored_and_in_ecmascript(described):
    found = list(patterns(described))

    assert found or described["info"]["title"] == "console"  # its API has no texts
    assert [] == [
        each for each in found if not each.startswith("^") or re.search(r"\\[AZz]|\(\?P|\(\?[aiLmsux]", each)
    ]


def test_each_example_matches_its_schema(described):
    components = {"components": described["components"]}  # so that references are found
    checked = 0
    for path, item in described["paths"].items():
        for method in METHODS & item.keys():
            holders = [item[method].get("requestBody", {}), *item[method]["responses"].values()]
            for content in (each for holder in holders for each in holder.get("content", {}).values()):
                validator = Draft202012Validator(
                    content["schema"] | components, format_checker=FormatChecker()
                )
                values = [each["value"] for each in content.get("examples", {}).values()]
                values += [content["example"]] if "example" in content else []
                for value in values:
                    assert [] == [each.message for each in validator.iter_errors(value)], f"{method} {path}"
                    checked += 1

    assert checked


@pytest.mark.parametrize(
    ("service", "more"),
    [
        ("dfsp-api", {"403", "404", "502"}),
        ("spsp-client-proxy", {"403", "404", "502"}),
        ("spsp-client", {"403", "502"}),
        ("spsp-server", {"502"}),
        ("spsp-server-backend", {"502"}),
        ("payee", set()),
    ],
)
def test_an_operation_of_the_chain_lists_the_statuses_that_it_can_give_and_no_other(
    document_of, service, more
):
    found = dict(operations(document_of(service)))
    of_every = PAYEE | more

    for name in RESERVATIONS:
        assert WITH_BODY | of_every | {"410", "422"} == statuses(found[name])
    assert WITH_BODY | of_every | {"404", "409", "410"} == statuses(found[PAY])
    assert EVERY | of_every | {"404"} == statuses(found[LOOK_UP])
    assert EVERY | of_every | {"404", "409", "410"} == statuses(found[RELEASE])


@pytest.mark.parametrize("service", SERVICES[:6])
def test_only_a_reservation_has_an_idempotency_key_which_each_response_returns(document_of, service):
    for name, operation in operations(document_of(service)):
        is_reservation = name in RESERVATIONS
        assert is_reservation == (KEY in names(operation, "header")), name
        assert {is_reservation} == {KEY in each["headers"] for each in operation["responses"].values()}, name
        has_timeout = name in {*CHAIN, LIST, FEES, EXPOSURES, *AUDIT}
        assert has_timeout == ("X-Request-Timeout-Ms" in names(operation, "header")), name


@pytest.mark.parametrize(
    ("service", "query"),
    [
        ("dfsp-api", {"identifierType": True, "identifier": True}),
        ("spsp-client-proxy", {"identifierType": True, "identifier": True}),
        ("spsp-client", {"identifierType": False, "identifier": False, "submissionUrl": True}),
        ("spsp-server", {"identifierType": False, "identifier": False}),
        ("payee", {"identifierType": False, "identifier": False}),
    ],
)
def test_a_look_up_requires_the_query_parameters_that_the_service_requires(document_of, service, query):
    found = dict(operations(document_of(service)))

    assert query == names(found[LOOK_UP], "query") == names(found[RELEASE], "query")


def test_only_the_payee_lists_quotes_and_every_parameter_is_optional(document_of):
    found = {service: dict(operations(document_of(service))) for service in SERVICES[:6]}
    optional = ("state", "since", "until", "caller", "identifier", "amount", "uuid", "limit", "after")

    assert ["payee"] == [service for service, described in found.items() if LIST in described]
    assert dict.fromkeys(optional, False) == names(found["payee"][LIST], "query")
    assert EVERY | PAYEE | {"403"} == statuses(found["payee"][LIST])


def test_the_errors_of_an_operation_are_an_enumeration(document_of):
    found = dict(operations(document_of("dfsp-api")))

    assert ["ReceiverNotFoundError"] == error_ids(found[RESERVATIONS[0]], "404")
    assert ["QuoteNotFoundError", "ReceiverNotFoundError"] == error_ids(found[PAY], "404")
    assert ["QuoteMismatchError"] == error_ids(found[PAY], "409")


async def test_only_the_document_of_spsp_client_has_a_submission_url(hop):
    text = (await hop.send(DOCUMENT, adapt=False)).body

    assert (hop.service == "spsp-client") == (b'"submissionUrl"' in text)
