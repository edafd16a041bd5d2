"""Start the network of compose.yaml in containers, with a separate project name and separate ports."""

import contextlib
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import docker
from docker.models.containers import Container
from testcontainers.compose import DockerCompose

from network import certificates, compose_files
from support.chain import free_ports

TOP: Final = Path(__file__).parents[2]
ROLES: Final = (
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
)
LOAD_BALANCERS: Final = ("load-balancer", "dfsp2-load-balancer")
DFSP1: Final = ROLES
DFSP2: Final = tuple(f"dfsp2-{role}" for role in ROLES)
DIRECTORY: Final = "central-directory"
SERVICES: Final = (*LOAD_BALANCERS, *DFSP1, *DFSP2, DIRECTORY)
DATABASES: Final = ("postgres", "dfsp2-postgres")
INTEGRATION_SERVICES: Final = ("integrations", "signal-receiver")
INTEGRATION_LOAD_BALANCERS: Final = ("integrations-load-balancer", "receiver-load-balancer")
INTEGRATION_DATABASES: Final = ("integrations-postgres", "receiver-postgres")
CONSOLE, CONSOLE_DATABASE = "console", "console-postgres"
AT: Final = {"dfsp1": "30754017", "dfsp2": "30754016"}
"""For each DFSP, the identifier of an account there."""
STOP_SECONDS: Final = 14
READY_SECONDS: Final = 90

HEALTH_CHECK: Final = ("python", "-m", "chassis.health")
_OURS = ("COMPOSE_PROJECT_NAME", "SECRETS", "IMAGE", "DFSP1_PORT", "DFSP2_PORT")
_FURTHER_OURS = ("INTEGRATIONS_PORT", "RECEIVER_PORT", "CONSOLE_PORT", "WEBHOOKS_SUBNET")


@dataclass
class ComposeNetwork:
    """A running compose project: two DFSPs and the integration services."""

    compose: DockerCompose
    engine: docker.DockerClient
    project: str
    folder: Path
    image: str
    has_tls: bool

    @property
    def scheme(self) -> str:
        return "https" if self.has_tls else "http"

    @property
    def urls(self) -> dict[str, str]:
        """URL of each DFSP's payer service, as published to the host."""
        load_balancers = {"dfsp1": "load-balancer", "dfsp2": "dfsp2-load-balancer"}
        inside = 443 if self.has_tls else 80
        return {
            dfsp: f"{self.scheme}://{self.run('port', load_balancer, str(inside)).strip()}"
            for dfsp, load_balancer in load_balancers.items()
        }

    @property
    def certificates(self) -> Path:
        return self.folder / "certificates"

    def run(self, *arguments: str) -> str:
        """Run `docker compose` and return its output. If the command fails, raise an exception that has the output."""
        command = [*self.compose.docker_compose_command(), *arguments]
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=300)
        assert not done.returncode, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def scale(self, **counts: int) -> None:
        """Set the number of replicas of services. Names have "_" for "-". Containers that run already keep running."""
        scale = [f"--scale={name.replace('_', '-')}={count}" for name, count in counts.items()]
        self.run("up", "--detach", "--wait", "--no-recreate", *scale)

    def containers(self, service: str) -> list[Container]:
        """Return the containers of a service by replica number, including stopped ones."""
        label = "com.docker.compose"
        found = self.engine.containers.list(
            all=True,
            filters={"label": [f"{label}.project={self.project}", f"{label}.service={service}"]},
        )
        return sorted(found, key=lambda each: int(each.labels[f"{label}.container-number"]))

    def container(self, service: str) -> Container:
        return self.containers(service)[0]

    def network(self, name: str) -> Any:
        return self.engine.networks.get(f"{self.project}_{name}")

    def is_ready(self, container: Container) -> bool:
        """Whether the health check of the image succeeds in the container."""
        return container.exec_run(list(HEALTH_CHECK)).exit_code == 0

    def wait_ready(self, *wanted: Container) -> None:
        until = time.monotonic() + READY_SECONDS
        for container in wanted:
            while not self._is_up(container):
                assert time.monotonic() < until, f"{container.name} is not ready: {container.logs(tail=20)}"
                time.sleep(0.1)

    def _is_up(self, container: Container) -> bool:
        container.reload()
        with contextlib.suppress(docker.errors.APIError):
            service = container.labels["com.docker.compose.service"]
            if service in {*DATABASES, *INTEGRATION_DATABASES, CONSOLE_DATABASE}:
                check = ["pg_isready", "--quiet", "--username=quotes", "--dbname=quotes"]
                return container.exec_run(check).exit_code == 0
            return container.status == "running" and self.is_ready(container)
        return False

    def python(self, container: Container, script: str, *arguments: str) -> str:
        """Run a Python script in a container and return its output."""
        done = container.exec_run(["python", "-c", script, *arguments])
        assert done.exit_code == 0, done.output.decode()
        return done.output.decode()

    def rows(self, dfsp: str) -> dict[str, dict[str, Any]]:
        """Return all quotes in the database of a DFSP, by uuid."""
        database = self.container("postgres" if dfsp == "dfsp1" else "dfsp2-postgres")
        sql = (
            "COPY (SELECT row_to_json(r) FROM (SELECT uuid, source_amount::text, destination_amount::text,"
            " expires, executed, request::text FROM quote) r) TO STDOUT"
        )
        done = database.exec_run(["psql", "-U", "quotes", "-d", "quotes", "-At", "-c", sql], demux=True)
        assert done.exit_code == 0, done.output
        lines = (done.output[0] or b"").decode().replace("\\\\", "\\").splitlines()
        return {row["uuid"]: _typed(row) for row in map(json.loads, lines)}

    def logged_lines(self, trace_ids: Sequence[str]) -> list[str]:
        """Return the log lines that have one of these trace ids, from all existing containers."""
        wanted = set(trace_ids)
        lines_of_requests = []
        for service in SERVICES if wanted else ():
            for container in self.containers(service):
                lines = container.logs().decode().splitlines()
                records = [json.loads(line) for line in lines if line.startswith("{")]
                lines_of_requests += [
                    f"{container.name}: {each}" for each in records if each.get("traceId") in wanted
                ]
        return lines_of_requests

    @contextlib.contextmanager
    def cut_off(self, container: Container) -> Iterator[None]:
        """Disconnect a container from all its networks. At the end, connect it again with the same names."""
        container.reload()
        joined = container.attrs["NetworkSettings"]["Networks"]
        for name in joined:
            self.engine.networks.get(name).disconnect(container, force=True)
        try:
            yield
        finally:
            for name, settings in joined.items():
                aliases = [each for each in settings["Aliases"] or [] if each != container.short_id]
                self.engine.networks.get(name).connect(container, aliases=aliases)


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("expires", "executed"):
        row[name] = row[name] and datetime.fromisoformat(row[name])
    for name in ("source_amount", "destination_amount"):
        row[name] = row[name] and Decimal(row[name])
    return row


@contextlib.contextmanager
def network(folder: Path, image: str, *, tls: bool = False) -> Iterator[ComposeNetwork]:
    """Start the network and wait until it is ready. At the end, remove its containers, networks and volumes."""
    folder.mkdir(parents=True, exist_ok=True)
    compose_files.prepare(folder)
    if tls:
        certificates.create(folder / "certificates")
    project = f"dfsp-quoting-test-{'tls-' if tls else ''}{os.getpid()}"
    first = free_ports()
    file = folder / "compose.env"
    published = {"DFSP1_PORT": str(first), "DFSP2_PORT": str(first + 1)}
    values = {"COMPOSE_PROJECT_NAME": project, "SECRETS": str(folder), "IMAGE": image, **published}
    subnet = f"10.{random.randrange(100, 250)}.{random.randrange(250)}.{random.randrange(0, 256, 16)}/28"
    values |= dict(zip(_FURTHER_OURS, (str(first + 7), str(first + 8), str(first + 9), subnet), strict=True))
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    files = ["compose.yaml", "compose.tls.yaml"] if tls else ["compose.yaml"]
    with contextlib.closing(docker.from_env(timeout=60)) as engine, _without((*_OURS, *_FURTHER_OURS)):
        compose = DockerCompose(TOP, compose_file_name=files, env_file=str(file))
        with compose:
            yield ComposeNetwork(compose, engine, project, folder, image, tls)


def requests(container: Container) -> int:
    """Return the number of requests in the log of a container."""
    lines = container.logs().decode().splitlines()
    return sum(json.loads(line).get("event") == "request" for line in lines if line.startswith("{"))


@contextlib.contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """Remove environment variables while the block runs: they could configure another compose network."""
    taken = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)


@contextlib.contextmanager
def built(tag: str) -> Iterator[None]:
    """Build the image from this checkout. At the end, remove it; the engine keeps its layers in the cache."""
    _docker("build", "--quiet", "--file", "services/Dockerfile", "--tag", tag, ".")
    yield
    _docker("image", "rm", tag)


def _docker(*arguments: str) -> None:
    command = ["docker", *arguments]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=900)
    assert not done.returncode, done.stdout + done.stderr
