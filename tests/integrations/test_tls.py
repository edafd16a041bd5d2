"""Webhooks over https: their certificates are looked at, and ours are not shown."""

import ssl

import pytest
import trustme
from aiohttp import web

from support.internals import reload
from support.provider import until


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def secure_hook(authority):
    """Return the URL of a webhook with a certificate of the authority, and its requests."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    seen = []

    async def handle(request):
        seen.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}/", seen
    await runner.cleanup()


async def test_a_certificate_of_a_trusted_authority_is_accepted(start, secure_hook, authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    url, seen = secure_hook
    provider = await start(webhook_ca=tmp_path / "ca.pem", allow_http="false")
    log = await provider.done(await provider.approved(url))

    assert ["DELIVERED"] == [each["state"] for each in log]
    assert 1 == len(seen)


async def test_a_certificate_of_an_unknown_authority_is_refused(start, secure_hook):
    url, seen = secure_hook
    provider = await start()
    id_ = await provider.approved(url)

    async def attempted():
        log = await provider.deliveries(id_)
        return log[0]["attempts"]

    attempts = await until(attempted)

    assert "no connection could be made" == attempts[0]["cause"]
    assert [] == seen


async def test_sighup_reads_changed_certificates_of_authorities_again(
    start, secure_hook, authority, tmp_path, monkeypatch
):
    """A file that cannot be read changes nothing."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    url, seen = secure_hook
    provider = await start(webhook_ca=file, allow_http="false")
    authority.cert_pem.write_to_path(file)
    await reload(provider.app)
    file.write_text("no certificate")
    await reload(provider.app)
    log = await provider.done(await provider.approved(url))

    assert ["DELIVERED"] == [each["state"] for each in log]
    assert 1 == len(seen)
