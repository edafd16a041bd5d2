"""Requests are balanced over replicas; stopping or updating a replica fails no request."""

from containers.conftest import load_inside, payers_scaled, served_by_all
from support import compose
from support.load import broken_by

ON_THE_WAY = (
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "dfsp2-spsp-server",
    "dfsp2-spsp-server-backend",
    "dfsp2-dfsp-api",
    "central-directory",
)
"""The services that a request from the first DFSP to the second passes."""


def test_requests_are_balanced_over_replicas_and_a_removed_one_is_not_used(network):
    network.scale(dfsp2_spsp_server=3)
    replicas = network.containers("dfsp2-spsp-server")
    with load_inside(network) as load:
        before = served_by_all(replicas)
        load.wait_more(300)
        after = [compose.requests(each) for each in replicas]
        removed = replicas[1]
        removed.stop(timeout=compose.STOP_SECONDS)
        last = compose.requests(removed)
        load.wait_more(300)
        left = [compose.requests(each) for each in (replicas[0], replicas[2])]
        assert last == compose.requests(removed)
        removed.remove()
    assert not load.failed, load.why(network)
    network.scale(dfsp2_spsp_server=1)

    assert 3 == len(replicas)
    counts = [now - then for now, then in zip(after, before, strict=True)]
    assert min(counts) > 0.6 * sum(counts) / 3, counts
    assert all(now > then for now, then in zip(left, (after[0], after[2]), strict=True))
    assert [] == broken_by(load.payments, network.rows("dfsp2"))


async def test_callers_at_the_published_port_do_not_notice_that_payers_are_scaled(network, caller):
    counts, load = await payers_scaled(network, caller)

    assert min(counts) > 0.6 * sum(counts) / 2, counts
    assert {200} == load.statuses(), load.problems
    assert [] == broken_by(load.payments, network.rows("dfsp2"))


def test_a_rolling_update_fails_no_request(network):
    """Each service has two replicas: one is recreated, then the other is restarted."""
    before = len(network.rows("dfsp2"))
    network.scale(**{name.replace("-", "_"): 2 for name in ON_THE_WAY})
    with load_inside(network) as load:
        for service in ON_THE_WAY:
            first, second = network.containers(service)
            first.stop(timeout=compose.STOP_SECONDS)
            first.remove()
            network.run("up", "--detach", "--no-recreate", "--no-deps", "--scale", f"{service}=2", service)
            network.wait_ready(*network.containers(service))
            load.wait_more(20)
            second.restart(timeout=compose.STOP_SECONDS)
            network.wait_ready(second)
            load.wait_more(20)
    rows = network.rows("dfsp2")
    assert not load.failed, load.why(network)
    network.scale(**{name.replace("-", "_"): 1 for name in ON_THE_WAY})

    assert len(load.outcomes) >= 14 * 20
    assert [] == broken_by(load.payments, rows)
    assert len(load.payments) == len(rows) - before


def test_a_single_replica_is_found_again_at_another_address(network):
    """Its callers resolve its name within seconds."""
    old = network.container("dfsp2-spsp-server-backend")
    with load_inside(network) as load:
        old.stop(timeout=compose.STOP_SECONDS)
        old.remove()
        network.run("up", "--detach", "--no-recreate", "--no-deps", "dfsp2-spsp-server-backend")
        network.wait_ready(network.container("dfsp2-spsp-server-backend"))
        load.wait_more(50)

    assert {200, 502, 503, 504} >= {outcome.status for outcome in load.outcomes}
    assert 200 == load.outcomes[-1].status
    assert [] == broken_by(load.payments, network.rows("dfsp2"))
