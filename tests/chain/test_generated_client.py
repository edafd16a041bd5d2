"""A client that openapi-python-client generates from a service's document reserves, pays and looks up."""

import base64
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest

from support.messages import KEY, QUOTE

PACKAGE = "generated_quote_client"


@pytest.fixture(scope="module")
def generated(chain, tmp_path_factory) -> Iterator[ModuleType]:
    """The client, generated and importable."""
    folder = tmp_path_factory.mktemp("generated")
    config = folder / "config.yaml"
    config.write_text("post_hooks: []\n")  # formatting is not what is tested here
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("openapi-python-client")),
            "generate",
            *("--url", f"{chain.url}/openapi.json"),
            *("--meta", "none", "--output-path", str(folder / PACKAGE)),
            *("--config", str(config), "--fail-on-warning"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield importlib.import_module(PACKAGE)
    sys.path.remove(str(folder))


@pytest.fixture
def client(generated, chain):
    token = base64.b64encode(b"test:123").decode()
    with generated.AuthenticatedClient(chain.url, token=token, prefix="Basic") as made:
        yield made


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


def reserve(client, key: str, **changed: str):
    body = module("models").Reservation.from_dict({**QUOTE, **changed})
    return module("api.reserve.quote_source_amount").sync_detailed(
        client=client, body=body, idempotency_key=key
    )


def test_the_same_key_gives_the_same_quote(client):
    key = str(uuid4())
    first, second = reserve(client, key), reserve(client, key)

    assert (200, "13.75") == (first.status_code, first.parsed.amount)
    assert first.parsed == second.parsed
    assert key == first.headers[KEY]
    assert first.parsed.expires.tzinfo is not None


def test_a_quote_is_paid_and_looked_up(client):
    quote = reserve(client, str(uuid4())).parsed
    payment = module("models").Payment.from_dict(QUOTE)
    paid = module("api.pay.pay").sync(quote.uuid, client=client, body=payment)
    found = module("api.look_up.look_up_quote").sync(
        quote.uuid, client=client, identifier_type=QUOTE["identifierType"], identifier=QUOTE["identifier"]
    )

    assert ("EXECUTED", "13.75", "12.50", "1.25") == (
        paid.state,
        paid.source_amount,
        paid.destination_amount,
        paid.fee,
    )
    assert ("EXECUTED", paid.executed) == (found.state, found.executed)
    assert QUOTE == found.request.to_dict()


def test_an_error_is_an_enumeration_of_the_operation(client):
    key = str(uuid4())
    reserve(client, key)
    reused = reserve(client, key, amount="20.00")

    assert 422 == reused.status_code
    assert "IdempotencyKeyReusedError" == reused.parsed.id
    assert {
        "AmountOutOfRangeError",
        "ExposureLimitError",
        "IdempotencyKeyReusedError",
        "NoFeeScheduleError",
    } == {each.value for each in type(reused.parsed.id)}
