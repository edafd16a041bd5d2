"""The parts of `make up`, `make certs` and `make logs` that need no container engine."""

import json
import re
import shutil
import ssl
import sys
from pathlib import Path

import pytest
from cryptography import x509

from network import certificates, compose, compose_files, compose_logs
from network.compose_logs import parse_lines
from network.log_filter import log_filter
from network.log_viewer import LogsNotFoundError
from network.terminal import Terminal
from support.log_lines import entry

TOP = Path(__file__).parents[2]
LINE = '{"time":"2026-11-21T04:02:19.495Z","event":"request","traceId":"t","status":200}'


def test_lines_of_docker_compose_logs_are_parsed_like_those_of_log_files():
    (one, two, three) = parse_lines(
        [
            f"\x1b[2Kspsp-server-1  | {LINE}\n",
            f"dfsp2-spsp-server-backend-3  | {LINE}\n",
            "spsp-server-1 | Traceback | of something\n",
            "no line of a container\n",
        ]
    )

    assert ("spsp-server", 200, "t") == (one.service, one.status, one.trace_id)
    assert "dfsp2-spsp-server-backend-3" == two.service
    assert ("spsp-server", "Traceback | of something", one.time) == (three.service, three.text, three.time)


UUID = "729bce92-cf6b-81d3-9085-437ed128fe45"
CONTAINER_LINES = [
    f"spsp-server-1  | {entry('spsp-server', at=2.0, trace='t:1')}",
    f"dfsp-api-1  | {entry('dfsp-api', at=1.0, trace='t:1', uuid=UUID)}",
    f"dfsp-api-1  | {entry('dfsp-api', at=3.0, trace='t:2', status=503, id='UnavailableError')}",
    "postgres-1 | t:postgres",
]


def containers_logs(tmp_path, *, follow=False, **wanted) -> tuple[list[str], list[str]]:
    """Run `make logs` with a command in place of `docker compose`. Return the traces shown, and its arguments."""
    script = "import json, pathlib, sys; pathlib.Path('arguments').write_text(json.dumps(sys.argv[1:]));"
    command = [
        sys.executable,
        "-c",
        f"import os; os.chdir({str(tmp_path)!r}); {script} print({chr(10).join(CONTAINER_LINES)!r})",
    ]
    with (tmp_path / "shown").open("w") as stream:  # a stream with a descriptor, as that of a process has
        assert 0 == compose_logs.show(Terminal(stream), command, log_filter(**wanted), follow=follow)
    arguments = json.loads((tmp_path / "arguments").read_text())
    shown = (tmp_path / "shown").read_text()
    return [word for word in shown.split() if word.startswith("t:")], arguments


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["t:1", "t:1", "t:2"]),
        ({"status": "5xx"}, ["t:2"]),
        ({"quote": UUID}, ["t:1", "t:1"]),
    ],
)
def test_the_logs_of_containers_have_the_same_filters(tmp_path, wanted, expected):
    found, arguments = containers_logs(tmp_path, **wanted)

    assert expected == found
    assert ["logs", "--no-color", "--tail", "all" if wanted else "200"] == arguments[:4]


def test_the_engine_leaves_out_lines_before_the_time(tmp_path):
    _, arguments = containers_logs(tmp_path, since="2026-11-21T00:00:00Z", follow=True)

    assert ["--since", "2026-11-21T00:00:00.000Z", "--follow"] == arguments[4:]


def test_it_is_said_that_no_line_of_the_containers_matches(tmp_path):
    with pytest.raises(LogsNotFoundError, match="no line in the containers' logs has the status 418"):
        containers_logs(tmp_path, status="418")


def test_secrets_are_created_once_and_only_their_owner_can_enter_the_folder(tmp_path):
    folder = tmp_path / "compose"
    compose_files.prepare(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    compose_files.prepare(folder)

    assert before == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert 0o700 == folder.stat().st_mode & 0o777
    assert 5 == len({content for name, content in before.items() if name.endswith("-database-password")})
    mentioned = re.findall(r"\$\{SECRETS:-.data/compose\}/([a-z0-9.-]+)", (TOP / "compose.yaml").read_text())
    assert set(mentioned) <= set(before)
    for name, scheme in {"directory.json": "http", "directory-tls.json": "https"}.items():
        receivers = {each["spspReceiver"] for each in json.loads(before[name])["resources"]}
        assert {f"{scheme}://dfsp1-spsp-server", f"{scheme}://dfsp2-spsp-server"} == receivers


def test_each_compose_service_has_a_certificate_with_all_names_that_callers_use(tmp_path):
    certificates.create(tmp_path)
    text = (TOP / "compose.tls.yaml").read_text()
    mounted = set(re.findall(r"\}/certificates/([a-z0-9-]+)", text))

    assert mounted == set(certificates.names()) - {certificates.CALLER}
    for service, names in certificates.names().items():
        leaf = x509.load_pem_x509_certificate((tmp_path / service / "certificate.pem").read_bytes())
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = set(alternatives.get_values_for_type(x509.DNSName))
        found |= {str(each) for each in alternatives.get_values_for_type(x509.IPAddress)}
        assert set(names) == found
        ssl.create_default_context().load_cert_chain(
            tmp_path / service / "certificate.pem", tmp_path / service / "key.pem"
        )


def test_the_tls_overlay_covers_every_service_but_the_databases():
    def services(file):
        return set(
            re.findall(
                r"^  ([a-z0-9-]+):$",
                (TOP / file).read_text().partition("\nservices:")[2].partition("\nnetworks:")[0],
                re.MULTILINE,
            )
        )

    databases = {name for name in services("compose.yaml") if name.endswith("postgres")}

    assert len(databases) == 5
    assert services("compose.yaml") - databases == services("compose.tls.yaml")


def test_renewed_certificates_are_of_the_same_authority(tmp_path):
    certificates.create(tmp_path)
    before = (tmp_path / "spsp-client" / "certificate.pem").read_bytes()
    ca = (tmp_path / "spsp-client" / "ca.pem").read_bytes()
    certificates.create(tmp_path)

    assert ca == (tmp_path / "spsp-client" / "ca.pem").read_bytes()
    assert before != (tmp_path / "spsp-client" / "certificate.pem").read_bytes()
    assert 0o600 == (tmp_path / certificates.AUTHORITY / "key.pem").stat().st_mode & 0o777


def test_a_service_without_a_certificate_gets_one(tmp_path, monkeypatch):
    """Such as a service that was added since the last `make up`."""
    monkeypatch.setattr("sys.argv", ["compose", "prepare", "--tls", "--folder", str(tmp_path)])
    assert 0 == compose.main()
    one = tmp_path / "certificates" / "spsp-client" / "certificate.pem"
    before = one.read_bytes()

    assert 0 == compose.main()
    assert before == one.read_bytes()

    shutil.rmtree(tmp_path / "certificates" / "load-balancer")
    assert 0 == compose.main()
    assert (tmp_path / "certificates" / "load-balancer" / "certificate.pem").exists()
