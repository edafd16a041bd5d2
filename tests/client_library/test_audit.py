"""The client's methods for the audit log, with the real chain and with malformed responses."""

import asyncio
from uuid import UUID

import pytest

from dfsp_api.audit.checkpoint import open_checkpoint
from dfsp_api.audit.merkle import is_consistent, root_of_inclusion
from dfsp_quotes import ForbiddenError, InvalidResponseError, QuoteClient, QuoteNotFoundError
from support.audit import KEYS
from support.messages import UNKNOWN_UUID
from support.quote_client import PATIENCE_SECONDS, reserve
from support.serving import reply, stub

TIMEOUT = {"timeout": PATIENCE_SECONDS}
HASH = "ab" * 32
LEAF = {"event": "RESERVED", "position": 0, "content": "{}", "hash": HASH, "proof": [HASH]}
PROOF = {"uuid": UNKNOWN_UUID, "checkpoint": "a\n\nb\n", "leaves": [LEAF]}


@pytest.fixture
async def payee(chain):
    async with QuoteClient(chain.origin("dfsp-api"), "test", "123") as client:
        yield client


@pytest.fixture
async def operator(chain):
    async with QuoteClient(chain.origin("dfsp-api"), "admin", "admin") as client:
        yield client


async def proof_of(client, uuid, events):
    """Return the proof of a quote when the log has all these events."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            proof = await client.audit_proof(uuid, **TIMEOUT)
            if events == [leaf.event for leaf in proof.leaves]:
                return proof
            await asyncio.sleep(0.05)


async def test_proofs_lead_to_signed_checkpoints_which_are_consistent(chain, payee, operator):
    async with QuoteClient(chain.url, "test", "123") as client:
        quote = await reserve(client)
        first = open_checkpoint((await proof_of(payee, quote.uuid, ["RESERVED"])).checkpoint, KEYS.verifiers)
        await client.pay(quote, **TIMEOUT)
        proof = await proof_of(payee, str(quote.uuid), ["RESERVED", "EXECUTED"])
    signed = open_checkpoint(proof.checkpoint, KEYS.verifiers)
    last = open_checkpoint(await operator.audit_checkpoint(**TIMEOUT), KEYS.verifiers)
    hashes = await operator.audit_consistency(first.size, last.size, **TIMEOUT)

    assert quote.uuid == proof.uuid
    assert [signed.root] * 2 == [
        root_of_inclusion(leaf.hash, leaf.position, signed.size, leaf.proof) for leaf in proof.leaves
    ]
    assert is_consistent(first.size, last.size, first.root, last.root, hashes)


async def test_checkpoints_are_for_operators_and_unknown_quotes_are_not_found(payee):
    with pytest.raises(ForbiddenError):
        await payee.audit_checkpoint(**TIMEOUT)
    with pytest.raises(QuoteNotFoundError):
        await payee.audit_proof(UNKNOWN_UUID, **TIMEOUT)


@pytest.mark.parametrize(
    ("name", "arguments", "content"),
    [
        ("audit_checkpoint", (), {"size": 1}),
        ("audit_consistency", (1, 2), {}),
        ("audit_consistency", (1, 2), {"proof": [HASH] * 129}),
        ("audit_consistency", (1, 2), {"proof": [HASH.upper()]}),
        ("audit_consistency", (1, 2), {"proof": [1]}),
        ("audit_proof", (UNKNOWN_UUID,), {**PROOF, "uuid": str(UUID(int=1))}),
        ("audit_proof", (UNKNOWN_UUID,), {**PROOF, "leaves": None}),
        ("audit_proof", (UNKNOWN_UUID,), {**PROOF, "leaves": [{**LEAF, "position": -1}]}),
        ("audit_proof", (UNKNOWN_UUID,), {**PROOF, "leaves": [{**LEAF, "position": True}]}),
        ("audit_proof", (UNKNOWN_UUID,), {**PROOF, "leaves": [{**LEAF, "hash": "ab"}]}),
        ("audit_proof", (UNKNOWN_UUID,), {**PROOF, "leaves": [{**LEAF, "content": 1}]}),
    ],
)
async def test_other_content_is_an_invalid_response(name, arguments, content):
    async with stub(reply(200, content)) as server, QuoteClient(server.url, "test", "123") as client:
        with pytest.raises(InvalidResponseError):
            await getattr(client, name)(*arguments, **TIMEOUT)


async def test_a_proof_without_content_is_read():
    content = {**PROOF, "leaves": [{**LEAF, "content": None}]}
    async with stub(reply(200, content)) as server, QuoteClient(server.url, "test", "123") as client:
        (leaf,) = (await client.audit_proof(UNKNOWN_UUID, **TIMEOUT)).leaves

    assert (None, bytes.fromhex(HASH)) == (leaf.content, leaf.hash)
