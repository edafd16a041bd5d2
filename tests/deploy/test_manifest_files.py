"""The manifest files refer to existing images, modules, settings and paths. They are rendered in the other module."""

import importlib
import subprocess
from pathlib import Path

import pytest
import yaml

from central_directory.app import CentralDirectorySettings
from chassis.settings import load, variables
from console.settings import ConsoleSettings
from dfsp_api.audit.note import SigningKey
from dfsp_api.payee import SAMPLE_FEES, PayeeSettings
from dfsp_api.payer import PayerSettings
from integrations.settings import IntegrationsSettings
from network.samples import encryption_key
from signal_receiver.app import ReceiverSettings
from spsp_client.app import SpspClientSettings
from spsp_client_proxy.app import SpspClientProxySettings
from spsp_server.app import SpspServerSettings
from spsp_server_backend.app import SpspServerBackendSettings
from support.kustomize import KUBERNETES, files

SETTINGS = {
    "dfsp-api-payer": PayerSettings,
    "spsp-client-proxy": SpspClientProxySettings,
    "spsp-client": SpspClientSettings,
    "spsp-server": SpspServerSettings,
    "spsp-server-backend": SpspServerBackendSettings,
    "dfsp-api": PayeeSettings,
    "central-directory": CentralDirectorySettings,
    "integrations": IntegrationsSettings,
    "signal-receiver": ReceiverSettings,
    "console": ConsoleSettings,
}
WITH_ONE_REPLICA = {"central-directory", "console"}
FILES = files()
OF_SERVICES = {path: documents for path, documents in FILES.items() if path.stem in SETTINGS}
TOP = KUBERNETES.parents[1]


def one(documents, kind):
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def container(documents):
    (found,) = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def environment(documents):
    """Return a service's variables. Values from a ConfigMap or a Secret are empty."""
    return {each["name"]: each.get("value", "") for each in container(documents)["env"]}


def test_every_service_has_a_file():
    assert sorted(SETTINGS) == sorted(path.stem for path in OF_SERVICES)


@pytest.mark.parametrize("path", OF_SERVICES, ids=str)
def test_each_service_has_a_deployment_a_service_and_a_budget_that_select_its_pods(path):
    documents = OF_SERVICES[path]
    labels = {"app.kubernetes.io/name": path.stem}
    deployment = one(documents, "Deployment")

    assert {path.stem} == {one(documents, kind)["metadata"]["name"] for kind in ("Deployment", "Service")}
    assert labels == deployment["spec"]["selector"]["matchLabels"]
    assert labels == deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == one(documents, "Service")["spec"]["selector"]
    assert labels == one(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize("path", OF_SERVICES, ids=str)
def test_each_container_runs_the_image_with_an_existing_module(path):
    started = container(OF_SERVICES[path])

    assert "dfsp-quoting" == started["image"]
    assert "command" not in started
    assert [path.stem.replace("-", "_").removesuffix("_payer")] == started["args"]
    assert importlib.util.find_spec(f"{started['args'][0]}.__main__")


@pytest.mark.parametrize("path", OF_SERVICES, ids=str)
def test_every_variable_is_a_setting_of_the_service(path):
    known = {name for name, _ in variables(SETTINGS[path.stem])}
    common = container(FILES[Path("base/every-service/deployment.yaml")])["env"]
    given = {*environment(OF_SERVICES[path]), *(each["name"] for each in common)} - {"QUOTES_ROLE"}

    assert given <= known | {f"{name}_FILE" for name in known}


@pytest.mark.parametrize("path", OF_SERVICES, ids=str)
def test_each_service_has_the_settings_that_it_needs_to_start(path):
    variables = {name: value for name, value in environment(OF_SERVICES[path]).items() if value}
    secrets = {
        "QUOTES_DATABASE_URL": "postgresql://database",
        "QUOTES_USERS_FILE": "users",
        "QUOTES_AUDIT_KEY": SigningKey.generate("example.com/quotes").secret_text,
        "QUOTES_ENCRYPTION_KEYS": encryption_key(),
        "QUOTES_SERVICE_PASSWORD": "password",
    }
    for name, value in secrets.items():
        if variables.pop(f"{name}_FILE", None) or name == "QUOTES_USERS_FILE":
            variables[name] = value

    assert load(SETTINGS[path.stem], variables)


def test_every_service_that_may_have_replicas_is_scaled_by_requests_in_flight():
    scaled = {
        path.stem for path, documents in OF_SERVICES.items() if "HorizontalPodAutoscaler" in str(documents)
    }
    metrics = one(FILES[Path("base/every-service/autoscaler.yaml")], "HorizontalPodAutoscaler")["spec"][
        "metrics"
    ]

    assert set(SETTINGS) - WITH_ONE_REPLICA == scaled
    assert "requests_in_flight" in [
        metric.get("pods", {}).get("metric", {}).get("name") for metric in metrics
    ]


async def test_services_export_the_metric_that_the_autoscalers_use(users_file, client):
    from spsp_server.app import create_app
    from support.serving import served

    settings = load(SpspServerSettings, {"QUOTES_USERS_FILE": str(users_file)})
    async with served(create_app(settings)) as url, client.get(f"{url}/metrics") as reply:
        metrics = await reply.text()
    rule = yaml.safe_load((KUBERNETES / "prometheus-adapter-values.yaml").read_text())["rules"]["custom"][0]

    assert "\nrequests_in_flight " in metrics
    assert rule["seriesQuery"].startswith("requests_in_flight{")
    assert "requests_in_flight" == rule["name"]["as"]


@pytest.mark.parametrize("file", ["base/directory/central-directory.yaml", "base/console/console.yaml"])
def test_the_directory_and_the_console_have_one_replica(file):
    assert 1 == one(FILES[Path(file)], "Deployment")["spec"]["replicas"]


def test_every_path_in_a_kustomization_exists():
    for path, (document,) in ((p, d) for p, d in FILES.items() if p.name == "kustomization.yaml"):
        folder = KUBERNETES / path.parent
        named = [*document.get("resources", []), *document.get("components", [])]
        named += [patch["path"] for patch in document.get("patches", []) if "path" in patch]
        for generator in document.get("secretGenerator", []):
            named += [
                file.rpartition("=")[2].replace("secrets/", "secrets.example/") for file in generator["files"]
            ]
        for generator in document.get("configMapGenerator", []):
            named += generator.get("files", [])
        missing = [name for name in named if not (folder / name).exists()]

        assert not missing, path


def test_no_secret_is_in_git():
    kept = subprocess.run(
        ["git", "ls-files", "--", "deploy"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/kubernetes/overlays/one-dfsp/dfsp/secrets/users"],
        cwd=TOP,
        capture_output=True,
        check=False,
    )

    assert not [path for path in kept if "/secrets/" in path]
    assert 0 == ignored.returncode


def test_the_base_has_the_sample_fees():
    assert SAMPLE_FEES.read_text() == (KUBERNETES / "base/dfsp/fees.toml").read_text()
