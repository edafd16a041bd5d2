"""The guide's sentences about the provider. Each one is cited by the test that checks it."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from integrations import events
from integrations.events import (
    CanonicalEvent,
    EventType,
    EventVersion,
    IntegrationData,
    WebhookData,
    render,
    v1,
)
from integrations.notification_texts import about_event
from integrations.webhook.webhook_response import ERROR_TYPES
from support.provider import (
    CREATE,
    OTHER,
    POSITION,
    REQUEST,
    STRATEGY,
    USER,
    Script,
    event,
    typed,
    types,
    until,
)
from support.serving import reply, stub

GUIDE = (Path(__file__).parents[2] / "docs" / "integration-guide.md").read_text()
EXAMPLE = GUIDE.partition("### v1 Request Example")[2].partition("```")[2].partition("```")[0]
COMPACT = json.dumps(json.loads(EXAMPLE), separators=(",", ":")).encode()
STRATEGY_DATA = {"id": STRATEGY, "name": "Gold High-Risk"}
SIGNAL_DATA = {
    "direction": "BUY",
    "ticker": "XAUUSD",
    "quantity": 10,
    "strategy": STRATEGY_DATA,
    "proquantPositionId": POSITION,
}
NOW = datetime(2026, 11, 21, tzinfo=UTC)


async def test_the_example_request_is_sent_byte_for_byte_without_its_white_space(provider, hook):
    """The time and the webhook's URL differ from the guide's example."""
    await provider.enabled(hook.url)
    await provider.signal()
    sent = (await until(lambda: [seen for seen in hook.seen if b"SIGNAL_OPEN" in seen.body]))[0]

    body = re.sub(rb'"timestamp":[0-9]+', b'"timestamp":1549623690730', sent.body)
    body = body.replace(hook.url.encode(), b"https://foo.bar/api/proquant")

    assert COMPACT == body


async def test_events_go_to_the_webhooks_url_by_post_with_the_headers_that_were_given(provider, hook):
    """Guide: These requests are the mechanism for delivering Events to you...

    Guide: where we send Events to

    Guide: ...the headers we include in every POST request we make to the url above.
    """
    await provider.approved(hook.url + "/hook?account=7", headers={"x-foo-bar-api-token": "baz", "X-B": "b"})
    seen = (await until(lambda: hook.seen))[0]

    assert ("POST", "/hook?account=7") == (seen.method, seen.target)
    assert ("baz", "b") == (seen.headers["x-foo-bar-api-token"], seen.headers["X-B"])
    assert "application/json" == seen.headers["Content-Type"]


async def test_a_simple_post_makes_an_integration_request_that_the_user_sees(provider):
    """Guide: A simple HTTP POST request to our API will create an Integration request which will appear...

    Guide: POST https://www.proquant.com/api/integrations/v1/integrations
    """
    assert CREATE == "/api/integrations/v1/integrations"
    created = await provider.requested()
    listed = (await provider.send("GET", "/v1/me/integrations")).json["integrations"]

    assert [(created["id"], "PENDING")] == [(each["id"], each["status"]) for each in listed]
    assert {"name", "description", "imageUrl"} < set(listed[0])


async def test_every_field_but_the_headers_is_required(provider):
    """Guide: All of these properties above are defined by you, at the moment of creating the Integration.

    The guide's comments call `headers` alone optional.
    """
    for field in ["name", "description", "imageUrl", "userEmail", "webhook", "webhook.url"]:
        body = json.loads(json.dumps(REQUEST))
        holder = body["webhook"] if field == "webhook.url" else body
        del holder[field.rpartition(".")[2]]
        got = await provider.ask(body)

        assert 400 == got.status
        assert {field: "is missing"} == got.faults


async def test_headers_are_optional(provider, hook):
    """Guide: The only requirement is that you provide us with a URL for us to send HTTP POST requests to.

    Guide: Optional. Anything you put in here will be included, as headers...
    """
    got = await provider.ask({**REQUEST, "webhook": {"url": hook.url}})
    await provider.do("approve", got.json["id"])
    seen = (await until(lambda: hook.seen))[0]

    assert 201 == got.status
    assert ("POST", {}) == (seen.method, event(seen)["integration"]["webhook"]["headers"])


async def test_name_description_and_image_identify_nothing(provider, hook):
    """Two integrations that look alike have two ids. Events contain the three values as the partner gave them.

    Guide: The "title" of the integration, used for visualisation purposes only...

    Guide: The "subtitle" of the integration...

    Guide: This is used as an "Avatar" for the integration...
    """
    words = {"name": "Überkonto \U0001f4b0 <b>", "description": "日本語", "imageUrl": "https://foo.bar/ö.png"}
    ids = [await provider.approved(hook.url, **words) for _ in range(2)]
    sent = await until(lambda: len(hook.seen) == 2 and hook.seen)

    assert 2 == len(set(ids))
    assert [words] * 2 == [{name: event(seen)["integration"][name] for name in words} for seen in sent]


async def test_each_user_may_have_a_url_of_their_own(provider, hook):
    """Guide: We'll be sending events this way. Could be unique for each user...

    Guide: The e-mail the user created their ProQuant account with.
    """
    for user in (USER, OTHER):
        id_ = (await provider.requested(f"{hook.url}/hook/{user}", userEmail=user))["id"]
        await provider.do("approve", id_, as_=user)
    await until(lambda: len(hook.seen) == 2)

    assert {f"/hook/{USER}", f"/hook/{OTHER}"} == {seen.target for seen in hook.seen}


async def test_nothing_is_sent_before_the_user_approves(provider, hook):
    """Guide: ...and must be approved by the user.

    Guide: Once approved, the user may enable this Integration...

    Guide: At this point, Events will start arriving at webhook.url.
    """
    id_ = (await provider.requested(hook.url))["id"]
    await provider.strategy()
    refused = await provider.switch("PUT", id_)
    await provider.signal()

    assert 409 == refused.status
    assert [] == hook.seen

    await provider.do("approve", id_)
    await provider.switch("PUT", id_)
    await provider.signal()
    await until(lambda: len(hook.seen) == 3)

    assert {"INTEGRATION_APPROVED", "STRATEGY_ENABLED", "SIGNAL_OPEN"} == set(types(hook))


async def test_a_strategy_forwards_its_signals_to_all_integrations_enabled_for_it_and_to_no_other(provider):
    """Guide: A running strategy will forward signals to all of its enabled Integrations.

    Guide: ...send them to whatever Integrations the user has turned on for their strategy.
    """
    async with stub(reply(200, b"")) as one, stub(reply(200, b"")) as two, stub(reply(200, b"")) as other:
        await provider.enabled(one.url)
        await provider.enabled(two.url)
        await provider.approved(other.url)
        got = await provider.signal()
        await until(lambda: "SIGNAL_OPEN" in types(one) and "SIGNAL_OPEN" in types(two) and types(other))

    assert {"events": 2} == got.json
    assert ["INTEGRATION_APPROVED"] == types(other)


async def test_an_integration_may_be_enabled_for_more_than_one_strategy(provider, hook):
    """Guide: ...they may enable this Integration for one or more of their running strategies."""
    id_ = await provider.enabled(hook.url, "one")
    await provider.strategy("two")
    await provider.switch("PUT", id_, "two")
    await provider.signal(strategy="one")
    await provider.signal(strategy="two")
    sent = await until(
        lambda: len(found := [seen for seen in hook.seen if b"SIGNAL_OPEN" in seen.body]) == 2 and found
    )

    assert {"one", "two"} == {event(seen)["data"]["strategy"]["id"] for seen in sent}


async def test_every_request_has_one_event_and_the_deprecation_of_its_version(provider, hook):
    """Guide: Every request we send to webhook.url includes a single Event, formatted in all currently
    supported version formats, alongside meta information...

    Guide: v1 | Active | -
    """
    await provider.approved(hook.url)
    seen = (await until(lambda: hook.seen))[0]

    assert {"v1"} == set(seen.json)
    assert ["deprecation", "event"] == list(seen.json["v1"])
    assert seen.json["v1"]["deprecation"] is None


async def test_all_events_have_the_common_structure(provider, hook):
    """Guide: All Events have a common structure...

    Guide: UNIX-timestamp in milliseconds

    Guide: Specific for each event type
    """
    before = int(datetime.now(UTC).timestamp() * 1000)
    await provider.enabled(hook.url)
    await provider.signal()
    await until(lambda: len(hook.seen) == 3)

    for seen in hook.seen:
        assert ["timestamp", "type", "integration", "data"] == list(event(seen))
        assert ["name", "description", "imageUrl", "webhook"] == list(event(seen)["integration"])
        assert isinstance(event(seen)["timestamp"], int)
        assert before - 5 <= event(seen)["timestamp"] <= before + 60_000


async def test_each_of_the_eight_types_is_sent_with_its_data(provider, hook):
    """Guide: The user approved the Integration request... The user rejected the Integration request ... The user
    deleted the previously approved Integration ... The user enabled the Integration for one of their strategies.
    Enabling an Integration means that whenever the strategy produces signals, they will be sent ... The user
    disabled the Integration for one of their strategies ... produced a signal to open a position ... produced a
    signal to close its opened position. ... produced a signal to close its opened position and then immediately
    open a new one in the opposite direction.

    Guide: unique identifier of the strategy ... strategy name, given by the user ... The unique id of the strategy
    that produced the signal ... Name of the strategy that produced the signal ... Unique id of the corresponding
    position in ProQuant
    """
    rejected = (await provider.requested(hook.url))["id"]
    await provider.do("reject", rejected)
    id_ = await provider.enabled(hook.url)
    await provider.signal("OPEN")
    await provider.signal("REOPEN", direction="SELL")
    await provider.signal("CLOSE", direction="SELL")
    await provider.done(id_)
    await provider.switch("DELETE", id_)
    await provider.done(id_)
    await provider.delete(id_)
    await provider.done(id_)

    data = {event(seen)["type"]: event(seen)["data"] for seen in hook.seen}
    sell = {**SIGNAL_DATA, "direction": "SELL"}
    expected = {
        "INTEGRATION_APPROVED": None,
        "INTEGRATION_REJECTED": None,
        "INTEGRATION_DELETED": None,
        "STRATEGY_ENABLED": STRATEGY_DATA,
        "STRATEGY_DISABLED": STRATEGY_DATA,
        "SIGNAL_OPEN": SIGNAL_DATA,
        "SIGNAL_CLOSE": sell,
        "SIGNAL_REOPEN": sell,
    }
    assert expected == data
    assert set(EventType) == set(expected)


async def test_after_disabling_no_more_signals_of_the_strategy_are_sent(provider, hook):
    """Guide: ...the Integration will stop receiving signal Events from this strategy."""
    id_ = await provider.enabled(hook.url)
    await provider.switch("DELETE", id_)
    got = await provider.signal()
    await provider.done(id_)

    assert {"events": 0} == got.json
    assert "SIGNAL_OPEN" not in types(hook)


async def test_the_direction_of_a_reopen_is_the_new_positions(provider, hook):
    """Guide: ...the direction property in the data signifies the new position direction."""
    await provider.enabled(hook.url)
    await provider.signal("OPEN", direction="BUY")
    await provider.signal("REOPEN", direction="SELL")
    await until(lambda: len(hook.seen) == 4)
    (reopen,) = [event(seen) for seen in hook.seen if b"SIGNAL_REOPEN" in seen.body]

    assert "SELL" == reopen["data"]["direction"]


@pytest.mark.parametrize("quantity", ["10", "0.0001", "12345678.12345678", "0.10", "100000000000000001"])
async def test_a_quantity_keeps_the_digits_that_the_engine_sent(provider, hook, quantity):
    """Guide: Expressed in units.

    The number is never converted to a binary float.
    """
    await provider.enabled(hook.url)
    body = json.dumps(
        {
            "signalId": "s",
            "type": "OPEN",
            "direction": "BUY",
            "ticker": "X",
            "quantity": "?",
            "proquantPositionId": POSITION,
        }
    ).replace('"?"', quantity)
    got = await provider.send("POST", f"/v1/strategies/{STRATEGY}/signals", body.encode(), as_="engine")
    assert 202 == got.status, got.body
    seen = (await until(lambda: [each for each in hook.seen if b"SIGNAL_OPEN" in each.body]))[0]

    assert f'"quantity":{quantity},'.encode() in seen.body


async def test_a_200_with_an_empty_body_is_enough(provider, hook):
    """Guide: ...simply respond with status code 200 and an empty body."""
    id_ = await provider.enabled(hook.url)
    await provider.signal()
    log = await provider.done(id_)

    assert {"DELIVERED"} == {each["state"] for each in log}
    assert [] == await provider.notifications()


async def test_each_typed_error_becomes_a_notification_of_its_own(provider):
    """Guide: ...a predefined set of responses, which translate into well-designed errors shown to clients.

    Guide: What this notification will be, depends on the way you respond to the request.
    """
    types_ = sorted(ERROR_TYPES)
    async with stub(Script([reply(200), reply(200), *(typed(type_) for type_ in types_)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        for _ in types_:
            await provider.signal()
        log = await provider.done(id_)
        notifications = await provider.notifications()

    assert [("REFUSED", type_) for type_ in types_] == [
        (each["state"], each["attempts"][-1]["errorType"]) for each in log[2:]
    ]
    assert types_ == [each["type"] for each in notifications]
    assert all("XAUUSD" in each["text"] and "Foo Bar FX" in each["text"] for each in notifications)
    assert len(types_) == len({each["text"] for each in notifications})


async def test_the_texts_of_all_types_differ(provider):
    """Guide: ...it would give clients a better overview of what happened..."""
    integration = IntegrationData("n", "d", "i", WebhookData("u", {}))
    happened = CanonicalEvent("id", "SIGNAL_OPEN", 1, json.dumps(SIGNAL_DATA))
    texts = {
        about_event(each, happened, integration, status=422, state="FAILED")
        for each in [*ERROR_TYPES, "Generic"]
    }

    assert len(ERROR_TYPES) + 1 == len(texts)


async def test_any_other_error_falls_back_to_a_generic_notification(provider):
    """Guide: If you respond with a status code >= 400 and we do not support that type of response, we will
    fall back to a Generic error notification.
    """
    statuses = [400, 401, 404, 418, 422, 451, 499]
    for status in statuses:
        async with stub(reply(status, {"type": "SomethingElse"}, x_proquant_error="1")) as hook:
            log = await provider.done(await provider.approved(hook.url))

        assert ["FAILED"] == [each["state"] for each in log], status
    assert ["Generic"] * len(statuses) == await provider.notification_types()


async def test_the_user_is_notified_once_of_an_event_whatever_is_wrong(provider):
    """Guide: In case of an error, ProQuant clients will receive a push notification..."""
    async with stub(reply(500)) as hook:
        id_ = await provider.approved(hook.url)
        await until(lambda: hook.seen)
        await until(provider.notifications)
        await provider.pass_time(6)
        await until(lambda: len(hook.seen) == 2)

        async def tried_twice():
            return len((await provider.deliveries(id_))[0]["attempts"]) == 2

        await until(tried_twice)
        notified = await provider.notification_types()

    assert ["Generic"] == notified


def test_a_second_version_and_a_deprecation_date_make_the_guides_example():
    """Guide: New versions will be released when breaking, non-backwards-compatible changes are introduced.

    Guide: ...support for old versions will be continued long enough to allow you to upgrade without rush.
    """
    date = datetime(2020, 1, 1, tzinfo=UTC)
    versions = (
        EventVersion("v1", date, v1),
        EventVersion("v2", None, lambda happened, _: {"kind": happened.type}),
    )
    happened = CanonicalEvent("id", "INTEGRATION_APPROVED", 1549623690730, None)
    integration = IntegrationData("n", "d", "i", WebhookData("u", {}))

    before = json.loads(render(versions, happened, integration, datetime(2019, 12, 31, tzinfo=UTC)))
    from_then_on = json.loads(render(versions, happened, integration, date))

    assert ["v1", "v2"] == list(before)
    assert (
        json.loads(render(events.VERSIONS, happened, integration, date))["v1"]["event"]
        == before["v1"]["event"]
    )
    assert "2020-01-01T00:00:00.000Z" == before["v1"]["deprecation"]
    assert {"deprecation": None, "event": {"kind": "INTEGRATION_APPROVED"}} == before["v2"]
    assert ["v2"] == list(from_then_on)


async def test_a_version_is_left_out_after_its_deprecation_date_also_in_a_retry(provider):
    """Guide: ...from the specified date onwards, data for this version will no longer be included..."""
    date = datetime(2030, 1, 1, tzinfo=UTC)
    provider.webhook_client.versions = (EventVersion("v1", date, v1), EventVersion("v2", None, v1))
    provider.webhook_client.now = lambda: datetime(2029, 12, 31, 23, 59, 59, tzinfo=UTC)
    async with stub(Script([reply(500), reply(200)])) as hook:
        id_ = await provider.approved(hook.url)
        await until(provider.notifications)
        provider.webhook_client.now = lambda: date
        await provider.pass_time(6)
        await provider.done(id_)

    assert [["v1", "v2"], ["v2"]] == [list(seen.json) for seen in hook.seen]
    assert hook.seen[0].headers["webhook-id"] == hook.seen[1].headers["webhook-id"]


def test_at_least_one_version_is_current():
    """Guide: ...if null, this version is the latest and is actively supported and maintained by us."""
    assert [None] == [each.deprecation for each in events.VERSIONS if each.name == "v1"]
