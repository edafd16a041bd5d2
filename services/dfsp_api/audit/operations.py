"""``GET /v1/audit/…``: checkpoints and proofs, their replies and descriptions (wire.md §9, docs/audit.md)."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from uuid import UUID

import orjson
from marshmallow import Schema, ValidationError, fields, validate

from chassis.database import Connection, Database
from chassis.errors import (
    ForbiddenError,
    InvalidQueryParameterError,
    InvalidUriParameterError,
    QuoteNotFoundError,
    UnavailableError,
    UpstreamTimeoutError,
)
from chassis.exchange import Exchange
from chassis.http.response import Response
from chassis.openapi import (
    Answer,
    DescribedOperation,
    Reply,
    json_reply,
    path_parameter,
    query_parameter,
    schema_of,
)
from chassis.patterns import is_uuid
from chassis.schemas import Text, check_query
from dfsp_api.audit import repository
from dfsp_api.audit.merkle import Range, consistency_ranges, inclusion_ranges, leaf_hash
from dfsp_api.audit.repository import SignedTree
from dfsp_api.audit.tiles import Tiles, hash_of_range, tiles_of
from dfsp_api.stored_quote import QuoteEvent
from quoting.openapi import COMMON_HEADERS, LOOK_UP_TAG
from quoting.service import OwnOperation, Query

CHECKPOINT_PATH: Final = "/v1/audit/checkpoint"
PROOF_PATH: Final = "/v1/audit/proof/{uuid}"
CONSISTENCY_PATH: Final = "/v1/audit/consistency"
TEXT: Final = "text/plain; charset=utf-8"

_SIZE: Final = re.compile(r"[0-9]{1,18}\Z")
_HASH: Final = {"pattern": "^[0-9a-f]{64}$"}
_EXAMPLE_NOTE: Final = (
    "example.com/quotes\n2\n+sVCA+fMaWzw38tCySod2bGoYRgGUaXjWAMQlqTSFS4=\n\n— example.com/quotes"
    " Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
_EXAMPLE_HASH: Final = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
_EXAMPLE_UUID: Final = "729bce92-cf6b-81d3-9085-437ed128fe45"


class AuditOperations:
    """Answers from the tree as it was at its last checkpoint."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[OwnOperation]:
        return [
            OwnOperation(CHECKPOINT_PATH, frozenset(), self.checkpoint, _describe_checkpoint()),
            OwnOperation(PROOF_PATH, frozenset(), self.proof, _describe_proof()),
            OwnOperation(CONSISTENCY_PATH, _NAMES, self.consistency, _describe_consistency()),
        ]

    async def checkpoint(self, exchange: Exchange, _query: Query) -> Response:
        """Return the last checkpoint. Raises ForbiddenError, UnavailableError."""
        exchange.service.require_operator(exchange.caller)
        tree = await self._database.use(_last, deadline=exchange.deadline)
        return Response(200, tree.note.encode(), content_type=TEXT)

    async def proof(self, exchange: Exchange, _query: Query) -> Response:
        """Return the leaves of a quote, with the proofs that they are in the tree of the last checkpoint.

        Raises InvalidUriParameterError, and QuoteNotFoundError as a look-up does.
        """
        text = exchange.request.path.rpartition("/")[2]
        if not is_uuid(text):
            raise InvalidUriParameterError("The uuid in the path must be 8-4-4-4-12 hex digits.")
        uuid, service = UUID(text), exchange.service
        exchange.uuid = str(uuid)

        async def read(connection: Connection) -> Mapping[str, object]:
            caller = await connection.fetchval(repository.CALLER_OF, uuid)
            if caller is None or (caller != exchange.caller and not service.is_operator(exchange.caller)):
                raise QuoteNotFoundError
            tree = await _last(connection)
            rows = await connection.fetch(repository.LEAVES_OF, uuid)
            rows = [row for row in rows if row["position"] < tree.size]
            ranges = {row["position"]: inclusion_ranges(row["position"], tree.size) for row in rows}
            leaves = [(position, position + 1) for position in ranges]
            tiles = await _tiles(connection, [*leaves, *(each for some in ranges.values() for each in some)])
            return {
                "uuid": str(uuid),
                "checkpoint": tree.note,
                "leaves": [
                    {
                        "event": QuoteEvent(row["event"]).name,
                        "position": row["position"],
                        "content": row["content"],
                        "hash": hash_of_range(tiles, (row["position"], row["position"] + 1)).hex(),
                        "proof": _proof(tiles, ranges[row["position"]]),
                    }
                    for row in rows
                ],
            }

        return _ok(await self._database.use(read, deadline=exchange.deadline))

    async def consistency(self, exchange: Exchange, query: Query) -> Response:
        """Return the proof that one tree begins with another one.

        Raises ForbiddenError, InvalidQueryParameterError.
        """
        exchange.service.require_operator(exchange.caller)
        given = check_query(_PARAMETERS, query)
        first = int(given["from"])

        async def read(connection: Connection) -> Mapping[str, object]:
            size = (await _last(connection)).size
            second = int(given.get("to", size))
            if not first <= second <= size:
                raise InvalidQueryParameterError(
                    f"from must be at most to, and to at most the size of the last checkpoint, which is {size}."
                )
            ranges = consistency_ranges(first, second) if first else []
            tiles = await _tiles(connection, ranges)
            return {"from": first, "to": second, "proof": _proof(tiles, ranges)}

        return _ok(await self._database.use(read, deadline=exchange.deadline))


async def _last(connection: Connection) -> SignedTree:
    tree = await repository.last_checkpoint(connection)
    if tree is None:
        raise UnavailableError("The audit log has no checkpoint yet. Retry after 1 s.")
    return tree


async def _tiles(connection: Connection, ranges: list[Range]) -> Tiles:
    return await repository.tiles(connection, tiles_of(ranges))


def _proof(tiles: Tiles, ranges: list[Range]) -> list[str]:
    return [hash_of_range(tiles, each).hex() for each in ranges]


def _ok(content: Mapping[str, object]) -> Response:
    return Response(200, orjson.dumps(content))


def _is_size(value: str) -> None:
    if not _SIZE.match(value):
        raise ValidationError("must be a number of leaves")


_SIZE_SCHEMA: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_PARAMETERS: Final = Schema.from_dict(
    {
        "from": Text(
            required=True,
            validate=_is_size,
            metadata={"description": "Size of the earlier checkpoint.", "json_schema": _SIZE_SCHEMA},
        ),
        "to": Text(
            validate=_is_size,
            metadata={
                "description": "Size of the later checkpoint. Default: the size of the last one.",
                "json_schema": _SIZE_SCHEMA,
            },
        ),
    }
)()
_NAMES: Final = frozenset(_PARAMETERS.fields)


class AuditLeaf(Reply):
    """One event of the quote."""

    event = fields.String(required=True, validate=validate.OneOf([each.name for each in QuoteEvent]))
    position = fields.Integer(required=True, metadata={"description": "Number of the leaf, from 0 on."})
    content = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The event and the quote's terms as canonical JSON: the bytes that the leaf's hash is made"
            " from. Null if the payee has removed it because it was too old."
        },
    )
    hash = fields.String(
        required=True, metadata={"description": "SHA-256 of a zero byte and the content.", **_HASH}
    )
    proof = fields.List(
        fields.String(metadata=_HASH),
        required=True,
        metadata={"description": "The hashes of RFC 9162 §2.1.3, from the leaf's sibling up."},
    )


class AuditProof(Reply):
    """The events of a quote that the tree has."""

    uuid = fields.UUID(required=True)
    checkpoint = fields.String(
        required=True, metadata={"description": "The signed checkpoint with the tree's size and root."}
    )
    leaves = fields.List(
        fields.Nested(AuditLeaf),
        required=True,
        metadata={"description": "An event appears about a second after it happened."},
    )


_CONSISTENCY_FIELDS: Final[dict[str, Any]] = {
    "__doc__": "The proof that the later tree begins with the earlier one.",
    "from": fields.Integer(required=True),
    "to": fields.Integer(required=True),
    "proof": fields.List(
        fields.String(metadata=_HASH),
        required=True,
        metadata={"description": "The hashes of RFC 9162 §2.1.4."},
    ),
}
# `from` is a keyword of Python
AuditConsistency: Final = type("AuditConsistency", (Reply,), _CONSISTENCY_FIELDS)


@cache
def _describe_checkpoint() -> DescribedOperation:
    return DescribedOperation(
        id="getAuditCheckpoint",
        summary="Read the audit log's last checkpoint",
        tag=LOOK_UP_TAG,
        description="Origin, size and root of the tree as a signed note, in the form of C2SP's tlog-checkpoint. For"
        " operators.",
        parameters=COMMON_HEADERS,
        answers={
            200: Answer(
                description="The checkpoint.",
                content={"text/plain": {"type": "string"}},
                example=_EXAMPLE_NOTE,
            )
        },
        errors=(ForbiddenError, UnavailableError, UpstreamTimeoutError),
    )


@cache
def _describe_proof() -> DescribedOperation:
    leaf = {
        "event": "RESERVED",
        "position": 0,
        "content": '{"caller":"alice","event":"RESERVED"}',
        "hash": leaf_hash(b'{"caller":"alice","event":"RESERVED"}').hex(),
        "proof": [_EXAMPLE_HASH],
    }
    return DescribedOperation(
        id="getAuditProof",
        summary="Prove that a quote is in the audit log",
        tag=LOOK_UP_TAG,
        description="The events of a quote that are in the tree of the last checkpoint, with the proof of each. For the"
        " caller that reserved the quote, and for operators.",
        parameters=[
            path_parameter(
                "uuid", "The quote's id.", {"type": "string", "format": "uuid"}, example=_EXAMPLE_UUID
            ),
            *COMMON_HEADERS,
        ],
        answers={
            200: json_reply(
                "The leaves and their proofs.",
                AuditProof,
                {"uuid": _EXAMPLE_UUID, "checkpoint": _EXAMPLE_NOTE, "leaves": [leaf]},
            )
        },
        errors=(QuoteNotFoundError, UnavailableError, UpstreamTimeoutError),
    )


@cache
def _describe_consistency() -> DescribedOperation:
    return DescribedOperation(
        id="getAuditConsistency",
        summary="Prove that the audit log only grew",
        tag=LOOK_UP_TAG,
        description="The proof that the tree of one size begins with the tree of a smaller size. For operators.",
        parameters=[
            *(
                query_parameter(
                    name, field.metadata["description"], schema_of(field), required=field.required
                )
                for name, field in _PARAMETERS.fields.items()
            ),
            *COMMON_HEADERS,
        ],
        answers={
            200: json_reply("The proof.", AuditConsistency, {"from": 1, "to": 2, "proof": [_EXAMPLE_HASH]})
        },
        errors=(InvalidQueryParameterError, ForbiddenError, UnavailableError, UpstreamTimeoutError),
    )
