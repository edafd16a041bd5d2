"""Run `integrations` and `signal-receiver` with a thousand lanes, and check the delivery of each event."""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.chains import Machine
from benchmarks.errors import BenchmarkError
from benchmarks.strategy_engine import SentSignals, StrategyEngine
from network import ports, samples, topology
from network.polling import PollTimer
from network.processes import Network
from network.topology import INTEGRATIONS, SIGNAL_RECEIVER

LANES: Final = 1_000
DEAD: Final = "dead"
DRAIN_SECONDS: Final = 240
CREATED: Final = 201
# all lanes request their integrations from one address
SETTINGS: Final = {"QUOTES_REQUESTS_PER_ADDRESS": "1000000"}

APPROVE: Final = "UPDATE integration SET state = 'APPROVED'"
STRATEGIES: Final = """
INSERT INTO strategy (id, name, user_email) SELECT description, description, user_email FROM integration
"""
ENABLE: Final = """
INSERT INTO lane (integration_id, strategy_id, is_enabled) SELECT id, description, true FROM integration
"""

# like the statements of integrations' outbox, but one statement for all events; the lifetime is long enough for all
QUEUE: Final = """
WITH l AS (
    UPDATE lane SET last_seq = last_seq + $2 WHERE strategy_id = ANY($1::text[])
    RETURNING id, integration_id, strategy_id, last_seq - $2 AS before
)
INSERT INTO event (lane_id, seq, integration_id, type, timestamp_ms, data, expires)
SELECT l.id, l.before + n, l.integration_id, 'SIGNAL_REOPEN',
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    format('{"direction":"BUY","ticker":"XAUUSD","quantity":0.01,"strategy":{"id":"%1$s","name":"%1$s"},'
        '"proquantPositionId":"%2$s-%1$s-%3$s"}', l.strategy_id, $3::text, n),
    clock_timestamp() + interval '1 hour'
FROM l CROSS JOIN generate_series(1, $2::integer) AS n
"""
WAITING: Final = "SELECT count(*) FROM event WHERE state = 'WAITING'"
EVENTS: Final = """
SELECT e.data::json ->> 'proquantPositionId' AS position, e.state, e.log FROM event e
JOIN lane l ON l.id = e.lane_id
WHERE l.strategy_id <> 'dead' AND e.data::json ->> 'proquantPositionId' LIKE $1 || '-%'
"""
# each event opens its own position, so an event that was executed twice is counted twice here
OPENINGS: Final = "SELECT count(*) FROM signal_receiver.trade WHERE profit IS NULL"
POSITIONS: Final = (
    "SELECT count(DISTINCT (account_id, position_id)) FROM signal_receiver.trade WHERE profit IS NULL"
)
INBOX: Final = "SELECT count(*) FROM signal_receiver.inbox WHERE type IS NULL"


@dataclass(frozen=True)
class Attempt:
    """One delivery: the wall-clock times, in seconds, at which its request began and its 200 response was complete."""

    position: str
    began: float
    ended: float


class DeliveryServices:
    """Both services and their lanes. `sent` is the number of events that the receiver must execute exactly once."""

    def __init__(self, machine: Machine, network: Network, engine: StrategyEngine) -> None:
        self._machine = machine
        self._engine = engine
        self.origin = network.origin(INTEGRATIONS)
        self._receiver = network.origin(SIGNAL_RECEIVER)
        self.pids = {name: child.pid for name, child in network.children.items() if child.pid is not None}
        self.sent = 0

    def webhook(self, lane: int) -> str:
        return f"{self._receiver}/webhook/{token(lane)}"

    def set_up(self) -> None:
        """Request an integration for each lane through the API. Approve and enable all of them with SQL."""
        urls = {strategy(lane): self.webhook(lane) for lane in range(LANES)} | {DEAD: self._engine.dead_url}
        self._engine.run(self._request(urls))
        for statement in (APPROVE, STRATEGIES, ENABLE):
            self._machine.database.execute(statement)

    async def _request(self, urls: dict[str, str]) -> None:
        slots = asyncio.Semaphore(16)

        async def request(name: str, url: str) -> None:
            body = {
                "name": "Benchmark",
                "description": name,
                "imageUrl": "https://foo.bar/logo.png",
                "userEmail": f"{name}@example.com",
                "webhook": {"url": url, "headers": {}},
            }
            async with slots:
                path = "/api/integrations/v1/integrations"
                await self._engine.call("POST", self.origin + path, body, expected=CREATED)

        async with asyncio.TaskGroup() as group:
            for name, url in urls.items():
                group.create_task(request(name, url))

    def drain(self, run: str, lanes: int, each: int) -> list[Attempt]:
        """Queue `each` events at once in each of `lanes` lanes. Return the deliveries when all are complete."""
        self._machine.database.execute(QUEUE, [strategy(lane) for lane in range(lanes)], each, run)
        return self._delivered(run, lanes * each)

    def attempts(self, run: str, signals: SentSignals, to_dead: int) -> list[Attempt]:
        """Wait until the engine's signals are delivered, and return the deliveries.

        `to_dead` of the signals went to the lane of the endpoint that does not answer; they are not in the result.
        """
        return self._delivered(run, len(signals.due) - to_dead)

    def _delivered(self, run: str, expected: int) -> list[Attempt]:
        self.sent += expected
        timer = PollTimer(DRAIN_SECONDS, 0)
        while self._machine.database.value(WAITING):
            if not timer.wait():
                raise BenchmarkError(f"{run}: not all events are delivered after {DRAIN_SECONDS} s")
            self._engine.wait(0.25)
        found = [delivered(row) for row in self._machine.database.rows(EVENTS, run)]
        if len(found) != expected:
            raise BenchmarkError(f"{run}: {len(found)} events for {expected} signals")
        return found

    def check_inbox(self) -> dict[str, int]:
        """Return the counts of both services.

        Raises BenchmarkError unless the receiver executed each event exactly once.
        """
        database = self._machine.database
        found = {
            "sent": self.sent,
            "inbox": int(database.value(INBOX)),
            "positions": int(database.value(POSITIONS)),
            "openings": int(database.value(OPENINGS)),
        }
        if len(set(found.values())) > 1:
            raise BenchmarkError(f"the receiver has not carried out each event exactly once: {found}")
        return found


def delivered(row: Any) -> Attempt:  # noqa: ANN401 - a record, or what a test makes of one
    """Return the attempt that delivered an event. Raises BenchmarkError if its first attempt failed."""
    log = json.loads(row["log"])
    if row["state"] != "DELIVERED" or [each["status"] for each in log] != [200]:
        raise BenchmarkError(f"{row['position']} is {row['state']} after {log}")
    began = datetime.fromisoformat(log[0]["at"]).timestamp()
    return Attempt(row["position"], began, began + log[0]["durationMs"] / 1e3)


def strategy(lane: int) -> str:
    return f"lane-{lane}"


def token(lane: int) -> str:
    return f"token-of-{lane}"


def write_accounts(file: Path) -> None:
    """Write an accounts file with one account for each lane. With a shared account, lanes would wait for each other."""
    lines = (
        f'[[account]]\nid = "{strategy(lane)}"\ntoken = "{token(lane)}"\nowner = "receiver"\nfunds = "10000.00"\n'
        for lane in range(LANES)
    )
    file.write_text("\n".join(lines))


@contextmanager
def running(machine: Machine, data: Path, engine: StrategyEngine) -> Iterator[DeliveryServices]:
    """Start both services with the defaults of `make run`, wait until they are ready, and create the lanes."""
    samples.ensure_users(data / "integrations-users", samples.INTEGRATION_CALLERS)
    samples.ensure_users(data / "receiver-users", samples.RECEIVER_CALLERS)
    samples.ensure_secret(data / "encryption-keys", samples.encryption_key())
    write_accounts(data / "accounts.toml")
    with Network(_specs(machine, data), logs=data / "logs") as network:
        network.wait_ready()
        services = DeliveryServices(machine, network, engine)
        services.set_up()
        yield services


def _specs(machine: Machine, data: Path) -> Sequence[topology.ServiceSpec]:
    every = topology.services(
        ports.find_first_port(),
        data=data,
        database_url=machine.postgres.dsn,
        environment={**SETTINGS, **os.environ},
    )
    return [spec for spec in every if spec.name in {INTEGRATIONS, SIGNAL_RECEIVER}]
