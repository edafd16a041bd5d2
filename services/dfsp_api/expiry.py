"""SQL conditions for the expiry of a quote, which both repositories use (wire.md §7, promise 3).

A quote can be executed before ``expires``; at ``expires`` and later it is expired. The statement that executes a quote
compares ``expires`` with the database's clock. The clocks of the services are not used, because replicas' clocks
differ.
"""

from typing import Final

CLOCK: Final = "clock_timestamp()"
"""SQL for the current time. now() would be too early: it is the time at which the transaction began, before it waited
for locks.
"""


def is_expired(at: str) -> str:
    return f"expires <= {at}"


def is_open(at: str) -> str:
    """Return SQL for whether a quote can be executed or released."""
    return (
        "quote.executed IS NULL AND quote.released IS NULL AND quote.request IS NOT NULL"
        f" AND quote.expires > {at}"
    )


def expires_after(at: str, lifetime: str) -> str:
    """Return SQL for the time ``lifetime`` after ``at``, cut to milliseconds.

    The reply has milliseconds, too, so the payer gets the exact time of the expiry.
    """
    return in_milliseconds(f"{at} + {lifetime}")


def in_milliseconds(time: str) -> str:
    return f"date_trunc('milliseconds', {time})"
