"""The tables of accounts, positions, trades, prices and answers.

What :func:`read` finds of an account and what :func:`write` makes of it are two statements, each by itself, and
what was read counts only while the account's version is what it was then: nobody else has changed anything that
belongs to the account. Where somebody has, nothing is written; who has called :func:`lock` before reads and writes
what nobody else can change meanwhile.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Final

import asyncpg

from chassis.database import Connection
from chassis.migrations import Migrations
from signal_receiver.events import Direction, Signal
from signal_receiver.refusals import OF_TYPE
from signal_receiver.trading import Book, Outcome, Position, Price, Trade

MIGRATIONS: Final = Migrations(
    "signal-receiver", files("signal_receiver") / "migrations", schema="signal_receiver"
)
# Planning the two statements below costs more than carrying them out, and each row they touch is found by an index:
# they are planned once, and without a thought to how small a table was then.
SETTINGS: Final = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}

Fetch = Callable[..., Awaitable[Sequence[asyncpg.Record]]]
"""One statement's rows, of a transaction or by itself."""

# Sorted: two batches with the same accounts wait for each other instead of deadlocking.
LOCK: Final = """
SELECT FROM account WHERE token_digest = ANY($1::bytea[]) ORDER BY id FOR NO KEY UPDATE
"""

# LIMIT holds the planner to the indexes, however little it knows of the tables.
READ: Final = """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at)
SELECT clock.at, a.id AS account_id, a.version, a.header_name, a.header_digest, a.webhook_secret, a.funds, a.held,
    i.is_found, i.type, i.until,
    p.position_id, p.ticker, p.direction, p.quantity, p.price, p.margin, p.opened,
    pp.price AS position_price, pp.at AS position_price_at, op.price AS order_price, op.at AS order_price_at
FROM clock, unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[])
    WITH ORDINALITY AS e (token_digest, key, strategy_id, ticker, place)
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

# Sorted, as above. Each part takes only accounts that are of the version they were read in.
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
        (account_id, strategy_id, position_id, ticker, direction, quantity, price, margin, opened)
    SELECT * FROM unnest($7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::numeric[],
        $13::numeric[], $14::numeric[], $15::timestamptz[]) AS w (account_id)
    WHERE account_id IN (SELECT id FROM same)
    ON CONFLICT (account_id, strategy_id) DO UPDATE SET position_id = excluded.position_id,
        ticker = excluded.ticker, direction = excluded.direction, quantity = excluded.quantity,
        price = excluded.price, margin = excluded.margin, opened = excluded.opened
), traded AS (
    INSERT INTO trade
        (account_id, strategy_id, position_id, action, ticker, direction, quantity, price, profit, at)
    SELECT t.account_id, t.strategy_id, t.position_id, t.action, t.ticker, t.direction, t.quantity, t.price,
        t.profit, $25
    FROM unnest($16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[],
            $22::numeric[], $23::numeric[], $24::numeric[]) WITH ORDINALITY
        AS t (account_id, strategy_id, position_id, action, ticker, direction, quantity, price, profit, place)
    WHERE t.account_id IN (SELECT id FROM same)
    ORDER BY t.place
)
INSERT INTO inbox (account_id, key, type, until)
SELECT * FROM unnest($26::text[], $27::bytea[], $28::text[], $29::timestamptz[]) AS w (account_id)
WHERE account_id IN (SELECT id FROM same)
ON CONFLICT (account_id, key) DO UPDATE SET type = excluded.type, until = excluded.until
RETURNING account_id
"""


@dataclass(frozen=True, slots=True)
class Account:
    """What an account demands of a webhook, and its book, as of one version."""

    id: str
    version: int
    header_name: str | None
    header_digest: bytes | None
    webhook_secret: str | None
    book: Book


@dataclass(frozen=True, slots=True)
class Asked:
    """An event, and the token it came with. Without a signal there is nothing but the account to be read."""

    token_digest: bytes
    key: bytes | None
    signal: Signal | None


@dataclass(frozen=True, slots=True)
class Known:
    """What there was at one moment; the events' accounts are None where nobody has the token."""

    at: datetime
    accounts: Sequence[Account | None]
    answers: dict[tuple[str, bytes], Outcome]
    prices: dict[str, Price]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to be kept."""

    account: str
    key: bytes
    outcome: Outcome


async def lock(connection: Connection, token_digests: Iterable[bytes]) -> None:
    """Locks the accounts with these tokens to the end of the transaction."""
    await connection.execute(LOCK, list(set(token_digests)))


async def read(fetch: Fetch, asked: Sequence[Asked]) -> Known:
    """The events' accounts with the open positions of their strategies, earlier answers, and prices."""
    rows = await fetch(
        READ,
        [each.token_digest for each in asked],
        [each.key for each in asked],
        [each.signal.strategy if each.signal else None for each in asked],
        [each.signal.order.ticker if each.signal and each.signal.order else None for each in asked],
    )
    accounts: dict[str, Account] = {}
    known = Known(rows[0]["at"], [_account(row, accounts) for row in rows], {}, {})
    for each, account, row in zip(asked, known.accounts, rows, strict=True):
        if account is not None and each.signal is not None and each.key is not None:
            _take_over(known, account, each.key, each.signal, row)
    return known


def _account(row: asyncpg.Record, accounts: dict[str, Account]) -> Account | None:
    """One for all of its events."""
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


def _take_over(known: Known, account: Account, key: bytes, signal: Signal, row: asyncpg.Record) -> None:
    if row["is_found"] and (row["until"] is None or row["until"] > known.at):
        refusal = OF_TYPE[row["type"]] if row["type"] is not None else None
        known.answers[account.id, key] = Outcome(refusal, is_final=row["until"] is None)
    account.book.positions[signal.strategy] = _position(row)
    if row["position_price"] is not None:
        known.prices[row["ticker"]] = Price(row["position_price"], row["position_price_at"])
    if row["order_price"] is not None and signal.order is not None:
        known.prices[signal.order.ticker] = Price(row["order_price"], row["order_price_at"])


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
    fetch: Fetch, accounts: Sequence[Account], answers: Sequence[Answered], at: datetime, memory: timedelta
) -> set[str]:
    """Books what the accounts' signals have done, and keeps the answers: not final ones for ``memory``.

    Each account must have an answer. The result are those that were still of their version: of the others
    nothing is written.
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
        *_columns(9, ((*key, *_opened(position)) for key, position in after.items() if position is not None)),
        *_columns(9, (_traded(account_id, trade) for account_id, trade in trades)),
        at,
        *_columns(4, (_answered(answer, at + memory) for answer in answers)),
    )
    return {row["account_id"] for row in rows}


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
