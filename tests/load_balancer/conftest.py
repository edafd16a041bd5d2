"""Runs each test on both event loops: they differ in when reading starts and in the use of closed transports."""

import asyncio

import pytest
import uvloop

from load_balancer import connections, health_check


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _patient(monkeypatch) -> None:
    """A busy machine must not look like a replica that cannot be reached."""
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 60)
    monkeypatch.setattr(health_check, "CHECK_TIMEOUT_SECONDS", 60)
