"""The documents agree with the code: settings, fees, make targets, links."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from central_directory.app import CentralDirectorySettings
from chassis.errors import QuotingError
from chassis.settings import old_names, variables
from console.settings import ConsoleSettings
from dfsp_api.fee_schedule_file import parse_fee_schedule
from dfsp_api.payee import PayeeSettings
from dfsp_api.payer import PayerSettings
from integrations.settings import IntegrationsSettings
from signal_receiver.app import ReceiverSettings
from spsp_client.app import SpspClientSettings
from spsp_client_proxy.app import SpspClientProxySettings
from spsp_server.app import SpspServerSettings
from spsp_server_backend.app import SpspServerBackendSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "clients").rglob("*.md")])
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
    "console": ConsoleSettings,
}
OUTSIDE_THE_CHAIN = {"integrations", "signal-receiver", "console"}
# defaults that the table describes in words: they differ by service, or are a path
WORDS = {
    "QUOTES_PORT": "each its own, see the chain",
    "QUOTES_NEXT_HOP": "the next port on loopback",
    "QUOTES_FEE_SCHEDULE": "the sample",
    "QUOTES_INSTRUMENTS": "the sample",
}
ROLE = "QUOTES_ROLE"  # chooses the settings class, so it is in none


def table() -> dict[str, tuple[set[str], str]]:
    """Return the services that have each variable, and its default, from the document."""
    rows = re.findall(r"^\| `(QUOTES_\w+)` \| ([^|`]+) \| ([^|]+) \|", CONFIGURATION, re.MULTILINE)
    return {name: (_services(services), default.strip().strip("`")) for name, services, default in rows}


def _services(cell: str) -> set[str]:
    every = {"all": set(SERVICES), "all of the chain": set(SERVICES) - OUTSIDE_THE_CHAIN}
    return every.get(cell.strip()) or {name.strip() for name in cell.split(",")}


def settings() -> dict[str, tuple[set[str], set[str]]]:
    """Return the same from the settings classes."""
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


def test_the_table_of_renamed_variables_has_every_alias_and_no_other():
    rows = re.findall(r"^\| `(QUOTES_\w+)` \| `(QUOTES_\w+)` \|$", CONFIGURATION, re.MULTILINE)

    assert {old: new for cls in SERVICES.values() for old, new in old_names(cls).items()} == dict(rows)


def test_every_service_of_the_chain_has_a_port_of_its_own_and_the_readme_shows_it():
    ports = {name: str(dict(variables(cls))["QUOTES_PORT"].default) for name, cls in SERVICES.items()}

    assert len(set(ports.values())) == len(ports)
    assert all(f":{port}" in README for name, port in ports.items() if name not in OUTSIDE_THE_CHAIN)


def test_the_example_of_the_fees_document_charges_the_fees_that_it_names():
    (example,) = re.findall(
        r"^```toml\n(.*?)^```$", (ROOT / "docs" / "fees.md").read_text(), re.MULTILINE | re.DOTALL
    )
    schedule = parse_fee_schedule(example)
    request = {"transferType": "p2p", "currencyCode": "USD"}
    terms = [schedule.price_source({**request, "amount": amount}) for amount in ("12.50", "200.00")]

    assert ["0.33", "1.70"] == [str(each.source_amount - each.destination_amount) for each in terms]


def test_the_errors_document_has_every_error_with_its_status_and_says_whether_it_is_final():
    rows = re.findall(
        r"^\| `(\w+Error)` \| (\d{3}) \| .+ \| (Final|Repeat): .+\. \|$",
        (ROOT / "docs" / "errors.md").read_text(),
        re.MULTILINE,
    )
    kinds = {kind.__name__: kind.status for kind in kinds_of(QuotingError)}

    assert kinds == {name: int(status) for name, status, _ in rows}
    assert len(kinds) == len(rows)
    assert {status for status in kinds.values() if status >= 500} | {408, 429} == {
        int(status) for _, status, action in rows if action == "Repeat"
    }


def kinds_of(error: type[QuotingError]) -> Iterator[type[QuotingError]]:
    """Return all public errors of ``chassis.errors`` that derive from one."""
    for kind in error.__subclasses__():
        if kind.__module__ == QuotingError.__module__ and not kind.__name__.startswith("_"):
            yield kind
        yield from kinds_of(kind)


def test_the_architecture_document_has_every_module_and_no_other():
    text = (
        (ROOT / "docs" / "architecture.md").read_text().partition("\n## Modules\n")[2].partition("\n## ")[0]
    )
    folder, documented = "", set()
    for line in text.splitlines():
        if line.startswith("### "):
            package = re.search(r"`([\w/]+)`", line)
            folder = package[1] if package else "services"
        elif line.startswith("| `"):
            documented |= {f"{folder}/{name}" for name in re.findall(r"`([\w/]+\.py)`", line.split("|")[1])}
    modules = {
        str(path.relative_to(ROOT))
        for top in ("shared", "services")
        for path in (ROOT / top).rglob("*.py")
        if not path.stem.startswith("__")
    }

    assert modules == documented


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_of_a_document_exists(document):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^\$ )make ([a-z][a-z-]*)", document.read_text(), re.MULTILINE))

    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_to_a_file_and_a_heading(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document

            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_every_path_of_the_project_in_the_documents_exists():
    paths = {
        (str(document.relative_to(ROOT)), path)
        for document in DOCUMENTS
        for path in re.findall(
            r"`((?:shared|services|clients|benchmarks|tests|deploy)/[\w./-]+)`", document.read_text()
        )
    }

    assert set() == {(document, path) for document, path in paths if not (ROOT / path).exists()}


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
