"""Accounts as their operator names them, in a TOML file: whose they are, and what they ask of a webhook.

[[account]]
id = "42"
token = "..."            # the webhook's URL ends in it
owner = "alice"          # who of the service's users sees the account
funds = "10000.00"       # to begin with
header = {name = "x-foo-bar-api-token", value = "baz"}   # optional
"""

import re
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import msgspec

from chassis.database import Connection
from signal_receiver.desk import digest
from signal_receiver.trading import CENT

SAMPLE_TOKEN: Final = "sample"  # noqa: S105 - everybody knows it
MAX_FUNDS: Final = Decimal(10) ** 12

ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{6,256}\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")

# Funds and the webhook's secret are the database's once an account is there.
SEED: Final = """
INSERT INTO account (id, token_digest, owner, header_name, header_digest, funds)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET token_digest = excluded.token_digest, owner = excluded.owner,
    header_name = excluded.header_name, header_digest = excluded.header_digest
"""


class AccountsError(ValueError):
    """The accounts cannot be used; the message names the account and what is wrong with it."""


class Header(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    value: str


class NewAccount(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    token: str
    owner: str
    funds: Decimal
    header: Header | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    account: list[NewAccount]


def parse(text: str, *, samples_allowed: bool) -> Sequence[NewAccount]:
    """The accounts in a TOML file's text. Raises AccountsError."""
    try:
        accounts = msgspec.convert(tomllib.loads(text, parse_float=Decimal), _File).account
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise AccountsError(str(error)) from None
    for account in accounts:
        fault = _fault(account, samples_allowed=samples_allowed)
        if fault:
            raise AccountsError(f"account {account.id}: {fault}")
    for field in ("id", "token"):
        values = [getattr(account, field) for account in accounts]
        if len(set(values)) < len(values):
            raise AccountsError(f"two accounts have the same {field}")
    return accounts


def _fault(account: NewAccount, *, samples_allowed: bool) -> str | None:
    header = account.header
    faults = {
        "id must be 1 to 64 of letters, digits, '.', '_' and '-'": not ID.match(account.id),
        "token must be 6 to 256 of letters, digits, '.', '_', '~' and '-'": not _TOKEN.match(account.token),
        "everybody knows its token; take another, listen on a loopback address, or set"
        " QUOTES_ALLOW_SAMPLE_CREDENTIALS=true": account.token == SAMPLE_TOKEN and not samples_allowed,
        "owner must be a user's name": not account.owner,
        f"funds must be from 0 to {MAX_FUNDS:f}, to the cent": not _are_funds(account.funds),
        "header must have a header's name, and a value": header is not None
        and not (_HEADER_NAME.match(header.name) and header.value),
    }
    return next((fault for fault, is_there in faults.items() if is_there), None)


def _are_funds(amount: Decimal) -> bool:
    return amount.is_finite() and 0 <= amount <= MAX_FUNDS and not amount % CENT


async def seed(connection: Connection, accounts: Sequence[NewAccount]) -> None:
    """Makes the accounts that are not there; the others' token, owner and header become the file's."""
    await connection.executemany(
        SEED,
        [
            (
                account.id,
                digest(account.token),
                account.owner,
                account.header.name if account.header else None,
                digest(account.header.value) if account.header else None,
                account.funds,
            )
            for account in accounts
        ],
    )
