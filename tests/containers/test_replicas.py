"""Several replicas: requests spread, those that go are no longer used, an update fails nobody."""

import time

from containers.conftest import load_inside, payers_scaled
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
"""Every service, where a call from the first DFSP to the second meets it."""


def test_requests_spread_over_replicas_and_a_removed_one_is_no_longer_used(network):
    network.scale(dfsp2_spsp_server=3)
    replicas = network.containers("dfsp2-spsp-server")
    with load_inside(network) as load:
        load.wait_more(300)
        counts = [compose.requests(each) for each in replicas]
        removed = replicas[1]
        removed.stop(timeout=compose.STOP_SECONDS)
        last = compose.requests(removed)
        load.wait_more(300)
        after = [compose.requests(each) for each in (replicas[0], replicas[2])]
        assert last == compose.requests(removed)
        removed.remove()
    assert not load.failed, load.why(network)
    network.scale(dfsp2_spsp_server=1)

    assert 3 == len(replicas)
    assert min(counts) > 0.6 * sum(counts) / 3, counts
    assert all(now > before for now, before in zip(after, (counts[0], counts[2]), strict=True))
    assert [] == broken_by(load.payments, network.rows("dfsp2"))


async def test_callers_at_the_published_port_do_not_notice_that_payers_come_and_go(network, caller):
    counts, load = await payers_scaled(network, caller)

    assert min(counts) > 0.6 * sum(counts) / 2, counts
    assert {200} == load.statuses(), load.problems
    assert [] == broken_by(load.payments, network.rows("dfsp2"))


def test_a_rolling_update_fails_no_request(network):
    """Each service has two replicas, of which one is made anew and then the other restarted."""
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

    assert len(load.outcomes) > 14 * 40
    assert [] == broken_by(load.payments, rows)
    assert len(load.payments) == len(rows) - before


def test_a_service_without_a_twin_comes_back_at_another_address(network):
    """Its callers find it by its name, within seconds."""
    old = network.container("dfsp2-spsp-server-backend")
    with load_inside(network) as load:
        old.stop(timeout=compose.STOP_SECONDS)
        old.remove()
        network.run("up", "--detach", "--no-recreate", "--no-deps", "dfsp2-spsp-server-backend")
        network.wait_ready(network.container("dfsp2-spsp-server-backend"))
        time.sleep(1.5)
        load.wait_more(50)

    assert {200, 502, 503, 504} >= {outcome.status for outcome in load.outcomes}
    assert 200 == load.outcomes[-1].status
    assert [] == broken_by(load.payments, network.rows("dfsp2"))
