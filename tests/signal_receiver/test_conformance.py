"""The provider's conformance kit finds no fault in the receiver."""

import asyncio
import base64
import subprocess
import sys

import pytest

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


async def kit(url: str, *more: str) -> tuple[int, str]:
    """Runs the kit; returns its exit status and the last line of its report."""
    command = [sys.executable, "-m", "integrations", "check", url, *more]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, (done.stdout.splitlines() or [done.stderr])[-1]


@pytest.mark.parametrize(
    ("token", "more"), [("sample", []), ("guarded-token", ["--header", "x-foo-bar-api-token: baz"])]
)
async def test_the_receiver_conforms_to_the_guide(receiver, token, more):
    assert (0, "0 faults, 0 notes, 20 ok") == await kit(f"{receiver.url}/webhook/{token}", *more)


async def test_the_receiver_conforms_with_required_signatures(receiver):
    path, url = "/v1/accounts/sample/webhook-secret", f"{receiver.url}/webhook/sample"
    assert 204 == (await receiver.call("PUT", path, {"secret": SECRET})).status

    assert (0, "0 faults, 0 notes, 20 ok") == await kit(url, "--secret", SECRET)


async def test_wrong_credentials_are_notes_and_not_faults(receiver):
    assert (0, "0 faults, 16 notes, 4 ok") == await kit(f"{receiver.url}/webhook/nobodys-token")
