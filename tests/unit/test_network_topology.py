"""The table of services and their ports."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from network import ports, topology

DATA = Path("/data")


def services(first_port=8010, **environment):
    made = topology.services(first_port, data=DATA, database_url="postgresql://own", environment=environment)
    return {spec.name: spec for spec in made}


def test_each_service_calls_the_next_one_of_the_chain():
    made = services(9010)

    assert [
        ("dfsp-api-payer", 9010, "http://127.0.0.1:9011"),
        ("spsp-client-proxy", 9011, "http://127.0.0.1:9012"),
        ("spsp-client", 9012, None),
        ("spsp-server", 9013, "http://127.0.0.1:9014"),
        ("spsp-server-backend", 9014, "http://127.0.0.1:9015"),
        ("dfsp-api", 9015, None),
        ("central-directory", 9016, None),
        ("integrations", 9017, None),
        ("signal-receiver", 9018, None),
        ("console", 9019, None),
    ] == [(name, spec.port, spec.env.get("QUOTES_NEXT_HOP")) for name, spec in made.items()]
    assert made["spsp-client"].env["QUOTES_SUBMISSION_URLS"] == made["spsp-server"].origin
    assert made["spsp-client-proxy"].env["QUOTES_DIRECTORY_URL"] == made["central-directory"].origin
    assert {"/data/users"} == {made[name].env["QUOTES_USERS_FILE"] for name in topology.CHAIN}


def test_the_two_integration_services_have_users_of_their_own():
    made = services()

    assert ["/data/integrations-users", "/data/receiver-users"] == [
        made[name].env["QUOTES_USERS_FILE"] for name in (topology.INTEGRATIONS, topology.SIGNAL_RECEIVER)
    ]


def test_the_console_watches_every_other_service_in_the_order_of_the_chain():
    made = services(9010)
    watched = [pair.split("=") for pair in made[topology.CONSOLE].env["QUOTES_CONSOLE_SERVICES"].split(",")]

    assert [*topology.CHAIN, "integrations", "signal-receiver"] == [name for name, _ in watched]
    assert [made[name].origin for name, _ in watched] == [origin for _, origin in watched]


def test_the_services_take_the_console_for_an_operator_and_the_console_takes_a_person():
    made = services()

    assert "operator" == made[topology.CONSOLE].env["QUOTES_OPERATORS"]
    assert {"console"} == {
        spec.env["QUOTES_OPERATORS"] for name, spec in made.items() if name != topology.CONSOLE
    }


def test_the_services_send_spans_to_the_console_which_reads_their_logs():
    made = services(9010)

    assert "/data/logs" == made[topology.CONSOLE].env["QUOTES_LOG_FOLDER"]
    assert "" == made[topology.CONSOLE].env["QUOTES_TRACES_URL"]
    assert {"http://127.0.0.1:9019/v1/traces"} == {
        spec.env["QUOTES_TRACES_URL"] for name, spec in made.items() if name != topology.CONSOLE
    }
    other = services(QUOTES_TRACES_URL="http://jaeger:4318/v1/traces")
    assert {"http://jaeger:4318/v1/traces"} == {spec.env["QUOTES_TRACES_URL"] for spec in other.values()}


def test_a_value_in_the_callers_environment_replaces_the_default_file():
    """A service refuses to start with both a value and a file for it."""
    own = services(QUOTES_ENCRYPTION_KEYS="own")[topology.INTEGRATIONS].env
    usual = services()[topology.INTEGRATIONS].env

    assert ("own", None) == (own["QUOTES_ENCRYPTION_KEYS"], own.get("QUOTES_ENCRYPTION_KEYS_FILE"))
    assert "/data/encryption-keys" == usual["QUOTES_ENCRYPTION_KEYS_FILE"]


def test_the_callers_settings_are_passed_to_every_service_without_other_variables():
    made = services(QUOTES_TTL_SECONDS="7", HOME="/root")

    assert {"7"} == {spec.env["QUOTES_TTL_SECONDS"] for spec in made.values()}
    assert not [spec for spec in made.values() if "HOME" in spec.env]


def test_the_caller_may_set_files_and_a_directory_but_not_the_chains_connections():
    made = services(
        QUOTES_USERS_FILE="/own",
        QUOTES_DIRECTORY_URL="http://own",
        QUOTES_NEXT_HOP="http://x",
        QUOTES_PORT="1",
    )

    assert "/own" == made["dfsp-api"].env["QUOTES_USERS_FILE"]
    assert "http://own" == made["spsp-client-proxy"].env["QUOTES_DIRECTORY_URL"]
    assert "http://127.0.0.1:8014" == made["spsp-server"].env["QUOTES_NEXT_HOP"]
    assert "8013" == made["spsp-server"].env["QUOTES_PORT"]


def test_only_services_with_a_database_get_its_url():
    made = services(QUOTES_DATABASE_URL="postgresql://user:secret@host/db")

    assert ["dfsp-api", "integrations", "signal-receiver", "console"] == [
        name for name, spec in made.items() if "QUOTES_DATABASE_URL" in spec.env
    ]
    assert {"postgresql://own"} == {
        spec.env.get("QUOTES_DATABASE_URL", "postgresql://own") for spec in made.values()
    }
    assert not [spec for spec in made.values() if "secret" in repr(spec)]


@pytest.mark.parametrize("port", [0, -1, 65_527, 70_000])
def test_the_first_port_leaves_room_for_all_services(port):
    with pytest.raises(
        topology.PortError, match=f"from 1 to 65526, since it is the first of 10 ports; {port} is not"
    ):
        services(port)


def test_every_taken_port_is_reported_with_its_service():
    first = ports.find_first_port()
    made = tuple(services(first).values())
    with socket.create_server(("127.0.0.1", first + 3)), socket.create_server(("", first + 6)):
        reported = ports.unavailable_ports(made)

    assert [
        f"port {first + 3} (spsp-server) is taken",
        f"port {first + 6} (central-directory) is taken",
    ] == reported


def test_a_first_port_that_was_just_found_is_not_found_again_by_another_process():
    first = ports.find_first_port()
    script = "import sys; from network import ports; print(ports._claim(int(sys.argv[1])), ports._claim(int(sys.argv[1]) + 1))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(first)], capture_output=True, text=True, check=True
    )

    assert ["False", "True"] == done.stdout.split()
