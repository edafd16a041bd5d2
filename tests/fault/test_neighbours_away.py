"""Each service is killed or paused in turn: the callers' replies are documented and in time, and then all works."""

import asyncio
import time
import uuid

import pytest

from support.client import send
from support.documented import why_undocumented
from support.load import PATIENCE_SECONDS
from support.messages import LOOK_UP_QUERY, QUOTE, RESERVE

BEFORE = {
    "spsp-client-proxy": "dfsp-api",
    "central-directory": "spsp-client-proxy",
    "spsp-client": "spsp-client-proxy",
    "spsp-server": "spsp-client",
    "spsp-server-backend": "spsp-server",
    "dfsp-api": "spsp-server-backend",
}
TIMEOUT_MS = 1_500


async def every_operation(client, chain, trace, uuid_, timeout_ms=30_000):
    """Reserve, execute and look up at once. Return each reply with its duration in seconds."""

    async def one(method, target, body):
        began = time.monotonic()
        answer = await send(
            client, method, chain.url + target, body, trace=trace, X_Request_Timeout_Ms=str(timeout_ms)
        )
        return answer, time.monotonic() - began

    return await asyncio.gather(
        one("POST", RESERVE, QUOTE),
        one("PUT", f"/v1/payments/{uuid_}", QUOTE),
        one("GET", f"/v1/quote/{uuid_}?{LOOK_UP_QUERY}", None),
    )


async def reserve(client, chain) -> str:
    answer = await send(client, "POST", chain.url + RESERVE, QUOTE, X_Request_Timeout_Ms="30000")
    assert 200 == answer.status, answer.body
    return answer.json["uuid"]


def pids(chain) -> dict[str, int]:
    return {name: child.pid for name, child in chain.network.children.items()}


@pytest.mark.parametrize("name", list(BEFORE))
async def test_requests_to_a_killed_service_are_answered_502_and_only_it_needs_a_restart(
    broken_chain, client, name
):
    uuid_ = await reserve(client, broken_chain)
    others = {other: pid for other, pid in pids(broken_chain).items() if other != name}
    broken_chain.forget_directory()
    broken_chain.network.kill(name)
    answers = await every_operation(client, broken_chain, "killed", uuid_)
    await asyncio.to_thread(broken_chain.network.restart, name)
    after = await every_operation(client, broken_chain, "back", uuid_)

    for answer, seconds in answers:
        assert (502, "UpstreamError", BEFORE[name], "killed") == answer.raised
        assert why_undocumented(answer.status, answer.headers, answer.body, "killed") is None
        assert seconds < 30 + PATIENCE_SECONDS
    assert [200, 200, 200] == [answer.status for answer, _ in after]
    assert others == {other: pid for other, pid in pids(broken_chain).items() if other != name}


@pytest.mark.parametrize("name", list(BEFORE))
async def test_requests_to_a_paused_service_are_answered_504_within_the_deadline(broken_chain, client, name):
    uuid_ = await reserve(client, broken_chain)
    broken_chain.forget_directory()
    child = broken_chain.network.children[name]
    child.pause()
    try:
        answers = await every_operation(client, broken_chain, "stopped", uuid_, TIMEOUT_MS)
    finally:
        child.resume()
    await reserve(client, broken_chain)
    after = await every_operation(client, broken_chain, "on", uuid_)

    for answer, seconds in answers:
        assert (504, "UpstreamTimeoutError") == answer.raised[:2]
        assert why_undocumented(answer.status, answer.headers, answer.body, "stopped") is None
        assert TIMEOUT_MS / 1000 - 0.05 < seconds < TIMEOUT_MS / 1000 + PATIENCE_SECONDS
    assert [200, 200, 200] == [answer.status for answer, _ in after]


@pytest.mark.parametrize("name", list(BEFORE))
async def test_a_reservation_repeated_after_a_pause_is_one_quote(broken_chain, client, name):
    key = str(uuid.uuid4())
    child = broken_chain.network.children[name]
    broken_chain.forget_directory()
    child.pause()
    try:
        lost = await send(
            client, "POST", broken_chain.url + RESERVE, QUOTE, Idempotency_Key=key, X_Request_Timeout_Ms="500"
        )
    finally:
        child.resume()
    found = [
        await send(
            client,
            "POST",
            broken_chain.url + RESERVE,
            QUOTE,
            Idempotency_Key=key,
            X_Request_Timeout_Ms="30000",
        )
        for _ in range(2)
    ]

    assert 504 == lost.status
    assert [200, 200] == [answer.status for answer in found]
    assert found[0].body == found[1].body
