"""The story of the two integration services in docs/integrations.md, in containers."""

import json

import pytest

from network import sample_strategy
from support import compose
from support.payee import until
from support.shell import Shell, blocks

COMMANDS = [block.command for block in blocks("docs/integrations.md")[:6]]


@pytest.fixture(scope="module")
def network(image, tmp_path_factory):
    """Start two replicas of each, which share the work."""
    with compose.network(tmp_path_factory.mktemp("integrations"), image) as made:
        made.scale(integrations=2, signal_receiver=2)
        yield made


async def test_a_signal_becomes_a_trade_and_an_error_a_notification(network):
    """The webhook's host is the receiver's name in the network that both services share."""
    published = {
        f"http://127.0.0.1:{port}": f"http://{network.run('port', service, '80').strip()}"
        for port, service in ((8017, "integrations-load-balancer"), (8018, "receiver-load-balancer"))
    }
    sample_strategy.register(published["http://127.0.0.1:8017"], "sample-strategy")
    with Shell({"http://127.0.0.1:8018/webhook": "http://signal-receiver/webhook", **published}) as shell:
        for command in COMMANDS[:-1]:
            assert "Error" not in shell.paste(command), command

        async def is_notified():
            return "InsufficientFunds" in shell.paste(COMMANDS[-1])

        await until(is_notified)
        command = "curl -s -u receiver:sample http://127.0.0.1:8018/v1/accounts/sample/trades"
        trades = [json.loads(shell.paste(command))["trades"] for _ in range(4)]
        replicas = [each for name in compose.INTEGRATION_SERVICES for each in network.containers(name)]

        async def all_have_answered():
            """Whether the log of each replica has a request. Sends more until then."""
            trades.append(json.loads(shell.paste(command))["trades"])
            shell.paste(COMMANDS[-1])
            return all(compose.requests(each) for each in replicas)

        await until(all_have_answered)

    assert 4 == len(replicas)
    assert ["OPEN", "CLOSE", "OPEN", "CLOSE"] == [trade["action"] for trade in trades[0][::-1]]
    assert [trades[0]] * len(trades) == trades


async def test_no_webhook_may_reach_other_addresses_of_the_network(network, caller):
    """Such as its own database, which also has a private address."""
    origin = f"http://{network.run('port', 'integrations-load-balancer', '80').strip()}"
    database = network.container("integrations-postgres").attrs["NetworkSettings"]["Networks"]
    (address,) = [each["IPAddress"] for each in database.values()]
    body = {
        "name": "probe",
        "description": "probe",
        "imageUrl": "https://foo.bar/logo.png",
        "userEmail": "user@example.com",
        "webhook": {"url": f"http://{address}:5432/"},
    }
    async with caller.post(f"{origin}/api/integrations/v1/integrations", json=body) as reply:
        assert 400 == reply.status, await reply.text()
