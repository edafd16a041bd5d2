"""The whole network over mutual TLS: `compose.tls.yaml`."""

import asyncio
import contextlib
import datetime as dt
import functools
import ssl
from collections.abc import AsyncIterator
from typing import ClassVar

import aiohttp
import pytest
import trustme
from aiohttp.client_proto import ResponseHandler

from containers.conftest import PATIENCE_SECONDS, both_directions, load_inside, payers_scaled
from network import certificates
from network.polling import PollTimer
from support import compose
from support.client import send
from support.load import broken_by
from support.messages import QUOTE, RESERVE, UNKNOWN_UUID

# in TLS 1.3 a client learns that its certificate was refused only after its handshake
KNOCK = """
import json, socket, ssl, sys
host, folder = sys.argv[1:]
context = ssl.create_default_context(cafile="/run/certificates/ca.pem")
if folder:
    context.load_cert_chain(folder + "/certificate.pem", folder + "/key.pem")
try:
    with context.wrap_socket(socket.create_connection((host, 443), 5), server_hostname=host) as tls:
        serial = tls.getpeercert()["serialNumber"]
        tls.sendall(b"GET /health/live HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        print(tls.recv(15).decode(), serial)
except OSError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def network(image, tmp_path_factory):
    with compose.network(tmp_path_factory.mktemp("tls"), image, tls=True) as made:
        yield made


def context(folder=None, ca=None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca)
    if folder is not None:
        made.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return made


class TlsConnection(ResponseHandler):
    """A connection that is aborted at the end: a TLS shutdown would outlast the test's event loop."""

    open_ones: ClassVar[set["TlsConnection"]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.open_ones.add(self)

    def connection_lost(self, error: BaseException | None) -> None:
        super().connection_lost(error)
        self.open_ones.discard(self)

    def close(self) -> None:
        self.abort()


@contextlib.asynccontextmanager
async def session(made: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=made, force_close=True)
    connector._factory = functools.partial(TlsConnection, loop=asyncio.get_running_loop())
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as caller:
        yield caller
    async with asyncio.timeout(60):
        while TlsConnection.open_ones:
            await asyncio.sleep(0.01)


@pytest.fixture
async def caller(network):
    mine = network.certificates / certificates.CALLER
    async with session(context(mine, mine / "ca.pem")) as made:
        yield made


def issue(folder, ca: trustme.CA, until: dt.datetime | None = None) -> None:
    folder.mkdir(exist_ok=True)
    leaf = ca.issue_cert("caller", not_after=until, not_before=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "certificate.pem")


def authority(network) -> trustme.CA:
    folder = network.certificates / certificates.AUTHORITY
    return trustme.CA.from_pem((folder / "ca.pem").read_bytes(), (folder / "key.pem").read_bytes())


async def test_quotes_and_refusals_work_in_both_directions(network, caller):
    for url, payee in ((network.urls["dfsp1"], "dfsp2"), (network.urls["dfsp2"], "dfsp1")):
        body = {**QUOTE, "identifier": compose.AT[payee]}
        reserved = await send(caller, "POST", url + RESERVE, body)
        assert 200 == reserved.status, reserved.body
        path = f"{url}/v1/payments/{reserved.json['uuid']}"
        altered = await send(caller, "PUT", path, body | {"amount": "12.51"})
        unknown = await send(caller, "PUT", f"{url}/v1/payments/{UNKNOWN_UUID}", body)
        paid = await send(caller, "PUT", path, body)

        assert url.startswith("https://")
        assert (200, "13.75") == (reserved.status, reserved.json["amount"])
        assert (409, 404) == (altered.status, unknown.status)
        assert (200, "EXECUTED") == (paid.status, paid.json["state"])


async def refused(network, made: ssl.SSLContext) -> bool:
    async with session(made) as caller:
        try:
            await send(caller, "POST", network.urls["dfsp1"] + RESERVE, QUOTE)
        except aiohttp.ClientError:
            return True
    return False


async def test_the_published_port_refuses_clients_without_a_valid_certificate(network, tmp_path):
    ours = network.certificates / certificates.CALLER / "ca.pem"
    issue(tmp_path / "good", authority(network))
    issue(tmp_path / "expired", authority(network), dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    issue(tmp_path / "foreign", trustme.CA())

    assert not await refused(network, context(tmp_path / "good", ours))
    assert await refused(network, context(None, ours))
    assert await refused(network, context(tmp_path / "expired", ours))
    assert await refused(network, context(tmp_path / "foreign", ours))


def knock(network, at: str, host: str, folder: str = "") -> str:
    return network.python(network.container(at), KNOCK, host, folder)


def knock_until_changed(network, hop: tuple[str, str], before: str) -> str:
    """Return what the hop says when it is no longer `before`. Services look at their files once a second."""
    timer = PollTimer(PATIENCE_SECONDS)
    while (said := knock(network, *hop, "/run/certificates")) == before:
        assert timer.wait(), f"{hop} still shows the certificate from before: {before}"
    return said


HOPS = (
    ("dfsp-api-payer", "spsp-client-proxy"),
    ("spsp-client-proxy", "spsp-client"),
    ("spsp-client-proxy", "central-directory"),
    ("spsp-client", "dfsp2-spsp-server"),
    ("dfsp2-spsp-server", "spsp-server-backend"),
    ("dfsp2-spsp-server-backend", "dfsp-api"),
)


@pytest.mark.parametrize(("at", "host"), HOPS)
def test_every_hop_refuses_clients_without_a_certificate(network, at, host):
    assert knock(network, at, host, "/run/certificates").startswith("HTTP/1.1 200")
    refusal = knock(network, at, host)
    assert "HTTP" not in refusal


@pytest.mark.parametrize("service", compose.INTEGRATION_LOAD_BALANCERS)
async def test_the_integration_services_accept_clients_without_a_certificate(network, service):
    address = network.run("port", service, "443").strip()
    tls = context(ca=network.certificates / certificates.CALLER / "ca.pem")
    async with session(tls) as caller, caller.get(f"https://{address}/health/ready") as reply:
        assert 200 == reply.status


def test_replaced_certificates_are_loaded_without_a_restart(network):
    started = {name: network.container(name).attrs["State"]["StartedAt"] for name in compose.SERVICES}
    before = {hop: knock(network, *hop, "/run/certificates") for hop in HOPS}
    with load_inside(network) as load:
        certificates.create(network.certificates)
        after = {hop: knock_until_changed(network, hop, before[hop]) for hop in HOPS}
        load.wait_more(20)

    assert [] == load.failed
    for hop in HOPS:
        assert after[hop].startswith("HTTP/1.1 200"), (hop, after[hop])
    assert started == {name: network.container(name).attrs["State"]["StartedAt"] for name in compose.SERVICES}


async def test_callers_at_the_published_port_do_not_notice_that_payers_are_scaled(network, caller):
    """The load balancer forwards the callers' TLS, and checks the payers' readiness over its own."""
    counts, load = await payers_scaled(network, caller)

    assert min(counts) > 0.6 * sum(counts) / 2, counts
    assert {200} == load.statuses(), load.problems


@pytest.mark.parametrize("service", compose.SERVICES)
def test_the_health_check_uses_the_certificate(network, service):
    container = network.container(service)
    container.reload()

    assert "healthy" == container.attrs["State"]["Health"]["Status"]
    assert network.is_ready(container)


async def test_certificates_of_another_authority_are_refused_inside_too(network):
    """Expired ones too. Both are in the place of the service's own."""
    mine = network.certificates / "spsp-client-proxy"
    for name, ca, until in (
        ("foreign", trustme.CA(), None),
        ("expired", authority(network), dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)),
    ):
        issue(mine / name, ca, until)
        for file in (mine / name).iterdir():
            file.chmod(0o444)
        refusal = knock(network, "spsp-client-proxy", "spsp-client", f"/run/certificates/{name}")
        assert "HTTP" not in refusal


@pytest.mark.parametrize("service", ["spsp-client", "dfsp2-spsp-server", "dfsp2-dfsp-api"])
async def test_a_killed_service_is_restarted(network, caller, service):
    container = network.container(service)
    before = await asyncio.to_thread(network.rows, "dfsp2")
    async with both_directions(network, caller) as loads:
        await asyncio.gather(*(load.more(3) for load in loads.values()))
        await asyncio.to_thread(container.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(container.start)
        await asyncio.to_thread(network.wait_ready, container)
        await asyncio.gather(*(load.more(10) for load in loads.values()))
    rows = await asyncio.to_thread(network.rows, "dfsp2")

    new = {uuid: row for uuid, row in rows.items() if uuid not in before}
    assert len(loads["dfsp2"].payments) == len(new)
    assert [] == broken_by(loads["dfsp2"].payments, new)
    assert [] == [*loads["dfsp1"].problems, *loads["dfsp2"].problems]


async def test_a_certificate_for_another_name_is_refused(network):
    """The proxy refuses spsp-client when that has the directory's certificate."""
    container = network.container("spsp-client-proxy")
    script = KNOCK.replace("server_hostname=host", "server_hostname='somebody-else'")
    said = network.python(container, script, "spsp-client", "/run/certificates")

    assert "CERTIFICATE_VERIFY_FAILED" in said
