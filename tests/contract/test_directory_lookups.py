"""The proxy asks the directory: both forms, both generations, and what it remembers (wire.md §5)."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from urllib.parse import parse_qs

import orjson
import pytest

from chassis import intake
from chassis.app import SERVICE
from quoting.server import PEERS
from spsp_client_proxy.app import DIRECTORY
from support.client import is_error_object
from support.forwarders import FORWARDERS, LOOK_UP, OPERATIONS, QUOTE_REPLY, SOURCE, authorization
from support.messages import OTHER, QUOTE, TEST
from support.scripted_server import Reset, http, scripted_server, unused_url
from support.serving import reply

PROXY = FORWARDERS["spsp-client-proxy"]


@pytest.fixture(params=["alone", "express"])
async def proxy(request, start_hop):
    """One whose next hop takes no batches, and one whose next hop does, which knows its callers: no task waits there."""
    if request.param == "alone":
        return await start_hop(PROXY)
    made = await start_hop(PROXY, batch_lines="1")  # still each in its documented form
    made.next_hop.answer = reply(200, QUOTE_REPLY, Quote_Batch="1")
    for caller in (TEST, OTHER):
        assert 200 == (await made.send(Authorization=caller)).status
    made.app[DIRECTORY].forget()
    for seen in (made.directory.seen, made.next_hop.seen, made.log.kept):
        seen.clear()
    send = made.send

    async def with_key(operation=SOURCE, **more):
        return await send(
            operation, **({"Idempotency_Key": "key"} if operation.body is not None else {}), **more
        )

    made.send = with_key  # without one it takes a closer look
    return made


def entry(url: str = "http://one", **changed: object) -> dict:
    """One DFSP of the later generation's list."""
    return {"name": "n", "shortName": "s", "providerUrl": url, "primary": True, "registered": True} | changed


def found(url: str = "http://one"):
    return reply(200, {"spspReceiver": url})


def submitted_to(hop) -> str:
    """The base URL that the newest request was given."""
    return orjson.loads(hop.next_hop.seen[-1].body)["submissionUrl"].removesuffix(SOURCE.path)


async def asked_for(hop, identifier: str, **more):
    return await hop.send(
        replace(SOURCE, body=json.dumps({**QUOTE, "identifier": identifier}).encode()), **more
    )


async def test_the_directory_is_asked_for_type_and_identifier(proxy):
    await proxy.send()

    [seen] = proxy.directory.seen
    assert ("GET", "/resources?identifierType=eur&identifier=30754016") == (seen.method, seen.target)
    assert TEST == seen.headers["Authorization"]


async def test_the_later_form_is_asked_by_configuration(start_hop):
    hop = await start_hop(PROXY, directory_form="joined")

    await hop.send()

    assert {"identifier": ["eur:30754016"]} == parse_qs(hop.directory.seen[0].target.partition("?")[2])


@pytest.mark.parametrize("form", ["separate", "joined"])
@pytest.mark.parametrize(
    "identifier", ["+359", "a&identifierType=x", "a:b", "ü", "a b", "a#b", "%41", "../x", "a=b;c"]
)
async def test_no_identifier_is_more_than_a_value(start_hop, form, identifier):
    hop = await start_hop(PROXY, directory_form=form)

    await asked_for(hop, identifier)

    path, _, query = hop.directory.seen[0].target.partition("?")
    expected = (
        {"identifierType": ["eur"], "identifier": [identifier]}
        if form == "separate"
        else {"identifier": [f"eur:{identifier}"]}
    )
    assert ("/resources", expected) == (path, parse_qs(query))


async def test_the_directorys_base_url_may_have_a_path(start_hop, proxy):
    hop = await start_hop(PROXY, directory_url=proxy.directory.url + "/directory/v1/")

    await hop.send()

    assert proxy.directory.seen[0].target.startswith("/directory/v1/resources?")


RECEIVERS = {
    "an object": {"spspReceiver": "http://one"},
    "a slash at the end": {"spspReceiver": "http://one/"},
    "an object with more": {"spspReceiver": "http://one", "name": "x", "registered": True},
    "a list of one": [entry()],
    "a list with one primary": [
        entry("http://two", primary=False),
        entry(),
        entry("http://three", primary=False),
    ],
    "a list without registered": [{"providerUrl": "http://one", "primary": True}],
    "another primary that is not registered": [entry("http://two", registered=False), entry()],
}


@pytest.mark.parametrize("content", RECEIVERS.values(), ids=RECEIVERS.keys())
async def test_both_generations_are_understood(proxy, content):
    proxy.directory.answer = reply(200, content)

    assert 200 == (await proxy.send()).status
    assert "http://one" == submitted_to(proxy)


@pytest.mark.parametrize(
    "url", ["https://dfsp.example:8443/spsp", "http://[2001:db8::1]:8013", "http://a/b/c"]
)
async def test_the_submission_url_is_the_receivers_and_the_path(proxy, url):
    proxy.directory.answer = found(url)

    await proxy.send()

    assert url == submitted_to(proxy)


NOBODY = {
    "404": reply(404, {"error": {"id": "NotFound"}}),
    "404 in HTML": reply(404, b"<html>"),
    "an object of the default DFSP": reply(200, {"spspReceiver": "http://one", "registered": False}),
    "an empty list": reply(200, []),
    "no primary": reply(200, [entry(primary=False), entry(primary=False)]),
    "two primaries": reply(200, [entry(), entry("http://two")]),
    "a list of the default DFSP": reply(200, [entry(registered=False)]),
    "a primary that is text": reply(200, [entry(primary="true")]),
}


@pytest.mark.parametrize("answer", NOBODY.values(), ids=NOBODY.keys())
@pytest.mark.parametrize("operation", [SOURCE, LOOK_UP], ids=["source", "look_up"])
async def test_nobody_is_404(proxy, operation, answer):
    proxy.directory.answer = answer

    got = await proxy.send(operation)

    assert (404, "ReceiverNotFoundError") == (got.status, got.id)
    assert is_error_object(got)
    assert [] == proxy.next_hop.seen


async def test_the_directorys_401_is_401(proxy):
    proxy.directory.answer = reply(401, {"error": 1}, WWW_Authenticate='Basic realm="theirs"')

    got = await proxy.send()

    assert (401, "UnauthorizedError") == (got.status, got.id)
    assert got.headers["WWW-Authenticate"].startswith("Basic ")
    assert [] == proxy.next_hop.seen


NO_ANSWERS = {
    **{str(status): reply(status, {"a": 1}) for status in (201, 204, 400, 403, 410, 429, 500, 502, 503, 504)},
    "301": reply(301, {"spspReceiver": "http://one"}, Location="/elsewhere"),
    "307": reply(307, {"spspReceiver": "http://one"}, Location="http://127.0.0.1:1/"),
    "HTML": reply(200, b"<html>"),
    "nothing": reply(200, b""),
    "broken": reply(200, b'{"spspReceiver": "http://one"'),
    "no UTF-8": reply(200, b'{"spspReceiver": "http://\xff"}'),
    "text": reply(200, "http://one"),
    "a number": reply(200, 1),
    "null": reply(200, None),
    "an object without a URL": reply(200, {"name": "x"}),
    "a list of text": reply(200, ["http://one"]),
    "a list of lists": reply(200, [[]]),
    "a primary without a URL": reply(200, [{"primary": True}]),
    "nested too deeply": reply(200, b"[" * 20_000 + b"]" * 20_000),
    "over 64 KiB": reply(200, [entry(name="x" * 70_000)]),
}
WRONG_URLS = [1, None, [], {}, "", "one", "//one", "/one", "ftp://one", "http://", "http://user@one", "http://one?x",
              "http://one#x", "http://one?", "http://one:x", "http://one:99999", "http://[::1", "javascript:x"]  # fmt: skip


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
async def test_anything_else_is_502(proxy, answer):
    proxy.directory.answer = answer

    got = await proxy.send()

    assert (502, "UpstreamError") == (got.status, got.id)
    assert "directory" in got.json["message"]
    assert 1 == len(proxy.directory.seen)
    assert [] == proxy.next_hop.seen


@pytest.mark.parametrize("url", WRONG_URLS)
@pytest.mark.parametrize("generation", ["object", "list"])
async def test_a_url_that_is_none_is_502(proxy, generation, url):
    proxy.directory.answer = reply(200, {"spspReceiver": url} if generation == "object" else [entry(url)])

    got = await proxy.send()

    assert (502, "UpstreamError") == (got.status, got.id)
    assert [] == proxy.next_hop.seen


async def test_an_unreachable_directory_is_502(start_hop):
    hop = await start_hop(PROXY, directory_url=unused_url())

    got = await hop.send()

    assert (502, "UpstreamError") == (got.status, got.id)
    assert "127.0.0.1" not in got.body.decode()
    assert [] == hop.next_hop.seen


@pytest.mark.parametrize(
    "said",
    [b"nonsense\r\n\r\n", http(200, b"{}", length=99), b"", Reset()],
    ids=["no HTTP", "cut", "closed", "reset"],
)
async def test_a_broken_directory_is_502(start_hop, said):
    async with scripted_server(said) as directory:
        hop = await start_hop(PROXY, directory_url=directory.url)

        got = await hop.send()

        assert (502, "UpstreamError") == (got.status, got.id)
        assert [] == hop.next_hop.seen


async def test_an_answer_is_remembered_for_all_operations(proxy):
    for operation in OPERATIONS.values():
        assert 200 == (await proxy.send(operation)).status

    assert 1 == len(proxy.directory.seen)


async def test_another_identifier_is_asked_for_anew(proxy):
    await proxy.send()
    await asked_for(proxy, "30754017")
    await proxy.send(replace(LOOK_UP, query="identifierType=tel&identifier=30754016"))

    assert 3 == len(proxy.directory.seen)


async def test_what_one_caller_may_look_up_says_nothing_about_another(proxy):
    await proxy.send()
    proxy.directory.answer = reply(401, {})

    assert 401 == (await proxy.send(Authorization=OTHER)).status
    assert 200 == (await proxy.send(Authorization=TEST)).status
    assert [TEST, OTHER] == [seen.headers["Authorization"] for seen in proxy.directory.seen]


async def test_one_callers_401_does_not_affect_another_who_asks_at_the_same_time(proxy):
    async def by_caller(seen):
        await asyncio.sleep(0.05)
        right = seen.headers["Authorization"] == TEST
        return await (found() if right else reply(401, {}))(seen)

    proxy.directory.answer = by_caller

    answers = await asyncio.gather(*(proxy.send(Authorization=each) for each in (TEST, OTHER) * 5))

    assert [200, 401] * 5 == [answer.status for answer in answers]
    assert 2 == len(proxy.directory.seen)


@pytest.mark.parametrize(
    "answer", [*list(NOBODY.values())[:5], reply(401, {}), reply(500, {}), reply(200, b"x")]
)
async def test_only_answers_that_name_somebody_are_remembered(proxy, answer):
    proxy.directory.answer = answer
    assert 200 != (await proxy.send()).status
    proxy.directory.answer = found("http://two")

    assert 200 == (await proxy.send()).status
    assert "http://two" == submitted_to(proxy)


async def test_an_answer_is_remembered_for_ten_seconds(proxy):
    remembered = proxy.app[DIRECTORY]._remembered
    await proxy.send()
    proxy.directory.answer = found("http://two")

    assert (10.0, 10_000) == (remembered.ttl, remembered.maxsize)
    await proxy.send()
    assert "http://spsp-server" == submitted_to(proxy)


async def test_what_is_remembered_is_forgotten_in_time(start_hop):
    hop = await start_hop(PROXY, directory_memory_seconds="0.1")
    await hop.send()
    hop.directory.answer = found("http://two")
    await asyncio.sleep(0.15)

    await hop.send()

    assert "http://two" == submitted_to(hop)


async def test_no_more_is_remembered_than_allowed(start_hop):
    hop = await start_hop(PROXY, directory_memory_entries="2")

    for identifier in ("1", "2", "3", "1"):
        await asked_for(hop, identifier)
    await asked_for(hop, "3")

    assert 4 == len(hop.directory.seen)
    assert 2 == len(hop.app[DIRECTORY]._remembered)


async def test_no_credentials_are_kept_in_clear(proxy):
    await proxy.send()

    kept = repr(list(proxy.app[DIRECTORY]._remembered))
    assert TEST not in kept
    assert TEST.partition(" ")[2] not in kept


async def hang_up(_app=None) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.05)


async def test_sighup_forgets_all(proxy):
    await proxy.send()
    proxy.directory.answer = found("http://two")
    await hang_up()

    await proxy.send()

    assert "http://two" == submitted_to(proxy)
    assert "forgotten" in proxy.log.text


class Gate:
    """A directory that answers when the test says so."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, seen):
        self.asked.set()
        await self.go_on.wait()
        return await self.answer(seen)


async def test_sighup_forgets_what_is_on_its_way_too(proxy):
    gate = proxy.directory.answer = Gate(found("http://old"))
    first = asyncio.create_task(proxy.send())
    await gate.asked.wait()
    await hang_up()
    proxy.directory.answer = found("http://new")

    await proxy.send()
    assert "http://new" == submitted_to(proxy)
    gate.go_on.set()
    assert 200 == (await first).status
    await proxy.send()
    assert "http://new" == submitted_to(proxy)


async def test_look_ups_of_the_same_are_joined(proxy):
    gate = proxy.directory.answer = Gate(found())
    asked = [asyncio.create_task(proxy.send()) for _ in range(20)]
    await gate.asked.wait()
    await asyncio.sleep(0.1)
    gate.go_on.set()

    assert {200} == {answer.status for answer in await asyncio.gather(*asked)}
    assert 1 == len(proxy.directory.seen)


@pytest.mark.parametrize("answer", [found(), reply(404, {})])
async def test_no_task_waits_for_the_directory_where_none_need(proxy, monkeypatch, answer):
    proxy.directory.answer = answer
    ordinary = []
    take = intake.take
    monkeypatch.setattr(intake, "take", lambda *asked: ordinary.append(asked) or take(*asked))
    await proxy.send()

    assert len(ordinary) == (0 if proxy.app[SERVICE].settings.batch_lines == 1 else 1)


async def test_whose_next_hop_takes_no_batches_any_more_is_sent_on_alone(start_hop):
    hop = await start_hop(PROXY, batch_lines="1")
    hop.next_hop.answer = reply(200, QUOTE_REPLY, Quote_Batch="1")
    await hop.send()
    hop.app[DIRECTORY].forget()
    gate = hop.directory.answer = Gate(found())
    waiting = asyncio.create_task(hop.send(Idempotency_Key="key"))
    await gate.asked.wait()
    hop.directory.answer, hop.next_hop.answer = found(), reply(200, QUOTE_REPLY)
    await asked_for(hop, "1")
    gate.go_on.set()

    assert 200 == (await waiting).status
    assert not hop.app[PEERS].takes(hop.next_hop.url)


async def test_all_who_joined_share_a_failure(proxy):
    gate = proxy.directory.answer = Gate(reply(500, {}))
    asked = [asyncio.create_task(proxy.send(L1p_Trace_Id=f"t{n}")) for n in range(5)]
    await gate.asked.wait()
    await asyncio.sleep(0.05)
    gate.go_on.set()

    answers = await asyncio.gather(*asked)

    assert {502} == {answer.status for answer in answers}
    assert {f"t{n}" for n in range(5)} == {answer.json["traceId"] for answer in answers}
    assert 1 == len(proxy.directory.seen)


async def test_one_who_gives_up_does_not_hurt_the_others(proxy):
    gate = proxy.directory.answer = Gate(found())
    hasty = asyncio.create_task(proxy.send(X_Request_Timeout_Ms="50"))
    await gate.asked.wait()
    patient = asyncio.create_task(proxy.send())

    assert 504 == (await hasty).status
    gate.go_on.set()
    assert 200 == (await patient).status
    assert 1 == len(proxy.directory.seen)


async def test_when_all_have_given_up_the_next_one_asks_anew(proxy):
    proxy.directory.answer = Gate(found("http://old"))
    answers = await asyncio.gather(*(proxy.send(X_Request_Timeout_Ms="50") for _ in range(3)))
    assert {504} == {answer.status for answer in answers}
    proxy.directory.answer = found("http://new")

    assert 200 == (await proxy.send()).status
    assert "http://new" == submitted_to(proxy)
    assert not proxy.app[DIRECTORY]._under_way


async def test_a_caller_with_wrong_credentials_never_reaches_the_directory(proxy):
    assert 401 == (await proxy.send(Authorization=authorization("test:wrong"))).status
    assert [] == proxy.directory.seen
