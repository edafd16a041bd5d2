"""The tables of accounts, positions, trades, prices and answers.

All that belongs to an account is read and written by who has locked its row: in one transaction :func:`lock`
comes first, so that what :func:`read` sees after it is what the last who held the lock has left.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Final

import asyncpg

from chassis.database import Connection
from signal_receiver.events import Direction, Signal
from signal_receiver.refusals import OF_TYPE
from signal_receiver.trading import Book, Outcome, Position, Price, Trade

MIGRATIONS: Final = files("signal_receiver") / "migrations"
SCHEMA: Final = "signal_receiver"

# Sorted: two batches with the same accounts wait for each other instead of deadlocking.
LOCK: Final = """
SELECT id, token_digest, header_name, header_digest, webhook_secret, funds, held
FROM account WHERE token_digest = ANY($1::bytea[]) ORDER BY id FOR NO KEY UPDATE
"""

# LIMIT holds the planner to the indexes, however little it knows of the tables.
READ: Final = """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at)
SELECT clock.at, i.is_found, i.type, i.until,
    p.position_id, p.ticker, p.direction, p.quantity, p.price, p.margin, p.opened,
    pp.price AS position_price, pp.at AS position_price_at, op.price AS order_price, op.at AS order_price_at
FROM clock, unnest($1::text[], $2::bytea[], $3::text[], $4::text[])
    WITH ORDINALITY AS e (account_id, key, strategy_id, ticker, place)
LEFT JOIN LATERAL (
    SELECT true AS is_found, type, until FROM inbox WHERE account_id = e.account_id AND key = e.key LIMIT 1
) AS i ON true
LEFT JOIN LATERAL (
    SELECT * FROM position WHERE account_id = e.account_id AND strategy_id = e.strategy_id LIMIT 1
) AS p ON true
LEFT JOIN LATERAL (SELECT * FROM price WHERE ticker = p.ticker LIMIT 1) AS pp ON true
LEFT JOIN LATERAL (SELECT * FROM price WHERE ticker = e.ticker LIMIT 1) AS op ON true
ORDER BY e.place
"""

WRITE: Final = """
WITH booked AS (
    UPDATE account SET funds = w.funds, held = w.held
    FROM unnest($1::text[], $2::numeric[], $3::numeric[]) AS w (id, funds, held) WHERE account.id = w.id
), closed AS (
    DELETE FROM position USING unnest($4::text[], $5::text[]) AS w (account_id, strategy_id)
    WHERE position.account_id = w.account_id AND position.strategy_id = w.strategy_id
), opened AS (
    INSERT INTO position
        (account_id, strategy_id, position_id, ticker, direction, quantity, price, margin, opened)
    SELECT * FROM unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::numeric[],
        $12::numeric[], $13::numeric[], $14::timestamptz[])
    ON CONFLICT (account_id, strategy_id) DO UPDATE SET position_id = excluded.position_id,
        ticker = excluded.ticker, direction = excluded.direction, quantity = excluded.quantity,
        price = excluded.price, margin = excluded.margin, opened = excluded.opened
), traded AS (
    INSERT INTO trade
        (account_id, strategy_id, position_id, action, ticker, direction, quantity, price, profit, at)
    SELECT t.account_id, t.strategy_id, t.position_id, t.action, t.ticker, t.direction, t.quantity, t.price,
        t.profit, $24
    FROM unnest($15::text[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[],
            $21::numeric[], $22::numeric[], $23::numeric[]) WITH ORDINALITY
        AS t (account_id, strategy_id, position_id, action, ticker, direction, quantity, price, profit, place)
    ORDER BY t.place
)
INSERT INTO inbox (account_id, key, type, until)
SELECT * FROM unnest($25::text[], $26::bytea[], $27::text[], $28::timestamptz[])
ON CONFLICT (account_id, key) DO UPDATE SET type = excluded.type, until = excluded.until
"""


@dataclass(frozen=True, slots=True)
class Account:
    """What an account demands of a webhook, and its book."""

    id: str
    header_name: str | None
    header_digest: bytes | None
    webhook_secret: str | None
    book: Book


@dataclass(frozen=True, slots=True)
class Item:
    """A signal for an account that it was let in for."""

    account: Account
    key: bytes
    signal: Signal


@dataclass(frozen=True, slots=True)
class Known:
    """What was there when a batch's accounts were locked."""

    at: datetime
    answers: dict[tuple[str, bytes], Outcome]
    prices: Mapping[str, Price]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to be kept."""

    account: str
    key: bytes
    outcome: Outcome


async def lock(connection: Connection, token_digests: Iterable[bytes]) -> dict[bytes, Account]:
    """The accounts with these tokens, locked to the end of the transaction."""
    rows = await connection.fetch(LOCK, list(set(token_digests)))
    return {
        row["token_digest"]: Account(
            row["id"],
            row["header_name"],
            row["header_digest"],
            row["webhook_secret"],
            Book(row["funds"], row["held"]),
        )
        for row in rows
    }


async def read(connection: Connection, items: Sequence[Item]) -> Known:
    """Reads the open positions of the signals' strategies into the accounts' books; the rest is the result."""
    rows = await connection.fetch(
        READ,
        [item.account.id for item in items],
        [item.key for item in items],
        [item.signal.strategy for item in items],
        [item.signal.order.ticker if item.signal.order else None for item in items],
    )
    at: datetime = rows[0]["at"]
    answers: dict[tuple[str, bytes], Outcome] = {}
    prices: dict[str, Price] = {}
    for item, row in zip(items, rows, strict=True):
        if row["is_found"] and (row["until"] is None or row["until"] > at):
            refusal = OF_TYPE[row["type"]] if row["type"] is not None else None
            answers[item.account.id, item.key] = Outcome(refusal, is_final=row["until"] is None)
        item.account.book.positions[item.signal.strategy] = _position(row)
        if row["position_price"] is not None:
            prices[row["ticker"]] = Price(row["position_price"], row["position_price_at"])
        if row["order_price"] is not None and item.signal.order is not None:
            prices[item.signal.order.ticker] = Price(row["order_price"], row["order_price_at"])
    return Known(at, answers, prices)


def _position(row: asyncpg.Record) -> Position | None:
    if row["ticker"] is None:
        return None
    return Position(
        Direction(row["direction"]),
        row["ticker"],
        row["quantity"],
        row["price"],
        row["margin"],
        row["position_id"],
        row["opened"],
    )


async def write(
    connection: Connection,
    accounts: Iterable[Account],
    answers: Sequence[Answered],
    at: datetime,
    memory: timedelta,
) -> None:
    """Books what the accounts' signals have done, and keeps the answers: not final ones for ``memory``."""
    traded = [account for account in accounts if account.book.trades]
    trades = [(account.id, trade) for account in traded for trade in account.book.trades]
    after = {
        (account.id, trade.strategy): account.book.positions[trade.strategy]
        for account in traded
        for trade in account.book.trades
    }
    await connection.execute(
        WRITE,
        *_columns(3, ((account.id, account.book.funds, account.book.held) for account in traded)),
        *_columns(2, (key for key, position in after.items() if position is None)),
        *_columns(9, ((*key, *_opened(position)) for key, position in after.items() if position is not None)),
        *_columns(9, (_traded(account_id, trade) for account_id, trade in trades)),
        at,
        *_columns(4, (_answered(answer, at + memory) for answer in answers)),
    )


def _opened(position: Position) -> tuple[object, ...]:
    return (
        position.id,
        position.ticker,
        position.direction.value,
        position.quantity,
        position.price,
        position.margin,
        position.opened,
    )


def _traded(account_id: str, trade: Trade) -> tuple[object, ...]:
    position = trade.position
    return (
        account_id,
        trade.strategy,
        position.id,
        trade.action,
        position.ticker,
        position.direction.value,
        position.quantity,
        trade.price,
        trade.profit,
    )


def _answered(answer: Answered, until: datetime) -> tuple[object, ...]:
    outcome = answer.outcome
    type_ = outcome.refusal.type if outcome.refusal is not None else None
    return answer.account, answer.key, type_, None if outcome.is_final else until


def _columns(count: int, rows: Iterable[tuple[object, ...]]) -> Sequence[Sequence[object]]:
    """As ``unnest`` takes them."""
    return list(zip(*rows, strict=True)) or [()] * count
