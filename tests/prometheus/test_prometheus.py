"""A real Prometheus scrapes the network that `make run` starts, and every expression of the dashboards and rules has data."""

import json
import math
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from network import http_client
from network.polling import PollTimer
from network.topology import services
from support.chain import free_ports
from support.network_load import network_load
from support.sample_run import sample_run

pytestmark = pytest.mark.prometheus

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "deploy" / "prometheus" / "prometheus.yml"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
UNIT_TESTS = Path(__file__).parent / "rules_test.yml"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
FIRST_PORT = 8010
PATIENCE_SECONDS = 180
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "15s", "$service": ".*"}
LIMITS = """
[[limit]]
caller = "test"
currencyCode = "USD"
countLimit = 1000000
"""
COMPARISON = re.compile(r"^(.*\S)\s*(?:==|!=|>=|<=|>|<)\s*-?[\d.]+$", re.DOTALL)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panels({"panels": panel.get("panels", [])})


def expressions() -> dict[str, str]:
    """All expressions by the place where they are. Of an alert, the part before the comparison."""
    found = {}
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = rule["expr"]
        else:
            compared = COMPARISON.match(rule["expr"].strip())
            assert compared, f"{rule['alert']} compares no figure with a number"
            found[rule["alert"]] = compared[1]
    for path in DASHBOARDS:
        for panel in panels(json.loads(path.read_text())):
            for target in panel.get("targets", []):
                place = f"{path.stem}: {panel['title']} {target['refId']}"
                expression = target["expr"]
                for name, value in VARIABLES.items():
                    expression = expression.replace(name, value)
                assert "$" not in expression, (place, expression)
                found[place] = expression
    return found


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **query: str) -> Any:
        reply = http_client.send("GET", f"{self.url}{path}?{urlencode(query)}", timeout_seconds=60)
        content = json.loads(reply.body)
        assert "success" == content["status"], (query, content)
        return content["data"]

    def values(self, expression: str) -> list[float]:
        """Return the values of an expression now, without those that are no number."""
        found = self.get("/api/v1/query", query=expression)["result"]
        values = [float(each["value"][1]) for each in found]
        return [value for value in values if not math.isnan(value)]


@contextmanager
def prometheus(configuration: Path, data: Path) -> Iterator[Prometheus]:
    address = f"127.0.0.1:{free_ports()}"
    with (data.parent / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        found = Prometheus(f"http://{address}")
        timer = PollTimer(PATIENCE_SECONDS, 0.1)
        while timer.wait():
            assert process.poll() is None, (data.parent / "prometheus.log").read_text()
            try:
                if 200 == http_client.send("GET", f"{found.url}/-/ready").status:
                    break
            except OSError:
                continue
        yield found
    finally:
        process.terminate()
        process.wait(60)


def configuration(folder: Path, first_port: int) -> Path:
    """The configuration of deploy/prometheus, for the ports of the test's network, with a shorter interval."""
    content = yaml.safe_load(CONFIGURATION.read_text())
    content["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    content["rule_files"] = [str(RULES)]
    for target in content["scrape_configs"][0]["static_configs"]:
        host, _, port = target["targets"][0].partition(":")
        target["targets"] = [f"{host}:{int(port) - FIRST_PORT + first_port}"]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def scraped() -> Iterator[dict[str, list[float]]]:
    """The values of every expression while the network is under load. It ends as soon as all have some."""
    first_port = free_ports()
    # Postgres may run as another user, who has no access to pytest's own folder
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        specs = services(first_port, data=Path(folder), database_url="")
        origins = {spec.name: spec.origin for spec in specs}
        traces = f"{origins['console']}/v1/traces"
        limits = Path(folder) / "limits.toml"
        limits.write_text(LIMITS)
        network = stack.enter_context(
            sample_run(
                first_port,
                Path(folder) / "data",
                QUOTES_TRACES_URL=traces,
                QUOTES_EXPOSURE_LIMITS_FILE=str(limits),
            )
        )
        network.wait_until_up()
        found: dict[str, list[float]] = {}
        with (
            network_load(origins),
            prometheus(configuration(Path(folder), first_port), Path(folder) / "tsdb") as running,
        ):
            timer = PollTimer(PATIENCE_SECONDS, 1)
            left = expressions()
            while timer.wait() and (left or {1.0} != set(found["up"])):
                for place, expression in left.items():
                    found[place] = running.values(expression)
                left = {place: expression for place, expression in left.items() if not found[place]}
                found["up"] = running.values("up")
            found["firing"] = running.values('ALERTS{alertname="ServiceDown"}')
        yield found


@pytest.mark.parametrize("place", sorted(expressions()))
def test_an_expression_has_data_under_load(scraped, place):
    assert scraped[place], expressions()[place]


def test_every_target_of_the_configuration_answers(scraped):
    assert scraped["up"]
    assert {1.0} == set(scraped["up"])
    assert [] == scraped["firing"]


def test_promtool_accepts_the_configuration_and_the_rules():
    promtool("check", "config", CONFIGURATION)
    promtool("check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_not_otherwise():
    promtool("test", "rules", UNIT_TESTS)
