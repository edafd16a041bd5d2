"""Where webhooks may be (design, Where it may connect): when a URL is given, and when a socket is made."""

import asyncio
import socket
from ipaddress import ip_network

import pytest

from integrations.webhook.ssrf_guard import ADDRESS_NOT_ALLOWED, SsrfGuard
from support.provider import REQUEST, until

REFUSED_ADDRESSES = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.0.1",
    "169.254.169.254",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:0:127.0.0.1",
    "::ffff:0:8.8.8.8",
    "3fff::1",
    "4000::1",
    "e000::1",
]
PUBLIC_ADDRESSES = [
    "93.184.216.34",
    "8.8.8.8",
    "2606:2800:220:1:248:1893:25c8:1946",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


def info(address: str):
    """Return an entry of getaddrinfo."""
    is_v6 = ":" in address
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    return family, socket.SOCK_STREAM, 6, "", (address, 443, 0, 0) if is_v6 else (address, 443)


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_no_socket_is_made_for_an_address_that_is_not_public(address):
    with pytest.raises(PermissionError):
        SsrfGuard().socket(info(address))


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_a_socket_is_made_for_a_public_address(address):
    with SsrfGuard().socket(info(address)) as made:
        assert socket.SOCK_STREAM == made.type


@pytest.mark.parametrize("address", [each for each in REFUSED_ADDRESSES if "%" not in each])
def test_a_url_with_an_address_that_is_not_public_is_refused(address):
    literal = f"[{address}]" if ":" in address else address

    assert SsrfGuard().url_fault(f"https://{literal}/hook") == ADDRESS_NOT_ALLOWED


@pytest.mark.parametrize(
    "url",
    [
        "http://foo.bar/hook",
        "HTTP://foo.bar/hook",
        "ftp://foo.bar/hook",
        "file:///etc/passwd",
        "gopher://foo.bar",
        "//foo.bar/hook",
        "foo.bar",
        "https:foo.bar",
        "https://",
        "https:///hook",
        "https://user@foo.bar/",
        "https://user:password@foo.bar/",
        "https://foo.bar@127.0.0.1/",
        "https://foo.bar:0/",
        "https://foo.bar:65536/",
        "https://foo.bar:x/",
        "https://foo.bar/#fragment",
        "https://foo.bar\\@127.0.0.1/",
        "https://foo.bar/ hook",
        "https://foo.bar/\r\nHost: x",
        "https://foo.bar/\thook",
        "https://foo.bar/h\xf6ok",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.0.1./",
        "https://①②⑦.0.0.1/",
        "https://[::1/",
        "https://[::1%25lo]/",
        "https://foo_bar/..",
        "https://" + "a" * 2_050 + ".example/",
    ],
)
def test_a_url_that_is_not_a_plain_https_url_is_refused(url):
    assert SsrfGuard().url_fault(url) is not None


async def test_the_fault_names_the_field_of_the_url(provider):
    """The provider of this test allows loopback addresses and http."""
    urls = ["https://10.0.0.1/", "ftp://foo.bar/", "https://user@foo.bar/"]
    got = [await provider.ask({**REQUEST, "webhook": {"url": url}}) for url in urls]

    assert [(400, ["webhook.url"])] * len(urls) == [(each.status, list(each.faults)) for each in got]


@pytest.mark.parametrize(
    "url",
    [
        "https://foo.bar/api/proquant",
        "https://foo.bar",
        "https://foo.bar:8443/a?b=c&d=%20",
        "https://8.8.8.8/",
    ],
)
def test_a_public_https_url_is_accepted(url):
    assert SsrfGuard().url_fault(url) is None


def test_http_and_private_networks_are_accepted_only_if_configured():
    allowing = SsrfGuard((ip_network("127.0.0.0/8"),), http=True)

    assert allowing.url_fault("http://127.0.0.1:8018/webhook/token") is None
    assert allowing.url_fault("http://10.0.0.1/") == ADDRESS_NOT_ALLOWED
    assert SsrfGuard((ip_network("fd00:1::/64"),)).url_fault("https://[fd00:1::5]/") is None
    assert SsrfGuard((ip_network("fd00:1::/64"),)).url_fault("https://[fd00:2::5]/") == ADDRESS_NOT_ALLOWED


async def test_no_connection_is_made_to_a_name_that_resolves_to_a_private_address(start, hook, monkeypatch):
    """The address is checked when the socket is made, so an earlier answer of the resolver does not matter."""
    provider = await start(allow_networks="")
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    asked = resolve_names_as(monkeypatch, lambda: next(answers, ["127.0.0.1"]))
    await asyncio.get_running_loop().getaddrinfo("rebinding.example", 80)  # as it was when it was given
    id_ = await provider.approved(hook.url.replace("127.0.0.1", "rebinding.example"))
    attempt = (await until(lambda: first_attempt(provider, id_)))["cause"]

    assert ADDRESS_NOT_ALLOWED == attempt
    assert [] == hook.seen
    assert len(asked) >= 2


async def test_every_address_of_a_name_is_checked(start, hook, monkeypatch):
    provider = await start(allow_networks="")
    resolve_names_as(monkeypatch, lambda: ["127.0.0.1", "169.254.169.254", "::1"])
    id_ = await provider.approved(hook.url.replace("127.0.0.1", "many.example"))
    attempt = await until(lambda: first_attempt(provider, id_))

    assert ADDRESS_NOT_ALLOWED == attempt["cause"]
    assert [] == hook.seen


async def test_no_connection_is_made_to_an_address_that_is_not_allowed_any_more(start, hook):
    """The address was allowed when the partner gave it; addresses in URLs are checked at the socket, too."""
    allowing = await start(deliveries_at_once=0)
    id_ = await allowing.approved(hook.url)
    strict = await start(allow_networks="")
    attempt = await until(lambda: first_attempt(strict, id_))

    assert ADDRESS_NOT_ALLOWED == attempt["cause"]
    assert [] == hook.seen


async def test_the_attempt_log_does_not_contain_the_resolved_address(start, hook, monkeypatch):
    provider = await start(allow_networks="")
    resolve_names_as(monkeypatch, lambda: ["10.11.12.13"])
    id_ = await provider.approved(hook.url.replace("127.0.0.1", "inside.example"))
    await until(lambda: first_attempt(provider, id_))
    log = await provider.send("GET", f"/v1/me/integrations/{id_}/deliveries")

    assert b"10.11.12.13" not in log.body


async def test_proxies_in_the_environment_are_not_used(start, hook, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    provider = await start()
    id_ = await provider.approved(hook.url)
    log = await provider.done(id_)

    assert ["DELIVERED"] == [each["state"] for each in log]


async def first_attempt(provider, id_):
    log = await provider.deliveries(id_)
    return log and log[0]["attempts"] and log[0]["attempts"][0]


def resolve_names_as(monkeypatch, answer) -> list[str]:
    """Resolve names as the test says; return the names that were resolved."""
    asked: list[str] = []

    async def getaddrinfo(_self, host, port, **_more):
        asked.append(host)
        return [
            (*info(address)[:4], (address, port, 0, 0) if ":" in address else (address, port))
            for address in answer()
        ]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", getaddrinfo)
    return asked
