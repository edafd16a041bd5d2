"""SQL statements that execute events: one reads the accounts of a batch, another one writes the result.

Each change increments an account's version. The result is written only if the account still has the version that was
read; otherwise nothing is written for that account. After :func:`lock` no other process can change it.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Final

import asyncpg

from chassis.database import Connection
from chassis.migrations import Migrations
from signal_receiver.event_errors import BY_TYPE
from signal_receiver.events import Direction, TradeSignal
from signal_receiver.trading import Book, Outcome, Position, Price, Trade

MIGRATIONS: Final = Migrations(
    "signal-receiver", files("signal_receiver") / "migrations", schema="signal_receiver"
)

Fetch = Callable[..., Awaitable[Sequence[asyncpg.Record]]]
"""Function that executes one statement and returns its rows, in a transaction or autocommitted."""

# sorted, so that two batches with the same accounts wait for each other instead of deadlocking
LOCK: Final = """
SELECT FROM account WHERE token_digest = ANY($1::bytea[]) ORDER BY id FOR NO KEY UPDATE
"""

# LIMIT makes the planner use the indexes even when it has no statistics of the tables
READ: Final = """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at)
SELECT clock.at, a.id AS account_id, a.version, a.header_name, a.header_digest, a.webhook_secret, a.funds, a.held,
    i.is_found, i.type, i.until,
    p.position_id, p.ticker, p.direction, p.quantity, p.price, p.margin, p.opened, p.signalled_ms,
    CASE WHEN e.closes <> coalesce(p.position_id, '') THEN EXISTS (
        SELECT FROM trade AS t WHERE t.account_id = a.id AND t.strategy_id = e.strategy_id
            AND t.position_id = e.closes AND t.action = 'CLOSE'
    ) ELSE false END AS is_closed,
    pp.price AS position_price, pp.at AS position_price_at, op.price AS order_price, op.at AS order_price_at
FROM clock, unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::text[])
    WITH ORDINALITY AS e (token_digest, key, strategy_id, ticker, closes, place)
LEFT JOIN LATERAL (SELECT * FROM account WHERE token_digest = e.token_digest LIMIT 1) AS a ON true
LEFT JOIN LATERAL (
    SELECT true AS is_found, type, until FROM inbox WHERE account_id = a.id AND key = e.key LIMIT 1
) AS i ON true
LEFT JOIN LATERAL (
    SELECT * FROM position WHERE account_id = a.id AND strategy_id = e.strategy_id LIMIT 1
) AS p ON true
LEFT JOIN LATERAL (SELECT * FROM price WHERE ticker = p.ticker LIMIT 1) AS pp ON true
LEFT JOIN LATERAL (SELECT * FROM price WHERE ticker = e.ticker LIMIT 1) AS op ON true
ORDER BY e.place
"""

# Sorted like LOCK. Each part writes only accounts whose version is the one that was read.
WRITE: Final = """
WITH same AS MATERIALIZED (
    SELECT a.id, w.funds, w.held
    FROM unnest($1::text[], $2::bigint[], $3::numeric[], $4::numeric[]) AS w (id, version, funds, held)
    JOIN account AS a ON a.id = w.id AND a.version = w.version
    ORDER BY a.id FOR NO KEY UPDATE OF a
), booked AS (
    UPDATE account SET funds = same.funds, held = same.held, version = version + 1
    FROM same WHERE account.id = same.id
), closed AS (
    DELETE FROM position USING unnest($5::text[], $6::text[]) AS w (account_id, strategy_id)
    WHERE position.account_id = w.account_id AND position.strategy_id = w.strategy_id
        AND w.account_id IN (SELECT id FROM same)
), opened AS (
    INSERT INTO position
        (account_id, strategy_id, position_id, ticker, direction, quantity, price, margin, opened, signalled_ms)
    SELECT * FROM unnest($7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::numeric[],
        $13::numeric[], $14::numeric[], $15::timestamptz[], $16::bigint[]) AS w (account_id)
    WHERE account_id IN (SELECT id FROM same)
    ON CONFLICT (account_id, strategy_id) DO UPDATE SET position_id = excluded.position_id,
        ticker = excluded.ticker, direction = excluded.direction, quantity = excluded.quantity,
        price = excluded.price, margin = excluded.margin, opened = excluded.opened,
        signalled_ms = excluded.signalled_ms
), traded AS (
    INSERT INTO trade
        (account_id, strategy_id, position_id, action, ticker, direction, quantity, price, profit, at)
    SELECT t.account_id, t.strategy_id, t.position_id, t.action, t.ticker, t.direction, t.quantity, t.price,
        t.profit, $26
    FROM unnest($17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[],
            $23::numeric[], $24::numeric[], $25::numeric[]) WITH ORDINALITY
        AS t (account_id, strategy_id, position_id, action, ticker, direction, quantity, price, profit, place)
    WHERE t.account_id IN (SELECT id FROM same)
    ORDER BY t.place
)
INSERT INTO inbox (account_id, key, type, until)
SELECT * FROM unnest($27::text[], $28::bytea[], $29::text[], $30::timestamptz[]) AS w (account_id)
WHERE account_id IN (SELECT id FROM same)
ON CONFLICT (account_id, key) DO UPDATE SET type = excluded.type, until = excluded.until
RETURNING account_id
"""

STATEMENTS: Final = {LOCK: "lock_accounts", READ: "read_accounts", WRITE: "write_accounts"}
"""Name of each statement, for metrics."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account at one version: the credentials that it requires from senders, and its book."""

    id: str
    version: int
    header_name: str | None
    header_digest: bytes | None
    webhook_secret: str | None
    book: Book


@dataclass(frozen=True, slots=True)
class EventQuery:
    """The keys to read from the database for one event. If ``signal`` is None, only the account is read."""

    token_digest: bytes
    key: bytes | None
    signal: TradeSignal | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Contents of the database for a batch of events at one time. In `accounts`, None stands for an unknown token."""

    at: datetime
    accounts: Sequence[Account | None]
    outcomes: dict[tuple[str, bytes], Outcome]
    """Stored outcomes, by account id and inbox key."""
    prices: dict[str, Price]


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """An event's outcome, to be stored."""

    account: str
    key: bytes
    outcome: Outcome


async def lock(connection: Connection, token_digests: Iterable[bytes]) -> None:
    """Lock the accounts with these tokens until the transaction ends."""
    await connection.execute(LOCK, list(set(token_digests)))


async def read(fetch: Fetch, queries: Sequence[EventQuery]) -> Snapshot:
    """Return the accounts of the events, with the open positions, stored outcomes and prices that the events need."""
    rows = await fetch(
        READ,
        [each.token_digest for each in queries],
        [each.key for each in queries],
        [each.signal.strategy if each.signal else None for each in queries],
        [each.signal.order.ticker if each.signal and each.signal.order else None for each in queries],
        [each.signal.position if each.signal and not each.signal.order else None for each in queries],
    )
    accounts: dict[str, Account] = {}
    snapshot = Snapshot(rows[0]["at"], [_account(row, accounts) for row in rows], {}, {})
    for each, account, row in zip(queries, snapshot.accounts, rows, strict=True):
        if account is not None and each.signal is not None and each.key is not None:
            _add(snapshot, account, each.key, each.signal, row)
    return snapshot


def _account(row: asyncpg.Record, accounts: dict[str, Account]) -> Account | None:
    """Return the account in a row; all events of one account get the same object."""
    id_ = row["account_id"]
    if id_ is not None and id_ not in accounts:
        accounts[id_] = Account(
            id_,
            row["version"],
            row["header_name"],
            row["header_digest"],
            row["webhook_secret"],
            Book(row["funds"], row["held"]),
        )
    return accounts.get(id_)


def _add(snapshot: Snapshot, account: Account, key: bytes, signal: TradeSignal, row: asyncpg.Record) -> None:
    if row["is_found"] and (row["until"] is None or row["until"] > snapshot.at):
        error = BY_TYPE[row["type"]] if row["type"] is not None else None
        snapshot.outcomes[account.id, key] = Outcome(error, is_final=row["until"] is None)
    account.book.positions[signal.strategy] = _position(row)
    if row["is_closed"]:
        account.book.closed.add((signal.strategy, signal.position))
    if row["position_price"] is not None:
        snapshot.prices[row["ticker"]] = Price(row["position_price"], row["position_price_at"])
    if row["order_price"] is not None and signal.order is not None:
        snapshot.prices[signal.order.ticker] = Price(row["order_price"], row["order_price_at"])


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
        row["signalled_ms"],
    )


async def write(
    fetch: Fetch,
    accounts: Sequence[Account],
    entries: Sequence[InboxEntry],
    at: datetime,
    retention: timedelta,
) -> set[str]:
    """Store the trades of accounts and the outcomes of events.

    An outcome that is not final expires after ``retention``. Each account must have an entry. Returns the ids of the
    accounts that still had the version that was read; nothing is written for the others.
    """
    trades = [(account.id, trade) for account in accounts for trade in account.book.trades]
    after = {
        (account.id, trade.strategy): account.book.positions[trade.strategy]
        for account in accounts
        for trade in account.book.trades
    }
    rows = await fetch(
        WRITE,
        *_columns(4, ((each.id, each.version, each.book.funds, each.book.held) for each in accounts)),
        *_columns(2, (key for key, position in after.items() if position is None)),
        *_columns(
            10,
            ((*key, *_position_columns(position)) for key, position in after.items() if position is not None),
        ),
        *_columns(9, (_trade_row(account_id, trade) for account_id, trade in trades)),
        at,
        *_columns(4, (_inbox_row(entry, at + retention) for entry in entries)),
    )
    return {row["account_id"] for row in rows}


def _position_columns(position: Position) -> tuple[object, ...]:
    return (
        position.id,
        position.ticker,
        position.direction.value,
        position.quantity,
        position.price,
        position.margin,
        position.opened,
        position.signalled,
    )


def _trade_row(account_id: str, trade: Trade) -> tuple[object, ...]:
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


def _inbox_row(entry: InboxEntry, until: datetime) -> tuple[object, ...]:
    outcome = entry.outcome
    type_ = outcome.error.type if outcome.error is not None else None
    return entry.account, entry.key, type_, None if outcome.is_final else until


def _columns(count: int, rows: Iterable[tuple[object, ...]]) -> Sequence[Sequence[object]]:
    """Return the columns of the rows, for ``unnest`` in SQL. Without rows, return ``count`` empty columns."""
    return list(zip(*rows, strict=True)) or [()] * count
