"""SIGHUP reads the fee schedule again. It takes effect as a whole or not at all."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from network.processes import Network
from network.topology import ServiceSpec
from support.chain import free_ports
from support.payee import FIVE_PER_CENT, Caller, until
from support.settings import DEFAULTS

TEN_PER_CENT = FIVE_PER_CENT.replace('percent = "5"', 'percent = "10"')
TWO_CURRENCIES = FIVE_PER_CENT.replace('"USD"', '["USD", "EUR"]')


@dataclass
class Payee:
    """A payee as a process, and its fees file."""

    caller: Caller
    network: Network
    log: Path
    fees: Path

    async def hang_up(self) -> None:
        """Send SIGHUP, and wait until its outcome is logged."""
        before = len(self.outcomes)
        pid = self.network.children["payee"].pid
        assert pid is not None
        os.kill(pid, signal.SIGHUP)

        async def is_logged() -> bool:
            return len(self.outcomes) > before

        await until(is_logged)

    @property
    def outcomes(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if "fee schedule" in line]

    async def warnings(self) -> list[str]:
        """Return the warnings of readiness."""
        reply = await self.caller.readiness()
        assert 200 == reply.status, reply.body
        found: list[str] = reply.json.get("warnings", [])
        return found

    async def price(self, **more: str) -> str:
        reply = await self.caller.reserve(**more)
        assert 200 == reply.status, reply.body
        amount: str = reply.json["amount"]
        return amount


@pytest.fixture
async def payee(database_url, users_file, client, tmp_path) -> AsyncIterator[Payee]:
    fees = tmp_path / "fees.toml"
    fees.write_text(TEN_PER_CENT)
    port = free_ports()
    environment = {
        **DEFAULTS,
        "QUOTES_ROLE": "payee",
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DATABASE_URL": database_url,
        "QUOTES_FEE_SCHEDULE": str(fees),
        "QUOTES_STOP_GRACE_SECONDS": "0",
        "QUOTES_PORT": str(port),
    }
    spec = ServiceSpec("payee", "dfsp_api", port, environment)
    network = Network([spec], logs=tmp_path / "logs")
    try:
        await asyncio.to_thread(network.start)
        await asyncio.to_thread(network.wait_ready)
        yield Payee(Caller(client, spec.origin), network, tmp_path / "logs" / "payee.log", fees)
    finally:
        await asyncio.to_thread(network.stop)


async def test_a_changed_schedule_takes_effect_at_sighup_and_the_log_says_what_changed(payee):
    first = await payee.caller.reserve(key="before")
    payee.fees.write_text(TWO_CURRENCIES)
    unchanged = await payee.price()
    await payee.hang_up()

    assert ("13.75", "13.75", "13.13") == (first.json["amount"], unchanged, await payee.price())
    assert first.body == (await payee.caller.reserve(key="before")).body
    (line,) = payee.outcomes
    assert '"event":"the fee schedule was reloaded"' in line
    assert '"rules":2,"new":1,"changed":1,"gone":0' in line


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (TWO_CURRENCIES + FIVE_PER_CENT.replace("p2p", "p2p "), "each rule: transferType 'p2p ' must be"),
        (TWO_CURRENCIES[:-20], "is not TOML"),
        ("", "must hold [[rule]] tables"),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["a rule at fault", "half written", "empty", "no file"],
)
async def test_a_refused_schedule_changes_nothing_and_the_log_says_why(payee, content, cause):
    payee.fees.unlink()
    if content is not None:
        payee.fees.write_text(content)
    await payee.hang_up()

    assert "13.75" == await payee.price()
    assert ["the fee schedule is refused; the previous one stays in force"] == await payee.warnings()
    (line,) = payee.outcomes
    assert '"level":"error"' in line
    assert '"event":"the fee schedule is refused; the previous one stays in force"' in line
    assert cause in line
    assert str(payee.fees) in line

    payee.fees.write_text(FIVE_PER_CENT)
    await payee.hang_up()
    assert "13.13" == await payee.price()
    assert [] == await payee.warnings()
