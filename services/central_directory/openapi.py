"""The directory's OpenAPI document."""

from typing import Any, Final

from marshmallow import fields

from central_directory.schemas import NewResource, Registration
from chassis.content import JSON
from chassis.errors import (
    AlreadyExistsError,
    ForbiddenError,
    InvalidQueryParameterError,
    ReceiverNotFoundError,
    UnavailableError,
)
from chassis.openapi import (
    Answer,
    DescribedOperation,
    Document,
    Reply,
    json_reply,
    query_parameter,
    schema_of,
)
from quoting.schemas import RECEIVER

MAX_JOINED_CHARACTERS: Final = 32 + len(":") + 128
"""Type, colon and identifier."""
_FIND, _CHANGE = "Find", "Administer"
_ABOUT: Final = (
    "Which DFSP has an account of a person. Every user may look up; only the administrator may change it."
)
_TAGS: Final = {_FIND: "Find a person's DFSP.", _CHANGE: "For the directory's administrator."}

_RESOURCE: Final = {
    "identifierType": "tel",
    "identifier": "+35988123456",
    "spspReceiver": "http://127.0.0.1:8013",
    "primary": True,
}


class _Urls(Reply):
    resources = fields.String(required=True)
    identifier_types = fields.String(required=True)
    register = fields.String(required=True)
    health = fields.String(required=True)


class Metadata(Reply):
    """The directory's URLs."""

    directory = fields.String(required=True)
    urls = fields.Nested(_Urls, required=True)


class IdentifierType(Reply):
    """A kind of identifier that the directory knows."""

    identifierType = fields.String(required=True)  # noqa: N815 - the source's names
    description = fields.String(required=True)


class DefaultDfsp(Reply):
    """The answer to a query with identifierType."""

    spspReceiver = fields.String(  # noqa: N815
        required=True, metadata={"description": "Base URL of the DFSP's spsp-server."}
    )


class DfspOfPerson(Reply):
    """One DFSP where the person has an account; the primary one is the person's default DFSP."""

    name = fields.String(required=True)
    shortName = fields.String(required=True)  # noqa: N815
    providerUrl = fields.String(  # noqa: N815
        required=True, metadata={"description": "Base URL of the DFSP's spsp-server."}
    )
    primary = fields.Boolean(required=True)
    registered = fields.Boolean(required=True)


class StoredResource(Reply):
    """A person's account at a DFSP."""

    identifierType = fields.String(required=True)  # noqa: N815
    identifier = fields.String(required=True)
    spspReceiver = fields.String(required=True)  # noqa: N815
    primary = fields.Boolean(required=True)


class RegisteredDfsp(Reply):
    """The credentials of a new DFSP. No other response shows the secret."""

    name = fields.String(required=True)
    key = fields.String(required=True, metadata={"description": "The user name."})
    secret = fields.String(required=True, metadata={"description": "The password."})


def openapi(title: str) -> dict[str, Any]:
    document = Document(title, _ABOUT, _TAGS)
    for method, path, operation in (
        ("GET", "/", _metadata()),
        ("GET", "/identifier-types", _identifier_types()),
        ("GET", "/resources", _find()),
        ("POST", "/resources", _add_resource()),
        ("POST", "/commands/register", _register()),
    ):
        document.add(method, path, operation)
    return document.to_dict()


def _metadata() -> DescribedOperation:
    return DescribedOperation(
        id="getMetadata",
        summary="The directory's URLs",
        tag=_FIND,
        answers={200: json_reply("The URLs.", Metadata)},
        errors=[UnavailableError],
    )


def _identifier_types() -> DescribedOperation:
    return DescribedOperation(
        id="listIdentifierTypes",
        summary="The kinds of identifiers",
        tag=_FIND,
        answers={
            200: json_reply("Those that the directory knows.", {"type": "array", "items": IdentifierType})
        },
        errors=[UnavailableError],
    )


def _find() -> DescribedOperation:
    identifier_type = RECEIVER.fields["identifierType"]
    schema = {"oneOf": [DefaultDfsp, {"type": "array", "items": DfspOfPerson}]}
    return DescribedOperation(
        id="findDfsps",
        summary="The DFSPs of a person",
        tag=_FIND,
        description="With `identifierType` the answer is the person's default DFSP. Without it `identifier` is the type, a"
        " colon and the identifier, such as `eur:30754016`, and the answer lists all DFSPs of the person.",
        parameters=[
            query_parameter(
                "identifierType", identifier_type.metadata["description"], schema_of(identifier_type)
            ),
            query_parameter(
                "identifier",
                RECEIVER.fields["identifier"].metadata["description"],
                {**schema_of(RECEIVER.fields["identifier"]), "maxLength": MAX_JOINED_CHARACTERS},
                required=True,
            ),
        ],
        answers={
            200: Answer(
                description="The default DFSP, or all.",
                content={JSON: schema},
                example={"spspReceiver": "http://127.0.0.1:8013"},
            )
        },
        errors=[InvalidQueryParameterError, ReceiverNotFoundError, UnavailableError],
    )


def _add_resource() -> DescribedOperation:
    return DescribedOperation(
        id="addResource",
        summary="Add a person's account at a DFSP",
        tag=_CHANGE,
        description="Replaces an account of the person at the same URL. A new primary account makes the others secondary.",
        body=NewResource,
        body_examples={"sample": _RESOURCE},
        answers={201: json_reply("It is stored.", StoredResource, _RESOURCE)},
        errors=[ForbiddenError, UnavailableError],
    )


def _register() -> DescribedOperation:
    return DescribedOperation(
        id="registerDfsp",
        summary="Register a DFSP",
        tag=_CHANGE,
        body=Registration,
        body_examples={"sample": {"name": "dfsp2"}},
        answers={
            201: json_reply(
                "It is registered.",
                RegisteredDfsp,
                {"name": "dfsp2", "key": "0b0b6f7b3a2c4b1d8e9f0a1b2c3d4e5f", "secret": "the password"},
            )
        },
        errors=[AlreadyExistsError, ForbiddenError, UnavailableError],
    )
