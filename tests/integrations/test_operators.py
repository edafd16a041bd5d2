"""The operations for operators: the backlog, integrations in trouble, requests and responses, replay, resume."""

import json
import re
from typing import Any

import pytest

from chassis.app import SERVICE
from support.provider import (
    ENGINE,
    OK,
    OPERATOR,
    OTHER,
    REQUEST,
    STRATEGY,
    USER,
    HeldAnswer,
    Script,
    event,
    typed,
    types_but_approved,
    until,
)
from support.serving import reply, stub

NOBODY = "00000000-0000-4000-8000-000000000000"
OPERATIONS = [
    ("GET", "/backlog", None),
    ("GET", "/integrations", None),
    ("GET", f"/integrations/{NOBODY}", None),
    ("POST", f"/integrations/{NOBODY}/resume", None),
    ("POST", f"/integrations/{NOBODY}/retry", None),
    ("GET", f"/integrations/{NOBODY}/deliveries", None),
    ("GET", f"/integrations/{NOBODY}/deliveries/{NOBODY}", None),
    ("POST", f"/integrations/{NOBODY}/deliveries/{NOBODY}/replay", None),
    ("GET", f"/integrations/{NOBODY}/replays?since=2026-01-01T00:00:00Z", None),
    ("POST", f"/integrations/{NOBODY}/replays", {"since": "2026-01-01T00:00:00Z"}),
]
LONG_AGO = "2020-01-01T00:00:00Z"


@pytest.fixture
async def idle(start):
    """A provider that sends nothing."""
    return await start(deliveries_at_once=0)


@pytest.fixture
def lines(provider, monkeypatch) -> list[dict[str, Any]]:
    """The lines that the provider logs during the test."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(
        provider.app[SERVICE].logs.writer,
        "write",
        lambda lines, *, now: found.extend(json.loads(each) for each in lines),
    )
    return found


async def failing(provider, hook, *types: str) -> str:
    """Return an enabled integration whose signals of these types have failed for good."""
    id_ = await provider.enabled(hook.url)
    await provider.done(id_)
    for each in types:
        await provider.signal(each)
    await provider.done(id_)
    return id_


def refusing(times: int, answer=None) -> Script:
    """Return a webhook that accepts two events, answers `times` with an error, and then accepts all."""
    return Script([reply(200)] * 2 + [answer or reply(400)] * times + [reply(200)])


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS)
async def test_only_operators_may_use_the_operations_for_operators(idle, method, path, body):
    statuses = [
        (await idle.send(method, f"/v1/operations{path}", body, as_=who)).status
        for who in (None, USER, ENGINE)
    ]
    got = await idle.operate(method, path, body)

    assert [401, 403, 403] == statuses
    assert (404 if NOBODY in path else 200) == got.status


async def test_the_backlog_counts_waiting_events_by_integration_the_oldest_first(idle):
    first = await idle.enabled("http://127.0.0.1:1/one")
    await idle.pass_time(120)
    second = await idle.enabled("http://127.0.0.1:1/two", strategy="other")
    await idle.signal("CLOSE", "other")
    got = (await idle.operate("GET", "/backlog")).json
    backlogs = [
        (each["id"], each["backlog"]["waiting"], each["backlog"]["lanes"]) for each in got["integrations"]
    ]

    assert (5, 4, 0, 0, True) == tuple(
        got[name] for name in ("waiting", "lanes", "paused", "failing", "isComplete")
    )
    assert [(first, 2, 2), (second, 3, 2)] == backlogs
    assert got["oldestWaiting"] == got["integrations"][0]["backlog"]["oldestWaiting"]


async def test_an_event_that_is_sent_again_waits_since_then(idle):
    id_ = await idle.approved("http://127.0.0.1:1/")
    await idle.sql.execute(
        "UPDATE event SET created = created - interval '9 days', expires = expires - interval '9 days', state = 'EXPIRED'"
    )
    await idle.sql.execute("UPDATE lane SET done_seq = last_seq")
    (delivery,) = (await idle.operate("GET", f"/integrations/{id_}/deliveries")).json["deliveries"]
    await idle.operate("POST", f"/integrations/{id_}/deliveries/{delivery['eventId']}/replay")
    got = (await idle.operate("GET", "/backlog")).json

    assert 1 == got["waiting"]
    assert got["oldestWaiting"][:10] == got["at"][:10]


async def test_an_integration_that_fails_is_shown_with_its_last_failure_and_its_next_attempt(provider):
    async with stub(Script([reply(200), reply(200), reply(503, b"busy")])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()

        async def is_failing():
            found = (await provider.operate("GET", "/backlog")).json
            return found if found["failing"] and found["integrations"][0]["lastFailure"] else None

        got = (await until(is_failing))["integrations"]

    assert [id_] == [each["id"] for each in got]
    assert (503, "RETRY", "SIGNAL_OPEN") == tuple(
        got[0]["lastFailure"][name] for name in ("status", "outcome", "type")
    )
    assert got[0]["failures"] >= 1
    assert got[0]["failingSince"] is not None


async def test_a_paused_integration_is_shown_with_its_reason_and_can_be_resumed(provider, lines):
    async with stub(Script([reply(200), reply(200), reply(410), reply(200)])) as hook:
        id_ = await failing(provider, hook, "OPEN")

        async def paused():
            found = (await provider.operate("GET", "/integrations?state=PAUSED")).json["integrations"]
            return found or None

        (before,) = await until(paused)
        overview = (await provider.operate("GET", "/backlog")).json
        got = await provider.operate("POST", f"/integrations/{id_}/resume", Quotes_Operator="J%C3%B6rg")
        again = await provider.operate("POST", f"/integrations/{id_}/resume")
        after = (await provider.operate("GET", "/integrations?state=PAUSED")).json

    assert ("PAUSED", "GONE", 410) == (
        before["status"],
        before["pauseReason"],
        before["lastFailure"]["status"],
    )
    assert before["pausedSince"] == before["changed"]
    assert (1, [id_]) == (overview["paused"], [each["id"] for each in overview["integrations"]])
    assert (200, "APPROVED", None, None) == (
        got.status,
        *(got.json[name] for name in ("status", "pausedSince", "pauseReason")),
    )
    assert 409 == again.status
    assert {"integrations": [], "next": None} == after
    (line,) = [each for each in lines if each["event"] == "operator"]
    assert ("resume", OPERATOR, "Jörg", id_) == tuple(
        line[name] for name in ("action", "caller", "operator", "integration")
    )


async def test_integrations_have_filters_and_pages(idle):
    ids = [(await idle.requested(userEmail=each))["id"] for each in (USER, USER, OTHER, USER, OTHER)]
    ids.reverse()
    first = (await idle.operate("GET", "/integrations?limit=2")).json
    second = (await idle.operate("GET", f"/integrations?limit=3&after={first['next']}")).json
    of_other = (await idle.operate("GET", "/integrations?userEmail=OTHER@example.com")).json
    none = (await idle.operate("GET", f"/integrations?userEmail={OTHER}&state=APPROVED")).json
    pending = (await idle.operate("GET", "/integrations?state=PENDING")).json

    assert [ids[:2], ids[2:]] == [[each["id"] for each in page["integrations"]] for page in (first, second)]
    assert second["next"] is None
    assert [ids[0], ids[2]] == [each["id"] for each in of_other["integrations"]]
    assert [] == none["integrations"]
    assert ids == [each["id"] for each in pending["integrations"]]


@pytest.mark.parametrize(
    "query",
    [
        "integrations?state=LOST",
        "integrations?after=1",
        "integrations?userEmail=",
        "integrations?other=1",
        f"integrations/{NOBODY}/deliveries?since=yesterday",
        f"integrations/{NOBODY}/deliveries?since=2026-13-01T00:00:00Z",
        f"integrations/{NOBODY}/deliveries?limit=101",
        f"integrations/{NOBODY}/replays",
        f"integrations/{NOBODY}/replays?since=2026-01-01T00:00:00Z&state=DELIVERED",
        "backlog?x=1",
    ],
)
async def test_a_faulty_query_is_refused_with_the_name_of_the_parameter(idle, query):
    got = await idle.operate("GET", f"/{query}")

    assert (400, "InvalidQueryParameterError") == (got.status, got.json["id"])
    assert got.faults


async def test_a_delivery_shows_the_request_that_was_sent_without_secrets(provider, hook):
    headers = {"x-token": "s3cret", "x-client": "c1"}
    url = f"{hook.url}/events?key=very-secret"
    id_ = await provider.enabled(url, headers=headers)
    await provider.signal()
    await provider.done(id_)
    got = (await provider.operate("GET", f"/integrations/{id_}/deliveries")).json
    shown = got["deliveries"][0]
    one = (await provider.operate("GET", f"/integrations/{id_}/deliveries/{shown['eventId']}")).json
    seen = next(each for each in hook.seen if event(each)["type"] == "SIGNAL_OPEN")
    sent = json.loads(seen.body)
    sent["v1"]["event"]["integration"]["webhook"] = {
        "url": f"{hook.url}/events?(hidden)",
        "headers": {"x-token": "(hidden)", "x-client": "(hidden)"},
    }
    values = {each["name"]: each["value"] for each in shown["request"]["headers"]}

    assert one == shown
    assert sent == json.loads(shown["request"]["body"])
    assert ("POST", f"{hook.url}/events?(hidden)") == (shown["request"]["method"], shown["request"]["url"])
    assert {
        "x-token": "(hidden)",
        "x-client": "(hidden)",
        "webhook-signature": "(hidden)",
    }.items() <= values.items()
    for name in ("webhook-id", "webhook-timestamp", "Content-Type", "User-Agent"):
        assert seen.headers[name] == values[name]
    assert "s3cret" not in json.dumps(got)
    assert "very-secret" not in json.dumps(got)


async def test_a_delivery_shows_each_response_as_far_as_it_is_stored(provider):
    answers = [
        OK,
        OK,
        reply(500, b"first \xff\x00 " + b"x" * 2_000, X_Reason="none"),
        typed("MarketClosed"),
    ]
    async with stub(Script(answers)) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal()

        async def has_failed():
            return len((await provider.deliveries(id_))[-1]["attempts"]) == 1

        await until(has_failed)
        await provider.pass_time(1)
        log = await provider.done(id_)
        got = (await provider.operate("GET", f"/integrations/{id_}/deliveries?type=SIGNAL_OPEN")).json
        enabled = (
            await provider.operate("GET", f"/integrations/{id_}/deliveries?type=STRATEGY_ENABLED")
        ).json
    first, second = [each["response"] for each in got["deliveries"][0]["attempts"]]

    assert first["body"].startswith("first \ufffd\ufffd xxx")
    assert (1_024, True) == (len(first["body"]), first["isCut"])
    assert {"name": "X-Reason", "value": "none"} in first["headers"]
    assert (False, {"type": "MarketClosed"}) == (second["isCut"], json.loads(second["body"]))
    assert [None] == [each["response"] for each in enabled["deliveries"][0]["attempts"]]
    assert all("response" not in each for each in log[-1]["attempts"]), "the user's log is as before"


async def test_deliveries_have_filters_and_pages(provider):
    async with stub(refusing(1)) as hook:
        id_ = await failing(provider, hook, "OPEN", "CLOSE", "OPEN")
        path = f"/integrations/{id_}/deliveries"
        failed = (await provider.operate("GET", f"{path}?state=FAILED&strategyId={STRATEGY}")).json
        first = (await provider.operate("GET", f"{path}?limit=3")).json
        second = (await provider.operate("GET", f"{path}?limit=3&after={first['next']}")).json
        none = (await provider.operate("GET", f"{path}?since=2999-01-01T00:00:00%2B01:00")).json

    assert ["SIGNAL_OPEN"] == [each["type"] for each in failed["deliveries"]]
    assert ["SIGNAL_OPEN", "SIGNAL_CLOSE", "SIGNAL_OPEN"] == [each["type"] for each in first["deliveries"]]
    assert {"STRATEGY_ENABLED", "INTEGRATION_APPROVED"} == {each["type"] for each in second["deliveries"]}
    assert second["next"] is None
    assert {"deliveries": [], "next": None} == none


async def test_a_page_ends_after_the_events_that_one_call_may_examine(provider, hook, monkeypatch):
    id_ = await failing(provider, hook, *["CLOSE"] * 5)
    monkeypatch.setattr("integrations.operator_operations.MAX_EXAMINED", 3)
    path, after = f"/integrations/{id_}/deliveries?type=STRATEGY_ENABLED", ""
    pages = []
    for _ in range(4):
        page = (await provider.operate("GET", path + after)).json
        pages.append(len(page["deliveries"]))
        after = f"&after={page['next']}"
        if page["next"] is None:
            break

    assert [0, 1, 0] == pages


async def test_one_integration_is_shown_with_its_lanes(idle):
    id_ = await idle.enabled("http://127.0.0.1:1/")
    await idle.signal()
    got = (await idle.operate("GET", f"/integrations/{id_}")).json
    lanes = [(each["strategyId"], each["enabled"], each["waiting"]) for each in got["lanes"]]

    assert [(None, False, 1), (STRATEGY, True, 2)] == lanes
    assert (3, 2) == (got["backlog"]["waiting"], got["backlog"]["lanes"])
    assert (REQUEST["name"], USER) == (got["name"], got["userEmail"])


async def test_an_operator_sends_one_event_of_any_user_again_and_the_log_says_who_did_it(provider, lines):
    async with stub(refusing(1)) as hook:
        id_ = await failing(provider, hook, "OPEN")
        failed = (await provider.operate("GET", f"/integrations/{id_}/deliveries?state=FAILED")).json
        event_id = failed["deliveries"][0]["eventId"]
        got = await provider.operate(
            "POST", f"/integrations/{id_}/deliveries/{event_id}/replay", Quotes_Operator="a" * 500
        )
        log = await provider.done(id_)
        again = await provider.operate("POST", f"/integrations/{NOBODY}/deliveries/{event_id}/replay")

    assert (202, {"eventId": event_id, "state": "WAITING"}) == (got.status, got.json)
    assert "DELIVERED" == log[-1]["state"]
    assert 404 == again.status
    (line,) = [each for each in lines if each["event"] == "operator"]
    assert ("replay", OPERATOR, "a" * 128, id_, event_id) == tuple(
        line[name] for name in ("action", "caller", "operator", "integration", "webhook_id")
    )


async def replays(provider, id_: str, **body: str):
    return await provider.operate("POST", f"/integrations/{id_}/replays", {"since": LONG_AGO, **body})


async def test_all_failed_events_of_a_lane_are_sent_again_in_their_order(provider):
    async with stub(refusing(4)) as hook:
        id_ = await failing(provider, hook, "OPEN", "CLOSE", "OPEN", "CLOSE")
        preview = await provider.operate("GET", f"/integrations/{id_}/replays?since={LONG_AGO}")
        got = await replays(provider, id_, until=preview.json["until"])
        again = await replays(provider, id_, until=preview.json["until"])
        log = await provider.done(id_)

    assert (200, 202) == (preview.status, got.status)
    assert (4, 4, 0, []) == tuple(preview.json[name] for name in ("failed", "replayed", "left", "skipped"))
    assert preview.json == got.json
    assert 0 == again.json["replayed"]
    assert {"DELIVERED"} == {each["state"] for each in log}
    signals = [seen.headers["webhook-id"] for seen in hook.seen if event(seen)["type"].startswith("SIGNAL")]
    assert signals[:4] == signals[4:]


async def test_a_call_that_is_repeated_with_the_same_time_sends_nothing_a_second_time(provider):
    """Even if the events have failed again in the meantime."""
    async with stub(refusing(100)) as hook:
        id_ = await failing(provider, hook, "CLOSE", "CLOSE")
        time = (await provider.operate("GET", f"/integrations/{id_}/replays?since={LONG_AGO}")).json["until"]
        first = await replays(provider, id_, until=time)
        await provider.done(id_)
        second = await replays(provider, id_, until=time)
        third = await replays(provider, id_)
        await provider.done(id_)

    assert [2, 0, 2] == [each.json["replayed"] for each in (first, second, third)]


async def test_a_failed_event_before_a_delivered_one_of_its_lane_is_skipped_with_the_reason(provider):
    async with stub(Script([*[reply(200)] * 2, reply(400), reply(200), reply(400), reply(200)])) as hook:
        id_ = await failing(provider, hook, "OPEN", "CLOSE", "OPEN")
        got = await replays(provider, id_)
        await provider.done(id_)

    assert (2, 1) == (got.json["failed"], got.json["replayed"])
    assert [
        {
            "reason": "A later event was sent, or waits to be sent. This one would arrive out of order.",
            "events": 1,
        }
    ] == (got.json["skipped"])
    assert ["SIGNAL_OPEN", "SIGNAL_CLOSE", "SIGNAL_OPEN", "SIGNAL_OPEN"] == types_but_approved(hook)[1:]


async def test_events_of_a_disabled_strategy_are_skipped(provider):
    async with stub(refusing(1)) as hook:
        id_ = await failing(provider, hook, "CLOSE")
        await provider.switch("DELETE", id_)
        await provider.done(id_)
        got = await replays(provider, id_)

    assert (1, 0) == (got.json["failed"], got.json["replayed"])
    assert ["The integration is disabled for this strategy. Enable it first."] == [
        each["reason"] for each in got.json["skipped"]
    ]


async def test_an_expired_reopen_is_not_sent_again_because_a_close_took_its_place(provider):
    answers = [reply(200), reply(200), reply(500), reply(400), reply(200)]
    async with stub(Script(answers)) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("REOPEN", direction="SELL")
        await until(provider.notifications)
        await provider.pass_time(61)
        await provider.done(id_)
        got = await replays(provider, id_)
        log = await provider.done(id_)
    states = {each["type"]: each["state"] for each in log}

    assert (2, 1) == (got.json["failed"], got.json["replayed"])
    assert ("EXPIRED", "DELIVERED") == (states["SIGNAL_REOPEN"], states["SIGNAL_CLOSE"])


async def test_only_events_since_the_time_and_in_the_state_are_sent_again(provider):
    async with stub(Script([*[reply(200)] * 2, typed("MarketClosed"), reply(400), reply(200)])) as hook:
        id_ = await failing(provider, hook, "OPEN", "OPEN")
        late = await provider.operate(
            "POST", f"/integrations/{id_}/replays", {"since": "2999-01-01T00:00:00Z"}
        )
        refused = await replays(provider, id_, state="REFUSED")
        failed = await replays(provider, id_, state="FAILED")
        await provider.done(id_)

    assert [(0, 0), (1, 0), (1, 1)] == [
        (each.json["failed"], each.json["replayed"]) for each in (late, refused, failed)
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "since"),
        ({"since": "today"}, "since"),
        ({"since": 5}, "since"),
        ({"since": LONG_AGO, "until": None}, "until"),
        ({"since": LONG_AGO, "state": "DELIVERED"}, "state"),
        ({"since": LONG_AGO, "events": []}, "events"),
    ],
)
async def test_a_faulty_body_is_refused_with_the_name_of_the_field(idle, body, field):
    got = await idle.operate("POST", f"/integrations/{NOBODY}/replays", body)

    assert (400, [field]) == (got.status, list(got.faults))


async def test_the_number_of_replays_in_a_minute_is_limited_and_no_lane_is_torn_apart(start):
    provider = await start(replays_per_minute=3)
    async with stub(Script([OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.strategy("second")
        await provider.switch("PUT", id_, "second")
        await provider.done(id_)
        hook.answer.lines[:] = [reply(400)] * 4 + [reply(200)]
        for strategy in (STRATEGY, "second"):
            await provider.signal("OPEN", strategy)
            await provider.signal("CLOSE", strategy)
            await provider.done(id_)
        first = await replays(provider, id_)
        second = await replays(provider, id_)
        await provider.done(id_)
        (approved,) = await provider.deliveries(id_, "?type=INTEGRATION_APPROVED")
        got = await provider.operate("POST", f"/integrations/{id_}/deliveries/{approved['eventId']}/replay")
        third = await replays(provider, id_)

    assert [(2, 2), (0, 2)] == [(each.json["replayed"], each.json["left"]) for each in (first, second)]
    assert 1 <= first.json["retryAfterSeconds"] <= 60
    assert [202, 429] == [got.status, third.status]


async def test_nothing_is_replayed_when_the_limit_is_used_up(start):
    provider = await start(replays_per_minute=1)
    async with stub(refusing(1)) as hook:
        id_ = await failing(provider, hook, "CLOSE")
        first = await replays(provider, id_)
        second = await replays(provider, id_)
        await provider.done(id_)

    assert (202, 429) == (first.status, second.status)
    assert 1 <= int(second.headers["Retry-After"]) <= 60


async def test_a_replay_while_an_attempt_is_in_flight_keeps_the_order(provider):
    """The event behind the failed one waits, so the failed one is overtaken."""
    held = HeldAnswer()
    async with stub(Script([reply(200), reply(200), reply(400), held, reply(200)])) as hook:
        id_ = await failing(provider, hook, "OPEN")
        await provider.signal("CLOSE")
        await held.arrived.wait()
        got = await replays(provider, id_)
        held.let_go.set()
        await provider.done(id_)

    assert (1, 0) == (got.json["failed"], got.json["replayed"])
    assert ["SIGNAL_OPEN", "SIGNAL_CLOSE"] == types_but_approved(hook)[1:]


async def test_an_event_that_is_sent_again_is_not_old_in_the_metrics(idle):
    id_ = await idle.enabled("http://127.0.0.1:1/")
    await idle.signal("CLOSE")
    await idle.sql.execute(
        "UPDATE event SET created = created - interval '9 days', expires = expires - interval '9 days', state = 'EXPIRED'"
    )
    await idle.sql.execute("UPDATE lane SET done_seq = last_seq")
    await replays(idle, id_)
    text = (await idle.send("GET", "/metrics", as_=None)).body.decode()
    (oldest,) = re.findall(r'webhook_oldest_waiting_seconds\{kind="signal"\} (\S+)', text)

    assert 0 < float(oldest) < 86_400


async def test_events_that_wait_for_their_next_attempt_are_attempted_at_once(provider):
    async with stub(Script([OK, OK, reply(503, Retry_After="50"), OK])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("CLOSE")

        async def next_attempt():
            found = (await provider.operate("GET", f"/integrations/{id_}")).json
            return found["backlog"]["nextAttempt"]

        await until(next_attempt)
        got = await provider.operate("POST", f"/integrations/{id_}/retry")
        log = await provider.done(id_)
        none = await provider.operate("POST", f"/integrations/{id_}/retry")

    assert (202, {"lanes": 1}, {"lanes": 0}) == (got.status, got.json, none.json)
    assert ["RETRY", "DELIVERED"] == [each["outcome"] for each in log[-1]["attempts"]]
