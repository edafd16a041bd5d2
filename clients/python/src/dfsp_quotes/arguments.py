"""Checks of arguments, before anything is sent: TypeError or ValueError with the argument's name.

The rules of the fields are the payee's: it refuses a wrong value with InvalidBodyError and the field's name.
"""

import math
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from dfsp_quotes.quotes import State

MAX_TIMEOUT_SECONDS: Final = 3_600.0
MAX_AMOUNT_DIGITS: Final = 18
MAX_PAGE: Final = 200
_KEY: Final = re.compile(r"[!-~]{1,128}\Z")


def text(name: str, value: object) -> str:
    """Return a string. Raises TypeError, and ValueError if UTF-8 cannot represent it."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must not contain lone surrogates") from None
    return value


def amount(value: object) -> Decimal:
    """Return an amount above zero of at most 18 digits. Raises TypeError, ValueError."""
    if not isinstance(value, Decimal):
        raise TypeError(f'amount must be a Decimal such as Decimal("12.50"), not {type(value).__name__}')
    if not value.is_finite() or value <= 0:
        raise ValueError("amount must be a finite number above zero")
    # the exponent first: format() would write out each zero of 1E+999999999
    if abs(value.adjusted()) > MAX_AMOUNT_DIGITS or _digits(value) > MAX_AMOUNT_DIGITS:
        raise ValueError(f"amount must have at most {MAX_AMOUNT_DIGITS} digits")
    return value


def _digits(value: Decimal) -> int:
    return len(format(value, "f").replace(".", ""))


def timeout(value: object) -> float:
    """Return a time limit in seconds. Raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"timeout must be a number of seconds, not {type(value).__name__}")
    if not (math.isfinite(value) and 0 < value <= MAX_TIMEOUT_SECONDS):
        raise ValueError(f"timeout must be above 0 and at most {MAX_TIMEOUT_SECONDS:,.0f} seconds")
    return float(value)


def lifetime_ms(value: object) -> int:
    """Return the lifetime of a quote in milliseconds. Raises TypeError, ValueError."""
    if not isinstance(value, timedelta):
        raise TypeError(f"lifetime must be a timedelta, not {type(value).__name__}")
    milliseconds = value // timedelta(milliseconds=1)
    if milliseconds < 1:
        raise ValueError("lifetime must be at least a millisecond")
    return milliseconds


def time(name: str, value: object) -> str:
    """Return a time in the form that the services accept. Raises TypeError; ValueError if it has no time zone."""
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise ValueError(f"{name} must have a time zone, such as datetime.now(UTC)")
    return value.isoformat()


def state(value: object) -> str:
    """Return the name of a state. Raises TypeError, ValueError."""
    try:
        return State(text("state", value)).value
    except ValueError:
        raise ValueError(f"state must be one of {', '.join(State)}") from None


def limit(value: object) -> str:
    """Return the size of a page. Raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"limit must be an int, not {type(value).__name__}")
    if not 1 <= value <= MAX_PAGE:
        raise ValueError(f"limit must be from 1 to {MAX_PAGE}")
    return str(value)


def idempotency_key(value: object) -> str:
    """Return a key as wire.md §3 permits it. Raises TypeError, ValueError."""
    if not _KEY.match(text("idempotency_key", value)):
        raise ValueError("idempotency_key must be 1 to 128 visible ASCII characters")
    return str(value)


def uuid(value: object) -> UUID:
    """Return a uuid that is given as a UUID or in 8-4-4-4-12 hex digits. Raises TypeError, ValueError."""
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise TypeError(f"uuid must be a UUID or a str, not {type(value).__name__}")
    try:
        parsed = UUID(value)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != value.lower():
        raise ValueError("uuid must be 8-4-4-4-12 hex digits")
    return parsed


def base_url(value: object) -> str:
    """Return a base URL without its last slash. Raises TypeError, ValueError, which do not repeat the URL."""
    try:
        parts = urlsplit(text("base_url", value))
        is_base = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_base = False
    if not is_base or parts.query or parts.fragment or not str(value).isprintable() or " " in str(value):
        raise ValueError("base_url must be an absolute http or https URL without query and fragment")
    if "@" in parts.netloc:
        raise ValueError("base_url must not contain a user or password: they have arguments of their own")
    return str(value).rstrip("/")


def user_name(value: object) -> str:
    """Return the name of HTTP Basic credentials. Raises TypeError, ValueError."""
    found = text("name", value)
    if not found or ":" in found:
        raise ValueError("name must not be empty and must not contain a colon")
    return found


def password(value: object) -> str:
    """Return the password. Raises TypeError, ValueError, which do not repeat it."""
    return text("password", value)
