"""SQL statements for accounts, prices and retention. event_repository has those that execute events."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import asyncpg

from chassis.database import Connection, Database
from chassis.errors import NotFoundError
from chassis.users import key_of
from signal_receiver.accounts_file import AccountEntry
from signal_receiver.digests import digest
from signal_receiver.instruments import Catalogue

EXPIRED_ROWS: Final = 500
MAX_POSITIONS: Final = 1_000

ACCOUNT: Final = "SELECT funds, held FROM account WHERE id = $1 AND owner = $2"

# one statement, so that funds and positions are of the same moment
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
"""  # noqa: S105 - SQL

SET_PRICE: Final = """
INSERT INTO price (ticker, price, at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (ticker) DO UPDATE SET price = excluded.price, at = excluded.at
RETURNING price, at
"""

# Each token in the file belongs to one account. If another account had it before, that account gets a digest that no
# token has.
FREE_TOKENS: Final = """
UPDATE account SET token_digest = sha256(gen_random_uuid()::text::bytea)
FROM unnest($1::text[], $2::bytea[]) AS w (id, token_digest)
WHERE account.token_digest = w.token_digest AND account.id <> w.id
"""

# the database decides about funds and the webhook secret once the account exists
UPSERT_ACCOUNT: Final = """
INSERT INTO account (id, token_digest, owner, header_name, header_digest, funds)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET token_digest = excluded.token_digest, owner = excluded.owner,
    header_name = excluded.header_name, header_digest = excluded.header_digest
"""

FIRST_PRICE: Final = """
INSERT INTO price (ticker, price, at) VALUES ($1, $2, clock_timestamp()) ON CONFLICT DO NOTHING
"""

# an entry may have been renewed since it was found: the DELETE checks it again under its row lock
DELETE_EXPIRED: Final = """
WITH due AS MATERIALIZED (
    SELECT account_id, key FROM inbox WHERE until < now() ORDER BY until LIMIT $1
), deleted AS (
    DELETE FROM inbox USING due
    WHERE inbox.account_id = due.account_id AND inbox.key = due.key AND inbox.until < now()
)
SELECT count(*) AS count FROM due
"""


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account's funds and open positions."""

    funds: Decimal
    held: Decimal
    positions: Sequence[asyncpg.Record]


class AccountRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def positions(self, account: str, owner: str) -> AccountState:
        """Return an account's funds and open positions. Raises NotFoundError if the owner has no such account."""
        rows = await self._database.fetch(POSITIONS, account, key_of(owner), MAX_POSITIONS)
        if not rows:
            raise account_not_found()
        held = [row for row in rows if row["strategy_id"] is not None]
        return AccountState(rows[0]["funds"], rows[0]["held"], held)

    async def trades(self, account: str, owner: str, before: int, limit: int) -> Sequence[asyncpg.Record]:
        """Return an account's trades with an id below ``before``, the newest first. Raises NotFoundError."""
        if not await self._database.fetch(ACCOUNT, account, key_of(owner)):
            raise account_not_found()
        return await self._database.fetch(TRADES, account, before, limit)

    async def set_webhook_secret(self, account: str, owner: str, secret: str | None) -> None:
        """Raises NotFoundError."""
        if not await self._database.fetch(SET_SECRET, account, key_of(owner), secret):
            raise account_not_found()

    async def set_price(self, ticker: str, price: Decimal) -> asyncpg.Record:
        rows = await self._database.fetch(SET_PRICE, ticker, price)
        return rows[0]

    async def store_accounts(self, connection: Connection, accounts: Sequence[AccountEntry]) -> None:
        """Create the accounts that are new.

        For existing accounts, change token, owner and header to those of the file.
        """
        accounts = sorted(accounts, key=lambda account: account.id)  # the order in which events lock them
        digests = [digest(account.token) for account in accounts]
        await connection.execute(FREE_TOKENS, [account.id for account in accounts], digests)
        await connection.executemany(
            UPSERT_ACCOUNT,
            [
                (
                    account.id,
                    token_digest,
                    key_of(account.owner),
                    account.header.name if account.header else None,
                    digest(account.header.value) if account.header else None,
                    account.funds,
                )
                for account, token_digest in zip(accounts, digests, strict=True)
            ],
        )

    async def store_first_prices(self, connection: Connection, catalogue: Catalogue) -> None:
        """Store the catalogue's first price of each instrument that has no price yet."""
        first = [
            (each.ticker, each.first_price) for each in catalogue.values() if each.first_price is not None
        ]
        await connection.executemany(FIRST_PRICE, first)

    async def delete_expired(self) -> bool:
        """Delete a limited number of expired inbox entries. Return whether there may be more."""
        rows = await self._database.fetch(DELETE_EXPIRED, EXPIRED_ROWS)
        return bool(rows[0]["count"] == EXPIRED_ROWS)


def account_not_found() -> NotFoundError:
    return NotFoundError("You have no account with this id.")
