"""`quotes audit`, against a payee with the audit log."""

import stat
from uuid import UUID

import pytest

from dfsp_api.audit.checkpoint import sign_checkpoint
from dfsp_api.audit.merkle import leaf_hash
from dfsp_api.audit.note import verifier_key
from dfsp_quotes import AuditLeaf, AuditProof
from dfsp_quotes.cli.failures import CommandError
from dfsp_quotes.cli.project.audit_log import verify_proof
from support.audit import KEY, OTHER_KEY
from support.command_line import CommandLine
from support.payee import until
from support.payee_fixtures import sql, start

__all__ = ["sql", "start"]


@pytest.fixture
async def payee(start):
    return await start(operators="admin", audit_key=KEY.secret_text, audit_every_seconds="0.05")


@pytest.fixture
def admin(payee, tmp_path, database_url) -> CommandLine:
    environment = {
        "QUOTES_PAYEE_URL": payee.url,
        "QUOTES_USER": "admin",
        "QUOTES_PASSWORD": "admin",
        "QUOTES_DATABASE_URL": database_url,
    }
    (tmp_path / "keys").write_text(f"{KEY.verifier}\n")
    return CommandLine(tmp_path, environment)


async def logged(sql, leaves):
    """Wait until the log has at least so many leaves."""

    async def are_there():
        return await sql.fetchval("SELECT count(*) FROM audit_leaf") >= leaves

    await until(are_there)


async def test_an_export_verifies_and_a_changed_one_names_the_place(admin, payee, sql, tmp_path):
    uuid = await payee.reserved()
    await payee.execute(uuid)
    await logged(sql, 2)

    exported = await admin.json("audit", "export", "--out", "log.jsonl")
    good = await admin.json("audit", "verify", "log.jsonl", "--key", KEY.verifier)
    content = (tmp_path / "log.jsonl").read_bytes()
    (tmp_path / "changed.jsonl").write_bytes(content.replace(b"13.75", b"13.70", 1))
    changed = await admin.run("audit", "verify", "changed.jsonl", "--key", "keys")
    other = await admin.run("audit", "verify", "log.jsonl", "--key", OTHER_KEY.verifier, "--json")
    again = await admin.error(2, "audit", "export", "--out", "log.jsonl")
    piped = await admin.run("audit", "export")

    assert content.count(b"\n") == exported["rows"]
    assert 0o600 == stat.S_IMODE((tmp_path / "log.jsonl").stat().st_mode)
    assert (True, 2, []) == (good["isGood"], good["leaves"], good["findings"])
    assert 1 == changed.code
    number = next(n for n, line in enumerate(content.splitlines(), 1) if b"13.75" in line)
    assert f"changed.jsonl, line {number}: the row is damaged" in changed.output
    assert (1, False) == (other.code, other.json["isGood"])
    assert "log.jsonl cannot be written: File exists." == again
    assert content.decode() == piped.output


async def test_checkpoints_and_proofs_verify(admin, payee, sql, tmp_path):
    uuid = await payee.reserved()
    await logged(sql, 1)
    await admin.run("audit", "checkpoint", "--out", "kept", "--key", "keys")
    await payee.execute(uuid)
    await logged(sql, 2)

    proof = await admin.json("audit", "proof", uuid, "--key", "keys")
    consistent = await admin.json("audit", "consistency", "kept", "--key", "keys")
    await admin.run("audit", "export", "--out", "log.jsonl")
    verified = await admin.json("audit", "verify", "log.jsonl", "--key", "keys", "--checkpoint", "kept")
    distrusted = await admin.error(1, "audit", "proof", uuid, "--key", OTHER_KEY.verifier)

    assert (tmp_path / "kept").read_text().startswith("example.com/quotes\n1\n")
    assert (await admin.run("audit", "checkpoint")).output.startswith("example.com/quotes\n2\n")
    assert (True, ["RESERVED", "EXECUTED"]) == (
        proof["isVerified"],
        [leaf["event"] for leaf in proof["leaves"]],
    )
    assert {"isConsistent": True, "from": 1, "to": 2} == consistent
    assert verified["isGood"]
    assert "The checkpoint cannot be trusted: it has no signature of a key that is trusted." == distrusted


@pytest.mark.parametrize(
    ("uuid", "event", "content", "message"),
    [
        (1, "RESERVED", True, None),
        (2, "RESERVED", True, "The proof of leaf 0, 'RESERVED', is wrong."),
        (1, "EXECUTED", True, "The proof of leaf 0, 'EXECUTED', is wrong."),
        (
            1,
            "RESERVED",
            False,
            "Leaf 0 cannot be verified: the payee has removed its content after its time.",
        ),
        (1, None, False, "No event of the quote is in the audit log yet. Retry after 1 s."),
    ],
)
def test_a_proof_is_one_of_the_quote_that_was_asked_for(uuid, event, content, message):
    """A payee could prove another leaf, whose proof is good, too."""
    text = f'{{"event":"RESERVED","uuid":"{UUID(int=1)}"}}'
    root = leaf_hash(text.encode())
    leaf = AuditLeaf(event=str(event), position=0, content=text if content else None, hash=root, proof=())
    proof = AuditProof(
        uuid=UUID(int=uuid), checkpoint=sign_checkpoint(KEY, 1, root), leaves=(leaf,) if event else ()
    )
    if message is None:
        verify_proof(proof, [str(KEY.verifier)])
        return
    with pytest.raises(CommandError) as error:
        verify_proof(proof, [str(KEY.verifier)])

    assert message == str(error.value)


async def test_a_key_file_is_made_once_for_its_owner_and_shows_only_the_key_to_verify_with(bare, tmp_path):
    made = await bare.json("audit", "key", "audit-key", "--new", "example.com/log")
    shown = await bare.run("audit", "key", "audit-key")
    secret = (tmp_path / "audit-key").read_text()

    assert "example.com/log" == verifier_key(made["keys"][0]).name
    assert made["keys"] == shown.output.split()
    assert 0o600 == stat.S_IMODE((tmp_path / "audit-key").stat().st_mode)
    assert secret.strip() not in shown.output
    assert "audit-key exists, and a key is never overwritten." == await bare.error(
        2, "audit", "key", "audit-key", "--new", "example.com/log"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("export",),
            "The database is missing: set --database-url-file, QUOTES_DATABASE_URL or QUOTES_DATABASE_URL_FILE.",
        ),
        (("verify", "none", "--key", str(KEY.verifier)), "none cannot be read: No such file or directory."),
        (("key", "keys", "--new", "a b"), "'a b' cannot be the name of a log"),
        (("verify", "none", "--key", KEY.secret_text), "this is a signing key"),
        (("verify", "none", "--key", "none"), "cannot be read"),
    ],
)
def test_each_failure_is_one_sentence(refusal, monkeypatch, arguments, message):
    monkeypatch.delenv("QUOTES_DATABASE_URL", raising=False)
    refused = refusal("audit", *arguments)
    assert message in refused
    assert KEY.secret_text[-48:-8] not in refused
