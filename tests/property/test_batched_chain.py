"""Requests that pass the chain in batches get the same responses as without batches.

They are good, bad, slow, repeated, late, or given up by their client.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.chain_in_process import SLOW, ChainInProcess, chain_in_process
from support.client import ClientResponse, send
from support.documented import why_undocumented
from support.messages import (
    KEY,
    LOOK_UP_QUERY,
    OTHER,
    QUOTE,
    RESERVE,
    RESERVE_DESTINATION,
    UNKNOWN_UUID,
    basic,
)

PREPARED = 4
COMPARED = {"content-type", "l1p-trace-id", "idempotency-key", "retry-after", "www-authenticate", "allow"}
_runs = itertools.count()


@dataclass
class Item:
    """One request. `ends` says whether its client waits, sets a deadline of 1 ms, or gives up."""

    method: str
    path: str
    body: dict[str, Any] | bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    ends: str = "waits"


@dataclass
class Two:
    """Two chains on one database: one with batches between services, one without."""

    together: ChainInProcess
    alone: ChainInProcess
    sql: asyncpg.Connection


@pytest.fixture
async def two(users_file, client, database_url, tmp_path) -> AsyncIterator[Two]:
    sql = await asyncpg.connect(database_url)
    async with (
        chain_in_process(users_file, client, database_url, tmp_path, batch_lines=64) as together,
        chain_in_process(users_file, client, database_url, tmp_path, batch_lines=0) as alone,
    ):
        yield Two(together, alone, sql)
    await sql.close()


ENDS = st.sampled_from(["waits"] * 8 + ["no time", "gives up"])
AMOUNTS = st.integers(1, 99_999).map(lambda cents: f"{cents // 100}.{cents % 100:02}")


def reserve(body: Any, key: str | None, path: str = RESERVE, **more: str) -> Item:
    return Item("POST", path, body, ({KEY: key} if key else {}) | more)


RESERVES = st.builds(
    lambda amount, key, path: reserve({**QUOTE, "amount": amount}, key, path),
    AMOUNTS,
    st.integers(0, 5).map("shared-{}".format) | st.uuids().map(str),
    st.sampled_from([RESERVE, RESERVE_DESTINATION]),
)
BAD_RESERVES = st.builds(
    lambda change, key: reserve({**QUOTE, **change}, key),
    st.sampled_from(
        [
            {"amount": "1e3"},
            {"amount": "0"},
            {"amount": 12.5},
            {"amount": "999999999.00"},
            {"currencyCode": "XAU"},
            {"transferType": "nobody-knows"},
            {"identifier": "nobody"},
            {"identifierType": "EUR"},
            {"account": "no URL"},
            {"more": "x"},
            {"identifier": "\u0000"},
        ]
    ),
    st.uuids().map(str),
)
BROKEN = st.sampled_from(
    [
        reserve(b"{", "k"),
        reserve(b"", "k"),
        reserve(b"\xff", "k"),
        reserve(b'{"a": 1, "a": 2}', "k"),
        reserve(b"[" * 10_000, "k"),
        reserve(b" " * 70_000, "k"),
        reserve(QUOTE, "no key"),
        reserve(QUOTE, "k", **{"X-Request-Timeout-Ms": "soon"}),
        reserve(QUOTE, "k", **{"Content-Type": "text/plain"}),
        Item("DELETE", RESERVE),
        Item("GET", "/v1/nowhere"),
        Item("GET", "/v1/quote/1?" + LOOK_UP_QUERY),
        Item("GET", f"/v1/quote/{UNKNOWN_UUID}"),
        Item("GET", f"/v1/quote/{UNKNOWN_UUID}?{LOOK_UP_QUERY}&x=1"),
    ]
)
STRANGERS = st.builds(
    lambda who, item: Item(item.method, item.path, item.body, {**item.headers, "Authorization": who}),
    st.integers(0, 3).map(lambda number: f"stranger {number}"),
    RESERVES,
)
SLOW_ONES = st.builds(lambda key: reserve({**QUOTE, "identifier": SLOW}, key), st.uuids().map(str))
EXECUTES = st.builds(
    lambda which, change, who: Item(
        "PUT", f"execute {which}", {**QUOTE, **change}, {"Authorization": who} if who else {}
    ),
    st.integers(0, PREPARED - 1) | st.sampled_from(["expired", "unknown"]),
    st.sampled_from(
        [
            {},
            {},
            {},
            {"amount": "12.5"},
            {"amount": "12.51"},
            {"sourceAmount": "13.750"},
            {"destinationAmount": "1"},
        ]
    ),
    st.sampled_from([None, None, None, OTHER]),
)
LOOK_UPS = st.builds(
    lambda which, who: Item("GET", f"look up {which}", None, {"Authorization": who} if who else {}),
    st.sampled_from(["kept", "expired", "unknown"]),
    st.sampled_from([None, None, OTHER]),
)
ITEMS = st.lists(
    st.builds(
        lambda item, ends: Item(item.method, item.path, item.body, item.headers, ends),
        st.one_of(
            RESERVES, RESERVES, BAD_RESERVES, BROKEN, STRANGERS, SLOW_ONES, EXECUTES, EXECUTES, LOOK_UPS
        ),
        ENDS,
    ),
    min_size=20,
    max_size=60,
)


async def prepared(two: Two, run: int) -> dict[str, str]:
    """Reserve the quotes of this run, and return their uuids by the names that items use.

    After it each service knows that its next hop takes batches.
    """
    names = [*(str(each) for each in range(PREPARED)), "kept", "expired"]
    uuids = {"unknown": UNKNOWN_UUID}
    for name in names:
        answer = await send(
            two.together.client, "POST", two.together.url + RESERVE, QUOTE, Idempotency_Key=f"{run}-{name}"
        )
        assert 200 == answer.status, answer.body
        uuids[name] = answer.json["uuid"]
    past = "UPDATE quote SET expires = clock_timestamp() - interval '1 minute' WHERE uuid = $1::text::uuid"
    assert "UPDATE 1" == await two.sql.execute(past, uuids["expired"])
    return uuids


def meant(item: Item, number: int, run: int, uuids: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The path and the headers of an item, with this run's names."""
    made = {"L1p-Trace-Id": f"{run}-{number}", **item.headers}
    if KEY in made and made[KEY] != "no key":
        made[KEY] = f"{run}-{made[KEY]}"
    if made.get("Authorization", "").startswith("stranger"):
        made["Authorization"] = basic(f"{made['Authorization']} of {run}", "x")
    what, _, which = item.path.rpartition(" ")
    if what == "execute":
        return f"/v1/payments/{uuids[which]}", made
    if what == "look up":
        return f"/v1/quote/{uuids[which]}?{LOOK_UP_QUERY}", made
    return item.path, made


def compared(answer: ClientResponse) -> tuple[int, bytes, dict[str, str]]:
    kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() in COMPARED}
    return answer.status, answer.body, kept


async def one(chain: ChainInProcess, item: Item, path: str, made: dict[str, str]) -> ClientResponse | None:
    """The response, or None where the client gave up."""
    if item.ends == "no time":
        made = {**made, "X-Request-Timeout-Ms": "1"}
    asked = asyncio.ensure_future(send(chain.client, item.method, chain.url + path, item.body, **made))
    if item.ends == "gives up":
        await asyncio.wait([asked], timeout=0.003)
        asked.cancel()
        await asyncio.wait([asked])
        return None
    return await asked


@settings(
    deadline=None,
    max_examples=8,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(items=ITEMS)
async def test_a_request_in_a_batch_gets_the_same_response_as_alone(two, items):
    run = next(_runs)
    uuids = await prepared(two, run)
    requests = [(item, *meant(item, number, run, uuids)) for number, item in enumerate(items)]
    async with asyncio.timeout(60):
        together = await asyncio.gather(*(one(two.together, *request) for request in requests))

    for (item, path, made), answer in zip(requests, together, strict=True):
        if answer is None:
            continue
        assert why_undocumented(answer.status, answer.headers, answer.body, made["L1p-Trace-Id"]) is None
        if item.ends == "no time":
            assert 200 != answer.status
            continue
        alone = await one(two.alone, item, path, made)
        assert alone is not None
        assert compared(alone) == compared(answer)


async def test_the_chain_with_batches_uses_them(two):
    """Otherwise the comparison above would compare nothing."""
    await prepared(two, next(_runs))
    await asyncio.gather(
        *(
            send(
                two.together.client, "POST", two.together.url + RESERVE, QUOTE, Idempotency_Key=f"key-{each}"
            )
            for each in range(100)
        )
    )

    assert 0 < await two.together.batches()
