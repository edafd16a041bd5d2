"""Signatures of Standard Webhooks, verified by other libraries (design, Signature)."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from support.provider import Script, until
from support.serving import Seen, reply, stub

CLIENTS = Path(__file__).parent / "clients"
NAMES = ("standardwebhooks", "svix")


def is_good(secret: str, seen: Seen) -> bool:
    try:
        Webhook(secret).verify(seen.body, seen.headers)
    except WebhookVerificationError:
        return False
    return True


async def signed(provider, hook) -> tuple[str, str, list[Seen]]:
    """Return an integration, its secret, and three requests to it."""
    created = await provider.requested(hook.url, name="Jürgen 株式会社 🙂")
    await provider.do("approve", created["id"])
    await provider.strategy(name="Gold “High” — Ω")
    await provider.switch("PUT", created["id"])
    await provider.signal()
    await provider.done(created["id"])
    return created["id"], created["signingSecret"], hook.seen


async def test_every_request_is_signed_with_the_secret_of_its_integration(provider, hook):
    _, secret, seen = await signed(provider, hook)
    other = (await provider.requested(hook.url))["signingSecret"]

    assert [True] * 3 == [is_good(secret, each) for each in seen]
    assert [False] * 3 == [is_good(other, each) for each in seen]


async def test_the_bytes_signed_are_the_bytes_sent(provider, hook):
    _, secret, seen = await signed(provider, hook)
    changed = Seen("POST", "/", seen[0].headers, seen[0].body.replace(b":", b": ", 1))

    assert not is_good(secret, changed)


async def test_a_retry_has_the_same_id_and_a_signature_of_its_own(provider):
    async with stub(Script([reply(500), reply(200)])) as hook:
        created = await provider.requested(hook.url)
        await provider.do("approve", created["id"])
        await until(provider.notifications)
        await provider.pass_time(6)
        await provider.done(created["id"])

    assert [True, True] == [is_good(created["signingSecret"], each) for each in hook.seen]
    assert 1 == len({each.headers["webhook-id"] for each in hook.seen})


async def test_for_a_day_after_a_rotation_requests_are_signed_with_both_secrets(provider, hook):
    id_, before, _ = await signed(provider, hook)
    after = (await provider.do("secret", id_)).json["signingSecret"]
    await provider.signal()
    await provider.done(id_)
    within = hook.seen[-1]
    await provider.pass_time(86_400)
    provider.dispatcher.endpoints.clear()  # as a restart does: the cache measures the day on the real clock
    await provider.signal("CLOSE")
    await provider.done(id_)
    later = hook.seen[-1]

    assert (True, True) == (is_good(before, within), is_good(after, within))
    assert (False, True) == (is_good(before, later), is_good(after, later))


async def test_a_lane_in_progress_uses_the_new_secret(provider):
    from support.provider import HeldAnswer

    held = HeldAnswer()
    async with stub(held) as hook:
        created = await provider.requested(hook.url)
        await provider.do("approve", created["id"])
        await provider.strategy()
        await provider.switch("PUT", created["id"])
        await provider.signal()
        await held.arrived.wait()
        await until(lambda: len(hook.seen) == 2)
        after = (await provider.do("secret", created["id"])).json["signingSecret"]
        held.let_go.set()
        await provider.done(created["id"])

    assert [False, False, True] == [is_good(after, each) for each in hook.seen]


async def test_the_secret_of_a_deleted_integration_cannot_be_rotated(provider, hook):
    id_ = await provider.approved(hook.url)
    await provider.delete(id_)

    assert 409 == (await provider.send("POST", f"/v1/me/integrations/{id_}/secret")).status


@pytest.fixture(scope="session")
def node_clients(tmp_path_factory) -> Path:
    """Install the npm packages of the lock file; return their folder."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    assert not missing, f"{' and '.join(missing)} must be there for others' libraries to verify signatures"
    folder = tmp_path_factory.mktemp("clients")
    for name in ("package.json", "package-lock.json", ".npmrc", "verify.mjs"):
        shutil.copy(CLIENTS / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert not done.returncode, f"npm cannot install {', '.join(NAMES)}:\n{done.stdout}\n{done.stderr}"
    return folder


def verified(folder: Path, name: str, secret: str, seen: Seen) -> str:
    asked = {"client": name, "secret": secret, "headers": seen.headers, "body": seen.body.decode()}
    done = subprocess.run(
        ["node", "verify.mjs"],
        cwd=folder,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


@pytest.mark.fault
@pytest.mark.parametrize("name", NAMES)
async def test_other_libraries_verify_the_signatures_and_refuse_forged_ones(
    provider, hook, node_clients, name
):
    id_, before, seen = await signed(provider, hook)
    after = (await provider.do("secret", id_)).json["signingSecret"]
    await provider.signal()
    await provider.done(id_)
    rotated = seen[-1]
    forged = Seen("POST", "/", rotated.headers, rotated.body.replace(b"BUY", b"BUX"))
    cases = {
        "as sent": (before, seen[0]),
        "the old secret within the overlap": (before, rotated),
        "the new secret": (after, rotated),
        "another body": (after, forged),
        "a secret too new for it": (after, seen[0]),
    }
    found = {case: verified(node_clients, name, secret, each) for case, (secret, each) in cases.items()}

    assert dict(zip(cases, ["good", "good", "good", "bad", "bad"], strict=True)) == found
