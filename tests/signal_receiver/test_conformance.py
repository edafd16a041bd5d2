"""The kit for those who build webhooks finds nothing to object to here."""

import asyncio
import base64
import subprocess
import sys

import pytest

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


async def kit(url: str, *more: str) -> tuple[int, str]:
    """Exit status and last line of the report."""
    command = [sys.executable, "-m", "integrations", "check", url, *more]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, (done.stdout.splitlines() or [done.stderr])[-1]


@pytest.mark.parametrize(
    ("token", "more"), [("sample", []), ("guarded-token", ["--header", "x-foo-bar-api-token: baz"])]
)
async def test_the_receiver_is_by_the_guide(receiver, token, more):
    assert (0, "0 faults, 0 notes, 20 in order") == await kit(f"{receiver.url}/webhook/{token}", *more)


async def test_the_receiver_is_by_the_guide_where_it_demands_signatures(receiver):
    path, url = "/v1/accounts/sample/webhook-secret", f"{receiver.url}/webhook/sample"
    assert 204 == (await receiver.call("PUT", path, {"secret": SECRET})).status

    assert (0, "0 faults, 0 notes, 20 in order") == await kit(url, "--secret", SECRET)


async def test_credentials_that_are_wrong_are_no_fault_but_are_told(receiver):
    assert (0, "0 faults, 16 notes, 4 in order") == await kit(f"{receiver.url}/webhook/nobodys-token")
