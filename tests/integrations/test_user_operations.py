"""Users' operations on their integrations, and other users' (design, Provider)."""

import asyncio
from uuid import uuid4

import pytest

from support.provider import ENGINE, OTHER, STRATEGY, USER, types

WORDS = ("approve", "reject", "resume")
STATES = ("PENDING", "APPROVED", "PAUSED", "REJECTED", "DELETED")


async def states(provider) -> list[str]:
    return [row["state"] for row in await provider.sql.fetch("SELECT state FROM integration")]


CHANGES = {
    ("PENDING", "approve"): "APPROVED",
    ("PENDING", "reject"): "REJECTED",
    ("APPROVED", "delete"): "DELETED",
    ("PAUSED", "resume"): "APPROVED",
    ("PAUSED", "delete"): "DELETED",
}


async def test_each_state_allows_only_the_changes_of_the_table(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    for state in STATES:
        for word in (*WORDS, "delete"):
            await provider.sql.execute("UPDATE integration SET state = $1", state)
            method, end = ("DELETE", "") if word == "delete" else ("POST", f"/{word}")
            got = await provider.send(method, f"/v1/me/integrations/{id_}{end}")
            expected = CHANGES.get((state, word))

            assert (200 if expected else 409, [expected or state]) == (got.status, await states(provider)), (
                f"{word} in {state}"
            )


async def test_only_an_approved_integration_can_be_enabled_or_disabled(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    await provider.strategy()
    for state in STATES:
        await provider.sql.execute("UPDATE integration SET state = $1", state)
        got = [(await provider.switch(method, id_)).status for method in ("PUT", "DELETE")]

        assert [200 if state == "APPROVED" else 409] * 2 == got, state


async def test_enabling_and_disabling_again_change_nothing(provider, hook):
    id_ = await provider.enabled(hook.url)
    again = await provider.switch("PUT", id_)
    off = [await provider.switch("DELETE", id_) for _ in range(2)]
    await provider.done(id_)

    assert [200, 200, 200] == [again.status, *(each.status for each in off)]
    assert ["STRATEGY_DISABLED", "STRATEGY_ENABLED"] == sorted(set(types(hook)) - {"INTEGRATION_APPROVED"})
    assert 3 == len(hook.seen)


async def test_another_users_integration_is_not_found(provider, hook):
    id_ = await provider.enabled(hook.url)
    event_id = (await provider.done(id_))[0]["eventId"]
    one = f"/v1/me/integrations/{id_}"
    calls = [
        *(("POST", f"{one}/{word}") for word in (*WORDS, "secret")),
        ("DELETE", one),
        ("GET", f"{one}/deliveries"),
        ("POST", f"{one}/deliveries/{event_id}/replay"),
        ("PUT", f"/v1/me/strategies/{STRATEGY}/integrations/{id_}"),
        ("DELETE", f"/v1/me/strategies/{STRATEGY}/integrations/{id_}"),
    ]
    got = [(await provider.send(method, path, as_=OTHER)).status for method, path in calls]

    assert [404] * len(calls) == got


async def test_an_integration_cannot_be_enabled_for_another_users_strategy(provider, hook):
    await provider.strategy("theirs", email=OTHER)
    id_ = await provider.approved(hook.url)
    got = await provider.switch("PUT", id_, "theirs")

    assert 404 == got.status


@pytest.mark.parametrize(
    "id_", [str(uuid4()), "nonsense", "%00", "x" * 300], ids=["unknown", "nonsense", "zero", "long"]
)
async def test_an_unknown_integration_is_not_found(provider, id_):
    got = await provider.send("POST", f"/v1/me/integrations/{id_}/approve")

    assert 404 == got.status


async def test_of_an_approval_and_a_rejection_at_once_one_succeeds(start):
    provider = await start(deliveries_at_once=0)
    ids = [(await provider.requested())["id"] for _ in range(10)]
    path = "/v1/me/integrations/{}/{}"
    got = await asyncio.gather(
        *(provider.send("POST", path.format(id_, word)) for id_ in ids for word in ("approve", "reject"))
    )
    pairs = [sorted((got[n].status, got[n + 1].status)) for n in range(0, len(got), 2)]
    events = await provider.sql.fetch("SELECT type FROM event")

    assert [[200, 409]] * 10 == pairs
    assert 10 == len(events)
    assert sum(state == "APPROVED" for state in await states(provider)) == sum(
        row["type"] == "INTEGRATION_APPROVED" for row in events
    )


async def test_a_user_may_have_at_most_a_hundred_integrations(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    await provider.sql.execute(
        "INSERT INTO integration (id, user_email, name, description, image_url, url, headers, secret, state)"
        " SELECT gen_random_uuid(), user_email, name, description, image_url, url, headers, secret, 'PAUSED'"
        " FROM integration, generate_series(1, 100)"
    )
    got = await provider.send("POST", f"/v1/me/integrations/{id_}/approve")

    assert 409 == got.status


async def test_ended_integrations_do_not_hide_the_others(start):
    provider = await start(deliveries_at_once=0)
    id_ = (await provider.requested())["id"]
    await provider.sql.execute(
        "INSERT INTO integration (id, user_email, name, description, image_url, url, headers, secret, state)"
        " SELECT gen_random_uuid(), user_email, name, description, image_url, url, headers, secret, 'REJECTED'"
        " FROM integration, generate_series(1, 200)"
    )
    listed = (await provider.send("GET", "/v1/me/integrations")).json["integrations"]

    assert (200, id_) == (len(listed), listed[0]["id"])


async def test_users_and_the_engine_need_credentials(provider):
    paths = ["/v1/me/integrations", "/v1/me/notifications", "/v1/me/strategies"]
    got = [(await provider.send("GET", path, as_=None)).status for path in paths]
    signal = await provider.send("POST", f"/v1/strategies/{STRATEGY}/signals", {}, as_=None)

    assert [401] * 4 == [*got, signal.status]


async def test_only_the_engine_may_send_strategies_and_signals(provider):
    put = await provider.send("PUT", "/v1/strategies/s", {"name": "n", "userEmail": USER}, as_=USER)
    post = await provider.send("POST", "/v1/strategies/s/signals", {}, as_=USER)

    assert (403, 403) == (put.status, post.status)


async def test_the_engine_sees_no_users_integrations(provider):
    await provider.requested()
    got = await provider.send("GET", "/v1/me/integrations", as_=ENGINE)

    assert {"integrations": []} == got.json


async def test_a_users_strategies_name_the_integrations_enabled_for_them(provider, hook):
    id_ = await provider.enabled(hook.url)
    await provider.strategy("another")
    await provider.strategy("theirs", email=OTHER)
    got = await provider.send("GET", "/v1/me/strategies")
    mine = (await provider.send("GET", "/v1/me/integrations")).json["integrations"]

    assert [(STRATEGY, [id_]), ("another", [])] == [
        (each["id"], each["integrations"]) for each in got.json["strategies"]
    ]
    assert [[STRATEGY]] == [each["strategies"] for each in mine]
