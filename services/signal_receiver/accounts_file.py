"""The operator's file of accounts, in TOML.

For example:
[[account]]
id = "42"
token = "..."            # the webhook's URL ends in it
owner = "alice"          # the user of this service that sees the account
funds = "10000.00"       # when the account is created
header = {name = "x-foo-bar-api-token", value = "baz"}   # optional
"""

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from chassis.text_file import read_text
from chassis.users import fault_of_name
from signal_receiver.toml_tables import read_tables
from signal_receiver.trading import CENT

SAMPLE_TOKEN: Final = "sample"  # noqa: S105 - it is public
MAX_FUNDS: Final = Decimal(10) ** 12

ACCOUNT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{6,256}\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")


class AccountsError(ValueError):
    """The accounts file is not valid. The message names the line, the account and the fault."""


class HeaderEntry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    value: str


class AccountEntry(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    token: str
    owner: str
    funds: Decimal
    header: HeaderEntry | None = None


class AccountsFile:
    """The accounts in force."""

    def __init__(self, path: Path, *, sample_allowed: bool) -> None:
        """Read the file. Raises ValueError, which names the file and the line at fault."""
        self._path = path
        self._sample_allowed = sample_allowed
        self.accounts = self.read()

    def read(self) -> Sequence[AccountEntry]:
        """Return the accounts in the file. Raises ValueError, which names the file and the line at fault."""
        text = read_text(self._path)
        try:
            return parse(text, sample_allowed=self._sample_allowed)
        except AccountsError as error:
            raise AccountsError(f"{self._path}, {error}") from None


def parse(text: str, *, sample_allowed: bool) -> Sequence[AccountEntry]:
    """Return the accounts in the text of a TOML file. Raises AccountsError."""
    try:
        tables = read_tables(text, "account", AccountEntry)
    except ValueError as error:
        raise AccountsError(str(error)) from None
    for place, account in tables:
        fault = _fault(account, sample_allowed=sample_allowed)
        if fault:
            raise AccountsError(f"{place}: account {account.id}: {fault}")
    for field in ("id", "token"):
        seen: dict[str, str] = {}
        for place, account in tables:
            first = seen.setdefault(getattr(account, field), place)
            if first != place:
                raise AccountsError(f"{place}: the account in {first} has the same {field}")
    return [account for _, account in tables]


def _fault(account: AccountEntry, *, sample_allowed: bool) -> str | None:
    header, owner_fault = account.header, fault_of_name(account.owner)
    faults = {
        "id must be 1 to 64 of letters, digits, '.', '_' and '-'": not ACCOUNT_ID.match(account.id),
        "token must be 6 to 256 of letters, digits, '.', '_', '~' and '-'": not _TOKEN.match(account.token),
        "the sample token is public; choose another, listen on a loopback address, or set"
        " QUOTES_ALLOW_SAMPLE_CREDENTIALS=true": account.token == SAMPLE_TOKEN and not sample_allowed,
        f"owner must be a user's name: {owner_fault}": owner_fault is not None,
        f"funds must be from 0 to {MAX_FUNDS:f}, with at most 2 fraction digits": not _is_funds(
            account.funds
        ),
        "header must have a header name, and a value without white space at its ends or invisible characters": (
            header is not None and not (_HEADER_NAME.match(header.name) and _is_clean(header.value))
        ),
    }
    return next((fault for fault, applies in faults.items() if applies), None)


def _is_clean(text: str) -> bool:
    return bool(text) and text.isprintable() and text == text.strip()


def _is_funds(amount: Decimal) -> bool:
    return amount.is_finite() and 0 <= amount <= MAX_FUNDS and not amount % CENT
