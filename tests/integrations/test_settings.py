"""Settings, the OpenAPI document and metrics of the service."""

import re

import pytest
from cryptography.fernet import Fernet
from openapi_spec_validator import OpenAPIV31SpecValidator

from chassis.settings import SettingsError, load, variables
from integrations.settings import IntegrationsSettings
from support.provider import CREATE, KEY

NEEDED = {
    "QUOTES_USERS_FILE": "users",
    "QUOTES_DATABASE_URL": "postgres:///quotes",
    "QUOTES_ENCRYPTION_KEYS": KEY,
}


def test_by_default_it_listens_on_loopback_and_delivers_to_public_https_urls():
    settings = load(IntegrationsSettings, NEEDED)

    assert ("127.0.0.1", 8017) == (settings.host, settings.port)
    assert (False, ()) == (settings.allow_http, settings.allow_networks)


def test_every_variable_has_a_help_text():
    assert all(field.metadata["environ_config"].help for _, field in variables(IntegrationsSettings))


def test_the_repr_of_the_settings_hides_the_keys():
    assert KEY not in repr(load(IntegrationsSettings, NEEDED))


def test_keys_are_separated_by_commas_and_white_space():
    keys = [Fernet.generate_key().decode() for _ in range(3)]
    text = f"{keys[0]}, {keys[1]}\n{keys[2]}"

    assert (
        tuple(keys) == load(IntegrationsSettings, {**NEEDED, "QUOTES_ENCRYPTION_KEYS": text}).encryption_keys
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENCRYPTION_KEYS", ""),
        ("ENCRYPTION_KEYS", "short"),
        pytest.param("ENCRYPTION_KEYS", f"{KEY},x", id="ENCRYPTION_KEYS-a key and x"),
        ("ALLOW_HTTP", "maybe"),
        ("ALLOW_NETWORKS", "127.0.0.1/8"),
        ("ALLOW_NETWORKS", "everywhere"),
        ("ALLOW_NETWORKS", "64:ff9b::/96"),
        ("DELIVERIES_AT_ONCE", "-1"),
        ("DATABASE_CONNECTIONS", "1"),
        ("REQUESTS_PER_ADDRESS", "0"),
        ("RETENTION_DAYS", "0"),
    ],
)
def test_an_invalid_setting_is_refused_by_its_name(name, value):
    with pytest.raises(SettingsError, match=f"QUOTES_{name} must"):
        load(IntegrationsSettings, {**NEEDED, f"QUOTES_{name}": value})


async def test_the_openapi_document_is_valid_and_has_every_operation(provider):
    document = (await provider.send("GET", "/openapi.json", as_=None)).json
    routes = {
        (route.resource.canonical, route.method.lower())
        for route in provider.app.router.routes()
        # pages are not part of the API
        if route.method != "HEAD"
        and not re.match(r"/(integrations/.*|\w+\.(css|js)|sign-out|docs/.*)?\Z", route.resource.canonical)
    }

    OpenAPIV31SpecValidator(document).validate()
    assert CREATE in document["paths"]
    assert routes == {(path, method) for path, item in document["paths"].items() for method in item}


async def test_metrics_count_attempts_and_lanes(provider, hook):
    id_ = await provider.approved(hook.url)
    await provider.done(id_)
    text = (await provider.send("GET", "/metrics", as_=None)).body.decode()

    assert 'attempts_total{outcome="DELIVERED"} 1.0' in text
    assert "lanes_in_progress" in text
    assert "first_attempt_lag_seconds_count 1.0" in text
