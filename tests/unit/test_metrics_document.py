"""docs/metrics.md has every metric that the services export, with its type, labels and services, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.metrics import MetricWrapperBase

from chassis.app import SERVICE
from support.openapi_documents import SERVICES, application

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
NAMES = {"payee": "dfsp-api (payee)", "dfsp-api": "dfsp-api (payer)"}
OUTSIDE_THE_CHAIN = {"integrations", "signal-receiver", "console"}


class Described(NamedTuple):
    """A metric at one service."""

    service: str
    name: str
    type: str
    labels: tuple[str, ...]


def documented() -> Iterator[Described]:
    every = {NAMES.get(name, name) for name in SERVICES}
    groups = {"all": every, "all of the chain": every - OUTSIDE_THE_CHAIN}
    for name, type_, labels, services, _ in ROW.findall(TEXT):
        for service in groups.get(services.strip()) or services.strip().split(", "):
            yield Described(service, name, type_, tuple(re.findall(r"`(\w+)`", labels)))


def exported(service: str, users_file: Path, folder: Path) -> Iterator[Described]:
    limits = folder / "limits.toml"
    limits.write_text("limit = []")
    optional = {"traces_url": "http://127.0.0.1:1/v1/traces", "exposure_limits_file": str(limits)}
    registry = application(service, users_file, folder, **optional)[SERVICE].metrics.registry
    for collector in list(registry._collector_to_names):
        # a metric with labels that was never used has no samples, but knows the names of its labels
        own_labels = (
            getattr(collector, "_labelnames", ()) if isinstance(collector, MetricWrapperBase) else None
        )
        for family in collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = family._labelnames if own_labels is None else own_labels
            yield Described(NAMES.get(service, service), name, family.type, tuple(labels))


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_exports_what_the_document_says(service, users_file, tmp_path):
    name = NAMES.get(service, service)

    assert {each for each in documented() if each.service == name} == set(
        exported(service, users_file, tmp_path)
    )


def test_the_document_names_no_metric_twice():
    names = [name for name, *_ in ROW.findall(TEXT)]

    assert len(names) == len(set(names))
    assert len(names) == len(re.findall(r"^\| `", TEXT, re.MULTILINE))


def test_each_metric_has_a_name_by_the_conventions_and_answers_a_question():
    for name, type_, _, _, question in ROW.findall(TEXT):
        assert name.endswith("_total") == (type_ == "counter"), name
        assert "?" in question or name.endswith("_info"), name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|percent)\b", name), name


@pytest.mark.parametrize("label", ["reason", "outcome", "state", "operation", "kind", "origin"])
def test_the_values_of_a_label_are_explained(label):
    assert re.search(rf"`{label}` (is|has)|: `{label}` is", TEXT)
