"""spsp-client goes to the origins it was told of, and to no other (wire.md §4, §7.6)."""

import json
from dataclasses import replace
from urllib.parse import quote

import pytest

from support.forwarders import ASKS, EXECUTE, FORWARDERS, LOOK_UP, SOURCE
from support.messages import QUOTE, UNKNOWN_UUID
from support.sockets import unused_url

PATH = SOURCE.path


async def send(hop, url: str, ask=SOURCE):
    """The request with this submissionUrl."""
    if ask.body is None:
        ask = replace(ask, query=f"{ask.query}&submissionUrl={quote(url, safe='')}")
    else:
        ask = replace(ask, body=json.dumps({**QUOTE, "submissionUrl": url}).encode())
    return await hop.send(ask, adapt=False)


@pytest.fixture
async def client_of(hop_to):
    """Starts spsp-client with a list; `{url}` in it stands for the next hop."""

    async def start(listed: str):
        first = await hop_to(FORWARDERS["spsp-client"])
        hop = await hop_to(FORWARDERS["spsp-client"], submission_urls=listed.replace("{url}", first.next_url))
        hop.next_url, hop.next_hop = first.next_url, first.next_hop
        return hop

    return start


@pytest.fixture
async def own(client_of):
    """spsp-client that may go to the next hop, its root."""
    return await client_of("{url}")


@pytest.fixture
async def below(client_of):
    """spsp-client that may go to the next hop, below a prefix."""
    return await client_of("{url}/dfsp/one")


@pytest.fixture
async def elsewhere(client_of):
    """spsp-client that may go to names whose ports are the defaults."""
    return await client_of("http://spsp-server,https://spsp-server,http://[2001:db8::1]:8013")


async def assert_refused(hop, url: str, ask=SOURCE) -> None:
    answer = await send(hop, url, ask)

    assert (403, "SubmissionUrlNotAllowedError") == (answer.status, answer.id)
    assert [] == hop.next_hop.seen


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
async def test_what_is_listed_is_gone_to(own, ask):
    assert 200 == (await send(own, own.next_url + ask.path, ask)).status
    assert ask.path == own.next_hop.seen[0].target.partition("?")[0]


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
async def test_a_listed_prefix_is_part_of_the_path(below, ask):
    assert 200 == (await send(below, f"{below.next_url}/dfsp/one{ask.path}", ask)).status
    assert f"/dfsp/one{ask.path}" == below.next_hop.seen[0].target.partition("?")[0]


@pytest.mark.parametrize(
    "prefix",
    ["", "/dfsp", "/dfsp/one/", "/dfsp/one/x", "/dfsp/onex", "/dfsp/two", "/DFSP/one", "//dfsp/one", "/dfsp//one",
     "/dfsp/./one", "/dfsp/two/../one", "/dfsp/%6fne", "/dfsp%2fone", "/dfsp/one/..", "/dfsp/one;x", "/dfsp/one%00"],
)  # fmt: skip
async def test_another_prefix_than_the_listed_is_refused(below, prefix):
    await assert_refused(below, f"{below.next_url}{prefix}{PATH}")


@pytest.mark.parametrize(
    "path",
    ["", "/", "/v1", "/v1/quoteDestinationAmount", "/v1/quoteSourceAmount/", "/v1/quotesourceamount",
     "/v1/quoteSourceAmount/..", "/v1/./quoteSourceAmount", "/v1/x/../quoteSourceAmount", "/../v1/quoteSourceAmount",
     "/v1/%2e%2e/v1/quoteSourceAmount", "/%2e/v1/quoteSourceAmount", "/v1%2fquoteSourceAmount",
     "/v1/quote%53ourceAmount", "//v1/quoteSourceAmount", "/v1//quoteSourceAmount", "/v1\\quoteSourceAmount",
     "\\v1\\quoteSourceAmount", "/v1/quoteSourceAmount%20", "/v1/quoteSourceAmount;x=1", "/v1/quoteSourceAmount:80",
     "/v1/quoteSourceAmount?", "/v1/quoteSourceAmount?x=1", "/v1/quoteSourceAmount#", "/v1/quoteSourceAmount#x",
     "/v1/quoteSourceAmount\n", "/v1/quoteSourceAmount\t", "/v1/quoteSourceAmount ", "/v1/quoteSourceAmount\x00",
     "/v1/quoteSourceAmount\u00ad", "/v1/quoteSourc\u0435Amount", "?/v1/quoteSourceAmount", "#/v1/quoteSourceAmount"],
)  # fmt: skip
async def test_another_path_than_the_requests_own_is_refused(own, path):
    await assert_refused(own, own.next_url + path)


async def test_another_operations_path_is_refused(own):
    for ask in ASKS.values():
        for other in ASKS.values():
            if other is not ask:
                await assert_refused(own, own.next_url + other.path, ask)


async def test_another_quotes_uuid_is_refused(own):
    for ask in (EXECUTE, LOOK_UP):
        await assert_refused(own, own.next_url + ask.path.replace(UNKNOWN_UUID[0], "2", 1), ask)


@pytest.mark.parametrize(
    "made",
    [
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
    ],
)
async def test_another_origin_or_none_is_refused(own, made):
    host = own.next_url.removeprefix("http://")
    url = made.replace("{host}", host).replace("{port}", host.partition(":")[2]).replace("{path}", PATH)

    await assert_refused(own, url)


async def test_scheme_and_host_may_be_written_in_either_case(own):
    assert 200 == (await send(own, own.next_url.replace("http", "HTTP") + PATH)).status


ELSEWHERE_TAKEN = [
    "http://spsp-server",
    "HTTP://SPSP-Server",
    "http://spsp-server:80",
    "http://spsp-server:",
    "https://spsp-server",
    "https://spsp-server:443",
    "http://[2001:db8::1]:8013",
    "http://[2001:DB8::1]:8013",
]
ELSEWHERE_REFUSED = [
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


@pytest.mark.parametrize("origin", ELSEWHERE_TAKEN)
async def test_these_are_the_same_origin(elsewhere, origin, monkeypatch):
    """Nobody answers under these names: that it was tried tells that it was allowed."""
    answer = await elsewhere.send(
        replace(SOURCE, body=json.dumps({**QUOTE, "submissionUrl": origin + PATH}).encode()),
        adapt=False,
        X_Request_Timeout_Ms="500",
    )

    assert answer.status in {502, 504}


@pytest.mark.parametrize("origin", ELSEWHERE_REFUSED)
async def test_these_are_another_origin(elsewhere, origin):
    await assert_refused(elsewhere, origin + PATH)


async def test_an_empty_list_refuses_all(client_of):
    hop = await client_of(" , ")

    await assert_refused(hop, hop.next_url + PATH)
    await assert_refused(hop, "http://spsp-server" + PATH)


async def test_each_of_several_is_gone_to(client_of):
    hop = await client_of(f"{unused_url()}, {{url}}/a ,{{url}}/b/")

    assert 200 == (await send(hop, f"{hop.next_url}/a{PATH}")).status
    assert 200 == (await send(hop, f"{hop.next_url}/b{PATH}")).status
    assert [f"/a{PATH}", f"/b{PATH}"] == [seen.target for seen in hop.next_hop.seen]


async def test_the_password_in_a_url_is_in_no_log_line_and_no_reply(own):
    answer = await send(own, f"http://someone:hunter2@{own.next_url.removeprefix('http://')}{PATH}")

    assert 403 == answer.status
    assert "hunter2" not in own.lines.text + answer.body.decode()


async def test_a_refusal_tells_an_operator_which_url_it_was(own):
    await send(own, f"http://evil.example{PATH}")

    assert "evil.example" in own.lines.events[-1]["cause"]
