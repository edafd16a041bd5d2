"""The README says what the settings classes say."""

import re
from pathlib import Path

import pytest

from central_directory.app import CentralDirectorySettings
from chassis.settings import variables
from dfsp_api.payee import PayeeSettings
from dfsp_api.payer import PayerSettings
from integrations.app import IntegrationsSettings
from signal_receiver.app import ReceiverSettings
from spsp_client.app import SpspClientSettings
from spsp_client_proxy.app import SpspClientProxySettings
from spsp_server.app import SpspServerSettings
from spsp_server_backend.app import SpspServerBackendSettings

README = (Path(__file__).parents[2] / "README.md").read_text()
SERVICES = {
    "dfsp-api (payer)": PayerSettings,
    "spsp-client-proxy": SpspClientProxySettings,
    "spsp-client": SpspClientSettings,
    "spsp-server": SpspServerSettings,
    "spsp-server-backend": SpspServerBackendSettings,
    "dfsp-api (payee)": PayeeSettings,
    "central-directory": CentralDirectorySettings,
    "integrations": IntegrationsSettings,
    "signal-receiver": ReceiverSettings,
}
# defaults that are told in words, being different in each service or a path
WORDS = {
    "QUOTES_PORT": "each its own, see the chain",
    "QUOTES_NEXT_HOP": "the next port on loopback",
    "QUOTES_FEE_SCHEDULE": "the sample",
    "QUOTES_INSTRUMENTS": "the sample",
}
ROLE = "QUOTES_ROLE"  # chooses the settings class, so it is in none


def table() -> dict[str, tuple[set[str], str]]:
    """Variable to the services that have it and its default, as the README tells."""
    rows = re.findall(r"^\| `(QUOTES_\w+)` \| ([^|]+) \| ([^|]+) \|", README, re.MULTILINE)
    return {name: (_services(services), default.strip().strip("`")) for name, services, default in rows}


def _services(cell: str) -> set[str]:
    every = {"all": set(SERVICES), "all of the chain": set(SERVICES) - {"integrations", "signal-receiver"}}
    return every.get(cell.strip()) or {name.strip() for name in cell.split(",")}


def settings() -> dict[str, tuple[set[str], set[str]]]:
    """The same from the classes."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for service, cls in SERVICES.items():
        for name, field in variables(cls):
            services, defaults = found.setdefault(name, (set(), set()))
            services.add(service)
            defaults.add("required" if "Raise" in repr(field.default) else str(field.default))
    return found


def test_the_table_has_every_variable_and_no_other():
    assert set(settings()) == set(table()) - {ROLE}


@pytest.mark.parametrize("name", sorted(settings()))
def test_the_table_says_which_services_have_a_variable_and_its_default(name):
    services, defaults = settings()[name]

    assert (services, WORDS.get(name) or _only(defaults)) == table()[name]


def _only(defaults: set[str]) -> str:
    (default,) = defaults
    return {"": "none", "()": "none", "None": "none", "False": "false"}.get(default, default)


def test_every_service_has_a_port_of_its_own_and_the_chain_shows_it():
    ports = [str(dict(variables(cls))["QUOTES_PORT"].default) for cls in SERVICES.values()]

    assert sorted(set(ports)) == sorted(ports)
    assert all(f":{port}" in README for port in ports)
