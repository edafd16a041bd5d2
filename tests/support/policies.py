"""Evaluate network policies of Kubernetes, and find the calls between services in compose.yaml."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Labels = Mapping[str, str]

_PRIVATE_NETWORKS = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}


@dataclass(frozen=True)
class Pod:
    """A pod of the manifests, or a pod outside them of which only the labels are known."""

    namespace: str
    name: str
    namespace_labels: frozenset[tuple[str, str]]
    labels: frozenset[tuple[str, str]]

    @property
    def id(self) -> str:
        return f"{self.namespace}/{self.name}"


def pod(namespace: str, name: str, namespace_labels: Labels, labels: Labels) -> Pod:
    all_labels = {"kubernetes.io/metadata.name": namespace, **namespace_labels}
    return Pod(namespace, name, frozenset(all_labels.items()), frozenset(labels.items()))


def pods(objects: Iterable[Mapping[str, Any]]) -> list[Pod]:
    """Return one pod for each deployment."""
    objects = list(objects)
    of_namespace = {
        o["metadata"]["name"]: o["metadata"]["labels"] for o in objects if o["kind"] == "Namespace"
    }
    return [
        pod(
            o["metadata"]["namespace"],
            o["metadata"]["name"],
            of_namespace[o["metadata"]["namespace"]],
            o["spec"]["template"]["metadata"]["labels"],
        )
        for o in objects
        if o["kind"] == "Deployment"
    ]


def allowed(objects: Iterable[Mapping[str, Any]], source: Pod, target: Pod, port: int, protocol: str) -> bool:
    """Whether the network policies allow a connection: the source's egress rules and the target's ingress rules."""
    policies = [o for o in objects if o["kind"] == "NetworkPolicy"]
    out = _allows(policies, "Egress", source, target, port, protocol)
    return out and _allows(policies, "Ingress", target, source, port, protocol)


def _allows(policies: list[Any], direction: str, own: Pod, other: Pod, port: int, protocol: str) -> bool:
    key, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    mine = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == own.namespace
        and direction in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], own.labels)
    ]
    return not mine or any(
        _has_port(rule, port, protocol) and _has_peer(rule[peers], own, other)
        for spec in mine
        for rule in spec.get(key, [])
    )


def _has_port(rule: Mapping[str, Any], port: int, protocol: str) -> bool:
    number = {"http": 80}  # the only named port, as another test checks
    return any(number.get(p["port"], p["port"]) == port and p["protocol"] == protocol for p in rule["ports"])


def _has_peer(peers: list[Any], own: Pod, other: Pod) -> bool:
    for peer in peers:
        if "ipBlock" in peer:
            # pods have private addresses
            assert set(peer["ipBlock"]["except"]) >= _PRIVATE_NETWORKS, peer
            continue
        assert set(peer) <= {"namespaceSelector", "podSelector"}, peer
        if "namespaceSelector" in peer:
            is_namespace = _selects(peer["namespaceSelector"], other.namespace_labels)
        else:
            is_namespace = own.namespace == other.namespace
        if is_namespace and _selects(peer.get("podSelector", {}), other.labels):
            return True
    return False


def _selects(selector: Mapping[str, Any], labels: frozenset[tuple[str, str]]) -> bool:
    assert set(selector) <= {"matchLabels"}, selector
    return set(selector.get("matchLabels", {}).items()) <= labels


def calls_in_compose(compose: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the pairs (caller, callee) of services, from the URLs in their environment and the networks they share."""
    found = set()
    for name, service in compose["services"].items():
        for url in _urls(service.get("environment", {})):
            found |= {
                (name, other)
                for other in compose["services"]
                if urlsplit(url).hostname in _names(compose, name, other)
            }
    return found


def _urls(environment: Mapping[str, str]) -> list[str]:
    values = (value for name, value in environment.items() if name.endswith(("_HOP", "_URL", "_URLS")))
    return [url for value in values for url in value.split(",")]


def _names(compose: Mapping[str, Any], source: str, target: str) -> set[str]:
    """Return the host names under which the service `source` can reach the service `target`."""
    mine, theirs = (_networks(compose["services"][name]) for name in (source, target))
    shared = set(mine) & set(theirs)
    return {target, *(alias for network in shared for alias in theirs[network])} if shared else set()


def _networks(service: Mapping[str, Any]) -> dict[str, list[str]]:
    networks = service["networks"]
    if isinstance(networks, list):
        return {network: [] for network in networks}
    return {network: (options or {}).get("aliases", []) for network, options in networks.items()}
