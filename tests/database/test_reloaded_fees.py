"""A changed fee schedule takes effect without a restart and without a signal, as a whole or not at all."""

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

    async def write(self, content: str | None) -> str:
        """Replace the file, or remove it, and return the log line of the outcome."""
        before = len(self.outcomes)
        if content is None:
            self.fees.unlink()
        else:
            beside = self.fees.with_suffix(".new")
            beside.write_text(content)
            beside.rename(self.fees)
        return await self._outcome(before)

    async def hang_up(self) -> str:
        """Send SIGHUP, and return the log line of the outcome."""
        before = len(self.outcomes)
        pid = self.network.children["payee"].pid
        assert pid is not None
        os.kill(pid, signal.SIGHUP)
        return await self._outcome(before)

    async def _outcome(self, number: int) -> str:
        async def is_logged() -> bool:
            return len(self.outcomes) > number

        await until(is_logged)
        return self.outcomes[number]

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


async def test_a_changed_schedule_prices_new_quotes_and_old_ones_keep_their_terms_and_explanation(payee):
    caller = payee.caller
    first = await caller.reserve(key="before")
    before = (await caller.look_up(first.json["uuid"])).json
    line = await payee.write(TWO_CURRENCIES)
    second = await caller.reserve()
    after = (await caller.look_up(first.json["uuid"])).json
    explained = (await caller.look_up(second.json["uuid"])).json["explanation"]

    assert ("13.75", "13.13") == (first.json["amount"], second.json["amount"])
    assert first.body == (await caller.reserve(key="before")).body
    assert before == after
    assert ("10", "5") == (after["explanation"]["step"]["percent"], explained["step"]["percent"])
    for explanation in (after["explanation"], explained):
        schedule = (await caller.send("GET", f"/v1/feeSchedules/{explanation['schedule']}")).json
        (rule,) = [each for each in schedule["rules"] if {**each, **explanation["rule"]} == each]
        assert explanation["step"] in rule["step"]
    assert '"event":"the fee schedule was reloaded"' in line
    assert '"rules":2,"new":1,"changed":1,"gone":0' in line


async def test_sighup_reads_the_schedule_at_once(payee):
    line = await payee.hang_up()

    assert '"event":"the fee schedule was reloaded"' in line
    assert '"rules":1,"new":0,"changed":0,"gone":0' in line


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
    line = await payee.write(content)
    (warning,) = await payee.warnings()

    assert "13.75" == await payee.price()
    assert warning.startswith("the fee schedule is refused; the previous content stays in force: ")
    assert cause in warning
    assert str(payee.fees.parent) not in warning
    assert '"level":"error"' in line
    assert '"event":"the fee schedule is refused; the previous content stays in force"' in line
    assert cause in line
    assert str(payee.fees) in line

    await payee.write(FIVE_PER_CENT)
    assert "13.13" == await payee.price()
    assert [] == await payee.warnings()
