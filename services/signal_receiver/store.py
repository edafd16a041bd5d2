"""What the receiver's users ask for and change, and what nobody needs any more."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import asyncpg

from chassis.database import Connection, Database
from chassis.errors import NotFoundError
from signal_receiver.instruments import Catalogue

SWEEP_ROWS: Final = 500
MAX_POSITIONS: Final = 1_000

ACCOUNT: Final = "SELECT funds, held FROM account WHERE id = $1 AND owner = $2"

# One statement, so that funds and positions are of the same moment.
POSITIONS: Final = """
SELECT a.funds, a.held, p.strategy_id, p.position_id, p.ticker, p.direction, p.quantity, p.price, p.margin,
    p.opened
FROM account AS a LEFT JOIN position AS p ON p.account_id = a.id
WHERE a.id = $1 AND a.owner = $2 ORDER BY p.opened, p.strategy_id LIMIT $3
"""

TRADES: Final = """
SELECT id, action, strategy_id, position_id, ticker, direction, quantity, price, profit, at
FROM trade WHERE account_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3
"""

SET_SECRET: Final = """
UPDATE account SET webhook_secret = $3 WHERE id = $1 AND owner = $2 RETURNING id
"""  # noqa: S105 - a statement

SET_PRICE: Final = """
INSERT INTO price (ticker, price, at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (ticker) DO UPDATE SET price = excluded.price, at = excluded.at
RETURNING price, at
"""

FIRST_PRICE: Final = """
INSERT INTO price (ticker, price, at) VALUES ($1, $2, clock_timestamp()) ON CONFLICT DO NOTHING
"""

# What is due may have been answered anew meanwhile: it is looked at again once its row is locked.
SWEEP: Final = """
WITH due AS MATERIALIZED (
    SELECT account_id, key FROM inbox WHERE until < now() ORDER BY until LIMIT $1
), gone AS (
    DELETE FROM inbox USING due
    WHERE inbox.account_id = due.account_id AND inbox.key = due.key AND inbox.until < now()
)
SELECT count(*) AS count FROM due
"""


@dataclass(frozen=True, slots=True)
class Funds:
    """An account's money, and its open positions where they were asked for."""

    funds: Decimal
    held: Decimal
    positions: Sequence[asyncpg.Record]


class Store:
    """The tables, as the API for users sees them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def positions(self, account: str, owner: str) -> Funds:
        """Raises NotFoundError where the account is not the owner's."""
        rows = await self._database.fetch(POSITIONS, account, owner, MAX_POSITIONS)
        if not rows:
            raise no_account()
        held = [row for row in rows if row["strategy_id"] is not None]
        return Funds(rows[0]["funds"], rows[0]["held"], held)

    async def trades(self, account: str, owner: str, before: int, most: int) -> Sequence[asyncpg.Record]:
        """The newest first, of those with an id below ``before``. Raises NotFoundError."""
        if not await self._database.fetch(ACCOUNT, account, owner):
            raise no_account()
        return await self._database.fetch(TRADES, account, before, most)

    async def set_webhook_secret(self, account: str, owner: str, secret: str | None) -> None:
        """Raises NotFoundError."""
        if not await self._database.fetch(SET_SECRET, account, owner, secret):
            raise no_account()

    async def set_price(self, ticker: str, price: Decimal) -> asyncpg.Record:
        rows = await self._database.fetch(SET_PRICE, ticker, price)
        return rows[0]

    async def seed_prices(self, connection: Connection, catalogue: Catalogue) -> None:
        """The catalogue's first prices, where there is none yet."""
        first = [
            (each.ticker, each.first_price) for each in catalogue.values() if each.first_price is not None
        ]
        await connection.executemany(FIRST_PRICE, first)

    async def sweep(self) -> bool:
        """Clears away answers that are not kept any longer; whether there may be more."""
        rows = await self._database.fetch(SWEEP, SWEEP_ROWS)
        return bool(rows[0]["count"] == SWEEP_ROWS)


def no_account() -> NotFoundError:
    return NotFoundError("You have no account with this id.")
