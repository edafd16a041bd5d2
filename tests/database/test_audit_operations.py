"""`GET /v1/audit/…`: checkpoints and proofs from a payee that keeps the audit log (wire.md §9)."""

import asyncio
import time

import pytest

from dfsp_api.audit.checkpoint import open_checkpoint
from dfsp_api.audit.merkle import is_consistent, leaf_hash, root_of_inclusion
from support.audit import KEY, KEYS, good_export
from support.messages import LOOK_UP_QUERY, OTHER, UNKNOWN_UUID, basic
from support.payee import until

ADMIN = basic("admin", "admin")


@pytest.fixture(params=["postgres", "distributed"])
async def payee(request, start):
    """A payee of each kind with the audit log."""
    return await start(
        database_kind=request.param, operators="admin", audit_key=KEY.secret_text, audit_every_seconds="0.05"
    )


async def get(payee, path, authorization=ADMIN):
    return await payee.send("GET", f"/v1/audit/{path}", authorization=authorization)


async def checkpoint(payee, size):
    """Return the checkpoint when the log has at least `size` leaves."""

    async def is_there():
        answer = await get(payee, "checkpoint")
        return 200 == answer.status and open_checkpoint(answer.body.decode(), KEYS.verifiers).size >= size

    await until(is_there)
    answer = await get(payee, "checkpoint")
    assert "text/plain; charset=utf-8" == answer.headers["Content-Type"]
    return open_checkpoint(answer.body.decode(), KEYS.verifiers)


async def test_a_proof_leads_from_the_leaf_to_the_signed_root(payee):
    uuids = [await payee.reserved() for _ in range(5)]
    await payee.execute(uuids[2])
    await payee.send("DELETE", f"/v1/quote/{uuids[3]}?{LOOK_UP_QUERY}")
    await checkpoint(payee, 7)
    for uuid, events in zip(
        uuids, [["RESERVED"]] * 2 + [["RESERVED", "EXECUTED"], ["RESERVED", "RELEASED"]], strict=False
    ):
        answer = (await get(payee, f"proof/{uuid}")).json
        signed = open_checkpoint(answer["checkpoint"], KEYS.verifiers)
        assert events == [leaf["event"] for leaf in answer["leaves"]]
        for leaf in answer["leaves"]:
            assert uuid in leaf["content"]
            assert leaf["hash"] == leaf_hash(leaf["content"].encode()).hex()
            proof = [bytes.fromhex(each) for each in leaf["proof"]]
            assert signed.root == root_of_inclusion(
                bytes.fromhex(leaf["hash"]), leaf["position"], signed.size, proof
            )


async def test_a_later_checkpoint_is_consistent_with_an_earlier_one(payee):
    await payee.reserved()
    first = await checkpoint(payee, 1)
    for _ in range(4):
        await payee.reserved()
    second = await checkpoint(payee, 5)
    answer = (await get(payee, f"consistency?from={first.size}&to={second.size}")).json
    proof = [bytes.fromhex(each) for each in answer["proof"]]

    assert (first.size, second.size) == (answer["from"], answer["to"])
    assert is_consistent(first.size, second.size, first.root, second.root, proof)
    assert answer == (await get(payee, f"consistency?from={first.size}")).json
    assert [] == (await get(payee, "consistency?from=0&to=3")).json["proof"]


async def test_a_proof_is_for_operators_and_for_the_caller_of_the_quote(payee):
    uuid = await payee.reserved(authorization=OTHER)
    await checkpoint(payee, 1)

    assert 200 == (await get(payee, f"proof/{uuid}")).status
    assert 200 == (await get(payee, f"proof/{uuid.upper()}", OTHER)).status
    assert (404, "QuoteNotFoundError") == (await get(payee, f"proof/{uuid}", basic("test", "123"))).outcome
    assert (404, "QuoteNotFoundError") == (await get(payee, f"proof/{UNKNOWN_UUID}")).outcome
    assert (400, "InvalidUriParameterError") == (await get(payee, "proof/none")).outcome
    for path in ("checkpoint", "consistency?from=0"):
        assert (403, "ForbiddenError") == (await get(payee, path, OTHER)).outcome


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?to=1",
        "?from=-1",
        "?from=x",
        "?from=2&to=1",
        "?from=0&to=99",
        "?from=1&from=1",
        "?from=1&other=1",
    ],
)
async def test_sizes_that_the_log_does_not_have_are_refused(payee, query):
    await checkpoint(payee, 0)

    assert (400, "InvalidQueryParameterError") == (await get(payee, f"consistency{query}")).outcome


async def test_a_payee_without_a_key_has_no_audit_log(start, sql):
    payee = await start(operators="admin")
    await payee.reserved()

    assert (404, "NotFoundError") == (await get(payee, "checkpoint")).outcome
    assert b"audit_leaves" not in (await payee.send("GET", "/metrics")).body
    assert 0 == await sql.fetchval("SELECT count(*) FROM audit_pending")


async def test_two_payees_under_load_keep_one_good_log(start, sql):
    settings = {"operators": "admin", "audit_key": KEY.secret_text, "audit_every_seconds": "0.05"}
    payees = [await start(**settings), await start(**settings, database_kind="distributed")]

    async def work(number):
        uuid = await payees[number % 2].reserved(X_Request_Timeout_Ms="60000")
        await payees[number // 2 % 2].execute(uuid, X_Request_Timeout_Ms="60000")

    await asyncio.gather(*map(work, range(100)))
    await checkpoint(payees[0], 200)

    assert 200 == len(await good_export(sql))


async def test_an_event_that_is_not_added_in_time_is_shown_by_readiness_and_metrics(clock, start, sql):
    """Somebody holds the lease and does nothing. The lease does not end, because the clock stands still."""
    await clock.set("2026-11-21T02:00:00Z")
    payee = await start(operators="admin", audit_key=KEY.secret_text, audit_every_seconds="0.05")
    await sql.execute(
        "UPDATE audit_log SET holder = 'another', leased_until = clock_timestamp() + interval '5 s'"
    )
    await payee.reserved()
    await sql.execute("UPDATE audit_pending SET at = at - interval '11 s'")

    async def is_warned():
        return "warnings" in (await payee.readiness()).json

    await until(is_warned)
    metrics = (await payee.send("GET", "/metrics")).body.decode()
    (line,) = (each for each in metrics.splitlines() if each.startswith("audit_oldest_waiting_seconds "))
    assert float(line.split()[1]) > 10
    assert 200 == (await payee.readiness()).status
    await sql.execute("UPDATE audit_log SET leased_until = '2000-01-01Z'")
    await checkpoint(payee, 1)

    async def is_well():
        return "warnings" not in (await payee.readiness()).json

    await until(is_well)


async def test_a_request_does_not_wait_for_the_log(start, sql):
    """While a transaction locks all tables of the log but the one for new events, quotes are reserved and paid."""
    payee = await start(operators="admin", audit_key=KEY.secret_text, audit_every_seconds="0.05")
    await checkpoint(payee, 0)
    async with sql.transaction():
        await sql.execute("LOCK TABLE audit_log, audit_leaf, audit_tile, audit_checkpoint")
        began = time.monotonic()
        uuid = await payee.reserved(X_Request_Timeout_Ms="60000")
        assert 200 == (await payee.execute(uuid, X_Request_Timeout_Ms="60000")).status
        assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "key", ["nonsense", str(KEY.verifier), KEY.secret_text.replace("example", "exomple")]
)
async def test_a_key_that_cannot_be_used_is_refused_at_the_start(start, key):
    with pytest.raises(Exception, match="QUOTES_AUDIT_KEY cannot be used") as raised:
        await start(audit_key=key)
    assert key not in str(raised.value)
