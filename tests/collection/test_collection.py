"""The request collection in docs/collection, run by Bruno's command line on the services that `make run` starts."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest

from chassis.errors import QuotingError
from network import http_client
from support.chain import free_ports
from support.sample_run import sample_run

pytestmark = pytest.mark.collection

HERE = Path(__file__).parent
COLLECTION = HERE.parents[1] / "docs" / "collection"
ENVIRONMENT = COLLECTION / "environments" / "make run.bru"
FIRST_PORT = 8010
MAX_SECONDS = 1_200
METHODS = {"get", "put", "post", "delete", "patch"}
NOT_BY_A_CALLER_ALONE = {"ExposureLimitError", "RequestTimeoutError", "UpstreamError", "UnavailableError"}
"""The notes of the folder Errors say why."""


@dataclass(frozen=True)
class Run:
    """A run of the collection: its results, and the operations in the services' documents."""

    first_port: int
    results: list[dict[str, Any]]
    operations: set[tuple[int, str, str]]
    """The service's port, counted from the first one; the method; the path with its parameters in braces."""


def execute(*command: str | Path, folder: Path) -> str:
    """Run a command that must succeed. Return its output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=MAX_SECONDS,
    )

    assert 0 == done.returncode, done.stdout[-5_000:] + done.stderr[-5_000:]
    return done.stdout


def urls(first_port: int) -> dict[str, str]:
    """Return the base URL of each service, by the name of its variable in the environment."""
    found = re.findall(r"^  (\w+): http://127\.0\.0\.1:(\d+)$", ENVIRONMENT.read_text(), re.MULTILINE)
    return {name: f"http://127.0.0.1:{int(port) - FIRST_PORT + first_port}" for name, port in found}


def operations_at(url: str, first_port: int) -> set[tuple[int, str, str]]:
    reply = http_client.send("GET", f"{url}/openapi.json")
    port = urlsplit(url).port - first_port
    return {
        (port, method.upper(), path)
        for path, methods in json.loads(reply.text)["paths"].items()
        for method in METHODS & set(methods)
    }


@pytest.fixture(scope="module")
def bru(tmp_path_factory) -> Path:
    """Install Bruno's command line from the lock file; return its program."""
    folder = tmp_path_factory.mktemp("bruno")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, folder)
    execute("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
    return folder / "node_modules" / ".bin" / "bru"


@pytest.fixture(scope="module")
def finished(bru, tmp_path_factory) -> Run:
    """Run the collection twice on one network: it must leave nothing that the next run fails at."""
    folder = tmp_path_factory.mktemp("collection")
    shutil.copytree(COLLECTION, folder / "collection")
    first_port = free_ports()
    services = urls(first_port)
    results = []
    # Postgres may run as another user, who has no access to pytest's own folder
    with TemporaryDirectory() as data, sample_run(first_port, Path(data) / "data") as network:
        network.wait_until_up()
        password = (network.data / "console-password").read_text()
        for name in ("first.json", "second.json"):
            given = [*services.items(), ("operatorPassword", password)]
            variables = [part for each in given for part in ("--env-var", "=".join(each))]
            command = (bru, "run", "-r", "--env", "make run", "--reporter-json", folder / name, *variables)
            execute(*command, folder=folder / "collection")
            results += json.loads((folder / name).read_text())[0]["results"]
        operations = set().union(*(operations_at(url, first_port) for url in services.values()))
    return Run(first_port, results, operations)


def test_every_request_has_a_check_and_all_checks_pass(finished):
    checks = {
        each["path"]: [
            check["status"] for kind in ("assertionResults", "testResults") for check in each[kind] or []
        ]
        for each in finished.results
    }
    files = {
        path.relative_to(COLLECTION).with_suffix("").as_posix()
        for path in COLLECTION.rglob("*.bru")
        if path.name not in {"collection.bru", "folder.bru"} and path.parent.name != "environments"
    }

    assert files == {path.removesuffix(".bru") for path in checks}
    assert {} == {path: found for path, found in checks.items() if not found or set(found) != {"pass"}}


def test_every_operation_of_every_service_is_in_the_collection(finished):
    sent = {
        (urlsplit(url).port - finished.first_port, each["request"]["method"].upper(), urlsplit(url).path)
        for each in finished.results
        for url in [each["request"]["url"]]
    }
    missing = {
        (port, method, path)
        for port, method, path in finished.operations
        if not any(
            method == sent_method
            and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), sent_path)
            and (port == sent_port or is_at_several(path))
            for sent_port, sent_method, sent_path in sent
        )
    }

    assert set() == missing


def is_at_several(path: str) -> bool:
    """Whether several services have this path, so that one request stands for all: those of the chain, and wire.md §6."""
    every_service = ("/health/", "/metrics", "/openapi.json", "/docs", "/v1/configuration")
    return path.startswith((*every_service, "/v1/quote", "/v1/payments/"))


def test_every_error_that_a_caller_can_cause_is_in_the_collection():
    errors = {path.stem for path in (COLLECTION / "errors").glob("*Error.bru")}
    notes = (COLLECTION / "errors" / "folder.bru").read_text()
    kinds = {kind.__name__ for kind in all_kinds(QuotingError)}

    assert kinds - NOT_BY_A_CALLER_ALONE == errors
    assert NOT_BY_A_CALLER_ALONE == set(re.findall(r"`(\w+Error)`", notes))


def all_kinds(kind: type[QuotingError]) -> set[type[QuotingError]]:
    return {
        each
        for sub in kind.__subclasses__()
        for each in {sub, *all_kinds(sub)}
        if each.__module__ == QuotingError.__module__
    }
