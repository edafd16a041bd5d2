"""The rendered manifests are valid by Kubernetes' schemas and follow the project's rules."""

import itertools

import kubernetes_validate
import pytest
import yaml

from chassis.run import GONE_AFTER_SECONDS
from support.kustomize import KUBERNETES, render, with_example_secrets
from support.policies import allowed, calls_in_compose, pod, pods

pytestmark = pytest.mark.deploy

OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
COMPOSE = KUBERNETES.parents[1] / "compose.yaml"
CALLED_BY_CLIENTS = {"dfsp-api-payer", "integrations"}
ENTRIES = {*CALLED_BY_CLIENTS, "console"}
"""Services whose callers may not resolve the addresses of all replicas."""
CALLED_FROM_OUTSIDE = {*CALLED_BY_CLIENTS, "signal-receiver"}
WITH_ONE_REPLICA = {"central-directory", "console"}
WITH_DATABASE = {"platform": "integrations", "company": "signal-receiver", "console": "console"}
"""The service with a database, by namespace; elsewhere it is `dfsp-api`."""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    manifests = with_example_secrets(tmp_path_factory.mktemp("deploy"))
    return {overlay: render(manifests, overlay) for overlay in OVERLAYS}


@pytest.fixture(params=OVERLAYS)
def objects(request, rendered):
    return rendered[request.param]


def of_kind(objects, kind):
    return [each for each in objects if each["kind"] == kind]


def key(each):
    return each["metadata"].get("namespace"), each["metadata"]["name"]


def containers(objects):
    return [
        (deployment["spec"]["template"]["spec"], container)
        for deployment in of_kind(objects, "Deployment")
        for container in deployment["spec"]["template"]["spec"]["containers"]
    ]


def test_every_object_is_valid_by_a_strict_schema(objects):
    versions = {kubernetes_validate.validate(each, "1.35", strict=True) for each in objects}

    assert versions == {"1.35"}


def test_no_object_occurs_twice(objects):
    keys = [(each["kind"], *key(each)) for each in objects]

    assert len(set(keys)) == len(keys)


def test_every_container_has_a_liveness_and_a_readiness_probe(objects):
    for _, container in containers(objects):
        probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}

        assert {"path": "/health/ready", "port": "http"} == probes.pop("readiness")
        assert [{"path": "/health/live", "port": "http"}] * 2 == list(probes.values())
        assert [{"name": "http", "containerPort": 80}] == container["ports"]


def test_no_container_has_more_rights_than_it_needs(objects):
    for spec, container in containers(objects):
        assert {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        } == container["securityContext"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert 10001 == spec["securityContext"]["runAsUser"]
        assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"]
        assert not spec["automountServiceAccountToken"]


def test_every_container_has_requests_and_limits(objects):
    for _, container in containers(objects):
        assert {"cpu", "memory"} == set(container["resources"]["requests"])
        assert {"cpu", "memory"} == set(container["resources"]["limits"])


def test_kubernetes_waits_for_as_long_as_a_service_takes_to_stop(objects):
    for spec, container in containers(objects):
        grace = {each["name"]: each.get("value") for each in container["env"]}["QUOTES_STOP_GRACE_SECONDS"]
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]

        assert 0 < float(grace) < GONE_AFTER_SECONDS
        assert spec["terminationGracePeriodSeconds"] > before + GONE_AFTER_SECONDS + 1


def test_every_mounted_volume_and_its_content_exist(objects):
    there = {(each["kind"], *key(each)) for each in objects}
    for deployment in of_kind(objects, "Deployment"):
        namespace = deployment["metadata"]["namespace"]
        spec = deployment["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for volume in volumes.values():
            wanted = {
                ("Secret", namespace, volume.get("secret", {}).get("secretName")),
                ("ConfigMap", namespace, volume.get("configMap", {}).get("name")),
                (
                    "PersistentVolumeClaim",
                    namespace,
                    volume.get("persistentVolumeClaim", {}).get("claimName"),
                ),
            }
            assert all(each in there for each in wanted if each[2])
        for container in spec["containers"]:
            assert set(volumes) == {mount["name"] for mount in container["volumeMounts"]}


def test_every_key_that_refers_to_a_config_map_exists(objects):
    held = {(*key(each), name) for each in of_kind(objects, "ConfigMap") for name in each["data"]}
    for deployment in of_kind(objects, "Deployment"):
        namespace = deployment["metadata"]["namespace"]
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            named = [each["valueFrom"]["configMapKeyRef"] for each in container["env"] if "valueFrom" in each]

            assert {(namespace, each["name"], each["key"]) for each in named} <= held


def test_every_autoscaler_and_budget_belongs_to_a_deployment(objects):
    deployments = {key(each): each for each in of_kind(objects, "Deployment")}
    scaled = [
        (each["metadata"]["namespace"], each["spec"]["scaleTargetRef"]["name"])
        for each in of_kind(objects, "HorizontalPodAutoscaler")
    ]

    assert set(deployments) == {key(each) for each in of_kind(objects, "PodDisruptionBudget")}
    assert {each for each in deployments if each[1] not in WITH_ONE_REPLICA} == set(scaled)
    assert len(scaled) == len(set(scaled))
    # else each apply would reset the number that the autoscaler has chosen
    assert not [each for each in scaled if "replicas" in deployments[each]["spec"]]
    for each in of_kind(objects, "PodDisruptionBudget"):
        (selected,) = [
            deployment
            for (namespace, _), deployment in deployments.items()
            if namespace == each["metadata"]["namespace"]
            and each["spec"]["selector"]["matchLabels"].items()
            <= deployment["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert key(each) == key(selected)


def test_every_autoscaler_uses_requests_in_flight_and_keeps_at_least_two_pods(objects):
    for each in of_kind(objects, "HorizontalPodAutoscaler"):
        names = [metric.get("pods", {}).get("metric", {}).get("name") for metric in each["spec"]["metrics"]]

        assert "requests_in_flight" in names
        assert 2 <= each["spec"]["minReplicas"] < each["spec"]["maxReplicas"]


def test_the_services_that_a_service_calls_are_headless(objects):
    for each in of_kind(objects, "Service"):
        is_headless = each["spec"].get("clusterIP") == "None"

        assert is_headless == (each["metadata"]["name"] not in ENTRIES)
        assert [{"name": "http", "port": 80, "targetPort": "http"}] == each["spec"]["ports"]


def test_two_directories_or_consoles_never_run_at_once(objects):
    specs = [
        each["spec"]
        for each in of_kind(objects, "Deployment")
        if each["metadata"]["name"] in WITH_ONE_REPLICA
    ]

    assert all((1, {"type": "Recreate"}) == (spec["replicas"], spec["strategy"]) for spec in specs)


# --- network policies


def all_pods(objects):
    """Return the pods, and outside pods: callers, monitoring, databases, DNS and a stranger."""
    own = pods(objects)
    dfsps = sorted({each.namespace for each in own} - {"directory"})
    return own, {
        "callers": pod("shop", "shop", {"dfsp-quoting/callers": "true"}, {}),
        "operators": pod("ingress", "ingress", {"dfsp-quoting/operators": "true"}, {}),
        "monitoring": pod("monitoring", "prometheus", {"dfsp-quoting/monitoring": "true"}, {}),
        "dns": pod("kube-system", "kube-dns", {}, {"k8s-app": "kube-dns"}),
        "stranger": pod("elsewhere", "stranger", {}, {"app.kubernetes.io/name": "spsp-client"}),
        **{
            f"{name}/postgres": pod(f"{name}-pg", "pg", {"dfsp-quoting/database-of": name}, {})
            for name in dfsps
        },
    }


def edges(objects, sources, targets, port, protocol="TCP"):
    pairs = itertools.product(sources, targets)
    return {(a.id, b.id) for a, b in pairs if a != b and allowed(objects, a, b, port, protocol)}


def kubernetes_name(compose_name):
    if compose_name == "central-directory":
        return "directory/central-directory"
    dfsp = "dfsp2" if compose_name.startswith("dfsp2-") else "dfsp1"
    return f"{dfsp}/{compose_name.removeprefix('dfsp2-')}"


def test_the_policies_allow_exactly_the_calls_of_compose(rendered):
    objects = rendered["two-dfsps"]
    own, _ = all_pods(objects)
    calls = calls_in_compose(yaml.safe_load(COMPOSE.read_text()))
    # in Kubernetes a Service replaces the load balancer
    expected = {
        (kubernetes_name(a), kubernetes_name(b))
        for a, b in calls
        if not a.endswith("load-balancer") and b != "console"
    }

    assert expected == edges(objects, own, own, 80)
    assert 14 == len(expected)


def test_the_platform_reaches_the_companys_webhook_and_no_other_service(rendered):
    own, _ = all_pods(rendered["integrations"])

    assert {("platform/integrations", "company/signal-receiver")} == edges(
        rendered["integrations"], own, own, 80
    )


def test_only_services_with_a_database_reach_one_and_only_their_own(objects):
    own, others = all_pods(objects)
    databases = {name: each for name, each in others.items() if name.endswith("/postgres")}
    namespaces = [name.removesuffix("/postgres") for name in databases]
    expected = {
        (f"{namespace}/{WITH_DATABASE.get(namespace, 'dfsp-api')}", databases[f"{namespace}/postgres"].id)
        for namespace in namespaces
    }

    assert expected == edges(objects, own, databases.values(), 5432)


def test_outside_callers_reach_only_entry_services_and_strangers_reach_no_pod(objects):
    own, others = all_pods(objects)
    called = edges(objects, [others["callers"]], own, 80)

    assert {("shop/shop", each.id) for each in own if each.name in CALLED_FROM_OUTSIDE} == called
    assert not edges(objects, [others["stranger"]], own, 80)


def test_operators_reach_the_console_alone(objects):
    own, others = all_pods(objects)
    called = edges(objects, [others["operators"]], own, 80)

    assert {("ingress/ingress", each.id) for each in own if each.name == "console"} == called


@pytest.mark.parametrize("overlay", ["one-dfsp", "two-dfsps", "integrations"])
def test_the_console_reaches_every_service_of_another_overlay_which_may_send_it_spans(rendered, overlay):
    objects = [*rendered[overlay], *rendered["console"]]
    own = pods(objects)
    (console,) = [each for each in own if each.name == "console"]
    services = [each for each in own if each != console]

    assert {(console.id, each.id) for each in services} == edges(objects, [console], services, 80)
    assert {(each.id, console.id) for each in services} == edges(objects, services, [console], 80)


def test_the_console_takes_the_people_for_operators_and_every_service_takes_the_console(rendered):
    operators = {
        (overlay, deployment["metadata"]["name"]): each["value"]
        for overlay, objects in rendered.items()
        for deployment in of_kind(objects, "Deployment")
        for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        if each["name"] == "QUOTES_OPERATORS"
    }

    assert "operator" == operators.pop(("console", "console"))
    assert {"console"} == set(operators.values())


def test_monitoring_reaches_all_pods_and_all_pods_reach_dns(objects):
    own, others = all_pods(objects)

    assert len(own) == len(edges(objects, [others["monitoring"]], own, 80))
    for protocol in ("UDP", "TCP"):
        assert len(own) == len(edges(objects, own, [others["dns"]], 53, protocol))


def test_only_ports_that_are_served_can_be_reached(objects):
    own, others = all_pods(objects)
    for port in (22, 443, 5432, 8080):
        assert not edges(objects, [*own, *others.values()], own, port)
    assert not edges(objects, own, [others["stranger"]], 80)
    assert not edges(objects, own, [others["stranger"]], 443)
