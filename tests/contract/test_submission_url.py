"""spsp-client calls the origins on its list, and no other (wire.md §4, §7.6)."""

import asyncio
import json
from dataclasses import replace
from urllib.parse import quote

import pytest

from support.forwarders import EXECUTE, LOOK_UP, OPERATIONS, SOURCE
from support.messages import QUOTE, UNKNOWN_UUID
from support.scripted_server import unused_url

PATH = SOURCE.path


async def send(hop, url: str, sent=SOURCE):
    """Send the request with this submissionUrl."""
    if sent.body is None:
        sent = replace(sent, query=f"{sent.query}&submissionUrl={quote(url, safe='')}")
    else:
        sent = replace(sent, body=json.dumps({**QUOTE, "submissionUrl": url}).encode())
    return await hop.send(sent, adapt=False)


@pytest.fixture
def client_with(shared_hop):
    """Gets spsp-client with this list of URLs, in which `{url}` stands for the next hop."""

    async def get(listed: str):
        first = await shared_hop("spsp-client")
        hop = await shared_hop("spsp-client", submission_urls=listed.replace("{url}", first.next_url))
        hop.next_url, hop.next_hop = first.next_url, first.next_hop
        return hop

    return get


@pytest.fixture
async def at_root(client_with):
    """spsp-client, whose list of allowed submission URLs has the root URL of the next hop."""
    return await client_with("{url}")


@pytest.fixture
async def below(client_with):
    """spsp-client with a prefix of the next hop on its list."""
    return await client_with("{url}/dfsp/one")


@pytest.fixture
async def elsewhere(client_with):
    """spsp-client with names on its list whose ports are the defaults."""
    return await client_with("http://spsp-server,https://spsp-server,http://[2001:db8::1]:8013")


async def assert_rejected(hop, url: str, operation=SOURCE) -> None:
    response = await send(hop, url, operation)

    assert (403, "SubmissionUrlNotAllowedError") == (response.status, response.id), url
    assert [] == hop.next_hop.seen


async def test_a_listed_url_is_called(at_root, below):
    for hop, prefix in [(at_root, ""), (below, "/dfsp/one")]:
        for operation in OPERATIONS.values():
            url = f"{hop.next_url}{prefix}{operation.path}"

            assert 200 == (await send(hop, url, operation)).status
            assert prefix + operation.path == hop.next_hop.seen[-1].target.partition("?")[0]


async def test_another_prefix_than_the_listed_one_is_rejected(below):
    for prefix in [
        "", "/dfsp", "/dfsp/one/", "/dfsp/one/x", "/dfsp/onex", "/dfsp/two", "/DFSP/one", "//dfsp/one", "/dfsp//one",
        "/dfsp/./one", "/dfsp/two/../one", "/dfsp/%6fne", "/dfsp%2fone", "/dfsp/one/..", "/dfsp/one;x", "/dfsp/one%00",
    ]:  # fmt: skip
        await assert_rejected(below, f"{below.next_url}{prefix}{PATH}")


async def test_another_path_than_the_requests_own_is_rejected(at_root):
    for path in ["", "/", "/v1", "/v1/quoteDestinationAmount", "/v1/quoteSourceAmount/", "/v1/quotesourceamount",
     "/v1/quoteSourceAmount/..", "/v1/./quoteSourceAmount", "/v1/x/../quoteSourceAmount", "/../v1/quoteSourceAmount",
     "/v1/%2e%2e/v1/quoteSourceAmount", "/%2e/v1/quoteSourceAmount", "/v1%2fquoteSourceAmount",
     "/v1/quote%53ourceAmount", "//v1/quoteSourceAmount", "/v1//quoteSourceAmount", "/v1\\quoteSourceAmount",
     "\\v1\\quoteSourceAmount", "/v1/quoteSourceAmount%20", "/v1/quoteSourceAmount;x=1", "/v1/quoteSourceAmount:80",
     "/v1/quoteSourceAmount?", "/v1/quoteSourceAmount?x=1", "/v1/quoteSourceAmount#", "/v1/quoteSourceAmount#x",
     "/v1/quoteSourceAmount\n", "/v1/quoteSourceAmount\t", "/v1/quoteSourceAmount ", "/v1/quoteSourceAmount\x00",
     "/v1/quoteSourceAmount\u00ad", "/v1/quoteSourc\u0435Amount", "?/v1/quoteSourceAmount", "#/v1/quoteSourceAmount"]:  # fmt: skip
        await assert_rejected(at_root, at_root.next_url + path)


async def test_another_operations_path_is_rejected(at_root):
    for operation in OPERATIONS.values():
        for other in OPERATIONS.values():
            if other.path != operation.path:
                await assert_rejected(at_root, at_root.next_url + other.path, operation)


async def test_the_uuid_of_another_quote_is_rejected(at_root):
    for operation in (EXECUTE, LOOK_UP):
        await assert_rejected(
            at_root, at_root.next_url + operation.path.replace(UNKNOWN_UUID[0], "2", 1), operation
        )


OTHER_ORIGINS = [
    "http://evil.example{path}",
    "http://user@{host}{path}",
    "http://user:password@{host}{path}",
    "http://@{host}{path}",
    "http://:@{host}{path}",
    "http://{host}@evil.example{path}",
    "http://{host}%40evil.example{path}",
    "http://evil.example%23@{host}{path}",
    "http://evil.example#@{host}{path}",
    "http://evil.example?@{host}{path}",
    "http://evil.example/@{host}{path}",
    "http://evil.example\\@{host}{path}",
    "http://{host}\\@evil.example{path}",
    "http://{host}#@evil.example{path}",
    "http://evil.example://{host}{path}",
    "http://{host}.evil.example{path}",
    "http://{host}evil.example{path}",
    "http://{host}:80{path}",
    "http://{host},evil.example{path}",
    "http://{host} evil.example{path}",
    "http://127.0.0.1{path}",
    "http://127.0.0.1:1{path}",
    "http://127.0.0.1:{port}0{path}",
    "http://127.0.0.1:{port}x{path}",
    "http://127.0.0.1:+{port}{path}",
    "http://127.0.0.1:-{port}{path}",
    "http://127.0.0.1: {port}{path}",
    "http://127.0.0.1:99999{path}",
    "http://127.0.0.1.:{port}{path}",
    "http://127.1:{port}{path}",
    "http://2130706433:{port}{path}",
    "http://0x7f.0.0.1:{port}{path}",
    "http://0177.0.0.1:{port}{path}",
    "http://0.0.0.0:{port}{path}",
    "http://localhost:{port}{path}",
    "http://[::1]:{port}{path}",
    "http://[::ffff:127.0.0.1]:{port}{path}",
    "http://[127.0.0.1]:{port}{path}",
    "http://[127.0.0.1:{port}{path}",
    "http://\uff11\uff12\uff17.0.0.1:{port}{path}",
    "http://127\u30020\u30020\u30021:{port}{path}",
    "http://127.0.0.1:\uff11{path}",
    "http://%31%32%37.0.0.1:{port}{path}",
    "http://127.0.0.1%00:{port}{path}",
    "http://127.0.0.1\u200b:{port}{path}",
    "http://127.0.0.1\x00:{port}{path}",
    "http://127.0.0.1\t:{port}{path}",
    "http://127.0.0.1\r\nX-A: b:{port}{path}",
    "https://{host}{path}",
    "ftp://{host}{path}",
    "file://{host}{path}",
    "gopher://{host}{path}",
    "javascript://{host}{path}",
    "unix://{host}{path}",
    "ws://{host}{path}",
    "http:{host}{path}",
    "http:/{host}{path}",
    "http:///{host}{path}",
    "http:////{host}{path}",
    "http:\\\\{host}{path}",
    "http:/\\{host}{path}",
    "//{host}{path}",
    "{host}{path}",
    "{path}",
    "://{host}{path}",
    " http://{host}{path}",
    "\thttp://{host}{path}",
    "\x00http://{host}{path}",
    "http://{host}{path} ",
    "ht\ttp://{host}{path}",
    "http ://{host}{path}",
    "http+x://{host}{path}",
    "url:http://{host}{path}",
    "http://http://{host}{path}",
    "http://{path}",
    "http://",
    "http:",
    "",
    "x",
    "\ud800",
]


async def test_another_origin_or_none_is_rejected(at_root):
    host = at_root.next_url.removeprefix("http://")
    for template in OTHER_ORIGINS:
        url = template.replace("{host}", host).replace("{port}", host.partition(":")[2])

        await assert_rejected(at_root, url.replace("{path}", PATH))


async def test_scheme_and_host_may_be_written_in_either_case(at_root):
    assert 200 == (await send(at_root, at_root.next_url.replace("http", "HTTP") + PATH)).status


SAME_ORIGINS = [
    "http://spsp-server",
    "HTTP://SPSP-Server",
    "http://spsp-server:80",
    "http://spsp-server:",
    "https://spsp-server",
    "https://spsp-server:443",
    "http://[2001:db8::1]:8013",
    "http://[2001:DB8::1]:8013",
]
SIMILAR_ORIGINS = [
    "http://spsp-server:443",
    "https://spsp-server:80",
    "http://spsp-server:8013",
    "http://spsp-server:0",
    "http://spsp-server.",
    "http://.spsp-server",
    "http://spsp-server.evil.example",
    "http://evil.spsp-server",
    "http://spsp_server",
    "http://spsp-s\u0435rver",
    "http://SPSP-\u017ferver",
    "http://[2001:db8::1]",
    "http://[2001:db8::2]:8013",
    "http://[2001:db8::1%25eth0]:8013",
    "http://2001:db8::1:8013",
]


async def test_the_same_origin_may_be_written_in_other_ways(elsewhere):
    """No server has these names: an attempt shows that the URL was allowed."""

    async def status(origin: str) -> int:
        body = json.dumps({**QUOTE, "submissionUrl": origin + PATH}).encode()
        sent = replace(SOURCE, body=body)
        return (await elsewhere.send(sent, adapt=False, X_Request_Timeout_Ms="500")).status

    statuses = await asyncio.gather(*map(status, SAME_ORIGINS))

    assert set(statuses) <= {502, 504}, dict(zip(SAME_ORIGINS, statuses, strict=True))


async def test_an_origin_that_only_looks_like_a_listed_one_is_rejected(elsewhere):
    for origin in SIMILAR_ORIGINS:
        await assert_rejected(elsewhere, origin + PATH)


async def test_an_empty_list_allows_no_url(client_with):
    hop = await client_with(" , ")

    await assert_rejected(hop, hop.next_url + PATH)
    await assert_rejected(hop, "http://spsp-server" + PATH)


async def test_each_of_several_listed_urls_is_called(client_with):
    hop = await client_with(f"{unused_url()}, {{url}}/a ,{{url}}/b/")

    assert 200 == (await send(hop, f"{hop.next_url}/a{PATH}")).status
    assert 200 == (await send(hop, f"{hop.next_url}/b{PATH}")).status
    assert [f"/a{PATH}", f"/b{PATH}"] == [seen.target for seen in hop.next_hop.seen]


async def test_the_password_in_a_url_is_in_no_log_line_and_no_reply(at_root):
    response = await send(at_root, f"http://someone:hunter2@{at_root.next_url.removeprefix('http://')}{PATH}")

    assert 403 == response.status
    assert "hunter2" not in at_root.log.text + response.body.decode()


async def test_the_log_shows_the_rejected_url(at_root):
    await send(at_root, f"http://evil.example{PATH}")

    assert "evil.example" in at_root.log.events[-1]["cause"]
