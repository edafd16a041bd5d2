"""How the proxy calls the directory: both forms, both generations, and the cache (wire.md §5)."""

import asyncio
import json
from dataclasses import replace
from urllib.parse import parse_qs

import orjson
import pytest

from spsp_client_proxy.app import SpspClientProxySettings
from support.batch_senders import until_in_flight
from support.client import is_error_object
from support.forwarders import FORWARDERS, LOOK_UP, OPERATIONS, QUOTE_REPLY, SOURCE, Hop, authorization
from support.internals import cached_keys, reload
from support.messages import OTHER, QUOTE, TEST
from support.scripted_server import Reset, http, scripted_server, unused_url
from support.serving import reply
from support.settings import load

PROXY = FORWARDERS["spsp-client-proxy"]


@pytest.fixture
async def proxy(start_hop) -> Hop:
    """A proxy of the test's own, which remembers the directory's responses."""
    return await start_hop(PROXY)


@pytest.fixture
async def forgetful(shared_hop) -> Hop:
    """A proxy that asks the directory each time, for tests of single responses."""
    return await shared_hop("spsp-client-proxy")


def entry(url: str = "http://one", **changed: object) -> dict:
    """One DFSP of the later generation's list."""
    return {"name": "n", "shortName": "s", "providerUrl": url, "primary": True, "registered": True} | changed


def found(url: str = "http://one"):
    return reply(200, {"spspReceiver": url})


def submitted_to(hop) -> str:
    """The base URL of the newest request's submissionUrl."""
    return orjson.loads(hop.next_hop.seen[-1].body)["submissionUrl"].removesuffix(SOURCE.path)


async def send_for(hop, identifier: str, **more):
    return await hop.send(
        replace(SOURCE, body=json.dumps({**QUOTE, "identifier": identifier}).encode()), **more
    )


async def test_the_proxy_asks_for_type_and_identifier(forgetful):
    await forgetful.send()

    [seen] = forgetful.directory.seen
    assert ("GET", "/resources?identifierType=eur&identifier=30754016") == (seen.method, seen.target)
    assert TEST == seen.headers["Authorization"]


async def test_a_setting_selects_the_later_form(start_hop):
    hop = await start_hop(PROXY, directory_form="joined")

    await hop.send()

    assert {"identifier": ["eur:30754016"]} == parse_qs(hop.directory.seen[0].target.partition("?")[2])


@pytest.mark.parametrize("form", ["separate", "joined"])
async def test_an_identifier_is_only_a_value_in_the_query(shared_hop, form):
    hop = await shared_hop("spsp-client-proxy", directory_form=form)
    for identifier in ["+359", "a&identifierType=x", "a:b", "ü", "a b", "a#b", "%41", "../x", "a=b;c"]:
        await send_for(hop, identifier)

        path, _, query = hop.directory.seen[-1].target.partition("?")
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


async def test_the_proxy_understands_both_generations(forgetful):
    for name, content in RECEIVERS.items():
        forgetful.directory.answer = reply(200, content)

        assert 200 == (await forgetful.send()).status, name
        assert "http://one" == submitted_to(forgetful), name


async def test_the_submission_url_is_the_receivers_url_and_the_path(forgetful):
    for url in ["https://dfsp.example:8443/spsp", "http://[2001:db8::1]:8013", "http://a/b/c"]:
        forgetful.directory.answer = found(url)

        await forgetful.send()

        assert url == submitted_to(forgetful)


UNKNOWN_RECEIVER = {
    "404": reply(404, {"error": {"id": "NotFound"}}),
    "404 in HTML": reply(404, b"<html>"),
    "an object of the default DFSP": reply(200, {"spspReceiver": "http://one", "registered": False}),
    "an empty list": reply(200, []),
    "no primary": reply(200, [entry(primary=False), entry(primary=False)]),
    "two primaries": reply(200, [entry(), entry("http://two")]),
    "a list of the default DFSP": reply(200, [entry(registered=False)]),
    "a primary that is text": reply(200, [entry(primary="true")]),
}


async def test_an_unknown_receiver_is_404(forgetful):
    for name, answer in UNKNOWN_RECEIVER.items():
        forgetful.directory.answer = answer
        for operation in [SOURCE, LOOK_UP]:
            response = await forgetful.send(operation)

            assert (404, "ReceiverNotFoundError") == (response.status, response.id), name
            assert is_error_object(response)
            assert [] == forgetful.next_hop.seen


async def test_the_directorys_401_is_401(forgetful):
    forgetful.directory.answer = reply(401, {"error": 1}, WWW_Authenticate='Basic realm="theirs"')

    response = await forgetful.send()

    assert (401, "UnauthorizedError") == (response.status, response.id)
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert [] == forgetful.next_hop.seen


INVALID_RESPONSES = {
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
INVALID_URLS = [1, None, [], {}, "", "one", "//one", "/one", "ftp://one", "http://", "http://user@one", "http://one?x",
              "http://one#x", "http://one?", "http://one:x", "http://one:99999", "http://[::1", "javascript:x"]  # fmt: skip


async def test_any_other_response_of_the_directory_is_502(forgetful):
    for name, answer in INVALID_RESPONSES.items():
        forgetful.directory.answer = answer
        forgetful.directory.seen.clear()

        response = await forgetful.send()

        assert (502, "UpstreamError") == (response.status, response.id), name
        assert "directory" in response.json["message"]
        assert 1 == len(forgetful.directory.seen), name
        assert [] == forgetful.next_hop.seen


async def test_an_invalid_receiver_url_is_502(forgetful):
    for url in INVALID_URLS:
        for content in [{"spspReceiver": url}, [entry(url)]]:
            forgetful.directory.answer = reply(200, content)

            response = await forgetful.send()

            assert (502, "UpstreamError") == (response.status, response.id), url
            assert [] == forgetful.next_hop.seen


async def test_an_unreachable_directory_is_502(start_hop):
    hop = await start_hop(PROXY, directory_url=unused_url())

    response = await hop.send()

    assert (502, "UpstreamError") == (response.status, response.id)
    assert "127.0.0.1" not in response.body.decode()
    assert [] == hop.next_hop.seen


@pytest.mark.parametrize(
    "data",
    [b"nonsense\r\n\r\n", http(200, b"{}", length=99), b"", Reset()],
    ids=["no HTTP", "cut", "closed", "reset"],
)
async def test_a_malformed_response_of_the_directory_is_502(start_hop, data):
    async with scripted_server(data) as directory:
        hop = await start_hop(PROXY, directory_url=directory.url)

        response = await hop.send()

        assert (502, "UpstreamError") == (response.status, response.id)
        assert [] == hop.next_hop.seen


async def test_a_response_is_cached_for_all_operations(proxy):
    for operation in OPERATIONS.values():
        assert 200 == (await proxy.send(operation)).status

    assert 1 == len(proxy.directory.seen)


async def test_another_identifier_is_looked_up(proxy):
    await proxy.send()
    await send_for(proxy, "30754017")
    await proxy.send(replace(LOOK_UP, query="identifierType=tel&identifier=30754016"))

    assert 3 == len(proxy.directory.seen)


async def test_the_cache_of_one_caller_is_not_used_for_another(proxy):
    await proxy.send()
    proxy.directory.answer = reply(401, {})

    assert 401 == (await proxy.send(Authorization=OTHER)).status
    assert 200 == (await proxy.send(Authorization=TEST)).status
    assert [TEST, OTHER] == [seen.headers["Authorization"] for seen in proxy.directory.seen]


async def test_the_401_of_one_caller_does_not_affect_another_at_the_same_time(proxy):
    both = asyncio.Event()

    async def by_caller(seen):
        if len(proxy.directory.seen) == 2:
            both.set()
        await both.wait()
        right = seen.headers["Authorization"] == TEST
        return await (found() if right else reply(401, {}))(seen)

    proxy.directory.answer = by_caller

    responses = await asyncio.gather(*(proxy.send(Authorization=each) for each in (TEST, OTHER) * 5))

    assert [200, 401] * 5 == [response.status for response in responses]
    assert 2 == len(proxy.directory.seen)


async def test_only_found_receivers_are_cached(start_hop):
    rejections = [*list(UNKNOWN_RECEIVER.values())[:5], reply(401, {}), reply(500, {}), reply(200, b"x")]
    for answer in rejections:
        hop = await start_hop(PROXY)
        hop.directory.answer = answer
        assert 200 != (await hop.send()).status
        hop.directory.answer = found("http://two")

        assert 200 == (await hop.send()).status
        assert "http://two" == submitted_to(hop)


def test_responses_are_cached_for_ten_seconds_and_10_000_identifiers():
    settings = load(SpspClientProxySettings, {"QUOTES_USERS_FILE": "users", "QUOTES_NEXT_HOP": "http://a",
                                              "QUOTES_DIRECTORY_URL": "http://b"})  # fmt: skip

    assert (10, 10_000) == (settings.directory_memory_seconds, settings.directory_memory_entries)


async def test_a_cached_response_expires(start_hop):
    hop = await start_hop(PROXY, directory_memory_seconds="0.1")
    await hop.send()
    hop.directory.answer = found("http://two")
    await asyncio.sleep(0.15)

    await hop.send()

    assert "http://two" == submitted_to(hop)


async def test_the_cache_has_a_maximum_size(start_hop):
    hop = await start_hop(PROXY, directory_memory_entries="2")

    for identifier in ("1", "2", "3", "1"):
        await send_for(hop, identifier)
    await send_for(hop, "3")

    assert 4 == len(hop.directory.seen)


async def test_the_cache_holds_no_credentials(proxy):
    await proxy.send()

    keys = cached_keys(proxy.app)
    assert 1 == len(keys)
    assert TEST not in repr(keys)
    assert TEST.partition(" ")[2] not in repr(keys)


async def test_sighup_empties_the_cache(proxy):
    await proxy.send()
    proxy.directory.answer = found("http://two")
    await reload(proxy.app)

    await proxy.send()

    assert "http://two" == submitted_to(proxy)


class Gate:
    """A directory that responds when the test says."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.received, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, seen):
        self.received.set()
        await self.go_on.wait()
        return await self.answer(seen)


async def test_sighup_drops_the_response_to_a_look_up_in_flight(proxy):
    gate = proxy.directory.answer = Gate(found("http://old"))
    first = asyncio.create_task(proxy.send())
    await gate.received.wait()
    await reload(proxy.app)
    proxy.directory.answer = found("http://new")

    await proxy.send()
    assert "http://new" == submitted_to(proxy)
    gate.go_on.set()
    assert 200 == (await first).status
    await proxy.send()
    assert "http://new" == submitted_to(proxy)


async def test_equal_look_ups_at_the_same_time_are_one(proxy):
    gate = proxy.directory.answer = Gate(found())
    sent = [asyncio.create_task(proxy.send()) for _ in range(20)]
    await gate.received.wait()
    await until_in_flight(proxy, 20)
    gate.go_on.set()

    assert {200} == {response.status for response in await asyncio.gather(*sent)}
    assert 1 == len(proxy.directory.seen)


async def test_a_request_goes_alone_if_its_next_hop_stopped_taking_batches_during_the_look_up(start_hop):
    hop = await start_hop(PROXY, batch_lines="1", directory_memory_seconds="0")
    hop.next_hop.answer = reply(200, QUOTE_REPLY, Quote_Batch="1")
    await hop.send()
    gate = hop.directory.answer = Gate(found())
    waiting = asyncio.create_task(hop.send(Idempotency_Key="key"))
    await gate.received.wait()
    hop.directory.answer, hop.next_hop.answer = found(), reply(200, QUOTE_REPLY)
    await send_for(hop, "1")
    gate.go_on.set()

    assert 200 == (await waiting).status
    assert [SOURCE.path] * 3 == [seen.target for seen in hop.next_hop.seen]


async def test_requests_that_share_a_look_up_share_its_failure(proxy):
    gate = proxy.directory.answer = Gate(reply(500, {}))
    sent = [asyncio.create_task(proxy.send(L1p_Trace_Id=f"t{n}")) for n in range(5)]
    await gate.received.wait()
    await until_in_flight(proxy, 5)
    gate.go_on.set()

    responses = await asyncio.gather(*sent)

    assert {502} == {response.status for response in responses}
    assert {f"t{n}" for n in range(5)} == {response.json["traceId"] for response in responses}
    assert 1 == len(proxy.directory.seen)


async def test_a_request_that_times_out_does_not_affect_others_that_share_its_look_up(proxy):
    gate = proxy.directory.answer = Gate(found())
    hasty = asyncio.create_task(proxy.send(X_Request_Timeout_Ms="1000"))
    await gate.received.wait()
    patient = asyncio.create_task(proxy.send())

    assert 504 == (await hasty).status
    gate.go_on.set()
    assert 200 == (await patient).status


async def test_a_look_up_starts_again_after_all_its_requests_have_timed_out(proxy):
    proxy.directory.answer = Gate(found("http://old"))
    responses = await asyncio.gather(*(proxy.send(X_Request_Timeout_Ms="50") for _ in range(3)))
    assert {504} == {response.status for response in responses}
    proxy.directory.answer = found("http://new")

    assert 200 == (await proxy.send()).status
    assert "http://new" == submitted_to(proxy)


async def test_a_caller_with_wrong_credentials_never_reaches_the_directory(forgetful):
    assert 401 == (await forgetful.send(Authorization=authorization("test:wrong"))).status
    assert [] == forgetful.directory.seen
