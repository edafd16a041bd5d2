"""Users' notifications: listed, and as server-sent events (design, Provider)."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from integrations import notifications
from integrations.app import NOTIFICATIONS
from support.provider import OTHER, USER, Script, basic, typed, until
from support.serving import reply, stub


@asynccontextmanager
async def listening(provider, user: str = USER, **headers: str):
    """Listen to the stream; yield a list that gets each notification as id and content."""
    received: list[tuple[str, dict]] = []

    async def listen(answer) -> None:
        entry: dict[str, str] = {}
        async for line in answer.content:
            name, colon, value = line.decode().rstrip("\n").partition(": ")
            if name and colon:
                entry[name] = value
            elif not line.strip() and "data" in entry:
                received.append((entry["id"], json.loads(entry["data"])))
                entry = {}

    made = {"Authorization": basic(user), "Accept": "text/event-stream", **headers}
    async with provider.client.get(f"{provider.url}/v1/me/notifications", headers=made) as answer:
        assert (200, "text/event-stream") == (answer.status, answer.content_type)
        task = asyncio.create_task(listen(answer))
        try:
            yield received
        finally:
            task.cancel()
            await asyncio.wait([task])


async def refused(provider, count: int = 1) -> str:
    """Return an integration; so many events were refused."""
    async with stub(typed("MarketClosed")) as hook:
        for _ in range(count):
            id_ = await provider.approved(hook.url)
            await provider.done(id_)
    return id_


async def test_a_notification_names_its_type_integration_and_event(provider):
    id_ = await refused(provider)
    event_id = (await provider.deliveries(id_))[0]["eventId"]
    received = (await provider.notifications())[0]

    assert ("MarketClosed", id_, event_id) == (
        received["type"],
        received["integrationId"],
        received["eventId"],
    )
    assert (
        "Foo Bar FX (user@example.com) did not accept the message that you approved the integration"
        in received["text"]
    )


async def test_a_stream_brings_each_notification_as_it_is_stored(provider):
    async with listening(provider) as received:
        await refused(provider, 2)
        await until(lambda: len(received) == 2)
        listed = await provider.notifications()

    assert [(str(each["id"]), each) for each in listed] == received


async def test_a_stream_works_with_connection_close(provider):
    async with listening(provider, Connection="close") as received:
        await refused(provider, 2)
        await until(lambda: len(received) == 2)


async def test_a_stream_brings_notifications_of_other_processes(start):
    one, other = await start(), await start(deliveries_at_once=0)
    async with listening(other) as received:
        await refused(one)
        await until(lambda: received)

    assert "MarketClosed" == received[0][1]["type"]


async def test_a_stream_continues_after_the_last_event_id(provider):
    await refused(provider, 3)
    first = (await provider.notifications())[0]["id"]
    async with listening(provider, **{"Last-Event-ID": str(first)}) as received:
        await until(lambda: len(received) == 2)

    assert [each["id"] for each in (await provider.notifications())[1:]] == [int(id_) for id_, _ in received]


async def test_a_user_gets_no_notifications_of_other_users(provider):
    async with listening(provider, OTHER) as theirs, listening(provider) as mine:
        await refused(provider)
        await until(lambda: mine)
        listed = await provider.notifications(OTHER)

    assert ([], []) == (theirs, listed)


async def test_an_invalid_last_event_id_is_refused(provider):
    got = await provider.send(
        "GET", "/v1/me/notifications", Accept="text/event-stream", Last_Event_ID="nonsense"
    )

    assert 400 == got.status


async def test_a_stream_takes_no_parameters(provider):
    for query in ["before=1", "limit=1", "after=1"]:
        got = await provider.send("GET", f"/v1/me/notifications?{query}", Accept="text/event-stream")

        assert (400, [query.partition("=")[0]]) == (got.status, list(got.faults))


async def test_a_stream_has_the_services_name_and_must_not_be_stored(provider):
    made = {"Authorization": basic(USER), "Accept": "text/event-stream"}
    async with provider.client.get(f"{provider.url}/v1/me/notifications", headers=made) as answer:
        assert ("integrations", "no-store") == (answer.headers["Server"], answer.headers["Cache-Control"])


async def test_a_user_may_have_at_most_ten_streams(provider):
    made = {"Authorization": basic(USER), "Accept": "text/event-stream"}
    url = f"{provider.url}/v1/me/notifications"
    answers = [await provider.client.get(url, headers=made) for _ in range(11)]
    statuses = [each.status for each in answers]
    for each in answers:
        each.close()

    assert [200] * 10 + [429] == statuses


async def test_a_stream_that_is_closed_frees_its_place_at_once(provider, monkeypatch):
    """Not only when the next line cannot be written, which is never here."""
    monkeypatch.setattr(notifications, "POLL_SECONDS", 3_600)
    made = {"Authorization": basic(USER), "Accept": "text/event-stream"}
    url = f"{provider.url}/v1/me/notifications"
    answers = [await provider.client.get(url, headers=made) for _ in range(10)]
    answers.pop().close()

    async def is_let_in() -> bool:
        answers.append(await provider.client.get(url, headers=made))
        return 200 == answers[-1].status

    await until(is_let_in)
    for each in answers:
        each.close()


async def test_notifications_are_listed_newest_first_in_pages(provider):
    await refused(provider, 3)
    everything = (await provider.send("GET", "/v1/me/notifications")).json["notifications"]
    page = (await provider.send("GET", "/v1/me/notifications?limit=2")).json["notifications"]
    rest = (await provider.send("GET", f"/v1/me/notifications?before={page[-1]['id']}")).json["notifications"]

    assert everything == page + rest
    assert sorted((each["id"] for each in everything), reverse=True) == [each["id"] for each in everything]


async def test_an_event_notifies_the_user_of_its_first_failure_alone(provider):
    """The user gets one notification for an event, at its first failed attempt."""
    async with stub(Script([reply(500), typed("InvalidCredentials")])) as hook:
        id_ = await provider.approved(hook.url)
        await until(provider.notifications)
        await provider.pass_time(6)
        log = await provider.done(id_)

    assert "REFUSED" == log[0]["state"]
    assert ["Generic"] == await provider.notification_types()


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "100 %s {0} {verb}"])
async def test_a_partners_words_are_not_interpreted(provider, name):
    async with stub(typed("MarketClosed")) as hook:
        id_ = await provider.approved(hook.url, name=name)
        await provider.done(id_)
    received = (await provider.notifications())[0]

    assert received["text"].startswith(f"Foo Bar FX ({name}) did not accept ")


async def test_streams_end_when_the_service_shuts_down(provider):
    from chassis.app import SERVICE

    made = {"Authorization": basic(USER), "Accept": "text/event-stream"}
    async with provider.client.get(f"{provider.url}/v1/me/notifications", headers=made) as answer:
        provider.app[SERVICE].is_leaving = True
        await refused(provider)
        async with asyncio.timeout(60):
            rest = await answer.content.read()
        provider.app[SERVICE].is_leaving = False

    assert rest


async def test_a_stream_that_is_closed_counts_as_a_success(provider):
    made = {"Authorization": basic(USER), "Accept": "text/event-stream"}
    async with provider.client.get(f"{provider.url}/v1/me/notifications", headers=made) as answer:
        await answer.content.readline()

    async def counted() -> list[str]:
        provider.app[NOTIFICATIONS].wake()
        lines = (await provider.send("GET", "/metrics", as_=None)).body.decode().splitlines()
        return [line for line in lines if "requests_total{" in line and "/v1/me/notifications" in line]

    (line,) = await until(counted)

    assert 'status="200"' in line
