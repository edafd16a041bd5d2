"""The files of deploy/prometheus and deploy/grafana, and docs/runbook.md, agree with each other and with the services."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from network.topology import services

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
METRICS = set(re.findall(r"^\| `(\w+)` \| \w+ \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
FUNCTIONS = {
    "by", "changes", "count", "deriv", "histogram_quantile", "label_values", "max", "min_over_time", "on", "or", "rate",
    "sum", "time", "topk", "vector",
}  # fmt: skip
OTHERS = {"up"}


def names_in(expression: str) -> set[str]:
    """The metrics of an expression: its words outside of strings, braces, ranges and groupings."""
    for ignored in (r'"[^"]*"', r"\{[^}]*\}", r"\[[^\]]*\]", r"by \([^)]*\)"):
        expression = re.sub(ignored, " ", expression)
    return {word for word in re.findall(r"[a-z_:][\w:]*", expression) if word not in FUNCTIONS}


def documented(name: str) -> bool:
    return name in OTHERS or bool({name, re.sub(r"_(bucket|sum|count)$", "", name)} & METRICS)


def test_the_configuration_scrapes_every_service_of_make_run_on_its_default_port():
    content = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (job,) = content["scrape_configs"]
    found = {each["labels"]["service"]: each["targets"] for each in job["static_configs"]}

    assert {
        spec.name: [f"127.0.0.1:{spec.port}"] for spec in services(8010, data=Path(), database_url="")
    } == found


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_a_runbook_entry_with_what_it_means_what_to_look_at_and_what_to_do(alert):
    name = alert["alert"]
    _, heading, entry = RUNBOOK.partition(f"\n### {name}\n")

    assert f"docs/runbook.md#{name.lower()}" == alert["annotations"]["runbook_url"]
    assert heading, f"the runbook has no entry {name}"
    entry = re.split(r"\n##", entry)[0]
    assert ["**Meaning:**", "**Look at:**", "**Do:**"] == re.findall(r"^\*\*.+?:\*\*", entry, re.MULTILINE)
    assert {"critical", "warning"} >= {alert["labels"]["severity"]}
    assert alert["annotations"]["summary"]


def test_the_runbook_has_no_entry_without_an_alert():
    assert re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE) == [alert["alert"] for alert in ALERTS]


def test_every_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not():
    tests = yaml.safe_load((ROOT / "tests" / "prometheus" / "rules_test.yml").read_text())["tests"]

    assert [f"{alert['alert']} {end}" for alert in ALERTS for end in ("fires", "does not fire")] == [
        each["name"] for each in tests
    ]


def test_alerts_and_dashboards_use_documented_metrics_only():
    recorded = {
        rule["record"]
        for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    expressions = [alert["expr"] for alert in ALERTS]
    for path in DASHBOARDS:
        content = json.loads(path.read_text())
        expressions += [target["expr"] for panel in content["panels"] for target in panel.get("targets", [])]

    used = set().union(*map(names_in, expressions))
    assert set() == {name for name in used if name not in recorded and not documented(name)}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_imported_and_explains_every_panel(path):
    content: dict[str, Any] = json.loads(path.read_text())
    variables = {each["name"]: each for each in content["templating"]["list"]}
    panels = [panel for panel in content["panels"] if panel["type"] != "row"]

    assert content["uid"]
    assert content["title"]
    assert content["schemaVersion"] >= 39
    assert ("datasource", "prometheus") == (variables["datasource"]["type"], variables["datasource"]["query"])
    assert len(content["panels"]) == len({panel["id"] for panel in content["panels"]})
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        assert {"type": "prometheus", "uid": "${datasource}"} == panel["datasource"]
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    places = [panel["gridPos"] for panel in content["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels overlap"
