"""When a quote expires: the conditions that the repositories' statements share (promise 3).

A quote can be executed before ``expires``, and is expired at ``expires`` and after it. The database's clock decides, in
the statement that executes, and never the clock of a service: the clocks of two replicas differ.
"""

from typing import Final

CLOCK: Final = "clock_timestamp()"
"""The time at which it is evaluated. now() is the time at which the transaction began: after a wait for a lock, that is
too early."""


def is_expired(at: str) -> str:
    return f"expires <= {at}"


def can_execute(at: str) -> str:
    return f"quote.executed IS NULL AND quote.request IS NOT NULL AND quote.expires > {at}"


def expires_after(at: str, lifetime: str) -> str:
    """Expiry is stored in the milliseconds of the reply: the payer knows exactly when it is."""
    return in_milliseconds(f"{at} + {lifetime}")


def in_milliseconds(time: str) -> str:
    return f"date_trunc('milliseconds', {time})"
