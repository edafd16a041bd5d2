"""How many quotes are open, executed, expired and released."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from console.collectors.service_record import ServiceRecord

STATES: Final = ("reserved", "executed", "expired", "released")


@dataclass(frozen=True)
class QuoteCounts:
    """Quotes by state, and the time of their count in seconds since 1970; None stands for unknown."""

    by_state: Mapping[str, float | None]
    counted: float | None


def count_quotes(records: Iterable[ServiceRecord]) -> QuoteCounts | None:
    """Return the quotes by state; None if no service counts quotes. All replicas count the same table."""
    for record in records:
        found = {state: record.highest("quotes", state=state) for state in STATES}
        if any(count is not None for count in found.values()):
            return QuoteCounts(found, record.highest("quotes_counted_timestamp_seconds"))
    return None
