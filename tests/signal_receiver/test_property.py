"""Random events in random order: no balance goes below zero, and no event is executed twice.

The state machine sends events to a receiver over HTTP, several at once and earlier ones again, and checks the
invariants in the database.
"""

import asyncio
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from support.postgres import create_database, drop_database, with_database
from support.receiver import Sender, number, own_schema, receiver, settings_of, signal

TOKENS = st.sampled_from(["sample", "poor-token"])
TICKERS = st.sampled_from(["XAUUSD", "EURUSD", "BTCUSD"])
QUANTITIES = st.sampled_from(
    ["0.01", "0.5", "1", "10", "99.99", "100", "1000", "1000.01", "0.001", "0", "-1", "1e400"]
)
PRICES = st.sampled_from(["0.01", "0.5", "1.10", "1999.99", "2000", "2500.123", "999999999999"])


@st.composite
def events(draw):
    """Account token, webhook-id or None, and body."""
    event = signal(
        draw(st.sampled_from(["OPEN", "CLOSE", "REOPEN"])),
        strategy=draw(st.sampled_from(["one", "two", "three"])),
        ticker=draw(TICKERS),
        direction=draw(st.sampled_from(["BUY", "SELL"])),
        position=f"p{draw(st.integers(0, 3))}",
    )
    webhook_id = draw(st.none() | st.integers(0, 10**9).map(str))
    return draw(TOKENS), webhook_id, number(event, draw(QUANTITIES))


class World:
    """A receiver, its database and an event loop for them: the state machine is not a coroutine."""

    def __init__(self, postgres_url: str, users_file: Path) -> None:
        self.runner = asyncio.Runner()
        self.postgres_url = postgres_url
        self.users_file = users_file

    def __enter__(self):
        self.runner.__enter__()
        self.folder = TemporaryDirectory()
        self.do(self._open())
        return self

    def __exit__(self, *error):
        self.do(self._close())
        self.folder.cleanup()
        self.runner.__exit__(*error)

    def do(self, work):
        return self.runner.run(work)

    async def _open(self):
        self.database = await create_database(self.postgres_url)
        url = with_database(self.postgres_url, self.database)
        self.client = aiohttp.ClientSession()
        made = settings_of(url, self.users_file, Path(self.folder.name))
        self.serving = receiver(made, self.client)
        self.sender: Sender = await self.serving.__aenter__()
        self.sql = await own_schema(url)

    async def _close(self):
        await self.sql.close()
        await self.serving.__aexit__(None, None, None)
        await self.client.close()
        await drop_database(self.postgres_url, self.database)

    async def reset(self):
        await self.sql.execute(
            "TRUNCATE position, trade, inbox; UPDATE account SET held = 0, funds = CASE id WHEN 'poor' THEN 1 ELSE 10000 END"
        )
        for ticker, price in (("XAUUSD", "2000"), ("EURUSD", "1.10")):
            await self.sender.price(price, ticker)


class Trading(RuleBasedStateMachine):
    """Sends random events, sends them again, and changes prices."""

    world: World
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.world.do(self.world.reset())

    async def _send(self, batch):
        return await asyncio.gather(
            *(self.world.sender.deliver(body, id_, token=token) for token, id_, body in batch)
        )

    @rule(target=sent, batch=st.lists(events(), min_size=1, max_size=6))
    def new_events(self, batch):
        answers = self.world.do(self._send(batch))

        assert {answer.status for answer in answers} <= {200, 404, 409, 422}
        return batch

    @rule(batch=sent)
    def the_same_events_again(self, batch):
        """Each twice, so that copies are executed in one batch and in several."""
        before = self.world.do(self.world.sql.fetchval("SELECT count(*) FROM trade"))
        self.world.do(self._send([*batch, *batch]))

        assert before == self.world.do(self.world.sql.fetchval("SELECT count(*) FROM trade"))

    @rule(ticker=st.sampled_from(["XAUUSD", "EURUSD"]), price=PRICES)
    def a_price(self, ticker, price):
        self.world.do(self.world.sender.price(price, ticker))

    @invariant()
    def no_balance_is_below_zero_and_all_sums_match(self):
        accounts = self.world.do(
            self.world.sql.fetch(
                """SELECT a.id, a.funds, a.held,
                    coalesce((SELECT sum(margin) FROM position WHERE account_id = a.id), 0) AS margins,
                    coalesce((SELECT sum(profit) FROM trade WHERE account_id = a.id), 0) AS profits,
                    (SELECT count(*) FROM position WHERE account_id = a.id) AS positions,
                    (SELECT count(*) FILTER (WHERE action = 'OPEN') - count(*) FILTER (WHERE action = 'CLOSE')
                        FROM trade WHERE account_id = a.id) AS still_open
                FROM account AS a"""
            )
        )
        for account in accounts:
            first = Decimal(1) if account["id"] == "poor" else Decimal(10_000)

            assert account["funds"] >= 0
            assert account["held"] == account["margins"]
            assert account["funds"] == first + account["profits"]
            assert account["positions"] == account["still_open"]


@pytest.fixture
def world(postgres_url, users_file):
    with World(postgres_url, users_file) as made:
        yield made


def test_random_events_never_break_the_invariants(world):
    Trading.world = world
    run_state_machine_as_test(
        Trading,
        settings=settings(
            max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
