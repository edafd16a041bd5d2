"""Containers reach only the services that they call, and have few rights."""

import concurrent.futures
import json

import pytest

from network import compose_files
from support import compose

REACH = """
import concurrent.futures, json, socket, sys
def reaches(item):
    name, address, port = item
    try:
        socket.create_connection((address, port), 1.5).close()
    except OSError:
        return None
    return name
with concurrent.futures.ThreadPoolExecutor(24) as pool:
    print(json.dumps(sorted({name for name in pool.map(reaches, json.loads(sys.argv[1])) if name})))
"""
SERVICES = (
    *compose.SERVICES,
    *compose.INTEGRATION_SERVICES,
    *compose.INTEGRATION_LOAD_BALANCERS,
    compose.CONSOLE,
)
DATABASES = (*compose.DATABASES, *compose.INTEGRATION_DATABASES, compose.CONSOLE_DATABASE)
PORTS = dict.fromkeys(SERVICES, 80) | dict.fromkeys(DATABASES, 5432)


def allowed() -> dict[str, set[str]]:
    """Return, for each container, the containers that it may reach.

    A network works in both directions, so for each call the reverse one is allowed, too.
    """
    reach: dict[str, set[str]] = {name: set() for name in PORTS}

    def joined(*names: str) -> None:
        for name in names:
            reach[name] |= set(names)

    joined(*compose.DFSP1)
    joined(*compose.DFSP2)
    joined("load-balancer", "dfsp-api-payer")
    joined("dfsp2-load-balancer", "dfsp2-dfsp-api-payer")
    joined(*compose.INTEGRATION_SERVICES)
    joined("integrations", "integrations-postgres")
    joined("signal-receiver", "receiver-postgres")
    joined("integrations-load-balancer", "integrations")
    joined("receiver-load-balancer", "signal-receiver")
    joined("dfsp-api", "postgres")
    joined("dfsp2-dfsp-api", "dfsp2-postgres")
    joined("spsp-client", "dfsp2-spsp-server")
    joined("dfsp2-spsp-client", "spsp-server")
    joined("spsp-client-proxy", "central-directory")
    joined("dfsp2-spsp-client-proxy", "central-directory")
    joined("console", *compose.DFSP1)
    for watched in ("central-directory", *compose.INTEGRATION_SERVICES, "console-postgres"):
        joined("console", watched)
    for name, others in reach.items():
        others.add(name)
    return reach


@pytest.fixture(scope="module")
def reached(network):
    """Return the containers that each service reaches, at any of their addresses."""
    targets = []
    for name, port in PORTS.items():
        networks = network.container(name).attrs["NetworkSettings"]["Networks"].values()
        targets += [(name, each["IPAddress"], port) for each in networks]
        targets += [(name, alias, port) for each in networks for alias in _names(name, each)]

    def look(service):
        return set(json.loads(network.python(network.container(service), REACH, json.dumps(targets))))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(SERVICES, pool.map(look, SERVICES), strict=True))


def _names(name, settings):
    """Return the unique names, since both DFSPs use the plain ones."""
    return [alias for alias in settings["Aliases"] or [] if alias.startswith(("dfsp1-", "dfsp2-"))]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reaches_exactly_the_allowed_containers(reached, service):
    assert allowed()[service] == reached[service]


def test_only_published_ports_and_webhooks_have_a_network_to_the_outside(network):
    """All networks except those of the published ports are internal; integrations uses one of these for webhooks."""
    open_ones = {
        name
        for name in network.engine.networks.list(names=[network.project])
        if not network.engine.networks.get(name.id).attrs["Internal"]
    }
    names = {each.name.removeprefix(f"{network.project}_") for each in open_ones}

    attached = {
        name: {each.labels["com.docker.compose.service"] for each in network.network(name).containers}
        for name in names
    }

    assert {
        "dfsp1-callers": {"load-balancer"},
        "dfsp2-callers": {"dfsp2-load-balancer"},
        "integrations-callers": {"integrations-load-balancer", "integrations"},
        "receiver-callers": {"receiver-load-balancer", "signal-receiver"},
        "console-callers": {"console"},
    } == attached


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_no_rights_that_it_does_not_need(network, service):
    container = network.container(service)
    host = container.attrs["HostConfig"]

    assert host["ReadonlyRootfs"]
    assert ["ALL"] == host["CapDrop"]
    assert not host["Privileged"]
    assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
    assert host["Memory"] > 0
    assert host["NanoCpus"] > 0
    assert host["PidsLimit"] > 0
    assert "unless-stopped" == host["RestartPolicy"]["Name"]
    assert {"max-size", "max-file"} <= set(host["LogConfig"]["Config"])
    assert "10001" == container.exec_run(["id", "-u"]).output.decode().strip()
    for path in ("/x", "/opt/dfsp/x", "/run/secrets/x"):
        assert container.exec_run(["touch", path]).exit_code != 0, path


@pytest.mark.parametrize("service", [*SERVICES, *DATABASES])
def test_no_secret_is_in_the_environment(network, service):
    container = network.container(service)
    secrets = [
        (network.folder / f"{name}-database-password").read_text().strip() for name in compose_files.DATABASES
    ]
    attributes = json.dumps(container.attrs)

    assert not [secret for secret in secrets if secret in attributes]
    assert "postgresql://" not in json.dumps(container.attrs["Config"])
    for secret in secrets:
        assert secret not in container.logs().decode()


def test_the_image_has_labels_and_a_health_check(network):
    image = network.engine.images.get(network.image).attrs["Config"]

    assert {"title", "description", "licenses"} <= {
        name.removeprefix("org.opencontainers.image.") for name in image["Labels"]
    }
    assert "10001:10001" == image["User"]
    assert "SIGTERM" == image["StopSignal"]
    assert ["CMD", *compose.HEALTH_CHECK] == image["Healthcheck"]["Test"]


def test_the_image_contains_no_build_tools(network):
    container = network.container("spsp-client")
    for tool in ("gcc", "make", "git", "uv", "hatchling"):
        assert container.exec_run(["which", tool]).exit_code != 0, tool
    for module in ("pytest", "hatchling", "trustme"):
        assert container.exec_run(["python", "-c", f"import {module}"]).exit_code != 0, module


@pytest.mark.parametrize("service", [*SERVICES, *DATABASES])
def test_every_container_is_healthy(network, service):
    container = network.container(service)
    container.reload()

    assert "healthy" == container.attrs["State"]["Health"]["Status"]


def test_a_payee_without_its_database_is_not_ready_and_its_neighbours_are_ready(network):
    """The engine uses the health check of the image, too."""
    database, payee = network.container("postgres"), network.container("dfsp-api")
    check = network.engine.images.get(network.image).attrs["Config"]["Healthcheck"]["Test"][1:]
    database.stop(timeout=30)
    try:
        assert 1 == payee.exec_run(check).exit_code
        assert 0 == network.container("spsp-server-backend").exec_run(check).exit_code
    finally:
        database.start()
    network.wait_ready(database, payee)
    assert 0 == payee.exec_run(check).exit_code
