"""Each container is stopped, paused, killed and cut off under load: no quote is lost or doubled."""

import asyncio
import contextlib
import time

import docker
import pytest

from containers.conftest import both_directions
from support import compose
from support.load import broken_by

WINDOW_SECONDS = 2.0
ENTRIES = {*compose.LOAD_BALANCERS, "dfsp-api-payer", "dfsp2-dfsp-api-payer"}


@contextlib.contextmanager
def stopped(network, container):
    container.stop(timeout=compose.STOP_SECONDS)
    yield
    container.start()


@contextlib.contextmanager
def paused(network, container):
    _pause(container)
    yield
    container.unpause()


def _pause(container, attempts=10):
    """Retry: with cgroups v1 an engine cannot pause a container while a health check starts in it."""
    for attempt in range(attempts):
        try:
            return container.pause()
        except docker.errors.APIError as error:
            if "unable to freeze" not in str(error) or attempt == attempts - 1:
                raise
            time.sleep(0.3)
    return None


@contextlib.contextmanager
def killed(network, container):
    container.kill()
    yield
    container.start()


@contextlib.contextmanager
def cut_off(network, container):
    with network.cut_off(container):
        yield


FAULTS = {"stopped": stopped, "paused": paused, "killed": killed, "cut off": cut_off}


@pytest.mark.parametrize("service", [*compose.SERVICES, *compose.DATABASES])
async def test_a_fault_neither_loses_nor_doubles_a_quote(network, caller, fault_table, service):
    faults = []
    for name, fault in FAULTS.items():
        faults += [
            f"{name}: {each}" for each in await _fault(network, caller, fault_table, service, name, fault)
        ]

    assert [] == faults


async def _fault(network, caller, table, service, name, fault) -> list[str]:
    before = {dfsp: set(await asyncio.to_thread(network.rows, dfsp)) for dfsp in compose.AT}
    container = network.container(service)
    async with both_directions(network, caller) as loads:
        await asyncio.gather(*(load.more(3) for load in loads.values()))
        injected = fault(network, container)
        await asyncio.to_thread(injected.__enter__)
        await asyncio.sleep(WINDOW_SECONDS)
        await asyncio.to_thread(injected.__exit__, None, None, None)
        await asyncio.to_thread(network.wait_ready, container)
        await asyncio.gather(*(load.more(10) for load in loads.values()))
    faults, lost, doubled = [], 0, 0
    for dfsp, load in loads.items():
        rows = await asyncio.to_thread(network.rows, dfsp)
        new = {uuid: row for uuid, row in rows.items() if uuid not in before[dfsp]}
        broken = broken_by(load.payments, new)
        lost += len(broken)
        doubled += len(new) - len(load.payments)
        faults += broken + (load.undocumented if service in ENTRIES else load.problems)
    table.add(service, name, loads, lost=lost, doubled=doubled)
    if doubled:
        faults.append(f"{doubled} rows more than keys")
    return faults
